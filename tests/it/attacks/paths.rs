//! The path that was judged is the path that is forwarded.

use super::{APP, cookie_line, malformed, member, refused_everywhere};
use crate::support::{World, assert_refused, leads_to_login, raw};

#[tokio::test]
async fn p01_a_query_is_not_a_path() {
    refused_everywhere(&["/admin?x=/public/", "/admin?/public/a", "/admin/?/../public/", "/admin?x#/public/"]).await;
}

#[tokio::test]
async fn p03_fragments_are_malformed() {
    malformed(&[b"/public/#/../admin", b"/public#", b"/#"]).await;
}

#[tokio::test]
async fn p04_dot_segments_are_resolved_before_judging() {
    refused_everywhere(&[
        "/public/../admin/secrets",
        "/public/./../admin",
        "/public/x/../../admin",
        "/../admin",
        "/./admin",
    ])
    .await;
}

#[tokio::test]
async fn p05_encoded_dot_segments_are_dot_segments() {
    refused_everywhere(&[
        "/public/%2e%2e/admin",
        "/public/%2E%2e/admin",
        "/public/.%2e/admin",
        "/public/%2e%2e%2fadmin",
        "/public/..%2fadmin",
        "/public%2f..%2fadmin",
        "/public/%2e/%2e%2e/admin",
    ])
    .await;
}

#[tokio::test]
async fn p06_what_is_encoded_twice_is_refused() {
    malformed(&[
        b"/public/%252e%252e/admin",
        b"/public/%252e%252e%252fadmin",
        b"/public/%25252e%25252e/admin",
        b"/public/..%255cadmin",
        b"/%2561dmin",
        b"/public/%2561",
        b"/%25%36%31dmin",
    ])
    .await;
}

#[tokio::test]
async fn p08_path_parameters_do_not_change_the_rule() {
    refused_everywhere(&[
        "/admin;jsessionid=1",
        "/admin;a=b/",
        "/admin;/x",
        "/public/..;/admin",
        "/public/..;a=b/admin",
        "/;/admin",
    ])
    .await;
}

#[tokio::test]
async fn p09_slashes_are_merged() {
    refused_everywhere(&["//admin/secret", "///admin", "/public/..//admin", "/.//admin"]).await;
}

#[tokio::test]
async fn p09_two_slashes_are_no_authority() {
    let world = World::start().await;
    let answer = world.raw(raw::request("GET", "app.localhost", "//open.localhost/x", &[])).await;
    assert_refused(answer.as_ref(), "//open.localhost/x");
    world.origin.assert_untouched("//open.localhost/x");
}

#[tokio::test]
async fn p11_backslashes_are_malformed() {
    malformed(&[b"/public\\..\\admin", b"/public/%5c..%5cadmin", b"/public/..%5Cadmin", b"\\admin"]).await;
}

#[tokio::test]
async fn p12_control_characters_and_trailing_blanks_are_malformed() {
    malformed(&[
        b"/admin%00.png",
        b"/admin%0a",
        b"/admin%0d%0a",
        b"/admin%09",
        b"/admin%20",
        b"/admin%7f",
        b"/admin\x01",
        b"/admin\x7f",
    ])
    .await;
}

#[tokio::test]
async fn p13_unreserved_characters_are_decoded_before_judging() {
    refused_everywhere(&["/%61dmin/x", "/%61%64%6d%69%6e", "/adm%69n"]).await;
}

#[tokio::test]
async fn p13_case_makes_another_path_and_is_no_way_around_the_login() {
    let world = World::start().await;
    let answer = world.raw(raw::request("GET", "app.localhost", "/ADMIN/x", &[])).await;
    assert_refused(answer.as_ref(), "/ADMIN/x");
    let answer = world.raw(raw::request("GET", "app.localhost", "/PUBLIC/../admin", &[])).await;
    assert_refused(answer.as_ref(), "/PUBLIC/../admin");
    world.origin.assert_untouched("paths in another case");
}

