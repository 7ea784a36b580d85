//! The examples of runs, as the page's table shows them: one JSON text for all runs.
//!
//! Texts come from the data file the manifest names, where it is still there with the same digest, or
//! from the prompts of a filter run. Gold is read only where the caller names a file of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::files::{read_json, read_lines};
use crate::data::{
    AnswerRecord, ColumnNames, Dataset, GoldAnswers, Task, WeakRecord, WeightRecord, by_question,
    read_json_lines,
};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Flip, flips_from_trace};
use crate::prompt::PromptFormat;

/// Examples of one run beyond this number are left out; a page of more is slow to open.
const MAX_ROWS: usize = 20_000;
/// A text that a model wrote is cut behind this many characters.
const MAX_OUTPUT: usize = 600;

/// What the page's table is made of.
#[derive(Debug, Default)]
pub(super) struct Examples {
    /// Texts, each once; rows name them by their place.
    texts: Vec<String>,
    places: HashMap<String, usize>,
    tables: Vec<Value>,
    /// What a reader should know of the tables.
    pub notes: Vec<String>,
    /// Reasons why texts are missing, each with the runs without them.
    missing: Vec<(String, Vec<String>)>,
    /// Rows with gold.
    num_gold: usize,
}

/// The gold of the table, where the caller allows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoldFile<'a> {
    pub path: &'a Path,
    pub column: Option<&'a str>,
}

/// A line of `labels.jsonl`.
#[derive(Deserialize)]
struct LabelLine {
    id: String,
    label: String,
    #[serde(default)]
    logprobs: Map<String, Value>,
    #[serde(default)]
    margin: Option<f64>,
}

impl Examples {
    /// Returns the examples of runs with their names; runs without examples have no table.
    ///
    /// # Errors
    /// When a file is broken, or gold cannot be read or fits no example.
    pub(super) fn read(runs: &[(PathBuf, String)], gold: Option<GoldFile>) -> Result<Self> {
        let mut examples = Self::default();
        for (dir, name) in runs {
            examples.add(dir, name, gold)?;
        }
        for (reason, names) in &examples.missing {
            let names = names.join(", ");
            examples.notes.push(format!("{names}: the table shows no texts: {reason}"));
        }
        if let Some(gold) = gold
            && examples.num_gold == 0
        {
            return Err(Error::new(ErrorKind::Data, "gold knows no example of any run")
                .at(gold.path)
                .hint("the ids of the gold file are other than those of the runs"));
        }
        Ok(examples)
    }

    /// Returns whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Returns whether some row has gold.
    pub(super) fn has_gold(&self) -> bool {
        self.num_gold > 0
    }

    /// Returns the JSON that the page's script reads.
    pub(super) fn to_json(&self) -> String {
        json!({"texts": self.texts, "tables": self.tables}).to_string()
    }

