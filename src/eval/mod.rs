//! Evaluation: how right the labels are, once gold may be looked at.
//!
//! Questions answered from plain values: how good are the labels ([`evaluate`]), how did the search
//! get there ([`curve_from_trace`]), how sure is a mean ([`bootstrap_mean`]). The stage comes after
//! labelling and before the report; it knows nothing of models, and it neither opens run folders nor
//! writes files: its caller joins labels and gold by id and stores the results.

mod bootstrap;
mod curve;
mod metrics;

pub use bootstrap::{MeanInterval, bootstrap_mean};
pub use curve::{CurvePoint, curve_from_reader, curve_from_trace};
pub use metrics::{Evaluation, Prediction, Z_95, auroc, evaluate, wilson};
