//! Agreement of labels with gold: accuracy with its interval, balanced accuracy, AUROC, confusion.
//!
//! Works on labels that were already joined with gold; it does not read files and does not choose
//! between gold columns.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The normal quantile of a two-sided 95 % interval.
pub const Z_95: f64 = 1.959964;

/// One labelled example beside its gold label.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The example's id.
    pub id: String,
    /// The index of the label it was given.
    pub label: usize,
    /// `log p(positive) - log p(other)` in nats, where the run kept log-probabilities.
    pub log_odds: Option<f64>,
    /// The index of its gold label, where gold knows the example.
    pub gold: Option<usize>,
}

/// How well the labels of one run agree with one gold column; the content of `eval.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The method that made the labels.
    pub method: String,
    /// The task's name.
    pub task: String,
    /// The column of the gold file that was compared with.
    #[serde(default)]
    pub gold_column: String,
    /// The label names, in the task's order.
    pub labels: Vec<String>,
    /// The label that `log_odds` and `auroc` speak for.
    pub positive: String,
    /// How many examples the run was asked to label.
    pub num_examples: usize,
    /// How many of them got a label.
    pub num_labelled: usize,
    /// How many labelled examples have a gold label: the denominator of every rate here.
    pub num_with_gold: usize,
    /// How many labels equal gold.
    pub num_correct: usize,
    /// `num_correct / num_with_gold`.
    pub accuracy: f64,
    /// The lower end of the 95 % Wilson interval of the accuracy.
    pub wilson_low: f64,
    /// The upper end of the 95 % Wilson interval of the accuracy.
    pub wilson_high: f64,
    /// The mean recall over the labels that occur in gold; none when gold has a single label.
    pub balanced_accuracy: Option<f64>,
    /// The chance that a positive example has higher log-odds than a negative one, ties counted
    /// half; none unless the task is binary, gold has both labels and every log-odds is known.
    pub auroc: Option<f64>,
    /// Each label's share of the labels given.
    pub share: BTreeMap<String, f64>,
    /// Each label's share of the gold labels.
    pub gold_share: BTreeMap<String, f64>,
    /// Counts by gold label (row) and given label (column), in the order of `labels`.
    pub confusion: Vec<Vec<usize>>,
}

impl Evaluation {
    /// Returns the evaluation with the name of the gold column it speaks of.
    #[must_use]
    pub fn for_column(mut self, gold_column: impl Into<String>) -> Self {
        self.gold_column = gold_column.into();
        self
    }

    /// Returns the evaluation of a run that was asked for `num_examples` labels and left some out.
    ///
    /// # Errors
    /// When there are fewer examples than labels.
    pub fn out_of(mut self, num_examples: usize) -> Result<Self> {
        if num_examples < self.num_labelled {
            return Err(Error::new(
                ErrorKind::Data,
                format!("{} labels for {num_examples} examples", self.num_labelled),
            )
            .hint("the labels belong to other data; name the data file the run was made from"));
        }
        self.num_examples = num_examples;
        Ok(self)
    }
}

/// Returns the Wilson score interval of a rate; `(0, 1)` when `n` is 0.
///
/// `successes` beyond `n` count as `n`. Use [`Z_95`] for a 95 % interval.
///
/// # Source
/// Wilson 1927, without continuity correction.
pub fn wilson(successes: usize, n: usize, z: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let successes = successes.min(n);
    let count = n as f64;
    let rate = successes as f64 / count;
    let scale = 1.0 + z * z / count;
    let centre = (rate + z * z / (2.0 * count)) / scale;
    let half = z * (rate * (1.0 - rate) / count + z * z / (4.0 * count * count)).sqrt() / scale;
    // At the two ends the interval touches 0 and 1 exactly; rounding would miss them.
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == n { 1.0 } else { (centre + half).min(1.0) };
    (low, high)
}

/// Returns the chance that a positive item scores higher than a negative one, ties counted half;
/// none when either kind is missing or a score is NaN.
///
/// # Cost
/// One sort of the items.
pub fn auroc(items: &[(f64, bool)]) -> Option<f64> {
    let num_positive = items.iter().filter(|(_, positive)| *positive).count();
    let num_negative = items.len() - num_positive;
    if num_positive == 0 || num_negative == 0 || items.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    let mut sorted = items.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of won pairs, so that half wins stay whole and any order sums the same.
    let mut doubled_wins = 0_u128;
    let mut negatives_below = 0_u128;
    // `==`, not `total_cmp`, decides a tie: 0 and -0 are one score.
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let positives = tied.iter().filter(|(_, positive)| *positive).count() as u128;
        let negatives = tied.len() as u128 - positives;
        doubled_wins += positives * (2 * negatives_below + negatives);
        negatives_below += negatives;
    }
    Some(doubled_wins as f64 / (2.0 * num_positive as f64 * num_negative as f64))
}

