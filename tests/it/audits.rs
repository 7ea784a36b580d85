//! `w2s audit`: what is drawn, what answers prove, and what is exported for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{Place, bad, bad_usage, good, has};
use crate::common::tiny;

const NUM: usize = 120;

/// Zero-shot labels of many short reviews by a tiny model.
fn labelled(place: &Place, out: &str, more: &[&str]) -> String {
    let review =
        |i: usize| json!({ "id": format!("r{i}"), "text": format!("film {i} was {}", i * i % 97) });
    let lines: Vec<String> = (0..NUM).map(|i| review(i).to_string()).collect();
    let data = place.write("reviews.jsonl", lines.join("\n"));
    let (model, out) = (tiny("llama").display().to_string(), place.path(out));
    let fixed = [
        "label",
        "--method",
        "zero-shot",
        "--model",
        &model,
        "--task",
        "sentiment",
        "--data",
        &data,
    ];
    good(&[&fixed[..], &["--out", &out], more].concat());
    out
}

fn json_of(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The run's labels by id, with their margins.
fn labels(run: &str) -> BTreeMap<String, (String, f64)> {
    let text = fs::read_to_string(format!("{run}/labels.jsonl")).unwrap();
    let of = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let label = line["label"].as_str().unwrap().to_owned();
        (line["id"].as_str().unwrap().to_owned(), (label, line["margin"].as_f64().unwrap()))
    };
    text.lines().map(of).collect()
}

