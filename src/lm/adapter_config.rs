//! `adapter_config.json` of PEFT: what a low-rank adapter adds, and to which modules.
//!
//! Modules, ranks and alphas are found as PEFT 0.21 finds them (`check_target_module_exists`,
//! `get_pattern_key`), by Python's regular expressions. A setting that changes the maths and is not supported is an error that names it, and so is one
//! that is not known: an adapter that is silently computed wrongly is worse than none.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::config::Layout;
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
    /// What the list of layers is called in a module's name, as expressions; none: anything.
    pub layers_pattern: Vec<String>,
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
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "r",
    "rank_pattern",
    "target_modules",
    "use_rslora",
];
/// Ways to begin that leave the model's own weights as they are; others change them.
const INITS: &[&str] = &["gaussian", "eva", "orthogonal", "mica", "true", "false"];

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
            Value::String(text) if text.eq_ignore_ascii_case("all-linear") => Ok(Self::AllLinear),
            Value::String(text) => Ok(Self::Pattern(text.clone())),
            Value::Array(list) if list.iter().all(Value::is_string) => Ok(Self::Names(
                list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
            )),
            other => Err(format!("`{key}` is {other}, expected a list of names or a text")),
        }
    }

    /// Returns what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for another kind of value.
    pub fn of_json(value: &Value) -> Result<Self> {
        Self::read("target_modules", value).map_err(|why| Error::new(ErrorKind::Config, why))
    }

    /// Returns the modules of queries and values in a layout, which are adapted unless others are named;
    /// the one that holds both where they are fused.
    pub fn queries_and_values(layout: Layout) -> Self {
        let names: &[&str] = match layout {
            Layout::Llama => &["q_proj", "v_proj"],
            Layout::Phi3 => &["qkv_proj"],
            Layout::Gpt2 => &["c_attn"],
            Layout::GptNeox => &["query_key_value"],
        };
        Self::Names(names.iter().map(|name| (*name).to_owned()).collect())
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

impl Default for AdapterConfig {
    /// What `w2s train` takes where nothing is said: rank 16, alpha 32, dropout .05 on queries and values
    /// of the names that most families have.
    fn default() -> Self {
        Self {
            r: 16,
            alpha: 32.0,
            dropout: 0.05,
            target_modules: TargetModules::queries_and_values(Layout::Llama),
            exclude_modules: None,
            layers: None,
            layers_pattern: Vec::new(),
            use_rslora: false,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            base_model: None,
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
            Value::Array(list) if list.is_empty() => None,
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
        let layers = layers.transpose()?;
        let layers_pattern = match get("layers_pattern") {
            Value::Null => Vec::new(),
            Value::String(text) if text.is_empty() => Vec::new(),
            Value::String(text) => vec![text.clone()],
            Value::Array(list) => list
                .iter()
                .map(|item| {
                    item.as_str().map(str::to_owned).ok_or_else(|| {
                        plain(format!("`layers_pattern` holds {item}, expected texts"))
                    })
                })
                .collect::<Result<_, _>>()?,
            other => return Err(plain(format!("`layers_pattern` is {other}, expected texts"))),
        };
        if !layers_pattern.is_empty() && get("layers_to_transform").is_null() {
            return Err(plain("`layers_pattern` is set without `layers_to_transform`".into()));
        }
        if get("target_modules").is_string() {
            for key in ["layers_to_transform", "layers_pattern"] {
                if !get(key).is_null() {
                    let message = format!("`{key}` is set, but `target_modules` is a text");
                    return Err((
                        message,
                        "PEFT refuses the two together; name the modules in a list".into(),
                    ));
                }
            }
        }
        let flag = |key: &str| match get(key) {
            Value::Null => Ok(false),
            Value::Bool(yes) => Ok(*yes),
            other => Err(plain(format!("`{key}` is {other}, expected true or false"))),
        };
        let pattern = |key: &str| match get(key) {
            Value::Null => Ok(Vec::new()),
            Value::Object(map) => Ok(map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()),
            other => Err(plain(format!("`{key}` is {other}, expected names and numbers"))),
        };
        let ranks = pattern("rank_pattern")?;
        let alphas = pattern("alpha_pattern")?;
        let dropout = match get("lora_dropout") {
            Value::Null => 0.0,
            value => value
                .as_f64()
                .filter(|share| (0.0..=1.0).contains(share))
                .ok_or_else(|| plain(format!("`lora_dropout` is {value}, expected 0 to 1")))?,
        };
        let config = Self {
            // PEFT's own defaults.
            r: if map.contains_key("r") { count("r", get("r"))? } else { 8 },
            alpha: match map.get("lora_alpha") {
                Some(alpha) => number("lora_alpha", alpha)?,
                None => 8.0,
            },
            dropout,
            target_modules: modules("target_modules")?
                .ok_or_else(|| plain("`target_modules` is missing or empty".into()))?,
            exclude_modules: modules("exclude_modules")?,
            layers,
            layers_pattern,
            use_rslora: flag("use_rslora")?,
            rank_pattern: ranks
                .into_iter()
                .map(|(key, value)| count("rank_pattern", &value).map(|r| (key, r)))
                .collect::<Result<_, _>>()?,
            alpha_pattern: alphas
                .into_iter()
                .map(|(key, value)| number("alpha_pattern", &value).map(|alpha| (key, alpha)))
                .collect::<Result<_, _>>()?,
            base_model: get("base_model_name_or_path").as_str().map(str::to_owned),
        };
        // What cannot be compiled is an error now, not a module without its rank later.
        config.rules().map_err(&plain)?;
        Ok(config)
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
            "layers_pattern": match self.layers_pattern.as_slice() {
                [] => Value::Null,
                all => json!(all),
            },
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
}

/// A number as an integer where it is one.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return (number as i64).into();
    }
    number.into()
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
            ("rank_pattern", json!({"(": 2})),
            ("alpha_pattern", json!({r"(?x)q_proj": 2})),
            ("target_modules", json!("*q")),
            ("exclude_modules", json!(r"\p{L}")),
            ("use_rslora", json!("false")),
            ("use_dora", json!("false")),
            ("layers_pattern", json!("layers")),
            ("lora_dropout", json!("0.1")),
        ] {
            let (message, _) = config(json!({ key: value })).unwrap_err();
            assert!(message.contains(&format!("`{key}`")), "{key}: {message}");
        }
        let both = json!({"target_modules": ".*q_proj", "layers_to_transform": [0]});
        assert!(config(both).unwrap_err().0.contains("`layers_to_transform`"));
        config(json!({"use_dora": false, "modules_to_save": null, "corda_config": {}})).unwrap();
    }

    /// The rules of PEFT's `check_target_module_exists` and `get_pattern_key`, by hand.
    #[test]
    fn modules_are_found_as_peft_finds_them() {
        let q = "model.layers.1.self_attn.q_proj";
        let finds = |value: Value| config(value).unwrap().rules().unwrap().targets(q).ok();
        assert_eq!(finds(json!({})), Some(true));
        assert_eq!(finds(json!({"target_modules": ["proj"]})), Some(false));
        assert_eq!(finds(json!({"target_modules": ["self_attn.q_proj"]})), Some(true));
        assert_eq!(finds(json!({"target_modules": r".*\.1\..*q_proj"})), Some(true));
        assert_eq!(finds(json!({"target_modules": "q_proj"})), Some(false), "the whole name");
        assert_eq!(finds(json!({"target_modules": "all-linear"})), Some(true));
        assert_eq!(finds(json!({"target_modules": "All-Linear"})), Some(true));
        assert_eq!(finds(json!({"target_modules": "(?!x).*"})), Some(true));
        assert_eq!(finds(json!({"target_modules": "(?!model).*"})), Some(false));
        assert_eq!(finds(json!({"target_modules": [q], "layers_to_transform": [0]})), Some(true));
        assert_eq!(finds(json!({"layers_to_transform": []})), Some(true));
        let layered = |pattern| json!({"layers_to_transform": [1], "layers_pattern": pattern});
        assert_eq!(finds(layered(json!("layers"))), Some(true));
        assert_eq!(finds(layered(json!(["h", "layers"]))), Some(true));
        assert_eq!(finds(layered(json!("h"))), Some(false));
        assert_eq!(finds(layered(json!(""))), Some(true));
        assert_eq!(finds(json!({"exclude_modules": r".*\.(?!9)\d\..*"})), Some(false));
        assert_eq!(finds(json!({"layers_to_transform": [0]})), Some(false));
        assert_eq!(finds(json!({"layers_to_transform": 1})), Some(true));
        assert_eq!(finds(json!({"exclude_modules": ["q_proj"]})), Some(false));
        let other = config(json!({
            "rank_pattern": {r"layers\.1\..*": 16}, "alpha_pattern": {"q_proj": 4}, "use_rslora": true
        }))
        .unwrap();
        let rules = other.rules().unwrap();
        assert_eq!((rules.rank(q), rules.scale(q)), (Ok(16), Ok(1.0)));
        assert_eq!(rules.rank("model.layers.11.self_attn.q_proj"), Ok(4));
        assert_eq!(config(json!({})).unwrap().rules().unwrap().scale(q), Ok(2.0));
        // The case of a look-ahead: layer 0 keeps the default alpha, the others have 64.
        let ahead =
            config(json!({"alpha_pattern": {r"(?!model\.layers\.0).*q_proj": 64}})).unwrap();
        let scale = |layer: usize| {
            let name = format!("model.layers.{layer}.self_attn.q_proj");
            ahead.rules().unwrap().scale(&name).unwrap()
        };
        // `(.*\.)?` may take `model.`, and what is left begins with `layers.0`.
        assert_eq!((scale(0), scale(1)), (16.0, 16.0));
    }

    #[test]
    fn settings_survive_writing() {
        let before = config(json!({"lora_dropout": 0.05, "rank_pattern": {"a": 2}})).unwrap();
        let after = AdapterConfig::of_map(before.to_json().as_object().unwrap()).unwrap();
        assert_eq!(before, after);
    }
}
