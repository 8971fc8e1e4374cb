//! The transcript: commands as they are typed, outputs as they come.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result, bail};

const PROMPT: Style = Style::new().bold();
const TEXT: Style = AnsiColor::Cyan.on_default();

/// Runs commands in the root of the repository, and shows them.
pub(crate) struct Shell {
    environment: Vec<(&'static str, OsString)>,
}

/// What a command wrote to both of its outputs, and whether it ended with 0.
struct Answer {
    success: bool,
    text: String,
}

impl Shell {
    /// `environment` must hold `PATH`; the directory of `callgate` is put in front of it.
    pub(crate) fn new(mut environment: Vec<(&'static str, OsString)>, callgate: &Path) -> Result<Self> {
        let directory = callgate.parent().context("callgate lies in no directory")?;
        for (name, value) in &mut environment {
            if *name == "PATH" {
                let path = std::env::join_paths(
                    std::iter::once(directory.to_owned()).chain(std::env::split_paths(value)),
                )?;
                *value = path;
            }
        }
        Ok(Self { environment })
    }

    /// Shows and runs a command that must work, and returns its output.
    pub(crate) fn run(&self, command: &str) -> Result<String> {
        show(command);
        let answer = self.answer(command)?;
        anstream::print!("{}", answer.text);
        if !answer.success {
            bail!("this command was to work: {command}");
        }
        Ok(answer.text)
    }

    /// Shows and runs a command that must fail, and returns its output.
    pub(crate) fn refused(&self, command: &str) -> Result<String> {
        show(command);
        let answer = self.answer(command)?;
        anstream::print!("{}", answer.text);
        if answer.success {
            bail!("this command was to be refused: {command}");
        }
        Ok(answer.text)
    }

    /// Waits until `holds` is true of the output of a command, then shows both.
    pub(crate) async fn until(&self, command: &str, holds: impl Fn(&str) -> bool) -> Result<String> {
        let answer = harness::eventually(command, async || {
            let answer = self.answer(command)?;
            if !holds(&answer.text) {
                bail!("the last answer was:\n{}", answer.text);
            }
            Ok(answer)
        })
        .await?;
        show(command);
        anstream::print!("{}", answer.text);
        Ok(answer.text)
    }

    fn answer(&self, command: &str) -> Result<Answer> {
        // Both outputs into one pipe, in the order they come, as at a terminal.
        let output = Command::new("bash")
            .args(["-o", "pipefail", "-c", &format!("exec 2>&1\n{command}")])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(harness::repository())
            .output()
            .context("cannot run bash")?;
        Ok(Answer {
            success: output.status.success(),
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
        })
    }
}

/// Explains what comes next.
pub(crate) fn say(text: &str) {
    anstream::println!("\n{TEXT}{text}{TEXT:#}");
}

fn show(command: &str) {
    anstream::println!("\n{PROMPT}$ {command}{PROMPT:#}");
}

/// Shows what a long step does, and on a terminal for how long it has done it.
pub(crate) async fn progress<T>(what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
    let terminal = std::io::stdout().is_terminal();
    let started = Instant::now();
    let mut step = std::pin::pin!(step);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    if !terminal {
        anstream::print!("{what} ...");
        std::io::stdout().flush()?;
    }
    let result = loop {
        tokio::select! {
            result = &mut step => break result,
            _ = second.tick(), if terminal => {
                anstream::print!("\r{what} ... {} s", started.elapsed().as_secs());
                std::io::stdout().flush()?;
            }
        }
    };
    let end = if result.is_ok() { "done" } else { "failed" };
    let start = if terminal {
        format!("\r{what} ...")
    } else {
        String::new()
    };
    anstream::println!("{start} {end} in {:.1} s", started.elapsed().as_secs_f32());
    result.with_context(|| what.to_owned())
}
