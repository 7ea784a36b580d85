//! What `w2s score` prints: a JSON line a prompt.

use serde_json::{Map, Value, json};
use w2s::pipeline::PromptScores;

/// The line of a prompt.
pub(in crate::cli) fn scored(found: &PromptScores) -> String {
    let of = |value: fn(&w2s::pipeline::ScoredLabel) -> Value| -> Map<String, Value> {
        found.labels.iter().map(|label| (label.label.clone(), value(label))).collect()
    };
    json!({
        "id": found.id,
        "logprobs": of(|label| label.logprob.into()),
        "num_tokens": of(|label| label.num_tokens.into()),
    })
    .to_string()
}
