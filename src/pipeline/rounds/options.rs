//! The arguments of `w2s loop`. What they come to with its recipe, `settings` says.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::pipeline::columns::ColumnOptions;
use crate::pipeline::relabel::ChangeName;

/// Run label-train-relabel rounds, in one process
///
/// The data is split in batches, groups whole, and a share is set aside. The model labels the first
/// batch by ICM; in every round a low-rank adapter is trained, from the model as it was, on all labels
/// so far, and labels the next batch. Gold labels are not read; `w2s eval OUT --gold FILE` evaluates
/// every round afterwards, and `w2s report OUT` draws them.
///
/// After each round the new model answers what was set aside and looks at the labels so far again. The
/// loop stops when the new labels are nearly all the same, when a model contradicts its own labels, or
/// when it answers otherwise than the model before; the last good round is kept and the exit status is
/// that of a loop that ended (loop.json says `stopped` and why).
///
/// A recipe is a TOML file: its keys are the options below, those of its tables [label], [filter],
/// [train] and [relabel] the options of these commands. What is typed goes before what it says.
///
/// Writes a folder: round-1/label, round-1/train, ... (runs like any others), rounds.jsonl (a line a
/// round), loop.json, and labels.jsonl (the labels of all batches). An interrupted loop goes on with
/// --resume and ends with the same bytes.
///
/// Examples:
///   w2s loop --model models/gemma-3-270m --task sentiment --data data/demo/reviews.jsonl \
///       --batches 2 --out runs/loop
///   w2s loop recipe.toml --out runs/loop --set label.alpha=30 --set train.lr=2e-4
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment, args_override_self = true)]
pub struct LoopJob {
    /// Recipe: a TOML file with these options and tables of those of the steps
    #[arg(value_name = "RECIPE.toml")]
    pub recipe: Option<PathBuf>,

    /// Hugging Face model folder
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub model: Option<PathBuf>,
    /// Server that labels, filters and re-checks labels, while training is local: http://HOST:8000/v1#NAME
    /// of the same base model. It must take adapters while it runs (vLLM with --enable-lora and
    /// VLLM_ALLOW_RUNTIME_LORA_UPDATING=True): from round 2 on it labels with what was trained, under a new
    /// name each time. How it is asked, the table [label] says (route, tokenizer, concurrency, ...)
    /// [default: the model itself]
    #[arg(long, value_name = "URL", help_heading = "Model")]
    pub labeller: Option<String>,
    /// The loop's folder as that server sees it, where that is another path than here
    #[arg(long, value_name = "DIR", requires = "labeller", help_heading = "Model")]
    pub labeller_folder: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, value_name = "DEVICE", help_heading = "Model")]
    pub device: Option<String>,
    /// auto, f32, bf16 or f16 [default: auto]
    #[arg(long, value_name = "DTYPE", help_heading = "Model")]
    pub dtype: Option<String>,
    /// Longest prompt in tokens [default: what the model was made for]
    #[arg(long, value_name = "TOKENS", help_heading = "Model")]
    pub max_context: Option<usize>,
    /// Most tokens of one forward pass [default: 512 on the CPU, 4096 on a GPU; in training by memory]
    #[arg(long, value_name = "TOKENS", help_heading = "Model")]
    pub pack_tokens: Option<usize>,
    /// Working memory besides the weights, such as 3.5G [default: half of the machine's memory on the
    /// CPU, nine tenths of what is free on a GPU]
    #[arg(long, value_name = "SIZE", help_heading = "Model")]
    pub memory: Option<String>,
    /// CPU threads [default: the machine's cores]
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub threads: Option<NonZeroUsize>,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data")]
    pub task: Option<String>,
    /// Examples: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Which columns of the data are what.
    #[serde(flatten)]
    #[command(flatten)]
    pub columns: ColumnOptions,
    /// Batches the data is split in, and so the number of rounds [default: 3]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub batches: Option<NonZeroUsize>,
    /// Share of the examples that is set aside: the models answer it, none learns from it; 0: none, and
    /// no agreement is measured [default: 0.1]
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub held_out: Option<f64>,

    /// How batches after the first are labelled [default: icm]
    #[arg(long, value_enum, help_heading = "Rounds")]
    pub later: Option<LaterName>,
    /// Train only on labels of questions that the model answers consistently across prompt variants
    /// (entropy)
    #[arg(long, help_heading = "Rounds")]
    pub filter: bool,
    /// Weigh every label by its reliability among the model's answers to variants of its question
    #[arg(long, help_heading = "Rounds")]
    pub reweight: bool,
    /// What becomes of labels that the round's model contradicts by the margin [default: none]
    #[arg(long, value_enum, help_heading = "Rounds")]
    pub relabel: Option<ChangeName>,
    /// The margin in nats [default: 1]
    #[arg(long, value_name = "NATS", help_heading = "Rounds")]
    pub relabel_margin: Option<f64>,
    /// Have each half of the labels looked at by a model that learnt the other half; two more trainings
    /// a round
    #[arg(long, help_heading = "Rounds")]
    pub cross_fit: bool,

    /// Stop when a model contradicts more than this share of the labels so far [default: 0.35]
    #[arg(long, value_name = "SHARE", help_heading = "Brakes")]
    pub max_flip_rate: Option<f64>,
    /// Stop when the class entropy of new labels, over the most it can be, is less; 0.3 is 95 to 5 of
    /// two labels [default: 0.3]
    #[arg(long, value_name = "SHARE", help_heading = "Brakes")]
    pub min_class_entropy: Option<f64>,
    /// Stop when less than this share of the held-out examples keep the label that the model of the
    /// round before gave [default: 0.6]
    #[arg(long, value_name = "SHARE", help_heading = "Brakes")]
    pub min_agreement: Option<f64>,

    /// Set any option of a step, as in a recipe's table: label.alpha=30, train.epochs=5, filter.quantile=0.7
    #[arg(long, value_name = "TABLE.OPTION=VALUE", help_heading = "Steps")]
    pub set: Vec<String>,

    /// Run folder to make
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    pub out: Option<PathBuf>,
    /// Continue the loop in the folder; begin it if there is none
    #[arg(long, conflicts_with = "force", help_heading = "Run")]
    pub resume: bool,
    /// Replace the loop in the folder
    #[arg(long, help_heading = "Run")]
    pub force: bool,
    /// Seed of everything random [default: 0]
    #[arg(long, value_name = "SEED", help_heading = "Run")]
    pub seed: Option<u64>,
}

/// How batches after the first are labelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaterName {
    /// By the search, as the first
    #[default]
    Icm,
    /// By the model's answer to the question alone
    Predict,
}

impl LoopJob {
    /// Continues the loop in the folder, or begins it, whatever the command line says.
    pub(in crate::pipeline) fn set_resume(&mut self) {
        (self.resume, self.force) = (true, false);
    }
}
