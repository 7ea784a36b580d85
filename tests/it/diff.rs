//! `w2s diff` on run folders written by hand.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use w2s::error::ErrorKind;
use w2s::run::{RunDiff, diff_runs};

use crate::cli::{text, w2s};

/// What differs by name, with both values.
fn named(differences: &[w2s::run::Difference]) -> Vec<(&str, Value, Value)> {
    differences.iter().map(|d| (d.name.as_str(), d.a.clone(), d.b.clone())).collect()
}

struct Runs {
    dir: TempDir,
}

impl Runs {
    /// Two runs, `a` and `b`, that are the same but for where their data lay and how long they took.
    fn new() -> Self {
        let runs = Self { dir: tempfile::tempdir().unwrap() };
        for (name, data) in [("a", "here/data.jsonl"), ("b", "there/data.jsonl")] {
            fs::create_dir(runs.path(name)).unwrap();
            runs.write(
                name,
                "manifest.json",
                &[json!({"command": "label", "command_line": ["w2s", name], "seed": 0,
                    "settings": {"task": "t", "data": data, "method": "icm",
                        "search": {"form": {"alpha": 50.0}, "num_seed": 2}},
                    "inputs": [{"role": "data", "path": data, "sha256": "0123456789abcdef"}],
                    "gold_used": false, "versions": {"w2s": "0.1.0"}})],
            );
            runs.write(
                name,
                "trace.jsonl",
                &[
                    json!({"event": "start", "batch": 0, "iteration": 0, "labels": [["x", "no"]], "score": -3.0}),
                    json!({"event": "proposal", "batch": 0, "iteration": 1, "id": "y", "from": null,
                        "predicted": "no", "changes": [["y", null, "no"]], "score": -3.0,
                        "proposed_score": -2.5, "accepted": true}),
                    json!({"event": "end", "batch": 0, "iteration": 1, "score": -2.5}),
                ],
            );
            let label = |id, logprob| json!({"id": id, "label": "no", "margin": 1.0, "logprobs": {"no": logprob}});
            runs.write(name, "labels.jsonl", &[label("x", -0.25), label("y", -0.5)]);
            runs.write(name, "summary.json", &[json!({"score": -2.5, "tokens_computed": 77})]);
            runs.write(name, "timing.json", &[json!({"session_seconds": name.len()})]);
            let answer = |tree: &str| json!({"tree": tree, "scores": [{"logprobs": [-1.0, -2.0]}], "usage": {"tokens_computed": 9}});
            runs.write(name, "journal.jsonl", &[answer("t1"), answer("t2")]);
        }
        runs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, run: &str, file: &str, lines: &[Value]) {
        let lines: Vec<String> = lines.iter().map(|line| line.to_string() + "\n").collect();
        fs::write(self.path(run).join(file), lines.concat()).unwrap();
    }

    /// Replaces a text of a file of run `b` that is there.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path("b").join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    fn diff(&self) -> RunDiff {
        diff_runs(&self.path("a"), &self.path("b"), 0.0).unwrap()
    }
}

#[test]
fn equal_runs_agree_wherever_their_data_lay() {
    let runs = Runs::new();
    let diff = runs.diff();
    assert!(diff.agrees() && diff.settings.is_empty() && diff.first_answer.is_none(), "{diff:?}");
    assert_eq!((diff.labels.num_shared, diff.labels.num_different), (2, 0));
    // Cost is no result, nor is an answer that changed nothing.
    runs.edit("summary.json", "77", "78");
    runs.edit("journal.jsonl", "-2.0", "-2.25");
    assert!(runs.diff().agrees());
}

#[test]
fn settings_and_inputs_are_named() {
    let runs = Runs::new();
    runs.edit("manifest.json", "50.0", "30.0");
    runs.edit("manifest.json", "\"seed\":0", "\"seed\":4");
    runs.edit("manifest.json", "0123456789abcdef", "fedcba9876543210");
    runs.edit("manifest.json", "\"gold_used\":false", "\"gold_used\":\"seeds\"");
    runs.edit("manifest.json", "\"num_seed\":2", "\"num_seed\":2,\"extra\":true");
    let diff = runs.diff();
    let expected = [
        ("search.form.alpha", json!(50.0), json!(30.0)),
        ("search.extra", json!(null), json!(true)),
        ("seed", json!(0), json!(4)),
        ("gold_used", json!(false), json!("seeds")),
        (
            "inputs.data",
            json!("here/data.jsonl (0123456789ab)"),
            json!("there/data.jsonl (fedcba987654)"),
        ),
    ];
    assert_eq!(named(&diff.settings), expected);
    assert!(diff.agrees(), "what they found is the same");
}

