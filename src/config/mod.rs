//! Configuration: one TOML file, read into types that need no further checking.
//!
//! Decides what every setting means and what it is where it is left out. Trusts the file and what
//! it refers to: environment variables, secret files, certificates. Never stops at the first
//! mistake: all are collected, each with its place and what would be right; never ignores a key;
//! never shows a secret.

mod applications;
mod certificates;
mod cors;
mod document;
mod errors;
mod evaluations;
mod geo;
mod listeners;
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

/// Everything that a configuration file says, with the defaults filled in and paths made relative
/// to its folder.
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
    /// The database of countries; none by default.
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

/// A configuration that can be used, and what is worth knowing about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In the order of the file.
    pub warnings: Vec<Problem>,
    /// Line and column of each listener's certificate, for messages about it; none for a listener
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
    /// The way to the key.
    pub key: String,
    /// Line and column of the value.
    pub position: Option<(usize, usize)>,
    /// The file.
    pub path: PathBuf,
    /// Its certificates, in their order.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Reads a configuration file of at most 4 MiB.
///
/// # Errors
/// Every mistake that was found, in the order of the file.
pub fn load(path: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    load_for(path, env, Deployment::Standalone)
}

/// The same for a proxy of one's own, which listens and picks its origins itself: `[[listen]]` and
/// an application's `origin` may be left out. `[team]` then names the scheme and port that browsers
/// use: HTTPS, unless `[insecure] plain_http` is on.
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

/// Reads a configuration from text. `file` is named in messages, and its folder is what relative
/// paths start from.
///
/// # Errors
/// Every mistake that was found, in the order of the file. Where the syntax is wrong, only that:
/// the rest could be misread.
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
