//! Runs that know what they are: shown, followed by a training, followed by its model, made again.

use std::path::Path;

use serde_json::Value;

use crate::cli::{Place, bad, good, has, strs, text, w2s, with};
use crate::common::{project, tiny};

fn json(place: &Place, file: &str) -> Value {
    serde_json::from_str(&place.read(file)).unwrap()
}

#[test]
fn a_training_follows_its_labels_and_the_student_its_model() {
    let place = Place::new();
    let model = tiny("llama").display().to_string();
    good(&strs(&place.label("zs", &["--method", "zero-shot"])));
    let (labels, student) = (place.path("zs"), place.path("student"));
    let begin = ["train", &labels, "--model", &model, "--out", &student];
    let output = w2s(&[&begin[..], &["--epochs", "1"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    has(
        &said,
        &[
            "task gsm8k-verification, data ",
            "zs/labels.jsonl",
            "the training changed little: 1 steps",
        ],
    );
    has(&said, &["next: w2s label --adapter ", "student-labels"]);
    let settings = json(&place, "student/manifest.json")["settings"].clone();
    assert_eq!(settings["task"], "gsm8k-verification");
    assert_eq!(settings["data"], place.path("claims.jsonl"));
    assert_eq!(settings["labels"], place.path("zs/labels.jsonl"));

    // The same training, typed in full, is the same run.
    let (data, other) = (place.path("claims.jsonl"), place.path("other"));
    good(&[
        "train",
        "--model",
        &model,
        "--task",
        "gsm8k-verification",
        "--data",
        &data,
        "--labels",
        &labels,
        "--epochs",
        "1",
        "--out",
        &other,
    ]);
    assert_eq!(place.read("student/metrics.jsonl"), place.read("other/metrics.jsonl"));

    // Its adapter knows the model.
    let out = place.path("by-student");
    let label = [
        "label",
        "--adapter",
        &student,
        "--task",
        "gsm8k-verification",
        "--data",
        &data,
        "--method",
        "zero-shot",
        "--out",
        &out,
    ];
    let output = w2s(&label);
    assert!(output.status.success(), "{}", text(&output.stderr));
    has(&text(&output.stderr), &[&format!("model {model}, as {student} was trained on it")]);
    assert_eq!(json(&place, "by-student/manifest.json")["settings"]["model"], model);
    good(&["merge", &student]);
    assert!(Path::new(&place.path("student-merged/model.safetensors")).is_file());

    // Neither is guessed where nothing says it.
    let none = w2s(&["label", "--task", "claims", "--data", &data, "--out", &place.path("none")]);
    assert_eq!(none.status.code(), Some(2));
    has(&text(&none.stderr), &["`--model DIR` is missing", "--adapter RUN"]);
    has(&bad(&["train", &student, "--model", &model, "--out", &out]), &["has no labels"]);
    let alone = w2s(&["train", "--model", &model, "--out", &out]);
    has(&text(&alone.stderr), &["--task <TASK>", "--data <FILE>"]);
}

#[test]
fn a_filtered_run_is_learnt_with_its_answers() {
    let place = Place::new();
    let (model, data) = (tiny("llama").display().to_string(), place.path("claims.jsonl"));
    let weak = place.path("weak");
    good(&[
        "filter",
        "--entropy",
        "--model",
        &model,
        "--task",
        "claims",
        "--data",
        &data,
        "--out",
        &weak,
    ]);
    good(&[
        "train",
        &weak,
        "--model",
        &model,
        "--reweight",
        "--epochs",
        "1",
        "--out",
        &place.path("s"),
    ]);
    let settings = json(&place, "s/manifest.json")["settings"].clone();
    assert_eq!(settings["answers"], place.path("weak/answers.jsonl"));
    assert_eq!(settings["labels"], place.path("weak/kept.jsonl"));
}

#[test]
fn a_run_says_when_where_and_what_it_is() {
    let place = Place::new();
    let words = place.label("zs", &["--method", "zero-shot"]);
    good(&strs(&words));
    let origin = json(&place, "zs/manifest.json")["origin"].clone();
    let date = origin["date"].as_str().unwrap();
    assert!(date.len() == 20 && date.starts_with("20") && date.ends_with('Z'), "{date}");
    assert_eq!(origin["folder"], project().display().to_string());
    // Neither going on nor the digest minds when and where it was.
    let run = place.path("zs");
    let digest = good(&["runs", &run, "--digest"]);
    let manifest = place.read("zs/manifest.json").replace(date, "1999-01-01T00:00:00Z");
    place.write("zs/manifest.json", manifest);
    assert_eq!(good(&["runs", &run, "--digest"]), digest);
    good(&[&strs(&words)[..], &["--resume"]].concat());

    let shown = good(&["show", &run]);
    has(
        &shown,
        &["w2s label (zero-shot), complete", "1999-01-01 00:00:00 UTC, took ", "gold     not used"],
    );
    has(
        &shown,
        &[
            "task gsm8k-verification",
            "6 examples: ",
            "typed    w2s label --model ",
            "verdict  not checked",
        ],
    );
    has(&shown, &["next     w2s eval ", "w2s train "]);
    let json: Value = serde_json::from_str(&good(&["show", &run, "--json"])).unwrap();
    assert_eq!(json["state"], "complete");
    assert_eq!(json["digest"], digest.split_whitespace().next().unwrap());

    // An unfinished run is shown too, with how to go on.
    std::fs::remove_file(place.path("zs/timing.json")).unwrap();
    let shown = good(&["show", &run]);
    has(&shown, &["unfinished", "--resume\n"]);
    has(&bad(&["show", &place.path("nothing")]), &["there is no run in this folder", "w2s runs"]);
}

#[test]
fn a_run_is_made_again_with_other_options() {
    let place = Place::new();
    good(&strs(&place.label("icm", &["--iterations", "5", "--no-order-check"])));
    let (run, again, other) = (place.path("icm"), place.path("again"), place.path("other"));
    good(&["rerun", &run, "--out", &again]);
    assert_eq!(place.read("again/labels.jsonl"), place.read("icm/labels.jsonl"));
    assert_eq!(place.read("again/trace.jsonl"), place.read("icm/trace.jsonl"));
    good(&["rerun", &again, "--seed=7", "--iterations", "4", "--out", &other]);
    let manifest = json(&place, "other/manifest.json");
    assert_eq!(manifest["seed"], 7);
    assert_eq!(manifest["settings"]["search"]["iterations"], 4);
    assert_eq!(manifest["settings"]["search"]["num_seed"], 4);
    // What it is does not depend on how it was typed.
    let typed = with(
        &place.label("typed", &["--iterations", "4", "--no-order-check", "--seed", "7"]),
        "--num-seed",
        "4",
    );
    good(&strs(&typed));
    let digest = |name: &str| {
        good(&["runs", &place.path(name), "--digest"]).split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(digest("other"), digest("typed"));
    let output = w2s(&["rerun", &run]);
    assert_eq!(output.status.code(), Some(2));
    has(&text(&output.stderr), &["`--out NEW` is missing"]);
    has(&text(&w2s(&["rerun", &run, "--out", &other, "--nonsense"]).stderr), &["--nonsense"]);
}

#[test]
fn a_start_that_fails_leaves_nothing_and_a_folder_is_refused_first() {
    let place = Place::new();
    let long = place.label("short", &["--method", "zero-shot", "--max-context", "3"]);
    has(&bad(&strs(&long)), &["expected at most 3"]);
    assert!(!Path::new(&place.path("short")).exists());
    good(&strs(&place.label("short", &["--method", "zero-shot"])));
    // A run is in the way of another before data and model are looked at.
    let elsewhere = with(&place.label("short", &[]), "--data", "/nowhere.jsonl");
    let elsewhere = with(&elsewhere, "--model", "/nowhere");
    has(&bad(&strs(&elsewhere)), &["the folder already holds a run"]);
}

#[test]
fn labels_that_are_no_better_than_blind_are_called_so() {
    let place = Place::new();
    good(&strs(&place.label("zs", &["--method", "zero-shot"])));
    let output = w2s(&["eval", &place.path("zs"), "--gold", &place.path("claims.jsonl")]);
    // Six labels of a random model: half right.
    has(&text(&output.stderr), &["cannot be told from", "95 % interval"]);
}
