//! Error and denial pages, and the next step that each of them offers.

use url::Url;

use crate::support::portcullis::free_address;
use crate::support::{APPLICATIONS, Browser, Idp, Person, World, browser, raw, start};

const WIKI: &str = "http://wiki.localhost/page?a=1";
const LOGOUT: &str = "http://access.localhost/cdn-cgi/access/logout";
const SWITCH: &str = "Sign in with another account</a>";
const SUPPORT: &str =
    "support_text = \"The help desk knows more.\"\nsupport_url = \"mailto:help@example.com\"";

/// Returns `true` if the provider was asked to have the user sign in anew.
fn asked_for_the_account(browser: &Browser) -> bool {
    let authorize = browser
        .trail
        .iter()
        .find(|(url, _)| url.path() == "/oauth2/v1/authorize");
    let (url, _) =
        authorize.unwrap_or_else(|| panic!("the provider was not asked: {:#?}", browser.trail));
    url.query_pairs()
        .any(|(name, value)| name == "prompt" && value == "login")
}

async fn refused_with(world: &World, description: &'static str) {
    world.idp.script(|script| {
        script.callback = Box::new(move |back| {
            back.remove("code");
            back.insert("error".into(), "access_denied".into());
            back.insert("error_description".into(), description.into());
        });
    });
}

#[tokio::test]
async fn denied_user_can_switch_accounts() {
    let world = World::start().await;
    for description in [
        "User is not assigned to the client application.",
        "The resource owner denied the request.",
    ] {
        refused_with(&world, description).await;
        let mut bob = world.browser();
        let page = bob.open(WIKI).await;
        let text = page.response.text();
        assert_eq!(page.response.status, 403, "{:#?}", bob.trail);
        assert!(text.contains("idp_refused"), "{text}");
        let switch = browser::link(&text, SWITCH).unwrap();
        world.idp.script(|script| {
            script.person = Person::alice();
            script.callback = Box::new(|_| ());
        });
        let page = bob.open(&switch).await;
        assert_eq!(
            (page.url.as_str(), page.response.status),
            (WIKI, 200),
            "{:#?}",
            bob.trail
        );
        assert!(
            asked_for_the_account(&bob),
            "the same account would come back"
        );
    }
}

#[tokio::test]
async fn user_with_an_unverified_email_can_switch_accounts() {
    let world = World::start().await;
    let unverified = |claims: &mut serde_json::Map<String, serde_json::Value>| {
        claims.insert("email_verified".into(), false.into());
    };
    world.idp.script(|script| {
        script.claims = Box::new(unverified);
        script.profile = Box::new(unverified);
    });
    let mut bob = world.browser();
    let page = bob.open(WIKI).await;
    let text = page.response.text();
    assert!(
        page.response.status == 403 && text.contains("email_refused"),
        "{text}"
    );
    let switch = Url::parse(&browser::link(&text, SWITCH).unwrap()).unwrap();
    assert!(
        switch.query_pairs().any(|(name, _)| name == "switch"),
        "{switch}"
    );
}

#[tokio::test]
async fn page_about_an_unverified_email_address_names_it() {
    let world = World::start().await;
    let odd = "bob<b>\u{202e}@example.com";
    for (address, on_page) in [
        ("bob@example.com", "bob@example.com"),
        (odd, "bob&#60;b&#62; @example.com"),
    ] {
        let unverified = |claims: &mut serde_json::Map<String, serde_json::Value>| {
            claims.insert("email".into(), address.into());
            claims.insert("email_verified".into(), false.into());
        };
        world.idp.script(|script| {
            script.claims = Box::new(unverified);
            script.profile = Box::new(unverified);
        });
        let page = world.browser().open(WIKI).await;
        let text = page.response.text();
        assert!(
            page.response.status == 403 && text.contains("email_refused"),
            "{text}"
        );
        assert!(
            text.contains(on_page) && text.contains("has not verified your email address"),
            "{text}"
        );
    }
    let log = world.proxy.log();
    assert!(
        !log.contains("bob"),
        "the log names no user who was not let in: {log}"
    );

    let world = World::with(APPLICATIONS, |config| {
        config.provider = ", email_verified = \"required\"".into()
    })
    .await;
    world.idp.script(|script| script.person = Person::bob());
    let page = world.browser().open(WIKI).await;
    let text = page.response.text();
    assert!(
        page.response.status == 403 && text.contains(&Person::bob().email),
        "{text}"
    );
}

