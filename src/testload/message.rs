//! What is said between client, fork server and children, and how it is written. Pure.
//!
//! Between client and server one packet of a `SOCK_SEQPACKET` socket is one message, so a message is whole or
//! not there, and its length is the kernel's word. The first packet to the server is [`Limits`](super::Limits),
//! the first from it [`Reply::Ready`] or [`Reply::Broken`]. All have bounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::filter::{CompileError, Filter};
use crate::profile::{Architecture, Canonical, Code, FieldPath, Finding, Findings};
use crate::startability::{CallAnswer, Denials, StartAnswers};

/// The most bytes of a request: its number, and the canonical bytes of a profile.
pub(super) const MAX_REQUEST: usize = size_of::<u64>() + Canonical::MAX_BYTES;
/// The most bytes of a reply.
pub(super) const MAX_REPLY: usize = 32 * 1024;

const MAX_MESSAGE: usize = 1024;
/// Field paths and witnesses.
const MAX_DETAIL: usize = 256;
/// How many findings a child tells one by one; others it counts.
const MAX_FINDINGS: usize = 16;
/// The bytes of all texts of its findings together: what is kept of a profile has a bound that thousands of them
/// can be multiplied with.
const MAX_FINDINGS_BYTES: usize = 8 * 1024;
const MAX_UNKNOWN_NAMES: usize = 64;
const MAX_NAME: usize = 64;

/// A request for one test-load.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Comes back in the reply.
    pub(super) id: u64,
    /// The canonical bytes.
    pub(super) profile: Vec<u8>,
}

impl Request {
    pub(super) fn encode(id: u64, profile: &[u8]) -> Vec<u8> {
        [&id.to_le_bytes(), profile].concat()
    }

    /// `length` is that of the packet, which may have been longer than what was kept of it.
    pub(super) fn decode(kept: &[u8], length: usize) -> Result<Self, String> {
        if length > MAX_REQUEST {
            return Err(format!(
                "a request of {length} bytes: at most {MAX_REQUEST} are read"
            ));
        }
        match kept.split_first_chunk() {
            Some((id, profile)) => Ok(Self {
                id: u64::from_le_bytes(*id),
                profile: profile.to_vec(),
            }),
            None => Err(format!(
                "a request of {length} bytes: it begins with a number of 8"
            )),
        }
    }
}

/// What the server says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is confined and takes requests.
    Ready,
    /// It could not confine itself, and ends.
    Broken(String),
    /// To a request.
    Done {
        /// Of the request.
        id: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// To a packet that is no request.
    Malformed(String),
}

/// A [`Verdict`] as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Loaded(Compiled),
    /// For machines of the other byte order.
    Compiled(Compiled),
    Refused(Found),
    Unknown(String),
}

/// What there is to say about a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compiled {
    filters: Vec<(String, u32)>,
    unknown_names: Vec<String>,
    found: Found,
    start: Vec<(String, WireAnswer)>,
}

/// A [`CallAnswer`] as it travels: the bits of its denials, and its flags above them. There are many, and one packet
/// has to hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct WireAnswer(u16);

/// [`Findings`] as they travel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    listed: Vec<WireFinding>,
    unlisted: usize,
}

/// A [`Finding`] as it travels. All findings of this room are about the whole object or one of its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WireFinding {
    code: String,
    field: String,
    message: String,
    witness: Option<String>,
}

/// What the compiling child says, in its shared pages. The program itself comes behind it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CompileReport {
    Compiled {
        compiled: Compiled,
        /// For seccomp(2).
        flags: u64,
    },
    /// For machines of the other byte order: there is nothing to load.
    Foreign(Compiled),
    Refused(Found),
    OutOfMemory,
    Fault,
    Failed(String),
}

impl Compiled {
    pub(super) fn new(filter: &Filter, findings: &[Finding], start: &StartAnswers) -> Self {
        let size = |architecture: &Architecture| {
            (
                architecture.as_str().to_owned(),
                filter.program.reachable(*architecture),
            )
        };
        let unknown = filter.unknown_names.iter().take(MAX_UNKNOWN_NAMES);
        Self {
            filters: filter.architectures.iter().map(size).collect(),
            unknown_names: unknown.map(|name| cut(name, MAX_NAME).to_owned()).collect(),
            found: Found::new(findings),
            start: start
                .iter()
                .map(|(call, answer)| (call.to_string(), WireAnswer::from(answer)))
                .collect(),
        }
    }

