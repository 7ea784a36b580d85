//! The command line: arguments to a job, what it tells to a terminal, an exit status.

mod cache;
mod diff;
mod ending;
mod guide;
mod help;
mod loudness;
mod new_task;
mod printable;
mod rerun;
mod runs;
mod serve_check;
mod settings_text;
mod shell;
mod show;
mod tasks;
mod terminal;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use self::loudness::Loudness;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use w2s::error::{Error, ErrorKind, Result};
use w2s::pipeline::{Job, Session};

/// Train a strong language model from weak or no human labels: label, filter, train, evaluate
#[derive(Debug, Parser)]
#[command(name = "w2s", version, about, max_term_width = 100, after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print every setting of a run, not only those that differ from the defaults
    #[arg(short, long, global = true, conflicts_with = "quiet", display_order = 900)]
    verbose: bool,
    /// Print results, warnings and errors only
    #[arg(short, long, global = true, display_order = 901)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Results go to stdout and to run folders, progress and messages to stderr.
Exit status: 0 done, 1 the input or the run is at fault, 2 wrong usage or a bug.";

// Each command's text is that of its arguments' type.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Job(Box<Job>),
    #[command(display_order = 12)]
    Show(show::ShowArgs),
    #[command(display_order = 13)]
    Rerun(rerun::RerunArgs),
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
    #[command(display_order = 21)]
    Guide(guide::GuideArgs),
    #[command(display_order = 22)]
    Completions(shell::CompletionsArgs),
    #[command(display_order = 23)]
    Man(shell::ManArgs),
}

/// Runs the program on the process's arguments and returns its exit status.
pub(crate) fn main() -> ExitCode {
    let args = match parse(std::env::args_os().collect()) {
        Ok(args) => args,
        Err(e) => {
            // Help and version are no errors; clap knows the stream and the status of each.
            let status = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return ExitCode::from(status);
        }
    };
    // What needs no model starts once only.
    if args.command.opens_models() {
        w2s::lm::settle_environment();
    }
    ending::install();
    #[cfg(debug_assertions)]
    ending::rehearse();
    let loudness = match (args.quiet, args.verbose) {
        (true, _) => Loudness::Quiet,
        (_, true) => Loudness::Verbose,
        _ => Loudness::Plain,
    };
    match args.command.run(loudness) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            terminal::complain(format_args!("error: {error}"));
            ExitCode::from(exit_status(&error))
        }
    }
}

impl Command {
    /// Whether the command may run a model.
    fn opens_models(&self) -> bool {
        matches!(self, Self::Job(_) | Self::Rerun(_))
    }

    /// Runs the command and returns whether its answer is yes, as all are but that of a comparison.
    fn run(self, loudness: Loudness) -> Result<bool> {
        match self {
            Self::Job(job) => {
                let session = Session::new(terminal::Terminal::new(loudness));
                job.run(&mut session.with_command_line(own_words()))
            }
            Self::Show(args) => show::run(args),
            Self::Rerun(args) => {
                let job = rerun::job(&args)?;
                let session = Session::new(terminal::Terminal::new(loudness));
                let words = job.command_line();
                job.run(&mut session.with_command_line(words))
            }
            Self::Runs(args) => runs::run(args),
            Self::Diff(args) => return diff::run(&args),
            Self::Tasks(args) => tasks::run(args),
            Self::ServeCheck(args) => serve_check::run(args),
            Self::Cache(args) => cache::run(args),
            Self::Guide(args) => guide::run(&args),
            Self::Completions(args) => shell::completions(&args, Args::command()),
            Self::Man(args) => shell::man(&args, help::in_order(Args::command())),
        }?;
        Ok(true)
    }
}

/// The words of the process without those that say how much is printed, which are no part of a run.
fn own_words() -> impl Iterator<Item = String> {
    let is_loudness = |word: &String| ["-q", "-v", "--quiet", "--verbose"].contains(&word.as_str());
    std::env::args().filter(move |word| !is_loudness(word))
}

/// Returns the arguments that words come to, or the help that they ask for.
fn parse(words: Vec<OsString>) -> std::result::Result<Args, clap::Error> {
    let program = help::shortened(Args::command());
    let asks = |word: &OsString| ["-h", "--help", "help"].iter().any(|&help| word == help);
    if words.iter().any(asks)
        && let Err(found) = help::in_order(program.clone()).try_get_matches_from(&words)
        && found.kind() == clap::error::ErrorKind::DisplayHelp
    {
        return Err(found);
    }
    Args::from_arg_matches(&program.try_get_matches_from(words)?)
}

fn exit_status(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::Internal => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::help::{SHORT, in_order};
    use super::*;

    #[test]
    fn what_is_shown_is_there() {
        let program = Args::command();
        for (name, shown) in SHORT {
            let command = program.find_subcommand(name).unwrap();
            for option in shown {
                let is_it = |arg: &clap::Arg| arg.get_long() == Some(*option);
                assert!(command.get_arguments().any(is_it), "`{name}` has no --{option}");
            }
            assert!(shown.len() <= 13, "{name}");
        }
    }

    #[test]
    fn data_come_first_and_servers_last() {
        let mut program = in_order(Args::command());
        let help = program.find_subcommand_mut("label").unwrap().render_long_help().to_string();
        let places: Vec<usize> =
            ["\nData:", "\nMethod:", "\nRun:", "\nModel:", "\nSearch (icm):", "\nServer ("]
                .iter()
                .map(|heading| help.find(heading).unwrap())
                .collect();
        assert!(places.is_sorted(), "{places:?}\n{help}");
    }
}
