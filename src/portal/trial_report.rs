//! The pages that end a trial of an identity provider.
//!
//! Decides which facts of a login an administrator sees. Trusts the verified profile. Never opens a
//! session, and never shows a token of the provider.

use bytes::Bytes;
use http::Response;
use serde_json::json;

use crate::control::Services;
use crate::engine::Snapshot;
use crate::idp::{LoginFailure, Provider, ProviderIdentity};
use crate::login::PortalRequest;
use crate::model::{GroupsSource, IdpId, causes};
use crate::pages::{TrialFailed, TrialSucceeded, answer};

/// Answers a successful trial with the facts that policies would see.
pub(super) fn works(
    services: &Services,
    snapshot: &Snapshot,
    profile: &ProviderIdentity,
    request: &PortalRequest,
) -> Response<Bytes> {
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == profile.idp.id);
    let (groups, others) = groups(profile, &snapshot.policies().group_names(&profile.idp.id));
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
    let claims = claims(profile, provider);
    let claims: Vec<_> = claims
        .iter()
        .map(|(name, value)| (*name, value.as_deref()))
        .collect();
    let notes = notes(profile, provider);
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

/// Returns the user's groups, with `true` for each that a rule names, and the groups that rules
/// name but the user is not in.
fn groups<'a>(
    profile: &'a ProviderIdentity,
    named_by_rules: &[&'a str],
) -> (Vec<(&'a str, bool)>, Vec<&'a str>) {
    let mut groups: Vec<(&str, bool)> = profile
        .groups
        .known()
        .unwrap_or_default()
        .iter()
        .map(|group| group.name.as_str())
        .map(|name| (name, named_by_rules.contains(&name)))
        .collect();
    groups.sort_unstable_by_key(|(name, is_named)| (!is_named, *name));
    let others = named_by_rules
        .iter()
        .copied()
        .filter(|name| groups.iter().all(|(group, _)| group != name))
        .collect();
    (groups, others)
}

/// Returns the configured claims with their values in JSON. One without a value is unknown.
fn claims<'a>(
    profile: &'a ProviderIdentity,
    provider: Option<&'a Provider>,
) -> Vec<(&'a str, Option<String>)> {
    let mut claims: Vec<(&str, Option<String>)> = profile
        .claims
        .iter()
        .map(|(name, value)| (name.as_str(), (!value.is_null()).then(|| value.to_string())))
        .collect();
    // The profile does not contain claims that the provider did not return.
    let configured = provider
        .map(Provider::configured_claims)
        .unwrap_or_default();
    let missing = configured
        .into_iter()
        .filter(|name| !profile.claims.contains_key(*name));
    claims.extend(missing.map(|name| (name, None)));
    claims.sort_unstable();
    claims.dedup();
    claims
}

fn notes(profile: &ProviderIdentity, provider: Option<&Provider>) -> Vec<String> {
    let Some(provider) = provider else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    notes.extend(provider.groups_note(profile));
    notes.extend(provider.claims_note(profile));
    if !provider.can_list_all_groups() {
        notes.push(
            "There is no `api_token`, so users in 100 or more groups cannot sign in.".to_owned(),
        );
    }
    notes
}

/// Answers a failed trial with the causes and a hint.
pub(super) fn failed(
    services: &Services,
    failure: &LoginFailure,
    idp: &IdpId,
    request: &PortalRequest,
) -> Response<Bytes> {
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

fn document(profile: &ProviderIdentity) -> String {
    let ProviderIdentity {
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
