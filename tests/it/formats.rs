//! Data sets as their owners publish them: other columns, several questions a record, Parquet.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use w2s::data::{Dataset, GoldLabels, ReferenceKeys, Task, join_records, read_demonstrations};
use w2s::error::ErrorKind;

use crate::common::project;

fn task(name: &str) -> Task {
    Task::load(name).unwrap()
}

fn fixture(name: &str) -> PathBuf {
    project().join("tests/data").join(name)
}

/// A folder with one file of JSON lines in it.
fn lines(records: &[Value]) -> (tempfile::TempDir, PathBuf) {
    let text: Vec<String> = records.iter().map(Value::to_string).collect();
    file("t.jsonl", &text.join("\n"))
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// Field `of` of every example with its gold label.
fn labelled(path: &Path, task: &Task, of: &str) -> Vec<(String, Option<usize>)> {
    let data = Dataset::read(path, task).unwrap();
    let gold = GoldLabels::read(path, task).unwrap();
    let mut rows: Vec<(String, Option<usize>)> =
        data.examples.iter().map(|e| (e.fields[of].clone(), gold.get(&e.id))).collect();
    rows.sort();
    rows
}

fn rows(expected: &[(&str, usize)]) -> Vec<(String, Option<usize>)> {
    let mut rows: Vec<_> =
        expected.iter().map(|(text, label)| ((*text).to_owned(), Some(*label))).collect();
    rows.sort();
    rows
}

/// The hub's multiple-choice file, as pyarrow writes it: one claim an answer, by hand.
#[test]
fn nested_parquet_becomes_claims() {
    let task = task("truthfulqa");
    let path = fixture("questions.snappy.parquet");
    let expected = [
        ("No.", 1),
        ("It sinks.", 1),
        ("Yes.", 0),
        ("Nothing.", 1),
        ("Maps.", 0),
        ("Caf\u{e9} menus.", 0),
    ];
    assert_eq!(labelled(&path, &task, "choice"), rows(&expected));
    let data = Dataset::read(&path, &task).unwrap();
    let groups: Vec<Option<&str>> = data.examples.iter().map(|e| e.group.as_deref()).collect();
    assert_eq!(groups, [vec![Some("1"); 3], vec![Some("2"); 3]].concat());
    let ids: Vec<&str> = data.examples.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids, ["row-1", "row-2", "row-3", "row-4", "row-5", "row-6"]);
}

/// Law: which answers are the right ones does not move an example.
#[test]
fn claims_do_not_stand_in_the_order_of_their_gold() {
    let (right, wrong) = (["No", "Never", "Not at all"], ["Yes", "Always"]);
    let record = |right: &[&str], wrong: &[&str]| json!({ "question": "q", "correct_answers": right, "incorrect_answers": wrong });
    for (name, of_one) in [("truthfulqa", 5), ("truthfulqa-preference", 12)] {
        let task = task(name);
        let read = |record: Value| {
            let (_folder, path) = lines(&[record]);
            Dataset::read(path, &task).unwrap().examples
        };
        let examples = read(record(&right, &wrong));
        assert_eq!(examples.len(), of_one, "{name}");
        assert_eq!(examples, read(record(&wrong, &right)), "{name}");
    }
    let targets = |labels: [i32; 3]| json!({ "question": "q", "mc1_targets": { "choices": ["a", "b", "c"], "labels": labels } });
    let task = task("truthfulqa");
    let read = |record: Value| {
        let (_folder, path) = lines(&[record]);
        Dataset::read(path, &task).unwrap().examples
    };
    assert_eq!(read(targets([1, 0, 0])), read(targets([0, 1, 0])));
}

