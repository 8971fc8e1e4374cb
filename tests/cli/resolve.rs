//! `resolve`: what it prints, what it says beside, and that `check` and the API's types take what it prints.

use std::path::Path;

use serde_json::{Value, json};

use super::{GOOD, Ran, callgate, folder};

/// Of `golang-github-containers-common`.
const PODMAN: &str = "/usr/share/containers/seccomp.json";
const DOCKER: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS",
 "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
 "syscalls": [
 {"names": ["execve"], "action": "SCMP_ACT_ALLOW", "comment": "the start"},
 {"name": "chroot", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
 {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
 {"names": ["arm_fadvise64_64"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm", "arm64"]}},
 {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
  "args": [{"index": 0, "value": 18446744073709551615, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}]}"#;

/// Resolves what standard input holds.
fn resolve(arguments: &[&str], input: &str) -> Ran {
    callgate(Path::new("."), &[&["resolve", "-"], arguments].concat(), input)
}

/// The first name of each entry.
fn names(profile: &Value) -> Vec<&str> {
    let entries = profile["syscalls"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["names"][0].as_str().unwrap())
        .collect()
}

fn parsed(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.err);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn a_profile_is_resolved_for_the_host_and_container_that_are_named() {
    let ran = resolve(
        &[
            "--caps",
            "BPF,CAP_KILL",
            "--arch",
            "arm64",
            "--kernel",
            "6.1.0-18",
        ],
        DOCKER,
    );
    let profile = parsed(&ran);
    assert_eq!(
        names(&profile),
        ["execve", "bpf", "arm_fadvise64_64", "personality"]
    );
    assert_eq!(profile["defaultErrnoRet"], 38);
    assert_eq!(profile["architectures"], Value::Null);
    assert!(
        !ran.out.contains("comment") && !ran.out.contains("valueTwo"),
        "{}",
        ran.out
    );
    let summary = "callgate: standard input, for arm64, Linux 6.1 and 2 capabilities: 1 of 5 entries left out (1 by caps)\n";
    assert!(ran.err.starts_with(summary), "{}", ran.err);
}

#[test]
fn without_capabilities_named_they_are_those_of_containerd_and_an_empty_list_is_none() {
    let on = ["--arch", "amd64", "--kernel", "6.1"];
    let ran = resolve(&on, DOCKER);
    assert_eq!(names(&parsed(&ran)), ["execve", "chroot", "personality"]);
    assert!(
        ran.err
            .contains("14 capabilities: 2 of 5 entries left out (1 by caps, 1 by arches)"),
        "{}",
        ran.err
    );
    let ran = resolve(&[&on[..], &["--caps", ""]].concat(), DOCKER);
    let profile = parsed(&ran);
    assert_eq!(names(&profile), ["execve", "personality"]);
    assert_eq!(
        profile["architectures"],
        json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"])
    );
    assert!(ran.err.contains("no capability: 3 of 5"), "{}", ran.err);
}

#[test]
fn without_a_host_named_it_is_this_machine() {
    let ran = resolve(&[], DOCKER);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version: Vec<&str> = release.split(['.', '-']).take(2).collect();
    assert!(
        ran.err.contains(&format!("Linux {} and", version.join("."))),
        "{}",
        ran.err
    );
    assert_eq!(ran.code, 0);
}

#[test]
fn a_manifest_is_for_kubectl_and_check_takes_it() {
    for (name, namespace) in [("shop/web", json!("shop")), ("web", Value::Null)] {
        let ran = resolve(&["--arch", "amd64", "--kernel", "6.1", "--name", name], DOCKER);
        let object = parsed(&ran);
        assert_eq!(object["kind"], "SeccompProfile");
        assert_eq!(object["metadata"]["name"], "web");
        assert_eq!(object["metadata"]["namespace"], namespace);
        assert_eq!(
            object["spec"]["nodeSelector"],
            json!({"kubernetes.io/arch": "amd64"})
        );
        // The API server takes no such number.
        assert_eq!(
            object["spec"]["syscalls"][2]["args"][0]["value"],
            "18446744073709551615"
        );
        let checked = callgate(Path::new("."), &["check", "--format", "json", "-"], &ran.out);
        let report: Value = serde_json::from_str(&checked.out).unwrap();
        let findings = report["files"][0]["findings"].as_array().unwrap();
        // The value is too large for an argument of 32 bits, on x86; nothing else is wrong.
        assert!(
            findings
                .iter()
                .all(|finding| finding["class"] != "invalid" || finding["code"] == "value-cut"),
            "{findings:#?}"
        );
    }
    let ran = resolve(&["--name", "Shop/web"], DOCKER);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("namespace"), "{}", ran.err);
}

#[test]
fn a_manifest_is_for_the_nodes_that_it_was_decided_for_and_a_plain_one_for_all() {
    let on_arm = ["--arch", "arm64", "--kernel", "6.1", "--name", "shop/arm"];
    let selector = |input: &str| parsed(&resolve(&on_arm, input))["spec"]["nodeSelector"].clone();
    assert_eq!(selector(DOCKER), json!({"kubernetes.io/arch": "arm64"}));
    assert_eq!(selector(GOOD), Value::Null);
}

#[test]
fn a_host_that_the_map_of_architectures_does_not_have_is_told() {
    let told = |arch: &str| resolve(&["--arch", arch, "--kernel", "6.1"], DOCKER).err;
    assert!(
        told("arm64").contains("archMap does not have arm64"),
        "{}",
        told("arm64")
    );
    assert!(!told("amd64").contains("archMap"), "{}", told("amd64"));
}

#[test]
fn a_plain_profile_is_said_to_be_one_and_stays_what_it_is() {
    let ran = resolve(&["--caps", "", "--arch", "s390x", "--kernel", "4.4"], GOOD);
    assert!(ran.err.contains("is a plain OCI profile already"), "{}", ran.err);
    let (plain, given): (Value, Value) = (parsed(&ran), serde_json::from_str(GOOD).unwrap());
    assert_eq!(plain["defaultErrnoRet"], given["defaultErrnoRet"]);
    let names = |profile: &Value| -> std::collections::BTreeSet<String> {
        serde_json::from_value(profile["syscalls"][0]["names"].clone()).unwrap()
    };
    assert_eq!(names(&plain), names(&given));
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_nothing_is_printed() {
    let text = DOCKER
        .replace("\"caps\": [\"CAP_BPF\"]", "\"caps\": [\"CAP_BFP\"]")
        .replace("\"name\": \"chroot\"", "\"naem\": \"chroot\"");
    let folder = folder(&[("docker.json", &text)]);
    let ran = callgate(folder.path(), &["resolve", "docker.json"], "");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    for line in [
        "callgate: docker.json:5:3: error[unknown-key]: syscalls[1].naem: unknown key \"naem\"; did you mean name?\n",
        "callgate: docker.json:6:71: error[bad-value]: syscalls[2].includes.caps[0]: unknown capability \"CAP_BFP\"; did you \
         mean CAP_BPF?\n",
    ] {
        assert!(ran.err.contains(line), "{line} in {}", ran.err);
    }
}

#[test]
fn what_cannot_be_read_and_wrong_usage_is_exit_code_2() {
    let on = |arguments: &[&str]| resolve(arguments, DOCKER);
    for (arguments, words) in [
        (&["--caps", "CAP_SYS_ADMN"][..], "CAP_SYS_ADMIN"),
        (&["--arch", "x86_64"], "amd64"),
        (&["--kernel", "six"], "uname -r"),
        (&["--name", "web/"], "name"),
    ] {
        let ran = on(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.err.contains(words), "{words} in {}", ran.err);
    }
    let ran = callgate(Path::new("."), &["resolve", "missing.json"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("missing.json"), "{}", ran.err);
}

/// Podman's profile allows `setns` to everybody and denies it to who has no `CAP_SYS_ADMIN`: libseccomp keeps the first.
#[test]
fn podmans_profile_is_valid_once_resolved_but_for_the_two_answers_that_it_gives_to_setns() {
    let check = |caps: &str| {
        let ran = callgate(
            Path::new("."),
            &[
                "resolve", PODMAN, "--caps", caps, "--arch", "amd64", "--kernel", "6.1",
            ],
            "",
        );
        parsed(&ran);
        let checked = callgate(Path::new("."), &["check", "--format", "json", "-"], &ran.out);
        let report: Value = serde_json::from_str(&checked.out).unwrap();
        let findings = report["files"][0]["findings"].as_array().unwrap().clone();
        let fatal: Vec<_> = findings
            .iter()
            .filter(|finding| finding["class"] == "invalid")
            .map(|finding| finding["message"].as_str().unwrap().to_owned())
            .collect();
        (checked.code, fatal)
    };
    assert_eq!(check("CAP_SYS_ADMIN,CAP_AUDIT_WRITE"), (0, vec![]));
    let (code, fatal) = check("CAP_AUDIT_WRITE");
    assert_eq!(code, 1);
    let [contradiction] = fatal.as_slice() else {
        panic!("{fatal:?}");
    };
    assert!(
        contradiction.starts_with("setns() gets SCMP_ACT_ERRNO(1) here"),
        "{contradiction}"
    );
}

#[test]
#[cfg(target_endian = "little")]
fn podmans_profile_for_nodes_of_the_other_byte_order_is_proven_once_resolved() {
    let ran = callgate(
        Path::new("."),
        &[
            "resolve",
            PODMAN,
            "--caps",
            "CAP_SYS_ADMIN,CAP_AUDIT_WRITE",
            "--arch",
            "s390x",
            "--kernel",
            "6.1",
        ],
        "",
    );
    parsed(&ran);
    let checked = callgate(Path::new("."), &["check", "--format", "json", "-"], &ran.out);
    assert_eq!(checked.code, 0, "{}", checked.out);
    let report: Value = serde_json::from_str(&checked.out).unwrap();
    let document = &report["files"][0];
    assert_eq!(
        (&document["verdict"], &document["loaded"]),
        (&json!("valid"), &json!(false))
    );
    let findings = document["findings"].as_array().unwrap().iter();
    let mut told = findings.filter(|finding| finding["code"] == "other-byte-order");
    let message = told.next().unwrap()["message"].as_str().unwrap();
    assert!(message.contains("kubernetes.io/arch: s390x"), "{message}");
}
