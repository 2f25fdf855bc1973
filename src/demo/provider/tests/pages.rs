//! Requests of browsers: the choice of a user, and logouts.

use super::*;

#[test]
fn unknown_client_or_redirect_uri_is_not_redirected() {
    let provider = provider();
    let wrong = [
        ("client_id", "0oaother"),
        ("client_id", ""),
        ("redirect_uri", "http://evil.example/"),
        (
            "redirect_uri",
            "http://team.localhost:8000/cdn-cgi/access/callback/",
        ),
        ("redirect_uri", ""),
        ("user", "mallory"),
        ("user", "alice&user=bob"),
    ];
    for (name, value) in wrong {
        let response = provider.ask(&with(with(authorization(), "user", "alice"), name, value));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{name}={value}");
        assert!(!response.headers().contains_key("location"));
    }
    let twice = [
        authorization(),
        vec![("redirect_uri", "http://evil.example/")],
    ]
    .concat();
    assert_eq!(provider.ask(&twice).status(), StatusCode::BAD_REQUEST);
    let long = "a".repeat(17_000);
    assert_eq!(
        provider
            .ask(&with(authorization(), "state", &long))
            .status(),
        StatusCode::BAD_REQUEST
    );
}

#[test]
fn unsupported_parameters_are_reported_to_the_client() {
    let provider = provider();
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("response_mode", "fragment", "invalid_request"),
        ("scope", "profile openidx", "invalid_scope"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge_method", "", "invalid_request"),
        ("prompt", "none", "login_required"),
        ("request", "eyJ", "request_not_supported"),
        (
            "request_uri",
            "http://evil.example/",
            "request_uri_not_supported",
        ),
        ("user", "cancel", "access_denied"),
    ] {
        let answer =
            answered(&provider.ask(&with(with(authorization(), "user", "alice"), name, value)));
        assert_eq!(answer["error"], error, "{name}={value}");
        assert_eq!(
            (answer["state"].as_str(), answer["iss"].as_str()),
            ("the state & more", ISSUER)
        );
        assert!(!answer.contains_key("code"));
    }
}

#[test]
fn logout_redirects_to_the_team_domain_only() {
    let provider = provider();
    let ask = |uri: &str| {
        provider.get(
            &format!(
                "/oauth2/v1/logout?{}",
                form(&[("post_logout_redirect_uri", uri), ("state", "s")])
            ),
            None,
            NOW,
        )
    };
    let response = ask("http://team.localhost:8000/bye");
    assert_eq!(
        response.headers()["location"],
        "http://team.localhost:8000/bye?state=s"
    );
    for elsewhere in [
        "http://evil.example/",
        "http://team.localhost:8000.evil.example/",
        "//evil.example/",
    ] {
        assert_eq!(
            ask(elsewhere).status(),
            StatusCode::BAD_REQUEST,
            "{elsewhere}"
        );
    }
    assert_eq!(
        provider.get("/oauth2/v1/logout", None, NOW).status(),
        StatusCode::OK
    );
}

#[test]
fn requests_to_another_host_are_rejected() {
    let provider = provider();
    for host in [
        "evil.example",
        "localhost:8001",
        "127.0.0.1:8001",
        "idp.localhost",
    ] {
        let request = Request::get("/.well-known/openid-configuration")
            .header("host", host)
            .body(Bytes::new())
            .unwrap();
        assert_eq!(
            provider.handle(&request, NOW).status(),
            StatusCode::MISDIRECTED_REQUEST,
            "{host}"
        );
    }
}

#[test]
fn pages_escape_and_run_no_script() {
    let provider = provider();
    let page = provider.ask(&with(
        authorization(),
        "state",
        "\"><script>alert(1)</script>",
    ));
    assert!(!body(&page).contains("<script"), "{}", body(&page));
    // Other clients may encode differently.
    let page = provider.authorize(&format!("{}&x='\"><b>", form(&authorization())), NOW);
    assert_eq!(page.status(), StatusCode::OK);
    assert!(
        !body(&page).contains("<b>") && body(&page).contains("&#62;&#60;b&#62;"),
        "{}",
        body(&page)
    );
    strict(page.headers());
    strict(provider.get("/nothing", None, NOW).headers());
}

fn strict(headers: &HeaderMap) {
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cache-control"], "no-store");
}
