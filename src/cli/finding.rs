//! What the command line says of a finding beside its message.

use std::fmt::Write as _;

use crate::profile::{AcceptedBy, Class, Code, Finding};
use crate::text::printable;

/// How loud it is.
pub(super) const fn level(class: Class) -> &'static str {
    match class {
        Class::Invalid => "error",
        Class::NotPortable => "warning",
        Class::Lint | Class::Accepted => "note",
    }
}

/// What somebody took responsibility for, and how.
pub(super) fn acceptance(finding: &Finding) -> Option<String> {
    let by = match finding.accepted? {
        AcceptedBy::Profile => "acceptFindings",
        AcceptedBy::Caller => "--accept",
    };
    let by_itself = level(finding.code.class());
    Some(format!("{by_itself} by itself, accepted by {by}"))
}

/// Reads a code that somebody may take responsibility for.
pub(super) fn acceptable(text: &str) -> Result<Code, String> {
    match text.parse::<Code>() {
        Ok(code) if code.is_acceptable() => Ok(code),
        Ok(_) => Err(
            "nobody can accept it: such a profile cannot be read, compiled, loaded or allowed here; change the profile"
                .to_owned(),
        ),
        Err(error) if error.near().is_empty() => Err(format!("{error}; write one as the finding shows it")),
        Err(error) => Err(error.to_string()),
    }
}

/// Which option of `check` and `install` bears on it. An agent has the same option, but who reads its finding
/// is not who runs it.
pub(super) fn help(code: Code) -> Option<&'static str> {
    (code == Code::ListenerNotAllowed).then_some("--listener-prefix DIR allows sockets beneath DIR")
}

/// On one line, after the place: `web.yaml:7:5: error[unknown-key]: spec.arg: unknown key`. What there is to add
/// stands in brackets.
pub(super) fn line(place: &str, finding: &Finding) -> String {
    let field = match finding.field.as_str() {
        "" => String::new(),
        field => format!("{field}: "),
    };
    let mut line = format!(
        "{place}: {}[{}]: {field}{}",
        level(finding.class()),
        finding.code,
        finding.message
    );
    let additions = [help(finding.code).map(str::to_owned), acceptance(finding)];
    for addition in additions.into_iter().flatten() {
        // Writing to a String cannot fail.
        let _ = write!(line, " ({addition})");
    }
    printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::FieldPath;

    #[test]
    fn a_line_names_place_level_code_and_field_and_cannot_steer_a_terminal() {
        let field = FieldPath::root().key("syscalls");
        let finding = Finding::new(Code::NewerSyscall, field, "no \u{1b}[2J\nsuch");
        assert_eq!(
            line("a\u{9b}.json:1:2", &finding),
            "a .json:1:2: warning[newer-syscall]: syscalls: no  [2J such"
        );
    }

    #[test]
    fn an_accepted_finding_is_no_error_and_says_who_accepted_it() {
        let finding = Finding::new(Code::UnknownSyscall, FieldPath::root(), "no");
        assert_eq!(line("a", &finding), "a: error[unknown-syscall]: no");
        assert_eq!(
            line("a", &finding.clone().accept(AcceptedBy::Profile)),
            "a: note[unknown-syscall]: no (error by itself, accepted by acceptFindings)"
        );
        assert_eq!(
            line("a", &finding.accept(AcceptedBy::Caller)),
            "a: note[unknown-syscall]: no (error by itself, accepted by --accept)"
        );
    }

    #[test]
    fn what_nobody_may_accept_is_no_value_of_the_option() {
        for code in Code::ALL {
            let read = acceptable(code.as_str());
            assert_eq!(read.is_ok(), code.is_acceptable(), "{read:?}");
        }
        assert!(
            acceptable("unknown-sycall")
                .unwrap_err()
                .ends_with("did you mean unknown-syscall?")
        );
        assert!(
            acceptable("frobnicate")
                .unwrap_err()
                .ends_with("write one as the finding shows it")
        );
    }

    #[test]
    fn the_option_that_would_allow_a_listener_is_named() {
        let finding = Finding::new(Code::ListenerNotAllowed, FieldPath::root(), "no");
        assert!(line("a", &finding).ends_with("no (--listener-prefix DIR allows sockets beneath DIR)"));
        assert!(
            Code::ALL
                .iter()
                .all(|code| help(*code).is_some() == (*code == Code::ListenerNotAllowed))
        );
    }
}
