use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::serve::Handler as _;
use super::users::{APPLICATIONS, Expected, USERS, User};
use super::*;
use crate::config::{ClientCredentials, Config, IdentityProvider, IdpKind, StoreConfig, System};
use crate::http_client::{HttpClient, Roots, Timeouts};
use crate::idp::{
    Ages, Callback, CallbackContext, ClientSettings, EmailFailure, Hints, LoginFailure,
    OktaSettings, Provider, ProviderIdentity,
};
use crate::model::{Groups, UnixTime, UserId};
use crate::policy::{Facts, Outcome, PolicySet, Requester};

const PORTS: Ports = Ports {
    proxy: 8000,
    provider: 8001,
    origin: 8002,
};

fn configuration(demo: &Demo) -> Config {
    crate::config::parse(&demo.config(), Path::new("demo.toml"), &System)
        .unwrap()
        .config
}

/// Returns the proxy's client of the demo's provider.
fn okta(config: &Config, ports: Ports) -> Provider {
    let IdentityProvider {
        id,
        name,
        kind: IdpKind::Okta(okta),
    } = config.catalog.identity_providers[0].clone()
    else {
        panic!()
    };
    let settings = OktaSettings {
        client: ClientSettings {
            id,
            name,
            client_id: okta.client.client_id,
            credentials: match okta.client.credentials {
                ClientCredentials::Secret(secret) => crate::idp::Credentials::Secret(secret),
                ClientCredentials::Key { .. } => panic!("the demo has a secret"),
            },
            auth_method: None,
            trusted_audiences: None,
            claims: okta.client.claims,
            email_claim_name: okta.client.email_claim_name,
            email_verified: okta.client.email_verified,
            prompt: None,
            max_age: None,
            pushed_requests: false,
            provider_logout: false,
            ages: Ages::default(),
        },
        okta_account: okta.okta_account,
        authorization_server_id: okta.authorization_server_id,
        api_token: okta.api_token,
        groups_scope: true,
        refresh: None,
        groups_budget: Duration::from_secs(10),
    };
    let http = HttpClient::new(&Roots::default(), Timeouts::default()).unwrap();
    Provider::okta(settings, http, ports.callback().parse().unwrap())
}

/// Performs a login over HTTP: the proxy's client, and a browser that follows the user's link.
async fn log_in(
    demo: &Demo,
    provider: &Provider,
    login: &str,
) -> Result<ProviderIdentity, LoginFailure> {
    let now = UnixTime::now();
    let provider = provider.as_oidc().unwrap();
    let begun = provider
        .begin("state", Hints::default(), now)
        .await
        .unwrap();
    let target = format!(
        "{}?{}&user={login}",
        begun.url.path(),
        begun.url.query().unwrap()
    );
    let host = demo.ports.issuer().replace("http://", "");
    let request = Request::get(target)
        .header("host", host)
        .body(Bytes::new())
        .unwrap();
    let location = demo.provider.handle(&request, now).headers()["location"]
        .to_str()
        .unwrap()
        .to_owned();
    let callback = Callback::parse(location.split_once('?').unwrap().1).unwrap();
    provider
        .finish(
            &Secret::new("state"),
            &begun.pending,
            &callback,
            CallbackContext {
                now,
                leeway: Duration::from_secs(60),
                client_ip: None,
            },
        )
        .await
}

