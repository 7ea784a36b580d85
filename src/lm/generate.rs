//! Writing text: many prompts side by side, greedy or sampled.

use std::path::Path;

use rand::Rng;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::cache::{BatchCache, KvCache};
use super::decoder::{Decoder, NewTokens};
use super::native::copied;
use super::tokenizer::Tokenizer;
use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// The most likely one.
    Greedy,
    /// Drawn from the softmax of logits / temperature.
    Temperature(f64),
}

/// When and how to write.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens written for a prompt.
    pub max_new_tokens: usize,
    /// Most tokens of a prompt and its text together; `None`: the positions of the model.
    pub max_context_tokens: Option<usize>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Token ids that end a text; they are not part of it.
    pub end_tokens: Vec<u32>,
    /// Texts that end a text; it is cut before the first of them.
    pub stop: Vec<String>,
    /// Whether the tokenizer's special tokens go before a prompt; not before one of a chat template, which
    /// spells them.
    pub add_special_tokens: bool,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// An end token.
    EndToken,
    /// A stop text.
    Stop,
    /// The limit of new tokens, or the end of the context.
    Length,
}

/// What was written after one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The tokens, without an end token; after a stop text, up to the token that completed it.
    pub ids: Vec<u32>,
    /// Their text, cut before a stop text.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
}

/// Returns the ids of the tokens that end a text: `eos_token_id` of generation_config.json, or of
/// config.json; none if neither names one.
///
/// # Errors
/// [`ErrorKind::Config`] when the file is no JSON or the value no token.
pub fn end_tokens(folder: &Path) -> Result<Vec<u32>> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("read", &path, &e)),
        };
        let fault = |message: String| Error::new(ErrorKind::Config, message).at(&path);
        let config: Value =
            serde_json::from_str(&text).map_err(|e| fault(format!("broken JSON: {e}")))?;
        let id = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| fault(format!("`eos_token_id` is {value}, expected a token id")))
        };
        match config.get("eos_token_id") {
            None | Some(Value::Null) => {}
            Some(Value::Array(ids)) => return ids.iter().map(id).collect(),
            Some(value) => return Ok(vec![id(value)?]),
        }
    }
    Ok(Vec::new())
}

/// Most tokens of one pass over a prompt, on the CPU and on a GPU, which needs more of them to be busy.
const PREFILL_TOKENS: [usize; 2] = [512, 4096];

