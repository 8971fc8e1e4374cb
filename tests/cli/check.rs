//! What `check` prints: for people, for programs, for code scanners.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CONTRADICTORY, GOOD, MANIFEST, Ran, callgate, folder};

/// Warned of: older versions of libseccomp do not know a name.
const NEWER: &str = concat!(
    r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,"#,
    "\n",
    r#" "syscalls": [{"names": ["execve", "uprobe", "read", "#,
    start!(),
    r#"], "action": "SCMP_ACT_ALLOW"}]}"#
);
/// Runtimes leave an entry out.
const IDLE: &str = concat!(
    r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": ["#,
    "\n",
    r#" {"names": ["execve", "clone3", "read", "#,
    start!(),
    r#"], "action": "SCMP_ACT_ALLOW"}, {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#
);
/// Refused, were it not accepted: no system call has this name.
const ACCEPTED: &str = concat!(
    "\
apiVersion: callgate.dev/v1alpha1
kind: SeccompProfile
metadata: {name: typo, namespace: shop}
spec:
  acceptFindings: [unknown-syscall]
  defaultAction: SCMP_ACT_ERRNO
  syscalls:
  - names: [execve, clone3, mkdri, read, ",
    start!(),
    "]
    action: SCMP_ACT_ALLOW
"
);

/// Refused unless an option allows it.
const LISTENER: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/a.sock",
    "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}"#;

pub(crate) fn check(folder: &Path, arguments: &[&str]) -> Ran {
    callgate(folder, &[&["check"], arguments].concat(), "")
}

pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text)
        .map_err(|error| format!("{error}: {text}"))
        .unwrap()
}

/// One of each kind of outcome, and what `check` says of them.
fn every_outcome(format: &str) -> (TempDir, Value) {
    let folder = folder(&[
        ("good.json", GOOD),
        ("newer.json", NEWER),
        ("accepted.yaml", ACCEPTED),
        ("clash.json", CONTRADICTORY),
        ("web.yaml", MANIFEST),
        ("namespace.yaml", "apiVersion: v1\nkind: Namespace\n"),
        ("syntax.json", "{"),
        ("text.yaml", "just text"),
        ("listener.json", LISTENER),
    ]);
    fs::write(folder.path().join("binary.json"), [b'{', 0xff]).unwrap();
    let ran = check(
        folder.path(),
        &["--format", format, "--deny", "not-portable", ".", "missing.json"],
    );
    assert_eq!(ran.code, 2, "{}", ran.err);
    (folder, parsed(&ran.out))
}

/// The one element of a list that has this member.
fn with<'a>(list: &'a Value, member: &str, value: &str) -> &'a Value {
    let found: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one[member] == value)
        .collect();
    assert_eq!(found.len(), 1, "{member} {value} in {list:#}");
    found[0]
}

pub(crate) fn validate(schema: &Value, instance: &Value) {
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .unwrap();
    let errors: Vec<String> = validator
        .iter_errors(instance)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{instance:#}");
}

pub(crate) fn read_json(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    parsed(&fs::read_to_string(path).unwrap())
}

/// The schema of OASIS, from where its `$id` says.
pub(crate) fn sarif_schema() -> Value {
    let mut schema = read_json("tests/data/sarif-2.1.0.schema.json");
    // A bracket too many in the pattern of a member that is not printed: no expression for all who are strict.
    for owner in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][owner]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern").unwrap();
    }
    schema
}

/// The schema without its promise that members may be added: what is printed today is all in it.
pub(crate) fn closed(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(map) => {
            if map.contains_key("properties") {
                map.insert("additionalProperties".to_owned(), false.into());
            }
            for value in map.values_mut() {
                *value = closed(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = closed(item.take());
            }
        }
        _ => {}
    }
    schema
}

#[test]
fn json_is_as_its_schema_says_whatever_the_outcome() {
    let schema = read_json("docs/check.schema.json");
    let (_folder, output) = every_outcome("json");
    validate(&closed(schema.clone()), &output);
    let files = output["files"].as_array().unwrap();
    for outcome in ["valid", "invalid", "skipped", "unreadable"] {
        let of_it = files.iter().filter(|file| file["verdict"] == outcome);
        assert!(of_it.count() > 0, "{outcome} in {output:#}");
    }
    // A schema that takes anything would say nothing.
    let validator = jsonschema::validator_for(&schema).unwrap();
    for member in files[0].as_object().unwrap().keys() {
        let mut less = output.clone();
        less["files"][0].as_object_mut().unwrap().remove(member);
        assert!(!validator.is_valid(&less), "{member} may be missing");
        less["files"][0][member] = json!({"surprise": 1});
        assert!(!validator.is_valid(&less), "{member} may be anything");
    }
}

