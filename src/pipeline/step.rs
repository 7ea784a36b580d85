//! Jobs that run as steps of a larger one, in one process.
//!
//! A step is a job that its user could type: [`Job::command_line`] says how. Steps meet in the files of
//! their run folders and nowhere else, so that a series can be ended at any instant and taken up again:
//! steps that are complete are skipped, the one that was at work is continued, and one that was made
//! with other settings is refused with what differs.

use std::path::Path;

use super::command_line::{parse, typed};
use super::job::Job;
use super::note::Note;
use super::observer::{Event, Series, StepPlace};
use super::session::Session;
use crate::data::Task;
use crate::error::{Error, Result};
use crate::run::{Input, RunDir};

/// One job of a series.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// What it is called among the steps, such as `round-1/label`.
    pub(super) name: String,
    /// What is done.
    pub(super) job: Job,
    /// What is to be said of the job when it runs.
    remark: Option<Note>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// Its run was complete, with this job and these inputs.
    Skipped,
    /// It was run to its end, from its beginning or from where it was.
    Ran,
}

impl Step {
    /// Returns a step.
    pub(super) fn new(name: impl Into<String>, job: Job) -> Self {
        Self { name: name.into(), job, remark: None }
    }

    /// Returns the step of a command line that somebody wrote, without the program's name.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::error::ErrorKind::Usage) as the program would say, with the step's
    /// name.
    pub(super) fn parse(name: impl Into<String>, argv: &[String]) -> Result<Self> {
        let name = name.into();
        let mut job =
            parse(argv).map_err(|refused| refused.error().of(format_args!("step `{name}`")))?;
        // The spelling is lost with the text.
        let remark = match &mut job {
            Job::Label(args) => args.imply_preset(argv),
            _ => None,
        };
        Ok(Self { name, job, remark })
    }

    /// Returns the step with what is to be said when it runs.
    #[must_use]
    pub(super) fn saying(mut self, remark: Option<Note>) -> Self {
        self.remark = remark;
        self
    }

    /// Returns the command line as it is typed.
    pub(super) fn typed(&self) -> String {
        typed(&self.job.command_line())
    }
}

/// Runs the steps in their order.
///
/// # Errors
/// That of the first step that fails, with its name.
pub(super) fn run_steps(steps: &[Step], session: &mut Session) -> Result<()> {
    for (index, step) in steps.iter().enumerate() {
        let place = StepPlace { number: index + 1, of: steps.len() };
        run_step(step, Some(place), session)?;
    }
    Ok(())
}

/// Runs a step, unless it is complete.
///
/// # Errors
/// What the job refuses or fails at, with the step's name.
pub(super) fn run_step(
    step: &Step,
    place: Option<StepPlace>,
    session: &mut Session,
) -> Result<StepEnd> {
    let of = |error: Error| error.of(format_args!("step `{}`", step.name));
    let command_line = step.job.command_line();
    let command = typed(&command_line);
    let begins = Series { name: &step.name, place, command: &command, is_complete: false };
    // What an evaluation finds is said each time; its labels are not made again. What a loop's recipe
    // says is on no command line.
    if let (Some(out), false) = (step.job.out(), matches!(step.job, Job::Eval(_) | Job::Loop(_)))
        && is_done(&command_line, out, session)
    {
        // A kill between the end mark and the last tidying leaves what only a run at work needs.
        RunDir::existing(out).map_err(of)?.0.tidy();
        session.voice.tell(&Event::Series(Series { is_complete: true, ..begins }));
        return Ok(StepEnd::Skipped);
    }
    session.voice.tell(&Event::Series(begins));
    if let Some(remark) = &step.remark {
        session.voice.note(remark);
    }
    let mut job = step.job.clone();
    job.set_resume();
    session.begin_step(command_line);
    job.run(session).map_err(of)?;
    Ok(StepEnd::Ran)
}

/// Returns whether a step's run is complete, was made by its very command line and this version, and
/// its inputs are what they were. Whether another command line comes to the same is for the job to say.
fn is_done(command_line: &[String], out: &Path, session: &Session) -> bool {
    let Ok((folder, manifest)) = RunDir::existing(out) else { return false };
    let made_by = manifest.command_line.iter().filter(|word| *word != "--resume");
    let version = manifest.versions.get("w2s").and_then(serde_json::Value::as_str);
    // What began the program is another matter.
    if !folder.is_complete()
        || !made_by.skip(1).eq(&command_line[1..])
        || version != Some(env!("CARGO_PKG_VERSION"))
    {
        return false;
    }
    let is_same = |input: &Input| {
        let now = match input.role.as_str() {
            "task" => Task::load(&input.path).map(|task| task.sha256),
            role => session.digests.input(role, Path::new(&input.path)).map(|now| now.sha256),
        };
        now.is_ok_and(|sha256| sha256 == input.sha256)
    };
    manifest.inputs.iter().all(is_same)
}
