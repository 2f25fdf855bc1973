//! Okta's API: the groups of a user and the status of the account.
//!
//! Decides if the groups claim suffices or the API has to be called. Trusts the API of the
//! configured account. Never uses an incomplete list, and never sends the API token to another
//! origin.

mod api;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use moka::Expiry;
use moka::future::Cache;
use url::Url;

pub(super) use self::api::OktaApi;
use super::failure::GroupsFailure;
use super::{OktaSettings, RefreshTerms};
use crate::http_client::HttpClient;
use crate::model::{Group, Groups, GroupsSeen, GroupsSource, Secret, UnixTime};
use crate::oidc::ClaimedGroups;

/// Okta's API beside OpenID Connect: lists a user's groups and reports the status of the account.
pub(super) struct Directory {
    http: HttpClient,
    account: Url,
    token: Option<Secret>,
    budget: Duration,
    refresh: Option<RefreshTerms>,
    /// Lists that are being read. Concurrent logins of one user share one request.
    reading: Cache<Box<str>, Result<Arc<[Group]>, GroupsFailure>>,
    /// Until this time, in Unix seconds, only calls that a user waits for are made.
    quiet_until: AtomicU64,
    /// Until this time, in Unix seconds, only logins make calls.
    failing_until: AtomicU64,
}

/// The status of a user's account in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// The account is active, with these groups.
    Active(Vec<Group>),
    /// The account is deleted, deactivated or suspended; the word for the log.
    Inactive(&'static str),
}

impl Directory {
    pub(super) fn new(settings: &OktaSettings, http: HttpClient) -> Self {
        Self {
            http,
            account: settings.okta_account.clone(),
            token: settings.api_token.clone(),
            budget: settings.groups_budget,
            // Refreshing requires a token.
            refresh: settings.refresh.filter(|_| settings.api_token.is_some()),
            reading: Cache::builder()
                .max_capacity(MAX_READING)
                .expire_after(ExpireImmediately)
                .build(),
            quiet_until: AtomicU64::new(0),
            failing_until: AtomicU64::new(0),
        }
    }

    pub(super) const fn refresh(&self) -> Option<RefreshTerms> {
        self.refresh
    }

    pub(super) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Determines the groups at a login, and whether the list is complete.
    ///
    /// | claim | with an API token | without |
    /// | --- | --- | --- |
    /// | fewer than 100 | the claim; with a refresh, the API's list | the claim |
    /// | 100 or more | the API's list | the login fails |
    /// | absent, unreadable or a reference | the API's list | unknown |
    ///
    /// Okta omits an empty claim. It also omits the claim if no filter is configured, and for some
    /// accounts if it would be too long. A granted scope does not distinguish these cases, so an
    /// absent claim does not mean "no groups". Policies that do not use groups still work, and a
    /// policy that excludes a group does not admit its members.
    ///
    /// The claim's filter may hide groups that the API lists. With a refresh, all groups therefore
    /// come from the API. Otherwise a user's groups would change between the login and the first
    /// refresh.
    pub(super) async fn groups(
        &self,
        claimed: ClaimedGroups,
        source: GroupsSource,
        subject: &str,
        now: UnixTime,
    ) -> Result<(Groups, Option<GroupsSeen>), GroupsFailure> {
        let without_api = match claimed {
            ClaimedGroups::Claimed(names) if names.len() < CLAIM_CAPACITY => {
                Ok(named_groups(names, source, now))
            }
            ClaimedGroups::Claimed(_) => Err(GroupsFailure::TooMany),
            ClaimedGroups::Elsewhere | ClaimedGroups::Absent | ClaimedGroups::Unreadable => {
                Ok((Groups::Unknown, None))
            }
        };
        let suffices = matches!(&without_api, Ok((Groups::Known(_), _))) && self.refresh.is_none();
        match &self.token {
            Some(token) if !suffices => {
                let groups = self.read(token, subject, now).await?;
                Ok((
                    Groups::Known(groups.to_vec()),
                    Some(GroupsSeen {
                        source: GroupsSource::Api,
                        at: now,
                    }),
                ))
            }
            _ => without_api,
        }
    }

