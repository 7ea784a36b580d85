//! `config.json` of each family as an [`LmConfig`]: what its keys are called and mean.

use serde_json::Value;

use super::config::{
    LayerConfig, Layout, LmConfig, MOST_HEADS, MOST_LAYERS, MOST_VOCABULARY, MOST_WIDTH, NormKind,
    NormPlacement, QkNorm,
};
use super::config_fields::Fields;
use super::rope::RopeConfig;
use super::rope_config::RopeSource;
use crate::error::Result;

/// Most positions of a context; a number, nothing is allocated by it.
const MOST_POSITIONS: usize = 1 << 40;

impl LmConfig {
    pub(super) fn llama_like(fields: &Fields<'_>) -> Result<Self> {
        let family = fields.family;
        let gemma = family == "gemma3_text";
        let hidden_size = fields.size("hidden_size", MOST_WIDTH)?;
        let heads = fields.size("num_attention_heads", MOST_HEADS)?;
        let num_layers = fields.size("num_hidden_layers", MOST_LAYERS)?;
        let head_dim = head_dim(fields, hidden_size, heads)?;
        let kv_heads = fields.optional("num_key_value_heads")?.unwrap_or(heads);
        let mut warnings = Vec::new();
        let ropes = ropes(fields, head_dim, &mut warnings)?;
        let layers = if gemma {
            gemma3_layers(fields, num_layers)?
        } else {
            sliding_layers(fields, num_layers, &mut warnings)?
        };
        let attention_scale = if gemma {
            let scalar: f64 = fields.get("query_pre_attn_scalar")?;
            if !(scalar.is_finite() && scalar > 0.0) {
                return Err(fields.fail(format!(
                    "`query_pre_attn_scalar` is {scalar}, expected a number above 0"
                )));
            }
            scalar.powf(-0.5)
        } else {
            (head_dim as f64).powf(-0.5)
        };
        // A bias that transformers' class does not have: qwen2's are fixed, mistral and phi3 have none.
        let bias = fields.flag("attention_bias")?;
        Ok(Self {
            model_type: family.to_owned(),
            layout: Layout::of_family(family).unwrap_or(Layout::Llama),
            vocab_size: fields.size("vocab_size", MOST_VOCABULARY)?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", MOST_WIDTH)?,
            num_attention_heads: heads,
            num_key_value_heads: fields.check_size("num_key_value_heads", kv_heads, MOST_HEADS)?,
            head_dim,
            max_position_embeddings: positions(fields, "max_position_embeddings")?,
            norm: NormKind::Rms { unit_offset: gemma },
            norm_eps: fields.epsilon("rms_norm_eps")?,
            norm_placement: match family {
                "gemma3_text" => NormPlacement::Sandwich,
                "olmo2" => NormPlacement::Post,
                _ => NormPlacement::Pre,
            },
            qk_norm: match family {
                "gemma3_text" | "qwen3" => QkNorm::PerHead,
                "olmo2" => QkNorm::Full,
                _ => QkNorm::None,
            },
            qkv_bias: bias || family == "qwen2",
            o_bias: bias,
            mlp_gated: true,
            mlp_bias: fields.flag("mlp_bias")?,
            activation: fields.activation(if gemma {
                "hidden_activation"
            } else {
                "hidden_act"
            })?,
            parallel_residual: false,
            learned_positions: false,
            layers,
            ropes,
            attention_scale,
            embedding_scale: gemma.then(|| (hidden_size as f64).sqrt()),
            tie_word_embeddings: fields.get("tie_word_embeddings")?,
            warnings,
        })
    }

