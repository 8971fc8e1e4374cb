//! YAML text as trees of located values, one per document, with the values that kubectl would send.
//!
//! kubectl reads YAML 1.1 with <https://github.com/yaml/go-yaml/tree/v2> behind `sigs.k8s.io/yaml`: `on` and
//! `yes` are booleans, `010` is 8. Where the two differ from what is read here, this side refuses: tags other
//! than those of JSON's types, keys that are null, fractions or no scalars.

mod scalar;

use std::collections::HashMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag, options};

use super::super::finding::quoted;
use super::{Entry, Location, MAX_DOCUMENTS, MAX_WEIGHT, NODE_WEIGHT, Node, SyntaxError, Value};
use scalar::plain;

/// How deep a document may nest, aliases followed.
const MAX_DEPTH: usize = 128;
/// How many of a document's errors are told: as many as findings are listed.
const MAX_ERRORS: usize = 100;
/// One document of a text.
#[derive(Debug)]
pub(crate) struct YamlDocument {
    /// Where it begins.
    pub(crate) at: Location,
    /// Its value, or why there is none.
    pub(crate) read: Result<Node, SyntaxError>,
    /// What was read, but would be something else for kubectl. Of no interest in an object of another kind.
    pub(crate) errors: Vec<SyntaxError>,
}

/// Reads every document, but none beyond [`MAX_DOCUMENTS`] and one. One with a syntax error does not hide those after
/// it.
pub(crate) fn read_yaml(text: &str) -> Vec<YamlDocument> {
    let mut options = options! {
        block_nesting_limit: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
        block_scalar_eof_without_line_feed: true,
    };
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    let mut builder: Option<Builder> = None;
    let mut tabs = None;
    while documents.len() <= MAX_DOCUMENTS
        && let Some(event) = parser.next_event()
    {
        let step = match event {
            Ok((Event::DocumentStart(..), span)) => {
                builder = Some(Builder::new(location(&span.start)));
                continue;
            }
            Ok((Event::DocumentEnd, _)) => {
                documents.extend(builder.take().map(Builder::finish));
                continue;
            }
            Ok((event, span)) => match &mut builder {
                Some(builder) => builder.take_event(event, location(&span.start)),
                None => continue,
            },
            Err(error) => Err(explain(&error, || {
                tabs.get_or_insert_with(|| indenting_tabs(text)).as_slice()
            })),
        };
        if let Err(error) = step {
            let at = builder.take().map_or(error.at, |builder| builder.begin);
            documents.push(YamlDocument {
                at,
                read: Err(error),
                errors: Vec::new(),
            });
            if !matches!(parser.proceed_next_document(), Ok(true)) {
                break;
            }
        }
    }
    documents
}

fn location(mark: &Marker) -> Location {
    Location {
        line: mark.line(),
        column: mark.col() + 1,
    }
}

/// `tabs` are those of [`indenting_tabs`].
fn explain<'t>(error: &ScanError, tabs: impl FnOnce() -> &'t [Location]) -> SyntaxError {
    let at = location(error.marker());
    if error.info().contains("tab") {
        let tabs = tabs();
        let next = tabs.partition_point(|tab| tab.line < at.line);
        // The scanner says where the text before the tab ends, or where that behind it begins.
        if let Some(tab) = tabs.get(next).filter(|tab| tab.line <= at.line + 1) {
            return SyntaxError {
                at: *tab,
                message: "not YAML: a tab where the line is indented; indent with spaces".to_owned(),
            };
        }
    }
    SyntaxError {
        at,
        message: format!("not YAML: {}", error.info()),
    }
}

/// The first tab that a line begins with, spaces aside, of each line that has one.
fn indenting_tabs(text: &str) -> Vec<Location> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(line, text)| {
            let column = text
                .find(|c| c != ' ')
                .filter(|at| text[*at..].starts_with('\t'))?;
            Some(Location {
                line: line + 1,
                column: column + 1,
            })
        })
        .collect()
}

