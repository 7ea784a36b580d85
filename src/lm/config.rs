//! What a decoder has to compute, read from a Hugging Face `config.json`.
//!
//! One [`LmConfig`] describes every supported family; the decoder only ever looks at its fields,
//! never at the family's name. A field of `config.json` that changes the maths and is not supported
//! is an error that names it: a model that is silently computed wrongly is worse than none.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

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
];

/// Reads typed fields of `config.json`, with errors that name field and file.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
}

impl Fields<'_> {
    fn fail(&self, message: String) -> Error {
        Error::new(ErrorKind::Config, message).at(self.path)
    }

    fn get<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<Option<T>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|e| self.fail(format!("`{key}` cannot be read: {e}"))),
        }
    }

    fn need<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<T> {
        self.get(key)?.ok_or_else(|| {
            self.fail(format!("`{key}` is missing"))
                .hint("check that this is the model's own `config.json`, complete")
        })
    }

    fn activation(&self, keys: &[&str]) -> Result<Activation> {
        for &key in keys {
            if let Some(name) = self.get::<String>(key)? {
                return match name.as_str() {
                    "silu" | "swish" => Ok(Activation::Silu),
                    "gelu" => Ok(Activation::Gelu),
                    "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
                    other => Err(self.unsupported(key, &format!("`{other}`"))),
                };
            }
        }
        Err(self.fail(format!("`{}` is missing", keys[0])))
    }

    fn unsupported(&self, key: &str, value: &str) -> Error {
        self.fail(format!("`{key}` is {value}, which is not supported"))
            .hint("this model computes something that this program does not; choose another model")
    }
}

