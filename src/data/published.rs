//! The published table of weak answers: a row a variant, as arXiv 2406.19032's scripts write it.
//!
//! Its columns differ a little from data set to data set, and one of them is gold; that one is not
//! read here.

use std::path::Path;

use serde_json::{Map, Value};

use super::read::read_records;
use super::record::Layout;
use super::value::{lookup, quoted, text_of};
use crate::error::{Error, ErrorKind, Result};

/// One row of a published table.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedRow {
    /// What tells the question: its `ind`, or its text.
    pub question: String,
    /// The text put to the model.
    pub prompt: String,
    /// What the model wrote.
    pub output: String,
    /// The answer that was read from it, as the table spells it.
    pub answer: String,
    /// Entropy of the question's answers, in nats; `None` if the cell is no number.
    pub entropy_nats: Option<f64>,
    /// The one-based line where the row begins.
    pub line: usize,
}

/// What is read, and the names that published tables have for it.
const COLUMNS: [&[&str]; 5] = [
    &["ind", "original_question", "input"],
    &["prompt"],
    &["model_output", "weak_label"],
    &["model_pred"],
    &["entropy"],
];

/// Returns the rows of a published table, a list for each question; rows of one stand together.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] if it is broken, lacks columns
/// (all are listed), or two questions have one `ind`.
pub fn read_published_rows(path: &Path) -> Result<Vec<Vec<PublishedRow>>> {
    let read = read_records(path, Layout::default())?;
    let first = &read.records[0];
    let there = |names: &'static [&'static str]| {
        names.iter().copied().find(|name| first.values.contains_key(*name))
    };
    let missing: Vec<String> =
        COLUMNS.iter().filter(|names| there(names).is_none()).map(|n| n.join(" or ")).collect();
    if !missing.is_empty() {
        return Err(Error::new(
            ErrorKind::Data,
            format!("the table lacks the columns {}", quoted(&missing)),
        )
        .at_line(path, 1)
        .hint(format!(
            "it has {}; expected ind, target, prompt, model_output, model_pred, entropy",
            quoted(first.values.keys())
        )));
    }
    let cell = |values: &Map<String, Value>, column: usize| -> String {
        let value = there(COLUMNS[column]).and_then(|name| lookup(values, name));
        value.as_deref().and_then(text_of).map(|text| text.into_owned()).unwrap_or_default()
    };
    let mut questions: Vec<Vec<PublishedRow>> = Vec::new();
    for record in &read.records {
        let row = PublishedRow {
            question: cell(&record.values, 0).trim().to_owned(),
            prompt: cell(&record.values, 1),
            output: cell(&record.values, 2),
            answer: cell(&record.values, 3).trim().to_owned(),
            entropy_nats: cell(&record.values, 4).trim().parse().ok(),
            line: record.line,
        };
        match questions.last_mut() {
            Some(rows) if rows[0].question == row.question => rows.push(row),
            _ => questions.push(vec![row]),
        }
    }
    Ok(questions)
}
