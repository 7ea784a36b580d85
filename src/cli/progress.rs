//! Messages and progress, on stderr; progress only where a person watches.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::printable::printable;
use crate::data::PromptSpec;
use crate::label::TraceEvent;

/// Whether another process speaks for this one.
static QUIET: AtomicBool = AtomicBool::new(false);
/// Whether results are kept back too.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Leaves messages and progress to another process; errors are still told.
pub(super) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Keeps messages, progress and results back until it is dropped.
pub(super) struct Silence {
    was_quiet: bool,
}

/// Keeps messages, progress and results back until what is returned is dropped.
pub(super) fn silence() -> Silence {
    SILENT.store(true, Ordering::Relaxed);
    Silence { was_quiet: QUIET.swap(true, Ordering::Relaxed) }
}

impl Drop for Silence {
    fn drop(&mut self) {
        SILENT.store(false, Ordering::Relaxed);
        QUIET.store(self.was_quiet, Ordering::Relaxed);
    }
}

/// Whether progress is shown: to a person, by the process that speaks.
pub(super) fn is_watched() -> bool {
    std::io::stderr().is_terminal() && !QUIET.load(Ordering::Relaxed)
}

/// Writes a line to stderr, if this process is one that speaks.
pub(super) fn say(line: fmt::Arguments<'_>) {
    if !QUIET.load(Ordering::Relaxed) {
        complain(line);
    }
}

/// Warns of label words that begin others.
pub(super) fn warn_of_words(prompt: &PromptSpec) {
    for (word, longer) in prompt.begun_words() {
        say(format_args!("{}", begun_word(word, longer)));
    }
}

/// The warning of a label word that begins another.
pub(super) fn begun_word(word: &str, longer: &str) -> String {
    format!(
        "warning: label word `{word}` begins `{longer}`: it is scored with whatever may follow it, `{longer}` included\nhint: choose words of which none begins another"
    )
}

/// Writes a line to stderr.
pub(super) fn complain(line: fmt::Arguments<'_>) {
    // A closed stderr is no reason to stop working.
    let _ = writeln!(std::io::stderr(), "{}", printable(&line.to_string()));
}

/// Writes a line to stdout, which is for results.
pub(super) fn print(line: fmt::Arguments<'_>) -> crate::error::Result<()> {
    if SILENT.load(Ordering::Relaxed) {
        return Ok(());
    }
    let write = writeln!(std::io::stdout(), "{}", printable(&line.to_string()));
    // Whoever read it has seen enough, as `head` has; the work goes on to its end.
    if write.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
        SILENT.store(true, Ordering::Relaxed);
        return Ok(());
    }
    write.map_err(|e| crate::error::Error::io("write", std::path::Path::new("stdout"), &e))
}

/// What is said when the user ends the program: by the command of a series, and by the series, whose
/// word counts.
static WORDS: Mutex<[Option<String>; 2]> = Mutex::new([None, None]);

/// Says how to go on when the program is ended by a signal or by a bug.
pub(super) fn on_interrupt(message: String) {
    put_word(0, message);
}

/// As [`on_interrupt`], for a command that runs others as its steps: how to go on with it is said
/// whatever step is at work.
pub(super) fn on_interrupt_of_all(message: String) {
    put_word(1, message);
}

fn put_word(place: usize, message: String) {
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    words[place] = Some(message);
}

/// Returns what is to be said of how to go on.
pub(super) fn word() -> Option<String> {
    let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    words.iter().rev().flatten().next().cloned()
}

/// The progress of a labelling.
pub(super) struct LabelProgress {
    bar: ProgressBar,
    /// Which of several searches it is.
    restart: String,
    accepted: u64,
    counts: std::collections::BTreeMap<String, i64>,
    num_examples: usize,
}

impl LabelProgress {
    /// Returns the bar of a search of `iterations` a batch, or of a prompting method for `None`.
    pub(super) fn new(iterations: Option<u64>, num_examples: usize) -> Self {
        let bar = if is_watched() {
            ProgressBar::new(iterations.unwrap_or(num_examples as u64))
        } else {
            ProgressBar::hidden()
        };
        // A search mostly ends by convergence, long before its last iteration.
        let template = match iterations {
            Some(_) => {
                "{spinner} {prefix}[{bar:16}] {pos}/{len} iterations, {rate}, {elapsed} so far, at most {eta} left | {wide_msg}"
            }
            None => {
                "{spinner} [{bar:24}] {pos}/{len} examples, {rate}, {elapsed} so far, {eta} left"
            }
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:.2}/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            restart: String::new(),
            accepted: 0,
            counts: std::collections::BTreeMap::new(),
            num_examples,
        }
    }

    pub(super) fn update(&mut self, event: &TraceEvent) {
        let (score, num_labelled) = match event {
            TraceEvent::Scored { done, total } => {
                self.bar.set_length(*total as u64);
                return self.bar.set_position(*done as u64);
            }
            TraceEvent::Restart { restart } => {
                self.restart = format!("restart {restart}, ");
                return self.counts.clear();
            }
            TraceEvent::Start { batch, labels, score, num_labelled, .. } => {
                self.bar.set_prefix(format!("{}batch {} ", self.restart, batch + 1));
                self.bar.reset();
                self.accepted = 0;
                for (_, label) in labels {
                    *self.counts.entry(label.clone()).or_default() += 1;
                }
                (*score, *num_labelled)
            }
            TraceEvent::Proposal {
                iteration,
                accepted,
                changes,
                score,
                proposed_score,
                num_labelled,
                ..
            } => {
                self.bar.set_position(*iteration);
                if *accepted {
                    self.accepted += 1;
                    for (_, from, to) in changes {
                        for (label, by) in [(from, -1), (to, 1)] {
                            if let Some(label) = label {
                                *self.counts.entry(label.clone()).or_default() += by;
                            }
                        }
                    }
                }
                (proposed_score.filter(|_| *accepted).unwrap_or(*score), *num_labelled)
            }
            TraceEvent::Renew { .. } | TraceEvent::Alpha { .. } | TraceEvent::End { .. } => return,
        };
        let total: i64 = self.counts.values().sum();
        let balance: Vec<String> = self
            .counts
            .iter()
            .map(|(label, n)| format!("{label} {:.0}%", 100.0 * *n as f64 / total.max(1) as f64))
            .collect();
        self.bar.set_message(format!(
            "U {score:.2} | {num_labelled}/{} labelled | {} flips | {}",
            self.num_examples,
            self.accepted,
            balance.join(" ")
        ));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A spinner with a message, while something without steps is done.
pub(super) fn spinner(message: &'static str) -> ProgressBar {
    if !is_watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Seconds as people say them.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02} min", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

/// A count with thin separators: 12,345.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [0, 999, 1000, 1234567].map(count),
            ["0", "999", "1,000", "1,234,567"].map(String::from)
        );
        assert_eq!(duration(5.24), "5.2 s");
        assert_eq!(duration(125.9), "2 min 05 s");
        assert_eq!(duration(7380.0), "2 h 03 min");
    }
}
