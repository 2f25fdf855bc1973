use std::net::IpAddr;

use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::people::{APPLICATIONS, PEOPLE, Person, Sees};
use super::*;
use crate::model::{Group, Groups, IdpId};
use crate::policy::{Facts, Outcome, Policy, PolicySet};

const PORTS: Ports = Ports { proxy: 8000, provider: 8001, origin: 8002 };

/// What the tests read of the configuration; the whole of it is `config`'s to judge.
#[derive(Deserialize)]
struct Configuration {
    team: toml::Table,
    applications: Vec<Configured>,
    identity_providers: Vec<toml::Table>,
}

#[derive(Deserialize)]
struct Configured {
    domain: String,
    origin: String,
    policies: Vec<Policy>,
}

fn configuration(ports: Ports) -> Configuration {
    toml::from_str(&config::text(ports, &Credentials::random())).unwrap()
}

/// The rows of the table are what the policies of the configuration say about these people.
#[test]
fn everybody_sees_what_the_table_says() {
    let configuration = configuration(PORTS);
    let policies = configuration.applications.iter().map(|application| application.policies.as_slice());
    let (set, compiled) = PolicySet::compile(&[], policies).unwrap();
    assert_eq!(compiled.len(), APPLICATIONS.len());
    let idp = IdpId("demo".into());
    let ip: IpAddr = "127.0.0.1".parse().unwrap();
    let sees = |person: &Person, place: usize| {
        if set.bypass(&compiled[place], &Facts::of_nobody(ip)).is_some() {
            return Sees::Opens;
        }
        if !person.email_verified {
            return Sees::NoLogin;
        }
        let groups = person.groups().into_iter().map(|g| Group { id: g.id, name: g.name }).collect();
        let membership = set.interner().membership(&idp, &Groups::Known(groups)).unwrap();
        let email = person.email();
        let idp = Some(set.interner().provider_number(&idp));
        let facts = Facts { email: Some(&email), idp, groups: Some(&membership), ip };
        match set.evaluate(&compiled[place], &facts).outcome {
            Outcome::Allow => Sees::Opens,
            Outcome::Bypass | Outcome::Deny => Sees::Refused,
        }
    };
    for person in &PEOPLE {
        for (place, application) in APPLICATIONS.iter().enumerate() {
            assert_eq!(person.sees[place], sees(person, place), "{} at {}", person.name, application.name);
        }
    }
}

#[test]
fn each_person_is_a_case_of_their_own() {
    let carol = Person::by_login("carol").unwrap().groups();
    assert_eq!(carol.len(), 150);
    assert!(carol.iter().position(|group| group.name == "Vault keepers").unwrap() >= 100);
    assert!(Person::by_login("zed").unwrap().groups().is_empty());
    let mut subjects: Vec<_> = PEOPLE.iter().map(Person::subject).collect();
    assert!(subjects.iter().all(|subject| subject.len() == 20));
    subjects.dedup();
    assert_eq!(subjects.len(), PEOPLE.len());
    let mut ids: Vec<_> = carol.iter().map(|group| &group.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 150);
}

#[test]
fn the_configuration_has_everything_on_loopback() {
    let configuration = configuration(PORTS);
    assert_eq!(configuration.team["domain"].as_str(), Some("team.localhost:8000"));
    let provider = &configuration.identity_providers[0]["config"];
    assert_eq!(provider["okta_account"].as_str(), Some("http://idp.localhost:8001"));
    for application in &configuration.applications {
        assert!(application.domain.ends_with(".localhost"), "{}", application.domain);
        assert_eq!(application.origin, "http://127.0.0.1:8002");
    }
}

#[test]
fn secrets_are_made_anew_and_are_not_printed() {
    let (one, other) = (Credentials::random(), Credentials::random());
    assert_ne!(one.client_secret, other.client_secret);
    assert_ne!(one.api_token, other.api_token);
    assert!(!format!("{one:?}").contains(one.client_secret.expose()));
}

#[test]
fn the_banner_fits_a_terminal() {
    let banner = banner::text(Ports::starting_at(65_000).unwrap());
    for line in banner.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert_eq!(line, line.trim_end());
    }
    assert!(banner.lines().count() <= 24, "{banner}");
    for application in &APPLICATIONS {
        assert!(banner.contains(&format!("http://{}.localhost:65000 ", application.label)), "{banner}");
    }
    for person in &PEOPLE {
        assert!(banner.contains(person.name) && banner.contains(person.about), "{banner}");
    }
}

#[test]
fn ports_follow_one_another() {
    assert_eq!(Ports::starting_at(8000), Some(PORTS));
    assert_eq!(Ports::starting_at(0), None);
    assert_eq!(Ports::starting_at(65_534), None);
    let plain = Ports { proxy: 80, ..PORTS };
    assert_eq!(plain.callback(), "http://team.localhost/cdn-cgi/access/callback");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind(loopback(0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let ports = Ports { origin: port, ..free() };
    assert_eq!(ports.check().unwrap_err().port, port);
}

/// Ports that nobody has right now.
fn free() -> Ports {
    let listeners: [TcpListener; 3] = std::array::from_fn(|_| TcpListener::bind(loopback(0)).unwrap());
    let [proxy, provider, origin] = listeners.map(|listener| listener.local_addr().unwrap().port());
    Ports { proxy, provider, origin }
}

/// Sends these bytes, once the port is open, and reads to the end of the connection.
async fn exchange(port: u16, request: &[u8]) -> String {
    let mut stream = loop {
        match TcpStream::connect(loopback(port)).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    // A server that has read enough answers and closes.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_services_answer_on_their_ports() {
    let ports = free();
    let demo = Demo::new(ports, UnixTime::now()).unwrap();
    let (stop, watching) = watch::channel(false);
    let watching: ShutdownWatch = watching;
    let running: Vec<_> =
        demo.services().into_iter().map(|service| tokio::spawn(run(service, watching.clone()))).collect();

    let tests = async {
        let host = format!("idp.localhost:{}", ports.provider);
        let get =
            format!("GET /.well-known/openid-configuration HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = exchange(ports.provider, get.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains(&format!("\"issuer\": \"http://{host}\"")), "{answer}");

        let head = get.replace("GET", "HEAD");
        let answer = exchange(ports.provider, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(!answer.to_lowercase().contains("content-length: 0"), "{answer}");

        let answer = exchange(ports.origin, b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");

        let mut large = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 65537\r\n\r\n".to_vec();
        large.resize(large.len() + 65_537, b'a');
        let answer = exchange(ports.origin, &large).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

        let mut fitting =
            b"POST / HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nconnection: close\r\ncontent-length: 65536\r\n\r\n".to_vec();
        fitting.resize(fitting.len() + 65_536, b'a');
        let answer = exchange(ports.origin, &fitting).await;
        assert!(answer.contains("\"body_bytes\": 65536"), "{answer}");
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), tests).await.unwrap();

    stop.send(true).unwrap();
    for service in running {
        service.await.unwrap();
    }
}

async fn run(mut service: Box<dyn ServiceWithDependents>, stop: ShutdownWatch) {
    let ready = ServiceReadyNotifier::new(watch::channel(false).0);
    service
        .start_service(
            #[cfg(unix)]
            None,
            stop,
            1,
            ready,
        )
        .await;
}
