//! Whatever is logged at whatever level, nothing in it opens a door.

use crate::support::{APPLICATIONS, Person, World, okta, raw};

#[tokio::test]
async fn j18_the_whole_log_of_everything_holds_no_secret() {
    let mut world = World::with(APPLICATIONS, |config| config.log = "trace").await;
    let mut secrets = vec![okta::CLIENT_SECRET.to_owned()];

    let mut alice = world.signed_in(Person::alice(), "http://wiki.localhost/page").await;
    alice.open("http://app.localhost/admin").await;
    alice.fetch("GET", "http://wiki.localhost/cdn-cgi/access/get-identity", &[], b"").await;
    let token = alice.cookie("wiki.localhost", "CF_Authorization").unwrap().to_owned();
    let line = format!("cf-access-token: {token}");
    world.raw(raw::request("GET", "wiki.localhost", "/", &[&line])).await;
    let damaged = format!("Cookie: CF_Authorization={}", &token[..token.len() - 5]);
    world.raw(raw::request("GET", "wiki.localhost", "/", &[&damaged])).await;
    let line = "Authorization: Bearer a-secret-for-the-origin";
    world.raw(raw::request("GET", "open.localhost", "/", &[line, "Cookie: theirs=a-cookie-of-the-origin"])).await;

    let mut bob = world.browser();
    world.idp.script(|script| script.person = Person::bob());
    bob.open("http://wiki.localhost/").await;
    world.idp.script(|script| script.stranger_signs = true);
    let mut failing = world.browser();
    failing.open("http://wiki.localhost/").await;
    for browser in [&alice, &bob, &failing] {
        secrets.extend(browser.given.iter().cloned());
        let parameters = browser.trail.iter().flat_map(|(url, _)| url.query_pairs().into_owned().collect::<Vec<_>>());
        secrets.extend(
            parameters.filter(|(name, _)| matches!(name.as_str(), "code" | "state" | "nonce")).map(|(_, value)| value),
        );
    }
    alice.open("http://wiki.localhost/cdn-cgi/access/logout").await;
    secrets.extend(world.idp.given());
    secrets.extend(["a-secret-for-the-origin".to_owned(), "a-cookie-of-the-origin".to_owned()]);
    // A signature alone is half a token.
    secrets.extend(secrets.clone().iter().filter_map(|s| Some(s.strip_prefix("ey")?.rsplit_once('.')?.1.to_owned())));

    let metrics = world.proxy.metrics().await;
    world.proxy.stop().await;
    let log = world.proxy.log() + &world.proxy.complaints();
    // The harness asks for everything; what other crates would say below INFO, requests and all, must not be there.
    assert!(log.contains("\"level\":\"INFO\"") && !log.contains("\"target\":\"hyper"), "{log:.2000}");
    for secret in secrets.iter().filter(|secret| secret.len() >= 8) {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "`{secret:.20}…` in the log");
        assert!(!metrics.contains(secret.as_str()), "`{secret:.20}…` in the metrics");
    }
}
