//! The decoder and the tokenizer against numbers from transformers.
//!
//! `tests/parity/FAMILY/golden.json` and `tests/parity/real/MODEL.json` were made with transformers
//! 5.23.0 and torch 2.11.0 in float32 on CPU; each file names its versions. The environment variable
//! `W2S_PARITY_DIR` adds fixture folders of one's own, in the layout of `tests/parity`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use w2s::lm::{Decoder, NewTokens, Tokenizer};

use crate::common::{chain, golden};

/// Largest difference of a log-probability in f32 (house rule; STYLE).
const TOLERANCE: f64 = 1e-4;
/// The same over long prompts of the real models.
const TOLERANCE_REAL: f64 = 2e-3;

/// Hidden states of a plain sequence behind what the cache holds.
fn run(model: &Decoder, ids: &[u32], cache: &mut w2s::lm::KvCache) -> Tensor {
    model.forward(NewTokens { ids, parents: &chain(ids.len()) }, cache).unwrap()
}

fn greedy(model: &Decoder, ids: &[u32], num: usize) -> Vec<u32> {
    let mut cache = model.new_cache();
    let mut out = Vec::new();
    let mut next = ids.to_vec();
    for _ in 0..num {
        let x_ld = run(model, &next, &mut cache);
        let last_1v = model.logits(&x_ld.narrow(0, x_ld.size()[0] - 1, 1));
        let id = last_1v.argmax(-1, false).int64_value(&[0]) as u32;
        out.push(id);
        next = vec![id];
    }
    out
}

fn gathered(logprobs_v: &Tensor, ids: &[i64]) -> Vec<f64> {
    Vec::try_from(logprobs_v.index_select(0, &Tensor::from_slice(ids)).to_kind(Kind::Double))
        .unwrap()
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

/// Mean negative log-likelihood of a sequence, in nats per predicted token.
fn token_logprobs(model: &Decoder, ids: &[u32]) -> (Vec<f64>, Tensor) {
    let x_ld = run(model, ids, &mut model.new_cache());
    let logprobs_lv = model.log_probs(&x_ld);
    let targets: Vec<i64> = ids[1..].iter().map(|&id| i64::from(id)).collect();
    let rows = logprobs_lv.narrow(0, 0, targets.len() as i64);
    let picked = rows.gather(1, &Tensor::from_slice(&targets).unsqueeze(1), false).squeeze_dim(1);
    (Vec::try_from(picked.to_kind(Kind::Double)).unwrap(), x_ld)
}

/// Checks one fixture folder and returns the largest difference of a log-probability.
fn check_fixture(folder: &Path) -> f64 {
    let name = folder.display();
    let tokenizer = Tokenizer::open(folder).unwrap();
    let model = Decoder::load(folder, Device::Cpu, Kind::Float).unwrap();
    let mut worst: f64 = 0.0;
    for prompt in &golden(folder) {
        assert_eq!(tokenizer.encode(&prompt.text).unwrap().ids, prompt.ids, "{name}: token ids");
        let (logprobs, x_ld) = token_logprobs(&model, &prompt.ids);
        let mean_nll = -logprobs.iter().sum::<f64>() / logprobs.len() as f64;
        worst = worst.max((mean_nll - prompt.mean_nll).abs());
        let last = model.log_probs(&x_ld.narrow(0, x_ld.size()[0] - 1, 1)).squeeze_dim(0);
        worst =
            worst.max(largest(&gathered(&last, &prompt.last_top_ids), &prompt.last_top_logprobs));
        let logits = model.logits(&x_ld).to_kind(Kind::Double);
        // Sums over thousands of logits: relative to the sum of their sizes.
        let size = prompt.logits_abs_mean * logits.numel() as f64;
        let sum = logits.sum(Kind::Double).double_value(&[]);
        assert!((sum - prompt.logits_sum).abs() < 1e-6 * size, "{name}: sum of logits {sum}");
        assert_eq!(
            greedy(&model, &prompt.ids, prompt.greedy.len()),
            prompt.greedy,
            "{name}: greedy"
        );
    }
    assert!(worst < TOLERANCE, "{name}: largest difference {worst:e}");
    worst
}

fn fixtures(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("golden.json").exists())
        .collect();
    folders.sort();
    folders
}

