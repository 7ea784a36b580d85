//! Labels beside the user's own columns: CSV, JSON lines or Parquet.
//!
//! Every row of the data is a row here, in its order; one that the run did not label has empty cells.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde_json::{Map, Value, json};

use super::formats::Format;
use super::notes::{Notes, gold_used};
use crate::data::{OwnTable, WeakRecord, read_json_lines, read_label_records};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::Guarantee;
use crate::pipeline::audit::{Covered, covered};
use crate::pipeline::finished::{complete_run, task_of};
use crate::pipeline::observer::Event;
use crate::pipeline::results::Exported;
use crate::pipeline::run_labels::{RunLabels, margin, probability};
use crate::pipeline::session::Session;
use crate::run::files::LABELS;
use crate::run::{Manifest, Origin, RunDir, write_atomic};

/// What is said of an example, in this order.
const ADDED: [&str; 5] = ["label", "probability", "margin", "kept", "weight"];
/// Put before the names of what is added where the data have one of them.
const PREFIX: &str = "w2s_";

/// What the run says of one example.
struct Found {
    label: Option<String>,
    probability: Option<f64>,
    margin: Option<f64>,
    kept: bool,
    weight: f64,
}

/// A table that is asked for.
pub(super) struct Asked<'a> {
    pub(super) run: &'a Path,
    pub(super) format: Format,
    pub(super) out: &'a Path,
    /// The run's data, where they lie elsewhere now.
    pub(super) data: Option<&'a Path>,
    /// What an audit of the run must prove of the labels; the rest of the rows have none.
    pub(super) guarantee: Option<&'a Guarantee>,
}

/// Writes the user's columns with what the run says of each row.
pub(super) fn export(args: &Asked<'_>, session: &Session<'_>) -> Result<Exported> {
    let (folder, manifest) = complete_run(args.run)?;
    let task = task_of(&manifest, args.run)?;
    let data = data_of(args, &manifest)?;
    refuse_input(args.out, &data)?;
    let table = OwnTable::read(&data, &task).map_err(|e| match (e.kind(), args.data) {
        (ErrorKind::Io, None) => e.hint("name the run's data with `--data FILE`"),
        _ => e,
    })?;
    let before = manifest.inputs.iter().find(|input| input.role == "data");
    if before.is_some_and(|input| input.sha256 != table.sha256) {
        return Err(Error::new(ErrorKind::Run, "the data changed since the run")
            .at(&data)
            .hint("name the data that the run read with `--data FILE`"));
    }
    let mut found = match folder.file(LABELS).is_file() {
        true => of_labels(&folder.file(LABELS), &task)?,
        false => of_filter(&folder, &manifest, args.run)?,
    };
    let covered = match args.guarantee {
        Some(guarantee) => Some(leave_covered(&mut found, args, guarantee)?),
        None => None,
    };
    let names = added_names(&table.columns);
    let rows: Vec<Map<String, Value>> = table
        .rows
        .iter()
        .map(|(id, own)| {
            let mut row: Map<String, Value> = table
                .columns
                .iter()
                .map(|name| (name.clone(), own.get(name).cloned().unwrap_or_default()))
                .collect();
            row.extend(names.iter().cloned().zip(cells(found.get(id))));
            row
        })
        .collect();
    let columns: Vec<String> = table.columns.iter().chain(&names).cloned().collect();
    let bytes = match args.format {
        Format::Csv => csv_of(&columns, &rows, table.separator)?,
        Format::Parquet => parquet_of(&columns, &rows)?,
        _ => lines_of(&rows),
    };
    if let Some(folder) = args.out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, &e))?;
    }
    write_atomic(args.out, &bytes)?;
    let is_labelled = |(id, _): &&(String, Map<String, Value>)| {
        found.get(id).is_some_and(|found| found.label.is_some())
    };
    let mut notes = Notes(vec![format!("added columns: {}", names.join(", "))]);
    if let Some(covered) = &covered {
        notes.of_guarantee(covered);
    }
    let mut notes = notes.0;
    if let Some(separator) = table.separator.filter(|_| args.format == Format::Csv) {
        notes.push(format!("columns are separated by {separator:?}, as in the data"));
    }
    let exported = Exported {
        folder: args.out.to_path_buf(),
        format: args.format,
        num_examples: table.rows.iter().filter(is_labelled).count(),
        num_rows: rows.len(),
        num_validation: 0,
        notes,
        is_lossy: false,
        settings: String::new(),
        remark: None,
        gold_used: gold_used(&manifest.gold_used, covered.as_ref()),
    };
    session.voice.event(&Event::Exported(&exported))?;
    Ok(exported)
}

