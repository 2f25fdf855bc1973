//! Cookies that another host of the same domain set for ours: no browser becomes another user, and
//! no user is locked out.

use super::{by_script, member};
use crate::support::{APPLICATIONS, Browser, Person, World, raw};

const PAGE: &str = "http://app.localhost/wiki/page";
const AUTHORIZATION: &str = "CF_Authorization";
const APP_SESSION: &str = "CF_AppSession";

/// A token of another user's login, for the application.
async fn mallorys(world: &World) -> String {
    let mallory = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    mallory
        .cookie("app.localhost", AUTHORIZATION)
        .unwrap()
        .to_owned()
}

/// Different tokens of that login with forged signatures.
fn forgeries(token: &str, number: usize) -> Vec<String> {
    let (message, _) = token.rsplit_once('.').unwrap();
    (0..number)
        .map(|i| format!("{message}.{i:04}{}", "A".repeat(342 - 4)))
        .collect()
}

/// A value of `CF_AppSession` that claims nine logins in a row for `app.localhost`, the last of
/// them at that time.
async fn looping(world: &World, at: &str) -> String {
    let answer = world
        .raw(raw::request(
            "GET",
            "app.localhost",
            "/",
            &["Sec-Fetch-Mode: cors"],
        ))
        .await
        .unwrap();
    let aud = answer.headers.one("cf-access-aud").unwrap();
    format!("n0123456789abcdef.9.{at}.{}", &aud[..8])
}

fn now() -> String {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .to_string()
}

