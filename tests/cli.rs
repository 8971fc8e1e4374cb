//! The command line as people and scripts use it: texts, JSON, exit codes, files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What runtimes need to start a container where calls are denied by errno, beside execve and read: without it there
/// is a finding.
macro_rules! start {
    () => {
        concat!(
            r#""accept4", "close", "close_range", "connect", "epoll_ctl", "epoll_pwait", "exit_group", "fcntl", "#,
            r#""fstat", "fstatfs", "futex", "getdents64", "getpid", "gettid", "madvise", "mmap", "munmap", "#,
            r#""nanosleep", "newfstatat", "openat", "openat2", "recvfrom", "rt_sigprocmask", "rt_sigreturn", "#,
            r#""sched_yield", "sendmsg", "sigaltstack", "statx", "tgkill", "write", "capget", "capset", "#,
            r#""chdir", "faccessat2", "fchown", "getcwd", "getppid", "prctl", "pselect6", "rt_sigaction", "#,
            r#""setgid", "setgroups", "setresgid", "setresuid", "setuid""#,
        )
    };
}

#[path = "cli/check.rs"]
mod check;
#[path = "cli/formats.rs"]
mod formats;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/resolve.rs"]
mod resolve;

/// Nothing is found in it.
const GOOD: &str = concat!(
    r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,"#,
    "\n",
    r#" "syscalls": [{"names": ["read", "execve", "#,
    start!(),
    r#"], "action": "SCMP_ACT_ALLOW"}]}"#
);
const CONTRADICTORY: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
 {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]},
 {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6, "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]}]}"#;
/// Nothing is found in it but the key `arg`.
const MANIFEST: &str = concat!(
    "\
apiVersion: callgate.dev/v1alpha1
kind: SeccompProfile
metadata: {name: web, namespace: shop}
spec:
  defaultAction: SCMP_ACT_ERRNO
  syscalls:
  - names: [execve, clone3, read, ",
    start!(),
    "]
    action: SCMP_ACT_ALLOW
    arg: []
"
);

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs callgate in a folder, with this as its standard input.
fn callgate(folder: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut program = Command::new(env!("CARGO_BIN_EXE_callgate"));
    run(program.args(arguments), folder, input)
}

fn run(command: &mut Command, folder: &Path, input: &str) -> Ran {
    let mut child = command
        .current_dir(folder)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        // It need not read what it is given to end with an error.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
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
        fs::write(folder.path().join(name), text).unwrap();
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
fn a_contradiction_is_shown_at_the_name_that_gets_two_answers() {
    let folder = folder(&[("clash.json", CONTRADICTORY)]);
    let ran = callgate(folder.path(), &["check", "clash.json"], "");
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(
        ran.out
            .contains("error[contradiction]: syscalls[1].names[0]: socket(0x26)"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("--> clash.json:3:13"), "{}", ran.out);
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
    let folder = folder(&[("good.json", GOOD)]);
    let ran = callgate(folder.path(), &["check", "missing.json", "good.json"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("good.json: OCI profile: valid"), "{}", ran.out);
    assert!(ran.err.contains("cannot open missing.json"), "{}", ran.err);
}

#[test]
fn files_of_other_kinds_are_noted_and_fail_nothing_unless_there_is_no_profile_at_all() {
    let folder = folder(&[
        ("good.json", GOOD),
        ("namespace.yaml", "apiVersion: v1\nkind: Namespace\n"),
        (
            "list.json",
            r#"{"apiVersion": "v1", "kind": "List", "items": []}"#,
        ),
    ]);
    let ran = callgate(
        folder.path(),
        &["check", "good.json", "namespace.yaml", "list.json"],
        "",
    );
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(
        ran.err.contains("no SeccompProfile in namespace.yaml"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("no SeccompProfile in list.json"), "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 2, "{}", ran.out);

    let ran = callgate(folder.path(), &["check", "namespace.yaml", "list.json"], "");
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    assert!(
        ran.err.contains("no seccomp profile was found at all"),
        "{}",
        ran.err
    );
}

#[test]
fn a_folder_is_checked_with_all_below_it() {
    let folder = folder(&[("deployment.yaml", "apiVersion: apps/v1\nkind: Deployment\n")]);
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), text).unwrap();
    };
    write("empty/notes.txt", "{");
    write(".github/workflow.yaml", "on: push");
    let none = callgate(folder.path(), &["check", "."], "");
    assert_eq!(none.code, 2, "{}{}", none.out, none.err);
    assert!(
        none.err.contains("no SeccompProfile in 1 of 1 file below ."),
        "{}",
        none.err
    );

    write("a/b/good.json", GOOD);
    let good = callgate(folder.path(), &["check", "."], "");
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    assert!(
        good.out.contains("a/b/good.json: OCI profile: valid"),
        "{}",
        good.out
    );

    write("a/web.yml", MANIFEST);
    let bad = callgate(folder.path(), &["check", "."], "");
    assert_eq!(bad.code, 1, "{}{}", bad.out, bad.err);
    assert!(bad.out.contains("a/web.yml: shop/web: INVALID"), "{}", bad.out);
}

#[test]
fn a_pattern_that_no_shell_expanded_stands_for_the_files_that_match() {
    let folder = folder(&[
        ("b.json", GOOD),
        ("a1.json", GOOD),
        ("a2.json", GOOD),
        (".a3.json", GOOD),
    ]);
    fs::create_dir_all(folder.path().join("deep/er")).unwrap();
    fs::write(folder.path().join("deep/er/c.json"), GOOD).unwrap();
    fs::write(folder.path().join("[b].json"), GOOD).unwrap();
    let files = |pattern: &str| {
        let ran = callgate(folder.path(), &["check", pattern], "");
        assert_eq!(ran.code, 0, "{pattern}: {}", ran.err);
        let lines = ran.out.lines().filter(|line| line.contains(": valid, "));
        let names = lines.map(|line| line.split(':').next().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(files("a*.json"), "a1.json a2.json");
    assert_eq!(files("?[12].json"), "a1.json a2.json");
    assert_eq!(files("**/c.json"), "deep/er/c.json");
    assert_eq!(files("dee*"), "deep/er/c.json");
    // What has the name is meant by it.
    assert_eq!(files("[b].json"), "[b].json");
    for (pattern, why) in [
        ("x*.json", "no file matches x*.json"),
        ("a[.json", "a[.json is no file, and no pattern of names"),
    ] {
        let ran = callgate(folder.path(), &["check", pattern, "b.json"], "");
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains(why), "{}", ran.err);
        assert!(ran.out.contains("b.json: OCI profile: valid"), "{}", ran.out);
    }
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
    for part in [
        "error[listener-not-allowed]: listenerPath",
        "= help: Allow the directory: controller, agent, install and check take --listener-prefix DIR.",
    ] {
        assert!(refused.out.contains(part), "{}", refused.out);
    }
    let allowed = callgate(
        Path::new("."),
        &["check", "--listener-prefix", "/run/agents", "-"],
        text,
    );
    assert_eq!(allowed.code, 0, "{}{}", allowed.out, allowed.err);
}

#[test]
#[cfg(target_endian = "little")]
fn install_refuses_what_this_machine_cannot_load() {
    const S390X: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"],
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let profiles = folder(&[("s390x.json", S390X)]);
    let root = TempDir::new().unwrap();
    let root_path = root.path().to_str().unwrap();
    let accepting = ["--accept", "other-byte-order"];
    let ran = callgate(
        profiles.path(),
        &[&["install", ".", "--seccomp-root", root_path][..], &accepting].concat(),
        "",
    );
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("refused    default/s390x"), "{}", ran.out);
    assert!(
        ran.err
            .contains("error[compile-failed]: architectures[0]: SCMP_ARCH_S390X is big-endian"),
        "{}",
        ran.err
    );
    assert!(!root.path().join("callgate/default/s390x.json").exists());
}

#[test]
fn install_writes_what_passes_leaves_out_what_does_not_and_prunes_only_when_asked() {
    let profiles = folder(&[("good.json", GOOD), ("clash.json", CONTRADICTORY)]);
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
    assert!(
        ran.err
            .contains("clash.json:3:13: error[contradiction]: syscalls[1].names[0]: socket(0x26)"),
        "{}",
        ran.err
    );
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
        .write_all(CONTRADICTORY.as_bytes())
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
fn install_says_which_profile_the_disk_does_not_take_and_writes_the_others() {
    let version = |namespace: &str, errno: &str| {
        MANIFEST
            .replace("shop", namespace)
            .replace("    arg: []\n", "")
            .replace("syscalls:", &format!("defaultErrnoRet: {errno}\n  syscalls:"))
    };
    let profiles = TempDir::new().unwrap();
    let write = |errno: &str| {
        for namespace in ["bank", "shop"] {
            let file = profiles.path().join(format!("{namespace}.yaml"));
            fs::write(file, version(namespace, errno)).unwrap();
        }
    };
    let root = TempDir::new().unwrap();
    write("38");
    let arguments = ["install", ".", "--seccomp-root", root.path().to_str().unwrap()];
    let ran = callgate(profiles.path(), &arguments, "");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);

    write("1");
    // Another file system in the place of a namespace's directory is not ours to write to.
    let script = r#"mount -t tmpfs none "$1/callgate/bank" && exec "$0" install . --seccomp-root "$1""#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.args([Path::new(env!("CARGO_BIN_EXE_callgate")), root.path()]);
    let ran = run(&mut command, profiles.path(), "");
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    let starts: Vec<&str> = ran.out.lines().map(|line| &line[..19]).collect();
    assert_eq!(
        starts,
        ["failed     bank/web", "installed  shop/web"],
        "{}",
        ran.out
    );
    assert!(ran.err.contains("callgate/bank"), "{}", ran.err);
    let file =
        |namespace: &str| fs::read_to_string(root.path().join(format!("callgate/{namespace}/web.json")));
    assert!(file("bank").unwrap().contains("38") && !file("shop").unwrap().contains("38"));
}

#[test]
fn install_goes_on_past_files_that_are_bad_and_names_each() {
    let root = TempDir::new().unwrap();
    let root_path = root.path().to_str().unwrap();
    let manifest = MANIFEST.replace("    arg: []\n", "");
    let profiles = folder(&[
        ("a.yaml", &manifest),
        ("b.yaml", &manifest),
        ("good.json", GOOD),
        ("Bad Name.json", GOOD),
        ("syntax.yaml", "kind: ["),
        (
            "trick.yaml",
            &manifest.replace("name: web", "name: ../../../etc/web"),
        ),
    ]);
    let install = || {
        callgate(
            profiles.path(),
            &["install", ".", "--seccomp-root", root_path],
            "",
        )
    };
    let ran = install();
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("installed  default/good"), "{}", ran.out);
    assert!(ran.out.contains("refused    shop/web"), "{}", ran.out);
    for part in [
        "shop/web is defined in ./a.yaml:1 and ./b.yaml:1: none of them is installed",
        "Bad Name.json: profile name \"Bad Name\"",
        "syntax.yaml:",
        "trick.yaml:3:18: error[bad-name]: metadata.name: ",
    ] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
    assert!(!root.path().join("callgate/shop").exists());

    fs::write(profiles.path().join("binary.json"), [0xff, 0xfe]).unwrap();
    let ran = install();
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("unchanged  default/good"), "{}", ran.out);
    assert!(ran.err.contains("binary.json is not UTF-8 text"), "{}", ran.err);
}

#[test]
fn install_prunes_nothing_while_a_file_might_name_it() {
    let root = TempDir::new().unwrap();
    let root_path = root.path().to_str().unwrap();
    let profiles = folder(&[("good.json", GOOD), ("other.json", GOOD)]);
    let install = || {
        let arguments = ["install", ".", "--seccomp-root", root_path, "--prune"];
        callgate(profiles.path(), &arguments, "")
    };
    assert_eq!(install().code, 0);
    let other = root.path().join("callgate/default/other.json");
    let path = |name: &str| profiles.path().join(name);
    fs::remove_file(path("other.json")).unwrap();

    fs::write(path("other.yaml"), "kind: [").unwrap();
    let ran = install();
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("kept       default/other"), "{}", ran.out);
    assert!(
        ran.err
            .contains("nothing was pruned: which profiles ./other.yaml"),
        "{}",
        ran.err
    );
    assert!(other.is_file());

    // Also where nothing else is left in the folder.
    fs::rename(path("good.json"), path("good.txt")).unwrap();
    let ran = install();
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("nothing was pruned"), "{}", ran.err);
    fs::rename(path("good.txt"), path("good.json")).unwrap();

    fs::remove_file(path("other.yaml")).unwrap();
    let ran = install();
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("removed    default/other"), "{}", ran.out);
    assert!(!other.exists());
}

