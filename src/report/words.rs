//! Numbers as tables spell them.

use crate::eval::Evaluation;

/// Returns a rate with its interval, in percent.
pub(super) fn interval(rate: f64, low: f64, high: f64) -> String {
    format!("{}% [{}, {}]", percent(rate), percent(low), percent(high))
}

/// The AUROC of a binary task, the mean over the labels of another.
pub(super) fn auroc(evaluation: &Evaluation) -> Option<f64> {
    evaluation.auroc.or(evaluation.macro_auroc)
}

pub(super) fn percent(rate: f64) -> String {
    format!("{:.1}", rate * 100.0)
}

pub(super) fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "-".to_owned())
}

/// Returns a number with three digits behind the point.
pub(super) fn number(value: Option<f64>) -> String {
    or_dash(value.map(|value| format!("{value:.3}")))
}
