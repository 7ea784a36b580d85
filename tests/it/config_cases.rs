//! `config.json` in 540 shapes against transformers' own classes (`scripts/config_cases.py`): absent
//! keys, null ones, and rotations in old and new places.

use serde::Deserialize;
use serde_json::{Map, Value};
use w2s::error::ErrorKind;
use w2s::lm::{Activation, LmConfig, RopeScaling};

use crate::common::project;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    config: Map<String, Value>,
    value: Option<Settled>,
}

/// What transformers computes.
#[derive(Deserialize)]
struct Settled {
    /// Window and rotation of each layer.
    layers: Vec<(Option<usize>, Option<usize>)>,
    /// `None`: of no layer.
    ropes: Vec<Option<Rope>>,
    eps: f64,
    tie: bool,
    activation: String,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    wide: usize,
    positions: usize,
    qkv_bias: bool,
    o_bias: bool,
    mlp_bias: bool,
    scale: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Rope {
    /// A kind that is not computed here.
    Unsupported(#[expect(dead_code, reason = "tells the two apart")] String),
    Supported {
        theta: f64,
        rotary_dim: usize,
        kind: String,
        factor: Option<f64>,
        low_freq_factor: Option<f64>,
        high_freq_factor: Option<f64>,
        original_max_position_embeddings: Option<f64>,
    },
}

fn read(config: &Map<String, Value>) -> Result<LmConfig, w2s::error::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, serde_json::to_vec(config).unwrap()).unwrap();
    LmConfig::read(&path)
}

fn is_same(config: &LmConfig, expected: &Settled) -> Result<(), String> {
    let activation = match config.activation {
        Activation::Silu => "silu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh if expected.activation == "gelu_new" => "gelu_new",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    let layers: Vec<_> = config.layers.iter().map(|l| (l.sliding_window, l.rope)).collect();
    let checks = [
        ("layers", layers == expected.layers),
        ("eps", config.norm_eps == expected.eps),
        ("tie", config.tie_word_embeddings == expected.tie),
        ("activation", activation == expected.activation),
        ("heads", config.num_attention_heads == expected.heads),
        ("kv heads", config.num_key_value_heads == expected.kv_heads),
        ("head_dim", config.head_dim == expected.head_dim),
        ("wide", config.intermediate_size == expected.wide),
        ("positions", config.max_position_embeddings == expected.positions),
        ("qkv bias", config.qkv_bias == expected.qkv_bias),
        ("o bias", config.o_bias == expected.o_bias),
        ("mlp bias", config.mlp_bias == expected.mlp_bias),
        ("scale", expected.scale.is_none_or(|s| (s - config.attention_scale).abs() < 1e-15)),
        ("ropes", config.ropes.len() == expected.ropes.len()),
    ];
    if let Some((what, _)) = checks.iter().find(|(_, same)| !same) {
        return Err((*what).to_owned());
    }
    for (rope, expected) in config.ropes.iter().zip(&expected.ropes) {
        let Some(expected) = expected else { continue };
        let Rope::Supported {
            theta,
            rotary_dim,
            kind,
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } = expected
        else {
            return Err("an unsupported rotation was taken".to_owned());
        };
        let scaling = match kind.as_str() {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: factor.unwrap() },
            _ => RopeScaling::Llama3 {
                factor: factor.unwrap(),
                low_freq_factor: low_freq_factor.unwrap(),
                high_freq_factor: high_freq_factor.unwrap(),
                original_max_position_embeddings: original_max_position_embeddings.unwrap(),
            },
        };
        if (rope.theta, rope.rotary_dim, rope.scaling) != (*theta, *rotary_dim, scaling) {
            return Err(format!("rotation {rope:?}"));
        }
    }
    Ok(())
}

