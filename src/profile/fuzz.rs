//! What must hold of every text that may be a profile. See [`crate::fuzz`].

use serde_json::Value as Json;

use super::document::{Node, Value, read_json, read_yaml};
use super::*;

/// The most bytes of a message or a path of a finding: both are kept and sent, so a document must not make them long.
const MAX_MESSAGE: usize = 4 * 1024;
/// The most findings of the rules.
const MAX_RULE_FINDINGS: usize = 1_000;
/// How deep a document may nest, the value within the last list counted.
const MAX_DEPTH: usize = 130;

/// JSON is what `serde_json` says it is; every key and value has its place; and YAML reads the same in it.
pub(crate) fn json(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let decoded = serde_json::from_str::<Json>(text);
    match (read_json(text), decoded) {
        (Ok(node), Ok(decoded)) => {
            assert!(is_same(&node, &decoded), "{node:?} is not {decoded}");
            check_places(&node, text);
            if let [document] = &read_yaml(&decoded.to_string())[..]
                && let (Ok(read), []) = (&document.read, &document.errors[..])
            {
                assert!(is_same(read, &decoded), "{read:?} is not {decoded}");
            }
        }
        (Err(error), Err(_)) => {
            let line = text.split('\n').nth(error.at.line - 1);
            assert!(
                line.is_some_and(|line| error.at.column <= line.chars().count() + 1),
                "{error:?}"
            );
        }
        (read, decoded) => assert!(read.is_ok() == decoded.is_ok(), "{read:?} but {decoded:?}"),
    }
}

/// What a document in YAML takes is bounded, aliases followed.
pub(crate) fn yaml(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let documents = read_yaml(text);
    assert!(documents.len() <= text.len() + 1);
    for document in documents {
        if let Ok(node) = document.read {
            let depth = depth(&node);
            assert!(depth <= MAX_DEPTH, "{depth} levels");
        }
    }
}

/// Whatever a text holds, what is found in it is bounded, and what passes is the same profile in its canonical form.
pub(crate) fn profile(bytes: &[u8]) {
    let documents = read(bytes);
    assert!(!documents.is_empty() || bytes.is_empty());
    for document in documents {
        let SourceDocument::Profile(profile) = document else {
            continue;
        };
        match &profile.spec {
            Ok(spec) => check_profile(spec),
            Err(findings) => {
                assert!(!findings.is_empty() && findings.len() <= Findings::MAX);
                assert!(findings.total() >= findings.len());
                findings.iter().for_each(check_finding);
            }
        }
    }
    if let Ok(profile) = Profile::from_canonical(bytes) {
        check_profile(&ProfileSpec {
            profile,
            node_selector: std::collections::BTreeMap::new(),
            accept_findings: Vec::new(),
            has_empty_flags: false,
        });
    }
    if let Ok(object) = serde_json::from_slice::<Json>(bytes) {
        match parse_spec(&object) {
            Ok(spec) => check_profile(&spec),
            Err(findings) => findings.iter().for_each(check_finding),
        }
    }
}

/// A name is safe in a path, and the path that a pod writes leads back to it.
pub(crate) fn names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let names = [ProfileName::from_localhost_profile(text), text.parse().ok()];
    for name in names.into_iter().flatten() {
        assert_eq!(
            ProfileName::from_localhost_profile(&name.localhost_profile()).as_ref(),
            Some(&name)
        );
        assert_eq!(name.to_string().parse().as_ref(), Ok(&name));
        let path = name.localhost_profile();
        assert!(path.len() <= 1024 && path.split('/').count() == 3 && !path.contains(".."));
    }
}

