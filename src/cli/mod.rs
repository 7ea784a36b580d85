//! The command line: arguments to a job, what it tells to a terminal, an exit status.

mod cache;
mod diff;
mod ending;
mod new_task;
mod printable;
mod runs;
mod serve_check;
mod settings_text;
mod tasks;
mod terminal;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use w2s::error::{Error, ErrorKind, Result};
use w2s::pipeline::{Job, Session};

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
    #[command(flatten)]
    Job(Box<Job>),
    #[command(display_order = 13)]
    Runs(runs::RunsArgs),
    #[command(display_order = 14)]
    Diff(diff::DiffArgs),
    #[command(display_order = 15)]
    Tasks(tasks::TasksArgs),
    #[command(display_order = 19)]
    ServeCheck(serve_check::ServeCheckArgs),
    #[command(display_order = 20)]
    Cache(cache::CacheArgs),
}

/// Runs the program on the process's arguments and returns its exit status.
pub(crate) fn main() -> ExitCode {
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
    match args.command.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            terminal::complain(format_args!("error: {error}"));
            ExitCode::from(exit_status(&error))
        }
    }
}

impl Command {
    /// Runs the command and returns whether its answer is yes, as all are but that of a comparison.
    fn run(self) -> Result<bool> {
        match self {
            Self::Job(job) => {
                let session = Session::new(terminal::Terminal::default());
                job.run(&mut session.with_command_line(std::env::args()))
            }
            Self::Runs(args) => runs::run(args),
            Self::Diff(args) => return diff::run(&args),
            Self::Tasks(args) => tasks::run(args),
            Self::ServeCheck(args) => serve_check::run(args),
            Self::Cache(args) => cache::run(args),
        }?;
        Ok(true)
    }
}

fn exit_status(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::Internal => 2,
        _ => 1,
    }
}