#[test]
fn install_tells_the_warnings_of_what_it_installs() {
    let newer = GOOD.replace("read", "uprobe");
    let profiles = folder(&[("newer.json", &newer)]);
    let root = TempDir::new().unwrap();
    let arguments = ["install", ".", "--seccomp-root", root.path().to_str().unwrap()];
    for state in ["installed", "unchanged"] {
        let ran = callgate(profiles.path(), &arguments, "");
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        assert!(ran.out.starts_with(state), "{}", ran.out);
        assert!(
            ran.err.contains(
                "./newer.json:2:26: warning[newer-syscall]: syscalls[0].names[0]: ignored by runtimes "
            ),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("uprobe"), "{}", ran.err);
    }
}

#[test]
fn install_takes_what_who_runs_it_accepts() {
    let typo = GOOD.replace(r#""read""#, r#""read", "raed""#);
    let profiles = folder(&[("typo.json", &typo)]);
    let root = TempDir::new().unwrap();
    let arguments = ["install", ".", "--seccomp-root", root.path().to_str().unwrap()];
    let ran = callgate(profiles.path(), &arguments, "");
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("refused    default/typo"), "{}", ran.out);

    let accepting = [&arguments[..], &["--accept", "unknown-syscall"]].concat();
    let ran = callgate(profiles.path(), &accepting, "");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.starts_with("installed  default/typo"), "{}", ran.out);
    for part in ["note[unknown-syscall]", "(error by itself, accepted by --accept)"] {
        assert!(ran.err.contains(part), "{}", ran.err);
    }
}

