//! `--engine trl`: a training by transformers, PEFT and accelerate, on as many processes and machines as
//! their launcher has.
//!
//! What is learnt is settled here: sequences with the border of the label, what each target token counts
//! in each step (weight and normalisation), learning rates, and the adapter's first numbers. A small
//! program in Python makes the steps and tells of them; the adapter that it writes becomes the run's, so
//! that the run is one like any other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::options::TrainJob;
use super::trained::Trained;
use crate::data::json_lines;
use crate::error::{Error, ErrorKind, Result};
use crate::lm::{ADAPTER_WEIGHTS, DeviceChoice, DtypeChoice, read_tensors};
use crate::pipeline::model::ModelOptions;
use crate::pipeline::note::Note;
use crate::pipeline::observer::{Event, Resume};
use crate::pipeline::usage::{no_effect, wrong};
use crate::pipeline::voice::Voice;
use crate::run::files::{ENGINE, METRICS};
use crate::run::{RunDir, write_atomic};
use crate::train::{EventFile, Item, Loss, PlannedStep, State, StepReport, Trainer};

/// The program that makes the steps.
const PROGRAM: &str = include_str!("trainer.py");
/// Where it works, in the run's folder.
const FOLDER: &str = "engine";
/// What its own lines begin with.
const MARK: &str = "w2s: ";
/// Lines of its output that an error shows.
const SHOWN_LINES: usize = 12;
/// The modules that it needs.
const MODULES: &str = "torch, transformers, peft, accelerate, safetensors";

/// A line of the program.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    Begin(Map<String, Value>),
    Step(StepReport),
    Validation(Validation),
    End(End),
    Missing(String),
    Failed(String),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Validation {
    step: usize,
    validation_loss: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct End {
    step: usize,
    written_step: usize,
    best: Option<(f64, usize)>,
    stopped: bool,
}

/// What an engine's training came to.
pub(super) struct Engined {
    pub(super) reports: Vec<StepReport>,
    pub(super) state: State,
    pub(super) written_step: usize,
    /// Tokens run since the program began.
    pub(super) session_tokens: u64,
}

impl TrainJob {
    /// Refuses what an engine cannot do.
    pub(super) fn check_engine(&self) -> Result<()> {
        if !self.engine.is_given() {
            return Ok(());
        }
        if self.full {
            return Err(wrong(
                "`--engine trl` trains adapters, not all weights",
                "leave `--full` or `--engine` out",
            ));
        }
        if self.loss() != Loss::Tokens {
            return Err(wrong(
                "`--engine trl` has the loss `xent` only",
                "losses over labels are those of `w2s train` itself; leave `--engine` out",
            ));
        }
        let elsewhere = [
            ("device", self.model.device != DeviceChoice::Auto),
            ("memory", self.model.memory.is_some()),
            ("threads", self.model.threads.is_some()),
            ("join-timeout", self.join_timeout.is_some()),
            ("peer-timeout", self.peer_timeout.is_some()),
        ];
        match elsewhere.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(no_effect(name, "with `--engine`, whose launcher settles it")),
            None => self.engine.command().map(drop),
        }
    }

    /// Refuses an engine that is not there, before anything is made. What another launcher starts is not
    /// known.
    pub(super) fn check_modules(&self) -> Result<()> {
        if self.engine.launcher.is_some() {
            return Ok(());
        }
        let python = self.engine.interpreter();
        let output = Command::new(&python)
            .args(["-c", &format!("import {MODULES}")])
            .output()
            .map_err(|why| not_started(&python, &why))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it says nothing").to_owned();
        Err(Error::new(
            ErrorKind::Usage,
            format!("`{python}` does not have what the engine needs: {last}"),
        )
        .hint(format!("install {MODULES} there, or name another with `--python`")))
    }

    /// The model as it is opened here. Where an engine runs it, its files are read in their own number
    /// type, so that they take no memory.
    pub(super) fn here(&self) -> ModelOptions {
        if !self.engine.is_given() {
            return self.model.clone();
        }
        let config =
            std::fs::read_to_string(self.model.model.join("config.json")).unwrap_or_default();
        let config: Value = serde_json::from_str(&config).unwrap_or_default();
        let stored = config.get("dtype").or_else(|| config.get("torch_dtype"));
        let dtype = match stored.and_then(Value::as_str) {
            Some("bfloat16") => DtypeChoice::Bf16,
            Some("float16") => DtypeChoice::F16,
            _ => DtypeChoice::F32,
        };
        ModelOptions { device: DeviceChoice::Cpu, dtype, ..self.model.clone() }
    }

    /// What the manifest says of where an engine runs the model.
    pub(super) fn engine_settings(&self, settings: &mut Map<String, Value>) {
        settings.insert("engine".into(), json!(self.engine.engine));
        settings.insert("device".into(), "the engine's".into());
        settings.insert("dtype".into(), self.model.dtype.to_string().into());
    }
}

