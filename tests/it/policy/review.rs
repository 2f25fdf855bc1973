//! The commands that look at policies, as users run them.

use std::path::Path;
use std::process::Command;

use crate::support::portcullis::{Config, free_address};
use crate::support::{APPLICATIONS, Person, World, at};

fn portcullis(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The configuration that the tests run with, as a file; secrets and certificates are nowhere.
fn written(folder: &Path, name: &str, change: impl Fn(String) -> String) -> String {
    let config = at(
        Config::new("https://okta.example.com", APPLICATIONS),
        "http://127.0.0.1:8",
    );
    let text = config.text(free_address(), free_address());
    let file = folder.join(name);
    std::fs::write(&file, change(text)).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn decision_is_explained_offline_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let secret =
        |text: String| text.replace(crate::support::okta::CLIENT_SECRET, "env:NOT_SET_HERE");
    let config = written(folder.path(), "portcullis.toml", secret);
    let who = [
        "--email",
        "alice@example.com",
        "--group",
        "Engineering",
        "--group",
        "R&D <x>",
    ];
    let (code, said, complaints) =
        portcullis(&[&["explain", "-c", &config, "Wiki"], &who[..]].concat());
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{said}");
    assert!(
        said.starts_with("ALLOW by the policy `engineers`\n") && !said.contains('\u{1b}'),
        "{said}"
    );

    let (code, said, _) =
        portcullis(&[&["explain", "-c", &config, "Pay", "--json"], &who[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &json["outcome"], &json["reason"]),
        (Some(0), &"deny".into(), &"no_policy_applied".into())
    );

    for wrong in [
        &["Wikki"][..],
        &["Wiki", "--group", "x"],
        &["Wiki", "--email", "a"],
        &["Wiki", "--country", "Germany"],
    ] {
        let (code, said, complaints) = portcullis(&[&["explain", "-c", &config], wrong].concat());
        assert_eq!((code, said.as_str()), (Some(2), ""), "{wrong:?}");
        assert!(complaints.starts_with("error: "), "{wrong:?}: {complaints}");
    }
}

#[test]
fn policy_tests_pass_fail_or_are_invalid() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), "portcullis.toml", |text| text);
    let suite = |expect: &str| {
        let file = folder.path().join("tests.toml");
        let text = format!(
            "config = \"portcullis.toml\"\n[people.alice]\nemail = \"alice@example.com\"\ngroups = [\"Engineering\"]\n\
             [[tests]]\nname = \"engineers read\"\nperson = \"alice\"\nurl = \"Wiki\"\nexpect = \"{expect}\"\n"
        );
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let report = folder.path().join("junit.xml");
    let report = report.to_str().unwrap();
    let (code, said, _) = portcullis(&["test", &suite("allow"), "--junit", report]);
    assert!(
        code == Some(0) && said.ends_with("1 passed, 0 failed\n"),
        "{said}"
    );
    assert!(
        std::fs::read_to_string(report)
            .unwrap()
            .contains("failures=\"0\"")
    );
    let (code, said, _) = portcullis(&["test", &suite("deny"), "--junit", report]);
    assert!(
        code == Some(1) && said.contains("was      allow by `engineers`"),
        "{said}"
    );
    assert!(
        std::fs::read_to_string(report)
            .unwrap()
            .contains("failures=\"1\"")
    );
    let (code, _, complaints) = portcullis(&["test", &suite("alow")]);
    assert!(
        code == Some(2) && complaints.contains("tests.toml:9: unknown variant `alow`"),
        "{complaints}"
    );
}

#[tokio::test]
async fn logged_requests_are_evaluated_again() {
    let mut world = World::with(APPLICATIONS, |config| {
        config.rest.push_str("\n[audit]\nallow_sample = 1\n")
    })
    .await;
    let mut alice = world
        .signed_in(Person::alice(), "http://wiki.localhost/page")
        .await;
    alice.open("http://app.localhost/").await;
    world.proxy.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("portcullis.log");
    std::fs::write(&log, world.proxy.log()).unwrap();
    let log = log.to_str().unwrap();
    let old = written(folder.path(), "old.toml", |text| text);
    let new = written(folder.path(), "new.toml", |text| {
        text.replacen("\"Engineering\"", "\"Another group\"", 1)
    });
    let (code, said, complaints) = portcullis(&["diff", &old, &new, "--audit", log]);
    assert_eq!((code, complaints.as_str()), (Some(1), ""), "{said}");
    assert!(
        said.contains("Wiki\n  lose access: allow by `engineers` → deny (no_policy_applied)\n"),
        "{said}"
    );
    assert!(said.contains("      alice@example.com"), "{said}");
    assert!(
        !said.contains("App\n"),
        "what did not change is not told: {said}"
    );
    let (code, said, _) = portcullis(&["diff", &old, &old, "--audit", log]);
    assert!(code == Some(0) && said.starts_with("no changes"), "{said}");
    let (code, said, _) = portcullis(&["diff", &old, &new, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, json["changes"].as_array().map(Vec::len)),
        (Some(1), Some(2)),
        "{said}"
    );
    let (code, ..) = portcullis(&["diff", &old, "/nonexistent.toml"]);
    assert_eq!(code, Some(2));
}
