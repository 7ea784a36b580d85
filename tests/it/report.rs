//! The report page: what it says of runs, and what fails.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use w2s::error::ErrorKind;
use w2s::eval::{
    Basins, Collapse, Diagnostics, LabelledRun, Margins, Prediction, SearchDiagnostics, Sweep,
    TemperatureBin, basins, evaluate,
};
use w2s::report::report;

use crate::figures::texts;

/// A run folder with `num_right` of ten examples right.
pub fn run_folder(root: &Path, name: &str, method: &str, num_right: usize) -> PathBuf {
    let dir = root.join(name);
    fs::create_dir_all(&dir).expect("a folder");
    let items: Vec<Prediction> = (0..10)
        .map(|index| Prediction {
            id: index.to_string(),
            label: if index < num_right { index % 2 } else { 1 - index % 2 },
            logprobs: None,
            gold: Some(index % 2),
        })
        .collect();
    let labels = ["negative".to_owned(), "posi|tive".to_owned()];
    let evaluation = evaluate(method, "polarity", &labels, 1, &items).expect("valid");
    let gold_used = if method == "few-shot" { json!("demonstrations") } else { json!(false) };
    write(&dir, "eval.json", &serde_json::to_value(evaluation).expect("a value"));
    let settings = json!({"method": method, "task": "polarity", "model": "models/tiny/"});
    write(
        &dir,
        "manifest.json",
        &json!({"command": "label", "settings": settings, "seed": 0,
        "versions": {}, "inputs": [], "gold_used": gold_used}),
    );
    let searched = method == "icm";
    write(
        &dir,
        "summary.json",
        &json!({"method": method, "num_examples": 10,
        "share": {"negative": 0.5, "posi|tive": 0.5},
        "score": if searched { json!(-3.5) } else { Value::Null },
        "constant_scores": if searched { json!({"negative": -9.0, "posi|tive": -1.25}) } else { Value::Null },
        "num_accepted": null, "num_proposals": null, "num_passes": 3,
        "tokens_computed": 12345, "tokens_full_prompts": 1_234_567}),
    );
    if searched {
        // As an evaluation without shares writes it.
        let line = |i: usize| {
            format!(
                "{{\"batch\":0,\"iteration\":{i},\"step\":{i},\"score\":{}.5,\"accuracy\":0.5,\"num_labelled\":8}}\n",
                i as i64 - 6
            )
        };
        fs::write(dir.join("curve.jsonl"), (0..4).map(line).collect::<String>()).expect("written");
    }
    dir
}

fn write(dir: &Path, name: &str, value: &Value) {
    fs::write(dir.join(name), value.to_string()).expect("written");
}

fn three_runs() -> (TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runs = [("a", "zero-shot", 5), ("b", "few-shot", 8), ("c", "icm", 9)]
        .map(|(name, method, num_right)| run_folder(dir.path(), name, method, num_right));
    (dir, runs.to_vec())
}

#[test]
fn a_report_shows_every_run() {
    let (dir, runs) = three_runs();
    let out = dir.path().join("report");
    let summary = report(&runs, None, &out).expect("a report");
    let names = [
        "accuracy.svg",
        "accuracy.pdf",
        "accuracy.png",
        "search.svg",
        "search.pdf",
        "search.png",
        "report.md",
        "report.html",
    ];
    assert_eq!(summary.files, names.map(|name| out.join(name)));
    assert!(summary.files.iter().all(|file| file.is_file()));

    let said = texts(&fs::read_to_string(&summary.files[0]).expect("the SVG"));
    for text in ["polarity, tiny", "zero-shot", "few-shot gold", "ICM", "80.0", "90.0", "[49, 94]"]
    {
        assert!(said.iter().any(|said| said == text), "`{text}` is missing in {said:?}");
    }
    let said = texts(&fs::read_to_string(&summary.files[3]).expect("the SVG"));
    for text in ["score \u{2212}3.50", "if all posi|tive: \u{2212}1.25", "accuracy 50.0%"] {
        assert!(said.iter().any(|said| said == text), "`{text}` is missing in {said:?}");
    }

    // 8 of 10: 0.4901625 to 0.9433178 (statsmodels 0.15.0). One example of each label is wrong, so
    // both recalls are 4/5.
    let page = fs::read_to_string(&summary.files[6]).expect("the page");
    let row = "| few-shot gold | 10 | 80.0% [49.0, 94.3] | 80.0% | - | negative 50.0% (50.0%), \
               posi\\|tive 50.0% (50.0%) | 12,345 | 1,234,567 |";
    assert!(page.lines().any(|line| line == row), "{page}");
    assert!(page.contains("(accuracy.png)") && page.contains("(search.png)"));

    let noted = |text: &str| summary.notes.iter().any(|note| note.contains(text));
    assert!(noted("few-shot gold used gold labels: demonstrations"), "{:?}", summary.notes);
    assert!(noted("label `posi|tive` scores -1.250"), "{:?}", summary.notes);
    assert_eq!(summary.notes.len(), 2);
    assert!(page.contains("label \\`posi\\|tive\\` scores"), "{page}");

    let before: Vec<_> = summary.files.iter().map(|file| fs::read(file).expect("read")).collect();
    report(&runs, None, &out).expect("a second report");
    let after: Vec<_> = summary.files.iter().map(|file| fs::read(file).expect("read")).collect();
    assert_eq!(before, after);
}

