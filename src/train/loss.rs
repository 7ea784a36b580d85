//! Losses over the labels of an item: from the model's label distribution and the weak one to a
//! number and its derivative.
//!
//! All of them are a cross-entropy with a target that is held fixed, so that the derivative by the
//! log-probability of a label, before it is normalised over the labels, is prediction less target.
//!
//! # Source
//! Burns et al. 2023 and openai/weak-to-strong `loss.py` (xent, product, logconf); EleutherAI/w2s
//! `loss.py` (kl, entropy).

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::stats::quantile;

/// What is minimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The cross-entropy of the answers' tokens and end token, as in supervised fine-tuning; of
    /// several answers, weighted by their shares.
    #[default]
    #[serde(rename = "xent")]
    Tokens,
    /// A loss over the distribution of labels.
    Class(ClassLoss),
}

/// A loss over the distribution of labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ClassLoss {
    /// Cross-entropy with the weak distribution.
    #[serde(rename = "label-xent")]
    Xent,
    /// The divergence of the model's distribution from the weak one: cross-entropy less the weak
    /// one's entropy, which has the same gradient.
    Kl,
    /// The target is the product of both distributions to the powers `beta` (model) and `alpha`
    /// (weak), normalised.
    Product {
        /// Power of the weak distribution.
        alpha: f64,
        /// Power of the model's own.
        beta: f64,
    },
    /// The target moves from the weak label to the model's own hardened one, so many of each label
    /// as the weak ones.
    Logconf {
        /// The share of the own label after the warm-up.
        aux: f64,
        /// Share of the steps over which it rises.
        warmup: f64,
        /// Whether it rises as in the published code: by the share of all steps that are done, and
        /// at the end of the warm-up at once to the full.
        published: bool,
    },
    /// As `logconf` with the model's own distribution as it is: lowers its entropy.
    Entropy {
        /// The share of the own distribution after the warm-up.
        aux: f64,
        /// Share of the steps over which it rises.
        warmup: f64,
    },
}

impl ClassLoss {
    /// Returns whether the target of an item depends on the other items of its batch.
    pub fn needs_batch(self) -> bool {
        matches!(self, Self::Logconf { .. })
    }

    /// Returns the loss of each item and its derivatives by the log-probabilities of its labels.
    ///
    /// `scores` are the log-probabilities of the labels' words and `weak` the weak distribution, one
    /// row an item; `step_share` is the share of the steps that are done.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a score is not finite.
    pub fn of_batch(
        self,
        scores: &[Vec<f64>],
        weak: &[Vec<f64>],
        step_share: f64,
    ) -> Result<Vec<(f64, Vec<f64>)>> {
        let log_preds: Vec<Vec<f64>> = scores.iter().map(|row| log_softmax(row)).collect();
        if let Some(bad) = log_preds.iter().flatten().find(|value| !value.is_finite()) {
            return Err(Error::new(
                ErrorKind::Numeric,
                format!("the model gave a label the log-probability {bad}"),
            ));
        }
        let num_labels = scores.first().map_or(0, Vec::len);
        if self.needs_batch() && scores.iter().any(|row| row.len() != num_labels) {
            return Err(Error::new(
                ErrorKind::Data,
                "items of one batch have different numbers of labels, whose shares cannot be kept",
            ));
        }
        let preds: Vec<Vec<f64>> =
            log_preds.iter().map(|row| row.iter().map(|l| l.exp()).collect()).collect();
        let own: Vec<Vec<f64>> = match self {
            Self::Logconf { .. } => hardened(&preds, weak),
            _ => preds.clone(),
        };
        let mixed = |share: f64, i: usize| -> Vec<f64> {
            weak[i].iter().zip(&own[i]).map(|(w, o)| (1.0 - share) * w + share * o).collect()
        };
        Ok((0..scores.len())
            .map(|i| {
                let target = match self {
                    Self::Xent | Self::Kl => weak[i].clone(),
                    Self::Product { alpha, beta } => {
                        let product: Vec<f64> = preds[i]
                            .iter()
                            .zip(&weak[i])
                            .map(|(p, w)| p.powf(beta) * w.powf(alpha))
                            .collect();
                        let sum: f64 = product.iter().sum();
                        product.iter().map(|x| x / sum).collect()
                    }
                    Self::Logconf { aux, warmup, published } => {
                        mixed(aux * rise(step_share, warmup, published), i)
                    }
                    Self::Entropy { aux, warmup } => {
                        mixed(aux * rise(step_share, warmup, false), i)
                    }
                };
                let mut loss: f64 =
                    -target.iter().zip(&log_preds[i]).map(|(t, l)| t * l).sum::<f64>();
                if self == Self::Kl {
                    loss += target.iter().filter(|t| **t > 0.0).map(|t| t * t.ln()).sum::<f64>();
                }
                let by_score = preds[i].iter().zip(&target).map(|(p, t)| p - t).collect();
                (loss, by_score)
            })
            .collect())
    }
}

fn rise(step_share: f64, warmup: f64, published: bool) -> f64 {
    match published {
        true if step_share > warmup => 1.0,
        true => step_share,
        false if warmup <= 0.0 => 1.0,
        false => (step_share / warmup).min(1.0),
    }
}

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = most + row.iter().map(|x| (x - most).exp()).sum::<f64>().ln();
    row.iter().map(|x| x - lse).collect()
}

