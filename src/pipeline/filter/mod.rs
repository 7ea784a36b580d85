//! `w2s filter`: which weak labels are kept, in a run folder.

mod options;
mod summary;

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use serde_json::{Map, json};

use super::backend::{Backend, Need};
use super::note::Note;
use super::observer::{Event, Resume, Wait};
use super::outcome::Outcome;
use super::prior;
use super::session::Session;
use super::voice::Voice;
use super::warning::Warning;
use crate::data::{
    AnswerRecord, Dataset, Task, WeakRecord, by_question, json_lines, read_json_lines,
};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::{
    Asking, Filtered, KeepSettings, Variation, WeightBy, coverage, keep, read_published,
    write_published,
};
use crate::label::TraceEvent;
use crate::run::{GoldUse, Input, Manifest, RunDir, SeedStream, write_atomic};
use crate::score::{Journaled, Usage};

use options::AskForm;
use summary::summary;

pub use options::{AnswerForm, CalibrateName, FilterJob, WeightName};
pub use summary::FilterSummary;

/// What the run was given or found out.
struct Found {
    answers: Vec<Vec<AnswerRecord>>,
    usage: Usage,
    work_seconds: f64,
}

pub(super) fn run(mut args: FilterJob, session: &mut Session) -> Result<Outcome<FilterSummary>> {
    let began = Instant::now();
    args.run.check("filter")?;
    if let Some(model) = &mut args.model {
        model.follow(&session.voice)?;
    }
    let mut task = args.columns.task(&args.task)?;
    if let Some(name) = args.prompt_variant.clone().or_else(|| task.answers.prompt.clone()) {
        task = task.with_variant(&name)?;
    }
    let dataset = read_data(&args, &task, &session.voice)?;
    if let Some(dataset) = &dataset
        && task.has_options()
    {
        task = task.with_num_options(dataset.max_options());
    }
    let task = task;
    let keeping = args.keep_settings(&task)?;
    session.voice.warn_of_words(&task.prompt);
    refuse_existing(args.export_csv.as_deref(), &args)?;
    let (folder, found) = match (&args.from, &dataset) {
        (Some(from), _) => {
            args.server.forbid()?;
            let answers = given_answers(from, &task, dataset.as_ref(), &session.voice)?;
            let manifest = manifest(&args, &task, dataset.as_ref(), &keeping, (session, None))?;
            let folder = RunDir::open(&args.run.out, &manifest, args.run.mode())?;
            (folder, Found { answers, usage: Usage::default(), work_seconds: 0.0 })
        }
        (None, Some(dataset)) => match ask(&args, &task, dataset, &keeping, session)? {
            (folder, Some(found)) => (folder, found),
            (folder, None) => return Outcome::complete(folder),
        },
        // The command line asks for one of both.
        (None, None) => return Err(Error::new(ErrorKind::Internal, "neither data nor answers")),
    };
    if folder.is_complete() {
        session.voice.note(&Note::RunComplete { folder: args.run.out.clone() });
        return Outcome::complete(folder);
    }
    let examples = dataset.as_ref().map(|dataset| dataset.examples.as_slice());
    let filtered = keep(&found.answers, examples, &keeping, &SeedStream::new(args.run.seed))?;
    let kinds = coverage(
        &filtered,
        examples.unwrap_or_default(),
        &task.answers.kinds,
        !task.answers.is_open,
    );
    let summary = summary(&found.answers, found.usage, &filtered, kinds);
    write(&folder, &found.answers, &filtered)?;
    folder.write_json("summary.json", &summary)?;
    if let Some(path) = &args.export_csv {
        let records: Vec<&WeakRecord> = filtered.kept.iter().chain(&filtered.dropped).collect();
        let table = write_published(&found.answers, &records, examples, |_| None)?;
        write_atomic(path, &table)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let folder = folder.finish(seconds, found.work_seconds)?;
    session.voice.tell(&Event::Filtered {
        summary: &summary,
        is_open: task.answers.is_open,
        seconds,
        folder: &folder,
    });
    session.tell_finished(&folder);
    Ok(Outcome { folder, summary, seconds, was_complete: false })
}

fn read_data(args: &FilterJob, task: &Task, voice: &Voice<'_>) -> Result<Option<Dataset>> {
    let Some(path) = &args.data else { return Ok(None) };
    let mut dataset = Dataset::read(path, task)?;
    voice.tell_read(&dataset);
    if let Some(limit) = args.limit {
        dataset.examples.truncate(limit.get());
    }
    args.ids.select(&mut dataset)?;
    Ok(Some(dataset))
}

/// A table that the user may have changed is not written over.
fn refuse_existing(path: Option<&Path>, args: &FilterJob) -> Result<()> {
    match path {
        Some(path) if path.exists() && args.run.mode() == crate::run::OpenMode::New => {
            Err(Error::new(ErrorKind::Run, "the file is there already").at(path).hint(
                "choose another name for `--export-csv`, or replace it and the run with `--force`",
            ))
        }
        _ => Ok(()),
    }
}

fn given_answers(
    from: &Path,
    task: &Task,
    dataset: Option<&Dataset>,
    voice: &Voice<'_>,
) -> Result<Vec<Vec<AnswerRecord>>> {
    let is_table = from.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    if !is_table {
        let records: Vec<AnswerRecord> = read_json_lines(from)?;
        if records.is_empty() {
            return Err(Error::new(ErrorKind::Data, "the file holds no answers").at(from));
        }
        return Ok(by_question(records, |record| &record.id));
    }
    let examples = dataset.map(|dataset| dataset.examples.as_slice());
    let published = read_published(from, task, examples)?;
    if published.num_other_entropy > 0 {
        voice.warn(&Warning::OtherEntropy { num_questions: published.num_other_entropy });
    }
    Ok(published.answers)
}

/// Asks the model; nothing is found if the run was complete.
fn ask(
    args: &FilterJob,
    task: &Task,
    dataset: &Dataset,
    keeping: &KeepSettings,
    session: &mut Session,
) -> Result<(RunDir, Option<Found>)> {
    let Some(model) = &args.model else {
        return Err(Error::new(
            ErrorKind::Usage,
            "`w2s filter` needs `--model DIR` or `--from FILE`",
        ));
    };
    let form = args.ask_form(task)?;
    let variation = variation(args, task)?;
    let streams = SeedStream::new(args.run.seed);
    // Before the model: a question that cannot be varied should not wait for it.
    let asking = Asking::new(task, &dataset.examples, variation, &streams)?;
    let spinner = session.voice.wait(Wait::OpeningModel);
    let need = match form {
        AskForm::Soft(..) => Need::Scores,
        AskForm::Votes(..) => Need::Writing,
    };
    let mut scorer = Backend::open(model, &args.server, need, session)?;
    let asked = (&*session, Some((&scorer, form.clone())));
    let manifest = manifest(args, task, Some(dataset), keeping, asked)?;
    spinner.end();
    session.reuse(&manifest, &args.run.out)?;
    let folder = RunDir::open(&args.run.out, &manifest, args.run.mode())?;
    if folder.is_complete() {
        session.voice.note(&Note::RunComplete { folder: args.run.out.clone() });
        scorer.give_back(session);
        return Ok((folder, None));
    }
    session.tell_settings(&manifest);
    session.voice.tell_gold(&manifest.gold_used);
    let journal = folder.journal()?;
    if journal.num_left() > 0 {
        session.voice.note(&Note::PassesContinued { num_passes: journal.num_left() });
    }
    session.voice.interruptible(Resume::Run { folder: &args.run.out });
    let total = dataset.examples.len();
    let bar = session.voice.labelling(None, total);
    let mut observe = |done| bar.update(&TraceEvent::Scored { done, total });
    let mut asked = Journaled::new(&mut scorer, journal);
    let work_began = Instant::now();
    let (answers, usage) = match form {
        AskForm::Soft(calibration, prior) => {
            asking.soft_with_prior(calibration, &prior, &mut asked, &mut observe)?
        }
        AskForm::Votes(parser, num) => asking.votes(parser, num, &mut asked, &mut observe)?,
    };
    bar.end();
    let work_seconds = work_began.elapsed().as_secs_f64();
    scorer.write_cost(&folder)?;
    scorer.tell_cost(&session.voice);
    scorer.give_back(session);
    Ok((folder, Some(Found { answers, usage, work_seconds })))
}

pub(super) fn variation(args: &FilterJob, task: &Task) -> Result<Variation> {
    let kind = task.variant_kind(args.variants)?;
    // Where nothing is dropped one answer will do: so a test file is answered.
    let least = if args.keep_fraction == Some(1.0) { 1 } else { 2 };
    if let Some(num) = args.num_variants.filter(|num| *num < least) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("`--num-variants` is {num}, expected {least} or more"),
        )
        .hint("one answer says nothing of how sure the model is"));
    }
    Ok(Variation { kind, num: args.num_variants })
}

