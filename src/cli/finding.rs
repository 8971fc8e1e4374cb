//! What the command line says of a finding beside its message.

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

/// On one line, after the place: `web.yaml:7:5: error[unknown-key]: spec.arg: unknown key`.
pub(super) fn line(place: &str, finding: &Finding) -> String {
    let field = match finding.field.as_str() {
        "" => String::new(),
        field => format!("{field}: "),
    };
    let accepted = acceptance(finding).map_or_else(String::new, |how| format!(" ({how})"));
    printable(&format!(
        "{place}: {}[{}]: {field}{}{accepted}",
        level(finding.class()),
        finding.code,
        finding.sentence()
    ))
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
        let finding = Finding::new(Code::ErrnoMisplaced, FieldPath::root(), "no");
        assert_eq!(line("a", &finding), "a: error[errno-misplaced]: no");
        assert_eq!(
            line("a", &finding.clone().accept(AcceptedBy::Profile)),
            "a: note[errno-misplaced]: no (error by itself, accepted by acceptFindings)"
        );
        assert_eq!(
            line("a", &finding.accept(AcceptedBy::Caller)),
            "a: note[errno-misplaced]: no (error by itself, accepted by --accept)"
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
    fn the_cure_stands_in_the_line() {
        let finding = Finding::new(Code::ListenerNotAllowed, FieldPath::root(), "no");
        let line = line("a", &finding);
        assert!(line.starts_with("a: error[listener-not-allowed]: no. "), "{line}");
        assert!(line.contains("--listener-prefix"), "{line}");
    }
}
