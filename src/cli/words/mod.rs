//! The words of results: what a run came to, as lines for people. One file a verb.

mod filter;
mod label;
mod relabel;
mod rounds;
mod train;

use w2s::pipeline::Event;

/// Returns the lines that an event is told by; none of one that is no result.
pub(super) fn of(event: &Event<'_>) -> Vec<String> {
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
        _ => Vec::new(),
    }
}
