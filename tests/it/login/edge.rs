//! An edge node without the login side: it verifies a team's tokens, and people log in at the team,
//! which is elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::control::{Access, Clock, Resources, compile};
use portcullis::engine::{NodeCache, Origins};
use portcullis::front::pingora::{AccessFilter, AccessProxy, FilterSettings, ListenerSettings};
use portcullis::http_client::{HttpClient, Roots, Timeouts};
use portcullis::store::MemoryStore;
use portcullis::token::SigningKey;
use serde_json::json;
use tokio::runtime::Handle;

use crate::policy::cases::Served;
use crate::support::evaluator::{self, Evaluator};
use crate::support::portcullis::free_address;
use crate::support::{
    Browser, Config, Origin, Person, Portcullis, World, at, eventually, idp, raw,
};

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

/// The configuration of an edge node of that team.
fn node_config(team: &World) -> Config {
    let port = team.proxy.address.port();
    let mut config = Config::new("http://127.0.0.1:9", &applications());
    config.domain = Some(format!("access.localhost:{port}"));
    config.certs_url = Some(format!(
        "http://access.localhost:{port}/cdn-cgi/access/certs"
    ));
    config
}

struct Edge {
    team: World,
    node: Portcullis,
    origin: Origin,
    wiki: String,
}

async fn edge() -> Edge {
    let team = World::with(&applications(), |config| {
        config.domain = Some("access.localhost:$PORT".to_owned())
    })
    .await;
    let port = team.proxy.address.port();
    let origin = Origin::start().await;
    let node = Portcullis::start(at(node_config(&team), &origin.url("http"))).await;
    Edge {
        team,
        node,
        origin,
        wiki: format!("http://wiki.localhost:{port}/page?x=1"),
    }
}

impl Edge {
    fn browser(&self) -> Browser {
        let mut browser = Browser::new(&self.team.proxy);
        browser.leads_to("wiki.localhost", self.node.address);
        browser
    }
}

#[tokio::test]
async fn login_at_the_team_leads_back_to_the_edge() {
    let edge = edge().await;
    let mut alice = edge.browser();
    alice.assert_opens(&edge.wiki).await;
    let seen = edge.origin.last();
    assert_eq!(
        seen.headers.one("cf-access-authenticated-user-email"),
        Some("alice@example.com")
    );
    edge.team.origin.assert_untouched("a request to the edge");

    // The team evaluates the groups: a user without them is denied there, before any session.
    edge.team.idp.script(|script| script.person = Person::bob());
    edge.origin.forget();
    let mut bob = edge.browser();
    assert_eq!(bob.open(&edge.wiki).await.response.status, 403);
    edge.origin.assert_untouched("a user without the group");

    // Another browser cannot use this hand-over.
    let used: Vec<_> = alice
        .trail
        .iter()
        .filter(|(url, _)| url.path().ends_with("/authorized"))
        .collect();
    let (used, _) = used.first().unwrap();
    let answer = edge.browser().request("GET", used.as_str(), &[], b"").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.headers.all("set-cookie").len(), 0);
}