fn rows(run: &str, sheet: usize) -> Vec<String> {
    let plan = json_of(&format!("{run}/audit/{sheet}/plan.json"));
    plan["rows"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// Draws 40 rows of the more confident half of the labels, and returns what is printed.
fn draw_half(run: &str) -> String {
    let set =
        ["--guarantee", "0.1@0.95", "--budget", "40", "--share", "0.5", "--error-rate", "0.2"];
    good(&[&["audit", "draw", run], &set[..]].concat())
}

fn other(label: &str) -> &'static str {
    if label == "positive" { "negative" } else { "positive" }
}

/// Answers to the rows that a sheet asks: the model's own label, the other one for the first `num_wrong`.
fn answers(place: &Place, run: &str, sheet: usize, num_wrong: usize) -> String {
    let labels = labels(run);
    let text = fs::read_to_string(format!("{run}/audit/{sheet}/sheet.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut lines = vec!["id,answer".to_owned()];
    for (i, record) in reader.records().enumerate() {
        let id = record.unwrap()[0].to_owned();
        let own = labels[&id].0.as_str();
        lines.push(format!("{id},{}", if i < num_wrong { other(own) } else { own }));
    }
    place.write(&format!("answers-{sheet}-{num_wrong}.csv"), lines.join("\n"))
}

fn exported(folder: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("{folder}/weighted.jsonl")).unwrap();
    let of = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().trim().to_owned();
        (text("id"), text("completion"))
    };
    text.lines().map(of).collect()
}

const EXPORT: [&str; 4] = ["--format", "trl", "--base-model", "owner/model"];

#[test]
fn an_audit_without_a_wrong_row_proves_and_exports_its_set() {
    let place = Place::new();
    let run = labelled(&place, "run", &[]);
    let page = draw_half(&run);
    assert_eq!(page.trim(), format!("{run}/audit/1/sheet.html"));

    // The set are the 60 most confident labels, and 40 of them are asked.
    let drawn = rows(&run, 1);
    assert_eq!((drawn.len(), drawn.iter().collect::<BTreeSet<_>>().len()), (40, 40));
    let labels = labels(&run);
    let mut margins: Vec<f64> = labels.values().map(|(_, margin)| *margin).collect();
    margins.sort_by(|a, b| b.total_cmp(a));
    assert!(drawn.iter().all(|id| labels[id].1 >= margins[59]));
    // Nothing of what is to be filled in tells the model's label.
    let sheet = fs::read_to_string(format!("{run}/audit/1/sheet.csv")).unwrap();
    assert_eq!(sheet.lines().next(), Some("id,question,answer"));
    assert!(!sheet.contains("positive") && !sheet.contains("negative"));

    let answers = answers(&place, &run, 1, 0);
    let certify = ["audit", "certify", &run, "--answers", &answers];
    let said = good(&certify);
    has(&said, &["proved: 0 of 40 audited labels are wrong; 0.1@0.95 was to be proved"]);
    has(
        &said,
        &[
            "With probability at least 95 % over that draw, at most 10 % of the 60 exported labels differ from what the auditor would say. Nothing is assumed of model or data; it holds for this file only.",
        ],
    );
    let certificate = json_of(&format!("{run}/audit/1/certificate.json"));
    // With 4 wrong of 60, none of 40 drawn is wrong once in 100 times: C(56,40)/C(60,40) = .0099; with 3, .033;
    // with 2, .107. So more than 2 are ruled out.
    assert_eq!(certificate["most_wrong"], 2);
    assert_eq!(certificate["is_kept"], true);
    assert_eq!(good(&certify), said, "a second time says the same");

    let out = place.path("export");
    good(&[&["export", &run, "--guarantee", "0.1@0.95", "--out", &out], &EXPORT[..]].concat());
    let found = exported(&out);
    assert_eq!(found.len(), 60);
    assert!(found.keys().all(|id| labels[id].1 >= margins[59]));
    has(
        &place.read("export/README.md"),
        &[
            "at most 10 % of the 60 exported labels",
            "60 labels of the run are not covered and left out; 40 labels are the auditor's own",
        ],
    );
    // The same as a table: the other rows have no label.
    let table = place.path("labelled.csv");
    good(&["export", &run, "--guarantee", "0.1@0.95", "--format", "csv", "--out", &table]);
    let mut reader = csv::Reader::from_path(&table).unwrap();
    let covered: Vec<String> = reader
        .records()
        .map(Result::unwrap)
        .filter(|row| !row[2].is_empty())
        .map(|row| row[0].to_owned())
        .collect();
    assert_eq!(covered.into_iter().collect::<BTreeSet<_>>(), found.keys().cloned().collect());
    // The bound is 2 of 60: that is proved too, and no less.
    good(
        &[&["export", &run, "--guarantee", "0.04@0.95", "--out", &place.path("less")], &EXPORT[..]]
            .concat(),
    );
    let message = bad(&[
        &["export", &run, "--guarantee", "0.03@0.95", "--out", &place.path("no")],
        &EXPORT[..],
    ]
    .concat());
    has(
        &message,
        &["no audit of these labels proves 0.03@0.95", "hint: 0.1@0.95 is proved for 60 labels"],
    );
    assert!(!Path::new(&place.path("no")).exists());
}

#[test]
fn a_sheet_that_fails_ends_the_sequence_and_its_bound_holds() {
    let place = Place::new();
    let run = labelled(&place, "run", &[]);
    draw_half(&run);
    let answers = answers(&place, &run, 1, 6);
    has(
        &good(&["audit", "certify", &run, "--answers", &answers]),
        &["NOT proved: 6 of 40 audited labels are wrong"],
    );
    let certificate = json_of(&format!("{run}/audit/1/certificate.json"));
    // scipy: hypergeom.cdf(6, 60, 13, 40) = .077, (6, 60, 14, 40) = .035: 13 may be wrong.
    assert_eq!((&certificate["most_wrong"], &certificate["most_left"]), (&json!(13), &json!(7)));
    let message = bad(&["audit", "draw", &run]);
    has(
        &message,
        &[
            "sheet 1 did not prove 0.1@0.95",
            "a second try on the same labels would prove nothing",
            "--guarantee 0.217@0.95",
        ],
    );
    let out = place.path("export");
    good(&[&["export", &run, "--guarantee", "0.217@0.95", "--out", &out], &EXPORT[..]].concat());
    // The auditor's answers stand in for what was wrong.
    let (labels, found) = (labels(&run), exported(&out));
    let wrong: Vec<&str> =
        certificate["wrong"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(wrong.len(), 6);
    let word = |label: &str| if label == "positive" { "positive" } else { "negative" };
    for (id, text) in &found {
        let own = labels[id].0.as_str();
        let expected = if wrong.contains(&id.as_str()) { other(own) } else { own };
        assert_eq!(text, word(expected), "{id}");
    }
}

#[test]
fn the_next_sheet_is_of_a_larger_set_and_asks_nothing_twice() {
    let place = Place::new();
    let run = labelled(&place, "run", &[]);
    let draw = |share: &str| {
        vec![
            "audit",
            "draw",
            "RUN",
            "--guarantee",
            "0.1@0.95",
            "--budget",
            "40",
            "--error-rate",
            "0.1",
            "--share",
        ]
        .into_iter()
        .map(|word| if word == "RUN" { run.clone() } else { word.to_owned() })
        .chain([share.to_owned()])
        .collect::<Vec<_>>()
    };
    let words =
        |all: &[String]| all.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
    let run_it =
        |all: Vec<String>| good(&words(&all).iter().map(String::as_str).collect::<Vec<_>>());
    run_it(draw("0.5"));
    has(&bad(&["audit", "draw", &run]), &["sheet 1 waits for its answers"]);
    good(&["audit", "certify", &run, "--answers", &answers(&place, &run, 1, 0)]);
    let smaller = draw("0.4");
    has(
        &bad_usage(&smaller.iter().map(String::as_str).collect::<Vec<_>>()),
        &["expected 61 or more of 120"],
    );
    run_it(draw("0.9"));
    let (first, second): (BTreeSet<_>, BTreeSet<_>) =
        (rows(&run, 1).into_iter().collect(), rows(&run, 2).into_iter().collect());
    assert_ne!(first, second);
    let known: BTreeSet<String> = json_of(&format!("{run}/audit/2/plan.json"))["known"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(known, first.intersection(&second).cloned().collect());
    let sheet = fs::read_to_string(format!("{run}/audit/2/sheet.csv")).unwrap();
    assert_eq!(csv::Reader::from_reader(sheet.as_bytes()).records().count(), 40 - known.len());
    good(&["audit", "certify", &run, "--answers", &answers(&place, &run, 2, 0)]);
    let out = place.path("export");
    good(&[&["export", &run, "--guarantee", "0.1@0.95", "--out", &out], &EXPORT[..]].concat());
    assert_eq!(exported(&out).len(), 108);
}

#[test]
fn answers_are_all_there_once_and_to_the_rows_drawn() {
    let place = Place::new();
    let run = labelled(&place, "run", &[]);
    draw_half(&run);
    let right = fs::read_to_string(answers(&place, &run, 1, 0)).unwrap();
    let lines: Vec<&str> = right.lines().collect();
    let drawn = rows(&run, 1);
    let stranger = labels(&run).into_keys().find(|id| !drawn.contains(id)).unwrap();
    let try_it = |name: &str, lines: &[String], parts: &[&str]| {
        let file = place.write(name, lines.join("\n"));
        has(&bad(&["audit", "certify", &run, "--answers", &file]), parts);
    };
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    try_it("short.csv", &owned(&lines[..40]), &["1 of 40 rows have no answer"]);
    let mut blank = owned(&lines);
    blank[3] = format!("{},", blank[3].split(',').next().unwrap());
    try_it("blank.csv", &blank, &["1 of 40 rows have no answer", "blank.csv`, line 4"]);
    let mut twice = owned(&lines);
    twice.push(lines[1].to_owned());
    try_it("twice.csv", &twice, &["twice.csv`, line 42"]);
    let mut unknown = owned(&lines);
    unknown[5] = format!("{},perhaps", unknown[5].split(',').next().unwrap());
    try_it("unknown.csv", &unknown, &["unknown label `perhaps`", "unknown.csv`, line 6"]);
    let mut strange = owned(&lines);
    strange.push(format!("{stranger},positive"));
    try_it("strange.csv", &strange, &["1 answers are to rows that were not drawn"]);
    assert!(!Path::new(&format!("{run}/audit/1/certificate.json")).exists());

    // What cannot be told counts as wrong, and is not exported.
    let mut unsure = owned(&lines);
    unsure[1] = format!("{},?", unsure[1].split(',').next().unwrap());
    let file = place.write("unsure.csv", unsure.join("\n"));
    has(
        &good(&["audit", "certify", &run, "--answers", &file]),
        &["1 of 40 audited labels are wrong"],
    );
    let gold = fs::read_to_string(format!("{run}/audit/1/gold.jsonl")).unwrap();
    assert_eq!(gold.lines().count(), 39);
    let out = place.path("export");
    good(&[&["export", &run, "--guarantee", "0.1@0.95", "--out", &out], &EXPORT[..]].concat());
    let found = exported(&out);
    assert_eq!(found.len(), 59);
    assert!(!found.contains_key(unsure[1].split(',').next().unwrap()));
    // A sheet is judged once.
    let others = place.write("others.csv", lines.join("\n"));
    has(
        &bad(&["audit", "certify", &run, "--answers", &others]),
        &["sheet 1 is judged already, by other answers"],
    );
}

#[test]
fn an_audit_holds_for_the_labels_that_were_fixed_and_outlives_force() {
    let place = Place::new();
    let run = labelled(&place, "run", &[]);
    draw_half(&run);
    let answers = answers(&place, &run, 1, 0);
    good(&["audit", "certify", &run, "--answers", &answers]);
    let before = fs::read(format!("{run}/audit/1/certificate.json")).unwrap();
    labelled(&place, "run", &["--force", "--calibrate", "none"]);
    assert_eq!(fs::read(format!("{run}/audit/1/certificate.json")).unwrap(), before);
    has(
        &bad(&["audit", "certify", &run, "--answers", &answers]),
        &[
            "no audit was drawn of these labels",
            "the run's labels changed since its audit was drawn",
        ],
    );
    let out = place.path("no");
    let message =
        bad(&[&["export", &run, "--guarantee", "0.1@0.95", "--out", &out], &EXPORT[..]].concat());
    has(
        &message,
        &[
            "no audit of these labels proves 0.1@0.95",
            "hint: draw rows to answer with `w2s audit draw",
        ],
    );
    draw_half(&run);
    assert!(Path::new(&format!("{run}/audit/2/plan.json")).exists());
}

#[test]
fn what_cannot_be_proved_is_refused_before_a_row_is_asked() {
    let place = Place::new();
    let run = labelled(&place, "run", &[]);
    let draw = |more: &[&str]| bad(&[&["audit", "draw", &run], more].concat());
    let wrong = |more: &[&str]| bad_usage(&[&["audit", "draw", &run], more].concat());
    // scipy: the fewest rows of 120 with hypergeom.cdf(0, 120, 7, n) <= .05 are 41.
    has(
        &draw(&["--budget", "40", "--share", "1", "--error-rate", "0.01"]),
        &[
            "40 rows cannot prove 0.05@0.95 for 120 of 120 labels, even if none is wrong",
            "raise `--budget` to 41 or more",
        ],
    );
    // 1 - (.3 - .05) / .95 = .737.
    has(
        &draw(&["--share", "0.8", "--error-rate", "0.3"]),
        &[
            "80 % of the labels cannot be covered with at most 5 % wrong",
            "no choice covers more than 74 %",
        ],
    );
    has(&wrong(&["--guarantee", "5%"]), &["`5%` is no guarantee", "0.05@0.95"]);
    has(&wrong(&["--budget", "0"]), &["`--budget` is 0"]);
    has(&wrong(&["--share", "1.5"]), &["`--share` is 1.5"]);
    assert!(!Path::new(&format!("{run}/audit")).exists());
}
