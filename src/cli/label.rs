//! `w2s label`: labels for a file of examples, in a run folder.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::model::ModelArgs;
use super::progress::{self, SearchProgress, count, duration, say};
use crate::data::{Dataset, Example, Rule, Task, read_demonstrations, write_labels};
use crate::error::{Error, ErrorKind, Result};
use crate::label::{
    Aggregate, BatchSize, Calibration, IcmSettings, Labelling, Method, Objective, Order, Schedule,
    ScheduleKind, ScoreForm, TraceEvent, label,
};
use crate::run::{GoldUse, Input, Manifest, OpenMode, RunDir, SeedStream, write_atomic};
use crate::score::Journaled;

/// Label data without supervision (ICM), or by prompting
///
/// Reads examples, never their gold labels, and writes a run folder: labels.jsonl (label,
/// log-probabilities and margin of each example), trace.jsonl (every step of the search),
/// summary.json and manifest.json. A run that was interrupted, however rudely, is continued with
/// --resume and ends with the same bytes.
///
/// Example:
///   w2s label --model models/gemma-3-270m --task sentiment --data data/demo/reviews.jsonl --out runs/mine
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct LabelArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data")]
    task: String,
    /// Examples: JSON, JSON lines, CSV or TSV
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    data: PathBuf,
    /// Take the first N examples only
    #[arg(long, value_name = "N", help_heading = "Data")]
    limit: Option<usize>,

    /// Run folder to make
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    out: PathBuf,
    /// Continue the run in the folder; begin it if there is none
    #[arg(long, help_heading = "Run", conflicts_with = "force")]
    resume: bool,
    /// Replace the run in the folder
    #[arg(long, help_heading = "Run")]
    force: bool,
    /// Seed of everything random
    #[arg(long, value_name = "SEED", default_value_t = 0, help_heading = "Run")]
    seed: u64,

    /// How labels are found
    #[arg(long, value_enum, default_value_t = MethodName::Icm, help_heading = "Method")]
    method: MethodName,
    /// Labelled examples to prompt with; an example of the data that is among them is left out of
    /// its own prompt (few-shot)
    #[arg(long, value_name = "FILE", help_heading = "Method")]
    demonstrations: Option<PathBuf>,
    /// How the model's bias to a label word is taken off
    #[arg(long, value_enum, default_value_t = CalibrationName::Batch, help_heading = "Method")]
    calibrate: CalibrationName,
    /// Order of demonstrations: by halves (N log N) or as in the data, as published (N^2 / 2)
    /// [default: halving]
    #[arg(long, value_enum, help_heading = "Method")]
    order: Option<OrderName>,
    /// Demonstrations that stand last in every prompt of the halving order [default: 4]
    #[arg(long, value_name = "N", help_heading = "Method")]
    anchors: Option<usize>,

    #[command(flatten)]
    search: SearchArgs,
}

/// Options of the search; each is an error with another method.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search (icm)")]
struct SearchArgs {
    /// Weight of mutual predictability against inconsistency [default: 50]
    #[arg(long, value_name = "X")]
    alpha: Option<f64>,
    /// Examples that start with a random label [default: 8]
    #[arg(long, value_name = "N")]
    num_seed: Option<usize>,
    /// Most iterations for one batch [default: 1500]
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// Go on to the last iteration even when no label can change any more
    #[arg(long)]
    run_all_iterations: bool,
    /// Examples searched together; fewer where the model's context is too short [default: 256]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Mutual predictability by log-probability (paper) or log-odds (authors' code)
    /// [default: logprob]
    #[arg(long, value_enum)]
    objective: Option<ObjectiveName>,
    /// Mean or sum over the examples; with sum, alpha depends on their number [default: mean]
    #[arg(long, value_enum)]
    aggregate: Option<AggregateName>,
    /// Rules that make labels inconsistent, or none [default: the task's]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "RULES")]
    consistency: Option<Vec<RuleName>>,
    /// Most inconsistent pairs repaired after one change [default: 10]
    #[arg(long, value_name = "N")]
    consistency_fix_iterations: Option<usize>,
    /// Cooling: log (authors' code, by accepted changes), paper (by iterations) or exp
    /// [default: log]
    #[arg(long, value_enum)]
    schedule: Option<ScheduleName>,
    /// Temperature at the start [default: 10]
    #[arg(long, value_name = "T")]
    initial_temperature: Option<f64>,
    /// Lowest temperature [default: 0.01]
    #[arg(long, value_name = "T")]
    final_temperature: Option<f64>,
    /// Speed of the schedules log and paper [default: 2 and 0.99]
    #[arg(long, value_name = "X")]
    beta: Option<f64>,
    /// Factor per iteration of the schedule exp [default: 0.99]
    #[arg(long, value_name = "X")]
    decay: Option<f64>,
    /// Draw a new order of demonstrations after every N accepted changes; 0: never [default: 0]
    #[arg(long, value_name = "N")]
    renew_order_every: Option<u64>,
}

