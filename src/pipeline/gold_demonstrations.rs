//! The gold labels of `w2s label --method few-shot-gold` and of searches that start from gold.
//!
//! They are read here and nowhere else in `w2s label`, and leave as plain labels by id: the code
//! that labels cannot name the type that reads gold, and a run with it says so in its manifest.

use std::collections::BTreeMap;
use std::path::Path;

use crate::data::{Dataset, GoldLabels, Task};
use crate::error::{ErrorKind, Result};

/// Returns the gold labels in `path` of the examples of `dataset` that have one.
pub(super) fn read(
    path: &Path,
    column: Option<&str>,
    task: &Task,
    dataset: &Dataset,
) -> Result<BTreeMap<String, usize>> {
    let gold = match column {
        Some(column) => GoldLabels::read_column(path, task, column)?,
        None => GoldLabels::read(path, task).map_err(|error| match error.kind() {
            ErrorKind::Data if error.message().starts_with("no record") && path == dataset.path => {
                error.hint("name the file with the gold labels with `--gold FILE`, or another column with `--gold-column COLUMN`")
            }
            _ => error,
        })?,
    };
    let ids = dataset.examples.iter().map(|example| &example.id);
    Ok(ids.filter_map(|id| Some((id.clone(), gold.get(id)?))).collect())
}
