//! Trainings on what a weak supervisor answered, as their users run them.

use serde_json::Value;

use crate::cli::{Place, good, text, w2s};
use crate::common::tiny;
use crate::train_runs::{bytes, fails, json, run};

/// Answers to variants: unread and unkept ones are left out, validation is set aside, weights join by
/// variant and answer, shared beginnings are run once.
#[test]
fn answers_to_variants_train_with_their_weights() {
    let place = Place::new();
    let prompt = "Question: 1+1? Claim: 2 I think this claim is ";
    let line = |id: &str, variant: usize, prompt: &str, answer: &str| {
        let answer = if answer.is_empty() { "null".into() } else { format!("\"{answer}\"") };
        format!(
            "{{\"id\": \"{id}\", \"variant\": {variant}, \"prompt\": \"{prompt}\", \"answer\": {answer}}}\n"
        )
    };
    let answers = [
        line("a", 0, prompt, "True"),
        line("a", 1, prompt, "False"),
        line("a", 2, prompt, ""),
        line("b", 0, prompt, "False"),
        line("c", 0, prompt, "True"),
        line("d", 0, prompt, "True"),
    ]
    .concat();
    let answers = place.write("answers.jsonl", answers);
    let kept = place.write(
        "kept.jsonl",
        r#"{"id": "a", "label": "True"}
{"id": "b", "label": "False", "split": "validation"}
{"id": "c", "label": "True", "split": "train"}
"#,
    );
    let weights = place.write(
        "w.jsonl",
        r#"{"id": "a", "variant": 0, "answer": "True", "weight": 0.7}
{"id": "a", "variant": 1, "answer": "False", "weight": 0.3}
{"id": "a", "variant": 2, "answer": null, "weight": 0}
{"id": "b", "variant": 0, "answer": "False", "weight": 1}
{"id": "c", "variant": 0, "answer": "True", "weight": 1}
"#,
    );
    run(&place, "v", &["--answers", &answers, "--labels", &kept, "--weights", &weights]);
    let summary = json(&place, "v/summary.json");
    assert_eq!((&summary["num_items"], &summary["num_validation"]), (&3.into(), &1.into()));
    assert_eq!(summary["num_unread"], 1);
    assert!(summary["validation_loss"].as_f64().unwrap() > 0.0);
    let (ran, full) = (&summary["tokens_run"], &summary["tokens_without_sharing"]);
    assert!(ran.as_u64().unwrap() < full.as_u64().unwrap() * 3 / 4, "{ran} of {full}");
    assert!(json(&place, "v/manifest.json")["gold_used"].is_string(), "answers of the user");
    // Four answers against one weigh .953 and .047 (METHODS section 4, temperature .2).
    let split = (0..5).map(|i| line("a", i, prompt, if i < 4 { "True" } else { "False" }));
    let split = place.write("split.jsonl", split.collect::<String>());
    let line = |variant: usize, weight: f64| {
        format!("{{\"id\": \"a\", \"variant\": {variant}, \"weight\": {weight}}}\n")
    };
    let (many, one) = (0.952_574_126_822_433_1, 0.047_425_873_177_566_9);
    let by_hand = (0..5).map(|i| line(i, if i < 4 { many } else { one })).collect::<String>();
    let by_hand = place.write("by_hand.jsonl", by_hand);
    let given = run(&place, "given", &["--answers", &split, "--weights", &by_hand]);
    assert_eq!(given, run(&place, "reweighted", &["--answers", &split, "--reweight"]));
    let hot = ["--answers", &split, "--reweight", "--temperature", "9"];
    assert_ne!(given, run(&place, "hot", &hot));
    let two = "{\"id\": \"a\", \"weight\": 1}\n{\"id\": \"a\", \"weight\": 2}\n{\"id\": \"c\", \"weight\": 1}\n{\"id\": \"b\", \"weight\": 1}";
    let two = place.write("two.jsonl", two);
    fails(
        &place,
        1,
        &["--answers", &answers, "--labels", &kept, "--weights", &two],
        &["of `a` has 2 different weights"],
    );
}

