//! Gold labels, sealed.
//!
//! `eval` may name [`GoldLabels`], and so may the commands whose purpose is to use gold and that
//! record it in the manifest (training a weak supervisor or a ceiling on gold, seeding a search
//! with it). `label`, `filter` and `train` themselves may not: labels that are found without
//! supervision come from code that could not read a gold column if it tried.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::read::read_records;
use super::task::Task;
use super::value::{SeenIds, first_filled, id_or_row, quoted};
use crate::error::{Error, ErrorKind, Result};

/// The gold labels of a file, by id.
#[derive(Clone)]
pub struct GoldLabels {
    labels: HashMap<String, usize>,
    columns: Vec<String>,
    sha256: String,
}

impl GoldLabels {
    /// Returns the labels in the task's gold columns, the first one that is filled in a record.
    ///
    /// The file is the data itself or one of ids and labels. Records without a gold column are
    /// unlabelled; ids are those [`Dataset`](super::Dataset) gives the same records.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Data`] with the line for a broken
    /// file, a duplicate id or a label the task does not know, and if no record is labelled.
    pub fn read(path: impl AsRef<Path>, task: &Task) -> Result<Self> {
        Self::read_columns(path.as_ref(), task, &task.gold_columns)
    }

    /// Returns the labels in one column, which need not be one of the task's gold columns: another
    /// concept the labels may have been found by.
    ///
    /// # Errors
    /// As [`Self::read`]; the column's values must be spellings of the task's labels.
    pub fn read_column(path: impl AsRef<Path>, task: &Task, column: &str) -> Result<Self> {
        Self::read_columns(path.as_ref(), task, &[column.to_owned()])
    }

    fn read_columns(path: &Path, task: &Task, from: &[String]) -> Result<Self> {
        let read = read_records(path, task.columns.as_deref())?;
        let mut seen = SeenIds::default();
        let mut labels = HashMap::new();
        let mut columns: Vec<String> = Vec::new();
        for record in &read.records {
            let id = id_or_row(record, &read.path)?;
            seen.insert(&id, record.line, &read.path)?;
            if let Some((column, value)) = first_filled(&record.values, from) {
                let label = task.label_of(column, value, (&read.path, record.line))?;
                labels.insert(id, label);
                if !columns.iter().any(|known| known == column) {
                    columns.push(column.to_owned());
                }
            }
        }
        if labels.is_empty() {
            return Err(Error::new(ErrorKind::Data, "no record has a gold label")
                .at(&read.path)
                .hint(format!(
                    "task `{}` looks for gold in column {}; the first record has {}",
                    task.name,
                    quoted(from),
                    quoted(read.records.iter().take(1).flat_map(|record| record.values.keys()))
                )));
        }
        Ok(Self { labels, columns, sha256: read.sha256 })
    }

    /// Returns the place in the task's labels of the gold label of `id`.
    pub fn get(&self, id: &str) -> Option<usize> {
        self.labels.get(id).copied()
    }

    /// Returns the columns that labels were read from, in order of first use.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Returns the number of labelled ids.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns whether there are no labels; never so for labels that were read.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Returns the SHA-256 of the file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Shows the count only, so that no log shows a label.
impl fmt::Debug for GoldLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoldLabels({} sealed)", self.labels.len())
    }
}
