//! The steps of a training in its run folder: metrics, validation, checkpoints, progress.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::options::TrainJob;
use crate::error::{Error, ErrorKind, Result};
use crate::lm::{read_tensors, write_tensors};
use crate::pipeline::note::Note;
use crate::pipeline::observer::{Event, Resume};
use crate::pipeline::voice::Voice;
use crate::pipeline::warning::Warning;
use crate::run::files::{BEST, METRICS};
use crate::run::{RunDir, write_atomic};
use crate::train::{Checkpointing, EventFile, Group, Item, State, StepReport, Trainer};

/// A training in its folder.
pub(super) struct Run<'a> {
    pub(super) args: &'a TrainJob,
    pub(super) group: &'a Group,
    /// Of the first process of the group.
    pub(super) folder: Option<&'a RunDir>,
    pub(super) validation: &'a [Item],
    pub(super) checkpoints: Checkpointing,
    pub(super) state: State,
    /// Tokens run since the program began.
    pub(super) session_tokens: u64,
}

/// The files of numbers, in the first process.
type Log = Option<(Metrics, EventFile)>;

/// The line of a validation.
#[derive(Serialize)]
struct Validation {
    step: usize,
    validation_loss: f64,
}

impl Run<'_> {
    /// Makes the steps that are left, and returns the reports of all.
    pub(super) fn train(
        &mut self,
        trainer: &mut Trainer<'_>,
        voice: &Voice<'_>,
    ) -> Result<Vec<StepReport>> {
        let (mut log, mut reports) = self.begin(trainer, voice)?;
        voice.interruptible(Resume::Training { folder: &self.args.run.out });
        let (num_steps, num_done) = (trainer.num_steps(), self.state.step);
        let training = voice.begin(&Event::Training { num_steps, num_done });
        let began = Instant::now();
        self.validate(trainer, &mut log)?;
        while trainer.num_done() < trainer.num_steps() && !self.state.stopped {
            let report = match trainer.step() {
                Ok(report) => report,
                Err(error) => return Err(self.saved(trainer, error)),
            };
            if let Some(halved) = trainer.take_halved() {
                voice.warn(&Warning::PassHalved(halved));
            }
            self.state.step = report.step;
            self.state.unvalidated = true;
            self.session_tokens += report.num_tokens as u64;
            let speed = self.session_tokens as f64 / began.elapsed().as_secs_f64();
            voice.event(&Event::Step { report: &report, tokens_per_second: speed })?;
            if let Some((metrics, events)) = &mut log {
                metrics.write(&report)?;
                events.step(&report, speed)?;
                reports.push(report);
            }
            self.validate(trainer, &mut log)?;
            if let Some((metrics, _)) = &log {
                // What a checkpoint says was done must be in the metrics whatever happens.
                let is_last = trainer.num_done() >= trainer.num_steps() || self.state.stopped;
                if is_last || self.checkpoints.is_due(&self.state) {
                    metrics.sync()?;
                    self.checkpoints.write(trainer, &self.state)?;
                }
            }
        }
        training.end();
        Ok(reports)
    }

    /// Takes up the checkpoint, and returns the files of numbers and the reports so far.
    fn begin(
        &mut self,
        trainer: &mut Trainer<'_>,
        voice: &Voice<'_>,
    ) -> Result<(Log, Vec<StepReport>)> {
        let mut open = || {
            let Some(folder) = self.folder else { return Ok((State::default(), None, Vec::new())) };
            let state = self.checkpoints.resume(trainer)?;
            let (metrics, reports) = Metrics::open(folder, state.step)?;
            let events = EventFile::create(folder.path())?;
            Ok((state, Some((metrics, events)), reports))
        };
        let (state, log, reports) = self.group.agree(open())?;
        self.state = trainer.take_first(state)?;
        if self.state.step > 0 {
            voice.note(&Note::StepsContinued { step: self.state.step });
        }
        Ok((log, reports))
    }

    /// Writes a checkpoint after a failure that left the model as the last good step made it, and
    /// returns the failure.
    fn saved(&mut self, trainer: &Trainer<'_>, error: Error) -> Error {
        let is_sound = matches!(error.kind(), ErrorKind::Numeric | ErrorKind::Group);
        if self.folder.is_none() || self.state.step == 0 || !is_sound {
            return error;
        }
        match self.checkpoints.write(trainer, &self.state) {
            Ok(()) => error,
            Err(other) => other,
        }
    }

    /// Measures the loss on what was set aside, if it is time and was not done, and remembers the
    /// best.
    fn validate(&mut self, trainer: &Trainer<'_>, log: &mut Log) -> Result<()> {
        if !self.state.unvalidated {
            return Ok(());
        }
        let due = match self.args.validate_every {
            Some(every) => self.state.step.is_multiple_of(every.get()),
            None => trainer.at_end_of_epoch(),
        };
        let last = self.state.step == trainer.num_steps();
        if self.validation.is_empty() || !(due || last) {
            self.state.unvalidated = false;
            return Ok(());
        }
        let validation_loss = match trainer.evaluate(self.validation) {
            Ok(loss) => loss,
            Err(error) => return Err(self.saved(trainer, error)),
        };
        self.state.unvalidated = false;
        let step = self.state.step;
        if let Some((metrics, events)) = log {
            metrics.write(&Validation { step, validation_loss })?;
            events.scalars(step, &[("validation/loss", validation_loss)])?;
        }
        if self.state.best.is_none_or(|(best, _)| validation_loss < best) {
            self.state.best = Some((validation_loss, step));
            self.state.num_worse = 0;
            if let Some(folder) = self.folder.filter(|_| self.args.best) {
                let tensors: Vec<_> = trainer
                    .optimizer()
                    .parameters()
                    .iter()
                    .map(|p| (p.name.clone(), p.tensor.shallow_clone()))
                    .collect();
                write_tensors(&folder.place(BEST)?, &tensors, None)?;
            }
        } else {
            self.state.num_worse += 1;
            self.state.stopped =
                self.args.patience.is_some_and(|most| self.state.num_worse >= most.get());
        }
        Ok(())
    }

    /// Puts the best tensors in place of the last if asked to, and returns their step.
    pub(super) fn take_best(&self, trainer: &Trainer<'_>, folder: &RunDir) -> Result<usize> {
        let Some((_, step)) = self.state.best.filter(|_| self.args.best) else {
            return Ok(self.state.step);
        };
        let (tensors, _) = read_tensors(&folder.file(BEST))?;
        let _no_grad = tch::no_grad_guard();
        for parameter in trainer.optimizer().parameters() {
            if let Some(best) = tensors.get(&parameter.name) {
                parameter.tensor.detach().copy_(best);
            }
        }
        Ok(step)
    }
}

