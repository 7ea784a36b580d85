//! How many tokens of a training pass fit into memory.

use tch::Kind;

use crate::lm::{Decoder, LOGIT_ELEMENTS, LmConfig, PartBytes, working_memory};
use crate::score::{MemorySize, total_memory};

/// Tokens of a pass on the CPU: more would take memory and save no time.
const MOST_CPU: usize = 1024;
/// Tokens of a pass on a GPU, which needs more of them to be busy.
const MOST_CUDA: usize = 8192;
/// The smallest pass that is worth making.
const LEAST: usize = 64;

/// What a training pass takes besides the weights, by an estimate.
///
/// It counts what a block keeps for its way back: inputs, norms, queries, keys, values, attention's
/// output, and four tensors of the MLP's width; with recomputing only the inputs of all blocks and one
/// block's inside. On a GPU, where there is no more to be had, also what adapters keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassMemory {
    cpu: bool,
    /// Bytes for each token.
    token_bytes: u64,
    /// Bytes whatever the pass: of logits and their softmax, and on a GPU of the optimizer.
    fixed_bytes: u64,
}

/// How a model trains, as far as memory goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainedParts {
    /// Whether blocks run again on the way back.
    pub recompute: bool,
    /// The share of an adapter's inputs that is dropped.
    pub dropout: f64,
    /// Whether all weights train.
    pub full: bool,
    /// The inputs of all modules with an adapter, counted.
    pub num_adapted_inputs: usize,
}

impl PassMemory {
    /// Returns what passes of a model take that computes in `kind`, on a CPU or, otherwise, on a GPU.
    pub fn of(config: &LmConfig, kind: Kind, cpu: bool, trained: TrainedParts) -> Self {
        let element = kind.elt_size_in_bytes() as u64;
        let heads = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let inside = 8 * config.hidden_size + 6 * heads + 4 * kv + 4 * config.intermediate_size;
        let (inside, num) = (inside as u64 * element, config.layers.len() as u64);
        let adapted = match cpu {
            true => 0,
            false => adapted_bytes(trained.num_adapted_inputs as u64, element, trained.dropout),
        };
        let token_bytes = match trained.recompute {
            true => num * config.hidden_size as u64 * element + inside + adapted / num.max(1),
            false => num * inside + adapted,
        };
        // Gradients and two moments, in f32.
        let state = match cpu || !trained.full {
            true => 0,
            false => 12 * (PartBytes::of(config, kind).total() / element),
        };
        let fixed_bytes = 3 * 4 * LOGIT_ELEMENTS[usize::from(!cpu)] as u64 + state;
        Self { cpu, token_bytes: token_bytes.max(1), fixed_bytes }
    }

    /// Returns how many tokens a pass may have within `budget`; `None`: of half of the machine's memory
    /// on the CPU, of four fifths of what is free on the GPUs of `decoder`.
    pub fn tokens(&self, budget: Option<MemorySize>, decoder: &Decoder) -> usize {
        let most = if self.cpu { MOST_CPU } else { MOST_CUDA };
        let share = || match self.cpu {
            true => total_memory().map(|all| all.0 / 2),
            false => {
                let devices = decoder.placement().stages().iter().map(|(device, _)| *device);
                working_memory(devices).map(|free| free / 5 * 4)
            }
        };
        let Some(budget) = budget.map(|size| size.0).or_else(share) else { return most };
        let fits = budget.saturating_sub(self.fixed_bytes) / self.token_bytes;
        usize::try_from(fits).unwrap_or(most).clamp(LEAST, most)
    }

    /// Returns what a pass of so many tokens takes, in bytes.
    pub fn bytes(&self, num_tokens: usize) -> u64 {
        self.fixed_bytes + num_tokens as u64 * self.token_bytes
    }
}

/// What adapters with `num_inputs` inputs in all keep of a token for their way back: the inputs in f32,
/// unless they were so, and where some are dropped the factors and the products with them.
fn adapted_bytes(num_inputs: u64, element: u64, dropout: f64) -> u64 {
    let kept = match (dropout > 0.0, element) {
        (true, _) => 8,
        (false, 4) => 0,
        (false, _) => 4,
    };
    num_inputs * kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_inputs_are_kept_twice_in_f32() {
        // LoRA on queries and values of 32 layers of width 4,096: 32 x 2 x 4,096 inputs of a token.
        let inputs = 32 * 2 * 4096;
        assert_eq!(adapted_bytes(inputs, 2, 0.05), 2 << 20);
        assert_eq!(adapted_bytes(inputs, 2, 0.0), 1 << 20);
        assert_eq!(adapted_bytes(inputs, 4, 0.0), 0);
    }

    #[test]
    fn the_budget_is_kept() {
        let memory = PassMemory { cpu: false, token_bytes: 10 << 20, fixed_bytes: 2 << 30 };
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
        let decoder = Decoder::load(&folder, tch::Device::Cpu, Kind::Float).unwrap();
        let tokens = |gib: u64| memory.tokens(Some(MemorySize(gib << 30)), &decoder);
        assert_eq!(tokens(12), 1024);
        assert!(memory.bytes(tokens(12)) <= 12 << 30);
        assert_eq!(tokens(1), LEAST);
        assert_eq!(tokens(1000), MOST_CUDA);
        // A device that does not tell is not limited.
        assert_eq!(memory.tokens(None, &decoder), MOST_CUDA);
    }
}
