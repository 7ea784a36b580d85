//! The final labels scored once more, under an order of demonstrations that the search never used.

use super::order_check::OrderCheck;
use super::state::{Icm, Labels, Scored};
use crate::error::Result;
use crate::label::order::{Epoch, OrderPlan};
use crate::label::prequential::ChainPlan;
use crate::run::SeedStream;
use crate::score::Scorer;
use crate::score::{best_label, margin};

/// The epoch of the order that the final labels are checked under; no search gets this far.
const CHECK_EPOCH: u64 = u64::MAX;

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
        let epoch = Epoch { batch: self.batch, number: CHECK_EPOCH };
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
