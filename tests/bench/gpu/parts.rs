//! Runs the parts one after the other, each in its own process, and watches time and memory.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use w2s::error::{Error, Result};
use w2s::lm::DeviceChoice;

use crate::rows::{Row, Rows};
use crate::{Part, Settings, train_large, tree};

/// Seconds that a part may take.
fn limit(part: Part) -> u64 {
    match part {
        Part::Kernels => 40,
        Part::Parity => 50,
        Part::Real => 40,
        Part::Train => 60,
        Part::Tree => 80,
        Part::Large => 100,
        Part::TrainLarge => 70,
        Part::Transformers | Part::Peft => 50,
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(250);

pub fn run(settings: &Settings, file: &Path, rows: &Rows) -> Result<()> {
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(settings.minutes.max(0.0) * 60.0);
    for &part in Part::value_variants() {
        let title = part.title();
        // On a CPU the real models take minutes, and tests have them.
        if settings.small && part == Part::Real {
            rows.add(&Row::new(title, "", "left out: sizes are small"))?;
            continue;
        }
        let left = end.saturating_duration_since(Instant::now());
        let allowed = left.min(Duration::from_secs(limit(part)));
        if allowed < Duration::from_secs(5) {
            rows.add(&Row::new(title, "", "left out: no time is left").passed(false))?;
            continue;
        }
        let command = match part {
            Part::Transformers => transformers(settings, file, allowed)?,
            Part::Peft => peft(settings, file, allowed)?,
            _ => Some(own(settings, file, part)?),
        };
        let Some(command) = command else {
            rows.add(&Row::new(title, "", "left out: no Python was named"))?;
            continue;
        };
        println!("{title}: at most {} s", allowed.as_secs());
        let ended = watch(settings, command, allowed)?;
        let text = format!("{:.0} s; {}", ended.seconds, ended.memory);
        let row = Row::new(title, "the whole part", text).fact("seconds", ended.seconds);
        rows.add(&match (ended.failure, part) {
            (None, _) => row,
            // The comparison is not what is checked.
            (Some(failure), Part::Transformers | Part::Peft) => row.against(failure),
            (Some(failure), _) => row.against(failure).passed(false),
        })?;
    }
    Ok(())
}

/// This program again, for one part.
pub fn own(settings: &Settings, file: &Path, part: Part) -> Result<Command> {
    let program =
        std::env::current_exe().map_err(|e| Error::io("find", Path::new("this program"), &e))?;
    let mut command = Command::new(program);
    if let Some(value) = part.to_possible_value() {
        command.arg("--part").arg(value.get_name());
    }
    command.arg("--rows").arg(file);
    command.arg("--device").arg(settings.device.to_string());
    command.arg("--out").arg(&settings.out).arg("--models").arg(&settings.models);
    if settings.small {
        command.arg("--small");
    }
    Ok(command)
}

/// The comparison, if a Python was named.
fn transformers(settings: &Settings, file: &Path, allowed: Duration) -> Result<Option<Command>> {
    let Some(python) = &settings.python else { return Ok(None) };
    let mut command = Command::new(python);
    command.arg("scripts/bench/gpu_transformers.py");
    command.arg("--model").arg(tree::model_folder(settings)?);
    command.arg("--rows").arg(file);
    command.arg("--device").arg(settings.device.to_string());
    // Part of the time goes to starting up.
    command.arg("--seconds").arg((allowed.as_secs_f64() * 0.6).to_string());
    for &num in tree::sizes(settings.small) {
        command.arg("--prompts").arg(tree::prompts_file(settings, num));
    }
    Ok(Some(command))
}

/// The comparison of training, if a Python was named.
fn peft(settings: &Settings, file: &Path, allowed: Duration) -> Result<Option<Command>> {
    let Some(python) = &settings.python else { return Ok(None) };
    let sizes = train_large::sizes(settings.small);
    let mut command = Command::new(python);
    command.arg("scripts/bench/gpu_peft.py");
    command.arg("--model").arg(sizes.shape.folder(&settings.out.join("large"), &settings.models)?);
    command.arg("--rows").arg(file);
    command.arg("--device").arg(settings.device.to_string());
    command.arg("--seconds").arg((allowed.as_secs_f64() * 0.6).to_string());
    command.arg("--sequences").arg(sizes.sequences.to_string());
    command.arg("--tokens").arg(sizes.tokens.to_string());
    Ok(Some(command))
}

/// How a part ended.
struct Ended {
    seconds: f64,
    memory: String,
    failure: Option<String>,
}

fn watch(settings: &Settings, mut command: Command, allowed: Duration) -> Result<Ended> {
    // F32 is to be f32 on both sides, whatever the user's environment says.
    command.env("NVIDIA_TF32_OVERRIDE", "0").env_remove("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE");
    if std::env::var_os("OMP_WAIT_POLICY").is_none() {
        command.env("OMP_WAIT_POLICY", "passive");
    }
    command.stdin(Stdio::null());
    let program = command.get_program().to_owned();
    let mut memory = Memory::new(&settings.device);
    let began = Instant::now();
    let mut child = command.spawn().map_err(|e| Error::io("start", Path::new(&program), &e))?;
    let mut failure = None;
    loop {
        let status =
            child.try_wait().map_err(|e| Error::io("wait for", Path::new(&program), &e))?;
        if let Some(status) = status {
            if !status.success() {
                failure = Some(format!("ended early: {status}"));
            }
            break;
        }
        if began.elapsed() >= allowed {
            // It may have ended this moment; then there is nothing to stop.
            let _ = child.kill();
            let _ = child.wait();
            failure = Some(format!("stopped after {} s", allowed.as_secs()));
            break;
        }
        memory.look(&child);
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(Ended { seconds: began.elapsed().as_secs_f64(), memory: memory.text(), failure })
}

/// The most memory seen: of the GPU as `nvidia-smi` counts it, of the process on a CPU.
struct Memory {
    gpu: Option<usize>,
    before_mib: f64,
    peak_mib: f64,
}

impl Memory {
    fn new(device: &DeviceChoice) -> Self {
        let gpu = match device {
            DeviceChoice::Cuda(index) => Some(*index),
            _ => None,
        };
        let before_mib = gpu.and_then(gpu_memory_mib).unwrap_or(0.0);
        Self { gpu, before_mib, peak_mib: before_mib }
    }

    fn look(&mut self, child: &Child) {
        let now = match self.gpu {
            Some(index) => gpu_memory_mib(index),
            None => process_memory_mib(child.id()),
        };
        self.peak_mib = self.peak_mib.max(now.unwrap_or(0.0));
    }

    fn text(&self) -> String {
        match self.gpu {
            Some(_) => format!(
                "peak device memory {:.1} GiB ({:.1} before)",
                self.peak_mib / 1024.0,
                self.before_mib / 1024.0
            ),
            None => format!("peak memory {:.2} GiB", self.peak_mib / 1024.0),
        }
    }
}

fn gpu_memory_mib(index: usize) -> Option<f64> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i"])
        .arg(index.to_string())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn process_memory_mib(id: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}
