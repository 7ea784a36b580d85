//! A user's own table with columns that no task knows: to labels, and back into the table.

use std::path::Path;

use serde_json::Value;

use crate::cli::{Place, bad, good, has, strs, text, w2s};
use crate::common::tiny;

/// Semicolons, capitals, blanks in names, and ids that are no row numbers.
const TABLE: &str = "Claim No;Claim Text;Label\n\
    C-9;2+2=4;right\nC-7;2+2=5;wrong\nC-8;\"3;3\";right\nC-1;1+1=3;wrong\n";

fn place() -> Place {
    let place = Place::new();
    place.write("own.csv", TABLE);
    place
}

fn command(place: &Place, verb: &str, out: &str, more: &[&str]) -> Vec<String> {
    let (model, data) = (tiny("llama").display().to_string(), place.path("own.csv"));
    let out = place.path(out);
    let fixed = [verb, "--model", &model, "--task", "statements", "--data", &data, "--out", &out];
    fixed.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

const OWN: [&str; 4] = ["--field", "statement=Claim Text", "--id", "Claim No"];

fn ids(place: &Place, file: &str) -> Vec<String> {
    let id =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().into();
    place.read(file).lines().map(id).collect()
}

#[test]
fn own_columns_are_labelled_evaluated_trained_on_and_given_back() {
    let place = place();
    let zero = [&OWN[..], &["--method", "zero-shot"]].concat();
    let output = w2s(&strs(&command(&place, "label", "zero", &zero)));
    assert!(output.status.success(), "{}", text(&output.stderr));
    has(&text(&output.stderr), &["own.csv: columns are separated by semicolons"]);
    assert_eq!(ids(&place, "zero/labels.jsonl"), ["C-9", "C-7", "C-8", "C-1"]);
    let manifest: Value = serde_json::from_str(&place.read("zero/manifest.json")).unwrap();
    assert_eq!(manifest["settings"]["fields"]["statement"], "Claim Text");
    assert_eq!(manifest["settings"]["id_column"], "Claim No");

    // Whoever reads the data again knows the columns: gold is joined by the user's ids.
    let (zero, own) = (place.path("zero"), place.path("own.csv"));
    has(&good(&["eval", &zero, "--gold", &own, "--gold-column", "Label"]), &["of 4)"]);
    let report = place.path("report");
    good(&["report", &zero, "--out", &report]);
    let page = place.read("report/report.html");
    has(&page, &["2+2=5"]);
    let trained = [&OWN[..], &["--labels", &zero, "--epochs", "1"]].concat();
    good(&strs(&command(&place, "train", "student", &trained)));
    let filtered = [&OWN[..], &["--entropy", "--num-variants", "3"]].concat();
    good(&strs(&command(&place, "filter", "weak", &filtered)));
    assert_eq!(ids(&place, "weak/answers.jsonl")[0], "C-9");
    let loops =
        [&OWN[..], &["--batches", "1", "--held-out", "0", "--set", "label.iterations=4"]].concat();
    good(&strs(&command(&place, "loop", "loop", &loops)));
    let step: Value =
        serde_json::from_str(&place.read("loop/round-1/label/manifest.json")).unwrap();
    assert_eq!(step["settings"]["id_column"], "Claim No");

    // The table comes back with its own columns, order, spelling and separator.
    let out = place.path("back.csv");
    good(&["export", &zero, "--format", "csv", "--out", &out]);
    let back = place.read("back.csv");
    let lines: Vec<&str> = back.lines().collect();
    assert_eq!(
        lines[0],
        "Claim No;Claim Text;Label;w2s_label;w2s_probability;w2s_margin;w2s_kept;w2s_weight"
    );
    assert_eq!(lines.len(), 5);
    assert!(lines[1].starts_with("C-9;2+2=4;right;"), "{back}");
    assert!(lines[3].starts_with("C-8;\"3;3\";right;"), "{back}");
    let record: Value =
        serde_json::from_str(place.read("zero/labels.jsonl").lines().next().unwrap()).unwrap();
    let cells: Vec<&str> = lines[1].split(';').collect();
    assert_eq!(cells[3], record["label"].as_str().unwrap());
    let odds = record["margin"].as_f64().unwrap();
    // Of two labels the probability is the logistic function of the margin.
    let expected = 1.0 / (1.0 + (-odds).exp());
    assert!((cells[4].parse::<f64>().unwrap() - expected).abs() < 1e-5, "{cells:?} {expected}");
    assert_eq!(cells[6..], ["true", "1.0"]);

    // Neither the data nor an export is written over.
    let again = bad(&["export", &zero, "--format", "csv", "--out", &out]);
    has(&again, &["the file is there already", "--force"]);
    let itself = w2s(&["export", &zero, "--format", "csv", "--out", &own, "--force"]);
    assert_eq!(itself.status.code(), Some(2));
    has(&text(&itself.stderr), &["is the run's own data"]);
    assert_eq!(place.read("own.csv"), TABLE);
}

#[test]
fn what_a_filter_dropped_says_so_in_the_table() {
    let place = place();
    let filtered =
        [&OWN[..], &["--entropy", "--num-variants", "3", "--keep-fraction", "0.5"]].concat();
    good(&strs(&command(&place, "filter", "weak", &filtered)));
    let run = place.path("weak");
    good(&["export", &run, "--format", "jsonl", "--out", &place.path("back.jsonl")]);
    let rows: Vec<Value> =
        place.read("back.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().filter(|row| row["w2s_kept"] == true).count(), 2);
    assert_eq!(rows[2]["Claim Text"], "3;3");
    // Parquet has the same values, as our own reader sees them.
    let parquet = place.path("back.parquet");
    good(&["export", &run, "--format", "parquet", "--out", &parquet]);
    let out = place.path("drawn");
    good(&["data", "draw", "--data", &parquet, "--part", "all=4", "--out", &out]);
    let drawn = place.read("drawn/all.jsonl");
    for row in &rows {
        let id = &row["Claim No"];
        let same = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let found = drawn.lines().map(same).find(|found| found["Claim No"] == *id).unwrap();
        // `data draw` gives every record an id.
        let mut found = found;
        found.as_object_mut().unwrap().remove("id");
        assert_eq!(found, *row);
    }
}

#[test]
fn what_is_missing_is_named_with_what_is_there() {
    let place = place();
    let label = |more: &[&str]| {
        let output = w2s(&strs(&command(&place, "label", "r", more)));
        assert!(!output.status.success());
        text(&output.stderr)
    };
    has(
        &label(&[]),
        &["no field `statement`", "`Claim No`, `Claim Text`", "--field 'statement=Claim Text'"],
    );
    has(
        &label(&["--field", "statement=Claim Text", "--id", "Claim Nr"]),
        &["no column `Claim Nr`", "`--id` names", "did you mean `Claim No`?", "`Claim Text`"],
    );
    has(&label(&["--field", "statment=Claim Text"]), &["did you mean `statement`?"]);
    has(&label(&["--field", "statement"]), &["expected FIELD=COLUMN"]);
    has(&label(&["--field", "statement=label"]), &["holds gold"]);
    assert!(!Path::new(&place.path("r")).exists());
    let unknown = w2s(&["tasks", "sentimnt"]);
    has(&text(&unknown.stderr), &["did you mean `sentiment`?"]);
}

#[test]
fn a_new_task_file_is_written_and_labels_its_data() {
    let place = place();
    let (data, out) = (place.path("own.csv"), place.path("own.toml"));
    let new = ["tasks", "new", "--data", &data, "--out", &out];
    let output = w2s(&new);
    assert_eq!(output.status.code(), Some(2));
    has(&text(&output.stderr), &["--field and --labels", "Claim Text  2+2=4", "--labels no,yes"]);
    assert!(!Path::new(&out).exists());
    let more = [
        "--field",
        "sum=Claim Text",
        "--id",
        "Claim No",
        "--labels",
        "wrong,right",
        "--question",
        "Is it \"so\"?",
        "--gold-column",
        "Label",
    ];
    let typo = w2s(&[&new[..], &more[2..], &["--field", "sum=Claim Txt"]].concat());
    has(&text(&typo.stderr), &["no column `Claim Txt`", "did you mean `Claim Text`?"]);
    let said = text(&w2s(&[&new[..], &more].concat()).stderr);
    has(&said, &["it reads 4 examples", "| Sum: 2+2=4", "next: w2s label", "wrong or right"]);
    has(
        &good(&["tasks", &out]),
        &["labels       wrong, right (positive: right)", "gold columns Label"],
    );
    let model = tiny("llama").display().to_string();
    let run = place.path("run");
    good(&[
        "label",
        "--model",
        &model,
        "--task",
        &out,
        "--data",
        &data,
        "--method",
        "zero-shot",
        "--out",
        &run,
    ]);
    has(&good(&["eval", &run, "--gold", &data]), &["of 4)"]);
    has(&bad(&[&new[..], &more].concat()), &["the file is there already"]);
}
