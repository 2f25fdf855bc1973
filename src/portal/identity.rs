use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{PortalRequest, answer, respond};
use crate::control::Access;
use crate::model::{Groups, Identity};

/// `get-identity` (§2.4): who the browser's session says it is. Claims, never tokens, and only to this site's own pages.
pub(super) async fn get_identity(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    if !matches!(request.header("sec-fetch-site"), None | Some("same-origin" | "same-site" | "none")) {
        return answer::json(
            StatusCode::FORBIDDEN,
            &json!({"error": "cross_site", "request_id": request.id.to_string()}),
        );
    }
    let Some((nonce, ..)) = access.login_of(request) else {
        return answer::json(
            StatusCode::UNAUTHORIZED,
            &json!({"error": "no_session", "request_id": request.id.to_string()}),
        );
    };
    match access.identity(nonce, request.now).await {
        Ok(Some(identity)) => answer::json(StatusCode::OK, &document(&identity)),
        Ok(None) => answer::json(
            StatusCode::UNAUTHORIZED,
            &json!({"error": "no_session", "request_id": request.id.to_string()}),
        ),
        Err(_) => respond::unavailable(request.id),
    }
}

fn document(identity: &Identity) -> Value {
    let Identity { user, subject: _, email, name, idp, groups, amr, claims, at, ip } = identity;
    let groups = match groups {
        Groups::Known(groups) => json!(groups),
        Groups::Unknown => Value::Null,
    };
    json!({
        "id": user, "name": name.as_deref().unwrap_or(email.as_str()), "email": email, "user_uuid": user,
        "amr": amr.clone().unwrap_or_default(), "oidc_fields": claims, "groups": groups, "idp": idp,
        "iat": at, "ip": ip, "auth_status": "NONE", "common_name": "", "service_token_id": "", "service_token_status": false,
        "is_warp": false, "is_gateway": false, "gateway_account_id": "", "device_id": "", "device_sessions": {}, "devicePosture": {},
        "mtls_auth": {"cert_issuer_ski": "", "cert_presented": false, "cert_serial": "", "cert_issuer_dn": "", "auth_status": "NONE"},
        "version": 2,
    })
}
