//! What a method finds for one example.

use crate::error::{Error, ErrorKind};

/// An example's label with the numbers behind it.
pub(super) struct Found {
    pub(super) label: usize,
    /// The most likely label as the model answers, without calibration.
    pub(super) uncalibrated: usize,
    pub(super) logprobs: Vec<f64>,
    pub(super) last_flip: Option<u64>,
}

/// The error for too few examples to predict each other.
pub(super) fn few_examples(num: usize) -> Error {
    Error::new(ErrorKind::Data, format!("{num} example to label, expected at least 2"))
        .hint("labels are found by how well examples predict each other; give more examples")
}
