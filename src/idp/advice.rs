use http::StatusCode;

use super::failure::{EmailFailure, Endpoint, GroupsFailure, IssuerMismatch, LoginFailure};
use super::meaning::{is_expired, is_outage};
use super::{GroupsMissing, Kind, Profile, Provider};
use crate::model::{Groups, is_groups};
use crate::oidc::ClaimsError;
use crate::policy::is_comparable;

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
                "the identity provider, or something before it, is out of order; its status page and its own log say more"
            }
            Self::Redirect {
                endpoint: Endpoint::Discovery,
                ..
            } => {
                "redirects are not followed: configure the issuer whose discovery document is at that address, without \
                 `/.well-known/openid-configuration`"
            }
            Self::Redirect { .. } => {
                "redirects are not followed: have the provider name the address itself, in its discovery document or in \
                 the configuration"
            }
            Self::Discovery(error) => error.advice(),
            Self::Moved { .. } => {
                "reload the configuration, if the provider announced that it would move"
            }
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
            Self::ProviderError { error, description }
                if is_expired(error, description.as_deref()) =>
            {
                "begin anew: the provider's sign-in page was open for too long, or in several tabs at once"
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
                    "something other than the provider may have answered: check the endpoint's address, and what is between \
                     this machine and the provider (a proxy, a firewall, a page to sign in at); `curl` to that address shows it",
                ));
            }
            Self::ClientKey(_) => {
                "make a new key, RSA with 2048 bits or P-256, and register its public half"
            }
            Self::IdToken(error) => return error.advice(),
            Self::ClockSkew { .. } => "let both clocks be set by NTP",
            Self::Userinfo(ClaimsError::NotJson) => {
                "turn encryption of the userinfo answer off in the provider's settings for this application"
            }
            Self::Userinfo(_) => {
                "look at the claims in the provider's settings for this application"
            }
            Self::SubjectMismatch => {
                "the provider names people differently in the ID token and at the userinfo endpoint: let both have one `sub`"
            }
            Self::SamlRequest(_) => return None,
            Self::Saml(error) => return error.advice(),
            Self::Email(EmailFailure::Missing) => {
                "give the person an address at the provider, let it send the claim, or set `email_claim_name` to the one that \
                 holds it"
            }
            Self::Email(EmailFailure::Unverified(_)) => {
                "have the person's address verified at the provider"
            }
            Self::Email(EmailFailure::Unconfirmed(_)) => {
                "have the provider send `email_verified`, or write `email_verified = \"optional\"` if users cannot enter \
                 addresses there themselves"
            }
            Self::Email(EmailFailure::ScopeNotGranted) => {
                "have the provider grant the scope `email` to this application, or take it out of `scopes` if it is of no use \
                 there; if this is about one user alone, the request may have been changed in their browser"
            }
            Self::Email(EmailFailure::Malformed(_) | EmailFailure::Unreadable) => {
                "set `email_claim_name` to the claim that holds an address; this one holds something else"
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
                "people in more than 100 Okta groups need `api_token`; without one, let the groups claim's filter match fewer"
            }
            Self::Overfull => {
                "set `api_token`, and `groups_scope = false` or no filter of the groups claim; or let the filter match fewer groups"
            }
            Self::NoApi => "groups of this provider are read at login alone",
            Self::Refused {
                status: StatusCode::UNAUTHORIZED,
                ..
            } => {
                "Okta does not know the `api_token`: it was revoked, or has not been used for 30 days; make a new one"
            }
            Self::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            }
            | Self::Subject => {
                "Okta does not know the user under the subject of the ID token; is `okta_account` the right one?"
            }
            Self::RateLimited { .. }
            | Self::Refused {
                status: StatusCode::TOO_MANY_REQUESTS,
                ..
            } => "the account's rate limit is used up: look at Reports > Rate Limits in Okta",
            Self::Refused {
                status: StatusCode::FORBIDDEN,
                code: Some(_),
            } => "the `api_token` may not read groups: make it as a read-only administrator",
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