/// `TruthfulQA.csv`: answers between semicolons, ids from the record where it has one.
#[test]
fn answers_in_a_table_become_claims_and_pairs() {
    let csv = "Type,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n\
               x,Can pigs fly?,No,No; They cannot,\"Yes; Yes, far\",s\n";
    let (_folder, path) = file("t.csv", csv);
    assert_eq!(
        labelled(&path, &task("truthfulqa"), "choice"),
        rows(&[("No", 1), ("They cannot", 1), ("Yes", 0), ("Yes, far", 0)])
    );
    let pairs = Dataset::read(&path, &task("truthfulqa-preference")).unwrap();
    // 2 x 2 pairs in both orders; each pair in a group of its own, with both keys.
    assert_eq!(pairs.examples.len(), 8);
    let gold = GoldLabels::read(&path, &task("truthfulqa-preference")).unwrap();
    for example in &pairs.examples {
        let twin = pairs.examples.iter().find(|e| {
            e.fields["choice"] == example.fields["choice_2"]
                && e.fields["choice_2"] == example.fields["choice"]
        });
        let twin = twin.unwrap();
        assert_eq!(twin.group, example.group);
        assert_ne!(twin.key, example.key);
        assert_ne!(gold.get(&twin.id), gold.get(&example.id));
        let right = ["No", "They cannot"].contains(&example.fields["choice"].as_str());
        assert_eq!(gold.get(&example.id), Some(usize::from(right)));
    }
    let (_folder, path) = lines(&[
        json!({"id": 7, "question": "q", "correct_answers": ["a"], "incorrect_answers": ["b"]}),
    ]);
    let data = Dataset::read(path, &task("truthfulqa")).unwrap();
    let ids: Vec<&str> = data.examples.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(ids, ["7-1", "7-2"]);
}

#[test]
fn annotated_pairs_are_read_in_both_orders() {
    let pair = |preference: Value| {
        json!({ "instruction": "Say hello.", "input": "", "output_1": "Hello", "output_2": "Hi",
            "preference": preference })
    };
    let task = task("alpaca");
    for (preference, first, second) in [
        (json!(1), Some(1), Some(0)),
        (json!("2.0"), Some(0), Some(1)),
        (json!(1.5), None, None),
        (json!(null), None, None),
    ] {
        let with_label = pair(json!(1));
        let (_folder, path) = lines(&[pair(preference.clone()), with_label]);
        let data = Dataset::read(&path, &task).unwrap();
        let gold = GoldLabels::read(&path, &task).unwrap();
        let texts: Vec<&str> = data.examples.iter().map(|e| e.fields["choice"].as_str()).collect();
        assert_eq!(texts, ["Hello", "Hi", "Hello", "Hi"]);
        assert_eq!((gold.get("row-1"), gold.get("row-2")), (first, second), "{preference}");
        assert_eq!(data.examples[0].group, data.examples[1].group);
    }
}

/// The hub's survey file: Python literals in cells, one gold column a country.
#[test]
fn surveys_have_a_gold_column_for_each_country() {
    let csv = "question,selections,options,source\n\
        Open or shut?,\"defaultdict(<class 'list'>, {'Germany': [0.6, 0.4], 'United States': [0.1, 0.9], 'France': [0.5, 0.5]})\",\"['Open', \"\"Shut it\"\"]\",s\n\
        How much?,\"defaultdict(<class 'list'>, {'Germany': [0.6, 0.3, 0.1]})\",\"['a', 'b', 'c']\",s\n";
    let (_folder, path) = file("t.csv", csv);
    let task = task("global-opinions");
    let data = Dataset::read(&path, &task).unwrap();
    assert_eq!((data.examples.len(), data.num_unused), (2, 1));
    let options: Vec<&str> = data.examples.iter().map(|e| e.fields["option"].as_str()).collect();
    assert_eq!(options, ["Open", "Shut it"]);
    let each = GoldLabels::read_each(&path, &task).unwrap();
    let shown: Vec<(&[String], Option<usize>, Option<usize>)> =
        each.iter().map(|g| (g.columns(), g.get("row-1"), g.get("row-2"))).collect();
    // A tie is no label.
    assert_eq!(
        shown,
        [(&["de".to_owned()][..], Some(1), Some(0)), (&["us".to_owned()][..], Some(0), Some(1)),]
    );
    let us = GoldLabels::read_column(&path, &task, "us").unwrap();
    assert_eq!((us.get("row-1"), us.len()), (Some(0), 2));
    let error = GoldLabels::read(&path, &task).unwrap_err();
    assert!(error.to_string().contains("the file has the gold columns `de`, `us`"), "{error}");
    assert!(GoldLabels::read_column(&path, &task, "fr").is_err());
    let error = GoldLabels::read_column(&path, &task, "it").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("`label`, `de`, `fr`, `us`"), "{error}");

    let only_three =
        csv.replace("Open or shut?", "x").replace("['Open', \"\"Shut it\"\"]", "['a']");
    let (_folder, path) = file("t.csv", &only_three);
    let error = Dataset::read(&path, &task).unwrap_err();
    assert!(error.message().contains("none of 2 records"), "{error}");
}

