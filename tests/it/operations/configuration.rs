//! Reports about a configuration file.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::certs::Certificate;
use crate::support::portcullis::{Config, free_address};
use crate::support::{APPLICATIONS, World, at};

/// Runs `portcullis check` on a file. Returns its exit code and its output.
fn check(text: &str) -> (Option<i32>, String) {
    check_with(text, &[])
}

fn check_with(text: &str, more: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.toml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "-c"])
        .arg(&file)
        .args(more)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn good() -> String {
    at(
        Config::new("http://127.0.0.1:9", APPLICATIONS),
        "http://127.0.0.1:8",
    )
    .text(free_address(), free_address())
}

#[test]
fn valid_file_passes_and_every_weakening_is_named() {
    let (code, said) = check(&good());
    assert_eq!(code, Some(0), "{said}");
    for switch in [
        "plain_http",
        "inline_secrets",
        "insecure_identity_providers",
    ] {
        assert!(
            said.lines()
                .any(|line| line.starts_with("warning: ") && line.contains(switch)),
            "{said}"
        );
    }
    assert!(
        said.ends_with(": valid: 6 applications, 1 identity provider\n"),
        "{said}"
    );
    assert!(
        !said.contains('\u{1b}'),
        "colours are for terminals: {said}"
    );
    let (code, said) = check_with(&good(), &["--strict"]);
    assert!(
        code == Some(2) && said.starts_with("error: ") && !said.contains(": valid: "),
        "{said}"
    );
}

/// A configuration without any warning but those of this provider's `config`, and its folder.
fn strict_with_oidc(more: &str) -> (tempfile::TempDir, std::process::Output) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::valid(&["access.test", "app.test"], -60, 365 * 86_400);
    let text = format!(
        r#"
[team]
domain = "access.test"
[store]
path = "portcullis.db"
[[listen]]
address = "0.0.0.0:443"
tls = {{ certificate = "cert.pem", key = "key.pem" }}
[[identity_providers]]
id = "login"
name = "Login"
type = "oidc"
[identity_providers.config]
client_id = "id"
client_secret = "env:TEST_CLIENT_SECRET"
issuer = "https://login.example.com"
{more}
[[applications]]
domain = "app.test"
origin = "http://127.0.0.1:9000"
policies = [{{ name = "staff", decision = "allow", include = [{{ email_domain = {{ domain = "example.com" }} }}] }}]
"#
    );
    for (name, content) in [
        ("portcullis.toml", text.as_str()),
        ("cert.pem", &certificate.pem),
        ("key.pem", &certificate.key_pem),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let command = command
        .args(["check", "--strict", "-c", "portcullis.toml"])
        .current_dir(folder.path());
    let output = command
        .env("TEST_CLIENT_SECRET", "example-secret")
        .output()
        .unwrap();
    (folder, output)
}

#[test]
fn stated_email_verification_passes_a_strict_check() {
    for (more, code, says) in [
        (
            "",
            2,
            "write `email_verified = \"required\"`, else `email_verified = \"optional\"`",
        ),
        (
            "email_verified = \"optional\"",
            0,
            ": valid: 1 application, 1 identity provider",
        ),
        ("email_verified = \"required\"", 0, ": valid: "),
        (
            "email_claim_name = \"upn\"",
            2,
            "write `email_verified = \"optional\"`",
        ),
        (
            "email_claim_name = \"upn\"\nemail_verified = \"optional\"",
            0,
            ": valid: ",
        ),
        ("email_verified = true", 2, "email_verified"),
    ] {
        let (_folder, output) = strict_with_oidc(more);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{more}: {said}");
        assert!(said.contains(says), "{more}: {said}");
    }
}

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = good()
        .replace("[metrics]", "[metrics]\ncolour = 3")
        .replacen(
            "identity_provider_id = \"okta\"",
            "identity_provider_id = \"okat\"",
            1,
        )
        .replace("domain = \"pay.localhost\"", "domain = \"wiki.localhost\"")
        .replace("[insecure]", "[insecure]\norigin_tls_unverified = 7");
    let (code, said) = check(&text);
    assert_eq!(code, Some(2), "{said}");
    for word in [
        "metrics.colour",
        "okat",
        "wiki.localhost",
        "origin_tls_unverified",
    ] {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    let places = said
        .lines()
        .filter(|line| line.starts_with("error: ") && line.contains("portcullis.toml:"))
        .count();
    assert!(places >= 4, "each with file and line:\n{said}");
}

