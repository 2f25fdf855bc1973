//! Login CSRF and hand-overs: a login belongs to one browser and one application.

use serde_json::{Value, json};
use url::Url;

use super::flow::{WIKI, assert_no_session};
use crate::support::{Person, World};

#[tokio::test]
async fn r05_code_of_an_attacker_does_not_log_the_victim_in() {
    let world = World::start().await;
    let mut attacker = world.browser();
    let callback = world.callback(&mut attacker, WIKI).await;
    let mut victim = world.browser();
    victim.open_until(WIKI, &world.idp.issuer).await;
    let answer = victim
        .request("GET", &callback, &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_no_session(&answer, "an attacker's code and state");

    // The attacker's code under the victim's own state: nonce and PKCE stand against it.
    let own = world.callback(&mut victim, WIKI).await;
    let code = Url::parse(&callback)
        .unwrap()
        .query_pairs()
        .find(|(n, _)| n == "code")
        .unwrap()
        .1
        .into_owned();
    let mut mixed = Url::parse(&own).unwrap();
    let pairs: Vec<_> = mixed.query_pairs().into_owned().collect();
    mixed.query_pairs_mut().clear().extend_pairs(
        pairs
            .iter()
            .map(|(n, v)| (n, if n == "code" { &code } else { v })),
    );
    let answer = victim
        .request("GET", mixed.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_no_session(&answer, "an attacker's code under the victim's state");
    world.origin.assert_untouched("login with another's code");
}

#[tokio::test]
async fn r05_last_step_is_bound_to_the_browser() {
    let world = World::start().await;
    let mut attacker = world.browser();
    let authorized = attacker
        .open_until(WIKI, "http://wiki.localhost/cdn-cgi/access/authorized")
        .await;
    for mut victim in [
        world.browser(),
        world
            .signed_in(Person::bob(), "http://app.localhost/")
            .await,
    ] {
        let answer = victim
            .request(
                "GET",
                authorized.as_str(),
                &["Sec-Fetch-Mode: navigate"],
                b"",
            )
            .await;
        assert_no_session(&answer, "another browser's authorized");
    }
    let mut elsewhere = authorized.clone();
    elsewhere.set_host(Some("app.localhost")).unwrap();
    let answer = attacker
        .clone()
        .request(
            "GET",
            elsewhere.as_str(),
            &["Sec-Fetch-Mode: navigate"],
            b"",
        )
        .await;
    assert_no_session(&answer, "authorized at another host");
    world.origin.forget();
    let page = attacker.open(authorized.as_str()).await;
    assert_eq!(page.response.status, 200, "{:#?}", attacker.trail);
    let mut thief = world.browser();
    let answer = thief
        .request(
            "GET",
            authorized.as_str(),
            &["Sec-Fetch-Mode: navigate"],
            b"",
        )
        .await;
    assert_no_session(&answer, "authorized a second time");
}

#[tokio::test]
async fn r05_overheard_hand_over_is_used_up() {
    let world = World::start().await;
    let mut owner = world.browser();
    let authorized = owner
        .open_until(WIKI, "http://wiki.localhost/cdn-cgi/access/authorized")
        .await;
    let lines = ["Sec-Fetch-Mode: navigate"];
    let answer = world
        .browser()
        .request("GET", authorized.as_str(), &lines, b"")
        .await;
    assert_no_session(&answer, "a browser without the cookie");
    assert_eq!(
        answer.headers.one("cross-origin-opener-policy"),
        Some("same-origin"),
        "nor does an opener see the page"
    );
    let answer = owner.request("GET", authorized.as_str(), &lines, b"").await;
    assert_no_session(&answer, "what another browser has shown before");
    assert_eq!(
        (answer.status, answer.location()),
        (302, WIKI),
        "the right one begins again"
    );
    owner.assert_opens(WIKI).await;
}

/// A browser with the cookie of another login is sent back to the team domain. From there only the
/// browser of that login reaches the page.
#[tokio::test]
async fn r05_overheard_hand_over_does_not_reveal_its_page() {
    let world = World::start().await;
    let (mut stranger, mut bob) = (world.browser(), world.browser());
    bob.open_as(WIKI, "bob").await;
    for other in [&mut stranger, &mut bob] {
        other
            .request(
                "GET",
                "http://wiki.localhost/",
                &["Sec-Fetch-Mode: navigate"],
                b"",
            )
            .await;
        let mut owner = world.browser();
        let secret = "http://wiki.localhost/reset?token=secret";
        let authorized = owner
            .open_until(secret, "http://wiki.localhost/cdn-cgi/access/authorized")
            .await;
        let page = other.open(authorized.as_str()).await;
        assert!(
            !format!("{page:?} {:?}", other.trail).contains("secret"),
            "{page:?} {:?}",
            other.trail
        );
    }
}

#[tokio::test]
async fn r05_edge_node_redeems_a_hand_over_once() {
    let world = World::start().await;
    let mut owner = world.browser();
    let redeem = async |authorized: &Url, app_session: &str, host: &str| {
        let mut form: Vec<_> = authorized.query_pairs().into_owned().collect();
        form.extend([
            ("app_session".to_owned(), app_session.to_owned()),
            ("hostname".to_owned(), host.to_owned()),
        ]);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let url = "http://access.localhost/cdn-cgi/access/authorized";
        let answer = world
            .browser()
            .request("POST", url, &[], form.as_bytes())
            .await;
        (answer.status, answer.json())
    };
    let begin = "http://wiki.localhost/cdn-cgi/access/authorized";
    let authorized = owner.open_until(WIKI, begin).await;
    let cookie = owner
        .cookie("wiki.localhost", "CF_AppSession")
        .unwrap()
        .to_owned();
    let (status, granted) = redeem(&authorized, &cookie, "wiki.localhost").await;
    assert_eq!((status, &granted["redirect_url"]), (200, &json!("/page")));
    assert!(granted["token"].as_str().unwrap().starts_with("ey"));
    let (status, used) = redeem(&authorized, &cookie, "wiki.localhost").await;
    assert_eq!(
        (status, &used["error"], &used["token"]),
        (409, &json!("used"), &Value::Null)
    );
    let answer = owner.request("GET", authorized.as_str(), &[], b"").await;
    assert_no_session(&answer, "what an edge node has redeemed");

    // A wrong use of a hand-over uses it up.
    for (app_session, host) in [
        ("n0123456789abcdef", "wiki.localhost"),
        (cookie.as_str(), "app.localhost"),
        ("", ""),
    ] {
        let authorized = owner.open_until(WIKI, begin).await;
        let (status, refused) = redeem(&authorized, app_session, host).await;
        let expected = if host == "wiki.localhost" && !app_session.is_empty() {
            "unbound"
        } else {
            "invalid"
        };
        assert_eq!(refused["error"], expected, "{status} {app_session} {host}");
        assert_eq!(
            redeem(&authorized, &cookie, "wiki.localhost").await.0,
            409,
            "{app_session} {host}"
        );
    }
}
