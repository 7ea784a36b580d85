//! How near does a model of Llama-3-8B's shape come to what the device can do, and what does it need?
//! Its weights are random and made on the device, in bf16.

use std::time::Instant;

use tch::{Device, Kind, Tensor};
use w2s::error::Result;
use w2s::lm::{BatchCache, Decoder, DtypeChoice, NewTokens};
use w2s::score::LmScorer;

use super::claims::{LLAMA3_8B, SMALL, Shape};
use super::golden::chain;
use super::rows::{Row, Rows};
use super::tree::{self, Arrangement};
use super::{Part, Settings};

const PART: &str = Part::Large.title();
const KIND: Kind = Kind::BFloat16;

/// What is run; small on a CPU.
struct Sizes {
    shape: &'static Shape,
    /// Tokens of a prefill.
    prefill: &'static [usize],
    /// Sequences decoded side by side.
    sequences: usize,
    prompt: usize,
    steps: usize,
    claims: &'static [usize],
    square: i64,
    copy_bytes: i64,
}

const LARGE_SIZES: Sizes = Sizes {
    shape: &LLAMA3_8B,
    prefill: &[512, 2048, 4096, 8192],
    sequences: 32,
    prompt: 512,
    steps: 64,
    claims: &[64, 256],
    square: 4096,
    copy_bytes: 4 << 30,
};

const SMALL_SIZES: Sizes = Sizes {
    shape: &SMALL,
    prefill: &[32, 64],
    sequences: 4,
    prompt: 16,
    steps: 4,
    claims: &[4, 8],
    square: 64,
    copy_bytes: 1 << 20,
};

