//! Responses to requests that reach no origin, in a format that the client understands.

use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri, header};

use crate::engine::{Refusal, Style, Team};
use crate::login::{LoginOption, ReturnTo};
use crate::model::{Reason, RequestId, RequestView};
use crate::pages::{Denied, ErrorPage, Link, TRY_AGAIN, answer};

/// Returns the response to a refused request. [`error_page`] is the one table of status codes.
pub(super) fn refused(reason: Reason, style: Style, id: RequestId, team: &Team) -> Response<Bytes> {
    let id = id.to_string();
    answered(error_page(reason, &id), reason, style, team)
}

/// Returns the response to a request that could not be decided, with a way to try again.
pub(super) fn unavailable(
    reason: Reason,
    request: &RequestView<'_>,
    team: &Team,
    id: RequestId,
) -> Response<Bytes> {
    let id = id.to_string();
    let here = match request.query {
        Some(query) => format!("{}?{query}", request.path.as_str()),
        None => request.path.as_str().to_owned(),
    };
    let retry = link_to(request.method, &here);
    let retry = retry.as_deref().map(|href| Link {
        href,
        label: TRY_AGAIN,
    });
    answered(
        error_page(reason, &id).with_retry(retry),
        reason,
        Style::for_request(request),
        team,
    )
}

/// Returns the path and query of a failed request for a "try again" button.
///
/// `None` if a link cannot repeat the request, or if a second attempt would fail alike.
pub(super) fn retry(method: &Method, target: &Uri, status: StatusCode) -> Option<String> {
    let is_temporary = matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    );
    let here = target.path_and_query().filter(|_| is_temporary)?;
    link_to(method, here.as_str())
}

fn link_to(method: &Method, here: &str) -> Option<String> {
    matches!(*method, Method::GET | Method::HEAD).then(|| ReturnTo::parse(here).as_str().to_owned())
}

fn error_page(reason: Reason, id: &str) -> ErrorPage<'_> {
    match reason {
        Reason::PathAmbiguous => ErrorPage::path_ambiguous(id),
        Reason::HostMalformed => ErrorPage::bad_request(id),
        Reason::PortUnknown => ErrorPage::misdirected(id),
        Reason::TargetTooLong => ErrorPage::target_too_long(id),
        Reason::HeadersTooLarge => ErrorPage::headers_too_large(id),
        Reason::BodyTooLarge => ErrorPage::content_too_large(id),
        Reason::NoApplication => ErrorPage::application_not_found(id),
        Reason::MethodRefused => {
            let sentence = "This method is not allowed here.";
            ErrorPage::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
                sentence,
                id,
            )
        }
        Reason::KeysUnavailable | Reason::RevocationsUnavailable | Reason::IdentityUnavailable => {
            ErrorPage::unavailable(id)
        }
        Reason::ServiceTokenInvalid
        | Reason::ServiceTokenExpired
        | Reason::ServiceTokenDisabled => {
            let sentence = "The service token is not accepted.";
            ErrorPage::new(StatusCode::UNAUTHORIZED, "Unauthorized", sentence, id)
        }
        Reason::ServiceAuthRequired => {
            let sentence = "This application accepts service tokens and client certificates only. You cannot sign in to it.";
            ErrorPage::new(StatusCode::FORBIDDEN, "Not allowed", sentence, id)
        }
        Reason::PreflightRefused
        | Reason::PolicyDenied
        | Reason::NoPolicyApplied
        | Reason::IdentityIncomplete => {
            let sentence = "This request is not allowed here.";
            ErrorPage::new(StatusCode::FORBIDDEN, "Not allowed", sentence, id)
        }
        // Without an application there is no login to redirect to. The other reasons cannot occur
        // here.
        Reason::NoSession
        | Reason::SessionExpired
        | Reason::SessionRevoked
        | Reason::SessionInvalid
        | Reason::SessionConflict
        | Reason::Internal => ErrorPage::internal(id),
    }
}

