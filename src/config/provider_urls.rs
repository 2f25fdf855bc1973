//! URLs of identity providers, with the usual mistakes in them.

use url::Url;

use super::server::Insecure;

/// Checks an issuer. It keeps its spelling, because tokens and the discovery document must have it
/// byte for byte.
pub(super) fn issuer_address(text: &str, insecure: &Insecure) -> Result<String, String> {
    let cut = text.strip_suffix("/.well-known/openid-configuration");
    if let Some(issuer) = cut {
        return Err(format!(
            "`{text}` is the discovery document; write `{issuer}`, or the value of `issuer` in it"
        ));
    }
    let url = endpoint(text, LIKE, insecure)?;
    match url.query().or(url.fragment()) {
        Some(_) => Err(format!(
            "`{text}` has a query or a fragment; an issuer has neither"
        )),
        None => Ok(text.to_owned()),
    }
}

/// Parses the URL of an endpoint; `like` is an example of it.
pub(super) fn endpoint(text: &str, like: &str, insecure: &Insecure) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|e| format!("`{text}` is not an address like `{like}`: {e}"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if insecure.insecure_identity_providers => Ok(url),
        "http" => Err(format!(
            "`{text}` is not encrypted; write `https://` (or set `insecure_identity_providers = true` under `[insecure]`)"
        )),
        _ => Err(format!("`{text}` is not an address like `{like}`")),
    }
}

/// Returns the host of the account that an administration console belongs to.
pub(super) fn account_of_console(host: &str) -> Option<String> {
    let (first, domain) = host.split_once('.')?;
    let organisation = first
        .strip_suffix("-admin")
        .filter(|_| OKTA_DOMAINS.contains(&domain))?;
    Some(format!("{organisation}.{domain}"))
}

/// Parses the URL of an Okta account. Its usual mistakes are known, so each has its own message.
pub(super) fn okta_account(text: &str, insecure: &Insecure) -> Result<Url, String> {
    let like = "an address like `https://dev-1.okta.com`";
    if !text.contains("://") {
        let host = text.trim_matches('/');
        let instead = if host.is_empty() {
            String::new()
        } else {
            format!("; write `https://{host}`")
        };
        return Err(format!("`{text}` has no scheme{instead}"));
    }
    let url = Url::parse(text).map_err(|e| format!("`{text}` is not {like}: {e}"))?;
    let Some(host) = url
        .host_str()
        .filter(|_| matches!(url.scheme(), "http" | "https"))
    else {
        return Err(format!("`{text}` is not {like}"));
    };
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let (first, rest) = host.split_once('.').unwrap_or((host, ""));
    // A custom domain can have any name.
    let is_okta_s = OKTA_DOMAINS.contains(&rest);
    if let Some(account) = account_of_console(host) {
        return Err(format!(
            "`{host}` is Okta's administration console; write `https://{account}{port}`"
        ));
    }
    if OKTA_DOMAINS.contains(&host)
        || (is_okta_s && matches!(first, "www" | "login" | "admin" | "developer" | "help"))
    {
        return Err(format!(
            "`{host}` is Okta's own site, not an account; write {like}"
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "an Okta address must not contain a user name or password; write `https://{host}{port}`"
        ));
    }
    if let Some(server) = url
        .path()
        .strip_prefix("/oauth2/")
        .and_then(|path| path.split('/').next())
    {
        let server = if server.is_empty() || server == "v1" {
            String::new()
        } else {
            format!(" and `authorization_server_id = \"{server}\"`")
        };
        return Err(format!(
            "`{text}` has a path after the host; write `https://{host}{port}`{server}"
        ));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "`{text}` has a path after the host; write `https://{host}{port}`"
        ));
    }
    if url.scheme() == "http" && !insecure.insecure_identity_providers {
        return Err(format!(
            "`{text}` is not encrypted; write `https://{host}{port}` (or set `insecure_identity_providers = true` under \
             `[insecure]`)"
        ));
    }
    Ok(url)
}

/// An example of a provider's URL, for messages.
pub(super) const LIKE: &str = "https://login.example.com";

/// The domains of Okta's accounts; an account can also have a domain of the customer's own.
pub(super) const OKTA_DOMAINS: [&str; 5] = [
    "okta.com",
    "oktapreview.com",
    "okta-emea.com",
    "okta-gov.com",
    "okta.mil",
];
