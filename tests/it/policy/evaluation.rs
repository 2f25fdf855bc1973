//! `external_evaluation`: a service of one's own says at login whether somebody may.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::evaluator::{Evaluator, KEY, Reply, STRANGER, answer};
use crate::support::idp::now;
use crate::support::{Browser, Person, World, at, open_token, raw};

/// `in` lets those in of whom the service says yes, `out` everybody else, `deny` likewise and by a
/// policy that denies.
const APPLICATIONS: &str = r#"
[[groups]]
id = "asked"
include = [{ external_evaluation = { evaluate_url = "$SERVICE/evaluate?tenant=1", keys_url = "$SERVICE/keys" } }]

[[applications]]
name = "In"
domain = "in.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [{ name = "asked", decision = "allow", include = [{ everyone = {} }], require = [{ group = { id = "asked" } }] }]

[[applications]]
name = "Out"
domain = "out.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [{ name = "others", decision = "allow", include = [{ everyone = {} }], exclude = [
  { external_evaluation = { evaluate_url = "$SERVICE/evaluate?tenant=1", keys_url = "$SERVICE/keys" } },
] }]

[[applications]]
name = "Deny"
domain = "deny.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [
  { name = "asked", decision = "deny", include = [{ group = { id = "asked" } }] },
  { name = "members", decision = "allow", include = [{ everyone = {} }] },
]

[[applications]]
name = "Free"
domain = "free.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [{ name = "members", decision = "allow", include = [{ everyone = {} }] }]
"#;

const NO: &str = "reason <code>no_policy_applied</code>";
const DENIED: &str = "reason <code>policy_denied</code>";
const UNKNOWN: &str = "reason <code>identity_incomplete</code>";

async fn world() -> (World, Evaluator) {
    let service = Evaluator::start().await;
    let world = World::with(&APPLICATIONS.replace("$SERVICE", &service.url), |_| ()).await;
    (world, service)
}

/// What somebody new meets at the three applications: nothing, or the reason on the page.
async fn meets(world: &World) -> [String; 3] {
    let mut browser = world.browser();
    let mut found = [const { String::new() }; 3];
    for (place, host) in found.iter_mut().zip(["in", "out", "deny"]) {
        *place = reason(&mut browser, host).await;
    }
    found
}

