//! Which rotation a `config.json` asks for, among the places where it may say so.
//!
//! Files of transformers 5 have `rope_parameters`; older ones `rope_theta` and `rope_scaling`; and
//! people add the older to the newer, as model cards tell them. What counts is what transformers makes
//! of it:
//!
//! | | all families but Gemma 3 | Gemma 3 |
//! |---|---|---|
//! | `rope_scaling` (not null, not empty) | replaces `rope_parameters` whole | is laid over `rope_parameters.full_attention` |
//! | base (theta) | in the rotation's own object, else `rope_theta` (gpt_neox: `rotary_emb_base`), else 10000 | full: its own object, else `rope_theta`, else 1e6; sliding: its own object, else `rope_local_base_freq`, else 10000 |
//! | rotated share | gpt_neox: own object, else `rotary_pct`, else 0.25; phi3: own object, else `partial_rotary_factor`, else 1; others: all | all |
//! | kind | `rope_type`, else `type`, else `default` | the same |
//! | `rope_parameters` by layer type | refused | one rotation for each |
//! | `rope_parameters` not by layer type | the rotation | has no effect |
//!
//! What has no effect there has none here, and a warning says so. What transformers refuses, and kinds
//! that are not computed here (yarn, longrope, dynamic), are errors.
//!
//! # Source
//! transformers 5.23.0: `modeling_rope_utils.py` (`convert_rope_params_to_dict`,
//! `standardize_rope_params`), and the overrides in `configuration_{gemma3,gpt_neox,phi3}.py`.

use serde_json::{Map, Value};

use super::rope::{RopeConfig, RopeScaling};

/// A sentence that names the field, without a path.
type Fault = String;

/// What a rotation is read from.
pub(super) struct RopeSource<'a> {
    pub(super) config: &'a Map<String, Value>,
    pub(super) family: &'a str,
    pub(super) head_dim: usize,
}

/// The keys of Gemma 3's two rotations.
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
/// Keys that say something of a scaled rotation only.
const OF_SCALING: &[&str] = &[
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "high_freq_factor",
    "long_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "short_factor",
];

fn is_set(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

/// Returns the number of `key`, or `None` if there is no such key.
fn number(map: &Map<String, Value>, key: &str) -> Result<Option<f64>, Fault> {
    match map.get(key) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(format!("rope field `{key}` is {value}, expected a number above 0")),
        },
    }
}

fn object<'a>(
    map: &'a Map<String, Value>,
    key: &str,
) -> Result<Option<&'a Map<String, Value>>, Fault> {
    match is_set(map.get(key)) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => Err(format!("`{key}` is {other}, expected an object")),
    }
}

