//! From what schemars derives to what a `CustomResourceDefinition` should say.

use schemars::Schema;
use schemars::transform::transform_subschemas;
use serde_json::{Value, json};

/// The names of an enum of the specification, for the keyword `enum`. From `profile`, so that API and parser
/// cannot drift apart.
pub(super) fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().copied().map(name).collect()
}

/// Sets keywords on the elements of a list.
pub(super) fn items(keywords: Value) -> impl FnMut(&mut Schema) {
    child("items", keywords)
}

/// Sets keywords on the values of a map.
pub(super) fn values(keywords: Value) -> impl FnMut(&mut Schema) {
    child("additionalProperties", keywords)
}

fn child(name: &'static str, keywords: Value) -> impl FnMut(&mut Schema) {
    move |schema| {
        if let (Some(Value::Object(child)), Value::Object(keywords)) = (schema.get_mut(name), &keywords) {
            child.extend(keywords.clone());
        }
    }
}

/// Makes the whole schema plain.
///
/// - A list belongs to one owner as a whole, unless it says otherwise: under server-side apply a set silently
///   becomes the union of what two owners wrote.
/// - Nothing is defaulted because a Rust field is.
/// - Integer formats that Kubernetes does not know go (it warns of them); their bounds stay.
/// - A description is one line per paragraph, whatever the width of the source.
///
/// An optional field stays nullable, as schemars and kube have it: the API server silently drops a null that the
/// schema does not allow, and so `args: null`, from a template that found nothing, would become "no condition". A
/// null that is kept can be refused, by a policy and by every reader.
pub(super) fn tidy(schema: &mut Schema) {
    transform_subschemas(&mut tidy, schema);
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    schema.remove("default");
    let is_list = match schema.get("type") {
        Some(Value::Array(types)) => types.contains(&json!("array")),
        other => other == Some(&json!("array")),
    };
    if is_list {
        schema.entry("x-kubernetes-list-type").or_insert(json!("atomic"));
    }
    let format = schema.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = reflow(description);
    }
}

fn reflow(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}

#[cfg(test)]
mod tests {
    use schemars::json_schema;

    use super::*;

    fn tidied(mut schema: Schema) -> Value {
        tidy(&mut schema);
        schema.to_value()
    }

    #[test]
    fn a_list_is_atomic_unless_it_says_otherwise() {
        assert_eq!(
            tidied(json_schema!({"type": ["array", "null"], "items": {"type": "array"}})),
            json!({
                "type": ["array", "null"],
                "x-kubernetes-list-type": "atomic",
                "items": {"type": "array", "x-kubernetes-list-type": "atomic"},
            })
        );
        let map = json_schema!({"type": "array", "x-kubernetes-list-type": "map"});
        assert_eq!(tidied(map.clone()), map.to_value());
    }

    #[test]
    fn formats_that_kubernetes_does_not_know_and_rust_defaults_go() {
        assert_eq!(
            tidied(json_schema!({"type": "integer", "format": "uint32", "minimum": 0, "default": 0})),
            json!({"type": "integer", "minimum": 0})
        );
        let known = json_schema!({"type": "integer", "format": "int32"});
        assert_eq!(tidied(known.clone()), known.to_value());
    }

    #[test]
    fn lines_of_a_paragraph_are_joined_and_paragraphs_kept() {
        assert_eq!(reflow("One\ntwo.\n\nThree\n  four."), "One two.\n\nThree four.");
    }

    #[test]
    fn keywords_are_set_on_elements_and_on_values() {
        let mut list = json_schema!({"type": "array", "items": {"type": "string"}});
        items(json!({"maxLength": 3}))(&mut list);
        assert_eq!(
            list.to_value()["items"],
            json!({"type": "string", "maxLength": 3})
        );
        let mut map = json_schema!({"type": "object", "additionalProperties": {"type": "string"}});
        values(json!({"maxLength": 3}))(&mut map);
        assert_eq!(
            map.to_value()["additionalProperties"],
            json!({"type": "string", "maxLength": 3})
        );
    }
}
