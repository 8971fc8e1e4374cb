//! The single values of a profile: names of the specification, and numbers.

use std::str::FromStr;

use super::super::document::{Node, Value};
use super::super::finding::{Code, Place, quoted};
use super::super::model::{Action, Architecture, Errno, Flag, Operator, UnknownName};
use super::nearest::nearest;
use super::{Dialect, Reader};

impl Reader<'_> {
    pub(super) fn wrong_type(&mut self, node: &Node, path: &Place<'_>, expected: &str) {
        let hint = match &node.value {
            Value::Null => "; leave the key out or give it a value",
            Value::Bool(_) => "; in YAML yes, no, on, off, y and n are booleans unless they stand in quotes",
            _ => "",
        };
        let message = format!("expected {expected}, found {}{hint}", node.value.describe());
        self.report.add(Code::WrongType, path, node.at, message);
    }

    pub(super) fn text(&mut self, node: &Node, path: &Place<'_>) -> Option<String> {
        let text = node.text().map(str::to_owned);
        if text.is_none() {
            self.wrong_type(node, path, "text");
        }
        text
    }

    pub(super) fn action(&mut self, node: &Node, path: &Place<'_>) -> Option<Action> {
        self.name(node, path, "action")
    }

    pub(super) fn flag(&mut self, node: &Node, path: &Place<'_>) -> Option<Flag> {
        self.name(node, path, "flag")
    }

    pub(super) fn operator(&mut self, node: &Node, path: &Place<'_>) -> Option<Operator> {
        self.name(node, path, "operator")
    }

    pub(super) fn architecture(&mut self, node: &Node, path: &Place<'_>) -> Option<Architecture> {
        if node.text() == Some("SCMP_ARCH_NATIVE") {
            let message = "SCMP_ARCH_NATIVE is a name of libseccomp that runtimes refuse, and a filter always \
                           holds the native architecture: remove it, or name the architecture";
            self.report.add(Code::BadValue, path, node.at, message);
            return None;
        }
        self.name_or_alias(node, path, "architecture", other_name)
    }

    /// A name of one of the specification's enums.
    fn name<T: FromStr<Err = UnknownName>>(
        &mut self,
        node: &Node,
        path: &Place<'_>,
        what: &str,
    ) -> Option<T> {
        self.name_or_alias(node, path, what, |_| None)
    }

    /// Like [`Reader::name`]; `alias` knows what is meant by names that others give the same things.
    fn name_or_alias<T: FromStr<Err = UnknownName>>(
        &mut self,
        node: &Node,
        path: &Place<'_>,
        what: &str,
        alias: impl Fn(&str) -> Option<&'static str>,
    ) -> Option<T> {
        let Some(text) = node.text() else {
            self.wrong_type(node, path, &format!("text, the name of the {what}"));
            return None;
        };
        match text.parse() {
            Ok(name) => Some(name),
            Err(UnknownName { known, .. }) => {
                self.report.add_with(Code::BadValue, path, node.at, || {
                    let cure = match alias(text).or_else(|| nearest(text, &known)) {
                        Some(near) => format!("did you mean {near}?"),
                        None => format!("write one of {}", known.join(", ")),
                    };
                    format!("unknown {what} {}; {cure}", quoted(text))
                });
                None
            }
        }
    }

    pub(super) fn errno(&mut self, node: &Node, path: &Place<'_>) -> Option<Errno> {
        self.small(node, path, Errno::MAX).and_then(Errno::new)
    }

    pub(super) fn index(&mut self, node: &Node, path: &Place<'_>) -> Option<u8> {
        self.small(node, path, 5)
            .and_then(|value| u8::try_from(value).ok())
    }

    /// An integer from 0 to `max`.
    fn small(&mut self, node: &Node, path: &Place<'_>, max: u16) -> Option<u16> {
        match &node.value {
            Value::Integer(value) => {
                let small = u16::try_from(*value).ok().filter(|value| *value <= max);
                if small.is_none() {
                    let message = format!("{value} is out of range: write an integer from 0 to {max}");
                    self.report.add(Code::BadValue, path, node.at, message);
                }
                small
            }
            Value::Number(text) => {
                let message = not_integer(text, &format!("0 to {max}"));
                self.report.add(Code::BadValue, path, node.at, message);
                None
            }
            _ => {
                self.wrong_type(node, path, &format!("an integer from 0 to {max}"));
                None
            }
        }
    }

    /// An unsigned 64-bit number. An API server keeps integers only to 2^63-1, so in an object a larger one is
    /// a string, decimal or hexadecimal; a container runtime takes nothing but integers.
    pub(super) fn unsigned(&mut self, node: &Node, path: &Place<'_>) -> Option<u64> {
        let read = match (&node.value, self.dialect) {
            (Value::Integer(value), dialect) => from_integer(*value, dialect),
            (Value::Number(text), _) => Err(not_integer(text, &format!("0 to {}", u64::MAX))),
            (Value::Text(text), Dialect::Object) => parse_unsigned(text)
                .ok_or_else(|| format!("{} is no unsigned 64-bit number: {UNSIGNED_FORM}", quoted(text))),
            _ => {
                self.wrong_type(node, path, &format!("an integer from 0 to {}", u64::MAX));
                return None;
            }
        };
        match read {
            Ok(value) => Some(value),
            Err(message) => {
                self.report.add(Code::BadValue, path, node.at, message);
                None
            }
        }
    }
}

