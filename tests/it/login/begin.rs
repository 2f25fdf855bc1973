//! The complete login: two steps over the team domain, and its cookies.

use base64::Engine as _;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::support::portcullis::{Config, Portcullis, find};
use crate::support::{
    APPLICATIONS, Browser, Okta, Origin, Person, World, browser, leads_to_login, open_token, start,
};

pub(super) const WIKI: &str = "http://wiki.localhost/page?q=1&r=a%20b";

const CALLBACK: &str = "http://access.localhost/cdn-cgi/access/callback";

/// A proxy with the certified provider behind it.
pub(super) async fn with_okta(change: impl FnOnce(&mut Config)) -> (Portcullis, Okta, Origin) {
    let okta = Okta::start(&[CALLBACK]);
    let (proxy, origin) = start(&okta.issuer, change).await;
    (proxy, okta, origin)
}

/// Verifies an assertion with the published keys, as an origin does, and returns its claims.
async fn verified_at(proxy: &Portcullis, assertion: &str) -> Value {
    let certs = Browser::new(proxy)
        .get("http://access.localhost/cdn-cgi/access/certs")
        .await
        .json();
    let kid = open_token(assertion).0["kid"].as_str().unwrap().to_owned();
    let keys = certs["keys"].as_array().unwrap();
    let key = keys
        .iter()
        .find(|key| key["kid"] == kid.as_str())
        .expect("the assertion's key is published");
    let key =
        DecodingKey::from_rsa_components(key["n"].as_str().unwrap(), key["e"].as_str().unwrap())
            .unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_aud = false;
    jsonwebtoken::decode::<Value>(assertion, &key, &validation)
        .expect("the assertion verifies")
        .claims
}

#[tokio::test]
async fn member_of_the_group_reaches_the_requested_page() {
    let (proxy, okta, origin) = with_okta(|_| ()).await;
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(WIKI, "alice@example.com").await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "{:#?}",
        browser.trail
    );
    assert_eq!(page.response.json()["target"], "/page?q=1&r=a%20b");

    assert_eq!(
        origin.seen().len(),
        1,
        "only the last request is for the origin"
    );
    let seen = origin.last();
    assert_eq!(
        seen.headers.one("cf-access-authenticated-user-email"),
        Some("alice@example.com")
    );
    let claims = verified_at(&proxy, seen.assertion().unwrap()).await;
    assert_eq!(claims["iss"], "http://access.localhost");
    assert_eq!(claims["type"], "app");
    assert_eq!(claims["email"], "alice@example.com");
    assert!(
        claims["sub"]
            .as_str()
            .is_some_and(|sub| uuid::Uuid::parse_str(sub).is_ok()),
        "{claims}"
    );
    let audience = claims["aud"][0].as_str().unwrap();
    assert!(
        audience.len() == 64 && audience.bytes().all(|b| b.is_ascii_hexdigit()),
        "{claims}"
    );
    let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!(
        (8 * 3600 - 5..=8 * 3600).contains(&lifetime),
        "the application's session duration, counted from the login: {lifetime}"
    );
    assert_eq!(
        claims["groups"],
        Value::Null,
        "groups are in the identity record, not in the cookie"
    );

    assert_eq!(
        okta.count("/oauth2/v1/token").await,
        1,
        "one code, one call"
    );
    assert_eq!(okta.count("/oauth2/v1/userinfo").await, 1);
    assert_eq!(proxy.events("login").len(), 1);
}

#[tokio::test]
async fn first_redirect_has_the_form_that_clients_parse() {
    let world = World::start().await;
    let mut browser = world.browser();
    let answer = browser.request("GET", WIKI, &[], b"").await;
    assert_eq!(answer.status, 302);
    let location = url::Url::parse(answer.location()).unwrap();
    assert_eq!(location.host_str(), Some("access.localhost"));
    assert_eq!(location.path(), "/cdn-cgi/access/login/wiki.localhost");
    let query: std::collections::HashMap<_, _> = location.query_pairs().into_owned().collect();
    assert_eq!(query["kid"].len(), 64);
    assert_eq!(query["redirect_url"], "/page?q=1&r=a%20b");
    assert!(
        answer.headers.lists("cache-control", "no-store"),
        "{:?}",
        answer.headers
    );
    assert!(
        browser.cookie("wiki.localhost", "CF_AppSession").is_some(),
        "{:?}",
        answer.headers
    );
    world.origin.assert_untouched("a request without a session");
}

