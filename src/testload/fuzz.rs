//! What must hold of every packet and report. See [`crate::fuzz`].

use super::judge::{self, Next};
use super::message::{CompileReport, MAX_REPLY, Reply, Request};
use super::process::{End, Ended};
use super::{Limits, Verdict};
use crate::startability::start_calls;

/// What is read is bounded, and is written as it was read.
pub(crate) fn protocol(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes, bytes.len()) {
        assert_eq!(Request::encode(request.id, &request.profile), bytes);
    }
    if let Some(reply) = Reply::decode(bytes) {
        let packet = reply.encode();
        if packet.len() <= MAX_REPLY && bytes.len() <= MAX_REPLY {
            assert_eq!(Reply::decode(&packet).as_ref(), Some(&reply));
        }
        if let Reply::Done { outcome, .. } = reply {
            outcome.into_verdict().iter().for_each(check_verdict);
        }
    }
    if let Some((report, program)) = CompileReport::decode(bytes) {
        let written = report.encode(program);
        assert_eq!(CompileReport::decode(&written), Some((report, program)));
    }
    let ended = Ended {
        pid: rustix::process::getpid(),
        end: End::Exited(0),
        peak_memory: 0,
    };
    let outcome = match judge::compiled(&ended, Some(bytes), true, &Limits::default()) {
        Next::Answer(outcome) => outcome,
        Next::Again => return,
        Next::Load { compiled, flags, .. } => {
            judge::loaded(&ended, Some(&0_i32.to_ne_bytes()), compiled, flags)
        }
    };
    let packet = Reply::Done {
        id: 0,
        outcome: outcome.clone(),
    }
    .encode();
    assert!(packet.len() <= MAX_REPLY, "{} bytes", packet.len());
    outcome.into_verdict().iter().for_each(check_verdict);
}

/// Verdicts are kept, many of them.
fn check_verdict(verdict: &Verdict) {
    let findings = match verdict {
        Verdict::Passed {
            is_loaded: _,
            filters,
            unknown_names,
            findings,
            start,
        } => {
            assert!(start.iter().count() <= start_calls().count());
            assert!(filters.len() <= 32 && unknown_names.len() <= 64);
            findings
        }
        Verdict::Refused(findings) => findings,
        Verdict::Unknown(_) => return,
    };
    assert!(findings.len() <= 16 && findings.total() >= findings.len());
    let bytes: usize = findings.iter().map(|finding| finding.message.len()).sum();
    assert!(bytes <= 8 * 1024, "{bytes}");
}
