//! Programs: service tokens, client certificates and other applications' tokens, through
//! everything.

use std::process::Command;

use portcullis::model::UnixTime;
use portcullis::token::{KeySet, UnverifiedToken};

use crate::support::portcullis::find;
use crate::support::raw;
use crate::support::{Person, Response, World, leads_to_login, open_token};

/// A pair as `portcullis service-token new` makes it.
pub struct Pair {
    id: String,
    secret: String,
    /// For the configuration.
    pub section: String,
}

impl Pair {
    /// Makes one.
    pub fn new(name: &str) -> Self {
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["service-token", "new", name])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let (program, section) = said.split_once("\n\n").unwrap();
        let value = |name: &str| {
            program
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let (id, secret) = (
            value("CF-Access-Client-Id: "),
            value("CF-Access-Client-Secret: "),
        );
        Self {
            id,
            secret,
            section: section.to_owned(),
        }
    }

    fn digest(&self) -> &str {
        let line = self
            .section
            .lines()
            .find_map(|line| line.strip_prefix("client_secret_sha256 = "));
        line.unwrap()
    }

    /// The headers that show it.
    pub fn lines(&self) -> [String; 2] {
        [
            format!("CF-Access-Client-Id: {}", self.id),
            format!("cf-access-client-secret: {}", self.secret),
        ]
    }
}

const PROGRAMS: &str = r#"
[[applications]]
name = "Robots"
id = "robots"
domain = "robots.localhost"
origin = "$ORIGIN"
session_duration = "1h"
pass_cookies = true
policies = [{ name = "the builds", decision = "non_identity", include = [{ service_token = { token_id = "nightly-build" } }] }]

[[applications]]
name = "Wiki"
id = "wiki"
domain = "wiki.localhost"
origin = "$ORIGIN"
allowed_idps = ["okta"]
auto_redirect_to_identity = true
policies = [
    { name = "engineers", decision = "allow", include = [{ okta = { name = "Engineering", identity_provider_id = "okta" } }] },
    { name = "programs", decision = "non_identity", include = [{ any_valid_service_token = {} }], exclude = [{ service_token = { token_id = "old" } }] },
]

[[applications]]
name = "Behind"
domain = "behind.localhost"
origin = "$ORIGIN"
allowed_idps = ["okta"]
auto_redirect_to_identity = true
policies = [
    { name = "the wiki", decision = "non_identity", include = [{ linked_app_token = { app_uid = "wiki" } }] },
    { name = "finance", decision = "allow", include = [{ okta = { name = "Finance", identity_provider_id = "okta" } }] },
]

[audit]
allow_sample = 1
"#;

fn programs(pair: &Pair, old: &Pair) -> String {
    format!("{}{}{PROGRAMS}", pair.section, old.section)
}

async fn ask(world: &World, host: &str, lines: &[&str]) -> Response {
    world
        .raw(raw::request("GET", host, "/", lines))
        .await
        .unwrap()
}

