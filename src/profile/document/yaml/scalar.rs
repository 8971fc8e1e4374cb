//! What a YAML scalar without quotes and tag is, for kubectl.

use super::Value;

/// What a scalar without quotes and tag is. Source of the rules and their order:
/// <https://github.com/yaml/go-yaml/blob/v2/resolve.go>.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => return Value::Number(text.to_owned()),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Text(text.to_owned());
    }
    let digits = text.replace('_', "");
    if let Some(value) = integer(&digits) {
        Value::Integer(value)
    } else if is_float(if text.starts_with('.') { text } else { &digits }) {
        Value::Number(text.to_owned())
    } else {
        Value::Text(text.to_owned())
    }
}

/// An integer as Go's `strconv.ParseInt(text, 0, 64)` and `ParseUint` read it: a sign, then digits after `0x`,
/// `0o`, `0b` or `0` (octal), or decimal ones. `None` beyond 64 bits.
fn integer(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let signed = unsigned.len() < text.len();
    let (radix, digits) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -value } else { value };
    // `ParseUint` takes no sign.
    let range = if signed {
        i64::MIN.into()..=i64::MAX.into()
    } else {
        0..=u64::MAX.into()
    };
    range.contains(&value).then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    mantissa && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn number(text: &str) -> Value {
        Value::Number(text.to_owned())
    }

    /// Most of these were sent by kubectl 1.36 to a real API server.
    #[test]
    fn plain_scalars_are_what_kubectl_makes_of_them() {
        for (written, expected) in [
            ("on", Value::Bool(true)),
            ("yes", Value::Bool(true)),
            ("y", Value::Bool(true)),
            ("NO", Value::Bool(false)),
            ("off", Value::Bool(false)),
            ("oN", text("oN")),
            ("~", Value::Null),
            ("0", Value::Integer(0)),
            ("-1", Value::Integer(-1)),
            ("+5", Value::Integer(5)),
            ("010", Value::Integer(8)),
            ("0o10", Value::Integer(8)),
            ("0x7E020000", Value::Integer(0x7E02_0000)),
            ("0X7E020000", Value::Integer(0x7E02_0000)),
            ("0b11", Value::Integer(3)),
            ("-0b11", Value::Integer(-3)),
            ("1_000", Value::Integer(1000)),
            ("0x7FFFFFFFFFFFFFFF", Value::Integer(i64::MAX.into())),
            ("18446744073709551615", Value::Integer(u64::MAX.into())),
            ("0xFFFFFFFFFFFFFFFF", Value::Integer(u64::MAX.into())),
            ("-9223372036854775808", Value::Integer(i64::MIN.into())),
            ("18446744073709551616", number("18446744073709551616")),
            ("+9223372036854775808", number("+9223372036854775808")),
            ("08", number("08")),
            ("1e3", number("1e3")),
            ("1.0", number("1.0")),
            (".5", number(".5")),
            (".inf", number(".inf")),
            ("12:30:45", text("12:30:45")),
            ("2001-12-14", text("2001-12-14")),
            ("0x", text("0x")),
            ("0b2", text("0b2")),
            ("0x+1", text("0x+1")),
            ("1e", text("1e")),
            ("SCMP_ACT_ALLOW", text("SCMP_ACT_ALLOW")),
        ] {
            assert_eq!(plain(written), expected, "{written}");
        }
    }
}
