//! What a key of `config.json` is where the file lacks it: the defaults of transformers'
//! configuration classes, family by family.
//!
//! A file need not have every key, and families differ: `rms_norm_eps` is 1e-6 in six of them and
//! 1e-5 in two. A key that is absent takes the default of its family from this table; a key of the
//! table that is there with null is an error unless the class takes null. Sizes of matrices are not
//! in it: a file without them is broken.
//!
//! # Source
//! transformers 5.23.0, `configuration_*.py`; the test holds every cell against the classes
//! themselves (`scripts/config_defaults.py`, `tests/parity/defaults.json`).

use serde_json::Value;

use super::config::FAMILIES;

/// What an absent key is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Absent {
    /// The family does not have the key: transformers ignores it.
    Unknown,
    /// Null: the key may be left out, and its value follows from others.
    Null,
    /// A number that null may stand in for.
    OrNull(u32),
    Int(u32),
    Float(f64),
    Bool(bool),
    Text(&'static str),
}

use Absent::{Bool, Float, Int, Null, OrNull, Text, Unknown as No};

const F: Absent = Bool(false);
const T: Absent = Bool(true);
const SILU: Absent = Text("silu");
const E5: Absent = Float(1e-5);
const E6: Absent = Float(1e-6);

/// A key and its defaults, in the order of [`FAMILIES`].
type Row = (&'static str, [Absent; 9]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    //                               gemma3_text  gpt2             gpt_neox      llama      mistral      olmo2      phi3       qwen2         qwen3
    ("activation_function",         [No,          Text("gelu_new"), No,          No,        No,          No,        No,        No,           No]),
    ("attention_bias",              [F,           No,              T,            F,         No,          F,         No,        No,           F]),
    ("head_dim",                    [Int(256),    No,              No,           Null,      Null,        No,        No,        No,           Int(128)]),
    ("hidden_act",                  [No,          No,              Text("gelu"), SILU,      SILU,        SILU,      SILU,      SILU,         SILU]),
    ("hidden_activation",           [Text("gelu_pytorch_tanh"), No, No,          No,        No,          No,        No,        No,           No]),
    ("layer_norm_eps",              [No,          No,              E5,           No,        No,          No,        No,        No,           No]),
    ("layer_norm_epsilon",          [No,          E5,              No,           No,        No,          No,        No,        No,           No]),
    ("layer_types",                 [Null,        No,              No,           No,        No,          No,        No,        Null,         Null]),
    ("max_position_embeddings",     [Int(131_072), No,             Int(2048),    Int(2048), Int(131_072), Int(2048), Int(4096), Int(32_768), Int(32_768)]),
    ("max_window_layers",           [No,          No,              No,           No,        No,          No,        No,        Int(28),      Int(28)]),
    ("mlp_bias",                    [No,          No,              No,           F,         No,          No,        No,        No,           No]),
    ("n_inner",                     [No,          Null,            No,           No,        No,          No,        No,        No,           No]),
    ("n_positions",                 [No,          Int(1024),       No,           No,        No,          No,        No,        No,           No]),
    ("num_key_value_heads",         [Int(4),      No,              No,           Null,      Int(8),      Null,      Null,      OrNull(32),   OrNull(32)]),
    ("query_pre_attn_scalar",       [Int(256),    No,              No,           No,        No,          No,        No,        No,           No]),
    ("rms_norm_eps",                [E6,          No,              No,           E6,        E6,          E5,        E5,        E6,           E6]),
    ("sliding_window",              [OrNull(4096), No,             No,           No,        OrNull(4096), No,       Null,      OrNull(4096), OrNull(4096)]),
    ("tie_word_embeddings",         [T,           T,               F,            F,         F,           F,         F,         F,            F]),
    ("use_parallel_residual",       [No,          No,              T,            No,        No,          No,        No,        No,           No]),
    ("use_sliding_window",          [No,          No,              No,           No,        No,          No,        No,        F,            F]),
];

impl Absent {
    /// Returns the default of `key` in `family`; [`Absent::Unknown`] for a key that the family's
    /// class does not have.
    pub(super) fn of(family: &str, key: &str) -> Self {
        let column = FAMILIES.iter().position(|name| *name == family);
        let row = TABLE.iter().find(|(name, _)| *name == key);
        row.zip(column).map_or(No, |((_, cells), column)| cells[column])
    }

    /// Returns whether null is a value of the key.
    pub(super) fn takes_null(self) -> bool {
        matches!(self, Null | OrNull(_))
    }

    /// Returns the default as `config.json` would have it.
    pub(super) fn value(self) -> Value {
        match self {
            No | Null => Value::Null,
            OrNull(number) | Int(number) => number.into(),
            Float(number) => number.into(),
            Bool(yes) => yes.into(),
            Text(text) => text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `tests/parity/defaults.json` is made from transformers' classes by
    /// `scripts/config_defaults.py`.
    #[test]
    fn every_cell_is_the_default_of_the_class() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/defaults.json");
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut num = 0;
        for family in FAMILIES {
            let keys = file["families"][family]["keys"].as_object().unwrap();
            for (key, _) in TABLE {
                let cell = Absent::of(family, key);
                match keys.get(*key) {
                    None => assert_eq!(cell, No, "{family} has no `{key}`"),
                    Some(expected) => {
                        assert_ne!(cell, No, "{family} has `{key}`");
                        assert_eq!(cell.value(), expected["default"], "{family} `{key}`");
                        assert_eq!(cell.takes_null(), expected["nullable"], "{family} `{key}`");
                        num += 1;
                    }
                }
            }
        }
        assert_eq!(num, 68, "cells compared");
    }
}
