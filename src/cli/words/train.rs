//! What `w2s train` says of what was trained.

use w2s::pipeline::TrainSummary;
use w2s::run::RunDir;

use super::numbers::{count, duration};

/// What a training came to.
pub(in crate::cli) fn trained(
    summary: &TrainSummary,
    seconds: f64,
    folder: &RunDir,
) -> Vec<String> {
    let mut out = Vec::new();
    out.push(format!(
        "trained {} parameters on {} items in {} steps, {}",
        count(summary.num_trained_parameters as u64),
        summary.num_items,
        summary.num_steps,
        duration(seconds)
    ));
    out.push(format!(
        "  loss: {:.4} at first, {:.4} at last",
        summary.first_loss, summary.last_loss
    ));
    if let Some(loss) = summary.validation_loss {
        out.push(format!(
            "  lowest validation loss: {loss:.4} ({} items set aside){}",
            summary.num_validation,
            if summary.stopped_early { "; ended early" } else { "" }
        ));
    }
    let saved = 1.0 - summary.tokens_run as f64 / summary.tokens_without_sharing.max(1) as f64;
    out.push(format!(
        "  {} tokens run; full sequences would have been {} (saved {:.0} %)",
        count(summary.tokens_run),
        count(summary.tokens_without_sharing),
        100.0 * saved
    ));
    out.push(format!("  wrote {}", folder.path().display()));
    out
}
