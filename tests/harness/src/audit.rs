//! What the API server writes down of requests by service accounts.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{Cluster, private};

/// A request that a service account made, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` …
    pub verb: String,
    /// The path with its query.
    pub uri: String,
    /// Of what is asked for; the core group has no name. Without a resource, empty.
    pub group: String,
    /// Plural, with `/status` behind it where a subresource is meant; empty for a path that is of no resource.
    pub resource: String,
    /// Of the object or list; none for what is in no namespace, and for lists over all of them.
    pub namespace: Option<String>,
    /// Of the object, where the request names one.
    pub name: Option<String>,
    /// The status code of the answer.
    pub code: u64,
    /// Whether who asked had the right. What is allowed may be refused all the same: a new object in a namespace that is
    /// being deleted is, with the code of a right that is missing.
    pub is_allowed: bool,
}

/// Adds what makes an API server write its log, with the policy in `directory`.
pub(crate) fn enable(apiserver: &mut Command, directory: &Path) -> Result<()> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        // A watch is written down when it begins, too.
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "Metadata", "userGroups": ["system:serviceaccounts"] },
            { "level": "None" },
        ],
    });
    let file = directory.join("audit-policy.json");
    private::write(&file, &serde_json::to_vec(&policy)?)?;
    apiserver
        .arg(format!("--audit-policy-file={}", file.display()))
        .arg(format!("--audit-log-path={}", log(directory).display()))
        // Written before the answer is sent.
        .arg("--audit-log-mode=blocking");
    Ok(())
}

fn log(directory: &Path) -> PathBuf {
    directory.join("audit.log")
}

impl Cluster {
    /// Every request that service accounts have made and that was answered, in order; of a cluster that
    /// [`Cluster::start_audited`] started. A watch counts as answered when it begins, and once more when it ends.
    pub fn audited(&self) -> Result<Vec<Audited>> {
        let log = log(self.directory());
        let text = std::fs::read_to_string(&log)
            .with_context(|| format!("cannot read {}; is the cluster audited?", log.display()))?;
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(parse).collect()
    }
}

fn parse(line: &str) -> Result<Audited> {
    let event: Value = serde_json::from_str(line).with_context(|| format!("no audit event: {line}"))?;
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let needed = |pointer: &str| text(pointer).with_context(|| format!("no {pointer} in {line}"));
    let resource = text("/objectRef/resource").unwrap_or_default();
    Ok(Audited {
        user: needed("/user/username")?,
        verb: needed("/verb")?,
        uri: needed("/requestURI")?,
        group: text("/objectRef/apiGroup").unwrap_or_default(),
        resource: match text("/objectRef/subresource") {
            Some(subresource) => format!("{resource}/{subresource}"),
            None => resource,
        },
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        code: event
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64)
            .with_context(|| format!("no answer in {line}"))?,
        is_allowed: text("/annotations/authorization.k8s.io~1decision").as_deref() != Some("forbid"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_answer_and_one_that_is_of_no_resource_by_its_path() {
        let status = r#"{"kind":"Event","level":"Metadata","stage":"ResponseComplete","requestURI":"/apis/callgate.dev/v1alpha1/namespaces/team/seccompprofiles/web/status?","verb":"patch","user":{"username":"system:serviceaccount:callgate:callgate-controller"},"objectRef":{"resource":"seccompprofiles","namespace":"team","name":"web","apiGroup":"callgate.dev","apiVersion":"v1alpha1","subresource":"status"},"responseStatus":{"metadata":{},"code":200},"annotations":{"authorization.k8s.io/decision":"allow"}}"#;
        assert_eq!(
            parse(status).unwrap(),
            Audited {
                user: "system:serviceaccount:callgate:callgate-controller".to_owned(),
                verb: "patch".to_owned(),
                uri: "/apis/callgate.dev/v1alpha1/namespaces/team/seccompprofiles/web/status?".to_owned(),
                group: "callgate.dev".to_owned(),
                resource: "seccompprofiles/status".to_owned(),
                namespace: Some("team".to_owned()),
                name: Some("web".to_owned()),
                code: 200,
                is_allowed: true,
            }
        );
        let version = r#"{"requestURI":"/version","verb":"get","user":{"username":"someone"},"responseStatus":{"code":403},"annotations":{"authorization.k8s.io/decision":"forbid"}}"#;
        let version = parse(version).unwrap();
        assert_eq!((version.resource.as_str(), version.code), ("", 403));
        assert!(!version.is_allowed);
    }
}