    pub(super) fn gpt2(fields: &Fields<'_>) -> Result<Self> {
        // Under the names of the other families they count before the family's own.
        let name = |own, other| if fields.map.contains_key(other) { other } else { own };
        let hidden_size = fields.size(name("n_embd", "hidden_size"), MOST_WIDTH)?;
        let heads = fields.size(name("n_head", "num_attention_heads"), MOST_HEADS)?;
        let num_layers = fields.size(name("n_layer", "num_hidden_layers"), MOST_LAYERS)?;
        let positions = match fields.map.contains_key("max_position_embeddings") {
            true => fields.size("max_position_embeddings", MOST_VOCABULARY)?,
            false => positions(fields, "n_positions")?,
        };
        let head_dim = head_dim(fields, hidden_size, heads)?;
        let wide = fields.optional("n_inner")?.unwrap_or(4 * hidden_size);
        Ok(Self {
            model_type: "gpt2".into(),
            layout: Layout::Gpt2,
            vocab_size: fields.size("vocab_size", MOST_VOCABULARY)?,
            hidden_size,
            intermediate_size: fields.check_size("n_inner", wide, 4 * MOST_WIDTH)?,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim,
            max_position_embeddings: positions,
            norm: NormKind::Layer,
            norm_eps: fields.epsilon("layer_norm_epsilon")?,
            norm_placement: NormPlacement::Pre,
            qk_norm: QkNorm::None,
            qkv_bias: true,
            o_bias: true,
            mlp_gated: false,
            mlp_bias: true,
            activation: fields.activation("activation_function")?,
            parallel_residual: false,
            learned_positions: true,
            layers: vec![LayerConfig { sliding_window: None, rope: None }; num_layers],
            ropes: Vec::new(),
            attention_scale: (head_dim as f64).powf(-0.5),
            embedding_scale: None,
            tie_word_embeddings: fields.get("tie_word_embeddings")?,
            warnings: Vec::new(),
        })
    }

    pub(super) fn gpt_neox(fields: &Fields<'_>) -> Result<Self> {
        let hidden_size = fields.size("hidden_size", MOST_WIDTH)?;
        let heads = fields.size("num_attention_heads", MOST_HEADS)?;
        let num_layers = fields.size("num_hidden_layers", MOST_LAYERS)?;
        let head_dim = head_dim(fields, hidden_size, heads)?;
        let bias = fields.get("attention_bias")?;
        let mut warnings = Vec::new();
        Ok(Self {
            model_type: "gpt_neox".into(),
            layout: Layout::GptNeox,
            vocab_size: fields.size("vocab_size", MOST_VOCABULARY)?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", MOST_WIDTH)?,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim,
            max_position_embeddings: positions(fields, "max_position_embeddings")?,
            norm: NormKind::Layer,
            norm_eps: fields.epsilon("layer_norm_eps")?,
            norm_placement: NormPlacement::Pre,
            qk_norm: QkNorm::None,
            qkv_bias: bias,
            o_bias: bias,
            mlp_gated: false,
            mlp_bias: true,
            activation: fields.activation("hidden_act")?,
            parallel_residual: fields.get("use_parallel_residual")?,
            learned_positions: false,
            layers: vec![LayerConfig { sliding_window: None, rope: Some(0) }; num_layers],
            ropes: ropes(fields, head_dim, &mut warnings)?,
            attention_scale: (head_dim as f64).powf(-0.5),
            embedding_scale: None,
            tie_word_embeddings: fields.get("tie_word_embeddings")?,
            warnings,
        })
    }
}

fn positions(fields: &Fields<'_>, key: &str) -> Result<usize> {
    fields.check_size(key, fields.get(key)?, MOST_POSITIONS)
}

fn ropes(
    fields: &Fields<'_>,
    head_dim: usize,
    warnings: &mut Vec<String>,
) -> Result<Vec<RopeConfig>> {
    let source = RopeSource { config: fields.map, family: fields.family, head_dim };
    source.read(warnings).map_err(|message| {
        fields.fail(message).hint("transformers reads `rope_parameters`, `rope_scaling` and `rope_theta`; keep those that the model was made with")
    })
}

