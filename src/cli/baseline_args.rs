//! The options of the baselines, and the many-shot settings they come to.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::gold_demonstrations;
use super::search_args::{SearchArgs, usage};
use crate::data::{Dataset, Task};
use crate::error::Result;
use crate::label::{Calibration, DemonstrationLabels, ManyShot, OrderOptions};
use crate::run::{GoldUse, Input};

/// Options of the baselines; each is an error with a method that it has no effect on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Baselines (few-shot-gold, few-shot-random, bootstrap)")]
pub(super) struct BaselineArgs {
    /// Prompt with K demonstrations drawn from the data, as many of each label [default: each
    /// example stands behind all others of its batch]
    #[arg(long, value_name = "K")]
    num_demonstrations: Option<usize>,
    /// Gold labels of the data (few-shot-gold) [default: the data file]
    #[arg(long, value_name = "FILE")]
    gold: Option<PathBuf>,
    /// Column of the gold labels (few-shot-gold) [default: the task's]
    #[arg(long, value_name = "COLUMN")]
    gold_column: Option<String>,
    /// How often the examples are labelled behind each other, each time with the labels of the time
    /// before (bootstrap) [default: 1]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,
}

/// The baselines that show examples to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    Gold,
    Random,
    Bootstrap,
}

impl BaselineArgs {
    /// An error for the first option that is given and has no effect.
    pub(super) fn forbid(&self, baseline: Option<Baseline>, method: &str) -> Result<()> {
        let Self { num_demonstrations, gold, gold_column, rounds } = self;
        let is = |which| baseline == Some(which);
        let given = [
            ("num-demonstrations", num_demonstrations.is_some() && baseline.is_none()),
            ("gold", gold.is_some() && !is(Baseline::Gold)),
            ("gold-column", gold_column.is_some() && !is(Baseline::Gold)),
            ("rounds", rounds.is_some() && !is(Baseline::Bootstrap)),
        ];
        match given.iter().find(|(_, is)| *is) {
            Some((name, _)) => {
                let error = usage(format!("`--{name}` has no effect with `--method {method}`"));
                Err(match *name {
                    "rounds" => error.hint("rounds are those of `--method bootstrap`"),
                    "num-demonstrations" => error.hint("leave it out"),
                    _ => error.hint("gold is read by `--method few-shot-gold` only"),
                })
            }
            None => Ok(()),
        }
    }

    /// Returns the settings of a baseline.
    pub(super) fn many_shot(
        &self,
        baseline: Baseline,
        search: &SearchArgs,
        (calibration, order): (Calibration, OrderOptions),
        (task, dataset): (&Task, &Dataset),
    ) -> Result<ManyShot> {
        if self.num_demonstrations.is_some() && search.has_batch_size() {
            return Err(usage("`--batch-size` has no effect with `--num-demonstrations`".into())
                .hint(
                    "drawn demonstrations are the same for all examples; leave one of the two out",
                ));
        }
        let labels = match baseline {
            Baseline::Gold => DemonstrationLabels::Given(gold_demonstrations::read(
                self.gold_file(dataset),
                self.gold_column.as_deref(),
                task,
                dataset,
            )?),
            Baseline::Random => DemonstrationLabels::Random,
            Baseline::Bootstrap => {
                DemonstrationLabels::ZeroShot { rounds: self.rounds.map_or(1, NonZeroUsize::get) }
            }
        };
        let num_labelled = match &labels {
            DemonstrationLabels::Given(labels) => labels.len(),
            _ => dataset.examples.len(),
        };
        match self.num_demonstrations {
            Some(num) if num < 2 || num > num_labelled => {
                return Err(usage(format!(
                    "`--num-demonstrations` is {num}, expected 2 to {num_labelled}"
                ))
                .hint("demonstrations are drawn from the labelled examples of the data"));
            }
            _ => {}
        }
        Ok(ManyShot {
            labels,
            num_demonstrations: self.num_demonstrations,
            batch_size: search.batch_size()?,
            calibration,
            order,
        })
    }

    fn gold_file<'a>(&'a self, dataset: &'a Dataset) -> &'a Path {
        self.gold.as_deref().unwrap_or(&dataset.path)
    }

    /// Why gold has a part in a run of `few-shot-gold`.
    pub(super) fn gold_used(&self, dataset: &Dataset) -> GoldUse {
        let column = self.gold_column.as_ref();
        GoldUse::Because(format!(
            "few-shot-gold: demonstrations have the gold labels of {}{}",
            self.gold_file(dataset).display(),
            column.map_or(String::new(), |column| format!(", column {column}"))
        ))
    }

    /// Adds what the manifest of `few-shot-gold` says of gold.
    pub(super) fn record(
        &self,
        settings: &mut Map<String, Value>,
        inputs: &mut Vec<Input>,
    ) -> Result<()> {
        settings.insert("gold_column".into(), self.gold_column.clone().into());
        if let Some(path) = &self.gold {
            inputs.push(Input::of_file("gold", path)?);
        }
        Ok(())
    }
}