/// The users that the origin saw, one for each request since the last call.
fn told(world: &World) -> Vec<String> {
    let seen = world.origin.seen();
    world.origin.forget();
    seen.iter()
        .map(|r| {
            r.headers
                .one("cf-access-authenticated-user-email")
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn s05_tossed_session_is_expired_and_the_login_restarts() {
    let world = World::start().await;
    let planted = mallorys(&world).await;
    for (domain, path) in [
        ("localhost", "/"),
        ("localhost", "/wiki"),
        ("app.localhost", "/wiki/page"),
        ("localhost", "/wiki/"),
    ] {
        let mut bob = member(&world).await;
        bob.toss(domain, path, AUTHORIZATION, &planted);
        bob.assert_opens_in(PAGE, &format!("{domain} {path}")).await;
        assert_eq!(told(&world), ["bob@example.com"], "{domain} {path}");
        assert!(
            bob.cookies.iter().all(|cookie| !cookie.is_domain),
            "{domain} {path}"
        );
        let answer = bob.get(PAGE).await;
        assert_eq!(answer.status, 200, "{domain} {path}");
        world.origin.forget();
    }
}

#[tokio::test]
async fn s05_returning_tossed_session_ends_on_a_page_about_it() {
    let world = World::start().await;
    let planted = mallorys(&world).await;
    let mut bob = member(&world).await;
    let keep_tossing = |bob: &mut Browser| {
        bob.cookies.retain(|cookie| !cookie.is_domain);
        // No answer expires it there: the browser must not be sent round for ever.
        bob.toss("app.localhost", "/wiki/page", AUTHORIZATION, &planted);
    };
    keep_tossing(&mut bob);
    let authorized = "http://app.localhost/cdn-cgi/access/authorized";
    let back = bob.open_until(PAGE, authorized).await;
    keep_tossing(&mut bob);
    let page = bob.open(back.as_str()).await;
    let text = page.response.text();
    assert_eq!(page.response.status, 400, "{:#?}", bob.trail);
    assert!(
        text.contains("CF_Authorization") && text.contains("session_conflict"),
        "{text}"
    );
    assert_eq!(told(&world), Vec::<String>::new());
    // The page itself expired it once more, so that the way on works.
    let again = crate::support::browser::link(&text, "Start again</a>").unwrap();
    assert_eq!(
        bob.open(&again).await.response.status,
        200,
        "{:#?}",
        bob.trail
    );
    assert_eq!(told(&world), ["bob@example.com"]);
}

#[tokio::test]
async fn s05_script_gets_a_conflict_as_json() {
    let world = World::start().await;
    let planted = mallorys(&world).await;
    let bob = member(&world).await;
    let own = bob.cookie("app.localhost", AUTHORIZATION).unwrap();
    for (one, other) in [(planted.as_str(), own), (own, planted.as_str())] {
        let line = format!("Cookie: {AUTHORIZATION}={one}; {AUTHORIZATION}={other}");
        let answer = by_script(&world, &line).await.unwrap();
        assert_eq!(
            (answer.status, answer.json()["reason"].as_str()),
            (401, Some("session_conflict"))
        );
        world.origin.assert_untouched("two logins");
        let answer = world
            .raw(raw::request("GET", "app.localhost", "/a/b/c/d", &[&line]))
            .await
            .unwrap();
        assert_eq!(answer.status, 302);
        let expired = answer.headers.all("set-cookie");
        let bytes: usize = expired.iter().map(|line| line.len()).sum();
        assert!(
            expired.len() < 30 && bytes < 6_000,
            "{} lines, {bytes} bytes",
            expired.len()
        );
        for wanted in [
            "Path=/; Max-Age=0",
            "Path=/; Domain=localhost; Max-Age=0",
            "Path=/a/b/c/d; Domain=app.localhost",
        ] {
            assert!(
                expired
                    .iter()
                    .any(|line| line.starts_with("CF_Authorization=;") && line.contains(wanted)),
                "{wanted}: {expired:#?}"
            );
        }
        let identity = raw::request(
            "GET",
            "app.localhost",
            "/cdn-cgi/access/get-identity",
            &[&line],
        );
        let answer = world.raw(identity).await.unwrap();
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (401, Some("session_conflict"))
        );
    }
}

#[tokio::test]
async fn s05_tossed_organisation_session_is_not_accepted() {
    let world = World::start().await;
    let mallory = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let planted = mallory.cookie("access.localhost", AUTHORIZATION).unwrap();
    let mut bob = member(&world).await;
    bob.toss("localhost", "/cdn-cgi", AUTHORIZATION, planted);
    bob.cookies.retain(|cookie| cookie.host != "app.localhost");
    let asked = world.idp.count("/oauth2/v1/authorize");
    bob.assert_opens(PAGE).await;
    assert_eq!(told(&world), ["bob@example.com"]);
    assert_eq!(
        world.idp.count("/oauth2/v1/authorize"),
        asked + 1,
        "neither session was used"
    );
    assert!(bob.cookies.iter().all(|cookie| !cookie.is_domain));

    // It comes back within the minute: a page, and not the provider for every application that is
    // opened.
    bob.toss("localhost", "/cdn-cgi", AUTHORIZATION, planted);
    bob.cookies.retain(|cookie| cookie.host != "app.localhost");
    let page = bob.open(PAGE).await;
    assert_eq!(page.response.status, 400, "{:#?}", bob.trail);
    assert!(page.response.text().contains("session_conflict"));
    assert_eq!(world.idp.count("/oauth2/v1/authorize"), asked + 1);
    assert_eq!(told(&world), Vec::<String>::new());
}

#[tokio::test]
async fn s05_planted_hand_over_with_its_cookie_is_refused() {
    let world = World::start().await;
    // Mallory's own login, up to the hand-over, which is bound to the cookie that comes along with
    // it.
    world.idp.script(|script| script.person = Person::alice());
    let mut mallory = world.browser();
    let planted = mallory
        .open_until(PAGE, "http://app.localhost/cdn-cgi/access/authorized")
        .await;
    let binding = mallory
        .cookie("app.localhost", "CF_AppSession")
        .unwrap()
        .to_owned();
    let mut bob = member(&world).await;
    bob.toss("localhost", "/cdn-cgi", "CF_AppSession", &binding);
    let page = bob.open(planted.as_str()).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (PAGE, 200),
        "{:#?}",
        bob.trail
    );
    assert_eq!(told(&world), ["bob@example.com"]);
}

#[tokio::test]
async fn s05_junk_cookie_does_not_lock_the_user_out() {
    let world = World::start().await;
    let mut bob = member(&world).await;
    for i in 0..40 {
        bob.toss(
            "localhost",
            &format!("/wiki{}", "/".repeat(i % 2)),
            AUTHORIZATION,
            &format!("junk{i}"),
        );
    }
    let page = bob.open(PAGE).await;
    assert_eq!(
        (page.response.status, bob.trail.len()),
        (200, 1),
        "{:#?}",
        bob.trail
    );
    assert_eq!(told(&world), ["bob@example.com"]);
}

#[tokio::test]
async fn s05_logout_revokes_every_session_that_is_sent() {
    let world = World::start().await;
    let mallory = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let planted = mallory.cookie("app.localhost", AUTHORIZATION).unwrap();
    let mut bob = member(&world).await;
    let own = bob
        .cookie("app.localhost", AUTHORIZATION)
        .unwrap()
        .to_owned();
    bob.toss("localhost", "/cdn-cgi", AUTHORIZATION, planted);
    bob.open("http://app.localhost/cdn-cgi/access/logout").await;
    let line = format!("Cookie: {AUTHORIZATION}={own}");
    let answer = by_script(&world, &line).await.unwrap();
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (401, Some("session_revoked"))
    );
}