/// Returns the median seconds of `repeats` runs after two that are not counted.
pub fn seconds(
    device: Device,
    repeats: usize,
    mut work: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let finish = || {
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
    };
    let mut times = Vec::with_capacity(repeats);
    for run in 0..repeats + 2 {
        finish();
        let began = Instant::now();
        work()?;
        finish();
        if run >= 2 {
            times.push(began.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Operations per second of a product `[m, k] x [n, k]^T`, as a linear map computes it.
pub fn product_rate(device: Device, m: i64, k: i64, n: i64) -> Result<f64> {
    let x = Tensor::f_randn([m, k], (KIND, device))?;
    let weight = Tensor::f_randn([n, k], (KIND, device))?;
    let time = seconds(device, 10, || {
        let _ = x.f_linear(&weight, None::<&Tensor>)?;
        Ok(())
    })?;
    Ok(2.0 * (m * k * n) as f64 / time)
}

pub fn run(settings: &Settings, device: Device, rows: &Rows) -> Result<()> {
    let sizes = if settings.small { &SMALL_SIZES } else { &LARGE_SIZES };
    let _no_grad = tch::no_grad_guard();
    let mut best = f64::NAN;
    rows.attempt(PART, "matrix products", || {
        best = products(device, sizes, rows)?;
        Ok(())
    })?;
    let mut bandwidth = f64::NAN;
    rows.attempt(PART, "memory copy", || {
        bandwidth = copy(device, sizes, rows)?;
        Ok(())
    })?;
    let folder = sizes.shape.folder(&settings.out.join("large"), &settings.models)?;
    let began = Instant::now();
    let mut scorer = tree::open(&folder, &settings.device, DtypeChoice::Bf16)?;
    rows.add(&Row::new(
        PART,
        "weights made on the device",
        format!(
            "{:.2} G parameters in {:.1} s",
            (sizes.shape.matrix_weights() + 2.0 * (sizes.shape.vocab * sizes.shape.width) as f64)
                / 1e9,
            began.elapsed().as_secs_f64()
        ),
    ))?;
    let kernel = scorer.decoder().attention();
    rows.add(&match device.is_cuda() {
        true => Row::new(PART, "attention", kernel).against("flash").passed(kernel == "flash"),
        false => Row::new(PART, "attention", kernel),
    })?;
    for &len in sizes.prefill {
        rows.attempt(PART, &format!("prefill {len}"), || {
            prefill(scorer.decoder(), sizes.shape, len, best, rows)
        })?;
    }
    rows.attempt(PART, "batched decode", || decode(scorer.decoder(), sizes, bandwidth, rows))?;
    for arrangement in &tree::arrangements() {
        for &num in sizes.claims {
            rows.attempt(PART, &format!("leave-one-out N = {num}, {}", arrangement.name), || {
                leave_one_out(&mut scorer, sizes.shape, num, arrangement, best, rows)
            })?;
        }
    }
    Ok(())
}

/// Measures the rate of matrix products and returns the highest, in operations per second.
fn products(device: Device, sizes: &Sizes, rows: &Rows) -> Result<f64> {
    let side = sizes.square;
    let (width, wide) = (sizes.shape.width as i64, sizes.shape.wide as i64);
    let mut best = 0.0_f64;
    for (name, m, k, n) in [
        (format!("product {side} x {side} x {side}"), side, side, side),
        (format!("product {side} x {width} x {wide} (MLP)"), side, width, wide),
    ] {
        let rate = product_rate(device, m, k, n)?;
        best = best.max(rate);
        rows.add(
            &Row::new(PART, name, format!("{:.1} TFLOP/s", rate / 1e12))
                .fact("operations_per_second", rate),
        )?;
    }
    Ok(best)
}

/// Measures copying on the device and returns bytes read and written per second.
fn copy(device: Device, sizes: &Sizes, rows: &Rows) -> Result<f64> {
    let from = Tensor::f_zeros([sizes.copy_bytes], (Kind::Uint8, device))?;
    let mut to = from.empty_like();
    let time = seconds(device, 5, || {
        to.f_copy_(&from)?;
        Ok(())
    })?;
    let rate = 2.0 * sizes.copy_bytes as f64 / time;
    rows.add(
        &Row::new(PART, "copy on the device", format!("{:.2} TB/s", rate / 1e12))
            .fact("bytes_per_second", rate),
    )?;
    Ok(rate)
}

fn prefill(model: &Decoder, shape: &Shape, len: usize, best: f64, rows: &Rows) -> Result<()> {
    let (ids, parents) = (ids(len, 1), chain(len));
    let mut cache = model.new_cache();
    let time = seconds(model.device(), 3, || {
        cache.truncate(0);
        let _ = model.forward(NewTokens { ids: &ids, parents: &parents }, &mut cache)?;
        Ok(())
    })?;
    let rate = shape.prefill_operations(len) / time;
    rows.add(
        &Row::new(
            PART,
            format!("prefill {len}"),
            format!("{:.0} tokens/s, {:.1} TFLOP/s", len as f64 / time, rate / 1e12),
        )
        .against(format!("{:.0} % of the best product", 100.0 * rate / best))
        .fact("tokens", len)
        .fact("seconds", time)
        .fact("operations_per_second", rate)
        .fact("share_of_product", rate / best),
    )
}

/// Any token ids; both tokenizers have more words than this.
pub fn ids(num: usize, seed: usize) -> Vec<u32> {
    (0..num).map(|i| (3 + (seed * 31 + i * 17) % 251) as u32).collect()
}

fn decode(model: &Decoder, sizes: &Sizes, bandwidth: f64, rows: &Rows) -> Result<()> {
    let (num, prompt) = (sizes.sequences, sizes.prompt);
    let mut path = model.new_cache();
    // From half of the longest on.
    let lens: Vec<usize> = (0..num).map(|i| prompt / 2 + (i * 37) % (prompt / 2 + 1)).collect();
    // Room for the steps that warm up and for those that count.
    let mut cache = BatchCache::new(&path, &lens, 2 * sizes.steps);
    for (i, &len) in lens.iter().enumerate() {
        path.truncate(0);
        let new = NewTokens { ids: &ids(len, i), parents: &chain(len) };
        let _ = model.forward(new, &mut path)?;
        cache.fill(i, &path, &(0..path.len()).collect::<Vec<_>>());
    }
    let mut next = ids(num, 0);
    let mut time = 0.0;
    for _ in 0..2 {
        let began = Instant::now();
        for _ in 0..sizes.steps {
            let x_bd = model.step(&next, &mut cache)?;
            // Reading the tokens waits for the device.
            let best: Vec<i64> = Vec::try_from(model.logits(&x_bd).argmax(-1, false))?;
            next = best.into_iter().map(|id| id as u32).collect();
        }
        time = began.elapsed().as_secs_f64() / sizes.steps as f64;
    }
    let shape = sizes.shape;
    let weights = shape.matrix_weights() + (shape.vocab * shape.width) as f64;
    let held = lens.iter().sum::<usize>() + 3 * sizes.steps / 2 * num;
    let keys = 2 * shape.layers * shape.kv_heads * (shape.width / shape.heads) * held;
    let rate = 2.0 * (weights + keys as f64) / time;
    rows.add(
        &Row::new(
            PART,
            format!("decode {num} sequences behind {} to {prompt} tokens", prompt / 2),
            format!("{:.0} tokens/s, {:.2} ms a step", num as f64 / time, 1e3 * time),
        )
        .against(format!("reads at {:.0} % of the copy's rate", 100.0 * rate / bandwidth))
        .fact("sequences", num)
        .fact("step_seconds", time)
        .fact("bytes_per_second", rate),
    )
}

fn leave_one_out(
    scorer: &mut LmScorer,
    shape: &Shape,
    num: usize,
    arrangement: &Arrangement,
    best: f64,
    rows: &Rows,
) -> Result<()> {
    tree::score(scorer, 16.min(num), arrangement, 1000)?;
    let cost = tree::score(scorer, num, arrangement, 0)?;
    let rate = cost.tokens as f64 / cost.seconds;
    let operations = 2.0 * shape.matrix_weights() * rate;
    rows.add(
        &Row::new(
            PART,
            format!("leave-one-out N = {num}, {}", arrangement.name),
            format!(
                "{:.2} s, {rate:.0} tokens/s; {} tokens, {:.1} % saved",
                cost.seconds,
                cost.tokens,
                100.0 * (1.0 - cost.tokens as f64 / cost.full as f64),
            ),
        )
        .against(format!(
            "{:.0} % of the best product, attention not counted",
            100.0 * operations / best
        ))
        .fact("n", num)
        .fact("seconds", cost.seconds)
        .fact("tokens", cost.tokens)
        .fact("tokens_full_prompts", cost.full),
    )
}
