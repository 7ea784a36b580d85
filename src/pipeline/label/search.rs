//! The options of the search, and the settings they come to.

use std::num::NonZeroUsize;
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::published_flags::implied_preset;
use crate::data::{Example, Rule, Task};
use crate::error::Result;
use crate::label::{
    Aggregate, BatchSize, Block, IcmSettings, Init, Objective, OrderOptions, Preset, Schedule,
    ScheduleKind, ScoreForm,
};
use crate::pipeline::given::first_given;
use crate::pipeline::gold::{self, GoldSource};
use crate::pipeline::names::{InitName, PresetName, RuleChoice};
use crate::pipeline::note::Note;
use crate::pipeline::usage::usage;
use crate::run::SeedStream;
use crate::score::{Calibration, Prior};

/// Options of the search; each is an error with another method that it has no effect on.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Search (icm)")]
pub struct SearchOptions {
    /// Settings of a published code (README); an option that is given wins [default: none]
    #[arg(long, value_enum)]
    pub preset: Option<PresetName>,
    /// Weight of mutual predictability against inconsistency [default: 50]
    #[arg(long, value_name = "X")]
    pub alpha: Option<f64>,
    /// Choose alpha so that one inconsistent pair weighs as much as NATS nats of mutual predictability,
    /// summed over the examples labelled so far: n / NATS, through the first sweep as n grows and fixed
    /// from then on (with the sum, 1 / NATS). Temperatures are in units of the score: at T a loss of
    /// T * NATS nats is accepted with probability 1 / e [default: off]
    #[arg(long, value_name = "NATS", conflicts_with = "alpha")]
    pub auto_alpha: Option<f64>,
    /// Examples that are labelled at the start [default: 8]
    #[arg(long, value_name = "N", alias = "num_seed")]
    pub num_seed: Option<usize>,
    /// How they are labelled [default: random]
    #[arg(long, value_enum)]
    pub init: Option<InitName>,
    /// Most iterations for one batch [default: 1500]
    #[arg(long, value_name = "N", alias = "K")]
    pub iterations: Option<u64>,
    /// Go on to the last iteration even when no label can change any more [default: false, but true
    /// with a preset]
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    pub run_all_iterations: Option<bool>,
    /// End the search of a batch when all examples are labelled and one label had more than this share
    /// of them for a whole sweep, such as 0.95 [default: off]
    #[arg(long, value_name = "SHARE")]
    pub stop_on_collapse: Option<f64>,
    /// Most examples searched together, or shown to each other by a baseline; larger sets are cut into
    /// equal batches, smaller ones where the model's context is too short [default: 256]
    #[arg(long, value_name = "N", alias = "batch_size")]
    pub batch_size: Option<usize>,
    /// Mutual predictability by log-probability (paper), by log-odds (authors' code), or each label
    /// given only those before it in a few random orders, which is cheaper [default: logprob]
    #[arg(long, value_enum)]
    pub objective: Option<Objective>,
    /// Random orders of the objective prequential [default: 4]
    #[arg(long, value_name = "N")]
    pub prequential_orders: Option<NonZeroUsize>,
    /// Mean or sum over the examples; with sum, alpha depends on their number [default: mean]
    #[arg(long, value_enum)]
    pub aggregate: Option<Aggregate>,
    /// Rules that make labels inconsistent, or none; leaky-reference is the published code's, whose
    /// keys tell gold labels: for reproduction only [default: the task's]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "RULES")]
    pub consistency: Option<Vec<RuleChoice>>,
    /// Most inconsistent pairs repaired after one change [default: 10]
    #[arg(long, value_name = "N", alias = "consistency_fix_K")]
    pub consistency_fix_iterations: Option<usize>,
    /// Cooling: log or exp (authors' code, by accepted changes), or paper (by iterations)
    /// [default: log]
    #[arg(long, value_enum, alias = "scheduler")]
    pub schedule: Option<ScheduleKind>,
    /// Temperature at the start [default: 10]
    #[arg(long, value_name = "T", alias = "initial_T")]
    pub initial_temperature: Option<f64>,
    /// Lowest temperature [default: 0.01]
    #[arg(long, value_name = "T", alias = "final_T")]
    pub final_temperature: Option<f64>,
    /// Speed of the schedules log and paper [default: 2 and 0.99]
    #[arg(long, value_name = "X")]
    pub beta: Option<f64>,
    /// Factor per accepted change of the schedule exp [default: 0.99]
    #[arg(long, value_name = "X")]
    pub decay: Option<f64>,
    /// Draw a new order of demonstrations after every N accepted changes; 0: never [default: 0]
    #[arg(long, value_name = "N")]
    pub renew_order_every: Option<u64>,
    /// Examples drawn and predicted at once, then decided one after another; predictions do not see
    /// what the same round accepted; implies --block 1 [default: 1]
    #[arg(long, value_name = "P")]
    pub parallel_proposals: Option<NonZeroUsize>,
    /// Examples that one proposal changes: a number, or auto (as many as go well); all predictions come
    /// with the pass that scores the labels held. 1 is the published search [default: auto; in presets 1]
    #[arg(long, value_name = "auto|N", value_parser = block)]
    pub block: Option<Block>,
    /// Whole searches from other seeds, each in restarts/K of the run folder; the best is the run's
    /// result [default: 1]
    #[arg(long, value_name = "R")]
    pub restarts: Option<NonZeroUsize>,
    /// Leave out the last pass, which scores the labels under a new order of demonstrations
    #[arg(long)]
    pub no_order_check: bool,
    /// Permutations of the final labels over the texts that are scored beside them, one pass each: what
    /// labels that say nothing of the texts score [default: 2]
    #[arg(long, value_name = "N")]
    pub null_permutations: Option<usize>,
}