#[tokio::test]
async fn s05_tossed_login_counter_does_not_lock_the_user_out() {
    let world = World::start().await;
    let later = looping(&world, "99999999999").await;
    for own in [true, false] {
        for path in ["/wiki", "/"] {
            let mut bob = member(&world).await;
            bob.cookies.retain(|cookie| {
                cookie.name != AUTHORIZATION && (own || cookie.name != APP_SESSION)
            });
            bob.toss("localhost", path, APP_SESSION, &later);
            bob.assert_opens_in(PAGE, &format!("{own} {path}")).await;
        }
    }
    // A count of this moment stops one login, and the page ends it.
    let mut bob = member(&world).await;
    bob.cookies
        .retain(|cookie| cookie.name != AUTHORIZATION && cookie.name != APP_SESSION);
    bob.toss(
        "localhost",
        "/wiki",
        APP_SESSION,
        &looping(&world, &now()).await,
    );
    let page = bob.open(PAGE).await;
    assert_eq!(page.response.status, 400, "{:#?}", bob.trail);
    assert!(page.response.text().contains("login_loop"));
    bob.assert_opens(PAGE).await;
    // Beside one's own it counts for nothing.
    let mut bob = member(&world).await;
    bob.cookies.retain(|cookie| cookie.name != AUTHORIZATION);
    bob.toss(
        "localhost",
        "/wiki",
        APP_SESSION,
        &looping(&world, &now()).await,
    );
    bob.assert_opens(PAGE).await;
    assert!(
        bob.cookies.iter().all(|cookie| !cookie.is_domain),
        "{:#?}",
        bob.cookies
    );
}

#[tokio::test]
async fn s05_returning_tossed_binding_causes_no_loop() {
    let world = World::start().await;
    let mut bob = member(&world).await;
    let authorized = "http://app.localhost/cdn-cgi/access/authorized";
    let lose = |bob: &mut Browser| {
        bob.cookies
            .retain(|cookie| cookie.name != AUTHORIZATION || cookie.host != "app.localhost");
        bob.cookies.retain(|cookie| !cookie.is_domain);
        bob.toss(
            "app.localhost",
            "/wiki/page",
            APP_SESSION,
            "n0123456789abcdef",
        );
    };
    lose(&mut bob);
    let first = bob.open_until(PAGE, authorized).await;
    assert!(first.as_str().starts_with(authorized), "{:#?}", bob.trail);
    bob.open_until(first.as_str(), PAGE).await;
    lose(&mut bob);
    let page = bob.open(PAGE).await;
    assert_eq!(page.response.status, 400, "{:#?}", bob.trail);
    assert!(
        page.response.text().contains(APP_SESSION),
        "{}",
        page.response.text()
    );
}

