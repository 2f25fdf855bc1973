use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::errand::Errand;
use super::{login, respond};
use crate::control::{Access, organisation_aud};
use crate::engine::Snapshot;
use crate::idp::{Hints, LoginFailure, Profile, Provider};
use crate::login::{PortalRequest, ReturnTo, State, TestLink};
use crate::model::{GroupsSource, IdpId, causes};
use crate::pages::{ErrorPage, TrialFailed, TrialSucceeded, answer};
use crate::route::Endpoint;

/// Answers `test-idp/<provider>` (`docs/wire.md` 2.8): a login that ends on a page about itself and
/// opens no session.
///
/// It needs a link that an administrator made, because the page shows the provider's errors and the
/// user's groups.
pub(super) async fn test_idp(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let idp = request
        .path
        .strip_prefix(Endpoint::PREFIX)
        .and_then(|rest| rest.strip_prefix("/test-idp/"));
    let idp = IdpId(idp.unwrap_or_default().into());
    let link = request.parameter("link").unwrap_or_default();
    let services = access.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == idp);
    let good = TestLink::is_good(access.seal(), &link, &idp, request.now);
    // The id is that of the address until a provider has it, and so is not shown.
    let command = provider.map_or_else(
        || "Create another one with `portcullis idp test`.".to_owned(),
        |provider| {
            format!(
                "Create another one with `portcullis idp test {}`.",
                provider.id().0
            )
        },
    );
    let Some(provider) = provider.filter(|_| good) else {
        let id = request.id.to_string();
        let sentence = "A link to test an identity provider is valid for ten minutes.";
        let page = ErrorPage::new(
            StatusCode::FORBIDDEN,
            "This link is invalid or has expired.",
            sentence,
            &id,
        );
        return respond::shown(page.with_hint(&command).with_reason("test_link"), request);
    };
    let (aud, to) = (
        organisation_aud(&access.snapshot()),
        ReturnTo::parse(&request.path),
    );
    let state = State::new(aud, request.host.clone(), to, None, request.now);
    login::send(
        access,
        provider,
        state,
        Hints::default(),
        &Errand::Test,
        request,
    )
    .await
}

/// Back from the provider, as somebody.
pub(super) fn works(
    access: &Access,
    snapshot: &Snapshot,
    profile: &Profile,
    request: &PortalRequest,
) -> Response<Bytes> {
    access.provider_tested(profile, request);
    let services = access.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == profile.idp.id);
    let named: Vec<&str> = snapshot.policies().group_names(&profile.idp.id);
    let known = profile
        .groups
        .known()
        .unwrap_or_default()
        .iter()
        .map(|group| group.name.as_str());
    let mut groups: Vec<(&str, bool)> = known.map(|name| (name, named.contains(&name))).collect();
    groups.sort_unstable_by_key(|(name, named)| (!named, *name));
    let others: Vec<&str> = named
        .into_iter()
        .filter(|name| groups.iter().all(|(group, _)| group != name))
        .collect();
    let source = profile.groups_seen.as_ref().map(|seen| source(seen.source));
    let count = source.map(|source| format!("{}, from {source}", groups.len()));
    let methods = profile.amr.as_ref().map(|amr| amr.join(", "));
    let facts = [
        ("Email address", Some(profile.email.as_str())),
        ("Name", profile.name.as_deref()),
        ("Account ID at the provider", Some(profile.subject.as_str())),
        ("Groups", count.as_deref()),
        ("Authentication methods", methods.as_deref()),
    ];
    let claims: Vec<(&str, Option<String>)> = profile
        .claims
        .iter()
        .map(|(name, value)| (name.as_str(), (!value.is_null()).then(|| value.to_string())))
        .collect();
    let mut claims: Vec<_> = claims
        .iter()
        .map(|(name, value)| (*name, value.as_deref()))
        .collect();
    // Unknown ones are not among the claims of the profile.
    let asked = provider
        .map(Provider::may_be_missing)
        .unwrap_or_default()
        .into_iter();
    claims.extend(
        asked
            .filter(|name| !profile.claims.contains_key(*name))
            .map(|name| (name, None)),
    );
    claims.sort_unstable();
    claims.dedup();
    let mut notes = Vec::new();
    notes.extend(provider.and_then(|provider| provider.note_on_groups(profile)));
    notes.extend(provider.and_then(|provider| provider.note_on_claims(profile)));
    if provider.is_some_and(|provider| !provider.tells_all_groups()) {
        notes.push(
            "There is no `api_token`, so users in 100 or more groups cannot sign in.".to_owned(),
        );
    }
    let notes: Vec<&str> = notes.iter().map(String::as_str).collect();
    let page = TrialSucceeded {
        provider: provider.map_or("", |provider| provider.name()),
        facts: &facts,
        groups: &groups,
        others: &others,
        claims: &claims,
        notes: &notes,
        json: &document(profile),
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}

/// The provider, or the way to it, failed.
pub(super) fn failed(
    access: &Access,
    (failure, idp): (&LoginFailure, &IdpId),
    request: &PortalRequest,
) -> Response<Bytes> {
    access.provider_test_failed(failure, idp, request);
    let services = access.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| provider.id() == idp);
    let causes: Vec<_> = causes(failure).collect();
    let page = TrialFailed {
        provider: provider.map_or("", |provider| provider.name()),
        step: failure.step().as_str(),
        causes: &causes,
        advice: failure.advice(),
        reason: failure.id(),
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}

fn document(profile: &Profile) -> String {
    let Profile {
        subject,
        email,
        name,
        idp,
        groups,
        groups_seen,
        groups_missing: _,
        amr,
        claims,
        headers,
        at,
        ip,
        session_ends,
        id_token: _,
    } = profile;
    let document = json!({
        "id": subject, "email": email, "name": name, "idp": idp, "groups": groups.known(), "groups_seen": groups_seen, "amr": amr,
        "claims": claims, "headers": headers, "session_ends": session_ends,
        "iat": at, "ip": ip,
    });
    format!("{document:#}")
}

const fn source(source: GroupsSource) -> &'static str {
    match source {
        GroupsSource::IdToken => "the ID token",
        GroupsSource::Userinfo => "the userinfo endpoint",
        GroupsSource::Api => "Okta's API",
        GroupsSource::Assertion => "the SAML assertion",
    }
}
