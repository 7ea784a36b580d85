//! A run in one line, and what made it: settings, inputs, versions, costs.

use std::path::Path;

use serde_json::Value;

use super::files::read_json;
use super::run::{AnyRun, Shown};
use super::text;
use super::words::interval;
use crate::error::Result;

/// What is shown of every run, of whatever command.
#[derive(Debug)]
pub(super) struct Overview {
    pub name: String,
    /// The folder as it was named.
    pub folder: String,
    pub command: String,
    pub method: Option<String>,
    pub task: Option<String>,
    pub data: Option<String>,
    pub model: Option<String>,
    pub adapter: Option<String>,
    pub score: Option<String>,
    /// Accuracy with its interval, or what stands in its place.
    pub result: Option<(String, String)>,
    pub tokens: Option<u64>,
    pub tokens_full_prompts: Option<u64>,
    pub seconds: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    pub gold_used: Option<String>,
    pub command_line: Vec<String>,
    pub settings: Vec<(String, String)>,
    /// Role, path and digest of each file read.
    pub inputs: Vec<[String; 3]>,
    pub versions: Vec<(String, String)>,
    /// What the run counted and how long it took.
    pub costs: Vec<(String, String)>,
}

impl Overview {
    /// Returns what is shown of the run in `dir`, which was read as `run`.
    ///
    /// # Errors
    /// When a file is broken.
    pub(super) fn read(dir: &Path, run: &Shown, name: &str) -> Result<Self> {
        let manifest: Value = read_json(&dir.join("manifest.json"), "this is not a run folder")?;
        let summary: Value = read_json(&dir.join("summary.json"), "finish the run first")?;
        let path = dir.join("timing.json");
        let timing: Value = if path.exists() { read_json(&path, "")? } else { Value::Null };
        let settings = &manifest["settings"];
        let named = |key: &str| settings[key].as_str().map(str::to_owned);
        let whole = |key: &str| summary[key].as_u64();
        let seconds = ["session_seconds", "last_session_seconds"]
            .iter()
            .find_map(|key| timing[*key].as_f64());
        let mut costs = flat("", &counts(&summary));
        costs.extend(flat("", &timing));
        let inputs = manifest["inputs"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Self {
            name: name.to_owned(),
            folder: dir.display().to_string(),
            command: manifest["command"].as_str().unwrap_or("label").to_owned(),
            method: named("method"),
            task: named("task"),
            data: named("data").or_else(|| {
                let inputs = manifest["inputs"].as_array()?;
                let data = inputs.iter().find(|input| input["role"] == "data")?;
                data["path"].as_str().map(str::to_owned)
            }),
            model: named("model"),
            adapter: named("adapter"),
            score: summary["score"].as_f64().map(|score| text::number(score, 2)),
            result: result(run),
            tokens: match run {
                Shown::Train(run) => Some(run.tokens()),
                _ => whole("tokens_computed"),
            },
            tokens_full_prompts: whole("tokens_full_prompts")
                .or_else(|| whole("tokens_without_sharing")),
            seconds,
            peak_memory_bytes: timing["peak_memory_bytes"].as_u64(),
            gold_used: match &manifest["gold_used"] {
                Value::Null | Value::Bool(false) => None,
                Value::String(reason) => Some(reason.clone()),
                _ => Some("yes".to_owned()),
            },
            command_line: manifest["command_line"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect(),
            settings: {
                let mut all = flat("", settings);
                all.push(("seed".to_owned(), plain(&manifest["seed"])));
                all
            },
            inputs: inputs
                .map(|input| ["role", "path", "sha256"].map(|key| text(&input[key])))
                .collect(),
            versions: flat("", &manifest["versions"]),
            costs,
        })
    }

    /// Returns the share of tokens that sharing beginnings saved, where it is known.
    pub(super) fn saved(&self) -> Option<f64> {
        let (computed, full) = (self.tokens? as f64, self.tokens_full_prompts? as f64);
        (full > 0.0 && computed < full).then(|| 1.0 - computed / full)
    }
}

fn result(run: &Shown) -> Option<(String, String)> {
    match run {
        Shown::Labels(AnyRun::Labels(run)) => {
            let found = &run.evaluation;
            let of = format!("of {}", text::grouped(found.num_with_gold as u64));
            Some((interval(found.accuracy, found.wilson_low, found.wilson_high), of))
        }
        Shown::Labels(AnyRun::Weak(run)) => {
            let (before, kept) = (&run.evaluation.before, &run.evaluation.kept);
            let all = interval(before.accuracy?, before.wilson_low, before.wilson_high);
            let kept = kept.accuracy.map_or_else(
                || "none kept with gold".to_owned(),
                |rate| format!("kept: {}", interval(rate, kept.wilson_low, kept.wilson_high)),
            );
            Some((all, kept))
        }
        Shown::Train(run) => Some((run.losses(), String::new())),
        Shown::Loop(run) => run.result(),
        Shown::Unevaluated(_) => None,
    }
}

/// The numbers of a summary, without its tables.
fn counts(summary: &Value) -> Value {
    let Value::Object(map) = summary else { return summary.clone() };
    map.iter()
        .filter(|(_, value)| !value.is_null() && !value.is_array())
        .map(|(key, value)| (key.clone(), counts(value)))
        .collect()
}

/// Returns the leaves of a tree of values by their paths.
fn flat(path: &str, value: &Value) -> Vec<(String, String)> {
    let Value::Object(map) = value else {
        return if path.is_empty() { Vec::new() } else { vec![(path.to_owned(), plain(value))] };
    };
    let join = |key: &String| if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
    map.iter().flat_map(|(key, value)| flat(&join(key), value)).collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            // More digits say nothing here, and the files have them.
            let rounded = format!("{number:.4}");
            match number.abs() >= 1e-2 {
                true => rounded.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => number.to_string(),
            }
        }
        other => other.to_string(),
    }
}
