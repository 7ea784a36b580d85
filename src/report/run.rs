//! Runs of every command, and what the report reads of a labelling: its result, its evaluation, its
//! curve.

use std::path::Path;

use super::files::{Identity, Start, Summary, method_name, read_curve, read_optional};
use super::loop_tables::LoopRun;
use super::training::TrainRun;
use super::weak::WeakRun;
use crate::error::Result;
use crate::eval::{Basins, CurvePoint, Diagnostics, Evaluation, Reliability};

/// A run with labels, which was evaluated.
pub(super) enum AnyRun {
    Labels(Box<Run>),
    Weak(Box<WeakRun>),
}

/// A run of any command.
pub(super) enum Shown {
    Labels(AnyRun),
    Train(Box<TrainRun>),
    Loop(Box<LoopRun>),
    /// A run with labels that were not compared with gold.
    Unevaluated(Box<UnevaluatedRun>),
}

/// What is known of a run without an evaluation.
pub(super) struct UnevaluatedRun {
    pub identity: Identity,
    /// Why gold was used in making the labels, where it was.
    pub gold_used: Option<String>,
}

impl Shown {
    /// Returns the run in a folder.
    ///
    /// # Errors
    /// When a file that the run must have is missing, or one is broken.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let start = Start::read(dir)?;
        Ok(match start.command.as_deref() {
            Some("label" | "filter") if !dir.join("eval.json").exists() => {
                Self::Unevaluated(Box::new(UnevaluatedRun::of(start)))
            }
            Some("train") => Self::Train(Box::new(TrainRun::read(dir, start)?)),
            Some("loop") => Self::Loop(Box::new(LoopRun::read(dir, start)?)),
            Some("filter") => Self::Labels(AnyRun::Weak(Box::new(WeakRun::read(dir, start)?))),
            _ => Self::Labels(AnyRun::Labels(Box::new(Run::read(dir, start)?))),
        })
    }

    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::Labels(run) => run.identity(),
            Self::Train(run) => &run.identity,
            Self::Loop(run) => &run.identity,
            Self::Unevaluated(run) => &run.identity,
        }
    }
}

impl UnevaluatedRun {
    fn of(start: Start) -> Self {
        let (method, method_name) = match (start.command.as_deref(), start.method) {
            (Some("filter"), _) => ("weak labels".to_owned(), "weak labels".to_owned()),
            (_, method) => {
                let method = method.unwrap_or_else(|| "labels".to_owned());
                let name = method_name(&method, start.gold_used.is_some());
                (method, name)
            }
        };
        let identity = Identity {
            folder: start.folder,
            method,
            method_name,
            task: start.task.unwrap_or_default(),
            model: start.model,
        };
        Self { identity, gold_used: start.gold_used }
    }
}

impl AnyRun {
    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::Labels(run) => &run.identity,
            Self::Weak(run) => &run.identity,
        }
    }

    pub(super) fn num_labels(&self) -> usize {
        match self {
            Self::Labels(run) => run.evaluation.labels.len(),
            Self::Weak(run) => run.evaluation.labels.len(),
        }
    }

    /// Returns how the label probabilities compare with gold, where both are known.
    pub(super) fn reliability(&self) -> Option<&Reliability> {
        match self {
            Self::Labels(run) => run.evaluation.reliability.as_ref(),
            Self::Weak(run) => run.evaluation.calibration.as_ref(),
        }
    }

    pub(super) fn gold_column(&self) -> &str {
        match self {
            Self::Labels(run) => &run.evaluation.gold_column,
            Self::Weak(run) => &run.evaluation.gold_column,
        }
    }
}

/// A labelling run's content, as far as it is shown.
#[derive(Debug)]
pub(super) struct Run {
    pub identity: Identity,
    /// Why gold was used in making the labels, where it was.
    pub gold_used: Option<String>,
    pub evaluation: Evaluation,
    pub summary: Summary,
    /// Empty for methods that do not search.
    pub curve: Vec<CurvePoint>,
    /// None for runs that were evaluated before there were diagnostics.
    pub diagnostics: Option<Diagnostics>,
    /// Which of several searches found the same, for a run with restarts.
    pub basins: Option<Basins>,
}

impl Run {
    /// Returns the run in a folder that begins as `start` says.
    ///
    /// # Errors
    /// When a file other than `curve.jsonl` is missing, or one is broken.
    fn read(dir: &Path, start: Start) -> Result<Self> {
        let evaluation: Evaluation = start.evaluation(dir)?;
        let method = start.method.unwrap_or_else(|| evaluation.method.clone());
        Ok(Self {
            identity: Identity {
                folder: start.folder,
                method_name: method_name(&method, start.gold_used.is_some()),
                method,
                task: start.task.unwrap_or_else(|| evaluation.task.clone()),
                model: start.model,
            },
            gold_used: start.gold_used,
            evaluation,
            summary: start.summary,
            curve: read_curve(&dir.join("curve.jsonl"))?,
            diagnostics: read_optional(&dir.join("diagnostics.json"))?,
            basins: read_optional(&dir.join("basins.json"))?,
        })
    }

    /// Returns whether the labels came from a search.
    pub(super) fn searched(&self) -> bool {
        self.identity.method == "icm"
    }
}
