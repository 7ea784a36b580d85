//! Labels by prompting, without a search: what the search is compared with.
//!
//! The question alone, in plain text or as a chat model is asked; behind demonstrations that the
//! caller gives; or, *many-shot*, behind the other examples of the data themselves. Where the labels
//! of those come from is all that tells a baseline without supervision (random, or the model's own
//! zero-shot labels) from a ceiling (labels that the caller gives).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::batches::{self, BatchSize};
use super::found::{Found, few_examples};
use super::items::Items;
use super::order::{Epoch, OrderOptions, OrderPlan};
use super::trace::TraceEvent;
use crate::data::Example;
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::PromptFormat;
use crate::run::SeedStream;
use crate::score::{Calibration, Prior, batch_offset, best_label, distribution, mean_logprobs};
use crate::score::{Scorer, Usage};

/// Where the labels of many-shot demonstrations come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DemonstrationLabels {
    /// Label by id; the caller vouches for them. Examples without one are only asked about.
    Given(BTreeMap<String, usize>),
    /// Drawn at random, as many of each label.
    Random,
    /// The model's zero-shot labels, and in each later round those of the round before.
    ZeroShot {
        /// How often all examples are labelled behind each other; at least 1.
        rounds: usize,
    },
}

/// How examples are labelled behind each other.
#[derive(Clone, Debug, PartialEq)]
pub struct ManyShot {
    /// Where their labels come from.
    pub labels: DemonstrationLabels,
    /// Demonstrations drawn from all the data, as many of each label; `None`: each example stands
    /// behind all others of its batch.
    pub num_demonstrations: Option<usize>,
    /// How many examples make a batch; of no effect if demonstrations are drawn.
    pub batch_size: BatchSize,
    /// How the model's bias to a label is taken off.
    pub calibration: Calibration,
    /// The shares of the labels that calibration supposes.
    pub prior: Prior,
    /// Order of demonstrations.
    pub order: OrderOptions,
}

/// What many-shot prompting did besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManyShotSummary {
    /// Batches in which examples stood behind each other.
    pub num_batches: usize,
    /// Labelled examples in the longest prompt.
    pub num_demonstrations: usize,
    /// Labels that each round changed; bootstrapping only.
    pub changed_by_round: Vec<usize>,
}

/// Targets of one call of the scorer: what a killed run loses at most.
const PROMPT_CHUNK: usize = 256;
/// Given labels of which so many in one batch are the same come from a file sorted by label.
const SORTED_RUN: usize = 8;

type Labels = Vec<Option<usize>>;

/// Prompting of one set of examples.
pub(super) struct Prompting<'a, S> {
    format: &'a PromptFormat<'a>,
    examples: &'a [Example],
    streams: SeedStream,
    prior: &'a Prior,
    scorer: &'a mut S,
    observe: &'a mut dyn FnMut(&TraceEvent) -> Result<()>,
    /// Questions answered and to be answered, for whoever watches.
    done: usize,
    total: usize,
    pub(super) usage: Usage,
}

impl<'a, S: Scorer> Prompting<'a, S> {
    pub(super) fn new(
        format: &'a PromptFormat<'a>,
        examples: &'a [Example],
        streams: SeedStream,
        prior: &'a Prior,
        scorer: &'a mut S,
        observe: &'a mut dyn FnMut(&TraceEvent) -> Result<()>,
    ) -> Self {
        let (total, usage) = (examples.len(), Usage::default());
        Self { format, examples, streams, prior, scorer, observe, done: 0, total, usage }
    }

    /// Labels by the question alone.
    pub(super) fn zero_shot(&mut self, calibration: Calibration) -> Result<Vec<Found>> {
        let items = Items::new(self.format, &self.all())?;
        self.ask_alone(&items, calibration)
    }

    /// As [`zero_shot`](Self::zero_shot), the question being put as a user's message.
    pub(super) fn zero_shot_chat(&mut self, calibration: Calibration) -> Result<Vec<Found>> {
        let mut items = Items::new(self.format, &self.all())?;
        // It is part of the message, which the template encloses.
        items.instruction.clear();
        items.spell_special_tokens = true;
        for (question, example) in items.questions.iter_mut().zip(self.examples) {
            *question = self.scorer.chat(&self.format.chat_message(example)?)?;
        }
        let messages = self.format.chat_content_free()?;
        items.content_free =
            messages.iter().map(|message| self.scorer.chat(message)).collect::<Result<_>>()?;
        self.ask_alone(&items, calibration)
    }

