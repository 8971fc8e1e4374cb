//! What the demo shows, in the order of a profile's life. Each scene says what comes, runs it, and checks it.

use anyhow::{Result, ensure};

use harness::Cluster;

use crate::NODE;
use crate::shell::{Shell, say};

const FILE: &str = "$SECCOMP/callgate/shop/web.json";
const DIGEST: &str = "kubectl -n shop get scp web -o jsonpath='{.status.digest}{\"\\n\"}'";

/// The whole tour, on a node that runs pods.
pub(crate) async fn on_a_node(shell: &Shell) -> Result<()> {
    say(
        "A Kubernetes runs with Callgate in it: one node, the agent on it, and two controllers. The node's profiles lie in\n\
         /var/lib/kubelet/seccomp, which is $SECCOMP seen from here.",
    );
    shell.run("kubectl get pods --namespace callgate -o wide")?;
    profiles(shell).await?;
    pod(shell).await
}

/// All of it that needs an API server only.
pub(crate) async fn beside_an_api_server(shell: &Shell, cluster: &Cluster) -> Result<()> {
    say(
        "A Kubernetes runs with Callgate in it: an API server, one controller, and the agent of node-1. On a node the\n\
         profiles lie in /var/lib/kubelet/seccomp; here that is $SECCOMP. (As root, make demo starts a whole node.)",
    );
    profiles(shell).await?;
    in_use(shell, cluster).await
}

/// The life of a profile.
async fn profiles(shell: &Shell) -> Result<()> {
    let first = install(shell)?;
    let second = update(shell, &first)?;
    broken_update(shell, &second).await?;
    refused_by_the_api_server(shell)?;
    refused_by_the_proofs(shell)?;
    drift(shell, &second).await?;
    overview(shell)?;
    delete(shell).await
}

/// Returns the digest of what is on disk.
fn install(shell: &Shell) -> Result<String> {
    say("1. A profile. It becomes a file on every node, once it is proven: Ready says it is there.");
    shell.run("cat docs/examples/web.yaml")?;
    shell.run("kubectl apply -f docs/examples/web.yaml")?;
    shell.run("kubectl -n shop wait --for=condition=Ready scp/web --timeout=60s")?;
    let table = shell.run("kubectl -n shop get scp")?;
    ensure!(
        table.contains("callgate/shop/web.json"),
        "the table does not show what a pod writes"
    );

    say(
        "A pod now writes securityContext.seccompProfile: {type: Localhost, localhostProfile: callgate/shop/web.json}.\n\
         The file is the OCI profile and nothing else, the same bytes on every node; status has its digest.",
    );
    let file = shell.run(&format!("cat {FILE}"))?;
    ensure!(
        file.contains("\"defaultAction\":\"SCMP_ACT_ALLOW\""),
        "the file does not hold the profile"
    );
    same_digest(shell)
}

fn update(shell: &Shell, before: &str) -> Result<String> {
    say(
        "2. An update: no other personality. The old file is replaced in one step, and Ready waits for the new one.",
    );
    shell.run(&add_entry("names: [personality], action: SCMP_ACT_ERRNO"))?;
    shell.run("kubectl -n shop wait --for=condition=Ready scp/web --timeout=60s")?;
    let after = same_digest(shell)?;
    ensure!(after != before, "the file is the old one");
    Ok(after)
}

