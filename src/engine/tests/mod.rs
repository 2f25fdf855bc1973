use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, Method};
use serde_json::json;

use super::*;
use crate::cases::{self, App, LEEWAY, Mint, Person, Record, World, aud, key_set, team};
use crate::engine::{AssertionOf, IdentityState, IssuerKeys, NodeCache, Origins};
use crate::keys;
use crate::model::{CleanPath, ClientTls, HostPort, IdentityNonce};
use crate::policy::{Policy, SharedRules};
use crate::route::{Endpoint, HostRole};
use crate::session::{Revocations, Until};
use crate::token::SigningKey;

mod certificates;
mod changes;
mod cookies;
mod linked_tokens;
mod property;
mod service_clients;
mod table;

const NOW: UnixTime = UnixTime(1_800_000_000);

static WORLD: LazyLock<World> = LazyLock::new(cases::world);
static MINT: LazyLock<Mint> = LazyLock::new(|| Mint {
    now: NOW,
    issuer: format!("https://{}", cases::TEAM_DOMAIN),
    key: keys::signing_key(keys::TEAM),
    stranger: keys::signing_key(keys::STRANGER),
});

fn after(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

fn good_keys() -> IssuerKeys {
    MINT.keys("", after(30)).unwrap()
}

fn compile(generation: u64, domain: &str, apps: &[App], cache: &Arc<NodeCache>) -> Snapshot {
    let applications = apps
        .iter()
        .map(|app| app.settings(Origins::new(())))
        .collect();
    let snapshot = Snapshot::compile(
        generation,
        team(domain),
        SharedRules {
            lists: &[],
            groups: &WORLD.groups,
        },
        applications,
        Arc::clone(cache),
    );
    snapshot
        .unwrap()
        .with_service_tokens(WORLD.service_tokens.iter().map(|token| token.settings(NOW)))
}

static ASSERTIONS: LazyLock<cases::Assertions> = LazyLock::new(|| WORLD.assertions(&MINT));

/// Fills the cache as if every service client had been here before.
fn set_assertions(snapshot: &Snapshot) {
    for (aud, name, token) in ASSERTIONS.iter() {
        let of = AssertionOf {
            aud,
            common_name: name,
        };
        let cache = snapshot.cache();
        cache.set_assertion(snapshot.issuer(), of, token.clone(), after(3_600));
    }
}

/// Returns an application of the table with other policies.
fn with_policies(name: &str, policies: serde_json::Value) -> App {
    let app = WORLD.applications.iter().find(|app| app.name == name);
    App {
        policies: serde_json::from_value(policies).unwrap(),
        ..app.unwrap().clone()
    }
}

fn record(cache: &NodeCache, person: &Person) {
    if let Some(state) = person.state(after(30)) {
        cache.set_identity(person.nonce(), state);
    }
}

/// Returns a node with the keys and the records of the table.
fn node() -> Snapshot {
    let cache = Arc::new(NodeCache::new(1_000));
    let snapshot = compile(1, cases::TEAM_DOMAIN, &WORLD.applications, &cache);
    cache.set_keys(snapshot.issuer(), good_keys());
    set_assertions(&snapshot);
    WORLD
        .people
        .iter()
        .for_each(|person| record(&cache, person));
    snapshot
}

/// A request as received.
struct Raw<'a> {
    method: Method,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: HeaderMap,
    client: IpAddr,
    tls: Option<ClientTls>,
}

impl Raw<'_> {
    /// Returns the decision in the notation of the table.
    fn ask(&self, snapshot: &Snapshot, now: UnixTime) -> String {
        self.decide(snapshot, now).map_or_else(
            |reason| format!("refuse {reason}"),
            |decision| describe(&decision),
        )
    }

    /// Decides as a front does: a malformed request is refused before the decision.
    fn decide(&self, snapshot: &Snapshot, now: UnixTime) -> Result<Decision, Reason> {
        let authority = HostPort::parse(self.host).map_err(|_| Reason::HostMalformed)?;
        let path = CleanPath::parse(self.path).map_err(|_| Reason::PathAmbiguous)?;
        let (method, query, headers, client) =
            (&self.method, self.query, &self.headers, self.client);
        let tls = self.tls.as_ref();
        Ok(decide(
            snapshot,
            &RequestView {
                method,
                authority,
                path,
                query,
                headers,
                client,
                tls,
            },
            now,
        ))
    }
}

/// Returns a `GET` of an application's first page with these credentials.
fn get(app: &str, with: &[&str]) -> Raw<'static> {
    let app = WORLD.applications.iter().find(|a| a.name == app).unwrap();
    let (host, path) = app.domain.split_once('/').unwrap_or((&app.domain, ""));
    let host = host.replace('*', "any").leak();
    let case = cases::Case {
        send: String::new(),
        headers: Default::default(),
        with: with.iter().map(|w| (*w).to_owned()).collect(),
        from: None,
        node: String::new(),
        expect: String::new(),
        unlearned: None,
    };
    Raw {
        method: Method::GET,
        host,
        path: format!("/{path}").leak(),
        query: None,
        headers: WORLD.headers(&case, &MINT),
        client: WORLD.client,
        tls: None,
    }
}

fn describe(decision: &Decision) -> String {
    let name = |application: &Application| application.settings().name.clone();
    match decision {
        Decision::Forward(permit) => {
            let person = match permit.service_client() {
                Some(ServiceClient::ServiceToken(token)) => token.client_id.as_str(),
                Some(ServiceClient::Certificate(certificate)) => &certificate.common_name,
                Some(ServiceClient::LinkedApp { .. }) | None => permit
                    .session()
                    .and_then(|s| s.email())
                    .map_or("anonymous", |email| email.as_str()),
            };
            let policy = permit
                .policy()
                .map_or(String::new(), |policy| format!(" by `{policy}`"));
            format!("forward {} as {person}{policy}", name(permit.application()))
        }
        Decision::LogIn(Challenge { reason, style, .. }) => {
            format!("log in {} {reason}", format!("{style:?}").to_lowercase())
        }
        Decision::Deny(refusal) => format!("deny {}", refusal.reason),
        Decision::Refuse(reason) => format!("refuse {reason}"),
        Decision::Unavailable(refusal) => format!("unavailable {}", refusal.reason),
        Decision::Preflight(application) => format!("preflight {}", name(application)),
        Decision::Handle {
            endpoint,
            host_role,
        } => {
            let endpoint = match endpoint {
                Endpoint::Login => "login",
                Endpoint::Callback => "callback",
                Endpoint::Authorized => "authorized",
                Endpoint::Logout => "logout",
                Endpoint::Certs => "certs",
                Endpoint::GetIdentity => "get-identity",
                Endpoint::RefreshIdentity => "refresh-identity",
                Endpoint::TestIdp => "test-idp",
                Endpoint::LoggedOut => "logged-out",
                Endpoint::ProtectedResource => "protected-resource",
                Endpoint::SamlMetadata => "saml-metadata",
                Endpoint::PublicCert => "public-cert",
                Endpoint::Home => "home",
                Endpoint::Unknown => "unknown",
            };
            format!(
                "handle {endpoint}{}",
                match host_role {
                    HostRole::Team => " on team",
                    HostRole::Application => "",
                }
            )
        }
        Decision::Resolve(Need::Keys) => "resolve keys".to_owned(),
        Decision::Resolve(Need::Identity { .. }) => "resolve identity".to_owned(),
        Decision::Resolve(Need::Assertion { common_name, .. }) => {
            format!("resolve assertion of {common_name}")
        }
    }
}
