//! `w2s eval --test`: a held-out file labelled by many-shot prompting with any labels.
//!
//! This is how the published evaluation scores labels: not by how many are right, but by how well a
//! model answers new questions behind them. The labelled test file is a run folder like any other.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use rand::seq::SliceRandom;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::data::{ColumnNames, Dataset, Example, Task, read_demonstrations, write_labels};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{NoiseBy, noisy_labels};
use crate::label::{Method, OrderOptions, TraceEvent, label};
use crate::pipeline::backend::{Backend, Need};
use crate::pipeline::columns::ColumnOptions;
use crate::pipeline::finished::task_of;
use crate::pipeline::model::ModelOptions;
use crate::pipeline::note::Note;
use crate::pipeline::observer::{Event, Resume, Wait};
use crate::pipeline::prior::{self, PriorOptions};
use crate::pipeline::server::ServerOptions;
use crate::pipeline::session::Session;
use crate::pipeline::warning::Warning;
use crate::run::files::LABELS;
use crate::run::{GoldUse, Input, Manifest, OpenMode, Origin, RunDir, SeedStream};
use crate::score::{Cached, Calibration, Journaled};

/// Options of the held-out evaluation; they ask for `--test`.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Held-out evaluation")]
pub struct HeldOutOptions {
    /// Label this file by many-shot prompting and evaluate that
    #[arg(long, value_name = "FILE", requires_all = ["demonstrations", "out"])]
    pub test: Option<PathBuf>,
    /// Where the labels to prompt with come from: a run folder, or a file of labelled examples
    #[arg(long, value_name = "RUN_OR_FILE", requires = "test")]
    pub demonstrations: Option<PathBuf>,
    /// The examples that the labels are for [default: the data of the run; for a file, the file]
    #[arg(long, value_name = "FILE", requires = "test")]
    pub demonstration_data: Option<PathBuf>,
    /// Prompt with K of the labelled examples, drawn by the seed [default: all]
    #[arg(long, value_name = "K", requires = "test")]
    pub num_demonstrations: Option<usize>,
    /// Make gold demonstrations wrong at random until this share of them is right: the control for
    /// labels that are as accurate
    #[arg(long, value_name = "X", requires = "test")]
    pub noise_accuracy: Option<f64>,
    /// Whether the noise keeps the accuracy of all labels or that of every label by itself
    /// [default: overall]
    #[arg(long, value_enum, requires = "noise_accuracy")]
    pub noise_by: Option<NoiseBy>,
    /// Built-in task or path of a task file [default: that of the run]
    #[arg(long, value_name = "TASK", requires = "test")]
    pub task: Option<String>,
    /// Which columns of the test file, of the examples that labels are for, and of gold are what.
    #[serde(flatten)]
    #[command(flatten, next_help_heading = "Held-out evaluation")]
    pub columns: ColumnOptions,
    /// Corrects the model's prior towards label words (calibration) [default: batch]
    #[arg(long, value_enum, requires = "test")]
    pub calibrate: Option<Calibration>,
    /// The shares of labels that calibration supposes.
    #[serde(flatten)]
    #[command(flatten, next_help_heading = "Held-out evaluation")]
    pub prior: PriorOptions,
    /// Seed of the order and draw of demonstrations, and of the noise [default: 0]
    #[arg(long, value_name = "SEED", requires = "test")]
    pub seed: Option<u64>,
    /// Run folder to make
    #[arg(long, value_name = "RUN", requires = "test")]
    pub out: Option<PathBuf>,
    /// Continue the run in the folder; begin it if there is none
    #[arg(long, requires = "test", conflicts_with = "force")]
    pub resume: bool,
    /// Replace the run in the folder
    #[arg(long, requires = "test")]
    pub force: bool,
}

/// Labelled examples to prompt with, and where they are from.
struct Demonstrations {
    task: Task,
    task_name: String,
    columns: ColumnOptions,
    labelled: Vec<(Example, usize)>,
    /// Method of the run that made the labels; none for a file.
    by: Option<String>,
    gold_used: GoldUse,
    inputs: Vec<Input>,
}

