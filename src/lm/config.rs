//! What a decoder has to compute, read from a Hugging Face `config.json`.
//!
//! One [`LmConfig`] describes every supported family; the decoder only ever looks at its fields,
//! never at the family's name. A field of `config.json` that changes the maths and is not supported
//! is an error that names it: a model that is silently computed wrongly is worse than none. Keys that
//! the file lacks take their family's defaults (`config_defaults`); which rotation is meant, `rope_config`
//! says.

use std::path::Path;

use serde_json::{Map, Value};

use super::config_fields::Fields;
use super::rope::RopeConfig;
use crate::error::{Error, ErrorKind, Result};

/// The families that [`LmConfig`] describes, as `model_type` names them.
pub const FAMILIES: &[&str] =
    &["gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3"];

/// How a layer normalises its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// Root mean square; `unit_offset` multiplies by `1 + weight` (Gemma).
    Rms {
        /// Whether one is added to the stored weight.
        unit_offset: bool,
    },
    /// Mean and variance, with weight and bias.
    Layer,
}

/// Where the norms of a block stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the MLP (llama).
    Pre,
    /// On the outputs of attention and MLP, before they are added (olmo2).
    Post,
    /// Both (gemma3).
    Sandwich,
}

/// How queries and keys are normalised before the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Not at all.
    None,
    /// Each head by itself (qwen3, gemma3).
    PerHead,
    /// All heads together (olmo2).
    Full,
}

/// The non-linearity of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x * sigmoid(x).
    Silu,
    /// The exact Gaussian error linear unit.
    Gelu,
    /// Its tanh approximation.
    GeluTanh,
}

/// The weights' names and layout, which differ where families fused or renamed projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `model.layers.N.self_attn.{q,k,v,o}_proj`, gated MLP in three parts.
    Llama,
    /// As llama with `qkv_proj` and `gate_up_proj` fused.
    Phi3,
    /// `h.N.attn.c_attn` stored as [in, out], plain MLP.
    Gpt2,
    /// `gpt_neox.layers.N.attention.query_key_value`, interleaved by head, plain MLP.
    GptNeox,
}

impl Layout {
    /// Returns the layout of a family by its `model_type`; `None` for one that is not of [`FAMILIES`].
    pub fn of_family(model_type: &str) -> Option<Self> {
        match model_type {
            "gpt2" => Some(Self::Gpt2),
            "gpt_neox" => Some(Self::GptNeox),
            "phi3" => Some(Self::Phi3),
            other => FAMILIES.contains(&other).then_some(Self::Llama),
        }
    }
}

/// What one layer does differently from its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// A position sees only this many positions, itself included; `None`: all.
    pub sliding_window: Option<usize>,
    /// Which of [`LmConfig::ropes`] rotates its queries and keys; `None`: none does.
    pub rope: Option<usize>,
}

/// Everything the decoder needs to know about a model; sizes are counts.
#[derive(Clone, Debug)]
pub struct LmConfig {
    /// The family, as `config.json` names it.
    pub model_type: String,
    /// Names and layout of the weights.
    pub layout: Layout,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// The longest prompt in tokens.
    pub max_position_embeddings: usize,
    /// The kind of every norm.
    pub norm: NormKind,
    /// The constant added under the root of every norm.
    pub norm_eps: f64,
    /// Where a block's norms stand.
    pub norm_placement: NormPlacement,
    /// The norm on queries and keys.
    pub qk_norm: QkNorm,
    /// Whether query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the attention output projection has a bias.
    pub o_bias: bool,
    /// Whether the MLP is gated (three matrices) or plain (two).
    pub mlp_gated: bool,
    /// Whether the MLP has biases.
    pub mlp_bias: bool,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// Attention and MLP read the same input and are added together (gpt_neox).
    pub parallel_residual: bool,
    /// Positions are learned vectors added to the embedding (gpt2).
    pub learned_positions: bool,
    /// One entry a layer.
    pub layers: Vec<LayerConfig>,
    /// The rotations that the layers refer to.
    pub ropes: Vec<RopeConfig>,
    /// What the attention scores are multiplied by.
    pub attention_scale: f64,
    /// What the embedding is multiplied by (gemma3).
    pub embedding_scale: Option<f64>,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Settings of the model's files that have no effect, or another one than their name says, as
    /// transformers reads them; for people.
    pub warnings: Vec<String>,
}

