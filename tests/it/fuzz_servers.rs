//! Damaged answers of servers and of hubs, and damaged stores: a value or an error, never a panic.

use std::fs;

use serde_json::json;
use w2s::hub::listed;
use w2s::score::{HttpScorer, HttpScorerOptions, RouteKind};
use w2s::server::{Answer, AnswerStore, Prices, Reply, ServerAddress};

use crate::mutate::run;
use crate::server_stub::{ALL, at_once, connect, of_model, score};

/// Answers of every route, as servers write them; and errors.
fn replies() -> Vec<Vec<u8>> {
    let all = [
        json!({ "id": "x", "model": "m", "usage": { "prompt_tokens": 4, "completion_tokens": 1, "cost": 1e-6,
            "prompt_tokens_details": { "cached_tokens": 3 } },
            "choices": [{ "text": "It is True.", "finish_reason": "length", "logprobs": {
                "tokens": ["<s>", "It", " is", " True", "."],
                "token_logprobs": [null, -1.0, -2.0, -0.5, -0.1],
                "top_logprobs": [null, { "It": -1.0 }, {}, { " True": -0.5, " False": -1.5 }, null] } }] }),
        json!({ "choices": [{ "text": "x", "prompt_logprobs": [null,
            { "12": { "logprob": -3.0, "rank": 9, "decoded_token": " True" },
              "7": { "logprob": -0.1, "rank": 1, "decoded_token": " False" } }] }] }),
        json!({ "choices": [{ "text": "x", "logprobs": { "tokens": ["token_id:5"],
            "token_logprobs": [-1.0], "top_logprobs": [{ "token_id:5": -1.0, "token_id:6": -2.0 }] } }] }),
        json!({ "choices": [{ "message": { "role": "assistant", "content": " True" }, "finish_reason": "stop",
            "logprobs": { "content": [{ "id": 3, "token": " True", "logprob": -0.2, "top_logprobs": [
                { "id": 3, "token": " True", "logprob": -0.2 }, { "id": 4, "token": " No", "logprob": -2.0 }] }] } }] }),
        json!({ "error": { "message": "Provider returned error", "code": 502 }, "user_id": "u" }),
        json!({ "object": "error", "message": "m", "type": "BadRequestError", "code": 400 }),
        json!({ "detail": [{ "loc": ["body"], "msg": "field required" }] }),
    ];
    let mut seeds: Vec<Vec<u8>> = all.iter().map(|json| json.to_string().into_bytes()).collect();
    // A stream that nobody asked for, Python's numbers, a web page.
    seeds.push(b"data: {\"choices\":[{\"text\":\"x\"}]}\n\ndata: [DONE]\n\n".to_vec());
    seeds.push(b"{\"choices\":[{\"text\":\"x\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[NaN],\"top_logprobs\":[{\"a\":-Infinity}]}}]}".to_vec());
    seeds.push(b"<html><body>502 Bad Gateway</body></html>".to_vec());
    seeds
}

#[test]
fn replies_of_every_route() {
    const PROMPT: &str = "It is True";
    run("replies", &replies(), |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        for status in [200, 400, 500] {
            let answer = Answer::new(status, text.clone());
            // Messages are short, and one line.
            let message = answer.message();
            assert!(message.chars().count() <= 310 && !message.contains('\n'), "{message}");
            let _ = answer.is_too_long();
        }
        let Ok(data) = Answer::new(200, text).data() else { return };
        let read = [
            Reply::completion(&data, PROMPT, true),
            Reply::completion(&data, PROMPT, false),
            Reply::chat(&data),
        ];
        for reply in read.into_iter().flatten() {
            let tokens = reply.prompt.iter().chain(&reply.written);
            let numbers = tokens.flat_map(|token| {
                token.logprob.into_iter().chain(token.top.iter().map(|top| top.logprob))
            });
            for number in numbers {
                assert!(number <= 0.0, "{number} is no log-probability");
            }
            for at in 0..=PROMPT.len() {
                let num = reply.num_after(PROMPT, at);
                assert!(num.is_none_or(|num| num <= reply.prompt.len()));
            }
        }
    });
}

#[test]
fn lists_of_a_hub() {
    let names = ["data/train-00000-of-00001.parquet", "README.md", "a #1 \u{e9}.jsonl"];
    let siblings: Vec<_> = names.iter().map(|name| json!({ "rfilename": name })).collect();
    let list = json!({ "sha": "0".repeat(40), "siblings": siblings, "private": false });
    let seeds = [list.to_string().into_bytes(), br#"{"siblings":[{"rfilename":"../x"}]}"#.to_vec()];
    run("hub-lists", &seeds, |bytes| {
        for name in listed(bytes).into_iter().flatten() {
            assert!(!name.starts_with('/') && name.split('/').all(|part| part != ".."), "{name}");
        }
    });
}

#[test]
fn addresses_and_prices() {
    let seeds = ["http://host:8000/v1#org/name", "https://[::1]/api/v1/#x%20y%"];
    run("addresses", &seeds.map(|seed| seed.as_bytes().to_vec()), |bytes| {
        if let Ok(address) = ServerAddress::parse(&String::from_utf8_lossy(bytes)) {
            // What stands before an `@` of the host would be a name or a password; in a path it is text.
            let host =
                address.url.split("://").nth(1).unwrap().split(['/', '?', '#']).next().unwrap();
            assert!(address.root().len() <= address.url.len() && !host.contains('@'));
        }
    });
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("prices.toml");
    let seed = "currency = \"USD\"\n[models.\"a/b\"]\ninput_per_million = 2\noutput_per_million = 8.0\ncached_input_per_million = 0.5\n";
    run("prices", &[seed.as_bytes().to_vec()], |bytes| {
        fs::write(&path, bytes).unwrap();
        let _ = Prices::read(&path);
    });
}

/// A store with the answers of a real scoring.
pub fn store_with_answers(folder: &std::path::Path) {
    let stub = of_model("llama", ALL);
    let store = AnswerStore::open(folder).unwrap();
    let service = connect(&stub, at_once(), Some(store)).unwrap();
    let options =
        HttpScorerOptions { route: Some(RouteKind::Echo), ..HttpScorerOptions::default() };
    let tree = crate::server_answers::questions(6);
    score(&mut HttpScorer::new(service, options).unwrap(), &tree).unwrap();
}

#[test]
fn stores() {
    let place = tempfile::tempdir().unwrap();
    store_with_answers(place.path());
    let file = place.path().join("answers.redb");
    let whole = AnswerStore::existing(place.path()).unwrap().unwrap().sizes().unwrap();
    assert!(whole.len() == 1 && whole[0].num_answers > 10, "{whole:?}");
    let seeds = [fs::read(&file).unwrap()];
    let mut num_whole = 0;
    run("stores", &seeds, |bytes| {
        fs::write(&file, bytes).unwrap();
        let opened = AnswerStore::existing(place.path());
        match opened.and_then(|store| store.map(|store| store.sizes()).transpose()) {
            // Whole, or begun anew where nothing was left.
            Ok(sizes) => {
                let sizes = sizes.unwrap();
                assert!(sizes == whole || (sizes.is_empty() && bytes.is_empty()), "{sizes:?}");
                num_whole += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(
                    text.contains("answers.redb") && text.contains("--response-cache"),
                    "{text}"
                );
                assert!(fs::read(&file).unwrap() == bytes, "a damaged file is left as it is");
            }
        }
    });
    assert!(num_whole > 0);
}
