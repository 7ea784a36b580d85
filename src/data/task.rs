//! Tasks: what the text of an example is, how it is asked about, and which labels there are.
//!
//! A task is a TOML file. The built-in ones are compiled in from `data/tasks`; `data/tasks/README.md`
//! says how to write another.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::KeyRule;
use super::read::{sha256_hex, utf8};
use super::value::{quoted, spelling, text_of};
use crate::error::{Error, ErrorKind, Result};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tasks/", $name, ".toml")))),*]
    };
}

/// Name and text of every built-in task, in the order they are listed.
const BUILT_IN: [(&str, &str); 11] = built_in![
    "sentiment",
    "subjectivity",
    "topic",
    "ag-news",
    "truthfulqa",
    "truthfulqa-preference",
    "gsm8k-verification",
    "alpaca",
    "global-opinions",
    "larger-than",
    "political-normative",
];

/// A rule that the labels of two examples of one consistency group must not break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Different keys must not both have the task's positive label.
    Contradiction,
    /// Equal keys must have equal labels.
    Implication,
    /// Different keys must have different labels (two labels only).
    Asymmetry,
}

/// One label of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What files call the label.
    pub name: String,
    /// The text that follows a prompt.
    pub word: String,
    /// Further spellings in gold and label files.
    pub accept: Vec<String>,
}

/// The texts of which prompts are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptSpec {
    /// Text put once before everything.
    pub instruction: String,
    /// Question template; a label word follows it directly.
    pub template: String,
    /// Text after each demonstration.
    pub separator: String,
}

/// A task, checked when it was loaded.
#[derive(Clone, Debug)]
pub struct Task {
    /// The task's name, as runs record it.
    pub name: String,
    /// One line that says what is labelled.
    pub description: String,
    /// Where the task's form comes from.
    pub source: String,
    /// The labels, two or more, in the order used everywhere.
    pub labels: Vec<Label>,
    /// Place in `labels` of the one that log-odds are for.
    pub positive: usize,
    /// The texts of which prompts are made.
    pub prompt: PromptSpec,
    /// The consistency rules; empty if there are none.
    pub rules: Vec<Rule>,
    /// The task file's text.
    pub toml: String,
    /// SHA-256 of the task file.
    pub sha256: String,
    /// Field name and the columns it may come from, in order.
    pub(super) fields: Vec<(String, Vec<String>)>,
    pub(super) gold_columns: Vec<String>,
    pub(super) group_columns: Vec<String>,
    pub(super) key: Option<KeyRule>,
    /// Column names of a CSV or TSV file without a header.
    pub(super) columns: Option<Vec<String>>,
}

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
                    "built-in tasks are {}; a task file's name ends in .toml",
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
        let mut task = super::task_file::parse(toml, path)?;
        task.toml = toml.to_owned();
        task.sha256 = sha256_hex(toml.as_bytes());
        Ok(task)
    }

    /// Returns the place in `labels` of the label that `value` spells.
    ///
    /// A label is spelled by its name or one of its `accept`, in any case; true, 1 and 1.0 are
    /// compared as `true`, `1` and `1`.
    pub fn label_index(&self, value: &Value) -> Option<usize> {
        let wanted = spelling(&text_of(value)?);
        self.labels.iter().position(|label| label.spellings().any(|spelled| spelled == wanted))
    }

    /// Returns the number of labels.
    pub fn num_labels(&self) -> usize {
        self.labels.len()
    }

    /// Returns the names of the declared fields.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the columns that may hold the label of a demonstration.
    pub(super) fn label_columns(&self) -> Vec<String> {
        let mut columns = self.gold_columns.clone();
        if !columns.iter().any(|column| column == "label") {
            columns.push("label".to_owned());
        }
        columns
    }

    /// Returns the label that a column of a record spells.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] with the line and the labels there are, if it spells none of them.
    pub(super) fn label_of(
        &self,
        column: &str,
        value: &Value,
        at: (&Path, usize),
    ) -> Result<usize> {
        self.label_index(value).ok_or_else(|| {
            let found = text_of(value).map_or_else(|| value.to_string(), |text| text.into_owned());
            let known = self.labels.iter().map(|label| {
                let others: Vec<&str> = label.accept.iter().map(String::as_str).collect();
                if others.is_empty() {
                    format!("`{}`", label.name)
                } else {
                    format!("`{}` (or {})", label.name, quoted(others))
                }
            });
            let known: Vec<String> = known.collect();
            Error::new(ErrorKind::Data, format!("unknown label `{found}` in column `{column}`"))
                .at_line(at.0, at.1)
                .hint(format!("task `{}` knows {}", self.name, known.join(", ")))
        })
    }
}

impl Label {
    /// Returns every spelling of the label, in the form in which they are compared.
    pub(super) fn spellings(&self) -> impl Iterator<Item = String> {
        std::iter::once(&self.name).chain(&self.accept).map(|text| spelling(text))
    }
}

/// Where a built-in task's file lies in the project, for messages.
fn built_in_path(name: &str) -> PathBuf {
    PathBuf::from(format!("data/tasks/{name}.toml"))
}
