//! Findings for people, with the lines that they are about.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::super::finding::help;
use super::Checked;
use crate::profile::{Class, Finding, Location};
use crate::proof::Verdict;
use crate::text::{count, printable};

/// Findings of every document, then one line about each in a file that holds a profile.
pub(super) fn render(checked: &[Checked<'_>]) -> String {
    let mut text = String::new();
    for one in checked {
        for finding in one.findings() {
            text.push_str(&annotated(one, &finding));
            text.push_str("\n\n");
        }
        if one.unlisted() > 0 {
            let more = count(one.unlisted(), "more finding");
            let line = printable(&format!("... and {more} in {}, {}", one.file.name, one.title()));
            text.push_str(&line);
            text.push_str("\n\n");
        }
    }
    for one in checked.iter().filter(|one| one.file.has_profile()) {
        let line = printable(&format!("{}: {}: {}", one.file.name, one.title(), summary(one)));
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn summary(one: &Checked<'_>) -> String {
    match one.verdict() {
        None => "skipped, it is no seccomp profile".to_owned(),
        Some(Verdict::Valid(proven)) => {
            let sizes: Vec<String> = proven
                .filters
                .iter()
                .map(|(arch, size)| format!("{arch} {size} instructions"))
                .collect();
            format!("valid, {}, {}", proven.canonical.digest, sizes.join(", "))
        }
        Some(Verdict::Invalid(refused)) => {
            format!("INVALID, {}", count(refused.findings.total(), "finding"))
        }
        Some(Verdict::Unknown(reason)) => format!("could not be proven: {reason}"),
    }
}

fn annotated(one: &Checked<'_>, finding: &Finding) -> String {
    let level = match finding.class() {
        Class::Invalid if !finding.accepted => Level::ERROR,
        Class::Invalid | Class::NotPortable => Level::WARNING,
        Class::Lint => Level::NOTE,
    };
    let message = printable(&match finding.field.as_str() {
        "" => finding.message.clone(),
        field => format!("{field}: {}", finding.message),
    });
    let title = level.primary_title(&message).id(finding.code.as_str());
    let place = finding
        .location
        .and_then(|location| excerpt(&one.file.text, location));
    // What a renderer does to control characters is its own affair.
    let (path, title_of) = (printable(&one.file.name), printable(&one.title()));
    let group = match place {
        Some(excerpt) => title.element(
            Snippet::source(excerpt.source)
                .line_start(excerpt.line)
                .path(&path)
                .annotation(AnnotationKind::Primary.span(excerpt.word)),
        ),
        None => title.element(Level::NOTE.message(format!("in {path}, {title_of}"))),
    };
    let group = match help(finding.code) {
        Some(help) => group.element(Level::HELP.message(help)),
        None => group,
    };
    Renderer::styled().decor_style(DecorStyle::Ascii).render(&[group])
}

/// The line that a finding is about, and the word in it.
struct Excerpt<'a> {
    source: &'a str,
    line: usize,
    word: Range<usize>,
}

/// Bytes of a line that are shown before and after the word: a file may be one line of megabytes.
const AROUND: usize = 200;

fn excerpt(text: &str, location: Location) -> Option<Excerpt<'_>> {
    let line = text
        .split_inclusive('\n')
        .nth(location.line.checked_sub(1)?)?
        .trim_end();
    let (start, _) = line.char_indices().nth(location.column.checked_sub(1)?)?;
    let end = start + word_length(&line[start..]);
    let from = (0..=start.saturating_sub(AROUND)).rfind(|at| line.is_char_boundary(*at))?;
    let to = (line.len().min(end + AROUND)..=line.len()).find(|at| line.is_char_boundary(*at))?;
    Some(Excerpt {
        source: &line[from..to],
        line: location.line,
        word: start - from..end - from,
    })
}

/// Of the word that a text begins with, without what separates it from the next; at most [`AROUND`] bytes or
/// a few more.
fn word_length(text: &str) -> usize {
    let quoted = text.strip_prefix('"').and_then(|rest| rest.find('"'));
    let length = quoted
        .map(|end| end + 2)
        .or_else(|| text.find([' ', ',', ':', '[', '{', ']', '}', '\t']))
        .unwrap_or(text.len());
    // A place that begins with one of these is that bracket's.
    let first = text.chars().next().map_or(0, char::len_utf8);
    let most = (AROUND.min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at));
    length.max(first).min(most.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, line: usize, column: usize) -> Option<&str> {
        excerpt(text, Location { line, column }).map(|excerpt| &excerpt.source[excerpt.word])
    }

    #[test]
    fn a_long_line_is_shown_in_part_and_cut_between_characters() {
        let text = format!("a\n{}word{}\n", "é".repeat(5_000), "é".repeat(5_000));
        let place = Location {
            line: 2,
            column: 5_001,
        };
        let excerpt = excerpt(&text, place).unwrap();
        assert!(excerpt.source.len() < 4 * AROUND, "{}", excerpt.source.len());
        assert!(excerpt.source[excerpt.word].starts_with("word"));
        assert_eq!(word(&format!("{}, b", "x".repeat(9_000)), 1, 9_003), Some("b"));
    }

    #[test]
    fn a_place_marks_the_word_that_begins_there() {
        let text = "spec:\n  défaut: [a, \"b c\"]\n";
        assert_eq!(word(text, 2, 3), Some("défaut"));
        assert_eq!(word(text, 2, 12), Some("a"));
        assert_eq!(word(text, 2, 15), Some("\"b c\""));
        assert_eq!(word(text, 2, 11), Some("["));
    }

    #[test]
    fn a_place_outside_the_text_marks_nothing() {
        assert_eq!(word("a\n", 7, 1), None);
        assert_eq!(word("a\n", 1, 9), None);
        assert_eq!(word("a\n", 0, 0), None);
    }
}
