use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, header};

use crate::cookie::{self, SameSite, SetCookie};
use crate::model::{RequestId, Support, UnixTime};
use crate::pages::{CookieConflict, answer};

/// A browser that sent one of our cookies twice, with values of different logins.
///
/// Any host of the same domain can set a cookie for this one, so neither value can be trusted to be the browser's own. Both
/// are expired and the login begins anew. If they come back within [`MARKED`], a page explains it instead of another login.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict<'a> {
    /// The name of the cookie.
    pub(crate) cookie: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) now: UnixTime,
}

impl Conflict<'_> {
    /// Returns `true` if this browser's cookies were expired a moment ago, and came back.
    pub(crate) fn came_back(&self, headers: &HeaderMap) -> bool {
        let marks = cookie::values(headers, cookie::CONFLICT).filter_map(|value| value.parse().ok().map(UnixTime));
        marks.into_iter().any(|at| at <= self.now && self.now.since(at) < MARKED)
    }

    /// Makes the browser forget the cookie, wherever it came from.
    pub(crate) fn expire(&self, headers: &mut HeaderMap) {
        for line in cookie::expire_everywhere(self.cookie, self.host, self.path) {
            headers.append(header::SET_COOKIE, line);
        }
    }

    /// Marks the browser, for [`Conflict::came_back`].
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        let mark = SetCookie {
            name: cookie::CONFLICT,
            value: &self.now.to_string(),
            path: "/",
            expires: self.now.after(MARKED),
            now: self.now,
            http_only: true,
            same_site: SameSite::Lax,
        };
        if let Some(mark) = mark.to_header() {
            headers.append(header::SET_COOKIE, mark);
        }
    }

    /// Returns the page that names the cookie and the way out.
    pub(crate) fn page(&self, start_again: &str, support: Option<&Support>, id: RequestId) -> Response<Bytes> {
        let (cookie, host) = (self.cookie, self.host);
        tracing::warn!(
            cookie, host, request_id = %id,
            "a browser sends this cookie from two logins, and again after both were expired; another host of the domain may set it"
        );
        // The domain that hosts share with their siblings is not known here; users see the cookies of the host and above.
        let domain = host.split_once('.').map(|(_, parent)| parent).filter(|parent| parent.contains('.'));
        let id = id.to_string();
        let page =
            CookieConflict { cookie, host, domain, start_again, support, reason: "session_conflict", request_id: &id };
        let mut response = answer::page(page.page());
        self.expire(response.headers_mut());
        response
    }
}

/// The time that a browser stays marked. A login takes less; the next attempt after it may try once more.
const MARKED: Duration = Duration::from_secs(60);
