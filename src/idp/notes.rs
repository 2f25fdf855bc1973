//! Notes for an operator about the groups and claims of a login.

use super::{GroupsMissing, Provider, ProviderIdentity};
use crate::model::{Groups, is_groups};
use crate::policy::is_comparable;

impl Provider {
    /// Returns a remedy for the operator if a user's groups are unknown.
    pub fn groups_advice(&self) -> &'static str {
        match self {
            Self::Oidc(oidc) => match oidc.directory() {
                Some(directory) if directory.has_token() => {
                    "Okta's API did not return the groups for longer than `groups_max_stale`; the log has the cause"
                }
                Some(_) => {
                    "configure the groups claim in Okta (Applications > (the application) > Sign On > OpenID Connect \
                     ID Token > Groups claim filter: `groups`, Matches regex, `.*`), or set `api_token`: Okta also \
                     omits the claim if its filter matches none of the user's groups, or too many"
                }
                None => {
                    "have the provider send the groups, in the claim that `groups_claim_name` names (`groups` by \
                     default); if it does, but omits the claim for users in no group, set `absent_groups = \
                     \"empty\"`; if the log names a reference (`_claim_names`), have it send fewer groups"
                }
            },
            Self::Saml(_) => {
                "have the provider send the groups, as the attribute that `groups_attribute_name` names (`groups` by \
                 default); in Okta, Group Attribute Statements: `groups`, Matches regex, `.*`. If it does, but omits \
                 the attribute for users in no group, set `absent_groups = \"empty\"`"
            }
        }
    }

    /// Explains to an operator why a login brought no groups, and the consequence.
    pub fn groups_note(&self, identity: &ProviderIdentity) -> Option<String> {
        let (place, claim) = match self {
            Self::Oidc(oidc) => (
                "the ID token and the userinfo response",
                oidc.groups_claim(),
            ),
            Self::Saml(saml) => ("the assertion", saml.provider().groups_attribute()),
        };
        let found = match identity.groups_missing {
            Some(GroupsMissing::TakenAsNone) => {
                return Some(format!(
                    "There is no `{claim}` in {place}. Because of `absent_groups = \"empty\"`, the user is in no \
                     group."
                ));
            }
            _ if identity.groups != Groups::Unknown => return None,
            None | Some(GroupsMissing::LeftOut) => format!("There is no `{claim}` in {place}"),
            Some(GroupsMissing::NoUserinfo) => {
                return Some(format!(
                    "There is no `{claim}` in the ID token, and the provider has no userinfo endpoint that may have \
                     it. The groups are therefore unknown despite `absent_groups = \"empty\"`, and rules on groups \
                     admit no user. To change that, have the provider send `{claim}` for all users, empty if \
                     necessary."
                ));
            }
            Some(GroupsMissing::ScopeNotGranted) => {
                return Some(format!(
                    "There is no `{claim}` in {place}, and the token response does not name every requested scope \
                     (`scope`). Users can remove a scope from the request in their browser. The groups are therefore \
                     unknown despite `absent_groups = \"empty\"`, and rules on groups admit no user. To change that, \
                     set `pushed_requests = true`, or have the provider grant and return every one of `scopes`; \
                     remove those that it does not support."
                ));
            }
            Some(GroupsMissing::Reference) => {
                return Some(format!(
                    "There is a reference in {place} instead of `{claim}` (such as `_claim_names`), or an attribute \
                     with a similar name. The groups are therefore unknown whatever `absent_groups` is, and rules on \
                     groups admit no user. To change that, have the provider send fewer groups, under exactly that \
                     name."
                ));
            }
            Some(GroupsMissing::Unreadable) => return Some(self.unreadable_note(claim)),
        };
        let advice = self.groups_advice();
        Some(format!(
            "{found}, so the groups are unknown and rules on groups admit no user. To change that, {advice}."
        ))
    }

    fn unreadable_note(&self, claim: &str) -> String {
        let (fault, advice) = match self {
            Self::Oidc(_) => (
                "is not a list of names",
                "an array of strings, under exactly that name",
            ),
            Self::Saml(_) => (
                "cannot be read",
                "values of text only, without line breaks around them",
            ),
        };
        format!(
            "`{claim}` {fault}; the log names the fault. The groups are therefore unknown whatever `absent_groups` \
             is, and rules on groups admit no user. To change that, have the provider send {advice}."
        )
    }

    /// Explains to an operator which configured claims of a login are unknown, if any are.
    pub fn claims_note(&self, identity: &ProviderIdentity) -> Option<String> {
        // SAML has no such note: a missing attribute is always unknown.
        self.as_oidc()?;
        let is_known = |name: &str| identity.claims.get(name).is_some_and(is_comparable);
        let asked = self
            .configured_claims()
            .into_iter()
            .filter(|name| !is_known(name) && !is_groups(name));
        let names: Vec<_> = asked.map(|name| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| {
            format!(
                "Unknown: {}. The claim is absent, cannot be read, or contains a value that rules cannot compare; the \
                 log has the reason. An absent claim counts as having no value only if there is a userinfo response, \
                 and the token response names every requested scope or the request was pushed (`pushed_requests = \
                 true`). A rule that excludes a value of an unknown claim denies.",
                names.join(", ")
            )
        })
    }
}
