//! Tables as users have them: what can be read in two ways is refused with its line, and no row is lost
//! in silence. Public reports: huggingface/datasets#485, pytorch/text#349, facebookresearch/pytext#376,
//! rewicks/ersatz#1, apache/arrow-rs#2897.

use serde_json::Value;

use crate::cli::{Place, good, text, w2s};
use crate::common::{project, tiny};
use crate::fuzz_tables::parquet;

/// Labels a file under a task; returns the ids of the labels, or the message.
fn label(place: &Place, task: &str, data: &str) -> Result<Vec<String>, String> {
    let model = tiny("llama").display().to_string();
    let out = place.path("run");
    let _ = std::fs::remove_dir_all(&out);
    let args = ["label", "--model", &model, "--task", task, "--data", data, "--out", &out];
    let output = w2s(&[&args[..], &["--method", "zero-shot"]].concat());
    let message = text(&output.stderr);
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1), "{message}");
        return Err(message.to_string());
    }
    let labels = place.read("run/labels.jsonl");
    let id = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["id"].as_str().unwrap().to_owned()
    };
    Ok(labels.lines().map(id).collect())
}

fn refused(result: Result<Vec<String>, String>, parts: &[&str]) {
    let message = result.unwrap_err();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

#[test]
fn a_header_is_not_taken_for_data() {
    let place = Place::new();
    let data = place.write("a.csv", "ID,Comment\n17,good film\n18,bad film\n");
    let parts = ["no field `text`", "has `id`, `Comment`", "[fields]"];
    refused(label(&place, "sentiment", &data), &parts);
    let data = place.write("a2.csv", "Nr,Comment\n17,good film\n18,bad film\n");
    let said = "cannot tell whether the first row is a header: `Nr`, `Comment`";
    refused(label(&place, "sentiment", &data), &[said, "[fields]", "line 1"]);
    // Excel's line of the separator is no row.
    let data = place.write("b.csv", "sep=,\nid,text\n1,good\n");
    assert_eq!(label(&place, "sentiment", &data).unwrap(), ["1"]);
    let data = place.write("c.csv", "sep=;\r\nid;text\r\n1;good, really\r\n");
    assert_eq!(label(&place, "sentiment", &data).unwrap(), ["1"]);
    // Names in capitals are the task's; other names are listed.
    let data = place.write("d.csv", "ID,Text,Label\n7,good film,1\n");
    assert_eq!(label(&place, "sentiment", &data).unwrap(), ["7"]);
    let data = place.write("d.csv", "label,comment\n1,good film\n");
    refused(label(&place, "sentiment", &data), &["no field `text`", "has `label`, `comment`"]);
    // What has a label in the label's place is data.
    let data = place.write("e.tsv", "good film\t1\nbad film\t0\n");
    assert_eq!(label(&place, "sentiment", &data).unwrap(), ["row-1", "row-2"]);
    // And the user can say.
    let task = w2s(&["tasks", "sentiment", "--toml"]);
    let toml = if task.status.success() {
        text(&task.stdout).to_string()
    } else {
        std::fs::read_to_string(project().join("data/tasks/sentiment.toml")).unwrap()
    };
    let own = place.write("own.toml", toml.replacen("columns = ", "header = false\ncolumns = ", 1));
    let data = place.write("f.tsv", "good film\tx\nbad film\ty\n");
    refused(label(&place, "sentiment", &data), &["cannot tell whether"]);
    assert_eq!(label(&place, &own, &data).unwrap().len(), 2);
    let data = place.write("g.tsv", "text\tlabel\ngood film\t1\n");
    refused(label(&place, &own, &data), &["the first row is the header", "line 1"]);
}

#[test]
fn stray_quotes_lose_no_rows() {
    let place = Place::new();
    let rows = "sentence\tlabel\n\" a moving film\t1\nit is dull\t0\nhe called it \" a masterpiece \" and left\t1\nfine\t1\n";
    let data = place.write("glue.tsv", rows);
    assert_eq!(label(&place, "sentiment", &data).unwrap().len(), 4);
    let data = place.write("glue.csv", rows.replace('\t', ","));
    refused(label(&place, "sentiment", &data), &["behind the closing quote of a field", "line 4"]);
}

#[test]
fn ids_are_those_of_the_file_or_it_is_refused() {
    let place = Place::new();
    let toml = std::fs::read_to_string(project().join("data/tasks/sentiment.toml")).unwrap();
    let own =
        place.write("own.toml", toml.replacen("columns = ", "id = [\"claim_no\"]\ncolumns = ", 1));
    let data = place.write("a.csv", "number,text\n1,good\n");
    refused(
        label(&place, &own, &data),
        &["the file has no column `claim_no`", "the columns are `number`, `text`"],
    );
    let data =
        place.write("a2.jsonl", "{\"claim_no\": 1, \"text\": \"good\"}\n{\"text\": \"bad\"}\n");
    refused(label(&place, &own, &data), &["the record has no `claim_no`", "line 2"]);
    // pandas writes whole numbers as 0.0 where a cell of the column is empty; they are the same ids.
    let data = place.write("b.csv", "id,text\n0.0,good\n1.0,bad\n007,so so\n");
    assert_eq!(label(&place, "sentiment", &data).unwrap(), ["0", "1", "007"]);
    let gold = place.write(
        "gold.jsonl",
        "{\"id\": 0, \"label\": 1}\n{\"id\": 1, \"label\": 0}\n{\"id\": \"007\", \"label\": 1}\n",
    );
    let output = w2s(&["eval", &place.path("run"), "--gold", &gold]);
    let told = [text(&output.stdout), text(&output.stderr)].concat();
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("no gold label"), "{told}");
    let data = place.write("c.csv", "id,text\n1.0,good\n1,bad\n");
    refused(label(&place, "sentiment", &data), &["duplicate id `1`", "line 3"]);
    let data = place.write("d.jsonl", "{\"id\": 1e20, \"text\": \"good\"}\n");
    refused(label(&place, "sentiment", &data), &["too large to be told from its neighbours"]);
    let data = place.write("e.jsonl", "{\"id\": 9007199254740993, \"text\": \"good\"}\n");
    assert_eq!(label(&place, "sentiment", &data).unwrap(), ["9007199254740993"]);
}

