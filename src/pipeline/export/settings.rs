//! The settings of a training, in the words of other trainers.
//!
//! They are those that a run of `w2s train` recorded, or its defaults for the model that is to be
//! trained. What a trainer cannot be told is an error here, or a remark for its reader.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::lm::{Layout, LmConfig, TargetModules};
use crate::report::code_span;
use crate::run::{Manifest, RunDir};
use crate::train::{Decay, Loss, TrainSettings};

/// Longest prompt with its answer, in tokens, unless a training says otherwise.
const MAX_TOKENS: usize = 512;
/// Most examples of a step that are run at once.
const MOST_AT_ONCE: usize = 8;

/// What a trainer of TRL learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrlMethod {
    Sft,
    Dpo,
    Reward,
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrainingSettings {
    /// `None`: all weights train.
    lora: Option<Lora>,
    train: Steps,
    max_tokens: usize,
    /// Whether a training had them.
    is_of_run: bool,
    /// Where they come from, in words.
    origin: String,
}

/// A low-rank adapter.
#[derive(Clone, Debug, PartialEq)]
struct Lora {
    r: usize,
    alpha: f64,
    use_rslora: bool,
    target_modules: TargetModules,
}

/// What a manifest records of the steps.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Steps {
    loss: Loss,
    batch_size: usize,
    num_epochs: usize,
    lr: f64,
    decay: Decay,
    num_warmup: usize,
    weight_decay: f64,
    clip: Option<f64>,
    dropout: f64,
}

impl TrainingSettings {
    /// Returns those that a run of `w2s train` recorded.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] for a folder that is no such run.
    pub(super) fn of_run(run: &Path) -> Result<Self> {
        let (_, manifest) = RunDir::existing(run)?;
        if manifest.command != "train" {
            return Err(Error::new(
                ErrorKind::Run,
                format!("a run of `w2s {}` is no training", manifest.command),
            )
            .at(run)
            .hint("name a run of `w2s train` with `--training`"));
        }
        Self::of_manifest(&manifest, format!("those of the training in {}", shown(run)))
            .map_err(|why| why.at(run))
    }

    fn of_manifest(manifest: &Manifest, origin: String) -> Result<Self> {
        #[derive(Deserialize)]
        struct Recorded {
            lora: Value,
            train: Steps,
            max_tokens: usize,
        }
        #[derive(Deserialize)]
        struct RecordedLora {
            r: usize,
            alpha: f64,
            use_rslora: bool,
            target_modules: Value,
        }
        let fault = |e: serde_json::Error| {
            Error::new(ErrorKind::Run, format!("the manifest does not record a training: {e}"))
        };
        let Recorded { lora, train, max_tokens } =
            serde_json::from_value(Value::Object(manifest.settings.clone())).map_err(fault)?;
        let lora = match lora {
            Value::Object(_) => {
                let RecordedLora { r, alpha, use_rslora, target_modules } =
                    serde_json::from_value(lora).map_err(fault)?;
                let target_modules = TargetModules::of_json(&target_modules)?;
                Some(Lora { r, alpha, use_rslora, target_modules })
            }
            _ => None,
        };
        Ok(Self { lora, train, max_tokens, is_of_run: true, origin })
    }

    /// Returns the defaults of `w2s train` for a model: a folder, whose family is read, or a name, which is
    /// taken for one of the family of the model that made the labels.
    pub(super) fn default_for(base_model: &str, labels: &Manifest) -> Self {
        let folder = Path::new(base_model);
        let own = LmConfig::read(&folder.join("config.json")).ok();
        let of_labels = || labels.settings.get("model_type").and_then(Value::as_str);
        let (family, of_what) = match (&own, of_labels()) {
            (Some(config), _) => (Some(config.model_type.as_str()), code_span(base_model)),
            (None, family @ Some(_)) => (family, "the run's model".to_owned()),
            (None, None) => (None, String::new()),
        };
        let layout = family.and_then(Layout::of_family);
        let origin = match (layout, family) {
            (Some(_), Some(family)) => format!("family {family} of {of_what}"),
            _ => "llama and most other families; check that they are the model's".to_owned(),
        };
        let default = TrainSettings::default();
        Self {
            lora: Some(Lora {
                r: 16,
                alpha: 32.0,
                use_rslora: false,
                target_modules: TargetModules::queries_and_values(layout.unwrap_or(Layout::Llama)),
            }),
            train: Steps {
                loss: default.loss,
                batch_size: default.batch_size,
                num_epochs: default.num_epochs,
                lr: default.lr,
                decay: default.decay,
                num_warmup: default.num_warmup,
                weight_decay: default.weight_decay,
                clip: default.clip,
                dropout: default.dropout,
            },
            max_tokens: MAX_TOKENS,
            is_of_run: false,
            origin: format!("the defaults of `w2s train`, with the target modules of {origin}"),
        }
    }

