//! One search over one batch: what it was given and what it holds.

use std::collections::HashMap;

use super::settings::IcmSettings;
use crate::label::consistency::Consistency;
use crate::label::items::Items;
use crate::label::objective::Score;
use crate::label::order::OrderPlan;
use crate::label::prequential::ChainPlan;
use crate::run::SeedStream;
use crate::score::{Scorer, Usage};

/// The label of each example, where it has one.
pub(super) type Labels = Vec<Option<usize>>;

/// A labelling under the model: distributions and score.
#[derive(Clone, Debug)]
pub(super) struct Scored {
    /// Calibrated leave-one-out log distribution of each labelled example; none at first where the
    /// objective has no need of it.
    pub(super) rows: Vec<Option<Vec<f64>>>,
    /// The same of unlabelled examples behind all labelled ones, as far as they were asked for.
    pub(super) ahead: Vec<Option<Vec<f64>>>,
    /// The bias that was taken off.
    pub(super) offset: Vec<f64>,
    pub(super) score: Score,
}

/// One search over one batch.
pub struct Icm<'a, S: Scorer + ?Sized> {
    pub(super) items: &'a Items,
    pub(super) consistency: &'a Consistency,
    pub(super) settings: IcmSettings,
    pub(super) streams: SeedStream,
    pub(super) batch: u64,
    pub(super) label_names: &'a [String],
    pub(super) scorer: &'a mut S,
    pub(super) plan: OrderPlan,
    pub(super) chains: ChainPlan,
    pub(super) check_streams: SeedStream,
    pub(super) epoch: u64,
    pub(super) memo: HashMap<Labels, Scored>,
    pub(super) num_passes: u64,
    pub(super) usage: Usage,
    pub(super) estimated_shares: Option<Vec<f64>>,
}
