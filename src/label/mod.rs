//! Labels without supervision: the search (ICM) and the prompting methods it is compared with.
//!
//! Takes examples and a [`Scorer`], gives [`LabelRecord`]s. Gold is not known here: nothing in this
//! folder names the type that holds it. Demonstrations for few-shot prompting are labelled examples
//! that the caller vouches for, and so are the given labels of many-shot prompting.

mod batches;
mod consistency;
mod found;
mod icm;
mod items;
mod objective;
mod order;
mod prequential;
mod preset;
mod prompting;
mod restarts;
mod schedule;
mod summary;
mod trace;

use serde_json::Map;

pub use batches::BatchSize;
pub use consistency::Consistency;
pub use icm::{Block, GivenLabels, Icm, IcmResult, IcmSettings, Init, OrderCheck};
pub use items::Items;
pub use objective::{Aggregate, Objective, Score, ScoreForm, accepts};
pub use order::{Asked, Epoch, Order, OrderOptions, OrderPlan};
pub use prequential::{AskedChains, ChainPlan};
pub use preset::Preset;
pub use prompting::{DemonstrationLabels, ManyShot, ManyShotSummary};
pub use restarts::Restart;
pub use schedule::{Schedule, ScheduleKind};
pub use summary::{RestartSummary, Summary};
pub use trace::{Change, TraceEvent};

use found::Found;
use prompting::Prompting;

use crate::data::{Example, LabelRecord, Rule, Task};
use crate::error::Result;
use crate::prompt::PromptFormat;
use crate::run::SeedStream;
use crate::score::{Calibration, Prior, Scorer};

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
        /// The shares of the labels that calibration supposes.
        prior: Prior,
    },
    /// The question alone, put to a chat model as a user's message.
    ZeroShotChat {
        /// How the model's bias to a label is taken off.
        calibration: Calibration,
        /// The shares of the labels that calibration supposes.
        prior: Prior,
    },
    /// Labelled demonstrations before the question; an example that is among them is left out of its
    /// own prompt.
    FewShot {
        /// Labelled examples.
        demonstrations: Vec<(Example, usize)>,
        /// How the model's bias to a label is taken off.
        calibration: Calibration,
        /// The shares of the labels that calibration supposes.
        prior: Prior,
        /// Order of demonstrations.
        order: OrderOptions,
    },
    /// The other examples before the question, with labels that are given, random or zero-shot.
    ManyShot(ManyShot),
}

impl Method {
    /// Returns how the model's preferences for label words are taken off.
    pub fn calibration(&self) -> Calibration {
        match self {
            Self::Icm { settings, .. } => settings.calibration,
            Self::ZeroShot { calibration, .. }
            | Self::ZeroShotChat { calibration, .. }
            | Self::FewShot { calibration, .. } => *calibration,
            Self::ManyShot(settings) => settings.calibration,
        }
    }

    /// Returns the shares of the labels that calibration supposes.
    pub fn prior(&self) -> &Prior {
        match self {
            Self::Icm { settings, .. } => &settings.prior,
            Self::ZeroShot { prior, .. }
            | Self::ZeroShotChat { prior, .. }
            | Self::FewShot { prior, .. } => prior,
            Self::ManyShot(settings) => &settings.prior,
        }
    }

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

/// A finished labelling.
#[derive(Clone, Debug)]
pub struct Labelling {
    /// One record per labelled example, in the order of the data.
    pub records: Vec<LabelRecord>,
    /// What was done.
    pub summary: Summary,
    /// All searches, the kept one too, if there were several.
    pub restarts: Vec<Restart>,
}

/// Returns labels for `examples` by `method`, telling `observe` of every event of a search.
///
/// The result depends on the examples, the task's texts, the method, the seed, and the scorer's
/// answers; on nothing else.
///
/// # Errors
/// What the scorer or `observe` give; [`crate::error::ErrorKind::Data`] for too few examples.
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
    let mut restarts = Vec::new();
    let mut summary = Summary {
        method: method.name().into(),
        num_examples: examples.len(),
        num_unlabelled: 0,
        share: Map::new(),
        uncalibrated_share: None,
        score: None,
        constant_scores: None,
        permuted_scores: None,
        num_batches: None,
        alphas: None,
        num_collapsed: None,
        num_accepted: None,
        num_proposals: None,
        num_passes: None,
        many_shot: None,
        num_never_revisited: None,
        order_check: None,
        restarts: None,
        tokens_computed: 0,
        tokens_full_prompts: 0,
        num_questions: 0,
    };
    let mut prompting =
        Prompting::new(&format, examples, streams, method.prior(), &mut *scorer, &mut *observe);
    let usage = match method {
        Method::Icm { settings, rules, batch_size } => {
            let searches = restarts::Searches {
                task,
                examples,
                format: &format,
                names: &names,
                settings,
                rules,
                batch_size: *batch_size,
            };
            let best = searches.run(streams, scorer, observe, &mut summary)?;
            (found, restarts) = (best.found, best.restarts);
            best.usage
        }
        Method::ZeroShot { calibration, .. } => {
            found = all_found(prompting.zero_shot(*calibration)?);
            prompting.usage
        }
        Method::ZeroShotChat { calibration, .. } => {
            found = all_found(prompting.zero_shot_chat(*calibration)?);
            prompting.usage
        }
        Method::FewShot { demonstrations, calibration, order, .. } => {
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
    let mut counts = vec![[0_usize; 2]; names.len()];
    for found in found.iter().flatten() {
        counts[found.label][0] += 1;
        counts[found.uncalibrated][1] += 1;
    }
    let records = restarts::records(examples, &names, &found);
    summary.num_unlabelled = examples.len() - records.len();
    let share = |n: usize| n as f64 / records.len().max(1) as f64;
    let shares = |which: usize| {
        names.iter().zip(&counts).map(|(l, n)| (l.clone(), share(n[which]).into())).collect()
    };
    summary.share = shares(0);
    summary.uncalibrated_share = (method.calibration() != Calibration::None).then(|| shares(1));
    Ok(Labelling { records, summary, restarts })
}

fn all_found(rows: Vec<Found>) -> Vec<Option<Found>> {
    rows.into_iter().map(Some).collect()
}
