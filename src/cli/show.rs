//! `w2s show`: what a run is, what it came to, and what may come next.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::runs::state;
use super::settings_text::dtype_name;
use super::terminal;
use super::words::{duration, next, verdict};
use w2s::error::{Error, ErrorKind, Result};
use w2s::label::Summary;
use w2s::pipeline::{Shown, Verdict};
use w2s::run::RunState;

/// Show what a run is: what made it, from what, when and where, its result, and what to do next
///
/// Works on a run that is unfinished, or still at work, too. Only reads.
///
/// Examples:
///   w2s show runs/mine
///   w2s show runs/mine --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ShowArgs {
    /// Run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Print a JSON object with everything that is known of the run
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: ShowArgs) -> Result<()> {
    let shown = Shown::read(&args.run)?;
    if args.json {
        let text = serde_json::to_string_pretty(&shown)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        return terminal::print(format_args!("{text}"));
    }
    for (name, lines) in rows(&shown) {
        for (index, line) in lines.into_iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            terminal::print(format_args!("{name:<8} {line}"))?;
        }
    }
    Ok(())
}

fn rows(shown: &Shown) -> Vec<(&'static str, Vec<String>)> {
    let manifest = &shown.manifest;
    let method = shown
        .setting("method")
        .filter(|name| *name != manifest.command)
        .map_or_else(String::new, |name| format!(" ({name})"));
    let what = format!(
        "{}: w2s {}{method}, {}",
        shown.path.display(),
        manifest.command,
        state(&shown.state)
    );
    let mut rows = vec![("run", vec![what])];
    if let Some(origin) = &shown.origin {
        let date = origin.date.replace('T', " ").replace('Z', " UTC");
        let mut lines = vec![date];
        if let Some(seconds) = number(shown.timing.as_ref(), "session_seconds") {
            lines[0] += &format!(", took {}", duration(seconds));
        }
        let host = origin.host.as_deref().map(|host| format!("on {host}"));
        let folder = origin.folder.as_ref().map(|folder| format!("in {}", folder.display()));
        let place: Vec<String> = host.into_iter().chain(folder).collect();
        if !place.is_empty() {
            lines.push(place.join(" "));
        }
        rows.push(("when", lines));
    }
    rows.push(("from", from(shown)));
    let program = manifest.versions.get("w2s").and_then(Value::as_str).unwrap_or("unknown");
    let commit = shown.origin.as_ref().and_then(|origin| origin.commit.as_deref());
    let commit = commit.map_or_else(String::new, |commit| format!(", commit {commit}"));
    rows.push(("by", vec![format!("w2s {program}{commit}, seed {}", manifest.seed)]));
    let gold =
        shown.gold().map_or_else(|| "not used".to_owned(), |reason| format!("used: {reason}"));
    rows.push(("gold", vec![gold]));
    let result = result(shown);
    if !result.is_empty() {
        rows.push(("result", result));
    }
    rows.push(("typed", vec![shown.typed.clone()]));
    let summary = shown.summary.clone().filter(|_| manifest.command == "label");
    if let Some(Ok(summary)) = summary.map(serde_json::from_value::<Summary>) {
        let text = verdict::text(&Verdict::of(&summary));
        rows.push(("verdict", vec![text.trim_start_matches("verdict: ").to_owned()]));
    }
    let next = match &shown.state {
        RunState::Complete => next::after(shown),
        RunState::Unfinished { .. } => vec![format!("{} --resume", without_resume(&shown.typed))],
        RunState::Damaged { .. } => vec![format!("{} --force", without_resume(&shown.typed))],
    };
    if !next.is_empty() {
        rows.push(("next", next));
    }
    rows
}

fn without_resume(typed: &str) -> String {
    typed.replace(" --resume", "").replace(" --force", "")
}

fn number(value: Option<&Value>, name: &str) -> Option<f64> {
    value?.get(name)?.as_f64()
}

/// What the run read.
fn from(shown: &Shown) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(task) = shown.setting("task") {
        let fields = shown.manifest.settings.get("fields").and_then(Value::as_object);
        let columns = fields
            .into_iter()
            .flatten()
            .map(|(name, column)| format!("{name} from column {}", column.as_str().unwrap_or("-")));
        let id = shown.setting("id_column").map(|column| format!("ids from column {column}"));
        let parts: Vec<String> =
            [format!("task {task}")].into_iter().chain(columns).chain(id).collect();
        lines.push(parts.join(", "));
    }
    for (name, role) in [("data", "data"), ("test", "test")] {
        if let Some(path) =
            shown.setting(name).or_else(|| shown.input(role).map(|i| i.path.as_str()))
        {
            lines.push(format!("{name} {path}"));
        }
    }
    for input in &shown.manifest.inputs {
        let role = input.role.as_str();
        let is_label = ["labels", "answers", "weights", "gold", "demonstrations", "ids", "sample"]
            .iter()
            .any(|name| role.starts_with(name));
        if is_label {
            lines.push(format!("{role} {}", input.path));
        }
    }
    if let Some(model) = shown.setting("model") {
        let adapter = shown
            .setting("adapter")
            .map_or_else(String::new, |folder| format!(" with adapter {folder}"));
        let dtype = shown.setting("dtype").map(dtype_name);
        let place = shown.setting("device").zip(dtype);
        let place =
            place.map_or_else(String::new, |(device, dtype)| format!(" ({device} in {dtype})"));
        lines.push(format!("model {model}{adapter}{place}"));
    }
    lines
}

/// What it came to.
fn result(shown: &Shown) -> Vec<String> {
    let summary = shown.summary.as_ref();
    let of = |name: &str| number(summary, name);
    let mut lines = Vec::new();
    let is_empty = of("num_labels") == Some(0.0);
    let share = summary.and_then(|summary| summary.get("share")?.as_object());
    if let Some(share) = share.filter(|_| !is_empty) {
        let shares: Vec<String> = share
            .iter()
            .map(|(label, share)| format!("{label} {:.0} %", 100.0 * share.as_f64().unwrap_or(0.0)))
            .collect();
        let num = of("num_examples").map_or_else(String::new, |num| format!("{num:.0} examples: "));
        lines.push(format!("{num}{}", shares.join(", ")));
    }
    if let Some(score) = of("score") {
        lines.push(format!("score U {score:.2}"));
    }
    if let (Some(kept), Some(all)) = (of("num_kept"), of("num_examples")) {
        lines.push(format!("{kept:.0} of {all:.0} questions kept"));
    }
    if let (Some(first), Some(last), Some(steps)) =
        (of("first_loss"), of("last_loss"), of("num_steps"))
    {
        lines.push(format!("loss {first:.4} to {last:.4} in {steps:.0} steps"));
    }
    if let Some(num) = of("num_labels") {
        lines.push(format!("{num:.0} labels"));
    }
    let evaluation = shown.evaluation.as_ref();
    let accuracy = number(evaluation, "accuracy")
        .or_else(|| evaluation.and_then(|found| found.get("before")?.get("accuracy")?.as_f64()));
    if let Some(accuracy) = accuracy {
        lines.push(format!("accuracy {:.1} % against gold (eval.json)", 100.0 * accuracy));
    }
    lines
}