#[test]
fn the_first_proposal_score_or_label_is_named() {
    let runs = Runs::new();
    runs.edit(
        "trace.jsonl",
        "\"predicted\":\"no\",\"changes\":[[\"y\",null,\"no\"]]",
        "\"predicted\":\"yes\",\"changes\":[[\"y\",null,\"yes\"]]",
    );
    runs.edit(
        "trace.jsonl",
        "\"event\":\"end\",\"batch\":0,\"iteration\":1,\"score\":-2.5",
        "\"event\":\"end\",\"batch\":0,\"iteration\":1,\"score\":-2.75",
    );
    runs.edit("labels.jsonl", "{\"id\":\"y\",\"label\":\"no\"", "{\"id\":\"y\",\"label\":\"yes\"");
    runs.edit("summary.json", "-2.5", "-2.75");
    runs.edit(
        "journal.jsonl",
        "\"t2\",\"scores\":[{\"logprobs\":[-1.0",
        "\"t3\",\"scores\":[{\"logprobs\":[-1.5",
    );
    let diff = runs.diff();
    let [trace, labels, summary] = diff.partings.as_slice() else { panic!("{diff:?}") };
    assert_eq!((trace.file, trace.line), ("trace.jsonl", Some(2)));
    assert_eq!(trace.what, "proposal of iteration 1, batch 0, example `y`");
    let expected =
        [("predicted", json!("no"), json!("yes")), ("changes[0][2]", json!("no"), json!("yes"))];
    assert_eq!(named(&trace.differences), expected);
    assert_eq!((labels.line, labels.what.as_str()), (Some(2), "label of example `y`"));
    assert_eq!(named(&summary.differences), [("score", json!(-2.5), json!(-2.75))]);
    assert_eq!((diff.labels.num_shared, diff.labels.num_different), (2, 1));
    let answer = diff.first_answer.unwrap();
    assert_eq!((answer.line, answer.what.as_str()), (Some(2), "answer 2 of the model"));
    assert_eq!(named(&answer.differences), [("tree", json!("t2"), json!("t3"))]);
}

