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
    /// The claim is not a list of strings.
    #[error("the groups claim is not a list of strings")]
    Malformed,
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

impl GroupsFailure {
    /// What the operator can do about it: the hint of the log line.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::TooMany => {
                "people in more than 100 Okta groups need `api_token`; without one, let the groups claim's filter match fewer"
            }
            Self::Overfull => "set `api_token` and take the groups claim's filter away, or let it match fewer groups",
            Self::Elsewhere => "have the provider send fewer groups, by a filter in its settings for this application",
            Self::Malformed => "look at the groups claim in the provider's settings for this application",
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                "Okta does not know the `api_token`: it was revoked, or has not been used for 30 days; make a new one"
            }
            Self::Refused { status: StatusCode::NOT_FOUND, .. } | Self::Subject => {
                "Okta does not know the person under the subject of the ID token; is `okta_account` the right one?"
            }
            Self::RateLimited { .. } | Self::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. } => {
                "the account's rate limit is used up: look at Reports > Rate Limits in Okta"
            }
            Self::Refused { status: StatusCode::FORBIDDEN, code: Some(_) } => {
                "the `api_token` may not read groups: make it as a read-only administrator"
            }
            Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::Refused { .. }
            | Self::NotGroups
            | Self::NotUser
            | Self::ForeignPage
            | Self::Endless => {
                "Okta's ThreatInsight may block this machine: look for its address in Okta's system log, and exempt it as a \
                 network zone"
            }
        }
    }
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
            Self::Email => "finding the e-mail address",
            Self::Groups => "learning the groups",
        }
    }
}

impl LoginFailure {
    /// How far the login went.
    pub fn step(&self) -> Step {
        match self {
            Self::Unreachable { endpoint, .. } | Self::Answer { endpoint, .. } => match endpoint {
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
            Self::Unreachable { .. } | Self::Answer { .. } => "idp_unreachable",
            Self::Discovery(_) | Self::Moved { .. } => "idp_discovery",
            Self::Keys(_) => "idp_keys",
            Self::Issuer(_) => "idp_issuer",
            Self::Callback(_) | Self::Flow => "login_callback",
            Self::ProviderError { .. } => "idp_refused",
            Self::TokenEndpoint { .. } => "idp_token",
            Self::PushedRequest { .. } => "idp_request",
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

    /// What the operator can do about it, where there is something: the hint of the log line.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { source, .. } => return source.advice(),
            Self::Answer { endpoint: Endpoint::Discovery, status: StatusCode::NOT_FOUND } => {
                "there is no discovery document: check `okta_account` and `authorization_server_id`, or `issuer`"
            }
            Self::Answer { endpoint: Endpoint::Userinfo, status: StatusCode::FORBIDDEN } => {
                "the provider does not let its access token read claims: grant the application the scopes `openid`, `profile` \
                 and `email`"
            }
            Self::Answer { .. } => {
                "the identity provider, or something before it, is out of order; its status page and its own log say more"
            }
            Self::Discovery(error) => error.advice(),
            Self::Moved { .. } => "reload the configuration, if the provider announced that it would move",
            Self::Keys(_) => {
                "look at `jwks_uri` of the discovery document, or `certs_url`: is it this provider's JWKS?"
            }
            Self::Issuer(IssuerMismatch::Discovery { .. }) => {
                "configure the issuer that the discovery document names, byte for byte; at Okta by `okta_account`, which under \
                 a custom domain is that domain, and by `authorization_server_id`"
            }
            Self::Issuer(IssuerMismatch::Callback) => {
                "begin anew; if it happens to everybody, `issuer` is not the one that the provider answers as"
            }
            Self::Callback(_) | Self::Flow => "begin anew, at the address of the application",
            Self::ProviderError { error, .. } => return error_advice(error, None),
            Self::TokenEndpoint { status, error } | Self::PushedRequest { status, error } => {
                let error = error.as_deref().and_then(|said| said.split(' ').next()).unwrap_or_default();
                return error_advice(error, Some(*status));
            }
            Self::ClientKey(_) => "make a new key, RSA with 2048 bits or P-256, and register its public half",
            Self::IdToken(error) => return error.advice(),
            Self::ClockSkew { .. } => "let both clocks be set by NTP",
            Self::Userinfo(ClaimsError::NotJson) => {
                "turn signing and encryption of the userinfo answer off in the provider's settings for this application"
            }
            Self::Userinfo(_) => "look at the claims in the provider's settings for this application",
            Self::SubjectMismatch => {
                "the provider names people differently in the ID token and at the userinfo endpoint: let both have one `sub`"
            }
            #[cfg(feature = "saml")]
            Self::SamlRequest(_) => return None,
            #[cfg(feature = "saml")]
            Self::Saml(error) => return error.advice(),
            Self::Email(EmailFailure::Missing) => {
                "give the person an address at the provider, let it send the claim, or set `email_claim_name` to the one that \
                 holds it"
            }
            Self::Email(EmailFailure::Unverified) => "have the person's address verified at the provider",
            Self::Email(EmailFailure::Malformed(_)) => {
                "set `email_claim_name` to the claim that holds an address; this one holds something else"
            }
            Self::Groups(failure) => failure.advice(),
        })
    }

