use thiserror::Error;

use crate::model::Secret;

/// The query of the provider's redirect to the callback (RFC 6749 4.1.2). Nothing in it is trusted
/// until [`Callback::code`] has verified it.
#[derive(Clone, Debug)]
pub struct Callback {
    state: Secret,
    iss: Option<String>,
    response: AuthorizationResponse,
}

#[derive(Clone, Debug)]
enum AuthorizationResponse {
    Code(Secret),
    Error {
        error: String,
        description: Option<String>,
    },
}

/// The issuer that an authorization response must come from, as its `iss` names it (RFC 9207).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseIssuer<'a> {
    /// The metadata promises that every response names it.
    Named(&'a str),
    /// A response may omit it, but must not name another one.
    MayBeNamed(&'a str),
}

/// The reason why a callback is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallbackError {
    /// Longer than any provider's response.
    #[error("the callback is too long")]
    TooLong,
    /// A parameter is missing or duplicated.
    #[error("the callback does not have exactly one `{0}`")]
    Parameter(&'static str),
    /// The callback belongs to another login or another browser.
    #[error("the callback belongs to another login")]
    State,
    /// The callback comes from another issuer, or does not name its issuer although the metadata
    /// promises that (RFC 9207).
    #[error("the callback comes from another issuer")]
    Issuer,
    /// The provider reported an error (RFC 6749 4.1.2.1). Both texts are cut and free of control
    /// characters, but not escaped for HTML.
    #[error("the provider returned `{error}`")]
    Provider {
        /// The provider's error code.
        error: String,
        /// The provider's description of the error.
        description: Option<String>,
    },
}

impl CallbackError {
    /// Returns the provider's error code if it is a registered one. Only those are safe to show,
    /// because anyone can send a callback.
    pub fn registered_code(&self) -> Option<&'static str> {
        let Self::Provider { error, .. } = self else {
            return None;
        };
        // Returns the constant, not the text of the request.
        REGISTERED_ERRORS.into_iter().find(|code| *code == error)
    }
}

impl Callback {
    /// Returns the error in a query string, even if it does not answer a login of ours. It is not
    /// verified.
    pub fn reported_error(query: &str) -> Option<CallbackError> {
        let query = query.get(..MAX_QUERY).unwrap_or(query);
        let first = |name: &str| {
            let mut found =
                url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            found
                .next()
                .map(|(_, value)| value)
                .filter(|value| !value.is_empty())
        };
        let error = one_line(&first("error")?, 64);
        let description = first("error_description").map(|text| one_line(&text, 300));
        Some(CallbackError::Provider { error, description })
    }

    /// Parses a query string, without its `?`. Unknown parameters are ignored.
    ///
    /// # Errors
    /// [`CallbackError::TooLong`], [`CallbackError::Parameter`].
    pub fn parse(query: &str) -> Result<Self, CallbackError> {
        if query.len() > MAX_QUERY {
            return Err(CallbackError::TooLong);
        }
        let one = |name: &'static str| -> Result<Option<String>, CallbackError> {
            let mut found =
                url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            match (found.next(), found.next()) {
                (None, _) => Ok(None),
                // A parameter without a value counts as omitted (RFC 6749 3.1).
                (Some((_, value)), None) => {
                    Ok(Some(value.into_owned()).filter(|value| !value.is_empty()))
                }
                // A parameter must not occur more than once (RFC 6749 3.1).
                _ => Err(CallbackError::Parameter(name)),
            }
        };
        let state = Secret::new(one("state")?.ok_or(CallbackError::Parameter("state"))?);
        let response = match (one("code")?, one("error")?) {
            (Some(code), None) => AuthorizationResponse::Code(Secret::new(code)),
            (None, Some(error)) => AuthorizationResponse::Error {
                error,
                description: one("error_description")?,
            },
            // Both or neither: no response of RFC 6749 4.1.2 has that form.
            _ => return Err(CallbackError::Parameter("code")),
        };
        Ok(Self {
            state,
            iss: one("iss")?,
            response,
        })
    }

    /// Returns the authorization code if this callback responds to the login with this `state`, and
    /// comes from this issuer.
    ///
    /// # Errors
    /// [`CallbackError::State`], [`CallbackError::Issuer`], [`CallbackError::Provider`].
    pub fn code(
        &self,
        state: &Secret,
        issuer: ResponseIssuer<'_>,
    ) -> Result<&Secret, CallbackError> {
        if self.state != *state {
            return Err(CallbackError::State);
        }
        // RFC 9207 2.4: simple string comparison, also before an error is read.
        let is_expected = match (self.iss.as_deref(), issuer) {
            (Some(iss), ResponseIssuer::Named(issuer) | ResponseIssuer::MayBeNamed(issuer)) => {
                iss == issuer
            }
            (None, ResponseIssuer::Named(_)) => false,
            (None, ResponseIssuer::MayBeNamed(_)) => true,
        };
        if !is_expected {
            return Err(CallbackError::Issuer);
        }
        match &self.response {
            AuthorizationResponse::Code(code) => Ok(code),
            AuthorizationResponse::Error { error, description } => Err(CallbackError::Provider {
                error: one_line(error, 64),
                description: description.as_deref().map(|text| one_line(text, 300)),
            }),
        }
    }
}

/// Limits text from the provider to one line of bounded length, for logs and pages.
pub(crate) fn one_line(text: &str, length: usize) -> String {
    let plain = |c: char| {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            ' '
        } else {
            c
        }
    };
    text.chars().take(length).map(plain).collect()
}

/// The error codes of RFC 6749 4.1.2.1 and OpenID Connect Core 3.1.2.6.
const REGISTERED_ERRORS: [&str; 16] = [
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "invalid_request",
    "invalid_request_object",
    "invalid_request_uri",
    "invalid_scope",
    "login_required",
    "registration_not_supported",
    "request_not_supported",
    "request_uri_not_supported",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_response_type",
];

// Codes and states have less than 4 KiB. Most servers limit a request line to 8 KiB.
const MAX_QUERY: usize = 8 * 1024;
