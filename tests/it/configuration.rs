//! What an operator is told about a configuration file.

use std::process::Command;

use crate::support::portcullis::{Config, free_address};
use crate::support::{APPLICATIONS, at};

/// `portcullis check` on a file: its exit code and everything it says.
fn check(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.toml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["check", "-c"]).arg(&file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn good() -> String {
    at(Config::new("http://127.0.0.1:9", APPLICATIONS), "http://127.0.0.1:8").text(free_address(), free_address())
}

#[test]
fn a_good_file_is_good_and_every_weakening_is_named() {
    let (code, said) = check(&good());
    assert_eq!(code, Some(0), "{said}");
    for switch in ["plain_http", "inline_secrets", "insecure_identity_providers"] {
        assert!(said.contains(switch), "{said}");
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let text = good()
        .replace("[metrics]", "[metrics]\ncolour = 3")
        .replacen("identity_provider_id = \"okta\"", "identity_provider_id = \"okat\"", 1)
        .replace("domain = \"pay.localhost\"", "domain = \"wiki.localhost\"")
        .replace("[insecure]", "[insecure]\norigin_tls_unverified = 7");
    let (code, said) = check(&text);
    assert_eq!(code, Some(2), "{said}");
    for word in ["metrics.colour", "okat", "wiki.localhost", "origin_tls_unverified"] {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    let places = said.lines().filter(|line| line.contains("portcullis.toml:")).count();
    assert!(places >= 4, "each with file and line:\n{said}");
}

#[test]
fn a_secret_in_clear_is_refused_and_not_repeated() {
    let (code, said) = check(&good().replace("inline_secrets = true", "inline_secrets = false"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("client_secret") && !said.contains(crate::support::okta::CLIENT_SECRET), "{said}");
}

#[test]
fn p26_a_missing_file_and_a_missing_secret_are_mistakes() {
    let (code, said) = check(&good().replace(crate::support::okta::CLIENT_SECRET, "env:PORTCULLIS_TEST_NOT_SET"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("PORTCULLIS_TEST_NOT_SET"), "{said}");
    let missing = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(["check", "-c", "/nonexistent.toml"]).output();
    assert_eq!(missing.unwrap().status.code(), Some(2));
}
