//! The figures of a report, in the order they are shown, each with a file name of its own.

use std::collections::HashSet;

use super::bars::{Bar, BarChart, accuracy_bars};
use super::calibration::{CalibrationChart, calibration_diagram};
use super::contents::{Figure, Sorted};
use super::curve::{SearchChart, search_curve};
use super::entropy_bins::{EntropyChart, entropy_bars};
use super::heat_map::{HeatMap, heat_map};
use super::loop_curve::loop_curve;
use super::loss::loss_curve;
use super::methods::Methods;
use super::run::{AnyRun, Run};
use super::run_names::{common, safe, unused};
use super::weak::WeakRun;
use crate::eval::{Reliability, WeakAccuracy};

/// Returns the figures of comparisons and runs.
pub(super) fn draw(methods: &[Methods], sorted: &Sorted, heading: &str) -> Vec<Figure> {
    let mut stems = HashSet::new();
    let mut figures = Vec::new();
    for (caption, svg) in methods.iter().flat_map(Methods::figures) {
        figures.push(Figure { stem: unused("methods", &mut stems), caption, svg });
    }
    let evaluated = &sorted.evaluated;
    if !evaluated.is_empty() {
        let svg = accuracy_bars(&bar_chart(evaluated, heading));
        let (stem, caption) = ("accuracy".to_owned(), "Accuracy of each run".to_owned());
        figures.push(Figure { stem, caption, svg });
    }
    let mut namer = Namer { heading, stems };
    let searched: Vec<(&Run, &String)> =
        sorted.labellings().filter(|(run, _)| !run.curve.is_empty()).collect();
    for (run, name) in &searched {
        let (stem, title) =
            namer.name(["search", "Search"], &run.identity.folder, name, searched.len());
        let caption = format!("Course of the search, {name}");
        figures.push(Figure { stem, caption, svg: search_curve(&search_chart(run, title)) });
    }
    let filtered: Vec<(&WeakRun, &String)> = sorted.filters().collect();
    for (run, name) in &filtered {
        let alone = filtered.iter().filter(|(other, _)| other.has_same_subject(run)).count() == 1;
        for (kind, caption, svg) in weak_figures(run, alone) {
            let (stem, _) = namer.name([kind, ""], &run.identity.folder, name, filtered.len());
            figures.push(Figure { stem, caption: format!("{caption}, {name}"), svg });
        }
    }
    let known: Vec<(&AnyRun, &String, &Reliability)> =
        evaluated.iter().filter_map(|(run, name)| Some((run, name, run.reliability()?))).collect();
    for (run, name, reliability) in &known {
        let folder = &run.identity().folder;
        let (stem, title) = namer.name(["calibration", "Calibration"], folder, name, known.len());
        let chart = CalibrationChart { title, reliability: (*reliability).clone() };
        let caption = format!("Calibration of the labels, {name}");
        figures.push(Figure { stem, caption, svg: calibration_diagram(&chart) });
    }
    for (run, name) in &sorted.trainings {
        let num = sorted.trainings.len();
        let (stem, title) = namer.name(["loss", "Training"], &run.identity.folder, name, num);
        let svg = loss_curve(&run.chart(title));
        figures.push(Figure { stem, caption: format!("Loss, {name}"), svg });
    }
    for (run, name) in &sorted.loops {
        let num = sorted.loops.len();
        let (stem, title) = namer.name(["loop", "Loop"], &run.identity.folder, name, num);
        let svg = loop_curve(&run.chart(title));
        figures.push(Figure { stem, caption: format!("Rounds, {name}"), svg });
    }
    figures
}

/// Gives figures names that no other has.
struct Namer<'a> {
    heading: &'a str,
    stems: HashSet<String>,
}

impl Namer<'_> {
    /// Returns stem and title of a figure of which there are `num`, one for each run.
    fn name(
        &mut self,
        [kind, what]: [&str; 2],
        folder: &str,
        name: &str,
        num: usize,
    ) -> (String, String) {
        let heading = self.heading;
        match num {
            1 => (kind.to_owned(), format!("{what}: {heading}")),
            _ => (
                unused(&format!("{kind}-{}", safe(folder)), &mut self.stems),
                format!("{what}: {heading}, {name}"),
            ),
        }
    }
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

fn bar_chart(runs: &[(AnyRun, String)], heading: &str) -> BarChart {
    let searched =
        runs.iter().filter(|(run, _)| matches!(run, AnyRun::Labels(run) if run.searched()));
    // The searches stand out against their baselines; without baselines nothing does.
    let stand_out = searched.count() < runs.len();
    let mut bars = Vec::new();
    for (run, name) in runs {
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
    let num_labels = common(runs, |(run, _)| Some(run.num_labels())).filter(|&num| num > 0);
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