    fn into_verdict(self, is_loaded: bool) -> Option<Verdict> {
        let bounded = self.filters.len() <= Architecture::ALL.len()
            && self.unknown_names.len() <= MAX_UNKNOWN_NAMES
            && self.unknown_names.iter().all(|name| name.len() <= MAX_NAME);
        if !bounded {
            return None;
        }
        let filters = self.filters.into_iter();
        Some(Verdict::Passed {
            is_loaded,
            filters: filters
                .map(|(name, size)| Some((name.parse().ok()?, size)))
                .collect::<Option<_>>()?,
            unknown_names: self.unknown_names,
            findings: self.found.into_findings()?,
            start: start_answers(self.start)?,
        })
    }
}

impl From<CallAnswer> for WireAnswer {
    fn from(answer: CallAnswer) -> Self {
        let flags = [
            answer.is_always_denied,
            answer.kills_thread,
            answer.asks_listener,
            answer.is_unknown_to_runc,
        ];
        let bits = flags
            .into_iter()
            .rev()
            .fold(0, |bits, flag| bits << 1 | u16::from(flag));
        Self(bits << u8::BITS | u16::from(answer.denials.bits()))
    }
}

impl WireAnswer {
    /// `None` for bits that there are not.
    fn into_answer(self) -> Option<CallAnswer> {
        let [denials, flags] = self.0.to_le_bytes();
        let flag = |bit: u8| flags >> bit & 1 == 1;
        let answer = CallAnswer {
            denials: Denials::from_bits(denials)?,
            is_always_denied: flag(0),
            kills_thread: flag(1),
            asks_listener: flag(2),
            is_unknown_to_runc: flag(3),
        };
        (Self::from(answer) == self).then_some(answer)
    }
}

/// `None` where there is a call that no start makes.
fn start_answers(start: Vec<(String, WireAnswer)>) -> Option<StartAnswers> {
    let answers: BTreeMap<String, CallAnswer> = start
        .into_iter()
        .map(|(call, answer)| Some((call, answer.into_answer()?)))
        .collect::<Option<_>>()?;
    let known = StartAnswers::new(|call| answers.get(&call.to_string()).copied().unwrap_or_default());
    (known.iter().count() == answers.len()).then_some(known)
}

impl Found {
    pub(super) fn new(findings: &[Finding]) -> Self {
        let mut bytes = 0;
        let listed: Vec<_> = findings
            .iter()
            .take(MAX_FINDINGS)
            .map(WireFinding::from)
            .take_while(|finding| {
                bytes += finding.bytes();
                bytes <= MAX_FINDINGS_BYTES
            })
            .collect();
        Self {
            unlisted: findings.len() - listed.len(),
            listed,
        }
    }

    /// `None` where it names a code that this program does not have, or is longer than what [`Found::new`] makes.
    fn into_findings(self) -> Option<Findings> {
        let bytes: usize = self.listed.iter().map(WireFinding::bytes).sum();
        if self.listed.len() > MAX_FINDINGS || bytes > MAX_FINDINGS_BYTES {
            return None;
        }
        let listed = self
            .listed
            .into_iter()
            .map(WireFinding::into_finding)
            .collect::<Option<_>>()?;
        Some(Findings::new(listed, self.unlisted))
    }
}

impl From<&Finding> for WireFinding {
    fn from(finding: &Finding) -> Self {
        Self {
            code: finding.code.as_str().to_owned(),
            field: finding.field.as_str().to_owned(),
            message: cut(&finding.message, MAX_MESSAGE).to_owned(),
            witness: finding
                .witness
                .as_deref()
                .map(|text| cut(text, MAX_DETAIL).to_owned()),
        }
    }
}

impl WireFinding {
    fn bytes(&self) -> usize {
        let witness = self.witness.as_ref().map_or(0, String::len);
        self.code.len() + self.field.len() + self.message.len() + witness
    }

    fn into_finding(self) -> Option<Finding> {
        let code = Code::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == self.code)?;
        Some(Finding {
            witness: self.witness,
            ..Finding::new(code, field_path(&self.field), self.message)
        })
    }
}

