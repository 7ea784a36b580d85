//! The page's part on runs of `w2s filter`: what weak labels and their filter are worth.

use std::path::Path;

use super::bins::{calibration_bins, thinned};
use super::document::Document;
use super::entropy_bins::bin_names;
use super::files::{Identity, KindCoverage, Start};
use super::text;
use super::words::{number, or_dash, percent};
use crate::error::Result;
use crate::eval::{EntropyBin, Estimate, WeakAccuracy, WeakEvaluation};

/// A filter run's content, as far as it is shown.
#[derive(Debug)]
pub(super) struct WeakRun {
    pub identity: Identity,
    /// Why gold was used in making the labels, where it was.
    pub gold_used: Option<String>,
    pub evaluation: WeakEvaluation,
    /// How kinds of questions fared, as the filter itself told.
    kinds: Vec<KindCoverage>,
}

impl WeakRun {
    /// Returns the filter run in a folder that begins as `start` says.
    ///
    /// # Errors
    /// When a file is missing or broken.
    pub(super) fn read(dir: &Path, start: Start) -> Result<Self> {
        let evaluation: WeakEvaluation = start.evaluation(dir)?;
        Ok(Self {
            identity: Identity {
                folder: start.folder,
                method: "weak labels".to_owned(),
                method_name: "weak labels".to_owned(),
                task: start.task.unwrap_or_else(|| evaluation.task.clone()),
                model: start.model,
            },
            gold_used: start.gold_used,
            evaluation,
            kinds: start.summary.coverage,
        })
    }

    /// Returns whether another run is of the same task and model.
    pub(super) fn has_same_subject(&self, other: &Self) -> bool {
        let subject = |run: &Self| (run.identity.task.clone(), run.identity.model.clone());
        subject(self) == subject(other)
    }

    /// Returns a figure's title, with the folder's name unless the run is `alone` of its subject.
    pub(super) fn title(&self, what: &str, alone: bool) -> String {
        let Identity { folder, task, model, .. } = &self.identity;
        let parts: Vec<&str> =
            [Some(task.as_str()), model.as_deref()].into_iter().flatten().collect();
        let folder = if alone { String::new() } else { format!(" ({folder})") };
        format!("{what}: {}{folder}", parts.join(", "))
    }

    /// Returns what a reader of the run's numbers should know.
    pub(super) fn notes(&self, name: &str) -> Vec<String> {
        let evaluation = &self.evaluation;
        let mut notes = Vec::new();
        if let Some(reason) = &self.gold_used {
            notes.push(format!("{name} used gold labels: {reason}"));
        }
        if evaluation.num_with_gold < evaluation.num_questions {
            notes.push(format!(
                "{name}: gold knows {} of {} questions",
                evaluation.num_with_gold, evaluation.num_questions
            ));
        }
        if evaluation.num_kept == evaluation.num_questions {
            notes.push(format!("{name}: the filter kept every question"));
        }
        if let Some(doubt) = evaluation.doubt_of_entropy() {
            notes.push(format!("{name}: {doubt}"));
        }
        let rises = rises(&evaluation.bins);
        if !rises.is_empty() {
            notes.push(format!(
                "{name}: accuracy does not fall everywhere as entropy rises: {}",
                rises.join("; ")
            ));
        }
        notes
    }
}

/// Where a bin is more accurate than the one before it.
fn rises(bins: &[EntropyBin]) -> Vec<String> {
    let names = bin_names(bins);
    bins.windows(2)
        .zip(names.windows(2))
        .filter_map(|(two, names)| {
            let [before, after] = [two[0].labels, two[1].labels];
            let [low, high] = [before.accuracy?, after.accuracy?];
            let apart = before.wilson_high < after.wilson_low;
            (high > low).then(|| {
                format!(
                    "{}% at {}, {}% at {} nats ({})",
                    percent(low),
                    names[0],
                    percent(high),
                    names[1],
                    if apart { "the intervals are apart" } else { "the intervals overlap" }
                )
            })
        })
        .collect()
}

/// Returns the table of all filter runs; empty without any.
pub(super) fn table(runs: &[&WeakRun], names: &[String]) -> Document {
    let mut page = Document::default();
    if runs.is_empty() {
        return page;
    }
    page.heading(2, "Weak labels and their filter");
    page.table(&[
        "run",
        "n",
        "accuracy before",
        "of those kept",
        "of those dropped",
        "gain in points",
        "retained",
        "unparsed",
        "AUROC of low entropy",
    ]);
    for (run, name) in runs.iter().zip(names) {
        for evaluation in run.evaluation.columns() {
            let column = match run.evaluation.other_columns.as_slice() {
                [] => String::new(),
                _ => format!(", column {}", evaluation.gold_column),
            };
            let before = &evaluation.before;
            page.row(&[
                format!("{name}{column}"),
                text::grouped(evaluation.num_with_gold as u64),
                accuracy(before),
                accuracy(&evaluation.kept),
                accuracy(&evaluation.dropped),
                or_dash(evaluation.gain.map(points)),
                format!("{}%", percent(evaluation.retained_share)),
                share(before.num_unparsed, before.num_questions),
                or_dash(evaluation.auroc.map(|Estimate { value, low, high }| {
                    format!("{value:.3} [{low:.3}, {high:.3}]")
                })),
            ]);
        }
    }
    page.say(
        "A label that could not be read is wrong. The AUROC is the chance that a right label has less \
         entropy than a wrong one. All intervals are 95%: Wilson's for accuracies, and for the AUROC \
         with the variance of questions drawn anew; Agresti and Caffo's for the gain.",
    );
    page
}

