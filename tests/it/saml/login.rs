//! Logins over SAML, with the binary.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use url::Url;

use crate::support::evaluator::{Evaluator, Reply, answer};
use crate::support::saml::{self, ACS, SSO, Statement, form, id, log_in, request, response};
use crate::support::{Browser, World, browser};

pub(super) const WIKI: &str = "http://wiki.localhost/page?q=1";

/// The `wiki` for one department, by way of SAML alone; `more` goes into the provider's `config`.
pub(super) async fn world(more: &str) -> World {
    let rule = r#"
policies = [{ name = "research", decision = "allow", include = [
  { saml = { attribute_name = "department", attribute_value = "Research & Development, Köln", identity_provider_id = "saml" } },
] }]
"#;
    saml::world(&format!("attributes = [\"department\"]\n{more}"), rule).await
}

/// Goes to the provider: the request's id, and its relay state.
pub(super) async fn begin(browser: &mut Browser) -> (String, String) {
    request(&browser.open_until(WIKI, SSO).await)
}

#[tokio::test]
async fn user_logs_in_over_saml() {
    let world = world("").await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    assert!(relay_state.len() <= 80, "bindings 3.4.3: {relay_state}");
    let page = browser
        .post_from_elsewhere(
            ACS,
            &form(&response(&to, &Statement::alice()), &relay_state),
        )
        .await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "{:#?}",
        browser.trail
    );
    assert_eq!(
        world
            .origin
            .last()
            .headers
            .one("cf-access-authenticated-user-email"),
        Some("alice@example.com")
    );
    let identity = browser
        .get("http://wiki.localhost/cdn-cgi/access/get-identity")
        .await
        .json();
    assert_eq!(
        identity["idp"],
        serde_json::json!({"id": "saml", "type": "saml"})
    );
    let groups: Vec<_> = identity["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["name"])
        .collect();
    assert_eq!(groups, ["Engineering", "R&D <x>"]);
    assert!(
        browser
            .cookies
            .iter()
            .all(|cookie| !cookie.name.starts_with("__Host-CF_Session")),
        "the flow is over"
    );
    assert_eq!(world.proxy.events("login").len(), 1);
    assert_eq!(browser.posted, Some(303), "the form is not sent on");
}

#[tokio::test]
async fn user_of_another_department_is_denied() {
    let world = world("").await;
    let mut browser = world.browser();
    let bob = Statement {
        email: "bob@example.com",
        department: "Research",
        ..Statement::alice()
    };
    let page = log_in(&mut browser, WIKI, &bob).await;
    assert_eq!(page.response.status, 403, "{:#?}", browser.trail);
    world.origin.assert_untouched("a denied login");
}

