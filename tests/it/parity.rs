//! The decoder and the tokenizer against numbers from transformers (see `golden`), in f32 on the CPU.
//!
//! The environment variable `W2S_PARITY_DIR` adds fixture folders of one's own, in the layout of
//! `tests/parity`.

use std::path::Path;

use tch::{Device, Kind};
use w2s::lm::{Decoder, Tokenizer};

use crate::golden::{
    Difference, TOLERANCE, TOLERANCE_REAL, fixture_difference, fixtures, real_difference,
};

fn check(folder: &Path, tolerance: f64, difference: &Difference) {
    let name = folder.file_name().unwrap().to_string_lossy();
    println!("parity {name:<24} {:.1e}", difference.logprob);
    assert!(difference.num_prompts > 0, "{name}: nothing was compared");
    assert!(difference.other_ids.is_empty(), "{name}: token ids of {:?}", difference.other_ids);
    assert!(difference.logprob < tolerance, "{name}: largest difference {:e}", difference.logprob);
    assert!(difference.logit_sum < 1e-6, "{name}: sum of logits {:e}", difference.logit_sum);
    assert!(difference.best_gap < tolerance, "{name}: best token {:e}", difference.best_gap);
    assert!(difference.other_greedy.is_empty(), "{name}: greedy {:?}", difference.other_greedy);
}

fn open(folder: &Path) -> (Decoder, Tokenizer) {
    let decoder = Decoder::load(folder, Device::Cpu, Kind::Float).unwrap();
    (decoder, Tokenizer::open(folder).unwrap())
}

#[test]
fn every_family_agrees_with_transformers() {
    let _no_grad = tch::no_grad_guard();
    let mut folders = fixtures(&crate::common::project().join("tests/parity")).unwrap();
    assert_eq!(folders.len(), 10, "ten fixtures are part of the project");
    if let Some(more) = std::env::var_os("W2S_PARITY_DIR") {
        let found = fixtures(Path::new(&more)).unwrap();
        assert!(!found.is_empty(), "W2S_PARITY_DIR has no folder with a golden.json");
        folders.extend(found);
    }
    for folder in folders {
        let (model, tokenizer) = open(&folder);
        let difference = fixture_difference(&folder, &model, &tokenizer).unwrap();
        check(&folder, TOLERANCE, &difference);
    }
}

fn check_real(golden: &str, folder: &str) {
    let _no_grad = tch::no_grad_guard();
    let golden = crate::common::project().join("tests/parity/real").join(golden);
    let folder = crate::common::model(folder);
    let (model, tokenizer) = open(&folder);
    let difference = real_difference(&golden, &model, &tokenizer).unwrap();
    check(&folder, TOLERANCE_REAL, &difference);
}

#[test]
fn gemma_3_270m_agrees_with_transformers() {
    check_real("gemma3-270m.json", "gemma-3-270m");
}

#[test]
fn smollm2_135m_agrees_with_transformers() {
    check_real("smollm2-135m-instruct.json", "smollm2-135m-instruct");
}