/// Returns what the model writes after each of `prompts`, in their order.
///
/// The weights are read once a step for all prompts that are still being written. What all
/// prompts begin with is computed once. Sampled texts are drawn from the
/// stream `generate` of `streams`, by prompt: they do not depend on the other prompts.
///
/// # Errors
/// [`ErrorKind::Context`] when a prompt leaves no room for a token, with its place among the prompts;
/// [`ErrorKind::Numeric`] when the model gives NaN.
///
/// # Cost
/// Keys and values of all prompts at once: `B * (longest prompt + max_new_tokens)` tokens.
pub fn generate(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    prompts: &[String],
    options: &GenerateOptions,
    streams: SeedStream,
) -> Result<Vec<Generated>> {
    let _no_grad = tch::no_grad_guard();
    let positions = decoder.config().max_position_embeddings;
    let max_tokens = options.max_context_tokens.unwrap_or(positions);
    let mut tokens = Vec::with_capacity(prompts.len());
    let prefix = if options.add_special_tokens { tokenizer.prefix() } else { &[] };
    for (i, prompt) in prompts.iter().enumerate() {
        let ids = [prefix, &tokenizer.encode(prompt)?.ids].concat();
        if ids.is_empty() || ids.len() >= max_tokens {
            let message = format!(
                "prompt {} is {} tokens long, expected 1 to {}",
                i + 1,
                ids.len(),
                max_tokens - 1
            );
            return Err(Error::new(ErrorKind::Context, message)
                .hint("shorten the prompt, or use a model with a longer context"));
        }
        tokens.push(ids);
    }
    if prompts.is_empty() || options.max_new_tokens == 0 {
        let empty = Generated { ids: vec![], text: String::new(), finish: Finish::Length };
        return Ok(vec![empty; prompts.len()]);
    }
    let (mut cache, mut x_bd) = prefill(decoder, &tokens, options.max_new_tokens)?;
    let mut out: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
    let mut ended: Vec<Option<(Finish, String)>> = vec![None; prompts.len()];
    // The prompts that the rows of cache and hidden states belong to.
    let mut rows: Vec<usize> = (0..prompts.len()).collect();
    for step in 0..options.max_new_tokens {
        let chosen = choose(decoder, &x_bd, options.sampling, &rows, step, streams)?;
        for (&row, &id) in rows.iter().zip(&chosen) {
            if ended[row].is_none() {
                ended[row] =
                    end_of(&mut out[row], id, tokens[row].len(), max_tokens, options, tokenizer)?;
            }
        }
        let going: Vec<usize> = (0..rows.len()).filter(|&r| ended[rows[r]].is_none()).collect();
        if going.is_empty() || step + 1 == options.max_new_tokens {
            break;
        }
        let mut next = chosen;
        // Moving keys and values costs about a step, so ended sequences are carried along until
        // they are half of all.
        if going.len() * 2 <= rows.len() {
            cache.select(&going);
            rows = going.iter().map(|&r| rows[r]).collect();
            next = going.iter().map(|&r| next[r]).collect();
        }
        x_bd = decoder.step(&next, &mut cache)?;
    }
    out.into_iter()
        .zip(ended)
        .map(|(ids, ended)| {
            let (finish, text) = match ended {
                Some(end) => end,
                None => (Finish::Length, tokenizer.decode(&ids)?),
            };
            Ok(Generated { ids, text, finish })
        })
        .collect()
}

/// Runs the prompts and returns their keys and values with the hidden state `[B, D]` after each.
///
/// What all prompts begin with is run once; the rest is packed, many prompts a pass, and a prompt
/// does not repeat what it shares with its neighbour in the pass.
fn prefill(decoder: &Decoder, tokens: &[Vec<u32>], num_new: usize) -> Result<(BatchCache, Tensor)> {
    let most = PREFILL_TOKENS[usize::from(decoder.device().is_cuda())];
    let mut path = decoder.new_cache();
    let lens: Vec<usize> = tokens.iter().map(Vec::len).collect();
    let batch = BatchCache::new(&path, &lens, num_new);
    // The last token of each is run for its own hidden state.
    let shared = tokens
        .iter()
        .map(|ids| num_shared(&tokens[0], ids).min(ids.len() - 1))
        .min()
        .unwrap_or_default();
    for chunk in tokens[0][..shared].chunks(most) {
        let _ = run_chain(decoder, chunk, &mut path)?;
    }
    let mut last = Vec::with_capacity(tokens.len());
    let mut next = 0;
    while next < tokens.len() {
        path.truncate(shared);
        let first = &tokens[next][shared..];
        if first.len() > most {
            let mut x_ld = Tensor::new();
            for chunk in first.chunks(most) {
                x_ld = run_chain(decoder, chunk, &mut path)?;
            }
            last.push(x_ld.narrow(0, x_ld.size()[0] - 1, 1));
            batch.fill(next, &path, &(0..tokens[next].len()).collect::<Vec<_>>());
            next += 1;
            continue;
        }
        let (mut ids, mut parents) = (Vec::new(), Vec::new());
        // Of each prompt in the pass, where its tokens behind the shared ones stand in it.
        let mut places: Vec<Vec<usize>> = Vec::new();
        while let Some(prompt) = tokens.get(next + places.len()) {
            let own = &prompt[shared..];
            let mut mine: Vec<usize> = match places.last() {
                Some(before) => {
                    let other = &tokens[next + places.len() - 1][shared..];
                    before[..num_shared(other, own).min(own.len() - 1)].to_vec()
                }
                None => Vec::new(),
            };
            if ids.len() + own.len() - mine.len() > most {
                break;
            }
            for &id in &own[mine.len()..] {
                parents.push(mine.last().copied());
                mine.push(ids.len());
                ids.push(id);
            }
            places.push(mine);
        }
        let x_ld = decoder.forward(NewTokens { ids: &ids, parents: &parents }, &mut path)?;
        for mine in places {
            let at = mine.last().copied().unwrap_or_default();
            last.push(x_ld.narrow(0, at as i64, 1));
            let slots: Vec<usize> =
                (0..shared).chain(mine.into_iter().map(|place| shared + place)).collect();
            batch.fill(next, &path, &slots);
            next += 1;
        }
    }
    Ok((batch, Tensor::cat(&last, 0)))
}

