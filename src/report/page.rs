//! The report: figures and a Markdown page for a handful of runs, from their files alone.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::bars::{Bar, BarChart, accuracy_bars};
use super::calibration::{CalibrationChart, calibration_diagram};
use super::curve::{SearchChart, search_curve};
use super::entropy_bins::{EntropyChart, entropy_bars};
use super::figure::{write_figure, write_whole};
use super::heat_map::{HeatMap, heat_map};
use super::loop_curve::loop_curve;
use super::loss::loss_curve;
use super::rounds;
use super::run::{AnyRun, Identity, Run, Shown, read_json};
use super::text;
use super::training;
use super::trust;
use super::weak::{self, WeakRun};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Basins, Evaluation, WeakAccuracy};

/// A label that takes this share of a run's labels is named in the notes.
const COLLAPSED_SHARE: f64 = 0.95;

/// What [`report`] wrote and what it noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSummary {
    /// The files written, the page last.
    pub files: Vec<PathBuf>,
    /// Remarks a reader of the numbers should know; they stand on the page too.
    pub notes: Vec<String>,
}

/// Returns the files of the report on `runs`, written to the folder `out`.
///
/// Each run needs `manifest.json`, `summary.json` and `eval.json`; a run with `curve.jsonl` gets a
/// search chart, one with `diagnostics.json` its diagnostics, and a run of `w2s filter` charts of
/// entropy and reliability. A run of `w2s train` needs `metrics.jsonl` in place of an evaluation and
/// gets a loss chart. `basins` is a file that `w2s eval --basins` wrote. Everything is read
/// before anything is written.
///
/// # Errors
/// When no run is named, a run lacks a file or holds a broken one, or a file cannot be written.
pub fn report(runs: &[PathBuf], basins: Option<&Path>, out: &Path) -> Result<ReportSummary> {
    if runs.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "no run to report on")
            .hint("name one or more run folders"));
    }
    let all = runs.iter().map(|dir| Shown::read(dir)).collect::<Result<Vec<_>>>()?;
    let basins: Option<Basins> = basins
        .map(|path| read_json(path, "run `w2s eval --basins FILE` on several searches first"))
        .transpose()?;
    let identities: Vec<Identity> = all.iter().map(|run| run.identity().clone()).collect();
    let heading = heading(&identities);
    let (mut all_runs, mut all_names) = (vec![], vec![]);
    let (mut trainings, mut training_names) = (vec![], vec![]);
    let (mut loops, mut loop_names) = (vec![], vec![]);
    for (run, name) in all.into_iter().zip(display_names(&identities)) {
        match run {
            Shown::Labels(run) => {
                all_runs.push(run);
                all_names.push(name);
            }
            Shown::Train(run) => {
                trainings.push(*run);
                training_names.push(name);
            }
            Shown::Loop(run) => {
                loops.push(*run);
                loop_names.push(name);
            }
        }
    }
    let all = all_runs;
    let (mut notes, mut files, mut figures) = (vec![], vec![], vec![]);
    if !all.is_empty() {
        notes.extend(common_notes(&all));
        let chart = bar_chart(&all, &all_names, &heading);
        files.extend(write_figure(out, "accuracy", &accuracy_bars(&chart))?);
        figures.push(("accuracy".to_owned(), "Accuracy of each run".to_owned()));
    }
    let (mut runs, mut names, mut weak_runs, mut weak_names) = (vec![], vec![], vec![], vec![]);
    for (run, name) in all.into_iter().zip(all_names) {
        match run {
            AnyRun::Labels(run) => {
                runs.push(*run);
                names.push(name);
            }
            AnyRun::Weak(run) => {
                weak_runs.push(*run);
                weak_names.push(name);
            }
        }
    }
    notes.extend(self::notes(&runs, &names));
    notes.extend(weak_runs.iter().zip(&weak_names).flat_map(|(run, name)| run.notes(name)));

    let searched: Vec<usize> = (0..runs.len()).filter(|&i| !runs[i].curve.is_empty()).collect();
    let mut stems = HashSet::new();
    for &index in &searched {
        let run = &runs[index];
        let stem = match searched.len() {
            1 => "search".to_owned(),
            _ => unused(&format!("search-{}", safe(&run.identity.folder)), &mut stems),
        };
        let title = match searched.len() {
            1 => format!("Search: {heading}"),
            _ => format!("Search: {heading}, {}", names[index]),
        };
        let chart = search_chart(run, title);
        files.extend(write_figure(out, &stem, &search_curve(&chart))?);
        figures.push((stem, format!("Course of the search, {}", names[index])));
    }
    let calibrated: Vec<usize> =
        (0..runs.len()).filter(|&i| runs[i].evaluation.reliability.is_some()).collect();
    for &index in &calibrated {
        let run = &runs[index];
        let Some(reliability) = run.evaluation.reliability.clone() else { continue };
        let (stem, title) = match calibrated.len() {
            1 => ("calibration".to_owned(), format!("Calibration: {heading}")),
            _ => (
                unused(&format!("calibration-{}", safe(&run.identity.folder)), &mut stems),
                format!("Calibration: {heading}, {}", names[index]),
            ),
        };
        let chart = CalibrationChart { title, reliability };
        files.extend(write_figure(out, &stem, &calibration_diagram(&chart))?);
        figures.push((stem, format!("Calibration of the labels, {}", names[index])));
    }
    for (run, name) in weak_runs.iter().zip(&weak_names) {
        let same = weak_runs.iter().filter(|other| other.has_same_subject(run)).count();
        for (stem, caption, svg) in weak_figures(run, same == 1) {
            let stem = match weak_runs.len() {
                1 => stem.to_owned(),
                _ => unused(&format!("{stem}-{}", safe(&run.identity.folder)), &mut stems),
            };
            files.extend(write_figure(out, &stem, &svg)?);
            figures.push((stem, format!("{caption}: {name}")));
        }
    }
    for (run, name) in trainings.iter().zip(&training_names) {
        notes.extend(run.notes(name));
        let (stem, title) = match trainings.len() {
            1 => ("loss".to_owned(), format!("Training: {heading}")),
            _ => (
                unused(&format!("loss-{}", safe(&run.identity.folder)), &mut stems),
                format!("Training: {heading}, {name}"),
            ),
        };
        files.extend(write_figure(out, &stem, &loss_curve(&run.chart(title)))?);
        figures.push((stem, format!("Loss, {name}")));
    }
    for (run, name) in loops.iter().zip(&loop_names) {
        notes.extend(run.notes(name));
        let (stem, title) = match loops.len() {
            1 => ("loop".to_owned(), format!("Loop: {heading}")),
            _ => (
                unused(&format!("loop-{}", safe(&run.identity.folder)), &mut stems),
                format!("Loop: {heading}, {name}"),
            ),
        };
        files.extend(write_figure(out, &stem, &loop_curve(&run.chart(title)))?);
        figures.push((stem, format!("Rounds, {name}")));
    }
    let tables = label_table(&runs, &names)
        + &weak::table(&weak_runs, &weak_names)
        + &training::table(&trainings, &training_names)
        + &rounds::table(&loops, &loop_names);
    let mut page = page(&heading, &figures, &tables, &notes);
    page.push_str(&trust::sections(&runs, &names, basins.as_ref()));
    page.push_str(&weak::sections(&weak_runs, &weak_names));
    let path = out.join("report.md");
    write_whole(&path, page.as_bytes())?;
    files.push(path);
    Ok(ReportSummary { files, notes })
}

