//! What runs tell while they work, and who listens.

use std::cell::{Cell, RefCell};
use std::fmt::Arguments;
use std::path::PathBuf;
use std::rc::Rc;

use super::filter::FilterSummary;
use super::relabel::RelabelSummary;
use super::train::TrainSummary;
use crate::data::PromptSpec;
use crate::error::Result;
use crate::eval::{
    Basins, ColumnComparison, Comparison, Evaluation, LoopEvaluation, WeakEvaluation,
};
use crate::label::{Labelling, RestartSummary, TraceEvent};
use crate::run::{LoopRecord, Manifest, Round, RunDir};
use crate::score::{Calibration, Prior};
use crate::train::StepReport;

/// Listens to what the runs of a [`Session`](super::Session) tell.
///
/// Closures over `&Event` are observers.
pub trait Observer {
    /// Takes one event.
    ///
    /// # Errors
    /// What ends the run at this event; it can be gone on with later. An error at a
    /// [`Message`](Event::Message), at the begin or end of work and at what a run came to is not looked at.
    fn event(&mut self, event: &Event<'_>) -> Result<()>;
}

impl<F: FnMut(&Event<'_>) -> Result<()>> Observer for F {
    fn event(&mut self, event: &Event<'_>) -> Result<()> {
        self(event)
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event<'_>) -> Result<()> {
        Ok(())
    }
}

/// Something that a run tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Lines for people: what is done, what is there, warnings (`warning: ..`, with a line `hint: ..`).
    Message(&'a str),
    /// A line of results, where a verb has no other.
    Result(&'a str),
    /// A run begins or goes on, with these settings.
    Settings(&'a Manifest),
    /// From here on the process may be ended at any instant, and this says how to go on.
    Interruptible {
        /// For people.
        how: &'a str,
        /// Whether it is a series of runs that is gone on with.
        is_series: bool,
    },
    /// Work without steps begins: a model is opened, say.
    Waiting(&'a str),
    /// Examples are going to be labelled or asked about.
    Labelling {
        /// The most iterations of a search of one batch; `None` of what is no search.
        iterations: Option<u64>,
        /// Examples in all.
        num_examples: usize,
    },
    /// A step of a labelling; [`TraceEvent::Scored`] also of other questions.
    Label(&'a TraceEvent),
    /// A training begins, or goes on behind the first `num_done` steps.
    Training {
        /// Steps in all.
        num_steps: usize,
        /// Steps that were made before.
        num_done: usize,
    },
    /// A step of a training.
    Step {
        /// What it came to.
        report: &'a StepReport,
        /// Since the program began.
        tokens_per_second: f64,
    },
    /// Labels were found and written.
    Labelled {
        /// The labels, and what they came to.
        labelling: &'a Labelling,
        /// How the model's prior towards label words was corrected.
        calibration: Calibration,
        /// The shares of labels that this supposed.
        prior: &'a Prior,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// Several searches were compared, before their best is told as [`Labelled`](Event::Labelled).
    Restarted {
        /// The searches.
        restarts: &'a [RestartSummary],
        /// Which of them found the same.
        basins: &'a Basins,
    },
    /// Questions were filtered, and what is kept written.
    Filtered {
        /// What became of them.
        summary: &'a FilterSummary,
        /// Whether the task's answers are written, not chosen.
        is_open: bool,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// Labels were looked at again.
    Relabelled {
        /// What became of them.
        summary: &'a RelabelSummary,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// A training has ended, and what was trained is written.
    Trained {
        /// What it came to.
        summary: &'a TrainSummary,
        /// Since the run began or was gone on with.
        seconds: f64,
        /// The run's folder.
        folder: &'a RunDir,
    },
    /// The rounds of a loop have ended, well or by a brake.
    Looped {
        /// What they came to.
        record: &'a LoopRecord,
        /// Each of them.
        rounds: &'a [Round],
        /// The loop's folder.
        folder: &'a RunDir,
    },
    /// Labels of runs were held against gold.
    Evaluated {
        /// The run folders, and how right their labels are.
        runs: &'a [(PathBuf, Evaluation)],
        /// Whether numbers of each label are asked for.
        per_label: bool,
    },
    /// Runs of filters were held against gold.
    EvaluatedFilters(&'a [(PathBuf, WeakEvaluation)]),
    /// The rounds of loops were held against gold.
    EvaluatedLoops(&'a [(PathBuf, LoopEvaluation)]),
    /// Methods were compared by one gold column.
    Compared {
        /// Of all columns.
        comparison: &'a Comparison,
        /// The column.
        column: &'a ColumnComparison,
        /// Whether it is the first.
        is_first: bool,
    },
    /// What was begun by the last [`Waiting`](Event::Waiting), [`Labelling`](Event::Labelling) or
    /// [`Training`](Event::Training) has ended, well or not.
    Ended,
}

/// A way to an observer that all parts of a run share.
#[derive(Clone)]
pub(super) struct Voice<'o> {
    observer: Rc<RefCell<dyn Observer + 'o>>,
    is_muted: Rc<Cell<bool>>,
}

impl std::fmt::Debug for Voice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voice").field("is_muted", &self.is_muted).finish_non_exhaustive()
    }
}

impl<'o> Voice<'o> {
    pub(super) fn new(observer: impl Observer + 'o) -> Self {
        Self { observer: Rc::new(RefCell::new(observer)), is_muted: Rc::default() }
    }

    /// Leaves all telling to another process.
    pub(super) fn mute(&self) {
        self.is_muted.set(true);
    }

    pub(super) fn event(&self, event: &Event<'_>) -> Result<()> {
        if self.is_muted.get() {
            return Ok(());
        }
        self.observer.borrow_mut().event(event)
    }

    /// Tells people something.
    pub(super) fn say(&self, text: Arguments<'_>) {
        self.tell(&Event::Message(&text.to_string()));
    }

    /// Tells a line of results.
    pub(super) fn print(&self, text: Arguments<'_>) -> Result<()> {
        self.event(&Event::Result(&text.to_string()))
    }

    /// Tells how to go on when the process is ended.
    pub(super) fn interruptible(&self, how: &str, is_series: bool) {
        self.tell(&Event::Interruptible { how, is_series });
    }

    /// Warns of label words that begin others.
    pub(super) fn warn_of_words(&self, prompt: &PromptSpec) {
        for (word, longer) in prompt.begun_words() {
            self.say(format_args!("{}", begun_word(word, longer)));
        }
    }

    /// Begins work that ends when what is returned is dropped.
    pub(super) fn begin(&self, event: &Event<'_>) -> Ongoing<'o> {
        self.tell(event);
        Ongoing { voice: self.clone() }
    }

    /// Begins work without steps.
    pub(super) fn wait(&self, what: &str) -> Ongoing<'o> {
        self.begin(&Event::Waiting(what))
    }

    /// Begins a labelling.
    pub(super) fn labelling(&self, iterations: Option<u64>, num_examples: usize) -> Ongoing<'o> {
        self.begin(&Event::Labelling { iterations, num_examples })
    }

    /// Tells what ends no run, whatever the observer says.
    pub(super) fn tell(&self, event: &Event<'_>) {
        // As the trait says: what ends a run are the events of its steps and its results.
        let _ = self.event(event);
    }
}

/// Work that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ongoing<'o> {
    voice: Voice<'o>,
}

impl Ongoing<'_> {
    /// Tells a step of a labelling.
    pub(super) fn update(&self, event: &TraceEvent) -> Result<()> {
        self.voice.event(&Event::Label(event))
    }

    /// Tells that the work has ended.
    pub(super) fn end(self) {}
}

impl Drop for Ongoing<'_> {
    fn drop(&mut self) {
        self.voice.tell(&Event::Ended);
    }
}

/// Returns the warning of a label word that begins another.
pub fn begun_word(word: &str, longer: &str) -> String {
    format!(
        "warning: label word `{word}` begins `{longer}`: it is scored with whatever may follow it, `{longer}` included\nhint: choose words of which none begins another"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn work_ends_where_it_is_dropped_and_a_muted_voice_tells_nothing() {
        let heard = RefCell::new(Vec::new());
        let voice = Voice::new(|event: &Event<'_>| {
            heard.borrow_mut().push(format!("{event:?}"));
            Ok(())
        });
        let fails = || -> Result<()> {
            let _work = voice.wait("opening");
            Err(Error::new(ErrorKind::Io, "no"))
        };
        assert!(fails().is_err());
        voice.clone().say(format_args!("{} of 2", 1));
        voice.mute();
        voice.say(format_args!("unheard"));
        drop(voice);
        let expected = ["Waiting(\"opening\")", "Ended", "Message(\"1 of 2\")"];
        assert_eq!(heard.into_inner(), expected);
    }

    #[test]
    fn what_an_observer_refuses_ends_the_work_only_at_steps_and_results() {
        let voice = Voice::new(|_: &Event<'_>| Err(Error::new(ErrorKind::Usage, "enough")));
        voice.say(format_args!("a message"));
        assert!(voice.print(format_args!("a result")).is_err());
        let work = voice.labelling(None, 3);
        assert!(work.update(&TraceEvent::Scored { done: 1, total: 3 }).is_err());
    }
}
