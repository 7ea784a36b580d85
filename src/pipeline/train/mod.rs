//! `w2s train`: an adapter or a whole model trained on labels, in a run folder.

mod card;
mod engine;
mod engine_options;
mod files;
mod items;
mod loss;
mod options;
mod run;
mod sources;
mod summary;
mod trained;

use std::path::Path;
use std::time::Instant;

use serde_json::{Map, Value, json};
use tch::Kind;

use super::ids::numbered;
use super::merge::write_model;
use super::note::{LeftOut, Note};
use super::observer::{Event, Wait};
use super::outcome::Outcome;
use super::session::Session;
use super::voice::Voice;
use super::warning::Warning;
use crate::data::{Dataset, Task, split_ids};
use crate::error::{Error, ErrorKind, Result};
use crate::lm::{Decoder, Devices, Tokenizer, end_tokens};
use crate::run::{Input, Manifest, OpenMode, RunDir, SeedStream};
use crate::train::{Group, Item, ItemBuilder, Loss, ProcessRank, State, TrainSettings, Trainer};

use engine::EngineRun;
use items::{Making, Training, Weighing};
use run::Run;
use summary::{Cuts, summary, write_card};

pub use engine_options::{EngineName, EngineOptions};
pub use loss::{LossName, LossOptions};
pub use options::TrainJob;
pub use summary::TrainSummary;
pub use trained::Trained;

/// Trains; `None` in a process that is not the first of its group, which alone has the folder.
pub(super) fn run(
    mut args: TrainJob,
    session: &mut Session,
) -> Result<Option<Outcome<TrainSummary>>> {
    if args.from.is_some() {
        args.follow_run(&session.voice)?;
    }
    args.model.follow(&session.voice)?;
    args.check()?;
    args.find_in_runs()?;
    if args.full {
        args.model = match args.engine.is_given() {
            true => args.model.in_f32(),
            false => args.model.for_all_weights(),
        };
    }
    let process = ProcessRank::from_environment()?;
    if process.is_some() && args.engine.is_given() {
        return Err(Error::new(
            ErrorKind::Usage,
            "`--engine` starts processes of its own, and this is one of several",
        )
        .hint(
            "start `w2s train` once, and say with `--launcher` how many processes the engine has",
        ));
    }
    let Some(process) = process else {
        args.patience(None)?;
        args.run.check("train")?;
        let devices = args.here().training_device(None)?;
        return train(&args, devices, (None, &Group::alone()), session);
    };
    if process.rank > 0 {
        session.voice.mute();
    }
    let mut work = || {
        let patience = args.patience(Some(&process))?;
        let devices = args.model.training_device(Some(&process))?;
        let spinner = session.voice.wait(Wait::OtherProcesses);
        let mut group = Group::join(&process, patience)?;
        spinner.end();
        session.voice.note(&Note::ProcessesJoined { num_processes: group.size() });
        if let Some(reason) = group.use_gpus(devices.0.first())? {
            session.voice.note(&Note::SummedOnCpu { reason });
        }
        train(&args, devices, (Some(&process), &group), session)
    };
    work().map_err(|error| error.of(format_args!("rank {}", process.rank)))
}