/// Returns the model's predictions made certain, such that each label gets its share of the weak
/// distribution.
///
/// Two labels are parted by a threshold at that quantile, interpolated, as published. More than two
/// are given out surest first, each item its likeliest label that still has room.
fn hardened(preds: &[Vec<f64>], weak: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let num_labels = preds.first().map_or(0, Vec::len);
    let one_hot = |label: usize| {
        let mut row = vec![0.0; num_labels];
        row[label] = 1.0;
        row
    };
    let share =
        |label: usize| weak.iter().map(|row| row[label]).sum::<f64>() / weak.len().max(1) as f64;
    if num_labels == 2 {
        let threshold = quantile(preds.iter().map(|row| row[0]).collect(), share(1));
        return preds.iter().map(|row| one_hot(usize::from(row[0] < threshold))).collect();
    }
    let mut room = rooms(&(0..num_labels).map(share).collect::<Vec<_>>(), preds.len());
    let mut all: Vec<(usize, usize)> =
        (0..preds.len()).flat_map(|i| (0..num_labels).map(move |label| (i, label))).collect();
    all.sort_by(|a, b| preds[b.0][b.1].total_cmp(&preds[a.0][a.1]));
    let mut given: Vec<Option<usize>> = vec![None; preds.len()];
    for (i, label) in all {
        if given[i].is_none() && room[label] > 0 {
            room[label] -= 1;
            given[i] = Some(label);
        }
    }
    given.into_iter().map(|label| one_hot(label.unwrap_or(0))).collect()
}

/// Returns how many of `num` each share comes to, by largest remainders.
fn rooms(shares: &[f64], num: usize) -> Vec<usize> {
    let mut rooms: Vec<usize> = shares.iter().map(|s| (s * num as f64).floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    let rest = |i: usize| shares[i] * num as f64 - rooms[i] as f64;
    let rests: Vec<f64> = (0..shares.len()).map(rest).collect();
    order.sort_by(|&a, &b| rests[b].total_cmp(&rests[a]));
    let mut left = num.saturating_sub(rooms.iter().sum());
    for i in order.into_iter().cycle() {
        if left == 0 || shares.is_empty() {
            break;
        }
        rooms[i] += 1;
        left -= 1;
    }
    rooms
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [[f64; 2]; 4] = [[0.3, -1.2], [-0.5, 0.9], [2.0, 1.0], [-0.1, 0.2]];
    const WEAK: [[f64; 2]; 4] = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [1.0, 0.0]];

    /// Loss, share of the steps, mean over the four items in torch 2.11.0 by the lines of the
    /// published code: `cross_entropy`, `kl_div` with `batchmean`, `quantile`.
    const CASES: [(ClassLoss, f64, f64); 8] = [
        (ClassLoss::Xent, 0.0, 0.774_861_904_971_988_5),
        (ClassLoss::Kl, 0.0, 0.400_237_638_987_265_2),
        (ClassLoss::Product { alpha: 1.0, beta: 1.0 }, 0.0, 0.604_697_142_498_097),
        (ClassLoss::Product { alpha: 2.0, beta: 0.5 }, 0.0, 0.689_461_764_985_282_7),
        (LOGCONF_PUBLISHED, 0.05, 0.763_549_404_971_988_3),
        (LOGCONF_PUBLISHED, 0.5, 0.548_611_904_971_988_4),
        (
            ClassLoss::Logconf { aux: 0.5, warmup: 0.1, published: false },
            0.05,
            0.661_736_904_971_988_3,
        ),
        (ClassLoss::Entropy { aux: 0.5, warmup: 0.1 }, 0.05, 0.720_936_249_225_364_6),
    ];
    const LOGCONF_PUBLISHED: ClassLoss =
        ClassLoss::Logconf { aux: 0.5, warmup: 0.1, published: true };

    fn rows(values: &[[f64; 2]]) -> Vec<Vec<f64>> {
        values.iter().map(|row| row.to_vec()).collect()
    }

    fn mean(loss: ClassLoss, step_share: f64) -> f64 {
        let all = loss.of_batch(&rows(&SCORES), &rows(&WEAK), step_share).unwrap();
        all.iter().map(|(loss, _)| loss).sum::<f64>() / all.len() as f64
    }

    #[test]
    fn losses_are_those_of_the_published_code() {
        for (loss, step_share, expected) in CASES {
            let got = mean(loss, step_share);
            assert!((got - expected).abs() < 1e-6, "{loss:?} at {step_share}: {got}");
        }
    }

    #[test]
    fn the_derivative_is_that_of_the_loss_with_its_target_held() {
        let weak = rows(&WEAK);
        for loss in [ClassLoss::Xent, ClassLoss::Kl] {
            let grads = loss.of_batch(&rows(&SCORES), &weak, 0.5).unwrap();
            for (i, label) in [(0, 0), (2, 1), (3, 0)] {
                let moved = |by: f64| {
                    let mut scores = rows(&SCORES);
                    scores[i][label] += by;
                    loss.of_batch(&scores, &weak, 0.5).unwrap()[i].0
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((slope - grads[i].1[label]).abs() < 1e-8);
            }
        }
    }

    #[test]
    fn more_than_two_labels_keep_their_shares() {
        let preds = vec![vec![0.6, 0.3, 0.1], vec![0.5, 0.4, 0.1], vec![0.9, 0.05, 0.05]];
        let weak = vec![vec![1.0 / 3.0; 3]; 3];
        let labels: Vec<usize> = hardened(&preds, &weak)
            .iter()
            .map(|row| row.iter().position(|&x| x == 1.0).unwrap())
            .collect();
        // The surest keeps its label; then .6 and .5 find it full, .4 is before .3.
        assert_eq!(labels, [2, 1, 0]);
        assert_eq!(rooms(&[0.5, 0.3, 0.2], 4), [2, 1, 1]);
    }
}