    fn add(&mut self, dir: &Path, name: &str, gold: Option<GoldFile>) -> Result<()> {
        let is_labels = dir.join("labels.jsonl").is_file();
        if !is_labels && !dir.join("kept.jsonl").is_file() {
            return Ok(());
        }
        let manifest: Value = read_json(&dir.join("manifest.json"), "this is not a run folder")?;
        let task = match task_of(&manifest) {
            Err(error) if gold.is_some() => return Err(error.at(dir)),
            task => task,
        };
        let gold = match (gold, &task) {
            (Some(gold), Ok(task)) => Some(GoldAnswers::read(gold.path, task, gold.column)?),
            _ => None,
        };
        let texts = match &task {
            Ok(task) if is_labels => texts_of(&manifest, task),
            Ok(_) => Ok(HashMap::new()),
            Err(error) => Err(error.to_string()),
        };
        let texts = texts.unwrap_or_else(|reason| {
            let reason = reason.lines().next().unwrap_or_default().to_owned();
            match self.missing.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, names)) => names.push(name.to_owned()),
                None => self.missing.push((reason, vec![name.to_owned()])),
            }
            HashMap::new()
        });
        let (labels, rows) = if is_labels {
            self.label_rows(dir, &texts, gold.as_ref())?
        } else {
            self.filter_rows(dir, &task.ok(), gold.as_ref())?
        };
        let total = rows.len();
        if total > MAX_ROWS {
            self.notes.push(format!("{name}: the table shows {MAX_ROWS} of {total} examples"));
        }
        let rows: Vec<Value> = rows.into_iter().take(MAX_ROWS).collect();
        let kind = if is_labels { "labels" } else { "filter" };
        self.tables.push(json!({"name": name, "kind": kind, "labels": labels, "rows": rows}));
        Ok(())
    }

    fn label_rows(
        &mut self,
        dir: &Path,
        texts: &HashMap<String, String>,
        gold: Option<&GoldAnswers>,
    ) -> Result<(Vec<String>, Vec<Value>)> {
        let lines: Vec<LabelLine> = read_lines(&dir.join("labels.jsonl"))?;
        let trace = dir.join("trace.jsonl");
        let flips = if trace.is_file() { flips_from_trace(&trace)? } else { HashMap::new() };
        let mut labels = Names::default();
        lines.iter().flat_map(|line| line.logprobs.keys()).for_each(|name| {
            labels.place(name);
        });
        let mut rows = Vec::with_capacity(lines.len());
        for line in &lines {
            let probabilities: Vec<f64> = line
                .logprobs
                .values()
                .map(|logprob| short(logprob.as_f64().unwrap_or(f64::NEG_INFINITY).exp()))
                .collect();
            let mut row = Map::new();
            row.insert("i".to_owned(), json!(line.id));
            if let Some(text) = texts.get(&line.id) {
                row.insert("t".to_owned(), json!(self.text(text)));
            }
            row.insert("l".to_owned(), json!(labels.place(&line.label)));
            row.insert("p".to_owned(), json!(probabilities));
            row.insert("m".to_owned(), json!(line.margin.map(short)));
            if let Some(history) = flips.get(&line.id) {
                let flip = |Flip { iteration, label }: &Flip| {
                    json!([iteration, label.as_ref().map(|label| labels.place(label))])
                };
                row.insert("f".to_owned(), history.iter().map(flip).collect());
            }
            self.add_gold(&mut row, &line.id, gold, &mut labels);
            rows.push(Value::Object(row));
        }
        Ok((labels.names, rows))
    }

    fn filter_rows(
        &mut self,
        dir: &Path,
        task: &Option<Task>,
        gold: Option<&GoldAnswers>,
    ) -> Result<(Vec<String>, Vec<Value>)> {
        let mut records: HashMap<String, (WeakRecord, bool)> = HashMap::new();
        let mut order = Vec::new();
        for (file, kept) in [("kept.jsonl", true), ("dropped.jsonl", false)] {
            for record in read_json_lines::<WeakRecord>(&dir.join(file))? {
                order.push(record.id.clone());
                records.insert(record.id.clone(), (record, kept));
            }
        }
        let weights: HashMap<(String, usize), f64> =
            read_json_lines::<WeightRecord>(&dir.join("weights.jsonl"))?
                .into_iter()
                .map(|row| ((row.id, row.variant), row.weight))
                .collect();
        let path = dir.join("answers.jsonl");
        let answers: Vec<AnswerRecord> =
            if path.is_file() { read_json_lines(&path)? } else { Vec::new() };
        let answers: Vec<(String, Vec<AnswerRecord>)> = by_question(answers, |row| &row.id)
            .into_iter()
            .filter_map(|rows| Some((rows.first()?.id.clone(), rows)))
            .collect();
        // In the order of the questions; what was not asked by this run stands as it was read.
        let asked: Vec<String> = answers.iter().map(|(id, _)| id.clone()).collect();
        let order = if asked.len() == order.len() { asked } else { order };
        let answers: HashMap<String, Vec<AnswerRecord>> = answers.into_iter().collect();
        let mut labels = Names::default();
        for label in task.iter().flat_map(|task| &task.labels) {
            labels.place(&label.name);
        }
        let mut rows = Vec::with_capacity(order.len());
        for id in order {
            let Some((record, kept)) = records.get(&id) else { continue };
            let mut row = Map::new();
            row.insert("i".to_owned(), json!(id));
            let variants = answers.get(&id).map_or(&[][..], Vec::as_slice);
            if let Some(first) = variants.first() {
                row.insert("t".to_owned(), json!(self.text(&first.prompt)));
            }
            let label = record.label.as_ref().map(|label| labels.place(label));
            row.insert("l".to_owned(), json!(label));
            if let Some(text) = &record.text {
                row.insert("x".to_owned(), json!(text));
            }
            if let Some(distribution) = &record.distribution {
                let places: Vec<usize> =
                    distribution.iter().map(|(name, _)| labels.place(name)).collect();
                let mut probabilities = vec![0.0; labels.names.len()];
                for (place, (_, probability)) in places.iter().zip(distribution) {
                    probabilities[*place] = short(*probability);
                }
                row.insert("p".to_owned(), json!(probabilities));
            }
            row.insert("e".to_owned(), json!(short(record.entropy_nats)));
            row.insert("s".to_owned(), json!(short(record.agreement)));
            row.insert("w".to_owned(), json!(short(record.weight)));
            row.insert("k".to_owned(), json!(u8::from(*kept)));
            row.insert("r".to_owned(), json!(record.reason));
            let answers: Vec<Value> = variants
                .iter()
                .map(|answer| {
                    let weight = weights.get(&(answer.id.clone(), answer.variant));
                    answer_json(answer, weight.copied(), &mut labels)
                })
                .collect();
            if !answers.is_empty() {
                row.insert("a".to_owned(), json!(answers));
            }
            self.add_gold(&mut row, &id, gold, &mut labels);
            rows.push(Value::Object(row));
        }
        Ok((labels.names, rows))
    }

    fn text(&mut self, text: &str) -> usize {
        let text = text.trim();
        if let Some(&place) = self.places.get(text) {
            return place;
        }
        self.texts.push(text.to_owned());
        self.places.insert(text.to_owned(), self.texts.len() - 1);
        self.texts.len() - 1
    }

    fn add_gold(
        &mut self,
        row: &mut Map<String, Value>,
        id: &str,
        gold: Option<&GoldAnswers>,
        labels: &mut Names,
    ) {
        if let Some(answer) = gold.and_then(|gold| gold.get(id)) {
            row.insert("g".to_owned(), json!(labels.place(answer)));
            self.num_gold += 1;
        }
    }
}

