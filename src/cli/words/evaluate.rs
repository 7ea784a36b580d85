//! What `w2s eval` prints: labels, filters and loops against gold.

use std::path::PathBuf;

use w2s::eval::{
    Basins, Estimate, Evaluation, LabelMetrics, LoopEvaluation, Rate, WeakAccuracy, WeakEvaluation,
};
use w2s::report::{aligned, or_dash};

use super::numbers::{count, percent};

/// A line for each run and gold column.
pub(in crate::cli) fn labels(done: &[(PathBuf, Evaluation)], per_label: bool) -> Vec<String> {
    let mut out = Vec::new();
    let width = done.iter().map(|(run, _)| run.display().to_string().len()).max().unwrap_or(0);
    let methods = done.iter().map(|(_, run)| run.method.len()).max().unwrap_or(0);
    for (run, evaluation) in done {
        for column_of in evaluation.columns() {
            let column = if evaluation.other_columns.is_empty() {
                String::new()
            } else {
                format!("column {}  ", column_of.gold_column)
            };
            let (run, line) = (run.display().to_string(), line(column_of, methods));
            out.push(format!("{run:<width$}  {column}{line}"));
            if per_label {
                let head = ["label", "in gold", "given", "precision", "recall", "F1"];
                let rows = std::iter::once(head.map(str::to_owned).to_vec());
                let rows: Vec<_> =
                    rows.chain(column_of.per_label.iter().map(label_cells)).collect();
                for line in aligned(&rows, &[1, 2, 3, 4, 5]) {
                    out.push(format!("  {line}"));
                }
            }
        }
    }
    out
}

/// Name, counts, precision, recall and F1.
pub(super) fn label_cells(label: &LabelMetrics) -> Vec<String> {
    let share = |rate: Option<f64>| or_dash(rate.map(|rate| format!("{:.1} %", percent(rate))));
    vec![
        label.label.clone(),
        count(label.num_gold as u64),
        count(label.num_given as u64),
        share(label.precision),
        share(label.recall),
        or_dash(label.f1.map(|f1| format!("{f1:.3}"))),
    ]
}

