//! An alpha that gives one inconsistent pair a stated weight in nats (`--auto-alpha`).
//!
//! U = alpha * P - I prices an inconsistent pair at 1 / alpha of P's unit. If P is a mean over n
//! examples, that is n / alpha nats of their summed log-probability: with a fixed alpha a pair is
//! nearly free while few examples are labelled and grows dear as their number grows. So alpha = n /
//! NATS follows the number of labelled examples through the first sweep, until all have a label, and
//! stays from then on. If P is a sum, alpha is 1 / NATS throughout. Two labellings are always compared
//! under one alpha: that of the labels held.
//!
//! U is then the summed log-probability in units of NATS nats, and temperatures are in units of U: at
//! temperature T a loss of T * NATS nats is accepted with probability 1 / e.

use super::state::{Icm, Labels, Scored};
use crate::label::trace::TraceEvent;
use crate::score::Scorer;

impl<S: Scorer + ?Sized> Icm<'_, S> {
    /// Sets the alpha of the labels held, if it is to be chosen, and says whether it changed; then the
    /// scores kept are those under the new one.
    pub(super) fn set_alpha(&mut self, labels: &Labels) -> bool {
        let Some(nats) = self.settings.auto_alpha else { return false };
        let alpha = self.settings.form.alpha_of_nats(nats, labels.iter().flatten().count());
        if alpha == self.settings.form.alpha {
            return false;
        }
        self.settings.form.alpha = alpha;
        for scored in self.memo.values_mut() {
            scored.score = self.settings.form.again(scored.score);
        }
        true
    }

    /// What the trace says of an alpha that was chosen; none for one that was given.
    pub(super) fn alpha_event(
        &self,
        iteration: u64,
        labels: &Labels,
        current: &Scored,
    ) -> Option<TraceEvent> {
        self.settings.auto_alpha.map(|_| TraceEvent::Alpha {
            batch: self.batch,
            iteration,
            alpha: self.settings.form.alpha,
            num_labelled: labels.iter().flatten().count(),
            score: current.score.total,
        })
    }
}
