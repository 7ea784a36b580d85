//! The loss chart and the report on trainings.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use w2s::report::{LossChart, LossPoint, loss_curve, report};

use crate::figures::{check_layout, texts};
use crate::report::run_folder;

fn chart(num_steps: usize, loss: fn(f64) -> f64, num_validations: usize) -> LossChart {
    let point = |i: usize| {
        let done = i as f64 / num_steps as f64;
        LossPoint { step: i + 1, loss: loss(done), lr: 5e-5 * (1.0 - done) }
    };
    let every = num_steps.checked_div(num_validations).unwrap_or(0).max(1);
    LossChart {
        title: "Training: polarity, a model with a name that is rather long, student-of-mine"
            .into(),
        subtitle: "1,000 items, 100 set aside, 120 steps; LoRA r 16, alpha 32, xent loss".into(),
        points: (0..num_steps).map(point).collect(),
        validation: (1..=num_validations.min(num_steps))
            .map(|i| (i * every, loss((i * every) as f64 / num_steps as f64) + 0.01))
            .collect(),
        written_step: (num_validations > 1).then_some(every),
    }
}

#[test]
fn labels_keep_apart_whatever_the_losses() {
    let losses: [fn(f64) -> f64; 5] =
        [|x| 3.0 * (-4.0 * x).exp(), |_| 0.0, |x| 1e-5 * x, |x| 12_345.0 * x, |_| f64::NAN];
    for loss in losses {
        for (num_steps, num_validations) in [(1, 0), (1, 1), (2, 2), (30, 3), (3000, 100)] {
            check_layout(&loss_curve(&chart(num_steps, loss, num_validations)));
        }
    }
    check_layout(&loss_curve(&LossChart { title: "Nothing".into(), ..LossChart::default() }));
}

/// 40 steps of losses 40 to 1: the mean of three at the end has two, and is 1.5.
#[test]
fn the_chart_says_its_ends() {
    let points = (1..=40)
        .map(|step| LossPoint { step, loss: 41.0 - step as f64, lr: 1e-3 / step as f64 })
        .collect();
    let validation = vec![(20, 22.0), (40, 2.25)];
    let svg = loss_curve(&LossChart { points, validation, ..LossChart::default() });
    let said = texts(&svg);
    for text in ["training 1.500", "mean of 3 steps", "validation 2.250", "1e\u{2212}3", "40"] {
        assert!(said.iter().any(|said| said == text), "`{text}` is missing in {said:?}");
    }
    assert!(svg.contains("The loss of a batch goes from 40.00 to 1.000"), "{svg}");
}

/// A training of four steps with a validation, ended after 2 seconds.
fn train_folder(root: &Path, name: &str) -> PathBuf {
    let dir = root.join(name);
    fs::create_dir_all(&dir).unwrap();
    let write = |name: &str, value: Value| fs::write(dir.join(name), value.to_string()).unwrap();
    write(
        "manifest.json",
        json!({"command": "train", "seed": 0, "versions": {}, "inputs": [],
        "gold_used": "trained on the gold labels of g", "settings": {
            "task": "polarity", "model": "models/tiny/", "labels": "gold", "answers": null,
            "lora": {"r": 16, "alpha": 32.0}, "train": {"loss": "xent", "lr": 5e-5,
                "decay": "linear", "batch_size": 24, "num_epochs": 3}}}),
    );
    write(
        "summary.json",
        json!({"num_items": 1000, "num_validation": 5, "num_steps": 4, "first_loss": 2.5,
            "last_loss": 0.25, "validation_loss": 0.75, "written_step": 2, "stopped_early": false,
            "tokens_run": 4321}),
    );
    write(
        "timing.json",
        json!({"session_seconds": 3.0, "work_seconds": 2.0, "session_tokens": 3000}),
    );
    let lines = [(1, 2.5), (2, 1.0), (3, 0.5), (4, 0.25)]
        .map(|(step, loss)| json!({"step": step, "loss": loss, "lr": 5e-5}).to_string());
    let validation = json!({"step": 2, "validation_loss": 0.75}).to_string();
    let [a, b, c, d] = lines;
    fs::write(dir.join("metrics.jsonl"), [a, b, validation, c, d].join("\n") + "\n").unwrap();
    dir
}

#[test]
fn a_report_shows_trainings_without_an_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("report");
    let one = train_folder(dir.path(), "student");
    let summary = report(std::slice::from_ref(&one), None, &out).unwrap();
    let names = ["loss.svg", "loss.pdf", "loss.png", "report.md", "report.html"];
    assert_eq!(summary.files, names.map(|name| out.join(name)));
    let page = fs::read_to_string(out.join("report.md")).unwrap();
    let row = "| training | gold | LoRA r 16, alpha 32, xent loss, rate 5e-5 (linear), batch 24, \
               epochs 3 | 1,000 | 4 | 2.5000 | 0.2500 | 0.7500 | 4,321 | 1,500 |";
    assert!(page.lines().any(|line| line == row), "{page}");
    assert!(page.contains("(loss.png)") && page.starts_with("# polarity, tiny\n"), "{page}");
    let noted = |text: &str| summary.notes.iter().any(|note| note.contains(text));
    assert!(noted("used gold labels: trained on the gold"), "{:?}", summary.notes);
    assert!(noted("wrote the weights of step 2 of 4"), "{:?}", summary.notes);

    let all = [one, run_folder(dir.path(), "c", "icm", 9), train_folder(dir.path(), "other")];
    let files = report(&all, None, &out).unwrap().files;
    for name in ["accuracy.svg", "search.svg", "loss-student.svg", "loss-other.png"] {
        assert!(files.contains(&out.join(name)), "{name}: {files:?}");
    }
}

#[test]
fn a_training_without_steps_or_with_a_broken_line_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let run = train_folder(dir.path(), "student");
    let metrics = run.join("metrics.jsonl");
    for (text, line) in [("", None), ("{\"step\":1,\"loss\":1}\n{\"st", Some(2))] {
        fs::write(&metrics, text).unwrap();
        let error = report(std::slice::from_ref(&run), None, dir.path()).unwrap_err();
        assert_eq!(error.place(), Some((metrics.as_path(), line)));
    }
}
