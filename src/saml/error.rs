use std::fmt;

use thiserror::Error;

/// The reason why a SAML response is rejected. Text quoted from the message is limited in length
/// and put on one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SamlError {
    /// Longer than 256 KiB.
    #[error("the SAML response is longer than 256 KiB")]
    TooLong,
    /// Not base64 of UTF-8 text.
    #[error("the SAML response is not base64 of UTF-8 text")]
    Encoding,
    /// A construct that XML allows but no identity provider sends.
    #[error("the SAML response contains {0}")]
    Forbidden(&'static str),
    /// Deeper, wider or more numerous than in any real response.
    #[error("the SAML response has too many {0}")]
    TooMany(&'static str),
    /// Not well-formed XML with namespaces.
    #[error("the SAML response is not well-formed at line {line}, column {column}")]
    Malformed {
        /// Counted from 1.
        line: u32,
        /// Counted from 1.
        column: u32,
    },
    /// Well-formed, but not a response of the Web Browser SSO profile as accepted here.
    #[error("the SAML response is not of the expected shape: {0}")]
    Shape(&'static str),
    /// Two elements with the same ID, which makes a reference ambiguous.
    #[error("the SAML response uses an id twice")]
    DuplicateId,
    /// The identity provider reports that the login failed (SAML Core 3.2.2.2).
    #[error("the identity provider returned `{code}`{}", text(message))]
    Status {
        /// The most specific status code, without the common URN prefix.
        code: String,
        /// The provider's message.
        message: Option<String>,
    },
    /// The response names another destination; an empty string if it names none.
    #[error("{}", addressed(.0, "the SAML response is for another destination", "the SAML response names no destination"))]
    Destination(String),
    /// The response answers no request: a login that the identity provider started.
    #[error("the SAML response is unsolicited")]
    Unsolicited,
    /// The response answers another request.
    #[error("the SAML response belongs to another login")]
    Request,
    /// The response is from another identity provider.
    #[error("the SAML response is from another issuer: `{0}`")]
    Issuer(String),
    /// No signature covers the assertion.
    #[error("the assertion is not signed")]
    Unsigned,
    /// The algorithm is not RSA with SHA-2, or the transforms are not those of the profile.
    #[error("the signature uses an unsupported algorithm: `{0}`")]
    Algorithm(String),
    /// No configured certificate verifies the signature.
    #[error(
        "no configured certificate verifies the signature{}",
        shown(certificate)
    )]
    Signature {
        /// The SHA-256 digest of the certificate in the message, in hexadecimal. It is not trusted;
        /// it helps an operator to recognise a rotated key.
        certificate: Option<String>,
    },
    /// The signature is valid, but over another element.
    #[error("the signature is not over its parent element")]
    Reference,
    /// The element was modified after signing.
    #[error("the signed element was modified after signing")]
    Digest,
    /// The assertion is encrypted and no decryption key is configured.
    #[error("the assertion is encrypted, and encryption is not configured")]
    Encrypted,
    /// The encryption algorithm is not accepted.
    #[error("the assertion uses an unsupported encryption algorithm: `{0}`")]
    Cipher(String),
    /// The assertion is encrypted for another key, or damaged.
    #[error("the assertion cannot be decrypted")]
    Decryption,
    /// The assertion is for another audience.
    #[error("the assertion is for another audience: `{0}`")]
    Audience(String),
    /// The assertion is for another recipient; an empty string if it names none.
    #[error("{}", addressed(.0, "the assertion is for another recipient", "the assertion names no recipient"))]
    Recipient(String),
    /// The assertion is issued or valid from a future time: the clocks differ.
    #[error(
        "the assertion is not valid yet: the identity provider's clock is about {seconds} s ahead of this machine's"
    )]
    NotYetValid {
        /// The clock difference, if the assertion was issued just now.
        seconds: u64,
    },
    /// The assertion has expired, for example because the browser submitted a form again.
    #[error("the assertion expired {seconds} s ago")]
    Expired {
        /// Seconds since it expired.
        seconds: u64,
    },
    /// The assertion states that the provider's own session has ended (SAML Core 2.7.2).
    #[error("the identity provider's session has ended (`SessionNotOnOrAfter`)")]
    SessionOver,
    /// A fresh login was required, and this one is older.
    #[error("the identity provider did not reauthenticate the user")]
    NotFresh,
    /// Not a complete bearer assertion (SAML Profiles 4.1.4.2).
    #[error("the assertion is not a valid bearer assertion: {0}")]
    Bearer(&'static str),
    /// An unknown condition (SAML Core 2.5.1).
    #[error("the assertion has a condition that is not understood")]
    Condition,
    /// The subject is missing or its name cannot be stored.
    #[error("the assertion's subject is not usable: {0}")]
    Subject(&'static str),
    /// There is no email address in the expected attribute or name ID.
    #[error("required attributes are missing: no email address in {}", sources(.0))]
    NoEmail(EmailSource),
    /// The value is not exactly one email address.
    #[error("{0} does not contain exactly one email address")]
    BadEmail(EmailSource),
    /// An attribute that cannot be used as it is.
    #[error("the attribute `{name}` {fault}")]
    Attribute {
        /// The name of the attribute.
        name: String,
        /// The fault, as the rest of a sentence.
        fault: &'static str,
    },
    /// The assertion was used before.
    #[error("the assertion was used before")]
    Replayed,
}

/// The source of an email address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmailSource {
    /// The configured attribute, or `email`.
    Attribute(String),
    /// The subject's name ID.
    NameId,
}

