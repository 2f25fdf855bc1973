//! The answers of our endpoints: login URLs, tokens, identities, and the page of the team domain.

use serde_json::json;

use crate::support::{APPLICATIONS, Browser, Person, World, browser, open_token, raw};

const WIKI: &str = "http://wiki.localhost/page";
const METADATA: &str = "/.well-known/cloudflare-access-protected-resource";

#[tokio::test]
async fn refusal_names_the_protected_resource_document() {
    let world = World::start().await;
    let named = |path: &str| {
        format!("Cloudflare-Access resource_metadata=\"http://wiki.localhost{METADATA}{path}\"")
    };
    for (path, told) in [("/", "/"), ("/a/b?c=d", "/a/b"), ("/a\"b", "/a%22b")] {
        for lines in [&[][..], &["X-Requested-With: XMLHttpRequest"]] {
            let answer = world
                .raw(raw::request("GET", "wiki.localhost", path, lines))
                .await
                .unwrap();
            assert_eq!(
                answer.headers.all("www-authenticate"),
                [named(told)],
                "{path} {lines:?}"
            );
            if lines.is_empty() {
                assert_eq!(answer.status, 302);
                assert_eq!(
                    answer.headers.one("access-control-allow-credentials"),
                    Some("true")
                );
            }
        }
    }
    for (path, resource) in [
        ("", "http://wiki.localhost"),
        ("/", "http://wiki.localhost"),
        ("/a/b", "http://wiki.localhost/a/b"),
    ] {
        let answer = world
            .raw(raw::request(
                "GET",
                "wiki.localhost",
                &format!("{METADATA}{path}"),
                &[],
            ))
            .await
            .unwrap();
        let document = json!({
            "resource": resource, "protected": true, "team_domain": "access.localhost",
            "authorization_servers": ["http://access.localhost"], "authentication_methods": [{"name": "cloudflared"}],
        });
        assert_eq!((answer.status, answer.json()), (200, document), "{path}");
        assert_eq!(
            answer.headers.one("access-control-allow-origin"),
            Some("*"),
            "it is public"
        );
    }
    world.origin.assert_untouched("the metadata");
    for host in ["access.localhost", "other.localhost"] {
        let answer = world
            .raw(raw::request("GET", host, &format!("{METADATA}/"), &[]))
            .await
            .unwrap();
        assert_eq!(answer.status, 404, "{host}");
    }
}

#[tokio::test]
async fn other_well_known_paths_belong_to_the_application() {
    let world = World::start().await;
    for path in [
        "/.well-known/acme-challenge/x",
        "/.well-known/cloudflare-access-protected-resources",
        "/.well-known/",
    ] {
        let answer = world
            .raw(raw::request("GET", "open.localhost", path, &[]))
            .await
            .unwrap();
        assert_eq!(
            (answer.status, &answer.json()["target"]),
            (200, &json!(path))
        );
    }
    world.origin.forget();
    for path in [
        "/.well-known%2Fcloudflare-access-protected-resource/",
        &format!("{METADATA};x/"),
        &format!("{METADATA}%2Fx"),
    ] {
        let answer = world
            .raw(raw::request("GET", "open.localhost", path, &[]))
            .await
            .unwrap();
        assert_eq!(answer.status, 400, "{path}");
    }
    world
        .origin
        .assert_untouched("what can be read in two ways");
}

