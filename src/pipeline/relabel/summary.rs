//! What a look at labels came to: `summary.json`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a run came to; read by `w2s loop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RelabelSummary {
    /// Labels looked at.
    pub num_examples: usize,
    /// Labels that are not the model's.
    pub num_contradicted: usize,
    /// Their share.
    pub flip_rate: f64,
    /// Labels changed.
    pub num_flipped: usize,
    /// Labels dropped.
    pub num_dropped: usize,
    /// Share of each label among those that are left.
    pub share: Map<String, Value>,
    /// Tokens run through the model.
    pub tokens_computed: u64,
    /// Tokens that full prompts would have run.
    pub tokens_full_prompts: u64,
}