fn train(
    args: &TrainJob,
    devices: (Devices, Kind),
    (process, group): (Option<&ProcessRank>, &Group),
    session: &mut Session,
) -> Result<Option<Outcome<TrainSummary>>> {
    let began = Instant::now();
    let (task, dataset) = read_data(args, &session.voice)?;
    let spinner = session.voice.wait(Wait::OpeningModel);
    let mut model = session.open_trainable(&args.here(), devices, process)?;
    let (decoder, tokenizer) = model.parts_mut();
    let (mut training, cuts) = items(args, &task, &dataset, tokenizer)?;
    let streams = SeedStream::new(args.run.seed);
    set_aside(args, &mut training, streams)?;
    let trained = Trained::new(args, decoder, streams)?;
    let decoder = &*decoder;
    let num_local = process.map_or(1, |process| process.local_size);
    let mut train_settings = args.settings(decoder, trained.dropout(args), num_local);
    if decoder.device().is_cuda() && args.sizes_by_memory() {
        let begun = match args.run.mode() {
            OpenMode::Resume => pass_tokens_of(&args.run.out),
            OpenMode::New | OpenMode::Force => None,
        };
        train_settings.pass_tokens = same_passes(group, begun, train_settings.pass_tokens)?;
    }
    let mut manifest =
        manifest(args, (&task, &dataset), (session, decoder), &trained, &train_settings)?;
    if group.size() > 1 {
        manifest.versions.insert("num_processes".into(), group.size().into());
    }
    if args.engine.is_given() && !session.counts() && !is_done(&args.run.out) {
        args.check_modules()?;
    }
    spinner.end();
    be_of_one_mind(group, &manifest)?;
    if process.is_none() {
        session.reuse(&manifest, &args.run.out)?;
    }
    let Some(folder) = open_folder(args, group, &manifest)? else {
        session.voice.note(&Note::RunComplete { folder: args.run.out.clone() });
        if !args.full {
            session.give_back(model);
        }
        return match group.is_first() {
            true => Outcome::complete(RunDir::existing(&args.run.out)?.0).map(Some),
            false => Ok(None),
        };
    };
    session.tell_settings(&manifest);
    session.voice.tell_gold(&manifest.gold_used);
    tell_cuts(&training, cuts, &session.voice);
    let parameters = trained.parameters();
    let mut trainer = Trainer::new(decoder, parameters, &training.items, train_settings, streams)?
        .in_group(group);
    let mut run = Run {
        args,
        group,
        folder: folder.as_ref(),
        validation: &training.validation,
        checkpoints: args.checkpointing(&args.run.out),
        state: State::default(),
        session_tokens: 0,
    };
    let work_began = Instant::now();
    let by_engine = folder.as_ref().filter(|_| args.engine.is_given() && !session.counts());
    let (reports, best) = if let Some(folder) = by_engine {
        let engine = EngineRun {
            args,
            folder,
            trainer: &trainer,
            trained: &trained,
            items: &training.items,
            validation: &training.validation,
        };
        let engined = engine.train(&session.voice)?;
        (run.state, run.session_tokens) = (engined.state, engined.session_tokens);
        (engined.reports, Some(engined.written_step))
    } else {
        let counts = session.counts();
        let reports = if counts { Vec::new() } else { run.train(&mut trainer, &session.voice)? };
        (reports, folder.as_ref().map(|folder| run.take_best(&trainer, folder)).transpose()?)
    };
    let work_seconds = work_began.elapsed().as_secs_f64();
    let (state, session_tokens) = (run.state.clone(), run.session_tokens);
    let (Some(folder), Some(written_step)) = (folder, best) else { return Ok(None) };
    match &trained {
        Trained::Adapter(adapter) => adapter.save(folder.path())?,
        Trained::All(_) => write_model(&args.model.model, decoder, &folder)?,
    }
    let summary = summary(&training, cuts, &reports, &trainer, &state, written_step);
    folder.write_json("summary.json", &summary)?;
    write_card(&folder, &manifest, &summary, (&args.model.model, &task))?;
    let seconds = began.elapsed().as_secs_f64();
    // The checkpoint goes after the end mark: a kill before it loses no step.
    let folder = folder.finish_training(seconds, work_seconds, session_tokens)?;
    if args.engine.is_given() {
        engine::tidy(&folder);
    }
    session.voice.tell(&Event::Trained { summary: &summary, seconds, folder: &folder });
    warn_of_little(&summary, session);
    session.tell_finished(&folder);
    let (num_trained, num_targets) = if session.counts() { trainer.count_work() } else { (0, 0) };
    drop(trainer);
    if let Some(counted) = model.counted_mut() {
        (counted.num_trained, counted.num_targets) = (num_trained, num_targets);
        counted.longest = training.items.iter().map(Item::longest).max().unwrap_or(0);
    }
    // A model whose own weights were trained is no longer that of its folder.
    if !args.full {
        session.give_back(model);
    }
    Ok(Some(Outcome { folder, summary, seconds, was_complete: false }))
}

/// Whether the run in a folder is complete.
fn is_done(out: &Path) -> bool {
    RunDir::existing(out).is_ok_and(|(folder, _)| folder.is_complete())
}

/// Most tokens of a pass of the run that was begun in a folder.
fn pass_tokens_of(out: &Path) -> Option<usize> {
    let (_, manifest) = RunDir::existing(out).ok()?;
    let num = manifest.settings.get("train")?.get("pass_tokens")?.as_u64()?;
    usize::try_from(num).ok()
}

