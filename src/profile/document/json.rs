//! JSON text as a tree of located values.
//!
//! `serde_json` alone decides what is JSON and what its values are. It tells no places, so a scanner runs along
//! in the same text: keys and values begin in the order in which the decoder meets them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Entry, Location, MAX_WEIGHT, NODE_WEIGHT, Node, SyntaxError, Value};

/// Reads exactly one JSON value: no byte order mark, comment, trailing comma or second value, and at most 128
/// levels deep.
pub(crate) fn read_json(text: &str) -> Result<Node, SyntaxError> {
    let mut decoder = serde_json::Deserializer::from_str(text);
    let mut scanner = Scanner::new(text);
    let read = Place(&mut scanner).deserialize(&mut decoder);
    read.and_then(|node| decoder.end().map(|()| node))
        .map_err(|error| {
            if scanner.weight > MAX_WEIGHT {
                SyntaxError::too_large(scanner.at)
            } else {
                explain(text, &error)
            }
        })
}

fn explain(text: &str, error: &serde_json::Error) -> SyntaxError {
    // `serde_json` counts bytes, and says 0 for "before the first".
    let line = error.line().max(1);
    let begin = text.split('\n').nth(line - 1).unwrap_or_default();
    let bytes = error.column().saturating_sub(1).min(begin.len());
    let column = begin
        .char_indices()
        .take_while(|(index, _)| *index < bytes)
        .count()
        + 1;

    let full = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let reason = full.strip_suffix(&place).unwrap_or(&full);
    let message = if text.starts_with('\u{feff}') {
        "not JSON: the text begins with a byte order mark; save it as UTF-8 without one".to_owned()
    } else if let Some(rest) = begin.get(bytes..)
        && ["//", "/*", "#"].iter().any(|mark| rest.starts_with(mark))
    {
        "not JSON: it has no comments; remove this one".to_owned()
    } else {
        format!("not JSON: {reason}")
    };
    SyntaxError {
        at: Location { line, column },
        message,
    }
}

/// Where the keys and values of a JSON text begin, in order. What it says of a text that is no JSON has no
/// meaning, and is not used.
struct Scanner<'a> {
    rest: &'a str,
    at: Location,
    /// About the bytes that the tree takes so far.
    weight: usize,
}

impl<'a> Scanner<'a> {
    const fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            at: Location { line: 1, column: 1 },
            weight: 0,
        }
    }

    /// The next key or value: its place, and its text where it is not a list or an object. An error where the tree
    /// would take too much with it.
    fn next<E: Error>(&mut self) -> Result<(Location, &'a str), E> {
        let skipped = self
            .rest
            .find(|c: char| !matches!(c, ' ' | '\t' | '\r' | '\n' | ',' | ':' | ']' | '}'));
        self.advance(skipped.unwrap_or(self.rest.len()));
        let at = self.at;
        let token = self.advance(token_length(self.rest));
        self.weight += NODE_WEIGHT + token.len();
        if self.weight > MAX_WEIGHT {
            return Err(E::custom("too large"));
        }
        Ok((at, token))
    }

    fn advance(&mut self, length: usize) -> &'a str {
        let (passed, rest) = self.rest.split_at(length);
        for character in passed.chars() {
            if character == '\n' {
                self.at = Location {
                    line: self.at.line + 1,
                    column: 1,
                };
            } else {
                self.at.column += 1;
            }
        }
        self.rest = rest;
        passed
    }
}

/// The length in bytes of the token that a text begins with; always at a boundary of characters.
fn token_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        None => 0,
        Some(b'{' | b'[') => 1,
        Some(b'"') => {
            let mut escaped = false;
            let end = bytes[1..].iter().position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            });
            end.map_or(bytes.len(), |end| end + 2)
        }
        Some(_) => text
            .find([' ', '\t', '\r', '\n', ',', ':', ']', '}', '"', '[', '{'])
            .unwrap_or(text.len()),
    }
}

