use thiserror::Error;

use crate::model::Secret;

/// What the browser brought back from the provider (RFC 6749 §4.1.2). Nothing in it is to be
/// believed before [`Callback::code`] has looked at it.
#[derive(Clone, Debug)]
pub struct Callback {
    state: Secret,
    iss: Option<String>,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    Code(Secret),
    Error {
        error: String,
        description: Option<String>,
    },
}

/// Why a callback is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallbackError {
    /// Longer than any provider's answer.
    #[error("the callback is too long")]
    TooLong,
    /// A parameter is missing or is there twice.
    #[error("the callback has not exactly one `{0}`")]
    Parameter(&'static str),
    /// It belongs to another login, or to another browser's.
    #[error("the callback belongs to another login")]
    State,
    /// RFC 9207: it comes from another provider than the login went to, or from one that should say
    /// and did not.
    #[error("the callback comes from another issuer")]
    Issuer,
    /// The provider refused (RFC 6749 §4.1.2.1). Cut, and without control characters; still to be
    /// escaped in a page.
    #[error("the provider answered `{error}`")]
    Provider {
        /// Its error code.
        error: String,
        /// Its explanation.
        description: Option<String>,
    },
}

impl CallbackError {
    /// Returns the error code of the provider if it is a registered one: those are safe to show,
    /// whoever sent them.
    pub fn registered_code(&self) -> Option<&'static str> {
        let Self::Provider { error, .. } = self else {
            return None;
        };
        REGISTERED_ERRORS.into_iter().find(|code| *code == error)
    }
}

impl Callback {
    /// Returns the error in a query string, whether or not it is the answer to a login. It is not
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
        let error = tame(&first("error")?, 64);
        let description = first("error_description").map(|text| tame(&text, 300));
        Some(CallbackError::Provider { error, description })
    }

    /// Reads a query string, without its `?`. Parameters that nobody asked for are passed over.
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
                // RFC 6749 3.1: a parameter without a value counts as omitted.
                (Some((_, value)), None) => {
                    Ok(Some(value.into_owned()).filter(|value| !value.is_empty()))
                }
                // RFC 6749 §3.1: parameters must not stand more than once.
                _ => Err(CallbackError::Parameter(name)),
            }
        };
        let state = Secret::new(one("state")?.ok_or(CallbackError::Parameter("state"))?);
        let answer = match (one("code")?, one("error")?) {
            (Some(code), None) => Answer::Code(Secret::new(code)),
            (None, Some(error)) => Answer::Error {
                error,
                description: one("error_description")?,
            },
            _ => return Err(CallbackError::Parameter("code")),
        };
        Ok(Self {
            state,
            iss: one("iss")?,
            answer,
        })
    }

    /// The code, where this is the answer to the login that `state` and `issuer` are of.
    /// `iss_promised`: the provider's metadata says that it names itself in every answer.
    ///
    /// # Errors
    /// [`CallbackError::State`], [`CallbackError::Issuer`], [`CallbackError::Provider`].
    pub fn code(
        &self,
        state: &Secret,
        issuer: &str,
        iss_promised: bool,
    ) -> Result<&Secret, CallbackError> {
        if self.state != *state {
            return Err(CallbackError::State);
        }
        // RFC 9207 §2.4: simple string comparison; errors are looked at only afterwards.
        match self.iss.as_deref() {
            Some(iss) if iss != issuer => return Err(CallbackError::Issuer),
            None if iss_promised => return Err(CallbackError::Issuer),
            _ => {}
        }
        match &self.answer {
            Answer::Code(code) => Ok(code),
            Answer::Error { error, description } => Err(CallbackError::Provider {
                error: tame(error, 64),
                description: description.as_deref().map(|text| tame(text, 300)),
            }),
        }
    }
}

/// Text of the provider's for logs and pages: one line, of bounded length.
pub(crate) fn tame(text: &str, length: usize) -> String {
    let plain = |c: char| {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            ' '
        } else {
            c
        }
    };
    text.chars().take(length).map(plain).collect()
}

/// RFC 6749 4.1.2.1 and OpenID Connect Core 3.1.2.6.
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

const MAX_QUERY: usize = 8 * 1024;
