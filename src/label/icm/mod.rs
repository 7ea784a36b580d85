//! Internal Coherence Maximization: the search for the labels that predict each other best.
//!
//! A labelling is scored by leave-one-out prediction ([`super::order`]) and by the contradictions in
//! it ([`super::consistency`]). Starting from a few random labels, examples are drawn, their labels
//! predicted from all others, and the change kept or not by simulated annealing: one example at a time
//! as published ([`Block::Size`] of 1), or several ([`blocks`], the default), which finds labels of the
//! same U in a fraction of the passes.
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
mod blocks;
mod collapse;
mod evaluate;
mod init;
mod one;
mod order_check;
mod recheck;
mod seeds;
mod settings;
mod state;
mod walk;

use std::collections::{HashMap, HashSet};

use rand::Rng;

pub use init::{GivenLabels, Init};
pub use order_check::OrderCheck;
pub use settings::{Block, IcmSettings};
pub use state::Icm;

use state::Labels;
use walk::Walk;

use super::consistency::Consistency;
use super::found::few_examples;
use super::items::Items;
use super::order::{Epoch, OrderPlan};
use super::prequential::ChainPlan;
use super::trace::{Change, TraceEvent};
use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;
use crate::score::{Scorer, Usage};

/// How much more often an unlabelled example is drawn that shares a group with a labelled one.
const GROUP_WEIGHT: u64 = 100;

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
        let epoch = Epoch { batch, number: 0 };
        let plan = OrderPlan::new(settings.order, items, &nothing, &streams, epoch);
        let num_orders = settings.num_prequential_orders;
        let chains = ChainPlan::new(num_orders, items.len(), &streams, epoch);
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
        let mut walk = self.begin(observe)?;
        let reason = match self.settings.block {
            Block::Size(1) => self.by_one(&mut walk, observe)?,
            _ => self.by_blocks(&mut walk, observe)?,
        };
        self.end(walk, reason, observe)
    }

    /// Labels the seeds and tells of them.
    fn begin(&mut self, observe: &mut dyn FnMut(&TraceEvent) -> Result<()>) -> Result<Walk> {
        self.estimate_prior()?;
        let seeds = self.seeds()?;
        self.new_order(&seeds);
        self.set_alpha(&seeds);
        let (labels, current) = self.fix(seeds)?;
        let walk = Walk::new(labels, current, self.settings.stop_on_collapse);
        observe(&TraceEvent::Start {
            batch: self.batch,
            iteration: 0,
            labels: self.named(&walk.labels),
            score: walk.current.score.total,
            mutual_predictability: walk.current.score.mutual_predictability,
            inconsistency: walk.current.score.inconsistency,
            temperature: self.settings.schedule.temperature(1, 0),
            num_labelled: walk.num_labelled(),
        })?;
        if let Some(event) = self.alpha_event(0, &walk.labels, &walk.current) {
            observe(&event)?;
        }
        Ok(walk)
    }

    /// Scores what the labels found are to be held against, and tells of the end.
    fn end(
        mut self,
        mut walk: Walk,
        reason: &'static str,
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Result<IcmResult> {
        self.complete(&walk.labels, &mut walk.current)?;
        let constant_scores = self.constant_scores()?;
        let permuted_scores = self.permuted_scores(&walk.labels)?;
        let map = |(name, score): (&String, &f64)| (name.clone(), (*score).into());
        observe(&TraceEvent::End {
            batch: self.batch,
            iteration: walk.iteration,
            score: walk.current.score.total,
            mutual_predictability: walk.current.score.mutual_predictability,
            inconsistency: walk.current.score.inconsistency,
            reason: reason.into(),
            num_labelled: walk.num_labelled(),
            constant_scores: self.label_names.iter().zip(&constant_scores).map(map).collect(),
            permuted_scores: permuted_scores.clone(),
        })?;
        let order_check = match self.settings.check_order {
            true => Some(self.check_order(&walk.labels, &walk.current)?),
            false => None,
        };
        Ok(IcmResult {
            num_never_revisited: walk.num_never_revisited(),
            order_check,
            logprobs: walk.current.rows,
            offset: walk.current.offset,
            estimated_shares: self.estimated_shares,
            labels: walk.labels,
            last_flip: walk.last_flip,
            score: walk.current.score.total,
            alpha: self.settings.form.alpha,
            reason,
            constant_scores,
            permuted_scores,
            num_accepted: walk.num_accepted,
            num_proposals: walk.num_proposals,
            num_passes: self.num_passes,
            usage: self.usage,
        })
    }

    /// Sets alpha anew if it follows the labels, and draws a new order if one is due after `every`
    /// accepted changes, or if the one in use has lost a label.
    fn settle(
        &mut self,
        walk: &mut Walk,
        (accepted, is_due): (bool, bool),
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Result<()> {
        if self.set_alpha(&walk.labels) {
            walk.current.score = self.settings.form.again(walk.current.score);
            if let Some(event) = self.alpha_event(walk.iteration, &walk.labels, &walk.current) {
                observe(&event)?;
            }
        }
        if accepted && (is_due || self.plan.is_stale(&walk.labels)) {
            self.new_order(&walk.labels);
            walk.current = self.evaluate(&walk.labels)?;
            walk.refused.fill(false);
            let (batch, score) = (self.batch, walk.current.score.total);
            observe(&TraceEvent::Renew { batch, iteration: walk.iteration, score })?;
        }
        Ok(())
    }

    fn new_order(&mut self, labels: &Labels) {
        self.memo.clear();
        let epoch = Epoch { batch: self.batch, number: self.epoch };
        self.plan = OrderPlan::new(self.settings.order, self.items, labels, &self.streams, epoch);
        let num_orders = self.settings.num_prequential_orders;
        self.chains = ChainPlan::new(num_orders, self.items.len(), &self.streams, epoch);
        self.epoch += 1;
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