fn manifest(
    args: &FilterJob,
    task: &Task,
    dataset: Option<&Dataset>,
    keeping: &KeepSettings,
    (session, asked): (&Session, Option<(&Backend, AskForm)>),
) -> Result<Manifest> {
    let mut settings = Map::new();
    settings.insert("task".into(), args.task.clone().into());
    settings.insert("prompt_variant".into(), task.prompt.name.clone().into());
    if task.has_options() {
        settings.insert("num_labels".into(), task.num_labels().into());
    }
    let mut inputs =
        vec![Input { role: "task".into(), path: args.task.clone(), sha256: task.sha256.clone() }];
    if let Some(dataset) = dataset {
        let path = dataset.path.display().to_string();
        settings.insert("data".into(), path.clone().into());
        inputs.push(Input { role: "data".into(), path, sha256: dataset.sha256.clone() });
    }
    args.columns.insert(&mut settings);
    let mut versions = Map::new();
    versions.insert("w2s".into(), env!("CARGO_PKG_VERSION").into());
    match (asked, &args.from, &args.model) {
        (Some((scorer, form)), _, Some(model)) => {
            settings.insert("limit".into(), args.limit.map(NonZeroUsize::get).into());
            scorer.settings(model, &mut settings);
            let variation = variation(args, task)?;
            settings.insert("variants".into(), variation.kind.name().into());
            let num = variation.num.map_or_else(|| json!("up to 5"), |num| json!(num));
            settings.insert("num_variants".into(), num);
            match form {
                AskForm::Soft(calibration, prior) => {
                    settings.insert("answers".into(), "soft".into());
                    settings.insert("calibration".into(), json!(calibration));
                    prior::insert(&mut settings, (&prior, calibration), task);
                }
                AskForm::Votes(parser, num) => {
                    settings.insert("answers".into(), "votes".into());
                    settings.insert("parser".into(), parser.name().into());
                    settings.insert("max_new_tokens".into(), num.into());
                }
            }
            inputs.extend(scorer.inputs(model, session)?);
            versions = scorer.versions(model);
        }
        (_, Some(from), _) => {
            settings.insert("answers".into(), "given".into());
            inputs.push(Input::of_file("answers", from)?);
        }
        _ => {}
    }
    inputs.extend(args.ids.inputs(session)?);
    settings.insert("filter".into(), json!(keeping.rule));
    settings.insert("sampling".into(), keeping.sampling.into());
    settings.insert("validation_fraction".into(), keeping.validation_fraction.into());
    let weight = match &keeping.weight_by {
        WeightBy::Reliability { temperature } => {
            json!({ "by": "reliability", "temperature": temperature })
        }
        WeightBy::Margin => json!({ "by": "margin" }),
        WeightBy::SoftAgreement => json!({ "by": "soft-agreement" }),
        WeightBy::IcmMargin(_) => json!({ "by": "icm-margin" }),
    };
    settings.insert("weight".into(), weight);
    if let Some(path) = &args.labels {
        inputs.push(Input::of_file("labels", path)?);
    }
    Ok(Manifest {
        command: "filter".into(),
        command_line: session.command_line(),
        settings,
        seed: args.run.seed,
        inputs,
        gold_used: gold_used(args),
        versions,
    })
}

