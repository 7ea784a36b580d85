//! Tasks by name or file.
//!
//! A task is a TOML file. The built-in ones are compiled in from `data/tasks`; `data/tasks/README.md`
//! says how to write another.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::closest::did_you_mean;
use super::record::{sha256_hex, utf8};
use super::task::Task;
use super::task_file;
use super::value::quoted;
use crate::error::{Error, ErrorKind, Result};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tasks/", $name, ".toml")))),*]
    };
}

/// Name and text of every built-in task, in the order they are listed.
const BUILT_IN: [(&str, &str); 22] = built_in![
    "statements",
    "sentiment",
    "subjectivity",
    "topic",
    "ag-news",
    "truthfulqa",
    "truthfulqa-preference",
    "gsm8k-verification",
    "alpaca",
    "global-opinions",
    "claims",
    "ethics-commonsense",
    "moral-foundations",
    "moralchoice",
    "daily-dilemmas",
    "larger-than",
    "political-normative",
    "boolq",
    "hellaswag",
    "mmlu",
    "multiple-choice",
    "gsm8k",
];

impl Task {
    /// Returns the built-in task of that name, or the task of a `.toml` file.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if there is no such task, or with the line if its file is at fault;
    /// [`ErrorKind::Io`] if the file cannot be read.
    pub fn load(name_or_path: &str) -> Result<Self> {
        if let Some((name, toml)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(toml, &built_in_path(name));
        }
        let path = Path::new(name_or_path);
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        if !is_toml {
            return Err(Error::new(ErrorKind::Task, format!("unknown task `{name_or_path}`"))
                .hint(format!(
                    "{}built-in tasks are {}; a task file's name ends in .toml",
                    did_you_mean(name_or_path, &BUILT_IN.map(|(name, _)| name)),
                    quoted(BUILT_IN.iter().map(|(name, _)| name))
                )));
        }
        let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, &source))?;
        Self::parse(utf8(&bytes, path)?, path)
    }

    /// Returns name and description of every built-in task.
    pub fn builtin() -> impl Iterator<Item = (&'static str, &'static str)> {
        static TASKS: OnceLock<Vec<(&'static str, String)>> = OnceLock::new();
        let tasks = TASKS.get_or_init(|| {
            BUILT_IN
                .iter()
                .map(|(name, toml)| {
                    // A built-in file that does not parse fails this module's tests.
                    let task = Self::parse(toml, &built_in_path(name));
                    (*name, task.map(|task| task.description).unwrap_or_default())
                })
                .collect()
        });
        tasks.iter().map(|(name, description)| (*name, description.as_str()))
    }

    fn parse(toml: &str, path: &Path) -> Result<Self> {
        let mut task = task_file::parse(toml, path)?;
        task.toml = toml.to_owned();
        task.sha256 = sha256_hex(toml.as_bytes());
        Ok(task)
    }
}

/// Where a built-in task's file lies in the project, for messages.
fn built_in_path(name: &str) -> PathBuf {
    PathBuf::from(format!("data/tasks/{name}.toml"))
}