#[tokio::test]
async fn user_in_the_wrong_group_is_denied() {
    let (proxy, _okta, origin) = with_okta(|_| ()).await;
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(WIKI, "bob@example.com").await;
    assert_eq!(page.response.status, 403, "{:#?}", browser.trail);
    assert!(page.response.text().contains("<html"), "a page for people");
    origin.assert_untouched("a denied login");
    let refusals = proxy.events("login");
    assert_eq!(
        (refusals.len(), find(&refusals[0], "outcome")),
        (1, Some("refused")),
        "{refusals:?}"
    );
    let page = browser.open("http://pay.localhost/").await;
    assert_eq!(
        page.response.status, 200,
        "the same login is good where its groups are: {:#?}",
        browser.trail
    );
}

#[tokio::test]
async fn one_login_serves_a_second_application() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let logins = world.idp.count("/oauth2/v1/authorize");
    browser.assert_opens("http://app.localhost/admin/x").await;
    assert_eq!(
        world.idp.count("/oauth2/v1/authorize"),
        logins,
        "the provider was not asked again"
    );
    let (wiki, app) = (
        browser.cookie("wiki.localhost", "CF_Authorization"),
        browser.cookie("app.localhost", "CF_Authorization"),
    );
    assert_ne!(
        wiki.unwrap(),
        app.unwrap(),
        "each application has its own token"
    );
}

#[tokio::test]
async fn login_page_lists_the_providers_without_auto_redirect() {
    let applications = APPLICATIONS.replace("auto_redirect_to_identity = true", "");
    let world = World::with(&applications, |_| ()).await;
    let mut browser = world.browser();
    let page = browser.open(WIKI).await;
    assert_eq!(
        (page.url.host_str(), page.response.status),
        (Some("access.localhost"), 200)
    );
    assert_eq!(
        page.response.headers.one("cf-access-domain"),
        Some("wiki.localhost")
    );
    let policy = page
        .response
        .headers
        .one("content-security-policy")
        .unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    let choice =
        browser::link(&page.response.text(), "Example Okta").expect("the provider is on the page");
    let choice = page.url.join(&choice).unwrap();
    let page = browser.open(choice.as_str()).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "{:#?}",
        browser.trail
    );
}

#[tokio::test]
async fn every_tab_reaches_its_own_page_in_any_order() {
    let world = World::start().await;
    let mut browser = world.browser();
    let mut tabs = Vec::new();
    for tab in 0..12 {
        let url = format!("http://wiki.localhost/tab/{tab}");
        let waiting = browser.open_until(&url, &world.idp.issuer).await;
        tabs.push((url, waiting));
    }
    assert!(flow_cookies(&browser) <= 5, "{:?}", browser.cookies);
    // An order that is neither that of the start nor its reverse, and begins with a flow that was
    // given up.
    for tab in [2, 11, 0, 7, 5, 10, 3, 8, 1, 9, 6, 4] {
        let (url, waiting) = &tabs[tab];
        let page = browser.open(waiting.as_str()).await;
        assert_eq!(
            (page.url.as_str(), page.response.status),
            (url.as_str(), 200),
            "{:#?}",
            browser.trail
        );
    }
    assert!(flow_cookies(&browser) <= 5, "{:?}", browser.cookies);
}

/// Returns the number of cookies that the team domain set for logins under way.
fn flow_cookies(browser: &Browser) -> usize {
    let team = browser
        .cookies
        .iter()
        .filter(|c| c.host == "access.localhost");
    team.filter(|c| {
        !matches!(
            c.name.as_str(),
            "CF_Authorization" | "CF_Session" | "CF_Device"
        )
    })
    .count()
}

#[tokio::test]
async fn at_most_five_flows_are_kept_and_their_cookies_stay_small() {
    let world = World::start().await;
    let mut browser = world.browser();
    for tab in 0..50 {
        browser
            .open_until(
                &format!("http://wiki.localhost/tab/{tab}"),
                &world.idp.issuer,
            )
            .await;
        assert!(
            flow_cookies(&browser) <= 5,
            "after {tab}: {:?}",
            browser.cookies
        );
    }
    for host in [
        "http://access.localhost/cdn-cgi/access/callback",
        "http://wiki.localhost/",
    ] {
        let line = browser.cookies_for(&url::Url::parse(host).unwrap(), false);
        assert!(
            line.len() < 4096,
            "{} bytes of cookies at {host}",
            line.len()
        );
    }
}

#[tokio::test]
async fn expired_flow_with_a_session_reaches_the_page() {
    let world = World::start().await;
    let mut browser = world.browser();
    let waiting = browser
        .open_until("http://wiki.localhost/late", &world.idp.issuer)
        .await;
    let flows: Vec<_> = browser
        .cookies
        .iter()
        .filter(|c| c.host == "access.localhost")
        .map(|c| c.name.clone())
        .collect();
    let page = browser.open(WIKI).await;
    assert_eq!(page.response.status, 200);
    browser.cookies.retain(|c| {
        !flows.contains(&c.name) || c.name == "CF_Authorization" || c.name == "CF_Session"
    });
    let page = browser.open(waiting.as_str()).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("http://wiki.localhost/late", 200),
        "{:#?}",
        browser.trail
    );
}

