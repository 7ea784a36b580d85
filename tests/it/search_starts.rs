//! Searches that take something from gold, through the program: they are marked.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{Place, good, strs, text, w2s};
use crate::search_options::json;

/// Id and label at the start, and the inconsistency counted there.
fn started(place: &Place, run: &str) -> (BTreeMap<String, String>, u64) {
    let trace = place.read(&format!("{run}/trace.jsonl"));
    let line: Value = serde_json::from_str(trace.lines().next().unwrap()).unwrap();
    assert_eq!(line["event"], "start");
    let pair =
        |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned());
    let labels = line["labels"].as_array().unwrap().iter().map(pair).collect();
    (labels, line["inconsistency"].as_u64().unwrap())
}

const GOLD: [(&str, bool); 6] =
    [("a", true), ("b", false), ("c", true), ("d", false), ("e", true), ("f", false)];

#[test]
fn starts_from_gold_are_marked() {
    let place = Place::new();
    let gold: String = GOLD[..5]
        .iter()
        .map(|(id, label)| format!("{{\"id\": \"{id}\", \"label\": {label}}}\n"))
        .collect();
    let gold = place.write("gold.jsonl", gold);
    // No gold in the data itself.
    let claims = place.read("claims.jsonl");
    let bare: String = claims
        .lines()
        .map(|line| {
            let mut record: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            record.remove("label");
            serde_json::to_string(&record).unwrap() + "\n"
        })
        .collect();
    for (init, inverted) in [("golden", false), ("worst", true)] {
        // As the published data has it, in the file of the examples, and in a file of its own.
        for (file, contents) in [("inside", &claims), ("apart", &bare)] {
            place.write("claims.jsonl", contents);
            let out = format!("{init}-{file}");
            // Nothing repaired, so that the start is seen as it was given.
            let mut more = vec!["--init", init, "--num-seed", "6", "--consistency", "none"];
            if file == "apart" {
                more.extend(["--gold", &gold]);
            }
            // Given twice, the last wins.
            let args = place.label(&out, &more);
            let args: Vec<String> = remove_first(args, "--num-seed");
            let output = w2s(&strs(&args));
            let message = text(&output.stderr);
            assert!(output.status.success(), "{message}");
            assert!(message.contains("warning: gold is used: "), "{message}");
            let manifest = json(&place, &format!("{out}/manifest.json"));
            let reason = manifest["gold_used"].as_str().unwrap();
            assert!(reason.contains(&format!("--init {init}")), "{reason}");
            assert_eq!(manifest["settings"]["search"]["init"], init);
            let num = if file == "apart" { 5 } else { 6 };
            assert_eq!(reason.contains("gold.jsonl"), file == "apart", "{reason}");
            let (labels, _) = started(&place, &out);
            assert_eq!(labels.len(), num);
            for (id, label) in &GOLD[..num] {
                let expected = if *label != inverted { "True" } else { "False" };
                assert_eq!(labels[*id], expected, "{init} {id}");
            }
        }
    }
}

/// The command without the first of an option that is given twice, and its value.
fn remove_first(mut args: Vec<String>, name: &str) -> Vec<String> {
    let at = args.iter().position(|arg| arg == name).unwrap();
    args.drain(at..at + 2);
    args
}

/// With more than two labels, a wrong one that is not always the same.
#[test]
fn the_worst_of_several_labels_is_a_wrong_one() {
    let place = Place::new();
    let names = ["world", "sports", "business", "science"];
    let lines: String = (0..40)
        .map(|i| format!("{{\"id\": \"e{i}\", \"text\": \"n {i}\", \"label\": {}}}\n", i % 4))
        .collect();
    let data = place.write("news.jsonl", lines);
    let model = crate::common::tiny("llama").display().to_string();
    let mut distances = BTreeMap::new();
    for seed in ["0", "0", "1"] {
        let out = place.path(&format!("run{}", distances.len()));
        good(&[
            "label",
            "--model",
            &model,
            "--task",
            "ag-news",
            "--data",
            &data,
            "--out",
            &out,
            "--init",
            "worst",
            "--num-seed",
            "40",
            "--iterations",
            "0",
            "--seed",
            seed,
            "--force",
            "--batch-size",
            "8",
        ]);
        let trace = std::fs::read_to_string(format!("{out}/trace.jsonl")).unwrap();
        let mut found = Vec::new();
        for line in trace.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            for pair in event["labels"].as_array().into_iter().flatten() {
                let number: usize = pair[0].as_str().unwrap()[1..].parse().unwrap();
                let label = names.iter().position(|name| *name == pair[1]).unwrap();
                assert_ne!(label, number % 4, "e{number}");
                found.push((number, (label + 4 - number % 4) % 4));
            }
        }
        found.sort_unstable();
        assert_eq!(found.len(), 40);
        for distance in 1..4 {
            assert!(found.iter().any(|(_, d)| *d == distance), "{found:?}");
        }
        let before = distances.insert(seed, found.clone());
        assert!(before.is_none_or(|before| before == found));
    }
    assert_ne!(distances["0"], distances["1"]);
}

