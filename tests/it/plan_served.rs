//! `w2s plan` of runs on a server, against what the server then receives: to the request and the token.

use std::collections::HashSet;
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::{Value, json};
use w2s::lm::Tokenizer;
use w2s::server::NamedBy;

use crate::common::tiny;
use crate::filter_runs::QUESTIONS;
use crate::server_stub::{ALL, Asked, Has, NAME, Stub, of_model};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let claim = |i: usize| {
            format!(
                "{{\"id\": \"c{i}\", \"question\": \"{i}+{i}?\", \"choice\": \"{}\", \"label\": {}, \"consistency_id\": {}}}\n",
                2 * i + i % 2,
                i.is_multiple_of(2),
                i / 2
            )
        };
        place.write("claims.jsonl", &(0..10).map(claim).collect::<String>());
        place.write("test.jsonl", &(10..14).map(claim).collect::<String>());
        place.write("questions.jsonl", QUESTIONS);
        place.write(
            "prices.toml",
            &format!("currency = \"USD\"\n[models.\"{NAME}\"]\ninput_per_million = 2\noutput_per_million = 8\ncached_input_per_million = 0.5\nper_request = 0.001\n"),
        );
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn w2s(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(words)
            .env("OMP_NUM_THREADS", "1")
            .env_remove("W2S_API_KEY")
            .env("XDG_CACHE_HOME", self.0.path().join("cache"))
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    fn good(&self, words: &[&str]) -> String {
        let output = self.w2s(words);
        assert!(output.status.success(), "{words:?} {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The lines of a plan.
    fn plan(&self, line: &[&str]) -> Vec<Value> {
        let text = self.good(&[&["plan", "--measure", "0", "--json", "--"], line].concat());
        let plan: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(plan["steps"], Value::Array(Vec::new()), "no model runs here: {text}");
        plan["served"].as_array().unwrap().clone()
    }
}

/// The tokens that a request sends.
fn sent(asked: &Asked, tokenizer: &Tokenizer) -> Vec<u32> {
    let prompt = match asked.path.as_str() {
        "/generate" => &asked.body["input_ids"],
        _ => &asked.body["prompt"],
    };
    match prompt {
        Value::Array(ids) => ids.iter().map(|id| id.as_u64().unwrap() as u32).collect(),
        text => {
            let ids = tokenizer.encode(text.as_str().unwrap()).unwrap().ids;
            [tokenizer.prefix(), &ids].concat()
        }
    }
}

/// Plans, runs, and holds the plan against the requests.
#[track_caller]
fn holds(place: &Place, stub: &Stub, line: &[&str]) {
    let tokenizer = Tokenizer::open(&tiny("llama")).unwrap();
    let planned = place.plan(line);
    let [planned] = planned.as_slice() else { panic!("one route: {planned:?}") };
    let before = stub.asked().len();
    place.good(line);
    let came: Vec<Asked> =
        stub.asked().split_off(before).into_iter().filter(Asked::is_paid).collect();
    let tokens: Vec<Vec<u32>> = came.iter().map(|asked| sent(asked, &tokenizer)).collect();
    let num = tokens.iter().map(Vec::len).sum::<usize>();
    let unique: HashSet<&[u32]> =
        tokens.iter().flat_map(|ids| (1..=ids.len()).map(|end| &ids[..end])).collect();
    let spent = &planned["spent"];
    let of = |value: &Value| value.as_u64().unwrap() as usize;
    assert_eq!(of(&spent["num_requests"]), came.len(), "{line:?} {planned}");
    assert_eq!(of(&spent["tokens_in"]), num, "{line:?} {planned}");
    assert_eq!(of(&planned["tokens_unique"]), unique.len(), "{line:?} {planned}");
    assert!(!came.is_empty());
    // By hand: 2 USD a million tokens in, 0.5 remembered, 8 out, 0.001 a request.
    let fixed = came.len() as f64 * 0.001 + of(&spent["tokens_out"]) as f64 * 8e-6;
    let near = |a: &Value, b: f64| assert!((a.as_f64().unwrap() - b).abs() < 1e-9, "{a} {b}");
    near(&spent["cost"], fixed + num as f64 * 2e-6);
    let cached = (num - unique.len()) as f64;
    near(&planned["cost_remembered"], fixed + unique.len() as f64 * 2e-6 + cached * 5e-7);
}

fn server(model: &str) -> Vec<String> {
    let tokenizer = tiny("llama").join("tokenizer.json").display().to_string();
    ["--model", model, "--tokenizer", &tokenizer, "--prices", "prices.toml"]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn a_plan_is_what_the_server_receives() {
    const WAYS: [NamedBy; 4] =
        [NamedBy::LogprobTokenIds, NamedBy::Grammar, NamedBy::AllowedTokenIds, NamedBy::Generate];
    let mut routes: Vec<Has> = WAYS.map(|way| Has { named: one(way), ..ALL }).to_vec();
    routes.push(ALL);
    routes.push(Has { echo: false, ..ALL });
    for (i, has) in routes.into_iter().enumerate() {
        let (place, stub) = (Place::new(), of_model("llama", has));
        let server = server(&stub.model());
        let server: Vec<&str> = server.iter().map(String::as_str).collect();
        let claims = ["--task", "claims", "--data", "claims.jsonl"];
        let few =
            ["label", "--method", "few-shot-gold", "--num-demonstrations", "5", "--out", "few"];
        holds(&place, &stub, &[&few[..], &claims, &server].concat());
        if i > 0 {
            continue;
        }
        // The other verbs, by the first way.
        let zero =
            ["label", "--method", "zero-shot", "--calibrate", "content-free", "--out", "zero"];
        holds(&place, &stub, &[&zero[..], &claims, &server].concat());
        let filter =
            ["filter", "--entropy", "--task", "multiple-choice", "--data", "questions.jsonl"];
        for (answers, out) in [("soft", "soft"), ("votes", "votes")] {
            let more = ["--answers", answers, "--out", out];
            holds(&place, &stub, &[&filter[..], &more, &server].concat());
        }
        // What label asked is kept.
        let zero =
            ["label", "--method", "zero-shot", "--calibrate", "content-free", "--out", "new"];
        let again = place.plan(&[&zero[..], &claims, &server].concat());
        assert_eq!(
            (&again[0]["spent"]["num_requests"], again[0]["spent"]["num_kept"].as_u64() > Some(20)),
            (&json!(0), true),
            "{again:?}"
        );
        let relabel = [
            "relabel",
            "--labels",
            "few/labels.jsonl",
            "--by",
            "flip",
            "--out",
            "again",
            "--response-cache",
            "other",
        ];
        holds(&place, &stub, &[&relabel[..], &claims, &server].concat());
        let eval = ["eval", "--task", "claims", "--test", "test.jsonl", "--gold", "test.jsonl"];
        let more = ["--demonstrations", "few/labels.jsonl", "--demonstration-data", "claims.jsonl"];
        holds(&place, &stub, &[&eval[..], &more, &["--out", "held"], &server].concat());
        // A search goes by its answers; what it begins with does not.
        let table = place.good(
            &[&["plan", "--measure", "0", "--", "label", "--out", "x"], &claims[..], &server]
                .concat(),
        );
        for word in ["route", "token-ids by logprob_token_ids", "tokens sent", "USD", "unique:"] {
            assert!(table.contains(word), "{word}: {table}");
        }
    }
}

fn one(way: NamedBy) -> &'static [NamedBy] {
    let all: &'static [NamedBy] = &NamedBy::ALL;
    let place = all.iter().position(|known| *known == way).unwrap();
    &all[place..=place]
}

/// A server that cannot be reached is planned for by each route, with the numbers that one would have
/// that can; without a tokenizer nothing can be counted.
#[test]
fn a_server_that_is_not_there_is_planned_for_by_each_route() {
    let place = Place::new();
    let claims = ["label", "--method", "zero-shot", "--task", "claims", "--data", "claims.jsonl"];
    let planned = |model: &str, more: &[&str]| {
        let server = server(model);
        let server: Vec<&str> = server.iter().map(String::as_str).collect();
        place.plan(&[&claims[..], &["--out", "x"], &server, more].concat())
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = format!("http://127.0.0.1:{port}/v1#{NAME}");
    let all = planned(&away, &[]);
    let names: Vec<(&str, Option<&str>)> = all
        .iter()
        .map(|line| (line["route"].as_str().unwrap(), line["named_by"].as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("token-ids", Some("logprob-token-ids")),
            ("token-ids", Some("grammar")),
            ("token-ids", Some("allowed-token-ids")),
            ("echo", None),
            ("prompt-logprobs", None),
            ("top-k", None),
            ("chat-top-k", None),
        ]
    );
    let of = |line: &Value, name: &str| line["spent"][name].as_u64().unwrap();
    // Ten claims and two labels of several tokens: one request a label, one a place of a label, or one a
    // token of it.
    let nums: Vec<u64> = all.iter().map(|line| of(line, "num_requests")).collect();
    assert_eq!((nums[1], nums[3], nums[4]), (20, 20, 20));
    assert!(nums[0] > 10 && nums[0] <= nums[2], "{nums:?}");
    for (has, way, place_in_all) in
        [(Has { named: one(NamedBy::LogprobTokenIds), ..ALL }, None, 0), (ALL, Some("echo"), 3)]
    {
        let stub = of_model("llama", has);
        let route = way.map_or(Vec::new(), |way| vec!["--route", way]);
        let mut there = planned(&stub.model(), &route);
        assert_eq!(there.len(), 1);
        for line in &mut there {
            assert_eq!(*line, all[place_in_all]);
        }
    }
    assert_eq!(planned(&away, &["--route", "top-k"]).len(), 1);
    let line = [&["plan", "--"], &claims[..], &["--out", "x", "--model", &away]].concat();
    let output = place.w2s(&line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("cannot be reached")
            && said.contains("hint: give the served model's tokenizer"),
        "{said}"
    );
}
