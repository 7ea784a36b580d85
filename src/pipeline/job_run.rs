//! How jobs run: each by its verb.
//!
//! Nobody names this file: a job is told to run, so that a verb which runs jobs imports no verb.

use super::job::Job;
use super::{
    CompareJob, DataJob, EvaluateJob, ExplainJob, ExportJob, FilterJob, FilterSummary, LabelJob,
    LoopJob, MergeJob, Outcome, PlanJob, RelabelJob, RelabelSummary, ReportJob, ReproduceJob,
    ScoreJob, TrainJob, TrainSummary,
};
use super::{
    compare, data, eval, explain, export, filter, label, merge, plan, relabel, report, reproduce,
    rounds, score, session::Session, train,
};
use crate::error::Result;
use crate::label::Summary;

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
