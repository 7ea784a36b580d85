//! Evaluation: how right the labels are, once gold may be looked at.
//!
//! Two questions, each answered from plain values: how good are the labels ([`evaluate`]), and how
//! did the search get there ([`curve_from_trace`]). The stage comes after labelling and before the
//! report; it knows nothing of models, and it neither opens run folders nor writes files: its
//! caller joins labels and gold by id and stores the results.

mod curve;
mod metrics;

pub use curve::{CurvePoint, curve_from_reader, curve_from_trace};
pub use metrics::{Evaluation, Prediction, Z_95, auroc, evaluate, wilson};
