//! Client certificates: their authorities, their names and their connections.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::certs::{Authority, ClientIdentity};
use crate::support::portcullis::find;
use crate::support::raw::{self, Connection, Connection2};
use crate::support::{Browser, Person, World, eventually, open_token};

/// Devices come to the wiki, partners to `pay`, and people with a device to `app`.
const CERTIFICATES: &str = r#"
[[certificates]]
name = "Devices"
ca = "$FOLDER/devices.pem"
associated_hostnames = ["wiki.test", "app.test"]

[[certificates]]
name = "Partners"
ca = "$FOLDER/partners.pem"
associated_hostnames = ["pay.test"]

[[applications]]
name = "Wiki"
domain = "wiki.test"
origin = "$ORIGIN"
policies = [
    { name = "one device", decision = "non_identity", include = [{ common_name = { common_name = "device-1" } }] },
    { name = "unnamed", decision = "non_identity", include = [{ certificate = {} }], exclude = [{ common_name = { common_name = "device-2" } }] },
]

[[applications]]
name = "Pay"
domain = "pay.test"
origin = "$ORIGIN"
policies = [{ name = "partners", decision = "non_identity", include = [{ certificate = {} }] }]

[[applications]]
name = "Open"
domain = "open.test"
origin = "$ORIGIN"
policies = [{ name = "all", decision = "bypass", include = [{ everyone = {} }] }]

[[applications]]
name = "App"
domain = "app.test"
origin = "$ORIGIN"
allowed_idps = ["okta"]
auto_redirect_to_identity = true
policies = [{ name = "people with a device", decision = "allow", include = [{ everyone = {} }], require = [{ certificate = {} }] }]

[audit]
allow_sample = 1
"#;

struct Hardware {
    world: World,
    devices: Authority,
    partners: Authority,
    folder: TempDir,
}

async fn hardware() -> Hardware {
    let folder = tempfile::tempdir().unwrap();
    let (devices, partners) = (
        Authority::new("Example devices"),
        Authority::new("Example partners"),
    );
    std::fs::write(folder.path().join("devices.pem"), devices.pem()).unwrap();
    std::fs::write(folder.path().join("partners.pem"), partners.pem()).unwrap();
    let applications = CERTIFICATES.replace("$FOLDER", &folder.path().display().to_string());
    let world = World::with(&applications, |config| config.tls = true).await;
    Hardware {
        world,
        devices,
        partners,
        folder,
    }
}

impl Hardware {
    async fn connect(&self, host: &str, identity: Option<&ClientIdentity>) -> Option<Connection> {
        let proxy = &self.world.proxy;
        let config = identity.map_or_else(
            || proxy.trust("http/1.1"),
            |identity| proxy.trust_as("http/1.1", identity),
        );
        Connection::try_tls(proxy.address, host, &config).await
    }

    /// Returns the status of a page; 0 without a connection.
    async fn status(&self, host: &str, identity: Option<&ClientIdentity>) -> u16 {
        match self.connect(host, identity).await {
            Some(mut connection) => get(&mut connection, host).await,
            None => 0,
        }
    }
}

async fn get(connection: &mut Connection, host: &str) -> u16 {
    connection
        .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    connection.response("GET").await.unwrap().status
}

fn told(world: &World) -> Value {
    open_token(world.origin.last().assertion().unwrap()).1["common_name"].clone()
}

