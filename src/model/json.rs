use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A struct that is read from a JSON object and from nothing else. Serde alone would also accept an array with the members
/// in their order.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// Parses a JSON object.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json).map(|Object(value)| value)
}

/// Parses a document that is a JSON object, with or without a byte order mark (RFC 8259 8.1).
pub(crate) fn document<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    object(json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Pair<'a> {
        #[serde(borrow)]
        a: Cow<'a, str>,
        b: Option<u8>,
    }

    #[test]
    fn array_is_not_an_object() {
        let json = br#" {"a":"x","b":1,"c":[]}"#;
        assert_eq!(object::<Pair<'_>>(json).unwrap(), Pair { a: Cow::Borrowed("x"), b: Some(1) });
        assert!(matches!(object::<Pair<'_>>(json).unwrap().a, Cow::Borrowed(_)));
        for other in [r#"["x",1]"#, "null", "\"x\"", "1", "", "{}", r#"{"a":"x"}{}"#, r#"{"a":"x","a":"y"}"#] {
            assert!(object::<Pair<'_>>(other.as_bytes()).is_err(), "{other}");
        }
        assert!(serde_json::from_str::<Pair<'_>>(r#"["x",1]"#).is_ok(), "serde alone takes it");
    }

    #[test]
    fn document_may_begin_with_one_byte_order_mark() {
        assert!(document::<Pair<'_>>("\u{feff}{\"a\":\"x\"}".as_bytes()).is_ok());
        assert!(document::<Pair<'_>>("\u{feff}\u{feff}{\"a\":\"x\"}".as_bytes()).is_err());
        assert!(object::<Pair<'_>>("\u{feff}{\"a\":\"x\"}".as_bytes()).is_err());
    }
}
