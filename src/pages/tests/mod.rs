mod html;
mod wording;

use std::collections::BTreeSet;

use super::*;
use crate::model::Support;
use html::{destinations, start_tags};

/// A text that no template contains.
const MARKER: &str = "marker-7d1f";

const CAUSES: [LostCookie; 6] = [
    LostCookie::Blocked,
    LostCookie::ThirdParty,
    LostCookie::SameSite,
    LostCookie::PlainHttp,
    LostCookie::HostChanged,
    LostCookie::TooMany,
];

/// Returns every page, with `text` in every text field and `href` in every link field.
fn pages(text: &str, href: &str) -> Vec<(&'static str, Page)> {
    let link = Link { href, label: text };
    let id = text;
    let error = ErrorPage::new(StatusCode::IM_A_TEAPOT, text, text, id)
        .with_hint(text)
        .with_retry(Some(link));
    let denied = Denied {
        application: text,
        signed_in_as: Some(text),
        message: Some(text),
        undecided: None,
        groups_unknown: false,
        switch_account: Some(href),
        support: None,
        reason: Some(text),
        request_id: id,
    };
    vec![
        (
            "login",
            LoginChooser {
                team: text,
                application: text,
                providers: &[link; 3],
                request_id: id,
            }
            .page(),
        ),
        (
            "home",
            Home {
                team: text,
                signed_in_as: Some(text),
                sign_out: href,
                request_id: id,
            }
            .page(),
        ),
        (
            "home_signed_out",
            Home {
                team: text,
                signed_in_as: None,
                sign_out: href,
                request_id: id,
            }
            .page(),
        ),
        ("denied", denied.page()),
        (
            "undecided",
            Denied {
                undecided: Some(href),
                ..denied.clone()
            }
            .page(),
        ),
        (
            "undecided_groups",
            Denied {
                undecided: Some(href),
                groups_unknown: true,
                ..denied.clone()
            }
            .page(),
        ),
        (
            "denied_before_login",
            Denied {
                signed_in_as: None,
                message: None,
                switch_account: None,
                reason: None,
                ..denied
            }
            .page(),
        ),
        (
            "error",
            error.with_switch(Some(href)).with_reason(text).page(),
        ),
        ("bad_request", ErrorPage::bad_request(id).page()),
        (
            "application_not_found",
            ErrorPage::application_not_found(id).page(),
        ),
        ("content_too_large", ErrorPage::content_too_large(id).page()),
        ("misdirected", ErrorPage::misdirected(id).page()),
        ("headers_too_large", ErrorPage::headers_too_large(id).page()),
        ("internal", ErrorPage::internal(id).page()),
        (
            "upstream_unreachable",
            ErrorPage::upstream_unreachable(id).page(),
        ),
        (
            "upstream_unhealthy",
            ErrorPage::upstream_unhealthy(id).page(),
        ),
        ("overloaded", ErrorPage::overloaded(id).page()),
        ("upstream_too_slow", ErrorPage::upstream_too_slow(id).page()),
        ("unavailable", ErrorPage::unavailable(id).page()),
        (
            "login_expired",
            ErrorPage::login_expired(Some(href), id).page(),
        ),
        (
            "session_not_accepted",
            ErrorPage::session_not_accepted(href, id).page(),
        ),
        (
            "groups_unavailable",
            ErrorPage::groups_unavailable(id)
                .with_retry(Some(link))
                .page(),
        ),
        (
            "cookie_conflict",
            CookieConflict {
                cookie: text,
                host: text,
                domain: Some(text),
                start_again: href,
                support: None,
                reason: text,
                request_id: id,
            }
            .page(),
        ),
        (
            "login_loop",
            LoginLoop {
                cookie: text,
                causes: &CAUSES,
                start_again: Some(href),
                support: None,
                reason: Some(text),
                request_id: id,
            }
            .page(),
        ),
        (
            "saml_request",
            SamlRequest {
                provider: text,
                action: href,
                saml_request: text,
                relay_state: text,
                request_id: id,
            }
            .page(),
        ),
        (
            "logged_out",
            LoggedOut {
                also_at: Some(text),
                back: Some(link),
                switch_account: Some(href),
                request_id: id,
            }
            .page(),
        ),
        (
            "logged_out_here",
            LoggedOut {
                also_at: None,
                back: None,
                switch_account: None,
                request_id: id,
            }
            .page(),
        ),
        (
            "identity_refreshed",
            IdentityRefreshed {
                signed_in_as: text,
                groups: Some(3),
                request_id: id,
            }
            .page(),
        ),
        (
            "trial_succeeded",
            TrialSucceeded {
                provider: text,
                facts: &[(text, Some(text)), (text, None)],
                groups: &[(text, true), (text, false)],
                others: &[text],
                claims: &[(text, Some(text)), (text, None)],
                notes: &[text],
                json: text,
                request_id: id,
            }
            .page(),
        ),
        (
            "trial_failed",
            TrialFailed {
                provider: text,
                step: text,
                causes: &[text.to_owned()],
                advice: Some(text),
                reason: text,
                request_id: id,
            }
            .page(),
        ),
        (
            "logout_confirm",
            LogoutConfirm {
                action: href,
                csrf: text,
                request_id: id,
            }
            .page(),
        ),
        (
            "handover",
            Handover {
                application: text,
                href,
                request_id: id,
            }
            .page(),
        ),
        (
            "resend_form",
            ResendForm {
                application: text,
                login: href,
                request_id: id,
            }
            .page(),
        ),
    ]
}

