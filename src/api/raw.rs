//! A `SeccompProfile` as it is watched: whatever its `spec` holds.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use super::SeccompProfile;

/// A `SeccompProfile` whose `spec` and `status` are kept as they came, so that no key is lost and no object is
/// undecodable; as JSON values or, for who needs few of them, as JSON text.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound(deserialize = "J: Default + Deserialize<'de>"))]
pub struct RawSeccompProfile<J = Value> {
    /// The object's metadata.
    pub metadata: ObjectMeta,
    /// The unread `spec`.
    #[serde(default)]
    pub spec: J,
    /// The unread `status`.
    #[serde(default)]
    pub status: J,
}

impl<J> Resource for RawSeccompProfile<J> {
    type DynamicType = ();
    type Scope = <SeccompProfile as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        SeccompProfile::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        SeccompProfile::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        SeccompProfile::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        SeccompProfile::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::core::WatchEvent;
    use serde_json::json;
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn whatever_a_spec_and_a_status_hold_is_kept() {
        for spec in [
            json!(null),
            json!([1, "two", 3.5]),
            json!("text"),
            json!({"defaultAction": 7, "syscalls": {"not": "a list"}, "unknown": null, "value": u64::MAX}),
        ] {
            let object = json!({
                "apiVersion": "callgate.dev/v1alpha1",
                "kind": "SeccompProfile",
                "metadata": {"name": "a", "namespace": "b", "generation": 3},
                "spec": spec,
                "status": spec,
            });
            let raw: RawSeccompProfile = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(raw.spec, spec);
            assert_eq!(raw.status, spec);
            assert_eq!(raw.meta().name.as_deref(), Some("a"));
            assert_eq!(raw.meta().generation, Some(3));

            // In the order of every API server, which is that of `WatchEvent` in `k8s.io/apimachinery`.
            let event = format!(r#"{{"type": "MODIFIED", "object": {object}}}"#);
            let event: WatchEvent<RawSeccompProfile<Box<RawValue>>> = serde_json::from_str(&event).unwrap();
            let WatchEvent::Modified(unread) = event else {
                panic!("{event:?}");
            };
            assert_eq!(serde_json::from_str::<Value>(unread.spec.get()).unwrap(), spec);
            assert_eq!(unread.metadata, raw.metadata);
        }
    }

    #[test]
    fn an_object_without_spec_and_status_is_read() {
        let raw: RawSeccompProfile = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert_eq!(raw.spec, Value::Null);
        assert_eq!(raw.status, Value::Null);
        let unread: RawSeccompProfile<Box<RawValue>> =
            serde_json::from_str(r#"{"metadata": {"name": "a"}}"#).unwrap();
        assert_eq!(unread.spec.get(), "null");
    }

    #[test]
    fn it_is_the_same_resource_as_the_typed_one() {
        assert_eq!(
            RawSeccompProfile::<Value>::url_path(&(), Some("team")),
            "/apis/callgate.dev/v1alpha1/namespaces/team/seccompprofiles"
        );
        assert_eq!(
            RawSeccompProfile::<Value>::url_path(&(), None),
            SeccompProfile::url_path(&(), None)
        );
        assert_eq!(RawSeccompProfile::<Value>::kind(&()), "SeccompProfile");
    }
}
