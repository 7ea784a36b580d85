//! `w2s compare` and `w2s runs` as their users run them, on folders and files written by hand.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use w2s::eval::Comparison;
use w2s::run::{Manifest, RunState, find_run, find_runs};

use crate::cli::{good, text, w2s};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn write(&self, name: &str, contents: &str) -> String {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), contents).unwrap();
        self.path(name)
    }

    /// Gold for eight reviews, with a second column.
    fn gold(&self) -> String {
        let line = |i: usize| {
            json!({"id": format!("r{i}"), "label": NAMES[i % 2], "is_long": NAMES[usize::from(i > 3)]})
                .to_string()
        };
        self.write("gold.jsonl", &(0..8).map(line).collect::<Vec<_>>().join("\n"))
    }

    /// A finished run of `w2s label`, right where `right` says so, with log-probabilities.
    fn label_run(&self, name: &str, seed: u64, right: [bool; 8]) -> String {
        let task = w2s::data::Task::load("sentiment").unwrap();
        let manifest = manifest(
            "label",
            seed,
            json!({"task": "sentiment", "method": "zero-shot",
            "data": "data/a.jsonl", "model": "models/tiny"}),
            &task.sha256,
        );
        self.write(&format!("{name}/manifest.json"), &manifest.to_string());
        let line = |(i, right): (usize, bool)| {
            let label = usize::from((i % 2 == 1) == right);
            let p = 0.9 - 0.05 * i as f64;
            let of = |other: usize| if other == label { p.ln() } else { (1.0 - p).ln() };
            json!({"id": format!("r{i}"), "label": NAMES[label], "margin": of(label) - of(1 - label),
                "last_flip": null, "logprobs": {NAMES[0]: of(0), NAMES[1]: of(1)}})
            .to_string()
        };
        let lines: Vec<String> = right.into_iter().enumerate().map(line).collect();
        self.write(&format!("{name}/labels.jsonl"), &lines.join("\n"));
        self.write(&format!("{name}/summary.json"), r#"{"num_examples": 8}"#);
        self.write(&format!("{name}/timing.json"), "{}");
        self.path(name)
    }
}

const NAMES: [&str; 2] = ["negative", "positive"];
const MOST: [bool; 8] = [true, true, true, true, true, true, true, false];
const HALF: [bool; 8] = [true, false, true, false, true, false, true, false];
const FEW: [bool; 8] = [false, false, true, false, false, false, true, false];

