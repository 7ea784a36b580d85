//! `w2s train` as its users run it, on a tiny random model.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::cli::{Place, good, strs, text, w2s};
use crate::common::{project, tiny};

const FILES: [&str; 3] = ["adapter_model.safetensors", "adapter_config.json", "metrics.jsonl"];

/// A training on the six claims, short and with a rate that shows.
pub fn train(place: &Place, out: &str, more: &[&str]) -> Vec<String> {
    let model = tiny("llama").display().to_string();
    let (data, out) = (place.path("claims.jsonl"), place.path(out));
    let mut args = vec!["train", "--model", &model, "--task", "gsm8k-verification"];
    if !more.contains(&"--data") {
        args.extend(["--data", data.as_str()]);
    }
    if !more.contains(&"--labels") && !more.contains(&"--answers") {
        args.extend(["--labels", "gold"]);
    }
    args.extend(["--out", &out]);
    if !more.contains(&"--batch-size") {
        args.extend(["--batch-size", "2"]);
    }
    if !more.contains(&"--lr") {
        args.extend(["--lr", "1e-3"]);
    }
    args.extend(more);
    args.into_iter().map(str::to_owned).collect()
}

pub fn bytes(place: &Place, name: &str) -> Vec<u8> {
    std::fs::read(place.path(name)).unwrap()
}

pub fn run(place: &Place, out: &str, more: &[&str]) -> Vec<u8> {
    good(&strs(&train(place, out, more)));
    bytes(place, &format!("{out}/adapter_model.safetensors"))
}

pub fn json(place: &Place, name: &str) -> Value {
    serde_json::from_str(&place.read(name)).unwrap()
}

