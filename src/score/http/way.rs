//! What each route does.

use std::fmt;

use super::HttpScorer;
use super::request::Ask;
use crate::error::Result;
use crate::score::Question;
use crate::server::Probe;

/// A way to the log-probability of a label.
pub(super) trait Way: fmt::Debug + Sync {
    /// Finds out whether the server has it, and whether its numbers are right.
    fn works(&self, probe: &mut Probe<'_>) -> Result<bool>;

    /// The requests that answer a question: it, its place in the tree, and its prompt.
    fn asks(
        &self,
        scorer: &HttpScorer,
        question: (usize, &Question),
        prompt: &str,
    ) -> Result<Vec<Ask>>;
}
