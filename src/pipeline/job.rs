//! Any job, as the command line and recipes name it.

use std::path::Path;

use clap::{Parser, Subcommand};

use super::{
    CompareJob, DataJob, EvaluateJob, ExplainJob, ExportJob, FilterJob, FilterSummary, LabelJob,
    LoopJob, MergeJob, Outcome, PlanJob, RelabelJob, RelabelSummary, ReportJob, ReproduceJob,
    ScoreJob, TrainJob, TrainSummary,
};
use super::{
    compare, data, eval, explain, export, filter, label, merge, model, plan, relabel, report,
    reproduce, rounds, score, session::Session, train,
};
use crate::error::Result;
use crate::label::Summary;

/// A job as text names it. Each command's help is that of its options.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "a command's help is that of its options")]
pub enum Job {
    #[command(display_order = 1)]
    Label(Box<LabelJob>),
    #[command(display_order = 2)]
    Filter(Box<FilterJob>),
    #[command(display_order = 3)]
    Relabel(Box<RelabelJob>),
    #[command(display_order = 4)]
    Score(ScoreJob),
    #[command(display_order = 5)]
    Train(Box<TrainJob>),
    #[command(display_order = 6)]
    Loop(Box<LoopJob>),
    #[command(display_order = 7)]
    Reproduce(ReproduceJob),
    #[command(display_order = 8)]
    Plan(PlanJob),
    #[command(display_order = 9)]
    Merge(MergeJob),
    #[command(display_order = 10)]
    Eval(Box<EvaluateJob>),
    #[command(display_order = 11)]
    Compare(Box<CompareJob>),
    #[command(display_order = 12)]
    Report(ReportJob),
    #[command(display_order = 16)]
    Data(DataJob),
    #[command(display_order = 17)]
    Explain(Box<ExplainJob>),
    #[command(display_order = 18)]
    Export(ExportJob),
}

/// A job as a whole command line, for text that names one.
#[derive(Debug, Parser)]
#[command(name = "w2s")]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) job: Job,
}

impl Job {
    /// Runs the job.
    ///
    /// # Errors
    /// What its verb refuses or fails at.
    pub fn run(self, session: &mut Session<'_>) -> Result<()> {
        match self {
            Self::Label(args) => label::run(*args, session).map(drop),
            Self::Filter(args) => filter::run(*args, session).map(drop),
            Self::Relabel(args) => relabel::run(*args, session).map(drop),
            Self::Score(args) => score::run(args, session),
            Self::Train(args) => train::run(*args, session).map(drop),
            Self::Loop(args) => rounds::run(*args, session),
            Self::Reproduce(args) => reproduce::run(args, session),
            Self::Plan(args) => plan::run(args, session),
            Self::Merge(args) => merge::run(args, session),
            Self::Eval(args) => eval::run(*args, session),
            Self::Compare(args) => compare::run(*args, session),
            Self::Report(args) => report::run(args, session),
            Self::Data(args) => data::run(args, session),
            Self::Explain(args) => explain::run(*args, session),
            Self::Export(args) => export::run(args, session),
        }
    }

    /// The run folder that the job makes and can continue.
    pub(super) fn out(&self) -> Option<&Path> {
        match self {
            Self::Label(args) => Some(&args.run.out),
            Self::Filter(args) => Some(&args.run.out),
            Self::Train(args) => Some(&args.run.out),
            Self::Relabel(args) => Some(&args.run.out),
            Self::Eval(args) => args.held_out.out(),
            Self::Data(DataJob { command: data::DataCommand::Draw(args) }) => Some(&args.run.out),
            _ => None,
        }
    }

    /// The model that the job runs.
    pub(super) fn model(&self) -> Option<&model::ModelOptions> {
        match self {
            Self::Label(args) => Some(&args.model),
            Self::Filter(args) => args.model.as_ref(),
            Self::Train(args) => Some(&args.model),
            Self::Relabel(args) => Some(&args.model),
            Self::Eval(args) => args.model.as_ref(),
            _ => None,
        }
    }

    /// Makes the job continue the run in its folder, or begin it.
    pub(super) fn set_resume(&mut self) {
        match self {
            Self::Label(args) => args.run.set_resume(),
            Self::Filter(args) => args.run.set_resume(),
            Self::Train(args) => args.run.set_resume(),
            Self::Relabel(args) => args.run.set_resume(),
            Self::Eval(args) => args.held_out.set_resume(),
            Self::Data(DataJob { command: data::DataCommand::Draw(args) }) => {
                args.run.set_resume();
            }
            _ => {}
        }
    }
}

impl LabelJob {
    /// Labels the data, in a run folder.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::error::ErrorKind::Usage) for options that do not go together,
    /// [`Run`](crate::error::ErrorKind::Run) for a folder that holds another run, and what reading the data,
    /// opening the model and scoring may meet.
    pub fn run(self, session: &mut Session<'_>) -> Result<Outcome<Summary>> {
        label::run(self, session)
    }
}

impl FilterJob {
    /// Asks the questions in variants, keeps the labels that are sure, and weighs them, in a run folder.
    ///
    /// # Errors
    /// As [`LabelJob::run`].
    pub fn run(self, session: &mut Session<'_>) -> Result<Outcome<FilterSummary>> {
        filter::run(self, session)
    }
}

impl RelabelJob {
    /// Has a model look at labels again, in a run folder.
    ///
    /// # Errors
    /// As [`LabelJob::run`].
    pub fn run(self, session: &mut Session<'_>) -> Result<Outcome<RelabelSummary>> {
        relabel::run(self, session)
    }
}

impl TrainJob {
    /// Trains on labels, in a run folder. `None` in a process of a group that is not its first, which alone
    /// has the folder.
    ///
    /// # Errors
    /// As [`LabelJob::run`], and [`ErrorKind::Numeric`](crate::error::ErrorKind::Numeric) for a loss that is
    /// no number.
    pub fn run(self, session: &mut Session<'_>) -> Result<Option<Outcome<TrainSummary>>> {
        train::run(self, session)
    }
}

macro_rules! runs {
    ($($job:ty, $module:ident, $what:literal;)+) => {$(
        impl $job {
            #[doc = $what]
            ///
            /// # Errors
            /// What the job refuses or fails at.
            pub fn run(self, session: &mut Session<'_>) -> Result<()> {
                $module::run(self, session)
            }
        }
    )+};
}

runs! {
    LoopJob, rounds, "Labels and trains in rounds, in a folder of run folders.";
    ScoreJob, score, "Tells the log-probabilities of labels after prompts, as results.";
    MergeJob, merge, "Merges an adapter into its model, in a folder.";
    EvaluateJob, eval, "Holds runs against gold, and writes what it finds into their folders.";
    CompareJob, compare, "Compares methods over runs and items, in a folder.";
    ReportJob, report, "Draws figures and a page of runs, in a folder.";
    DataJob, data, "Draws parts of a data file, or fetches a data set.";
    ExplainJob, explain, "Asks a model to put the concept behind a run's labels in words.";
    ExportJob, export, "Writes a run's labels for other trainers, in a folder.";
    PlanJob, plan, "Tells what a recipe or a job will cost.";
    ReproduceJob, reproduce, "Runs the steps of a recipe, in a folder.";
}
