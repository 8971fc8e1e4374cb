//! Findings for people, with the lines that they are about.

use std::fmt::Write as _;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::super::finding::{acceptance, level};
use super::place::Places;
use super::{Checked, Report};
use crate::profile::{Class, Finding};
use crate::proof::Verdict;
use crate::text::{count, printable};

/// Findings of every document, then one line about each in a file that holds a profile, and one about them all.
pub(super) fn render(report: &Report<'_>) -> String {
    let mut text = String::new();
    // The documents of a file follow each other.
    for of_file in report.checked.chunk_by(|a, b| std::ptr::eq(a.file, b.file)) {
        let places = Places::new(of_file.first().map_or("", |one| &one.file.text));
        for one in of_file {
            add_findings(&mut text, report, one, &places);
        }
    }
    for one in report.checked.iter().filter(|one| one.file.has_profile()) {
        let (name, title) = (&one.file.name, one.title());
        add_line(&mut text, &format!("{name}: {title}: {}", verdict(report, one)));
    }
    if report.profiles().next().is_some() {
        add_line(&mut text, &summary(report));
    }
    text
}

fn add_line(text: &mut String, line: &str) {
    text.push_str(&printable(line));
    text.push('\n');
}

fn add_findings(text: &mut String, report: &Report<'_>, one: &Checked<'_>, places: &Places<'_>) {
    for finding in &one.findings {
        text.push_str(&annotated(report, one, finding, places));
        text.push_str("\n\n");
    }
    if one.unlisted > 0 {
        let more = count(one.unlisted, "more finding");
        add_line(
            text,
            &format!("... and {more} in {}, {}", one.file.name, one.title()),
        );
        text.push('\n');
    }
}

fn verdict(report: &Report<'_>, one: &Checked<'_>) -> String {
    match one.verdict() {
        None => "skipped, it is no seccomp profile".to_owned(),
        Some(Verdict::Valid(proven)) => {
            let mut text = format!("valid, {}", proven.canonical.digest);
            for (arch, size) in &proven.filters {
                // Writing to a String cannot fail.
                let _ = write!(text, ", {arch} {size} instructions");
            }
            if !proven.is_loaded {
                text.push_str(", proven but not loaded: this machine has the other byte order");
            }
            match number(one.findings.iter().filter(|finding| report.denies(finding))) {
                0 => text,
                denied => text + ", but has " + &count(denied, "denied finding"),
            }
        }
        Some(Verdict::Invalid(refused)) => {
            let text = format!("INVALID, {}", count(one.total(), "finding"));
            if refused.is_half_proven() {
                text + "; not compiled, loaded and proven yet, so there may be more"
            } else {
                text
            }
        }
        Some(Verdict::Unknown(reason)) => format!("could not be proven: {reason}"),
    }
}

/// How many these are, with those that they stand for.
fn number<'a>(findings: impl Iterator<Item = &'a Finding>) -> usize {
    findings.map(|finding| 1 + finding.more as usize).sum()
}

/// `3 profiles: 2 valid, 1 invalid; 4 warnings`: what there is none of is left out.
fn summary(report: &Report<'_>) -> String {
    let profiles = |wanted: fn(&Verdict) -> bool| report.profiles().filter(|one| wanted(one)).count();
    let findings = || report.checked.iter().flat_map(|one| &one.findings);
    let of_class = |class: Class| {
        number(findings().filter(|finding| finding.class() == class && !report.denies(finding)))
    };
    let some = |number: usize, text: String| (number > 0).then_some(text);
    let plain = |number: usize, word: &str| some(number, format!("{number} {word}"));
    let counted = |number: usize, noun: &str| some(number, count(number, noun));
    let remarks_of = |class: Class| counted(of_class(class), level(class));
    let list = |parts: &[Option<String>]| {
        let parts: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
        parts.join(", ")
    };
    let verdicts = list(&[
        plain(profiles(|one| matches!(one, Verdict::Valid(_))), "valid"),
        plain(profiles(|one| matches!(one, Verdict::Invalid(_))), "invalid"),
        plain(profiles(|one| matches!(one, Verdict::Unknown(_))), "not proven"),
    ]);
    let remarks = list(&[
        counted(
            number(findings().filter(|finding| report.denies(finding))),
            "denied finding",
        ),
        remarks_of(Class::NotPortable),
        remarks_of(Class::Lint),
        plain(of_class(Class::Accepted), "accepted"),
        plain(report.unread.len(), "could not be read"),
    ]);
    let all = count(report.profiles().count(), "profile");
    match remarks.as_str() {
        "" => format!("{all}: {verdicts}"),
        remarks => format!("{all}: {verdicts}; {remarks}"),
    }
}

fn annotated(report: &Report<'_>, one: &Checked<'_>, finding: &Finding, places: &Places<'_>) -> String {
    let is_denied = report.denies(finding);
    let shown_as = match finding.class() {
        _ if is_denied => Level::ERROR,
        Class::Invalid => Level::ERROR,
        Class::NotPortable => Level::WARNING,
        Class::Lint | Class::Accepted => Level::NOTE,
    };
    let message = printable(&match finding.field.as_str() {
        "" => finding.message.clone(),
        field => format!("{field}: {}", finding.message),
    });
    let title = shown_as.primary_title(&message).id(finding.code.as_str());
    let (path, title_of) = (printable(&one.file.name), printable(&one.title()));
    let place = finding
        .location
        .and_then(|location| Some((location, places.excerpt(location)?)));
    let mut group: Group<'_> = match place {
        Some((location, excerpt)) => {
            let snippet = Snippet::source(excerpt.source)
                .line_start(location.line)
                .annotation(AnnotationKind::Primary.span(excerpt.word));
            if excerpt.begins_late {
                // By itself it would count the column from where the excerpt begins.
                let origin = Origin::path(&path).line(location.line);
                title
                    .element(origin.char_column(location.column))
                    .element(snippet)
            } else {
                title.element(snippet.path(&path))
            }
        }
        None => title.element(Level::NOTE.message(format!("in {path}, {title_of}"))),
    };
    // The renderer leaves messages as they are.
    let witness = finding.witness.as_deref().map(printable);
    if let Some(call) = witness.filter(|call| !message.contains(call.as_str())) {
        group = group.element(Level::NOTE.with_name("call").message(call));
    }
    if let Some(help) = finding.help() {
        group = group.element(Level::HELP.message(help));
    }
    if is_denied {
        let class = finding.class();
        let denied = format!("{} by itself, denied by --deny {class}", level(class));
        group = group.element(Level::NOTE.message(denied));
    }
    if let Some(accepted) = acceptance(finding) {
        group = group.element(Level::NOTE.message(accepted));
    }
    Renderer::styled().decor_style(DecorStyle::Ascii).render(&[group])
}
