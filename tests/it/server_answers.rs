//! What servers answer under the status 200: errors, pages, numbers that are none. And the key, which is
//! never cut out of what a model wrote.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use w2s::error::{Error, ErrorKind};
use w2s::score::{Generator, HttpScorer, HttpScorerOptions, LabelScores, PromptTree, RouteKind};
use w2s::server::{AnswerStore, ApiKey, ClientOptions};

use crate::server_stub::{NAME, Say, Stub, at_once, connect, models, score};

/// Questions with labels ` a` and ` b`.
pub fn questions(num: usize) -> PromptTree {
    let labels = PromptTree::labels([" a", " b"]);
    let mut tree = PromptTree::new();
    for i in 0..num {
        let node = tree.child(PromptTree::ROOT, format!("Number {i} is"));
        tree.ask(node, format!("item-{i}"), &labels);
    }
    tree
}

/// A good answer; numbers differ with the prompt.
fn good(prompt: &str) -> Value {
    let number = -0.25 - prompt.bytes().map(f64::from).sum::<f64>() % 7.0 / 8.0;
    json!({
        "model": NAME,
        "choices": [{ "text": " a", "finish_reason": "length", "logprobs": {
            "tokens": [" a"], "token_logprobs": [number],
            "top_logprobs": [{ " a": number, " b": -2.0 }] } }],
        "usage": { "prompt_tokens": 4, "completion_tokens": 1 },
    })
}

/// A server that answers as told, by the number of the paid request, or well.
fn server(mut fault: impl FnMut(usize) -> Option<Say> + Send + 'static) -> Stub {
    let mut num = 0;
    Stub::new(move |asked| match asked.path.as_str() {
        "/v1/models" => models(),
        "/v1/completions" if asked.is_canary() => Say::Json(good(asked.prompt())),
        "/v1/completions" => {
            num += 1;
            fault(num).unwrap_or_else(|| Say::Json(good(asked.prompt())))
        }
        _ => Say::Status(404, "", json!({ "detail": "Not Found" })),
    })
}

fn top_k() -> HttpScorerOptions {
    HttpScorerOptions {
        route: Some(RouteKind::TopK),
        max_misses: 0.0,
        ..HttpScorerOptions::default()
    }
}

fn ask(
    stub: &Stub,
    client: ClientOptions,
    store: Option<AnswerStore>,
) -> Result<Vec<LabelScores>, Error> {
    let service = connect(stub, client, store)?;
    score(&mut HttpScorer::new(service, top_k()).unwrap(), &questions(8))
}

fn patient() -> ClientOptions {
    ClientOptions { num_retries: 12, ..at_once() }
}

fn positive(number: f64) -> Value {
    let mut json = good("x");
    json["choices"][0]["logprobs"]["top_logprobs"][0][" b"] = number.into();
    json
}

/// What an answer is called, and the answer.
type Case = (&'static str, fn() -> Say);

/// What a server may say in the place of an answer, and pass.
fn passing() -> Vec<Case> {
    vec![
        ("OpenRouter", || {
            Say::Json(json!({ "error": { "message": "Provider returned error", "code": 502 } }))
        }),
        ("no choices", || {
            Say::Json(json!({ "choices": [], "error": { "message": "m", "code": 429 } }))
        }),
        ("code as text", || Say::Json(json!({ "error": { "message": "m", "code": "503" } }))),
        ("text", || Say::Json(json!({ "error": "overloaded" }))),
        ("unknown", || Say::Json(json!({ "error": "hm" }))),
        ("vLLM", || {
            Say::Json(json!({ "object": "error", "type": "InternalServerError", "code": 500 }))
        }),
        ("FastAPI", || Say::Json(json!({ "detail": "m" }))),
        ("in the choice", || {
            Say::Json(json!({ "choices": [{ "text": "", "finish_reason": "error",
            "error": { "code": 502, "message": "m" } }] }))
        }),
        ("ended by error", || {
            Say::Json(json!({ "choices": [{ "text": "", "finish_reason": "error" }] }))
        }),
        ("page", || Say::Text("<html>gateway</html>")),
        ("nothing", || Say::Text("")),
        ("half", || Say::Text("{\"choices\":[{\"text\":\" a\",\"logp")),
        ("stream", || Say::Text("data: {\"choices\":[]}\n\ndata: [DONE]\n\n")),
        ("null", || Say::Text("null")),
        ("positive", || Say::Json(positive(0.7))),
        ("lists of two lengths", || {
            Say::Json(json!({ "choices": [{ "text": " a", "logprobs": {
            "tokens": [" a"], "token_logprobs": [] } }] }))
        }),
    ]
}

/// Every third answer is none; the scores and the store are those of a server without faults.
#[test]
fn what_is_no_answer_is_asked_for_again() {
    let expected = ask(&server(|_| None), at_once(), None).unwrap();
    for (name, say) in passing() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Some(AnswerStore::open(folder.path()).unwrap());
        let stub = server(move |num| (num % 3 == 0).then(say));
        let found = ask(&stub, patient(), open());
        assert_eq!(found.map_err(|e| format!("{name}: {e}")).unwrap(), expected, "{name}");
        // The first request is the probe's.
        let num_paid = stub.num_paid();
        assert!(num_paid > 1 + expected.len(), "{name}: {num_paid}");
        assert_eq!(ask(&stub, patient(), open()).unwrap(), expected, "{name}: kept");
        assert_eq!(stub.num_paid(), num_paid, "{name}: only answers are kept, and all of them");
    }
}

