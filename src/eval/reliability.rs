//! Calibration: whether labels that are given with probability p are right with probability p.

use serde::{Deserialize, Serialize};

use super::prediction::Prediction;
use crate::score::{log_odds, margin};

/// Bins of equal width between probability 0 and 1.
const NUM_BINS: usize = 10;

/// How the label distribution compares with gold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Examples with gold and log-probabilities.
    pub num_examples: usize,
    /// The expected calibration error: over the bins, the mean distance of accuracy and confidence,
    /// weighted by the examples in them.
    pub ece: f64,
    /// The mean squared distance of the label distribution and gold; see [`reliability`].
    pub brier: f64,
    /// The bins that hold examples, by rising confidence.
    pub bins: Vec<ReliabilityBin>,
    /// The mean margin of right labels, in nats.
    pub margin_right_nats: Option<f64>,
    /// The mean margin of wrong labels, in nats.
    pub margin_wrong_nats: Option<f64>,
}

/// The examples whose label was given with a probability in `[low, high)`; the last bin holds 1 too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How many examples.
    pub num_examples: usize,
    /// The mean probability of the labels given.
    pub confidence: f64,
    /// The share of right ones.
    pub accuracy: f64,
}

/// Returns how the label distributions compare with gold, over the examples that have both; none
/// where there is no such example.
///
/// The confidence is the probability of the label that was given, which a search may have given
/// against the odds. The Brier score is the sum over the labels of the squared distance, halved for
/// two labels, so that it is (p - y)^2 there.
///
/// # Source
/// Guo et al. 2017 for the ECE; Brier 1950, scaled as in scikit-learn's `brier_score_loss`.
pub fn reliability(items: &[Prediction]) -> Option<Reliability> {
    let known: Vec<(&[f64], usize, usize)> = items
        .iter()
        .filter_map(|item| Some((item.logprobs.as_deref()?, item.label, item.gold?)))
        .collect();
    if known.is_empty() {
        return None;
    }
    let mut sums = [(0_usize, 0.0, 0_usize); NUM_BINS];
    let mut brier = 0.0;
    let mut margins = [(0_usize, 0.0); 2];
    for &(logprobs, label, gold) in &known {
        let confidence = probability(logprobs, label);
        let bin = ((confidence * NUM_BINS as f64) as usize).min(NUM_BINS - 1);
        let right = label == gold;
        sums[bin].0 += 1;
        sums[bin].1 += confidence;
        sums[bin].2 += usize::from(right);
        brier += brier_of(logprobs, gold);
        let of_kind = &mut margins[usize::from(right)];
        of_kind.0 += 1;
        of_kind.1 += margin(logprobs, label);
    }
    let num_examples = known.len();
    let bins: Vec<ReliabilityBin> = sums
        .iter()
        .enumerate()
        .filter(|(_, (num, ..))| *num > 0)
        .map(|(bin, &(num, confidence, right))| ReliabilityBin {
            low: bin as f64 / NUM_BINS as f64,
            high: (bin + 1) as f64 / NUM_BINS as f64,
            num_examples: num,
            confidence: confidence / num as f64,
            accuracy: right as f64 / num as f64,
        })
        .collect();
    let apart = |bin: &ReliabilityBin| {
        (bin.accuracy - bin.confidence).abs() * bin.num_examples as f64 / num_examples as f64
    };
    let mean = |(num, sum): (usize, f64)| (num > 0).then(|| sum / num as f64);
    Some(Reliability {
        num_examples,
        ece: bins.iter().map(apart).sum(),
        brier: brier / num_examples as f64,
        bins,
        margin_right_nats: mean(margins[1]),
        margin_wrong_nats: mean(margins[0]),
    })
}

/// The squared distance of one label distribution and gold, scaled as in [`reliability`].
pub(super) fn brier_of(logprobs: &[f64], gold: usize) -> f64 {
    let scale = if logprobs.len() == 2 { 0.5 } else { 1.0 };
    let distance = |label| (probability(logprobs, label) - f64::from(label == gold)).powi(2);
    scale * (0..logprobs.len()).map(distance).sum::<f64>()
}

/// The label's probability, whether or not the log-probabilities sum to one.
fn probability(logprobs: &[f64], label: usize) -> f64 {
    1.0 / (1.0 + (-log_odds(logprobs, label)).exp())
}
