//! Reads the identity from the bytes that were signed.

use std::collections::BTreeMap;

use http::HeaderName;
use roxmltree::Node;
use serde_json::{Map, Value};

use super::attributes::{Attributes, OuterSpace};
use super::envelope::{Content, Envelope};
use super::error::EmailSource;
use super::signature::Signed;
use super::tree::{self, ASSERTION};
use super::validity::Validity;
use super::{Expected, NoGroups, SamlError, ServiceProvider};
use crate::model::{Email, Groups, UnixTime};

/// A user's identity as an assertion states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamlIdentity {
    /// The provider's identifier for the user: the name ID, or the canonical email address if the
    /// name ID is one or is transient.
    ///
    /// Qualifiers (SAML Core 2.2.2) other than the two parties' own follow after `!`. `!` and `%`
    /// inside the parts become `%21` and `%25`, so two users never share a subject.
    pub subject: String,
    /// The canonical email address.
    pub email: Email,
    /// The values of the groups attribute. Unknown if the assertion has no such attribute: "in no
    /// group" and "groups not sent" look the same.
    pub groups: Groups,
    /// The reason why the groups are unknown; `None` if they are known.
    pub no_groups: Option<NoGroups>,
    /// The configured attributes, each with its values in document order. `None` if the assertion
    /// has no attribute of that name, or an unreadable one.
    pub attributes: BTreeMap<String, Option<Vec<String>>>,
    /// Headers for applications, one per value: at most 64 headers and 4 KiB in total. Each value
    /// is a valid header value.
    pub headers: Vec<(HeaderName, String)>,
    /// The end of the provider's own session, if the assertion states one (`SessionNotOnOrAfter`).
    pub session_ends: Option<UnixTime>,
    /// The faults of attributes that are present but unreadable, for the log. They never contain a
    /// value.
    pub unreadable: Vec<String>,
}

impl SamlIdentity {
    /// Returns the attributes as claims of an identity: one value becomes a string, any other
    /// number an array.
    ///
    /// Attributes missing from the assertion are left out, because they are unknown rather than
    /// empty: providers silently omit values that are too long.
    pub fn claims(&self) -> Map<String, Value> {
        let claim = |values: &Vec<String>| match values.as_slice() {
            [one] => Value::String(one.clone()),
            values => values.iter().cloned().map(Value::String).collect(),
        };
        self.attributes
            .iter()
            .filter_map(|(name, values)| Some((name.clone(), claim(values.as_ref()?))))
            .collect()
    }
}

/// A verified assertion, as far as its own content goes.
pub(super) struct Read {
    pub(super) id: String,
    pub(super) expires: UnixTime,
    pub(super) identity: SamlIdentity,
}

/// Reads an assertion (SAML Profiles 4.1.4.2 and 4.1.4.3, SAML Core 2.3 to 2.7).
pub(super) fn read(
    signed: &Signed,
    provider: &ServiceProvider,
    expected: &Expected<'_>,
) -> Result<Read, SamlError> {
    let document = tree::parse(signed.as_str())?;
    let root = document.root_element();
    let assertion = if tree::is(root, ASSERTION, "Assertion") {
        root
    } else {
        match Envelope::read(&document)?.content {
            Some(Content::Plain(assertion, None)) => assertion,
            _ => return Err(SamlError::Unsigned),
        }
    };
    let parts = Parts::split(assertion)?;
    let id = id(assertion)?;
    provider.check_issuer(parts.issuer)?;

    let validity = Validity::new(expected);
    validity.check_issue(assertion)?;
    let name_id = name_id(parts.subject, provider)?;
    let confirmation = validity.confirmation(parts.subject, provider)?;
    let valid = validity.conditions(parts.conditions, provider)?;
    let session_ends = validity.session(&parts.authentications)?;

    let attributes = Attributes::new(&parts.attributes);
    let (subject, email) = user(name_id, &attributes, provider)?;
    let mut unreadable = Vec::new();
    let (groups, no_groups) = attributes.groups(provider.groups_attribute(), &mut unreadable)?;
    Ok(Read {
        id,
        expires: confirmation.max(valid),
        identity: SamlIdentity {
            subject,
            email,
            groups,
            no_groups,
            attributes: provider
                .attributes()
                .map(|name| {
                    (
                        name.to_owned(),
                        attributes.values_for_rules(name, &mut unreadable),
                    )
                })
                .collect(),
            headers: attributes.headers(provider)?,
            session_ends,
            unreadable,
        },
    })
}

/// Returns the ID of an assertion of version 2.0.
fn id(assertion: Node<'_, '_>) -> Result<String, SamlError> {
    let version = assertion.attribute("Version") == Some("2.0");
    let id = assertion
        .attribute("ID")
        .filter(|id| !id.is_empty() && version);
    id.map(str::to_owned).ok_or(SamlError::Shape(
        "the assertion has no id, or is not of version 2.0",
    ))
}

struct Parts<'n, 'i> {
    issuer: Node<'n, 'i>,
    subject: Node<'n, 'i>,
    conditions: Node<'n, 'i>,
    authentications: Vec<Node<'n, 'i>>,
    attributes: Vec<Node<'n, 'i>>,
}