/// Expects the exit status and parts of the message.
pub fn fails(place: &Place, status: i32, more: &[&str], parts: &[&str]) {
    let output = w2s(&strs(&train(place, "bad", more)));
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{more:?}\n{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

/// The tensors' names and shapes, and every setting, are those that peft 0.21.2 wrote for the same
/// modules; only it knows more settings, all of them off.
#[test]
fn a_run_folder_is_an_adapter_as_peft_writes_it() {
    let place = Place::new();
    let ours = run(&place, "a", &["--lora-r", "4", "--lora-alpha", "8", "--lora-dropout", "0"]);
    let folder = tiny("llama/adapter-token");
    let theirs = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let shapes = |bytes: &[u8]| -> Vec<(String, Vec<usize>)> {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let mut all: Vec<_> =
            file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect();
        all.sort();
        all
    };
    assert_eq!(shapes(&ours), shapes(&theirs));
    let theirs: Value =
        serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap())
            .unwrap();
    let ours = json(&place, "a/adapter_config.json");
    for (key, value) in ours.as_object().unwrap() {
        if key != "base_model_name_or_path" {
            assert_eq!(theirs[key], *value, "{key}");
        }
    }
    assert_eq!(
        json(&place, "a/manifest.json")["gold_used"].as_str().unwrap().find("gold"),
        Some(15)
    );
    let card = place.read("a/README.md");
    assert!(card.contains("Gold labels had a part in it"));
    // The base model is found from anywhere, and asked as it was trained (scripts/test_card.py runs it).
    let base = std::path::absolute(tiny("llama")).unwrap().display().to_string();
    assert_eq!(ours["base_model_name_or_path"], base);
    let prompt = r#"prompt = "Question: {question}"#;
    assert!(card.contains(&format!("base = \"{base}\"")) && card.contains(prompt), "{card}");
    let a = place.path("a");
    let zero = |out, more: &[&str]| {
        good(&strs(&place.label(out, &[&["--method", "zero-shot"], more].concat())));
        place.read(&format!("{out}/labels.jsonl"))
    };
    assert_ne!(zero("plain", &[]), zero("adapted", &["--adapter", &a]));
    // What a model that saw gold says is not found without it.
    let used = json(&place, "adapted/manifest.json")["gold_used"].clone();
    assert!(used.as_str().unwrap().contains("the adapter was trained with it"), "{used}");
}

#[test]
fn the_loss_falls_and_the_same_command_gives_the_same_bytes() {
    let place = Place::new();
    let more = ["--epochs", "10", "--target-modules", "all-linear", "--lr", "5e-3"];
    let first = run(&place, "x", &more);
    assert_eq!(first, run(&place, "y", &more));
    assert_eq!(place.read("x/metrics.jsonl"), place.read("y/metrics.jsonl"));
    assert_ne!(first, run(&place, "z", &[more.as_slice(), &["--seed", "1"]].concat()));
    let summary = json(&place, "x/summary.json");
    let (first, last) = (&summary["first_loss"], &summary["last_loss"]);
    assert!(last.as_f64().unwrap() < 0.5 * first.as_f64().unwrap(), "{first} to {last}");
    let lines: Vec<Value> =
        place.read("x/metrics.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 30);
    assert_eq!(lines[29]["epoch"], 10.0);
}

#[test]
fn a_training_killed_for_real_resumes_to_the_same_bytes() {
    let place = Place::new();
    let more = [
        "--epochs",
        "60",
        "--lora-dropout",
        "0.3",
        "--validation",
        "0.34",
        "--best",
        "--target-modules",
        "all-linear",
        "--checkpoint-steps",
        "7",
    ];
    run(&place, "whole", &more);
    let args = train(&place, "killed", &[more.as_slice(), &["--resume"]].concat());
    let metrics = place.path("killed/metrics.jsonl");
    let mut num_kills = 0;
    for lines in [3, 25, 70] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(&args)
            .env("OMP_NUM_THREADS", "1")
            .current_dir(project())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        loop {
            let written = std::fs::read_to_string(&metrics).map_or(0, |t| t.lines().count());
            if written >= lines {
                child.kill().unwrap();
                num_kills += usize::from(!child.wait().unwrap().success());
                break;
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(120), "no step in two minutes");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(num_kills >= 2, "the run mostly ended before it was killed");
    let output = w2s(&strs(&args));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("continuing after step"));
    for file in FILES.iter().chain(&["summary.json"]) {
        assert_eq!(
            bytes(&place, &format!("whole/{file}")),
            bytes(&place, &format!("killed/{file}")),
            "{file}"
        );
    }
    assert!(text(&w2s(&strs(&args)).stderr).contains("is complete; nothing to do"));
}

#[test]
fn a_training_is_not_continued_with_other_settings() {
    let place = Place::new();
    run(&place, "a", &[]);
    std::fs::remove_file(place.path("a/timing.json")).unwrap();
    for (more, says) in [
        (["--lr", "2e-3"], "`train.lr` was 0.001 and is now 0.002"),
        (["--lora-r", "3"], "`lora.r` was 16 and is now 3"),
        (["--max-tokens", "99"], "`max_tokens` was 512 and is now 99"),
        (["--seed", "9"], "`seed` was 0 and is now 9"),
    ] {
        let output = w2s(&strs(&train(&place, "a", &["--resume", more[0], more[1]])));
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(message.contains("cannot be continued") && message.contains(says), "{message}");
    }
}

fn weights(place: &Place, of: &[(&str, &str)]) -> String {
    let lines: Vec<String> = of
        .iter()
        .map(|(id, weight)| format!("{{\"id\": \"{id}\", \"weight\": {weight}}}"))
        .collect();
    place.write("weights.jsonl", lines.join("\n"))
}

/// All weights 1 is no weights; weight 0 is the example's absence.
#[test]
fn weights_keep_their_laws() {
    let place = Place::new();
    let ids = ["a", "b", "c", "d", "e", "f"];
    let ones = weights(&place, &ids.map(|id| (id, "1.0")));
    let plain = run(&place, "plain", &[]);
    assert_eq!(plain, run(&place, "ones", &["--weights", &ones]));
    let zero = weights(&place, &ids.map(|id| (id, if id == "c" { "0" } else { "1" })));
    let without = run(&place, "zero", &["--weights", &zero]);
    assert_ne!(plain, without);
    let labels = place.write(
        "labels.jsonl",
        r#"{"id": "a", "label": true}
{"id": "f", "label": false}
{"id": "b", "label": false}
{"id": "e", "label": true}
{"id": "d", "label": false}"#,
    );
    assert_eq!(without, run(&place, "absent", &["--labels", &labels]));
    let half = weights(&place, &ids.map(|id| (id, if id == "c" { "0.5" } else { "1" })));
    assert_ne!(plain, run(&place, "half", &["--weights", &half]));
}

/// Labels that used no gold make a student that used none, whatever stands in the gold column.
#[test]
fn gold_has_no_part_in_a_student_of_unsupervised_labels() {
    let place = Place::new();
    good(&strs(&place.label("weak", &["--method", "zero-shot"])));
    let labels = place.path("weak/labels.jsonl");
    let student = run(&place, "student", &["--labels", &labels]);
    assert_eq!(json(&place, "student/manifest.json")["gold_used"], false);
    let flipped = place.write("flipped.jsonl", place.read("claims.jsonl").replace("true", "false"));
    assert_eq!(student, run(&place, "other", &["--labels", &labels, "--data", &flipped]));
    let soft = run(&place, "soft", &["--labels", &labels, "--soft-labels"]);
    assert_ne!(student, soft);
    let mut bytes = vec![student, soft];
    for loss in ["label-xent", "logconf", "logconf-published", "product", "kl", "entropy"] {
        let mut more = vec!["--labels", &labels, "--soft-labels", "--loss", loss];
        if loss.starts_with("logconf") {
            more.extend(["--aux-warmup", "0.5"]);
        }
        let out = run(&place, loss, &more);
        let same = bytes.contains(&out);
        // Cross-entropy and divergence have one gradient.
        assert_eq!(same, loss == "kl", "{loss}");
        bytes.push(out);
    }
}

#[test]
fn prompts_that_are_too_long_lose_their_beginning_or_are_refused() {
    let place = Place::new();
    let long = format!("{} What is 1+1?", "word ".repeat(60));
    let data = place.read("claims.jsonl").replacen("1+1?", &long, 1);
    let data = place.write("long.jsonl", data);
    let limit = ["--data", &data, "--max-tokens", "60"];
    let with = |how| [limit.as_slice(), &["--too-long", how]].concat();
    let cut = run(&place, "cut", &with("truncate"));
    assert_eq!(json(&place, "cut/summary.json")["num_truncated"], 1);
    let dropped = run(&place, "dropped", &with("drop"));
    assert_eq!(json(&place, "dropped/summary.json")["num_dropped"], 1);
    assert_ne!(cut, dropped);
    fails(&place, 1, &with("refuse"), &["example `a`", "tokens long, expected at most 60"]);
    fails(&place, 1, &["--max-tokens", "3"], &["the answer alone is longer than 3 tokens"]);
}

#[test]
fn bad_input_is_refused_with_what_is_wrong() {
    let place = Place::new();
    let ids = ["a", "b", "c", "d", "e", "f"];
    let weighed = |all: &[(&str, &str)], parts: &[&str]| {
        let file = weights(&place, all);
        fails(&place, 1, &["--weights", &file], parts);
    };
    weighed(&ids.map(|id| (id, "0")), &["every weight is zero"]);
    weighed(&[("a", "1"), ("b", "-0.5")], &["the weight of `b` is -0.5", "line 2"]);
    weighed(&[("a", "NaN")], &["not a record of this file", "line 1"]);
    weighed(&[("a", "1e999")], &["line 1"]);
    weighed(&[("a", "1"), ("zz", "1"), ("y", "1")], &["2 ids of the weights are not in", "zz, y"]);
    weighed(&[("a", "1")], &["there is no weight for answer `False` of `b`"]);
    let labels = place.write("l.csv", "id,label\na,True\nq,False\n");
    fails(&place, 1, &["--labels", &labels], &["1 ids of the labels are not in", "the first: q"]);
    let labels = place.write("m.csv", "id,label\na,maybe\n");
    fails(&place, 1, &["--labels", &labels], &["maybe"]);
    fails(
        &place,
        2,
        &["--target-modules", "query,value"],
        &[
            "match nothing in this model",
            "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
        ],
    );
    for (more, part) in [
        (["--lr", "nan"], "`--lr` is NaN"),
        (["--aux", "0.3"], "`--aux` has no effect"),
        (["--powers", "1,2"], "`--powers` has no effect"),
        (["--max-context", "30"], "`--max-context` has no effect"),
        (["--lora-dropout", "1.5"], "expected a share from 0 to 1"),
        (["--patience", "2"], "needs questions that are set aside"),
    ] {
        fails(&place, 2, &more, &[part]);
    }
    let labels = place.write("n.csv", "id,label\na,True\n");
    fails(
        &place,
        1,
        &["--labels", &labels, "--soft-labels"],
        &["`a` has no distribution of labels"],
    );
    fails(
        &place,
        2,
        &["--loss", "kl", "--normalise", "reference"],
        &["positions of a padded batch"],
    );
}

/// A whole model is written, differs from its base, repeats, and is one that commands take; what gold
/// it saw stays with it.
#[test]
fn all_weights_train_to_a_model() {
    let place = Place::new();
    let more = ["--full", "--epochs", "4", "--checkpoint-steps", "1"];
    good(&strs(&train(&place, "x", &more)));
    good(&strs(&train(&place, "y", &more)));
    let model = bytes(&place, "x/model.safetensors");
    assert_eq!(model, bytes(&place, "y/model.safetensors"));
    let base = std::fs::read(tiny("llama").join("model.safetensors")).unwrap();
    assert_ne!(model, base);
    let summary = json(&place, "x/summary.json");
    assert!(summary["last_loss"].as_f64() < summary["first_loss"].as_f64());
    let x = place.path("x");
    let args = crate::cli::with(&place.label("z", &["--method", "zero-shot"]), "--model", &x);
    good(&strs(&args));
    let used = json(&place, "z/manifest.json")["gold_used"].clone();
    assert!(used.as_str().unwrap().contains("the model was trained with it"), "{used}");
    fails(&place, 2, &["--full", "--lora-r", "4"], &["`--lora-r` has no effect with `--full`"]);
    fails(
        &place,
        2,
        &["--full", "--dtype", "f16"],
        &["all weights train in f32 or bf16, not in Half"],
    );
}

/// A run goes on from another's adapter, whose settings are kept.
#[test]
fn an_adapter_is_trained_further() {
    let place = Place::new();
    let first = run(&place, "first", &["--lora-r", "3"]);
    let adapter = place.path("first");
    let second = run(&place, "second", &["--adapter", &adapter]);
    assert_ne!(first, second);
    assert_eq!(json(&place, "second/adapter_config.json")["r"], 3);
    fails(&place, 2, &["--adapter", &adapter, "--lora-r", "4"], &["`--lora-r` has no effect"]);
}

/// A folder's name cannot write the card's head or its tables.
#[test]
fn names_stay_text_in_the_card() {
    let place = Place::new();
    let odd = place.path("m: x\n---\n| `y` |");
    std::fs::create_dir(&odd).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let from = tiny("llama").join(name);
        std::fs::copy(from, std::path::Path::new(&odd).join(name)).unwrap();
    }
    let out = place.path("t");
    let args = ["train", "--model", &odd, "--task", "gsm8k-verification", "--labels", "gold"];
    let data = place.path("claims.jsonl");
    good(&[&args[..], &["--data", &data, "--out", &out, "--lr", "1e-3"]].concat());
    let card = place.read("t/README.md");
    let lines: Vec<&str> = card.lines().collect();
    assert_eq!(lines.iter().filter(|line| **line == "---").count(), 2, "{card}");
    let base = lines[1].strip_prefix("base_model: ").unwrap();
    assert_eq!(serde_json::from_str::<String>(base).unwrap(), odd);
    assert!(card.contains("m: x --- \\| `y` \\|"), "{card}");
}