/// The page that a login failed on has a link, and no script, that leads to the same login.
#[tokio::test]
async fn page_of_an_unreachable_provider_offers_to_try_again() {
    let nobody = free_address();
    let (proxy, _origin) = start(&format!("http://{nobody}"), |_| ()).await;
    let mut browser = Browser::new(&proxy);
    let page = browser.open(WIKI).await;
    let text = page.response.text();
    assert_eq!(page.response.status, 503, "{text}");
    let again = browser::link(&text, "Try again</a>").unwrap_or_else(|| panic!("{text}"));
    assert!(
        again.starts_with("http://access.localhost/cdn-cgi/access/login/wiki.localhost?"),
        "{again}"
    );
    assert!(!text.contains("<script"), "{text}");
    let _idp = Idp::start_at(nobody).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut page = browser.open(&again).await;
    while page.response.status != 200 {
        assert!(std::time::Instant::now() < deadline, "{:#?}", browser.trail);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        page = browser.open(&again).await;
    }
    assert_eq!(page.url.as_str(), WIKI, "{:#?}", browser.trail);
}

/// The store can break at every step; the page then leads to the same address, and only after a
/// GET.
#[tokio::test]
async fn page_of_a_broken_store_offers_to_try_again() {
    let mut world = World::start().await;
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let from_elsewhere = [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Dest: document",
    ];
    let confirm = alice
        .request("GET", LOGOUT, &from_elsewhere, b"")
        .await
        .text();
    let csrf = confirm
        .split("name=\"csrf\" value=\"")
        .nth(1)
        .unwrap_or_else(|| panic!("{confirm}"));
    let csrf = format!("csrf={}", csrf.split('"').next().unwrap());
    // The new process remembers no session.
    world.proxy.stop().await;
    world.proxy.run().await;
    let database = world.proxy.database().await;
    sqlx::query("ALTER TABLE identities RENAME TO elsewhere")
        .execute(&database)
        .await
        .unwrap();
    let login =
        "/cdn-cgi/access/login/wiki.localhost?redirect_url=https%3A%2F%2Fevil.example%2F&a=%22%3E";
    for path in [
        "/",
        login,
        "/cdn-cgi/access/logout?returnTo=//evil.example",
        "/cdn-cgi/access/refresh-identity",
    ] {
        let answer = alice
            .request("GET", &format!("http://access.localhost{path}"), &[], b"")
            .await;
        let text = answer.text();
        assert_eq!(answer.status, 503, "{path}: {text}");
        assert_eq!(
            browser::link(&text, "Try again</a>").as_deref(),
            Some(path),
            "{text}"
        );
    }
    let posted = alice
        .request(
            "POST",
            LOGOUT,
            &["Content-Type: application/x-www-form-urlencoded"],
            csrf.as_bytes(),
        )
        .await;
    assert_eq!(
        (
            posted.status,
            browser::link(&posted.text(), "Try again</a>")
        ),
        (503, None),
        "{}",
        posted.text()
    );
    // A login that is under way begins anew: its own address is used up.
    let page = world.browser().open(WIKI).await;
    let text = page.response.text();
    assert_eq!(page.response.status, 503, "{text}");
    let again = browser::link(&text, "Try again</a>").unwrap();
    assert!(
        again.contains("/cdn-cgi/access/login/wiki.localhost?"),
        "{again}"
    );
}

#[tokio::test]
async fn cancelled_login_logs_no_warning() {
    let world = World::start().await;
    refused_with(&world, "The login was cancelled.").await;
    let mut bob = world.browser();
    assert_eq!(bob.open(WIKI).await.response.status, 403);
    let line = world
        .proxy
        .logged(0, &["\"idp_refused\"", "cancelled"])
        .await;
    assert!(line.contains("\"INFO\""), "{line}");
    world
        .proxy
        .logged(0, &["\"INFO\"", "a login was cancelled"])
        .await;
    let log = world.proxy.log();
    assert!(!log.contains("assign the user"), "{log}");
    let warned = log
        .lines()
        .any(|line| line.contains("\"WARN\"") && line.contains("idp_refused"));
    assert!(!warned, "{log}");

    refused_with(&world, "User is not assigned to the client application.").await;
    assert_eq!(world.browser().open(WIKI).await.response.status, 403);
    world
        .proxy
        .logged(log.len(), &["\"WARN\"", "assign the user"])
        .await;
}

