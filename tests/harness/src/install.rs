//! Installing Callgate's own manifests.

use anyhow::{Context as _, Result, bail};

use crate::wait::eventually;
use crate::{AGENT_SERVICE_ACCOUNT, Cluster, NAMESPACE, Output, repository};

/// A key that no version of the API knows; only a policy refuses it.
const UNKNOWN_KEY: &str = r"
apiVersion: callgate.dev/v1alpha1
kind: SeccompProfile
metadata: { name: probe, namespace: default }
spec: { defaultAction: SCMP_ACT_ALLOW, harnessProbe: true }
";

/// A report for another node than that in the token (there is none in it); only a policy refuses it.
const FOREIGN_REPORT: &str = r"
apiVersion: callgate.dev/v1alpha1
kind: SeccompNode
metadata: { name: harness-probe }
";

impl Cluster {
    /// Applies `deploy/`, and waits until the CRDs are served and the admission policies in force (the API server
    /// compiles new policies in the background, which may take ten seconds and more).
    pub async fn install(&self) -> Result<()> {
        let deploy = repository().join("deploy");
        let deploy = deploy.to_str().context("the repository's path is not UTF-8")?;
        let apply = ["apply", "--server-side", "--force-conflicts", "-k", deploy];
        self.kubectl(&apply, "").await?.ok()?;
        self.in_force(NAMESPACE).await
    }

    /// Installs or upgrades the chart into [`NAMESPACE`] with these arguments of helm beside the usual ones, and waits
    /// until its pods are Ready and its policies in force. For clusters that run pods.
    pub async fn install_chart(&self, arguments: &[&str]) -> Result<()> {
        let chart = repository().join("charts/callgate");
        let chart = chart.to_str().context("the repository's path is not UTF-8")?;
        let upgrade = [
            "upgrade",
            "--install",
            "callgate",
            chart,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout=3m",
        ];
        self.helm(&[&upgrade, arguments].concat()).await?.ok()?;
        self.in_force(NAMESPACE).await
    }

    /// Waits until Callgate's CRDs are served and its admission policies in force, wherever they came from; its
    /// agents are in `namespace`.
    pub async fn in_force(&self, namespace: &str) -> Result<()> {
        let established = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/seccompprofiles.callgate.dev",
            "crd/seccompnodes.callgate.dev",
        ];
        self.kubectl(&established, "").await?.ok()?;

        let create = ["create", "--dry-run=server", "--validate=false", "-f", "-"];
        eventually("the policy on unknown keys to be in force", async || {
            refused_by_policy(&self.kubectl(&create, UNKNOWN_KEY).await?)
        })
        .await?;
        let agent = format!("--as=system:serviceaccount:{namespace}:{AGENT_SERVICE_ACCOUNT}");
        eventually("the policy on node reports to be in force", async || {
            refused_by_policy(
                &self
                    .kubectl(&[&create[..], &[&agent]].concat(), FOREIGN_REPORT)
                    .await?,
            )
        })
        .await
    }
}

fn refused_by_policy(output: &Output) -> Result<()> {
    if output.success {
        bail!("the API server took what a policy should refuse");
    }
    if !output.stderr.contains("ValidatingAdmissionPolicy") {
        bail!("refused, and not by a policy: {}", output.stderr.trim());
    }
    Ok(())
}
