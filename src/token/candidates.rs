use smallvec::SmallVec;

use super::{Claims, KeySet, Outlook, UnverifiedToken};
use crate::model::UnixTime;

/// Chooses the tokens of a request that get a signature check.
///
/// A check costs as much as hundreds of look-ups, and another host of the domain can set as many
/// cookies as a browser keeps. So tokens that cannot verify are skipped, and each token is checked
/// once.
#[derive(Default)]
pub struct Candidates<'h> {
    checked: SmallVec<[&'h [u8]; 4]>,
    expired: Option<&'h [u8]>,
}

/// The role of one token among the [`Candidates`].
pub enum Candidate<'h> {
    /// The token has to be verified.
    Unverified {
        /// The whole token.
        text: &'h str,
        /// The same, for a verification.
        token: UnverifiedToken<'h>,
    },
    /// A verification would find no valid token, or was due for an earlier one of the same text.
    Hopeless,
    /// The request has more tokens than are verified. Any of the others may be valid.
    TooMany,
}

impl<'h> Candidates<'h> {
    /// Judges the next token. Without keys every well-formed token is [`Candidate::Unverified`].
    ///
    /// `fits` judges the claims beside `iss` and `exp`.
    pub fn judge(
        &mut self,
        token: &'h [u8],
        keys: Option<&KeySet>,
        issuer: &str,
        fits: impl FnOnce(&Claims) -> bool,
        now: UnixTime,
    ) -> Candidate<'h> {
        let parsed = std::str::from_utf8(token)
            .ok()
            .and_then(|text| Some((text, UnverifiedToken::parse(text).ok()?)));
        let Some((text, unverified)) = parsed else {
            return Candidate::Hopeless;
        };
        let candidate = Candidate::Unverified {
            text,
            token: unverified,
        };
        let Some(keys) = keys else { return candidate };
        match unverified.outlook(keys, issuer, fits, now) {
            Outlook::Hopeless => Candidate::Hopeless,
            Outlook::Expired => {
                self.expired.get_or_insert(token);
                Candidate::Hopeless
            }
            // This ends before the signature.
            Outlook::UnknownKey => candidate,
            Outlook::Open if self.checked.contains(&token) => Candidate::Hopeless,
            Outlook::Open if self.checked.len() == MAX_CHECKS => Candidate::TooMany,
            Outlook::Open => {
                self.checked.push(token);
                candidate
            }
        }
    }

    /// Returns the first expired token. Its signature matters only for the reason that a client
    /// receives.
    pub const fn expired(&self) -> Option<&'h [u8]> {
        self.expired
    }
}

/// The most signatures that are checked for one request: 2 ms of a core. Such tokens have 650 bytes
/// at least, so that the default of `[limits] header_bytes` (64 KiB) has room for a hundred, and
/// forged ones displace no valid one.
const MAX_CHECKS: usize = 128;
