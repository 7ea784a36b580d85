//! The way from the parts of a run to who listens.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::path::PathBuf;
use std::rc::Rc;

use super::note::Note;
use super::observer::{Event, Observer, Resume, Wait};
use super::warning::Warning;
use crate::data::{Dataset, PromptSpec};
use crate::error::Result;
use crate::label::TraceEvent;
use crate::run::GoldUse;

/// A way to an observer that all parts of a run share.
#[derive(Clone)]
pub(super) struct Voice<'o> {
    observer: Rc<RefCell<dyn Observer + 'o>>,
    is_muted: Rc<Cell<bool>>,
    /// Files whose separators were told.
    separated: Rc<RefCell<HashSet<PathBuf>>>,
}

impl std::fmt::Debug for Voice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voice").field("is_muted", &self.is_muted).finish_non_exhaustive()
    }
}

impl<'o> Voice<'o> {
    pub(super) fn new(observer: impl Observer + 'o) -> Self {
        Self {
            observer: Rc::new(RefCell::new(observer)),
            is_muted: Rc::default(),
            separated: Rc::default(),
        }
    }

    /// Leaves all telling to another process.
    pub(super) fn mute(&self) {
        self.is_muted.set(true);
    }

    /// Tells an event at which the observer can end the run.
    pub(super) fn event(&self, event: &Event<'_>) -> Result<()> {
        if self.is_muted.get() {
            return Ok(());
        }
        self.observer.borrow_mut().event(event)
    }

    /// Tells what ends no run, whatever the observer says.
    pub(super) fn tell(&self, event: &Event<'_>) {
        // As the trait says: what ends a run are the events of its steps and its results.
        let _ = self.event(event);
    }

    pub(super) fn note(&self, note: &Note) {
        self.tell(&Event::Note(note));
    }

    pub(super) fn warn(&self, warning: &Warning) {
        self.tell(&Event::Warning(warning));
    }

    /// Tells how to go on when the process is ended.
    pub(super) fn interruptible(&self, resume: Resume<'_>) {
        self.tell(&Event::Interruptible(resume));
    }

    /// Tells that gold has a part in a run, if it has.
    pub(super) fn tell_gold(&self, used: &GoldUse) {
        if let GoldUse::Because(reason) = used {
            self.note(&Note::GoldUsed { reason: reason.clone() });
        }
    }

    /// Tells how many records of the data are left out, if any.
    pub(super) fn tell_unused(&self, num_records: usize) {
        if num_records > 0 {
            self.note(&Note::OtherKind { num_records });
        }
    }

    /// Tells what is not as one would expect of a file of data.
    pub(super) fn tell_read(&self, dataset: &Dataset) {
        if let Some(separator) = dataset.separator
            && self.separated.borrow_mut().insert(dataset.path.clone())
        {
            self.note(&Note::Separator { data: dataset.path.clone(), separator });
        }
        self.tell_unused(dataset.num_unused);
    }

    /// Warns of label words that begin others.
    pub(super) fn warn_of_words(&self, prompt: &PromptSpec) {
        for (word, longer) in prompt.begun_words() {
            let (word, longer) = (word.to_owned(), longer.to_owned());
            self.warn(&Warning::BegunWord { word, longer, lines: None });
        }
    }

    /// Begins work that ends when what is returned is dropped.
    pub(super) fn begin(&self, event: &Event<'_>) -> Ongoing<'o> {
        self.tell(event);
        Ongoing { voice: self.clone() }
    }

    /// Begins work without steps.
    pub(super) fn wait(&self, what: Wait) -> Ongoing<'o> {
        self.begin(&Event::Waiting(what))
    }

    /// Begins a labelling.
    pub(super) fn labelling(&self, iterations: Option<u64>, num_examples: usize) -> Ongoing<'o> {
        self.begin(&Event::Labelling { iterations, num_examples })
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
            let _work = voice.wait(Wait::OpeningModel);
            Err(Error::new(ErrorKind::Io, "no"))
        };
        assert!(fails().is_err());
        voice.clone().tell_unused(2);
        voice.tell_unused(0);
        voice.mute();
        voice.tell_unused(3);
        drop(voice);
        let expected = ["Waiting(OpeningModel)", "Ended", "Note(OtherKind { num_records: 2 })"];
        assert_eq!(heard.into_inner(), expected);
    }

    #[test]
    fn what_an_observer_refuses_ends_the_work_only_at_steps_and_results() {
        let voice = Voice::new(|_: &Event<'_>| Err(Error::new(ErrorKind::Usage, "enough")));
        voice.tell_unused(1);
        assert!(voice.event(&Event::Pulled(&[])).is_err());
        let work = voice.labelling(None, 3);
        assert!(work.update(&TraceEvent::Scored { done: 1, total: 3 }).is_err());
    }
}