fn answered(page: ErrorPage<'_>, reason: Reason, style: Style, team: &Team) -> Response<Bytes> {
    let mut response = error(page.with_reason(reason.id()), style, team);
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        response
            .headers_mut()
            .insert(header::ALLOW, http::HeaderValue::from_static(allowed));
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = "Cloudflare-Access error=\"invalid_service_token\"";
        response.headers_mut().insert(
            header::WWW_AUTHENTICATE,
            http::HeaderValue::from_static(scheme),
        );
    }
    response
}

/// Returns an error in the format of the client: a page for browsers, JSON for scripts, a status of
/// its own for gRPC.
pub(super) fn error(page: ErrorPage<'_>, style: Style, team: &Team) -> Response<Bytes> {
    let code = || {
        page.status
            .canonical_reason()
            .unwrap_or("Error")
            .to_ascii_lowercase()
            .replace(' ', "_")
    };
    let mut response = match style {
        Style::Grpc => answer::grpc(page.status, page.reason.unwrap_or_default()),
        Style::Json => {
            let body = serde_json::json!({"error": code(), "reason": page.reason, "request_id": page.request_id});
            answer::json(page.status, &body)
        }
        Style::Redirect | Style::Page | Style::Upgrade => {
            answer::page(page.with_support(team.support.as_deref()).page())
        }
    };
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, http::HeaderValue::from_static("5"));
    }
    response
}

/// Returns the response to a denied request: a page with the way to another account for browsers,
/// JSON for other clients.
pub(super) fn denied(
    refusal: &Refusal,
    login: &str,
    request: &RequestView<'_>,
    team: &Team,
    id: RequestId,
) -> Response<Bytes> {
    let style = Style::for_request(request);
    let Some(application) = &refusal.application else {
        return refused(refusal.reason, style, id, team);
    };
    let settings = application.settings();
    let mut response = match (&refusal.session, style) {
        (None, _) if refusal.reason == Reason::PreflightRefused => {
            return refused(refusal.reason, style, id, team);
        }
        (None, Style::Redirect | Style::Page) if refusal.reason == Reason::ServiceAuthRequired => {
            refused(refusal.reason, style, id, team)
        }
        // Without a session the client is not a browser that needs a page.
        (None, Style::Grpc) => refused(refusal.reason, style, id, team),
        (None, _) => refused(refusal.reason, Style::Json, id, team),
        (Some(_), Style::Grpc) => answer::grpc(StatusCode::FORBIDDEN, refusal.reason.id()),
        (Some(_), Style::Json) => {
            let (reason, id) = (refusal.reason.id(), id.to_string());
            let body =
                serde_json::json!({"error": "access_denied", "reason": reason, "request_id": id});
            answer::json(StatusCode::FORBIDDEN, &body)
        }
        (Some(session), Style::Redirect | Style::Page | Style::Upgrade) => {
            let at_provider = (refusal.reason == Reason::IdentityIncomplete)
                .then(|| LoginOption::AtProvider.added_to(login));
            let page = Denied {
                application: &settings.name,
                signed_in_as: session.email().map(crate::model::Email::as_str),
                message: settings.custom_deny_message.as_deref(),
                undecided: at_provider.as_deref(),
                groups_unknown: session
                    .identity()
                    .is_some_and(|identity| application.misses_groups(identity)),
                switch_account: Some(&LoginOption::SwitchAccount.added_to(login)),
                support: team.support.as_deref(),
                reason: Some(refusal.reason.id()),
                request_id: &id.to_string(),
            };
            answer::page(page.page())
        }
    };
    if let Some(cors) = &settings.cors {
        response.headers_mut().extend(cors.headers(request.headers));
    }
    for (name, value) in [
        ("cf-access-aud", settings.aud.as_str()),
        ("cf-access-domain", request.authority.host.as_ref()),
    ] {
        if let Ok(value) = http::HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
