//! `w2s plan`: what a recipe or a command will cost, before it is run.
//!
//! The steps are run with models that count the tokens they would run and answer as good as at random:
//! prompts, orders, searches, filters and batches are those of the real run, only what depends on the
//! answers is not. Then the machine is measured with the real models for some seconds. For a model behind
//! a server the requests are made as they would be sent, and counted.

mod options;
mod served;
mod speed;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::job::Job;
use super::model::ModelOptions;
use super::observer::Voice;
use super::session::Session;
use super::step::{Step, run_step};
use super::train::TrainJob;
use super::words::{count, duration};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Z_95, wilson};
use crate::recipe::{Recipe, words};
use crate::report::aligned;
use crate::score::{Asked, MemorySize, Work};

use served::Served;
use speed::{Speed, measure};

pub use options::PlanJob;

/// What the runs of one step of a recipe cost together.
#[derive(Debug, Serialize)]
struct Line {
    step: String,
    num_runs: usize,
    #[serde(flatten)]
    work: Work,
    /// On this machine, if it was measured.
    seconds: Option<f64>,
}

/// How wide an interval will be.
#[derive(Debug, Serialize)]
struct Width {
    step: String,
    num_items: usize,
    /// Half the 95 % interval of one run's accuracy of 80 %.
    half_width: f64,
}

#[derive(Debug, Serialize)]
struct Planned {
    steps: Vec<Line>,
    /// What servers would be asked, by step and route.
    served: Vec<Served>,
    total: Work,
    /// On this machine, without opening the models.
    seconds: Option<f64>,
    /// Weights and working memory of the largest step, in bytes.
    peak_bytes: u64,
    intervals: Vec<Width>,
    speeds: BTreeMap<String, Speed>,
}

/// A step that was counted.
struct Counted {
    of: String,
    work: Work,
    served: Vec<Asked>,
    model: Option<ModelOptions>,
    train: Option<TrainJob>,
}

pub(super) fn run(args: PlanJob, session: &Session<'_>) -> Result<()> {
    let args = &args;
    if !(0.0..=600.0).contains(&args.measure) {
        return Err(Error::new(ErrorKind::Usage, "`--measure` takes 0 to 600 seconds"));
    }
    let place = tempfile::Builder::new()
        .prefix("w2s-plan-")
        .tempdir()
        .map_err(|e| Error::io("make a folder in", &std::env::temp_dir(), &e))?;
    let steps = steps(args, place.path())?;
    let counted = count_steps(&steps, &session.voice)?;
    let planned = planned(args, &steps, &counted, place.path(), &session.voice)?;
    if args.json {
        let text = serde_json::to_string_pretty(&planned)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        return session.voice.print(format_args!("{text}"));
    }
    tell(args, &planned, &session.voice)
}

/// Returns the steps with the name each has in the recipe; their folders are below `place`.
fn steps(args: &PlanJob, place: &Path) -> Result<Vec<(String, Step)>> {
    if let Some(name) = &args.recipe {
        let recipe = Recipe::load(name)?;
        let (expanded, steps) = args.place.expand(&recipe, place)?;
        args.place.prepare(&recipe, (&expanded, &steps), &mut Session::default())?;
        return Ok(expanded.steps.into_iter().map(|step| step.of).zip(steps).collect());
    }
    let mut argv = args.command.clone();
    let out = place.join("run").display().to_string();
    words::set(&mut argv, "--out", &out);
    let name = argv.first().cloned().unwrap_or_default();
    let step = Step::parse(&name, &argv)?;
    Ok(vec![(name, step)])
}

/// Returns whether a job does anything that can be counted, or makes files for others that do.
fn counts(job: &Job) -> bool {
    match job {
        Job::Label(_)
        | Job::Filter(_)
        | Job::Relabel(_)
        | Job::Train(_)
        | Job::Loop(_)
        | Job::Data(_) => true,
        Job::Eval(_) => job.out().is_some(),
        _ => false,
    }
}

fn count_steps(steps: &[(String, Step)], voice: &Voice<'_>) -> Result<Vec<Counted>> {
    let mut session = Session::default();
    session.count_only();
    let spinner = voice.wait("counting");
    let mut all = Vec::new();
    for (of, step) in steps {
        if !counts(&step.job) {
            continue;
        }
        run_step(step, None, &mut session)?;
        all.push(Counted {
            of: of.clone(),
            work: session.take_counted(),
            served: session.take_served(),
            model: local_model(&step.job)?,
            train: step.job.training(),
        });
    }
    spinner.end();
    Ok(all)
}

/// The model that a job runs on this machine.
fn local_model(job: &Job) -> Result<Option<ModelOptions>> {
    let Some(model) = job.model() else { return Ok(None) };
    Ok(match model.server()? {
        Some(_) => None,
        None => Some(model),
    })
}

