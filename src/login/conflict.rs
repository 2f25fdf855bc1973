use std::time::Duration;

use http::{HeaderMap, header};

use super::{flow, handover};
use crate::cookie::{self, SameSite, SetCookie};
use crate::model::UnixTime;
use crate::route::Endpoint;

/// A browser that sent one of our cookies twice, with values of different logins.
///
/// Any host of the same domain can set a cookie for this one, so neither value can be trusted to be
/// the browser's own. Both are expired and a new login begins. If they return within [`MARKED`], a
/// page explains the conflict instead of another login. Each cookie has its own mark, so that two
/// of them are expired one after the other. So has a cookie that is sent to our endpoints only,
/// because no response on another path expires it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict<'a> {
    /// The name of the cookie.
    pub(crate) cookie: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) now: UnixTime,
}

impl Conflict<'_> {
    /// Returns `true` if this browser's cookies were expired within [`MARKED`] and came back.
    pub(crate) fn came_back(&self, headers: &HeaderMap) -> bool {
        let name = self.mark_name();
        let marks =
            cookie::values(headers, &name).filter_map(|value| value.parse().ok().map(UnixTime));
        marks
            .into_iter()
            .any(|at| at <= self.now && self.now.since(at) < MARKED)
    }

    /// Expires the cookie for every domain and path that can have set it.
    pub(crate) fn expire(&self, headers: &mut HeaderMap) {
        for line in cookie::expire_everywhere(self.cookie, self.host, self.path) {
            headers.append(header::SET_COOKIE, line);
        }
    }

    /// Marks the browser, for [`Conflict::came_back`].
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        let mark = SetCookie {
            name: &self.mark_name(),
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

    fn mark_name(&self) -> String {
        let path = if self.path.starts_with(Endpoint::PREFIX) {
            "login"
        } else {
            "page"
        };
        format!("{}_{}_{path}", cookie::CONFLICT, self.cookie)
    }
}

/// The time for which a browser stays marked: the longest time of a login. A later request may begin
/// a login once more.
const MARKED: Duration =
    Duration::from_secs(flow::LIFETIME.as_secs() + handover::LIFETIME.as_secs() + 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(cookie: &'static str, path: &'static str, now: u64) -> Conflict<'static> {
        Conflict {
            cookie,
            host: "app.example.com",
            path,
            now: UnixTime(now),
        }
    }

    /// The request headers of a browser that these conflicts marked.
    fn marked(conflicts: &[Conflict<'_>]) -> HeaderMap {
        let mut set = HeaderMap::new();
        conflicts
            .iter()
            .for_each(|conflict| conflict.mark(&mut set));
        let pair =
            |line: &http::HeaderValue| line.to_str().unwrap().split(';').next().unwrap().to_owned();
        let pairs: Vec<_> = set.get_all(header::SET_COOKIE).iter().map(pair).collect();
        [(header::COOKIE, pairs.join("; ").parse().unwrap())]
            .into_iter()
            .collect()
    }

    #[test]
    fn conflict_of_one_cookie_marks_no_other() {
        let session = conflict(cookie::AUTHORIZATION, "/wiki", 1_000);
        let page = conflict(cookie::APP_SESSION, "/wiki", 1_000);
        let handover = conflict(cookie::APP_SESSION, "/cdn-cgi/access/authorized", 1_000);
        let all = [session, page, handover];
        for (at, one) in all.iter().enumerate() {
            let headers = marked(&[*one]);
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(
                    other.came_back(&headers),
                    at == other_at,
                    "{one:?} {other:?}"
                );
            }
        }
        let headers = marked(&all);
        assert!(
            all.iter().all(|conflict| conflict.came_back(&headers)),
            "a mark replaces no other: {headers:?}"
        );
        assert!(
            headers
                .get(header::COOKIE)
                .unwrap()
                .to_str()
                .unwrap()
                .split("; ")
                .all(|pair| { cookie::is_ours(pair.split('=').next().unwrap()) })
        );
    }

    #[test]
    fn mark_outlasts_a_slow_login() {
        let headers = marked(&[conflict(cookie::AUTHORIZATION, "/", 1_000)]);
        assert!(conflict(cookie::AUTHORIZATION, "/", 1_000 + 600 + 60).came_back(&headers));
        assert!(!conflict(cookie::AUTHORIZATION, "/", 1_000 + 3_600).came_back(&headers));
        assert!(!conflict(cookie::AUTHORIZATION, "/", 999).came_back(&headers));
    }
}
