//! The query of a callback.

use super::*;

/// Returns the code of a callback that must be for the login `s-0` at this issuer.
fn code_from(query: &str, issuer: ResponseIssuer<'_>) -> Result<String, CallbackError> {
    Callback::parse(query)?
        .code(&Secret::new("s-0"), issuer)
        .map(|code| code.expose().to_owned())
}

fn code(query: &str) -> Result<String, CallbackError> {
    code_from(query, ResponseIssuer::MayBeNamed(ISSUER))
}

fn code_of_named_issuer(query: &str) -> Result<String, CallbackError> {
    code_from(query, ResponseIssuer::Named(ISSUER))
}

#[test]
fn callback_of_the_login_yields_its_code() {
    let plus = code("code=c%2B1&state=s-0&session_state=x");
    assert_eq!(plus.as_deref(), Ok("c+1"));
    let named = code_of_named_issuer("code=c&state=s-0&iss=https%3A%2F%2Facme.okta.com");
    assert_eq!(named.as_deref(), Ok("c"));
    // RFC 6749 3.1
    let empty = code("code=c&state=s-0&error=&iss=");
    assert_eq!(empty.as_deref(), Ok("c"));
    let debug = format!(
        "{:?}",
        Callback::parse("code=topsecret&state=verysecret").unwrap()
    );
    assert!(!debug.contains("topsecret") && !debug.contains("verysecret"));
}

#[test]
fn r02_callback_of_another_login_is_rejected() {
    for query in [
        "code=c&state=s-1",
        "code=c&state=s-",
        "code=c&state=s-00",
        "error=access_denied&state=evil",
    ] {
        assert_eq!(code(query), Err(CallbackError::State), "{query}");
    }
}

#[test]
fn r02_malformed_callback_is_rejected() {
    for query in [
        "",
        "code=c",
        "state=s-0",
        "code=&state=s-0",
        "code=c&state=",
        "code=c&code=c&state=s-0",
        "code=c&state=s-0&state=s-1",
        "code=c&error=e&state=s-0",
        "code=c&state=s-0&iss=a&iss=b",
        "%00=&&&=",
    ] {
        assert!(
            matches!(code(query), Err(CallbackError::Parameter(_))),
            "{query}"
        );
    }
    assert_eq!(
        code(&format!("code={}&state=s-0", "c".repeat(9000))),
        Err(CallbackError::TooLong)
    );
}

#[test]
fn rfc9207_callback_of_another_issuer_is_rejected() {
    for query in ["code=c&state=s-0", "code=c&state=s-0&iss="] {
        assert_eq!(
            code_of_named_issuer(query),
            Err(CallbackError::Issuer),
            "{query}"
        );
    }
    for iss in [
        "https%3A%2F%2Fevil.example",
        "https%3A%2F%2Facme.okta.com%2F",
    ] {
        for answer in ["code=c", "error=access_denied"] {
            let query = format!("{answer}&state=s-0&iss={iss}");
            assert_eq!(code(&query), Err(CallbackError::Issuer), "{query}");
        }
    }
}

#[test]
fn r04_error_of_the_provider_is_cut_and_on_one_line() {
    let denied = CallbackError::Provider {
        error: "access_denied".into(),
        description: None,
    };
    assert_eq!(
        code("error=access_denied&error_description=&state=s-0"),
        Err(denied)
    );
    let error = |query: &str| match code(query) {
        Err(CallbackError::Provider { error, description }) => (error, description.unwrap()),
        other => panic!("{other:?}"),
    };
    let (name, description) = error(
        "error=<script>alert(1)</script>&error_description=%0d%0aSet-Cookie:x=1%E2%80%AE&state=s-0",
    );
    assert_eq!(name, "<script>alert(1)</script>");
    assert_eq!(description, "  Set-Cookie:x=1 ");
    let (name, description) = error(&format!(
        "error={0}&error_description={0}&state=s-0",
        "\u{e4}".repeat(2000)
    ));
    assert_eq!(
        (name.chars().count(), description.chars().count()),
        (64, 300)
    );
}
