//! A session cookie is all or nothing.

use super::{by_script, cookie_line, member};
use crate::support::{Browser, Person, World, assert_refused, leads_to_login, raw};

#[tokio::test]
async fn s01_changed_cookie_is_refused() {
    let world = World::start().await;
    let token = member(&world)
        .await
        .cookie("app.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    let mut changed = Vec::new();
    for at in (0..token.len()).step_by(7) {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        changed.push(String::from_utf8(bytes).unwrap());
    }
    for at in [1, token.len() / 2, token.len() - 1] {
        changed.push(token[..at].to_owned());
        changed.push(format!("{}{}", &token[at..], &token[..at]));
    }
    for more in ["=", ".", "x", "%00", "A"] {
        changed.push(format!("{token}{more}"));
    }
    let mut bodies = std::collections::HashSet::new();
    for bad in &changed {
        let lines = [
            format!("Cookie: CF_Authorization={bad}"),
            "Sec-Fetch-Mode: cors".to_owned(),
        ];
        let answer = world
            .raw(raw::request(
                "GET",
                "app.localhost",
                "/",
                &[&lines[0], &lines[1]],
            ))
            .await;
        assert_refused(answer.as_ref(), bad);
        let answer = answer.unwrap();
        assert_eq!(answer.status, 401, "{bad}");
        bodies.insert(answer.json()["error"].to_string());
    }
    world.origin.assert_untouched("changed cookies");
    assert!(bodies.len() == 1, "one message for all: {bodies:?}");
}

#[tokio::test]
async fn s02_malformed_cookie_counts_as_none() {
    let world = World::start().await;
    let long = "a".repeat(60 * 1024);
    let values = [
        "",
        "%00",
        "\"\"",
        "null",
        "..",
        "....",
        "a.b.c",
        "eyJhbGciOiJSUzI1NiJ9..",
        "{}",
        "é",
        "1",
        "deleted",
        &long,
    ];
    for value in values {
        let line = format!("Cookie: CF_Authorization={value}");
        let answer = world
            .raw(raw::request(
                "GET",
                "app.localhost",
                "/",
                &[&line, "Sec-Fetch-Mode: navigate"],
            ))
            .await;
        assert_refused(answer.as_ref(), value);
        if value.len() < 1000 {
            assert!(
                answer
                    .as_ref()
                    .is_some_and(|a| leads_to_login(a) || a.status == 400),
                "{value}: {answer:?}"
            );
        }
        let answer = by_script(&world, &line).await;
        assert_refused(answer.as_ref(), value);
        world.origin.assert_untouched(value);
    }
    let answer = world
        .raw(raw::request(
            "GET",
            "open.localhost",
            "/",
            &["Cookie: CF_Authorization=garbage"],
        ))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "garbage does not close an open route");
}

#[tokio::test]
async fn s05_cookie_lines_are_split_as_in_rfc_6265() {
    let world = World::start().await;
    let good = cookie_line(&member(&world).await);
    let (_, pair) = good.split_once(' ').unwrap();
    let accepted = [
        format!("Cookie: a=1; {pair}"),
        format!("Cookie: a=1;{pair};b=2"),
        format!("Cookie: a=\"x y\"; {pair}; =; ;;"),
        format!("Cookie: $Version=1; {pair}"),
    ];
    for line in &accepted {
        let answer = by_script(&world, line).await.unwrap();
        assert_eq!(answer.status, 200, "{line:.60}");
    }
    world.origin.forget();
    let not_ours = [
        format!("Cookie: x{pair}"),
        format!(
            "Cookie: cf_authorization={}",
            &pair["CF_Authorization=".len()..]
        ),
        format!("Cookie: a=\"{pair}"),
        format!("Cookie: a={pair}"),
        format!("Cookie: a, {pair}"),
        format!("Cookie: CF_Authorization =x{pair}"),
    ];
    for line in &not_ours {
        let answer = by_script(&world, line).await;
        assert_refused(answer.as_ref(), &format!("{line:.60}"));
        world.origin.assert_untouched(line);
    }
}

