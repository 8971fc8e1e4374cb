//! Texts that are meant to do harm. Each ends with a finding or a clear error, in bounded memory, and with output of a
//! bounded length.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::{Ran, run};

/// The most bytes that are said of one text: as much as is listed of the findings in the worst.
const MAX_OUTPUT: usize = 1024 * 1024;

fn oci(rest: &str) -> String {
    format!("{{\"defaultAction\": \"SCMP_ACT_ERRNO\", {rest}}}")
}

fn entry(names: &str, args: &str) -> String {
    format!("{{\"names\": [{names}], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{args}]}}")
}

fn entries(entries: &[String]) -> String {
    oci(&format!("\"syscalls\": [{}]", entries.join(", ")))
}

fn value(value: &str) -> String {
    let condition = format!("{{\"index\": 0, \"value\": {value}, \"op\": \"SCMP_CMP_EQ\"}}");
    entries(&[entry("\"read\"", &condition)])
}

fn manifest(spec: &str) -> String {
    format!(
        "apiVersion: callgate.dev/v1alpha1\nkind: SeccompProfile\nmetadata: {{name: web}}\nspec:\n  defaultAction: \
         SCMP_ACT_ERRNO\n{spec}"
    )
}

/// Each level names the one before nine times.
fn bomb(levels: usize) -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..levels {
        let names = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{names}]").unwrap();
    }
    text
}

/// Runs `callgate check` in 64 MiB of memory: beyond that it is killed, and has no exit code.
fn check_in_little_memory(folder: &Path, format: &str) -> Ran {
    let mut shell = Command::new("sh");
    let limited = "ulimit -d 65536 && exec \"$0\" check --format \"$1\" profile.json";
    run(
        shell.args(["-c", limited, env!("CARGO_BIN_EXE_callgate"), format]),
        folder,
        "",
    )
}

#[track_caller]
fn is_refused(text: impl AsRef<[u8]>, exit_code: i32, expected: &[&str]) {
    let text = text.as_ref();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("profile.json"), text).unwrap();
    let ran = check_in_little_memory(folder.path(), "human");
    let begin = String::from_utf8_lossy(&text[..text.len().min(100)]);
    assert_eq!(ran.code, exit_code, "{begin}: {}{}", ran.out, ran.err);
    for part in expected {
        assert!(
            ran.out.contains(part) || ran.err.contains(part),
            "{part} of {begin} in {}{}",
            ran.out,
            ran.err
        );
    }
    assert!(
        ran.out.len() + ran.err.len() <= MAX_OUTPUT,
        "{} bytes",
        ran.out.len()
    );
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

#[test]
fn nesting_without_end_is_refused() {
    is_refused("[".repeat(100_000), 1, &["error[syntax]", "recursion limit"]);
    is_refused(
        format!("{{\"a\": {}", "[".repeat(100_000)),
        1,
        &["error[syntax]", "recursion limit"],
    );
    is_refused("- ".repeat(100_000), 1, &["error[syntax]"]);
    is_refused("{a: ".repeat(100_000), 1, &["error[syntax]"]);
    is_refused("? ".repeat(100_000), 1, &["error[syntax]"]);
}

#[test]
fn numbers_that_no_field_holds_are_refused_at_their_place() {
    for number in ["18446744073709551616", "-1", "2.0", "1e2"] {
        is_refused(
            value(number),
            1,
            &["error[bad-value]: syscalls[0].args[0].value", number],
        );
    }
    is_refused(value("1e999"), 1, &["error[syntax]", "number out of range"]);
    is_refused(value("0x10"), 1, &["error[syntax]"]);
    is_refused(value("01"), 1, &["error[syntax]"]);
    is_refused(
        oci("\"defaultErrnoRet\": 4095"),
        1,
        &["error[bad-value]: defaultErrnoRet"],
    );
    is_refused(
        oci(&format!("\"defaultErrnoRet\": {}", "9".repeat(100_000))),
        1,
        &["error["],
    );
    for number in [".inf", "1e999", "0x10000", "-0b1", "18446744073709551616"] {
        is_refused(
            manifest(&format!("  defaultErrnoRet: {number}\n")),
            1,
            &["error[bad-value]: spec.defaultErrnoRet"],
        );
    }
}

