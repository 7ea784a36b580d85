//! The parts of an evaluation of weak labels, each from the questions that have gold.

use std::collections::HashMap;

use ndarray::Array2;
use rand::Rng;

use super::gain::{Tally, filter_gain};
use super::{
    Binning, EntropyBin, Estimate, LabelCoverage, ReliabilityMap, WeakAccuracy, WeightCell,
};
use crate::data::{WeakRecord, WeightRecord};
use crate::eval::bootstrap::bootstrap_variances;
use crate::eval::prediction::Prediction;
use crate::eval::rates::{Z_95, auroc_of_ties, wilson, wilson_rate};
use crate::eval::reliability::{Reliability, reliability};

/// Entropies that differ by no more are one value: the same counts summed in another order.
const SAME_ENTROPY_NATS: f64 = 1e-9;
/// More values than this get bins of equal counts, however they were made.
const MAX_DISTINCT_BINS: usize = 12;
/// Bins of equal counts.
const NUM_EQUAL_BINS: usize = 6;
/// Less than this of the greatest variance is rounding.
const NO_VARIANCE: f64 = 1e-12;
const NUM_RESAMPLES: usize = 2000;

/// A question with gold, and the sums over its rows.
pub(super) struct Evaluated<'a> {
    pub(super) question: &'a WeakRecord,
    pub(super) kept: bool,
    gold: &'a str,
    right: bool,
    pub(super) num_rows: usize,
    num_right_rows: usize,
    weight: f64,
    right_weight: f64,
}

impl<'a> Evaluated<'a> {
    pub(super) fn new(question: &'a WeakRecord, kept: bool, gold: &'a str) -> Self {
        let right = question.label.as_deref() == Some(gold);
        Self {
            question,
            kept,
            gold,
            right,
            num_rows: 0,
            num_right_rows: 0,
            weight: 0.0,
            right_weight: 0.0,
        }
    }

    pub(super) fn add(&mut self, row: &WeightRecord) {
        let right = row.answer.as_deref() == Some(self.gold);
        self.num_rows += 1;
        self.weight += row.weight;
        if right {
            self.num_right_rows += 1;
            self.right_weight += row.weight;
        }
    }
}

pub(super) fn accuracy<'a>(evaluated: impl Iterator<Item = &'a Evaluated<'a>>) -> WeakAccuracy {
    let [mut num_questions, mut num_right, mut num_unparsed] = [0; 3];
    for one in evaluated {
        num_questions += 1;
        num_right += usize::from(one.right);
        num_unparsed += usize::from(one.question.label.is_none());
    }
    let (wilson_low, wilson_high) = wilson(num_right, num_questions, Z_95);
    WeakAccuracy {
        num_questions,
        num_right,
        num_unparsed,
        accuracy: (num_questions > 0).then(|| num_right as f64 / num_questions as f64),
        wilson_low,
        wilson_high,
    }
}

/// How many questions share each value of the entropy, lowest first.
pub(super) fn ties(evaluated: &[Evaluated]) -> Vec<usize> {
    let mut ties = Vec::new();
    let mut value = f64::NEG_INFINITY;
    for one in evaluated {
        let entropy = one.question.entropy_nats;
        match ties.last_mut() {
            Some(num) if entropy - value <= SAME_ENTROPY_NATS => *num += 1,
            _ => {
                ties.push(1);
                value = entropy;
            }
        }
    }
    ties
}

