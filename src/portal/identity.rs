use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{PortalRequest, answer, respond};
use crate::control::{Access, Logins, SignedIn};
use crate::engine::Snapshot;
use crate::model::{Aud, Identity, Reason};

/// `get-identity` (§2.4): who the browser's session says it is. Claims, never tokens, and only to this site's own pages.
pub(super) async fn get_identity(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let refused = |status: StatusCode, error: &str| {
        answer::json(status, &json!({"error": error, "request_id": request.id.to_string()}))
    };
    if !matches!(request.header("sec-fetch-site"), None | Some("same-origin" | "same-site" | "none")) {
        return refused(StatusCode::FORBIDDEN, "cross_site");
    }
    let Ok(Logins { found: mut logins, are_incomplete }) = access.signed_in(request).await else {
        return respond::unavailable(request);
    };
    if logins.len() > 1 || are_incomplete {
        return refused(StatusCode::UNAUTHORIZED, Reason::SessionConflict.id());
    }
    let Some(SignedIn { nonce, issued, expires, token, .. }) = logins.pop() else {
        return refused(StatusCode::UNAUTHORIZED, "no_session");
    };
    access.ask_about(nonce, expires);
    access.learn_identity(nonce, issued, &token).await;
    match access.identity(nonce, request.now).await {
        Ok(Some(identity)) => answer::json(StatusCode::OK, &document(&identity, &access.snapshot())),
        Ok(None) => refused(StatusCode::UNAUTHORIZED, "no_session"),
        Err(_) => respond::unavailable(request),
    }
}

/// The document. What nothing here can know (devices) is empty, as Access has it where it does not know.
pub(crate) fn document(identity: &Identity, snapshot: &Snapshot) -> Value {
    let Identity {
        user,
        subject: _,
        email,
        name,
        idp,
        groups,
        groups_seen: _,
        amr,
        claims: _,
        evaluations: _,
        headers: _,
        beside: _,
        session_ends: _,
        at,
        ip,
        revision: _,
    } = identity;
    json!({
        "id": user, "name": name.as_deref().unwrap_or(email.as_str()), "email": email, "user_uuid": user,
        "amr": amr.clone().unwrap_or_default(), "oidc_fields": identity.claims_made(), "groups": groups.known(), "idp": idp,
        "geo": {"country": country(snapshot, identity)}, "account_id": account_id(snapshot.issuer()),
        "iat": at, "ip": ip, "auth_status": "NONE", "common_name": "", "service_token_id": "", "service_token_status": false,
        "is_warp": false, "is_gateway": false, "gateway_account_id": "", "device_id": "", "device_sessions": {}, "devicePosture": {},
        "mtls_auth": {"cert_issuer_ski": "", "cert_presented": false, "cert_serial": "", "cert_issuer_dn": "", "auth_status": "NONE"},
        "version": 2,
    })
}

/// Where the login came from; empty where that is not known.
pub(crate) fn country(snapshot: &Snapshot, identity: &Identity) -> String {
    snapshot.country_of(identity.ip).map(String::from).unwrap_or_default()
}

/// What stands for the account of a team: 32 hexadecimal digits, the same on all its nodes for as long as its domain is.
pub(crate) fn account_id(issuer: &str) -> String {
    Aud::derive(&["account", issuer]).as_str().get(..32).unwrap_or_default().to_owned()
}
