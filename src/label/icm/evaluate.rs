//! Scoring and repairing labellings within a search.

use std::collections::{HashMap, HashSet};

use rand::seq::SliceRandom;

use super::settings::Block;
use super::state::{Icm, Labels, Scored};
use crate::error::Result;
use crate::label::objective::Objective;
use crate::label::order::Asked;
use crate::score::{Calibration, batch_offset, best_label, distribution, mean_logprobs};
use crate::score::{LabelScores, QuestionId, Scorer};

impl<S: Scorer + ?Sized> Icm<'_, S> {
    /// The label that all other labelled examples predict for each of `drawn`: read off `current`
    /// for a labelled one, asked for in one call for the others.
    pub(super) fn predict(
        &mut self,
        drawn: &[usize],
        labels: &Labels,
        current: &Scored,
    ) -> Result<Vec<usize>> {
        let unknown = |i: &usize| current.rows[*i].is_none();
        let unlabelled: Vec<usize> = drawn.iter().copied().filter(unknown).collect();
        let mut asked_for: HashMap<usize, usize> = HashMap::new();
        if !unlabelled.is_empty() {
            let asked = self.plan.ask(self.items, labels, &unlabelled, false);
            let scores = self.score(&asked)?;
            let best = |row: &[f64]| best_label(&distribution(row, &current.offset));
            asked_for.extend(asked.rows(&scores).iter().map(|(i, row)| (*i, best(row))));
        }
        let label =
            |i: &usize| current.rows[*i].as_deref().map_or_else(|| asked_for[i], best_label);
        Ok(drawn.iter().map(label).collect())
    }

    /// The calibrated log distributions of `unlabelled` examples behind all labelled ones.
    pub(super) fn ask_ahead(
        &mut self,
        unlabelled: &[usize],
        labels: &Labels,
        current: &Scored,
    ) -> Result<Vec<Option<Vec<f64>>>> {
        let asked = self.plan.ask(self.items, labels, unlabelled, false);
        let scores = self.score(&asked)?;
        let mut rows = vec![None; labels.len()];
        for (i, row) in asked.rows(&scores) {
            rows[i] = Some(distribution(&row, &current.offset));
        }
        Ok(rows)
    }

    pub(super) fn score(&mut self, asked: &Asked) -> Result<Vec<LabelScores>> {
        let (scores, cost) = self.scorer.score(&asked.tree)?;
        self.usage = self.usage.plus(asked.usage(cost, &scores));
        Ok(scores)
    }

    /// Scores a labelling: one pass, unless this very labelling was scored before under the same
    /// order.
    pub(super) fn evaluate(&mut self, labels: &Labels) -> Result<Scored> {
        if let Some(scored) = self.memo.get(labels) {
            return Ok(scored.clone());
        }
        let scored = match self.settings.form.objective {
            Objective::Logprob | Objective::LogOdds => self.leave_one_out(labels)?,
            Objective::Prequential => self.along_chains(labels)?,
        };
        self.memo.insert(labels.clone(), scored.clone());
        Ok(scored)
    }

    /// Adds the leave-one-out predictions that the objective did not need.
    pub(super) fn complete(&mut self, labels: &Labels, scored: &mut Scored) -> Result<()> {
        if scored.rows.iter().all(Option::is_none) {
            let Scored { rows, ahead, offset, .. } = self.leave_one_out(labels)?;
            *scored = Scored { rows, ahead, offset, score: scored.score };
            self.memo.insert(labels.clone(), scored.clone());
        }
        Ok(())
    }

    fn leave_one_out(&mut self, labels: &Labels) -> Result<Scored> {
        let labelled: Vec<usize> = (0..labels.len()).filter(|&i| labels[i].is_some()).collect();
        let content_free = self.settings.calibration == Calibration::ContentFree;
        // A search by blocks wants all predictions, and they hang on the same tree.
        let targets = match self.settings.block {
            Block::Size(1) => labelled,
            _ => (0..labels.len()).collect(),
        };
        let asked = self.plan.ask(self.items, labels, &targets, content_free);
        let scores = self.score(&asked)?;
        self.num_passes += 1;
        let (raw, ahead_raw): (Vec<_>, Vec<_>) =
            asked.rows(&scores).into_iter().partition(|(i, _)| labels[*i].is_some());
        let all = raw.iter().map(|(_, row)| row.as_slice());
        let offset = self.offset(all, &asked.content_free, &scores);
        let mut rows = vec![None; labels.len()];
        for (i, row) in raw {
            rows[i] = Some(distribution(&row, &offset));
        }
        let mut ahead = vec![None; labels.len()];
        for (i, row) in ahead_raw {
            ahead[i] = Some(distribution(&row, &offset));
        }
        let predicted =
            rows.iter().zip(labels).filter_map(|(row, label)| Some((row.as_deref()?, (*label)?)));
        let score = self.settings.form.score(predicted, self.consistency.inconsistency(labels));
        Ok(Scored { rows, ahead, offset, score })
    }

    /// Scores a labelling by the log-probabilities along the chains, the mean over the orders for
    /// each example. One bias is taken off wherever in a chain an example stands: a few orders do not
    /// tell the bias behind each number of demonstrations.
    fn along_chains(&mut self, labels: &Labels) -> Result<Scored> {
        let content_free = self.settings.calibration == Calibration::ContentFree;
        let asked = self.chains.ask(self.items, labels, content_free);
        let (scores, cost) = self.scorer.score(&asked.tree)?;
        self.usage = self.usage.plus(asked.usage(cost, &scores));
        self.num_passes += 1;
        let offset =
            self.offset(asked.rows(&scores).map(|(_, row)| row), &asked.content_free, &scores);
        let mut rows: Vec<Vec<Vec<f64>>> = vec![Vec::new(); labels.len()];
        for (i, row) in asked.rows(&scores) {
            rows[i].push(distribution(row, &offset));
        }
        let means: Vec<(Vec<f64>, usize)> = rows
            .iter()
            .zip(labels)
            .filter_map(|(rows, label)| {
                let rows = rows.iter().map(Vec::as_slice);
                label.map(|label| (mean_logprobs(rows, self.label_names.len()), label))
            })
            .collect();
        let predicted = means.iter().map(|(row, label)| (row.as_slice(), *label));
        let score = self.settings.form.score(predicted, self.consistency.inconsistency(labels));
        let none = vec![None; labels.len()];
        Ok(Scored { rows: none.clone(), ahead: none, offset, score })
    }

    /// The bias to each label, by the setting.
    pub(super) fn offset<'r>(
        &self,
        rows: impl Iterator<Item = &'r [f64]>,
        content_free: &[QuestionId],
        scores: &[LabelScores],
    ) -> Vec<f64> {
        let num_labels = self.label_names.len();
        let rows: Vec<&[f64]> = rows.collect();
        let row = |question: &QuestionId| scores[question.index()].logprobs.as_slice();
        let offset = match self.settings.calibration {
            Calibration::ContentFree => mean_logprobs(content_free.iter().map(row), num_labels),
            calibration => batch_offset(calibration, &rows, num_labels),
        };
        match &self.estimated_shares {
            Some(shares) => {
                offset.iter().zip(shares).map(|(off, share)| off - share.ln()).collect()
            }
            None => self.settings.prior.offset(&rows, offset),
        }
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

    /// U of the labels permuted over the examples that have one: as many of each label, which say
    /// nothing of the texts. Inconsistent pairs count in it as they do in any U.
    pub(super) fn permuted_scores(&mut self, labels: &Labels) -> Result<Vec<f64>> {
        let labelled: Vec<usize> = (0..labels.len()).filter(|&i| labels[i].is_some()).collect();
        (0..self.settings.num_null_permutations)
            .map(|number| {
                let mut drawn: Vec<Option<usize>> = labelled.iter().map(|&i| labels[i]).collect();
                drawn.shuffle(&mut self.streams.rng("icm/null", &[self.batch, number as u64]));
                let mut permuted = labels.clone();
                for (&i, label) in labelled.iter().zip(drawn) {
                    permuted[i] = label;
                }
                self.evaluate(&permuted).map(|scored| scored.score.total)
            })
            .collect()
    }

    /// U of the labellings that give every example one label: what a degenerate search would find.
    /// None under equal shares where calibration is of the items scored together: these make them all a
    /// coin toss, whatever the texts.
    pub(super) fn constant_scores(&mut self) -> Result<Vec<f64>> {
        if self.settings.fixes_constants() && self.estimated_shares.is_none() {
            return Ok(Vec::new());
        }
        (0..self.label_names.len())
            .map(|label| {
                let labels = vec![Some(label); self.items.len()];
                self.evaluate(&labels).map(|scored| scored.score.total)
            })
            .collect()
    }
}
