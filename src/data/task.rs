//! Tasks: what the text of an example is, how it is asked about, and which labels there are.

use std::path::Path;

use serde_json::Value;

use super::gold_spec::{GoldSpec, ReferenceSpec};
use super::key::KeyRule;
use super::record::{LabelCells, Layout, Reader};
use super::task_answers::{AnswerSpec, OptionSpec, VariantKind};
use super::task_parts::{Field, HubSource, Label, PromptSpec, Rule};
use super::task_preference::Preference;
use super::value::{quoted, spelling, text_of};
use crate::error::{Error, ErrorKind, Result};

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
    /// How its examples are read as preferences, if they are.
    pub preference: Option<Preference>,
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
    /// Columns that no text may come from.
    pub(super) closed: Vec<String>,
    pub(super) reference: Option<ReferenceSpec>,
    /// The columns that make an id, in order.
    pub(super) id_columns: Vec<String>,
    /// Whether the task file names the columns of the id, and files must have them.
    pub(super) names_id: bool,
    /// Whether the user names that column, not the task file.
    pub(super) is_id_given: bool,
    /// Whether tables have a header, where the task file says.
    pub(super) has_header: Option<bool>,
    pub(super) group_columns: Vec<String>,
    pub(super) key: Option<KeyRule>,
    /// Column names of a CSV or TSV file without a header.
    pub(super) columns: Option<Vec<String>>,
}

impl Task {
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
            labels: Some(self),
            all_columns: false,
        }
    }

    /// Who names the column of the id, in words.
    pub(super) fn id_namer(&self) -> String {
        match self.is_id_given {
            true => "`--id`".to_owned(),
            false => format!("task `{}`", self.name),
        }
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

impl LabelCells for Task {
    fn spells_label(&self, column: &str, cell: &str) -> bool {
        (column == "label" || self.gold.all_columns().any(|own| own == column))
            && (self.label_index(&Value::from(cell)).is_some() || cell.parse::<f64>().is_ok())
    }
}
