//! Identity providers tried out: the command that makes a link, and the login behind it.

use std::process::Command;

use serde_json::json;

use crate::support::browser;
use crate::support::okta::{ALICE, API_TOKEN, CALLBACK, Okta};
use crate::support::saml::{ACS, SSO, Statement, form, log_in, provider, request, response};
use crate::support::{APPLICATIONS, Browser, Config, Portcullis, World, start};

/// Runs `portcullis idp test` in the proxy's folder and returns its output.
fn idp_test(proxy: &Portcullis, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = command
        .args(["idp", "test"])
        .args(more)
        .current_dir(proxy.path(""))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn link(proxy: &Portcullis, idp: &str) -> String {
    let (code, said, complaints) = idp_test(proxy, &[idp]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    let link = said
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("http"))
        .expect("there is a link")
        .to_owned();
    assert!(
        link.starts_with(&format!(
            "http://access.localhost/cdn-cgi/access/test-idp/{idp}?link="
        )),
        "{link}"
    );
    link
}

/// No session, and the flow is over.
fn assert_nobody(browser: &Browser) {
    let ours = browser
        .cookies
        .iter()
        .filter(|cookie| cookie.host.ends_with(".localhost") && !cookie.value.is_empty());
    let names: Vec<_> = ours.map(|cookie| &cookie.name).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn trial_shows_the_identity_and_makes_no_session() {
    let okta = Okta::start(&[CALLBACK]);
    let claims =
        |config: &mut Config| config.provider = r#", claims = ["name", "cost_center"]"#.to_owned();
    let (proxy, origin) = start(&okta.issuer, claims).await;
    let groups = ["Engineering", "R&D <x>"];
    okta.control(json!({ "assign": { "login": ALICE, "groups": groups }, "thin": false }))
        .await;
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(&link(&proxy, "okta"), ALICE).await;
    let text = page.response.text();
    assert_eq!(page.response.status, 200, "{text}");
    for words in [
        "<h1>Your connection works!</h1>",
        "Example Okta",
        "<bdi>alice@example.com</bdi>",
        "<bdi>2, from the ID token</bdi>",
        "<bdi>Engineering</bdi> <b>named by a rule</b>",
        "<bdi>R&#38;D &#60;x&#62;</bdi></li>",
        "Named in rules, but this account is not a member",
        "<bdi>Finance</bdi></li>",
        "<dt><bdi>name</bdi></dt><dd><code>&#34;Alice Ames&#34;</code></dd>",
        "<dt><bdi>cost_center</bdi></dt><dd><i>requested, but not provided</i></dd>",
        "There is no <code>api_token</code>",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_nobody(&browser);
    origin.assert_untouched("a test");
    assert!(proxy.events("login").is_empty(), "there was no login");
    let events = proxy.events("idp_test");
    assert!(
        events.len() == 1 && events[0].to_string().contains(ALICE),
        "{events:?}"
    );
    assert!(!proxy.log().contains("?link="), "no link is in the log");
}

#[tokio::test]
async fn trial_names_the_api_as_source_of_groups() {
    let okta = Okta::start(&[CALLBACK]);
    let (proxy, _origin) = start(&okta.issuer, |config| {
        config.api_token = Some(API_TOKEN.to_owned())
    })
    .await;
    let groups: Vec<String> = (0..150).map(|n| format!("crowd-{n:03}")).collect();
    okta.control(
        json!({ "assign": { "login": ALICE, "groups": groups }, "overLimit": "truncate" }),
    )
    .await;
    let text = Browser::new(&proxy)
        .open_as(&link(&proxy, "okta"), ALICE)
        .await
        .response
        .text();
    assert!(
        text.contains("<bdi>150, from Okta&#39;s API</bdi>") && text.contains("crowd-149"),
        "{text}"
    );
    assert!(!text.contains("api_token"), "{text}");
}

#[tokio::test]
async fn failed_trial_names_its_step_and_the_remedy() {
    let okta = Okta::start(&[CALLBACK]);
    let (proxy, origin) = start(&okta.issuer, |config| {
        config.api_token = Some("00nobodys".to_owned())
    })
    .await;
    okta.control(json!({ "overLimit": "truncate" })).await;
    let groups: Vec<String> = (0..150).map(|n| format!("crowd-{n:03}")).collect();
    okta.control(json!({ "assign": { "login": ALICE, "groups": groups } }))
        .await;
    let mut browser = Browser::new(&proxy);
    let text = browser
        .open_as(&link(&proxy, "okta"), ALICE)
        .await
        .response
        .text();
    for words in [
        "Your connection does not work",
        "reading the groups",
        "E0000011",
        "create a new one",
        "groups_unavailable",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("00nobodys"), "{text}");
    assert_nobody(&browser);
    proxy
        .logged(0, &["a login failed", "create a new one"])
        .await;
    assert_eq!(
        (proxy.events("login").len(), proxy.events("idp_test").len()),
        (0, 1)
    );

    let wrong =
        |config: &mut Config| config.credentials = r#"client_secret = "not-the-secret""#.to_owned();
    let (proxy, _origin) = start(&okta.issuer, wrong).await;
    let text = Browser::new(&proxy)
        .open_as(&link(&proxy, "okta"), ALICE)
        .await
        .response
        .text();
    for words in [
        "exchanging the code for tokens",
        "invalid_client",
        "client_secret",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }

    // Port 9 has no listener.
    let gone = |config: &mut Config| config.issuer = "http://127.0.0.1:9".to_owned();
    let (proxy, _origin) = start(&okta.issuer, gone).await;
    let page = Browser::new(&proxy).open(&link(&proxy, "okta")).await;
    let text = page.response.text();
    for words in [
        "Your connection does not work",
        "discovery document",
        "cannot be reached",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    origin.assert_untouched("tests that failed");
}

#[tokio::test]
async fn invalid_trial_link_starts_no_login() {
    let okta = Okta::start(&[CALLBACK]);
    let (proxy, _origin) = start(&okta.issuer, |_| ()).await;
    let good = link(&proxy, "okta");
    let (place, seal) = good.split_once("?link=").unwrap();
    let other = place.replace("/okta", "/call-0800");
    for url in [
        place.to_owned(),
        format!("{place}?link="),
        format!(
            "{place}?link={}{}",
            if seal.starts_with('x') { 'y' } else { 'x' },
            &seal[1..]
        ),
        format!("{good}&link={seal}"),
        format!("{other}?link={seal}"),
    ] {
        let page = Browser::new(&proxy).open(&url).await;
        let text = page.response.text();
        assert_eq!(page.response.status, 403, "{url}: {text}");
        assert!(
            text.contains("portcullis idp test") && text.contains("test_link"),
            "{url}: {text}"
        );
        assert_eq!(
            text.contains("portcullis idp test okta"),
            !url.contains("/call-0800"),
            "{url}: {text}"
        );
        assert!(
            !text.contains("call-0800"),
            "an id that is not configured is not shown: {text}"
        );
    }
    let at_the_application = good.replace("access.localhost", "wiki.localhost");
    assert_eq!(
        Browser::new(&proxy)
            .open(&at_the_application)
            .await
            .response
            .status,
        404
    );
    assert_eq!(okta.count("/oauth2/v1/authorize").await, 0);
    // A callback of a test, brought by another browser, ends nowhere.
    let mut browser = Browser::new(&proxy);
    let sent = browser.open_until(&good, &okta.issuer).await;
    let (_, state) = sent
        .query_pairs()
        .find(|(name, _)| name == "state")
        .expect("it goes to the provider")
        .clone();
    let page = Browser::new(&proxy)
        .open(&format!("{CALLBACK}?code=x&state={state}"))
        .await;
    assert_eq!(page.response.status, 400, "{}", page.response.text());
    assert!(
        page.response.text().contains("flow_cookie_missing"),
        "{}",
        page.response.text()
    );
}

#[tokio::test]
async fn trial_command_explains_its_mistakes() {
    let okta = Okta::start(&[CALLBACK]);
    let (mut proxy, _origin) = start(&okta.issuer, |_| ()).await;
    let (code, _, complaint) = idp_test(&proxy, &["octa"]);
    assert!(
        code == Some(2)
            && complaint.contains("identity provider `octa` not found; configured: `okta`"),
        "{complaint}"
    );
    let (code, all, _) = idp_test(&proxy, &[]);
    assert!(code == Some(0) && all.contains("Example Okta"), "{all}");
    proxy.stop().await;
    std::fs::rename(proxy.path("portcullis.db"), proxy.path("elsewhere.db")).unwrap();
    let (code, _, complaint) = idp_test(&proxy, &[]);
    assert!(
        code == Some(2) && complaint.contains("start `portcullis run`"),
        "{complaint}"
    );
    assert!(
        !proxy.path("portcullis.db").exists(),
        "a store of the command's own would be another secret"
    );
}

/// Another provider in the world of [`World`], by way of SAML.
async fn with_saml() -> World {
    let either = r#"
[[applications]]
name = "Either"
domain = "either.$TLD"
origin = "$ORIGIN"
policies = [{ name = "everyone", decision = "allow", include = [{ everyone = {} }] }]
"#;
    let saml = provider(r#"attributes = ["department", "cost_center"]"#);
    World::with(&[&saml, either, APPLICATIONS].concat(), |_| ()).await
}

#[tokio::test]
async fn trial_works_with_saml() {
    let world = with_saml().await;
    let url = link(&world.proxy, "saml");
    let mut browser = world.browser();
    let page = log_in(&mut browser, &url, &Statement::alice()).await;
    let text = page.response.text();
    for words in [
        "Your connection works!",
        "Example SAML",
        "<bdi>2, from the SAML assertion</bdi>",
        "Research &#38; Development, Köln",
        "<dt><bdi>cost_center</bdi></dt><dd><i>requested, but not provided</i></dd>",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_nobody(&browser);

    let (to, relay_state) = request(&browser.open_until(&url, SSO).await);
    let changed = response(&to, &Statement::alice()).replace("alice@", "admin@");
    let text = browser
        .post_from_elsewhere(ACS, &form(&changed, &relay_state))
        .await
        .response
        .text();
    for words in [
        "Your connection does not work",
        "verifying the signatures",
        "the signed element was modified after signing",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_nobody(&browser);
}

#[tokio::test]
async fn saml_identity_is_refreshed_over_saml() {
    let world = with_saml().await;
    let mut browser = world.browser();
    let chooser = browser.open("http://either.localhost/").await;
    let chosen =
        browser::link(&chooser.response.text(), "Example SAML").expect("there is a choice");
    let chosen = chooser.url.join(&chosen).unwrap();
    log_in(&mut browser, chosen.as_str(), &Statement::alice()).await;
    let refresh = "http://access.localhost/cdn-cgi/access/refresh-identity";
    let moved = Statement {
        groups: Some(vec!["Finance"]),
        ..Statement::alice()
    };
    let page = log_in(&mut browser, refresh, &moved).await;
    assert_eq!(
        page.url.as_str(),
        format!("{refresh}?success=true"),
        "{:#?}",
        browser.trail
    );
    let identity = browser
        .get("http://access.localhost/cdn-cgi/access/get-identity")
        .await
        .json();
    assert_eq!(
        identity["groups"],
        json!([{"id": "Finance", "name": "Finance"}])
    );
}
