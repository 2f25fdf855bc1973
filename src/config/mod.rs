//! Configuration: documents, read into types that need no further checking.
//!
//! Decides the meaning and the default of every setting. Trusts the file and everything that it
//! refers to: environment variables, secret files, certificates. Never stops at the first mistake:
//! reports all, each with its position and correction. Never ignores a key, and never shows a
//! secret.

mod applications;
mod certificates;
mod cors;
mod document;
mod errors;
mod evaluations;
mod geo;
mod groups;
mod listeners;
mod lists;
mod node;
mod origins;
mod outgoing;
mod policies;
mod provider_urls;
mod providers;
mod reader;
mod rules;
mod saml;
mod secrets;
mod server;
mod service_tokens;
mod source;
mod team;
mod unique;
mod values;
mod whole;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use crate::catalog::Kind;

pub use crate::catalog::{
    Allowed, Application, ApplicationPolicy, Catalog, ClientAuthority, ClientConfig,
    ClientCredentials, Cors, Domain, EncryptionKey, HealthCheck, IdentityProvider, IdpKind,
    OidcConfig, OktaConfig, Origin, OriginScheme, OriginSettings, SamlConfig, Team,
};
pub use document::{Document, DocumentName};
pub use errors::{Errors, Problem};
pub use geo::Geo;
pub(crate) use origins::UNJUDGED_UPGRADES;
pub use outgoing::Outgoing;
pub use secrets::{Environment, FileContent, Offline, System};
pub use server::{
    Audit, Hsts, Insecure, Limits, Listen, RedirectListener, ServerSettings, StoreConfig, Tls,
};
pub use source::{File, Source};

use reader::{Deployment, Reader};

/// A checked configuration, with its defaults filled in and its paths relative to the folder of the
/// file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The configured objects.
    pub catalog: Catalog,
    /// The store of everything that must survive a restart.
    pub store: StoreConfig,
    /// The listeners; at least one, unless the configuration is for an embedding proxy.
    pub listen: Vec<Listen>,
    /// The listeners that redirect plain HTTP to HTTPS; none by default.
    pub redirects: Vec<RedirectListener>,
    /// The address of metrics and health, on plain HTTP and for every client; none by default.
    pub metrics: Option<SocketAddr>,
    /// The country database; none by default.
    pub geo: Option<Geo>,
    /// The settings of calls to identity providers and other services.
    pub outgoing: Outgoing,
    /// The limits of requests.
    pub limits: Limits,
    /// The settings of the process.
    pub server: ServerSettings,
    /// The settings of the audit log.
    pub audit: Audit,
    /// The checks that were switched off.
    pub insecure: Insecure,
}

/// A valid configuration, its warnings, and the positions that later messages need.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The warnings in the order of the documents.
    pub warnings: Vec<Problem>,
    /// Line and column of each listener's certificate, for messages about it; `None` for a listener
    /// without TLS.
    pub certificates: Vec<Option<(usize, usize)>>,
    /// The files of certificate authorities, for messages about them.
    pub authorities: Vec<AuthorityFile>,
    /// The origin of each object.
    pub provenance: HashMap<(Kind, String), Provenance>,
}

/// The origin of an object: it can only be changed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The document.
    pub document: DocumentName,
    /// The line, from 1; `None` in JSON.
    pub line: Option<usize>,
}

/// A file of certificate authorities, and the key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFile {
    /// The key.
    pub key: String,
    /// Line and column of the value.
    pub position: Option<(usize, usize)>,
    /// The file.
    pub path: PathBuf,
    /// Its certificates, in the order of the file.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Loads a configuration file of at most 4 MiB.
///
/// # Errors
/// Every mistake, in the order of the file.
pub fn load(path: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    load_for(path, env, Deployment::Standalone)
}

/// Loads the configuration of an embedding proxy, which has listeners and origins of its own:
/// `[[listen]]` and an application's `origin` are optional.
///
/// `[team]` names the scheme and port that browsers use: HTTPS, except with `[insecure]
/// plain_http`.
///
/// # Errors
/// As for [`load`].
pub fn load_embedded(path: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    load_for(path, env, Deployment::Embedded)
}

fn load_for(path: &Path, env: &dyn Environment, deployment: Deployment) -> Result<Loaded, Errors> {
    check_for(&File::new(path).documents()?, env, deployment)
}

/// Loads a configuration from several sources, one of which has the file.
///
/// # Errors
/// Every source that cannot be read; otherwise every mistake, as for [`check`].
pub fn load_from(sources: &[&dyn Source], env: &dyn Environment) -> Result<Loaded, Errors> {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    for source in sources {
        match source.documents() {
            Ok(read) => documents.extend(read),
            Err(Errors(errors)) => problems.extend(errors),
        }
    }
    if problems.is_empty() {
        check(&documents, env)
    } else {
        Err(Errors(problems))
    }
}

/// Parses a configuration in TOML. `file` is its name in messages, and its folder is the start of
/// relative paths.
///
/// # Errors
/// Every mistake, in the order of the file; with a syntax error, the syntax errors alone.
pub fn parse(text: &str, file: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    check(&[Document::toml(text.to_owned(), file)?], env)
}

/// Checks a configuration together with objects from other sources, as one whole.
///
/// There is no check of a single object: a change can invalidate another object, as when a group
/// of a bypass policy gets a rule about email addresses. So a change is checked as the
/// configuration that it results in.
///
/// # Errors
/// Every mistake that was found, in the order of the documents. Without a configuration among the
/// documents, the list is empty.
pub fn check(documents: &[Document], env: &dyn Environment) -> Result<Loaded, Errors> {
    check_for(documents, env, Deployment::Standalone)
}

fn check_for(
    documents: &[Document],
    env: &dyn Environment,
    deployment: Deployment,
) -> Result<Loaded, Errors> {
    let reader = Reader::new(documents, env, deployment);
    let read = whole::read(&reader);
    let failed = reader.has_errors();
    let authorities = reader.authorities();
    let provenance = reader.provenance();
    let (errors, warnings) = reader.outcome();
    match read {
        Some((config, certificates)) if !failed => Ok(Loaded {
            config,
            warnings,
            certificates,
            authorities,
            provenance,
        }),
        _ => Err(Errors(errors)),
    }
}

#[cfg(test)]
mod tests;
