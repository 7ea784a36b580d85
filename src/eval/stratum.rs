//! Which labels an audit is spent on, chosen by the model's confidence before anything is known.
//!
//! The choice touches no guarantee: that holds for any set that was fixed before rows were drawn. It only
//! decides how likely the audit is to end well and how many labels it then covers.

use serde::{Deserialize, Serialize};

use super::guarantee::{Guarantee, most_wrong_drawn};

/// What is supposed of labels before any is audited.
///
/// A model's confidence seldom is the share of right labels, so it is taken for its order and roughly for
/// its size: the log-odds of a wrong label are `shift - slope * confidence`, the confidence as log-odds too,
/// with both numbers drawn around 0 and 1. `slope` 0, a confidence that says nothing, has a share of its own.
///
/// The weights are roughly what logistic regressions give on zero-shot labels of eight public sets
/// (data/measured/audit-labels.jsonl): slopes of 2 where a model knows the task, of 0 to 0.5 where it does not,
/// and shifts within 0.5. They decide how large a set is risked and touch no guarantee.
const SHIFTS: [(f64, f64); 3] = [(-0.4, 0.25), (0.0, 0.5), (0.4, 0.25)];
const SLOPES: [(f64, f64); 8] = [
    (0.0, 0.15),
    (0.25, 0.1),
    (0.5, 0.15),
    (0.75, 0.1),
    (1.0, 0.15),
    (1.5, 0.15),
    (2.0, 0.15),
    (3.0, 0.05),
];

/// Sizes that are looked at, as parts of the whole.
const NUM_SIZES: usize = 40;

/// A set of the most confident labels, and what is expected of its audit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stratum {
    /// Labels in it: as many of the most confident ones.
    pub num_labels: usize,
    /// Rows to draw.
    pub num_drawn: usize,
    /// The most wrong ones of these with which the guarantee is kept.
    pub most_wrong: usize,
    /// The share of wrong labels that is expected by the model's confidence; an assumption.
    pub expected_error: f64,
    /// The probability that the audit ends well, under the same assumption.
    pub expected_success: f64,
}

/// The error rate that a model's confidence stands for: the mean probability that it gives other labels.
pub fn error_by_confidence(probabilities: &[f64]) -> f64 {
    let sum: f64 = probabilities.iter().map(|p| 1.0 - p).sum();
    sum / probabilities.len().max(1) as f64
}

/// The supposed error rates of every prefix of falling probabilities, under each supposition.
struct Supposed {
    /// By supposition: its weight, and the summed error probabilities of the first labels.
    worlds: Vec<(f64, Vec<f64>)>,
}

impl Supposed {
    fn of(probabilities: &[f64], error_rate: Option<f64>) -> Self {
        let confidence: Vec<f64> = probabilities
            .iter()
            .map(|p| {
                let p = p.clamp(1e-6, 1.0 - 1e-6);
                (p / (1.0 - p)).ln()
            })
            .collect();
        let sums = |shift: f64, slope: f64| {
            let mut sum = 0.0;
            let upto = confidence.iter().map(|confidence| {
                sum += 1.0 / (1.0 + (slope * confidence - shift).exp());
                sum
            });
            upto.collect::<Vec<f64>>()
        };
        let of_slope = |(slope, weight): (f64, f64)| match error_rate {
            // The shift with which the mean is what was stated.
            Some(rate) => {
                let (mut low, mut high) = (-40.0, 40.0);
                for _ in 0..60 {
                    let middle = f64::midpoint(low, high);
                    let mean = sums(middle, slope).last().copied().unwrap_or(0.0);
                    if mean < rate * confidence.len() as f64 { low = middle } else { high = middle }
                }
                vec![(weight, sums(low, slope))]
            }
            None => SHIFTS.iter().map(|(shift, of)| (weight * of, sums(*shift, slope))).collect(),
        };
        Self { worlds: SLOPES.into_iter().flat_map(of_slope).collect() }
    }

    fn stratum(&self, num_labels: usize, num_drawn: usize, most_wrong: usize) -> Stratum {
        let rate = |sums: &[f64]| sums[num_labels - 1] / num_labels as f64;
        let mean = |value: &dyn Fn(f64) -> f64| {
            let weights: f64 = self.worlds.iter().map(|(weight, _)| weight).sum();
            let all = self.worlds.iter().map(|(weight, sums)| weight * value(rate(sums)));
            all.sum::<f64>() / weights
        };
        Stratum {
            num_labels,
            num_drawn,
            most_wrong,
            expected_error: mean(&|rate| rate),
            expected_success: mean(&|rate| at_most(most_wrong, num_drawn, rate)),
        }
    }
}

