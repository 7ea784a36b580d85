//! The arguments of `w2s label`, and the method and settings they come to.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use super::baselines::{Asked, Baseline, BaselineOptions};
use super::published_flags::{self, PublishedOptions};
use super::search::SearchOptions;
use crate::data::{Dataset, Task, read_demonstrations};
use crate::error::Result;
use crate::label::{Method, Order, OrderOptions};
use crate::pipeline::columns::ColumnOptions;
use crate::pipeline::gold;
use crate::pipeline::ids::IdsOptions;
use crate::pipeline::model::ModelOptions;
use crate::pipeline::note::Note;
use crate::pipeline::prior::PriorOptions;
use crate::pipeline::run_options::RunOptions;
use crate::pipeline::server::ServerOptions;
use crate::pipeline::usage::usage;
use crate::pipeline::voice::Voice;
use crate::run::{GoldUse, RunDir};
use crate::score::Calibration;

/// Label data without supervision (ICM), or by prompting
///
/// Reads examples, never their gold labels, and writes a run folder: labels.jsonl (label,
/// log-probabilities and margin of each example), trace.jsonl (every step of the search),
/// summary.json and manifest.json. Interrupted runs (even by kill -9) go on with --resume, to
/// byte-identical results. Most users need --model, --task, --data and --out only.
///
/// Columns of your own: --field says which column holds the text, --id which holds the ids. The
/// task `statements` asks of any statement whether it is true; `w2s tasks new` writes another task.
///
/// The other methods are baselines that the search is compared with. One of them, few-shot-gold,
/// does read gold, and marks the run.
///
/// Examples:
///   w2s label --model models/gemma-3-270m --task statements --data my.csv \
///       --field statement=claim_text --id claim_no --out runs/mine
///   w2s label --model models/gemma-3-270m --task sentiment \
///       --data data/demo/reviews.jsonl --out runs/mine
///   w2s label --model http://localhost:8000/v1#NAME --task sentiment \
///       --data data/demo/reviews.jsonl --out runs/served
///
/// The flags of the published code are understood too (--testbed, --K, --initial_T, --final_T,
/// --scheduler, --consistency_fix_K, --num_seed, --batch_size): add --data and --out to its commands.
/// Any of them means --preset icm-code, unless a preset is named.
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct LabelJob {
    /// The model.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: ModelOptions,
    /// How a server is asked, where the model is one.
    #[serde(flatten)]
    #[command(flatten)]
    pub server: ServerOptions,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data", alias = "testbed",
        value_parser = published_flags::task_name)]
    pub task: String,
    /// Examples: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub data: PathBuf,
    /// Which columns of the data are what.
    #[serde(flatten)]
    #[command(flatten)]
    pub columns: ColumnOptions,
    /// Take the first N examples only
    #[arg(long, value_name = "N", help_heading = "Data", conflicts_with = "files")]
    pub limit: Option<usize>,
    /// Which examples.
    #[serde(flatten)]
    #[command(flatten)]
    pub ids: IdsOptions,

    /// The run folder.
    #[serde(flatten)]
    #[command(flatten)]
    pub run: RunOptions,

    /// How labels are found
    #[arg(long, value_enum, default_value_t = MethodName::Icm, help_heading = "Method")]
    pub method: MethodName,
    /// Labelled examples to prompt with; an example of the data that is among them is left out of
    /// its own prompt (few-shot)
    #[arg(long, value_name = "FILE", help_heading = "Method")]
    pub demonstrations: Option<PathBuf>,
    /// Prompt variant of the task; `w2s tasks TASK` shows them [default: the preset's, or the task's
    /// own]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub prompt_variant: Option<String>,
    /// Corrects the model's prior towards label words (calibration) [default: batch; none with a
    /// preset]
    #[arg(long, value_enum, help_heading = "Method")]
    pub calibrate: Option<Calibration>,
    /// The shares of labels that calibration supposes.
    #[serde(flatten)]
    #[command(flatten, next_help_heading = "Method")]
    pub prior: PriorOptions,
    /// Order of demonstrations: by halves (N log N) or as in the data, as published (N^2 / 2)
    /// [default: halving; dataset with a preset]
    #[arg(long, value_enum, help_heading = "Method")]
    pub order: Option<Order>,
    /// Permutations over which the scores of the halving order are averaged [default: 2]
    #[arg(long, value_name = "N", help_heading = "Method")]
    pub trees: Option<NonZeroUsize>,
    /// Demonstrations that stand last in every prompt of the halving order [default: 0]
    #[arg(long, value_name = "N", help_heading = "Method")]
    pub anchors: Option<usize>,
    /// Examples of a block within which the halving order keeps one order, so that they share their
    /// prompt's end; 1: halve down to single examples [default: 1]
    #[arg(long, value_name = "N", help_heading = "Method")]
    pub leaf_block: Option<NonZeroUsize>,
    /// Demonstrations in every prompt: all others, or at most K of them, drawn by the seed
    /// [default: all; 6 with `--preset neutral-fork`]
    #[arg(long, value_name = "all|K", value_parser = most_demonstrations, help_heading = "Method")]
    pub num_demonstrations: Option<MostDemonstrations>,

    /// What prompting methods take.
    #[serde(flatten)]
    #[command(flatten)]
    pub baselines: BaselineOptions,
    /// The search.
    #[serde(flatten)]
    #[command(flatten)]
    pub search: SearchOptions,
    /// Flags of the published code.
    #[serde(flatten)]
    #[command(flatten)]
    pub published: PublishedOptions,
}

