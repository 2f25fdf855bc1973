//! Countries come from a database that an operator puts in place, and replaces while requests are
//! served.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::portcullis::find;
use crate::support::{APPLICATIONS, Person, World, eventually, leads_to_login, open_token, raw};

const SWISS: &str = r#"
[[applications]]
name = "Swiss"
domain = "swiss.$TLD"
origin = "$ORIGIN"
[[applications.policies]]
name = "from there"
decision = "bypass"
include = [{ geo = { country_code = "CH" } }]
[[applications.policies]]
name = "members"
decision = "allow"
include = [{ everyone = {} }]

[geo]
database = "$DATABASE"
"#;

fn database(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/geo")
        .join(name)
}

#[tokio::test]
async fn valid_country_database_is_loaded_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("countries.mmdb");
    fs::copy(database("countries.mmdb"), &file).unwrap();
    let applications = format!(
        "{APPLICATIONS}{}",
        SWISS.replace("$DATABASE", file.to_str().unwrap())
    );
    let world = World::with(&applications, |_| ()).await;
    let swiss = async || {
        world
            .raw(raw::request("GET", "swiss.localhost", "/", &[]))
            .await
            .unwrap()
    };
    assert!(
        leads_to_login(&swiss().await),
        "where this machine is, this database does not say"
    );

    let after = world.proxy.log().len();
    fs::copy(database("asn.mmdb"), &file).unwrap();
    let line = world
        .proxy
        .logged_within(
            Duration::from_secs(20),
            after,
            &["ERROR", "keeping the previous country database"],
        )
        .await;
    assert!(
        line.contains("countries.mmdb") && line.contains("Test-ASN"),
        "{line}"
    );
    assert!(leads_to_login(&swiss().await));

    fs::copy(database("moved.mmdb"), folder.path().join("new")).unwrap();
    fs::rename(folder.path().join("new"), &file).unwrap();
    eventually("a new database is not taken", async || {
        swiss().await.status == 200
    })
    .await;
    let metrics = world.proxy.metrics().await;
    for outcome in ["applied", "rejected"] {
        let line = format!(r#"portcullis_country_database_reads_total{{outcome="{outcome}"}} 1"#);
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }

    // From now on countries are known: tokens and audit events name them.
    let mut alice = world
        .signed_in(Person::alice(), "http://wiki.localhost/page")
        .await;
    let (_, app) = open_token(alice.cookie("wiki.localhost", "CF_Authorization").unwrap());
    let identity = alice
        .get("http://wiki.localhost/cdn-cgi/access/get-identity")
        .await
        .json();
    assert_eq!(
        (&app["country"], &identity["geo"]),
        (&json!("CH"), &json!({"country": "CH"}))
    );
    alice.open("http://pay.localhost/").await;
    let events = world.proxy.events("login");
    assert_eq!(events.len(), 2, "{events:#?}");
    for event in &events {
        assert_eq!(find(event, "country"), Some("CH"), "{event}");
    }
}
