//! The report: figures and pages for a handful of runs, from their files alone.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::contents::{Figure, Report, Sorted};
use super::document::Document;
use super::drawings::draw;
use super::examples::{Examples, GoldFile};
use super::figure::{write_figure, write_whole};
use super::files::{Identity, read_json};
use super::html;
use super::loop_tables;
use super::markdown::plain;
use super::methods::{self, Methods};
use super::overview::Overview;
use super::recipe::Results;
use super::run::{AnyRun, Run, Shown};
use super::run_names::{common, display_names, heading};
use super::served;
use super::text;
use super::training;
use super::trust;
use super::weak::{self, WeakRun};
use super::words::{auroc, interval, or_dash, percent};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Basins, Evaluation};

/// A label that takes this share of a run's labels is named in the notes.
const COLLAPSED_SHARE: f64 = 0.95;

/// What [`report_on`] reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportInputs {
    /// Folders of runs, comparisons and recipes, in the order they are shown.
    pub runs: Vec<PathBuf>,
    /// A file that `w2s eval --basins` wrote.
    pub basins: Option<PathBuf>,
    /// A file that `w2s compare` wrote.
    pub comparison: Option<PathBuf>,
    /// Gold for the table of examples; none keeps it off the page.
    pub gold: Option<PathBuf>,
    /// The gold file's column; none takes the task's.
    pub gold_column: Option<String>,
    /// How wide the pages of figures as PDF are; none takes a point to the user unit.
    pub width_inches: Option<f64>,
}

/// What [`report`] wrote and what it noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSummary {
    /// The files written, the pages last.
    pub files: Vec<PathBuf>,
    /// Remarks a reader of the numbers should know; they stand on the page too.
    pub notes: Vec<String>,
}

/// Returns the files of the report on `runs`, written to the folder `out`; see [`report_on`].
///
/// # Errors
/// As [`report_on`].
pub fn report(runs: &[PathBuf], basins: Option<&Path>, out: &Path) -> Result<ReportSummary> {
    let basins = basins.map(Path::to_path_buf);
    report_on(&ReportInputs { runs: runs.to_vec(), basins, ..ReportInputs::default() }, out)
}

/// Returns the files of the report, written to the folder `out`: each figure as SVG, PDF and PNG,
/// `report.md`, and `report.html`, which needs no other file.
///
/// Each run needs `manifest.json` and `summary.json`; one with `eval.json` gets a bar, one with
/// `curve.jsonl` a search chart, one with `diagnostics.json` its diagnostics, and a run of
/// `w2s filter` charts of entropy and reliability. A run of `w2s train` needs `metrics.jsonl` and gets
/// a loss chart, one of `w2s loop` one of its rounds. A folder of `w2s compare` or `w2s reproduce` gives
/// the comparisons in it. Everything is read before anything is written.
///
/// # Errors
/// When nothing is named, a run lacks a file or holds a broken one, gold fits no example, or a file
/// cannot be written.
pub fn report_on(inputs: &ReportInputs, out: &Path) -> Result<ReportSummary> {
    let report = read(inputs)?;
    let mut files = Vec::new();
    for figure in &report.figures {
        files.extend(write_figure(out, &figure.stem, &figure.svg, inputs.width_inches)?);
    }
    let pages = [("report.md", markdown_page(&report)), ("report.html", html::page(&report))];
    for (name, page) in pages {
        let path = out.join(name);
        write_whole(&path, page.as_bytes())?;
        files.push(path);
    }
    Ok(ReportSummary { files, notes: report.notes })
}

