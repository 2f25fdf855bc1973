use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use bytes::Bytes;
use http::HeaderMap;
use moka::policy::EvictionPolicy;
use thiserror::Error;

use super::evaluations::{self, Answers};
use super::flows::Flows;
use super::logins::Unpersisted;
use super::revocations::Publisher;
use super::store_watch::StoreWatch;
use super::{CountryFile, Evaluations, RemoteTeam, SigningKeys, SigningKeysError};
use crate::cookie::{self, SealError, SealingKey};
use crate::engine::{IdentityState, IssuerKeys, Need, NodeCache, Snapshot};
use crate::http_client::HttpClient;
use crate::idp::Provider;
use crate::login::PortalRequest;
use crate::model::{
    Aud, Email, FetchBudget, Identity, IdentityNonce, LoginOrder, Secret, UnixTime, UserId,
};
use crate::observe::audit::{RunningSample, Sample};
use crate::observe::metrics::metrics;
use crate::policy::Truth;
use crate::session::Presented;
use crate::store::{Revocation, Revoked, Store, StoreError};
use crate::token::{Candidate, Candidates, Claims, KeyError, KeySet, Kind};

/// The living whole behind a front: what the engine reads, and everything that waits.
pub struct Access {
    pub(super) snapshot: ArcSwap<Snapshot>,
    services: ArcSwap<Services>,
    sample: RunningSample,
    pub(super) known: Arc<NodeCache>,
    pub(super) store: Arc<dyn Store>,
    pub(super) http: HttpClient,
    pub(super) publisher: Publisher,
    pub(super) signing: ArcSwapOption<SigningKeys>,
    /// The last JWKS of a remote team, for our own `certs`.
    pub(super) remote_jwks: ArcSwapOption<Bytes>,
    pub(super) fetching: tokio::sync::Mutex<FetchBudget>,
    pub(super) asserting: tokio::sync::Mutex<()>,
    /// Who is asked about at the moment: one question for each, however many requests wait for the
    /// answer.
    pub(super) asking: moka::sync::Cache<IdentityNonce, Arc<tokio::sync::Mutex<()>>>,
    /// Logins that an edge node may have asked about, with the end of the session there.
    pub(super) asked_about: moka::sync::Cache<IdentityNonce, UnixTime>,
    /// Revocations applied here that the store has not accepted yet.
    pub(super) unpersisted: Unpersisted,
    pub(super) store_watch: StoreWatch,
    pub(super) answers: Answers,
    seal: SealingKey,
    pub(super) flows: Flows,
    generation: AtomicU64,
    runtime: tokio::runtime::Handle,
}

/// What the login side needs of a configuration.
pub struct Services {
    /// Where people may come from.
    pub providers: Vec<Provider>,
    /// Another team, whose tokens are good here and where people log in.
    pub remote: Option<RemoteTeam>,
    /// `https://<team domain>`.
    pub team_url: String,
    /// How long an organisation session lasts.
    pub team_session: Duration,
    /// How long an identity record may be asked for after a login.
    pub identity_lifetime: Duration,
    /// How long a token may be presented after it was signed.
    pub token_lifetime: Duration,
    /// How long sessions are good while the store cannot be asked what was revoked; for ever, where
    /// that is not its to say.
    pub revocations_max_stale: Option<Duration>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Which allowed requests are written down.
    pub sample: Sample,
    /// Whether the audit events of logins tell groups, authentication methods and claims.
    pub audit_identity: bool,
    /// Whom the applications' policies ask about people at login.
    pub evaluations: Evaluations,
    /// The countries that the snapshot knows, where it knows any.
    pub countries: Option<Arc<CountryFile>>,
    /// Files beside the configuration: it is read again when one of them changes.
    pub watched: Vec<std::path::PathBuf>,
}

/// A login that is good: an organisation session and who is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) nonce: IdentityNonce,
    pub(crate) identity: Arc<Identity>,
    pub(super) expires: UnixTime,
}

