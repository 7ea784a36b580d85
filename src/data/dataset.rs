//! A file of records read under a task, gold left behind.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::closest::closest;
use super::example::Example;
use super::key::KeyRule;
use super::load::check_id_column;
use super::read::read_records;
use super::record::{Record, Records};
use super::task::Task;
use super::task_parts::Field;
use super::value::{SeenIds, first_filled, id_or_row, kind_of, lookup, quoted, text_of};
use crate::error::{Error, ErrorKind, Result};

/// The examples of one file, in its order.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The file the examples come from.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The examples; at least one.
    pub examples: Vec<Example>,
    /// Records of the file that are not asked about: the task's reader made no example of them.
    pub num_unused: usize,
    /// What parts the columns of a table, where it is not what the file's name says.
    pub separator: Option<char>,
}

impl Dataset {
    /// Returns the examples of a JSON, JSON-lines, CSV, TSV or Parquet file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] with the line if it is
    /// broken or empty, a record lacks a field, or two records share an id.
    pub fn read(path: impl AsRef<Path>, task: &Task) -> Result<Self> {
        let read = read_records(path.as_ref(), task.layout())?;
        check_id_column(&read, task)?;
        let mut seen = SeenIds::default();
        let mut examples = Vec::with_capacity(read.records.len());
        for record in &read.records {
            let id = id_or_row(record, &task.id_columns, &read.path)?;
            seen.insert(&id, record.line, &read.path)?;
            examples.push(example_of(record, id, task, &read.path)?);
        }
        let Records { path, sha256, num_unused, separator, records: _ } = read;
        Ok(Self { path, sha256, examples, num_unused, separator })
    }

    /// Returns the most options of a question; 0 for a task without options.
    pub fn max_options(&self) -> usize {
        self.examples.iter().map(|example| example.options.len()).max().unwrap_or(0)
    }

    /// Returns the task with the labels that every question of the data can have.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] with the line if questions differ in how many options they have;
    /// [`ErrorKind::Task`] if the task has no labels.
    pub fn labelled_task(&self, task: Task) -> Result<Task> {
        if task.labels.is_empty() {
            return Err(Error::new(
                ErrorKind::Task,
                format!("task `{}` has open answers and no labels", task.name),
            )
            .hint("`w2s filter` takes it; labels are chosen from in tasks that list them"));
        }
        if task.options.is_none() {
            return Ok(task);
        }
        let num = self.max_options();
        match self.examples.iter().find(|example| example.options.len() != num) {
            None => Ok(task.with_num_options(num)),
            Some(other) => Err(Error::new(
                ErrorKind::Data,
                format!("question `{}` has {} options, others have {num}", other.id, other.options.len()),
            )
            .at_line(&self.path, other.line)
            .hint("here every question needs the same labels; `w2s filter` takes questions of any number of options")),
        }
    }
}

/// Returns the example that `record` is under `task`.
///
/// # Errors
/// [`ErrorKind::Data`] if a field is missing or is not text.
pub(super) fn example_of(record: &Record, id: String, task: &Task, path: &Path) -> Result<Example> {
    let mut fields = BTreeMap::new();
    let mut any_text = false;
    for Field { name, columns, default } in &task.fields {
        // An empty text is used only if no later column says more: CSV cells are empty, not absent.
        let value = match (first_filled(&record.values, columns), default) {
            (Some((_, value)), _) => {
                any_text = true;
                value
            }
            (None, Some(default)) => Cow::Owned(default.as_str().into()),
            (None, None) => columns
                .iter()
                .find_map(|column| lookup(&record.values, column).filter(|value| !value.is_null()))
                .ok_or_else(|| missing_field(record, &id, name, columns, path))?,
        };
        let text = text_of(&value).ok_or_else(|| {
            Error::new(
                ErrorKind::Data,
                format!("field `{name}` of `{id}` is {}, expected text", kind_of(&value)),
            )
            .at_line(path, record.line)
            .hint("a field is one text; name an item of a list as `column.0`, or another column")
        })?;
        fields.insert(name.clone(), text.into_owned());
    }
    let options = match &task.options {
        Some(options) => options.read(record, &id, path)?,
        None => Vec::new(),
    };
    let paraphrases = task.answers.paraphrases(record, &id, path)?;
    if !any_text {
        return Err(Error::new(ErrorKind::Data, format!("every field of `{id}` is empty"))
            .at_line(path, record.line)
            .hint("remove the record, or give it a text"));
    }
    let column_text = |columns: &[String]| {
        let (_, value) = first_filled(&record.values, columns)?;
        Some(text_of(&value)?.trim().to_owned())
    };
    let mut group = column_text(&task.group_columns);
    let mut key = None;
    if let Some(rule) = &task.key {
        let column = match rule {
            KeyRule::Column { column } => column_text(std::slice::from_ref(column)),
            _ => None,
        };
        key = rule.key(&fields, column);
        group = rule.group(&fields, group);
    }
    Ok(Example { id, fields, options, paraphrases, group, key, line: record.line })
}

/// Characters of a column name that an error shows.
const MAX_SHOWN_CHARS: usize = 40;

/// Returns whether a record's names hold what parts columns elsewhere.
fn looks_joined(record: &Record) -> bool {
    record.values.keys().any(|name| name.contains([';', '\t', '|']))
}

fn missing_field(record: &Record, id: &str, field: &str, columns: &[String], path: &Path) -> Error {
    // Without a header the first row's texts are the names, and they can be long.
    let there = record.values.keys().filter(|name| !name.is_empty()).map(|name| {
        match name.char_indices().nth(MAX_SHOWN_CHARS) {
            Some((end, _)) => format!("{}...", &name[..end]),
            None => name.clone(),
        }
    });
    Error::new(
        ErrorKind::Data,
        format!(
            "record `{id}` has no field `{field}`, tried column {}, has {}",
            quoted(columns),
            quoted(there)
        ),
    )
    .at_line(path, record.line)
    .hint(if looks_joined(record) {
        "the columns seem to be parted by something else than the file's name says: use commas in .csv, tabs in .tsv".to_owned()
    } else {
        let names: Vec<&str> = record
            .values
            .keys()
            .map(String::as_str)
            .filter(|name| name.chars().count() <= MAX_SHOWN_CHARS && !name.is_empty())
            .collect();
        let meant = columns.iter().find_map(|column| closest(column, &names)).unwrap_or("COLUMN");
        format!(
            "say which column it is: `--field '{field}={meant}'`, or write it under [fields] of a task file; a table without a header needs `columns` there"
        )
    })
}