#[test]
fn install_says_how_to_get_a_seccomp_root_that_is_not_there() {
    let profiles = folder(&[("good.json", GOOD)]);
    let ran = callgate(
        profiles.path(),
        &["install", ".", "--seccomp-root", "/nonexistent/seccomp"],
        "",
    );
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("mkdir -p /nonexistent/seccomp"), "{}", ran.err);
    assert!(!ran.err.contains("restart"), "{}", ran.err);
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
fn install_prunes_nothing_for_a_folder_without_profiles() {
    let profiles = folder(&[("a.json", GOOD)]);
    let root = TempDir::new().unwrap();
    let install = || {
        let root = root.path().to_str().unwrap();
        callgate(
            profiles.path(),
            &["install", ".", "--seccomp-root", root, "--prune"],
            "",
        )
    };
    assert_eq!(install().code, 0);
    fs::remove_file(profiles.path().join("a.json")).unwrap();
    let ran = install();
    assert_eq!(ran.code, 2, "{}", ran.out);
    assert!(ran.err.contains("holds no seccomp profile"), "{}", ran.err);
    assert!(root.path().join("callgate/default/a.json").exists());
}

#[test]
fn install_says_what_to_name_in_place_of_a_file_its_own_directory_or_a_bad_namespace() {
    let profiles = folder(&[("a.json", GOOD)]);
    let root = TempDir::new().unwrap();
    let install = |what: &str, root: &Path, more: &[&str]| {
        let arguments = ["install", what, "--seccomp-root", root.to_str().unwrap()];
        callgate(profiles.path(), &[&arguments[..], more].concat(), "")
    };
    let refused = |ran: Ran, why: &str| {
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains(why), "{}", ran.err);
    };
    refused(
        install("a.json", root.path(), &[]),
        "a.json is a file, and this installs all profiles of a folder",
    );
    let bad = install(".", root.path(), &["-n", "Shop_"]);
    assert!(!bad.err.contains("rename the file"), "{}", bad.err);
    refused(bad, "namespace \"Shop_\"");
    refused(
        install(".", root.path(), &["--listener-prefix", "run"]),
        "write the whole path of a directory",
    );
    assert_eq!(install(".", root.path(), &[]).code, 0);
    let home = root.path().join("callgate");
    refused(
        install(".", &home, &[]),
        &format!("write --seccomp-root {}", root.path().display()),
    );
    assert!(!home.join("callgate").exists());
    // A kubelet may have its own there.
    let other = root.path().join("other/callgate");
    fs::create_dir_all(&other).unwrap();
    assert_eq!(install(".", &other, &[]).code, 0);
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
fn the_example_has_no_finding_that_it_does_not_accept() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let ran = callgate(&examples, &["check", "--format", "json", "web.yaml"], "");
    assert_eq!(ran.code, 0, "{}", ran.out);
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let findings = answer["files"][0]["findings"].as_array().unwrap();
    assert!(!findings.is_empty());
    assert!(
        findings.iter().all(|finding| finding["accepted"] == true),
        "{}",
        ran.out
    );
}