/// Returns the set whose audit of `budget` rows is expected to cover the most labels beyond those audited,
/// of at least `least` labels; `None` where no set can keep the guarantee with so few rows.
///
/// `probabilities` are those that the model gives the labels, the highest first; `error_rate` is the share
/// of wrong labels, where it is known.
pub fn choose_stratum(
    probabilities: &[f64],
    guarantee: &Guarantee,
    budget: usize,
    least: usize,
    error_rate: Option<f64>,
) -> Option<Stratum> {
    let num = probabilities.len();
    let supposed = Supposed::of(probabilities, error_rate);
    let sizes = (1..=NUM_SIZES).map(|part| (num * part).div_ceil(NUM_SIZES));
    let mut best: Option<(f64, Stratum)> = None;
    for size in sizes.filter(|size| *size >= least.max(1)) {
        let drawn = budget.min(size);
        let Some(most_wrong) = most_wrong_drawn(size, drawn, guarantee) else { continue };
        let stratum = supposed.stratum(size, drawn, most_wrong);
        let gain = stratum.expected_success * (size - drawn) as f64;
        if best.as_ref().is_none_or(|(most, _)| gain > *most) {
            best = Some((gain, stratum));
        }
    }
    best.map(|(_, stratum)| stratum)
}

/// Returns the set of the first `num_labels` with what is expected of it; `None` as [`choose_stratum`].
pub fn stratum_of(
    probabilities: &[f64],
    guarantee: &Guarantee,
    budget: usize,
    num_labels: usize,
    error_rate: Option<f64>,
) -> Option<Stratum> {
    let drawn = budget.min(num_labels);
    let most_wrong = most_wrong_drawn(num_labels, drawn, guarantee)?;
    Some(Supposed::of(probabilities, error_rate).stratum(num_labels, drawn, most_wrong))
}

/// The binomial distribution's lower tail.
fn at_most(num: usize, of: usize, rate: f64) -> f64 {
    if rate <= 0.0 || num >= of {
        return 1.0;
    }
    let mut term = of as f64 * (-rate).ln_1p();
    let odds = (rate / (1.0 - rate)).ln();
    let mut sum = term.exp();
    for k in 0..num {
        term += odds + ((of - k) as f64 / (k + 1) as f64).ln();
        sum += term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Guarantee = Guarantee { max_error: 0.1, confidence: 0.95 };

    #[test]
    fn tails_are_those_of_the_binomial_distribution() {
        // 0.9^29, and 29 * 0.1 * 0.9^28 more.
        assert!((at_most(0, 29, 0.1) - 0.047_101_286_972_462_5).abs() < 1e-12);
        assert!((at_most(1, 29, 0.1) - 0.198_872_100_550_397).abs() < 1e-12);
        assert_eq!(at_most(3, 3, 0.5), 1.0);
    }

    #[test]
    fn a_confident_model_gets_a_larger_set() {
        let sure: Vec<f64> = (0..1000).map(|i| 0.999 - 0.1 * i as f64 / 1000.0).collect();
        let unsure: Vec<f64> = (0..1000).map(|i| 0.95 - 0.44 * i as f64 / 1000.0).collect();
        let of = |all: &[f64]| choose_stratum(all, &TEN, 100, 1, None).unwrap();
        assert!(
            of(&sure).num_labels > 2 * of(&unsure).num_labels,
            "{:?} {:?}",
            of(&sure),
            of(&unsure)
        );
        assert!(of(&sure).expected_success > of(&unsure).expected_success);
        assert_eq!(
            of(&unsure).most_wrong,
            most_wrong_drawn(of(&unsure).num_labels, 100, &TEN).unwrap()
        );
    }

    #[test]
    fn a_stated_error_rate_is_what_is_expected() {
        let all: Vec<f64> = (0..500).map(|i| 0.99 - 0.49 * i as f64 / 500.0).collect();
        let whole = stratum_of(&all, &TEN, 100, 500, Some(0.2)).unwrap();
        assert!((whole.expected_error - 0.2).abs() < 1e-6, "{whole:?}");
        let half = stratum_of(&all, &TEN, 100, 250, Some(0.2)).unwrap();
        assert!(half.expected_error < 0.2);
        // The worse the labels, the less is risked.
        let size = |rate| choose_stratum(&all, &TEN, 100, 1, Some(rate)).unwrap().num_labels;
        assert!(size(0.3) <= size(0.1), "{} {}", size(0.3), size(0.1));
    }

    #[test]
    fn a_budget_that_cannot_be_enough_chooses_nothing() {
        let all = vec![0.99; 1000];
        assert_eq!(choose_stratum(&all, &TEN, 20, 500, None), None);
        assert!(choose_stratum(&all, &TEN, 29, 500, None).is_some());
        assert_eq!(stratum_of(&all, &TEN, 10, 1000, None), None);
    }

    #[test]
    fn confidence_stands_for_an_error_rate() {
        assert!((error_by_confidence(&[0.9, 0.8, 0.7]) - 0.2).abs() < 1e-12);
        assert_eq!(error_by_confidence(&[]), 0.0);
    }
}
