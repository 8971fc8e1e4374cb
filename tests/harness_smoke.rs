//! The local Kubernetes that the other tests stand on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::{Cluster, eventually};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::OnceCell;

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

async fn review(client: Client) -> Result<SelfSubjectReview> {
    Ok(Api::all(client)
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?)
}

#[tokio::test]
async fn a_cluster_keeps_its_data_over_a_restart_and_leaves_nothing_behind() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let client = cluster.admin().await?;
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let map = ConfigMap {
        metadata: named("kept"),
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &map).await?;

    cluster.stop_apiserver()?;
    assert!(maps.get("kept").await.is_err(), "a stopped API server answered");
    assert!(!cluster.kubectl(&["get", "configmap", "kept"], "").await?.success);
    cluster.start_apiserver().await?;
    maps.get("kept")
        .await
        .context("after the restart, with the client from before")?;
    assert!(
        cluster
            .kubectl(&["get", "configmap", "kept", "-o", "name"], "")
            .await?
            .ok()?
            .contains("kept")
    );

    let processes = cluster.processes();
    let directory = cluster.directory().to_owned();
    assert_eq!(processes.len(), 2);
    drop(cluster);
    for process in processes {
        assert!(
            !Path::new(&format!("/proc/{process}")).exists(),
            "process {process} is still there"
        );
    }
    assert!(!directory.exists(), "{} is still there", directory.display());
    Ok(())
}

#[tokio::test]
async fn without_the_admins_token_nobody_is_admin() -> Result<()> {
    let (one, other) = tokio::try_join!(Cluster::start(), Cluster::start())?;
    assert_eq!(list_namespaces(admin_with(&one, |_| {}).await?).await, "taken");
    assert_eq!(
        list_namespaces(admin_with(&one, |user| *user = AuthInfo::default()).await?).await,
        "403: namespaces is forbidden: User \"system:anonymous\" cannot list resource \"namespaces\" in API group \"\" \
         at the cluster scope"
    );
    let foreign = token_of(&other)?;
    for wrong in ["admin", foreign.as_str()] {
        let client = admin_with(&one, |user| user.token = Some(wrong.to_owned().into())).await?;
        assert_eq!(
            list_namespaces(client).await,
            "401: Unauthorized",
            "with token {wrong:?}"
        );
    }
    Ok(())
}

