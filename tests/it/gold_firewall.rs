//! Gold is read by types of its own, and only the code that must look at it can name them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::common::project;

/// The types that read gold.
const DOORS: [&str; 4] = ["GoldLabels", "GoldAnswers", "ReferenceKeys", "AuditAnswers"];

/// The files that name them, and why. All other code, what is added to it too, labels, filters and trains
/// without a way to gold: a file is put here for a reason that can be said.
const EXCEPTIONS: [(&str, &str); 11] = [
    ("data/audit_answers.rs", "reads what an auditor says of the rows drawn"),
    ("pipeline/audit/certify.rs", "judges an audit"),
    ("data/gold.rs", "reads gold labels and answers"),
    ("data/reference.rs", "reads the published code's keys, which tell gold"),
    ("data/mod.rs", "names what the module has"),
    ("pipeline/evaluate/mod.rs", "evaluates labels"),
    ("pipeline/evaluate/rounds.rs", "evaluates the rounds of a loop"),
    ("pipeline/evaluate/weak.rs", "evaluates what a filter kept"),
    ("pipeline/compare/runs.rs", "compares runs with gold"),
    ("report/examples.rs", "shows gold beside the labels of an evaluated run"),
    (
        "pipeline/gold.rs",
        "few-shot-gold, starts from gold, weak supervisors, ceilings; the run is marked",
    ),
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|end| end == "rs") {
            out.push(path);
        }
    }
}

/// Whether a word stands in the code, not in its comments.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split(|c| !is_part(c))).any(|part| part == word)
}

#[test]
fn only_what_must_look_at_gold_can_name_it() {
    let root = project().join("src");
    let mut all = Vec::new();
    sources(&root, &mut all);
    assert!(all.len() > 200, "{} files", all.len());
    let mut found = BTreeSet::new();
    for path in all {
        let code = std::fs::read_to_string(&path).unwrap();
        if DOORS.iter().any(|door| names(&code, door)) {
            found.insert(path.strip_prefix(&root).unwrap().display().to_string());
        }
    }
    let excepted: BTreeSet<String> =
        EXCEPTIONS.iter().map(|(file, _)| (*file).to_owned()).collect();
    let strange: Vec<&String> = found.difference(&excepted).collect();
    assert!(strange.is_empty(), "{strange:?} name a type that reads gold");
    // An exception that is no more is taken off the list, so that nothing slips in behind it.
    let idle: Vec<&String> = excepted.difference(&found).collect();
    assert!(idle.is_empty(), "{idle:?} do not name gold any more, or were moved");
}
