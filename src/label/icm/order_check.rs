//! How much of a result is due to the order of demonstrations it was found under.

use serde::{Deserialize, Serialize};

/// The final labels, scored once more under an order of demonstrations that the search never used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrderCheck {
    /// Labelled examples.
    pub num_labels: usize,
    /// U under the new order.
    pub score: f64,
    /// U under the new order less U under the search's.
    pub score_change: f64,
    /// Mean absolute change of the label's margin (for two labels, of its calibrated log-odds), in
    /// nats.
    pub mean_margin_change_nats: f64,
    /// Share of examples for which all others now predict another label than before.
    pub share_predicted_otherwise: f64,
}

impl OrderCheck {
    /// Returns the check of several batches together, each with its number of examples: scores
    /// weigh by examples, the rest by labels.
    pub fn mean(checks: &[(Self, usize)]) -> Option<Self> {
        let num_labels = checks.iter().map(|(check, _)| check.num_labels).sum();
        let num_examples: usize = checks.iter().map(|(_, num)| num).sum();
        let by_examples = |value: fn(&Self) -> f64| {
            let sum: f64 = checks.iter().map(|(check, num)| value(check) * *num as f64).sum();
            sum / num_examples.max(1) as f64
        };
        let by_labels = |value: fn(&Self) -> f64| {
            let each = checks.iter().map(|(check, _)| value(check) * check.num_labels as f64);
            each.sum::<f64>() / f64::max(num_labels as f64, 1.0)
        };
        (!checks.is_empty()).then(|| Self {
            num_labels,
            score: by_examples(|check| check.score),
            score_change: by_examples(|check| check.score_change),
            mean_margin_change_nats: by_labels(|check| check.mean_margin_change_nats),
            share_predicted_otherwise: by_labels(|check| check.share_predicted_otherwise),
        })
    }
}
