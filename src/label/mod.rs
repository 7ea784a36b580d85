//! Labels without supervision: the search (ICM) and the prompting methods it is compared with.
//!
//! Takes examples and a [`Scorer`], gives [`LabelRecord`]s. Gold is not known here: nothing in this
//! folder names the type that holds it. Demonstrations for few-shot prompting are labelled examples
//! that the caller vouches for, and so are the given labels of many-shot prompting.

mod batches;
mod calibrate;
mod consistency;
mod icm;
mod objective;
mod order;
mod preset;
mod prompting;
mod schedule;
mod trace;

use serde::Serialize;
use serde_json::{Map, Value};

pub use batches::BatchSize;
pub use calibrate::{Calibration, best_label, distribution, log_odds, margin, mean_logprobs};
pub use consistency::Consistency;
pub use icm::{GivenLabels, Icm, IcmResult, IcmSettings, Init};
pub use objective::{Aggregate, Objective, Score, ScoreForm, accepts};
pub use order::{Asked, Items, Order, OrderOptions, OrderPlan};
pub use preset::Preset;
pub use prompting::{DemonstrationLabels, ManyShot, ManyShotSummary};
pub use schedule::{Schedule, ScheduleKind};
pub use trace::{Change, TraceEvent};

use prompting::Prompting;

use crate::data::{Example, LabelRecord, Rule, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::PromptFormat;
use crate::run::SeedStream;
use crate::score::{Scorer, Usage};

/// How labels are found.
#[derive(Clone, Debug)]
pub enum Method {
    /// Internal Coherence Maximization.
    Icm {
        /// Settings of the search.
        settings: IcmSettings,
        /// Which consistency rules count.
        rules: Vec<Rule>,
        /// How many examples are searched together.
        batch_size: BatchSize,
    },
    /// The question alone.
    ZeroShot {
        /// How the model's bias to a label is taken off.
        calibration: Calibration,
    },
    /// The question alone, put to a chat model as a user's message.
    ZeroShotChat {
        /// How the model's bias to a label is taken off.
        calibration: Calibration,
    },
    /// Labelled demonstrations before the question; an example that is among them is left out of its
    /// own prompt.
    FewShot {
        /// Labelled examples.
        demonstrations: Vec<(Example, usize)>,
        /// How the model's bias to a label is taken off.
        calibration: Calibration,
        /// Order of demonstrations.
        order: OrderOptions,
    },
    /// The other examples before the question, with labels that are given, random or zero-shot.
    ManyShot(ManyShot),
}

impl Method {
    /// Returns the method's name in commands and files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Icm { .. } => "icm",
            Self::ZeroShot { .. } => "zero-shot",
            Self::ZeroShotChat { .. } => "zero-shot-chat",
            Self::FewShot { .. } => "few-shot",
            Self::ManyShot(ManyShot { labels, .. }) => match labels {
                DemonstrationLabels::Given(_) => "few-shot-gold",
                DemonstrationLabels::Random => "few-shot-random",
                DemonstrationLabels::ZeroShot { .. } => "bootstrap",
            },
        }
    }
}

/// What `summary.json` says of a labelling.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The method's name.
    pub method: String,
    /// Examples given.
    pub num_examples: usize,
    /// Examples that got no label (a search with too few iterations).
    pub num_unlabelled: usize,
    /// Share of each label among the labelled examples.
    pub share: Map<String, Value>,
    /// U of the labels, averaged over batches by their size; the search only.
    pub score: Option<f64>,
    /// U when every example has this label, averaged likewise; the search only.
    pub constant_scores: Option<Map<String, Value>>,
    /// Batches searched.
    pub num_batches: Option<usize>,
    /// The alpha that `--auto-alpha` ended with, by batch; with it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alphas: Option<Vec<f64>>,
    /// Batches whose search was ended because it had collapsed; with `--stop-on-collapse` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_collapsed: Option<usize>,
    /// Accepted proposals.
    pub num_accepted: Option<u64>,
    /// Proposals scored.
    pub num_proposals: Option<u64>,
    /// Leave-one-out passes computed.
    pub num_passes: Option<u64>,
    /// What many-shot prompting did; the methods that do it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub many_shot: Option<ManyShotSummary>,
    /// Tokens run through the model.
    pub tokens_computed: u64,
    /// Tokens that full prompts would have run.
    pub tokens_full_prompts: u64,
    /// Questions answered.
    pub num_questions: u64,
}

/// A finished labelling.
#[derive(Clone, Debug)]
pub struct Labelling {
    /// One record per labelled example, in the order of the data.
    pub records: Vec<LabelRecord>,
    /// What was done.
    pub summary: Summary,
}

/// An example's label with the numbers behind it.
struct Found {
    label: usize,
    logprobs: Vec<f64>,
    last_flip: Option<u64>,
}