/// Returns the most tokens of a pass for all processes: those with which the run `begun`, or `found` by
/// the first process. What memory is free differs from GPU to GPU and from one moment to the next, and
/// with the passes the last bits of all numbers.
fn same_passes(group: &Group, begun: Option<usize>, found: usize) -> Result<usize> {
    let own = begun.unwrap_or(found);
    if group.size() == 1 {
        return Ok(own);
    }
    let first = group.text(0, &own.to_string())?;
    first.parse().map_err(|e| Error::new(ErrorKind::Internal, format!("cannot pass on: {e}")))
}

/// Refuses processes that were started with different settings or data.
fn be_of_one_mind(group: &Group, manifest: &Manifest) -> Result<()> {
    if group.size() == 1 {
        return Ok(());
    }
    let internal = |e| Error::new(ErrorKind::Internal, format!("cannot pass on: {e}"));
    let own = serde_json::to_string(manifest).map_err(internal)?;
    let first: Manifest = serde_json::from_str(&group.text(0, &own)?).map_err(internal)?;
    let same = match first.first_difference_of_process(manifest) {
        None => Ok(()),
        Some(difference) => Err(Error::new(
            ErrorKind::Usage,
            format!("this process was started otherwise than rank 0: {difference}"),
        )
        .hint("start all processes with the same command")),
    };
    group.agree(same)
}

/// The run folder, locked to the end so that no other training can work in it; the first process
/// alone has it. `None` when its run is complete.
fn open_folder(
    args: &TrainJob,
    group: &Group,
    manifest: &Manifest,
) -> Result<Option<Option<RunDir>>> {
    let open = || match group.is_first() {
        true => RunDir::open(&args.run.out, manifest, args.run.mode()).map(Some),
        false => Ok(None),
    };
    let opened = group.agree(open())?;
    let is_complete = opened.as_ref().is_some_and(RunDir::is_complete);
    let is_complete = group.sum(Ok(vec![f64::from(u8::from(is_complete))]), 1)?[0] > 0.0;
    Ok((!is_complete).then_some(opened))
}

fn read_data(args: &TrainJob, voice: &Voice<'_>) -> Result<(Task, Dataset)> {
    let mut task = args.columns.task(&args.task)?;
    if let Some(name) = &args.prompt_variant {
        task = task.with_variant(name)?;
    }
    let mut dataset = Dataset::read(&args.data, &task)?;
    voice.tell_read(&dataset);
    if task.has_options() {
        task = task.with_num_options(dataset.max_options());
    }
    voice.warn_of_words(&task.prompt);
    if let Some(limit) = args.limit {
        dataset.examples.truncate(limit.get());
    }
    Ok((task, dataset))
}

/// What to learn, and what the longest length did to it.
fn items(
    args: &TrainJob,
    task: &Task,
    dataset: &Dataset,
    tokenizer: &Tokenizer,
) -> Result<(Training, Cuts)> {
    let all_labels = args.loss() != Loss::Tokens;
    if task.answers.is_open && (all_labels || args.soft_labels) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("task `{}` has open answers and no distribution of labels", task.name),
        )
        .hint("use `--loss xent` without `--soft-labels`"));
    }
    // A label is learnt as it is scored; an answer that is written must know where to end.
    let end = if all_labels {
        None
    } else {
        let folder = &args.model.model;
        Some(end_tokens(folder)?.first().copied().ok_or_else(|| {
            Error::new(ErrorKind::Config, "the model does not say which token ends a text")
                .at(folder)
                .hint("give `eos_token_id` in generation_config.json or config.json")
        })?)
    };
    let mut builder = ItemBuilder::new(tokenizer, end, args.max_tokens, args.too_long);
    let ids = args.ids.read(dataset)?;
    let weighing = args.weighing();
    let making = Making {
        task,
        dataset,
        ids,
        all_labels,
        soft: args.soft_labels,
        weights_on_lines: matches!(weighing, Weighing::Lines),
    };
    let training = making.items(args.source(), weighing, &mut builder)?;
    let cuts = Cuts { num_truncated: builder.num_truncated, num_dropped: builder.num_dropped };
    Ok((training, cuts))
}

/// Moves a share of the questions to validation, whole groups only.
fn set_aside(args: &TrainJob, training: &mut Training, streams: SeedStream) -> Result<()> {
    if let Some(share) = args.validation.filter(|share| *share > 0.0) {
        let rows: Vec<(String, Option<String>)> =
            training.items.iter().map(|item| (item.id.clone(), Some(item.group.clone()))).collect();
        let mut aside = split_ids(&rows, share, &streams).into_iter();
        let (validation, items): (Vec<Item>, Vec<Item>) = std::mem::take(&mut training.items)
            .into_iter()
            .partition(|_| aside.next() == Some(true));
        training.items = items;
        training.validation.extend(validation);
    }
    args.check_validation(!training.validation.is_empty())
}