/// Deletes what an engine worked with, once its run is complete: all of it is in the run.
pub(super) fn tidy(folder: &RunDir) {
    // What cannot be deleted is in nobody's way.
    let _ = std::fs::remove_dir_all(folder.file(FOLDER));
}

/// A training that an engine makes, in a run's folder.
pub(super) struct EngineRun<'a> {
    pub(super) args: &'a TrainJob,
    pub(super) folder: &'a RunDir,
    pub(super) trainer: &'a Trainer<'a>,
    pub(super) trained: &'a Trained,
    pub(super) items: &'a [Item],
    pub(super) validation: &'a [Item],
}

impl EngineRun<'_> {
    fn place(&self) -> PathBuf {
        self.folder.file(FOLDER)
    }

    /// Makes the training, and takes the adapter.
    pub(super) fn train(&self, voice: &Voice<'_>) -> Result<Engined> {
        let place = self.place();
        self.write(&place)?;
        let command = self.args.engine.command()?;
        let engined = self.steps(&command, voice)?;
        self.take(&place.join("output"))?;
        Ok(engined)
    }

    /// Writes what the program reads.
    fn write(&self, place: &Path) -> Result<()> {
        let Trained::Adapter(adapter) = self.trained else {
            return Err(Error::new(ErrorKind::Internal, "an engine that trains all weights"));
        };
        let initial = place.join("initial");
        std::fs::create_dir_all(&initial)
            .map_err(|e| Error::io("make the folder", &initial, &e))?;
        adapter.save(&initial)?;
        let mut sequences = Vec::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        for item in self.items.iter().chain(self.validation) {
            places.push((0..item.answers.len()).map(|answer| sequences.len() + answer).collect());
            for answer in &item.answers {
                sequences.push(json!({ "id": item.id, "begin": answer.begin, "ids": answer.ids }));
            }
        }
        let settings = self.trainer.settings();
        let rows = |items: &[usize], factors: Vec<Vec<f64>>| -> Vec<Value> {
            let all = items.iter().zip(factors);
            let row = |(&item, factors): (&usize, Vec<f64>)| {
                places[item].iter().copied().zip(factors).map(|row| json!(row)).collect::<Vec<_>>()
            };
            all.flat_map(row).collect()
        };
        let step = |step: PlannedStep| {
            let rows = rows(&step.items, step.factors);
            json!({ "step": step.step, "epoch": step.epoch, "lr": step.lr, "rows": rows,
                "num_items": step.items.len(), "ends_epoch": step.ends_epoch })
        };
        let steps: Vec<Value> = self.trainer.planned().map(step).collect();
        let aside: Vec<&Item> = self.validation.iter().collect();
        let of_validation: Vec<usize> =
            (self.items.len()..self.items.len() + self.validation.len()).collect();
        let validation = match aside.is_empty() {
            true => Vec::new(),
            false => rows(&of_validation, settings.normalise.token_factors(&aside)),
        };
        let model = std::path::absolute(&self.args.model.model)
            .map_err(|e| Error::io("find", &self.args.model.model, &e))?;
        let dtype = self.args.model.dtype.to_string();
        let config = json!({
            "model": model.display().to_string(),
            "dtype": dtype,
            "seed": self.args.run.seed,
            "dropout": settings.dropout,
            "weight_decay": settings.weight_decay,
            "clip": settings.clip,
            "recompute": settings.recompute,
            "pass_sequences": self.args.micro_batch,
            "pass_tokens": self.args.model.pack_tokens,
            "checkpoint_steps": self.args.checkpoint_steps,
            "checkpoint_seconds": 60.0 * self.args.checkpoint_minutes,
            "validate_every": self.args.validate_every,
            "best": self.args.best,
            "patience": self.args.patience,
            "validation": validation,
        });
        write_atomic(&place.join("trainer.py"), PROGRAM.as_bytes())?;
        write_atomic(&place.join("sequences.jsonl"), &json_lines(&sequences)?)?;
        write_atomic(&place.join("steps.jsonl"), &json_lines(&steps)?)?;
        write_atomic(&place.join("config.json"), format!("{config:#}\n").as_bytes())
    }

    /// Starts the program, and hears what it tells to its end.
    fn steps(&self, command: &[String], voice: &Voice<'_>) -> Result<Engined> {
        let place = self.place();
        let log = self.place().join("log.txt");
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|e| Error::io("write", path, &e))
        };
        let (mut own, theirs) = (open(&log)?, open(&log)?);
        voice.interruptible(Resume::Training { folder: &self.args.run.out });
        let child = Command::new(&command[0])
            .args(&command[1..])
            .args([place.join("trainer.py"), place.join("config.json")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(theirs)
            .spawn()
            .map_err(|why| not_started(&command[0], &why))?;
        let mut child = Ended(child);
        let mut heard = Heard::default();
        let training =
            voice.begin(&Event::Training { num_steps: self.trainer.num_steps(), num_done: 0 });
        let mut events = EventFile::create(self.folder.path())?;
        if let Some(output) = child.0.stdout.take() {
            for line in BufReader::new(output).split(b'\n') {
                let line = line.map_err(|e| Error::io("read the output of", &log, &e))?;
                let line = String::from_utf8_lossy(&line);
                writeln!(own, "{line}").map_err(|e| Error::io("write", &log, &e))?;
                let Some(told) = line.trim_end().strip_prefix(MARK) else { continue };
                let told: Told = serde_json::from_str(told).map_err(|e| {
                    Error::new(
                        ErrorKind::Run,
                        format!("the engine says what is not understood: {e}"),
                    )
                    .at(&log)
                })?;
                heard.take(told, &mut events, voice)?;
            }
        }
        let status = child.0.wait().map_err(|e| Error::io("wait for", &place, &e))?;
        training.end();
        let end = match (status.success(), heard.end) {
            (true, Some(end)) => end,
            (success, _) => return Err(failed(success, status, &heard, &log)),
        };
        let mut engine = json!({ "engine": self.args.engine.engine, "launcher": command });
        if let Value::Object(map) = &mut engine {
            map.extend(std::mem::take(&mut heard.begin));
            map.remove("num_done");
        }
        self.folder.write_json(ENGINE, &engine)?;
        let metrics = self.metrics(heard)?;
        self.folder.write(METRICS, &json_lines(&metrics.lines)?)?;
        let state =
            State { step: end.step, best: end.best, stopped: end.stopped, ..State::default() };
        if metrics.reports.len() != end.step {
            return Err(Error::new(
                ErrorKind::Run,
                format!("the engine made {} steps and told of {}", end.step, metrics.reports.len()),
            )
            .at(&log));
        }
        Ok(Engined {
            reports: metrics.reports,
            state,
            written_step: end.written_step,
            session_tokens: metrics.session_tokens,
        })
    }

    /// What was told by this program and, before a checkpoint that it went on from, by others.
    fn metrics(&self, heard: Heard) -> Result<Metrics> {
        let session_tokens = heard.reports.iter().map(|report| report.num_tokens as u64).sum();
        let path = self.place().join("log.txt");
        let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        let mut steps: Vec<StepReport> = Vec::new();
        let mut validations: Vec<Validation> = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let told = line.strip_prefix(MARK).and_then(|told| serde_json::from_str(told).ok());
            // A program that goes on from a checkpoint makes steps again that another made after it.
            match told {
                Some(Told::Begin(begin)) => {
                    let done = begin.get("num_done").and_then(Value::as_u64).unwrap_or(0) as usize;
                    steps.retain(|report| report.step <= done);
                    validations.retain(|one| one.step <= done);
                }
                Some(Told::Step(report)) => steps.push(report),
                Some(Told::Validation(one)) => validations.push(one),
                _ => {}
            }
        }
        let mut lines = Vec::new();
        for report in &steps {
            lines.push(json!(report));
            let after = validations.iter().filter(|one| one.step == report.step);
            lines.extend(after.map(|one| json!(one)));
        }
        Ok(Metrics { lines, reports: steps, session_tokens })
    }

    /// Takes the adapter that the program wrote in place of the one it began with.
    fn take(&self, output: &Path) -> Result<()> {
        let path = output.join(ADAPTER_WEIGHTS);
        let (tensors, _) = read_tensors(&path)?;
        let _no_grad = tch::no_grad_guard();
        for parameter in self.trained.parameters() {
            let fault = |what: String| {
                Error::new(ErrorKind::Checkpoint, format!("tensor `{}` {what}", parameter.name))
                    .at(&path)
            };
            let Some(new) = tensors.get(&parameter.name) else {
                return Err(fault("is missing".into()));
            };
            let (size, own) = (new.size(), parameter.tensor.size());
            if size != own {
                return Err(fault(format!("has shape {size:?}, expected {own:?}")));
            }
            parameter.tensor.detach().copy_(new);
        }
        Ok(())
    }
}

