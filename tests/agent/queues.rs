//! How the API server queues what agents ask for.

use anyhow::{Context as _, Result, ensure};
use harness::eventually;
use hyper::Request;
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use kube::client::Body;
use kube::{Api, ResourceExt as _};

use crate::bed::shared;

/// The uid of the schema that a request falls under.
///
/// Source: <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#diagnostics>
async fn flow_schema(client: &kube::Client, method: &str, path: &str) -> Result<String> {
    let request = Request::builder().method(method).uri(path).body(Body::empty())?;
    let answer = client.send(request).await?;
    let uid = answer.headers().get("X-Kubernetes-PF-FlowSchema-UID");
    Ok(uid.context("the API server queues nothing")?.to_str()?.to_owned())
}

#[tokio::test]
async fn what_agents_read_is_a_flow_of_its_own_and_not_that_of_their_reports() -> Result<()> {
    let cluster = shared().await?;
    let agent = cluster.agent_client("queued").await?;
    let schemas = Api::<FlowSchema>::all(cluster.admin().await?);
    let schema = schemas.get("callgate-agent-reads").await?;
    let of_reads = schema.uid().context("a schema without a uid")?;
    for path in [
        "/apis/callgate.dev/v1alpha1/seccompprofiles",
        "/apis/callgate.dev/v1alpha1/seccompprofiles?watch=1&timeoutSeconds=1",
        "/apis/callgate.dev/v1alpha1/seccompnodes?fieldSelector=metadata.name%3Dqueued",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dqueued",
        "/api/v1/nodes?fieldSelector=metadata.name%3Dqueued",
        "/api/v1/namespaces/kube-system",
    ] {
        eventually("the schema to be in force", async || {
            let of_this = flow_schema(&agent, "GET", path).await?;
            ensure!(of_this == of_reads, "{path} falls under {of_this}");
            Ok(())
        })
        .await?;
    }
    let report = "/apis/callgate.dev/v1alpha1/seccompnodes/queued";
    ensure!(flow_schema(&agent, "PATCH", report).await? != of_reads);
    Ok(())
}
