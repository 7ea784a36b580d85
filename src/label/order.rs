//! Leave-one-out prompts: for every labelled example a prompt with all the others, as one tree.
//!
//! The function that writes the prompt of example `i` is the one that leaves `i` out: no caller can
//! forget to.
//!
//! `dataset` keeps the examples in order, as the published code does; example `i` shares the prompt
//! up to itself, so about N^2 / 2 demonstrations are computed. `halving` splits the set in two: the
//! right half is put in context to score the left and the left to score the right, and so on within
//! each half. Every example still sees exactly the N - 1 others, each in an order of its own, and
//! about N log2 N demonstrations are computed. *Anchors* are a few demonstrations that stand last
//! in every context, so that recency works alike for all items. *Leaf blocks* end the halving early:
//! within a block of at most B examples the others stand in order, as in `dataset`, which is one
//! block of all. Several *trees*, each over a permutation of its own, average what remains of the
//! order's noise: a label's log-probability is the mean over them.
//!
//! A *cap* of K demonstrations (published with K = 6, drawn anew for every prompt and without regard
//! to balance) puts K of the others behind every example. Ours are fixed by the plan, for current and
//! proposed labelling must be compared under the same: the permutation is cut in blocks of K + 1
//! places, within which each member stands behind the other labelled ones; what lacks to K are the
//! labelled examples that follow the block. So an example is predicted and later scored behind the
//! same K, and a new label changes the demonstrations of few others.
//!
//! Members of a consistency group are scattered by the permutation, not kept together. Side by side
//! they stand last in each other's context, and a small model copies the label of a claim so like
//! the one asked about: gold few-shot accuracy of gemma-3-270m on the demo's contrast pairs was
//! .80 to .90 (4 permutations, mean .84) with pairs together and .88 to .90 (3, mean .89) without.

use rand::seq::SliceRandom;
use serde::Serialize;

use super::items::Items;
use crate::run::SeedStream;
use crate::score::mean_logprobs;
use crate::score::{LabelScores, NodeId, PromptTree, QuestionId, Usage};

/// The order of demonstrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The data's order, as published: N^2 / 2 demonstrations a pass.
    Dataset,
    /// By halves: N log2 N demonstrations a pass.
    #[default]
    Halving,
}

/// How demonstrations are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OrderOptions {
    /// By halves or as in the data.
    pub order: Order,
    /// Demonstrations that stand last in every context (`halving` only).
    pub num_anchors: usize,
    /// Most examples of a block that is not halved any more (`halving` only); 1: halve to the end.
    pub leaf_block: usize,
    /// Permutations over which log-probabilities are averaged (`halving` only); at least 1.
    pub num_trees: usize,
    /// Demonstrations in every prompt, where there are more to choose from; there are no anchors
    /// then. None: all.
    pub num_demonstrations: Option<usize>,
}

impl OrderOptions {
    /// The data's order.
    pub const DATASET: Self = Self {
        order: Order::Dataset,
        num_anchors: 0,
        leaf_block: 1,
        num_trees: 1,
        num_demonstrations: None,
    };
    /// Halves down to single examples, in one tree without anchors.
    pub const PURE_HALVING: Self = Self { order: Order::Halving, ..Self::DATASET };
}

impl Default for OrderOptions {
    fn default() -> Self {
        Self { num_trees: 2, ..Self::PURE_HALVING }
    }
}

/// A stretch of the search of a batch, which has its own orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// The batch.
    pub batch: u64,
    /// Which of its stretches, from 0 on.
    pub number: u64,
}

/// A fixed order for one stretch of the search: labellings are compared under the same one.
#[derive(Clone, Debug)]
pub struct OrderPlan {
    trees: Vec<TreePlan>,
    leaf_block: usize,
    cap: Option<usize>,
    /// Whether the permutations only say which demonstrations are taken, not how they stand.
    keeps_data_order: bool,
}

/// The order of one tree.
#[derive(Clone, Debug)]
struct TreePlan {
    /// All examples in the tree's order.
    sequence: Vec<usize>,
    anchors: Vec<usize>,
}

/// The questions of one leave-one-out pass.
#[derive(Debug)]
pub struct Asked {
    /// What to score.
    pub tree: PromptTree,
    /// Example and questions, one for each tree of the plan, in the order of asking.
    pub items: Vec<(usize, Vec<QuestionId>)>,
    /// Content-free questions behind all demonstrations.
    pub content_free: Vec<QuestionId>,
}

