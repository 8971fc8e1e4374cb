//! What a page says: its blocks of commands, and whether an output is the one shown. Pure.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};

/// Something on a page that concerns its test.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// What follows begins there.
    Setting(Setting),
    /// Commands.
    Block(Block),
}

/// What commands find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Callgate, with a node.
    Running,
    /// Nothing.
    New,
}

/// A block of commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Of its first line of text, from 1.
    pub(crate) line: usize,
    steps: Vec<Step>,
}

/// A command or a script.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) command: String,
    /// What it prints; `None` where the page does not say.
    pub(crate) shown: Option<String>,
}

impl Block {
    /// What is to be run.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Item {
    pub(crate) fn is_run(&self) -> bool {
        matches!(self, Self::Block(block) if !block.steps.is_empty())
    }
}

/// Languages that nobody types into a shell.
const NO_COMMANDS: [&str; 4] = ["text", "yaml", "json", "rust"];

/// Reads a page in Markdown. Fails where a fence does not say what is in it.
pub(crate) fn parse(page: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut lines = page.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if let Some(setting) = line.trim().strip_prefix("<!-- docs-test: ") {
            items.push(Item::Setting(match setting {
                "running -->" => Setting::Running,
                "new cluster -->" => Setting::New,
                other => bail!("line {number}: no such setting: {other}"),
            }));
        }
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let (language, mark) = info.split_once(' ').unwrap_or((info, ""));
        let mut text = Vec::new();
        loop {
            let (line, _) = lines
                .next()
                .with_context(|| format!("line {number}: it has no end"))?;
            if line.trim() == "```" {
                break;
            }
            text.push(line);
        }
        let steps = match language {
            "sh" => vec![Step {
                command: text.join("\n"),
                shown: None,
            }],
            "console" => steps(&text).with_context(|| format!("line {number}"))?,
            other if NO_COMMANDS.contains(&other) && mark.is_empty() => continue,
            other => bail!(
                "line {number}: ```{other} {mark}: write ```sh or ```console for commands, and {NO_COMMANDS:?} for others"
            ),
        };
        let is_run = mark.is_empty();
        let reason = mark
            .strip_prefix("not-run=\"")
            .and_then(|rest| rest.strip_suffix('"'));
        ensure!(
            is_run || reason.is_some_and(|reason| !reason.is_empty()),
            "line {number}: {mark}: write not-run=\"WHY\" or nothing"
        );
        items.push(Item::Block(Block {
            line: number + 1,
            steps: if is_run { steps } else { Vec::new() },
        }));
    }
    Ok(items)
}

fn steps(text: &[&str]) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                shown: None,
            });
            continue;
        }
        let step = steps.last_mut().context("it does not begin with `$ `")?;
        match (&mut step.shown, line.strip_prefix("> ")) {
            (None, Some(more)) => {
                step.command.push('\n');
                step.command.push_str(more);
            }
            // Between two commands.
            (None, None) if line.trim().is_empty() => {}
            (shown, _) => {
                let shown = shown.get_or_insert_default();
                shown.push_str(line);
                shown.push('\n');
            }
        }
    }
    ensure!(!steps.is_empty(), "it has no command");
    Ok(steps)
}