fn manifest(command: &str, seed: u64, settings: Value, task_sha256: &str) -> Value {
    json!({"command": command, "command_line": ["w2s", command], "settings": settings, "seed": seed,
        "inputs": [{"role": "data", "path": "data/a.jsonl", "sha256": "aa"},
            {"role": "task", "path": "sentiment", "sha256": task_sha256},
            {"role": "model file config.json", "path": "models/tiny/config.json", "sha256": "bb"}],
        "gold_used": false, "versions": {"w2s": "0.1.0", "num_threads": 2}})
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn runs_and_files_are_compared_with_gold_and_each_other() {
    let place = Place::new();
    let gold = place.gold();
    let naive = [0, 1].map(|seed| place.label_run(&format!("naive-{seed}"), seed, HALF)).join(",");
    let ceiling = place.label_run("ceiling", 0, MOST);
    // A table with probabilities as text; without the last review, which has an id of its own.
    let rows: Vec<String> = (0..8)
        .map(|i| {
            let label = usize::from((i % 2 == 1) == FEW[i]);
            let p = if label == 0 { "0.75" } else { "0.25" };
            let other = if label == 0 { "0.25" } else { "0.75" };
            let id = if i == 7 { "other".to_owned() } else { format!("r{i}") };
            format!(
                "{id},{},\"{{\"\"negative\"\": {p}, \"\"positive\"\": {other}}}\"",
                NAMES[label]
            )
        })
        .collect();
    let weak = place.write("weak.csv", &format!("id,label,probabilities\n{}\n", rows.join("\n")));
    let out = place.path("out");
    let (named, of_ceiling) = (format!("naive tuning={naive}"), format!("ceiling={ceiling}"));
    let args = [
        "compare",
        "--gold",
        &gold,
        "--gold-column",
        "label,is_long",
        "--method",
        &named,
        "--weak",
        &weak,
        "--ceiling",
        &of_ceiling,
        "--published",
        "naive tuning=61.5",
        "--resamples",
        "500",
        "--out",
        &out,
    ];
    let output = w2s(&args);
    let (said, table) = (text(&output.stderr), text(&output.stdout));
    assert!(output.status.success(), "{said}");
    // Seven reviews: the eighth and `other` are in some runs only. Right: 2, 4, 4 and 7 of them.
    has(
        &table,
        &[
            "sentiment, gold column label: 7 items (2 not in every run, 0 without gold left out)",
            "gold column is_long",
            "28.6 %",
            "57.1 %",
            "100.0 %",
            "naive tuning - weak",
            "performance gap recovered",
        ],
    );
    has(&said, &["2 of 9 items were not answered by every run", "one run of weak, ceiling"]);
    let read = || fs::read_to_string(place.at("out/comparison.json")).unwrap();
    let before = read();
    let found: Comparison = serde_json::from_str(&before).unwrap();
    assert_eq!((found.task.as_str(), found.columns.len()), ("sentiment", 2));
    let of = &found.columns[0].methods;
    let names: Vec<&str> = of.iter().map(|method| method.name.as_str()).collect();
    assert_eq!(names, ["weak", "naive tuning", "ceiling"]);
    assert_eq!(of[1].published, Some(0.615));
    assert_eq!(of[1].runs.len(), 2);
    assert_eq!(of[1].accuracy_sd, Some(0.0));
    // The weak labels are given with .75, and 2 of 7 are right: Brier (2 * .0625 + 5 * .5625) / 7,
    // ECE .75 - 2/7.
    let brier = of[0].brier.unwrap().value;
    assert!((brier - (2.0 * 0.0625 + 5.0 * 0.5625) / 7.0).abs() < 1e-9, "{brier}");
    assert!((of[0].ece.unwrap() - (0.75 - 2.0 / 7.0)).abs() < 1e-9);
    assert!(of[0].runs[0].digest.is_none() && of[1].runs[0].digest.is_some());
    for name in ["comparison.svg", "comparison.png", "comparison-is-long.svg"] {
        assert!(place.at("out").join(name).is_file(), "{name}");
    }

    let again = w2s(&args);
    assert_eq!(again.status.code(), Some(1));
    has(&text(&again.stderr), &["already holds a comparison", "--force"]);
    good(&[&args[..], &["--force"]].concat());
    assert_eq!(read(), before, "one seed, one result");
}

#[test]
fn wrong_comparisons_are_told() {
    let place = Place::new();
    let gold = place.gold();
    let run = place.label_run("run", 0, MOST);
    let plain = place.write("plain.jsonl", r#"{"id": "r0", "label": "positive"}"#);
    let bad = |more: &[&str]| {
        let out = place.path("out");
        let fixed = ["compare", "--gold", gold.as_str(), "--out", out.as_str()];
        let output = w2s(&[&fixed, more].concat());
        assert!(!output.status.success(), "{more:?}");
        assert!(!place.at("out").exists());
        text(&output.stderr)
    };
    has(&bad(&["--method", &run]), &["has no name"]);
    has(&bad(&["--method", &format!("a={run},{run}")]), &["twice", "hint"]);
    has(&bad(&["--method", &format!("a={plain}")]), &["which task", "--task"]);
    let both = [format!("a={run}"), format!("a={plain}")];
    has(&bad(&["--method", &both[0], "--method", &both[1]]), &["two methods are named `a`"]);
    has(&bad(&["--method", &both[0], "--published", "b=50"]), &["`b`, which is no method"]);
    has(&bad(&["--method", &both[0], "--published", "a=500"]), &["from 0 to 100"]);
    has(&bad(&["--method", &both[0], "--gold-column", "nope"]), &["has the column `nope`"]);
    let broken = [
        (
            r#"{"id": "r0", "label": "positive", "probabilities": {"positive": 0.5}}"#,
            "`negative` is missing",
        ),
        (
            r#"{"id": "r0", "label": "positive", "probabilities": {"positive": 1.5, "negative": 0}}"#,
            "is 1.5",
        ),
        (
            r#"{"id": "r0", "label": "positive", "logprobs": {"positive": 0.5, "negative": -1}}"#,
            "is 0.5",
        ),
        (r#"{"id": "r0", "label": "positive", "logprobs": [1, 2]}"#, "a list is not an object"),
        (r#"{"id": "r0", "label": "positive", "logprobs": {"maybe": -1}}"#, "`maybe` is not one"),
        (r#"{"id": "r0"}"#, "no `label`"),
    ];
    for (line, part) in broken {
        let file = place.write("broken.jsonl", &format!("\n{line}\n"));
        let message = bad(&["--task", "sentiment", "--method", &format!("x={file}")]);
        has(&message, &[part, "broken.jsonl", "line 2"]);
    }
    fs::remove_file(place.at("run/timing.json")).unwrap();
    has(&bad(&["--method", &both[0]]), &["the run is not complete", "--resume"]);
    let trained = manifest("train", 0, json!({"task": "sentiment"}), "x");
    place.write("trained/manifest.json", &trained.to_string());
    place.write("trained/timing.json", "{}");
    let trained = format!("t={}", place.path("trained"));
    has(&bad(&["--method", &trained]), &["a training", "--adapter"]);
}

#[test]
fn run_folders_are_listed_with_their_state() {
    let place = Place::new();
    place.label_run("a/one", 3, MOST);
    place.write("a/one/eval.json", r#"{"accuracy": 0.875}"#);
    place.write("a/one/summary.json", r#"{"score": -1.25}"#);
    let train = manifest("train", 0, json!({"task": "sentiment", "data": "d/t.jsonl"}), "x");
    place.write("b/manifest.json", &train.to_string());
    place.write("b/metrics.jsonl", "{\"step\": 1}\n{\"step\": 2}\n{\"ste");
    let filter = manifest("filter", 0, json!({"task": "sentiment"}), "x");
    place.write("c/manifest.json", &filter.to_string());
    place.write("c/journal.jsonl", "{}\n{}\n{}\n");
    place.write("d/manifest.json", &filter.to_string());
    place.write("d/timing.json", "{}");
    place.write("e/manifest.json", "{\"command\": \"la");
    place.write("other/manifest.json", r#"{"name": "a web page"}"#);
    place.write("f/manifest.json/inner.txt", "a folder of that name");
    place.write("notes.txt", "no folder");
    #[cfg(unix)]
    std::os::unix::fs::symlink(place.dir.path(), place.at("a/loop")).unwrap();

    let found = find_runs(place.dir.path()).unwrap();
    let names: Vec<String> = found
        .iter()
        .map(|run| run.path.strip_prefix(place.dir.path()).unwrap().display().to_string())
        .collect();
    assert_eq!(names, ["a/one", "b", "c", "d", "e"]);
    assert_eq!(found[0].state, RunState::Complete);
    assert_eq!(
        (found[0].accuracy, found[0].score, found[0].seed),
        (Some(0.875), Some(-1.25), Some(3))
    );
    assert_eq!(found[0].model.as_deref(), Some("tiny"));
    let progress = |index: usize| match &found[index].state {
        RunState::Unfinished { progress } => progress.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(progress(1).as_deref(), Some("step 2"));
    assert_eq!(progress(2).as_deref(), Some("3 answers"));
    for (index, part) in [(3, "summary.json is missing"), (4, "manifest.json: not JSON")] {
        match &found[index].state {
            RunState::Damaged { reason } => has(reason, &[part]),
            other => panic!("{other:?}"),
        }
    }

    let root = place.dir.path().display().to_string();
    let table = good(&["runs", &root]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 6);
    has(
        lines[1],
        &["a/one", "label zero-shot", "sentiment", "a.jsonl", "-1.250", "87.5 %", "complete"],
    );
    has(lines[2], &["train", "unfinished (step 2)"]);
    let at = |line: &str, word: &str| line.find(word).unwrap();
    assert_eq!(at(lines[0], "command"), at(lines[2], "train"), "columns are aligned");
    let list: Vec<Value> = serde_json::from_str(&good(&["runs", &root, "--json"])).unwrap();
    assert_eq!((&list[1]["state"], &list[1]["progress"]), (&json!("unfinished"), &json!("step 2")));
    let digests = good(&["runs", &root, "--digest"]);
    has(&digests, &[found[0].digest.as_deref().unwrap()]);
    assert_eq!(w2s(&["runs", &place.path("nowhere")]).status.code(), Some(1));
    assert_eq!(good(&["runs", &place.path("f")]), "");
}

fn read(path: &Path) -> Manifest {
    serde_json::from_str(&fs::read_to_string(path.join("manifest.json")).unwrap()).unwrap()
}

/// What has no part in a run's result has none in its digest, and what has, has.
#[test]
fn a_digest_tells_what_a_run_is_and_not_where_it_lies() {
    let settings = json!({"task": "sentiment", "data": "data/a.jsonl", "model": "models/tiny",
        "device": "cuda:0", "search": {"alpha": 50.0, "beta": 1}, "labels": "data/a.jsonl"});
    let of = |value: &Value| serde_json::from_value::<Manifest>(value.clone()).unwrap().digest();
    let plain = manifest("label", 0, settings, "t");
    let digest = of(&plain);
    assert_eq!((digest.len(), of(&plain)), (64, digest.clone()));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut other = plain.clone();
        change(&mut other);
        of(&other)
    };
    // Elsewhere, with the same contents.
    let moved = |value: &mut Value| {
        value["settings"]["data"] = "/else/where.jsonl".into();
        value["settings"]["labels"] = "/else/where.jsonl".into();
        value["inputs"][0]["path"] = "/else/where.jsonl".into();
        value["settings"]["model"] = "/m/of/another/name/".into();
        value["inputs"][2]["path"] = "/m/of/another/name/config.json".into();
        value["command_line"] = json!(["w2s", "label", "--out", "x"]);
    };
    assert_eq!(changed(&moved), digest);
    let same: [&dyn Fn(&mut Value); 4] = [
        &|value| value["versions"]["num_threads"] = 8.into(),
        &|value| value["settings"]["device"] = "cuda:1".into(),
        &|value| value["settings"]["search"] = json!({"beta": 1, "alpha": 50.0}),
        &|value| {
            let inputs = value["inputs"].as_array_mut().unwrap();
            inputs.reverse();
        },
    ];
    for change in same {
        assert_eq!(changed(change), digest);
    }
    let other: [&dyn Fn(&mut Value); 8] = [
        &|value| value["command"] = "train".into(),
        &|value| value["seed"] = 1.into(),
        &|value| value["settings"]["search"]["alpha"] = 30.0.into(),
        &|value| value["settings"]["device"] = "cpu".into(),
        &|value| value["settings"]["labels"] = "gold".into(),
        &|value| value["inputs"][2]["sha256"] = "cc".into(),
        &|value| value["gold_used"] = "as demonstrations".into(),
        &|value| value["versions"]["w2s"] = "0.2.0".into(),
    ];
    let mut digests: Vec<String> = other.iter().map(|change| changed(*change)).collect();
    digests.push(digest);
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 9);
}

#[test]
fn complete_runs_are_found_by_digest() {
    let place = Place::new();
    place.label_run("x/later", 0, MOST);
    place.label_run("x/first", 0, MOST);
    place.label_run("x/another", 1, MOST);
    let digest = read(&place.at("x/later")).digest();
    let root = place.dir.path();
    assert_eq!(find_run(root, &digest).unwrap(), Some(place.at("x/first")));
    fs::remove_file(place.at("x/first/timing.json")).unwrap();
    assert_eq!(find_run(root, &digest).unwrap(), Some(place.at("x/later")));
    assert_eq!(find_run(root, "0").unwrap(), None);
    assert_eq!(find_run(&place.at("nowhere"), &digest).unwrap(), None);
}
