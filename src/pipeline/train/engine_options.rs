//! The options of engines.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::error::Result;
use crate::pipeline::usage::{usage, wrong};

/// Who trains.
#[derive(Clone, Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// Train with another engine, whose launcher spreads a model over GPUs and machines: trl is
    /// transformers, PEFT and accelerate. Adapters and the loss xent only; weights, normalisation, borders of labels and order
    /// are those of `w2s train` [default: w2s itself]
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub engine: Option<EngineName>,
    /// Python that has torch, transformers, peft and accelerate (`--engine`) [default: python3]
    #[arg(long, value_name = "PYTHON", requires = "engine")]
    pub python: Option<PathBuf>,
    /// Command that starts the engine's program (`--engine`), in place of `PYTHON -m
    /// accelerate.commands.launch`; the program and its settings are added
    #[arg(long, value_name = "COMMAND", requires = "engine", conflicts_with = "python")]
    pub launcher: Option<String>,
}

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// transformers, PEFT and accelerate
    Trl,
}

impl EngineOptions {
    pub(super) fn is_given(&self) -> bool {
        self.engine.is_some()
    }

    /// The words that start the program.
    pub(super) fn command(&self) -> Result<Vec<String>> {
        let Some(launcher) = &self.launcher else {
            let launch = ["-m", "accelerate.commands.launch"].map(str::to_owned);
            return Ok([vec![self.interpreter()], launch.to_vec()].concat());
        };
        let words = shell_words::split(launcher)
            .map_err(|e| usage(format!("`--launcher` is no command: {e}")))?;
        match words.is_empty() {
            true => Err(wrong("`--launcher` is empty", "leave it out, or name a command")),
            false => Ok(words),
        }
    }

    pub(super) fn interpreter(&self) -> String {
        self.python.as_ref().map_or_else(|| "python3".to_owned(), |path| path.display().to_string())
    }
}
