use thiserror::Error;

use crate::model::Secret;

/// What the browser brought back from the provider (RFC 6749 §4.1.2). Nothing in it is to be believed before
/// [`Callback::code`] has looked at it.
#[derive(Clone, Debug)]
pub struct Callback {
    state: Secret,
    iss: Option<String>,
    answer: Answer,
}

#[derive(Clone, Debug)]
enum Answer {
    Code(Secret),
    Error { error: String, description: Option<String> },
}

/// Why a callback is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallbackError {
    /// Longer than any provider's answer.
    #[error("the callback is too long")]
    TooLong,
    /// A parameter is missing, stands twice, or is empty.
    #[error("the callback has not exactly one `{0}`")]
    Parameter(&'static str),
    /// It belongs to another login, or to another browser's.
    #[error("the callback belongs to another login")]
    State,
    /// RFC 9207: it comes from another provider than the login went to, or from one that should say and did not.
    #[error("the callback comes from another issuer")]
    Issuer,
    /// The provider refused (RFC 6749 §4.1.2.1). Cut, and without control characters; still to be escaped in a page.
    #[error("the provider answered `{error}`")]
    Provider {
        /// Its error code.
        error: String,
        /// Its explanation.
        description: Option<String>,
    },
}

impl Callback {
    /// Reads a query string, without its `?`. Parameters that nobody asked for are passed over.
    ///
    /// # Errors
    /// [`CallbackError::TooLong`], [`CallbackError::Parameter`].
    pub fn parse(query: &str) -> Result<Self, CallbackError> {
        if query.len() > MAX_QUERY {
            return Err(CallbackError::TooLong);
        }
        let one = |name: &'static str| -> Result<Option<String>, CallbackError> {
            let mut found = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
            match (found.next(), found.next()) {
                (None, _) => Ok(None),
                (Some((_, value)), None) if !value.is_empty() => Ok(Some(value.into_owned())),
                // RFC 6749 §3.1: parameters must not stand more than once.
                _ => Err(CallbackError::Parameter(name)),
            }
        };
        let state = Secret::new(one("state")?.ok_or(CallbackError::Parameter("state"))?);
        let answer = match (one("code")?, one("error")?) {
            (Some(code), None) => Answer::Code(Secret::new(code)),
            (None, Some(error)) => Answer::Error { error, description: one("error_description")? },
            _ => return Err(CallbackError::Parameter("code")),
        };
        Ok(Self { state, iss: one("iss")?, answer })
    }

    /// The code, where this is the answer to the login that `state` and `issuer` are of. `iss_promised`: the provider's
    /// metadata says that it names itself in every answer.
    ///
    /// # Errors
    /// [`CallbackError::State`], [`CallbackError::Issuer`], [`CallbackError::Provider`].
    pub fn code(&self, state: &Secret, issuer: &str, iss_promised: bool) -> Result<&Secret, CallbackError> {
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
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') { ' ' } else { c }
    };
    text.chars().take(length).map(plain).collect()
}

const MAX_QUERY: usize = 8 * 1024;
