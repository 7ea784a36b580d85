//! Settings of the search.

use serde::Serialize;

use super::init::Init;
use crate::label::objective::ScoreForm;
use crate::label::order::OrderOptions;
use crate::label::schedule::Schedule;
use crate::score::{Calibration, Prior};

/// How many examples one proposal changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// As many as go well: an eighth of the examples at first, twice as many after two acceptances in a
    /// row, half as many after a refusal; first labels as many as there are labels.
    Auto,
    /// At most this many; 1 is the published search.
    Size(usize),
}

impl Block {
    fn is_one(&self) -> bool {
        *self == Self::Size(1)
    }
}

impl Serialize for Block {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Size(size) => size.serialize(serializer),
        }
    }
}

/// Settings of the search; the README says how they work together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IcmSettings {
    /// Form and weight of the score.
    pub form: ScoreForm,
    /// Nats that one inconsistent pair weighs as much as, whatever the number of labelled examples;
    /// takes the place of alpha.
    pub auto_alpha: Option<f64>,
    /// Cooling.
    pub schedule: Schedule,
    /// Examples that are labelled at the start.
    pub num_seed: usize,
    /// How they are labelled.
    pub init: Init,
    /// Most iterations for one batch.
    pub iterations: u64,
    /// Most inconsistent pairs repaired after one change.
    pub consistency_fix_iterations: usize,
    /// Order of demonstrations.
    #[serde(flatten)]
    pub order: OrderOptions,
    /// Accepted changes after which the order is drawn anew; 0: never.
    pub renew_order_every: u64,
    /// How the model's bias to a label is taken off.
    pub calibration: Calibration,
    /// The shares of the labels that calibration supposes. Estimated ones are those of the model's
    /// answers without demonstrations, before the search, and stay: shares that followed the labels
    /// held would let a labelling of one label explain itself.
    #[serde(skip)]
    pub prior: Prior,
    /// Stop when all examples are labelled and none can change.
    pub stop_when_stable: bool,
    /// Stop when all examples are labelled and one label had more than this share for a whole sweep.
    pub stop_on_collapse: Option<f64>,
    /// Random orders over which the prequential objective is averaged; at least 1.
    pub num_prequential_orders: usize,
    /// Examples that are drawn and predicted at once. They are decided one after another, so the
    /// prediction of a later one knows nothing of what was accepted before it in the round.
    pub num_parallel_proposals: usize,
    /// Examples that one proposal changes.
    #[serde(skip_serializing_if = "Block::is_one")]
    pub block: Block,
    /// Whole searches, from other seeds; the best is kept.
    pub num_restarts: usize,
    /// Score the final labels once more under a new order of demonstrations.
    pub check_order: bool,
    /// Permutations of the final labels over the examples that are scored: what labels of the same
    /// shares score that say nothing of the texts.
    pub num_null_permutations: usize,
}

impl IcmSettings {
    /// Returns whether every labelling of one label scores the same, whatever the texts.
    pub(in crate::label) fn fixes_constants(&self) -> bool {
        self.calibration.is_of_items() && self.prior == Prior::Equal
    }
}

impl Default for IcmSettings {
    fn default() -> Self {
        Self {
            form: ScoreForm::default(),
            auto_alpha: None,
            schedule: Schedule::default(),
            num_seed: 8,
            init: Init::Balanced,
            iterations: 1500,
            consistency_fix_iterations: 10,
            order: OrderOptions::default(),
            renew_order_every: 0,
            calibration: Calibration::Batch,
            prior: Prior::Equal,
            stop_when_stable: true,
            stop_on_collapse: None,
            num_prequential_orders: 4,
            num_parallel_proposals: 1,
            block: Block::Auto,
            num_restarts: 1,
            check_order: true,
            num_null_permutations: 2,
        }
    }
}
