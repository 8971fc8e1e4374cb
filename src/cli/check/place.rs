//! Places in a text: the part of a line to show, and the word in it to mark. Knows no findings.
//!
//! A file may be one line of megabytes with a finding every few bytes, so a place is found without walking to it
//! from the beginning, and only its surroundings are looked at.

use std::ops::Range;

use crate::profile::{Location, is_json};
use crate::text::printable;

/// Characters of a line that are shown before and after the word, and of the word.
const AROUND: usize = 200;
/// Characters between two whose offset is known.
const STRIDE: usize = 256;

/// A text, and where its lines begin.
pub(super) struct Places<'a> {
    text: &'a str,
    /// The number of the first character of each line.
    lines: Vec<usize>,
    /// The offset of every [`STRIDE`]th character.
    strides: Vec<usize>,
    /// In characters.
    length: usize,
}

/// The part of a line that a finding is about, fit for a terminal, and the word in it. The word is empty where
/// the line ends.
pub(super) struct Excerpt {
    /// Character for character what the text has there, but for marks of what was cut.
    pub(super) source: String,
    pub(super) word: Range<usize>,
    /// Whether the line's beginning is missing, so that columns of `source` are not the line's.
    pub(super) begins_late: bool,
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // No parser counts a byte order mark as a column.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // A text of nothing but line ends has millions: their room is not doubled again and again.
        let most = text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
        let (mut lines, mut strides, mut length) = (Vec::with_capacity(most), Vec::new(), 0);
        lines.push(0);
        let ends_line = line_ends(text);
        for (offset, character) in text.char_indices() {
            if length % STRIDE == 0 {
                strides.push(offset);
            }
            length += 1;
            if ends_line(offset, character) {
                lines.push(length);
            }
        }
        Self {
            text,
            lines,
            strides,
            length,
        }
    }

    /// The surroundings of a place; `None` for one outside the text.
    pub(super) fn excerpt(&self, place: Location) -> Option<Excerpt> {
        let ((begins_late, before), after) = self.around(place)?;
        let word = word(after);
        let rest = &after[word.len()..];
        let end = first(rest, AROUND);
        let mut source = cut_mark(begins_late).to_owned() + &shown(before);
        let start = source.len();
        source.push_str(&shown(word));
        let word = start..source.len();
        source.push_str(&shown(end));
        source.push_str(cut_mark(end.len() < rest.len()));
        Some(Excerpt {
            source,
            word,
            begins_late,
        })
    }

    /// How many characters the word at a place has; `None` outside the text.
    pub(super) fn word_length(&self, place: Location) -> Option<usize> {
        self.around(place).map(|(_, after)| word(after).chars().count())
    }

    /// What stands before a place in its line, and whether that was cut; and what stands from there on.
    fn around(&self, place: Location) -> Option<((bool, &'a str), &'a str)> {
        let begin = *self.lines.get(place.line.checked_sub(1)?)?;
        let at = begin.checked_add(place.column.checked_sub(1)?)?;
        let from = at.saturating_sub(AROUND).max(begin);
        let (from_offset, at_offset) = (self.offset(from)?, self.offset(at)?);
        if self.lines.get(place.line).is_some_and(|next| at >= *next) {
            return None;
        }
        let rest = first(&self.text[at_offset..], 2 * AROUND + 1);
        let length = match self.lines.get(place.line) {
            Some(next) => self.offset(*next)?.min(at_offset + rest.len()) - at_offset,
            None => rest.len(),
        };
        let after = rest[..length].trim_end_matches(['\r', '\n']);
        Some(((from > begin, &self.text[from_offset..at_offset]), after))
    }

    /// Where in the text a character begins, or the text ends.
    fn offset(&self, number: usize) -> Option<usize> {
        if number == self.length {
            return Some(self.text.len());
        }
        let stride = *self.strides.get(number / STRIDE)?;
        let mut offsets = self.text[stride..].char_indices();
        offsets.nth(number % STRIDE).map(|(offset, _)| stride + offset)
    }
}

/// What ends a line: for JSON, a line feed; in YAML, a carriage return that no line feed follows does as well.
/// Source: <https://yaml.org/spec/1.2.2/#54-line-break-characters>.
fn line_ends(text: &str) -> impl Fn(usize, char) -> bool {
    let is_json = is_json(text);
    move |offset, character| match character {
        '\n' => true,
        '\r' => !is_json && text.as_bytes().get(offset + 1) != Some(&b'\n'),
        _ => false,
    }
}

/// The word that a text begins with, without what separates it from the next; at most [`AROUND`] characters.
fn word(text: &str) -> &str {
    let text = first(text, AROUND);
    let length = match text.chars().next() {
        None => 0,
        Some(quote @ ('"' | '\'')) => {
            let mut escaped = false;
            let end = text.char_indices().skip(1).find(|(_, character)| {
                let ends = *character == quote && !escaped;
                escaped = quote == '"' && *character == '\\' && !escaped;
                ends
            });
            end.map_or(text.len(), |(end, _)| end + 1)
        }
        Some(begin) => {
            let end = text.find([' ', ',', ':', '[', '{', ']', '}', '\t']);
            // A place that begins with one of these is that bracket's.
            end.unwrap_or(text.len()).max(begin.len_utf8())
        }
    };
    &text[..length]
}