/// Compares the table with the results of real logins and of the configured policies.
#[tokio::test]
async fn logins_and_policies_match_the_table() {
    let (demo, running) = Running::start();
    let config = configuration(&demo);
    let catalog = &config.catalog;
    let policies: Vec<Vec<_>> = catalog
        .applications
        .iter()
        .map(|application| catalog.policies_of(application).unwrap())
        .map(|policies| policies.into_iter().cloned().collect())
        .collect();
    let (set, compiled) = PolicySet::compile(
        &catalog.lists,
        &catalog.groups,
        policies.iter().map(Vec::as_slice),
    )
    .unwrap();
    assert_eq!(compiled.len(), APPLICATIONS.len());
    running.ready(demo.ports.provider).await;
    let provider = okta(&config, demo.ports);
    let facts = Facts::new(
        "127.0.0.1".parse().unwrap(),
        &http::Method::GET,
        UnixTime::now(),
        None,
    );

    for user in &USERS {
        let profile = log_in(&demo, &provider, user.login).await;
        if let Ok(profile) = &profile {
            let names: Vec<_> = user.groups().into_iter().map(|group| group.name).collect();
            let Groups::Known(groups) = &profile.groups else {
                panic!("{} has unknown groups", user.name)
            };
            assert_eq!(
                groups
                    .iter()
                    .map(|group| group.name.clone())
                    .collect::<Vec<_>>(),
                names,
                "{}",
                user.name
            );
        }
        for (place, application) in APPLICATIONS.iter().enumerate() {
            let expected = match &profile {
                _ if set
                    .early_verdict(&compiled[place], &facts)
                    .verdict
                    .is_some() =>
                {
                    Expected::Opens
                }
                Err(LoginFailure::Email(EmailFailure::Unverified(_))) => Expected::NoLogin,
                Err(failure) => panic!("{}: {failure}", user.name),
                Ok(profile) => {
                    let identity = profile.clone().into_identity(UserId("u".into()));
                    let user = set.user_facts(Requester::User {
                        email: &identity.email,
                        identity: Some(&identity),
                    });
                    match set
                        .evaluate(
                            &compiled[place],
                            &set.partial_verdict(&compiled[place], &user),
                            &facts,
                        )
                        .outcome
                    {
                        Outcome::Allow => Expected::Opens,
                        Outcome::Bypass | Outcome::ServiceAuth | Outcome::Deny => Expected::Denied,
                    }
                }
            };
            assert_eq!(
                user.expected[place], expected,
                "{} at {}",
                user.name, application.name
            );
        }
    }
    let cancelled = log_in(&demo, &provider, "cancel").await.unwrap_err();
    assert!(
        matches!(cancelled, LoginFailure::ProviderError { .. }),
        "{cancelled:?}"
    );
    running.stop().await;
}

#[test]
fn each_user_is_a_distinct_case() {
    let carol = User::by_login("carol").unwrap().groups();
    assert_eq!(carol.len(), 150);
    assert!(
        carol
            .iter()
            .position(|group| group.name == "Vault keepers")
            .unwrap()
            >= 100
    );
    assert!(User::by_login("zed").unwrap().groups().is_empty());
    let subjects: HashSet<_> = USERS.iter().map(User::subject).collect();
    assert_eq!(subjects.len(), USERS.len());
    assert!(
        subjects.iter().all(|subject| subject.len() == 20),
        "{subjects:?}"
    );
    let ids: HashSet<_> = carol.iter().map(|group| &group.id).collect();
    assert_eq!(ids.len(), 150);
}

#[test]
fn configuration_uses_loopback_addresses_only() {
    let demo = Demo::new(PORTS).unwrap();
    let config = configuration(&demo);
    assert_eq!(config.catalog.team.url(), PORTS.team());
    assert_eq!(
        config
            .listen
            .iter()
            .map(|listen| listen.address)
            .collect::<Vec<_>>(),
        [loopback(8000)]
    );
    assert_eq!(config.store, StoreConfig::Memory);
    for (application, described) in config.catalog.applications.iter().zip(&APPLICATIONS) {
        assert_eq!(
            config
                .catalog
                .team
                .application_url(application.domain.pattern.host()),
            PORTS.application(described.label)
        );
        assert_eq!(application.origins[0].address, "127.0.0.1:8002");
    }
}

#[test]
fn secrets_are_new_for_each_run_and_not_printed() {
    let (one, other) = (Credentials::random(), Credentials::random());
    assert_ne!(one.client_secret, other.client_secret);
    assert_ne!(one.api_token, other.api_token);
    assert!(!format!("{one:?}").contains(one.client_secret.expose()));
}

