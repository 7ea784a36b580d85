//! `w2s label`: labels for a file of examples, in a run folder.

mod baselines;
mod options;
mod published_flags;
pub(super) mod restarts;
mod search;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::backend::{Backend, CHAT_DATE, Need};
use super::note::Note;
use super::observer::{Event, Resume, Wait};
use super::outcome::Outcome;
use super::prior;
use super::session::Session;
use super::warning::Warning;
use crate::data::{Dataset, Example, Task, write_labels};
use crate::error::{Error, Result};
use crate::eval::Basins;
use crate::label::{
    BatchSize, DemonstrationLabels, Method, OrderOptions, Summary, TraceEvent, label,
};
use crate::lm::Moment;
use crate::run::files::{LABELS, TRACE};
use crate::run::{GoldUse, Input, Manifest, RunDir, SeedStream};
use crate::score::{Cached, Journaled};

pub use baselines::BaselineOptions;
pub use options::{LabelJob, MethodName, MostDemonstrations};
pub use published_flags::PublishedOptions;
pub use search::SearchOptions;

fn method_settings(method: &Method, settings: &mut Map<String, Value>) -> Result<()> {
    let order_settings = |order: &OrderOptions| {
        json!({ "order": order.order, "num_anchors": order.num_anchors,
            "leaf_block": order.leaf_block, "num_trees": order.num_trees,
            "most_demonstrations": order.num_demonstrations })
    };
    let batch_settings = |size: &BatchSize| {
        let (size, strict) = match size {
            BatchSize::AtMost(n) => (n, false),
            BatchSize::Exactly(n) => (n, true),
        };
        json!({ "batch_size": size, "batch_size_is_exact": strict })
    };
    let values = match method {
        Method::Icm { settings, rules, batch_size } => {
            let mut search = json!(settings);
            if settings.auto_alpha.is_some() {
                search["form"]["alpha"] = "auto".into();
            }
            vec![json!({ "search": search, "consistency": rules }), batch_settings(batch_size)]
        }
        Method::ZeroShot { calibration, .. } | Method::ZeroShotChat { calibration, .. } => {
            vec![json!({ "calibration": calibration })]
        }
        Method::FewShot { demonstrations, calibration, order, .. } => vec![
            json!({ "num_demonstrations": demonstrations.len(), "calibration": calibration }),
            order_settings(order),
        ],
        Method::ManyShot(many) => {
            let rounds = match many.labels {
                DemonstrationLabels::ZeroShot { rounds } => json!({ "rounds": rounds }),
                _ => json!({}),
            };
            let how = match many.num_demonstrations {
                Some(num) => json!({ "num_demonstrations": num }),
                None => batch_settings(&many.batch_size),
            };
            let calibration = json!({ "calibration": many.calibration });
            vec![rounds, how, calibration, order_settings(&many.order)]
        }
    };
    settings.insert("method".into(), method.name().into());
    for value in values {
        if let Value::Object(map) = value {
            settings.extend(map);
        }
    }
    Ok(())
}

pub(super) fn run(mut args: LabelJob, session: &mut Session) -> Result<Outcome<Summary>> {
    let began = Instant::now();
    if let Some(note) = args.imply_preset(&session.command_line()) {
        session.voice.note(&note);
    }
    args.run.check("label")?;
    args.model.follow(&session.voice)?;
    let mut task = args.columns.task(&args.task)?;
    if let Some(name) = args.variant(&task) {
        task = task.with_variant(name)?;
    }
    let mut dataset = Dataset::read(&args.data, &task)?;
    session.voice.tell_read(&dataset);
    args.ids.select(&mut dataset)?;
    let task = dataset.labelled_task(task)?;
    args.prepare(&task, &mut dataset, &session.voice)?;
    session.voice.warn_of_words(&task.prompt);
    let method = args.method(&task, &dataset)?;
    let examples: &[Example] = match args.limit {
        Some(n) if n < dataset.examples.len() => &dataset.examples[..n],
        _ => &dataset.examples,
    };
    let spinner = session.voice.wait(Wait::OpeningModel);
    let need = match method {
        Method::ZeroShotChat { .. } => Need::Chat,
        _ => Need::Scores,
    };
    let mut scorer = Backend::open(&args.model, &args.server, need, session)?;
    if let Some(date) = args.run.recorded(CHAT_DATE).as_deref().and_then(Moment::parse) {
        scorer.set_chat_date(date);
    }
    let manifest = manifest(&args, &task, &dataset, &method, (session, &scorer))?;
    spinner.end();
    session.reuse(&manifest, &args.run.out)?;
    let folder = RunDir::open(&args.run.out, &manifest, args.run.mode())?;
    if folder.is_complete() {
        session.voice.note(&Note::RunComplete { folder: args.run.out.clone() });
        scorer.give_back(session);
        return Outcome::complete(folder);
    }
    session.tell_settings(&manifest);
    match (&manifest.gold_used, &method) {
        (GoldUse::Because(reason), Method::Icm { .. }) => {
            session.voice.warn(&Warning::GoldInSearch { reason: reason.clone() });
        }
        (used, _) => session.voice.tell_gold(used),
    }
    let journal = folder.journal()?;
    if journal.num_left() > 0 {
        session.voice.note(&Note::PassesContinued { num_passes: journal.num_left() });
    }
    session.voice.interruptible(Resume::Run { folder: &args.run.out });
    let mut trace = Trace::new(&folder, &method)?;
    let iterations = match &method {
        Method::Icm { settings, .. } => Some(settings.iterations),
        _ => None,
    };
    let bar = session.voice.labelling(iterations, examples.len());
    let mut asked = Cached::new(Journaled::new(&mut scorer, journal));
    let work_began = Instant::now();
    let labelling = label(
        &task,
        examples,
        &method,
        SeedStream::new(args.run.seed),
        &mut asked,
        &mut |event: &TraceEvent| {
            bar.update(event)?;
            trace.write(event)
        },
    )?;
    let work_seconds = work_began.elapsed().as_secs_f64();
    bar.end();
    trace.finish()?;
    let mut bytes = Vec::new();
    write_labels(&mut bytes, &labelling.records)?;
    folder.write(LABELS, &bytes)?;
    match &labelling.summary.restarts {
        Some(all) => {
            let found = restarts::write(&folder, &labelling.restarts, all, &task)?;
            session.voice.tell(&Event::Restarted { restarts: all, basins: &found });
            let summary = Summarised { summary: &labelling.summary, basins: found };
            folder.write_json("summary.json", &summary)?;
        }
        None => folder.write_json("summary.json", &labelling.summary)?,
    }
    let seconds = began.elapsed().as_secs_f64();
    scorer.write_cost(&folder)?;
    let folder = folder.finish(seconds, work_seconds)?;
    session.voice.tell(&Event::Labelled {
        labelling: &labelling,
        calibration: method.calibration(),
        prior: method.prior(),
        seconds,
        folder: &folder,
    });
    scorer.tell_cost(&session.voice);
    session.tell_finished(&folder);
    scorer.give_back(session);
    Ok(Outcome { folder, summary: labelling.summary, seconds, was_complete: false })
}