/// The gain, the AUROC, and the row accuracies in the order of [`RowAccuracies`].
pub(super) fn estimates(
    evaluated: &[Evaluated],
    ties: &[usize],
    rng: &mut impl Rng,
) -> [Option<Estimate>; 7] {
    let statistics = |drawn: &[usize]| {
        // By kept and not: questions, right ones, rows, right ones, weight, right weight.
        let mut sums = [[0.0; 6]; 2];
        for (one, &times) in evaluated.iter().zip(drawn) {
            let times = times as f64;
            let sums = &mut sums[usize::from(one.kept)];
            let right = if one.right { times } else { 0.0 };
            let rows = [one.num_rows, one.num_right_rows].map(|num| times * num as f64);
            let weights = [one.weight, one.right_weight].map(|weight| times * weight);
            for (sum, value) in
                sums.iter_mut().zip([times, right, rows[0], rows[1], weights[0], weights[1]])
            {
                *sum += value;
            }
        }
        let [dropped, kept] = sums;
        let all: [f64; 6] = std::array::from_fn(|i| dropped[i] + kept[i]);
        let rate = |sums: [f64; 6], i: usize| (sums[i] > 0.0).then(|| sums[i + 1] / sums[i]);
        let mut rest = evaluated.iter().zip(drawn);
        let certain_last = ties.iter().map(|&num| {
            rest.by_ref().take(num).fold((0, 0), |(right, wrong), (one, &times)| {
                if one.right { (right + times, wrong) } else { (right, wrong + times) }
            })
        });
        let groups: Vec<(usize, usize)> = certain_last.collect();
        let auroc = auroc_of_ties(groups.into_iter().rev());
        [auroc, rate(all, 2), rate(kept, 2), rate(dropped, 2), rate(all, 4), rate(kept, 4)]
    };
    let values = statistics(&vec![1; evaluated.len()]);
    let variances = bootstrap_variances(evaluated.len(), NUM_RESAMPLES, rng, statistics);
    let num =
        |is: &dyn Fn(&Evaluated) -> bool| evaluated.iter().filter(|one| is(one)).count() as f64;
    let answered = |kept: bool| num(&|one| one.num_rows > 0 && one.kept == kept);
    let (kept, dropped) = (answered(true), answered(false));
    let num_right = num(&|one| one.right);
    let least = num_right.min(evaluated.len() as f64 - num_right);
    // How many answers a rate is as sure as where resamples do not vary.
    let sizes = [least, kept + dropped, kept, dropped, kept + dropped, kept];
    std::array::from_fn(|i| {
        let Some(i) = i.checked_sub(1) else { return gain(evaluated) };
        Some(rate_interval(values[i]?, variances[i].unwrap_or(0.0), sizes[i]))
    })
}

/// A rate with Wilson's interval for as many independent answers as have its variance; for `least` where
/// it has none.
fn rate_interval(value: f64, variance: f64, least: f64) -> Estimate {
    let binomial = value * (1.0 - value);
    let known = binomial > NO_VARIANCE && variance > NO_VARIANCE * binomial;
    let size = if known { binomial / variance } else { least };
    let (low, high) = wilson_rate(value, size.max(1.0), Z_95);
    Estimate { value, low, high }
}

/// Accuracy of the labels kept less that of all.
fn gain(evaluated: &[Evaluated]) -> Option<Estimate> {
    let right_of = |kept: bool| {
        let side = evaluated.iter().filter(move |one| one.kept == kept);
        Tally { num_right: side.clone().filter(|one| one.right).count(), num: side.count() }
    };
    filter_gain(right_of(true), right_of(false))
}

pub(super) fn bins(evaluated: &[Evaluated], ties: &[usize], binning: Binning) -> Vec<EntropyBin> {
    let sizes = match binning {
        Binning::Distinct if ties.len() <= MAX_DISTINCT_BINS => ties.to_vec(),
        _ => equal_counts_beside(cut(evaluated, ties), ties),
    };
    let mut rest = evaluated;
    let bin = |size: usize| {
        let (bin, after) = rest.split_at(size);
        rest = after;
        let labels = accuracy(bin.iter());
        EntropyBin {
            low_nats: bin[0].question.entropy_nats,
            high_nats: bin[size - 1].question.entropy_nats,
            num_kept: bin.iter().filter(|one| one.kept).count(),
            num_wrong: size - labels.num_right - labels.num_unparsed,
            labels,
        }
    };
    sizes.into_iter().map(bin).collect()
}

