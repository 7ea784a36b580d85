//! The command line of a typed job, and the jobs of a command line that somebody wrote.
//!
//! Flags are those of the parser, by the names of the job's fields; values are what the fields hold.
//! What is as it is by default is left out, so that every job has one command line.

use std::path::Path;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Command, CommandFactory, Parser};
use serde::Serialize;

use super::audit::{AuditCommand, AuditJob};
use super::data::{DataCommand, DataJob};
use super::field_values::field_values;
use super::given::given;
use super::job::Job;
use crate::error::{Error, ErrorKind};
use crate::recipe::words::speak_of;

/// A job as a whole command line, for text that names one.
#[derive(Debug, Parser)]
#[command(name = "w2s")]
struct Line {
    #[command(subcommand)]
    job: Job,
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

    fn new(error: &clap::Error) -> Self {
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
        Self { message, option }
    }
}

/// Returns the job of a command line without the program's name.
pub(super) fn parse(argv: &[String]) -> Result<Job, Refused> {
    let words = ["w2s"].into_iter().chain(argv.iter().map(String::as_str));
    Line::try_parse_from(words).map(|line| line.job).map_err(|error| Refused::new(&error))
}

/// Returns how many words of a command line name its command, and that command.
pub(super) fn command_of(words: &[String]) -> (usize, Command) {
    let mut command = Line::command();
    let mut num = 0;
    while let Some(inner) = words.get(num).and_then(|word| command.find_subcommand(word)) {
        command = inner.clone();
        num += 1;
    }
    (num, command)
}

/// Returns the job that the parser of one command makes of its options.
pub(super) fn parse_options<T: Args>(parser: Command, words: &[String]) -> Result<T, Refused> {
    let matches = parser
        .no_binary_name(true)
        .try_get_matches_from(words)
        .map_err(|error| Refused::new(&error))?;
    T::from_arg_matches(&matches).map_err(|error| Refused::new(&error))
}

impl Job {
    /// Returns the command line that comes to this job, the program's name first: what `w2s` would be
    /// typed with.
    pub fn command_line(&self) -> Vec<String> {
        match self {
            Self::Label(job) => line(&["label"], &**job),
            Self::Filter(job) => line(&["filter"], &**job),
            Self::Relabel(job) => line(&["relabel"], &**job),
            Self::Score(job) => line(&["score"], job),
            Self::Train(job) => line(&["train"], &**job),
            Self::Loop(job) => line(&["loop"], &**job),
            Self::Reproduce(job) => line(&["reproduce"], job),
            Self::Plan(job) => line(&["plan"], job),
            Self::Merge(job) => line(&["merge"], job),
            Self::Eval(job) => line(&["eval"], &**job),
            Self::Compare(job) => line(&["compare"], &**job),
            Self::Report(job) => line(&["report"], job),
            Self::Data(DataJob { command: DataCommand::Pull(job) }) => line(&["data", "pull"], job),
            Self::Data(DataJob { command: DataCommand::Draw(job) }) => line(&["data", "draw"], job),
            Self::Audit(AuditJob { command: AuditCommand::Draw(job) }) => {
                line(&["audit", "draw"], job)
            }
            Self::Audit(AuditJob { command: AuditCommand::Certify(job) }) => {
                line(&["audit", "certify"], job)
            }
            Self::Explain(job) => line(&["explain"], &**job),
            Self::Export(job) => line(&["export"], job),
        }
    }

    /// Whether an option names the file, by itself or among the parts of its value.
    pub(super) fn speaks_of(&self, path: &Path) -> bool {
        speak_of(&self.command_line(), path)
    }
}

/// Returns the words that come to a job: the program's name, the command's, and what is given.
pub(super) fn line<T: Args + Serialize>(names: &[&str], job: &T) -> Vec<String> {
    let values = field_values(job);
    let parser = T::augment_args(Command::new("w2s"));
    let (mut places, mut options, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for arg in parser.get_arguments() {
        let given = given(arg, &values);
        match arg.get_long() {
            Some(name) => options.extend(words(arg, name, given)),
            None if arg.is_last_set() => last.extend_from_slice(given),
            None => places.extend_from_slice(given),
        }
    }
    // What looks like an option is none behind the dashes.
    if places.iter().any(|text| text.starts_with('-')) {
        last = std::mem::take(&mut places);
    }
    if !last.is_empty() {
        last.insert(0, "--".to_owned());
    }
    let begin = ["w2s"].iter().chain(names).map(|&word| word.to_owned());
    begin.chain(places).chain(options).chain(last).collect()
}

/// The words that set the option `name`.
fn words(arg: &Arg, name: &str, texts: &[String]) -> Vec<String> {
    if !arg.get_action().takes_values() {
        return texts.iter().map(|_| format!("--{name}")).collect();
    }
    let set = |text: &str| match arg.is_require_equals_set() || text.starts_with('-') {
        true => vec![format!("--{name}={text}")],
        false => vec![format!("--{name}"), text.to_owned()],
    };
    match arg.get_value_delimiter() {
        Some(mark) if !texts.is_empty() => set(&texts.join(&mark.to_string())),
        _ => texts.iter().flat_map(|text| set(text)).collect(),
    }
}

/// Returns a command line as it is typed into a shell.
pub fn typed(words: &[String]) -> String {
    let quoted = |word: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
        match !word.is_empty() && word.chars().all(plain) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}
