//! `adapter_config.json` of PEFT: what a low-rank adapter adds, and to which modules.
//!
//! A setting that changes the maths and is not supported is an error that names it, and so is one
//! that is not known: an adapter that is silently computed wrongly is worse than none.

use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result};

/// Which modules an adapter is added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetModules {
    /// Modules of these names, or whose last parts are these names: `q_proj`.
    Names(Vec<String>),
    /// Modules whose whole name matches a regular expression.
    Pattern(String),
    /// Every linear layer but the head.
    AllLinear,
}

/// The settings of a LoRA adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Rank.
    pub r: usize,
    /// Scale times rank (times its root with `use_rslora`).
    pub alpha: f64,
    /// Share of its inputs dropped in training.
    pub dropout: f64,
    /// Which modules it is added to.
    pub target_modules: TargetModules,
    /// Modules left out all the same.
    pub exclude_modules: Option<TargetModules>,
    /// Only these layers; `None`: all.
    pub layers: Option<Vec<usize>>,
    /// Whether the scale is alpha over the root of the rank.
    pub use_rslora: bool,
    /// Other ranks, by the pattern of the module's name.
    pub rank_pattern: Vec<(String, usize)>,
    /// Other alphas, by the pattern of the module's name.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Where the model it was trained on lay.
    pub base_model: Option<String>,
}

/// Settings that change nothing once an adapter is trained, besides those that are read.
const IGNORED: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];
/// Settings that are read.
const READ: &[&str] = &[
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "layers_to_transform",
    "lora_alpha",
    "r",
    "rank_pattern",
    "target_modules",
    "use_rslora",
];
/// Ways to begin that leave the model's own weights as they are; others change them.
const INITS: &[&str] = &["gaussian", "eva", "orthogonal", "true", "false"];

/// Whether a setting is off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

impl TargetModules {
    fn read(key: &str, value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) if text == "all-linear" => Ok(Self::AllLinear),
            Value::String(text) => Ok(Self::Pattern(text.clone())),
            Value::Array(list) if list.iter().all(Value::is_string) => Ok(Self::Names(
                list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            )),
            other => Err(format!("`{key}` is {other}, expected a list of names or a text")),
        }
    }

    /// Returns whether the module is among them; `None` when the pattern is of a kind that is not
    /// understood here.
    pub fn matches(&self, module: &str) -> Option<bool> {
        Some(match self {
            Self::AllLinear => true,
            Self::Names(names) => names.iter().any(|name| {
                module
                    .strip_suffix(name.as_str())
                    .is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }),
            Self::Pattern(pattern) => {
                Regex::new(&format!("^(?:{pattern})$")).ok()?.is_match(module)
            }
        })
    }

    /// Returns them as PEFT writes them.
    pub fn to_json(&self) -> Value {
        match self {
            Self::AllLinear => "all-linear".into(),
            Self::Pattern(pattern) => pattern.clone().into(),
            Self::Names(names) => names.clone().into(),
        }
    }
}