/// A client with the admin's kubeconfig, changed.
async fn admin_with(cluster: &Cluster, change: impl FnOnce(&mut AuthInfo)) -> Result<Client> {
    let mut kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let user = kubeconfig.auth_infos[0].auth_info.as_mut();
    change(user.context("the kubeconfig has no user")?);
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn token_of(cluster: &Cluster) -> Result<String> {
    let kubeconfig: serde_json::Value = serde_json::from_slice(&std::fs::read(cluster.kubeconfig())?)?;
    let token = kubeconfig["users"][0]["user"]["token"].as_str();
    Ok(token.context("the admin has no token")?.to_owned())
}

async fn list_namespaces(client: Client) -> String {
    match Api::<Namespace>::all(client).list(&ListParams::default()).await {
        Ok(_) => "taken".to_owned(),
        Err(kube::Error::Api(status)) => format!("{}: {}", status.code, status.message),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn another_user_of_the_machine_reaches_one_port_and_no_file() -> Result<()> {
    let cluster = Cluster::start().await?;
    let directory = cluster.directory();
    let mode = |path: &Path| -> Result<u32> { Ok(path.metadata()?.permissions().mode() & 0o777) };
    assert_eq!(mode(directory)?, 0o700);
    // Whoever reads one of these is admin, or can sign a token that says so.
    for secret in ["tokens.csv", "admin.kubeconfig", "pki/apiserver.key"] {
        assert_eq!(mode(&directory.join(secret))?, 0o600, "{secret}");
    }

    let address = Config::from_custom_kubeconfig(
        Kubeconfig::read_from(cluster.kubeconfig())?,
        &KubeConfigOptions::default(),
    )
    .await?
    .cluster_url;
    let port = address.port_u16().context("the API server has no port")?;
    let [etcd, apiserver] = cluster.processes()[..] else {
        panic!("not two processes: {:?}", cluster.processes());
    };
    assert_eq!(tcp_listeners(apiserver)?, [format!("0100007F:{port:04X}")]);
    assert!(tcp_listeners(etcd)?.is_empty(), "{:?}", tcp_listeners(etcd)?);
    // A socket with a name of the kernel's, not of a file ("@..."), would have no permissions.
    let mut sockets = unix_listeners(etcd)?;
    sockets.sort();
    let path = directory.join("etcd.sock").display().to_string();
    assert_eq!(sockets, [path.as_str(), "peer.sock"]);
    assert!(directory.join("peer.sock").exists(), "it lies elsewhere");
    assert!(unix_listeners(apiserver)?.is_empty());
    Ok(())
}

/// Where a process accepts TCP connections, as the kernel prints that: ADDRESS:PORT in hexadecimal digits, 127.0.0.1
/// being 0100007F.
fn tcp_listeners(process: u32) -> Result<Vec<String>> {
    const LISTENING: &str = "0A";
    let mut found = open_sockets(process, "tcp", |columns| {
        (columns[3] == LISTENING).then(|| (columns[9], columns[1]))
    })?;
    found.extend(open_sockets(process, "tcp6", |columns| {
        (columns[3] == LISTENING).then(|| (columns[9], columns[1]))
    })?);
    Ok(found)
}

/// The paths of the Unix sockets that a process accepts connections on.
fn unix_listeners(process: u32) -> Result<Vec<String>> {
    const ACCEPTS_CONNECTIONS: &str = "00010000";
    open_sockets(process, "unix", |columns| {
        (columns[3] == ACCEPTS_CONNECTIONS).then(|| (columns[6], columns.get(7).copied().unwrap_or("@")))
    })
}

/// Names of those sockets in /proc/PID/net/TABLE that the process has open; `row` picks rows and says which columns
/// are the inode and the name (`proc_net(5)`).
fn open_sockets(
    process: u32,
    table: &str,
    row: impl for<'t> Fn(&[&'t str]) -> Option<(&'t str, &'t str)>,
) -> Result<Vec<String>> {
    let table = std::fs::read_to_string(format!("/proc/{process}/net/{table}"))?;
    let names: BTreeMap<&str, &str> = table
        .lines()
        .skip(1)
        .filter_map(|line| row(&line.split_whitespace().collect::<Vec<_>>()))
        .collect();
    let mut found = Vec::new();
    for descriptor in std::fs::read_dir(format!("/proc/{process}/fd"))? {
        // A descriptor may be closed again by now.
        let Ok(target) = std::fs::read_link(descriptor?.path()) else {
            continue;
        };
        let target = target.to_string_lossy();
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        found.extend(
            inode
                .and_then(|inode| names.get(inode))
                .map(|name| (*name).to_owned()),
        );
    }
    Ok(found)
}

#[tokio::test]
async fn a_token_of_an_agents_pod_names_the_pods_node() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.namespace(harness::NAMESPACE).await?;
    let accounts = Api::<ServiceAccount>::namespaced(cluster.admin().await?, harness::NAMESPACE);
    let account = ServiceAccount {
        metadata: named(harness::AGENT_SERVICE_ACCOUNT),
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &account).await?;

    let client = cluster.agent_client("north").await?;
    let user = review(client)
        .await?
        .status
        .and_then(|status| status.user_info)
        .context("no answer")?;
    assert_eq!(
        user.username.as_deref(),
        Some("system:serviceaccount:callgate:callgate-agent")
    );
    let extra = user.extra.unwrap_or_default();
    assert_eq!(
        extra.get("authentication.kubernetes.io/node-name"),
        Some(&vec!["north".to_owned()])
    );
    assert_eq!(
        extra.get("authentication.kubernetes.io/pod-name"),
        Some(&vec!["callgate-agent-north".to_owned()])
    );
    Ok(())
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_resource() -> Result<()> {
    let cluster = Cluster::start().await?;
    let maps = Api::<ConfigMap>::namespaced(cluster.admin().await?, "default");
    let posts = async || -> Result<u64> {
        let request = harness::Request {
            verb: "POST".to_owned(),
            resource: "configmaps".to_owned(),
        };
        Ok(cluster
            .requests()
            .await?
            .get(&request)
            .copied()
            .unwrap_or_default())
    };
    let before = posts().await?;
    for name in ["one", "two", "three"] {
        let map = ConfigMap {
            metadata: named(name),
            ..ConfigMap::default()
        };
        maps.create(&PostParams::default(), &map).await?;
    }
    assert_eq!(posts().await? - before, 3);
    Ok(())
}

#[tokio::test]
async fn an_installed_cluster_serves_the_definitions_and_enforces_the_policies() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    cluster
        .kubectl(&["get", "scp,seccompnodes", "--all-namespaces"], "")
        .await?
        .ok()?;
    let typo = "{apiVersion: callgate.dev/v1alpha1, kind: SeccompProfile, metadata: {name: typo}, \
                spec: {defaultAction: SCMP_ACT_ALLOW, sycalls: []}}";
    let answer = cluster
        .kubectl(&["create", "--validate=false", "-f", "-"], typo)
        .await?;
    assert!(!answer.success && answer.stderr.contains("sycalls"), "{answer:?}");
    Ok(())
}

/// The namespace by which a cluster is known again.
const MARK: &str = "it-was-here";

/// Complete, so that who goes by it connects.
const USERS_OWN: &str = "
apiVersion: v1
kind: Config
clusters: [{ name: own, cluster: { server: SERVER, insecure-skip-tls-verify: true } }]
users: [{ name: own, user: { token: own } }]
contexts: [{ name: own, context: { cluster: own, user: own } }]
current-context: own
";

