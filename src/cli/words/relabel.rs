//! What `w2s relabel` says of labels that were looked at again.

use w2s::pipeline::RelabelSummary;
use w2s::run::RunDir;

use super::numbers::{count, duration};

/// What a model contradicted.
pub(in crate::cli) fn relabelled(s: &RelabelSummary, seconds: f64, folder: &RunDir) -> Vec<String> {
    let mut out = Vec::new();
    out.push(format!(
        "looked at {} labels again in {}: the model contradicts {} ({:.1} %)",
        s.num_examples,
        duration(seconds),
        s.num_contradicted,
        100.0 * s.flip_rate
    ));
    if s.num_flipped + s.num_dropped > 0 {
        out.push(format!("  flipped {}, dropped {}", s.num_flipped, s.num_dropped));
    }
    out.push(format!("  {} tokens computed", count(s.tokens_computed)));
    out.push(format!("  wrote {}", folder.file("labels.jsonl").display()));
    out
}
