//! Reads the identity from the bytes that were signed.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use roxmltree::Node;
use serde_json::{Map, Value};

use super::envelope::{Content, Envelope};
use super::error::{EmailSource, NO_END, SPACE_AROUND, one_line};
use super::signature::Signed;
use super::tree::{self, ASSERTION};
use super::{Expected, Reauthentication, SamlError, ServiceProvider};
use crate::model::{Email, Group, Groups, UnixTime, is_nearly};

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

/// The reason for which an assertion holds no groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoGroups {
    /// Neither the attribute, in any upper or lower case, nor a link in its place.
    LeftOut,
    /// An attribute with a similar name, or a link in its place.
    Similar,
    /// The attribute itself, but unreadable.
    Unreadable,
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
    let version = assertion.attribute("Version") == Some("2.0");
    let id = assertion
        .attribute("ID")
        .filter(|id| !id.is_empty() && version);
    let id = id
        .ok_or(SamlError::Shape(
            "the assertion has no id, or is not of version 2.0",
        ))?
        .to_owned();
    provider.check_issuer(parts.issuer)?;

    let clock = Clock { expected };
    clock.check_start(time(assertion, "IssueInstant")?.ok_or(SamlError::Shape(UNDATED))?)?;
    let name_id = name_id(parts.subject, provider)?;
    let confirmation = confirmation(parts.subject, provider, &clock)?;
    let valid = conditions(parts.conditions, provider, &clock)?;
    let session_ends = session(&parts.authentications, &clock)?;

    let attributes = Attributes {
        statements: &parts.attributes,
    };
    let (subject, email) = user(name_id, &attributes, provider)?;
    let mut unreadable = Vec::new();
    let groups = groups(attributes.values_for_rules(provider.groups_attribute(), &mut unreadable));
    let no_groups = match groups {
        Groups::Known(_) => None,
        Groups::Unknown if !unreadable.is_empty() => Some(NoGroups::Unreadable),
        Groups::Unknown if attributes.lacks(provider.groups_attribute())? => {
            Some(NoGroups::LeftOut)
        }
        Groups::Unknown => Some(NoGroups::Similar),
    };
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
            headers: headers(&attributes, provider)?,
            session_ends,
            unreadable,
        },
    })
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

struct Clock<'a> {
    expected: &'a Expected<'a>,
}

