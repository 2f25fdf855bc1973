//! Answers of an external evaluation over the life of a session.

use std::time::Duration;

use serde_json::json;

use super::evaluation::{UNKNOWN, world};
use crate::support::evaluator::{Evaluator, Reply, answer};
use crate::support::{Browser, Person, World, at};

#[tokio::test]
async fn missing_answer_stays_unknown_beside_a_certificate() {
    let service = Evaluator::start().await;
    let application = r#"
[[applications]]
name = "Both"
domain = "both.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [{ name = "asked", decision = "allow", include = [{ everyone = {} }], require = [
  { external_evaluation = { evaluate_url = "$SERVICE/evaluate?tenant=1", keys_url = "$SERVICE/keys" } },
  { certificate = {} },
] }]
"#;
    let world = World::with(&application.replace("$SERVICE", &service.url), |_| ()).await;
    // No client here has a certificate: the application's host denies every user that gets so far.
    for (success, ends) in [
        (Some(true), "both.localhost"),
        (Some(false), "access.localhost"),
        (None, "access.localhost"),
    ] {
        service.answers(move |question| match success {
            Some(success) => Reply::signed(&answer(question, success)),
            None => Reply::json(500, &json!({})),
        });
        let mut browser = world.browser();
        let page = browser.open("http://both.localhost/page").await;
        assert_eq!(
            (page.url.host_str(), page.response.status),
            (Some(ends), 403),
            "{success:?} {:#?}",
            browser.trail
        );
    }
}

#[tokio::test]
async fn added_rule_is_evaluated_at_the_next_login() {
    let (mut world, service) = world().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://free.localhost/page")
        .await;
    assert_eq!(service.questions().len(), 0);
    let rule = format!(
        r#"{{ external_evaluation = {{ evaluate_url = "{0}/evaluate?tenant=1", keys_url = "{0}/keys" }} }}"#,
        service.url
    );
    let (before, free) = world
        .proxy
        .config
        .rest
        .rsplit_once("{ everyone = {} }")
        .unwrap();
    world.proxy.config.rest = format!("{before}{rule}{free}");
    world.proxy.reconfigure().await;

    // The running session has no answer to it. The page's button starts a login.
    let page = alice.open("http://free.localhost/page").await;
    let text = page.response.text();
    assert!(
        page.response.status == 403 && text.contains(UNKNOWN),
        "{text}"
    );
    let again = crate::support::browser::link(&text, "Try again").unwrap();
    let page = alice.open(&again).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("http://free.localhost/page", 200),
        "{:#?}",
        alice.trail
    );
    assert_eq!(service.questions().len(), 1);
}

#[tokio::test]
async fn new_answer_applies_to_running_sessions() {
    let (world, service) = world().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://in.localhost/page")
        .await;
    let log_in_again = |host: &str| {
        format!(
            "http://access.localhost/cdn-cgi/access/login/{host}.localhost?switch=1&redirect_url=%2F"
        )
    };
    // Logins are distinguished by the second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    service.answers(|question| Reply::signed(&answer(question, false)));
    assert_eq!(
        alice.open(&log_in_again("free")).await.response.status,
        200,
        "{:#?}",
        alice.trail
    );
    assert_eq!(
        alice.get("http://in.localhost/page").await.status,
        200,
        "the service was not called"
    );
    assert_eq!(service.questions().len(), 1);
    assert_eq!(
        alice.open(&log_in_again("out")).await.response.status,
        200,
        "{:#?}",
        alice.trail
    );
    assert_eq!(service.questions().len(), 2);
    assert_eq!(
        alice.get("http://in.localhost/page").await.status,
        403,
        "the answer is another now"
    );

    // A missing answer does not replace an earlier one.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    service.answers(|_| Reply::json(500, &json!({})));
    let page = alice.open(&log_in_again("deny")).await;
    assert!(page.response.text().contains(UNKNOWN), "{:#?}", alice.trail);
    assert_eq!(alice.get("http://out.localhost/page").await.status, 200);
}