fn planned(
    args: &PlanJob,
    steps: &[(String, Step)],
    counted: &[Counted],
    place: &Path,
    voice: &Voice<'_>,
) -> Result<Planned> {
    let mut speeds: BTreeMap<String, Speed> = BTreeMap::new();
    let models: Vec<&Counted> = {
        let mut seen: Vec<String> = Vec::new();
        let is_new = |one: &&Counted| {
            let Some(model) = &one.model else { return false };
            let name = model.model.display().to_string();
            let new = !seen.contains(&name);
            seen.push(name);
            new
        };
        counted.iter().filter(is_new).collect()
    };
    let mut session = Session::default();
    for one in &models {
        let Some(model) = &one.model else { continue };
        let of_model = |other: &&Counted| {
            other.model.as_ref().is_some_and(|m| m.model == model.model) && other.train.is_some()
        };
        let train = counted.iter().find(of_model).and_then(|other| other.train.as_ref());
        let writes = counted.iter().any(|other| {
            other.model.as_ref().is_some_and(|m| m.model == model.model)
                && other.work.num_written > 0
        });
        let spinner = voice.wait("measuring");
        let seconds = args.measure / models.len() as f64;
        let speed = measure(model, train, writes, seconds, &mut session)?;
        spinner.end();
        speeds.insert(model.model.display().to_string(), speed);
    }
    let speed = |one: &Counted| speeds.get(&one.model.as_ref()?.model.display().to_string());
    let mut lines: Vec<Line> = Vec::new();
    let mut peak_bytes = 0;
    for one in counted {
        let seconds = match speed(one) {
            Some(speed) => {
                peak_bytes = peak_bytes.max(speed.peak_bytes(one.work));
                speed.seconds(one.work)
            }
            None => Some(0.0).filter(|_| args.measure > 0.0),
        };
        match lines.iter_mut().find(|line| line.step == one.of) {
            Some(line) => {
                line.num_runs += 1;
                line.work = line.work.plus(one.work);
                line.seconds = line.seconds.zip(seconds).map(|(a, b)| a + b);
            }
            None => {
                lines.push(Line { step: one.of.clone(), num_runs: 1, work: one.work, seconds });
            }
        }
    }
    lines.retain(|line| line.work != Work::default());
    let total = lines.iter().fold(Work::default(), |all, line| all.plus(line.work));
    let seconds = lines.iter().map(|line| line.seconds).sum::<Option<f64>>();
    let intervals = widths(steps, place);
    let asked = counted
        .iter()
        .flat_map(|one| one.served.iter().map(|asked| (one.of.clone(), asked.clone())));
    let served = served::joined(asked.collect());
    Ok(Planned { steps: lines, served, total, seconds, peak_bytes, intervals, speeds })
}

/// Returns how wide the intervals of the comparisons will be, by the lines of their gold files.
fn widths(steps: &[(String, Step)], place: &Path) -> Vec<Width> {
    let mut all: Vec<Width> = Vec::new();
    for (_, step) in steps {
        let Job::Compare(job) = &step.job else { continue };
        let Ok(text) = std::fs::read_to_string(&job.gold) else { continue };
        let num_items = text.lines().count();
        let (low, high) = wilson((0.8 * num_items as f64).round() as usize, num_items, Z_95);
        let half_width = (high - low) / 2.0;
        let name = Path::new(&step.name).strip_prefix(place).unwrap_or(Path::new(&step.name));
        all.push(Width { step: name.display().to_string(), num_items, half_width });
    }
    all
}

fn tell(args: &PlanJob, planned: &Planned, voice: &Voice<'_>) -> Result<()> {
    let head = ["step", "runs", "tokens scored", "trained", "written", "time"];
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".to_owned(), duration);
    let row = |name: &str, runs: String, work: &Work, seconds: Option<f64>| {
        vec![
            name.to_owned(),
            runs,
            count(work.num_tokens),
            count(work.num_trained),
            count(work.num_written),
            time(seconds),
        ]
    };
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for line in &planned.steps {
        rows.push(row(&line.step, count(line.num_runs as u64), &line.work, line.seconds));
    }
    rows.push(row("all", String::new(), &planned.total, planned.seconds));
    let is_local = !planned.steps.is_empty() || planned.served.is_empty();
    for line in aligned(&rows, &[1, 2, 3, 4, 5]).into_iter().filter(|_| is_local) {
        voice.print(format_args!("{line}"))?;
    }
    served::tell(&planned.served, voice)?;
    let longest = planned.total.longest;
    if longest > 0 {
        voice.print(format_args!(
            "longest prompt: {} tokens; forward passes: {}",
            count(longest as u64),
            count(planned.total.num_passes)
        ))?;
    }
    for (model, speed) in &planned.speeds {
        voice.print(format_args!("{model}: {speed}"))?;
    }
    if planned.peak_bytes > 0 {
        voice.print(format_args!(
            "memory: about {} (weights and working memory of the largest step)",
            MemorySize(planned.peak_bytes)
        ))?;
    }
    for width in &planned.intervals {
        voice.print(format_args!(
            "{}: {} items, so an accuracy of 80 % of one run stands within +-{:.1} points",
            width.step,
            count(width.num_items as u64),
            100.0 * width.half_width
        ))?;
    }
    let too_long = args.hours.zip(planned.seconds).filter(|(most, s)| *s > most * 3600.0);
    if let Some((most, seconds)) = too_long {
        advise(planned, most * 3600.0, seconds, voice)?;
    }
    Ok(())
}

/// Says which steps to make smaller, and by how much.
fn advise(planned: &Planned, most: f64, seconds: f64, voice: &Voice<'_>) -> Result<()> {
    voice.print(format_args!(
        "{:.1} times the time that there is; what takes most of it:",
        seconds / most
    ))?;
    let mut lines: Vec<&Line> = planned.steps.iter().collect();
    lines.sort_by(|a, b| b.seconds.unwrap_or(0.0).total_cmp(&a.seconds.unwrap_or(0.0)));
    for line in lines.into_iter().take(3) {
        let share = 100.0 * line.seconds.unwrap_or(0.0) / seconds;
        let how = if line.work.num_trained > 0 {
            "fewer epochs or questions; time is as their product"
        } else if line.work.num_written > 0 {
            "fewer questions or variants, a smaller `--max-new-tokens`, or `--answers soft`"
        } else if line.work.longest > 512 {
            "fewer demonstrations: a smaller `--batch-size`, or fewer examples"
        } else {
            "fewer questions or variants"
        };
        voice.print(format_args!("  {} ({share:.0} %): {how}", line.step))?;
    }
    voice.print(format_args!("  all: fewer seeds (`--set seed=0`), a smaller model, or a GPU"))
}
