//! Commands on a model behind a server, as a user types them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::common::{project, tiny};
use crate::server_stub::{ALL, Has, Model, NAME, Say, Stub, local, of_model};

const KEY: &str = "sk-very-secret-0123456789";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn arg(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs w2s with a cache of its own and a key.
    fn w2s(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
        command.env_remove("OPENAI_API_KEY").env("W2S_API_KEY", KEY);
        command.env("XDG_CACHE_HOME", self.path("cache")).args(args).output().unwrap()
    }

    fn good(&self, args: &[&str]) -> (String, String) {
        let output = self.w2s(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    }

    fn bad(&self, args: &[&str], status: i32, words: &[&str]) -> String {
        let output = self.w2s(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {text}");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        text
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    /// All bytes of all files below.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match path.is_dir() {
                    true => folders.push(path),
                    false => all.push((path.clone(), std::fs::read(&path).unwrap())),
                }
            }
        }
        all
    }
}

fn reviews() -> String {
    project().join("data/demo/reviews.jsonl").to_str().unwrap().to_owned()
}

fn local_model() -> String {
    tiny("llama").to_str().unwrap().to_owned()
}

fn labels(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same labels as by the local model; a second run is free and has the same bytes; the key is
/// nowhere; the manifest says what was asked.
#[test]
fn label_by_a_server_is_label_by_the_model() {
    let place = Place::new();
    let stub = of_model("llama", ALL);
    let data = reviews();
    let common =
        ["--task", "sentiment", "--data", data.as_str(), "--limit", "6", "--method", "zero-shot"];
    let run = |model: &str, out: &str, more: &[&str]| {
        let out = place.arg(out);
        let args = [&["label", "--model", model, "--out", &out], &common[..], more].concat();
        place.good(&args)
    };
    run(&local_model(), "local", &["--device", "cpu"]);
    let (_, said) = run(&stub.model(), "served", &["--deadline", "60"]);
    assert!(said.contains("route echo (exact)") && said.contains("requests"), "{said}");
    let (ours, theirs) =
        (labels(&place.path("local/labels.jsonl")), labels(&place.path("served/labels.jsonl")));
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert_eq!((&a["id"], &a["label"]), (&b["id"], &b["label"]));
        assert!((a["margin"].as_f64().unwrap() - b["margin"].as_f64().unwrap()).abs() < 1e-3);
    }
    let manifest = place.json("served/manifest.json");
    assert_eq!(manifest["settings"]["model"], stub.model());
    assert_eq!(manifest["settings"]["server"], json!({ "model": NAME, "route": "echo" }));
    assert_eq!(manifest["versions"]["server"], "unknown");
    let server = place.json("served/server.json");
    assert_eq!(server["misses"], json!({ "num_labels": 0, "num_missed": 0 }));
    assert!(server["spent"]["num_requests"].as_u64().unwrap() > 12);
    // The key came to the server, and stayed there.
    let header = format!("Bearer {KEY}");
    assert!(stub.asked().iter().all(|asked| asked.authorization.as_deref() == Some(&header)));
    for (path, bytes) in place.everything() {
        let has = bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes());
        assert!(!has, "the key is in {}", path.display());
    }
    let paid = stub.num_paid();
    run(&stub.model(), "again", &[]);
    assert_eq!(stub.num_paid(), paid);
    for name in ["labels.jsonl", "summary.json"] {
        let read = |run: &str| std::fs::read(place.path(run).join(name)).unwrap();
        assert_eq!(read("served"), read("again"), "{name}");
    }
    // The store tells what it has, and forgets.
    let (stdout, _) = place.good(&["cache"]);
    assert!(stdout.contains(&format!("{}: ", stub.model())), "{stdout}");
    let (stdout, said) = place.good(&["cache", "prune", "--all", "--server", &stub.address]);
    assert!(said.contains("removed") && !stdout.contains(NAME), "{stdout}{said}");
}

