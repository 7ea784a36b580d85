//! `w2s diff`: the first proposal, score, label or loss in which two runs differ.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::terminal;
use w2s::error::Result;
use w2s::run::{Difference, Parting, RunDiff, diff_runs};

/// Name the first proposal, score, label or loss in which two runs differ
///
/// Says first in which settings and inputs the runs differ. The exit status is 0 when both found the
/// same and 1 when not, or when a folder is at fault (then there is an error message). The command
/// line, paths of inputs with equal contents, wall time and cost are not compared.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The first run folder
    #[arg(value_name = "RUN_A")]
    a: PathBuf,
    /// The second run folder
    #[arg(value_name = "RUN_B")]
    b: PathBuf,
    /// Numbers at most this far apart count as equal
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    tolerance: f64,
}

/// Prints in what the runs differ and returns whether they agree.
pub(super) fn run(args: &DiffArgs) -> Result<bool> {
    let diff = diff_runs(&args.a, &args.b, args.tolerance)?;
    for line in lines(&diff) {
        terminal::print(format_args!("{line}"))?;
    }
    Ok(diff.agrees())
}

fn lines(diff: &RunDiff) -> Vec<String> {
    let mut out = Vec::new();
    if diff.settings.is_empty() {
        out.push("settings and inputs: the same".to_owned());
    } else {
        out.push("settings and inputs:".to_owned());
        out.extend(diff.settings.iter().map(difference));
    }
    let counts = diff.labels;
    let trained = diff.command == "train";
    if diff.agrees() {
        if trained {
            out.push("the runs agree: every step, loss and gradient's norm".to_owned());
            return out;
        }
        out.push(format!("the runs agree: {} labels, every proposal and score", counts.num_shared));
        return out;
    }
    for (i, part) in diff.partings.iter().enumerate() {
        parting(if i == 0 { "first difference" } else { "and" }, part, &mut out);
    }
    if trained {
        return out;
    }
    out.push(format!("labels: {} of {} differ", counts.num_different, counts.num_shared));
    if counts.num_in_one > 0 {
        out.push(format!("  {} examples are labelled by one run only", counts.num_in_one));
    }
    if let Some(answer) = &diff.first_answer {
        parting("first answer of the model that differs", answer, &mut out);
        let asked_another = answer.differences.iter().any(|d| d.name == "tree");
        out.push(if asked_another {
            "  the model was asked another question: data, settings or earlier answers differ"
                .into()
        } else {
            "  the question was the same, the answer was not: weights, device or number type".into()
        });
    }
    out
}

/// Differences of one place that are shown.
const MAX_SHOWN: usize = 8;
/// Characters of a value that are shown.
const MAX_VALUE_CHARS: usize = 100;

fn parting(head: &str, part: &Parting, out: &mut Vec<String>) {
    let line = part.line.map(|line| format!(" line {line}")).unwrap_or_default();
    out.push(format!("{head}: {}{line}: {}", part.file, part.what));
    out.extend(part.differences.iter().take(MAX_SHOWN).map(difference));
    if part.differences.len() > MAX_SHOWN {
        out.push(format!("  and {} more", part.differences.len() - MAX_SHOWN));
    }
}

fn difference(difference: &Difference) -> String {
    let show = |value: &Value| {
        let text = if value.is_null() { "none".to_owned() } else { value.to_string() };
        match text.char_indices().nth(MAX_VALUE_CHARS) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        }
    };
    format!("  {}: {} and {}", difference.name, show(&difference.a), show(&difference.b))
}
