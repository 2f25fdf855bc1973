//! Fixed RSA keys for tests. They are public; making one takes longer than most tests.
//!
//! Included by unit tests and by the integration tests.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis::model::Secret;
use portcullis::token::SigningKey;

/// The key that signs for the team.
pub(crate) const TEAM: &str = include_str!("team.key");
/// The team's key that is published and does not sign yet.
pub(crate) const TEAM_NEXT: &str = include_str!("team-next.key");
/// A key that no node and no client trusts.
pub(crate) const STRANGER: &str = include_str!("stranger.key");

/// Reads a PEM file with a PKCS#8 key.
pub(crate) fn signing_key(pem: &str) -> SigningKey {
    SigningKey::from_pkcs8(&pkcs8(pem)).unwrap()
}

/// Returns the key in the form in which stores keep it.
pub(crate) fn pkcs8(pem: &str) -> Secret {
    URL_SAFE_NO_PAD.encode(der(pem)).into()
}

/// Returns the content of a PEM file.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    STANDARD.decode(body).unwrap()
}