/// The summary of several searches.
#[derive(Serialize)]
struct Summarised<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    /// Which searches found the same.
    basins: Basins,
}

fn manifest(
    args: &LabelJob,
    task: &Task,
    dataset: &Dataset,
    method: &Method,
    (session, scorer): (&Session, &Backend),
) -> Result<Manifest> {
    let mut settings = Map::new();
    settings.insert("task".into(), args.task.clone().into());
    settings.insert("prompt_variant".into(), task.prompt.name.clone().into());
    if task.has_options() {
        settings.insert("num_labels".into(), task.num_labels().into());
    }
    settings.insert("data".into(), args.data.display().to_string().into());
    args.columns.insert(&mut settings);
    settings.insert("limit".into(), args.limit.into());
    scorer.settings(&args.model, &mut settings);
    settings.insert("preset".into(), args.preset().into());
    method_settings(method, &mut settings)?;
    prior::insert(&mut settings, (method.prior(), method.calibration()), task);
    if let Method::Icm { .. } = method {
        let keys = if args.is_leaky() { "leaky-reference" } else { "text" };
        settings.insert("consistency_keys".into(), keys.into());
    }
    let mut inputs = vec![
        Input {
            role: "data".into(),
            path: args.data.display().to_string(),
            sha256: dataset.sha256.clone(),
        },
        Input { role: "task".into(), path: args.task.clone(), sha256: task.sha256.clone() },
    ];
    inputs.extend(args.ids.inputs(session)?);
    if let Some(path) = &args.demonstrations {
        inputs.push(Input::of_file("demonstrations", path)?);
    }
    match method {
        Method::ManyShot(many) if matches!(many.labels, DemonstrationLabels::Given(_)) => {
            args.baselines.record(&mut settings, &mut inputs)?;
        }
        Method::Icm { .. } if args.search_uses_gold() => {
            args.baselines.record(&mut settings, &mut inputs)?;
        }
        Method::ZeroShotChat { .. } => {
            scorer.record_chat(&args.model, session, (&mut settings, &mut inputs))?;
        }
        _ => {}
    }
    inputs.extend(scorer.inputs(&args.model, session)?);
    Ok(Manifest {
        command: "label".into(),
        command_line: session.command_line(),
        settings,
        seed: args.run.seed,
        inputs,
        gold_used: args.model.gold_used(args.gold_used(dataset)),
        versions: scorer.versions(&args.model),
    })
}

/// Writes `trace.jsonl`, or one for each of several searches. A resumed run writes it anew from the
/// beginning: its journal holds all that is needed.
struct Trace<'a> {
    folder: &'a RunDir,
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl<'a> Trace<'a> {
    fn new(folder: &'a RunDir, method: &Method) -> Result<Self> {
        let file = match method {
            Method::Icm { .. } => Some(BufWriter::new(folder.create(TRACE)?)),
            _ => None,
        };
        Ok(Self { folder, path: folder.file(TRACE), file })
    }

    /// Goes on with the trace of one of several searches. The run's own is written at the end, when
    /// it is known whose it is.
    fn restart(&mut self, restart: usize) -> Result<()> {
        // What was written of the search before is not to be lost in a buffer.
        self.sync()?;
        let name = restarts::file(restart, TRACE);
        self.file = Some(BufWriter::new(self.folder.create(&name)?));
        self.path = self.folder.file(&name);
        Ok(())
    }

    fn write(&mut self, event: &TraceEvent) -> Result<()> {
        if let TraceEvent::Restart { restart } = event {
            return self.restart(*restart);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        serde_json::to_writer(&mut *file, event)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            // A reader of a running search should see whole lines.
            .and_then(|()| file.flush())
            .map_err(|e| Error::io("write", &self.path, &e))
    }

    fn finish(mut self) -> Result<()> {
        self.sync()
    }

    /// Brings what was written to the disk.
    fn sync(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(|e| Error::io("write", &self.path, &e))
    }
}