/// Takes away the labels that an audit does not cover, and puts the auditor's in place of the run's.
fn leave_covered(
    found: &mut HashMap<String, Found>,
    args: &Asked<'_>,
    guarantee: &Guarantee,
) -> Result<Covered> {
    let mut labels = RunLabels::read(args.run, args.data)?;
    let covered = covered(&mut labels, guarantee)?;
    let mut left = HashMap::new();
    for labelled in &labels.labels {
        let id = labels.example(labelled).id.clone();
        let label = Some(labelled.label.clone());
        let (probability, margin) = (labelled.probability, labelled.margin);
        left.insert(id, Found { label, probability, margin, kept: true, weight: labelled.weight });
    }
    for (id, row) in found {
        let none = Found { label: None, probability: None, margin: None, kept: false, weight: 0.0 };
        *row = left.remove(id).unwrap_or(none);
    }
    Ok(covered)
}

fn data_of(args: &Asked<'_>, manifest: &Manifest) -> Result<PathBuf> {
    let recorded = || {
        let path = manifest.settings.get("data").and_then(Value::as_str)?;
        Some(Origin::find(args.run, Path::new(path)))
    };
    args.data.map(Path::to_path_buf).or_else(recorded).ok_or_else(|| {
        Error::new(ErrorKind::Run, "the run's manifest names no data")
            .at(args.run)
            .hint("name it with `--data FILE`")
    })
}

/// The user's file is never written over, whatever `--force` says.
fn refuse_input(out: &Path, data: &Path) -> Result<()> {
    let same = |a: &Path, b: &Path| Some(a.canonicalize().ok()? == b.canonicalize().ok()?);
    match same(out, data) {
        Some(true) => Err(Error::new(ErrorKind::Usage, "`--out` is the run's own data")
            .at(out)
            .hint("choose another file; the data are not changed")),
        _ => Ok(()),
    }
}

fn of_labels(path: &Path, task: &crate::data::Task) -> Result<HashMap<String, Found>> {
    let records = read_label_records(path, task)?.into_iter().map(|record| {
        let found = Found {
            probability: probability(&record.logprobs, &record.label),
            label: Some(record.label),
            margin: Some(record.margin),
            kept: true,
            weight: 1.0,
        };
        (record.id, found)
    });
    Ok(records.collect())
}

fn of_filter(folder: &RunDir, manifest: &Manifest, run: &Path) -> Result<HashMap<String, Found>> {
    if manifest.command != "filter" {
        return Err(Error::new(
            ErrorKind::Run,
            format!("a run of `w2s {}` has no labels", manifest.command),
        )
        .at(run)
        .hint("name a run of `w2s label`, `relabel`, `filter` or `loop`"));
    }
    let mut all = HashMap::new();
    for (name, kept) in [("kept.jsonl", true), ("dropped.jsonl", false)] {
        let records: Vec<WeakRecord> = read_json_lines(&folder.file(name))?;
        for record in records {
            let distribution = record.distribution.as_deref().unwrap_or_default();
            let label = record.label.as_ref();
            let own = |label: &String| distribution.iter().find(|(name, _)| name == label);
            let found = Found {
                probability: label.map(|label| own(label).map_or(record.agreement, |(_, p)| *p)),
                margin: label.and_then(|label| margin(label, distribution)),
                label: record.label,
                kept,
                weight: record.weight,
            };
            all.insert(record.id, found);
        }
    }
    Ok(all)
}

/// The names of what is added, which are none of the data's.
fn added_names(own: &[String]) -> Vec<String> {
    let mut prefix = String::new();
    let is_free = |prefix: &str| {
        ADDED.iter().all(|name| {
            let name = format!("{prefix}{name}");
            !own.iter().any(|own| own.eq_ignore_ascii_case(&name))
        })
    };
    while !is_free(&prefix) {
        prefix += PREFIX;
    }
    ADDED.iter().map(|name| format!("{prefix}{name}")).collect()
}

fn cells(found: Option<&Found>) -> [Value; 5] {
    let Some(found) = found else { return Default::default() };
    let rounded = |x: f64| json!((x * 1e6).round() / 1e6);
    [
        json!(found.label),
        found.probability.map_or(Value::Null, rounded),
        found.margin.map_or(Value::Null, rounded),
        found.kept.into(),
        rounded(found.weight),
    ]
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn lines_of(rows: &[Map<String, Value>]) -> Vec<u8> {
    let mut out = Vec::new();
    for row in rows {
        out.extend(Value::Object(row.clone()).to_string().into_bytes());
        out.push(b'\n');
    }
    out
}

fn csv_of(
    columns: &[String],
    rows: &[Map<String, Value>],
    separator: Option<char>,
) -> Result<Vec<u8>> {
    let fail = |e: csv::Error| Error::new(ErrorKind::Internal, format!("no table: {e}"));
    let delimiter = separator.and_then(|c| u8::try_from(c).ok()).unwrap_or(b',');
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    writer.write_record(columns).map_err(fail)?;
    for row in rows {
        writer.write_record(row.values().map(text_of)).map_err(fail)?;
    }
    writer.into_inner().map_err(|e| Error::new(ErrorKind::Internal, format!("no table: {e}")))
}

/// What all values of a column are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Whole,
    Number,
    Truth,
    Text,
}

