//! What a plan says: the work of each step, counted, and the time it takes here, as measured.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::score::{Asked, Work};

/// What a recipe or a job will cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The steps that do anything, in their order.
    pub steps: Vec<PlannedStep>,
    /// What servers would be asked, by step and route.
    pub served: Vec<PlannedRequests>,
    /// All of them together.
    pub total: Work,
    /// Their time on this machine, without opening models; none where it was not measured.
    pub seconds: Option<f64>,
    /// Weights and working memory of the largest step, in bytes; 0 without models.
    pub peak_bytes: u64,
    /// How wide the intervals of the recipe's comparisons will be.
    pub intervals: Vec<PlannedInterval>,
    /// By the model's folder, how fast this machine runs it.
    pub speeds: BTreeMap<String, Speed>,
}

/// What the runs of one step cost together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedStep {
    /// The step's name in the recipe, or the command's.
    pub step: String,
    /// Runs of it: one for each seed, model and data set.
    pub num_runs: usize,
    /// What they run.
    #[serde(flatten)]
    pub work: Work,
    /// On this machine, if it was measured.
    pub seconds: Option<f64>,
}

/// What the runs of one step would ask of a server by one route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedRequests {
    /// The step's name in the recipe, or the command's.
    pub step: String,
    /// Route, requests, tokens and cost.
    #[serde(flatten)]
    pub asked: Asked,
}

/// How wide the interval of an accuracy will be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedInterval {
    /// The comparison.
    pub step: String,
    /// Items with gold.
    pub num_items: usize,
    /// Half the 95 % interval of one run's accuracy of 80 %, as a share.
    pub half_width: f64,
}

/// How fast a machine runs a model, and what the model is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Speed {
    /// Operations a second of forward passes of 512 tokens; none where it was not measured.
    pub score_flops: Option<f64>,
    /// Tokens a second of forward and backward passes of 512 tokens; none where nothing trains.
    pub train_tokens: Option<f64>,
    /// Tokens a second that eight texts at once grow by; none where nothing is written.
    pub write_tokens: Option<f64>,
    /// Operations of a token in all linear maps but the head.
    pub flops_per_token: f64,
    /// Operations of a pair of tokens in attention, all layers.
    pub flops_per_pair: f64,
    /// Operations of the head at one place.
    pub flops_per_row: f64,
    /// Size of the weights.
    pub weight_bytes: u64,
    /// Working memory of scoring passes on short paths, and what a token of the path adds.
    pub score_bytes: (u64, u64),
    /// Working memory of a training pass.
    pub train_bytes: u64,
}

impl Speed {
    /// Returns how long the work takes; `None` where what it needs was not measured.
    pub fn seconds(&self, work: Work) -> Option<f64> {
        let mut seconds = 0.0;
        if work.num_tokens > 0 {
            let flops = work.num_tokens as f64 * self.flops_per_token
                + work.num_pairs as f64 * self.flops_per_pair
                + work.num_rows as f64 * self.flops_per_row;
            seconds += flops / self.score_flops?;
        }
        if work.num_trained > 0 {
            seconds += work.num_trained as f64 / self.train_tokens?;
        }
        if work.num_written > 0 {
            seconds += work.num_written as f64 / self.write_tokens?;
        }
        Some(seconds)
    }

    /// Returns the memory that the work takes, weights included, in bytes.
    pub fn peak_bytes(&self, work: Work) -> u64 {
        let (short, more) = self.score_bytes;
        let scoring = if work.num_tokens > 0 { short + more * work.longest as u64 } else { 0 };
        let training = if work.num_trained > 0 { self.train_bytes } else { 0 };
        self.weight_bytes + scoring.max(training)
    }

    /// Returns tokens a second of scoring, attention and head aside.
    pub fn score_tokens(&self) -> Option<f64> {
        self.score_flops.map(|flops| flops / self.flops_per_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand: 10 tokens of 3 operations, 20 pairs of 2 and 5 rows of 4 are 90 operations, at 45 a
    /// second 2 seconds; 8 tokens trained at 4 a second are 2 more.
    #[test]
    fn time_and_memory_are_those_of_the_work() {
        let speed = Speed {
            score_flops: Some(45.0),
            train_tokens: Some(4.0),
            write_tokens: None,
            flops_per_token: 3.0,
            flops_per_pair: 2.0,
            flops_per_row: 4.0,
            weight_bytes: 1000,
            score_bytes: (10, 2),
            train_bytes: 25,
        };
        let scoring =
            Work { num_tokens: 10, num_pairs: 20, num_rows: 5, longest: 7, ..Work::default() };
        assert_eq!((speed.seconds(scoring), speed.peak_bytes(scoring)), (Some(2.0), 1024));
        let training = Work { num_trained: 8, ..Work::default() };
        assert_eq!((speed.seconds(training), speed.peak_bytes(training)), (Some(2.0), 1025));
        assert_eq!(speed.seconds(scoring.plus(training)), Some(4.0));
        // What was not measured is not guessed.
        assert_eq!(speed.seconds(Work { num_written: 1, ..scoring }), None);
        assert_eq!(speed.score_tokens(), Some(15.0));
    }
}
