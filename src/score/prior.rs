//! How frequent each label is taken to be: where calibration puts the border between labels.
//!
//! Log-probabilities tell which of two items is the more likely to be positive; how many are positive
//! they do not tell, because a model's bias to a label word looks the same as a frequent label. So
//! every calibration supposes shares: [`Calibration::Batch`](super::Calibration::Batch) that all labels
//! are about equally frequent. A [`Prior`] supposes others.

use serde::Serialize;

use super::{distribution, mean_logprobs};

/// The shares of the labels that are supposed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    /// What the calibration supposes by itself; for `Batch`, labels that are equally frequent.
    #[default]
    Equal,
    /// [`estimated_shares`] of the calibrated scores.
    Estimated,
    /// Shares by the number of the label, positive and with the sum 1: the bias to each label is what
    /// makes the items' best labels have these shares.
    Given(Vec<f64>),
}

impl Prior {
    /// Returns what is to be subtracted from the log-probabilities of each label, in nats, if `offset`
    /// is what calibration subtracts.
    ///
    /// # Shapes
    /// `rows`: items x labels, log-probabilities before calibration.
    ///
    /// # Cost
    /// `Given`: at most 300 passes over the rows; `Estimated`: at most 1000.
    pub fn offset(&self, rows: &[&[f64]], offset: Vec<f64>) -> Vec<f64> {
        match self {
            Self::Equal => offset,
            Self::Estimated => {
                let calibrated: Vec<Vec<f64>> =
                    rows.iter().map(|row| distribution(row, &offset)).collect();
                let shares = estimated_shares(&calibrated, offset.len());
                offset.iter().zip(shares).map(|(off, share)| off - share.ln()).collect()
            }
            Self::Given(shares) => border(rows, shares, offset),
        }
    }
}

/// Items of each label that [`estimated_shares`] adds to those it counts, as Laplace's rule does. They
/// keep the shares of few items near equal, and every share above zero.
const ADDED_ITEMS: f64 = 1.0;
const EM_ROUNDS: usize = 1000;
const EM_ENOUGH: f64 = 1e-7;

/// Returns the share of each label that makes the scores the most likely: expectation maximisation
/// from equal shares, with one added item of each label. Needs no label.
///
/// `calibrated` are log distributions under equal shares (items x labels). The likelihood is concave in
/// the shares, so there is one maximum; the rounds end when no share moves by more than 1e-7, or after
/// 1000. No items: equal shares. Scores that hardly differ say little of the shares and may be best
/// explained by a single label: shares reach 1 / (items + labels) at the least.
///
/// # Source
/// Saerens, Latinne and Decaestecker 2002, *Adjusting the outputs of a classifier to new a priori
/// probabilities*, equation 2.7. The added items are ours.
pub fn estimated_shares(calibrated: &[Vec<f64>], num_labels: usize) -> Vec<f64> {
    let mut shares = vec![1.0 / num_labels.max(1) as f64; num_labels];
    let total = calibrated.len() as f64 + ADDED_ITEMS * num_labels as f64;
    for _ in 0..EM_ROUNDS {
        let offset: Vec<f64> = shares.iter().map(|share: &f64| -share.ln()).collect();
        let mut counts = vec![ADDED_ITEMS; num_labels];
        for row in calibrated {
            for (count, logprob) in counts.iter_mut().zip(distribution(row, &offset)) {
                *count += logprob.exp();
            }
        }
        let next: Vec<f64> = counts.iter().map(|count| count / total).collect();
        let moved = next.iter().zip(&shares).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        shares = next;
        if moved < EM_ENOUGH {
            break;
        }
    }
    shares
}

/// By how much log-odds, in units of their spread, are sharpened step by step until a mean probability
/// is nearly a count.
const SHARPNESS: [f64; 3] = [1.0, 4.0, 16.0];
/// Least spread of log-odds, in nats: less is rounding.
const LEAST_SPREAD: f64 = 1e-3;
const BORDER_ROUNDS: usize = 100;
const BORDER_ENOUGH: f64 = 1e-6;

