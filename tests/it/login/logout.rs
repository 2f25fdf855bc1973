//! Signing out: the sessions that end, the page that follows, and requests of other sites.

use std::time::{Duration, Instant};

use url::Url;

use crate::support::{APPLICATIONS, Browser, Person, Portcullis, World, browser};

const WIKI: &str = "http://wiki.localhost/page";
const LOGOUT: &str = "http://wiki.localhost/cdn-cgi/access/logout";
const LANDING: &str = "http://wiki.localhost/?__cf_access_message=logged_out";
const NAVIGATION: &[&str] = &[
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
];

fn to(logout: &str, target: &str) -> String {
    let mut url = Url::parse(logout).unwrap();
    url.query_pairs_mut().append_pair("returnTo", target);
    url.into()
}

#[tokio::test]
async fn logout_ends_on_the_front_page_signed_out() {
    let world = World::start().await;
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let asked = world.idp.count("/oauth2/v1/authorize");
    let page = alice.open(LOGOUT).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (LANDING, 401),
        "{:#?}",
        alice.trail
    );
    assert!(page.response.text().contains("You are signed out."));
    assert_eq!(
        world.idp.count("/oauth2/v1/authorize"),
        asked,
        "the provider would have signed them in again at once"
    );
    let back = browser::link(&page.response.text(), "Back to the application").unwrap();
    let page = alice.open(&back).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("http://wiki.localhost/", 200),
        "{:#?}",
        alice.trail
    );

    // With a session the query means nothing, and for a script there is no redirect to lose itself
    // in.
    assert_eq!(alice.open(LANDING).await.response.status, 200);
    let answer = alice.get(LOGOUT).await;
    assert_eq!((answer.status, answer.headers.one("location")), (200, None));
    assert_eq!(alice.get(WIKI).await.status, 401);

    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let page = alice
        .open("http://access.localhost/cdn-cgi/access/logout")
        .await;
    assert_eq!(
        page.url.as_str(),
        "http://access.localhost/?__cf_access_message=logged_out",
        "{:#?}",
        alice.trail
    );
    assert!(page.response.text().contains("You are signed out."));
}

#[tokio::test]
async fn repeated_sign_in_and_out_causes_no_loop() {
    let world = World::start().await;
    world.idp.script(|script| script.person = Person::alice());
    for logout in [
        LOGOUT,
        "http://access.localhost/cdn-cgi/access/logout",
        "http://app.localhost/cdn-cgi/access/logout",
    ] {
        let mut alice = world.browser();
        for round in 0..6 {
            for page in [WIKI, "http://app.localhost/"] {
                let opened = alice.open(page).await;
                let status = opened.response.status;
                assert_eq!(
                    (opened.url.as_str(), status),
                    (page, 200),
                    "{logout}, round {round}: {:#?}",
                    alice.trail
                );
            }
            alice.open(logout).await;
        }
    }
}

#[tokio::test]
async fn logins_in_two_tabs_and_a_logout_cause_no_loop() {
    let world = World::start().await;
    world.idp.script(|script| script.person = Person::alice());
    for logout in [LOGOUT, "http://access.localhost/cdn-cgi/access/logout"] {
        let mut alice = world.browser();
        let authorized = "http://wiki.localhost/cdn-cgi/access/authorized";
        let one = alice.open_until(WIKI, authorized).await;
        let other = alice.open_until(WIKI, authorized).await;
        assert_eq!(alice.open(one.as_str()).await.response.status, 200);
        assert_eq!(alice.open(other.as_str()).await.response.status, 200);
        alice.open(logout).await;
        alice.assert_opens_in(WIKI, logout).await;
    }
}

#[tokio::test]
async fn return_to_leads_to_a_known_application() {
    let world = World::start().await;
    let known = [
        ("/goodbye?x=1", "http://wiki.localhost/goodbye?x=1"),
        ("http://app.localhost", "http://app.localhost/"),
        (
            "http://app.localhost/a/../b?c=d#e",
            "http://app.localhost/b?c=d",
        ),
        ("http://APP.localhost:80?c=d", "http://app.localhost/?c=d"),
        ("http://access.localhost/", "http://access.localhost/"),
    ];
    for (target, expected) in known {
        let mut alice = world.signed_in(Person::alice(), WIKI).await;
        let answer = alice
            .request("GET", &to(LOGOUT, target), NAVIGATION, b"")
            .await;
        assert_eq!(
            (answer.status, answer.location()),
            (302, expected),
            "{target}"
        );
        assert_eq!(
            alice.cookie("wiki.localhost", "CF_Authorization"),
            None,
            "{target}"
        );
        // Without a session here it goes there by way of the team, which knows best whether there
        // is one.
        let answer = alice
            .request("GET", &to(LOGOUT, target), NAVIGATION, b"")
            .await;
        assert_eq!(
            answer.location(),
            to("http://access.localhost/cdn-cgi/access/logout", expected),
            "{target}"
        );
        let answer = alice
            .request("GET", answer.location(), &NAVIGATION[1..], b"")
            .await;
        assert_eq!(
            (answer.status, answer.location()),
            (302, expected),
            "{target}"
        );
    }
}

