//! The record reader: a JSON list, JSON lines, CSV, TSV or Parquet becomes records with their lines.
//!
//! Files are read whole; a record's line is the one it begins on, also inside a pretty-printed JSON
//! list and after a CSV field with breaks.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::expand::expand;
use super::read_parquet::read_parquet;
use super::read_table::read_table;
use super::record::{Layout, LineCounter, Record, Records, sha256_hex, utf8};
use crate::error::{Error, ErrorKind, Result};

/// What a file of records is written in.
enum Format {
    Json,
    Table(u8),
    Parquet,
}

/// Returns the records of `path`, by its extension.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] with the line if it holds no
/// records, is not UTF-8, is broken, or holds something that is not a record.
pub(super) fn read_records(path: &Path, layout: Layout<'_>) -> Result<Records> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let format = match extension.as_str() {
        "json" | "jsonl" | "ndjson" => Format::Json,
        "csv" => Format::Table(b','),
        "tsv" => Format::Table(b'\t'),
        "parquet" => Format::Parquet,
        _ => {
            return Err(Error::new(
                ErrorKind::Data,
                "cannot tell the format of the file from its name",
            )
            .at(path)
            .hint("records are read from .json, .jsonl, .ndjson, .csv, .tsv and .parquet files"));
        }
    };
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, &source))?;
    let mut separator = None;
    let (records, if_empty) = match format {
        Format::Parquet => (read_parquet(path, layout.all_columns)?, "the table has no rows"),
        Format::Json => {
            let text = not_empty(&bytes, path)?;
            match text.trim_start().starts_with('[') {
                true => (read_list(text, path)?, "the JSON list is empty"),
                false => (read_lines(text, path)?, "there is no line with a record"),
            }
        }
        Format::Table(delimiter) => {
            let text = not_empty(&bytes, path)?;
            let table = read_table(text, delimiter, layout, path)?;
            separator = table.separator;
            (table.records, "there is a header and nothing after it")
        }
    };
    if records.is_empty() {
        return Err(Error::new(ErrorKind::Data, "file holds no records").at(path).hint(if_empty));
    }
    let (records, num_unused) = match layout.reader {
        Some(reader) => expand(reader, records),
        None => (records, 0),
    };
    if records.is_empty() {
        return Err(Error::new(
            ErrorKind::Data,
            format!("none of {num_unused} records is one that the task asks about"),
        )
        .at(path)
        .hint("data/tasks/README.md says what each `reader` makes of a record"));
    }
    let (path, sha256) = (path.to_path_buf(), sha256_hex(&bytes));
    Ok(Records { path, sha256, records, num_unused, separator })
}

fn not_empty<'b>(bytes: &'b [u8], path: &Path) -> Result<&'b str> {
    let text = utf8(bytes, path)?;
    if text.trim().is_empty() {
        return Err(Error::new(ErrorKind::Data, "file is empty")
            .at(path)
            .hint("expected one record a line, or a JSON list of records"));
    }
    Ok(text)
}

