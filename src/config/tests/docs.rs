//! The examples in the documentation are valid.

use super::super::rules::SELECTORS;
use super::{complete, read};

const POLICIES: &str = include_str!("../../../docs/policies.md");
const OKTA: &str = include_str!("../../../docs/okta.md");

/// The environment of the examples.
const AROUND: &str = r#"
[geo]
database = "countries.mmdb"
[[service_tokens]]
id = "ci"
client_id = "0123456789abcdef0123456789abcdef.access"
client_secret_sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
[[certificates]]
name = "devices"
ca = "tls.crt"
associated_hostnames = ["assistant.example.com"]
[[lists]]
id = "contractors"
emails = ["ada@example.org"]
[[lists]]
id = "offices"
ips = ["203.0.113.0/24"]
[[groups]]
id = "engineers"
include = [{ everyone = {} }]
[[identity_providers]]
id = "okta"
name = "Okta"
type = "okta"
config = { client_id = "id", client_secret = "env:X", okta_account = "https://dev-1.okta.com/", claims = ["department"] }
"#;

fn examples() -> impl Iterator<Item = &'static str> {
    toml_of(POLICIES)
}

fn toml_of(page: &'static str) -> impl Iterator<Item = &'static str> {
    page.split("```toml\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0.trim_end())
}

#[test]
fn every_example_of_a_provider_can_be_read() {
    let (oidc, saml) = OKTA.split_once("# Okta over SAML\n").unwrap();
    let mut read = 0;
    for example in toml_of(oidc).map(|example| example.trim_start()) {
        let mut base = "okta_account = \"https://acme.okta.com\"\nclient_id = \"x\"\n".to_owned();
        if !example.contains("private_key") {
            base += "client_secret = \"env:X\"\n";
        }
        if example.contains("groups_refresh") {
            base += "api_token = \"env:X\"\n";
        }
        check(
            "id = \"okta\"\nname = \"Okta\"\ntype = \"okta\"",
            &base,
            example,
        );
        read += 1;
    }
    assert!(read >= 6, "{read}");
    every_example_of_saml_can_be_read(saml);
}

#[test]
fn oidc_provider_in_the_sample_file_can_be_read() {
    let sample = include_str!("../../../conf/portcullis.toml");
    let lines: Vec<_> = sample
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .collect();
    let text = lines.join("\n");
    let mut oidc = text
        .split("[[identity_providers]]")
        .filter(|provider| provider.contains("type = \"oidc\""));
    check(
        "",
        "",
        &format!("[[identity_providers]]{}", oidc.next().unwrap()),
    );
}

fn every_example_of_saml_can_be_read(page: &'static str) {
    let pem = include_str!("../../../tests/saml/keys/idp.crt");
    let certificate: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut read = 0;
    for example in toml_of(page).map(|example| example.trim_start().replace("MIID…", &certificate))
    {
        let mut base =
            "sso_target_url = \"https://acme.okta.com/x\"\nissuer_url = \"http://www.okta.com/x\"\n".to_owned();
        if !example.contains("idp_public_certs") {
            base += &format!("idp_public_certs = [\"{certificate}\"]\n");
        }
        if example.contains("attribute_name = \"department\", attribute_value") {
            base += "attributes = [\"department\"]\n";
        }
        check(
            "id = \"okta-saml\"\nname = \"Okta\"\ntype = \"saml\"",
            &base,
            &example,
        );
        read += 1;
    }
    assert!(read >= 8, "{read}");
}

/// An example is a whole provider, or keys of the `config` of one, or a rule.
fn check(provider: &str, base: &str, example: &str) {
    let head = format!("[[identity_providers]]\n{provider}\n[identity_providers.config]\n");
    let text = match example {
        whole if whole.starts_with("[[identity_providers]]") => whole.to_owned(),
        rule if rule.starts_with("include") => {
            format!("{head}{base}[[groups]]\nid = \"g\"\n{rule}")
        }
        keys => format!("{head}{base}{keys}"),
    };
    let file = std::path::Path::new("portcullis.toml");
    let loaded = super::super::parse(&complete(&text), file, &super::super::Offline);
    loaded.unwrap_or_else(|errors| panic!("{text}\n{errors}"));
}

/// The log messages of failed logins are those of the table.
#[test]
fn saml_table_has_the_logged_messages() {
    let sources = [
        include_str!("../../saml/error.rs"),
        include_str!("../../saml/assertion.rs"),
        include_str!("../../saml/attributes.rs"),
        include_str!("../../saml/validity.rs"),
        include_str!("../../idp/failure/mod.rs"),
    ];
    let (_, table) = OKTA.split_once("| in the log | remedy |\n").unwrap();
    let first = |line: &'static str| line.split('|').nth(1);
    let cells = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .filter_map(first);
    let mut messages = 0;
    for message in cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|message| message.contains(' '))
    {
        for part in message
            .split('…')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            assert!(
                sources.iter().any(|source| source.contains(part)),
                "no message has `{part}`"
            );
            messages += 1;
        }
    }
    assert!(messages > 15, "{messages}");
}

#[test]
fn readme_example_is_valid() {
    let readme = include_str!("../../../README.md");
    let (_, example) = readme.split_once("```toml\n").unwrap();
    let lines: Vec<&str> = example
        .lines()
        .take_while(|line| line.trim() != "```")
        .map(str::trim_start)
        .collect();
    let text = lines.join("\n");
    let loaded = super::super::parse(
        &text,
        std::path::Path::new("portcullis.toml"),
        &super::super::Offline,
    );
    let loaded = loaded.unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    assert_eq!(
        (loaded.warnings, loaded.config.catalog.applications.len()),
        (vec![], 1)
    );
}

#[test]
fn every_example_can_be_read() {
    let mut rules = 0;
    for example in examples() {
        let text = if example.starts_with('{') {
            rules += 1;
            let decision = if example.contains("linked_app_token") {
                "non_identity"
            } else {
                "allow"
            };
            format!(
                "{AROUND}\n[[applications]]\nid = \"assistant\"\ndomain = \"assistant.example.com\"\norigin = \"http://127.0.0.1:1\"\n\
                 policies = [{{ name = \"x\", decision = \"{decision}\", include = [{example}] }}]"
            )
        } else {
            example.to_owned()
        };
        let file = std::path::Path::new("portcullis.toml");
        let loaded = super::super::parse(&complete(&text), file, &super::super::Offline);
        loaded.unwrap_or_else(|errors| panic!("{example}\n{errors}"));
    }
    assert!(rules > 20 && read(&complete("")).is_ok());
}

#[test]
fn every_selector_is_described() {
    for (selector, _) in SELECTORS {
        assert!(
            POLICIES.contains(&format!("`{selector}`")),
            "`{selector}` is not in docs/policies.md"
        );
    }
}