#[test]
fn situations_with_two_actions_become_claims() {
    let csv = "scenario_id,ambiguity,context,action1,action2,a1_deceive,a2_deceive\n\
               C_1,low,You find a purse.,I give it back.,I keep it.,No,Yes\n\
               H_1,high,You are late.,I run.,I call.,No,No\n";
    let (_folder, path) = file("t.csv", csv);
    let task = task("moralchoice");
    let data = Dataset::read(&path, &task).unwrap();
    let gold = GoldLabels::read(&path, &task).unwrap();
    let deceive = GoldLabels::read_column(&path, &task, "deceive").unwrap();
    let shown: Vec<_> = data
        .examples
        .iter()
        .map(|e| (e.fields["action"].as_str(), gold.get(&e.id), deceive.get(&e.id)))
        .collect();
    for expected in [
        ("I give it back.", Some(1), Some(1)),
        ("I keep it.", Some(0), Some(0)),
        ("I run.", None, Some(1)),
        ("I call.", None, Some(1)),
    ] {
        assert!(shown.contains(&expected), "{expected:?} in {shown:?}");
    }
    assert_eq!(data.examples[0].group, data.examples[1].group);
    assert_ne!(data.examples[1].group, data.examples[2].group);
}

/// Bounds, percentages and lists as further gold columns, by hand.
#[test]
fn concepts_are_gold_columns_of_their_own() {
    let csv = "Scenario,Foundation,Care,Fairness,Not Wrong,Wrong\n\
               You see a kick.,Care (e),83 %,0 %,0 %,3.4\n\
               You see a hat.,Social Norms,50 %,51 %,80 %,0.4\n";
    let (_folder, path) = file("t.csv", csv);
    let task = task("moral-foundations");
    let each = GoldLabels::read_each(&path, &task).unwrap();
    let shown: Vec<(String, Option<usize>, Option<usize>)> = each
        .iter()
        .map(|gold| (gold.columns().join(","), gold.get("row-1"), gold.get("row-2")))
        .collect();
    let row = |name: &str, first, second| (name.to_owned(), Some(first), Some(second));
    assert_eq!(
        shown,
        [row("moral", 1, 0), row("care", 1, 0), row("fairness", 0, 1), row("rated-wrong", 1, 0)]
    );
    assert_eq!(GoldLabels::read(&path, &task).unwrap().get("row-2"), Some(0));

    let dilemma = |action: &str, kind: &str, values: &str| {
        json!({ "dilemma_idx": 3, "dilemma_situation": "Tell her?", "action": action,
            "action_type": kind, "values_aggregated": values })
    };
    let (_folder, path) = lines(&[
        dilemma("Tell her", "to_do", "['honesty', 'respect']"),
        dilemma("Say nothing", "not_to_do", "[\"friend's trust\", 'Trust']"),
    ]);
    let task = self::task("daily-dilemmas");
    let data = Dataset::read(&path, &task).unwrap();
    assert_eq!(data.examples[0].key.as_deref(), Some("to_do"));
    assert_eq!(data.examples[0].group, data.examples[1].group);
    for (name, labels) in [("honesty", (1, 0)), ("trust", (0, 1)), ("safety", (0, 0))] {
        let gold = GoldLabels::read_column(&path, &task, name).unwrap();
        let found = (gold.get("row-1").unwrap(), gold.get("row-2").unwrap());
        assert_eq!(found, labels, "{name}");
    }
    let (_folder, path) = lines(&[dilemma("a", "to_do", "honesty")]);
    let error = GoldLabels::read_column(&path, &task, "honesty").unwrap_err();
    assert!(error.message().contains("column `values_aggregated` is not one"), "{error}");
    assert_eq!(error.place().and_then(|(_, line)| line), Some(1));
}