#[tokio::test]
async fn only_the_cluster_that_the_variable_names_is_used_and_never_the_users_own() -> Result<()> {
    let home = tempfile::tempdir()?;
    let users_own = TcpListener::bind("127.0.0.1:0")?;
    users_own.set_nonblocking(true)?;
    std::fs::create_dir(home.path().join(".kube"))?;
    let kubeconfig = home.path().join(".kube/config");
    let server = format!("https://{}", users_own.local_addr()?);
    std::fs::write(&kubeconfig, USERS_OWN.replace("SERVER", &server))?;

    let existing = Cluster::start().await?;
    let namespaces = Api::<Namespace>::all(existing.admin().await?);
    for named in [false, true] {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--ignored", "--exact", "makes_a_namespace_where_it_is_told_to"])
            .env("HOME", home.path())
            .env("KUBECONFIG", &kubeconfig)
            .env_remove("CALLGATE_TEST_KUBECONFIG");
        if named {
            command.env("CALLGATE_TEST_KUBECONFIG", existing.kubeconfig());
        }
        let run = command.output()?;
        assert!(
            run.status.success(),
            "{}{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
        assert_eq!(namespaces.get_opt(MARK).await?.is_some(), named);
        swept(&Leftovers::of(run)?).await?;
    }
    let error = users_own
        .accept()
        .expect_err("somebody used the user's own context");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    Ok(())
}

/// What another run of this program printed, and what it had started.
struct Leftovers {
    output: String,
    processes: Vec<String>,
    directory: String,
}

/// Runs one of the two tests below, which say first what they started.
fn run_ignored(test: &str) -> Result<Leftovers> {
    let run = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", test])
        .env_remove("CALLGATE_TEST_KUBECONFIG")
        .output()?;
    assert!(!run.status.success(), "{test} did not fail");
    Leftovers::of(run)
}

impl Leftovers {
    fn of(run: std::process::Output) -> Result<Self> {
        let output = String::from_utf8(run.stdout)? + &String::from_utf8(run.stderr)?;
        let said = output
            .lines()
            .find_map(|line| line.strip_prefix("started: "))
            .with_context(|| format!("it did not start anything:\n{output}"))?;
        let mut words = said.split(' ').map(str::to_owned);
        Ok(Self {
            directory: words.next().context("no directory")?,
            processes: words.collect(),
            output,
        })
    }
}

/// Says what there is to be left behind. Straight to standard output: what is captured is lost when nothing fails.
fn say_what_started(cluster: &Cluster) -> Result<()> {
    let mut out = std::io::stdout();
    write!(out, "\nstarted: {}", cluster.directory().display())?;
    for process in cluster.processes() {
        write!(out, " {process}")?;
    }
    Ok(writeln!(out)?)
}

/// Waits until nothing of it is left.
async fn swept(leftovers: &Leftovers) -> Result<()> {
    eventually("processes and files to be gone", async || {
        for process in &leftovers.processes {
            // An orphan may stay as a zombie, where no init takes note of its end.
            if let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) {
                ensure!(status.contains("\nState:\tZ"), "process {process} runs");
            }
        }
        ensure!(
            !Path::new(&leftovers.directory).exists(),
            "{} is there",
            leftovers.directory
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_test_that_fails_shows_the_logs_and_leaves_nothing_behind() -> Result<()> {
    let leftovers = run_ignored("fails_on_purpose")?;
    let log = format!("--- the end of {}/kube-apiserver.log:\n", leftovers.directory);
    let (before, after) = leftovers.output.split_once(&log).context("no log")?;
    assert!(before.contains("this assertion fails"), "{before}");
    assert!(!after.lines().next().unwrap_or_default().is_empty());
    swept(&leftovers).await
}

#[tokio::test]
async fn a_test_that_is_killed_leaves_nothing_behind() -> Result<()> {
    swept(&run_ignored("is_killed_on_purpose")?).await
}

#[tokio::test]
#[ignore = "it fails, for the test of that"]
async fn fails_on_purpose() -> Result<()> {
    let cluster = Cluster::start().await?;
    say_what_started(&cluster)?;
    panic!("this assertion fails");
}

#[tokio::test]
#[ignore = "it kills this program, for the test of that"]
async fn is_killed_on_purpose() -> Result<()> {
    let cluster = Cluster::start().await?;
    say_what_started(&cluster)?;
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    std::future::pending().await
}

/// As tests share it: never dropped.
static PROVIDED: OnceCell<Cluster> = OnceCell::const_new();

#[tokio::test]
#[ignore = "where it does so depends on the environment, which another test makes"]
async fn makes_a_namespace_where_it_is_told_to() -> Result<()> {
    let cluster = PROVIDED.get_or_try_init(Cluster::provided).await?;
    say_what_started(cluster)?;
    cluster.namespace(MARK).await?;
    cluster.kubectl(&["get", "namespace", MARK], "").await?.ok()?;
    let token = cluster.token(&format!("{MARK}/default"), None).await?;
    review(cluster.client_for(&token).await?).await?;
    Ok(())
}