/// Why gold had a part in the model, or in the run whose answers or labels are taken.
fn gold_used(args: &FilterJob) -> GoldUse {
    let of_model = args.model.as_ref().map(|model| model.gold_used(GoldUse::no()));
    let files = [("answers", &args.from), ("labels of the margins", &args.labels)];
    let of_files = files.into_iter().filter_map(|(what, file)| {
        let (_, manifest) = RunDir::existing(file.as_ref()?.parent()?).ok()?;
        match manifest.gold_used {
            GoldUse::Because(reason) => {
                Some(GoldUse::Because(format!("the {what} were made with it: {reason}")))
            }
            GoldUse::No(_) => None,
        }
    });
    let mut marks = of_model.into_iter().chain(of_files);
    marks.find(|used| matches!(used, GoldUse::Because(_))).unwrap_or_else(GoldUse::no)
}

fn write(folder: &RunDir, answers: &[Vec<AnswerRecord>], filtered: &Filtered) -> Result<()> {
    let rows: Vec<&AnswerRecord> = answers.iter().flatten().collect();
    let files = [
        ("answers.jsonl", json_lines(&rows)?),
        ("weights.jsonl", json_lines(&filtered.weights)?),
        ("dropped.jsonl", json_lines(&filtered.dropped)?),
        ("kept.jsonl", json_lines(&filtered.kept)?),
    ];
    for (name, bytes) in files {
        folder.write(name, &bytes)?;
    }
    if !filtered.sample.is_empty() {
        folder.write("sample.jsonl", &json_lines(&filtered.sample)?)?;
    }
    Ok(())
}
