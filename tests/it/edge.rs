//! An edge node without the login side: it verifies a team's tokens, and people log in at the team, which is elsewhere.

use std::time::{Duration, Instant};

use crate::support::{Browser, Config, Origin, Person, Portcullis, World, at};

fn applications() -> String {
    format!(
        r#"
[[applications]]
name = "Wiki"
domain = "wiki.$TLD"
aud = "{}"
origin = "$ORIGIN"
auto_redirect_to_identity = true
allowed_idps = ["okta"]
[[applications.policies]]
name = "engineers"
decision = "allow"
include = [{{ okta = {{ name = "Engineering", identity_provider_id = "okta" }} }}]
"#,
        "e".repeat(64)
    )
}

struct Edge {
    team: World,
    node: Portcullis,
    origin: Origin,
    wiki: String,
}

async fn edge() -> Edge {
    let team = World::with(&applications(), |config| config.domain = Some("access.localhost:$PORT".to_owned())).await;
    let port = team.proxy.address.port();
    let origin = Origin::start().await;
    let mut config = Config::new("unused", &applications());
    config.domain = Some(format!("access.localhost:{port}"));
    config.certs_url = Some(format!("http://access.localhost:{port}/cdn-cgi/access/certs"));
    let node = Portcullis::start(at(config, &origin.url("http"))).await;
    Edge { team, node, origin, wiki: format!("http://wiki.localhost:{port}/page?x=1") }
}

impl Edge {
    fn browser(&self) -> Browser {
        let mut browser = Browser::new(&self.team.proxy);
        browser.leads_to("wiki.localhost", self.node.address);
        browser
    }
}

#[tokio::test]
async fn people_log_in_at_the_team_and_arrive_at_the_edge() {
    let edge = edge().await;
    let mut alice = edge.browser();
    let page = alice.open(&edge.wiki).await;
    assert_eq!((page.url.as_str(), page.response.status), (edge.wiki.as_str(), 200), "{:#?}", alice.trail);
    let seen = edge.origin.last();
    assert_eq!(seen.headers.one("cf-access-authenticated-user-email"), Some("alice@example.com"));
    edge.team.origin.assert_untouched("a request to the edge");

    // The groups came from the team: somebody without them is refused there, before any session.
    edge.team.idp.script(|script| script.person = Person::bob());
    edge.origin.forget();
    let mut bob = edge.browser();
    assert_eq!(bob.open(&edge.wiki).await.response.status, 403);
    edge.origin.assert_untouched("somebody without the group");

    // Another browser cannot use what was made for this one.
    let used: Vec<_> = alice.trail.iter().filter(|(url, _)| url.path().ends_with("/authorized")).collect();
    let (used, _) = used.first().unwrap();
    let answer = edge.browser().request("GET", used.as_str(), &[], b"").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.headers.all("set-cookie").len(), 0);
}

#[tokio::test]
async fn the_edge_goes_on_without_the_team_and_learns_of_a_logout() {
    let mut edge = edge().await;
    let mut alice = edge.browser();
    assert_eq!(alice.open(&edge.wiki).await.response.status, 200);
    let mut again = alice.clone();
    let team = edge.wiki.replace("wiki.", "access.").replace("/page?x=1", "/cdn-cgi/access/logout");
    assert_eq!(again.open(&team).await.response.status, 200);
    let began = Instant::now();
    // The session cookie is still there; what ended is the login behind it.
    while alice.fetch("GET", &edge.wiki, &[], b"").await.status != 401 {
        assert!(began.elapsed() < Duration::from_secs(40), "a login that was ended goes on");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    edge.team.idp.script(|script| script.person = Person::alice());
    let mut alice = edge.browser();
    assert_eq!(alice.open(&edge.wiki).await.response.status, 200, "{:#?}", alice.trail);
    edge.team.proxy.stop().await;
    assert_eq!(alice.fetch("GET", &edge.wiki, &[], b"").await.status, 200, "a session goes on without the team");
}