/// Labels the test file in a run folder and returns the folder.
pub(super) fn label_test(
    args: &HeldOutOptions,
    (model, server): (&ModelOptions, &ServerOptions),
    session: &mut Session,
) -> Result<PathBuf> {
    let began = Instant::now();
    let (Some(test), Some(source), Some(out)) = (&args.test, &args.demonstrations, &args.out)
    else {
        return Err(Error::new(ErrorKind::Internal, "an option of `--test` is missing"));
    };
    let mode = match (args.resume, args.force) {
        (true, _) => OpenMode::Resume,
        (_, true) => OpenMode::Force,
        _ => OpenMode::New,
    };
    RunDir::check_place(out, "eval", mode)?;
    let seed = args.seed.unwrap_or(0);
    let streams = SeedStream::new(seed);
    let mut demonstrations = demonstrations(args, source)?;
    let columns = demonstrations.columns.names();
    let dataset = Dataset::read(test, &demonstrations.task.clone().with_columns(&columns)?)?;
    let num_labels = dataset.labelled_task(demonstrations.task.clone())?.num_labels();
    if num_labels != demonstrations.task.num_labels() {
        return Err(Error::new(
            ErrorKind::Data,
            format!(
                "questions have {num_labels} options, those of the demonstrations {}",
                demonstrations.task.num_labels()
            ),
        )
        .at(test)
        .hint("demonstrations and test need the same labels"));
    }
    let num_given = demonstrations.labelled.len();
    let num_shared = keep_apart(&mut demonstrations.labelled, &dataset);
    if num_shared > 0 {
        session.voice.warn(&Warning::SharedTexts { num_demonstrations: num_shared });
    }
    draw(args, &mut demonstrations.labelled, streams)?;
    add_noise(args, &mut demonstrations, source, streams)?;
    let calibration = args.calibrate.unwrap_or_default();
    let method = Method::FewShot {
        demonstrations: demonstrations.labelled.clone(),
        calibration,
        prior: args.prior.prior(&demonstrations.task, calibration)?,
        // All test examples stand behind the same demonstrations, which are computed once.
        order: OrderOptions::DATASET,
    };
    let spinner = session.voice.wait(Wait::OpeningModel);
    let mut scorer = Backend::open(model, server, Need::Scores, session)?;
    let opened = (&*session, &scorer);
    let manifest = manifest(args, model, &demonstrations, &dataset, &method, opened, num_given)?;
    spinner.end();
    let folder = RunDir::open(out, &manifest, mode)?;
    if folder.is_complete() {
        session.voice.note(&Note::HeldOutComplete { folder: out.clone() });
        scorer.give_back(session);
        return Ok(out.clone());
    }
    session.voice.interruptible(Resume::Run { folder: out });
    let bar = session.voice.labelling(None, dataset.examples.len());
    let mut asked = Cached::new(Journaled::new(&mut scorer, folder.journal()?));
    let work_began = Instant::now();
    let labelling = label(
        &demonstrations.task,
        &dataset.examples,
        &method,
        streams,
        &mut asked,
        &mut |event: &TraceEvent| {
            bar.update(event)
        },
    )
    .map_err(|error| match error.kind() {
        ErrorKind::Context => {
            error.hint("prompt with fewer examples: `--num-demonstrations K`, or raise `--max-context` if the model can go beyond it")
        }
        _ => error,
    })?;
    let work_seconds = work_began.elapsed().as_secs_f64();
    bar.end();
    let mut bytes = Vec::new();
    write_labels(&mut bytes, &labelling.records)?;
    folder.write(LABELS, &bytes)?;
    folder.write_json("summary.json", &labelling.summary)?;
    let seconds = began.elapsed().as_secs_f64();
    scorer.write_cost(&folder)?;
    let folder = folder.finish(seconds, work_seconds)?;
    session.voice.tell(&Event::LabelledTest {
        labelling: &labelling,
        num_demonstrations: demonstrations.labelled.len(),
        seconds,
        folder: &folder,
    });
    scorer.tell_cost(&session.voice);
    scorer.give_back(session);
    Ok(out.clone())
}

fn demonstrations(args: &HeldOutOptions, source: &Path) -> Result<Demonstrations> {
    // `runs/mine` and `runs/mine/labels.jsonl` are the same labels.
    let folder = match source.parent() {
        Some(parent) if source.ends_with("labels.jsonl") && RunDir::existing(parent).is_ok() => {
            Some(parent)
        }
        _ if source.is_dir() => Some(source),
        _ => None,
    };
    match folder {
        Some(folder) => demonstrations_of_run(args, folder),
        None => demonstrations_of_file(args, source),
    }
}

