//! The team, and the kinds of nodes.

use super::*;

#[test]
fn remote_team_needs_no_provider_and_an_audience() {
    let aud = "a".repeat(64);
    let text = format!(
        r#"[team]
domain = "example.cloudflareaccess.com"
certs_url = "https://example.cloudflareaccess.com/cdn-cgi/access/certs"
[[listen]]
address = "[::]:443"
tls = {{ certificate = "tls.crt", key = "tls.key" }}
[[applications]]
domain = "wiki.example.com"
aud = "{aud}"
origin = "http://127.0.0.1:8080"
policies = [{{ name = "eng", decision = "allow", include = [{{ okta = {{ name = "Eng", identity_provider_id = "9f2b" }} }}] }}]
[[applications]]
domain = "docs.example.com"
aud = "{aud}"
origin = "http://127.0.0.1:8080"
policies = []
"#
    );
    let config = read(&text).unwrap_or_else(|e| panic!("{e}")).config;
    assert_eq!(
        (
            config.catalog.identity_providers.len(),
            config.catalog.applications.len()
        ),
        (0, 2)
    );
    let without = text.replace(&format!("aud = \"{aud}\"\n"), "");
    assert_eq!(read(&without).unwrap_err().0.len(), 2);
}

#[test]
fn team_url_follows_listeners_and_proxies() {
    let url = |domain: &str, listen: &str| {
        let text = format!(
            "[insecure]\nplain_http = true\n[team]\ndomain = \"{domain}\"\n[[listen]]\n{listen}"
        );
        read(&complete(&text)).unwrap().config.catalog.team.url()
    };
    let tls = "tls = { certificate = \"tls.crt\", key = \"tls.key\" }";
    assert_eq!(
        url("a.localhost:8080", "address = \"127.0.0.1:8080\""),
        "http://a.localhost:8080"
    );
    assert_eq!(
        url("A.localhost:80", "address = \"127.0.0.1:80\""),
        "http://a.localhost"
    );
    assert_eq!(
        url("a.b.c:8443", &format!("address = \"0.0.0.0:8443\"\n{tls}")),
        "https://a.b.c:8443"
    );
    assert_eq!(
        url("a.b.c:443", &format!("address = \"0.0.0.0:443\"\n{tls}")),
        "https://a.b.c"
    );
    let fronted = "address = \"127.0.0.1:8080\"\ntrusted_proxies = [\"127.0.0.1\"]";
    assert_eq!(
        url("a.b.c", fronted),
        "https://a.b.c",
        "the proxy in front has the certificate"
    );
}

#[test]
fn embedded_configuration_needs_no_listener_and_no_origin() {
    let text = "[team]\ndomain = \"access.example.com\"\n[[identity_providers]]\nid = \"okta\"\nname = \"Okta\"\ntype = \"okta\"\n\
                config = { client_id = \"a\", client_secret = \"env:OKTA_CLIENT_SECRET\", okta_account = \"https://dev-1.okta.com\" }\n\
                [[applications]]\ndomain = \"wiki.example.com\"\n";
    let read = |text: &str, deployment| {
        let document = Document::toml(text.to_owned(), Path::new("conf/portcullis.toml"))?;
        check_for(&[document], &Fake::new(), deployment)
    };
    let config = read(text, Deployment::Embedded).unwrap().config;
    assert!(config.listen.is_empty() && config.catalog.applications[0].origins.is_empty());
    assert_eq!(config.catalog.team.url(), "https://access.example.com");
    let missing = read(text, Deployment::Standalone).unwrap_err().to_string();
    assert!(
        missing.contains(" listen: this is missing")
            && missing.contains("applications[0].origin: this is missing"),
        "{missing}"
    );
    let wrong = read("[[listen]]\n[team]\n", Deployment::Embedded)
        .unwrap_err()
        .to_string();
    assert!(
        wrong.contains("team.domain: this is missing")
            && wrong.contains("listen[0].address: this is missing"),
        "{wrong}"
    );
}
