//! The demo data is what its script says: balanced, joined by id, and silent about the labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use w2s::data::{Dataset, GoldLabels, Task};

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/demo").join(name)
}

/// Task, examples and their gold labels.
fn load(task: &str, name: &str) -> (Task, Dataset, Vec<usize>) {
    let task = Task::load(task).expect("a built-in task loads");
    let data = Dataset::read(demo(&format!("{name}.jsonl")), &task).expect("demo data loads");
    let gold = GoldLabels::read(demo(&format!("{name}.gold.jsonl")), &task).expect("gold loads");
    assert_eq!(gold.len(), data.examples.len());
    let labels = data.examples.iter().map(|e| gold.get(&e.id).expect("every id joins")).collect();
    (task, data, labels)
}

#[test]
fn reviews_are_contrast_pairs() {
    let (task, data, labels) = load("sentiment", "reviews");
    assert_eq!((data.examples.len(), labels.iter().sum::<usize>()), (32, 16));
    let mut pairs: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
    let mut texts = BTreeSet::new();
    for (example, label) in data.examples.iter().zip(&labels) {
        let (group, key) = (example.group.as_deref().unwrap(), example.key.as_deref().unwrap());
        pairs.entry(group).or_default().push((key, *label));
        assert!(texts.insert(example.fields["text"].as_str()), "a text is there twice");
        let num_words = example.fields["text"].split_whitespace().count();
        assert!((6..=14).contains(&num_words), "{num_words} words: {:?}", example.fields);
    }
    assert_eq!(pairs.len(), 16);
    let mut num_a_positive = 0;
    for (group, pair) in &mut pairs {
        pair.sort_unstable();
        let [("a", a), ("b", b)] = pair[..] else { panic!("{group} is no pair: {pair:?}") };
        assert_ne!(a, b, "{group} has one label");
        num_a_positive += usize::from(a == task.positive);
    }
    assert_eq!(num_a_positive, 8, "side tells the label");
}

#[test]
fn headlines_are_balanced() {
    let (_, data, labels) = load("topic", "headlines");
    assert_eq!(data.examples.len(), 48);
    for label in 0..3 {
        assert_eq!(labels.iter().filter(|&&other| other == label).count(), 16);
    }
    assert!(data.examples.iter().all(|example| example.group.is_none()));
}

/// Half of a label in the first half of the file is 8 of 16 and 8 of 24; the bounds are about two
/// standard deviations of a random order (hypergeometric: 1.4 and 1.6).
#[test]
fn order_does_not_tell_the_label() {
    for (task, name, num_labels, expected, slack) in
        [("sentiment", "reviews", 2, 8, 3), ("topic", "headlines", 3, 8, 3)]
    {
        let (_, _, labels) = load(task, name);
        let half = &labels[..labels.len() / 2];
        for label in 0..num_labels {
            let count = half.iter().filter(|&&other| other == label).count();
            assert!(count.abs_diff(expected) <= slack, "{name}: {count} of label {label}");
        }
    }
}

#[test]
fn data_files_have_no_label_column() {
    for (name, columns) in
        [("reviews", vec!["id", "text", "group", "side"]), ("headlines", vec!["id", "text"])]
    {
        for line in std::fs::read_to_string(demo(&format!("{name}.jsonl"))).unwrap().lines() {
            let record: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(line).unwrap();
            assert!(record.keys().map(String::as_str).eq(columns.iter().copied()), "{line}");
        }
    }
}