/// What `w2s filter` writes is what `w2s train` reads: kept labels, all variants' answers, weights.
/// Weights of the file and those made here are the same.
#[test]
fn a_filter_run_trains_a_student() {
    let place = Place::new();
    let model = tiny("llama").display().to_string();
    let data = place.write("q.jsonl", crate::filter_runs::QUESTIONS);
    let weak = place.path("weak");
    let task = ["--model", &model, "--task", "multiple-choice", "--data", &data];
    let keep = ["--keep-fraction", "0.75", "--out", &weak];
    good(&[&["filter", "--entropy"], task.as_slice(), &keep].concat());
    let file = |name: &str| place.path(&format!("weak/{name}"));
    let [answers, kept, weights] = ["answers.jsonl", "kept.jsonl", "weights.jsonl"].map(file);
    let student = |out: &str, more: &[&str]| {
        let path = place.path(out);
        let fixed = ["--out", &path, "--lr", "1e-3", "--batch-size", "5"];
        good(&[&["train"], task.as_slice(), &fixed, more].concat());
        let summary = json(&place, &format!("{out}/summary.json"));
        let manifest = json(&place, &format!("{out}/manifest.json"));
        assert_eq!(manifest["gold_used"], false, "{out}");
        (bytes(&place, &format!("{out}/adapter_model.safetensors")), summary)
    };
    let (filtered, summary) = student("filtered", &["--labels", &kept]);
    assert_eq!((&summary["num_items"], &summary["num_unlabelled"]), (&3.into(), &1.into()));
    let variants = ["--answers", &answers, "--labels", &kept];
    let (weighed, summary) =
        student("weighed", &[variants.as_slice(), &["--weights", &weights]].concat());
    assert!(summary["num_items"].as_u64().unwrap() > 6);
    let (ours, _) = student("ours", &[variants.as_slice(), &["--reweight"]].concat());
    assert_eq!(weighed, ours);
    assert_ne!(weighed, filtered);
    let soft = ["--labels", &kept, "--soft-labels", "--loss", "entropy"];
    assert_ne!(student("soft", &soft).0, filtered);
    let path = place.path("uneven");
    let uneven = ["--out", &path, "--labels", &kept, "--loss", "logconf"];
    let output = w2s(&[&["train"], task.as_slice(), &uneven].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("different numbers of labels"));
    let soft = [variants.as_slice(), &["--soft-labels", "--loss", "kl"]].concat();
    assert_ne!(student("soft-variants", &soft).0, weighed);
}

/// The weights on the lines of kept.jsonl weigh the labels, as the same numbers in a file of weights
/// do; folders stand for the files in them; dropped questions are not learnt in silence.
#[test]
fn a_filter_run_is_learnt_from_its_folder() {
    let place = Place::new();
    let model = tiny("llama").display().to_string();
    let data = place.write("q.jsonl", crate::filter_runs::QUESTIONS);
    let weak = place.path("weak");
    let task = ["--model", &model, "--task", "multiple-choice", "--data", &data];
    let keep = ["--keep-fraction", "0.5", "--out", &weak];
    good(&[&["filter", "--entropy"], task.as_slice(), &keep].concat());
    let kept = place.path("weak/kept.jsonl");
    let student = |out: &str, more: &[&str]| {
        let path = place.path(out);
        let fixed = ["--out", &path, "--lr", "1e-2", "--batch-size", "5"];
        let output = w2s(&[&["train"], task.as_slice(), &fixed, more].concat());
        let told = text(&output.stderr).to_string();
        assert!(output.status.success(), "{told}");
        (bytes(&place, &format!("{out}/adapter_model.safetensors")), told)
    };
    let line = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        format!("{}\n", serde_json::json!({ "id": row["id"], "weight": row["weight"] }))
    };
    let weights =
        place.write("w.jsonl", place.read("weak/kept.jsonl").lines().map(line).collect::<String>());
    let (by_file, _) = student("by-file", &["--labels", &kept, "--weights", &weights]);
    let (by_line, told) = student("by-line", &["--labels", &weak, "--reweight"]);
    assert_eq!(by_line, by_file);
    assert!(!told.contains("dropped by the filter"), "{told}");
    let (alike, _) = student("alike", &["--labels", &kept]);
    assert_ne!(by_line, alike);
    // Two of the four questions were dropped.
    let (_, told) = student("all", &["--answers", &weak]);
    let said = "warning: 2 of the 4 questions that are learnt were dropped by the filter";
    assert!(told.contains(said), "{told}");
    let (_, told) = student("kept", &["--answers", &weak, "--labels", &weak]);
    assert!(!told.contains("dropped by the filter"), "{told}");
    // Labels without weights have none to give.
    let bare = place.write("bare.jsonl", "{\"id\": \"q1\", \"label\": \"A\"}\n");
    let out = place.path("bad");
    let more = ["--labels", &bare, "--reweight", "--out", &out];
    let output = w2s(&[&["train"], task.as_slice(), &more].concat());
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("`q1` has no `weight` on its line") && told.contains("hint: "), "{told}");
}

/// Open answers are learnt as text.
#[test]
fn open_answers_are_learnt_as_text() {
    let place = Place::new();
    let data = place.write(
        "g.jsonl",
        "{\"id\": \"x\", \"question\": \"1+1?\", \"answer\": \"It is. #### 2\"}\n{\"id\": \"y\", \"question\": \"2+2?\", \"answer\": \"#### 4\"}\n",
    );
    let labels = place
        .write("l.jsonl", "{\"id\": \"x\", \"label\": \"2\"}\n{\"id\": \"y\", \"label\": 4}\n");
    let student = |out: &str, labels: &str| {
        let out_path = place.path(out);
        let model = tiny("llama").display().to_string();
        good(&[
            "train", "--model", &model, "--task", "gsm8k", "--data", &data, "--labels", labels,
            "--out", &out_path, "--lr", "1e-3",
        ]);
        bytes(&place, &format!("{out}/adapter_model.safetensors"))
    };
    // Gold is the number that a solution ends on.
    assert_eq!(student("given", &labels), student("gold", "gold"));
    let wrong = place
        .write("w.jsonl", "{\"id\": \"x\", \"label\": \"3\"}\n{\"id\": \"y\", \"label\": 4}\n");
    assert_ne!(student("wrong", &wrong), student("right", &labels));
}