fn html(page: &Page) -> &str {
    std::str::from_utf8(&page.body).expect("pages are UTF-8")
}

#[test]
fn text_is_escaped_in_every_field() {
    let text = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&";
    let escaped = "&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#62;&#60;img src=x onerror=alert(1)&#62;&#38;";
    for ((name, plain), (_, hostile)) in pages(MARKER, "/next").iter().zip(&pages(text, "/next")) {
        assert_eq!(
            html(hostile),
            html(plain).replace(MARKER, escaped),
            "{name}"
        );
        assert_eq!(
            start_tags(html(hostile)).len(),
            start_tags(html(plain)).len(),
            "{name}"
        );
    }
}

#[test]
fn a_link_cannot_leave_its_attribute() {
    let href = "/next?a=1&b=\" onclick=\"alert(1)\"><script>alert(1)</script><a href='";
    for ((name, plain), (_, hostile)) in pages("text", "/next").iter().zip(&pages("text", href)) {
        let (plain, hostile) = (html(plain), html(hostile));
        let expected: BTreeSet<_> = destinations(plain)
            .iter()
            .map(|_| href.to_owned())
            .collect();
        assert_eq!(destinations(hostile), expected, "{name}");
        assert_eq!(start_tags(hostile).len(), start_tags(plain).len(), "{name}");
    }
}

#[test]
fn links_lead_only_to_the_given_targets() {
    let leads: Vec<_> = pages("text", "/next")
        .iter()
        .filter(|(_, p)| !destinations(html(p)).is_empty())
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(
        leads,
        [
            "login",
            "home",
            "denied",
            "undecided",
            "undecided_groups",
            "error",
            "login_expired",
            "session_not_accepted",
            "groups_unavailable",
            "cookie_conflict",
            "login_loop",
            "saml_request",
            "logged_out",
            "logout_confirm",
            "handover",
            "resend_form"
        ]
    );
}

#[test]
fn pages_run_no_script_and_load_nothing() {
    for (name, page) in &pages("text", "/next") {
        let html = html(page);
        // One page has a script, which submits its form. Its own policy allows that script only.
        let sent = html.replace("<script>document.forms[0].submit()</script>", "");
        assert_eq!(sent.len() < html.len(), *name == "saml_request", "{name}");
        assert!(!sent.to_ascii_lowercase().contains("<script"), "{name}");
        for (element, attributes) in start_tags(html) {
            for (key, value) in attributes {
                assert!(
                    !key.starts_with("on"),
                    "{name}: `{key}` on `{element}` is a script"
                );
                assert_ne!(
                    key, "style",
                    "{name}: the policy forbids the style of `{element}`"
                );
                assert_ne!(key, "src", "{name}: `{element}` loads `{value}`");
                assert!(
                    element != "link" || key != "href" || value.starts_with("data:"),
                    "{name} loads `{value}`"
                );
            }
        }
        assert!(
            !STYLE.contains("url(") && !STYLE.contains("@import"),
            "the style loads something"
        );
    }
}

