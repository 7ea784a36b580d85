//! The arguments of `w2s label`, and the method and settings they come to.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::model::ModelArgs;
use super::names::{CalibrationName, OrderName};
use super::search_args::{SearchArgs, usage};
use crate::data::{Dataset, Task, read_demonstrations};
use crate::error::Result;
use crate::label::{Method, Order, OrderOptions};
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
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct LabelArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data")]
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
    /// Prompt variant of the task; `w2s tasks TASK` shows them [default: the task's own]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(super) prompt_variant: Option<String>,
    /// How the model's bias to a label word is taken off
    #[arg(long, value_enum, default_value_t = CalibrationName::Batch, help_heading = "Method")]
    calibrate: CalibrationName,
    /// Order of demonstrations: by halves (N log N) or as in the data, as published (N^2 / 2)
    /// [default: halving]
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
    /// Demonstrations in every prompt: all others, or at most K of them, drawn by the seed
    /// [default: all]
    #[arg(long, value_name = "all|K", value_parser = most_demonstrations, help_heading = "Method")]
    num_demonstrations: Option<MostDemonstrations>,

    #[command(flatten)]
    search: SearchArgs,
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

/// A cap on demonstrations, or none.
#[derive(Clone, Copy, Debug)]
struct MostDemonstrations(Option<usize>);

fn most_demonstrations(text: &str) -> std::result::Result<MostDemonstrations, String> {
    if text == "all" {
        return Ok(MostDemonstrations(None));
    }
    match text.parse::<NonZeroUsize>() {
        Ok(most) => Ok(MostDemonstrations(Some(most.get()))),
        Err(_) => Err("expected `all` or a number from 1 up".into()),
    }
}

impl LabelArgs {
    pub(super) fn method(&self, task: &Task, dataset: &Dataset) -> Result<Method> {
        let calibration = self.calibrate.into();
        let order = self.order_options()?;
        if self.method != MethodName::FewShot && self.demonstrations.is_some() {
            return Err(usage(
                "`--demonstrations` has no effect without `--method few-shot`".into(),
            ));
        }
        match self.method {
            MethodName::Icm => Ok(Method::Icm {
                settings: self.search.settings(order, calibration)?,
                rules: self.search.rules(task)?,
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
        let cap = self.num_demonstrations.map(|_| "num-demonstrations");
        first.or(cap).or_else(|| self.given_of_halving())
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

    fn order_options(&self) -> Result<OrderOptions> {
        let num_demonstrations = self.num_demonstrations.and_then(|most| most.0);
        if num_demonstrations.is_some() && self.anchors.is_some() {
            return Err(usage("`--anchors` has no effect with `--num-demonstrations K`".into())
                .hint("leave one of them out: K demonstrations are drawn for each prompt anew"));
        }
        match self.order.map_or(Order::default(), Into::into) {
            Order::Dataset => match self.given_of_halving() {
                Some(name) => {
                    Err(usage(format!("`--{name}` has no effect with `--order dataset`")))
                }
                None => Ok(OrderOptions { num_demonstrations, ..OrderOptions::DATASET }),
            },
            order @ Order::Halving => {
                let default = OrderOptions::default();
                Ok(OrderOptions {
                    order,
                    num_anchors: self.anchors.unwrap_or(default.num_anchors),
                    leaf_block: self.leaf_block.map_or(default.leaf_block, NonZeroUsize::get),
                    num_trees: self.trees.map_or(default.num_trees, NonZeroUsize::get),
                    num_demonstrations,
                })
            }
        }
    }

    /// Whether gold has a part in the run: demonstrations are taken for gold unless they are the
    /// labels of a run that used none.
    pub(super) fn gold_used(&self) -> GoldUse {
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
