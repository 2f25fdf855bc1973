use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::login::{self, Destination};
use super::respond::WaysOn;
use super::{idp_test, refresh, respond};
use crate::control::{Access, organisation_aud};
use crate::engine::{Application, Snapshot};
use crate::idp::LoginFailure;
use crate::login::{PortalRequest, State};
use crate::model::{CleanPath, IdpId};
use crate::route::Endpoint;

/// What a browser is at a provider for.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    /// A page of an application.
    Application(Destination),
    /// What is known of the person is to be brought up to date.
    Refresh,
    /// The provider is tried out; nobody gets a session.
    Test,
}

impl Errand {
    /// The application may have changed since the login began; what is gone is gone.
    pub(super) fn of(snapshot: &Snapshot, state: &State) -> Option<Self> {
        if state.aud == organisation_aud(snapshot) {
            let page = CleanPath::parse(state.to.as_str()).ok()?;
            return match Endpoint::for_path(&page).ok()?? {
                Endpoint::RefreshIdentity => Some(Self::Refresh),
                Endpoint::TestIdp => Some(Self::Test),
                _ => None,
            };
        }
        let application = snapshot.application(&state.aud)?;
        let destination = application
            .settings()
            .domain
            .covers_host(&state.host)
            .then(|| Destination {
                application: Arc::clone(application),
                host: state.host.clone(),
                to: state.to.clone(),
                app_session: state.app_session.clone(),
            });
        destination.map(Self::Application)
    }

    /// Where the browser begins the same anew. A test takes another link.
    pub(super) fn again(&self, access: &Access) -> Option<String> {
        match self {
            Self::Application(destination) => Some(login::again(&access.services(), destination)),
            Self::Refresh => Some(refresh::url(access)),
            Self::Test => None,
        }
    }

    pub(super) fn application(&self) -> Option<&Application> {
        match self {
            Self::Application(destination) => Some(&destination.application),
            Self::Refresh | Self::Test => None,
        }
    }

    /// The login ended because the store did not answer.
    pub(super) fn unavailable(
        &self,
        access: &Access,
        idp: Option<&IdpId>,
        request: &PortalRequest,
    ) -> Response<Bytes> {
        if !matches!(self, Self::Test) {
            access.login_unavailable(idp, self.application(), request);
        }
        respond::unavailable_then(request, self.again(access).as_deref())
    }

    /// Nobody was logged in.
    pub(super) fn failed(
        &self,
        access: &Access,
        (failure, idp): (&LoginFailure, &IdpId),
        request: &PortalRequest,
    ) -> Response<Bytes> {
        if matches!(self, Self::Test) {
            return idp_test::failed(access, (failure, idp), request);
        }
        access.login_failed(failure, Some(idp), self.application(), request);
        let again = self.again(access);
        let switch = self
            .application()
            .and(again.as_ref())
            .map(|again| format!("{again}&switch=1"));
        respond::failed(
            request,
            failure,
            WaysOn {
                again: again.as_deref(),
                switch: switch.as_deref(),
            },
        )
    }
}
