//! Pages that say no, and the way on that each of them offers.

use url::Url;

use crate::support::portcullis::free_address;
use crate::support::{APPLICATIONS, Browser, Person, World, browser, raw};

const WIKI: &str = "http://wiki.localhost/page?a=1";
const SWITCH: &str = "Sign in with another account</a>";
const SUPPORT: &str = "support_text = \"The help desk knows more.\"\nsupport_url = \"mailto:help@example.com\"";

/// Whether the provider was asked to have the user sign in anew.
fn asked_for_the_account(browser: &Browser) -> bool {
    let authorize = browser.trail.iter().find(|(url, _)| url.path() == "/oauth2/v1/authorize");
    let (url, _) = authorize.unwrap_or_else(|| panic!("the provider was not asked: {:#?}", browser.trail));
    url.query_pairs().any(|(name, value)| name == "prompt" && value == "login")
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
async fn a_refused_account_can_be_changed() {
    let world = World::start().await;
    for description in ["User is not assigned to the client application.", "The resource owner denied the request."] {
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
        assert_eq!((page.url.as_str(), page.response.status), (WIKI, 200), "{:#?}", bob.trail);
        assert!(asked_for_the_account(&bob), "the same account would come back");
    }
}

#[tokio::test]
async fn an_unverified_address_can_be_changed() {
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
    assert!(page.response.status == 403 && text.contains("email_refused"), "{text}");
    let switch = Url::parse(&browser::link(&text, SWITCH).unwrap()).unwrap();
    assert!(switch.query_pairs().any(|(name, _)| name == "switch"), "{switch}");
}

#[tokio::test]
async fn a_cancelled_login_is_no_warning() {
    let world = World::start().await;
    refused_with(&world, "The login was cancelled.").await;
    let mut bob = world.browser();
    assert_eq!(bob.open(WIKI).await.response.status, 403);
    let line = world.proxy.logged(0, &["\"idp_refused\"", "cancelled"]).await;
    assert!(line.contains("\"INFO\""), "{line}");
    world.proxy.logged(0, &["\"INFO\"", "a login was cancelled"]).await;
    let log = world.proxy.log();
    assert!(!log.contains("assign the person"), "{log}");
    let warned = log.lines().any(|line| line.contains("\"WARN\"") && line.contains("idp_refused"));
    assert!(!warned, "{log}");

    refused_with(&world, "User is not assigned to the client application.").await;
    assert_eq!(world.browser().open(WIKI).await.response.status, 403);
    world.proxy.logged(log.len(), &["\"WARN\"", "assign the person"]).await;
}

#[tokio::test]
async fn a_logout_says_that_the_provider_may_remember_and_offers_another_account() {
    let world = World::start().await;
    let mut alice = world.signed_in(Person::alice(), "http://wiki.localhost/page").await;
    let page = alice.open("http://wiki.localhost/cdn-cgi/access/logout").await;
    let text = page.response.text();
    assert!(text.contains("You are signed out.") && text.contains("You may still be signed in"), "{text}");
    let switch = browser::link(&text, SWITCH).unwrap();
    assert_eq!(alice.open(&switch).await.response.status, 200, "{:#?}", alice.trail);
    assert!(asked_for_the_account(&alice));
}

#[tokio::test]
async fn every_page_that_refuses_or_fails_names_the_support() {
    let applications = format!(
        "{APPLICATIONS}\n[[applications]]\nname = \"Dead\"\ndomain = \"dead.$TLD\"\norigin = \"http://{}\"\n\
         policies = [{{ name = \"all\", decision = \"bypass\", include = [{{ everyone = {{}} }}] }}]\n",
        free_address()
    );
    let world = World::with(&applications, |config| config.team_more = SUPPORT).await;
    let mut bob = world.signed_in(Person::bob(), "http://app.localhost/").await;
    for (url, status) in [
        ("http://wiki.localhost/", 403),
        ("http://app.localhost/admin/x", 403),
        ("http://nobody.localhost/", 404),
        ("http://dead.localhost/", 502),
        ("http://access.localhost/nothing", 404),
        ("http://access.localhost/cdn-cgi/access/callback?state=x", 400),
        ("http://access.localhost/cdn-cgi/access/test-idp/okta", 403),
    ] {
        let page = bob.open(url).await;
        let text = page.response.text();
        assert_eq!(page.response.status, status, "{url}: {:#?}", bob.trail);
        assert!(text.contains("The help desk knows more."), "{url}: {text}");
        assert!(text.contains(r#"href="mailto:help@example.com"><bdi>help@example.com</bdi></a>"#), "{url}: {text}");
    }
    refused_with(&world, "no").await;
    let page = world.browser().open(WIKI).await;
    assert!(page.response.status == 403 && page.response.text().contains("The help desk knows more."));
}

#[tokio::test]
async fn a_denial_names_the_next_step() {
    let world = World::start().await;
    world.idp.script(|script| script.person = Person::bob());
    let page = world.browser().open(WIKI).await;
    let text = page.response.text();
    assert!(page.response.status == 403 && text.contains("To get access, ask your administrator."), "{text}");
}

#[tokio::test]
async fn a_failed_origin_can_be_tried_again() {
    let applications = format!(
        "[[applications]]\nname = \"Dead\"\ndomain = \"dead.$TLD\"\norigin = \"http://{}\"\n\
         policies = [{{ name = \"all\", decision = \"bypass\", include = [{{ everyone = {{}} }}] }}]\n",
        free_address()
    );
    let world = World::with(&applications, |_| ()).await;
    let ask = async |method: &str, target: &str| {
        let lines = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Content-Length: 0"];
        let answer = world.raw(raw::request(method, "dead.localhost", target, &lines)).await.unwrap();
        assert_eq!(answer.status, 502, "{method} {target}");
        browser::link(&answer.text(), "Try again</a>")
    };
    assert_eq!(ask("GET", "/a/b?c=d&e=f").await.as_deref(), Some("/a/b?c=d&e=f"));
    assert_eq!(ask("GET", "/").await.as_deref(), Some("/"));
    assert_eq!(ask("POST", "/a").await, None, "a link sends no form again");
}