impl<'n, 'i> Parts<'n, 'i> {
    /// Splits an assertion into its elements, in schema order (SAML Core 2.3.3). `Advice` and
    /// `AuthzDecisionStatement` are rejected.
    fn split(assertion: Node<'n, 'i>) -> Result<Self, SamlError> {
        let wrong = SamlError::Shape("a part of the assertion is missing, duplicated or unknown");
        let children = tree::elements(assertion)?;
        let [issuer, subject, conditions, statements @ ..] = children.as_slice() else {
            return Err(wrong);
        };
        let named = |node: &Node<'_, '_>, name| tree::is(*node, ASSERTION, name);
        let (authentications, rest): (Vec<Node<'_, '_>>, Vec<_>) = statements
            .iter()
            .partition(|statement| named(statement, "AuthnStatement"));
        let known = named(issuer, "Issuer")
            && named(subject, "Subject")
            && named(conditions, "Conditions")
            && rest
                .iter()
                .all(|statement| named(statement, "AttributeStatement"));
        if !known {
            return Err(wrong);
        }
        Ok(Self {
            issuer: *issuer,
            subject: *subject,
            conditions: *conditions,
            authentications,
            attributes: rest,
        })
    }
}

struct NameId {
    value: String,
    format: Option<String>,
    /// `NameQualifier` and `SPNameQualifier`; `None` if both are empty or the parties' own.
    qualifiers: Option<[String; 2]>,
}

impl NameId {
    /// Returns the value for [`SamlIdentity::subject`].
    fn subject(self, email: &Email) -> String {
        let name = match self.format.as_deref() {
            Some(TRANSIENT) => return email.as_str().to_owned(),
            Some(EMAIL_ADDRESS) => {
                Email::parse(&self.value).map_or(self.value, |address| address.as_str().to_owned())
            }
            _ => self.value,
        };
        let plain = |text: &str| text.replace('%', "%25").replace('!', "%21");
        match self.qualifiers {
            Some([by, within]) => format!("{}!{}!{}", plain(&name), plain(&by), plain(&within)),
            None => plain(&name),
        }
    }
}

/// Reads the unencrypted name ID (SAML Core 2.4.1).
fn name_id(subject: Node<'_, '_>, provider: &ServiceProvider) -> Result<NameId, SamlError> {
    let children = tree::elements(subject)?;
    let (Some(name), rest) = (children.first(), children.get(1..).unwrap_or_default()) else {
        return Err(SamlError::Subject("it is empty"));
    };
    if tree::is(*name, ASSERTION, "EncryptedID") {
        return Err(SamlError::Subject("the name id is individually encrypted"));
    }
    if !tree::is(*name, ASSERTION, "NameID")
        || !rest
            .iter()
            .all(|node| tree::is(*node, ASSERTION, "SubjectConfirmation"))
    {
        return Err(SamlError::Subject("it does not have exactly one name id"));
    }
    let value = tree::text(*name)?;
    let usable = |text: &str| {
        text.len() <= MAX_NAME && !text.contains(char::is_control) && text.trim() == text
    };
    if value.is_empty() || !usable(&value) {
        return Err(SamlError::Subject(
            "the name id is empty, too long, or has spaces around it",
        ));
    }
    // A missing qualifier means the parties' own entity IDs (SAML Core 8.3.7), so the two forms
    // must give the same subject.
    let qualifier = |qualifier: &str, own: &str| {
        name.attribute(qualifier)
            .filter(|said| *said != own)
            .unwrap_or_default()
    };
    let qualifiers = [
        qualifier("NameQualifier", provider.idp_entity_id()).to_owned(),
        qualifier("SPNameQualifier", provider.entity_id()).to_owned(),
    ];
    if !qualifiers.iter().all(|text| usable(text)) {
        return Err(SamlError::Subject(
            "a qualifier of the name id is too long, or has spaces around it",
        ));
    }
    // Qualifiers that are both the parties' own add nothing, and would give the same user another
    // subject.
    let qualifiers = Some(qualifiers).filter(|both| both.iter().any(|text| !text.is_empty()));
    Ok(NameId {
        value,
        format: name.attribute("Format").map(str::to_owned),
        qualifiers,
    })
}

/// Determines the subject and the email address.
///
/// The email address comes only from the configured attribute. Without one, it comes from `email`,
/// or from a name ID whose format says that it is an email address. Users may be able to choose the
/// values of other attributes and formats themselves.
fn user(
    name_id: NameId,
    attributes: &Attributes<'_, '_, '_>,
    provider: &ServiceProvider,
) -> Result<(String, Email), SamlError> {
    let configured = provider.email_attribute();
    let name = configured.unwrap_or(EMAIL);
    let (values, source) = match attributes.find(name, OuterSpace::Rejected)? {
        Some(values) => (values, EmailSource::Attribute(name.to_owned())),
        None if configured.is_some() => {
            return Err(SamlError::NoEmail(EmailSource::Attribute(name.to_owned())));
        }
        None if name_id.format.as_deref() == Some(EMAIL_ADDRESS) => {
            (vec![name_id.value.clone()], EmailSource::NameId)
        }
        None => return Err(SamlError::NoEmail(EmailSource::NameId)),
    };
    let email = match values.as_slice() {
        [] => return Err(SamlError::NoEmail(source)),
        [one] => Email::parse(one).map_err(|_| SamlError::BadEmail(source))?,
        _ => return Err(SamlError::BadEmail(source)),
    };
    Ok((name_id.subject(&email), email))
}

const EMAIL_ADDRESS: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
const TRANSIENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";
/// The attribute name that the setup guides of Okta and most other providers use.
const EMAIL: &str = "email";
/// SAML Core 8.3.7 allows 256 characters for a persistent name ID; email addresses are shorter.
const MAX_NAME: usize = 1024;
