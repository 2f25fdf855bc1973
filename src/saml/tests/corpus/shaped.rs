//! Messages that no parser should see or that a parser must reject, messages of a wrong shape, and
//! encrypted ones.

use super::*;

/// Messages that no parser should see, and messages that a parser must reject.
pub(super) fn parsed() -> Vec<Row> {
    let long_name = format!("{ALICE}.evil.example");
    let with_long_name = idp().sign(&swap(&response(), ALICE, &long_name), "assertion");
    let split = |by: &str| {
        swap(
            &with_long_name,
            &long_name,
            &format!("{ALICE}{by}.evil.example"),
        )
    };
    let doctype = |dtd: &str| swap(&signed(), "?>", &format!("?>{dtd}"));
    let nested = |tag: &str, depth: usize| {
        format!(
            "{}{}",
            format!("<{tag}>").repeat(depth),
            format!("</{tag}>").repeat(depth)
        )
    };
    let in_value = |inner: &str| swap(&signed(), ">Everyone<", &format!(">{inner}<"));
    let forbidden = "the SAML response contains a document type";
    vec![
        (
            "a comment in the name id",
            Refused("contains a comment"),
            split("<!-- -->"),
        ),
        (
            "an empty comment in the name id",
            Refused("contains a comment"),
            split("<!---->"),
        ),
        (
            "a processing instruction in the name id",
            Refused("contains a processing instruction"),
            split("<?x?>"),
        ),
        (
            "CDATA in the name id",
            Refused("contains a CDATA section"),
            split("<![CDATA[]]>"),
        ),
        (
            "CDATA for the name id",
            Refused("contains a CDATA section"),
            swap(&signed(), ALICE, "<![CDATA[alice@example.com]]>"),
        ),
        (
            "a comment in the response",
            Refused("contains a comment"),
            swap(&signed(), "<saml2p:Status ", "<!-- x --><saml2p:Status "),
        ),
        (
            "a style sheet",
            Refused("contains a processing instruction"),
            doctype(r#"<?xml-stylesheet href="http://evil.example/"?>"#),
        ),
        (
            "a second declaration",
            Refused("contains a processing instruction"),
            swap(
                &signed(),
                "<saml2p:Status ",
                r#"<?xml version="1.0"?><saml2p:Status "#,
            ),
        ),
        (
            "a document type",
            Refused(forbidden),
            doctype("<!DOCTYPE x>"),
        ),
        (
            "a document type in small letters",
            Refused(forbidden),
            doctype("<!doctype x>"),
        ),
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
        (
            "an undeclared entity",
            Refused("not well-formed at line 1"),
            in_value("&x;"),
        ),
        (
            "a reference to no character",
            Refused("not well-formed"),
            in_value("&#0;"),
        ),
        (
            "300 KiB",
            Refused("longer than 256 KiB"),
            in_value(&"a".repeat(300 * 1024)),
        ),
        (
            "10,000 elements within each other",
            Refused("too many elements within each other"),
            in_value(&nested("a", 10_000)),
        ),
        (
            "33 elements within each other",
            Refused("too many elements within each other"),
            in_value(&nested("a", 33)),
        ),
        (
            "20,000 elements",
            Refused("too many elements"),
            in_value(&"<a/>".repeat(20_000)),
        ),
        (
            "5,000 attributes",
            Refused("too many attributes on an element"),
            in_value(&format!(
                "<a {}/>",
                (0..5000).map(|n| format!("a{n}=\"\" ")).collect::<String>()
            )),
        ),
        (
            "5,000 namespaces",
            Refused("too many attributes on an element"),
            in_value(&format!(
                "<a {}/>",
                (0..5000)
                    .map(|n| format!("xmlns:a{n}=\"x\" "))
                    .collect::<String>()
            )),
        ),
        (
            "a namespace that grows with each element",
            Refused("longer than 256 KiB"),
            {
                let value = format!(
                    r#"<b xmlns:a="{}">{}</b>"#,
                    "x".repeat(100_000),
                    "<a:c/>".repeat(5_000)
                );
                swap(&signed(), ">Everyone<", &format!(">{value}<"))
            },
        ),
        (
            "an attribute twice",
            Refused("not well-formed"),
            swap(
                &signed(),
                r#"ID="assertion""#,
                r#"ID="assertion" ID="assertion""#,
            ),
        ),
        (
            "an undeclared prefix",
            Refused("not well-formed"),
            in_value("<x:y/>"),
        ),
        (
            "not closed",
            Refused("not well-formed"),
            swap(&signed(), "</saml2p:Response>", ""),
        ),
        (
            "something behind the end",
            Refused("not well-formed"),
            format!("{}<x/>", signed()),
        ),
        ("nothing", Refused("not well-formed"), String::new()),
        (
            "no XML",
            Refused("not well-formed"),
            "SAMLResponse".to_owned(),
        ),
        ("a NUL", Refused("not well-formed"), in_value("\0")),
        (
            "declared to be UTF-7",
            Refused("not base64 of UTF-8 text"),
            swap(&signed(), "UTF-8", "UTF-7"),
        ),
        (
            "declared to be UTF-16",
            Refused("not base64 of UTF-8 text"),
            swap(&signed(), "UTF-8", "UTF-16"),
        ),
    ]
}

pub(super) fn shaped() -> Vec<Row> {
    let no_part = "a part of the assertion is missing, duplicated or unknown";
    let subject = format!(
        r#"<saml2:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">{ALICE}</saml2:NameID>"#
    );
    vec![
        (
            "no assertion",
            Refused("the response has no assertion"),
            around(""),
        ),
        (
            "an assertion for the response",
            Refused("it is not a SAML 2.0 response"),
            stolen().whole,
        ),
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
            saying(
                r#"Version="2.0" xmlns:saml2="#,
                r#"Version="1.1" xmlns:saml2="#,
            ),
        ),
        (
            "an assertion without an id",
            Refused("the signature is not over"),
            {
                let plain = Sign {
                    reference: Some("#"),
                    ..idp()
                }
                .sign(&response(), "assertion");
                swap(&plain, r#" ID="assertion""#, "")
            },
        ),
        (
            "no status",
            Refused("the response has no status"),
            without(&signed(), "<saml2p:Status ", "</saml2p:Status>"),
        ),
        (
            "text between elements",
            Refused("there is text between elements"),
            swap(&signed(), "<saml2p:Status ", "x<saml2p:Status "),
        ),
        ("the status last", Refused(NO_PLACE), {
            let message = signed();
            let status = part(&message, "<saml2p:Status ", "</saml2p:Status>");
            swap(
                &swap(&message, &status, ""),
                "</saml2p:Response>",
                &format!("{status}</saml2p:Response>"),
            )
        }),
        (
            "extensions that are empty",
            Refused(NO_PLACE),
            swap(
                &signed(),
                "<saml2p:Status ",
                "<saml2p:Extensions/><saml2p:Status ",
            ),
        ),
        (
            "two name ids",
            Refused("it does not have exactly one name id"),
            saying(
                &subject,
                &format!("{subject}{}", subject.replace(ALICE, MALLORY)),
            ),
        ),
        (
            "no name id",
            Refused("it does not have exactly one name id"),
            saying(&subject, ""),
        ),
        (
            "an empty name id",
            Refused("the name id is empty"),
            saying(&subject, &subject.replace(ALICE, "")),
        ),
        (
            "a name id with a line end",
            Refused("the name id is empty, too long, or has spaces around it"),
            saying(&subject, &subject.replace(ALICE, "alice@example.com\n")),
        ),
        (
            "an element in the name id",
            Refused("there is an element in a position for text"),
            saying(
                &subject,
                &subject.replace(ALICE, "alice@example.com<x/>.evil.example"),
            ),
        ),
        (
            "an encrypted name id",
            Refused("the name id is individually encrypted"),
            saying(&subject, "<saml2:EncryptedID/>"),
        ),
        (
            "two subjects",
            Refused(no_part),
            saying(
                "<saml2:Conditions ",
                &format!("<saml2:Subject>{subject}</saml2:Subject><saml2:Conditions "),
            ),
        ),
        (
            "no subject",
            Refused(no_part),
            idp().sign(
                &without(&response(), "<saml2:Subject>", "</saml2:Subject>"),
                "assertion",
            ),
        ),
        (
            "no conditions",
            Refused(no_part),
            idp().sign(
                &without(&response(), "<saml2:Conditions", "</saml2:Conditions>"),
                "assertion",
            ),
        ),
        (
            "an unknown statement",
            Refused(no_part),
            saying(
                "</saml2:Assertion>",
                "<saml2:AuthzDecisionStatement/></saml2:Assertion>",
            ),
        ),
        (
            "an encrypted attribute",
            Refused("may be one of the individually encrypted attributes"),
            saying(
                "</saml2:AttributeStatement>",
                "<saml2:EncryptedAttribute/></saml2:AttributeStatement>",
            ),
        ),
        (
            "no email address",
            Refused(
                "no email address in an attribute `email`, and the name id is not of the format `emailAddress`",
            ),
            saying("nameid-format:emailAddress", "nameid-format:persistent"),
        ),
        (
            "a name id that is no address",
            Refused("the name id does not contain exactly one email address"),
            saying(ALICE, "alice"),
        ),
        (
            "two addresses",
            Refused("the attribute `email` does not contain exactly one email address"),
            saying(
                "<saml2:AttributeStatement>",
                &format!(
                    r#"<saml2:AttributeStatement><saml2:Attribute Name="email"><saml2:AttributeValue>{ALICE}</saml2:AttributeValue><saml2:AttributeValue>{MALLORY}</saml2:AttributeValue></saml2:Attribute>"#
                ),
            ),
        ),
        (
            "an element in a group, which makes the groups unknown",
            Alice,
            saying(">Everyone<", "><x>Everyone</x><"),
        ),
    ]
}

pub(super) fn encrypted() -> Vec<Row> {
    let decryption = "the assertion cannot be decrypted";
    let cipher = "the assertion uses an unsupported encryption algorithm: `";
    let unsigned = "the assertion is not signed";
    let genuine = || Encrypt::default().encrypt(&signed());
    let containing = |plain: &str| around(&Encrypt::default().encrypted(plain));
    let stolen = stolen();
    vec![
        ("encrypted for somebody else", Refused(decryption), Encrypt { certificate: include_str!("../../../../tests/saml/keys/foreign.crt"), ..Encrypt::default() }.encrypt(&signed())),
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
        ("encrypted, another encrypted one", Refused("the decrypted content is not an assertion"), containing(&Encrypt::default().encrypted(&stolen.whole).replace(r#"Id="key""#, r#"Id="inner""#))),
        ("encrypted, a comment", Refused("contains a comment"), containing(&format!("<!-- -->{}", stolen.whole))),
        ("encrypted, a document type", Refused("contains a document type"), containing(&format!("<!DOCTYPE x>{}", stolen.whole))),
        ("encrypted, no XML", Refused("there is text between elements"), containing("hello")),
        ("encrypted, nothing", Refused("the decrypted content is not an assertion"), containing("")),
        ("encrypted with CBC", Refused("#aes256-cbc`"), Encrypt { cipher: "http://www.w3.org/2001/04/xmlenc#aes256-cbc", ..Encrypt::default() }.encrypt(&signed())),
        ("encrypted with triple DES", Refused("#tripledes-cbc`"), Encrypt { cipher: "http://www.w3.org/2001/04/xmlenc#tripledes-cbc", ..Encrypt::default() }.encrypt(&signed())),
        ("the key by RSA 1.5", Refused("#rsa-1_5`"), Encrypt { transport: "http://www.w3.org/2001/04/xmlenc#rsa-1_5", ..Encrypt::default() }.encrypt(&signed())),
        ("OAEP with parameters", Refused(cipher), Encrypt { parameters: r#"<xenc:OAEPparams>AAAA</xenc:OAEPparams>"#, ..Encrypt::default() }.encrypt(&signed())),
        ("OAEP of two hashes", Refused(" with http://www.w3.org/2009/xmlenc11#mgf1sha1`"), Encrypt { parameters: r#"<ds:DigestMethod xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>"#, ..Encrypt::default() }.encrypt(&signed())),
        ("OAEP of another hash than it says", Refused(decryption), Encrypt { oaep: &OAEP_SHA512_MGF1SHA512, ..Encrypt::default() }.encrypt(&signed())),
        ("two keys", Refused("does not have exactly one key"), {
            let both = Encrypt { beside: true, ..Encrypt::default() }.encrypt(&signed());
            swap(&both, "<ds:RetrievalMethod ", r#"<xenc:EncryptedKey xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"/><ds:RetrievalMethod "#)
        }),
        ("no key", Refused("does not have exactly one key"), without(&genuine(), "<xenc:EncryptedKey", "</xenc:EncryptedKey>")),
        ("what is encrypted to be fetched", Refused("the encrypted assertion is malformed"), {
            let message = genuine();
            let value = format!("<xenc:CipherValue>{}</xenc:CipherValue>", sealed(&message));
            swap(&message, &value, r#"<xenc:CipherReference URI="http://evil.example/"/>"#)
        }),
    ]
}

/// Returns the ciphertext of the assertion, not that of its key.
fn sealed(message: &str) -> String {
    let (_, last) = message.rsplit_once("<xenc:CipherValue>").unwrap();
    last.split_once("</xenc:CipherValue>").unwrap().0.to_owned()
}
