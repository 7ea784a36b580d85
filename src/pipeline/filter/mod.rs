//! `w2s filter`: which weak labels are kept, in a run folder.

mod options;

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::backend::{Backend, Need};
use super::observer::Voice;
use super::outcome::Outcome;
use super::prior;
use super::session::Session;
use super::words::{count, duration};
use crate::data::{
    AnswerRecord, Dataset, Task, WeakRecord, by_question, json_lines, read_json_lines,
};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::{
    Asking, Coverage, Filtered, KeepSettings, Variation, WeightBy, coverage, keep, read_published,
    write_published,
};
use crate::label::TraceEvent;
use crate::run::{GoldUse, Input, Manifest, RunDir, SeedStream, write_atomic};
use crate::score::{Journaled, Usage};
use crate::stats::quantile;

use options::AskForm;

pub use options::{AnswerForm, CalibrateName, FilterJob, WeightName};

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterSummary {
    /// Questions asked.
    pub num_examples: usize,
    /// Variants of all questions.
    pub num_prompts: usize,
    /// Questions kept.
    pub num_kept: usize,
    /// Share of the questions that was kept.
    pub retained_share: f64,
    /// The highest entropy that could be kept.
    pub threshold_nats: Option<f64>,
    /// Quartiles of the entropies.
    pub entropy_quartiles_nats: [f64; 3],
    /// Mean entropy of the answers, in nats.
    pub mean_entropy_nats: f64,
    /// Its part within variants: the mean of their entropies.
    pub mean_aleatoric_nats: f64,
    /// Its part between variants.
    pub mean_epistemic_nats: f64,
    /// Mean share of the variants that gave the weak label.
    pub mean_agreement: f64,
    /// Answers that could not be read.
    pub num_unparsed: usize,
    /// Their share.
    pub unparsed_share: f64,
    /// Rows drawn, with replacement.
    pub num_sampled: usize,
    /// How the kinds of questions fared.
    pub coverage: Vec<Coverage>,
    /// Tokens run through the model.
    pub tokens_computed: u64,
    /// Tokens that full prompts would have run.
    pub tokens_full_prompts: u64,
}

/// What the run was given or found out.
struct Found {
    answers: Vec<Vec<AnswerRecord>>,
    usage: Usage,
    work_seconds: f64,
}

