//! What Kubernetes takes as the key and value of a label.
//!
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>.

const MAX_PREFIX: usize = 253;
const MAX_NAME: usize = 63;

/// A name of at most 63 bytes, perhaps after a DNS subdomain and a slash. The error says what is expected.
pub(crate) fn check_key(key: &str) -> Result<(), &'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| prefix.len() > MAX_PREFIX || !prefix.split('.').all(is_dns_label)) {
        return Err("before the '/' stands a DNS name of at most 253 of a-z, 0-9, '-' and '.'");
    }
    if name.is_empty() || !is_name(name) {
        return Err(
            "expected 1 to 63 of letters, digits, '-', '_' and '.', with a letter or digit first and last",
        );
    }
    Ok(())
}

/// Empty, or a name of at most 63 bytes. The error says what is expected.
pub(super) fn check_value(value: &str) -> Result<(), &'static str> {
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    Err("expected at most 63 of letters, digits, '-', '_' and '.', with a letter or digit first and last")
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= MAX_NAME
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('-') && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_kubernetes_takes() {
        let long = "a".repeat(63);
        for key in [
            "a",
            "kubernetes.io/os",
            "A_b.c-9",
            "node-role.kubernetes.io/worker",
            &long,
        ] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        let longer = "a".repeat(64);
        let prefix = format!("{}/a", "a".repeat(254));
        for key in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "Kubernetes.io/os",
            "-a",
            "a b",
            "a..b/c",
            "é",
            &longer,
            &prefix,
        ] {
            assert!(check_key(key).is_err(), "{key}");
        }
    }

    #[test]
    fn values_are_what_kubernetes_takes() {
        for value in ["", "a", "linux", "v1.2_3-x"] {
            assert_eq!(check_value(value), Ok(()), "{value}");
        }
        for value in ["x y", "-a", "a.", "é", &"a".repeat(64)] {
            assert!(check_value(value).is_err(), "{value}");
        }
    }
}
