//! Where a training stands, in one file: what trains, what the optimizer remembers, and the step.
//!
//! Order of data, schedule and dropout follow from seed and step; nothing else is needed to go on
//! with the bytes of the run that was not interrupted.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::state::State;
use super::trainer::Trainer;
use crate::error::{Error, ErrorKind, Result};
use crate::lm::{read_tensors, write_tensors};
use crate::run::files::CHECKPOINT;

/// When checkpoints are written, and where.
#[derive(Debug)]
pub struct Checkpointing {
    path: PathBuf,
    every_steps: Option<usize>,
    every: Option<Duration>,
    last: Instant,
}

impl Checkpointing {
    /// Returns checkpoints in `folder` every so many steps and every so much time.
    pub fn new(folder: &Path, every_steps: Option<usize>, every: Option<Duration>) -> Self {
        Self { path: folder.join(CHECKPOINT), every_steps, every, last: Instant::now() }
    }

    /// Returns whether a checkpoint is due after a step.
    pub fn is_due(&self, state: &State) -> bool {
        let by_steps = self.every_steps.is_some_and(|every| state.step.is_multiple_of(every));
        by_steps || self.every.is_some_and(|every| self.last.elapsed() >= every)
    }

    /// Writes a checkpoint, all or nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn write(&mut self, trainer: &Trainer<'_>, state: &State) -> Result<()> {
        let optimizer = trainer.optimizer();
        let (mut tensors, _) = optimizer.state();
        tensors.extend(
            optimizer.parameters().iter().map(|p| (p.name.clone(), p.tensor.shallow_clone())),
        );
        let note = serde_json::to_string(state)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        write_tensors(&self.path, &tensors, Some(&note))?;
        self.last = Instant::now();
        Ok(())
    }

    /// Takes up the checkpoint, if there is one, and returns where it stands.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when the file is damaged, [`ErrorKind::Run`] when it is of another
    /// model.
    pub fn resume(&self, trainer: &mut Trainer<'_>) -> Result<State> {
        if !self.path.exists() {
            return Ok(State::default());
        }
        let (mut tensors, note) = read_tensors(&self.path)?;
        let state: State =
            note.and_then(|note| serde_json::from_str(&note).ok()).ok_or_else(|| {
                Error::new(ErrorKind::Checkpoint, "the file is no checkpoint").at(&self.path)
            })?;
        if state.step > trainer.num_steps() {
            return Err(Error::new(
                ErrorKind::Run,
                format!(
                    "the checkpoint is of step {}, expected at most {}",
                    state.step,
                    trainer.num_steps()
                ),
            )
            .at(&self.path));
        }
        trainer.restore(state.step, |name| tensors.remove(name)).map_err(|e| e.at(&self.path))?;
        Ok(state)
    }
}
