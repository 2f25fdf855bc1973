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

/// Why nobody was logged in. Holds no secret, code or token; what the provider said in it is cut
/// and without control characters. `Display` is for the operator, [`LoginFailure::sentence`] for
/// the person.
#[derive(Clone, Debug, Error)]
pub enum LoginFailure {
    /// The provider gave no answer.
    #[error("the identity provider's {endpoint} cannot be reached")]
    Unreachable {
        /// The endpoint.
        endpoint: Endpoint,
        /// The failure of the call.
        #[source]
        source: HttpError,
    },
    /// The provider answered with something else than what the endpoint is for.
    #[error("the identity provider's {endpoint} answered with {status}")]
    Answer {
        /// The endpoint.
        endpoint: Endpoint,
        /// Its status.
        status: StatusCode,
    },
    /// A document is at another address. Redirects are not followed: the issuer is configured, and
    /// so are its endpoints.
    #[error("the identity provider's {endpoint} answered with {status}, which leads to `{to}`")]
    Redirect {
        /// What was called.
        endpoint: Endpoint,
        /// Its status.
        status: StatusCode,
        /// The new address, as the provider wrote it: cut, and without control characters.
        to: String,
    },
    /// The discovery document is unusable.
    #[error("the identity provider cannot be used as it describes itself")]
    Discovery(#[source] MetadataError),
    /// Endpoints moved to another host while the issuer stayed the same. A configuration reload
    /// accepts that.
    #[error(
        "the identity provider's endpoints moved from {from} to {to}; reload the configuration to accept that"
    )]
    Moved {
        /// The origins that were first seen.
        from: String,
        /// The origins now.
        to: String,
    },
    /// The JWKS is unusable.
    #[error("the identity provider's signing keys cannot be used")]
    Keys(#[source] KeysError),
    /// The discovery document or the callback names another issuer than the one that was
    /// configured.
    #[error("the identity provider is not the configured issuer")]
    Issuer(#[source] IssuerMismatch),
    /// The callback is malformed, or the answer to another login.
    #[error("the callback is refused")]
    Callback(#[source] CallbackError),
    /// The flow was begun with another provider, or before its configuration changed.
    #[error("the login was begun with another identity provider")]
    Flow,
    /// The provider refused the login.
    #[error("the identity provider answered `{error}`: {}", .description.as_deref().unwrap_or("no explanation"))]
    ProviderError {
        /// Its error code.
        error: String,
        /// Its explanation.
        description: Option<String>,
    },
    /// The code was not exchanged for tokens.
    #[error("the token endpoint answered with {status}: {}", .error.as_deref().unwrap_or("no error code"))]
    TokenEndpoint {
        /// Its status.
        status: StatusCode,
        /// Its error code and explanation, where it gave them.
        error: Option<String>,
    },
    /// The provider did not take the request of a login (RFC 9126).
    #[error("the request of the login was not taken, with {status}: {}", .error.as_deref().unwrap_or("no error code"))]
    PushedRequest {
        /// Its status.
        status: StatusCode,
        /// Its error code and explanation, where it gave them.
        error: Option<String>,
    },
    /// An endpoint that speaks JSON answered with something else, most often a page of something
    /// before the provider.
    #[error(
        "the identity provider's {endpoint} answered with {status} and {found} in place of JSON"
    )]
    NotJson {
        /// The endpoint.
        endpoint: Endpoint,
        /// Its status.
        status: StatusCode,
        /// The kind of answer; nothing of its text, where a token could be.
        found: OtherBody,
    },
    /// Our own key does not sign.
    #[error("the client's private key cannot be used")]
    ClientKey(#[from] ClientKeyError),
    /// The ID token proves nothing.
    #[error("the ID token is refused")]
    IdToken(#[source] IdTokenError),
    /// The clocks differ by more than the leeway.
    #[error("the clocks of this machine and of the identity provider differ by about {seconds} s")]
    ClockSkew {
        /// Rounded; which clock is wrong cannot be told.
        seconds: u64,
    },
    /// The userinfo answer, or the claims altogether, cannot be used.
    #[error("the claims are refused")]
    Userinfo(#[source] ClaimsError),
    /// The userinfo answer is about somebody else.
    #[error("the ID token and the userinfo answer are about different people")]
    SubjectMismatch,
    /// The SAML request cannot be made.
    #[error("the SAML request cannot be made")]
    SamlRequest(#[source] crate::saml::RequestError),
    /// The SAML response proves nothing.
    #[error("the SAML response is refused at the step `{}`", .0.step().as_str())]
    Saml(#[from] SamlError),
    /// There is no address to know the person by.
    #[error("the e-mail address is refused")]
    Email(#[source] EmailFailure),
    /// The groups could not be learned, and must not be guessed.
    #[error("failed to fetch user/group information from the identity provider")]
    Groups(#[source] GroupsFailure),
}

/// The kind of a body that is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherBody {
    /// No byte, or only white space.
    Empty,
    /// HTML, or something else in angle brackets.
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
    /// The endpoint for requests of logins (RFC 9126).
    Pushed,
}

/// The source of another issuer than the configured one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IssuerMismatch {
    /// In the discovery document.
    #[error("the discovery document names `{found}`, the configuration `{expected}`")]
    Discovery {
        /// As configured.
        expected: String,
        /// As found.
        found: String,
    },
    /// In the callback (RFC 9207).
    #[error("the callback names another issuer, or none where it should")]
    Callback,
}

/// Why an address is refused. `Display` holds no address: the user is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EmailFailure {
    /// No claim holds one.
    #[error("the identity provider gave no e-mail address")]
    Missing,
    /// The claim that should hold it is not a string.
    #[error("the claim for the e-mail address is not a string")]
    Unreadable,
    /// The provider does not vouch for this address.
    #[error("the identity provider has not verified the e-mail address")]
    Unverified(String),
    /// The provider sends no `email_verified` for this address, and the configuration requires it.
    #[error("the identity provider sends no `email_verified`, which the configuration requires")]
    Unconfirmed(String),
    /// The provider sends no `email_verified`, and may have left it out because the user took the
    /// scope out of the request.
    #[error("the identity provider sends no `email_verified`, and did not grant the scope `email`")]
    ScopeNotGranted,
    /// It is no address.
    #[error(transparent)]
    Malformed(#[from] EmailError),
}

/// Why the groups are not known.
#[derive(Clone, Debug, Error)]
pub enum GroupsFailure {
    /// As many as Okta puts into a claim, or more, and no API token to read all of them with.
    #[error("the groups claim holds as many groups as fit, so some may be missing")]
    TooMany,
    /// Okta would not fill the claim, because too many groups match its filter.
    #[error(
        "the filter of the groups claim matches too many groups of this person for Okta to send any"
    )]
    Overfull,
    /// The provider has no groups API, as all but Okta.
    #[error("the provider has no groups API")]
    NoApi,
    /// The groups API gave no answer.
    #[error("the groups API cannot be reached")]
    Unreachable(#[source] HttpError),
    /// The groups API took too long altogether.
    #[error("the groups API took longer than {} s", .0.as_secs())]
    Timeout(Duration),
    /// The groups API refused.
    #[error("the groups API answered with {status}: {}", .code.as_deref().unwrap_or("no error code"))]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Okta's error code, such as `E0000011` for an API token that is not good.
        code: Option<String>,
    },
    /// The groups API asks to wait for longer than a login can.
    #[error("the groups API's rate limit is used up for another {seconds} s")]
    RateLimited {
        /// By the provider's word.
        seconds: u64,
    },
    /// The answer is not a list of groups.
    #[error("the groups API did not answer with a list of groups")]
    NotGroups,
    /// The answer is not a user.
    #[error("the users API did not answer with a user")]
    NotUser,
    /// The next page would be on another host, which must not see the API token.
    #[error("the groups API continues on another host")]
    ForeignPage,
    /// More pages than anybody has groups.
    #[error("the groups API does not come to an end")]
    Endless,
    /// The subject is none that the API could be asked about.
    #[error("the subject is not a user id")]
    Subject,
}

/// The side that a failure is the fault of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody can log in now, or not this way; another try later may help. 503.
    Provider,
    /// This person is refused. 403.
    Person,
    /// The browser brought something malformed or outdated; a new login may help. 400.
    Browser,
}

/// The steps of a login at a provider, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The discovery document.
    Discovery,
    /// Sending somebody there.
    Request,
    /// The sign-in at the provider.
    SignIn,
    /// Coming back.
    Callback,
    /// The code for tokens.
    Token,
    /// The provider's keys.
    Keys,
    /// The verification of the ID token.
    IdToken,
    /// The claims.
    Claims,
    /// A SAML response, as far as it got.
    Saml(crate::saml::Step),
    /// The address.
    Email,
    /// The groups.
    Groups,
}

impl Step {
    /// A few words for pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "reading what the provider says of itself (discovery)",
            Self::Request => "making the request of the login",
            Self::SignIn => "signing in at the provider",
            Self::Callback => "coming back from the provider",
            Self::Token => "exchanging the code for tokens",
            Self::Keys => "reading the provider's signing keys (JWKS)",
            Self::IdToken => "verifying the ID token",
            Self::Claims => "reading the claims",
            Self::Saml(step) => step.in_words(),
            Self::Email => "finding the email address",
            Self::Groups => "learning the groups",
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

/// Okta's words, which stand in an `error_description`, of JSON or of `WWW-Authenticate` (RFC 6750
/// §3).
pub(super) fn is_too_many_groups(description: &str) -> bool {
    description.contains("matched too many groups")
}

impl fmt::Display for OtherBody {
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

/// Beyond this an ID token is old or forged rather than told by another clock, in seconds.
const MAX_SKEW_TOLD: u64 = 600;