impl LmConfig {
    /// Returns the configuration in `config.json` of a model folder.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the file is missing or broken, names an unknown family, or has a
    /// field that changes the maths and is not supported.
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
        let fields = Fields { map, path };
        let model_type: String = fields.need("model_type")?;
        if !FAMILIES.contains(&model_type.as_str()) {
            return Err(fields
                .fail(format!("model family `{model_type}` is not supported"))
                .hint(format!("supported families: {}", FAMILIES.join(", "))));
        }
        for &(key, allowed) in UNSUPPORTED {
            if let Some(value) = map.get(key) {
                let text = value.to_string();
                if !allowed.contains(&text.as_str()) {
                    return Err(fields.unsupported(key, &format!("`{text}`")));
                }
            }
        }
        let config = match model_type.as_str() {
            "gpt2" => Self::gpt2(&fields)?,
            "gpt_neox" => Self::gpt_neox(&fields)?,
            _ => Self::llama_like(&fields, &model_type)?,
        };
        config.check(&fields)?;
        Ok(config)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        let heads = self.num_attention_heads;
        if heads == 0
            || self.num_key_value_heads == 0
            || !heads.is_multiple_of(self.num_key_value_heads)
        {
            return Err(fields.fail(format!(
                "`num_attention_heads` {heads} is not a multiple of `num_key_value_heads` {}",
                self.num_key_value_heads
            )));
        }
        if self.layers.is_empty() || self.head_dim == 0 || self.vocab_size == 0 {
            return Err(fields.fail("the model has no layers, heads or vocabulary".into()));
        }
        Ok(())
    }

    fn llama_like(fields: &Fields<'_>, model_type: &str) -> Result<Self> {
        let hidden_size: usize = fields.need("hidden_size")?;
        let num_attention_heads: usize = fields.need("num_attention_heads")?;
        let num_layers: usize = fields.need("num_hidden_layers")?;
        let gemma = model_type == "gemma3_text";
        let head_dim = match fields.get("head_dim")? {
            Some(size) => size,
            // transformers' default for Gemma 3, whose heads are wider than hidden / heads.
            None if gemma => 256,
            None => hidden_size / num_attention_heads.max(1),
        };
        let attention_bias = fields.get("attention_bias")?.unwrap_or(false);
        let partial = fields.get("partial_rotary_factor")?.unwrap_or(1.0);
        let (ropes, layers) = if gemma {
            gemma3_layers(fields, num_layers, head_dim)?
        } else {
            let rope = RopeConfig::read(fields.map, "rope_theta", None, head_dim, partial)
                .map_err(|m| fields.fail(m))?;
            (vec![rope], sliding_layers(fields, num_layers, model_type)?)
        };
        let attention_scale = if gemma {
            fields.get("query_pre_attn_scalar")?.unwrap_or(256.0_f64).powf(-0.5)
        } else {
            (head_dim as f64).powf(-0.5)
        };
        Ok(Self {
            model_type: model_type.to_owned(),
            layout: if model_type == "phi3" { Layout::Phi3 } else { Layout::Llama },
            vocab_size: fields.need("vocab_size")?,
            hidden_size,
            intermediate_size: fields.need("intermediate_size")?,
            num_attention_heads,
            num_key_value_heads: fields.get("num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim,
            max_position_embeddings: fields.need("max_position_embeddings")?,
            norm: NormKind::Rms { unit_offset: gemma },
            norm_eps: fields.get("rms_norm_eps")?.unwrap_or(1e-6),
            norm_placement: match model_type {
                "gemma3_text" => NormPlacement::Sandwich,
                "olmo2" => NormPlacement::Post,
                _ => NormPlacement::Pre,
            },
            qk_norm: match model_type {
                "gemma3_text" | "qwen3" => QkNorm::PerHead,
                "olmo2" => QkNorm::Full,
                _ => QkNorm::None,
            },
            qkv_bias: attention_bias || model_type == "qwen2",
            o_bias: attention_bias,
            mlp_gated: true,
            mlp_bias: fields.get("mlp_bias")?.unwrap_or(false),
            activation: fields.activation(&["hidden_activation", "hidden_act"])?,
            parallel_residual: false,
            learned_positions: false,
            layers,
            ropes,
            attention_scale,
            embedding_scale: gemma.then(|| (hidden_size as f64).sqrt()),
            tie_word_embeddings: fields.get("tie_word_embeddings")?.unwrap_or(gemma),
        })
    }

    fn gpt2(fields: &Fields<'_>) -> Result<Self> {
        let hidden_size: usize = fields.need("n_embd")?;
        let heads: usize = fields.need("n_head")?;
        let head_dim = hidden_size / heads.max(1);
        let num_layers: usize = fields.need("n_layer")?;
        Ok(Self {
            model_type: "gpt2".into(),
            layout: Layout::Gpt2,
            vocab_size: fields.need("vocab_size")?,
            hidden_size,
            intermediate_size: fields.get("n_inner")?.unwrap_or(4 * hidden_size),
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim,
            max_position_embeddings: fields.need("n_positions")?,
            norm: NormKind::Layer,
            norm_eps: fields.get("layer_norm_epsilon")?.unwrap_or(1e-5),
            norm_placement: NormPlacement::Pre,
            qk_norm: QkNorm::None,
            qkv_bias: true,
            o_bias: true,
            mlp_gated: false,
            mlp_bias: true,
            activation: fields.activation(&["activation_function"])?,
            parallel_residual: false,
            learned_positions: true,
            layers: vec![LayerConfig { sliding_window: None, rope: None }; num_layers],
            ropes: Vec::new(),
            attention_scale: (head_dim as f64).powf(-0.5),
            embedding_scale: None,
            tie_word_embeddings: fields.get("tie_word_embeddings")?.unwrap_or(true),
        })
    }

    fn gpt_neox(fields: &Fields<'_>) -> Result<Self> {
        let hidden_size: usize = fields.need("hidden_size")?;
        let heads: usize = fields.need("num_attention_heads")?;
        let head_dim = hidden_size / heads.max(1);
        let num_layers: usize = fields.need("num_hidden_layers")?;
        let partial = match fields.get("partial_rotary_factor")? {
            Some(share) => share,
            None => fields.get("rotary_pct")?.unwrap_or(0.25),
        };
        let rope = RopeConfig::read(fields.map, "rotary_emb_base", None, head_dim, partial)
            .map_err(|m| fields.fail(m))?;
        let bias = fields.get("attention_bias")?.unwrap_or(true);
        Ok(Self {
            model_type: "gpt_neox".into(),
            layout: Layout::GptNeox,
            vocab_size: fields.need("vocab_size")?,
            hidden_size,
            intermediate_size: fields.need("intermediate_size")?,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim,
            max_position_embeddings: fields.need("max_position_embeddings")?,
            norm: NormKind::Layer,
            norm_eps: fields.get("layer_norm_eps")?.unwrap_or(1e-5),
            norm_placement: NormPlacement::Pre,
            qk_norm: QkNorm::None,
            qkv_bias: bias,
            o_bias: bias,
            mlp_gated: false,
            mlp_bias: true,
            activation: fields.activation(&["hidden_act"])?,
            parallel_residual: fields.get("use_parallel_residual")?.unwrap_or(true),
            learned_positions: false,
            layers: vec![LayerConfig { sliding_window: None, rope: Some(0) }; num_layers],
            ropes: vec![rope],
            attention_scale: (head_dim as f64).powf(-0.5),
            embedding_scale: None,
            tie_word_embeddings: fields.get("tie_word_embeddings")?.unwrap_or(false),
        })
    }
}