#[test]
fn damaged_and_boundless_parquet_is_one_error() {
    let place = Place::new();
    let file = |name: &str| project().join("tests/data/broken").join(name).display().to_string();
    // A date beyond the calendar, in a column that nobody asks for.
    assert_eq!(label(&place, "sentiment", &file("timestamp.parquet")).unwrap().len(), 2);
    // Where all columns are wanted it is an error with its row.
    let out = place.path("draw");
    let from = file("timestamp.parquet");
    let output = w2s(&["data", "draw", "--data", &from, "--part", "a=1", "--out", &out]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("cannot be read") && told.contains("timestamp.parquet`, line 1\n"),
        "{told}"
    );
    refused(
        label(&place, "sentiment", &file("dictionary.parquet")),
        &["the Parquet reader fails on this file", "dictionary.parquet", "hint: "],
    );
    // A time within the calendar is read.
    let data = place.folder.path().join("times.parquet");
    std::fs::write(&data, parquet(2, 4, 1_000_000)).unwrap();
    let out = place.path("times");
    let data = data.display().to_string();
    good(&["data", "draw", "--data", &data, "--part", "a=2", "--out", &out]);
    let drawn = place.read("times/a.jsonl");
    assert_eq!(drawn.matches("1970-01-01 00:00:01").count(), 2, "{drawn}");
    // 10 kB that would be 5 GB of rows.
    refused(
        label(&place, "sentiment", &file("many_rows.parquet")),
        &["MiB of memory, expected at most 256 MiB", "many_rows.parquet"],
    );
}
