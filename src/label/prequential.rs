//! Prequential prompts: the labelled examples in one chain, each predicted from those before it.
//!
//! By the chain rule the log-probabilities along a chain add up to the log-probability of the whole
//! labelling in that order; a few random orders are averaged. One pass of N demonstrations gives all
//! of them, against N log2 N for leave-one-out. It scores labellings and predicts none: an example's
//! place in the chain, not the example, says how many demonstrations it has behind it.

use rand::seq::SliceRandom;

use super::items::Items;
use super::order::Epoch;
use crate::run::SeedStream;
use crate::score::{LabelScores, NodeId, PromptTree, QuestionId, Usage};

/// A few fixed orders: labellings are compared under the same ones.
#[derive(Clone, Debug)]
pub struct ChainPlan {
    orders: Vec<Vec<usize>>,
}

/// The questions along the chains of one labelling.
#[derive(Debug)]
pub struct AskedChains {
    /// What to score.
    pub tree: PromptTree,
    /// For each order, its labelled examples with their questions, first to last.
    pub chains: Vec<Vec<(usize, QuestionId)>>,
    /// Content-free questions behind each whole chain.
    pub content_free: Vec<QuestionId>,
}

impl ChainPlan {
    /// Returns `num_orders` (at least one) random orders of all examples, those of an epoch.
    pub fn new(num_orders: usize, num_examples: usize, streams: &SeedStream, epoch: Epoch) -> Self {
        let order = |number| {
            let mut order: Vec<usize> = (0..num_examples).collect();
            order.shuffle(
                &mut streams.rng("label/prequential", &[epoch.batch, epoch.number, number]),
            );
            order
        };
        Self { orders: (0..num_orders.max(1) as u64).map(order).collect() }
    }

    /// Returns the tree that asks for each labelled example behind those before it in each order.
    ///
    /// # Cost
    /// N - 1 demonstrations and N questions for each order of N labelled examples.
    pub fn ask(
        &self,
        items: &Items,
        labels: &[Option<usize>],
        with_content_free: bool,
    ) -> AskedChains {
        let mut tree = PromptTree::new();
        let root = tree.child(PromptTree::ROOT, items.instruction.as_str());
        let mut content_free = Vec::new();
        let mut chains = Vec::with_capacity(self.orders.len());
        for order in &self.orders {
            let labelled: Vec<(usize, usize)> =
                order.iter().filter_map(|&i| labels[i].map(|label| (i, label))).collect();
            let mut chain = Vec::with_capacity(labelled.len());
            let mut trunk: NodeId = root;
            for (place, &(i, label)) in labelled.iter().enumerate() {
                let leaf = tree.child(trunk, items.questions[i].as_str());
                chain.push((i, tree.ask(leaf, items.ids[i].as_str(), &items.words[i])));
                if place + 1 < labelled.len() || with_content_free {
                    trunk = tree.child(trunk, items.demonstrations[i][label].as_str());
                }
            }
            chains.push(chain);
            if with_content_free {
                for question in &items.content_free {
                    let leaf = tree.child(trunk, question.as_str());
                    content_free.push(tree.ask(leaf, "content-free", &items.labels));
                }
            }
        }
        AskedChains { tree, chains, content_free }
    }
}

impl AskedChains {
    /// Returns the raw log-probabilities of every question, chain after chain, in nats.
    pub fn rows<'a>(
        &'a self,
        scores: &'a [LabelScores],
    ) -> impl Iterator<Item = (usize, &'a [f64])> {
        self.chains
            .iter()
            .flatten()
            .map(|(i, question)| (*i, scores[question.index()].logprobs.as_slice()))
    }

    /// Returns the cost with the full prompts that one order would have needed.
    pub fn usage(&self, cost: Usage, scores: &[LabelScores]) -> Usage {
        let again = self.chains.iter().skip(1).flatten();
        let spared: u64 = again.map(|(_, q)| scores[q.index()].tokens_full_prompt()).sum();
        let tokens_full_prompts = cost.tokens_full_prompts.saturating_sub(spared);
        Usage { tokens_full_prompts, ..cost }
    }
}