pub(super) fn run(args: FilterJob, session: &mut Session) -> Result<Outcome<FilterSummary>> {
    let began = Instant::now();
    let mut task = Task::load(&args.task)?;
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
        say_complete(&args.run.out, &session.voice);
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
    let summary = summary(&found, &filtered, kinds);
    write(&folder, &found.answers, &filtered)?;
    folder.write_json("summary.json", &summary)?;
    if let Some(path) = &args.export_csv {
        let records: Vec<&WeakRecord> = filtered.kept.iter().chain(&filtered.dropped).collect();
        let table = write_published(&found.answers, &records, examples, |_| None)?;
        write_atomic(path, &table)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let folder = folder.finish(seconds, found.work_seconds)?;
    tell(&summary, &filtered, task.answers.is_open, seconds, &folder, &session.voice);
    Ok(Outcome { folder, summary, seconds, was_complete: false })
}

fn say_complete(out: &Path, voice: &Voice<'_>) {
    voice.say(format_args!("the run in {} is complete; nothing to do", out.display()));
}

fn read_data(args: &FilterJob, task: &Task, voice: &Voice<'_>) -> Result<Option<Dataset>> {
    let Some(path) = &args.data else { return Ok(None) };
    let mut dataset = Dataset::read(path, task)?;
    if dataset.num_unused > 0 {
        voice.say(format_args!(
            "{} records of the data are not of the task's kind and are left out",
            dataset.num_unused
        ));
    }
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
        voice.say(format_args!(
            "warning: {} questions of the table have another entropy than their answers; it is computed anew",
            published.num_other_entropy
        ));
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
    let spinner = session.voice.wait("opening the model");
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
        say_complete(&args.run.out, &session.voice);
        scorer.give_back(session);
        return Ok((folder, None));
    }
    session.tell_settings(&manifest);
    if let GoldUse::Because(reason) = &manifest.gold_used {
        session.voice.say(format_args!("gold is used: {reason}"));
    }
    let journal = folder.journal()?;
    if journal.num_left() > 0 {
        session.voice.say(format_args!("continuing after {} recorded passes", journal.num_left()));
    }
    session.voice.interruptible(
        &format!(
            "nothing is lost. Continue with the same command and --resume (run folder {})",
            args.run.out.display()
        ),
        false,
    );
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

fn summary(found: &Found, filtered: &Filtered, coverage: Vec<Coverage>) -> FilterSummary {
    let all: Vec<&WeakRecord> = filtered.kept.iter().chain(&filtered.dropped).collect();
    let num = all.len();
    let num_prompts: usize = found.answers.iter().map(Vec::len).sum();
    let mean = |value: fn(&WeakRecord) -> f64| {
        all.iter().map(|record| value(record)).sum::<f64>() / num.max(1) as f64
    };
    let entropies: Vec<f64> = all.iter().map(|record| record.entropy_nats).collect();
    FilterSummary {
        num_examples: num,
        num_prompts,
        num_kept: filtered.kept.len(),
        retained_share: filtered.kept.len() as f64 / num.max(1) as f64,
        threshold_nats: filtered.threshold_nats,
        entropy_quartiles_nats: [0.25, 0.5, 0.75].map(|q| quantile(entropies.clone(), q)),
        mean_entropy_nats: mean(|record| record.entropy_nats),
        mean_aleatoric_nats: mean(|record| record.aleatoric_nats),
        mean_epistemic_nats: mean(|record| record.epistemic_nats),
        mean_agreement: mean(|record| record.agreement),
        num_unparsed: filtered.num_unparsed,
        unparsed_share: filtered.num_unparsed as f64 / num_prompts.max(1) as f64,
        num_sampled: filtered.sample.len(),
        coverage,
        tokens_computed: found.usage.tokens_computed,
        tokens_full_prompts: found.usage.tokens_full_prompts,
    }
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

/// Kinds of questions that are named because little of them was kept.
const SHOWN_KINDS: usize = 4;
/// Fewer questions of a kind say nothing of it.
const LEAST_OF_KIND: usize = 5;

/// Says what was kept, and what should make its reader doubt it.
fn tell(
    s: &FilterSummary,
    filtered: &Filtered,
    is_open: bool,
    seconds: f64,
    folder: &RunDir,
    voice: &Voice<'_>,
) {
    let percent = |x: f64| 100.0 * x;
    voice.say(format_args!(
        "kept {} of {} questions ({:.1} %) by the entropy over {} variants, in {}",
        s.num_kept,
        s.num_examples,
        percent(s.retained_share),
        s.num_prompts,
        duration(seconds)
    ));
    let limit = s.threshold_nats.map_or(String::new(), |nats| format!("; kept up to {nats:.3}"));
    let [first, middle, third] = s.entropy_quartiles_nats;
    voice.say(format_args!(
        "  entropy in nats: quartiles {first:.3}, {middle:.3}, {third:.3}{limit}"
    ));
    voice.say(format_args!(
        "  mean {:.3}: {:.3} within the variants, {:.3} between them; {:.0} % of the variants agree with the label",
        s.mean_entropy_nats,
        s.mean_aleatoric_nats,
        s.mean_epistemic_nats,
        percent(s.mean_agreement)
    ));
    voice.say(format_args!(
        "  answers that could not be read: {} of {} ({:.1} %)",
        s.num_unparsed,
        s.num_prompts,
        percent(s.unparsed_share)
    ));
    tell_coverage(s, voice);
    if s.num_sampled > 0 {
        voice.say(format_args!("  drew {} rows of the kept ones, with replacement", s.num_sampled));
    }
    if s.tokens_computed >= s.tokens_full_prompts && s.tokens_computed > 0 {
        voice.say(format_args!("  {} tokens in prompts and answers", count(s.tokens_computed)));
    } else if s.tokens_computed > 0 {
        let saved = 1.0 - s.tokens_computed as f64 / s.tokens_full_prompts.max(1) as f64;
        voice.say(format_args!(
            "  {} tokens computed; full prompts would have been {} (saved {:.0} %)",
            count(s.tokens_computed),
            count(s.tokens_full_prompts),
            percent(saved)
        ));
    }
    if filtered.kept.is_empty() {
        voice.say(format_args!(
            "warning: nothing was kept\nhint: raise the quantile or the entropy that may be kept, or look at answers.jsonl"
        ));
    } else if s.retained_share > 0.95 && s.num_examples >= 8 {
        voice.say(format_args!(
            "warning: nearly everything was kept; the entropies are mostly equal\nhint: `--keep-fraction` keeps a share whatever the ties"
        ));
    }
    if s.unparsed_share > 0.2 {
        let other = if is_open { "another `--parser`" } else { "`--answers soft`" };
        voice.say(format_args!(
            "warning: many answers could not be read\nhint: see `output` in answers.jsonl; try {other}"
        ));
    }
    voice.say(format_args!("  wrote {}", folder.file("kept.jsonl").display()));
    voice.say(format_args!("  next: w2s eval {} --gold FILE", folder.path().display()));
}

/// Names the kinds of questions of which the filter left least.
fn tell_coverage(s: &FilterSummary, voice: &Voice<'_>) {
    let share = |kind: &Coverage| kind.num_kept as f64 / kind.num.max(1) as f64;
    let mut by: Vec<&str> = Vec::new();
    for kind in &s.coverage {
        if !by.contains(&kind.by.as_str()) {
            by.push(&kind.by);
        }
    }
    for by in by {
        let mut kinds: Vec<&Coverage> =
            s.coverage.iter().filter(|kind| kind.by == by && kind.num >= LEAST_OF_KIND).collect();
        if kinds.len() < 2 {
            continue;
        }
        kinds.sort_by(|a, b| share(a).total_cmp(&share(b)));
        let all = kinds.len();
        let shown: Vec<String> = kinds
            .iter()
            .take(SHOWN_KINDS)
            .map(|kind| format!("{} {:.0} % of {}", kind.kind, 100.0 * share(kind), kind.num))
            .collect();
        let more = if all > SHOWN_KINDS { format!(", ... ({all} kinds)") } else { String::new() };
        voice.say(format_args!("  kept by {by}, least first: {}{more}", shown.join(", ")));
    }
}
