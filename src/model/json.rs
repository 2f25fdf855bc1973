use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A struct that is read from a JSON object and from nothing else. Serde alone would also accept an
/// array with the members in their order.
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

/// Returns the text of a foreign document, so that one malformed character in an unused member
/// leaves the others readable. Octets that are not UTF-8 and escaped halves of surrogate pairs
/// become U+FFFD, which no configured value contains. A leading byte order mark is dropped.
pub(crate) fn mended(document: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document));
    // Cheap, and true for nearly all documents.
    let is_whole = !text.contains("\\ud") && !text.contains("\\uD");
    if is_whole {
        text
    } else {
        Cow::Owned(with_whole_surrogates(&text))
    }
}

fn with_whole_surrogates(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        whole.push_str(before);
        let (mended, taken) = match (code_unit(escape), escape.get(ESCAPE..).and_then(code_unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (None, 2 * ESCAPE),
            (Some(0xd800..=0xdfff), _) => (Some("\\ufffd"), ESCAPE),
            (Some(_), _) => (None, ESCAPE),
            (None, _) => (None, escape.chars().take(2).map(char::len_utf8).sum()),
        };
        let (escape, after) = escape.split_at_checked(taken).unwrap_or((escape, ""));
        whole.push_str(mended.unwrap_or(escape));
        rest = after;
    }
    whole.push_str(rest);
    whole
}

/// The code unit of an escape such as `\u00e4` at the beginning of a text.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// The bytes of an escaped code unit.
const ESCAPE: usize = 6;

#[cfg(test)]
mod tests {
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
        assert_eq!(
            object::<Pair<'_>>(json).unwrap(),
            Pair {
                a: Cow::Borrowed("x"),
                b: Some(1)
            }
        );
        assert!(matches!(
            object::<Pair<'_>>(json).unwrap().a,
            Cow::Borrowed(_)
        ));
        for other in [
            r#"["x",1]"#,
            "null",
            "\"x\"",
            "1",
            "",
            "{}",
            r#"{"a":"x"}{}"#,
            r#"{"a":"x","a":"y"}"#,
        ] {
            assert!(object::<Pair<'_>>(other.as_bytes()).is_err(), "{other}");
        }
        assert!(
            serde_json::from_str::<Pair<'_>>(r#"["x",1]"#).is_ok(),
            "serde alone takes it"
        );
    }

    #[test]
    fn bad_characters_of_a_document_are_replaced() {
        for (document, text) in [
            (&b"{}"[..], "{}"),
            (b"\xef\xbb\xbf{}", "{}"),
            (b"\"caf\xe9\"", "\"caf\u{fffd}\""),
            (br#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (br#""Ada \ud83d""#, r#""Ada \ufffd""#),
            (
                br#""\ude00\ud83dx\uD83D\u0041""#,
                r#""\ufffd\ufffdx\ufffd\u0041""#,
            ),
            (br#""\\ud83d""#, r#""\\ud83d""#),
            (br#""\\\ud83d\"""#, r#""\\\ufffd\"""#),
            (br#""\ud83"#, r#""\ud83"#),
            (br"\ud83d\", r"\ufffd\"),
            ("\\\u{e4}\\ud83d".as_bytes(), "\\\u{e4}\\ufffd"),
        ] {
            assert_eq!(mended(document), text);
        }
        let mended = mended(br#"{"a":"\ud800\u005c"}"#);
        let value: serde_json::Value = serde_json::from_str(&mended).unwrap();
        assert_eq!(value["a"], "\u{fffd}\\");
    }

    #[test]
    fn document_may_begin_with_one_byte_order_mark() {
        assert!(document::<Pair<'_>>("\u{feff}{\"a\":\"x\"}".as_bytes()).is_ok());
        assert!(document::<Pair<'_>>("\u{feff}\u{feff}{\"a\":\"x\"}".as_bytes()).is_err());
        assert!(object::<Pair<'_>>("\u{feff}{\"a\":\"x\"}".as_bytes()).is_err());
    }
}
