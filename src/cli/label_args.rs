//! The arguments of `w2s label`, and the method and settings they come to.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::model::ModelArgs;
use super::names::{CalibrationName, OrderName};
use super::published::{self, PublishedArgs};
use super::search_args::{SearchArgs, usage};
use crate::data::{Dataset, Task, read_demonstrations};
use crate::error::Result;
use crate::label::{Calibration, Method, Order, OrderOptions};
use crate::run::{GoldUse, OpenMode, RunDir};

/// Label data without supervision (ICM), or by prompting
///
/// Reads examples, never their gold labels, and writes a run folder: labels.jsonl (label,
/// log-probabilities and margin of each example), trace.jsonl (every step of the search),
/// summary.json and manifest.json. A run that was interrupted, however rudely, is continued with
/// --resume and ends with the same bytes. Most users need the four required options only.
///
/// Example:
///   w2s label --model models/gemma-3-270m --task sentiment \
///       --data data/demo/reviews.jsonl --out runs/mine
///
/// The flags of the published code are understood too (--testbed, --K, --initial_T, --final_T,
/// --scheduler, --consistency_fix_K, --num_seed, --batch_size): add --data and --out to its commands.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct LabelArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data", alias = "testbed",
        value_parser = published::task_name)]
    pub(super) task: String,
    /// Examples: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub(super) data: PathBuf,
    /// Take the first N examples only
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub(super) limit: Option<usize>,

    /// Run folder to make
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    pub(super) out: PathBuf,
    /// Continue the run in the folder; begin it if there is none
    #[arg(long, help_heading = "Run", conflicts_with = "force")]
    resume: bool,
    /// Replace the run in the folder
    #[arg(long, help_heading = "Run")]
    force: bool,
    /// Seed of everything random
    #[arg(long, value_name = "SEED", default_value_t = 0, help_heading = "Run")]
    pub(super) seed: u64,

    /// How labels are found
    #[arg(long, value_enum, default_value_t = MethodName::Icm, help_heading = "Method")]
    method: MethodName,
    /// Labelled examples to prompt with; an example of the data that is among them is left out of
    /// its own prompt (few-shot)
    #[arg(long, value_name = "FILE", help_heading = "Method")]
    pub(super) demonstrations: Option<PathBuf>,
    /// Prompt variant of the task; `w2s tasks TASK` shows them [default: the preset's, or the task's
    /// own]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    prompt_variant: Option<String>,
    /// How the model's bias to a label word is taken off [default: batch; none with a preset]
    #[arg(long, value_enum, help_heading = "Method")]
    calibrate: Option<CalibrationName>,
    /// Order of demonstrations: by halves (N log N) or as in the data, as published (N^2 / 2)
    /// [default: halving; dataset with a preset]
    #[arg(long, value_enum, help_heading = "Method")]
    order: Option<OrderName>,
    /// Permutations over which the scores of the halving order are averaged [default: 2]
    #[arg(long, value_name = "N", help_heading = "Method")]
    trees: Option<NonZeroUsize>,
    /// Demonstrations that stand last in every prompt of the halving order [default: 0]
    #[arg(long, value_name = "N", help_heading = "Method")]
    anchors: Option<usize>,
    /// Examples of a block within which the halving order keeps one order, so that they share their
    /// prompt's end; 1: halve down to single examples [default: 1]
    #[arg(long, value_name = "N", help_heading = "Method")]
    leaf_block: Option<NonZeroUsize>,

    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    published: PublishedArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// Internal Coherence Maximization: search for the labels that predict each other best
    Icm,
    /// The question alone
    ZeroShot,
    /// Labelled demonstrations before the question
    FewShot,
}