/// One variant's answer: its place among the labels, probability, weight, order shown, text written.
fn answer_json(answer: &AnswerRecord, weight: Option<f64>, labels: &mut Names) -> Value {
    let place = answer.answer.as_ref().map(|answer| labels.place(answer));
    let probability = answer.distribution.as_ref().and_then(|distribution| {
        let of_answer = |(name, _): &&(String, f64)| Some(name) == answer.answer.as_ref();
        distribution.iter().find(of_answer).map(|(_, probability)| short(*probability))
    });
    let order: String =
        answer.option_order.iter().map(|&place| crate::data::option_letter(place)).collect();
    let output = answer.output.as_ref().map(|output| {
        let cut: String = output.chars().take(MAX_OUTPUT).collect();
        if cut.len() < output.len() { format!("{cut}\u{2026}") } else { cut }
    });
    json!([place, probability, weight.map(short), order, output])
}

/// Names in order of first use.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Names {
    fn place(&mut self, name: &str) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }
}

/// Four decimals: more are not seen, and a page of many examples stays small.
fn short(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// The task a run was made with, unchanged since.
fn task_of(manifest: &Value) -> Result<Task> {
    let settings = &manifest["settings"];
    let name = settings["task"]
        .as_str()
        .ok_or_else(|| Error::new(ErrorKind::Run, "the run's manifest names no task"))?;
    let columns = settings.as_object().map(ColumnNames::of_settings).unwrap_or_default();
    let task = Task::load(name)?.with_columns(&columns)?;
    let before = input(manifest, "task").map(|(_, sha256)| sha256);
    if before.is_some_and(|sha256| sha256 != task.sha256) {
        return Err(Error::new(ErrorKind::Run, format!("task `{name}` changed since the run")));
    }
    let task = match settings["prompt_variant"].as_str() {
        Some(variant) => task.clone().with_variant(variant).unwrap_or(task),
        None => task,
    };
    Ok(match settings["num_labels"].as_u64() {
        Some(num) => task.with_num_options(num as usize),
        None => task,
    })
}

/// The questions of the run's data by id; a sentence where they cannot be had.
fn texts_of(manifest: &Value, task: &Task) -> std::result::Result<HashMap<String, String>, String> {
    let (path, sha256) = input(manifest, "data").ok_or("the manifest names no data")?;
    let dataset =
        Dataset::read(&path, task).map_err(|_| format!("`{path}` cannot be read from here"))?;
    if dataset.sha256 != sha256 {
        return Err(format!("`{path}` changed since the run"));
    }
    let format = PromptFormat::new(task).map_err(|error| error.to_string())?;
    dataset
        .examples
        .iter()
        .map(|example| {
            let text = format.question(example).map_err(|error| error.to_string())?;
            Ok((example.id.clone(), text))
        })
        .collect()
}

fn input(manifest: &Value, role: &str) -> Option<(String, String)> {
    let found = manifest["inputs"].as_array()?.iter().find(|input| input["role"] == role)?;
    Some((found["path"].as_str()?.to_owned(), found["sha256"].as_str()?.to_owned()))
}
