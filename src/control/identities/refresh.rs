//! Groups of users who are signed in.
//!
//! Decides when a user's groups are read again (`groups_refresh`), and how long old ones are used
//! while that fails: after `groups_max_stale` they are unknown, which never helps the user. Trusts
//! the provider's directory as logins do. Never keeps a session of a user that the directory
//! reports as gone, and never treats a directory that does not answer as such a report.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Identities;
use crate::control::{Services, audit};
use crate::engine::IdentityState;
use crate::idp::{AccountStatus, GroupsFailure, Provider, RefreshTerms};
use crate::model::{Groups, GroupsSeen, GroupsSource, Identity, IdentityNonce, IdpId, UnixTime};
use crate::policy::Truth;
use crate::session::Presented;

/// The logins of each user of a provider.
type LoginsByUser = HashMap<(IdpId, String), Vec<(IdentityNonce, Arc<Identity>)>>;

impl Identities {
    /// Reads groups again when they are due. Never returns.
    pub(in crate::control) async fn keep_groups_fresh(self: Arc<Self>) {
        loop {
            Arc::clone(&self).refresh_groups(self.running.now()).await;
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Marks groups as unknown when they are too old. Never returns. It is a task of its own,
    /// because calls of the directory may take long.
    pub(in crate::control) async fn expire_groups_at_bound(self: Arc<Self>) {
        loop {
            self.expire_groups(self.running.now()).await;
            tokio::time::sleep(self.pause()).await;
        }
    }

    fn pause(&self) -> Duration {
        let terms = self
            .running
            .services()
            .providers
            .iter()
            .filter_map(Provider::refresh)
            .map(|terms| terms.every)
            .min();
        terms.map_or(LONGEST_PAUSE, |every| {
            (every / 20).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
        })
    }

    /// Marks groups as unknown that are older than they may be.
    async fn expire_groups(&self, now: UnixTime) {
        let services = self.running.services();
        let mut old = self.running.cache().identities();
        old.retain(|(_, identity)| {
            refreshed_by(&services, identity)
                .is_some_and(|(_, terms)| is_older(identity, terms.max_stale, now))
        });
        if old.is_empty() {
            return;
        }
        let living = self.is_in_use(now);
        for (nonce, identity) in old {
            let Some((_, terms)) = refreshed_by(&services, &identity) else {
                continue;
            };
            if living(&nonce, &identity) {
                self.expire(nonce, terms, now).await;
            } else {
                let _one = self.records.lock(nonce).await;
                // No task keeps this record up to date, so its next use has to look it up.
                self.running.cache().forget_identity(&nonce);
            }
        }
    }

    /// Returns a predicate for logins with a session here, or at an edge node that queries them.
    fn is_in_use(&self, now: UnixTime) -> impl Fn(&IdentityNonce, &Identity) -> bool {
        let snapshot = self.running.snapshot();
        let here = self.running.cache().living(snapshot.revocations(), now);
        move |nonce, identity| {
            let elsewhere = self.queried.get(nonce).is_some_and(|until| now < until);
            let presented = Presented {
                nonce: Some(*nonce),
                user: &identity.user,
                aud: &[],
                issued: identity.at,
                login: Some(identity.order()),
            };
            here.contains(nonce)
                || elsewhere && snapshot.revocations().cover(presented) == Truth::False
        }
    }

    /// Reads the groups again that are due, of all users with a session.
    async fn refresh_groups(self: Arc<Self>, now: UnixTime) {
        let services = self.running.services();
        if services
            .providers
            .iter()
            .all(|provider| provider.refresh().is_none())
        {
            return;
        }
        let living = self.is_in_use(now);
        let mut due = LoginsByUser::new();
        for (nonce, identity) in self.running.cache().identities() {
            let Some((provider, terms)) = refreshed_by(&services, &identity) else {
                continue;
            };
            let is_due = is_older(&identity, jittered(terms.every, &nonce), now);
            if is_due && is_time(provider, terms, &identity, now) && living(&nonce, &identity) {
                due.entry((identity.idp.id.clone(), identity.subject.clone()))
                    .or_default()
                    .push((nonce, identity));
            }
        }
        drop(living);
        let mut lookups = JoinSet::new();
        for ((idp, subject), logins) in due {
            if lookups.len() >= MAX_CONCURRENT {
                lookups.join_next().await;
            }
            let (identities, services) = (Arc::clone(&self), Arc::clone(&services));
            lookups.spawn(async move {
                let Some(provider) = services
                    .providers
                    .iter()
                    .find(|provider| *provider.id() == idp)
                else {
                    return;
                };
                let now = identities.running.now();
                let Some(terms) = provider.refresh() else {
                    return;
                };
                // A result that arrived since the round began counts for all logins of the account.
                let looked = match logins
                    .iter()
                    .any(|(_, identity)| is_time(provider, terms, identity, now))
                {
                    true => Some(provider.look_up(&subject, now).await),
                    false => None,
                };
                identities
                    .apply_lookup(provider, &logins, looked, now)
                    .await;
            });
        }
        while lookups.join_next().await.is_some() {}
    }

    /// Applies the directory's answer to all logins of a user; `None` if it was not called.
    async fn apply_lookup(
        &self,
        provider: &Provider,
        logins: &[(IdentityNonce, Arc<Identity>)],
        looked: Option<Result<AccountStatus, GroupsFailure>>,
        asked: UnixTime,
    ) {
        let now = self.running.now();
        if let Some(Err(failure)) = &looked {
            tracing::warn!(
                idp = &*provider.id().0,
                error = crate::model::chain(failure),
                hint = failure.advice(),
                "could not refresh the groups of a signed-in user"
            );
        }
        for (nonce, identity) in logins {
            match &looked {
                Some(Ok(AccountStatus::Active(groups))) => {
                    self.renew(*nonce, Groups::Known(groups.clone()), asked)
                        .await;
                }
                Some(Ok(AccountStatus::Inactive(how))) => {
                    self.ended_by_provider(*nonce, identity, how, now).await
                }
                // They are used up to their bound.
                Some(Err(_)) | None => {}
            }
        }
    }

    /// Updates the groups of a record from the store, which may be old: no task refreshed it since.
    /// Returns `None` if the directory reports the user as gone.
    pub(super) async fn freshened(
        &self,
        nonce: IdentityNonce,
        identity: Arc<Identity>,
        now: UnixTime,
    ) -> Option<Arc<Identity>> {
        let services = self.running.services();
        let Some((provider, terms)) = refreshed_by(&services, &identity) else {
            return Some(identity);
        };
        if !is_older(&identity, terms.max_stale, now) {
            return Some(identity);
        }
        // A request waits for this record.
        let looked = match provider.is_failing(now) {
            true => None,
            false => tokio::time::timeout(PATIENCE, provider.look_up(&identity.subject, now))
                .await
                .ok(),
        };
        match looked {
            Some(Ok(AccountStatus::Active(groups))) => {
                Some(with_groups(&identity, Groups::Known(groups), now))
            }
            Some(Ok(AccountStatus::Inactive(how))) => {
                self.ended_by_provider(nonce, &identity, how, now).await;
                None
            }
            Some(Err(_)) | None => Some(with_groups(&identity, Groups::Unknown, now)),
        }
    }

    /// Returns the record to use, if the store has another one than is known here.
    pub(super) fn reconciled(&self, known: &Identity, stored: Identity, now: UnixTime) -> Identity {
        let services = self.running.services();
        let max_stale = refreshed_by(&services, &stored).map(|(_, terms)| terms.max_stale);
        reconcile(known, stored, max_stale, now)
    }

    /// Stores these groups in the record, unless a login since `asked` brought newer ones.
    async fn renew(&self, nonce: IdentityNonce, groups: Groups, asked: UnixTime) {
        // The holder of the lock may write the record.
        let _one = self.records.lock(nonce).await;
        let Some(IdentityState::Known(identity)) = self.running.cache().identity(&nonce) else {
            return;
        };
        if identity.groups_seen.is_some_and(|seen| seen.at > asked) {
            return;
        }
        if identity.groups != groups {
            tracing::info!(
                user = &*identity.user.0,
                idp = &*identity.idp.id.0,
                "group membership changed for a signed-in user"
            );
        }
        let renewed = with_groups(&identity, groups, asked);
        let until = identity.at.after(self.running.services().identity_lifetime);
        if let Err(error) = self
            .records
            .update(nonce, Arc::clone(&renewed), until)
            .await
        {
            self.records.failed(&error);
            self.running
                .cache()
                .set_identity(nonce, IdentityState::Known(renewed));
        }
    }

    /// Marks groups as unknown that could not be read again within their bound.
    async fn expire(&self, nonce: IdentityNonce, terms: RefreshTerms, now: UnixTime) {
        let _one = self.records.lock(nonce).await;
        let Some(IdentityState::Known(identity)) = self.running.cache().identity(&nonce) else {
            return;
        };
        if matches!(identity.groups, Groups::Known(_)) && is_older(&identity, terms.max_stale, now)
        {
            tracing::warn!(
                user = &*identity.user.0,
                idp = &*identity.idp.id.0,
                "group membership is stale; treating it as unknown"
            );
            self.running.cache().set_identity(
                nonce,
                IdentityState::Known(with_groups(&identity, Groups::Unknown, now)),
            );
        }
    }

    async fn ended_by_provider(
        &self,
        nonce: IdentityNonce,
        identity: &Identity,
        how: &'static str,
        now: UnixTime,
    ) {
        self.revoker
            .revoke_even_if_store_fails(nonce, identity, now)
            .await;
        audit::signed_out_by_provider(identity, how);
    }
}

/// Returns the provider that refreshes this identity's groups, if one does.
fn refreshed_by<'a>(
    services: &'a Services,
    identity: &Identity,
) -> Option<(&'a Provider, RefreshTerms)> {
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == identity.idp.id)?;
    provider.refresh().map(|terms| (provider, terms))
}

