//! `w2s train --sample`: the rows that `w2s filter --do-sampling` drew, each as often as it was drawn.

use serde_json::Value;

use crate::cli::{Place, good, strs, text, w2s};
use crate::filter_runs::filter;
use crate::processes::{lines, weights_apart};
use crate::train_runs::train;

const PROMPT: &str = "Question: 1+1? Claim: 2 I think this claim is ";

fn run(place: &Place, out: &str, more: &[&str]) -> Vec<u8> {
    good(&strs(&train(place, out, more)));
    std::fs::read(place.path(&format!("{out}/adapter_model.safetensors"))).unwrap()
}

fn summary(place: &Place, run: &str) -> Value {
    serde_json::from_str(&place.read(&format!("{run}/summary.json"))).unwrap()
}

/// Five answers to three questions.
fn answers(place: &Place) -> String {
    let line = |(id, variant, answer): (&str, usize, &str)| {
        format!(
            "{{\"id\": \"{id}\", \"variant\": {variant}, \"prompt\": \"{id}: {PROMPT}\", \"answer\": {answer}}}\n"
        )
    };
    let rows = [
        ("a", 0, "\"True\""),
        ("a", 1, "\"False\""),
        ("a", 2, "null"),
        ("b", 0, "\"False\""),
        ("c", 0, "\"True\""),
    ];
    place.write("answers.jsonl", rows.map(line).concat())
}

fn sample(place: &Place, rows: &[(&str, usize, &str)]) -> String {
    let line = |(id, variant, answer): &(&str, usize, &str)| {
        format!(
            "{{\"id\": \"{id}\", \"variant\": {variant}, \"answer\": \"{answer}\", \"weight\": 0.5}}\n"
        )
    };
    place.write("sample.jsonl", rows.iter().map(line).collect::<String>())
}

/// Every row once is no sample; a row that is drawn twice weighs twice; one not drawn is not there.
#[test]
fn a_row_is_learnt_as_often_as_it_was_drawn() {
    let place = Place::new();
    let answers = answers(&place);
    let more = ["--answers", &answers, "--lora-dropout", "0", "--batch-size", "9"];
    let with = |extra: &[&str]| run(&place, "x", &[more.as_slice(), extra, &["--force"]].concat());
    let plain = with(&[]);
    let all = [("a", 0, "True"), ("a", 1, "False"), ("b", 0, "False"), ("c", 0, "True")];
    let once = sample(&place, &all);
    assert_eq!(plain, with(&["--sample", &once]));

    let drawn = [("c", 0, "True"), ("a", 1, "False"), ("c", 0, "True"), ("c", 0, "True")];
    let drawn = sample(&place, &drawn);
    let normalise = ["--normalise", "weighted"];
    let more = [more.as_slice(), &normalise].concat();
    run(&place, "drawn", &[more.as_slice(), &["--sample", &drawn]].concat());
    assert_eq!(summary(&place, "drawn")["num_items"], 4);
    let weights = place.write(
        "weights.jsonl",
        r#"{"id": "a", "variant": 0, "weight": 0}
{"id": "a", "variant": 1, "weight": 1}
{"id": "b", "weight": 0}
{"id": "c", "weight": 3}
"#,
    );
    run(&place, "weighed", &[more.as_slice(), &["--weights", &weights]].concat());
    assert_eq!(summary(&place, "weighed")["num_items"], 2);
    let [drawn, weighed] = ["drawn", "weighed"].map(|run| lines(&place, run));
    assert_eq!(drawn.len(), weighed.len());
    for (a, b) in drawn.iter().zip(&weighed) {
        let (a, b) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-5 * a, "{a} and {b}");
    }
    assert!(weights_apart(&place, "drawn", "weighed") < 2e-5);
    // Three rows of one question are run once.
    let summary = summary(&place, "drawn");
    assert!(summary["tokens_run"].as_u64() < summary["tokens_without_sharing"].as_u64());
}

/// What a filter draws is learnt with its weights, beside what it sets aside; no gold has a part.
#[test]
fn a_sample_of_a_filter_run_is_learnt() {
    let place = Place::new();
    let draw = ["--do-sampling", "--keep-fraction", "1", "--validation-fraction", "0.3"];
    good(&strs(&filter(&place, "weak", &draw)));
    let file = |name: &str| place.path(&format!("weak/{name}"));
    let [answers, kept, weights, sample, data] = [
        "weak/answers.jsonl",
        "weak/kept.jsonl",
        "weak/weights.jsonl",
        "weak/sample.jsonl",
        "q.jsonl",
    ]
    .map(|name| place.path(name));
    assert_eq!(file("sample.jsonl"), sample);
    let num_drawn = place.read("weak/sample.jsonl").lines().count();
    assert_eq!(num_drawn, 4);
    let model = crate::common::tiny("llama").display().to_string();
    let train = |out: &str, more: &[&str]| {
        let out = place.path(out);
        let common = ["train", "--model", &model, "--task", "multiple-choice", "--data", &data];
        let files = ["--answers", &answers, "--labels", &kept, "--out", &out];
        good(&[common.as_slice(), &files, more].concat());
    };
    train("sampled", &["--sample", &sample, "--weights", &weights]);
    let [of_sample, of_all] = {
        train("all", &["--weights", &weights]);
        ["sampled", "all"].map(|run| summary(&place, run))
    };
    assert_eq!(of_sample["num_items"], num_drawn);
    assert!(of_sample["num_validation"].as_u64().unwrap() > 0);
    assert_eq!(of_sample["num_validation"], of_all["num_validation"]);
    let manifest: Value = serde_json::from_str(&place.read("sampled/manifest.json")).unwrap();
    assert_eq!(manifest["gold_used"], false);
    let inputs = manifest["inputs"].as_array().unwrap();
    assert!(inputs.iter().any(|input| input["role"] == "sample"));
}

#[test]
fn samples_of_other_runs_are_refused() {
    let place = Place::new();
    let answers = answers(&place);
    let fails = |status: i32, more: &[&str], parts: &[&str]| {
        let output = w2s(&strs(&train(&place, "bad", more)));
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{message}");
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in:\n{message}");
        }
    };
    let with = |rows: &[(&str, usize, &str)], parts: &[&str]| {
        let sample = sample(&place, rows);
        fails(1, &["--answers", &answers, "--sample", &sample], parts);
    };
    with(&[("a", 7, "True"), ("c", 0, "True")], &["1 rows of the sample", "variant 7 of `a`"]);
    with(&[("c", 0, "False")], &["variant 0 of `c` has another answer in the sample"]);
    with(&[], &["the sample is empty", "--do-sampling"]);
    let drawn = sample(&place, &[("c", 0, "True")]);
    let kept = place.write("kept.jsonl", "{\"id\": \"a\", \"label\": \"True\"}\n");
    let more = ["--answers", &answers, "--labels", &kept, "--sample", &drawn];
    fails(1, &more, &["1 rows of the sample are not among the answers that are learnt"]);
    fails(2, &["--labels", &kept, "--sample", &drawn], &["--answers"]);
}
