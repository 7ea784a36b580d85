//! A name behind which another model comes to stand: the answers of the one are never the other's.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use w2s::score::{HttpScorer, HttpScorerOptions, LabelScores, PromptTree, RouteKind};
use w2s::server::{AnswerStore, NamedBy, Spent};

use crate::server::{LONG, assert_same, forest};
use crate::server_stub::{ALL, Has, Model, Stub, at_once, connect, local, score};

/// A server whose model is exchanged under its name, as an adapter that was trained again is; and
/// what the second cannot do.
fn exchanged(second: Has) -> (Stub, Arc<AtomicUsize>) {
    let now = Arc::new(AtomicUsize::new(0));
    let of = Arc::clone(&now);
    let models = [Model::new("llama", ALL), Model::new("gpt2", second)];
    (Stub::new(move |asked| models[of.load(Ordering::SeqCst)].answer(asked)), now)
}

struct Ran {
    scores: Vec<LabelScores>,
    change: Option<String>,
    spent: Spent,
    route: RouteKind,
}

fn run(stub: &Stub, store: &std::path::Path, tree: &PromptTree) -> Ran {
    let service = connect(stub, at_once(), Some(AnswerStore::open(store).unwrap())).unwrap();
    let mut there = HttpScorer::new(service, HttpScorerOptions::default()).unwrap();
    let scores = score(&mut there, tree).unwrap();
    let route = there.route_taken().unwrap();
    let service = there.service();
    Ran { scores, change: service.change().unwrap(), spent: service.meter().spent(), route }
}

#[test]
fn an_answer_is_never_another_models() {
    let place = tempfile::tempdir().unwrap();
    let tree = forest(&LONG);
    let expected = ["llama", "gpt2"].map(|name| score(&mut local(name), &tree).unwrap());
    let gap = expected[0][0].logprobs[0] - expected[1][0].logprobs[0];
    assert!(gap.abs() > 0.01, "the two differ by {gap} only");
    // What the first has, the second has not: it is found out anew.
    let has = Has { echo: false, tokenizes: true, named: &[NamedBy::LogprobTokenIds], ..ALL };
    let (stub, now) = exchanged(has);
    let first = run(&stub, place.path(), &tree);
    assert_same(&first.scores, &expected[0], "the first");
    assert_eq!((first.change, first.spent.num_kept, first.route), (None, 0, RouteKind::Echo));
    now.store(1, Ordering::SeqCst);
    let second = run(&stub, place.path(), &tree);
    assert_same(&second.scores, &expected[1], "the second");
    assert_eq!((second.spent.num_kept, second.route), (0, RouteKind::TokenIds));
    let change = second.change.unwrap();
    assert!(
        change.starts_with("after a fixed text `") && change.contains(" nats and has "),
        "{change}"
    );
    // Whichever it is, its own answers are there.
    for at in [1, 0, 1, 0] {
        now.store(at, Ordering::SeqCst);
        let again = run(&stub, place.path(), &tree);
        assert_same(&again.scores, &expected[at], "again");
        // One request, for the model's name says nothing.
        assert_eq!((again.spent.num_requests, again.change), (1, None));
        assert!(again.spent.num_kept > 0);
    }
}

/// Without a store nothing is kept, and nothing has to be asked.
#[test]
fn nothing_is_asked_where_nothing_is_kept() {
    let (stub, _) = exchanged(ALL);
    let service = connect(&stub, at_once(), None).unwrap();
    let mut there = HttpScorer::new(service, HttpScorerOptions::default()).unwrap();
    score(&mut there, &forest(&LONG)).unwrap();
    assert_eq!(there.service().change().unwrap(), None);
    assert!(stub.asked().iter().all(|asked| asked.body["logprobs"] != 20 || !asked.is_canary()));
}

#[test]
fn a_run_says_that_the_model_is_another() {
    let place = tempfile::tempdir().unwrap();
    let input = place.path().join("in.jsonl");
    let line = json!({ "id": "a", "prompt": "2 + 2 = 4 is ", "labels": ["True", "False"] });
    std::fs::write(&input, format!("{line}\n")).unwrap();
    let (stub, now) = exchanged(ALL);
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
        command.env("XDG_CACHE_HOME", place.path()).args(["score", "--model", &stub.model()]);
        let output = command.arg("--input").arg(&input).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (first, said) = run();
    assert!(!said.contains("another model"), "{said}");
    now.store(1, Ordering::SeqCst);
    let (second, said) = run();
    assert_ne!(first, second);
    assert!(said.contains("warning: another model than before stands behind http://"), "{said}");
    assert!(said.contains(" 0 answers were there already"), "{said}");
    let (third, said) = run();
    assert_eq!(second, third);
    assert!(
        !said.contains("another model") && said.contains("1 requests, 2 answers were"),
        "{said}"
    );
}
