//! URLs of identity providers, as administrators write and mistake them.

use url::Url;

use super::server::Insecure;

/// Compared byte for byte with what tokens and the discovery document say, so it stays as it was
/// written.
pub(super) fn issuer_address(text: &str, insecure: &Insecure) -> Result<String, String> {
    let cut = text.strip_suffix("/.well-known/openid-configuration");
    if let Some(issuer) = cut {
        return Err(format!(
            "`{text}` is the discovery document; write `{issuer}`, or what it says under `issuer`"
        ));
    }
    let url = endpoint(text, LIKE, insecure)?;
    match url.query().or(url.fragment()) {
        Some(_) => Err(format!(
            "`{text}` goes on after the path; an issuer does not"
        )),
        None => Ok(text.to_owned()),
    }
}

/// Where a provider is spoken to; `like` is an example of it.
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

/// The host of the account whose administration console this is.
pub(super) fn administered(host: &str) -> Option<String> {
    let (first, domain) = host.split_once('.')?;
    let organisation = first
        .strip_suffix("-admin")
        .filter(|_| OKTA_DOMAINS.contains(&domain))?;
    Some(format!("{organisation}.{domain}"))
}

/// The mistakes that people make here are known, so each is explained.
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
    // A domain of the organisation's own may be called as it likes.
    let is_okta_s = OKTA_DOMAINS.contains(&rest);
    if let Some(account) = administered(host) {
        return Err(format!(
            "`{host}` is Okta's administration console; write `https://{account}{port}`"
        ));
    }
    if OKTA_DOMAINS.contains(&host)
        || (is_okta_s && matches!(first, "www" | "login" | "admin" | "developer" | "help"))
    {
        return Err(format!(
            "`{host}` is Okta's own site and no account; write your account's, {like}"
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "an Okta address holds no user name or password; write `https://{host}{port}`"
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
            "`{text}` goes on after the host; write `https://{host}{port}`{server}"
        ));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "`{text}` goes on after the host; write `https://{host}{port}`"
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

/// An address at a provider, for messages.
pub(super) const LIKE: &str = "https://login.example.com";

/// Under these Okta has its customers' accounts; an account may also be under a domain of the
/// customer's own.
pub(super) const OKTA_DOMAINS: [&str; 5] = [
    "okta.com",
    "oktapreview.com",
    "okta-emea.com",
    "okta-gov.com",
    "okta.mil",
];
