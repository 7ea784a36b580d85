//! What the files of labels, weights and samples say that `w2s train` reads.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::data::{AnswerRecord, Dataset, Task, id_text, read_json_lines};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::SampleRecord;

pub(super) fn data(message: String, path: &Path) -> Error {
    Error::new(ErrorKind::Data, message).at(path)
}

/// Returns an answer as text; numbers are read too.
pub(super) fn answer_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the error for ids of a file that the data does not have.
pub(super) fn unknown_ids(what: &str, strange: &[&str], path: &Path, dataset: &Dataset) -> Error {
    data(
        format!(
            "{} ids of the {what} are not in `{}`, the first: {}",
            strange.len(),
            dataset.path.display(),
            strange.iter().take(4).copied().collect::<Vec<_>>().join(", ")
        ),
        path,
    )
    .hint("labels and data are joined by id; give the data the labels were made of")
}

/// The rows of `sample.jsonl` that have not been found among the answers yet.
pub(super) struct Sample<'a> {
    path: &'a Path,
    /// By id and variant: the answer, and how often it was drawn.
    rows: BTreeMap<(String, usize), (Option<String>, usize)>,
}

impl<'a> Sample<'a> {
    pub(super) fn read(path: &'a Path) -> Result<Self> {
        let mut rows: BTreeMap<(String, usize), (Option<String>, usize)> = BTreeMap::new();
        for record in read_json_lines::<SampleRecord>(path)? {
            rows.entry((record.id, record.variant)).or_insert((record.answer, 0)).1 += 1;
        }
        if rows.is_empty() {
            return Err(data("the sample is empty".into(), path)
                .hint("`w2s filter --do-sampling` draws one of the rows it keeps"));
        }
        Ok(Self { path, rows })
    }

    /// Returns how often the row of an answer was drawn.
    pub(super) fn take(&mut self, record: &AnswerRecord) -> Result<usize> {
        match self.rows.remove(&(record.id.clone(), record.variant)) {
            Some((answer, times)) if answer == record.answer => Ok(times),
            Some(_) => Err(data(
                format!(
                    "variant {} of `{}` has another answer in the sample than among the answers",
                    record.variant, record.id
                ),
                self.path,
            )
            .hint("give answers.jsonl of the run that drew the sample")),
            None => Ok(0),
        }
    }

    /// Refuses rows that were not found.
    pub(super) fn finish(self, answers: &Path) -> Result<()> {
        let Some((id, variant)) = self.rows.keys().next() else { return Ok(()) };
        Err(data(
            format!(
                "{} rows of the sample are not among the answers that are learnt, the first: variant {variant} of `{id}`",
                self.rows.len()
            ),
            self.path,
        )
        .hint(format!(
            "give the files of the run that drew the sample; the answers are of `{}`",
            answers.display()
        )))
    }
}

/// What a line of labels may say besides id and label.
#[derive(Deserialize)]
pub(super) struct Extra {
    pub(super) id: Value,
    pub(super) label: Option<Value>,
    pub(super) split: Option<String>,
    distribution: Option<HashMap<String, f64>>,
    logprobs: Option<HashMap<String, f64>>,
    weight: Option<f64>,
}

impl Extra {
    /// Returns the weight on the line, where there is one.
    pub(super) fn weight(&self, path: &Path) -> Result<Option<f64>> {
        match self.weight {
            Some(weight) if !(weight.is_finite() && weight >= 0.0) => Err(data(
                format!(
                    "the weight of `{}` is {weight}, expected a number from 0 up",
                    id_text(&self.id)
                ),
                path,
            )),
            weight => Ok(weight),
        }
    }