/// Returns the status and the reason of a refusal in JSON.
fn refused(answer: &Response) -> String {
    assert_eq!(
        answer.headers.one("content-type"),
        Some("application/json"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.headers.all("set-cookie"), [""; 0]);
    assert!(
        answer.headers.one("cf-access-aud").is_some()
            && answer.headers.one("cf-access-domain").is_some()
    );
    assert_eq!(
        answer.headers.one("www-authenticate").is_some(),
        answer.status == 401
    );
    assert_eq!(answer.headers.one("location"), None);
    format!(
        "{} {}",
        answer.status,
        answer.json()["reason"].as_str().unwrap()
    )
}

#[tokio::test]
async fn service_token_is_allowed_and_named_to_the_origin() {
    let (pair, old) = (Pair::new("Nightly build"), Pair::new("old"));
    let world = World::with(&programs(&pair, &old), |config| config.log = "trace").await;
    let [id, secret] = &pair.lines();
    let cookie = "Cookie: theme=dark; CF_Authorization=whatever";
    let answer = ask(&world, "robots.localhost", &[id, secret, cookie]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.headers.all("set-cookie"),
        [""; 0],
        "nothing is kept for programs"
    );

    let seen = world.origin.last();
    let names: Vec<_> = seen
        .headers
        .0
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    let ours: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with("cf-access-"))
        .collect();
    assert_eq!(ours, ["cf-access-jwt-assertion"]);
    assert_eq!(
        seen.cookies(),
        [("theme".to_owned(), "dark".to_owned())],
        "a cookie that was not examined"
    );
    let assertion = seen.assertion().unwrap().to_owned();
    let (header, claims) = open_token(&assertion);
    let certs = ask(&world, "access.localhost", &[]).await;
    assert_eq!(certs.status, 200);
    let certs = world
        .raw(raw::request(
            "GET",
            "access.localhost",
            "/cdn-cgi/access/certs",
            &[],
        ))
        .await
        .unwrap();
    assert_eq!(header["kid"], certs.json()["keys"][0]["kid"]);
    let keys = KeySet::from_jwks(&certs.body).unwrap();
    let issuer = claims["iss"].as_str().unwrap();
    UnverifiedToken::parse(&assertion)
        .unwrap()
        .verify(&keys, issuer, UnixTime::now(), 60)
        .unwrap();
    let mut fields: Vec<_> = claims
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        ["aud", "common_name", "exp", "iat", "iss", "sub", "type"]
    );
    assert_eq!(
        (&claims["common_name"], &claims["sub"], &claims["type"]),
        (&pair.id.as_str().into(), &"".into(), &"app".into())
    );
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        3_600
    );
    assert_eq!(claims["aud"].as_array().map(Vec::len), Some(1));

    // It is signed once, and for that application alone.
    for _ in 0..20 {
        assert_eq!(
            ask(&world, "robots.localhost", &[id, secret]).await.status,
            200
        );
    }
    assert!(
        world
            .origin
            .seen()
            .iter()
            .all(|seen| seen.assertion() == Some(&*assertion))
    );
    ask(&world, "wiki.localhost", &[id, secret]).await;
    let other = open_token(world.origin.last().assertion().unwrap()).1;
    assert_ne!(other["aud"], claims["aud"]);
    assert_eq!(other["common_name"], claims["common_name"]);

    // An assertion for an origin is no credential.
    world.origin.forget();
    for line in [
        format!("Cf-Access-Token: {assertion}"),
        format!("Cookie: CF_Authorization={assertion}"),
        format!("Authorization: Bearer {assertion}"),
        format!("Cf-Access-Jwt-Assertion: {assertion}"),
    ] {
        assert_eq!(
            ask(&world, "robots.localhost", &[&line]).await.status,
            403,
            "{line}"
        );
        assert!(
            leads_to_login(&ask(&world, "wiki.localhost", &[&line]).await),
            "{line}"
        );
        assert!(
            leads_to_login(&ask(&world, "behind.localhost", &[&line]).await),
            "{line}"
        );
    }
    assert!(world.origin.seen().is_empty());

    // A valid token that no policy admits is denied without a way to log in.
    let [id, secret] = &old.lines();
    assert_eq!(
        refused(&ask(&world, "robots.localhost", &[id, secret]).await),
        "403 no_policy_applied"
    );
    assert_eq!(
        refused(&ask(&world, "wiki.localhost", &[id, secret]).await),
        "403 no_policy_applied"
    );
    // Without credentials and without a possible login, browsers get a page and scripts JSON.
    let page = ask(&world, "robots.localhost", &["Sec-Fetch-Mode: navigate"]).await;
    assert_eq!(
        (page.status, page.headers.one("content-type")),
        (403, Some("text/html; charset=utf-8"))
    );
    let script = ask(
        &world,
        "robots.localhost",
        &["X-Requested-With: XMLHttpRequest"],
    )
    .await;
    assert_eq!(refused(&script), "403 service_auth_required");

    let metrics = world.proxy.metrics().await;
    for line in [
        r#"portcullis_service_token_requests_total{decision="allow",service_token="nightly-build"} 22"#,
        r#"portcullis_service_token_requests_total{decision="deny",service_token="old"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    let events = world.proxy.events("access");
    let allowed = events
        .iter()
        .find(|event| find(event, "outcome") == Some("allowed"))
        .unwrap();
    assert_eq!(find(allowed, "service_token"), Some("Nightly build"));
    assert_eq!(find(allowed, "service_token_id"), Some("nightly-build"));
    assert_eq!(
        (find(allowed, "policy"), find(allowed, "email")),
        (Some("the builds"), None)
    );
    let denied = events
        .iter()
        .find(|event| find(event, "service_token") == Some("old"))
        .unwrap();
    assert_eq!(
        (find(denied, "outcome"), find(denied, "reason")),
        (Some("refused"), Some("no_policy_applied"))
    );
    let log = world.proxy.log() + &world.proxy.complaints();
    for hidden in [
        pair.secret.as_str(),
        &old.secret,
        pair.digest().trim_matches('"'),
    ] {
        assert!(
            !log.contains(hidden) && !metrics.contains(hidden),
            "{hidden} shows"
        );
    }
}

