//! Hosts, methods and framing: each request is decided as the origin would read it.

use super::{cookie_line, member};
use crate::support::{APPLICATIONS, World, assert_refused, leads_to_login, raw};

#[tokio::test]
async fn p17_hosts_that_disagree_are_malformed() {
    let world = World::start().await;
    let requests = [
        "GET / HTTP/1.1\r\nHost: open.localhost\r\nHost: app.localhost\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.localhost\r\nhost: app.localhost\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: open.localhost, app.localhost\r\nConnection: close\r\n\r\n",
        "GET http://app.localhost/ HTTP/1.1\r\nHost: open.localhost\r\nConnection: close\r\n\r\n",
        "GET http://open.localhost/ HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: open.localhost/app.localhost\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@open.localhost\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: open.localhost\x0b\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    ];
    for request in requests {
        let answer = world.raw(request).await;
        assert!(
            answer
                .as_ref()
                .is_none_or(|a| matches!(a.status, 400 | 421)),
            "{request}: {answer:?}"
        );
        world.origin.assert_untouched(request);
    }
}

#[tokio::test]
async fn p17_http2_authority_and_host_that_disagree_are_malformed() {
    let world = World::start().await;
    for (authority, host) in [
        ("open.localhost", "app.localhost"),
        ("app.localhost", "open.localhost"),
        ("open.localhost", "open.localhost:81"),
        ("open.localhost", "open.localhost, app.localhost"),
        ("open.localhost", ""),
        ("user@open.localhost", "open.localhost"),
    ] {
        let mut connection = raw::Connection2::plain(world.proxy.address).await;
        let uri = format!("http://{authority}/");
        let request = http::Request::get(uri)
            .header("host", host)
            .body(())
            .unwrap();
        let status = connection
            .request(request, b"")
            .await
            .ok()
            .map(|answer| answer.head.status.as_u16());
        assert!(
            status.is_none_or(|status| matches!(status, 400 | 421)),
            "{authority} {host}: {status:?}"
        );
        world.origin.assert_untouched(authority);
    }
}

#[tokio::test]
async fn p18_hosts_are_compared_in_their_canonical_form() {
    let world = World::start().await;
    for host in [
        "APP.LocalHost",
        "app.localhost.",
        "app.localhost:80",
        "APP.localhost.:80",
    ] {
        let answer = world
            .raw(raw::request("GET", host, "/admin", &[]))
            .await
            .unwrap();
        assert!(
            leads_to_login(&answer) || matches!(answer.status, 400 | 421),
            "{host}: {}",
            answer.status
        );
        let answer = world
            .raw(raw::request("GET", host, "/public/", &[]))
            .await
            .unwrap();
        assert!(
            matches!(answer.status, 200 | 400 | 421),
            "{host}: {}",
            answer.status
        );
        if answer.status == 200 {
            assert_eq!(
                world.origin.last().headers.one("host"),
                Some("app.localhost"),
                "{host}"
            );
        }
        world.origin.forget();
    }
    for host in [
        "app.localhost:81",
        "app.localhost:443",
        "app.localhost:x",
        "app..localhost",
        ".app.localhost",
    ] {
        let answer = world.raw(raw::request("GET", host, "/public/", &[])).await;
        assert!(
            answer
                .as_ref()
                .is_none_or(|a| matches!(a.status, 400 | 404 | 421)),
            "{host}: {answer:?}"
        );
        world.origin.assert_untouched(host);
    }
}

#[tokio::test]
async fn p20_method_rule_sees_the_method_that_arrives() {
    let hooks = r#"
[[applications]]
domain = "hooks.$TLD"
origin = "$ORIGIN"
[[applications.policies]]
name = "posts"
decision = "bypass"
include = [{ portcullis_method = { methods = ["POST"] } }]
"#;
    let world = World::with(&format!("{APPLICATIONS}{hooks}"), |_| ()).await;
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x_http_method_override",
        "X-HTTP-Verb",
        "X-Original-Method",
        "X.Method",
        "HTTP-Method-Override",
        "_method",
    ] {
        let line = format!("{name}: DELETE");
        let answer = world
            .raw(raw::request(
                "POST",
                "hooks.localhost",
                "/",
                &[&line, "Content-Length: 0"],
            ))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{name}");
        let seen = world.origin.last();
        assert!(
            !seen.headers.0.iter().any(|(_, value)| value == "DELETE"),
            "{name}: {seen:?}"
        );
        world.origin.forget();
        // If no rule depends on the method, the header is the application's.
        world
            .raw(raw::request(
                "POST",
                "open.localhost",
                "/?_method=DELETE",
                &[&line, "Content-Length: 0"],
            ))
            .await
            .unwrap();
        let seen = world.origin.last();
        assert!(
            seen.headers.0.iter().any(|(_, value)| value == "DELETE"),
            "{name}: {seen:?}"
        );
        world.origin.forget();
    }
    for query in [
        "_method%00=DELETE",
        "_method=DELETE",
        "a=b&_method=DELETE",
        "a=b;_method=DELETE",
        "%5Fmethod=DELETE",
        "X-HTTP-Method-Override=PUT",
    ] {
        let target = format!("/?{query}");
        let answer = world
            .raw(raw::request(
                "POST",
                "hooks.localhost",
                &target,
                &["Content-Length: 0"],
            ))
            .await
            .unwrap();
        assert_eq!(answer.status, 405, "{query}");
        world.origin.assert_untouched(query);
    }
}