#[tokio::test]
async fn browser_without_cookies_gets_a_page_that_names_them() {
    let world = World::start().await;
    let mut browser = world.browser();
    let mut url = WIKI.to_owned();
    for _ in 0..20 {
        browser.cookies.clear();
        let answer = browser
            .request(
                "GET",
                &url,
                &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"],
                b"",
            )
            .await;
        if !matches!(answer.status, 302 | 303) {
            assert_eq!(answer.status, 400);
            assert!(answer.text().contains("cookie"), "{}", answer.text());
            return world.origin.assert_untouched("a login without cookies");
        }
        url = url::Url::parse(&url)
            .unwrap()
            .join(answer.location())
            .unwrap()
            .into();
    }
    panic!("twenty hops without an end");
}

#[tokio::test]
async fn lost_session_cookie_stops_the_third_login() {
    let world = World::start().await;
    let mut browser = world.browser();
    let (mut url, mut rounds) = (url::Url::parse(WIKI).unwrap(), 0);
    for _ in 0..40 {
        rounds += usize::from(url.as_str() == WIKI);
        let answer = browser
            .request("GET", url.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
            .await;
        browser
            .cookies
            .retain(|c| !(c.host == "wiki.localhost" && c.name == "CF_Authorization"));
        if !matches!(answer.status, 302 | 303) {
            let text = answer.text();
            assert_eq!((answer.status, rounds), (400, 3), "{text}");
            assert!(
                text.contains("<code>CF_Authorization</code>") && text.contains("login_loop"),
                "{text}"
            );
            return world.origin.assert_untouched("a loop");
        }
        url = url.join(answer.location()).unwrap();
    }
    panic!("{rounds} rounds without an end");
}

#[tokio::test]
async fn host_with_a_slow_clock_accepts_its_hand_over() {
    let world = World::start().await;
    world.signed_in(Person::alice(), WIKI).await;
    let mut browser = world.browser();
    let login = browser.open_until(WIKI, "http://access.localhost/").await;
    let (mut query, mut meta) = (Vec::new(), None);
    for (name, value) in login.query_pairs().into_owned() {
        if name == "meta" {
            meta = Some(value)
        } else {
            query.push((name, value))
        }
    }
    let (header, mut claims) = open_token(meta.unwrap().trim_end_matches('.'));
    for name in ["iat", "nbf", "exp"] {
        claims[name] = json!(claims[name].as_i64().unwrap() - 3600);
    }
    let encoded = |value: &Value| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    query.push((
        "meta".to_owned(),
        format!("{}.{}.", encoded(&header), encoded(&claims)),
    ));
    let mut login = login;
    login.query_pairs_mut().clear().extend_pairs(query);
    let page = browser.open(login.as_str()).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "{:#?}",
        browser.trail
    );
    let arrivals = browser
        .trail
        .iter()
        .filter(|(url, _)| url.path().ends_with("/authorized"))
        .count();
    let logins = browser
        .trail
        .iter()
        .filter(|(url, _)| url.path().contains("/login/"))
        .count();
    assert_eq!((logins, arrivals), (1, 1), "{:#?}", browser.trail);
}

#[tokio::test]
async fn logout_revokes_the_token_everywhere() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    browser.open("http://app.localhost/").await;
    let stolen = browser.clone();
    let page = browser
        .open("http://wiki.localhost/cdn-cgi/access/logout")
        .await;
    assert!(
        page.response.text().contains("You are signed out."),
        "{:#?}",
        browser.trail
    );
    assert_eq!(
        browser.cookie("wiki.localhost", "CF_Authorization"),
        None,
        "the cookie is deleted"
    );
    world.origin.forget();
    for url in [WIKI, "http://app.localhost/"] {
        let answer = stolen.clone().get(url).await;
        assert_eq!(
            answer.status, 401,
            "{url} with a token from before the logout"
        );
    }
    let answer = stolen
        .clone()
        .request(
            "GET",
            "http://pay.localhost/",
            &["Sec-Fetch-Mode: navigate"],
            b"",
        )
        .await;
    assert!(leads_to_login(&answer));
    world.origin.assert_untouched("a logout");
    assert_eq!(world.proxy.events("logout").len(), 1);
}

#[tokio::test]
async fn sessions_survive_a_restart() {
    let mut world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    world.proxy.stop().await;
    world.proxy.run().await;
    let asked = world.idp.count("/oauth2/v1/authorize");
    let answer = browser.get(WIKI).await;
    assert_eq!(answer.status, 200, "the token is still good");
    let page = browser.open("http://app.localhost/admin").await;
    assert_eq!(
        page.response.status, 200,
        "and so are the organisation session and the groups: {:#?}",
        browser.trail
    );
    assert_eq!(world.idp.count("/oauth2/v1/authorize"), asked);
}

