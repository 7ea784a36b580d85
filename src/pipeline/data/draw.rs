//! `w2s data draw`: parts of a data file, drawn by the seed, none of which shares a record with another.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use rand::seq::SliceRandom;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::data::{Task, join_records};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::field_values;
use crate::pipeline::note::Note;
use crate::pipeline::observer::Event;
use crate::pipeline::outcome::Outcome;
use crate::pipeline::results::DrawSummary;
use crate::pipeline::run_options::RunOptions;
use crate::pipeline::session::Session;
use crate::pipeline::warning::{Part, Warning};
use crate::run::files::SUMMARY;
use crate::run::{GoldUse, Manifest, RunDir, SeedStream};

/// Draw parts of a data file that have no record in common
///
/// Writes a file of JSON lines for each part into a run folder: whole records as they are, with an id
/// that says where they come from if they have none. Records of one group (`--group-column`) fall into
/// one part. Which records are drawn depends on the seed and the data alone, not on gold.
///
/// Example:
///   w2s data draw --data train.csv --part gold=48 --part weak=240 --max-chars 120 --out runs/draw
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct DrawJob {
    /// Records: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// A part and how many records it has at most; its file is NAME.jsonl
    #[serde(serialize_with = "field_values::pairs")]
    #[arg(long = "part", required = true, value_name = "NAME=N", value_parser = part)]
    pub parts: Vec<(String, usize)>,
    /// Leave out records whose texts have more characters in all
    #[arg(long, value_name = "N")]
    pub max_chars: Option<usize>,
    /// Leave out records without this value in this column, such as `category=business`
    #[serde(serialize_with = "field_values::pairs")]
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = pair)]
    pub only: Vec<(String, String)>,
    /// Column whose equal values keep records together
    #[arg(long, value_name = "COLUMN")]
    pub group_column: Option<String>,
    /// Task whose columns a file without a line of names has, and whose ids records take
    #[arg(long, value_name = "TASK")]
    pub task: Option<String>,
    /// The run folder.
    #[serde(flatten)]
    #[command(flatten)]
    pub run: RunOptions,
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn part(text: &str) -> std::result::Result<(String, usize), String> {
    let (name, num) = pair(text)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!("`{name}` is no name of a part; expected letters, digits, - and _"));
    }
    match num.parse() {
        Ok(num) if num > 0 => Ok((name, num)),
        _ => Err(format!("`{num}` is no number of records")),
    }
}

pub(in crate::pipeline) fn draw(args: &DrawJob, session: &Session) -> Result<Outcome<DrawSummary>> {
    let began = Instant::now();
    for (index, (name, _)) in args.parts.iter().enumerate() {
        if args.parts[..index].iter().any(|(other, _)| other == name) {
            return Err(Error::new(ErrorKind::Usage, format!("two parts are named `{name}`")));
        }
    }
    args.run.check("data draw")?;
    let task = args.task.as_deref().map(Task::load).transpose()?;
    let manifest = manifest(args, task.as_ref(), session)?;
    let folder = RunDir::open(&args.run.out, &manifest, args.run.mode())?;
    if folder.is_complete() {
        session.voice.note(&Note::RunComplete { folder: args.run.out.clone() });
        return Outcome::complete(folder);
    }
    let records = records(args, task.as_ref())?;
    let num_fit = records.len();
    let mut units = units(args, records);
    units.shuffle(&mut SeedStream::new(args.run.seed).rng("data/draw", &[]));
    let mut summary = DrawSummary { num_fit, parts: Map::new() };
    for (name, num) in &args.parts {
        let (mut text, mut size) = (String::new(), 0);
        // A group that is too large for what is left waits for another part.
        units.retain(|unit| {
            if size + unit.len() > *num {
                return true;
            }
            size += unit.len();
            for record in unit {
                text += &record.to_string();
                text.push('\n');
            }
            false
        });
        if size == 0 {
            return Err(Error::new(
                ErrorKind::Data,
                format!("no record is left for part `{name}`: {num_fit} fit what is asked of them"),
            )
            .at(&args.data)
            .hint("ask for fewer records, or raise `--max-chars`"));
        }
        if size < *num {
            let records = Part { num: size, of: *num };
            session.voice.warn(&Warning::SmallPart { part: name.clone(), records });
        }
        summary.parts.insert(name.clone(), size.into());
        let name = format!("{name}.jsonl");
        folder.write(&name, text.as_bytes())?;
        let file = folder.file(&name);
        session.voice.tell(&Event::Drawn { file: &file, num_records: size });
    }
    folder.write_json(SUMMARY, &summary)?;
    let seconds = began.elapsed().as_secs_f64();
    let folder = folder.finish(seconds, 0.0)?;
    Ok(Outcome { folder, summary, seconds, was_complete: false })
}

fn manifest(args: &DrawJob, task: Option<&Task>, session: &Session) -> Result<Manifest> {
    let DrawJob { data, parts, max_chars, only, group_column, task: _, run } = args;
    let settings = json!({
        "data": data.display().to_string(),
        "parts": parts,
        "max_chars": max_chars,
        "where": only,
        "group_column": group_column,
        "task": task.map(|task| task.name.clone()),
    });
    let Value::Object(settings) = settings else { unreachable!("it is written as an object") };
    let mut versions = Map::new();
    versions.insert("w2s".into(), env!("CARGO_PKG_VERSION").into());
    Ok(Manifest {
        command: "data draw".into(),
        command_line: session.command_line(),
        settings,
        seed: run.seed,
        inputs: vec![session.digests.input("data", data)?],
        gold_used: GoldUse::no(),
        versions,
    })
}

/// Returns the records that fit, each with an id.
fn records(args: &DrawJob, task: Option<&Task>) -> Result<Vec<Value>> {
    let bytes = join_records(std::slice::from_ref(&args.data), task)?;
    let stem = args.data.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut records = Vec::new();
    for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        let mut record: Map<String, Value> = serde_json::from_str(line)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("record {number}: {e}")))?;
        let says = |column: &str| match record.get(column) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Null) | None => None,
            Some(other) => Some(other.to_string()),
        };
        let fits = args.only.iter().all(|(column, value)| says(column).as_ref() == Some(value));
        let num_chars: usize = record.values().map(num_chars).sum();
        if !fits || args.max_chars.is_some_and(|most| num_chars > most) {
            continue;
        }
        if !record.contains_key("id") {
            record.shift_insert(0, "id".into(), format!("{stem}-{}", number + 1).into());
        }
        records.push(Value::Object(record));
    }
    Ok(records)
}

fn num_chars(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(all) => all.iter().map(num_chars).sum(),
        Value::Object(map) => map.values().map(num_chars).sum(),
        _ => 0,
    }
}

/// Returns the records in their groups, in the order of each group's first.
fn units(args: &DrawJob, records: Vec<Value>) -> Vec<Vec<Value>> {
    let mut places = std::collections::HashMap::new();
    let mut units: Vec<Vec<Value>> = Vec::new();
    for record in records {
        let group = args.group_column.as_ref().and_then(|column| record.get(column));
        let place = match group {
            Some(group) if !group.is_null() => {
                *places.entry(group.to_string()).or_insert(units.len())
            }
            _ => units.len(),
        };
        match units.get_mut(place) {
            Some(unit) => unit.push(record),
            None => units.push(vec![record]),
        }
    }
    units
}
