use std::fmt;
use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use crate::http_client::HttpError;
use crate::model::EmailError;
use crate::oidc::{CallbackError, ClaimsError, ClientKeyError, IdTokenError, KeysError, MetadataError};
#[cfg(feature = "saml")]
use crate::saml::{SamlError, Step as SamlStep};

/// Why nobody was logged in. Holds no secret, code or token; what the provider said in it is cut and without control
/// characters. `Display` is for the operator, [`LoginFailure::sentence`] for the person.
#[derive(Clone, Debug, Error)]
pub enum LoginFailure {
    /// The provider gave no answer.
    #[error("the identity provider's {endpoint} cannot be reached")]
    Unreachable {
        /// What was called.
        endpoint: Endpoint,
        /// How that failed.
        #[source]
        source: HttpError,
    },
    /// The provider answered with something else than what the endpoint is for.
    #[error("the identity provider's {endpoint} answered with {status}")]
    Answer {
        /// What was called.
        endpoint: Endpoint,
        /// Its status.
        status: StatusCode,
    },
    /// A document is at another address. Redirects are not followed: the issuer is configured, and so are its endpoints.
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
    /// Endpoints moved to another host while the issuer stayed the same. A configuration reload accepts that.
    #[error("the identity provider's endpoints moved from {from} to {to}; reload the configuration to accept that")]
    Moved {
        /// The origins that were first seen.
        from: String,
        /// The origins now.
        to: String,
    },
    /// The JWKS is unusable.
    #[error("the identity provider's signing keys cannot be used")]
    Keys(#[source] KeysError),
    /// The discovery document or the callback names another issuer than the one that was configured.
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
    /// An endpoint that speaks JSON answered with something else, most often a page of something before the provider.
    #[error("the identity provider's {endpoint} answered with {status} and {found} in place of JSON")]
    NotJson {
        /// What was called.
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
    #[cfg(feature = "saml")]
    #[error("the SAML request cannot be made")]
    SamlRequest(#[source] crate::saml::RequestError),
    /// The SAML response proves nothing.
    #[cfg(feature = "saml")]
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

/// What of the provider was called.
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

/// Where another issuer was named.
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

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EmailFailure {
    /// No claim holds one.
    #[error("the identity provider gave no e-mail address")]
    Missing,
    /// The provider says that it does not know whose it is.
    #[error("the identity provider has not verified the e-mail address")]
    Unverified,
    /// The provider sends no `email_verified`, and the configuration requires it.
    #[error("the identity provider sends no `email_verified`, which the configuration requires")]
    Unconfirmed,
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
    #[error("the filter of the groups claim matches too many groups of this person for Okta to send any")]
    Overfull,
    /// The provider says that the groups are to be had in another place, where nobody asks.
    #[error("the provider sends a reference in place of the groups (`_claim_names`), as it does for too many of them")]
    Elsewhere,
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
    /// What it answered is not a list of groups.
    #[error("the groups API did not answer with a list of groups")]
    NotGroups,
    /// What it answered is not a user.
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

/// Whose fault it is, as far as it matters for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody can log in now, or not this way; another try later may help. 503.
    Provider,
    /// This person is refused. 403.
    Person,
    /// What the browser brought is no good; a new login may help. 400.
    Browser,
}

/// The steps of a login at a provider, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// What the provider says of itself.
    Discovery,
    /// Sending somebody there.
    Request,
    /// What the person and the provider did.
    SignIn,
    /// Coming back.
    Callback,
    /// The code for tokens.
    Token,
    /// The provider's keys.
    Keys,
    /// What was signed.
    IdToken,
    /// The claims.
    Claims,
    /// A SAML response, as far as it got.
    #[cfg(feature = "saml")]
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
            #[cfg(feature = "saml")]
            Self::Saml(step) => step.in_words(),
            Self::Email => "finding the email address",
            Self::Groups => "learning the groups",
        }
    }
}

impl LoginFailure {
    /// How far the login went.
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
            Self::Discovery(_) | Self::Moved { .. } | Self::Issuer(IssuerMismatch::Discovery { .. }) => Step::Discovery,
            Self::PushedRequest { .. } => Step::Request,
            #[cfg(feature = "saml")]
            Self::SamlRequest(_) => Step::Request,
            Self::ProviderError { .. } => Step::SignIn,
            Self::Issuer(IssuerMismatch::Callback) | Self::Callback(_) | Self::Flow => Step::Callback,
            Self::TokenEndpoint { .. } | Self::ClientKey(_) => Step::Token,
            Self::Keys(_) => Step::Keys,
            Self::IdToken(_) | Self::ClockSkew { .. } => Step::IdToken,
            Self::Userinfo(_) | Self::SubjectMismatch => Step::Claims,
            #[cfg(feature = "saml")]
            Self::Saml(SamlError::Status { .. }) => Step::SignIn,
            #[cfg(feature = "saml")]
            Self::Saml(error) => Step::Saml(error.step()),
            Self::Email(_) => Step::Email,
            Self::Groups(_) => Step::Groups,
        }
    }

    /// Stands on pages, in logs and in metrics; it never changes its meaning.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Answer { .. } | Self::Redirect { .. } => "idp_unreachable",
            Self::Discovery(_) | Self::Moved { .. } => "idp_discovery",
            Self::Keys(_) => "idp_keys",
            Self::Issuer(_) => "idp_issuer",
            Self::Callback(_) | Self::Flow => "login_callback",
            Self::ProviderError { .. } => "idp_refused",
            Self::PushedRequest { .. } | Self::NotJson { endpoint: Endpoint::Pushed, .. } => "idp_request",
            Self::TokenEndpoint { .. } | Self::NotJson { .. } => "idp_token",
            Self::ClientKey(_) => "client_key",
            Self::IdToken(_) => "id_token_invalid",
            Self::ClockSkew { .. } => "clock_skew",
            Self::Userinfo(_) => "idp_userinfo",
            Self::SubjectMismatch => "subject_mismatch",
            #[cfg(feature = "saml")]
            Self::SamlRequest(_) => "saml_request",
            #[cfg(feature = "saml")]
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
                    SamlError::Early { .. } => "clock_skew",
                    _ => "saml_conditions",
                },
                SamlStep::Identity => "saml_identity",
            },
            Self::Email(_) => "email_refused",
            Self::Groups(_) => "groups_unavailable",
        }
    }

    /// For the one table that makes statuses of failures.
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
            Self::ProviderError { error, description } if is_expired(error, description.as_deref()) => Blame::Browser,
            Self::ProviderError { error, .. } if is_outage(error) => Blame::Provider,
            #[cfg(feature = "saml")]
            Self::SamlRequest(_) => Blame::Provider,
            #[cfg(feature = "saml")]
            Self::Saml(error) => match error {
                // What answers no login of this browser's, or one that is over.
                SamlError::Early { .. } => Blame::Provider,
                SamlError::Over { .. }
                | SamlError::Unsolicited
                | SamlError::Request
                | SamlError::Replayed
                | SamlError::SessionOver => Blame::Browser,
                _ => Blame::Person,
            },
            // Of all errors only this one is about the code; the others are about our configuration or the provider.
            Self::TokenEndpoint { error: Some(error), .. } if error.starts_with("invalid_grant") => Blame::Browser,
            Self::TokenEndpoint { .. } => Blame::Provider,
            Self::Issuer(IssuerMismatch::Callback) | Self::Callback(_) | Self::Flow => Blame::Browser,
            Self::ProviderError { .. }
            | Self::IdToken(_)
            | Self::Userinfo(_)
            | Self::SubjectMismatch
            | Self::Email(_) => Blame::Person,
        }
    }

    /// Returns `true` if the provider's refusal may be the user's own choice: it says so, or gives no other reason. Providers
    /// have one code (`access_denied`) for a user who cancels and for one who may not.
    pub fn may_be_cancelled(&self) -> bool {
        let Self::ProviderError { error, description } = self else { return false };
        let said = description.as_deref().unwrap_or_default().to_ascii_lowercase();
        error == "access_denied" && (said.is_empty() || CANCELLED.iter().any(|words| said.contains(words)))
    }

    /// One sentence for the person.
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::Groups(_) => "Failed to fetch user/group information from the identity provider",
            Self::Email(EmailFailure::Unverified | EmailFailure::Unconfirmed) => {
                "Your identity provider has not verified your email address."
            }
            Self::Email(_) => "Your identity provider gave no usable email address.",
            Self::ProviderError { .. } if self.may_be_cancelled() => {
                "The sign-in was cancelled, or your identity provider refused it."
            }
            Self::ProviderError { error, .. } if error == "access_denied" => {
                "Your identity provider refused the login. You may not be assigned to this application there."
            }
            Self::ProviderError { error, description } if is_expired(error, description.as_deref()) => {
                "Signing in at your identity provider took too long. Try again."
            }
            #[cfg(feature = "saml")]
            Self::Saml(SamlError::Status { .. }) => "Your identity provider refused the login.",
            #[cfg(feature = "saml")]
            Self::Saml(SamlError::Unsolicited) => {
                "Sign-ins that begin at the identity provider are not taken: open the application at its own address."
            }
            #[cfg(feature = "saml")]
            Self::Saml(SamlError::NoEmail(_) | SamlError::BadEmail(_)) => {
                "Your identity provider gave no usable email address."
            }
            #[cfg(feature = "saml")]
            Self::Saml(SamlError::Early { .. }) => SKEW,
            Self::ClockSkew { .. } => SKEW,
            _ => match self.blame() {
                Blame::Provider => "The identity provider cannot be used at the moment.",
                Blame::Person => "The identity provider's answer could not be accepted.",
                Blame::Browser => "This login has expired or was not begun in this browser.",
            },
        }
    }
}