#[tokio::test]
async fn s05_many_and_odd_cookies_do_no_harm() {
    let world = World::start().await;
    let good = cookie_line(&member(&world).await);
    let three_hundred: String = (0..300).map(|i| format!("c{i}=v; ")).collect();
    let with_many = format!("{}; {three_hundred}", good);
    let answer = by_script(&world, &with_many).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(world.origin.last().cookies().len(), 300);
    for odd in [
        b"Cookie: \xff\xfe=\xfd; x".as_slice(),
        b"Cookie: ;;;;=;=;",
        b"Cookie:",
        b"Cookie: a=\"b;c\"",
    ] {
        let head = b"GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\nSec-Fetch-Mode: cors\r\n";
        let answer = world.raw([head, odd, b"\r\n\r\n"].concat()).await;
        assert!(
            answer
                .as_ref()
                .is_none_or(|a| matches!(a.status, 400 | 401)),
            "{odd:?}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn s05_two_sessions_never_add_up() {
    let world = World::start().await;
    let low = cookie_line(&member(&world).await);
    let high = cookie_line(
        &world
            .signed_in(Person::alice(), "http://app.localhost/")
            .await,
    );
    world.origin.forget();
    for lines in [[&low, &high], [&high, &low]] {
        let lines: Vec<_> = lines
            .into_iter()
            .map(String::as_str)
            .chain(["Sec-Fetch-Mode: cors"])
            .collect();
        let answer = world
            .raw(raw::request("GET", "app.localhost", "/", &lines))
            .await
            .unwrap();
        if answer.status == 200 {
            let seen = world.origin.last();
            let email = seen
                .headers
                .one("cf-access-authenticated-user-email")
                .unwrap();
            let (_, claims) = crate::support::open_token(seen.assertion().unwrap());
            assert_eq!(claims["email"], email, "one identity, not a mixture");
        } else {
            assert!(matches!(answer.status, 400 | 401), "{}", answer.status);
        }
    }
}

#[tokio::test]
async fn s06_token_is_revoked_within_a_second_of_the_logout() {
    let world = World::start().await;
    let browser = member(&world).await;
    let cookie = cookie_line(&browser);
    let mut leaving = browser.clone();
    leaving
        .open("http://access.localhost/cdn-cgi/access/logout")
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let answer = world
        .raw(raw::request("GET", "app.localhost", "/", &[&cookie]))
        .await;
    assert_refused(answer.as_ref(), "a logout");
    world.origin.assert_untouched("a logout");
    let mut old = browser.clone();
    old.cookies.retain(|c| c.host == "access.localhost");
    let asked = world.idp.count("/oauth2/v1/authorize");
    old.open("http://app.localhost/").await;
    assert!(
        world.idp.count("/oauth2/v1/authorize") > asked,
        "the organisation session is dead too"
    );
}

#[tokio::test]
async fn s06_changed_policy_applies_to_the_next_request() {
    let mut world = World::start().await;
    let mut browser = member(&world).await;
    world.proxy.config.rest = world.proxy.config.rest.replacen(
        "name = \"members\"\ndecision = \"allow\"\ninclude = [{ everyone = {} }]",
        "name = \"members\"\ndecision = \"allow\"\ninclude = [{ email = { email = \"nobody@example.com\" } }]",
        1,
    );
    world.proxy.write_config();
    world.proxy.signal("HUP");
    for _ in 0..600 {
        let answer = browser.get("http://app.localhost/").await;
        if answer.status == 403 {
            return;
        }
        assert_eq!(answer.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("thirty seconds after the reload the old policy holds");
}

#[tokio::test]
async fn s06_invalid_file_keeps_the_running_configuration() {
    let world = World::start().await;
    let mut browser = member(&world).await;
    let before = world.proxy.log().len();
    std::fs::write(world.proxy.path("portcullis.toml"), "[team]\nname = 3\n").unwrap();
    world.proxy.signal("HUP");
    for _ in 0..600 {
        assert_eq!(browser.get("http://app.localhost/").await.status, 200);
        let log = world.proxy.log();
        if log[before..]
            .lines()
            .any(|line| line.contains("portcullis.toml") && line.contains("name"))
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("thirty seconds after the reload the log does not say what is wrong with which file");
}

#[tokio::test]
async fn s11_decisions_of_two_users_are_never_mixed() {
    let world = World::start().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let mut bob = member(&world).await;
    for _ in 0..3 {
        let url = "http://app.localhost/admin";
        assert_eq!(admin(&mut alice, url).await, 200);
        assert!(matches!(admin(&mut bob, url).await, 401 | 403));
    }
}

async fn admin(browser: &mut Browser, url: &str) -> u16 {
    browser.open(url).await.response.status
}

#[tokio::test]
async fn s12_login_responses_are_never_cached() {
    let world = World::start().await;
    let mut browser = world.browser();
    let mut url = "http://wiki.localhost/".to_owned();
    for _ in 0..8 {
        let answer = browser
            .request("GET", &url, &["Sec-Fetch-Mode: navigate"], b"")
            .await;
        let ours = !url.starts_with(&world.idp.issuer) && answer.headers.one("x-from").is_none();
        assert!(
            !ours || answer.headers.lists("cache-control", "no-store"),
            "{url}: {:?}",
            answer.headers
        );
        let Some(location) = answer.headers.one("location") else {
            return;
        };
        url = url::Url::parse(&url)
            .unwrap()
            .join(location)
            .unwrap()
            .into();
    }
    panic!("no end");
}

#[tokio::test]
async fn s14_cookies_are_host_only_http_only_and_random() {
    let world = World::start().await;
    let mut browser = world.browser();
    let mut url = "http://wiki.localhost/".to_owned();
    let mut lines = Vec::new();
    for _ in 0..8 {
        let answer = browser
            .request("GET", &url, &["Sec-Fetch-Mode: navigate"], b"")
            .await;
        if !url.starts_with(&world.idp.issuer) && answer.headers.one("x-from").is_none() {
            lines.extend(
                answer
                    .headers
                    .all("set-cookie")
                    .into_iter()
                    .map(str::to_owned),
            );
        }
        let Some(location) = answer.headers.one("location") else {
            break;
        };
        url = url::Url::parse(&url)
            .unwrap()
            .join(location)
            .unwrap()
            .into();
    }
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines {
        let lower = line.to_lowercase();
        assert!(
            lower.contains("httponly") && lower.contains("samesite=") && !lower.contains("domain="),
            "{line}"
        );
    }
}
