//! What the probe in a container was answered, and what Callgate's own reading of the profile predicts.

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Answer as Seen, Call};
use callgate::filter::resolve;
use callgate::meaning::Meaning;
use callgate::profile::{Architecture, parse_spec};
use serde_json::Value;

use crate::lab::Lab;
use crate::pods::{container, name_of};

/// Source: `include/uapi/linux/seccomp.h` of Linux.
const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;

/// The questions: calls that do no harm whatever the answer. By number, as the probe speaks the machine's language.
pub(crate) fn calls() -> Vec<Call> {
    [
        (libc::SYS_getppid, &[][..]),
        (libc::SYS_personality, &[0xffff_ffff]),
        (libc::SYS_personality, &[8]),
        (libc::SYS_personality, &[0x1_0000_0008]),
        (libc::SYS_socket, &[1, 1, 0]),
        (libc::SYS_socket, &[16, 3, 0]),
        (libc::SYS_socket, &[38, 5, 0]),
        (libc::SYS_socket, &[39, 5, 0]),
        (libc::SYS_mkdir, &[0, 0]),
        (libc::SYS_kill, &[u64::MAX - 1_000_000, 0]),
        (libc::SYS_sched_yield, &[]),
        (libc::SYS_umask, &[0o22]),
        (libc::SYS_umask, &[0o77]),
        (libc::SYS_getpriority, &[0, 0]),
        (libc::SYS_getpriority, &[1, 5]),
        (libc::SYS_getpriority, &[2, 5]),
    ]
    .into_iter()
    .filter_map(|(number, args)| Some(Call::native(u32::try_from(number).ok()?, args)))
    .collect()
}

/// A container that asks them.
pub(crate) fn probe(name: &str) -> Value {
    let arguments: Vec<String> = calls().iter().map(Call::argument).collect();
    let mut command = vec!["/probe", "h"];
    command.extend(arguments.iter().map(String::as_str));
    container(name, &command)
}

/// What the profile says of each call: nothing where it lets the call through.
pub(crate) fn predicted(spec: &Value) -> Result<Vec<Option<Seen>>> {
    let profile = parse_spec(spec)
        .map_err(|findings| anyhow!("{findings:?}"))?
        .profile;
    let resolved = resolve(&profile)?;
    let meaning = Meaning::of(&profile, &resolved).map_err(|error| anyhow!("{error:?}"))?;
    calls()
        .iter()
        .map(|call| {
            let answer = meaning.answer(Architecture::X86_64, call.raw_number(), &call.args);
            let answer = answer.context("the filter does not hold the machine's architecture")?;
            if answer.lets_through() {
                return Ok(None);
            }
            let errno = answer.word() & 0xffff;
            ensure!(
                answer.word() & 0xffff_0000 == SECCOMP_RET_ERRNO,
                "no test of this suite asks for {answer}"
            );
            Ok(Some(Seen::errno(u16::try_from(errno)?)))
        })
        .collect()
}

/// Whether what a container was answered is what the profile says. `denials` are the errnos of the profile, which the
/// kernel itself gives none of the calls.
pub(crate) fn agrees(seen: &[Seen], predicted: &[Option<Seen>], denials: &[u16]) -> Result<()> {
    for ((call, seen), predicted) in calls().iter().zip(seen).zip(predicted) {
        let right = match predicted {
            Some(answer) => seen == answer,
            None => !denials.iter().any(|errno| *seen == Seen::errno(*errno)),
        };
        ensure!(
            right,
            "{call:?} was answered by {seen}, and the profile says {predicted:?}"
        );
    }
    ensure!(
        predicted.iter().any(Option::is_some) && predicted.iter().any(Option::is_none),
        "the profile says the same of every call"
    );
    Ok(())
}

impl Lab {
    /// What the probe wrote in a container of a pod that has ended, per call.
    pub(crate) async fn answers(&self, pod: &Value, container: &str) -> Result<Vec<Seen>> {
        let (namespace, name) = name_of(pod)?;
        let log = self
            .kubectl(&["logs", "--namespace", namespace, name, "--container", container])
            .await?;
        // What a shell says of the probe's end is in the log, too.
        let mut lines = log.lines().filter(|line| *line != "Illegal instruction");
        ensure!(lines.next() == Some("h"), "the probe did not run: {log:?}");
        let answers: Vec<Seen> = lines.map(Seen::parse).collect::<Result<_>>()?;
        ensure!(answers.len() == calls().len(), "the probe was ended: {log:?}");
        Ok(answers)
    }

    /// What one call is answered in a container that runs.
    pub(crate) async fn ask(&self, pod: &Value, call: &Call) -> Result<Seen> {
        // The probe ends by a signal.
        let script = format!("/probe {}; true", call.argument());
        Seen::parse(self.exec(pod, &["sh", "-c", &script]).await?.trim())
    }
}
