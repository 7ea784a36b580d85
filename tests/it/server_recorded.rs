//! What servers answer: bodies of real llama.cpp and vLLM, and the forms of servers that do not run here, after
//! their sources.

use serde_json::Value;
use w2s::server::{Answer, Reply};

use crate::common::project;

fn lines(name: &str) -> Vec<Value> {
    let path = project().join("tests/data/servers").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Bodies that were recorded, and forms after the sources and the documents of the servers (each line says
/// which): the numbers in them are read, and what is an error is one.
#[test]
fn forms_of_servers_are_read() {
    let forms = lines("forms.jsonl");
    for form in &forms {
        let name = form["name"].as_str().unwrap();
        let status = form["status"].as_u64().unwrap_or(200) as u16;
        let answer = Answer::new(status, form["answer"].to_string());
        let read = || -> Result<Reply, String> {
            let data = if status == 200 { answer.data()? } else { return Err(answer.message()) };
            match form["as"].as_str().unwrap() {
                "completion" => Reply::completion(&data, "", false),
                "echo" => Reply::completion(&data, form["prompt"].as_str().unwrap(), true),
                "chat" => Reply::chat(&data),
                "generate" => Reply::generated(&data),
                "score" => Reply::scored(&data, &[5, 6]),
                other => panic!("{other}"),
            }
        };
        let read = read();
        if let Some(words) = form["error"].as_str() {
            let said = read.unwrap_err();
            assert!(said.contains(words), "{name}: {said}");
            continue;
        }
        let reply = read.unwrap_or_else(|e| panic!("{name}: {e}"));
        for (place, expected) in form["logprobs"].as_object().unwrap() {
            // `prompt`: the last of the prompt; `own`: the one that was written; else one of the most likely,
            // by its number or its text.
            let token = match place.as_str() {
                "prompt" => reply.prompt.last().unwrap(),
                _ => reply.written.first().unwrap(),
            };
            let top = token.top.iter().find(|top| {
                top.text == *place || top.id.is_some_and(|id| id.to_string() == *place)
            });
            let found = match place.as_str() {
                "prompt" | "own" => token.logprob,
                _ => top.map(|top| top.logprob),
            };
            let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
            assert!((found - expected).abs() < 1e-9, "{name}, {place}: {found}, {expected}");
        }
        let usage = [reply.tokens_in, reply.tokens_remembered, reply.tokens_out];
        let told: Vec<Option<u64>> =
            form["usage"].as_array().unwrap().iter().map(Value::as_u64).collect();
        assert_eq!(usage.to_vec(), told, "{name}");
    }
    assert!(forms.len() >= 18);
}