#[tokio::test]
async fn store_file_is_private_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with(APPLICATIONS, |config| config.new_store = true).await;
    let mode = std::fs::metadata(world.proxy.path("portcullis.db"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn login_and_authorized_answer_head() {
    let world = World::start().await;
    let mut browser = world.browser();
    let answer = browser.request("HEAD", WIKI, &[], b"").await;
    assert_eq!(answer.status, 302, "the application");
    let login = browser.request("HEAD", answer.location(), &[], b"").await;
    assert!(
        matches!(login.status, 200 | 302),
        "the login page: {}",
        login.status
    );
    assert_eq!(
        login.headers.one("cf-access-domain"),
        Some("wiki.localhost")
    );

    // A command-line client with an organisation token and no browser walks this way with `HEAD`
    // alone.
    let mut browser = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let mut url = WIKI.to_owned();
    let mut trail = Vec::new();
    loop {
        let answer = browser.request("HEAD", &url, &[], b"").await;
        trail.push((url.clone(), answer.status));
        let authorized = url.contains("/cdn-cgi/access/authorized");
        if authorized {
            let cookie = answer
                .headers
                .all("set-cookie")
                .into_iter()
                .find(|c| c.starts_with("CF_Authorization="));
            assert!(
                cookie.is_some_and(|c| c.contains("Expires=")),
                "{trail:#?}: {:?}",
                answer.headers
            );
            break;
        }
        assert!(trail.len() < 6 && answer.status == 302, "{trail:#?}");
        url = url::Url::parse(&url)
            .unwrap()
            .join(answer.location())
            .unwrap()
            .into();
    }
}

#[tokio::test]
async fn tabs_opened_together_reach_their_own_pages() {
    let world = World::start().await;
    let mut browser = world.browser();
    // The browser asks for all of them before the first answer comes, and keeps the cookie of the
    // last one.
    let mut logins = Vec::new();
    for page in ["http://wiki.localhost/one", "http://wiki.localhost/two?x=1"] {
        let answer = world
            .browser()
            .request("GET", page, &["Sec-Fetch-Mode: navigate"], b"")
            .await;
        logins.push((page, answer.location().to_owned()));
    }
    assert_eq!(
        browser.open(WIKI).await.response.status,
        200,
        "{:#?}",
        browser.trail
    );
    for (page, login) in logins {
        let landed = browser.open(&login).await;
        assert_eq!(
            (landed.url.as_str(), landed.response.status),
            (page, 200),
            "{:#?}",
            browser.trail
        );
    }
}

#[tokio::test]
async fn url_of_six_kibibytes_survives_a_login() {
    let world = World::start().await;
    for piece in [
        "(filters:!(),query:(x:%27a%27))&_a=b",
        "%27",
        "&",
        "a",
        "\\",
    ] {
        let mut target = "/app/kibana?_g=".to_owned();
        while target.len() + piece.len() <= 6 * 1024 {
            target.push_str(piece);
        }
        let url = format!("http://wiki.localhost{target}");
        let mut browser = world.browser();
        let page = browser.open(&url).await;
        assert_eq!(
            page.response.status,
            200,
            "{piece}: {:#?}",
            browser.trail.last()
        );
        assert_eq!(world.origin.last().target, target, "{piece}");
    }
}

#[tokio::test]
async fn paths_arrive_as_sent_after_a_login() {
    let world = World::start().await;
    for target in [
        "/a%2fb//c;d:e/f%20/g%5Ch%252fi?x=C:\\dir",
        "/caf%E9/https://img.test/a.png",
    ] {
        let mut browser = world.browser();
        let page = browser
            .open(&format!("http://wiki.localhost{target}"))
            .await;
        assert_eq!(page.response.status, 200, "{target}: {:#?}", browser.trail);
        assert_eq!(world.origin.last().target, target);
    }
}

#[tokio::test]
async fn url_that_is_too_long_is_refused_before_the_login() {
    let world = World::start().await;
    let mut browser = world.browser();
    let page = browser
        .open(&format!("http://wiki.localhost/?{}", "a".repeat(6 * 1024)))
        .await;
    assert_eq!(page.response.status, 414);
    let text = page.response.text();
    assert!(
        text.contains("too long to return to") && text.contains("target_too_long"),
        "{text}"
    );
    assert!(
        text.contains("http://access.localhost/cdn-cgi/access/login/wiki.localhost?"),
        "{text}"
    );
    world.origin.assert_untouched("a long address");
}
