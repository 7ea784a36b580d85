//! The verbs as a Rust program has them: the same bytes as the command line, and events for who listens.

use std::cell::RefCell;
use std::path::Path;

use w2s::error::{Error, ErrorKind};
use w2s::label::{Block, TraceEvent};
use w2s::pipeline::{
    Event, LabelJob, ModelOptions, RelabelJob, RunOptions, SearchOptions, Session, TrainJob,
};
use w2s::run::files::{LABELS, SUMMARY, TRACE};

use crate::cli::{Place, good, strs};
use crate::common::tiny;

pub fn label(place: &Place, out: &str) -> LabelJob {
    LabelJob {
        model: ModelOptions::folder(tiny("llama")),
        task: "gsm8k-verification".into(),
        data: place.path("claims.jsonl").into(),
        run: RunOptions::new(place.path(out)),
        search: SearchOptions { num_seed: Some(4), ..SearchOptions::default() },
        ..LabelJob::default()
    }
}

#[test]
fn a_program_labels_trains_and_looks_again_as_the_command_line_does() {
    let place = Place::new();
    let heard = RefCell::new(Vec::new());
    let mut session = Session::new(|event: &Event<'_>| {
        heard.borrow_mut().push(match event {
            Event::Settings(manifest) => format!("settings of {}", manifest.command),
            Event::Label(TraceEvent::Proposal { .. }) => "proposal".to_owned(),
            Event::Step { report, .. } => format!("step {}", report.step),
            Event::Ended => "ended".to_owned(),
            _ => return Ok(()),
        });
        Ok(())
    });
    let labelled = label(&place, "library").run(&mut session).unwrap();
    assert_eq!((labelled.was_complete, labelled.summary.num_examples), (false, 6));
    good(&strs(&place.label("typed", &[])));
    for file in [LABELS, SUMMARY, TRACE] {
        let typed = place.read(&format!("typed/{file}"));
        assert_eq!(std::fs::read_to_string(labelled.folder.file(file)).unwrap(), typed, "{file}");
    }
    // A complete run is read, not made again, and says the same.
    let mut resumed = label(&place, "library");
    resumed.run.resume = true;
    let again = resumed.run(&mut session).unwrap();
    assert!(again.was_complete && again.summary == labelled.summary);

    let labels = labelled.folder.file(LABELS);
    let trained = TrainJob {
        model: ModelOptions::folder(tiny("llama")),
        task: "gsm8k-verification".into(),
        data: place.path("claims.jsonl").into(),
        labels: vec![labels.clone()],
        run: RunOptions::new(place.path("student")),
        ..TrainJob::default()
    }
    .run(&mut session)
    .unwrap()
    .unwrap();
    assert_eq!(trained.summary.num_items, 6);
    let looked = RelabelJob {
        model: ModelOptions {
            adapter: Some(trained.folder.path().to_path_buf()),
            ..ModelOptions::folder(tiny("llama"))
        },
        task: "gsm8k-verification".into(),
        data: place.path("claims.jsonl").into(),
        labels: vec![labels],
        run: RunOptions::new(place.path("again")),
        ..RelabelJob::default()
    }
    .run(&mut session)
    .unwrap();
    assert_eq!(looked.summary.num_examples, 6);
    drop(session);
    let heard = heard.into_inner();
    let num = |what: &str| heard.iter().filter(|one| one.as_str() == what).count();
    for command in ["label", "train", "relabel"] {
        assert_eq!(num(&format!("settings of {command}")), 1, "{heard:?}");
    }
    let trace = place.read("typed/trace.jsonl");
    assert_eq!(num("proposal"), trace.matches("\"event\":\"proposal\"").count());
    assert_eq!(num(&format!("step {}", trained.summary.num_steps)), 1);
}

#[test]
fn an_observer_can_end_a_run_which_then_goes_on() {
    let place = Place::new();
    // One example a proposal, so that there are some.
    let label = |place: &Place, out: &str| {
        let mut job = label(place, out);
        job.search.block = Some(Block::Size(1));
        job
    };
    let whole = label(&place, "whole").run(&mut Session::default()).unwrap();
    let mut num = 0;
    let mut session = Session::new(|event: &Event<'_>| match event {
        Event::Label(TraceEvent::Proposal { .. }) if num == 2 => {
            Err(Error::new(ErrorKind::Usage, "enough for today"))
        }
        Event::Label(TraceEvent::Proposal { .. }) => {
            num += 1;
            Ok(())
        }
        _ => Ok(()),
    });
    let error = label(&place, "stopped").run(&mut session).unwrap_err();
    assert_eq!(error.message(), "enough for today");
    drop(session);
    let mut rest = label(&place, "stopped");
    rest.run.resume = true;
    let rest = rest.run(&mut Session::default()).unwrap();
    let read = |folder: &Path| std::fs::read_to_string(folder.join(LABELS)).unwrap();
    assert_eq!(read(rest.folder.path()), read(whole.folder.path()));
    assert_eq!(rest.summary, whole.summary);
}
