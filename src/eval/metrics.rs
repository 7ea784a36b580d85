//! Agreement of labels with gold: accuracy with its interval, and each label by itself.
//!
//! Works on labels that were already joined with gold; it does not read files and does not choose
//! between gold columns.

use std::collections::{BTreeMap, HashSet};

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::prediction::Prediction;
use super::rates::{Z_95, auroc, wilson};
use super::reliability::{Reliability, reliability};
use crate::error::{Error, ErrorKind, Result};
use crate::score::log_odds;

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
    /// The label that `auroc` speaks for.
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
    /// half; none unless the task is binary, gold has both labels and every log-probability is
    /// known.
    pub auroc: Option<f64>,
    /// The mean over the labels of one label's AUROC against all others; none for a binary task,
    /// where some label is missing in gold, or where a log-probability is unknown.
    #[serde(default)]
    pub macro_auroc: Option<f64>,
    /// The mean F1 over the labels that occur in gold or among the labels given.
    #[serde(default)]
    pub macro_f1: Option<f64>,
    /// Each label's share of the labels given.
    pub share: BTreeMap<String, f64>,
    /// Each label's share of the gold labels.
    pub gold_share: BTreeMap<String, f64>,
    /// Counts by gold label (row) and given label (column), in the order of `labels`.
    pub confusion: Vec<Vec<usize>>,
    /// Each label by itself, in the order of `labels`.
    #[serde(default)]
    pub per_label: Vec<LabelMetrics>,
    /// Whether the label distribution keeps what it promises; none without log-probabilities.
    #[serde(default)]
    pub reliability: Option<Reliability>,
    /// The same labels against further gold columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_columns: Vec<Evaluation>,
}

/// How well one label agrees with gold, over the examples that have gold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelMetrics {
    /// The label's name.
    pub label: String,
    /// How many examples have it in gold.
    pub num_gold: usize,
    /// How many of the examples with gold were given it.
    pub num_given: usize,
    /// The share of right ones among those given it; none when none was.
    pub precision: Option<f64>,
    /// The share of those found among those that have it in gold; none when none has.
    pub recall: Option<f64>,
    /// The harmonic mean of both, 0 when nothing is right; none when the label does not occur.
    pub f1: Option<f64>,
    /// The AUROC of this label against all others.
    pub auroc: Option<f64>,
}

/// The gold column that labels come closest to; see [`Evaluation::closest_column`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClosestColumn {
    /// The column's name.
    pub column: String,
    /// The balanced accuracy against it.
    pub balanced_accuracy: f64,
    /// Whether the labels are the column's with their names exchanged: a balanced accuracy as far
    /// below chance as none of the others is above it (two labels only).
    pub inverted: bool,
}

impl Evaluation {
    /// Returns the evaluations against every gold column, this one first.
    pub fn columns(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.other_columns)
    }

    /// Returns the column whose balanced accuracy is farthest from chance: above it, or below it
    /// too where the task is binary. None with fewer than two columns to choose from.
    pub fn closest_column(&self) -> Option<ClosestColumn> {
        let chance = 1.0 / self.labels.len() as f64;
        let binary = self.labels.len() == 2;
        let found: Vec<(&Self, f64)> =
            self.columns().filter_map(|column| Some((column, column.balanced_accuracy?))).collect();
        let distance = |rate: f64| if binary { (rate - chance).abs() } else { rate - chance };
        if found.len() < 2 {
            return None;
        }
        let (column, rate) =
            found.into_iter().reduce(|a, b| if distance(b.1) > distance(a.1) { b } else { a })?;
        Some(ClosestColumn {
            column: column.gold_column.clone(),
            balanced_accuracy: rate,
            inverted: binary && rate < chance,
        })
    }

    /// Returns the evaluation with those against further gold columns.
    #[must_use]
    pub fn with_columns(mut self, others: Vec<Self>) -> Self {
        self.other_columns = others;
        self
    }

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