    fn ask_alone(&mut self, items: &Items, calibration: Calibration) -> Result<Vec<Found>> {
        let labels = vec![None; items.len()];
        let plan =
            OrderPlan::new(OrderOptions::DATASET, items, &labels, &self.streams, Epoch::default());
        self.ask(&plan, items, &labels, items.len(), calibration)
    }

    /// Labels behind `demonstrations`; an example that is among them is left out of its own prompt.
    pub(super) fn few_shot(
        &mut self,
        demonstrations: &[(Example, usize)],
        calibration: Calibration,
        order: OrderOptions,
    ) -> Result<Vec<Found>> {
        let (all, labels) = with_demonstrations(self.examples, demonstrations)?;
        let items = Items::new(self.format, &all)?;
        let plan = OrderPlan::new(order, &items, &labels, &self.streams, Epoch::default());
        self.ask(&plan, &items, &labels, self.examples.len(), calibration)
    }

    /// Labels behind the other examples.
    pub(super) fn many_shot(
        &mut self,
        settings: &ManyShot,
    ) -> Result<(Vec<Found>, ManyShotSummary)> {
        let num = self.examples.len();
        if num < 2 {
            return Err(few_examples(num));
        }
        let batches = match settings.num_demonstrations {
            Some(_) => vec![(0..num).collect()],
            None => batches::split(
                self.examples,
                self.format,
                settings.batch_size,
                None,
                &self.streams,
                &*self.scorer,
            )?,
        };
        let rounds = match &settings.labels {
            DemonstrationLabels::ZeroShot { rounds } => (*rounds).max(1),
            _ => 1,
        };
        let mut labels: Labels = match &settings.labels {
            DemonstrationLabels::Given(given) => {
                let labels: Labels =
                    self.examples.iter().map(|example| given.get(&example.id).copied()).collect();
                self.check_given(&labels, &batches, settings.num_demonstrations.is_some())?;
                labels
            }
            DemonstrationLabels::Random => self.random_labels(&batches),
            DemonstrationLabels::ZeroShot { .. } => {
                self.total = num * (1 + rounds);
                let found = self.zero_shot(settings.calibration)?;
                found.iter().map(|found| Some(found.label)).collect()
            }
        };
        let mut summary = ManyShotSummary { num_batches: batches.len(), ..Default::default() };
        let mut round = 0;
        loop {
            let shown = match settings.num_demonstrations {
                Some(wanted) => self.draw(&labels, wanted, round)?,
                None => labels.clone(),
            };
            let found = self.leave_one_out(settings, &batches, &shown, round, &mut summary)?;
            round += 1;
            if let DemonstrationLabels::ZeroShot { .. } = settings.labels {
                let changed = found.iter().zip(&labels).filter(|(f, old)| Some(f.label) != **old);
                summary.changed_by_round.push(changed.count());
            }
            if round == rounds as u64 {
                return Ok((found, summary));
            }
            labels = found.iter().map(|found| Some(found.label)).collect();
        }
    }

    /// Labels each example behind the others of its batch that `labels` labels.
    fn leave_one_out(
        &mut self,
        settings: &ManyShot,
        batches: &[Vec<usize>],
        labels: &[Option<usize>],
        round: u64,
        summary: &mut ManyShotSummary,
    ) -> Result<Vec<Found>> {
        let mut all: Vec<(usize, Answered)> = Vec::with_capacity(self.examples.len());
        for (number, members) in batches.iter().enumerate() {
            let batch: Vec<&Example> = members.iter().map(|&i| &self.examples[i]).collect();
            let items = Items::new(self.format, &batch)?;
            let shown: Labels = members.iter().map(|&i| labels[i]).collect();
            let at = Epoch { batch: number as u64, number: round };
            let plan = OrderPlan::new(settings.order, &items, &shown, &self.streams, at);
            let (rows, offset) =
                self.raw(&plan, &items, &shown, items.len(), settings.calibration)?;
            let rows = rows.into_iter().map(|row| Answered { row, offset: offset.clone() });
            all.extend(members.iter().copied().zip(rows));
            let num_shown = shown.iter().flatten().count();
            let all_shown = num_shown == shown.len();
            let longest = num_shown - usize::from(all_shown);
            summary.num_demonstrations = summary.num_demonstrations.max(longest);
        }
        // Every example is in one batch; the model's preferences are those over all of them.
        all.sort_unstable_by_key(|(i, _)| *i);
        Ok(calibrated(
            all.into_iter().map(|(_, row)| row).collect(),
            settings.calibration,
            self.prior,
        ))
    }

