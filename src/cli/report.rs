//! `w2s report`: figures from evaluated runs and trainings.

use std::path::PathBuf;

use clap::Args;

use super::progress;
use crate::error::Result;

/// Draw evaluated runs: accuracy bars, search curves and diagnostics, as SVG, PNG and Markdown
///
/// Runs of `w2s filter` also get weak labels by entropy, and reliability by truth and answer. Every
/// run must have been evaluated with `w2s eval` first, save those of `w2s train`, whose loss and
/// learning rate are drawn. Nothing is computed here.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Run folders, in the order of the bars
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Basins of several searches, from `w2s eval --basins FILE`
    #[arg(long, value_name = "FILE")]
    basins: Option<PathBuf>,
    /// Folder for the figures; figures of an earlier report there are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: ReportArgs) -> Result<()> {
    let summary = crate::report::report(&args.runs, args.basins.as_deref(), &args.out)?;
    for note in &summary.notes {
        progress::say(format_args!("note: {note}"));
    }
    for file in &summary.files {
        progress::print(format_args!("{}", file.display()))?;
    }
    Ok(())
}
