//! Internal Coherence Maximization: the search for the labels that predict each other best.
//!
//! A labelling is scored by leave-one-out prediction ([`super::order`]) and by the contradictions in
//! it ([`super::consistency`]). Starting from a few random labels, one example at a time is drawn,
//! its label predicted from all others, and the change kept or not by simulated annealing.
//!
//! # Source
//! Wen et al. 2025, *Unsupervised Elicitation of Language Models* (arXiv 2506.10139), Algorithms 1
//! and 2, and the authors' code. Where the two differ a setting names both. What is ours: the
//! prediction for an example that is already labelled is read off the scoring of the current labels,
//! of which it is a part, so an iteration that proposes nothing costs nothing; and labellings that
//! were scored before under the same order are not scored again.
//!
//! Under the prequential objective ([`super::prequential`]) labellings are scored along chains, but
//! predictions, the bias taken off them, and the log-probabilities given out come from a leave-one-out
//! pass over the labels held, one for each that was accepted. Along a chain an example has any number
//! of demonstrations behind it, down to none: its mean over a few orders is a worse prediction than
//! that from all others, and worse for the examples that happen to stand early.

mod alpha;
mod collapse;
mod evaluate;
mod init;
mod order_check;
mod recheck;
mod seeds;
mod settings;
mod state;

use std::collections::{HashMap, HashSet, VecDeque};

use rand::Rng;

pub use init::{GivenLabels, Init};
pub use order_check::OrderCheck;
pub use settings::IcmSettings;
pub use state::Icm;

use collapse::CollapseWatch;
use state::{Labels, Scored};

use super::consistency::Consistency;
use super::found::few_examples;
use super::objective::accepts;
use super::order::{Items, OrderPlan};
use super::prequential::ChainPlan;
use super::trace::{Change, TraceEvent};
use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;
use crate::score::best_label;
use crate::score::{Scorer, Usage};

/// How much more often an unlabelled example is drawn that shares a group with a labelled one.
const GROUP_WEIGHT: u64 = 100;