/// Reads everything, draws everything, writes nothing.
fn read(inputs: &ReportInputs) -> Result<Report> {
    if inputs.runs.is_empty() && inputs.comparison.is_none() {
        return Err(Error::new(ErrorKind::Usage, "no run to report on")
            .hint("name one or more run folders"));
    }
    let (mut dirs, mut shown, mut results) = (vec![], vec![], vec![]);
    for dir in &inputs.runs {
        match Results::read(dir)? {
            Some(found) => results.push(found),
            None => {
                shown.push(Shown::read(dir)?);
                dirs.push(dir.clone());
            }
        }
    }
    let basins: Option<Basins> = inputs
        .basins
        .as_ref()
        .map(|path| read_json(path, "run `w2s eval --basins FILE` on several searches first"))
        .transpose()?;
    let mut methods = Vec::new();
    if let Some(path) = &inputs.comparison {
        methods.push(Methods::read(path, None)?);
    }
    let identities: Vec<Identity> = shown.iter().map(|run| run.identity().clone()).collect();
    let mut tables = Document::default();
    let mut recipes = Vec::new();
    for found in results {
        recipes.extend(found.recipe().map(str::to_owned));
        tables.append(found.table());
        methods.extend(found.methods);
    }
    let heading = match identities.as_slice() {
        [] if !recipes.is_empty() => recipes.join(", "),
        [] => common(&methods, |one| Some(one.comparison.task.clone()))
            .unwrap_or_else(|| "Comparisons".to_owned()),
        identities => heading(identities),
    };
    let names = display_names(&identities);
    let overview = dirs
        .iter()
        .zip(&shown)
        .zip(&names)
        .map(|((dir, run), name)| Overview::read(dir, run, name))
        .collect::<Result<Vec<_>>>()?;
    let served = served::sections(&dirs, &names)?;
    let dirs: Vec<(PathBuf, String)> = dirs.into_iter().zip(names.iter().cloned()).collect();
    let gold =
        inputs.gold.as_deref().map(|path| GoldFile { path, column: inputs.gold_column.as_deref() });
    let examples = Examples::read(&dirs, gold)?;
    methods::tell_apart(&mut methods);
    methods.iter().for_each(|one| tables.append(one.tables()));

    let mut sorted = Sorted::default();
    let mut notes = Vec::new();
    for (run, name) in shown.into_iter().zip(names) {
        sorted.add(run, name, &mut notes);
    }
    let (runs, run_names): (Vec<&Run>, Vec<String>) =
        sorted.labellings().map(|(run, name)| (run, name.clone())).unzip();
    let (weak_runs, weak_names): (Vec<&WeakRun>, Vec<String>) =
        sorted.filters().map(|(run, name)| (run, name.clone())).unzip();
    notes.extend(common_notes(&sorted.evaluated));
    notes.extend(self::notes(&runs, &run_names));
    notes.extend(weak_runs.iter().zip(&weak_names).flat_map(|(run, name)| run.notes(name)));
    notes.extend(sorted.trainings.iter().flat_map(|(run, name)| run.notes(name)));
    notes.extend(sorted.loops.iter().flat_map(|(run, name)| run.notes(name)));
    notes.extend(examples.notes.iter().cloned());
    if !tables.is_empty() && !runs.is_empty() {
        tables.heading(2, "Labels of each run");
    }
    tables.append(label_table(&runs, &run_names));
    tables.append(weak::table(&weak_runs, &weak_names));
    tables.append(training::table(&sorted.trainings));
    tables.append(loop_tables::tables(&sorted.loops));
    let mut sections = trust::sections(&runs, &run_names, basins.as_ref());
    sections.append(weak::sections(&weak_runs, &weak_names));
    sections.append(served);
    let figures = draw(&methods, &sorted, &heading);
    let num_comparisons = methods.len();
    Ok(Report { heading, overview, num_comparisons, figures, tables, notes, sections, examples })
}

fn common_notes(runs: &[(AnyRun, String)]) -> Vec<String> {
    let mut notes = Vec::new();
    if runs.is_empty() {
        return notes;
    }
    if common(runs, |(run, _)| Some(run.num_labels())).is_none() {
        notes
            .push("the tasks differ in their number of labels; no chance line is drawn".to_owned());
    }
    if common(runs, |(run, _)| Some(run.gold_column().to_owned())).is_none() {
        notes.push("the runs were evaluated against different gold columns".to_owned());
    }
    notes
}

