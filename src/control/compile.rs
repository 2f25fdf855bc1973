use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use url::Url;

use super::{CountryFile, CountryFileError, Evaluations, IssuerSettings, RemoteTeam, Services};
use crate::catalog::{
    self, Catalog, ClientConfig, ClientCredentials, IdpKind, OidcConfig, OktaConfig, UnknownPolicy,
};
use crate::config::{Config, StoreConfig};
use crate::engine::{
    ApplicationSettings, ClientCa, CookieAttributes, Cors, NodeCache, Origins, Root, Snapshot,
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

/// An error of compiling a checked configuration.
#[derive(Debug, Error)]
pub enum CompileError {
    /// Rules that name an unknown group.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A shared policy that does not exist.
    #[error(transparent)]
    Policy(#[from] UnknownPolicy),
    /// A team domain that no URL can have.
    #[error("the team domain gives no URL")]
    Url(#[from] url::ParseError),
    /// A country database that changed since the check.
    #[error(transparent)]
    Countries(#[from] CountryFileError),
    /// The settings of a SAML provider.
    #[error("a SAML identity provider cannot be used")]
    Saml(#[from] SettingsError),
    /// A key that SAML assertions are encrypted for.
    #[error(transparent)]
    DecryptionKey(#[from] DecryptionKeyError),
    /// The private key of a client.
    #[error("the private key of an identity provider's client cannot be used")]
    ClientKey(#[from] ClientKeyError),
}

/// Compiles a configuration into the snapshot and the services. `origins` returns the front's
/// representation of an application's origins.
///
/// # Errors
/// See [`CompileError`]; a checked configuration has none, unless a file changed since.
pub fn compile(
    config: &Config,
    generation: u64,
    known: Arc<NodeCache>,
    http: &HttpClient,
    origins: impl Fn(&catalog::Application) -> Origins,
) -> Result<(Snapshot, Services), CompileError> {
    let snapshot = snapshot(config, generation, known, origins)?;
    let countries = config
        .geo
        .as_ref()
        .map(|geo| CountryFile::open(&geo.database).map(Arc::new))
        .transpose()?;
    let snapshot = snapshot.with_countries(countries.clone().map(|countries| countries as _));
    let longest = longest_session(&config.catalog)?;
    let revocations_max_stale = match &config.store {
        StoreConfig::Sqlite { max_stale, .. } if config.catalog.team.certs_url.is_none() => {
            Some(*max_stale)
        }
        StoreConfig::Sqlite { .. } | StoreConfig::Memory => None,
    };
    let services = Services {
        providers: providers(config, http)?,
        issuer: match config.catalog.team.certs_url.clone() {
            None => IssuerSettings::Local,
            Some(certs_url) => IssuerSettings::Remote(remote(config, certs_url)?),
        },
        team_url: config.catalog.team.url(),
        team_session: config.catalog.team.session_duration,
        identity_lifetime: config.catalog.team.session_duration + longest + SLACK,
        token_lifetime: config.catalog.team.session_duration.max(longest)
            + config.catalog.team.clock_leeway,
        revocations_max_stale,
        leeway: config.catalog.team.clock_leeway,
        sample: Sample::part(config.audit.allow_sample),
        audit_identity: config.audit.identity,
        evaluations: Evaluations::new(config),
        countries,
        watched: config
            .catalog
            .certificates
            .iter()
            .filter_map(|authority| authority.file.clone())
            .collect(),
    };
    Ok((snapshot, services))
}

/// Compiles the identity providers.
///
/// # Errors
/// As for [`compile`].
pub fn providers(config: &Config, http: &HttpClient) -> Result<Vec<Provider>, CompileError> {
    let callback = Url::parse(&format!(
        "{}{}/callback",
        config.catalog.team.url(),
        Endpoint::PREFIX
    ))?;
    config
        .catalog
        .identity_providers
        .iter()
        .map(|idp| provider(idp, http, &callback))
        .collect()
}

/// Compiles the part that decides, without providers and store.
///
/// # Errors
/// As for [`compile`].
pub fn snapshot(
    config: &Config,
    generation: u64,
    known: Arc<NodeCache>,
    origins: impl Fn(&catalog::Application) -> Origins,
) -> Result<Snapshot, CompileError> {
    let team = Team {
        name: config.catalog.team.name.clone(),
        domain: config.catalog.team.domain.clone(),
        port: config.catalog.team.port,
        plain_http: config.catalog.team.plain_http,
        leeway: config.catalog.team.clock_leeway.as_secs(),
        support: config.catalog.team.support.clone().map(Arc::new),
    };
    let sent = sent_headers(config);
    let applications = config
        .catalog
        .applications
        .iter()
        .map(|a| application(&config.catalog, a, origins(a), &sent))
        .collect::<Result<_, _>>()?;
    let snapshot = Snapshot::compile(
        generation,
        team,
        (&config.catalog.lists, &config.catalog.groups),
        applications,
        known,
    )?;
    let authority = |authority: &catalog::ClientAuthority| ClientCa {
        name: authority.name.clone(),
        roots: authority.roots.iter().map(|root| Root::new(root)).collect(),
        hosts: authority.hosts.clone(),
    };
    let authorities = config.catalog.certificates.iter().map(authority);
    Ok(snapshot
        .with_service_tokens(config.catalog.service_tokens.iter().cloned())
        .with_client_cas(authorities))
}

fn remote(config: &Config, certs_url: Url) -> Result<RemoteTeam, url::ParseError> {
    let sibling = |endpoint: &str| certs_url.join(endpoint);
    Ok(RemoteTeam {
        identity_url: sibling("get-identity")?,
        authorized_url: sibling("authorized")?,
        max_stale: config.catalog.team.jwks_max_stale,
        certs_url,
    })
}

fn provider(
    idp: &catalog::IdentityProvider,
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
            let mut connection = Saml::new(idp.id.clone(), idp.name.clone(), agreed)
                .with_absent_groups(saml.absent_groups);
            if saml.sign_request {
                connection = connection.with_signed_requests();
            }
            Provider::Saml(Box::new(connection))
        }
    })
}

fn client_settings(
    idp: &catalog::IdentityProvider,
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

/// Returns the headers of all providers. Origins believe such a header, so it is removed from every
/// application's requests.
fn sent_headers(config: &Config) -> Arc<[SentHeader]> {
    let providers = config.catalog.identity_providers.iter();
    providers
        .flat_map(|idp| {
            idp.sent_headers().into_iter().map(|name| SentHeader {
                idp: idp.id.clone(),
                name,
            })
        })
        .collect()
}

/// Returns the longest session of any application or policy.
fn longest_session(catalog: &Catalog) -> Result<Duration, UnknownPolicy> {
    let mut longest = Duration::ZERO;
    for application in &catalog.applications {
        let policies = catalog.policies_of(application)?;
        let durations = policies.iter().filter_map(|policy| policy.session_duration);
        longest = durations
            .chain([application.session_duration, longest])
            .max()
            .unwrap_or_default();
    }
    Ok(longest)
}

fn application(
    catalog: &Catalog,
    application: &catalog::Application,
    origins: Origins,
    sent_headers: &Arc<[SentHeader]>,
) -> Result<ApplicationSettings, UnknownPolicy> {
    let catalog::Application {
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
        policies: _,
    } = application;
    let policies = catalog.policies_of(application)?;
    let domain = domain.pattern.clone();
    // Two applications on one host would overwrite each other's cookie, so the path is its default.
    let path = path_cookie_attribute.unwrap_or(domain.path() != "/");
    // Without `allowed_idps` every configured provider is allowed. A session from a provider that
    // was removed is rejected.
    let allowed = match allowed_idps.as_slice() {
        [] if catalog.team.certs_url.is_none() => catalog
            .identity_providers
            .iter()
            .map(|idp| idp.id.clone())
            .collect(),
        named => named.to_vec(),
    };
    Ok(ApplicationSettings {
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
        policies: policies.into_iter().cloned().collect(),
        domain,
        origins,
    })
}

fn cors(cors: &catalog::Cors) -> Cors {
    let catalog::Cors {
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

/// Allows for clocks, and for a browser that pauses between two hosts.
const SLACK: Duration = Duration::from_secs(3600);
/// The user waits for this at login.
const GROUPS_BUDGET: Duration = Duration::from_secs(15);