/// A labelling method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
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

/// A cap on demonstrations, or none.
#[derive(Clone, Copy, Debug)]
pub struct MostDemonstrations(pub Option<usize>);

impl Serialize for MostDemonstrations {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str("all"),
            Some(most) => most.serialize(serializer),
        }
    }
}

fn most_demonstrations(text: &str) -> std::result::Result<MostDemonstrations, String> {
    if text == "all" {
        return Ok(MostDemonstrations(None));
    }
    match text.parse::<NonZeroUsize>() {
        Ok(most) => Ok(MostDemonstrations(Some(most.get()))),
        Err(_) => Err("expected `all` or a number from 1 up".into()),
    }
}

impl LabelJob {
    pub(in crate::pipeline) fn method(&self, task: &Task, dataset: &Dataset) -> Result<Method> {
        let calibration = self.calibration();
        let prior = self.prior.prior(task, calibration)?;
        let order = self.order_options()?;
        let name = self.method_name();
        let forbid_search = |allowed: &[&str]| self.search.forbid(&name, allowed);
        if self.method != MethodName::FewShot && self.demonstrations.is_some() {
            return Err(usage(
                "`--demonstrations` has no effect without `--method few-shot`".into(),
            ));
        }
        let baseline = self.baseline();
        self.baselines.forbid(baseline, &self.search, &name)?;
        if let Some(baseline) = baseline {
            forbid_search(&["batch-size"])?;
            let settings = self.baselines.many_shot(
                baseline,
                &self.search,
                self.num_demonstrations.and_then(|most| most.0),
                Asked { calibration, prior, order },
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
                    MethodName::ZeroShotChat => Method::ZeroShotChat { calibration, prior },
                    _ => Method::ZeroShot { calibration, prior },
                })
            }
            MethodName::FewShot => {
                forbid_search(&[])?;
                let Some(path) = &self.demonstrations else {
                    return Err(usage("`--method few-shot` needs `--demonstrations FILE`".into())
                        .hint("a file of labelled examples, or labels.jsonl of another run"));
                };
                let demonstrations = read_demonstrations(path, task, dataset)?;
                Ok(Method::FewShot { demonstrations, calibration, prior, order })
            }
            _ => Ok(Method::Icm {
                settings: self.search.settings(
                    order,
                    (calibration, prior),
                    (&self.baselines.gold_source(task, dataset), self.run.seed),
                )?,
                rules: self.search.rules(task, &dataset.examples)?,
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

    fn calibration(&self) -> Calibration {
        let preset = self.search.preset().map(|preset| preset.settings.calibration);
        self.calibrate.unwrap_or_else(|| preset.unwrap_or_default())
    }

    /// The prompt variant to ask with, if not the task's own.
    pub(in crate::pipeline) fn variant<'a>(&'a self, task: &Task) -> Option<&'a str> {
        let of_preset = || self.search.preset()?.variant_of(task);
        self.prompt_variant.as_deref().or_else(of_preset)
    }

    /// Takes the preset that flags of a published code ask for, where the method is the search.
    /// Returns what is to be said of it.
    pub(in crate::pipeline) fn imply_preset(&mut self, argv: &[String]) -> Option<Note> {
        match self.method {
            MethodName::Icm => self.search.imply_preset(argv),
            _ => None,
        }
    }

    /// The name of the preset.
    pub(super) fn preset(&self) -> Option<&'static str> {
        self.search.preset().map(|preset| preset.name)
    }

    /// Says which options have no effect, and gives the examples the keys that the options ask for.
    pub(super) fn prepare(
        &self,
        task: &Task,
        dataset: &mut Dataset,
        voice: &Voice<'_>,
    ) -> Result<()> {
        self.published.warn(voice);
        if self.method != MethodName::Icm || !self.search.is_leaky() {
            return Ok(());
        }
        // Wrong usage is said before files are read.
        self.search.rules(task, &dataset.examples)?;
        let path = self.baselines.gold_file(dataset).to_owned();
        gold::take_reference_keys(&path, task, &mut dataset.examples)
    }

    /// Whether the consistency keys are the published code's.
    pub(in crate::pipeline) fn is_leaky(&self) -> bool {
        self.search.is_leaky()
    }

    /// Whether the search starts from gold labels or takes keys that tell them.
    pub(in crate::pipeline) fn search_uses_gold(&self) -> bool {
        self.search.starts_from_gold() || self.search.is_leaky()
    }

    fn order_options(&self) -> Result<OrderOptions> {
        let preset = self.search.preset().map(|preset| preset.settings.order).unwrap_or_default();
        let most = self.num_demonstrations.map_or(preset.num_demonstrations, |most| most.0);
        // The baselines draw theirs from the data once, for all examples.
        let num_demonstrations = most.filter(|_| self.baseline().is_none());
        if num_demonstrations.is_some() && self.anchors.is_some() {
            return Err(usage("`--anchors` has no effect with `--num-demonstrations K`".into())
                .hint("leave one of them out: K demonstrations are drawn for each prompt anew"));
        }
        match self.order.unwrap_or(preset.order) {
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
    pub(super) fn gold_used(&self, dataset: &Dataset) -> GoldUse {
        if self.method == MethodName::FewShotGold {
            return self.baselines.gold_used(dataset);
        }
        if let Some(reason) = self.search.gold_reason(self.baselines.gold_file(dataset)) {
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
}
