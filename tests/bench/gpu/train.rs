//! Is training right on the device? Against peft's numbers and the CPU's, interrupted and resumed,
//! with blocks on two devices, and in two processes.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use w2s::error::{Error, ErrorKind, Result};
use w2s::lm::{Decoder, LmConfig, Placement, TargetModules, Tokenizer};
use w2s::run::SeedStream;
use w2s::train::{
    Checkpointing, Group, Normalise, Patience, ProcessRank, State, TrainSettings, Trainer,
};

use super::golden::{TOLERANCE, fixture_difference, fixtures};
use super::rows::{Row, Rows};
use super::train_golden::{
    NORMALISATIONS, config, golden_items, golden_settings, golden_start, parameters, q_and_v,
    with_adapter,
};
use super::{Part, Settings, parts};

const PART: &str = Part::Train.title();
const FOLDER: &str = "tests/parity/llama";
/// How long two processes may take.
const PEERS: Duration = Duration::from_secs(40);

fn cpu_copies(tensors: &[(String, Tensor)]) -> Vec<Tensor> {
    tensors.iter().map(|(_, tensor)| tensor.detach().to_device(Device::Cpu).copy()).collect()
}

fn apart(a: &[Tensor], b: &[Tensor]) -> f64 {
    let largest = |(a, b): (&Tensor, &Tensor)| (a - b).abs().max().double_value(&[]);
    a.iter().zip(b).map(largest).fold(0.0, f64::max)
}

/// Makes the golden training and returns how far its losses and norms are from peft's, and what the
/// adapter came to.
fn golden_run(
    decoder: Decoder,
    (name, normalise): (&str, Normalise),
    group: Option<&Group>,
) -> Result<(f64, Vec<Tensor>)> {
    let (golden, items) = golden_items(Path::new(FOLDER))?;
    let (decoder, adapter) = with_adapter(decoder, config(q_and_v()), golden_start)?;
    let settings = golden_settings(normalise);
    let streams = SeedStream::new(3);
    let mut trainer = Trainer::new(&decoder, parameters(&adapter), &items, settings, streams)?;
    if let Some(group) = group {
        trainer = trainer.in_group(group);
    }
    let run = golden
        .runs
        .get(name)
        .ok_or_else(|| Error::new(ErrorKind::Data, format!("no golden run `{name}`")))?;
    let mut worst = 0.0_f64;
    for (loss, norm) in run.loss.iter().zip(&run.grad_norm_before_clip) {
        let step = trainer.step()?;
        worst = worst.max((step.loss - loss).abs()).max((step.grad_norm - norm).abs());
    }
    Ok((worst, cpu_copies(&adapter.tensors())))
}

fn load(device: Device) -> Result<Decoder> {
    load_in(device, Kind::Float)
}

fn load_in(device: Device, kind: Kind) -> Result<Decoder> {
    Decoder::load(Path::new(FOLDER), device, kind)
}

pub fn run(settings: &Settings, device: Device, rows: &Rows) -> Result<()> {
    for run in NORMALISATIONS {
        rows.attempt(PART, &format!("golden LoRA steps, {}", run.0), || {
            let (worst, tensors) = golden_run(load(device)?, run, None)?;
            let from_cpu = apart(&tensors, &golden_run(load(Device::Cpu)?, run, None)?.1);
            rows.add(
                &Row::new(
                    PART,
                    format!("golden LoRA steps, {}", run.0),
                    format!("{worst:.1e} from peft; adapter {from_cpu:.1e} from the CPU's"),
                )
                .against(format!("{TOLERANCE:.0e}"))
                .passed(worst < TOLERANCE && from_cpu < TOLERANCE)
                .fact("from_peft", worst)
                .fact("from_cpu", from_cpu),
            )
        })?;
    }
    for (recompute, kind, what) in [
        (false, Kind::Float, "resumed"),
        (true, Kind::Float, "resumed, blocks run again"),
        (false, Kind::BFloat16, "resumed in bf16"),
        (true, Kind::BFloat16, "resumed in bf16, blocks run again"),
    ] {
        rows.attempt(PART, what, || resumed(settings, device, (recompute, kind), what, rows))?;
    }
    for first in [true, false] {
        let what = if first {
            "blocks on the device and the CPU"
        } else {
            "blocks on the CPU and the device"
        };
        rows.attempt(PART, what, || spread(device, first, what, rows))?;
    }
    rows.attempt(PART, "two processes", || peers(settings, rows))
}

