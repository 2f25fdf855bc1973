use aws_lc_rs::digest;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use roxmltree::Document;
use url::Url;

use crate::keys;
use crate::saml::canonical::canonical;
use crate::saml::testing::{ACS, NOW, settings, sp_key};
use crate::saml::{AuthnRequest, Binding, Message, Reauthentication, ServiceProvider, Settings};
use crate::token::SigningKey;

fn key() -> SigningKey {
    keys::signing_key(keys::TEAM)
}

fn start(settings: Settings, key: Option<&SigningKey>) -> AuthnRequest {
    ServiceProvider::new(settings)
        .unwrap()
        .start("relay+state/=&", key, Reauthentication::Optional, NOW)
        .unwrap()
}

/// Returns the content of one stored block (RFC 1951 3.2.4), which must be the whole input.
fn inflate(bytes: &[u8]) -> String {
    assert_eq!(bytes[0], 1, "the last block, stored");
    let length = u16::from_le_bytes([bytes[1], bytes[2]]);
    assert_eq!(!length, u16::from_le_bytes([bytes[3], bytes[4]]));
    assert_eq!(usize::from(length), bytes.len() - 5);
    String::from_utf8(bytes[5..].to_vec()).unwrap()
}

fn verify(key: &SigningKey, message: &[u8], signature: &[u8]) {
    let jwk = key.to_jwk();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let public = RsaPublicKeyComponents {
        n: part("n"),
        e: part("e"),
    };
    public
        .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
        .unwrap();
}

fn look(xml: &str, id: &str, destination: &str) {
    let document = Document::parse(xml).unwrap();
    let root = document.root_element();
    assert!(root.has_tag_name(("urn:oasis:names:tc:SAML:2.0:protocol", "AuthnRequest")));
    let attributes: Vec<_> = root
        .attributes()
        .map(|attribute| (attribute.name(), attribute.value()))
        .collect();
    let expected = [
        ("AssertionConsumerServiceURL", ACS),
        ("Destination", destination),
        ("ID", id),
        ("IssueInstant", "2027-01-15T08:00:00Z"),
        (
            "ProtocolBinding",
            "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST",
        ),
        ("Version", "2.0"),
    ];
    assert_eq!(attributes, expected);
    let issuer = root.first_element_child().unwrap();
    assert_eq!(
        (issuer.tag_name().name(), issuer.text()),
        ("Issuer", Some(ACS))
    );
}

#[test]
fn bindings_3_4_4_redirect_request() {
    let request = start(settings(), None);
    assert_eq!(request.reauthentication, Reauthentication::Optional);
    assert_eq!(
        ServiceProvider::new(settings())
            .unwrap()
            .start("", None, Reauthentication::Required, NOW)
            .unwrap()
            .reauthentication,
        Reauthentication::Required
    );
    let Message::Redirect(url) = &request.message else {
        panic!("{request:?}")
    };
    assert!(
        url.as_str()
            .starts_with("https://dev-1.okta.com/app/portcullis/exk1/sso/saml?SAMLRequest=")
    );
    let parameters: Vec<_> = url.query_pairs().into_owned().collect();
    assert_eq!(
        parameters
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        ["SAMLRequest", "RelayState"]
    );
    assert_eq!(parameters[1].1, "relay+state/=&");
    look(
        &inflate(&STANDARD.decode(&parameters[0].1).unwrap()),
        &request.id,
        "https://dev-1.okta.com/app/portcullis/exk1/sso/saml",
    );
    assert_eq!((request.id.len(), request.at), (33, NOW));
    assert_ne!(start(settings(), None).id, request.id);
    assert!(url.as_str().len() < 2000, "{}", url.as_str().len());
}

#[test]
fn bindings_3_4_4_1_encoded_parameters_are_signed() {
    let key = key();
    let request = start(settings(), Some(&key));
    let Message::Redirect(url) = request.message else {
        panic!()
    };
    let (signed, signature) = url.query().unwrap().split_once("&Signature=").unwrap();
    assert!(
        signed.ends_with("&SigAlg=http%3A%2F%2Fwww.w3.org%2F2001%2F04%2Fxmldsig-more%23rsa-sha256"),
        "{signed}"
    );
    let signature = url::form_urlencoded::parse(format!("s={signature}").as_bytes())
        .next()
        .unwrap()
        .1
        .into_owned();
    verify(
        &key,
        signed.as_bytes(),
        &STANDARD.decode(signature).unwrap(),
    );
}