/// Stem, caption and drawing of each figure of a filter run; `alone` where no other is of the same
/// task and model.
fn weak_figures(run: &WeakRun, alone: bool) -> Vec<(&'static str, &'static str, String)> {
    let chart = EntropyChart {
        title: run.title("Weak labels by entropy", alone),
        bins: run.evaluation.bins.clone(),
    };
    let mut figures = vec![("entropy-bins", "Right and wrong by entropy", entropy_bars(&chart))];
    if let Some(map) = &run.evaluation.reliability_map {
        let title = run.title("Reliability of answers", alone);
        let chart = HeatMap { title, map: map.clone() };
        figures.push(("reliability", "Mean weight by truth and answer", heat_map(&chart)));
    }
    figures
}

fn bar_chart(runs: &[AnyRun], names: &[String], heading: &str) -> BarChart {
    let searched = runs.iter().filter(|run| matches!(run, AnyRun::Labels(run) if run.searched()));
    // The searches stand out against their baselines; without baselines nothing does.
    let stand_out = searched.count() < runs.len();
    let mut bars = Vec::new();
    for (run, name) in runs.iter().zip(names) {
        match run {
            AnyRun::Labels(run) => bars.push(Bar {
                name: name.clone(),
                accuracy: run.evaluation.accuracy,
                low: run.evaluation.wilson_low,
                high: run.evaluation.wilson_high,
                num_examples: run.evaluation.num_with_gold,
                emphasis: run.searched() && stand_out,
            }),
            AnyRun::Weak(run) => {
                let kept = format!("{name}, kept");
                let parts = [(name, run.evaluation.before), (&kept, run.evaluation.kept)];
                bars.extend(
                    parts
                        .iter()
                        .enumerate()
                        .filter_map(|(index, (name, labels))| weak_bar(name, labels, index == 1)),
                );
            }
        }
    }
    // Open answers have no chance.
    let num_labels = common(runs, |run| Some(run.num_labels())).filter(|&num| num > 0);
    BarChart { title: heading.to_owned(), num_labels, bars }
}

fn weak_bar(name: &str, labels: &WeakAccuracy, emphasis: bool) -> Option<Bar> {
    Some(Bar {
        name: name.to_owned(),
        accuracy: labels.accuracy?,
        low: labels.wilson_low,
        high: labels.wilson_high,
        num_examples: labels.num_questions,
        emphasis,
    })
}

fn search_chart(run: &Run, title: String) -> SearchChart {
    let labels = &run.evaluation.labels;
    let share_of = labels
        .iter()
        .position(|label| *label == run.evaluation.positive)
        .map(|index| (index, labels[index].clone()));
    SearchChart {
        title,
        points: run.curve.clone(),
        share_of,
        best_constant: run.summary.best_constant(),
    }
}

