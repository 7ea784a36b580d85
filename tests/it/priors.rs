//! `--prior` and the permuted labels, end to end on scores that the test sets.

use std::collections::BTreeMap;

use crate::cli::{Place, has, text, w2s};
use crate::common::tiny;
use w2s::data::{Example, Task};
use w2s::label::{BatchSize, IcmSettings, Method, label};
use w2s::run::SeedStream;
use w2s::score::{Calibration, Prior, Question, TableScorer};

const NUM: usize = 40;

/// Log-odds of `positive`: 36 of 40 texts are positive, by a nat about a bias of 2.
fn log_odds(number: usize) -> f64 {
    let wobble = ((number * 7) % 11) as f64 / 20.0 - 0.25;
    2.0 + wobble + if number % 10 == 3 { -1.0 } else { 1.0 }
}

fn examples() -> Vec<Example> {
    (0..NUM)
        .map(|number| Example {
            id: format!("i{number}"),
            fields: BTreeMap::from([("text".to_owned(), format!("text {number}."))]),
            options: Vec::new(),
            paraphrases: Vec::new(),
            group: None,
            key: None,
            line: number + 1,
        })
        .collect()
}

/// The share of `positive`, and the summary, by the question alone.
fn labelled(method: &Method) -> (Vec<String>, w2s::label::Summary) {
    let task = Task::load("sentiment").unwrap();
    let mut scorer = TableScorer::new(|prompt: &str, _: &Question| {
        let asked = prompt.rsplit("text ").next().unwrap();
        let number: usize = asked.split('.').next().unwrap().parse().unwrap();
        let odds = log_odds(number);
        vec![-(odds.exp().ln_1p()), -((-odds).exp().ln_1p())]
    });
    let found = label(&task, &examples(), method, SeedStream::new(0), &mut scorer, &mut |_| Ok(()))
        .unwrap();
    (found.records.into_iter().map(|record| record.label).collect(), found.summary)
}

fn num_positive(prior: Prior) -> usize {
    let method = Method::ZeroShot { calibration: Calibration::Batch, prior };
    labelled(&method).0.iter().filter(|label| *label == "positive").count()
}

#[test]
fn given_shares_are_the_labels_shares() {
    // By the number of the label: negative, positive.
    for (share, num) in [(0.1, 36), (0.5, 20), (0.9, 4)] {
        let found = num_positive(Prior::Given(vec![share, 1.0 - share]));
        assert!(found.abs_diff(num) <= 1, "{found} positive, expected {num}");
    }
    // The model's own answers are all positive. Equal shares call some of the positive texts negative,
    // and estimated ones fewer of them.
    let (equal, estimated) = (num_positive(Prior::Equal), num_positive(Prior::Estimated));
    assert!(equal < 36 && equal <= estimated && estimated <= 36, "{equal}, {estimated}");
    let method = Method::ZeroShot { calibration: Calibration::Batch, prior: Prior::Equal };
    let raw = labelled(&method).1.uncalibrated_share.unwrap();
    assert_eq!(raw["positive"], 1.0);
}

#[test]
fn a_search_takes_given_and_estimated_shares() {
    for prior in [Prior::Given(vec![0.1, 0.9]), Prior::Estimated] {
        let settings = IcmSettings {
            prior,
            calibration: Calibration::Batch,
            iterations: 400,
            ..IcmSettings::default()
        };
        let method =
            Method::Icm { settings, rules: Vec::new(), batch_size: BatchSize::AtMost(NUM) };
        let (labels, summary) = labelled(&method);
        assert_eq!(labels.len(), NUM);
        // The texts alone decide here, so labels that are permuted over them are worse.
        let best = summary.permuted_scores.unwrap().into_iter().fold(f64::MIN, f64::max);
        assert!(summary.score.unwrap() > best);
        // Under uneven shares one label for all is no coin toss, so it is shown.
        let constants = summary.constant_scores.unwrap();
        assert!(constants.values().all(|u| u.as_f64().unwrap() < summary.score.unwrap()));
    }
}

/// Eight times the same text gets one label with any calibration; the way out that the warning names is not
/// the calibration that the run has.
#[test]
fn one_label_for_all_names_no_remedy_that_is_in_use() {
    let place = Place::new();
    let line = |id: usize| format!("{{\"id\":{id},\"text\":\"a film\"}}\n");
    let data = place.write("same.jsonl", (0..8).map(line).collect::<String>());
    let model = tiny("llama").display().to_string();
    for (calibrate, is_named) in [("none", true), ("batch", false), ("content-free", false)] {
        let out = place.path(calibrate);
        let told = w2s(&[
            "label",
            "--model",
            &model,
            "--task",
            "sentiment",
            "--data",
            &data,
            "--out",
            &out,
            "--method",
            "zero-shot",
            "--calibrate",
            calibrate,
        ]);
        let told = text(&told.stderr);
        has(&told, &["nearly all examples got the same label", "consistency rule"]);
        assert_eq!(told.contains("try `--calibrate batch`"), is_named, "{calibrate}: {told}");
    }
}
