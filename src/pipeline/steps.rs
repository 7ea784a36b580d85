//! Commands that run as steps of a larger one, in one process.
//!
//! A step is a command line of `w2s` that its user could type. Steps meet in the files of their run
//! folders and nowhere else, so that a series can be ended at any instant and taken up again: steps
//! that are complete are skipped, the one that was at work is continued, and one that was made with
//! other settings is refused with what differs.

use std::path::Path;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use super::job::{Job, Line};
use super::session::Session;
use crate::data::Task;
use crate::error::{Error, ErrorKind, Result};
use crate::run::{Input, RunDir};

/// One command of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// What it is called among the steps, such as `round-1/label`.
    pub(super) name: String,
    /// The command line, without the program's name.
    pub(super) argv: Vec<String>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// Its run was complete, with this command line and these inputs.
    Skipped,
    /// It was run to its end, from its beginning or from where it was.
    Ran,
}

impl Step {
    /// Returns a step.
    pub(super) fn new(
        name: impl Into<String>,
        argv: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self { name: name.into(), argv: argv.into_iter().map(Into::into).collect() }
    }

    /// Returns the command, understood but not run.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] as the program would say, with the step's name.
    pub(super) fn command(&self) -> Result<Job> {
        parse(&self.argv)
            .map_err(|refused| refused.error().of(format_args!("step `{}`", self.name)))
    }

    /// Returns the command line as it is typed.
    pub(super) fn typed(&self) -> String {
        let quoted = |arg: &String| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
            match !arg.is_empty() && arg.chars().all(plain) {
                true => arg.clone(),
                false => format!("'{}'", arg.replace('\'', r"'\''")),
            }
        };
        let words: Vec<String> = self.argv.iter().map(quoted).collect();
        format!("w2s {}", words.join(" "))
    }

    fn command_line(&self) -> Vec<String> {
        ["w2s".to_owned()].into_iter().chain(self.argv.iter().cloned()).collect()
    }
}

/// Why a command line was not understood.
#[derive(Debug)]
pub(super) struct Refused {
    /// What is wrong, in one line.
    pub(super) message: String,
    /// The option at fault, without its dashes, where there is one.
    pub(super) option: Option<String>,
}

impl Refused {
    /// Returns it as an error.
    pub(super) fn error(self) -> Error {
        Error::new(ErrorKind::Usage, self.message)
    }
}

/// Returns the command of a command line without the program's name.
pub(super) fn parse(argv: &[String]) -> std::result::Result<Job, Refused> {
    let words = ["w2s"].into_iter().chain(argv.iter().map(String::as_str));
    Line::try_parse_from(words).map(|line| line.job).map_err(|error| {
        let text = error.to_string();
        // What follows the first paragraph is the usage of a command that nobody typed.
        let first = text.split("\n\n").next().unwrap_or(&text);
        let lines: Vec<&str> = first.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let message = lines.join(" ").trim_start_matches("error: ").replace('\'', "`");
        let option = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            Some(ContextValue::Strings(all)) => all.first().map(String::as_str),
            _ => None,
        };
        let option = option.and_then(|text| {
            let name = text.strip_prefix("--")?;
            Some(name.split([' ', '=', '<', '[']).next().unwrap_or(name).to_owned())
        });
        Refused { message, option }
    })
}

/// Runs the steps in their order.
///
/// # Errors
/// That of the first step that fails, with its name.
pub(super) fn run_steps(steps: &[Step], session: &mut Session) -> Result<()> {
    for (index, step) in steps.iter().enumerate() {
        run_step(step, Some((index + 1, steps.len())), session)?;
    }
    Ok(())
}

/// Runs a step, `place` of how many, unless it is complete.
///
/// # Errors
/// What the command refuses or fails at, with the step's name.
pub(super) fn run_step(
    step: &Step,
    place: Option<(usize, usize)>,
    session: &mut Session,
) -> Result<StepEnd> {
    let of = |error: Error| error.of(format_args!("step `{}`", step.name));
    let mut command = step.command()?;
    let head = match place {
        Some((number, num)) => format!("step {number} of {num}, {}", step.name),
        None => step.name.clone(),
    };
    // What an evaluation finds is said each time; its labels are not made again.
    if let (Some(out), false) = (command.out(), matches!(command, Job::Eval(_)))
        && is_done(step, out, session)
    {
        // A kill between the end mark and the last tidying leaves what only a run at work needs.
        RunDir::existing(out).map_err(of)?.0.tidy();
        session.voice.say(format_args!("{head}: complete"));
        return Ok(StepEnd::Skipped);
    }
    session.voice.say(format_args!("\n{head}: {}", step.typed()));
    command.set_resume();
    session.begin_step(step.command_line());
    command.run(session).map_err(of)?;
    Ok(StepEnd::Ran)
}

/// Returns whether a step's run is complete, was made by its very command line and this version, and
/// its inputs are what they were. Whether another command line comes to the same is for the command
/// to say.
fn is_done(step: &Step, out: &Path, session: &Session) -> bool {
    let Ok((folder, manifest)) = RunDir::existing(out) else { return false };
    let typed = manifest.command_line.iter().skip(1).filter(|arg| *arg != "--resume");
    let version = manifest.versions.get("w2s").and_then(serde_json::Value::as_str);
    if !folder.is_complete() || !typed.eq(&step.argv) || version != Some(env!("CARGO_PKG_VERSION"))
    {
        return false;
    }
    let is_same = |input: &Input| {
        let now = match input.role.as_str() {
            "task" => Task::load(&input.path).map(|task| task.sha256),
            role => session.input(role, Path::new(&input.path)).map(|now| now.sha256),
        };
        now.is_ok_and(|sha256| sha256 == input.sha256)
    };
    manifest.inputs.iter().all(is_same)
}