/// Returns `true` if the directory may be called for a user with groups that are due. A user half
/// way to the bound is looked up even if others use up the rate limit: otherwise they could make
/// all groups unknown.
fn is_time(provider: &Provider, terms: RefreshTerms, identity: &Identity, now: UnixTime) -> bool {
    !provider.is_failing(now)
        && (!provider.is_quiet(now) || is_older(identity, terms.max_stale / 2, now))
}

/// Unknown groups are older than any age.
fn is_older(identity: &Identity, age: Duration, now: UnixTime) -> bool {
    match (&identity.groups, identity.groups_seen) {
        (Groups::Unknown, _) => true,
        (Groups::Known(_), seen) => now.since(seen.map_or(identity.at, |seen| seen.at)) >= age,
    }
}

/// Returns `true` if the stored record is of an earlier login or has earlier groups. Another node
/// wrote it without having followed the later one, or the store did not accept that.
pub(super) fn is_behind(stored: &Identity, known: &Identity) -> bool {
    known.at > stored.at || groups_read(known) > groups_read(stored)
}

fn groups_read(identity: &Identity) -> UnixTime {
    identity.groups_seen.map_or(identity.at, |seen| seen.at)
}

/// Returns the record with the later login and the later groups of the two, and everything else as
/// stored. Group membership that was withdrawn must not come back.
fn reconcile(
    known: &Identity,
    stored: Identity,
    max_stale: Option<Duration>,
    now: UnixTime,
) -> Identity {
    let (groups, seen) = if groups_read(known) > groups_read(&stored) {
        (known.groups.clone(), known.groups_seen)
    } else {
        (stored.groups.clone(), stored.groups_seen)
    };
    let mut newest = if known.at > stored.at {
        let (evaluations, beside) = (stored.evaluations, stored.beside);
        Identity {
            evaluations,
            beside,
            ..known.clone()
        }
    } else {
        stored
    };
    if newest.groups_seen != seen || newest.groups != groups {
        (newest.groups, newest.groups_seen) = (groups, seen);
        newest.groups.write_to(&mut newest.claims);
    }
    match max_stale {
        Some(most) if matches!(newest.groups, Groups::Known(_)) && is_older(&newest, most, now) => {
            Arc::unwrap_or_clone(with_groups(&newest, Groups::Unknown, now))
        }
        _ => newest,
    }
}

/// Returns a little less than the period, so that users who signed in together are not looked up
/// together.
fn jittered(every: Duration, nonce: &IdentityNonce) -> Duration {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(nonce);
    every.mul_f64(1.0 - 0.2 * f64::from(u8::try_from(hash % 256).unwrap_or_default()) / 256.0)
}

fn with_groups(identity: &Identity, groups: Groups, now: UnixTime) -> Arc<Identity> {
    let seen = matches!(groups, Groups::Known(_)).then_some(GroupsSeen {
        source: GroupsSource::Api,
        at: now,
    });
    let mut claims = identity.claims.clone();
    groups.write_to(&mut claims);
    Arc::new(Identity {
        groups,
        groups_seen: seen,
        claims,
        ..identity.clone()
    })
}

/// The bounds of the interval between two checks of due groups.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The most users that are looked up concurrently.
const MAX_CONCURRENT: usize = 4;

/// The time that a request waits for groups that no task refreshed.
const PATIENCE: Duration = Duration::from_secs(5);
