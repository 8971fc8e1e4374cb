//! Texts of a bounded field, whatever goes in.

/// At most `max` bytes of a text, cut between characters; an ellipsis says that it was cut.
#[must_use]
pub fn cut(text: &str, max: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    let room = max.saturating_sub(ELLIPSIS.len());
    let end = (0..=room).rfind(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_left_alone() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_never_exceeds_the_limit() {
        let text = "aé漢𝄞".repeat(100);
        for max in 3..200 {
            let short = cut(&text, max);
            assert!(short.len() <= max, "{max}: {}", short.len());
            assert!(short.ends_with('…'));
            assert!(text.starts_with(short.trim_end_matches('…')));
        }
    }
}
