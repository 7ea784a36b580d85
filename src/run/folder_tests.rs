//! Run folders: locks, modes, kills.

use std::fs;

use serde_json::{Map, json};

use crate::error::{ErrorKind, Result};
use crate::run::contents::read_manifest;
use crate::run::files::{JOURNAL, MANIFEST, TIMING};
use crate::run::{GoldUse, Manifest, OpenMode, RunDir};

fn manifest(command: &str, seed: u64) -> Manifest {
    Manifest {
        command: command.into(),
        command_line: Vec::new(),
        settings: Map::new(),
        seed,
        inputs: Vec::new(),
        gold_used: GoldUse::no(),
        versions: Map::new(),
    }
}

/// What is not the order of a run's life is a bug that is told, not a run that is wrong.
#[test]
fn results_come_before_the_end_mark_and_findings_after_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let label = manifest("label", 0);
    let kind = |result: Result<()>| result.err().map(|error| error.kind());
    let folder = RunDir::open(&path, &label, OpenMode::New).unwrap();
    assert_eq!(kind(folder.write("labels.jsonl", b"")), None);
    for name in ["eval.json", "weights.jsonl", "timing.json", "manifest.json", "../x", "x"] {
        assert_eq!(kind(folder.write(name, b"")), Some(ErrorKind::Internal), "{name}");
    }
    let folder = folder.finish(1.0, 1.0).unwrap();
    assert_eq!(kind(folder.write_json("eval.json", &json!({}))), None);
    assert_eq!(kind(folder.write("labels.jsonl", b"")), Some(ErrorKind::Internal));
    assert!(folder.journal().is_err() && folder.is_complete());
    // A folder that is only read is not written to, complete or not.
    fs::remove_file(path.join(TIMING)).unwrap();
    let (folder, _) = RunDir::existing(&path).unwrap();
    for name in ["labels.jsonl", "eval.json"] {
        assert_eq!(kind(folder.write(name, b"")), Some(ErrorKind::Internal), "{name}");
    }
}

#[test]
fn a_run_is_locked_until_it_is_complete() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let open = |seed, mode| RunDir::open(&path, &manifest("label", seed), mode);
    let first = open(0, OpenMode::New).unwrap();
    for (seed, mode) in [(0, OpenMode::Resume), (1, OpenMode::Force)] {
        assert!(open(seed, mode).unwrap_err().message().contains("another process"));
    }
    assert!(RunDir::delete(&path).is_err());
    assert_eq!(read_manifest(&path).unwrap().unwrap().seed, 0);
    first.finish(1.0, 1.0).unwrap();
    assert!(open(0, OpenMode::Resume).unwrap().is_complete());
    let second = open(1, OpenMode::Force).unwrap();
    assert!(!second.is_complete());
    second.write("labels.jsonl", b"x").unwrap();
    drop(second);
    assert_eq!(read_manifest(&path).unwrap().unwrap().seed, 1);
    RunDir::delete(&path).unwrap();
    assert!(!path.exists());
}

/// A start that failed does not stand in the way of the next; what was done is never lost.
#[test]
fn a_run_that_did_nothing_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let open = |mode| RunDir::open(&path, &manifest("label", 0), mode).unwrap();
    let folder = open(OpenMode::New);
    drop(folder.create("trace.jsonl").unwrap());
    drop(folder.create("restarts/0/trace.jsonl").unwrap());
    fs::create_dir(path.join("data")).unwrap();
    drop(folder);
    assert!(!path.exists());
    // The user's own file stays, and so does an answer in the journal.
    fs::create_dir(&path).unwrap();
    drop(open(OpenMode::New));
    assert!(!path.exists());
    let folder = open(OpenMode::New);
    fs::write(path.join("notes.txt"), "mine").unwrap();
    drop(folder);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    fs::remove_file(path.join("notes.txt")).unwrap();
    let folder = open(OpenMode::New);
    fs::write(path.join(JOURNAL), "{}").unwrap();
    drop(folder);
    assert!(path.join(MANIFEST).exists());
    // What another process began is not this one's to take away.
    fs::write(path.join(JOURNAL), "").unwrap();
    drop(open(OpenMode::Resume));
    assert!(path.join(MANIFEST).exists());
}

#[test]
fn a_taken_place_is_told_by_the_command_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let check = |command: &str, mode| RunDir::check_place(&path, command, mode);
    assert!(check("label", OpenMode::New).is_ok());
    let folder = RunDir::open(&path, &manifest("label", 0), OpenMode::New).unwrap();
    folder.finish(1.0, 1.0).unwrap();
    let says = |command, mode| check(command, mode).unwrap_err().to_string();
    assert!(says("label", OpenMode::New).contains("already holds a run"));
    assert!(says("train", OpenMode::Force).contains("holds a run of `w2s label`"));
    assert!(check("label", OpenMode::Resume).is_ok() && check("label", OpenMode::Force).is_ok());
}

/// Nothing is written where no run may be made.
#[test]
fn a_folder_of_something_else_stays_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("notes.txt"), "mine").unwrap();
    for mode in [OpenMode::New, OpenMode::Resume, OpenMode::Force] {
        let error = RunDir::open(place.path(), &manifest("label", 0), mode).unwrap_err();
        assert!(error.message().contains("holds no run"), "{error}");
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}
