//! Answers to requests without a session, in the format of the client. No body is lost.

use crate::support::{APPLICATIONS, World, leads_to_login, raw};

/// The answer of the client's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// 302 to the login page.
    Login,
    /// 401 with a small JSON body and the login's address in a header.
    Unauthorized,
}

const NAVIGATION: &[&str] = &[
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Site: none",
];
const WEBSOCKET: &[&str] = &[
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

#[tokio::test]
async fn refusal_has_the_format_of_the_client() {
    let world = World::start().await;
    let table: &[(&str, &str, &[&str], Expect)] = &[
        ("a navigation", "GET", NAVIGATION, Expect::Login),
        (
            "a navigation in a frame",
            "GET",
            &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"],
            Expect::Login,
        ),
        ("a client without Sec-Fetch", "GET", &[], Expect::Login),
        (
            "a client without Sec-Fetch, HEAD",
            "HEAD",
            &[],
            Expect::Login,
        ),
        (
            "npm",
            "GET",
            &["Accept: application/json"],
            Expect::Unauthorized,
        ),
        (
            "npm, HEAD",
            "HEAD",
            &["Accept: application/json"],
            Expect::Unauthorized,
        ),
        (
            "kubectl",
            "GET",
            &["Accept: application/json, */*"],
            Expect::Unauthorized,
        ),
        (
            "axios",
            "GET",
            &["Accept: application/json, text/plain, */*"],
            Expect::Unauthorized,
        ),
        (
            "JSON of a vendor",
            "GET",
            &["Accept: application/vnd.api+json"],
            Expect::Unauthorized,
        ),
        (
            "JSON in odd case, with parameters",
            "GET",
            &["Accept: Application/JSON;q=0.9"],
            Expect::Unauthorized,
        ),
        (
            "JSON in the second line",
            "GET",
            &["Accept: text/plain", "Accept: application/json"],
            Expect::Unauthorized,
        ),
        (
            "JSON and explicitly no page",
            "GET",
            &["Accept: application/json, text/html;q=0"],
            Expect::Unauthorized,
        ),
        (
            "an event stream of an old Safari",
            "GET",
            &["Accept: text/event-stream"],
            Expect::Unauthorized,
        ),
        (
            "a page or JSON",
            "GET",
            &["Accept: application/json, text/html;q=0.1"],
            Expect::Login,
        ),
        (
            "a page of an old Safari",
            "GET",
            &["Accept: text/html,application/xhtml+xml,*/*;q=0.8"],
            Expect::Login,
        ),
        ("git and docker", "GET", &["Accept: */*"], Expect::Login),
        (
            "a navigation that accepts JSON",
            "GET",
            &[NAVIGATION, &["Accept: application/json"]].concat(),
            Expect::Login,
        ),
        (
            "cloudflared",
            "GET",
            &["Cf-Access-Token: expired", "Accept: application/json"],
            Expect::Login,
        ),
        (
            "cloudflared, HEAD",
            "HEAD",
            &["Cf-Access-Token: expired"],
            Expect::Login,
        ),
        (
            "a script with a token",
            "GET",
            &["Cf-Access-Token: expired", "Sec-Fetch-Mode: cors"],
            Expect::Unauthorized,
        ),
        (
            "jQuery of another name",
            "GET",
            &["X-Requested-With: Fetch"],
            Expect::Unauthorized,
        ),
        (
            "an empty X-Requested-With",
            "GET",
            &["X-Requested-With:"],
            Expect::Unauthorized,
        ),
        (
            "a navigation of Android's WebView",
            "GET",
            &[NAVIGATION, &["X-Requested-With: com.example.app"]].concat(),
            Expect::Login,
        ),
        (
            "XMLHttpRequest",
            "GET",
            &["X-Requested-With: XMLHttpRequest"],
            Expect::Unauthorized,
        ),
        (
            "XMLHttpRequest in odd case",
            "GET",
            &["x-requested-with: xmlhttprequest"],
            Expect::Unauthorized,
        ),
        (
            "fetch",
            "GET",
            &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"],
            Expect::Unauthorized,
        ),
        (
            "fetch, same origin",
            "GET",
            &["Sec-Fetch-Mode: same-origin", "Sec-Fetch-Dest: empty"],
            Expect::Unauthorized,
        ),
        (
            "an image",
            "GET",
            &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"],
            Expect::Unauthorized,
        ),
        ("a web socket", "GET", WEBSOCKET, Expect::Unauthorized),
        (
            "a web socket of a browser",
            "GET",
            &[WEBSOCKET, &["Sec-Fetch-Mode: websocket"]].concat(),
            Expect::Unauthorized,
        ),
        (
            "a POST of a script",
            "POST",
            &["Sec-Fetch-Mode: cors", "Content-Length: 0"],
            Expect::Unauthorized,
        ),
        (
            "a POST of a client without Sec-Fetch",
            "POST",
            &["Content-Length: 0"],
            Expect::Unauthorized,
        ),
        (
            "a DELETE",
            "DELETE",
            &["Sec-Fetch-Mode: cors"],
            Expect::Unauthorized,
        ),
    ];
    for (name, method, lines, expect) in table {
        let lines: Vec<&str> = lines.to_vec();
        let upgrade = lines.contains(&"Connection: Upgrade");
        let mut request = raw::request(method, "wiki.localhost", "/page", &lines);
        if upgrade {
            request = request.replace("Connection: close\r\n", "");
        }
        let answer = world
            .raw(request)
            .await
            .unwrap_or_else(|| panic!("{name}: no answer"));
        match expect {
            Expect::Login => {
                assert_eq!(answer.status, 302, "{name}");
                assert!(leads_to_login(&answer), "{name}: {}", answer.location());
            }
            Expect::Unauthorized => {
                assert_eq!(answer.status, 401, "{name}");
                assert_eq!(answer.headers.one("location"), None, "{name}");
                let named = answer
                    .headers
                    .0
                    .iter()
                    .any(|(_, value)| value.contains("/cdn-cgi/access/login/"));
                assert!(
                    named,
                    "{name}: no header names the login: {:?}",
                    answer.headers
                );
                if !upgrade && *method != "HEAD" {
                    assert!(answer.json().is_object(), "{name}");
                }
                let started = answer
                    .headers
                    .all("set-cookie")
                    .iter()
                    .any(|c| !c.starts_with("CF_AppSession"));
                assert!(
                    !started,
                    "{name} must not start a login: {:?}",
                    answer.headers.all("set-cookie")
                );
            }
        }
        assert!(
            answer.headers.lists("cache-control", "no-store"),
            "{name}: {:?}",
            answer.headers
        );
    }
    world.origin.assert_untouched("requests without a session");
}

#[tokio::test]
async fn posted_form_without_a_session_is_not_redirected() {
    let world = World::start().await;
    let request = raw::request(
        "POST",
        "wiki.localhost",
        "/save",
        &[NAVIGATION, &["Accept: text/html", "Content-Length: 7"]].concat(),
    ) + "a=1&b=2";
    let answer = world.raw(request).await.unwrap();
    assert_eq!(answer.status, 401, "a page that says so, for a browser");
    assert!(answer.text().contains("<html"), "{}", answer.text());
    world.origin.assert_untouched("a form without a session");
}

#[tokio::test]
async fn grpc_client_gets_unauthenticated() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    let mut connection = world.proxy.connect2("wiki.test").await;
    let request = http::Request::post("https://wiki.test/echo.Echo/Say")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let answer = connection
        .request(request.body(()).unwrap(), b"\0\0\0\0\0")
        .await
        .unwrap();
    assert_eq!(
        answer.head.status.as_u16(),
        200,
        "gRPC says it in grpc-status"
    );
    let status = answer
        .head
        .headers
        .get("grpc-status")
        .or_else(|| answer.trailers.as_ref()?.get("grpc-status"));
    assert_eq!(status.unwrap(), "16");
    world
        .origin
        .assert_untouched("a gRPC call without a session");
}

