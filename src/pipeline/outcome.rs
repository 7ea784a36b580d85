//! What a job came to.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::run::RunDir;
use crate::run::files::{SUMMARY, TIMING};

/// A run that is complete: its folder, and what its verb says of it.
#[derive(Debug)]
pub struct Outcome<S> {
    /// The run folder.
    pub folder: RunDir,
    /// What is in its `summary.json`; of a loop, in its `loop.json`.
    pub summary: S,
    /// Seconds from the start of the command that ended it to its end.
    pub seconds: f64,
    /// Whether it was complete before the job ran, so that nothing was done.
    pub was_complete: bool,
}

impl<S: DeserializeOwned> Outcome<S> {
    /// The outcome of a run that was complete.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] when its results cannot be read.
    pub(super) fn complete(folder: RunDir) -> Result<Self> {
        Self::complete_of(folder, SUMMARY)
    }

    /// The outcome of a run that was complete and that another file says what it came to.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub(super) fn complete_of(folder: RunDir, summary: &str) -> Result<Self> {
        let timing: Value = read(&folder, TIMING)?;
        let seconds = timing.get("session_seconds").and_then(Value::as_f64).unwrap_or(0.0);
        Ok(Self { summary: read(&folder, summary)?, folder, seconds, was_complete: true })
    }
}

fn read<T: DeserializeOwned>(folder: &RunDir, name: &str) -> Result<T> {
    let path = folder.file(name);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::new(ErrorKind::Run, format!("cannot be read: {e}"))
            .at(&path)
            .hint("it was written by another version, or edited; make the run again with `--force`")
    })
}
