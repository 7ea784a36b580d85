//! A request to a server, and what its reply is used for.

use crate::server::{NamedBy, Request};

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// The question, by its place in the tree.
    pub(super) question: usize,
    /// The text that is sent, or that what is sent stands for.
    pub(super) prompt: String,
    /// What is sent.
    pub(super) request: Request,
    /// What the reply is used for.
    pub(super) uses: Vec<Use>,
}

/// What a reply says of a label.
#[derive(Clone, Debug)]
pub(super) struct Use {
    pub(super) label: usize,
    pub(super) part: Part,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The log-probabilities of the last tokens of what is sent, which ends in the label; the
    /// question's own prompt is so long.
    End { num_prompt_bytes: usize },
    /// That of a token which the request names, at a place of what is written. The question's own
    /// prompt has so many tokens.
    Named { way: NamedBy, at: usize, id: u32, num_prompt: usize },
    /// That of a token among the next ones.
    Next { text: String, id: Option<u32> },
    /// That of a word among the first tokens of an answer.
    Word,
}
