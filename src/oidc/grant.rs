use super::AnsweredScopes;

/// The scopes that a login requested, and those that the provider is known to have granted.
///
/// A user can change `scope` in the address of an authorization request: `state`, `nonce` and PKCE
/// match nevertheless. A claim that is tied to a scope is then absent at the user's will. So its
/// absence counts only if every scope is known to be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    requested: Vec<String>,
    /// `None` if nothing is known of them.
    granted: Option<Vec<String>>,
}

impl Grant {
    /// The grant of a token answer, and of a request whose scopes `pushed` were sent past the
    /// browser (RFC 9126), separated by spaces.
    pub fn new(requested: &[String], answered: &AnsweredScopes, pushed: Option<&str>) -> Self {
        let granted = match answered {
            AnsweredScopes::These(scopes) => Some(scopes.clone()),
            AnsweredScopes::AsRequested => {
                pushed.map(|all| all.split(' ').map(str::to_owned).collect())
            }
            AnsweredScopes::Unreadable => None,
        };
        Self {
            requested: requested.to_vec(),
            granted,
        }
    }

    /// Returns `true` if every requested scope that claims may be tied to is known to be granted.
    pub fn is_complete(&self) -> bool {
        let mut tied = self
            .requested
            .iter()
            .filter(|scope| !WITHOUT_CLAIMS.contains(&scope.as_str()));
        tied.all(|scope| self.grants(scope).unwrap_or(false))
    }

    /// Returns `true` if the scope was requested and is known not to be granted.
    pub fn lacks(&self, scope: &str) -> bool {
        self.requested.iter().any(|requested| requested == scope)
            && self.grants(scope) == Some(false)
    }

    fn grants(&self, scope: &str) -> Option<bool> {
        // Google answers with addresses in place of the two names.
        let alias = matches!(scope, "email" | "profile").then(|| format!("{GOOGLE}{scope}"));
        let matches = |granted: &String| granted == scope || Some(granted) == alias.as_ref();
        self.granted.as_ref().map(|all| all.iter().any(matches))
    }
}

/// OpenID Connect Core 3.1.2.1 and 11: without the first there is no ID token, and the other is for
/// refresh tokens.
const WITHOUT_CLAIMS: [&str; 2] = ["openid", "offline_access"];
const GOOGLE: &str = "https://www.googleapis.com/auth/userinfo.";