/// The offset under which the items' best labels have the stated shares: at each sharpness, the mean
/// probability of each label is brought to its share (prior matching, Liusie et al. 2023,
/// arXiv 2309.04992, without the sharpening). Items that are exactly alike stay at equal odds. Where
/// they differ a little, most of them still fall on the side of the frequent label: in a search the
/// labelling that gives it to all scores higher than under equal shares, and is to be looked at.
fn border(rows: &[&[f64]], shares: &[f64], offset: Vec<f64>) -> Vec<f64> {
    let mut offset = offset;
    if rows.is_empty() {
        return offset;
    }
    let spread = spread(rows, shares.len()).max(LEAST_SPREAD);
    for sharpness in SHARPNESS.map(|times| times / spread) {
        for _ in 0..BORDER_ROUNDS {
            let scaled: Vec<f64> = offset.iter().map(|off| sharpness * off).collect();
            let mut means = vec![0.0; shares.len()];
            for row in rows {
                let row: Vec<f64> = row.iter().map(|logprob| sharpness * logprob).collect();
                for (mean, logprob) in means.iter_mut().zip(distribution(&row, &scaled)) {
                    *mean += logprob.exp() / rows.len() as f64;
                }
            }
            let mut moved = 0.0_f64;
            for ((off, mean), share) in offset.iter_mut().zip(&means).zip(shares) {
                // A label whose mean underflows is as far off as can be told.
                let by = (mean.max(f64::MIN_POSITIVE) / share).ln() / sharpness;
                *off += by;
                moved = moved.max(by.abs());
            }
            if moved < BORDER_ENOUGH * spread {
                break;
            }
        }
    }
    offset
}

