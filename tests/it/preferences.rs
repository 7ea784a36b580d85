//! `w2s export --format dpo` and `reward`: labels of claims about pairs become pairs, by hand.

use serde_json::{Value, json};

use crate::cli::{Place, bad, good, has, strs, text, w2s};
use crate::common::tiny;

/// A pair both ways round, one that is contradicted, one claim alone, two equal answers, one claim twice.
const CLAIMS: &str = r#"{"id": "a1", "question": "Which colour?", "choice": "Red.", "choice_2": "Blue.", "consistency_id": 1}
{"id": "a2", "question": "Which colour?", "choice": "blue.", "choice_2": "Red.", "consistency_id": 1}
{"id": "b1", "question": "How far?", "choice": "A mile", "choice_2": "A yard", "consistency_id": 2}
{"id": "b2", "question": "How far?", "choice": "A yard", "choice_2": "A mile", "consistency_id": 2}
{"id": "c", "question": "Who?", "choice": "You", "choice_2": "Me", "consistency_id": 3}
{"id": "d", "question": "Same?", "choice": "Yes  it is", "choice_2": "yes it is", "consistency_id": 4}
{"id": "e1", "question": "When?", "choice": "Now", "choice_2": "Then", "consistency_id": 5}
{"id": "e2", "question": "When?", "choice": "Now", "choice_2": "Then", "consistency_id": 6}
{"id": "f", "question": "Who else?", "choice": "You", "choice_2": "Me", "consistency_id": 7}
"#;
/// Label and margin of each.
const LABELS: [(&str, &str, f64); 9] = [
    ("a1", "True", 2.0),
    ("a2", "False", 1.0),
    ("b1", "True", 1.0),
    ("b2", "True", 3.0),
    ("c", "False", 0.5),
    ("d", "True", 1.0),
    ("e1", "True", -0.5),
    ("e2", "True", 0.25),
    ("f", "True", 4.0),
];

/// A run whose labels are those of the table.
fn run(place: &Place, task: &str) -> String {
    let (data, out) = (place.write("pairs.jsonl", CLAIMS), place.path("run"));
    let model = tiny("llama").display().to_string();
    let fixed = ["label", "--model", &model, "--task", task, "--data", &data, "--out", &out];
    good(&[&fixed[..], &["--method", "zero-shot"]].concat());
    let line = |(id, label, margin): &(&str, &str, f64)| {
        let logprobs = match *label {
            "True" => json!({ "False": -1.0 - margin, "True": -1.0 }),
            _ => json!({ "False": -1.0, "True": -1.0 - margin }),
        };
        json!({ "id": id, "label": label, "logprobs": logprobs, "margin": margin,
            "last_flip": null })
        .to_string()
    };
    let lines: Vec<String> = LABELS.iter().map(line).collect();
    place.write("run/labels.jsonl", lines.join("\n") + "\n");
    out
}

