//! `portcullis idp check`, as users run it, against providers right and wrong.

use std::fs;
use std::process::Command;

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::variants::key_pair;
use crate::support::Idp;
use crate::support::certs::Certificate;
use crate::support::okta::{API_TOKEN, CALLBACK, CLIENT_ID, CLIENT_SECRET, Okta};
use crate::support::portcullis::{Config, free_address};
use crate::support::saml::{ISSUER, file, provider_at};

/// A policy that needs no groups.
const APPLICATION: &str = r#"
[[applications]]
name = "Wiki"
domain = "wiki.localhost"
origin = "http://127.0.0.1:8"
[[applications.policies]]
name = "all"
decision = "allow"
include = [{ everyone = {} }]
"#;

struct Said {
    code: Option<i32>,
    text: String,
    complaints: String,
}

fn config(issuer: &str, change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::new(issuer, APPLICATION);
    change(&mut config);
    config.text(free_address(), free_address())
}

fn run(config: &str, files: &[(&str, &str)], arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files.iter().chain(&[("portcullis.toml", config)]) {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["idp", "check"])
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let said = Said {
        code: output.status.code(),
        text: text(output.stdout),
        complaints: text(output.stderr),
    };
    for secret in [CLIENT_SECRET, API_TOKEN, "PRIVATE", "00nobodys"] {
        assert!(
            !said.text.contains(secret) && !said.complaints.contains(secret),
            "a secret: {}",
            said.text
        );
    }
    said
}

impl Said {
    /// Returns the mark of a step and its text.
    #[track_caller]
    fn step(&self, name: &str) -> (char, String) {
        let mut lines = self.text.lines().skip_while(|line| {
            !line
                .strip_prefix("  ")
                .is_some_and(|line| line.chars().skip(2).collect::<String>().starts_with(name))
        });
        let first = lines
            .next()
            .unwrap_or_else(|| panic!("no `{name}` in\n{}{}", self.text, self.complaints))
            .trim();
        let rest = lines
            .next()
            .map(str::trim)
            .filter(|line| line.starts_with('→'))
            .unwrap_or_default();
        (first.chars().next().unwrap(), format!("{first} {rest}"))
    }

