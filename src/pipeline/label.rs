//! `w2s label`: labels for a file of examples, in a run folder.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::label_args::LabelJob;
use super::observer::Voice;
use super::opened::{CHAT_DATE, Need, Opened};
use super::outcome::Outcome;
use super::prior_args;
use super::restarts;
use super::session::Session;
use super::words::{count, duration};
use crate::data::{Dataset, Example, Task, write_labels};
use crate::error::{Error, Result};
use crate::eval::Basins;
use crate::label::{
    BatchSize, DemonstrationLabels, Labelling, Method, OrderOptions, Summary, TraceEvent, label,
};
use crate::lm::Moment;
use crate::run::files::{LABELS, TRACE};
use crate::run::{GoldUse, Input, Manifest, RunDir, SeedStream};
use crate::score::{Cached, Calibration, Journaled, Prior};

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
    if let Some(message) = args.imply_preset(&session.command_line()) {
        session.voice.say(format_args!("{message}"));
    }
    let mut task = Task::load(&args.task)?;
    if let Some(name) = args.variant(&task) {
        task = task.with_variant(name)?;
    }
    let mut dataset = Dataset::read(&args.data, &task)?;
    if dataset.num_unused > 0 {
        session.voice.say(format_args!(
            "{} records of the data are not of the task's kind and are left out",
            dataset.num_unused
        ));
    }
    args.ids.select(&mut dataset)?;
    let task = dataset.labelled_task(task)?;
    args.prepare(&task, &mut dataset, &session.voice)?;
    session.voice.warn_of_words(&task.prompt);
    let method = args.method(&task, &dataset)?;
    let examples: &[Example] = match args.limit {
        Some(n) if n < dataset.examples.len() => &dataset.examples[..n],
        _ => &dataset.examples,
    };
    let spinner = session.voice.wait("opening the model");
    let need = match method {
        Method::ZeroShotChat { .. } => Need::Chat,
        _ => Need::Scores,
    };
    let mut scorer = Opened::open(&args.model, &args.server, need, session)?;
    if let Some(date) = args.run.recorded(CHAT_DATE).as_deref().and_then(Moment::parse) {
        scorer.set_chat_date(date);
    }
    let manifest = manifest(&args, &task, &dataset, &method, (session, &scorer))?;
    spinner.end();
    session.reuse(&manifest, &args.run.out)?;
    let folder = RunDir::open(&args.run.out, &manifest, args.run.mode())?;
    if folder.is_complete() {
        session
            .voice
            .say(format_args!("the run in {} is complete; nothing to do", args.run.out.display()));
        scorer.give_back(session);
        return Outcome::complete(folder);
    }
    session.tell_settings(&manifest);
    match (&manifest.gold_used, &method) {
        (GoldUse::Because(reason), Method::Icm { .. }) => session.voice.say(format_args!(
            "warning: gold is used: {reason}\nhint: the labels are not found without supervision; do not report them as such"
        )),
        (GoldUse::Because(reason), _) => session.voice.say(format_args!("gold is used: {reason}")),
        (GoldUse::No(_), _) => {}
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
            restarts::tell(all, &found, &session.voice);
            let summary = Summarised { summary: &labelling.summary, basins: found };
            folder.write_json("summary.json", &summary)?;
        }
        None => folder.write_json("summary.json", &labelling.summary)?,
    }
    let seconds = began.elapsed().as_secs_f64();
    scorer.write_cost(&folder)?;
    let folder = folder.finish(seconds, work_seconds)?;
    tell(&labelling, (method.calibration(), method.prior()), seconds, &folder, &session.voice);
    scorer.tell_cost(&session.voice);
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
    (session, scorer): (&Session, &Opened),
) -> Result<Manifest> {
    let mut settings = Map::new();
    settings.insert("task".into(), args.task.clone().into());
    settings.insert("prompt_variant".into(), task.prompt.name.clone().into());
    if task.has_options() {
        settings.insert("num_labels".into(), task.num_labels().into());
    }
    settings.insert("data".into(), args.data.display().to_string().into());
    settings.insert("limit".into(), args.limit.into());
    scorer.settings(&args.model, &mut settings);
    settings.insert("preset".into(), args.preset().into());
    method_settings(method, &mut settings)?;
    prior_args::insert(&mut settings, (method.prior(), method.calibration()), task);
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

/// Share of the examples to which calibration must give another label before it is warned of.
const MUCH_MOVED: f64 = 0.1;

/// Says what was found, and what should make its reader doubt it.
fn tell(
    labelling: &Labelling,
    (calibration, prior): (Calibration, &Prior),
    seconds: f64,
    folder: &RunDir,
    voice: &Voice<'_>,
) {
    let s = &labelling.summary;
    voice.say(format_args!(
        "labelled {} examples by {} in {}",
        labelling.records.len(),
        s.method,
        duration(seconds)
    ));
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let shares: Vec<String> =
        s.share.iter().map(|(l, x)| format!("{l} {:.0} %", 100.0 * number(x))).collect();
    voice.say(format_args!("  labels: {}", shares.join(", ")));
    if let Some(raw) = &s.uncalibrated_share {
        let shown: Vec<String> =
            raw.iter().map(|(l, x)| format!("{l} {:.0} %", 100.0 * number(x))).collect();
        voice
            .say(format_args!("  as the model answers, without calibration: {}", shown.join(", ")));
        let moved = s.share.iter().map(|(l, x)| (number(x) - number(&raw[l])).max(0.0));
        let moved: f64 = moved.sum();
        if moved > MUCH_MOVED && labelling.records.len() >= 8 {
            let (assumes, rare) = match (calibration, prior) {
                (Calibration::Batch | Calibration::BatchMeanProb, Prior::Equal) => (
                    "; it assumes that the labels are about equally frequent",
                    format!(
                        "if one of them is rare in your data, say how rare, as in `--prior {}=0.1`, or use `--calibrate content-free`; ",
                        s.share.keys().next().map_or("LABEL", String::as_str)
                    ),
                ),
                _ => ("", "compare with `--calibrate none`; ".to_owned()),
            };
            voice.say(format_args!(
                "warning: calibration gives {:.0} % of the examples another label{assumes}\nhint: {rare}where a model says one word to everything, calibration is what helps",
                100.0 * moved
            ));
        }
    }
    if let Some(score) = s.score {
        tell_score(s, score, voice);
    }
    if let Some(many) = &s.many_shot {
        let rounds: Vec<String> = many.changed_by_round.iter().map(usize::to_string).collect();
        let changed = match rounds.as_slice() {
            [] => String::new(),
            all => format!("; labels changed by round: {}", all.join(", ")),
        };
        voice.say(format_args!(
            "  batches: {}; demonstrations in the longest prompt: {}{changed}",
            many.num_batches, many.num_demonstrations
        ));
    }
    if let (Some(accepted), Some(proposals), Some(passes)) =
        (s.num_accepted, s.num_proposals, s.num_passes)
    {
        voice.say(format_args!(
            "  {accepted} of {proposals} proposals accepted, {passes} passes over the labels"
        ));
    }
    if let Some(alphas) = &s.alphas {
        let all: Vec<String> = alphas.iter().map(|alpha| format!("{alpha:.2}")).collect();
        voice.say(format_args!("  alpha chosen: {}", all.join(", ")));
    }
    if let Some(num @ 1..) = s.num_collapsed {
        let or_calibrate = match calibration {
            Calibration::None => " or `--calibrate batch`",
            _ => "",
        };
        voice.say(format_args!(
            "warning: {num} of {} batches collapsed and were not searched further: nearly all examples got the same label\nhint: use a consistency rule{or_calibrate}, or try another seed",
            s.num_batches.unwrap_or(num)
        ));
    }
    let saved = 1.0 - s.tokens_computed as f64 / s.tokens_full_prompts.max(1) as f64;
    if saved < 0.0 {
        // A server is sent a prompt once for each label.
        voice.say(format_args!("  {} tokens in prompts and answers", count(s.tokens_computed)));
    } else {
        voice.say(format_args!(
            "  {} tokens computed; full prompts would have been {} (saved {:.0} %)",
            count(s.tokens_computed),
            count(s.tokens_full_prompts),
            100.0 * saved
        ));
    }
    if s.num_unlabelled > 0 {
        voice.say(format_args!(
            "warning: {} examples got no label\nhint: raise `--iterations`",
            s.num_unlabelled
        ));
    }
    if s.share.values().any(|x| number(x) > 0.95) && labelling.records.len() >= 8 {
        let remedy = match calibration {
            Calibration::None => {
                "the model prefers its word: try `--calibrate batch`, a consistency rule, or other label words"
            }
            // That preference is taken off already.
            _ => "try a consistency rule, other label words, or a larger model",
        };
        voice.say(format_args!(
            "warning: nearly all examples got the same label\nhint: right if one label is that frequent in your data; if not, {remedy}"
        ));
    }
    voice.say(format_args!("  wrote {}", folder.file("labels.jsonl").display()));
}

/// Says what U is worth: what is left of it under a new order of demonstrations, and what labels score
/// that are not to be believed.
fn tell_score(s: &Summary, score: f64, voice: &Voice<'_>) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    match &s.order_check {
        Some(check) => {
            let num = check.share_predicted_otherwise * check.num_labels as f64;
            voice.say(format_args!(
                "  score U {score:.2}; under a new demonstration order U {:.2}, and {num:.0} of {} labels would change",
                check.score, check.num_labels
            ));
        }
        None => voice.say(format_args!("  score U {score:.2}")),
    }
    let least = s.order_check.map_or(score, |check| check.score.min(score));
    if let Some(permuted) = &s.permuted_scores {
        let (low, high) = permuted
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(*x), b.max(*x)));
        voice.say(format_args!(
            "  the same labels permuted over the texts: U {low:.2} to {high:.2} ({} permutations)",
            permuted.len()
        ));
        if high >= least {
            voice.say(format_args!(
                "warning: labels that say nothing of the texts score as high; these labels are not to be trusted\nhint: use more or shorter examples, a larger model, or `--restarts`, and see which labels return"
            ));
        }
    }
    if let Some(constants) = &s.constant_scores {
        let all: Vec<String> =
            constants.iter().map(|(l, x)| format!("all {l} {:.2}", number(x))).collect();
        voice.say(format_args!("  one label for all examples: U {}", all.join(", ")));
        if constants.values().map(number).fold(f64::NEG_INFINITY, f64::max) >= least {
            voice.say(format_args!(
                "warning: giving every example the same label scores as high; these labels are not to be trusted\nhint: use a consistency rule or `--calibrate batch`, which make such labellings score low"
            ));
        }
    }
    if let Some(restarts) = &s.restarts {
        let others: Vec<String> = restarts
            .iter()
            .filter(|restart| !restart.kept)
            .map(|restart| format!("{:.2}", restart.score))
            .collect();
        voice.say(format_args!("  searches from other starts: U {}", others.join(", ")));
    }
}
