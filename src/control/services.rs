//! The part of a configuration that the control path and the portal use, beside the snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::{CountryFile, Evaluations};
use crate::idp::Provider;
use crate::observe::audit::Sample;

/// The part of a configuration that logins and background tasks use.
pub struct Services {
    /// The identity providers.
    pub providers: Vec<Provider>,
    /// The signer of the team's tokens.
    pub issuer: IssuerSettings,
    /// `https://<team domain>`.
    pub team_url: String,
    /// The duration of an organisation session.
    pub team_session: Duration,
    /// The time for which the identity record of a login is kept.
    pub identity_lifetime: Duration,
    /// The longest lifetime of a token.
    pub token_lifetime: Duration,
    /// The time for which sessions stay valid while the store does not answer; `None` if the store
    /// holds no revocations of other processes.
    pub revocations_max_stale: Option<Duration>,
    /// The accepted difference between clocks.
    pub leeway: Duration,
    /// The share of allowed requests that are audited.
    pub sample: Sample,
    /// `true` if the audit events of logins include groups, authentication methods and claims.
    pub audit_identity: bool,
    /// The evaluation services that the applications' policies name.
    pub evaluations: Evaluations,
    /// The country database, if one is configured.
    pub countries: Option<Arc<CountryFile>>,
    /// Further files of the configuration: it is reloaded when one of them changes.
    pub watched: Vec<PathBuf>,
}

/// The configured signer of the team's tokens. It does not change while the process runs.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a process holds one or two")]
pub enum IssuerSettings {
    /// This process.
    Local,
    /// Another team. Its tokens are valid here, and users log in there.
    Remote(RemoteTeam),
}

/// The endpoints of a remote team, and the time for which its keys are trusted.
#[derive(Clone, Debug)]
pub struct RemoteTeam {
    /// The JWKS.
    pub certs_url: Url,
    /// The endpoint of identities: `https://<team domain>/cdn-cgi/access/get-identity`.
    pub identity_url: Url,
    /// The endpoint that redeems hand-overs: `https://<team domain>/cdn-cgi/access/authorized`.
    pub authorized_url: Url,
    /// The age up to which keys are used while they cannot be fetched.
    pub max_stale: Duration,
}

impl IssuerSettings {
    /// Returns the address of a remote team's keys.
    pub(super) const fn certs_url(&self) -> Option<&Url> {
        match self {
            Self::Local => None,
            Self::Remote(team) => Some(&team.certs_url),
        }
    }
}
