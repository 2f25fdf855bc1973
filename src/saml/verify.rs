use std::time::Duration;

use super::assertion::{self, Read};
use super::certificate::fingerprint;
use super::envelope::{Content, Envelope};
use super::signature::{self, Signed};
use super::{SamlError, SamlIdentity, ServiceProvider, decrypt, gate, tree};
use crate::model::UnixTime;

/// What a response must be, to be the answer to a login.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The id of the request that the browser of this login carried.
    pub request_id: &'a str,
    /// When it was made.
    pub requested_at: UnixTime,
    /// Whether it asked for credentials: then a login that is older than it will not do.
    pub fresh: bool,
    /// The moment.
    pub now: UnixTime,
    /// How much the clocks may differ, whichever is ahead. What is above 300 s is not granted.
    pub leeway: Duration,
}

impl Expected<'_> {
    pub(super) fn leeway(&self) -> Duration {
        self.leeway.min(MAX_LEEWAY)
    }
}

/// An assertion that was checked, all but whether it was used before.
#[derive(Debug)]
pub struct Verified {
    identity: SamlIdentity,
    once: String,
    until: UnixTime,
}

impl Verified {
    /// What is to be remembered: a name of 64 characters, and from when on it can be forgotten.
    pub fn once(&self) -> (&str, UnixTime) {
        (&self.once, self.until)
    }

    /// Who it is. `first`: [`Verified::once`] was not known before, and is from now on, on every
    /// node. To look and to remember must be one step.
    ///
    /// # Errors
    /// [`SamlError::Replayed`] where it is not the first time.
    pub fn identity(self, first: bool) -> Result<SamlIdentity, SamlError> {
        if first {
            Ok(self.identity)
        } else {
            Err(SamlError::Replayed)
        }
    }
}

/// Returns the error that a response reports ([`SamlError::Status`]), whether or not it answers a
/// request. It is not verified.
pub fn reported_error(response: &str) -> Option<SamlError> {
    let text = gate::open(response).ok()?;
    let document = tree::parse(&text).ok()?;
    let status = Envelope::read(&document).ok()?.status();
    status
        .err()
        .filter(|error| matches!(error, SamlError::Status { .. }))
}

impl ServiceProvider {
    /// Checks what a browser posted to the ACS: `SAMLResponse`, as it stood in the form.
    ///
    /// # Errors
    /// See [`SamlError`]. Whatever is not expected is an error.
    pub fn verify(&self, response: &str, expected: &Expected<'_>) -> Result<Verified, SamlError> {
        let text = gate::open(response)?;
        let document = tree::parse(&text)?;
        let envelope = Envelope::read(&document)?;
        envelope.check(self, expected)?;
        let outer = envelope
            .signature
            .map(|signature| signature::verify(signature, self.certificates()))
            .transpose()?;
        if let Some(signed) = &outer {
            // Again, on what was signed.
            let document = tree::parse(signed.as_str())?;
            Envelope::read(&document)?.check(self, expected)?;
        }
        let signed = match envelope
            .content
            .ok_or(SamlError::Shape("the response has no assertion"))?
        {
            Content::Plain(_, Some(inner)) => signature::verify(inner, self.certificates())?,
            Content::Plain(_, None) => outer.ok_or(SamlError::Unsigned)?,
            Content::Encrypted(encrypted) => self.decrypted(&text, encrypted, expected)?,
        };
        let read = assertion::read(&signed, self, expected)?;
        Ok(self.verified(read, expected))
    }

    /// XML Encryption 4.2: what was decrypted takes the place of what was encrypted, and is looked
    /// at like any message. It has to bring its own signature: to encrypt for us takes no secret.
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
        gate::check(&whole)?;
        let document = tree::parse(&whole)?;
        let envelope = Envelope::read(&document)?;
        envelope.check(self, expected)?;
        match envelope.content {
            Some(Content::Plain(_, Some(signature))) => {
                signature::verify(signature, self.certificates())
            }
            Some(Content::Plain(_, None)) => Err(SamlError::Unsigned),
            Some(Content::Encrypted(_)) | None => {
                Err(SamlError::Shape("what was encrypted is not an assertion"))
            }
        }
    }

    fn verified(&self, read: Read, expected: &Expected<'_>) -> Verified {
        let once = fingerprint(format!("{} {}", read.id, self.idp_entity_id()).as_bytes());
        // After a day the login that it answers is long over.
        let until = read
            .expires
            .after(expected.leeway())
            .min(expected.now.after(REMEMBERED));
        Verified {
            identity: read.identity,
            once,
            until,
        }
    }
}

const MAX_LEEWAY: Duration = Duration::from_secs(300);
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