/// Never other numbers than transformers': the same, or an error. Refused are what transformers
/// refuses, what is not computed here, and the few that the comment at `may_refuse` lists.
#[test]
fn every_configuration_is_what_transformers_makes_of_it_or_an_error() {
    let path = project().join("tests/parity/config_cases.json");
    let cases: Cases = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut same, mut refused) = (0, 0);
    let mut faults = Vec::new();
    for case in &cases.cases {
        let text = serde_json::to_string(&case.config).unwrap();
        match (read(&case.config), &case.value) {
            (Ok(config), Some(expected)) => {
                faults
                    .extend(is_same(&config, expected).err().map(|what| format!("{what}: {text}")));
                same += 1;
            }
            (Ok(_), None) => faults.push(format!("transformers refuses {text}")),
            (Err(error), expected) => {
                assert_eq!(error.kind(), ErrorKind::Config, "{text}");
                // A rotation that no layer has is refused as the others are.
                let unsupported =
                    |rope: &Option<Rope>| !matches!(rope, Some(Rope::Supported { .. }));
                let why = error.message();
                let may = expected.as_ref().is_none_or(|value| {
                    value.ropes.iter().any(unsupported) || may_refuse(why, &case.config)
                });
                if !may {
                    faults.push(format!("{why}: {text}"));
                }
                refused += 1;
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    println!("{same} configurations are the same, {refused} are refused");
    assert!(same > 250 && refused > 150, "{same} and {refused}");
}

/// Refused here though transformers goes on: an activation that is not computed here, the context of
/// the original training missing from `llama3` (transformers takes the whole context), and a rotation
/// by layer type where layers share one (transformers takes none of it).
fn may_refuse(why: &str, config: &Map<String, Value>) -> bool {
    let by_layer = config
        .get("rope_parameters")
        .and_then(Value::as_object)
        .is_some_and(|params| params.keys().any(|key| key.ends_with("_attention")));
    why.contains("`relu`")
        || why.contains("`original_max_position_embeddings`")
        || (by_layer && why.contains("share one"))
}

#[test]
fn settings_without_an_effect_are_warned_of() {
    let config = |family: &str, more: Value| {
        let mut map =
            serde_json::json!({"model_type": family, "vocab_size": 384, "hidden_size": 512,
            "intermediate_size": 160, "num_hidden_layers": 7, "num_attention_heads": 32})
            .as_object()
            .unwrap()
            .clone();
        map.extend(more.as_object().unwrap().clone());
        read(&map).unwrap().warnings
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (family, more, says) in [
        (
            "llama",
            r#"{"rope_parameters": {"rope_theta": 5e5}, "rope_scaling": {"type": "linear", "factor": 2}}"#,
            "`rope_scaling` replaces `rope_parameters`",
        ),
        (
            "gemma3_text",
            r#"{"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 8}}"#,
            "`rope_theta`, `rope_type`, `factor` of `rope_parameters` have no effect",
        ),
        (
            "gemma3_text",
            r#"{"rope_scaling": {"type": "linear", "factor": 8}}"#,
            "`type` `linear` has no effect beside `rope_type` `default`",
        ),
        ("llama", r#"{"partial_rotary_factor": 0.5}"#, "rotates whole heads"),
        (
            "mistral",
            r#"{"layer_types": ["full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention"]}"#,
            "`layer_types` has no effect",
        ),
    ] {
        let warnings = config(family, json(more));
        assert!(warnings.iter().any(|w| w.contains(says)), "{family} {more}: {warnings:?}");
    }
    assert!(config("llama", json("{}")).is_empty());
    let plain = r#"{"rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "default"}, "sliding_attention": {"rope_theta": 1e4}}}"#;
    assert!(config("gemma3_text", json(plain)).is_empty());
}

/// Sizes that no model has are refused before memory is asked for.
#[test]
fn giant_sizes_are_one_error_that_names_the_key() {
    let text = std::fs::read(crate::common::tiny("llama").join("config.json")).unwrap();
    let good: Map<String, Value> = serde_json::from_slice(&text).unwrap();
    for key in [
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "hidden_size",
        "intermediate_size",
        "vocab_size",
        "head_dim",
        "max_position_embeddings",
    ] {
        for size in [0_u64, 1 << 53, i64::MAX as u64, 1 << 63, u64::MAX] {
            let mut config = good.clone();
            config.insert(key.into(), size.into());
            let error = read(&config).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let one = error.message().contains(key) || error.message().contains("the width");
            assert!(one && error.place().is_some(), "{key} {size}: {error}");
        }
    }
    let mut config = good.clone();
    for (key, size) in
        [("num_hidden_layers", 16_384), ("hidden_size", 1 << 24), ("num_attention_heads", 16_384)]
    {
        config.insert(key.into(), size.into());
    }
    let error = read(&config).unwrap_err();
    assert!(error.message().contains("more than any model has"), "{error}");
}
