mod access;
mod docs;
mod example;
mod garbage;
mod json;
mod outgoing;
mod reference;
mod saml;
mod size;

use std::collections::HashMap;
use std::env::VarError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::{Aud, IdpId, Secret};
use crate::policy::{PolicyDecision, Rule};

const EXAMPLE: &str = include_str!("../../../conf/portcullis.toml");
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n";
const DAMAGED: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBizCCATGgAwIBAgIUFkdVZLFF3v9OrUThkK/VPEUbxmowCgYIKoZIzj0EAwIw\n\
GjEYMBYGA1UEAwwPRXhhbXBsZSBEZXZpY2VzMCAXDTI2MTEyMzIwMzcyNFoYDzIx\n\
MjYxMDMwMjAzNzI0WjAaMRgwFgYDVQQDDA9FeGFtcGxlIERldmljZXMwWTATBgcq\n\
hkjOPQIBBggqhkjOPQMBBwNCAAQuDJnb1Fm8PpEisJ0u7TGYGPY5c3yxjvWxsKTs\n\
vgENqy6SINFHMIIslOnFxs+R3vsmsJ8zP77NoI/CKxIQtQ70o1MwUTAdBgNVHQ4E\n\
FgQUyUpYn9ZMQwX95pqx3V0wE312hIcwHwYDVR0jBBgwFoAUyUpYn9ZMQwX95pqx\n\
3V0wE312hIcwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAw6+d\n\
2PLAehUqkxttixg0o1fdKn1ZbenWA1fQIuGMMcwCIC8i1p/3mFWTHPavUnrZKCSi\n\
tQStnt6K0eVXpjYztMdc\n\
-----END CERTIFICATE-----\n\
";
const HIDDEN: &str = "hunter2-and-then-some";

