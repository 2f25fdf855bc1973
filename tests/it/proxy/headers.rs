//! Headers at the origin: an identity from us alone, no cookie of ours, and our own forwarding
//! headers.

use serde_json::json;

use crate::support::portcullis::Config;
use crate::support::{APPLICATIONS, Person, World, idp, raw};

/// Every spelling of the identity headers that an origin may read as ours.
fn spoofs() -> Vec<String> {
    let names = [
        "Cf-Access-Jwt-Assertion",
        "Cf-Access-Authenticated-User-Email",
        "Cf-Access-Authenticated-User-Id",
    ];
    names.into_iter().flat_map(spellings).collect()
}

/// Every spelling of a name that an origin may read as that one.
pub fn spellings(name: &str) -> Vec<String> {
    let mut spellings = vec![
        name.to_owned(),
        name.to_uppercase(),
        name.to_lowercase(),
        name.replace('-', "_"),
        name.replacen('-', "_", 1),
        name.to_uppercase().replace('-', "_"),
        name.replacen('-', ".", 1),
    ];
    // Some further characters that RFC 9110 5.6.2 allows in names, and that CGI replaces.
    spellings.extend(
        "!'+|~"
            .chars()
            .map(|mark| name.replace('-', &mark.to_string())),
    );
    spellings.push(name.replacen('-', "~", 1).replacen('-', "_", 1));
    spellings
}

/// A header name as CGI, WSGI and their kind read it.
pub fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

fn identity_headers(seen: &crate::support::origin::Seen) -> Vec<(String, String)> {
    seen.headers
        .0
        .iter()
        .filter(|(name, _)| folded(name).starts_with("cf-access-"))
        .cloned()
        .collect()
}

#[tokio::test]
async fn spoofed_identity_never_arrives_on_an_open_route() {
    let world = World::start().await;
    let token = idp::forged(
        &json!({ "alg": "RS256" }),
        &json!({ "email": "boss@example.com" }),
    );
    for (host, path) in [("open.localhost", "/"), ("app.localhost", "/public/x")] {
        for name in spoofs() {
            for value in ["boss@example.com", &token] {
                world.origin.forget();
                let line = format!("{name}: {value}");
                let answer = world
                    .raw(raw::request("GET", host, path, &[&line, &line]))
                    .await
                    .unwrap();
                if answer.status == 400 {
                    world.origin.assert_untouched(&line);
                    continue;
                }
                assert_eq!(answer.status, 200, "{line}");
                assert_eq!(
                    identity_headers(&world.origin.last()),
                    [],
                    "{host}{path} with {line}"
                );
            }
        }
    }
}

#[tokio::test]
async fn spoofed_identity_never_arrives_beside_the_real_one() {
    let world = World::start().await;
    let mut browser = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let token = browser
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    for name in spoofs() {
        world.origin.forget();
        let answer = browser
            .fetch(
                "GET",
                "http://wiki.localhost/",
                &[&format!("{name}: boss@example.com")],
                b"",
            )
            .await;
        if answer.status == 400 {
            world.origin.assert_untouched(&name);
            continue;
        }
        let mut received = identity_headers(&world.origin.last());
        received
            .iter_mut()
            .for_each(|(name, _)| name.make_ascii_lowercase());
        received.sort();
        let expected = [
            (
                "cf-access-authenticated-user-email".to_owned(),
                "alice@example.com".to_owned(),
            ),
            ("cf-access-jwt-assertion".to_owned(), token.clone()),
        ];
        assert_eq!(received, expected, "with a spoofed {name}");
    }
}

#[tokio::test]
async fn connection_cannot_name_our_headers_away() {
    let world = World::start().await;
    let browser = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let cookie = format!(
        "Cookie: CF_Authorization={}",
        browser
            .cookie("wiki.localhost", "CF_Authorization")
            .unwrap()
    );
    for named in [
        "Cf-Access-Jwt-Assertion",
        "cf-access-authenticated-user-email, cookie",
        "X-Forwarded-For",
        "Host",
    ] {
        world.origin.forget();
        let connection = format!("Connection: close, {named}");
        let request = raw::request("GET", "wiki.localhost", "/", &[&cookie, &connection])
            .replace("Connection: close\r\n", "");
        let Some(answer) = world.raw(request).await else {
            continue;
        };
        if answer.status != 200 {
            assert!(
                matches!(answer.status, 302 | 400 | 401),
                "{named}: {}",
                answer.status
            );
            world.origin.assert_untouched(named);
            continue;
        }
        let seen = world.origin.last();
        assert!(seen.assertion().is_some(), "{named} was named away");
        assert_eq!(
            seen.headers.one("cf-access-authenticated-user-email"),
            Some("alice@example.com"),
            "{named}"
        );
    }
}

