//! The real processes, on a real API server.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use callgate::api::{ConditionStatus, NodeCondition, SeccompNode};
use callgate::profile::{Digest, ProfileName};
use harness::{AGENT_SERVICE_ACCOUNT, Cluster, NAMESPACE, Program, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::{assert_has_no_privilege, expected, landlock_version};

const CALLGATE: &str = env!("CARGO_BIN_EXE_callgate");

/// The file of each profile that is applied here.
const FILE: &str = "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}\n";

async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER
        .get_or_try_init(async || {
            let cluster = Cluster::start().await?;
            cluster.install().await?;
            Ok(cluster)
        })
        .await
}

/// A node, and a namespace of the same name with profiles.
struct Node {
    cluster: &'static Cluster,
    name: &'static str,
    files: TempDir,
}

impl Node {
    async fn new(name: &'static str) -> Result<Self> {
        let cluster = cluster().await?;
        cluster.namespace(name).await?;
        let files = tempfile::tempdir()?;
        fs::create_dir(files.path().join("seccomp"))?;
        Ok(Self { cluster, name, files })
    }

    fn root(&self) -> PathBuf {
        self.files.path().join("seccomp")
    }

    fn home(&self) -> PathBuf {
        self.root().join("callgate")
    }

    fn file(&self, profile: &str) -> PathBuf {
        self.home().join(self.name).join(format!("{profile}.json"))
    }

    async fn start(&self) -> Result<Program> {
        let callgate = Path::new(CALLGATE);
        self.cluster
            .start_agent(callgate, self.name, &self.root(), "1h")
            .await
    }

    async fn start_ready(&self) -> Result<Program> {
        let mut agent = self.start().await?;
        agent.ready().await?;
        Ok(agent)
    }

    async fn apply(&self, profile: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": {"name": profile, "namespace": self.name},
            "spec": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "nodeSelector": {"kubernetes.io/hostname": self.name},
            },
        });
        let apply = ["apply", "--server-side", "-f", "-"];
        self.cluster.kubectl(&apply, &object.to_string()).await?.ok()?;
        Ok(())
    }

    /// Waits until the file of a profile is what is applied here.
    async fn installed(&self, profile: &str) -> Result<()> {
        let path = self.file(profile);
        eventually(&format!("{} to be installed", path.display()), async || {
            let bytes = fs::read_to_string(&path)?;
            ensure!(bytes == FILE, "it holds {bytes}");
            Ok(())
        })
        .await
    }

    async fn report(&self) -> Result<SeccompNode> {
        let reports = Api::<SeccompNode>::all(self.cluster.admin().await?);
        Ok(reports.get(self.name).await?)
    }

    /// Waits until the report says that the profile is live.
    async fn live(&self, profile: &str) -> Result<()> {
        self.installed(profile).await?;
        let digest = Digest::of(&fs::read(self.file(profile))?);
        let name = ProfileName::new(self.name, profile)?;
        eventually(&format!("{name} to be reported"), async || {
            let report = self.report().await?;
            ensure!(report.spec.profiles.contains(&name, &digest), "{report:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a condition of the report has this reason. Its status and its message.
    async fn condition(&self, condition: NodeCondition, reason: &str) -> Result<(ConditionStatus, String)> {
        eventually(
            &format!("{} because of {reason}", condition.as_str()),
            async || {
                let conditions = self.report().await?.spec.conditions;
                let found = conditions.iter().find(|found| found.type_ == condition.as_str());
                let found = found.with_context(|| format!("{conditions:?}"))?;
                ensure!(found.reason == reason, "{conditions:?}");
                Ok((found.status, found.message.clone()))
            },
        )
        .await
    }
}

/// Waits until it ends by itself. How, and what it logged last.
async fn ended(agent: &mut Program) -> Result<String> {
    eventually("the agent to end", async || match agent.process().running() {
        Ok(()) => bail!("it runs"),
        Err(ended) => Ok(ended.to_string()),
    })
    .await
}

/// The children of a process.
fn children(process: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let of_thread = fs::read_to_string(thread?.path().join("children"))?;
        for child in of_thread.split_whitespace() {
            children.push(child.parse()?);
        }
    }
    Ok(children)
}

/// Asserts it of each thread of a process and of each of its children.
fn assert_has_no_privilege_anywhere(process: u32) -> Result<()> {
    let children = children(process)?;
    assert!(!children.is_empty(), "{process} has no fork server");
    for process in children.into_iter().chain([process]) {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let thread = thread?.file_name();
            assert_has_no_privilege(&format!("{process}/task/{}", thread.to_string_lossy()));
        }
    }
    Ok(())
}

#[tokio::test]
async fn neither_process_nor_its_fork_server_has_a_privilege_and_the_node_says_how_far_it_is_shut_in()
-> Result<()> {
    let node = Node::new("privileges").await?;
    let mut agent = node.start_ready().await?;
    let callgate = Path::new(CALLGATE);
    let mut controller = node.cluster.start_controller(callgate, "privileges").await?;
    controller.ready().await?;
    for program in [&mut agent, &mut controller] {
        assert_has_no_privilege_anywhere(program.process().id())?;
        let log = program.process().log()?;
        assert!(log.contains("shut in"), "{log}");
    }
    let (is_confined, reason) = expected();
    let (status, message) = node.condition(NodeCondition::Confined, reason).await?;
    assert_eq!(status == ConditionStatus::True, is_confined, "{message}");
    controller.terminate().await?;
    agent.terminate().await
}

/// A token as the kubelet mounts it: of a new one it changes the link in the middle alone.
struct TokenVolume<'a>(&'a Path);

