//! `w2s plan`: what a recipe or a command will cost, before it is run.
//!
//! The steps are run with models that count the tokens they would run and answer as good as at random:
//! prompts, orders, searches, filters and batches are those of the real run, only what depends on the
//! answers is not. Then the machine is measured with the real models for some seconds. For a model behind
//! a server the requests are made as they would be sent, and counted.

mod options;
mod served;
mod speed;
mod summary;

use std::collections::BTreeMap;
use std::path::Path;

use super::job::Job;
use super::model::ModelOptions;
use super::observer::{Event, Wait};
use super::session::Session;
use super::step::{Step, run_step};
use super::train::TrainJob;
use super::voice::Voice;
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Z_95, wilson};
use crate::recipe::{Recipe, words};
use crate::score::{Asked, Work};

use speed::measure;

pub use options::PlanJob;
pub use summary::{Plan, PlannedInterval, PlannedRequests, PlannedStep, Speed};

impl PlanJob {
    /// Returns the job that plans another one.
    pub fn of(job: &Job) -> Self {
        let command = job.command_line().into_iter().skip(1).collect();
        Self { command, ..Self::default() }
    }
}

/// A step that was counted.
struct Counted {
    of: String,
    work: Work,
    served: Vec<Asked>,
    model: Option<ModelOptions>,
    train: Option<TrainJob>,
}

pub(super) fn run(args: PlanJob, session: &Session<'_>) -> Result<Plan> {
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
    let plan = planned(args, &steps, &counted, place.path(), &session.voice)?;
    let (most_hours, as_json) = (args.hours, args.json);
    session.voice.event(&Event::Planned { plan: &plan, most_hours, as_json })?;
    Ok(plan)
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
    let spinner = voice.wait(Wait::Counting);
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
) -> Result<Plan> {
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
        let spinner = voice.wait(Wait::Measuring);
        let seconds = args.measure / models.len() as f64;
        let speed = measure(model, train, writes, seconds, &mut session)?;
        spinner.end();
        speeds.insert(model.model.display().to_string(), speed);
    }
    let speed = |one: &Counted| speeds.get(&one.model.as_ref()?.model.display().to_string());
    let mut lines: Vec<PlannedStep> = Vec::new();
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
                let (step, work) = (one.of.clone(), one.work);
                lines.push(PlannedStep { step, num_runs: 1, work, seconds });
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
    Ok(Plan { steps: lines, served, total, seconds, peak_bytes, intervals, speeds })
}

/// Returns how wide the intervals of the comparisons will be, by the lines of their gold files.
fn widths(steps: &[(String, Step)], place: &Path) -> Vec<PlannedInterval> {
    let mut all: Vec<PlannedInterval> = Vec::new();
    for (_, step) in steps {
        let Job::Compare(job) = &step.job else { continue };
        let Ok(text) = std::fs::read_to_string(&job.gold) else { continue };
        let num_items = text.lines().count();
        let (low, high) = wilson((0.8 * num_items as f64).round() as usize, num_items, Z_95);
        let half_width = (high - low) / 2.0;
        let name = Path::new(&step.name).strip_prefix(place).unwrap_or(Path::new(&step.name));
        all.push(PlannedInterval { step: name.display().to_string(), num_items, half_width });
    }
    all
}