#[tokio::test]
async fn script_of_an_allowed_origin_can_read_the_refusal() {
    let cors = r#"allowed_idps = ["okta"]
cors_headers = { allowed_origins = ["https://front.example.com"], allowed_methods = ["GET"], allow_credentials = true }"#;
    let world = World::with(
        &APPLICATIONS.replacen(r#"allowed_idps = ["okta"]"#, cors, 1),
        |_| (),
    )
    .await;
    let ask = async |origin: &str| {
        let lines = [
            format!("Origin: {origin}"),
            "Sec-Fetch-Mode: cors".to_owned(),
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        world
            .raw(raw::request("GET", "wiki.localhost", "/", &lines))
            .await
            .unwrap()
    };
    let answer = ask("https://front.example.com").await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.headers.one("access-control-allow-origin"),
        Some("https://front.example.com")
    );
    assert_eq!(
        answer.headers.one("access-control-allow-credentials"),
        Some("true")
    );
    assert!(answer.headers.lists("vary", "origin"));
    let answer = ask("https://evil.example").await;
    assert_eq!(
        (
            answer.status,
            answer.headers.one("access-control-allow-origin")
        ),
        (401, None)
    );
    world.origin.assert_untouched("a script without a session");
}

#[tokio::test]
async fn refused_method_gets_405_with_allow() {
    let world = World::start().await;
    for (method, host, endpoint, allowed) in [
        ("PUT", "wiki", "logout", "GET, POST"),
        ("HEAD", "access", "logout", "GET, POST"),
        ("POST", "access", "login/wiki.localhost", "GET, HEAD"),
        ("HEAD", "access", "callback", "GET"),
        ("POST", "access", "callback", "GET"),
        ("POST", "wiki", "authorized", "GET, HEAD"),
        ("GET", "access", "authorized", "POST"),
        ("POST", "access", "certs", "GET, HEAD"),
        ("DELETE", "wiki", "get-identity", "GET, HEAD"),
    ] {
        let (host, target) = (
            format!("{host}.localhost"),
            format!("/cdn-cgi/access/{endpoint}"),
        );
        let answer = world
            .raw(raw::request(method, &host, &target, &["Content-Length: 0"]))
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.headers.one("allow")),
            (405, Some(allowed)),
            "{method} {host}{target}"
        );
    }
    let answer = world
        .raw(raw::request("TRACE", "wiki.localhost", "/", &[]))
        .await
        .unwrap();
    let allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    assert_eq!(
        (answer.status, answer.headers.one("allow")),
        (405, Some(allowed))
    );
}

#[tokio::test]
async fn unknown_host_gets_404() {
    let world = World::start().await;
    for host in [
        "other.localhost",
        "x.wiki.localhost",
        "localhost",
        "127.0.0.1",
    ] {
        let answer = world
            .raw(raw::request("GET", host, "/", &[]))
            .await
            .unwrap();
        assert!(
            matches!(answer.status, 403 | 404 | 421),
            "{host}: {}",
            answer.status
        );
    }
    world.origin.assert_untouched("an unknown host");
}

#[tokio::test]
async fn refusals_have_a_request_id_and_no_server_name() {
    let world = World::start().await;
    world
        .idp
        .script(|script| script.person = crate::support::Person::bob());
    let mut browser = world.browser();
    let page = browser.open("http://wiki.localhost/").await;
    assert_eq!(page.response.status, 403);
    let text = page.response.text();
    let id = text
        .split("request id <code>")
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    let id = id.unwrap_or_else(|| panic!("no request id: {text}"));
    // The log is written after the answer.
    world.proxy.logged(0, &[id]).await;
    let server = page.response.headers.one("server").unwrap_or_default();
    assert!(!server.to_lowercase().contains("pingora"), "{server}");
}
