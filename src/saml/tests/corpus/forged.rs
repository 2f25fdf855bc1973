//! Modified messages and misleading signatures.

use super::*;

pub(super) fn tampered() -> Vec<Row> {
    let Stolen {
        whole,
        signature,
        bare,
    } = stolen();
    let foreign = Sign::with(&SIGNERS.foreign);
    let (next, other) = (
        Sign::with(&SIGNERS.next),
        idp().sign(&response(), "response"),
    );
    let of_response = &part(&other, "<ds:Signature ", "</ds:Signature>");
    vec![
        (
            "another name id",
            Refused(CHANGED),
            swap(&signed(), ALICE, MALLORY),
        ),
        (
            "another name id, response signed",
            Refused(CHANGED),
            swap(&idp().sign(&response(), "response"), ALICE, MALLORY),
        ),
        (
            "another name id, both signed",
            Refused(CHANGED),
            swap(&doubly(), ALICE, MALLORY),
        ),
        (
            "one more group",
            Refused(CHANGED),
            swap(
                &signed(),
                ">Everyone<",
                ">Everyone</saml2:AttributeValue><saml2:AttributeValue>Admins<",
            ),
        ),
        (
            "another destination under a signature",
            Refused(CHANGED),
            swap(
                &doubly(),
                "<saml2p:StatusCode ",
                r#"<saml2p:StatusCode x="y" "#,
            ),
        ),
        (
            "another digest",
            Refused(NO_KEY),
            swap(&signed(), "<ds:DigestValue>", "<ds:DigestValue>AAAA"),
        ),
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
        (
            "signature stripped",
            Refused("the assertion is not signed"),
            swap(&signed(), &signature, ""),
        ),
        (
            "never signed",
            Refused("the assertion is not signed"),
            response(),
        ),
        (
            "an empty signature element",
            Refused(BAD_SIGNATURE),
            swap(
                &signed(),
                &signature,
                r#"<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/>"#,
            ),
        ),
        (
            "signed by a foreign key that it names itself",
            Refused("; the response names one with the SHA-256 "),
            foreign.sign(&response(), "assertion"),
        ),
        (
            "signed by a certificate that is not configured yet",
            Refused(NO_KEY),
            next.sign(&response(), "assertion"),
        ),
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
            Refused("the signature is not over its parent element"),
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
            Sign {
                reference: Some(""),
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "a reference to the response",
            Refused("the signature is not over"),
            Sign {
                reference: Some("#response"),
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "a reference to a file",
            Refused("the signature is not over"),
            Sign {
                reference: Some("file:///etc/passwd"),
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "an XPointer",
            Refused("the signature is not over"),
            Sign {
                reference: Some("#xpointer(id('assertion'))"),
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        ("two references", Refused(BAD_SIGNATURE), {
            let reference = &part(&signature, "<ds:Reference ", "</ds:Reference>");
            swap(
                &signed(),
                "</ds:Reference>",
                &format!("</ds:Reference>{reference}"),
            )
        }),
        ("no reference", Refused(BAD_SIGNATURE), {
            let reference = &part(&signature, "<ds:Reference ", "</ds:Reference>");
            swap(&signed(), reference, "")
        }),
        (
            "two values of one digest",
            Refused(BAD_SIGNATURE),
            swap(
                &signed(),
                "<ds:DigestValue>",
                "<ds:DigestValue>AAAA</ds:DigestValue><ds:DigestValue>",
            ),
        ),
        ("two signed infos", Refused(BAD_SIGNATURE), {
            let info = &part(&signature, "<ds:SignedInfo>", "</ds:SignedInfo>");
            swap(
                &signed(),
                "</ds:SignedInfo>",
                &format!("</ds:SignedInfo>{info}"),
            )
        }),
        (
            "two signatures on the assertion, the good one last",
            Refused(MISPLACED),
            around(&with_signature(
                &whole,
                &foreign.signature("#assertion", "x"),
            )),
        ),
        (
            "two signatures on the assertion, the good one first",
            Refused(MISPLACED),
            swap(
                &signed(),
                "</ds:Signature>",
                &format!("</ds:Signature>{}", foreign.signature("#assertion", "x")),
            ),
        ),
        (
            "two signatures on the response",
            Refused(NO_PLACE),
            swap(
                &doubly(),
                "</ds:Signature>",
                &format!("</ds:Signature>{}", foreign.signature("#response", "x")),
            ),
        ),
        (
            "a signature after the subject",
            Refused("a part of the assertion is missing, duplicated or unknown"),
            {
                // The identity provider signed this, but it stands at a position that the schema
                // does not allow. The reader of the signed bytes must not see it.
                let statement = "<saml2:Advice/>";
                idp().sign(
                    &swap(
                        &response(),
                        "<saml2:AuthnStatement ",
                        &format!("{statement}<saml2:AuthnStatement "),
                    ),
                    "assertion",
                )
            },
        ),
    ]
}

pub(super) fn wrapped() -> Vec<Row> {
    let Stolen {
        whole,
        signature,
        bare,
    } = stolen();
    let response_signed = idp().sign(&response(), "response");
    let original = &part(&response_signed, "<saml2p:Response ", "</saml2p:Response>");
    let of_response = &part(original, "<ds:Signature ", "</ds:Signature>");
    let unsigned = swap(original, of_response, "");
    let evil_response = swap(
        &swap(&unsigned, &bare, &evil("evil")),
        r#"ID="response""#,
        r#"ID="evil-response""#,
    );
    let in_signature = |inner: &str| {
        swap(
            of_response,
            "</ds:Signature>",
            &format!("{inner}</ds:Signature>"),
        )
    };
    let behind_issuer = |inner: &str| {
        swap(
            &evil_response,
            "</saml2:Issuer>",
            &format!("</saml2:Issuer>{inner}"),
        )
    };
    let object = |signature: &str, inner: &str| {
        swap(
            signature,
            "</ds:Signature>",
            &format!("<ds:Object>{inner}</ds:Object></ds:Signature>"),
        )
    };
    let last = |inner: &str| {
        swap(
            &evil("evil"),
            "</saml2:Assertion>",
            &format!("{inner}</saml2:Assertion>"),
        )
    };
    let extensions = |inner: &str| {
        swap(
            &signed(),
            "<saml2p:Status ",
            &format!("<saml2p:Extensions>{inner}</saml2p:Extensions><saml2p:Status "),
        )
    };
    let same_id = "the SAML response uses an id twice";
    vec![
        (
            "XSW1: the response inside its signature",
            Refused(MISPLACED),
            behind_issuer(&in_signature(&unsigned)),
        ),
        (
            "XSW2: the response before its signature",
            Refused(NO_PLACE),
            behind_issuer(&format!("{unsigned}{of_response}")),
        ),
        (
            "XSW3: an evil assertion before the original",
            Refused(NO_PLACE),
            around(&format!("{}{whole}", evil("evil"))),
        ),
        (
            "XSW3, under the same id",
            Refused(same_id),
            around(&format!("{}{whole}", evil("assertion"))),
        ),
        (
            "XSW3, behind the original",
            Refused(NO_PLACE),
            around(&format!("{whole}{}", evil("evil"))),
        ),
        (
            "XSW3, without an id",
            Refused(NO_PLACE),
            around(&format!(
                "{}{whole}",
                swap(&evil("evil"), r#" ID="evil""#, "")
            )),
        ),
        (
            "XSW3, in a response that is signed",
            Refused(NO_PLACE),
            swap(
                &doubly(),
                "<saml2:Assertion ",
                &format!("{}<saml2:Assertion ", evil("evil")),
            ),
        ),
        (
            "XSW4: the original inside an evil assertion",
            Refused(MISPLACED),
            around(&last(&whole)),
        ),
        (
            "XSW5: the original without its signature behind an evil one with it",
            Refused(NO_PLACE),
            around(&format!(
                "{}{bare}",
                with_signature(&evil("evil"), &signature)
            )),
        ),
        (
            "XSW6: the original inside its signature in an evil assertion",
            Refused(MISPLACED),
            around(&with_signature(
                &evil("evil"),
                &swap(
                    &signature,
                    "</ds:Signature>",
                    &format!("{bare}</ds:Signature>"),
                ),
            )),
        ),
        (
            "XSW7: an evil assertion in extensions",
            Refused(NO_PLACE),
            extensions(&evil("evil")),
        ),
        (
            "XSW7, under the same id",
            Refused(same_id),
            extensions(&evil("assertion")),
        ),
        (
            "XSW8: the original in an object of an evil one's signature",
            Refused(MISPLACED),
            around(&with_signature(&evil("evil"), &object(&signature, &bare))),
        ),
        (
            "XSW8, under the same id",
            Refused(same_id),
            around(&with_signature(
                &evil("assertion"),
                &object(&signature, &bare),
            )),
        ),
        (
            "the original in an object of the response's signature",
            Refused(MISPLACED),
            behind_issuer(&object(of_response, &unsigned)),
        ),
        (
            "the original in a KeyInfo",
            Refused(MISPLACED),
            around(&with_signature(
                &evil("evil"),
                &swap(&signature, "</ds:KeyInfo>", &format!("{bare}</ds:KeyInfo>")),
            )),
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
            swap(
                &response(),
                &bare,
                &original.replace("\"response\"", "\"inner\""),
            ),
        ),
        (
            "two signed assertions",
            Refused(NO_PLACE),
            around(&format!("{whole}{}", {
                let other = idp().sign(
                    &swap(&response(), r#"ID="assertion""#, r#"ID="second""#),
                    "second",
                );
                part(&other, "<saml2:Assertion ", "</saml2:Assertion>")
            })),
        ),
        (
            "an evil assertion beside an encrypted one",
            Refused(NO_PLACE),
            {
                let encrypted = Encrypt::default().encrypt(&signed());
                swap(
                    &encrypted,
                    "</saml2p:Response>",
                    &format!("{}</saml2p:Response>", evil("evil")),
                )
            },
        ),
        (
            "an evil assertion before an encrypted one",
            Refused("the response has two assertions"),
            {
                let encrypted = Encrypt::default().encrypt(&signed());
                swap(
                    &encrypted,
                    "<saml2:EncryptedAssertion ",
                    &format!("{}<saml2:EncryptedAssertion ", evil("evil")),
                )
            },
        ),
        (
            "an assertion of another namespace",
            Refused(NO_PLACE),
            swap(
                &signed(),
                "</saml2p:Status>",
                "</saml2p:Status><Assertion xmlns=\"urn:x\"/>",
            ),
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