#[tokio::test]
async fn j14_t15_every_invalid_service_token_gets_one_answer() {
    let pair = Pair::new("Nightly build");
    let world = World::with(&programs(&pair, &Pair::new("old")), |_| ()).await;
    let alice = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let session = format!(
        "Cookie: CF_Authorization={}",
        alice.cookie("wiki.localhost", "CF_Authorization").unwrap()
    );
    assert_eq!(
        ask(&world, "wiki.localhost", &[&session]).await.status,
        200,
        "the session is good"
    );
    world.origin.forget();
    let [id, secret] = &pair.lines();
    let stranger = "CF-Access-Client-Id: 00000000000000000000000000000000.access";
    let guess =
        "CF-Access-Client-Secret: 0000000000000000000000000000000000000000000000000000000000000000";
    let cut = &secret[..secret.len() - 1];
    let longer = format!("{secret}0");
    let very_long = format!("CF-Access-Client-Secret: {}", "0".repeat(20_000));
    for lines in [
        vec![id.as_str(), guess],
        vec![stranger, secret],
        vec![stranger, guess],
        vec![id, cut],
        vec![id, &longer],
        vec![id, &very_long],
        vec![id],
        vec![secret],
        vec![id, id, secret],
        vec![id, secret, secret],
        vec![id, secret, guess],
        vec!["CF-Access-Client-Id: a, b", secret],
        vec!["CF-Access-Client-Id:", "CF-Access-Client-Secret:"],
    ] {
        for host in ["robots.localhost", "wiki.localhost", "behind.localhost"] {
            let with_session = [lines.as_slice(), &[session.as_str()]].concat();
            for lines in [&lines, &with_session] {
                let answer = ask(&world, host, lines).await;
                assert_eq!(
                    refused(&answer),
                    "401 service_token_invalid",
                    "{host} {lines:?}"
                );
                assert_eq!(answer.json()["error"], "unauthorized");
            }
        }
    }
    // gRPC has a status of its own.
    let grpc = raw::request(
        "POST",
        "robots.localhost",
        "/x",
        &[
            id,
            guess,
            "Content-Type: application/grpc",
            "Content-Length: 0",
        ],
    );
    let answer = world.raw(grpc).await.unwrap();
    assert_eq!(
        (answer.status, answer.headers.one("grpc-status")),
        (200, Some("16"))
    );
    // Not accepted in the URL, in a cookie, or in another spelling.
    let target = format!(
        "/?CF-Access-Client-Id={}&CF-Access-Client-Secret={}",
        pair.id, pair.secret
    );
    assert_eq!(
        world
            .raw(raw::request("GET", "robots.localhost", &target, &[]))
            .await
            .unwrap()
            .status,
        403
    );
    for line in [
        format!(
            "Cookie: CF-Access-Client-Id={}; CF-Access-Client-Secret={}",
            pair.id, pair.secret
        ),
        format!(
            "CF_Access_Client_Id: {}\r\nCF_Access_Client_Secret: {}",
            pair.id, pair.secret
        ),
        format!("Authorization: Basic {}:{}", pair.id, pair.secret),
    ] {
        assert_eq!(
            ask(&world, "robots.localhost", &[&line]).await.status,
            403,
            "{line}"
        );
    }
    assert!(world.origin.seen().is_empty());
    let events = world.proxy.events("access");
    let named = events
        .iter()
        .filter(|event| find(event, "reason") == Some("service_token_invalid"));
    let (known, unknown): (Vec<_>, Vec<_>) =
        named.partition(|event| find(event, "service_token").is_some());
    assert!(!known.is_empty() && !unknown.is_empty());
    let log = world.proxy.log() + &world.proxy.complaints();
    assert!(!log.contains(&pair.secret), "the secret shows");
}

#[tokio::test]
async fn service_token_changes_apply_without_a_restart() {
    let (pair, next) = (Pair::new("Nightly build"), Pair::new("Nightly build"));
    let mut world = World::with(&programs(&pair, &Pair::new("old")), |_| ()).await;
    let secret = |of: &Pair| format!("CF-Access-Client-Secret: {}", of.secret);
    let id = format!("CF-Access-Client-Id: {}", pair.id);
    let first = world.proxy.config.rest.clone();
    let one = format!("client_secret_sha256 = {}", pair.digest());
    for (written, old, new) in [
        (one.clone(), "200", "401 service_token_invalid"),
        (
            format!(
                "client_secret_sha256 = [{}, {}]",
                pair.digest(),
                next.digest()
            ),
            "200",
            "200",
        ),
        (
            format!("client_secret_sha256 = {}", next.digest()),
            "401 service_token_invalid",
            "200",
        ),
        (
            format!("{one}\nexpires_at = 2020-01-01T00:00:00Z"),
            "401 service_token_expired",
            "401 service_token_invalid",
        ),
        (
            format!("{one}\nenabled = false"),
            "401 service_token_disabled",
            "401 service_token_invalid",
        ),
        (
            format!("{one}\nexpires_at = \"2100-01-01T00:00:00+02:00\""),
            "200",
            "401 service_token_invalid",
        ),
    ] {
        let before = world.proxy.log().len();
        world.proxy.config.rest = first.replace(&one, &written);
        world.proxy.write_config();
        if written != one {
            world
                .proxy
                .logged(before, &["the configuration was reloaded"])
                .await;
        }
        for (of, expected) in [(&pair, old), (&next, new)] {
            let answer = ask(&world, "robots.localhost", &[&id, &secret(of)]).await;
            let said = if answer.status == 200 {
                "200".to_owned()
            } else {
                refused(&answer)
            };
            assert_eq!(said, expected, "{written}");
        }
    }
}

