//! `w2s loop`: rounds of labelling and training, step by step.
//!
//! All work is done by the steps, which are commands in run folders of their own. What is here reads
//! what they wrote, decides what comes next, and keeps no state but files: a loop that was killed goes
//! through the same steps again, and those that are complete are skipped.

mod check;
mod labeller;
mod loading;
mod options;
mod parts;
mod settings;
mod steps;
mod tables;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::command_line::typed;
use super::note::Note;
use super::observer::{Event, Resume, StepPlace};
use super::outcome::Outcome;
use super::relabel::{ChangeName, RelabelSummary as Looked};
use super::session::Session;
use super::step::{Step, run_step};
use super::warning::Warning;
use crate::data::{
    Dataset, LabelRecord, Task, json_lines, read_json_lines, read_label_records, split_ids,
    write_labels,
};
use crate::error::{Error, ErrorKind, Result};
use crate::run::files::{LABELS, SUMMARY};
use crate::run::{
    Alarm, GoldUse, Input, LOOP, LoopRecord, Manifest, OpenMode, ROUNDS, Round, RunDir, SeedStream,
};
use crate::server::ServerAddress;
use crate::stats::normalised_entropy_of_counts;
use crate::train::ProcessRank;

use loading::Loaded;
use parts::{Parts, write_ids};
use settings::LoopSettings;
use steps::adapter;

pub use options::{LaterName, LoopJob};

pub(super) fn run(args: LoopJob, session: &mut Session) -> Result<Outcome<LoopRecord>> {
    let began = Instant::now();
    let mut settings = args.settle()?;
    if let Some(labeller) = &mut settings.labeller {
        labeller.counts = session.counts();
    }
    if ProcessRank::from_environment()?.is_some() {
        return Err(Error::new(ErrorKind::Usage, "a loop runs in one process, not under torchrun")
            .hint("run its steps by hand to train with several processes"));
    }
    if settings.model.to_str().is_some_and(ServerAddress::is_meant) {
        return Err(Error::new(
            ErrorKind::Usage,
            "a loop trains its model: it needs a model folder, not a server",
        )
        .hint("`--labeller URL` has a server label, while the folder's model is trained here"));
    }
    RunDir::check_place(&settings.out, "loop", settings.mode)?;
    let task = settings.columns.task(&settings.task)?;
    let dataset = Dataset::read(&settings.data, &task)?;
    let task = dataset.labelled_task(task)?;
    settings.check_steps(&task, &dataset)?;
    let parts = Parts::split(&settings, &dataset)?;
    let existing = RunDir::existing(&settings.out);
    if settings.mode == OpenMode::Force || !existing.is_ok_and(|(run, _)| run.is_complete()) {
        settings.check_model(session)?;
    }
    let manifest = manifest(&settings, &task, &dataset, &parts, session);
    let folder = RunDir::open(&settings.out, &manifest, settings.mode)?;
    if folder.is_complete() {
        session.voice.note(&Note::LoopComplete { folder: settings.out.clone() });
        return Outcome::complete_of(folder, LOOP);
    }
    session.tell_settings_of_all(&manifest);
    session.voice.tell_gold(&manifest.gold_used);
    parts.write(&settings)?;
    let num_held_out = parts.held_out.len();
    if num_held_out > 0 && num_held_out < FEW_HELD_OUT {
        session.voice.warn(&Warning::FewHeldOut { num: num_held_out });
    }
    let again = again(&session.command_line());
    session.voice.interruptible(Resume::Loop { command: again.as_deref() });
    let mut work = Work {
        settings: &settings,
        task: &task,
        dataset: &dataset,
        parts: &parts,
        folder: &folder,
        session,
        num_steps: 0,
        rounds: Vec::new(),
        labels: Vec::new(),
        kept: Vec::new(),
        weights: Vec::new(),
        spent: Spent::default(),
        before: 0,
        loaded: Loaded::default(),
    };
    let stopped = work.all()?;
    settings.unload_but(None, &mut work.loaded, work.session);
    let record = work.finish(stopped.as_ref())?;
    let work_seconds = work.rounds.iter().map(|round| round.seconds).sum();
    let rounds = work.rounds;
    let seconds = began.elapsed().as_secs_f64();
    let folder = folder.finish(seconds, work_seconds)?;
    session.voice.tell(&Event::Looped { record: &record, rounds: &rounds, folder: &folder });
    Ok(Outcome { folder, summary: record, seconds, was_complete: false })
}

/// With fewer examples set aside a loop is warned of.
const FEW_HELD_OUT: usize = 30;