fn notes(runs: &[&Run], names: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    for (run, name) in runs.iter().zip(names) {
        let evaluation = &run.evaluation;
        if let Some(reason) = &run.gold_used {
            notes.push(format!("{name} used gold labels: {reason}"));
        }
        if evaluation.num_labelled < evaluation.num_examples {
            notes.push(format!(
                "{name} labelled {} of {} examples; its accuracy speaks of those",
                evaluation.num_labelled, evaluation.num_examples
            ));
        }
        if evaluation.num_with_gold < evaluation.num_labelled {
            notes.push(format!(
                "{name}: gold knows {} of {} labelled examples",
                evaluation.num_with_gold, evaluation.num_labelled
            ));
        }
        let collapsed = evaluation.share.iter().find(|(_, share)| **share >= COLLAPSED_SHARE);
        if let Some((label, share)) = collapsed {
            notes.push(format!(
                "{name} gave the label `{label}` to {}% of the examples (gold: {}%)",
                percent(*share),
                percent(evaluation.gold_share.get(label).copied().unwrap_or(0.0))
            ));
        }
        if let (Some(score), Some((label, constant))) =
            (run.summary.score, run.summary.best_constant())
            && constant >= score
        {
            notes.push(format!(
                "{name} found a score of {score:.3}; giving every example the label `{label}` \
                 scores {constant:.3}, so the score does not favour what was found"
            ));
        }
        if let (Some(score), Some(permuted)) = (run.summary.score, run.summary.best_permuted())
            && permuted >= score
        {
            notes.push(format!(
                "{name} found a score of {score:.3}; the same labels permuted over the texts score \
                 {permuted:.3}, so the labels say nothing of the texts"
            ));
        }
        let search = run.diagnostics.as_ref().and_then(|found| found.search.as_ref());
        for collapse in search.iter().flat_map(|search| &search.collapses) {
            notes.push(format!(
                "{name} collapsed in batch {}: label `{}` had {}% at iteration {}{}",
                collapse.batch,
                collapse.label,
                percent(collapse.share),
                collapse.iteration,
                if collapse.recovered { "; it recovered later" } else { " and kept them" }
            ));
        }
        if let Some(closest) = evaluation.closest_column() {
            notes.push(format!(
                "{name} comes closest to column `{}` (balanced accuracy {}%{})",
                closest.column,
                percent(closest.balanced_accuracy),
                if closest.inverted { ", the two labels exchanged" } else { "" }
            ));
        }
        if run.searched() && run.curve.is_empty() {
            notes.push(format!("{name} has no `curve.jsonl`; its search is not drawn"));
        }
    }
    notes
}

fn markdown_page(report: &Report) -> String {
    let mut page = format!("# {}\n", plain(&report.heading));
    for Figure { stem, caption, .. } in &report.figures {
        let _ = write!(page, "\n[![{}]({stem}.png)]({stem}.svg)\n", plain(caption));
    }
    page.push_str(&report.tables.to_markdown());
    if !report.notes.is_empty() {
        page.push_str("\n## Notes\n\n");
        for note in &report.notes {
            let _ = writeln!(page, "- {}", plain(note));
        }
    }
    page.push_str(&report.sections.to_markdown());
    page
}

/// The table of all labelling runs; empty without any.
fn label_table(runs: &[&Run], names: &[String]) -> Document {
    let mut page = Document::default();
    if runs.is_empty() {
        return page;
    }
    page.table_with_words(
        &[
            "method",
            "n",
            "accuracy, 95% interval",
            "balanced accuracy",
            "AUROC",
            "labels given (gold)",
            "tokens computed",
            "tokens of full prompts",
        ],
        &[0, 5],
    );
    for (run, name) in runs.iter().zip(names) {
        let Evaluation { num_with_gold, accuracy, wilson_low, wilson_high, .. } = &run.evaluation;
        page.row(&[
            name.clone(),
            text::grouped(*num_with_gold as u64),
            interval(*accuracy, *wilson_low, *wilson_high),
            or_dash(run.evaluation.balanced_accuracy.map(|rate| format!("{}%", percent(rate)))),
            or_dash(auroc(&run.evaluation).map(|value| format!("{value:.3}"))),
            balance(&run.evaluation),
            or_dash(run.summary.tokens_computed.map(text::grouped)),
            or_dash(run.summary.tokens_full_prompts.map(text::grouped)),
        ]);
    }
    page
}

fn balance(evaluation: &Evaluation) -> String {
    let share = |label: &String| {
        let [given, gold] = [&evaluation.share, &evaluation.gold_share]
            .map(|shares| shares.get(label).copied().unwrap_or(0.0));
        format!("{label} {}% ({}%)", percent(given), percent(gold))
    };
    evaluation.labels.iter().map(share).collect::<Vec<_>>().join(", ")
}
