//! Loops that are stopped, that change labels, that part learner and learnt, and that never see gold.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::{Place, good, strs, text, w2s};
use crate::loop_runs::{args, claims, json, labels, lines, results, same};

/// Each brake acts by its limit, the loop ends well, and what was good is kept.
#[test]
fn brakes_stop_the_loop_and_say_why() {
    let place = Place::new();
    let stopped = |out: &str, more: &[&str], brake: &str, round: u64| {
        let output = w2s(&strs(&args(&place, out, more)));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let record = json(&place, &format!("{out}/loop.json"));
        let reason = record["stopped"].as_str().unwrap();
        assert!(said.contains(&format!("stopped: {reason}")), "{said}");
        assert!(reason.starts_with(&format!("round {round}: ")), "{reason}");
        let rounds = lines(&place, &format!("{out}/rounds.jsonl"));
        let alarm = &rounds.last().unwrap()["alarm"];
        assert_eq!((&alarm["brake"], &alarm["message"]), (&brake.into(), &reason.into()));
        assert_eq!(record["last_good_round"], round - 1);
        assert!(!Path::new(&place.path(&format!("{out}/round-{}", round + 1))).exists());
        let kept = if round == 1 {
            BTreeMap::new()
        } else {
            labels(&place, &format!("{out}/round-1/label/labels.jsonl"))
        };
        assert_eq!(labels(&place, &format!("{out}/labels.jsonl")), kept);
        // It is complete: a stopped loop is not continued by accident.
        let again = w2s(&strs(&args(&place, out, &[more, &["--resume"]].concat())));
        assert!(text(&again.stderr).contains("complete; nothing to do"));
    };
    // A model that learnt nothing contradicts some of its labels.
    let idle = ["--set", "train.lr=1e-9", "--max-flip-rate", "0"];
    stopped("flips", &idle, "flip-rate", 1);
    assert!(Path::new(&place.path("flips/round-1/probe/labels.jsonl")).exists());
    // One that learns wildly answers otherwise after each round.
    let wild = ["--set", "train.lr=0.05", "--set", "train.clip=0", "--held-out", "0.5"];
    stopped("wild", &[wild.as_slice(), &["--min-agreement", "0.9"]].concat(), "agreement", 2);
    // Fifteen labels cannot be even.
    let odd: String = claims(|_| None).lines().take(15).map(|line| format!("{line}\n")).collect();
    place.write("data.jsonl", odd);
    let one = ["--held-out", "0", "--batches", "1", "--set", "label.num-seed=15"];
    let even = [one.as_slice(), &["--min-class-entropy", "1"]].concat();
    stopped("even", &even, "class-entropy", 1);
    assert!(!Path::new(&place.path("even/round-1/train")).exists());
}

#[test]
fn labels_are_flipped_and_dropped_by_the_student() {
    let place = Place::new();
    for (by, margin) in [("flip", 0.0), ("drop", 0.02)] {
        let out = format!("{by}ped");
        let more =
            ["--relabel", by, "--relabel-margin", &margin.to_string(), "--set", "train.lr=1e-4"];
        good(&strs(&args(&place, &out, &more)));
        let mut expected = labels(&place, &format!("{out}/round-1/label/labels.jsonl"));
        let (mut num, mut rounds) = (0, lines(&place, &format!("{out}/rounds.jsonl")));
        for round in [1, 2] {
            if round == 2 {
                expected.extend(labels(&place, &format!("{out}/round-2/label/labels.jsonl")));
            }
            let history = lines(&place, &format!("{out}/round-{round}/relabel/history.jsonl"));
            assert_eq!(history.len(), expected.len());
            let mut changed = 0;
            for line in history {
                let id = line["id"].as_str().unwrap();
                assert_eq!(line["before"], expected[id].as_str());
                let other = line["before"] != line["model"];
                if other && line["margin"].as_f64().unwrap() >= margin {
                    changed += 1;
                    match by {
                        "flip" => {
                            _ = expected.insert(id.into(), line["model"].as_str().unwrap().into())
                        }
                        _ => _ = expected.remove(id),
                    }
                }
            }
            let counted = if by == "flip" { "num_flipped" } else { "num_dropped" };
            assert_eq!(rounds[round - 1][counted].take(), changed);
            assert_eq!(
                labels(&place, &format!("{out}/round-{round}/relabel/labels.jsonl")),
                expected
            );
            num += changed;
        }
        assert!(num > 0, "nothing was {out}");
        assert_eq!(labels(&place, &format!("{out}/labels.jsonl")), expected);
    }
}

/// Each half is looked at by a model that never saw it.
#[test]
fn cross_fitting_parts_learner_and_learnt() {
    let place = Place::new();
    let more = ["--cross-fit", "--relabel", "flip", "--later", "predict"];
    good(&strs(&args(&place, "l", &more)));
    for round in [1, 2] {
        let [a, b] = ["a", "b"]
            .map(|half| labels_ids(&place, &format!("l/data/round-{round}-{half}.jsonl")));
        assert!(!a.is_empty() && !b.is_empty() && a.iter().all(|id| !b.contains(id)));
        for (half, own) in [("a", &a), ("b", &b)] {
            assert_eq!(
                labels_ids(&place, &format!("l/round-{round}/relabel-{half}/history.jsonl")),
                *own
            );
            let summary = json(&place, &format!("l/round-{round}/train-{half}/summary.json"));
            assert_eq!(summary["num_items"], own.len());
            let other = if half == "a" { "b" } else { "a" };
            let by = json(&place, &format!("l/round-{round}/relabel-{half}/manifest.json"));
            let by = by["settings"]["adapter"].as_str().unwrap().to_owned();
            assert!(by.ends_with(&format!("round-{round}/train-{other}")), "{by}");
        }
    }
    assert_eq!(lines(&place, "l/rounds.jsonl")[1]["method"], "zero-shot");
}

fn labels_ids(place: &Place, name: &str) -> Vec<String> {
    lines(place, name).into_iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

/// Gold inverted, and gold that is not there, change nothing of what a loop finds.
#[test]
fn a_loop_never_sees_gold() {
    let place = Place::new();
    let mut found = Vec::new();
    for (out, data) in [
        ("as-it-is", claims(|right| Some(right.into()))),
        ("inverted", claims(|right| Some((!right).into()))),
        ("removed", claims(|_| None)),
    ] {
        place.write("data.jsonl", data);
        good(&strs(&args(&place, out, &["--filter", "--reweight", "--relabel", "flip"])));
        found.push(results(Path::new(&place.path(out))));
    }
    same(&found[0], &found[1]);
    same(&found[0], &found[2]);
}
