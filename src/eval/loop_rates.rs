//! How right the labels of each round of a loop are: the content of a loop's `eval.json`.

use serde::{Deserialize, Serialize};

use super::metrics::Evaluation;

/// How well one set of labels agrees with gold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Labels with a gold label.
    pub num: usize,
    /// Labels that equal gold.
    pub num_correct: usize,
    /// Their share.
    pub accuracy: f64,
    /// The ends of its 95 % Wilson interval.
    pub interval: [f64; 2],
    /// The mean recall over the labels that occur in gold.
    pub balanced_accuracy: Option<f64>,
    /// The area under the ROC curve, of two labels.
    pub auroc: Option<f64>,
}

impl From<&Evaluation> for Rate {
    fn from(e: &Evaluation) -> Self {
        Self {
            num: e.num_with_gold,
            num_correct: e.num_correct,
            accuracy: e.accuracy,
            interval: [e.wilson_low, e.wilson_high],
            balanced_accuracy: e.balanced_accuracy,
            auroc: e.auroc,
        }
    }
}

/// One round against gold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundEvaluation {
    /// The round; 0 is the model before the first.
    pub round: usize,
    /// The new labels of the round's batch, as they were found.
    pub batch: Option<Rate>,
    /// All labels after the round's model had flipped or dropped some; only where that was asked for.
    pub labels: Option<Rate>,
    /// The round's model's answers to what was set aside.
    pub held_out: Option<Rate>,
    /// Why there was no round after it.
    pub stopped: Option<String>,
}

/// The rounds of a loop against one gold column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoopEvaluation {
    /// The task's name.
    pub task: String,
    /// The column of the gold file that was compared with.
    pub gold_column: String,
    /// The rounds, that of the model before the first among them.
    pub rounds: Vec<RoundEvaluation>,
    /// The labels that the loop ended with; none if it kept no round.
    pub labels: Option<Rate>,
    /// The same against further columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_columns: Vec<Self>,
}
