//! The options of `w2s train`, which of them go together, and the settings they come to.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::engine_options::EngineOptions;
use super::loss::LossOptions;
use crate::error::Result;
use crate::lm::{AdapterConfig, Decoder, Layout, TargetModules};
use crate::pipeline::columns::ColumnOptions;
use crate::pipeline::ids::IdsOptions;
use crate::pipeline::model::{ModelOptions, maybe_path};
use crate::pipeline::run_options::RunOptions;
use crate::pipeline::usage::{no_effect, usage};
use crate::score::{MemorySize, total_memory};
use crate::train::{
    Checkpointing, Decay, Loss, PassMemory, Patience, ProcessRank, TooLong, TrainSettings,
    TrainedParts,
};

/// The longest wait for other processes: a week.
const MOST_SECONDS: f64 = 604_800.0;

/// Fine-tune a model on labels, through a low-rank adapter or whole
///
/// Learns to answer each question of the data with its label: the prompt is the task's, the target
/// the label word and the end token. Labels come from a run of `w2s label` or `w2s filter`, from any
/// file with id and label, or from gold (`--labels gold`, for weak supervisors and ceilings; the run
/// is marked). Writes a run folder that is a PEFT adapter: peft loads it, and every command takes it
/// with --adapter. An interrupted training goes on with --resume from its last checkpoint, and ends
/// with the same bytes.
///
/// Several processes train as one when torchrun starts them (`torchrun --nproc-per-node 2 --no-python
/// w2s train ...`), or when RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set for each: they share
/// every batch, and the result is that of one process but for rounding.
///
/// Examples:
///   w2s train --model models/gemma-3-270m --task sentiment --data data/demo/reviews.jsonl \
///       --labels runs/mine/labels.jsonl --out runs/student
///   w2s train runs/mine --model models/gemma-3-270m --out runs/student
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct TrainJob {
    /// Run folder of `w2s label`, `relabel`, `filter` or `loop` whose labels are learnt: task, data,
    /// columns, labels and answers are the run's, unless options say otherwise
    #[arg(value_name = "RUN")]
    pub from: Option<PathBuf>,
    /// The model.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: ModelOptions,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(
        long,
        value_name = "TASK",
        default_value = "",
        hide_default_value = true,
        required_unless_present = "from",
        help_heading = "Data"
    )]
    pub task: String,
    /// Examples: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", value_parser = maybe_path(), default_value = "",
        hide_default_value = true, required_unless_present = "from", help_heading = "Data")]
    pub data: PathBuf,
    /// Which columns of the data are what.
    #[serde(flatten)]
    #[command(flatten)]
    pub columns: ColumnOptions,
    /// Labels by id: a run folder of `w2s label` or `w2s filter`, any file with id and label, or `gold`;
    /// may be given more than once
    #[arg(
        long,
        value_name = "FILE|gold",
        help_heading = "Data",
        required_unless_present_any = ["answers", "from"]
    )]
    pub labels: Vec<PathBuf>,
    /// Learn the answers to all variants: a run folder of `w2s filter` or its answers.jsonl; with --labels
    /// only those of the questions it names
    #[arg(long, value_name = "FILE", help_heading = "Data", alias = "variants")]
    pub answers: Vec<PathBuf>,
    /// Weights: JSON lines with id and weight, and variant and answer where these tell them apart,
    /// such as weights.jsonl of `w2s filter` [default: all 1]
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub weights: Vec<PathBuf>,
    /// What an example or answer weighs that the weights do not name: 0 leaves it out, as is right for
    /// a label that no variant was answered with [default: it is an error]
    #[arg(long, value_name = "W", help_heading = "Data", requires = "weights")]
    pub missing_weight: Option<f64>,
    /// Weigh every answer by its reliability among those to the variants of its question (`--answers`), or
    /// every label by the `weight` on its line (`--labels` alone: kept.jsonl of `w2s filter`)
    #[arg(long, help_heading = "Data", conflicts_with = "weights")]
    pub reweight: bool,
    /// Learn the rows of a sample only, each as often as it was drawn: sample.jsonl of
    /// `w2s filter --do-sampling`, beside its answers.jsonl as `--answers` and, where questions are
    /// set aside for validation, its kept.jsonl as `--labels` [default: every answer once]
    #[arg(long, value_name = "FILE", help_heading = "Data", requires = "answers")]
    pub sample: Option<PathBuf>,
    /// Temperature of the reliability: below 1 it sharpens the shares of the answers [default: 0.2]
    #[arg(long, value_name = "T", help_heading = "Data", requires_all = ["reweight", "answers"])]
    pub temperature: Option<f64>,
    /// File of the gold labels (`--labels gold`) [default: the data file]
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub gold: Option<PathBuf>,
    /// Column of the gold labels (`--labels gold`) [default: the task's]
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    pub gold_column: Option<String>,
    /// Learn the distribution of labels in the file of labels, not its likeliest label
    #[arg(long, help_heading = "Data")]
    pub soft_labels: bool,
    /// Take the first N examples only
    #[arg(long, value_name = "N", help_heading = "Data", conflicts_with = "files")]
    pub limit: Option<NonZeroUsize>,
    /// Which examples.
    #[serde(flatten)]
    #[command(flatten)]
    pub ids: IdsOptions,
    /// Prompt variant of the task; `w2s tasks TASK` shows them [default: the task's own]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub prompt_variant: Option<String>,
    /// Longest prompt with its answer, in tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 512, help_heading = "Data")]
    pub max_tokens: usize,
    /// How to handle over-long prompts; answers are never cut
    #[arg(long, value_enum, default_value_t = TooLong::Truncate, help_heading = "Data")]
    pub too_long: TooLong,

    /// The run folder.
    #[serde(flatten)]
    #[command(flatten)]
    pub run: RunOptions,
    /// Write a checkpoint every N steps [default: by time only]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub checkpoint_steps: Option<NonZeroUsize>,
    /// Write a checkpoint every so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 5.0, help_heading = "Run")]
    pub checkpoint_minutes: f64,

    /// Wait so many seconds for the other processes to start (WORLD_SIZE above 1) [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = "Run")]
    pub join_timeout: Option<f64>,
    /// Take another process for lost if it does not come to a step's sum within so many seconds
    /// (WORLD_SIZE above 1) [default: 600]
    #[arg(long, value_name = "SECONDS", help_heading = "Run")]
    pub peer_timeout: Option<f64>,

    /// Who trains.
    #[serde(flatten)]
    #[command(flatten)]
    pub engine: EngineOptions,

    /// What the loss is.
    #[serde(flatten)]
    #[command(flatten)]
    pub loss: LossOptions,

    /// LoRA rank [default: 16]
    #[arg(long, value_name = "R", help_heading = "Adapter")]
    pub lora_r: Option<NonZeroUsize>,
    /// LoRA alpha [default: 32]
    #[arg(long, value_name = "ALPHA", help_heading = "Adapter")]
    pub lora_alpha: Option<f64>,
    /// Share of the adapter's inputs dropped in training [default: 0.05]
    #[arg(long, value_name = "SHARE", help_heading = "Adapter")]
    pub lora_dropout: Option<f64>,
    /// Target modules: names with commas between, all-linear, or a regular expression of the
    /// whole name [default: queries and values]
    #[arg(long, value_name = "MODULES", help_heading = "Adapter")]
    pub target_modules: Option<String>,
    /// Divide alpha by the root of the rank (rsLoRA)
    #[arg(long, help_heading = "Adapter")]
    pub rslora: bool,

    /// Train all weights and write a whole model; takes 16 bytes a weight, in f32 or beside bf16
    #[arg(long, help_heading = "Adapter")]
    pub full: bool,

    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = 5e-5, help_heading = "Optimizer")]
    pub lr: f64,
    /// Schedule of the learning rate after the warm-up
    #[arg(long, value_enum, default_value_t = Decay::Linear, help_heading = "Optimizer")]
    pub schedule: Decay,
    /// Warm-up steps
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Optimizer")]
    pub warmup_steps: usize,
    /// Epochs: passes over the data
    #[arg(long, value_name = "N", default_value = "3", help_heading = "Optimizer")]
    pub epochs: NonZeroUsize,
    /// Examples of a step; how many are run at once is another matter and changes no result beyond
    /// rounding
    #[arg(long, value_name = "N", default_value = "24", help_heading = "Optimizer")]
    pub batch_size: NonZeroUsize,
    /// AdamW's weight decay
    #[arg(long, value_name = "RATE", default_value_t = 0.0, help_heading = "Optimizer")]
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0: any
    #[arg(long, value_name = "NORM", default_value_t = 1.0, help_heading = "Optimizer")]
    pub clip: f64,
    /// Most sequences run at once [default: as many as memory and --pack-tokens allow]
    #[arg(long, value_name = "N", help_heading = "Optimizer")]
    pub micro_batch: Option<NonZeroUsize>,
    /// Gradient checkpointing: recompute activations in the backward pass; less memory, a third more time
    #[arg(long, alias = "gradient-checkpointing", help_heading = "Optimizer")]
    pub recompute: bool,

    /// Set this share of the questions aside and report the loss on them [default: none, or those
    /// that kept.jsonl sets aside]
    #[arg(long, value_name = "SHARE", help_heading = "Validation")]
    pub validation: Option<f64>,
    /// Report it every N steps [default: at the end of every epoch]
    #[arg(long, value_name = "N", help_heading = "Validation")]
    pub validate_every: Option<NonZeroUsize>,
    /// Write the adapter of the lowest validation loss, not the last
    #[arg(long, help_heading = "Validation")]
    pub best: bool,
    /// End the training after N validations without a lower loss
    #[arg(long, value_name = "N", help_heading = "Validation")]
    pub patience: Option<NonZeroUsize>,
}