#[test]
fn every_page_shows_the_request_id() {
    for (name, page) in &pages(MARKER, "/next") {
        let footer = html(page)
            .split_once("<footer>")
            .expect("there is a footer")
            .1;
        assert!(
            footer.contains(&format!("request id <code>{MARKER}</code>")),
            "{name}"
        );
    }
}

#[test]
fn every_page_has_its_landmarks() {
    for (name, page) in &pages("text", "/next") {
        let tags = start_tags(html(page));
        for element in ["html", "title", "header", "main", "h1", "footer"] {
            assert_eq!(
                tags.iter().filter(|(name, _)| *name == element).count(),
                1,
                "{name}: `{element}`"
            );
        }
        assert!(tags.contains(&("html", vec![("lang", "en")])), "{name}");
        assert!(
            html(page).starts_with("<!doctype html>"),
            "{name} is in quirks mode"
        );
    }
}

#[test]
fn every_page_has_the_right_status() {
    let statuses: Vec<_> = pages("text", "/next")
        .iter()
        .map(|(name, p)| (*name, p.status.as_u16()))
        .collect();
    assert_eq!(
        statuses,
        [
            ("login", 200),
            ("home", 200),
            ("home_signed_out", 200),
            ("denied", 403),
            ("undecided", 403),
            ("undecided_groups", 403),
            ("denied_before_login", 403),
            ("error", 418),
            ("bad_request", 400),
            ("application_not_found", 404),
            ("content_too_large", 413),
            ("misdirected", 421),
            ("headers_too_large", 431),
            ("internal", 500),
            ("upstream_unreachable", 502),
            ("upstream_unhealthy", 503),
            ("overloaded", 503),
            ("upstream_too_slow", 504),
            ("unavailable", 503),
            ("login_expired", 400),
            ("session_not_accepted", 403),
            ("groups_unavailable", 503),
            ("cookie_conflict", 400),
            ("login_loop", 400),
            ("saml_request", 200),
            ("logged_out", 200),
            ("logged_out_here", 200),
            ("identity_refreshed", 200),
            ("trial_succeeded", 200),
            ("trial_failed", 200),
            ("logout_confirm", 200),
            ("handover", 200),
            ("resend_form", 401),
        ]
    );
}

#[test]
fn policy_allows_only_the_style_of_the_page() {
    let headers = security_headers();
    let (_, policy) = headers
        .iter()
        .find(|(name, _)| name == header::CONTENT_SECURITY_POLICY)
        .expect("there is a policy");
    for (name, page) in &pages("text", "/next") {
        let (_, after) = html(page).split_once("<style>").expect("there is a style");
        let (style, after) = after.split_once("</style>").expect("the style is closed");
        assert!(!after.contains("<style"), "{name} has a second style");
        // HTML parsing turns CR LF into LF before the browser hashes.
        assert!(!style.contains('\r'), "{name}");
        let hash = STANDARD.encode(digest::digest(&digest::SHA256, style.as_bytes()));
        assert_eq!(
            policy.to_str().unwrap(),
            format!(
                "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; \
                 frame-ancestors 'none'; base-uri 'none'"
            ),
            "{name}"
        );
    }
}

#[test]
fn headers_forbid_storing_framing_and_guessing() {
    let headers: Vec<_> = security_headers()
        .iter()
        .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
        .collect();
    for line in [
        "content-type: text/html; charset=utf-8",
        "referrer-policy: no-referrer",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "cross-origin-opener-policy: same-origin",
        "cache-control: private, max-age=0, no-store, no-cache, must-revalidate, post-check=0, pre-check=0",
        "expires: Thu, 01 Jan 1970 00:00:01 GMT",
    ] {
        assert!(
            headers.contains(&line.to_owned()),
            "{line} is missing from {headers:#?}"
        );
    }
}