impl Asked {
    /// Returns each example with its labels' log-probabilities, in nats, averaged over its questions.
    pub fn rows(&self, scores: &[LabelScores]) -> Vec<(usize, Vec<f64>)> {
        let row = |questions: &[QuestionId]| {
            let rows =
                questions.iter().map(|question| scores[question.index()].logprobs.as_slice());
            let num_labels = scores[questions[0].index()].logprobs.len();
            mean_logprobs(rows, num_labels)
        };
        self.items.iter().map(|(i, questions)| (*i, row(questions))).collect()
    }

    /// Returns the cost with the full prompts that would have been needed: one for each example,
    /// however many trees its score is averaged over.
    pub fn usage(&self, cost: Usage, scores: &[LabelScores]) -> Usage {
        let again = self.items.iter().flat_map(|(_, questions)| &questions[1..]);
        let spared: u64 = again.map(|q| scores[q.index()].tokens_full_prompt()).sum();
        let tokens_full_prompts = cost.tokens_full_prompts.saturating_sub(spared);
        Usage { tokens_full_prompts, ..cost }
    }
}

impl OrderPlan {
    /// Returns the order of an epoch: seeded permutations for `halving`, with its anchors among the
    /// examples that `labels` labels.
    pub fn new(
        options: OrderOptions,
        items: &Items,
        labels: &[Option<usize>],
        streams: &SeedStream,
        epoch: Epoch,
    ) -> Self {
        let is_drawn = options.order == Order::Halving || options.num_demonstrations.is_some();
        let sequences = sequences(options, items.len(), is_drawn, streams, epoch);
        Self::with_sequences(options, sequences, items, labels)
    }

    /// As [`new`](Self::new), with permutations for the data's order too: what the labels are worth
    /// under another order.
    pub fn shuffled(
        options: OrderOptions,
        items: &Items,
        labels: &[Option<usize>],
        streams: &SeedStream,
        epoch: Epoch,
    ) -> Self {
        let sequences = sequences(options, items.len(), true, streams, epoch);
        Self::with_sequences(options, sequences, items, labels)
    }

    /// Returns the order of one tree for each of `sequences`, which are permutations of all examples.
    pub fn with_sequences(
        options: OrderOptions,
        sequences: Vec<Vec<usize>>,
        items: &Items,
        labels: &[Option<usize>],
    ) -> Self {
        let (num_anchors, leaf_block) = match options.order {
            Order::Dataset => (0, items.len()),
            Order::Halving if options.num_demonstrations.is_some() => (0, options.leaf_block),
            Order::Halving => (options.num_anchors, options.leaf_block),
        };
        let trees = sequences.into_iter().map(|sequence| TreePlan {
            anchors: pick_anchors(num_anchors, items, labels, &sequence),
            sequence,
        });
        Self {
            trees: trees.collect(),
            leaf_block: leaf_block.max(1),
            cap: options.num_demonstrations.map(|cap| cap.max(1)),
            keeps_data_order: options.order == Order::Dataset
                && options.num_demonstrations.is_some(),
        }
    }

    /// Returns whether the anchors have lost a label that the labelled examples have.
    pub fn is_stale(&self, labels: &[Option<usize>]) -> bool {
        let num_kinds = |examples: &mut dyn Iterator<Item = usize>| {
            examples.filter_map(|i| labels[i]).collect::<std::collections::HashSet<_>>().len()
        };
        let known = num_kinds(&mut (0..labels.len()));
        self.trees.iter().map(|tree| &tree.anchors).any(|anchors| {
            let held = num_kinds(&mut anchors.iter().copied());
            !anchors.is_empty() && held < known.min(anchors.len())
        })
    }

