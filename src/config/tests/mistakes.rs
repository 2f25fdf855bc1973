//! Messages about mistakes.

use super::*;

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