#[test]
fn a_tolerance_lets_small_numbers_pass() {
    let runs = Runs::new();
    runs.edit("trace.jsonl", "-2.5", "-2.5000001");
    runs.edit("labels.jsonl", "-0.25", "-0.2500002");
    let diff = runs.diff();
    assert_eq!(diff.partings.len(), 2);
    assert_eq!(named(&diff.partings[0].differences)[0].0, "proposed_score");
    assert_eq!(diff.partings[1].differences[0].name, "logprobs.no");
    let within = |x| diff_runs(&runs.path("a"), &runs.path("b"), x).unwrap();
    assert_eq!(within(1.5e-7).partings.len(), 1);
    assert!(within(1e-6).agrees());
    let error = diff_runs(&runs.path("a"), &runs.path("b"), f64::NAN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn a_run_that_stops_earlier_or_has_no_trace_is_told() {
    let runs = Runs::new();
    let trace = runs.path("b").join("trace.jsonl");
    let text = fs::read_to_string(&trace).unwrap();
    let first_two: String = text.split_inclusive('\n').take(2).collect();
    fs::write(&trace, first_two).unwrap();
    let parting = &runs.diff().partings[0];
    assert_eq!(parting.line, Some(3));
    assert_eq!(parting.what, "the second run ends here, before end of batch 0, iteration 1");
    fs::remove_file(&trace).unwrap();
    let parting = &runs.diff().partings[0];
    assert_eq!(parting.what, "only one run has this file");
    assert_eq!(named(&parting.differences), [("file", json!(true), json!(false))]);
    fs::remove_file(runs.path("a").join("trace.jsonl")).unwrap();
    assert!(runs.diff().agrees(), "methods without a search have no trace");
}

#[test]
fn folders_that_cannot_be_compared_are_errors() {
    let error = |runs: &Runs| diff_runs(&runs.path("a"), &runs.path("b"), 0.0).unwrap_err();
    let runs = Runs::new();
    fs::remove_file(runs.path("b").join("timing.json")).unwrap();
    let found = error(&runs);
    assert_eq!((found.kind(), found.message()), (ErrorKind::Run, "the run is not complete"));
    assert_eq!(found.place(), Some((runs.path("b").as_path(), None)));
    fs::remove_file(runs.path("b").join("manifest.json")).unwrap();
    assert_eq!(error(&runs).message(), "there is no run in this folder");
    let runs = Runs::new();
    runs.edit("manifest.json", "\"label\"", "\"eval\"");
    assert!(error(&runs).message().contains("one run is of `w2s label`, the other of `w2s eval`"));
    let runs = Runs::new();
    runs.edit("trace.jsonl", "\"proposal\"", "proposal");
    let found = error(&runs);
    assert_eq!(found.place(), Some((runs.path("b").join("trace.jsonl").as_path(), Some(2))));
    assert!(diff_runs(Path::new("no/such/run"), &runs.path("b"), 0.0).is_err());
}

#[test]
fn the_exit_status_says_whether_runs_agree() {
    let runs = Runs::new();
    let [a, b] = ["a", "b"].map(|name| runs.path(name).display().to_string());
    let output = w2s(&["diff", &a, &b]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    assert!(text(&output.stdout).contains("the runs agree: 2 labels"));
    runs.edit("trace.jsonl", "-2.5", "-2.0");
    runs.edit("manifest.json", "50.0", "30.0");
    let output = w2s(&["diff", &a, &b]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), ""));
    let said = text(&output.stdout);
    for line in [
        "  search.form.alpha: 50.0 and 30.0",
        "first difference: trace.jsonl line 2: proposal of iteration 1, batch 0, example `y`",
        "  proposed_score: -2.5 and -2.0",
        "labels: 0 of 2 differ",
    ] {
        assert!(said.lines().any(|other| other == line), "`{line}` is missing in:\n{said}");
    }
    let output = w2s(&["diff", &a, "no/such/run"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("error: there is no run"));
}

#[test]
fn trainings_part_at_a_step() {
    let runs = Runs::new();
    for name in ["a", "b"] {
        for file in ["trace.jsonl", "labels.jsonl", "journal.jsonl"] {
            fs::remove_file(runs.path(name).join(file)).unwrap();
        }
        runs.write(
            name,
            "metrics.jsonl",
            &[
                json!({"step": 1, "loss": 2.5, "grad_norm": 1.0}),
                json!({"step": 1, "validation_loss": 2.25}),
                json!({"step": 2, "loss": 1.5, "grad_norm": 1.0}),
            ],
        );
        let path = runs.path(name).join("manifest.json");
        let manifest = fs::read_to_string(&path).unwrap();
        fs::write(&path, manifest.replacen("\"label\"", "\"train\"", 1)).unwrap();
    }
    assert!(runs.diff().agrees());
    let folders = ["a", "b"].map(|name| runs.path(name).display().to_string());
    let said = || text(&w2s(&["diff", &folders[0], &folders[1]]).stdout).to_owned();
    assert!(said().contains("the runs agree: every step, loss"), "{}", said());
    runs.edit("metrics.jsonl", "2.25", "2.75");
    let diff = runs.diff();
    let parting = &diff.partings[0];
    assert_eq!((parting.file, parting.line), ("metrics.jsonl", Some(2)));
    assert_eq!(parting.what, "validation after step 1");
    assert_eq!(named(&parting.differences), [("validation_loss", json!(2.25), json!(2.75))]);
    assert!(!said().contains("labels:"), "{}", said());
    runs.edit("metrics.jsonl", "2.75", "2.25");
    runs.edit("metrics.jsonl", "1.5", "1.25");
    assert_eq!(runs.diff().partings[0].what, "step 2");
}
