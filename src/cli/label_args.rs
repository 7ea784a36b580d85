//! The arguments of `w2s label`, and the method and settings they come to.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::model::ModelArgs;
use crate::data::{Dataset, Rule, Task, read_demonstrations};
use crate::error::{Error, ErrorKind, Result};
use crate::label::{
    Aggregate, BatchSize, Calibration, IcmSettings, Method, Objective, Order, OrderOptions,
    Schedule, ScheduleKind, ScoreForm,
};
use crate::run::{GoldUse, OpenMode, RunDir};

/// Label data without supervision (ICM), or by prompting
///
/// Reads examples, never their gold labels, and writes a run folder: labels.jsonl (label,
/// log-probabilities and margin of each example), trace.jsonl (every step of the search),
/// summary.json and manifest.json. A run that was interrupted, however rudely, is continued with
/// --resume and ends with the same bytes. Most users need the four required options only.
///
/// Example:
///   w2s label --model models/gemma-3-270m --task sentiment \
///       --data data/demo/reviews.jsonl --out runs/mine
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct LabelArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,

    /// Built-in task (see `w2s tasks`) or path of a task file
    #[arg(long, value_name = "TASK", help_heading = "Data")]
    pub(super) task: String,
    /// Examples: JSON, JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub(super) data: PathBuf,
    /// Take the first N examples only
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub(super) limit: Option<usize>,

    /// Run folder to make
    #[arg(long, value_name = "RUN", help_heading = "Run")]
    pub(super) out: PathBuf,
    /// Continue the run in the folder; begin it if there is none
    #[arg(long, help_heading = "Run", conflicts_with = "force")]
    resume: bool,
    /// Replace the run in the folder
    #[arg(long, help_heading = "Run")]
    force: bool,
    /// Seed of everything random
    #[arg(long, value_name = "SEED", default_value_t = 0, help_heading = "Run")]
    pub(super) seed: u64,

    /// How labels are found
    #[arg(long, value_enum, default_value_t = MethodName::Icm, help_heading = "Method")]
    method: MethodName,
    /// Labelled examples to prompt with; an example of the data that is among them is left out of
    /// its own prompt (few-shot)
    #[arg(long, value_name = "FILE", help_heading = "Method")]
    pub(super) demonstrations: Option<PathBuf>,
    /// Prompt variant of the task; `w2s tasks TASK` shows them [default: the task's own]
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub(super) prompt_variant: Option<String>,
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
    /// Examples of a block within which the halving order keeps one order, so that they share their
    /// prompt's end; 1: halve down to single examples [default: 1]
    #[arg(long, value_name = "N", help_heading = "Method")]
    leaf_block: Option<NonZeroUsize>,

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
            Some((name, _)) => {
                Err(usage(format!("`--{name}` has no effect with `--method {method}`"))
                    .hint("leave it out, or use `--method icm`"))
            }
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
    pub(super) fn method(&self, task: &Task, dataset: &Dataset) -> Result<Method> {
        let calibration = self.calibrate.into();
        let order = self.order_options()?;
        let defaults = IcmSettings::default();
        if self.method != MethodName::FewShot && self.demonstrations.is_some() {
            return Err(usage(
                "`--demonstrations` has no effect without `--method few-shot`".into(),
            ));
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
                if self.order.is_some() || self.anchors.is_some() || self.leaf_block.is_some() {
                    return Err(usage(
                        "`--order`, `--anchors` and `--leaf-block` have no effect with `--method zero-shot`".into(),
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
                Ok(Method::FewShot { demonstrations, calibration, order })
            }
        }
    }

    fn order_options(&self) -> Result<OrderOptions> {
        let given =
            [("anchors", self.anchors.is_some()), ("leaf-block", self.leaf_block.is_some())];
        match self.order.map_or(Order::default(), Into::into) {
            Order::Dataset => match given.iter().find(|(_, is)| *is) {
                Some((name, _)) => {
                    Err(usage(format!("`--{name}` has no effect with `--order dataset`")))
                }
                None => Ok(OrderOptions::DATASET),
            },
            order @ Order::Halving => {
                let default = OrderOptions::default();
                Ok(OrderOptions {
                    order,
                    num_anchors: self.anchors.unwrap_or(default.num_anchors),
                    leaf_block: self.leaf_block.map_or(default.leaf_block, NonZeroUsize::get),
                })
            }
        }
    }

    /// Whether gold has a part in the run: demonstrations are taken for gold unless they are the
    /// labels of a run that used none.
    pub(super) fn gold_used(&self) -> GoldUse {
        let Some(path) = &self.demonstrations else { return GoldUse::no() };
        let made_by = path.parent().map(RunDir::existing);
        if let (Some(Ok((_, manifest))), true) = (made_by, path.ends_with("labels.jsonl")) {
            return manifest.gold_used;
        }
        GoldUse::Because(format!(
            "labels of demonstrations were given by the user: {}",
            path.display()
        ))
    }

    pub(super) fn mode(&self) -> OpenMode {
        match (self.resume, self.force) {
            (true, _) => OpenMode::Resume,
            (_, true) => OpenMode::Force,
            _ => OpenMode::New,
        }
    }
}