/// Reads one value, and takes its place from the scanner.
struct Place<'s, 'a>(&'s mut Scanner<'a>);

impl<'de> DeserializeSeed<'de> for Place<'_, '_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Node, D::Error> {
        let (at, text) = self.0.next()?;
        let value = decoder.deserialize_any(Build {
            scanner: self.0,
            text,
        })?;
        Ok(Node { value, at: Some(at) })
    }
}

/// Reads one key, and takes its place from the scanner.
struct Key<'s, 'a>(&'s mut Scanner<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = (String, Location);

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Self::Value, D::Error> {
        let (at, _) = self.0.next()?;
        Ok((serde::Deserialize::deserialize(decoder)?, at))
    }
}

struct Build<'s, 'a> {
    scanner: &'s mut Scanner<'a>,
    /// How the value is written.
    text: &'a str,
}

impl<'de> Visitor<'de> for Build<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Number(self.text.to_owned()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Place(self.scanner))? {
            items.push(item);
        }
        // What grows an item at a time has room for several, and most are small.
        items.shrink_to_fit();
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, at)) = access.next_key_seed(Key(self.scanner))? {
            let value = access.next_value_seed(Place(self.scanner))?;
            entries.push(Entry {
                key,
                at: Some(at),
                value,
            });
        }
        entries.shrink_to_fit();
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fuzz::check_places;
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> (usize, usize, String) {
        let error = read_json(text).unwrap_err();
        (error.at.line, error.at.column, error.message)
    }

    #[test]
    fn what_is_not_strictly_json_is_refused_with_its_place() {
        for (text, line, column) in [
            ("", 1, 1),
            ("  \n ", 2, 1),
            ("{\"a\": 1,}", 1, 9),
            ("[1, 2,\n]", 2, 1),
            ("{\"a\": 1 // why\n}", 1, 9),
            ("{\"a\": yes}", 1, 7),
            ("{\"é\": yes}", 1, 7),
            ("{} {}", 1, 4),
            ("{\"a\": 0x10}", 1, 8),
            ("{\"a\": 01}", 1, 8),
            ("{'a': 1}", 1, 2),
        ] {
            let (found_line, found_column, message) = refused(text);
            assert_eq!((found_line, found_column), (line, column), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_named() {
        let (line, column, message) = refused("\u{feff}{}");
        assert_eq!((line, column), (1, 1));
        assert!(message.contains("byte order mark"), "{message}");
    }

    #[test]
    fn nesting_ends_before_the_stack_does() {
        let (_, _, message) = refused(&"[".repeat(1_000_000));
        assert!(message.contains("recursion limit"), "{message}");
        let (_, _, message) = refused(&"{\"a\":".repeat(200_000));
        assert!(message.contains("recursion limit"), "{message}");
    }

    #[test]
    fn numbers_keep_what_was_written() {
        let Value::List(items) = read_json("[0, 18446744073709551615, -1, 2.0, 1e3,18446744073709551616,-0]")
            .unwrap()
            .value
        else {
            panic!()
        };
        let values: Vec<_> = items.into_iter().map(|node| node.value).collect();
        assert_eq!(
            values,
            [
                Value::Integer(0),
                Value::Integer(u64::MAX.into()),
                Value::Integer(-1),
                Value::Number("2.0".to_owned()),
                Value::Number("1e3".to_owned()),
                Value::Number("18446744073709551616".to_owned()),
                Value::Number("-0".to_owned()),
            ]
        );
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            "[\\\\\"a:,{}\\[\\]]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_is_read_and_placed(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let node = read_json(&text).unwrap();
            check_places(&node, &text);
        }

        #[test]
        fn any_text_is_accepted_exactly_when_serde_json_accepts_it(text in "[\\[\\]{}\",: \\\\a0-9eE.+\\-truefalsn\n]{0,40}") {
            let expected = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(read_json(&text).is_ok(), expected);
        }
    }
}
