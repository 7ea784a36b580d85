//! `w2s eval`: the first and only place of the flow where labels meet gold.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::progress;
use crate::data::{GoldLabels, Task, read_label_records};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Evaluation, Prediction, curve_from_trace, evaluate};
use crate::label::log_odds;
use crate::run::{Manifest, RunDir, write_atomic};

/// Compare labels with gold: accuracy with its interval, balance, AUROC
///
/// Joins the labels of each run with the gold file by id. Writes eval.json into each run folder and,
/// for a search, curve.jsonl (score and accuracy by iteration); prints one line a run.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Run folders to evaluate
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Gold labels: any data file with `id` and the task's gold column
    #[arg(long, value_name = "FILE")]
    gold: PathBuf,
}

pub(super) fn run(args: EvalArgs) -> Result<()> {
    let width = args.runs.iter().map(|run| run.display().to_string().len()).max().unwrap_or(0);
    for run in &args.runs {
        let evaluation = evaluate_run(run, &args.gold)?;
        progress::print(format_args!("{:<width$}  {}", run.display(), line(&evaluation)))?;
    }
    Ok(())
}

fn evaluate_run(run: &std::path::Path, gold: &std::path::Path) -> Result<Evaluation> {
    let (folder, manifest) = RunDir::existing(run)?;
    if !folder.is_complete() {
        return Err(Error::new(ErrorKind::Run, "the run is not complete")
            .at(run)
            .hint("end it first: the same `w2s label` command with `--resume`"));
    }
    let task = task_of(&manifest, run)?;
    let gold = GoldLabels::read(gold, &task)?;
    let names: Vec<String> = task.labels.iter().map(|label| label.name.clone()).collect();
    let index = |name: &str| names.iter().position(|known| known == name);
    let path = folder.file("labels.jsonl");
    let mut items = Vec::new();
    for record in read_label_records(&path, &task)? {
        let Some(label) = index(&record.label) else {
            return Err(Error::new(
                ErrorKind::Data,
                format!("label `{}` of `{}` is not the task's", record.label, record.id),
            )
            .at(&path));
        };
        let logprobs: Option<Vec<f64>> = names
            .iter()
            .map(|name| record.logprobs.iter().find(|(l, _)| l == name).map(|(_, lp)| *lp))
            .collect();
        items.push(Prediction {
            gold: gold.get(&record.id),
            id: record.id,
            label,
            log_odds: logprobs.map(|logprobs| log_odds(&logprobs, task.positive)),
        });
    }
    let method = manifest.settings.get("method").and_then(Value::as_str).unwrap_or("unknown");
    let summary = read_json(&folder.file("summary.json"))?;
    let num_examples = summary.get("num_examples").and_then(Value::as_u64);
    let evaluation = evaluate(method, &task.name, &names, task.positive, &items)?
        .for_column(gold.columns().join(", "))
        .out_of(num_examples.map_or(items.len(), |n| n as usize))?;
    folder.write_json("eval.json", &evaluation)?;
    let trace = folder.file("trace.jsonl");
    if trace.exists() {
        let points = curve_from_trace(&trace, &|id| gold.get(id), &index)?;
        let mut text = String::new();
        for point in &points {
            let json = serde_json::to_string(point)
                .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
            text.push_str(&json);
            text.push('\n');
        }
        write_atomic(&folder.file("curve.jsonl"), text.as_bytes())?;
    }
    Ok(evaluation)
}

/// The task a run was made with, unchanged since.
fn task_of(manifest: &Manifest, run: &std::path::Path) -> Result<Task> {
    let Some(name) = manifest.settings.get("task").and_then(Value::as_str) else {
        return Err(Error::new(ErrorKind::Run, "the run's manifest names no task").at(run));
    };
    let task = Task::load(name)?;
    let before = manifest.inputs.iter().find(|input| input.role == "task");
    if before.is_some_and(|input| input.sha256 != task.sha256) {
        return Err(Error::new(ErrorKind::Run, format!("task `{name}` changed since the run"))
            .at(run)
            .hint("evaluate with the program and the task file that made the labels"));
    }
    Ok(task)
}

fn read_json(path: &std::path::Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Run, format!("broken JSON: {e}")).at(path))
}

fn line(e: &Evaluation) -> String {
    let percent = |x: f64| 100.0 * x;
    let mut text = format!(
        "{:<9} accuracy {:.1} % [{:.1}, {:.1}] ({} of {})",
        e.method,
        percent(e.accuracy),
        percent(e.wilson_low),
        percent(e.wilson_high),
        e.num_correct,
        e.num_with_gold
    );
    if let Some(balanced) = e.balanced_accuracy {
        text += &format!("  balanced {:.1} %", percent(balanced));
    }
    if let Some(auroc) = e.auroc {
        text += &format!("  AUROC {auroc:.3}");
    }
    let shares: Vec<String> =
        e.share.iter().map(|(label, x)| format!("{label} {:.0} %", percent(*x))).collect();
    text + "  labels: " + &shares.join(", ")
}
