//! Where a training stands, besides its tensors.

use serde::{Deserialize, Serialize};

/// What a checkpoint says besides its tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps made.
    pub step: usize,
    /// Lowest validation loss and the step after which it was seen.
    pub best: Option<(f64, usize)>,
    /// Validations since then.
    pub num_worse: usize,
    /// Whether the training ended early.
    pub stopped: bool,
    /// Whether the validation after the step, if one is due, is still to be made.
    #[serde(default)]
    pub unvalidated: bool,
}