#[tokio::test]
async fn p21_trace_and_connect_get_405_and_close() {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    for (method, target) in [
        ("TRACE", "/"),
        ("CONNECT", "app.localhost:80"),
        ("CONNECT", "/"),
        ("TRACE", "/public/"),
    ] {
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: app.localhost\r\n{cookie}\r\n\r\n");
        let next = raw::request("GET", "open.localhost", "/after", &[]);
        let answer = world.raw(request + &next).await;
        assert!(
            answer
                .as_ref()
                .is_none_or(|a| matches!(a.status, 400 | 405)),
            "{method} {target}: {answer:?}"
        );
        world.origin.assert_untouched(method);
    }
}

#[tokio::test]
async fn p21_unknown_methods_are_decided_like_any_other() {
    let world = World::start().await;
    for method in ["get", "GETX", "PRI", "PROPFIND", "Q"] {
        let answer = world
            .raw(raw::request(method, "app.localhost", "/admin", &[]))
            .await;
        assert_refused(answer.as_ref(), method);
        world.origin.assert_untouched(method);
    }
}

#[tokio::test]
async fn p22_options_is_decided_like_any_other_method() {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    let preflight = [
        "Origin: https://evil.example",
        "Access-Control-Request-Method: DELETE",
    ];
    for lines in [
        &[][..],
        &[cookie.as_str(), "X-Forwarded-User: root"],
        &preflight,
    ] {
        let answer = world
            .raw(raw::request("OPTIONS", "app.localhost", "/admin", lines))
            .await;
        assert_refused(answer.as_ref(), "OPTIONS");
        world.origin.assert_untouched("OPTIONS");
    }
    let answer = world
        .raw(raw::request("OPTIONS", "app.localhost", "*", &[]))
        .await;
    assert_refused(answer.as_ref(), "OPTIONS *");
    world.origin.assert_untouched("OPTIONS *");
}

#[tokio::test]
async fn p22_real_preflight_passes_without_an_identity() {
    let applications = APPLICATIONS.replacen(
        "domain = \"app.$TLD\"",
        "domain = \"app.$TLD\"\noptions_preflight_bypass = true",
        1,
    );
    let world = World::with(&applications, |_| ()).await;
    let cookie = cookie_line(&member(&world).await);
    let forged = "Cf-Access-Authenticated-User-Email: root@example.com";
    let preflight = [
        "Origin: https://front.example",
        "Access-Control-Request-Method: DELETE",
        forged,
        &cookie,
    ];
    let answer = world
        .raw(raw::request("OPTIONS", "app.localhost", "/", &preflight))
        .await
        .unwrap();
    let seen = world.origin.last();
    assert_eq!((answer.status, seen.assertion()), (200, None));
    assert_eq!(seen.headers.one("cf-access-authenticated-user-email"), None);
    assert!(seen.cookies().is_empty(), "{seen:?}");
    world.origin.forget();
    for lines in [
        &preflight[..1],
        &preflight[1..2],
        &[
            "Access-Control-Request-Method: DELETE",
            "X-Forwarded-User: root",
        ],
    ] {
        let answer = world
            .raw(raw::request("OPTIONS", "app.localhost", "/", lines))
            .await;
        assert_refused(answer.as_ref(), "half a preflight");
        world.origin.assert_untouched("half a preflight");
    }
    // The application that covers `/admin` does not let preflights pass.
    let answer = world
        .raw(raw::request(
            "OPTIONS",
            "app.localhost",
            "/admin",
            &preflight,
        ))
        .await;
    assert_refused(answer.as_ref(), "a preflight of another application");
    world
        .origin
        .assert_untouched("a preflight of another application");
}

