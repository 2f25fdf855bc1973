//! Attacks on the login flow: its target, its user, and the answers of the provider.

use url::Url;

use super::APP;
use crate::support::{Person, World, assert_refused};

pub(super) const WIKI: &str = "http://wiki.localhost/page";

#[tokio::test]
async fn r01_return_address_leads_to_a_known_application_only() {
    let world = World::start().await;
    let evil = [
        "//evil.example",
        "/\\evil.example",
        "/%09/evil.example",
        "/\t/evil.example",
        "/%0d/evil.example",
        "/%5cevil.example",
        "///evil.example/%2f..",
        "https:evil.example",
        "http:/\\evil.example",
        "https://wiki.localhost@evil.example",
        "https://wiki.localhost.evil.example",
        "https://evilwiki.localhost",
        "https://wiki.localhost%2eevil.example",
        "javascript:alert(1)",
        "java%0ascript:alert(1)",
        "data:text/html,x",
        "〵evil.example",
        "http://0xd8.0x3a.0xd6.0xce",
        "http://[::ffff:1.2.3.4]",
        "\r\nSet-Cookie: x=1",
        ".evil.example",
        "@evil.example",
        ":80@evil.example/",
    ];
    for target in evil {
        let mut browser = world.browser();
        let first = browser.request("GET", WIKI, &[], b"").await;
        let mut login = Url::parse(first.location()).unwrap();
        let pairs: Vec<_> = login.query_pairs().into_owned().collect();
        login.query_pairs_mut().clear();
        for (name, value) in pairs {
            login.query_pairs_mut().append_pair(
                &name,
                if name == "redirect_url" {
                    target
                } else {
                    &value
                },
            );
        }
        follow_to_the_end(&world, &mut browser, login.as_str(), target).await;
    }
}

