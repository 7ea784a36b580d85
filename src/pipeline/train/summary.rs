//! What a training came to: `summary.json`, and the model card that says it to people.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::card::use_from_python;
use super::items::Training;
use crate::data::Task;
use crate::error::Result;
use crate::report::{code_span, plain, yaml_scalar};
use crate::run::files::CARD;
use crate::run::{GoldUse, Manifest, RunDir};
use crate::train::{State, StepReport, Trainer};

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Questions trained on.
    pub num_items: usize,
    /// Questions set aside to validate on.
    pub num_validation: usize,
    /// Steps of the optimizer.
    pub num_steps: usize,
    /// Numbers that were trained.
    pub num_trained_parameters: usize,
    /// Mean loss of the first and of the last steps, an eighth of all.
    pub first_loss: f64,
    /// The same of the last steps.
    pub last_loss: f64,
    /// The lowest loss on the questions set aside.
    pub validation_loss: Option<f64>,
    /// The step after which the written adapter was trained.
    pub written_step: usize,
    /// Whether validation ended the training before its last step.
    pub stopped_early: bool,
    /// Examples without a label.
    pub num_unlabelled: usize,
    /// Labels without an answer that could be read.
    pub num_unread: usize,
    /// Questions of weight 0.
    pub num_weightless: usize,
    /// Questions cut to the most tokens.
    pub num_truncated: usize,
    /// Questions dropped as too long.
    pub num_dropped: usize,
    /// Tokens run through the model in training.
    pub tokens_run: u64,
    /// Tokens that it would have been without shared beginnings.
    pub tokens_without_sharing: u64,
}

/// What became of items that are longer than the most tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cuts {
    pub(super) num_truncated: usize,
    pub(super) num_dropped: usize,
}

/// Returns what a training came to.
pub(super) fn summary(
    training: &Training,
    cuts: Cuts,
    reports: &[StepReport],
    trainer: &Trainer<'_>,
    state: &State,
    written_step: usize,
) -> TrainSummary {
    let num = reports.len().div_ceil(8).max(1);
    let mean =
        |part: &[StepReport]| part.iter().map(|r| r.loss).sum::<f64>() / part.len().max(1) as f64;
    TrainSummary {
        num_items: training.items.len(),
        num_validation: training.validation.len(),
        num_steps: reports.len(),
        num_trained_parameters: trainer.optimizer().num_trained(),
        first_loss: mean(&reports[..num.min(reports.len())]),
        last_loss: mean(&reports[reports.len().saturating_sub(num)..]),
        validation_loss: state.best.map(|(loss, _)| loss),
        written_step,
        stopped_early: state.stopped,
        num_unlabelled: training.num_unlabelled,
        num_unread: training.num_unread,
        num_weightless: training.num_weightless,
        num_truncated: cuts.num_truncated,
        num_dropped: cuts.num_dropped,
        tokens_run: reports.iter().map(|r| r.num_tokens as u64).sum(),
        tokens_without_sharing: reports.iter().map(|r| r.num_sequence_tokens as u64).sum(),
    }
}

/// Writes the model card: what the adapter is, made of what, and how far it came.
pub(super) fn write_card(
    folder: &RunDir,
    manifest: &Manifest,
    summary: &TrainSummary,
    (base, task): (&Path, &Task),
) -> Result<()> {
    let setting = |name: &str| match &manifest.settings[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let is_adapter = manifest.settings["lora"].is_object();
    let (head, what) = if is_adapter {
        ("library_name: peft\ntags:\n- w2s\n- lora", "A LoRA adapter for")
    } else {
        ("tags:\n- w2s", "All weights of")
    };
    let model = setting("model");
    let mut card = format!(
        "---\nbase_model: {}\n{head}\n---\n\n# Made by `w2s train`\n\n\
         {} {}, trained on task {} with labels {}.\n\n",
        yaml_scalar(&model),
        what,
        code_span(&model),
        code_span(&setting("task")),
        code_span(&setting("labels")),
    );
    match &manifest.gold_used {
        GoldUse::Because(reason) => {
            card += &format!("Gold labels had a part in it: {}.\n\n", plain(reason));
        }
        GoldUse::No(_) => card += "No gold label had a part in it.\n\n",
    }
    card += &use_from_python(base, is_adapter, task);
    card += "## How it came about\n\n| metric | value |\n|---|---|\n";
    if let Value::Object(metrics) = json!(summary) {
        for (name, value) in metrics.iter().filter(|(_, value)| !value.is_null()) {
            card += &format!("| {name} | {value} |\n");
        }
    }
    card += "\n| input | SHA-256 |\n|---|---|\n";
    for input in &manifest.inputs {
        card += &format!("| {} {} | {} |\n", input.role, code_span(&input.path), input.sha256);
    }
    card += &format!(
        "\nSettings, seed {}:\n\n```json\n{:#}\n```\n",
        manifest.seed,
        Value::Object(manifest.settings.clone())
    );
    folder.write(CARD, card.as_bytes())
}
