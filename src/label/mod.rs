//! Labels without supervision: the search (ICM) and the prompting methods it is compared with.
//!
//! Takes examples and a [`Scorer`], gives [`LabelRecord`]s. Gold is not known here: nothing in this
//! folder names the type that holds it. Demonstrations for few-shot prompting are labelled examples
//! that the caller vouches for.

mod batches;
mod calibrate;
mod consistency;
mod icm;
mod objective;
mod order;
mod prequential;
mod restarts;
mod schedule;
mod trace;

use serde::Serialize;
use serde_json::{Map, Value};

pub use batches::BatchSize;
pub use calibrate::{Calibration, best_label, distribution, log_odds, margin, mean_logprobs};
pub use consistency::Consistency;
pub use icm::{Icm, IcmResult, IcmSettings, OrderCheck};
pub use objective::{Aggregate, Objective, Score, ScoreForm, accepts};
pub use order::{Asked, Items, Order, OrderOptions, OrderPlan};
pub use prequential::{AskedChains, ChainPlan};
pub use restarts::{Restart, RestartSummary};
pub use schedule::{Schedule, ScheduleKind};
pub use trace::{Change, TraceEvent};

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
}

impl Method {
    /// Returns the method's name in commands and files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Icm { .. } => "icm",
            Self::ZeroShot { .. } => "zero-shot",
            Self::FewShot { .. } => "few-shot",
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
    /// Accepted proposals.
    pub num_accepted: Option<u64>,
    /// Proposals scored.
    pub num_proposals: Option<u64>,
    /// Passes over a labelling computed, by all searches.
    pub num_passes: Option<u64>,
    /// Labelled examples that were never drawn again after their first label.
    pub num_never_revisited: Option<usize>,
    /// What a new order of demonstrations does to the result of a search.
    pub order_check: Option<OrderCheck>,
    /// Each of several searches.
    pub restarts: Option<Vec<RestartSummary>>,
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
    /// All searches, the kept one too, if there were several.
    pub restarts: Vec<Restart>,
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
    let mut restarts = Vec::new();
    let mut summary = Summary {
        method: method.name().into(),
        num_examples: examples.len(),
        num_unlabelled: 0,
        share: Map::new(),
        score: None,
        constant_scores: None,
        num_batches: None,
        num_accepted: None,
        num_proposals: None,
        num_passes: None,
        num_never_revisited: None,
        order_check: None,
        restarts: None,
        tokens_computed: 0,
        tokens_full_prompts: 0,
        num_questions: 0,
    };
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
            let (kept, all, usage) = searches.run(streams, scorer, observe, &mut summary)?;
            (found, restarts) = (kept, all);
            usage
        }
        Method::ZeroShot { calibration } => {
            let all: Vec<&Example> = examples.iter().collect();
            let items = Items::new(&format, &all)?;
            let labels = vec![None; all.len()];
            let plan = OrderPlan::new(OrderOptions::DATASET, &items, &labels, &streams, (0, 0));
            prompt(&plan, &items, &labels, *calibration, scorer, observe, &mut found)?
        }
        Method::FewShot { demonstrations, calibration, order } => {
            let (all, labels) = with_demonstrations(examples, demonstrations)?;
            let items = Items::new(&format, &all)?;
            let plan = OrderPlan::new(*order, &items, &labels, &streams, (0, 0));
            prompt(&plan, &items, &labels, *calibration, scorer, observe, &mut found)?
        }
    };
    summary.tokens_computed = usage.tokens_computed;
    summary.tokens_full_prompts = usage.tokens_full_prompts;
    summary.num_questions = usage.num_questions;
    let mut counts = vec![0_usize; names.len()];
    for found in found.iter().flatten() {
        counts[found.label] += 1;
    }
    let records = restarts::records(examples, &names, &found);
    summary.num_unlabelled = examples.len() - records.len();
    let share = |n: usize| n as f64 / records.len().max(1) as f64;
    summary.share = names.iter().zip(&counts).map(|(l, n)| (l.clone(), share(*n).into())).collect();
    Ok(Labelling { records, summary, restarts })
}

/// Targets of one call of the scorer: what a killed run loses at most.
const PROMPT_CHUNK: usize = 256;

/// Asks for the first `found.len()` items and takes each one's best label.
fn prompt<S: Scorer>(
    plan: &OrderPlan,
    items: &Items,
    labels: &[Option<usize>],
    calibration: Calibration,
    scorer: &mut S,
    observe: &mut dyn FnMut(&TraceEvent) -> Result<()>,
    found: &mut [Option<Found>],
) -> Result<Usage> {
    let total = found.len();
    let num_labels = items.labels.len();
    let mut usage = Usage::default();
    let mut rows: Vec<(usize, Vec<f64>)> = Vec::with_capacity(total);
    let mut content_free: Vec<Vec<f64>> = Vec::new();
    let targets: Vec<usize> = (0..total).collect();
    for (number, chunk) in targets.chunks(PROMPT_CHUNK).enumerate() {
        // The content-free questions stand behind all demonstrations, the same for every chunk.
        let free = calibration == Calibration::ContentFree && number == 0;
        let asked = plan.ask(items, labels, chunk, free);
        let (scores, cost) = scorer.score(&asked.tree)?;
        usage = usage.plus(asked.usage(cost, &scores));
        rows.extend(asked.rows(&scores));
        let free = asked.content_free.iter().map(|q| scores[q.index()].logprobs.clone());
        content_free.extend(free);
        observe(&TraceEvent::Scored { done: rows.len(), total })?;
    }
    let offset = match calibration {
        Calibration::None => vec![0.0; num_labels],
        Calibration::Batch => mean_logprobs(rows.iter().map(|(_, row)| row.as_slice()), num_labels),
        Calibration::ContentFree => {
            mean_logprobs(content_free.iter().map(Vec::as_slice), num_labels)
        }
    };
    for (i, row) in rows {
        let logprobs = distribution(&row, &offset);
        found[i] = Some(Found { label: best_label(&logprobs), logprobs, last_flip: None });
    }
    Ok(usage)
}

/// The examples followed by those demonstrations that are not among them, with the labels of all
/// that are demonstrations.
fn with_demonstrations<'a>(
    examples: &'a [Example],
    demonstrations: &'a [(Example, usize)],
) -> Result<(Vec<&'a Example>, Vec<Option<usize>>)> {
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
    let places: std::collections::HashMap<&str, usize> =
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
