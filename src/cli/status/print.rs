//! The answer on a terminal, in columns as kubectl prints them, or as JSON.

use std::io::{self, Write};

use super::count::{Counted, Judged};
use crate::text::{printable, printable_json};

/// Names of nodes on one line.
const MAX_NAMED: usize = 8;

/// One line per profile. `place` is the namespace that they are of, where it is one alone.
pub(super) fn table(profiles: &[Counted], place: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    if profiles.is_empty() {
        let place = place.map_or_else(String::new, |namespace| {
            format!(" in namespace {}", printable(namespace))
        });
        return writeln!(out, "No SeccompProfile found{place}.");
    }
    let header = [
        "NAMESPACE/NAME",
        "VALID",
        "INSTALLED",
        "PENDING",
        "FAILED",
        "IN USE",
    ]
    .map(str::to_owned);
    let rows = profiles.iter().map(|profile| {
        [
            printable(&profile.profile),
            valid(profile),
            installed(profile),
            of_object(profile, profile.pending.len()),
            of_object(profile, profile.failed.len()),
            profile.in_use.len().to_string(),
        ]
    });
    columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), out)?;
    if profiles.iter().any(|profile| !profile.exists) {
        writeln!(
            out,
            "\nNotFound: pods name it, and there is no such SeccompProfile. {WITHOUT_OBJECT}."
        )?;
    }
    Ok(())
}

/// What becomes of pods that name a profile without an object.
pub(super) const WITHOUT_OBJECT: &str = "Where it was installed its file stays as long as they are there; elsewhere \
                                         they wait for it, and do not start";

fn valid(profile: &Counted) -> String {
    if profile.exists {
        profile.valid.status.to_owned()
    } else {
        "NotFound".to_owned()
    }
}

/// A number that only a profile with an object has.
fn of_object(profile: &Counted, number: usize) -> String {
    if profile.exists {
        number.to_string()
    } else {
        "-".to_owned()
    }
}

/// Everything about one profile.
pub(super) fn detail(profile: &Counted, out: &mut impl Write) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{:<12}{value}", format!("{name}:"));
    line("Profile", &printable(&profile.profile))?;
    line("Path", profile.localhost_profile.as_deref().unwrap_or("none"))?;
    line("Digest", profile.digest.as_deref().unwrap_or("none"))?;
    line("Valid", &judged(&profile.valid))?;
    line("Ready", &judged(&profile.ready))?;
    line("Installed", &installed(profile))?;
    let (unselected, in_use): (Vec<_>, Vec<_>) = profile
        .in_use
        .iter()
        .cloned()
        .partition(|node| profile.in_use_unselected.contains(node));
    let groups = [
        ("installed", &profile.installed, ""),
        ("pending", &profile.pending, ""),
        (
            "no report",
            &profile.no_report,
            "selected, and no agent has reported",
        ),
        ("in use", &in_use, "running pods use it"),
        (
            "in use",
            &unselected,
            "running pods use it, and the node is not selected (any more)",
        ),
    ];
    let mut rows = vec![["STATE", "NODES", "WHICH", "WHY"].map(str::to_owned)];
    rows.extend(
        groups
            .into_iter()
            .filter(|(_, nodes, _)| !nodes.is_empty())
            .map(|(state, nodes, why)| {
                [
                    state.to_owned(),
                    nodes.len().to_string(),
                    enumerate(nodes),
                    why.to_owned(),
                ]
            }),
    );
    rows.extend(profile.failures().into_iter().map(|(failed, nodes)| {
        let instead = match &failed.live_digest {
            Some(digest) => format!("; {} stays live", printable(digest)),
            None => String::new(),
        };
        [
            "failed".to_owned(),
            nodes.len().to_string(),
            enumerate(&nodes),
            format!(
                "{}: {}{instead}",
                printable(&failed.reason),
                printable(&failed.message)
            ),
        ]
    }));
    if rows.len() == 1 {
        writeln!(out, "\nNo node is selected.")?;
    } else {
        writeln!(out)?;
        columns(&rows, out)?;
    }
    findings(profile, out)
}

/// What the proofs found.
fn findings(profile: &Counted, out: &mut impl Write) -> io::Result<()> {
    if profile.findings_total == 0 {
        return Ok(());
    }
    let mut rows = vec![["CLASS", "FINDING", "FIELD", "MESSAGE"].map(str::to_owned)];
    rows.extend(profile.findings.iter().map(|finding| {
        [&finding.class, &finding.code, &finding.field, &finding.message].map(|cell| printable(cell))
    }));
    writeln!(out)?;
    columns(&rows, out)?;
    match profile.findings_total - profile.findings.len() {
        0 => Ok(()),
        more => writeln!(
            out,
            "... and {more} more: callgate check shows all of a file, with their places"
        ),
    }
}

