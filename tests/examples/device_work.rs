//! What scoring leave-one-out prompts does on a GPU with a model of Llama-3-8B's shape, counted without
//! one: launches, copies, memory and operations by the program's own plans, and the seconds that follow
//! at the rates of an H200. Beside it the same passes under one mask each.
//!
//! `cargo run --release --example device_work`

#![expect(clippy::print_stdout, reason = "the table is for people")]

use std::path::Path;

use tch::Kind;
use w2s::error::Result;
use w2s::label::OrderOptions;
use w2s::lm::{DeviceChoice, DeviceRates, DeviceWork, DtypeChoice, LmConfig, PassPlan, SeenBy};
use w2s::score::{LmScorer, LmScorerOptions, MemorySize};
use w2s::train::{PassMemory, TrainedParts};

#[expect(dead_code, reason = "the GPU's check uses the rest")]
#[path = "../bench/gpu/claims.rs"]
mod claims;

use claims::{Claims, LLAMA3_8B, SMALL};

/// The default on a GPU.
const PACK_TOKENS: usize = 4096;

fn main() -> Result<()> {
    let target = Path::new("target/device-work");
    let folder = SMALL.folder(&target.join("small"), Path::new("models"))?;
    let large = LLAMA3_8B.folder(&target.join("llama3-8b"), Path::new("models"))?;
    let config = LmConfig::read(&large.join("config.json"))?;
    // Plans do not depend on the weights: those of a small model are made.
    let options = LmScorerOptions {
        device: DeviceChoice::Cpu,
        dtype: DtypeChoice::F32,
        max_pack_tokens: Some(PACK_TOKENS),
        max_context_tokens: Some(1 << 20),
        memory: Some(MemorySize(1 << 50)),
    };
    let mut scorer = LmScorer::open(&folder, options)?;
    println!("not run on a GPU: counted, at the rates of an H200 {:?}", DeviceRates::H200);
    println!(
        "| N | order | attention | passes | launches | copies > 64 KiB | waits | copied | most memory of a pass | seconds |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for num in [64, 256] {
        for (order, options) in
            [("halving", OrderOptions::PURE_HALVING), ("default", OrderOptions::default())]
        {
            let passes: Vec<PassPlan> = scorer.passes(&Claims::new(num, 0).tree(options))?;
            for (name, seen) in [
                ("one mask, products in f32", SeenBy::MaskInProducts),
                ("one mask, cuDNN", SeenBy::MaskByCudnn),
                ("calls, flash", SeenBy::Calls),
            ] {
                let work = DeviceWork::of_tree(&config, Kind::BFloat16, &passes, seen);
                println!(
                    "| {num} | {order} ({} tokens) | {name} | {} | {} | {} | {} | {:.1} MB | {:.2} GB | {:.2} |",
                    work.num_tokens,
                    work.num_passes,
                    work.num_launches,
                    work.num_large_host_copies,
                    work.num_waits,
                    work.host_copy_bytes as f64 / 1e6,
                    work.most_bytes as f64 / 1e9,
                    work.seconds(&DeviceRates::H200)
                );
            }
        }
    }
    println!();
    training(&config);
    Ok(())
}

/// A pass of a LoRA training on queries and values: 16 sequences of 512 tokens.
fn training(config: &LmConfig) {
    let (num, len) = (16, 512);
    let parents: Vec<Option<usize>> = (0..num * len)
        .map(|i: usize| if i.is_multiple_of(len) { None } else { i.checked_sub(1) })
        .collect();
    let pass = PassPlan { past: 0, parents, num_rows: 0 };
    println!(
        "| training pass of {num} x {len} tokens | host copies over 64 KiB | attention, forward, a pass |"
    );
    println!("|---|---|---|");
    for (name, seen) in [("one mask, cuDNN", SeenBy::MaskByCudnn), ("calls, flash", SeenBy::Calls)]
    {
        let work = DeviceWork::of_tree(config, Kind::BFloat16, std::slice::from_ref(&pass), seen);
        let operations = work.attention_operations / 1e12;
        println!("| {name} | {} | {operations:.2} TFLOP |", work.num_large_host_copies);
    }
    let num_adapted_inputs = 2 * config.hidden_size * config.layers.len();
    println!("| LoRA on q and v, dropout 0.05 | memory of a pass of {} tokens |", num * len);
    println!("|---|---|");
    for recompute in [false, true] {
        let trained = TrainedParts { recompute, dropout: 0.05, full: false, num_adapted_inputs };
        let memory = PassMemory::of(config, Kind::BFloat16, false, trained);
        let bytes = memory.bytes(num * len) as f64 / 1e9;
        println!("| {} | {bytes:.1} GB |", if recompute { "recomputed" } else { "kept" });
    }
}