#[test]
fn json_tells_verdict_digest_size_and_findings_with_their_places() {
    let (_folder, output) = every_outcome("json");
    let file = |name: &str| with(&output["files"], "file", name);

    let good = file("./good.json");
    assert_eq!((&good["valid"], &good["profile"]), (&json!(true), &Value::Null));
    assert!(good["digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(good["filters"][0]["instructions"].as_u64().unwrap() > 0);
    assert!(
        good["filters"][0]["architecture"]
            .as_str()
            .unwrap()
            .starts_with("SCMP_ARCH_")
    );

    let web = file("./web.yaml");
    assert_eq!(web["profile"], "shop/web");
    assert_eq!((&web["valid"], &web["digest"]), (&json!(false), &Value::Null));
    let finding = &web["findings"][0];
    assert_eq!(finding["path"], "spec.syscalls[0].arg");
    assert_eq!((&finding["line"], &finding["column"]), (&json!(9), &json!(5)));
    assert_eq!(
        (&finding["code"], &finding["class"]),
        (&json!("unknown-key"), &json!("invalid"))
    );

    let clash = file("./clash.json");
    assert_eq!(clash["valid"], false);
    assert!(clash["digest"].is_string());
    assert_eq!(
        with(&clash["findings"], "code", "contradiction")["witness"],
        "socket(0x26)"
    );

    // Denied, and valid for all that.
    let newer = file("./newer.json");
    assert_eq!(newer["valid"], true);
    let finding = &newer["findings"][0];
    assert_eq!(
        (&finding["class"], &finding["denied"]),
        (&json!("not-portable"), &json!(true))
    );

    assert!(
        file("./listener.json")["findings"][0]["help"]
            .as_str()
            .unwrap()
            .contains("--listener-prefix")
    );
    // The message says it as well, for the very key.
    assert_eq!(
        web["findings"][0]["help"],
        "Write the key that the message suggests."
    );
    let missing = file("missing.json");
    assert_eq!(
        (&missing["valid"], &missing["line"]),
        (&Value::Null, &Value::Null)
    );
    assert!(
        missing["reason"].as_str().unwrap().contains("cannot open"),
        "{missing}"
    );
}

#[test]
fn sarif_is_as_its_standard_says_whatever_the_outcome() {
    let schema = sarif_schema();
    let (_folder, log) = every_outcome("sarif");
    validate(&schema, &log);
    let ran = callgate(Path::new("."), &["check", "--format", "sarif", "-"], GOOD);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let log = parsed(&ran.out);
    validate(&schema, &log);
    assert_eq!(log["runs"][0]["results"], json!([]));
    assert_eq!(log["runs"][0]["invocations"][0]["executionSuccessful"], true);
}

#[test]
fn sarif_results_name_their_rule_level_place_and_field() {
    let (_folder, log) = every_outcome("sarif");
    let run = &log["runs"][0];
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
    let used: std::collections::BTreeSet<_> = run["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["ruleId"].as_str().unwrap())
        .collect();
    assert_eq!(used.len(), rules.len());

    let result = with(&run["results"], "ruleId", "unknown-key");
    let place = &result["locations"][0];
    assert_eq!(
        place["physicalLocation"],
        json!({"artifactLocation": {"uri": "web.yaml"}, "region": {"startLine": 9, "startColumn": 5, "endColumn": 8}})
    );
    assert_eq!(
        place["logicalLocations"],
        json!([{"fullyQualifiedName": "spec.syscalls[0].arg"}])
    );
    assert_eq!(result["level"], "error");
    // A warning by itself, denied here.
    let result = with(&run["results"], "ruleId", "newer-syscall");
    assert_eq!(
        (&result["level"], &result["properties"]["denied"]),
        (&json!("error"), &json!(true))
    );
    let rule = with(&run["tool"]["driver"]["rules"], "id", "newer-syscall");
    assert_eq!(rule["defaultConfiguration"]["level"], "warning");
    for rule in rules {
        for text in ["fullDescription", "help"] {
            assert!(rule[text]["text"].as_str().unwrap().ends_with('.'), "{rule:#}");
        }
    }

    // What could not be read is not lost.
    let invocation = &run["invocations"][0];
    assert_eq!(
        (&invocation["executionSuccessful"], &invocation["exitCode"]),
        (&json!(false), &json!(2))
    );
    let notifications = invocation["toolExecutionNotifications"].to_string();
    for part in ["cannot open missing.json", "binary.json is not UTF-8"] {
        assert!(notifications.contains(part), "{notifications}");
    }
}

#[test]
fn a_denied_class_fails_and_is_shown_as_denied_and_others_are_not() {
    let folder = folder(&[("newer.json", NEWER), ("idle.json", IDLE)]);
    let run = |arguments: &[&str]| check(folder.path(), &[arguments, &["newer.json", "idle.json"]].concat());
    let plain = run(&[]);
    assert_eq!(plain.code, 0, "{}", plain.out);
    for part in [
        "warning[newer-syscall]",
        "note[default-entry]",
        "\n2 profiles: 2 valid; 1 warning, 1 note\n",
    ] {
        assert!(plain.out.contains(part), "{part} in {}", plain.out);
    }
    assert!(!plain.out.contains("denied"), "{}", plain.out);

    let portable = run(&["--deny", "not-portable"]);
    assert_eq!(portable.code, 1);
    for part in [
        "error[newer-syscall]",
        "= note: warning by itself, denied by --deny not-portable",
        "note[default-entry]",
        "newer.json: OCI profile: valid, sha256:",
        ", but has 1 denied finding\nidle.json",
        "\n2 profiles: 2 valid; 1 denied finding, 1 note\n",
    ] {
        assert!(portable.out.contains(part), "{part} in {}", portable.out);
    }

    let both = run(&["--deny", "lint", "--deny", "not-portable"]);
    assert_eq!(both.code, 1);
    assert!(both.out.contains("error[default-entry]"), "{}", both.out);
    assert!(
        both.out.ends_with("2 profiles: 2 valid; 2 denied findings\n"),
        "{}",
        both.out
    );

    let good = check(folder.path(), &["--deny", "lint", "newer.json"]);
    assert_eq!(good.code, 0, "{}", good.out);
    let wrong = check(folder.path(), &["--deny", "invalid", "newer.json"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("lint, not-portable"), "{}", wrong.err);
}

#[test]
fn an_accepted_finding_is_shown_as_accepted_and_refuses_nothing() {
    let refused = ACCEPTED.replace("[unknown-syscall]", "[]");
    let folder = folder(&[("accepted.yaml", ACCEPTED), ("refused.yaml", &refused)]);
    let run = |format: &str, file: &str| check(folder.path(), &["--format", format, file]);

    let human = run("human", "accepted.yaml");
    assert_eq!(human.code, 0, "{}", human.out);
    for part in [
        "note[unknown-syscall]: spec.syscalls[0].names[2]: \"mkdri\" is no system call",
        "= note: error by itself, accepted by acceptFindings",
        "--> accepted.yaml:8:29",
        "accepted.yaml: shop/typo: valid, sha256:",
        "\n1 profile: 1 valid; 1 accepted\n",
    ] {
        assert!(human.out.contains(part), "{part} in {}", human.out);
    }
    let human = run("human", "refused.yaml");
    assert_eq!(human.code, 1, "{}", human.out);
    assert!(human.out.contains("error[unknown-syscall]"), "{}", human.out);

    for (file, code, valid, accepted, class, level) in [
        ("accepted.yaml", 0, true, true, "accepted", "note"),
        ("refused.yaml", 1, false, false, "invalid", "error"),
    ] {
        let ran = run("json", file);
        assert_eq!(ran.code, code, "{}", ran.out);
        let document = parsed(&ran.out)["files"][0].take();
        assert_eq!(document["valid"], valid, "{document:#}");
        assert_eq!(document["findingsTotal"], 1, "{document:#}");
        let finding = with(&document["findings"], "code", "unknown-syscall");
        assert_eq!(
            (&finding["class"], &finding["accepted"], &finding["denied"]),
            (&json!(class), &json!(accepted), &json!(false))
        );

        let ran = run("sarif", file);
        assert_eq!(ran.code, code, "{}", ran.out);
        let log = parsed(&ran.out);
        let result = with(&log["runs"][0]["results"], "ruleId", "unknown-syscall");
        assert_eq!(
            (&result["level"], &result["properties"]["accepted"]),
            (&json!(level), &json!(accepted))
        );
        let suppressions = result["suppressions"].as_array().unwrap();
        assert_eq!(suppressions.len(), usize::from(accepted), "{result:#}");
        assert!(suppressions.iter().all(|one| one["kind"] == "inSource"));
    }
}

#[test]
fn an_accepted_finding_is_never_denied() {
    let newer = ACCEPTED
        .replace("[unknown-syscall]", "[newer-syscall, no-clone3-answer]")
        .replace("clone3, mkdri", "uprobe");
    let denied = newer.replace("[newer-syscall, no-clone3-answer]", "[]");
    let folder = folder(&[("accepted.yaml", &newer), ("denied.yaml", &denied)]);
    let run = |format: &str, file: &str| {
        let denying = ["--deny", "not-portable", "--deny", "lint"];
        check(
            folder.path(),
            &[&denying[..], &["--format", format, file]].concat(),
        )
    };

    let human = run("human", "denied.yaml");
    assert_eq!(human.code, 1, "{}", human.out);
    assert!(human.out.ends_with("; 2 denied findings\n"), "{}", human.out);
    let human = run("human", "accepted.yaml");
    assert_eq!(human.code, 0, "{}", human.out);
    for part in [
        "note[newer-syscall]",
        "= note: warning by itself, accepted by acceptFindings",
        "note[no-clone3-answer]",
        "\n1 profile: 1 valid; 2 accepted\n",
    ] {
        assert!(human.out.contains(part), "{part} in {}", human.out);
    }
    assert!(!human.out.contains("denied"), "{}", human.out);

    let json = run("json", "accepted.yaml");
    assert_eq!(json.code, 0, "{}", json.out);
    for finding in parsed(&json.out)["files"][0]["findings"].as_array().unwrap() {
        assert_eq!(
            (&finding["class"], &finding["denied"]),
            (&json!("accepted"), &json!(false))
        );
    }
    let sarif = run("sarif", "accepted.yaml");
    assert_eq!(sarif.code, 0, "{}", sarif.out);
    for result in parsed(&sarif.out)["runs"][0]["results"].as_array().unwrap() {
        assert_eq!(
            (&result["level"], &result["properties"]["denied"]),
            (&json!("note"), &json!(false))
        );
    }
}

#[test]
fn the_summary_counts_profiles_by_verdict_and_what_could_not_be_read() {
    let folder = folder(&[
        ("good.json", GOOD),
        ("newer.json", NEWER),
        ("web.yaml", MANIFEST),
        ("namespace.yaml", "apiVersion: v1\nkind: Namespace\n"),
    ]);
    let ran = check(folder.path(), &[".", "missing.json"]);
    assert!(
        ran.out
            .ends_with("\n3 profiles: 2 valid, 1 invalid; 1 warning, 1 could not be read\n"),
        "{}",
        ran.out
    );
    let ran = check(folder.path(), &["good.json"]);
    assert!(ran.out.ends_with("\n1 profile: 1 valid\n"), "{}", ran.out);
}

/// The lines of a text, the first of which is the marked one, and the line of marks.
fn marked(out: &str, place: &str) -> (String, String) {
    let mut lines = out
        .lines()
        .skip_while(|line| !line.trim_start().starts_with(&format!("--> {place}")))
        .skip(2);
    let mut line = || {
        let line = lines
            .next()
            .ok_or_else(|| format!("no {place} in {out}"))
            .unwrap();
        line.split_once('|').unwrap().1.to_owned()
    };
    (line(), line())
}

#[test]
fn the_marks_stand_below_the_word_that_a_finding_is_about() {
    let bad = "{\n\t\"defaultAction\": \"SCMP_ACT_ALLOW\",\r\n\t\"a\":\t{}, \"漢字e\u{301}\": 1, \"b\": 2}";
    let manifest = MANIFEST.replace("    arg", "    漢: {\"x\": [e\u{301}, 1]} # wide\n    arg");
    let dos = format!("\u{feff}{}", manifest.replace('\n', "\r\n"));
    let old = MANIFEST.replace('\n', "\r");
    let folder = folder(&[
        ("bad.json", bad),
        ("unix.yaml", &manifest),
        ("dos.yaml", &dos),
        ("old.yaml", &old),
        ("first.yaml", "\u{feff}kind: [SeccompProfile]\n"),
        ("end.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\""),
        ("end.yaml", &(MANIFEST.replace("    arg: []\n", "    x: 1"))),
        ("bom.json", &format!("\u{feff}{GOOD}")),
    ]);
    let ran = check(folder.path(), &["."]);
    let out = ran.out;
    let is = |place: &str, line: &str, marks: &str| {
        let (shown, below) = marked(&out, place);
        assert_eq!(
            (shown.as_str(), below.as_str()),
            (line, marks),
            "{place} in {out}"
        );
    };
    // A tab takes four columns, and a wide character two.
    let line = "     \"a\":    {}, \"漢字e\u{301}\": 1, \"b\": 2}";
    is("./bad.json:3:2", line, "     ^^^");
    is("./bad.json:3:11", line, "                 ^^^^^^^");
    is("./bad.json:3:22", line, "                             ^^^");
    for name in ["unix", "dos"] {
        let wide = "     漢: {\"x\": [e\u{301}, 1]} # wide";
        is(&format!("./{name}.yaml:9:5"), wide, "     ^^");
        is(&format!("./{name}.yaml:10:5"), "     arg: []", "     ^^^");
    }
    is("./old.yaml:9:5", "     arg: []", "     ^^^");
    is("./first.yaml:1:7", " kind: [SeccompProfile]", "       ^");
    is("./end.yaml:9:5", "     x: 1", "     ^");
    is(
        "./end.json:1:34",
        " {\"defaultAction\": \"SCMP_ACT_ALLOW\"",
        &format!("{}^", " ".repeat(34)),
    );
    is(
        "./bom.json:1:1",
        " {\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 38,",
        " ^",
    );
    assert!(!out.contains(['\r', '\t', '\u{feff}']), "{out:?}");
}

#[test]
fn a_document_that_cannot_be_read_hides_neither_the_next_nor_the_next_file() {
    let good = MANIFEST
        .replace("    arg: []\n", "")
        .replace("name: web", "name: api");
    let folder = folder(&[
        (
            "many.yaml",
            &format!("kind: [\n---\n{good}---\na: b: c\n---\n{MANIFEST}"),
        ),
        ("syntax.json", "{\"defaultAction\": }"),
        ("zero.json", ""),
    ]);
    fs::write(folder.path().join("good.json"), GOOD).unwrap();
    let ran = check(
        folder.path(),
        &["many.yaml", "syntax.json", "zero.json", "good.json"],
    );
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for part in [
        "error[syntax]: not YAML",
        "--> many.yaml:1:7",
        "many.yaml: shop/api: valid, sha256:",
        "--> many.yaml:22:5",
        "many.yaml: shop/web: INVALID, 1 finding",
        "--> syntax.json:1:19",
        "zero.json: document: INVALID",
        "good.json: OCI profile: valid",
        "\n7 profiles: 2 valid, 5 invalid\n",
    ] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    let folder = folder(&[("web.yaml", MANIFEST)]);
    let run = |variables: &[(&str, &str)], terminal: bool| {
        let callgate = env!("CARGO_BIN_EXE_callgate");
        let mut command = if terminal {
            // script(1) gives what it runs a terminal.
            let mut command = Command::new("script");
            let line = format!("'{callgate}' check web.yaml");
            command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
            command
        } else {
            let mut command = Command::new(callgate);
            command.args(["check", "web.yaml"]);
            command
        };
        let output = command
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TERM", "xterm-256color")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(out.contains("unknown-key"), "{out}");
        out.contains("\u{1b}[")
    };
    assert!(!run(&[], false));
    assert!(run(&[], true));
    assert!(run(&[("CLICOLOR_FORCE", "1")], false));
    assert!(!run(&[("NO_COLOR", "1")], true));
    assert!(!run(&[("TERM", "dumb")], true));
}

#[test]
fn findings_that_are_not_listed_are_counted() {
    let keys: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\": 0")).collect();
    let text = format!("{{\"defaultAction\": \"SCMP_ACT_ALLOW\", {}}}", keys.join(","));
    let run = |format| callgate(Path::new("."), &["check", "--format", format, "-"], &text);
    let human = run("human");
    assert_eq!(human.code, 1);
    for part in [
        "... and 99900 more findings in standard input, OCI profile",
        "INVALID, 100000 findings",
    ] {
        assert!(human.out.contains(part), "{part} in {}", human.out);
    }
    let file = parsed(&run("json").out)["files"][0].take();
    assert_eq!(file["findings"].as_array().unwrap().len(), 100);
    assert_eq!(file["findingsTotal"], 100_000);
    let log = parsed(&run("sarif").out);
    assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), 100);
    let notifications = &log["runs"][0]["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(
        notifications[0]["message"]["text"],
        "99900 more findings in OCI profile"
    );
}

