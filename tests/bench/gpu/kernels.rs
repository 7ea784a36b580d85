//! Which kernel computes attention of each shape, and is it right? First of all, as nothing after it is
//! worth its time on products by parts where FlashAttention was meant.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use w2s::error::Result;
use w2s::lm::{
    BatchCache, Decoder, Derivatives, DeviceWork, NewTokens, Operations, PassPlan, SeenBy, Target,
    TrainTokens, attention_kernel, host_copies,
};

use super::Part;
use super::golden::{chain, fixtures};
use super::large::ids;
use super::rows::{Row, Rows};

const PART: &str = Part::Kernels.title();
/// Models whose heads have these sizes.
const SHAPES: [(&str, usize); 5] = [
    ("SmolLM2-135M", 64),
    ("GPT-NeoX and Phi-2 style", 80),
    ("Llama-3-8B, Qwen3, Mistral", 128),
    ("Gemma-3", 256),
    ("the fixtures", 16),
];
/// How far states and gradients in bf16 may be from those of the CPU in bf16, as a share of the largest.
const TOLERANCE: f64 = 5e-2;

pub fn run(device: Device, rows: &Rows) -> Result<()> {
    for (name, head) in SHAPES {
        for (kind, meant) in
            [(Kind::BFloat16, "flash"), (Kind::Half, "flash"), (Kind::Float, "math")]
        {
            let kernel = attention_kernel(device, kind, head);
            let row = Row::new(PART, format!("{name}, head {head}, {kind:?}"), kernel);
            // On a CPU there is no choice.
            rows.add(&match device.is_cuda() {
                true => row.against(format!("{meant} was meant")).passed(kernel == meant),
                false => row,
            })?;
        }
    }
    for folder in fixtures(Path::new("tests/parity"))? {
        let family = folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
        rows.attempt(PART, &family, || same(&folder, &family, device, rows))?;
    }
    rows.attempt(PART, "copies of a pass", || copies(device, rows))
}

/// Path, a tree behind it, steps of sequences of several lengths; then gradients of two sequences of
/// which one forks.
fn states(folder: &Path, device: Device) -> Result<(String, Vec<Tensor>)> {
    let mut decoder = Decoder::load(folder, device, Kind::BFloat16)?;
    let kernel = decoder.attention().to_owned();
    let mut states = Vec::new();
    {
        let _no_grad = tch::no_grad_guard();
        let mut cache = decoder.new_cache();
        let new = NewTokens { ids: &ids(40, 1), parents: &chain(40) };
        states.push(decoder.forward(new, &mut cache)?);
        let mut parents = chain(30);
        for at in [29, 29, 12] {
            parents.push(Some(at));
            parents.extend((0..4).map(|i| Some(parents.len() - 1 + i)).collect::<Vec<_>>());
        }
        let new = NewTokens { ids: &ids(parents.len(), 2), parents: &parents };
        states.push(decoder.forward(new, &mut cache)?);
        let lens = [40, 25, 33];
        let mut batch = BatchCache::new(&cache, &lens, 4);
        for (row, len) in lens.into_iter().enumerate() {
            batch.fill(row, &cache, &(0..len).collect::<Vec<_>>());
        }
        for step in 0..3 {
            states.push(decoder.step(&ids(3, step), &mut batch)?);
        }
    }
    let trained = decoder.train_all()?;
    let mut parents = chain(30);
    parents.extend([Some(20), Some(30), Some(31), None]);
    parents.extend((33..60).map(Some));
    let ids = ids(parents.len(), 3);
    let targets = [3, 15, 29, 32, 40, 59].map(|row| Target { row, id: 7 + row as u32 });
    let tokens = NewTokens { ids: &ids, parents: &parents };
    let at = TrainTokens { tokens, targets: &targets, dropout: None };
    decoder.backward(at, false, Derivatives::Known(&[-0.2; 6]))?;
    states.extend(trained.into_iter().map(|own| own.tensor.grad()));
    Ok((kernel, states))
}

/// A family in bf16 on the device and on the CPU.
fn same(folder: &Path, family: &str, device: Device, rows: &Rows) -> Result<()> {
    let (kernel, found) = states(folder, device)?;
    let (_, expected) = states(folder, Device::Cpu)?;
    let wide = |x: &Tensor| x.to_device(Device::Cpu).to_kind(Kind::Double);
    let worst = found.iter().zip(&expected).map(|(found, expected)| {
        let expected = wide(expected);
        let largest = expected.abs().max().double_value(&[]).max(1e-3);
        (wide(found) - &expected).abs().max().double_value(&[]) / largest
    });
    let worst = worst.fold(0.0, f64::max);
    rows.add(
        &Row::new(
            PART,
            format!("{family}, states and gradients in bf16"),
            format!("{worst:.1e} from the CPU, by {kernel}"),
        )
        .against(format!("{TOLERANCE:.0e}"))
        .passed(worst < TOLERANCE)
        .fact("largest_difference", worst)
        .fact("kernel", kernel.as_str()),
    )
}

/// A pass of 4,096 tokens that forks, behind a path.
fn copies(device: Device, rows: &Rows) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let decoder = Decoder::load(Path::new("tests/parity/llama"), device, Kind::BFloat16)?;
    let mut cache = decoder.new_cache();
    let _ = decoder.forward(NewTokens { ids: &ids(64, 1), parents: &chain(64) }, &mut cache)?;
    let mut parents = chain(512);
    while parents.len() < 4096 {
        let end = 64.min(4096 - parents.len());
        parents.push(Some(255));
        parents.extend((0..end - 1).map(|i| Some(parents.len() - 1 + i)).collect::<Vec<_>>());
    }
    let before = host_copies();
    let new = NewTokens { ids: &ids(parents.len(), 2), parents: &parents };
    let (run, operations) = Operations::of(|| decoder.forward(new, &mut cache));
    let _ = run?;
    let after = host_copies();
    let pass = PassPlan { past: 64, parents: parents.clone(), num_rows: 0 };
    let planned =
        DeviceWork::of_tree(decoder.config(), Kind::BFloat16, &[pass], SeenBy::Calls).num_launches;
    let row = Row::new(
        PART,
        "operations of a pass",
        format!("{}, {} allocations", operations.total(), operations.num_allocations),
    );
    rows.add(&match device.is_cuda() {
        true => row.against(format!("{planned} counted from the plan")),
        // Another kernel is at work there.
        false => row,
    })?;
    let (all, large) = (after.0 - before.0, after.1 - before.1);
    rows.add(
        &Row::new(PART, "copies of a pass", format!("{all}, {large} of them over 64 KiB"))
            .against("1, none over 64 KiB")
            .passed(all == 1 && large == 0)
            .fact("copies", all)
            .fact("large_copies", large),
    )
}