impl TrainJob {
    /// Refuses combinations of options that make no sense, before anything is read.
    pub(in crate::pipeline) fn check(&self) -> Result<()> {
        self.check_engine()?;
        if self.model.limits_context() {
            return Err(no_effect("max-context", "in training")
                .hint("sequences are limited by `--max-tokens`"));
        }
        if !self.is_gold() && (self.gold.is_some() || self.gold_column.is_some()) {
            return Err(no_effect("gold", "without `--labels gold`"));
        }
        let num_gold =
            self.labels.iter().filter(|path| path.as_path() == Path::new("gold")).count();
        if num_gold > 0 && self.labels.len() > 1 {
            return Err(usage("`--labels gold` and other labels do not go together".into())
                .hint("leave one of them out"));
        }
        if self.is_gold() && !self.answers.is_empty() {
            return Err(usage("`--labels gold` and `--answers` are two sources of labels".into())
                .hint("leave one of them out"));
        }
        if self.is_gold() && self.reweight {
            return Err(no_effect("reweight", "with `--labels gold`"));
        }
        if self.is_gold() && self.soft_labels {
            return Err(no_effect("soft-labels", "with `--labels gold`"));
        }
        if self.full && self.model.adapter.is_some() {
            return Err(usage("`--full` and `--adapter` do not go together".into())
                .hint("merge the adapter first (`w2s merge`) and train the merged model"));
        }
        let of_adapter = [
            ("lora-r", self.lora_r.is_some()),
            ("lora-alpha", self.lora_alpha.is_some()),
            ("target-modules", self.target_modules.is_some()),
            ("rslora", self.rslora),
        ];
        if let (Some(_), Some((option, _))) =
            (&self.model.adapter, of_adapter.iter().find(|(_, given)| *given))
        {
            return Err(no_effect(option, "with `--adapter`, whose settings are kept"));
        }
        let any = self.lora_dropout.map(|_| "lora-dropout");
        let any = of_adapter.iter().find(|(_, given)| *given).map(|(option, _)| *option).or(any);
        if let (true, Some(option)) = (self.full, any) {
            return Err(no_effect(option, "with `--full`"));
        }
        self.loss.check()?;
        for (option, share) in
            [("lora-dropout", self.lora_dropout), ("validation", self.validation)]
        {
            if let Some(share) = share.filter(|share| !(0.0..1.0).contains(share)) {
                return Err(usage(format!(
                    "`--{option}` is {share}, expected a share from 0 to 1"
                )));
            }
        }
        let positive = [
            ("lr", self.lr),
            ("temperature", self.temperature()),
            ("lora-alpha", self.lora_alpha.unwrap_or(1.0)),
        ];
        for (option, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(usage(format!("`--{option}` is {value}, expected a number above 0")));
            }
        }
        let from_zero = [
            ("missing-weight", self.missing_weight.unwrap_or(0.0)),
            ("weight-decay", self.weight_decay),
            ("clip", self.clip),
            ("checkpoint-minutes", self.checkpoint_minutes),
        ];
        for (option, value) in from_zero {
            if !(value.is_finite() && value >= 0.0) {
                return Err(usage(format!("`--{option}` is {value}, expected a number from 0 up")));
            }
        }
        if 60.0 * self.checkpoint_minutes > MOST_SECONDS {
            return Err(usage(format!(
                "`--checkpoint-minutes` is {}, expected at most {:.0}",
                self.checkpoint_minutes,
                MOST_SECONDS / 60.0
            )));
        }
        for (option, seconds) in
            [("join-timeout", self.join_timeout), ("peer-timeout", self.peer_timeout)]
        {
            if let Some(seconds) = seconds
                && !(seconds > 0.0 && seconds <= MOST_SECONDS)
            {
                return Err(usage(format!(
                    "`--{option}` is {seconds}, expected seconds above 0, at most {MOST_SECONDS:.0}"
                )));
            }
        }
        Ok(())
    }

    /// How long to wait for the other processes of a training.
    pub(super) fn patience(&self, process: Option<&ProcessRank>) -> Result<Patience> {
        let given = [("join-timeout", self.join_timeout), ("peer-timeout", self.peer_timeout)];
        if let (None, Some((option, _))) =
            (process, given.iter().find(|(_, seconds)| seconds.is_some()))
        {
            return Err(usage(format!("`--{option}` has no effect in a single process"))
                .hint("leave it out, or start several processes with torchrun"));
        }
        let seconds =
            |given: Option<f64>, default| Duration::from_secs_f64(given.unwrap_or(default));
        Ok(Patience {
            join: seconds(self.join_timeout, 30.0),
            peer: seconds(self.peer_timeout, 600.0),
        })
    }

    /// Refuses validation options where nothing is set aside.
    pub(in crate::pipeline) fn check_validation(&self, is_set_aside: bool) -> Result<()> {
        let given = [
            ("best", self.best),
            ("patience", self.patience.is_some()),
            ("validate-every", self.validate_every.is_some()),
        ];
        match given.iter().find(|(_, given)| *given && !is_set_aside) {
            Some((option, _)) => {
                Err(usage(format!("`--{option}` needs questions that are set aside"))
                    .hint("set a share of them aside with `--validation`"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn loss(&self) -> Loss {
        self.loss.loss()
    }

    /// The settings of the training of `decoder`.
    pub(in crate::pipeline) fn settings(
        &self,
        decoder: &Decoder,
        dropout: f64,
        num_local: usize,
    ) -> TrainSettings {
        let cpu = !decoder.device().is_cuda();
        let tokens = || {
            // Processes of one machine share its memory, where the user does not say what each may have.
            let share = || {
                let all = total_memory().filter(|_| cpu && num_local > 1)?;
                Some(MemorySize(all.0 / 2 / num_local as u64))
            };
            let memory = self.model.memory().or_else(share);
            self.pass_memory(decoder, dropout).tokens(memory, decoder)
        };
        TrainSettings {
            loss: self.loss(),
            normalise: self.loss.normalise,
            batch_size: self.batch_size.get(),
            num_epochs: self.epochs.get(),
            lr: self.lr,
            decay: self.schedule,
            num_warmup: self.warmup_steps,
            weight_decay: self.weight_decay,
            clip: (self.clip > 0.0).then_some(self.clip),
            dropout,
            recompute: self.recompute,
            pass_tokens: self.model.pack_tokens().unwrap_or_else(tokens),
            pass_sequences: self.micro_batch.map_or(usize::MAX, NonZeroUsize::get),
        }
    }

    /// Whether passes are sized by what memory is free.
    pub(super) fn sizes_by_memory(&self) -> bool {
        self.model.pack_tokens().is_none() && self.model.memory().is_none()
    }

    /// What passes of the training take.
    pub(in crate::pipeline) fn pass_memory(&self, decoder: &Decoder, dropout: f64) -> PassMemory {
        let parts = TrainedParts {
            recompute: self.recompute,
            dropout,
            full: self.full,
            num_adapted_inputs: decoder.num_adapted_inputs(),
        };
        PassMemory::of(decoder.config(), decoder.kind(), !decoder.device().is_cuda(), parts)
    }

    /// Share of the adapter's inputs dropped, if the user says so.
    pub(super) fn dropout(&self) -> Option<f64> {
        self.lora_dropout
    }

    /// The settings of a new adapter on a model of this layout.
    pub(super) fn adapter_config(&self, layout: Layout) -> AdapterConfig {
        let target_modules = match self.target_modules.as_deref() {
            None => TargetModules::queries_and_values(layout),
            Some("all-linear") => TargetModules::AllLinear,
            Some(text) if text.chars().all(|c| c.is_alphanumeric() || "_,. ".contains(c)) => {
                TargetModules::Names(text.split(',').map(|name| name.trim().to_owned()).collect())
            }
            Some(pattern) => TargetModules::Pattern(pattern.to_owned()),
        };
        let default = AdapterConfig::default();
        AdapterConfig {
            r: self.lora_r.map_or(default.r, NonZeroUsize::get),
            alpha: self.lora_alpha.unwrap_or(default.alpha),
            dropout: self.lora_dropout.unwrap_or(default.dropout),
            target_modules,
            use_rslora: self.rslora,
            // PEFT opens it from any working folder.
            base_model: Some(
                std::path::absolute(&self.model.model)
                    .unwrap_or_else(|_| self.model.model.clone())
                    .display()
                    .to_string(),
            ),
            ..default
        }
    }

    pub(super) fn checkpointing(&self, folder: &Path) -> Checkpointing {
        let minutes = Duration::from_secs_f64(60.0 * self.checkpoint_minutes);
        let steps = self.checkpoint_steps.map(NonZeroUsize::get);
        Checkpointing::new(folder, steps, Some(minutes))
    }
}
