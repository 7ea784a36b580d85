//! The arguments of `w2s plan`.

use clap::Args;
use serde::Serialize;

use crate::pipeline::reproduce::PlaceOptions;

/// Estimate tokens, memory and time of a recipe or a command without running it
///
/// Runs all steps with models that count tokens instead of computing, then measures this machine for
/// some seconds with the real models. What depends on the answers (which questions a filter keeps, how
/// long a search goes on changing labels) is as with random answers; texts are written to their longest.
/// Says also how wide the intervals of the accuracies will be. Of a model behind a server it counts
/// requests and tokens, by the route that the server has, or by each where it cannot be reached, and
/// with --prices the cost; answers that are kept already are taken off. A server that is there is asked
/// a few short questions, as the run would: what it can do, and which model it has.
///
/// Examples:
///   w2s plan w2s-classic --scale small --data-dir data-sets
///   w2s plan -- label --model models/gemma-3-270m --task sentiment --data data/demo/reviews.jsonl
///   w2s plan -- label --model http://localhost:8000/v1#NAME --tokenizer DIR --task sentiment \
///     --data data/demo/reviews.jsonl
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct PlanJob {
    /// A recipe (`w2s reproduce` lists them), or a file that ends in .toml
    #[arg(value_name = "RECIPE", required_unless_present = "command")]
    pub recipe: Option<String>,
    /// Where and at which size.
    #[serde(flatten)]
    #[command(flatten)]
    pub place: PlaceOptions,
    /// Measure the machine for so many seconds; 0: only count
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub measure: f64,
    /// Say what to change if it takes longer than this
    #[arg(long, value_name = "HOURS")]
    pub hours: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// A command of w2s with its options, after --
    #[arg(last = true, conflicts_with = "recipe", value_name = "COMMAND")]
    pub command: Vec<String>,
}
