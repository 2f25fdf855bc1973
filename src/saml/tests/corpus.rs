//! What attackers send, row by row, beside what must go through. `tests/saml/README.md` says where the rows come from.
//!
//! A row that is refused for another reason than the one it is here for would test nothing, so each names its own.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OAEP_SHA512_MGF1SHA512};

use crate::saml::testing::{
    ACS, ALICE, ENVELOPED, EXPECTED, Encrypt, HMAC_SHA256, ISSUER, REQUEST, SIGNERS, Sign, assertion, encrypting,
    field, part, provider, response, swap, without,
};
use crate::saml::tree::{self, DSIG, EXC_C14N};
use crate::saml::{Expected, SamlError, ServiceProvider, assertion as reading, gate, signature};

/// What a message must lead to.
#[derive(Clone, Copy)]
enum Outcome {
    /// To Alice being logged in.
    Alice,
    /// To nothing, and to these words about it.
    Refused(&'static str),
}
use Outcome::{Alice, Refused};

type Row = (&'static str, Outcome, String);

const MALLORY: &str = "mallory@evil.example";
const MISPLACED: &str =
    "the SAML response is not of the expected shape: an assertion or a signature stands where none belongs";
const NO_PLACE: &str =
    "the SAML response is not of the expected shape: the response has an element that has no place there, or twice";
const BAD_SIGNATURE: &str = "a signature is not as SAML allows it";
const CHANGED: &str = "what was signed was changed";
const NO_KEY: &str = "no configured certificate verifies the signature";

#[test]
fn every_row_ends_as_it_must() {
    let (plain, encrypting) = (provider(), encrypting());
    let mut wrong = Vec::new();
    for (name, outcome, message) in rows() {
        let provider = if message.contains("EncryptedAssertion") { &encrypting } else { &plain };
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

/// With the look at the bytes and at the shape left out, which are a second line: whatever signature a message has, wherever
/// it stands, what it proves is what was signed.
#[test]
fn no_signature_of_any_row_proves_somebody_else() {
    let provider = provider();
    let (mut proofs, mut documents) = (0, 0);
    for (name, _, message) in rows() {
        // Where depth ends, recursion does; that bound is left in.
        let too_deep = matches!(gate::check(&message), Err(SamlError::TooMany(_)));
        let Ok(document) = tree::parse(if too_deep { "" } else { &message }) else { continue };
        documents += 1;
        for found in document.descendants().filter(|node| tree::is(*node, DSIG, "Signature")) {
            let Ok(signed) = signature::verify(found, provider.certificates()) else { continue };
            let Ok(read) = reading::read(&signed, &provider, &EXPECTED) else { continue };
            // Of a name that was split, what proves is the whole of it, as it was signed.
            let split = name.ends_with(" in the name id");
            let who = if split { format!("{ALICE}.evil.example") } else { ALICE.to_owned() };
            assert_eq!(read.identity.email.as_str(), who, "{name}");
            proofs += 1;
        }
    }
    assert!(documents > 80 && proofs > 40, "{documents} documents with {proofs} proofs");
}

#[test]
fn one_changed_byte_is_never_somebody_else() {
    let provider = provider();
    let genuine = signed();
    let mut taken = 0;
    for at in (0..genuine.len()).step_by(7) {
        for with in [b'x', b'<', b'"', b' ', b'&'] {
            let mut bytes = genuine.clone().into_bytes();
            bytes[at] = with;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            if let Ok(email) = verify(&provider, &changed) {
                assert_eq!(email, ALICE, "{changed}");
                taken += 1;
            }
        }
    }
    // What is not signed: white space in tags, the response around the assertion, KeyInfo.
    assert!(taken > 100, "{taken}");
}

#[test]
fn no_cut_message_is_taken_or_panics() {
    let (provider, genuine) = (provider(), signed());
    for end in (0..genuine.len()).step_by(11) {
        assert!(verify(&provider, genuine.get(..end).unwrap_or_default()).is_err());
    }
}

#[test]
fn no_row_is_there_twice() {
    let mut names: Vec<_> = rows().into_iter().map(|(name, ..)| name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(all > 120, "{all} rows");
}

#[test]
fn profiles_4_1_4_5_an_assertion_is_used_once() {
    let provider = provider();
    let verified = || provider.verify(&field(&signed()), &EXPECTED).unwrap();
    let other = provider.verify(&field(&doubly_signed_as("another")), &EXPECTED).unwrap();
    let (first, second) = (verified(), verified());
    assert_eq!(first.once(), second.once(), "the same assertion has the same name");
    assert_ne!(first.once().0, other.once().0);
    assert_eq!(first.once().0.len(), 64);
    // The later of the two ends, and the leeway.
    assert_eq!(first.once().1.0, EXPECTED.now.0 + 300 + 60);
    assert!(first.identity(true).is_ok());
    assert_eq!(second.identity(false).unwrap_err().to_string(), "the assertion was used before");
}

fn verify(provider: &ServiceProvider, message: &str) -> Result<String, String> {
    let verified = provider.verify(&field(message), &EXPECTED).map_err(|error| error.to_string())?;
    verified.identity(true).map(|identity| identity.email.as_str().to_owned()).map_err(|error| error.to_string())
}

fn idp() -> Sign {
    Sign::with(&SIGNERS.idp)
}

/// The assertion signed.
fn signed() -> String {
    idp().sign(&response(), "assertion")
}

/// Both signed.
fn doubly() -> String {
    idp().sign(&signed(), "response")
}

fn doubly_signed_as(id: &str) -> String {
    let other = response().replace(r#"ID="assertion""#, &format!(r#"ID="{id}""#));
    idp().sign(&idp().sign(&other, id), "response")
}

/// Signed after a change: as an identity provider would that means something else.
fn saying(from: &str, to: &str) -> String {
    idp().sign(&swap(&response(), from, to), "assertion")
}

/// A response with something else for its assertion.
fn around(content: &str) -> String {
    swap(&response(), &assertion("assertion", ALICE), content)
}

/// The signed assertion of Alice, its signature, and itself without.
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
    Stolen { whole, signature, bare }
}

fn evil(id: &str) -> String {
    assertion(id, MALLORY)
}

/// An assertion with something behind its issuer, where a signature belongs.
fn with_signature(assertion: &str, signature: &str) -> String {
    swap(assertion, "</saml2:Issuer>", &format!("</saml2:Issuer>{signature}"))
}

fn rows() -> Vec<Row> {
    [genuine(), tampered(), wrapped(), algorithms(), addressed(), timed(), parsed(), shaped(), encrypted()].concat()
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

fn tampered() -> Vec<Row> {
    let Stolen { whole, signature, bare } = stolen();
    let foreign = Sign::with(&SIGNERS.foreign);
    let (next, other) = (Sign::with(&SIGNERS.next), idp().sign(&response(), "response"));
    let of_response = &part(&other, "<ds:Signature ", "</ds:Signature>");
    vec![
        ("another name id", Refused(CHANGED), swap(&signed(), ALICE, MALLORY)),
        (
            "another name id, response signed",
            Refused(CHANGED),
            swap(&idp().sign(&response(), "response"), ALICE, MALLORY),
        ),
        ("another name id, both signed", Refused(CHANGED), swap(&doubly(), ALICE, MALLORY)),
        (
            "one more group",
            Refused(CHANGED),
            swap(&signed(), ">Everyone<", ">Everyone</saml2:AttributeValue><saml2:AttributeValue>Admins<"),
        ),
        (
            "another destination under a signature",
            Refused(CHANGED),
            swap(&doubly(), "<saml2p:StatusCode ", r#"<saml2p:StatusCode x="y" "#),
        ),
        ("another digest", Refused(NO_KEY), swap(&signed(), "<ds:DigestValue>", "<ds:DigestValue>AAAA")),
        (
            "a damaged signature value",
            Refused(NO_KEY),
            swap(&signed(), "<ds:SignatureValue>", "<ds:SignatureValue>AAAA"),
        ),
        (
            "an empty signature value",
            Refused(NO_KEY),
            swap(
                &signed(),
                &part(&signed(), "<ds:SignatureValue>", "</ds:SignatureValue>"),
                "<ds:SignatureValue></ds:SignatureValue>",
            ),
        ),
        ("signature stripped", Refused("the assertion is not signed"), swap(&signed(), &signature, "")),
        ("never signed", Refused("the assertion is not signed"), response()),
        (
            "an empty signature element",
            Refused(BAD_SIGNATURE),
            swap(&signed(), &signature, r#"<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/>"#),
        ),
        (
            "signed by a foreign key that it names itself",
            Refused("; the response names one with the SHA-256 "),
            foreign.sign(&response(), "assertion"),
        ),
        ("signed by a certificate that is not configured yet", Refused(NO_KEY), next.sign(&response(), "assertion")),
        (
            "response signed by a foreign key, assertion by the right one",
            Refused(NO_KEY),
            foreign.sign(&signed(), "response"),
        ),
        (
            "response signed by the right key, assertion by a foreign one",
            Refused(NO_KEY),
            idp().sign(&foreign.sign(&response(), "assertion"), "response"),
        ),
        (
            "signature of another assertion",
            Refused("the signature is not over the element that it stands in"),
            around(&with_signature(&evil("evil"), &signature)),
        ),
        (
            "signature of another assertion, under its id",
            Refused(CHANGED),
            around(&with_signature(&evil("assertion"), &signature)),
        ),
        (
            "signature of the response moved into the assertion",
            Refused("the signature is not over"),
            around(&with_signature(&bare, of_response)),
        ),
        (
            "signature of the response moved, and an evil assertion",
            Refused("the signature is not over"),
            around(&with_signature(&evil("evil"), of_response)),
        ),
        (
            "an empty reference",
            Refused("the signature is not over"),
            Sign { reference: Some(""), ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "a reference to the response",
            Refused("the signature is not over"),
            Sign { reference: Some("#response"), ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "a reference to a file",
            Refused("the signature is not over"),
            Sign { reference: Some("file:///etc/passwd"), ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "an XPointer",
            Refused("the signature is not over"),
            Sign { reference: Some("#xpointer(id('assertion'))"), ..idp() }.sign(&response(), "assertion"),
        ),
        ("two references", Refused(BAD_SIGNATURE), {
            let reference = &part(&signature, "<ds:Reference ", "</ds:Reference>");
            swap(&signed(), "</ds:Reference>", &format!("</ds:Reference>{reference}"))
        }),
        ("no reference", Refused(BAD_SIGNATURE), {
            let reference = &part(&signature, "<ds:Reference ", "</ds:Reference>");
            swap(&signed(), reference, "")
        }),
        (
            "two values of one digest",
            Refused(BAD_SIGNATURE),
            swap(&signed(), "<ds:DigestValue>", "<ds:DigestValue>AAAA</ds:DigestValue><ds:DigestValue>"),
        ),
        ("two signed infos", Refused(BAD_SIGNATURE), {
            let info = &part(&signature, "<ds:SignedInfo>", "</ds:SignedInfo>");
            swap(&signed(), "</ds:SignedInfo>", &format!("</ds:SignedInfo>{info}"))
        }),
        (
            "two signatures on the assertion, the good one last",
            Refused(MISPLACED),
            around(&with_signature(&whole, &foreign.signature("#assertion", "x"))),
        ),
        (
            "two signatures on the assertion, the good one first",
            Refused(MISPLACED),
            swap(&signed(), "</ds:Signature>", &format!("</ds:Signature>{}", foreign.signature("#assertion", "x"))),
        ),
        (
            "two signatures on the response",
            Refused(NO_PLACE),
            swap(&doubly(), "</ds:Signature>", &format!("</ds:Signature>{}", foreign.signature("#response", "x"))),
        ),
        (
            "a signature after the subject",
            Refused("the assertion has a part that is missing, twice there, or not understood"),
            {
                // Signed by the identity provider, but put where the schema has no place for it: read from what was signed, it is gone.
                let statement = "<saml2:Advice/>";
                idp().sign(
                    &swap(&response(), "<saml2:AuthnStatement ", &format!("{statement}<saml2:AuthnStatement ")),
                    "assertion",
                )
            },
        ),
    ]
}

fn wrapped() -> Vec<Row> {
    let Stolen { whole, signature, bare } = stolen();
    let response_signed = idp().sign(&response(), "response");
    let original = &part(&response_signed, "<saml2p:Response ", "</saml2p:Response>");
    let of_response = &part(original, "<ds:Signature ", "</ds:Signature>");
    let unsigned = swap(original, of_response, "");
    let evil_response = swap(&swap(&unsigned, &bare, &evil("evil")), r#"ID="response""#, r#"ID="evil-response""#);
    let in_signature = |inner: &str| swap(of_response, "</ds:Signature>", &format!("{inner}</ds:Signature>"));
    let behind_issuer = |inner: &str| swap(&evil_response, "</saml2:Issuer>", &format!("</saml2:Issuer>{inner}"));
    let object = |signature: &str, inner: &str| {
        swap(signature, "</ds:Signature>", &format!("<ds:Object>{inner}</ds:Object></ds:Signature>"))
    };
    let last = |inner: &str| swap(&evil("evil"), "</saml2:Assertion>", &format!("{inner}</saml2:Assertion>"));
    let extensions = |inner: &str| {
        swap(&signed(), "<saml2p:Status ", &format!("<saml2p:Extensions>{inner}</saml2p:Extensions><saml2p:Status "))
    };
    let same_id = "the SAML response uses an id twice";
    vec![
        ("XSW1: the response inside its signature", Refused(MISPLACED), behind_issuer(&in_signature(&unsigned))),
        (
            "XSW2: the response before its signature",
            Refused(NO_PLACE),
            behind_issuer(&format!("{unsigned}{of_response}")),
        ),
        ("XSW3: an evil assertion before the original", Refused(NO_PLACE), around(&format!("{}{whole}", evil("evil")))),
        ("XSW3, under the same id", Refused(same_id), around(&format!("{}{whole}", evil("assertion")))),
        ("XSW3, behind the original", Refused(NO_PLACE), around(&format!("{whole}{}", evil("evil")))),
        (
            "XSW3, without an id",
            Refused(NO_PLACE),
            around(&format!("{}{whole}", swap(&evil("evil"), r#" ID="evil""#, ""))),
        ),
        (
            "XSW3, in a response that is signed",
            Refused(NO_PLACE),
            swap(&doubly(), "<saml2:Assertion ", &format!("{}<saml2:Assertion ", evil("evil"))),
        ),
        ("XSW4: the original inside an evil assertion", Refused(MISPLACED), around(&last(&whole))),
        (
            "XSW5: the original without its signature behind an evil one with it",
            Refused(NO_PLACE),
            around(&format!("{}{bare}", with_signature(&evil("evil"), &signature))),
        ),
        (
            "XSW6: the original inside its signature in an evil assertion",
            Refused(MISPLACED),
            around(&with_signature(
                &evil("evil"),
                &swap(&signature, "</ds:Signature>", &format!("{bare}</ds:Signature>")),
            )),
        ),
        ("XSW7: an evil assertion in extensions", Refused(NO_PLACE), extensions(&evil("evil"))),
        ("XSW7, under the same id", Refused(same_id), extensions(&evil("assertion"))),
        (
            "XSW8: the original in an object of an evil one's signature",
            Refused(MISPLACED),
            around(&with_signature(&evil("evil"), &object(&signature, &bare))),
        ),
        (
            "XSW8, under the same id",
            Refused(same_id),
            around(&with_signature(&evil("assertion"), &object(&signature, &bare))),
        ),
        (
            "the original in an object of the response's signature",
            Refused(MISPLACED),
            behind_issuer(&object(of_response, &unsigned)),
        ),
        (
            "the original in a KeyInfo",
            Refused(MISPLACED),
            around(&with_signature(&evil("evil"), &swap(&signature, "</ds:KeyInfo>", &format!("{bare}</ds:KeyInfo>")))),
        ),
        (
            "the original in the status of the response",
            Refused(MISPLACED),
            swap(
                &around(&evil("evil")),
                "</saml2p:Status>",
                &format!("<saml2p:StatusDetail>{whole}</saml2p:StatusDetail></saml2p:Status>"),
            ),
        ),
        (
            "the original in an attribute value",
            Refused(MISPLACED),
            around(&swap(&evil("evil"), "R&amp;D &lt;x&gt;", &whole)),
        ),
        (
            "an evil assertion in an attribute value of no namespace",
            Refused(MISPLACED),
            swap(&signed(), ">Everyone<", "><Assertion xmlns=\"\"/><"),
        ),
        (
            "the original in advice",
            Refused(MISPLACED),
            around(&swap(
                &evil("evil"),
                "<saml2:AuthnStatement ",
                &format!("<saml2:Advice>{whole}</saml2:Advice><saml2:AuthnStatement "),
            )),
        ),
        (
            "a response in a response",
            Refused(NO_PLACE),
            swap(&response(), &bare, &original.replace("\"response\"", "\"inner\"")),
        ),
        (
            "two signed assertions",
            Refused(NO_PLACE),
            around(&format!("{whole}{}", {
                let other = idp().sign(&swap(&response(), r#"ID="assertion""#, r#"ID="second""#), "second");
                part(&other, "<saml2:Assertion ", "</saml2:Assertion>")
            })),
        ),
        ("an evil assertion beside an encrypted one", Refused(NO_PLACE), {
            let encrypted = Encrypt::default().encrypt(&signed());
            swap(&encrypted, "</saml2p:Response>", &format!("{}</saml2p:Response>", evil("evil")))
        }),
        ("an evil assertion before an encrypted one", Refused("the response has two assertions"), {
            let encrypted = Encrypt::default().encrypt(&signed());
            swap(&encrypted, "<saml2:EncryptedAssertion ", &format!("{}<saml2:EncryptedAssertion ", evil("evil")))
        }),
        (
            "an assertion of another namespace",
            Refused(NO_PLACE),
            swap(&signed(), "</saml2p:Status>", "</saml2p:Status><Assertion xmlns=\"urn:x\"/>"),
        ),
        (
            "the prefix of the assertion bound to another namespace",
            Refused(NO_PLACE),
            around(&whole.replace(
                r#"xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion""#,
                r#"xmlns:saml2="urn:oasis:names:tc:SAML:2.0:evil""#,
            )),
        ),
    ]
}

fn algorithms() -> Vec<Row> {
    let kind = "the signature is of a kind that is not taken: `";
    vec![
        (
            "RSA-SHA1",
            Refused("not taken: `http://www.w3.org/2000/09/xmldsig#rsa-sha1`"),
            Sign { method: "http://www.w3.org/2000/09/xmldsig#rsa-sha1", ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "a SHA-1 digest",
            Refused("not taken: `http://www.w3.org/2000/09/xmldsig#sha1`"),
            Sign { digest: "http://www.w3.org/2000/09/xmldsig#sha1", ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "HMAC with the certificate as its secret",
            Refused("#hmac-sha256`"),
            Sign { method: HMAC_SHA256, ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "DSA",
            Refused("#dsa-sha1`"),
            Sign { method: "http://www.w3.org/2000/09/xmldsig#dsa-sha1", ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "elements in a prefix list",
            Refused(BAD_SIGNATURE),
            swap(
                &signed(),
                r#"PrefixList="xs"></ec:InclusiveNamespaces>"#,
                r#"PrefixList="xs"><x/></ec:InclusiveNamespaces>"#,
            ),
        ),
        ("no algorithm", Refused(kind), Sign { method: "", ..idp() }.sign(&response(), "assertion")),
        (
            "another algorithm than the key signed with",
            Refused(NO_KEY),
            swap(&signed(), "xmldsig-more#rsa-sha256", "xmldsig-more#rsa-sha512"),
        ),
        (
            "a truncated HMAC",
            Refused("parameters of the signature method"),
            swap(
                &signed(),
                "rsa-sha256\"></ds:SignatureMethod>",
                "rsa-sha256\"><ds:HMACOutputLength>8</ds:HMACOutputLength></ds:SignatureMethod>",
            ),
        ),
        (
            "inclusive canonicalisation",
            Refused("REC-xml-c14n-20010315`"),
            Sign { canonicalisation: "http://www.w3.org/TR/2001/REC-xml-c14n-20010315", ..idp() }
                .sign(&response(), "assertion"),
        ),
        (
            "canonicalisation with comments",
            Refused("#WithComments`"),
            Sign { canonicalisation: "http://www.w3.org/2001/10/xml-exc-c14n#WithComments", ..idp() }
                .sign(&response(), "assertion"),
        ),
        (
            "no canonicalisation",
            Refused("`1 transforms`"),
            Sign { transforms: &[ENVELOPED], ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "not enveloped",
            Refused("`1 transforms`"),
            Sign { transforms: &[EXC_C14N], ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "transforms in the wrong order",
            Refused(kind),
            Sign { transforms: &[EXC_C14N, ENVELOPED], ..idp() }.sign(&response(), "assertion"),
        ),
        (
            "an XSLT transform",
            Refused("REC-xslt-19991116`"),
            Sign { transforms: &["http://www.w3.org/TR/1999/REC-xslt-19991116", EXC_C14N], ..idp() }
                .sign(&response(), "assertion"),
        ),
        (
            "an XPath transform",
            Refused("`3 transforms`"),
            Sign { transforms: &[ENVELOPED, "http://www.w3.org/TR/1999/REC-xpath-19991116", EXC_C14N], ..idp() }
                .sign(&response(), "assertion"),
        ),
        (
            "a base64 transform",
            Refused(kind),
            Sign { transforms: &["http://www.w3.org/2000/09/xmldsig#base64", EXC_C14N], ..idp() }
                .sign(&response(), "assertion"),
        ),
    ]
}

/// For whom, from whom, in answer to what.
fn addressed() -> Vec<Row> {
    let inner = format!(r#"InResponseTo="{REQUEST}" NotOnOrAfter"#);
    let to_request = format!(r#" InResponseTo="{REQUEST}" IssueInstant"#);
    let destination = format!(r#"Destination="{ACS}""#);
    let entity = format!(r#"entity">{ISSUER}"#);
    let audience = format!("<saml2:Audience>{ACS}</saml2:Audience>");
    let recipient = format!(r#" Recipient="{ACS}""#);
    let another = "the assertion is for another audience: `";
    vec![
        (
            "another audience",
            Refused(another),
            saying(&audience, "<saml2:Audience>https://other.example/</saml2:Audience>"),
        ),
        (
            "an audience that begins like ours",
            Refused(another),
            saying(&audience, &format!("<saml2:Audience>{ACS}/x</saml2:Audience>")),
        ),
        (
            "an audience in other letters",
            Refused(another),
            saying(&audience, &format!("<saml2:Audience>{}</saml2:Audience>", ACS.to_uppercase())),
        ),
        ("an empty audience", Refused(another), saying(&audience, "<saml2:Audience/>")),
        (
            "a second restriction to somebody else",
            Refused(another),
            saying(
                "</saml2:Conditions>",
                "<saml2:AudienceRestriction><saml2:Audience>https://other.example/</saml2:Audience></saml2:AudienceRestriction></saml2:Conditions>",
            ),
        ),
        (
            "no audience",
            Refused("names no audience"),
            saying(&format!("<saml2:AudienceRestriction>{audience}</saml2:AudienceRestriction>"), ""),
        ),
        (
            "a condition that nobody knows",
            Refused("a condition that is not understood"),
            saying(
                "</saml2:Conditions>",
                r#"<saml2:Condition xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="x"/></saml2:Conditions>"#,
            ),
        ),
        (
            "another destination",
            Refused("was sent to another address: `https://other.example/`"),
            swap(&signed(), &destination, r#"Destination="https://other.example/""#),
        ),
        ("no destination", Refused("the SAML response names no address of its own"), swap(&signed(), &destination, "")),
        (
            "another destination, signed",
            Refused("was sent to another address"),
            idp().sign(&swap(&response(), &destination, r#"Destination="https://other.example/""#), "response"),
        ),
        (
            "another recipient",
            Refused("the assertion is for another recipient: `https://other.example/`"),
            saying(&recipient, r#" Recipient="https://other.example/""#),
        ),
        ("no recipient", Refused("the assertion names no recipient"), saying(&recipient, "")),
        (
            "in answer to another request",
            Refused("belongs to another login"),
            swap(&signed(), &to_request, r#" InResponseTo="_other" IssueInstant"#),
        ),
        (
            "the assertion in answer to another request",
            Refused("belongs to another login"),
            saying(&inner, r#"InResponseTo="_other" NotOnOrAfter"#),
        ),
        ("unsolicited", Refused("answers no request of ours"), swap(&signed(), &to_request, " IssueInstant")),
        ("the assertion unsolicited", Refused("answers no request of ours"), saying(&inner, "NotOnOrAfter")),
        (
            "another issuer of the response",
            Refused("is from another issuer: `https://evil.example/`"),
            swap(&signed(), &format!(r#"assertion">{ISSUER}"#), r#"assertion">https://evil.example/"#),
        ),
        ("another issuer of the assertion", Refused("is from another issuer: `https://evil.example/`"), {
            let from = format!(
                r#"xmlns:xs="http://www.w3.org/2001/XMLSchema"><saml2:Issuer Format="urn:oasis:names:tc:SAML:2.0:nameid-format:{entity}"#
            );
            idp().sign(&swap(&response(), &from, &from.replace(ISSUER, "https://evil.example/")), "assertion")
        }),
        (
            "an issuer of another kind",
            Refused("is from another issuer"),
            swap(&signed(), "nameid-format:entity", "nameid-format:persistent"),
        ),
        ("no bearer", Refused("it has no confirmation by bearer"), saying("cm:bearer", "cm:holder-of-key")),
        (
            "no confirmation",
            Refused("it has no confirmation by bearer"),
            idp().sign(
                &without(&response(), "<saml2:SubjectConfirmation ", "</saml2:SubjectConfirmation>"),
                "assertion",
            ),
        ),
        (
            "a confirmation without data",
            Refused("it does not say to whom and until when"),
            idp().sign(&without(&response(), "<saml2:SubjectConfirmationData", "/>"), "assertion"),
        ),
        (
            "no login",
            Refused("it tells of no login"),
            idp().sign(&without(&response(), "<saml2:AuthnStatement", "</saml2:AuthnStatement>"), "assertion"),
        ),
        (
            "status requester",
            Refused("the identity provider answered `Requester`"),
            swap(&response(), "status:Success", "status:Requester"),
        ),
        (
            "status with words of its own",
            Refused("the identity provider answered `AuthnFailed`: `No, Alice`"),
            swap(
                &around(""),
                r#"status:Success"/>"#,
                r#"status:Responder"><saml2p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/></saml2p:StatusCode><saml2p:StatusMessage>No, Alice</saml2p:StatusMessage>"#,
            ),
        ),
        (
            "status not success, and a signed assertion",
            Refused("the identity provider answered `Responder`"),
            swap(&signed(), "status:Success", "status:Responder"),
        ),
        (
            "status of an answer to somebody else",
            Refused("belongs to another login"),
            swap(&swap(&around(""), "status:Success", "status:Responder"), REQUEST, "_other"),
        ),
        (
            "success in the second status alone",
            Refused("the identity provider answered `Success`"),
            swap(
                &signed(),
                r#"status:Success"/>"#,
                r#"status:Responder"><saml2p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></saml2p:StatusCode>"#,
            ),
        ),
    ]
}

fn timed() -> Vec<Row> {
    let conditions = r#"NotBefore="2027-01-15T07:55:00.124Z" NotOnOrAfter="2027-01-15T08:05:00.124Z""#;
    let confirmation = r#"NotOnOrAfter="2027-01-15T08:05:00.124Z" Recipient"#;
    let not_a_time = "a time is not one";
    vec![
        (
            "expired by its conditions",
            Refused("the assertion is over since 60 s"),
            saying(conditions, r#"NotOnOrAfter="2027-01-15T07:59:00Z""#),
        ),
        (
            "expired by its confirmation",
            Refused("the assertion is over since 60 s"),
            saying(confirmation, r#"NotOnOrAfter="2027-01-15T07:59:00Z" Recipient"#),
        ),
        (
            "not yet valid by its conditions",
            Refused("ahead of this machine's by about 61 s"),
            saying("2027-01-15T07:55:00.124Z", "2027-01-15T08:01:01Z"),
        ),
        (
            "not yet valid by its confirmation",
            Refused("ahead of this machine's by about 61 s"),
            saying(
                confirmation,
                r#"NotBefore="2027-01-15T08:01:01Z" NotOnOrAfter="2027-01-15T08:05:00.124Z" Recipient"#,
            ),
        ),
        (
            "issued in the future",
            Refused("ahead of this machine's by about 3600 s"),
            saying(
                r#"ID="assertion" IssueInstant="2027-01-15T08:00:00.123Z""#,
                r#"ID="assertion" IssueInstant="2027-01-15T09:00:00Z""#,
            ),
        ),
        (
            "a session that is over",
            Refused("the identity provider's session is over"),
            saying(r#"SessionIndex="#, r#"SessionNotOnOrAfter="2027-01-15T08:00:00Z" SessionIndex="#),
        ),
        (
            "conditions without an end",
            Refused("not a bearer's: its conditions have no end"),
            saying(conditions, r#"NotBefore="2027-01-15T07:55:00.124Z""#),
        ),
        (
            "a confirmation without an end",
            Refused("not a bearer's: its confirmation has no end"),
            saying(confirmation, "Recipient"),
        ),
        ("an end that is no time", Refused(not_a_time), saying(confirmation, r#"NotOnOrAfter="tomorrow" Recipient"#)),
        ("an end that is empty", Refused(not_a_time), saying(confirmation, r#"NotOnOrAfter="" Recipient"#)),
        (
            "an end without a zone",
            Refused(not_a_time),
            saying(confirmation, r#"NotOnOrAfter="2027-01-15T08:05:00" Recipient"#),
        ),
        (
            "an end before all time",
            Refused(not_a_time),
            saying(confirmation, r#"NotOnOrAfter="-000001-01-15T08:05:00Z" Recipient"#),
        ),
        (
            "no time of issue",
            Refused("a time is missing"),
            saying(r#"ID="assertion" IssueInstant="2027-01-15T08:00:00.123Z""#, r#"ID="assertion""#),
        ),
    ]
}

/// What no parser should be given, and what one must refuse.
fn parsed() -> Vec<Row> {
    let long_name = format!("{ALICE}.evil.example");
    let with_long_name = idp().sign(&swap(&response(), ALICE, &long_name), "assertion");
    let split = |by: &str| swap(&with_long_name, &long_name, &format!("{ALICE}{by}.evil.example"));
    let doctype = |dtd: &str| swap(&signed(), "?>", &format!("?>{dtd}"));
    let nested =
        |tag: &str, depth: usize| format!("{}{}", format!("<{tag}>").repeat(depth), format!("</{tag}>").repeat(depth));
    let in_value = |inner: &str| swap(&signed(), ">Everyone<", &format!(">{inner}<"));
    let forbidden = "the SAML response holds a document type";
    vec![
        ("a comment in the name id", Refused("holds a comment"), split("<!-- -->")),
        ("an empty comment in the name id", Refused("holds a comment"), split("<!---->")),
        ("a processing instruction in the name id", Refused("holds a processing instruction"), split("<?x?>")),
        ("CDATA in the name id", Refused("holds a CDATA section"), split("<![CDATA[]]>")),
        (
            "CDATA for the name id",
            Refused("holds a CDATA section"),
            swap(&signed(), ALICE, "<![CDATA[alice@example.com]]>"),
        ),
        (
            "a comment in the response",
            Refused("holds a comment"),
            swap(&signed(), "<saml2p:Status ", "<!-- x --><saml2p:Status "),
        ),
        (
            "a style sheet",
            Refused("holds a processing instruction"),
            doctype(r#"<?xml-stylesheet href="http://evil.example/"?>"#),
        ),
        (
            "a second declaration",
            Refused("holds a processing instruction"),
            swap(&signed(), "<saml2p:Status ", r#"<?xml version="1.0"?><saml2p:Status "#),
        ),
        ("a document type", Refused(forbidden), doctype("<!DOCTYPE x>")),
        ("a document type in small letters", Refused(forbidden), doctype("<!doctype x>")),
        (
            "an external entity",
            Refused(forbidden),
            doctype(r#"<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>"#),
        ),
        (
            "entities that expand",
            Refused(forbidden),
            doctype(
                r#"<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>"#,
            ),
        ),
        (
            "an id by document type",
            Refused(forbidden),
            doctype("<!DOCTYPE x [<!ATTLIST saml2:Assertion Name ID #IMPLIED>]>"),
        ),
        ("an entity that nobody declared", Refused("not well-formed at line 1"), in_value("&x;")),
        ("a reference to no character", Refused("not well-formed"), in_value("&#0;")),
        ("300 KiB", Refused("longer than 256 KiB"), in_value(&"a".repeat(300 * 1024))),
        (
            "10,000 elements within each other",
            Refused("too many elements within each other"),
            in_value(&nested("a", 10_000)),
        ),
        ("33 elements within each other", Refused("too many elements within each other"), in_value(&nested("a", 33))),
        ("20,000 elements", Refused("too many elements"), in_value(&"<a/>".repeat(20_000))),
        (
            "5,000 attributes",
            Refused("too many attributes on an element"),
            in_value(&format!("<a {}/>", (0..5000).map(|n| format!("a{n}=\"\" ")).collect::<String>())),
        ),
        (
            "5,000 namespaces",
            Refused("too many attributes on an element"),
            in_value(&format!("<a {}/>", (0..5000).map(|n| format!("xmlns:a{n}=\"x\" ")).collect::<String>())),
        ),
        ("a namespace that grows with each element", Refused("longer than 256 KiB"), {
            let value = format!(r#"<b xmlns:a="{}">{}</b>"#, "x".repeat(100_000), "<a:c/>".repeat(5_000));
            swap(&signed(), ">Everyone<", &format!(">{value}<"))
        }),
        (
            "an attribute twice",
            Refused("not well-formed"),
            swap(&signed(), r#"ID="assertion""#, r#"ID="assertion" ID="assertion""#),
        ),
        ("a prefix that nobody declared", Refused("not well-formed"), in_value("<x:y/>")),
        ("not closed", Refused("not well-formed"), swap(&signed(), "</saml2p:Response>", "")),
        ("something behind the end", Refused("not well-formed"), format!("{}<x/>", signed())),
        ("nothing", Refused("not well-formed"), String::new()),
        ("no XML", Refused("not well-formed"), "SAMLResponse".to_owned()),
        ("a NUL", Refused("not well-formed"), in_value("\0")),
        ("declared to be UTF-7", Refused("not base64 of UTF-8 text"), swap(&signed(), "UTF-8", "UTF-7")),
        ("declared to be UTF-16", Refused("not base64 of UTF-8 text"), swap(&signed(), "UTF-8", "UTF-16")),
    ]
}

fn shaped() -> Vec<Row> {
    let no_part = "the assertion has a part that is missing, twice there, or not understood";
    let subject = format!(
        r#"<saml2:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">{ALICE}</saml2:NameID>"#
    );
    vec![
        ("no assertion", Refused("the response has no assertion"), around("")),
        ("an assertion for the response", Refused("it is not a SAML 2.0 response"), stolen().whole),
        (
            "a SAML 1.1 response",
            Refused("it is not a SAML 2.0 response"),
            r#"<Response xmlns="urn:oasis:names:tc:SAML:1.0:protocol"/>"#.to_owned(),
        ),
        (
            "a logout response",
            Refused("it is not a SAML 2.0 response"),
            signed().replace("saml2p:Response", "saml2p:LogoutResponse"),
        ),
        (
            "a response of another version",
            Refused("is not of version 2.0"),
            swap(&signed(), r#"Version="2.0""#, r#"Version="1.1""#),
        ),
        (
            "an assertion of another version",
            Refused("is not of version 2.0"),
            saying(r#"Version="2.0" xmlns:saml2="#, r#"Version="1.1" xmlns:saml2="#),
        ),
        ("an assertion without an id", Refused("the signature is not over"), {
            let plain = Sign { reference: Some("#"), ..idp() }.sign(&response(), "assertion");
            swap(&plain, r#" ID="assertion""#, "")
        }),
        ("no status", Refused("the response has no status"), without(&signed(), "<saml2p:Status ", "</saml2p:Status>")),
        (
            "text between elements",
            Refused("there is text between its elements"),
            swap(&signed(), "<saml2p:Status ", "x<saml2p:Status "),
        ),
        ("the status last", Refused(NO_PLACE), {
            let message = signed();
            let status = part(&message, "<saml2p:Status ", "</saml2p:Status>");
            swap(&swap(&message, &status, ""), "</saml2p:Response>", &format!("{status}</saml2p:Response>"))
        }),
        (
            "extensions that are empty",
            Refused(NO_PLACE),
            swap(&signed(), "<saml2p:Status ", "<saml2p:Extensions/><saml2p:Status "),
        ),
        (
            "two name ids",
            Refused("it has not exactly one name id"),
            saying(&subject, &format!("{subject}{}", subject.replace(ALICE, MALLORY))),
        ),
        ("no name id", Refused("it has not exactly one name id"), saying(&subject, "")),
        ("an empty name id", Refused("the name id is empty"), saying(&subject, &subject.replace(ALICE, ""))),
        (
            "a name id with a line end",
            Refused("the name id is empty, too long, or has spaces around it"),
            saying(&subject, &subject.replace(ALICE, "alice@example.com\n")),
        ),
        (
            "an element in the name id",
            Refused("there is an element where text belongs"),
            saying(&subject, &subject.replace(ALICE, "alice@example.com<x/>.evil.example")),
        ),
        (
            "an encrypted name id",
            Refused("the name id is encrypted on its own"),
            saying(&subject, "<saml2:EncryptedID/>"),
        ),
        (
            "two subjects",
            Refused(no_part),
            saying("<saml2:Conditions ", &format!("<saml2:Subject>{subject}</saml2:Subject><saml2:Conditions ")),
        ),
        (
            "no subject",
            Refused(no_part),
            idp().sign(&without(&response(), "<saml2:Subject>", "</saml2:Subject>"), "assertion"),
        ),
        (
            "no conditions",
            Refused(no_part),
            idp().sign(&without(&response(), "<saml2:Conditions", "</saml2:Conditions>"), "assertion"),
        ),
        (
            "a statement that nobody knows",
            Refused(no_part),
            saying("</saml2:Assertion>", "<saml2:AuthzDecisionStatement/></saml2:Assertion>"),
        ),
        (
            "an encrypted attribute",
            Refused("may be among those that are encrypted on their own"),
            saying("</saml2:AttributeStatement>", "<saml2:EncryptedAttribute/></saml2:AttributeStatement>"),
        ),
        (
            "no address",
            Refused("no e-mail address in an attribute `email`, and the name id is not of the format `emailAddress`"),
            saying("nameid-format:emailAddress", "nameid-format:persistent"),
        ),
        (
            "a name id that is no address",
            Refused("what is in the name id is not one e-mail address"),
            saying(ALICE, "alice"),
        ),
        (
            "two addresses",
            Refused("what is in the attribute `email` is not one e-mail address"),
            saying(
                "<saml2:AttributeStatement>",
                &format!(
                    r#"<saml2:AttributeStatement><saml2:Attribute Name="email"><saml2:AttributeValue>{ALICE}</saml2:AttributeValue><saml2:AttributeValue>{MALLORY}</saml2:AttributeValue></saml2:Attribute>"#
                ),
            ),
        ),
        (
            "an element in a group",
            Refused("the attribute `groups` has a value that is not text"),
            saying(">Everyone<", "><x>Everyone</x><"),
        ),
    ]
}

fn encrypted() -> Vec<Row> {
    let decryption = "the assertion cannot be decrypted";
    let cipher = "the assertion is encrypted in a way that is not taken: `";
    let unsigned = "the assertion is not signed";
    let genuine = || Encrypt::default().encrypt(&signed());
    let containing = |plain: &str| around(&Encrypt::default().encrypted(plain));
    let stolen = stolen();
    vec![
        ("encrypted for somebody else", Refused(decryption), Encrypt { certificate: include_str!("../../../tests/saml/keys/foreign.crt"), ..Encrypt::default() }.encrypt(&signed())),
        ("encrypted, and damaged", Refused(decryption), {
            let message = genuine();
            let value = sealed(&message);
            let changed = if value.starts_with('A') { value.replacen('A', "B", 1) } else { format!("A{}", value.get(1..).unwrap()) };
            swap(&message, &value, &changed)
        }),
        ("encrypted, and cut", Refused(decryption), {
            let message = genuine();
            let value = sealed(&message);
            swap(&message, &value, value.get(4..).unwrap())
        }),
        ("encrypted, containing an unsigned assertion", Refused(unsigned), containing(&evil("evil"))),
        ("encrypted and unsigned, in a signed response", Refused(unsigned), idp().sign(&Encrypt::default().encrypt(&response()), "response")),
        ("encrypted, signed by a foreign key", Refused(NO_KEY), containing(&{
            let other = Sign::with(&SIGNERS.foreign).sign(&response(), "assertion");
            part(&other, "<saml2:Assertion ", "</saml2:Assertion>")
        })),
        ("encrypted, two assertions", Refused(NO_PLACE), containing(&format!("{}{}", evil("evil"), stolen.whole))),
        ("encrypted, an evil assertion around the original", Refused(MISPLACED), containing(&swap(&evil("evil"), "</saml2:Assertion>", &format!("{}</saml2:Assertion>", stolen.whole)))),
        ("encrypted, ending the response itself", Refused("not well-formed"), containing(&format!("{}</saml2p:Response><x>", stolen.whole))),
        ("encrypted, another encrypted one", Refused("what was encrypted is not an assertion"), containing(&Encrypt::default().encrypted(&stolen.whole).replace(r#"Id="key""#, r#"Id="inner""#))),
        ("encrypted, a comment", Refused("holds a comment"), containing(&format!("<!-- -->{}", stolen.whole))),
        ("encrypted, a document type", Refused("holds a document type"), containing(&format!("<!DOCTYPE x>{}", stolen.whole))),
        ("encrypted, no XML", Refused("there is text between its elements"), containing("hello")),
        ("encrypted, nothing", Refused("what was encrypted is not an assertion"), containing("")),
        ("encrypted with CBC", Refused("#aes256-cbc`"), Encrypt { cipher: "http://www.w3.org/2001/04/xmlenc#aes256-cbc", ..Encrypt::default() }.encrypt(&signed())),
        ("encrypted with triple DES", Refused("#tripledes-cbc`"), Encrypt { cipher: "http://www.w3.org/2001/04/xmlenc#tripledes-cbc", ..Encrypt::default() }.encrypt(&signed())),
        ("the key by RSA 1.5", Refused("#rsa-1_5`"), Encrypt { transport: "http://www.w3.org/2001/04/xmlenc#rsa-1_5", ..Encrypt::default() }.encrypt(&signed())),
        ("OAEP with parameters", Refused(cipher), Encrypt { parameters: r#"<xenc:OAEPparams>AAAA</xenc:OAEPparams>"#, ..Encrypt::default() }.encrypt(&signed())),
        ("OAEP of two hashes", Refused(" with http://www.w3.org/2009/xmlenc11#mgf1sha1`"), Encrypt { parameters: r#"<ds:DigestMethod xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>"#, ..Encrypt::default() }.encrypt(&signed())),
        ("OAEP of another hash than it says", Refused(decryption), Encrypt { oaep: &OAEP_SHA512_MGF1SHA512, ..Encrypt::default() }.encrypt(&signed())),
        ("two keys", Refused("has not exactly one key"), {
            let both = Encrypt { beside: true, ..Encrypt::default() }.encrypt(&signed());
            swap(&both, "<ds:RetrievalMethod ", r#"<xenc:EncryptedKey xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"/><ds:RetrievalMethod "#)
        }),
        ("no key", Refused("has not exactly one key"), without(&genuine(), "<xenc:EncryptedKey", "</xenc:EncryptedKey>")),
        ("what is encrypted to be fetched", Refused("an encrypted assertion is not as SAML has it"), {
            let message = genuine();
            let value = format!("<xenc:CipherValue>{}</xenc:CipherValue>", sealed(&message));
            swap(&message, &value, r#"<xenc:CipherReference URI="http://evil.example/"/>"#)
        }),
    ]
}

/// The value that holds the assertion, and not the one that holds its key.
fn sealed(message: &str) -> String {
    let (_, last) = message.rsplit_once("<xenc:CipherValue>").unwrap();
    last.split_once("</xenc:CipherValue>").unwrap().0.to_owned()
}

#[test]
fn encryption_must_be_configured() {
    let error = verify(&provider(), &Encrypt::default().encrypt(&signed())).unwrap_err();
    assert_eq!(error, "the assertion is encrypted, and encryption is not configured");
}

#[test]
fn a_base64_of_lines_is_read_and_junk_is_not() {
    let text = field(&signed());
    let lines: Vec<_> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    assert!(provider().verify(&lines.join("\r\n"), &EXPECTED).is_ok());
    for junk in [format!("{text}!"), format!("{text}===="), text.replace('A', "-"), text.replacen('A', "A\0", 1)] {
        assert_eq!(
            provider().verify(&junk, &EXPECTED).unwrap_err().to_string(),
            "the SAML response is not base64 of UTF-8 text"
        );
    }
    assert!(gate::open(&"A".repeat(10 * 1024 * 1024)).is_err());
}

#[test]
fn a_fresh_login_is_one_since_the_request() {
    let provider = provider();
    let since = |at: &str, fresh| {
        let message = saying("2027-01-15T07:59:58.000Z", at);
        provider.verify(&field(&message), &Expected { fresh, ..EXPECTED }).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(since("2027-01-15T07:59:35Z", true), Ok(()));
    assert_eq!(since("2027-01-15T07:00:00Z", false), Ok(()));
    let refused = "the identity provider did not ask for credentials again";
    assert_eq!(since("2027-01-15T07:00:00Z", true), Err(refused.to_owned()));
}

#[test]
fn no_more_than_five_minutes_of_leeway() {
    let late = Expected {
        now: EXPECTED.now.after(std::time::Duration::from_secs(700)),
        leeway: std::time::Duration::from_secs(3600),
        ..EXPECTED
    };
    assert!(provider().verify(&field(&signed()), &late).is_err());
}
