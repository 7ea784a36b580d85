//! How much of a result is due to the order of demonstrations it was found under.

use serde::{Deserialize, Serialize};

use super::{Icm, Labels, Scored};
use crate::error::Result;
use crate::label::order::OrderPlan;
use crate::label::prequential::ChainPlan;
use crate::run::SeedStream;
use crate::score::Scorer;
use crate::score::{best_label, margin};

/// The epoch of the order that the final labels are checked under; no search gets this far.
const CHECK_EPOCH: u64 = u64::MAX;

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

impl<S: Scorer + ?Sized> Icm<'_, S> {
    /// Returns the search with the streams that draw the order of the final check. Several searches
    /// with the same ones are scored under one order, so that their scores can be compared.
    #[must_use]
    pub fn with_check_streams(self, check_streams: SeedStream) -> Self {
        Self { check_streams, ..self }
    }

    /// Scores the labels under the order of the check, which stays in place.
    pub(super) fn check_order(&mut self, labels: &Labels, found: &Scored) -> Result<OrderCheck> {
        let (options, streams) = (self.settings.order, self.check_streams);
        let epoch = (self.batch, CHECK_EPOCH);
        let num_orders = self.settings.num_prequential_orders;
        self.memo.clear();
        self.plan = OrderPlan::shuffled(options, self.items, labels, &streams, epoch);
        self.chains = ChainPlan::new(num_orders, self.items.len(), &streams, epoch);
        let mut again = self.evaluate(labels)?;
        self.complete(labels, &mut again)?;
        let rows = found.rows.iter().zip(&again.rows).zip(labels);
        let both: Vec<(&[f64], &[f64], usize)> = rows
            .filter_map(|((old, new), label)| Some((old.as_deref()?, new.as_deref()?, (*label)?)))
            .collect();
        let mean = |sum: f64| sum / both.len().max(1) as f64;
        let moved = |(old, new, label): &(&[f64], &[f64], usize)| {
            (margin(new, *label) - margin(old, *label)).abs()
        };
        let turned = both.iter().filter(|(old, new, _)| best_label(old) != best_label(new));
        Ok(OrderCheck {
            num_labels: both.len(),
            score: again.score.total,
            score_change: again.score.total - found.score.total,
            mean_margin_change_nats: mean(both.iter().map(moved).sum()),
            share_predicted_otherwise: mean(turned.count() as f64),
        })
    }
}
