use super::GrantedScopes;

/// The scopes that a login requested, and those that the provider is known to have granted.
///
/// A user can change `scope` in the URL of an authorization request: `state`, `nonce` and PKCE
/// still match. The user can thus suppress a claim that depends on a scope. The absence of a claim
/// therefore counts only if every scope is known to be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    requested: Vec<String>,
    /// `None` if the granted scopes are unknown.
    granted: Option<Vec<String>>,
}

impl Grant {
    /// Determines the grant from a token response and from `pushed`: the space-separated scopes of
    /// a request that was pushed past the browser (RFC 9126).
    pub fn new(requested: &[String], answered: &GrantedScopes, pushed: Option<&str>) -> Self {
        let granted = match answered {
            GrantedScopes::These(scopes) => Some(scopes.clone()),
            GrantedScopes::AsRequested => {
                pushed.map(|all| all.split(' ').map(str::to_owned).collect())
            }
            GrantedScopes::Unreadable => None,
        };
        Self {
            requested: requested.to_vec(),
            granted,
        }
    }

    /// Returns `true` if every requested scope that claims may depend on is known to be granted.
    pub fn is_complete(&self) -> bool {
        let mut tied = self
            .requested
            .iter()
            .filter(|scope| !WITHOUT_CLAIMS.contains(&scope.as_str()));
        tied.all(|scope| self.grants(scope).unwrap_or(false))
    }

    /// Returns `true` if the scope was requested and is known to be missing from the grant.
    pub fn lacks(&self, scope: &str) -> bool {
        self.requested.iter().any(|requested| requested == scope)
            && self.grants(scope) == Some(false)
    }

    fn grants(&self, scope: &str) -> Option<bool> {
        // Google returns URLs in place of these two names.
        let alias = matches!(scope, "email" | "profile").then(|| format!("{GOOGLE}{scope}"));
        let matches = |granted: &String| granted == scope || Some(granted) == alias.as_ref();
        self.granted.as_ref().map(|all| all.iter().any(matches))
    }
}

/// Scopes without claims (OpenID Connect Core 3.1.2.1 and 11): `openid` requests the ID token
/// itself, `offline_access` a refresh token.
const WITHOUT_CLAIMS: [&str; 2] = ["openid", "offline_access"];
const GOOGLE: &str = "https://www.googleapis.com/auth/userinfo.";