/// Which layers slide, from `layer_types` where it is given, else from the family's older fields.
fn sliding_flags(fields: &Fields<'_>, num_layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(types) = fields.get::<Vec<String>>("layer_types")? else { return Ok(None) };
    if types.len() != num_layers {
        return Err(fields.fail(format!(
            "`layer_types` has {} entries, expected `num_hidden_layers` = {num_layers}",
            types.len()
        )));
    }
    types
        .iter()
        .map(|name| match name.as_str() {
            "full_attention" => Ok(false),
            "sliding_attention" => Ok(true),
            other => Err(fields.unsupported("layer_types", &format!("`{other}`"))),
        })
        .collect::<Result<Vec<bool>>>()
        .map(Some)
}

fn sliding_layers(
    fields: &Fields<'_>,
    num_layers: usize,
    model_type: &str,
) -> Result<Vec<LayerConfig>> {
    let qwen = model_type.starts_with("qwen");
    let used = !qwen || fields.get("use_sliding_window")?.unwrap_or(false);
    let window: Option<usize> = match model_type {
        "mistral" | "phi3" | "qwen2" | "qwen3" if used => fields.get("sliding_window")?,
        _ => None,
    };
    let flags = match sliding_flags(fields, num_layers)? {
        Some(flags) => flags,
        None if qwen => {
            let first: usize = fields.get("max_window_layers")?.unwrap_or(num_layers);
            (0..num_layers).map(|i| i >= first).collect()
        }
        None => vec![true; num_layers],
    };
    Ok(flags
        .into_iter()
        .map(|slides| LayerConfig { sliding_window: window.filter(|_| slides), rope: Some(0) })
        .collect())
}

/// Gemma 3: two rotations (0 full, 1 sliding) and a pattern of sliding and full layers.
fn gemma3_layers(
    fields: &Fields<'_>,
    num_layers: usize,
    head_dim: usize,
) -> Result<(Vec<RopeConfig>, Vec<LayerConfig>)> {
    let fail = |m| fields.fail(m);
    let full = RopeConfig::read(fields.map, "rope_theta", Some("full_attention"), head_dim, 1.0)
        .map_err(fail)?;
    let local = RopeConfig::read(
        fields.map,
        "rope_local_base_freq",
        Some("sliding_attention"),
        head_dim,
        1.0,
    )
    .map_err(fail)?;
    let flags = match sliding_flags(fields, num_layers)? {
        Some(flags) => flags,
        None => {
            let pattern = match fields.get("sliding_window_pattern")? {
                Some(n) => n,
                None => fields.get("_sliding_window_pattern")?.unwrap_or(6_usize),
            };
            (0..num_layers).map(|i| (i + 1) % pattern.max(1) != 0).collect()
        }
    };
    let window: usize = fields.need("sliding_window")?;
    let layers = flags
        .into_iter()
        .map(|slides| LayerConfig {
            sliding_window: slides.then_some(window),
            rope: Some(usize::from(slides)),
        })
        .collect();
    Ok((vec![full, local], layers))
}
