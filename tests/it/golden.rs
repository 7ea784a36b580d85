//! What transformers gave for a model, and how far a decoder is from it on its device and in its
//! number type. Shared by the tests and by the bench `gpu`.
//!
//! `tests/parity/FAMILY/golden.json` and `tests/parity/real/MODEL.json` were made with transformers
//! 5.23.0 and torch 2.11.0 in float32 on CPU; each file names its versions.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Kind, Tensor};
use w2s::error::{Error, ErrorKind, Result};
use w2s::lm::{Decoder, KvCache, NewTokens, Tokenizer};

/// Largest difference of a log-probability in f32 (house rule; STYLE).
pub const TOLERANCE: f64 = 1e-4;
/// The same over long prompts of the real models.
pub const TOLERANCE_REAL: f64 = 2e-3;

#[derive(Deserialize)]
struct Golden {
    prompts: Vec<GoldenPrompt>,
}

/// What transformers gave for one prompt of a fixture.
#[derive(Deserialize)]
pub struct GoldenPrompt {
    pub text: String,
    pub ids: Vec<u32>,
    pub mean_nll: f64,
    pub last_top_ids: Vec<i64>,
    pub last_top_logprobs: Vec<f64>,
    pub logits_sum: f64,
    pub logits_abs_mean: f64,
    pub greedy: Vec<u32>,
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

/// How far a model is from its numbers.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Prompts compared.
    pub num_prompts: usize,
    /// Largest difference of a log-probability, in nats.
    pub logprob: f64,
    /// Largest difference of the sum of a prompt's logits, as a share of the sum of their sizes.
    pub logit_sum: f64,
    /// How much less likely than its best token transformers finds the token that is best here, at
    /// most over the prompts; infinite when the token is not among those listed.
    pub best_gap: f64,
    /// Texts whose token ids are others.
    pub other_ids: Vec<String>,
    /// Prompts that are continued otherwise.
    pub other_greedy: Vec<String>,
}

impl Difference {
    fn logprobs(&mut self, ours: &[f64], theirs: &[f64]) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            let apart = (a - b).abs();
            // A NaN is no small difference.
            self.logprob = if apart.is_nan() { f64::INFINITY } else { self.logprob.max(apart) };
        }
    }

    fn best(&mut self, best: i64, top_ids: &[i64], top_logprobs: &[f64]) {
        let highest = top_logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let here = top_ids.iter().position(|&id| id == best);
        let gap = here.map_or(f64::INFINITY, |at| highest - top_logprobs[at]);
        self.best_gap = self.best_gap.max(gap);
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Data, format!("not golden numbers: {e}")).at(path))
}

/// Returns the numbers of a fixture folder.
pub fn golden(folder: &Path) -> Result<Vec<GoldenPrompt>> {
    Ok(read::<Golden>(&folder.join("golden.json"))?.prompts)
}

/// Returns the fixture folders below `root`, in the order of their names.
pub fn fixtures(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(root).map_err(|e| Error::io("list", root, &e))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("golden.json").exists())
        .collect();
    folders.sort();
    Ok(folders)
}

/// Returns the parents of a plain sequence's tokens.
pub fn chain(num: usize) -> Vec<Option<usize>> {
    (0..num).map(|i| i.checked_sub(1)).collect()
}

/// Hidden states of a plain sequence behind what the cache holds.
fn run(model: &Decoder, ids: &[u32], cache: &mut KvCache) -> Result<Tensor> {
    model.forward(NewTokens { ids, parents: &chain(ids.len()) }, cache)
}

fn last_row(x_ld: &Tensor) -> Tensor {
    x_ld.narrow(0, x_ld.size()[0] - 1, 1)
}

fn greedy(model: &Decoder, ids: &[u32], num: usize) -> Result<Vec<u32>> {
    let mut cache = model.new_cache();
    let mut out = Vec::new();
    let mut next = ids.to_vec();
    for _ in 0..num {
        let x_ld = run(model, &next, &mut cache)?;
        let id = model.logits(&last_row(&x_ld)).argmax(-1, false).int64_value(&[0]) as u32;
        out.push(id);
        next = vec![id];
    }
    Ok(out)
}