    /// For the one table that makes statuses of failures.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Unreachable { .. }
            | Self::Answer { .. }
            | Self::Discovery(_)
            | Self::Moved { .. }
            | Self::Keys(_)
            | Self::Issuer(IssuerMismatch::Discovery { .. })
            | Self::ClockSkew { .. }
            | Self::PushedRequest { .. }
            | Self::ClientKey(_)
            | Self::Groups(_) => Blame::Provider,
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

    /// One sentence for the person.
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::Groups(_) => "Failed to fetch user/group information from the identity provider",
            Self::Email(EmailFailure::Unverified) => "Your identity provider has not verified your e-mail address.",
            Self::Email(_) => "Your identity provider gave no usable e-mail address.",
            Self::ProviderError { error, .. } if error == "access_denied" => {
                "Your identity provider refused the login."
            }
            #[cfg(feature = "saml")]
            Self::Saml(SamlError::Status { .. }) => "Your identity provider refused the login.",
            #[cfg(feature = "saml")]
            Self::Saml(SamlError::NoEmail(_) | SamlError::BadEmail(_)) => {
                "Your identity provider gave no usable e-mail address."
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

/// The codes of RFC 6749 §4.1.2.1 and §5.2, and of OpenID Connect Core 3.1.2.6, that people meet.
fn error_advice(error: &str, status: Option<StatusCode>) -> Option<&'static str> {
    Some(match (error, status) {
        ("invalid_client", _) | ("", Some(StatusCode::UNAUTHORIZED)) => {
            "the provider does not take our credentials: compare `client_id` and `client_secret` (or `private_key`, \
             `private_key_id` and the registered public key), and the way in which the application authenticates, in its \
             settings; in Okta, Applications > (the application) > General > Client Credentials"
        }
        ("access_denied", _) => {
            "assign the person, or a group of theirs, to the application at the identity provider; its own log says which rule \
             refused them"
        }
        ("unauthorized_client" | "unsupported_response_type" | "unsupported_grant_type", _) => {
            "allow the application the authorization code flow; in Okta, Applications > (the application) > General > Grant type"
        }
        ("invalid_scope", _) => {
            "the provider does not know a scope: `scopes` name them; at an Okta custom authorization server add the scope \
             `groups` (Security > API)"
        }
        ("invalid_grant", _) => {
            "the code was used before, or too late, or the redirect URI is not the registered one; begin anew"
        }
        ("invalid_request" | "invalid_redirect_uri", Some(_)) => {
            "register the team domain's `/cdn-cgi/access/callback` as a redirect URI of the application, letter by letter"
        }
        ("login_required" | "interaction_required" | "consent_required" | "account_selection_required", _) => {
            "take `prompt = \"none\"` away: the provider has to ask the person something"
        }
        (error, _) if is_outage(error) => "the identity provider failed; its own log and status page say why",
        (_, Some(status)) if status.is_server_error() => {
            "the identity provider failed; its own log and status page say why"
        }
        (_, Some(StatusCode::TOO_MANY_REQUESTS)) => {
            "the account's rate limit is used up: look at Reports > Rate Limits in Okta"
        }
        _ => return None,
    })
}

/// RFC 6749 §4.1.2.1
fn is_outage(error: &str) -> bool {
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
            ClaimsError::Type("groups") => Self::Groups(GroupsFailure::Malformed),
            other => Self::Userinfo(other),
        }
    }
}

/// Okta's words, which stand in an `error_description`, of JSON or of `WWW-Authenticate` (RFC 6750 §3).
pub(super) fn is_too_many_groups(description: &str) -> bool {
    description.contains("matched too many groups")
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

const SKEW: &str = "The clocks of this service and of the identity provider differ too much.";
/// Beyond this an ID token is old or forged rather than told by another clock, in seconds.
const MAX_SKEW_TOLD: u64 = 600;