/// `metrics.jsonl`: a line a step, and one a validation.
struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Returns the file with the lines up to `step`, and the reports among them.
    fn open(folder: &RunDir, step: usize) -> Result<(Self, Vec<StepReport>)> {
        let path = folder.place(METRICS)?;
        let text = if step == 0 {
            String::new()
        } else {
            std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?
        };
        let (mut kept, mut reports) = (String::new(), Vec::new());
        for line in text.lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else { break };
            if value["step"].as_u64().is_none_or(|number| number > step as u64) {
                break;
            }
            kept.push_str(line);
            kept.push('\n');
            reports.extend(serde_json::from_value::<StepReport>(value).ok());
        }
        if reports.len() != step {
            return Err(Error::new(
                ErrorKind::Run,
                format!("the file has {} steps, the checkpoint {step}", reports.len()),
            )
            .at(&path)
            .hint("the folder is damaged; start a new one"));
        }
        write_atomic(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|e| Error::io("write", &path, &e))?;
        Ok((Self { path, file }, reports))
    }

    fn write<T: Serialize>(&mut self, line: &T) -> Result<()> {
        let text = serde_json::to_string(line)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        writeln!(self.file, "{text}").map_err(|e| Error::io("write", &self.path, &e))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("write", &self.path, &e))
    }
}
