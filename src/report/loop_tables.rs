//! The page's part on loops: how right each round's labels are, and what the brakes saw.

use std::path::Path;

use serde_json::Value;

use super::document::Document;
use super::files::{Identity, Start, read_json, read_lines};
use super::loop_curve::{LoopChart, LoopPoint, LoopRate};
use super::text;
use super::words::{interval, or_dash, percent};
use crate::error::Result;
use crate::eval::{LoopEvaluation, Rate, RoundEvaluation};
use crate::run::{LOOP, LoopRecord, ROUNDS, Round};

/// A loop's content, as far as it is shown.
#[derive(Debug)]
pub(super) struct LoopRun {
    pub identity: Identity,
    gold_used: Option<String>,
    settings: Value,
    record: LoopRecord,
    rounds: Vec<Round>,
    /// None for a loop that was not evaluated.
    evaluation: Option<LoopEvaluation>,
}

impl LoopRun {
    /// Returns the loop in a folder that begins as `start` says.
    ///
    /// # Errors
    /// When a file is missing or broken.
    pub(super) fn read(dir: &Path, start: Start) -> Result<Self> {
        let hint = "the loop did not end; continue it with `--resume`";
        let manifest: Value = read_json(&dir.join("manifest.json"), hint)?;
        let evaluated = dir.join("eval.json");
        Ok(Self {
            record: read_json(&dir.join(LOOP), hint)?,
            rounds: read_lines(&dir.join(ROUNDS))?,
            evaluation: evaluated.exists().then(|| read_json(&evaluated, "")).transpose()?,
            settings: manifest["settings"].clone(),
            identity: Identity {
                folder: start.folder,
                method: "loop".to_owned(),
                method_name: "loop".to_owned(),
                task: start.task.unwrap_or_default(),
                model: start.model,
            },
            gold_used: start.gold_used,
        })
    }

    /// Returns what its labels are worth: how many, and how many of them are right.
    pub(super) fn result(&self) -> Option<(String, String)> {
        let evaluation = self.evaluation.as_ref()?;
        let Some(all) = &evaluation.labels else {
            return Some(("-".to_owned(), "no round was kept".to_owned()));
        };
        let of = format!("of {} labels", text::grouped(self.record.num_labels as u64));
        Some((with_interval(all), of))
    }

    fn evaluated(&self, round: usize) -> Option<&RoundEvaluation> {
        self.evaluation.as_ref()?.rounds.iter().find(|one| one.round == round)
    }

    /// Returns what a reader of the loop's numbers should know.
    pub(super) fn notes(&self, name: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(reason) = &self.gold_used {
            notes.push(format!("{name} used gold labels: {reason}"));
        }
        if let Some(reason) = &self.record.stopped {
            notes.push(format!(
                "{name} was stopped: {reason}; the last round that counts is {}",
                self.record.last_good_round
            ));
        }
        if self.evaluation.is_none() {
            notes.push(format!(
                "{name} was not evaluated; `w2s eval --gold FILE` on it gives the accuracies"
            ));
        }
        notes
    }

    /// Returns its chart under a title.
    pub(super) fn chart(&self, title: String) -> LoopChart {
        let rate = |rate: &Option<Rate>| {
            rate.as_ref().map(|rate| LoopRate { rate: rate.accuracy, interval: rate.interval })
        };
        let zero = self.evaluated(0).map(|before| LoopPoint {
            round: 0,
            held_out: rate(&before.held_out),
            ..LoopPoint::default()
        });
        let point = |round: &Round| {
            let evaluated = self.evaluated(round.round);
            LoopPoint {
                round: round.round,
                batch: evaluated.and_then(|one| rate(&one.batch)),
                held_out: evaluated.and_then(|one| rate(&one.held_out)),
                flip_rate: round.flip_rate,
                class_entropy: Some(round.class_entropy),
                agreement: round.agreement,
            }
        };
        LoopChart {
            title,
            subtitle: self.set(),
            points: zero.into_iter().chain(self.rounds.iter().map(point)).collect(),
            stopped: self.record.stopped.as_ref().map(|_| self.record.num_rounds),
        }
    }

    /// What the loop does, in words.
    fn set(&self) -> String {
        let is = |key: &str| self.settings[key].as_bool().unwrap_or(false);
        let mut parts = vec![format!(
            "{} batches, {} examples held out",
            self.record.num_batches, self.record.num_held_out
        )];
        if self.settings["later"] == "predict" {
            parts.push("later batches by the model's answer alone".into());
        }
        parts.extend(is("filter").then(|| "filtered by entropy".to_owned()));
        parts.extend(is("reweight").then(|| "weighed by reliability".to_owned()));
        let by = self.settings["relabel"]["by"].as_str().unwrap_or("none");
        if by != "none" {
            parts.push(format!("contradicted labels: {by}"));
        }
        parts.join("; ")
    }
}

fn with_interval(Rate { accuracy, interval: [low, high], .. }: &Rate) -> String {
    interval(*accuracy, *low, *high)
}

/// Returns the tables of all loops; empty without any.
pub(super) fn tables(runs: &[(LoopRun, String)]) -> Document {
    let mut page = Document::default();
    let rate = |rate: Option<&Rate>| or_dash(rate.map(with_interval));
    let share = |value: Option<f64>| or_dash(value.map(|value| format!("{}%", percent(value))));
    for (run, name) in runs {
        page.heading(2, &format!("Rounds of {name}"));
        page.table_with_words(
            &[
                "round",
                "labelled",
                "by",
                "U",
                "accuracy of new labels",
                "held-out accuracy",
                "class entropy",
                "contradicted",
                "flipped, dropped",
                "as before",
                "tokens",
                "seconds",
            ],
            &[0, 2],
        );
        if let Some(before) = run.evaluated(0) {
            let mut cells = vec!["-".to_owned(); 12];
            cells[0] = "0".to_owned();
            cells[5] = rate(before.held_out.as_ref());
            page.row(&cells);
        }
        for round in &run.rounds {
            let evaluated = run.evaluated(round.round);
            page.row(&[
                round.round.to_string(),
                text::grouped(round.num_labelled as u64),
                round.method.clone(),
                or_dash(round.score.map(|score| text::number(score, 2))),
                rate(evaluated.and_then(|one| one.batch.as_ref())),
                rate(evaluated.and_then(|one| one.held_out.as_ref())),
                format!("{:.2}", round.class_entropy),
                share(round.flip_rate),
                format!("{}, {}", round.num_flipped, round.num_dropped),
                share(round.agreement),
                text::grouped(round.tokens),
                text::number(round.seconds, 1),
            ]);
        }
        if let Some((accuracy, of)) = run.result() {
            page.say(&format!("All labels: {accuracy}, {of}."));
        }
    }
    page
}