/// A list, also of one.
pub(super) fn json(profiles: &[Counted], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{}",
        printable_json(&serde_json::to_string_pretty(profiles)?)
    )
}

/// On how many of the nodes that are selected and report; in words where there is none of them.
fn installed(profile: &Counted) -> String {
    let installed = profile.installed.len();
    match profile.selected() {
        _ if !profile.exists => "-".to_owned(),
        _ if profile.selection_unknown => format!("{installed}/?"),
        0 if profile.no_report.is_empty() => "none selected".to_owned(),
        0 => "no report".to_owned(),
        selected => format!("{installed}/{selected}"),
    }
}

fn judged(judged: &Judged) -> String {
    if judged.reason.is_empty() {
        return judged.status.to_owned();
    }
    format!(
        "{} ({}) {}",
        judged.status,
        printable(&judged.reason),
        printable(&judged.message)
    )
}

pub(super) fn enumerate(nodes: &[impl AsRef<str>]) -> String {
    let (named, others) = nodes.split_at(nodes.len().min(MAX_NAMED));
    let named: Vec<_> = named.iter().map(|name| printable(name.as_ref())).collect();
    match others.len() {
        0 => named.join(","),
        others => format!("{},+{others}", named.join(",")),
    }
}

/// Columns as wide as their widest cell, three spaces apart; the last one as long as it is.
fn columns<const N: usize>(rows: &[[String; N]], out: &mut impl Write) -> io::Result<()> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 3));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::count::tests::{allow_all, cluster, profile, used_on};
    use super::super::count::{Failed, NodeView, ProfileView, count, missing};
    use super::*;

    fn counted() -> Counted {
        let profile = profile(&allow_all(), &Value::Null);
        count(&ProfileView::of(&profile), &cluster(&profile))
    }

    fn text(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_has_one_line_per_profile() {
        assert_eq!(
            text(|out| table(&[counted()], None, out)),
            "NAMESPACE/NAME   VALID     INSTALLED   PENDING   FAILED   IN USE\n\
             team/web         Unknown   1/5         2         2        1\n"
        );
        assert_eq!(text(|out| table(&[], None, out)), "No SeccompProfile found.\n");
        assert_eq!(
            text(|out| table(&[], Some("shop"), out)),
            "No SeccompProfile found in namespace shop.\n"
        );
    }

    #[test]
    fn where_no_node_counts_the_table_says_why() {
        let nodes = |labels: Option<&str>| {
            let node = |zone: &str| {
                vec![
                    serde_json::from_value(json!({"metadata": {"name": "a", "labels": {"zone": zone}}}))
                        .unwrap(),
                ]
            };
            NodeView::join(vec![used_on("a")], labels.map(node))
        };
        let one = profile(
            &json!({"defaultAction": "SCMP_ACT_ALLOW", "nodeSelector": {"zone": "1"}}),
            &Value::Null,
        );
        let shown = |nodes| {
            let counted = count(&ProfileView::of(&one), &nodes);
            text(|out| table(&[counted], None, out))
                .lines()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            shown(nodes(Some("2"))),
            "team/web         Unknown   none selected   0         0        1"
        );
        assert_eq!(
            shown(nodes(None)),
            "team/web         Unknown   0/?         0         0        1"
        );
        let silent =
            serde_json::from_value(json!({"metadata": {"name": "b", "labels": {"zone": "1"}}})).unwrap();
        assert_eq!(
            shown(NodeView::join(Vec::new(), Some(vec![silent]))),
            "team/web         Unknown   no report   0         0        0"
        );
    }

    #[test]
    fn a_profile_without_an_object_that_pods_name_is_shown_with_what_becomes_of_them() {
        let nodes = NodeView::join(vec![used_on("a")], None);
        assert_eq!(
            text(|out| table(&missing(&[], &nodes), None, out)),
            format!(
                "NAMESPACE/NAME   VALID      INSTALLED   PENDING   FAILED   IN USE\n\
                 team/web         NotFound   -           -         -        1\n\n\
                 NotFound: pods name it, and there is no such SeccompProfile. {WITHOUT_OBJECT}.\n"
            )
        );
        let shown: Value = serde_json::from_str(&text(|out| json(&missing(&[], &nodes), out))).unwrap();
        assert_eq!(
            (&shown[0]["exists"], &shown[0]["inUse"]),
            (&json!(false), &json!(["a"]))
        );
    }

    #[test]
    fn use_on_a_node_that_is_not_selected_stands_on_a_line_of_its_own() {
        let mut counted = counted();
        counted.in_use = vec!["a".to_owned(), "z".to_owned()];
        counted.in_use_unselected = vec!["z".to_owned()];
        let shown = text(|out| detail(&counted, out));
        for line in [
            "in use      1       a       running pods use it\n",
            "in use      1       z       running pods use it, and the node is not selected (any more)\n",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
    }

    #[test]
    fn one_profile_is_shown_node_by_node_grouped_by_what_they_share() {
        let mut counted = counted();
        counted.digest = Some("sha256:0".to_owned());
        counted.failed[0].live_digest = Some("sha256:1".to_owned());
        assert_eq!(
            text(|out| detail(&counted, out)),
            "Profile:    team/web\n\
             Path:       callgate/team/web.json\n\
             Digest:     sha256:0\n\
             Valid:      Unknown\n\
             Ready:      Unknown\n\
             Installed:  1/5\n\
             \n\
             STATE       NODES   WHICH   WHY\n\
             installed   1       a\n\
             pending     2       b,f\n\
             no report   1       e       selected, and no agent has reported\n\
             in use      1       a       running pods use it\n\
             failed      1       c       LoadRefused: EINVAL; sha256:1 stays live\n\
             failed      1       d       StoreNotWritable: no space left\n"
        );
    }

    #[test]
    fn a_thousand_nodes_that_share_a_reason_are_one_line() {
        let mut counted = counted();
        counted.failed = (0..1000)
            .map(|i| Failed {
                node: format!("n{i:03}"),
                reason: "LoadRefused".to_owned(),
                message: format!("EINVAL {i}"),
                live_digest: None,
            })
            .collect();
        let shown = text(|out| detail(&counted, out));
        assert!(
            shown.ends_with(
                "failed      1000    n000,n001,n002,n003,n004,n005,n006,n007,+992   LoadRefused: EINVAL 0\n"
            ),
            "{shown}"
        );
    }

    #[test]
    fn what_nodes_write_cannot_steer_a_terminal_or_fake_a_line() {
        let mut counted = counted();
        counted.failed[0].message = "\u{1b}[2J\r\nteam/web True".to_owned();
        counted.valid.reason = "A\u{7}".to_owned();
        let shown = text(|out| detail(&counted, out));
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        assert!(
            shown.lines().all(|line| !line.starts_with("team/web True")),
            "{shown}"
        );
    }

    #[test]
    fn what_the_proofs_found_is_shown_on_one_line_each_and_cannot_steer_a_terminal() {
        let found = |class: &str, code: &str, field: &str, message: &str| json!({"class": class, "code": code, "field": field, "message": message});
        let status = |generation: i64| {
            json!({"observedGeneration": generation, "findingsTotal": 5, "findings": [
                found("invalid", "bad-value", "spec.defaultAction", "no such\naction"),
                found("not-portable", "unknown-syscall", "", "\u{1b}]0;title\u{7}opne \u{9b}2J"),
            ]})
        };
        let shown = |generation| {
            let profile = profile(&allow_all(), &status(generation));
            let counted = count(&ProfileView::of(&profile), &cluster(&profile));
            text(|out| detail(&counted, out))
        };
        let now = shown(3);
        assert!(
            now.ends_with(
                "\nCLASS          FINDING           FIELD                MESSAGE\n\
                 invalid        bad-value         spec.defaultAction   no such action\n\
                 not-portable   unknown-syscall                         ]0;title opne  2J\n\
                 ... and 3 more: callgate check shows all of a file, with their places\n"
            ),
            "{now}"
        );
        assert!(!now.chars().any(|c| c.is_control() && c != '\n'), "{now:?}");
        assert!(!shown(2).contains("CLASS"), "an older generation was judged");
    }

    #[test]
    fn json_holds_no_control_character_of_others() {
        let mut counted = counted();
        counted.failed[0].message = "\u{1b}[2J\u{9b}\u{7f}".to_owned();
        let shown = text(|out| json(&[counted], out));
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        let read: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read[0]["failed"][0]["message"], "\u{1b}[2J\u{9b}\u{7f}");
    }

    #[test]
    fn json_holds_every_node() {
        let shown: Value = serde_json::from_str(&text(|out| json(&[counted()], out))).unwrap();
        assert_eq!(shown[0]["profile"], json!("team/web"));
        assert_eq!(shown[0]["valid"], json!({"status": "Unknown"}));
        assert_eq!(shown[0]["installed"], json!(["a"]));
        assert_eq!(
            shown[0]["failed"][0],
            json!({"node": "c", "reason": "LoadRefused", "message": "EINVAL"})
        );
        assert_eq!(shown[0]["inUse"], json!(["a"]));
    }
}
