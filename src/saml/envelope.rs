//! The response around an assertion: accepts one shape only, and checks that it answers our
//! request.

use std::collections::HashSet;

use roxmltree::{Document, Node};

use super::error::one_line;
use super::tree::{self, ASSERTION, DSIG, PROTOCOL};
use super::{Expected, SamlError, ServiceProvider};

/// A response of the accepted shape.
pub(super) struct Envelope<'n, 'i> {
    root: Node<'n, 'i>,
    issuer: Option<Node<'n, 'i>>,
    status: Node<'n, 'i>,
    /// The signature over the whole response.
    pub(super) signature: Option<Node<'n, 'i>>,
    /// The assertion; `None` in a response that reports an error.
    pub(super) content: Option<Content<'n, 'i>>,
}

/// The content of a response.
#[derive(Clone, Copy)]
pub(super) enum Content<'n, 'i> {
    /// An assertion and the signature in it.
    Plain(Node<'n, 'i>, Option<Node<'n, 'i>>),
    /// An `EncryptedAssertion`.
    Encrypted(Node<'n, 'i>),
}

impl<'n, 'i> Envelope<'n, 'i> {
    /// Reads a response (SAML Core 3.2.2), without the optional parts that the profile does not
    /// use.
    ///
    /// Rejects every element that has the name of an assertion or a signature, in any namespace,
    /// outside its one permitted position.
    pub(super) fn read(document: &'n Document<'i>) -> Result<Self, SamlError> {
        let root = document.root_element();
        if !tree::is(root, PROTOCOL, "Response") {
            return Err(SamlError::Shape("it is not a SAML 2.0 response"));
        }
        // With two elements of one ID, the verifier and the reader could choose different ones.
        check_unique_ids(document)?;
        let names = [
            (ASSERTION, "Issuer"),
            (DSIG, "Signature"),
            (PROTOCOL, "Status"),
            (ASSERTION, "Assertion"),
            (ASSERTION, "EncryptedAssertion"),
        ];
        let [issuer, signature, status, plain, encrypted] = tree::sequence(
            root,
            names,
            "the response has an unexpected or duplicated element",
        )?;
        let status = status.ok_or(SamlError::Shape("the response has no status"))?;
        let content = match (plain, encrypted) {
            (Some(assertion), None) => Some(Content::Plain(assertion, signature_in(assertion))),
            (None, Some(encrypted)) => Some(Content::Encrypted(encrypted)),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(SamlError::Shape("the response has two assertions")),
        };
        let envelope = Self {
            root,
            issuer,
            status,
            signature,
            content,
        };
        envelope.reject_misplaced()?;
        Ok(envelope)
    }

    /// Checks that the response answers this request (SAML Core 3.2.2, SAML Profiles 4.1.4.3). This
    /// proves nothing unless the response is signed; the assertion repeats these facts.
    pub(super) fn check(
        &self,
        provider: &ServiceProvider,
        expected: &Expected<'_>,
    ) -> Result<(), SamlError> {
        if self.root.attribute("Version") != Some("2.0") {
            return Err(SamlError::Shape("the response is not of version 2.0"));
        }
        let status = self.status();
        match self.root.attribute("InResponseTo") {
            Some(id) if id == expected.request_id => {}
            Some(_) => return Err(SamlError::Request),
            // Providers may omit this and the destination from errors, as Keycloak does. An error
            // signs in no user, so it is reported as it is.
            None => return Err(status.err().unwrap_or(SamlError::Unsolicited)),
        }
        match self.root.attribute("Destination") {
            Some(destination) if destination == provider.acs() => {}
            Some(other) => return Err(SamlError::Destination(one_line(other))),
            None => {
                return Err(status
                    .err()
                    .unwrap_or_else(|| SamlError::Destination(String::new())));
            }
        }
        if let Some(issuer) = self.issuer {
            // The issuer of the response is optional (SAML Core 3.2.2). That of the assertion is
            // required and checked later.
            provider.check_issuer(issuer)?;
        }
        // Checked last, so that the status shown on a page belongs to a response to this login.
        status
    }

    /// Returns an error unless the status is `Success` (SAML Core 3.2.2.1 to 3.2.2.3).
    pub(super) fn status(&self) -> Result<(), SamlError> {
        check_status(self.status)
    }

    fn reject_misplaced(&self) -> Result<(), SamlError> {
        let (assertion, inner) = match self.content {
            Some(Content::Plain(assertion, signature)) => (Some(assertion), signature),
            Some(Content::Encrypted(encrypted)) => (Some(encrypted), None),
            None => (None, None),
        };
        let known = [Some(self.root), assertion, self.signature, inner];
        let misplaced = self
            .root
            .descendants()
            .filter(|node| !known.contains(&Some(*node)))
            .find(|node| {
                [
                    "Response",
                    "Assertion",
                    "EncryptedAssertion",
                    "Signature",
                    "Extensions",
                    "Object",
                ]
                .iter()
                // Any namespace and case: a reader that is less strict must not find an assertion
                // that was not examined.
                .any(|name| node.tag_name().name().eq_ignore_ascii_case(name))
            });
        match misplaced {
            Some(_) => Err(SamlError::Shape("an assertion or a signature is misplaced")),
            None => Ok(()),
        }
    }
}

/// Returns the first signature among the children. `reject_misplaced` rejects a second one.
fn signature_in<'n, 'i>(assertion: Node<'n, 'i>) -> Option<Node<'n, 'i>> {
    assertion
        .children()
        .find(|child| tree::is(*child, DSIG, "Signature"))
}

/// Rejects a document in which an ID occurs twice, in any spelling of the attribute.
fn check_unique_ids(document: &Document<'_>) -> Result<(), SamlError> {
    let mut seen = HashSet::new();
    for node in document.root().descendants() {
        for attribute in node.attributes() {
            let id = matches!(
                attribute.name(),
                "ID" | "Id" | "id" | "iD" | "AssertionID" | "ResponseID"
            );
            if id && !seen.insert(attribute.value()) {
                return Err(SamlError::DuplicateId);
            }
        }
    }
    Ok(())
}

fn check_status(status: Node<'_, '_>) -> Result<(), SamlError> {
    let wrong = "the status is malformed";
    let names = [
        (PROTOCOL, "StatusCode"),
        (PROTOCOL, "StatusMessage"),
        (PROTOCOL, "StatusDetail"),
    ];
    let [Some(code), message, _] = tree::sequence(status, names, wrong)? else {
        return Err(SamlError::Shape(wrong));
    };
    let value = |code: Node<'_, '_>| code.attribute("Value").unwrap_or_default().to_owned();
    let [second] = tree::sequence(code, [(PROTOCOL, "StatusCode")], wrong)?;
    if value(code) == format!("{STATUS}Success") {
        return Ok(());
    }
    let specific = second.map_or_else(|| value(code), value);
    let short = specific.strip_prefix(STATUS).unwrap_or(&specific);
    let message = message
        .map(tree::text)
        .transpose()?
        .map(|text| one_line(&text))
        .filter(|text| !text.is_empty());
    Err(SamlError::Status {
        code: one_line(short),
        message,
    })
}

const STATUS: &str = "urn:oasis:names:tc:SAML:2.0:status:";
