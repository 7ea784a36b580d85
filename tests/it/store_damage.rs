//! The store of answers: damaged by something else, shared, killed while it writes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rand::{Rng, SeedableRng};
use w2s::error::Result;
use w2s::score::{HttpScorer, HttpScorerOptions, LabelScores, RouteKind};
use w2s::server::AnswerStore;

use crate::common::project;
use crate::fuzz_servers::store_with_answers;
use crate::server_answers::questions;
use crate::server_stub::{ALL, Model, Stub, at_once, connect, of_model, score};

const NUM_DAMAGED: u64 = 240;
const PAGE: usize = 4096;

fn ask(stub: &Stub, folder: &Path) -> Result<Vec<LabelScores>> {
    let service = connect(stub, at_once(), Some(AnswerStore::open(folder)?))?;
    let options =
        HttpScorerOptions { route: Some(RouteKind::Echo), ..HttpScorerOptions::default() };
    score(&mut HttpScorer::new(service, options)?, &questions(6))
}

/// One damage of a file: cut, grown, bits of the header or of pages, pages of zeros or in other places.
fn damaged(whole: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = whole.to_vec();
    let length = bytes.len();
    let page = |rng: &mut rand_chacha::ChaCha8Rng| rng.random_range(0..length / PAGE) * PAGE;
    match seed % 8 {
        0 => bytes.truncate(rng.random_range(1..length)),
        1 => bytes.truncate(page(&mut rng).max(1)),
        2 => {
            let num = [1, 7, 904, PAGE, 3 * PAGE][rng.random_range(0..5)];
            let fill = [0, rng.random()][rng.random_range(0..2)];
            bytes.extend(std::iter::repeat_n(fill, num));
        }
        3 => bytes[rng.random_range(0..320)] ^= 1 << rng.random_range(0..8),
        4 => {
            for _ in 0..rng.random_range(1..200) {
                bytes[rng.random_range(0..length)] ^= 1 << rng.random_range(0..8);
            }
        }
        5 => {
            let at = rng.random_range(0..length - PAGE);
            rng.fill(&mut bytes[at..at + PAGE]);
        }
        6 => {
            let at = page(&mut rng);
            bytes[at..at + PAGE].fill(0);
        }
        _ => {
            let (from, to) = (page(&mut rng), page(&mut rng));
            bytes.copy_within(from..from + PAGE, to);
        }
    }
    bytes
}

/// The right answers or one error that names the file, which then is as it was.
#[test]
fn a_damaged_store_gives_the_right_answers_or_one_error() {
    let place = tempfile::tempdir().unwrap();
    let stub = of_model("llama", ALL);
    let expected = ask(&stub, place.path()).unwrap();
    let file = place.path().join("answers.redb");
    let whole = fs::read(&file).unwrap();
    let mut num_refused = 0;
    for seed in 0..NUM_DAMAGED {
        let bytes = damaged(&whole, seed);
        fs::write(&file, &bytes).unwrap();
        match ask(&stub, place.path()) {
            Ok(found) => assert_eq!(found, expected, "damage {seed}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("the store of answers is damaged"), "damage {seed}: {text}");
                assert!(text.contains("answers.redb") && text.contains("move it aside"), "{text}");
                assert!(fs::read(&file).unwrap() == bytes, "damage {seed} changed the file");
                num_refused += 1;
            }
        }
    }
    println!(
        "{num_refused} of {NUM_DAMAGED} damaged stores were refused, the others gave the right answers"
    );
    assert!(num_refused > NUM_DAMAGED / 2);
    // The command that looks at it: one error and nothing else.
    let mut cut = whole.clone();
    cut.truncate(whole.len() / 2);
    let mut grown = whole.clone();
    grown.extend([0xa5; 904]);
    for bytes in [cut, grown, b"something else".to_vec()] {
        fs::write(&file, &bytes).unwrap();
        for more in [&[][..], &["prune", "--all"]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
            command.arg("cache").args(more).arg("--response-cache").arg(place.path());
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.starts_with("error: the store of answers is damaged: it "), "{said}");
            assert!(fs::read(&file).unwrap() == bytes);
        }
    }
    // One that is empty was never begun.
    fs::write(&file, b"").unwrap();
    assert_eq!(ask(&stub, place.path()).unwrap(), expected);
}

/// Two that ask at once: each answer is there, and nothing is left beside the file.
#[test]
fn a_store_is_shared() {
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| store_with_answers(place.path()));
        }
    });
    let names: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["answers.redb"]);
    let stub = of_model("llama", ALL);
    let sizes = AnswerStore::open(place.path()).unwrap().sizes().unwrap();
    // Each stub has an address of its own.
    assert!(sizes.len() == 3 && sizes.iter().all(|size| size.num_answers > 12), "{sizes:?}");
    assert!(ask(&stub, place.path()).is_ok());
}

/// A process that is killed at any request leaves a store that is whole, with what was answered in it.
#[cfg(unix)]
#[test]
fn a_kill_leaves_a_whole_store() {
    let place = tempfile::tempdir().unwrap();
    let cache = place.path().join("cache");
    let data = project().join("data/demo/reviews.jsonl");
    let child = Arc::new(AtomicI32::new(0));
    let victim = Arc::clone(&child);
    let model = Model::new("llama", ALL);
    let mut num = 0;
    // Every third paid request ends the process that sent it, and is answered.
    let stub = Stub::new(move |asked| {
        num += usize::from(asked.is_paid());
        let said = model.answer(asked);
        if asked.is_paid() && num % 3 == 0 {
            let pid = victim.swap(0, Ordering::SeqCst).to_string();
            if pid != "0" {
                Command::new("kill").args(["-9", &pid]).status().unwrap();
            }
        }
        said
    });
    let mut num_killed = 0;
    for round in 0..40 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
        command.env("XDG_CACHE_HOME", &cache).args(["label", "--model", &stub.model()]);
        command.args(["--task", "sentiment", "--limit", "6", "--method", "zero-shot"]);
        // One request at a time: what is answered before the kill is written down.
        command
            .args(["--concurrency", "1", "--data"])
            .arg(&data)
            .arg("--out")
            .arg(place.path().join(format!("run-{round}")));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        let process = command.spawn().unwrap();
        child.store(process.id() as i32, Ordering::SeqCst);
        let output = process.wait_with_output().unwrap();
        child.store(0, Ordering::SeqCst);
        if output.status.success() {
            break;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), None, "it was not killed: {said}");
        num_killed += 1;
        assert!(round < 39, "it never ends");
    }
    println!("killed {num_killed} times");
    assert!(num_killed > 2);
    let left: Vec<_> =
        fs::read_dir(cache.join("w2s")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().any(|name| name == "answers.redb"), "{left:?}");
}