#[tokio::test]
async fn endpoint_answers_405_with_its_methods() {
    let world = World::start().await;
    for (host, path, allowed) in [
        (
            "access.localhost",
            "/cdn-cgi/access/login/wiki.localhost",
            "GET, HEAD",
        ),
        ("access.localhost", "/cdn-cgi/access/callback", "GET"),
        ("access.localhost", "/cdn-cgi/access/authorized", "POST"),
        ("wiki.localhost", "/cdn-cgi/access/authorized", "GET, HEAD"),
        ("access.localhost", "/cdn-cgi/access/logout", "GET, POST"),
        ("wiki.localhost", "/cdn-cgi/access/logout", "GET, POST"),
        ("wiki.localhost", "/cdn-cgi/access/certs", "GET, HEAD"),
        (
            "wiki.localhost",
            "/cdn-cgi/access/get-identity",
            "GET, HEAD",
        ),
        ("wiki.localhost", METADATA, "GET, HEAD"),
        ("access.localhost", "/", "GET, HEAD"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = world
                .raw(raw::request(method, host, path, &["Content-Length: 0"]))
                .await
                .unwrap();
            let taken = allowed.split(", ").any(|one| one == method);
            assert_eq!(
                answer.status == 405,
                !taken,
                "{method} {host}{path}: {}",
                answer.status
            );
            assert_eq!(
                answer.headers.one("allow"),
                (!taken).then_some(allowed),
                "{method} {host}{path}"
            );
        }
    }
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    for method in ["HEAD", "PUT", "DELETE"] {
        let logout = "http://wiki.localhost/cdn-cgi/access/logout";
        assert_eq!(alice.request(method, logout, &[], b"").await.status, 405);
        assert_eq!(
            alice.get(WIKI).await.status,
            200,
            "still signed in after {method}"
        );
    }
}

#[tokio::test]
async fn tokens_have_the_claims_of_access() {
    let world = World::start().await;
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let (_, app) = open_token(alice.cookie("wiki.localhost", "CF_Authorization").unwrap());
    let (_, org) = open_token(
        alice
            .cookie("access.localhost", "CF_Authorization")
            .unwrap(),
    );
    let url = "http://wiki.localhost/cdn-cgi/access/get-identity";
    let identity = alice.get(url).await.json();
    assert_eq!(
        (&app["type"], &app["country"]),
        (&json!("app"), &json!("")),
        "where from is not known here"
    );
    assert_eq!(
        (&app["identity"], &app["account_id"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(
        (&org["type"], &org["email"]),
        (&json!("org"), &json!("alice@example.com"))
    );
    assert_eq!(org["identity"], identity, "the whole document");
    assert_eq!(org["identity_nonce"], app["identity_nonce"]);
    let account = identity["account_id"].as_str().unwrap();
    assert!(
        account.len() == 32 && account.bytes().all(|b| b.is_ascii_hexdigit()),
        "{account}"
    );
    assert_eq!(org["account_id"], account);
    assert_eq!(identity["geo"], json!({"country": ""}));
}

#[tokio::test]
async fn identity_too_large_for_a_cookie_is_left_out() {
    let world = World::start().await;
    let groups = (0..90).map(|n| format!("a group with a name of some length, number {n}"));
    let mut person = Person::alice();
    person.groups.extend(groups);
    let mut alice = world.signed_in(person, WIKI).await;
    let token = alice
        .cookie("access.localhost", "CF_Authorization")
        .unwrap();
    let (_, org) = open_token(token);
    assert!(token.len() <= 3072, "{} bytes", token.len());
    assert_eq!(
        (&org["identity"], &org["email"]),
        (&json!(null), &json!("alice@example.com"))
    );
    let asked = world.idp.count("/oauth2/v1/authorize");
    assert_eq!(
        alice
            .open("http://app.localhost/admin")
            .await
            .response
            .status,
        200,
        "{:#?}",
        alice.trail
    );
    assert_eq!(
        world.idp.count("/oauth2/v1/authorize"),
        asked,
        "the session is kept all the same"
    );
}

#[tokio::test]
async fn team_domain_shows_the_signed_in_user() {
    let world = World::start().await;
    let page = world.browser().open("http://access.localhost/").await;
    let text = page.response.text();
    assert_eq!(page.response.status, 200);
    assert!(
        text.contains("Example")
            && text.contains("You are not signed in.")
            && !text.contains("Sign out"),
        "{text}"
    );
    assert_eq!(
        world
            .browser()
            .open("http://access.localhost/other")
            .await
            .response
            .status,
        404
    );

    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let page = alice
        .open("http://access.localhost/?__cf_access_message=logged_out")
        .await;
    assert!(
        !page.response.text().contains("signed out"),
        "the URL alone proves nothing"
    );
    let page = alice.open("http://access.localhost/").await;
    let text = page.response.text();
    assert!(text.contains("alice@example.com"), "{text}");
    let policy = page
        .response
        .headers
        .one("content-security-policy")
        .unwrap_or_default();
    assert!(
        policy.contains("frame-ancestors 'none'")
            && page.response.headers.lists("cache-control", "no-store")
    );
    assert_eq!(
        page.response.headers.one("cross-origin-opener-policy"),
        Some("same-origin")
    );
    let sign_out = page
        .url
        .join(&browser::link(&text, "Sign out").unwrap())
        .unwrap();
    let page = alice.open(sign_out.as_str()).await;
    assert!(
        page.response.text().contains("You are signed out."),
        "{:#?}",
        alice.trail
    );
    assert_eq!(alice.get(WIKI).await.status, 401);
}

/// The login URL of the team domain for another account.
fn switch(host: &str) -> String {
    format!("http://access.localhost/cdn-cgi/access/login/{host}?switch=1&redirect_url=%2F")
}

#[tokio::test]
async fn r12_switching_accounts_revokes_the_first_login() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    // The same user with a new login. The cookie of the other application is from the first one.
    let page = browser.open(&switch("app.localhost")).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("http://app.localhost/", 200),
        "{:#?}",
        browser.trail
    );
    assert_eq!(browser.get(WIKI).await.status, 200, "and goes on");
    world.idp.script(|script| script.person = Person::bob());
    let page = browser.open(&switch("pay.localhost")).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("http://pay.localhost/", 200),
        "{:#?}",
        browser.trail
    );
    world.origin.forget();
    for url in [WIKI, "http://app.localhost/"] {
        assert_eq!(
            browser.get(url).await.status,
            401,
            "{url} as the one before"
        );
    }
    world.origin.assert_untouched("a switch");
    assert_eq!(
        browser.open(WIKI).await.response.status,
        403,
        "as the one after: {:#?}",
        browser.trail
    );
}