/// Returns how well the labels agree with gold.
///
/// `positive` is the label that `auroc` speaks for. `num_examples` is the number of items; a
/// run that left examples without a label says so with [`Evaluation::out_of`], and the gold column
/// is named with [`Evaluation::for_column`].
///
/// # Errors
/// When no item has a gold label, an id occurs twice, a label index is out of range, label names
/// are fewer than two or repeat, or log-probabilities are NaN or not one for each label.
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
    let mut confusion = Array2::<usize>::zeros((num_labels, num_labels));
    for item in items {
        given[item.label] += 1;
        if let Some(gold) = item.gold {
            confusion[[gold, item.label]] += 1;
        }
    }
    let gold_counts = confusion.sum_axis(Axis(1)).to_vec();
    let num_with_gold = confusion.sum();
    if num_with_gold == 0 {
        return Err(Error::new(
            ErrorKind::Data,
            format!("none of the {} labelled examples has a gold label", items.len()),
        )
        .hint("check that the gold file and the labels name the examples by the same ids"));
    }
    let per_label = per_label(label_names, &confusion, items);
    let num_correct = confusion.diag().sum();
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
        auroc: if num_labels == 2 { per_label[positive].auroc } else { None },
        macro_auroc: if num_labels > 2 { mean(per_label.iter().map(|l| l.auroc)) } else { None },
        macro_f1: mean(per_label.iter().map(|l| l.f1).filter(Option::is_some)),
        share: shares(label_names, &given),
        gold_share: shares(label_names, &gold_counts),
        confusion: confusion.rows().into_iter().map(|row| row.to_vec()).collect(),
        per_label,
        reliability: reliability(items),
        other_columns: Vec::new(),
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
        let Some(logprobs) = &item.logprobs else { continue };
        if logprobs.len() != num_labels {
            let message =
                format!("`{id}` has {} log-probabilities for {num_labels} labels", logprobs.len());
            return Err(Error::new(ErrorKind::Data, message)
                .hint(format!("the task's labels are {label_names:?}")));
        }
        if logprobs.iter().any(|logprob| logprob.is_nan()) {
            let message = format!("a log-probability of `{id}` is NaN");
            return Err(Error::new(ErrorKind::Numeric, message)
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

fn balanced_accuracy(confusion: &Array2<usize>) -> Option<f64> {
    let totals = confusion.sum_axis(Axis(1));
    let of_gold = confusion.diag().into_iter().zip(&totals).filter(|(_, total)| **total > 0);
    let recalls: Vec<f64> = of_gold.map(|(&right, &total)| right as f64 / total as f64).collect();
    (recalls.len() > 1).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
}

/// One label against all others; none where a log-probability is unknown.
fn auroc_of(items: &[Prediction], label: usize) -> Option<f64> {
    let scored: Option<Vec<(f64, bool)>> = items
        .iter()
        .filter_map(|item| item.gold.map(|gold| (item.logprobs.as_deref(), gold == label)))
        .map(|(logprobs, is_label)| logprobs.map(|row| (log_odds(row, label), is_label)))
        .collect();
    auroc(&scored?)
}

fn per_label(
    label_names: &[String],
    confusion: &Array2<usize>,
    items: &[Prediction],
) -> Vec<LabelMetrics> {
    let rate = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    let one = |(label, name): (usize, &String)| {
        let num_gold = confusion.row(label).sum();
        let num_given = confusion.column(label).sum();
        let right = confusion[[label, label]];
        LabelMetrics {
            label: name.clone(),
            num_gold,
            num_given,
            precision: rate(right, num_given),
            recall: rate(right, num_gold),
            f1: rate(2 * right, num_gold + num_given),
            auroc: auroc_of(items, label),
        }
    };
    label_names.iter().enumerate().map(one).collect()
}

/// The mean of values that are all known and at least one.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn shares(label_names: &[String], counts: &[usize]) -> BTreeMap<String, f64> {
    let total: usize = counts.iter().sum();
    let total = total.max(1) as f64;
    label_names.iter().zip(counts).map(|(name, &n)| (name.clone(), n as f64 / total)).collect()
}