/// The hub's columns of the plain text sets, by their own spellings.
#[test]
fn plain_sets_are_read_with_the_hubs_columns() {
    for codec in ["zstd", "gzip", "lz4", "none"] {
        let path = fixture(&format!("sentences.{codec}.parquet"));
        let text = String::from_utf8(join_records(&[path], None).unwrap()).unwrap();
        let records: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = [
            json!({"idx": 0, "sentence": "a warm film", "label": 1, "share": 0.5}),
            json!({"idx": 1, "sentence": "dull and long", "label": 0, "share": null}),
            json!({"idx": 2, "sentence": null, "label": -1, "share": null}),
        ];
        assert_eq!(records, expected, "{codec}");
    }
    let sst2 = [
        json!({"idx": 0, "sentence": "warm", "label": 1}),
        json!({"idx": 1, "sentence": "dull", "label": 0}),
        json!({"idx": 2, "sentence": "who knows", "label": -1}),
    ];
    let (_folder, path) = lines(&sst2);
    let sentiment = task("sentiment");
    let gold = GoldLabels::read(&path, &sentiment).unwrap();
    assert_eq!((gold.get("row-1"), gold.get("row-2"), gold.get("row-3")), (Some(1), Some(0), None));
    let base = Dataset::read(&path, &sentiment).unwrap();
    assert_eq!(read_demonstrations(&path, &sentiment, &base).unwrap().len(), 2);

    // AG News counts from 0 on the hub and from 1 in its own table, which has no header.
    let news = task("ag-news");
    let (_folder, path) = lines(&[json!({"text": "Goal!", "label": 1})]);
    assert_eq!(labelled(&path, &news, "text"), rows(&[("Goal!", 1)]));
    let (_folder, path) = file("t.csv", "2,Goal,A late goal.\n4,Chip,A new chip.\n");
    assert_eq!(labelled(&path, &news, "text"), rows(&[("A late goal.", 1), ("A new chip.", 3)]));
    let (_folder, path) = file("t.tsv", "a fine film\t1\nno good\t0\n");
    assert_eq!(labelled(&path, &sentiment, "text"), rows(&[("a fine film", 1), ("no good", 0)]));

    let csv = "ctx,endings,label\nHe runs,\"['far.', \"\"it's\"\", 'c', 'd']\",1\n";
    let (_folder, path) = file("t.csv", csv);
    let data = Dataset::read(&path, &task("hellaswag")).unwrap();
    assert_eq!(data.examples[0].options, ["far.", "it's", "c", "d"]);
    let (_folder, path) = file("t.csv", "Which?,w,x,y,z,C\nWhat?,w,x,y,z,A\n");
    assert_eq!(labelled(&path, &task("mmlu"), "question"), rows(&[("Which?", 2), ("What?", 0)]));
    let (_folder, path) = lines(&[json!({"passage": "p", "question": "q", "answer": "False"})]);
    assert_eq!(labelled(&path, &task("boolq"), "question"), rows(&[("q", 0)]));
}

#[test]
fn broken_parquet_is_named() {
    let whole = std::fs::read(fixture("sentences.zstd.parquet")).unwrap();
    for (name, bytes) in [
        ("cut", &whole[..whole.len() - 40]),
        ("text", &b"PAR1 is no table PAR1"[..]),
        ("empty", &b""[..]),
        ("damaged", &[&whole[..60], &[0xff; 40][..], &whole[100..]].concat()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, bytes).unwrap();
        let error = Dataset::read(&path, &task("sentiment")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{name}");
        assert_eq!(error.place().map(|(path, _)| path), Some(path.as_path()), "{name}: {error}");
    }
}

/// What the published loaders compute; reading it is using gold.
#[test]
fn reference_keys_are_those_of_the_published_code() {
    let keys = |name: &str, file: &str| {
        let path = fixture(file);
        let task = task(name);
        let keys = ReferenceKeys::read(&path, &task).unwrap();
        let data = Dataset::read(&path, &task).unwrap();
        let shown: Vec<String> = data
            .examples
            .iter()
            .map(|e| keys.get(&e.id).map_or("-", |(_, key)| key).to_owned())
            .collect();
        (shown, keys.from_gold())
    };
    let strings = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    assert_eq!(keys("truthfulqa", "icm_truthfulqa.json"), (strings(&["B", "A", "B", "A"]), true));
    assert_eq!(
        keys("truthfulqa-preference", "icm_truthfulqa_preference.json"),
        (strings(&["A>B", "B>A", "A>B"]), true)
    );
    let (_folder, path) = lines(&[
        json!({"question": "q", "cot": "c", "answer": "$27", "consistency_id": 4, "label": true}),
    ]);
    let gsm8k = ReferenceKeys::read(&path, &task("gsm8k-verification")).unwrap();
    assert_eq!((gsm8k.get("row-1"), gsm8k.from_gold()), (Some(("4", "$27")), false));
    let (_folder, path) = lines(&[
        json!({"question": "q", "choice": "c", "consistency_id": 4, "consistency_key_ref": "A"}),
    ]);
    let stored = ReferenceKeys::read(&path, &task("truthfulqa")).unwrap();
    assert_eq!((stored.get("row-1"), stored.from_gold()), (Some(("4", "A")), false));
    assert_eq!(format!("{stored:?}"), "ReferenceKeys(1 sealed)");
    assert_eq!(ReferenceKeys::read(&path, &task("topic")).unwrap_err().kind(), ErrorKind::Task);
}