impl AdapterConfig {
    /// Returns the settings in the file `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the file is missing or broken, describes another kind of adapter,
    /// or asks for something that is not supported; the message names the setting.
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |message: String| Error::new(ErrorKind::Config, message).at(path);
        let text = std::fs::read_to_string(path).map_err(|e| {
            fail(format!("cannot read the adapter's settings: {e}"))
                .hint("expected the folder of a PEFT adapter: adapter_config.json and adapter_model.safetensors")
        })?;
        let map: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|e| fail(format!("broken settings of an adapter: {e}")))?;
        Self::of_map(&map).map_err(|(message, hint)| fail(message).hint(hint))
    }

    fn of_map(map: &Map<String, Value>) -> Result<Self, (String, String)> {
        let own = "expected the settings that PEFT writes for a LoRA adapter";
        let plain = |message: String| (message, own.to_owned());
        let unsupported = |key: &str, value: &Value| {
            let hint = "merge the adapter into its model with PEFT (`merge_and_unload`) and use the merged model";
            (format!("`{key}` is {value}, which is not supported"), hint.to_owned())
        };
        let null = Value::Null;
        let get = |key: &str| map.get(key).unwrap_or(&null);
        match get("peft_type") {
            Value::String(kind) if kind == "LORA" => {}
            Value::Null => return Err(plain("`peft_type` is missing".into())),
            other => return Err(unsupported("peft_type", other)),
        }
        for (key, value) in map {
            let known = IGNORED.contains(&key.as_str()) || READ.contains(&key.as_str());
            if !known && !is_off(value) {
                return Err(unsupported(key, value));
            }
        }
        if !matches!(get("bias"), Value::Null) && get("bias") != "none" {
            return Err(unsupported("bias", get("bias")));
        }
        let init = get("init_lora_weights");
        let init_name = init.as_str().map_or_else(|| init.to_string(), str::to_owned);
        if !init.is_null() && !INITS.contains(&init_name.as_str()) {
            return Err(unsupported("init_lora_weights", init));
        }
        let number = |key: &str, value: &Value| match value.as_f64() {
            Some(number) if number.is_finite() && number > 0.0 => Ok(number),
            _ => Err(plain(format!("`{key}` is {value}, expected a number above 0"))),
        };
        let count = |key: &str, value: &Value| match value.as_u64() {
            Some(count @ 1..) => Ok(count as usize),
            _ => Err(plain(format!("`{key}` is {value}, expected a whole number above 0"))),
        };
        let modules = |key: &str| match get(key) {
            value if is_off(value) => Ok(None),
            value => TargetModules::read(key, value).map(Some).map_err(&plain),
        };
        let layers = match get("layers_to_transform") {
            Value::Null => None,
            Value::Array(list) => Some(list.clone()),
            one => Some(vec![one.clone()]),
        };
        let layers = layers.map(|list| {
            let index = |value: &Value| match value.as_u64() {
                Some(index) => Ok(index as usize),
                None => Err(plain(format!("`layers_to_transform` holds {value}"))),
            };
            list.iter().map(index).collect::<Result<Vec<_>, _>>()
        });
        let pattern = |key: &str| match get(key) {
            Value::Null => Ok(Vec::new()),
            Value::Object(map) => Ok(map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
            other => Err(plain(format!("`{key}` is {other}, expected names and numbers"))),
        };
        let ranks = pattern("rank_pattern")?;
        let alphas = pattern("alpha_pattern")?;
        Ok(Self {
            r: count("r", get("r"))?,
            alpha: number("lora_alpha", get("lora_alpha"))?,
            dropout: get("lora_dropout").as_f64().unwrap_or(0.0),
            target_modules: modules("target_modules")?
                .ok_or_else(|| plain("`target_modules` is missing or empty".into()))?,
            exclude_modules: modules("exclude_modules")?,
            layers: layers.transpose()?,
            use_rslora: get("use_rslora") == &Value::Bool(true),
            rank_pattern: ranks
                .into_iter()
                .map(|(key, value)| count("rank_pattern", &value).map(|r| (key, r)))
                .collect::<Result<_, _>>()?,
            alpha_pattern: alphas
                .into_iter()
                .map(|(key, value)| number("alpha_pattern", &value).map(|alpha| (key, alpha)))
                .collect::<Result<_, _>>()?,
            base_model: get("base_model_name_or_path").as_str().map(str::to_owned),
        })
    }

    /// Returns the settings as PEFT reads them.
    pub fn to_json(&self) -> Value {
        let pattern = |pairs: Vec<(String, Value)>| Value::Object(pairs.into_iter().collect());
        json!({
            "alpha_pattern": pattern(self.alpha_pattern.iter().map(|(k, v)| (k.clone(), (*v).into())).collect()),
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "exclude_modules": self.exclude_modules.as_ref().map(TargetModules::to_json),
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layer_replication": null,
            "layers_pattern": null,
            "layers_to_transform": self.layers,
            "lora_alpha": whole(self.alpha),
            "lora_bias": false,
            "lora_dropout": self.dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": pattern(self.rank_pattern.iter().map(|(k, v)| (k.clone(), (*v).into())).collect()),
            "revision": null,
            "target_modules": self.target_modules.to_json(),
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }

    /// Returns whether the adapter is added to `module`; `None` when a pattern is of a kind that is
    /// not understood here.
    pub fn targets(&self, module: &str) -> Option<bool> {
        if let Some(excluded) = &self.exclude_modules
            && excluded.matches(module)?
        {
            return Some(false);
        }
        let in_layer = self.layers.as_ref().is_none_or(|layers| {
            let number = module.split('.').find_map(|part| part.parse::<usize>().ok());
            number.is_some_and(|number| layers.contains(&number))
        });
        Some(in_layer && self.target_modules.matches(module)?)
    }

    /// Returns the rank for `module`.
    pub fn rank(&self, module: &str) -> usize {
        named(&self.rank_pattern, module).unwrap_or(self.r)
    }

    /// Returns what the product of the two matrices is multiplied by for `module`.
    pub fn scale(&self, module: &str) -> f64 {
        let alpha = named(&self.alpha_pattern, module).unwrap_or(self.alpha);
        let r = self.rank(module) as f64;
        alpha / if self.use_rslora { r.sqrt() } else { r }
    }
}

/// A number as an integer where it is one.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return (number as i64).into();
    }
    number.into()
}

