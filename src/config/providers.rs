use std::time::Duration;

use super::provider_urls::{LIKE, endpoint, issuer_address, okta_account};
use super::reader::{Item, Table};
use super::secrets;
use super::server::Insecure;
use super::unique::Unique;
use super::values;
use crate::catalog::{
    ClientConfig, ClientCredentials, IdentityProvider, IdpKind, Kind, OidcConfig, OktaConfig,
    SamlConfig,
};
use crate::model::{AbsentGroups, IdpId};
use crate::oidc::{ClientAuth, ClientKey, EmailVerification, Endpoints, Prompt};

const SAML: &str = "saml";

/// The supported types, for messages.
const SUPPORTED: &str =
    "write `okta`, or `oidc` or `saml` for other providers of OpenID Connect or SAML";

/// Types that Cloudflare Access has, and Portcullis has not.
const UNSUPPORTED: &[&str] = &[
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
    let (mut ids, mut names) = (
        Unique::new("identity provider has the id"),
        Unique::new("identity provider has the name"),
    );
    let providers = table.list("identity_providers");
    let read = |item: &Item<'_>| {
        let provider = item
            .table(|t| IdentityProvider::read(t, insecure, &mut ids, &mut names))
            .flatten()?;
        item.record(Kind::IdentityProvider, &provider.id.0);
        Some(provider)
    };
    providers.iter().filter_map(read).collect()
}

impl IdentityProvider {
    fn read(
        table: &mut Table<'_>,
        insecure: &Insecure,
        ids: &mut Unique,
        names: &mut Unique,
    ) -> Option<Self> {
        table.ignore_read_only();
        table.foreign(&[(
            "scim_config",
            "provisioning over SCIM is not supported yet; remove this",
        )]);
        let id = table
            .needed("id", "\"okta\"")
            .and_then(|item| item.claim(values::id, ids));
        let name = table
            .needed("name", "\"Okta\"")
            .and_then(|item| item.claim(values::label, names));
        let written = table.needed("type", "\"okta\"");
        let kind = written.as_ref().and_then(|item| item.parse(kind));
        let example = "{ client_id = \"…\", client_secret = \"env:OKTA_CLIENT_SECRET\", okta_account = \"https://….okta.com\" }";
        let config = table.needed("config", example);
        // The keys of an unsupported type are unknown. Any other unknown type was probably meant to
        // be Okta.
        if written
            .and_then(|item| item.node().as_str())
            .is_some_and(|kind| UNSUPPORTED.contains(&kind))
        {
            return None;
        }
        let read = |table: &mut Table<'_>| match kind {
            Some(Type::Oidc) => {
                OidcConfig::read(table, insecure).map(|oidc| IdpKind::Oidc(Box::new(oidc)))
            }
            Some(Type::Saml) => {
                SamlConfig::read(table, insecure).map(|saml| IdpKind::Saml(Box::new(saml)))
            }
            Some(Type::Okta) | None => {
                OktaConfig::read(table, insecure).map(|okta| IdpKind::Okta(Box::new(okta)))
            }
        };
        let config = config.and_then(|item| item.table(read).flatten());
        kind.and(Some(Self {
            id: IdpId(id?.into()),
            name: name?,
            kind: config?,
        }))
    }
}

impl ClientConfig {
    /// `logout` is the key for ending the provider's session.
    fn read(table: &mut Table<'_>, insecure: &Insecure, logout: &'static str) -> Option<Self> {
        let client_id = table
            .needed("client_id", "\"0oa…\"")
            .and_then(|item| item.parse(word));
        let credentials = ClientCredentials::read(table, insecure);
        let auth_method = auth_method(table);
        let trusted = table.item("trusted_audiences").and_then(|item| item.list());
        let trusted_audiences =
            trusted.map(|all| all.iter().filter_map(|item| item.parse(word)).collect());
        let claims = table
            .list("claims")
            .iter()
            .filter_map(|item| item.parse(word))
            .collect();
        let email_claim_name = table
            .item("email_claim_name")
            .and_then(|item| item.parse(word));
        let email_verified = table.item("email_verified");
        let required = email_verified
            .as_ref()
            .and_then(|item| item.parse(email_verification));
        if let (Some(item), Some(EmailVerification::Required)) = (&email_verified, required)
            && let Some(claim) = email_claim_name
                .as_deref()
                .filter(|claim| *claim != "email")
        {
            // OpenID Connect Core 5.1: `email_verified` is about `email` and no other claim.
            item.error(&format!(
                "`email_verified` is about the claim `email`, not `{claim}`; remove one of the two"
            ));
        }
        let prompt = table.item("prompt").and_then(|item| item.parse(prompt));
        let has_max_age = table.item("max_age").is_some();
        let max_age = table.duration(
            "max_age",
            LONGEST_LOGIN,
            Duration::from_secs(60)..=LONGEST_LOGIN,
        );
        let pushed_requests = table.flag("pushed_requests", false);
        let provider_logout = table.flag(logout, false);
        Some(Self {
            client_id: client_id?,
            credentials: credentials?,
            auth_method,
            trusted_audiences,
            claims,
            email_claim_name,
            email_verified: required.unwrap_or_default(),
            prompt,
            max_age: has_max_age.then_some(max_age),
            pushed_requests,
            provider_logout,
        })
    }
}

