//! A Hugging Face `config.json` as an [`LmConfig`].
//!
//! A field that changes the maths and is not supported is an error that names it: a model that is
//! silently computed wrongly is worse than none. Keys that the file lacks take their family's defaults
//! (`config_defaults`); what the keys mean `config_families` says, and which rotation is meant,
//! `rope_config`.

use std::path::Path;

use serde_json::{Map, Value};

use super::config::{FAMILIES, LmConfig};
use super::config_families::check_layer_types;
use super::config_fields::Fields;
use crate::error::{Error, ErrorKind, Result};

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
        check_layer_types(&fields)?;
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
