use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// The cross-origin requests that an application accepts (Fetch standard, "CORS protocol").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Exact origins, in lower case.
    pub allowed_origins: BTreeSet<String>,
    /// Any origin; never together with credentials.
    pub allow_all_origins: bool,
    /// Methods; all if `None`.
    pub allowed_methods: Option<Vec<Method>>,
    /// Request headers; all if `None`.
    pub allowed_headers: Option<Vec<HeaderName>>,
    /// `true` if cookies may be sent.
    pub allow_credentials: bool,
    /// Seconds that a preflight's answer may be kept.
    pub max_age: Option<u32>,
}

impl Cors {
    /// Returns the headers that let a script of the request's origin read our response; none if it
    /// may not.
    pub fn headers(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(origin) = request.get(header::ORIGIN) else {
            return headers;
        };
        let named = origin
            .to_str()
            .is_ok_and(|o| self.allowed_origins.contains(&o.to_ascii_lowercase()));
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        if named {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            if self.allow_credentials {
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    HeaderValue::from_static("true"),
                );
            }
        } else if self.allow_all_origins && !self.allow_credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
        }
        headers
    }

    /// Returns the headers of the response to a preflight.
    pub fn preflight(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers(request);
        if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return headers;
        }
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.insert(header::VARY, HeaderValue::from_static(vary));
        let join = |names: Vec<&str>| HeaderValue::try_from(names.join(", ")).ok();
        let methods = match &self.allowed_methods {
            Some(methods) => join(methods.iter().map(Method::as_str).collect()),
            None => request.get(header::ACCESS_CONTROL_REQUEST_METHOD).cloned(),
        };
        let names = match &self.allowed_headers {
            Some(names) => join(names.iter().map(HeaderName::as_str).collect()),
            None => request.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        };
        let max_age = self.max_age.map(HeaderValue::from);
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, names),
            (header::ACCESS_CONTROL_MAX_AGE, max_age),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preflight_lists_no_header_if_none_is_allowed() {
        let request: HeaderMap = [
            (
                header::ORIGIN,
                HeaderValue::from_static("https://front.example.com"),
            ),
            (
                header::ACCESS_CONTROL_REQUEST_METHOD,
                HeaderValue::from_static("GET"),
            ),
            (
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                HeaderValue::from_static(""),
            ),
        ]
        .into_iter()
        .collect();
        let named = |headers: Option<Vec<HeaderName>>| Cors {
            allowed_origins: ["https://front.example.com".to_owned()].into(),
            allowed_methods: Some(vec![Method::GET]),
            allowed_headers: headers,
            ..Cors::default()
        };
        for none in [Some(Vec::new()), None] {
            let answer = named(none).preflight(&request);
            assert!(
                !answer.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS),
                "{answer:?}"
            );
            assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_METHODS], "GET");
        }
        let answer = named(Some(vec![header::CONTENT_TYPE])).preflight(&request);
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_HEADERS], "content-type");
    }
}