#[test]
fn runs_of_one_name_are_told_apart() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runs =
        ["x/s one", "y/s one", "z"].map(|name| run_folder(dir.path(), name, "icm", 9)).to_vec();
    let out = dir.path().join("report");
    let summary = report(&runs, None, &out).expect("a report");
    let names = ["search-s-one.svg", "search-s-one-2.svg", "search-z.svg"];
    assert!(names.iter().all(|name| summary.files.contains(&out.join(name))), "{summary:?}");
    let page = fs::read_to_string(out.join("report.md")).expect("the page");
    for name in ["ICM (s one)", "ICM (s one)-2", "ICM (z)"] {
        assert_eq!(page.lines().filter(|line| line.starts_with(&format!("| {name} |"))).count(), 1);
    }
}

#[test]
fn what_makes_runs_hard_to_compare_is_noted() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let runs = ["a", "b"].map(|name| run_folder(dir.path(), name, "zero-shot", 5));
    let edit = |dir: &Path, change: &dyn Fn(&mut Value)| {
        let path = dir.join("eval.json");
        let text = fs::read_to_string(&path).expect("the evaluation");
        let mut value = serde_json::from_str(&text).expect("JSON");
        change(&mut value);
        fs::write(path, value.to_string()).expect("written");
    };
    edit(&runs[0], &|value| {
        value["gold_column"] = json!("other");
        value["labels"] = json!(["negative", "posi|tive", "third"]);
        value["num_examples"] = json!(12);
        value["share"] = json!({"negative": 0.97, "posi|tive": 0.03});
    });
    fs::remove_file(runs[1].join("eval.json")).expect("removed");
    run_folder(dir.path(), "b", "icm", 5);
    fs::remove_file(runs[1].join("curve.jsonl")).expect("removed");
    let summary = report(&runs, None, &dir.path().join("out")).expect("a report");
    for text in [
        "no chance line",
        "different gold columns",
        "zero-shot labelled 10 of 12 examples",
        "zero-shot gave the label `negative` to 97.0% of the examples (gold: 50.0%)",
        "ICM has no `curve.jsonl`",
    ] {
        assert!(summary.notes.iter().any(|note| note.contains(text)), "{:?}", summary.notes);
    }
}

#[test]
fn missing_and_broken_files_are_named() {
    let out = |dir: &TempDir| dir.path().join("out");
    for (name, hint) in [
        ("summary.json", "hint: the run did not finish"),
        ("manifest.json", "hint: this is not a run folder"),
    ] {
        let (dir, runs) = three_runs();
        let path = runs[1].join(name);
        fs::remove_file(&path).expect("removed");
        let error = report(&runs, None, &out(&dir)).expect_err("a file is missing");
        assert_eq!((error.kind(), error.place()), (ErrorKind::Run, Some((path.as_path(), None))));
        assert!(error.to_string().contains(hint), "{error}");
        assert!(!out(&dir).exists(), "nothing is written before all is read");

        fs::write(&path, "{\n\"a\": 1,\n").expect("written");
        let error = report(&runs, None, &out(&dir)).expect_err("a file is broken");
        assert_eq!(error.place().map(|(place, _)| place), Some(path.as_path()));
    }
    let (dir, runs) = three_runs();
    let path = runs[1].join("eval.json");
    fs::write(&path, "{\n\"a\": 1,\n").expect("written");
    let error = report(&runs, None, &out(&dir)).expect_err("a file is broken");
    assert_eq!(error.place().map(|(place, _)| place), Some(path.as_path()));

    let (dir, runs) = three_runs();
    let path = runs[2].join("curve.jsonl");
    let text = fs::read_to_string(&path).expect("the curve");
    fs::write(&path, format!("{text}{{\"batch\":")).expect("written");
    let error = report(&runs, None, &out(&dir)).expect_err("a line is broken");
    assert_eq!(error.place(), Some((path.as_path(), Some(5))));

    let missing = dir.path().join("nowhere");
    let error = report(std::slice::from_ref(&missing), None, &out(&dir)).expect_err("no folder");
    assert_eq!(error.place(), Some((missing.as_path(), None)));
    assert_eq!(report(&[], None, &out(&dir)).expect_err("no run").kind(), ErrorKind::Usage);
}