    /// Where they come from, in words.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// What a trainer does otherwise, as a sentence without its full stop.
    pub(super) fn remark(&self, trainer: &str) -> Option<String> {
        (self.train.loss != Loss::Tokens).then(|| {
            let loss = json!(self.train.loss);
            let name = loss["class"]["kind"].as_str().unwrap_or("another loss");
            format!("the training minimised {}, and {trainer} knows the cross-entropy of the answer only", code_span(name))
        })
    }

    /// Examples that are run at once, and how often, for a step of as many as are asked for.
    fn batches(&self) -> (usize, usize) {
        let size = self.train.batch_size.max(1);
        let at_once =
            (1..=MOST_AT_ONCE.min(size)).rev().find(|n| size.is_multiple_of(*n)).unwrap_or(1);
        (at_once, size / at_once)
    }

    /// The name of the schedule in transformers, which warms up in one of its two constant ones only.
    fn schedule(&self) -> &'static str {
        match (self.train.decay, self.train.num_warmup) {
            (Decay::Linear, _) => "linear",
            (Decay::Constant, 0) => "constant",
            (Decay::Constant, _) => "constant_with_warmup",
        }
    }

    /// Lines that all three trainers have by the names of transformers.
    fn steps(&self) -> String {
        format!(
            "warmup_steps: {}\nweight_decay: {}\nmax_grad_norm: {}\n",
            self.train.num_warmup,
            number(self.train.weight_decay),
            // 0 turns clipping off in transformers.
            number(self.train.clip.unwrap_or(0.0))
        )
    }

    /// The settings of TRL's trainer of a method.
    pub(super) fn trl(&self, method: TrlMethod) -> String {
        let (at_once, times) = self.batches();
        let mut text = match method {
            TrlMethod::Sft => "completion_only_loss: true\npacking: false\n".to_owned(),
            TrlMethod::Dpo | TrlMethod::Reward => String::new(),
        };
        text += &format!("max_length: {}\n", self.max_tokens);
        // How fast answers are learnt says nothing of how fast preferences are: TRL's own defaults are
        // those of each method.
        if method == TrlMethod::Sft || self.is_of_run {
            text += &format!("learning_rate: {}\n", number(self.train.lr));
        }
        text += &format!(
            "lr_scheduler_type: {}\n{}num_train_epochs: {}\nper_device_train_batch_size: {at_once}\ngradient_accumulation_steps: {times}\n",
            self.schedule(),
            self.steps(),
            self.train.num_epochs
        );
        if let Some(lora) = &self.lora {
            let modules = match &lora.target_modules {
                // TRL takes a list of one for its only entry, and PEFT a text for an expression.
                TargetModules::Names(names) if names.len() == 1 => {
                    json!([format!(r"(.*\.)?{}", regex::escape(&names[0]))]).to_string()
                }
                TargetModules::Names(names) => list(names),
                TargetModules::Pattern(pattern) => json!([pattern]).to_string(),
                TargetModules::AllLinear => "all-linear".to_owned(),
            };
            text += "use_peft: true\n";
            text += &self.lora_lines(lora, "lora_r");
            text += &format!("lora_target_modules: {modules}\n");
            text += if lora.use_rslora { "use_rslora: true\n" } else { "" };
            // The head of a reward model is new, so it is trained whole and saved with the adapter.
            text += if method == TrlMethod::Reward { "lora_task_type: SEQ_CLS\n" } else { "" };
        }
        text + "output_dir: output\nreport_to: none\n"
    }

    pub(super) fn axolotl(&self) -> String {
        let (at_once, times) = self.batches();
        let mut text = format!(
            "train_on_inputs: false\nsequence_len: {}\nsample_packing: false\n",
            self.max_tokens
        );
        if let Some(lora) = &self.lora {
            text += "adapter: lora\n";
            text += &self.lora_lines(lora, "lora_r");
            text += &match &lora.target_modules {
                TargetModules::Names(names) => format!("lora_target_modules: {}\n", list(names)),
                TargetModules::Pattern(pattern) => {
                    format!("lora_target_modules: {}\n", json!(pattern))
                }
                TargetModules::AllLinear => "lora_target_linear: true\n".to_owned(),
            };
            text += if lora.use_rslora { "peft_use_rslora: true\n" } else { "" };
        }
        text + &format!(
            "learning_rate: {}\nlr_scheduler: {}\n{}optimizer: adamw_torch\nnum_epochs: {}\nmicro_batch_size: {at_once}\ngradient_accumulation_steps: {times}\nbf16: auto\noutput_dir: output\n",
            number(self.train.lr),
            self.schedule(),
            self.steps(),
            self.train.num_epochs
        )
    }

    /// # Errors
    /// [`ErrorKind::Usage`] for target modules by an expression.
    pub(super) fn llama_factory(&self) -> Result<(String, String)> {
        let (at_once, times) = self.batches();
        let adapter = match &self.lora {
            None => "finetuning_type: full\n".to_owned(),
            Some(lora) => {
                let modules = match &lora.target_modules {
                    TargetModules::Names(names) => names.join(","),
                    TargetModules::AllLinear => "all".to_owned(),
                    TargetModules::Pattern(pattern) => {
                        return Err(Error::new(
                            ErrorKind::Usage,
                            format!(
                                "the training's target modules are an expression, {}, and LLaMA-Factory takes names",
                                code_span(pattern)
                            ),
                        )
                        .hint("export for TRL or axolotl, or train on modules by their names"));
                    }
                };
                let rslora = if lora.use_rslora { "use_rslora: true\n" } else { "" };
                format!(
                    "finetuning_type: lora\n{}lora_target: {}\n{rslora}",
                    self.lora_lines(lora, "lora_rank"),
                    text(&modules, "_.,")
                )
            }
        };
        let steps = format!(
            "cutoff_len: {}\ntrain_on_prompt: false\nlearning_rate: {}\nlr_scheduler_type: {}\n{}num_train_epochs: {}\nper_device_train_batch_size: {at_once}\ngradient_accumulation_steps: {times}\nbf16: true\noutput_dir: output\n",
            self.max_tokens,
            number(self.train.lr),
            self.schedule(),
            self.steps(),
            self.train.num_epochs
        );
        Ok((adapter, steps))
    }

    fn lora_lines(&self, lora: &Lora, rank: &str) -> String {
        // Trainers want a whole alpha where it is one.
        let alpha = match lora.alpha {
            x if x.fract() == 0.0 && x.abs() < 1e15 => format!("{x:.0}"),
            x => number(x),
        };
        format!(
            "{rank}: {}\nlora_alpha: {alpha}\nlora_dropout: {}\n",
            lora.r,
            number(self.train.dropout)
        )
    }
}

