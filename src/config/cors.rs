use http::{HeaderName, Method};
use url::Url;

use super::reader::{Item, Table};
use crate::catalog::{Allowed, Cors};

impl Cors {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let origins = allowed(table, "allow_all_origins", "allowed_origins", origin);
        let methods = allowed(table, "allow_all_methods", "allowed_methods", method);
        let headers = allowed(table, "allow_all_headers", "allowed_headers", header);
        let allow_credentials = table.flag("allow_credentials", false);
        match &origins {
            Allowed::All if allow_credentials => table.reader().error(
                table.place(),
                "with both `allow_all_origins` and `allow_credentials` any site could act as the user; name the \
                 sites in `allowed_origins`",
            ),
            Allowed::These(list) if list.is_empty() && table.item("allowed_origins").is_none() => table.reader().error(
                table.place(),
                "no site is allowed; write for example `allowed_origins = [\"https://app.example.com\"]`",
            ),
            _ => {}
        }
        let max_age = table.item("max_age").and_then(|item| max_age(&item));
        Self {
            origins,
            methods,
            headers,
            allow_credentials,
            max_age,
        }
    }
}

fn allowed<T>(
    table: &mut Table<'_>,
    all: &'static str,
    these: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Allowed<T> {
    let every = table.flag(all, false);
    let list = table.item(these);
    match list {
        Some(list) if every => {
            list.error(&format!(
                "`{all}` already allows every one; remove one of the two"
            ));
            Allowed::All
        }
        _ if every => Allowed::All,
        Some(list) => Allowed::These(
            list.list()
                .unwrap_or_default()
                .iter()
                .filter_map(|item| item.parse(parse))
                .collect(),
        ),
        None => Allowed::These(Vec::new()),
    }
}

fn origin(text: &str) -> Result<String, String> {
    let like = "a site like `https://app.example.com`";
    match text {
        "*" => return Err("write `allow_all_origins = true` for all sites".to_owned()),
        "null" => {
            return Err(format!("any sandboxed page sends `null`; name {like}"));
        }
        _ if text.contains('*') => {
            return Err(format!(
                "`{text}`: there are no wildcards here; name each site"
            ));
        }
        _ => {}
    }
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url else {
        return Err(format!("`{text}` is not {like}"));
    };
    let origin = url.origin().ascii_serialization();
    if origin == text {
        Ok(origin)
    } else {
        Err(format!("browsers do not send `{text}`; write `{origin}`"))
    }
}

fn method(text: &str) -> Result<Method, String> {
    // The methods that Access accepts in `allowed_methods`. A misspelt one would silently match no
    // request.
    const METHODS: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    METHODS
        .into_iter()
        .find(|method| method.as_str() == text)
        .ok_or_else(|| {
            let upper = text.to_ascii_uppercase();
            let known = METHODS.iter().any(|method| method.as_str() == upper);
            let instead = if known {
                format!("; write `{upper}`")
            } else {
                String::new()
            };
            format!("`{text}` is not a method like `GET` or `POST`{instead}")
        })
}

fn header(text: &str) -> Result<HeaderName, String> {
    match text {
        "*" => Err("write `allow_all_headers = true` for all headers".to_owned()),
        _ => {
            HeaderName::try_from(text).map_err(|_| format!("`{text}` is not the name of a header"))
        }
    }
}

fn max_age(item: &Item<'_>) -> Option<i32> {
    let Some(number) = item.node().as_integer() else {
        item.wrong_type("a number of seconds from -1 to 86400");
        return None;
    };
    let seconds = number.get::<i32>().filter(|n| (-1..=86_400).contains(n));
    if seconds.is_none() {
        item.error(&format!(
            "`{number}` must be a number of seconds from -1 to 86400"
        ));
    }
    seconds
}