/// At most so many characters of a text.
fn first(text: &str, characters: usize) -> &str {
    text.char_indices()
        .nth(characters)
        .map_or(text, |(end, _)| &text[..end])
}

/// Tabs are left to the renderer, which aligns its marks with them.
fn shown(text: &str) -> String {
    let lines: Vec<String> = text.split('\t').map(printable).collect();
    lines.join("\t")
}

const fn cut_mark(is_cut: bool) -> &'static str {
    if is_cut { "..." } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, line: usize, column: usize) -> Option<Excerpt> {
        Places::new(text).excerpt(Location { line, column })
    }

    /// The excerpt, with the word in brackets.
    fn marked(text: &str, line: usize, column: usize) -> Option<String> {
        let Excerpt { source, word, .. } = excerpt(text, line, column)?;
        Some(format!(
            "{}<{}>{}",
            &source[..word.start],
            &source[word.clone()],
            &source[word.end..]
        ))
    }

    fn is(text: &str, line: usize, column: usize, expected: &str) {
        assert_eq!(marked(text, line, column).as_deref(), Some(expected), "{text:?}");
    }

    #[test]
    fn a_place_marks_the_word_that_begins_there() {
        let text = "spec:\n  défaut: [a, \"b c\"]\n  'd e': \"f\\\"g\" h\n";
        is(text, 2, 3, "  <défaut>: [a, \"b c\"]");
        is(text, 2, 12, "  défaut: [<a>, \"b c\"]");
        is(text, 2, 15, "  défaut: [a, <\"b c\">]");
        is(text, 2, 11, "  défaut: <[>a, \"b c\"]");
        is(text, 3, 3, "  <'d e'>: \"f\\\"g\" h");
        is(text, 3, 10, "  'd e': <\"f\\\"g\"> h");
    }

    #[test]
    fn a_long_line_is_shown_in_part_and_cut_between_characters() {
        let long = "é".repeat(5_000);
        let text = format!("a\n{long}word{long}\n");
        let Excerpt { source, word, .. } = excerpt(&text, 2, 5_001).unwrap();
        assert!(source.chars().count() < 4 * AROUND, "{}", source.len());
        assert!(source[word].starts_with("word"));
        assert!(source.starts_with("...é") && source.ends_with("é..."), "{source}");
        let text = format!("{}, b", "x".repeat(9_000));
        is(&text, 1, 9_003, &format!("...{}, <b>", "x".repeat(AROUND - 2)));
    }

    #[test]
    fn a_place_at_the_end_of_a_line_or_text_marks_nothing_of_it() {
        is("{\"a\":", 1, 6, "{\"a\":<>");
        is("{\n", 1, 2, "{<>");
        is("{\n", 2, 1, "<>");
        is("{\r\n", 1, 2, "{<>");
        is("", 1, 1, "<>");
        for length in [STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE] {
            let text = "x".repeat(length);
            assert!(marked(&text, 1, length + 1).unwrap().ends_with("x<>"), "{length}");
            assert_eq!(marked(&text, 1, length + 2), None);
        }
    }

    #[test]
    fn a_place_outside_the_text_marks_nothing() {
        for (line, column) in [(7, 1), (1, 9), (0, 0), (1, 0), (usize::MAX, usize::MAX), (1, 3)] {
            assert_eq!(marked("a\nbcdefghijk\n", line, column), None, "{line}:{column}");
        }
    }

    #[test]
    fn lines_end_as_the_format_says() {
        is("a: 1\r\nb: 2\r\n", 2, 1, "<b>: 2");
        is("a: 1\rb: 2\r", 2, 4, "b: <2>");
        is("{\"a\":\r1}", 1, 7, "{\"a\": <1>}");
    }

    #[test]
    fn what_would_steer_a_terminal_is_not_shown_and_moves_no_mark() {
        is("\u{feff}a: b", 1, 4, "a: <b>");
        is("\ta\u{1b}[2J\u{9b}: b", 1, 10, "\ta [2J : <b>");
        is("a: \u{202e}b", 1, 4, "a: < b>");
    }

    #[test]
    fn each_place_of_a_long_line_is_that_of_the_plain_way() {
        let text = "aé漢 ".repeat(400);
        for column in 1..=1_600 {
            let expected = first(text.split_at(text.char_indices().nth(column - 1).unwrap().0).1, 1);
            let Excerpt { source, word, .. } = excerpt(&text, 1, column).unwrap();
            assert!(source[word].starts_with(expected), "{column}");
        }
    }
}
