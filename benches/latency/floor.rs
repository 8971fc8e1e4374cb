//! The floor of a test-load: the same work by a plain C program.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::profiles::Size;
use crate::report::Report;
use crate::scenes::WARM_UP;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/latency/floor.c");

/// libseccomp and the kernel alone, without Rust, a fork server or a proof.
pub(crate) fn floor(report: &mut Report, size: Size, runs: u16) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (program, file) = (folder.path().join("floor"), folder.path().join("steps"));
    let compiled = Command::new("cc")
        .args(["-O2", "-Wall", "-Werror", "-o"])
        .arg(&program)
        .args([PROGRAM, "-lseccomp"])
        .status()
        .context("cannot run cc")?;
    ensure!(compiled.success(), "cc: {compiled}");
    std::fs::write(&file, steps(&size.spec(0)?)?)?;
    let output = Command::new(program)
        .arg((WARM_UP + usize::from(runs)).to_string())
        .arg(file)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let samples = String::from_utf8(output.stdout)?
        .lines()
        .map(|line| Ok(Duration::from_nanos(line.parse()?)))
        .collect::<Result<Vec<_>>>()?;
    report.times(
        format!("compile and load in C: {}", size.describe()),
        "",
        &samples[WARM_UP..],
    );
    Ok(())
}

/// What libseccomp is asked for.
fn steps(spec: &Value) -> Result<String> {
    let mut steps = format!(
        "default {}\n",
        action(&spec["defaultAction"], &spec["defaultErrnoRet"])?
    );
    for architecture in items(&spec["architectures"]) {
        let name = text(architecture)?
            .trim_start_matches("SCMP_ARCH_")
            .to_lowercase();
        writeln!(steps, "arch {name}")?;
    }
    for entry in items(&spec["syscalls"]) {
        let action = action(&entry["action"], &entry["errnoRet"])?;
        let conditions: Vec<String> = items(&entry["args"]).map(condition).collect::<Result<_>>()?;
        for name in items(&entry["names"]) {
            let (name, count) = (text(name)?, conditions.len());
            writeln!(steps, "rule {action} {name} {count} {}", conditions.join(" "))?;
        }
    }
    Ok(steps)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

/// As `seccomp.h` numbers them; those that the profiles here have.
fn action(action: &Value, errno: &Value) -> Result<u64> {
    Ok(match text(action)? {
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.as_u64().unwrap_or(1),
        other => bail!("{other} is not known here"),
    })
}

fn condition(condition: &Value) -> Result<String> {
    let operator = match text(&condition["op"])? {
        "SCMP_CMP_NE" => 1,
        "SCMP_CMP_EQ" => 4,
        "SCMP_CMP_MASKED_EQ" => 7,
        other => bail!("{other} is not known here"),
    };
    let index = &condition["index"];
    let number = |key: &str| condition[key].as_u64().unwrap_or_default();
    Ok(format!(
        "{index} {operator} {} {}",
        number("value"),
        number("valueTwo")
    ))
}