fn rows(place: &Place, name: &str) -> Vec<Value> {
    place.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn export(run: &str, format: &str, out: &str) -> Vec<String> {
    ["export", run, "--format", format, "--base-model", "org/student", "--out", out]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn claims_about_one_pair_become_one_row_by_hand() {
    let place = Place::new();
    for (task, prompt) in
        [("alpaca", "Human: {}\n\nAssistant:"), ("truthfulqa-preference", "Question: {}\nAnswer:")]
    {
        let _ = std::fs::remove_dir_all(place.path("run"));
        let run = run(&place, task);
        for format in ["dpo", "reward"] {
            let out = place.path(&format!("{task}-{format}"));
            let output = w2s(&strs(&export(&run, format, &out)));
            let said = text(&output.stderr);
            assert!(output.status.success(), "{said}");
            has(
                &said,
                &[
                    "4 pairs, 4 rows to train on, 0 to validate on",
                    "pairs with several claims, which agree (the margin is their mean): 2",
                    "pairs left out, because the claims about them contradict each other: 1",
                    "claims left out, because their two answers are the same: 1",
                ],
            );
            let row =
                |question: &str, chosen: &str, rejected: &str, margin: f64, claims: &[&str]| {
                    json!({ "id": claims[0], "prompt": prompt.replace("{}", question),
                    "chosen": format!(" {chosen}"), "rejected": format!(" {rejected}"),
                    "margin": margin, "claims": claims })
                };
            let expected = [
                // (2 + 1) / 2, (0.25 - 0.5) / 2.
                row("Which colour?", "Red.", "Blue.", 1.5, &["a1", "a2"]),
                row("Who?", "Me", "You", 0.5, &["c"]),
                row("When?", "Now", "Then", -0.125, &["e1", "e2"]),
                row("Who else?", "You", "Me", 4.0, &["f"]),
            ];
            assert_eq!(rows(&place, &format!("{task}-{format}/data/train.jsonl")), expected);
            let config = place.read(&format!("{task}-{format}/config.yaml"));
            has(
                &config,
                &["model_name_or_path: \"org/student\"", "dataset_name: data", "lora_r: 16"],
            );
            // TRL's own learning rates, unless a training says otherwise.
            assert!(
                !config.contains("learning_rate") && !config.contains("completion"),
                "{config}"
            );
            assert_eq!(config.contains("lora_task_type: SEQ_CLS"), format == "reward", "{config}");
            let readme = place.read(&format!("{task}-{format}/README.md"));
            has(&readme, &[&format!("trl {format} --config config.yaml"), "contradict each other"]);
        }
    }
}

#[test]
fn other_tasks_are_refused_and_say_which_are_not() {
    let place = Place::new();
    good(&strs(&place.label("claims", &["--method", "zero-shot"])));
    let output = w2s(&strs(&export(&place.path("claims"), "dpo", &place.path("out"))));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    has(
        &said,
        &[
            "task `gsm8k-verification` does not ask which of two answers is the better one",
            "hint: built-in tasks that do are `truthfulqa-preference` and `alpaca`",
            "[preference]",
        ],
    );
    assert!(!std::path::Path::new(&place.path("out")).exists());
}

/// A filter's rows have probabilities, weights and a part for validation.
#[test]
fn margins_and_parts_of_filtered_pairs() {
    let place = Place::new();
    let claim = |i: usize| {
        json!({ "id": format!("p{i}"), "question": format!("What is {i}?"), "choice": "A number",
            "choice_2": format!("A word of {i} letters") })
        .to_string()
    };
    let lines: Vec<String> = (0..10).map(claim).collect();
    let (data, out) = (place.write("pairs.jsonl", lines.join("\n")), place.path("run"));
    let model = tiny("llama").display().to_string();
    let alpaca = include_str!("../../data/tasks/alpaca.toml");
    let other = "Question: {question}\\nA: {choice}\\nB: {choice_2}\\nA is better than B: ";
    let task = format!("{alpaca}\n[answers]\ntemplates = [\"{other}\"]\n");
    let task = place.write("pairs.toml", task);
    let fixed = ["filter", "--entropy", "--model", &model, "--task", &task, "--data", &data];
    let more = ["--quantile", "1", "--validation-fraction", "0.4", "--answers", "soft"];
    good(&[&fixed[..], &more, &["--out", &out]].concat());
    good(&strs(&export(&out, "reward", &place.path("pairs"))));
    let kept = rows(&place, "run/kept.jsonl");
    let of = |id: &Value| kept.iter().find(|row| row["id"] == *id).unwrap();
    let (train, validation) =
        (rows(&place, "pairs/data/train.jsonl"), rows(&place, "pairs/data/validation.jsonl"));
    assert!(!validation.is_empty() && train.len() + validation.len() == 10);
    for (part, rows) in [("train", &train), ("validation", &validation)] {
        for row in rows {
            let claims = row["claims"].as_array().unwrap();
            let mean = claims.iter().map(|id| {
                let kept = of(id);
                assert_eq!(kept["split"], part, "{row}");
                let p = |label: &str| kept["distribution"][label].as_f64().unwrap().ln();
                (p("True") - p("False")).abs()
            });
            let mean = mean.sum::<f64>() / claims.len() as f64;
            assert!((row["margin"].as_f64().unwrap() - mean).abs() < 1e-9, "{row} {mean}");
        }
    }
    let config = place.read("pairs/config.yaml");
    has(&config, &["dataset_test_split: validation", "eval_strategy: epoch"]);
}

#[test]
fn a_task_file_says_what_a_preference_is() {
    let place = Place::new();
    let task = |table: &str| {
        format!(
            "name = \"better\"\ndescription = \"which is better\"\npositive = \"yes\"\n[fields]\nq = [\"q\"]\na = [\"a\"]\nb = [\"b\"]\n[prompt]\ntemplate = \"{{q}} {{a}} {{b}}: \"\n[[labels]]\nname = \"no\"\n[[labels]]\nname = \"yes\"\n[preference]\n{table}\n"
        )
    };
    for (table, parts) in [
        (
            "prompt = \"{q}\"\nanswers = [\"a\"]",
            ["`answers` takes the names of two fields", "line 16"],
        ),
        (
            "prompt = \"{q}\"\nanswers = [\"a\", \"a\"]",
            ["`answers` names one field twice", "line 16"],
        ),
        (
            "prompt = \"{q}\"\nanswers = [\"a\", \"c\"]",
            ["`c` is no field", "hint: fields are `a`, `b`, `q`"],
        ),
        ("prompt = \"{x}\"\nanswers = [\"a\", \"b\"]", ["the prompt asks for `x`", "line 15"]),
        (
            "prompt = \"{a}\"\nanswers = [\"a\", \"b\"]",
            ["the prompt shows the answer `a`", "line 15"],
        ),
        ("prompt = \"{q\"\nanswers = [\"a\", \"b\"]", ["not closed", "line 15"]),
    ] {
        let file = place.write("task.toml", task(table));
        has(&bad(&["tasks", &file]), &parts);
    }
    let file = place.write("task.toml", task("prompt = \"{q}\"\nanswers = [\"b\", \"a\"]"));
    good(&["tasks", &file]);
}