/// A list or map that has begun and not ended.
struct Open {
    kind: OpenKind,
    at: Location,
    anchor: usize,
    /// The document's weight before it.
    weight_before: usize,
    /// The levels below it so far.
    height: usize,
}

enum OpenKind {
    List(Vec<Node>),
    /// With the key whose value comes next.
    Map(Vec<Entry>, Option<(String, Location)>),
}

/// A finished value that aliases may name.
struct Anchored {
    node: Node,
    weight: usize,
    height: usize,
}

/// Builds the tree of one document, on a stack of its own.
struct Builder {
    begin: Location,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    weight: usize,
    root: Option<Node>,
    errors: Vec<SyntaxError>,
}

impl Builder {
    fn new(begin: Location) -> Self {
        Self {
            begin,
            open: Vec::new(),
            anchors: HashMap::new(),
            weight: 0,
            root: None,
            errors: Vec::new(),
        }
    }

    fn finish(self) -> YamlDocument {
        let empty = Node {
            value: Value::Null,
            at: Some(self.begin),
        };
        YamlDocument {
            at: self.begin,
            read: Ok(self.root.unwrap_or(empty)),
            errors: self.errors,
        }
    }

    fn take_event(&mut self, event: Event<'_>, at: Location) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let before = self.weight;
                self.grow(NODE_WEIGHT + text.len(), at)?;
                let value = self.scalar(&text, style, tag.as_deref(), at);
                self.complete(Node { value, at: Some(at) }, anchor, before, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_collection_tag(tag.as_deref(), "seq", at);
                self.open(OpenKind::List(Vec::new()), anchor, at)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_collection_tag(tag.as_deref(), "map", at);
                self.open(OpenKind::Map(Vec::new(), None), anchor, at)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => {
                    // What grows an item at a time has room for several, and most are small.
                    let value = match open.kind {
                        OpenKind::List(mut items) => {
                            items.shrink_to_fit();
                            Value::List(items)
                        }
                        OpenKind::Map(mut entries, _) => {
                            entries.shrink_to_fit();
                            Value::Map(entries)
                        }
                    };
                    let node = Node {
                        value,
                        at: Some(open.at),
                    };
                    self.complete(node, open.anchor, open.weight_before, open.height)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => self.alias(anchor, at),
            _ => Ok(()),
        }
    }

    /// Repeats an anchored value; what it costs is checked before it is copied.
    fn alias(&mut self, anchor: usize, at: Location) -> Result<(), SyntaxError> {
        let before = self.weight;
        let Some(&Anchored { weight, height, .. }) = self.anchors.get(&anchor) else {
            return Err(SyntaxError {
                at,
                message: "an alias stands within the value that it names".to_owned(),
            });
        };
        self.grow(weight, at)?;
        if self.open.len() + height > MAX_DEPTH {
            return Err(too_deep(at));
        }
        match self.anchors.get(&anchor).map(|anchored| anchored.node.clone()) {
            Some(node) => self.complete(node, 0, before, height),
            None => Ok(()),
        }
    }

    fn open(&mut self, kind: OpenKind, anchor: usize, at: Location) -> Result<(), SyntaxError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        let weight_before = self.weight;
        self.grow(NODE_WEIGHT, at)?;
        self.open.push(Open {
            kind,
            at,
            anchor,
            weight_before,
            height: 1,
        });
        Ok(())
    }

