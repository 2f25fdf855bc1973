//! Calls of identity providers through a proxy.

use std::path::PathBuf;
use std::process::Command;

use crate::support::certs::Certificate;
use crate::support::connect_proxy::{ConnectProxy, tls_before};
use crate::support::okta::WIKI;
use crate::support::raw::{exchange, request};
use crate::support::{APPLICATIONS, Browser, Config, Idp, Portcullis, start};

const ISSUER: &str = "https://idp.example.test";
const CREDENTIALS: &str = "ann:hunter2-of-the-proxy";

/// A provider by a name that nothing but a proxy resolves, that proxy, and the provider's
/// certificate.
async fn network() -> (Idp, ConnectProxy, Certificate) {
    let idp = Idp::start_named(ISSUER).await;
    let certificate = Certificate::new(&["idp.example.test"]);
    let front = tls_before(idp.address.to_string(), &certificate).await;
    (idp, ConnectProxy::start(front).await, certificate)
}

/// `[outgoing]` with the provider's certificate and these lines.
fn outgoing(config: &mut Config, certificate: &Certificate, lines: &str) {
    config.files = vec![("idp-ca.pem", certificate.pem.clone())];
    config.rest += &format!("\n[outgoing]\nca = \"idp-ca.pem\"\n{lines}\n");
}

/// A whole login; the browser reaches the provider by itself.
async fn log_in(proxy: &Portcullis, idp: &Idp) -> u16 {
    let mut browser = Browser::new(proxy);
    let there = browser.open_until(WIKI, ISSUER).await;
    if !there.as_str().starts_with(ISSUER) {
        return 0;
    }
    let target = format!("{}?{}", there.path(), there.query().unwrap());
    let back = exchange(
        idp.address,
        request("GET", "idp.example.test", &target, &[]),
    )
    .await
    .unwrap();
    browser.open(back.location()).await.response.status
}

#[tokio::test]
async fn login_goes_through_the_proxy_of_the_configuration() {
    let (idp, network, certificate) = network().await;
    let lines = format!(
        "https_proxy = \"http://{}\"\nhttps_proxy_credentials = \"{CREDENTIALS}\"",
        network.address
    );
    let (proxy, origin) = start(ISSUER, |config| outgoing(config, &certificate, &lines)).await;
    assert_eq!(log_in(&proxy, &idp).await, 200);
    let heads = network.heads();
    assert!(!heads.is_empty());
    for head in &heads {
        assert!(
            head.starts_with("CONNECT idp.example.test:443 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.to_lowercase().contains("proxy-authorization: basic "),
            "{head}"
        );
        assert!(!head.to_lowercase().contains("oauth2"), "{head}");
    }
    assert_eq!(
        origin.seen().len(),
        1,
        "the origin is called directly, on loopback"
    );
    let started = proxy.logged(0, &["go through a proxy"]).await;
    assert!(
        started.contains(&format!("http://{}", network.address)),
        "{started}"
    );
    for secret in ["hunter2", "YW5uOmh1bnRlcjI"] {
        assert!(
            !proxy.log().contains(secret) && !proxy.complaints().contains(secret),
            "{secret}"
        );
    }
}

#[tokio::test]
async fn login_goes_through_the_proxy_of_the_environment() {
    let (idp, network, certificate) = network().await;
    let url = format!("http://{CREDENTIALS}@{}", network.address);
    for (no_proxy, status) in [("other.test,10.0.0.0/8", 200), (".example.test", 0)] {
        let (proxy, _origin) = start(ISSUER, |config| {
            outgoing(config, &certificate, "");
            config.env = vec![
                ("HTTPS_PROXY", PathBuf::from(&url)),
                ("NO_PROXY", PathBuf::from(no_proxy)),
            ];
        })
        .await;
        assert_eq!(log_in(&proxy, &idp).await, status, "{no_proxy}");
        assert!(!proxy.log().contains("hunter2"));
        assert!(!network.heads().is_empty());
    }
}

#[tokio::test]
async fn proxy_is_not_used_for_loopback_or_if_switched_off() {
    let network = ConnectProxy::start("127.0.0.1:9".to_owned()).await;
    let idp = Idp::start().await;
    let environment = vec![
        (
            "HTTPS_PROXY",
            PathBuf::from(format!("http://{}", network.address)),
        ),
        (
            "HTTP_PROXY",
            PathBuf::from(format!("http://{}", network.address)),
        ),
        (
            "ALL_PROXY",
            PathBuf::from(format!("http://{}", network.address)),
        ),
    ];
    let (proxy, _origin) = start(&idp.issuer, |config| config.env = environment.clone()).await;
    assert_eq!(Browser::new(&proxy).open(WIKI).await.response.status, 200);
    let (proxy, _origin) = start(ISSUER, |config| {
        config.env = environment;
        config.rest = format!("{APPLICATIONS}\n[outgoing]\nhttps_proxy = \"none\"\n");
    })
    .await;
    assert_eq!(
        Browser::new(&proxy).open(WIKI).await.response.status,
        503,
        "the name leads nowhere"
    );
    assert!(!proxy.log().contains("go through a proxy"));
    assert_eq!(network.heads(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn idp_check_names_the_proxy_and_its_refusal() {
    let (_idp, network, certificate) = network().await;
    let folder = tempfile::tempdir().unwrap();
    let check = |address: &str| {
        let mut config = Config::new(ISSUER, APPLICATIONS);
        let lines = format!(
            "https_proxy = \"http://{address}\"\nhttps_proxy_credentials = \"{CREDENTIALS}\""
        );
        outgoing(&mut config, &certificate, &lines);
        let config = crate::support::at(config, "http://127.0.0.1:9");
        let listen = crate::support::portcullis::free_address();
        std::fs::write(folder.path().join("idp-ca.pem"), &certificate.pem).unwrap();
        let metrics = crate::support::portcullis::free_address();
        std::fs::write(
            folder.path().join("portcullis.toml"),
            config.text(listen, metrics),
        )
        .unwrap();
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["idp", "check"])
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let good = tokio::task::block_in_place(|| check(&network.address));
    let said = String::from_utf8(good.stdout).unwrap();
    let named = format!("through the proxy `http://{}`", network.address);
    for words in [
        named.as_str(),
        "resolved by the proxy",
        "✓ discovery",
        "✓ client credentials",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let bad = tokio::task::block_in_place(|| check("127.0.0.1:1"));
    let said = String::from_utf8(bad.stdout).unwrap();
    for words in [
        "could not reach `idp.example.test` through the proxy `http://127.0.0.1:1`",
        "https_proxy",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}