#[tokio::test]
async fn p15_a_url_in_the_path_is_a_path() {
    let world = World::start().await;
    let mut browser = member(&world).await;
    for target in [
        "/prefix/http://evil.example/malicious",
        "/http:/evil.example",
        "/@evil.example/",
        "/x/https:%2f%2fevil.example",
    ] {
        let answer = browser.fetch("GET", &format!("{APP}{target}"), &[], b"").await;
        if answer.status == 200 {
            let forwarded = world.origin.last().target;
            assert!(forwarded.starts_with('/') && !forwarded.starts_with("//"), "{target} went on as {forwarded}");
        } else {
            assert_eq!(answer.status, 400, "{target}");
        }
    }
}

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
        assert!(answer.as_ref().is_none_or(|a| matches!(a.status, 400 | 421)), "{request}: {answer:?}");
        world.origin.assert_untouched(request);
    }
}

#[tokio::test]
async fn p18_hosts_are_compared_in_their_canonical_form() {
    let world = World::start().await;
    for host in ["APP.LocalHost", "app.localhost.", "app.localhost:80", "APP.localhost.:80"] {
        let answer = world.raw(raw::request("GET", host, "/admin", &[])).await.unwrap();
        assert!(leads_to_login(&answer) || matches!(answer.status, 400 | 421), "{host}: {}", answer.status);
        let answer = world.raw(raw::request("GET", host, "/public/", &[])).await.unwrap();
        assert!(matches!(answer.status, 200 | 400 | 421), "{host}: {}", answer.status);
        if answer.status == 200 {
            assert_eq!(world.origin.last().headers.one("host"), Some("app.localhost"), "{host}");
        }
        world.origin.forget();
    }
    for host in ["app.localhost:81", "app.localhost:x", "app..localhost", ".app.localhost"] {
        let answer = world.raw(raw::request("GET", host, "/public/", &[])).await;
        assert!(answer.as_ref().is_none_or(|a| matches!(a.status, 400 | 404 | 421)), "{host}: {answer:?}");
        world.origin.assert_untouched(host);
    }
}

#[tokio::test]
async fn p21_trace_and_connect_are_not_allowed_and_end_the_connection() {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    for (method, target) in [("TRACE", "/"), ("CONNECT", "app.localhost:80"), ("CONNECT", "/"), ("TRACE", "/public/")] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: app.localhost\r\n{cookie}\r\n\r\n");
        let next = raw::request("GET", "open.localhost", "/after", &[]);
        let answer = world.raw(request + &next).await;
        assert!(answer.as_ref().is_none_or(|a| matches!(a.status, 400 | 405)), "{method} {target}: {answer:?}");
        world.origin.assert_untouched(method);
    }
}

#[tokio::test]
async fn p21_odd_methods_are_judged_like_any_other() {
    let world = World::start().await;
    for method in ["get", "GETX", "PRI", "PROPFIND", "Q"] {
        let answer = world.raw(raw::request(method, "app.localhost", "/admin", &[])).await;
        assert_refused(answer.as_ref(), method);
        world.origin.assert_untouched(method);
    }
}

#[tokio::test]
async fn p22_options_is_judged_like_any_other_method() {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    let preflight = ["Origin: https://evil.example", "Access-Control-Request-Method: DELETE"];
    for lines in [&[][..], &[cookie.as_str(), "X-Forwarded-User: root"], &preflight] {
        let answer = world.raw(raw::request("OPTIONS", "app.localhost", "/admin", lines)).await;
        assert_refused(answer.as_ref(), "OPTIONS");
        world.origin.assert_untouched("OPTIONS");
    }
    let answer = world.raw(raw::request("OPTIONS", "app.localhost", "*", &[])).await;
    assert_refused(answer.as_ref(), "OPTIONS *");
    world.origin.assert_untouched("OPTIONS *");
}

#[tokio::test]
async fn p23_a_user_agent_opens_nothing() {
    let world = World::start().await;
    for agent in ["GoogleHC/1.0", "kube-probe/1.30", "ELB-HealthChecker/2.0", "Envoy/HC"] {
        for target in ["/", "/healthz", "/readyz", "/cdn-cgi/access/get-identity"] {
            let line = format!("User-Agent: {agent}");
            let answer = world.raw(raw::request("GET", "app.localhost", target, &[&line])).await;
            assert_refused(answer.as_ref(), &line);
        }
    }
    world.origin.assert_untouched("health checks on the public listener");
}

#[tokio::test]
async fn p25_invalid_utf8_is_malformed() {
    malformed(&[
        b"/%ff",
        b"/public/%c3%28",
        b"/%ed%a0%80",
        b"/\xff",
        b"/%c0%ae%c0%ae/admin",
        b"/%e0%80%af",
        b"/%",
        b"/%2",
        b"/%zz",
    ])
    .await;
}