    fn grow(&mut self, weight: usize, at: Location) -> Result<(), SyntaxError> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= MAX_WEIGHT {
            return Ok(());
        }
        Err(SyntaxError::too_large(at))
    }

    /// Puts a finished value where it belongs.
    fn complete(
        &mut self,
        node: Node,
        anchor: usize,
        weight_before: usize,
        height: usize,
    ) -> Result<(), SyntaxError> {
        if anchor != 0 {
            let weight = self.weight - weight_before;
            // The copy that aliases are made of takes memory as well, and so does its place in the map.
            self.grow(weight + 2 * NODE_WEIGHT, node.at.unwrap_or(self.begin))?;
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    weight,
                    height,
                },
            );
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.height = open.height.max(height + 1);
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map(entries, key) => match key.take() {
                Some((key, at)) => entries.push(Entry {
                    key,
                    at: Some(at),
                    value: node,
                }),
                None => *key = Some(as_key(node, self.begin, &mut self.errors)),
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Location) -> Value {
        let as_text = || Value::Text(text.to_owned());
        let Some(tag) = tag else {
            return if style == ScalarStyle::Plain {
                plain(text)
            } else {
                as_text()
            };
        };
        let value = match tag.core_suffix() {
            Some("str") => return as_text(),
            Some(suffix) => {
                let value = plain(text);
                let fits = matches!(
                    (&value, suffix),
                    (Value::Null, "null")
                        | (Value::Bool(_), "bool")
                        | (Value::Integer(_), "int")
                        | (Value::Number(_), "float")
                );
                fits.then_some(value)
            }
            None => None,
        };
        value.unwrap_or_else(|| {
            self.bad_tag(tag, at);
            as_text()
        })
    }

    fn check_collection_tag(&mut self, tag: Option<&Tag>, expected: &str, at: Location) {
        if let Some(tag) = tag
            && tag.core_suffix() != Some(expected)
        {
            self.bad_tag(tag, at);
        }
    }

    fn bad_tag(&mut self, tag: &Tag, at: Location) {
        if self.errors.len() == MAX_ERRORS {
            return;
        }
        let tag = quoted(&tag.original());
        self.errors.push(SyntaxError {
            at,
            message: format!("the tag {tag} does not go with this value; leave it out"),
        });
    }
}

fn too_deep(at: Location) -> SyntaxError {
    SyntaxError {
        at,
        message: format!("the document nests deeper than {MAX_DEPTH} levels"),
    }
}

