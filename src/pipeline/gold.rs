//! What a run takes from gold when it is told to: demonstrations (`--method few-shot-gold`), labels to
//! start a search from (`--init golden`, `worst`), the consistency keys of the published code
//! (`--consistency leaky-reference`), and labels to train on (`w2s train --labels gold`).
//!
//! They are read here, apart from the code that labels and trains, which is handed plain labels, answers
//! and keys and cannot name the types that read gold. The manifest of such a run says that gold had a part
//! in it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use rand::Rng;

use crate::data::{Dataset, Example, GoldAnswers, GoldLabels, ReferenceKeys, Rule, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::label::GivenLabels;
use crate::run::SeedStream;

/// Returns the gold labels in `path` of the examples of `dataset` that have one.
pub(super) fn labels(
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

/// Returns the name of the gold label, or the text of the gold answer, of the examples that have one.
pub(super) fn answers(
    path: &Path,
    column: Option<&str>,
    task: &Task,
    dataset: &Dataset,
) -> Result<HashMap<String, String>> {
    if !task.answers.is_open {
        let gold = labels(path, column, task, dataset)?;
        let name = |(id, label): (String, usize)| (id, task.labels[label].name.clone());
        return Ok(gold.into_iter().map(name).collect());
    }
    let gold = GoldAnswers::read(path, task, column)?;
    let ids = dataset.examples.iter().map(|example| &example.id);
    Ok(ids.filter_map(|id| Some((id.clone(), gold.get(id)?.to_owned()))).collect())
}

/// Where gold labels stand, and whose they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoldSource<'a> {
    pub(super) path: &'a Path,
    /// The task's own column if none.
    pub(super) column: Option<&'a str>,
    pub(super) task: &'a Task,
    pub(super) data: &'a Dataset,
}

/// The gold labels of the examples; if `worst`, a wrong one for each: the other of two, one drawn from
/// `streams` of more.
pub(super) fn starting_labels(
    gold: &GoldSource<'_>,
    worst: bool,
    streams: SeedStream,
) -> Result<GivenLabels> {
    let GoldSource { path, column, task, data } = *gold;
    let gold = labels(path, column, task, data)?;
    let num_labels = task.num_labels();
    let mut labels = HashMap::new();
    for (number, example) in data.examples.iter().enumerate() {
        let Some(&right) = gold.get(&example.id) else { continue };
        let label = if worst {
            let mut rng = streams.rng("init/worst", &[number as u64]);
            (right + rng.random_range(1..num_labels)) % num_labels
        } else {
            right
        };
        labels.insert(example.id.clone(), label);
    }
    if labels.is_empty() {
        return Err(Error::new(ErrorKind::Data, "no example of the data has a gold label here")
            .at(path)
            .hint("gold is joined by id; give the file that has it with `--gold`"));
    }
    let name = if worst { "worst" } else { "golden" };
    Ok(GivenLabels { name: name.into(), labels: Arc::new(labels) })
}

/// Gives the examples the groups and keys of the published code in place of those of their texts.
pub(super) fn take_reference_keys(
    path: &Path,
    task: &Task,
    examples: &mut [Example],
) -> Result<()> {
    let keys = ReferenceKeys::read(path, task)?;
    let mut num = 0;
    for example in examples.iter_mut() {
        let found = keys.get(&example.id);
        num += usize::from(found.is_some());
        (example.group, example.key) =
            found.map(|(group, key)| (group.to_owned(), key.to_owned())).unzip();
    }
    if num == 0 {
        return Err(Error::new(ErrorKind::Data, "no example of the data has a reference key here")
            .at(path)
            .hint("keys are joined by id; give the file that has them with `--gold`"));
    }
    Ok(())
}

/// The rules that the published code applies to its keys: equal keys, equal labels; different keys, not
/// both true; and where the keys are comparisons, not both false either.
///
/// # Source
/// `ICM_tools.py` of the authors' code, `pick_two_inconsistent_claims`.
pub(super) fn reference_rules(examples: &[Example]) -> Vec<Rule> {
    let compares = |example: &Example| matches!(example.key.as_deref(), Some("A>B" | "B>A"));
    let apart = if examples.iter().any(compares) { Rule::Asymmetry } else { Rule::Contradiction };
    vec![apart, Rule::Implication]
}
