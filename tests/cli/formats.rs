//! What holds of all formats of `check`, whatever they are about: every profile that the tests, the documentation and the
//! fuzzers have, with an example of each finding.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::check::{check, closed, parsed, read_json, sarif_schema, validate};

/// A folder with all of them.
fn corpus() -> TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = TempDir::new().unwrap();
    let mut number = 0;
    let mut add = |name: &str, text: &[u8]| {
        number += 1;
        fs::write(folder.path().join(format!("{number:03}-{name}")), text).unwrap();
    };
    for source in [
        "tests/data/profiles",
        "docs/examples",
        "fuzz/seeds/report",
        "fuzz/seeds/profile",
    ] {
        for file in fs::read_dir(root.join(source)).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            // A folder is searched for these alone.
            let ending = if name.contains('.') { "" } else { ".json" };
            add(&format!("{name}{ending}"), &fs::read(&path).unwrap());
        }
    }
    add(
        "docker.json",
        &fs::read(root.join("tests/data/default.json")).unwrap(),
    );
    let findings = fs::read_to_string(root.join("docs/findings.md")).unwrap();
    let mut examples = 0;
    for (format, begin) in [("json", "```json\n"), ("yaml", "```yaml\n")] {
        for block in findings.split(begin).skip(1) {
            let (example, _) = block.split_once("```").unwrap();
            add(&format!("example.{format}"), example.as_bytes());
            examples += 1;
        }
    }
    assert!(examples > 60, "{examples} examples in docs/findings.md");
    folder
}

fn report(folder: &TempDir, format: &str) -> String {
    let ran = check(folder.path(), &["--format", format, "."]);
    // The bytes that are no UTF-8 are among them.
    assert_eq!(ran.code, 2, "{}", ran.err);
    ran.out
}

/// Code, line and column of everything that was found, as the format orders it.
fn places_in_json(report: &Value) -> Vec<(String, Vec<Value>)> {
    let files = report["files"].as_array().unwrap();
    let findings = |file: &Value| file["findings"].as_array().cloned().unwrap_or_default();
    files
        .iter()
        .map(|file| {
            let of_file = findings(file)
                .iter()
                .map(|finding| json!([finding["line"], finding["column"], finding["code"]]))
                .collect();
            (file["file"].as_str().unwrap().to_owned(), of_file)
        })
        .collect()
}

#[test]
fn every_report_is_as_its_schema_says_and_in_the_order_of_the_file() {
    let folder = corpus();

    let json = parsed(&report(&folder, "json"));
    validate(&closed(read_json("docs/check.schema.json")), &json);
    let of_files = places_in_json(&json);
    for (file, findings) in &of_files {
        let places: Vec<_> = findings
            .iter()
            .map(|one| (one[0].as_u64(), one[1].as_u64()))
            .collect();
        assert!(places.is_sorted(), "{file}: {findings:?}");
    }
    let all: Vec<&Value> = of_files.iter().flat_map(|(_, findings)| findings).collect();
    assert!(all.len() > 200, "{} findings", all.len());

    let sarif = parsed(&report(&folder, "sarif"));
    validate(&sarif_schema(), &sarif);
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let codes_in_sarif: Vec<&Value> = results.iter().map(|result| &result["ruleId"]).collect();
    let codes: Vec<&Value> = all.iter().map(|one| &one[2]).collect();
    assert_eq!(codes_in_sarif, codes);

    let human = report(&folder, "human");
    let codes_for_people: Vec<&str> = human
        .lines()
        .filter_map(|line| {
            let (level, rest) = line.split_once('[')?;
            let is_headline = ["error", "warning", "note"].contains(&level);
            Some(rest.split_once("]: ")?.0).filter(|_| is_headline)
        })
        .collect();
    assert_eq!(codes_for_people, codes);
}
