//! Scoring where memory runs out.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::ErrorKind;
use crate::guard::within_memory;
use crate::lm::{DeviceChoice, DtypeChoice};
use crate::score::{Halved, LmScorer, LmScorerOptions, PromptTree, Scorer};

fn scorer(max_pack_tokens: usize) -> LmScorer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
    let options = LmScorerOptions {
        device: DeviceChoice::Cpu,
        dtype: DtypeChoice::F32,
        max_pack_tokens: Some(max_pack_tokens),
        ..LmScorerOptions::default()
    };
    LmScorer::open(&folder, options).unwrap()
}

/// Leave-one-out over a few words.
fn tree() -> PromptTree {
    let (mut tree, labels) = (PromptTree::new(), PromptTree::labels([" yes", " no"]));
    let words = ["the cat sat", "a dog ran off", "birds fly by day", "fish swim", "it rains"];
    for left_out in 0..words.len() {
        let mut node = PromptTree::ROOT;
        for (i, word) in words.iter().enumerate().filter(|(i, _)| *i != left_out) {
            node = tree.child(node, format!("{word}: {}\n", ["yes", "no"][i % 2]));
        }
        node = tree.child(node, format!("{}:", words[left_out]));
        tree.ask(node, left_out.to_string(), &labels);
    }
    tree
}

#[test]
fn a_pass_that_finds_no_memory_is_made_smaller() {
    let mut short = scorer(64);
    short.room = Some(40);
    let (found, usage) = short.score(&tree()).unwrap();
    assert_eq!(short.halved(), Some(Halved { from: 63, to: 31 }));
    // To the bit what passes of that size give, and they stay.
    let (expected, expected_usage) = scorer(31).score(&tree()).unwrap();
    assert_eq!((found, usage), (expected, expected_usage));
    assert!(scorer(64).halved().is_none());
    short.room = Some(1);
    let error = short.score(&tree()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.to_string().contains("no memory for a pass of 16 tokens"), "{error}");
}

#[test]
fn what_libtorch_says_without_memory_is_known() {
    let asked = within_memory(|| {
        let _ = Tensor::zeros([1 << 50], (Kind::Float, Device::Cpu));
        Ok(())
    });
    assert!(asked.unwrap().is_none());
    let fallible = within_memory(|| Ok(Tensor::f_zeros([1 << 50], (Kind::Float, Device::Cpu))?));
    assert!(fallible.unwrap().is_none());
}