impl ClientCredentials {
    fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<Self> {
        let id = table.item("private_key_id");
        let Some(key) = table.item("private_key") else {
            if let Some(id) = id {
                id.error("this names a `private_key`, which is missing");
            }
            let secret = table.needed("client_secret", "\"env:OKTA_CLIENT_SECRET\"")?;
            return secrets::read(&secret, insecure).map(Self::Secret);
        };
        if let Some(secret) = table.item("client_secret") {
            secret.error("a client authenticates with `private_key` or with `client_secret`, not with both; the key is more secure");
        }
        let id = id.and_then(|item| item.parse(word));
        let pem = secrets::read_key(&key)?;
        if !key.reader().env().is_offline()
            && let Err(error) = ClientKey::from_pem(&pem, None)
        {
            key.error(&error.to_string());
            return None;
        }
        Some(Self::Key { pem, id })
    }
}

impl OidcConfig {
    fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<Self> {
        table.foreign(&[
            PKCE,
            REDIRECT,
            (
                "okta_account",
                "Okta has its own type; write `type = \"okta\"`",
            ),
        ]);
        let client = ClientConfig::read(table, insecure, "provider_logout");
        if table.item("email_verified").is_none() {
            // Okta assigns its email addresses itself and sends no such claim; other providers may
            // let users enter them.
            let other = table
                .item("email_claim_name")
                .is_some_and(|item| item.node().as_str() != Some("email"));
            let message = if other {
                "providers verify no other claim than `email`; if users cannot enter this one \
                 there themselves, write \
                 `email_verified = \"optional\"`"
            } else {
                "an email address is accepted also if the provider does not send `email_verified`; if users can enter \
                 addresses there themselves, write `email_verified = \"required\"`, else `email_verified = \"optional\"`; unless `pushed_requests = true`, \
                 users can have it left out"
            };
            table.reader().warn(table.place(), message);
        }
        let issuer = table.needed("issuer", "\"https://login.example.com\"");
        let issuer = issuer.and_then(|item| item.parse(|text| issuer_address(text, insecure)));
        let mut address = |name| {
            table
                .item(name)
                .and_then(|item| item.parse(|text| endpoint(text, LIKE, insecure)))
        };
        let (auth, token, certs) = (
            address("auth_url"),
            address("token_url"),
            address("certs_url"),
        );
        let userinfo = address("userinfo_url");
        let endpoints = match (auth, token, certs) {
            (Some(authorization), Some(token), Some(jwks)) => Some(Endpoints {
                authorization,
                token,
                jwks,
                userinfo,
            }),
            (None, None, None) if userinfo.is_none() => None,
            _ => {
                let message = "`auth_url`, `token_url` and `certs_url` belong together: write all three, or none to use the issuer's discovery document";
                table.reader().error(table.place(), message);
                return None;
            }
        };
        let mut scopes: Vec<String> = table
            .list("scopes")
            .iter()
            .filter_map(|item| item.parse(word))
            .collect();
        if scopes.is_empty() {
            scopes = ["openid", "profile", "email"].map(str::to_owned).into();
        }
        let groups_claim_name = table
            .item("groups_claim_name")
            .and_then(|item| item.parse(word));
        let absent_groups = absent_groups(table);
        let no_userinfo = endpoints
            .as_ref()
            .is_some_and(|endpoints| endpoints.userinfo.is_none());
        if let (AbsentGroups::Empty, true, Some(item)) =
            (absent_groups, no_userinfo, table.item("absent_groups"))
        {
            item.error("an ID token alone may omit groups; this needs `userinfo_url` beside the other addresses");
        }
        Some(Self {
            client: client?,
            issuer: issuer?,
            endpoints,
            scopes,
            groups_claim_name,
            absent_groups,
        })
    }
}