/// A JSON object whose keys are all different.
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Object, A::Error> {
                let mut values = Map::new();
                while let Some((key, value)) = access.next_entry::<String, Value>()? {
                    if values.contains_key(&key) {
                        return Err(A::Error::custom(format!("field `{key}` is there twice")));
                    }
                    values.insert(key, value);
                }
                Ok(Object(values))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Returns the error for a record that serde_json refused; `line` is the one its text begins on.
fn json_error(source: &serde_json::Error, line: usize, path: &Path) -> Error {
    let text = source.to_string();
    let facts = text.rsplit_once(" at line ").map_or(text.as_str(), |(facts, _)| facts);
    let at = line + source.line().saturating_sub(1);
    match source.classify() {
        serde_json::error::Category::Data if facts.starts_with("invalid type") => {
            let found = facts.trim_start_matches("invalid type: ");
            let found = found.split_once(", expected").map_or(found, |(found, _)| found);
            Error::new(ErrorKind::Data, format!("record is not an object, got {found}"))
                .at_line(path, at)
                .hint("a record is a JSON object such as {\"id\": \"r-001\", \"text\": \"...\"}")
        }
        serde_json::error::Category::Data => Error::new(ErrorKind::Data, facts).at_line(path, at),
        serde_json::error::Category::Eof => {
            Error::new(ErrorKind::Data, format!("broken JSON: {facts}"))
                .at_line(path, at)
                .hint("the record is cut off; JSON lines hold one whole object a line")
        }
        _ => Error::new(
            ErrorKind::Data,
            format!("broken JSON in column {}: {facts}", source.column()),
        )
        .at_line(path, at)
        .hint("a file of records is a JSON list of objects, or one object a line"),
    }
}

fn read_lines(text: &str, path: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for (index, line_text) in text.split('\n').enumerate() {
        if line_text.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        let Object(values) =
            serde_json::from_str(line_text).map_err(|source| json_error(&source, line, path))?;
        records.push(Record { row: records.len() + 1, line, values });
    }
    Ok(records)
}

/// Reads a JSON list element by element, because only so is each element's line known.
fn read_list(text: &str, path: &Path) -> Result<Vec<Record>> {
    let mut lines = LineCounter::new(text);
    let skip_blanks = |offset: usize| {
        let rest = &text[offset..];
        offset + rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len()
    };
    let broken = |message: &str, line: usize| {
        Error::new(ErrorKind::Data, format!("broken JSON: {message}"))
            .at_line(path, line)
            .hint("the file begins with `[`, so it is read as one JSON list of records")
    };
    let mut records: Vec<Record> = Vec::new();
    let mut offset = text.len() - text.trim_start().len() + 1;
    loop {
        offset = skip_blanks(offset);
        let line = lines.at(offset);
        if records.is_empty() && text[offset..].starts_with(']') {
            break;
        }
        let mut stream = serde_json::Deserializer::from_str(&text[offset..]).into_iter::<Object>();
        match stream.next() {
            Some(Ok(Object(values))) => {
                records.push(Record { row: records.len() + 1, line, values });
            }
            Some(Err(source)) => return Err(json_error(&source, line, path)),
            None => return Err(broken("the list is not closed", line)),
        }
        offset = skip_blanks(offset + stream.byte_offset());
        match text[offset..].chars().next() {
            Some(',') => offset += 1,
            Some(']') => break,
            Some(other) => {
                return Err(broken(
                    &format!("expected `,` or `]` after a record, got `{other}`"),
                    lines.at(offset),
                ));
            }
            None => return Err(broken("the list is not closed", lines.at(offset))),
        }
    }
    let end = skip_blanks(offset + 1);
    if end < text.len() {
        return Err(broken("there is more text after the list", lines.at(end)));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<(usize, String)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let records = read_records(&path, Layout::default())?;
        Ok(records
            .records
            .iter()
            .map(|record| (record.line, Value::Object(record.values.clone()).to_string()))
            .collect())
    }

    /// Line of the error, or a panic with what was read.
    fn error_line(name: &str, bytes: &[u8]) -> (usize, String) {
        let error = read(name, bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        (error.place().and_then(|(_, line)| line).unwrap_or(0), error.message().to_owned())
    }

    #[test]
    fn the_same_records_in_every_format() {
        let expected = [r#"{"a":"1","b":"x, \"y\""}"#, r#"{"a":"2","b":"z"}"#];
        let json =
            "[\n {\"a\": \"1\",\n  \"b\": \"x, \\\"y\\\"\"},\n {\"a\":\"2\",\"b\":\"z\"}\n]\n";
        let jsonl = "\n{\"a\":\"1\",\"b\":\"x, \\\"y\\\"\"}\r\n\r\n{\"a\":\"2\",\"b\":\"z\"}";
        let csv = "\u{feff}a,b\r\n\r\n1,\"x, \"\"y\"\"\"\r\n\r\n\r\n2,z\r\n";
        let tsv = "a\tb\n1\t\"x, \"\"y\"\"\"\n2\tz";
        for (name, text, lines) in [
            ("t.json", json, [2, 4]),
            ("t.jsonl", json, [2, 4]),
            ("t.json", jsonl, [2, 4]),
            ("t.ndjson", jsonl, [2, 4]),
            ("t.csv", csv, [3, 6]),
            ("t.TSV", tsv, [2, 3]),
        ] {
            let records = read(name, text.as_bytes()).unwrap();
            let wanted: Vec<(usize, String)> =
                lines.into_iter().zip(expected.map(str::to_owned)).collect();
            assert_eq!(records, wanted, "{name}: {text:?}");
        }
    }

    #[test]
    fn a_csv_field_with_breaks_keeps_the_lines_right() {
        let records = read("t.csv", b"a,b\n\"one\ntwo\n\",x\ny,z\n").unwrap();
        assert_eq!(records.iter().map(|r| r.0).collect::<Vec<_>>(), [2, 5]);
    }

    #[test]
    fn broken_json_names_its_line() {
        let pretty = b"[\n  {\n    \"a\": 1\n  },\n  {\n    \"a\": oops\n  }\n]";
        assert_eq!(error_line("t.json", pretty).0, 6);
        assert_eq!(error_line("t.jsonl", b"{\"a\":1}\n\n{\"a\":1,}\n").0, 3);
        assert_eq!(error_line("t.jsonl", b"{\"a\":1}\n{\"a\":1} {\"a\":2}\n").0, 2);
        // Cut off: inside a record, between records, after a comma; then too much.
        assert_eq!(error_line("t.json", b"[\n {\"a\": 1,\n").0, 3);
        assert_eq!(error_line("t.json", b"[\n {\"a\": 1}\n").0, 3);
        assert_eq!(error_line("t.json", b"[\n {\"a\": 1},\n").0, 3);
        assert_eq!(error_line("t.json", b"[\n {\"a\": 1}\n]\n{}").0, 4);
        assert_eq!(error_line("t.json", b"[\n {\"a\": 1}\n {\"a\": 2}\n]").0, 3);
        assert_eq!(error_line("t.json", b"[\n {\"a\": 1},\n]").0, 3);
    }

    #[test]
    fn a_record_that_is_not_an_object_is_named() {
        for (name, text, line) in [
            ("t.json", "[\n {\"a\":1},\n 17,\n {\"a\":2}]", 3),
            ("t.json", "[\n[1]\n]", 2),
            ("t.jsonl", "{\"a\":1}\n\"text\"\n", 2),
            ("t.jsonl", "{\"a\":1}\nnull\n", 2),
        ] {
            let (at, message) = error_line(name, text.as_bytes());
            assert_eq!(at, line, "{text:?}");
            assert!(message.starts_with("record is not an object, got "), "{message}");
        }
        let (at, message) = error_line("t.json", b"[{\"a\": 1,\n\"a\": 2}]");
        assert_eq!((at, message.as_str()), (2, "field `a` is there twice"));
    }

    #[test]
    fn a_file_without_records_is_refused() {
        for (name, text) in [
            ("t.json", ""),
            ("t.jsonl", " \n\n"),
            ("t.csv", ""),
            ("t.json", "[]"),
            ("t.json", " [ \n ] "),
            ("t.csv", "a,b\n"),
            ("t.parquet", "{}"),
            ("t.xlsx", "{}"),
        ] {
            assert_eq!(error_line(name, text.as_bytes()).0, 0, "{name} {text:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_named_with_their_line() {
        let (line, message) = error_line("t.jsonl", b"{\"a\":\"x\"}\n{\"a\":\"caf\xe9\"}\n");
        assert_eq!((line, message.as_str()), (2, "byte 0xe9 is not UTF-8"));
        assert_eq!(error_line("t.csv", b"\xff\xfea\0").0, 1);
    }

    #[test]
    fn broken_tables_are_refused() {
        assert_eq!(error_line("t.csv", b"a,b\n1,2\n1,2,3\n").0, 3);
        assert_eq!(error_line("t.csv", b"a,b\n1\n").0, 2);
        assert_eq!(error_line("t.csv", b"a,b,a\n1,2,3\n").0, 1);
        let (line, message) = error_line("t.csv", b"a,b\n1,2\n3,\"4\n5,6\n");
        assert_eq!((line, message.as_str()), (3, "quoted field is not closed"));
        // A quote inside an unquoted field is text.
        assert_eq!(read("t.csv", b"a,b\n1,5\" pipe").unwrap().len(), 1);
        // The index column of pandas has no name.
        assert_eq!(read("t.csv", b",a\n0,x\n").unwrap()[0].1, r#"{"":"0","a":"x"}"#);
    }

    #[test]
    fn a_table_without_a_header_takes_the_names_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.tsv");
        let columns = ["text".to_owned(), "label".to_owned()];
        let known = ["text", "sentence", "label", "x"].map(str::to_owned);
        let layout = Layout { columns: Some(&columns), known: &known, ..Layout::default() };
        let headless = Layout { has_header: Some(false), ..layout };
        for (text, lines, name) in [
            ("x\t1\ny\t0\n", vec![1, 2], "text"),
            ("text\tlabel\nx\t1\n", vec![2], "text"),
            ("idx\tsentence\tlabel\n7\tx\t1\n", vec![2], "sentence"),
        ] {
            std::fs::write(&path, text).unwrap();
            let layout = if lines[0] == 1 { headless } else { layout };
            let records = read_records(&path, layout).unwrap().records;
            assert_eq!(records.iter().map(|r| r.line).collect::<Vec<_>>(), lines);
            assert_eq!(records[0].values[name], "x");
        }
        std::fs::write(&path, "x\t1\tmore\n").unwrap();
        assert!(read_records(&path, headless).is_err());
        // What could be a header is not taken for data, and what cannot be one is data.
        for (text, is_data) in [
            ("ID\tComment\n17\tgood film\n", None),
            ("x\ty\nz\tw\n", None),
            ("0\t1\nx\t0\n", None),
            ("x\t\ny\t\n", Some(true)),
            ("y\ty\nx\tz\n", Some(true)),
            ("Text\tLabel\nx\t1\n", Some(false)),
            ("id\tcomment\tmore\n1\tx\ty\n", Some(false)),
        ] {
            std::fs::write(&path, text).unwrap();
            match (read_records(&path, layout), is_data) {
                (Ok(read), Some(is_data)) => {
                    assert_eq!(read.records.len(), if is_data { 2 } else { 1 }, "{text:?}");
                }
                (Err(error), None) => {
                    let says = error.to_string();
                    assert!(
                        says.contains("cannot tell whether the first row is a header"),
                        "{says}"
                    );
                    assert!(says.contains("[fields]") && says.contains("line 1"), "{says}");
                }
                (other, _) => panic!("{text:?}: {:?}", other.map(|read| read.records.len())),
            }
        }
    }

    #[test]
    fn the_delimiter_is_found_where_one_alone_does() {
        let columns = |name: &str, text: &str| {
            let (_, record) = read(name, text.as_bytes()).unwrap().remove(0);
            record
        };
        let expected = r#"{"id":"1","text":"good, very"}"#;
        assert_eq!(columns("t.csv", "id;text\n1;good, very\n"), expected);
        assert_eq!(columns("t.csv", "id\ttext\n1\tgood, very\n"), expected);
        assert_eq!(columns("t.tsv", "id;text\n1;good, very\n"), expected);
        assert_eq!(columns("t.csv", "sep=;\r\nid;text\r\n1;good, very\r\n"), expected);
        assert_eq!(columns("t.csv", "sep=,\nid,text\n1,\"good, very\"\n"), expected);
        assert_eq!(columns("t.csv", "text\ngood; very\nbad\n"), r#"{"text":"good; very"}"#);
        let (line, message) = error_line("t.csv", b"a;b|c\n1;2|3\n");
        assert_eq!(line, 1);
        assert!(message.contains("cannot tell what parts the columns"), "{message}");
        let (line, _) = error_line("t.csv", b"sep=;\na;b\n1;2\n1;2;3\n");
        assert_eq!(line, 4);
    }

    #[test]
    fn stray_quotes_lose_no_row() {
        let glue = "sentence\tlabel\n\" a moving film\t1\nit is dull\t0\nhe called it \" a masterpiece \" and left\t1\nfine\t1\n";
        let records = read("t.tsv", glue.as_bytes()).unwrap();
        assert_eq!(records.len(), 4);
        assert_eq!(records[0].1, r#"{"sentence":"\" a moving film","label":"1"}"#);
        let csv = glue.replace('\t', ",");
        let (line, message) = error_line("t.csv", csv.as_bytes());
        assert_eq!(line, 4);
        assert!(message.contains("behind the closing quote"), "{message}");
        assert_eq!(error_line("t.csv", b"a,b\n1,x\0\n").0, 2);
    }
}
