//! The work of fixed runs, counted: a change that makes one of them cost more, or less, is made on
//! purpose or not at all.
//!
//! The runs are planned, not run: prompts, orders, searches and batches are those of a real run, and the
//! answers are the same on every processor. Where a change is meant, run the test once with
//! `W2S_RENEW_WORK=1` and look at what git shows of `tests/data/work.json`.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use w2s::label::{Block, IcmSettings};

use crate::blocks;
use crate::cli::{Place, good};
use crate::common::{project, tiny};
use crate::search::plain;

/// What is held.
const COUNTS: [&str; 5] = ["num_tokens", "num_pairs", "num_rows", "num_passes", "num_trained"];
/// Most that a count may change.
const MOST: f64 = 0.01;

/// Name and words of each run; `REVIEWS` and `GOLD` are the demo's 32 reviews.
const RUNS: [(&str, &str); 14] = [
    ("zero-shot", "label --method zero-shot"),
    ("zero-shot, content-free", "label --method zero-shot --calibrate content-free"),
    ("few-shot, all by halves", "label --method few-shot --demonstrations GOLD"),
    (
        "few-shot, in the data's order",
        "label --method few-shot --demonstrations GOLD --order dataset",
    ),
    ("few-shot, 7 of them", "label --method few-shot --demonstrations GOLD --num-demonstrations 7"),
    ("search, default", "label"),
    ("search, no groups", "label --consistency none"),
    ("search, single proposals", "label --block 1 --iterations 50"),
    ("search, no checks", "label --no-order-check --null-permutations 0"),
    ("search, 7 demonstrations", "label --num-demonstrations 7"),
    ("search, prequential", "label --objective prequential"),
    ("search, the authors' code", "label --preset icm-code --iterations 60"),
    ("filter", "filter --entropy --answers soft --max-entropy 0.5"),
    ("train", "train --labels gold --gold GOLD --epochs 2"),
];

/// A tiny model without a limit that the reviews reach.
fn model(place: &Place) -> String {
    let folder = place.folder.path().join("model");
    fs::create_dir(&folder).unwrap();
    let config = fs::read_to_string(tiny("llama").join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["max_position_embeddings"] = 32768.into();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("random_weights.json"), r#"{"seed": 1}"#).unwrap();
    fs::copy(tiny("llama").join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    folder.display().to_string()
}

fn counted() -> BTreeMap<String, BTreeMap<String, u64>> {
    let place = Place::new();
    let model = model(&place);
    let demo = |name: &str| project().join("data/demo").join(name).display().to_string();
    let (reviews, gold) = (demo("reviews.jsonl"), demo("reviews.gold.jsonl"));
    let mut all = BTreeMap::new();
    for (name, words) in RUNS {
        let mut args = vec!["plan", "--measure", "0", "--json", "--"];
        args.extend(words.split(' ').map(|word| if word == "GOLD" { &gold } else { word }));
        args.extend(["--model", &model, "--task", "sentiment", "--data", &reviews, "--out", "run"]);
        args.extend(["--dtype", "f32", "--device", "cpu"]);
        let planned: Value = serde_json::from_str(&good(&args)).unwrap();
        let count = |key: &str| (key.to_owned(), planned["total"][key].as_u64().unwrap());
        all.insert(name.to_owned(), COUNTS.into_iter().map(count).collect());
    }
    // Searches whose answers hang on the labels.
    for (name, block) in [("by one", Block::Size(1)), ("by blocks", Block::Auto)] {
        let settings = || IcmSettings { block, ..plain() };
        let passes = (0..8).map(|seed| blocks::num_passes(settings(), 16, seed)).sum();
        let counts = BTreeMap::from([("num_passes".to_owned(), passes)]);
        all.insert(format!("eight searches {name}"), counts);
    }
    all
}

#[test]
fn fixed_runs_cost_what_they_cost() {
    let path = project().join("tests/data/work.json");
    let now = counted();
    if std::env::var_os("W2S_RENEW_WORK").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let held: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(held.keys().collect::<Vec<_>>(), now.keys().collect::<Vec<_>>());
    let mut moved = String::new();
    for (name, counts) in &held {
        for (key, &count) in counts {
            let (before, after) = (count as f64, now[name][key] as f64);
            if (after - before).abs() > MOST * before {
                moved += &format!("{name}: {key} {before} -> {after}\n");
            }
        }
    }
    assert!(
        moved.is_empty(),
        "{moved}if this is meant: W2S_RENEW_WORK=1 cargo test --test it work_gate"
    );
}