async fn reason(browser: &mut Browser, host: &str) -> String {
    let page = browser.open(&format!("http://{host}.localhost/page")).await;
    if page.response.status == 200 {
        return String::new();
    }
    assert_eq!(page.response.status, 403, "{:#?}", browser.trail);
    let text = page.response.text();
    assert_eq!(
        text.contains("We couldn't determine"),
        text.contains(UNKNOWN),
        "{text}"
    );
    let known = [NO, DENIED, UNKNOWN]
        .into_iter()
        .find(|reason| text.contains(reason));
    known.unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

#[tokio::test]
async fn yes_lets_in_and_no_keeps_out() {
    let (world, service) = world().await;
    assert_eq!(meets(&world).await, ["", NO, DENIED]);
    assert_eq!(
        service.questions().len(),
        1,
        "one answer for one person, whatever it is asked for"
    );
    service.answers(|question| Reply::signed(&answer(question, false)));
    assert_eq!(meets(&world).await, [NO, "", ""]);
    assert_eq!((service.questions().len(), service.key_fetches()), (2, 1));
    world.proxy.logged(0, &[r#""event":"login""#]).await;
    assert!(
        !world.proxy.log().contains("tenant=1"),
        "no query is in any log"
    );
}

#[tokio::test]
async fn the_question_says_who_it_is_and_opens_nothing() {
    let (world, service) = world().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://in.localhost/page")
        .await;
    let [question] = service.questions().try_into().unwrap();
    let (header, claims) = open_token(&question);
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (
            &json!("http://access.localhost"),
            &json!([format!("{}/evaluate?tenant=1", service.url)])
        )
    );
    let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!(
        lasts == 60 && (claims["iat"].as_i64().unwrap() - now()).abs() < 10,
        "{claims}"
    );
    assert_eq!(claims["nonce"].as_str().unwrap().len(), 32);
    let identity = alice
        .fetch(
            "GET",
            "http://in.localhost/cdn-cgi/access/get-identity",
            &[],
            b"",
        )
        .await
        .json();
    assert_eq!(claims["identity"], identity);
    assert_eq!(identity["email"], "alice@example.com");

    // It is signed with what `certs` publishes.
    let certs = alice
        .fetch(
            "GET",
            "http://access.localhost/cdn-cgi/access/certs",
            &[],
            b"",
        )
        .await
        .json();
    let jwk = certs["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["kid"] == header["kid"])
        .unwrap();
    let key =
        jsonwebtoken::DecodingKey::from_jwk(&serde_json::from_value(jwk.clone()).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&[claims["aud"][0].as_str().unwrap()]);
    assert!(jsonwebtoken::decode::<Value>(&question, &key, &validation).is_ok());

    for host in ["in", "out", "free"] {
        for line in [
            format!("cf-access-token: {question}"),
            format!("Cookie: CF_Authorization={question}"),
        ] {
            let answer = world
                .raw(raw::request(
                    "GET",
                    &format!("{host}.localhost"),
                    "/",
                    &[&line],
                ))
                .await
                .unwrap();
            assert_ne!(answer.status, 200, "{host}");
        }
    }
    world.origin.assert_untouched("a question");
}

#[tokio::test]
async fn requests_ask_nobody() {
    let (mut world, service) = world().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://in.localhost/page")
        .await;
    for _ in 0..100 {
        assert_eq!(
            alice
                .fetch("GET", "http://in.localhost/page", &[], b"")
                .await
                .status,
            200
        );
    }
    let mut free = world
        .signed_in(Person::bob(), "http://free.localhost/page")
        .await;
    assert_eq!(
        service.questions().len(),
        1,
        "who goes where nobody is asked is not asked about"
    );

    // The answer is in the record: a new process has it, too, and asks nobody.
    service.answers(|_| Reply::Hang);
    world.proxy.stop().await;
    world.proxy.run().await;
    assert_eq!(
        alice
            .fetch("GET", "http://in.localhost/page", &[], b"")
            .await
            .status,
        200
    );
    assert_eq!(
        free.fetch("GET", "http://free.localhost/page", &[], b"")
            .await
            .status,
        200
    );
    assert_eq!(service.questions().len(), 1);
}

#[tokio::test]
async fn whatever_is_no_answer_helps_nobody() {
    let (world, service) = world().await;
    let with = |name: &'static str, value: Value| {
        move |question: &Value| {
            let mut claims = answer(question, true);
            claims[name] = value.clone();
            Reply::signed(&claims)
        }
    };
    let without = |name: &'static str| {
        move |question: &Value| {
            let mut claims = answer(question, true);
            claims.as_object_mut().unwrap().remove(name);
            Reply::signed(&claims)
        }
    };
    let headed = |alg: &'static str, sign: fn(&str) -> Vec<u8>| {
        move |question: &Value| {
            let message = format!(
                "{}.{}",
                part(&json!({"alg": alg, "kid": KEY.kid()})),
                part(&answer(question, true))
            );
            let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(&message));
            Reply::token(&format!("{message}.{signature}"))
        }
    };
    let hmac = |message: &str| {
        let key = aws_lc_rs::hmac::Key::new(
            aws_lc_rs::hmac::HMAC_SHA256,
            KEY.to_jwk().to_string().as_bytes(),
        );
        aws_lc_rs::hmac::sign(&key, message.as_bytes())
            .as_ref()
            .to_vec()
    };
    let here = service.url.clone();
    let stranger = |question: &Value| {
        let token = STRANGER.sign(&answer(question, true)).unwrap();
        let (_, signature) = token.rsplit_once('.').unwrap();
        let message = format!(
            "{}.{}",
            part(&json!({"alg": "RS256", "kid": KEY.kid()})),
            part(&answer(question, true))
        );
        Reply::token(&format!("{message}.{signature}"))
    };
    type Case = (
        &'static str,
        Box<dyn Fn(&Value) -> Reply + Send>,
        &'static str,
    );
    let cases: Vec<Case> = vec![
        (
            "another nonce",
            Box::new(with("nonce", json!("0".repeat(32)))),
            "another `nonce`",
        ),
        ("no nonce", Box::new(without("nonce")), "no proper"),
        ("no success", Box::new(without("success")), "no proper"),
        (
            "success in quotes",
            Box::new(with("success", json!("true"))),
            "no proper",
        ),
        (
            "success as a number",
            Box::new(with("success", json!(1))),
            "no proper",
        ),
        ("no exp", Box::new(without("exp")), "no proper"),
        ("no iat", Box::new(without("iat")), "no proper"),
        (
            "expired",
            Box::new(with("exp", json!(now() - 120))),
            "not good at this time",
        ),
        (
            "good for a day",
            Box::new(with("exp", json!(now() + 86_400))),
            "not good at this time",
        ),
        (
            "made tomorrow",
            Box::new(with("iat", json!(now() + 86_400))),
            "not good at this time",
        ),
        (
            "a stranger's key",
            Box::new(|q| Reply::token(&STRANGER.sign(&answer(q, true)).unwrap())),
            "unknown key",
        ),
        (
            "a stranger's key under the service's name",
            Box::new(stranger),
            "signature does not fit",
        ),
        (
            "no algorithm",
            Box::new(headed("none", |_| vec![0])),
            "not signed as it should be",
        ),
        (
            "the public key as a secret",
            Box::new(headed("HS256", hmac)),
            "not signed as it should be",
        ),
        (
            "500",
            Box::new(|q| Reply::json(500, &json!({"token": KEY.sign(&answer(q, true)).unwrap()}))),
            "status 500",
        ),
        // What the well-known example answers where something failed in it.
        (
            "403",
            Box::new(|_| Reply::json(403, &json!({"success": false, "error": "expired token"}))),
            "status 403",
        ),
        (
            "a bare yes",
            Box::new(|_| Reply::json(200, &json!({"success": true}))),
            "not JSON with a `token`",
        ),
        (
            "a page",
            Box::new(|_| Reply::Raw(200, String::new(), "<html>".to_owned())),
            "not JSON with a `token`",
        ),
        (
            "no token",
            Box::new(|_| Reply::token("")),
            "not signed as it should be",
        ),
        (
            "the question",
            Box::new(|q| Reply::token(&KEY.sign(q).unwrap())),
            "no proper",
        ),
        (
            "too much",
            Box::new(|_| Reply::token(&"a".repeat(1_000_000))),
            "more than 32768 bytes",
        ),
        (
            "a redirect",
            Box::new(move |_| {
                Reply::Raw(
                    307,
                    format!("location: {here}/evaluate?tenant=1\r\n"),
                    String::new(),
                )
            }),
            "status 307",
        ),
    ];
    let count = cases.len();
    for (name, script, said) in cases {
        service.answers(script);
        let (after, asked) = (world.proxy.log().len(), service.questions().len());
        assert_eq!(meets(&world).await, [UNKNOWN, UNKNOWN, UNKNOWN], "{name}");
        assert!(service.questions().len() > asked, "{name}");
        let line = world
            .proxy
            .logged(after, &["WARN", "gave no answer", said])
            .await;
        assert!(
            line.contains("/evaluate") && !line.contains("tenant"),
            "{name}: {line}"
        );
    }
    world.origin.assert_untouched("no answer");
    let metrics = world.proxy.metrics().await;
    let unknown = metrics.lines().find_map(|l| {
        l.strip_prefix(r#"portcullis_external_evaluations_total{outcome="unknown"} "#)
    });
    assert!(
        unknown.unwrap().parse::<usize>().unwrap() >= count,
        "{metrics}"
    );
    assert!(
        service.key_fetches() <= 3,
        "a stranger's key makes nobody fetch keys again and again"
    );
}

