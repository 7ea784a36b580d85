//! Any job, as the command line and recipes name it. How jobs run, `job_run` says.

use std::path::Path;

use clap::Subcommand;

use super::audit::AuditJob;
use super::compare::CompareJob;
use super::data::{DataCommand, DataJob};
use super::evaluate::EvaluateJob;
use super::explain::ExplainJob;
use super::export::ExportJob;
use super::filter::FilterJob;
use super::label::LabelJob;
use super::merge::MergeJob;
use super::model::ModelOptions;
use super::plan::PlanJob;
use super::relabel::RelabelJob;
use super::report::ReportJob;
use super::reproduce::ReproduceJob;
use super::rounds::LoopJob;
use super::score::ScoreJob;
use super::train::TrainJob;

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
    #[command(display_order = 13)]
    Audit(AuditJob),
    #[command(display_order = 16)]
    Data(DataJob),
    #[command(display_order = 17)]
    Explain(Box<ExplainJob>),
    #[command(display_order = 18)]
    Export(ExportJob),
}

impl Job {
    /// The run folder that the job makes and can continue.
    pub(super) fn out(&self) -> Option<&Path> {
        match self {
            Self::Label(args) => Some(&args.run.out),
            Self::Filter(args) => Some(&args.run.out),
            Self::Train(args) => Some(&args.run.out),
            Self::Relabel(args) => Some(&args.run.out),
            Self::Loop(args) => args.out.as_deref(),
            Self::Eval(args) => args.held_out.out(),
            Self::Data(DataJob { command: DataCommand::Draw(args) }) => Some(&args.run.out),
            _ => None,
        }
    }

    /// The model that the job runs. Whether there is one, a loop's recipe may say.
    pub(super) fn model(&self) -> Option<ModelOptions> {
        match self {
            Self::Label(args) => Some(args.model.clone()),
            Self::Filter(args) => args.model.clone(),
            Self::Train(args) => Some(args.model.clone()),
            Self::Relabel(args) => Some(args.model.clone()),
            Self::Loop(args) => Some(args.training()?.model),
            Self::Eval(args) => args.model.clone(),
            Self::Score(args) => Some(args.model.clone()),
            Self::Merge(args) => Some(args.model.clone()),
            Self::Explain(args) => Some(args.model.clone()),
            _ => None,
        }
        .map(ModelOptions::followed)
    }

    /// How the job trains, if it does.
    pub(super) fn training(&self) -> Option<TrainJob> {
        match self {
            Self::Train(args) => Some(TrainJob::clone(args)),
            Self::Loop(args) => args.training(),
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
            Self::Loop(args) => args.set_resume(),
            Self::Eval(args) => args.held_out.set_resume(),
            Self::Data(DataJob { command: DataCommand::Draw(args) }) => args.run.set_resume(),
            _ => {}
        }
    }
}
