//! What a run says of one example, beside gold.

/// One labelled example beside its gold label.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The example's id.
    pub id: String,
    /// The index of the label it was given.
    pub label: usize,
    /// The log-probability of each label in nats, where the run kept them.
    pub logprobs: Option<Vec<f64>>,
    /// The index of its gold label, where gold knows the example.
    pub gold: Option<usize>,
}