fn kind_of<'v>(values: impl Iterator<Item = &'v Value> + Clone) -> Kind {
    let is = |test: fn(&Value) -> bool| {
        let mut said = values.clone().filter(|value| !value.is_null()).peekable();
        said.peek().is_some() && said.all(test)
    };
    if is(Value::is_i64) {
        Kind::Whole
    } else if is(Value::is_number) {
        Kind::Number
    } else if is(Value::is_boolean) {
        Kind::Truth
    } else {
        Kind::Text
    }
}

fn parquet_of(columns: &[String], rows: &[Map<String, Value>]) -> Result<Vec<u8>> {
    let fail = |e: parquet::errors::ParquetError| {
        Error::new(ErrorKind::Internal, format!("no table: {e}"))
    };
    let column = |name: &String| rows.iter().map(|row| &row[name]).collect::<Vec<&Value>>();
    let kinds: Vec<Kind> = columns.iter().map(|name| kind_of(column(name).into_iter())).collect();
    let field = |(name, kind): (&String, &Kind)| {
        let physical = match kind {
            Kind::Whole => Physical::INT64,
            Kind::Number => Physical::DOUBLE,
            Kind::Truth => Physical::BOOLEAN,
            Kind::Text => Physical::BYTE_ARRAY,
        };
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type((*kind == Kind::Text).then_some(LogicalType::String))
            .build()
            .map(Arc::new)
    };
    let fields: Vec<_> = columns
        .iter()
        .zip(&kinds)
        .map(field)
        .collect::<std::result::Result<_, _>>()
        .map_err(fail)?;
    let schema =
        Type::group_type_builder("rows").with_fields(fields).build().map(Arc::new).map_err(fail)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("w2s ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).map_err(fail)?;
    let mut group = writer.next_row_group().map_err(fail)?;
    for name in columns {
        let values = column(name);
        let defined: Vec<i16> = values.iter().map(|value| i16::from(!value.is_null())).collect();
        let said = values.iter().filter(|value| !value.is_null());
        let Some(mut out) = group.next_column().map_err(fail)? else { continue };
        let defined = Some(defined.as_slice());
        match out.untyped() {
            ColumnWriter::Int64ColumnWriter(out) => {
                let all: Vec<i64> = said.filter_map(|value| value.as_i64()).collect();
                out.write_batch(&all, defined, None)
            }
            ColumnWriter::DoubleColumnWriter(out) => {
                let all: Vec<f64> = said.filter_map(|value| value.as_f64()).collect();
                out.write_batch(&all, defined, None)
            }
            ColumnWriter::BoolColumnWriter(out) => {
                let all: Vec<bool> = said.filter_map(|value| value.as_bool()).collect();
                out.write_batch(&all, defined, None)
            }
            ColumnWriter::ByteArrayColumnWriter(out) => {
                let all: Vec<ByteArray> =
                    said.map(|value| text_of(value).into_bytes().into()).collect();
                out.write_batch(&all, defined, None)
            }
            _ => Ok(0),
        }
        .map_err(fail)?;
        out.close().map_err(fail)?;
    }
    group.close().map_err(fail)?;
    writer.into_inner().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_names_are_none_of_the_data() {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(added_names(&own(&["id", "text"])), ADDED);
        let prefixed = added_names(&own(&["Label", "text"]));
        assert_eq!(prefixed[0], "w2s_label");
        assert_eq!(prefixed[4], "w2s_weight");
        assert_eq!(added_names(&own(&["kept", "w2s_margin"]))[0], "w2s_w2s_label");
    }

    #[test]
    fn columns_of_one_kind_keep_it() {
        let of = |values: &[Value]| kind_of(values.iter()) as u8;
        assert_eq!(of(&[json!(1), Value::Null]), Kind::Whole as u8);
        assert_eq!(of(&[json!(1), json!(0.5)]), Kind::Number as u8);
        assert_eq!(of(&[json!(true)]), Kind::Truth as u8);
        assert_eq!(of(&[json!("1"), json!(1)]), Kind::Text as u8);
        assert_eq!(of(&[Value::Null]), Kind::Text as u8);
    }
}
