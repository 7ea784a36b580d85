//! Several whole searches over the same examples, of which the best is kept.

use super::batches::{self, BatchSize};
use super::consistency::Consistency;
use super::found::Found;
use super::icm::{Icm, IcmResult, IcmSettings, OrderCheck};
use super::items::Items;
use super::summary::{RestartSummary, Summary};
use super::trace::TraceEvent;
use crate::data::{Example, LabelRecord, Rule, Task};
use crate::error::Result;
use crate::prompt::PromptFormat;
use crate::run::SeedStream;
use crate::score::{Scorer, Usage};
use crate::score::{best_label, margin};

/// The labels of one of several searches.
#[derive(Clone, Debug)]
pub struct Restart {
    /// Number of the search, from 0.
    pub restart: usize,
    /// U of its labels.
    pub score: f64,
    /// One record per labelled example, in the order of the data.
    pub records: Vec<LabelRecord>,
}

/// Everything that one search needs, whatever its seed.
pub(super) struct Searches<'a> {
    pub(super) task: &'a Task,
    pub(super) examples: &'a [Example],
    pub(super) format: &'a PromptFormat<'a>,
    pub(super) names: &'a [String],
    pub(super) settings: &'a IcmSettings,
    pub(super) rules: &'a [Rule],
    pub(super) batch_size: BatchSize,
}

/// What all searches came to.
pub(super) struct Best {
    /// The labels of the best.
    pub(super) found: Vec<Option<Found>>,
    /// The records of all, if there are several.
    pub(super) restarts: Vec<Restart>,
    /// The cost of all.
    pub(super) usage: Usage,
}

/// One search over all batches.
struct Search {
    found: Vec<Option<Found>>,
    totals: Totals,
}

impl Searches<'_> {
    /// Returns what the searches came to, and writes what `summary` says of a search.
    ///
    /// The best is the one whose labels score highest under the order of the final check, which is
    /// the same for all: under the orders they were found under, luck with the order counts too.
    /// Without the check those are all there is to go by. Of equals the first is kept.
    pub(super) fn run<S: Scorer>(
        &self,
        streams: SeedStream,
        scorer: &mut S,
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
        summary: &mut Summary,
    ) -> Result<Best> {
        let num = self.settings.num_restarts.max(1);
        let mut searches = Vec::with_capacity(num);
        for restart in 0..num {
            if num > 1 {
                observe(&TraceEvent::Restart { restart })?;
            }
            searches.push(self.search(streams, restart, scorer, observe)?);
        }
        let mut best = 0;
        for (number, search) in searches.iter().enumerate() {
            if search.totals.rank() > searches[best].totals.rank() {
                best = number;
            }
        }
        let cost = searches.iter().fold(Usage::default(), |sum, s| sum.plus(s.totals.usage));
        let num_passes = searches.iter().map(|search| search.totals.num_passes).sum();
        let mut restarts = Vec::new();
        if num > 1 {
            let each = searches.iter().enumerate();
            let line = |(restart, search): (usize, &Search)| RestartSummary {
                restart,
                kept: restart == best,
                score: search.totals.mean_score(),
                score_under_common_order: search.totals.order_check().map(|check| check.score),
                num_accepted: search.totals.num_accepted,
                num_proposals: search.totals.num_proposals,
            };
            summary.restarts = Some(each.clone().map(line).collect());
            let all = each.map(|(restart, search)| Restart {
                restart,
                score: search.totals.mean_score(),
                records: records(self.examples, self.names, &search.found),
            });
            restarts.extend(all);
        }
        let kept = searches.swap_remove(best);
        kept.totals.write(self.names, self.settings, num_passes, summary);
        Ok(Best { found: kept.found, restarts, usage: cost })
    }

    fn search<S: Scorer>(
        &self,
        streams: SeedStream,
        restart: usize,
        scorer: &mut S,
        observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Result<Search> {
        let cap = self.settings.order.num_demonstrations;
        let batches =
            batches::split(self.examples, self.format, self.batch_size, cap, &streams, &*scorer)?;
        let mut found: Vec<Option<Found>> = Vec::new();
        found.resize_with(self.examples.len(), || None);
        let mut totals = Totals::new(self.names.len(), batches.len(), self.settings);
        for (number, members) in batches.iter().enumerate() {
            let batch: Vec<&Example> = members.iter().map(|&i| &self.examples[i]).collect();
            let items = Items::new(self.format, &batch)?;
            let consistency = Consistency::new(self.task, self.rules, &batch);
            let icm = Icm::new(
                &items,
                &consistency,
                self.names,
                self.settings.clone(),
                streams.restart(restart),
                number as u64,
                &mut *scorer,
            )?;
            let result = icm.with_check_streams(streams).run(observe)?;
            totals.add(&result);
            let rows = result.labels.iter().zip(result.logprobs).zip(result.last_flip);
            for (&i, ((label, logprobs), last_flip)) in members.iter().zip(rows) {
                if let (Some(label), Some(logprobs)) = (*label, logprobs) {
                    let raw: Vec<f64> =
                        logprobs.iter().zip(&result.offset).map(|(lp, off)| lp + off).collect();
                    let uncalibrated = best_label(&raw);
                    found[i] = Some(Found { label, uncalibrated, logprobs, last_flip });
                }
            }
        }
        Ok(Search { found, totals })
    }
}

