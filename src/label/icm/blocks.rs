//! Block proposals: several examples change at once, and one exact pass scores them together.
//!
//! Nearly all first labels that single proposals try are accepted, each for a pass of its own. Here the
//! pass over the labels held also asks for all unlabelled examples behind them, so every prediction is
//! at hand, and one proposal takes many of them:
//!
//! 1. Examples that are unlabelled or predicted otherwise are drawn, without replacement, by the weights
//!    of the published draw. Each brings the partners of its group that have no label or would be in
//!    conflict with it, and the group takes the consistent joint labels that its predictions like best.
//! 2. One pass scores the joint labelling. First labels stay: U is a mean over the labelled examples, so
//!    U of a larger set says little of the labels. Changes are judged on the examples that were labelled
//!    before, by the published rule at the published temperature; they fall with the first labels left
//!    standing if they are refused beside them.
//! 3. A block that is refused is halved, the part drawn first going on; a refused single example is
//!    refused until the next acceptance. Cooling counts changed examples, from when all are labelled.
//! 4. Labels that a hot search has held before are walked through for nothing: once twice as many examples
//!    were drawn as there are and no new labelling was held, the temperature is the last one.
//!
//! What is exact: U of every labelling that is held, and the rule by which changes are accepted. The path
//! is not that of single proposals, and neither has a stationary law: the proposal is the best label.

use std::collections::HashSet;

use rand::Rng;

use super::settings::Block;
use super::state::{Icm, Labels, Scored};
use super::walk::Walk;
use crate::error::Result;
use crate::label::objective::{Score, accepts};
use crate::label::trace::TraceEvent;
use crate::score::{Scorer, best_label};

/// Part of the examples that a block of changes begins with.
const FIRST_PART: usize = 8;
/// Most joint labellings of a group that are tried; larger groups are labelled one after another.
const MOST_JOINT: usize = 4096;

/// How large the next block is, and what the search has come by.
struct Pace {
    size: usize,
    is_fixed: bool,
    /// Acceptances without a refusal between them.
    in_a_row: usize,
    /// Examples changed since all are labelled: what cooling counts.
    num_changed: u64,
    /// Labels taken in all.
    num_taken: u64,
    /// Examples drawn since a labelling was held for the first time.
    num_drawn_since: usize,
    /// All examples drawn: the clock of what counts sweeps.
    clock: u64,
    seen: HashSet<Labels>,
}

/// Examples that are labelled together, one and the partners of its group, with their labels.
type Unit = Vec<(usize, usize)>;

