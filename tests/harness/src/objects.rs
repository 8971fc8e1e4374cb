//! Objects that a real cluster makes by itself.

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::Cluster;

/// The namespace that `deploy/` installs into.
pub const NAMESPACE: &str = "callgate";
/// The `ServiceAccount` of the agents in `deploy/`.
pub const AGENT_SERVICE_ACCOUNT: &str = "callgate-agent";
/// The `ServiceAccount` of the controller in `deploy/`.
pub const CONTROLLER_SERVICE_ACCOUNT: &str = "callgate-controller";

impl Cluster {
    /// Makes a namespace with the `default` `ServiceAccount` that pods in it need.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let client = self.admin().await?;
        apply(&Api::<Namespace>::all(client.clone()), name, &json!({})).await?;
        apply(
            &Api::<ServiceAccount>::namespaced(client, name),
            "default",
            &json!({}),
        )
        .await?;
        Ok(())
    }

    /// Makes a Node object with these labels, or gives an existing one them.
    pub async fn node(&self, name: &str, labels: &[(&str, &str)]) -> Result<Node> {
        let of_every_kubelet = [
            ("kubernetes.io/hostname", name),
            ("kubernetes.io/os", "linux"),
            (
                "kubernetes.io/arch",
                if cfg!(target_arch = "aarch64") {
                    "arm64"
                } else {
                    "amd64"
                },
            ),
        ];
        let labels: serde_json::Map<_, _> = of_every_kubelet
            .iter()
            .chain(labels)
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let nodes = Api::<Node>::all(self.admin().await?);
        apply(&nodes, name, &json!({ "metadata": { "labels": labels } })).await
    }

    /// Makes the pod of an agent on a node, Running and Ready, as the `DaemonSet` and the kubelet would.
    pub async fn agent_pod(&self, node: &str) -> Result<Pod> {
        let labels = json!({ "app.kubernetes.io/name": "callgate", "app.kubernetes.io/component": "agent" });
        let name = format!("{AGENT_SERVICE_ACCOUNT}-{node}");
        self.pod(NAMESPACE, &name, labels, AGENT_SERVICE_ACCOUNT, Some(node))
            .await?;
        self.pod_ready(NAMESPACE, &name, true).await
    }

    /// Makes the pod of a controller, as its Deployment would; its name ends with `suffix`.
    pub async fn controller_pod(&self, suffix: &str) -> Result<Pod> {
        let labels =
            json!({ "app.kubernetes.io/name": "callgate", "app.kubernetes.io/component": "controller" });
        let name = format!("{CONTROLLER_SERVICE_ACCOUNT}-{suffix}");
        self.pod(NAMESPACE, &name, labels, CONTROLLER_SERVICE_ACCOUNT, None)
            .await
    }

    /// Puts a pod on a node and says that it runs there, as the scheduler and the kubelet would.
    pub async fn run_pod(&self, namespace: &str, name: &str, node: &str) -> Result<Pod> {
        let pods = Api::<Pod>::namespaced(self.admin().await?, namespace);
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": name },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let bound: Result<Status, _> = pods
            .create_subresource("binding", name, &PostParams::default(), &binding)
            .await;
        bound.with_context(|| format!("cannot bind pod {namespace}/{name} to node {node}"))?;
        self.pod_ready(namespace, name, true).await
    }

    /// Sets a pod's phase to Running and its Ready condition.
    pub async fn pod_ready(&self, namespace: &str, name: &str, ready: bool) -> Result<Pod> {
        let status = if ready { "True" } else { "False" };
        let patch = json!({
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": status }] },
        });
        let pods = Api::<Pod>::namespaced(self.admin().await?, namespace);
        let patched = pods
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.with_context(|| format!("cannot set the status of pod {namespace}/{name}"))
    }

    /// A token of a `ServiceAccount`, given as `namespace/name`; bound to `pod` if there is one, and with that to the
    /// pod's node, as the token is that a kubelet mounts.
    pub async fn token(&self, service_account: &str, pod: Option<&Pod>) -> Result<String> {
        let (namespace, name) = service_account
            .split_once('/')
            .context("a ServiceAccount is written namespace/name")?;
        let request = TokenRequest {
            spec: TokenRequestSpec {
                // An empty list is the API server's own audience.
                audiences: Vec::new(),
                bound_object_ref: pod.map(|pod| BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.name_any()),
                    uid: pod.uid(),
                }),
                expiration_seconds: Some(24 * 3600),
            },
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(self.admin().await?, namespace);
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for {service_account}"))?;
        Ok(answer
            .status
            .context("the API server answered without a token")?
            .token)
    }

    async fn pod(
        &self,
        namespace: &str,
        name: &str,
        labels: serde_json::Value,
        service_account: &str,
        node: Option<&str>,
    ) -> Result<Pod> {
        let pods = Api::<Pod>::namespaced(self.admin().await?, namespace);
        let pod = json!({
            "metadata": { "labels": labels },
            "spec": {
                "serviceAccountName": service_account,
                "nodeName": node,
                "containers": [{ "name": "callgate", "image": "callgate" }],
            },
        });
        apply(&pods, name, &pod).await
    }
}

/// Server-side apply of a typed object: one request to create it or to bring it up to date.
async fn apply<K>(api: &Api<K>, name: &str, fields: &serde_json::Value) -> Result<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let mut object = fields.clone();
    object["apiVersion"] = json!(K::api_version(&()));
    object["kind"] = json!(K::kind(&()));
    object["metadata"]["name"] = json!(name);
    let parameters = PatchParams::apply("callgate-harness").force();
    let applied = api.patch(name, &parameters, &Patch::Apply(&object)).await;
    applied.with_context(|| format!("cannot apply {} {name}", K::kind(&())))
}

impl Cluster {
    /// A client that acts as an agent on this node, with its Node and its pod made if they are missing.
    pub async fn agent_client(&self, node: &str) -> Result<Client> {
        self.client_for(&self.agent_token(node).await?).await
    }

    /// The token that the agent on this node would find in its pod, with its Node and its pod made if they are
    /// missing.
    pub async fn agent_token(&self, node: &str) -> Result<String> {
        self.node(node, &[]).await?;
        let pod = self.agent_pod(node).await?;
        self.token(&format!("{NAMESPACE}/{AGENT_SERVICE_ACCOUNT}"), Some(&pod))
            .await
    }

    /// The token that a controller would find in its pod.
    pub async fn controller_token(&self, suffix: &str) -> Result<String> {
        let pod = self.controller_pod(suffix).await?;
        self.token(&format!("{NAMESPACE}/{CONTROLLER_SERVICE_ACCOUNT}"), Some(&pod))
            .await
    }
}