    /// The distribution in the order of the task's labels.
    pub(super) fn distribution(&self, task: &Task, id: &str, path: &Path) -> Result<Vec<f64>> {
        let named = match (&self.distribution, &self.logprobs) {
            (Some(shares), _) => shares.clone(),
            (None, Some(logprobs)) => {
                let most = logprobs.values().copied().fold(f64::NEG_INFINITY, f64::max);
                logprobs.iter().map(|(name, l)| (name.clone(), (l - most).exp())).collect()
            }
            (None, None) => {
                return Err(data(format!("`{id}` has no distribution of labels"), path));
            }
        };
        // A question of fewer options says nothing of the other labels.
        let share = |name: &String| named.get(name).copied().unwrap_or(0.0);
        let shares: Vec<f64> = task.labels.iter().map(|label| share(&label.name)).collect();
        let sum: f64 = shares.iter().sum();
        let known = named.keys().all(|name| task.labels.iter().any(|label| label.name == *name));
        if known && sum.is_finite() && sum > 0.0 && shares.iter().all(|share| *share >= 0.0) {
            return Ok(shares.iter().map(|share| share / sum).collect());
        }
        Err(data(format!("the distribution of `{id}` is not one over the task's labels"), path))
    }
}

#[derive(Deserialize)]
struct WeightLine {
    id: Value,
    variant: Option<usize>,
    #[serde(default)]
    answer: Option<Value>,
    weight: f64,
}

/// The weights of files, by id.
pub(super) struct Weights<'a> {
    paths: &'a [PathBuf],
    /// Of what they do not name.
    missing: Option<f64>,
    by_id: HashMap<String, Vec<WeightLine>>,
}

impl<'a> Weights<'a> {
    pub(super) fn read(
        paths: &'a [PathBuf],
        missing: Option<f64>,
        dataset: &Dataset,
    ) -> Result<Self> {
        let mut weights = Self { paths, missing, by_id: HashMap::new() };
        let known: HashSet<&str> = dataset.examples.iter().map(|e| e.id.as_str()).collect();
        for path in paths {
            weights.add(path, &known, dataset)?;
        }
        Ok(weights)
    }

    fn add(&mut self, path: &Path, known: &HashSet<&str>, dataset: &Dataset) -> Result<()> {
        let lines: Vec<WeightLine> = read_json_lines(path)?;
        let mut strange = Vec::new();
        for (i, line) in lines.into_iter().enumerate() {
            let id = id_text(&line.id);
            if !(line.weight.is_finite() && line.weight >= 0.0) {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!("the weight of `{id}` is {}, expected a number from 0 up", line.weight),
                )
                .at_line(path, i + 1));
            }
            if !known.contains(id.as_str()) {
                strange.push(id.clone());
            }
            self.by_id.entry(id).or_default().push(line);
        }
        if !strange.is_empty() {
            let strange: Vec<&str> = strange.iter().map(String::as_str).collect();
            return Err(unknown_ids("weights", &strange, path, dataset));
        }
        Ok(())
    }

    /// The weight of an answer to a variant of an example, as far as the file tells them apart.
    pub(super) fn of(&self, id: &str, variant: Option<usize>, answer: &str) -> Result<f64> {
        let fits = |line: &&WeightLine| {
            let same_variant = match (line.variant, variant) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            };
            same_variant && line.answer.as_ref().is_none_or(|other| answer_text(other) == answer)
        };
        let found: Vec<f64> =
            self.by_id.get(id).into_iter().flatten().filter(fits).map(|line| line.weight).collect();
        match found.as_slice() {
            [] => match self.missing {
                Some(weight) => Ok(weight),
                None => Err(data(
                    format!("there is no weight for answer `{answer}` of `{id}`"),
                    &self.paths[0],
                )
                .hint("every example that is trained on needs one, or `--missing-weight`; 0 leaves it out")),
            },
            [first, rest @ ..] if rest.iter().all(|other| (other - first).abs() < 1e-12) => {
                Ok(*first)
            }
            _ => Err(data(
                format!("answer `{}` of `{id}` has {} different weights", answer, found.len()),
                &self.paths[0],
            )),
        }
    }
}