/// The organisation session that a browser shows on the team domain.
#[derive(Debug)]
pub(crate) enum Organisation {
    /// None.
    Nobody,
    /// Of one login.
    SignedIn(Login),
    /// Of two logins: another host of the domain may have set one of the cookies, so neither is
    /// used.
    Conflict,
}

/// The valid tokens among a request's cookies.
struct Tokens<'a> {
    valid: Vec<(&'a str, Claims)>,
    /// `true` if there were more than are checked.
    too_many: bool,
}

/// The logins that a browser has a session of on one host.
pub(crate) struct Logins {
    /// Each once: one, unless another host of the domain set a cookie for this one.
    pub(crate) found: Vec<SignedIn>,
    /// `true` if more tokens came than are verified, so that there may be other logins.
    pub(crate) are_incomplete: bool,
}

/// Whose session a browser has.
pub(crate) struct SignedIn {
    pub(crate) nonce: IdentityNonce,
    pub(crate) email: Option<Email>,
    pub(crate) user: UserId,
    pub(crate) issued: UnixTime,
    pub(crate) expires: UnixTime,
    pub(crate) token: Secret,
}

/// Why the control path cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// Signing keys.
    #[error("the signing keys cannot be used")]
    SigningKeys(#[from] SigningKeysError),
    /// What the keys say of themselves.
    #[error("the signing keys cannot be published")]
    Publish(#[from] KeyError),
    /// The secret behind cookies.
    #[error("the sealing key cannot be used")]
    Seal(#[from] SealError),
}

impl Access {
    /// Brings up the control path: keys, revocations, secrets. `runtime` is the runtime that
    /// everything which waits runs on.
    ///
    /// # Errors
    /// Where the store or the keys in it cannot be used. That a provider or a remote team cannot be
    /// reached is no error.
    pub async fn start(
        snapshot: Snapshot,
        services: Services,
        store: Arc<dyn Store>,
        http: HttpClient,
        runtime: tokio::runtime::Handle,
    ) -> Result<Arc<Self>, StartError> {
        let now = UnixTime::now();
        let seal = sealing_key(&*store).await?;
        let store_watch = StoreWatch::start(&*store, now).await;
        let signing = match services.remote {
            None => Some(Arc::new(
                SigningKeys::load_or_create(
                    &*store,
                    services.token_lifetime,
                    now,
                    store_watch.time(),
                )
                .await?,
            )),
            Some(_) => None,
        };
        let asked_about = moka::sync::Cache::builder().max_capacity(MAX_ASKED_ABOUT);
        let sample = RunningSample::default();
        sample.set(services.sample);
        let access = Self {
            sample,
            generation: AtomicU64::new(snapshot.generation()),
            known: Arc::clone(snapshot.cache()),
            snapshot: ArcSwap::from_pointee(snapshot),
            services: ArcSwap::from_pointee(services),
            store,
            http,
            publisher: Publisher::default(),
            signing: ArcSwapOption::new(None),
            remote_jwks: ArcSwapOption::new(None),
            fetching: tokio::sync::Mutex::new(FetchBudget::new(
                super::remote::COOLDOWN,
                Instant::now(),
            )),
            asserting: tokio::sync::Mutex::new(()),
            asking: moka::sync::Cache::builder().time_to_idle(ASKING).build(),
            asked_about: asked_about.eviction_policy(EvictionPolicy::lru()).build(),
            unpersisted: Unpersisted::default(),
            store_watch,
            answers: evaluations::answers(),
            seal,
            flows: Flows::new(),
            runtime,
        };
        if let Some(signing) = signing {
            access.publish_signing_keys(signing)?;
        }
        access.tail_revocations(now).await?;
        metrics().generation(access.snapshot().generation());
        Ok(Arc::new(access))
    }

    /// The same as [`Access::snapshot`], for a moment: quicker, and not to be kept.
    pub(crate) fn running(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// What decisions are made from.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) fn services(&self) -> Arc<Services> {
        self.services.load_full()
    }

    /// Whether this allowed request is written down.
    pub(crate) fn samples(&self) -> bool {
        self.sample.hit()
    }

    /// The number of the next snapshot.
    pub fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Puts a new configuration in place. Sessions and what is known stay.
    pub fn replace(&self, snapshot: Snapshot, services: Services) {
        metrics().generation(snapshot.generation());
        // Under another team domain the same keys sign for another issuer.
        if let Some(keys) = self.signing.load_full()
            && let Err(error) = self.publish_keys_of(snapshot.issuer(), &keys)
        {
            tracing::error!(%error, "the signing keys could not be published");
        }
        self.sample.set(services.sample);
        self.services.store(Arc::new(services));
        self.publisher.publish(&self.snapshot, |revocations| {
            snapshot.with_revocations(revocations)
        });
    }

    /// Whether requests can be decided: the team's keys and what was revoked are known, and not too
    /// old.
    pub fn is_ready(&self) -> bool {
        self.is_missing().is_none()
    }

    /// What is not known, or too old, where that keeps requests from being decided.
    pub(crate) fn is_missing(&self) -> Option<&'static str> {
        let (snapshot, now) = (self.snapshot.load(), UnixTime::now());
        let keys = self.known.keys(snapshot.issuer());
        if !keys.is_some_and(|keys| keys.keys.is_some() && now < keys.good_until) {
            return Some("the team's keys are not known");
        }
        (!self.known.revocations_are_good(now)).then_some("what was revoked is not known")
    }

    /// Learns what a decision needs, on the control runtime: a client that goes away stops nothing
    /// that others wait for.
    pub async fn resolve(self: &Arc<Self>, need: Need) {
        let access = Arc::clone(self);
        let learned = self.runtime.spawn(async move {
            match need {
                Need::Keys => access.refresh_remote_keys().await,
                Need::Identity {
                    nonce,
                    issued,
                    token,
                } => access.learn_identity(nonce, issued, &token).await,
                Need::Assertion {
                    aud,
                    common_name,
                    expires,
                } => {
                    access.assert_program(&aud, &common_name, expires).await;
                }
            }
        });
        if let Err(error) = learned.await {
            tracing::error!(%error, "learning what a decision needs failed");
        }
    }

    /// The runtime that everything which waits runs on.
    pub(crate) const fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    pub(crate) const fn seal(&self) -> &SealingKey {
        &self.seal
    }

    /// The team's signing keys; a remote team's are not ours.
    pub(crate) fn signing(&self) -> Option<Arc<SigningKeys>> {
        self.signing.load_full()
    }

    /// The `certs` document.
    pub(crate) fn jwks(&self) -> Option<Bytes> {
        let own = self.signing.load().as_ref().map(|keys| keys.jwks());
        own.or_else(|| {
            self.remote_jwks
                .load()
                .as_ref()
                .map(|jwks| (**jwks).clone())
        })
    }

    /// Puts signing keys in place, and their public halves where the engine looks for them.
    pub(super) fn publish_signing_keys(&self, keys: Arc<SigningKeys>) -> Result<(), KeyError> {
        self.publish_keys_of(self.snapshot.load().issuer(), &keys)?;
        self.signing.store(Some(keys));
        Ok(())
    }

    fn publish_keys_of(&self, issuer: &str, keys: &SigningKeys) -> Result<(), KeyError> {
        let never = UnixTime(u64::MAX);
        let public = KeySet::from_jwks(&keys.jwks())?;
        self.known.set_keys(
            issuer,
            IssuerKeys {
                keys: Some(public),
                good_until: never,
                retry_from: never,
            },
        );
        Ok(())
    }

    /// The organisation session of a browser on the team domain, where it has a good one.
    ///
    /// # Errors
    /// Where the store does not answer, or has not for too long.
    pub(crate) async fn organisation_session(
        &self,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<Option<Login>, StoreError> {
        Ok(match self.organisation(headers, now).await? {
            Organisation::SignedIn(login) => Some(login),
            Organisation::Nobody | Organisation::Conflict => None,
        })
    }

    /// Returns whose organisation session a browser has on the team domain.
    ///
    /// # Errors
    /// If the store does not answer, or has not for too long.
    pub(crate) async fn organisation(
        &self,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<Organisation, StoreError> {
        if !self.known.revocations_are_good(now) {
            return Err(StoreError::Stale);
        }
        let snapshot = self.snapshot();
        let ours = organisation_aud(&snapshot);
        let is_ours = |claims: &Claims| {
            claims.kind == Kind::Org && claims.aud.iter().any(|a| *a == *ours.as_str())
        };
        let Tokens { valid, too_many } = self.tokens(&snapshot, headers, is_ours, now).await?;
        let mut found: Option<Login> = None;
        for (_, claims) in valid {
            let Some(nonce) = claims
                .identity_nonce
                .as_deref()
                .and_then(|n| IdentityNonce::parse(n).ok())
            else {
                continue;
            };
            let Some(identity) = self.identity(nonce, now).await? else {
                continue;
            };
            let expires = identity.ends_by(claims.exp);
            if now >= expires {
                continue;
            }
            match &mut found {
                None => {
                    found = Some(Login {
                        nonce,
                        identity,
                        expires,
                    })
                }
                Some(login) if login.nonce == nonce => login.expires = login.expires.max(expires),
                Some(_) => return Ok(Organisation::Conflict),
            }
        }
        Ok(match found {
            _ if too_many => Organisation::Conflict,
            Some(login) => Organisation::SignedIn(login),
            None => Organisation::Nobody,
        })
    }

    /// Returns the logins that a browser has a session of on this host.
    ///
    /// # Errors
    /// If a revocation can be decided only with the login's record, and the store does not answer.
    pub(crate) async fn signed_in(&self, request: &PortalRequest) -> Result<Logins, StoreError> {
        let snapshot = self.snapshot();
        let Tokens { valid, too_many } = self
            .tokens(&snapshot, &request.headers, |_| true, request.now)
            .await?;
        let mut logins: Vec<SignedIn> = Vec::new();
        for (token, claims) in valid {
            let nonce = claims
                .identity_nonce
                .as_deref()
                .and_then(|n| IdentityNonce::parse(n).ok());
            let Some(nonce) =
                nonce.filter(|nonce| logins.iter().all(|login| login.nonce != *nonce))
            else {
                continue;
            };
            let email = claims.email.and_then(|email| Email::parse(&email).ok());
            let (user, issued, expires) = (UserId(claims.sub.into()), claims.iat, claims.exp);
            logins.push(SignedIn {
                nonce,
                email,
                user,
                issued,
                expires,
                token: Secret::new(token),
            });
        }
        Ok(Logins {
            found: logins,
            are_incomplete: too_many,
        })
    }

    /// Returns every valid token among a request's cookies that was not revoked and fits, with its
    /// claims.
    async fn tokens<'a>(
        &self,
        snapshot: &Snapshot,
        headers: &'a HeaderMap,
        fits: impl Fn(&Claims) -> bool,
        now: UnixTime,
    ) -> Result<Tokens<'a>, StoreError> {
        let (mut verified, mut too_many) = (Vec::new(), false);
        let issuer = self
            .known
            .keys(snapshot.issuer())
            .filter(|keys| now < keys.good_until);
        if let Some(keys) = issuer.as_ref().and_then(|issuer| issuer.keys.as_ref()) {
            let mut candidates = Candidates::default();
            for token in cookie::octets(headers, cookie::AUTHORIZATION) {
                match candidates.judge(token, Some(keys), snapshot.issuer(), &fits, now) {
                    Candidate::Unverified { text, token } => {
                        let token =
                            token.verify(keys, snapshot.issuer(), now, snapshot.team().leeway);
                        verified.extend(token.ok().map(|token| (text, token.into_claims())));
                    }
                    Candidate::Hopeless => {}
                    Candidate::TooMany => too_many = true,
                }
            }
        }
        let mut valid = Vec::with_capacity(verified.len());
        for (token, claims) in verified {
            if !self.is_revoked(&claims, now).await? {
                valid.push((token, claims));
            }
        }
        Ok(Tokens { valid, too_many })
    }

    /// Returns `true` if a revocation covers the token. The record of its login is read only if
    /// that depends on it.
    async fn is_revoked(&self, claims: &Claims, now: UnixTime) -> Result<bool, StoreError> {
        let nonce = claims
            .identity_nonce
            .as_deref()
            .and_then(|n| IdentityNonce::parse(n).ok());
        let aud: Vec<Aud> = claims
            .aud
            .iter()
            .filter_map(|a| Aud::parse(a).ok())
            .collect();
        let (user, issued) = (UserId(claims.sub.as_str().into()), claims.iat);
        let cover = |login| {
            let presented = Presented {
                nonce,
                user: &user,
                aud: &aud,
                issued,
                login,
            };
            self.running().revocations().cover(presented)
        };
        let Some(nonce) = nonce else {
            return Ok(cover(Some(LoginOrder {
                revision: 0,
                at: issued,
            })) != Truth::False);
        };
        let covered = match cover(self.known_identity(nonce).map(|identity| identity.order())) {
            Truth::Unknown => match self.identity(nonce, now).await? {
                Some(identity) => cover(Some(identity.order())),
                None => Truth::True,
            },
            known => known,
        };
        Ok(covered != Truth::False)
    }

    /// The identity record behind a login.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub(crate) async fn identity(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        match self.known.identity(&nonce) {
            Some(IdentityState::Known(identity) | IdentityState::Borrowed { identity, .. }) => {
                return Ok(Some(identity));
            }
            Some(IdentityState::Missing | IdentityState::Refused { .. }) => return Ok(None),
            Some(IdentityState::Unavailable { .. }) | None => {}
        }
        // A remote team's records are not in our store, and that they are not there says nothing.
        if self.services().remote.is_some() {
            return Ok(None);
        }
        let found = self
            .store
            .identity(&nonce)
            .await
            .inspect_err(|error| self.store_failed(error));
        let (state, result) = match found {
            Ok(Some(identity)) => match self.freshened(nonce, Arc::new(identity), now).await {
                Some(identity) => (
                    IdentityState::Known(Arc::clone(&identity)),
                    Ok(Some(identity)),
                ),
                None => (IdentityState::Missing, Ok(None)),
            },
            Ok(None) => (IdentityState::Missing, Ok(None)),
            Err(error) => (
                IdentityState::Unavailable {
                    retry_from: now.after(RETRY_IDENTITY),
                },
                Err(error),
            ),
        };
        self.known.found_identity(nonce, state);
        result
    }

    /// The time from which on a revocation that is made now concerns nothing any more. If this
    /// machine's clock is behind, the store's time counts: deletions go by that.
    pub(super) fn forget_from(&self, now: UnixTime) -> UnixTime {
        now.max(self.store_watch.time()).after(LONGEST_LIVED)
    }

    pub(super) async fn revoke(
        &self,
        revocation: Revocation,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let forget = self.forget_from(now);
        let revision = self
            .store
            .revoke(&revocation, forget)
            .await
            .inspect_err(|error| self.store_failed(error))?;
        self.publisher.apply(
            &self.snapshot,
            [Revoked {
                revision,
                revocation,
                ordered: true,
                expires: forget,
            }],
        );
        Ok(())
    }
}

/// What seals everything that a browser or an administrator is given and brings back.
pub(crate) async fn sealing_key(store: &dyn Store) -> Result<SealingKey, StartError> {
    Ok(SealingKey::new(&*store.secret("seal").await?)?)
}

/// The audience of organisation sessions: no application has it.
pub(crate) fn organisation_aud(snapshot: &Snapshot) -> Aud {
    Aud::derive(&["organisation", snapshot.issuer()])
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("generation", &self.snapshot.load().generation())
            .finish_non_exhaustive()
    }
}

/// No configuration lets a token live longer: thirty days of the team's session, and as many of an
/// application's after it.
pub(super) const LONGEST_LIVED: Duration = Duration::from_secs(61 * 24 * 3600);
const ASKING: Duration = Duration::from_secs(60);
const MAX_ASKED_ABOUT: u64 = 1_000_000;
const RETRY_IDENTITY: Duration = Duration::from_secs(2);
