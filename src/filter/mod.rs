//! How sure a weak supervisor is of its labels: variants of each question, the entropy of the answers
//! over them, what is kept, and how reliable each answer is.
//!
//! The stage after `label` and before `train`: takes examples and a model, gives [`WeakRecord`]s and
//! weights. Gold is not known here. The parts follow each other: [`Asking`] puts the variants to a
//! model and reads the answers, [`keep`] needs nothing but answers.
//!
//! # Source
//! arXiv 2406.19032 (Reliability-Aware Alignment); where we depart from its code, the item says so.
//!
//! [`WeakRecord`]: crate::data::WeakRecord

mod keep;
mod parse;
mod ra_table;
mod rule;
mod uncertainty;
mod variants;

pub use keep::{Coverage, Filtered, KeepSettings, SampleRecord, WeightBy, coverage, keep};
pub use parse::{Choices, Parsed, parse};
pub use ra_table::{Published, read_published, write_published};
pub use rule::{Candidate, Rule, Selection, sample, select};
pub use uncertainty::{Split, Votes, mean_distribution, split};
pub use variants::{Asking, Variation};
