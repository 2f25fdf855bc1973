use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An email address in the form that rules compare: lower case, exactly one `@`, an
/// [`EmailDomain`].
///
/// Two spellings become one address only if they differ in the case of letters, or if one domain is
/// the A-label form of the other.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Email {
    text: Box<str>,
    at: usize,
}

/// The domain of an email address: labels of lower-case letters, digits and hyphens, U-labels as
/// A-labels (RFC 5890 2.3.2.1), no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmailDomain(Box<str>);

/// The reason why an email address is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EmailError {
    /// None, or more than one `@`; an empty part; a control character or a space.
    #[error("the email address is malformed")]
    Malformed,
    /// A character that no reader sees, such as a soft hyphen, a zero-width space or a change of
    /// direction.
    #[error("the email address contains an invisible character")]
    Invisible,
    /// More than 254 bytes.
    #[error("the email address is too long")]
    TooLong,
    /// The domain has a label that is not made of letters, digits and hyphens (RFC 5321 2.3.5).
    #[error(
        "the domain of an email address consists of letters, digits and hyphens, with dots between the labels"
    )]
    Domain,
    /// The domain is not the one spelling of its name: UTS 46 would replace or drop characters of
    /// it.
    #[error(
        "the domain of the email address contains characters that are mapped to others, or an `xn--` label that does not decode"
    )]
    Variant,
}

impl Email {
    /// Parses an address.
    ///
    /// # Errors
    /// [`EmailError`], if it does not have exactly one `@` between a local part and an
    /// [`EmailDomain`].
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let mut parts = text.split('@');
        let (Some(local), Some(domain), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(EmailError::Malformed);
        };
        let odd = |c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '"' | '\\')
        };
        if local.is_empty() || local.chars().any(odd) {
            return Err(EmailError::Malformed);
        }
        // Origins receive the local part unchanged, and display it.
        if local.chars().any(is_invisible) {
            return Err(EmailError::Invisible);
        }
        let domain = EmailDomain::parse(domain)?;
        let local = local
            .chars()
            .fold(String::with_capacity(local.len()), lower);
        let at = local.len();
        // RFC 5321 4.5.3.1.3, without the angle brackets.
        if at + 1 + domain.as_str().len() > 254 {
            return Err(EmailError::TooLong);
        }
        Ok(Self {
            text: format!("{local}@{}", domain.as_str()).into(),
            at,
        })
    }

    /// The canonical address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }
}

impl EmailDomain {
    /// Parses the part of an address after the `@`. Only the case of ASCII letters is normalised,
    /// and U-labels become A-labels. A domain that a lookup would read as another one is rejected:
    /// a provider may hold both to be different.
    ///
    /// # Errors
    /// [`EmailError::Domain`], [`EmailError::Variant`].
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        // RFC 1035 2.3.4; a U-label is at most as many characters as its A-label, each of up to
        // four bytes.
        if text.len() > 4 * MAX_DOMAIN {
            return Err(EmailError::Domain);
        }
        let lower = text.to_ascii_lowercase();
        let labels: Vec<String> = lower.split('.').map(label).collect::<Result<_, _>>()?;
        let domain = labels.join(".");
        // An all-numeric last label would be an IPv4 address to others (RFC 3696 2).
        let numeric = labels
            .last()
            .is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if numeric || domain.len() > MAX_DOMAIN {
            return Err(EmailError::Domain);
        }
        // Labels that are valid alone may be invalid together (RFC 5893 2).
        if labels.iter().any(|label| label.starts_with(ACE_PREFIX))
            && to_ascii(&lower).as_ref() != Some(&domain)
        {
            return Err(EmailError::Variant);
        }
        Ok(Self(domain.into()))
    }

    /// The canonical domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the A-label of one lower-case label.
fn label(label: &str) -> Result<String, EmailError> {
    let canonical = if !label.is_ascii() {
        let ascii = to_ascii(label).ok_or(EmailError::Variant)?;
        // The mapping must be reversible. Otherwise two spellings would be one domain here and two
        // elsewhere.
        if to_unicode(&ascii).as_deref() != Some(label) {
            return Err(EmailError::Variant);
        }
        ascii
    } else if label.starts_with(ACE_PREFIX) {
        let unicode = to_unicode(label)
            .filter(|unicode| !unicode.is_ascii())
            .ok_or(EmailError::Variant)?;
        if to_ascii(&unicode).as_deref() != Some(label) {
            return Err(EmailError::Variant);
        }
        label.to_owned()
    } else {
        label.to_owned()
    };
    let ldh = canonical
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let edges = canonical.starts_with('-') || canonical.ends_with('-');
    if ldh && !edges && (1..=63).contains(&canonical.len()) {
        Ok(canonical)
    } else {
        Err(EmailError::Domain)
    }
}

