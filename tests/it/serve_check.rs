//! What serve-check says of servers, and what is made of runs by their models.

use serde_json::json;

use crate::common::project;
use crate::server_cli::{Place, labels, local_model, reviews};
use crate::server_stub::{ALL, Has, Model, NAME, Say, Stub};

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
