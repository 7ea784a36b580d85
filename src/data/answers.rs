//! The records of a weak supervisor's answers: the files in which `filter`, `train` and `eval` meet.
//!
//! An answer is spelled by a text: the name of a label where a task has labels (`B` is the second
//! option *of the record*, wherever a variant showed it), else what the task's parser read, such as
//! the number `12`. One that could not be read is `None`, `null` in files.

use std::collections::HashMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::in_order;
use super::record::utf8;
use crate::error::{Error, ErrorKind, Result};

/// One line of `answers.jsonl`: what one variant of a question was answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRecord {
    /// The question's id.
    pub id: String,
    /// The variant's zero-based place among those of the question.
    pub variant: usize,
    /// The text that was put to the model.
    pub prompt: String,
    /// The record's options in the order shown, by zero-based place in the record; empty where a
    /// variant does not move options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub option_order: Vec<usize>,
    /// The text the model wrote; `None` where it was asked for a distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The answer; `None` if it could not be read.
    pub answer: Option<String>,
    /// Name and probability of each label; `None` where the model wrote.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "in_order::optional")]
    pub distribution: Option<Vec<(String, f64)>>,
}

/// One line of `kept.jsonl` and `dropped.jsonl`: what the answers to a question come to.
///
/// Its `id` and `label` make `kept.jsonl` a file of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeakRecord {
    /// The question's id.
    pub id: String,
    /// The weak label: the answer of most variants, or the most likely one of the mean distribution;
    /// `None` if no answer could be read.
    pub label: Option<String>,
    /// The text of the option that the label names; `None` for other tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Name and probability of each label, the mean over the variants; `None` where the model wrote.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "in_order::optional")]
    pub distribution: Option<Vec<(String, f64)>>,
    /// Entropy of the answers over the variants, in nats.
    pub entropy_nats: f64,
    /// The part of it within the variants, the mean of their entropies, in nats; 0 for answers that
    /// were written.
    pub aleatoric_nats: f64,
    /// The part of it between the variants, their mutual information with the answer, in nats.
    pub epistemic_nats: f64,
    /// Share of the variants that were answered with the label.
    pub agreement: f64,
    /// Reliability of the label: its weight in training.
    pub weight: f64,
    /// Variants asked.
    pub num_variants: usize,
    /// Answers among them that could not be read.
    pub num_unparsed: usize,
    /// Why it was kept or dropped.
    pub reason: String,
    /// `train` or `validation`, where a share was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

/// One line of `weights.jsonl`: how reliable one variant's answer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightRecord {
    /// The question's id.
    pub id: String,
    /// The variant's zero-based place.
    pub variant: usize,
    /// Its answer; `None` if it could not be read.
    pub answer: Option<String>,
    /// Weight of the example in training; 0 for an answer that could not be read.
    pub weight: f64,
}

/// Returns the records of a file of JSON lines.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] with the line for one that is
/// no such record.
pub fn read_json_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, &source))?;
    let lines = utf8(&bytes, path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| {
                let text = source.to_string();
                let facts = text.split(" at line ").next().unwrap_or(&text);
                Error::new(ErrorKind::Data, format!("not a record of this file: {facts}"))
                    .at_line(path, index + 1)
                    .hint("the file is damaged or from another version; make it again")
            })
        })
        .collect()
}

/// Returns `records` as JSON lines.
///
/// # Errors
/// [`ErrorKind::Internal`] if one cannot be written as JSON.
pub fn json_lines<T: Serialize>(records: &[T]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for record in records {
        serde_json::to_writer(&mut bytes, record).map_err(|source| {
            Error::new(ErrorKind::Internal, format!("cannot write a record: {source}"))
        })?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Returns the records of each question, the questions in order of their first record.
pub fn by_question<T>(records: Vec<T>, id: impl Fn(&T) -> &str) -> Vec<Vec<T>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Vec<T>> = Vec::new();
    for record in records {
        let place = *places.entry(id(&record).to_owned()).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(record);
    }
    groups
}