#[test]
fn a_run_that_is_cut_off_goes_on_for_the_rest() {
    let place = Place::new();
    let model = Model::new("llama", ALL);
    let mut num = 0;
    let stub = Stub::new(move |asked| {
        num += usize::from(asked.is_paid());
        // The account is empty after some requests, once.
        if asked.is_paid() && num == 9 {
            return Say::Status(402, "", json!({ "error": { "message": "no credit" } }));
        }
        model.answer(asked)
    });
    let (data, out) = (reviews(), place.arg("run"));
    let model = stub.model();
    let args = [
        "label",
        "--model",
        &model,
        "--out",
        &out,
        "--task",
        "sentiment",
        "--data",
        &data,
        "--limit",
        "8",
        "--method",
        "zero-shot",
        "--route",
        "echo",
        "--concurrency",
        "1",
    ];
    place.bad(&args, 1, &["wants to be paid (402): no credit", "is kept"]);
    let before = stub.num_paid();
    place.good(&[&args[..], &["--resume"]].concat());
    // Two of the probe, two for each review and what is calibrated by; the refused one twice.
    let prompts: Vec<String> =
        stub.asked().iter().filter(|a| a.is_paid()).map(|a| a.body.to_string()).collect();
    let distinct: std::collections::HashSet<&String> = prompts.iter().collect();
    assert_eq!(prompts.len(), distinct.len() + 1, "only what was refused is asked again");
    assert!(stub.num_paid() > before);
}

#[test]
fn money_is_counted_and_not_overspent() {
    let place = Place::new();
    let stub = of_model("llama", ALL);
    let prices = place.arg("prices.toml");
    let table = format!(
        "currency = \"EUR\"\n[models.\"{NAME}\"]\ninput_per_million = 1000\noutput_per_million = 0\n"
    );
    std::fs::write(&prices, table).unwrap();
    let (data, out, model) = (reviews(), place.arg("run"), stub.model());
    let args = [
        "label",
        "--model",
        &model,
        "--out",
        &out,
        "--task",
        "sentiment",
        "--data",
        &data,
        "--limit",
        "4",
        "--method",
        "zero-shot",
        "--prices",
        &prices,
        "--max-cost",
    ];
    place.bad(&[&args[..], &["0.4"]].concat(), 1, &["--max-cost 0.4", "EUR"]);
    // A token costs 0.001.
    let lm = local("llama");
    let num_tokens = |text: &str| 1 + lm.tokenizer().encode(text).unwrap().ids.len();
    let told: usize =
        stub.asked().iter().filter(|a| a.is_paid()).map(|a| num_tokens(a.prompt())).sum();
    assert!((1..=400).contains(&told), "{told}");
    let (_, said) = place.good(&[&args[..], &["1000", "--resume"]].concat());
    assert!(said.contains("EUR"), "{said}");
    let spent = &place.json("run/server.json")["spent"];
    let cost = spent["cost"].as_f64().unwrap();
    assert!((cost - spent["tokens_in"].as_f64().unwrap() / 1000.0).abs() < 1e-9, "{spent}");
    place.bad(&[&args[..args.len() - 3], &["--max-cost", "1"]].concat(), 2, &["--prices"]);
}

#[test]
fn score_filter_and_chats_ask_servers_too() {
    let place = Place::new();
    let stub = of_model("llama", ALL);
    let questions = place.arg("questions.jsonl");
    let line =
        json!({ "id": "1", "prompt": "2 + 2 = 4 is ", "labels": ["True", "False, I think"] });
    std::fs::write(&questions, format!("{line}\n")).unwrap();
    let model = stub.model();
    let (ours, _) =
        place.good(&["score", "--model", &local_model(), "--input", &questions, "--device", "cpu"]);
    let (theirs, _) = place.good(&["score", "--model", &model, "--input", &questions]);
    let [ours, theirs] = [ours, theirs].map(|text| serde_json::from_str::<Value>(&text).unwrap());
    assert_eq!(ours["num_tokens"], theirs["num_tokens"]);
    for label in ["True", "False, I think"] {
        let [a, b] = [&ours, &theirs].map(|row| row["logprobs"][label].as_f64().unwrap());
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }

    let data = reviews();
    for answers in ["soft", "votes"] {
        let (out, ours) = (place.arg(answers), place.arg(&format!("local-{answers}")));
        let rest = ["--task", "sentiment", "--data", &data, "--limit", "3", "--answers", answers];
        place.good(
            &[&["filter", "--entropy", "--model", &model, "--out", &out], &rest[..]].concat(),
        );
        let local = local_model();
        place.good(
            &[
                &["filter", "--entropy", "--model", &local, "--device", "cpu", "--out", &ours],
                &rest[..],
            ]
            .concat(),
        );
        let kept = |run: &str| {
            let rows = labels(&place.path(run).join("answers.jsonl"));
            rows.into_iter().map(|row| row["answer"].clone()).collect::<Vec<_>>()
        };
        if answers == "soft" {
            assert_eq!(kept(answers), kept("local-soft"));
        }
        assert!(place.path(answers).join("server.json").exists());
    }

    let chat = of_model("llama", Has { completions: false, chat: true, ..ALL });
    let (out, model) = (place.arg("chat"), chat.model());
    let args = [
        "label",
        "--model",
        &model,
        "--out",
        &out,
        "--task",
        "sentiment",
        "--data",
        &data,
        "--limit",
        "2",
        "--method",
        "zero-shot-chat",
        "--max-misses",
        "1",
        "--top-k",
        "384",
    ];
    let (_, said) = place.good(&args);
    assert!(said.contains("route chat-top-k"), "{said}");
    assert_eq!(place.json("chat/manifest.json")["settings"]["server"]["route"], "chat-top-k");
}

