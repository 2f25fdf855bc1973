use http::{HeaderName, Method};

/// Cross-origin access of browsers to an application (`cors_headers`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsHeaders {
    /// The allowed sites, each as browsers send it in `Origin`.
    pub origins: Allowed<String>,
    /// The allowed methods.
    pub methods: Allowed<Method>,
    /// The allowed request headers.
    pub headers: Allowed<HeaderName>,
    /// Allows requests with the user's session. Never together with all origins.
    pub allow_credentials: bool,
    /// The time in seconds that browsers may cache the response; -1 for not at all. From -1 to
    /// 86,400.
    pub max_age: Option<i32>,
}

/// Everything, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed<T> {
    /// Everything.
    All,
    /// The items of the list.
    These(Vec<T>),
}

impl<T: Clone> Allowed<T> {
    /// Returns the list; `None` for everything.
    pub fn listed(&self) -> Option<&[T]> {
        match self {
            Self::All => None,
            Self::These(list) => Some(list),
        }
    }
}