struct Metrics {
    lines: Vec<Value>,
    reports: Vec<StepReport>,
    session_tokens: u64,
}

/// What a program told so far.
#[derive(Default)]
struct Heard {
    begin: Map<String, Value>,
    reports: Vec<StepReport>,
    end: Option<End>,
    fault: Option<Told>,
    began: Option<std::time::Instant>,
}

impl Heard {
    fn take(&mut self, told: Told, events: &mut EventFile, voice: &Voice<'_>) -> Result<()> {
        match told {
            Told::Begin(begin) => {
                self.began = Some(std::time::Instant::now());
                let number = |name: &str| begin.get(name).and_then(Value::as_u64).unwrap_or(0);
                voice.note(&Note::EngineBegan { num_processes: number("num_processes") as usize });
                if number("num_done") > 0 {
                    voice.note(&Note::StepsContinued { step: number("num_done") as usize });
                }
                self.begin = begin;
            }
            Told::Step(report) => {
                let tokens: usize = self.reports.iter().map(|one| one.num_tokens).sum();
                let seconds = self.began.map_or(1.0, |began| began.elapsed().as_secs_f64());
                let speed = (tokens + report.num_tokens) as f64 / seconds.max(1e-9);
                voice.event(&Event::Step { report: &report, tokens_per_second: speed })?;
                events.step(&report, speed)?;
                self.reports.push(report);
            }
            Told::Validation(one) => {
                events.scalars(one.step, &[("validation/loss", one.validation_loss)])?;
            }
            Told::End(end) => self.end = Some(end),
            fault => self.fault = Some(fault),
        }
        Ok(())
    }
}

