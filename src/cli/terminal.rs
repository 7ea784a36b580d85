//! The terminal: messages and progress on stderr, results on stdout; progress only where a person watches.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use w2s::error::{Error, Result};
use w2s::label::TraceEvent;
use w2s::pipeline::{Event, Observer, Resume};

use super::loudness::Loudness;
use super::printable::printable;
use super::words::{self, Line};

/// Writes a line to stderr.
pub(super) fn complain(line: fmt::Arguments<'_>) {
    // A closed stderr is no reason to stop working.
    let _ = writeln!(std::io::stderr(), "{}", printable(&line.to_string()));
}

/// Writes a line to stdout, which is for results.
pub(super) fn print(line: fmt::Arguments<'_>) -> Result<()> {
    let write = writeln!(std::io::stdout(), "{}", printable(&line.to_string()));
    match write {
        // Whoever read it has seen enough, as `head` has; the work goes on to its end.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Error::io("write", std::path::Path::new("stdout"), &e)),
        Ok(()) => Ok(()),
    }
}

/// What is said when the user ends the program: by the command of a series, and by the series, whose
/// word counts. A signal is waited for in a thread of its own, so this is the process's.
static WORDS: Mutex<[Option<String>; 2]> = Mutex::new([None, None]);

/// Returns what is to be said of how to go on.
pub(super) fn word() -> Option<String> {
    let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    words.iter().rev().flatten().next().cloned()
}

/// Shows a spinner until what is returned is dropped.
pub(super) fn wait(what: &str) -> impl Drop {
    let mut terminal = Terminal::default();
    if std::io::stderr().is_terminal() {
        terminal.begin(Progress::waiting(what));
    }
    Waiting(terminal)
}

struct Waiting(Terminal);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Shows what runs tell.
#[derive(Default)]
pub(super) struct Terminal {
    progress: Option<Progress>,
    loudness: Loudness,
}

impl Observer for Terminal {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        for line in words::lines(event, self.loudness)? {
            match line {
                Line::Said(text) if self.is_quiet() && !text.starts_with("warning: ") => {}
                Line::Said(text) => self.above(|| complain(format_args!("{text}"))),
                Line::Printed(text) => self.above(|| print(format_args!("{text}")))?,
            }
        }
        match event {
            Event::Interruptible(how) => {
                let is_series = matches!(how, Resume::Recipe { .. } | Resume::Loop { .. });
                let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
                words[usize::from(is_series)] = Some(words::resume(*how));
            }
            _ if self.is_quiet() || !std::io::stderr().is_terminal() => {}
            Event::Waiting(what) => self.begin(Progress::waiting(words::waiting(*what))),
            Event::Labelling { iterations, num_examples } => {
                self.begin(Progress::labelling(*iterations, *num_examples));
            }
            Event::Training { num_steps, num_done } => {
                self.begin(Progress::training(*num_steps, *num_done));
            }
            Event::Label(event) => {
                if let Some(progress) = &mut self.progress {
                    progress.label(event);
                }
            }
            Event::Step { report, tokens_per_second } => {
                if let Some(Progress { bar, .. }) = &self.progress {
                    bar.set_position(report.step as u64);
                    bar.set_message(format!(
                        "loss {:.4} | {tokens_per_second:.0} tokens/s",
                        report.loss
                    ));
                }
            }
            Event::Ended => self.end(),
            _ => {}
        }
        Ok(())
    }
}

impl Terminal {
    /// Returns a terminal that says so much.
    pub(super) fn new(loudness: Loudness) -> Self {
        Self { loudness, ..Self::default() }
    }

    fn is_quiet(&self) -> bool {
        self.loudness == Loudness::Quiet
    }

    fn begin(&mut self, progress: Progress) {
        self.end();
        self.progress = Some(progress);
    }

    fn end(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.bar.finish_and_clear();
        }
    }

    /// Writes something that a bar must not be drawn over.
    fn above<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.progress {
            Some(progress) => progress.bar.suspend(write),
            None => write(),
        }
    }
}

/// A bar, and what is counted for it.
struct Progress {
    bar: ProgressBar,
    /// Which of several searches it is.
    restart: String,
    accepted: u64,
    counts: BTreeMap<String, i64>,
    num_examples: usize,
}

impl Progress {
    fn of(bar: ProgressBar, num_examples: usize) -> Self {
        Self { bar, restart: String::new(), accepted: 0, counts: BTreeMap::new(), num_examples }
    }

    /// A spinner with a message, while something without steps is done.
    fn waiting(what: &str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::of(bar, 0)
    }

    fn training(num_steps: usize, num_done: usize) -> Self {
        let bar = ProgressBar::new(num_steps as u64);
        let template =
            "{spinner} [{bar:24}] {pos}/{len} steps, {elapsed} so far, {eta} left | {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_position(num_done as u64);
        bar.reset_eta();
        Self::of(bar, 0)
    }

    /// The bar of a search of `iterations` a batch, or of a prompting method for `None`.
    fn labelling(iterations: Option<u64>, num_examples: usize) -> Self {
        let bar = ProgressBar::new(iterations.unwrap_or(num_examples as u64));
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
        Self::of(bar, num_examples)
    }

    fn label(&mut self, event: &TraceEvent) {
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
}
