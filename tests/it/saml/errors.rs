//! Errors that an identity provider answers with over SAML, with the binary.

use crate::support::browser;
use crate::support::saml::{self, ACS, ISSUER, SSO, Statement, form, request, response};
use crate::support::{Browser, World};

const WIKI: &str = "http://wiki.localhost/page?q=1";
const SWITCH: &str = "Sign in with another account</a>";

async fn world() -> World {
    let everyone =
        r#"policies = [{ name = "all", decision = "allow", include = [{ everyone = {} }] }]"#;
    saml::world("", everyone).await
}

/// A response without an assertion; `to` and `more` are attributes of it.
fn failed(to: &str, codes: &str, message: &str) -> String {
    let message = if message.is_empty() {
        String::new()
    } else {
        format!("<p:StatusMessage>{message}</p:StatusMessage>")
    };
    let id = uuid::Uuid::new_v4().simple();
    let now = jiff::Timestamp::now();
    format!(
        r#"<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" Destination="{ACS}" ID="_{id}" {to} IssueInstant="{now}" Version="2.0"><a:Issuer xmlns:a="urn:oasis:names:tc:SAML:2.0:assertion">{ISSUER}</a:Issuer><p:Status>{codes}{message}</p:Status></p:Response>"#
    )
}

fn urn(name: &str) -> String {
    format!("urn:oasis:names:tc:SAML:2.0:status:{name}")
}

fn within(outer: &str, inner: &str) -> String {
    format!(
        r#"<p:StatusCode Value="{}"><p:StatusCode Value="{inner}"/></p:StatusCode>"#,
        urn(outer)
    )
}

async fn begin(browser: &mut Browser) -> (String, String) {
    request(&browser.open_until(WIKI, SSO).await)
}

