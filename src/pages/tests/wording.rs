//! The texts of pages.

use super::*;

#[test]
fn texts_users_search_for_are_exact() {
    let all = pages("CF_Authorization", "/next");
    for (page, words) in [
        (
            "application_not_found",
            "<h1>Unable to find your Access application!</h1>",
        ),
        ("home", "<h1>You are signed in.</h1>"),
        ("home_signed_out", "<h1>You are not signed in.</h1>"),
        ("denied", "<h1>That account does not have access.</h1>"),
        ("unavailable", "<h1>Sign-in is currently unavailable.</h1>"),
        ("login_expired", "<h1>This sign-in has expired.</h1>"),
        (
            "session_not_accepted",
            "<h1>Your sign-in was not accepted.</h1>",
        ),
        (
            "groups_unavailable",
            "<h1>Failed to fetch user/group information from the identity provider</h1>",
        ),
        (
            "login_loop",
            "<h1>Your browser did not return the cookie <code>CF_Authorization</code>.</h1>",
        ),
        (
            "undecided",
            "<h1>We couldn't determine whether you have access.</h1>",
        ),
        (
            "undecided_groups",
            "<p>Failed to fetch user/group information from the identity provider. Without it, \
             access cannot be determined.</p>",
        ),
        ("trial_succeeded", "<h1>Your connection works!</h1>"),
        ("logged_out", "<h1>You are signed out.</h1>"),
        ("logout_confirm", "<h1>Sign out of all applications?</h1>"),
        ("resend_form", "<h1>Sign in, then send the form again.</h1>"),
    ] {
        let (_, found) = all
            .iter()
            .find(|(name, _)| *name == page)
            .expect("the page exists");
        assert!(html(found).contains(words), "{page}: {}", html(found));
    }
}

#[test]
fn denial_without_a_user_mentions_no_account() {
    let denied = Denied {
        application: "wiki",
        signed_in_as: None,
        message: None,
        undecided: None,
        groups_unknown: false,
        switch_account: None,
        support: None,
        reason: None,
        request_id: MARKER,
    };
    let page = denied.page();
    assert!(
        !html(&page).contains("account") && !html(&page).contains("Signed in as"),
        "{}",
        html(&page)
    );
}

#[test]
fn denials_and_errors_show_the_support_contact() {
    let url = Support::parse_url("https://help.example.com/access?a=1&b=2").unwrap();
    let support = Support::new(Some("Ask the <help desk>.".to_owned()), Some(url)).unwrap();
    let support = Some(&support);
    let denied = Denied {
        application: "wiki",
        signed_in_as: None,
        message: None,
        undecided: None,
        groups_unknown: false,
        switch_account: None,
        support,
        reason: None,
        request_id: MARKER,
    };
    let loops = LoginLoop {
        cookie: "c",
        causes: &CAUSES,
        start_again: None,
        support,
        reason: None,
        request_id: MARKER,
    };
    let conflict = CookieConflict {
        cookie: "c",
        host: "h",
        domain: None,
        start_again: "/",
        support,
        reason: "r",
        request_id: MARKER,
    };
    for page in [
        denied.page(),
        Denied {
            message: Some("No."),
            ..denied
        }
        .page(),
        loops.page(),
        conflict.page(),
        ErrorPage::upstream_unreachable(MARKER)
            .with_support(support)
            .page(),
    ] {
        let html = html(&page);
        assert!(
            html.contains("Ask the &#60;help desk&#62;. <a href="),
            "{html}"
        );
        assert!(
            html.contains(r#"href="https://help.example.com/access?a=1&#38;b=2""#),
            "{html}"
        );
        assert!(
            html.contains("<bdi>help.example.com/access</bdi></a>"),
            "{html}"
        );
    }
}

#[test]
fn denial_without_a_message_names_the_next_step() {
    let all = pages("text", "/next");
    let shows = |page: &str| {
        html(&all.iter().find(|(name, _)| *name == page).unwrap().1).contains(ASK_FOR_ACCESS)
    };
    assert!(shows("denied_before_login") && !shows("denied") && !shows("undecided"));
}

#[test]
fn rejected_account_is_offered_another_one_first() {
    let page = ErrorPage::new(StatusCode::FORBIDDEN, "t", "s", MARKER).with_switch(Some("/switch"));
    let page = page
        .with_retry(Some(Link {
            href: "/again",
            label: TRY_AGAIN,
        }))
        .page();
    let html = html(&page);
    let (switch, again) = (html.find("/switch").unwrap(), html.find("/again").unwrap());
    assert!(
        switch < again && html.contains(r#"class="button main" href="/switch""#),
        "{html}"
    );
    assert!(html.contains(r#"class="button" href="/again""#), "{html}");
}

#[test]
fn logout_mentions_the_session_at_the_provider() {
    let all = pages("text", "/next");
    let shows = |page: &str| {
        html(&all.iter().find(|(name, _)| *name == page).unwrap().1)
            .contains("may still be signed in")
    };
    assert!(shows("logged_out_here") && !shows("logged_out"));
}

#[test]
fn text_between_backticks_becomes_code() {
    for (text, html) in [
        ("plain", "plain"),
        (
            "set `client_id` or `issuer`",
            "set <code>client_id</code> or <code>issuer</code>",
        ),
        ("`<b>` & \"`", "<code>&#60;b&#62;</code> &#38; &#34;`"),
        ("an odd ` one", "an odd ` one"),
        ("`", "`"),
        ("", ""),
        ("``", "<code></code>"),
    ] {
        assert_eq!(marked(text), html, "{text}");
    }
}

#[test]
fn reason_id_is_shown_if_given() {
    for (name, page) in &pages("group_not_allowed", "/next") {
        let shown = html(page).contains("reason <code>group_not_allowed</code>");
        assert_eq!(
            shown,
            [
                "denied",
                "undecided",
                "undecided_groups",
                "error",
                "cookie_conflict",
                "login_loop",
                "trial_failed"
            ]
            .contains(name),
            "{name}"
        );
    }
}