async fn broken_update(shell: &Shell, live: &str) -> Result<()> {
    say(
        "3. A broken update. socket(AF_ALG) has an answer already, now it gets a second one. The schema cannot see\n\
         that; the proof does, and shows a call that gets both. The file of the last good version stays.",
    );
    shell.run(&add_entry(
        "names: [socket], action: SCMP_ACT_KILL_PROCESS, args: [{index: 0, op: SCMP_CMP_EQ, value: 38}]",
    ))?;
    shell.run("kubectl -n shop wait --for=condition=Valid=False scp/web --timeout=60s")?;
    let table = shell
        .until("kubectl -n shop get scp web", |table| {
            table.matches("False").count() == 2
        })
        .await?;
    ensure!(
        table.contains("callgate/shop/web.json"),
        "pods no longer learn the path"
    );
    let why = shell.run("kubectl -n shop get scp web -o jsonpath='{.status.conditions[?(@.type==\"Valid\")].message}{\"\\n\"}'")?;
    ensure!(
        why.contains("spec.syscalls["),
        "the reason does not name the place"
    );
    ensure!(why.contains("socket(0x26)"), "the reason does not show the call");
    let sum = shell.run(&format!("sha256sum < {FILE}"))?;
    ensure!(digest_of(&sum) == live, "the last good file is gone");

    say("Status also says which digest each node still has.");
    let failures = shell
        .until(
            "kubectl -n shop get scp web -o jsonpath='{.status.failures}{\"\\n\"}'",
            |failures| failures.contains(live),
        )
        .await?;
    ensure!(failures.contains("node-1"), "the node is not named");

    say("Without the second answer the profile is ready again.");
    shell.run("kubectl -n shop patch scp web --type=json -p '[{\"op\": \"remove\", \"path\": \"/spec/syscalls/5\"}]'")?;
    shell.run("kubectl -n shop wait --for=condition=Ready scp/web --timeout=60s")?;
    let sum = shell.run(&format!("sha256sum < {FILE}"))?;
    ensure!(digest_of(&sum) == live, "the file is not the one of before");
    Ok(())
}

fn refused_by_the_api_server(shell: &Shell) -> Result<()> {
    say("4. Typos do not get that far: the API server refuses them. A wrong action:");
    let answer = shell.refused("sed '0,/ERRNO/s//ERNO/' docs/examples/web.yaml | kubectl apply -f -")?;
    ensure!(
        answer.contains("SCMP_ACT_ERNO"),
        "the answer does not name the value"
    );

    say(
        "And arg for args. Kubernetes drops unknown keys unless told otherwise, and the profile would then deny every\n\
         socket; here they are refused, whatever the client.",
    );
    for client in [
        "kubectl apply -f -",
        "kubectl apply --validate=false -f -",
        "kubectl apply --server-side --force-conflicts -f -",
    ] {
        let answer = shell.refused(&format!(
            "sed 's/ args:/ arg:/' docs/examples/web.yaml | {client}"
        ))?;
        ensure!(
            answer.contains("unknown field in spec.syscalls[1]: arg "),
            "the answer does not name the key"
        );
    }
    Ok(())
}

fn refused_by_the_proofs(shell: &Shell) -> Result<()> {
    say("5. The proofs run without a cluster, too, and show the place in the file.");
    shell.run("callgate check docs/examples/web.yaml")?;
    let answer = shell.run("callgate check docs/examples/contradiction.yaml; echo \"exit code $?\"")?;
    ensure!(
        answer.contains("contradiction.yaml:") && answer.contains("exit code 1"),
        "the place is not shown"
    );
    say("Where it is applied all the same, it says so, and no node gets a file.");
    shell.run("kubectl apply -f docs/examples/contradiction.yaml")?;
    shell.run("kubectl -n shop wait --for=condition=Valid=False scp/contradiction --timeout=60s")?;
    let files = shell.run("ls $SECCOMP/callgate/shop")?;
    ensure!(files.trim() == "web.json", "a refused profile has a file");
    shell.run("kubectl -n shop delete scp contradiction")?;
    Ok(())
}

async fn drift(shell: &Shell, live: &str) -> Result<()> {
    say("6. Drift. What somebody changes or removes on the node comes back.");
    for damage in [
        &format!("echo '{{\"defaultAction\":\"SCMP_ACT_ALLOW\"}}' > {FILE}"),
        &format!("rm {FILE}"),
    ] {
        shell.run(damage)?;
        shell
            .until(&format!("sha256sum < {FILE}"), |sum| digest_of(sum) == live)
            .await?;
    }
    Ok(())
}

