use std::fmt;

use thiserror::Error;

/// Why a SAML response is refused. What it quotes of the message is cut to a bounded length and to
/// one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SamlError {
    /// More than 256 KiB.
    #[error("the SAML response is longer than 256 KiB")]
    TooLong,
    /// Not base64, or not UTF-8 inside.
    #[error("the SAML response is not base64 of UTF-8 text")]
    Encoding,
    /// Something that XML allows and no identity provider sends.
    #[error("the SAML response holds {0}")]
    Forbidden(&'static str),
    /// Deeper, wider or more numerous than any response.
    #[error("the SAML response has too many {0}")]
    TooMany(&'static str),
    /// Not well-formed XML with namespaces.
    #[error("the SAML response is not well-formed at line {line}, column {column}")]
    Malformed {
        /// From 1.
        line: u32,
        /// From 1.
        column: u32,
    },
    /// Well-formed, and not a response of the Web Browser SSO profile as we take it.
    #[error("the SAML response is not of the expected shape: {0}")]
    Shape(&'static str),
    /// Two elements with one id: a reference to it would be ambiguous.
    #[error("the SAML response uses an id twice")]
    DuplicateId,
    /// The identity provider says that there was no login (SAML Core 3.2.2.2).
    #[error("the identity provider answered `{code}`{}", text(message))]
    Status {
        /// The most specific status code, without the common part of its URN.
        code: String,
        /// What it says about it.
        message: Option<String>,
    },
    /// For another address; none where it is empty.
    #[error("{}", addressed(.0, "the SAML response was sent to another address", "the SAML response names no address of its own"))]
    Destination(String),
    /// It answers no request at all: a login that the identity provider began.
    #[error("the SAML response answers no request of ours")]
    Unsolicited,
    /// It answers another request.
    #[error("the SAML response belongs to another login")]
    Request,
    /// From another identity provider.
    #[error("the SAML response is from another issuer: `{0}`")]
    Issuer(String),
    /// Nothing covers the assertion.
    #[error("the assertion is not signed")]
    Unsigned,
    /// Signed or digested with something else than RSA and SHA-2, or by other transforms than the
    /// profile allows.
    #[error("the signature is of a kind that is not taken: `{0}`")]
    Algorithm(String),
    /// No configured certificate verifies it.
    #[error(
        "no configured certificate verifies the signature{}",
        shown(certificate)
    )]
    Signature {
        /// The SHA-256 of the certificate that the message names, in hexadecimal. It is not
        /// trusted; it tells an operator what was rotated.
        certificate: Option<String>,
    },
    /// A good signature, of something else.
    #[error("the signature is not over the element that it stands in")]
    Reference,
    /// The element was changed after it was signed.
    #[error("what was signed was changed")]
    Digest,
    /// Encrypted, and there is no key to open it.
    #[error("the assertion is encrypted, and encryption is not configured")]
    Encrypted,
    /// Encrypted by a cipher that is not taken.
    #[error("the assertion is encrypted in a way that is not taken: `{0}`")]
    Cipher(String),
    /// For another key, or damaged.
    #[error("the assertion cannot be decrypted")]
    Decryption,
    /// For somebody else.
    #[error("the assertion is for another audience: `{0}`")]
    Audience(String),
    /// Its bearer is to bring it to another address; none where it is empty.
    #[error("{}", addressed(.0, "the assertion is for another recipient", "the assertion names no recipient"))]
    Recipient(String),
    /// It was issued, or begins, in our future: the clocks differ.
    #[error(
        "the assertion is not good yet: the identity provider's clock is ahead of this machine's by about {seconds} s"
    )]
    Early {
        /// How far, if it is as new as it should be.
        seconds: u64,
    },
    /// Its time is over, as that of a form that was sent again is.
    #[error("the assertion is over since {seconds} s")]
    Over {
        /// How long.
        seconds: u64,
    },
    /// The provider's own session with the person is over, by its word (SAML Core 2.7.2).
    #[error("the identity provider's session is over (`SessionNotOnOrAfter`)")]
    SessionOver,
    /// A fresh login was asked for, and this one is older.
    #[error("the identity provider did not ask for credentials again")]
    NotFresh,
    /// No assertion of a bearer, with all that makes it one (SAML Profiles 4.1.4.2).
    #[error("the assertion is not a bearer's: {0}")]
    Bearer(&'static str),
    /// A condition that is not understood (SAML Core 2.5.1).
    #[error("the assertion has a condition that is not understood")]
    Condition,
    /// Nobody's, or of somebody whose name cannot be kept.
    #[error("the assertion's subject is not usable: {0}")]
    Subject(&'static str),
    /// There is no e-mail address where one is expected.
    #[error("required attributes are missing: no e-mail address in {}", searched(.0))]
    NoEmail(EmailSource),
    /// What is there is not one e-mail address.
    #[error("what is in {0} is not one e-mail address")]
    BadEmail(EmailSource),
    /// An attribute that cannot be taken as it is.
    #[error("the attribute `{name}` {fault}")]
    Attribute {
        /// Which.
        name: String,
        /// What is the matter with it.
        fault: &'static str,
    },
    /// It was used before.
    #[error("the assertion was used before")]
    Replayed,
}

/// Where an e-mail address is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmailSource {
    /// The configured attribute, or `email`.
    Attribute(String),
    /// The subject's name.
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

/// Where there was no address.
fn searched(source: &EmailSource) -> String {
    match source {
        EmailSource::Attribute(_) => source.to_string(),
        EmailSource::NameId => {
            "an attribute `email`, and the name id is not of the format `emailAddress`".to_owned()
        }
    }
}

/// The steps of reading a response, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Text, and XML, at all.
    Parse,
    /// One response with one assertion.
    Shape,
    /// The answer to this request, from this provider.
    Response,
    /// Opening an encrypted assertion.
    Decryption,
    /// The signatures.
    Signature,
    /// For us, now, once.
    Conditions,
    /// Who.
    Identity,
}