    /// As many of each label in every batch, up to one.
    fn random_labels(&self, batches: &[Vec<usize>]) -> Labels {
        let num_labels = self.format.label_words().len();
        let mut labels = vec![None; self.examples.len()];
        for (number, members) in batches.iter().enumerate() {
            let mut members = members.clone();
            members.shuffle(&mut self.streams.rng("label/random-labels", &[number as u64]));
            for (k, i) in members.into_iter().enumerate() {
                labels[i] = Some(k % num_labels);
            }
        }
        labels
    }

    /// `wanted` of the labelled examples: the labels in turn, while there are some of each.
    fn draw(&self, labels: &[Option<usize>], wanted: usize, round: u64) -> Result<Labels> {
        let num_labelled = labels.iter().flatten().count();
        if wanted < 2 || wanted > num_labelled {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`--num-demonstrations` is {wanted}, expected 2 to {num_labelled}"),
            )
            .hint("demonstrations are drawn from the labelled examples of the data"));
        }
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.shuffle(&mut self.streams.rng("label/demonstrations", &[round]));
        let mut by_label: Vec<Vec<usize>> = vec![Vec::new(); self.format.label_words().len()];
        for i in order {
            if let Some(label) = labels[i] {
                by_label[label].push(i);
            }
        }
        let mut drawn = vec![None; labels.len()];
        let mut num_drawn = 0;
        while num_drawn < wanted {
            for list in &mut by_label {
                if num_drawn < wanted
                    && let Some(i) = list.pop()
                {
                    drawn[i] = labels[i];
                    num_drawn += 1;
                }
            }
        }
        Ok(drawn)
    }

    /// Refuses given labels from which nothing could be predicted.
    fn check_given(&self, labels: &Labels, batches: &[Vec<usize>], drawn: bool) -> Result<()> {
        let num_labelled = labels.iter().flatten().count();
        let num_kinds = |members: &mut dyn Iterator<Item = usize>| {
            members.filter_map(|i| labels[i]).collect::<BTreeSet<_>>().len()
        };
        let fail = |message: String| Err(Error::new(ErrorKind::Data, message));
        if num_labelled < 2 {
            let num = labels.len();
            return fail(format!(
                "{num_labelled} of {num} examples have a given label, expected at least 2"
            ))
            .map_err(|e| e.hint("check that the ids of the labels are those of the data"));
        }
        if num_kinds(&mut (0..labels.len())) < 2 {
            return fail("all given labels are the same, expected two or more".into())
                .map_err(|e| e.hint("a prompt of one label teaches the model to repeat it"));
        }
        for members in batches {
            let num = members.iter().filter(|&&i| labels[i].is_some()).count();
            let one_kind = num_kinds(&mut members.iter().copied()) < 2;
            if !drawn && (num < 2 || num >= SORTED_RUN && one_kind) {
                return fail(format!(
                    "the batch that begins with `{}` has {num} labelled examples, {}",
                    self.examples[members[0]].id,
                    if num < 2 { "expected at least 2" } else { "all with the same label" }
                ))
                .map_err(|e| {
                    e.hint("shuffle the data, or draw from all of it with `--num-demonstrations K`")
                });
            }
        }
        Ok(())
    }

    fn all(&self) -> Vec<&'a Example> {
        self.examples.iter().collect()
    }

    /// Asks for the first `num_targets` items and takes each one's best label.
    fn ask(
        &mut self,
        plan: &OrderPlan,
        items: &Items,
        labels: &[Option<usize>],
        num_targets: usize,
        calibration: Calibration,
    ) -> Result<Vec<Found>> {
        let (rows, offset) = self.raw(plan, items, labels, num_targets, calibration)?;
        let answered = |row| Answered { row, offset: offset.clone() };
        let rows = rows.into_iter().map(answered).collect();
        Ok(calibrated(rows, calibration, self.prior))
    }

    /// Asks for the first `num_targets` items; the log-probabilities and what calibration by content-free
    /// items takes off them.
    fn raw(
        &mut self,
        plan: &OrderPlan,
        items: &Items,
        labels: &[Option<usize>],
        num_targets: usize,
        calibration: Calibration,
    ) -> Result<(Vec<Vec<f64>>, Vec<f64>)> {
        let num_labels = items.labels.len();
        let mut rows: Vec<(usize, Vec<f64>)> = Vec::with_capacity(num_targets);
        let mut content_free: Vec<Vec<f64>> = Vec::new();
        let targets: Vec<usize> = (0..num_targets).collect();
        for (number, chunk) in targets.chunks(PROMPT_CHUNK).enumerate() {
            // The content-free questions stand behind all demonstrations, the same for every chunk.
            let free = calibration == Calibration::ContentFree && number == 0;
            let asked = plan.ask(items, labels, chunk, free);
            let (scores, cost) = self.scorer.score(&asked.tree)?;
            self.usage = self.usage.plus(asked.usage(cost, &scores));
            rows.extend(asked.rows(&scores));
            let free = asked.content_free.iter().map(|q| scores[q.index()].logprobs.clone());
            content_free.extend(free);
            self.done += chunk.len();
            (self.observe)(&TraceEvent::Scored { done: self.done, total: self.total })?;
        }
        rows.sort_unstable_by_key(|(i, _)| *i);
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        // Zeros where no content-free item was asked for.
        Ok((rows, mean_logprobs(content_free.iter().map(Vec::as_slice), num_labels)))
    }
}

