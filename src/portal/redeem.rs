//! Redeeming a hand-over: the sealed value becomes an application's session, once.
//!
//! Decides whether a browser may have the session. Trusts a hand-over that this team sealed, and
//! the cookie to which it is bound. Never redeems one twice, nor for another host.

use std::collections::HashMap;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use crate::control::{EndpointParts, Flows, Running, Sessions};
use crate::login::{AppSession, Claim, Granted, Handover, PortalRequest, Refused, ReturnTo};
use crate::model::UnixTime;
use crate::pages::answer;

/// Redeems a hand-over for the browser that brings it.
///
/// # Errors
/// If the browser may not have the session, or the store does not answer.
pub(super) async fn redeem(
    running: &Running,
    flows: &Flows,
    sessions: &Sessions,
    claim: &Claim<'_>,
    now: UnixTime,
) -> Result<Granted, Refused> {
    let handover = Handover::open(flows.seal(), claim.nonce, claim.state, now)
        .map_err(|_| Refused::Invalid)?;
    // The first attempt uses the hand-over up, even one of another browser: that one overheard it.
    let used = flows
        .use_up(&format!("hand-over {}", handover.id), handover.expires())
        .await;
    let is_first = used.map_err(|_| Refused::Unavailable)?.is_some();
    // After the wait for the store: a reload may have removed the application meanwhile.
    let snapshot = running.snapshot();
    let application = snapshot
        .application(&handover.aud)
        .ok_or(Refused::Invalid)?;
    let is_for_host =
        handover.host == claim.host && application.settings().domain.covers_host(claim.host);
    if !is_for_host {
        return Err(Refused::Invalid);
    }
    // A hand-over that leaked through a log or a `Referer` is useless without the cookie of its
    // browser.
    let is_bound = AppSession::parse(claim.app_session)
        .is_some_and(|session| session.has_hash(&handover.app_session));
    if !is_bound {
        return Err(Refused::Unbound(handover.aud));
    }
    let nonce = handover.nonce().map_err(|_| Refused::Invalid)?;
    // After the checks of host and cookie, so that only the browser that it is bound to learns the
    // page.
    if !is_first {
        return Err(Refused::Used(handover.to));
    }
    let (made, expires) = (handover.made(), handover.session_expires);
    let token = sessions
        .application_token(application, nonce, made, expires, now)
        .await
        .map_err(|_| Refused::Unavailable)?
        .ok_or_else(|| Refused::Over(handover.to.clone()))?;
    let identity = sessions.identity(nonce, now).await.ok().flatten();
    let signed_out = identity.and_then(|identity| flows.signed_out(&identity.user));
    Ok(Granted {
        aud: handover.aud,
        to: handover.to,
        token,
        expires,
        signed_out,
    })
}

/// Answers `authorized` on the team domain: an edge node without the login side redeems a hand-over
/// that a browser brought to it. It posts the browser's hand-over and the cookie to which it is
/// bound.
pub(super) async fn redeem_for_edge(
    parts: &EndpointParts,
    request: &PortalRequest,
) -> Response<Bytes> {
    let fields: HashMap<_, _> = url::form_urlencoded::parse(&request.body).collect();
    let field = |name: &str| fields.get(name).map(AsRef::as_ref).unwrap_or_default();
    let claim = Claim {
        nonce: field("nonce"),
        state: field("state"),
        app_session: field("app_session"),
        host: field("hostname"),
    };
    let refused = |status: StatusCode, error: &str, to: Option<&ReturnTo>| {
        let to = to.map(ReturnTo::as_str);
        answer::json(status, &json!({"error": error, "redirect_url": to}))
    };
    let EndpointParts {
        running,
        flows,
        sessions,
        audit,
        ..
    } = parts;
    match redeem(running, flows, sessions, &claim, request.now).await {
        Ok(Granted {
            aud,
            to,
            token,
            expires,
            signed_out,
        }) => {
            let granted = json!({
                "aud": aud.as_str(), "redirect_url": to.as_str(), "token": token, "expires": expires, "signed_out": signed_out,
            });
            answer::json(StatusCode::OK, &granted)
        }
        Err(Refused::Used(to)) => refused(StatusCode::CONFLICT, "used", Some(&to)),
        Err(Refused::Over(to)) => refused(StatusCode::GONE, "over", Some(&to)),
        Err(Refused::Unbound(aud)) => answer::json(
            StatusCode::FORBIDDEN,
            &json!({"error": "unbound", "aud": aud.as_str()}),
        ),
        Err(Refused::Invalid) => refused(StatusCode::BAD_REQUEST, "invalid", None),
        Err(Refused::Unavailable) => {
            audit.login_unavailable(None, None, request);
            refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable", None)
        }
    }
}
