//! The token endpoint.

use super::*;

#[test]
fn rfc6749_4_1_2_code_works_once_and_for_a_minute() {
    let provider = provider();
    let code = provider.code_for("alice");
    assert_eq!(
        provider
            .redeem(&exchange(&code), &provider.basic(), NOW)
            .status(),
        StatusCode::OK
    );
    refused(
        &provider.redeem(&exchange(&code), &provider.basic(), NOW),
        400,
        "invalid_grant",
    );

    let code = provider.code_for("alice");
    refused(
        &provider.redeem(&exchange(&code), &provider.basic(), NOW.after(CODE_LIFE)),
        400,
        "invalid_grant",
    );

    // A code that was tried with the wrong verifier is spent.
    let code = provider.code_for("alice");
    let wrong = "w".repeat(43);
    refused(
        &provider.redeem(
            &with(exchange(&code), "code_verifier", &wrong),
            &provider.basic(),
            NOW,
        ),
        400,
        "invalid_grant",
    );
    refused(
        &provider.redeem(&exchange(&code), &provider.basic(), NOW),
        400,
        "invalid_grant",
    );
}

#[test]
fn rfc7636_4_6_verifier_must_match() {
    let provider = provider();
    for verifier in [
        String::new(),
        "short".to_owned(),
        CHALLENGE.to_owned(),
        "w".repeat(128),
        format!("{VERIFIER}é"),
    ] {
        let code = provider.code_for("alice");
        let params = with(exchange(&code), "code_verifier", &verifier);
        refused(
            &provider.redeem(&params, &provider.basic(), NOW),
            400,
            "invalid_grant",
        );
    }
}

#[test]
fn code_of_another_client_or_redirect_uri_is_rejected() {
    let (provider, other) = (provider(), provider());
    let code = provider.code_for("alice");
    refused(
        &other.redeem(&exchange(&code), &other.basic(), NOW),
        400,
        "invalid_grant",
    );
    refused(
        &provider.redeem(
            &with(exchange(&code), "client_id", "0oaother"),
            &provider.basic(),
            NOW,
        ),
        400,
        "invalid_grant",
    );
    for address in [
        "",
        "http://team.localhost:8000/",
        "http://evil.example/cdn-cgi/access/callback",
    ] {
        let code = provider.code_for("alice");
        let params = with(exchange(&code), "redirect_uri", address);
        refused(
            &provider.redeem(&params, &provider.basic(), NOW),
            400,
            "invalid_grant",
        );
    }
}

#[test]
fn client_must_authenticate() {
    let provider = provider();
    let code = provider.code_for("alice");
    let secret = provider.credentials.client_secret.expose();
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let wrong = [
        String::new(),
        "Basic".to_owned(),
        "Basic !".to_owned(),
        format!("Bearer {secret}"),
        basic("0oademo"),
        basic("0oademo:"),
        basic("0oademo:wrong"),
        basic(&format!("0oaother:{secret}")),
        basic(&format!("0oademo:{secret} ")),
    ];
    for authorization in &wrong {
        let response = provider.redeem(&exchange(&code), authorization, NOW);
        refused(&response, 401, "invalid_client");
        assert!(
            response.headers().contains_key("www-authenticate"),
            "RFC 6749 5.2"
        );
    }
    // A wrong client does not spend the code. RFC 6749 2.3.1: the parts may be form-encoded.
    let encoded = basic(&format!("%30oademo:{}", secret.replace('-', "%2D")));
    assert_eq!(
        provider.redeem(&exchange(&code), &encoded, NOW).status(),
        StatusCode::OK
    );
}

#[test]
fn token_request_must_be_a_form_without_duplicates() {
    let provider = provider();
    let code = provider.code_for("alice");
    let twice = [exchange(&code), vec![("code", "other")]].concat();
    refused(
        &provider.redeem(&twice, &provider.basic(), NOW),
        400,
        "invalid_request",
    );
    refused(
        &provider.redeem(&with(exchange(&code), "code", ""), &provider.basic(), NOW),
        400,
        "invalid_request",
    );
    let grant = with(exchange(&code), "grant_type", "refresh_token");
    refused(
        &provider.redeem(&grant, &provider.basic(), NOW),
        400,
        "unsupported_grant_type",
    );
    let json = Request::post("/oauth2/v1/token")
        .header("host", "idp.localhost:8001")
        .header("content-type", "application/json")
        .header("authorization", provider.basic())
        .body(Bytes::from(form(&exchange(&code))))
        .unwrap();
    refused(&provider.handle(&json, NOW), 400, "invalid_request");
    assert_eq!(
        provider.get("/oauth2/v1/token", None, NOW).status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}