#[tokio::test]
async fn logout_page_mentions_the_provider_session() {
    let world = World::start().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://wiki.localhost/page")
        .await;
    let page = alice
        .open("http://wiki.localhost/cdn-cgi/access/logout")
        .await;
    let text = page.response.text();
    assert!(
        text.contains("You are signed out.") && text.contains("You may still be signed in"),
        "{text}"
    );
    let switch = browser::link(&text, SWITCH).unwrap();
    assert_eq!(
        alice.open(&switch).await.response.status,
        200,
        "{:#?}",
        alice.trail
    );
    assert!(asked_for_the_account(&alice));
}

#[tokio::test]
async fn every_error_page_names_the_support() {
    let applications = format!(
        "{APPLICATIONS}\n[[applications]]\nname = \"Dead\"\ndomain = \"dead.$TLD\"\norigin = \"http://{}\"\n\
         policies = [{{ name = \"all\", decision = \"bypass\", include = [{{ everyone = {{}} }}] }}]\n",
        free_address()
    );
    let world = World::with(&applications, |config| config.team_more = SUPPORT).await;
    let mut bob = world
        .signed_in(Person::bob(), "http://app.localhost/")
        .await;
    for (url, status) in [
        ("http://wiki.localhost/", 403),
        ("http://app.localhost/admin/x", 403),
        ("http://unknown.localhost/", 404),
        ("http://dead.localhost/", 502),
        ("http://access.localhost/nothing", 404),
        (
            "http://access.localhost/cdn-cgi/access/callback?state=x",
            400,
        ),
        ("http://access.localhost/cdn-cgi/access/test-idp/okta", 403),
    ] {
        let page = bob.open(url).await;
        let text = page.response.text();
        assert_eq!(page.response.status, status, "{url}: {:#?}", bob.trail);
        assert!(text.contains("The help desk knows more."), "{url}: {text}");
        assert!(
            text.contains(r#"href="mailto:help@example.com"><bdi>help@example.com</bdi></a>"#),
            "{url}: {text}"
        );
    }
    refused_with(&world, "no").await;
    let page = world.browser().open(WIKI).await;
    assert!(
        page.response.status == 403 && page.response.text().contains("The help desk knows more.")
    );
}

#[tokio::test]
async fn denial_names_the_next_step() {
    let world = World::start().await;
    world.idp.script(|script| script.person = Person::bob());
    let page = world.browser().open(WIKI).await;
    let text = page.response.text();
    assert!(
        page.response.status == 403 && text.contains("To get access, ask your administrator."),
        "{text}"
    );
}

#[tokio::test]
async fn failed_origin_can_be_retried() {
    let applications = format!(
        "[[applications]]\nname = \"Dead\"\ndomain = \"dead.$TLD\"\norigin = \"http://{}\"\n\
         policies = [{{ name = \"all\", decision = \"bypass\", include = [{{ everyone = {{}} }}] }}]\n",
        free_address()
    );
    let world = World::with(&applications, |_| ()).await;
    let ask = async |method: &str, target: &str| {
        let lines = [
            "Accept: text/html",
            "Sec-Fetch-Mode: navigate",
            "Content-Length: 0",
        ];
        let answer = world
            .raw(raw::request(method, "dead.localhost", target, &lines))
            .await
            .unwrap();
        assert_eq!(answer.status, 502, "{method} {target}");
        browser::link(&answer.text(), "Try again</a>")
    };
    assert_eq!(
        ask("GET", "/a/b?c=d&e=f").await.as_deref(),
        Some("/a/b?c=d&e=f")
    );
    assert_eq!(ask("GET", "/").await.as_deref(), Some("/"));
    assert_eq!(ask("POST", "/a").await, None, "a link sends no form again");
}
