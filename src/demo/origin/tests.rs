use super::*;

const PORTS: Ports = Ports {
    proxy: 8000,
    provider: 8001,
    origin: 8002,
};
const NOW: UnixTime = UnixTime(1_800_000_000);
const SCRIPT: &str = "<script>alert('1')</script>&\"";

fn get(target: &str, headers: &[(&str, &[u8])]) -> Response<Bytes> {
    let mut request = Request::get(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    DemoOrigin::new(PORTS).handle(&request.body(Bytes::from_static(b"abc")).unwrap(), NOW)
}

fn body(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

fn token(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(header), part(claims))
}

#[test]
fn page_shows_the_user_and_the_request() {
    let claims = json!({"email": "alice@demo.example", "iss": "http://team.localhost:8000"});
    let token = token(&json!({"alg": "RS256", "kid": "abc"}), &claims);
    let headers: [(&str, &[u8]); 3] = [
        ("host", b"eng.localhost:8000"),
        ("cf-access-authenticated-user-email", b"alice@demo.example"),
        ("cf-access-jwt-assertion", token.as_bytes()),
    ];
    let page = get("/a?b=c", &headers);
    let html = body(&page);
    assert_eq!(page.status(), StatusCode::OK);
    assert!(
        html.contains("You are <bdi>alice@demo.example</bdi>."),
        "{html}"
    );
    assert!(
        html.contains("Engineering, behind the proxy") && html.contains("GET /a?b=c"),
        "{html}"
    );
    assert!(
        html.contains("&#34;kid&#34;: &#34;abc&#34;") && html.contains("&#34;iss&#34;"),
        "{html}"
    );
    assert!(
        html.contains("href=\"/cdn-cgi/access/get-identity\"")
            && html.contains("href=\"/cdn-cgi/access/logout\"")
    );
    assert!(
        html.contains("<details>") && html.contains(&token),
        "a long value is there whole"
    );
    assert!(
        html.contains("<a href=\"http://eng.localhost:8000\" aria-current=\"page\">"),
        "{html}"
    );

    let json = get(
        "/a?b=c",
        &[
            headers.as_slice(),
            &[("accept", b"text/html;q=0.1, Application/JSON")],
        ]
        .concat(),
    );
    let json: Value = serde_json::from_slice(json.body()).unwrap();
    assert_eq!(json["email"], "alice@demo.example");
    assert_eq!(json["assertion"]["claims"], claims);
    assert_eq!(
        (json["target"].as_str(), json["body_bytes"].as_u64()),
        (Some("/a?b=c"), Some(3))
    );
    assert_eq!(json["headers"][0], json!(["host", "eng.localhost:8000"]));
}

#[test]
fn every_field_is_escaped() {
    let token = token(
        &json!({"kid": SCRIPT}),
        &json!({"email": SCRIPT, SCRIPT: [SCRIPT]}),
    );
    let long = SCRIPT.repeat(10);
    let page = get(
        "/x?y='z'",
        &[
            ("host", SCRIPT.as_bytes()),
            ("cf-access-authenticated-user-email", SCRIPT.as_bytes()),
            ("cf-access-jwt-assertion", token.as_bytes()),
            ("x-short", SCRIPT.as_bytes()),
            ("x-long", long.as_bytes()),
            ("x-bytes", b"\xff<script>\xfe"),
        ],
    );
    let html = body(&page);
    assert!(
        !html.contains("<script") && !html.contains("alert('1')"),
        "{html}"
    );
    assert!(html.contains("&#60;script&#62;"), "{html}");
    assert!(!html.contains("y='z'"), "{html}");
    assert!(
        page.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'; style-src 'sha256-")
    );
}

#[test]
fn request_without_identity_is_anonymous() {
    for headers in [
        vec![("host", b"public.localhost:8000".as_slice())],
        vec![
            ("host", b"127.0.0.1:8002".as_slice()),
            ("cf-access-jwt-assertion", b"not a token"),
        ],
        vec![("cf-access-jwt-assertion", b"e30".as_slice())],
        vec![("cf-access-jwt-assertion", b"!.!.!".as_slice())],
        vec![],
    ] {
        let page = get("/", &headers);
        assert!(body(&page).contains("You are anonymous."));
        assert!(!body(&page).contains("The assertion"));
    }
}

#[test]
fn health_check_succeeds() {
    let response = get("/healthz", &[]);
    assert_eq!(
        (response.status(), body(&response)),
        (StatusCode::OK, "ok\n")
    );
}
