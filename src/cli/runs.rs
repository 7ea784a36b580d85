//! `w2s runs`: a line for each run folder.

use std::path::PathBuf;

use clap::Args;

use super::terminal::{self, complain};
use w2s::error::{Error, ErrorKind, Result};
use w2s::report::{aligned, or_dash};
use w2s::run::{FoundRun, RunState, find_runs, utc};

/// List run folders: what each is, how far it came, and how right its labels are
///
/// Looks in the folder and all below it for folders that a command of w2s made. Prints a line for each:
/// path, command, task, model, data, seed, score of a search or loss of a training, accuracy where
/// `w2s eval` was run, state, and when something was last written (UTC). Only reads.
///
/// With --digest a line has the run's digest and path alone. The digest tells what a run is: command,
/// resolved settings, seed, contents of the inputs and versions, whatever its folder and the paths of
/// its inputs. Runs of one digest have the same results.
///
/// Examples:
///   w2s runs
///   w2s runs experiments --json
///   w2s runs --digest
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct RunsArgs {
    /// Folder to look in
    #[arg(value_name = "DIR", default_value = "runs")]
    dir: PathBuf,
    /// Print a JSON list with everything that is known of each run
    #[arg(long)]
    json: bool,
    /// Print digest and path of each run
    #[arg(long, conflicts_with = "json")]
    digest: bool,
}

pub(super) fn run(args: RunsArgs) -> Result<()> {
    let found = find_runs(&args.dir)?;
    if args.json {
        let text = serde_json::to_string_pretty(&found)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        return terminal::print(format_args!("{text}"));
    }
    if found.is_empty() {
        complain(format_args!("no run in `{}`", args.dir.display()));
        return Ok(());
    }
    let path = |run: &FoundRun| run.path.display().to_string();
    if args.digest {
        for run in &found {
            let digest = or_dash(run.digest.clone());
            terminal::print(format_args!("{digest:<64}  {}", path(run)))?;
        }
        return Ok(());
    }
    let head = [
        "run",
        "command",
        "task",
        "model",
        "data",
        "seed",
        "score/loss",
        "accuracy",
        "state",
        "written (UTC)",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for run in &found {
        let command = match &run.method {
            Some(method) => format!("{} {method}", run.command),
            None => run.command.clone(),
        };
        rows.push(vec![
            path(run),
            if command.is_empty() { "-".to_owned() } else { command },
            or_dash(run.task.clone()),
            or_dash(run.model.clone()),
            or_dash(run.data.clone()),
            or_dash(run.seed.map(|seed| seed.to_string())),
            or_dash(
                run.score
                    .map(|score| format!("{score:.3}"))
                    .or_else(|| run.loss.map(|loss| format!("{loss:.4}"))),
            ),
            or_dash(run.accuracy.map(|rate| format!("{:.1} %", 100.0 * rate))),
            state(&run.state),
            or_dash(run.modified.map(utc)),
        ]);
    }
    for line in aligned(&rows, &[5, 6, 7]) {
        terminal::print(format_args!("{line}"))?;
    }
    Ok(())
}

pub(super) fn state(state: &RunState) -> String {
    match state {
        RunState::Complete => "complete".to_owned(),
        RunState::Unfinished { progress: None } => "unfinished".to_owned(),
        RunState::Unfinished { progress: Some(done) } => format!("unfinished ({done})"),
        RunState::Damaged { reason } => format!("damaged ({reason})"),
    }
}
