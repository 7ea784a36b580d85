//! What runs tell while they work, and who listens.

use std::path::{Path, PathBuf};

use super::audit::{AuditCertified, AuditDrawn};
use super::filter::FilterSummary;
use super::note::Note;
use super::plan::Plan;
use super::relabel::RelabelSummary;
use super::reproduce::Reproduction;
use super::results::{Explanation, Exported, PromptScores};
use super::train::TrainSummary;
use super::warning::Warning;
use crate::error::Result;
use crate::eval::{
    Basins, ColumnComparison, Comparison, Evaluation, LoopEvaluation, WeakEvaluation,
};
use crate::label::{Labelling, RestartSummary, TraceEvent};
use crate::report::ReportSummary;
use crate::run::{LoopRecord, Manifest, Round, RunDir};
use crate::score::{Calibration, Prior};
use crate::server::Spent;
use crate::train::StepReport;

/// Listens to what the runs of a [`Session`](super::Session) tell.
///
/// Closures over `&Event` are observers.
pub trait Observer {
    /// Takes one event.
    ///
    /// # Errors
    /// What ends the run at this event; it can be gone on with later. An error at a [`Note`], at a
    /// [`Warning`], at the begin or end of work and at what a run folder holds now is not looked at.
    fn event(&mut self, event: &Event<'_>) -> Result<()>;
}

impl<F: FnMut(&Event<'_>) -> Result<()>> Observer for F {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        self(event)
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event<'_>) -> Result<()> {
        Ok(())
    }
}

