//! Responses that other implementations wrote and signed (`tests/saml/foreign`). They canonicalised
//! with other code, and so test ours.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use roxmltree::Document;

use crate::model::{Groups, UnixTime};
use crate::saml::testing::{ACS, field, settings, sp_key};
use crate::saml::{
    AssertionUse, Expected, Reauthentication, SamlIdentity, ServiceProvider, Settings,
};

/// The expected result of each file: a login with this number of groups, or an error text.
const ROWS: [(&str, Result<usize, &str>); 14] = [
    ("pysaml2-assertion-signed", Ok(3)),
    ("pysaml2-both-signed", Ok(3)),
    ("pysaml2-both-signed-sha512", Ok(3)),
    ("pysaml2-encrypted-aes128-gcm", Ok(3)),
    (
        "pysaml2-encrypted-aes256-cbc",
        Err(
            "uses an unsupported encryption algorithm: `http://www.w3.org/2001/04/xmlenc#aes256-cbc`",
        ),
    ),
    ("pysaml2-encrypted-aes256-gcm", Ok(3)),
    ("pysaml2-response-signed", Ok(3)),
    (
        "pysaml2-sha1",
        Err("an unsupported algorithm: `http://www.w3.org/2000/09/xmldsig#rsa-sha1`"),
    ),
    ("pysaml2-unsigned", Err("the assertion is not signed")),
    ("simplesamlphp-assertion-signed", Ok(150)),
    ("simplesamlphp-both-signed", Ok(150)),
    (
        "simplesamlphp-encrypted",
        Err("uses an unsupported encryption algorithm: `http://www.w3.org/2001/04/xmlenc#"),
    ),
    ("simplesamlphp-response-signed", Ok(150)),
    (
        "simplesamlphp-sha1",
        Err("an unsupported algorithm: `http://www.w3.org/2000/09/xmldsig#rsa-sha1`"),
    ),
];

#[test]
fn foreign_responses_have_their_expected_result() {
    let mut wrong = Vec::new();
    for (name, outcome) in ROWS {
        let read = read(name).map_err(|error| error.to_string());
        match (&read, outcome) {
            (Ok(identity), Ok(number)) => look(identity, number),
            (Err(found), Err(words)) if found.contains(words) => {}
            _ => wrong.push(format!("{name}: {read:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_foreign_file_has_a_row() {
    let files = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut names: Vec<_> = files
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ROWS.map(|(name, _)| name));
}

fn look(identity: &SamlIdentity, number: usize) {
    assert_eq!(identity.email.as_str(), "alice@example.com");
    let Groups::Known(groups) = &identity.groups else {
        panic!("no groups")
    };
    let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names.len(), number);
    assert_eq!(names[..3], ["Everyone", "R&D <x>", "Vertrieb, Köln"]);
}

/// Reads a file with the time and request ID that it states itself; other tests check those.
fn read(name: &str) -> Result<SamlIdentity, crate::saml::SamlError> {
    let xml = std::fs::read_to_string(folder().join(name).with_extension("xml")).unwrap();
    let document = Document::parse(&xml).unwrap();
    let root = document.root_element();
    let issued: Timestamp = root.attribute("IssueInstant").unwrap().parse().unwrap();
    let now = UnixTime(issued.as_second().try_into().unwrap());
    let expected = Expected {
        request_id: root.attribute("InResponseTo").unwrap(),
        requested_at: now,
        reauthentication: Reauthentication::Optional,
        now,
        leeway: Duration::from_secs(5),
    };
    assert_eq!(root.attribute("Destination"), Some(ACS));
    let issuer = root
        .first_element_child()
        .unwrap()
        .text()
        .unwrap()
        .to_owned();
    let settings = Settings {
        idp_entity_id: issuer,
        decryption_keys: vec![sp_key()],
        ..settings()
    };
    ServiceProvider::new(settings)
        .unwrap()
        .verify(&field(&xml), &expected)?
        .identity(AssertionUse::First)
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/saml/foreign"))
}
