//! The page's part on runs of `w2s train`: how they were set, how far they came, how fast.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::document::Document;
use super::files::{Identity, Start, read_json, read_lines};
use super::loss::{LossChart, LossPoint};
use super::text;
use super::words::or_dash;
use crate::error::{Error, ErrorKind, Result};

/// A training's content, as far as it is shown.
#[derive(Debug)]
pub(super) struct TrainRun {
    pub identity: Identity,
    gold_used: Option<String>,
    settings: Value,
    summary: Summary,
    timing: Timing,
    points: Vec<LossPoint>,
    validation: Vec<(usize, f64)>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    num_items: usize,
    num_validation: usize,
    num_steps: usize,
    first_loss: f64,
    last_loss: f64,
    validation_loss: Option<f64>,
    written_step: usize,
    stopped_early: bool,
    tokens_run: u64,
}

/// How long the last session took.
#[derive(Debug, Default, Deserialize)]
struct Timing {
    work_seconds: f64,
    /// None for runs of earlier versions.
    session_tokens: Option<u64>,
}

/// A line of a step or of a validation.
#[derive(Deserialize)]
struct Line {
    step: usize,
    loss: Option<f64>,
    lr: Option<f64>,
    validation_loss: Option<f64>,
}

impl TrainRun {
    /// Returns the training in a folder that begins as `start` says.
    ///
    /// # Errors
    /// When a file is missing or broken.
    pub(super) fn read(dir: &Path, start: Start) -> Result<Self> {
        let hint = "the run did not finish; finish it before reporting on it";
        let path = dir.join("metrics.jsonl");
        let lines: Vec<Line> = read_lines(&path)?;
        let step = |line: &Line| {
            Some(LossPoint { step: line.step, loss: line.loss?, lr: line.lr.unwrap_or(0.0) })
        };
        let points: Vec<LossPoint> = lines.iter().filter_map(step).collect();
        if points.is_empty() {
            return Err(Error::new(ErrorKind::Run, "the file has no step")
                .at(&path)
                .hint("the run is damaged; make it again"));
        }
        let manifest: Value = read_json(&dir.join("manifest.json"), hint)?;
        Ok(Self {
            identity: Identity {
                folder: start.folder,
                method: "train".to_owned(),
                method_name: "training".to_owned(),
                task: start.task.unwrap_or_default(),
                model: start.model,
            },
            gold_used: start.gold_used,
            settings: manifest["settings"].clone(),
            summary: read_json(&dir.join("summary.json"), hint)?,
            timing: read_json(&dir.join("timing.json"), hint)?,
            validation: lines.iter().filter_map(|l| Some((l.step, l.validation_loss?))).collect(),
            points,
        })
    }

    /// Returns what a reader of the run's numbers should know.
    pub(super) fn notes(&self, name: &str) -> Vec<String> {
        let Summary { written_step, num_steps, stopped_early, .. } = self.summary;
        let mut notes = Vec::new();
        if let Some(reason) = &self.gold_used {
            notes.push(format!("{name} used gold labels: {reason}"));
        }
        if stopped_early {
            notes.push(format!(
                "{name} ended early, after step {num_steps}: the validation loss fell no more"
            ));
        }
        if written_step != num_steps {
            notes.push(format!(
                "{name} wrote the weights of step {written_step} of {num_steps}, of the lowest \
                 validation loss"
            ));
        }
        notes
    }

    /// Returns its chart under a title.
    pub(super) fn chart(&self, title: String) -> LossChart {
        let Summary { num_items, num_validation, num_steps, written_step, .. } = self.summary;
        let [items, aside, steps] =
            [num_items, num_validation, num_steps].map(|num| text::grouped(num as u64));
        let aside = if num_validation > 0 { format!(", {aside} set aside") } else { String::new() };
        LossChart {
            title,
            subtitle: format!("{items} items{aside}, {steps} steps; {}", self.set()),
            points: self.points.clone(),
            validation: self.validation.clone(),
            written_step: (written_step != num_steps).then_some(written_step),
        }
    }

    /// Returns its losses in words.
    pub(super) fn losses(&self) -> String {
        let Summary { first_loss, last_loss, validation_loss, .. } = &self.summary;
        let validation =
            validation_loss.map(|loss| format!(", validation {loss:.3}")).unwrap_or_default();
        format!("loss {first_loss:.3} to {last_loss:.3}{validation}")
    }

    /// Returns how many tokens were run.
    pub(super) fn tokens(&self) -> u64 {
        self.summary.tokens_run
    }

    /// What trains and how, in words.
    fn set(&self) -> String {
        let train = &self.settings["train"];
        let number = |value: &Value| match value.as_f64() {
            Some(number) if number != 0.0 && number.abs() < 1e-2 => format!("{number:e}"),
            Some(number) => number.to_string(),
            None => value.to_string(),
        };
        let lora = &self.settings["lora"];
        let what = match lora.is_object() {
            true => format!("LoRA r {}, alpha {}", lora["r"], number(&lora["alpha"])),
            false => "all weights".to_owned(),
        };
        let loss = match &train["loss"] {
            Value::String(name) => name.clone(),
            other => other["class"]["kind"].as_str().unwrap_or("other").to_owned(),
        };
        let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!(
            "{what}, {loss} loss, rate {} ({}), batch {}, epochs {}",
            number(&train["lr"]),
            plain(&train["decay"]),
            train["batch_size"],
            train["num_epochs"]
        )
    }

    fn labels(&self) -> String {
        let named = |key: &str| self.settings[key].as_str();
        named("answers").or(named("labels")).unwrap_or("-").to_owned()
    }
}

/// Returns the table of all trainings; empty without any.
pub(super) fn table(runs: &[(TrainRun, String)]) -> Document {
    let mut page = Document::default();
    if runs.is_empty() {
        return page;
    }
    page.heading(2, "Trainings");
    page.table_with_words(
        &[
            "run",
            "labels",
            "settings",
            "items",
            "steps",
            "first loss",
            "last loss",
            "lowest validation loss",
            "tokens",
            "tokens per second",
        ],
        &[0, 1, 2],
    );
    for (run, name) in runs {
        let Summary { num_items, num_steps, tokens_run, .. } = run.summary;
        let Timing { work_seconds, session_tokens } = run.timing;
        let speed = session_tokens.filter(|_| work_seconds > 0.0);
        let loss = |loss: f64| format!("{loss:.4}");
        page.row(&[
            name.clone(),
            run.labels(),
            run.set(),
            text::grouped(num_items as u64),
            text::grouped(num_steps as u64),
            loss(run.summary.first_loss),
            loss(run.summary.last_loss),
            or_dash(run.summary.validation_loss.map(loss)),
            text::grouped(tokens_run),
            or_dash(speed.map(|tokens| text::grouped((tokens as f64 / work_seconds) as u64))),
        ]);
    }
    page.say(
        "First and last loss are means over an eighth of the steps. Tokens per second are of the last \
         session, with validation and checkpoints.",
    );
    page
}