impl fmt::Display for EmailSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(name) => write!(f, "the attribute `{name}`"),
            Self::NameId => f.write_str("the name id"),
        }
    }
}

/// Describes the places in which no email address was found.
fn sources(source: &EmailSource) -> String {
    match source {
        EmailSource::Attribute(_) => source.to_string(),
        EmailSource::NameId => {
            "an attribute `email`, and the name id is not of the format `emailAddress`".to_owned()
        }
    }
}

/// The steps of verifying a response, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Decoding and parsing the message.
    Parse,
    /// Finding the one assertion.
    Shape,
    /// Checking that the response answers this request and comes from this provider.
    Response,
    /// Decrypting an encrypted assertion.
    Decryption,
    /// Verifying the signatures.
    Signature,
    /// Checking audience, time and first use.
    Conditions,
    /// Reading the user's attributes.
    Identity,
}

impl Step {
    /// Returns a stable word for logs, metrics and pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Shape => "shape",
            Self::Response => "response",
            Self::Decryption => "decryption",
            Self::Signature => "signature",
            Self::Conditions => "conditions",
            Self::Identity => "identity",
        }
    }

    /// Returns a description for users.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Parse => "reading the SAML response",
            Self::Shape => "finding the assertion in the SAML response",
            Self::Response => "matching the SAML response to the login",
            Self::Decryption => "decrypting the assertion",
            Self::Signature => "verifying the signatures",
            Self::Conditions => "checking the audience and validity period of the assertion",
            Self::Identity => "reading the attributes",
        }
    }
}

impl SamlError {
    /// Returns the step at which the response was rejected.
    pub const fn step(&self) -> Step {
        match self {
            Self::TooLong
            | Self::Encoding
            | Self::Forbidden(_)
            | Self::TooMany(_)
            | Self::Malformed { .. } => Step::Parse,
            Self::Shape(_) | Self::DuplicateId => Step::Shape,
            Self::Status { .. }
            | Self::Destination(_)
            | Self::Unsolicited
            | Self::Request
            | Self::Issuer(_) => Step::Response,
            Self::Encrypted | Self::Cipher(_) | Self::Decryption => Step::Decryption,
            Self::Unsigned
            | Self::Algorithm(_)
            | Self::Signature { .. }
            | Self::Reference
            | Self::Digest => Step::Signature,
            Self::Audience(_)
            | Self::Recipient(_)
            | Self::NotYetValid { .. }
            | Self::Expired { .. }
            | Self::SessionOver
            | Self::NotFresh
            | Self::Bearer(_)
            | Self::Condition
            | Self::Replayed => Step::Conditions,
            Self::Subject(_) | Self::NoEmail(_) | Self::BadEmail(_) | Self::Attribute { .. } => {
                Step::Identity
            }
        }
    }

