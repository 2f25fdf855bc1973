//! The team's own signing keys: their creation, rotation and publication.
//!
//! Decides the life of a key. Trusts the store and the given moment. Never publishes a private key.
//! Never signs with a key that verifiers may not have fetched, while there is another. Never drops
//! the current keys because a new one could not be created.
//!
//! Two keys are always published: the one that signs and one more. After a rotation the other one
//! is the *previous* key for as long as its tokens can be valid, at least seven days. Then it is
//! the *next* key. With sessions of a week or less:
//!
//! ```text
//!          made      signs            still published
//! key A    start     day  0 to 42     to day 49, then deleted
//! key B    start     day 42 to 84     to day 91, then deleted
//! key C    day 49    day 84 to 126    …
//! key D    day 91    …
//! ```
//!
//! With sessions of 30 days, the maximum, key A stays to day 72 and key C is created then. So a key
//! has been in the JWKS for at least twelve days before the first token names it. A verifier that
//! fetches once a day, as cloudflared does, never meets an unknown `kid`. A key that had to be
//! created out of turn waits [`KNOWN_AFTER`] while any other is published. On the first start both
//! keys are new and the older of them signs at once, because no verifier has an earlier JWKS.
//!
//! All moments are in the store and the choice is a function of them, so the nodes of a team rotate
//! together. If two nodes create a key at the same moment, the surplus key waits its turn.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, date_time_ymd,
};
use serde::Serialize;
use serde_json::json;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::model::{Secret, UnixTime};
use crate::store::{Cause, KeyRepository, StoreError, StoredKey};
use crate::token::{SigningKey, SigningKeyError};

/// The period for which a key signs: six weeks.
pub const SIGNS_FOR: Duration = Duration::from_secs(42 * DAY);
/// The least time for which it is published after that, so that its tokens still verify: a week.
pub const PUBLISHED_FOR: Duration = Duration::from_secs(7 * DAY);
/// The time in the JWKS after which verifiers are assumed to have fetched a key.
pub const KNOWN_AFTER: Duration = Duration::from_secs(3600);
/// The period of [`SigningKeys::load_or_create`].
pub const CHECK_EVERY: Duration = Duration::from_secs(300);

const DAY: u64 = 24 * 3600;
/// The number of keys in the JWKS. There are more if nodes created some at the same moment.
const PUBLISHED: usize = 2;

/// The published keys and the one that signs, as of one moment. Immutable: a later moment has a new
/// value.
pub struct SigningKeys {
    signer: SigningKey,
    jwks: Bytes,
    kids: Vec<Box<str>>,
}

