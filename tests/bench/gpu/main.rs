//! The engine on a GPU: is it right there, how fast is it, what does it need? `scripts/gpu-check`
//! builds and runs it.
//!
//! Every part runs in a process of its own under a time limit, so that a part which fails, hangs or
//! takes all memory costs only itself. Rows come together in one table and a JSON file.

#![expect(clippy::print_stdout, reason = "the table is for people")]

mod claims;
#[path = "../../it/golden.rs"]
mod golden;
mod kernels;
mod large;
mod parity;
mod parts;
mod rows;
mod train;
#[path = "../../it/train_golden.rs"]
mod train_golden;
mod train_large;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use w2s::error::{Error, Result};
use w2s::lm::{DeviceChoice, DtypeChoice, resolve_device};

use crate::rows::{Row, Rows};

/// Check and measure the engine on a device; run it in the project's folder
#[derive(Clone, Debug, Parser)]
pub(crate) struct Settings {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
    /// Tiny sizes, to try the program itself without a GPU
    #[arg(long)]
    small: bool,
    /// Where table.md, rows.json and what the parts need are written
    #[arg(long, value_name = "DIR", default_value = "target/gpu-check")]
    out: PathBuf,
    /// The folder of the real models
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
    /// Minutes after which parts not yet begun are left out
    #[arg(long, default_value_t = 9.0)]
    minutes: f64,
    /// A Python, for the comparison with transformers
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// A line above the table
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Only this part, and its rows to the end of the file --rows
    #[arg(long, hide = true, requires = "rows")]
    part: Option<Part>,
    #[arg(long, hide = true)]
    rows: Option<PathBuf>,
    /// One of two processes that train together, as the environment says
    #[arg(long, hide = true)]
    peer: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part, in the order of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Kernels,
    Parity,
    Real,
    Train,
    Tree,
    Large,
    TrainLarge,
    Transformers,
    Peft,
}

impl Part {
    /// Returns the part's name in the table.
    const fn title(self) -> &'static str {
        match self {
            Self::Kernels => "kernels",
            Self::Parity => "parity",
            Self::Real => "real model",
            Self::Train => "training",
            Self::Tree => "tree",
            Self::Large => "8B shape",
            Self::TrainLarge => "8B training",
            Self::Transformers => "transformers",
            Self::Peft => "peft",
        }
    }
}

fn main() -> ExitCode {
    w2s::lm::settle_environment();
    let settings = Settings::parse();
    let done = match (&settings.part, &settings.rows) {
        (Some(part), Some(rows)) => run_part(&settings, *part, &Rows::new(rows)),
        _ => run_all(&settings),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one part and returns whether it came to its end; what stopped it becomes a row.
fn run_part(settings: &Settings, part: Part, rows: &Rows) -> Result<bool> {
    let mut whole = false;
    rows.attempt(part.title(), "the whole part", || {
        // Before any other use of libtorch, which remembers whether it found its CUDA half.
        let (devices, _) = resolve_device(&settings.device, DtypeChoice::F32)?;
        let device = devices.first();
        let trains = matches!(part, Part::Kernels | Part::Train | Part::TrainLarge);
        let _no_grad = (!trains).then(tch::no_grad_guard);
        match part {
            Part::Kernels => kernels::run(device, rows),
            Part::Parity => parity::tiny(device, rows),
            Part::Real => parity::real(device, &settings.models, rows),
            Part::Tree => tree::run(settings, rows),
            Part::Large => large::run(settings, device, rows),
            Part::Train if settings.peer => train::peer(device, rows),
            Part::Train => train::run(settings, device, rows),
            Part::TrainLarge => train_large::run(settings, device, rows),
            // Python's, and never started here.
            Part::Transformers | Part::Peft => Ok(()),
        }?;
        whole = true;
        Ok(())
    })?;
    Ok(whole)
}

/// Runs all parts and returns whether none failed.
fn run_all(settings: &Settings) -> Result<bool> {
    let out = &settings.out;
    std::fs::create_dir_all(out).map_err(|e| Error::io("make", out, &e))?;
    let file = out.join("rows.jsonl");
    if file.exists() {
        std::fs::remove_file(&file).map_err(|e| Error::io("remove", &file, &e))?;
    }
    let rows = Rows::new(&file);
    parts::run(settings, &file, &rows)?;
    let mut all: Vec<Row> = rows.read();
    rows::compare(&mut all);
    rows::compare_training(&mut all);
    let mut text = String::new();
    if let Some(note) = &settings.note {
        text += &format!("{note}\n\n");
    }
    text += &rows::table(&all);
    let write = |name: &str, text: &str| {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(|e| Error::io("write", &path, &e))
    };
    write("table.md", &text)?;
    write(
        "rows.json",
        &format!("{:#}\n", serde_json::json!({"note": settings.note, "rows": all})),
    )?;
    print!("{text}");
    Ok(all.iter().all(|row| row.ok != Some(false)))
}
