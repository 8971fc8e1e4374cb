//! What README.md, docs/ and the chart's README.md tell people to type: run, in the order of the page, and compared with
//! what the page shows.
//!
//! - ```` ```sh ```` is a script: it must end with 0.
//! - ```` ```console ```` has commands after `$ ` (and `> ` where they go on), each with what it prints, if that is shown.
//!   There `…` stands for any text, an age (`5m`) for any age, and a run of blanks for any other. A command that is shown
//!   without output must end with 0.
//! - `not-run="why"` after either word is for what cannot be run here. Nothing else is left out.
//! - A block in an HTML comment is run as well: it brings about what the text takes for granted.
//! - `<!-- docs-test: new cluster -->` says that what follows begins with an empty cluster and an empty node. At the
//!   beginning of a page, and after `<!-- docs-test: running -->`, Callgate runs: a controller, and an agent on `node-1`.
//!
//! `/var/lib/kubelet/seccomp` is a scratch directory, `$SECCOMP` is the same one, and the working directory is a copy of
//! what the commands name.

#[path = "docs/bed.rs"]
mod bed;
#[path = "docs/page.rs"]
mod page;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use harness::repository;

use self::bed::Bed;
use self::page::{Item, Setting, parse};

macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[tokio::test]
            async fn $name() -> Result<()> {
                run($path).await
            }
        )*

        const PAGES: &[&str] = &[$($path),*];
    };
}

pages! {
    the_readme_shows_what_happens: "README.md",
    the_page_on_check_shows_what_happens: "docs/check.md",
    the_page_on_installing_shows_what_happens: "docs/install.md",
    the_page_on_operating_shows_what_happens: "docs/operate.md",
    the_page_on_security_shows_what_happens: "docs/security.md",
    the_page_on_troubleshooting_shows_what_happens: "docs/troubleshooting.md",
    the_page_on_upgrading_shows_what_happens: "docs/upgrade.md",
    what_runbooks_ask_is_answered: "docs/runbooks",
    the_readme_of_the_chart_shows_what_happens: "charts/callgate/README.md",
}

/// Runs a page, or those of a directory one after the other, to the end, and tells everything that is not as it says.
async fn run(path: &str) -> Result<()> {
    let mut setting = Setting::Running;
    let mut bed = None;
    let mut wrong = String::new();
    for page in pages_of(path)? {
        for item in read(&page)? {
            let block = match item {
                Item::Setting(new) => {
                    setting = new;
                    bed = None;
                    continue;
                }
                Item::Block(block) => block,
            };
            for step in block.steps() {
                let bed = match &bed {
                    Some(bed) => bed,
                    None => bed.insert(Bed::make(setting).await?),
                };
                if let Err(error) = bed.run(step).await {
                    writeln!(wrong, "{page}:{}: {}\n{error:#}\n", block.line, step.command)?;
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

fn read(path: &str) -> Result<Vec<Item>> {
    let text = std::fs::read_to_string(repository().join(path)).context(path.to_owned())?;
    parse(&text).context(path.to_owned())
}

/// A page, or every page below a directory.
fn pages_of(path: &str) -> Result<BTreeSet<String>> {
    fn walk(path: &Path, found: &mut BTreeSet<String>) -> Result<()> {
        let here = repository().join(path);
        if here.is_dir() {
            for entry in std::fs::read_dir(here)? {
                walk(&path.join(entry?.file_name()), found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.insert(path.display().to_string());
        }
        Ok(())
    }
    let mut found = BTreeSet::new();
    walk(Path::new(path), &mut found)?;
    ensure!(!found.is_empty(), "{path}: there is no page");
    Ok(found)
}

/// README.md, that of the chart, and every page below docs/.
fn all_pages() -> Result<BTreeSet<String>> {
    let mut pages = pages_of("docs")?;
    pages.extend(["README.md", "charts/callgate/README.md"].map(str::to_owned));
    Ok(pages)
}

#[test]
fn every_block_of_every_page_is_run_or_says_why_not() -> Result<()> {
    let mut tested = BTreeSet::new();
    for page in PAGES {
        tested.append(&mut pages_of(page)?);
    }
    for page in all_pages()? {
        let shows_commands = read(&page)?.iter().any(Item::is_run);
        ensure!(
            tested.contains(&page) || !shows_commands,
            "{page}: it shows commands, and no test runs it; name it in tests/docs.rs"
        );
    }
    Ok(())
}

#[test]
fn every_link_of_every_page_leads_somewhere() -> Result<()> {
    let mut broken = Vec::new();
    let pages = all_pages()?.into_iter();
    for page in pages.chain(["SECURITY.md".to_owned(), "CONTRIBUTING.md".to_owned()]) {
        let text = std::fs::read_to_string(repository().join(&page))?;
        for link in page::links(&text) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => PathBuf::from(&page),
                path => Path::new(&page).with_file_name(path),
            };
            let target = repository().join(target);
            let leads = match std::fs::read_to_string(&target) {
                Ok(text) if !anchor.is_empty() => page::anchors(&text).contains(anchor),
                _ => target.exists(),
            };
            if !leads {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    ensure!(broken.is_empty(), "{broken:#?}");
    Ok(())
}