impl Provider {
    /// Returns a remedy for the operator if a user's groups are unknown.
    pub fn advice_without_groups(&self) -> &'static str {
        match &self.kind {
            Kind::Oidc(connection) => match connection.directory() {
                Some(directory) if directory.has_token() => {
                    "Okta's API did not tell the groups for longer than `groups_max_stale`; the log says why, where groups could \
                     not be read again"
                }
                Some(_) => {
                    "set the groups claim up in Okta (Applications > (the application) > Sign On > OpenID Connect ID Token > \
                     Groups claim filter: `groups`, Matches regex, `.*`), or `api_token`: the claim is also left out where its \
                     filter matches none of the person's groups, or too many"
                }
                None => {
                    "have the provider send the groups, in the claim that `groups_claim_name` names (`groups`, if it is not set); \
                     if it does, and leaves the claim out for users in no group, set `absent_groups = \"empty\"`; if the log names \
                     a reference (`_claim_names`), have it send fewer groups"
                }
            },
            Kind::Saml(_) => {
                "have the provider send the groups, as the attribute that `groups_attribute_name` names (`groups`, if it is \
                 not set); in Okta, Group Attribute Statements: `groups`, Matches regex, `.*`. If it does, and leaves the \
                 attribute out for users in no group, set `absent_groups = \"empty\"`"
            }
        }
    }

    /// Explains to an operator why a login brought no groups, and the consequence.
    pub fn note_on_groups(&self, profile: &Profile) -> Option<String> {
        let (place, claim) = match &self.kind {
            Kind::Oidc(connection) => (
                "the ID token and the userinfo answer",
                connection.groups_claim(),
            ),
            Kind::Saml(saml) => ("the assertion", saml.provider().groups_attribute()),
        };
        let found = match profile.groups_missing {
            Some(GroupsMissing::TakenAsNone) => {
                return Some(format!(
                    "There is no `{claim}` in {place}; by `absent_groups = \"empty\"` the user is in no group."
                ));
            }
            _ if profile.groups != Groups::Unknown => return None,
            None | Some(GroupsMissing::LeftOut) => format!("There is no `{claim}` in {place}"),
            Some(GroupsMissing::NoUserinfo) => {
                return Some(format!(
                    "There is no `{claim}` in the ID token, and the provider has no userinfo endpoint that may have it. So the \
                     groups are unknown in spite of `absent_groups = \"empty\"`, and rules on groups let nobody in. To change \
                     that, have the provider send `{claim}` to everybody, empty if need be."
                ));
            }
            Some(GroupsMissing::ScopeNotGranted) => {
                return Some(format!(
                    "There is no `{claim}` in {place}, and the token answer does not name every requested scope (`scope`). A user \
                     can take a scope out of the request in their browser. So the groups are unknown in spite of \
                     `absent_groups = \"empty\"`, and rules on groups let nobody in. To change that, set `pushed_requests = true`, \
                     or have the provider grant and return every one of `scopes`; take those out that it does not know."
                ));
            }
            Some(GroupsMissing::Reference) => {
                return Some(format!(
                    "There is a reference in {place} in place of `{claim}` (such as `_claim_names`), or an attribute by a similar \
                     name. So the groups are unknown, whatever `absent_groups` is, and rules on groups let nobody in. To change \
                     that, have the provider send fewer groups, under exactly that name."
                ));
            }
            Some(GroupsMissing::Unreadable) => {
                let (fault, advice) = match &self.kind {
                    Kind::Oidc(_) => (
                        "is not a list of names",
                        "an array of strings, under exactly that name",
                    ),
                    Kind::Saml(_) => (
                        "cannot be read",
                        "values of text alone, without line breaks around them",
                    ),
                };
                return Some(format!(
                    "`{claim}` {fault}; the log names the fault. So the groups are unknown, whatever `absent_groups` is, and rules \
                     on groups let nobody in. To change that, have the provider send {advice}."
                ));
            }
        };
        let advice = self.advice_without_groups();
        Some(format!(
            "{found}, so the groups are unknown and rules on groups let nobody in. To change that, {advice}."
        ))
    }

    /// Explains to an operator which configured claims of a login are unknown, if any are.
    pub fn note_on_claims(&self, profile: &Profile) -> Option<String> {
        // SAML has no such note: a missing attribute is always unknown.
        self.connection()?;
        let is_known = |name: &str| profile.claims.get(name).is_some_and(is_comparable);
        let asked = self
            .may_be_missing()
            .into_iter()
            .filter(|name| !is_known(name) && !is_groups(name));
        let names: Vec<_> = asked.map(|name| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| {
            format!(
                "Unknown: {}. The claim is absent, cannot be read, or holds a value that rules cannot compare; the log has the \
                 reason. An absent claim counts as without a value only if there is a userinfo answer, and the token answer names \
                 every requested scope or the request was pushed (`pushed_requests = true`). A rule that excludes a value of an unknown claim denies.",
                names.join(", ")
            )
        })
    }
}

/// Returns a remedy for an error code that occurs in practice (RFC 6749 4.1.2.1 and 5.2, OpenID
/// Connect Core 3.1.2.6).
fn error_advice(error: &str, status: Option<StatusCode>) -> Option<&'static str> {
    Some(match (error, status) {
        ("invalid_client", _) | ("", Some(StatusCode::UNAUTHORIZED)) => {
            "the provider does not take our credentials: compare `client_id` and `client_secret` (or `private_key`, \
             `private_key_id` and the registered public key), and the way in which the application authenticates, in its \
             settings, with `token_endpoint_auth_method`; in Okta, Applications > (the application) > General > Client Credentials"
        }
        ("access_denied", _) => {
            "assign the person, or a group of theirs, to the application at the identity provider; its own log says which rule \
             refused them. An Okta custom authorization server also needs an access policy, with a rule, for the application"
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
        (error, _) if is_outage(error) => {
            "the identity provider failed; its own log and status page say why"
        }
        (_, Some(status)) if status.is_server_error() => {
            "the identity provider failed; its own log and status page say why"
        }
        (_, Some(StatusCode::TOO_MANY_REQUESTS)) => {
            "the account's rate limit is used up: look at Reports > Rate Limits in Okta"
        }
        _ => return None,
    })
}
