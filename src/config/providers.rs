use url::Url;

use super::reader::{self, Item, Table, Unique};
#[cfg(feature = "saml")]
use super::saml::SamlConfig;
use super::secrets;
use super::server::Insecure;
use crate::model::{IdpId, Secret};

/// Where people log in (`[[identity_providers]]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// What rules and `allowed_idps` refer to.
    pub id: IdpId,
    /// For people, on the login page.
    pub name: String,
    /// Which kind it is, with what that kind needs.
    pub kind: IdpKind,
}

/// The kinds of identity provider (`type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdpKind {
    /// Okta, over OpenID Connect.
    Okta(OktaConfig),
    /// Any identity provider, over SAML 2.0.
    #[cfg(feature = "saml")]
    Saml(SamlConfig),
}

impl IdpKind {
    /// How it is written (`type`).
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Okta(_) => "okta",
            #[cfg(feature = "saml")]
            Self::Saml(_) => SAML,
        }
    }

    /// The claims or attributes that it is asked for.
    pub fn claims(&self) -> &[String] {
        match self {
            Self::Okta(okta) => &okta.claims,
            #[cfg(feature = "saml")]
            Self::Saml(saml) => &saml.attributes,
        }
    }
}

/// An Okta application (`config`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OktaConfig {
    /// The application's client id.
    pub client_id: String,
    /// Its client secret.
    pub client_secret: Secret,
    /// The Okta organisation, such as `https://dev-1.okta.com/`: scheme and host, perhaps a port, nothing after.
    pub okta_account: Url,
    /// For reading the groups of people who have more than a token can hold.
    pub api_token: Option<Secret>,
    /// A custom authorization server; the organisation's own where there is none.
    pub authorization_server_id: Option<String>,
    /// The claims to keep with the identity.
    pub claims: Vec<String>,
    /// The claim that holds the address, where it is not `email`.
    pub email_claim_name: Option<String>,
}

const SAML: &str = "saml";

/// For messages.
const THERE: &str = if cfg!(feature = "saml") { "`okta` or `saml`" } else { "`okta`" };

/// Kinds that Cloudflare Access has.
const ELSEWHERE: &[&str] = &[
    "oidc",
    #[cfg(not(feature = "saml"))]
    SAML,
    "azureAD",
    "onetimepin",
    "google",
    "google-apps",
    "github",
    "onelogin",
    "pingone",
    "centrify",
    "facebook",
    "linkedin",
    "yandex",
];

pub(super) fn read_all(table: &mut Table<'_>, insecure: &Insecure) -> Vec<IdentityProvider> {
    let (mut ids, mut names) =
        (Unique::new("identity provider has the id"), Unique::new("identity provider has the name"));
    let providers = table.list("identity_providers");
    let read = |item: &Item<'_>| item.table(|t| IdentityProvider::read(t, insecure, &mut ids, &mut names)).flatten();
    providers.iter().filter_map(read).collect()
}

impl IdentityProvider {
    fn read(table: &mut Table<'_>, insecure: &Insecure, ids: &mut Unique, names: &mut Unique) -> Option<Self> {
        table.foreign(&[("scim_config", "provisioning over SCIM is not there yet; leave this out")]);
        let id = table.needed("id", "\"okta\"").and_then(|item| item.claim(reader::id, ids));
        let name = table.needed("name", "\"Okta\"").and_then(|item| item.claim(reader::label, names));
        let written = table.needed("type", "\"okta\"");
        let kind = written.as_ref().and_then(|item| item.parse(kind));
        let example =
            "{ client_id = \"…\", client_secret = \"env:OKTA_CLIENT_SECRET\", okta_account = \"https://….okta.com\" }";
        let config = table.needed("config", example);
        // Of a kind that is not there yet, the keys are not either. Whatever else was written, Okta was meant.
        if written.and_then(|item| item.value().as_str()).is_some_and(|kind| ELSEWHERE.contains(&kind)) {
            return None;
        }
        let config = config.and_then(|item| {
            let read = |table: &mut Table<'_>| match kind {
                #[cfg(feature = "saml")]
                Some(SAML) => SamlConfig::read(table, insecure).map(IdpKind::Saml),
                _ => OktaConfig::read(table, insecure).map(IdpKind::Okta),
            };
            item.table(read).flatten()
        });
        kind.and(Some(Self { id: IdpId(id?.into()), name: name?, kind: config? }))
    }
}