#[tokio::test]
async fn error_without_relay_state_keeps_its_reason() {
    let world = world().await;
    for (codes, message, on_page, in_log) in [
        (
            within("Responder", &urn("AuthnFailed")),
            "Your account is locked",
            "(AuthnFailed)",
            "`Your account is locked`",
        ),
        (
            within("Responder", &urn("RequestDenied")),
            "not assigned",
            "(RequestDenied)",
            "assign the user",
        ),
        (
            format!(r#"<p:StatusCode Value="{}"/>"#, urn("Requester")),
            "",
            "(Requester)",
            "the ACS and entity id",
        ),
        (
            within("Responder", "urn:call-0800-123"),
            "",
            "refused the sign-in,",
            "`urn:call-0800-123`",
        ),
        (
            within("Responder", &urn("call-0800-123")),
            "",
            "refused the sign-in,",
            "`call-0800-123`",
        ),
    ] {
        for relay_state in ["", "https://wiki.localhost/"] {
            let before = world.proxy.log().len();
            let body = form(
                &failed(r#"InResponseTo="_x""#, &codes, message),
                relay_state,
            );
            let body = if relay_state.is_empty() {
                body.replace("&RelayState=", "")
            } else {
                body
            };
            let page = world.browser().post_from_elsewhere(ACS, &body).await;
            let text = page.response.text();
            assert_eq!(page.response.status, 400, "{codes}: {text}");
            assert!(
                text.contains(on_page) && text.contains("login_state"),
                "{codes}: {text}"
            );
            for words in ["0800", "locked", "not assigned"] {
                assert!(!text.contains(words), "a page repeats foreign text: {text}");
            }
            world
                .proxy
                .logged(before, &["belongs to no login", in_log, "login_state"])
                .await;
        }
    }
    // A response that is no error is a login that the provider began, and nonsense is nothing.
    let before = world.proxy.log().len();
    for response in [
        response("_x", &Statement::alice()),
        "<p>x</p>".to_owned(),
        failed("", "", ""),
    ] {
        let page = world
            .browser()
            .post_from_elsewhere(ACS, &form(&response, ""))
            .await;
        assert!(
            page.response.status == 400 && page.response.text().contains("saml_unsolicited"),
            "{response}"
        );
    }
    assert!(!world.proxy.log()[before..].contains("belongs to no login"));
}

#[tokio::test]
async fn error_after_a_lost_cookie_keeps_its_reason() {
    let world = world().await;
    let (to, relay_state) = begin(&mut world.browser()).await;
    let error = failed(
        &format!(r#"InResponseTo="{to}""#),
        &within("Responder", &urn("NoAuthnContext")),
        "no token",
    );
    let before = world.proxy.log().len();
    let mut other = world.browser();
    let page = other
        .post_until(ACS, &form(&error, &relay_state), SSO)
        .await;
    assert!(
        page.as_str().starts_with(SSO),
        "{page}: the login begins once more"
    );
    world
        .proxy
        .logged(
            before,
            &["belongs to no login", "`no token`", "flow_cookie_missing"],
        )
        .await;
}

#[tokio::test]
async fn cancelled_login_offers_next_steps_and_no_advice() {
    let world = world().await;
    for (inner, message) in [
        (urn("RequestDenied"), ""),
        (urn("AuthnFailed"), ""),
        (urn("AuthnFailed"), "User cancelled the login"),
        ("http://id.elegnamnden.se/status/1.0/cancel".to_owned(), ""),
    ] {
        // Keycloak does not repeat the id of the request in an error.
        for repeated in [true, false] {
            let before = world.proxy.log().len();
            let mut browser = world.browser();
            let (to, relay_state) = begin(&mut browser).await;
            let to = if repeated {
                format!(r#"InResponseTo="{to}""#)
            } else {
                String::new()
            };
            let error = failed(&to, &within("Responder", &inner), message);
            let page = browser
                .post_from_elsewhere(ACS, &form(&error, &relay_state))
                .await;
            let text = page.response.text();
            assert!(
                page.response.status == 403 && text.contains("idp_refused"),
                "{inner}: {text}"
            );
            assert!(
                text.contains("The sign-in was cancelled") && text.contains("Try again</a>"),
                "{inner}: {text}"
            );
            world
                .proxy
                .logged(before, &["\"INFO\"", "a login was cancelled"])
                .await;
            let log = world.proxy.log();
            assert!(
                !log[before..].contains("assign the user"),
                "{inner}: {}",
                &log[before..]
            );
            let switch = browser::link(&text, SWITCH).unwrap();
            let (to, relay_state) = request(&browser.open_until(&switch, SSO).await);
            let answer = form(&response(&to, &Statement::alice()), &relay_state);
            assert_eq!(
                browser
                    .post_from_elsewhere(ACS, &answer)
                    .await
                    .response
                    .status,
                200,
                "{:#?}",
                browser.trail
            );
        }
    }
}

#[tokio::test]
async fn refusal_with_a_reason_is_not_a_cancelled_login() {
    let world = world().await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    let codes = within("Responder", &urn("RequestDenied"));
    let error = failed(
        &format!(r#"InResponseTo="{to}""#),
        &codes,
        "User is not assigned to the application",
    );
    let page = browser
        .post_from_elsewhere(ACS, &form(&error, &relay_state))
        .await;
    assert!(
        page.response.text().contains("You may not be assigned"),
        "{}",
        page.response.text()
    );
    world
        .proxy
        .logged(0, &["\"WARN\"", "assign the user"])
        .await;
}

/// Keycloak's answer for a tab that was left open: the next login works, without a password.
#[tokio::test]
async fn expired_sign_in_page_restarts_the_login_once() {
    let world = world().await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    let expired = |to: &str| {
        failed(
            &format!(r#"InResponseTo="{to}""#),
            &within("Responder", &urn("AuthnFailed")),
            "authentication_expired",
        )
    };
    let again = browser
        .post_until(ACS, &form(&expired(&to), &relay_state), SSO)
        .await;
    let (to, relay_state) = request(&again);
    let mut other = browser.clone();
    let page = browser
        .post_from_elsewhere(
            ACS,
            &form(&response(&to, &Statement::alice()), &relay_state),
        )
        .await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "{:#?}",
        browser.trail
    );
    // Not for ever.
    let (to, relay_state) = {
        let (to, relay_state) = begin(&mut other).await;
        request(
            &other
                .post_until(ACS, &form(&expired(&to), &relay_state), SSO)
                .await,
        )
    };
    let page = other
        .post_from_elsewhere(ACS, &form(&expired(&to), &relay_state))
        .await;
    let text = page.response.text();
    assert!(
        page.response.status == 400 && text.contains("took too long"),
        "{text}"
    );
    assert!(browser::link(&text, "Try again</a>").is_some(), "{text}");
}
