//! A scorer without a model, for tests of everything above the model.

use super::{LabelScores, PromptTree, Question, Scorer, Usage};
use crate::error::Result;

/// Answers every question by calling a function on its prompt.
pub struct TableScorer<F> {
    answer: F,
    max_tokens: usize,
}

impl<F: FnMut(&str, &Question) -> Vec<f64>> TableScorer<F> {
    /// Returns a scorer whose log-probabilities are `answer(prompt, question)`, one per label.
    pub fn new(answer: F) -> Self {
        Self { answer, max_tokens: usize::MAX }
    }

    /// Returns the scorer with a context of `max_tokens` words.
    #[must_use]
    pub fn with_max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = max_tokens;
        self
    }
}

impl<F: FnMut(&str, &Question) -> Vec<f64>> Scorer for TableScorer<F> {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        let mut usage = Usage::default();
        let scores = tree
            .questions()
            .iter()
            .map(|question| {
                let prompt = tree.text(question.node);
                let words = prompt.split_whitespace().count() as u64;
                usage = usage.plus(Usage {
                    tokens_computed: words,
                    tokens_full_prompts: words,
                    num_questions: 1,
                });
                let logprobs = (self.answer)(&prompt, question);
                let num_tokens = vec![1; logprobs.len()];
                LabelScores { logprobs, num_tokens, num_prompt_tokens: words as usize }
            })
            .collect();
        Ok((scores, usage))
    }

    fn count_tokens(&self, text: &str) -> Result<usize> {
        Ok(text.split_whitespace().count())
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Puts the message between `<user>` and `<assistant>`.
    fn chat(&self, message: &str) -> Result<String> {
        Ok(format!("<user>{message}<assistant>"))
    }
}