/// Returns what all runs have in common, where they do.
fn common<R, T: PartialEq>(runs: &[R], value: impl Fn(&R) -> Option<T>) -> Option<T> {
    let first = value(runs.first()?)?;
    runs.iter().all(|run| value(run).as_ref() == Some(&first)).then_some(first)
}

fn heading(runs: &[Identity]) -> String {
    let task = common(runs, |run| Some(run.task.clone()));
    let model = common(runs, |run| run.model.clone());
    let parts: Vec<String> = task.into_iter().chain(model).collect();
    if parts.is_empty() { "Accuracy".to_owned() } else { parts.join(", ") }
}

/// Returns a name for each run that tells it from the others.
fn display_names(runs: &[Identity]) -> Vec<String> {
    let one_task = common(runs, |run| Some(run.task.clone())).is_some();
    let one_model = common(runs, |run| Some(run.model.clone())).is_some();
    let full_name = |run: &Identity| {
        let task = (!one_task).then(|| run.task.clone());
        let model = if one_model { None } else { run.model.clone() };
        let parts = [Some(run.method_name.clone()), task, model];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let names: Vec<String> = runs.iter().map(full_name).collect();
    let mut taken = HashSet::new();
    let tell_apart = |(name, run): (&String, &Identity)| {
        let shared = names.iter().filter(|other| *other == name).count() > 1;
        // A folder that is named after its method says it all.
        let name = match shared {
            false => name.clone(),
            true if run.folder.contains(&run.method) => run.folder.clone(),
            true => format!("{name} ({})", run.folder),
        };
        unused(&name, &mut taken)
    };
    names.iter().zip(runs).map(tell_apart).collect()
}

/// Returns `name`, numbered when it is taken already, and takes it.
fn unused(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}-{number}");
        number += 1;
    }
    candidate
}

fn safe(name: &str) -> String {
    let keep = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => letter,
        _ => '-',
    };
    name.chars().map(keep).collect()
}

fn common_notes(runs: &[AnyRun]) -> Vec<String> {
    let mut notes = Vec::new();
    if common(runs, |run| Some(run.num_labels())).is_none() {
        notes
            .push("the tasks differ in their number of labels; no chance line is drawn".to_owned());
    }
    if common(runs, |run| Some(run.gold_column().to_owned())).is_none() {
        notes.push("the runs were evaluated against different gold columns".to_owned());
    }
    notes
}

fn notes(runs: &[Run], names: &[String]) -> Vec<String> {
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

fn page(heading: &str, figures: &[(String, String)], tables: &str, notes: &[String]) -> String {
    let mut page = format!("# {}\n", markdown(heading));
    for (stem, caption) in figures {
        let _ = write!(page, "\n[![{}]({stem}.png)]({stem}.svg)\n", markdown(caption));
    }
    page.push_str(tables);
    if !notes.is_empty() {
        page.push_str("\n## Notes\n\n");
        for note in notes {
            let _ = writeln!(page, "- {}", markdown(note));
        }
    }
    page
}

/// The table of all labelling runs; empty without any.
fn label_table(runs: &[Run], names: &[String]) -> String {
    let mut page = String::new();
    if runs.is_empty() {
        return page;
    }
    page.push_str(
        "\n| method | n | accuracy, 95% interval | balanced accuracy | AUROC | labels given (gold) | \
         tokens computed | tokens of full prompts |\n|---|--:|--:|--:|--:|---|--:|--:|\n",
    );
    for (run, name) in runs.iter().zip(names) {
        let Evaluation { num_with_gold, accuracy, wilson_low, wilson_high, .. } = &run.evaluation;
        let cells = [
            markdown(name),
            text::grouped(*num_with_gold as u64),
            format!(
                "{}% [{}, {}]",
                percent(*accuracy),
                percent(*wilson_low),
                percent(*wilson_high)
            ),
            or_dash(run.evaluation.balanced_accuracy.map(|rate| format!("{}%", percent(rate)))),
            or_dash(auroc(&run.evaluation).map(|value| format!("{value:.3}"))),
            balance(&run.evaluation),
            or_dash(run.summary.tokens_computed.map(text::grouped)),
            or_dash(run.summary.tokens_full_prompts.map(text::grouped)),
        ];
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
    page
}

fn balance(evaluation: &Evaluation) -> String {
    let share = |label: &String| {
        let [given, gold] = [&evaluation.share, &evaluation.gold_share]
            .map(|shares| shares.get(label).copied().unwrap_or(0.0));
        format!("{} {}% ({}%)", markdown(label), percent(given), percent(gold))
    };
    evaluation.labels.iter().map(share).collect::<Vec<_>>().join(", ")
}

/// The AUROC of a binary task, the mean over the labels of another.
pub(super) fn auroc(evaluation: &Evaluation) -> Option<f64> {
    evaluation.auroc.or(evaluation.macro_auroc)
}

pub(super) fn percent(rate: f64) -> String {
    format!("{:.1}", rate * 100.0)
}

pub(super) fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
}

/// Returns text that stands for itself in Markdown, also in a table cell.
pub(super) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
