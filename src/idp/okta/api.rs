use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use url::Url;

use crate::http_client::{HttpClient, HttpError, MAX_BODY, Response};
use crate::idp::GroupsFailure;
use crate::model::{Group, Secret, UnixTime};

/// Okta's groups API, which lists a user's groups page by page.
///
/// The token is sent to the account's origin only. Every doubt is a failure, because an incomplete
/// list must not be used.
pub(in crate::idp) struct OktaApi<'a> {
    pub(in crate::idp) http: &'a HttpClient,
    pub(in crate::idp) account: &'a Url,
    pub(in crate::idp) token: &'a Secret,
    /// The time limit for all pages together.
    pub(in crate::idp) budget: Duration,
    /// Receives the end of the quiet period, in Unix seconds. Until then, only calls that a user
    /// waits for are made.
    pub(in crate::idp) quiet_until: &'a AtomicU64,
}

#[derive(Deserialize)]
struct ApiUser {
    status: String,
}

/// The owner of an API token.
#[derive(Deserialize)]
pub(in crate::idp) struct Owner {
    pub(in crate::idp) id: String,
    pub(in crate::idp) status: String,
    pub(in crate::idp) profile: OwnerProfile,
}

#[derive(Deserialize)]
pub(in crate::idp) struct OwnerProfile {
    pub(in crate::idp) login: String,
}

#[derive(Deserialize)]
struct ApiGroup {
    id: String,
    profile: ApiProfile,
}

#[derive(Deserialize)]
struct ApiProfile {
    name: String,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(rename = "errorCode")]
    code: String,
}

impl OktaApi<'_> {
    pub(in crate::idp) async fn read(
        &self,
        subject: &str,
        now: UnixTime,
    ) -> Result<Vec<Group>, GroupsFailure> {
        let first = self.first_page(subject)?;
        let pages = self.pages(first, now);
        tokio::time::timeout(self.budget, pages)
            .await
            .unwrap_or(Err(GroupsFailure::Timeout(self.budget)))
    }

    /// Returns the user's end state if the user is deleted, deactivated or suspended.
    ///
    /// "Deleted" requires Okta's own error code, because a 404 from anything else proves nothing. A
    /// locked-out user keeps their sessions: anyone can lock another user out by mistyping their
    /// password.
    pub(in crate::idp) async fn inactive_reason(
        &self,
        subject: &str,
        now: UnixTime,
    ) -> Result<Option<&'static str>, GroupsFailure> {
        let url = self.url(&["api", "v1", "users", subject], subject)?;
        let answer = match self.get(&url, now).await {
            Ok(answer) => answer,
            Err(GroupsFailure::Refused {
                status: StatusCode::NOT_FOUND,
                code: Some(code),
            }) if code == NOT_FOUND => {
                return Ok(Some("deleted"));
            }
            Err(failure) => return Err(failure),
        };
        if !answer.is_type("application/json") {
            return Err(GroupsFailure::NotUser);
        }
        let user: ApiUser =
            serde_json::from_slice(&answer.body).map_err(|_| GroupsFailure::NotUser)?;
        Ok(match user.status.as_str() {
            "DEPROVISIONED" => Some("deactivated"),
            "SUSPENDED" => Some("suspended"),
            _ => None,
        })
    }

    /// Returns the owner of the token.
    pub(in crate::idp) async fn owner(&self, now: UnixTime) -> Result<Owner, GroupsFailure> {
        let answer = self
            .get(&self.url(&["api", "v1", "users", "me"], "me")?, now)
            .await?;
        let owner = answer
            .is_type("application/json")
            .then(|| serde_json::from_slice(&answer.body).ok())
            .flatten();
        owner.ok_or(GroupsFailure::NotUser)
    }

    /// Checks that the token may read the user's groups, with a page of one group.
    pub(in crate::idp) async fn check_groups_access(
        &self,
        subject: &str,
        now: UnixTime,
    ) -> Result<(), GroupsFailure> {
        let mut url = self.first_page(subject)?;
        url.set_query(Some("limit=1"));
        let answer = self.get(&url, now).await?;
        let list = answer.is_type("application/json")
            && serde_json::from_slice::<Vec<ApiGroup>>(&answer.body).is_ok();
        if list {
            Ok(())
        } else {
            Err(GroupsFailure::NotGroups)
        }
    }

    async fn get(&self, url: &Url, now: UnixTime) -> Result<Response, GroupsFailure> {
        let answer = tokio::time::timeout(self.budget, self.fetch(url, now)).await;
        answer.unwrap_or(Err(GroupsFailure::Timeout(self.budget)))
    }

    async fn pages(&self, first: Url, now: UnixTime) -> Result<Vec<Group>, GroupsFailure> {
        let mut groups = Vec::new();
        let mut page = first;
        for _ in 0..MAX_PAGES {
            let answer = self.fetch(&page, now).await?;
            if !answer.is_type("application/json") {
                return Err(GroupsFailure::NotGroups);
            }
            let found: Vec<ApiGroup> =
                serde_json::from_slice(&answer.body).map_err(|_| GroupsFailure::NotGroups)?;
            groups.extend(found.into_iter().map(|group| Group {
                id: group.id,
                name: group.profile.name,
            }));
            match next_page(&answer.headers, &page)? {
                Some(next) => page = next,
                None => return Ok(groups),
            }
        }
        Err(GroupsFailure::Endless)
    }

    /// Fetches a page, with a second call if that may succeed: after a broken connection, a server
    /// error, or a rate limit that ends soon or states no end. The caller's time limit covers both
    /// calls.
    async fn fetch(&self, url: &Url, now: UnixTime) -> Result<Response, GroupsFailure> {
        let first = self.call(url).await;
        let wait = match &first {
            Ok(answer) => {
                self.record_rate_limit(&answer.headers, now);
                match answer.status {
                    StatusCode::TOO_MANY_REQUESTS => Some(rate_limit(answer, now)?),
                    status => status.is_server_error().then_some(PAUSE),
                }
            }
            // After a timeout, the user has already waited long enough.
            Err(GroupsFailure::Unreachable(
                HttpError::Connect { .. } | HttpError::Proxy { .. } | HttpError::Protocol { .. },
            )) => Some(PAUSE),
            Err(_) => None,
        };
        let answer = match wait {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                self.call(url).await?
            }
            None => first?,
        };
        match answer.status {
            StatusCode::OK => Ok(answer),
            status => {
                let code = serde_json::from_slice::<ApiError>(&answer.body).ok();
                Err(GroupsFailure::Refused {
                    status,
                    code: code.map(|e| crate::oidc::one_line(&e.code, 32)),
                })
            }
        }
    }

    /// Records the rate limit. Everything that uses this Okta account shares it, so when half of it
    /// is used up, only calls that a user waits for are made.
    fn record_rate_limit(&self, headers: &HeaderMap, now: UnixTime) {
        let number = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        };
        let limit = (
            number("x-rate-limit-limit"),
            number("x-rate-limit-remaining"),
            number("x-rate-limit-reset"),
        );
        if let (Some(limit), Some(remaining), Some(reset)) = limit
            && remaining < limit / 2
        {
            self.quiet_until
                .fetch_max(reset.min(now.after(WINDOW).0), Ordering::Relaxed);
        }
    }

    async fn call(&self, url: &Url) -> Result<Response, GroupsFailure> {
        let mut headers = HeaderMap::new();
        let mut authorization = HeaderValue::try_from(format!("SSWS {}", self.token.expose()))
            .map_err(|_| GroupsFailure::Refused {
                status: StatusCode::UNAUTHORIZED,
                code: None,
            })?;
        // Keeps the token out of `Debug` output.
        authorization.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        self.http
            .get(url, headers, MAX_BODY)
            .await
            .map_err(GroupsFailure::Unreachable)
    }

    fn first_page(&self, subject: &str) -> Result<Url, GroupsFailure> {
        let mut url = self.url(&["api", "v1", "users", subject, "groups"], subject)?;
        url.set_query(Some("limit=200"));
        Ok(url)
    }

    fn url(&self, path: &[&str], subject: &str) -> Result<Url, GroupsFailure> {
        // `url` would resolve these as steps of the path.
        if subject.is_empty() || matches!(subject, "." | "..") {
            return Err(GroupsFailure::Subject);
        }
        let mut url = self.account.clone();
        url.path_segments_mut()
            .map_err(|()| GroupsFailure::Subject)?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }
}