impl<S: Scorer + ?Sized> Icm<'_, S> {
    /// Proposes one block after another, and returns why it ended.
    pub(super) fn by_blocks(
        &mut self,
        walk: &mut Walk,
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Result<&'static str> {
        let num = self.items.len();
        let (size, is_fixed) = match self.settings.block {
            Block::Auto => ((num / FIRST_PART).max(1), false),
            Block::Size(size) => (size, true),
        };
        let seen = HashSet::from([walk.labels.clone()]);
        let mut pace = Pace {
            size,
            is_fixed,
            in_a_row: 0,
            num_changed: 0,
            num_taken: 0,
            num_drawn_since: 0,
            clock: 0,
            seen,
        };
        while walk.iteration < self.settings.iterations {
            self.complete(&walk.labels, &mut walk.current)?;
            // Every pass looks at all labels again.
            for (revisited, label) in walk.revisited.iter_mut().zip(&walk.labels) {
                *revisited |= label.is_some();
            }
            if self.settings.stop_when_stable && walk.is_stable() {
                return Ok("converged");
            }
            walk.iteration += 1;
            let key = [self.batch, walk.iteration];
            let mut rng = self.streams.rng("icm/iteration", &key);
            let drawn = self.draw_block(walk, &pace, &mut rng)?;
            let uniform = 1.0 - rng.random::<f64>();
            if drawn.is_empty() {
                if self.settings.stop_when_stable || !walk.refused.contains(&true) {
                    // No label is left that its prediction would change.
                    return Ok("converged");
                }
                // All iterations are asked for: what was refused is tried again.
                walk.refused.fill(false);
                continue;
            }
            let before = pace.num_taken;
            let accepted = self.propose_block(walk, &mut pace, drawn, uniform, observe)?;
            let every = self.settings.renew_order_every;
            let is_due = every > 0 && pace.num_taken / every > before / every;
            self.settle(walk, (accepted, is_due), observe)?;
            if walk.has_collapsed(pace.clock) {
                return Ok("collapsed");
            }
        }
        Ok("iterations")
    }

    /// Draws the examples of a block with the labels they are to have.
    fn draw_block(&mut self, walk: &Walk, pace: &Pace, rng: &mut impl Rng) -> Result<Vec<Unit>> {
        let labels = &walk.labels;
        let predicted = self.predicted(walk)?;
        let best: Vec<usize> = predicted.iter().map(|row| best_label(row)).collect();
        let is_open = |i: usize| match labels[i] {
            None => true,
            Some(label) => label != best[i] && !walk.refused[i],
        };
        let mut shut: Vec<usize> = (0..labels.len()).filter(|&i| !is_open(i)).collect();
        let num_labelled = walk.num_labelled();
        // First labels: as many as there are labels to predict them from.
        let size = match pace.is_fixed || num_labelled == labels.len() {
            true => pace.size,
            false => num_labelled.max(1),
        };
        let mut drawn: Vec<Unit> = Vec::new();
        let mut proposed = labels.clone();
        while num_of(&drawn) < size && shut.len() < labels.len() {
            let example = self.draw(labels, &shut, rng);
            let members = self.brought(example, best[example], &proposed, labels);
            let mut unit = Unit::new();
            for (member, label) in self.joint(&members, &predicted, &proposed) {
                if !shut.contains(&member) {
                    shut.push(member);
                }
                if labels[member] != Some(label) {
                    proposed[member] = Some(label);
                    unit.push((member, label));
                }
            }
            if !unit.is_empty() {
                drawn.push(unit);
            }
            // It may keep its label for its group's sake.
            if !shut.contains(&example) {
                shut.push(example);
            }
        }
        Ok(drawn)
    }

    /// The log distribution of every example behind all other labelled ones.
    fn predicted(&mut self, walk: &Walk) -> Result<Vec<Vec<f64>>> {
        let rows = &walk.current.rows;
        let is_missing = |i: &usize| rows[*i].is_none() && walk.current.ahead[*i].is_none();
        let missing: Vec<usize> = (0..rows.len()).filter(is_missing).collect();
        let mut asked = vec![None; rows.len()];
        if !missing.is_empty() {
            asked = self.ask_ahead(&missing, &walk.labels, &walk.current)?;
        }
        let row = |i: usize| {
            let known = rows[i].as_ref().or(walk.current.ahead[i].as_ref()).or(asked[i].as_ref());
            known.cloned().unwrap_or_default()
        };
        Ok((0..rows.len()).map(row).collect())
    }

    /// The example and those partners of its group that have no label or are in conflict with it.
    fn brought(
        &self,
        example: usize,
        label: usize,
        proposed: &Labels,
        held: &Labels,
    ) -> Vec<usize> {
        let Some(group) = self.consistency.group(example) else { return vec![example] };
        let mut with = proposed.clone();
        with[example] = Some(label);
        let in_conflict: HashSet<usize> = self
            .consistency
            .violated(&with)
            .filter(|(i, j)| *i == example || *j == example)
            .flat_map(|(i, j)| [i, j])
            .collect();
        let is_brought = |j: &usize| {
            *j != example
                && self.consistency.group(*j) == Some(group)
                && (proposed[*j].is_none() || in_conflict.contains(j))
                // What this block labels already stays as it is.
                && proposed[*j] == held[*j]
        };
        let partners = (0..proposed.len()).filter(is_brought);
        [example].into_iter().chain(partners).collect()
    }

    /// The labels of `members` that are consistent with each other and with those held, and that their
    /// rows like best; where there are none, the first member's best label alone.
    fn joint(&self, members: &[usize], rows: &[Vec<f64>], held: &Labels) -> Unit {
        let alone = || vec![(members[0], best_label(&rows[members[0]]))];
        if members.len() == 1 && self.consistency.group(members[0]).is_none() {
            return alone();
        }
        let num_labels = self.label_names.len();
        let num_joint = num_labels.checked_pow(members.len() as u32).unwrap_or(usize::MAX);
        if num_joint > MOST_JOINT {
            return self.one_after_another(members, rows, held);
        }
        let mut best: Option<(f64, Vec<usize>)> = None;
        let mut with = held.clone();
        for number in 0..num_joint {
            let mut rest = number;
            let labels: Vec<usize> = members
                .iter()
                .map(|_| {
                    let label = rest % num_labels;
                    rest /= num_labels;
                    label
                })
                .collect();
            for (&member, &label) in members.iter().zip(&labels) {
                with[member] = Some(label);
            }
            if self
                .consistency
                .violated(&with)
                .any(|(i, j)| members.contains(&i) || members.contains(&j))
            {
                continue;
            }
            let liked: f64 = members.iter().zip(&labels).map(|(&m, &l)| rows[m][l]).sum();
            if best.as_ref().is_none_or(|(most, _)| liked > *most) {
                best = Some((liked, labels));
            }
        }
        match best {
            Some((_, labels)) => members.iter().copied().zip(labels).collect(),
            None => alone(),
        }
    }

    /// As [`joint`](Self::joint) for a large group: the surest member first, each taking the best label
    /// that goes with those before it.
    fn one_after_another(&self, members: &[usize], rows: &[Vec<f64>], held: &Labels) -> Unit {
        let mut with = held.clone();
        for &member in members {
            with[member] = None;
        }
        let most = |i: usize| rows[i].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut order = members.to_vec();
        order.sort_by(|&a, &b| most(b).total_cmp(&most(a)));
        let mut taken = Unit::new();
        for member in order {
            let mut labels: Vec<usize> = (0..self.label_names.len()).collect();
            labels.sort_by(|&a, &b| rows[member][b].total_cmp(&rows[member][a]));
            let fits = labels.iter().copied().find(|&label| {
                with[member] = Some(label);
                !self.consistency.violated(&with).any(|(i, j)| i == member || j == member)
            });
            let label = fits.unwrap_or(labels[0]);
            with[member] = Some(label);
            taken.push((member, label));
        }
        taken
    }

    /// Scores a block, halving it while it is refused; returns whether the labels changed.
    fn propose_block(
        &mut self,
        walk: &mut Walk,
        pace: &mut Pace,
        mut drawn: Vec<Unit>,
        uniform: f64,
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Result<bool> {
        pace.clock += num_of(&drawn) as u64;
        pace.num_drawn_since += num_of(&drawn);
        let mut uniform = uniform;
        let mut number = 0;
        loop {
            let mut candidate = walk.labels.clone();
            for &(example, label) in drawn.iter().flatten() {
                candidate[example] = Some(label);
            }
            // Groups were labelled together, so there is nothing to repair.
            let scored = self.evaluate(&candidate)?;
            let temperature = self.temperature(walk, pace);
            let before = self.score_on(&walk.labels, &walk.labels, &walk.current)?;
            let after = self.score_on(&walk.labels, &candidate, &scored)?;
            let is_new = |(i, _): &(usize, usize)| walk.labels[*i].is_none();
            let num_changed = drawn.iter().flatten().filter(|one| !is_new(one)).count();
            let accepted =
                num_changed == 0 || accepts(after.total - before.total, temperature, uniform);
            walk.num_proposals += 1;
            self.tell_block(walk, &drawn, (&candidate, &scored), (temperature, accepted), observe)?;
            if accepted {
                if walk.num_labelled() == walk.labels.len() {
                    pace.num_changed += num_changed as u64;
                }
                walk.num_accepted += 1;
                pace.num_taken += num_of(&drawn) as u64;
                walk.go(candidate, scored);
                if pace.seen.insert(walk.labels.clone()) {
                    pace.num_drawn_since = 0;
                }
                pace.accepted(walk.num_labelled());
                return Ok(true);
            }
            pace.refused(num_of(&drawn));
            if drawn.iter().any(|unit| unit.iter().all(is_new)) {
                // First labels stay, without what changed beside them.
                drawn.retain(|unit| unit.iter().all(is_new));
            } else if drawn.len() > 1 {
                drawn.truncate(drawn.len().div_ceil(2));
            } else if drawn[0].iter().any(is_new) {
                // The group's first labels, as they go with those that it has.
                let new: Vec<usize> =
                    drawn[0].iter().filter(|one| is_new(one)).map(|(i, _)| *i).collect();
                let predicted = self.predicted(walk)?;
                drawn = vec![self.joint(&new, &predicted, &walk.labels)];
            } else {
                for &(example, _) in &drawn[0] {
                    walk.refused[example] = true;
                }
                return Ok(false);
            }
            if walk.iteration >= self.settings.iterations {
                return Ok(false);
            }
            walk.iteration += 1;
            number += 1;
            let key = [self.batch, walk.iteration, number];
            uniform = 1.0 - self.streams.rng("icm/half", &key).random::<f64>();
        }
    }

    fn temperature(&self, walk: &Walk, pace: &Pace) -> f64 {
        let schedule = &self.settings.schedule;
        match pace.num_drawn_since > 2 * walk.labels.len() {
            true => schedule.last,
            false => schedule.temperature(pace.num_changed + 1, pace.num_changed),
        }
    }

    /// U of a labelling on the examples that `on` labels.
    fn score_on(&mut self, on: &Labels, labels: &Labels, scored: &Scored) -> Result<Score> {
        if on.iter().zip(labels).all(|(a, b)| a.is_some() == b.is_some()) {
            return Ok(scored.score);
        }
        let mut whole = scored.clone();
        self.complete(labels, &mut whole)?;
        let held: Labels = labels.iter().zip(on).map(|(label, on)| on.and(*label)).collect();
        let rows = whole.rows.iter().zip(&held);
        let predicted = rows.filter_map(|(row, label)| Some((row.as_deref()?, (*label)?)));
        let inconsistency = self.consistency.inconsistency(&held);
        Ok(self.settings.form.score(predicted, inconsistency))
    }

    fn tell_block(
        &self,
        walk: &Walk,
        drawn: &[Unit],
        (labels, scored): (&Labels, &Scored),
        (temperature, accepted): (f64, bool),
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Result<()> {
        let (example, label) = drawn[0][0];
        let num = |labels: &Labels| labels.iter().flatten().count();
        observe(&TraceEvent::Proposal {
            batch: self.batch,
            iteration: walk.iteration,
            id: self.items.ids[example].clone(),
            from: walk.labels[example].map(|label| self.label_names[label].clone()),
            predicted: self.label_names[label].clone(),
            block: Some(num_of(drawn)),
            changes: self.changes(&walk.labels, labels),
            score: walk.current.score.total,
            proposed_score: Some(scored.score.total),
            mutual_predictability: Some(scored.score.mutual_predictability),
            inconsistency: Some(scored.score.inconsistency),
            temperature,
            accepted,
            num_labelled: num(if accepted { labels } else { &walk.labels }),
        })
    }
}

fn num_of(drawn: &[Unit]) -> usize {
    drawn.iter().map(Vec::len).sum()
}

impl Pace {
    fn accepted(&mut self, num_labelled: usize) {
        self.in_a_row += 1;
        if self.in_a_row >= 2 && !self.is_fixed {
            self.size = (2 * self.size).min(num_labelled);
            self.in_a_row = 0;
        }
    }

    fn refused(&mut self, size: usize) {
        self.in_a_row = 0;
        if !self.is_fixed {
            self.size = self.size.min((size / 2).max(1));
        }
    }
}