#[test]
fn small_texts_that_multiply_out_are_refused_before_they_do() {
    // 70,560 comparisons in 80 KB.
    let names = "read write open close stat fstat lstat poll lseek mmap mprotect munmap brk ioctl pread64 pwrite64 \
                 readv writev access pipe select dup dup2 pause getpid socket connect accept";
    let names: Vec<_> = names.split(' ').map(|name| format!("\"{name}\"")).collect();
    let conditions: Vec<String> = (0..6)
        .map(|index| format!("{{\"index\": {index}, \"value\": 1, \"op\": \"SCMP_CMP_NE\"}}"))
        .collect();
    let all = vec![entry(&names.join(","), &conditions.join(",")); 140].join(",");
    let architectures = r#""architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]"#;
    is_refused(
        oci(&format!("{architectures}, \"syscalls\": [{all}]")),
        1,
        &["error[too-large]: ", "comparisons"],
    );
    let calls = vec!["kill"; 1000].join(",");
    is_refused(
        manifest(&format!(
            "  syscalls:\n  - &a {{names: [{}], action: SCMP_ACT_ALLOW}}\n{}",
            calls,
            "  - *a\n".repeat(1000)
        )),
        1,
        &["error[", "too large"],
    );
    is_refused(bomb(60), 1, &["error[syntax]", "too large"]);
    is_refused(
        format!("a: &a {}\nb:\n{}", "x".repeat(1 << 20), "- *a\n".repeat(100_000)),
        1,
        &["error[syntax]", "too large"],
    );
}

#[test]
fn a_megabyte_of_names_ends_with_the_findings_that_are_listed() {
    let names = |range: std::ops::Range<usize>| {
        let names: Vec<String> = range.map(|number| format!("\"n{number}\"")).collect();
        entry(&names.join(","), "")
    };
    let many: Vec<_> = (0..110)
        .map(|part| names(part * 1000..(part + 1) * 1000))
        .collect();
    is_refused(
        entries(&many),
        1,
        &["error[unknown-syscall]: syscalls[0].names[0]", "more findings"],
    );
    let long = format!("\"{}\"", "a".repeat(1 << 20));
    is_refused(
        entries(&[entry(&long, "")]),
        1,
        &["error[bad-value]: syscalls[0].names[0]"],
    );
    is_refused(
        entries(&[names(0..2000)]),
        1,
        &["error[too-large]: syscalls[0].names"],
    );
    let keys: Vec<_> = (0..100_000).map(|number| format!("\"k{number}\": 1")).collect();
    is_refused(oci(&keys.join(",")), 1, &["error[unknown-key]", "more findings"]);
}

#[test]
fn a_text_of_too_many_values_or_documents_is_refused() {
    is_refused(
        format!("{{\"a\": [{}0]}}", "0,".repeat(1_000_000)),
        1,
        &["error[syntax]", "too large"],
    );
    is_refused(
        format!("a: [{}0]", "0,".repeat(1_000_000)),
        1,
        &["error[syntax]", "too large"],
    );
    let too_many = "error[too-large]: more than 4096 documents";
    is_refused("---\n".repeat(100_000), 1, &[too_many]);
    is_refused(
        format!(
            "apiVersion: v1\nkind: List\nitems:\n{}",
            "- {apiVersion: v1, kind: Pod}\n".repeat(5_000)
        ),
        1,
        &[too_many],
    );
}

