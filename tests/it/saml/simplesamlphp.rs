//! Logins over SAML at an identity provider that others wrote: SimpleSAMLphp, from the application
//! to the application.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::saml::{self, ACS, certificate, file, provider_at};
use crate::support::simplesamlphp::{ISSUER, Visit, visit, visit_until};
use crate::support::{Browser, SimpleSamlPhp, World};

const WIKI: &str = "http://wiki.localhost/page?q=1";

struct Stage {
    world: World,
    saml: SimpleSamlPhp,
    /// Ours, as the provider knows it.
    metadata: String,
}

impl Stage {
    /// The `wiki`, for one group, by way of SAML alone. `more` goes into the provider's `config`;
    /// `options` are SimpleSAMLphp's.
    async fn with(more: &str, options: &Value) -> Self {
        let group = r#"okta = { name = "R&D <x>", identity_provider_id = "saml" }"#;
        Self::ruled(group, more, options).await
    }

    /// The same with another rule.
    async fn ruled(rule: &str, more: &str, options: &Value) -> Self {
        let saml = SimpleSamlPhp::start(options).await;
        let provider = provider_at(ISSUER, &saml.sso, &[&certificate()], more);
        let policies = format!(
            r#"policies = [{{ name = "some", decision = "allow", include = [{{ {rule} }}] }}]"#
        );
        let rest = [&provider, saml::WIKI, &policies].concat();
        let world = World::with(&rest, |config| {
            config.files.push(("sp.key", file("sp.key")))
        })
        .await;
        let metadata = "http://access.localhost/cdn-cgi/access/saml/saml-metadata";
        let metadata = world.browser().get(metadata).await.text();
        saml.knows(&metadata);
        Self {
            world,
            saml,
            metadata,
        }
    }

    async fn alice(&self) -> (Browser, Visit) {
        let mut browser = self.world.browser();
        let visit = visit(&mut browser, WIKI, "alice").await;
        (browser, visit)
    }

    #[track_caller]
    fn assert_in(&self, visit: &Visit) {
        let Visit { page, .. } = visit;
        let said = || format!("{}\n{}", page.response.text(), self.saml.log());
        assert_eq!(
            (page.url.as_str(), page.response.status),
            (WIKI, 200),
            "{}",
            said()
        );
        assert_eq!(
            self.world
                .origin
                .last()
                .headers
                .one("cf-access-authenticated-user-email"),
            Some("alice@example.com")
        );
        self.world.origin.forget();
    }
}