impl RopeSource<'_> {
    /// Returns the rotations: one, or Gemma 3's for full and for sliding layers. `warnings` is added
    /// to where a setting of the file has no effect.
    pub(super) fn read(&self, warnings: &mut Vec<String>) -> Result<Vec<RopeConfig>, Fault> {
        if self.family == "gemma3_text" {
            return self.gemma3(warnings);
        }
        let newer = object(self.config, "rope_parameters")?;
        let older = object(self.config, "rope_scaling")?.filter(|scaling| !scaling.is_empty());
        if let (Some(newer), Some(older)) = (newer, older)
            && newer != older
        {
            warnings.push(
                "`rope_scaling` replaces `rope_parameters`, its base included, as in transformers"
                    .to_owned(),
            );
        }
        let empty = Map::new();
        let params = older.or(newer).unwrap_or(&empty);
        let is_by_layer =
            |(key, value): &(&String, &Value)| value.is_object() || *key == FULL || *key == SLIDING;
        if let Some((key, _)) = params.iter().find(is_by_layer) {
            return Err(format!(
                "`rope_parameters` has a rotation for `{key}`, but layers of `{}` share one",
                self.family
            ));
        }
        let outer = if self.family == "gpt_neox" { "rotary_emb_base" } else { "rope_theta" };
        Ok(vec![self.rotation(params, (outer, 1e4), warnings)?])
    }

    fn gemma3(&self, warnings: &mut Vec<String>) -> Result<Vec<RopeConfig>, Fault> {
        let params = object(self.config, "rope_parameters")?;
        let of_kind = |kind| params.map_or(Ok(None), |params| object(params, kind));
        let (full, sliding) = (of_kind(FULL)?, of_kind(SLIDING)?);
        if let Some(params) = params {
            let flat: Vec<String> = params
                .keys()
                .filter(|key| *key != FULL && *key != SLIDING)
                .map(|key| format!("`{key}`"))
                .collect();
            if !flat.is_empty() {
                warnings.push(format!(
                    "{} of `rope_parameters` have no effect: Gemma 3 reads `{FULL}` and `{SLIDING}` in it, as in transformers",
                    flat.join(", ")
                ));
            }
        }
        let plain = || Map::from_iter([("rope_type".to_owned(), Value::from("default"))]);
        let mut merged = full.cloned().unwrap_or_else(plain);
        if let Some(scaling) = object(self.config, "rope_scaling")? {
            if params.is_some() && full.is_none() {
                return Err(format!(
                    "`rope_scaling` is for `{FULL}`, which `rope_parameters` lacks: transformers refuses the two"
                ));
            }
            merged.extend(scaling.clone());
        }
        let sliding = sliding.cloned().unwrap_or_else(plain);
        Ok(vec![
            self.rotation(&merged, ("rope_theta", 1e6), warnings)?,
            self.rotation(&sliding, ("rope_local_base_freq", 1e4), warnings)?,
        ])
    }

    /// Returns the rotation that `params` describes, with the base under another key, or by default.
    fn rotation(
        &self,
        params: &Map<String, Value>,
        (outer, default): (&str, f64),
        warnings: &mut Vec<String>,
    ) -> Result<RopeConfig, Fault> {
        let theta = match number(params, "rope_theta")? {
            Some(theta) => theta,
            None => number(self.config, outer)?.unwrap_or(default),
        };
        let kind = match params.get("rope_type").or_else(|| params.get("type")) {
            None => "default",
            Some(Value::String(kind)) => kind.as_str(),
            Some(other) => return Err(format!("`rope_type` is {other}, expected a text")),
        };
        if let (Some(_), Some(Value::String(old))) = (params.get("rope_type"), params.get("type"))
            && old != kind
        {
            warnings.push(format!(
                "the rotation's `type` `{old}` has no effect beside `rope_type` `{kind}`, as in transformers"
            ));
        }
        let need = |key: &str| {
            number(params, key)?
                .ok_or_else(|| format!("rope field `{key}` of `rope_type` `{kind}` is missing"))
        };
        let unsupported = || Err(format!("`rope_type` is `{kind}`, which is not supported"));
        let scaling = match kind {
            "default" => RopeScaling::None,
            _ if self.family == "phi3" => return unsupported(),
            "linear" => RopeScaling::Linear { factor: need("factor")? },
            "llama3" => self.llama3(need)?,
            _ => return unsupported(),
        };
        if scaling == RopeScaling::None {
            let idle: Vec<String> = OF_SCALING
                .iter()
                .filter(|key| is_set(params.get(**key)).is_some())
                .map(|key| format!("`{key}`"))
                .collect();
            if !idle.is_empty() {
                warnings.push(format!(
                    "{} of the rotation have no effect: its `rope_type` is `default`",
                    idle.join(", ")
                ));
            }
        }
        let rotary_dim = self.rotary_dim(params, scaling, warnings)?;
        Ok(RopeConfig { theta, rotary_dim, scaling })
    }

    fn llama3(&self, need: impl Fn(&str) -> Result<f64, Fault>) -> Result<RopeScaling, Fault> {
        // Where the context of the original training also stands outside, that counts.
        let outside = self.family != "gemma3_text";
        let outer =
            if outside { number(self.config, "original_max_position_embeddings")? } else { None };
        let original = match outer {
            Some(outer) => outer,
            None => need("original_max_position_embeddings")?,
        };
        let (low, high) = (need("low_freq_factor")?, need("high_freq_factor")?);
        if high <= low {
            return Err(format!(
                "rope field `high_freq_factor` is {high}, expected more than `low_freq_factor` {low}"
            ));
        }
        Ok(RopeScaling::Llama3 {
            factor: need("factor")?,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        })
    }

    /// Returns how many components of a head are rotated.
    fn rotary_dim(
        &self,
        params: &Map<String, Value>,
        scaling: RopeScaling,
        warnings: &mut Vec<String>,
    ) -> Result<usize, Fault> {
        let own = number(params, "partial_rotary_factor")?;
        let outer = |key| number(self.config, key);
        let share = match self.family {
            "gpt_neox" => {
                own.map_or_else(|| outer("rotary_pct"), |own| Ok(Some(own)))?.unwrap_or(0.25)
            }
            "phi3" => own
                .map_or_else(|| outer("partial_rotary_factor"), |own| Ok(Some(own)))?
                .unwrap_or(1.0),
            family => {
                let key = "partial_rotary_factor";
                let outer = if is_set(self.config.get(key)).is_some() { outer(key)? } else { None };
                let share = own.or(outer).unwrap_or(1.0);
                if share != 1.0 && scaling == RopeScaling::None {
                    let warning = format!(
                        "`{key}` {share} has no effect: `{family}` rotates whole heads, as in transformers"
                    );
                    if !warnings.contains(&warning) {
                        warnings.push(warning);
                    }
                } else if share != 1.0 {
                    return Err(format!("`{key}` is {share}, but `{family}` rotates whole heads"));
                }
                1.0
            }
        };
        let rotary_dim = (self.head_dim as f64 * share) as usize;
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) || rotary_dim > self.head_dim {
            return Err(format!(
                "{rotary_dim} rotated components per head of {}, expected an even number up to that",
                self.head_dim
            ));
        }
        Ok(rotary_dim)
    }
}
