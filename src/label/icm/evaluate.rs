//! Scoring and repairing labellings within a search.

use std::collections::HashSet;

use super::{Icm, Labels, Scored};
use crate::error::Result;
use crate::label::calibrate::{Calibration, best_label, distribution, mean_logprobs};
use crate::label::order::Asked;
use crate::score::{LabelScores, Scorer};

impl<S: Scorer + ?Sized> Icm<'_, S> {
    /// The label that all other labelled examples predict for `i`.
    pub(super) fn predict(&mut self, i: usize, labels: &Labels, current: &Scored) -> Result<usize> {
        if let Some(row) = &current.rows[i] {
            return Ok(best_label(row));
        }
        let asked = self.plan.ask(self.items, labels, &[i], false);
        let scores = self.score(&asked)?;
        let (_, row) = &asked.rows(&scores)[0];
        Ok(best_label(&distribution(row, &current.offset)))
    }

    pub(super) fn score(&mut self, asked: &Asked) -> Result<Vec<LabelScores>> {
        let (scores, cost) = self.scorer.score(&asked.tree)?;
        self.usage = self.usage.plus(asked.usage(cost, &scores));
        Ok(scores)
    }

    /// The model's bias to each label in one pass, as the calibration takes it.
    pub(super) fn offset(
        &self,
        asked: &Asked,
        scores: &[LabelScores],
        raw: &[(usize, Vec<f64>)],
    ) -> Vec<f64> {
        let num_labels = self.label_names.len();
        match self.settings.calibration {
            Calibration::None => vec![0.0; num_labels],
            Calibration::Batch => {
                mean_logprobs(raw.iter().map(|(_, row)| row.as_slice()), num_labels)
            }
            Calibration::ContentFree => {
                let free = asked.content_free.iter();
                mean_logprobs(free.map(|q| scores[q.index()].logprobs.as_slice()), num_labels)
            }
        }
    }

    /// Scores a labelling: one leave-one-out pass, unless this very labelling was scored before
    /// under the same order.
    pub(super) fn evaluate(&mut self, labels: &Labels) -> Result<Scored> {
        if let Some(scored) = self.memo.get(labels) {
            return Ok(scored.clone());
        }
        let labelled: Vec<usize> = (0..labels.len()).filter(|&i| labels[i].is_some()).collect();
        let content_free = self.settings.calibration == Calibration::ContentFree;
        let asked = self.plan.ask(self.items, labels, &labelled, content_free);
        let scores = self.score(&asked)?;
        self.num_passes += 1;
        let raw = asked.rows(&scores);
        let offset = self.offset(&asked, &scores, &raw);
        let mut rows = vec![None; labels.len()];
        for (i, row) in raw {
            rows[i] = Some(distribution(&row, &offset));
        }
        let predicted =
            rows.iter().zip(labels).filter_map(|(row, label)| Some((row.as_deref()?, (*label)?)));
        let score = self.settings.form.score(predicted, self.consistency.inconsistency(labels));
        let scored = Scored { rows, offset, score };
        self.memo.insert(labels.clone(), scored.clone());
        Ok(scored)
    }

    /// Repairs inconsistent pairs one by one: each gets the best of its consistent joint labels, if
    /// that does not lower U.
    pub(super) fn fix(&mut self, mut labels: Labels) -> Result<(Labels, Scored)> {
        let mut best = self.evaluate(&labels)?;
        let mut tried = HashSet::new();
        for _ in 0..self.settings.consistency_fix_iterations {
            let Some((i, j)) =
                self.consistency.violated(&labels).find(|pair| !tried.contains(pair))
            else {
                break;
            };
            tried.insert((i, j));
            let mut repaired: Option<(Labels, Scored)> = None;
            for (a, b) in self.consistency.joint_labels(i, j) {
                let mut candidate = labels.clone();
                (candidate[i], candidate[j]) = (Some(a), Some(b));
                let scored = self.evaluate(&candidate)?;
                let bar = repaired.as_ref().map_or(best.score.total, |(_, s)| s.score.total);
                if scored.score.total > bar || repaired.is_none() && scored.score.total == bar {
                    repaired = Some((candidate, scored));
                }
            }
            if let Some((candidate, scored)) = repaired {
                (labels, best) = (candidate, scored);
            }
        }
        Ok((labels, best))
    }

    /// U of the labellings that give every example one label: what a degenerate search would find.
    pub(super) fn constant_scores(&mut self) -> Result<Vec<f64>> {
        (0..self.label_names.len())
            .map(|label| {
                let labels = vec![Some(label); self.items.len()];
                self.evaluate(&labels).map(|scored| scored.score.total)
            })
            .collect()
    }
}
