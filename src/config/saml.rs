use http::HeaderName;
use url::Url;

use super::provider_urls::{OKTA_DOMAINS, account_of_console, endpoint};
use super::providers::absent_groups;
use super::reader::{Item, Table};
use super::secrets;
use super::server::Insecure;
use super::unique::Unique;
use super::values;
use crate::catalog::{EncryptionKey, SamlConfig};
use crate::engine::{is_method_override, is_reserved};
use crate::saml::{DecryptionKey, HeaderAttribute, ServiceProvider};

impl SamlConfig {
    pub(super) fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<Self> {
        table.foreign(&[
            (
                "enable_encryption",
                "write `encryption_keys = [{ key = \"file:…\", certificate = \"MIID…\" }]` instead",
            ),
            (
                "okta_account",
                "this is a setting of Okta over OpenID Connect; for that, write `type = \"okta\"`",
            ),
            (
                "redirect_url",
                "this is always `/cdn-cgi/access/callback` on the team domain; remove this",
            ),
        ]);
        let issuer = table.needed("issuer_url", "\"http://www.okta.com/exk…\"");
        let sso = table.needed(
            "sso_target_url",
            "\"https://dev-1.okta.com/app/…/sso/saml\"",
        );
        let certificates = table.needed("idp_public_certs", "[\"MIID…\"]");
        let listed = certificates
            .as_ref()
            .and_then(Item::list)
            .unwrap_or_default();
        let name = |item: Item<'_>| item.parse(attribute);
        let key = |item: &Item<'_>| {
            item.table(|table| EncryptionKey::read(table, insecure))
                .flatten()
        };
        let groups = table.item("groups_attribute_name").and_then(name);
        let sso_target_url = sso.and_then(|item| item.parse(|text| address(text, insecure)));
        let issuer_url: Option<String> = issuer.as_ref().and_then(|item| item.parse(values::label));
        let by_https = issuer_url
            .as_ref()
            .and_then(|text| text.strip_prefix("https://www.okta.com/"));
        if let (Some(item), Some(key)) = (&issuer, by_https) {
            item.warn(&format!(
                "the `Issuer` of an Okta application begins with `http:`; is it `http://www.okta.com/{key}`?"
            ));
        }
        let (sign_request, force_authn) = (
            table.flag("sign_request", false),
            table.flag("force_authn", false),
        );
        let email_attribute_name = table.item("email_attribute_name").and_then(name);
        let attributes = table
            .list("attributes")
            .into_iter()
            .filter_map(name)
            .collect();
        let mut sent = Unique::new("header");
        let header = |item: &Item<'_>| item.table(|table| sent_header(table, &mut sent)).flatten();
        let listed_headers = table.list("header_attributes");
        if listed_headers.len() > MAX_SENT {
            table.reader().error(
                table.place(),
                &format!("there are more than {MAX_SENT} `header_attributes`"),
            );
        }
        let header_attributes = listed_headers.iter().filter_map(header).collect();
        let encryption_keys = table
            .list("encryption_keys")
            .iter()
            .filter_map(key)
            .collect();
        let certificates = certificates?;
        let read = Self {
            issuer_url: issuer_url?,
            sso_target_url: sso_target_url?,
            idp_public_certs: listed
                .iter()
                .filter_map(|item| item.text().map(str::to_owned))
                .collect(),
            sign_request,
            force_authn,
            email_attribute_name,
            absent_groups: absent_groups(table),
            groups_attribute_name: groups.unwrap_or_else(|| GROUPS.to_owned()),
            attributes,
            header_attributes,
            encryption_keys,
        };
        // The check covers everything but the ACS, so any URL serves as one.
        match ServiceProvider::new(read.settings(read.sso_target_url.clone(), Vec::new())) {
            Ok(_) => Some(read),
            Err(error) => {
                certificates.error(&error.to_string());
                None
            }
        }
    }
}