#[tokio::test]
async fn p23_user_agent_grants_no_access() {
    let world = World::start().await;
    for agent in [
        "GoogleHC/1.0",
        "kube-probe/1.30",
        "ELB-HealthChecker/2.0",
        "Envoy/HC",
    ] {
        for target in ["/", "/healthz", "/readyz", "/cdn-cgi/access/get-identity"] {
            let line = format!("User-Agent: {agent}");
            let answer = world
                .raw(raw::request("GET", "app.localhost", target, &[&line]))
                .await;
            assert_refused(answer.as_ref(), &line);
        }
    }
    world
        .origin
        .assert_untouched("health checks on the public listener");
}

#[tokio::test]
async fn p17_absolute_form_with_an_equal_host_is_accepted() {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    for (target, arrives) in [
        ("http://app.localhost/a//b?c=d", "/a//b?c=d"),
        ("http://app.localhost/a/../b", "/b"),
        ("http://app.localhost", "/"),
        ("http://app.localhost?c=d", "/?c=d"),
    ] {
        let answer = world
            .raw(raw::request("GET", "app.localhost", target, &[&cookie]))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{target}");
        let seen = world.origin.last();
        assert_eq!(
            (seen.target.as_str(), seen.headers.one("host")),
            (arrives, Some("app.localhost")),
            "{target}"
        );
        world.origin.forget();
        let answer = world
            .raw(raw::request("GET", "app.localhost", target, &[]))
            .await;
        assert_refused(answer.as_ref(), target);
        world.origin.assert_untouched(target);
    }
    for target in [
        "http://open.localhost/",
        "http://app.localhost:81/",
        "http://app.localhost@open.localhost/",
        "http://open.localhost@app.localhost/",
        "ftp://app.localhost/",
        "http:///public/",
        "http://app.localhost/admin",
        "http://app.localhost/public/../admin",
        "http://app.localhost//admin",
        "http://app.localhost/public/#x",
        "http://app.localhost\\public/",
    ] {
        let answer = world
            .raw(raw::request("GET", "app.localhost", target, &[]))
            .await;
        assert_refused(answer.as_ref(), target);
        world.origin.assert_untouched(target);
    }
}

#[tokio::test]
async fn malformed_content_length_reaches_no_origin() {
    let world = World::start().await;
    for lines in [
        &["Content-Length: 5, 5"][..],
        &["Content-Length: 5", "Content-Length: 5"],
        &["Content-Length: +5"],
        &["Content-Length: 5;"],
        &["Content-Length: 99999999999999999999999"],
    ] {
        let answer = world
            .raw(raw::request("POST", "app.localhost", "/public/x", lines) + "hello")
            .await;
        assert!(
            answer.as_ref().is_none_or(|answer| answer.status == 400),
            "{lines:?}: {answer:?}"
        );
        world.origin.assert_untouched(lines[0]);
    }
}

#[tokio::test]
async fn cookies_in_many_lines_count_as_one_header() {
    let world = World::start().await;
    for (lines, status) in [(100, 200), (250, 200)] {
        let cookies: Vec<String> = (0..lines)
            .map(|index| format!("Cookie: a{index}=1"))
            .collect();
        let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
        let answer = world
            .raw(raw::request("GET", "app.localhost", "/public/x", &cookies))
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{lines} lines");
    }
}