#[tokio::test]
async fn our_cookies_are_removed_and_others_pass() {
    let world = World::start().await;
    let browser = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let token = browser
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap();
    let line = format!(
        "Cookie: theme=dark; CF_Authorization={token}; CF_AppSession=n1; a=b=c; CF_Binding=x; CF_AuthorizationX=theirs"
    );
    let answer = world
        .raw(raw::request("GET", "wiki.localhost", "/", &[&line]))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let received = world.origin.last().cookies();
    let expected = [
        ("theme", "dark"),
        ("a", "b=c"),
        ("CF_AuthorizationX", "theirs"),
    ];
    assert_eq!(
        received,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );

    world.origin.forget();
    let answer = world
        .raw(raw::request(
            "GET",
            "open.localhost",
            "/",
            &["Cookie: CF_Authorization=x; CF_AppSession=y"],
        ))
        .await;
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(
        world.origin.last().headers.all("cookie"),
        [""; 0],
        "not on an open route either"
    );
}

#[tokio::test]
async fn forwarding_headers_are_replaced() {
    let world = World::start().await;
    let theirs = [
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 44444444",
        "X-Forwarded-Prefix: /public",
        "X-Forwarded-Uri: /public/a",
        "X-Forwarded-Server: evil",
        "X_Forwarded_For: 203.0.113.9",
        "X.Forwarded.For: 203.0.113.9",
        "X~Forwarded+For: 203.0.113.9",
        "X!Forwarded*Host: evil.example",
        "True.Client.IP: 203.0.113.9",
        "CF.Connecting_IP: 203.0.113.9",
        "Forwarded: for=203.0.113.9;host=evil.example;proto=https",
        "X-Real-IP: 203.0.113.9",
        "True-Client-IP: 203.0.113.9",
        "CF-Connecting-IP: 203.0.113.9",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
    ];
    for host in ["open.localhost", "app.localhost"] {
        world.origin.forget();
        let answer = world
            .raw(raw::request("GET", host, "/public/x", &theirs))
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
        let seen = world.origin.last();
        assert_eq!(seen.headers.one("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.headers.one("x-forwarded-proto"), Some("http"));
        assert_eq!(seen.headers.one("x-forwarded-host"), Some(host));
        let text = format!("{:?}", seen.headers);
        for trace in ["203.0.113.9", "evil", "/public/a", "/admin", "44444444"] {
            assert!(!text.contains(trace), "`{trace}` arrived: {text}");
        }
    }
}

#[tokio::test]
async fn only_a_trusted_proxy_sets_the_client_address() {
    let world = World::with(APPLICATIONS, |config| {
        config.listen = r#"trusted_proxies = ["127.0.0.1/32"]"#.into()
    })
    .await;
    let lines = [
        "X-Forwarded-For: 198.51.100.7, 203.0.113.9",
        "X-Forwarded-Proto: https",
    ];
    world
        .raw(raw::request("GET", "open.localhost", "/", &lines))
        .await
        .unwrap();
    let seen = world.origin.last();
    let chain = seen.headers.one("x-forwarded-for").unwrap();
    assert!(
        chain.contains("203.0.113.9"),
        "the trusted hop's peer is the client: {chain}"
    );
    assert_eq!(seen.headers.one("x-forwarded-proto"), Some("https"));
}

/// An open application for those who come from `range`.
fn near(range: &str) -> String {
    format!(
        r#"
[[applications]]
name = "Near"
domain = "near.$TLD"
origin = "$ORIGIN"
[[applications.policies]]
name = "near"
decision = "bypass"
include = [{{ ip = {{ ip = "{range}" }} }}]
"#
    )
}

fn from(host: &str, chain: &[u8]) -> Vec<u8> {
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Forwarded-For: ");
    [head.as_bytes(), chain, b"\r\n\r\n"].concat()
}

#[tokio::test]
async fn every_spelling_of_a_forwarded_address_is_read() {
    let trust = |config: &mut Config| config.listen = r#"trusted_proxies = ["127.0.0.1"]"#.into();
    let world = World::with(APPLICATIONS, trust).await;
    for (chain, client) in [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:51234", "203.0.113.9"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        (" [2001:db8::7] , [::ffff:127.0.0.1]", "2001:db8::7"),
        ("[::ffff:203.0.113.9]", "203.0.113.9"),
        ("[203.0.113.9]", "0.0.0.0"),
        ("[[2001:db8::7]]", "0.0.0.0"),
        ("[2001:db8::7", "0.0.0.0"),
        ("2001:db8::7]", "0.0.0.0"),
        ("[fe80::1%25eth0]", "0.0.0.0"),
        ("\"203.0.113.9\"", "0.0.0.0"),
        ("203.0.113.9, unknown", "0.0.0.0"),
        ("unknown, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9,", "0.0.0.0"),
        ("203.0.113.009", "0.0.0.0"),
    ] {
        world.origin.forget();
        let answer = world
            .raw(from("open.localhost", chain.as_bytes()))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{chain:?}");
        assert_eq!(
            world.origin.last().headers.all("x-forwarded-for"),
            [client],
            "{chain:?}"
        );
    }
}

#[tokio::test]
async fn unreadable_forwarded_address_is_ignored() {
    let chains: &[(&[u8], &str)] = &[
        (b"\xff", "0.0.0.0"),
        (b"203.0.113.9\xff", "0.0.0.0"),
        (b"203.0.113.9, \xe9", "0.0.0.0"),
        (b"203.0.113.9, 127.0.0.1\xa0", "0.0.0.0"),
        (b"\xff, 203.0.113.9", "203.0.113.9"),
        (b"\xff, 203.0.113.9, 127.0.0.1", "203.0.113.9"),
    ];
    for trusted in [false, true] {
        let listen = if trusted {
            r#"trusted_proxies = ["127.0.0.1"]"#
        } else {
            ""
        };
        let applications = format!("{APPLICATIONS}{}", near("127.0.0.1"));
        let world = World::with(&applications, |config| config.listen = listen.into()).await;
        for (chain, client) in chains {
            world.origin.forget();
            let answer = world.raw(from("open.localhost", chain)).await.unwrap();
            assert_eq!(answer.status, 200, "{chain:?}");
            let expected = if trusted { client } else { "127.0.0.1" };
            assert_eq!(
                world.origin.last().headers.all("x-forwarded-for"),
                [expected],
                "{chain:?} trusted: {trusted}"
            );

            world.origin.forget();
            let answer = world.raw(from("near.localhost", chain)).await.unwrap();
            match trusted {
                false => assert_eq!(answer.status, 200, "the peer alone counts: {chain:?}"),
                true => {
                    assert_ne!(
                        answer.status, 200,
                        "{chain:?} does not come from the proxy itself"
                    );
                    world
                        .origin
                        .assert_untouched("an address that cannot be read");
                }
            }
        }
    }
}

#[tokio::test]
async fn mapped_ipv4_ranges_match_ipv4_addresses() {
    let applications = format!("{APPLICATIONS}{}", near("::ffff:203.0.113.0/120"));
    let trusted = r#"trusted_proxies = ["::ffff:127.0.0.0/104"]"#;
    let world = World::with(&applications, |config| config.listen = trusted.into()).await;
    for (chain, status) in [
        ("203.0.113.9", 200),
        ("::ffff:203.0.113.9", 200),
        ("::ffff:cb00:7109", 200),
        ("203.0.113.9, 127.0.0.2", 200),
        ("203.0.113.9, ::ffff:127.0.0.2", 200),
        ("203.0.114.9", 302),
        ("203.0.113.9, 203.0.114.9", 302),
        ("::203.0.113.9", 302),
        ("64:ff9b::203.0.113.9", 302),
    ] {
        world.origin.forget();
        let answer = world
            .raw(from("near.localhost", chain.as_bytes()))
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{chain}");
        assert_eq!(
            world.origin.seen().len(),
            usize::from(status == 200),
            "{chain}"
        );
    }
}

#[tokio::test]
async fn unchecked_preflight_carries_no_credentials() {
    let bypass = APPLICATIONS.replacen(
        "auto_redirect_to_identity = true",
        "options_preflight_bypass = true",
        1,
    );
    let world = World::with(&bypass, |_| ()).await;
    let browser = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let token = browser.cookie("app.localhost", "CF_Authorization").unwrap();
    let cookie = format!("Cookie: CF_Authorization={token}; theme=dark");
    let overrides = [
        "X-HTTP-Method-Override: DELETE",
        "x_http_method_override: DELETE",
        "X.HTTP.Method.Override: DELETE",
        "X-HTTP-Method: DELETE",
        "X-Method-Override: DELETE",
        "X~Method~Override: DELETE",
        "Authorization: Basic Ym9zczpib3Nz",
        cookie.as_str(),
    ];
    let preflight = [
        "Origin: https://front.example.com",
        "Access-Control-Request-Method: PUT",
    ];
    let answer = world
        .raw(raw::request(
            "OPTIONS",
            "wiki.localhost",
            "/save",
            &[&preflight[..], &overrides[..]].concat(),
        ))
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    let seen = world.origin.last();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("OPTIONS", "/save")
    );
    let names: Vec<_> = seen
        .headers
        .0
        .iter()
        .map(|(name, _)| folded(name))
        .collect();
    for gone in [
        "cookie",
        "authorization",
        "cf-access-jwt-assertion",
        "cf-access-authenticated-user-email",
    ] {
        assert!(!names.iter().any(|name| name == gone), "{gone}: {names:?}");
    }
    assert!(
        !format!("{:?}", seen.headers).contains("DELETE"),
        "{:?}",
        seen.headers
    );
    assert_eq!(
        seen.headers.one("access-control-request-method"),
        Some("PUT")
    );
}

#[tokio::test]
async fn origin_gets_the_id_of_the_audit_event() {
    let world = World::with(
        &format!("[audit]\nallow_sample = 1\n{APPLICATIONS}"),
        |_| (),
    )
    .await;
    let mut browser = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let theirs = ["Cf-Ray: theirs", "CF_RAY: theirs", "cf.ray: theirs"];
    let id_of = |path: &str| {
        let events = world.proxy.events("access");
        let event = events
            .iter()
            .find(|event| event["path"] == path && event["outcome"] == "allowed");
        event.unwrap_or_else(|| panic!("no event for {path}"))["request_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    browser
        .fetch("GET", "http://wiki.localhost/told", &theirs, b"")
        .await;
    let seen = world.origin.last();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(seen.headers.one("cf-ray"), Some(id_of("/told").as_str()));
    assert!(
        !format!("{:?}", seen.headers).contains("theirs"),
        "{:?}",
        seen.headers
    );

    let answer = browser.get("http://wiki.localhost/origin/close").await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let id = id_of("/origin/close");
    assert_eq!(
        (answer.status, answer.headers.one("cf-ray")),
        (502, Some(id.as_str()))
    );
    let warned = world
        .proxy
        .log()
        .lines()
        .any(|line| line.contains("failed to proxy a request") && line.contains(&id));
    assert!(warned, "the warning has the same id");

    // An open page has no audit event, so there is no id.
    world.origin.forget();
    world
        .raw(raw::request("GET", "open.localhost", "/", &theirs))
        .await
        .unwrap();
    let seen = world.origin.last();
    assert!(
        !seen
            .headers
            .0
            .iter()
            .any(|(name, _)| folded(name) == "cf-ray"),
        "{:?}",
        seen.headers
    );
}

#[tokio::test]
async fn origin_gets_the_host_and_target_of_the_decision() {
    let world = World::start().await;
    for target in [
        "/",
        "/a%20b?x=%2F&y=..%2f",
        "/a+b/c",
        "/~u/(x)!$'*,=:@",
        "/%C3%A9",
    ] {
        world.origin.forget();
        let answer = world
            .raw(raw::request("GET", "OPEN.localhost", target, &[]))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{target}");
        let seen = world.origin.last();
        assert_eq!(
            seen.headers.one("host"),
            Some("open.localhost"),
            "the canonical host"
        );
        assert_eq!(
            seen.target.split('?').nth(1),
            target.split('?').nth(1),
            "the query is untouched"
        );
    }
}

#[tokio::test]
async fn headers_of_the_origin_reach_the_client() {
    let world = World::start().await;
    let answer = world
        .raw(raw::request(
            "GET",
            "open.localhost",
            "/origin/cookies",
            &[],
        ))
        .await
        .unwrap();
    assert_eq!(answer.headers.all("set-cookie").len(), 30);
    assert_eq!(answer.headers.one("x-from"), Some("origin"));
    let answer = world
        .raw(raw::request(
            "GET",
            "open.localhost",
            "/origin/status/418",
            &[],
        ))
        .await
        .unwrap();
    assert_eq!(answer.status, 418);
}
