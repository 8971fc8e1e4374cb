//! From an object to a file and a report, and back.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, anyhow, ensure};
use callgate::api::{ConditionStatus, NodeCondition};
use callgate::profile::parse_spec;
use callgate::store::{Owner, Store};
use harness::{Cluster, eventually};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::bed::{Bed, LONG, NONE, anything, digest, digest_of_file, enormous, errno, listening};

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_profile_becomes_a_file_whose_digest_the_report_names() -> Result<()> {
    let bed = Bed::new("apply").await?;
    let agent = bed.start_ready(LONG).await?;
    let spec = errno(38, "mount");
    bed.apply("p", &spec).await?;
    bed.installed("p", &spec).await?;
    assert_eq!(digest_of_file(&bed.file("p"))?.to_string(), digest(&spec)?);
    bed.live("p", &spec).await?;

    for (condition, reason) in [
        (NodeCondition::Synced, "Synced"),
        (NodeCondition::StoreWritable, "Writable"),
        (NodeCondition::DriftWatch, "Inotify"),
        (NodeCondition::TestLoad, "Answering"),
    ] {
        bed.condition(condition, ConditionStatus::True, reason).await?;
    }
    let report = bed.reports().get("apply").await?;
    assert_eq!(report.spec.failures, []);
    assert_eq!(report.spec.versions.agent, env!("CARGO_PKG_VERSION"));
    assert!(!report.spec.versions.kernel.is_empty() && !report.spec.versions.libseccomp.is_empty());
    let owners = report.metadata.owner_references.unwrap_or_default();
    assert_eq!(
        owners.iter().map(|owner| owner.name.as_str()).collect::<Vec<_>>(),
        ["apply"]
    );
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_replaces_the_file_and_a_deletion_removes_it_after_the_grace() -> Result<()> {
    let bed = Bed::new("update").await?;
    let agent = bed.start_ready(NONE).await?;
    for spec in [errno(1, "mount"), errno(2, "mount")] {
        bed.apply("p", &spec).await?;
        bed.installed("p", &spec).await?;
        bed.live("p", &spec).await?;
    }
    bed.delete("p").await?;
    bed.gone("p").await?;
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_has_what_its_labels_select_and_follows_their_change() -> Result<()> {
    let bed = Bed::new("select").await?;
    let agent = bed.start_ready(NONE).await?;
    let mut spec = errno(1, "mount");
    spec["nodeSelector"] = json!({"bed": "select", "zone": "north"});
    bed.apply("p", &spec).await?;
    bed.caught_up().await?;
    assert!(
        !bed.file("p").exists(),
        "installed on a node that it does not select"
    );

    bed.label(&[("zone", "north")]).await?;
    bed.installed("p", &spec).await?;
    bed.label(&[("zone", "south")]).await?;
    bed.gone("p").await?;

    bed.label(&[("zone", "north")]).await?;
    bed.installed("p", &spec).await?;
    spec["nodeSelector"] = json!({"bed": "select", "zone": "south"});
    bed.apply("p", &spec).await?;
    bed.gone("p").await?;
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_update_keeps_the_last_good_file_through_a_restart_and_says_so() -> Result<()> {
    let bed = Bed::new("broken").await?;
    let agent = bed.start_ready(NONE).await?;
    let good = errno(1, "mount");
    bed.apply("p", &good).await?;
    bed.installed("p", &good).await?;

    let generation = bed.apply("p", &enormous()).await?;
    let failure = bed.failed("p", "FilterTooLarge", generation).await?;
    assert_eq!(failure.digest, Some(digest(&enormous())?));
    assert_eq!(failure.live_digest, Some(digest(&good)?));
    assert!(failure.message.contains("instructions"), "{}", failure.message);
    bed.installed("p", &good).await?;
    bed.live("p", &good).await?;

    agent.stop().await?;
    let agent = bed.start_ready(NONE).await?;
    bed.failed("p", "FilterTooLarge", generation).await?;
    bed.installed("p", &good).await?;
    bed.live("p", &good).await?;

    let better = errno(2, "mount");
    bed.apply("p", &better).await?;
    bed.installed("p", &better).await?;
    bed.reported("no failures", |report| {
        ensure!(report.spec.failures.is_empty());
        Ok(())
    })
    .await?;
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_that_fail_for_one_reason_are_one_group_and_harm_no_other() -> Result<()> {
    let bed = Bed::new("group").await?;
    for profile in ["bad-1", "bad-2"] {
        bed.apply(profile, &listening()).await?;
    }
    let good = errno(1, "mount");
    bed.apply("good", &good).await?;
    let agent = bed.start_ready(NONE).await?;
    bed.installed("good", &good).await?;
    let groups = bed
        .reported("both failures", |report| {
            let failures = report.spec.failures.clone();
            ensure!(failures.first().is_some_and(|group| group.total == 2));
            Ok(failures)
        })
        .await?;
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].reason, "ListenerNotAllowed");
    let failures: Vec<_> = groups[0]
        .profiles
        .iter()
        .map(|failure| failure.profile.as_str())
        .collect();
    assert_eq!(failures, ["group/bad-1", "group/bad-2"]);
    assert!(
        groups[0].profiles[0].message.contains("/run/evil.sock"),
        "{:?}",
        groups[0].profiles[0]
    );
    assert!(!bed.file("bad-1").exists());
    agent.stop().await
}

/// It is right on nodes of its own, and this is none.
#[tokio::test(flavor = "multi_thread")]
#[cfg(target_endian = "little")]
async fn a_profile_of_the_other_byte_order_is_refused_by_the_node_that_cannot_load_it() -> Result<()> {
    let bed = Bed::new("order").await?;
    let agent = bed.start_ready(NONE).await?;
    let mut spec = errno(1, "mount");
    spec["architectures"] = json!(["SCMP_ARCH_S390X"]);
    let generation = bed.apply("p", &spec).await?;
    let failure = bed.failed("p", "CompileFailed", generation).await?;
    assert!(
        failure.message.contains("It is for big-endian nodes"),
        "{}",
        failure.message
    );
    assert!(!bed.file("p").exists());
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_put_back_within_the_grace_changes_nothing_on_disk() -> Result<()> {
    let bed = Bed::new("mass").await?;
    let agent = bed.start_ready(LONG).await?;
    let profiles: Vec<(String, Value)> = (1..=10)
        .map(|number| (format!("p{number}"), errno(number, "mount")))
        .collect();
    for (profile, spec) in &profiles {
        bed.apply(profile, spec).await?;
    }
    for (profile, spec) in &profiles {
        bed.installed(profile, spec).await?;
    }
    let look = || -> Result<Vec<_>> {
        let look = |(profile, _): &(String, Value)| {
            let meta = std::fs::metadata(bed.file(profile)).with_context(|| profile.clone())?;
            Ok((meta.ino(), meta.ctime(), meta.ctime_nsec()))
        };
        profiles.iter().map(look).collect()
    };
    let before = look()?;
    for (profile, _) in &profiles {
        bed.delete(profile).await?;
    }
    bed.caught_up().await?;
    assert_eq!(look()?, before, "deleted");
    for (profile, spec) in &profiles {
        bed.apply(profile, spec).await?;
    }
    bed.caught_up().await?;
    assert_eq!(look()?, before, "put back");
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_profiles_is_fewer_reports_than_profiles() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let bed = Bed::on(&cluster, "burst").await?;
    let agent = bed.start_ready(LONG).await?;
    let count = async || -> Result<u64> {
        let requests = cluster.requests().await?;
        let written = requests.iter().filter(|(request, _)| {
            request.resource == "seccompnodes" && !["GET", "LIST", "WATCH"].contains(&request.verb.as_str())
        });
        Ok(written.map(|(_, count)| count).sum())
    };
    let before = count().await?;
    let profiles: Vec<(String, Value)> = (1..=40)
        .map(|number| (format!("p{number}"), errno(number, "mount")))
        .collect();
    for (profile, spec) in &profiles {
        bed.apply(profile, spec).await?;
    }
    for (profile, spec) in &profiles {
        bed.live(profile, spec).await?;
    }
    let written = count().await? - before;
    assert!((1..40).contains(&written), "{written} reports for 40 profiles");
    agent.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_somebody_deletes_or_changes_is_written_again() -> Result<()> {
    let bed = Bed::new("report").await?;
    let agent = bed.start_ready(LONG).await?;
    let spec = errno(1, "mount");
    bed.apply("p", &spec).await?;
    bed.live("p", &spec).await?;
    let reports = bed.reports();

    reports.delete("report", &DeleteParams::default()).await?;
    bed.live("p", &spec).await?;

    let lie = json!({"inUse": ["somebody/else"], "profiles": ""});
    reports
        .patch("report", &PatchParams::default(), &Patch::Merge(&lie))
        .await?;
    bed.live("p", &spec).await?;
    bed.reported("nothing in use", |report| {
        ensure!(report.spec.in_use.is_empty());
        Ok(())
    })
    .await?;
    agent.stop().await
}

/// Lets every object through, as the schema of an older version may have let some.
async fn open_schema(cluster: &Cluster) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.admin().await?);
    let mut open = serde_json::to_value(&callgate::api::crds()[0])?;
    open["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    open["spec"]["versions"][0]["additionalPrinterColumns"] = json!([]);
    let name = "seccompprofiles.callgate.dev";
    crds.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&open))
        .await?;
    cluster
        .kubectl(
            &[
                "wait",
                "--for=condition=Established",
                "--timeout=60s",
                "crd",
                name,
            ],
            "",
        )
        .await?
        .ok()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_newer_rule_would_refuse_stays_and_is_no_failure_until_its_profile_changes()
-> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    open_schema(&cluster).await?;
    let bed = Bed::on(&cluster, "rule").await?;
    let system: Namespace = Api::all(bed.admin.clone()).get("kube-system").await?;
    let owner = Owner::Cluster(system.metadata.uid.context("no uid")?);
    let spec =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 5, "nodeSelector": {"bed": "rule"}});
    let read = parse_spec(&spec).ok().context("unreadable")?;
    let file = read
        .profile
        .canonical()
        .map_err(|finding| anyhow!("{finding:?}"))?;
    // As an earlier version left it, which did not have the rule.
    let mut store = Store::open(bed.root(), Some(&owner))?;
    store.write(&bed.profile("p")?, &file, &anything())?;
    drop(store);
    eventually("the open schema to be in force", async || {
        bed.apply("p", &spec).await
    })
    .await?;
    bed.apply("fresh", &spec).await?;

    let agent = bed.start_ready(NONE).await?;
    bed.failed("fresh", "ErrnoMisplaced", 1).await?;
    bed.reported("one failure", |report| {
        ensure!(report.spec.failures.len() == 1 && report.spec.failures[0].total == 1);
        ensure!(report.spec.profiles.contains(&bed.profile("p")?, &file.digest));
        Ok(())
    })
    .await?;
    assert_eq!(digest_of_file(&bed.file("p"))?, file.digest);

    let mut changed = spec.clone();
    changed["defaultErrnoRet"] = json!(6);
    bed.apply("p", &changed).await?;
    let failure = bed.failed("p", "ErrnoMisplaced", 2).await?;
    assert_eq!(failure.live_digest, Some(file.digest.to_string()));
    assert_eq!(digest_of_file(&bed.file("p"))?, file.digest);
    agent.stop().await
}