/// One that stays so ends the run after a bounded number of tries, with one error.
#[test]
fn what_stays_no_answer_is_told() {
    let words = |name: &str| match name {
        "OpenRouter" | "in the choice" => "(502)",
        "no choices" => "(429)",
        "code as text" | "text" => "(503)",
        "vLLM" => "(500)",
        "page" => "not JSON",
        "nothing" => "is empty",
        "half" | "stream" => "not JSON",
        "positive" => "a log-probability is 0.7, expected at most 0",
        "lists of two lengths" => "`token_logprobs`",
        "null" => "no `choices`",
        _ => "it holds an error",
    };
    for (name, say) in passing() {
        let stub = server(move |num| (num > 1).then(say));
        let error = ask(&stub, at_once(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server, "{name}: {error}");
        assert!(error.to_string().contains(words(name)), "{name}: {error}");
        // The probe, and three tries of each of the three at once.
        assert!(stub.num_paid() <= 10, "{name}: {}", stub.num_paid());
    }
}

#[test]
fn refusals_are_final_and_say_their_own_code() {
    for (json, code) in [
        (json!({ "error": { "message": "no such model", "code": 404 } }), "(404): no such model"),
        (json!({ "error": { "message": "bad", "code": 422 } }), "(422): bad"),
        (json!({ "error": { "message": "no credit", "code": "402" } }), "(402): no credit"),
        (json!({ "object": "error", "message": "bad", "code": 400 }), "(400): bad"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = AnswerStore::open(folder.path()).unwrap();
        let stub = server(move |num| (num > 1).then(|| Say::Json(json.clone())));
        let error = ask(&stub, patient(), Some(store)).unwrap_err();
        assert!(error.to_string().contains(code), "{error}");
        assert!(stub.num_paid() <= 4, "{code}: {}", stub.num_paid());
        let kept = AnswerStore::open(folder.path()).unwrap().sizes().unwrap();
        // Which model it is, and what the probe found.
        assert_eq!(kept.iter().map(|size| size.num_answers).sum::<u64>(), 2, "{code}");
    }
    let long = json!({ "error": { "message": "This model's maximum context length is 8 tokens", "code": 400 } });
    let stub = server(move |num| (num > 1).then(|| Say::Json(long.clone())));
    assert_eq!(ask(&stub, at_once(), None).unwrap_err().kind(), ErrorKind::Context);
    let filtered =
        json!({ "choices": [{ "text": "", "finish_reason": "content_filter", "logprobs": null }] });
    let stub = server(move |num| (num > 1).then(|| Say::Json(filtered.clone())));
    let error = ask(&stub, patient(), None).unwrap_err().to_string();
    assert!(error.contains("content filter") && error.contains("leave the example out"), "{error}");
}

/// Waits are those of the server under the status 200 too, and bounded.
#[test]
fn waits_are_honoured() {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&waits);
    let sleep = Arc::new(move |wait| log.lock().unwrap().push(wait));
    let client = ClientOptions { sleep, num_retries: 2, ..at_once() };
    let stub = server(|num| {
        let error = json!({ "error": { "message": "m", "code": 429 } });
        (num == 2).then(|| Say::Status(200, "Retry-After: 7\r\n", error))
    });
    ask(&stub, client, None).unwrap();
    assert!(waits.lock().unwrap().iter().any(|wait| *wait >= Duration::from_secs(7)));
    // A pace that makes no sense is no panic.
    for rate in [1e-300, 0.0, -1.0, f64::NAN, f64::INFINITY] {
        let client = ClientOptions { requests_per_second: Some(rate), ..at_once() };
        ask(&server(|_| None), client, None).unwrap();
    }
}

/// Tokens without a number are as if the server had not told of them.
#[test]
fn tokens_without_numbers_are_left_out() {
    let expected = ask(&server(|_| None), at_once(), None).unwrap();
    for extra in [json!(null), json!("-1.5"), json!([]), json!({})] {
        let stub = Stub::new(move |asked| {
            if asked.path == "/v1/models" {
                return models();
            }
            let mut json = good(asked.prompt());
            json["choices"][0]["logprobs"]["top_logprobs"][0]["<unused>"] = extra.clone();
            json["choices"][0]["logprobs"]["token_logprobs"][0] = Value::Null;
            Say::Json(json)
        });
        assert_eq!(ask(&stub, at_once(), None).unwrap(), expected);
    }
    let page = "{\"choices\":[{\"text\":\" a\",\"finish_reason\":\"length\",\"logprobs\":{\"tokens\":[\" a\"],\"token_logprobs\":[NaN],\"top_logprobs\":[{\" a\":-0.5,\" b\":-2.0,\"x\":-Infinity}]}}]}";
    let stub = server(move |_| Some(Say::Text(page)));
    assert_eq!(ask(&stub, at_once(), None).unwrap()[0].logprobs, [-0.5, -2.0]);
}

/// A key that is a letter, a word and a part of the answer: the answer is what the model wrote.
#[test]
fn the_key_is_not_cut_out_of_answers() {
    let text = " a bad banana says sk-12345678abcdefgh a";
    for key in ["a", "banana", "sk-12345678abcdefgh"] {
        let key = ApiKey::new(key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stub = server(move |num| {
            let mut json = good("x");
            json["choices"][0]["text"] = text.into();
            (num > 1).then_some(Say::Json(json))
        });
        for key in [Some(key), None] {
            let client = ClientOptions { key, ..at_once() };
            let store = AnswerStore::open(folder.path()).unwrap();
            let service = connect(&stub, client, Some(store)).unwrap();
            let mut there = HttpScorer::new(service, top_k()).unwrap();
            let written = there.write(&["Say".to_owned()], 9).unwrap();
            assert_eq!(written[0].text, text);
        }
        assert_eq!(stub.num_paid(), 2, "the probe and one answer");
    }
    // The label ` a` is found with the key `a`, and refusals do not show it.
    let client = || ClientOptions { key: Some(ApiKey::new("a").unwrap()), ..at_once() };
    let expected = ask(&server(|_| None), at_once(), None).unwrap();
    assert_eq!(ask(&server(|_| None), client(), None).unwrap(), expected);
    let refusal = json!({ "error": { "message": "the key a is wrong", "code": 400 } });
    let stub = server(move |num| (num > 1).then(|| Say::Json(refusal.clone())));
    let error = ask(&stub, client(), None).unwrap_err().to_string();
    assert!(error.contains("the key [key] is wrong"), "{error}");
}

/// Numbers about time that make no sense are refused where they are given.
#[test]
fn times_that_make_no_sense_are_refused() {
    let w2s = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_w2s")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let data = crate::common::project().join("data/demo/reviews.jsonl");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let (data, out) = (data.to_str().unwrap(), out.to_str().unwrap());
    for value in ["1e-300", "0", "nan", "inf", "-inf", "-1", "1e300", "1e-4"] {
        for option in ["requests-per-second", "deadline"] {
            let given = format!("--{option}={value}");
            let model = "http://127.0.0.1:1/v1#x";
            let (status, said) = w2s(&[
                "label",
                "--model",
                model,
                "--task",
                "sentiment",
                "--data",
                data,
                "--out",
                out,
                "--method",
                "zero-shot",
                "--response-cache",
                "off",
                &given,
            ]);
            assert_eq!(status, Some(2), "{given}: {said}");
            assert!(said.contains(&format!("`--{option}` is")), "{said}");
        }
        let given = format!("--deadline={value}");
        let (status, said) = w2s(&["serve-check", "http://127.0.0.1:1/v1", &given]);
        assert_eq!(status, Some(2), "{given}: {said}");
    }
    for value in ["nan", "inf", "-1", "1e300", "20000"] {
        let given = format!("--checkpoint-minutes={value}");
        let model = crate::common::tiny("llama");
        let (status, said) = w2s(&[
            "train",
            "--model",
            model.to_str().unwrap(),
            "--task",
            "sentiment",
            "--data",
            data,
            "--labels",
            data,
            "--out",
            out,
            "--device",
            "cpu",
            &given,
        ]);
        assert_eq!(status, Some(2), "{given}: {said}");
        assert!(said.contains("`--checkpoint-minutes` is"), "{said}");
    }
}