#[test]
fn a_hundred_thousand_entries_are_refused_without_a_look_at_each() {
    let entries =
        |entry: &str, number: usize| oci(&format!("\"syscalls\": [{}]", vec![entry; number].join(",")));
    let too_large = ["error[too-large]: syscalls"];
    is_refused(entries("{}", 10_000), 1, &too_large);
    is_refused(entries("null", 20_000), 1, &too_large);
    is_refused(entries(r#"{"names":["a"],"action":"x"}"#, 10_000), 1, &too_large);
    let too_many_values = ["error[syntax]", "too large"];
    is_refused(entries("0", 1_000_000), 1, &too_many_values);
    is_refused(
        entries(r#"{"names":["a"],"action":"x"}"#, 100_000),
        1,
        &too_many_values,
    );
    let anchored = "  syscalls:\n  - &a {names: [read], action: SCMP_ACT_ALLOW}\n";
    is_refused(
        manifest(&format!("{anchored}{}", "  - *a\n".repeat(5_000))),
        1,
        &["error[too-large]: spec.syscalls"],
    );
    is_refused(
        manifest(&format!("{anchored}{}", "  - *a\n".repeat(100_000))),
        1,
        &too_many_values,
    );
}

#[test]
fn a_text_of_megabytes_that_says_nothing_is_no_profile() {
    let no_profile = ["error[syntax]"];
    for nothing in ["\n", "\r", " ", "#", "\0", "\u{feff}", "%"] {
        is_refused(nothing.repeat((4 << 20) / nothing.len()), 1, &no_profile);
    }
    is_refused("\n".repeat((4 << 20) + 1), 2, &["4 MiB"]);
    is_refused("&a ".repeat(300_000), 1, &no_profile);
    is_refused(
        format!("!<{}> a", "x".repeat(1 << 20)),
        1,
        &["error[missing-key]: not an object of Kubernetes"],
    );
}

#[test]
fn keys_and_values_of_a_megabyte_are_shown_cut() {
    let long = "k".repeat(1 << 20);
    is_refused(oci(&format!("\"{long}\": 1")), 1, &["error[unknown-key]: "]);
    is_refused(
        manifest(&format!("  ? {long}\n  : 1\n")),
        1,
        &["error[unknown-key]: "],
    );
    is_refused(
        oci(&format!("\"{}\": 1", r"\u001b".repeat(300_000))),
        1,
        &["error[unknown-key]: "],
    );
    is_refused(
        value(&format!("\"0x{}\"", "f".repeat(1 << 20))),
        1,
        &["error[wrong-type]: syscalls[0].args[0].value"],
    );
    is_refused(
        oci(&format!("\"listenerPath\": \"/{long}\"")),
        1,
        &["error[bad-value]: listenerPath"],
    );
    let scalar = manifest(&format!("  listenerMetadata: |\n{}", "    x\n".repeat(600_000)));
    is_refused(scalar, 1, &["error[too-large]: spec.listenerMetadata"]);
}

/// A file of as many documents as are read, each with findings: programs get them all.
#[test]
fn four_thousand_documents_with_findings_are_told_in_bounded_memory() {
    let wrong = manifest("  arg: 1\n---\n").repeat(4_000);
    for format in ["human", "json", "sarif"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("profile.json"), &wrong).unwrap();
        let ran = check_in_little_memory(folder.path(), format);
        assert_eq!(ran.code, 1, "{format}: {}", ran.err);
        assert!(ran.out.matches("unknown-key").count() >= 4_000, "{format}");
    }
}

#[test]
fn encodings_other_than_plain_utf_8_are_refused_or_read_as_what_they_are() {
    let good = oci("\"defaultErrnoRet\": 38");
    is_refused(
        format!("\u{feff}{good}"),
        1,
        &["error[syntax]", "byte order mark"],
    );
    is_refused(b"{\"defaultAction\": \"\xff\"}", 2, &["is not UTF-8"]);
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    is_refused(utf_16, 1, &["error["]);
    is_refused(
        format!("\u{feff}{}", manifest("  arg: 1\n")).replace('\n', "\r\n"),
        1,
        &["error[unknown-key]: spec.arg", "profile.json:6:3"],
    );
    for escape in [r"\ud800", r"\udc00\ud800", r"\ud83d\u0041"] {
        is_refused(
            entries(&[entry(&format!("\"{escape}\""), "")]),
            1,
            &["error[syntax]"],
        );
        is_refused(
            manifest(&format!("  listenerPath: \"{escape}\"\n")),
            1,
            &["error[syntax]"],
        );
    }
    is_refused(
        entries(&[entry("\"read\\u0000\"", "")]),
        1,
        &["error[bad-value]: syscalls[0].names[0]"],
    );
    is_refused(entries(&[entry("\"read\0\"", "")]), 1, &["error[syntax]"]);
    is_refused(manifest("  \0: 1\n"), 1, &["error["]);
    is_refused("\0".repeat(1000), 1, &["error["]);
}

#[test]
fn what_yaml_has_beyond_json_hides_no_key() {
    let merged = manifest("  <<: {defaultAction: SCMP_ACT_ALLOW}\n");
    is_refused(merged, 1, &["error[unknown-key]", "merge"]);
    let twice = manifest("  flags: &flags []\n  flags: *flags\n");
    is_refused(twice, 1, &["error[duplicate-key]: spec.flags"]);
    let aliased = manifest("  ? &key flags\n  : []\n  ? *key\n  : []\n");
    is_refused(aliased, 1, &["error[duplicate-key]: spec.flags"]);
    let quoted = manifest("  \"defaultAction\": SCMP_ACT_ALLOW\n");
    is_refused(quoted, 1, &["error[duplicate-key]: spec.defaultAction"]);
    let tagged = manifest("  listenerPath: !!binary L3J1bi9h\n");
    is_refused(tagged, 1, &["error[syntax]", "tag"]);
    let itself = manifest("  flags: &flags [*flags]\n");
    is_refused(itself, 1, &["error[syntax]", "alias"]);
    is_refused(
        manifest("  ? [defaultAction]\n  : SCMP_ACT_ALLOW\n"),
        1,
        &["error[syntax]", "a key must be text"],
    );
}