/// What the model answered to a question, with what content-free questions take off.
struct Answered {
    row: Vec<f64>,
    offset: Vec<f64>,
}

/// Each row's label distribution and best label, and the best without calibration; what a batch
/// calibration takes off, and the prior, are of all rows.
fn calibrated(rows: Vec<Answered>, calibration: Calibration, prior: &Prior) -> Vec<Found> {
    let num_labels = rows.first().map_or(0, |answered| answered.row.len());
    let own_off = |answered: &Answered| -> Vec<f64> {
        answered.row.iter().zip(&answered.offset).map(|(logprob, off)| logprob - off).collect()
    };
    let fair: Vec<Vec<f64>> = rows.iter().map(own_off).collect();
    let all: Vec<&[f64]> = fair.iter().map(Vec::as_slice).collect();
    let offset = prior.offset(&all, batch_offset(calibration, &all, num_labels));
    let found = |(answered, fair): (&Answered, &Vec<f64>)| {
        let logprobs = distribution(fair, &offset);
        let (label, uncalibrated) = (best_label(&logprobs), best_label(&answered.row));
        Found { label, uncalibrated, logprobs, last_flip: None }
    };
    rows.iter().zip(&fair).map(found).collect()
}

/// The examples followed by those demonstrations that are not among them, with the labels of all
/// that are demonstrations.
fn with_demonstrations<'a>(
    examples: &'a [Example],
    demonstrations: &'a [(Example, usize)],
) -> Result<(Vec<&'a Example>, Labels)> {
    if demonstrations.len() < 2 {
        return Err(Error::new(
            ErrorKind::Data,
            format!(
                "{} labelled examples for few-shot prompting, expected at least 2",
                demonstrations.len()
            ),
        )
        .hint("give more labelled examples with `--demonstrations`, or use `--method zero-shot`"));
    }
    let mut all: Vec<&Example> = examples.iter().collect();
    let mut labels = vec![None; all.len()];
    let places: HashMap<&str, usize> =
        examples.iter().enumerate().map(|(i, example)| (example.id.as_str(), i)).collect();
    for (example, label) in demonstrations {
        match places.get(example.id.as_str()) {
            Some(&i) => labels[i] = Some(*label),
            None => {
                all.push(example);
                labels.push(Some(*label));
            }
        }
    }
    Ok((all, labels))
}
