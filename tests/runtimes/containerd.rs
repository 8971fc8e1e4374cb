//! What containerd makes of a profile's file before a runtime sees it.
//!
//! It reads the file into Go's `specs.LinuxSeccomp` and writes that into `config.json`: keys match whatever their
//! case, unknown ones are dropped, of a key given twice the last counts, and what is empty is not written.
//!
//! Source: `contrib/seccomp/seccomp.go` of containerd, `specs-go/config.go` of the runtime-spec, encoding/json of Go.

use serde_json::{Map, Value};

/// The object for `config.json`, or why containerd refuses the file.
pub(crate) fn hand_over(file: &str) -> Result<Value, String> {
    match serde_json::from_str(file).map_err(|error| error.to_string())? {
        Value::Null => Ok(seccomp(&Map::new())?),
        Value::Object(object) => seccomp(&object),
        other => Err(format!("cannot unmarshal {other} into a profile")),
    }
}

fn seccomp(object: &Map<String, Value>) -> Result<Value, String> {
    let mut out = Map::new();
    out.insert("defaultAction".to_owned(), text(object, "defaultAction")?.into());
    keep(
        &mut out,
        "defaultErrnoRet",
        unsigned(object, "defaultErrnoRet", u64::from(u32::MAX))?,
    );
    for key in ["architectures", "flags"] {
        keep(&mut out, key, nonempty(texts(object, key)?));
    }
    for key in ["listenerPath", "listenerMetadata"] {
        let value = text(object, key)?;
        keep(&mut out, key, (!value.is_empty()).then(|| value.into()));
    }
    let syscalls = objects(object, "syscalls")?
        .into_iter()
        .map(syscall)
        .collect::<Result<_, _>>()?;
    keep(&mut out, "syscalls", nonempty(Value::Array(syscalls)));
    Ok(out.into())
}

fn syscall(object: &Map<String, Value>) -> Result<Value, String> {
    let mut out = Map::new();
    out.insert("names".to_owned(), texts(object, "names")?);
    out.insert("action".to_owned(), text(object, "action")?.into());
    keep(
        &mut out,
        "errnoRet",
        unsigned(object, "errnoRet", u64::from(u32::MAX))?,
    );
    let args = objects(object, "args")?
        .into_iter()
        .map(arg)
        .collect::<Result<_, _>>()?;
    keep(&mut out, "args", nonempty(Value::Array(args)));
    Ok(out.into())
}

fn arg(object: &Map<String, Value>) -> Result<Value, String> {
    let mut out = Map::new();
    for (key, max) in [("index", u64::from(u32::MAX)), ("value", u64::MAX)] {
        out.insert(
            key.to_owned(),
            unsigned(object, key, max)?.unwrap_or_else(|| 0.into()),
        );
    }
    keep(
        &mut out,
        "valueTwo",
        unsigned(object, "valueTwo", u64::MAX)?.filter(|value| *value != 0),
    );
    out.insert("op".to_owned(), text(object, "op")?.into());
    Ok(out.into())
}

fn keep(out: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        out.insert(key.to_owned(), value);
    }
}

fn nonempty(list: Value) -> Option<Value> {
    (!list.is_null() && list.as_array().is_none_or(|list| !list.is_empty())).then_some(list)
}

/// The last value of this key, whatever its case; null counts as none.
fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object
        .iter()
        .filter(|(name, value)| name.eq_ignore_ascii_case(key) && !value.is_null())
        .map(|(_, value)| value)
        .next_back()
}

fn text(object: &Map<String, Value>, key: &str) -> Result<String, String> {
    match get(object, key) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("cannot unmarshal {other} into {key}")),
    }
}

fn unsigned(object: &Map<String, Value>, key: &str, max: u64) -> Result<Option<Value>, String> {
    match get(object, key) {
        None => Ok(None),
        Some(value) if value.as_u64().is_some_and(|number| number <= max) => Ok(Some(value.clone())),
        Some(other) => Err(format!("cannot unmarshal {other} into {key}")),
    }
}

fn texts(object: &Map<String, Value>, key: &str) -> Result<Value, String> {
    match get(object, key) {
        None => Ok(Value::Null),
        Some(list @ Value::Array(items)) if items.iter().all(Value::is_string) => Ok(list.clone()),
        Some(other) => Err(format!("cannot unmarshal {other} into {key}")),
    }
}

fn objects<'a>(object: &'a Map<String, Value>, key: &str) -> Result<Vec<&'a Map<String, Value>>, String> {
    let Some(value) = get(object, key) else {
        return Ok(Vec::new());
    };
    let items = value
        .as_array()
        .map(|items| items.iter().map(Value::as_object).collect());
    items
        .flatten()
        .ok_or_else(|| format!("cannot unmarshal {value} into {key}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_runtime_spec_does_not_know_is_lost() {
        let file = r#"{"DefaultAction": "SCMP_ACT_ALLOW", "archMap": [], "flags": [], "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [], "includes": {"caps": ["CAP_SYS_ADMIN"]}}
        ]}"#;
        let expected = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }],
        });
        assert_eq!(hand_over(file), Ok(expected));
    }

    #[test]
    fn what_go_cannot_read_is_refused() {
        for file in [
            "",
            "[]",
            "{} {}",
            r#"{"syscalls": {}}"#,
            r#"{"defaultErrnoRet": -1}"#,
            "\u{feff}{}",
        ] {
            assert!(hand_over(file).is_err(), "{file:?}");
        }
    }
}
