//! How many tokens of a training pass fit into memory.

use crate::lm::{LOGIT_ELEMENTS, LmConfig};
use crate::score::{MemorySize, total_memory};

/// Tokens of a pass on the CPU: more would take memory and save no time.
const MOST_CPU: usize = 1024;
/// Tokens of a pass on a GPU, which needs more of them to be busy.
const MOST_CUDA: usize = 8192;
/// The smallest pass that is worth making.
const LEAST: usize = 64;

/// Returns how many tokens a training pass may have within `budget`, by default half of the
/// machine's memory on the CPU.
///
/// The estimate counts what a block keeps for its way back: inputs, norms, queries, keys, values,
/// attention's output, and four tensors of the MLP's width; with `recompute` only the inputs of all
/// blocks and one block's inside.
pub fn pass_tokens(
    config: &LmConfig,
    element_bytes: usize,
    cpu: bool,
    recompute: bool,
    budget: Option<MemorySize>,
) -> usize {
    let most = if cpu { MOST_CPU } else { MOST_CUDA };
    let half = || if cpu { total_memory().map(|all| MemorySize(all.0 / 2)) } else { None };
    let Some(MemorySize(budget)) = budget.or_else(half) else { return most };
    let fits =
        budget.saturating_sub(logit_bytes(cpu)) / token_bytes(config, element_bytes, recompute);
    usize::try_from(fits).unwrap_or(most).clamp(LEAST, most)
}

/// Rows of logits and their softmax take a fixed part, in bytes.
fn logit_bytes(cpu: bool) -> u64 {
    3 * 4 * LOGIT_ELEMENTS[usize::from(!cpu)] as u64
}

/// Returns what a training pass of so many tokens takes besides the weights, in bytes, by the estimate
/// of [`pass_tokens`].
pub fn pass_bytes(
    config: &LmConfig,
    element_bytes: usize,
    cpu: bool,
    recompute: bool,
    num_tokens: usize,
) -> u64 {
    logit_bytes(cpu) + num_tokens as u64 * token_bytes(config, element_bytes, recompute)
}

fn token_bytes(config: &LmConfig, element_bytes: usize, recompute: bool) -> u64 {
    let heads = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    let inside = 8 * config.hidden_size + 6 * heads + 4 * kv + 4 * config.intermediate_size;
    let num = config.layers.len();
    let kept = if recompute { num * config.hidden_size + inside } else { num * inside };
    (kept * element_bytes).max(1) as u64
}
