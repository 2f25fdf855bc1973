use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{GroupsMissing, KIND_SAML, LoginFailure, ProviderIdentity};
use crate::model::{AbsentGroups, Groups, GroupsSeen, GroupsSource, IdpId, IdpRef, UnixTime};
use crate::saml::{
    AssertionUse, AuthnRequest, Expected, Message, NoGroups, Reauthentication, RequestError,
    ServiceProvider, Verified,
};
use crate::token::SigningKey;

/// A SAML provider. It makes no calls: the browser carries every message.
#[derive(Debug)]
pub struct Saml {
    id: IdpId,
    name: String,
    provider: ServiceProvider,
    sign_request: bool,
    absent_groups: AbsentGroups,
}

/// The state of a SAML login until its response. It must always be sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamlPending {
    /// The ID of the request that the response must answer.
    #[serde(rename = "r")]
    pub request: String,
    /// The time of the request.
    #[serde(rename = "t")]
    pub at: UnixTime,
    /// As in the request.
    #[serde(rename = "f")]
    pub reauthentication: Reauthentication,
    /// The provider that the login was started with.
    #[serde(rename = "i")]
    pub idp: IdpId,
    /// The entity ID of that provider at the time.
    #[serde(rename = "e")]
    pub entity: String,
}

/// A verified SAML login, before the check for replay.
#[derive(Debug)]
pub struct VerifiedSamlLogin {
    verified: Verified,
    absent_groups: AbsentGroups,
    idp: IdpRef,
    at: UnixTime,
    ip: IpAddr,
}

impl Saml {
    /// Creates a configured SAML provider.
    pub const fn new(id: IdpId, name: String, provider: ServiceProvider) -> Self {
        Self {
            id,
            name,
            provider,
            sign_request: false,
            absent_groups: AbsentGroups::Unknown,
        }
    }

    /// Signs every request.
    #[must_use]
    pub const fn with_signed_requests(mut self) -> Self {
        self.sign_request = true;
        self
    }

    /// Sets the meaning of an assertion without the groups attribute.
    #[must_use]
    pub const fn with_absent_groups(mut self, absent_groups: AbsentGroups) -> Self {
        self.absent_groups = absent_groups;
        self
    }

    /// Returns the ID that rules and `allowed_idps` refer to.
    pub const fn id(&self) -> &IdpId {
        &self.id
    }

    /// Returns the name on the login page.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns our service provider for this identity provider.
    pub const fn provider(&self) -> &ServiceProvider {
        &self.provider
    }

    /// Returns `true` if requests are signed.
    pub const fn signs_requests(&self) -> bool {
        self.sign_request
    }

    pub(super) fn idp_ref(&self) -> IdpRef {
        IdpRef {
            id: self.id.clone(),
            kind: KIND_SAML.to_owned(),
        }
    }

    /// Starts a login. Returns the browser's next action and the state to seal into a cookie of
    /// that browser.
    ///
    /// `flow` returns with the response and has at most 80 bytes (SAML Bindings 3.4.3). `key` is
    /// the team's key, used if requests are signed.
    ///
    /// # Errors
    /// If the request cannot be signed.
    pub fn begin(
        &self,
        flow: &str,
        key: Option<&SigningKey>,
        reauthentication: Reauthentication,
        now: UnixTime,
    ) -> Result<(Message, SamlPending), LoginFailure> {
        let key = key.filter(|_| self.sign_request);
        if self.sign_request && key.is_none() {
            return Err(LoginFailure::SamlRequest(RequestError::Sign));
        }
        let request = self
            .provider
            .start(flow, key, reauthentication, now)
            .map_err(LoginFailure::SamlRequest)?;
        let AuthnRequest {
            id,
            at,
            reauthentication,
            message,
        } = request;
        let entity = self.provider.idp_entity_id().to_owned();
        Ok((
            message,
            SamlPending {
                request: id,
                at,
                reauthentication,
                idp: self.id.clone(),
                entity,
            },
        ))
    }

    /// Verifies the response to the login of `pending`.
    ///
    /// # Errors
    /// See [`crate::saml::SamlError`].
    pub fn finish(
        &self,
        pending: &SamlPending,
        response: &str,
        now: UnixTime,
        leeway: std::time::Duration,
        client_ip: IpAddr,
    ) -> Result<VerifiedSamlLogin, LoginFailure> {
        // The flow records its provider, so a response cannot be replayed to another one.
        if pending.idp != self.id || pending.entity != self.provider.idp_entity_id() {
            return Err(LoginFailure::Flow);
        }
        let expected = Expected {
            request_id: &pending.request,
            requested_at: pending.at,
            reauthentication: pending.reauthentication,
            now,
            leeway,
        };
        let verified = self.provider.verify(response, &expected)?;
        let absent_groups = self.absent_groups;
        Ok(VerifiedSamlLogin {
            verified,
            absent_groups,
            idp: self.idp_ref(),
            at: now,
            ip: client_ip,
        })
    }
}

impl VerifiedSamlLogin {
    /// See [`Verified::replay_key`].
    pub fn replay_key(&self) -> (&str, UnixTime) {
        self.verified.replay_key()
    }

    /// Returns the verified user; see [`Verified::identity`].
    ///
    /// # Errors
    /// If this is not the first use of the assertion.
    pub fn identity(self, assertion_use: AssertionUse) -> Result<ProviderIdentity, LoginFailure> {
        let Self {
            verified,
            absent_groups,
            idp,
            at,
            ip,
        } = self;
        let mut identity = verified.identity(assertion_use)?;
        for fault in &identity.unreadable {
            tracing::warn!(idp = %idp.id.0, fault, "ignoring an unreadable attribute; its value is unknown");
        }
        let groups_missing = identity
            .no_groups
            .map(|reason| match (reason, absent_groups) {
                (NoGroups::Unreadable, _) => GroupsMissing::Unreadable,
                (NoGroups::Similar, _) => GroupsMissing::Reference,
                (NoGroups::LeftOut, AbsentGroups::Unknown) => GroupsMissing::LeftOut,
                (NoGroups::LeftOut, AbsentGroups::Empty) => GroupsMissing::TakenAsNone,
            });
        if groups_missing == Some(GroupsMissing::TakenAsNone) {
            identity.groups = Groups::Known(Vec::new());
        }
        Ok(ProviderIdentity {
            claims: identity.claims(),
            headers: identity
                .headers
                .into_iter()
                .map(|(name, value)| (name.as_str().to_owned(), value))
                .collect(),
            subject: identity.subject,
            email: identity.email,
            name: None,
            idp,
            groups_seen: matches!(identity.groups, Groups::Known(_)).then_some(GroupsSeen {
                source: GroupsSource::Assertion,
                at,
            }),
            groups: identity.groups,
            groups_missing,
            amr: None,
            at,
            ip: Some(ip),
            session_ends: identity.session_ends,
            id_token: None,
        })
    }
}
