//! Words for people: on a terminal, in a log, in a status. Knows nothing of ours.

use std::error::Error;
use std::fmt::Write as _;

/// "a", "a and b", "a, b and c".
pub(crate) fn listing(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// "1 node", "3 nodes".
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// An error with its causes, each said once: many errors repeat their cause in their own words.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// What others wrote, on one line, without codes that a terminal would obey and without marks that make it show
/// the characters in another order.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || reorders(c) { ' ' } else { c })
        .collect()
}

/// JSON text with every control character in its strings escaped: JSON itself lets DEL and U+0080 to U+009F stand as they
/// are, and some terminals obey those.
pub(crate) fn printable_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !(c.is_control() || reorders(c)) {
            text.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        }
    }
    text
}

/// Unicode's line separators and marks of direction.
/// Source: <https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters>.
const fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error that repeats its cause, as many do.
    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no cluster to ask")]
    struct Outer(#[source] Repeating);

    #[test]
    fn one_is_singular() {
        assert_eq!(count(1, "node"), "1 node");
        assert_eq!(count(2, "node"), "2 nodes");
    }

    #[test]
    fn a_cause_that_an_error_repeats_is_said_once() {
        let error = Outer(Repeating(std::io::Error::other("disk on fire")));
        assert_eq!(
            chain(&error),
            "no cluster to ask: cannot read the file: disk on fire"
        );
    }

    #[test]
    fn what_would_steer_a_terminal_is_a_space() {
        assert_eq!(
            printable("a\u{1b}[2J\r\n\tb\u{7f}\u{9b}c\u{202e}d\u{2028}e"),
            "a [2J   b  c d e"
        );
        assert_eq!(printable("naïve 漢 …"), "naïve 漢 …");
    }

    #[test]
    fn json_stays_the_same_value_and_holds_no_control_character() {
        let value = serde_json::json!({"a\u{9b}": "\u{1b}[2J\n\u{7f}\u{85}\u{202e}漢"});
        let text = printable_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains('\u{202e}'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
