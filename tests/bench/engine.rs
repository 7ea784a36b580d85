//! Times of the engine, for its history: prefill, batched decode and leave-one-out scoring.
//!
//! ```text
//! OMP_WAIT_POLICY=passive cargo bench --bench engine
//! ```
//!
//! They say nothing beside other programs' times; for that see `scripts/bench`, where both sides
//! take turns in one run.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set its stage has failed")]
#![expect(clippy::print_stderr, reason = "the times of one model say nothing of another")]

use std::path::{Path, PathBuf};

use divan::Bencher;
use divan::counter::ItemsCount;
use w2s::label::{Epoch, Items, OrderOptions, OrderPlan};
use w2s::lm::{DeviceChoice, DtypeChoice, GenerateOptions, NewTokens, Sampling, generate};
use w2s::run::SeedStream;
use w2s::score::{LmScorer, LmScorerOptions, PromptTree, Scorer};

const NEW_TOKENS: usize = 32;

fn main() {
    w2s::lm::settle_environment();
    eprintln!("model: {}; {} threads", folder().display(), tch::get_num_threads());
    divan::main();
}

/// The real model where `scripts/setup` has put it, else a tiny one that comes with the tests.
fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let real = root.join("models/smollm2-135m-instruct");
    if real.is_dir() { real } else { root.join("tests/parity/llama") }
}

fn open() -> LmScorer {
    let options = LmScorerOptions {
        device: DeviceChoice::Cpu,
        dtype: DtypeChoice::F32,
        // The tiny model was made for less than the longest prompts here.
        max_context_tokens: Some(4096),
        ..LmScorerOptions::default()
    };
    LmScorer::open(&folder(), options).unwrap()
}

#[divan::bench(args = [512, 2048], sample_count = 5, sample_size = 1)]
fn prefill(bencher: Bencher<'_, '_>, num_tokens: usize) {
    let scorer = open();
    let decoder = scorer.decoder();
    let vocab = decoder.config().vocab_size;
    let ids: Vec<u32> = (0..num_tokens).map(|i| (i * 7919 % vocab) as u32).collect();
    let parents: Vec<Option<usize>> = (0..num_tokens).map(|i| i.checked_sub(1)).collect();
    let mut cache = decoder.new_cache();
    let _no_grad = tch::no_grad_guard();
    bencher.counter(ItemsCount::new(num_tokens)).bench_local(|| {
        cache.truncate(0);
        let x_ld = decoder.forward(NewTokens { ids: &ids, parents: &parents }, &mut cache).unwrap();
        decoder.log_probs(&x_ld.narrow(0, num_tokens as i64 - 1, 1))
    });
}

#[divan::bench(args = [8, 32], sample_count = 5, sample_size = 1)]
fn decode(bencher: Bencher<'_, '_>, num_prompts: usize) {
    let scorer = open();
    let prompts: Vec<String> =
        (0..num_prompts).map(|i| format!("{i} shells and {} coins and", i * 37 + 11)).collect();
    let options = GenerateOptions {
        max_new_tokens: NEW_TOKENS,
        max_context_tokens: None,
        sampling: Sampling::Greedy,
        end_tokens: Vec::new(),
        stop: Vec::new(),
        add_special_tokens: true,
    };
    bencher.counter(ItemsCount::new(num_prompts * NEW_TOKENS)).bench_local(|| {
        let streams = SeedStream::new(0);
        generate(scorer.decoder(), scorer.tokenizer(), &prompts, &options, streams).unwrap()
    });
}

/// Every claim behind all others, in pure halving; items are claims.
#[divan::bench(args = [16, 32], sample_count = 3, sample_size = 1)]
fn leave_one_out(bencher: Bencher<'_, '_>, num_claims: usize) {
    let mut scorer = open();
    let items = claims(num_claims);
    let labels: Vec<Option<usize>> = (0..num_claims).map(|i| Some(i % 2)).collect();
    let targets: Vec<usize> = (0..num_claims).collect();
    let order = OrderOptions::PURE_HALVING;
    let plan = OrderPlan::new(order, &items, &labels, &SeedStream::new(0), Epoch::default());
    bencher.counter(ItemsCount::new(num_claims)).bench_local(|| {
        let asked = plan.ask(&items, &labels, &targets, false);
        scorer.score(&asked.tree).unwrap()
    });
}

/// Claims of about 42 tokens.
fn claims(num: usize) -> Items {
    let questions: Vec<String> = (0..num)
        .map(|i| {
            let (a, b) = (11 + i * 29 % 88, 11 + i * 53 % 88);
            let said = if i % 2 == 0 { a + b + 3 } else { a + b };
            format!(
                "Question: Emil has {a} shells and finds {b} more. How many shells are there?\n\
                 Claim: There are {said} shells.\nI think this claim is "
            )
        })
        .collect();
    Items {
        ids: (0..num).map(|i| i.to_string()).collect(),
        demonstrations: questions
            .iter()
            .map(|q| vec![format!("{q}False\n\n"), format!("{q}True\n\n")])
            .collect(),
        questions,
        spell_special_tokens: false,
        instruction: String::new(),
        content_free: Vec::new(),
        words: vec![PromptTree::labels(["False", "True"]); num],
        labels: PromptTree::labels(["False", "True"]),
    }
}