fn manifest(
    args: &TrainJob,
    (task, dataset): (&Task, &Dataset),
    (session, decoder): (&Session, &Decoder),
    trained: &Trained,
    train_settings: &TrainSettings,
) -> Result<Manifest> {
    let mut settings = Map::new();
    settings.insert("task".into(), args.task.clone().into());
    settings.insert("prompt_variant".into(), task.prompt.name.clone().into());
    settings.insert("data".into(), args.data.display().to_string().into());
    args.columns.insert(&mut settings);
    args.data_settings(&mut settings);
    args.model.decoder_settings(decoder, &mut settings);
    if args.engine.is_given() {
        args.engine_settings(&mut settings);
    }
    settings.insert("lora".into(), trained.settings());
    let mut train = json!(train_settings);
    if train_settings.pass_sequences == usize::MAX {
        train["pass_sequences"] = Value::Null;
    }
    settings.insert("train".into(), train);
    let mut inputs = vec![
        Input {
            role: "data".into(),
            path: args.data.display().to_string(),
            sha256: dataset.sha256.clone(),
        },
        Input { role: "task".into(), path: args.task.clone(), sha256: task.sha256.clone() },
    ];
    for (role, paths) in args.label_files() {
        inputs.extend(numbered(role, &paths, session)?);
    }
    inputs.extend(args.ids.inputs(session)?);
    inputs.extend(args.model.inputs(&session.digests)?);
    Ok(Manifest {
        command: "train".into(),
        command_line: session.command_line(),
        settings,
        seed: args.run.seed,
        inputs,
        gold_used: args.gold_used(),
        versions: args.model.versions(),
    })
}

/// A training of fewer steps is warned of.
const FEW_STEPS: usize = 20;
/// So is one whose loss fell by less than this share.
const LITTLE_LOSS: f64 = 0.02;

/// Warns of a training that left the model nearly as it was.
fn warn_of_little(summary: &TrainSummary, session: &Session<'_>) {
    let TrainSummary { num_steps, first_loss, last_loss, .. } = *summary;
    let fell = (first_loss - last_loss) / first_loss.abs().max(f64::MIN_POSITIVE);
    if !session.counts() && (num_steps < FEW_STEPS || fell < LITTLE_LOSS) {
        session.voice.warn(&Warning::LittleTrained { num_steps, first_loss, last_loss });
    }
}

fn tell_cuts(training: &Training, cuts: Cuts, voice: &Voice<'_>) {
    let all = [
        (training.num_unlabelled, LeftOut::Unlabelled),
        (training.num_unread, LeftOut::Unread),
        (training.num_weightless, LeftOut::Weightless),
        (cuts.num_dropped, LeftOut::TooLong),
    ];
    for (num, what) in all {
        if num > 0 {
            voice.note(&Note::LeftOut { num, what });
        }
    }
    if training.dropped_questions.num > 0 {
        voice.warn(&Warning::DroppedLearnt { questions: training.dropped_questions });
    }
    if cuts.num_truncated > 0 {
        voice.warn(&Warning::Truncated { num_prompts: cuts.num_truncated });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::GoldUse;

    #[test]
    fn a_run_goes_on_with_the_passes_that_it_began_with() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(pass_tokens_of(folder.path()), None);
        let mut settings = Map::new();
        settings.insert("train".into(), json!({"pass_tokens": 4096}));
        let manifest = Manifest {
            command: "train".into(),
            command_line: Vec::new(),
            settings,
            seed: 0,
            inputs: Vec::new(),
            gold_used: GoldUse::Because("a test".into()),
            versions: Map::new(),
        };
        let run = folder.path().join("run");
        // As long as it is at work: a start that made nothing takes its folder away.
        let _at_work = RunDir::open(&run, &manifest, OpenMode::New).unwrap();
        let begun = pass_tokens_of(&run);
        assert_eq!(begun, Some(4096));
        assert_eq!(same_passes(&Group::alone(), begun, 2048).unwrap(), 4096);
        assert_eq!(same_passes(&Group::alone(), None, 2048).unwrap(), 2048);
    }
}
