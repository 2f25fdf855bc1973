use std::sync::Arc;

use super::linked_token::{LinkedToken, linked_token};
use super::permit::Authorization;
use super::service_client::ServiceClient;
use super::service_tokens::PresentedToken;
use super::steps::Presented;
use super::{Application, Need, Snapshot, client_ca};
use crate::model::{ClientCertificate, RequestView, UnixTime};
use crate::policy::{Fact, Facts};

/// Facts about the client of a request, apart from a session.
pub(super) struct ClientFacts<'a> {
    token: PresentedToken<'a>,
    certificate: Fact<&'a Arc<ClientCertificate>>,
    linked: LinkedToken<'a>,
    authorization: Authorization,
    is_service_auth: bool,
}

impl<'a> ClientFacts<'a> {
    /// Reads the facts that the application requires.
    ///
    /// # Errors
    ///
    /// The need that must be met first.
    pub(super) fn read(
        snapshot: &'a Snapshot,
        application: &Application,
        request: &RequestView<'a>,
        now: UnixTime,
    ) -> Result<Self, Need> {
        let asks = &application.required;
        let token = snapshot.service_tokens().presented(request.headers, now);
        let certificate = if asks.certificate {
            client_ca::certificate(
                snapshot.client_cas(),
                &request.authority.host,
                request.tls,
                now,
            )
        } else {
            Fact::Unknown
        };
        let (mut linked, mut authorization) = (LinkedToken::Absent, Authorization::Origin);
        if !asks.linked.is_empty() {
            (linked, authorization) = linked_token(snapshot, &asks.linked, request, now)?;
        }
        // A valid credential does not make up for an invalid one.
        if matches!(token, PresentedToken::Rejected(..)) {
            linked = LinkedToken::Absent;
        }
        Ok(Self {
            token,
            certificate,
            linked,
            authorization,
            is_service_auth: asks.certificate_of_service_clients,
        })
    }

    /// Returns the same as facts for policies.
    pub(super) fn facts<'f>(
        &'f self,
        snapshot: &'f Snapshot,
        request: &RequestView<'f>,
        now: UnixTime,
    ) -> Facts<'f> {
        let service_token = match &self.token {
            PresentedToken::Valid(token) => Fact::Present(&*token.id),
            // A rejected token counts as absent here. The steps of a decision deny the request
            // later.
            PresentedToken::Absent | PresentedToken::Rejected(..) => Fact::Absent,
        };
        let certificate = match &self.certificate {
            Fact::Unknown => Fact::Unknown,
            Fact::Absent => Fact::Absent,
            Fact::Present(certificate) => Fact::Present(&*certificate.common_name),
        };
        let linked_app = match &self.linked {
            LinkedToken::Absent => Fact::Absent,
            LinkedToken::Valid { application, .. } => {
                Fact::Present(application.settings().id.as_str())
            }
            LinkedToken::Unknown(_) => Fact::Unknown,
        };
        let facts = Facts::new(request.client, request.method, now, snapshot.countries());
        Facts {
            service_token,
            certificate,
            linked_app,
            ..facts
        }
    }

    /// Returns the service client. A credential that was sent on purpose has precedence over the
    /// certificate of the connection.
    pub(super) fn service_client(&self) -> Option<ServiceClient> {
        match (&self.token, &self.linked, &self.certificate) {
            (PresentedToken::Valid(token), _, _) => {
                Some(ServiceClient::ServiceToken(Arc::clone(token)))
            }
            (
                _,
                LinkedToken::Valid {
                    application,
                    session,
                    ..
                },
                _,
            ) => Some(ServiceClient::LinkedApp {
                application: Arc::clone(application),
                session: Arc::clone(session),
            }),
            (_, _, Fact::Present(certificate)) if self.is_service_auth => {
                Some(ServiceClient::Certificate(Arc::clone(certificate)))
            }
            _ => None,
        }
    }

    /// Returns the service client that presented a credential, valid or not. For a rejected service
    /// token it is the owner of its client id, if there is one.
    pub(super) fn identified(&self) -> Option<ServiceClient> {
        match &self.token {
            PresentedToken::Rejected(_, token) => {
                token.map(|token| ServiceClient::ServiceToken(Arc::clone(token)))
            }
            PresentedToken::Absent | PresentedToken::Valid(_) => self.service_client(),
        }
    }

    /// Returns the state of the service token.
    pub(super) const fn service_token(&self) -> Presented {
        match self.token {
            PresentedToken::Absent => Presented::Absent,
            PresentedToken::Valid(_) => Presented::Valid,
            PresentedToken::Rejected(reason, _) => Presented::Rejected(reason),
        }
    }

    /// Returns the state of another application's token.
    pub(super) const fn linked_app(&self) -> Presented {
        match self.linked {
            LinkedToken::Absent => Presented::Absent,
            LinkedToken::Valid { .. } => Presented::Valid,
            LinkedToken::Unknown(reason) => Presented::Unknown(reason),
        }
    }

    /// Returns the recipient of `Authorization`.
    pub(super) const fn authorization(&self) -> Authorization {
        self.authorization
    }
}
