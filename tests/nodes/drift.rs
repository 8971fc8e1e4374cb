//! What others do to the files on a node is undone.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::{NAMESPACE, eventually};
use rustix::fs::inotify;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::lab::{alone, condition, disks, values};
use crate::pods::pod_under;
use crate::rollout::no_mkdir;
use crate::steady::{Reader, inodes};

type Damage = (&'static str, fn(&Path) -> std::io::Result<()>);

const DAMAGES: [Damage; 5] = [
    ("deleted", |file| fs::remove_file(file)),
    ("truncated", |file| fs::File::create(file).map(drop)),
    ("edited", |file| {
        fs::write(file, r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#)
    }),
    ("a directory", |file| {
        fs::remove_file(file)?;
        fs::create_dir(file)?;
        fs::write(file.join("within"), "")
    }),
    ("a symbolic link", |file| {
        fs::remove_file(file)?;
        symlink("/etc/passwd", file)
    }),
];

#[tokio::test]
async fn a_damaged_file_is_mended_counted_and_told_of() -> Result<()> {
    let Some(lab) = disks().await? else { return Ok(()) };
    let namespace = lab.namespace("drift").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        let file = lab.file(&node, &namespace, "web")?;
        let good = fs::read(&file)?;
        let report = lab.get("seccompnode", "", &node).await?;
        let watch = condition(&report["conditions"], "DriftWatch");
        ensure!(watch["status"] == "True", "{watch}");
        let counted = async || lab.metric(&node, "callgate_agent_files_restored_total").await;
        let agent = lab.agent(&node).await?;
        let of_file = format!("{namespace}/web");
        let told = async || -> Result<usize> {
            let log = lab.kubectl(&["logs", "--namespace", NAMESPACE, &agent]).await?;
            let lines = log.lines();
            Ok(lines
                .filter(|line| line.contains(&of_file) && line.contains("it is back"))
                .count())
        };
        for (name, damage) in DAMAGES {
            let (counted_before, told_before) = (counted().await?, told().await?);
            damage(&file)?;
            eventually(&format!("the file on {node}, {name}, to be mended"), async || {
                ensure!(fs::symlink_metadata(&file)?.is_file(), "it is no file");
                ensure!(fs::read(&file)? == good, "it has other contents");
                Ok(())
            })
            .await?;
            eventually("the repair to be counted and told of", async || {
                let (counted, told) = (counted().await?, told().await?);
                ensure!(counted > counted_before, "{name}: {counted} repairs are counted");
                ensure!(told > told_before, "{name}: {told} repairs are told of");
                Ok(())
            })
            .await?;
        }
    }
    lab.done(&namespace).await
}

/// Takes all instances of inotify that the user may have.
fn exhaust_inotify() -> Result<Vec<OwnedFd>> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let all = std::iter::from_fn(|| inotify::init(inotify::CreateFlags::CLOEXEC).ok()).collect();
    fs::File::open("/dev/null").context("this process has no descriptors left, and inotify has instances")?;
    Ok(all)
}

