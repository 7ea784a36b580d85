//! The words of results: what a run came to, as lines for people. One file a verb.
//!
//! What a run says goes to stderr, what a verb prints to stdout.

mod compare;
mod evaluate;
mod filter;
mod label;
mod relabel;
mod rounds;
mod train;

use w2s::pipeline::Event;

/// Returns the lines that an event prints; none of most.
pub(super) fn printed(event: &Event<'_>) -> Vec<String> {
    match *event {
        Event::Evaluated { runs, per_label } => evaluate::labels(runs, per_label),
        Event::EvaluatedFilters(runs) => evaluate::filters(runs),
        Event::EvaluatedLoops(runs) => evaluate::loops(runs),
        Event::Compared { comparison, column, is_first } => {
            let mut lines = compare::lines(comparison, column);
            if !is_first {
                lines.insert(0, String::new());
            }
            lines
        }
        _ => Vec::new(),
    }
}

/// Returns the lines that an event says; none of one that is no result.
pub(super) fn said(event: &Event<'_>) -> Vec<String> {
    match *event {
        Event::Labelled { labelling, calibration, prior, seconds, folder } => {
            label::labelled(labelling, calibration, prior, seconds, folder)
        }
        Event::Restarted { restarts, basins } => label::restarted(restarts, basins),
        Event::Filtered { summary, is_open, seconds, folder } => {
            filter::filtered(summary, is_open, seconds, folder)
        }
        Event::Relabelled { summary, seconds, folder } => {
            relabel::relabelled(summary, seconds, folder)
        }
        Event::Trained { summary, seconds, folder } => train::trained(summary, seconds, folder),
        Event::Looped { record, rounds, folder } => rounds::looped(record, rounds, folder),
        Event::Compared { comparison, column, .. } => compare::doubts(comparison, column),
        _ => Vec::new(),
    }
}