/// Returns labels for `examples` by `method`, telling `observe` of every event of a search.
///
/// The result depends on the examples, the task's texts, the method, the seed, and the scorer's
/// answers; on nothing else.
///
/// # Errors
/// What the scorer or `observe` give; [`ErrorKind::Data`] for too few examples.
pub fn label<S: Scorer>(
    task: &Task,
    examples: &[Example],
    method: &Method,
    streams: SeedStream,
    scorer: &mut S,
    observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
) -> Result<Labelling> {
    let format = PromptFormat::new(task)?;
    let names: Vec<String> = task.labels.iter().map(|label| label.name.clone()).collect();
    let mut found: Vec<Option<Found>> = Vec::new();
    found.resize_with(examples.len(), || None);
    let mut summary = Summary {
        method: method.name().into(),
        num_examples: examples.len(),
        num_unlabelled: 0,
        share: Map::new(),
        score: None,
        constant_scores: None,
        num_batches: None,
        alphas: None,
        num_collapsed: None,
        num_accepted: None,
        num_proposals: None,
        num_passes: None,
        many_shot: None,
        tokens_computed: 0,
        tokens_full_prompts: 0,
        num_questions: 0,
    };
    let mut prompting = Prompting::new(&format, examples, streams, &mut *scorer, &mut *observe);
    let usage = match method {
        Method::Icm { settings, rules, batch_size } => {
            let batches = batches::split(examples, &format, *batch_size, &*scorer)?;
            let mut totals = Totals::new(names.len());
            for (number, members) in batches.iter().enumerate() {
                let batch: Vec<&Example> = members.iter().map(|&i| &examples[i]).collect();
                let items = Items::new(&format, &batch)?;
                let consistency = Consistency::new(task, rules, &batch);
                let icm = Icm::new(
                    &items,
                    &consistency,
                    &names,
                    settings.clone(),
                    streams,
                    number as u64,
                    &mut *scorer,
                )?;
                let result = icm.run(observe)?;
                totals.add(&result);
                let rows = result.labels.iter().zip(result.logprobs).zip(result.last_flip);
                for (&i, ((label, logprobs), last_flip)) in members.iter().zip(rows) {
                    if let (Some(label), Some(logprobs)) = (*label, logprobs) {
                        found[i] = Some(Found { label, logprobs, last_flip });
                    }
                }
            }
            totals.write(&names, batches.len(), settings, &mut summary);
            totals.usage
        }
        Method::ZeroShot { calibration } => {
            found = all_found(prompting.zero_shot(*calibration)?);
            prompting.usage
        }
        Method::ZeroShotChat { calibration } => {
            found = all_found(prompting.zero_shot_chat(*calibration)?);
            prompting.usage
        }
        Method::FewShot { demonstrations, calibration, order } => {
            found = all_found(prompting.few_shot(demonstrations, *calibration, *order)?);
            prompting.usage
        }
        Method::ManyShot(settings) => {
            let (labelled, many_shot) = prompting.many_shot(settings)?;
            found = all_found(labelled);
            summary.many_shot = Some(many_shot);
            prompting.usage
        }
    };
    summary.tokens_computed = usage.tokens_computed;
    summary.tokens_full_prompts = usage.tokens_full_prompts;
    summary.num_questions = usage.num_questions;
    let mut counts = vec![0_usize; names.len()];
    let mut records = Vec::with_capacity(examples.len());
    for (example, found) in examples.iter().zip(&found) {
        let Some(found) = found else {
            summary.num_unlabelled += 1;
            continue;
        };
        counts[found.label] += 1;
        records.push(LabelRecord {
            id: example.id.clone(),
            label: names[found.label].clone(),
            logprobs: names.iter().cloned().zip(found.logprobs.iter().copied()).collect(),
            margin: margin(&found.logprobs, found.label),
            last_flip: found.last_flip,
        });
    }
    let share = |n: usize| n as f64 / records.len().max(1) as f64;
    summary.share = names.iter().zip(&counts).map(|(l, n)| (l.clone(), share(*n).into())).collect();
    Ok(Labelling { records, summary })
}

fn all_found(rows: Vec<Found>) -> Vec<Option<Found>> {
    rows.into_iter().map(Some).collect()
}

/// The error for too few examples to predict each other.
fn few_examples(num: usize) -> Error {
    Error::new(ErrorKind::Data, format!("{num} example to label, expected at least 2"))
        .hint("labels are found by how well examples predict each other; give more examples")
}

/// Sums over batches.
struct Totals {
    usage: Usage,
    num_accepted: u64,
    num_proposals: u64,
    num_passes: u64,
    num_examples: f64,
    score: f64,
    constant_scores: Vec<f64>,
    alphas: Vec<f64>,
    num_collapsed: usize,
}

impl Totals {
    fn new(num_labels: usize) -> Self {
        Self {
            usage: Usage::default(),
            num_accepted: 0,
            num_proposals: 0,
            num_passes: 0,
            num_examples: 0.0,
            score: 0.0,
            constant_scores: vec![0.0; num_labels],
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
        self.num_examples += size;
        self.score += size * result.score;
        self.alphas.push(result.alpha);
        self.num_collapsed += usize::from(result.reason == "collapsed");
        for (sum, score) in self.constant_scores.iter_mut().zip(&result.constant_scores) {
            *sum += size * score;
        }
    }

    fn write(
        &self,
        names: &[String],
        num_batches: usize,
        settings: &IcmSettings,
        summary: &mut Summary,
    ) {
        let mean = |sum: f64| sum / self.num_examples.max(1.0);
        summary.score = Some(mean(self.score));
        let constants = names.iter().zip(&self.constant_scores);
        summary.constant_scores =
            Some(constants.map(|(name, sum)| (name.clone(), mean(*sum).into())).collect());
        summary.num_batches = Some(num_batches);
        summary.alphas = settings.auto_alpha.map(|_| self.alphas.clone());
        summary.num_collapsed = settings.stop_on_collapse.map(|_| self.num_collapsed);
        summary.num_accepted = Some(self.num_accepted);
        summary.num_proposals = Some(self.num_proposals);
        summary.num_passes = Some(self.num_passes);
    }
}
