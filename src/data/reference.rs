//! The consistency keys of the published code, for reproduction only.
//!
//! The published loaders compute the keys of TruthfulQA and of the preference sets from the gold
//! label, which tells a search which examples agree in gold. So they stand beside
//! [`GoldLabels`](super::GoldLabels) behind the same wall: a run that names them has used gold and
//! must say so. The keys an [`Example`](super::Example) carries come from its text.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::read::read_records;
use super::task::Task;
use super::value::{SeenIds, first_filled, id_or_row, quoted, text_of};
use crate::error::{Error, ErrorKind, Result};

/// Group and key of the examples of a file as the published code has them, by id.
#[derive(Clone)]
pub struct ReferenceKeys {
    keys: HashMap<String, (String, String)>,
    sha256: String,
    from_gold: bool,
}

impl ReferenceKeys {
    /// Returns the keys that the task file's `[consistency.reference]` names: those of a column, or
    /// where the file has none those that the published loader makes of the gold label.
    ///
    /// Records without a group column are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if the task names no reference keys; [`ErrorKind::Io`] if the file cannot
    /// be read; [`ErrorKind::Data`] for a broken file, a label the task does not know, and if no
    /// record has a key.
    pub fn read(path: impl AsRef<Path>, task: &Task) -> Result<Self> {
        let Some(reference) = &task.reference else {
            return Err(Error::new(
                ErrorKind::Task,
                format!("task `{}` says of no reference keys", task.name),
            )
            .hint("the published code has keys for the tasks with [consistency.reference]"));
        };
        let read = read_records(path.as_ref(), task.layout())?;
        let mut seen = SeenIds::default();
        let mut keys = HashMap::new();
        let mut from_gold = false;
        let gold: Vec<String> = task.gold.plain_columns().cloned().collect();
        for record in &read.records {
            let id = id_or_row(record, &task.id_columns, &read.path)?;
            seen.insert(&id, record.line, &read.path)?;
            let text = |columns: &[String]| {
                let (_, value) = first_filled(&record.values, columns)?;
                Some(text_of(&value)?.trim().to_owned())
            };
            let Some(group) = text(&task.group_columns) else { continue };
            let key = match (text(&reference.columns), &reference.by_label) {
                (Some(key), _) => key,
                (None, None) => continue,
                (None, Some(by_label)) => {
                    let Some((column, value)) = first_filled(&record.values, &gold) else {
                        continue;
                    };
                    from_gold = true;
                    by_label[task.label_of(column, &value, (&read.path, record.line))?].clone()
                }
            };
            keys.insert(id, (group, key));
        }
        if keys.is_empty() {
            return Err(Error::new(ErrorKind::Data, "no record has a reference key")
                .at(&read.path)
                .hint(format!(
                    "task `{}` looks for a group in column {} and a key in column {}",
                    task.name,
                    quoted(&task.group_columns),
                    quoted(&reference.columns)
                )));
        }
        Ok(Self { keys, sha256: read.sha256, from_gold })
    }

    /// Returns group and key of `id`.
    pub fn get(&self, id: &str) -> Option<(&str, &str)> {
        self.keys.get(id).map(|(group, key)| (group.as_str(), key.as_str()))
    }

    /// Returns whether a key was made from a gold label by this program; a key that stands in the
    /// file may come from gold too.
    pub fn from_gold(&self) -> bool {
        self.from_gold
    }

    /// Returns the number of ids that have a key.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there are no keys; never so for keys that were read.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the SHA-256 of the file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// Shows the count only: a key tells a label.
impl fmt::Debug for ReferenceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReferenceKeys({} sealed)", self.keys.len())
    }
}