/// Two of one group: of one gold label, the labels must agree; of two, not both may be true.
#[test]
fn leaky_keys_are_the_published_ones_and_are_marked() {
    let place = Place::new();
    let gold = [true, true, false, false, true, false];
    let lines: String = gold
        .iter()
        .enumerate()
        .map(|(i, label)| {
            format!(
                "{{\"id\": \"e{i}\", \"question\": \"q\", \"choice\": \"c {i}\", \
                 \"consistency_id\": {}, \"label\": {label}}}\n",
                i / 3
            )
        })
        .collect();
    place.write("claims.jsonl", lines);
    let mut num_violated = 0;
    for seed in ["0", "1", "2", "3"] {
        let out = format!("leaky{seed}");
        let more = [
            "--consistency",
            "leaky-reference",
            "--consistency-fix-iterations",
            "0",
            "--init",
            "unbalanced",
            "--iterations",
            "0",
            "--seed",
            seed,
        ];
        let mut args = place.label(&out, &more);
        let at = args.iter().position(|arg| arg == "--task").unwrap();
        args[at + 1] = "truthfulqa".to_owned();
        let at = args.iter().position(|arg| arg == "--num-seed").unwrap();
        args[at + 1] = "6".to_owned();
        let output = w2s(&strs(&args));
        let message = text(&output.stderr);
        assert!(output.status.success(), "{message}");
        assert!(message.contains("warning: gold is used: "), "{message}");
        let manifest = json(&place, &format!("{out}/manifest.json"));
        assert!(manifest["gold_used"].as_str().unwrap().contains("leaky-reference"));
        assert_eq!(manifest["settings"]["consistency_keys"], "leaky-reference");
        let rules = manifest["settings"]["consistency"].clone();
        assert_eq!(rules, serde_json::json!(["contradiction", "implication"]));
        let (labels, inconsistency) = started(&place, &out);
        let is_true = |i: usize| labels[&format!("e{i}")] == "True";
        let mut expected = 0;
        for i in 0..6 {
            for j in i + 1..6 {
                let violated = if gold[i] == gold[j] {
                    is_true(i) != is_true(j)
                } else {
                    is_true(i) && is_true(j)
                };
                expected += u64::from(i / 3 == j / 3 && violated);
            }
        }
        assert_eq!(inconsistency, expected, "{labels:?}");
        num_violated += expected;
    }
    assert!(num_violated > 0);
    // The same keys compare in a task of preferences, where one of two must be true.
    let pair = |id: &str, group: u8, label: bool| {
        format!(
            "{{\"id\": \"{id}\", \"question\": \"q\", \"choice\": \"{id} 1\", \"choice_2\": \"{id} 2\", \
             \"consistency_id\": {group}, \"label\": {label}}}\n"
        )
    };
    let lines =
        pair("a", 1, true) + &pair("b", 1, false) + &pair("c", 2, false) + &pair("d", 2, true);
    place.write("claims.jsonl", lines);
    let mut args = place.label("pairs", &["--consistency", "leaky-reference", "--iterations", "0"]);
    let at = args.iter().position(|arg| arg == "--task").unwrap();
    args[at + 1] = "truthfulqa-preference".to_owned();
    good(&strs(&args));
    let rules = json(&place, "pairs/manifest.json")["settings"]["consistency"].clone();
    assert_eq!(rules, serde_json::json!(["asymmetry", "implication"]));
}
