//! The node's directory: drift, other owners, and a disk that does not take writes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use callgate::api::{ConditionStatus, NodeCondition};
use callgate::store::{Owner, Store};
use harness::{Cluster, eventually};

use crate::bed::{Bed, NONE, anything, canonical, errno};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_comes_back_and_what_is_not_ours_goes() -> Result<()> {
    let bed = Bed::new("drift").await?;
    let agent = bed.start_ready(NONE).await?;
    let spec = errno(1, "mount");
    bed.apply("p", &spec).await?;
    bed.installed("p", &spec).await?;
    let file = bed.file("p");

    fs::write(&file, "{}")?;
    bed.installed("p", &spec).await?;
    fs::remove_file(&file)?;
    bed.installed("p", &spec).await?;
    fs::remove_file(&file)?;
    symlink("/etc/hostname", &file)?;
    bed.installed("p", &spec).await?;
    fs::remove_file(&file)?;
    fs::create_dir(&file)?;
    bed.installed("p", &spec).await?;
    fs::remove_dir_all(bed.root().join("callgate/drift"))?;
    bed.installed("p", &spec).await?;

    let stray = bed.root().join("callgate/drift/stray.json");
    fs::write(&stray, "{}")?;
    eventually("the stray to be gone", async || {
        ensure!(!stray.exists());
        Ok(())
    })
    .await?;
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_ours_is_a_condition_and_untouched_until_somebody_moves_it() -> Result<()> {
    let bed = Bed::new("foreign").await?;
    let foreign = bed.root().join("callgate");
    fs::create_dir(&foreign)?;
    fs::write(foreign.join("precious.json"), "theirs")?;
    let agent = bed.start(NONE)?;
    let spec = errno(1, "mount");
    bed.apply("p", &spec).await?;
    let message = bed
        .condition(NodeCondition::StoreWritable, ConditionStatus::False, "NotOurs")
        .await?;
    assert!(message.contains(&*foreign.to_string_lossy()), "{message}");
    assert!(!agent.health.is_ready());
    assert_eq!(fs::read_to_string(foreign.join("precious.json"))?, "theirs");
    assert_eq!(fs::read_dir(&foreign)?.count(), 1);

    fs::rename(&foreign, bed.root().join("moved"))?;
    bed.installed("p", &spec).await?;
    agent.ready().await?;
    bed.condition(NodeCondition::StoreWritable, ConditionStatus::True, "Writable")
        .await?;
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_cluster_is_left_alone() -> Result<()> {
    let bed = Bed::new("other").await?;
    let file = canonical(&errno(1, "mount"))?;
    let mut theirs = Store::open(bed.root(), Some(&Owner::Cluster("another-cluster".to_owned())))?;
    theirs.write(&bed.profile("theirs")?, &file, &anything())?;
    drop(theirs);
    let stray = bed.root().join("callgate/stray");
    fs::write(&stray, "")?;
    fs::write(bed.file("theirs"), "altered")?;
    let agent = bed.start(NONE)?;
    bed.apply("p", &errno(2, "mount")).await?;
    let message = bed
        .condition(NodeCondition::StoreWritable, ConditionStatus::False, "OtherOwner")
        .await?;
    assert!(message.contains("another-cluster"), "{message}");
    assert!(stray.exists() && !bed.file("p").exists());
    assert_eq!(fs::read_to_string(bed.file("theirs"))?, "altered");
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_install_stay_until_an_object_of_their_name_takes_them_over() -> Result<()> {
    let bed = Bed::new("adopt").await?;
    let spec = errno(1, "mount");
    let mut install = Store::open(bed.root(), Some(&Owner::Install))?;
    for profile in ["adopted", "image"] {
        install.write(&bed.profile(profile)?, &canonical(&spec)?, &anything())?;
    }
    drop(install);

    let agent = bed.start_ready(NONE).await?;
    bed.live("image", &spec).await?;
    bed.apply("adopted", &spec).await?;
    bed.caught_up().await?;
    bed.installed("adopted", &spec).await?;
    bed.installed("image", &spec).await?;
    bed.delete("adopted").await?;
    bed.gone("adopted").await?;
    assert!(
        bed.file("image").exists(),
        "removed without an object ever having been there"
    );
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_whose_record_was_lost_are_recorded_again_if_an_object_names_them_and_go_if_none_does()
-> Result<()> {
    let bed = Bed::new("record").await?;
    let agent = bed.start_ready(NONE).await?;
    let spec = errno(1, "mount");
    bed.apply("named", &spec).await?;
    bed.live("named", &spec).await?;
    agent.stop().await?;
    let before = fs::metadata(bed.file("named"))?;
    fs::copy(bed.file("named"), bed.file("forgotten"))?;
    fs::write(bed.root().join("callgate/.callgate/record.json"), "lost")?;

    let agent = bed.start_ready(NONE).await?;
    bed.gone("forgotten").await?;
    bed.live("named", &spec).await?;
    assert_eq!(
        fs::metadata(bed.file("named"))?.ino(),
        before.ino(),
        "written anew"
    );
    agent.stop().await?;
    let store = Store::open(bed.root(), None)?;
    assert!(store.live().contains_key(&bed.profile("named")?) && store.unproven().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_seccomp_directory_is_replaced_ends_so_that_it_is_mounted_anew() -> Result<()> {
    let bed = Bed::new("replaced").await?;
    let agent = bed.start_ready(NONE).await?;
    let root = bed.root().to_owned();
    let aside = root.with_extension("aside");
    fs::rename(&root, &aside)?;
    fs::create_dir(&root)?;
    let error = agent.ended().await.expect_err("it went on");
    fs::remove_dir_all(&aside)?;
    assert!(
        format!("{error:#}").contains(&*root.to_string_lossy()),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_another_agent_still_holds_is_waited_for_and_the_report_stands() -> Result<()> {
    let bed = Bed::new("busy").await?;
    let spec = errno(1, "mount");
    let before = bed.start_ready(NONE).await?;
    bed.apply("p", &spec).await?;
    bed.live("p", &spec).await?;
    before.stop().await?;

    let held = Store::open(bed.root(), None)?;
    let after = bed.start(NONE)?;
    bed.condition(NodeCondition::StoreWritable, ConditionStatus::Unknown, "Busy")
        .await?;
    bed.live("p", &spec).await?;
    assert!(!after.health.is_ready());
    drop(held);
    after.ready().await?;
    bed.condition(NodeCondition::StoreWritable, ConditionStatus::True, "Writable")
        .await?;
    after.stop().await
}

/// Something mounted on a path, for as long as this lives.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn small_disk(directory: &'a Path) -> Result<Self> {
        Self::on(directory, &["-t", "tmpfs", "-o", "size=128k,mode=755", "tmpfs"])
    }

    fn on(path: &'a Path, what: &[&str]) -> Result<Self> {
        let mount = Command::new("mount").args(what).arg(path).status()?;
        ensure!(mount.success(), "mount(8) failed; it takes root");
        Ok(Self(path))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_something_is_mounted_on_fails_alone_and_heals_once_it_is_free() -> Result<()> {
    let bed = Bed::new("blocked").await?;
    let agent = bed.start_ready(NONE).await?;
    let (old, new) = (errno(1, "mount"), errno(2, "mount"));
    bed.apply("p", &old).await?;
    bed.live("p", &old).await?;
    let (file, foreign) = (bed.file("p"), bed.root().join("theirs"));
    fs::write(&foreign, "theirs")?;
    let mounted = Mounted::on(&file, &["--bind", &foreign.to_string_lossy()])?;

    let generation = bed.apply("p", &new).await?;
    let failure = bed.failed("p", "InputOutput", generation).await?;
    assert!(failure.message.contains(&*file.to_string_lossy()), "{failure:?}");
    bed.apply("q", &new).await?;
    bed.live("q", &new).await?;
    // Not False: the directory takes files, and a rollout elsewhere in it is no failure.
    bed.condition(
        NodeCondition::StoreWritable,
        ConditionStatus::Unknown,
        "InputOutput",
    )
    .await?;
    assert_eq!(fs::read_to_string(&foreign)?, "theirs");

    drop(mounted);
    bed.installed("p", &new).await?;
    bed.live("p", &new).await?;
    bed.condition(NodeCondition::StoreWritable, ConditionStatus::True, "Writable")
        .await?;
    agent.stop().await
}

const LIMITED: &str = "CALLGATE_TEST_LIMITED_AGENT";
const INSTANCES: &str = "/proc/sys/user/max_inotify_instances";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it sets limits of the user namespace that another test makes for it"]
async fn limited_agent() -> Result<()> {
    ensure!(
        std::env::var_os(LIMITED).is_some(),
        "elsewhere it would set the limits of the machine"
    );
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let bed = Bed::on(&cluster, "limited").await?;
    fs::write(INSTANCES, "0")?;
    let agent = bed.start_ready(NONE).await?;
    let message = bed
        .condition(NodeCondition::DriftWatch, ConditionStatus::False, "Polling")
        .await?;
    assert!(message.contains("fs.inotify.max_user_instances"), "{message}");
    let spec = errno(1, "mount");
    bed.apply("p", &spec).await?;
    bed.installed("p", &spec).await?;
    fs::write(bed.file("p"), "{}")?;
    bed.installed("p", &spec).await?;

    fs::write(INSTANCES, "1000")?;
    bed.condition(NodeCondition::DriftWatch, ConditionStatus::True, "Inotify")
        .await?;
    agent.stop().await
}

#[test]
fn without_inotify_the_directory_is_looked_at_instead_and_a_condition_says_so() -> Result<()> {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe()?)
        .args(["--ignored", "--exact", "directory::limited_agent"])
        .env(LIMITED, "1")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_one_condition_and_what_waited_for_room_is_then_installed() -> Result<()> {
    let bed = Bed::new("full").await?;
    let _disk = Mounted::small_disk(bed.root())?;
    let agent = bed.start_ready(NONE).await?;
    let filler = bed.root().join("filler");
    let mut room = fs::File::create(&filler)?;
    while room.write_all(&[0; 1024]).is_ok() {}
    drop(room);

    let spec = errno(1, "mount");
    bed.apply("p", &spec).await?;
    bed.apply("q", &spec).await?;
    bed.condition(NodeCondition::StoreWritable, ConditionStatus::False, "DiskFull")
        .await?;
    let failures = bed
        .reported("the report", |report| Ok(report.spec.failures.clone()))
        .await?;
    assert!(failures.is_empty(), "{failures:?}");
    assert!(!bed.file("p").exists() && !bed.file("q").exists());

    fs::remove_file(&filler)?;
    bed.installed("p", &spec).await?;
    bed.installed("q", &spec).await?;
    bed.condition(NodeCondition::StoreWritable, ConditionStatus::True, "Writable")
        .await?;
    agent.stop().await
}