/// Returns the sections on each filter run.
pub(super) fn sections(runs: &[&WeakRun], names: &[String]) -> Document {
    let mut page = Document::default();
    for (run, name) in runs.iter().zip(names) {
        by_entropy(&run.evaluation, name, &mut page);
        coverage(&run.evaluation, name, &mut page);
        kinds(&run.kinds, &mut page);
    }
    single_answers(runs, names, &mut page);
    for (run, name) in runs.iter().zip(names) {
        if let Some(calibration) = &run.evaluation.calibration {
            calibration_bins(calibration, name, &mut page);
            page.say(&format!(
                "ECE {}, Brier score {}.",
                number(Some(calibration.ece)),
                number(Some(calibration.brier))
            ));
        }
    }
    page
}

fn by_entropy(evaluation: &WeakEvaluation, name: &str, page: &mut Document) {
    page.heading(2, &format!("By entropy: {name}"));
    page.table(&[
        "entropy (nats)",
        "n",
        "right",
        "wrong",
        "unparsed",
        "accuracy, 95% interval",
        "kept",
    ]);
    for (bin, entropy) in evaluation.bins.iter().zip(bin_names(&evaluation.bins)) {
        let WeakAccuracy { num_questions, num_right, num_unparsed, .. } = bin.labels;
        let [n, right, wrong, unparsed] = [num_questions, num_right, bin.num_wrong, num_unparsed]
            .map(|num| text::grouped(num as u64));
        let kept = share(bin.num_kept, num_questions);
        page.row(&[entropy, n, right, wrong, unparsed, accuracy(&bin.labels), kept]);
    }
}

/// What is left of right, wrong and each label.
fn coverage(evaluation: &WeakEvaluation, name: &str, page: &mut Document) {
    let WeakEvaluation { before, kept, .. } = evaluation;
    let wrong = |of: &WeakAccuracy| of.num_questions - of.num_right;
    let right = share(kept.num_right, before.num_right);
    let wrong = share(wrong(kept), wrong(before));
    let sentence =
        format!("Kept of {name}: {right} of the right labels, {wrong} of the wrong ones");
    if evaluation.coverage.is_empty() {
        page.say(&format!("{sentence}."));
        return;
    }
    let cells = ["label", "in gold", "of these kept", "given", "of these kept"];
    page.say(&format!("{sentence}; by label:"));
    page.table(&cells);
    for label in &evaluation.coverage {
        page.row(&[
            label.label.clone(),
            text::grouped(label.num_gold as u64),
            share(label.num_gold_kept, label.num_gold),
            text::grouped(label.num_given as u64),
            share(label.num_given_kept, label.num_given),
        ]);
    }
}

/// What kinds of questions the filter loses.
fn kinds(kinds: &[KindCoverage], page: &mut Document) {
    if kinds.is_empty() {
        return;
    }
    page.say("By kind of question:");
    page.table_with_words(&["by", "kind", "n", "kept"], &[0, 1]);
    for kind in thinned(kinds) {
        let Some(KindCoverage { by, kind, num, num_kept }) = kind else {
            page.row(&vec!["...".to_owned(); 4]);
            continue;
        };
        let num_shown = text::grouped(*num as u64);
        page.row(&[by.clone(), kind.clone(), num_shown, share(*num_kept, *num)]);
    }
}

fn single_answers(runs: &[&WeakRun], names: &[String], page: &mut Document) {
    if runs.iter().all(|run| run.evaluation.rows.num_rows == 0) {
        return;
    }
    page.heading(2, "Single answers");
    page.say(
        "Accuracy of the answers to all variants, which are the rows of training; \
         weighted: each counts by its weight. Intervals: 95%, from drawing questions anew.",
    );
    page.table(&[
        "run",
        "n",
        "unparsed",
        "all",
        "kept",
        "dropped",
        "all, weighted",
        "kept, weighted",
    ]);
    for (run, name) in runs.iter().zip(names) {
        let rows = &run.evaluation.rows;
        let rates = [rows.all, rows.kept, rows.dropped, rows.weighted, rows.kept_weighted];
        let mut cells = vec![
            name.clone(),
            text::grouped(rows.num_rows as u64),
            share(rows.num_unparsed, rows.num_rows),
        ];
        cells.extend(rates.map(|rate| {
            or_dash(rate.map(|Estimate { value, low, high }| interval(value, low, high)))
        }));
        page.row(&cells);
    }
}

fn accuracy(of: &WeakAccuracy) -> String {
    or_dash(of.accuracy.map(|rate| interval(rate, of.wilson_low, of.wilson_high)))
}

fn interval(rate: f64, low: f64, high: f64) -> String {
    format!("{}% [{}, {}]", percent(rate), percent(low), percent(high))
}

fn points(Estimate { value, low, high }: Estimate) -> String {
    let [value, low, high] = [value, low, high].map(|x| 100.0 * x);
    format!("{value:+.1} [{low:+.1}, {high:+.1}]")
}

fn share(num: usize, of: usize) -> String {
    or_dash((of > 0).then(|| format!("{}%", percent(num as f64 / of as f64))))
}
