//! The settings that `w2s export` writes are those of a training, or what `w2s train` would take.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::{Place, bad, good, has, strs, text, w2s, with};
use crate::common::tiny;
use crate::filter_runs::filter;

const FORMATS: [&str; 3] = ["trl", "axolotl", "llama-factory"];

/// Zero-shot labels of the six claims by a tiny model.
fn labelled(place: &Place, model: &str, out: &str) -> String {
    let label = with(
        &place.label(out, &["--method", "zero-shot"]),
        "--model",
        &tiny(model).display().to_string(),
    );
    good(&strs(&label));
    place.path(out)
}

/// A training on the labels of a run.
fn trained(place: &Place, model: &str, labels: &str, out: &str, more: &[&str]) -> String {
    let (model, data) = (tiny(model).display().to_string(), place.path("claims.jsonl"));
    let (labels, out) = (format!("{labels}/labels.jsonl"), place.path(out));
    let fixed = [
        "train",
        "--model",
        &model,
        "--task",
        "gsm8k-verification",
        "--data",
        &data,
        "--labels",
        &labels,
        "--out",
        &out,
    ];
    good(&[&fixed[..], more].concat());
    out
}

fn export(place: &Place, run: &str, format: &str, out: &str, more: &[&str]) -> Vec<String> {
    let out = place.path(out);
    let fixed = ["export", run, "--format", format, "--out", &out];
    fixed.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

/// The top keys of a configuration with what stands behind them.
fn config(place: &Place, out: &str) -> BTreeMap<String, String> {
    let text = place.read(&format!("{out}/config.yaml"));
    let pairs = text.lines().filter(|line| !line.starts_with([' ', '#'])).map(|line| {
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("{line}"));
        (key.to_owned(), value.trim().to_owned())
    });
    pairs.collect()
}

#[track_caller]
fn holds(config: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(config.get(*key).map(String::as_str), Some(*value), "`{key}` of {config:#?}");
    }
}

/// Without a training the settings are what `w2s train` takes by itself, so that a training without
/// options exports the same.
#[test]
fn the_defaults_are_those_of_a_training_without_options() {
    let place = Place::new();
    for (model, modules) in [("gpt2", "c_attn"), ("phi3", "qkv_proj"), ("llama", "q_proj")] {
        let run = labelled(&place, model, &format!("{model}-run"));
        let training =
            trained(&place, model, &run, &format!("{model}-student"), &["--epochs", "3"]);
        // That the formats agree, one model shows.
        let formats = if model == "gpt2" { &FORMATS[..] } else { &FORMATS[..1] };
        for format in formats {
            let (own, given) = (format!("{model}-{format}"), format!("{model}-{format}-given"));
            let base = ["--base-model", "org/student"];
            good(&strs(&export(&place, &run, format, &own, &base)));
            let more = [&base[..], &["--training", &training]].concat();
            good(&strs(&export(&place, &run, format, &given, &more)));
            assert_eq!(config(&place, &own), config(&place, &given), "{model} {format}");
            let config = place.read(&format!("{own}/config.yaml"));
            assert!(config.contains(modules), "{config}");
            assert!(model == "llama" || !config.contains("q_proj"), "{config}");
            let readme = place.read(&format!("{own}/README.md"));
            has(
                &readme,
                &["the defaults of `w2s train`", &format!("family {model} of the run's model")],
            );
            let readme = place.read(&format!("{given}/README.md"));
            has(&readme, &["those of the training in `", "-student`"]);
        }
    }
    // A model in a folder is of its own family, whoever made the labels.
    let neox = tiny("gpt_neox").display().to_string();
    let run = place.path("llama-run");
    let output = w2s(&strs(&export(&place, &run, "axolotl", "neox", &["--base-model", &neox])));
    has(&text(&output.stderr), &["settings: the defaults of `w2s train`", "family gpt_neox of `"]);
    holds(&config(&place, "neox"), &[("lora_target_modules", "[query_key_value]")]);
}