fn block(text: &str) -> std::result::Result<Block, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(size) => Ok(Block::Size(size.get())),
        Err(_) if text == "auto" => Ok(Block::Auto),
        Err(_) => Err("expected `auto` or a number from 1 up".into()),
    }
}

impl SearchOptions {
    /// An error for the first option that is given and is not among `allowed`.
    pub(super) fn forbid(&self, method: &str, allowed: &[&str]) -> Result<()> {
        match first_given(self, |name| !allowed.contains(&name)) {
            Some(name) => Err(usage(format!("`--{name}` has no effect with `--method {method}`"))
                .hint("leave it out, or use `--method icm`")),
            None => Ok(()),
        }
    }

    /// Takes the preset that flags of a published code ask for, unless one is named. Returns what is to
    /// be said of it.
    pub(super) fn imply_preset(&mut self, argv: &[String]) -> Option<Note> {
        let (flag, preset) = implied_preset(argv).filter(|_| self.preset.is_none())?;
        self.preset = Some(preset);
        Some(Note::PresetImplied { flag, preset: Preset::from(preset).name })
    }

    /// Returns the preset that is asked for.
    pub(super) fn preset(&self) -> Option<Preset> {
        self.preset.map(Into::into)
    }

    fn schedule(&self, default: Schedule) -> Result<Schedule> {
        let kind = self.schedule.unwrap_or(default.kind);
        if self.decay.is_some() && kind != ScheduleKind::Exp {
            return Err(usage("`--decay` has no effect without `--schedule exp`".into()));
        }
        if self.beta.is_some() && kind == ScheduleKind::Exp {
            return Err(usage("`--beta` has no effect with `--schedule exp`".into()));
        }
        let beta = if kind == default.kind { default.beta } else { kind.default_beta() };
        let schedule = Schedule {
            kind,
            initial: self.initial_temperature.unwrap_or(default.initial),
            last: self.final_temperature.unwrap_or(default.last),
            beta: self.beta.unwrap_or(beta),
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

    /// Whether the published code's consistency keys take the place of the texts'.
    pub(super) fn is_leaky(&self) -> bool {
        self.consistency.as_ref().is_some_and(|names| names.contains(&RuleChoice::LeakyReference))
    }

    /// Whether the search starts from gold labels, right ones or wrong ones.
    pub(super) fn starts_from_gold(&self) -> bool {
        matches!(self.init, Some(InitName::Golden | InitName::Worst))
    }

    pub(super) fn rules(&self, task: &Task, examples: &[Example]) -> Result<Vec<Rule>> {
        let Some(names) = &self.consistency else {
            let of_preset = self.preset().and_then(|preset| preset.rules);
            return Ok(of_preset.unwrap_or_else(|| task.rules.clone()));
        };
        let mut rules = Vec::new();
        for &name in names {
            let alone = match name {
                RuleChoice::Rule(rule) => {
                    rules.push(rule);
                    continue;
                }
                RuleChoice::None => "none",
                RuleChoice::LeakyReference => {
                    rules = gold::reference_rules(examples);
                    "leaky-reference"
                }
            };
            if names.len() > 1 {
                return Err(usage(format!("`--consistency {alone}` excludes all other rules")));
            }
        }
        Ok(rules)
    }

    /// The labels to start from, if the options say.
    fn init(&self, gold: &GoldSource<'_>, seed: u64) -> Result<Option<Init>> {
        let given = |worst| gold::starting_labels(gold, worst, SeedStream::new(seed));
        Ok(match self.init {
            None => None,
            Some(InitName::Random) => Some(Init::Balanced),
            Some(InitName::Unbalanced) => Some(Init::Unbalanced),
            Some(InitName::ZeroShot) => Some(Init::ZeroShot),
            Some(InitName::Golden) => Some(Init::Given(given(false)?)),
            Some(InitName::Worst) => Some(Init::Given(given(true)?)),
        })
    }

    /// What the options take from gold, in words; none if nothing.
    pub(super) fn gold_reason(&self, file: &Path) -> Option<String> {
        let file = file.display();
        let init = match self.init {
            Some(InitName::Golden) => {
                Some(format!("`--init golden` starts the search from gold labels of `{file}`"))
            }
            Some(InitName::Worst) => Some(format!(
                "`--init worst` starts the search from gold labels of `{file}` made wrong"
            )),
            _ => None,
        };
        let keys = self.is_leaky().then(|| {
            format!(
                "`--consistency leaky-reference` takes the published code's keys from `{file}`, which tell gold labels"
            )
        });
        let reasons: Vec<String> = init.into_iter().chain(keys).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Returns the settings of the search.
    pub(super) fn settings(
        &self,
        order: OrderOptions,
        (calibration, prior): (Calibration, Prior),
        (gold, seed): (&GoldSource<'_>, u64),
    ) -> Result<IcmSettings> {
        let defaults = self.preset().map_or_else(IcmSettings::default, |preset| preset.settings);
        let alpha = self.alpha.unwrap_or(defaults.form.alpha);
        positive("alpha", alpha)?;
        if let Some(nats) = self.auto_alpha {
            positive("auto-alpha", nats)?;
        }
        if let Some(share) = self.stop_on_collapse
            && !(share > 0.0 && share < 1.0)
        {
            return Err(usage(format!(
                "`--stop-on-collapse` is {share}, expected a share between 0 and 1"
            )));
        }
        let objective = self.objective.unwrap_or(defaults.form.objective);
        if self.prequential_orders.is_some() && objective != Objective::Prequential {
            return Err(usage(
                "`--prequential-orders` has no effect without `--objective prequential`".into(),
            ));
        }
        let num_seed = self.num_seed.unwrap_or(defaults.num_seed);
        if num_seed < 2 {
            return Err(usage(format!("`--num-seed` is {num_seed}, expected at least 2"))
                .hint("with fewer than two labelled examples there is nothing to predict from"));
        }
        let block = match (self.block, self.parallel_proposals) {
            (Some(block), Some(_)) if block != Block::Size(1) => {
                return Err(usage("`--parallel-proposals` has no effect with `--block`".into())
                    .hint("a block is predicted at once, and decided at once"));
            }
            // Examples that are decided one after another are no block.
            (None, Some(_)) => Block::Size(1),
            (block, _) => block.unwrap_or(defaults.block),
        };
        let or = |given: Option<NonZeroUsize>, default| given.map_or(default, NonZeroUsize::get);
        Ok(IcmSettings {
            form: ScoreForm {
                objective,
                aggregate: self.aggregate.unwrap_or(defaults.form.aggregate),
                alpha,
            },
            auto_alpha: self.auto_alpha,
            schedule: self.schedule(defaults.schedule)?,
            num_seed,
            init: self.init(gold, seed)?.unwrap_or(defaults.init),
            iterations: self.iterations.unwrap_or(defaults.iterations),
            consistency_fix_iterations: self
                .consistency_fix_iterations
                .unwrap_or(defaults.consistency_fix_iterations),
            order,
            renew_order_every: self.renew_order_every.unwrap_or(defaults.renew_order_every),
            calibration,
            prior,
            stop_when_stable: self.run_all_iterations.map_or(defaults.stop_when_stable, |all| !all),
            stop_on_collapse: self.stop_on_collapse,
            num_prequential_orders: or(self.prequential_orders, defaults.num_prequential_orders),
            num_parallel_proposals: or(self.parallel_proposals, defaults.num_parallel_proposals),
            block,
            num_restarts: or(self.restarts, defaults.num_restarts),
            check_order: !self.no_order_check,
            num_null_permutations: self.null_permutations.unwrap_or(defaults.num_null_permutations),
        })
    }

    pub(super) fn has_batch_size(&self) -> bool {
        self.batch_size.is_some()
    }

    /// Returns how many examples are searched together.
    pub(super) fn batch_size(&self) -> Result<BatchSize> {
        match self.batch_size {
            None => Ok(BatchSize::AtMost(256)),
            Some(n) if n >= 2 => Ok(BatchSize::Exactly(n)),
            Some(n) => Err(usage(format!("`--batch-size` is {n}, expected at least 2"))),
        }
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(usage(format!("`--{name}` is {value}, expected a positive number")))
}