/// How many values of the entropy the filter kept where it kept all up to one and none above; else 0.
fn cut(evaluated: &[Evaluated], ties: &[usize]) -> usize {
    let num_kept = evaluated.iter().filter(|one| one.kept).count();
    let is_clean = evaluated[..num_kept].iter().all(|one| one.kept);
    let mut done = 0;
    let edge = ties.iter().position(|&num| {
        done += num;
        done - num == num_kept
    });
    edge.filter(|_| is_clean).unwrap_or(0)
}

/// The sizes of bins with an edge after the first `cut` values, each side with its share of the bins.
fn equal_counts_beside(cut: usize, ties: &[usize]) -> Vec<usize> {
    if cut == 0 {
        return equal_counts(ties, NUM_EQUAL_BINS);
    }
    let (below, above) = ties.split_at(cut);
    let share = below.iter().sum::<usize>() as f64 / ties.iter().sum::<usize>() as f64;
    let num_below = (share * NUM_EQUAL_BINS as f64).round() as usize;
    let num_below = num_below.clamp(1, NUM_EQUAL_BINS - 1);
    let above = equal_counts(above, NUM_EQUAL_BINS - num_below);
    equal_counts(below, num_below).into_iter().chain(above).collect()
}

/// The sizes of at most `num_bins` bins, as equal as ties allow: each goes where its middle lies.
fn equal_counts(ties: &[usize], num_bins: usize) -> Vec<usize> {
    let total: usize = ties.iter().sum();
    let mut sizes = vec![0; num_bins];
    let mut done = 0;
    for &num in ties {
        sizes[(2 * done + num) * num_bins / (2 * total)] += num;
        done += num;
    }
    sizes.retain(|size| *size > 0);
    sizes
}

pub(super) fn coverage(label: &str, evaluated: &[Evaluated]) -> LabelCoverage {
    let count = |is: &dyn Fn(&Evaluated) -> bool| evaluated.iter().filter(|one| is(one)).count();
    let given = |one: &Evaluated| one.question.label.as_deref() == Some(label);
    LabelCoverage {
        label: label.to_owned(),
        num_gold: count(&|one| one.gold == label),
        num_gold_kept: count(&|one| one.gold == label && one.kept),
        num_given: count(&given),
        num_given_kept: count(&|one| given(one) && one.kept),
    }
}

pub(super) fn reliability_map(
    labels: &[String],
    rows: &[WeightRecord],
    gold: &HashMap<String, String>,
) -> ReliabilityMap {
    let place: HashMap<&str, usize> =
        labels.iter().enumerate().map(|(place, label)| (label.as_str(), place)).collect();
    let mut sums = Array2::from_elem((labels.len(), labels.len() + 1), (0_usize, 0.0));
    for row in rows {
        let Some(truth) = gold.get(&row.id).and_then(|gold| place.get(gold.as_str())) else {
            continue;
        };
        let answer = row.answer.as_deref().and_then(|answer| place.get(answer).copied());
        let sum = &mut sums[[*truth, answer.unwrap_or(labels.len())]];
        *sum = (sum.0 + 1, sum.1 + row.weight);
    }
    let cells = sums.map(|&(num_rows, weight)| WeightCell {
        num_rows,
        mean_weight: (num_rows > 0).then(|| weight / num_rows as f64),
    });
    ReliabilityMap {
        labels: labels.to_vec(),
        cells: cells.rows().into_iter().map(|row| row.to_vec()).collect(),
    }
}

/// Labels are told by their places in the question's own distribution: questions may differ in their
/// number of options.
pub(super) fn calibration(evaluated: &[Evaluated]) -> Option<Reliability> {
    let predictions: Vec<Prediction> = evaluated
        .iter()
        .filter_map(|one| {
            let distribution = one.question.distribution.as_deref()?;
            let place = |label: &str| distribution.iter().position(|(name, _)| name == label);
            Some(Prediction {
                id: one.question.id.clone(),
                label: place(one.question.label.as_deref()?)?,
                // A probability that was rounded to 0 still has a logarithm.
                logprobs: Some(
                    distribution.iter().map(|(_, p)| p.max(f64::MIN_POSITIVE).ln()).collect(),
                ),
                gold: Some(place(one.gold)?),
            })
        })
        .collect();
    reliability(&predictions)
}
