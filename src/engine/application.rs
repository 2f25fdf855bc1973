use std::time::Duration;

use super::ApplicationSettings;
use super::required_facts::RequiredFacts;
use super::reserved::{is_reserved, is_spelt};
use crate::model::{Aud, Groups, Identity, IdpId};
use crate::policy::{Policies, PolicyDecision, PolicyIndex, ShadowVerdict, Truth};
use crate::session::ApplicationIndex;

/// An application of a snapshot.
#[derive(Debug)]
pub struct Application {
    /// In the snapshot's list.
    pub(super) index: ApplicationIndex,
    settings: ApplicationSettings,
    pub(super) policies: Policies,
    pub(super) required: RequiredFacts,
}

impl Application {
    pub(super) const fn new(
        index: ApplicationIndex,
        settings: ApplicationSettings,
        policies: Policies,
        required: RequiredFacts,
    ) -> Self {
        Self {
            index,
            settings,
            policies,
            required,
        }
    }

    /// As configured.
    pub const fn settings(&self) -> &ApplicationSettings {
        &self.settings
    }

    /// Audience tag.
    pub const fn aud(&self) -> &Aud {
        &self.settings.aud
    }

    /// Returns `true` if the application accepts an identity provider.
    pub fn allows_idp(&self, idp: &IdpId) -> bool {
        self.settings.allowed_idps.is_empty() || self.settings.allowed_idps.contains(idp)
    }

    /// Returns [`Truth::True`] if a session of that provider is accepted; `None` is an unknown
    /// provider.
    pub(super) fn admits(&self, idp: Option<&IdpId>) -> Truth {
        match idp {
            _ if self.settings.allowed_idps.is_empty() => Truth::True,
            Some(idp) => self.allows_idp(idp).into(),
            None => Truth::Unknown,
        }
    }

    /// Its policies, compiled with its snapshot's.
    pub const fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Returns `true` if a request header is reserved for us, in any spelling.
    pub fn is_reserved(&self, name: &str) -> bool {
        is_reserved(name)
            || self
                .settings
                .sent_headers
                .iter()
                .any(|ours| is_spelt(name, ours.name.as_str()))
    }

    /// Returns `true` if a policy requires a client certificate. Only requests to this
    /// application's own host carry one.
    pub const fn asks_for_certificates(&self) -> bool {
        self.required.certificate
    }

    /// Returns `true` if its policies ask for the method, so that no request may ask the origin for
    /// another one.
    pub const fn asks_for_method(&self) -> bool {
        self.required.method
    }

    /// Returns `true` if a policy depends on groups of this user, and they are unknown.
    pub fn misses_groups(&self, identity: &Identity) -> bool {
        identity.groups == Groups::Unknown && self.required.groups.contains(&identity.idp.id)
    }

    /// Returns the shortest session lifetime of all policies, for a session before its policy is
    /// known.
    pub fn shortest_session(&self) -> Duration {
        let policies = self
            .settings
            .policies
            .iter()
            .filter_map(|policy| policy.session_duration);
        policies
            .chain([self.settings.session_duration])
            .min()
            .unwrap_or_default()
    }

    /// Returns the name of a policy, and its session duration.
    pub fn policy(&self, index: PolicyIndex) -> Option<(&str, Option<Duration>)> {
        self.policies.describe(index)
    }

    /// Returns the name of a shadow policy, and the decision that it would have made.
    pub(super) fn shadow(&self, shadow: ShadowVerdict) -> Option<(&str, PolicyDecision)> {
        self.policy(shadow.policy)
            .map(|(name, _)| (name, shadow.decision))
    }

    /// Returns the `Path` of the cookie: the application's path up to the first star, if the cookie
    /// is confined to it.
    pub fn cookie_path(&self) -> &str {
        let path = self.settings.domain.path();
        // Browsers compare escapes as text, and clients write them in either case.
        let literal = path.split(['*', '%']).next().unwrap_or("/");
        // A cookie's path must end with a whole segment (RFC 6265 5.1.4).
        let whole = if literal.len() == path.len() {
            literal
        } else {
            literal.rsplit_once('/').map_or("/", |(dir, _)| dir)
        };
        if self.settings.cookie.path && !whole.is_empty() {
            whole
        } else {
            "/"
        }
    }
}