#[tokio::test]
async fn linked_app_token_is_allowed_until_its_session_ends() {
    let pair = Pair::new("Nightly build");
    let world = World::with(&programs(&pair, &Pair::new("old")), |_| ()).await;
    let mut alice = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let token = alice
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    let (bearer, ours) = (
        format!("authorization: bearer  {token}"),
        format!("Cf-Access-Token: {token}"),
    );
    for line in [&bearer, &ours] {
        assert_eq!(
            ask(&world, "behind.localhost", &[line]).await.status,
            200,
            "{line:.30}"
        );
        let seen = world.origin.last();
        assert!(
            seen.assertion().is_none(),
            "one for another application must not pass for ours"
        );
        assert_eq!(seen.headers.one("cf-access-authenticated-user-email"), None);
        assert_eq!(
            seen.headers.one("authorization"),
            None,
            "the holder is alice at the wiki"
        );
        assert!(!format!("{:?}", seen.headers).contains(&token));
    }
    // The application's own headers stay unchanged.
    ask(
        &world,
        "behind.localhost",
        &[&ours, "Authorization: Basic dTpw"],
    )
    .await;
    assert_eq!(
        world.origin.last().headers.one("authorization"),
        Some("Basic dTpw")
    );
    ask(&world, "wiki.localhost", &[&bearer, &ours]).await;
    assert!(
        world.origin.last().headers.one("authorization").is_some(),
        "no policy there accepts such tokens"
    );
    // Alice is not in Finance: the token is accepted by that one policy, and makes no session.
    assert!(leads_to_login(
        &ask(
            &world,
            "behind.localhost",
            &[&format!("Cookie: CF_Authorization={token}")]
        )
        .await
    ));
    assert!(leads_to_login(
        &ask(&world, "behind.localhost", &[&bearer, &bearer]).await
    ));
    let events = world.proxy.events("access");
    let linked = events
        .iter()
        .find(|event| find(event, "linked_application").is_some())
        .unwrap();
    assert_eq!(find(linked, "linked_application"), Some("Wiki"));
    assert_eq!(
        (find(linked, "email"), find(linked, "policy")),
        (Some("alice@example.com"), Some("the wiki"))
    );
    alice
        .open("http://wiki.localhost/cdn-cgi/access/logout")
        .await;
    world.origin.forget();
    for line in [&bearer, &ours] {
        assert!(
            leads_to_login(&ask(&world, "behind.localhost", &[line]).await),
            "after the logout"
        );
    }
    assert!(world.origin.seen().is_empty());
}

#[tokio::test]
async fn linked_token_in_both_headers_reaches_no_origin() {
    let (pair, old) = (Pair::new("Nightly build"), Pair::new("old"));
    let world = World::with(&programs(&pair, &old), |_| ()).await;
    let browser = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let token = browser
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap();
    let [ours, bearer] = [
        format!("Cf-Access-Token: {token}"),
        format!("Authorization: Bearer {token}"),
    ];
    for lines in [&[ours.as_str(), &bearer][..], &[&bearer, &ours], &[&bearer]] {
        let answer = ask(&world, "behind.localhost", lines).await;
        assert_eq!(answer.status, 200, "{lines:?}");
        let seen = world.origin.last();
        assert!(
            !seen
                .headers
                .0
                .iter()
                .any(|(_, value)| value.contains(token)),
            "{lines:?}: {seen:?}"
        );
        world.origin.forget();
    }
    for value in [
        token.to_owned(),
        format!("Token {token}"),
        format!("Bearer\t{token}"),
        format!("Bearer \"{token}\""),
        format!("Bearer of-the-application, Bearer {token}"),
    ] {
        let line = format!("Authorization: {value}");
        for lines in [
            &[ours.as_str(), &line][..],
            &[&ours, "Authorization: Bearer of-the-application", &line],
        ] {
            let answer = ask(&world, "behind.localhost", lines).await;
            assert_eq!(answer.status, 200, "{lines:?}");
            let seen = world.origin.last();
            assert!(
                !seen
                    .headers
                    .0
                    .iter()
                    .any(|(_, value)| value.contains(token)),
                "{lines:?}: {seen:?}"
            );
            world.origin.forget();
        }
    }
    // Another credential of the application is passed on.
    let answer = ask(
        &world,
        "behind.localhost",
        &[&ours, "Authorization: Bearer of-the-application"],
    )
    .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        world.origin.last().headers.one("authorization"),
        Some("Bearer of-the-application")
    );
}
