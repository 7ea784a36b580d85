//! Data files as users have them: the published formats, and hostile ones.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use w2s::data::{
    Dataset, GoldLabels, LabelRecord, Rule, Task, by_question, read_demonstrations,
    read_label_records, read_labels, write_labels,
};
use w2s::error::{Error, ErrorKind};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn task(name: &str) -> Task {
    Task::load(name).expect("a built-in task loads")
}

/// A folder with one file in it.
fn file(name: &str, bytes: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a file is written");
    (folder, path)
}

fn line(error: &Error) -> Option<usize> {
    error.place().and_then(|(_, line)| line)
}

#[test]
fn records_come_together_by_question_in_the_order_of_their_first() {
    let rows = [("b", 1), ("a", 2), ("b", 3), ("c", 4), ("a", 5)];
    let questions = by_question(rows.to_vec(), |row| row.0);
    assert_eq!(questions, [vec![("b", 1), ("b", 3)], vec![("a", 2), ("a", 5)], vec![("c", 4)]]);
}

/// The published formats, unchanged: columns, label types, keys and groups by hand.
#[test]
fn published_files_load_with_their_tasks() {
    type Row<'a> = (usize, Option<&'a str>);
    let cases: [(&str, &str, &[Row<'_>]); 7] = [
        (
            "truthfulqa",
            "icm_truthfulqa.json",
            &[(0, Some("yes")), (1, Some("no")), (0, None), (1, None)],
        ),
        (
            "gsm8k-verification",
            "icm_gsm8k.json",
            &[(1, Some("27")), (0, Some("27")), (1, Some("27")), (0, Some("12"))],
        ),
        (
            "alpaca",
            "icm_alpaca.json",
            &[(1, Some("A>B")), (0, Some("B>A")), (0, Some("A>B")), (1, Some("B>A"))],
        ),
        (
            "truthfulqa-preference",
            "icm_truthfulqa_preference.json",
            &[(1, Some("A>B")), (0, Some("B>A")), (1, Some("A>B"))],
        ),
        (
            "global-opinions",
            "icm_global_opinions.json",
            &[(0, Some("open")), (1, Some("stay closed"))],
        ),
        (
            "larger-than",
            "icm_larger_than.json",
            &[(1, Some("A>B")), (0, Some("B>A")), (0, Some("A>B"))],
        ),
        ("political-normative", "icm_political_normative.json", &[(0, None), (1, None), (0, None)]),
    ];
    for (name, file, rows) in cases {
        let task = task(name);
        let data = Dataset::read(fixture(file), &task).unwrap();
        let gold = GoldLabels::read(fixture(file), &task).unwrap();
        assert_eq!(gold.len(), rows.len(), "{file}");
        assert_eq!(gold.sha256(), data.sha256);
        for (index, (example, (label, key))) in data.examples.iter().zip(rows).enumerate() {
            assert_eq!(example.id, format!("row-{}", index + 1));
            assert_eq!(gold.get(&example.id), Some(*label), "{file} {}", example.id);
            assert_eq!(example.key.as_deref(), *key, "{file} {}", example.id);
            assert!(example.fields.keys().map(String::as_str).eq(task.field_names()), "{file}");
        }
        assert_eq!(data.examples.len(), rows.len(), "{file}");
    }
}

#[test]
fn groups_are_those_of_the_published_files() {
    let groups = |name: &str, file: &str| -> Vec<Option<String>> {
        let data = Dataset::read(fixture(file), &task(name)).unwrap();
        data.examples.into_iter().map(|example| example.group).collect()
    };
    let seven = Some("7".to_owned());
    assert_eq!(
        groups("truthfulqa", "icm_truthfulqa.json"),
        [seven.clone(), seven.clone(), seven, Some("9".to_owned())]
    );
    let larger = groups("larger-than", "icm_larger_than.json");
    assert!(larger[0].is_some() && larger[0] == larger[1] && larger[1] != larger[2]);
    let pairs = groups("truthfulqa-preference", "icm_truthfulqa_preference.json");
    assert!(pairs[0].is_some() && pairs[0] == pairs[1] && pairs[1] != pairs[2]);
}

/// Law: gold shuffled or gone, the examples are the same.
#[test]
fn examples_do_not_depend_on_gold() {
    let gold_columns = [
        "label",
        "is_liberal",
        "candidate_label",
        "confidence",
        "selections",
        "ref_cot",
        "ref_answer",
        "difficulty",
        "category",
        "n1",
        "n2",
    ];
    for (name, published) in [
        ("truthfulqa", "icm_truthfulqa.json"),
        ("gsm8k-verification", "icm_gsm8k.json"),
        ("alpaca", "icm_alpaca.json"),
        ("truthfulqa-preference", "icm_truthfulqa_preference.json"),
        ("global-opinions", "icm_global_opinions.json"),
        ("larger-than", "icm_larger_than.json"),
        ("political-normative", "icm_political_normative.json"),
    ] {
        let task = task(name);
        let text = std::fs::read_to_string(fixture(published)).unwrap();
        let records: Vec<Map<String, Value>> = serde_json::from_str(&text).unwrap();
        let read = |records: &[Map<String, Value>]| {
            let lines: Vec<String> =
                records.iter().map(|record| Value::Object(record.clone()).to_string()).collect();
            let (_folder, path) = file("t.jsonl", lines.join("\n"));
            Dataset::read(path, &task).unwrap().examples
        };
        let examples = read(&records);
        let mut without = records.clone();
        let mut turned = records.clone();
        for column in gold_columns {
            without.iter_mut().for_each(|record| {
                record.shift_remove(column);
            });
            let values: Vec<Option<Value>> =
                records.iter().map(|record| record.get(column).cloned()).collect();
            for (index, record) in turned.iter_mut().enumerate() {
                let value = values[(index + 1) % values.len()].clone();
                record.insert(column.to_owned(), value.unwrap_or(Value::Null));
            }
        }
        assert_eq!(read(&without), examples, "{name}: gold gone");
        assert_eq!(read(&turned), examples, "{name}: gold turned");
        let shown = format!("{examples:?}");
        assert!(!shown.contains("is_liberal") && !shown.contains("label"), "{name}");
    }
}

#[test]
fn sealed_gold_shows_no_label() {
    let gold = GoldLabels::read(fixture("icm_gsm8k.json"), &task("gsm8k-verification")).unwrap();
    assert_eq!(format!("{gold:?}"), "GoldLabels(4 sealed)");
}

/// Each hostile file, the line the error names, and words of its message and hint.
#[test]
fn hostile_data_files_are_refused_with_their_line() {
    let cases: [(&str, &[u8], Option<usize>, &str); 14] = [
        ("t.jsonl", b"", None, "file is empty"),
        ("t.jsonl", b"\n \n", None, "file is empty"),
        ("t.json", b"[]", None, "file holds no records"),
        ("t.json", b"[\n {\"text\": \"a\"},\n {\"text\": b}\n]", Some(3), "broken JSON"),
        ("t.jsonl", b"{\"text\": \"a\"}\n\n{\"text\"\n", Some(3), "broken JSON"),
        ("t.jsonl", b"{\"text\": \"a\"}\n[\"b\"]\n", Some(2), "record is not an object"),
        ("t.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}", Some(2), "is not UTF-8"),
        ("t.jsonl", b"{\"text\": \"a\"}\n{\"body\": \"b\"}", Some(2), "has no field `text`"),
        ("t.jsonl", b"{\"text\": null}", Some(1), "has no field `text`"),
        ("t.jsonl", b"{\"text\": [\"a\"]}", Some(1), "is a list, expected text"),
        ("t.jsonl", b"{\"text\": \" \"}", Some(1), "every field of `row-1` is empty"),
        (
            "t.jsonl",
            b"{\"id\": 1, \"text\": \"a\"}\n{\"id\": \"1\", \"text\": \"b\"}",
            Some(2),
            "duplicate id `1`, first used in line 1",
        ),
        ("t.jsonl", b"{\"id\": [1], \"text\": \"a\"}", Some(1), "id is a list"),
        ("t.csv", b"text\na\n\"b\n", Some(3), "quoted field is not closed"),
    ];
    let task = task("sentiment");
    for (name, bytes, expected_line, words) in cases {
        let (_folder, path) = file(name, bytes);
        let error = Dataset::read(&path, &task).unwrap_err();
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(error.kind(), ErrorKind::Data, "{shown}");
        assert_eq!(error.place(), Some((path.as_path(), expected_line)), "{shown}");
        assert!(error.message().contains(words), "{shown}: {error}");
        assert!(error.to_string().contains("\nhint: "), "{shown}: {error}");
    }
    let error = Dataset::read("no/such/file.jsonl", &task).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn a_missing_field_names_the_columns_there() {
    let (_folder, path) = file("t.csv", "id,body\n1,good\n");
    let error = Dataset::read(path, &task("sentiment")).unwrap_err();
    assert_eq!(
        error.message(),
        "record `1` has no field `text`, tried column `text`, `sentence`, `review`, \
         `content`, has `id`, \
         `body`"
    );
}

#[test]
fn columns_are_tried_in_order_and_empty_cells_passed_over() {
    let text = "review,sentence,group,side\nlast,first,,\nlast,,g1,a\n";
    let (_folder, path) = file("t.csv", text);
    let data = Dataset::read(path, &task("sentiment")).unwrap();
    let texts: Vec<&str> = data.examples.iter().map(|e| e.fields["text"].as_str()).collect();
    assert_eq!(texts, ["first", "last"]);
    assert_eq!((&data.examples[0].group, &data.examples[0].key), (&None, &None));
    let second = &data.examples[1];
    assert_eq!((second.group.as_deref(), second.key.as_deref()), (Some("g1"), Some("a")));
}

#[test]
fn gold_accepts_every_spelling_and_refuses_others() {
    let spelled = [
        json!(true),
        json!("True"),
        json!(1),
        json!(1.0),
        json!(" TRUE "),
        json!("1.0"),
        json!(false),
        json!("false"),
        json!(0),
        json!(0.0),
        json!("0"),
        json!("FALSE"),
    ];
    let mut text = String::new();
    for label in &spelled {
        let record = json!({"question": "q", "choice": "c", "label": label});
        text.push_str(&format!("{record}\n"));
    }
    text.push_str(
        "{\"question\": \"q\", \"choice\": \"c\"}\n{\"label\": null}\n{\"label\": \"\"}\n",
    );
    let claims = task("truthfulqa");
    let (_folder, path) = file("t.jsonl", &text);
    let gold = GoldLabels::read(path, &claims).unwrap();
    let read: Vec<Option<usize>> = (1..=12).map(|row| gold.get(&format!("row-{row}"))).collect();
    assert_eq!(read, [[Some(1); 6], [Some(0); 6]].concat());
    assert_eq!((gold.len(), gold.get("row-13"), gold.get("row-14")), (12, None, None));

    let (_folder, path) = file("t.jsonl", "{\"label\": 1}\n\n{\"label\": \"maybe\"}\n");
    let error = GoldLabels::read(path, &claims).unwrap_err();
    assert_eq!((error.kind(), line(&error)), (ErrorKind::Data, Some(3)));
    assert!(error.message().contains("unknown label `maybe`"), "{error}");
    assert!(error.to_string().contains("`True`"), "the hint lists the labels: {error}");

    let (_folder, path) = file("t.jsonl", "{\"id\":1,\"label\":1}\n{\"id\":1,\"label\":0}\n");
    let error = GoldLabels::read(path, &claims).unwrap_err();
    assert!(error.message().contains("duplicate id `1`"), "{error}");

    let (_folder, path) = file("t.jsonl", "{\"question\": \"q\"}\n");
    assert_eq!(
        GoldLabels::read(path, &claims).unwrap_err().message(),
        "no record has a gold label"
    );
}

fn label_records() -> Vec<LabelRecord> {
    let record = |id: &str, label: &str, (no, yes): (f64, f64), last_flip| LabelRecord {
        id: id.to_owned(),
        label: label.to_owned(),
        logprobs: vec![("negative".to_owned(), no), ("positive".to_owned(), yes)],
        margin: (yes - no).abs(),
        last_flip,
    };
    vec![
        record("r-001", "positive", (-2.125, -0.125), Some(12)),
        record("r-002", "negative", (-0.1, -0.30000000000000004), None),
    ]
}

/// The first line is the one in the description of the run folder, with exact binary fractions.
#[test]
fn labels_are_written_as_described_and_read_back_the_same() {
    let mut bytes = Vec::new();
    write_labels(&mut bytes, &label_records()).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert_eq!(
        text.lines().next(),
        Some(
            "{\"id\":\"r-001\",\"label\":\"positive\",\"logprobs\":{\"negative\":-2.125,\
             \"positive\":-0.125},\"margin\":2.0,\"last_flip\":12}"
        )
    );
    let (_folder, path) = file("labels.jsonl", &bytes);
    let task = task("sentiment");
    assert_eq!(read_label_records(&path, &task).unwrap(), label_records());
    // A label that hands spelled otherwise is the label.
    let text = std::fs::read_to_string(&path).unwrap();
    let name = label_records()[0].label.clone();
    let (own, other) =
        (format!("\"label\":\"{name}\""), format!("\"label\":\" {} \"", name.to_uppercase()));
    std::fs::write(&path, text.replace(&own, &other)).unwrap();
    assert_eq!(read_label_records(&path, &task).unwrap(), label_records());
    let expected = [("r-001".to_owned(), 1), ("r-002".to_owned(), 0)];
    assert_eq!(read_labels(&path, &task).unwrap(), expected);
    let (_folder, path) = file("labels.csv", "label,id\npos,r-001\n0,r-002\n");
    assert_eq!(read_labels(&path, &task).unwrap(), expected);
}

#[test]
fn numbers_that_json_cannot_hold_are_refused() {
    for broken in [f64::NAN, f64::NEG_INFINITY] {
        let mut records = label_records();
        records[1].logprobs[0].1 = broken;
        let error = write_labels(Vec::new(), &records).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Numeric);
        assert!(error.message().contains("`r-002`"));
    }
}

#[test]
fn hostile_label_files_are_refused_with_their_line() {
    let cases = [
        (
            "{\"id\":\"a\",\"label\":\"pos\"}\n{\"id\":\"a\",\"label\":\"neg\"}",
            2,
            "duplicate id `a`",
        ),
        (
            "{\"id\":\"a\",\"label\":\"pos\"}\n{\"id\":\"b\",\"label\":\"so-so\"}",
            2,
            "unknown label",
        ),
        ("{\"id\":\"a\",\"label\":\"pos\"}\n{\"id\":\"b\"}", 2, "record has no `label`"),
        ("{\"id\":\"a\",\"label\":\"\"}", 1, "record has no `label`"),
        ("{\"label\":\"pos\"}", 1, "record has no `id`"),
    ];
    let task = task("sentiment");
    for (text, expected_line, words) in cases {
        let (_folder, path) = file("labels.jsonl", text);
        let error = read_labels(&path, &task).unwrap_err();
        assert_eq!((error.kind(), line(&error)), (ErrorKind::Data, Some(expected_line)), "{text}");
        assert!(error.message().contains(words), "{text}: {error}");
    }
    let (_folder, path) = file("labels.jsonl", "{\"id\":\"a\",\"label\":\"pos\"}");
    let error = read_label_records(&path, &task).unwrap_err();
    assert!(error.message().contains("logprobs"), "{error}");
}

#[test]
fn demonstrations_stand_alone_or_are_looked_up() {
    let task = task("sentiment");
    let (_folder, path) = file(
        "data.jsonl",
        "{\"id\":\"x\",\"text\":\"good\",\"group\":\"g\"}\n{\"id\":\"y\",\"text\":\"bad\"}\n",
    );
    let base = Dataset::read(path, &task).unwrap();
    let text = "{\"id\":\"y\",\"label\":0}\n{\"text\":\"superb\",\"label\":\"pos\"}\n\
                {\"text\":\"good\",\"label\":\"pos\"}\n{\"text\":\"who knows\"}\n\
                {\"id\":\"z\",\"text\":\"dire\",\"label\":\"neg\"}\n";
    let (_folder, path) = file("demonstrations.jsonl", text);
    let read = read_demonstrations(path, &task, &base).unwrap();
    let shown: Vec<(&str, &str, usize)> = read
        .iter()
        .map(|(example, label)| (example.id.as_str(), example.fields["text"].as_str(), *label))
        .collect();
    // The third has the text of `x`, so it is `x`: an example must not be its own demonstration.
    assert_eq!(
        shown,
        [("y", "bad", 0), ("demonstration-2", "superb", 1), ("x", "good", 1), ("z", "dire", 0)]
    );
    assert_eq!(read[2].0.group.as_deref(), Some("g"));

    for (text, words) in [
        ("{\"id\":\"q\",\"label\":0}\n{\"id\":\"x\",\"label\":1}", "demonstration `q` is not in"),
        ("{\"id\":\"x\",\"label\":1}", "file has 1 labelled records, expected two or more"),
        ("{\"id\":\"x\"}\n{\"id\":\"y\"}", "file has 0 labelled records"),
        ("{\"id\":\"x\",\"label\":1}\n{\"id\":\"y\",\"label\":1}", "has the label `positive`"),
        ("{\"id\":\"x\",\"label\":1}\n{\"id\":\"x\",\"label\":0}", "duplicate id `x`"),
        ("{\"label\":1}\n{\"id\":\"x\",\"label\":0}", "has no field `text`"),
    ] {
        let (_folder, path) = file("demonstrations.jsonl", text);
        let error = read_demonstrations(path, &task, &base).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{text}");
        assert!(error.message().contains(words), "{text}: {error}");
    }
}

/// A person reads this; the wording is part of the interface.
#[test]
fn an_error_reads_well() {
    let (_folder, path) = file("t.jsonl", "{\"label\": 1}\n{\"label\": \"yes\"}\n");
    let error = GoldLabels::read(&path, &task("truthfulqa")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "unknown label `yes` in column `label`\n  in: `{}`, line 2\nhint: task `truthfulqa` \
             knows `False` (or `false`, `0`), `True` (or `true`, `1`)",
            path.display()
        )
    );
}

#[test]
fn rules_of_the_built_in_tasks() {
    for (name, expected) in [
        ("truthfulqa", vec![Rule::Contradiction]),
        ("gsm8k-verification", vec![Rule::Contradiction, Rule::Implication]),
        ("alpaca", vec![Rule::Asymmetry]),
        ("political-normative", vec![]),
        ("topic", vec![]),
    ] {
        assert_eq!(task(name).rules, expected, "{name}");
    }
}