/// Returns the value of the first pattern that fits the end of the module's name.
fn named<T: Copy>(pattern: &[(String, T)], module: &str) -> Option<T> {
    let fits = |key: &str| {
        Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).is_ok_and(|regex| regex.is_match(module))
    };
    pattern.iter().find(|(key, _)| fits(key)).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Value) -> Result<AdapterConfig, (String, String)> {
        let mut map =
            json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]})
                .as_object()
                .unwrap()
                .clone();
        map.extend(value.as_object().unwrap().clone());
        AdapterConfig::of_map(&map)
    }

    #[test]
    fn what_changes_the_maths_is_refused_by_name() {
        for (key, value) in [
            ("use_dora", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("bias", json!("all")),
            ("lora_bias", json!(true)),
            ("init_lora_weights", json!("pissa")),
            ("layer_replication", json!([[0, 4]])),
            ("trainable_token_indices", json!([1])),
            ("something_new", json!(3)),
            ("peft_type", json!("IA3")),
            ("r", json!(0)),
            ("lora_alpha", json!("8")),
            ("target_modules", json!([])),
            ("target_modules", json!([3])),
            ("rank_pattern", json!({"q_proj": -1})),
        ] {
            let (message, _) = config(json!({ key: value })).unwrap_err();
            assert!(message.contains(&format!("`{key}`")), "{key}: {message}");
        }
        config(json!({"use_dora": false, "modules_to_save": null, "corda_config": {}})).unwrap();
    }

    /// The rules of PEFT's `check_target_module_exists` and `get_pattern_key`, by hand.
    #[test]
    fn modules_are_found_as_peft_finds_them() {
        let q = "model.layers.1.self_attn.q_proj";
        let finds = |value: Value| config(value).unwrap().targets(q);
        assert_eq!(finds(json!({})), Some(true));
        assert_eq!(finds(json!({"target_modules": ["proj"]})), Some(false));
        assert_eq!(finds(json!({"target_modules": ["self_attn.q_proj"]})), Some(true));
        assert_eq!(finds(json!({"target_modules": r".*\.1\..*q_proj"})), Some(true));
        assert_eq!(finds(json!({"target_modules": "q_proj"})), Some(false), "the whole name");
        assert_eq!(finds(json!({"target_modules": "all-linear"})), Some(true));
        assert_eq!(finds(json!({"target_modules": "(?!x).*"})), None);
        assert_eq!(finds(json!({"layers_to_transform": [0]})), Some(false));
        assert_eq!(finds(json!({"layers_to_transform": 1})), Some(true));
        assert_eq!(finds(json!({"exclude_modules": ["q_proj"]})), Some(false));
        let other = config(json!({
            "rank_pattern": {r"layers\.1\..*": 16}, "alpha_pattern": {"q_proj": 4}, "use_rslora": true
        }))
        .unwrap();
        assert_eq!((other.rank(q), other.scale(q)), (16, 1.0));
        assert_eq!(other.rank("model.layers.11.self_attn.q_proj"), 4);
        assert_eq!(config(json!({})).unwrap().scale(q), 2.0);
    }

    #[test]
    fn settings_survive_writing() {
        let before = config(json!({"lora_dropout": 0.05, "rank_pattern": {"a": 2}})).unwrap();
        let after = AdapterConfig::of_map(before.to_json().as_object().unwrap()).unwrap();
        assert_eq!(before, after);
    }
}