/// Whether what was printed is what the page shows.
pub(crate) fn is_shown(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (tidy(shown), tidy(printed));
    let mut parts = shown.split('…');
    let Some(mut rest) = parts.next().and_then(|first| printed.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else {
                return false;
            };
            rest = &rest[at + middle.len()..];
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

/// The words, line by line, with every age the same.
fn tidy(text: &str) -> String {
    let line = |line: &str| {
        let words = line.split_whitespace();
        let words: Vec<_> = words
            .map(|word| if is_age(word) { "AGE" } else { word })
            .collect();
        words.join(" ")
    };
    let lines: Vec<_> = text.lines().map(line).collect();
    lines.join("\n").trim_end().to_owned()
}

/// As kubectl prints one: `5s`, `3m20s`, `2d`.
fn is_age(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
        && word.ends_with(['s', 'm', 'h', 'd', 'y'])
        && word
            .chars()
            .all(|each| each.is_ascii_digit() || "smhdy".contains(each))
}

/// Where the links of a page lead, but for those out of the repository.
pub(crate) fn links(page: &str) -> Vec<String> {
    let mut in_block = false;
    let mut links = Vec::new();
    for line in page.lines() {
        in_block ^= line.trim_start().starts_with("```");
        if in_block {
            continue;
        }
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        links.extend(
            targets
                .map(|(target, _)| target.to_owned())
                .filter(|target| !target.contains("://")),
        );
    }
    links
}

/// What `#...` may lead to on a page: its headings, as forges spell them.
pub(crate) fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            text.chars()
                .filter_map(|each| match each {
                    ' ' => Some('-'),
                    each if each.is_alphanumeric() || "-_".contains(each) => Some(each),
                    _ => None,
                })
                .collect()
        })
        .collect()
}

#[test]
fn a_block_that_does_not_say_whether_it_is_run_is_an_error() {
    for (fence, error) in [
        ("```", "write ```sh or ```console"),
        ("```bash", "write ```sh or ```console"),
        ("```sh not-run", "write not-run=\"WHY\""),
        ("```sh not-run=\"\"", "write not-run=\"WHY\""),
        ("```console run", "write not-run=\"WHY\""),
        ("```yaml not-run=\"no command\"", "write ```sh or ```console"),
    ] {
        let told = format!("{:#}", parse(&format!("{fence}\n$ true\n```\n")).unwrap_err());
        assert!(told.contains(error), "{fence}: {told}");
    }
    assert!(parse("```sh\ntrue").is_err());
    assert!(parse("```console\ntrue\n```").is_err());
    assert!(parse("<!-- docs-test: elsewhere -->").is_err());
}

#[test]
fn commands_are_told_from_what_they_print_and_from_what_is_not_run() {
    let page = "<!-- docs-test: new cluster -->\n\
                ```console\n$ one\nit\n\nprints\n\n$ two \\\n> more\n\n$ three\n```\n\
                ```yaml\n$ no command\n```\n\
                ```sh not-run=\"needs nodes\"\nfour\n```\n\
                ```sh\nfive\nsix\n```\n";
    let step = |command: &str, shown: Option<&str>| Step {
        command: command.to_owned(),
        shown: shown.map(str::to_owned),
    };
    let block = |line, steps| Item::Block(Block { line, steps });
    assert_eq!(
        parse(page).unwrap(),
        [
            Item::Setting(Setting::New),
            block(
                3,
                vec![
                    step("one", Some("it\n\nprints\n\n")),
                    step("two \\\nmore", None),
                    step("three", None),
                ]
            ),
            block(17, vec![]),
            block(20, vec![step("five\nsix", None)]),
        ]
    );
}

#[test]
fn an_output_is_compared_in_everything_but_ages_blanks_and_what_is_left_out() {
    assert!(is_shown("NAME   AGE\nweb    5m\n", "NAME  AGE\nweb   3s\n\n"));
    assert!(is_shown("a: …, b: …\n", "a: one, b: two\nand three\n"));
    assert!(is_shown("…\nlast", "first\nlast"));
    for (shown, printed) in [
        ("web 5m", "web True"),
        ("web", "web 2"),
        ("web", "a web"),
        ("one\ntwo", "one two"),
        ("a …b", "a bc"),
        ("a… b …c", "a c"),
        ("", "web"),
    ] {
        assert!(!is_shown(shown, printed), "{shown:?} {printed:?}");
    }
}

#[test]
fn links_and_headings_are_found_as_forges_have_them() {
    assert_eq!(
        links("[a](docs/a.md#b), [c](#d) and [e](https://f)\n```sh\n[g](h)\n```\n"),
        ["docs/a.md#b", "#d"]
    );
    assert_eq!(
        anchors("# Notes\n## `Ready` is False: why?\ntext\n"),
        ["notes", "ready-is-false-why"].map(str::to_owned).into()
    );
}