/// The answer of Keycloak if its sign-in page was open for too long, or was left behind in another tab. A new login works.
pub(super) fn is_expired(error: &str, description: Option<&str>) -> bool {
    error == "temporarily_unavailable" && description == Some("authentication_expired")
}

/// RFC 6749 §4.1.2.1
pub(super) fn is_outage(error: &str) -> bool {
    matches!(error, "server_error" | "temporarily_unavailable")
}

impl From<MetadataError> for LoginFailure {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Issuer { expected, found } => Self::Issuer(IssuerMismatch::Discovery { expected, found }),
            other => Self::Discovery(other),
        }
    }
}

impl From<CallbackError> for LoginFailure {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::Issuer => Self::Issuer(IssuerMismatch::Callback),
            CallbackError::Provider { description: Some(text), .. } if is_too_many_groups(&text) => {
                Self::Groups(GroupsFailure::Overfull)
            }
            CallbackError::Provider { error, description } => Self::ProviderError { error, description },
            other @ (CallbackError::TooLong | CallbackError::Parameter(_) | CallbackError::State) => {
                Self::Callback(other)
            }
        }
    }
}

impl From<IdTokenError> for LoginFailure {
    fn from(error: IdTokenError) -> Self {
        match error {
            IdTokenError::Time { seconds } if seconds.unsigned_abs() <= MAX_SKEW_TOLD => {
                Self::ClockSkew { seconds: seconds.unsigned_abs() }
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

/// Okta's words, which stand in an `error_description`, of JSON or of `WWW-Authenticate` (RFC 6750 §3).
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

/// The words of Okta, Entra, Auth0, Keycloak and others for when a user cancels or does not consent.
const CANCELLED: [&str; 7] =
    ["cancel", "abort", "declin", "resource owner", "user denied", "user has denied", "did not authorize"];

const SKEW: &str = "The clocks of this service and of the identity provider differ too much.";
/// Beyond this an ID token is old or forged rather than told by another clock, in seconds.
const MAX_SKEW_TOLD: u64 = 600;
