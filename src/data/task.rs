//! Tasks: what the text of an example is, how it is asked about, and which labels there are.
//!
//! A task is a TOML file. The built-in ones are compiled in from `data/tasks`; `data/tasks/README.md`
//! says how to write another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::expand::Reader;
use super::gold_spec::{GoldSpec, ReferenceSpec};
use super::key::KeyRule;
use super::read::{Layout, sha256_hex, utf8};
use super::task_answers::{AnswerSpec, OptionSpec, VariantKind};
use super::value::{quoted, spelling, text_of};
use crate::error::{Error, ErrorKind, Result};

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tasks/", $name, ".toml")))),*]
    };
}

/// Name and text of every built-in task, in the order they are listed.
const BUILT_IN: [(&str, &str); 21] = built_in![
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

/// The texts of which prompts are made: one named variant of a task's prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptSpec {
    /// The variant's name: `published`, `neutral`, ...
    pub name: String,
    /// Text put once before everything.
    pub instruction: String,
    /// Question template; a label word follows it directly.
    pub template: String,
    /// Text after each demonstration.
    pub separator: String,
    /// What a chat model is told after the question; `{words}` stands for the label words.
    pub chat_request: String,
    /// The text that stands for each label after a question, in the order of the labels.
    pub words: Vec<String>,
    /// How `{options}` spells one option, of `{letter}` and `{option}`.
    pub option: String,
    /// Text between two options.
    pub option_separator: String,
    /// Records that are asked in other words; the first that applies is used.
    pub cases: Vec<PromptCase>,
}

/// The question and label words of the records in which a field has one of some values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptCase {
    /// The field that decides.
    pub field: String,
    /// Its values, in the spelling in which they are compared.
    pub(super) values: Vec<String>,
    /// Question template.
    pub template: String,
    /// The word of each label.
    pub words: Vec<String>,
}

impl PromptCase {
    /// Returns the values of the field for which the case applies.
    pub fn values(&self) -> &[String] {
        &self.values
    }
}

impl PromptSpec {
    /// Returns the case that applies to an example of these fields, `None` if none does.
    pub fn case(&self, fields: &BTreeMap<String, String>) -> Option<&PromptCase> {
        self.cases.iter().find(|case| {
            fields.get(&case.field).is_some_and(|value| case.values.contains(&spelling(value)))
        })
    }

    /// Returns the label words that begin others of the same question, each with the first of these:
    /// `1` and `10`. Where the tokens of the longer go on from those of the shorter, the shorter one's
    /// probability holds that of the longer.
    pub fn begun_words(&self) -> Vec<(&str, &str)> {
        let mut begun = Vec::new();
        let own = std::iter::once(&self.words);
        for words in own.chain(self.cases.iter().map(|case| &case.words)) {
            for word in words {
                let longer = words.iter().find(|other| *other != word && other.starts_with(word));
                let pair = longer.map(|longer| (word.as_str(), longer.as_str()));
                if let Some(pair) = pair.filter(|pair| !begun.contains(pair)) {
                    begun.push(pair);
                }
            }
        }
        begun
    }
}

/// A field of a task and where its text comes from.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// The columns it may come from, in order.
    pub(super) columns: Vec<String>,
    /// Its text in records that have none of them.
    pub(super) default: Option<String>,
}