/// Something that a run tells.
///
/// Programs match what they want and leave the rest to `_`: events are added. The enum can be matched to
/// its end all the same, so that the terminal has words for each or does not build.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something that a person wants to know.
    Note(&'a Note),
    /// Something that should make a person look.
    Warning(&'a Warning),
    /// A run begins or goes on, with these settings.
    Settings(&'a Manifest),
    /// From here on the process may be ended at any instant, and this says how to go on.
    Interruptible(Resume<'a>),
    /// A job of a series begins, or was complete.
    Series(Series<'a>),
    /// Work without steps begins.
    Waiting(Wait),
    /// Examples are going to be labelled or asked about.
    Labelling {
        /// The most iterations of a search of one batch; `None` of what is no search.
        iterations: Option<u64>,
        /// Examples in all.
        num_examples: usize,
    },
    /// A step of a labelling; [`TraceEvent::Scored`] also of other questions.
    Label(&'a TraceEvent),
    /// A training begins, or goes on behind the first `num_done` steps.
    Training {
        /// Steps in all.
        num_steps: usize,
        /// Steps that were made before.
        num_done: usize,
    },
    /// A step of a training.
    Step {
        /// What it came to.
        report: &'a StepReport,
        /// Since the program began.
        tokens_per_second: f64,
    },
    /// Labels were found and written.
    Labelled {
        /// The labels, and what they came to.
        labelling: &'a Labelling,
        /// How the model's prior towards label words was corrected.
        calibration: Calibration,
        /// The shares of labels that this supposed.
        prior: &'a Prior,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// Several searches were compared, before their best is told as [`Labelled`](Event::Labelled).
    Restarted {
        /// The searches.
        restarts: &'a [RestartSummary],
        /// Which of them found the same.
        basins: &'a Basins,
    },
    /// Questions were filtered, and what is kept written.
    Filtered {
        /// What became of them.
        summary: &'a FilterSummary,
        /// Whether the task's answers are written, not chosen.
        is_open: bool,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// Labels were looked at again.
    Relabelled {
        /// What became of them.
        summary: &'a RelabelSummary,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// A training has ended, and what was trained is written.
    Trained {
        /// What it came to.
        summary: &'a TrainSummary,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// A test file was labelled by prompting with other labels, before they are evaluated.
    LabelledTest {
        /// The labels, and what they came to.
        labelling: &'a Labelling,
        /// Labelled examples that the prompts show.
        num_demonstrations: usize,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// A run that is no part of a series is complete, and all of it was told.
    Finished {
        /// Its folder.
        folder: &'a RunDir,
    },
    /// What was asked of a server in a run, and what it cost.
    Spent(&'a Spent),
    /// The rounds of a loop have ended, well or by a brake.
    Looped {
        /// What they came to.
        record: &'a LoopRecord,
        /// Each of them.
        rounds: &'a [Round],
        /// The loop's folder.
        folder: &'a RunDir,
    },
    /// Labels of runs were held against gold.
    Evaluated {
        /// The run folders, and how right their labels are.
        runs: &'a [(PathBuf, Evaluation)],
        /// Whether numbers of each label are asked for.
        per_label: bool,
    },
    /// Runs of filters were held against gold.
    EvaluatedFilters(&'a [(PathBuf, WeakEvaluation)]),
    /// The rounds of loops were held against gold.
    EvaluatedLoops(&'a [(PathBuf, LoopEvaluation)]),
    /// Several searches were compared with each other: which of them found the same.
    EvaluatedSearches(&'a Basins),
    /// Methods were compared by one gold column.
    Compared {
        /// Of all columns.
        comparison: &'a Comparison,
        /// The column.
        column: &'a ColumnComparison,
        /// Whether it is the first.
        is_first: bool,
    },
    /// What a recipe or a job will cost.
    Planned {
        /// What was counted and measured.
        plan: &'a Plan,
        /// Hours that there are, if they were named.
        most_hours: Option<f64>,
        /// Whether JSON is asked for.
        as_json: bool,
    },
    /// What a recipe came to, or which there are.
    Reproduced(&'a Reproduction),
    /// A prompt was answered; in the order of the file.
    Scored(&'a PromptScores),
    /// An adapter was merged into its model.
    Merged {
        /// Since the job began.
        seconds: f64,
        /// The folder of the merged model.
        folder: &'a RunDir,
    },
    /// Files of a data set are here.
    Pulled(&'a [PathBuf]),
    /// A part of a data file was drawn and written.
    Drawn {
        /// The part's file.
        file: &'a Path,
        /// How many records it has.
        num_records: usize,
    },
    /// A model put the concept behind labels in words.
    Explained {
        /// Its words, and what it was shown.
        explanation: &'a Explanation,
        /// Where they are written.
        file: &'a Path,
    },
    /// Rows of labels were drawn for an audit.
    AuditDrawn(&'a AuditDrawn),
    /// The answers to an audit were judged.
    AuditCertified(&'a AuditCertified),
    /// A labelled set was written for another trainer.
    Exported(&'a Exported),
    /// Figures and pages were drawn.
    Reported(&'a ReportSummary),
    /// What was begun by the last [`Waiting`](Event::Waiting), [`Labelling`](Event::Labelling) or
    /// [`Training`](Event::Training) has ended, well or not.
    Ended,
}

/// How to go on with what was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume<'a> {
    /// The same job, resumed; nothing is lost.
    Run {
        /// The run's folder.
        folder: &'a Path,
    },
    /// The same training, resumed, which goes on from its last checkpoint.
    Training {
        /// The run's folder.
        folder: &'a Path,
    },
    /// The same recipe: what is done is not done again.
    Recipe {
        /// The folder of its runs.
        folder: &'a Path,
    },
    /// The same loop, resumed.
    Loop {
        /// The command that does it, as it is typed; none for a loop that no command line began.
        command: Option<&'a str>,
    },
}

/// A job of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series<'a> {
    /// What it is called among the jobs, such as `round-1/label`.
    pub name: &'a str,
    /// Where it stands; none for a job by itself.
    pub place: Option<StepPlace>,
    /// The job as it is typed.
    pub command: &'a str,
    /// Whether its run was complete, so that it is skipped.
    pub is_complete: bool,
}

/// Where a job of a series stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepPlace {
    /// From 1 on.
    pub number: usize,
    /// How many there are at most.
    pub of: usize,
}

/// Work without steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A model is opened.
    OpeningModel,
    /// The other processes of a training are waited for.
    OtherProcesses,
    /// What jobs would run is counted.
    Counting,
    /// The machine is measured.
    Measuring,
}