fn to_ascii(text: &str) -> Option<String> {
    let ascii = Uts46::new().to_ascii(
        text.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    ascii.ok().map(std::borrow::Cow::into_owned)
}

fn to_unicode(text: &str) -> Option<String> {
    let (unicode, result) = Uts46::new().to_unicode(
        text.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
    );
    result.ok().map(|()| unicode.into_owned())
}

/// Appends the lower case of a letter. A letter stays as it is if its lower case has another upper
/// case: the Kelvin sign would become `k`, and one user's address must not become another's.
fn lower(mut text: String, c: char) -> String {
    let round_trips = || c.to_lowercase().flat_map(char::to_uppercase).eq([c]);
    if c.is_ascii() {
        text.push(c.to_ascii_lowercase());
    // Some letters share a lower case, such as the Kelvin sign and `k`. They stay as they are, so
    // that two users never become one.
    } else if round_trips() {
        text.extend(c.to_lowercase());
    } else {
        text.push(c);
    }
    text
}

/// Returns `true` for the default-ignorable and bidirectional controls of Unicode 16 (UAX 44),
/// interlinear annotation, the replacement character, non-characters and private use.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{ffff}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{10ffff}')
        || (c as u32 & 0xfffe) == 0xfffe
}

impl TryFrom<String> for Email {
    type Error = EmailError;
    fn try_from(text: String) -> Result<Self, EmailError> {
        Self::parse(&text)
    }
}

impl From<Email> for String {
    fn from(email: Email) -> Self {
        email.text.into()
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Email({})", self.text)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// In bytes (RFC 1035 2.3.4).
const MAX_DOMAIN: usize = 253;
/// Begins an A-label (RFC 5890 2.3.2.1).
const ACE_PREFIX: &str = "xn--";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> Result<String, EmailError> {
        Email::parse(text).map(String::from)
    }

    #[test]
    fn r11_one_address_one_form() {
        assert_eq!(
            canonical("Alice@Example.COM").as_deref(),
            Ok("alice@example.com")
        );
        assert_eq!(
            Email::parse("a@bücher.example").unwrap().domain(),
            "xn--bcher-kva.example"
        );
        assert_eq!(
            Email::parse("JÖRG@example.com").unwrap(),
            Email::parse("jörg@example.com").unwrap()
        );
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b.c",
            "attacker@evil.com@company.com",
            "a@company.com\0@evil",
            "a@company.com\0",
            "a b@c.d",
            "a@b c.d",
            "\"a\"@b.c",
            "a@[127.0.0.1]",
            "a,b@c.d",
            "a@b.c:25",
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Email::parse(&format!("{}@b.c", "a".repeat(300))),
            Err(EmailError::TooLong)
        );
    }

    #[test]
    fn local_part_letters_with_a_foreign_lower_case_stay_apart() {
        // The Kelvin sign, the dotted capital I, the Angstrom sign, the Ohm sign and the capital
        // sharp s.
        for (variant, letter) in [
            ("\u{212a}im", "kim"),
            ("k\u{130}m", "kim"),
            ("\u{212b}sa", "\u{e5}sa"),
            ("\u{2126}", "\u{3c9}"),
            ("stra\u{1e9e}e", "stra\u{df}e"),
            ("\u{1c5}", "\u{1c6}"),
        ] {
            let email = Email::parse(&format!("{variant}@example.com")).unwrap();
            assert_ne!(
                email,
                Email::parse(&format!("{letter}@example.com")).unwrap(),
                "{variant}"
            );
            assert_eq!(
                Email::parse(email.as_str()).unwrap(),
                email,
                "a fixed point"
            );
        }
    }

    #[test]
    fn local_part_with_invisible_characters_is_rejected() {
        for invisible in [
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{feff}',
            '\u{fe0f}',
            '\u{3164}',
            '\u{e0061}',
            '\u{fffd}',
            '\u{ffff}',
            '\u{1ffff}',
            '\u{e000}',
            '\u{100000}',
        ] {
            assert_eq!(
                canonical(&format!("ali{invisible}ce@example.com")),
                Err(EmailError::Invisible),
                "{invisible:?}"
            );
        }
        for written in ["jörg", "müller-lüdenscheid", "用户", "אבג", "ἀρχή", "दीपक"]
        {
            assert_eq!(
                canonical(&format!("{written}@example.com")),
                Ok(format!("{written}@example.com"))
            );
        }
    }

