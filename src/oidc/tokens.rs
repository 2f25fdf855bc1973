use std::fmt;
use std::time::Duration;

use openidconnect::core::CoreTokenType;
use openidconnect::{AccessToken, ErrorResponse, OAuth2TokenResponse, RefreshToken, Scope};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::{Map, Value};

use super::callback::one_line;
use super::lenient::strings;
use crate::model::json::Object;

/// A token response (OpenID Connect Core 3.1.3.3), read member by member. Lifetime and refresh
/// token are not used and not read.
#[derive(Clone)]
pub struct TokenResponse {
    access_token: AccessToken,
    token_type: CoreTokenType,
    id_token: Option<String>,
    scopes: GrantedScopes,
}

/// The scopes of a token response (RFC 6749 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantedScopes {
    /// `scope` is absent: the provider granted the scopes in the request that it received.
    AsRequested,
    /// Exactly these scopes.
    These(Vec<String>),
    /// `scope` cannot be read.
    Unreadable,
}

impl TokenResponse {
    /// Returns the granted scopes.
    pub const fn granted(&self) -> &GrantedScopes {
        &self.scopes
    }

    /// Returns the ID token, which is not yet verified. `None` if it is absent or not a string.
    pub fn id_token(&self) -> Option<&str> {
        self.id_token.as_deref()
    }
}

impl<'de> Deserialize<'de> for TokenResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(members) = Object::<Map<String, Value>>::deserialize(deserializer)?;
        // Tokens never start or end with white space.
        let text = |name| {
            members
                .get(name)
                .and_then(Value::as_str)
                .map(str::trim_ascii)
        };
        let token_type = match members.get("token_type") {
            // The type is required (RFC 6749 5.1), but no other type is in use.
            None | Some(Value::Null) => CoreTokenType::Bearer,
            Some(Value::String(name)) if name.is_empty() || name.eq_ignore_ascii_case("bearer") => {
                CoreTokenType::Bearer
            }
            Some(_) => CoreTokenType::Extension("another".to_owned()),
        };
        Ok(Self {
            access_token: AccessToken::new(text("access_token").unwrap_or_default().to_owned()),
            token_type,
            id_token: text("id_token").map(str::to_owned),
            scopes: GrantedScopes::read(members.get("scope")),
        })
    }
}

impl GrantedScopes {
    /// Reads the list (RFC 6749 3.3), which may also be an array.
    fn read(value: Option<&Value>) -> Self {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return Self::AsRequested;
        };
        let Some(texts) = strings(value) else {
            return Self::Unreadable;
        };
        let all = texts
            .iter()
            .flat_map(|text| text.split(' '))
            .filter(|scope| !scope.is_empty());
        Self::These(all.map(str::to_owned).collect())
    }
}

/// An error response of an endpoint (RFC 6749 5.2), read member by member.
#[derive(Clone, Debug, Default)]
pub struct OAuthError {
    error: Option<String>,
    description: Option<String>,
}

impl OAuthError {
    /// Returns the error code and description for logs, cut and without control characters. `None`
    /// if both are absent.
    pub fn summary(&self) -> Option<String> {
        let parts =
            [&self.error, &self.description].map(|part| part.as_deref().unwrap_or_default());
        let summary = parts.join(" ");
        Some(one_line(summary.trim(), MAX_SUMMARY)).filter(|summary| !summary.is_empty())
    }
}

impl<'de> Deserialize<'de> for OAuthError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(members) = Object::<Map<String, Value>>::deserialize(deserializer)?;
        let text = |name| members.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            error: text("error"),
            description: text("error_description"),
        })
    }
}

/// `openidconnect` requires this implementation but never uses it.
impl Serialize for OAuthError {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("errors are not serialized"))
    }
}

impl fmt::Display for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.summary().as_deref().unwrap_or("no error code"))
    }
}

impl ErrorResponse for OAuthError {}

/// `openidconnect` requires this implementation but never uses it. Tokens are never serialized.
impl Serialize for TokenResponse {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("tokens are not serialized"))
    }
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenResponse(…)")
    }
}

impl OAuth2TokenResponse for TokenResponse {
    type TokenType = CoreTokenType;

    /// Empty if it is absent or not a string.
    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &CoreTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        None
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        None
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

// One line of a log. The text comes from the provider and may have any length.
const MAX_SUMMARY: usize = 300;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Option<(String, bool, Option<String>)> {
        let TokenResponse {
            access_token,
            token_type,
            id_token,
            ..
        } = serde_json::from_str(json).ok()?;
        Some((
            access_token.secret().clone(),
            token_type == CoreTokenType::Bearer,
            id_token,
        ))
    }

    #[test]
    fn unused_members_are_ignored() {
        let good = Some(("at".to_owned(), true, Some("it".to_owned())));
        for rest in [
            r#""token_type":"Bearer""#,
            r#""token_type":"bearer","expires_in":3600"#,
            r#""token_type":"BEARER","expires_in":"3600","scope":"openid email""#,
            r#""token_type":"Bearer","scope":["openid","email"],"expires_in":3600.5"#,
            r#""token_type":"Bearer","scope":null,"expires_in":null,"refresh_token":7"#,
            r#""token_type":null,"expires_in":-1,"session_state":{}"#,
            r#""not-before-policy":0"#,
            r#""token_type":"""#,
        ] {
            assert_eq!(
                read(&format!(
                    r#"{{"access_token":"at","id_token":"it",{rest}}}"#
                )),
                good,
                "{rest}"
            );
        }
    }

    #[test]
    fn white_space_around_a_token_is_removed() {
        let odd = "{\"access_token\":\"at\\n\",\"id_token\":\" it\\r\\n\"}";
        assert_eq!(
            read(odd),
            Some(("at".to_owned(), true, Some("it".to_owned())))
        );
    }

    #[test]
    fn another_token_type_is_not_bearer() {
        for other in [
            r#""DPoP""#,
            r#""mac""#,
            r#"" ""#,
            "1",
            r#"["Bearer"]"#,
            "{}",
            "true",
            r#""bearer ""#,
        ] {
            let (_, bearer, _) =
                read(&format!(r#"{{"access_token":"at","token_type":{other}}}"#)).unwrap();
            assert!(!bearer, "{other}");
        }
    }

    #[test]
    fn tokens_that_are_not_strings_are_absent() {
        for odd in ["7", "null", "[]", r#"["it"]"#, "{}"] {
            assert_eq!(
                read(&format!(r#"{{"access_token":{odd},"id_token":{odd}}}"#)),
                Some((String::new(), true, None))
            );
        }
        for no_object in [
            "",
            "[]",
            "null",
            r#""at""#,
            r#"["at","Bearer","it"]"#,
            "<html>",
        ] {
            assert_eq!(read(no_object), None, "{no_object}");
        }
        let response: TokenResponse =
            serde_json::from_str(r#"{"access_token":"at","id_token":"it"}"#).unwrap();
        assert!(
            serde_json::to_string(&response).is_err() && !format!("{response:?}").contains("at")
        );
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in r#"\{("(access_token|id_token|token_type|expires_in|scope)":("x"|1|null|\[\]|\{\}|-1e9),?){0,6}\}|\PC{0,30}"#) {
            let _ = read(&text);
        }
    }
}