/// The command that goes on with the loop; none for a loop that no command line began.
fn again(words: &[String]) -> Option<String> {
    let (_, words) = words.split_first()?;
    let words = words.iter().filter(|word| *word != "--resume" && *word != "--force").cloned();
    let whole = ["w2s".to_owned()].into_iter().chain(words).chain(["--resume".to_owned()]);
    Some(typed(&whole.collect::<Vec<_>>()))
}

fn manifest(
    settings: &LoopSettings,
    task: &Task,
    dataset: &Dataset,
    parts: &Parts,
    session: &Session,
) -> Manifest {
    let mut map = settings.to_map();
    map.insert("method".into(), "loop".into());
    if task.has_options() {
        map.insert("num_labels".into(), task.num_labels().into());
    }
    let sizes: Vec<usize> = parts.batches.iter().map(Vec::len).collect();
    map.insert("batch_sizes".into(), sizes.into());
    map.insert("num_held_out".into(), parts.held_out.len().into());
    let trained_with = RunDir::existing(&settings.model).ok().map(|(_, made)| made.gold_used);
    let gold_used = match trained_with {
        Some(GoldUse::Because(reason)) => {
            GoldUse::Because(format!("the model was trained with it: {reason}"))
        }
        _ => GoldUse::no(),
    };
    let data = settings.data.display().to_string();
    let mut versions = Map::new();
    versions.insert("w2s".into(), env!("CARGO_PKG_VERSION").into());
    Manifest {
        command: "loop".into(),
        command_line: session.command_line(),
        settings: map,
        seed: settings.seed,
        inputs: vec![
            Input { role: "data".into(), path: data, sha256: dataset.sha256.clone() },
            Input { role: "task".into(), path: settings.task.clone(), sha256: task.sha256.clone() },
        ],
        gold_used,
        versions,
    }
}

/// What the steps of a round cost.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    tokens: u64,
    seconds: f64,
}

struct Work<'a, 'o> {
    settings: &'a LoopSettings,
    task: &'a Task,
    dataset: &'a Dataset,
    parts: &'a Parts,
    folder: &'a RunDir,
    session: &'a mut Session<'o>,
    /// Steps begun.
    num_steps: usize,
    rounds: Vec<Round>,
    /// The labels of all good rounds.
    labels: Vec<PathBuf>,
    /// What filters kept of each batch.
    kept: Vec<PathBuf>,
    weights: Vec<PathBuf>,
    /// By the round at work.
    spent: Spent,
    /// Tokens before the first round.
    before: u64,
    /// Adapters of the server.
    loaded: Loaded,
}

impl Work<'_, '_> {
    /// Makes all rounds, or those up to an alarm, which is returned.
    fn all(&mut self) -> Result<Option<Alarm>> {
        if !self.parts.held_out.is_empty() {
            self.step(&self.settings.probe(0))?;

            self.before = std::mem::take(&mut self.spent).tokens;
        }
        for number in 1..=self.settings.num_batches {
            let mut round = Round { round: number, ..Round::default() };
            self.label(&mut round)?;
            // Models that only count answer as good as at random, which no brake is for.
            let braked = !self.session.counts();
            let mut alarm = self.settings.brakes.of_labels(&round).filter(|_| braked);
            let mut after = Vec::new();
            if alarm.is_none() {
                after = self.learn(&mut round)?;
                alarm = self.settings.brakes.of_model(&round).filter(|_| braked);
            }
            let spent = std::mem::take(&mut self.spent);
            (round.tokens, round.seconds) = (spent.tokens, spent.seconds);
            round.alarm.clone_from(&alarm);
            self.rounds.push(round);
            self.folder.write(ROUNDS, &json_lines(&self.rounds)?)?;
            if alarm.is_some() {
                return Ok(alarm);
            }
            self.labels = after;
            let last = self.settings.adapter(Some(number));
            self.settings.unload_but(last.as_deref(), &mut self.loaded, self.session);
        }
        Ok(None)
    }

    /// Runs a step that asks the model with what was trained, and returns its summary.
    fn asking(&mut self, step: &Step, trained: Option<&Path>) -> Result<Value> {
        let out = self.settings.folder(&step.name);
        let is_done = RunDir::existing(&out).is_ok_and(|(run, _)| run.is_complete());
        if let Some(trained) = trained.filter(|_| !is_done) {
            self.settings.load(trained, &mut self.loaded, self.session)?;
        }
        self.step(step)
    }

    /// Runs a step and returns its summary.
    fn step(&mut self, step: &Step) -> Result<Value> {
        self.num_steps += 1;
        let place = StepPlace { number: self.num_steps, of: self.settings.most_steps() };
        run_step(step, Some(place), self.session)?;
        let out = self.settings.folder(&step.name);
        let summary: Value = read_json(&out.join("summary.json"))?;
        let timing: Value = read_json(&out.join("timing.json"))?;
        let tokens = ["tokens_computed", "tokens_run"];
        self.spent.tokens +=
            tokens.iter().filter_map(|name| summary.get(name)?.as_u64()).sum::<u64>();
        self.spent.seconds += timing["work_seconds"].as_f64().unwrap_or(0.0);
        Ok(summary)
    }

