//! Objects in the JSON of Cloudflare Access (API v4), which `config` reads back.
//!
//! Members that have their default are left out, except those that Access always sends: clients
//! such as Terraform take a member that they did not send for a change. Members of our own
//! (`origin`, `origin_settings`, …) have the names of the configuration file. Secrets, and digests
//! of secrets, have no member here.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    Allowed, Application, ApplicationPolicy, ClientAuthority, ClientConfig, ClientCredentials,
    CorsHeaders, HealthCheck, IdentityProvider, IdpKind, Object, OidcConfig, OktaConfig,
    Organization, Origin, OriginSettings, SamlConfig,
};
use crate::cookie::SameSite;
use crate::model::duration;
use crate::model::{AbsentGroups, ServiceToken, UnixTime};
use crate::oidc::{ClientAuth, EmailVerification};
use crate::policy::{AccessGroup, List, ListItem, ListItems, Policy};
use crate::route::PathCase;

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::IdentityProvider(provider) => provider.serialize(serializer),
            Self::Application(application) => application.serialize(serializer),
            Self::Policy(policy) => Policy::serialize(policy, serializer),
            Self::Group(group) => AccessGroup::serialize(group, serializer),
            Self::List(list) => of_list(list).serialize(serializer),
            Self::ServiceToken(token) => of_token(token)
                .map_err(S::Error::custom)?
                .serialize(serializer),
            Self::Certificate(authority) => authority.serialize(serializer),
        }
    }
}

/// The members of an object under construction.
#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn put(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    fn put_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// Adds a flag that is on. It is off by default.
    fn put_on(self, key: &str, flag: bool) -> Self {
        if flag { self.put(key, true) } else { self }
    }

    /// Adds a list that is not empty.
    fn put_list(self, key: &str, list: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        let list: Vec<Value> = list.into_iter().map(Into::into).collect();
        if list.is_empty() {
            self
        } else {
            self.put(key, list)
        }
    }
}

impl From<Members> for Value {
    fn from(members: Members) -> Self {
        Self::Object(members.0)
    }
}

/// Serialises the members that the organisation has in Access; the other keys of `[team]` are
/// settings of the node.
impl Serialize for Organization {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let members = Members::default()
            .put("name", self.name.as_str())
            .put("auth_domain", self.auth_domain())
            .put("session_duration", duration::format(self.session_duration));
        members.0.serialize(serializer)
    }
}

impl Serialize for IdentityProvider {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let config = match &self.kind {
            IdpKind::Okta(okta) => of_okta(okta),
            IdpKind::Oidc(oidc) => of_oidc(oidc),
            IdpKind::Saml(saml) => of_saml(saml),
        };
        let members = Members::default()
            .put("id", &*self.id.0)
            .put("name", self.name.as_str())
            .put("type", self.type_name())
            .put("config", config);
        members.0.serialize(serializer)
    }
}

fn of_client(client: &ClientConfig, logout: &str) -> Members {
    let ClientConfig {
        client_id,
        credentials,
        auth_method,
        trusted_audiences,
        claims,
        email_claim_name,
        email_verified,
        prompt,
        max_age,
        pushed_requests,
        provider_logout,
    } = client;
    let key_id = match credentials {
        ClientCredentials::Key { id, .. } => id.as_deref(),
        ClientCredentials::Secret(_) => None,
    };
    let auth_method = auth_method.map(|method| match method {
        ClientAuth::ClientSecretBasic => "client_secret_basic",
        ClientAuth::ClientSecretPost => "client_secret_post",
        ClientAuth::PrivateKeyJwt => "private_key_jwt",
    });
    let email_verified = match email_verified {
        EmailVerification::Optional => None,
        EmailVerification::Required => Some("required"),
    };
    Members::default()
        .put("client_id", client_id.as_str())
        .put_some("private_key_id", key_id)
        .put_some("token_endpoint_auth_method", auth_method)
        .put_some("trusted_audiences", trusted_audiences.clone())
        .put_list("claims", claims.iter().map(String::as_str))
        .put_some("email_claim_name", email_claim_name.as_deref())
        .put_some("email_verified", email_verified)
        .put_some("prompt", prompt.as_ref().map(|prompt| prompt.as_ref()))
        .put_some("max_age", max_age.map(duration::format))
        .put_on("pushed_requests", *pushed_requests)
        .put_on(logout, *provider_logout)
}

fn of_okta(okta: &OktaConfig) -> Members {
    let OktaConfig {
        client,
        okta_account,
        api_token: _,
        groups_scope,
        authorization_server_id,
        groups_refresh,
    } = okta;
    let refresh = |pick: fn(&(Duration, Duration)) -> Duration| {
        let terms = groups_refresh.as_ref();
        terms.map(|terms| duration::format(pick(terms)))
    };
    of_client(client, "okta_logout")
        .put("okta_account", okta_account.as_str().trim_end_matches('/'))
        .put_some("groups_scope", (!groups_scope).then_some(false))
        .put_some(
            "authorization_server_id",
            authorization_server_id.as_deref(),
        )
        .put_some("groups_refresh", refresh(|(every, _)| *every))
        .put_some("groups_max_stale", refresh(|(_, max_stale)| *max_stale))
}