impl TokenVolume<'_> {
    fn put(&self, version: &str, token: &str) -> Result<()> {
        let volume = self.0;
        fs::create_dir(volume.join(version))?;
        fs::write(volume.join(version).join("token"), token)?;
        let before = fs::read_link(volume.join("..data")).ok();
        symlink(version, volume.join("..data_tmp"))?;
        fs::rename(volume.join("..data_tmp"), volume.join("..data"))?;
        match before {
            Some(before) => fs::remove_dir_all(volume.join(before))?,
            None => symlink("..data/token", volume.join("token"))?,
        }
        Ok(())
    }

    /// The kubeconfig of somebody who shows whatever token lies here.
    fn kubeconfig(&self, with_a_token: &Path) -> Result<PathBuf> {
        let mut kubeconfig: Value = serde_json::from_slice(&fs::read(with_a_token)?)?;
        kubeconfig["users"][0]["user"] = json!({"tokenFile": self.0.join("token")});
        let path = with_a_token.with_extension("tokenfile");
        fs::write(&path, kubeconfig.to_string())?;
        Ok(path)
    }
}

#[tokio::test]
async fn an_agent_that_is_shut_in_installs_repairs_starts_a_fork_server_and_takes_a_new_token() -> Result<()>
{
    let node = Node::new("work").await?;
    let cluster = node.cluster;
    let old = cluster.agent_token(node.name).await?;
    let mounted = tempfile::tempdir()?;
    let volume = TokenVolume(mounted.path());
    volume.put("..1", &old)?;
    let kubeconfig = volume.kubeconfig(&cluster.kubeconfig_for(&old)?)?;
    let callgate = Command::new(CALLGATE);
    let mut agent = cluster.start_agent_with(callgate, node.name, &kubeconfig, &node.root(), "1h")?;
    agent.ready().await?;
    let (_, reason) = expected();
    node.condition(NodeCondition::Confined, reason).await?;
    node.apply("p").await?;
    node.live("p").await?;

    fs::write(node.file("p"), "{}")?;
    node.installed("p").await?;
    fs::remove_dir_all(node.home().join(node.name))?;
    node.installed("p").await?;
    let stray = node.home().join("stray");
    fs::create_dir_all(stray.join("with/more"))?;
    eventually("the stray to be gone", async || {
        ensure!(!stray.exists());
        Ok(())
    })
    .await?;

    for server in children(agent.process().id())? {
        let server = Pid::from_raw(i32::try_from(server)?).context("no process id")?;
        kill_process(server, Signal::KILL)?;
    }
    // Its digest is another one, so that it is proven.
    let denying = json!({
        "apiVersion": "callgate.dev/v1alpha1",
        "kind": "SeccompProfile",
        "metadata": {"name": "denying", "namespace": node.name},
        "spec": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]},
    });
    let apply = ["apply", "--server-side", "-f", "-"];
    cluster.kubectl(&apply, &denying.to_string()).await?.ok()?;
    eventually("a profile to be proven by the next fork server", async || {
        ensure!(node.file("denying").exists());
        Ok(())
    })
    .await?;
    assert_has_no_privilege_anywhere(agent.process().id())?;

    // A token is worth nothing once its pod is gone.
    let pods = Api::<Pod>::namespaced(cluster.admin().await?, NAMESPACE);
    let now = DeleteParams::default().grace_period(0);
    pods.delete(&format!("{AGENT_SERVICE_ACCOUNT}-{}", node.name), &now)
        .await?;
    let of_the_old = Api::<SeccompNode>::all(cluster.client_for(&old).await?);
    eventually("the old token to be refused", async || {
        match of_the_old.get(node.name).await {
            Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
            other => Err(anyhow!("{other:?}")),
        }
    })
    .await?;
    volume.put("..2", &cluster.agent_token(node.name).await?)?;
    node.apply("r").await?;
    node.live("r").await?;
    agent.terminate().await
}