    /// Returns the tree that asks for each of `targets` behind all labelled examples but itself (or
    /// as many as the cap allows), with the content-free questions behind all labelled examples (or
    /// some, as many) if `content_free`.
    ///
    /// # Cost
    /// With N labelled examples about N^2 / 2 demonstrations (`dataset`) or, for each tree,
    /// N (log2 N + anchors) (`halving`; blocks of B add about N (B / 2 - log2 B)); an unlabelled
    /// target adds the anchors and its own question. Under a cap of K the same with K + 1 in place of
    /// N, N / (K + 1) times.
    pub fn ask(
        &self,
        items: &Items,
        labels: &[Option<usize>],
        targets: &[usize],
        content_free: bool,
    ) -> Asked {
        let mut tree = PromptTree::new();
        if items.spell_special_tokens {
            tree.spell_special_tokens();
        }
        let root = tree.child(PromptTree::ROOT, items.instruction.as_str());
        let mut wanted = vec![false; items.len()];
        for &target in targets {
            wanted[target] = true;
        }
        let mut builder = Builder {
            items,
            labels,
            wanted,
            anchors: Vec::new(),
            leaf_block: self.leaf_block,
            tree,
            places: vec![None; items.len()],
            asked: Vec::new(),
        };
        let num_labelled = labels.iter().flatten().count();
        let cap = self.cap.filter(|cap| num_labelled > *cap);
        let mut questions = Vec::new();
        for plan in &self.trees {
            let labelled = |&a: &usize| labels[a].is_some();
            builder.anchors = plan.anchors.iter().copied().filter(labelled).collect();
            let anchors = &builder.anchors;
            let mut rest: Vec<usize> =
                plan.sequence.iter().copied().filter(|i| !anchors.contains(i)).collect();
            if let Some(cap) = cap {
                builder.in_blocks(root, &rest, cap, self.keeps_data_order);
                rest.retain(|&i| labels[i].is_some());
                rest.truncate(cap);
            }
            if self.keeps_data_order {
                rest.sort_unstable();
            }
            if cap.is_none() {
                builder.halve(root, &rest);
                builder.behind_all(root, &rest);
            }
            if content_free {
                let text = builder.text(rest.iter().chain(&builder.anchors).copied());
                let node = builder.tree.child(root, text);
                for question in &items.content_free {
                    let leaf = builder.tree.child(node, question.as_str());
                    questions.push(builder.tree.ask(leaf, "content-free", &items.labels));
                }
            }
        }
        Asked { tree: builder.tree, items: builder.asked, content_free: questions }
    }
}

/// Returns a permutation for each tree, or the data's order.
fn sequences(
    options: OrderOptions,
    num: usize,
    is_drawn: bool,
    streams: &SeedStream,
    epoch: Epoch,
) -> Vec<Vec<usize>> {
    let sequence = |tree| {
        let mut sequence: Vec<usize> = (0..num).collect();
        if is_drawn {
            sequence.shuffle(&mut streams.rng("label/order", &[epoch.batch, epoch.number, tree]));
        }
        sequence
    };
    (0..options.num_trees.max(1) as u64).map(sequence).collect()
}

/// Returns up to `num` labelled examples for anchors: the labels in turn, the shortest first.
fn pick_anchors(
    num: usize,
    items: &Items,
    labels: &[Option<usize>],
    sequence: &[usize],
) -> Vec<usize> {
    let num_labelled = labels.iter().flatten().count();
    // At least half of the labelled examples stay in the tree.
    let num = num.min(num_labelled / 2);
    let mut by_label: Vec<Vec<usize>> = vec![Vec::new(); items.labels.len()];
    for &i in sequence {
        if let Some(label) = labels[i] {
            by_label[label].push(i);
        }
    }
    for list in &mut by_label {
        list.sort_by_key(|&i| items.questions[i].len());
        list.reverse();
    }
    let mut anchors = Vec::with_capacity(num);
    while anchors.len() < num {
        for list in &mut by_label {
            if anchors.len() < num
                && let Some(i) = list.pop()
            {
                anchors.push(i);
            }
        }
    }
    anchors
}

struct Builder<'a> {
    items: &'a Items,
    labels: &'a [Option<usize>],
    wanted: Vec<bool>,
    anchors: Vec<usize>,
    leaf_block: usize,
    tree: PromptTree,
    /// Where in `asked` an example stands.
    places: Vec<Option<usize>>,
    asked: Vec<(usize, Vec<QuestionId>)>,
}