fn demonstrations_of_run(args: &HeldOutOptions, path: &Path) -> Result<Demonstrations> {
    let (folder, manifest) = RunDir::existing(path)?;
    if !folder.is_complete() {
        return Err(Error::new(ErrorKind::Run, "the run is not complete").at(path).hint(format!(
            "end it first: the same `w2s {}` command with `--resume`",
            manifest.command
        )));
    }
    let before = task_of(&manifest, path)?;
    let setting = |key: &str| manifest.settings.get(key).and_then(Value::as_str);
    let task_name = match &args.task {
        Some(name) => name.clone(),
        None => setting("task").unwrap_or_default().to_owned(),
    };
    // Another task has other fields; those of the run's are where the run found them.
    let of_run = match &args.task {
        Some(_) => ColumnNames::default(),
        None => ColumnNames::of_settings(&manifest.settings),
    };
    let task =
        Task::load(&task_name)?.with_num_options(before.num_labels()).with_columns(&of_run)?;
    if !task.labels.iter().map(|label| &label.name).eq(before.labels.iter().map(|l| &l.name)) {
        return Err(Error::new(
            ErrorKind::Data,
            format!("task `{task_name}` has other labels than the run's task `{}`", before.name),
        )
        .at(path)
        .hint("leave out `--task`, or name a task with the same labels"));
    }
    let recorded = manifest.inputs.iter().find(|input| input.role == "data");
    let data = match (&args.demonstration_data, recorded) {
        (Some(path), _) => path.clone(),
        (None, Some(input)) => Origin::find(path, Path::new(&input.path)),
        (None, None) => {
            return Err(Error::new(ErrorKind::Run, "the run's manifest names no data file")
                .at(path)
                .hint("name it with `--demonstration-data FILE`"));
        }
    };
    let dataset = Dataset::read(&data, &task).map_err(|error| match error.kind() {
        ErrorKind::Io => {
            error.hint("the run's data is not there; name it with `--demonstration-data FILE`")
        }
        _ => error,
    })?;
    if recorded.is_some_and(|input| input.sha256 != dataset.sha256) {
        return Err(Error::new(ErrorKind::Run, "the data is not that of the run")
            .at(&data)
            .hint("name the file that the run labelled with `--demonstration-data FILE`"));
    }
    let labels = folder.file("labels.jsonl");
    Ok(Demonstrations {
        labelled: read_demonstrations(&labels, &task, &dataset)?,
        task,
        task_name,
        columns: match &args.task {
            Some(_) => args.columns.clone(),
            None => args.columns.over(&manifest.settings),
        },
        by: Some(setting("method").unwrap_or("unknown").to_owned()),
        gold_used: manifest.gold_used.clone(),
        inputs: vec![
            Input::of_file("demonstrations", &labels)?,
            Input::of_file("demonstration data", &data)?,
        ],
    })
}

fn demonstrations_of_file(args: &HeldOutOptions, path: &Path) -> Result<Demonstrations> {
    let Some(task_name) = args.task.clone() else {
        return Err(Error::new(ErrorKind::Usage, "demonstrations from a file need `--task TASK`")
            .hint("a run folder knows its task, a file does not"));
    };
    let task = args.columns.task(&task_name)?;
    let data = args.demonstration_data.as_deref().unwrap_or(path);
    // A file of ids and labels has no texts; the error should name the option that gives them.
    let dataset = Dataset::read(data, &task).map_err(|error| match &args.demonstration_data {
        None if error.kind() == ErrorKind::Data => error.hint(
            "expected examples with their labels; for a file of ids and labels name the examples with `--demonstration-data FILE`",
        ),
        _ => error,
    })?;
    let task = dataset.labelled_task(task)?;
    let mut inputs = vec![Input::of_file("demonstrations", path)?];
    if args.demonstration_data.is_some() {
        inputs.push(Input::of_file("demonstration data", data)?);
    }
    Ok(Demonstrations {
        labelled: read_demonstrations(path, &task, &dataset)?,
        task,
        task_name,
        columns: args.columns.clone(),
        by: None,
        gold_used: GoldUse::Because(format!(
            "labels of demonstrations were given by the user: {}",
            path.display()
        )),
        inputs,
    })
}

impl HeldOutOptions {
    /// The run folder of `--test`.
    pub(in crate::pipeline) fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Continues the run in the folder, or begins it, whatever the command line says.
    pub(in crate::pipeline) fn set_resume(&mut self) {
        if self.test.is_some() {
            (self.resume, self.force) = (true, false);
        }
    }
}