/// A key as JSON can hold it: kubectl turns booleans and integers into text.
fn as_key(node: Node, begin: Location, errors: &mut Vec<SyntaxError>) -> (String, Location) {
    let at = node.at.unwrap_or(begin);
    let key = match node.value {
        Value::Text(text) => text,
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        other if errors.len() == MAX_ERRORS => other.describe(),
        other => {
            let message = format!("a key must be text, and this is {}", other.describe());
            errors.push(SyntaxError { at, message });
            other.describe()
        }
    };
    (key, at)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Node {
        let mut documents = read_yaml(text);
        assert_eq!(documents.len(), 1, "{documents:?}");
        let document = documents.remove(0);
        assert_eq!(document.errors, []);
        document.read.unwrap()
    }

    fn refused(text: &str) -> SyntaxError {
        read_yaml(text)
            .into_iter()
            .find_map(|document| document.read.err())
            .unwrap()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn quotes_and_tags_decide_before_the_text_does() {
        for (written, expected) in [
            ("010", Value::Integer(8)),
            ("\"1\"", text("1")),
            ("'on'", text("on")),
            ("!!str 1", text("1")),
            ("!!int 010", Value::Integer(8)),
            ("!!float 1.5", Value::Number("1.5".to_owned())),
            ("|-\n  on", text("on")),
        ] {
            assert_eq!(
                one(&format!("v: {written}\n")).get("v").unwrap().value,
                expected,
                "{written}"
            );
        }
    }

    #[test]
    fn keys_become_text_and_keep_their_places() {
        let node = one("# first\non: 1\n\"1\": 2\n  \n2: [a,\n  b]\n");
        let Value::Map(entries) = &node.value else {
            panic!()
        };
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["true", "1", "2"]);
        assert_eq!(entries[2].at, Some(Location { line: 5, column: 1 }));
        let path = super::super::FieldPath::root().key("2").index(1);
        assert_eq!(node.locate(&path), Some(Location { line: 6, column: 3 }));
    }

    #[test]
    fn every_document_is_read_past_one_with_a_syntax_error() {
        let documents = read_yaml("a: 1\n---\nb: [1\n---\nc: 3\n--- \n---\n# nothing\n");
        let read: Vec<_> = documents
            .iter()
            .map(|document| (document.at.line, document.read.is_ok()))
            .collect();
        assert_eq!(read.iter().filter(|(_, ok)| !ok).count(), 1, "{documents:?}");
        assert!(
            documents
                .iter()
                .any(|document| document.read.as_ref().is_ok_and(|node| node.get("c").is_some()))
        );
        assert_eq!(
            documents.last().unwrap().read.as_ref().unwrap().value,
            Value::Null
        );
    }

    #[test]
    fn tags_and_keys_that_kubectl_reads_differently_are_errors() {
        for written in [
            "v: !!binary aGk=",
            "v: !mine 1",
            "v: !!int one",
            "v: !!set {a}",
            "~: 1",
            "1.5: 1",
            "? [a]\n: 1",
        ] {
            let documents = read_yaml(written);
            assert_eq!(documents[0].errors.len(), 1, "{written}: {documents:?}");
        }
    }

    #[test]
    fn aliases_repeat_what_they_name() {
        let node = one("a: &a [1, {b: 2}]\nc: *a\n&k d: *k\n");
        assert_eq!(node.get("a"), node.get("c"));
        assert_eq!(node.get("d").unwrap().text(), Some("d"));
    }

    #[test]
    fn an_alias_within_its_own_value_is_refused() {
        assert!(refused("a: &a [1, *a]\n").message.contains("alias"));
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_before_it_goes_off() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..60 {
            let names = vec![format!("*a{}", level - 1); 9].join(", ");
            writeln!(bomb, "a{level}: &a{level} [{names}]").unwrap();
        }
        assert!(refused(&bomb).message.contains("too large"));

        let long = format!(
            "a: &a {}\nb:\n{}",
            "x".repeat(1024 * 1024),
            "- *a\n".repeat(100_000)
        );
        assert!(refused(&long).message.contains("too large"));
    }

    #[test]
    fn nesting_is_bounded_in_text_and_through_aliases() {
        assert!(
            read_yaml(&"[".repeat(100_000))
                .iter()
                .all(|document| document.read.is_err())
        );
        let mut block = String::new();
        for level in 0..5_000 {
            writeln!(block, "{}a:", " ".repeat(level)).unwrap();
        }
        assert!(read_yaml(&block).iter().any(|document| document.read.is_err()));

        let mut deep = format!("a0: &a0 {}{}\n", "[".repeat(50), "]".repeat(50));
        for level in 1..10 {
            let (open, close) = ("[".repeat(50), "]".repeat(50));
            writeln!(deep, "a{level}: &a{level} {open}*a{}{close}", level - 1).unwrap();
        }
        assert!(refused(&deep).message.contains("nests deeper"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            read_yaml(&text);
        }

        #[test]
        fn any_text_of_yaml_characters_is_read_without_panic(text in "[-\\[\\]{}:,?&*!|>'\"%@`#a0 \n\t]{0,60}") {
            read_yaml(&text);
        }

        #[test]
        fn what_serde_json_writes_is_the_same_value_in_yaml(number in any::<i64>(), word in "[ -~]{0,12}") {
            let value = serde_json::json!({"n": number, "t": word, "l": [null, true]});
            let mut node = one(&value.to_string());
            strip(&mut node);
            let mut expected = Node::from(&value);
            strip(&mut expected);
            prop_assert_eq!(node, expected);
        }
    }

    /// Removes places and the order of keys.
    fn strip(node: &mut Node) {
        node.at = None;
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(strip),
            Value::Map(entries) => {
                entries.sort_by(|one, other| one.key.cmp(&other.key));
                for entry in entries {
                    entry.at = None;
                    strip(&mut entry.value);
                }
            }
            _ => {}
        }
    }
}
