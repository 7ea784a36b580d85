//! The page's tables on how far labels can be trusted: gold columns, each label by itself,
//! diagnostics of the search, calibration, basins.

use super::bins::{calibration_bins, thinned};
use super::document::Document;
use super::run::Run;
use super::text;
use super::words::{auroc, number, or_dash, percent};
use crate::eval::{Basins, Evaluation, SearchDiagnostics};

/// Returns the sections, each where a run has something to say in it.
pub(super) fn sections(runs: &[&Run], names: &[String], basins: Option<&Basins>) -> Document {
    let mut page = Document::default();
    columns(runs, names, &mut page);
    each_label(runs, names, &mut page);
    trust(runs, names, &mut page);
    if let Some(basins) = basins {
        basin_table("Basins", basins, &mut page);
    } else {
        for (run, name) in runs.iter().zip(names) {
            if let Some(basins) = &run.basins {
                basin_table(&format!("Basins of {name}"), basins, &mut page);
            }
        }
    }
    page
}

fn share(rate: Option<f64>) -> String {
    or_dash(rate.map(|rate| format!("{}%", percent(rate))))
}

fn columns(runs: &[&Run], names: &[String], page: &mut Document) {
    if runs.iter().all(|run| run.evaluation.other_columns.is_empty()) {
        return;
    }
    page.heading(2, "Gold columns");
    let heads = ["method", "column", "n", "accuracy, 95% interval", "balanced accuracy", "AUROC"];
    page.table_with_words(&heads, &[0, 1]);
    for (run, name) in runs.iter().zip(names) {
        for evaluation in run.evaluation.columns() {
            let interval = [evaluation.wilson_low, evaluation.wilson_high].map(percent);
            let accuracy = percent(evaluation.accuracy);
            page.row(&[
                name.clone(),
                evaluation.gold_column.clone(),
                text::grouped(evaluation.num_with_gold as u64),
                format!("{accuracy}% [{}, {}]", interval[0], interval[1]),
                share(evaluation.balanced_accuracy),
                number(auroc(evaluation)),
            ]);
        }
    }
}

/// Two labels are told by accuracy, balance and AUROC; more need a table.
fn each_label(runs: &[&Run], names: &[String], page: &mut Document) {
    for (run, name) in runs.iter().zip(names) {
        let evaluation = &run.evaluation;
        if evaluation.labels.len() < 3 || evaluation.per_label.is_empty() {
            continue;
        }
        page.heading(2, &format!("Each label: {name}"));
        page.table(&["label", "in gold", "given", "precision", "recall", "F1", "AUROC"]);
        for label in &evaluation.per_label {
            let counts = [label.num_gold, label.num_given].map(|n| text::grouped(n as u64));
            let [num_gold, num_given] = counts;
            page.row(&[
                label.label.clone(),
                num_gold,
                num_given,
                share(label.precision),
                share(label.recall),
                number(label.f1),
                number(label.auroc),
            ]);
        }
        confusion(evaluation, page);
    }
}

fn confusion(evaluation: &Evaluation, page: &mut Document) {
    let given = &evaluation.labels;
    let cells: Vec<&str> =
        std::iter::once("gold \\ given").chain(given.iter().map(String::as_str)).collect();
    page.say("Counts by gold label (row) and given label (column):");
    page.table(&cells);
    for (label, counts) in given.iter().zip(&evaluation.confusion) {
        let counts = counts.iter().map(|&count| text::grouped(count as u64));
        page.row(&std::iter::once(label.clone()).chain(counts).collect::<Vec<_>>());
    }
}

fn trust(runs: &[&Run], names: &[String], page: &mut Document) {
    let known = |run: &&Run| run.diagnostics.is_some() || run.evaluation.reliability.is_some();
    if !runs.iter().any(known) {
        return;
    }
    page.heading(2, "How far to trust the labels");
    page.table(&[
        "method",
        "mean margin (nats)",
        "of right labels",
        "of wrong labels",
        "given against the odds",
        "ECE",
        "Brier",
        "never revisited",
    ]);
    for (run, name) in runs.iter().zip(names) {
        let margins = run.diagnostics.as_ref().and_then(|found| found.margins);
        let reliability = run.evaluation.reliability.as_ref();
        let search = search_of(run);
        page.row(&[
            name.clone(),
            number(margins.map(|margins| margins.mean_nats)),
            number(reliability.and_then(|r| r.margin_right_nats)),
            number(reliability.and_then(|r| r.margin_wrong_nats)),
            or_dash(margins.map(|m| format!("{} of {}", m.num_negative, m.num_labels))),
            number(reliability.map(|r| r.ece)),
            number(reliability.map(|r| r.brier)),
            or_dash(
                search.map(|s| format!("{} of {}", s.num_never_revisited, s.num_ever_labelled)),
            ),
        ]);
    }
    order_checks(runs, names, page);
    for (run, name) in runs.iter().zip(names) {
        if let Some(search) = search_of(run) {
            sweeps(search, name, page);
            acceptance(search, page);
        }
        if let Some(reliability) = &run.evaluation.reliability {
            calibration_bins(reliability, name, page);
        }
    }
}

