//! How fast does a low-rank adapter train on a model of Llama-3-8B's shape? Its weights are random and
//! made on the device, in bf16; `scripts/bench/gpu_peft.py` does the same with peft.

use tch::{Device, Kind};
use w2s::error::Result;
use w2s::lm::{AdapterConfig, Decoder};
use w2s::run::SeedStream;
use w2s::train::{Item, Parameter, TrainSettings, Trainer};

use super::claims::{LLAMA3_8B, SMALL, Shape};
use super::large::{ids, product_rate, seconds};
use super::rows::{Row, Rows};
use super::train_golden::{config, item, q_and_v, with_adapter};
use super::{Part, Settings};

const PART: &str = Part::TrainLarge.title();
const RANK: usize = 16;
/// Steps of a work that count; two before them do not.
const STEPS: usize = 5;

/// What is trained on in a step.
pub struct Sizes {
    pub shape: &'static Shape,
    pub sequences: usize,
    pub tokens: usize,
}

pub fn sizes(small: bool) -> Sizes {
    if small {
        Sizes { shape: &SMALL, sequences: 2, tokens: 32 }
    } else {
        Sizes { shape: &LLAMA3_8B, sequences: 8, tokens: 512 }
    }
}

/// A work: how many tokens of a sequence are learnt, and whether blocks run again on the way back.
struct Work {
    name: &'static str,
    num_learnt: Option<usize>,
    recompute: bool,
    /// Whether sequences have from a quarter of the tokens to all of them.
    varies: bool,
}

const WORKS: [Work; 4] = [
    Work { name: "all", num_learnt: None, recompute: false, varies: false },
    Work { name: "short", num_learnt: Some(2), recompute: false, varies: false },
    Work { name: "all, recomputed", num_learnt: None, recompute: true, varies: false },
    Work { name: "all, lengths vary", num_learnt: None, recompute: false, varies: true },
];

impl Work {
    /// Returns the tokens of a sequence.
    fn tokens(&self, sizes: &Sizes, index: usize) -> usize {
        match self.varies {
            true => sizes.tokens * (1 + index % 4) / 4,
            false => sizes.tokens,
        }
    }
}

pub fn run(settings: &Settings, device: Device, rows: &Rows) -> Result<()> {
    let sizes = sizes(settings.small);
    let rate = {
        let _no_grad = tch::no_grad_guard();
        let (width, wide) = (sizes.shape.width as i64, sizes.shape.wide as i64);
        let num = (sizes.sequences * sizes.tokens) as i64;
        product_rate(device, num, width, wide)?
    };
    let folder = sizes.shape.folder(&settings.out.join("large"), &settings.models)?;
    let decoder = Decoder::load(&folder, device, Kind::BFloat16)?;
    let lora = AdapterConfig { r: RANK, alpha: 2.0 * RANK as f64, ..config(q_and_v()) };
    let fill =
        |_: &str, shape: &[i64]| tch::Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.01;
    let (decoder, adapter) = with_adapter(decoder, lora, fill)?;
    for work in &WORKS {
        rows.attempt(PART, work.name, || {
            let tensors = adapter.tensors().into_iter();
            let parameters =
                tensors.map(|(name, tensor)| Parameter { name, tensor, decays: true }).collect();
            let (time, loss) = measure(&decoder, parameters, &sizes, work)?;
            let lens: Vec<usize> =
                (0..sizes.sequences).map(|i| work.tokens(&sizes, i)).collect();
            let num: usize = lens.iter().sum();
            let sequences = sizes.sequences;
            let operations = lens.iter().map(|len| {
                let learnt = work.num_learnt.unwrap_or(len - 1);
                sizes.shape.train_operations(1, len - 1, learnt, RANK)
            });
            let operations = operations.sum::<f64>() / time;
            let text = format!(
                "{:.0} ms a step of {sequences} x {}, {:.0} tokens/s, {:.1} TFLOP/s; last loss {loss:.3}",
                1e3 * time,
                sizes.tokens,
                num as f64 / time,
                operations / 1e12,
            );
            rows.add(
                &Row::new(PART, format!("LoRA r {RANK} on q and v, loss on {}", work.name), text)
                    .against(format!("{:.0} % of the MLP product's rate", 100.0 * operations / rate))
                    .passed(loss.is_finite())
                    .fact("work", work.name)
                    .fact("seconds", time)
                    .fact("tokens", num)
                    .fact("operations_per_second", operations)
                    .fact("share_of_product", operations / rate),
            )
        })?;
    }
    Ok(())
}

/// Returns the median seconds of a step and the last loss.
fn measure(
    decoder: &Decoder,
    parameters: Vec<Parameter>,
    sizes: &Sizes,
    work: &Work,
) -> Result<(f64, f64)> {
    let num_items = sizes.sequences * (STEPS + 2);
    let items: Vec<Item> = (0..num_items)
        .map(|i| {
            let num = work.tokens(sizes, i);
            let begin = work.num_learnt.map_or(1, |learnt| num - learnt);
            item(&i.to_string(), &ids(num, i), begin, 1.0)
        })
        .collect();
    let settings = TrainSettings {
        batch_size: sizes.sequences,
        num_epochs: 1,
        lr: 1e-4,
        dropout: 0.0,
        recompute: work.recompute,
        pass_tokens: usize::MAX,
        ..TrainSettings::default()
    };
    let mut trainer = Trainer::new(decoder, parameters, &items, settings, SeedStream::new(0))?;
    let mut loss = f64::NAN;
    let time = seconds(decoder.device(), STEPS, || {
        loss = trainer.step()?.loss;
        Ok(())
    })?;
    Ok((time, loss))
}