    #[test]
    fn domain_that_only_resembles_another_is_rejected() {
        for domain in [
            "%65xample.com",
            "e%78ample.com",
            "example%2ecom",
            "ｅxample.com",
            "ｅｘａｍｐｌｅ.com",
            "example。com",
            "example．com",
            "example｡com",
            "exⓐmple.com",
            "exam\u{ad}ple.com",
            "exam\u{200b}ple.com",
            "exam\u{2060}ple.com",
            "exam\u{200d}ple.com",
            "exam\u{34f}ple.com",
            "exam\u{fe0f}ple.com",
            "\u{feff}example.com",
            "example.com.",
            "example.com\u{3002}",
            ".example.com",
            "example..com",
            "ﬁrm.example",
            "ℋost.example",
            "bu\u{308}cher.example",
            "BÜCHER.example",
            "\u{212a}im.example",
            "xn--example.com",
            "xn--example-.com",
            "xn--.com",
            "xn--bcher-kva-.example",
            "xn--BCHER-KVA\u{ad}.example",
            "xn--a\u{308}.example",
            "ｘn--bcher-kva.example",
            "xn--bücher.example",
            "xn--xample-9uf.com.",
            "exa_mple.com",
            "-example.com",
            "example-.com",
            "exa mple.com",
            "exa\tmple.com",
            "127.0.0.1",
            "[127.0.0.1]",
            "0177.1",
            "example.com:25",
            "example.com/x",
            "user:pw@example.com",
            "example.com?x",
            "example.com#x",
            "exam\u{0}ple.com",
        ] {
            assert!(
                EmailDomain::parse(domain).is_err(),
                "{domain:?}: {:?}",
                EmailDomain::parse(domain)
            );
            assert!(canonical(&format!("alice@{domain}")).is_err(), "{domain:?}");
        }
        assert_eq!(canonical("alice@%65xample.com"), Err(EmailError::Domain));
        assert_eq!(canonical("alice@ｅxample.com"), Err(EmailError::Variant));
    }

    #[test]
    fn domain_in_its_own_spelling_is_accepted() {
        for (domain, ascii) in [
            ("EXAMPLE.com", "example.com"),
            ("bücher.test", "xn--bcher-kva.test"),
            ("XN--BCHER-KVA.test", "xn--bcher-kva.test"),
            (
                "mail.bücher.xn--bcher-kva.test",
                "mail.xn--bcher-kva.xn--bcher-kva.test",
            ),
            ("straße.example", "xn--strae-oqa.example"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("123.example", "123.example"),
            ("a--b.example", "a--b.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(
                EmailDomain::parse(domain)
                    .map(|d| d.as_str().to_owned())
                    .as_deref(),
                Ok(ascii),
                "{domain}"
            );
        }
    }

    proptest! {
        /// A domain that parses is either its own ASCII spelling, apart from case, or decodes to
        /// exactly its text.
        #[test]
        fn domain_never_becomes_another(text in "[a-zA-Z0-9.\\-%\u{ad}\u{200b}éüßｅⓐ。\u{308}\u{212a}]{1,24}|(?i:xn--)[a-z0-9-]{1,16}\\.com|\\PC{1,12}") {
            if let Ok(domain) = EmailDomain::parse(&text) {
                let lower = text.to_ascii_lowercase();
                let decoded: Vec<String> = domain.as_str().split('.').map(|label| to_unicode(label).unwrap()).collect();
                let written: Vec<String> = lower.split('.').map(|label| to_unicode(label).unwrap()).collect();
                prop_assert_eq!(&decoded, &written);
                prop_assert!(lower.split('.').zip(&written).all(|(label, w)| label == w || label.starts_with(ACE_PREFIX)));
                prop_assert_eq!(EmailDomain::parse(domain.as_str()).unwrap(), domain);
            }
        }

        #[test]
        fn any_address_is_parsed_or_rejected_without_panic(text in "\\PC{0,20}@\\PC{0,20}|.{0,300}") {
            if let Ok(email) = Email::parse(&text) {
                prop_assert_eq!(Email::parse(email.as_str()).unwrap(), email);
            }
        }
    }
}