fn shown(path: &Path) -> String {
    code_span(&path.display().to_string())
}

/// A number that PyYAML reads as one: it takes `5e-5` for a text.
fn number(x: f64) -> String {
    let text = format!("{x:?}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let point = if digits.contains('.') { "" } else { ".0" };
            let sign = if power.starts_with('-') { "" } else { "+" };
            format!("{digits}{point}e{sign}{power}")
        }
        None => text,
    }
}

/// Names as a YAML list on one line.
fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| text(name, "_.")).collect();
    format!("[{}]", names.join(", "))
}

/// A YAML text, quoted if it has other characters than letters, digits and `more`.
fn text(text: &str, more: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    match text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain) {
        true => text.to_owned(),
        false => json!(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the grammar of YAML 1.1 floats that PyYAML has: a point, and a sign before the power.
    #[test]
    fn numbers_are_numbers_to_pyyaml() {
        let float = regex::Regex::new(r"^[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?$").unwrap();
        for x in [0.0, 1.0, 5e-5, 1.5e-7, 2e20, 0.05, 1e-3] {
            let text = number(x);
            assert!(float.is_match(&text), "{text}");
            assert_eq!(text.parse::<f64>().unwrap(), x);
        }
    }

    #[test]
    fn a_step_has_as_many_examples_as_it_was_trained_with() {
        let manifest = Manifest {
            command: "label".into(),
            command_line: Vec::new(),
            settings: serde_json::Map::new(),
            seed: 0,
            inputs: Vec::new(),
            gold_used: crate::run::GoldUse::no(),
            versions: serde_json::Map::new(),
        };
        let mut settings = TrainingSettings::default_for("org/model", &manifest);
        for (size, expected) in
            [(24, (8, 3)), (1, (1, 1)), (7, (7, 1)), (13, (1, 13)), (20, (5, 4))]
        {
            settings.train.batch_size = size;
            assert_eq!(settings.batches(), expected, "{size}");
        }
    }
}
