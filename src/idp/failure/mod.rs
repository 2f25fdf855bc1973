//! Failures of logins: their text for the log, their sentence for the user, and advice.
//!
//! Decides if the provider, the user or the configuration is to blame, and which advice fits.
//! Trusts no text of the provider: it is cut, and control characters are removed. Never contains a
//! secret, a code or a token.

mod advice;
mod reason;

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use crate::http_client::HttpError;
use crate::model::EmailError;
use crate::oidc::{
    CallbackError, ClaimsError, ClientKeyError, IdTokenError, KeysError, MetadataError,
};
use crate::saml::SamlError;

pub(in crate::idp) use self::reason::is_expired;

/// The reason why a login failed.
///
/// Contains no secret, code or token. Text from the provider is cut and free of control characters.
/// `Display` is for the operator, [`LoginFailure::sentence`] for the user.
#[derive(Clone, Debug, Error)]
pub enum LoginFailure {
    /// The provider did not respond.
    #[error("the identity provider's {endpoint} cannot be reached")]
    Unreachable {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The failure of the call.
        #[source]
        source: HttpError,
    },
    /// The endpoint responded with an unexpected status.
    #[error("the identity provider's {endpoint} responded with {status}")]
    Answer {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The status of the response.
        status: StatusCode,
    },
    /// The endpoint redirects. Redirects are not followed: the issuer is configured, and so are its
    /// endpoints.
    #[error("the identity provider's {endpoint} responded with {status} and a redirect to `{to}`")]
    Redirect {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The status of the response.
        status: StatusCode,
        /// The new URL as the provider sent it: cut, and free of control characters.
        to: String,
    },
    /// The discovery document is unusable.
    #[error("the identity provider's discovery document cannot be used")]
    Discovery(#[source] MetadataError),
    /// Endpoints moved to another host while the issuer stayed the same. A configuration reload
    /// accepts the new ones.
    #[error(
        "the identity provider's endpoints moved from {from} to {to}; reload the configuration to accept that"
    )]
    Moved {
        /// The origins in the first document.
        from: String,
        /// The origins now.
        to: String,
    },
    /// The JWKS is unusable.
    #[error("the identity provider's signing keys cannot be used")]
    Keys(#[source] KeysError),
    /// The discovery document or the callback names another issuer than the configured one.
    #[error("the identity provider is not the configured issuer")]
    Issuer(#[source] IssuerMismatch),
    /// The callback is malformed or belongs to another login.
    #[error("the callback was rejected")]
    Callback(#[source] CallbackError),
    /// The login was started with another provider, or before its configuration changed.
    #[error("the login was started with another identity provider")]
    Flow,
    /// The provider rejected the login.
    #[error("the identity provider returned `{error}`: {}", .description.as_deref().unwrap_or("no \
     explanation"))]
    ProviderError {
        /// The provider's error code.
        error: String,
        /// The provider's description of the error.
        description: Option<String>,
    },
    /// The code could not be exchanged for tokens.
    #[error("the token endpoint responded with {status}: {}", .error.as_deref().unwrap_or("no \
     error code"))]
    TokenEndpoint {
        /// The status of the response.
        status: StatusCode,
        /// The provider's error code and description, if it sent any.
        error: Option<String>,
    },
    /// The provider rejected the pushed login request (RFC 9126).
    #[error("the pushed login request was rejected with {status}: {}", .error.as_deref().unwrap_or("no error code"))]
    PushedRequest {
        /// The status of the response.
        status: StatusCode,
        /// The provider's error code and description, if it sent any.
        error: Option<String>,
    },
    /// A JSON endpoint sent something else, usually a web page from a proxy in front of it.
    #[error(
        "the identity provider's {endpoint} responded with {status} and {found} instead of JSON"
    )]
    NotJson {
        /// The endpoint that was called.
        endpoint: Endpoint,
        /// The status of the response.
        status: StatusCode,
        /// The kind of the body. Its text is dropped, because it may contain a token.
        found: BodyKind,
    },
    /// Our own key cannot sign.
    #[error("the client's private key cannot be used")]
    ClientKey(#[from] ClientKeyError),
    /// The ID token is invalid.
    #[error("the ID token was rejected")]
    IdToken(#[source] IdTokenError),
    /// The clocks differ by more than the leeway.
    #[error("the clocks of this machine and of the identity provider differ by about {seconds} s")]
    ClockSkew {
        /// The difference, rounded. It is unknown which clock is wrong.
        seconds: u64,
    },
    /// The userinfo response or the combined claims cannot be used.
    #[error("the claims were rejected")]
    Userinfo(#[source] ClaimsError),
    /// The userinfo response is about another user.
    #[error("the ID token and the userinfo response are about different users")]
    SubjectMismatch,
    /// The SAML request could not be created.
    #[error("the SAML request could not be created")]
    SamlRequest(#[source] crate::saml::RequestError),
    /// The SAML response is invalid.
    #[error("the SAML response was rejected at the step `{}`", .0.step().as_str())]
    Saml(#[from] SamlError),
    /// There is no usable email address.
    #[error("the email address was rejected")]
    Email(#[source] EmailFailure),
    /// The groups could not be determined, and must not be guessed.
    #[error("failed to fetch user/group information from the identity provider")]
    Groups(#[source] GroupsFailure),
}

/// The kind of a body that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// Empty, or only white space.
    Empty,
    /// HTML, or other text that starts with an angle bracket.
    Page,
    /// Anything else.
    Unknown,
}

/// An endpoint of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`
    Discovery,
    /// The JWKS.
    Keys,
    /// The token endpoint.
    Token,
    /// The userinfo endpoint.
    Userinfo,
    /// The endpoint for pushed authorization requests (RFC 9126).
    Pushed,
}

/// The document that names another issuer than the configured one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IssuerMismatch {
    /// The discovery document.
    #[error("the discovery document names `{found}`, the configuration `{expected}`")]
    Discovery {
        /// The configured issuer.
        expected: String,
        /// The issuer in the document.
        found: String,
    },
    /// The callback (RFC 9207).
    #[error("the callback names another issuer, or none although it must")]
    Callback,
}

/// The reason why an email address is rejected. `Display` contains no address, because the user is
/// not verified.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EmailFailure {
    /// No claim holds an email address.
    #[error("the identity provider sent no email address")]
    Missing,
    /// The claim is not a string.
    #[error("the claim for the email address is not a string")]
    Unreadable,
    /// The provider states that the address is not verified.
    #[error("the identity provider has not verified the email address")]
    Unverified(String),
    /// The provider sends no `email_verified`, and the configuration requires it.
    #[error("the identity provider sends no `email_verified`, which the configuration requires")]
    Unconfirmed(String),
    /// The provider sends no `email_verified`, possibly because the user removed the scope from the
    /// request.
    #[error("the identity provider sends no `email_verified`, and did not grant the scope `email`")]
    ScopeNotGranted,
    /// The value is not an email address.
    #[error(transparent)]
    Malformed(#[from] EmailError),
}

/// The reason why the groups are unknown.
#[derive(Clone, Debug, Error)]
pub enum GroupsFailure {
    /// The claim is full (Okta's limit), and there is no API token to read all groups.
    #[error("the groups claim contains as many groups as fit, so some may be missing")]
    TooMany,
    /// Okta sends no groups, because too many match the claim's filter.
    #[error(
        "the filter of the groups claim matches too many groups of this user for Okta to send any"
    )]
    Overfull,
    /// The provider has no groups API; only Okta has one.
    #[error("the provider has no groups API")]
    NoApi,
    /// The groups API did not respond.
    #[error("the groups API cannot be reached")]
    Unreachable(#[source] HttpError),
    /// Reading all groups took too long.
    #[error("the groups API took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    /// The groups API rejected the call.
    #[error("the groups API responded with {status}: {}", .code.as_deref().unwrap_or("no error code"))]
    Refused {
        /// The status of the response.
        status: StatusCode,
        /// Okta's error code, such as `E0000011` for an invalid API token.
        code: Option<String>,
    },
    /// The rate limit is used up for longer than a login can wait.
    #[error("the groups API's rate limit is exceeded for another {seconds} s")]
    RateLimited {
        /// The wait that the provider demands.
        seconds: u64,
    },
    /// The response is not a list of groups.
    #[error("the groups API did not return a list of groups")]
    NotGroups,
    /// The response is not a user.
    #[error("the users API did not return a user")]
    NotUser,
    /// The next page is on another host, which must not receive the API token.
    #[error("the groups API continues on another host")]
    ForeignPage,
    /// More pages than any user can have.
    #[error("the groups API returns an endless list")]
    Endless,
    /// The subject cannot be used in an API call.
    #[error("the subject is not a user id")]
    Subject,
}

/// The party responsible for a failure; it determines the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The provider or the configuration: no login is possible now, but a later attempt may
    /// succeed. 503.
    Provider,
    /// The user: this user is rejected. 403.
    User,
    /// The browser: it sent something malformed or outdated. A new login may succeed. 400.
    Browser,
}

/// The steps of a login at a provider, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Reading the discovery document.
    Discovery,
    /// Creating the login request.
    Request,
    /// Signing in at the provider.
    SignIn,
    /// Returning to the callback.
    Callback,
    /// Exchanging the code for tokens.
    Token,
    /// Reading the provider's keys.
    Keys,
    /// Verifying the ID token.
    IdToken,
    /// Reading the claims.
    Claims,
    /// Verifying a SAML response, with the step in it.
    Saml(crate::saml::Step),
    /// Determining the email address.
    Email,
    /// Determining the groups.
    Groups,
}

impl Step {
    /// Returns a description for pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "reading the provider's discovery document",
            Self::Request => "creating the login request",
            Self::SignIn => "signing in at the provider",
            Self::Callback => "returning from the provider",
            Self::Token => "exchanging the code for tokens",
            Self::Keys => "reading the provider's signing keys (JWKS)",
            Self::IdToken => "verifying the ID token",
            Self::Claims => "reading the claims",
            Self::Saml(step) => step.description(),
            Self::Email => "finding the email address",
            Self::Groups => "reading the groups",
        }
    }
}

