use thiserror::Error;

use crate::config::{Config, StoreConfig};
use crate::control::{StartError, sealing_key};
use crate::login::TrialLink;
use crate::model::{IdpId, UnixTime};
use crate::store::{SqliteStore, StoreError};

/// Why there is no link.
#[derive(Debug, Error)]
pub enum TestLinkError {
    /// Another team's login side has the providers.
    #[error(
        "this node has no identity providers: people log in at `{0}`, and the link is made there"
    )]
    Remote(String),
    /// Nobody but the running process knows the secret.
    #[error(
        "`[store]` is in memory, so nobody but the running process could make a link; give it a `path`"
    )]
    Memory,
    /// There is no store yet.
    #[error("there is no store `{0}` yet; start `portcullis run` with this configuration first")]
    NotRun(String),
    /// The store.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The secret.
    #[error(transparent)]
    Seal(#[from] StartError),
    /// The runtime.
    #[error("the store cannot be asked")]
    Runtime(#[source] std::io::Error),
}

/// Returns links that test a team's identity providers in a browser, each valid for ten minutes
/// (`docs/wire.md` 2.8). They are sealed with the store's secret, so access to the store's file is
/// enough to make one.
///
/// # Errors
/// See [`TestLinkError`].
pub fn test_links(config: &Config, idps: &[IdpId]) -> Result<Vec<String>, TestLinkError> {
    if config.catalog.team.certs_url.is_some() {
        return Err(TestLinkError::Remote(config.catalog.team.url()));
    }
    let StoreConfig::Sqlite { path, .. } = &config.store else {
        return Err(TestLinkError::Memory);
    };
    if !path.exists() {
        return Err(TestLinkError::NotRun(path.display().to_string()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(TestLinkError::Runtime)?.block_on(async {
        let store = SqliteStore::open(path).await?;
        let key = sealing_key(&store).await?;
        let (team, now) = (config.catalog.team.url(), UnixTime::now());
        let link = |idp| TrialLink::url(&key, &team, idp, now).map_err(StartError::from);
        Ok(idps.iter().map(link).collect::<Result<_, _>>()?)
    })
}
