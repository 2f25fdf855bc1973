//! SAML 2.0, from the side of the service provider: the Web Browser SSO profile as functions over
//! bytes and typed messages.
//!
//! Decides what to ask an identity provider, and whether what a browser brought back proves who
//! somebody is. Trusts the certificates that were configured for the provider, and nothing that a
//! message says of itself: not its `KeyInfo`, not its order, not where it says it comes from. Never
//! does IO, never reads a clock, never resolves anything a message refers to.
//!
//! # How a forged message is kept out
//!
//! The attacks on SAML make one part of a program verify one thing and another read another: two
//! elements, or one element under two parsers. Here no such pair exists.
//!
//! 1. `gate` looks at the bytes before any XML library does. It refuses what no identity provider
//!    sends and attacks are made of: document types, processing instructions, comments, CDATA, and
//!    whatever is too long, too deep or too wide.
//! 2. `envelope` takes one shape of response and no other: every element in its place, one
//!    assertion, one signature on it and perhaps one on the response, no id twice.
//! 3. `signature` verifies the RSA signature over the canonical bytes of `SignedInfo`, **parses
//!    those bytes**, and learns from them alone what was signed and how. It canonicalises the
//!    element, compares the digest, and gives out the **bytes that were digested**, as
//!    `signature::Signed`. Nothing else makes one.
//! 4. `assertion` parses those bytes and reads the identity from them. It cannot be given anything
//!    else.
//!
//! So what is read is, byte for byte, what a configured key signed, and a mistake in `canonical` or
//! in the parser's reading of the message as it came can only make a good response fail: it would
//! have to find other bytes with the signed digest. The one parser is `roxmltree`, given the same
//! settings each time. The checks of steps 1 and 2 are a second line; what they look at decides
//! nothing about who somebody is.
//!
//! The SAML crates there are were tried on messages like those of the tests. None let an identity
//! be forged, but most take some wrapped messages for good, and what they verified cannot be had
//! from them as bytes.
//!
//! What is left to the caller: to remember that an assertion was used ([`Verified::once`]; there is
//! no identity without an answer to it), and to keep the id of a request in the browser that made
//! it.

mod assertion;
mod canonical;
mod certificate;
mod decrypt;
mod envelope;
mod error;
mod gate;
mod metadata;
mod provider;
mod request;
mod signature;
mod tree;
mod verify;

pub use assertion::{NoGroups, SamlIdentity};
pub use certificate::{CertificateError, CertificateInfo};
pub use decrypt::{DecryptionKey, DecryptionKeyError};
pub use error::{SamlError, Step};
pub use provider::{Binding, HeaderAttribute, ServiceProvider, Settings, SettingsError};
pub use request::{AuthnRequest, Message, RequestError};
pub use verify::{Expected, Verified, reported_error};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
