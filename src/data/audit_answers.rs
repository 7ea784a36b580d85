//! What an auditor says of labels: gold for the rows that were drawn, and for these alone.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::key::final_number;
use super::read::read_records;
use super::record::{Layout, Record};
use super::task::Task;
use super::value::{SeenIds, is_blank, lookup, own_id, quoted, text_of};
use crate::error::{Error, ErrorKind, Result};

/// The column with the label that is right.
const ANSWER: &str = "answer";
/// The column that says whether the label shown is right.
const RIGHT: &str = "right";
/// What stands in either where the auditor cannot tell.
const UNSURE: [&str; 3] = ["?", "cannot tell", "unsure"];
const YES: [&str; 5] = ["y", "yes", "true", "1", "right"];
const NO: [&str; 5] = ["n", "no", "false", "0", "wrong"];

/// What an auditor says of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditAnswer {
    /// This label is right: its name, or the number of an open answer.
    Label(String),
    /// The label shown is right.
    Right,
    /// The label shown is wrong.
    Wrong,
    /// It cannot be told.
    Unsure,
}

/// The answers in a sheet.
#[derive(Clone)]
pub struct AuditAnswers {
    /// The file.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: String,
    answers: Vec<(String, AuditAnswer)>,
    unanswered: Vec<(String, usize)>,
}

impl AuditAnswers {
    /// Returns the answers in a file of records with `id` and `answer` (a label) or `right` (yes or no);
    /// `?` in either says that the row cannot be told.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] with the line for a broken file, a
    /// record without an id or with neither column, a duplicate id, and an answer that is none.
    pub fn read(path: impl AsRef<Path>, task: &Task) -> Result<Self> {
        let read = read_records(path.as_ref(), Layout { all_columns: true, ..Layout::default() })?;
        let mut seen = SeenIds::default();
        let (mut answers, mut unanswered) = (Vec::new(), Vec::new());
        for record in &read.records {
            let id = own_id(record, &["id".to_owned()], &read.path)?;
            let id = id.ok_or_else(|| missing(record, &read.path, "`id`"))?;
            seen.insert(&id, record.line, &read.path)?;
            match answer_of(record, &read.path, task)? {
                Some(answer) => answers.push((id, answer)),
                None => unanswered.push((id, record.line)),
            }
        }
        Ok(Self { path: read.path, sha256: read.sha256, answers, unanswered })
    }

    /// Returns the answers by id, in the order of the file.
    pub fn answers(&self) -> &[(String, AuditAnswer)] {
        &self.answers
    }

    /// Returns the id and the line of records whose answer is blank.
    pub fn unanswered(&self) -> &[(String, usize)] {
        &self.unanswered
    }
}

/// Shows the count only, so that no log shows an answer.
impl std::fmt::Debug for AuditAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditAnswers({} sealed)", self.answers.len())
    }
}

fn missing(record: &Record, path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Data, format!("record has no {what}"))
        .at_line(path, record.line)
        .hint("expected the sheet of `w2s audit draw` with its answers: columns `id` and `answer` or `right`")
}

fn answer_of(record: &Record, path: &Path, task: &Task) -> Result<Option<AuditAnswer>> {
    let cell = |column: &'static str| Some((column, lookup(&record.values, column)?));
    let Some((column, value)) = cell(ANSWER).or_else(|| cell(RIGHT)) else {
        return Err(missing(record, path, "`answer` or `right`"));
    };
    if is_blank(&value) {
        return Ok(None);
    }
    let text = text_of(&value).map(|text| text.trim().to_lowercase()).unwrap_or_default();
    let text = match value.as_ref() {
        Value::Bool(is_right) => is_right.to_string(),
        _ => text,
    };
    if UNSURE.contains(&text.as_str()) {
        return Ok(Some(AuditAnswer::Unsure));
    }
    if column == RIGHT {
        let fault = || {
            Error::new(ErrorKind::Data, format!("`{text}` in column `{RIGHT}` is no answer"))
                .at_line(path, record.line)
                .hint(format!("expected one of {}, or `?`", quoted([YES[1], NO[1]])))
        };
        return match text.as_str() {
            yes if YES.contains(&yes) => Ok(Some(AuditAnswer::Right)),
            no if NO.contains(&no) => Ok(Some(AuditAnswer::Wrong)),
            _ => Err(fault()),
        };
    }
    if task.answers.is_open {
        let number = final_number(&text).ok_or_else(|| {
            Error::new(ErrorKind::Data, format!("`{text}` in column `{ANSWER}` ends on no number"))
                .at_line(path, record.line)
                .hint("write the number that is right, or `?`")
        })?;
        return Ok(Some(AuditAnswer::Label(number)));
    }
    let label = task.label_of(column, &value, (path, record.line))?;
    Ok(Some(AuditAnswer::Label(task.labels[label].name.clone())))
}
