//! `external_evaluation`: a service of the operator allows or denies each login.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::evaluator::{Evaluator, KEY, Reply, STRANGER, answer};
use crate::support::idp::now;
use crate::support::{Browser, Person, World, eventually, open_token, raw};

/// `in` allows users that the service allows, `out` all others. `deny` does the same as `out` with
/// a policy that denies.
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

pub(super) const UNKNOWN: &str = "reason <code>identity_incomplete</code>";

pub(super) async fn world() -> (World, Evaluator) {
    let service = Evaluator::start().await;
    let world = World::with(&APPLICATIONS.replace("$SERVICE", &service.url), |_| ()).await;
    (world, service)
}

/// Returns the answers to a new user at the three applications: empty, or the reason on the page.
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
async fn answer_of_the_service_allows_or_denies() {
    let (world, service) = world().await;
    assert_eq!(meets(&world).await, ["", NO, DENIED]);
    assert_eq!(
        service.questions().len(),
        1,
        "one answer for one user, for every application"
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
async fn question_names_the_user_and_is_not_a_credential() {
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
        .get("http://in.localhost/cdn-cgi/access/get-identity")
        .await
        .json();
    assert_eq!(claims["identity"], identity);
    assert_eq!(identity["email"], "alice@example.com");

    // It is signed with a key that `certs` publishes.
    let certs = alice
        .get("http://access.localhost/cdn-cgi/access/certs")
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
async fn requests_do_not_call_the_service() {
    let (mut world, service) = world().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://in.localhost/page")
        .await;
    for _ in 0..100 {
        assert_eq!(alice.get("http://in.localhost/page").await.status, 200);
    }
    let mut free = world
        .signed_in(Person::bob(), "http://free.localhost/page")
        .await;
    assert_eq!(
        service.questions().len(),
        1,
        "no question about users of applications without the rule"
    );

    // The answer is in the identity record: a new process reads it, and does not call the service.
    service.answers(|_| Reply::Hang);
    world.proxy.stop().await;
    world.proxy.run().await;
    assert_eq!(alice.get("http://in.localhost/page").await.status, 200);
    assert_eq!(free.get("http://free.localhost/page").await.status, 200);
    assert_eq!(service.questions().len(), 1);
}

#[tokio::test]
async fn malformed_answer_never_allows() {
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
            "a different `nonce`",
        ),
        ("no nonce", Box::new(without("nonce")), "no valid `success`"),
        (
            "no success",
            Box::new(without("success")),
            "no valid `success`",
        ),
        (
            "success in quotes",
            Box::new(with("success", json!("true"))),
            "no valid `success`",
        ),
        (
            "success as a number",
            Box::new(with("success", json!(1))),
            "no valid `success`",
        ),
        ("no exp", Box::new(without("exp")), "no valid `success`"),
        ("no iat", Box::new(without("iat")), "no valid `success`"),
        (
            "expired",
            Box::new(with("exp", json!(now() - 120))),
            "not valid at this time",
        ),
        (
            "good for a day",
            Box::new(with("exp", json!(now() + 86_400))),
            "not valid at this time",
        ),
        (
            "made tomorrow",
            Box::new(with("iat", json!(now() + 86_400))),
            "not valid at this time",
        ),
        (
            "a stranger's key",
            Box::new(|q| Reply::token(&STRANGER.sign(&answer(q, true)).unwrap())),
            "unknown key",
        ),
        (
            "a stranger's key under the service's name",
            Box::new(stranger),
            "signature is invalid",
        ),
        (
            "no algorithm",
            Box::new(headed("none", |_| vec![0])),
            "not properly signed",
        ),
        (
            "the public key as a secret",
            Box::new(headed("HS256", hmac)),
            "not properly signed",
        ),
        (
            "500",
            Box::new(|q| Reply::json(500, &json!({"token": KEY.sign(&answer(q, true)).unwrap()}))),
            "status 500",
        ),
        // The answer of Cloudflare's example after an error in it.
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
            "not properly signed",
        ),
        (
            "the question",
            Box::new(|q| Reply::token(&KEY.sign(q).unwrap())),
            "no valid `success`",
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
            .logged(
                after,
                &["WARN", "no response from an evaluation service", said],
            )
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
        "an unknown key does not repeat fetches"
    );
}

#[tokio::test]
async fn hanging_service_fails_the_login_within_seconds() {
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
    // For a moment the service is not called again.
    assert_eq!(reason(&mut alice, "out").await, UNKNOWN);
    assert_eq!(service.questions().len(), 1);

    service.answers(|question| Reply::signed(&answer(question, true)));
    eventually("the service answers again, and is not called", async || {
        reason(&mut alice, "in").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn changed_keys_are_fetched_again() {
    let (world, service) = world().await;
    assert_eq!(meets(&world).await, ["", NO, DENIED]);
    service.publishes(&[KEY.to_jwk(), STRANGER.to_jwk()]);
    service.answers(|question| Reply::token(&STRANGER.sign(&answer(question, true)).unwrap()));
    let began = Instant::now();
    // Not at once: an unknown key name does not repeat a fetch that was just made.
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
    eventually("the new key is not taken", async || {
        reason(&mut world.browser(), "in").await != UNKNOWN
    })
    .await;
    assert!(service.key_fetches() <= 4, "{}", service.key_fetches());
}

#[tokio::test]
async fn answer_under_replaced_keys_is_discarded() {
    let (mut world, service) = world().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://in.localhost/page")
        .await;
    world.proxy.config.rest = world.proxy.config.rest.replace("/keys\"", "/new-keys\"");
    world.proxy.reconfigure().await;

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
