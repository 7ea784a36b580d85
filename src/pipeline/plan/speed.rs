//! How fast this machine runs a model: scoring, training, writing.

use std::time::Instant;

use tch::Kind;

use super::summary::Speed;
use crate::error::Result;
use crate::lm::{Decoder, GenerateOptions, NewTokens, Sampling, generate};
use crate::pipeline::model::ModelOptions;
use crate::pipeline::session::Session;
use crate::pipeline::train::TrainJob;
use crate::pipeline::train::Trained;
use crate::run::SeedStream;
use crate::score::LmScorer;
use crate::train::{Answer, Item, TrainSettings, Trainer};

const NUM_TOKENS: usize = 512;
/// Tokens of a sequence of the measured training, and how many it learns.
const SEQUENCE: (usize, usize) = (64, 2);
const NUM_TEXTS: usize = 8;
const NUM_WRITTEN: usize = 8;

/// Returns the speed of a model, measured for about `seconds` in all; with none, only what it is.
pub(super) fn measure(
    model: &ModelOptions,
    train: Option<&TrainJob>,
    writes: bool,
    seconds: f64,
    session: &mut Session,
) -> Result<Speed> {
    let model = match train.is_some_and(|args| args.full) {
        true => &model.for_all_weights(),
        false => model,
    };
    let place = model.training_device(None)?;
    let mut scorer = session.open_trainable(model, place, None)?;
    let mut speed = facts(&scorer, train)?;
    if seconds > 0.0 {
        let num_kinds = 1 + usize::from(train.is_some()) + usize::from(writes);
        let each = seconds / num_kinds as f64;
        let rate = score_rate(scorer.decoder(), each)?;
        let own = NUM_TOKENS as f64;
        let flops = own * speed.flops_per_token + own * (own + 1.0) / 2.0 * speed.flops_per_pair;
        speed.score_flops = Some(rate * flops);
        if writes {
            speed.write_tokens = Some(write_rate(&scorer, each)?);
        }
        if let Some(train) = train {
            speed.train_tokens = Some(train_rate(train, scorer.parts_mut().0, each)?);
        }
    }
    Ok(speed)
}

fn facts(scorer: &LmScorer, train: Option<&TrainJob>) -> Result<Speed> {
    let decoder = scorer.decoder();
    let config = decoder.config();
    let element = decoder.kind().elt_size_in_bytes();
    let table = (config.vocab_size * config.hidden_size) as u64;
    let num_tables = if config.tie_word_embeddings { 1 } else { 2 };
    let num_weights = decoder.num_weight_bytes() / element as u64;
    let linear = num_weights.saturating_sub(num_tables * table) as f64;
    let heads = (config.num_attention_heads * config.head_dim * config.layers.len()) as f64;
    let short = scorer.working_memory(0)?;
    let long = scorer.working_memory(NUM_TOKENS)?;
    let train_bytes = train.map_or(0, |args| {
        let settings = args.settings(decoder, 0.0, 1);
        let own = args.pass_memory(decoder, 0.0).bytes(settings.pass_tokens);
        // Gradients and two moments, in f32.
        let counted = decoder.device().is_cuda();
        own + if args.full && !counted { 12 * num_weights } else { 0 }
    });
    Ok(Speed {
        score_flops: None,
        train_tokens: None,
        write_tokens: None,
        flops_per_token: 2.0 * linear,
        flops_per_pair: 4.0 * heads,
        flops_per_row: 2.0 * table as f64,
        weight_bytes: decoder.num_weight_bytes(),
        score_bytes: (short, long.saturating_sub(short) / NUM_TOKENS as u64),
        train_bytes,
    })
}

fn some_ids(decoder: &Decoder, num: usize, seed: usize) -> Vec<u32> {
    let vocab = decoder.config().vocab_size;
    (0..num).map(|i| ((i + seed * num + 1) * 7919 % vocab) as u32).collect()
}

/// Returns how often a second `work` is done: once to warm up, then for about `seconds`.
fn rate(seconds: f64, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let began = Instant::now();
    let mut num = 0;
    while num == 0 || began.elapsed().as_secs_f64() < seconds {
        work()?;
        num += 1;
    }
    Ok(f64::from(num) / began.elapsed().as_secs_f64())
}

/// Returns passes a second.
fn score_rate(decoder: &Decoder, seconds: f64) -> Result<f64> {
    let ids = some_ids(decoder, NUM_TOKENS, 0);
    let parents: Vec<Option<usize>> = (0..NUM_TOKENS).map(|i: usize| i.checked_sub(1)).collect();
    let mut cache = decoder.new_cache();
    let _no_grad = tch::no_grad_guard();
    rate(seconds, || {
        cache.truncate(0);
        let x_ld = decoder.forward(NewTokens { ids: &ids, parents: &parents }, &mut cache)?;
        // A GPU has done it when a number of it is here.
        let _ = x_ld.narrow(0, 0, 1).sum(Kind::Float).double_value(&[]);
        Ok(())
    })
}

/// Returns tokens a second.
fn write_rate(scorer: &LmScorer, seconds: f64) -> Result<f64> {
    let decoder = scorer.decoder();
    let prompts: Vec<String> = (0..NUM_TEXTS)
        .map(|seed| scorer.tokenizer().decode(&some_ids(decoder, 32, seed)))
        .collect::<Result<_>>()?;
    let options = GenerateOptions {
        max_new_tokens: NUM_WRITTEN,
        max_context_tokens: None,
        sampling: Sampling::Greedy,
        end_tokens: Vec::new(),
        stop: Vec::new(),
        add_special_tokens: true,
    };
    let times = rate(seconds, || {
        generate(decoder, scorer.tokenizer(), &prompts, &options, SeedStream::new(0)).map(|_| ())
    })?;
    Ok(times * (NUM_TEXTS * NUM_WRITTEN) as f64)
}

/// Returns tokens a second.
fn train_rate(args: &TrainJob, decoder: &mut Decoder, seconds: f64) -> Result<f64> {
    let streams = SeedStream::new(0);
    let trained = Trained::new(args, decoder, streams)?;
    let (len, learnt) = SEQUENCE;
    let batch_size = NUM_TOKENS / len;
    let items: Vec<Item> = (0..batch_size)
        .map(|seed| Item {
            id: seed.to_string(),
            group: seed.to_string(),
            answers: vec![Answer {
                ids: some_ids(decoder, len, seed),
                begin: len - learnt,
                share: 1.0,
            }],
            weight: 1.0,
        })
        .collect();
    let settings = TrainSettings {
        batch_size,
        num_epochs: 1_000_000,
        pass_tokens: args.settings(decoder, 0.0, 1).pass_tokens,
        recompute: args.settings(decoder, 0.0, 1).recompute,
        ..TrainSettings::default()
    };
    let decoder = &*decoder;
    let mut trainer = Trainer::new(decoder, trained.parameters(), &items, settings, streams)?;
    let times = rate(seconds, || trainer.step().map(|_| ()))?;
    Ok(times * (batch_size * (len - 1)) as f64)
}
