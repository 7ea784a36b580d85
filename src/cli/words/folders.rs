//! What the verbs print and say that write files for others: merge, export, draw, explain.

use std::path::Path;

use w2s::pipeline::{Explanation, Exported};
use w2s::run::{GoldUse, RunDir};

use super::line::Line;
use super::notes;
use super::numbers::{count, duration};

/// What `w2s merge` says.
pub(in crate::cli) fn merged(seconds: f64, folder: &RunDir) -> String {
    format!("merged in {}; wrote {}", duration(seconds), folder.path().display())
}

/// What `w2s data draw` says of one part.
pub(in crate::cli) fn drawn(file: &Path, num_records: usize) -> String {
    format!("  {}: {} records", file.display(), count(num_records as u64))
}

/// What `w2s explain` says and prints.
pub(in crate::cli) fn explained(explanation: &Explanation, file: &Path) -> Vec<Line> {
    let groups: Vec<String> = explanation
        .groups
        .iter()
        .map(|group| format!("{} is {}", group.letter, group.label))
        .collect();
    vec![
        Line::Said(format!("{}; wrote {}", groups.join(", "), file.display())),
        Line::Printed(explanation.text.clone()),
    ]
}

/// What `w2s export` says and prints.
pub(in crate::cli) fn exported(done: &Exported) -> Vec<Line> {
    if done.format.is_table() {
        let rows = format!(
            "wrote {} rows, {} of them labelled",
            count(done.num_rows as u64),
            count(done.num_examples as u64)
        );
        let mut said: Vec<String> = [rows].into_iter().chain(done.notes.iter().cloned()).collect();
        if let GoldUse::Because(reason) = &done.gold_used {
            said.push(notes::gold_used(reason));
        }
        let mut lines: Vec<Line> = said.into_iter().map(Line::Said).collect();
        lines.push(Line::Printed(done.folder.display().to_string()));
        return lines;
    }
    let mut said = vec![format!(
        "{} {}, {} rows to train on, {} to validate on",
        count(done.num_examples as u64),
        if done.format.is_of_preferences() { "pairs" } else { "examples" },
        count(done.num_rows as u64),
        count(done.num_validation as u64)
    )];
    said.extend(done.notes.iter().cloned());
    if done.is_lossy {
        said.push(
            "hint: `w2s train` weighs the loss, and learns the tokens that were scored".to_owned(),
        );
    }
    said.push(format!("settings: {}", done.settings));
    if let Some(remark) = &done.remark {
        said.push(format!("warning: {remark}\nhint: `w2s train` has all of its losses"));
    }
    if let GoldUse::Because(reason) = &done.gold_used {
        said.push(notes::gold_used(reason));
    }
    let mut lines: Vec<Line> = said.into_iter().map(Line::Said).collect();
    lines.push(Line::Printed(done.folder.display().to_string()));
    lines
}