#[test]
fn findings_of_a_rule_that_are_not_listed_are_counted() {
    let entries: Vec<String> = (0..300)
        .map(|n| format!(r#"{{"names": ["frobnicat{n}"], "action": "SCMP_ACT_ERRNO"}}"#))
        .collect();
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#,
        entries.join(",")
    );
    let run = |format| callgate(Path::new("."), &["check", "--format", format, "-"], &text);
    let human = run("human").out;
    for part in [
        "... and 280 more findings in standard input, OCI profile",
        "INVALID, 302 findings",
    ] {
        assert!(human.contains(part), "{part} in {human}");
    }
    let file = parsed(&run("json").out)["files"][0].take();
    assert_eq!(file["findings"].as_array().unwrap().len(), 22);
    assert_eq!(file["findingsTotal"], 302);
    let log = parsed(&run("sarif").out);
    assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), 22);
    let notifications = &log["runs"][0]["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(
        notifications[0]["message"]["text"],
        "280 more findings in OCI profile"
    );
    let accepted = callgate(
        Path::new("."),
        &["check", "--accept", "unknown-syscall", "-"],
        &text,
    );
    assert!(accepted.out.contains("300 accepted"), "{}", accepted.out);
}

#[test]
fn many_findings_in_many_documents_of_one_line_are_all_shown() {
    // Seconds in a debug build; were the line walked for each of them, many minutes.
    let bad = format!(
        r#"{{"apiVersion": "callgate.dev/v1alpha1", "kind": "SeccompProfile", "metadata": {{"name": "a"}}, "spec": "{}"}}"#,
        "x".repeat(800)
    );
    let text = format!(
        r#"{{"apiVersion": "v1", "kind": "List", "items": [{}]}}"#,
        vec![bad.as_str(); 4_000].join(",")
    );
    assert!(text.len() > 3 << 20);
    let ran = callgate(Path::new("."), &["check", "-"], &text);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.out.contains("\n4000 profiles: 4000 invalid\n"));
    assert!(ran.out.lines().all(|line| line.chars().count() < 400));
}