#[tokio::test]
async fn edge_works_without_the_team_and_follows_logouts() {
    let mut edge = edge().await;
    let mut alice = edge.browser();
    assert_eq!(alice.open(&edge.wiki).await.response.status, 200);
    let mut again = alice.clone();
    let team = edge
        .wiki
        .replace("wiki.", "access.")
        .replace("/page?x=1", "/cdn-cgi/access/logout");
    assert_eq!(again.open(&team).await.response.status, 200);
    let began = Instant::now();
    // The session cookie is still there; the login behind it ended.
    while alice.get(&edge.wiki).await.status != 401 {
        assert!(
            began.elapsed() < Duration::from_secs(40),
            "a login that was ended goes on"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    edge.team
        .idp
        .script(|script| script.person = Person::alice());
    let mut alice = edge.browser();
    assert_eq!(
        alice.open(&edge.wiki).await.response.status,
        200,
        "{:#?}",
        alice.trail
    );
    edge.team.proxy.stop().await;
    assert_eq!(
        alice.get(&edge.wiki).await.status,
        200,
        "a session goes on without the team"
    );
}

#[tokio::test]
async fn token_renewed_at_the_edge_is_revoked_with_its_login() {
    let edge = edge().await;
    let (mut telephone, mut desk) = (edge.browser(), edge.browser());
    for browser in [&mut telephone, &mut desk] {
        assert_eq!(
            browser.open(&edge.wiki).await.response.status,
            200,
            "{:#?}",
            browser.trail
        );
    }
    let handover = edge.wiki.replace("/page?x=1", "/cdn-cgi/access/authorized");
    let only_team = |browser: &mut Browser| {
        browser
            .cookies
            .retain(|cookie| cookie.host == "access.localhost")
    };
    let mut waiting = telephone.clone();
    only_team(&mut waiting);
    let waiting_at = waiting.open_until(&edge.wiki, &handover).await;
    only_team(&mut telephone);
    assert_eq!(
        telephone.open(&edge.wiki).await.response.status,
        200,
        "{:#?}",
        telephone.trail
    );
    let team = edge
        .wiki
        .replace("wiki.", "access.")
        .replace("/page?x=1", "/cdn-cgi/access/logout");
    assert_eq!(desk.open(&team).await.response.status, 200);
    let answer = waiting
        .request(
            "GET",
            waiting_at.as_str(),
            &["Sec-Fetch-Mode: navigate"],
            b"",
        )
        .await;
    assert!(
        !answer
            .headers
            .all("set-cookie")
            .iter()
            .any(|c| c.starts_with("CF_Authorization=e")),
        "{answer:?}"
    );
    eventually("a login that was ended goes on", async || {
        telephone.get(&edge.wiki).await.status == 401
    })
    .await;
    assert_eq!(
        telephone.open(&edge.wiki).await.response.status,
        200,
        "a new login: {:#?}",
        telephone.trail
    );
}

#[tokio::test]
async fn first_request_of_a_cold_node_fetches_keys_and_identity() {
    let edge = edge().await;
    let mut alice = edge.browser();
    assert_eq!(alice.open(&edge.wiki).await.response.status, 200);
    let token = alice.cookie("wiki.localhost", "CF_Authorization").unwrap();
    edge.origin.forget();

    // Another node, without the tasks that would fetch the keys before the first request.
    let (address, metrics) = (free_address(), free_address());
    let text = at(node_config(&edge.team), &edge.origin.url("http")).text(address, metrics);
    let file = edge.node.path("cold.toml");
    std::fs::write(&file, text).unwrap();
    let config = portcullis::config::load(&file, &portcullis::config::System)
        .unwrap()
        .config;
    let http = HttpClient::new(&Roots::default(), Timeouts::default()).unwrap();
    let pool = crate::policy::cases::pool(edge.origin.address);
    let made = compile(&config, 1, Arc::new(NodeCache::new(10)), &http, |_| {
        Origins::new(Arc::clone(&pool))
    })
    .unwrap();
    let access = Access::start(
        made.0,
        made.1,
        Resources {
            store: Arc::new(MemoryStore::new()),
            http,
            runtime: Handle::current(),
            clock: Clock::default(),
        },
    )
    .await
    .unwrap();
    assert!(!access.is_ready(), "it knows no keys");
    let listeners = vec![ListenerSettings {
        address,
        trusted_proxies: Vec::new(),
    }];
    let filter = AccessFilter::new(
        Arc::clone(&access),
        FilterSettings {
            listeners,
            ..FilterSettings::default()
        },
    );
    let _served = Served::start(vec![(address, AccessProxy::new(filter))]).await;

    let host = edge.wiki.split('/').nth(2).unwrap();
    let line = format!("Cookie: CF_Authorization={token}");
    let answer = raw::exchange(address, raw::request("GET", host, "/page", &[&line]))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        edge.origin
            .last()
            .headers
            .one("cf-access-authenticated-user-email"),
        Some("alice@example.com")
    );
    assert!(access.is_ready());
}

#[tokio::test]
async fn changed_keys_of_the_team_reach_the_edge_under_any_name() {
    let (team, origin) = (Evaluator::start().await, Origin::start().await);
    let mut config = Config::new("http://127.0.0.1:9", &applications());
    config.domain = Some("access.localhost:9".to_owned());
    config.certs_url = Some(format!("{}/keys", team.url));
    // The key keeps its name, and other elements of the set are not keys.
    let named = |key: &SigningKey, kid: &str| {
        let mut jwk = key.to_jwk();
        jwk["kid"] = json!(kid);
        jwk
    };
    let kid = evaluator::KEY.kid();
    team.publishes(&[
        json!(7),
        json!({"kid": 7, "kty": "RSA"}),
        named(&evaluator::STRANGER, kid),
    ]);
    let node = Portcullis::start(at(config, &origin.url("http"))).await;
    let claims = json!({
        "iss": "http://access.localhost:9", "aud": ["e".repeat(64)], "sub": "u", "email": "alice@example.com", "type": "app",
        "iat": idp::now(), "exp": idp::now() + 600,
    });
    let ask = async |key: &SigningKey| {
        let line = format!("Cookie: CF_Authorization={}", key.sign(&claims).unwrap());
        let request = raw::request(
            "GET",
            "wiki.localhost",
            "/page",
            &[&line, "Sec-Fetch-Mode: navigate"],
        );
        let answer = raw::exchange(node.address, request).await.unwrap();
        (
            answer.status,
            answer.text().contains("identity_unavailable"),
        )
    };
    team.publishes(&[named(&evaluator::KEY, kid), json!("key"), json!(null)]);
    let began = Instant::now();
    // With a verified token the node would fetch the identity from the team, which is unreachable.
    while ask(&evaluator::KEY).await != (503, true) {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the new key is not learnt"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(team.key_fetches() <= 3, "{} fetches", team.key_fetches());
    // Forged tokens cannot make the node fetch the keys again and again.
    let fetched = team.key_fetches();
    for _ in 0..40 {
        assert_eq!(ask(&evaluator::STRANGER).await, (302, false));
    }
    assert!(
        team.key_fetches() <= fetched + 1,
        "{} fetches",
        team.key_fetches()
    );
    assert_eq!(ask(&evaluator::KEY).await, (503, true));
}

#[tokio::test]
async fn reload_does_not_accept_keys_of_another_team() {
    let mut edge = edge().await;
    let mut alice = edge.browser();
    assert_eq!(alice.open(&edge.wiki).await.response.status, 200);
    let good = edge.node.config.certs_url.clone();
    for changed in [
        Some("http://127.0.0.1:9/cdn-cgi/access/certs".to_owned()),
        None,
    ] {
        let after = edge.node.log().len();
        edge.node.config.certs_url = changed;
        edge.node.config.rest = edge.node.config.rest.replace("Engineering", "Empty");
        edge.node.write_config();
        edge.node.signal("HUP");
        edge.node
            .logged(after, &["ERROR", "was not reloaded", "certs_url"])
            .await;
        assert_eq!(
            alice.get(&edge.wiki).await.status,
            200,
            "nothing of it holds"
        );
    }
    let metrics = edge.node.metrics().await;
    assert!(
        metrics.contains(r#"portcullis_config_reloads_total{outcome="applied"} 0"#),
        "{metrics}"
    );
    let after = edge.node.log().len();
    edge.node.config.certs_url = good;
    edge.node.write_config();
    edge.node.signal("HUP");
    edge.node
        .logged(after, &["the configuration was reloaded"])
        .await;
    assert_eq!(
        alice.get(&edge.wiki).await.status,
        403,
        "with the old one the rest holds"
    );
}

#[tokio::test]
async fn revoked_token_does_not_affect_the_next_one() {
    let edge = edge().await;
    let mut alice = edge.browser();
    assert_eq!(alice.open(&edge.wiki).await.response.status, 200);
    // The application's sessions end, the one at the team domain goes on.
    let database = edge.team.proxy.database().await;
    let ended = "INSERT INTO revocations (revision, kind, subject, before, expires) \
                 VALUES ((SELECT latest FROM revision), 'application', $1, $2, $3)";
    let mut change = database.begin().await.unwrap();
    sqlx::query("UPDATE revision SET latest = latest + 1")
        .execute(&mut *change)
        .await
        .unwrap();
    let ended = sqlx::query(ended)
        .bind("e".repeat(64))
        .bind(idp::now())
        .bind(idp::now() + 3600);
    ended.execute(&mut *change).await.unwrap();
    change.commit().await.unwrap();

    eventually("sessions that were ended go on", async || {
        alice.get(&edge.wiki).await.status == 401
    })
    .await;
    let asked = edge.team.idp.count("/oauth2/v1/authorize");
    alice.assert_opens(&edge.wiki).await;
    assert_eq!(
        edge.team.idp.count("/oauth2/v1/authorize"),
        asked,
        "the team knew her"
    );
    assert_eq!(alice.get(&edge.wiki).await.status, 200);
}

#[tokio::test]
async fn node_that_rejects_team_sessions_reports_it() {
    let mut edge = edge().await;
    let mut config = node_config(&edge.team);
    config.rest = config.rest.replace(
        r#"allowed_idps = ["okta"]"#,
        r#"allowed_idps = ["elsewhere"]"#,
    );
    edge.node = Portcullis::start(at(config, &edge.origin.url("http"))).await;
    let mut alice = edge.browser();
    let page = alice.open(&edge.wiki).await;
    let text = page.response.text();
    assert_eq!(page.response.status, 403, "{:#?}", alice.trail);
    assert!(
        text.contains("<html") && text.contains("clock") && text.contains("session_not_accepted"),
        "{text}"
    );
    let arrivals = alice
        .trail
        .iter()
        .filter(|(url, _)| url.path().ends_with("/authorized"))
        .count();
    assert_eq!(arrivals, 2, "{:#?}", alice.trail);
    edge.origin
        .assert_untouched("sessions that are not accepted");
    edge.node
        .logged(
            0,
            &["WARN", "session_not_accepted", "session_invalid", "clock"],
        )
        .await;
}

#[tokio::test]
async fn malformed_hand_over_is_refused_without_the_team() {
    let mut edge = edge().await;
    let host = edge.wiki.split('/').nth(2).unwrap().to_owned();
    let (long, session) = (
        "a".repeat(18 * 1024 + 1),
        "Cookie: CF_AppSession=n0123456789abcdef",
    );
    let ask = async |query: &str, lines: &[&str]| {
        let target = format!("/cdn-cgi/access/authorized{query}");
        raw::exchange(
            edge.node.address,
            raw::request("GET", &host, &target, lines),
        )
        .await
        .unwrap()
    };
    let (mut alice, longest) = (
        edge.browser(),
        format!("{}{}", edge.wiki, "a".repeat(2048 - "/page?x=1".len())),
    );
    alice.assert_opens(&longest).await;
    let arrived = alice
        .trail
        .iter()
        .find(|(url, _)| url.path().ends_with("/authorized"))
        .unwrap();
    let longest = arrived
        .0
        .query_pairs()
        .map(|(_, value)| value.len())
        .max()
        .unwrap();
    assert!((3000..4096).contains(&longest), "{longest}");
    edge.team.proxy.stop().await;
    assert_eq!(
        ask("?nonce=x&state=y", &[session]).await.status,
        503,
        "the team is asked"
    );
    for query in [
        "",
        "?nonce=x",
        "?nonce=x&state=",
        "?nonce=&state=y",
        &format!("?nonce=x&state={long}"),
    ] {
        let answer = ask(query, &[session]).await;
        assert_eq!(answer.status, 400, "{query:.40}");
        assert!(
            answer.text().contains("handover_invalid"),
            "{}",
            answer.text()
        );
    }
    let answer = ask("?nonce=x&state=y", &[]).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("app_session_missing"),
        "{}",
        answer.text()
    );
}
