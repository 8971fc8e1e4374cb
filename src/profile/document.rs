//! A document as a tree of located values, whatever it was written in.
//!
//! Knows JSON and YAML, and nothing of profiles. The tree keeps what a decision about a profile needs and an
//! ordinary decoder loses: the order of keys, keys that stand twice, the difference between `2` and `2.0`, and
//! the place of each key and value in the text.

mod json;
mod yaml;

use std::collections::BTreeSet;

pub(crate) use json::read_json;
pub(super) use yaml::read_yaml;

use super::finding::{FieldPath, Location, quoted};

/// The longest text that is read, in bytes: a bundle of some hundred profiles of Docker's size.
pub const MAX_TEXT: usize = 4 * 1024 * 1024;

/// How many documents a text may have: what is kept of each, and said of it, has a bound that this is multiplied with.
pub(super) const MAX_DOCUMENTS: usize = 4_096;
/// What the tree of a document may take, in bytes, aliases followed: as much as the profiles of the longest text in
/// any usual form. A hostile text has a value in every other byte.
const MAX_WEIGHT: usize = 32 * 1024 * 1024;
/// What a value or a key takes beside its text: itself, and about as much as the allocator needs for the text.
const NODE_WEIGHT: usize = size_of::<Node>() + 16;

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// Where it begins; `None` in what was not read from a text.
    pub(crate) at: Option<Location>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Written without fraction or exponent, and within what 64 bits hold, with or without a sign.
    Integer(i128),
    /// Every other number, as it was written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Option<Location>,
    pub(crate) value: Node,
}

/// A text that is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) at: Location,
    pub(crate) message: String,
}

impl SyntaxError {
    /// Of a tree beyond [`MAX_WEIGHT`].
    fn too_large(at: Location) -> Self {
        let limit = MAX_WEIGHT / (1024 * 1024);
        let message = format!(
            "the document is too large: what it holds, with its aliases followed, takes more than {limit} MiB of \
             memory; split it"
        );
        Self { at, message }
    }
}

impl Value {
    /// What it is, for a message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Number(text) => format!("the number {text}"),
            Self::Text(text) => format!("the text {}", quoted(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "an object".to_owned(),
        }
    }
}

impl Node {
    /// The entry of a map, the last one of that key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().rev().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value of a map's key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of the value that the path leads to, or of the nearest one around it.
    pub(super) fn locate(&self, path: &FieldPath) -> Option<Location> {
        let mut node = self;
        let mut rest = path.as_str();
        while let Some((inner, after)) = node.step(rest) {
            (node, rest) = (inner, after);
        }
        node.at
    }

    /// The value that the first step of a path leads to, and the rest of the path.
    fn step<'p>(&self, path: &'p str) -> Option<(&Self, &'p str)> {
        let after = |step: &str| {
            let rest = path.strip_prefix(step)?;
            match rest.as_bytes().first() {
                None | Some(b'[') => Some(rest),
                Some(b'.') => Some(&rest[1..]),
                Some(_) => None,
            }
        };
        match &self.value {
            Value::List(items) => {
                let (index, _) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, after(&format!("[{index}]"))?))
            }
            Value::Map(entries) => entries.iter().rev().find_map(|entry| {
                let rest = after(FieldPath::root().key(&entry.key).as_str())?;
                Some((&entry.value, rest))
            }),
            _ => None,
        }
    }

    /// The entries of a map whose key an earlier one has.
    pub(super) fn repeated_keys(&self) -> impl Iterator<Item = &Entry> {
        let entries = match &self.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        let mut seen = BTreeSet::new();
        entries
            .iter()
            .filter(move |entry| !seen.insert(entry.key.as_str()))
    }
}

impl From<&serde_json::Value> for Node {
    /// Recurses as deep as the value is; `serde_json` reads no deeper than 128 levels.
    fn from(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match value {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => {
                let integer = number
                    .as_u64()
                    .map(i128::from)
                    .or_else(|| number.as_i64().map(i128::from));
                integer.map_or_else(|| Value::Number(number.to_string()), Value::Integer)
            }
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from).collect()),
            Json::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        at: None,
                        value: Self::from(value),
                    })
                    .collect(),
            ),
        };
        Self { value, at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> FieldPath {
        keys.iter()
            .fold(FieldPath::root(), |path, key| match key.parse() {
                Ok(index) => path.index(index),
                Err(_) => path.key(key),
            })
    }

    #[test]
    fn a_path_leads_to_the_place_of_its_value() {
        let text = "{\n  \"a.b\": 1, \"a\": [\n    {\"c\": 7},\n [[2]]]\n}";
        let node = read_json(text).unwrap();
        let place = |keys: &[&str]| node.locate(&path(keys)).map(|at| (at.line, at.column));
        assert_eq!(place(&[]), Some((1, 1)));
        assert_eq!(place(&["a.b"]), Some((2, 10)));
        assert_eq!(place(&["a"]), Some((2, 18)));
        assert_eq!(place(&["a", "0", "c"]), Some((3, 11)));
        assert_eq!(place(&["a", "1", "0", "0"]), Some((4, 4)));
    }

    #[test]
    fn a_path_to_what_is_missing_leads_to_what_is_around_it() {
        let node = read_json("{\n \"a\": {\n\"b\": [1]}}").unwrap();
        let place = |keys: &[&str]| node.locate(&path(keys)).map(|at| at.line);
        assert_eq!(place(&["a", "x", "y"]), Some(2));
        assert_eq!(place(&["a", "b", "7"]), Some(3));
        assert_eq!(place(&["ab"]), Some(1));
    }

    #[test]
    fn a_repeated_key_is_found_where_it_stands_again() {
        let node = read_json("{\"a\": 1, \"b\": 2,\n \"a\": 3}").unwrap();
        let repeated: Vec<_> = node
            .repeated_keys()
            .map(|entry| (entry.key.as_str(), entry.at))
            .collect();
        assert_eq!(repeated, [("a", Some(Location { line: 2, column: 2 }))]);
    }

    #[test]
    fn a_value_of_serde_json_keeps_numbers_apart() {
        let value: serde_json::Value =
            serde_json::from_str("[1, 18446744073709551615, -9223372036854775808, 2.0, 1e3]").unwrap();
        let Value::List(items) = Node::from(&value).value else {
            panic!()
        };
        let values: Vec<_> = items.into_iter().map(|node| node.value).collect();
        assert_eq!(
            values,
            [
                Value::Integer(1),
                Value::Integer(u64::MAX.into()),
                Value::Integer(i64::MIN.into()),
                Value::Number("2.0".to_owned()),
                Value::Number("1000.0".to_owned()),
            ]
        );
    }
}