impl Step {
    /// A word for logs, metrics and pages.
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

    /// The same for people.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Parse => "reading the SAML response",
            Self::Shape => "finding the assertion in the SAML response",
            Self::Response => "telling whose answer the SAML response is, and to what",
            Self::Decryption => "decrypting the assertion",
            Self::Signature => "verifying the signatures",
            Self::Conditions => "checking for whom and for when the assertion is",
            Self::Identity => "reading the attributes",
        }
    }
}

impl SamlError {
    /// How far it went.
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
            | Self::Early { .. }
            | Self::Over { .. }
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

    /// Returns the status code of the provider if it is one of SAML Core 3.2.2.2: those are safe to
    /// show even if forged.
    pub fn registered_status(&self) -> Option<&'static str> {
        let Self::Status { code, .. } = self else {
            return None;
        };
        STATUS_CODES
            .into_iter()
            .find(|registered| registered == code)
    }

    /// What an operator can do about it, where there is something.
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
                "copy the identity provider's current signing certificate to `idp_public_certs`; it can stand beside the old one"
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
                "begin at the application's own address: logins that the identity provider begins are not taken; for a tile there, \
                 link the address of the application"
            }
            Self::Early { .. } => "set both clocks by NTP",
            Self::Over { .. } => {
                "begin anew; where it happens to everybody, set both clocks by NTP"
            }
            Self::NotFresh => {
                "have the identity provider heed ForceAuthn (in Okta, Honor Force Authentication), or take `force_authn` away"
            }
            Self::Bearer(what) if ENDLESS.contains(what) => {
                "have the identity provider write `NotOnOrAfter` into the conditions and the confirmation of its assertions"
            }
            Self::SessionOver => {
                "begin anew; where it happens to everybody, set both clocks by NTP, and look how long the identity provider lets its \
                 sessions last"
            }
            Self::Encrypted => {
                "turn off encryption of the assertion in the identity provider's application, or set `encryption_keys`"
            }
            Self::Cipher(_) => {
                "set the encryption algorithm to AES256-GCM and the key transport to RSA-OAEP in the identity provider's application"
            }
            Self::Decryption => {
                "give the identity provider the encryption certificate that the metadata shows now"
            }
            Self::NoEmail(EmailSource::NameId) => {
                "add an attribute statement `email` with the person's e-mail address, or set the name id format to EmailAddress \
                 in the identity provider's application"
            }
            Self::NoEmail(EmailSource::Attribute(_)) => {
                "add an attribute statement with the person's e-mail address, or set `email_attribute_name` to the one that has it"
            }
            Self::Attribute {
                fault: SPACE_AROUND,
                ..
            } => {
                "take the white space away at the identity provider: rules compare values to the letter"
            }
            Self::Status { code, .. } => return status_advice(code),
            _ => return None,
        })
    }
}

/// The codes of SAML Core 3.2.2.2 that people meet.
fn status_advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "AuthnFailed" => "the identity provider could not log the person in; its own log says why",
        "RequestDenied" => {
            "assign the person, or a group of theirs, to the application at the identity provider"
        }
        "NoPassive" | "NoAuthnContext" => {
            "the identity provider could not log the person in as it was asked to"
        }
        "InvalidNameIDPolicy" => {
            "set the name id format to EmailAddress in the identity provider's application"
        }
        "RequestUnsupported" | "UnsupportedBinding" => {
            "the identity provider does not take this kind of request; check `sso_target_url` and `sign_request`"
        }
        "Requester" => {
            "the identity provider did not accept the request: check the ACS and entity id there, and, where it wants signed \
             requests, `sign_request` and the certificate it verifies them with"
        }
        "Responder" => "the identity provider failed; its own log says why",
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

/// Text of the message's for logs and pages: one line, of bounded length.
pub(super) fn tame(text: &str) -> String {
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

/// What a confirmation and conditions lack that have no end.
pub(super) const ENDLESS: [&str; 2] = ["its confirmation has no end", "its conditions have no end"];
/// A fault that people can mend.
pub(super) const SPACE_AROUND: &str = "has a value with white space around it";
/// SAML Core 3.2.2.2, without the common part of the URN and without `Success`.
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
/// How many characters of a message are quoted.
const QUOTED: usize = 200;
