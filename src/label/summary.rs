//! What is said of a labelling: the content of `summary.json`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::icm::OrderCheck;
use super::prompting::ManyShotSummary;

/// What `summary.json` says of a labelling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The method's name.
    pub method: String,
    /// Examples given.
    pub num_examples: usize,
    /// Examples that got no label (a search with too few iterations).
    pub num_unlabelled: usize,
    /// Share of each label among the labelled examples.
    pub share: Map<String, Value>,
    /// Share of each label as the model answers, without calibration, in the prompts that gave the
    /// labels; where there was a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncalibrated_share: Option<Map<String, Value>>,
    /// U of the labels, averaged over batches by their size; the search only.
    pub score: Option<f64>,
    /// U when every example has this label, averaged likewise; the search only, and not under equal
    /// shares with a calibration of the items scored together, where it is the same whatever the texts.
    pub constant_scores: Option<Map<String, Value>>,
    /// U of the labels permuted over the labelled examples, for each permutation, averaged likewise; the
    /// search only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permuted_scores: Option<Vec<f64>>,
    /// Batches searched.
    pub num_batches: Option<usize>,
    /// The alpha that `--auto-alpha` ended with, by batch; with it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alphas: Option<Vec<f64>>,
    /// Batches whose search was ended because it had collapsed; with `--stop-on-collapse` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_collapsed: Option<usize>,
    /// Accepted proposals.
    pub num_accepted: Option<u64>,
    /// Proposals scored.
    pub num_proposals: Option<u64>,
    /// Passes over a labelling computed, by all searches.
    pub num_passes: Option<u64>,
    /// What many-shot prompting did; the methods that do it only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub many_shot: Option<ManyShotSummary>,
    /// Labelled examples that were never drawn again after their first label.
    pub num_never_revisited: Option<usize>,
    /// What a new order of demonstrations does to the result of a search.
    pub order_check: Option<OrderCheck>,
    /// Each of several searches.
    pub restarts: Option<Vec<RestartSummary>>,
    /// Tokens run through the model.
    pub tokens_computed: u64,
    /// Tokens that full prompts would have run.
    pub tokens_full_prompts: u64,
    /// Questions answered.
    pub num_questions: u64,
}

/// What `summary.json` says of one of several searches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartSummary {
    /// Number of the search, from 0.
    pub restart: usize,
    /// Whether its labels are the run's.
    pub kept: bool,
    /// U of its labels under the order it was found under.
    pub score: f64,
    /// U of its labels under an order that is the same for all searches.
    pub score_under_common_order: Option<f64>,
    /// Accepted proposals.
    pub num_accepted: u64,
    /// Proposals scored.
    pub num_proposals: u64,
}
