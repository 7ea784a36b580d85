//! Resuming: every answer of a scorer is written down before it is used.
//!
//! A method is a deterministic function of its settings and of the scorer's answers. So the journal
//! of answers is all the state there is: a resumed run starts from the beginning, is answered from
//! the journal as far as it reaches, and goes on from there. The result is the uninterrupted run's,
//! byte for byte, wherever the run was stopped.

use serde::{Deserialize, Serialize};

use super::{LabelScores, PromptTree, Scorer, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::run::Journal;

#[derive(Serialize, Deserialize)]
struct Entry {
    /// Digest of the tree that was scored.
    tree: String,
    scores: Vec<LabelScores>,
    usage: Usage,
}

/// A scorer that keeps a journal.
#[derive(Debug)]
pub struct Journaled<S> {
    scorer: S,
    journal: Journal,
}

impl<S> Journaled<S> {
    /// Returns `scorer` with a journal: first its entries are the answers, then `scorer` is.
    pub fn new(scorer: S, journal: Journal) -> Self {
        Self { scorer, journal }
    }

    pub(super) fn inner(&self) -> &S {
        &self.scorer
    }

    pub(super) fn parts(&mut self) -> (&mut S, &mut Journal) {
        (&mut self.scorer, &mut self.journal)
    }
}

impl<S: Scorer> Scorer for Journaled<S> {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        let digest = tree.digest();
        if let Some((entry, line)) = self.journal.replay::<Entry>()? {
            if entry.tree != digest || entry.scores.len() != tree.questions().len() {
                return Err(Error::new(
                    ErrorKind::Run,
                    "the journal answers another question than the run now asks",
                )
                .at_line(self.journal.path(), line)
                .hint("the data, the settings or the program changed since the run began; start a new run folder"));
            }
            return Ok((entry.scores, entry.usage));
        }
        let (scores, usage) = self.scorer.score(tree)?;
        let entry = Entry { tree: digest, scores, usage };
        self.journal.append(&entry)?;
        Ok((entry.scores, entry.usage))
    }

    fn count_tokens(&self, text: &str) -> Result<usize> {
        self.scorer.count_tokens(text)
    }

    fn max_tokens(&self) -> usize {
        self.scorer.max_tokens()
    }

    fn chat(&self, message: &str) -> Result<String> {
        self.scorer.chat(message)
    }
}
