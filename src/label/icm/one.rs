//! The published search: one example at a time is drawn, predicted and kept or not.

use std::collections::VecDeque;

use rand::Rng;

use super::state::{Icm, Labels, Scored};
use super::walk::Walk;
use crate::error::Result;
use crate::label::objective::accepts;
use crate::label::trace::TraceEvent;
use crate::score::Scorer;

/// An example drawn for a proposal.
struct Drawn {
    example: usize,
    /// In (0, 1], so that its logarithm is finite.
    uniform: f64,
    predicted: usize,
}

impl<S: Scorer + ?Sized> Icm<'_, S> {
    /// Proposes one example after another, and returns why it ended.
    pub(super) fn by_one(
        &mut self,
        walk: &mut Walk,
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Result<&'static str> {
        let mut round: VecDeque<Drawn> = VecDeque::new();
        let mut is_fresh = true;
        while walk.iteration < self.settings.iterations {
            if round.is_empty() {
                self.complete(&walk.labels, &mut walk.current)?;
                if self.settings.stop_when_stable && walk.is_stable() {
                    return Ok("converged");
                }
                round = self.draw_round(walk.iteration, &walk.labels, &walk.current)?;
                is_fresh = true;
            }
            let Some(drawn) = round.pop_front() else { break };
            walk.iteration += 1;
            let accepted = self.propose(walk, &drawn, &mut is_fresh, observe)?;
            let every = self.settings.renew_order_every;
            let is_due = every > 0 && walk.num_accepted.is_multiple_of(every);
            self.settle(walk, (accepted, is_due), observe)?;
            if walk.has_collapsed(walk.iteration) {
                return Ok("collapsed");
            }
        }
        Ok("iterations")
    }

    /// Proposes the predicted label of an example, and returns whether the labels changed. `is_fresh`:
    /// whether the prediction is of the labels held.
    fn propose(
        &mut self,
        walk: &mut Walk,
        &Drawn { example, uniform, predicted }: &Drawn,
        is_fresh: &mut bool,
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Result<bool> {
        walk.revisited[example] |= walk.labels[example].is_some();
        let temperature = self.settings.schedule.temperature(walk.iteration, walk.num_accepted);
        let before = walk.current.score.total;
        let from = walk.labels[example].map(|label| self.label_names[label].clone());
        let mut changes = Vec::new();
        let mut proposed = None;
        let mut accepted = false;
        if walk.labels[example] != Some(predicted) {
            let mut candidate = walk.labels.clone();
            candidate[example] = Some(predicted);
            let (fixed, scored) = self.fix(candidate)?;
            if fixed != walk.labels {
                walk.num_proposals += 1;
                proposed = Some(scored.score);
                changes = self.changes(&walk.labels, &fixed);
                accepted = accepts(scored.score.total - before, temperature, uniform);
            }
            if accepted {
                walk.num_accepted += 1;
                walk.go(fixed, scored);
            } else {
                // A stale prediction that fails says nothing of the one that is due now.
                walk.refused[example] = *is_fresh;
            }
            *is_fresh &= !accepted;
        }
        observe(&TraceEvent::Proposal {
            batch: self.batch,
            iteration: walk.iteration,
            id: self.items.ids[example].clone(),
            from,
            predicted: self.label_names[predicted].clone(),
            block: None,
            changes,
            score: before,
            proposed_score: proposed.map(|score| score.total),
            mutual_predictability: proposed.map(|score| score.mutual_predictability),
            inconsistency: proposed.map(|score| score.inconsistency),
            temperature,
            accepted,
            num_labelled: walk.num_labelled(),
        })?;
        Ok(accepted)
    }

    /// Draws the examples of the iterations after `iteration` that are predicted at once, each with
    /// its iteration's random numbers and none twice, under the labels now held.
    fn draw_round(
        &mut self,
        iteration: u64,
        labels: &Labels,
        current: &Scored,
    ) -> Result<VecDeque<Drawn>> {
        let most = (self.settings.iterations - iteration).min(labels.len() as u64);
        let num = (self.settings.num_parallel_proposals.max(1) as u64).min(most);
        let mut examples = Vec::new();
        let mut uniforms = Vec::new();
        for next in iteration + 1..=iteration + num {
            let mut rng = self.streams.rng("icm/iteration", &[self.batch, next]);
            examples.push(self.draw(labels, &examples, &mut rng));
            uniforms.push(1.0 - rng.random::<f64>());
        }
        let predicted = self.predict(&examples, labels, current)?;
        let all = examples.into_iter().zip(uniforms).zip(predicted);
        Ok(all
            .map(|((example, uniform), predicted)| Drawn { example, uniform, predicted })
            .collect())
    }
}