/// Returns how well the labels agree with gold.
///
/// `positive` is the label that the log-odds speak for. `num_examples` is the number of items; a
/// run that left examples without a label says so with [`Evaluation::out_of`], and the gold column
/// is named with [`Evaluation::for_column`].
///
/// # Errors
/// When no item has a gold label, an id occurs twice, a label index is out of range, label names
/// are fewer than two or repeat, or a log-odds is NaN.
pub fn evaluate(
    method: &str,
    task_name: &str,
    label_names: &[String],
    positive: usize,
    items: &[Prediction],
) -> Result<Evaluation> {
    check(label_names, positive, items)?;
    let num_labels = label_names.len();
    let mut given = vec![0_usize; num_labels];
    let mut confusion = vec![vec![0_usize; num_labels]; num_labels];
    for item in items {
        given[item.label] += 1;
        if let Some(gold) = item.gold {
            confusion[gold][item.label] += 1;
        }
    }
    let gold_counts: Vec<usize> = confusion.iter().map(|row| row.iter().sum()).collect();
    let num_with_gold: usize = gold_counts.iter().sum();
    if num_with_gold == 0 {
        return Err(Error::new(
            ErrorKind::Data,
            format!("none of the {} labelled examples has a gold label", items.len()),
        )
        .hint("check that the gold file and the labels name the examples by the same ids"));
    }
    let num_correct = (0..num_labels).map(|label| confusion[label][label]).sum();
    let (wilson_low, wilson_high) = wilson(num_correct, num_with_gold, Z_95);
    Ok(Evaluation {
        method: method.to_owned(),
        task: task_name.to_owned(),
        gold_column: String::new(),
        labels: label_names.to_vec(),
        positive: label_names[positive].clone(),
        num_examples: items.len(),
        num_labelled: items.len(),
        num_with_gold,
        num_correct,
        accuracy: num_correct as f64 / num_with_gold as f64,
        wilson_low,
        wilson_high,
        balanced_accuracy: balanced_accuracy(&confusion),
        auroc: if num_labels == 2 { auroc_of(items, positive) } else { None },
        share: shares(label_names, &given),
        gold_share: shares(label_names, &gold_counts),
        confusion,
    })
}

fn check(label_names: &[String], positive: usize, items: &[Prediction]) -> Result<()> {
    let num_labels = label_names.len();
    let distinct: HashSet<&String> = label_names.iter().collect();
    if num_labels < 2 || distinct.len() != num_labels {
        return Err(Error::new(
            ErrorKind::Task,
            format!("expected at least two different label names, got {label_names:?}"),
        ));
    }
    if positive >= num_labels {
        return Err(out_of_range("the positive label", positive, label_names));
    }
    let mut seen = HashSet::with_capacity(items.len());
    for item in items {
        let id = &item.id;
        if !seen.insert(id.as_str()) {
            return Err(Error::new(ErrorKind::Data, format!("id `{id}` is labelled twice"))
                .hint("every example may occur once; remove the second line"));
        }
        if item.label >= num_labels {
            return Err(out_of_range(&format!("the label of `{id}`"), item.label, label_names));
        }
        if let Some(gold) = item.gold.filter(|gold| *gold >= num_labels) {
            return Err(out_of_range(&format!("the gold label of `{id}`"), gold, label_names));
        }
        if item.log_odds.is_some_and(f64::is_nan) {
            return Err(Error::new(ErrorKind::Numeric, format!("the log-odds of `{id}` is NaN"))
                .hint("the model gave numbers that cannot be used; label the data again"));
        }
    }
    Ok(())
}

fn out_of_range(what: &str, index: usize, label_names: &[String]) -> Error {
    Error::new(
        ErrorKind::Data,
        format!("{what} has index {index}, expected less than {}", label_names.len()),
    )
    .hint(format!("the task's labels are {label_names:?}"))
}

fn balanced_accuracy(confusion: &[Vec<usize>]) -> Option<f64> {
    let recalls: Vec<f64> = confusion
        .iter()
        .enumerate()
        .filter_map(|(gold, row)| {
            let total: usize = row.iter().sum();
            (total > 0).then(|| row[gold] as f64 / total as f64)
        })
        .collect();
    (recalls.len() > 1).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
}

fn auroc_of(items: &[Prediction], positive: usize) -> Option<f64> {
    let scored: Option<Vec<(f64, bool)>> = items
        .iter()
        .filter_map(|item| item.gold.map(|gold| (item.log_odds, gold == positive)))
        .map(|(log_odds, is_positive)| log_odds.map(|score| (score, is_positive)))
        .collect();
    auroc(&scored?)
}

fn shares(label_names: &[String], counts: &[usize]) -> BTreeMap<String, f64> {
    let total: usize = counts.iter().sum();
    let total = total.max(1) as f64;
    label_names.iter().zip(counts).map(|(name, &n)| (name.clone(), n as f64 / total)).collect()
}
