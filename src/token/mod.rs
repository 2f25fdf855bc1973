//! Access tokens: reading, verifying and signing them (RFC 7515, 7519; the claims are Cloudflare
//! Access's).
//!
//! Decides whether a string is a token that a known key of the expected issuer signed, for this
//! moment. Trusts the keys it is given and nothing in the token. Never falls back: RS256 or
//! nothing, and a claim of the wrong type is fatal.

mod candidates;
mod claims;
mod evaluation;
pub(crate) mod jwk;
mod keys;
mod sign;
mod verify;

pub use candidates::{Candidate, Candidates};
pub use claims::{Claims, Kind, OrganisationClaims, ServiceClaims};
pub use evaluation::{EVALUATION_LIFETIME, EvaluationClaims, EvaluationError, read_evaluation};
pub use jwk::UnusableKey;
pub use keys::{KeyError, KeySet};
pub use sign::{SigningKey, SigningKeyError};
pub use verify::{MAX_TOKEN_BYTES, Outlook, TokenError, UnverifiedToken, VerifiedToken};
