//! Group changes that reach people who are logged in.
//!
//! Decides when somebody's groups are read again, and how long old ones stand while they cannot be:
//! `groups_refresh`, and from `groups_max_stale` on they are unknown, which helps nobody. Trusts
//! the provider's directory as logins do. Never lets a session of somebody go on whom the directory
//! says it no longer has, and never takes a directory that does not answer for one that says so.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::Services;
use super::audit;
use super::identities::Identities;
use crate::engine::IdentityState;
use crate::idp::{AccountStatus, GroupsFailure, Provider, RefreshTerms};
use crate::model::{Groups, GroupsSeen, GroupsSource, Identity, IdentityNonce, IdpId, UnixTime};
use crate::policy::Truth;
use crate::session::Presented;

/// Everybody who is one person at one provider, by their logins.
type People = HashMap<(IdpId, String), Vec<(IdentityNonce, Arc<Identity>)>>;

impl Identities {
    /// Never ends.
    pub(super) async fn keep_groups_fresh(self: Arc<Self>) {
        loop {
            Arc::clone(&self).refresh_groups(UnixTime::now()).await;
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Never ends. By itself, because the directory may take its time.
    pub(super) async fn keep_groups_no_longer(self: Arc<Self>) {
        loop {
            self.outdate_groups(UnixTime::now()).await;
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

    /// Takes away groups that are older than they may be.
    async fn outdate_groups(&self, now: UnixTime) {
        let services = self.running.services();
        let mut old = self.running.known().identities();
        old.retain(|(_, identity)| {
            refreshed_by(&services, identity)
                .is_some_and(|(_, terms)| is_older(identity, terms.max_stale, now))
        });
        if old.is_empty() {
            return;
        }
        let living = self.watched(now);
        for (nonce, identity) in old {
            let Some((_, terms)) = refreshed_by(&services, &identity) else {
                continue;
            };
            if living(&nonce, &identity) {
                self.outdate(nonce, terms, now).await;
            } else {
                let _one = self.records.lock(nonce).await;
                // Nobody watches over it, so it must be looked at when it is used again.
                self.running.known().forget_identity(&nonce);
            }
        }
    }

    /// Whose sessions go on, here or at an edge node that asks about them.
    fn watched(&self, now: UnixTime) -> impl Fn(&IdentityNonce, &Identity) -> bool {
        let snapshot = self.running.snapshot();
        let here = self.running.known().living(snapshot.revocations(), now);
        move |nonce, identity| {
            let elsewhere = self.asked_about.get(nonce).is_some_and(|until| now < until);
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

    /// Reads the groups again of everybody who has a living session and whose groups are due.
    async fn refresh_groups(self: Arc<Self>, now: UnixTime) {
        let services = self.running.services();
        if services
            .providers
            .iter()
            .all(|provider| provider.refresh().is_none())
        {
            return;
        }
        let living = self.watched(now);
        let mut due = People::new();
        for (nonce, identity) in self.running.known().identities() {
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
        let mut looking = JoinSet::new();
        for ((idp, subject), logins) in due {
            if looking.len() >= AT_ONCE {
                looking.join_next().await;
            }
            let (identities, services) = (Arc::clone(&self), Arc::clone(&services));
            looking.spawn(async move {
                let Some(provider) = services
                    .providers
                    .iter()
                    .find(|provider| *provider.id() == idp)
                else {
                    return;
                };
                let now = UnixTime::now();
                let Some(terms) = provider.refresh() else {
                    return;
                };
                // What was found out about the account since the round began goes for everybody.
                let looked = match logins
                    .iter()
                    .any(|(_, identity)| is_time(provider, terms, identity, now))
                {
                    true => Some(provider.look_up(&subject, now).await),
                    false => None,
                };
                identities.learned(provider, &logins, looked, now).await;
            });
        }
        while looking.join_next().await.is_some() {}
    }

    /// What the directory said of somebody when it was asked, or `None` where it was not, for all
    /// their logins.
    async fn learned(
        &self,
        provider: &Provider,
        logins: &[(IdentityNonce, Arc<Identity>)],
        looked: Option<Result<AccountStatus, GroupsFailure>>,
        asked: UnixTime,
    ) {
        let now = UnixTime::now();
        if let Some(Err(failure)) = &looked {
            tracing::warn!(
                idp = &*provider.id().0,
                error = crate::model::chain(failure),
                hint = failure.advice(),
                "groups of somebody who is logged in could not be read again"
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
                // They stand for as long as they may.
                Some(Err(_)) | None => {}
            }
        }
    }

    /// A record that comes out of the store, as old as it may be: nobody watched over it since.
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
        // Somebody waits for this one.
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

    /// Puts these groups into the record, here and in the store, unless a login since `asked` knows
    /// better.
    async fn renew(&self, nonce: IdentityNonce, groups: Groups, asked: UnixTime) {
        // Whoever writes a record holds this, so that no change takes another back.
        let _one = self.records.lock(nonce).await;
        let Some(IdentityState::Known(identity)) = self.running.known().identity(&nonce) else {
            return;
        };
        if identity.groups_seen.is_some_and(|seen| seen.at > asked) {
            return;
        }
        if identity.groups != groups {
            tracing::info!(
                user = &*identity.user.0,
                idp = &*identity.idp.id.0,
                "groups of somebody who is logged in have changed"
            );
        }
        let renewed = with_groups(&identity, groups, asked);
        let until = identity.at.after(self.running.services().identity_lifetime);
        if let Err(error) = self
            .records
            .update(nonce, Arc::clone(&renewed), until)
            .await
        {
            self.store.failed(&error);
            self.running
                .known()
                .set_identity(nonce, IdentityState::Known(renewed));
        }
    }

    /// Groups that could not be read again stand until they are too old, and are unknown from then
    /// on.
    async fn outdate(&self, nonce: IdentityNonce, terms: RefreshTerms, now: UnixTime) {
        let _one = self.records.lock(nonce).await;
        let Some(IdentityState::Known(identity)) = self.running.known().identity(&nonce) else {
            return;
        };
        if matches!(identity.groups, Groups::Known(_)) && is_older(&identity, terms.max_stale, now)
        {
            tracing::warn!(
                user = &*identity.user.0,
                idp = &*identity.idp.id.0,
                "the groups of somebody who is logged in are too old and so unknown"
            );
            self.running.known().set_identity(
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
            .end_sessions_whatever(nonce, identity, now)
            .await;
        audit::signed_out_by_provider(identity, how);
    }
}

/// Who keeps somebody's groups fresh, if anybody does.
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

/// Whether the directory may be asked about somebody whose groups are due. Whoever is half way to
/// the bound is asked about though others use the rate limit up, or those others could take
/// everybody's groups away.
fn is_time(provider: &Provider, terms: RefreshTerms, identity: &Identity, now: UnixTime) -> bool {
    !provider.is_failing(now)
        && (!provider.is_quiet(now) || is_older(identity, terms.max_stale / 2, now))
}

/// Groups that are unknown are older than anything.
fn is_older(identity: &Identity, age: Duration, now: UnixTime) -> bool {
    match (&identity.groups, identity.groups_seen) {
        (Groups::Unknown, _) => true,
        (Groups::Known(_), seen) => now.since(seen.map_or(identity.at, |seen| seen.at)) >= age,
    }
}

/// A little less than the period, so that those who came at once are not asked about at once.
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
    groups.tell(&mut claims);
    Arc::new(Identity {
        groups,
        groups_seen: seen,
        claims,
        ..identity.clone()
    })
}

/// Between two looks at whose groups are due.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How many people are asked about at the same time.
const AT_ONCE: usize = 4;

/// How long a request waits for groups that nobody watched over.
const PATIENCE: Duration = Duration::from_secs(5);