#[test]
fn banner_fits_a_terminal() {
    let banner = banner::text(Ports::starting_at(65_000).unwrap());
    for line in banner.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert_eq!(line, line.trim_end());
    }
    assert!(banner.lines().count() <= 24, "{banner}");
    for application in &APPLICATIONS {
        assert!(
            banner.contains(&format!("http://{}.localhost:65000 ", application.label)),
            "{banner}"
        );
    }
    for user in &USERS {
        assert!(
            banner.contains(user.name) && banner.contains(user.about),
            "{banner}"
        );
    }
}

#[test]
fn ports_are_consecutive() {
    assert_eq!(Ports::starting_at(8000), Some(PORTS));
    assert_eq!(Ports::starting_at(0), None);
    assert_eq!(Ports::starting_at(65_534), None);
    let plain = Ports { proxy: 80, ..PORTS };
    assert_eq!(
        plain.callback(),
        "http://team.localhost/cdn-cgi/access/callback"
    );
}

#[test]
fn port_in_use_is_reported() {
    let taken = TcpListener::bind(loopback(0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports = Ports {
        origin: port,
        ..free()
    };
    assert_eq!(ports.check().unwrap_err().port, port);
}

/// Returns ports without a listener. They are below the range for outgoing connections, so that no
/// concurrent test takes one before the demo does.
fn free() -> Ports {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 1000).unwrap();
    loop {
        let offset = process * 20 + NEXT.fetch_add(3, Ordering::Relaxed);
        let ports = Ports::starting_at(10_000 + offset % 20_000).unwrap();
        if ports.check().is_ok() {
            return ports;
        }
    }
}

/// The services of a demo, run as a server runs them.
struct Running {
    stop: watch::Sender<bool>,
    services: Vec<JoinHandle<()>>,
}

impl Running {
    fn start() -> (Demo, Self) {
        let demo = Demo::new(free()).unwrap();
        let (stop, watching) = watch::channel(false);
        let run = |mut service: Box<dyn ServiceWithDependents>| {
            let watching: ShutdownWatch = watching.clone();
            tokio::spawn(async move {
                let ready = ServiceReadyNotifier::new(watch::channel(false).0);
                service.start_service(None, watching, 1, ready).await;
            })
        };
        let services = demo.services().into_iter().map(run).collect();
        (demo, Self { stop, services })
    }

    async fn ready(&self, port: u16) {
        connect(port).await;
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        for service in self.services {
            service.await.unwrap();
        }
    }
}

/// Connects as soon as the port is open.
async fn connect(port: u16) -> TcpStream {
    for _ in 0..500 {
        match TcpStream::connect(loopback(port)).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("port {port} stays closed");
}

/// Sends these bytes, and reads until the connection closes.
async fn exchange(port: u16, request: &[u8]) -> String {
    let mut stream = connect(port).await;
    let mut answer = Vec::new();
    let exchange = async {
        // A server that has read enough answers and closes the connection, so either may fail.
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    tokio::time::timeout(Duration::from_secs(10), exchange)
        .await
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn services_answer_on_their_ports() {
    let (demo, running) = Running::start();
    let ports = demo.ports;
    let host = ports.issuer().replace("http://", "");
    let get = format!(
        "GET /.well-known/openid-configuration HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    );
    let answer = exchange(ports.provider, get.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains(&format!("\"issuer\": \"http://{host}\"")),
        "{answer}"
    );

    let answer = exchange(ports.provider, get.replace("GET", "HEAD").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    assert!(
        !answer.to_lowercase().contains("content-length: 0"),
        "{answer}"
    );

    let answer = exchange(
        ports.origin,
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"),
        "{answer}"
    );

    let post = "POST / HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nconnection: close\r\ncontent-length: ";
    let answer = exchange(
        ports.origin,
        format!("{post}65537\r\n\r\n{}", "a".repeat(65_537)).as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let answer = exchange(
        ports.origin,
        format!("{post}65536\r\n\r\n{}", "a".repeat(65_536)).as_bytes(),
    )
    .await;
    assert!(answer.contains("\"body_bytes\": 65536"), "{answer}");
    running.stop().await;
}
