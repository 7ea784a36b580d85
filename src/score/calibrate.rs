//! From label log-probabilities to a label distribution, with the model's bias taken off.

use serde::Serialize;

/// How a model's preference for a label word, whatever the item, is taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calibration {
    /// Not at all, as in the published code.
    None,
    /// Subtract each label's mean log-probability over the items scored together: after Zhou et al.
    /// 2023, whose own form is [`BatchMeanProb`](Self::BatchMeanProb). It supposes that labels are
    /// about equally frequent; another [`Prior`](super::Prior) says otherwise.
    #[default]
    Batch,
    /// Subtract the logarithm of each label's mean probability among the labels, over the items scored
    /// together (Zhou et al. 2023, arXiv 2309.17249, equation 5).
    BatchMeanProb,
    /// Subtract each label's mean log-probability for items without content (Zhao et al. 2021).
    ContentFree,
}

impl Calibration {
    /// Returns whether it is of the items scored together.
    pub fn is_of_items(self) -> bool {
        matches!(self, Self::Batch | Self::BatchMeanProb)
    }
}

/// Returns what a calibration of the items scored together subtracts from the log-probability of each
/// label, in nats; zeros for the other calibrations.
///
/// # Shapes
/// `rows`: items x labels.
pub fn batch_offset(calibration: Calibration, rows: &[&[f64]], num_labels: usize) -> Vec<f64> {
    match calibration {
        Calibration::None | Calibration::ContentFree => vec![0.0; num_labels],
        Calibration::Batch => mean_logprobs(rows.iter().copied(), num_labels),
        Calibration::BatchMeanProb => {
            let mut sum = vec![0.0; num_labels];
            for row in rows {
                for (total, logprob) in
                    sum.iter_mut().zip(distribution(row, &vec![0.0; num_labels]))
                {
                    *total += logprob.exp();
                }
            }
            // A label that no item gives any probability has no bias that could be told.
            let mean = |total: f64| (total / rows.len().max(1) as f64).max(f64::MIN_POSITIVE).ln();
            sum.into_iter().map(mean).collect()
        }
    }
}

/// Returns each label's mean log-probability over `rows`, in nats; zeros for no rows.
///
/// # Shapes
/// `rows`: items x labels.
pub fn mean_logprobs<'a>(rows: impl IntoIterator<Item = &'a [f64]>, num_labels: usize) -> Vec<f64> {
    let mut sum = vec![0.0; num_labels];
    let mut num = 0_usize;
    for row in rows {
        num += 1;
        for (total, value) in sum.iter_mut().zip(row) {
            *total += value;
        }
    }
    sum.iter().map(|total| total / num.max(1) as f64).collect()
}

/// Returns the natural-log label distribution: the log-softmax of `logprobs - offset`.
pub fn distribution(logprobs: &[f64], offset: &[f64]) -> Vec<f64> {
    let shifted: Vec<f64> = logprobs.iter().zip(offset).map(|(lp, off)| lp - off).collect();
    let top = shifted.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = shifted.iter().map(|x| (x - top).exp()).sum();
    shifted.iter().map(|x| x - top - total.ln()).collect()
}

/// Returns the label with the largest log-probability; the first of equals.
pub fn best_label(logprobs: &[f64]) -> usize {
    let mut best = 0;
    for (label, value) in logprobs.iter().enumerate() {
        if *value > logprobs[best] {
            best = label;
        }
    }
    best
}

/// Returns log p(label) minus the largest other log-probability, in nats.
pub fn margin(logprobs: &[f64], label: usize) -> f64 {
    let others = logprobs.iter().enumerate().filter(|(other, _)| *other != label);
    logprobs[label] - others.map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max)
}

/// Returns ln(p / (1 - p)) of `label` under a normalised log distribution; for two labels, the
/// difference of their log-probabilities.
pub fn log_odds(logprobs: &[f64], label: usize) -> f64 {
    let others: Vec<f64> = logprobs
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != label)
        .map(|(_, value)| *value)
        .collect();
    let top = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let rest = top + others.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
    logprobs[label] - rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_by_hand() {
        // exp: 0.2 and 0.05 of the vocabulary's mass, so 0.8 and 0.2 of the labels'.
        let d = distribution(&[0.2_f64.ln(), 0.05_f64.ln()], &[0.0, 0.0]);
        assert!((d[0].exp() - 0.8).abs() < 1e-12 && (d[1].exp() - 0.2).abs() < 1e-12);
        assert!((log_odds(&d, 0) - 4.0_f64.ln()).abs() < 1e-12);
        assert!((margin(&d, 1) + 4.0_f64.ln()).abs() < 1e-12);
        let three = distribution(&[0.5_f64.ln(), 0.3_f64.ln(), 0.2_f64.ln()], &[0.0; 3]);
        assert!((log_odds(&three, 0)).abs() < 1e-12); // one half against one half
        assert!((margin(&three, 0) - (5.0_f64 / 3.0).ln()).abs() < 1e-12);
    }

    #[test]
    fn batch_calibration_takes_a_bias_off() {
        // Every item says label 1 three times as likely as it should: the bias is ln 3.
        let fair = [[0.7_f64, 0.3], [0.4, 0.6], [0.5, 0.5]];
        let biased: Vec<Vec<f64>> =
            fair.iter().map(|p| vec![p[0].ln(), p[1].ln() + 3.0_f64.ln()]).collect();
        let offset_fair =
            mean_logprobs(fair.map(|p| [p[0].ln(), p[1].ln()]).iter().map(<[f64; 2]>::as_slice), 2);
        let offset = mean_logprobs(biased.iter().map(Vec::as_slice), 2);
        for (row, p) in biased.iter().zip(fair) {
            let a = distribution(row, &offset);
            let b = distribution(&[p[0].ln(), p[1].ln()], &offset_fair);
            assert!((a[0] - b[0]).abs() < 1e-12);
        }
        // A labelling that the model predicts always and equally scores log(1 / C) under it.
        let constant = vec![vec![-0.01, -4.6]; 5];
        let offset = mean_logprobs(constant.iter().map(Vec::as_slice), 2);
        assert!((distribution(&constant[0], &offset)[0] - 0.5_f64.ln()).abs() < 1e-12);
    }
}
