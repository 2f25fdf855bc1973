use std::collections::HashMap;
use std::collections::hash_map::Entry;

use url::form_urlencoded;

/// The parameters of a query or a form (RFC 6749 3.1, 3.2).
#[derive(Debug)]
pub(super) struct Params(HashMap<String, String>);

/// A parameter that occurs twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated;

impl Params {
    pub(super) fn parse(text: &[u8]) -> Result<Self, Repeated> {
        let mut params = HashMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            match params.entry(name.into_owned()) {
                // RFC 6749 3.1: parameters must not be included more than once.
                Entry::Occupied(_) => return Err(Repeated),
                Entry::Vacant(entry) => entry.insert(value.into_owned()),
            };
        }
        Ok(Self(params))
    }

    /// Returns the value. An empty one counts as omitted (RFC 6749 3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }
}

/// Returns the URL with these parameters added to its query. Those without a value are left out.
pub(super) fn extend(uri: &str, params: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in params {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    match (query.is_empty(), uri.contains('?')) {
        (true, _) => uri.to_owned(),
        (false, true) => format!("{uri}&{query}"),
        (false, false) => format!("{uri}?{query}"),
    }
}
