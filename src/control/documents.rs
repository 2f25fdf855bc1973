//! The identity document of Access: in `get-identity`, in the organisation token and for
//! evaluations.

use serde_json::{Value, json};

use crate::engine::Snapshot;
use crate::model::{Aud, Identity};

/// Returns the identity document. Members that Portcullis does not know (devices) are empty, as in
/// Access.
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
        linked_logins: _,
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

/// Returns the country of a login, or an empty string if it is unknown.
pub(crate) fn country(snapshot: &Snapshot, identity: &Identity) -> String {
    snapshot
        .country_of(identity.ip)
        .map(String::from)
        .unwrap_or_default()
}

/// Returns a team's account id: 32 hexadecimal digits, derived from the team domain, and so the
/// same on all its nodes.
pub(crate) fn account_id(issuer: &str) -> String {
    Aud::derive(&["account", issuer])
        .as_str()
        .get(..32)
        .unwrap_or_default()
        .to_owned()
}
