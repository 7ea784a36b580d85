//! The command line: arguments to resolved settings, one call of a stage, an exit code.

mod baseline_args;
mod cache;
mod columns;
mod compare;
mod compare_runs;
mod data;
mod diff;
mod draw;
mod ending;
mod environment;
mod eval;
mod eval_loop;
mod eval_weak;
mod explain;
mod export;
mod export_settings;
mod filter;
mod filter_args;
mod from_gold;
mod gold_demonstrations;
mod held_out;
mod ids;
mod label;
mod label_args;
mod loop_args;
mod loop_check;
mod loss_args;
mod merge;
mod model;
mod names;
mod opened;
mod options;
mod plan;
mod printable;
mod prior_args;
mod progress;
mod published;
mod relabel;
mod report;
mod reproduce;
mod restarts;
mod rounds;
mod run_args;
mod run_labels;
mod runs;
mod score;
mod search_args;
mod serve_check;
mod server_args;
mod session;
mod settings;
mod speed;
mod steps;
mod tasks;
mod train;
mod train_args;
mod train_files;
mod train_gold;
mod train_items;
mod train_run;
mod train_settings;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use environment::settle_environment;

use crate::error::{Error, ErrorKind, Result};

/// Train a strong language model from weak or no human labels: label, filter, train, evaluate
#[derive(Debug, Parser)]
#[command(name = "w2s", version, about, max_term_width = 100, after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Results go to stdout and to run folders, progress and messages to stderr.
Exit status: 0 done, 1 the input or the run is at fault, 2 wrong usage or a bug.";

// Each command's text is that of its arguments' type.
#[derive(Debug, Subcommand)]
enum Command {
    Label(Box<label_args::LabelArgs>),
    Filter(Box<filter_args::FilterArgs>),
    Relabel(Box<relabel::RelabelArgs>),
    Score(score::ScoreArgs),
    Train(Box<train_args::TrainArgs>),
    Loop(Box<loop_args::LoopArgs>),
    Reproduce(reproduce::ReproduceArgs),
    Plan(plan::PlanArgs),
    Merge(merge::MergeArgs),
    Eval(Box<eval::EvalArgs>),
    Compare(Box<compare::CompareArgs>),
    Report(report::ReportArgs),
    Runs(runs::RunsArgs),
    Diff(diff::DiffArgs),
    Tasks(tasks::TasksArgs),
    Data(data::DataArgs),
    Explain(Box<explain::ExplainArgs>),
    Export(export::ExportArgs),
    ServeCheck(serve_check::ServeCheckArgs),
    Cache(cache::CacheArgs),
}

/// Runs the program on the process's arguments and returns its exit status.
pub fn main() -> ExitCode {
    ending::install();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            // Help and version are no errors; clap knows the stream and the status of each.
            let status = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return ExitCode::from(status);
        }
    };
    #[cfg(debug_assertions)]
    ending::rehearse();
    match args.command.run(&mut session::Session::new()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            progress::complain(format_args!("error: {error}"));
            ExitCode::from(exit_status(&error))
        }
    }
}

impl Command {
    /// Runs the command and returns whether its answer is yes, as all are but that of a comparison.
    fn run(self, session: &mut session::Session) -> Result<bool> {
        match self {
            Self::Label(args) => label::run(*args, session),
            Self::Filter(args) => filter::run(*args, session),
            Self::Relabel(args) => relabel::run(*args, session),
            Self::Score(args) => score::run(args, session),
            Self::Train(args) => train::run(*args, session),
            Self::Loop(args) => rounds::run(*args, session),
            Self::Reproduce(args) => reproduce::run(&args, session),
            Self::Plan(args) => plan::run(&args),
            Self::Merge(args) => merge::run(args, session),
            Self::Eval(args) => eval::run(*args, session),
            Self::Compare(args) => compare::run(*args),
            Self::Report(args) => report::run(args),
            Self::Runs(args) => runs::run(args),
            Self::Diff(args) => return diff::run(&args),
            Self::Tasks(args) => tasks::run(args),
            Self::Data(args) => data::run(args, session),
            Self::Explain(args) => explain::run(*args, session),
            Self::Export(args) => export::run(args),
            Self::ServeCheck(args) => serve_check::run(args),
            Self::Cache(args) => cache::run(args),
        }?;
        Ok(true)
    }

    /// The run folder that the command makes and can continue.
    fn out(&self) -> Option<&Path> {
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

    /// The model that the command runs.
    fn model(&self) -> Option<&model::ModelArgs> {
        match self {
            Self::Label(args) => Some(&args.model),
            Self::Filter(args) => args.model.as_ref(),
            Self::Train(args) => Some(&args.model),
            Self::Relabel(args) => Some(&args.model),
            Self::Eval(args) => args.model.as_ref(),
            _ => None,
        }
    }

    /// Makes the command continue the run in its folder, or begin it.
    fn set_resume(&mut self) {
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

fn exit_status(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::Internal => 2,
        _ => 1,
    }
}