impl EncryptionKey {
    fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<Self> {
        let key = table
            .needed("key", "\"file:saml.key\"")
            .and_then(|item| secrets::read_lines(&item, insecure));
        let certificate = table.needed("certificate", "\"MIID…\"");
        let certificate = certificate.as_ref().and_then(Item::text).map(str::to_owned);
        let read = Self {
            key: key?,
            certificate: certificate?,
        };
        match DecryptionKey::new(&read.key, &read.certificate) {
            // Offline, secrets have a placeholder, which is no key.
            Err(error) if !table.reader().env().is_offline() => {
                table.reader().error(table.place(), &error.to_string());
                None
            }
            _ => Some(read),
        }
    }
}

fn address(text: &str, insecure: &Insecure) -> Result<Url, String> {
    let url = endpoint(text, "https://dev-1.okta.com/app/…", insecure)?;
    let host = url.host_str().unwrap_or_default();
    if let Some(account) = account_of_console(host) {
        return Err(format!(
            "`{host}` is Okta's administration console; copy the `Sign on URL`, `https://{account}/app/…`"
        ));
    }
    let domain = host.split_once('.').map(|(_, domain)| domain);
    if domain.is_some_and(|domain| OKTA_DOMAINS.contains(&domain))
        && url.path().ends_with("/metadata")
    {
        return Err(format!(
            "`{text}` is Okta's `Metadata URL`; copy the `Sign on URL`, which is under `More details`"
        ));
    }
    match url.fragment() {
        Some(_) => Err(format!("`{text}` has a part after `#`; remove it")),
        None => Ok(url),
    }
}

fn attribute(text: &str) -> Result<String, String> {
    let odd = text.trim().is_empty() || text.len() > 255 || text.chars().any(char::is_control);
    if odd {
        Err(format!("`{text}` must be 1 to 255 characters"))
    } else {
        Ok(text.to_owned())
    }
}

fn sent_header(table: &mut Table<'_>, seen: &mut Unique) -> Option<HeaderAttribute> {
    let name = table.needed("attribute_name", "\"department\"");
    let header = table.needed("header_name", "\"X-Department\"");
    let attribute = name.and_then(|item| item.parse(attribute));
    let header = header.and_then(|item| item.claim(header_name, seen));
    Some(HeaderAttribute {
        attribute: attribute?,
        header: HeaderName::from_bytes(header?.as_bytes()).ok()?,
    })
}

/// Returns the header name in lower case. Some origins read other characters than letters, digits
/// and `-` as `-`.
fn header_name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let letters = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !letters
        || name.len() > 64
        || !name.starts_with(|first: char| first.is_ascii_alphabetic())
        || name.ends_with('-')
    {
        return Err(format!(
            "`{text}` must be 1 to 64 letters, digits and `-`, and begin with a letter"
        ));
    }
    let taken = TAKEN.binary_search(&name.as_str()).is_ok()
        || TAKEN_FAMILIES.iter().any(|start| name.starts_with(start));
    if taken || is_reserved(&name) || is_method_override(&name) {
        return Err(format!(
            "`{text}` means something else to proxies or origins; use a name such as `X-Department`"
        ));
    }
    Ok(name)
}

/// Headers that HTTP itself or browsers use. Sorted.
const TAKEN: [&str; 31] = [
    "accept",
    "age",
    "alt-used",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "cookie2",
    "date",
    "depth",
    "destination",
    "dnt",
    "expect",
    "from",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "overwrite",
    "pragma",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "warning",
    "x-requested-with",
];
// Headers with a meaning to origins, caches or proxies. An attribute of the user must not set them.
const TAKEN_FAMILIES: [&str; 12] = [
    "accept-",
    "access-control-",
    "cdn-",
    "cf-",
    "content-",
    "if-",
    "proxy-",
    "sec-",
    "set-cookie",
    "x-accel-",
    "x-csrf",
    "x-forwarded",
];
// Each header is sent with every request of the user, and origins limit their number.
const MAX_SENT: usize = 16;
/// The attribute's name in Okta's guide.
const GROUPS: &str = "groups";
