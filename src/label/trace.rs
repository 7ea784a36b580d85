//! What the search reports while it runs; `trace.jsonl` holds one of these a line.

use serde::{Deserialize, Serialize};

/// An example's label before and after, `None` for unlabelled: id, from, to.
pub type Change = (String, Option<String>, Option<String>);

/// One event of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum TraceEvent {
    /// Some of the examples were scored by a prompting method; never written to `trace.jsonl`.
    Scored {
        /// Examples scored so far.
        done: usize,
        /// Examples to score.
        total: usize,
    },
    /// One of several searches begins; never written to `trace.jsonl`.
    Restart {
        /// Number of the search, from 0.
        restart: usize,
    },
    /// The search of a batch begins with these labels.
    Start {
        /// Number of the batch, from 0.
        batch: u64,
        /// Always 0.
        iteration: u64,
        /// Id and label of the examples labelled at the start.
        labels: Vec<(String, String)>,
        /// U of these labels.
        score: f64,
        /// P of these labels.
        mutual_predictability: f64,
        /// I of these labels.
        inconsistency: usize,
        /// Temperature of the first iteration.
        temperature: f64,
        /// How many examples are labelled.
        num_labelled: usize,
    },
    /// An example was drawn and its label predicted from all others.
    Proposal {
        /// Number of the batch, from 0.
        batch: u64,
        /// Iteration within the batch, from 1.
        iteration: u64,
        /// The example drawn.
        id: String,
        /// Its label so far.
        from: Option<String>,
        /// The label predicted.
        predicted: String,
        /// How many examples were drawn together, if it is a block; `id` is then the first of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        block: Option<usize>,
        /// What is proposed, after inconsistencies were fixed; empty: nothing.
        changes: Vec<Change>,
        /// U of the labels held.
        score: f64,
        /// U of the labels proposed; none when nothing is.
        proposed_score: Option<f64>,
        /// P of the labels proposed.
        mutual_predictability: Option<f64>,
        /// I of the labels proposed.
        inconsistency: Option<usize>,
        /// Temperature of the decision.
        temperature: f64,
        /// Whether the proposal became the labelling.
        accepted: bool,
        /// How many examples are labelled now.
        num_labelled: usize,
    },
    /// The labels held were scored again under a new order of demonstrations.
    Renew {
        /// Number of the batch, from 0.
        batch: u64,
        /// Iteration within the batch.
        iteration: u64,
        /// U under the new order.
        score: f64,
    },
    /// `--auto-alpha` set alpha for the labelled examples there are now.
    Alpha {
        /// Number of the batch, from 0.
        batch: u64,
        /// Iteration within the batch after which it holds; 0: from the start.
        iteration: u64,
        /// The new alpha.
        alpha: f64,
        /// How many examples are labelled.
        num_labelled: usize,
        /// U of the labels held under it.
        score: f64,
    },
    /// The search of a batch is over.
    End {
        /// Number of the batch, from 0.
        batch: u64,
        /// Iterations made.
        iteration: u64,
        /// U of the final labels.
        score: f64,
        /// P of the final labels.
        mutual_predictability: f64,
        /// I of the final labels.
        inconsistency: usize,
        /// `converged`, `iterations` or `collapsed`.
        reason: String,
        /// How many examples are labelled.
        num_labelled: usize,
        /// U when every example has this label, by label;
        /// none under equal shares with a calibration of the items scored together.
        constant_scores: serde_json::Map<String, serde_json::Value>,
        /// U of the labels permuted over the labelled examples, for each permutation.
        #[serde(default)]
        permuted_scores: Vec<f64>,
    },
}