#[tokio::test]
async fn answers_of_several_services_are_kept_apart() {
    let services = [
        Evaluator::start().await,
        Evaluator::start().await,
        Evaluator::start().await,
    ];
    let application = |host: &str, asked: &[&Evaluator]| {
        let rule = |service: &&Evaluator| {
            format!(
                r#"{{ external_evaluation = {{ evaluate_url = "{0}/evaluate?tenant=1", keys_url = "{0}/keys" }} }}"#,
                service.url
            )
        };
        let rules = asked.iter().map(rule).collect::<Vec<_>>().join(", ");
        format!(
            "[[applications]]\ndomain = \"{host}.$TLD\"\norigin = \"$ORIGIN\"\nauto_redirect_to_identity = true\n\
             policies = [{{ name = \"asked\", decision = \"allow\", include = [{{ everyone = {{}} }}], require = [{rules}] }}]\n"
        )
    };
    let [a, b, c] = &services;
    let applications = application("a", &[a])
        + &application("b", &[b])
        + &application("c", &[a, b, c])
        + &application("free", &[]);
    let world = World::with(&applications, |_| ()).await;
    let mut alice = world
        .signed_in(Person::alice(), "http://free.localhost/page")
        .await;
    // Three tabs at once.
    let mut tabs = [alice.clone(), alice.clone(), alice.clone()];
    let [one, two, three] = &mut tabs;
    let pages = tokio::join!(
        one.open("http://a.localhost/"),
        two.open("http://b.localhost/"),
        three.open("http://c.localhost/")
    );
    assert_eq!(
        [pages.0, pages.1, pages.2].map(|page| page.response.status),
        [200; 3]
    );
    for (tab, host) in tabs.iter_mut().zip(["a", "b", "c"]) {
        assert_eq!(
            tab.get(&format!("http://{host}.localhost/")).await.status,
            200,
            "{host}"
        );
    }
    assert_eq!(
        services.each_ref().map(|service| service.questions().len()),
        [1; 3]
    );
    c.answers(|question| Reply::signed(&answer(question, false)));
    let mut bob = world.browser();
    for (host, expected) in [("c", 403), ("a", 200), ("b", 200)] {
        assert_eq!(
            bob.open(&format!("http://{host}.localhost/"))
                .await
                .response
                .status,
            expected,
            "{host}"
        );
    }
    alice.open("http://free.localhost/").await;
}

/// The edge calls no service and has no answer: only the team's rules at login count.
#[tokio::test]
async fn edge_node_has_no_answer() {
    let service = Evaluator::start().await;
    let aud = |host: &str| {
        format!(
            "domain = \"{host}.$TLD\"\naud = \"{}\"\n",
            host.chars()
                .next()
                .unwrap()
                .to_string()
                .repeat(64)
                .replace(|c: char| !c.is_ascii_hexdigit(), "e")
        )
    };
    let rule = format!(
        r#"{{ external_evaluation = {{ evaluate_url = "{0}/evaluate?tenant=1", keys_url = "{0}/keys" }} }}"#,
        service.url
    );
    let application = |host: &str, policies: &str| {
        format!(
            "[[applications]]\n{}origin = \"$ORIGIN\"\nauto_redirect_to_identity = true\npolicies = [{policies}]\n",
            aud(host)
        )
    };
    let free = r#"{ name = "members", decision = "allow", include = [{ everyone = {} }] }"#;
    let asks = format!(r#"{{ name = "asked", decision = "allow", include = [{rule}] }}"#);
    let without = format!(
        r#"{{ name = "others", decision = "allow", include = [{{ everyone = {{}} }}], exclude = [{rule}] }}"#
    );
    // At the team `a` asks and `b` does not; at the edge it is the other way round, and `c`
    // excludes.
    let of = |a: &str, b: &str, c: &str| {
        application("a", a) + &application("b", b) + &application("c", c)
    };
    let team = World::with(&of(&asks, free, free), |config| {
        config.domain = Some("access.localhost:$PORT".to_owned())
    })
    .await;
    let port = team.proxy.address.port();
    let mut config = crate::support::Config::new("http://127.0.0.1:9", &of(free, &asks, &without));
    config.domain = Some(format!("access.localhost:{port}"));
    config.certs_url = Some(format!(
        "http://access.localhost:{port}/cdn-cgi/access/certs"
    ));
    let node = crate::support::Portcullis::start(at(config, &team.origin.url("http"))).await;
    assert!(
        node.log().contains("its result is unknown"),
        "the node says so"
    );
    let mut alice = Browser::new(&team.proxy);
    for (host, expected) in [("a", 200), ("b", 403), ("c", 403)] {
        alice.leads_to(&format!("{host}.localhost"), node.address);
        let page = alice
            .open(&format!("http://{host}.localhost:{port}/page"))
            .await;
        assert_eq!(page.response.status, expected, "{host}: {:#?}", alice.trail);
        assert_eq!(page.response.text().contains(UNKNOWN), expected == 403);
    }
    assert_eq!(service.questions().len(), 1);
}