fn line(e: &Evaluation, method_width: usize) -> String {
    let mut text = format!(
        "{:<method_width$} accuracy {:.1} % [{:.1}, {:.1}] ({} of {})",
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
    if let Some(auroc) = e.macro_auroc {
        text += &format!("  macro AUROC {auroc:.3}");
    }
    if let Some(reliability) = &e.reliability {
        text += &format!("  Brier {:.3}  ECE {:.3}", reliability.brier, reliability.ece);
    }
    let shares: Vec<String> = e
        .labels
        .iter()
        .map(|label| {
            format!("{label} {:.0} %", percent(e.share.get(label).copied().unwrap_or(0.0)))
        })
        .collect();
    text + "  labels: " + &shares.join(", ")
}

/// Four lines for each run and gold column.
pub(in crate::cli) fn filters(done: &[(PathBuf, WeakEvaluation)]) -> Vec<String> {
    let mut out = Vec::new();
    let width = done.iter().map(|(run, _)| run.display().to_string().len()).max().unwrap_or(0);
    for (run, evaluation) in done {
        for column in evaluation.columns() {
            let name = match evaluation.other_columns.as_slice() {
                [] => String::new(),
                _ => format!("column {}  ", column.gold_column),
            };
            let run = run.display().to_string();
            for line in four(column) {
                out.push(format!("{run:<width$}  {name}{line}"));
            }
        }
    }
    out
}

fn four(e: &WeakEvaluation) -> [String; 4] {
    let share = format!("  retained {:.1} %", percent(e.retained_share));
    [
        format!("before   {}", accuracy(&e.before)),
        format!("kept     {}{share}", accuracy(&e.kept)),
        format!("dropped  {}", accuracy(&e.dropped)),
        format!("gain     {}", gain(e)),
    ]
}

fn accuracy(of: &WeakAccuracy) -> String {
    let Some(accuracy) = of.accuracy else { return "no question with gold".to_owned() };
    let mut text = format!(
        "accuracy {:.1} % [{:.1}, {:.1}] ({} of {})",
        percent(accuracy),
        percent(of.wilson_low),
        percent(of.wilson_high),
        of.num_right,
        of.num_questions
    );
    if of.num_unparsed > 0 {
        let share = percent(of.num_unparsed as f64 / of.num_questions as f64);
        text += &format!("  unparsed {share:.1} %");
    }
    text
}

fn gain(e: &WeakEvaluation) -> String {
    let mut text = match e.gain {
        Some(Estimate { value, low, high }) => {
            let [value, low, high] = [value, low, high].map(percent);
            format!("{value:+.1} points [{low:+.1}, {high:+.1}]")
        }
        None if e.kept.num_questions > 0 => "none (nothing was dropped)".to_owned(),
        None => "unknown (nothing was kept)".to_owned(),
    };
    if let Some(Estimate { value, low, high }) = e.auroc {
        text += &format!("  AUROC of low entropy {value:.3} [{low:.3}, {high:.3}]");
    }
    if let Some(calibration) = &e.calibration {
        text += &format!("  ECE {:.3}", calibration.ece);
    }
    text
}

/// A line for each round.
pub(in crate::cli) fn loops(done: &[(PathBuf, LoopEvaluation)]) -> Vec<String> {
    let mut out = Vec::new();
    for (run, evaluation) in done {
        let many = !evaluation.other_columns.is_empty();
        for one in std::iter::once(evaluation).chain(&evaluation.other_columns) {
            let column = if many { format!("  column {}", one.gold_column) } else { String::new() };
            for round in &one.rounds {
                let parts = [
                    ("new labels", &round.batch),
                    ("labels so far", &round.labels),
                    ("held out", &round.held_out),
                ];
                let parts: Vec<String> = parts
                    .into_iter()
                    .filter_map(|(name, rate)| {
                        Some(format!("{name} {}", rate_words(rate.as_ref()?)))
                    })
                    .collect();
                let stopped = if round.stopped.is_some() { "  (stopped here)" } else { "" };
                out.push(format!(
                    "{}{column}  round {}  {}{stopped}",
                    run.display(),
                    round.round,
                    parts.join("  ")
                ));
            }
            if let Some(rate) = &one.labels {
                out.push(format!("{}{column}  all labels {}", run.display(), rate_words(rate)));
            }
        }
    }
    out
}

fn rate_words(rate: &Rate) -> String {
    let [low, high] = rate.interval.map(percent);
    let mut text = format!(
        "{:.1} % [{low:.1}, {high:.1}] ({} of {})",
        percent(rate.accuracy),
        rate.num_correct,
        rate.num
    );
    if let Some(auroc) = rate.auroc {
        text += &format!(" AUROC {auroc:.3}");
    }
    text
}

/// A line for each basin.
pub(in crate::cli) fn searches(found: &Basins) -> Vec<String> {
    let mut out = vec![format!(
        "basins (runs with {:.0} % or more equal labels, up to a renaming of the labels):",
        percent(found.threshold)
    )];
    for (i, basin) in found.basins.iter().enumerate() {
        let mut text =
            format!("  {}: {} of the runs ({})", i + 1, basin.runs.len(), basin.runs.join(", "));
        if let Some(score) = basin.mean_score {
            text += &format!("; mean score {score:.2}");
        }
        if let Some(within) = basin.agreement_within {
            text += &format!("; {:.0} % equal within", percent(within));
        }
        for column in &basin.columns {
            if let Some(agreement) = column.agreement {
                text += &format!("; {} {:.1} %", column.column, percent(agreement));
                if column.num_renamed > 0 {
                    text += &format!(" ({} with other names)", column.num_renamed);
                }
            }
        }
        out.push(text);
    }
    out
}
