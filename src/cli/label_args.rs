//! The arguments of `w2s label`, and the method and settings they come to.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::baseline_args::{Baseline, BaselineArgs};
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
/// The other methods are baselines that the search is compared with. One of them, few-shot-gold,
/// does read gold, and marks the run.
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

    #[command(flatten)]
    pub(super) baselines: BaselineArgs,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// Internal Coherence Maximization: search for the labels that predict each other best
    Icm,
    /// The question alone
    ZeroShot,
    /// The question alone, through the model's chat template
    ZeroShotChat,
    /// Labelled demonstrations of a file before the question
    FewShot,
    /// All other examples with their gold labels before the question: what supervision would give
    FewShotGold,
    /// All other examples with random labels before the question: what the form alone gives
    FewShotRandom,
    /// All other examples with their zero-shot labels before the question
    Bootstrap,
}

impl LabelArgs {
    pub(super) fn method(&self, task: &Task, dataset: &Dataset) -> Result<Method> {
        let calibration = self.calibrate.into();
        let order = self.order_options()?;
        let name = self.method_name();
        let forbid_search = |allowed: &[&str]| self.search.forbid(&name, allowed);
        if self.method != MethodName::FewShot && self.demonstrations.is_some() {
            return Err(usage(
                "`--demonstrations` has no effect without `--method few-shot`".into(),
            ));
        }
        let baseline = self.baseline();
        self.baselines.forbid(baseline, &name)?;
        if let Some(baseline) = baseline {
            forbid_search(&["batch-size"])?;
            let settings = self.baselines.many_shot(
                baseline,
                &self.search,
                (calibration, order),
                (task, dataset),
            )?;
            return Ok(Method::ManyShot(settings));
        }
        match self.method {
            MethodName::ZeroShot | MethodName::ZeroShotChat => {
                forbid_search(&[])?;
                if let Some(option) = self.given_of_order() {
                    return Err(usage(format!(
                        "`--{option}` has no effect with `--method {name}`"
                    ))
                    .hint("there are no demonstrations to order; leave it out"));
                }
                Ok(match self.method {
                    MethodName::ZeroShotChat => Method::ZeroShotChat { calibration },
                    _ => Method::ZeroShot { calibration },
                })
            }
            MethodName::FewShot => {
                forbid_search(&[])?;
                let Some(path) = &self.demonstrations else {
                    return Err(usage("`--method few-shot` needs `--demonstrations FILE`".into())
                        .hint("a file of labelled examples, or labels.jsonl of another run"));
                };
                let demonstrations = read_demonstrations(path, task, dataset)?;
                Ok(Method::FewShot { demonstrations, calibration, order })
            }
            _ => Ok(Method::Icm {
                settings: self.search.settings(order, calibration)?,
                rules: self.search.rules(task)?,
                batch_size: self.search.batch_size()?,
            }),
        }
    }

    fn baseline(&self) -> Option<Baseline> {
        match self.method {
            MethodName::FewShotGold => Some(Baseline::Gold),
            MethodName::FewShotRandom => Some(Baseline::Random),
            MethodName::Bootstrap => Some(Baseline::Bootstrap),
            _ => None,
        }
    }

    /// The method as it is typed.
    fn method_name(&self) -> String {
        let value = self.method.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
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

    fn order_options(&self) -> Result<OrderOptions> {
        match self.order.map_or(Order::default(), Into::into) {
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
    pub(super) fn gold_used(&self, dataset: &Dataset) -> GoldUse {
        if self.method == MethodName::FewShotGold {
            return self.baselines.gold_used(dataset);
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