#[tokio::test]
async fn login_works_with_either_part_signed() {
    let stage = Stage::with("", &json!({})).await;
    for (response, assertion) in [(false, true), (true, false), (true, true)] {
        stage
            .saml
            .set(&json!({ "idp": { "saml20.sign.response": response } }));
        let wanted = format!(r#"WantAssertionsSigned="{assertion}""#);
        stage.saml.knows(
            &stage
                .metadata
                .replace(r#"WantAssertionsSigned="true""#, &wanted),
        );
        let (_, visit) = stage.alice().await;
        stage.assert_in(&visit);
        let message = visit.response.unwrap();
        let (envelope, inside) = message.split_once("<saml:Assertion ").unwrap();
        let signed = (
            envelope.contains("<ds:Signature "),
            inside.contains("<ds:Signature "),
        );
        assert_eq!(signed, (response, assertion), "{message}");
    }
}

#[tokio::test]
async fn encrypted_assertion_is_read_if_authenticated() {
    let keys = format!(
        r#"encryption_keys = [{{ key = "file:sp.key", certificate = """{}""" }}]"#,
        file("sp.crt")
    );
    let encrypted = json!({ "assertion.encryption": true });
    let stage = Stage::with(&keys, &json!({ "idp": encrypted, "cipher": "gcm" })).await;
    let (_, visit) = stage.alice().await;
    stage.assert_in(&visit);
    let message = visit.response.unwrap();
    assert!(
        message.contains("xmlenc11#aes256-gcm") && !message.contains("alice@"),
        "{message}"
    );

    // As SimpleSAMLphp 1.19 does it by itself.
    stage.saml.set(&json!({ "idp": encrypted }));
    let (browser, visit) = stage.alice().await;
    assert_eq!(visit.page.response.status, 403);
    stage
        .world
        .proxy
        .logged(
            0,
            &[
                "uses an unsupported encryption algorithm",
                "xmlenc#aes128-cbc",
            ],
        )
        .await;
    assert_eq!(browser.cookie("access.localhost", "CF_Authorization"), None);
    stage
        .world
        .origin
        .assert_untouched("an assertion that is not authenticated");
}

#[tokio::test]
async fn signed_request_is_accepted_by_a_strict_provider() {
    let checks = json!({ "idp": { "validate.authnrequest": true, "redirect.validate": true } });
    let stage = Stage::with("sign_request = true", &checks).await;
    let (_, visit) = stage.alice().await;
    stage.assert_in(&visit);
    assert!(
        visit.request.unwrap().contains("<ds:SignatureValue>"),
        "by POST"
    );

    // It does check: it rejects the request under another certificate.
    let ours = stage
        .metadata
        .split("<ds:X509Certificate>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap();
    let theirs: String = file("foreign.crt")
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    stage.saml.knows(&stage.metadata.replace(ours, &theirs));
    let (_, refused) = stage.alice().await;
    assert_eq!(
        (refused.response, refused.asked),
        (None, 0),
        "{}",
        refused.page.response.text()
    );
}

#[tokio::test]
async fn unsigned_request_is_accepted_by_a_lax_provider() {
    let stage = Stage::with("", &json!({})).await;
    let (browser, visit) = stage.alice().await;
    stage.assert_in(&visit);
    assert_eq!(visit.request, None, "by Redirect: {:#?}", browser.trail);
    stage
        .saml
        .set(&json!({ "idp": { "validate.authnrequest": true, "redirect.validate": true } }));
    stage.saml.knows(&stage.metadata.replace(
        r#"AuthnRequestsSigned="false""#,
        r#"AuthnRequestsSigned="true""#,
    ));
    let (_, refused) = stage.alice().await;
    assert_eq!(
        (refused.response, refused.asked),
        (None, 0),
        "{}",
        refused.page.response.text()
    );
}

#[tokio::test]
async fn groups_are_compared_exactly() {
    let stage = Stage::with("", &json!({})).await;
    let (mut browser, visit) = stage.alice().await;
    stage.assert_in(&visit);
    let identity = browser
        .get("http://wiki.localhost/cdn-cgi/access/get-identity")
        .await
        .json();
    let groups: Vec<_> = identity["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["name"])
        .collect();
    assert_eq!(groups.len(), 150);
    assert_eq!(groups[..3], ["Everyone", "R&D <x>", "Vertrieb, Köln"]);

    // As an attribute like any other they do as well.
    let attribute = r#"saml = { attribute_name = "groups", attribute_value = "R&D <x>", identity_provider_id = "saml" }"#;
    let as_attribute = Stage::ruled(attribute, r#"attributes = ["groups"]"#, &json!({})).await;
    let (_, visit) = as_attribute.alice().await;
    as_attribute.assert_in(&visit);

    // Who is in `R&D`, and in `R&amp;D &lt;x&gt;`.
    let bob = visit_as(&stage, "bob").await;
    assert_eq!(
        (bob.page.response.status, bob.asked),
        (403, 1),
        "{}",
        bob.page.response.text()
    );
    assert!(
        bob.page.response.text().contains("bob@example.com"),
        "known, and refused"
    );
    stage
        .world
        .origin
        .assert_untouched("a user of another group");
}

async fn visit_as(stage: &Stage, login: &str) -> Visit {
    visit(&mut stage.world.browser(), WIKI, login).await
}

/// Forgets everything but the session at the provider.
fn forget_us(browser: &mut Browser) {
    browser.cookies.retain(|cookie| cookie.host == "127.0.0.1");
}

#[tokio::test]
async fn switching_users_requires_the_password() {
    let stage = Stage::with("", &json!({})).await;
    let (mut browser, first) = stage.alice().await;
    assert_eq!(first.asked, 1);
    forget_us(&mut browser);
    let again = visit(&mut browser, WIKI, "bob").await;
    stage.assert_in(&again);
    assert_eq!(again.asked, 0, "the provider knows her still");

    forget_us(&mut browser);
    let login = "http://access.localhost/cdn-cgi/access/login/wiki.localhost?switch=1";
    let other = visit(&mut browser, login, "bob").await;
    assert_eq!(
        (other.page.response.status, other.asked),
        (403, 1),
        "{}",
        other.page.response.text()
    );
    assert!(other.page.response.text().contains("bob@example.com"));
}

#[tokio::test]
async fn force_authn_requires_the_password_at_every_login() {
    for sign in [false, true] {
        let stage = Stage::with(
            &format!("force_authn = true\nsign_request = {sign}"),
            &json!({}),
        )
        .await;
        let (mut browser, first) = stage.alice().await;
        stage.assert_in(&first);
        forget_us(&mut browser);
        let again = visit(&mut browser, WIKI, "alice").await;
        stage.assert_in(&again);
        assert_eq!((first.asked, again.asked), (1, 1), "signed: {sign}");
    }
}

#[tokio::test]
async fn provider_initiated_login_is_refused() {
    let stage = Stage::with("", &json!({})).await;
    let mut browser = stage.world.browser();
    let begun = |relay_state: &str| {
        let query = [("spentityid", ACS), ("RelayState", relay_state)];
        url::Url::parse_with_params(&stage.saml.sso, query)
            .unwrap()
            .to_string()
    };
    let unasked = visit(&mut browser, &begun("http://wiki.localhost/"), "alice").await;
    assert_eq!(
        (
            unasked.page.url.as_str(),
            unasked.page.response.status,
            unasked.asked
        ),
        (ACS, 400, 1)
    );
    assert!(
        unasked
            .response
            .is_some_and(|message| !message.contains("InResponseTo"))
    );

    // Not under the name of a login that was begun here, either.
    let mut browser = stage.world.browser();
    let request = browser.open_until(WIKI, &stage.saml.sso).await;
    let (_, flow) = request
        .query_pairs()
        .find(|(name, _)| name == "RelayState")
        .unwrap();
    let unasked = visit(&mut browser, &begun(&flow), "alice").await;
    assert_eq!(
        (unasked.page.url.as_str(), unasked.page.response.status),
        (ACS, 400)
    );
    stage
        .world
        .proxy
        .logged(0, &["the SAML response is unsolicited"])
        .await;
    assert_eq!(browser.cookie("access.localhost", "CF_Authorization"), None);
    stage.world.origin.assert_untouched("an unsolicited login");
}

/// Writes the files that `src/saml/tests/foreign.rs` reads: `cargo nextest run --test it
/// --run-ignored only foreign`.
#[tokio::test]
#[ignore = "changes files of the repository"]
async fn write_the_foreign_responses() {
    const TEAM: &str = "https://team.example.com/cdn-cgi/access/callback";
    const REQUEST: &str = "_0123456789abcdef0123456789abcdef";
    let key: String = file("sp.crt")
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let saml = SimpleSamlPhp::start(&json!({})).await;
    let now = jiff::Timestamp::now();
    // Stored, in one block (RFC 1951 3.2.4).
    let request = format!(
        r#"<p:AuthnRequest xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" ID="{REQUEST}" IssueInstant="{now:.0}" Version="2.0"><a:Issuer xmlns:a="urn:oasis:names:tc:SAML:2.0:assertion">{TEAM}</a:Issuer></p:AuthnRequest>"#
    );
    let length = u16::try_from(request.len()).unwrap();
    let deflated = [
        &[1][..],
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        request.as_bytes(),
    ]
    .concat();
    let message = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, deflated);
    let address = url::Url::parse_with_params(&saml.sso, [("SAMLRequest", message)])
        .unwrap()
        .to_string();
    let sha1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1";
    for (name, assertion, options) in [
        (
            "response-signed",
            false,
            json!({ "saml20.sign.response": true }),
        ),
        (
            "assertion-signed",
            true,
            json!({ "saml20.sign.response": false }),
        ),
        ("both-signed", true, json!({ "saml20.sign.response": true })),
        ("encrypted", true, json!({ "assertion.encryption": true })),
        ("sha1", true, json!({ "signature.algorithm": sha1 })),
    ] {
        saml.set(&json!({ "idp": options }));
        saml.knows(&format!(
            r#"<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{TEAM}"><SPSSODescriptor WantAssertionsSigned="{assertion}" protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><KeyDescriptor use="encryption"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>{key}</X509Certificate></X509Data></KeyInfo></KeyDescriptor><AssertionConsumerService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="{TEAM}" index="0"/></SPSSODescriptor></EntityDescriptor>"#
        ));
        let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        let trust = crate::support::certs::Certificate::new(&["access.test"]).client("http/1.1");
        let visit = visit_until(
            &mut Browser::at(nowhere, trust),
            &address,
            "alice",
            "SAMLResponse",
        )
        .await;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/saml/foreign");
        fs::write(
            folder.join(format!("simplesamlphp-{name}.xml")),
            visit.response.expect(name),
        )
        .unwrap();
    }
}
