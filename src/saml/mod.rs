//! SAML 2.0 for a service provider: the Web Browser SSO profile as functions over bytes and typed
//! messages.
//!
//! Decides which request to send to an identity provider, and whether the browser's response proves
//! a user's identity. Trusts the certificates configured for the provider and nothing that a
//! message says about itself: not its `KeyInfo`, not the order of its elements, not its stated
//! origin. Never does I/O, never reads a clock, never resolves a reference to anything outside the
//! message.
//!
//! # How a forged message is kept out
//!
//! Attacks on SAML make one part of a program verify one thing while another part reads a different
//! one: two elements, or one element seen by two parsers. Here no such pair exists.
//!
//! 1. `input` checks the bytes before any XML library reads them. It rejects constructs that no
//!    identity provider sends and attacks rely on: document types, processing instructions,
//!    comments and CDATA. It also rejects messages that are too long, too deep or too wide.
//! 2. `envelope` accepts exactly one shape of response: every element in its position, one
//!    assertion, one signature on it and at most one on the response, no duplicate ID.
//! 3. `signature` verifies the RSA signature over the canonical bytes of `SignedInfo`, **parses
//!    those bytes**, and takes the algorithms and the reference from them alone. It canonicalises
//!    the element, compares the digest, and returns the **bytes that were digested**, as
//!    `signature::Signed`. No other code creates a `Signed`.
//! 4. `assertion` parses those bytes and reads the identity from them. It accepts no other input.
//!
//! The bytes that are read are therefore exactly those that a configured key signed. A mistake in
//! `canonical`, or in parsing the message as received, can only make a valid response fail: to
//! forge one, it would have to find other bytes with the signed digest. `roxmltree` is the only
//! parser and always gets the same settings. Steps 1 and 2 are a second line of defence; the user's
//! identity never depends on them.
//!
//! The existing SAML crates were tried with messages like those of the tests. None of them let an
//! identity be forged, but most accept some wrapped messages, and none returns the verified bytes.
//!
//! Two duties remain with the caller: to record that an assertion was used (see
//! [`Verified::replay_key`]; no identity is returned without this), and to keep the request ID in
//! the browser that made the request.

mod assertion;
mod attributes;
mod canonical;
mod certificate;
mod decrypt;
mod envelope;
mod error;
mod expected;
mod input;
mod metadata;
mod provider;
mod request;
mod signature;
mod tree;
mod validity;
mod verify;

pub use assertion::SamlIdentity;
pub use attributes::NoGroups;
pub use certificate::{CertificateError, CertificateInfo};
pub use decrypt::{DecryptionKey, DecryptionKeyError};
pub use error::{SamlError, Step};
pub use expected::Expected;
pub use provider::{Binding, HeaderAttribute, ServiceProvider, Settings, SettingsError};
pub use request::{AuthnRequest, Message, Reauthentication, RequestError};
pub use verify::{AssertionUse, Verified, reported_error};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
