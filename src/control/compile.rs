use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use url::Url;

use super::{CountryFile, CountryFileError, Evaluations, IssuerSettings, RemoteTeam, Services};
use crate::config::{
    self, ClientConfig, ClientCredentials, Config, IdpKind, OidcConfig, OktaConfig, StoreConfig,
};
use crate::engine::{
    ApplicationSettings, Authority, CookieAttributes, Cors, Known, Origins, Root, Snapshot,
    SnapshotError, Team,
};
use crate::http_client::HttpClient;
use crate::idp::Saml;
use crate::idp::{
    Ages, ClientKey, ClientKeyError, ClientSettings, Credentials, GroupsClaim, OidcSettings,
    OktaSettings, Provider, RefreshTerms,
};
use crate::model::SentHeader;
use crate::observe::audit::Sample;
use crate::route::Endpoint;
use crate::saml::{DecryptionKeyError, ServiceProvider, SettingsError};

/// Why a configuration that was read cannot be run.
#[derive(Debug, Error)]
pub enum CompileError {
    /// Policies.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The team domain gives no URL.
    #[error("the team domain gives no URL")]
    Url(#[from] url::ParseError),
    /// The database of countries, which changed since the configuration was read.
    #[error(transparent)]
    Countries(#[from] CountryFileError),
    /// A SAML connection.
    #[error("a SAML identity provider cannot be used")]
    Saml(#[from] SettingsError),
    /// What SAML assertions are encrypted for.
    #[error(transparent)]
    DecryptionKey(#[from] DecryptionKeyError),
    /// The private key of a client.
    #[error("the private key of an identity provider's client cannot be used")]
    ClientKey(#[from] ClientKeyError),
}

/// Makes what runs from what was written. `origins` gives the front's representation of an
/// application's origins.
///
/// # Errors
/// See [`CompileError`]; configuration that was checked gives none.
pub fn compile(
    config: &Config,
    generation: u64,
    known: Arc<Known>,
    http: &HttpClient,
    origins: impl Fn(&config::Application) -> Origins,
) -> Result<(Snapshot, Services), CompileError> {
    let snapshot = snapshot(config, generation, known, origins)?;
    let countries = config
        .geo
        .as_ref()
        .map(|geo| CountryFile::open(&geo.database).map(Arc::new))
        .transpose()?;
    let snapshot = snapshot.with_countries(countries.clone().map(|countries| countries as _));
    let longest = config.applications.iter().flat_map(|a| {
        a.policies
            .iter()
            .filter_map(|p| p.session_duration)
            .chain([a.session_duration])
    });
    let longest = longest.max().unwrap_or_default();
    let revocations_max_stale = match &config.store {
        StoreConfig::Sqlite { max_stale, .. } if config.team.certs_url.is_none() => {
            Some(*max_stale)
        }
        StoreConfig::Sqlite { .. } | StoreConfig::Memory => None,
    };
    let services = Services {
        providers: providers(config, http)?,
        issuer: match config.team.certs_url.clone() {
            None => IssuerSettings::Local,
            Some(certs_url) => IssuerSettings::Remote(remote(config, certs_url)?),
        },
        team_url: config.team.url(),
        team_session: config.team.session_duration,
        identity_lifetime: config.team.session_duration + longest + SLACK,
        token_lifetime: config.team.session_duration.max(longest) + config.team.clock_leeway,
        revocations_max_stale,
        leeway: config.team.clock_leeway,
        sample: Sample::part(config.audit.allow_sample),
        audit_identity: config.audit.identity,
        evaluations: Evaluations::new(config),
        countries,
        watched: config
            .certificates
            .iter()
            .map(|authority| authority.file.clone())
            .collect(),
    };
    Ok((snapshot, services))
}

/// The part of it that people log in with.
///
/// # Errors
/// As for [`compile`].
pub fn providers(config: &Config, http: &HttpClient) -> Result<Vec<Provider>, CompileError> {
    let callback = Url::parse(&format!(
        "{}{}/callback",
        config.team.url(),
        Endpoint::PREFIX
    ))?;
    config
        .identity_providers
        .iter()
        .map(|idp| provider(idp, http, &callback))
        .collect()
}

/// The part of it that decides: no provider, no store.
///
/// # Errors
/// As for [`compile`].
pub fn snapshot(
    config: &Config,
    generation: u64,
    known: Arc<Known>,
    origins: impl Fn(&config::Application) -> Origins,
) -> Result<Snapshot, SnapshotError> {
    let team = Team {
        name: config.team.name.clone(),
        domain: config.team.domain.clone(),
        port: config.team.port,
        plain_http: config.team.plain_http,
        leeway: config.team.clock_leeway.as_secs(),
        support: config.team.support.clone().map(Arc::new),
    };
    let sent = sent_headers(config);
    let applications = config
        .applications
        .iter()
        .map(|a| application(config, a, origins(a), &sent))
        .collect();
    let snapshot = Snapshot::compile(
        generation,
        team,
        (&config.lists, &config.groups),
        applications,
        known,
    )?;
    let authority = |authority: &config::ClientAuthority| Authority {
        name: authority.name.clone(),
        roots: authority.roots.iter().map(|root| Root::new(root)).collect(),
        hosts: authority.hosts.clone(),
    };
    let authorities = config.certificates.iter().map(authority);
    Ok(snapshot
        .with_service_tokens(config.service_tokens.iter().cloned())
        .with_authorities(authorities))
}

fn remote(config: &Config, certs_url: Url) -> Result<RemoteTeam, url::ParseError> {
    let beside = |endpoint: &str| certs_url.join(endpoint);
    Ok(RemoteTeam {
        identity_url: beside("get-identity")?,
        authorized_url: beside("authorized")?,
        max_stale: config.team.jwks_max_stale,
        certs_url,
    })
}

fn provider(
    idp: &config::IdentityProvider,
    http: &HttpClient,
    callback: &Url,
) -> Result<Provider, CompileError> {
    let (http, callback) = (http.clone(), callback.clone());
    Ok(match &idp.kind {
        IdpKind::Okta(okta) => {
            let OktaConfig {
                client,
                okta_account,
                api_token,
                groups_scope,
                authorization_server_id,
                groups_refresh,
            } = &**okta;
            let settings = OktaSettings {
                client: client_settings(idp, client)?,
                okta_account: okta_account.clone(),
                authorization_server_id: authorization_server_id.clone(),
                api_token: api_token.clone(),
                groups_scope: *groups_scope,
                refresh: groups_refresh.map(|(every, max_stale)| RefreshTerms { every, max_stale }),
                groups_budget: GROUPS_BUDGET,
            };
            Provider::okta(settings, http, callback)
        }
        IdpKind::Oidc(oidc) => {
            let OidcConfig {
                client,
                issuer,
                endpoints,
                scopes,
                groups_claim_name,
                absent_groups,
            } = &**oidc;
            let settings = OidcSettings {
                client: client_settings(idp, client)?,
                issuer: issuer.clone(),
                endpoints: endpoints.clone(),
                scopes: scopes.clone(),
                groups_claim: GroupsClaim::new(groups_claim_name.clone()),
                absent_groups: *absent_groups,
            };
            Provider::oidc(settings, http, callback)
        }
        IdpKind::Saml(saml) => {
            let agreed = ServiceProvider::new(saml.settings(callback, saml.decryption_keys()?))?;
            let connection = Saml::new(idp.id.clone(), idp.name.clone(), agreed, saml.sign_request);
            Provider::of_saml(connection.with_absent_groups(saml.absent_groups))
        }
    })
}

fn client_settings(
    idp: &config::IdentityProvider,
    client: &ClientConfig,
) -> Result<ClientSettings, ClientKeyError> {
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
    Ok(ClientSettings {
        id: idp.id.clone(),
        name: idp.name.clone(),
        client_id: client_id.clone(),
        credentials: match credentials {
            ClientCredentials::Secret(secret) => Credentials::Secret(secret.clone()),
            ClientCredentials::Key { pem, id } => {
                Credentials::Key(Arc::new(ClientKey::from_pem(pem, id.clone())?))
            }
        },
        auth_method: *auth_method,
        trusted_audiences: trusted_audiences.clone(),
        claims: claims.clone(),
        email_claim_name: email_claim_name.clone(),
        email_verified: *email_verified,
        prompt: prompt.clone(),
        max_age: *max_age,
        pushed_requests: *pushed_requests,
        provider_logout: *provider_logout,
        ages: Ages::default(),
    })
}

/// Of all providers and for all applications: an origin believes such a header whoever the request
/// is from.
fn sent_headers(config: &Config) -> Arc<[SentHeader]> {
    let providers = config.identity_providers.iter();
    providers
        .flat_map(|idp| {
            idp.sent_headers().into_iter().map(|name| SentHeader {
                idp: idp.id.clone(),
                name,
            })
        })
        .collect()
}

fn application(
    config: &Config,
    application: &config::Application,
    origins: Origins,
    sent_headers: &Arc<[SentHeader]>,
) -> ApplicationSettings {
    let config::Application {
        id,
        aud,
        name,
        domain,
        path_case,
        origins: _,
        origin_settings: _,
        session_duration,
        allowed_idps,
        auto_redirect_to_identity,
        same_site_cookie_attribute,
        http_only_cookie_attribute,
        path_cookie_attribute,
        cors_headers,
        options_preflight_bypass,
        pass_cookies,
        max_body: _,
        custom_deny_message,
        policies,
    } = application;
    let domain = domain.pattern.clone();
    // Two applications on one host would overwrite each other's cookie; one that says nothing keeps
    // to its own path.
    let path = path_cookie_attribute.unwrap_or(domain.path() != "/");
    // Everybody's provider means every one there is: who came through one that was taken away is
    // out.
    let allowed = match allowed_idps.as_slice() {
        [] if config.team.certs_url.is_none() => config
            .identity_providers
            .iter()
            .map(|idp| idp.id.clone())
            .collect(),
        named => named.to_vec(),
    };
    ApplicationSettings {
        id: id.clone(),
        aud: aud.clone(),
        name: name.clone(),
        path_case: *path_case,
        session_duration: *session_duration,
        allowed_idps: allowed,
        auto_redirect_to_identity: *auto_redirect_to_identity,
        cookie: CookieAttributes {
            same_site: *same_site_cookie_attribute,
            http_only: *http_only_cookie_attribute,
            path,
        },
        cors: cors_headers.as_ref().map(cors),
        options_preflight_bypass: *options_preflight_bypass,
        pass_cookies: *pass_cookies,
        sent_headers: Arc::clone(sent_headers),
        custom_deny_message: custom_deny_message.clone(),
        policies: policies.clone(),
        domain,
        origins,
    }
}

fn cors(cors: &config::Cors) -> Cors {
    let config::Cors {
        origins,
        methods,
        headers,
        allow_credentials,
        max_age,
    } = cors;
    Cors {
        allow_all_origins: origins.listed().is_none(),
        allowed_origins: origins
            .listed()
            .unwrap_or_default()
            .iter()
            .map(|o| o.to_ascii_lowercase())
            .collect(),
        allowed_methods: methods.listed().map(<[_]>::to_vec),
        allowed_headers: headers.listed().map(<[_]>::to_vec),
        allow_credentials: *allow_credentials,
        max_age: max_age.and_then(|seconds| u32::try_from(seconds).ok()),
    }
}

/// Room for clocks and for a browser that dawdles between two hosts.
const SLACK: Duration = Duration::from_secs(3600);
/// A person waits for this at login.
const GROUPS_BUDGET: Duration = Duration::from_secs(15);