/// An example drawn for a proposal.
struct Drawn {
    example: usize,
    /// In (0, 1], so that its logarithm is finite.
    uniform: f64,
    predicted: usize,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct IcmResult {
    /// The label of each example; `None` only when the iterations did not suffice to draw it.
    pub labels: Vec<Option<usize>>,
    /// Each labelled example's calibrated leave-one-out log distribution.
    pub logprobs: Vec<Option<Vec<f64>>>,
    /// What calibration took off the log-probabilities of each label.
    pub offset: Vec<f64>,
    /// The estimated share of each label; where the prior was estimated.
    pub estimated_shares: Option<Vec<f64>>,
    /// The iteration in which each label last changed; 0 for a starting label that never did.
    pub last_flip: Vec<Option<u64>>,
    /// U of the labels.
    pub score: f64,
    /// The alpha of this U.
    pub alpha: f64,
    /// Why the search ended: `converged`, `iterations` or `collapsed`.
    pub reason: &'static str,
    /// U of the labelling that gives every example the same label, by label.
    pub constant_scores: Vec<f64>,
    /// U of the labels permuted over the labelled examples, for each permutation.
    pub permuted_scores: Vec<f64>,
    /// Accepted proposals.
    pub num_accepted: u64,
    /// Proposals that were scored.
    pub num_proposals: u64,
    /// Labelled examples that were never drawn again after their first label.
    pub num_never_revisited: usize,
    /// What a new order of demonstrations does to the result.
    pub order_check: Option<OrderCheck>,
    /// Passes over a labelling that were computed.
    pub num_passes: u64,
    /// Cost.
    pub usage: Usage,
}

impl<'a, S: Scorer + ?Sized> Icm<'a, S> {
    /// Returns the search of batch `batch` over `items`.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] for fewer than two examples, [`ErrorKind::Usage`] for settings that
    /// cannot be searched with.
    pub fn new(
        items: &'a Items,
        consistency: &'a Consistency,
        label_names: &'a [String],
        settings: IcmSettings,
        streams: SeedStream,
        batch: u64,
        scorer: &'a mut S,
    ) -> Result<Self> {
        if items.len() < 2 {
            return Err(few_examples(items.len()));
        }
        if settings.num_seed < 2 {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`--num-seed` is {}, expected at least 2", settings.num_seed),
            )
            .hint("with fewer than two labelled examples there is nothing to predict from"));
        }
        let nothing = vec![None; items.len()];
        let plan = OrderPlan::new(settings.order, items, &nothing, &streams, (batch, 0));
        let num_orders = settings.num_prequential_orders;
        let chains = ChainPlan::new(num_orders, items.len(), &streams, (batch, 0));
        Ok(Self {
            items,
            consistency,
            settings,
            streams,
            batch,
            label_names,
            scorer,
            plan,
            chains,
            check_streams: streams,
            epoch: 0,
            memo: HashMap::new(),
            num_passes: 0,
            usage: Usage::default(),
            estimated_shares: None,
        })
    }

    /// Runs the search, telling `observe` of every event.
    ///
    /// # Errors
    /// What the scorer or `observe` give.
    pub fn run(mut self, observe: &mut dyn FnMut(&TraceEvent) -> Result<()>) -> Result<IcmResult> {
        let num = self.items.len();
        let mut last_flip = vec![None; num];
        self.estimate_prior()?;
        let seeds = self.seeds()?;
        self.new_order(&seeds);
        self.set_alpha(&seeds);
        let (mut labels, mut current) = self.fix(seeds)?;
        for (flip, label) in last_flip.iter_mut().zip(&labels) {
            *flip = label.map(|_| 0);
        }
        let mut accepted_total = 0;
        let mut num_proposals = 0;
        observe(&TraceEvent::Start {
            batch: self.batch,
            iteration: 0,
            labels: self.named(&labels),
            score: current.score.total,
            mutual_predictability: current.score.mutual_predictability,
            inconsistency: current.score.inconsistency,
            temperature: self.settings.schedule.temperature(1, 0),
            num_labelled: labels.iter().flatten().count(),
        })?;
        if let Some(event) = self.alpha_event(0, &labels, &current) {
            observe(&event)?;
        }
        let mut refused = vec![false; num];
        let mut revisited = vec![false; num];
        let mut round: VecDeque<Drawn> = VecDeque::new();
        let mut is_fresh = true;
        let mut iteration = 0;
        let mut reason = "iterations";
        let mut watch = self.settings.stop_on_collapse.map(CollapseWatch::new);
        while iteration < self.settings.iterations {
            if round.is_empty() {
                self.complete(&labels, &mut current)?;
                if self.settings.stop_when_stable && is_stable(&labels, &current, &refused) {
                    reason = "converged";
                    break;
                }
                round = self.draw_round(iteration, &labels, &current)?;
                is_fresh = true;
            }
            let Some(Drawn { example: drawn, uniform, predicted }) = round.pop_front() else {
                break;
            };
            iteration += 1;
            revisited[drawn] |= labels[drawn].is_some();
            let temperature = self.settings.schedule.temperature(iteration, accepted_total);
            let before = current.score.total;
            let from = labels[drawn].map(|label| self.label_names[label].clone());
            let mut changes = Vec::new();
            let mut proposed = None;
            let mut accepted = false;
            if labels[drawn] != Some(predicted) {
                let mut candidate = labels.clone();
                candidate[drawn] = Some(predicted);
                let (fixed, scored) = self.fix(candidate)?;
                if fixed == labels {
                    // A stale prediction that fails says nothing of the one that is due now.
                    refused[drawn] = is_fresh;
                } else {
                    num_proposals += 1;
                    proposed = Some(scored.score);
                    changes = self.changes(&labels, &fixed);
                    accepted = accepts(scored.score.total - before, temperature, uniform);
                    if accepted {
                        accepted_total += 1;
                        refused.fill(false);
                        is_fresh = false;
                        for (i, flip) in last_flip.iter_mut().enumerate() {
                            if labels[i] != fixed[i] {
                                *flip = Some(iteration);
                            }
                        }
                        labels = fixed;
                        current = scored;
                    } else {
                        refused[drawn] = is_fresh;
                    }
                }
            }
            observe(&TraceEvent::Proposal {
                batch: self.batch,
                iteration,
                id: self.items.ids[drawn].clone(),
                from,
                predicted: self.label_names[predicted].clone(),
                changes,
                score: before,
                proposed_score: proposed.map(|score| score.total),
                mutual_predictability: proposed.map(|score| score.mutual_predictability),
                inconsistency: proposed.map(|score| score.inconsistency),
                temperature,
                accepted,
                num_labelled: labels.iter().flatten().count(),
            })?;
            if self.set_alpha(&labels) {
                current.score = self.settings.form.again(current.score);
                if let Some(event) = self.alpha_event(iteration, &labels, &current) {
                    observe(&event)?;
                }
            }
            let every = self.settings.renew_order_every;
            let due = every > 0 && accepted_total % every == 0;
            if accepted && (due || self.plan.is_stale(&labels)) {
                self.new_order(&labels);
                current = self.evaluate(&labels)?;
                refused.fill(false);
                let (batch, score) = (self.batch, current.score.total);
                observe(&TraceEvent::Renew { batch, iteration, score })?;
            }
            if watch.as_mut().is_some_and(|watch| watch.look(iteration, &labels)) {
                reason = "collapsed";
                break;
            }
        }
        self.complete(&labels, &mut current)?;
        let constant_scores = self.constant_scores()?;
        let permuted_scores = self.permuted_scores(&labels)?;
        let map = |(name, score): (&String, &f64)| (name.clone(), (*score).into());
        observe(&TraceEvent::End {
            batch: self.batch,
            iteration,
            score: current.score.total,
            mutual_predictability: current.score.mutual_predictability,
            inconsistency: current.score.inconsistency,
            reason: reason.into(),
            num_labelled: labels.iter().flatten().count(),
            constant_scores: self.label_names.iter().zip(&constant_scores).map(map).collect(),
            permuted_scores: permuted_scores.clone(),
        })?;
        let order_check = match self.settings.check_order {
            true => Some(self.check_order(&labels, &current)?),
            false => None,
        };
        let is_left_alone = |&i: &usize| labels[i].is_some() && !revisited[i];
        Ok(IcmResult {
            num_never_revisited: (0..num).filter(is_left_alone).count(),
            order_check,
            logprobs: current.rows,
            offset: current.offset,
            estimated_shares: self.estimated_shares,
            labels,
            last_flip,
            score: current.score.total,
            alpha: self.settings.form.alpha,
            reason,
            constant_scores,
            permuted_scores,
            num_accepted: accepted_total,
            num_proposals,
            num_passes: self.num_passes,
            usage: self.usage,
        })
    }

    fn new_order(&mut self, labels: &Labels) {
        self.memo.clear();
        self.plan = OrderPlan::new(
            self.settings.order,
            self.items,
            labels,
            &self.streams,
            (self.batch, self.epoch),
        );
        let num_orders = self.settings.num_prequential_orders;
        let epoch = (self.batch, self.epoch);
        self.chains = ChainPlan::new(num_orders, self.items.len(), &self.streams, epoch);
        self.epoch += 1;
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

    /// Draws an example that is not `taken`: weight 1, or 100 if it is unlabelled and its group has a
    /// label.
    fn draw(&self, labels: &Labels, taken: &[usize], rng: &mut impl Rng) -> usize {
        let known: HashSet<usize> = (0..labels.len())
            .filter(|&i| labels[i].is_some())
            .filter_map(|i| self.consistency.group(i))
            .collect();
        let weight = |i: usize| {
            let pulled = self.consistency.group(i).is_some_and(|group| known.contains(&group));
            match (taken.contains(&i), labels[i].is_none() && pulled) {
                (true, _) => 0,
                (false, true) => GROUP_WEIGHT,
                (false, false) => 1,
            }
        };
        let total: u64 = (0..labels.len()).map(weight).sum();
        let mut at = rng.random_range(0..total);
        for i in 0..labels.len() {
            match at.checked_sub(weight(i)) {
                Some(rest) => at = rest,
                None => return i,
            }
        }
        labels.len() - 1
    }

    fn named(&self, labels: &Labels) -> Vec<(String, String)> {
        let name = |(i, label): (usize, &Option<usize>)| {
            label.map(|label| (self.items.ids[i].clone(), self.label_names[label].clone()))
        };
        labels.iter().enumerate().filter_map(name).collect()
    }

    fn changes(&self, old: &Labels, new: &Labels) -> Vec<Change> {
        let name = |label: Option<usize>| label.map(|label| self.label_names[label].clone());
        (0..old.len())
            .filter(|&i| old[i] != new[i])
            .map(|i| (self.items.ids[i].clone(), name(old[i]), name(new[i])))
            .collect()
    }
}

/// Whether every example is labelled and none can change: its label is the predicted one, or the
/// change was refused since the last accepted one.
fn is_stable(labels: &Labels, current: &Scored, refused: &[bool]) -> bool {
    (0..labels.len()).all(|i| match (&labels[i], &current.rows[i]) {
        (Some(label), Some(row)) => best_label(row) == *label || refused[i],
        _ => false,
    })
}