impl OktaConfig {
    fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<Self> {
        table.foreign(&[
            PKCE,
            REDIRECT,
            (
                "absent_groups",
                "Okta also omits the groups if its filter matches too many; set `api_token` instead",
            ),
            ("groups_claim_name", "Okta's groups are in the claim `groups`, or come from its API; remove this"),
            ("issuer", "this is derived from `okta_account` and `authorization_server_id`; remove it"),
            ("sso_target_url", "this is a setting of Okta over SAML; for that, write `type = \"saml\"`"),
            ("issuer_url", "this is a setting of Okta over SAML; for that, write `type = \"saml\"`"),
            ("idp_public_certs", "this is a setting of Okta over SAML; for that, write `type = \"saml\"`"),
        ]);
        let client = ClientConfig::read(table, insecure, "okta_logout");
        let account = table.needed("okta_account", "\"https://dev-1.okta.com\"");
        let okta_account = account.and_then(|item| item.parse(|text| okta_account(text, insecure)));
        let api_token = table.item("api_token");
        let has_token = api_token.is_some();
        let api_token = api_token.and_then(|item| secrets::read(&item, insecure));
        let groups_scope = table.flag("groups_scope", true);
        if let (false, false, Some(item)) = (groups_scope, has_token, table.item("groups_scope")) {
            item.error(
                "without this scope Okta sends no groups, so they come from its API, which needs an `api_token`",
            );
        }
        let authorization_server_id = table
            .item("authorization_server_id")
            .and_then(|item| item.parse(server_id));
        let refresh = table.item("groups_refresh");
        let every = table.duration(
            "groups_refresh",
            LONGEST_REFRESH,
            Duration::from_secs(1)..=LONGEST_REFRESH,
        );
        let stale = table.item("groups_max_stale");
        let least = refresh.as_ref().map_or(Duration::ZERO, |_| every);
        let max_stale = table.duration("groups_max_stale", every * 4, least..=LONGEST_REFRESH * 4);
        match (&refresh, &stale) {
            (Some(refresh), _) if !has_token => {
                refresh.error("groups are read again from Okta's API, which needs an `api_token`");
            }
            (None, Some(stale)) => stale.error("this requires `groups_refresh`; set it too"),
            _ => {}
        }
        Some(Self {
            client: client?,
            okta_account: okta_account?,
            api_token,
            groups_scope,
            authorization_server_id,
            groups_refresh: refresh.map(|_| (every, max_stale)),
        })
    }
}

/// Reads the authentication method, which must fit the kind of credentials.
fn auth_method(table: &mut Table<'_>) -> Option<ClientAuth> {
    let item = table.item(AUTH_METHOD)?;
    let words = [
        ("client_secret_basic", ClientAuth::ClientSecretBasic),
        ("client_secret_post", ClientAuth::ClientSecretPost),
        ("private_key_jwt", ClientAuth::PrivateKeyJwt),
    ];
    let method = table.choice(
        AUTH_METHOD,
        None,
        &words.map(|(word, method)| (word, Some(method))),
    )?;
    match (method, table.item("private_key").is_some()) {
        (ClientAuth::PrivateKeyJwt, false) => {
            item.error("this needs a `private_key`, in place of `client_secret`")
        }
        (ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost, true) => {
            item.error("this needs a `client_secret`, in place of `private_key`");
        }
        _ => {}
    }
    Some(method)
}

const AUTH_METHOD: &str = "token_endpoint_auth_method";

pub(super) fn absent_groups(table: &mut Table<'_>) -> AbsentGroups {
    let words = [
        ("unknown", AbsentGroups::Unknown),
        ("empty", AbsentGroups::Empty),
    ];
    table.choice("absent_groups", AbsentGroups::Unknown, &words)
}

fn server_id(text: &str) -> Result<String, String> {
    match text.trim_end_matches('/').rsplit_once("/oauth2/") {
        Some((_, id)) => Err(format!(
            "`{text}` is the `Issuer URI` of a server; write its last part, `{id}`"
        )),
        None => values::id(text),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Okta,
    Oidc,
    Saml,
}

fn kind(text: &str) -> Result<Type, String> {
    match text {
        "okta" => Ok(Type::Okta),
        "oidc" => Ok(Type::Oidc),
        SAML => Ok(Type::Saml),
        _ if text.eq_ignore_ascii_case("okta") => {
            Err(format!("`{text}` is not a type; write `okta`"))
        }
        _ if UNSUPPORTED.contains(&text) => Err(format!(
            "identity providers of type `{text}` are not supported yet; {SUPPORTED}"
        )),
        _ => Err(format!(
            "`{text}` is not a type of identity provider; {SUPPORTED}"
        )),
    }
}

fn prompt(text: &str) -> Result<Prompt, String> {
    match text {
        "login" => Ok(Prompt::Login),
        "select_account" => Ok(Prompt::SelectAccount),
        "consent" => Ok(Prompt::Consent),
        "none" => {
            Err("with `none` the provider never shows its sign-in page; remove `prompt`".to_owned())
        }
        _ => Err(format!(
            "`{text}` is not one of `login`, `select_account`, `consent`"
        )),
    }
}

fn email_verification(text: &str) -> Result<EmailVerification, String> {
    match text {
        "optional" => Ok(EmailVerification::Optional),
        "required" => Ok(EmailVerification::Required),
        _ => Err(format!("`{text}` is neither `optional` nor `required`")),
    }
}

fn word(text: &str) -> Result<String, String> {
    let odd = text.is_empty()
        || text.len() > 255
        || text.chars().any(|c| c.is_whitespace() || c.is_control());
    if odd {
        Err(format!(
            "`{text}` must be 1 to 255 characters without spaces"
        ))
    } else {
        Ok(text.to_owned())
    }
}

const PKCE: (&str, &str) = ("pkce_enabled", "PKCE is always on; remove this");
const REDIRECT: (&str, &str) = (
    "redirect_url",
    "this is always `/cdn-cgi/access/callback` on the team domain; remove this",
);

/// A longer age would have no effect: no session lasts longer.
const LONGEST_LOGIN: Duration = Duration::from_secs(30 * 24 * 3600);
// With a longer interval, most sessions would end before their first refresh.
const LONGEST_REFRESH: Duration = Duration::from_secs(24 * 3600);