/// Where a task's data set lies on the Hugging Face hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubSource {
    /// `owner/name`.
    pub repo: String,
    /// The split that is fetched unless another is asked for.
    pub split: String,
    /// Split and path of its file in the repository.
    pub files: BTreeMap<String, String>,
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
    /// The labels in the order used everywhere: two or more, or none where answers are open.
    ///
    /// A task with options has a label for every letter until
    /// [`with_num_options`](Self::with_num_options) says how many there are.
    pub labels: Vec<Label>,
    /// Place in `labels` of the one that log-odds are for.
    pub positive: usize,
    /// The prompt variant in use; [`with_variant`](Self::with_variant) chooses another.
    pub prompt: PromptSpec,
    /// Every prompt variant, the task's own first.
    pub variants: Vec<PromptSpec>,
    /// The consistency rules; empty if there are none.
    pub rules: Vec<Rule>,
    /// The task file's text.
    pub toml: String,
    /// SHA-256 of the task file.
    pub sha256: String,
    /// Where the data set lies on the hub, if it does.
    pub hub: Option<HubSource>,
    /// How the answers to variants of a question are asked for and read.
    pub answers: AnswerSpec,
    pub(super) options: Option<OptionSpec>,
    pub(super) fields: Vec<Field>,
    /// Every column that the task speaks of, for [`Layout`].
    pub(super) known_columns: Vec<String>,
    pub(super) reader: Option<Reader>,
    pub(super) gold: GoldSpec,
    pub(super) reference: Option<ReferenceSpec>,
    /// The columns that make an id, in order.
    pub(super) id_columns: Vec<String>,
    /// Whether the task file names the columns of the id, and files must have them.
    pub(super) names_id: bool,
    /// Whether tables have a header, where the task file says.
    pub(super) has_header: Option<bool>,
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

    /// Returns the task with another of its prompt variants.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the variants there are, if there is none of that name.
    pub fn with_variant(mut self, name: &str) -> Result<Self> {
        let Some(prompt) = self.variants.iter().find(|variant| variant.name == name) else {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("task `{}` has no prompt variant `{name}`", self.name),
            )
            .hint(format!("it has {}", quoted(self.variants.iter().map(|v| &v.name)))));
        };
        for (label, word) in self.labels.iter_mut().zip(&prompt.words) {
            label.word.clone_from(word);
        }
        self.prompt = prompt.clone();
        Ok(self)
    }

    /// Returns whether its questions have options to choose from.
    pub fn has_options(&self) -> bool {
        self.options.is_some()
    }

    /// Returns the task with labels for `num` options; a task without options as it is.
    #[must_use]
    pub fn with_num_options(mut self, num: usize) -> Self {
        if self.options.is_some() {
            self.labels.truncate(num);
            self.positive = self.labels.len().saturating_sub(1);
            for prompt in self.variants.iter_mut().chain([&mut self.prompt]) {
                prompt.words.truncate(num);
            }
        }
        self
    }

    /// Returns the kinds of variants that questions in the prompt in use can have.
    pub fn possible_variants(&self) -> Vec<VariantKind> {
        self.answers.possible(&self.prompt, self.has_options())
    }

    /// Returns what the questions are varied in: `wanted`, or what the task says.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the task cannot make such variants, or none at all.
    pub fn variant_kind(&self, wanted: Option<VariantKind>) -> Result<VariantKind> {
        let possible = self.possible_variants();
        let kind = wanted.or(self.answers.variants.filter(|kind| possible.contains(kind)));
        match kind.or(possible.first().copied()) {
            Some(kind) if possible.contains(&kind) => Ok(kind),
            kind => Err(Error::new(
                ErrorKind::Usage,
                match kind {
                    Some(kind) => {
                        format!("task `{}` cannot make variants by `{}`", self.name, kind.name())
                    }
                    None => format!("task `{}` cannot make variants of a question", self.name),
                },
            )
            .hint(self.answers.what_is_possible(&self.prompt, self.has_options()))),
        }
    }

    /// Returns the names of the gold columns: first those that are read as the gold label, then the
    /// concepts, each with its own idea of the label.
    pub fn gold_names(&self) -> impl Iterator<Item = &str> {
        let concepts = self.gold.concepts.keys().filter(|name| !self.gold.columns.contains(name));
        self.gold.columns.iter().chain(concepts).map(String::as_str)
    }

    /// Returns how files of the task are laid out.
    pub(super) fn layout(&self) -> Layout<'_> {
        Layout {
            columns: self.columns.as_deref(),
            known: &self.known_columns,
            reader: self.reader,
            has_header: self.has_header,
            task: Some(self),
            all_columns: false,
        }
    }

    /// Returns whether a cell under `column` is a label, or a number where labels are: what a name of a
    /// column is not.
    pub(super) fn spells_label(&self, column: &str, cell: &str) -> bool {
        (column == "label" || self.gold.all_columns().any(|own| own == column))
            && (self.label_index(&Value::from(cell)).is_some() || cell.parse::<f64>().is_ok())
    }

    /// Returns the number of labels.
    pub fn num_labels(&self) -> usize {
        self.labels.len()
    }

    /// Returns the names of the declared fields.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// Returns the columns that may hold the label of a demonstration.
    pub(super) fn label_columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = self.gold.plain_columns().cloned().collect();
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
