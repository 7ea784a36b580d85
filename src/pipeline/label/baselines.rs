//! The options of the baselines, and the many-shot settings they come to.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::search::SearchOptions;
use crate::data::{Dataset, Task};
use crate::error::Result;
use crate::label::{DemonstrationLabels, ManyShot, OrderOptions};
use crate::pipeline::gold::{self, GoldSource};
use crate::pipeline::usage::usage;
use crate::run::{GoldUse, Input};
use crate::score::{Calibration, Prior};

/// Options of the baselines; each is an error with a method that it has no effect on.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Baselines (few-shot-gold, few-shot-random, bootstrap)")]
pub struct BaselineOptions {
    /// Gold labels of the data (few-shot-gold, `--init golden` and `worst`), or the keys of
    /// `--consistency leaky-reference` [default: the data file]
    #[arg(long, value_name = "FILE")]
    pub gold: Option<PathBuf>,
    /// Column of the gold labels (few-shot-gold, `--init golden` and `worst`) [default: the task's]
    #[arg(long, value_name = "COLUMN")]
    pub gold_column: Option<String>,
    /// How often the examples are labelled behind each other, each time with the labels of the time
    /// before (bootstrap) [default: 1]
    #[arg(long, value_name = "N")]
    pub rounds: Option<NonZeroUsize>,
}

/// The baselines that show examples to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    Gold,
    Random,
    Bootstrap,
}

/// How the model is asked.
pub(super) struct Asked {
    pub(super) calibration: Calibration,
    pub(super) prior: Prior,
    pub(super) order: OrderOptions,
}

impl BaselineOptions {
    /// An error for the first option that is given and has no effect.
    pub(super) fn forbid(
        &self,
        baseline: Option<Baseline>,
        search: &SearchOptions,
        method: &str,
    ) -> Result<()> {
        let Self { gold, gold_column, rounds } = self;
        let is = |which| baseline == Some(which);
        let starts = method == "icm" && search.starts_from_gold();
        let keys = method == "icm" && search.is_leaky();
        let given = [
            ("gold", gold.is_some() && !is(Baseline::Gold) && !starts && !keys),
            ("gold-column", gold_column.is_some() && !is(Baseline::Gold) && !starts),
            ("rounds", rounds.is_some() && !is(Baseline::Bootstrap)),
        ];
        match given.iter().find(|(_, is)| *is) {
            Some((name, _)) => {
                let error = usage(format!("`--{name}` has no effect with `--method {method}`"));
                Err(match *name {
                    "rounds" => error.hint("rounds are those of `--method bootstrap`"),
                    _ => error.hint("gold is read by `--method few-shot-gold`, `--init golden` and `worst` and `--consistency leaky-reference` only"),
                })
            }
            None => Ok(()),
        }
    }

    /// Returns the settings of a baseline, with as many demonstrations drawn from the data for all
    /// examples, or with all others of a batch for each.
    pub(super) fn many_shot(
        &self,
        baseline: Baseline,
        search: &SearchOptions,
        num_demonstrations: Option<usize>,
        asked: Asked,
        (task, dataset): (&Task, &Dataset),
    ) -> Result<ManyShot> {
        if num_demonstrations.is_some() && search.has_batch_size() {
            return Err(usage("`--batch-size` has no effect with `--num-demonstrations`".into())
                .hint(
                    "drawn demonstrations are the same for all examples; leave one of the two out",
                ));
        }
        let labels = match baseline {
            Baseline::Gold => DemonstrationLabels::Given(gold::labels(
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
        match num_demonstrations {
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
            num_demonstrations,
            batch_size: search.batch_size()?,
            calibration: asked.calibration,
            prior: asked.prior,
            order: asked.order,
        })
    }

    /// The file that gold is read from.
    pub(super) fn gold_file<'a>(&'a self, dataset: &'a Dataset) -> &'a Path {
        self.gold.as_deref().unwrap_or(&dataset.path)
    }

    /// Where gold is read from.
    pub(super) fn gold_source<'a>(&'a self, task: &'a Task, data: &'a Dataset) -> GoldSource<'a> {
        GoldSource { path: self.gold_file(data), column: self.gold_column.as_deref(), task, data }
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

    /// Adds what the manifest of a run that reads gold says of it.
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
