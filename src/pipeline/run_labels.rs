//! The labels of a finished run with their examples, for commands that take them further.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::finished::task_of;
use crate::data::{Dataset, Example, Task, WeakRecord, read_json_lines, read_label_records};
use crate::error::{Error, ErrorKind, Result};
use crate::run::files::LABELS;
use crate::run::{Input, Manifest, Origin, RunDir};

/// `kept.jsonl`: the labels that a filter kept.
const KEPT: &str = "kept.jsonl";

/// A labelled example.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Labelled {
    /// Its place in the data.
    pub(super) place: usize,
    /// The label's name, or the text of an open answer.
    pub(super) label: String,
    /// What it weighs; 1 where nothing weighs.
    pub(super) weight: f64,
    /// How sure it is: the margin of a label, or the agreement of the variants.
    pub(super) sureness: f64,
    /// Probability that the model gives the label, where it is known.
    pub(super) probability: Option<f64>,
    /// Log-probability of the label less that of the best other one, where these are known.
    pub(super) margin: Option<f64>,
    /// Whether it is set aside for validation.
    pub(super) validation: bool,
}

/// A run's labels.
pub(super) struct RunLabels {
    pub(super) folder: RunDir,
    pub(super) manifest: Manifest,
    pub(super) task: Task,
    pub(super) dataset: Dataset,
    pub(super) labels: Vec<Labelled>,
}

impl RunLabels {
    /// Reads a run of `w2s label`, `relabel` or `filter`, and its data, from where it lay or from
    /// `data`.
    ///
    /// # Errors
    /// When the run is not complete or has no labels, and when the data are not those of the run.
    pub(super) fn read(run: &Path, data: Option<&Path>) -> Result<Self> {
        let (folder, manifest) = RunDir::existing(run)?;
        if !folder.is_complete() {
            return Err(Error::new(ErrorKind::Run, "the run is not complete")
                .at(run)
                .hint("continue it with its command and `--resume`"));
        }
        let mut task = task_of(&manifest, run)?;
        let text = |name: &str| manifest.settings.get(name).and_then(Value::as_str);
        if let Some(name) = text("prompt_variant").filter(|name| *name != task.prompt.name) {
            task = task.with_variant(name)?;
        }
        let path = match (data, text("data")) {
            (Some(path), _) => path.to_path_buf(),
            (None, Some(path)) => Origin::find(run, Path::new(path)),
            (None, None) => {
                return Err(Error::new(ErrorKind::Run, "the run's manifest names no data").at(run));
            }
        };
        let dataset = Dataset::read(&path, &task).map_err(|e| match (e.kind(), data) {
            (ErrorKind::Io, None) => e.hint("name the run's data with `--data FILE`"),
            _ => e,
        })?;
        let before = manifest.inputs.iter().find(|input| input.role == "data");
        if before.is_some_and(|input| input.sha256 != dataset.sha256) {
            return Err(Error::new(ErrorKind::Run, "the data changed since the run")
                .at(&path)
                .hint("name the data that the run read with `--data FILE`"));
        }
        let labels = match manifest.command.as_str() {
            "label" | "relabel" => of_labels(&folder.file(LABELS), &task)?,
            "filter" => of_weak(&folder.file(KEPT))?,
            other => {
                return Err(Error::new(
                    ErrorKind::Run,
                    format!("a run of `w2s {other}` has no labels"),
                )
                .at(run)
                .hint(match other {
                    "train" => "name the run with the labels that it learnt",
                    _ => "name a run of `w2s label`, `relabel` or `filter`",
                }));
            }
        };
        let places: HashMap<&str, usize> =
            dataset.examples.iter().enumerate().map(|(i, e)| (e.id.as_str(), i)).collect();
        let find = |(id, labelled): (String, Labelled)| match places.get(id.as_str()) {
            Some(&place) => Ok(Labelled { place, ..labelled }),
            None => {
                Err(Error::new(ErrorKind::Data, format!("the data have no example `{id}`"))
                    .at(&path))
            }
        };
        let mut labels = labels.into_iter().map(find).collect::<Result<Vec<_>>>()?;
        labels.sort_by_key(|labelled| labelled.place);
        if labels.is_empty() {
            return Err(Error::new(ErrorKind::Data, "the run has no labels").at(run));
        }
        Ok(Self { folder, manifest, task, dataset, labels })
    }

    /// Returns the digest of the file with the labels.
    pub(super) fn sha256(&self) -> Result<String> {
        let name = if self.manifest.command == "filter" { KEPT } else { LABELS };
        Input::of_file("labels", &self.folder.file(name)).map(|input| input.sha256)
    }

    /// Returns the example of a label.
    pub(super) fn example(&self, labelled: &Labelled) -> &Example {
        &self.dataset.examples[labelled.place]
    }
}

fn of_labels(path: &Path, task: &Task) -> Result<Vec<(String, Labelled)>> {
    let records = read_label_records(path, task)?.into_iter().map(|record| {
        let labelled = Labelled {
            place: 0,
            weight: 1.0,
            sureness: record.margin,
            margin: Some(record.margin),
            probability: probability(&record.logprobs, &record.label),
            label: record.label,
            validation: false,
        };
        (record.id, labelled)
    });
    Ok(records.collect())
}

fn of_weak(path: &Path) -> Result<Vec<(String, Labelled)>> {
    let records: Vec<WeakRecord> = read_json_lines(path)?;
    let labelled = records.into_iter().filter_map(|record| {
        let label = record.label?;
        let labelled = Labelled {
            place: 0,
            margin: record.distribution.as_ref().and_then(|all| margin(&label, all)),
            // The share of its variants, where the weak model has no distribution.
            probability: record
                .distribution
                .as_ref()
                .and_then(|all| all.iter().find(|(name, _)| *name == label).map(|(_, p)| *p))
                .or(Some(record.agreement)),
            label,
            weight: record.weight,
            sureness: record.agreement,
            validation: record.split.as_deref() == Some("validation"),
        };
        Some((record.id, labelled))
    });
    Ok(labelled.collect())
}

/// The share of a label in the probabilities of all.
pub(super) fn probability(logprobs: &[(String, f64)], label: &str) -> Option<f64> {
    let own = logprobs.iter().find(|(name, _)| name == label)?.1;
    let sum: f64 = logprobs.iter().map(|(_, logprob)| (logprob - own).exp()).sum();
    Some(1.0 / sum)
}

/// The margin of a label by the probabilities of all labels.
pub(super) fn margin(label: &str, distribution: &[(String, f64)]) -> Option<f64> {
    // A probability that was rounded to 0 is no infinite margin.
    let logprob = |p: f64| p.max(f64::MIN_POSITIVE).ln();
    let own = distribution.iter().find(|(name, _)| name == label).map(|(_, p)| logprob(*p))?;
    let others = distribution.iter().filter(|(name, _)| name != label).map(|(_, p)| logprob(*p));
    others.reduce(f64::max).map(|best| own - best)
}
