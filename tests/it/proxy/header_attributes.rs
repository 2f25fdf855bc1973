//! `header_attributes`: what a provider says of a person reaches origins as headers, and nobody
//! else can say it.

use super::headers::{folded, spellings};
use crate::policy::service_clients::Pair;
use crate::support::origin::Seen;
use crate::support::saml::{self, Statement};
use crate::support::{Browser, World, raw};

const WIKI: &str = "http://wiki.localhost/page";
const HEADERS: &str = r#"header_attributes = [
  { attribute_name = "department", header_name = "X-Department" },
  { attribute_name = "groups", header_name = "x-member-of" },
  { attribute_name = "title", header_name = "X-Title" },
]"#;

/// `wiki` for whoever logs in, `open` for everybody, `robots` for a service token.
async fn world(pair: &Pair) -> World {
    let others = r#"
options_preflight_bypass = true
policies = [{ name = "all", decision = "allow", include = [{ everyone = {} }] }]

[[applications]]
name = "Open"
domain = "open.$TLD"
origin = "$ORIGIN"
policies = [{ name = "all", decision = "bypass", include = [{ everyone = {} }] }]

[[applications]]
name = "Robots"
domain = "robots.$TLD"
origin = "$ORIGIN"
policies = [{ name = "any", decision = "non_identity", include = [{ any_valid_service_token = {} }] }]
"#;
    saml::world(HEADERS, &[others, &pair.section].concat()).await
}

async fn log_in(browser: &mut Browser, start: &str, statement: &Statement) -> u16 {
    saml::log_in(browser, start, statement)
        .await
        .response
        .status
}

/// What arrived under these names, however they were spelt.
fn sent(seen: &Seen) -> Vec<(String, String)> {
    let ours = ["x-department", "x-member-of", "x-title"];
    let mut sent: Vec<_> = seen
        .headers
        .0
        .iter()
        .filter(|(name, _)| ours.contains(&folded(name).as_str()))
        .cloned()
        .collect();
    sent.sort();
    sent
}

fn expected(department: &str) -> Vec<(String, String)> {
    [
        ("x-department", department),
        ("x-member-of", "Engineering"),
        ("x-member-of", "R&D <x>"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn alice() -> Statement {
    Statement {
        department: "Research, & Development",
        ..Statement::alice()
    }
}

#[tokio::test]
async fn no_client_can_send_such_a_header() {
    let pair = Pair::new("nightly build");
    let world = world(&pair).await;
    let mut browser = world.browser();
    assert_eq!(
        log_in(&mut browser, WIKI, &alice()).await,
        200,
        "{:#?}",
        browser.trail
    );
    let session = format!(
        "Cookie: CF_Authorization={}",
        browser
            .cookie("wiki.localhost", "CF_Authorization")
            .unwrap()
    );
    let [id, secret] = pair.lines();
    let preflight = [
        "Origin: https://front.example.com",
        "Access-Control-Request-Method: PUT",
    ];
    let ways: [(&str, &str, &[&str]); 5] = [
        ("GET", "open.localhost", &[]),
        ("GET", "open.localhost", &[&session]),
        ("GET", "robots.localhost", &[&id, &secret]),
        ("OPTIONS", "wiki.localhost", &preflight),
        ("GET", "wiki.localhost", &[&session]),
    ];
    for (method, host, lines) in ways {
        let hers = (method, host) == ("GET", "wiki.localhost");
        let expected = if hers {
            expected_of_alice()
        } else {
            Vec::new()
        };
        for name in ["X-Department", "X-Member-Of", "X-Title"]
            .into_iter()
            .flat_map(spellings)
        {
            world.origin.forget();
            let line = format!("{name}: Board");
            let all = [lines, &[&line, &line]].concat();
            let answer = world
                .raw(raw::request(method, host, "/", &all))
                .await
                .unwrap();
            if answer.status == 400 {
                world.origin.assert_untouched(&line);
                continue;
            }
            assert_eq!(answer.status, 200, "{method} {host} with {line}");
            assert_eq!(
                sent(&world.origin.last()),
                expected,
                "{method} {host} with {line}"
            );
        }
    }
    for named in ["X-Department", "x-member-of, X-Title"] {
        world.origin.forget();
        let connection = format!("Connection: close, {named}");
        let request = raw::request("GET", "wiki.localhost", "/", &[&session, &connection]);
        let answer = world
            .raw(request.replace("Connection: close\r\n", ""))
            .await;
        if answer.is_some_and(|answer| answer.status == 200) {
            assert_eq!(
                sent(&world.origin.last()),
                expected_of_alice(),
                "{named} was named away"
            );
        } else {
            world.origin.assert_untouched(named);
        }
    }
}

fn expected_of_alice() -> Vec<(String, String)> {
    expected("Research, & Development")
}

#[tokio::test]
async fn they_change_with_the_identity_and_with_the_configuration() {
    let mut world = world(&Pair::new("nightly build")).await;
    let mut browser = world.browser();
    assert_eq!(
        log_in(&mut browser, WIKI, &alice()).await,
        200,
        "{:#?}",
        browser.trail
    );
    assert_eq!(sent(&world.origin.last()), expected_of_alice());
    let token = browser
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    let identity = browser
        .fetch(
            "GET",
            "http://wiki.localhost/cdn-cgi/access/get-identity",
            &[],
            b"",
        )
        .await
        .text();
    assert!(
        !identity.contains("Research"),
        "it is for origins alone: {identity}"
    );

    // In the same session, after its record was brought up to date.
    let moved = Statement {
        department: "Sales",
        ..alice()
    };
    let refresh = "http://access.localhost/cdn-cgi/access/refresh-identity";
    assert_eq!(
        log_in(&mut browser, refresh, &moved).await,
        200,
        "{:#?}",
        browser.trail
    );
    browser.fetch("GET", WIKI, &[], b"").await;
    assert_eq!(sent(&world.origin.last()), expected("Sales"));
    assert_eq!(
        browser.cookie("wiki.localhost", "CF_Authorization"),
        Some(token.as_str())
    );

    // After a restart, from the store.
    world.proxy.stop().await;
    world.proxy.run().await;
    browser.fetch("GET", WIKI, &[], b"").await;
    assert_eq!(sent(&world.origin.last()), expected("Sales"));

    // A name that is not configured is not ours, and so says nothing of anybody.
    let after = world.proxy.log().len();
    world.proxy.config.rest = world
        .proxy
        .config
        .rest
        .replace("header_name = \"X-Department\"", "header_name = \"X-Dept\"");
    world.proxy.write_config();
    world.proxy.signal("HUP");
    world.proxy.logged(after, &["reloaded"]).await;
    browser.fetch("GET", WIKI, &[], b"").await;
    assert_eq!(sent(&world.origin.last()), expected("Sales")[1..]);
}

#[tokio::test]
async fn a_value_that_no_header_can_carry_is_no_login() {
    let world = world(&Pair::new("nightly build")).await;
    let mut browser = world.browser();
    let split = Statement {
        department: "Sales\nX-Title: Boss",
        ..alice()
    };
    assert_eq!(log_in(&mut browser, WIKI, &split).await, 403);
    world
        .proxy
        .logged(
            0,
            &["the attribute `department` has a value that is not allowed in a header"],
        )
        .await;
    assert_eq!(browser.cookie("access.localhost", "CF_Authorization"), None);
    world.origin.assert_untouched("a header in a header");
}