#[test]
fn what_a_training_recorded_is_what_is_exported() {
    let place = Place::new();
    let run = labelled(&place, "llama", "run");
    let training = trained(
        &place,
        "llama",
        &run,
        "student",
        &[
            "--lora-r",
            "4",
            "--lora-alpha",
            "6.5",
            "--lora-dropout",
            "0",
            "--target-modules",
            "all-linear",
            "--rslora",
            "--lr",
            "2e-7",
            "--schedule",
            "constant",
            "--warmup-steps",
            "5",
            "--epochs",
            "2",
            "--batch-size",
            "20",
            "--weight-decay",
            "0.01",
            "--clip",
            "0",
            "--max-tokens",
            "256",
        ],
    );
    let base = ["--base-model", "org/student", "--training", &training];
    for format in FORMATS {
        good(&strs(&export(&place, &run, format, format, &base)));
        holds(
            &config(&place, format),
            &[
                ("lora_alpha", "6.5"),
                ("lora_dropout", "0.0"),
                ("learning_rate", "2.0e-7"),
                ("warmup_steps", "5"),
                ("weight_decay", "0.01"),
                ("max_grad_norm", "0.0"),
                ("gradient_accumulation_steps", "4"),
            ],
        );
    }
    // Names of transformers 4 (TrainingArguments), PEFT and the trainers' own.
    holds(
        &config(&place, "trl"),
        &[
            ("lora_r", "4"),
            ("lora_target_modules", "all-linear"),
            ("use_rslora", "true"),
            ("lr_scheduler_type", "constant_with_warmup"),
            ("num_train_epochs", "2"),
            ("per_device_train_batch_size", "5"),
            ("max_length", "256"),
        ],
    );
    holds(
        &config(&place, "axolotl"),
        &[
            ("lora_r", "4"),
            ("lora_target_linear", "true"),
            ("peft_use_rslora", "true"),
            ("lr_scheduler", "constant_with_warmup"),
            ("num_epochs", "2"),
            ("micro_batch_size", "5"),
            ("sequence_len", "256"),
        ],
    );
    holds(
        &config(&place, "llama-factory"),
        &[
            ("lora_rank", "4"),
            ("lora_target", "all"),
            ("use_rslora", "true"),
            ("lr_scheduler_type", "constant_with_warmup"),
            ("num_train_epochs", "2"),
            ("per_device_train_batch_size", "5"),
            ("cutoff_len", "256"),
        ],
    );
    // A list of one is its only entry to TRL, and a text an expression of the whole name to PEFT.
    let one =
        trained(&place, "llama", &run, "one", &["--target-modules", "o_proj", "--epochs", "1"]);
    good(&strs(&export(
        &place,
        &run,
        "trl",
        "one-trl",
        &["--base-model", "x", "--training", &one],
    )));
    holds(&config(&place, "one-trl"), &[("lora_target_modules", r#"["(.*\\.)?o_proj"]"#)]);
}

#[test]
fn what_a_trainer_cannot_be_told_is_said() {
    let place = Place::new();
    let run = labelled(&place, "llama", "run");
    let more = |training: &str| -> Vec<String> {
        ["--base-model", "x", "--training", training].map(str::to_owned).to_vec()
    };
    // All weights.
    let full = trained(&place, "llama", &run, "full", &["--full", "--epochs", "1"]);
    for format in FORMATS {
        let out = format!("full-{format}");
        good(&strs(&export(&place, &run, format, &out, &strs(&more(&full)))));
        let config = place.read(&format!("{out}/config.yaml"));
        assert!(!config.contains("lora_") && !config.contains("peft"), "{config}");
    }
    holds(&config(&place, "full-llama-factory"), &[("finetuning_type", "full")]);
    // Modules by an expression.
    let pattern = r".*layers\.0\..*q_proj";
    let some =
        trained(&place, "llama", &run, "some", &["--target-modules", pattern, "--epochs", "1"]);
    let said =
        text(&w2s(&strs(&export(&place, &run, "llama-factory", "no", &strs(&more(&some))))).stderr);
    has(&said, &["LLaMA-Factory takes names", "hint: export for TRL or axolotl"]);
    assert!(!Path::new(&place.path("no")).exists());
    good(&strs(&export(&place, &run, "axolotl", "some-axolotl", &strs(&more(&some)))));
    holds(
        &config(&place, "some-axolotl"),
        &[("lora_target_modules", r#"".*layers\\.0\\..*q_proj""#)],
    );
    // A loss of another kind.
    let kl = trained(&place, "llama", &run, "kl", &["--loss", "kl", "--epochs", "1"]);
    let said = text(&w2s(&strs(&export(&place, &run, "trl", "kl-trl", &strs(&more(&kl))))).stderr);
    has(&said, &["warning: the training minimised `kl`, and TRL knows"]);
    has(&place.read("kl-trl/README.md"), &["the training minimised `kl`"]);
    // Runs in each other's place.
    let said = bad(&strs(&export(&place, &run, "trl", "no", &strs(&more(&run)))));
    has(&said, &["a run of `w2s label` is no training", "hint: name a run of `w2s train`"]);
    let said = bad(&strs(&export(&place, &full, "trl", "no", &["--base-model", "x"])));
    has(&said, &["a run of `w2s train` has no labels", "hint: name the run with the labels"]);
    assert!(!Path::new(&place.path("no")).exists());
}

/// What is lost on the way is said, in the README and at the head of the configuration: weights, and
/// tokens that prompt and answer share. Counted by the tokenizer of the base model: the prompt `Q:` and
/// the answer ` x` are cut apart as they are together, where no token joins them.
#[test]
fn what_is_lost_is_said() {
    let place = Place::new();
    let model = tiny("llama").display().to_string();
    let run = place.path("weak");
    let more = ["--quantile", "1", "--weight-by", "soft-agreement", "--validation-fraction", "0.4"];
    good(&strs(&filter(&place, "weak", &more)));
    // Weights that differ, whatever this model's answers are.
    let mut kept: Vec<serde_json::Value> =
        place.read("weak/kept.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for (row, weight) in kept.iter_mut().zip([1.0, 0.5, 0.25, 0.75]) {
        row["weight"] = weight.into();
    }
    let lines: Vec<String> = kept.iter().map(ToString::to_string).collect();
    place.write("weak/kept.jsonl", lines.join("\n") + "\n");
    for (format, name) in [("axolotl", "axolotl"), ("llama-factory", "LLaMA-Factory")] {
        let output = w2s(&strs(&export(&place, &run, format, format, &["--base-model", "x"])));
        let apart = format!("may be lost: {name} tokenises prompt and answer apart");
        let weights = format!("lost: the weights became sampling weights, because {name} cannot");
        let (said, config) = (text(&output.stderr), place.read(&format!("{format}/config.yaml")));
        for text in [&said, &place.read(&format!("{format}/README.md")), &config] {
            has(text, &[&apart, &weights]);
        }
        assert!(config.starts_with("# lost: "), "{config}");
        has(&said, &["hint: `w2s train` weighs the loss"]);
        holds(&self::config(&place, format), &[("eval_strategy", "epoch")]);
        // By the tokenizer: how many.
        let counted = format!("{format}-counted");
        let output = w2s(&strs(&export(&place, &run, format, &counted, &["--base-model", &model])));
        let said = text(&output.stderr);
        let tokenizer = w2s::lm::Tokenizer::open(&tiny("llama")).unwrap();
        let ids = |text: &str| tokenizer.encode(text).unwrap().ids;
        let rows = place.read(&format!("{counted}/weighted.jsonl"));
        let num = rows.lines().filter(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let of = |name: &str| row[name].as_str().unwrap().to_owned();
            let (prompt, answer) = (of("prompt"), of("completion"));
            [ids(&prompt), ids(&answer)].concat() != ids(&[prompt, answer].concat())
        });
        match num.count() {
            0 => has(&said, &["makes the same tokens in all"]),
            _ => has(&said, &["rows have other tokens than were scored"]),
        }
    }
    // TRL cuts them as one text, and looks at the validation rows.
    let output = w2s(&strs(&export(&place, &run, "trl", "trl", &["--base-model", &model])));
    assert!(!text(&output.stderr).contains("apart"));
    holds(
        &config(&place, "trl"),
        &[
            ("dataset_name", "data"),
            ("dataset_test_split", "validation"),
            ("eval_strategy", "epoch"),
        ],
    );
    assert!(place.read("trl/data/validation.jsonl").lines().count() > 0);
}
