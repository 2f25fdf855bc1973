use std::time::Duration;

use cookie::{Cookie, Expiration, time};
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::model::UnixTime;

/// The `SameSite` attribute (RFC 6265bis §5.4.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// Sent on every request; the default of Access.
    #[default]
    None,
    /// Sent on navigations from elsewhere.
    Lax,
    /// Never sent on anything that began elsewhere.
    Strict,
}

/// A cookie to set. Always `Secure`, never with a `Domain`.
#[derive(Clone, Copy, Debug)]
pub struct SetCookie<'a> {
    /// The name, a token (RFC 6265 4.1.1).
    pub name: &'a str,
    /// The value, in the characters of RFC 6265 4.1.1.
    pub value: &'a str,
    /// The attribute `Path`: an absolute path.
    pub path: &'a str,
    /// The end of its lifetime: written as `Expires`, which cloudflared reads, and as `Max-Age`.
    pub expires: UnixTime,
    /// The current time, from which `Max-Age` counts.
    pub now: UnixTime,
    /// The attribute `HttpOnly`: scripts cannot read the cookie.
    pub http_only: bool,
    /// The requests that it is sent on.
    pub same_site: SameSite,
}

impl SetCookie<'_> {
    /// Returns the header's value; `None` if a header cannot contain it.
    pub fn to_header(&self) -> Option<HeaderValue> {
        let expires = time::OffsetDateTime::from(self.expires.to_system_time());
        let seconds = self.expires.since(self.now);
        self.build(Expiration::from(expires), seconds)
    }

    /// The header's value that makes the browser forget the cookie.
    pub fn to_removal(&self) -> Option<HeaderValue> {
        Self { value: "", ..*self }.build(
            Expiration::from(time::OffsetDateTime::UNIX_EPOCH),
            Duration::ZERO,
        )
    }

    /// Returns `true` if browsers keep it: they silently drop cookies above 4096 bytes (RFC 6265bis
    /// 5.7).
    pub fn fits(&self) -> bool {
        self.name.len() + self.value.len() <= 4096
    }

    fn build(&self, expires: Expiration, max_age: Duration) -> Option<HeaderValue> {
        let same_site = match self.same_site {
            SameSite::None => cookie::SameSite::None,
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::Strict => cookie::SameSite::Strict,
        };
        let cookie = Cookie::build((self.name, self.value))
            .path(self.path)
            .secure(true)
            .http_only(self.http_only)
            .same_site(same_site)
            .expires(expires)
            .max_age(time::Duration::seconds(
                i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX),
            ))
            .build();
        HeaderValue::try_from(cookie.to_string()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: SetCookie<'_> = SetCookie {
        name: "CF_Authorization",
        value: "a.b.c",
        path: "/",
        expires: UnixTime(86_400),
        now: UnixTime(0),
        http_only: true,
        same_site: SameSite::None,
    };

    #[test]
    fn set_cookie_has_the_configured_attributes() {
        let text = COOKIE.to_header().unwrap();
        let text = text.to_str().unwrap();
        assert_eq!(
            text,
            "CF_Authorization=a.b.c; HttpOnly; SameSite=None; Secure; Path=/; Max-Age=86400; Expires=Fri, 02 Jan 1970 00:00:00 GMT"
        );
        assert!(!text.contains("Domain"));
        let gone = COOKIE.to_removal().unwrap();
        assert!(
            gone.to_str().unwrap().starts_with("CF_Authorization=; ")
                && gone.to_str().unwrap().contains("Max-Age=0")
        );
        assert!(
            SetCookie {
                value: "a\r\nx: y",
                ..COOKIE
            }
            .to_header()
            .is_none()
        );
    }
}