/// Keys that change the maths in a way that is not supported, unless they hold one of these values.
const UNSUPPORTED: &[(&str, &[&str])] = &[
    ("attn_logit_softcapping", &["null"]),
    ("final_logit_softcapping", &["null"]),
    ("quantization_config", &["null"]),
    ("use_bidirectional_attention", &["null", "false"]),
    ("scale_attn_by_inverse_layer_idx", &["null", "false"]),
    ("scale_attn_weights", &["null", "true"]),
    ("add_cross_attention", &["null", "false"]),
    ("num_local_experts", &["null"]),
    ("num_experts", &["null"]),
    ("kv_lora_rank", &["null"]),
    ("clip_qkv", &["null"]),
    ("alibi", &["null", "false"]),
    ("logit_scale", &["null"]),
    ("logits_scaling", &["null"]),
    ("residual_multiplier", &["null"]),
    ("embedding_multiplier", &["null"]),
    ("attention_multiplier", &["null"]),
    ("rope_interleaved", &["null", "false"]),
    ("is_causal", &["null", "true"]),
    ("per_layer_config", &["null"]),
    // Names another file of weights.
    ("transformers_weights", &["null"]),
];

/// Bounds of sizes, above those of every model there is: what memory is asked for follows from them.
pub(super) const MOST_LAYERS: usize = 1 << 14;
pub(super) const MOST_HEADS: usize = 1 << 14;
pub(super) const MOST_WIDTH: usize = 1 << 24;
pub(super) const MOST_VOCABULARY: usize = 1 << 28;
/// Most numbers in all weights; far from where sizes in bytes overflow.
const MOST_WEIGHTS: u128 = 1 << 50;

impl LmConfig {
    /// Returns the configuration in `config.json` of a model folder.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the file is missing or broken, names an unknown family, has a size
    /// that no model has, or a field that changes the maths and is not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(ErrorKind::Config, format!("cannot read the model's configuration: {e}"))
                .at(path)
                .hint("a model is a Hugging Face folder with config.json, tokenizer.json and model.safetensors")
        })?;
        let value: Value = serde_json::from_str(&text).map_err(|e| {
            Error::new(ErrorKind::Config, format!("broken JSON: {e}")).at_line(path, e.line())
        })?;
        let Value::Object(map) = value else {
            return Err(Error::new(ErrorKind::Config, "expected a JSON object").at(path));
        };
        Self::from_map(&map, path)
    }

    fn from_map(map: &Map<String, Value>, path: &Path) -> Result<Self> {
        let none = Fields { map, path, family: "" };
        let model_type: String = none.need("model_type")?;
        if !FAMILIES.contains(&model_type.as_str()) {
            return Err(none
                .fail(format!("model family `{model_type}` is not supported"))
                .hint(format!("supported families: {}", FAMILIES.join(", "))));
        }
        let fields = Fields { map, path, family: &model_type };
        for &(key, allowed) in UNSUPPORTED {
            if let Some(value) = map.get(key) {
                let text = value.to_string();
                if !allowed.contains(&text.as_str()) {
                    return Err(fields.unsupported(key, &format!("`{text}`")));
                }
            }
        }
        super::config_families::check_layer_types(&fields)?;
        let config = match model_type.as_str() {
            "gpt2" => Self::gpt2(&fields)?,
            "gpt_neox" => Self::gpt_neox(&fields)?,
            _ => Self::llama_like(&fields)?,
        };
        config.check(&fields)?;
        Ok(config)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        let heads = self.num_attention_heads;
        if !heads.is_multiple_of(self.num_key_value_heads) {
            return Err(fields.fail(format!(
                "`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {}",
                self.num_key_value_heads
            )));
        }
        let per_layer = {
            let [d, wide, q, kv] = [
                self.hidden_size,
                self.intermediate_size,
                heads * self.head_dim,
                self.num_key_value_heads * self.head_dim,
            ]
            .map(|size| size as u128);
            d * (2 * q + 2 * kv + 3 * wide)
        };
        let rows = self.vocab_size as u128 * 2
            + if self.learned_positions { self.max_position_embeddings as u128 } else { 0 };
        let weights = per_layer * self.layers.len() as u128 + rows * self.hidden_size as u128;
        if weights > MOST_WEIGHTS {
            return Err(fields
                .fail(format!("the sizes come to {weights} weights, more than any model has"))
                .hint("the file is damaged, or of no model that this program can run"));
        }
        Ok(())
    }
}