#[tokio::test]
async fn h17_client_certificate_counts_for_hosts_of_its_ca() {
    let hardware = hardware().await;
    let Hardware {
        world,
        devices,
        partners,
        ..
    } = &hardware;
    let (one, two) = (devices.client("device-1"), devices.client("device-2"));
    let partner = partners.client("device-1");
    for (identity, wiki, pay, open) in [
        (Some(&one), 200, 403, 200),
        (Some(&two), 403, 403, 200),
        (Some(&partner), 403, 200, 200),
        (None, 403, 403, 200),
    ] {
        assert_eq!(hardware.status("wiki.test", identity).await, wiki);
        assert_eq!(hardware.status("pay.test", identity).await, pay);
        assert_eq!(hardware.status("open.test", identity).await, open);
    }
    // A certificate belongs to a connection, and each request names its host. The name in the TLS
    // handshake does not count.
    let mut connection = hardware.connect("open.test", Some(&one)).await.unwrap();
    for (host, expected) in [
        ("wiki.test", 200),
        ("pay.test", 403),
        ("open.test", 200),
        ("wiki.test", 200),
    ] {
        assert_eq!(get(&mut connection, host).await, expected, "{host}");
    }
    let mut connection = hardware.connect("wiki.test", None).await.unwrap();
    for (host, expected) in [("wiki.test", 403), ("open.test", 200), ("wiki.test", 403)] {
        assert_eq!(get(&mut connection, host).await, expected, "{host}");
    }
    // Over HTTP/2 as well, many hosts on one connection.
    let config = world.proxy.trust_as("h2", &one);
    let mut connection = Connection2::tls(world.proxy.address, "wiki.test", &config).await;
    for (host, expected) in [("wiki.test", 200), ("pay.test", 403), ("open.test", 200)] {
        let request = http::Request::get(format!("https://{host}/"))
            .body(())
            .unwrap();
        assert_eq!(
            connection
                .request(request, b"")
                .await
                .unwrap()
                .head
                .status
                .as_u16(),
            expected,
            "{host}"
        );
        if host == "wiki.test" {
            assert_eq!(told(world), "device-1");
            assert_eq!(
                world
                    .origin
                    .last()
                    .headers
                    .one("cf-access-authenticated-user-email"),
                None
            );
        }
    }
    // A certificate without a valid chain ends the handshake. TLS carries the reason.
    let stranger = Authority::new("Example devices");
    for (what, identity) in [
        ("an authority of the same name", stranger.client("device-1")),
        ("expired", devices.expired("device-1")),
        (
            "an authority under another one",
            stranger.intermediate("x").client("device-1"),
        ),
        (
            "for servers",
            devices.client_of(&["device-1"], |params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
    ] {
        assert_eq!(
            hardware.status("wiki.test", Some(&identity)).await,
            0,
            "{what}"
        );
        assert_eq!(
            hardware.status("open.test", Some(&identity)).await,
            0,
            "{what}"
        );
    }
    let under = devices.intermediate("Berlin");
    assert_eq!(
        hardware
            .status("wiki.test", Some(&under.client("device-1")))
            .await,
        200
    );
    let events = world.proxy.events("access");
    let allowed = events
        .iter()
        .find(|event| find(event, "policy") == Some("one device"))
        .unwrap();
    assert_eq!(
        (find(allowed, "common_name"), find(allowed, "email")),
        (Some("device-1"), None)
    );
}

#[tokio::test]
async fn ambiguous_certificate_names_are_ignored() {
    let hardware = hardware().await;
    let status = async |names: &[&str]| {
        let identity = hardware.devices.client_of(names, |_| ());
        hardware.status("wiki.test", Some(&identity)).await
    };
    assert_eq!(status(&["device-1"]).await, 200);
    // A certificate without a name is valid, and identifies no client.
    assert_eq!(status(&[]).await, 200);
    assert!(hardware.world.origin.last().assertion().is_none());
    for names in [
        &["device-1", "device-2"][..],
        &["device-2", "device-1"],
        &["device-1", "device-1"],
        &["device-1\0"],
        &["device-1\0.example.com"],
        &["\0"],
        &["device-1\n"],
        &[""],
        &[&"x".repeat(257)],
    ] {
        assert_eq!(status(names).await, 403, "{names:?}");
    }
    assert_eq!(
        status(&["Device-1"]).await,
        200,
        "another name is let in by the other policy"
    );
    assert_eq!(told(&hardware.world), "Device-1");
    assert_eq!(status(&["Gerät-1, EU"]).await, 200);
    assert_eq!(told(&hardware.world), "Gerät-1, EU");
}

#[tokio::test]
async fn resumed_connection_keeps_its_certificate() {
    let hardware = hardware().await;
    let proxy = &hardware.world.proxy;
    let (one, two) = (
        hardware.devices.client("device-1"),
        hardware.devices.client("device-2"),
    );
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (identity, expected) in [(Some(&one), 200), (Some(&two), 403), (None, 403)] {
            let config = proxy.trust_in(version, identity);
            let (mut first, resumed) =
                Connection::tls_again(proxy.address, "wiki.test", &config).await;
            assert!(!resumed);
            assert_eq!(get(&mut first, "wiki.test").await, expected);
            let (mut second, resumed) =
                Connection::tls_again(proxy.address, "wiki.test", &config).await;
            assert!(resumed, "{version:?}");
            assert_eq!(get(&mut second, "wiki.test").await, expected, "{version:?}");
            assert_eq!(get(&mut second, "pay.test").await, 403, "{version:?}");
        }
    }
}

#[tokio::test]
async fn client_authorities_follow_their_files() {
    let hardware = hardware().await;
    let proxy = &hardware.world.proxy;
    let (one, next) = (
        hardware.devices.client("device-1"),
        Authority::new("Example devices"),
    );
    let new = next.client("device-1");
    let config = proxy.trust_in(&rustls::version::TLS13, Some(&one));
    let (mut open, _) = Connection::tls_again(proxy.address, "wiki.test", &config).await;
    assert_eq!(get(&mut open, "wiki.test").await, 200);
    assert_eq!(hardware.status("wiki.test", Some(&new)).await, 0);

    // Both, while one takes the other's place.
    let file = hardware.folder.path().join("devices.pem");
    replace(&hardware, &file, &(hardware.devices.pem() + &next.pem())).await;
    assert_eq!(hardware.status("wiki.test", Some(&new)).await, 200);
    assert_eq!(get(&mut open, "wiki.test").await, 200);

    // An unreadable file changes nothing.
    let before = proxy.log().len();
    std::fs::write(
        &file,
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    proxy.signal("HUP");
    proxy.logged(before, &["devices.pem", "damaged"]).await;
    assert_eq!(get(&mut open, "wiki.test").await, 200);

    // The old one is gone: for new connections, for resumed ones, and for those that are open.
    replace(&hardware, &file, &next.pem()).await;
    assert_eq!(hardware.status("wiki.test", Some(&new)).await, 200);
    assert_eq!(hardware.status("wiki.test", Some(&one)).await, 0);
    assert_eq!(get(&mut open, "wiki.test").await, 403);
    let (mut resumed, is_resumed) =
        Connection::tls_again(proxy.address, "wiki.test", &config).await;
    assert!(is_resumed, "otherwise this says nothing");
    assert_eq!(get(&mut resumed, "wiki.test").await, 403);
}

/// Writes a file beside the configuration, and waits until it is noticed.
async fn replace(hardware: &Hardware, file: &Path, content: &str) {
    let before = hardware.world.proxy.log().len();
    std::fs::write(file, content).unwrap();
    eventually("the changed file is not read", async || {
        hardware.world.proxy.log()[before..].contains("the configuration was reloaded")
    })
    .await;
}

#[tokio::test]
async fn login_with_a_certificate_needs_it_on_every_request() {
    let hardware = hardware().await;
    let proxy = &hardware.world.proxy;
    hardware
        .world
        .idp
        .script(|script| script.person = Person::alice());
    let one = hardware.devices.client("laptop-7");
    let mut with = Browser::at(proxy.address, proxy.trust_as("http/1.1", &one));
    with.assert_opens("https://app.test/page").await;
    assert_eq!(
        hardware
            .world
            .origin
            .last()
            .headers
            .one("cf-access-authenticated-user-email"),
        Some("alice@example.com")
    );
    // The same session without the certificate is worth nothing, and no login would change that.
    let token = with
        .cookie("app.test", "CF_Authorization")
        .unwrap()
        .to_owned();
    for identity in [None, Some(&hardware.partners.client("laptop-7"))] {
        let mut connection = hardware.connect("app.test", identity).await.unwrap();
        let cookie = format!("Cookie: CF_Authorization={token}");
        connection
            .send(raw::request("GET", "app.test", "/", &[&cookie]))
            .await;
        assert_eq!(connection.response("GET").await.unwrap().status, 403);
    }
    let mut without = Browser::at(proxy.address, proxy.trust("http/1.1"));
    let page = without.open("https://app.test/page").await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("https://app.test/page", 403),
        "{:#?}",
        without.trail
    );
}