#[tokio::test]
async fn with_inotify_exhausted_a_file_is_mended_more_slowly_and_the_report_says_so() -> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let namespace = lab.namespace("exhausted").await?;
    let names: Vec<String> = (0..DAMAGES.len()).map(|number| format!("web-{number}")).collect();
    for name in &names {
        lab.profile(&namespace, name, &no_mkdir(70)).await?;
    }
    let watch_is = async |node: &str, status: &str| {
        let report = lab.get("seccompnode", "", node).await?;
        let watch = condition(&report["conditions"], "DriftWatch");
        ensure!(watch["status"] == status, "{watch}");
        Ok(watch["message"].as_str().unwrap_or_default().to_owned())
    };
    for node in lab.nodes().await? {
        let mut files = Vec::new();
        for name in &names {
            files.push(lab.file(&node, &namespace, name)?);
        }
        let good = fs::read(&files[0])?;
        let mut all = exhaust_inotify()?;
        lab.replace_agent(&node).await?;
        let message = eventually(&format!("{node} to be without inotify"), async || {
            // What the agent before it had comes free at its end.
            all.extend(exhaust_inotify()?);
            watch_is(&node, "False").await
        })
        .await?;
        ensure!(message.contains("max_user_instances"), "{message}");
        for ((_, damage), file) in DAMAGES.iter().zip(&files) {
            damage(file)?;
        }
        for ((name, _), file) in DAMAGES.iter().zip(&files) {
            eventually(&format!("the file on {node}, {name}, to be mended"), async || {
                ensure!(fs::symlink_metadata(file)?.is_file(), "it is no file");
                ensure!(fs::read(file)? == good, "it has other contents");
                Ok(())
            })
            .await?;
        }
        drop(all);
        eventually(&format!("{node} to have inotify again"), async || {
            watch_is(&node, "True").await
        })
        .await?;
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn a_directory_that_is_removed_or_replaced_comes_back_with_all_files_and_the_agent_that_ended_says_why()
-> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    let namespace = lab.namespace("replaced").await?;
    lab.profile(&namespace, "web", &no_mkdir(70)).await?;
    for node in lab.nodes().await? {
        let (store, file) = (lab.store(&node)?, lab.file(&node, &namespace, "web")?);
        let good = fs::read(&file)?;
        let agent = lab.agent(&node).await?;
        let restarts = async || -> Result<u64> {
            let pod = lab.get("pod", NAMESPACE, &agent).await?;
            let count = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
            count.with_context(|| format!("no count of restarts: {pod}"))
        };
        let ended = std::cell::Cell::new(restarts().await?);
        // An agent may write to that one directory alone, so it ends, and says why; the next one writes to what is there.
        let back = async |what: &str| {
            eventually(
                &format!("the directory of {node}, {what}, to be back"),
                async || {
                    ensure!(fs::read(&file)? == good, "the file has other contents");
                    Ok(())
                },
            )
            .await?;
            let now = eventually("the end of the agent to be counted", async || {
                let now = restarts().await?;
                ensure!(now > ended.get(), "{what}: {now} restarts");
                Ok(now)
            })
            .await?;
            ended.set(now);
            let last = ["logs", "--previous", "--namespace", NAMESPACE, &agent];
            let log = lab.kubectl(&last).await?;
            ensure!(
                log.contains("is not the directory that was there"),
                "{what}: {log}"
            );
            Ok(())
        };
        fs::remove_dir_all(&store)?;
        back("removed").await?;
        let aside = store.with_file_name("aside");
        fs::rename(&store, &aside)?;
        back("moved away").await?;
        fs::remove_dir_all(&aside)?;
        fs::rename(&store, &aside)?;
        fs::create_dir(&store)?;
        back("replaced by an empty one").await?;
        fs::remove_dir_all(&aside)?;
        let pod = pod_under(&namespace, &node, "web");
        lab.run(&pod).await?;
    }
    lab.done(&namespace).await
}

#[tokio::test]
async fn profiles_and_their_definition_deleted_by_mistake_and_put_back_leave_every_file_where_it_was()
-> Result<()> {
    let Some(lab) = alone().await? else { return Ok(()) };
    // The grace of an ordinary installation.
    lab.cluster()
        .install_chart(&["--set", "agent.removalGrace=5m"])
        .await?;
    let namespace = lab.namespace("mistake").await?;
    let names = ["one", "two", "three"];
    let mut files = Vec::new();
    for name in names {
        lab.profile(&namespace, name, &no_mkdir(70)).await?;
        for node in lab.nodes().await? {
            files.push(lab.file(&node, &namespace, name)?);
        }
    }
    let before = inodes(&files)?;
    let reader = Reader::start(files.clone())?;

    lab.kubectl(&["delete", "scp", "--all", "--namespace", &namespace])
        .await?;
    for name in names {
        lab.profile(&namespace, name, &no_mkdir(70)).await?;
    }
    lab.kubectl(&["delete", "crd", "seccompprofiles.callgate.dev", "--timeout=60s"])
        .await?;
    // An upgrade to what is installed puts back what is missing.
    lab.cluster()
        .install_chart(&["--set", "agent.removalGrace=5m"])
        .await?;
    for name in names {
        lab.profile(&namespace, name, &no_mkdir(70)).await?;
    }

    reader.finish()?;
    assert_eq!(inodes(&files)?, before, "files were written anew");
    lab.cluster().install_chart(&values(&[])).await?;
    lab.done(&namespace).await
}
