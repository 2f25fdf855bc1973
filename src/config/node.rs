//! A parsed document, the same for TOML and JSON, so that one set of readers serves both.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// A value and its position in the document.
///
/// A JSON pointer is not stored: readers know the keys on the way to a node.
pub(super) struct Node {
    value: Value,
    at: usize,
}

/// The types of both notations.
pub(super) enum Value {
    /// JSON only, and only as a list item: a member that is null counts as absent.
    Null,
    Boolean(bool),
    Integer(Integer),
    Float(f64),
    Text(String),
    /// A date or time without quotes, which only TOML has.
    Date(String),
    List(Vec<Node>),
    Table(Entries),
}

/// A whole number.
pub(super) struct Integer {
    /// `None` if it is outside of 128 bits.
    value: Option<i128>,
    /// The number as it was written, for messages.
    text: String,
}

/// The members of a table, by key.
#[derive(Default)]
pub(super) struct Entries(BTreeMap<String, Entry>);

/// A member of a table.
pub(super) struct Entry {
    /// The position of the key.
    pub(super) at: usize,
    pub(super) node: Node,
}

impl Node {
    /// Converts a parsed TOML document.
    pub(super) fn from_toml(document: Spanned<DeTable<'_>>) -> Self {
        let at = document.span().start;
        Self {
            value: Value::Table(Entries::from_toml(document.into_inner())),
            at,
        }
    }

    /// Parses JSON. Unlike `serde_json::Value`, it rejects a key that occurs twice: two parsers
    /// could disagree about which one counts.
    pub(super) fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let mut parser = serde_json::Deserializer::from_str(text);
        // serde_json limits the depth to 128, so recursion here cannot overflow the stack.
        let node = Numbered(&Cell::new(0)).deserialize(&mut parser)?;
        parser.end()?;
        Ok(node)
    }

    /// Returns the position: in TOML the byte in the file, in JSON the node's number. Both are in
    /// the order of the document.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn value(&self) -> &Value {
        &self.value
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) const fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Boolean(flag) => Some(flag),
            _ => None,
        }
    }

    pub(super) const fn as_integer(&self) -> Option<&Integer> {
        match &self.value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(super) const fn as_table(&self) -> Option<&Entries> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Returns the member of a table.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.as_table()?.get(key)
    }

    /// Returns the type's name, for messages.
    pub(super) const fn type_name(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Boolean(_) => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::Date(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    // The `toml` crate limits the depth to 80, so recursion here cannot overflow the stack.
    fn convert_toml(value: Spanned<DeValue<'_>>) -> Self {
        let at = value.span().start;
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => Value::Integer(Integer::from_toml(&number)),
            // The parser has checked the form; not-a-number is outside of every range.
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(flag) => Value::Boolean(flag),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(list) => Value::List(list.into_iter().map(Self::convert_toml).collect()),
            DeValue::Table(table) => Value::Table(Entries::from_toml(table)),
        };
        Self { value, at }
    }
}

impl Integer {
    fn from_toml(number: &DeInteger<'_>) -> Self {
        Self {
            value: i128::from_str_radix(number.as_str(), number.radix()).ok(),
            text: number.to_string(),
        }
    }

    fn new(value: i128) -> Self {
        Self {
            value: Some(value),
            text: value.to_string(),
        }
    }

    /// Returns the number if it fits the type.
    pub(super) fn get<T: TryFrom<i128>>(&self) -> Option<T> {
        self.value.and_then(|value| T::try_from(value).ok())
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Entries {
    pub(super) const EMPTY: &'static Self = &Self(BTreeMap::new());

    fn from_toml(table: DeTable<'_>) -> Self {
        let entry = |(key, value): (Spanned<std::borrow::Cow<'_, str>>, _)| {
            let entry = Entry {
                at: key.span().start,
                node: Node::convert_toml(value),
            };
            (key.into_inner().into_owned(), entry)
        };
        Self(table.into_iter().map(entry).collect())
    }

    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.0.get(key).map(|entry| &entry.node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Deserializes nodes and numbers them in the order of the document.
#[derive(Clone, Copy)]
struct Numbered<'c>(&'c Cell<usize>);

impl Numbered<'_> {
    fn next(self) -> usize {
        let at = self.0.get();
        self.0.set(at + 1);
        at
    }

    fn leaf<E>(self, value: Value) -> Result<Node, E> {
        let at = self.next();
        Ok(Node { value, at })
    }
}

impl<'de> DeserializeSeed<'de> for Numbered<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Node, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Numbered<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        self.leaf(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        self.leaf(Value::Boolean(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        self.leaf(Value::Integer(Integer::new(number.into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        self.leaf(Value::Integer(Integer::new(number.into())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        self.leaf(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        self.leaf(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let at = self.next();
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        let value = Value::List(list);
        Ok(Node { value, at })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let at = self.next();
        let mut entries = BTreeMap::new();
        while let Some(key) = members.next_key::<String>()? {
            let (at, node) = (self.next(), members.next_value_seed(self)?);
            // Checked before null members are removed: `null` and a value under one key are a
            // contradiction, too.
            if entries.contains_key(&key) {
                return Err(de::Error::custom("duplicate key"));
            }
            entries.insert(key, Entry { at, node });
        }
        // Cloudflare's API: null unsets a member. Clients send it for members that they do not use.
        entries.retain(|_, entry| !matches!(entry.node.value, Value::Null));
        let value = Value::Table(Entries(entries));
        Ok(Node { value, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_member_is_absent_and_null_item_is_not() {
        let node = Node::from_json(r#"{"a": null, "b": [null], "c": {"d": null}}"#).unwrap();
        let keys: Vec<_> = node
            .as_table()
            .unwrap()
            .iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, ["b", "c"]);
        assert_eq!(
            node.get("b").unwrap().as_list().unwrap()[0].type_name(),
            "null"
        );
        assert_eq!(node.get("c").unwrap().as_table().unwrap().len(), 0);
    }

    #[test]
    fn json_with_a_duplicate_key_or_a_tail_is_rejected() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": null, "a": 1}"#,
            "{} {}",
            "{}]",
            "",
            "nul",
        ] {
            assert!(Node::from_json(text).is_err(), "{text}");
        }
        assert!(Node::from_json(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn numbers_keep_their_size_and_their_text() {
        let document = DeTable::parse("a = 0x1000\nb = 18446744073709551615\nc = -1").unwrap();
        let node = Node::from_toml(document);
        let number = |key| node.get(key).unwrap().as_integer().unwrap();
        assert_eq!(
            (number("a").get::<u16>(), number("a").to_string().as_str()),
            (Some(4096), "0x1000")
        );
        assert_eq!(
            (number("b").get::<u64>(), number("b").get::<i64>()),
            (Some(u64::MAX), None)
        );
        assert_eq!(
            (number("c").get::<u64>(), number("c").get::<i32>()),
            (None, Some(-1))
        );
        let node = Node::from_json("18446744073709551615").unwrap();
        assert_eq!(node.as_integer().unwrap().get::<u64>(), Some(u64::MAX));
    }
}