impl LabelArgs {
    pub(super) fn method(&self, task: &Task, dataset: &Dataset) -> Result<Method> {
        let calibration = self.calibration();
        let order = self.order_options()?;
        if self.method != MethodName::FewShot && self.demonstrations.is_some() {
            return Err(usage(
                "`--demonstrations` has no effect without `--method few-shot`".into(),
            ));
        }
        match self.method {
            MethodName::Icm => Ok(Method::Icm {
                settings: self.search.settings(order, calibration, (task, dataset, self.seed))?,
                rules: self.search.rules(task, &dataset.examples)?,
                batch_size: self.search.batch_size()?,
            }),
            MethodName::ZeroShot => {
                self.search.forbid("zero-shot")?;
                if let Some(name) = self.given_of_order() {
                    return Err(usage(format!(
                        "`--{name}` has no effect with `--method zero-shot`"
                    ))
                    .hint("there are no demonstrations to order; leave it out"));
                }
                Ok(Method::ZeroShot { calibration })
            }
            MethodName::FewShot => {
                self.search.forbid("few-shot")?;
                let Some(path) = &self.demonstrations else {
                    return Err(usage("`--method few-shot` needs `--demonstrations FILE`".into())
                        .hint("a file of labelled examples, or labels.jsonl of another run"));
                };
                let demonstrations = read_demonstrations(path, task, dataset)?;
                Ok(Method::FewShot { demonstrations, calibration, order })
            }
        }
    }

    /// The first option about the order of demonstrations that is given.
    fn given_of_order(&self) -> Option<&'static str> {
        let first = self.order.map(|_| "order");
        first.or_else(|| self.given_of_halving())
    }

    /// The first option of the halving order that is given.
    fn given_of_halving(&self) -> Option<&'static str> {
        let given = [
            ("trees", self.trees.is_some()),
            ("anchors", self.anchors.is_some()),
            ("leaf-block", self.leaf_block.is_some()),
        ];
        given.into_iter().find_map(|(name, is)| is.then_some(name))
    }

    fn calibration(&self) -> Calibration {
        let preset = self.search.preset().map(|preset| preset.settings.calibration);
        self.calibrate.map_or(preset.unwrap_or_default(), Into::into)
    }

    /// The prompt variant to ask with, if not the task's own.
    pub(super) fn variant<'a>(&'a self, task: &Task) -> Option<&'a str> {
        let of_preset = || self.search.preset()?.variant_of(task);
        self.prompt_variant.as_deref().or_else(of_preset)
    }

    /// The name of the preset.
    pub(super) fn preset(&self) -> Option<&'static str> {
        self.search.preset().map(|preset| preset.name)
    }

    /// Says which options have no effect, and gives the examples the keys that the options ask for.
    pub(super) fn prepare(&self, task: &Task, dataset: &mut Dataset) -> Result<()> {
        self.published.warn();
        self.search.prepare(task, dataset)
    }

    /// Whether the consistency keys are the published code's.
    pub(super) fn is_leaky(&self) -> bool {
        self.search.is_leaky()
    }

    /// The file given for gold.
    pub(super) fn gold(&self) -> Option<&Path> {
        self.search.gold()
    }

    fn order_options(&self) -> Result<OrderOptions> {
        // MERGE: with `num_demonstrations` in OrderOptions, its default is the preset's.
        let of_preset = self.search.preset().map(|preset| preset.settings.order.order);
        match self.order.map_or(of_preset.unwrap_or_default(), Into::into) {
            Order::Dataset => match self.given_of_halving() {
                Some(name) => {
                    Err(usage(format!("`--{name}` has no effect with `--order dataset`")))
                }
                None => Ok(OrderOptions::DATASET),
            },
            order @ Order::Halving => {
                let default = OrderOptions::default();
                Ok(OrderOptions {
                    order,
                    num_anchors: self.anchors.unwrap_or(default.num_anchors),
                    leaf_block: self.leaf_block.map_or(default.leaf_block, NonZeroUsize::get),
                    num_trees: self.trees.map_or(default.num_trees, NonZeroUsize::get),
                })
            }
        }
    }

    /// Whether gold has a part in the run: demonstrations are taken for gold unless they are the
    /// labels of a run that used none.
    pub(super) fn gold_used(&self) -> GoldUse {
        if let Some(reason) = self.search.gold_reason(&self.data) {
            return GoldUse::Because(reason);
        }
        let Some(path) = &self.demonstrations else { return GoldUse::no() };
        let made_by = path.parent().map(RunDir::existing);
        if let (Some(Ok((_, manifest))), true) = (made_by, path.ends_with("labels.jsonl")) {
            return manifest.gold_used;
        }
        GoldUse::Because(format!(
            "labels of demonstrations were given by the user: {}",
            path.display()
        ))
    }

    pub(super) fn mode(&self) -> OpenMode {
        match (self.resume, self.force) {
            (true, _) => OpenMode::Resume,
            (_, true) => OpenMode::Force,
            _ => OpenMode::New,
        }
    }
}