fn search_of(run: &Run) -> Option<&SearchDiagnostics> {
    run.diagnostics.as_ref()?.search.as_ref()
}

fn sweeps(search: &SearchDiagnostics, name: &str, page: &mut Document) {
    page.heading(3, &format!("Course of {name}"));
    let sentence = format!(
        "Labels after each sweep (as many iterations as examples). Collapse alarm: label entropy \
         below {:.3} nats for a whole sweep or at the end; {}.",
        search.collapse_below_nats,
        match search.collapses.as_slice() {
            [] => "none was raised".to_owned(),
            alarms => format!("raised in {} of the batches, see the notes", alarms.len()),
        }
    );
    let shares: Vec<String> =
        search.labels.iter().map(|label| format!("share of {label}")).collect();
    let fixed = ["batch", "iterations", "labelled", "entropy (nats)"];
    let counts = ["proposed", "accepted", "flips"];
    let cells: Vec<&str> =
        fixed.into_iter().chain(shares.iter().map(String::as_str)).chain(counts).collect();
    page.say(&sentence);
    page.table(&cells);
    for sweep in thinned(&search.sweeps) {
        let Some(sweep) = sweep else {
            page.row(&vec!["...".to_owned(); cells.len()]);
            continue;
        };
        let iterations = match sweep.last_iteration {
            0 => "start".to_owned(),
            last => format!("{} to {last}", sweep.first_iteration),
        };
        let mut line = vec![
            sweep.batch.to_string(),
            iterations,
            sweep.num_labelled.to_string(),
            format!("{:.3}", sweep.entropy_nats.max(0.0)),
        ];
        line.extend(sweep.share.iter().map(|rate| format!("{}%", percent(*rate))));
        line.extend(
            [sweep.num_proposals, sweep.num_accepted, sweep.num_flips].map(|n| n.to_string()),
        );
        page.row(&line);
    }
}

fn acceptance(search: &SearchDiagnostics, page: &mut Document) {
    if search.acceptance.is_empty() {
        return;
    }
    let cells = ["temperature", "proposed", "accepted", "not better", "of these accepted"];
    page.say("Acceptance against temperature:");
    page.table(&cells);
    for bin in &search.acceptance {
        page.row(&[
            format!("{} to {}", bin.low, bin.high),
            bin.num_proposals.to_string(),
            bin.num_accepted.to_string(),
            bin.num_downhill.to_string(),
            bin.num_downhill_accepted.to_string(),
        ]);
    }
}

/// What is left of the labels under another order of demonstrations.
fn order_checks(runs: &[&Run], names: &[String], page: &mut Document) {
    if runs.iter().all(|run| run.summary.order_check.is_none()) {
        return;
    }
    page.say(
        "Final labels scored once more, under an order of demonstrations that the search never used:",
    );
    page.table(&[
        "method",
        "score U",
        "change of U",
        "mean change of the margin (nats)",
        "predicted otherwise",
    ]);
    for (run, name) in runs.iter().zip(names) {
        let Some(check) = &run.summary.order_check else { continue };
        page.row(&[
            name.clone(),
            format!("{:.3}", check.score),
            format!("{:+.3}", check.score_change),
            format!("{:.3}", check.mean_margin_change_nats),
            share(Some(check.share_predicted_otherwise)),
        ]);
    }
}

fn basin_table(title: &str, found: &Basins, page: &mut Document) {
    let names: Vec<String> = found
        .basins
        .first()
        .map(|basin| basin.columns.iter().map(|c| c.column.clone()).collect())
        .unwrap_or_default();
    page.heading(2, title);
    page.say(&format!(
        "Runs with {}% or more equal labels, up to a renaming of the labels, are one basin. \
         Agreement with gold is up to a renaming too; in brackets the runs that use other names than gold.",
        percent(found.threshold)
    ));
    let fixed = ["runs", "number", "mean score", "best score", "equal within"];
    let cells: Vec<&str> = fixed.into_iter().chain(names.iter().map(String::as_str)).collect();
    page.table(&cells);
    for basin in &found.basins {
        let mut line = vec![
            basin.runs.join(", "),
            basin.runs.len().to_string(),
            number(basin.mean_score),
            number(basin.best_score),
            share(basin.agreement_within),
        ];
        line.extend(basin.columns.iter().map(|column| match column.num_renamed {
            0 => share(column.agreement),
            renamed => format!("{} ({renamed})", share(column.agreement)),
        }));
        page.row(&line);
    }
}