/// Returns one record for each labelled example.
pub(super) fn records(
    examples: &[Example],
    names: &[String],
    found: &[Option<Found>],
) -> Vec<LabelRecord> {
    let record = |(example, found): (&Example, &Option<Found>)| {
        found.as_ref().map(|found| LabelRecord {
            id: example.id.clone(),
            label: names[found.label].clone(),
            logprobs: names.iter().cloned().zip(found.logprobs.iter().copied()).collect(),
            margin: margin(&found.logprobs, found.label),
            last_flip: found.last_flip,
        })
    };
    examples.iter().zip(found).filter_map(record).collect()
}

/// Sums over batches.
struct Totals {
    usage: Usage,
    num_batches: usize,
    num_accepted: u64,
    num_proposals: u64,
    num_passes: u64,
    num_never_revisited: usize,
    num_examples: f64,
    score: f64,
    constant_scores: Option<Vec<f64>>,
    permuted_scores: Vec<f64>,
    checks: Vec<(OrderCheck, usize)>,
    alphas: Vec<f64>,
    num_collapsed: usize,
}

impl Totals {
    fn new(num_labels: usize, num_batches: usize, settings: &IcmSettings) -> Self {
        Self {
            usage: Usage::default(),
            num_batches,
            num_accepted: 0,
            num_proposals: 0,
            num_passes: 0,
            num_never_revisited: 0,
            num_examples: 0.0,
            score: 0.0,
            constant_scores: (!settings.fixes_constants()).then(|| vec![0.0; num_labels]),
            permuted_scores: vec![0.0; settings.num_null_permutations],
            checks: Vec::new(),
            alphas: Vec::new(),
            num_collapsed: 0,
        }
    }

    fn add(&mut self, result: &IcmResult) {
        let size = result.labels.len() as f64;
        self.usage = self.usage.plus(result.usage);
        self.num_accepted += result.num_accepted;
        self.num_proposals += result.num_proposals;
        self.num_passes += result.num_passes;
        self.num_never_revisited += result.num_never_revisited;
        self.num_examples += size;
        self.score += size * result.score;
        let constants = self.constant_scores.iter_mut().flatten().zip(&result.constant_scores);
        let permuted = self.permuted_scores.iter_mut().zip(&result.permuted_scores);
        for (sum, score) in constants.chain(permuted) {
            *sum += size * score;
        }
        self.alphas.push(result.alpha);
        self.num_collapsed += usize::from(result.reason == "collapsed");
        self.checks.extend(result.order_check.map(|check| (check, result.labels.len())));
    }

    fn mean_score(&self) -> f64 {
        self.score / self.num_examples.max(1.0)
    }

    fn order_check(&self) -> Option<OrderCheck> {
        OrderCheck::mean(&self.checks)
    }

    /// By what the best search is told.
    fn rank(&self) -> f64 {
        self.order_check().map_or(self.mean_score(), |check| check.score)
    }

    fn write(
        &self,
        names: &[String],
        settings: &IcmSettings,
        num_passes: u64,
        summary: &mut Summary,
    ) {
        let mean = |sum: f64| sum / self.num_examples.max(1.0);
        summary.score = Some(self.mean_score());
        summary.constant_scores = self.constant_scores.as_ref().map(|scores| {
            let constants = names.iter().zip(scores);
            constants.map(|(name, sum)| (name.clone(), mean(*sum).into())).collect()
        });
        summary.permuted_scores = (!self.permuted_scores.is_empty())
            .then(|| self.permuted_scores.iter().map(|sum| mean(*sum)).collect());
        summary.num_batches = Some(self.num_batches);
        summary.alphas = settings.auto_alpha.map(|_| self.alphas.clone());
        summary.num_collapsed = settings.stop_on_collapse.map(|_| self.num_collapsed);
        summary.num_accepted = Some(self.num_accepted);
        summary.num_proposals = Some(self.num_proposals);
        summary.num_passes = Some(num_passes);
        summary.num_never_revisited = Some(self.num_never_revisited);
        summary.order_check = self.order_check();
    }
}