/// Returns the wait until the rate limit ends.
fn rate_limit(answer: &Response, now: UnixTime) -> Result<Duration, GroupsFailure> {
    let reset = answer
        .headers
        .get("x-rate-limit-reset")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let Some(reset) = reset else {
        return Ok(ONE_SECOND);
    };
    let wait = UnixTime(reset).since(now);
    if wait > MAX_WAIT {
        Err(GroupsFailure::RateLimited {
            seconds: wait.as_secs(),
        })
    } else {
        Ok(wait.max(ONE_SECOND))
    }
}

/// Returns the target of the link with the relation `next` (RFC 8288 3). It must have the same
/// origin, because the token is sent with the request.
fn next_page(headers: &HeaderMap, page: &Url) -> Result<Option<Url>, GroupsFailure> {
    for value in headers.get_all(header::LINK) {
        let mut rest = value.to_str().map_err(|_| GroupsFailure::NotGroups)?;
        while let Some((_, link)) = rest.split_once('<') {
            let (target, after) = link.split_once('>').ok_or(GroupsFailure::NotGroups)?;
            let parameters = after.split('<').next().unwrap_or_default();
            if parameters.split([';', ',']).any(is_next) {
                let next = page.join(target).map_err(|_| GroupsFailure::NotGroups)?;
                let same = next.origin() == page.origin();
                return if same {
                    Ok(Some(next))
                } else {
                    Err(GroupsFailure::ForeignPage)
                };
            }
            rest = after;
        }
    }
    Ok(None)
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    let relations = value.trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("rel")
        && relations
            .split(' ')
            .any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// Enough for ten thousand groups with Okta's page size.
const MAX_PAGES: usize = 50;

/// The pause before a second call.
const PAUSE: Duration = Duration::from_millis(100);
// The header has whole seconds, so a shorter wait could end within the old window.
const ONE_SECOND: Duration = Duration::from_secs(1);

/// The maximum wait for a user at a login.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Okta's error code for an unknown object.
const NOT_FOUND: &str = "E0000007";

/// The length of Okta's rate limit window.
const WINDOW: Duration = Duration::from_secs(60);