#[tokio::test]
async fn a_service_that_hangs_costs_five_seconds_and_trying_again_is_possible() {
    let (world, service) = world().await;
    service.answers(|_| Reply::Hang);
    let mut alice = world.browser();
    let began = Instant::now();
    assert_eq!(reason(&mut alice, "in").await, UNKNOWN);
    assert!(
        began.elapsed() >= Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    // For a moment nobody asks again.
    assert_eq!(reason(&mut alice, "out").await, UNKNOWN);
    assert_eq!(service.questions().len(), 1);

    service.answers(|question| Reply::signed(&answer(question, true)));
    let began = Instant::now();
    while !reason(&mut alice, "in").await.is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the service answers again, and nobody asks it"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn keys_that_were_changed_are_fetched_again() {
    let (world, service) = world().await;
    assert_eq!(meets(&world).await, ["", NO, DENIED]);
    service.publishes(&[KEY.to_jwk(), STRANGER.to_jwk()]);
    service.answers(|question| Reply::token(&STRANGER.sign(&answer(question, true)).unwrap()));
    let began = Instant::now();
    // Not at once: what was fetched a moment ago is not fetched again for a name that nobody knows.
    while reason(&mut world.browser(), "in").await == UNKNOWN {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the new key is not taken"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(service.key_fetches(), 2);
}

#[tokio::test]
async fn new_key_under_the_old_name_is_fetched() {
    let (world, service) = world().await;
    let mut old = STRANGER.to_jwk();
    old["kid"] = json!(KEY.kid());
    service.publishes(&[old]);
    assert_eq!(reason(&mut world.browser(), "in").await, UNKNOWN);
    assert_eq!(
        service.key_fetches(),
        2,
        "what does not verify is worth a second look"
    );
    service.publishes(&[json!(7), KEY.to_jwk()]);
    let began = Instant::now();
    while reason(&mut world.browser(), "in").await == UNKNOWN {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the new key is not taken"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(service.key_fetches() <= 4, "{}", service.key_fetches());
}

#[tokio::test]
async fn what_was_said_under_other_keys_counts_no_longer() {
    let (mut world, service) = world().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://in.localhost/page")
        .await;
    world.proxy.config.rest = world.proxy.config.rest.replace("/keys\"", "/new-keys\"");
    let after = world.proxy.log().len();
    world.proxy.write_config();
    world
        .proxy
        .logged(after, &["the configuration was reloaded"])
        .await;

    let page = alice.open("http://in.localhost/page").await;
    let text = page.response.text();
    assert!(
        page.response.status == 403 && text.contains(UNKNOWN),
        "{text}"
    );
    let again = crate::support::browser::link(&text, "Try again").unwrap();
    assert_eq!(
        alice.open(&again).await.response.status,
        200,
        "{:#?}",
        alice.trail
    );
    assert_eq!((service.questions().len(), service.key_fetches()), (2, 2));
}

#[tokio::test]
async fn a_missing_answer_stays_missing_where_a_certificate_is_asked_for_too() {
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
    // Nobody here has a certificate: the application's host refuses everybody who gets so far.
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
async fn a_rule_that_is_added_is_asked_about_on_the_way_back() {
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
    let after = world.proxy.log().len();
    world.proxy.write_config();
    world
        .proxy
        .logged(after, &["the configuration was reloaded"])
        .await;

    // The session that there is says nothing about it; the page's button leads over the login.
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
async fn a_new_answer_counts_for_the_sessions_that_there_are() {
    let (world, service) = world().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://in.localhost/page")
        .await;
    let log_in_again = |host: &str| {
        format!(
            "http://access.localhost/cdn-cgi/access/login/{host}.localhost?switch=1&redirect_url=%2F"
        )
    };
    // Logins are told apart by the second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    service.answers(|question| Reply::signed(&answer(question, false)));
    assert_eq!(
        alice.open(&log_in_again("free")).await.response.status,
        200,
        "{:#?}",
        alice.trail
    );
    assert_eq!(
        alice
            .fetch("GET", "http://in.localhost/page", &[], b"")
            .await
            .status,
        200,
        "nobody was asked"
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
        alice
            .fetch("GET", "http://in.localhost/page", &[], b"")
            .await
            .status,
        403,
        "the answer is another now"
    );

    // No answer is none for what is to come, and takes nothing back of what was.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    service.answers(|_| Reply::json(500, &json!({})));
    let page = alice.open(&log_in_again("deny")).await;
    assert!(page.response.text().contains(UNKNOWN), "{:#?}", alice.trail);
    assert_eq!(
        alice
            .fetch("GET", "http://out.localhost/page", &[], b"")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn answers_of_several_services_stand_beside_each_other() {
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
            tab.fetch("GET", &format!("http://{host}.localhost/"), &[], b"")
                .await
                .status,
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

/// The edge asks nobody and knows no answer: what the team's rules say at login is all there is.
#[tokio::test]
async fn an_edge_node_knows_no_answer() {
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
        node.log().contains("its answer is unknown"),
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
