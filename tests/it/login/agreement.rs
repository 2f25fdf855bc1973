//! Changes that one of two processes on one store makes, and the other follows.

use std::time::{Duration, Instant};

use super::once::{at, two_processes};
use crate::support::{Browser, open_token};

const WIKI: &str = "http://wiki.localhost/page";
const CERTS: &str = "http://access.localhost/cdn-cgi/access/certs";
const REFRESH: &str = "http://access.localhost/cdn-cgi/access/refresh-identity";

/// A process follows a change within a second. The rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// Waits until a request of the browser gets that status.
async fn soon(browser: &mut Browser, wanted: u16, why: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let status = browser.fetch("GET", WIKI, &[], b"").await.status;
        if status == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{why}: {status}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn groups_of_a_renewed_login_count_at_every_process() {
    let (world, other, mut here) = two_processes().await;
    let page = here.open(WIKI).await;
    assert_eq!(page.response.status, 200, "{:#?}", here.trail);
    let mut there = at(&here, other.address);
    soon(&mut there, 200, "the session is valid at both").await;

    // Alice leaves the group, and signs in again over her session at one process.
    world.idp.script(|script| {
        let groups = &mut script.person.groups;
        groups.retain(|group| group != "Engineering");
    });
    assert_eq!(here.open(REFRESH).await.response.status, 200);
    assert_eq!(here.fetch("GET", WIKI, &[], b"").await.status, 403);
    soon(&mut there, 403, "her groups at the other process").await;

    world.idp.script(|script| {
        script.person.groups.push("Engineering".into());
    });
    assert_eq!(there.open(REFRESH).await.response.status, 200);
    assert_eq!(there.fetch("GET", WIKI, &[], b"").await.status, 200);
    soon(&mut here, 200, "and the other way").await;
}

#[tokio::test]
async fn withdrawn_signing_key_counts_at_no_process() {
    let (world, other, mut here) = two_processes().await;
    assert_eq!(here.open(WIKI).await.response.status, 200);
    let mut there = at(&here, other.address);
    soon(&mut there, 200, "the session is valid at both").await;
    let token = here.cookie("wiki.localhost", "CF_Authorization").unwrap();
    let (header, _) = open_token(token);
    let kid = header["kid"].as_str().unwrap().to_owned();

    let url = format!("sqlite://{}", world.proxy.path("portcullis.db").display());
    let database = sqlx::SqlitePool::connect(&url).await.unwrap();
    let deleted = sqlx::query("DELETE FROM signing_keys WHERE kid = $1")
        .bind(&kid)
        .execute(&database)
        .await
        .unwrap();
    assert_eq!(deleted.rows_affected(), 1);
    for browser in [&mut here, &mut there] {
        soon(browser, 401, "a token of the withdrawn key").await;
        let certs = browser.fetch("GET", CERTS, &[], b"").await;
        assert!(!certs.text().contains(&kid), "{}", certs.text());
    }
}