impl From<MetadataError> for LoginFailure {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Issuer { expected, found } => {
                Self::Issuer(IssuerMismatch::Discovery { expected, found })
            }
            other => Self::Discovery(other),
        }
    }
}

impl From<CallbackError> for LoginFailure {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::Issuer => Self::Issuer(IssuerMismatch::Callback),
            CallbackError::Provider {
                description: Some(text),
                ..
            } if is_too_many_groups(&text) => Self::Groups(GroupsFailure::Overfull),
            CallbackError::Provider { error, description } => {
                Self::ProviderError { error, description }
            }
            other @ (CallbackError::TooLong
            | CallbackError::Parameter(_)
            | CallbackError::State) => Self::Callback(other),
        }
    }
}

impl From<IdTokenError> for LoginFailure {
    fn from(error: IdTokenError) -> Self {
        match error {
            IdTokenError::Time { seconds } if seconds.unsigned_abs() <= MAX_SKEW_TOLD => {
                Self::ClockSkew {
                    seconds: seconds.unsigned_abs(),
                }
            }
            other => Self::IdToken(other),
        }
    }
}

impl From<ClaimsError> for LoginFailure {
    fn from(error: ClaimsError) -> Self {
        match error {
            ClaimsError::Subject => Self::SubjectMismatch,
            other => Self::Userinfo(other),
        }
    }
}

/// Returns `true` for Okta's message about too many groups. It occurs in `error_description`, in
/// JSON or in `WWW-Authenticate` (RFC 6750 3).
pub(super) fn is_too_many_groups(description: &str) -> bool {
    description.contains("matched too many groups")
}

impl fmt::Display for BodyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty body",
            Self::Page => "a web page",
            Self::Unknown => "a body of another kind",
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discovery => "discovery document",
            Self::Keys => "JWKS",
            Self::Token => "token endpoint",
            Self::Userinfo => "userinfo endpoint",
            Self::Pushed => "endpoint for pushed authorization requests",
        })
    }
}

/// The largest difference reported as clock skew, in seconds. Beyond it, an ID token is rather old
/// or forged.
const MAX_SKEW_TOLD: u64 = 600;
