//! Tables of bins and of many rows.

use super::document::Document;
use super::text;
use super::words::percent;
use crate::eval::Reliability;

/// Rows of one table of sweeps or bins; of a longer one the middle is left out.
const MAX_ROWS: usize = 24;

/// The rows to show, with a mark where some are left out.
pub(super) fn thinned<T>(rows: &[T]) -> impl Iterator<Item = Option<&T>> {
    let cut = rows.len() > MAX_ROWS;
    let (first, rest) = rows.split_at(if cut { MAX_ROWS / 2 } else { rows.len() });
    let last = &rest[rest.len().saturating_sub(MAX_ROWS / 2)..];
    first.iter().map(Some).chain(cut.then_some(None)).chain(last.iter().map(Some))
}

pub(super) fn calibration_bins(reliability: &Reliability, name: &str, page: &mut Document) {
    page.say(&format!("Calibration of {name}:"));
    page.table(&["probability of the label", "n", "mean", "right"]);
    for bin in &reliability.bins {
        page.row(&[
            format!("{:.1} to {:.1}", bin.low, bin.high),
            text::grouped(bin.num_examples as u64),
            format!("{}%", percent(bin.confidence)),
            format!("{}%", percent(bin.accuracy)),
        ]);
    }
}
