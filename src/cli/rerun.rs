//! `w2s rerun`: a run made again, with some options replaced.

use std::path::PathBuf;

use clap::Args;

use super::terminal;
use w2s::error::Result;
use w2s::pipeline::{Job, rerun};

/// Run the command of a run again, with some of its options replaced
///
/// The command is the run's own, as its manifest has it; options behind the folder replace those of the
/// same name. Paths are as they were typed, so start it in the folder that the run was started in
/// (`w2s show RUN` says which).
///
/// Examples:
///   w2s rerun runs/mine --seed 1 --out runs/mine-1
///   w2s rerun runs/mine --model models/smollm2-135m-instruct --out runs/other
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct RerunArgs {
    /// Run folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Options of the run's command; `--out NEW` must be among them
    #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Returns the job, and says how it would be typed.
pub(super) fn job(args: &RerunArgs) -> Result<Job> {
    let job = rerun(&args.run, &args.options)?;
    terminal::complain(format_args!("{}", w2s::pipeline::typed(&job.command_line())));
    Ok(job)
}