impl Builder<'_> {
    /// The demonstrations of those of `examples` that are labelled.
    fn text(&self, examples: impl Iterator<Item = usize>) -> String {
        examples
            .filter_map(|i| {
                self.labels[i].map(|label| self.items.demonstrations[i][label].as_str())
            })
            .collect()
    }

    /// Asks for `target` behind `context` and `before`, which must not hold it, and the anchors.
    fn ask(&mut self, context: NodeId, before: String, target: usize) {
        let anchors = self.text(self.anchors.iter().copied().filter(|&a| a != target));
        let text = before + &anchors + &self.items.questions[target];
        let leaf = self.tree.child(context, text);
        let words = &self.items.words[target];
        let question = self.tree.ask(leaf, self.items.ids[target].as_str(), words);
        match self.places[target] {
            Some(place) => self.asked[place].1.push(question),
            None => {
                self.places[target] = Some(self.asked.len());
                self.asked.push((target, vec![question]));
            }
        }
    }

    /// Asks for the labelled targets among `part`, all others being in `context` already.
    fn halve(&mut self, context: NodeId, part: &[usize]) {
        if !part.iter().any(|&i| self.is_target(i)) {
            return;
        }
        if part.len() <= self.leaf_block {
            self.in_order(context, part);
            return;
        }
        let (left, right) = part.split_at(part.len() / 2);
        for (targets, others) in [(left, right), (right, left)] {
            let text = self.text(others.iter().copied());
            let node = self.tree.child(context, text);
            self.halve(node, targets);
        }
    }

    /// As [`halve`](Self::halve), each target behind the others of `block` in their order.
    fn in_order(&mut self, context: NodeId, block: &[usize]) {
        let mut trunk = context;
        for (place, &i) in block.iter().enumerate() {
            let later = &block[place + 1..];
            if self.is_target(i) {
                let before = self.text(later.iter().copied());
                self.ask(trunk, before, i);
            }
            if later.iter().any(|&j| self.is_target(j)) {
                let own = self.text(std::iter::once(i));
                trunk = self.tree.child(trunk, own);
            }
        }
    }

    /// Asks for every target behind exactly `cap` labelled examples: those of its block of `cap + 1`
    /// places, and for what lacks, those that follow the block.
    fn in_blocks(&mut self, root: NodeId, sequence: &[usize], cap: usize, in_data_order: bool) {
        let wanted = std::mem::replace(&mut self.wanted, vec![false; self.items.len()]);
        let labels = self.labels;
        for (number, block) in sequence.chunks(cap + 1).enumerate() {
            let (before, after) = sequence.split_at(number * (cap + 1));
            let is_labelled = |i: &usize| labels[*i].is_some();
            let own: Vec<usize> = block.iter().copied().filter(is_labelled).collect();
            let others = after[block.len()..].iter().chain(before).copied().filter(is_labelled);
            let borrowed: Vec<usize> = others.take(cap + 1 - own.len()).collect();
            let (labelled, unlabelled): (Vec<usize>, Vec<usize>) =
                block.iter().copied().filter(|&i| wanted[i]).partition(is_labelled);
            for &i in &labelled {
                self.wanted[i] = true;
            }
            if in_data_order {
                let mut all = [borrowed.as_slice(), &own].concat();
                all.sort_unstable();
                self.in_order(root, &all);
            } else if !labelled.is_empty() {
                let text = self.text(borrowed.iter().copied());
                let node = self.tree.child(root, text);
                self.halve(node, &own);
            }
            for &i in &labelled {
                self.wanted[i] = false;
            }
            if let Some((_, fewer)) = borrowed.split_last().filter(|_| !unlabelled.is_empty()) {
                let mut all = [fewer, &own].concat();
                if in_data_order {
                    all.sort_unstable();
                }
                let text = self.text(all.into_iter());
                let node = self.tree.child(root, text);
                for &i in &unlabelled {
                    self.ask(node, String::new(), i);
                }
            }
        }
        self.wanted = wanted;
    }

    fn is_target(&self, i: usize) -> bool {
        self.wanted[i] && self.labels[i].is_some()
    }

    /// Asks for the anchors and for unlabelled targets, behind everything in `rest`.
    fn behind_all(&mut self, root: NodeId, rest: &[usize]) {
        let last: Vec<usize> = (0..self.items.len())
            .filter(|i| self.wanted[*i] && (self.labels[*i].is_none() || self.anchors.contains(i)))
            .collect();
        if last.is_empty() {
            return;
        }
        let text = self.text(rest.iter().copied());
        let node = self.tree.child(root, text);
        for i in last {
            self.ask(node, String::new(), i);
        }
    }
}