fn overview(shell: &Shell) -> Result<()> {
    say("7. What is where, asked of the nodes' own reports.");
    let nodes = shell.run("kubectl get seccompnodes")?;
    ensure!(nodes.contains(NODE), "the node has no report");
    let status = shell.run("callgate status")?;
    ensure!(
        status.contains("web"),
        "callgate status does not name the profile"
    );
    Ok(())
}

async fn delete(shell: &Shell) -> Result<()> {
    say(
        "8. A delete. The file goes after a grace (here two seconds, by default five minutes: a mass deletion that is\n\
         put back in time changes nothing), and never while a pod on the node uses it.",
    );
    shell.run("kubectl delete -f docs/examples/web.yaml")?;
    shell
        .until(&format!("ls {FILE}"), |answer| answer.contains("No such file"))
        .await?;
    Ok(())
}

async fn pod(shell: &Shell) -> Result<()> {
    say(
        "9. A pod. It starts under a profile that lets nothing make a directory, and it is refused just that.",
    );
    shell.run("cat kind/examples/pod.yaml")?;
    shell.run("kubectl apply -f kind/examples/profile.yaml -f kind/examples/pod.yaml")?;
    shell.run("kubectl -n shop wait --for=condition=Ready scp/no-mkdir pod/no-mkdir --timeout=60s")?;
    let listed = shell.run("kubectl -n shop exec no-mkdir -- ls /bin/busybox")?;
    ensure!(
        listed.contains("busybox"),
        "the container may not list a directory"
    );
    let denied = shell.refused("kubectl -n shop exec no-mkdir -- mkdir /tmp/x")?;
    ensure!(
        denied.contains("Operation not permitted"),
        "the container was not refused the call"
    );
    let status = shell.run("kubectl -n shop exec no-mkdir -- grep Seccomp /proc/1/status")?;
    ensure!(
        status
            .split_whitespace()
            .eq(["Seccomp:", "2", "Seccomp_filters:", "1"]),
        "the kernel shows another filter"
    );

    say("10. In use. A profile that running pods use is not deleted by mistake.");
    shell
        .until("callgate status", |status| {
            status
                .lines()
                .any(|line| line.starts_with("shop/no-mkdir ") && line.trim_end().ends_with(" 1"))
        })
        .await?;
    let answer = shell.refused("kubectl -n shop delete scp no-mkdir")?;
    ensure!(answer.contains(NODE), "the answer does not name the node");
    Ok(())
}

async fn in_use(shell: &Shell, cluster: &Cluster) -> Result<()> {
    say("9. In use. A profile that running pods use is not deleted by mistake.");
    shell.run("kubectl apply -f docs/examples/web.yaml")?;
    shell.run("kubectl -n shop wait --for=condition=Ready scp/web --timeout=60s")?;
    shell.run("cat docs/examples/pod.yaml")?;
    shell.run("kubectl apply -f docs/examples/pod.yaml")?;
    cluster.run_pod("shop", "web", NODE).await?;
    say("(No scheduler and no kubelet run here: the demo puts the pod on node-1 and says that it runs.)");
    shell
        .until("callgate status", |status| {
            status
                .lines()
                .any(|line| line.starts_with("shop/web ") && line.trim_end().ends_with(" 1"))
        })
        .await?;
    let answer = shell.refused("kubectl delete -f docs/examples/web.yaml")?;
    ensure!(answer.contains(NODE), "the answer does not name the node");
    Ok(())
}

/// Shows the digest in status and that of the file, which must be one, and returns it.
fn same_digest(shell: &Shell) -> Result<String> {
    let reported = shell.run(DIGEST)?;
    let sum = digest_of(&shell.run(&format!("sha256sum < {FILE}"))?);
    ensure!(
        reported.trim() == format!("sha256:{sum}"),
        "status and disk differ"
    );
    Ok(sum)
}

fn digest_of(sha256sum: &str) -> String {
    sha256sum.split_whitespace().next().unwrap_or_default().to_owned()
}

/// A command that adds an entry to the profile.
fn add_entry(entry: &str) -> String {
    format!(
        "kubectl -n shop patch scp web --type=json -p '[{{op: add, path: /spec/syscalls/-, value: {{{entry}}}}}]'"
    )
}
