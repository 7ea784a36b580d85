//! Weak labels and their filter: how right the labels are, what the filter gains, and whether the
//! entropy of a weak supervisor's answers tells right from wrong.
//!
//! Works on the records of a filter run and on gold by id and name. It filters nothing and reads no
//! files.

mod measure;

use std::collections::{HashMap, HashSet};

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::reliability::Reliability;
use crate::data::{WeakRecord, WeightRecord};
use crate::error::{Error, ErrorKind, Result};
use measure::Judged;

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

/// Returns how right the weak labels are against `gold`, the answers by id, before and after the
/// filter.
///
/// `labels` are the task's, empty for open answers. The interval of `gain` is Agresti and Caffo's; those
/// of `auroc` and `rows` are Wilson's for the variance over resampled questions with their rows. What the
/// filter kept is held fixed.
///
/// # Errors
/// When no question has gold, an id occurs twice, a row belongs to no question, an answer is not one
/// of `labels`, or a number is not finite.
///
/// # Cost
/// 2000 resamples of the questions.
///
/// # Source
/// arXiv 2406.19032 for accuracy by entropy and the reliability map.
pub fn evaluate_weak(
    kept: &[WeakRecord],
    dropped: &[WeakRecord],
    rows: &[WeightRecord],
    gold: &HashMap<String, String>,
    labels: &[String],
    binning: Binning,
    rng: &mut impl Rng,
) -> Result<WeakEvaluation> {
    check(kept, dropped, rows, gold, labels)?;
    let num_questions = kept.len() + dropped.len();
    let questions = kept.iter().map(|one| (one, true));
    let mut judged: Vec<Judged> = questions
        .chain(dropped.iter().map(|one| (one, false)))
        .filter_map(|(one, kept)| Some(Judged::new(one, kept, gold.get(&one.id)?)))
        .collect();
    if judged.is_empty() {
        return Err(Error::new(
            ErrorKind::Data,
            format!("none of the {num_questions} questions has a gold answer"),
        )
        .hint("check that the gold file and the run name the questions by the same ids"));
    }
    judged.sort_by(|a, b| a.question.entropy_nats.total_cmp(&b.question.entropy_nats));
    let places: HashMap<&str, usize> =
        judged.iter().enumerate().map(|(i, one)| (one.question.id.as_str(), i)).collect();
    for row in rows {
        if let Some(&place) = places.get(row.id.as_str()) {
            judged[place].add(row);
        }
    }
    let ties = measure::ties(&judged);
    let [gain, auroc, rows_of @ ..] = measure::estimates(&judged, &ties, rng);
    let with_gold = |row: &&WeightRecord| places.contains_key(row.id.as_str());
    let [of_all, of_kept, of_dropped, weighted, kept_weighted] = rows_of;
    Ok(WeakEvaluation {
        task: String::new(),
        answers: String::new(),
        gold_column: String::new(),
        labels: labels.to_vec(),
        num_questions,
        num_kept: kept.len(),
        retained_share: kept.len() as f64 / num_questions as f64,
        num_with_gold: judged.len(),
        before: measure::accuracy(judged.iter()),
        kept: measure::accuracy(judged.iter().filter(|one| one.kept)),
        dropped: measure::accuracy(judged.iter().filter(|one| !one.kept)),
        gain,
        auroc,
        bins: measure::bins(&judged, &ties, binning),
        rows: RowAccuracies {
            num_rows: judged.iter().map(|one| one.num_rows).sum(),
            num_unparsed: rows.iter().filter(with_gold).filter(|row| row.answer.is_none()).count(),
            all: of_all,
            kept: of_kept,
            dropped: of_dropped,
            weighted,
            kept_weighted,
        },
        coverage: labels.iter().map(|label| measure::coverage(label, &judged)).collect(),
        reliability_map: (!labels.is_empty()).then(|| measure::reliability_map(labels, rows, gold)),
        calibration: measure::calibration(&judged),
        other_columns: Vec::new(),
    })
}

fn check(
    kept: &[WeakRecord],
    dropped: &[WeakRecord],
    rows: &[WeightRecord],
    gold: &HashMap<String, String>,
    labels: &[String],
) -> Result<()> {
    let data = |message: String| Error::new(ErrorKind::Data, message);
    let not_finite = |what: &str, id: &str, value: f64| {
        Error::new(ErrorKind::Numeric, format!("the {what} of `{id}` is {value}"))
    };
    let known = |what: &str, id: &str, answer: Option<&String>| match answer {
        Some(answer) if !labels.is_empty() && !labels.contains(answer) => Err(data(format!(
            "the {what} of `{id}` is `{answer}`, expected one of `{}`",
            labels.join("`, `")
        ))),
        _ => Ok(()),
    };
    let mut seen = HashSet::with_capacity(kept.len() + dropped.len());
    for WeakRecord { id, label, entropy_nats, .. } in kept.iter().chain(dropped) {
        if !seen.insert(id.as_str()) {
            return Err(data(format!("question `{id}` occurs twice"))
                .hint("every question is either kept or dropped; make the run again"));
        }
        if !entropy_nats.is_finite() {
            return Err(not_finite("entropy", id, *entropy_nats));
        }
        known("weak label", id, label.as_ref())?;
        known("gold label", id, gold.get(id))?;
    }
    for WeightRecord { id, answer, weight, .. } in rows {
        if !seen.contains(id.as_str()) {
            return Err(data(format!(
                "an answer is to question `{id}`, which is neither kept nor dropped"
            ))
            .hint("the files are of different runs; make the run again"));
        }
        if !weight.is_finite() {
            return Err(not_finite("weight", id, *weight));
        }
        known("answer", id, answer.as_ref())?;
    }
    Ok(())
}
