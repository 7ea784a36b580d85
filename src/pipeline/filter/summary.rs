//! What a filter run came to: `summary.json`.

use serde::{Deserialize, Serialize};

use crate::data::{AnswerRecord, WeakRecord};
use crate::filter::{Coverage, Filtered};
use crate::score::Usage;
use crate::stats::quantile;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterSummary {
    /// Questions asked.
    pub num_examples: usize,
    /// Variants of all questions.
    pub num_prompts: usize,
    /// Questions kept.
    pub num_kept: usize,
    /// Share of the questions that was kept.
    pub retained_share: f64,
    /// The highest entropy that could be kept.
    pub threshold_nats: Option<f64>,
    /// Quartiles of the entropies.
    pub entropy_quartiles_nats: [f64; 3],
    /// Mean entropy of the answers, in nats.
    pub mean_entropy_nats: f64,
    /// Its part within variants: the mean of their entropies.
    pub mean_aleatoric_nats: f64,
    /// Its part between variants.
    pub mean_epistemic_nats: f64,
    /// Mean share of the variants that gave the weak label.
    pub mean_agreement: f64,
    /// Answers that could not be read.
    pub num_unparsed: usize,
    /// Their share.
    pub unparsed_share: f64,
    /// Rows drawn, with replacement.
    pub num_sampled: usize,
    /// How the kinds of questions fared.
    pub coverage: Vec<Coverage>,
    /// Tokens run through the model.
    pub tokens_computed: u64,
    /// Tokens that full prompts would have run.
    pub tokens_full_prompts: u64,
}

/// Returns what became of the answers, at the cost of this many tokens.
pub(super) fn summary(
    answers: &[Vec<AnswerRecord>],
    usage: Usage,
    filtered: &Filtered,
    coverage: Vec<Coverage>,
) -> FilterSummary {
    let all: Vec<&WeakRecord> = filtered.kept.iter().chain(&filtered.dropped).collect();
    let num = all.len();
    let num_prompts: usize = answers.iter().map(Vec::len).sum();
    let mean = |value: fn(&WeakRecord) -> f64| {
        all.iter().map(|record| value(record)).sum::<f64>() / num.max(1) as f64
    };
    let entropies: Vec<f64> = all.iter().map(|record| record.entropy_nats).collect();
    FilterSummary {
        num_examples: num,
        num_prompts,
        num_kept: filtered.kept.len(),
        retained_share: filtered.kept.len() as f64 / num.max(1) as f64,
        threshold_nats: filtered.threshold_nats,
        entropy_quartiles_nats: [0.25, 0.5, 0.75].map(|q| quantile(entropies.clone(), q)),
        mean_entropy_nats: mean(|record| record.entropy_nats),
        mean_aleatoric_nats: mean(|record| record.aleatoric_nats),
        mean_epistemic_nats: mean(|record| record.epistemic_nats),
        mean_agreement: mean(|record| record.agreement),
        num_unparsed: filtered.num_unparsed,
        unparsed_share: filtered.num_unparsed as f64 / num_prompts.max(1) as f64,
        num_sampled: filtered.sample.len(),
        coverage,
        tokens_computed: usage.tokens_computed,
        tokens_full_prompts: usage.tokens_full_prompts,
    }
}
