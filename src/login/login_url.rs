use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::{AppSession, PortalRequest, ReturnTo};
use crate::engine::{Application, Team};
use crate::model::UnixTime;
use crate::route::Endpoint;

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
            "{}{}/login/{}?{}",
            self.team.url(),
            Endpoint::PREFIX,
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

/// A parameter of a login's URL that changes how the login begins. Anyone can add it, so it can only
/// ask the user for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginOption {
    /// The identity provider has to report the user again, although there is a session.
    AtProvider,
    /// The identity provider has to require credentials: the user switches accounts.
    SwitchAccount,
    /// The login began again by itself. It does so once.
    SecondAttempt,
}

impl LoginOption {
    const fn parameter(self) -> &'static str {
        match self {
            Self::AtProvider => "anew",
            Self::SwitchAccount => "switch",
            Self::SecondAttempt => "second",
        }
    }

    /// Returns the URL of a login with this option.
    pub(crate) fn added_to(self, login_url: &str) -> String {
        with_parameter(login_url, self.parameter(), "1")
    }

    /// Returns `true` if the request to a login has this option.
    pub(crate) fn is_in(self, request: &PortalRequest) -> bool {
        request.parameter(self.parameter()).is_some()
    }
}

/// Returns the URL of a login that replaces a hand-over, and leads to its page. `state` is the one of
/// that hand-over.
pub(crate) fn with_handover(login_url: &str, state: &str) -> String {
    let state: String = url::form_urlencoded::byte_serialize(state.as_bytes()).collect();
    with_parameter(login_url, HANDOVER, &state)
}

/// Returns the `state` of the hand-over that a login replaces.
pub(crate) fn replaced_handover(request: &PortalRequest) -> Option<Cow<'_, str>> {
    request.parameter(HANDOVER)
}

fn with_parameter(url: &str, name: &str, value: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{name}={value}")
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

/// The parameter of a login that replaces a hand-over.
const HANDOVER: &str = "handover";
// Nothing here reads `exp`. It is part of the form of Access' `meta` token.
const META_LIFETIME: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_keeps_the_other_parameters() {
        let login = "https://access.example.com/cdn-cgi/access/login/app.example.com";
        for (url, added) in [
            (login.to_owned(), format!("{login}?switch=1")),
            (format!("{login}?kid=1"), format!("{login}?kid=1&switch=1")),
        ] {
            assert_eq!(LoginOption::SwitchAccount.added_to(&url), added);
        }
    }

    #[test]
    fn state_of_a_handover_is_encoded() {
        assert_eq!(
            with_handover("/login?kid=1", "a&b="),
            "/login?kid=1&handover=a%26b%3D"
        );
    }
}