#[test]
fn every_family_agrees_with_transformers() {
    let _no_grad = tch::no_grad_guard();
    let mut folders = fixtures(&crate::common::project().join("tests/parity"));
    assert_eq!(folders.len(), 10, "ten fixtures are part of the project");
    if let Some(more) = std::env::var_os("W2S_PARITY_DIR") {
        let found = fixtures(Path::new(&more));
        assert!(!found.is_empty(), "W2S_PARITY_DIR has no folder with a golden.json");
        folders.extend(found);
    }
    for folder in folders {
        let worst = check_fixture(&folder);
        println!("parity {:<24} {worst:.1e}", folder.file_name().unwrap().to_string_lossy());
    }
}

#[derive(Deserialize)]
struct Real {
    tokens: Vec<RealTokens>,
    prompts: Vec<RealPrompt>,
    paragraph: RealParagraph,
    greedy20: Vec<RealGreedy>,
}

#[derive(Deserialize)]
struct RealTokens {
    text: String,
    ids: Vec<u32>,
    ids_no_special: Vec<u32>,
}

#[derive(Deserialize)]
struct RealPrompt {
    name: String,
    ids: Vec<u32>,
    top20_ids: Vec<i64>,
    top20_logprobs: Vec<f64>,
}

#[derive(Deserialize)]
struct RealParagraph {
    ids: Vec<u32>,
    token_logprobs: Vec<f64>,
}

#[derive(Deserialize)]
struct RealGreedy {
    prompt: String,
    ids: Vec<u32>,
}

fn check_real(golden: &str, folder: &str) {
    let _no_grad = tch::no_grad_guard();
    let path = crate::common::project().join("tests/parity/real").join(golden);
    let real: Real = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let folder = crate::common::model(folder);
    let tokenizer = Tokenizer::open(&folder).unwrap();
    for case in &real.tokens {
        let ids = tokenizer.encode(&case.text).unwrap().ids;
        assert_eq!(ids, case.ids_no_special, "{:?}", case.text);
        assert_eq!([tokenizer.prefix(), &ids].concat(), case.ids, "{:?}", case.text);
    }
    let model = Decoder::load(&folder, Device::Cpu, Kind::Float).unwrap();
    let mut worst: f64 = 0.0;
    for prompt in &real.prompts {
        let x_ld = run(&model, &prompt.ids, &mut model.new_cache());
        let last = model.log_probs(&x_ld.narrow(0, x_ld.size()[0] - 1, 1)).squeeze_dim(0);
        worst = worst.max(largest(&gathered(&last, &prompt.top20_ids), &prompt.top20_logprobs));
    }
    let (logprobs, _) = token_logprobs(&model, &real.paragraph.ids);
    worst = worst.max(largest(&logprobs, &real.paragraph.token_logprobs));
    for case in &real.greedy20 {
        let prompt = real.prompts.iter().find(|p| p.name == case.prompt).unwrap();
        assert_eq!(greedy(&model, &prompt.ids, case.ids.len()), case.ids, "{}", case.prompt);
    }
    println!("parity {:<24} {worst:.1e}", folder.file_name().unwrap().to_string_lossy());
    assert!(worst < TOLERANCE_REAL, "largest difference {worst:e}");
}

#[test]
fn gemma_3_270m_agrees_with_transformers() {
    check_real("gemma3-270m.json", "gemma-3-270m");
}

#[test]
fn smollm2_135m_agrees_with_transformers() {
    check_real("smollm2-135m-instruct.json", "smollm2-135m-instruct");
}