#[tokio::test]
async fn r01_return_to_leads_nowhere_else() {
    let world = World::start().await;
    let evil = [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "http:\\\\evil.example",
        "http://evil.example",
        "http://evil.example/wiki.localhost",
        "https://wiki.localhost/",
        "ftp://wiki.localhost/",
        "http://wiki.localhost@evil.example/",
        "http://evil.example@wiki.localhost/",
        "http://user:word@wiki.localhost/",
        "http://wiki.localhost:8080/",
        "http://wiki.localhost:/",
        "http://wiki.localhost.evil.example/",
        "http://x.wiki.localhost/",
        "http://wiki.localhost\\@evil.example/",
        "http://wiki.localhost%2eevil.example/",
        "http://wiki.localhost%00.evil.example/",
        "http:///evil.example",
        "http:evil.example",
        "http:/evil.example",
        "http://wiki.localhost//evil.example",
        "http://127.0.0.1/",
        "http://[::1]/",
        "javascript:alert(1)",
        "data:text/html,x",
        " http://evil.example",
        "\thttp://evil.example",
        "http://wiki.localhost/\r\nSet-Cookie: x=1",
        "wiki.localhost",
        "",
    ];
    let mut nobody = world.browser();
    for target in evil {
        let answer = nobody
            .request(
                "GET",
                &to("http://access.localhost/cdn-cgi/access/logout", target),
                NAVIGATION,
                b"",
            )
            .await;
        let landing = "http://access.localhost/?__cf_access_message=logged_out";
        assert_eq!(
            (answer.status, answer.location()),
            (302, landing),
            "{target:?}"
        );
        assert!(
            !answer
                .headers
                .all("set-cookie")
                .iter()
                .any(|c| c.starts_with("x=")),
            "{target:?}"
        );
    }
    let twice = format!("{LOGOUT}?returnTo=%2Fa&returnTo=http%3A%2F%2Fevil.example");
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    assert_eq!(
        alice
            .request("GET", &twice, NAVIGATION, b"")
            .await
            .location(),
        LANDING
    );
}

