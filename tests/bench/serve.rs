//! The side of w2s in `scripts/bench/prefill_decode.py`, which takes turns with another program:
//! loads a model folder once, then answers one JSON line for each JSON line, with seconds.
//!
//! ```text
//! serve MODEL
//! {"work":"prefill","ids":[..]}               -> {"seconds":..,"top":ID,"logprob":..}
//! {"work":"generate","prompts":[..],"new":32} -> {"seconds":..,"ids":[[..]]}
//! {"work":"matmul","rows":512}                -> {"seconds":..,"gflops":..}
//! ```
//!
//! What was computed comes with the time, so that the caller can check that both sides did the same.

#![expect(clippy::print_stderr, reason = "what is said to whoever starts it by hand")]

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind};
use w2s::lm::{Decoder, GenerateOptions, KvCache, NewTokens, Sampling, Tokenizer, generate};
use w2s::run::SeedStream;

mod rate;

#[derive(Deserialize)]
#[serde(tag = "work", rename_all = "lowercase")]
enum Request {
    Prefill { ids: Vec<u32> },
    Generate { prompts: Vec<String>, new: usize },
    Matmul { rows: i64 },
}

struct Server {
    decoder: Decoder,
    tokenizer: Tokenizer,
    cache: KvCache,
}

fn main() -> Result<(), Box<dyn Error>> {
    w2s::lm::settle_environment();
    // `cargo bench` gives options only; nothing is measured without the script.
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        eprintln!("serve: run by scripts/bench/prefill_decode.py");
        return Ok(());
    };
    serve(Path::new(&folder))
}

fn serve(folder: &Path) -> Result<(), Box<dyn Error>> {
    let decoder = Decoder::load(folder, Device::Cpu, Kind::Float)?;
    let cache = decoder.new_cache();
    let mut server = Server { decoder, tokenizer: Tokenizer::open(folder)?, cache };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "threads": tch::get_num_threads() }))?;
    for line in std::io::stdin().lock().lines() {
        let answer = server.answer(serde_json::from_str(&line?)?)?;
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

impl Server {
    fn answer(&mut self, request: Request) -> Result<Value, Box<dyn Error>> {
        let _no_grad = tch::no_grad_guard();
        match request {
            Request::Prefill { ids } => self.prefill(&ids),
            Request::Generate { prompts, new } => self.generate(&prompts, new),
            Request::Matmul { rows } => Ok(rate::matmul(self.decoder.config(), rows)),
        }
    }

    fn prefill(&mut self, ids: &[u32]) -> Result<Value, Box<dyn Error>> {
        let parents: Vec<Option<usize>> = (0..ids.len()).map(|i| i.checked_sub(1)).collect();
        let began = Instant::now();
        self.cache.truncate(0);
        let x_ld = self.decoder.forward(NewTokens { ids, parents: &parents }, &mut self.cache)?;
        let logprobs_1v = self.decoder.log_probs(&x_ld.narrow(0, ids.len() as i64 - 1, 1));
        let (logprob, top) = logprobs_1v.max_dim(-1, false);
        let (top, logprob) = (top.int64_value(&[0]), logprob.double_value(&[0]));
        let seconds = began.elapsed().as_secs_f64();
        Ok(json!({ "seconds": seconds, "top": top, "logprob": logprob }))
    }

    fn generate(&self, prompts: &[String], new: usize) -> Result<Value, Box<dyn Error>> {
        let options = GenerateOptions {
            max_new_tokens: new,
            max_context_tokens: None,
            sampling: Sampling::Greedy,
            end_tokens: Vec::new(),
            stop: Vec::new(),
            add_special_tokens: true,
        };
        let streams = SeedStream::new(0);
        let began = Instant::now();
        let out = generate(&self.decoder, &self.tokenizer, prompts, &options, streams)?;
        let seconds = began.elapsed().as_secs_f64();
        let ids: Vec<Vec<u32>> = out.into_iter().map(|text| text.ids).collect();
        Ok(json!({ "seconds": seconds, "ids": ids }))
    }
}