impl From<&CompileError> for CompileReport {
    fn from(error: &CompileError) -> Self {
        match (error.finding(), error) {
            (Some(finding), _) => Self::Refused(Found::new(&[finding])),
            (None, CompileError::OutOfMemory) => Self::OutOfMemory,
            (None, CompileError::Fault) => Self::Fault,
            (None, other) => Self::Failed(cut(&other.to_string(), MAX_MESSAGE).to_owned()),
        }
    }
}

impl CompileReport {
    /// The report, and a program behind it (empty where there is none).
    pub(super) fn encode(&self, program: &[u8]) -> Vec<u8> {
        let mut bytes = to_json(self);
        // JSON has no NUL byte.
        bytes.push(0);
        bytes.extend_from_slice(program);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let report = serde_json::from_slice(&bytes[..end]).ok()?;
        Some((report, &bytes[end + 1..]))
    }
}

impl Outcome {
    pub(super) fn refused(code: Code, field: FieldPath, message: impl Into<String>) -> Self {
        Self::Refused(Found::new(&[Finding::new(code, field, message)]))
    }

    /// `None` where it names a code or an architecture that this program does not have, or is longer than what
    /// an honest child says: verdicts are kept, and bounds that a child could break would be none.
    pub(super) fn into_verdict(self) -> Option<Verdict> {
        Some(match self {
            Self::Loaded(compiled) => compiled.into_verdict(true)?,
            Self::Compiled(compiled) => compiled.into_verdict(false)?,
            Self::Refused(found) => Verdict::Refused(found.into_findings()?),
            // Not kept, so that its length does no harm.
            Self::Unknown(reason) => Verdict::Unknown(reason),
        })
    }
}

impl Reply {
    /// At most [`MAX_REPLY`] bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let bytes = to_json(self);
        match self {
            Self::Done { id, .. } if bytes.len() > MAX_REPLY => {
                // Only a child that lies makes one so long.
                let outcome = Outcome::Unknown(format!("the answer has {} bytes", bytes.len()));
                to_json(&Self::Done { id: *id, outcome })
            }
            _ => bytes,
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "strings and numbers in structs and sequences always serialise"
    )]
    serde_json::to_vec(value).expect("plain data")
}