    /// Returns the provider's status code if it is one of SAML Core 3.2.2.2. Only those are safe to
    /// show even if the response is forged.
    pub fn registered_status(&self) -> Option<&'static str> {
        let Self::Status { code, .. } = self else {
            return None;
        };
        STATUS_CODES
            .into_iter()
            .find(|registered| registered == code)
    }

    /// Returns a remedy for the operator, if there is one.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unsigned => {
                "turn on signing of the assertion in the identity provider's application"
            }
            Self::Algorithm(algorithm) if algorithm.ends_with("sha1") => {
                "set the signature algorithm to RSA-SHA256 and the digest algorithm to SHA256 in the identity provider's application"
            }
            Self::Algorithm(_) => {
                "set the signature to RSA-SHA256 with exclusive canonicalisation at the identity provider"
            }
            Self::Signature { .. } => {
                "copy the identity provider's current signing certificate to `idp_public_certs`; it can be listed beside the old one"
            }
            Self::Issuer(_) => {
                "set `issuer_url` to the identity provider's entity id, byte for byte"
            }
            Self::Audience(_) => {
                "set the audience (SP entity id) in the identity provider's application to the team domain's `/cdn-cgi/access/callback`"
            }
            Self::Destination(_) | Self::Recipient(_) => {
                "set the single sign-on URL (ACS) in the identity provider's application to the team domain's `/cdn-cgi/access/callback`"
            }
            Self::Unsolicited => {
                "start at the application's own URL: logins started at the identity provider are not accepted; for a tile there, \
                 link to the URL of the application"
            }
            Self::NotYetValid { .. } => "synchronise both clocks with NTP",
            Self::Expired { .. } => {
                "start over; if it happens to all users, synchronise both clocks with NTP"
            }
            Self::NotFresh => {
                "have the identity provider honour ForceAuthn (in Okta, Honor Force Authentication), or remove `force_authn`"
            }
            Self::Bearer(what) if NO_END.contains(what) => {
                "have the identity provider write `NotOnOrAfter` into the conditions and the confirmation of its assertions"
            }
            Self::SessionOver => {
                "start over; if it happens to all users, synchronise both clocks with NTP, and check the session \
                 lifetime at the identity provider"
            }
            Self::Encrypted => {
                "turn off encryption of the assertion in the identity provider's application, or set `encryption_keys`"
            }
            Self::Cipher(_) => {
                "set the encryption algorithm to AES256-GCM and the key transport to RSA-OAEP in the identity provider's application"
            }
            Self::Decryption => {
                "give the identity provider the encryption certificate that is in the metadata now"
            }
            Self::NoEmail(EmailSource::NameId) => {
                "add an attribute statement `email` with the user's email address, or set the name id format to EmailAddress \
                 in the identity provider's application"
            }
            Self::NoEmail(EmailSource::Attribute(_)) => {
                "add an attribute statement with the user's email address, or set \
                 `email_attribute_name` to the attribute that contains it"
            }
            Self::Attribute {
                fault: SPACE_AROUND,
                ..
            } => "remove the white space at the identity provider: rules compare values exactly",
            Self::Status { code, .. } => return status_advice(code),
            _ => return None,
        })
    }
}

/// Returns a remedy for a status code of SAML Core 3.2.2.2 that occurs in practice.
fn status_advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "AuthnFailed" => "the identity provider could not log the user in; see its own log",
        "RequestDenied" => {
            "assign the user, or one of the user's groups, to the application at the identity provider"
        }
        "NoPassive" | "NoAuthnContext" => {
            "the identity provider could not log the user in as requested"
        }
        "InvalidNameIDPolicy" => {
            "set the name id format to EmailAddress in the identity provider's application"
        }
        "RequestUnsupported" | "UnsupportedBinding" => {
            "the identity provider does not accept this kind of request; check `sso_target_url` and `sign_request`"
        }
        "Requester" => {
            "the identity provider did not accept the request: check the ACS and entity id there, and, if it requires signed \
             requests, `sign_request` and the certificate it verifies them with"
        }
        "Responder" => "the identity provider failed; see its own log",
        "VersionMismatch" => "the identity provider does not speak SAML 2.0",
        _ => return None,
    })
}

fn addressed(to: &str, other: &str, none: &str) -> String {
    if to.is_empty() {
        none.to_owned()
    } else {
        format!("{other}: `{to}`")
    }
}

fn text(message: &Option<String>) -> String {
    message
        .as_deref()
        .map(|text| format!(": `{text}`"))
        .unwrap_or_default()
}

fn shown(certificate: &Option<String>) -> String {
    certificate
        .as_deref()
        .map(|print| format!("; the response names one with the SHA-256 {print}"))
        .unwrap_or_default()
}

/// Limits text from the message to one line of bounded length, for logs and pages.
pub(super) fn one_line(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.trim()
        .chars()
        .take(QUOTED)
        .map(|c| if odd(c) { ' ' } else { c })
        .collect()
}

/// The faults of a confirmation and of conditions without an end.
pub(super) const NO_END: [&str; 2] = [
    "its confirmation has no `NotOnOrAfter`",
    "its conditions have no `NotOnOrAfter`",
];
/// A fault that the operator can correct at the provider.
pub(super) const SPACE_AROUND: &str = "has a value with leading or trailing white space";
/// The codes of SAML Core 3.2.2.2 without the common URN prefix, except `Success`.
const STATUS_CODES: [&str; 22] = [
    "AuthnFailed",
    "InvalidAttrNameOrValue",
    "InvalidNameIDPolicy",
    "NoAuthnContext",
    "NoAvailableIDP",
    "NoPassive",
    "NoSupportedIDP",
    "PartialLogout",
    "ProxyCountExceeded",
    "RequestDenied",
    "RequestUnsupported",
    "RequestVersionDeprecated",
    "RequestVersionTooHigh",
    "RequestVersionTooLow",
    "Requester",
    "ResourceNotRecognized",
    "Responder",
    "TooManyResponses",
    "UnknownAttrProfile",
    "UnknownPrincipal",
    "UnsupportedBinding",
    "VersionMismatch",
];
/// The maximum number of characters quoted from a message.
const QUOTED: usize = 200;
