//! What a decoder has to compute.
//!
//! One [`LmConfig`] describes every supported family; the decoder only ever looks at its fields,
//! never at the family's name. `config_read` makes it of a `config.json`.

use super::rope::RopeConfig;

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

/// Bounds of sizes, above those of every model there is: what memory is asked for follows from them.
pub(super) const MOST_LAYERS: usize = 1 << 14;
pub(super) const MOST_HEADS: usize = 1 << 14;
pub(super) const MOST_WIDTH: usize = 1 << 24;
pub(super) const MOST_VOCABULARY: usize = 1 << 28;
