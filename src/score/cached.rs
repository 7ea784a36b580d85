//! Prompts that were scored before are not run again.
//!
//! An answer is kept by the digest of the prompt's whole text and of the label words, which is to
//! say by its token sequence: however the text is cut in segments, it is tokenised as one piece.
//!
//! Stands outside [`super::Journaled`], so that a resumed run fills the cache from the journal as
//! the straight run filled it from the model, and asks for the same trees.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sha2::{Digest, Sha256};

use super::{LabelScores, PromptTree, Scorer, Usage};
use crate::error::Result;

type Key = [u8; 32];

/// A scorer that remembers its answers.
#[derive(Debug)]
pub struct Cached<S> {
    scorer: S,
    answers: HashMap<Key, LabelScores>,
}

impl<S: Scorer> Cached<S> {
    /// Returns `scorer` with an empty memory.
    ///
    /// # Cost
    /// Some 150 bytes a prompt that was scored.
    pub fn new(scorer: S) -> Self {
        Self { scorer, answers: HashMap::new() }
    }
}

impl<S: Scorer> Scorer for Cached<S> {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        let keys = keys(tree);
        // Of questions that are the same, within the tree too, the first is asked.
        let mut places: HashMap<Key, usize> = HashMap::new();
        let mut asked = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            if let (false, Entry::Vacant(place)) =
                (self.answers.contains_key(key), places.entry(*key))
            {
                place.insert(asked.len());
                asked.push(index);
            }
        }
        let mut usage = Usage::default();
        if asked.len() == keys.len() {
            let (scores, cost) = self.scorer.score(tree)?;
            self.answers.extend(keys.into_iter().zip(scores.iter().cloned()));
            return Ok((scores, cost));
        }
        if !asked.is_empty() {
            let (scores, cost) = self.scorer.score(&tree.with_questions(&asked))?;
            usage.tokens_computed = cost.tokens_computed;
            self.answers.extend(asked.iter().map(|&index| keys[index]).zip(scores));
        }
        let scores: Vec<LabelScores> = keys.iter().map(|key| self.answers[key].clone()).collect();
        usage.tokens_full_prompts = scores.iter().map(LabelScores::tokens_full_prompt).sum();
        usage.num_questions = scores.len() as u64;
        Ok((scores, usage))
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

/// Returns the key of each question of a tree.
fn keys(tree: &PromptTree) -> Vec<Key> {
    // The same text with and without a begin token before it is two prompts.
    let root = if tree.spells_special_tokens() { "spelled" } else { "" };
    let mut texts = vec![Sha256::new_with_prefix(root)];
    for (_, parent, text) in tree.segments() {
        texts.push(texts[PromptTree::node_index(parent)].clone().chain_update(text));
    }
    let key = |question: &super::Question| {
        let prompt = texts[PromptTree::node_index(question.node)].clone().finalize();
        let mut hash = Sha256::new_with_prefix(prompt);
        for label in question.labels.iter() {
            hash.update((label.len() as u64).to_le_bytes());
            hash.update(label);
        }
        hash.finalize().into()
    };
    tree.questions().iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::super::TableScorer;
    use super::*;

    #[test]
    fn a_prompt_is_run_once_however_it_is_cut_and_whoever_asks() {
        let mut asked = Vec::new();
        let table = TableScorer::new(|prompt: &str, _: &super::super::Question| {
            asked.push(prompt.to_owned());
            vec![-(prompt.len() as f64), 0.0]
        });
        let mut scorer = Cached::new(table);
        let labels = PromptTree::labels(["no", "yes"]);
        let build = |cuts: &[&[&str]]| {
            let mut tree = PromptTree::new();
            for (i, texts) in cuts.iter().enumerate() {
                let leaf = texts.iter().fold(PromptTree::ROOT, |node, t| tree.child(node, *t));
                tree.ask(leaf, format!("q{i}"), &labels);
            }
            tree
        };
        let (first, cost) = scorer.score(&build(&[&["a b ", "c"], &["a b ", "d e"]])).unwrap();
        assert_eq!((cost.tokens_computed, cost.tokens_full_prompts, cost.num_questions), (7, 7, 2));
        // The same two, cut otherwise and turned round, one of them twice, and a new one.
        let tree = build(&[&["a ", "b d e"], &["a b c"], &["a b ", "c"], &["x"]]);
        let (second, cost) = scorer.score(&tree).unwrap();
        assert_eq!(
            (cost.tokens_computed, cost.tokens_full_prompts, cost.num_questions),
            (1, 11, 4)
        );
        assert_eq!(second[0], first[1]);
        assert_eq!([&second[1], &second[2]], [&first[0], &first[0]]);
        assert_eq!(second[3].logprobs, [-1.0, 0.0]);
        // Other label words are another question.
        let other = PromptTree::labels(["n", "oyes"]);
        let mut tree = PromptTree::new();
        let leaf = tree.child(PromptTree::ROOT, "x");
        tree.ask(leaf, "q", &other);
        assert_eq!(scorer.score(&tree).unwrap().1.tokens_computed, 1);
        drop(scorer);
        assert_eq!(asked, ["a b c", "a b d e", "x", "x"]);
    }
}
