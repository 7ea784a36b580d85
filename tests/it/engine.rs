//! `w2s train --engine trl` without its Python: what is written for the engine, and what becomes of what it
//! says. That its losses are those of `w2s train`, `scripts/test_engine.py` holds.

use std::path::Path;

use serde_json::{Value, json};
use w2s::lm::{Adapter, Tokenizer};

use crate::cli::{Place, good, has, strs, text, w2s};
use crate::common::tiny;

/// Trains on the claims with gold labels and weights of their own.
fn train(place: &Place, out: &str, more: &[&str]) -> Vec<String> {
    let (model, data) = (tiny("llama").display().to_string(), place.path("claims.jsonl"));
    let weights = place.write(
        "weights.jsonl",
        ["a", "b", "c", "d", "e", "f"]
            .iter()
            .zip([1.0, 0.25, 2.0, 0.5, 0.75, 1.5])
            .map(|(id, weight)| format!("{{\"id\": \"{id}\", \"weight\": {weight}}}\n"))
            .collect::<String>(),
    );
    let out = place.path(out);
    let fixed = ["train", "--model", &model, "--task", "gsm8k-verification", "--data", &data];
    let more_fixed = ["--labels", "gold", "--weights", &weights, "--epochs", "2", "--batch-size"];
    let rest = ["4", "--lr", "1e-3", "--lora-r", "2", "--lora-dropout", "0", "--out", &out];
    let all = fixed.iter().chain(&more_fixed).chain(&rest).chain(more);
    all.map(|word| (*word).to_owned()).collect()
}

/// A launcher that keeps what it is given and does what an engine does, so far as `end` says.
fn launcher(place: &Place, end: &str) -> String {
    let kept = place.path("kept");
    let script =
        format!("#!/bin/sh\nset -e\nrm -rf {kept}\ncp -r \"$(dirname \"$2\")\" {kept}\n{end}\n");
    let path = place.write("launch.sh", script);
    format!("sh {path}")
}

/// The words of an engine that makes all steps of a plan, with losses that fall.
fn makes_steps(place: &Place, num: usize) -> String {
    let mut lines = "echo 'w2s: {\"begin\": {\"num_processes\": 2, \"num_done\": 0, \"versions\": {\"torch\": \"9\"}}}'\necho noise\n".to_owned();
    for step in 1..=num {
        let report = json!({ "step": { "step": step, "epoch": 0.5 * step as f64, "loss": 4.0 / step as f64,
            "grad_norm": 1.0, "lr": 1e-3, "num_items": 4, "num_tokens": 40, "num_sequence_tokens": 40 } });
        lines += &format!("echo 'w2s: {report}'\n");
    }
    // The adapter that was trained: that of another training, so that it differs from the first one.
    let other = place.path("other");
    lines += &format!(
        "mkdir -p \"$(dirname \"$2\")/output\"\ncp {other}/adapter_* \"$(dirname \"$2\")/output/\"\n"
    );
    let end =
        json!({ "end": { "step": num, "written_step": num, "best": null, "stopped": false } });
    lines + &format!("echo 'w2s: {end}'\n")
}