    #[track_caller]
    fn failed(&self, name: &str, words: &[&str]) {
        let (mark, text) = self.step(name);
        assert!(mark == '✗' && self.code == Some(1), "{}", self.text);
        for word in words {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
        assert!(text.contains('→'), "no advice: {text}");
    }

    #[track_caller]
    fn ended(&self, mark: char, names: &[&str]) {
        for name in names {
            assert_eq!(self.step(name).0, mark, "{name}:\n{}", self.text);
        }
    }
}

#[test]
fn valid_provider_passes() {
    let okta = Okta::start(&[CALLBACK]);
    let good = config(&okta.issuer, |config| {
        config.api_token = Some(API_TOKEN.to_owned());
        config.provider = ", okta_logout = true".to_owned();
    });
    let said = run(&good, &[], &[]);
    assert_eq!(
        (said.code, said.complaints.as_str()),
        (Some(0), ""),
        "{}",
        said.text
    );
    assert!(
        said.text.starts_with("Example Okta (`okta`, okta)\n") && !said.text.contains('\u{1b}'),
        "{}",
        said.text
    );
    let steps = [
        "connection",
        "discovery",
        "issuer",
        "signing keys",
        "login request",
        "client credentials",
    ];
    said.ended('✓', &steps);
    said.ended('✓', &["API token", "groups API"]);
    assert!(
        said.step("signing keys").1.contains("1 key: RS256"),
        "{}",
        said.text
    );
    assert!(
        said.step("API token")
            .1
            .contains("`zero@example.com`, who is active"),
        "{}",
        said.text
    );
    for registered in [
        CALLBACK,
        "http://access.localhost/cdn-cgi/access/logged-out",
    ] {
        assert!(
            said.text
                .lines()
                .any(|line| line.trim_end().ends_with(&format!(" {registered}"))),
            "{}",
            said.text
        );
    }

    let said = run(&good, &[], &["okta", "--json"]);
    assert_eq!(
        (said.code, said.complaints.as_str()),
        (Some(0), ""),
        "{}",
        said.text
    );
    let all: Value = serde_json::from_str(&said.text).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    assert_eq!(
        (&all[0]["id"], &all[0]["type"], &all[0]["good"]),
        (&json!("okta"), &json!("okta"), &json!(true))
    );
    assert_eq!(all[0]["register"]["sign_in_redirect_uri"], CALLBACK);
    let steps = all[0]["steps"].as_array().unwrap();
    let of = |step: &str| steps.iter().find(|found| found["step"] == step).unwrap();
    assert_eq!(
        (&of("credentials")["outcome"], &of("api_token")["outcome"]),
        (&json!("good"), &json!("good"))
    );
    assert_eq!(
        (&of("name")["outcome"], &of("name")["advice"]),
        (&json!("skipped"), &Value::Null),
        "an address"
    );
}

#[test]
fn missing_api_token_is_reported_with_its_effect() {
    let okta = Okta::start(&[CALLBACK]);
    let said = run(&config(&okta.issuer, |_| ()), &[], &[]);
    let (mark, text) = said.step("API token");
    assert!(
        mark == '–' && text.contains("100 groups") && said.code == Some(0),
        "{}",
        said.text
    );
    assert!(!said.text.contains("groups API"), "{}", said.text);
}

#[test]
fn wrong_secret_is_reported() {
    let okta = Okta::start(&[CALLBACK]);
    let wrong = config(&okta.issuer, |config| {
        config.credentials = r#"client_secret = "another""#.to_owned()
    });
    let said = run(&wrong, &[], &[]);
    said.failed(
        "client credentials",
        &[
            "401",
            "invalid_client",
            "client_secret",
            "Client Credentials",
        ],
    );
    said.ended('✓', &["issuer", "signing keys", "login request"]);
}

#[test]
fn wrong_issuer_is_reported() {
    let okta = Okta::start(&[CALLBACK]);
    // The same server under another name, as an account is under its custom domain.
    let account = okta.issuer.replace("127.0.0.1", "localhost");
    let said = run(&config(&account, |_| ()), &[], &[]);
    said.failed(
        "issuer",
        &[
            &okta.issuer,
            &account,
            &format!("okta_account = \"{}\"", okta.issuer),
        ],
    );
    said.ended('✓', &["name", "connection", "discovery"]);
    said.ended(
        '–',
        &["signing keys", "login request", "client credentials"],
    );

    let generic = config(&account, |_| ())
        .replace("type = \"okta\"", "type = \"oidc\"")
        .replace("okta_account", "issuer");
    let said = run(&generic, &[], &[]);
    said.failed("issuer", &[&format!("`issuer = \"{}\"`", okta.issuer)]);
    let said = run(&generic.replace(&account, &okta.issuer), &[], &[]);
    assert!(
        said.code == Some(0) && !said.text.contains("API token"),
        "{}",
        said.text
    );
}

#[test]
fn wrong_authorization_server_is_reported() {
    let org = Okta::start(&[CALLBACK]);
    let no_such = |config: &mut Config| {
        config.provider = r#", authorization_server_id = "nosuch""#.to_owned()
    };
    let said = run(&config(&org.issuer, no_such), &[], &[]);
    said.failed("discovery", &["404", "remove `authorization_server_id`"]);
    said.ended('–', &["issuer", "signing keys"]);

    let custom = Okta::start_with(&[CALLBACK], &["--server", "default"]);
    let account = custom.issuer.trim_end_matches("/oauth2/default");
    run(&config(account, |_| ()), &[], &[])
        .failed("issuer", &["write `authorization_server_id = \"default\"`"]);
    let named = |config: &mut Config| {
        config.provider = r#", authorization_server_id = "default""#.to_owned()
    };
    assert_eq!(run(&config(account, named), &[], &[]).code, Some(0));
}

#[test]
fn unregistered_redirect_uri_is_reported() {
    let okta = Okta::start(&["http://elsewhere.localhost/cdn-cgi/access/callback"]);
    for provider in ["", ", pushed_requests = true"] {
        let said = run(
            &config(&okta.issuer, |config| config.provider = provider.to_owned()),
            &[],
            &[],
        );
        said.failed(
            "login request",
            &["400", &format!("register `{CALLBACK}`"), CLIENT_ID],
        );
        said.ended('✓', &["signing keys"]);
    }
    // The credentials are not the mistake in this request.
    let said = run(&config(&okta.issuer, |_| ()), &[], &[]);
    said.ended('✓', &["client credentials"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_authorization_request_is_reported() {
    let idp = Idp::start().await;
    idp.script(|script| {
        script.callback = Box::new(|back| {
            back.remove("code");
            back.insert("error".to_owned(), "invalid_scope".into());
        });
    });
    let config = config(&idp.issuer, |_| ());
    let said = tokio::task::spawn_blocking(move || run(&config, &[], &[]))
        .await
        .unwrap();
    said.failed("login request", &["invalid_scope", "`groups`"]);
    said.ended('✓', &["client credentials"]);
}

#[test]
fn unreachable_provider_is_reported() {
    let dead = format!("http://127.0.0.1:{}", free_address().port());
    let said = run(
        &config(&dead, |config| {
            config.api_token = Some(API_TOKEN.to_owned())
        }),
        &[],
        &[],
    );
    said.failed(
        "connection",
        &["could not connect to", "refused", "firewalls"],
    );
    said.ended(
        '–',
        &[
            "discovery",
            "issuer",
            "signing keys",
            "login request",
            "client credentials",
        ],
    );
    said.ended('–', &["API token", "groups API"]);
    assert!(
        said.text.contains(CALLBACK),
        "what to register does not depend on it"
    );

    let said = run(&config("http://no-such-host.invalid", |_| ()), &[], &[]);
    said.failed("name", &["no-such-host.invalid", "spelling"]);
    said.ended('–', &["connection", "discovery"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn untrusted_certificate_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let account = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let acceptor = Certificate::new(&["localhost"]).acceptor();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _refused = acceptor.accept(stream).await;
        }
    });
    let said = tokio::task::spawn_blocking(move || run(&config(&account, |_| ()), &[], &[]))
        .await
        .unwrap();
    said.failed("connection", &["over TLS", "certificate", "SSL_CERT_FILE"]);
    said.ended('✓', &["name"]);
    server.abort();
}

#[test]
fn invalid_or_powerless_api_token_is_reported() {
    let okta = Okta::start(&[CALLBACK]);
    let with = |token: &str| {
        run(
            &config(&okta.issuer, |config| {
                config.api_token = Some(token.to_owned())
            }),
            &[],
            &[],
        )
    };
    let said = with("00nobodys");
    said.failed("API token", &["401", "E0000011", "create a new one"]);
    said.ended('–', &["groups API"]);
    said.ended('✓', &["client credentials"]);
    let said = with("00example-token-without-rights");
    said.ended('✓', &["API token"]);
    said.failed(
        "groups API",
        &["403", "E0000006", "read-only administrator"],
    );
}

#[test]
fn private_key_jwt_passes() {
    let (pem, jwk) = key_pair();
    let okta = Okta::start_with(&[CALLBACK], &["--client-key", &jwk]);
    let text = config(&okta.issuer, |config| {
        config.credentials =
            r#"private_key = "file:client.pem", private_key_id = "key-1""#.to_owned();
    });
    let said = run(&text, &[("client.pem", &pem)], &[]);
    assert!(
        said.code == Some(0) && said.step("client credentials").1.contains("`private_key`"),
        "{}",
        said.text
    );
    let said = run(&text, &[("client.pem", &key_pair().0)], &[]);
    said.failed("client credentials", &["invalid_client", "private_key_id"]);
    let said = run(
        &text.replace("okta_account", "pushed_requests = true, okta_account"),
        &[("client.pem", &key_pair().0)],
        &[],
    );
    said.failed("login request", &["invalid_client", "private_key_id"]);
}

#[test]
fn expired_saml_certificate_is_reported() {
    let okta = Okta::start(&[CALLBACK]);
    let key = KeyPair::from_pem(&file("idp.key")).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "acme");
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3));
    let expired = params.self_signed(&key).unwrap().pem();
    let saml = |target: &str| {
        let provider = provider_at(ISSUER, target, &[&expired, &file("idp-next.crt")], "");
        config(&okta.issuer, |config| config.rest = provider + APPLICATION)
    };
    let text = saml(&format!("{}/app/sso/saml", okta.issuer));
    let said = run(&text, &[], &["saml"]);
    assert_eq!(
        said.code,
        Some(0),
        "logins go on: {}{}",
        said.text,
        said.complaints
    );
    let (mark, certificate) = said.step("certificate");
    assert!(
        mark == '!' && certificate.contains("acme") && certificate.contains("2021-02-03"),
        "{certificate}"
    );
    assert!(certificate.contains("idp_public_certs"), "{certificate}");
    assert_eq!(said.text.matches("SHA-256").count(), 2, "{}", said.text);
    said.ended('✓', &["connection"]);
    let (mark, answer) = said.step("answer");
    assert!(
        mark == '!' && answer.contains("404") && answer.contains("sso_target_url"),
        "nothing is there: {answer}"
    );
    let there = run(
        &saml(&format!("{}/.well-known/openid-configuration", okta.issuer)),
        &[],
        &["saml"],
    );
    there.ended('✓', &["connection", "answer"]);
    assert!(
        !said.text.contains("Example Okta"),
        "an unselected provider was checked: {}",
        said.text
    );
    assert!(
        said.text
            .contains("http://access.localhost/cdn-cgi/access/saml/saml-metadata"),
        "{}",
        said.text
    );
    let both = run(&text, &[], &["--json"]);
    let both: Value = serde_json::from_str(&both.text).unwrap();
    assert_eq!(
        (&both[0]["id"], &both[1]["id"]),
        (&json!("okta"), &json!("saml"))
    );
    assert_eq!(both[1]["register"]["acs_url"], CALLBACK);
    assert_eq!(
        (
            &both[1]["steps"][0]["outcome"],
            &both[1]["steps"][1]["outcome"]
        ),
        (&json!("warning"), &json!("good"))
    );

    let said = run(
        &saml(&format!("http://127.0.0.1:{}/sso", free_address().port())),
        &[],
        &["saml"],
    );
    said.failed("connection", &["refused"]);
    said.ended('–', &["answer"]);
}

#[test]
fn unchecked_facts_are_listed() {
    let text = config("http://127.0.0.1:9", |_| ());
    let said = run(&text, &[], &["okto"]);
    assert_eq!((said.code, said.text.as_str()), (Some(2), ""));
    assert!(
        said.complaints.contains("`okto`") && said.complaints.contains("`okta`"),
        "{}",
        said.complaints
    );
    let said = run(&text.replace("client_id", "clientid"), &[], &[]);
    assert!(
        said.code == Some(2) && said.complaints.contains("clientid"),
        "{}",
        said.complaints
    );
    let said = run(&text, &[], &["-c", "nowhere.toml"]);
    assert!(
        said.code == Some(2) && said.complaints.contains("cannot be read"),
        "{}",
        said.complaints
    );
}
