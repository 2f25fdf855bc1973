use thiserror::Error;

use crate::config::{Config, StoreConfig};
use crate::control::{StartError, sealing_key};
use crate::login::TrialLink;
use crate::model::{IdpId, UnixTime};
use crate::store::{SqliteStore, StoreError};

/// A failure to create a link to a test login.
#[derive(Debug, Error)]
pub enum TrialLinkError {
    /// The identity providers belong to another team.
    #[error(
        "this node has no identity providers: users sign in at `{0}`; run this command on a node of that team"
    )]
    Remote(String),
    /// The secret exists only in the memory of the running process.
    #[error("`[store]` is in memory, so no other process can create a link; set `[store] path`")]
    Memory,
    /// The store does not exist yet.
    #[error(
        "the store `{0}` does not exist yet; start `portcullis run` with this configuration first"
    )]
    NotRun(String),
    /// The store could not be read.
    #[error("cannot use the store")]
    Store(#[from] StoreError),
    /// The link could not be sealed.
    #[error(transparent)]
    Seal(#[from] StartError),
    /// The runtime could not be started.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

/// Returns links that test a team's identity providers in a browser, each valid for ten minutes
/// (`docs/wire.md` 2.8). They are sealed with a key from the store, so read access to the store's
/// file is enough to create one.
///
/// # Errors
/// See [`TrialLinkError`].
pub fn trial_links(config: &Config, idps: &[IdpId]) -> Result<Vec<String>, TrialLinkError> {
    if config.catalog.team.certs_url.is_some() {
        return Err(TrialLinkError::Remote(config.catalog.team.url()));
    }
    let StoreConfig::Sqlite { path, .. } = &config.store else {
        return Err(TrialLinkError::Memory);
    };
    if !path.exists() {
        return Err(TrialLinkError::NotRun(path.display().to_string()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(TrialLinkError::Runtime)?.block_on(async {
        let store = SqliteStore::open(path).await?;
        let key = sealing_key(&store).await?;
        let (team, now) = (config.catalog.team.url(), UnixTime::now());
        let link = |idp| TrialLink::url(&key, &team, idp, now).map_err(StartError::from);
        Ok(idps.iter().map(link).collect::<Result<_, _>>()?)
    })
}
