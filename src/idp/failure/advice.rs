//! Remedies for failed logins: the hints in the log.

use http::StatusCode;

use super::reason::{is_expired, is_outage};
use super::{EmailFailure, Endpoint, GroupsFailure, IssuerMismatch, LoginFailure};
use crate::oidc::ClaimsError;

impl LoginFailure {
    /// Returns a remedy for the operator, if there is one: the hint in the log.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { source, .. } => return source.advice(),
            Self::Answer {
                endpoint: Endpoint::Discovery,
                status: StatusCode::NOT_FOUND,
            } => {
                "there is no discovery document: check `okta_account` and `authorization_server_id`, or `issuer`"
            }
            Self::Answer {
                endpoint: Endpoint::Userinfo,
                status: StatusCode::FORBIDDEN,
            } => {
                "the provider does not let its access token read claims: grant the application the scopes `openid`, `profile` \
                 and `email`"
            }
            Self::Answer { .. } => {
                "the identity provider, or a proxy in front of it, is failing; see its status page and its own log"
            }
            Self::Redirect {
                endpoint: Endpoint::Discovery,
                ..
            } => {
                "redirects are not followed: configure the issuer whose discovery document is at that URL, without \
                 `/.well-known/openid-configuration`"
            }
            Self::Redirect { .. } => {
                "redirects are not followed: name the final URL in the provider's discovery document, or in the \
                 configuration"
            }
            Self::Discovery(error) => error.advice(),
            Self::Moved { .. } => "reload the configuration if the provider announced the move",
            Self::Keys(_) => {
                "check that `jwks_uri` in the discovery document, or `certs_url`, is the URL of this provider's JWKS"
            }
            Self::Issuer(IssuerMismatch::Discovery { .. }) => {
                "configure the issuer that the discovery document names, byte for byte; for Okta, set `okta_account` \
                 (the custom domain, if there is one) and `authorization_server_id`"
            }
            Self::Issuer(IssuerMismatch::Callback) => {
                "start over; if it happens to all users, `issuer` is not the issuer of the provider"
            }
            Self::Callback(_) | Self::Flow => "start over at the URL of the application",
            Self::ProviderError { error, description }
                if is_expired(error, description.as_deref()) =>
            {
                "start over: the provider's sign-in page was open for too long, or in several tabs at once"
            }
            Self::ProviderError { error, .. } => return error_advice(error, None),
            Self::TokenEndpoint { status, error } | Self::PushedRequest { status, error } => {
                let error = error
                    .as_deref()
                    .and_then(|said| said.split(' ').next())
                    .unwrap_or_default();
                return error_advice(error, Some(*status));
            }
            Self::NotJson { status, .. } => {
                return error_advice("", Some(*status)).or(Some(
                    "something other than the provider may have responded: check the endpoint's URL, and everything \
                     between this machine and the provider (a proxy, a firewall, a sign-in page); call the URL with \
                     `curl` to see the response",
                ));
            }
            Self::ClientKey(_) => {
                "create a new key (RSA with 2048 bits, or P-256) and register its public key"
            }
            Self::IdToken(error) => return error.advice(),
            Self::ClockSkew { .. } => "synchronise both clocks with NTP",
            Self::Userinfo(ClaimsError::NotJson) => {
                "turn off encryption of the userinfo response in the provider's settings for this application"
            }
            Self::Userinfo(_) => "check the claims in the provider's settings for this application",
            Self::SubjectMismatch => {
                "the provider identifies users differently in the ID token and at the userinfo endpoint: both must \
                 send the same `sub`"
            }
            Self::SamlRequest(_) => return None,
            Self::Saml(error) => return error.advice(),
            Self::Email(EmailFailure::Missing) => {
                "set the user's email address at the provider, have it send the claim, or set `email_claim_name` to \
                 the claim that contains it"
            }
            Self::Email(EmailFailure::Unverified(_)) => {
                "have the user's email address verified at the provider"
            }
            Self::Email(EmailFailure::Unconfirmed(_)) => {
                "have the provider send `email_verified`, or set `email_verified = \"optional\"` if users cannot \
                 enter email addresses there themselves"
            }
            Self::Email(EmailFailure::ScopeNotGranted) => {
                "have the provider grant the scope `email` to this application, or remove it from `scopes` if the \
                 provider does not use it; if only one user is affected, the request may have been changed in that \
                 user's browser"
            }
            Self::Email(EmailFailure::Malformed(_) | EmailFailure::Unreadable) => {
                "set `email_claim_name` to the claim that contains an email address; this one contains something else"
            }
            Self::Groups(failure) => failure.advice(),
        })
    }
}