#[test]
fn inline_secret_is_rejected_and_not_printed() {
    let (code, said) = check(&good().replace("inline_secrets = true", "inline_secrets = false"));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("client_secret") && !said.contains(crate::support::okta::CLIENT_SECRET),
        "{said}"
    );
}

#[test]
fn p26_missing_file_or_secret_is_an_error() {
    let (code, said) = check(&good().replace(
        crate::support::okta::CLIENT_SECRET,
        "env:PORTCULLIS_TEST_NOT_SET",
    ));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("PORTCULLIS_TEST_NOT_SET"), "{said}");
    for command in ["check", "run"] {
        let missing = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args([command, "-c", "/nonexistent.toml"])
            .output();
        let missing = missing.unwrap();
        assert_eq!((missing.status.code(), missing.stdout.len()), (Some(2), 0));
        let said = String::from_utf8(missing.stderr).unwrap();
        assert_eq!(
            said, "error: /nonexistent.toml: the file cannot be read: the file does not exist\n",
            "once"
        );
    }
}

#[test]
fn file_that_admits_no_user_is_reported() {
    let (start, _) = good()
        .split_once("[[applications]]")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    let (code, said) = check(&start);
    assert!(
        code == Some(0)
            && said.contains("warning: ")
            && said.contains("no application is configured"),
        "{said}"
    );
    let (code, said) = check(&format!(
        "{start}\n[[applications]]\ndomain = \"a.localhost\"\norigin = \"http://127.0.0.1:8\""
    ));
    assert!(
        code == Some(0) && said.contains("this application has no policies"),
        "{said}"
    );
    assert!(
        said.ends_with(": valid: 1 application, 1 identity provider\n"),
        "{said}"
    );
}

#[tokio::test]
async fn reload_logs_settings_that_need_a_restart() {
    let mut world = World::start().await;
    world.proxy.config.listen = "trusted_proxies = [\"10.0.0.0/8\"]".to_owned();
    world.proxy.config.rest += "\n[limits]\nheader_count = 100\n";
    let after = world.proxy.log().len();
    world.proxy.write_config();
    let line = world.proxy.logged(after, &["WARN", "restart"]).await;
    assert!(
        line.contains("`[[listen]]`, `[limits]`") && !line.contains("[server]"),
        "{line}"
    );
}

#[test]
fn store_that_run_would_refuse_is_an_error_of_check() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portcullis.db");
    let text = |path: &std::path::Path| {
        let mut config = at(
            Config::new("http://127.0.0.1:9", APPLICATIONS),
            "http://127.0.0.1:8",
        );
        config.store_path = Some(path.to_owned());
        config.text(free_address(), free_address())
    };
    let said = |path, code, words: &[&str]| {
        let (found, said) = check(&text(path));
        assert_eq!(found, Some(code), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    said(&path, 0, &[": valid: "]);
    assert!(!path.exists(), "check creates nothing");
    let missing = folder.path().join("missing/portcullis.db");
    said(
        &missing,
        0,
        &[
            "warning: ",
            "store.path: ",
            "there is no directory `",
            "`[store] path`",
            ": valid: ",
        ],
    );
    assert_eq!(check_with(&text(&missing), &["--strict"]).0, Some(2));
    std::fs::write(&path, "a letter ".repeat(500)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    said(&path, 2, &["error: ", "its mode is 0644 and must be 0600"]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    said(&path, 2, &["error: ", "is not a portcullis store"]);
}