/// Runs tokens that follow each other behind the path.
fn run_chain(decoder: &Decoder, ids: &[u32], path: &mut KvCache) -> Result<Tensor> {
    let parents: Vec<Option<usize>> = (0..ids.len()).map(|t| t.checked_sub(1)).collect();
    decoder.forward(NewTokens { ids, parents: &parents }, path)
}

fn num_shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The next token of each row.
fn choose(
    decoder: &Decoder,
    x_bd: &Tensor,
    sampling: Sampling,
    rows: &[usize],
    step: usize,
    streams: SeedStream,
) -> Result<Vec<u32>> {
    let logits_bv = decoder.logits(x_bd);
    // A NaN counts as the largest, so only the largest are looked at.
    let best_b1 = logits_bv.argmax(-1, true);
    let is_nan = logits_bv.gather(1, &best_b1, false).isnan().any();
    let chosen_b = match sampling {
        Sampling::Greedy => best_b1.squeeze_dim(1),
        Sampling::Temperature(temperature) => {
            // Inverse transform with a draw of our own: libtorch's generator is one for all rows.
            let cumulative_bv =
                (logits_bv / temperature).softmax(-1, Kind::Double).cumsum(-1, Kind::Double);
            let draws: Vec<f64> = rows
                .iter()
                .map(|&row| streams.rng("generate", &[row as u64, step as u64]).random())
                .collect();
            let draws_b = copied(&Tensor::f_from_slice(&draws)?, cumulative_bv.device())?;
            // Scaled by the total, which rounding leaves a little off 1.
            let last = cumulative_bv.size()[1] - 1;
            let targets_b1 = draws_b.unsqueeze(1) * cumulative_bv.narrow(1, last, 1);
            let below_bv = cumulative_bv.le_tensor(&targets_b1).to_kind(Kind::Int64);
            below_bv.sum_dim_intlist(1_i64, false, Kind::Int64).clamp(0, last)
        }
    };
    // One reading waits for the device, not two.
    let read = Tensor::f_cat(&[chosen_b, is_nan.to_kind(Kind::Int64).unsqueeze(0)], 0)?;
    let mut ids: Vec<i64> = Vec::try_from(read)?;
    if ids.pop() != Some(0) {
        return Err(Error::new(ErrorKind::Numeric, "the model gave NaN while writing").hint(
            "the weights may be damaged, or too large for this number type; try `--dtype f32`",
        ));
    }
    Ok(ids.into_iter().map(|id| id as u32).collect())
}

/// Adds a token to a text and returns why and with what text it ends, if it does.
fn end_of(
    ids: &mut Vec<u32>,
    id: u32,
    prompt_len: usize,
    max_tokens: usize,
    options: &GenerateOptions,
    tokenizer: &Tokenizer,
) -> Result<Option<(Finish, String)>> {
    if options.end_tokens.contains(&id) {
        return Ok(Some((Finish::EndToken, tokenizer.decode(ids)?)));
    }
    ids.push(id);
    if !options.stop.is_empty() {
        let text = tokenizer.decode(ids)?;
        if let Some(at) = options.stop.iter().filter_map(|stop| text.find(stop)).min() {
            return Ok(Some((Finish::Stop, text[..at].to_owned())));
        }
    }
    if prompt_len + ids.len() >= max_tokens {
        return Ok(Some((Finish::Length, tokenizer.decode(ids)?)));
    }
    Ok(None)
}
