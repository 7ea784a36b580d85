//! What methods ask of a model: a forest of prompts that share beginnings, with label questions.

use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A node of a [`PromptTree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

/// A question of a [`PromptTree`], numbered in the order of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(usize);

impl QuestionId {
    /// Returns the question's place in the scores that [`super::Scorer::score`] returns.
    pub fn index(self) -> usize {
        self.0
    }
}

#[derive(Debug)]
struct Segment {
    parent: Option<NodeId>,
    text: String,
}

/// The question for the log-probabilities of label words after a prompt.
#[derive(Debug)]
pub struct Question {
    /// Whose question it is; errors name it.
    pub id: String,
    /// The node whose path is the prompt.
    pub node: NodeId,
    /// The label words that may follow.
    pub labels: Arc<[String]>,
}

/// Text segments that share beginnings, and label questions at nodes.
///
/// A prompt is the text from the root to a node, tokenised as one piece with the label: segment
/// borders have no influence on the tokens. They only say what is shared, and a scorer runs what is
/// shared once.
///
/// ```
/// use w2s::score::PromptTree;
///
/// let labels = PromptTree::labels(["False", "True"]);
/// let mut tree = PromptTree::new();
/// let shared = tree.child(PromptTree::ROOT, "Claim: 1 + 1 = 2\nI think this claim is True\n\n");
/// let item = tree.child(shared, "Claim: 2 + 2 = 5\nI think this claim is ");
/// let question = tree.ask(item, "claim-2", &labels);
/// assert_eq!(question.index(), 0);
/// assert!(tree.text(item).starts_with("Claim: 1 + 1"));
/// ```
#[derive(Debug)]
pub struct PromptTree {
    segments: Vec<Segment>,
    questions: Vec<Question>,
    spells_special_tokens: bool,
}

impl Default for PromptTree {
    fn default() -> Self {
        Self::new()
    }
}

impl PromptTree {
    /// The node of the empty text, from which everything hangs.
    pub const ROOT: NodeId = NodeId(0);

    /// Returns a tree with a root and nothing else.
    pub fn new() -> Self {
        Self {
            segments: vec![Segment { parent: None, text: String::new() }],
            questions: Vec::new(),
            spells_special_tokens: false,
        }
    }

    /// Says that the prompts spell their special tokens themselves, as those of [`super::Scorer::chat`]
    /// do: a scorer with a tokenizer puts none before them.
    pub fn spell_special_tokens(&mut self) {
        self.spells_special_tokens = true;
    }

    /// Returns whether the prompts spell their special tokens.
    pub fn spells_special_tokens(&self) -> bool {
        self.spells_special_tokens
    }

    /// Returns label words in the form that [`PromptTree::ask`] takes.
    pub fn labels<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Arc<[String]> {
        words.into_iter().map(Into::into).collect()
    }

    /// Returns a new node that continues `parent` with `text`, or `parent` itself for no text.
    pub fn child(&mut self, parent: NodeId, text: impl Into<String>) -> NodeId {
        let text = text.into();
        if text.is_empty() {
            return parent;
        }
        self.segments.push(Segment { parent: Some(parent), text });
        NodeId(self.segments.len() - 1)
    }

    /// Asks for the log-probabilities of `labels` after the text of `node`.
    pub fn ask(
        &mut self,
        node: NodeId,
        id: impl Into<String>,
        labels: &Arc<[String]>,
    ) -> QuestionId {
        self.questions.push(Question { id: id.into(), node, labels: Arc::clone(labels) });
        QuestionId(self.questions.len() - 1)
    }

    /// Returns the questions in the order they were asked.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Returns the nodes in an order in which parents come first, each with its parent and the text
    /// it adds; the root is left out.
    pub fn segments(&self) -> impl Iterator<Item = (NodeId, NodeId, &str)> {
        self.segments.iter().enumerate().filter_map(|(i, segment)| {
            segment.parent.map(|parent| (NodeId(i), parent, segment.text.as_str()))
        })
    }

    /// Returns the number of nodes, the root included.
    pub fn num_nodes(&self) -> usize {
        self.segments.len()
    }

    /// Returns the node's place among all nodes, the root being 0.
    pub fn node_index(node: NodeId) -> usize {
        node.0
    }

    /// Returns the whole text from the root to `node`.
    pub fn text(&self, node: NodeId) -> String {
        let mut parts = Vec::new();
        let mut at = Some(node);
        while let Some(NodeId(i)) = at {
            parts.push(self.segments[i].text.as_str());
            at = self.segments[i].parent;
        }
        parts.reverse();
        parts.concat()
    }

    /// Returns the tree with the questions at `indices` only, and the nodes that lead to them.
    #[must_use]
    pub fn with_questions(&self, indices: &[usize]) -> Self {
        let mut wanted = vec![false; self.segments.len()];
        for &index in indices {
            let mut at = Some(self.questions[index].node);
            while let Some(NodeId(i)) = at.filter(|node| !wanted[node.0]) {
                wanted[i] = true;
                at = self.segments[i].parent;
            }
        }
        let mut part = Self { spells_special_tokens: self.spells_special_tokens, ..Self::new() };
        let mut moved = vec![Self::ROOT; self.segments.len()];
        for (NodeId(i), NodeId(parent), text) in self.segments().filter(|(n, ..)| wanted[n.0]) {
            moved[i] = part.child(moved[parent], text);
        }
        for question in indices.iter().map(|&index| &self.questions[index]) {
            part.ask(moved[question.node.0], question.id.as_str(), &question.labels);
        }
        part
    }

    /// Returns a SHA-256 digest of everything in the tree, as hexadecimal text.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        if self.spells_special_tokens {
            field(b"spells special tokens");
        }
        for segment in &self.segments {
            field(&segment.parent.map_or(u64::MAX, |p| p.0 as u64).to_le_bytes());
            field(segment.text.as_bytes());
        }
        for question in &self.questions {
            field(question.id.as_bytes());
            field(&(question.node.0 as u64).to_le_bytes());
            for label in question.labels.iter() {
                field(label.as_bytes());
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