    /// Has the last model label a batch.
    fn label(&mut self, round: &mut Round) -> Result<()> {
        let by = round.round.checked_sub(1).filter(|by| *by > 0);
        let step = self.settings.label(round.round, by);
        let summary = self.asking(&step, self.settings.adapter(by).as_deref())?;
        let records = self.records(&[self.labels_of(&step)])?;
        round.method = self.settings.method(round.round).into();
        round.labelled_with = adapter(by);
        round.num_labelled = records.len();
        (round.share, round.class_entropy) = self.shares(&records);
        round.score = summary.get("score").and_then(Value::as_f64);
        Ok(())
    }

    /// Trains on all labels so far, and returns the files of labels that the next round goes on with.
    fn learn(&mut self, round: &mut Round) -> Result<Vec<PathBuf>> {
        let (settings, number) = (self.settings, round.round);
        let by = number.checked_sub(1).filter(|by| *by > 0);
        if settings.filters() {
            let step = settings.filter_step(number, by);
            let summary = self.asking(&step, settings.adapter(by).as_deref())?;
            let out = settings.folder(&step.name);
            if settings.filter {
                round.num_kept =
                    summary.get("num_kept").and_then(Value::as_u64).map(|n| n as usize);
                self.kept.push(out.join("kept.jsonl"));
            }
            if settings.reweight {
                self.weights.push(out.join("weights.jsonl"));
            }
        }
        let mut labels = self.labels.clone();
        labels.push(settings.folder(&format!("round-{number}/label")).join("labels.jsonl"));
        let step = settings.train("train", number, &labels, &self.kept, &self.weights);
        let summary = self.step(&step)?;
        let number_of = |name: &str| summary.get(name).and_then(Value::as_f64);
        round.num_trained = number_of("num_items").map(|n| n as usize);
        round.loss = number_of("first_loss").zip(number_of("last_loss")).map(|(a, b)| [a, b]);
        round.adapter = adapter(Some(number));
        let looked = if settings.cross_fit {
            self.look_crosswise(round, &labels)?
        } else {
            let step = settings.relabel_step("relabel", "train", number, &labels, None);
            self.look(round, &[(step, "train".to_owned())])?
        };
        if !self.parts.held_out.is_empty() {
            self.ask_held_out(round)?;
        }
        Ok(if settings.relabel == ChangeName::None { labels } else { looked })
    }

    /// Runs the steps in which the labels so far are looked at again, each by a training of the round, and
    /// returns their labels.
    fn look(&mut self, round: &mut Round, steps: &[(Step, String)]) -> Result<Vec<PathBuf>> {
        let (mut num, mut num_contradicted) = (0, 0);
        for (step, by) in steps {
            let trained = self.settings.folder(&format!("round-{}/{by}", round.round));
            let summary = self.asking(step, Some(&trained))?;
            let looked: Looked = serde_json::from_value(summary)
                .map_err(|e| Error::new(ErrorKind::Run, format!("summary.json: {e}")))?;
            num += looked.num_examples;
            num_contradicted += looked.num_contradicted;
            round.num_flipped += looked.num_flipped;
            round.num_dropped += looked.num_dropped;
        }
        round.num_labels = Some(num);
        round.flip_rate = Some(num_contradicted as f64 / num.max(1) as f64);
        Ok(steps.iter().map(|(step, _)| self.labels_of(step)).collect())
    }

    /// Trains a model on each half of the labels, and has it look at the other.
    fn look_crosswise(&mut self, round: &mut Round, labels: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let (settings, number) = (self.settings, round.round);
        let labelled: HashSet<String> =
            self.records(labels)?.into_iter().map(|record| record.id).collect();
        let rows: Vec<(String, Option<String>)> = self
            .dataset
            .examples
            .iter()
            .filter(|example| labelled.contains(&example.id))
            .map(|example| (example.id.clone(), example.group.clone()))
            .collect();
        let streams = SeedStream::new(settings.seed).restart(number);
        let in_first = split_ids(&rows, 0.5, &streams);
        let kept = self.kept_ids()?;
        let mut steps = Vec::new();
        for (half, other, is_first) in [("a", "b", true), ("b", "a", false)] {
            let own: Vec<&String> = rows
                .iter()
                .zip(&in_first)
                .filter(|(_, f)| **f == is_first)
                .map(|(r, _)| &r.0)
                .collect();
            let learnt =
                own.iter().copied().filter(|id| kept.as_ref().is_none_or(|k| k.contains(*id)));
            let (all, part) =
                (format!("round-{number}-{half}"), format!("round-{number}-{half}-kept"));
            write_ids(&settings.ids_file(&all), own.iter().copied())?;
            write_ids(&settings.ids_file(&part), learnt)?;
            let ids = [settings.ids_file(&part)];
            self.step(&settings.train(
                &format!("train-{half}"),
                number,
                labels,
                &ids,
                &self.weights,
            ))?;
            let looked = settings.ids_file(&format!("round-{number}-{other}"));
            let by = format!("train-{half}");
            let name = format!("relabel-{other}");
            steps.push((settings.relabel_step(&name, &by, number, labels, Some(looked)), by));
        }
        self.look(round, &steps)
    }

