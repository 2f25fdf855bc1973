//! Attack messages, row by row, beside the messages that must be accepted. `tests/saml/README.md`
//! lists the sources.
//!
//! Each row states its own reason for rejection: a row that is rejected for another reason would
//! test nothing.

mod addressed;
mod algorithms;
mod forged;
mod shaped;

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OAEP_SHA512_MGF1SHA512};

use addressed::{addressed, timed};
use algorithms::algorithms;
use forged::{tampered, wrapped};
use shaped::{encrypted, parsed, shaped};

use crate::saml::testing::{
    ACS, ALICE, ENVELOPED, EXPECTED, Encrypt, HMAC_SHA256, ISSUER, REQUEST, SIGNERS, Sign,
    assertion, encrypting, field, part, provider, response, swap, without,
};
use crate::saml::tree::{self, DSIG, EXC_C14N};
use crate::saml::{
    AssertionUse, Expected, Reauthentication, SamlError, ServiceProvider, assertion as reading,
    input, signature,
};

/// The expected result of a message.
#[derive(Clone, Copy)]
enum Verdict {
    /// Alice is logged in.
    Alice,
    /// The message is rejected with this text.
    Refused(&'static str),
}
use Verdict::{Alice, Refused};

type Row = (&'static str, Verdict, String);

const MALLORY: &str = "mallory@evil.example";
const MISPLACED: &str =
    "the SAML response is not of the expected shape: an assertion or a signature is misplaced";
const NO_PLACE: &str = "the SAML response is not of the expected shape: the response has an unexpected or duplicated element";
const BAD_SIGNATURE: &str = "a signature is not in the form that SAML requires";
const CHANGED: &str = "the signed element was modified after signing";
const NO_KEY: &str = "no configured certificate verifies the signature";

#[test]
fn every_row_has_its_expected_result() {
    let (plain, encrypting) = (provider(), encrypting());
    let mut wrong = Vec::new();
    for (name, outcome, message) in rows() {
        let provider = if message.contains("EncryptedAssertion") {
            &encrypting
        } else {
            &plain
        };
        let ended = verify(provider, &message);
        let right = match (outcome, &ended) {
            (Alice, Ok(email)) => email == ALICE,
            (Refused(words), Err(found)) => found.contains(words),
            _ => false,
        };
        if !right {
            wrong.push(format!("{name}: {ended:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without the second line of defence (the checks of bytes and shape), a signature still proves
/// only what was signed, whatever and wherever it is.
#[test]
fn no_signature_of_any_row_proves_another_user() {
    let provider = provider();
    let (mut proofs, mut documents) = (0, 0);
    for (name, _, message) in rows() {
        // The depth limit also bounds the recursion of the test, so it stays in force.
        let too_deep = matches!(input::check(&message), Err(SamlError::TooMany(_)));
        let Ok(document) = tree::parse(if too_deep { "" } else { &message }) else {
            continue;
        };
        documents += 1;
        for found in document
            .descendants()
            .filter(|node| tree::is(*node, DSIG, "Signature"))
        {
            let Ok(signed) = signature::verify(found, provider.certificates()) else {
                continue;
            };
            let Ok(read) = reading::read(&signed, &provider, &EXPECTED) else {
                continue;
            };
            // These rows split a name. The whole name, as it was signed, must come out.
            let split = name.ends_with(" in the name id");
            let who = if split {
                format!("{ALICE}.evil.example")
            } else {
                ALICE.to_owned()
            };
            assert_eq!(read.identity.email.as_str(), who, "{name}");
            proofs += 1;
        }
    }
    assert!(
        documents > 80 && proofs > 40,
        "{documents} documents with {proofs} proofs"
    );
}

#[test]
fn one_changed_byte_never_gives_another_user() {
    let provider = provider();
    let genuine = signed();
    let mut taken = 0;
    for at in (0..genuine.len()).step_by(7) {
        for with in [b'x', b'<', b'"', b' ', b'&'] {
            let mut bytes = genuine.clone().into_bytes();
            bytes[at] = with;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            if let Ok(email) = verify(&provider, &changed) {
                assert_eq!(email, ALICE, "{changed}");
                taken += 1;
            }
        }
    }
    // Unsigned parts: white space in tags, the response around the assertion, and KeyInfo.
    assert!(taken > 100, "{taken}");
}

#[test]
fn truncated_messages_are_rejected_without_panic() {
    let (provider, genuine) = (provider(), signed());
    for end in (0..genuine.len()).step_by(11) {
        assert!(verify(&provider, genuine.get(..end).unwrap_or_default()).is_err());
    }
}

#[test]
fn rows_are_unique() {
    let mut names: Vec<_> = rows().into_iter().map(|(name, ..)| name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(all > 120, "{all} rows");
}

#[test]
fn profiles_4_1_4_5_replayed_assertion_is_rejected() {
    let provider = provider();
    let verified = || provider.verify(&field(&signed()), &EXPECTED).unwrap();
    let other = provider
        .verify(&field(&doubly_signed_as("another")), &EXPECTED)
        .unwrap();
    let (first, second) = (verified(), verified());
    assert_eq!(
        first.replay_key(),
        second.replay_key(),
        "the same assertion has the same name"
    );
    assert_ne!(first.replay_key().0, other.replay_key().0);
    assert_eq!(first.replay_key().0.len(), 64);
    // The later of the two ends, plus the leeway.
    assert_eq!(first.replay_key().1.0, EXPECTED.now.0 + 300 + 60);
    assert!(first.identity(AssertionUse::First).is_ok());
    assert_eq!(
        second
            .identity(AssertionUse::Repeated)
            .unwrap_err()
            .to_string(),
        "the assertion was used before"
    );
}

fn verify(provider: &ServiceProvider, message: &str) -> Result<String, String> {
    let verified = provider
        .verify(&field(message), &EXPECTED)
        .map_err(|error| error.to_string())?;
    verified
        .identity(AssertionUse::First)
        .map(|identity| identity.email.as_str().to_owned())
        .map_err(|error| error.to_string())
}

fn idp() -> Sign {
    Sign::with(&SIGNERS.idp)
}

/// A response with a signed assertion.
fn signed() -> String {
    idp().sign(&response(), "assertion")
}

/// A response in which the assertion and the response are signed.
fn doubly() -> String {
    idp().sign(&signed(), "response")
}

fn doubly_signed_as(id: &str) -> String {
    let other = response().replace(r#"ID="assertion""#, &format!(r#"ID="{id}""#));
    idp().sign(&idp().sign(&other, id), "response")
}

/// A response that is changed and then signed, as if the identity provider meant it.
fn saying(from: &str, to: &str) -> String {
    idp().sign(&swap(&response(), from, to), "assertion")
}

/// A response with other content in place of the assertion.
fn around(content: &str) -> String {
    swap(&response(), &assertion("assertion", ALICE), content)
}

/// Alice's signed assertion, its signature, and the assertion without it.
struct Stolen {
    whole: String,
    signature: String,
    bare: String,
}

fn stolen() -> Stolen {
    let message = signed();
    let whole = part(&message, "<saml2:Assertion ", "</saml2:Assertion>");
    let signature = part(&message, "<ds:Signature ", "</ds:Signature>");
    let bare = swap(&whole, &signature, "");
    Stolen {
        whole,
        signature,
        bare,
    }
}

fn evil(id: &str) -> String {
    assertion(id, MALLORY)
}

/// Inserts an element after the issuer of an assertion, the position of a signature.
fn with_signature(assertion: &str, signature: &str) -> String {
    swap(
        assertion,
        "</saml2:Issuer>",
        &format!("</saml2:Issuer>{signature}"),
    )
}

fn rows() -> Vec<Row> {
    [
        genuine(),
        tampered(),
        wrapped(),
        algorithms(),
        addressed(),
        timed(),
        parsed(),
        shaped(),
        encrypted(),
    ]
    .concat()
}

fn genuine() -> Vec<Row> {
    let next = Sign::with(&SIGNERS.next);
    vec![
        ("assertion signed", Alice, signed()),
        ("response signed", Alice, idp().sign(&response(), "response")),
        ("both signed", Alice, doubly()),
        ("no prefix list", Alice, Sign { prefixes: "", ..idp() }.sign(&response(), "assertion")),
        ("default namespace in the prefix list", Alice, Sign { prefixes: "#default xs", ..idp() }.sign(&response(), "assertion")),
        ("a character reference for a character", Alice, swap(&signed(), ">alice@", ">&#97;lice@")),
        ("attributes in another order", Alice, swap(
            &signed(),
            r#"ID="assertion" IssueInstant="2027-01-15T08:00:00.123Z""#,
            r#"IssueInstant='2027-01-15T08:00:00.123Z'  ID='assertion'"#,
        )),
        ("white space between elements", Alice, swap(&signed(), "<saml2p:Status ", "\n\t<saml2p:Status ")),
        ("an unsigned attribute on the response", Alice, swap(&signed(), "<saml2p:Response ", r#"<saml2p:Response Consent="x" "#)),
        ("a byte order mark", Alice, format!("\u{feff}{}", signed())),
        ("no declaration", Alice, signed().split_once("?>").unwrap().1.to_owned()),
        ("one-time use", Alice, saying("</saml2:Conditions>", "<saml2:OneTimeUse/></saml2:Conditions>")),
        ("several audiences", Alice, saying("<saml2:Audience>", "<saml2:Audience>https://other.example</saml2:Audience><saml2:Audience>")),
        ("another confirmation first", Alice, saying("<saml2:SubjectConfirmation ", r#"<saml2:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"/><saml2:SubjectConfirmation "#)),
        ("issuer of the response missing", Alice, {
            let issuer = format!(r#"<saml2:Issuer Format="urn:oasis:names:tc:SAML:2.0:nameid-format:entity" xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion">{ISSUER}</saml2:Issuer>"#);
            swap(&signed(), &issuer, "")
        }),
        ("not yet valid, within the leeway", Alice, saying("2027-01-15T07:55:00.124Z", "2027-01-15T08:00:50Z")),
        ("over, within the leeway", Alice, saying(r#"NotOnOrAfter="2027-01-15T08:05:00.124Z" Recipient"#, r#"NotOnOrAfter="2027-01-15T07:59:10Z" Recipient"#)),
        ("a time with an offset", Alice, saying("2027-01-15T07:55:00.124Z", "2027-01-15T09:55:00+02:00")),
        ("encrypted", Alice, Encrypt::default().encrypt(&signed())),
        ("encrypted, the key beside the data", Alice, Encrypt { beside: true, ..Encrypt::default() }.encrypt(&signed())),
        ("encrypted with AES-128-GCM", Alice, Encrypt { cipher: "http://www.w3.org/2009/xmlenc11#aes128-gcm", ..Encrypt::default() }.encrypt(&signed())),
        ("encrypted with OAEP of SHA-256", Alice, Encrypt {
            transport: "http://www.w3.org/2009/xmlenc11#rsa-oaep",
            parameters: r#"<ds:DigestMethod xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><m:MGF xmlns:m="http://www.w3.org/2009/xmlenc11#" Algorithm="http://www.w3.org/2009/xmlenc11#mgf1sha256"/>"#,
            oaep: &OAEP_SHA256_MGF1SHA256,
            ..Encrypt::default()
        }.encrypt(&signed())),
        ("encrypted, and the response signed around it", Alice, idp().sign(&Encrypt::default().encrypt(&signed()), "response")),
        ("encrypted, signed with the next certificate", Alice, Encrypt::default().encrypt(&next.sign(&response(), "assertion"))),
        ("RSA-SHA384", Alice, Sign { method: "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384", digest: "http://www.w3.org/2001/04/xmldsig-more#sha384", ..idp() }.sign(&response(), "assertion")),
        ("RSA-SHA512", Alice, Sign { method: "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512", digest: "http://www.w3.org/2001/04/xmlenc#sha512", ..idp() }.sign(&response(), "assertion")),
    ]
}

#[test]
fn encrypted_assertion_without_key_is_rejected() {
    let error = verify(&provider(), &Encrypt::default().encrypt(&signed())).unwrap_err();
    assert_eq!(
        error,
        "the assertion is encrypted, and encryption is not configured"
    );
}

#[test]
fn wrapped_base64_is_read_and_junk_is_rejected() {
    let text = field(&signed());
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    assert!(provider().verify(&lines.join("\r\n"), &EXPECTED).is_ok());
    for junk in [
        format!("{text}!"),
        format!("{text}===="),
        text.replace('A', "-"),
        text.replacen('A', "A\0", 1),
    ] {
        assert_eq!(
            provider().verify(&junk, &EXPECTED).unwrap_err().to_string(),
            "the SAML response is not base64 of UTF-8 text"
        );
    }
    assert!(input::decode(&"A".repeat(10 * 1024 * 1024)).is_err());
}

#[test]
fn fresh_login_must_follow_the_request() {
    let provider = provider();
    let since = |at: &str, reauthentication| {
        let message = saying("2027-01-15T07:59:58.000Z", at);
        provider
            .verify(
                &field(&message),
                &Expected {
                    reauthentication,
                    ..EXPECTED
                },
            )
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        since("2027-01-15T07:59:35Z", Reauthentication::Required),
        Ok(())
    );
    assert_eq!(
        since("2027-01-15T07:00:00Z", Reauthentication::Optional),
        Ok(())
    );
    let refused = "the identity provider did not reauthenticate the user";
    assert_eq!(
        since("2027-01-15T07:00:00Z", Reauthentication::Required),
        Err(refused.to_owned())
    );
}

#[test]
fn leeway_is_at_most_five_minutes() {
    let late = Expected {
        now: EXPECTED.now.after(std::time::Duration::from_secs(700)),
        leeway: std::time::Duration::from_secs(3600),
        ..EXPECTED
    };
    assert!(provider().verify(&field(&signed()), &late).is_err());
}