#[test]
fn sso_url_keeps_its_own_parameters() {
    let sso_url: Url = "https://idp.example/sso?tenant=a&x=%20".parse().unwrap();
    let request = start(
        Settings {
            sso_url,
            ..settings()
        },
        None,
    );
    let Message::Redirect(url) = request.message else {
        panic!()
    };
    assert!(
        url.as_str()
            .starts_with("https://idp.example/sso?tenant=a&x=%20&SAMLRequest=")
    );
    let message = url
        .query_pairs()
        .find(|(name, _)| name == "SAMLRequest")
        .unwrap()
        .1
        .into_owned();
    look(
        &inflate(&STANDARD.decode(message).unwrap()),
        &request.id,
        "https://idp.example/sso?tenant=a&x=%20",
    );
}

#[test]
fn core_5_4_posted_request_has_an_enveloped_signature() {
    let key = key();
    let request = start(
        Settings {
            binding: Binding::Post,
            ..settings()
        },
        Some(&key),
    );
    let Message::Post {
        action,
        saml_request,
        relay_state,
    } = request.message
    else {
        panic!()
    };
    assert_eq!(
        (action.as_str(), relay_state.as_str()),
        (
            "https://dev-1.okta.com/app/portcullis/exk1/sso/saml",
            "relay+state/=&"
        )
    );
    let xml = String::from_utf8(STANDARD.decode(saml_request).unwrap()).unwrap();
    look(&xml, &request.id, action.as_str());
    let document = Document::parse(&xml).unwrap();
    let find = |name: &str| {
        document
            .descendants()
            .find(|node| node.tag_name().name() == name)
            .unwrap()
    };
    // The schema puts the signature after the issuer.
    assert_eq!(
        find("Issuer").next_sibling_element().unwrap(),
        find("Signature")
    );
    let bytes = canonical(document.root_element(), Some(find("Signature")), &[]).unwrap();
    assert_eq!(
        find("DigestValue").text().unwrap(),
        STANDARD.encode(digest::digest(&digest::SHA256, bytes.as_bytes()))
    );
    assert_eq!(
        find("Reference").attribute("URI").unwrap(),
        format!("#{}", request.id)
    );
    let info = canonical(find("SignedInfo"), None, &[]).unwrap();
    verify(
        &key,
        info.as_bytes(),
        &STANDARD
            .decode(find("SignatureValue").text().unwrap())
            .unwrap(),
    );
}

#[test]
fn posted_request_can_be_unsigned_and_force_authn() {
    let request = start(
        Settings {
            binding: Binding::Post,
            force_authn: true,
            ..settings()
        },
        None,
    );
    assert_eq!(request.reauthentication, Reauthentication::Required);
    let Message::Post { saml_request, .. } = request.message else {
        panic!()
    };
    let xml = String::from_utf8(STANDARD.decode(saml_request).unwrap()).unwrap();
    assert!(
        xml.contains(r#" ForceAuthn="true" "#) && !xml.contains("Signature"),
        "{xml}"
    );
}

#[test]
fn metadata_2_4_4_is_complete() {
    let own = include_str!("../../../tests/saml/keys/foreign.crt");
    let provider = ServiceProvider::new(Settings {
        decryption_keys: vec![sp_key()],
        ..settings()
    })
    .unwrap();
    let text = provider.metadata(&[own]).unwrap();
    let document = Document::parse(&text).unwrap();
    assert_eq!(document.root_element().attribute("entityID"), Some(ACS));
    let all = |name: &'static str| {
        document
            .descendants()
            .filter(move |node| node.tag_name().name() == name)
    };
    let role = all("SPSSODescriptor").next().unwrap();
    assert_eq!(
        (
            role.attribute("AuthnRequestsSigned"),
            role.attribute("WantAssertionsSigned")
        ),
        (Some("true"), Some("true"))
    );
    assert_eq!(
        all("AssertionConsumerService")
            .next()
            .unwrap()
            .attribute("Location"),
        Some(ACS)
    );
    let uses: Vec<_> = all("KeyDescriptor")
        .map(|key| key.attribute("use").unwrap())
        .collect();
    assert_eq!(uses, ["signing", "encryption"]);
    let body: String = own.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(
        all("X509Certificate").next().unwrap().text(),
        Some(body.as_str())
    );
    assert_eq!(all("EncryptionMethod").count(), 3);

    let plain = ServiceProvider::new(settings())
        .unwrap()
        .metadata(&[])
        .unwrap();
    assert!(plain.contains(r#"AuthnRequestsSigned="false""#) && !plain.contains("KeyDescriptor"));
    Document::parse(&plain).unwrap();
}
