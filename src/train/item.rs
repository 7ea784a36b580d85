//! What is trained on: a prompt as tokens, and answers that may follow it.

use std::collections::HashMap;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::lm::{Tokenizer, Tokens, question_boundary};

/// One answer to a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Tokens of prompt and answer, special ones included.
    pub ids: Vec<u32>,
    /// The first token that is learnt; never 0.
    pub begin: usize,
    /// The share of this answer among those of the item; they sum to 1.
    pub share: f64,
}

impl Answer {
    /// Returns how many tokens are learnt.
    pub fn num_targets(&self) -> usize {
        self.ids.len() - self.begin
    }
}

/// A prompt with what should follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The example's id; items of one id are variants of one question and train together.
    pub id: String,
    /// What no validation split may tear apart.
    pub group: String,
    /// One answer, or one for each label in the order of the task's labels.
    pub answers: Vec<Answer>,
    /// How much the item counts; above 0.
    pub weight: f64,
}

impl Item {
    /// Returns the tokens of its longest prompt with its answer.
    pub fn longest(&self) -> usize {
        self.answers.iter().map(|answer| answer.ids.len()).max().unwrap_or(0)
    }
}

/// What to do with a prompt that leaves no room for its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TooLong {
    /// Tokens are taken off the prompt's beginning.
    #[default]
    Truncate,
    /// The item is left out.
    Drop,
    /// It is an error.
    Refuse,
}

/// Makes items from texts, and counts what did not fit.
pub struct ItemBuilder<'a> {
    tokenizer: &'a Tokenizer,
    /// Ends every answer; `None` where labels are learnt as they are scored.
    end: Option<u32>,
    max_tokens: usize,
    too_long: TooLong,
    /// Items whose prompt was cut.
    pub num_truncated: usize,
    /// Items that were left out.
    pub num_dropped: usize,
}

impl<'a> ItemBuilder<'a> {
    /// Returns a builder for sequences of up to `max_tokens` tokens.
    pub fn new(
        tokenizer: &'a Tokenizer,
        end: Option<u32>,
        max_tokens: usize,
        too_long: TooLong,
    ) -> Self {
        Self { tokenizer, end, max_tokens, too_long, num_truncated: 0, num_dropped: 0 }
    }

    /// Returns the item of `prompt` with `answers` (text and share of each), or `None` if it is left
    /// out. `words` are the words of all labels of the question, whichever of them are learnt; none for
    /// an open answer.
    ///
    /// Prompt and answer are tokenised together, and what is learnt begins where the labels of the
    /// question do, as in scoring ([`question_boundary`]).
    ///
    /// # Errors
    /// [`ErrorKind::Task`] for an answer without a token of its own and for labels with the same tokens,
    /// [`ErrorKind::Data`] for an empty prompt, [`ErrorKind::Context`] for an answer longer than a
    /// sequence may be, and for a prompt if it is not to be cut.
    pub fn item(
        &mut self,
        (id, group): (&str, &str),
        prompt: &str,
        (answers, words): (&[(&str, f64)], &[&str]),
        weight: f64,
    ) -> Result<Option<Item>> {
        let fail = |kind, message: String| Error::new(kind, format!("example `{id}`: {message}"));
        let prefix = self.tokenizer.prefix();
        let mut texts: Vec<&str> = answers.iter().map(|(text, _)| *text).collect();
        for word in words {
            if !texts.contains(word) {
                texts.push(word);
            }
        }
        let joint = texts
            .iter()
            .map(|text| self.tokenizer.encode(&[prompt, text].concat()))
            .collect::<Result<Vec<Tokens>>>()?;
        let begin = prefix.len()
            + question_boundary(prompt.len(), &texts, &joint)
                .map_err(|e| e.of(format_args!("example `{id}`")))?;
        if begin == 0 {
            return Err(fail(
                ErrorKind::Data,
                "nothing stands before the answer, so it has nothing to follow".into(),
            ));
        }
        let mut made = Vec::with_capacity(answers.len());
        let mut most_over = 0;
        for (&(_, share), joint) in answers.iter().zip(&joint) {
            let mut ids = [prefix, joint.ids.as_slice()].concat();
            ids.extend(self.end);
            most_over = most_over.max(ids.len().saturating_sub(self.max_tokens));
            made.push(Answer { ids, begin, share });
        }
        if most_over > 0 {
            // A token of the prompt must stay for the answer to follow.
            let room = begin.saturating_sub(prefix.len() + usize::from(prefix.is_empty()));
            if most_over > room {
                return Err(fail(
                    ErrorKind::Context,
                    format!("the answer alone is longer than {} tokens", self.max_tokens),
                )
                .hint("raise `--max-tokens`, or shorten the answers"));
            }
            match self.too_long {
                TooLong::Refuse => {
                    return Err(fail(
                        ErrorKind::Context,
                        format!(
                            "prompt and answer are {} tokens long, expected at most {}",
                            self.max_tokens + most_over,
                            self.max_tokens
                        ),
                    )
                    .hint("raise `--max-tokens`, or let `--too-long` truncate or drop"));
                }
                TooLong::Drop => {
                    self.num_dropped += 1;
                    return Ok(None);
                }
                TooLong::Truncate => {
                    self.num_truncated += 1;
                    for answer in &mut made {
                        answer.ids.drain(prefix.len()..prefix.len() + most_over);
                        answer.begin -= most_over;
                    }
                }
            }
        }
        Ok(Some(Item { id: id.to_owned(), group: group.to_owned(), answers: made, weight }))
    }
}

/// Returns the items' places by id, in order of first appearance: what trains together.
pub(super) fn units(items: &[Item]) -> Vec<Vec<usize>> {
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let unit = *known.entry(&item.id).or_insert_with(|| {
            units.push(Vec::new());
            units.len() - 1
        });
        units[unit].push(index);
    }
    units
}
