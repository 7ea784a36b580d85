//! The side of w2s in `scripts/bench/train.py`, which takes turns with another program: a training of
//! one adapter, step by step.
//!
//! ```text
//! learn MODEL JOB                -> {"threads":..,"batches":[[PLACE, ..], ..]}
//! {"work":"step"}                -> {"seconds":..,"loss":..,"grad_norm":..,"tokens":..}
//! {"work":"matmul","rows":512}   -> {"seconds":..,"gflops":..}
//! ```
//!
//! JOB is a JSON file: a PEFT folder with the adapter as it begins, and sequences, each with the first
//! token that is learnt. Those of one question train as a tree.

#![expect(clippy::print_stderr, reason = "what is said to whoever starts it by hand")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;
use tch::{Device, Kind};
use w2s::lm::{Adapter, Decoder};
use w2s::run::SeedStream;
use w2s::train::{
    Answer, Decay, Item, Parameter, PassMemory, Plan, TrainSettings, TrainedParts, Trainer,
};

mod rate;

#[derive(Deserialize)]
struct Job {
    adapter: PathBuf,
    batch_size: usize,
    lr: f64,
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Sequence {
    question: String,
    ids: Vec<u32>,
    begin: usize,
}

#[derive(Deserialize)]
#[serde(tag = "work", rename_all = "lowercase")]
enum Request {
    Step,
    Matmul { rows: i64 },
}

fn main() -> Result<(), Box<dyn Error>> {
    w2s::lm::settle_environment();
    // `cargo bench` gives options only; nothing is measured without the script.
    let given: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [model, job] = given.as_slice() else {
        eprintln!("learn: run by scripts/bench/train.py");
        return Ok(());
    };
    learn(Path::new(model), serde_json::from_slice(&std::fs::read(job)?)?)
}

fn learn(model: &Path, job: Job) -> Result<(), Box<dyn Error>> {
    let mut decoder = Decoder::load(model, Device::Cpu, Kind::Float)?;
    let adapter = Adapter::open(&job.adapter)?.trainable(&decoder)?;
    decoder.attach(&adapter)?;
    let named = adapter.tensors().into_iter();
    let parameters = named.map(|(name, tensor)| Parameter { name, tensor, decays: true }).collect();
    let items: Vec<Item> = job.sequences.into_iter().map(item).collect();
    let parts = TrainedParts { recompute: false, dropout: 0.0, full: false, num_adapted_inputs: 0 };
    let memory = PassMemory::of(decoder.config(), decoder.kind(), true, parts);
    let settings = TrainSettings {
        batch_size: job.batch_size,
        num_epochs: 1,
        lr: job.lr,
        decay: Decay::Constant,
        dropout: 0.0,
        pass_tokens: memory.tokens(None, &decoder),
        ..TrainSettings::default()
    };
    let streams = SeedStream::new(0);
    let batches = Plan::new(&items, settings.batch_size, 1, streams).epoch(0);
    let mut trainer = Trainer::new(&decoder, parameters, &items, settings, streams)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "threads": tch::get_num_threads(), "batches": batches }))?;
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Request::Matmul { rows } => rate::matmul(decoder.config(), rows),
            Request::Step => {
                let began = Instant::now();
                let report = trainer.step()?;
                json!({ "seconds": began.elapsed().as_secs_f64(), "loss": report.loss,
                    "grad_norm": report.grad_norm, "tokens": report.num_tokens })
            }
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn item(Sequence { question, ids, begin }: Sequence) -> Item {
    let answers = vec![Answer { ids, begin, share: 1.0 }];
    Item { group: question.clone(), id: question, answers, weight: 1.0 }
}
