//! What `w2s compare` prints and says.

use w2s::eval::{ColumnComparison, Comparison, Estimate, MethodComparison};
use w2s::report::{aligned, or_dash};

use super::evaluate::label_cells;
use super::numbers::{self, percent};

/// More than this many pairs are in the file only, save those with the first method.
const MAX_PAIRS: usize = 15;

/// The tables of one gold column.
pub(in crate::cli) fn lines(comparison: &Comparison, column: &ColumnComparison) -> Vec<String> {
    let count = |n: usize| numbers::count(n as u64);
    let mut lines = vec![format!(
        "{}, gold column {}: {} items ({} not in every run, {} without gold left out)",
        comparison.task,
        column.gold_column,
        count(column.num_items),
        count(column.num_not_in_every_run),
        count(column.num_without_gold)
    )];
    let head = ["method", "run", "accuracy", "sd", "balanced", "AUROC", "Brier", "ECE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for method in &column.methods {
        rows.extend(method_rows(method));
    }
    lines.extend(indented(aligned(&rows, &[2, 3, 4, 5, 6, 7])));
    if !comparison.labels.is_empty() {
        lines.push("labels, all runs of a method together:".to_owned());
        lines.extend(indented(label_lines(column)));
    }
    if !column.pairs.is_empty() {
        lines.push("difference in accuracy, points:".to_owned());
        let all = column.pairs.len() <= MAX_PAIRS;
        let first = &column.methods[0].name;
        let head = ["methods", "difference", "p", "alone right"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for pair in column.pairs.iter().filter(|pair| all || pair.a == *first) {
            rows.push(vec![
                format!("{} - {}", pair.b, pair.a),
                points(pair.difference),
                p_value(pair.p),
                format!("{} : {}", count(pair.num_only_b_right), count(pair.num_only_a_right)),
            ]);
        }
        lines.extend(indented(aligned(&rows, &[1, 2, 3])));
        if !all {
            lines.push(format!("  all {} pairs are in comparison.json", column.pairs.len()));
        }
    }
    if !column.pgr.is_empty() {
        lines.push("performance gap recovered:".to_owned());
        let rows: Vec<Vec<String>> = column
            .pgr
            .iter()
            .map(|of| {
                let value = match of.pgr {
                    Some(Estimate { value, low, high }) => {
                        format!("{value:.2} [{low:.2}, {high:.2}]")
                    }
                    None => "undefined".to_owned(),
                };
                vec![of.method.clone(), value]
            })
            .collect();
        lines.extend(indented(aligned(&rows, &[])));
    }
    lines
}

fn indented(lines: Vec<String>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("  {line}"))
}

fn interval(estimate: Estimate) -> String {
    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(percent);
    format!("{value:.1} % [{low:.1}, {high:.1}]")
}

fn points(estimate: Estimate) -> String {
    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(percent);
    format!("{value:+.1} [{low:+.1}, {high:+.1}]")
}

fn p_value(p: f64) -> String {
    if p < 0.0001 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}

fn method_rows(method: &MethodComparison) -> Vec<Vec<String>> {
    let rate = |rate: Option<f64>| or_dash(rate.map(|rate| format!("{:.1} %", percent(rate))));
    let number = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.3}")));
    let value = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.value);
    let mut rows = vec![vec![
        method.name.clone(),
        match method.runs.len() {
            1 => method.runs[0].path.clone(),
            num => format!("{num} runs"),
        },
        interval(method.accuracy),
        or_dash(method.accuracy_sd.map(|sd| format!("{:.1}", percent(sd)))),
        rate(value(method.balanced_accuracy)),
        number(value(method.auroc)),
        number(value(method.brier)),
        number(method.ece),
    ]];
    if method.runs.len() > 1 {
        rows.extend(method.runs.iter().map(|run| {
            let accuracy =
                Estimate { value: run.accuracy, low: run.wilson_low, high: run.wilson_high };
            vec![
                String::new(),
                run.path.clone(),
                interval(accuracy),
                String::new(),
                rate(run.balanced_accuracy),
                number(run.auroc),
                number(run.brier),
                number(run.ece),
            ]
        }));
    }
    rows
}

fn label_lines(column: &ColumnComparison) -> Vec<String> {
    let head = ["method", "label", "in gold", "given", "precision", "recall", "F1"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for method in &column.methods {
        for (index, label) in method.per_label.iter().enumerate() {
            let name = if index == 0 { method.name.clone() } else { String::new() };
            rows.push([vec![name], label_cells(label)].concat());
        }
    }
    aligned(&rows, &[2, 3, 4, 5, 6])
}

/// What should make a reader doubt the numbers.
pub(in crate::cli) fn doubts(comparison: &Comparison, column: &ColumnComparison) -> Vec<String> {
    let mut out = Vec::new();
    let name = &column.gold_column;
    let num_all = column.num_items + column.num_without_gold + column.num_not_in_every_run;
    if column.num_not_in_every_run > 0 {
        out.push(format!(
            "warning: {name}: {} of {num_all} items were not answered by every run and are left out",
            column.num_not_in_every_run
        ));
        let most = num_all - column.num_not_in_every_run;
        for run in column.methods.iter().flat_map(|method| &method.runs) {
            if run.num_answered > most {
                out.push(format!(
                    "  {} answered {}, of which {} are left out",
                    run.path,
                    run.num_answered,
                    run.num_answered - most
                ));
            }
        }
    }
    let unparsed = column.methods.iter().flat_map(|method| &method.runs);
    for run in unparsed.filter(|run| run.num_unparsed > 0) {
        out.push(format!(
            "{}: {} of {} answers could not be read and count as wrong",
            run.path, run.num_unparsed, column.num_items
        ));
    }
    if column.methods.iter().any(|method| method.runs.len() == 1) && !comparison.columns.is_empty()
    {
        let single: Vec<&str> = column
            .methods
            .iter()
            .filter(|method| method.runs.len() == 1)
            .map(|method| method.name.as_str())
            .collect();
        out.push(format!(
            "{name}: one run of {}: intervals there say nothing of how seeds differ",
            single.join(", ")
        ));
    }
    let mut remarks: Vec<&str> = column.pgr.iter().filter_map(|of| of.remark.as_deref()).collect();
    remarks.dedup();
    for remark in remarks {
        out.push(format!("{name}: {remark}"));
    }
    if column.pairs.len() > 1 {
        out.push(format!("p is not corrected for the number of pairs ({})", column.pairs.len()));
    }
    out
}
