use std::sync::Arc;

use super::{ReturnTo, State};
use crate::engine::{Application, Snapshot};
use crate::model::{Aud, CleanPath};
use crate::route::Endpoint;

/// The reason for which a browser was sent to an identity provider.
#[derive(Clone, Debug)]
pub(crate) enum LoginPurpose {
    /// A page of an application.
    Application(Destination),
    /// A newer identity for the browser's session, at `refresh-identity`.
    IdentityRefresh,
    /// A trial of the provider, at `test-idp`. It opens no session.
    ProviderTrial,
}

/// The page of an application to which a login leads.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) application: Arc<Application>,
    /// The application's host, as the browser names it.
    pub(crate) host: String,
    pub(crate) to: ReturnTo,
    /// The hash of the browser's cookie on that host, which binds the hand-over. Without one the
    /// browser goes to the page, and the login begins there.
    pub(crate) app_session: Option<String>,
}

impl LoginPurpose {
    /// Returns the purpose of a login that began earlier; `None` if its application no longer
    /// exists or no longer has the host.
    pub(crate) fn of(state: &State, snapshot: &Snapshot) -> Option<Self> {
        if state.aud == organisation_aud(snapshot) {
            let path = CleanPath::parse(state.to.as_str()).ok()?;
            return match Endpoint::of(&path).ok()?? {
                Endpoint::RefreshIdentity => Some(Self::IdentityRefresh),
                Endpoint::TestIdp => Some(Self::ProviderTrial),
                _ => None,
            };
        }
        let application = snapshot.application(&state.aud)?;
        if !application.settings().domain.covers_host(&state.host) {
            return None;
        }
        Some(Self::Application(Destination {
            application: Arc::clone(application),
            host: state.host.clone(),
            to: state.to.clone(),
            app_session: state.app_session.clone(),
        }))
    }

    pub(crate) fn application(&self) -> Option<&Application> {
        match self {
            Self::Application(destination) => Some(&destination.application),
            Self::IdentityRefresh | Self::ProviderTrial => None,
        }
    }

    /// Returns the URL at which the browser starts the same login again; `None` for a trial, which
    /// needs a new link.
    pub(crate) fn restart_url(&self, team_url: &str) -> Option<String> {
        match self {
            Self::Application(destination) => Some(destination.login_url(team_url)),
            Self::IdentityRefresh => Some(format!("{team_url}{}", refresh_path())),
            Self::ProviderTrial => None,
        }
    }
}

impl Destination {
    /// Returns the URL of a login to the same page, bound to no cookie.
    pub(crate) fn login_url(&self, team_url: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("kid", self.application.aud().as_str())
            .append_pair("redirect_url", self.to.as_str());
        format!(
            "{team_url}{}/login/{}?{}",
            Endpoint::PREFIX,
            self.host,
            query.finish()
        )
    }
}

/// Returns the audience of organisation sessions. No application has it.
pub(crate) fn organisation_aud(snapshot: &Snapshot) -> Aud {
    Aud::derive(&["organisation", snapshot.issuer()])
}

/// Returns the path of `refresh-identity`.
pub(crate) fn refresh_path() -> String {
    format!("{}/refresh-identity", Endpoint::PREFIX)
}