#[test]
fn of_a_line_of_a_megabyte_the_surroundings_are_shown_with_the_true_column() {
    let names: Vec<String> = (0..120_000).map(|n| format!("\"k{n}\"")).collect();
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [], "flags": [{}], "bad": 1}}"#,
        names.join(",")
    );
    assert!(text.len() > 1 << 20);
    let ran = callgate(Path::new("."), &["check", "-"], &text);
    assert_eq!(ran.code, 1);
    let column = text.find("\"bad\"").unwrap() + 1;
    assert!(ran.out.contains(&format!("--> standard input:1:{column}\n")));
    assert!(ran.out.len() < 4_000, "{}", ran.out.len());
    assert!(ran.out.contains("\"k119999\"], \"bad\": 1}\n"), "{}", ran.out);
    assert!(ran.out.contains(" ^^^^^\n"), "{}", ran.out);
}

#[test]
fn what_a_file_holds_cannot_steer_a_terminal() {
    let text = "apiVersion: v1\nkind: \"Name\\e[2Jspace\\u009b\"\n---\n\
                apiVersion: callgate.dev/v1alpha1\nkind: SeccompProfile\nmetadata: {name: \"a\\e]0;x\\a\"}\n\
                spec: {defaultAction: \"\\e[2J\\u009b\", \"k\\u009b\": 1}\n";
    // These stand in the file as they are, and so in the lines that are shown.
    let raw = "{\"defaultAction\": \"\u{9b}2J\u{7f}\u{202e}\", \"k\u{85}\u{2028}\": 1}\n";
    let folder = folder(&[
        ("text.yaml", text),
        ("raw.json", raw),
        ("escape.yaml", "a: \u{1b}[2J\n"),
        ("e\u{1b}[2J\u{9b}\n\u{202e}.json", "{"),
    ]);
    fs::write(folder.path().join(OsStr::from_bytes(b"\xff\x1b.json")), "{").unwrap();
    let missing = "m\u{1b}[2J\u{9b}";
    for format in ["human", "json", "sarif"] {
        let ran = check(folder.path(), &["--format", format, ".", missing]);
        assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
        for shown in [&ran.out, &ran.err] {
            assert!(
                !shown
                    .chars()
                    .any(|c| c != '\n' && (c.is_control() || matches!(c, '\u{2028}' | '\u{202e}'))),
                "{format}: {shown:?}"
            );
        }
    }
}

