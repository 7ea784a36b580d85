//! The gold labels of `w2s train --labels gold`, for weak supervisors and ceilings.
//!
//! They are read here and nowhere else in `w2s train`, and leave as plain answers by id; a run with
//! them says so in its manifest.

use std::collections::HashMap;
use std::path::Path;

use super::gold_demonstrations;
use crate::data::{Dataset, GoldAnswers, Task};
use crate::error::Result;

/// Returns the name of the gold label, or the text of the gold answer, of the examples that have one.
pub(super) fn read(
    path: &Path,
    column: Option<&str>,
    task: &Task,
    dataset: &Dataset,
) -> Result<HashMap<String, String>> {
    if !task.answers.is_open {
        let gold = gold_demonstrations::read(path, column, task, dataset)?;
        let name = |(id, label): (String, usize)| (id, task.labels[label].name.clone());
        return Ok(gold.into_iter().map(name).collect());
    }
    let gold = GoldAnswers::read(path, task, column)?;
    let ids = dataset.examples.iter().map(|example| &example.id);
    Ok(ids.filter_map(|id| Some((id.clone(), gold.get(id)?.to_owned()))).collect())
}
