//! The `CustomResourceDefinition`s, and the files that hold them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde::ser::Error as _;
use serde_json::{Map, Number, Value};
use serde_saphyr::SerializeError;

use super::{SeccompNode, SeccompProfile};

/// Every `CustomResourceDefinition` of Callgate.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![SeccompProfile::crd(), SeccompNode::crd()]
}

/// A `CustomResourceDefinition` as a file of `crds/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrdFile {
    /// The name of the file.
    pub name: String,
    /// What is in it: one YAML document, the same for the same version of Callgate.
    pub yaml: String,
}

/// Every `CustomResourceDefinition` as a file. Fails where one cannot be written as YAML, which a test rules
/// out.
pub fn crd_files() -> Result<Vec<CrdFile>, SerializeError> {
    crds()
        .iter()
        .map(|crd| {
            Ok(CrdFile {
                name: format!("{}.yaml", crd.spec.names.plural),
                yaml: format!("# Printed by `callgate crds`; made from src/api.\n{}", yaml(crd)?),
            })
        })
        .collect()
}

fn yaml(crd: &CustomResourceDefinition) -> Result<String, SerializeError> {
    let value = serde_json::to_value(crd).map_err(SerializeError::custom)?;
    serde_saphyr::to_string(&whole(value))
}

/// Writes 5.0 as 5: the bounds of a schema are floating-point numbers to k8s-openapi.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(
            number
                .as_f64()
                .filter(|float| number.is_f64() && float.fract() == 0.0)
                .and_then(|float| format!("{float:.0}").parse::<i64>().ok())
                .map_or(number, Number::from),
        ),
        Value::Array(elements) => Value::Array(elements.into_iter().map(whole).collect()),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(key, member)| (key, whole(member)))
                .collect::<Map<_, _>>(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_files_in_crds_are_what_callgate_crds_prints() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        for file in crd_files().unwrap() {
            let path = directory.join(&file.name);
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                found == file.yaml,
                "{} is not what the types in src/api say; to refresh it: cargo run -- crds --dir crds",
                path.display()
            );
        }
    }

    /// So that `kubectl apply -f crds` takes the directory as it is.
    #[test]
    fn crds_holds_nothing_else() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        let expected: BTreeSet<String> = crd_files().unwrap().into_iter().map(|file| file.name).collect();
        let found: BTreeSet<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_reads_back_as_the_definition_it_was_written_from() {
        for (crd, file) in crds().into_iter().zip(crd_files().unwrap()) {
            let read: CustomResourceDefinition = serde_saphyr::from_str(&file.yaml).unwrap();
            assert_eq!(read, crd);
        }
    }

    #[test]
    fn a_whole_number_is_written_without_a_fraction() {
        let numbers = serde_json::json!([5.0, 0.5, -3.0, 7]);
        assert_eq!(whole(numbers).to_string(), "[5,0.5,-3,7]");
    }

    #[test]
    fn every_field_is_explained() {
        fn unexplained(path: &str, schema: &Value, found: &mut Vec<String>) {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                if property["description"]
                    .as_str()
                    .is_none_or(|text| !text.ends_with(['.', ':']))
                {
                    found.push(path.clone());
                }
                unexplained(&path, property, found);
                unexplained(&path, &property["items"], found);
            }
        }
        let mut found = Vec::new();
        for crd in crds() {
            let version = serde_json::to_value(&crd.spec.versions[0]).unwrap();
            unexplained(
                &crd.spec.names.kind,
                &version["schema"]["openAPIV3Schema"],
                &mut found,
            );
        }
        found.retain(|path| !path.contains(".metadata"));
        assert!(found.is_empty(), "no description, or not a sentence: {found:#?}");
    }
}