fn check_profile(spec: &ProfileSpec) {
    let findings = spec.findings();
    assert!(findings.len() <= MAX_RULE_FINDINGS, "{}", findings.len());
    findings.iter().for_each(check_finding);
    let _ = listener_allowed(&spec.profile, &["/run/seccomp".to_owned()]);
    match spec.profile.canonical() {
        Ok(canonical) => {
            assert!(canonical.bytes.len() <= Canonical::MAX_BYTES);
            let read = Profile::from_canonical(&canonical.bytes);
            assert_eq!(read, Ok(spec.profile.normalized()));
            let again = read.map(|profile| profile.canonical());
            assert_eq!(again, Ok(Ok(canonical)));
        }
        Err(finding) => assert_eq!(finding.code, Code::TooLarge),
    }
}

fn check_finding(finding: &Finding) {
    let witness = finding.witness.as_deref().unwrap_or_default();
    for text in [finding.field.as_str(), &finding.message, witness] {
        assert!(text.len() <= MAX_MESSAGE, "{} bytes: {finding:?}", text.len());
    }
}

fn is_same(node: &Node, json: &Json) -> bool {
    match (&node.value, json) {
        (Value::Null, Json::Null) => true,
        (Value::Bool(one), Json::Bool(other)) => one == other,
        (Value::Integer(one), Json::Number(other)) => {
            other.as_u64().map(i128::from) == Some(*one) || other.as_i64().map(i128::from) == Some(*one)
        }
        // As it was written, which `serde_json` does not keep.
        (Value::Number(_), Json::Number(other)) => other.is_f64(),
        (Value::Text(one), Json::String(other)) => one == other,
        (Value::List(items), Json::Array(others)) => {
            items.len() == others.len() && items.iter().zip(others).all(|(item, other)| is_same(item, other))
        }
        // Of keys that stand twice both take the last.
        (Value::Map(entries), Json::Object(map)) => {
            entries.iter().all(|entry| map.contains_key(&entry.key))
                && map
                    .iter()
                    .all(|(key, other)| node.get(key).is_some_and(|value| is_same(value, other)))
        }
        _ => false,
    }
}

/// The places of all keys and values must be those where the text says the same thing.
pub(super) fn check_places(node: &Node, text: &str) {
    let lines: Vec<Vec<char>> = text.split('\n').map(|line| line.chars().collect()).collect();
    check_places_in(node, &lines);
}

fn check_places_in(node: &Node, lines: &[Vec<char>]) {
    /// Longer than any number is in a document that is worth looking at.
    const LOOKED_AT: usize = 4 * 1024;
    let from = |at: Option<Location>| {
        let at = at.unwrap_or(Location { line: 1, column: 1 });
        let line = lines.get(at.line - 1).map_or(&[][..], Vec::as_slice);
        let rest = line.get(at.column - 1..).unwrap_or_default();
        rest.iter().take(LOOKED_AT).collect::<String>()
    };
    let is_string = |text: &str, expected: &str| {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<String>();
        text.chars().count() == LOOKED_AT || matches!(stream.next(), Some(Ok(found)) if found == expected)
    };
    let text = from(node.at);
    let is_there = match &node.value {
        Value::Null => text.starts_with("null"),
        Value::Bool(value) => text.starts_with(&value.to_string()),
        Value::Integer(value) => text.starts_with(&value.to_string()),
        Value::Number(written) => text.starts_with(written),
        Value::Text(value) => is_string(&text, value),
        Value::List(_) => text.starts_with('['),
        Value::Map(_) => text.starts_with('{'),
    };
    assert!(node.at.is_some() && is_there, "{node:?}");
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| check_places_in(item, lines)),
        Value::Map(entries) => {
            for entry in entries {
                assert!(
                    entry.at.is_some() && is_string(&from(entry.at), &entry.key),
                    "{entry:?}"
                );
                check_places_in(&entry.value, lines);
            }
        }
        _ => {}
    }
}

fn depth(node: &Node) -> usize {
    let below = match &node.value {
        Value::List(items) => items.iter().map(depth).max(),
        Value::Map(entries) => entries.iter().map(|entry| depth(&entry.value)).max(),
        _ => None,
    };
    below.unwrap_or(0) + 1
}
