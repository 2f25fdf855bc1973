//! Interprets a failed login: its step, its reason ID, the responsible party, and the sentence for
//! the user.

use super::{Blame, EmailFailure, Endpoint, IssuerMismatch, LoginFailure, Step};
use crate::saml::{SamlError, Step as SamlStep};

impl LoginFailure {
    /// Returns the step that failed.
    pub fn step(&self) -> Step {
        match self {
            Self::Unreachable { endpoint, .. }
            | Self::Answer { endpoint, .. }
            | Self::Redirect { endpoint, .. }
            | Self::NotJson { endpoint, .. } => match endpoint {
                Endpoint::Discovery => Step::Discovery,
                Endpoint::Keys => Step::Keys,
                Endpoint::Token => Step::Token,
                Endpoint::Userinfo => Step::Claims,
                Endpoint::Pushed => Step::Request,
            },
            Self::Discovery(_)
            | Self::Moved { .. }
            | Self::Issuer(IssuerMismatch::Discovery { .. }) => Step::Discovery,
            Self::PushedRequest { .. } => Step::Request,
            Self::SamlRequest(_) => Step::Request,
            Self::ProviderError { .. } => Step::SignIn,
            Self::Issuer(IssuerMismatch::Callback) | Self::Callback(_) | Self::Flow => {
                Step::Callback
            }
            Self::TokenEndpoint { .. } | Self::ClientKey(_) => Step::Token,
            Self::Keys(_) => Step::Keys,
            Self::IdToken(_) | Self::ClockSkew { .. } => Step::IdToken,
            Self::Userinfo(_) | Self::SubjectMismatch => Step::Claims,
            Self::Saml(SamlError::Status { .. }) => Step::SignIn,
            Self::Saml(error) => Step::Saml(error.step()),
            Self::Email(_) => Step::Email,
            Self::Groups(_) => Step::Groups,
        }
    }

