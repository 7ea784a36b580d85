//! The texts of the examples that prompts are made of.

use crate::data::Example;
use crate::error::Result;
use crate::prompt::PromptFormat;
use crate::score::PromptTree;

/// The texts of the examples that take part.
#[derive(Debug)]
pub struct Items {
    /// Ids, for questions and errors.
    pub ids: Vec<String>,
    /// Each example's prompt up to the label.
    pub questions: Vec<String>,
    /// Each example as a demonstration, by label.
    pub demonstrations: Vec<Vec<String>>,
    /// What stands before everything.
    pub instruction: String,
    /// Whether the questions are a chat template's, with all special tokens in them.
    pub spell_special_tokens: bool,
    /// Questions without content.
    pub content_free: Vec<String>,
    /// The label words.
    pub labels: std::sync::Arc<[String]>,
    /// The label words of each example, which in some prompts are its own.
    pub words: Vec<std::sync::Arc<[String]>>,
}

impl Items {
    /// Returns the texts of `examples` in `format`.
    ///
    /// # Errors
    /// When an example lacks a field of the prompt.
    pub fn new(format: &PromptFormat<'_>, examples: &[&Example]) -> Result<Self> {
        let labels = PromptTree::labels(format.label_words());
        let demonstrations = examples
            .iter()
            .map(|example| {
                (0..labels.len()).map(|label| format.demonstration(example, label)).collect()
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            ids: examples.iter().map(|example| example.id.clone()).collect(),
            questions: examples.iter().map(|e| format.question(e)).collect::<Result<_>>()?,
            demonstrations,
            instruction: format.instruction().to_owned(),
            spell_special_tokens: false,
            content_free: format.content_free(),
            words: examples.iter().map(|e| PromptTree::labels(format.words_of(e))).collect(),
            labels,
        })
    }

    /// Returns how many examples there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
