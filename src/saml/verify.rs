use std::time::Duration;

use super::assertion::{self, Read};
use super::certificate::fingerprint;
use super::envelope::{Content, Envelope};
use super::signature::{self, Signed};
use super::{Expected, SamlError, SamlIdentity, ServiceProvider, decrypt, input, tree};
use crate::model::UnixTime;

/// A verified assertion for which only the check for replay is missing.
#[derive(Debug)]
pub struct Verified {
    identity: SamlIdentity,
    replay_key: String,
    until: UnixTime,
}

impl Verified {
    /// Returns the replay key, of 64 characters, and the time after which it may be forgotten.
    pub fn replay_key(&self) -> (&str, UnixTime) {
        (&self.replay_key, self.until)
    }

    /// Returns the identity if this is the first use of the assertion.
    ///
    /// # Errors
    /// [`SamlError::Replayed`] if this is not the first use.
    pub fn identity(self, assertion_use: AssertionUse) -> Result<SamlIdentity, SamlError> {
        match assertion_use {
            AssertionUse::First => Ok(self.identity),
            AssertionUse::Repeated => Err(SamlError::Replayed),
        }
    }
}

/// The result of recording [`Verified::replay_key`] for the whole team. The check and the recording
/// must be one atomic step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionUse {
    /// No node had recorded the key before, and now it is recorded.
    First,
    /// A node had recorded the key before.
    Repeated,
}

/// Returns the error that a response reports ([`SamlError::Status`]), even if it answers no request
/// of ours. It is not verified.
pub fn reported_error(response: &str) -> Option<SamlError> {
    let text = input::decode(response).ok()?;
    let document = tree::parse(&text).ok()?;
    let status = Envelope::read(&document).ok()?.status();
    status
        .err()
        .filter(|error| matches!(error, SamlError::Status { .. }))
}

impl ServiceProvider {
    /// Verifies the `SAMLResponse` form field that a browser posted to the ACS.
    ///
    /// # Errors
    /// See [`SamlError`]. Everything unexpected is an error.
    pub fn verify(&self, response: &str, expected: &Expected<'_>) -> Result<Verified, SamlError> {
        let text = input::decode(response)?;
        let document = tree::parse(&text)?;
        let envelope = Envelope::read(&document)?;
        envelope.check(self, expected)?;
        let outer = envelope
            .signature
            .map(|signature| signature::verify(signature, self.certificates()))
            .transpose()?;
        if let Some(signed) = &outer {
            // The same checks again, now on the signed bytes.
            let document = tree::parse(signed.as_str())?;
            Envelope::read(&document)?.check(self, expected)?;
        }
        let signed = match envelope
            .content
            .ok_or(SamlError::Shape("the response has no assertion"))?
        {
            // A signature on the assertion decides even if the response is signed, too: both were
            // verified.
            Content::Plain(_, Some(inner)) => signature::verify(inner, self.certificates())?,
            Content::Plain(_, None) => outer.ok_or(SamlError::Unsigned)?,
            Content::Encrypted(encrypted) => self.decrypted(&text, encrypted, expected)?,
        };
        let read = assertion::read(&signed, self, expected)?;
        Ok(self.verified(read, expected))
    }

    /// Verifies an encrypted assertion: the plaintext replaces the encrypted element (XML
    /// Encryption 4.2) and passes the same checks as any message. It needs its own signature,
    /// because the encryption key is public.
    fn decrypted(
        &self,
        text: &str,
        encrypted: roxmltree::Node<'_, '_>,
        expected: &Expected<'_>,
    ) -> Result<Signed, SamlError> {
        let plain = decrypt::decrypt(encrypted, self.decryption_keys())?;
        let range = encrypted.range();
        let before = text.get(..range.start).unwrap_or_default();
        let after = text.get(range.end..).unwrap_or_default();
        let whole = zeroize::Zeroizing::new([before, &plain, after].concat());
        // The plaintext was not part of the first check. It may contain anything, because the
        // encryption key is public.
        input::check(&whole)?;
        let document = tree::parse(&whole)?;
        let envelope = Envelope::read(&document)?;
        envelope.check(self, expected)?;
        match envelope.content {
            Some(Content::Plain(_, Some(signature))) => {
                signature::verify(signature, self.certificates())
            }
            Some(Content::Plain(_, None)) => Err(SamlError::Unsigned),
            Some(Content::Encrypted(_)) | None => Err(SamlError::Shape(
                "the decrypted content is not an assertion",
            )),
        }
    }

    fn verified(&self, read: Read, expected: &Expected<'_>) -> Verified {
        // Ids are unique per provider only, and the hash bounds the length of the name in the
        // store.
        let replay_key = fingerprint(format!("{} {}", read.id, self.idp_entity_id()).as_bytes());
        // A day is far longer than the login that this response answers can take.
        let until = read
            .expires
            .after(expected.leeway())
            .min(expected.now.after(REMEMBERED));
        Verified {
            identity: read.identity,
            replay_key,
            until,
        }
    }
}

// Assertions may have any end. The store must not keep their names for years.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