#[tokio::test]
async fn removed_provider_ends_its_sessions() {
    let applications = APPLICATIONS.replace(
        "allowed_idps = [\"okta\"]\nauto_redirect_to_identity = true\n",
        "",
    );
    let mut world = World::with(&applications, |config| {
        config.rest += &format!(
            "\n[[identity_providers]]\nid = \"other\"\nname = \"Another Okta\"\ntype = \"okta\"\nconfig = {{ client_id = \
             \"0oaexample\", client_secret = \"{}\", okta_account = \"{}\" }}\n",
            crate::support::okta::CLIENT_SECRET,
            config.issuer
        );
    })
    .await;
    let through = async |world: &World, name: &str| {
        let mut browser = world.browser();
        let chooser = browser.open("http://app.localhost/").await;
        let choice =
            browser::link(&chooser.response.text(), name).expect("the provider is on the page");
        let page = browser
            .open(chooser.url.join(&choice).unwrap().as_str())
            .await;
        assert_eq!(page.response.status, 200, "{:#?}", browser.trail);
        browser
    };
    let mut goes = through(&world, "Another Okta").await;
    let mut stays: Browser = through(&world, "Example Okta").await;
    let (rest, _) = world
        .proxy
        .config
        .rest
        .split_once("[[identity_providers]]")
        .unwrap();
    world.proxy.config.rest = rest.to_owned();
    world.proxy.write_config();
    world.proxy.signal("HUP");
    for _ in 0..600 {
        if goes.get("http://app.localhost/").await.status == 401 {
            assert_eq!(stays.get("http://app.localhost/").await.status, 200);
            let page = goes.open("http://app.localhost/").await;
            assert_eq!(
                page.url.host_str(),
                Some("access.localhost"),
                "the organisation session is no way round"
            );
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("thirty seconds after the reload its people are still in");
}