#[test]
fn diagnostics_columns_and_basins_stand_on_the_page() {
    let (dir, runs) = three_runs();
    let names = ["negative", "posi|tive"].map(str::to_owned).to_vec();
    let sweep = |first, last, share: [f64; 2], entropy_nats| Sweep {
        batch: 0,
        first_iteration: first,
        last_iteration: last,
        num_proposals: 4,
        num_accepted: 3,
        num_flips: 2,
        num_labelled: 10,
        share: share.to_vec(),
        entropy_nats,
    };
    let mut sweeps = vec![sweep(0, 0, [0.5, 0.5], std::f64::consts::LN_2)];
    sweeps.extend((0..30).map(|i| sweep(10 * i + 1, 10 * i + 10, [0.1, 0.9], 0.3251)));
    let diagnostics = Diagnostics {
        margins: Some(Margins {
            num_labels: 10,
            mean_nats: 1.25,
            median_nats: 1.0,
            num_negative: 2,
        }),
        search: Some(SearchDiagnostics {
            labels: names.clone(),
            collapse_below_nats: 0.3466,
            collapses: vec![Collapse {
                batch: 0,
                since_iteration: 10,
                iteration: 20,
                label: names[1].clone(),
                share: 0.9,
                entropy_nats: 0.3251,
                recovered: false,
            }],
            sweeps,
            acceptance: vec![TemperatureBin {
                low: 2.0,
                high: 4.0,
                num_proposals: 7,
                num_accepted: 5,
                num_downhill: 3,
                num_downhill_accepted: 1,
            }],
            num_examples: 12,
            num_ever_labelled: 10,
            num_never_revisited: 3,
        }),
    };
    write(&runs[2], "diagnostics.json", &serde_json::to_value(diagnostics).expect("a value"));
    let path = runs[2].join("eval.json");
    let mut evaluation: Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("the evaluation")).expect("JSON");
    let mut other = evaluation.clone();
    other["gold_column"] = json!("is_long");
    other["balanced_accuracy"] = json!(0.25);
    evaluation["gold_column"] = json!("truth");
    evaluation["other_columns"] = json!([other]);
    write(&runs[2], "eval.json", &evaluation);
    let labelled = |name: &str, labels: [usize; 4], score| LabelledRun {
        name: name.to_owned(),
        labels: labels.map(Some).to_vec(),
        score: Some(score),
    };
    let found: Basins = basins(
        &[labelled("s0", [0, 0, 1, 1], -1.0), labelled("s1", [1, 1, 0, 0], -2.0)],
        &[("truth".to_owned(), [0, 0, 1, 0].map(Some).to_vec())],
        2,
        0.9,
    );
    let basins_path = dir.path().join("basins.json");
    write(dir.path(), "basins.json", &serde_json::to_value(found).expect("a value"));

    let out = dir.path().join("out");
    let summary = report(&runs, Some(&basins_path), &out).expect("a report");
    let page = fs::read_to_string(out.join("report.md")).expect("the page");
    for line in [
        "| ICM | is\\_long | 10 | 90.0% [59.6, 98.2] | 25.0% | - |",
        "| ICM | 1.250 | - | - | 2 of 10 | - | - | 3 of 10 |",
        "| 0 | start | 10 | 0.693 | 50.0% | 50.0% | 4 | 3 | 2 |",
        "| 0 | 291 to 300 | 10 | 0.325 | 10.0% | 90.0% | 4 | 3 | 2 |",
        "| ... | ... | ... | ... | ... | ... | ... | ... | ... |",
        "| 2 to 4 | 7 | 5 | 3 | 1 |",
        "| s0, s1 | 2 | -1.500 | -1.000 | 100.0% | 75.0% (1) |",
    ] {
        assert!(page.lines().any(|other| other == line), "`{line}` is missing in:\n{page}");
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| 0 | ")).count(), 24);
    for text in [
        "ICM collapsed in batch 0: label `posi|tive` had 90.0% at iteration 20 and kept them",
        "ICM comes closest to column `truth` (balanced accuracy 90.0%)",
    ] {
        assert!(summary.notes.iter().any(|note| note == text), "{:?}", summary.notes);
    }
    let missing = dir.path().join("nowhere.json");
    let error = report(&runs, Some(&missing), &out).expect_err("no basins");
    assert_eq!(error.place(), Some((missing.as_path(), None)));
    assert!(error.to_string().contains("--basins"), "{error}");
}

#[test]
fn three_labels_get_a_table_each() {
    let (dir, runs) = three_runs();
    let items: Vec<Prediction> = [(0, 0), (0, 1), (1, 1), (2, 2), (2, 2)]
        .iter()
        .enumerate()
        .map(|(index, &(label, gold))| Prediction {
            id: index.to_string(),
            label,
            logprobs: None,
            gold: Some(gold),
        })
        .collect();
    let names = ["a", "b", "c"].map(str::to_owned);
    let evaluation = evaluate("icm", "polarity", &names, 0, &items).expect("valid");
    write(&runs[2], "eval.json", &serde_json::to_value(evaluation).expect("a value"));
    let out = dir.path().join("out");
    report(&runs, None, &out).expect("a report");
    let page = fs::read_to_string(out.join("report.md")).expect("the page");
    // b: one of one given is right, one of two found; F1 = 2 * 1 / (1 + 2).
    for line in
        ["| b | 2 | 1 | 100.0% | 50.0% | 0.667 | - |", "| b | 1 | 1 | 0 |", "| c | 0 | 0 | 2 |"]
    {
        assert!(page.lines().any(|other| other == line), "`{line}` is missing in:\n{page}");
    }
}
