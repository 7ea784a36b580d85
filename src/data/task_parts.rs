//! What a task is made of: labels, the texts of prompts, fields, rules, its place on the hub.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::value::spelling;

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

impl Label {
    /// Returns every spelling of the label, in the form in which they are compared.
    pub(super) fn spellings(&self) -> impl Iterator<Item = String> {
        std::iter::once(&self.name).chain(&self.accept).map(|text| spelling(text))
    }
}
