//! The options of every command that makes a run folder.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::error::Result;
use crate::run::{OpenMode, RunDir};

/// The folder of a run, and the seed.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Run")]
pub struct RunOptions {
    /// Run folder to make
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Continue the run in the folder; begin it if there is none
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace the run in the folder
    #[arg(long)]
    pub force: bool,
    /// Seed of everything random
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
}

impl RunOptions {
    /// Returns a new run in a folder, with seed 0.
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self { out: out.into(), ..Self::default() }
    }

    /// Continues the run in the folder, or begins it, whatever the command line says.
    pub(super) fn set_resume(&mut self) {
        (self.resume, self.force) = (true, false);
    }

    /// A setting of the run that is gone on with.
    pub(super) fn recorded(&self, setting: &str) -> Option<String> {
        if !self.resume {
            return None;
        }
        // What is wrong with a folder is said when it is opened.
        let (_, manifest) = RunDir::existing(&self.out).ok()?;
        manifest.settings.get(setting)?.as_str().map(str::to_owned)
    }

    /// Refuses a folder in which the command can make no run, before anything is read.
    pub(super) fn check(&self, command: &str) -> Result<()> {
        RunDir::check_place(&self.out, command, self.mode())
    }

    pub(super) fn mode(&self) -> OpenMode {
        match (self.resume, self.force) {
            (true, _) => OpenMode::Resume,
            (_, true) => OpenMode::Force,
            _ => OpenMode::New,
        }
    }
}
