use http::{HeaderName, HeaderValue};
use roxmltree::Node;

use super::error::{SPACE_AROUND, one_line};
use super::tree::{self, ASSERTION};
use super::{SamlError, ServiceProvider};
use crate::model::{Group, Groups, is_nearly};

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

/// The white space that is accepted around a value.
#[derive(Clone, Copy)]
pub(super) enum OuterSpace {
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

/// The attribute statements of an assertion (SAML Core 2.7.3).
pub(super) struct Attributes<'s, 'n, 'i> {
    statements: &'s [Node<'n, 'i>],
}

impl<'s, 'n, 'i> Attributes<'s, 'n, 'i> {
    pub(super) const fn new(statements: &'s [Node<'n, 'i>]) -> Self {
        Self { statements }
    }

    /// Returns the groups in the attribute of this name, or the reason why they are unknown.
    pub(super) fn groups(
        &self,
        name: &str,
        unreadable: &mut Vec<String>,
    ) -> Result<(Groups, Option<NoGroups>), SamlError> {
        let groups = named_groups(self.values_for_rules(name, unreadable));
        let missing = match groups {
            Groups::Known(_) => None,
            Groups::Unknown if !unreadable.is_empty() => Some(NoGroups::Unreadable),
            Groups::Unknown if self.lacks(name)? => Some(NoGroups::LeftOut),
            Groups::Unknown => Some(NoGroups::Similar),
        };
        Ok((groups, missing))
    }

    /// Returns the values that rules are evaluated against. `None`, which means unknown, if the
    /// attribute is missing or unreadable; the login continues.
    pub(super) fn values_for_rules(
        &self,
        name: &str,
        unreadable: &mut Vec<String>,
    ) -> Option<Vec<String>> {
        self.find(name, OuterSpace::Literal)
            .unwrap_or_else(|error| {
                unreadable.push(error.to_string());
                None
            })
    }

    /// Returns the exact values of all attributes with this name, in document order. An `xsi:nil`
    /// value is skipped. Attributes that are not configured are not read.
    pub(super) fn find(
        &self,
        name: &str,
        spaces: OuterSpace,
    ) -> Result<Option<Vec<String>>, SamlError> {
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

    /// Returns one header for each value of the configured attributes.
    pub(super) fn headers(
        &self,
        provider: &ServiceProvider,
    ) -> Result<Vec<(HeaderName, String)>, SamlError> {
        let (mut headers, mut room) = (Vec::new(), MAX_HEADER_BYTES);
        for wanted in provider.header_attributes() {
            let fault = |fault| SamlError::Attribute {
                name: one_line(&wanted.attribute),
                fault,
            };
            for value in self
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
}

fn named_groups(names: Option<Vec<String>>) -> Groups {
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

const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
/// Microsoft Entra ID sends this link instead of the groups if there are too many.
const GROUPS_LINK: &str = "http://schemas.microsoft.com/claims/groups.link";
const TOO_LONG: &str =
    "exceeds, together with the attributes before it, the size limit for request headers";
/// Every request of the user carries these headers. Origins commonly accept 8 KiB of headers in
/// total, so these get half.
const MAX_HEADER_BYTES: usize = 4096;
// Origins commonly accept 100 header fields in total, and browsers send about 30.
const MAX_HEADERS: usize = 64;