fn of_oidc(oidc: &OidcConfig) -> Members {
    let OidcConfig {
        client,
        issuer,
        endpoints,
        scopes,
        groups_claim_name,
        absent_groups,
    } = oidc;
    let mut members = of_client(client, "provider_logout")
        .put("issuer", issuer.as_str())
        .put_list("scopes", scopes.iter().map(String::as_str))
        .put_some("groups_claim_name", groups_claim_name.as_deref())
        .put_some("absent_groups", of_absent_groups(*absent_groups));
    if client.email_verified == EmailVerification::Optional {
        // A provider other than Okta gets a warning without it.
        members = members.put("email_verified", "optional");
    }
    let Some(endpoints) = endpoints else {
        return members;
    };
    members
        .put("auth_url", endpoints.authorization.as_str())
        .put("token_url", endpoints.token.as_str())
        .put("certs_url", endpoints.jwks.as_str())
        .put_some(
            "userinfo_url",
            endpoints.userinfo.as_ref().map(url::Url::as_str),
        )
}

fn of_saml(saml: &SamlConfig) -> Members {
    let SamlConfig {
        issuer_url,
        sso_target_url,
        idp_public_certs,
        sign_request,
        force_authn,
        email_attribute_name,
        groups_attribute_name,
        absent_groups,
        attributes,
        header_attributes,
        encryption_keys: _,
    } = saml;
    let sent = header_attributes.iter().map(
        |sent| json!({ "attribute_name": sent.attribute, "header_name": sent.header.as_str() }),
    );
    Members::default()
        .put("issuer_url", issuer_url.as_str())
        .put("sso_target_url", sso_target_url.as_str())
        .put("idp_public_certs", idp_public_certs.clone())
        .put_on("sign_request", *sign_request)
        .put_on("force_authn", *force_authn)
        .put_some("email_attribute_name", email_attribute_name.as_deref())
        .put("groups_attribute_name", groups_attribute_name.as_str())
        .put_some("absent_groups", of_absent_groups(*absent_groups))
        .put_list("attributes", attributes.iter().map(String::as_str))
        .put_list("header_attributes", sent)
}

const fn of_absent_groups(groups: AbsentGroups) -> Option<&'static str> {
    match groups {
        AbsentGroups::Unknown => None,
        AbsentGroups::Empty => Some("empty"),
    }
}

impl Serialize for Application {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            id,
            aud,
            name,
            domain,
            path_case,
            origins,
            origin_settings,
            session_duration,
            allowed_idps,
            auto_redirect_to_identity,
            same_site_cookie_attribute,
            http_only_cookie_attribute,
            path_cookie_attribute,
            cors_headers,
            options_preflight_bypass,
            pass_cookies,
            max_body,
            custom_deny_message,
            launcher,
            policies,
        } = self;
        let same_site = match same_site_cookie_attribute {
            SameSite::None => None,
            SameSite::Lax => Some("lax"),
            SameSite::Strict => Some("strict"),
        };
        let policies = policies.iter().zip(1_u32..);
        let policies: Result<Vec<_>, _> = policies
            .map(|(entry, precedence)| of_entry(entry, precedence))
            .collect();
        let members = Members::default()
            .put("id", id.as_str())
            .put("aud", aud.as_str())
            .put("name", name.as_str())
            .put("type", "self_hosted")
            .put("domain", domain.text.as_str())
            .put("session_duration", duration::format(*session_duration))
            .put("app_launcher_visible", launcher.visible)
            .put_some("logo_url", launcher.logo_url.as_ref().map(Url::as_str))
            .put_list("tags", launcher.tags.iter().map(String::as_str))
            .put_list("allowed_idps", allowed_idps.iter().map(|id| &*id.0))
            .put_on("auto_redirect_to_identity", *auto_redirect_to_identity)
            .put_some("same_site_cookie_attribute", same_site)
            .put("http_only_cookie_attribute", *http_only_cookie_attribute)
            .put_some("path_cookie_attribute", *path_cookie_attribute)
            .put_some("cors_headers", cors_headers.as_ref().map(of_cors))
            .put_on("options_preflight_bypass", *options_preflight_bypass)
            .put_some("custom_deny_message", custom_deny_message.as_deref())
            .put("policies", policies.map_err(S::Error::custom)?)
            .put_on("case_sensitive_paths", *path_case == PathCase::Sensitive)
            .put_list("origin", origins.iter().map(Origin::to_string))
            .put("origin_settings", of_origin_settings(origin_settings))
            .put_on("pass_cookies", *pass_cookies)
            .put_some("max_body", *max_body);
        members.0.serialize(serializer)
    }
}