/// An environment in memory.
#[derive(Default)]
struct Fake {
    variables: HashMap<&'static str, &'static str>,
    files: HashMap<PathBuf, (&'static str, bool)>,
}

impl Fake {
    fn new() -> Self {
        let variables = [
            ("OKTA_CLIENT_SECRET", HIDDEN),
            ("EMPTY", "\n"),
            ("TWO_LINES", "a\nb"),
            ("PROXY_CREDENTIALS", "ann:word"),
        ];
        let variables = variables.into();
        let files = [
            ("conf/tls.crt", (CERTIFICATE, true)),
            ("conf/tls.key", (KEY, false)),
            ("conf/open.key", (KEY, true)),
            ("/etc/portcullis/tls.crt", (CERTIFICATE, true)),
            ("/etc/portcullis/tls.key", (KEY, false)),
            ("conf/secret", ("hunter2-and-then-some\n", false)),
            ("conf/open-secret", ("hunter2-and-then-some\n", true)),
            ("conf/empty", (" \n", false)),
            ("conf/no-certificate.pem", (DAMAGED, true)),
            ("conf/ca.pem", (AUTHORITY, true)),
            ("conf/devices-ca.pem", (AUTHORITY, true)),
            ("conf/corporate-ca.pem", (AUTHORITY, true)),
        ];
        Self {
            variables,
            files: files
                .into_iter()
                .map(|(path, file)| (path.into(), file))
                .collect(),
        }
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Result<String, VarError> {
        self.variables
            .get(name)
            .map(|value| (*value).to_owned())
            .ok_or(VarError::NotPresent)
    }

    fn read(&self, path: &Path) -> io::Result<FileContent> {
        let (text, world_readable) = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(FileContent {
            text: Secret::new(*text),
            world_readable: *world_readable,
        })
    }

    fn bytes(&self, path: &Path, _most: u64) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("conf/countries.mmdb") => {
                Ok(include_bytes!("../../../tests/geo/countries.mmdb").to_vec())
            }
            Some("conf/asn.mmdb") => Ok(include_bytes!("../../../tests/geo/asn.mmdb").to_vec()),
            Some("conf/page.mmdb") => Ok(b"<html>".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn read(text: &str) -> Result<Loaded, Errors> {
    parse(text, Path::new("conf/portcullis.toml"), &Fake::new())
}

/// Appends the sections that a part lacks. They come last, so that line numbers are the part's own.
fn complete(part: &str) -> String {
    let sections = [
        ("[team]", "[team]\ndomain = \"access.example.com\"\n"),
        (
            "[[listen]]",
            "[[listen]]\naddress = \"0.0.0.0:443\"\ntls = { certificate = \"tls.crt\", key = \"tls.key\" }\n",
        ),
        (
            "[[identity_providers]]",
            "[[identity_providers]]\nid = \"okta\"\nname = \"Okta\"\ntype = \"okta\"\nconfig = { client_id = \"id\", \
             client_secret = \"env:OKTA_CLIENT_SECRET\", okta_account = \"https://dev-1.okta.com/\" }\n",
        ),
        (
            "[[applications]]",
            "[[applications]]\ndomain = \"other.example.com\"\norigin = \"http://127.0.0.1:9000\"\npolicies = [{ name = \
             \"staff\", decision = \"allow\", include = [{ email_domain = { domain = \"example.com\" } }] }]\n",
        ),
    ];
    let missing = sections
        .iter()
        .filter(|(header, _)| !part.contains(header))
        .map(|(_, section)| *section);
    format!("{part}\n{}", missing.collect::<String>())
}

fn rendered(part: &str) -> String {
    let short = |text: String| text.replace("conf/portcullis.toml:", "");
    match read(&complete(part)) {
        Ok(loaded) => loaded
            .warnings
            .iter()
            .map(|w| short(format!("warning: {w}\n")))
            .collect(),
        Err(errors) => short(format!("{errors}\n")),
    }
}

/// The golden file has, for each case, the part of a configuration and its messages.
/// `UPDATE_GOLDEN=1` rewrites it.
#[test]
fn every_mistake_has_its_message() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config-mistakes.txt");
    let golden = std::fs::read_to_string(&path).unwrap();
    let (head, cases) = golden.split_once("\n=== ").unwrap();
    let mut fresh = head.to_owned();
    for case in cases.split("\n=== ") {
        let (written, _) = case.split_once("\n---\n").unwrap();
        let (_, part) = written.split_once('\n').unwrap();
        let messages = rendered(part);
        assert!(
            !messages.contains(HIDDEN),
            "a secret in a message: {messages}"
        );
        fresh.push_str(&format!("\n=== {written}\n---\n{messages}"));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    for (fresh, golden) in fresh.split("\n=== ").zip(golden.split("\n=== ")) {
        assert_eq!(fresh.trim_end(), golden.trim_end());
    }
}

#[test]
fn secret_is_read_without_byte_order_mark_and_line_end() {
    let part = |secret: &str| {
        complete(&format!(
            "[[identity_providers]]\nid = \"idp\"\nname = \"Idp\"\ntype = \"okta\"\nconfig = {{ client_id = \"x\", client_secret = \"{secret}\", \
             okta_account = \"https://dev-1.okta.com\" }}\n"
        ))
    };
    let read = |text: &'static str, secret: &str| {
        let mut env = Fake::new();
        env.files.insert("conf/marked".into(), (text, false));
        env.variables.insert("MARKED", text);
        let loaded = parse(&part(secret), Path::new("conf/portcullis.toml"), &env)
            .map_err(|errors| errors.to_string())?;
        let IdpKind::Okta(okta) = &loaded.config.catalog.identity_providers[0].kind else {
            panic!()
        };
        let ClientCredentials::Secret(secret) = &okta.client.credentials else {
            panic!()
        };
        Ok::<_, String>(secret.expose().to_owned())
    };
    for secret in ["file:marked", "env:MARKED"] {
        for text in [
            "s3cret +/",
            "s3cret +/\n",
            "s3cret +/\r\n",
            "\u{feff}s3cret +/",
            "\u{feff}s3cret +/\r\n",
        ] {
            assert_eq!(
                read(text, secret).as_deref(),
                Ok("s3cret +/"),
                "{text:?} in {secret}"
            );
        }
        for text in ["\u{feff}", "\u{feff}\r\n", "\n"] {
            assert!(
                read(text, secret).unwrap_err().contains("is empty"),
                "{text:?} in {secret}"
            );
        }
    }
}

#[test]
fn fifteen_mistakes_are_reported_at_once() {
    let text = r#"
colour = "red"
[team]
domain = "https://access.example.com"
session_duration = "30d"
[[listen]]
address = "localhost:443"
[[identity_providers]]
id = "okta"
name = "Okta"
type = "okta"
config = { client_id = "x", client_secret = "hunter2-and-then-some", okta_account = "dev-1-admin.okta.com" }
[[groups]]
id = "a"
include = [{ group = { id = "a" } }]
[[applications]]
domain = "wiki.example.com:8443"
origin = "127.0.0.1:8080"
allowed_idps = ["okto"]
same_site_cookie_attribute = "lacks"
session_duration = "0s"
[[applications.policies]]
name = "staff"
decision = "block"
include = [{ emial = { email = "a@b.c" } }, { okta = { name = "Eng", identity_provider_id = "okto" } }]
"#;
    let errors = read(text).unwrap_err();
    let found: Vec<_> = errors
        .0
        .iter()
        .map(|p| (p.position.unwrap().0, p.key.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (2, "colour"),
            (4, "team.domain"),
            (5, "team.session_duration"),
            (6, "listen[0]"),
            (7, "listen[0].address"),
            (12, "identity_providers[0].config.client_secret"),
            (12, "identity_providers[0].config.okta_account"),
            (13, "groups[0]"),
            (17, "applications[0].domain"),
            (18, "applications[0].origin"),
            (19, "applications[0].allowed_idps[0]"),
            (20, "applications[0].same_site_cookie_attribute"),
            (21, "applications[0].session_duration"),
            (24, "applications[0].policies[0].decision"),
            (25, "applications[0].policies[0].include[0].emial"),
            (
                25,
                "applications[0].policies[0].include[1].okta.identity_provider_id"
            ),
        ]
    );
    assert_eq!(errors.to_string().lines().count(), found.len());
    assert!(!errors.to_string().contains(HIDDEN));
    assert_eq!(
        errors.0.last().unwrap().to_string(),
        "conf/portcullis.toml:25:93: applications[0].policies[0].include[1].okta.identity_provider_id: no identity \
         provider has the id `okto`; did you mean `okta`?"
    );
}

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
fn domain_is_read_in_canonical_form() {
    for (text, host, path) in [
        ("App.Example.com", "app.example.com", None),
        ("app.example.com.", "app.example.com", None),
        ("app.example.com/", "app.example.com", None),
        ("app.example.com/*", "app.example.com", None),
        ("*.Example.com/Alpha", "*.example.com", Some("/Alpha")),
        ("*Test-*.example.com", "", None),
        ("*test.bücher.example", "*test.xn--bcher-kva.example", None),
        (
            "a.*.example.com/foo*/bar",
            "a.*.example.com",
            Some("/foo*/bar"),
        ),
        ("example.com/alpha/*", "example.com", Some("/alpha/*")),
        ("*", "", None),
        ("app.*", "", None),
        ("*bücher.example", "", None),
        ("*.1", "", None),
        ("*:1.example.com", "", None),
        ("a.com/%2e%2e/b", "", None),
        ("a.com//b", "", None),
        ("a.com/a**b", "", None),
    ] {
        let parsed = Domain::parse(text).ok();
        let expected = (!host.is_empty()).then(|| (host.to_owned(), path.map(str::to_owned)));
        assert_eq!(
            parsed.map(|d| (
                d.pattern.host().to_owned(),
                Some(d.pattern.path())
                    .filter(|p| *p != "/")
                    .map(str::to_owned)
            )),
            expected,
            "{text}"
        );
    }
}

#[test]
fn domains_differing_in_case_need_case_sensitive_paths() {
    let application = |domain: &str, is_sensitive: bool| {
        format!(
            "[[applications]]\ndomain = \"{domain}\"\norigin = \"http://127.0.0.1:8080\"\ncase_sensitive_paths = {is_sensitive}\n\
             policies = [{{ name = \"p\", decision = \"deny\", include = [{{ everyone = {{}} }}] }}]\n"
        )
    };
    let two = |one: (&str, bool), other: (&str, bool)| {
        rendered(&(application(one.0, one.1) + &application(other.0, other.1)))
    };
    assert_eq!(
        two(("h.example.com/Docs", true), ("h.example.com/docs", true)),
        ""
    );
    assert_eq!(
        two(
            ("h.example.com/docs", false),
            ("h.example.com/Docs/public", true)
        ),
        ""
    );
    assert_eq!(
        two(("h.example.com/docs", false), ("g.example.com/Docs", false)),
        ""
    );
    assert_eq!(
        two(("h.example.com", false), ("h.example.com/Docs", false)),
        ""
    );
    assert!(two(("h.example.com/docs", false), ("h.example.com/Docs", false)).contains("rejected"));
}

#[test]
fn selector_table_matches_the_rules() {
    let value = |field: &str| match field.trim_start_matches('?') {
        "ip" => json!("10.0.0.0/8"),
        "country_code" => json!("DE"),
        "methods" => json!(["GET"]),
        "user_risk_score" => json!(["low"]),
        "from" => json!("08:00"),
        "to" => json!("18:00"),
        "days" => json!(["mon"]),
        "time_zone" => json!("Europe/Berlin"),
        _ => json!("x"),
    };
    for (selector, fields) in rules::SELECTORS {
        let body = |fields: &[&str]| -> serde_json::Map<_, _> {
            fields
                .iter()
                .map(|field| (field.trim_start_matches('?').to_owned(), value(field)))
                .collect()
        };
        let read =
            |fields: &[&str]| serde_json::from_value::<Rule>(json!({ *selector: body(fields) }));
        assert_eq!(read(fields).unwrap().selector(), *selector);
        for left_out in *fields {
            let rest: Vec<_> = fields
                .iter()
                .copied()
                .filter(|field| field != left_out)
                .collect();
            assert_eq!(
                read(&rest).is_ok(),
                left_out.starts_with('?'),
                "{selector} without {left_out}"
            );
        }
    }
    let error = serde_json::from_str::<Rule>(r#"{"?":{}}"#)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error.matches('`').count() / 2 - 1,
        rules::SELECTORS.len(),
        "one is not listed: {error}"
    );
}

#[test]
fn debug_output_has_no_secret() {
    let text = EXAMPLE.replace(
        "# api_token = \"env:OKTA_API_TOKEN\"",
        "api_token = \"file:secret\"",
    );
    let loaded = read(&text).unwrap();
    let IdpKind::Okta(okta) = &loaded.config.catalog.identity_providers[0].kind else {
        panic!()
    };
    let ClientCredentials::Secret(secret) = &okta.client.credentials else {
        panic!()
    };
    assert_eq!(
        (secret.expose(), okta.api_token.as_ref().unwrap().expose()),
        (HIDDEN, HIDDEN)
    );
    assert!(!format!("{loaded:?} {loaded:#?}").contains(HIDDEN));
}

#[test]
fn paths_are_relative_to_the_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.toml");
    assert!(
        load(&file, &System)
            .unwrap_err()
            .to_string()
            .ends_with("the file cannot be read: the file does not exist")
    );
    assert!(load(folder.path(), &System).is_err());
    std::fs::write(&file, b"\xff").unwrap();
    assert!(
        load(&file, &System)
            .unwrap_err()
            .to_string()
            .ends_with("the file is not UTF-8")
    );
    for (name, content) in [
        ("tls.crt", CERTIFICATE),
        ("tls.key", KEY),
        ("secret", "hunter2-and-then-some\n"),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let text = EXAMPLE
        .replace("/etc/portcullis/", "")
        .replace("env:OKTA_CLIENT_SECRET", "file:secret");
    std::fs::write(&file, &text).unwrap();
    let config = load(&file, &System)
        .unwrap_or_else(|e| panic!("{e}"))
        .config;
    assert_eq!(
        config.listen[0].tls.as_ref().unwrap().key,
        folder.path().join("tls.key")
    );
    std::fs::remove_file(folder.path().join("secret")).unwrap();
    let errors = load(&file, &System).unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
}

#[cfg(unix)]
#[test]
fn file_readable_by_all_is_recognised() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "x").unwrap();
    for (mode, open) in [(0o600, false), (0o640, false), (0o644, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(System.read(&file).unwrap().world_readable, open);
    }
    assert!(System.read(folder.path()).is_err(), "a folder is no file");
}

#[test]
fn suggested_sections_work_at_the_end_of_a_file() {
    let apps = "[[applications]]\ndomain = \"wiki.example.com\"\norigin = \"http://127.0.0.1:8080\"\n[[applications.policies]]\n\
                name = \"staff\"\ndecision = \"allow\"\n";
    let read = |text: &str| parse(text, Path::new("conf/portcullis.toml"), &Fake::new());
    let errors = read(apps).unwrap_err().to_string();
    let mut file = apps.to_owned();
    let mut missing: Vec<_> = errors
        .lines()
        .filter_map(|line| line.split_once("this is missing; "))
        .collect();
    assert_eq!(missing.len(), 4, "{errors}");
    // The suggestion for the policy continues the last section of the file.
    missing.sort_by_key(|(_, remedy)| remedy.starts_with("add"));
    for (_, remedy) in missing {
        for written in remedy.split('`').skip(1).step_by(2) {
            file += &written.replace('…', "a");
            file.push('\n');
        }
    }
    read(&file).unwrap_or_else(|errors| panic!("{errors}\n{file}"));
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