/// The reason why there are no signing keys.
#[derive(Debug, Error)]
pub enum SigningKeysError {
    /// The store did not answer.
    #[error("the signing keys could not be loaded or saved")]
    Store(#[from] StoreError),
    /// A key could not be made or read.
    #[error("a signing key could not be used")]
    Key(#[from] SigningKeyError),
    /// A certificate could not be made, or the task that makes keys died.
    #[error("a signing key could not be generated")]
    Make(#[source] Cause),
}

/// The facts about a key that the plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its id.
    pub kid: Box<str>,
    /// The moment of its creation and publication.
    pub made: UnixTime,
    /// The moment from which it signs no new token; `None` if it has not signed yet.
    pub retired: Option<UnixTime>,
}

/// The actions that the keys need, in this order: make, schedule, delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// The number of keys to create.
    pub make: usize,
    /// A key that signs and has no end yet, with the end to set.
    pub schedule: Option<(Box<str>, UnixTime)>,
    /// Keys whose tokens have all expired.
    pub delete: Vec<Box<str>>,
}

/// Returns the actions that the keys need now, if tokens live for `lifetime`; none once these are
/// done. `seen` is the store's own time: a key is deleted only if it has expired by that time, too.
pub fn plan(keys: &[KeyFacts], lifetime: Duration, now: UnixTime, seen: UnixTime) -> Actions {
    let published_for = lifetime.max(PUBLISHED_FOR);
    let is_over = |key: &KeyFacts| {
        key.retired
            // A clock that is far ahead must not delete keys of valid tokens. The store's time
            // advances by small steps only.
            .is_some_and(|at| at.after(published_for) <= now.min(seen))
    };
    let (over, stay): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(is_over);
    let make = PUBLISHED.saturating_sub(stay.len());
    // If none is left, the choice is among keys that do not exist yet: the next plan makes it.
    let signer = signer(&stay, now).filter(|key| key.retired.is_none());
    Actions {
        make,
        schedule: signer.map(|key| (key.kid.clone(), now.after(SIGNS_FOR))),
        delete: over.into_iter().map(|key| key.kid).collect(),
    }
}

/// Returns the key that signs: the oldest unretired one that verifiers know. If there is none: the
/// newest that they know, and on a first start the oldest.
pub fn signer(keys: &[KeyFacts], now: UnixTime) -> Option<&KeyFacts> {
    let age = |key: &&KeyFacts| (key.made, key.kid.clone());
    let known = |key: &&KeyFacts| key.made.after(KNOWN_AFTER) <= now;
    let live = |key: &&KeyFacts| key.retired.is_none_or(|at| at > now);
    let all = || keys.iter();
    all()
        // The oldest key first, so that all nodes choose the same one, whatever the order of
        // creation.
        .filter(|key| live(key) && known(key))
        .min_by_key(age)
        .or_else(|| all().filter(known).max_by_key(age))
        .or_else(|| all().filter(live).min_by_key(age))
        .or_else(|| all().max_by_key(age))
}

impl SigningKeys {
    /// Reads the keys, executes their [`plan`], and prepares the documents to publish. Call it at
    /// start and every [`CHECK_EVERY`]; the result replaces the last one. RSA keys are generated on
    /// a thread for blocking work. `lifetime` is the time for which a token is valid after it was
    /// signed; with more than 41 days new keys would be late. `seen` is the store's own time, from
    /// [`Maintenance::advance_clock`](crate::store::Maintenance::advance_clock).
    ///
    /// # Errors
    /// If the store does not answer, or contains a key that cannot be read. The last keys stay
    /// valid.
    pub async fn load_or_create(
        store: &dyn KeyRepository,
        lifetime: Duration,
        now: UnixTime,
        seen: UnixTime,
    ) -> Result<Self, SigningKeysError> {
        let mut keys = store.signing_keys().await?;
        // The second round schedules a key of the first; a third has nothing to do.
        for _ in 0..3 {
            let actions = plan(&facts(&keys), lifetime, now, seen);
            if actions == Actions::default() {
                break;
            }
            execute(store, actions, &keys, now).await?;
            keys = store.signing_keys().await?;
        }
        Self::prepare(keys, now).await
    }

    /// Reads the keys and prepares the documents to publish, without a change in the store.
    ///
    /// # Errors
    /// If the store does not answer, or a key in it cannot be read. The last keys stay valid.
    pub async fn load(store: &dyn KeyRepository, now: UnixTime) -> Result<Self, SigningKeysError> {
        Self::prepare(store.signing_keys().await?, now).await
    }

    async fn prepare(keys: Vec<StoredKey>, now: UnixTime) -> Result<Self, SigningKeysError> {
        blocking(move || {
            let facts = facts(&keys);
            let signing = signer(&facts, now)
                .map(|key| key.kid.clone())
                .unwrap_or_default();
            let mut pairs = keys
                .iter()
                .map(|key| {
                    Ok((
                        SigningKey::from_pkcs8(&key.pkcs8)?,
                        key.certificate_pem.as_str(),
                    ))
                })
                .collect::<Result<Vec<_>, SigningKeyError>>()?;
            pairs.sort_by_key(|(pair, _)| pair.kid() != &*signing);
            let jwks = document(&pairs);
            let kids = pairs.iter().map(|(pair, _)| pair.kid().into()).collect();
            let signer = pairs.into_iter().next().map(|(pair, _)| pair);
            let signer =
                signer.ok_or_else(|| SigningKeysError::Make("the store keeps none".into()))?;
            Ok(Self { signer, jwks, kids })
        })
        .await
    }