/// The longest beginning of at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Back from the text of a path.
fn field_path(text: &str) -> FieldPath {
    text.split(['.', '['])
        .filter(|part| !part.is_empty())
        .fold(FieldPath::root(), |path, part| {
            match part.strip_suffix(']').and_then(|index| index.parse().ok()) {
                Some(index) => path.index(index),
                None => path.key(part),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::startability::{Call, start_calls};

    #[test]
    fn a_request_is_its_number_and_its_bytes() {
        let packet = Request::encode(7, b"{}");
        assert_eq!(
            Request::decode(&packet, packet.len()),
            Ok(Request {
                id: 7,
                profile: b"{}".to_vec()
            })
        );
    }

    #[test]
    fn a_packet_that_is_too_short_or_was_cut_is_no_request() {
        assert!(Request::decode(&[1, 2, 3], 3).is_err());
        assert!(Request::decode(&[0; 64], MAX_REQUEST + 1).is_err());
    }

    #[test]
    fn a_finding_survives_the_way() {
        let field = FieldPath::root()
            .key("syscalls")
            .index(3)
            .key("args")
            .index(0)
            .key("index");
        for field in [field, FieldPath::root(), FieldPath::root().key("defaultAction")] {
            let finding = Finding::new(Code::CompileFailed, field, "why").shown_by("read()");
            let outcome = Outcome::Refused(Found::new(std::slice::from_ref(&finding)));
            assert_eq!(outcome.into_verdict(), Some(Verdict::Refused(finding.into())));
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let finding = Finding::new(
            Code::CompileFailed,
            FieldPath::root(),
            "ä".repeat(MAX_MESSAGE) + "x",
        );
        assert_eq!(WireFinding::from(&finding).message, "ä".repeat(MAX_MESSAGE / 2));
    }

    #[test]
    fn names_that_this_program_does_not_have_are_no_verdict() {
        let compiled = Compiled {
            filters: vec![("SCMP_ARCH_PDP11".to_owned(), 1)],
            unknown_names: vec![],
            found: Found::default(),
            start: vec![],
        };
        assert_eq!(Outcome::Loaded(compiled).into_verdict(), None);
    }

    #[test]
    fn answers_to_a_start_survive_the_way_and_others_are_no_verdict() {
        let compiled = |start: Vec<(String, WireAnswer)>| Compiled {
            filters: vec![],
            unknown_names: vec![],
            found: Found::default(),
            start,
        };
        let answer = CallAnswer {
            denials: Denials::EPERM | Denials::KILL,
            is_always_denied: false,
            kills_thread: true,
            asks_listener: false,
            is_unknown_to_runc: true,
        };
        let calls: Vec<Call> = start_calls().collect();
        let told = calls
            .iter()
            .map(|call| (call.to_string(), WireAnswer::from(answer)));
        let told = told.collect();
        let Some(Verdict::Passed { start, .. }) = Outcome::Loaded(compiled(told)).into_verdict() else {
            panic!("no verdict");
        };
        let answers: Vec<_> = calls.into_iter().map(|call| (call, answer)).collect();
        assert_eq!(start.iter().collect::<Vec<_>>(), answers);

        let other = vec![("frobnicate".to_owned(), WireAnswer::from(answer))];
        assert_eq!(Outcome::Loaded(compiled(other)).into_verdict(), None);
        for bits in [32, 1 << 12] {
            let unknown = vec![("execve()".to_owned(), WireAnswer(bits))];
            assert_eq!(Outcome::Loaded(compiled(unknown)).into_verdict(), None);
        }
    }

    #[test]
    fn a_verdict_longer_than_an_honest_child_makes_it_is_none() {
        let loaded = |filters: usize, names: usize, length: usize| {
            Outcome::Loaded(Compiled {
                filters: vec![(Architecture::X86_64.as_str().to_owned(), 1); filters],
                unknown_names: vec!["x".repeat(length); names],
                found: Found::default(),
                start: vec![],
            })
            .into_verdict()
        };
        let most = Architecture::ALL.len();
        assert!(loaded(most, MAX_UNKNOWN_NAMES, MAX_NAME).is_some());
        assert_eq!(loaded(most + 1, 0, 0), None);
        assert_eq!(loaded(1, MAX_UNKNOWN_NAMES + 1, 0), None);
        assert_eq!(loaded(1, 1, MAX_NAME + 1), None);
        let refused = |findings: usize, length: usize| {
            let finding = WireFinding {
                code: Code::CompileFailed.as_str().to_owned(),
                field: String::new(),
                message: "x".repeat(length),
                witness: None,
            };
            Outcome::Refused(Found {
                listed: vec![finding; findings],
                unlisted: 0,
            })
            .into_verdict()
        };
        assert!(refused(MAX_FINDINGS, 0).is_some());
        assert_eq!(refused(MAX_FINDINGS + 1, 0), None);
        assert_eq!(refused(1, MAX_FINDINGS_BYTES), None);
    }

    #[test]
    fn findings_beyond_the_bounds_are_counted() {
        let findings = |count: usize, length: usize| {
            let finding = Finding::new(Code::CompileFailed, FieldPath::root(), "x".repeat(length));
            Found::new(&vec![finding; count]).into_findings().unwrap()
        };
        let many = findings(100, 1);
        assert_eq!((many.len(), many.total()), (MAX_FINDINGS, 100));
        let long = findings(MAX_FINDINGS, MAX_MESSAGE);
        assert!(long.len() < MAX_FINDINGS && long.total() == MAX_FINDINGS);
    }

    #[test]
    fn an_answer_that_a_lying_child_made_too_long_becomes_unknown() {
        let compiled = Compiled {
            filters: vec![],
            unknown_names: vec!["x".repeat(MAX_REPLY)],
            found: Found::default(),
            start: vec![],
        };
        let packet = Reply::Done {
            id: 1,
            outcome: Outcome::Loaded(compiled),
        }
        .encode();
        assert!(packet.len() <= MAX_REPLY);
        assert!(matches!(
            Reply::decode(&packet),
            Some(Reply::Done {
                id: 1,
                outcome: Outcome::Unknown(_)
            })
        ));
    }

    #[test]
    fn a_report_and_its_program_come_apart_again() {
        let bytes = CompileReport::OutOfMemory.encode(&[0, 1, 2]);
        assert_eq!(
            CompileReport::decode(&bytes),
            Some((CompileReport::OutOfMemory, &[0, 1, 2][..]))
        );
        assert_eq!(CompileReport::decode(b"no end"), None);
        assert_eq!(CompileReport::decode(b"no JSON\0"), None);
    }
}
