//! The path that was judged is the path that is forwarded.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{APP, cookie_line, forwarded_as_sent, malformed, member, refused_everywhere};
use crate::support::{APPLICATIONS, World, assert_refused, raw};

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
async fn p09_leading_double_slash_is_not_an_authority() {
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
        let answer = browser.get(&format!("{APP}{target}")).await;
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