/// Declares a value enum of the command line with its translation.
macro_rules! names {
    ($name:ident => $target:ty { $($variant:ident => $value:expr),+ $(,)? }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        enum $name { $($variant),+ }
        impl From<$name> for $target {
            fn from(name: $name) -> Self {
                match name { $($name::$variant => $value),+ }
            }
        }
    };
}

names!(CalibrationName => Calibration {
    Batch => Calibration::Batch,
    ContentFree => Calibration::ContentFree,
    None => Calibration::None,
});
names!(OrderName => Order { Halving => Order::Halving, Dataset => Order::Dataset });
names!(ObjectiveName => Objective { Logprob => Objective::Logprob, LogOdds => Objective::LogOdds });
names!(AggregateName => Aggregate { Mean => Aggregate::Mean, Sum => Aggregate::Sum });
names!(ScheduleName => ScheduleKind {
    Log => ScheduleKind::Log,
    Paper => ScheduleKind::Paper,
    Exp => ScheduleKind::Exp,
});
names!(RuleName => Option<Rule> {
    None => None,
    Contradiction => Some(Rule::Contradiction),
    Implication => Some(Rule::Implication),
    Asymmetry => Some(Rule::Asymmetry),
});

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MethodName {
    /// Internal Coherence Maximization: search for the labels that predict each other best
    Icm,
    /// The question alone
    ZeroShot,
    /// Labelled demonstrations before the question
    FewShot,
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

impl SearchArgs {
    /// An error for the first option that is given.
    fn forbid(&self, method: &str) -> Result<()> {
        let Self {
            alpha,
            num_seed,
            iterations,
            run_all_iterations,
            batch_size,
            objective,
            aggregate,
            consistency,
            consistency_fix_iterations,
            schedule,
            initial_temperature,
            final_temperature,
            beta,
            decay,
            renew_order_every,
        } = self;
        let given = [
            ("alpha", alpha.is_some()),
            ("num-seed", num_seed.is_some()),
            ("iterations", iterations.is_some()),
            ("run-all-iterations", *run_all_iterations),
            ("batch-size", batch_size.is_some()),
            ("objective", objective.is_some()),
            ("aggregate", aggregate.is_some()),
            ("consistency", consistency.is_some()),
            ("consistency-fix-iterations", consistency_fix_iterations.is_some()),
            ("schedule", schedule.is_some()),
            ("initial-temperature", initial_temperature.is_some()),
            ("final-temperature", final_temperature.is_some()),
            ("beta", beta.is_some()),
            ("decay", decay.is_some()),
            ("renew-order-every", renew_order_every.is_some()),
        ];
        match given.iter().find(|(_, is)| *is) {
            Some((name, _)) => Err(usage(format!("`--{name}` has no effect with `--method {method}`"))
                .hint("leave it out, or use `--method icm`")),
            None => Ok(()),
        }
    }

    fn schedule(&self) -> Result<Schedule> {
        let kind = self.schedule.map_or(ScheduleKind::default(), Into::into);
        if self.decay.is_some() && kind != ScheduleKind::Exp {
            return Err(usage("`--decay` has no effect without `--schedule exp`".into()));
        }
        if self.beta.is_some() && kind == ScheduleKind::Exp {
            return Err(usage("`--beta` has no effect with `--schedule exp`".into()));
        }
        let default = Schedule::default();
        let schedule = Schedule {
            kind,
            initial: self.initial_temperature.unwrap_or(default.initial),
            last: self.final_temperature.unwrap_or(default.last),
            beta: self.beta.unwrap_or(kind.default_beta()),
            decay: self.decay.unwrap_or(default.decay),
        };
        positive("initial-temperature", schedule.initial)?;
        positive("final-temperature", schedule.last)?;
        positive("beta", schedule.beta)?;
        positive("decay", schedule.decay)?;
        if schedule.decay > 1.0 {
            return Err(usage(format!("`--decay` is {}, expected at most 1", schedule.decay)));
        }
        Ok(schedule)
    }

    fn rules(&self, task: &Task) -> Result<Vec<Rule>> {
        let Some(names) = &self.consistency else { return Ok(task.rules.clone()) };
        let rules: Vec<Option<Rule>> = names.iter().map(|&name| name.into()).collect();
        if rules.len() > 1 && rules.contains(&None) {
            return Err(usage("`--consistency none` excludes all other rules".into()));
        }
        Ok(rules.into_iter().flatten().collect())
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(usage(format!("`--{name}` is {value}, expected a positive number")))
}

impl LabelArgs {
    fn method(&self, task: &Task, dataset: &Dataset) -> Result<Method> {
        let calibration = self.calibrate.into();
        let order = self.order.map_or(Order::default(), Into::into);
        if self.anchors.is_some() && order == Order::Dataset {
            return Err(usage("`--anchors` has no effect with `--order dataset`".into()));
        }
        let defaults = IcmSettings::default();
        let num_anchors = match order {
            Order::Halving => self.anchors.unwrap_or(defaults.num_anchors),
            Order::Dataset => 0,
        };
        if self.method != MethodName::FewShot && self.demonstrations.is_some() {
            return Err(usage("`--demonstrations` has no effect without `--method few-shot`".into()));
        }
        match self.method {
            MethodName::Icm => {
                let s = &self.search;
                let alpha = s.alpha.unwrap_or(defaults.form.alpha);
                positive("alpha", alpha)?;
                let settings = IcmSettings {
                    form: ScoreForm {
                        objective: s.objective.map_or(Objective::default(), Into::into),
                        aggregate: s.aggregate.map_or(Aggregate::default(), Into::into),
                        alpha,
                    },
                    schedule: s.schedule()?,
                    num_seed: s.num_seed.unwrap_or(defaults.num_seed),
                    iterations: s.iterations.unwrap_or(defaults.iterations),
                    consistency_fix_iterations: s
                        .consistency_fix_iterations
                        .unwrap_or(defaults.consistency_fix_iterations),
                    order,
                    num_anchors,
                    renew_order_every: s.renew_order_every.unwrap_or(defaults.renew_order_every),
                    calibration,
                    stop_when_stable: !s.run_all_iterations,
                };
                let batch_size = match s.batch_size {
                    None => BatchSize::AtMost(256),
                    Some(n) if n >= 2 => BatchSize::Exactly(n),
                    Some(n) => {
                        return Err(usage(format!("`--batch-size` is {n}, expected at least 2")));
                    }
                };
                Ok(Method::Icm { settings, rules: s.rules(task)?, batch_size })
            }
            MethodName::ZeroShot => {
                self.search.forbid("zero-shot")?;
                if self.order.is_some() || self.anchors.is_some() {
                    return Err(usage(
                        "`--order` and `--anchors` have no effect with `--method zero-shot`".into(),
                    ));
                }
                Ok(Method::ZeroShot { calibration })
            }
            MethodName::FewShot => {
                self.search.forbid("few-shot")?;
                let Some(path) = &self.demonstrations else {
                    return Err(usage("`--method few-shot` needs `--demonstrations FILE`".into())
                        .hint("a file of labelled examples, or labels.jsonl of another run"));
                };
                let demonstrations = read_demonstrations(path, task, dataset)?;
                Ok(Method::FewShot { demonstrations, calibration, order, num_anchors })
            }
        }
    }

    fn gold_used(&self) -> GoldUse {
        match &self.demonstrations {
            None => GoldUse::no(),
            Some(path) => GoldUse::Because(format!(
                "labels of demonstrations were given by the user: {}",
                path.display()
            )),
        }
    }

    fn mode(&self) -> OpenMode {
        match (self.resume, self.force) {
            (true, _) => OpenMode::Resume,
            (_, true) => OpenMode::Force,
            _ => OpenMode::New,
        }
    }
}

fn method_settings(method: &Method, settings: &mut Map<String, Value>) -> Result<()> {
    let value = match method {
        Method::Icm { settings, rules, batch_size } => {
            let (size, strict) = match batch_size {
                BatchSize::AtMost(n) => (n, false),
                BatchSize::Exactly(n) => (n, true),
            };
            json!({ "search": settings, "consistency": rules, "batch_size": size,
                "batch_size_is_exact": strict })
        }
        Method::ZeroShot { calibration } => json!({ "calibration": calibration }),
        Method::FewShot { demonstrations, calibration, order, num_anchors } => json!({
            "num_demonstrations": demonstrations.len(), "calibration": calibration,
            "order": order, "num_anchors": num_anchors }),
    };
    settings.insert("method".into(), method.name().into());
    if let Value::Object(map) = value {
        settings.extend(map);
    }
    Ok(())
}

pub(super) fn run(args: LabelArgs) -> Result<()> {
    let began = Instant::now();
    let task = Task::load(&args.task)?;
    let dataset = Dataset::read(&args.data, &task)?;
    let method = args.method(&task, &dataset)?;
    let examples: &[Example] = match args.limit {
        Some(n) if n < dataset.examples.len() => &dataset.examples[..n],
        _ => &dataset.examples,
    };
    let spinner = progress::spinner("opening the model");
    let scorer = args.model.open()?;
    let manifest = manifest(&args, &task, &dataset, &method, &scorer)?;
    spinner.finish_and_clear();
    let folder = RunDir::open(&args.out, &manifest, args.mode())?;
    if folder.is_complete() {
        say(format_args!("the run in {} is complete; nothing to do", args.out.display()));
        return Ok(());
    }
    let journal = folder.journal()?;
    if journal.num_left() > 0 {
        say(format_args!("continuing after {} recorded passes", journal.num_left()));
    }
    progress::on_interrupt(format!(
        "interrupted; nothing is lost. Continue with the same command and --resume (run folder {})",
        args.out.display()
    ));
    let mut trace = Trace::new(&folder, &method)?;
    let iterations = match &method {
        Method::Icm { settings, .. } => settings.iterations,
        _ => 0,
    };
    let mut bar = (iterations > 0).then(|| SearchProgress::new(iterations, examples.len()));
    let spinner = bar.is_none().then(|| progress::spinner("scoring"));
    let mut scorer = Journaled::new(scorer, journal);
    let labelling = label(
        &task,
        examples,
        &method,
        SeedStream::new(args.seed),
        &mut scorer,
        &mut |event: &TraceEvent| {
            if let Some(bar) = &mut bar {
                bar.update(event);
            }
            trace.write(event)
        },
    )?;
    if let Some(bar) = bar {
        bar.finish();
    }
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    trace.finish()?;
    let mut bytes = Vec::new();
    write_labels(&mut bytes, &labelling.records)?;
    write_atomic(&folder.file("labels.jsonl"), &bytes)?;
    folder.write_json("summary.json", &labelling.summary)?;
    let seconds = began.elapsed().as_secs_f64();
    folder.finish(seconds)?;
    tell(&labelling, seconds, &folder);
    Ok(())
}

fn manifest(
    args: &LabelArgs,
    task: &Task,
    dataset: &Dataset,
    method: &Method,
    scorer: &crate::score::LmScorer,
) -> Result<Manifest> {
    let mut settings = Map::new();
    settings.insert("task".into(), args.task.clone().into());
    settings.insert("data".into(), args.data.display().to_string().into());
    settings.insert("limit".into(), args.limit.into());
    args.model.settings(scorer, &mut settings);
    method_settings(method, &mut settings)?;
    let mut inputs = vec![
        Input {
            role: "data".into(),
            path: args.data.display().to_string(),
            sha256: dataset.sha256.clone(),
        },
        Input { role: "task".into(), path: args.task.clone(), sha256: task.sha256.clone() },
    ];
    if let Some(path) = &args.demonstrations {
        inputs.push(Input::of_file("demonstrations", path)?);
    }
    inputs.extend(args.model.inputs()?);
    let mut versions = Map::new();
    versions.insert("w2s".into(), env!("CARGO_PKG_VERSION").into());
    versions.insert("libtorch".into(), "2.11.0".into());
    versions.insert("num_threads".into(), tch::get_num_threads().into());
    Ok(Manifest {
        command: "label".into(),
        command_line: std::env::args().collect(),
        settings,
        seed: args.seed,
        inputs,
        gold_used: args.gold_used(),
        versions,
    })
}

/// Writes `trace.jsonl`. A resumed run writes it anew from the beginning: its journal holds all that
/// is needed.
struct Trace {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Trace {
    fn new(folder: &RunDir, method: &Method) -> Result<Self> {
        let path = folder.file("trace.jsonl");
        let file = match method {
            Method::Icm { .. } => {
                let file = File::create(&path).map_err(|e| Error::io("write", &path, &e))?;
                Some(BufWriter::new(file))
            }
            _ => None,
        };
        Ok(Self { path, file })
    }

    fn write(&mut self, event: &TraceEvent) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        serde_json::to_writer(&mut *file, event)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            // A reader of a running search should see whole lines.
            .and_then(|()| file.flush())
            .map_err(|e| Error::io("write", &self.path, &e))
    }

    fn finish(self) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(|e| Error::io("write", &self.path, &e))
    }
}

/// Says what was found, and what should make its reader doubt it.
fn tell(labelling: &Labelling, seconds: f64, folder: &RunDir) {
    let s = &labelling.summary;
    say(format_args!(
        "labelled {} examples by {} in {}",
        labelling.records.len(),
        s.method,
        duration(seconds)
    ));
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let shares: Vec<String> =
        s.share.iter().map(|(l, x)| format!("{l} {:.0} %", 100.0 * number(x))).collect();
    say(format_args!("  labels: {}", shares.join(", ")));
    if let (Some(score), Some(constants)) = (s.score, &s.constant_scores) {
        let all: Vec<String> =
            constants.iter().map(|(l, x)| format!("all {l} {:.2}", number(x))).collect();
        say(format_args!("  score U {score:.2} (for comparison: {})", all.join(", ")));
        let best = constants.values().map(number).fold(f64::NEG_INFINITY, f64::max);
        if best >= score {
            say(format_args!(
                "warning: giving every example the same label scores as high; these labels are not to be trusted\nhint: use a consistency rule or `--calibrate batch`, which make such labellings score low"
            ));
        }
    }
    if let (Some(accepted), Some(proposals), Some(passes)) =
        (s.num_accepted, s.num_proposals, s.num_passes)
    {
        say(format_args!(
            "  {accepted} of {proposals} proposals accepted, {passes} leave-one-out passes"
        ));
    }
    let saved = 1.0 - s.tokens_computed as f64 / s.tokens_full_prompts.max(1) as f64;
    say(format_args!(
        "  {} tokens computed; full prompts would have been {} (saved {:.0} %)",
        count(s.tokens_computed),
        count(s.tokens_full_prompts),
        100.0 * saved
    ));
    if s.num_unlabelled > 0 {
        say(format_args!(
            "warning: {} examples got no label\nhint: raise `--iterations`",
            s.num_unlabelled
        ));
    }
    if s.share.values().any(|x| number(x) > 0.95) && labelling.records.len() >= 8 {
        say(format_args!("warning: nearly all examples got the same label"));
    }
    say(format_args!("  wrote {}", folder.file("labels.jsonl").display()));
}
