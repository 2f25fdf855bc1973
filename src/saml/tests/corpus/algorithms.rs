//! Algorithms of signatures, digests and transforms.

use super::*;

pub(super) fn algorithms() -> Vec<Row> {
    let kind = "the signature uses an unsupported algorithm: `";
    vec![
        (
            "RSA-SHA1",
            Refused("unsupported algorithm: `http://www.w3.org/2000/09/xmldsig#rsa-sha1`"),
            Sign {
                method: "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "a SHA-1 digest",
            Refused("unsupported algorithm: `http://www.w3.org/2000/09/xmldsig#sha1`"),
            Sign {
                digest: "http://www.w3.org/2000/09/xmldsig#sha1",
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "HMAC with the certificate as its secret",
            Refused("#hmac-sha256`"),
            Sign {
                method: HMAC_SHA256,
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "DSA",
            Refused("#dsa-sha1`"),
            Sign {
                method: "http://www.w3.org/2000/09/xmldsig#dsa-sha1",
                ..idp()
            }
            .sign(&response(), "assertion"),
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
        (
            "no algorithm",
            Refused(kind),
            Sign {
                method: "",
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "another algorithm than the key signed with",
            Refused(NO_KEY),
            swap(
                &signed(),
                "xmldsig-more#rsa-sha256",
                "xmldsig-more#rsa-sha512",
            ),
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
            Sign {
                canonicalisation: "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "canonicalisation with comments",
            Refused("#WithComments`"),
            Sign {
                canonicalisation: "http://www.w3.org/2001/10/xml-exc-c14n#WithComments",
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "no canonicalisation",
            Refused("`1 transforms`"),
            Sign {
                transforms: &[ENVELOPED],
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "not enveloped",
            Refused("`1 transforms`"),
            Sign {
                transforms: &[EXC_C14N],
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "transforms in the wrong order",
            Refused(kind),
            Sign {
                transforms: &[EXC_C14N, ENVELOPED],
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "an XSLT transform",
            Refused("REC-xslt-19991116`"),
            Sign {
                transforms: &["http://www.w3.org/TR/1999/REC-xslt-19991116", EXC_C14N],
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "an XPath transform",
            Refused("`3 transforms`"),
            Sign {
                transforms: &[
                    ENVELOPED,
                    "http://www.w3.org/TR/1999/REC-xpath-19991116",
                    EXC_C14N,
                ],
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
        (
            "a base64 transform",
            Refused(kind),
            Sign {
                transforms: &["http://www.w3.org/2000/09/xmldsig#base64", EXC_C14N],
                ..idp()
            }
            .sign(&response(), "assertion"),
        ),
    ]
}