    /// What the filters kept of all batches.
    fn kept_ids(&self) -> Result<Option<HashSet<String>>> {
        #[derive(serde::Deserialize)]
        struct Line {
            id: String,
        }
        if self.kept.is_empty() {
            return Ok(None);
        }
        let mut ids = HashSet::new();
        for path in &self.kept {
            ids.extend(read_json_lines::<Line>(path)?.into_iter().map(|line| line.id));
        }
        Ok(Some(ids))
    }

    /// Has the round's model answer what was set aside, and compares with the model before.
    fn ask_held_out(&mut self, round: &mut Round) -> Result<()> {
        let step = self.settings.probe(round.round);
        self.asking(&step, self.settings.adapter(Some(round.round)).as_deref())?;
        let now = self.records(&[self.labels_of(&step)])?;
        let before = self.records(&[self.labels_of(&self.settings.probe(round.round - 1))])?;
        let before: HashMap<&str, &str> =
            before.iter().map(|record| (record.id.as_str(), record.label.as_str())).collect();
        let same = now
            .iter()
            .filter(|record| before.get(record.id.as_str()) == Some(&record.label.as_str()))
            .count();
        round.agreement = Some(same as f64 / now.len().max(1) as f64);
        round.held_out_share = Some(self.shares(&now).0);
        Ok(())
    }

    fn labels_of(&self, step: &Step) -> PathBuf {
        self.settings.folder(&step.name).join("labels.jsonl")
    }

    fn records(&self, files: &[PathBuf]) -> Result<Vec<LabelRecord>> {
        let mut all = Vec::new();
        for path in files {
            all.extend(read_label_records(path, self.task)?);
        }
        Ok(all)
    }

    fn shares(&self, records: &[LabelRecord]) -> (Map<String, Value>, f64) {
        let count = |name: &String| records.iter().filter(|record| record.label == *name).count();
        let counts: Vec<usize> = self.task.labels.iter().map(|label| count(&label.name)).collect();
        let share = |n: &usize| Value::from(*n as f64 / records.len().max(1) as f64);
        let names = self.task.labels.iter().map(|label| label.name.clone());
        (names.zip(counts.iter().map(share)).collect(), normalised_entropy_of_counts(&counts))
    }

    /// Writes what the loop came to.
    fn finish(&self, stopped: Option<&Alarm>) -> Result<LoopRecord> {
        let mut records = self.records(&self.labels)?;
        let place: HashMap<&str, usize> =
            self.dataset.examples.iter().enumerate().map(|(i, e)| (e.id.as_str(), i)).collect();
        records.sort_by_key(|record| place.get(record.id.as_str()).copied());
        let mut bytes = Vec::new();
        write_labels(&mut bytes, &records)?;
        self.folder.write(LABELS, &bytes)?;
        let last_good_round =
            self.rounds.iter().rev().find(|round| round.alarm.is_none()).map_or(0, |r| r.round);
        let record = LoopRecord {
            num_batches: self.settings.num_batches,
            num_held_out: self.parts.held_out.len(),
            num_rounds: self.rounds.len(),
            last_good_round,
            stopped: stopped.map(|alarm| alarm.message.clone()),
            adapter: adapter((last_good_round > 0).then_some(last_good_round)),
            num_labels: records.len(),
            share: self.shares(&records).0,
            tokens: self.before + self.rounds.iter().map(|round| round.tokens).sum::<u64>(),
        };
        self.folder.write_json(LOOP, &record)?;
        let num_examples: usize = self.parts.batches.iter().map(Vec::len).sum();
        // What `w2s eval` asks of every run with labels.
        let summary = json!({ "method": "loop", "num_examples": num_examples,
            "num_unlabelled": num_examples - records.len(), "share": record.share,
            "tokens_computed": record.tokens });
        self.folder.write_json(SUMMARY, &summary)?;
        Ok(record)
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
    serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Run, format!("broken JSON: {e}")).at(path))
}
