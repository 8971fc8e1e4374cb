//! The command line as people and scripts use it: texts, JSON, exit codes, files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW",
 "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]}"#;
const UNCOMPILABLE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
 {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]},
 {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6, "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]}]}"#;
const MANIFEST: &str = "\
apiVersion: callgate.dev/v1alpha1
kind: SeccompProfile
metadata: {name: web, namespace: shop}
spec:
  defaultAction: SCMP_ACT_ALLOW
  syscalls:
  - names: [mkdir]
    action: SCMP_ACT_ERRNO
    arg: []
";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs callgate in a folder, with this as its standard input.
fn callgate(folder: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_callgate"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::File::create(folder.path().join(name))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }
    folder
}

#[test]
fn a_valid_profile_is_said_to_be_with_its_digest_and_size_and_exit_code_0() {
    let folder = folder(&[("good.json", GOOD)]);
    let ran = callgate(folder.path(), &["check", "good.json"], "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.starts_with("good.json: OCI profile: valid, sha256:"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("instructions"), "{}", ran.out);
}

#[test]
fn an_invalid_profile_is_shown_in_its_line_and_exit_code_1_wins_over_valid_ones() {
    let folder = folder(&[("good.json", GOOD), ("web.yaml", MANIFEST)]);
    let ran = callgate(folder.path(), &["check", "good.json", "web.yaml"], "");
    assert_eq!(ran.code, 1);
    for text in [
        "error[unknown-key]: spec.syscalls[0].arg",
        "--> web.yaml:9:5",
        "shop/web: INVALID, 1 finding",
    ] {
        assert!(ran.out.contains(text), "{text} in\n{}", ran.out);
    }
}

#[test]
fn what_libseccomp_cannot_compile_is_shown_at_the_entry_that_it_refuses() {
    let folder = folder(&[("clash.json", UNCOMPILABLE)]);
    let ran = callgate(folder.path(), &["check", "clash.json"], "");
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("error[compile-failed]: syscalls[1]"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("--> clash.json:3:2"), "{}", ran.out);
}

#[test]
fn json_output_holds_verdict_digest_findings_and_places() {
    let folder = folder(&[("good.json", GOOD), ("web.yaml", MANIFEST)]);
    let ran = callgate(
        folder.path(),
        &["check", "--format", "json", "good.json", "web.yaml"],
        "",
    );
    let documents: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(documents[0]["verdict"], "valid");
    assert!(documents[0]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(documents[1]["name"], "shop/web");
    assert_eq!(documents[1]["verdict"], "invalid");
    let finding = &documents[1]["findings"][0];
    assert_eq!(
        (
            &finding["code"],
            &finding["class"],
            &finding["line"],
            &finding["column"]
        ),
        (&"unknown-key".into(), &"invalid".into(), &9.into(), &5.into())
    );
}

#[test]
fn standard_input_may_hold_many_documents_and_other_kinds_are_skipped() {
    let manifest = MANIFEST.replace("    arg: []\n", "");
    let many = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\n{manifest}");
    let ran = callgate(Path::new("."), &["check", "-"], &many);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("standard input: Namespace: skipped"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("standard input: shop/web: valid"), "{}", ran.out);
}

#[test]
fn what_cannot_be_read_is_exit_code_2_and_the_rest_is_still_checked() {
    let folder = folder(&[
        ("good.json", GOOD),
        ("namespace.yaml", "apiVersion: v1\nkind: Namespace\n"),
    ]);
    let ran = callgate(
        folder.path(),
        &["check", "missing.json", "good.json", "namespace.yaml"],
        "",
    );
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("good.json: OCI profile: valid"), "{}", ran.out);
    assert!(ran.err.contains("cannot open missing.json"), "{}", ran.err);
    assert!(
        ran.err.contains("namespace.yaml holds no seccomp profile"),
        "{}",
        ran.err
    );
}

#[test]
fn wrong_usage_is_exit_code_2() {
    assert_eq!(callgate(Path::new("."), &["check"], "").code, 2);
    assert_eq!(callgate(Path::new("."), &["frobnicate"], "").code, 2);
    assert_eq!(
        callgate(
            Path::new("."),
            &["install", "/nonexistent", "--seccomp-root", "/tmp"],
            ""
        )
        .code,
        2
    );
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_named_and_refused() {
    let folder = folder(&[]);
    fs::File::create(folder.path().join("binary.json"))
        .unwrap()
        .write_all(&[0xff, 0xfe, 0])
        .unwrap();
    fs::File::create(folder.path().join("large.json"))
        .unwrap()
        .set_len(17 << 20)
        .unwrap();
    let ran = callgate(folder.path(), &["check", "binary.json", "large.json"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("binary.json is not UTF-8 text"), "{}", ran.err);
    assert!(ran.err.contains("large.json is larger than 4 MiB"), "{}", ran.err);
}

#[test]
fn a_listener_path_is_refused_unless_its_directory_is_allowed() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agents/a.sock",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#;
    let refused = callgate(Path::new("."), &["check", "-"], text);
    assert_eq!(refused.code, 1);
    assert!(
        refused.out.contains("error[listener-not-allowed]: listenerPath"),
        "{}",
        refused.out
    );
    let allowed = callgate(
        Path::new("."),
        &["check", "--listener-prefix", "/run/agents", "-"],
        text,
    );
    assert_eq!(allowed.code, 0, "{}{}", allowed.out, allowed.err);
}

#[test]
fn install_writes_what_passes_leaves_out_what_does_not_and_prunes_only_when_asked() {
    let profiles = folder(&[("good.json", GOOD), ("clash.json", UNCOMPILABLE)]);
    let root = TempDir::new().unwrap();
    let root_path = root.path().to_str().unwrap();
    let install = |more: &[&str]| {
        let arguments = [&["install", ".", "--seccomp-root", root_path], more].concat();
        callgate(profiles.path(), &arguments, "")
    };
    let ran = install(&[]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("installed  default/good  sha256:"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("refused    default/clash"), "{}", ran.out);
    assert!(ran.err.contains("clash.json:3:2: syscalls[1]"), "{}", ran.err);
    let good = root.path().join("callgate/default/good.json");
    assert!(good.is_file());
    assert!(!root.path().join("callgate/default/clash.json").exists());

    fs::remove_file(profiles.path().join("clash.json")).unwrap();
    let ran = install(&[]);
    assert_eq!(
        (ran.code, ran.out.contains("unchanged  default/good")),
        (0, true),
        "{}{}",
        ran.out,
        ran.err
    );

    // A broken update keeps the last good file, and says so.
    fs::rename(
        profiles.path().join("good.json"),
        profiles.path().join("other.json"),
    )
    .unwrap();
    fs::File::create(profiles.path().join("good.json"))
        .unwrap()
        .write_all(UNCOMPILABLE.as_bytes())
        .unwrap();
    let before = fs::read(&good).unwrap();
    let ran = install(&[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains("refused    default/good  keeps sha256:"),
        "{}",
        ran.out
    );
    assert_eq!(fs::read(&good).unwrap(), before);

    fs::remove_file(profiles.path().join("good.json")).unwrap();
    assert_eq!(install(&[]).code, 0);
    assert!(good.is_file(), "nothing goes unless asked");
    let ran = install(&["--prune"]);
    assert!(ran.out.contains("removed    default/good"), "{}", ran.out);
    assert!(!good.exists());
    assert!(root.path().join("callgate/default/other.json").is_file());
}

#[test]
fn install_refuses_two_profiles_of_one_name_and_names_with_path_tricks_before_it_writes() {
    let root = TempDir::new().unwrap();
    let root_path = root.path().to_str().unwrap();
    let manifest = MANIFEST.replace("    arg: []\n", "");
    let twice = folder(&[("a.yaml", &manifest), ("b.yaml", &manifest)]);
    let ran = callgate(twice.path(), &["install", ".", "--seccomp-root", root_path], "");
    assert_eq!(ran.code, 2);
    assert!(
        ran.err
            .contains("b.yaml:1: shop/web is defined in ./a.yaml already"),
        "{}",
        ran.err
    );

    let trick = folder(&[("a.yaml", &manifest.replace("name: web", "name: ../../../etc/web"))]);
    let ran = callgate(trick.path(), &["install", ".", "--seccomp-root", root_path], "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("../../../etc/web"), "{}", ran.err);
    assert!(!root.path().join("callgate").exists());
}

#[test]
fn install_leaves_a_directory_alone_that_is_not_ours() {
    let profiles = folder(&[("good.json", GOOD)]);
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("callgate")).unwrap();
    fs::File::create(root.path().join("callgate/precious")).unwrap();
    let root_path = root.path().to_str().unwrap();
    let ran = callgate(
        profiles.path(),
        &["install", ".", "--seccomp-root", root_path],
        "",
    );
    assert_eq!(ran.code, 2, "{}", ran.out);
    assert!(ran.err.contains("callgate"), "{}", ran.err);
    assert!(root.path().join("callgate/precious").exists());
    assert!(!root.path().join("callgate/default").exists());
}

#[test]
fn crds_prints_what_the_folder_crds_holds() {
    let ran = callgate(Path::new("."), &["crds"], "");
    assert_eq!(ran.code, 0);
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for file in fs::read_dir(crds).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(ran.out.contains(&text));
    }
}

#[test]
fn a_daemon_outside_a_cluster_says_how_to_name_one() {
    let root = TempDir::new().unwrap();
    let root_path = root.path().to_str().unwrap();
    let arguments = [
        "agent",
        "--node",
        "n",
        "--seccomp-root",
        root_path,
        "--listen",
        "127.0.0.1:0",
    ];
    let ran = callgate(Path::new("."), &arguments, "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--kubeconfig"), "{}", ran.err);
}

#[test]
fn completions_and_help_need_nothing() {
    let completions = callgate(Path::new("."), &["completions", "bash"], "");
    assert_eq!(
        (completions.code, completions.out.contains("_callgate")),
        (0, true)
    );
    let help = callgate(Path::new("."), &["check", "--help"], "");
    assert_eq!((help.code, help.out.contains("Examples:")), (0, true));
    assert!(
        !callgate(Path::new("."), &["--help"], "")
            .out
            .contains("fork-server")
    );
}