impl GroupsFailure {
    /// Returns a remedy for the operator: the hint in the log.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::TooMany => {
                "users in 100 Okta groups or more require `api_token`; without one, restrict \
                 the filter of the groups claim so that it matches fewer groups"
            }
            Self::Overfull => {
                "set `api_token`, and `groups_scope = false` or no filter of the groups claim; or \
                 restrict \
                 that filter so that it matches fewer groups"
            }
            Self::NoApi => "groups of this provider are read only at login",
            Self::Refused {
                status: StatusCode::UNAUTHORIZED,
                ..
            } => {
                "Okta rejected the `api_token`: it was revoked, or was not used for 30 days; create a new one"
            }
            Self::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            }
            | Self::Subject => {
                "Okta has no user with the subject of the ID token; check `okta_account`"
            }
            Self::RateLimited { .. }
            | Self::Refused {
                status: StatusCode::TOO_MANY_REQUESTS,
                ..
            } => "the rate limit of the account is exceeded: see Reports > Rate Limits in Okta",
            Self::Refused {
                status: StatusCode::FORBIDDEN,
                code: Some(_),
            } => "the `api_token` may not read groups: create it as a read-only administrator",
            Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::Refused { .. }
            | Self::NotGroups
            | Self::NotUser
            | Self::ForeignPage
            | Self::Endless => {
                "Okta's ThreatInsight may block this machine: look for its IP address in Okta's system log, and \
                 exempt it as a network zone"
            }
        }
    }
}

/// Returns a remedy for an error code that occurs in practice (RFC 6749 4.1.2.1 and 5.2, OpenID
/// Connect Core 3.1.2.6).
fn error_advice(error: &str, status: Option<StatusCode>) -> Option<&'static str> {
    Some(match (error, status) {
        ("invalid_client", _) | ("", Some(StatusCode::UNAUTHORIZED)) => {
            "the provider rejected our credentials: compare `client_id` and `client_secret` (or `private_key`, \
             `private_key_id` and the registered public key), and the application's authentication method with \
             `token_endpoint_auth_method`; in Okta, Applications > (the application) > General > Client Credentials"
        }
        ("access_denied", _) => {
            "assign the user, or one of the user's groups, to the application at the identity provider; its own log \
             names the rule that denied access. An Okta custom authorization server also needs an access policy, \
             with a rule, for the application"
        }
        ("unauthorized_client" | "unsupported_response_type" | "unsupported_grant_type", _) => {
            "enable the authorization code flow for the application; in Okta, Applications > (the application) > \
             General > Grant type"
        }
        ("invalid_scope", _) => {
            "the provider does not support one of `scopes`; in an Okta custom authorization server, add the scope \
             `groups` (Security > API)"
        }
        ("invalid_grant", _) => {
            "the code was used before or too late, or the redirect URI is not registered exactly \
             as sent; start over"
        }
        ("invalid_request" | "invalid_redirect_uri", Some(_)) => {
            "register the team domain's `/cdn-cgi/access/callback` as a redirect URI of the \
             application, exactly as written"
        }
        (error, _) if is_outage(error) => {
            "the identity provider failed; see its own log and status page"
        }
        (_, Some(status)) if status.is_server_error() => {
            "the identity provider failed; see its own log and status page"
        }
        (_, Some(StatusCode::TOO_MANY_REQUESTS)) => {
            "the rate limit of the account is exceeded: see Reports > Rate Limits in Okta"
        }
        _ => return None,
    })
}
