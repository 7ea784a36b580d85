//! The one door to a model: log-probabilities of label words for a forest of prompts.
//!
//! Methods build a [`PromptTree`] and hand it to a [`Scorer`]; they never see tokens. [`LmScorer`]
//! runs it on the local decoder, [`HttpScorer`] on a server, [`TableScorer`] answers from a function
//! (tests). Two wrap another scorer: [`Journaled`] writes down every answer, so that a killed run goes on where it stopped;
//! [`Cached`] remembers them, so that no prompt is run twice. A [`Generator`] writes instead of
//! scoring.

mod cached;
mod calibrate;
mod forest;
mod generator;
mod http;
mod journaled;
mod lm_scorer;
mod memory;
mod prior;
mod table;
mod tree;
mod work;

use serde::{Deserialize, Serialize};

pub use cached::Cached;
pub use calibrate::{
    Calibration, batch_offset, best_label, distribution, log_odds, margin, mean_logprobs,
};
pub use generator::{Generator, TableGenerator, Written};
pub use http::{Asked, HttpScorer, HttpScorerOptions, LocalTokenizer, Misses, RouteKind};
pub use journaled::Journaled;
pub use lm_scorer::{LmScorer, LmScorerOptions};
pub(crate) use memory::total as total_memory;
pub use memory::{Halved, MemorySize};
pub use prior::{Prior, estimated_shares};
pub use table::TableScorer;
pub use tree::{NodeId, PromptTree, Question, QuestionId};
pub use work::Work;

use crate::error::{Error, ErrorKind, Result};

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelScores {
    /// For each label of the question, the natural-log probability of its tokens, summed, in nats:
    /// from the first token on at which the labels of the question differ
    /// ([`crate::lm::question_boundary`]).
    pub logprobs: Vec<f64>,
    /// For each label, how many tokens were summed.
    pub num_tokens: Vec<usize>,
    /// Tokens before those that were summed, special tokens included.
    pub num_prompt_tokens: usize,
}

impl LabelScores {
    /// Returns the tokens that scoring this prompt by itself runs: the prompt, and of each label all
    /// but its last token, which is only predicted.
    pub fn tokens_full_prompt(&self) -> u64 {
        let own: usize = self.num_tokens.iter().map(|tokens| tokens.saturating_sub(1)).sum();
        (self.num_prompt_tokens + own) as u64
    }
}

/// What scoring has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens run through the model.
    pub tokens_computed: u64,
    /// Tokens that scoring every prompt by itself, from its first token, would have run.
    pub tokens_full_prompts: u64,
    /// Questions answered.
    pub num_questions: u64,
}

impl Usage {
    /// Returns the sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens_computed: self.tokens_computed + other.tokens_computed,
            tokens_full_prompts: self.tokens_full_prompts + other.tokens_full_prompts,
            num_questions: self.num_questions + other.num_questions,
        }
    }
}

/// Something that answers the label questions of a [`PromptTree`].
///
/// Answers depend on the tree alone: not on earlier calls, nor (beyond rounding) on how a tree is
/// cut into calls.
pub trait Scorer {
    /// Returns one answer per question, in the order of asking, and the cost of this call.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Context`] when a prompt is longer than the model's context (names
    /// the example), [`crate::error::ErrorKind::Numeric`] when the model gives NaN or infinity.
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)>;

    /// Returns the number of tokens of `text`, special tokens not counted.
    ///
    /// # Errors
    /// When the text cannot be tokenised.
    fn count_tokens(&self, text: &str) -> Result<usize>;

    /// Returns the longest prompt in tokens, label and special tokens included.
    fn max_tokens(&self) -> usize;

    /// Returns the prompt that puts `message` to a chat model, up to where the words of its answer
    /// begin, for a tree that [spells its special tokens](PromptTree::spell_special_tokens).
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`] when the model has no chat template, as base models have none, or
    /// when its template fails.
    fn chat(&self, message: &str) -> Result<String> {
        let _ = message;
        Err(Error::new(ErrorKind::Tokenizer, "this scorer knows no chat template"))
    }
}

impl<S: Scorer + ?Sized> Scorer for &mut S {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        (**self).score(tree)
    }

    fn count_tokens(&self, text: &str) -> Result<usize> {
        (**self).count_tokens(text)
    }

    fn max_tokens(&self) -> usize {
        (**self).max_tokens()
    }

    fn chat(&self, message: &str) -> Result<String> {
        (**self).chat(message)
    }
}

impl<S: Scorer + ?Sized> Scorer for Box<S> {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        (**self).score(tree)
    }

    fn count_tokens(&self, text: &str) -> Result<usize> {
        (**self).count_tokens(text)
    }

    fn max_tokens(&self) -> usize {
        (**self).max_tokens()
    }

    fn chat(&self, message: &str) -> Result<String> {
        (**self).chat(message)
    }
}