/// The entries `ids` of a row `[V]`.
fn gathered(logprobs_v: &Tensor, ids: &[i64]) -> Result<Vec<f64>> {
    let index = Tensor::from_slice(ids).to_device(logprobs_v.device());
    Ok(Vec::try_from(logprobs_v.index_select(0, &index).to_kind(Kind::Double))?)
}

/// The log-probability of each token of a sequence after the first, and the hidden states.
fn token_logprobs(model: &Decoder, ids: &[u32]) -> Result<(Vec<f64>, Tensor)> {
    let x_ld = run(model, ids, &mut model.new_cache())?;
    let logprobs_lv = model.log_probs(&x_ld);
    let targets: Vec<i64> = ids[1..].iter().map(|&id| i64::from(id)).collect();
    let rows = logprobs_lv.narrow(0, 0, targets.len() as i64);
    let index = Tensor::from_slice(&targets).unsqueeze(1).to_device(logprobs_lv.device());
    let picked = rows.gather(1, &index, false).squeeze_dim(1);
    Ok((Vec::try_from(picked.to_kind(Kind::Double))?, x_ld))
}

/// Returns how far `model` is from the numbers of its fixture folder.
pub fn fixture_difference(
    folder: &Path,
    model: &Decoder,
    tokenizer: &Tokenizer,
) -> Result<Difference> {
    let mut seen = Difference::default();
    for prompt in &golden(folder)? {
        seen.num_prompts += 1;
        if tokenizer.encode(&prompt.text)?.ids != prompt.ids {
            seen.other_ids.push(prompt.text.clone());
        }
        let (logprobs, x_ld) = token_logprobs(model, &prompt.ids)?;
        let mean_nll = -logprobs.iter().sum::<f64>() / logprobs.len() as f64;
        seen.logprobs(&[mean_nll], &[prompt.mean_nll]);
        let last_v = model.log_probs(&last_row(&x_ld)).squeeze_dim(0);
        seen.logprobs(&gathered(&last_v, &prompt.last_top_ids)?, &prompt.last_top_logprobs);
        let best = last_v.argmax(-1, false).int64_value(&[]);
        seen.best(best, &prompt.last_top_ids, &prompt.last_top_logprobs);
        let logits = model.logits(&x_ld).to_kind(Kind::Double);
        // Sums over thousands of logits: relative to the sum of their sizes.
        let size = prompt.logits_abs_mean * logits.numel() as f64;
        let sum = logits.sum(Kind::Double).double_value(&[]);
        seen.logit_sum = seen.logit_sum.max((sum - prompt.logits_sum).abs() / size);
        if greedy(model, &prompt.ids, prompt.greedy.len())? != prompt.greedy {
            seen.other_greedy.push(prompt.text.clone());
        }
    }
    Ok(seen)
}

/// Returns how far `model` is from the numbers of a real model in the file `golden`.
pub fn real_difference(
    golden: &Path,
    model: &Decoder,
    tokenizer: &Tokenizer,
) -> Result<Difference> {
    let real: Real = read(golden)?;
    let mut seen = Difference::default();
    for case in &real.tokens {
        let ids = tokenizer.encode(&case.text)?.ids;
        if ids != case.ids_no_special || [tokenizer.prefix(), &ids].concat() != case.ids {
            seen.other_ids.push(case.text.clone());
        }
    }
    for prompt in &real.prompts {
        seen.num_prompts += 1;
        let x_ld = run(model, &prompt.ids, &mut model.new_cache())?;
        let last_v = model.log_probs(&last_row(&x_ld)).squeeze_dim(0);
        seen.logprobs(&gathered(&last_v, &prompt.top20_ids)?, &prompt.top20_logprobs);
        let best = last_v.argmax(-1, false).int64_value(&[]);
        seen.best(best, &prompt.top20_ids, &prompt.top20_logprobs);
    }
    let (logprobs, _) = token_logprobs(model, &real.paragraph.ids)?;
    seen.logprobs(&logprobs, &real.paragraph.token_logprobs);
    for case in &real.greedy20 {
        let prompt = real.prompts.iter().find(|p| p.name == case.prompt);
        let ids = prompt.map(|p| p.ids.as_slice()).unwrap_or_default();
        if greedy(model, ids, case.ids.len())? != case.ids {
            seen.other_greedy.push(case.prompt.clone());
        }
    }
    Ok(seen)
}
