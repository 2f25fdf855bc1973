//! A SAML identity provider inside the test. It writes canonical XML, so that signing needs no
//! canonicaliser. So it shares neither code nor mistakes with the code under test.

use std::fs;
use std::path::Path;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use url::Url;

use super::browser::{Browser, Page};
use super::{World, idp};

/// Its URL for requests. It has no listener: the test plays the browser.
pub const SSO: &str = "http://127.0.0.1:9/sso";
/// Its name.
pub const ISSUER: &str = "http://www.okta.com/exk1";
/// The URL that it sends responses to.
pub const ACS: &str = "http://access.localhost/cdn-cgi/access/callback";

/// An application that accepts this provider alone. Its `policies` are still missing.
pub const WIKI: &str = r#"
[[applications]]
name = "Wiki"
domain = "wiki.$TLD"
origin = "$ORIGIN"
allowed_idps = ["saml"]
auto_redirect_to_identity = true
"#;

/// It in a configuration. `settings` go into its `config`.
pub fn provider(settings: &str) -> String {
    provider_at(ISSUER, SSO, &[&certificate()], settings)
}

/// The same of another name, address and keys.
pub fn provider_at(issuer: &str, sso: &str, certificates: &[&str], settings: &str) -> String {
    format!(
        r#"
[[identity_providers]]
id = "saml"
name = "Example SAML"
type = "saml"
[identity_providers.config]
issuer_url = "{issuer}"
sso_target_url = "{sso}"
idp_public_certs = {certificates:?}
{settings}
"#
    )
}

/// A proxy with it and the [`WIKI`], which has these `policies`, and whatever else stands behind
/// them.
pub async fn world(settings: &str, policies: &str) -> World {
    World::with(&[&provider(settings), WIKI, policies].concat(), |_| ()).await
}

/// Opens a page, and logs in with this statement.
pub async fn log_in(browser: &mut Browser, url: &str, statement: &Statement) -> Page {
    let (to, relay_state) = request(&browser.open_until(url, SSO).await);
    browser
        .post_from_elsewhere(ACS, &form(&response(&to, statement), &relay_state))
        .await
}

/// The user and the attributes of an assertion.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The name id.
    pub email: &'static str,
    /// The attribute `groups`; `None` if it is not sent.
    pub groups: Option<Vec<&'static str>>,
    /// The attribute `department`.
    pub department: &'static str,
    /// The remaining seconds of the provider's session, if it sends them.
    pub session_ends: Option<i64>,
}

impl Statement {
    /// In Research, and in two groups.
    pub fn alice() -> Self {
        Self {
            email: "alice@example.com",
            groups: Some(vec!["Engineering", "R&D <x>"]),
            department: "Research & Development, Köln",
            session_ends: None,
        }
    }
}

/// Its certificate, as the base64 inside PEM.
pub fn certificate() -> String {
    file("idp.crt")
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect()
}

/// Returns the id of a request in a URL, and the other parameters.
pub fn request(url: &Url) -> (String, String) {
    let one = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .unwrap()
            .1
            .into_owned()
    };
    // A stored block has a header of five bytes (RFC 1951 3.2.4).
    let message = BASE64_STANDARD.decode(one("SAMLRequest")).unwrap();
    (
        id(std::str::from_utf8(&message[5..]).unwrap()),
        one("RelayState"),
    )
}

/// The id of a request.
pub fn id(xml: &str) -> String {
    xml.split(" ID=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned()
}

/// The response to a request, with the assertion signed.
pub fn response(to: &str, statement: &Statement) -> String {
    let time = |seconds: i64| {
        jiff::Timestamp::from_second(idp::now() + seconds)
            .unwrap()
            .to_string()
    };
    let (now, begin, end) = (time(0), time(-60), time(300));
    let escaped = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let attribute = |name: &str, values: &[&str]| {
        let values: String = values
            .iter()
            .map(|value| format!("<a:AttributeValue>{}</a:AttributeValue>", escaped(value)))
            .collect();
        format!(r#"<a:Attribute Name="{name}">{values}</a:Attribute>"#)
    };
    let groups = statement
        .groups
        .as_ref()
        .map(|groups| attribute("groups", groups))
        .unwrap_or_default();
    let department = attribute("department", &[statement.department]);
    let email = statement.email;
    let ends = statement
        .session_ends
        .map(|seconds| format!(r#" SessionNotOnOrAfter="{}""#, time(seconds)));
    let ends = ends.unwrap_or_default();
    let random = uuid::Uuid::new_v4().simple();
    let start = format!(
        r#"<a:Assertion xmlns:a="urn:oasis:names:tc:SAML:2.0:assertion" ID="_{random}" IssueInstant="{now}" Version="2.0"><a:Issuer>{ISSUER}</a:Issuer>"#
    );
    let rest = format!(
        r#"<a:Subject><a:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">{email}</a:NameID><a:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><a:SubjectConfirmationData InResponseTo="{to}" NotOnOrAfter="{end}" Recipient="{ACS}"></a:SubjectConfirmationData></a:SubjectConfirmation></a:Subject><a:Conditions NotBefore="{begin}" NotOnOrAfter="{end}"><a:AudienceRestriction><a:Audience>{ACS}</a:Audience></a:AudienceRestriction></a:Conditions><a:AuthnStatement AuthnInstant="{now}"{ends}></a:AuthnStatement><a:AttributeStatement>{groups}{department}</a:AttributeStatement></a:Assertion>"#
    );
    let digest = BASE64_STANDARD.encode(digest::digest(
        &digest::SHA256,
        format!("{start}{rest}").as_bytes(),
    ));
    let info = format!(
        r##"<d:SignedInfo xmlns:d="http://www.w3.org/2000/09/xmldsig#"><d:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></d:CanonicalizationMethod><d:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"></d:SignatureMethod><d:Reference URI="#_{random}"><d:Transforms><d:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></d:Transform><d:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></d:Transform></d:Transforms><d:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></d:DigestMethod><d:DigestValue>{digest}</d:DigestValue></d:Reference></d:SignedInfo>"##
    );
    let body: String = file("idp.key")
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let key = RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(body).unwrap()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        info.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let signature = BASE64_STANDARD.encode(signature);
    format!(
        r#"<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" Destination="{ACS}" ID="_r{random}" InResponseTo="{to}" IssueInstant="{now}" Version="2.0"><p:Status><p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></p:Status>{start}<d:Signature xmlns:d="http://www.w3.org/2000/09/xmldsig#">{info}<d:SignatureValue>{signature}</d:SignatureValue></d:Signature>{rest}</p:Response>"#
    )
}

/// The form that brings a response.
pub fn form(response: &str, relay_state: &str) -> String {
    let fields = [
        ("SAMLResponse", BASE64_STANDARD.encode(response)),
        ("RelayState", relay_state.to_owned()),
    ];
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

/// Reads a file among the keys.
pub fn file(name: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/saml/keys")
            .join(name),
    )
    .unwrap()
}