fn add_noise(
    args: &HeldOutOptions,
    demonstrations: &mut Demonstrations,
    source: &Path,
    streams: SeedStream,
) -> Result<()> {
    let Some(accuracy) = args.noise_accuracy else { return Ok(()) };
    if let Some(method) = &demonstrations.by {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "`--noise-accuracy` needs gold demonstrations, not the labels of a run ({method})"
            ),
        )
        .hint(
            "name the file with the gold labels: `--demonstrations GOLD --demonstration-data DATA`",
        ));
    }
    let labels: Vec<usize> = demonstrations.labelled.iter().map(|(_, label)| *label).collect();
    let num_labels = demonstrations.task.num_labels();
    let noisy =
        noisy_labels(&labels, num_labels, accuracy, args.noise_by.unwrap_or_default(), streams)?;
    for ((_, label), noisy) in demonstrations.labelled.iter_mut().zip(noisy) {
        *label = noisy;
    }
    demonstrations.gold_used = GoldUse::Because(format!(
        "demonstrations are gold labels made wrong at random to an accuracy of {accuracy}: {}",
        source.display()
    ));
    Ok(())
}

/// Draws demonstrations and their order: a file sorted by label would teach the model its last one.
/// The draw depends on the examples' ids, not on their order or labels, so that labels of one data
/// file by several methods are compared on the same prompts.
fn draw(
    args: &HeldOutOptions,
    labelled: &mut Vec<(Example, usize)>,
    streams: SeedStream,
) -> Result<()> {
    labelled.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    labelled.shuffle(&mut streams.rng("eval/demonstrations", &[]));
    let Some(num) = args.num_demonstrations else { return Ok(()) };
    if num < 2 || num > labelled.len() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("`--num-demonstrations` is {num}, expected 2 to {}", labelled.len()),
        ));
    }
    labelled.truncate(num);
    Ok(())
}

/// Takes out demonstrations that have the text of a test example, and gives the others ids that no
/// test example has. Returns how many were taken out.
///
/// Ids must not be trusted here: files without ids count their rows, and two files have a first row
/// each.
fn keep_apart(labelled: &mut Vec<(Example, usize)>, test: &Dataset) -> usize {
    let texts: HashSet<_> = test.examples.iter().map(|example| &example.fields).collect();
    let num_before = labelled.len();
    labelled.retain(|(example, _)| !texts.contains(&example.fields));
    for (example, _) in labelled.iter_mut() {
        example.id = format!("demonstration/{}", example.id);
    }
    num_before - labelled.len()
}

fn manifest(
    args: &HeldOutOptions,
    model: &ModelOptions,
    demonstrations: &Demonstrations,
    test: &Dataset,
    method: &Method,
    (session, scorer): (&Session, &Backend),
    num_given: usize,
) -> Result<Manifest> {
    let mut settings = Map::new();
    settings.insert("task".into(), demonstrations.task_name.clone().into());
    if demonstrations.task.has_options() {
        settings.insert("num_labels".into(), demonstrations.task.num_labels().into());
    }
    demonstrations.columns.insert(&mut settings);
    settings.insert("data".into(), test.path.display().to_string().into());
    scorer.settings(model, &mut settings);
    let kind = match (&demonstrations.by, args.noise_accuracy) {
        (_, Some(_)) => "noise",
        (Some(by), None) => by,
        (None, None) => "given",
    };
    settings.insert("method".into(), format!("many-shot-{kind}").into());
    settings.insert("num_demonstrations".into(), demonstrations.labelled.len().into());
    settings.insert("num_demonstrations_given".into(), num_given.into());
    if let Method::FewShot { calibration, prior, .. } = method {
        settings.insert("calibration".into(), to_value(calibration)?);
        prior::insert(&mut settings, (prior, *calibration), &demonstrations.task);
    }
    if let Some(accuracy) = args.noise_accuracy {
        settings.insert("noise_accuracy".into(), accuracy.into());
        settings.insert("noise_by".into(), to_value(&args.noise_by.unwrap_or_default())?);
    }
    let mut inputs = vec![
        Input {
            role: "data".into(),
            path: test.path.display().to_string(),
            sha256: test.sha256.clone(),
        },
        Input {
            role: "task".into(),
            path: demonstrations.task_name.clone(),
            sha256: demonstrations.task.sha256.clone(),
        },
    ];
    inputs.extend(demonstrations.inputs.iter().cloned());
    inputs.extend(scorer.inputs(model, session)?);
    Ok(Manifest {
        command: "eval".into(),
        command_line: session.command_line(),
        settings,
        seed: args.seed.unwrap_or(0),
        inputs,
        gold_used: demonstrations.gold_used.clone(),
        versions: scorer.versions(model),
    })
}

fn to_value<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot record a setting: {e}")))
}