/// The root mean square by which an item's log-probabilities, those of its labels taken relative to
/// each other, differ from those of the mean item; in nats.
fn spread(rows: &[&[f64]], num_labels: usize) -> f64 {
    let centre = mean_logprobs(rows.iter().copied(), num_labels);
    let squares = rows.iter().map(|row| {
        let apart: Vec<f64> = row.iter().zip(&centre).map(|(a, b)| a - b).collect();
        let mean = apart.iter().sum::<f64>() / num_labels as f64;
        apart.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / num_labels as f64
    });
    (squares.sum::<f64>() / rows.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::score::{Calibration, batch_offset, best_label};

    /// Values of `scripts/bench/priors.py reference`, which are numpy's.
    #[derive(Deserialize)]
    struct Case {
        logprobs: Vec<Vec<f64>>,
        stated: Vec<f64>,
        estimated: Vec<f64>,
        border: Vec<f64>,
        mean_prob: Vec<f64>,
    }

    fn cases() -> Vec<Case> {
        serde_json::from_str(include_str!("../../tests/data/priors.json")).unwrap()
    }

    fn slices(rows: &[Vec<f64>]) -> Vec<&[f64]> {
        rows.iter().map(Vec::as_slice).collect()
    }

    fn close(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < tolerance), "{a:?} is not {b:?}");
    }

    /// Differences are all that an offset means.
    fn relative(offset: &[f64]) -> Vec<f64> {
        offset.iter().map(|off| off - offset[0]).collect()
    }

    fn shares(rows: &[Vec<f64>], offset: &[f64]) -> Vec<f64> {
        let mut counts = vec![0.0; offset.len()];
        for row in rows {
            counts[best_label(&distribution(row, offset))] += 1.0 / rows.len() as f64;
        }
        counts
    }

    #[test]
    fn as_numpy_has_it() {
        for case in cases() {
            let (rows, num) = (slices(&case.logprobs), case.stated.len());
            let batch = batch_offset(Calibration::Batch, &rows, num);
            let calibrated: Vec<Vec<f64>> =
                rows.iter().map(|row| distribution(row, &batch)).collect();
            close(&estimated_shares(&calibrated, num), &case.estimated, 1e-9);
            let given = Prior::Given(case.stated.clone()).offset(&rows, batch);
            close(&relative(&given), &relative(&case.border), 1e-6);
            let mean_prob = batch_offset(Calibration::BatchMeanProb, &rows, num);
            close(&mean_prob, &case.mean_prob, 1e-9);
        }
    }

    #[test]
    fn shares_by_hand() {
        // Scores that leave no doubt are counted: (3 + 1) / (4 + 2).
        let (yes, no) = (vec![0.0, -800.0], vec![-800.0, 0.0]);
        let sure = [yes.clone(), yes.clone(), yes, no];
        close(&estimated_shares(&sure, 2), &[4.0 / 6.0, 2.0 / 6.0], 1e-6);
        // Scores that say nothing, and no scores, leave the shares equal.
        close(&estimated_shares(&vec![vec![-1.0; 4]; 9], 4), &[0.25; 4], 1e-9);
        close(&estimated_shares(&[], 2), &[0.5; 2], 1e-9);
        // One item at 3 : 1, as a fixed point: share = (p + 1) / 3 with p = 3 share / (1 + 2 share), so
        // 6 share^2 - 2 share - 1 = 0 and share = (1 + sqrt 7) / 6.
        let one = [vec![0.75_f64.ln(), 0.25_f64.ln()]];
        let share = (1.0 + 7.0_f64.sqrt()) / 6.0;
        close(&estimated_shares(&one, 2), &[share, 1.0 - share], 1e-6);
    }

    #[test]
    fn laws_of_the_estimate() {
        for case in cases() {
            let num = case.stated.len();
            let calibrated: Vec<Vec<f64>> = case
                .logprobs
                .iter()
                .map(|row| distribution(row, &mean_logprobs(slices(&case.logprobs), num)))
                .collect();
            let found = estimated_shares(&calibrated, num);
            assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let least = 1.0 / (calibrated.len() + num) as f64;
            assert!(found.iter().all(|share| *share >= least * (1.0 - 1e-9)));
            // Labels by other numbers have the same shares.
            let turned: Vec<Vec<f64>> =
                calibrated.iter().map(|row| row.iter().rev().copied().collect()).collect();
            let back: Vec<f64> = estimated_shares(&turned, num).into_iter().rev().collect();
            close(&back, &found, 1e-9);
        }
        // Even and separable: near equal.
        let even: Vec<Vec<f64>> = (0..100)
            .map(|i| distribution(&[if i % 2 == 0 { 4.0 } else { -4.0 }, 0.0], &[0.0, 0.0]))
            .collect();
        close(&estimated_shares(&even, 2), &[0.5, 0.5], 1e-9);
    }

    #[test]
    fn best_labels_have_the_shares_that_are_given() {
        for case in cases() {
            let rows = slices(&case.logprobs);
            let offset = batch_offset(Calibration::Batch, &rows, case.stated.len());
            let given = Prior::Given(case.stated.clone()).offset(&rows, offset);
            // One item, and what a mean of sharpened probabilities differs from a count.
            let close_enough = 1.0 / rows.len() as f64 + 0.015;
            close(&shares(&case.logprobs, &given), &case.stated, close_enough);
        }
        // A bias to a word that all items share makes no difference.
        let case = &cases()[0];
        let prior = Prior::Given(case.stated.clone());
        let of = |rows: &[Vec<f64>]| {
            let rows = slices(rows);
            let offset = prior.offset(&rows, batch_offset(Calibration::Batch, &rows, 2));
            distribution(rows[3], &offset)
        };
        let biased: Vec<Vec<f64>> =
            case.logprobs.iter().map(|row| vec![row[0] + 5.0, row[1]]).collect();
        close(&of(&biased), &of(&case.logprobs), 1e-6);
    }

    #[test]
    fn items_that_are_exactly_alike_stay_at_equal_odds() {
        let rows = vec![vec![-0.01, -4.6]; 20];
        let rows = slices(&rows);
        let prior = Prior::Given(vec![0.9, 0.1]);
        let offset = prior.offset(&rows, batch_offset(Calibration::Batch, &rows, 2));
        close(&distribution(rows[0], &offset), &[0.5_f64.ln(); 2], 0.01);
        assert_eq!(prior.offset(&[], vec![0.0, 0.0]), [0.0, 0.0]);
        let equal = Prior::Equal.offset(&rows, vec![0.3, 0.1]);
        assert_eq!(equal, [0.3, 0.1]);
    }
}