#[tokio::test]
async fn signed_request_is_posted_and_its_certificate_published() {
    let world = world("sign_request = true\nforce_authn = true").await;
    let mut browser = world.browser();
    let page = browser.open(WIKI).await;
    let text = page.response.text();
    assert_eq!(page.response.status, 200);
    assert!(text.contains(&format!(r#"action="{SSO}""#)), "{text}");
    let value = |name: &str| {
        text.split(&format!(r#"name="{name}" value=""#))
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
    };
    let xml = String::from_utf8(BASE64_STANDARD.decode(value("SAMLRequest")).unwrap()).unwrap();
    assert!(
        xml.contains("<ds:SignatureValue>") && xml.contains(r#" ForceAuthn="true""#),
        "{xml}"
    );
    let policy = page
        .response
        .headers
        .one("content-security-policy")
        .unwrap();
    assert!(
        policy.contains("script-src 'sha256-") && policy.contains("default-src 'none'"),
        "{policy}"
    );

    let pem = browser
        .get("http://access.localhost/cdn-cgi/access/public-cert")
        .await
        .text();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
    let published: String = pem
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('-'))
        .collect();
    for path in ["saml-metadata", "saml/saml-metadata"] {
        let url = format!("http://access.localhost/cdn-cgi/access/{path}");
        let answer = browser.get(&url).await;
        assert_eq!(
            answer.headers.one("content-type"),
            Some("application/samlmetadata+xml")
        );
        let text = answer.text();
        assert!(
            text.contains(&published) && text.contains(&format!(r#"entityID="{ACS}""#)),
            "{text}"
        );
    }
    let other = browser
        .get("http://access.localhost/cdn-cgi/access/okta/saml-metadata")
        .await;
    assert_eq!(other.status, 404, "not of SAML");

    let page = browser
        .post_from_elsewhere(
            ACS,
            &form(
                &response(&id(&xml), &Statement::alice()),
                value("RelayState"),
            ),
        )
        .await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "{:#?}",
        browser.trail
    );
}

#[tokio::test]
async fn missing_groups_are_unknown() {
    let world = world("").await;
    let mut browser = world.browser();
    let silent = Statement {
        groups: None,
        ..Statement::alice()
    };
    let page = log_in(&mut browser, WIKI, &silent).await;
    assert_eq!(
        page.response.status, 200,
        "the policy does not look at groups: {:#?}",
        browser.trail
    );
    let identity = browser
        .get("http://wiki.localhost/cdn-cgi/access/get-identity")
        .await
        .json();
    assert_eq!(identity["email"], "alice@example.com");
    assert_eq!(
        identity["groups"],
        serde_json::Value::Null,
        "unknown is not none: {identity}"
    );
}

#[tokio::test]
async fn every_tab_reaches_its_own_page_in_any_order() {
    let world = world("").await;
    let mut browser = world.browser();
    let mut tabs = Vec::new();
    for tab in 0..7 {
        let url = format!("http://wiki.localhost/tab/{tab}?{}", "x".repeat(1800));
        let asked = request(&browser.open_until(&url, SSO).await);
        tabs.push((url, asked));
    }
    let line = browser.cookies_for(&Url::parse(ACS).unwrap(), false);
    assert!(line.len() < 4096, "{} bytes of cookies", line.len());
    // The last one first: its session lets even those continue that lost their cookie.
    for (url, (to, relay_state)) in tabs.iter().rev() {
        let page = browser
            .post_from_elsewhere(ACS, &form(&response(to, &Statement::alice()), relay_state))
            .await;
        assert_eq!(
            (page.url.as_str(), page.response.status),
            (url.as_str(), 200),
            "{:#?}",
            browser.trail
        );
    }
}

#[tokio::test]
async fn lost_cookie_restarts_the_login_once() {
    let world = world("").await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    browser.cookies.clear();
    let answer = form(&response(&to, &Statement::alice()), &relay_state);
    let again = browser.post_until(ACS, &answer, SSO).await;
    let (to, relay_state) = request(&again);
    browser.cookies.clear();
    let page = browser
        .post_from_elsewhere(
            ACS,
            &form(&response(&to, &Statement::alice()), &relay_state),
        )
        .await;
    let text = page.response.text();
    assert!(
        page.response.status == 400 && text.contains("flow_cookie_missing"),
        "{text}"
    );
    assert!(browser::link(&text, "Start again").is_some(), "{text}");
}

#[tokio::test]
async fn only_navigation_starts_a_login() {
    let world = world("").await;
    let login = format!(
        "http://access.localhost/cdn-cgi/access/login/wiki.localhost?redirect_url=/{}",
        "x".repeat(1000)
    );
    for (mode, dest, site, begins) in [
        ("no-cors", "image", "cross-site", false),
        ("cors", "empty", "same-site", false),
        ("navigate", "iframe", "cross-site", false),
        ("navigate", "iframe", "same-site", true),
        ("navigate", "document", "cross-site", true),
    ] {
        let lines = [
            format!("Sec-Fetch-Mode: {mode}"),
            format!("Sec-Fetch-Dest: {dest}"),
            format!("Sec-Fetch-Site: {site}"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = world.browser().request("GET", &login, &lines, b"").await;
        let what = format!("{mode} {dest} {site}");
        assert_eq!(answer.status, if begins { 302 } else { 403 }, "{what}");
        assert_eq!(
            answer.headers.all("set-cookie").is_empty(),
            !begins,
            "{what}"
        );
    }
    assert_eq!(
        world
            .browser()
            .request("GET", &login, &[], b"")
            .await
            .status,
        302,
        "clients that say nothing"
    );
}

#[tokio::test]
async fn unsolicited_response_gets_a_page_with_the_way_in() {
    let world = world("").await;
    let unsolicited = response("_nobody", &Statement::alice());
    for relay_state in ["", "https://wiki.localhost/"] {
        let before = world.proxy.log().len();
        let page = world
            .browser()
            .post_from_elsewhere(ACS, &form(&unsolicited, relay_state))
            .await;
        let text = page.response.text();
        assert_eq!(page.response.status, 400, "{text}");
        assert!(
            text.contains("open the application at its own address")
                && text.contains("saml_unsolicited"),
            "{text}"
        );
        world
            .proxy
            .logged(before, &["a login failed", "start at the application"])
            .await;
    }
    world
        .origin
        .assert_untouched("logins that the provider began");
}

#[tokio::test]
async fn long_bodies_are_read_only_with_saml() {
    let world = World::start().await;
    let body = format!("SAMLResponse={}", "A".repeat(100_000));
    assert_eq!(
        world
            .browser()
            .post_from_elsewhere(ACS, &body)
            .await
            .response
            .status,
        413
    );
}

/// The form from the provider brings no session along, and yet it is the browser's own that is
/// brought up to date.
#[tokio::test]
async fn refresh_over_saml_reaches_running_sessions() {
    let world = world("").await;
    let mut browser = world.browser();
    log_in(&mut browser, WIKI, &Statement::alice()).await;
    assert_eq!(browser.get(WIKI).await.status, 200);
    let refresh = "http://access.localhost/cdn-cgi/access/refresh-identity";
    let moved = Statement {
        department: "Sales",
        ..Statement::alice()
    };
    log_in(&mut browser, refresh, &moved).await;
    assert_eq!(
        browser.get(WIKI).await.status,
        403,
        "the old session, the new department"
    );
}

#[tokio::test]
async fn saml_login_as_another_user_revokes_the_first() {
    let world = world("").await;
    let mut browser = world.browser();
    log_in(&mut browser, WIKI, &Statement::alice()).await;
    let alices = browser.clone();
    let switch =
        "http://access.localhost/cdn-cgi/access/login/wiki.localhost?redirect_url=/page&switch=1";
    let bob = Statement {
        email: "bob@example.com",
        ..Statement::alice()
    };
    log_in(&mut browser, switch, &bob).await;
    let mut alices = alices;
    assert_eq!(alices.get(WIKI).await.status, 401, "in another tab");
}

/// RelayState has no room for an address, and a cookie has little.
#[tokio::test]
async fn long_and_odd_urls_survive_a_saml_login() {
    let world = world("").await;
    let at = |bytes: usize, mark: &str| {
        format!(
            "/app?g={mark}{}",
            "a".repeat(bytes - "/app?g=".len() - mark.len())
        )
    };
    let odd = [
        "/page?b=\\c",
        "/page?q=caf%E9",
        "/caf%E9/page?q=%E9%5C",
        "/page?q=a\\b%E4&path=C:\\x",
    ];
    let long = [
        at(1000, ""),
        at(2049, ""),
        at(3000, "\\"),
        at(4096, "%E9"),
        at(6144, "%E9\\"),
    ];
    for page in odd.iter().map(|page| (*page).to_owned()).chain(long) {
        let url = format!("http://wiki.localhost{page}");
        let arrived = log_in(&mut world.browser(), &url, &Statement::alice()).await;
        let what = format!("{} bytes: {:.60}", page.len(), page);
        assert_eq!(
            arrived.response.status,
            200,
            "{what}: {}",
            arrived.response.text()
        );
        let target = world.origin.last().target;
        assert!(
            target == page,
            "{what}, at the origin {} bytes: {target:.60}",
            target.len()
        );
    }
}

#[tokio::test]
async fn url_beyond_six_kibibytes_is_refused_before_saml() {
    let world = world("").await;
    let mut browser = world.browser();
    let page = browser
        .open(&format!("http://wiki.localhost/app?g={}", "a".repeat(6144)))
        .await;
    let text = page.response.text();
    assert_eq!(page.response.status, 414, "{text}");
    assert!(
        text.contains("too long to return to") && text.contains("target_too_long"),
        "{text}"
    );
    let login = browser::link(&text, "Sign in</a>").unwrap();
    let (to, relay_state) = request(&browser.open_until(&login, SSO).await);
    let page = browser
        .post_from_elsewhere(
            ACS,
            &form(&response(&to, &Statement::alice()), &relay_state),
        )
        .await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("http://wiki.localhost/", 200),
        "{:#?}",
        browser.trail
    );
    // A login that begins at its own address, as links to it do.
    let login = format!(
        "http://access.localhost/cdn-cgi/access/login/wiki.localhost?redirect_url=/{}",
        "a".repeat(6144)
    );
    let page = world.browser().open(&login).await;
    assert!(
        page.response.status == 414 && page.response.text().contains("target_too_long"),
        "{}",
        page.response.text()
    );
}

#[tokio::test]
async fn login_over_http2_may_take_longer_than_a_gap_in_a_body() {
    let service = Evaluator::start().await;
    service.answers(|question| {
        std::thread::sleep(Duration::from_millis(2500));
        Reply::signed(&answer(question, true))
    });
    let url = &service.url;
    let rule = format!(
        r#"
policies = [{{ name = "asked", decision = "allow", include = [
  {{ external_evaluation = {{ evaluate_url = "{url}/evaluate?tenant=1", keys_url = "{url}/keys" }} }},
] }}]
[limits]
body_timeout = "1s"
"#
    );
    let world = saml::world("attributes = [\"department\"]", &rule).await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    let cookies = browser
        .cookies
        .iter()
        .filter(|cookie| cookie.name.starts_with("__Host-CF_Session"));
    let cookies: Vec<_> = cookies
        .map(|cookie| format!("{}={}", cookie.name, cookie.value))
        .collect();
    let stream = tokio::net::TcpStream::connect(world.proxy.address)
        .await
        .unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let _driver = tokio::spawn(connection);
    let request = http::Request::post(ACS)
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("cookie", cookies.join("; "))
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(form(&response_to(&to), &relay_state).into(), true)
        .unwrap();
    let response = tokio::time::timeout(Duration::from_secs(20), response)
        .await
        .unwrap();
    let response = response.expect("a response, no reset");
    assert_eq!(response.status(), 303, "{response:?}");
    assert_eq!(service.questions().len(), 1);
}

fn response_to(to: &str) -> String {
    response(to, &Statement::alice())
}