impl OktaConfig {
    fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<Self> {
        table.foreign(&[
            ("pkce_enabled", "PKCE is always on; leave this out"),
            ("redirect_url", "this is always `/cdn-cgi/access/callback` on the team domain; leave this out"),
        ]);
        let client_id = table.needed("client_id", "\"0oa…\"").and_then(|item| item.parse(word));
        let secret = |item: Item<'_>| secrets::read(&item, insecure.inline_secrets);
        let client_secret = table.needed("client_secret", "\"env:OKTA_CLIENT_SECRET\"").and_then(secret);
        let account = table.needed("okta_account", "\"https://dev-1.okta.com\"");
        let okta_account = account.and_then(|item| item.parse(|text| okta_account(text, insecure)));
        let api_token = table.item("api_token").and_then(secret);
        let authorization_server_id = table.item("authorization_server_id").and_then(|item| item.parse(reader::id));
        let claims = table.list("claims").iter().filter_map(|item| item.parse(word)).collect();
        let email_claim_name = table.item("email_claim_name").and_then(|item| item.parse(word));
        Some(Self {
            client_id: client_id?,
            client_secret: client_secret?,
            okta_account: okta_account?,
            api_token,
            authorization_server_id,
            claims,
            email_claim_name,
        })
    }
}

fn kind(text: &str) -> Result<&'static str, String> {
    match text {
        "okta" => Ok("okta"),
        #[cfg(feature = "saml")]
        SAML => Ok(SAML),
        _ if text.eq_ignore_ascii_case("okta") => Err(format!("`{text}` is not a type; write `okta`")),
        _ if ELSEWHERE.contains(&text) => {
            Err(format!("identity providers of type `{text}` are not there yet; write {THERE}"))
        }
        _ => Err(format!("`{text}` is not a type of identity provider; write {THERE}")),
    }
}

fn word(text: &str) -> Result<String, String> {
    let odd = text.is_empty() || text.len() > 255 || text.chars().any(|c| c.is_whitespace() || c.is_control());
    if odd { Err(format!("`{text}` must be 1 to 255 characters without spaces")) } else { Ok(text.to_owned()) }
}

/// The mistakes that people make here are known, so each is explained.
fn okta_account(text: &str, insecure: &Insecure) -> Result<Url, String> {
    let like = "an address like `https://dev-1.okta.com`";
    if !text.contains("://") {
        let host = text.trim_matches('/');
        let instead = if host.is_empty() { String::new() } else { format!("; write `https://{host}`") };
        return Err(format!("`{text}` has no scheme{instead}"));
    }
    let url = Url::parse(text).map_err(|e| format!("`{text}` is not {like}: {e}"))?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return Err(format!("`{text}` is not {like}"));
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let (first, rest) = host.split_once('.').unwrap_or((host, ""));
    if let (Some(organisation), false) = (first.strip_suffix("-admin"), rest.is_empty()) {
        return Err(format!("`{host}` is Okta's administration console; write `https://{organisation}.{rest}{port}`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("an Okta address holds no user name or password; write `https://{host}{port}`"));
    }
    if let Some(server) = url.path().strip_prefix("/oauth2/").and_then(|path| path.split('/').next()) {
        let server = if server.is_empty() || server == "v1" {
            String::new()
        } else {
            format!(" and `authorization_server_id = \"{server}\"`")
        };
        return Err(format!("`{text}` goes on after the host; write `https://{host}{port}`{server}"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` goes on after the host; write `https://{host}{port}`"));
    }
    if url.scheme() == "http" && !insecure.insecure_identity_providers {
        return Err(format!(
            "`{text}` is not encrypted; write `https://{host}{port}` (or set `insecure_identity_providers = true` under \
             `[insecure]`)"
        ));
    }
    Ok(url)
}
