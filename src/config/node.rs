//! A parsed document, independent of its notation.

use std::collections::BTreeMap;
use std::fmt;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// A value and its position in the document.
pub(super) struct Node {
    value: Value,
    at: usize,
}

/// A value of one of TOML's types.
pub(super) enum Value {
    Boolean(bool),
    Integer(Integer),
    Float(f64),
    Text(String),
    /// A date or time without quotes.
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

    /// Returns the position: the byte in the file.
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
            Value::Boolean(_) => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::Date(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