    /// Returns `true` if only calls that a user waits for should be made.
    pub(super) fn is_quiet(&self, now: UnixTime) -> bool {
        self.is_failing(now) || now.0 < self.quiet_until.load(Ordering::Relaxed)
    }

    /// Returns `true` if the API has just failed in a way that affects all users.
    pub(super) fn is_failing(&self, now: UnixTime) -> bool {
        now.0 < self.failing_until.load(Ordering::Relaxed)
    }

    /// Looks up the account of a user with a session.
    pub(super) async fn look_up(
        &self,
        subject: &str,
        now: UnixTime,
    ) -> Result<AccountStatus, GroupsFailure> {
        let Some(token) = &self.token else {
            return Err(GroupsFailure::TooMany);
        };
        let look_up = async {
            if let Some(gone) = self.api(token).inactive_reason(subject, now).await? {
                return Ok(AccountStatus::Inactive(gone));
            }
            Ok(AccountStatus::Active(
                self.read(token, subject, now).await?.to_vec(),
            ))
        };
        let status = look_up.await;
        let quiet = status.as_ref().err().map(|failure| match failure {
            GroupsFailure::RateLimited { seconds } => Duration::from_secs(*seconds).min(MAX_QUIET),
            // Only this user cannot be looked up; others are not affected.
            GroupsFailure::Subject
            | GroupsFailure::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            } => Duration::ZERO,
            _ => FAILURE_PAUSE,
        });
        if let Some(quiet) = quiet {
            self.failing_until
                // The maximum, because a shorter pause must not end a longer one. Relaxed: one call
                // too many does no harm.
                .fetch_max(now.after(quiet).0, Ordering::Relaxed);
        }
        status
    }

    /// Reads all pages, once for all concurrent callers.
    async fn read(
        &self,
        token: &Secret,
        subject: &str,
        now: UnixTime,
    ) -> Result<Arc<[Group]>, GroupsFailure> {
        let read = async { self.api(token).read(subject, now).await.map(Arc::from) };
        // Boxed, because the future of a login holds it.
        self.reading.get_with(subject.into(), Box::pin(read)).await
    }

    /// Returns the API, if there is a token for it.
    pub(super) fn configured_api(&self) -> Option<OktaApi<'_>> {
        self.token.as_ref().map(|token| self.api(token))
    }

    /// Returns the URL of the account.
    pub(super) const fn account(&self) -> &Url {
        &self.account
    }

    fn api<'a>(&'a self, token: &'a Secret) -> OktaApi<'a> {
        let (http, account, budget, quiet_until) =
            (&self.http, &self.account, self.budget, &self.quiet_until);
        OktaApi {
            http,
            account,
            token,
            budget,
            quiet_until,
        }
    }
}

/// Returns groups of which only the names are known.
pub(super) fn named_groups(
    names: Vec<String>,
    source: GroupsSource,
    now: UnixTime,
) -> (Groups, Option<GroupsSeen>) {
    let named = |name: String| Group {
        id: name.clone(),
        name,
    };
    (
        Groups::Known(names.into_iter().map(named).collect()),
        Some(GroupsSeen { source, at: now }),
    )
}

/// Expires an entry as soon as its reader is done: waiting callers share the result, and the next
/// login reads again.
struct ExpireImmediately;

impl<T> Expiry<Box<str>, T> for ExpireImmediately {
    fn expire_after_create(&self, _: &Box<str>, _: &T, _: Instant) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

/// Okta's limit for a claim. A claim of this size may be truncated.
const CLAIM_CAPACITY: usize = 100;

/// More than an account's rate limit would allow.
const MAX_READING: u64 = 10_000;

/// The pause after a failure, except for calls that a user waits for.
const FAILURE_PAUSE: Duration = Duration::from_secs(10);

/// Okta's rate limit windows last one minute.
const MAX_QUIET: Duration = Duration::from_secs(120);