/// What kernels (`uname -m`), Go (`GOARCH`), Debian and people call an architecture, where that is not the specification's
/// name in lower case.
const OTHER_NAMES: [(&str, Architecture); 19] = [
    ("x64", Architecture::X86_64),
    ("amd64", Architecture::X86_64),
    ("i386", Architecture::X86),
    ("i486", Architecture::X86),
    ("i586", Architecture::X86),
    ("i686", Architecture::X86),
    ("386", Architecture::X86),
    ("arm64", Architecture::Aarch64),
    ("armel", Architecture::Arm),
    ("armhf", Architecture::Arm),
    ("armv6l", Architecture::Arm),
    ("armv7l", Architecture::Arm),
    ("loong64", Architecture::Loongarch64),
    ("mips64el", Architecture::Mipsel64),
    ("mips64le", Architecture::Mipsel64),
    ("mipsle", Architecture::Mipsel),
    ("ppc64el", Architecture::Ppc64Le),
    ("hppa", Architecture::Parisc),
    ("sh4", Architecture::Sh),
];

/// The specification's name of an architecture that others call this, with or without `SCMP_ARCH_` before it.
fn other_name(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_prefix("scmp_arch_").unwrap_or(&text);
    let (_, architecture) = OTHER_NAMES.iter().find(|(name, _)| *name == text)?;
    Some(architecture.as_str())
}

const UNSIGNED_FORM: &str = "write an integer from 0 to 9223372036854775807, or a string, decimal to \
                             \"18446744073709551615\" or 0x with 1 to 16 digits";

fn from_integer(value: i128, dialect: Dialect) -> Result<u64, String> {
    match u64::try_from(value) {
        Ok(value) if dialect == Dialect::Object && i64::try_from(value).is_err() => Err(format!(
            "the API server takes no integer above {}: write it in quotes, \"{value}\"",
            i64::MAX
        )),
        Ok(value) => Ok(value),
        Err(_) => Err(format!(
            "{value} is out of range: write an integer from 0 to {}",
            u64::MAX
        )),
    }
}

/// Why a number that is not written as an integer, or that 64 bits do not hold, is refused.
fn not_integer(text: &str, range: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("{shown} is out of range: write an integer from {range}")
    } else {
        format!("{shown} is not written as an integer: write one from {range}, without fraction or exponent")
    }
}

/// `0|[1-9][0-9]*|0x[0-9a-fA-F]{1,16}`, up to 2^64-1: what the API server's rule lets pass.
fn parse_unsigned(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) if digits.len() <= 16 => (digits, 16),
        Some(_) => return None,
        None if text.len() > 1 && text.starts_with('0') => return None,
        None => (text, 10),
    };
    if !digits.bytes().all(|byte| char::from(byte).is_digit(radix)) {
        return None; // `from_str_radix` would take a sign.
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::parse_unsigned;

    /// The strings of this test were sent to a real API server, which took and refused the same.
    #[test]
    fn a_string_is_a_number_exactly_where_the_api_server_takes_it() {
        for (text, value) in [
            ("0", 0),
            ("18446744073709551615", u64::MAX),
            ("9223372036854775807", 9_223_372_036_854_775_807),
            ("0x7E020000", 0x7E02_0000),
            ("0xffffffffffffffff", u64::MAX),
            ("0x0000000000000001", 1),
        ] {
            assert_eq!(parse_unsigned(text), Some(value), "{text}");
        }
        for text in [
            "18446744073709551616",
            "99999999999999999999",
            "100000000000000000000000",
            "0X7E020000",
            "0x1ffffffffffffffff",
            "0x00000000000000001",
            "0x",
            "0x+1",
            "010",
            "00",
            "",
            " 1",
            "1 ",
            "+1",
            "-1",
            "1.0",
            "1_000",
            "abc",
            "0b1",
            "1\n",
            "٣",
        ] {
            assert_eq!(parse_unsigned(text), None, "{text}");
        }
    }
}