    /// Returns the `certs` document: the keys as JWKs and as certificates, the one that signs first.
    pub fn jwks(&self) -> Bytes {
        self.jwks.clone()
    }

    /// Returns the ids of the published keys, the one that signs first.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.kids.iter().map(AsRef::as_ref)
    }

    /// Returns the key that signs, for documents that are not tokens.
    pub(crate) const fn signer(&self) -> &SigningKey {
        &self.signer
    }

    /// Signs claims with the current key. Takes about a millisecond of processor time.
    ///
    /// # Errors
    /// If the claims are not JSON or the signature fails; neither happens with a sound key.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SigningKeyError> {
        self.signer.sign(claims)
    }
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKeys").field(&self.kids).finish()
    }
}

async fn execute(
    store: &dyn KeyRepository,
    actions: Actions,
    keys: &[StoredKey],
    now: UnixTime,
) -> Result<(), SigningKeysError> {
    let Actions {
        make,
        schedule,
        delete,
    } = actions;
    // New keys are stored before old ones are deleted, so that an error in between leaves too many
    // and never too few.
    for _ in 0..make {
        store
            .put_signing_key(&blocking(move || generate(now)).await?)
            .await?;
    }
    if let Some((kid, end)) = schedule
        && let Some(key) = keys.iter().find(|key| key.kid == kid)
    {
        store
            .put_signing_key(&StoredKey {
                retired: Some(end),
                ..key.clone()
            })
            .await?;
    }
    for kid in delete {
        store.delete_signing_key(&kid).await?;
    }
    Ok(())
}

fn generate(now: UnixTime) -> Result<StoredKey, SigningKeysError> {
    let key = SigningKey::generate()?;
    let pkcs8 = key.to_pkcs8()?;
    let certificate_pem = certify(&pkcs8, key.kid(), now).map_err(SigningKeysError::Make)?;
    Ok(StoredKey {
        kid: key.kid().into(),
        pkcs8,
        certificate_pem,
        made: now,
        retired: None,
    })
}

/// Returns a certificate for the public key. Verifiers ignore everything else in it, so its
/// validity only has to cover the key's life.
fn certify(pkcs8: &Secret, kid: &str, now: UnixTime) -> Result<String, Cause> {
    let der = Zeroizing::new(URL_SAFE_NO_PAD.decode(pkcs8.expose())?);
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der.as_slice().into(), &PKCS_RSA_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, kid);
    let year_2200 = 7_258_118_400;
    let made = date_time_ymd(1970, 1, 1) + Duration::from_secs(now.0.min(year_2200));
    params.not_before = made - Duration::from_secs(DAY);
    params.not_after = made + Duration::from_secs(3650 * DAY);
    Ok(params.self_signed(&pair)?.pem())
}

fn document(keys: &[(SigningKey, &str)]) -> Bytes {
    let certificates: Vec<_> = keys
        .iter()
        .map(|(key, pem)| json!({"kid": key.kid(), "cert": pem}))
        .collect();
    let document = json!({
        "keys": keys.iter().map(|(key, _)| key.to_jwk()).collect::<Vec<_>>(),
        "public_cert": certificates.first(),
        "public_certs": certificates,
    });
    document.to_string().into()
}

fn facts(keys: &[StoredKey]) -> Vec<KeyFacts> {
    keys.iter()
        .map(|key| KeyFacts {
            kid: key.kid.clone(),
            made: key.made,
            retired: key.retired,
        })
        .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SigningKeysError> + Send + 'static,
) -> Result<T, SigningKeysError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SigningKeysError::Make(error.into()))?
}

#[cfg(test)]
pub(super) mod tests;
