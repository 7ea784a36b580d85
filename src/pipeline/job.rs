//! Any job, as the command line and recipes name it.

use std::path::Path;

use clap::{Parser, Subcommand};

use super::{
    compare, data, eval, explain, export, filter, filter_args, label, label_args, loop_args, merge,
    model, plan, relabel, report, reproduce, rounds, score, session::Session, train, train_args,
};
use crate::error::Result;

/// A job as text names it. Each command's help is that of its options.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "a command's help is that of its options")]
pub enum Job {
    #[command(display_order = 1)]
    Label(Box<label_args::LabelArgs>),
    #[command(display_order = 2)]
    Filter(Box<filter_args::FilterArgs>),
    #[command(display_order = 3)]
    Relabel(Box<relabel::RelabelArgs>),
    #[command(display_order = 4)]
    Score(score::ScoreArgs),
    #[command(display_order = 5)]
    Train(Box<train_args::TrainArgs>),
    #[command(display_order = 6)]
    Loop(Box<loop_args::LoopArgs>),
    #[command(display_order = 7)]
    Reproduce(reproduce::ReproduceArgs),
    #[command(display_order = 8)]
    Plan(plan::PlanArgs),
    #[command(display_order = 9)]
    Merge(merge::MergeArgs),
    #[command(display_order = 10)]
    Eval(Box<eval::EvalArgs>),
    #[command(display_order = 11)]
    Compare(Box<compare::CompareArgs>),
    #[command(display_order = 12)]
    Report(report::ReportArgs),
    #[command(display_order = 16)]
    Data(data::DataArgs),
    #[command(display_order = 17)]
    Explain(Box<explain::ExplainArgs>),
    #[command(display_order = 18)]
    Export(export::ExportArgs),
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
            Self::Reproduce(args) => reproduce::run(&args, session),
            Self::Plan(args) => plan::run(&args, session),
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
            Self::Data(data::DataArgs { command: data::DataCommand::Draw(args) }) => {
                Some(&args.run.out)
            }
            _ => None,
        }
    }

    /// The model that the job runs.
    pub(super) fn model(&self) -> Option<&model::ModelArgs> {
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
            Self::Data(data::DataArgs { command: data::DataCommand::Draw(args) }) => {
                args.run.set_resume();
            }
            _ => {}
        }
    }
}
