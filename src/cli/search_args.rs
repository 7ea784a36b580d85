//! The options of the search, and the settings they come to.

use std::num::NonZeroUsize;

use clap::Args;

use super::names::{AggregateName, ObjectiveName, RuleName, ScheduleName};
use crate::data::{Rule, Task};
use crate::error::{Error, ErrorKind, Result};
use crate::label::{
    Aggregate, BatchSize, Calibration, IcmSettings, Objective, OrderOptions, Schedule,
    ScheduleKind, ScoreForm,
};

/// Options of the search; each is an error with another method.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search (icm)")]
pub(super) struct SearchArgs {
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
    /// Mutual predictability by log-probability (paper), by log-odds (authors' code), or each label
    /// given only those before it in a few random orders, which is cheaper [default: logprob]
    #[arg(long, value_enum)]
    objective: Option<ObjectiveName>,
    /// Random orders of the objective prequential [default: 4]
    #[arg(long, value_name = "N")]
    prequential_orders: Option<NonZeroUsize>,
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
    /// Examples drawn and predicted at once, then decided one after another; predictions do not see
    /// what the same round accepted [default: 1]
    #[arg(long, value_name = "P")]
    parallel_proposals: Option<NonZeroUsize>,
    /// Whole searches from other seeds, each in restarts/K of the run folder; the best is the run's
    /// result [default: 1]
    #[arg(long, value_name = "R")]
    restarts: Option<NonZeroUsize>,
    /// Leave out the last pass, which scores the labels under a new order of demonstrations
    #[arg(long)]
    no_order_check: bool,
}

pub(super) fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

impl SearchArgs {
    /// An error for the first option that is given.
    pub(super) fn forbid(&self, method: &str) -> Result<()> {
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
            prequential_orders,
            parallel_proposals,
            restarts,
            no_order_check,
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
            ("prequential-orders", prequential_orders.is_some()),
            ("parallel-proposals", parallel_proposals.is_some()),
            ("restarts", restarts.is_some()),
            ("no-order-check", *no_order_check),
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

    pub(super) fn rules(&self, task: &Task) -> Result<Vec<Rule>> {
        let Some(names) = &self.consistency else { return Ok(task.rules.clone()) };
        let rules: Vec<Option<Rule>> = names.iter().map(|&name| name.into()).collect();
        if rules.len() > 1 && rules.contains(&None) {
            return Err(usage("`--consistency none` excludes all other rules".into()));
        }
        Ok(rules.into_iter().flatten().collect())
    }

    /// Returns the settings of the search.
    pub(super) fn settings(
        &self,
        order: OrderOptions,
        calibration: Calibration,
    ) -> Result<IcmSettings> {
        let defaults = IcmSettings::default();
        let alpha = self.alpha.unwrap_or(defaults.form.alpha);
        positive("alpha", alpha)?;
        let objective = self.objective.map_or(Objective::default(), Into::into);
        if self.prequential_orders.is_some() && objective != Objective::Prequential {
            return Err(usage(
                "`--prequential-orders` has no effect without `--objective prequential`".into(),
            ));
        }
        let or = |given: Option<NonZeroUsize>, default| given.map_or(default, NonZeroUsize::get);
        Ok(IcmSettings {
            form: ScoreForm {
                objective,
                aggregate: self.aggregate.map_or(Aggregate::default(), Into::into),
                alpha,
            },
            schedule: self.schedule()?,
            num_seed: self.num_seed.unwrap_or(defaults.num_seed),
            iterations: self.iterations.unwrap_or(defaults.iterations),
            consistency_fix_iterations: self
                .consistency_fix_iterations
                .unwrap_or(defaults.consistency_fix_iterations),
            order,
            renew_order_every: self.renew_order_every.unwrap_or(defaults.renew_order_every),
            calibration,
            stop_when_stable: !self.run_all_iterations,
            num_prequential_orders: or(self.prequential_orders, defaults.num_prequential_orders),
            num_parallel_proposals: or(self.parallel_proposals, defaults.num_parallel_proposals),
            num_restarts: or(self.restarts, defaults.num_restarts),
            check_order: !self.no_order_check,
        })
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