#[tokio::test]
async fn s05_two_tossed_cookies_are_both_expired() {
    let world = World::start().await;
    let planted = mallorys(&world).await;
    for path in ["/cdn-cgi", "/"] {
        let mut bob = member(&world).await;
        bob.toss("localhost", "/", AUTHORIZATION, &planted);
        bob.toss("localhost", path, APP_SESSION, "n0123456789abcdef");
        bob.assert_opens_in(PAGE, path).await;
        assert_eq!(told(&world), ["bob@example.com"], "{path}");
        assert!(bob.cookies.iter().all(|cookie| !cookie.is_domain), "{path}");
    }
}

#[tokio::test]
async fn s05_forged_tokens_do_not_prevent_a_logout() {
    let world = World::start().await;
    let bob = member(&world).await;
    let own = bob.cookie("app.localhost", AUTHORIZATION).unwrap();
    let mut cookies: Vec<_> = forgeries(own, 60)
        .iter()
        .map(|forged| format!("{AUTHORIZATION}={forged}"))
        .collect();
    cookies.push(format!("{AUTHORIZATION}={own}"));
    let lines = [
        &format!("Cookie: {}", cookies.join("; ")),
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-Mode: navigate",
    ];
    let identity = raw::request(
        "GET",
        "app.localhost",
        "/cdn-cgi/access/get-identity",
        &lines[..1],
    );
    let answer = world.raw(identity).await.unwrap();
    assert_eq!(
        (answer.status, answer.json()["email"].as_str()),
        (200, Some("bob@example.com"))
    );
    let answer = world
        .raw(raw::request("GET", "app.localhost", "/wiki", &lines))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let logout = raw::request("GET", "app.localhost", "/cdn-cgi/access/logout", &lines);
    assert_eq!(world.raw(logout).await.unwrap().status, 302);
    assert_eq!(reason(&world, own).await, "session_revoked");
}

#[tokio::test]
async fn s05_logout_that_misses_the_session_fails() {
    let limits = "[limits]\nheader_bytes = \"1MiB\"\n";
    let world = World::with(&format!("{APPLICATIONS}\n{limits}"), |_| ()).await;
    let bob = member(&world).await;
    for (host, logout) in [("app.localhost", 1), ("access.localhost", 2)] {
        let own = bob.cookie(host, AUTHORIZATION).unwrap();
        let mut cookies: Vec<_> = forgeries(own, 300)
            .iter()
            .map(|forged| format!("{AUTHORIZATION}={forged}"))
            .collect();
        cookies.push(format!("{AUTHORIZATION}={own}"));
        let cookies = format!("Cookie: {}", cookies.join("; "));
        let identity = raw::request("GET", host, "/cdn-cgi/access/get-identity", &[&cookies]);
        let answer = world.raw(identity).await.unwrap();
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (401, Some("session_conflict")),
            "{host}"
        );
        let lines = |site: &'static str| {
            [
                cookies.clone(),
                format!("Sec-Fetch-Site: {site}"),
                "Sec-Fetch-Mode: navigate".to_owned(),
            ]
        };
        let send = |site| {
            let lines = lines(site);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            world.raw(raw::request("GET", host, "/cdn-cgi/access/logout", &lines))
        };
        let answer = send("same-origin").await.unwrap();
        assert_eq!(answer.status, 400, "{host}");
        assert!(
            answer.text().contains("session_conflict"),
            "{}",
            answer.text()
        );
        let expired = answer.headers.all("set-cookie");
        assert!(expired.iter().any(
            |line| line.starts_with("CF_Authorization=;") && line.contains("Domain=localhost")
        ));
        let metric = format!("portcullis_logouts_total{{outcome=\"invalid\"}} {logout}");
        assert!(world.proxy.metrics().await.contains(&metric), "{metric}");
    }
    let own = bob.cookie("app.localhost", AUTHORIZATION).unwrap();
    let line = format!("Cookie: {AUTHORIZATION}={own}");
    assert_eq!(
        world
            .raw(raw::request("GET", "app.localhost", "/wiki", &[&line]))
            .await
            .unwrap()
            .status,
        200
    );
}

/// The reason for which a session is refused.
async fn reason(world: &World, token: &str) -> String {
    let line = format!("Cookie: {AUTHORIZATION}={token}");
    let answer = by_script(world, &line).await.unwrap();
    answer.json()["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}
