//! The words of what runs tell, as lines for people. One file a verb, one for notes, one for warnings.
//!
//! What a run says goes to stderr, what a verb prints to stdout. All matches go to their end: an event, a
//! note or a warning that has no words does not build.

mod audit;
mod compare;
mod evaluate;
mod filter;
mod folders;
mod label;
mod line;
pub(in crate::cli) mod next;
mod notes;
mod numbers;
mod plan;
mod relabel;
mod reproduce;
mod rounds;
mod score;
mod train;
pub(in crate::cli) mod verdict;
mod warnings;
mod working;

use w2s::error::Result;
use w2s::pipeline::Event;

use super::loudness::Loudness;
use super::settings_text;

pub(super) use line::Line;
pub(super) use numbers::{count, duration};
pub(super) use warnings::begun_word;
pub(super) use working::{resume, waiting};

fn said(texts: impl IntoIterator<Item = String>) -> Vec<Line> {
    texts.into_iter().map(Line::Said).collect()
}

fn printed(texts: impl IntoIterator<Item = String>) -> Vec<Line> {
    texts.into_iter().map(Line::Printed).collect()
}

/// Returns what is written of an event, in its order.
///
/// # Errors
/// When a result cannot be written as JSON.
pub(super) fn lines(event: &Event<'_>, loudness: Loudness) -> Result<Vec<Line>> {
    Ok(match *event {
        Event::Note(note) => said([notes::text(note)]),
        Event::Warning(warning) => said([warnings::text(warning)]),
        Event::Settings(of) => said([match loudness {
            Loudness::Verbose => settings_text::block(&of.settings, of.seed),
            _ => settings_text::brief(of),
        }]),
        Event::Series(ref step) => said([working::series(step)]),
        Event::Finished { folder } => said(next::lines(folder)),
        Event::Spent(spent) => said([working::spent(spent)]),
        Event::Labelled { labelling, calibration, prior, seconds, folder } => {
            said(label::labelled(labelling, calibration, prior, seconds, folder))
        }
        Event::Restarted { restarts, basins } => said(label::restarted(restarts, basins)),
        Event::Filtered { summary, is_open, seconds, folder } => {
            said(filter::filtered(summary, is_open, seconds, folder))
        }
        Event::Relabelled { summary, seconds, folder } => {
            said(relabel::relabelled(summary, seconds, folder))
        }
        Event::Trained { summary, seconds, folder } => {
            said(train::trained(summary, seconds, folder))
        }
        Event::LabelledTest { labelling, num_demonstrations, seconds, folder: _ } => {
            said([label::labelled_test(labelling, num_demonstrations, seconds)])
        }
        Event::Looped { record, rounds, folder } => said(rounds::looped(record, rounds, folder)),
        Event::Evaluated { runs, per_label } => printed(evaluate::labels(runs, per_label)),
        Event::EvaluatedFilters(runs) => printed(evaluate::filters(runs)),
        Event::EvaluatedLoops(runs) => printed(evaluate::loops(runs)),
        Event::EvaluatedSearches(basins) => said(evaluate::searches(basins)),
        Event::Compared { comparison, column, is_first } => {
            let blank = (!is_first).then(String::new);
            let mut lines = printed(blank.into_iter().chain(compare::lines(comparison, column)));
            lines.extend(said(compare::doubts(comparison, column)));
            lines
        }
        Event::Planned { plan, most_hours: _, as_json: true } => printed([plan::json(plan)?]),
        Event::Planned { plan, most_hours, as_json: false } => {
            printed(plan::planned(plan, most_hours))
        }
        Event::Reproduced(done) => reproduce::reproduced(done),
        Event::Scored(scores) => printed([score::scored(scores)]),
        Event::Merged { seconds, folder } => said([folders::merged(seconds, folder)]),
        Event::Pulled(files) => printed(files.iter().map(|file| file.display().to_string())),
        Event::Drawn { file, num_records } => said([folders::drawn(file, num_records)]),
        Event::Explained { explanation, file } => folders::explained(explanation, file),
        Event::AuditDrawn(drawn) => audit::drawn(drawn),
        Event::AuditCertified(judged) => audit::certified(judged),
        Event::Exported(done) => folders::exported(done),
        Event::Reported(summary) => {
            let mut lines = said(summary.notes.iter().map(|note| format!("note: {note}")));
            lines.extend(printed(summary.files.iter().map(|file| file.display().to_string())));
            lines
        }
        // Progress, which the terminal draws.
        Event::Interruptible(_)
        | Event::Waiting(_)
        | Event::Labelling { .. }
        | Event::Label(_)
        | Event::Training { .. }
        | Event::Step { .. }
        | Event::Ended => Vec::new(),
    })
}