#[tokio::test]
async fn an_agent_whose_directory_is_replaced_ends_where_it_cannot_write_and_the_next_one_goes_on()
-> Result<()> {
    let node = Node::new("replaced").await?;
    node.apply("p").await?;
    let mut agent = node.start_ready().await?;
    node.live("p").await?;
    let aside = node.root().join("aside");
    fs::rename(node.home(), &aside)?;
    fs::create_dir(node.home())?;
    let mut agent = if landlock_version() > 0 {
        let ended = ended(&mut agent).await?;
        assert!(ended.contains("exit status: 2"), "{ended}");
        let home = node.home();
        assert!(
            ended.contains(&format!("{}: is not the directory", home.display())),
            "{ended}"
        );
        assert_eq!(fs::read_dir(home)?.count(), 0);
        node.start_ready().await?
    } else {
        agent
    };
    node.installed("p").await?;
    agent.process().running()?;
    assert!(aside.join(node.name).join("p.json").is_file());
    agent.terminate().await
}

#[tokio::test]
async fn a_directory_of_others_is_a_condition_and_once_it_is_moved_away_an_agent_goes_on() -> Result<()> {
    let node = Node::new("others").await?;
    node.apply("p").await?;
    // One that could be written, and one that could not.
    for precious in ["callgate/precious", "callgate"] {
        let precious = node.root().join(precious);
        fs::create_dir_all(precious.parent().context("no parent")?)?;
        fs::write(&precious, "theirs")?;
        let mut agent = node.start().await?;
        let (status, _) = node.condition(NodeCondition::StoreWritable, "NotOurs").await?;
        assert_eq!(status, ConditionStatus::False);
        assert_eq!(fs::read_to_string(&precious)?, "theirs");
        fs::rename(node.home(), node.root().join("moved"))?;
        let agent = if landlock_version() > 0 {
            let ended = ended(&mut agent).await?;
            assert!(ended.contains("exit status: 2"), "{ended}");
            node.start_ready().await?
        } else {
            agent
        };
        node.installed("p").await?;
        node.condition(NodeCondition::StoreWritable, "Writable").await?;
        agent.terminate().await?;
        for directory in ["callgate", "moved"] {
            let path = node.root().join(directory);
            fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path))?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "it becomes an agent without Landlock, for another test"]
fn becomes_an_agent_without_landlock() {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow).unwrap();
    let landlock = ScmpSyscall::from_name("landlock_create_ruleset").unwrap();
    filter
        .add_rule(ScmpAction::Errno(libc::ENOSYS), landlock)
        .unwrap();
    filter.load().unwrap();
    let arguments = env::args().skip_while(|argument| argument != "--").skip(1);
    // It dies with the test: the wish of whoever ran this program was for another of its threads.
    let mut agent = Command::new("setpriv");
    agent
        .args(["--pdeathsig", "KILL", "--", CALLGATE])
        .args(arguments);
    panic!("{}", agent.exec());
}

#[tokio::test]
async fn without_landlock_an_agent_works_and_a_condition_says_what_is_missing() -> Result<()> {
    let node = Node::new("without").await?;
    node.apply("p").await?;
    let mut command = Command::new(env::current_exe()?);
    command.args([
        "--ignored",
        "--exact",
        "daemons::becomes_an_agent_without_landlock",
        "--",
    ]);
    let kubeconfig = node
        .cluster
        .kubeconfig_for(&node.cluster.agent_token(node.name).await?)?;
    let mut agent = node
        .cluster
        .start_agent_with(command, node.name, &kubeconfig, &node.root(), "1h")?;
    agent.ready().await?;
    node.live("p").await?;
    let (status, message) = node.condition(NodeCondition::Confined, "NoLandlock").await?;
    assert_eq!(status, ConditionStatus::False);
    assert!(message.contains("5.13") && message.contains("lsm="), "{message}");
    assert_has_no_privilege_anywhere(agent.process().id())?;
    let log = agent.process().log()?;
    assert!(log.contains(&message), "{log}");

    // It can write what lies there, so it goes on.
    fs::remove_dir_all(node.home())?;
    node.installed("p").await?;
    agent.terminate().await
}