/// Returns a link to a shared policy, or an application's own policy.
fn of_entry(entry: &ApplicationPolicy, precedence: u32) -> Result<Value, serde_json::Error> {
    let mut entry = match entry {
        ApplicationPolicy::Own(policy) => serde_json::to_value(policy)?,
        ApplicationPolicy::Shared(id) => json!({ "id": id }),
    };
    if let Some(members) = entry.as_object_mut() {
        members.insert("precedence".to_owned(), precedence.into());
    }
    Ok(entry)
}

fn of_cors(cors: &CorsHeaders) -> Members {
    fn allowed<T>(
        members: Members,
        what: &str,
        allowed: &Allowed<T>,
        text: fn(&T) -> &str,
    ) -> Members {
        match allowed {
            Allowed::All => members.put(&format!("allow_all_{what}"), true),
            Allowed::These(list) => {
                members.put_list(&format!("allowed_{what}"), list.iter().map(text))
            }
        }
    }
    let CorsHeaders {
        origins,
        methods,
        headers,
        allow_credentials,
        max_age,
    } = cors;
    let members = allowed(Members::default(), "origins", origins, String::as_str);
    let members = allowed(members, "methods", methods, http::Method::as_str);
    let members = allowed(members, "headers", headers, http::HeaderName::as_str);
    members
        .put_on("allow_credentials", *allow_credentials)
        .put_some("max_age", *max_age)
}

fn of_origin_settings(settings: &OriginSettings) -> Members {
    let OriginSettings {
        connect_timeout,
        read_timeout,
        idle_timeout,
        tunnel_timeout,
        upgrades,
        host_header,
        tls_verify,
        ca,
        tls_server_name,
        health_check,
    } = settings;
    Members::default()
        .put("connect_timeout", duration::format(*connect_timeout))
        .put("read_timeout", duration::format(*read_timeout))
        .put("idle_timeout", duration::format(*idle_timeout))
        .put("tunnel_timeout", duration::format(*tunnel_timeout))
        .put_list("upgrades", upgrades.iter().map(String::as_str))
        .put_some("host_header", host_header.as_deref())
        .put_some("tls_verify", (!tls_verify).then_some(false))
        .put_some("ca", ca.as_deref().map(pem))
        .put_some("tls_server_name", tls_server_name.as_deref())
        .put_some("health_check", health_check.as_ref().map(of_health_check))
}

fn of_health_check(check: &HealthCheck) -> Members {
    let HealthCheck {
        path,
        expect,
        interval,
    } = check;
    Members::default()
        .put_some("path", path.as_deref())
        .put_list("expect", expect.iter().copied())
        .put("interval", duration::format(*interval))
}

fn of_list(list: &List) -> Map<String, Value> {
    fn items<T: Clone + Into<String>>(items: &[ListItem<T>]) -> Vec<Members> {
        let members = |ListItem { value, description }: &ListItem<T>| {
            Members::default()
                .put("value", Into::<String>::into(value.clone()))
                .put_some("description", description.as_deref())
        };
        items.iter().map(members).collect()
    }
    let (kind, items) = match &list.items {
        ListItems::Email(emails) => ("EMAIL", items(emails)),
        ListItems::Ip(ranges) => ("IP", items(ranges)),
    };
    let members = Members::default()
        .put("id", list.id.as_str())
        .put("name", list.name.as_str())
        .put("type", kind)
        .put("items", items);
    members.0
}

fn of_token(token: &ServiceToken) -> Result<Map<String, Value>, String> {
    let ServiceToken {
        id,
        name,
        client_id,
        secrets: _,
        expires_at,
        enabled,
    } = token;
    let expires_at = match expires_at {
        Some(at) => Some(timestamp(*at)?),
        None => None,
    };
    let members = Members::default()
        .put("id", &**id)
        .put("name", &**name)
        .put("client_id", client_id.as_str())
        .put("enabled", *enabled)
        .put_some("expires_at", expires_at);
    Ok(members.0)
}

fn timestamp(at: UnixTime) -> Result<String, String> {
    let seconds = i64::try_from(at.0).map_err(|e| e.to_string())?;
    let at = jiff::Timestamp::from_second(seconds).map_err(|e| e.to_string())?;
    Ok(at.to_string())
}

impl Serialize for ClientAuthority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let members = Members::default()
            .put("id", self.id.as_str())
            .put("name", self.name.as_str())
            .put("certificate", pem(&self.roots))
            .put_list("associated_hostnames", self.hosts.iter().map(|h| h.host()));
        members.0.serialize(serializer)
    }
}

/// Encodes certificates in PEM (RFC 7468).
fn pem(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for (index, character) in STANDARD.encode(certificate).chars().enumerate() {
            if index > 0 && index % 64 == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text
}
