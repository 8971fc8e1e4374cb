//! A length of time as a person writes it.

use std::time::Duration;

/// A whole number and `s`, `m` or `h`, at most a year; or 0.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    const YEAR: u64 = 365 * 24 * 3600;
    let (number, unit) = match text.char_indices().last() {
        _ if text == "0" => ("0", 1),
        Some((end, 's')) => (&text[..end], 1),
        Some((end, 'm')) => (&text[..end], 60),
        Some((end, 'h')) => (&text[..end], 3600),
        _ => return Err("expected a whole number and s, m or h, for example 30s or 5m".to_owned()),
    };
    let seconds = number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| number.parse::<u64>().ok()?.checked_mul(unit))
        .flatten()
        .filter(|seconds| *seconds <= YEAR);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{number:?} is not a whole number of at most a year; for example 30s or 5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_and_a_unit_is_a_duration() {
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("2h"), Ok(Duration::from_secs(7_200)));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "+5m",
            "1.5h",
            "5d",
            "99999999999999999999s",
            "8761h",
            "5 m",
            "é",
        ] {
            assert!(parse(text).unwrap_err().contains("30s"), "{text}");
        }
    }
}