impl Clock<'_> {
    fn check_start(&self, time: UnixTime) -> Result<(), SamlError> {
        let now = self.expected.now;
        let behind = SamlError::NotYetValid {
            seconds: time.since(now).as_secs(),
        };
        if time <= now.after(self.expected.leeway()) {
            Ok(())
        } else {
            Err(behind)
        }
    }

    fn check_end(&self, time: UnixTime) -> Result<(), SamlError> {
        let now = self.expected.now;
        let over = SamlError::Expired {
            seconds: now.since(time).as_secs(),
        };
        if time.after(self.expected.leeway()) > now {
            Ok(())
        } else {
            Err(over)
        }
    }

    fn check_window(
        &self,
        node: Node<'_, '_>,
        missing_end: &'static str,
    ) -> Result<UnixTime, SamlError> {
        let end = time(node, "NotOnOrAfter")?.ok_or(SamlError::Bearer(missing_end))?;
        if let Some(start) = time(node, "NotBefore")? {
            self.check_start(start)?;
        }
        self.check_end(end)?;
        Ok(end)
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

/// Checks the subject confirmations (SAML Profiles 4.1.4.2) and returns the end of the one that
/// holds. A bearer confirmation must name this ACS and this request, and must not have expired. One
/// valid confirmation is enough.
fn confirmation(
    subject: Node<'_, '_>,
    provider: &ServiceProvider,
    clock: &Clock<'_>,
) -> Result<UnixTime, SamlError> {
    let confirm = |node: Node<'_, '_>| -> Result<UnixTime, SamlError> {
        let [data] = tree::sequence(
            node,
            [(ASSERTION, "SubjectConfirmationData")],
            "a confirmation has unexpected elements",
        )?;
        let data = data.ok_or(SamlError::Bearer("its confirmation has no data"))?;
        match data.attribute("InResponseTo") {
            Some(id) if id == clock.expected.request_id => {}
            Some(_) => return Err(SamlError::Request),
            // Without `InResponseTo` anyone could log a browser in with an assertion of their own.
            None => return Err(SamlError::Unsolicited),
        }
        match data.attribute("Recipient") {
            Some(recipient) if recipient == provider.acs() => {}
            other => return Err(SamlError::Recipient(one_line(other.unwrap_or_default()))),
        }
        clock.check_window(data, NO_END[0])
    };
    let bearers = tree::elements(subject)?
        .into_iter()
        .filter(|node| node.attribute("Method") == Some(BEARER));
    let mut outcome = Err(SamlError::Bearer("it has no bearer confirmation"));
    for bearer in bearers {
        outcome = confirm(bearer);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Checks the conditions (SAML Core 2.5.1) and returns their end.
fn conditions(
    node: Node<'_, '_>,
    provider: &ServiceProvider,
    clock: &Clock<'_>,
) -> Result<UnixTime, SamlError> {
    let end = clock.check_window(node, NO_END[1])?;
    let mut restricted = false;
    for condition in tree::elements(node)? {
        if tree::is(condition, ASSERTION, "AudienceRestriction") {
            let audiences = tree::all_named(
                condition,
                ASSERTION,
                "Audience",
                "an audience restriction has unexpected elements",
            )?;
            let audiences = audiences
                .into_iter()
                .map(tree::text)
                .collect::<Result<Vec<_>, _>>()?;
            if !audiences
                .iter()
                .any(|audience| audience == provider.entity_id())
            {
                return Err(SamlError::Audience(one_line(
                    audiences.first().map_or("", String::as_str),
                )));
            }
            restricted = true;
        } else if !tree::is(condition, ASSERTION, "OneTimeUse")
            && !tree::is(condition, ASSERTION, "ProxyRestriction")
        {
            // An unknown condition makes the assertion's validity indeterminate (SAML Core 2.5.1).
            return Err(SamlError::Condition);
        }
    }
    // `OneTimeUse` and `ProxyRestriction` always hold: assertions are neither cached nor used to
    // issue other assertions.
    // An assertion without an audience is for any service provider (SAML Core 2.5.1.4), and another
    // one could replay it here.
    if restricted {
        Ok(end)
    } else {
        Err(SamlError::Bearer("it names no audience"))
    }
}

/// Checks the authentication statements (SAML Core 2.7.2) and returns the earliest end of the
/// provider's session, if one is stated.
fn session(statements: &[Node<'_, '_>], clock: &Clock<'_>) -> Result<Option<UnixTime>, SamlError> {
    if statements.is_empty() {
        return Err(SamlError::Bearer("it has no authentication statement"));
    }
    let mut session_ends: Option<UnixTime> = None;
    for statement in statements {
        let at = time(*statement, "AuthnInstant")?.ok_or(SamlError::Shape(UNDATED))?;
        if clock.expected.reauthentication == Reauthentication::Required
            && at.after(clock.expected.leeway()) < clock.expected.requested_at
        {
            return Err(SamlError::NotFresh);
        }
        if let Some(end) = time(*statement, "SessionNotOnOrAfter")? {
            // No leeway here: a session that has already ended cannot become one of ours.
            if end <= clock.expected.now {
                return Err(SamlError::SessionOver);
            }
            session_ends = Some(session_ends.map_or(end, |earlier| earlier.min(end)));
        }
    }
    Ok(session_ends)
}

/// The white space that is accepted around a value.
#[derive(Clone, Copy)]
enum OuterSpace {
    /// No white space.
    Rejected,
    /// Spaces, which are part of the value: a rule compares them, as it does in a claim. Line
    /// breaks and tabs may be XML layout, so the true value is ambiguous and is rejected.
    Literal,
}

impl OuterSpace {
    fn rejects(self, text: &str) -> bool {
        match self {
            Self::Rejected => text.trim() != text,
            Self::Literal => {
                let (start, end) = (text.len() - text.trim_start().len(), text.trim_end().len());
                let around = [text.get(..start), text.get(end..)].into_iter().flatten();
                around
                    .into_iter()
                    .any(|space| space.contains(['\t', '\r', '\n']))
            }
        }
    }
}

struct Attributes<'s, 'n, 'i> {
    statements: &'s [Node<'n, 'i>],
}

impl Attributes<'_, '_, '_> {
    /// Returns the values that rules are evaluated against. `None`, which means unknown, if the
    /// attribute is missing or unreadable; the login continues.
    fn values_for_rules(&self, name: &str, unreadable: &mut Vec<String>) -> Option<Vec<String>> {
        self.find(name, OuterSpace::Literal)
            .unwrap_or_else(|error| {
                unreadable.push(error.to_string());
                None
            })
    }

    /// Returns the exact values of all attributes with this name, in document order. An `xsi:nil`
    /// value is skipped. Attributes that are not configured are not read.
    fn find(&self, name: &str, spaces: OuterSpace) -> Result<Option<Vec<String>>, SamlError> {
        let fault = |fault| SamlError::Attribute {
            name: one_line(name),
            fault,
        };
        let mut found: Option<Vec<String>> = None;
        for statement in self.statements {
            for attribute in tree::elements(*statement)? {
                if tree::is(attribute, ASSERTION, "EncryptedAttribute") {
                    return Err(fault("may be one of the individually encrypted attributes"));
                }
                if !tree::is(attribute, ASSERTION, "Attribute")
                    || attribute.attribute("Name") != Some(name)
                {
                    continue;
                }
                let values = found.get_or_insert_default();
                let wrong = "an attribute has elements other than values";
                for value in tree::all_named(attribute, ASSERTION, "AttributeValue", wrong)? {
                    if matches!(value.attribute((XSI, "nil")), Some("true" | "1")) {
                        continue;
                    }
                    let text =
                        tree::text(value).map_err(|_| fault("has a value that is not text"))?;
                    if spaces.rejects(&text) {
                        return Err(fault(SPACE_AROUND));
                    }
                    values.push(text);
                }
            }
        }
        Ok(found)
    }
}

impl Attributes<'_, '_, '_> {
    /// Returns `true` if no attribute has this name, by `Name` or `FriendlyName` and in any case,
    /// and Microsoft Entra ID sent no link in its place.
    fn lacks(&self, name: &str) -> Result<bool, SamlError> {
        for statement in self.statements {
            for attribute in tree::elements(*statement)? {
                let names = ["Name", "FriendlyName"]
                    .into_iter()
                    .filter_map(|kind| attribute.attribute(kind));
                let mut names =
                    names.filter(|found| is_nearly(found, name) || *found == GROUPS_LINK);
                if names.next().is_some() || !tree::is(attribute, ASSERTION, "Attribute") {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
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

fn groups(names: Option<Vec<String>>) -> Groups {
    let group = |name: String| Group {
        id: name.clone(),
        name,
    };
    names.map_or(Groups::Unknown, |names| {
        Groups::Known(
            names
                .into_iter()
                .filter(|name| !name.is_empty())
                .map(group)
                .collect(),
        )
    })
}

/// Returns one header for each value of the configured attributes.
fn headers(
    attributes: &Attributes<'_, '_, '_>,
    provider: &ServiceProvider,
) -> Result<Vec<(HeaderName, String)>, SamlError> {
    let (mut headers, mut room) = (Vec::new(), MAX_HEADER_BYTES);
    for wanted in provider.header_attributes() {
        let fault = |fault| SamlError::Attribute {
            name: one_line(&wanted.attribute),
            fault,
        };
        for value in attributes
            .find(&wanted.attribute, OuterSpace::Rejected)?
            .unwrap_or_default()
        {
            HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| fault("has a value that is not allowed in a header"))?;
            room = room
                .checked_sub(value.len())
                .filter(|_| headers.len() < MAX_HEADERS)
                .ok_or_else(|| fault(TOO_LONG))?;
            headers.push((wanted.header.clone(), value));
        }
    }
    Ok(headers)
}

/// Reads a time in UTC (SAML Core 1.3.3), truncated to seconds.
fn time(node: Node<'_, '_>, name: &str) -> Result<Option<UnixTime>, SamlError> {
    let Some(text) = node.attribute(name) else {
        return Ok(None);
    };
    let parsed = text
        .parse::<Timestamp>()
        .ok()
        // The parser also accepts a space or a lower-case `t` between date and time, which XML
        // Schema does not.
        .filter(|_| text.len() <= 40 && text.contains('T'));
    let seconds = parsed.and_then(|time| u64::try_from(time.as_second()).ok());
    seconds
        .map(|seconds| Some(UnixTime(seconds)))
        .ok_or(SamlError::Shape("a time is malformed"))
}

const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
const BEARER: &str = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
const EMAIL_ADDRESS: &str = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
const TRANSIENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";
/// The attribute name that the setup guides of Okta and most other providers use.
const EMAIL: &str = "email";
/// Microsoft Entra ID sends this link instead of the groups if there are too many.
const GROUPS_LINK: &str = "http://schemas.microsoft.com/claims/groups.link";
const UNDATED: &str = "a time is missing";
const TOO_LONG: &str =
    "exceeds, together with the attributes before it, the size limit for request headers";
/// Every request of the user carries these headers. Origins commonly accept 8 KiB of headers in
/// total, so these get half.
const MAX_HEADER_BYTES: usize = 4096;
// Origins commonly accept 100 header fields in total, and browsers send about 30.
const MAX_HEADERS: usize = 64;
/// SAML Core 8.3.7 allows 256 characters for a persistent name ID; email addresses are shorter.
const MAX_NAME: usize = 1024;