#[test]
fn what_install_refuses_for_its_name_check_refuses_as_well() {
    let manifest = MANIFEST.replace("    arg: []\n", "");
    let twice = format!("{manifest}---\n{manifest}");
    let root = folder(&[("a.yaml", &twice), ("b.yaml", &manifest)]);
    fs::create_dir(root.path().join("other")).unwrap();
    fs::write(root.path().join("other/c.yaml"), &manifest).unwrap();
    let ran = callgate(root.path(), &["check", ".", "./b.yaml"], "");
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert_eq!(ran.out.matches("error[duplicate-name]").count(), 3, "{}", ran.out);
    assert!(
        ran.out.contains("./a.yaml:1 and ./b.yaml:1 as well"),
        "{}",
        ran.out
    );
    // Another folder may be for another cluster, and a file that is given twice is no second one.
    assert!(ran.out.contains("./other/c.yaml: shop/web: valid"), "{}", ran.out);
    let ran = callgate(root.path(), &["check", "b.yaml", "./b.yaml"], "");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn a_profile_that_fails_before_the_proofs_says_that_there_may_be_more() {
    let folder = folder(&[("clash.json", CONTRADICTORY), ("web.yaml", MANIFEST)]);
    let ran = callgate(folder.path(), &["check", "."], "");
    let said: Vec<_> = ran
        .out
        .lines()
        .filter(|line| line.contains("there may be more"))
        .collect();
    assert_eq!(said.len(), 1, "{}", ran.out);
    assert!(
        said[0].contains("web.yaml: shop/web: INVALID, 1 finding; "),
        "{}",
        said[0]
    );
}

#[test]
fn crds_makes_the_folder_that_it_is_to_write() {
    let folder = TempDir::new().unwrap();
    let ran = callgate(folder.path(), &["crds", "--dir", "new/crds"], "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(fs::read_dir(folder.path().join("new/crds")).unwrap().count(), 2);
    fs::write(folder.path().join("file"), "").unwrap();
    let ran = callgate(folder.path(), &["crds", "--dir", "file"], "");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("cannot make folder file"), "{}", ran.err);
}

#[test]
fn status_looks_in_the_namespace_of_the_context_unless_told_otherwise() {
    // Nothing listens there: what is asked for is in the complaint.
    let kubeconfig = "\
apiVersion: v1
kind: Config
current-context: mine
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {}}]
contexts:
- {name: mine, context: {cluster: c, user: u, namespace: team-a}}
- {name: other, context: {cluster: c, user: u}}
";
    let folder = folder(&[("config", kubeconfig)]);
    for (arguments, asked) in [
        (&["web"][..], "team-a/web"),
        (&["web", "--context", "other"], "default/web"),
        (&["web", "-n", "team-b"], "team-b/web"),
        (&["team-c/web"], "team-c/web"),
    ] {
        let arguments = [&["status", "--kubeconfig", "config"], arguments].concat();
        let ran = callgate(folder.path(), &arguments, "");
        assert_eq!(ran.code, 2);
        assert!(
            ran.err
                .contains(&format!("cannot read SeccompProfile {asked}: the API server")),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_explained_once() {
    let folder = folder(&[("broken", "clusters: 7\n")]);
    for name in ["missing", "broken"] {
        let ran = callgate(folder.path(), &["status", "--kubeconfig", name], "");
        assert_eq!(ran.code, 2);
        assert_eq!(ran.err.matches(name).count(), 1, "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        let parts: Vec<&str> = ran.err.trim().split(": ").collect();
        for (at, part) in parts.iter().enumerate() {
            assert!(!parts[..at].contains(part), "{part} twice in {}", ran.err);
        }
    }
}

/// Starts an agent where nothing says which API server is meant.
fn agent_outside_a_cluster(command: &mut Command) -> Ran {
    let root = TempDir::new().unwrap();
    let arguments = [
        "agent",
        "--node",
        "n",
        "--listen",
        "127.0.0.1:0",
        "--seccomp-root",
    ];
    run(command.args(arguments).arg(root.path()), Path::new("."), "")
}

#[test]
fn a_daemon_outside_a_cluster_says_how_to_name_one() {
    let ran = agent_outside_a_cluster(&mut Command::new(env!("CARGO_BIN_EXE_callgate")));
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--kubeconfig"), "{}", ran.err);
}

#[test]
fn a_daemon_says_where_rust_log_is_no_list_of_levels() {
    for (levels, is_one) in [
        ("", true),
        ("debug", true),
        ("info,callgate::store=debug", true),
        ("callgate=loud", false),
        ("a=b=c", false),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_callgate"));
        let ran = agent_outside_a_cluster(command.env("RUST_LOG", levels));
        assert_eq!(!ran.err.contains("RUST_LOG"), is_one, "{levels}: {}", ran.err);
        assert!(ran.err.contains("--kubeconfig"), "{levels}: {}", ran.err);
    }
}

#[test]
fn completions_and_help_need_nothing() {
    let completions = callgate(Path::new("."), &["completions", "bash"], "");
    assert_eq!(
        (completions.code, completions.out.contains("_callgate")),
        (0, true)
    );
    for command in [
        &["--help"][..],
        &["agent", "--help"],
        &["check", "--help"],
        &["completions", "--help"],
        &["controller", "--help"],
        &["crds", "--help"],
        &["install", "--help"],
        &["status", "--help"],
    ] {
        let help = callgate(Path::new("."), command, "");
        assert_eq!(
            (help.code, help.out.contains("\n  callgate ")),
            (0, true),
            "{command:?}: {}",
            help.out
        );
    }
    assert!(
        !callgate(Path::new("."), &["--help"], "")
            .out
            .contains("fork-server")
    );
}
