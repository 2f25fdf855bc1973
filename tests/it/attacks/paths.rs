//! The path that was judged is the path that is forwarded.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{APP, cookie_line, forwarded_as_sent, malformed, member, refused_everywhere};
use crate::support::{APPLICATIONS, World, assert_refused, leads_to_login, raw};

#[tokio::test]
async fn p01_query_is_not_a_path() {
    refused_everywhere(&[
        "/admin?x=/public/",
        "/admin?/public/a",
        "/admin/?/../public/",
        "/admin?x#/public/",
    ])
    .await;
}

#[tokio::test]
async fn p03_fragments_are_malformed() {
    malformed(&[b"/public/#/../admin", b"/public#", b"/#"]).await;
}

#[tokio::test]
async fn p03_fragments_after_empty_lines_are_malformed() {
    let world = World::start().await;
    for start in ["\r\n", "\n", "\r\n\r\n"] {
        let request = format!(
            "{start}{}",
            raw::request("GET", "app.localhost", "/public/#/../admin", &[])
        );
        let answer = world.raw(request).await;
        assert!(
            answer.as_ref().is_none_or(|a| a.status == 400),
            "{start:?}: {answer:?}"
        );
        world.origin.assert_untouched(start);
    }
}

/// The protocol library drops a fragment before the request is seen, so neither the check nor the
/// origin gets it.
#[tokio::test]
async fn p03_fragments_over_http2_reach_neither_check_nor_origin() {
    let world = World::start().await;
    for (target, forwarded) in [
        ("/public/#/../admin", Some("/public/")),
        ("/public/a?x=1#/../../admin", Some("/public/a?x=1")),
        ("/public/#?x=/../admin", Some("/public/")),
        ("/admin#/../public/", None),
        ("/#/../public/", None),
    ] {
        let mut stream = tokio::net::TcpStream::connect(world.proxy.address)
            .await
            .unwrap();
        // `h2` itself would drop the fragment, so the frames are written by hand: HEADERS with
        // literal fields (RFC 7541 6.2.2).
        let mut fields = vec![0x82, 0x86];
        for (index, value) in [(1, "app.localhost"), (4, target)] {
            fields.extend([index, u8::try_from(value.len()).unwrap()]);
            fields.extend(value.bytes());
        }
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0".to_vec();
        bytes.extend([u8::try_from(fields.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
        bytes.extend(fields);
        stream.write_all(&bytes).await.unwrap();
        // Up to the head of the response.
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut frame = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut frame).await.unwrap();
            if head[3] == 1 {
                break;
            }
            assert_ne!(head[3], 7, "{target}: GOAWAY");
        }
        match forwarded {
            Some(path) => assert_eq!(world.origin.last().target, path, "{target}"),
            None => world.origin.assert_untouched(target),
        }
        world.origin.forget();
    }
}

#[tokio::test]
async fn p04_dot_segments_are_resolved_before_the_decision() {
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
async fn p05_encoded_dot_segments_are_resolved() {
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
async fn p06_double_encoded_dots_are_refused() {
    malformed(&[
        b"/public/%252e%252e/admin",
        b"/public/%252e%252e%252fadmin",
        b"/public/%25252e%25252e/admin",
        b"/public/..%255cadmin",
        b"/%2561dmin",
        b"/public/%2561",
        b"/%25%36%31dmin",
        b"/%252Fadmin",
        b"/admin%252fx",
        b"/public%255cadmin",
    ])
    .await;
}

#[tokio::test]
async fn p06_double_encoded_slash_arrives_as_sent() {
    forwarded_as_sent(&[
        "/job/x/feature%252Flogin",
        "/job/x/feature%252flogin",
        "/job/x/fix%2520bug",
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
async fn p08_path_parameters_arrive_as_sent() {
    forwarded_as_sent(&[
        "/a;b=c/d",
        "/a%3bb",
        "/docs/v1:x",
        "/api/items:batchGet",
        "/api/group%2fproject",
        "/api/a%2Fb",
    ])
    .await;
}

#[tokio::test]
async fn p09_slashes_are_merged_before_the_decision() {
    refused_everywhere(&[
        "//admin/secret",
        "///admin",
        "/public/..//admin",
        "/public//../admin",
        "/.//admin",
        "/admin//x",
        "/;//admin",
        "/%20//admin",
    ])
    .await;
}

#[tokio::test]
async fn p09_slashes_inside_arrive_as_sent() {
    forwarded_as_sent(&[
        "/bucket/a//b",
        "/300x200/https://img.test/a.png",
        "/a//",
        "/a///b//c",
    ])
    .await;
}

#[tokio::test]
async fn p09_leading_double_slash_is_no_authority() {
    let world = World::start().await;
    let answer = world
        .raw(raw::request(
            "GET",
            "app.localhost",
            "//open.localhost/x",
            &[],
        ))
        .await;
    assert_refused(answer.as_ref(), "//open.localhost/x");
    world.origin.assert_untouched("//open.localhost/x");
}

#[tokio::test]
async fn p11_backslashes_are_malformed() {
    malformed(&[
        b"/public\\..\\admin",
        b"/public/%5c..%5cadmin",
        b"/public/..%5Cadmin",
        b"\\admin",
        b"/%5Cadmin",
        b"/admin%5cx",
        b"/public%5c",
    ])
    .await;
}

#[tokio::test]
async fn p11_escaped_backslashes_in_names_arrive_as_sent() {
    forwarded_as_sent(&["/users/CORP%5Cada", "/users/CORP%5cada"]).await;
}

#[tokio::test]
async fn p12_control_characters_are_malformed() {
    malformed(&[
        b"/admin%00.png",
        b"/admin%0a",
        b"/admin%0d%0a",
        b"/admin%09",
        b"/admin%7f",
        b"/public/%2500",
        b"/admin\x01",
        b"/admin\x7f",
    ])
    .await;
}

#[tokio::test]
async fn p12_trailing_dots_and_blanks_reach_no_other_application() {
    malformed(&[
        b"/admin%20",
        b"/admin.",
        b"/admin%2e",
        b"/admin./x",
        b"/admin%20/x",
        b"/%20admin",
        b"/admin.%20.",
        b"/public.",
        b"/public/..%20/admin",
        b"/admin%C2%A0",
        b"/admin%E3%80%80.",
        b"/%E2%80%89admin",
        b"/admin%2e%20;x",
        b"/admin%00",
    ])
    .await;
    forwarded_as_sent(&["/a%20/b", "/a./b.", "/a%20.%20", "/.../a", "/%20a"]).await;
}

#[tokio::test]
async fn p13_unreserved_characters_are_decoded_first() {
    refused_everywhere(&["/%61dmin/x", "/%61%64%6d%69%6e", "/adm%69n"]).await;
}

#[tokio::test]
async fn p13_case_reaches_no_other_application() {
    malformed(&[
        b"/ADMIN",
        b"/ADMIN/x",
        b"/Admin",
        b"/%41dmin",
        b"/PUBLIC",
        b"/Public/x",
        b"/ADMIN.",
        b"/admin::$DATA",
        b"/admin:x:$INDEX_ALLOCATION/y",
        b"/ADMIN%3A%3a$DATA",
        b"/Admin%20.%20::$DATA;x%2Fy",
        b"/%2FADMIN",
        b"/ad%ffmin",
        b"/admin%3Fx",
        b"/admin%23",
        b"/%61dmin::$DATA",
        b"/adm%C4%B1n",
        b"/%EF%BD%81dmin",
        b"/P%C3%BCblic/..;/admin",
    ])
    .await;
    refused_everywhere(&["/ADMIN/x", "/PUBLIC/../admin", "/Public"]).await;
    forwarded_as_sent(&[
        "/Docs",
        "/docs",
        "/x/ADMIN",
        "/admin.json",
        "/ADMINISTRATION",
    ])
    .await;
}

#[tokio::test]
async fn p13_origin_can_be_declared_case_sensitive() {
    let declared = "domain = \"app.$TLD\"\ncase_sensitive_paths = true";
    let applications = APPLICATIONS.replacen("domain = \"app.$TLD\"", declared, 1);
    let world = World::with(&applications, |_| ()).await;
    let cookie = cookie_line(&member(&world).await);
    for (target, status) in [
        ("/ADMIN", 200),
        ("/ADMIN//x.", 200),
        ("/PUBLIC", 200),
        ("/admin.", 400),
        ("/admin;x", 400),
    ] {
        let answer = world
            .raw(raw::request("GET", "app.localhost", target, &[&cookie]))
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{target}");
        if status == 200 {
            assert_eq!(world.origin.last().target, target);
        }
        world.origin.forget();
    }
    let answer = world
        .raw(raw::request("GET", "app.localhost", "/ADMIN", &[]))
        .await;
    assert_refused(answer.as_ref(), "/ADMIN without a session");
    world.origin.assert_untouched("/ADMIN without a session");
}

#[tokio::test]
async fn p13_wildcard_covers_the_common_part_of_all_readings() {
    let files = r#"
[[applications]]
domain = "app.$TLD/files/*.pdf"
origin = "$ORIGIN"
[[applications.policies]]
name = "all"
decision = "bypass"
include = [{ everyone = {} }]
"#;
    let world = World::with(&format!("{APPLICATIONS}{files}"), |_| ()).await;
    for target in [
        "/files%2Fa;.pdf",
        "/files%2Fa.pdf",
        "/files/a;.pdf",
        "/files/a.txt;.pdf",
        "/files/a:.pdf",
        "/Files/a.pdf",
    ] {
        let answer = world
            .raw(raw::request("GET", "app.localhost", target, &[]))
            .await;
        assert_refused(answer.as_ref(), target);
        world.origin.assert_untouched(target);
    }
    let answer = world
        .raw(raw::request(
            "GET",
            "app.localhost",
            "/files/a%2Fb.pdf",
            &[],
        ))
        .await
        .unwrap();
    assert_eq!(
        (answer.status, world.origin.last().target.as_str()),
        (200, "/files/a%2Fb.pdf")
    );
}

#[tokio::test]
async fn other_readings_of_our_endpoints_are_malformed() {
    malformed(&[
        b"/CDN-CGI/access/logout",
        b"/cdn-cgi%2Faccess/logout",
        b"/cdn-cgi//access/logout",
        b"/cdn-cgi;x/access/certs",
        b"/%2Fcdn-cgi/access/certs",
        b"/cdn-cgi./access%20/certs",
        b"/.well-known%2fcloudflare-access-protected-resource",
    ])
    .await;
}

#[tokio::test]
async fn refused_path_names_its_reason() {
    let world = World::start().await;
    let lines = ["Accept: application/json"];
    let answer = world
        .raw(raw::request("GET", "app.localhost", "/ADMIN", &lines))
        .await
        .unwrap();
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("path_ambiguous"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn p15_url_in_the_path_is_a_path() {
    let world = World::start().await;
    let mut browser = member(&world).await;
    for target in [
        "/prefix/http://evil.example/malicious",
        "/http:/evil.example",
        "/@evil.example/",
        "/x/https:%2f%2fevil.example",
    ] {
        let answer = browser
            .fetch("GET", &format!("{APP}{target}"), &[], b"")
            .await;
        if answer.status == 200 {
            let forwarded = world.origin.last().target;
            assert!(
                forwarded.starts_with('/') && !forwarded.starts_with("//"),
                "{target} went on as {forwarded}"
            );
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
async fn p25_overlong_and_raw_octets_are_malformed() {
    malformed(&[
        b"/\xff",
        b"/%c0%ae%c0%ae/admin",
        b"/%c0%af",
        b"/%c1%9c",
        b"/%e0%80%af",
        b"/%f0%80%80%af",
        b"/%25c0%25ae",
        b"/%",
        b"/%2",
        b"/%zz",
    ])
    .await;
}

#[tokio::test]
async fn p25_other_octets_arrive_as_sent() {
    forwarded_as_sent(&[
        "/docs/caf%E9.html",
        "/%ff",
        "/a/%c3%28",
        "/%ed%a0%80",
        "/%C3%A4/%c3%a4",
    ])
    .await;
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

/// `COPY` and `MOVE` name a second path, which the origin acts on.
#[tokio::test]
async fn second_path_in_a_header_must_lead_to_the_same_application() {
    let world = World::start().await;
    let own = "app.localhost";
    for (header, is_refused) in [
        ("Destination: http://app.localhost/admin/pwned", true),
        ("Destination: https://app.localhost/admin", true),
        ("Destination: /admin/pwned", true),
        ("destination: http://elsewhere.test/admin/pwned", true),
        ("Destination: http://app.localhost/public/../admin", true),
        (
            "Destination: http://app.localhost/public/%2e%2e/admin",
            true,
        ),
        ("Destination: //app.localhost/admin", true),
        ("Destination: http://app.localhost", true),
        ("Destination: http://wiki.localhost/public/x", true),
        ("Destination: http://app.localhost/ADMIN/x", true),
        ("Destination: http://user@app.localhost/public/x", true),
        ("Destination: ", true),
        ("Destination: http:/admin/x", true),
        ("Destination: HTTP:/public/x", true),
        ("Destination: /public/x#/../../admin", true),
        ("Destination: /public/x?/../../admin", true),
        ("Destination: /public/x?%2f..%2f..%2fadmin", true),
        ("X_Amz_Copy_Source: admin/secret", true),
        ("x-amz-copy-source: admin/secret", true),
        ("X-Copy-From: /admin/secret", true),
        ("Destination: http://app.localhost/public/y", false),
        ("Destination: /public/y?version=1", false),
        ("Destination: http://origin.internal/public/y", false),
        ("x-amz-copy-source: public/y", false),
    ] {
        for method in ["COPY", "MOVE", "PUT", "POST"] {
            let request = raw::request(method, own, "/public/x", &[header, "Content-Length: 0"]);
            let answer = world.raw(request).await.unwrap();
            assert_eq!(
                answer.status,
                if is_refused { 400 } else { 200 },
                "{method} {header}"
            );
            if is_refused {
                world.origin.assert_untouched(header);
            }
            world.origin.forget();
        }
    }
}

#[tokio::test]
async fn headers_in_place_of_the_path_reach_no_origin() {
    let world = World::start().await;
    for name in [
        "SCRIPT_NAME",
        "Script-Name",
        "PATH_INFO",
        "X-Script-Name",
        "X_Traversal_Path",
        "Request-Uri",
        "Client-IP",
    ] {
        let line = format!("{name}: /public");
        let answer = world
            .raw(raw::request(
                "GET",
                "app.localhost",
                "/public/admin",
                &[&line],
            ))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{name}");
        let seen = world.origin.last();
        assert!(
            !seen.headers.0.iter().any(|(_, value)| value == "/public"),
            "{name}: {seen:?}"
        );
        world.origin.forget();
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