#[tokio::test]
async fn logout_from_another_site_needs_confirmation() {
    let world = World::start().await;
    let lines = [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Dest: document",
    ];
    for (target, follows) in [
        ("/bye", Some("http://wiki.localhost/bye")),
        ("http://app.localhost/", None),
    ] {
        let mut alice = world.signed_in(Person::alice(), WIKI).await;
        let answer = alice.request("GET", &to(LOGOUT, target), &lines, b"").await;
        let text = answer.text();
        assert_eq!(answer.status, 200);
        assert_eq!(alice.get(WIKI).await.status, 200, "nothing has ended yet");
        let form = Url::parse(LOGOUT)
            .unwrap()
            .join(&browser::link(&text, "Sign out</button>").unwrap())
            .unwrap();
        let csrf = text
            .split(r#"name="csrf" value=""#)
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let body = format!("csrf={csrf}");
        let refused = alice
            .request("POST", form.as_str(), &lines, body.as_bytes())
            .await;
        assert_eq!(refused.status, 403, "the form is for this site alone");
        let answer = alice
            .request("POST", form.as_str(), NAVIGATION, body.as_bytes())
            .await;
        match follows {
            Some(location) => assert_eq!((answer.status, answer.location()), (303, location)),
            None => {
                assert_eq!(
                    (answer.status, answer.headers.one("location")),
                    (200, None),
                    "a form leads to no other host"
                );
                assert_eq!(
                    browser::link(&answer.text(), "Continue").as_deref(),
                    Some(target)
                );
            }
        }
        assert_eq!(alice.get(WIKI).await.status, 401);
    }
}

#[tokio::test]
async fn session_on_a_path_ends_through_the_team() {
    let (_, admin) = APPLICATIONS.rsplit_once("[[applications]]\n").unwrap();
    let world = World::with(&format!("[[applications]]\n{admin}"), |_| ()).await;
    let mut alice = world
        .signed_in(Person::alice(), "http://app.localhost/admin/x")
        .await;
    let stolen = alice.clone();
    let answer = alice
        .request(
            "GET",
            "http://app.localhost/cdn-cgi/access/logout",
            NAVIGATION,
            b"",
        )
        .await;
    // There is no front page here to come back to.
    let team = "http://access.localhost/cdn-cgi/access/logout";
    assert_eq!((answer.status, answer.location()), (302, team));
    let forgotten = answer.headers.all("set-cookie");
    for path in ["Path=/admin;", "Path=/;"] {
        assert!(
            forgotten
                .iter()
                .any(|c| c.starts_with("CF_Authorization=;") && format!("{c};").contains(path)),
            "{forgotten:?}"
        );
    }
    assert_eq!(alice.cookie("app.localhost", "CF_Authorization"), None);
    let page = alice.open(team).await;
    assert!(
        page.response.text().contains("You are signed out."),
        "{:#?}",
        alice.trail
    );
    let answer = stolen.clone().get("http://app.localhost/admin/x").await;
    assert_eq!(answer.status, 401, "a token from before the logout");
    assert_eq!(world.proxy.events("logout").len(), 1);
}

#[tokio::test]
async fn logout_signs_the_user_out_of_every_browser() {
    let world = World::start().await;
    let mut telephone = world.signed_in(Person::alice(), WIKI).await;
    let mut desk = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let mut bob = world
        .signed_in(Person::bob(), "http://pay.localhost/")
        .await;
    desk.open("http://app.localhost/cdn-cgi/access/logout")
        .await;
    assert_eq!(desk.get("http://app.localhost/").await.status, 401);
    assert_eq!(
        telephone.get(WIKI).await.status,
        401,
        "the other browser's token"
    );
    assert_eq!(
        bob.get("http://pay.localhost/").await.status,
        200,
        "another user's session survives"
    );
    let asked = world.idp.count("/oauth2/v1/authorize");
    world.idp.script(|script| script.person = Person::alice());
    assert_eq!(
        telephone
            .open("http://app.localhost/")
            .await
            .response
            .status,
        200,
        "{:#?}",
        telephone.trail
    );
    assert_eq!(
        world.idp.count("/oauth2/v1/authorize"),
        asked + 1,
        "the other browser's organisation session is over too"
    );
}

#[tokio::test]
async fn logout_everywhere_ends_logins_under_way() {
    let world = World::start().await;
    let begin = "http://wiki.localhost/cdn-cgi/access/authorized";
    let mut elsewhere = world.browser();
    let waiting = elsewhere.open_until(WIKI, begin).await;
    let mut desk = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    desk.open("http://app.localhost/cdn-cgi/access/logout")
        .await;
    let answer = elsewhere
        .request("GET", waiting.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_eq!(answer.headers.one("set-cookie"), None, "{answer:?}");
    assert_eq!(elsewhere.cookie("wiki.localhost", "CF_Authorization"), None);
}

/// On a host that does not receive the session cookie, because that is limited to a path.
#[tokio::test]
async fn another_site_cannot_remove_cookies_of_a_path() {
    let world = World::start().await;
    let logout = "http://wiki.localhost/cdn-cgi/access/logout";
    let ask = |lines: &'static [&'static str]| async {
        world.browser().request("GET", logout, lines, b"").await
    };
    let script = ask(&[
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: cors",
        "Sec-Fetch-Dest: empty",
    ])
    .await;
    assert_eq!(
        (script.status, script.headers.one("set-cookie")),
        (403, None)
    );
    let link = ask(&[
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Dest: document",
    ])
    .await;
    assert_eq!((link.status, link.headers.one("set-cookie")), (302, None));
    let own = ask(NAVIGATION).await;
    assert!(
        own.status == 302 && own.headers.one("set-cookie").is_some(),
        "{own:?}"
    );
}

/// Keeps the cookies of the team domain alone, so that no page accuses the browser of losing the
/// others.
fn forget_application(browser: &mut Browser) {
    browser
        .cookies
        .retain(|cookie| cookie.host == "access.localhost");
}

/// Renews the application session: the login goes on, the token is new.
async fn renew(browser: &mut Browser, url: &str) {
    forget_application(browser);
    assert_eq!(
        browser.open(url).await.response.status,
        200,
        "{:#?}",
        browser.trail
    );
}

#[tokio::test]
async fn token_renewed_in_the_second_of_a_logout_ends_with_its_login() {
    let mut world = World::start().await;
    let mut stolen = Vec::new();
    for _ in 0..4 {
        let mut telephone = world.signed_in(Person::alice(), WIKI).await;
        let mut desk = world
            .signed_in(Person::alice(), "http://app.localhost/")
            .await;
        renew(&mut telephone, WIKI).await;
        desk.open("http://app.localhost/cdn-cgi/access/logout")
            .await;
        assert_eq!(telephone.get(WIKI).await.status, 401);
        stolen.push(telephone.clone());
        forget_application(&mut telephone);
        let asked = world.idp.count("/oauth2/v1/authorize");
        let page = telephone.open(WIKI).await;
        assert_eq!(
            page.response.status, 200,
            "a new login in the same second: {:#?}",
            telephone.trail
        );
        assert_eq!(
            world.idp.count("/oauth2/v1/authorize"),
            asked + 1,
            "it is a new one"
        );
        assert_eq!(telephone.get(WIKI).await.status, 200);
        renew(&mut telephone, WIKI).await;
    }
    world.proxy.stop().await;
    world.proxy.run().await;
    for mut telephone in stolen {
        assert_eq!(telephone.get(WIKI).await.status, 401, "after a restart");
    }
}

#[tokio::test]
async fn login_over_a_session_is_ended_by_later_logouts_alone() {
    let world = World::start().await;
    let mut telephone = world.signed_in(Person::alice(), WIKI).await;
    let mut desk = world.signed_in(Person::alice(), WIKI).await;
    desk.open(LOGOUT).await;
    // The telephone is out, and logs in again twice: the second time over its own session.
    for _ in 0..2 {
        forget_application(&mut telephone);
        let page = telephone.open(WIKI).await;
        assert_eq!(page.response.status, 200, "{:#?}", telephone.trail);
    }
    let refresh = "http://access.localhost/cdn-cgi/access/refresh-identity";
    assert_eq!(
        telephone.open(refresh).await.response.status,
        200,
        "{:#?}",
        telephone.trail
    );
    let before = telephone.clone();
    assert_eq!(
        telephone.get(WIKI).await.status,
        200,
        "no earlier logout ends it"
    );
    let mut desk = world.signed_in(Person::alice(), WIKI).await;
    renew(&mut telephone, WIKI).await;
    desk.open(LOGOUT).await;
    for mut browser in [telephone, before] {
        assert_eq!(browser.get(WIKI).await.status, 401);
    }
}

/// Two processes on one store, and a browser at each.
async fn two_processes(world: &World) -> Portcullis {
    let mut config = world.proxy.config.clone();
    config.store_path = Some(world.proxy.path("portcullis.db"));
    Portcullis::start(config).await
}

/// Waits until the browser's session is over, as it must be soon.
async fn until_signed_out(browser: &mut Browser, why: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while browser.get(WIKI).await.status != 401 {
        assert!(Instant::now() < deadline, "{why}: the session goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn token_renewed_at_a_process_that_lags_is_revoked() {
    let world = World::start().await;
    let other = two_processes(&world).await;
    let mut renewals = 0;
    for _ in 0..20 {
        world.idp.script(|script| script.person = Person::alice());
        let mut telephone = Browser::new(&other);
        assert_eq!(
            telephone.open(WIKI).await.response.status,
            200,
            "{:#?}",
            telephone.trail
        );
        let mut desk = world
            .signed_in(Person::alice(), "http://app.localhost/")
            .await;
        desk.request(
            "GET",
            "http://app.localhost/cdn-cgi/access/logout",
            NAVIGATION,
            b"",
        )
        .await;
        // Tokens that the other process grants before it knows of the logout end with the login.
        forget_application(&mut telephone);
        let before = world.idp.count("/oauth2/v1/authorize");
        telephone.open(WIKI).await;
        let mut here = telephone.clone();
        here.leads_to("wiki.localhost", world.proxy.address);
        if world.idp.count("/oauth2/v1/authorize") > before {
            continue; // It had heard of it, so that this was a new login.
        }
        renewals += 1;
        assert_eq!(
            here.get(WIKI).await.status,
            401,
            "at the process of the logout"
        );
        until_signed_out(&mut telephone, "at the other process").await;
        if renewals == 2 {
            return;
        }
    }
    assert!(renewals > 0, "the other process had heard of every logout");
}

#[tokio::test]
async fn new_login_at_another_process_survives_the_logout_before_it() {
    let world = World::start().await;
    let other = two_processes(&world).await;
    let mut desk = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    desk.request(
        "GET",
        "http://app.localhost/cdn-cgi/access/logout",
        NAVIGATION,
        b"",
    )
    .await;
    let mut telephone = Browser::new(&other);
    assert_eq!(
        telephone.open(WIKI).await.response.status,
        200,
        "{:#?}",
        telephone.trail
    );
    let mut here = telephone.clone();
    here.leads_to("wiki.localhost", world.proxy.address);
    for _ in 0..20 {
        assert_eq!(telephone.get(WIKI).await.status, 200);
        assert_eq!(here.get(WIKI).await.status, 200);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
