//! What the verbs come to that make no run of labels or of a training: values that their jobs return.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::export::Format;
use crate::eval::{Basins, Evaluation, LoopEvaluation, WeakEvaluation};
use crate::run::GoldUse;

/// The log-probabilities of labels after one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptScores {
    /// The line's id, a text or a number.
    pub id: Value,
    /// The labels in the order of the line.
    pub labels: Vec<ScoredLabel>,
}

/// The log-probability of a label after a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredLabel {
    /// The label.
    pub label: String,
    /// Natural log, summed over its tokens.
    pub logprob: f64,
    /// How many tokens that were.
    pub num_tokens: usize,
}

/// How right the labels of runs are, by what the runs are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// Runs with labels, and of `--test`; by their folders, in the order in which they were named.
    pub labels: Vec<(PathBuf, Evaluation)>,
    /// Runs of filters.
    pub filters: Vec<(PathBuf, WeakEvaluation)>,
    /// Loops.
    pub loops: Vec<(PathBuf, LoopEvaluation)>,
    /// Which searches found the same, if there were several of one task.
    pub basins: Option<Basins>,
}

/// What a model makes of the concept behind labels: `explanation.json` of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The model's words.
    pub text: String,
    /// The model.
    pub model: String,
    /// The groups that it was shown.
    pub groups: Vec<ExplainedGroup>,
    /// Seed of the sample.
    pub seed: u64,
    /// What it was asked.
    pub message: String,
    /// Version of this program.
    pub w2s: String,
}

/// Examples of a label that were shown under a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedGroup {
    /// The letter.
    pub letter: String,
    /// The label.
    pub label: String,
    /// The examples.
    pub ids: Vec<String>,
}

/// A labelled set that was written for another trainer.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The folder.
    pub folder: PathBuf,
    /// The trainer.
    pub format: Format,
    /// Labelled examples to train on, or pairs of answers.
    pub num_examples: usize,
    /// Rows of `train.jsonl`.
    pub num_rows: usize,
    /// Rows of `validation.jsonl`.
    pub num_validation: usize,
    /// What becomes of labels, weights and tokens on the way, as the folder's README says.
    pub notes: Vec<String>,
    /// Whether something is lost that `w2s train` keeps: weights, or the tokens that were scored.
    pub is_lossy: bool,
    /// Where the configuration's settings come from, as the folder's README says.
    pub settings: String,
    /// What the trainer does otherwise than the training, as the README says.
    pub remark: Option<String>,
    /// Whether gold had a part in the labels.
    pub gold_used: GoldUse,
}

/// What was drawn of a data file: `summary.json` of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawSummary {
    /// Records that fit what was asked of them.
    pub num_fit: usize,
    /// How many records each part has, by its name, in the order in which they were asked for.
    pub parts: Map<String, Value>,
}
