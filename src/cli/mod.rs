//! The command line: arguments to resolved settings, one call of a stage, an exit code.

mod baseline_args;
mod data;
mod diff;
mod environment;
mod eval;
mod eval_weak;
mod filter;
mod filter_args;
mod from_gold;
mod gold_demonstrations;
mod held_out;
mod label;
mod label_args;
mod loss_args;
mod merge;
mod model;
mod names;
mod progress;
mod published;
mod report;
mod restarts;
mod run_args;
mod score;
mod search_args;
mod settings;
mod tasks;
mod train;
mod train_args;
mod train_files;
mod train_gold;
mod train_items;
mod train_run;
mod train_settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use environment::settle_environment;

use crate::error::{Error, ErrorKind};

/// Label data with a language model and no human labels, and see how right the labels are.
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
    Score(score::ScoreArgs),
    Train(Box<train_args::TrainArgs>),
    Merge(merge::MergeArgs),
    Eval(Box<eval::EvalArgs>),
    Report(report::ReportArgs),
    Diff(diff::DiffArgs),
    Tasks(tasks::TasksArgs),
    Data(data::DataArgs),
}

/// Runs the program on the process's arguments and returns its exit status.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            // Help and version are no errors; clap knows the stream and the status of each.
            let status = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return ExitCode::from(status);
        }
    };
    let result = match args.command {
        Command::Label(args) => label::run(*args),
        Command::Filter(args) => filter::run(*args),
        Command::Score(args) => score::run(args),
        Command::Train(args) => train::run(*args),
        Command::Merge(args) => merge::run(args),
        Command::Eval(args) => eval::run(*args),
        Command::Report(args) => report::run(args),
        Command::Diff(args) => match diff::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(1),
            Err(error) => Err(error),
        },
        Command::Tasks(args) => tasks::run(args),
        Command::Data(args) => data::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::complain(format_args!("error: {error}"));
            ExitCode::from(exit_status(&error))
        }
    }
}

fn exit_status(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::Internal => 2,
        _ => 1,
    }
}