/// Returns the width of a head. Models whose class has no `head_dim` read the key all the same.
fn head_dim(fields: &Fields<'_>, hidden_size: usize, heads: usize) -> Result<usize> {
    let own = match fields.family {
        // Where the file has it all the same, transformers rotates by it and attends without it.
        "gpt_neox" => match fields.map.get("head_dim") {
            None | Some(Value::Null) => None,
            Some(size) if size.as_u64() == Some((hidden_size / heads) as u64) => None,
            Some(size) => return Err(fields.unsupported("head_dim", &size.to_string())),
        },
        "gpt2" => None,
        "olmo2" | "phi3" | "qwen2" => match fields.map.get("head_dim") {
            None | Some(Value::Null) => None,
            Some(_) => Some(fields.need("head_dim")?),
        },
        _ => fields.optional("head_dim")?,
    };
    // The classes that check that heads divide the width; the others cut the rest off.
    let exact = matches!(fields.family, "gemma3_text" | "gpt2" | "gpt_neox" | "llama");
    if exact && !hidden_size.is_multiple_of(heads) {
        return Err(fields.fail(format!(
            "the width {hidden_size} is not a multiple of the {heads} attention heads"
        )));
    }
    fields.check_size("head_dim", own.unwrap_or(hidden_size / heads), MOST_WIDTH)
}

/// Refuses `layer_types` of another number of layers, whether the family reads them or not.
pub(super) fn check_layer_types(fields: &Fields<'_>) -> Result<()> {
    let own = if fields.family == "gpt2" { "n_layer" } else { "num_hidden_layers" };
    let key = if fields.map.contains_key("num_hidden_layers") { "num_hidden_layers" } else { own };
    sliding_flags(fields, fields.size(key, MOST_LAYERS)?).map(|_| ())
}

/// Which layers slide, from `layer_types`, where the file has it.
fn sliding_flags(fields: &Fields<'_>, num_layers: usize) -> Result<Option<Vec<bool>>> {
    let types: Vec<String> = match fields.map.get("layer_types") {
        None | Some(Value::Null) => return Ok(None),
        Some(_) => fields.need("layer_types")?,
    };
    if types.len() != num_layers {
        return Err(fields.fail(format!(
            "`layer_types` has {} entries, expected `num_hidden_layers` = {num_layers}",
            types.len()
        )));
    }
    types
        .iter()
        .map(|name| match name.as_str() {
            // The older name of the first is still about.
            "full_attention" | "attention" => Ok(false),
            "sliding_attention" => Ok(true),
            other => Err(fields.unsupported("layer_types", &format!("`{other}`"))),
        })
        .collect::<Result<Vec<bool>>>()
        .map(Some)
}

fn window(fields: &Fields<'_>) -> Result<Option<usize>> {
    let window: Option<usize> = fields.optional("sliding_window")?;
    window.map(|size| fields.check_size("sliding_window", size, MOST_POSITIONS)).transpose()
}

fn sliding_layers(
    fields: &Fields<'_>,
    num_layers: usize,
    warnings: &mut Vec<String>,
) -> Result<Vec<LayerConfig>> {
    let family = fields.family;
    let qwen = family.starts_with("qwen");
    let window = if !qwen || fields.get("use_sliding_window")? { window(fields)? } else { None };
    let flags = match sliding_flags(fields, num_layers)? {
        Some(flags) if qwen => flags,
        Some(flags) => {
            if window.is_some() && flags.contains(&false) {
                warnings.push(format!(
                    "`layer_types` has no effect: all layers of `{family}` have the `sliding_window`, as in transformers"
                ));
            }
            vec![true; num_layers]
        }
        None if qwen => {
            let first: usize = fields.get("max_window_layers")?;
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
fn gemma3_layers(fields: &Fields<'_>, num_layers: usize) -> Result<Vec<LayerConfig>> {
    let flags = match sliding_flags(fields, num_layers)? {
        Some(flags) => flags,
        None => {
            // The key with an underscore before it, which transformers writes, it does not read.
            let key = "sliding_window_pattern";
            let pattern =
                if fields.map.contains_key(key) { fields.size(key, MOST_LAYERS)? } else { 6 };
            (0..num_layers).map(|i| (i + 1) % pattern != 0).collect()
        }
    };
    let window = window(fields)?;
    if window.is_none() && flags.contains(&true) {
        return Err(fields.fail("`sliding_window` is null, but there are sliding layers"));
    }
    Ok(flags
        .into_iter()
        .map(|slides| LayerConfig {
            sliding_window: window.filter(|_| slides),
            rope: Some(usize::from(slides)),
        })
        .collect())
}