/// Objects that no schema of ours lets through, as an older or a hostile one may have.
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_no_profiles_fail_one_by_one_and_harm_no_other() -> Result<()> {
    let cluster = Cluster::start().await?;
    open_schema(&cluster).await?;
    cluster.namespace("hostile").await?;
    let long = "a".repeat(253);
    for (name, rest) in [
        ("text", json!({"spec": "SCMP_ACT_ALLOW"})),
        ("nothing", json!({})),
        ("null", json!({"spec": null, "status": [1, 2]})),
        (
            "typo",
            json!({"spec": {"defaultAction": "SCMP_ACT_ALLOW", "syscall": []}}),
        ),
        (
            "number",
            json!({"spec": {"defaultAction": 1e300}, "status": "lost"}),
        ),
        (long.as_str(), json!({"spec": errno(1, "mount")})),
    ] {
        let mut object = json!({
            "apiVersion": "callgate.dev/v1alpha1",
            "kind": "SeccompProfile",
            "metadata": {"name": name, "namespace": "hostile"},
        });
        if let (Some(object), Some(rest)) = (object.as_object_mut(), rest.as_object()) {
            object.extend(rest.clone());
        }
        cluster
            .kubectl(&["create", "-f", "-"], &object.to_string())
            .await?
            .ok()
            .context(name.to_owned())?;
    }
    cluster.install().await?;

    let bed = Bed::on(&cluster, "hostile").await?;
    let good = errno(1, "mount");
    bed.apply("good", &good).await?;
    let agent = bed.start_ready(NONE).await?;
    bed.installed("good", &good).await?;
    let total = bed
        .reported("six failures", |report| {
            let total: u32 = report.spec.failures.iter().map(|group| group.total).sum();
            ensure!(total >= 6);
            Ok(total)
        })
        .await?;
    assert_eq!(total, 6);
    bed.failed("text", "WrongType", 1).await?;
    bed.failed("typo", "UnknownKey", 1).await?;
    let failure = bed.failed(&long, "BadName", 1).await?;
    assert!(failure.message.contains("250"), "{}", failure.message);
    let files = std::fs::read_dir(bed.root().join("callgate/hostile"))?.count();
    assert_eq!(files, 1);
    agent.stop().await
}