#[test]
fn held_out_and_second_looks_ask_servers_too() {
    let place = Place::new();
    let stub = of_model("llama", ALL);
    let lines = |path: &str| std::fs::read_to_string(path).unwrap();
    let all = lines(&reviews());
    let gold = lines(project().join("data/demo/reviews.gold.jsonl").to_str().unwrap());
    let part = |text: &str, from: usize, to: usize| -> String {
        text.lines().skip(from).take(to - from).map(|line| format!("{line}\n")).collect()
    };
    let write = |name: &str, text: String| {
        std::fs::write(place.path(name), text).unwrap();
        place.arg(name)
    };
    let test = write("test.jsonl", part(&all, 0, 3));
    let (shown, given) =
        (write("shown.jsonl", part(&all, 8, 12)), write("given.jsonl", part(&gold, 8, 12)));
    let (gold, model, local) = (write("gold.jsonl", gold), stub.model(), local_model());
    for (out, model) in [("served", &model), ("local", &local)] {
        let (held_out, again) =
            (place.arg(&format!("{out}-test")), place.arg(&format!("{out}-again")));
        place.good(&[
            "eval",
            "--test",
            &test,
            "--gold",
            &gold,
            "--demonstrations",
            &given,
            "--demonstration-data",
            &shown,
            "--num-demonstrations",
            "2",
            "--task",
            "sentiment",
            "--model",
            model,
            "--out",
            &held_out,
        ]);
        let labels = place.path("local-or-served.jsonl");
        std::fs::copy(place.path(&format!("{out}-test/labels.jsonl")), &labels).unwrap();
        place.good(&[
            "relabel",
            "--model",
            model,
            "--task",
            "sentiment",
            "--data",
            &test,
            "--labels",
            labels.to_str().unwrap(),
            "--out",
            &again,
        ]);
    }
    for run in ["test", "again"] {
        let [ours, theirs] =
            ["local", "served"].map(|of| labels(&place.path(&format!("{of}-{run}/labels.jsonl"))));
        assert_eq!(ours.len(), 3);
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!((&a["id"], &a["label"]), (&b["id"], &b["label"]), "{run}");
            let [a, b] = [a, b].map(|row| row["margin"].as_f64().unwrap());
            assert!((a - b).abs() < 1e-3, "{run}: {a} {b}");
        }
        let server = place.json(&format!("served-{run}/server.json"));
        assert_eq!(server["route"], "echo");
    }
    let said = ["eval", &place.arg("local-test"), "--gold", &gold, "--top-k", "5"];
    place.bad(&said, 2, &["`--top-k` is of a server"]);
}

