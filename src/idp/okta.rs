use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use moka::Expiry;
use moka::future::Cache;
use url::Url;

use super::failure::GroupsFailure;
use super::groups::GroupsApi;
use super::{OktaSettings, RefreshTerms};
use crate::http_client::HttpClient;
use crate::model::{Group, Groups, GroupsSeen, GroupsSource, Secret, UnixTime};
use crate::oidc::ClaimedGroups;

/// What Okta is asked beside OpenID Connect: which groups somebody is in, and whether they are
/// still there.
pub(super) struct Directory {
    http: HttpClient,
    account: Url,
    token: Option<Secret>,
    budget: Duration,
    refresh: Option<RefreshTerms>,
    /// Lists that are being read: one at a time for each person, however many logins want it.
    reading: Cache<Box<str>, Result<Arc<[Group]>, GroupsFailure>>,
    /// Until then nobody is asked about without a person waiting for it, in Unix seconds.
    quiet_until: AtomicU64,
    /// Until then nobody is asked about but at a login, in Unix seconds.
    failing_until: AtomicU64,
}

/// What became of somebody, by the directory's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There, and in these groups.
    Active(Vec<Group>),
    /// Deleted, deactivated or suspended; the word that says which.
    Gone(&'static str),
}

impl Directory {
    pub(super) fn new(settings: &OktaSettings, http: HttpClient) -> Self {
        Self {
            http,
            account: settings.okta_account.clone(),
            token: settings.api_token.clone(),
            budget: settings.groups_budget,
            // Without a token there is nothing to refresh from.
            refresh: settings.refresh.filter(|_| settings.api_token.is_some()),
            reading: Cache::builder()
                .max_capacity(MAX_READING)
                .expire_after(AtOnce)
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

    /// What is known of the groups at a login, and whether that is all of them.
    ///
    /// | claim | with an API token | without |
    /// | --- | --- | --- |
    /// | fewer than 100 | these; with a refresh the API's list | these |
    /// | 100 or more | the API's list | the login fails |
    /// | absent, unreadable or a reference | the API's list | unknown |
    ///
    /// Okta leaves the claim out where it is empty, but also where nobody set up a filter for it,
    /// and by some accounts where it would be too long. That the scope was granted does not tell
    /// these apart, so an absent claim is not an empty one: policies that do not look at groups
    /// still work, and one that excludes a group does not let in whoever is in it.
    ///
    /// The claim's filter may hold groups back that the API tells. Where groups are refreshed they
    /// all come from the API, so that nobody is in other groups a quarter of an hour after a login
    /// than at it.
    pub(super) async fn groups(
        &self,
        claimed: ClaimedGroups,
        source: GroupsSource,
        subject: &str,
        now: UnixTime,
    ) -> Result<(Groups, Option<GroupsSeen>), GroupsFailure> {
        let without_api = match claimed {
            ClaimedGroups::Claimed(names) if names.len() < CLAIM_CAPACITY => {
                Ok(whole(names, source, now))
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

    /// Whether the API may be asked now about somebody who is not waiting for it.
    pub(super) fn is_quiet(&self, now: UnixTime) -> bool {
        self.is_failing(now) || now.0 < self.quiet_until.load(Ordering::Relaxed)
    }

    /// Whether the API has just failed, in a way that concerns everybody.
    pub(super) fn is_failing(&self, now: UnixTime) -> bool {
        now.0 < self.failing_until.load(Ordering::Relaxed)
    }

    /// Looks somebody up who is logged in.
    pub(super) async fn look_up(
        &self,
        subject: &str,
        now: UnixTime,
    ) -> Result<Standing, GroupsFailure> {
        let Some(token) = &self.token else {
            return Err(GroupsFailure::TooMany);
        };
        let looked = async {
            if let Some(gone) = self.api(token).gone(subject, now).await? {
                return Ok(Standing::Gone(gone));
            }
            Ok(Standing::Active(
                self.read(token, subject, now).await?.to_vec(),
            ))
        };
        let looked = looked.await;
        let quiet = looked.as_ref().err().map(|failure| match failure {
            GroupsFailure::RateLimited { seconds } => Duration::from_secs(*seconds).min(MAX_QUIET),
            // This one cannot be asked about; that says nothing of the others.
            GroupsFailure::Subject
            | GroupsFailure::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            } => Duration::ZERO,
            _ => AFTER_A_FAILURE,
        });
        if let Some(quiet) = quiet {
            self.failing_until
                .fetch_max(now.after(quiet).0, Ordering::Relaxed);
        }
        looked
    }

    /// All pages, once for everybody who wants them at the same time.
    async fn read(
        &self,
        token: &Secret,
        subject: &str,
        now: UnixTime,
    ) -> Result<Arc<[Group]>, GroupsFailure> {
        let read = async { self.api(token).read(subject, now).await.map(Arc::from) };
        // Boxed, because a login's future holds it.
        self.reading.get_with(subject.into(), Box::pin(read)).await
    }

    /// The API, where there is a token for it.
    pub(super) fn own_api(&self) -> Option<GroupsApi<'_>> {
        self.token.as_ref().map(|token| self.api(token))
    }

    /// The account's address.
    pub(super) const fn account(&self) -> &Url {
        &self.account
    }

    fn api<'a>(&'a self, token: &'a Secret) -> GroupsApi<'a> {
        let (http, account, budget, quiet_until) =
            (&self.http, &self.account, self.budget, &self.quiet_until);
        GroupsApi {
            http,
            account,
            token,
            budget,
            quiet_until,
        }
    }
}

/// Groups that are known by their names alone.
pub(super) fn whole(
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

/// What was read belongs to those who waited for it; the next login reads anew.
struct AtOnce;

impl<T> Expiry<Box<str>, T> for AtOnce {
    fn expire_after_create(&self, _: &Box<str>, _: &T, _: Instant) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

/// As many as Okta puts into a claim: a full one may have been cut.
const CLAIM_CAPACITY: usize = 100;

/// More than an account's rate limit would let through.
const MAX_READING: u64 = 10_000;

/// What does not work is left alone for that long, unless a person waits for it.
const AFTER_A_FAILURE: Duration = Duration::from_secs(10);

/// Okta's windows are a minute long.
const MAX_QUIET: Duration = Duration::from_secs(120);
