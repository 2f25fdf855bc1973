use std::sync::Arc;

use super::Application;
use crate::model::{ClientCertificate, ClientId, ServiceToken, UnixTime};
use crate::session::Session;

/// A client that needs no login.
#[derive(Clone, Debug)]
pub enum ServiceClient {
    /// The holder of a service token.
    ServiceToken(Arc<ServiceToken>),
    /// The holder of a client certificate's key.
    Certificate(Arc<ClientCertificate>),
    /// Another application, on behalf of a user with a session there.
    LinkedApp {
        /// The other application.
        application: Arc<Application>,
        /// The user's session there.
        session: Arc<Session>,
    },
}

impl ServiceClient {
    /// Returns the `common_name` for the origin (`docs/wire.md` 5.3); `None` for a credential that
    /// has no name.
    pub(super) fn common_name(&self) -> Option<&str> {
        match self {
            Self::ServiceToken(token) => Some(token.client_id.as_str()),
            // Ignore certificates with a common name in the form of a client id: origins would take
            // them for a service token.
            Self::Certificate(certificate) => Some(&*certificate.common_name)
                .filter(|name| !name.is_empty() && ClientId::parse(name).is_err()),
            Self::LinkedApp { .. } => None,
        }
    }

    /// Returns the first second at which the credential is expired; `None` if it never expires.
    pub(super) fn expires(&self) -> Option<UnixTime> {
        match self {
            Self::ServiceToken(token) => token.expires_at,
            Self::Certificate(certificate) => Some(certificate.expires),
            Self::LinkedApp { session, .. } => Some(session.expires()),
        }
    }
}

/// Returns the session of the user behind a request: at this application, or at the linked one.
pub(super) fn user_session<'a>(
    session: Option<&'a Arc<Session>>,
    service_client: Option<&'a ServiceClient>,
) -> Option<&'a Arc<Session>> {
    session.or(match service_client {
        Some(ServiceClient::LinkedApp { session, .. }) => Some(session),
        Some(ServiceClient::ServiceToken(_) | ServiceClient::Certificate(_)) | None => None,
    })
}
