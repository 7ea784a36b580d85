//! Readers of tables, tasks and recipes under damaged input: each gives a value or an error, never a
//! panic. Counts: `W2S_FUZZ_EXECUTIONS` (see `mutate`).

use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use w2s::data::{Dataset, GoldLabels, Task, read_given_labels};
use w2s::recipe::Recipe;

use crate::common::project;
use crate::mutate;

fn fuzz(name: &str, extension: &str, task: &str, seeds: &[Vec<u8>]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("t.{extension}"));
    let task = Task::load(task).unwrap();
    mutate::run(name, seeds, |input| {
        std::fs::write(&file, input).unwrap();
        if let Ok(data) = Dataset::read(&file, &task) {
            assert!(!data.examples.is_empty());
            let mut ids: Vec<&str> = data.examples.iter().map(|e| e.id.as_str()).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), data.examples.len(), "ids are different");
        }
        let _ = GoldLabels::read(&file, &task);
        let _ = read_given_labels(&file, &task);
    });
}

#[test]
fn jsonl() {
    let lines = b"{\"id\":1,\"text\":\"a \\u00e9\",\"label\":1}\n{\"id\":\"x\",\"text\":\"b\",\"label\":null}\n";
    let list = b"[\n {\"text\": \"a\", \"label\": 0, \"group\": [1, {\"a\": 2}]},\n {\"text\": \"b\"}\n]\n";
    fuzz("jsonl", "jsonl", "sentiment", &[lines.to_vec(), list.to_vec()]);
}

#[test]
fn csv() {
    let seeds: [&[u8]; 4] = [
        b"id,text,label\r\n1,\"a, \"\"b\"\"\r\nc\",1\r\n2,d,0\r\n",
        b"a film,1\nanother,0\n",
        b"\xef\xbb\xbfsep=;\ntext;label\ngood;1\n",
        b"ind,activity_label,ctx,endings,label\n1,a,b,\"['x', \"\"it's\"\", 'z']\",1\n",
    ];
    let seeds = seeds.map(<[u8]>::to_vec);
    fuzz("csv", "csv", "sentiment", &seeds);
    fuzz("csv options", "csv", "hellaswag", &seeds);
}

#[test]
fn tsv() {
    let seeds: [&[u8]; 2] =
        [b"text\tlabel\n\"good film\t1\nbad \"one\"\t0\n", b"\"a\tb\nc\"\t1\nd\t0\n"];
    fuzz("tsv", "tsv", "sentiment", &seeds.map(<[u8]>::to_vec));
}

#[test]
fn parquet_files() {
    let seeds = [parquet(3, 4, 0), parquet(40, 9, i64::MAX)];
    fuzz("parquet", "parquet", "sentiment", &seeds);
}

#[test]
fn task_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    let seeds = ["mmlu", "moral-foundations", "ethics-commonsense", "gsm8k"]
        .map(|name| Task::load(name).unwrap().toml.into_bytes());
    mutate::run("task", &seeds, |input| {
        std::fs::write(&file, input).unwrap();
        let _ = Task::load(file.to_str().unwrap());
    });
}

#[test]
fn recipe_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("r.toml");
    let recipes = project().join("data/recipes");
    let mut seeds: Vec<Vec<u8>> = std::fs::read_dir(recipes)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    mutate::run("recipe", &seeds, |input| {
        std::fs::write(&file, input).unwrap();
        let _ = Recipe::load(file.to_str().unwrap());
    });
}

/// A Parquet file with a `text` of `size` bytes and a time in each of `num` rows.
pub fn parquet(num: usize, size: usize, micros: i64) -> Vec<u8> {
    let schema =
        "message m { required binary text (UTF8); required int64 at (TIMESTAMP(MICROS,true)); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts = vec![ByteArray::from(vec![b'x'; size]); num];
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&vec![micros; num], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}