#[test]
fn a_code_to_explain_is_found_or_the_nearest_is_named() {
    let explain = |code: &str| check(Path::new("."), &["--explain", code]);
    let ran = explain("newer-syscall");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("## newer-syscall\n"), "{}", ran.out);
    for (wrong, said) in [
        ("newer-sycall", "did you mean newer-syscall?"),
        // The reason of a condition in status.
        ("NewerSyscall", "did you mean newer-syscall?"),
        ("frobnicate", "--explain all explains each"),
    ] {
        let ran = explain(wrong);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}

#[test]
fn a_file_without_a_place_for_acceptances_can_be_accepted_from_outside() {
    let typo = GOOD.replace(r#""read""#, r#""read", "mkdri""#);
    let config = format!(r#"{{"ociVersion": "1.2.0", "linux": {{"seccomp": {typo}}}}}"#);
    // Accepts one of its two by itself.
    let manifest = ACCEPTED.replace("mkdri", "mkdri, uprobe");
    let folder = folder(&[
        ("oci.json", &typo),
        ("config.json", &config),
        ("manifest.yaml", &manifest),
    ]);
    let run = |arguments: &[&str]| {
        check(
            folder.path(),
            &[arguments, &["--deny", "not-portable", "."]].concat(),
        )
    };

    let plain = run(&[]);
    assert_eq!(plain.code, 1, "{}", plain.out);
    assert!(
        plain
            .out
            .ends_with("3 profiles: 1 valid, 2 invalid; 1 denied finding, 1 accepted\n"),
        "{}",
        plain.out
    );

    let both = ["--accept", "unknown-syscall", "--accept", "newer-syscall"];
    let human = run(&both);
    assert_eq!(human.code, 0, "{}", human.out);
    for part in [
        "note[unknown-syscall]: syscalls[0].names[1]: ",
        "note[unknown-syscall]: linux.seccomp.syscalls[0].names[1]: ",
        "= note: error by itself, accepted by --accept",
        "= note: error by itself, accepted by acceptFindings",
        "= note: warning by itself, accepted by --accept",
    ] {
        assert!(human.out.contains(part), "{part} in {}", human.out);
    }
    assert!(
        human.out.ends_with("3 profiles: 3 valid; 4 accepted\n"),
        "{}",
        human.out
    );

    let sarif = run(&[&both[..], &["--format", "sarif"]].concat());
    let results = parsed(&sarif.out)["runs"][0]["results"].take();
    let mut kinds: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["suppressions"][0]["kind"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["external", "external", "external", "inSource"]);
}

#[test]
fn only_a_code_that_can_be_accepted_is_taken() {
    let folder = folder(&[("good.json", GOOD), ("clash.json", CONTRADICTORY)]);
    for (code, said) in [
        ("unknown-sycall", "did you mean unknown-syscall?"),
        ("frobnicate", "write one as the finding shows it"),
        ("contradiction", "nobody can accept it"),
    ] {
        for arguments in [&["check"][..], &["install", "--seccomp-root", "."]] {
            let accepting = [arguments, &["--accept", code, "."]].concat();
            let ran = callgate(folder.path(), &accepting, "");
            assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
            assert!(ran.err.contains(said), "{}", ran.err);
        }
    }
}

/// Something for each runtime, for libseccomp, and for everyone.
const PARTIAL: &str = concat!(
    r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
 "syscalls": [{"names": ["execve", "uprobe", "read", "#,
    start!(),
    r#"], "action": "SCMP_ACT_ALLOW"},
 {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
 {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
  "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}, {"index": 1, "op": "SCMP_CMP_EQ", "value": 2}]}]}"#
);

#[test]
fn what_concerns_no_runtime_that_is_named_is_left_out() {
    const ALL: [&str; 4] = [
        "conditions-old-youki",
        "crun-errno-cache",
        "newer-flag",
        "newer-syscall",
    ];
    let folder = folder(&[("a.json", PARTIAL)]);
    for (named, found) in [
        (&[][..], &ALL[..]),
        (&["runc", "crun", "youki"], &ALL),
        (&["runc"], &["newer-flag", "newer-syscall"]),
        (&["runc@1.1"], &["newer-flag", "newer-syscall"]),
        (&["runc@1.2"], &["newer-syscall"]),
        (&["crun@1.6", "youki@0.7.0"], &["newer-syscall"]),
        (&["runc@1.2", "crun"], &["crun-errno-cache", "newer-syscall"]),
        (&["youki@0.6"], &["conditions-old-youki", "newer-syscall"]),
        (
            &["libseccomp@2.6.1"],
            &["conditions-old-youki", "crun-errno-cache", "newer-flag"],
        ),
        (&["runc@1.2", "libseccomp@2.6.1", "linux@6"], &[]),
    ] {
        let named = named.iter().flat_map(|name| ["--runtime", name]);
        let arguments: Vec<_> = named
            .chain(["--deny", "not-portable", "--format", "json", "a.json"])
            .collect();
        let ran = check(folder.path(), &arguments);
        let file = parsed(&ran.out)["files"][0].take();
        let mut codes: Vec<_> = file["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["code"].as_str().unwrap())
            .collect();
        codes.sort_unstable();
        assert_eq!(codes, found, "{arguments:?}");
        assert_eq!(file["findingsTotal"], found.len());
        let is_denied = found.iter().any(|code| *code != "crun-errno-cache");
        assert_eq!(ran.code, i32::from(is_denied), "{arguments:?}: {}", ran.err);
    }
}

/// statx, which runc needs since 1.2.8 but from 1.3.0 to 1.3.2.
#[test]
fn what_concerns_two_ranges_of_versions_is_left_out_where_neither_is_named() {
    const DENIED: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["statx"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let folder = folder(&[("a.json", DENIED)]);
    for (named, starts_fail) in [
        (&[][..], 2),
        (&["runc"], 1),
        (&["runc@1.2.7"], 0),
        (&["runc@1.2.8"], 1),
        (&["runc@1.3.1"], 0),
        (&["runc@1.3.3"], 1),
        // Some of them.
        (&["runc@1.2"], 1),
        (&["runc@1.3"], 1),
        (&["runc@1.3.2", "youki"], 1),
        (&["crun"], 0),
    ] {
        let named = named.iter().flat_map(|name| ["--runtime", name]);
        let arguments: Vec<_> = named.chain(["--format", "json", "a.json"]).collect();
        let ran = check(folder.path(), &arguments);
        assert_eq!(
            ran.out.matches("\"start-fails\"").count(),
            starts_fail,
            "{arguments:?}"
        );
    }
}

#[test]
fn a_runtime_that_is_not_known_is_told_with_those_that_are() {
    for (wrong, said) in [
        (
            "kata",
            "write runc, crun, youki, libseccomp or linux with or without a version",
        ),
        (
            "containerd@1.7",
            "\"containerd\" starts no container itself: name the runtime that it starts them with, which is runc",
        ),
        ("runc@latest", "\"latest\" is no version"),
        ("runc@", "\"\" is no version"),
    ] {
        let ran = callgate(Path::new("."), &["check", "--runtime", wrong, "-"], GOOD);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}

#[test]
fn the_cure_is_shown_once() {
    let folder = folder(&[("clash.json", CONTRADICTORY), ("web.yaml", MANIFEST)]);
    let cure = "Give each call one answer: remove the name";
    let human = check(folder.path(), &["clash.json"]);
    assert!(
        human.out.contains(&format!("\n  = help: {cure}")),
        "{}",
        human.out
    );
    assert_eq!(human.out.matches("one answer:").count(), 1, "{}", human.out);
    // The message asks whether another key is meant.
    let human = check(folder.path(), &["web.yaml"]);
    assert!(human.out.contains("did you mean args?"), "{}", human.out);
    assert!(!human.out.contains("= help:"), "{}", human.out);

    let sarif = check(folder.path(), &["--format", "sarif", "clash.json"]);
    let results = parsed(&sarif.out)["runs"][0]["results"].take();
    let result = with(&results, "ruleId", "contradiction");
    let text = result["message"]["text"].as_str().unwrap();
    assert_eq!(text.matches(cure).count(), 1, "{text}");
}

/// Whatever libseccomp these tests run with: 2.6 has this architecture, 2.5 does not.
#[test]
fn an_architecture_that_libseccomp_does_not_know_is_told_and_alone_it_is_no_verdict() {
    let listing = |list: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": [{list}],
                "syscalls": [{{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}}]}}"#
        )
    };
    let folder = folder(&[
        (
            "both.json",
            &listing(r#""SCMP_ARCH_X86_64", "SCMP_ARCH_LOONGARCH64""#),
        ),
        ("one.json", &listing(r#""SCMP_ARCH_LOONGARCH64""#)),
    ]);
    let ran = check(folder.path(), &["--format", "json", "both.json"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    let file = parsed(&ran.out)["files"][0].take();
    let list = |name: &str| file[name].as_array().unwrap().clone();
    let is_proven = list("filters")
        .iter()
        .any(|one| one["architecture"] == "SCMP_ARCH_LOONGARCH64");
    let told: Vec<_> = list("findings")
        .into_iter()
        .filter(|finding| finding["code"] == "newer-architecture")
        .collect();
    assert_eq!(told.len(), if is_proven { 1 } else { 2 }, "{told:?}");
    for finding in &told {
        assert_eq!(finding["path"], "architectures[1]");
        assert_eq!(finding["class"], "not-portable");
    }
    let is_told = told
        .iter()
        .any(|finding| finding["message"].as_str().unwrap().contains("was not proven"));
    assert_eq!(is_told, !is_proven, "{told:?}");

    let alone = check(folder.path(), &["one.json"]);
    if is_proven {
        assert_eq!(alone.code, 0, "{}", alone.out);
    } else {
        assert_eq!(alone.code, 2, "{}", alone.out);
        for part in [
            "could not be proven: libseccomp ",
            "(SCMP_ARCH_LOONGARCH64)",
            "1 not proven",
        ] {
            assert!(alone.out.contains(part), "{part} in {}", alone.out);
        }
    }
}

#[test]
#[cfg(target_endian = "little")]
fn a_profile_of_the_other_byte_order_is_proven_and_said_not_to_be_loaded() {
    const S390: &str = "\
apiVersion: callgate.dev/v1alpha1
kind: SeccompProfile
metadata: {name: s390, namespace: shop}
spec:
  defaultAction: SCMP_ACT_ALLOW
  architectures: [SCMP_ARCH_S390X]
  syscalls: [{names: [mseal], action: SCMP_ACT_ERRNO}]
";
    let selected = format!("{S390}  nodeSelector: {{kubernetes.io/arch: s390x}}\n");
    let folder = folder(&[("all.yaml", S390), ("s390.yaml", &selected), ("good.json", GOOD)]);
    for (file, is_told) in [("s390.yaml", false), ("all.yaml", true)] {
        let ran = check(folder.path(), &["--format", "json", file]);
        assert_eq!(ran.code, 0, "{}", ran.out);
        let output = parsed(&ran.out);
        validate(&closed(read_json("docs/check.schema.json")), &output);
        let document = &output["files"][0];
        assert_eq!(
            (&document["verdict"], &document["loaded"]),
            (&json!("valid"), &json!(false))
        );
        assert_eq!(document["filters"][0]["architecture"], "SCMP_ARCH_S390X");
        let newer = with(&document["findings"], "code", "newer-syscall");
        assert_eq!(
            (&newer["path"], &newer["line"]),
            (&json!("spec.syscalls[0].names[0]"), &json!(7))
        );
        let codes = document["findings"].as_array().unwrap().iter();
        let mut codes = codes.map(|finding| finding["code"].as_str().unwrap());
        assert_eq!(codes.any(|code| code == "other-byte-order"), is_told, "{file}");

        let ran = check(folder.path(), &[file]);
        assert!(ran.out.contains("proven but not loaded"), "{}", ran.out);
    }
    let ran = check(folder.path(), &["--format", "json", "good.json"]);
    assert_eq!(parsed(&ran.out)["files"][0]["loaded"], true);

    let ran = check(folder.path(), &["--format", "sarif", "s390.yaml", "good.json"]);
    let output = parsed(&ran.out);
    validate(&sarif_schema(), &output);
    let told = output["runs"][0]["invocations"][0]["toolExecutionNotifications"]
        .as_array()
        .unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["level"], "note");
    assert_eq!(
        told[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        "s390.yaml"
    );
    let text = told[0]["message"]["text"].as_str().unwrap();
    assert!(text.starts_with("shop/s390 was proven but not loaded"), "{text}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_list_for_other_machines_alone_is_told_where_it_is_proven() {
    const ARM: &str = "\
apiVersion: callgate.dev/v1alpha1
kind: SeccompProfile
metadata: {name: arm, namespace: shop}
spec:
  defaultAction: SCMP_ACT_ALLOW
  architectures: [SCMP_ARCH_AARCH64]
  syscalls: [{names: [mount], action: SCMP_ACT_ERRNO}]
";
    let selected = format!("{ARM}  nodeSelector: {{kubernetes.io/arch: arm64}}\n");
    let folder = folder(&[("all.yaml", ARM), ("arm.yaml", &selected)]);
    let ran = check(folder.path(), &["all.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    for part in ["note[native-not-listed]", "all.yaml:6:18"] {
        assert!(ran.out.contains(part), "{part} in {}", ran.out);
    }
    let ran = check(folder.path(), &["arm.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(!ran.out.contains("native-not-listed"), "{}", ran.out);
}