    /// Returns the reason ID for pages, logs and metrics. Its meaning never changes.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Answer { .. } | Self::Redirect { .. } => {
                "idp_unreachable"
            }
            Self::Discovery(_) | Self::Moved { .. } => "idp_discovery",
            Self::Keys(_) => "idp_keys",
            Self::Issuer(_) => "idp_issuer",
            Self::Callback(_) | Self::Flow => "login_callback",
            Self::ProviderError { .. } => "idp_refused",
            Self::PushedRequest { .. }
            | Self::NotJson {
                endpoint: Endpoint::Pushed,
                ..
            } => "idp_request",
            Self::TokenEndpoint { .. } | Self::NotJson { .. } => "idp_token",
            Self::ClientKey(_) => "client_key",
            Self::IdToken(_) => "id_token_invalid",
            Self::ClockSkew { .. } => "clock_skew",
            Self::Userinfo(_) => "idp_userinfo",
            Self::SubjectMismatch => "subject_mismatch",
            Self::SamlRequest(_) => "saml_request",
            Self::Saml(error) => match error.step() {
                SamlStep::Parse | SamlStep::Shape => "saml_malformed",
                SamlStep::Response => match error {
                    SamlError::Status { .. } => "idp_refused",
                    SamlError::Unsolicited => "saml_unsolicited",
                    _ => "saml_response",
                },
                SamlStep::Decryption => "saml_encryption",
                SamlStep::Signature => "saml_signature",
                SamlStep::Conditions => match error {
                    SamlError::NotYetValid { .. } => "clock_skew",
                    _ => "saml_conditions",
                },
                SamlStep::Identity => "saml_identity",
            },
            Self::Email(_) => "email_refused",
            Self::Groups(_) => "groups_unavailable",
        }
    }

    /// Returns the responsible party, from which one table derives the HTTP status.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Unreachable { .. }
            | Self::Answer { .. }
            | Self::Redirect { .. }
            | Self::Discovery(_)
            | Self::Moved { .. }
            | Self::Keys(_)
            | Self::Issuer(IssuerMismatch::Discovery { .. })
            | Self::ClockSkew { .. }
            | Self::PushedRequest { .. }
            | Self::NotJson { .. }
            | Self::ClientKey(_)
            | Self::Groups(_) => Blame::Provider,
            _ if self.is_expired() => Blame::Browser,
            Self::ProviderError { error, .. } if is_outage(error) => Blame::Provider,
            Self::SamlRequest(_) => Blame::Provider,
            Self::Saml(error) => match error {
                // These answer no login of this browser or are too old; a new login may succeed.
                SamlError::NotYetValid { .. } => Blame::Provider,
                SamlError::Expired { .. }
                | SamlError::Unsolicited
                | SamlError::Request
                | SamlError::Replayed
                | SamlError::SessionOver => Blame::Browser,
                _ => Blame::User,
            },
            // Only `invalid_grant` is about the code. The others are about our configuration or the
            // provider.
            Self::TokenEndpoint {
                error: Some(error), ..
            } if error.starts_with("invalid_grant") => Blame::Browser,
            Self::TokenEndpoint { .. } => Blame::Provider,
            Self::Issuer(IssuerMismatch::Callback) | Self::Callback(_) | Self::Flow => {
                Blame::Browser
            }
            Self::ProviderError { .. }
            | Self::IdToken(_)
            | Self::Userinfo(_)
            | Self::SubjectMismatch
            | Self::Email(_) => Blame::User,
        }
    }

    /// Returns `true` if the user may have cancelled the login: the provider states that, or gives
    /// no other reason.
    ///
    /// Providers use the same code for a user who cancels and for one who has no access:
    /// `access_denied`, or in SAML `RequestDenied` (cancelled in Keycloak, no access in AD FS) and
    /// `AuthnFailed`.
    pub fn may_be_cancelled(&self) -> bool {
        let named = |said: Option<&str>| {
            let said = said.unwrap_or_default().to_ascii_lowercase();
            CANCELLED.iter().any(|words| said.contains(words))
        };
        let unexplained = |said: Option<&str>| said.is_none_or(|said| said.trim().is_empty());
        match self {
            Self::ProviderError { error, description } => {
                let said = description.as_deref();
                error == "access_denied" && (unexplained(said) || named(said))
            }
            Self::Saml(SamlError::Status { code, message }) => {
                let said = message.as_deref();
                match code.as_str() {
                    "RequestDenied" | "AuthnFailed" => unexplained(said) || named(said),
                    // SAML has no status for this; the Swedish federation defines its own.
                    code => code.ends_with("/cancel"),
                }
            }
            _ => false,
        }
    }

    /// Returns `true` if a login with another account may succeed: the provider rejected this one,
    /// or its email address is at fault.
    pub const fn may_be_of_the_account(&self) -> bool {
        match self {
            Self::ProviderError { .. } | Self::Email(_) => true,
            Self::Saml(
                SamlError::Status { .. } | SamlError::NoEmail(_) | SamlError::BadEmail(_),
            ) => true,
            _ => false,
        }
    }

    /// Returns `true` if the provider's sign-in page expired. A new login works.
    pub fn is_expired(&self) -> bool {
        match self {
            Self::ProviderError { error, description } => is_expired(error, description.as_deref()),
            Self::Saml(SamlError::Status { message, .. }) => is_expired_status(message.as_deref()),
            _ => false,
        }
    }

    /// Returns the address that the provider has not verified, for the page that its user sees.
    pub fn unverified_address(&self) -> Option<&str> {
        match self {
            Self::Email(EmailFailure::Unverified(address) | EmailFailure::Unconfirmed(address)) => {
                Some(address)
            }
            _ => None,
        }
    }

    /// Returns one sentence for the user.
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::Groups(_) => "Failed to fetch user/group information from the identity provider",
            Self::Email(
                EmailFailure::Unverified(_)
                | EmailFailure::Unconfirmed(_)
                | EmailFailure::ScopeNotGranted,
            ) => "Your identity provider has not verified your email address.",
            Self::Email(_) => "Your identity provider did not send a usable email address.",
            _ if self.may_be_cancelled() => {
                "The sign-in was cancelled, or your identity provider refused it."
            }
            Self::ProviderError { error, .. } if error == "access_denied" => NOT_ASSIGNED,
            Self::Saml(SamlError::Status { code, .. }) if code == "RequestDenied" => NOT_ASSIGNED,
            _ if self.is_expired() => {
                "Signing in at your identity provider took too long. Try again."
            }
            Self::Saml(SamlError::Status { .. }) => "Your identity provider refused the login.",
            Self::Saml(SamlError::Unsolicited) => {
                "Sign-ins that start at the identity provider are not accepted: open the application at its own \
                 address."
            }
            Self::Saml(SamlError::NoEmail(_) | SamlError::BadEmail(_)) => {
                "Your identity provider did not send a usable email address."
            }
            Self::Saml(SamlError::NotYetValid { .. }) => SKEW,
            Self::ClockSkew { .. } => SKEW,
            _ => match self.blame() {
                Blame::Provider => "The identity provider cannot be used at the moment.",
                Blame::User => "The identity provider's response could not be accepted.",
                Blame::Browser => "This login has expired or was not started in this browser.",
            },
        }
    }
}

/// Returns `true` for Keycloak's response if its sign-in page was open for too long or in several
/// tabs. A new login works.
pub(in crate::idp) fn is_expired(error: &str, description: Option<&str>) -> bool {
    error == "temporarily_unavailable" && description == Some(EXPIRED)
}

/// The same for SAML, where the status is `AuthnFailed`.
fn is_expired_status(message: Option<&str>) -> bool {
    message == Some(EXPIRED)
}

/// Returns `true` for the error codes of an outage (RFC 6749 4.1.2.1).
pub(super) fn is_outage(error: &str) -> bool {
    matches!(error, "server_error" | "temporarily_unavailable")
}

/// Texts of Okta, Entra, Auth0, Keycloak and others for a user who cancels or does not consent.
const CANCELLED: [&str; 7] = [
    "cancel",
    "abort",
    "declin",
    "resource owner",
    "user denied",
    "user has denied",
    "did not authorize",
];

/// Keycloak's description for a sign-in page that was open for too long.
const EXPIRED: &str = "authentication_expired";
const NOT_ASSIGNED: &str =
    "Your identity provider refused the login. You may not be assigned to this application there.";
const SKEW: &str = "The clocks of this service and of the identity provider differ too much.";
