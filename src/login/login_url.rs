use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::{AppSession, ReturnTo};
use crate::engine::{Application, Team};
use crate::model::UnixTime;

/// The URL at which a browser logs in to a page of an application:
/// `https://<team>/cdn-cgi/access/login/<host>?kid=…&meta=…&redirect_url=…`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginUrl<'a> {
    pub(crate) team: &'a Team,
    pub(crate) application: &'a Application,
    /// The application's host, as the browser names it.
    pub(crate) host: &'a str,
    pub(crate) to: &'a ReturnTo,
    /// The cookie that the hand-over is bound to. Without one the URL has no `meta`.
    pub(crate) app_session: Option<&'a AppSession>,
}

impl LoginUrl<'_> {
    /// Builds the URL. Its `meta` expires five minutes after `now`.
    pub(crate) fn build(&self, now: UnixTime) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("kid", self.application.aud().as_str());
        if let Some(session) = self.app_session {
            query.append_pair("meta", &self.meta(session, now));
        }
        query.append_pair("redirect_url", self.to.as_str());
        format!(
            "{}/cdn-cgi/access/login/{}?{}",
            self.team.url(),
            self.host,
            query.finish()
        )
    }

    /// Returns the application host's description of the browser, in the form of Access' `meta`
    /// token.
    ///
    /// It is not signed and nothing in it is trusted: anyone can request one from an application's
    /// host, for their own browser. The hash in it only narrows which browser may redeem the
    /// hand-over, to the one with that cookie.
    fn meta(&self, session: &AppSession, now: UnixTime) -> String {
        // Nothing reads the page here, and a long one would be in the request line twice.
        let page = if self.to.is_long() {
            "/"
        } else {
            self.to.as_str()
        };
        let claims = json!({
            "type": "meta", "aud": self.application.aud().as_str(), "hostname": self.host, "redirect_url": page,
            "service_token_status": false, "is_warp": false, "is_gateway": false, "auth_status": "NONE",
            "iat": now, "nbf": now, "exp": now.after(META_LIFETIME), "app_session_hash": session.hash(),
        });
        let header = json!({"alg": "none", "typ": "JWT"});
        format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        )
    }
}

/// Returns the hash of the browser's `CF_AppSession` cookie in a `meta` token.
///
/// The token's `exp` is ignored, as its signature is: neither would prove anything, and checking it
/// would only fail for hosts with a different clock.
pub(crate) fn app_session_hash(meta: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Meta {
        app_session_hash: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(meta.split('.').nth(1)?).ok()?;
    let Meta {
        app_session_hash: hash,
    } = serde_json::from_slice(&payload).ok()?;
    // Anyone can write this token, so only text in the form of a SHA-256 hash goes further.
    let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(hash)
}

// Nothing here reads `exp`. It is part of the form of Access' `meta` token.
const META_LIFETIME: Duration = Duration::from_secs(300);
