//! Weak labels and their filter: how right the labels are, what the filter gains, and whether the
//! entropy of a weak supervisor's answers tells right from wrong.
//!
//! Works on the records of a filter run and on gold by id and name. It filters nothing and reads no
//! files.

mod evaluate;
mod gain;
mod measure;

use serde::{Deserialize, Serialize};

pub use evaluate::evaluate_weak;
pub use gain::{Tally, filter_gain};

use super::reliability::Reliability;

/// How questions are sorted into bins of entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binning {
    /// One bin for each value, as votes have few; bins of equal counts where there are more than
    /// twelve values.
    Distinct,
    /// Six bins of about equal counts, ties together, with an edge where the filter cuts.
    EqualCounts,
}

/// A number with its interval, of 95 % where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// How right the weak labels of some questions are; a label that could not be read is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeakAccuracy {
    /// Questions with gold.
    pub num_questions: usize,
    /// Labels that equal gold.
    pub num_right: usize,
    /// Labels that could not be read.
    pub num_unparsed: usize,
    /// `num_right / num_questions`; none without questions.
    pub accuracy: Option<f64>,
    /// The lower end of its 95 % Wilson interval.
    pub wilson_low: f64,
    /// The upper end of its 95 % Wilson interval.
    pub wilson_high: f64,
}

/// The weak labels of the questions whose answers have an entropy in `[low_nats, high_nats]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntropyBin {
    /// The lowest entropy in the bin, in nats.
    pub low_nats: f64,
    /// The highest, in nats.
    pub high_nats: f64,
    /// Questions kept by the filter.
    pub num_kept: usize,
    /// Labels that could be read and are wrong.
    pub num_wrong: usize,
    /// How right its labels are.
    #[serde(flatten)]
    pub labels: WeakAccuracy,
}

/// How right single answers are: what a student sees that is trained on a row for each variant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowAccuracies {
    /// Answers to questions with gold.
    pub num_rows: usize,
    /// Those that could not be read; they are wrong.
    pub num_unparsed: usize,
    /// All rows alike.
    pub all: Option<Estimate>,
    /// Those of the questions kept.
    pub kept: Option<Estimate>,
    /// Those of the questions dropped.
    pub dropped: Option<Estimate>,
    /// All rows, each counted by its weight.
    pub weighted: Option<Estimate>,
    /// Those of the questions kept, each counted by its weight.
    pub kept_weighted: Option<Estimate>,
}

/// What the filter leaves of one label, over the questions with gold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelCoverage {
    /// The label's name.
    pub label: String,
    /// Questions that have it in gold.
    pub num_gold: usize,
    /// Those of them that were kept.
    pub num_gold_kept: usize,
    /// Questions whose weak label it is.
    pub num_given: usize,
    /// Those of them that were kept.
    pub num_given_kept: usize,
}

/// The rows of one gold answer and one weak answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightCell {
    /// How many rows.
    pub num_rows: usize,
    /// Their mean weight; none for no rows.
    pub mean_weight: Option<f64>,
}

/// The mean weight of rows by what is true and what was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityMap {
    /// The label names: of the rows, and of all columns but the last, which holds the answers that
    /// could not be read.
    pub labels: Vec<String>,
    /// Cells by gold label and answer.
    pub cells: Vec<Vec<WeightCell>>,
}

/// What the weak labels and the filter are worth; the content of a filter run's `eval.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeakEvaluation {
    /// The task's name.
    pub task: String,
    /// How answers were given: `soft` or `votes`.
    pub answers: String,
    /// The column of the gold file that was compared with.
    pub gold_column: String,
    /// The label names, in the task's order; empty for open answers.
    pub labels: Vec<String>,
    /// All questions.
    pub num_questions: usize,
    /// Those that the filter kept.
    pub num_kept: usize,
    /// `num_kept / num_questions`.
    pub retained_share: f64,
    /// Questions that have gold: what every number below speaks of.
    pub num_with_gold: usize,
    /// The weak labels before the filter.
    pub before: WeakAccuracy,
    /// Those kept.
    pub kept: WeakAccuracy,
    /// Those dropped.
    pub dropped: WeakAccuracy,
    /// Accuracy of the labels kept less that before the filter; none where nothing was kept or
    /// nothing dropped.
    pub gain: Option<Estimate>,
    /// The chance that a right label's answers have less entropy than a wrong one's, ties counted
    /// half; none where all are right or all wrong.
    pub auroc: Option<Estimate>,
    /// The labels by rising entropy.
    pub bins: Vec<EntropyBin>,
    /// Single answers.
    pub rows: RowAccuracies,
    /// What is left of each label; empty for open answers.
    pub coverage: Vec<LabelCoverage>,
    /// None for open answers.
    pub reliability_map: Option<ReliabilityMap>,
    /// Whether the mean label distribution keeps what it promises; none for votes.
    pub calibration: Option<Reliability>,
    /// The same against further gold columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_columns: Vec<WeakEvaluation>,
}

impl WeakEvaluation {
    /// Returns the evaluations against every gold column, this one first.
    pub fn columns(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.other_columns)
    }

    /// Returns why entropy cannot be trusted to tell right labels from wrong ones; none where the
    /// interval of `auroc` lies above one half, or nothing is known.
    pub fn doubt_of_entropy(&self) -> Option<String> {
        let Estimate { value, low, high } = self.auroc?;
        let interval = format!("AUROC {value:.3} [{low:.3}, {high:.3}]");
        if high < 0.5 {
            Some(format!("right labels have more entropy than wrong ones ({interval})"))
        } else if low <= 0.5 {
            Some(format!("entropy hardly tells right labels from wrong ones ({interval})"))
        } else {
            None
        }
    }

    /// Returns the evaluation with those against further gold columns.
    #[must_use]
    pub fn with_columns(mut self, others: Vec<Self>) -> Self {
        self.other_columns = others;
        self
    }

    /// Returns the evaluation with the names of what it speaks of.
    #[must_use]
    pub fn named(mut self, task: &str, answers: &str, gold_column: &str) -> Self {
        self.task = task.to_owned();
        self.answers = answers.to_owned();
        self.gold_column = gold_column.to_owned();
        self
    }
}
