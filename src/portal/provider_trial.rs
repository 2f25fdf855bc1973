use bytes::Bytes;
use http::{Response, StatusCode};

use super::outcome::LoginStep;
use super::{error_pages, provider_request};
use crate::control::EndpointParts;
use crate::idp::Hints;
use crate::login::{LoginPurpose, PortalRequest, State, TrialLink};
use crate::model::IdpId;
use crate::pages::ErrorPage;
use crate::route::Endpoint;

/// Answers `test-idp/<provider>` (`docs/wire.md` 2.8): a login that ends on a page about itself and
/// opens no session.
///
/// It needs a link that an administrator made, because the page shows the provider's errors and the
/// user's groups.
pub(super) async fn test_provider(
    parts: &EndpointParts,
    request: &PortalRequest,
) -> Response<Bytes> {
    let idp = request
        .path
        .strip_prefix(Endpoint::PREFIX)
        .and_then(|rest| rest.strip_prefix("/test-idp/"));
    let idp = IdpId(idp.unwrap_or_default().into());
    let link = request.parameter("link").unwrap_or_default();
    let services = parts.running.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == idp);
    // The id in the path is not shown, unless a provider has it.
    let command = provider.map_or_else(
        || "Create another one with `portcullis idp test`.".to_owned(),
        |provider| {
            format!(
                "Create another one with `portcullis idp test {}`.",
                provider.id().0
            )
        },
    );
    let is_valid = TrialLink::is_valid(parts.flows.seal(), &link, &idp, request.now);
    let Some(provider) = provider.filter(|_| is_valid) else {
        let id = request.id.to_string();
        let sentence = "Links to test an identity provider are valid for ten minutes.";
        let page = ErrorPage::new(
            StatusCode::FORBIDDEN,
            "This link is invalid or has expired.",
            sentence,
            &id,
        );
        return error_pages::shown(page.with_hint(&command).with_reason("test_link"), request);
    };
    let snapshot = parts.running.snapshot();
    let state = State::to_team(&snapshot, &request.host, &request.path, request.now);
    let hints = Hints::default();
    let outcome = provider_request::begin(parts, provider, state, hints, request).await;
    let step = LoginStep {
        parts,
        snapshot: &snapshot,
        request,
        purpose: &LoginPurpose::ProviderTrial,
    };
    step.conclude(outcome).await
}
