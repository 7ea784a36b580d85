//! The readers of what runs leave, on damaged files: manifest, journal, labels, trace, checkpoint.

use std::path::{Path, PathBuf};

use tch::{Device, Kind};
use w2s::data::{Task, read_label_records};
use w2s::error::ErrorKind;
use w2s::lm::Decoder;
use w2s::run::{Journal, Manifest, RunDir, SeedStream, diff_runs, find_runs};
use w2s::train::{Checkpointing, Normalise, State, Trainer};

use crate::cli::{Place, good, strs};
use crate::common::tiny;
use crate::mutate;
use crate::train_golden::{
    config, golden_items, golden_settings, golden_start, parameters, q_and_v, with_adapter,
};

/// A finished run to take seeds from, in a folder of its own.
fn finished() -> Place {
    let place = Place::new();
    good(&strs(&place.label("run", &["--iterations", "3"])));
    place
}

fn seed(place: &Place, name: &str) -> Vec<u8> {
    std::fs::read(place.folder.path().join(name)).unwrap()
}

#[test]
fn fuzz_manifests() {
    let place = finished();
    let seeds = [seed(&place, "run/manifest.json")];
    let manifest: Manifest = serde_json::from_slice(&seeds[0]).unwrap();
    let path = place.folder.path().join("run");
    mutate::run("manifests", &seeds, |bytes| {
        std::fs::write(path.join("manifest.json"), bytes).unwrap();
        if let Ok((folder, read)) = RunDir::existing(&path) {
            assert!(folder.is_complete());
            let _ = (read.digest(), read.first_difference(&manifest));
            for (name, _) in w2s::run::files::files_of(&read) {
                assert!(!name.contains("..") && !name.starts_with('/'), "{name}");
            }
        }
        assert!(find_runs(&path).unwrap().len() <= 1);
    });
}

/// The journal that this test has just let go of. A process that another test starts holds a copy of
/// the lock until it has become that program.
fn reopened(path: &Path) -> Journal {
    for _ in 0..1_000_000 {
        match Journal::open(path) {
            Err(e) if e.message().starts_with("another process") => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
    panic!("the journal stays locked");
}

#[test]
fn fuzz_journals() {
    let place = finished();
    let seeds = [seed(&place, "run/journal.jsonl"), b"1\n2\n3\n".to_vec(), Vec::new()];
    let path: PathBuf = place.folder.path().join("journal.jsonl");
    mutate::run("journals", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let Ok(mut journal) = Journal::open(&path) else { return };
        let mut num = 0;
        loop {
            match journal.replay::<serde_json::Value>() {
                Ok(Some((_, line))) => {
                    num += 1;
                    assert_eq!(line, num);
                }
                Ok(None) => break,
                // It is JSON, but none of ours: such as a number that is too large.
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Run);
                    return;
                }
            }
        }
        assert_eq!(journal.num_left(), 0);
        journal.append(&serde_json::json!({ "new": true })).unwrap();
        drop(journal);
        // What was taken is there again, with what was added.
        let mut journal = reopened(&path);
        assert_eq!(journal.num_left(), num + 1);
        while journal.replay::<serde_json::Value>().unwrap().is_some() {}
    });
}

#[test]
fn fuzz_labels() {
    let place = finished();
    let seeds = [seed(&place, "run/labels.jsonl")];
    let task = Task::load("gsm8k-verification").unwrap();
    let path = place.folder.path().join("labels.jsonl");
    mutate::run("labels", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        if let Ok(records) = read_label_records(&path, &task) {
            assert!(records.iter().all(|r| task.labels.iter().any(|l| l.name == r.label)));
        }
    });
}

#[test]
fn fuzz_traces_and_summaries() {
    let place = finished();
    let seeds = [seed(&place, "run/trace.jsonl"), seed(&place, "run/summary.json")];
    let copy = |name: &str| {
        let to = place.folder.path().join(name);
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(place.folder.path().join("run")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        to
    };
    let (whole, damaged) = (copy("a"), copy("b"));
    let names = ["True".to_owned(), "False".to_owned()];
    let (trace, summary) = (damaged.join("trace.jsonl"), damaged.join("summary.json"));
    mutate::run("traces", &seeds, |bytes| {
        std::fs::write(&trace, bytes).unwrap();
        let _ = w2s::eval::diagnose_trace(&trace, &names);
        let gold = |_: &str| None;
        let index = |label: &str| names.iter().position(|name| name == label);
        let _ = w2s::eval::curve_from_trace(&trace, &gold, &index);
        let _ = diff_runs(&whole, &damaged, 1e-9);
        std::fs::write(&trace, &seeds[0]).unwrap();
        std::fs::write(&summary, bytes).unwrap();
        let _ = (diff_runs(&whole, &damaged, 1e-9), find_runs(&damaged));
        std::fs::write(&summary, &seeds[1]).unwrap();
    });
}

/// A checkpoint that is taken up is at a step of the training; the training goes on from it.
#[test]
fn fuzz_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let (_, items) = golden_items(&tiny("llama")).unwrap();
    let decoder = Decoder::load(&tiny("llama"), Device::Cpu, Kind::Float).unwrap();
    let (decoder, adapter) = with_adapter(decoder, config(q_and_v()), golden_start).unwrap();
    let trainer = || {
        let (settings, streams) = (golden_settings(Normalise::Token), SeedStream::new(3));
        Trainer::new(&decoder, parameters(&adapter), &items, settings, streams).unwrap()
    };
    let mut checkpoints = Checkpointing::new(folder.path(), None, None);
    let mut first = trainer();
    first.step().unwrap();
    let state = State { step: 1, best: Some((0.5, 1)), ..State::default() };
    checkpoints.write(&first, &state).unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let seeds = [std::fs::read(&path).unwrap()];
    let mut again = trainer();
    assert_eq!(checkpoints.resume(&mut again).unwrap(), state);
    let num_steps = again.num_steps();
    mutate::run("checkpoints", &seeds, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        if let Ok(state) = checkpoints.resume(&mut again) {
            assert!(state.step <= num_steps && again.num_done() == state.step);
        }
    });
}