/// A process that does not outlive its owner.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended is not there any more, and there is nobody to tell.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn not_started(program: &str, why: &std::io::Error) -> Error {
    Error::new(ErrorKind::Usage, format!("`{program}` cannot be started: {why}")).hint(format!(
        "`--python` names a Python that has {MODULES}; `--launcher` a command that starts it"
    ))
}

/// The error of a program that ended without its result.
fn failed(success: bool, status: std::process::ExitStatus, heard: &Heard, log: &Path) -> Error {
    let hint = format!(
        "all that it said is in `{}`; what it made up to its last checkpoint is kept: go on with the same command and `--resume`",
        log.display()
    );
    match &heard.fault {
        Some(Told::Missing(module)) => {
            Error::new(ErrorKind::Usage, format!("the engine's Python has no `{module}`"))
                .hint(format!("install {MODULES} there"))
        }
        Some(Told::Failed(what)) => {
            Error::new(ErrorKind::Numeric, format!("the engine stopped: {what}")).hint(hint)
        }
        _ => {
            let mut text = String::new();
            let read = File::open(log).and_then(|mut file| file.read_to_string(&mut text));
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
            let how =
                if success { "without a result".to_owned() } else { format!("with {status}") };
            let shown = if read.is_ok() && !last.is_empty() {
                format!(":\n  {last}")
            } else {
                String::new()
            };
            Error::new(ErrorKind::Run, format!("the engine ended {how}{shown}")).hint(hint)
        }
    }
}