#[test]
fn options_that_have_no_effect_are_refused() {
    let place = Place::new();
    let (data, out, model) = (reviews(), place.arg("run"), "http://127.0.0.1:9/v1#x");
    let rest = ["--task", "sentiment", "--data", &data, "--out", &out];
    let with = |command: &'static str, model: &str, more: &[&str]| {
        let words = [&[command, "--model", model], &rest[..], more].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let bad = |words: Vec<String>, said: &[&str]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        place.bad(&words, 2, said);
    };
    bad(with("label", model, &["--device", "cpu"]), &["`--device` is of a local model"]);
    bad(with("label", &local_model(), &["--route", "echo"]), &["`--route` is of a server"]);
    bad(with("train", model, &["--labels", &data]), &["needs a model folder, not a server"]);
    bad(with("loop", model, &[]), &["a loop trains its model"]);
    bad(with("label", "http://me:sk-1234@h/v1", &[]), &["holds a password", "W2S_API_KEY"]);
    bad(with("label", model, &["--route", "best"]), &["expected auto, token-ids, echo"]);
    assert!(!place.path("run").exists());
}

#[test]
fn serve_check_says_what_a_server_can_do() {
    let place = Place::new();
    let model = Model::new("llama", Has { echo_is_off: true, ..ALL });
    let stub = Stub::new(move |asked| match asked.path.as_str() {
        "/openapi.json" => Say::Json(json!({ "info": { "title": "Thing", "version": "1.2" } })),
        _ => model.answer(asked),
    });
    let tokenizer = local_model();
    let (stdout, _) = place.good(&["serve-check", &stub.model(), "--tokenizer", &tokenizer]);
    for line in [
        "server: Thing 1.2 at http://127.0.0.1:",
        "model: org/tiny",
        "context: 500 tokens",
        "route token-ids: no: logprob_token_ids: it has no number for a token that was named; /generate: 404",
        "route echo: no: its numbers are wrong",
        "route prompt-logprobs: yes, exact",
        "route top-k: yes, the 20 most likely tokens",
        "route chat-top-k: no: 404",
        "best route: prompt-logprobs",
        "tokenizer: agrees, numbers of tokens of 8 texts",
        "latency: ",
        "prefix cache: ",
        "judged by the time",
        "vllm serve org/tiny --enable-prefix-caching --enable-prompt-tokens-details --tensor-parallel-size NUM_GPUS --max-model-len 500",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    let other = project().join("models/smollm2-135m-instruct");
    let other = other.to_str().unwrap();
    let (stdout, _) =
        place.good(&["serve-check", &stub.model(), "--tokenizer", other, "--no-timing"]);
    assert!(stdout.contains("tokenizer: DIFFERS"), "{stdout}");
}

/// A server that says where its files are and counts what it remembered.
#[test]
fn serve_check_reads_what_a_server_tells() {
    let place = Place::new();
    let has = Has { named: &[w2s::server::NamedBy::LogprobTokenIds], tokenizes: true, ..ALL };
    let model = Model::new("llama", has);
    let (mut num, mut known) = (0, 0);
    let stub = Stub::new(move |asked| match asked.path.as_str() {
        "/v1/models" => Say::Json(json!({ "data": [{ "id": NAME, "owned_by": "vllm",
            "root": "/models/tiny", "parent": null, "max_model_len": 500 }] })),
        "/version" => Say::Json(json!({ "version": "0.32.0" })),
        "/metrics" => Say::Page(format!(
            "# TYPE vllm:prefix_cache_queries_total counter\nvllm:prefix_cache_queries_total{{engine=\"0\"}} {num}.0\nvllm:prefix_cache_hits_total{{engine=\"0\"}} {known}.0\n"
        )),
        _ => {
            // What goes on as the prompt before did was there.
            num += asked.prompt().len();
            known += if asked.prompt().ends_with(" two") { asked.prompt().len() - 9 } else { 0 };
            model.answer(asked)
        }
    });
    let (stdout, _) = place.good(&["serve-check", &stub.model()]);
    for line in [
        "server: vLLM 0.32.0 at http://127.0.0.1:",
        "route token-ids: yes, exact by logprob_token_ids",
        "route echo: yes, exact",
        "best route: token-ids",
        "prefix cache: works; ",
        "; /metrics counts ",
        "to start vLLM: vllm serve /models/tiny --served-model-name org/tiny --enable-prefix-caching",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
    assert!(!stdout.contains("note:"), "{stdout}");
}

/// A chat model's words on a run, in the report; and the run's labels for other trainers.
#[test]
fn runs_are_explained_and_exported() {
    let place = Place::new();
    let (data, out) = (reviews(), place.arg("run"));
    let local = local_model();
    place.good(&[
        "label",
        "--model",
        &local,
        "--device",
        "cpu",
        "--out",
        &out,
        "--task",
        "sentiment",
        "--data",
        &data,
        "--limit",
        "12",
        "--method",
        "zero-shot",
    ]);
    let stub = Stub::new(|asked| match asked.path.as_str() {
        "/v1/models" => crate::server_stub::models(),
        "/v1/chat/completions" => Say::Json(json!({ "model": NAME,
            "choices": [{ "message": { "content": " Group A *complains*.\n" }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 9, "completion_tokens": 4 } })),
        _ => Say::Status(404, "", json!({})),
    });
    let (stdout, said) =
        place.good(&["explain", &out, "--model", &stub.model(), "--num-examples", "3"]);
    assert_eq!(stdout, "Group A *complains*.\n");
    assert!(said.contains("A is ") && said.contains("B is "), "{said}");
    let message =
        stub.asked().last().unwrap().body["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(message.contains("Group A:\n- ") && message.contains("Group B:\n- "), "{message}");
    let found = place.json("run/explanation.json");
    assert_eq!(found["text"], "Group A *complains*.");
    assert_eq!(found["model"], stub.model());
    place.bad(&["explain", &out, "--model", &stub.model()], 1, &["explained already", "--force"]);
    let gold = project().join("data/demo/reviews.gold.jsonl");
    place.good(&["eval", &out, "--gold", gold.to_str().unwrap()]);
    place.good(&["report", &out, "--out", &place.arg("report")]);
    let page = std::fs::read_to_string(place.path("report/report.md")).unwrap();
    assert!(page.contains("## What the labels seem to mean"), "{page}");
    assert!(page.contains("\nGroup A \\*complains\\*.\n"), "{page}");

    for (format, file, names) in [
        ("trl", "data/train.jsonl", ["prompt", "completion"]),
        ("axolotl", "train.jsonl", ["prompt", "completion"]),
        ("llama-factory", "train.jsonl", ["instruction", "output"]),
    ] {
        let to = place.arg(format);
        let (stdout, _) = place.good(&[
            "export",
            &out,
            "--format",
            format,
            "--base-model",
            "org/student",
            "--out",
            &to,
        ]);
        assert_eq!(stdout.trim(), to);
        let rows = labels(&place.path(format).join(file));
        assert_eq!(rows.len(), 12);
        for row in &rows {
            let [prompt, completion] = names.map(|name| row[name].as_str().unwrap());
            assert!(!prompt.ends_with(' ') && completion.starts_with(' '), "{row}");
        }
        let config = std::fs::read_to_string(place.path(format).join("config.yaml")).unwrap();
        assert!(config.contains("org/student") && config.contains("lora"), "{config}");
        let readme = std::fs::read_to_string(place.path(format).join("README.md")).unwrap();
        assert!(readme.contains("No gold label had a part"), "{readme}");
        assert!(readme.contains("All examples weigh the same"), "{readme}");
        place.bad(
            &["export", &out, "--format", format, "--base-model", "x", "--out", &to],
            1,
            &["there already"],
        );
    }
    // Weights of a filter become sampling weights, and it is said.
    let weak = place.arg("weak");
    place.good(&[
        "filter",
        "--entropy",
        "--model",
        &local,
        "--device",
        "cpu",
        "--out",
        &weak,
        "--task",
        "sentiment",
        "--data",
        &data,
        "--limit",
        "12",
        "--quantile",
        "1",
        "--weight-by",
        "soft-agreement",
    ]);
    let to = place.arg("weak-trl");
    let (_, said) =
        place.good(&["export", &weak, "--format", "trl", "--base-model", "x", "--out", &to]);
    let weights = labels(&place.path("weak-trl/weighted.jsonl"));
    let first = &weights[0]["weight"];
    if weights.iter().any(|row| &row["weight"] != first) {
        assert!(said.contains("sampling weights"), "{said}");
        let readme = std::fs::read_to_string(place.path("weak-trl/README.md")).unwrap();
        assert!(readme.contains("cannot be weighted by example"), "{readme}");
    }
    assert_eq!(labels(&place.path("weak-trl/data/train.jsonl")).len(), weights.len());
}
