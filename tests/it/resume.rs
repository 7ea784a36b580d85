//! Runs that are stopped anywhere end with the bytes of the run that was not.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::{Place, good, strs};
use crate::common::project;

const FILES: [&str; 3] = ["labels.jsonl", "trace.jsonl", "summary.json"];

fn same(place: &Place, a: &str, b: &str) {
    for file in FILES {
        assert_eq!(
            place.read(&format!("{a}/{file}")),
            place.read(&format!("{b}/{file}")),
            "{file}"
        );
    }
}

/// A kill leaves the manifest and any prefix of the journal: every entry and cuts within one.
#[test]
fn a_run_resumes_from_every_prefix_of_its_journal() {
    let place = Place::new();
    good(&strs(&place.label("whole", &["--block", "1"])));
    let journal = place.read("whole/journal.jsonl");
    let num = journal.lines().count();
    assert!(num > 8, "{num} passes");
    let mut ends: Vec<usize> = journal.match_indices('\n').map(|(at, _)| at + 1).collect();
    ends.push(0);
    let step = ends.len().div_ceil(6);
    for end in ends.into_iter().step_by(step).chain([3, journal.len() / 2, journal.len() - 1]) {
        let out = format!("cut{end}");
        std::fs::create_dir(place.path(&out)).unwrap();
        std::fs::copy(
            place.path("whole/manifest.json"),
            place.path(&format!("{out}/manifest.json")),
        )
        .unwrap();
        place.write(&format!("{out}/journal.jsonl"), &journal[..end]);
        // What a killed run may have left besides.
        place.write(&format!("{out}/trace.jsonl"), "{\"event\":\"sta");
        place.write(&format!("{out}/labels.jsonl.partial"), "{");
        good(&strs(&place.label(&out, &["--block", "1", "--resume"])));
        same(&place, "whole", &out);
        assert_eq!(place.read(&format!("{out}/journal.jsonl")), journal);
    }
}

#[test]
fn a_run_killed_for_real_resumes_to_the_same_bytes() {
    let place = Place::new();
    // Many iterations, so that there is time to kill.
    let slow = [
        "--block",
        "1",
        "--run-all-iterations",
        "--iterations",
        "3000",
        "--renew-order-every",
        "1",
    ];
    good(&strs(&place.label("whole", &slow)));
    let args = place.label("killed", &[slow.as_slice(), &["--resume"]].concat());
    let mut num_kills = 0;
    for lines in [1, 4, 9] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(&args)
            .env("OMP_NUM_THREADS", "1")
            .current_dir(project())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let journal = place.path("killed/journal.jsonl");
        loop {
            let written = std::fs::read_to_string(&journal).map_or(0, |t| t.lines().count());
            if written >= lines {
                // SIGKILL: no handler, no clean-up.
                child.kill().unwrap();
                num_kills += usize::from(!child.wait().unwrap().success());
                break;
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "no pass in two minutes");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(num_kills >= 1, "the run always ended before it was killed");
    good(&strs(&args));
    same(&place, "whole", "killed");
}

#[test]
fn a_journal_of_other_data_is_refused() {
    let place = Place::new();
    good(&strs(&place.label("a", &[])));
    let claims = place.read("claims.jsonl");
    place.write("claims.jsonl", claims.replace("2+2?", "2+3?"));
    let output = crate::cli::w2s(&strs(&place.label("a", &["--resume"])));
    assert_eq!(output.status.code(), Some(1));
    let message = crate::cli::text(&output.stderr);
    assert!(message.contains("the contents of the data changed"), "{message}");
}

#[test]
fn a_run_resumes_when_its_data_has_moved() {
    let place = Place::new();
    good(&strs(&place.label("a", &[])));
    let labels = place.read("a/labels.jsonl");
    std::fs::remove_file(place.path("a/timing.json")).unwrap();
    std::fs::remove_file(place.path("a/labels.jsonl")).unwrap();
    let moved = place.write("elsewhere.jsonl", place.read("claims.jsonl"));
    let from = place.path("claims.jsonl");
    std::fs::remove_file(&from).unwrap();
    let args: Vec<String> = place
        .label("a", &["--resume"])
        .into_iter()
        .map(|arg| if arg == from { moved.clone() } else { arg })
        .collect();
    good(&strs(&args));
    assert_eq!(place.read("a/labels.jsonl"), labels);
}
