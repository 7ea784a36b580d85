//! What the pages of a report hold.

use super::document::Document;
use super::examples::Examples;
use super::loop_tables::LoopRun;
use super::overview::Overview;
use super::run::{AnyRun, Run, Shown};
use super::training::TrainRun;
use super::weak::WeakRun;

/// What both pages are made of.
#[derive(Debug)]
pub(super) struct Report {
    pub heading: String,
    pub overview: Vec<Overview>,
    pub num_comparisons: usize,
    pub figures: Vec<Figure>,
    /// The tables of all runs.
    pub tables: Document,
    pub notes: Vec<String>,
    /// The tables of single runs.
    pub sections: Document,
    pub examples: Examples,
}

/// A figure of the report.
#[derive(Debug)]
pub(super) struct Figure {
    /// The file's name without its ending.
    pub stem: String,
    pub caption: String,
    pub svg: String,
}

/// Runs by what they are, with their names.
#[derive(Default)]
pub(super) struct Sorted {
    pub evaluated: Vec<(AnyRun, String)>,
    pub trainings: Vec<(TrainRun, String)>,
    pub loops: Vec<(LoopRun, String)>,
}

impl Sorted {
    /// Returns the runs of `w2s label`.
    pub(super) fn labellings(&self) -> impl Iterator<Item = (&Run, &String)> {
        self.evaluated.iter().filter_map(|(run, name)| match run {
            AnyRun::Labels(run) => Some((&**run, name)),
            AnyRun::Weak(_) => None,
        })
    }

    /// Returns the runs of `w2s filter`.
    pub(super) fn filters(&self) -> impl Iterator<Item = (&WeakRun, &String)> {
        self.evaluated.iter().filter_map(|(run, name)| match run {
            AnyRun::Labels(_) => None,
            AnyRun::Weak(run) => Some((&**run, name)),
        })
    }

    pub(super) fn add(&mut self, run: Shown, name: String, notes: &mut Vec<String>) {
        match run {
            Shown::Labels(run) => self.evaluated.push((run, name)),
            Shown::Train(run) => self.trainings.push((*run, name)),
            Shown::Loop(run) => self.loops.push((*run, name)),
            Shown::Unevaluated(run) => {
                if let Some(reason) = &run.gold_used {
                    notes.push(format!("{name} used gold labels: {reason}"));
                }
                notes.push(format!(
                    "{name} was not compared with gold, so its accuracy is not known: `w2s eval --gold \
                     FILE RUN` does that"
                ));
            }
        }
    }
}
