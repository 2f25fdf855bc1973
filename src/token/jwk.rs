use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::model::json;

/// The elements of a JWKS (RFC 7517 5). Each is read by itself, whatever the others are.
///
/// # Errors
/// If the document is not an object with an array `keys`.
pub(crate) fn elements(document: &[u8]) -> serde_json::Result<Vec<Value>> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }
    json::document(json::mended(document).as_bytes()).map(|Document { keys }| keys)
}

/// One JSON Web Key (RFC 7517 4). Each member is read when it is needed.
#[derive(Clone, Copy)]
pub(crate) struct Jwk<'a>(&'a Map<String, Value>);

/// A key that cannot be used. Holds nothing of its value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnusableKey {
    /// Not a JSON object.
    #[error("it is not an object")]
    Shape,
    /// A member is missing or malformed.
    #[error("`{0}` is missing or cannot be read")]
    Member(&'static str),
    /// The key is for another purpose or algorithm, which is not a fault.
    #[error("`{0}` names another purpose or algorithm")]
    Purpose(&'static str),
    /// An RSA modulus outside of 2048 to 8192 bits, or an unsound exponent.
    #[error("the RSA key is too weak, too large or unsound")]
    Weak,
    /// A point that is not on its curve.
    #[error("`x` and `y` are not a point on the curve")]
    Point,
}

/// The public half of an RSA key, without leading zeros: 2048 to 8192 bits, and an odd exponent
/// from 3 to 32 bits.
pub(crate) struct Rsa {
    pub(crate) n: Vec<u8>,
    pub(crate) e: Vec<u8>,
}

impl<'a> Jwk<'a> {
    pub(crate) fn new(value: &'a Value) -> Result<Self, UnusableKey> {
        value.as_object().map(Self).ok_or(UnusableKey::Shape)
    }

    /// The string; `None` if it is absent or null, and also if it is empty and not `kid`.
    pub(crate) fn text(self, name: &'static str) -> Result<Option<&'a str>, UnusableKey> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                Ok(Some(text.as_str()).filter(|text| !text.is_empty() || name == "kid"))
            }
            Some(_) => Err(UnusableKey::Member(name)),
        }
    }

    /// RFC 7517 4.2 and 4.3: a key without a purpose is for any.
    pub(crate) fn verifies_signatures(self) -> Result<(), UnusableKey> {
        if self.text("use")?.is_some_and(|usage| usage != "sig") {
            return Err(UnusableKey::Purpose("use"));
        }
        match self.0.get("key_ops") {
            None | Some(Value::Null) => Ok(()),
            // An empty list is equivalent to none.
            Some(Value::Array(operations))
                if operations.is_empty() || operations.iter().any(|one| one == "verify") =>
            {
                Ok(())
            }
            Some(Value::String(operation)) if operation.is_empty() || operation == "verify" => {
                Ok(())
            }
            Some(Value::Array(_) | Value::String(_)) => Err(UnusableKey::Purpose("key_ops")),
            Some(_) => Err(UnusableKey::Member("key_ops")),
        }
    }

    /// RFC 7518 6.3.1.
    pub(crate) fn rsa(self) -> Result<Rsa, UnusableKey> {
        let (n, e) = (self.integer("n")?, self.integer("e")?);
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        let odd = e.last().is_some_and(|last| last & 1 == 1);
        let sound = (2048..=8192).contains(&bits) && (1..=4).contains(&e.len()) && odd && *e != [1];
        if sound {
            Ok(Rsa { n, e })
        } else {
            Err(UnusableKey::Weak)
        }
    }

    /// An uncompressed point (SEC 1 2.3.3). RFC 7518 6.2.1.2 wants coordinates of full width; a
    /// shorter one has lost zeros.
    #[cfg(feature = "protocols")]
    pub(crate) fn point(self, width: usize) -> Result<Vec<u8>, UnusableKey> {
        let mut point = vec![4];
        for name in ["x", "y"] {
            let coordinate = self.integer(name)?;
            let zeros = width
                .checked_sub(coordinate.len())
                .ok_or(UnusableKey::Member(name))?;
            point.extend(std::iter::repeat_n(0, zeros));
            point.extend(coordinate);
        }
        Ok(point)
    }

    /// An unsigned big-endian integer, without leading zeros.
    fn integer(self, name: &'static str) -> Result<Vec<u8>, UnusableKey> {
        Ok(self
            .bytes(name)?
            .into_iter()
            .skip_while(|byte| *byte == 0)
            .collect())
    }

    /// Decodes base64url. Accepts padding, line breaks and the standard alphabet, because they are
    /// unambiguous.
    pub(crate) fn bytes(self, name: &'static str) -> Result<Vec<u8>, UnusableKey> {
        let text: String = self
            .text(name)?
            .ok_or(UnusableKey::Member(name))?
            .split_ascii_whitespace()
            .collect();
        let engine = if text.contains(['+', '/']) {
            &PLAIN
        } else {
            &URL
        };
        engine.decode(text).map_err(|_| UnusableKey::Member(name))
    }
}

// Some providers pad the members of their keys, although RFC 7515 2 forbids it. The bytes are the
// same.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
static URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
static PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