/// Six steps with dropout at once, and three, a checkpoint, and three.
fn resumed(
    settings: &Settings,
    device: Device,
    (recompute, kind): (bool, Kind),
    what: &str,
    rows: &Rows,
) -> Result<()> {
    let folder = settings.out.join("checkpoint");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io("make", &folder, &e))?;
    let (_, items) = golden_items(Path::new(FOLDER))?;
    let train = |from: usize, to: usize| -> Result<Vec<Tensor>> {
        let modules = config(TargetModules::AllLinear);
        let (decoder, adapter) = with_adapter(load_in(device, kind)?, modules, golden_start)?;
        let train_settings =
            TrainSettings { dropout: 0.2, recompute, ..golden_settings(Normalise::Token) };
        let streams = SeedStream::new(3);
        let mut trainer =
            Trainer::new(&decoder, parameters(&adapter), &items, train_settings, streams)?;
        let mut checkpoints = Checkpointing::new(&folder, None, None);
        if from > 0 {
            checkpoints.resume(&mut trainer)?;
        }
        while trainer.num_done() < to {
            trainer.step()?;
        }
        checkpoints.write(&trainer, &State { step: to, ..State::default() })?;
        Ok(cpu_copies(&adapter.tensors()))
    };
    let straight = train(0, 6)?;
    let again = apart(&straight, &train(0, 6)?);
    train(0, 3)?;
    let difference = apart(&straight, &train(3, 6)?);
    let result = if difference == 0.0 {
        "the same bytes".to_owned()
    } else {
        format!("{difference:.1e} from the straight run, which is {again:.1e} from itself")
    };
    rows.add(
        &Row::new(PART, what, result)
            .against("the same bytes")
            .passed(difference == 0.0)
            .fact("difference", difference)
            .fact("difference_of_repeats", again),
    )
}

/// Every family with its blocks on two devices, which shows that everything moves that has to.
fn spread(device: Device, device_first: bool, what: &str, rows: &Rows) -> Result<()> {
    let placed = |folder: &Path| {
        let num = LmConfig::read(&folder.join("config.json"))?.layers.len();
        let mut devices = [device, Device::Cpu];
        if !device_first {
            devices.reverse();
        }
        let placement = Placement::new(vec![(devices[0], 1), (devices[1], num - 1)]);
        Decoder::load_placed(folder, placement, Kind::Float)
    };
    let mut worst = 0.0_f64;
    for folder in fixtures(Path::new("tests/parity"))? {
        let _no_grad = tch::no_grad_guard();
        let seen = fixture_difference(&folder, &placed(&folder)?, &Tokenizer::open(&folder)?)?;
        worst = worst.max(seen.logprob);
    }
    let trained = golden_run(placed(Path::new(FOLDER))?, NORMALISATIONS[1], None)?.0;
    rows.add(
        &Row::new(PART, what, format!("families {worst:.1e}, LoRA steps {trained:.1e}"))
            .against(format!("{TOLERANCE:.0e}"))
            .passed(worst < TOLERANCE && trained < TOLERANCE)
            .fact("largest_difference", worst)
            .fact("from_peft", trained),
    )
}

/// Starts this program twice, to train as one.
fn peers(settings: &Settings, rows: &Rows) -> Result<()> {
    let io = |e: std::io::Error| Error::io("start", Path::new("two processes"), &e);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(io)?.port();
    let mut children = (0..2)
        .map(|rank| {
            let mut command = parts::own(settings, rows.path(), Part::Train)?;
            command.arg("--peer").env("RANK", rank.to_string()).env("WORLD_SIZE", "2");
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
            command.spawn().map_err(io)
        })
        .collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let mut failure = None;
    for (rank, child) in children.iter_mut().enumerate() {
        loop {
            match child.try_wait().map_err(io)? {
                Some(status) if status.success() => break,
                Some(status) => {
                    failure = Some(format!("rank {rank} ended early: {status}"));
                    break;
                }
                None if began.elapsed() > PEERS => {
                    let _ = child.kill();
                    let _ = child.wait();
                    failure = Some(format!("rank {rank} was stopped after {} s", PEERS.as_secs()));
                    break;
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
    failure.map_or(Ok(()), |failure| Err(Error::new(ErrorKind::Group, failure)))
}

/// One of the two: on a GPU of its own where there are several, else both on one.
pub fn peer(device: Device, rows: &Rows) -> Result<()> {
    let process = ProcessRank::from_environment()?
        .ok_or_else(|| Error::new(ErrorKind::Usage, "the environment gives no rank"))?;
    let device = match device {
        Device::Cuda(n) => Device::Cuda((n + process.rank) % tch::Cuda::device_count() as usize),
        other => other,
    };
    let patience = Patience { join: Duration::from_secs(20), peer: Duration::from_secs(20) };
    let mut group = Group::join(&process, patience)?;
    let reason = group.use_gpus(device)?;
    let (worst, _) = golden_run(load(device)?, NORMALISATIONS[1], Some(&group))?;
    if !group.is_first() {
        return Ok(());
    }
    let by = match (device, reason) {
        (Device::Cuda(_), None) => "NCCL".to_owned(),
        (_, None) => "Gloo".to_owned(),
        (_, Some(reason)) => format!("Gloo ({reason})"),
    };
    rows.add(
        &Row::new(
            PART,
            "two processes",
            format!("{worst:.1e} from peft; gradients summed by {by}"),
        )
        .against(format!("{TOLERANCE:.0e}"))
        .passed(worst < TOLERANCE)
        .fact("from_peft", worst),
    )
}