fn lines(place: &Place, name: &str) -> Vec<Value> {
    place.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_an_engine_learns_is_what_w2s_learns() {
    let place = Place::new();
    good(&strs(&train(&place, "other", &["--seed", "9"])));
    good(&strs(&train(&place, "own", &[])));
    let launcher = launcher(&place, &makes_steps(&place, 4));
    let args = train(&place, "engined", &["--engine", "trl", "--launcher", &launcher]);
    let said = w2s(&strs(&args));
    assert!(said.status.success(), "{}", text(&said.stderr));
    has(&text(&said.stderr), &["the engine trains in 2 processes"]);

    // Sequences: the prompt with its label and the end token, from the label on.
    let tokenizer = Tokenizer::open(&tiny("llama")).unwrap();
    let sequences = lines(&place, "kept/sequences.jsonl");
    assert_eq!(sequences.len(), 6);
    for (sequence, (question, choice, label)) in sequences.iter().zip([
        ("1+1?", "2", "True"),
        ("1+1?", "3", "False"),
        ("2+2?", "4", "True"),
        ("2+2?", "5", "False"),
        ("3+3?", "6", "True"),
        ("3+3?", "7", "False"),
    ]) {
        let prompt = format!("Question: {question}\nClaim: {choice}\nI think this claim is ");
        let ids = [tokenizer.prefix(), &tokenizer.encode(&format!("{prompt}{label}")).unwrap().ids]
            .concat();
        let learnt: Vec<u32> = serde_json::from_value(sequence["ids"].clone()).unwrap();
        assert_eq!(learnt[..learnt.len() - 1], ids, "{sequence}");
        // By the rule of scoring: the first token at which the two labels differ.
        let other = if label == "True" { "False" } else { "True" };
        let other =
            [tokenizer.prefix(), &tokenizer.encode(&format!("{prompt}{other}")).unwrap().ids]
                .concat();
        let begin = ids.iter().zip(&other).take_while(|(a, b)| a == b).count();
        assert_eq!(sequence["begin"], begin, "{sequence}");
    }
    // Steps: those of the training here, by its reports; factors by hand: weight over target tokens.
    let weights = [1.0, 0.25, 2.0, 0.5, 0.75, 1.5];
    let targets = |place: usize| {
        let ids = sequences[place]["ids"].as_array().unwrap().len() as f64;
        ids - sequences[place]["begin"].as_f64().unwrap()
    };
    let (steps, own) = (lines(&place, "kept/steps.jsonl"), lines(&place, "own/metrics.jsonl"));
    assert_eq!((steps.len(), own.len()), (4, 4));
    let mut seen = [0; 6];
    for (step, own) in steps.iter().zip(&own) {
        for name in ["step", "epoch", "lr", "num_items"] {
            assert_eq!(step[name], own[name], "{step}");
        }
        let rows: Vec<(usize, f64)> = serde_json::from_value(step["rows"].clone()).unwrap();
        let all: f64 = rows.iter().map(|(place, _)| targets(*place)).sum();
        for (place, factor) in rows {
            seen[place] += 1;
            assert!((factor - weights[place] / all).abs() < 1e-12, "{step}");
        }
    }
    assert_eq!(seen, [2; 6]);
    // It begins with the adapter that the training here begins with: B is 0.
    let config: Value = serde_json::from_str(&place.read("kept/config.json")).unwrap();
    assert_eq!(
        (&config["dropout"], &config["clip"], &config["dtype"]),
        (&json!(0.0), &json!(1.0), &json!("auto"))
    );
    assert!(Path::new(config["model"].as_str().unwrap()).is_absolute());
    let initial = Adapter::open(Path::new(&place.path("kept/initial"))).unwrap();
    for (name, tensor) in initial.tensors() {
        let largest = tensor.abs().max().double_value(&[]);
        assert_eq!(name.contains("lora_B"), largest == 0.0, "{name} {largest}");
    }

    // A run like any other.
    let same = |name: &str| {
        assert_eq!(
            place.read(&format!("engined/{name}")),
            place.read(&format!("other/{name}")),
            "{name}"
        );
    };
    same("adapter_config.json");
    let bytes =
        |run: &str| std::fs::read(place.path(&format!("{run}/adapter_model.safetensors"))).unwrap();
    assert_eq!(bytes("engined"), bytes("other"));
    let summary: Value = serde_json::from_str(&place.read("engined/summary.json")).unwrap();
    assert_eq!(
        (&summary["num_steps"], &summary["first_loss"], &summary["last_loss"]),
        (&json!(4), &json!(4.0), &json!(1.0))
    );
    assert_eq!(lines(&place, "engined/metrics.jsonl").len(), 4);
    let engine: Value = serde_json::from_str(&place.read("engined/engine.json")).unwrap();
    assert_eq!(
        (&engine["engine"], &engine["num_processes"], &engine["versions"]["torch"]),
        (&json!("trl"), &json!(2), &json!("9"))
    );
    let manifest: Value = serde_json::from_str(&place.read("engined/manifest.json")).unwrap();
    assert_eq!(
        (&manifest["settings"]["engine"], &manifest["settings"]["device"]),
        (&json!("trl"), &json!("the engine's"))
    );
    assert!(!Path::new(&place.path("engined/engine")).exists());
    good(&strs(&train(
        &place,
        "engined",
        &["--engine", "trl", "--launcher", &launcher, "--resume"],
    )));
    let data = place.path("claims.jsonl");
    let model = tiny("llama").display().to_string();
    let (adapter, zero) = (place.path("engined"), place.path("zero"));
    let label = ["label", "--model", &model, "--adapter", &adapter, "--task", "gsm8k-verification"];
    good(&[&label[..], &["--data", &data, "--method", "zero-shot", "--out", &zero]].concat());
}

/// An engine that is cut off goes on; what it told of steps that a checkpoint does not have is forgotten.
#[test]
fn an_engine_that_failed_is_gone_on_with() {
    let place = Place::new();
    good(&strs(&train(&place, "other", &[])));
    let first =
        makes_steps(&place, 4).replace("echo 'w2s: {\"end\"", "exit 7\necho 'w2s: {\"end\"");
    let begins = launcher(&place, &first);
    let args = train(&place, "run", &["--engine", "trl", "--launcher", &begins]);
    let said = text(&w2s(&strs(&args)).stderr);
    has(&said, &["the engine ended with exit status: 7", "noise", "engine/log.txt", "`--resume`"]);
    assert!(!Path::new(&place.path("run/timing.json")).exists());
    // From the checkpoint after step 3.
    let again = makes_steps(&place, 4).replace("\"num_done\": 0", "\"num_done\": 3");
    let again: String = again
        .lines()
        .filter(|line| {
            !["\"step\":1,", "\"step\":2,", "\"step\":3,"].iter().any(|step| line.contains(step))
                || line.contains("end")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    launcher(&place, &again);
    let args = train(&place, "run", &["--engine", "trl", "--launcher", &begins, "--resume"]);
    let said = text(&w2s(&strs(&args)).stderr);
    has(&said, &["continuing after step 3"]);
    let steps: Vec<Value> =
        lines(&place, "run/metrics.jsonl").iter().map(|line| line["step"].clone()).collect();
    assert_eq!(steps, [1, 2, 3, 4].map(Value::from));
}

#[test]
fn what_an_engine_lacks_is_said_before_anything_is_made() {
    let place = Place::new();
    let engine = ["--engine", "trl"];
    let bad = |more: &[&str]| {
        let output = w2s(&strs(&train(&place, "no", &[&engine[..], more].concat())));
        assert!(!output.status.success(), "{more:?}");
        text(&output.stderr)
    };
    let no_python = place.path("no-python");
    has(
        &bad(&["--python", &no_python]),
        &["cannot be started", "hint: `--python` names a Python that has torch"],
    );
    let poor = place.write(
        "poor.sh",
        "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'peft'\" >&2\nexit 1\n",
    );
    let mode = std::process::Command::new("chmod").args(["+x", &poor]).status().unwrap();
    assert!(mode.success());
    has(
        &bad(&["--python", &poor]),
        &["No module named 'peft'", "hint: install torch, transformers, peft"],
    );
    for (more, parts) in [
        (&["--full"][..], ["trains adapters, not all weights", "hint:"]),
        (&["--loss", "kl"], ["has the loss `xent` only", "hint:"]),
        (&["--threads", "1"], ["`--threads` has no effect with `--engine`", "hint:"]),
        (&["--launcher", "' "], ["`--launcher` is no command", "error:"]),
        (&["--launcher", ""], ["`--launcher` is empty", "hint:"]),
    ] {
        has(&bad(more), &parts);
    }
    assert!(!Path::new(&place.path("no")).exists());
    let output = w2s(&strs(&train(&place, "no", &["--python", "python3"])));
    has(&text(&output.stderr), &["--engine"]);
    // What the engine itself says.
    for (said, parts) in [
        (
            "echo 'w2s: {\"missing\": \"peft\"}'\nexit 3",
            ["the engine's Python has no `peft`", "hint: install"],
        ),
        (
            "echo 'w2s: {\"failed\": \"step 2: the loss is nan\"}'\nexit 4",
            ["the engine stopped: step 2: the loss is nan", "hint:"],
        ),
        ("exit 0", ["the engine ended without a result", "hint:"]),
    ] {
        let launcher = launcher(&place, said);
        let more = ["--launcher", &launcher, "--resume"];
        has(&bad(&more), &parts);
    }
}