/// Follows a login and looks at every place it leads to: the provider, the team domain, the
/// applications, nowhere else.
async fn follow_to_the_end(
    world: &World,
    browser: &mut crate::support::Browser,
    url: &str,
    after: &str,
) {
    let mut url = Url::parse(url).unwrap();

    for _ in 0..10 {
        let known = ["access.localhost", "wiki.localhost", "127.0.0.1"];

        assert!(
            known.contains(&url.host_str().unwrap_or_default()),
            "after {after} sent to {url}"
        );

        assert_eq!(url.scheme(), "http", "after {after} sent to {url}");

        let answer = browser
            .request("GET", url.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
            .await;

        assert_ne!(answer.status, 500, "after {after} at {url}");

        assert_eq!(answer.headers.one("refresh"), None, "after {after}");

        let Some(location) = answer.headers.one("location") else {
            return;
        };

        url = url.join(location).unwrap();
    }

    panic!(
        "after {after} no end; the provider saw {} logins",
        world.idp.count("/oauth2/v1/authorize")
    );
}

#[tokio::test]
async fn r01_path_that_looks_like_a_host_stays_a_path() {
    let world = World::start().await;
    let mut browser = world.browser();
    let page = browser.open("http://app.localhost//evil.example/x").await;
    assert_ne!(page.response.status, 500);
    assert!(
        page.url.host_str() != Some("evil.example"),
        "{:#?}",
        browser.trail
    );
}

#[tokio::test]
async fn r02_state_of_another_browser_is_refused() {
    let world = World::start().await;
    let mut browser = world.browser();
    let callback = world.callback(&mut browser, WIKI).await;
    let state = Url::parse(&callback)
        .unwrap()
        .query_pairs()
        .find(|(n, _)| n == "state")
        .unwrap()
        .1
        .into_owned();
    let mut flipped = state.clone().into_bytes();
    flipped[4] ^= 1;
    let tampered = [
        String::new(),
        String::from_utf8_lossy(&flipped).into_owned(),
        state[..state.len() / 2].to_owned(),
        format!("{state}x"),
        "A".repeat(20_000),
        "%00".into(),
        "../../x".into(),
    ];
    for bad in &tampered {
        let mut url = Url::parse(&callback).unwrap();
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        url.query_pairs_mut().clear().extend_pairs(
            pairs
                .iter()
                .map(|(n, v)| (n, if n == "state" { bad } else { v })),
        );
        let answer = browser
            .clone()
            .request("GET", url.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
            .await;
        assert_no_session(&answer, &format!("state {bad:.40}"));
    }
    let answer = world
        .browser()
        .request("GET", &callback, &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_no_session(&answer, "another browser");
    assert_eq!(
        world.idp.count("/oauth2/v1/token"),
        0,
        "no code was redeemed"
    );
    let page = browser.open(&callback).await;
    assert_eq!(
        page.response.status, 200,
        "and the right one still works: {:#?}",
        browser.trail
    );
}

#[track_caller]
pub(super) fn assert_no_session(answer: &crate::support::Response, after: &str) {
    assert!(
        matches!(answer.status, 302 | 303 | 400 | 401 | 403 | 414 | 431 | 502),
        "after {after}: {}",
        answer.status
    );
    let session = answer
        .headers
        .all("set-cookie")
        .iter()
        .any(|c| c.starts_with("CF_Authorization=ey"));
    assert!(!session, "after {after} a session");
    if matches!(answer.status, 302 | 303) {
        assert!(
            !answer.location().contains("/authorized"),
            "after {after} sent to {}",
            answer.location()
        );
    }
}

#[tokio::test]
async fn r06_repeated_callback_makes_one_token_call() {
    let world = World::start().await;
    let mut browser = world.browser();
    let callback = world.callback(&mut browser, WIKI).await;
    let before = browser.clone();
    assert_eq!(
        browser.open(&callback).await.response.status,
        200,
        "{:#?}",
        browser.trail
    );
    let page = browser.open(&callback).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "the back button: {:#?}",
        browser.trail
    );
    let calls = world.idp.count("/oauth2/v1/token");
    assert_eq!(calls, 1);
    let mut replay = before;
    let answer = replay
        .request("GET", &callback, &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_no_session(&answer, "a replayed callback with the cookies of then");
    assert_eq!(world.idp.count("/oauth2/v1/token"), calls);
}

#[tokio::test]
async fn r12_login_replaces_an_earlier_session() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let first = browser
        .cookie("access.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    browser.cookies.retain(|c| c.host != "access.localhost");
    world.idp.script(|script| script.person = Person::bob());
    let page = browser.open("http://pay.localhost/").await;
    assert_eq!(page.response.status, 200, "{:#?}", browser.trail);
    assert_ne!(
        browser
            .cookie("access.localhost", "CF_Authorization")
            .unwrap(),
        first
    );
    assert_eq!(
        world
            .origin
            .last()
            .headers
            .one("cf-access-authenticated-user-email"),
        Some("bob@example.com")
    );
}

#[tokio::test]
async fn r16_many_fetches_start_no_login() {
    let world = World::start().await;
    let mut browser = world.browser();
    for _ in 0..200 {
        assert_eq!(browser.get(WIKI).await.status, 401);
    }
    assert!(browser.cookies.len() <= 1, "{:?}", browser.cookies);
    assert_eq!(world.idp.count("/oauth2/v1/authorize"), 0);
}

#[tokio::test]
async fn r19_login_parameters_are_not_passed_to_the_provider() {
    let world = World::start().await;
    let mut browser = world.browser();
    let first = browser
        .request("GET", WIKI, &[], b"")
        .await
        .location()
        .to_owned();
    let extra = "&iss=http%3A%2F%2Fevil.example&target_link_uri=http%3A%2F%2Fevil.example&scope=admin&scopes=admin&prompt=none\
                 &redirect_uri=http%3A%2F%2Fevil.example&client_id=evil&state=fixed&nonce=fixed";
    let waiting = browser
        .open_until(&format!("{first}{extra}"), &world.idp.issuer)
        .await;
    for word in ["evil", "admin", "fixed", "prompt"] {
        assert!(!waiting.as_str().contains(word), "`{word}` in {waiting}");
    }
}

#[tokio::test]
async fn r20_pages_cannot_be_framed_and_images_cannot_log_out() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let lines = [
        "Sec-Fetch-Mode: no-cors",
        "Sec-Fetch-Dest: image",
        "Sec-Fetch-Site: cross-site",
    ];
    browser
        .request(
            "GET",
            "http://wiki.localhost/cdn-cgi/access/logout",
            &lines,
            b"",
        )
        .await;
    assert_eq!(
        browser.get(WIKI).await.status,
        200,
        "still logged in after an image of the logout"
    );
    let page = world
        .browser()
        .open("http://access.localhost/cdn-cgi/access/callback")
        .await;
    let policy = page
        .response
        .headers
        .one("content-security-policy")
        .unwrap_or_default();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
}

#[tokio::test]
async fn r21_code_stays_out_of_the_url_and_the_referrer() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.open(WIKI).await;
    for (url, status) in browser.trail.clone() {
        let secret = url
            .query_pairs()
            .any(|(name, _)| matches!(&*name, "code" | "nonce" | "state"));
        if secret && url.host_str() != Some("127.0.0.1") {
            assert!(matches!(status, 302 | 303), "{url} is a page");
        }
    }
    let page = world
        .browser()
        .open("http://access.localhost/cdn-cgi/access/callback?code=x&state=y")
        .await;
    assert_eq!(
        page.response.headers.one("referrer-policy"),
        Some("no-referrer")
    );
}

#[tokio::test]
async fn r22_callback_on_an_application_host_is_not_found() {
    let world = World::start().await;
    let mut browser = world.browser();
    let waiting = browser.open_until(WIKI, &world.idp.issuer).await;
    let mut callback = Url::parse(
        browser
            .request("GET", waiting.as_str(), &[], b"")
            .await
            .location(),
    )
    .unwrap();
    callback.set_host(Some("app.localhost")).unwrap();
    let answer = browser
        .request("GET", callback.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_refused(Some(&answer), "a callback at an application");
    assert_eq!(world.idp.count("/oauth2/v1/token"), 0);
    world
        .origin
        .assert_untouched("a callback at an application");
}

#[tokio::test]
async fn r23_refusal_carries_no_header_of_the_origin() {
    let world = World::start().await;
    for path in [
        "/",
        "/admin",
        "/origin/status/404",
        "/favicon.ico",
        "/robots.txt",
        "/.well-known/x",
    ] {
        let answer = world
            .browser()
            .request("GET", &format!("{APP}{path}"), &[], b"")
            .await;
        assert_refused(Some(&answer), path);
        world.origin.assert_untouched(path);
    }
}

#[tokio::test]
async fn r24_script_of_another_site_cannot_read_the_identity() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let url = "http://wiki.localhost/cdn-cgi/access/get-identity";
    for site in ["cross-site", "same-site"] {
        let lines = [
            format!("Sec-Fetch-Site: {site}"),
            "Sec-Fetch-Mode: cors".into(),
            "Origin: http://app.localhost".into(),
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let answer = browser.request("GET", url, &lines, b"").await;
        assert!(
            answer.status == 403 || answer.headers.one("access-control-allow-origin").is_none(),
            "{site}: {:?}",
            answer.headers
        );
    }
}
