//! Presets and the flags of the published code: their numbers, and through the program.

use serde_json::Value;
use w2s::label::{
    Aggregate, Init, Objective, Order, OrderOptions, Preset, Schedule, ScheduleKind, ScoreForm,
};
use w2s::score::Calibration;

use crate::cli::{Place, strs, text, w2s};
use crate::search_options::json;

#[test]
fn presets_are_the_published_numbers() {
    let code = Preset::icm_code();
    let s = &code.settings;
    assert_eq!(
        s.form,
        ScoreForm { objective: Objective::LogOdds, aggregate: Aggregate::Mean, alpha: 30.0 }
    );
    let log =
        Schedule { kind: ScheduleKind::Log, initial: 10.0, last: 0.01, beta: 2.0, decay: 0.99 };
    assert_eq!(s.schedule, log);
    assert_eq!((s.num_seed, s.iterations, s.consistency_fix_iterations), (8, 3000, 10));
    assert_eq!(
        (&s.init, s.calibration, s.stop_when_stable),
        (&Init::Balanced, Calibration::None, false)
    );
    assert_eq!(
        (code.rules, code.prompt_variant, code.settings.order.num_demonstrations),
        (None, None, None)
    );
    let paper = Preset::icm_paper();
    assert_eq!(
        paper.settings.form,
        ScoreForm { objective: Objective::Logprob, aggregate: Aggregate::Mean, alpha: 50.0 }
    );
    assert_eq!(paper.settings.schedule, Schedule { kind: ScheduleKind::Paper, beta: 0.99, ..log });
    let fork = Preset::vllm_fork();
    assert_eq!((fork.settings.form.alpha, fork.settings.iterations), (1.0, 1500));
    assert_eq!(fork.settings.schedule, Schedule { beta: 4.0, ..log });
    assert_eq!((fork.rules, fork.prompt_variant), (Some(vec![]), Some("vllm-fork")));
    let neutral = Preset::neutral_fork();
    assert_eq!(
        (neutral.settings.order.num_demonstrations, neutral.prompt_variant),
        (Some(6), Some("neutral"))
    );
    let s = &neutral.settings;
    assert_eq!(
        (&s.init, s.iterations, s.consistency_fix_iterations),
        (&Init::Unbalanced, 2500, 20)
    );
    // 10 / (1 + 2 ln(1 + n)), n = 0 and 1, in iterations from 1: 10 and 4.1906.
    assert_eq!(s.schedule.temperature(1, 0), 10.0);
    assert!((s.schedule.temperature(2, 0) - 4.1906).abs() < 5e-5);
    for preset in
        [Preset::icm_paper(), Preset::icm_code(), Preset::vllm_fork(), Preset::neutral_fork()]
    {
        assert_eq!(preset.settings.order.order, Order::Dataset, "{}", preset.name);
        assert_eq!(preset.settings.calibration, Calibration::None);
        assert_eq!((preset.settings.schedule.initial, preset.settings.schedule.last), (10.0, 0.01));
        assert_eq!(preset.settings.num_seed, 8);
    }
    assert_eq!(OrderOptions::DATASET, Preset::icm_code().settings.order);
}

#[test]
fn a_published_command_runs() {
    let place = Place::new();
    let model = crate::common::tiny("llama").display().to_string();
    let (data, out) = (place.path("claims.jsonl"), place.path("run"));
    let flags = "--testbed gsm8k --alpha 20 --seed 27565976 --batch_size 6 --num_seed 4 --K 40 \
                 --consistency_fix_K 5 --initial_T 8 --final_T 0.02 --scheduler exp --decay 0.98 \
                 --max_model_len 400 --max_num_batched_tokens 256 --tensor_parallel_size 2 \
                 --gpu_memory_utilization 0.9";
    let mut args = vec!["label", "--model", &model, "--data", &data, "--out", &out];
    args.extend(flags.split_whitespace());
    let output = w2s(&args);
    let message = text(&output.stderr);
    assert!(output.status.success(), "{message}");
    for flag in ["--tensor_parallel_size", "--gpu_memory_utilization"] {
        assert!(message.contains(&format!("warning: `{flag}` has no effect")), "{message}");
    }
    let settings = json(&place, "run/manifest.json")["settings"].clone();
    let search = &settings["search"];
    assert_eq!(settings["task"], "gsm8k-verification");
    assert_eq!((&settings["batch_size"], &search["num_seed"]), (&6.into(), &4.into()));
    assert_eq!((&search["iterations"], &search["form"]["alpha"]), (&40.into(), &20.0.into()));
    assert_eq!(search["consistency_fix_iterations"], 5);
    let schedule = &search["schedule"];
    assert_eq!((&schedule["kind"], &schedule["decay"]), (&"exp".into(), &0.98.into()));
    assert_eq!((&schedule["initial"], &schedule["last"]), (&8.0.into(), &0.02.into()));
    assert_eq!((&settings["max_context"], &settings["pack_tokens"]), (&400.into(), &256.into()));
    // The exponential schedule falls by the changes that were accepted, as in the authors' code, not by
    // the iterations: replayed from the trace.
    let mut num_accepted = 0;
    let mut num_replayed = 0;
    for line in place.read("run/trace.jsonl").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let (Some(t), Some(accepted)) =
            (event["temperature"].as_f64(), event["accepted"].as_bool())
        else {
            continue;
        };
        let expected = (8.0 * 0.98_f64.powi(num_accepted)).max(0.02);
        assert!((t - expected).abs() < 1e-9, "{t} is not {expected} after {num_accepted}");
        num_replayed += 1;
        num_accepted += i32::from(accepted);
    }
    assert_eq!(num_replayed, 40);
    assert!(num_accepted > 0 && num_accepted < 40, "{num_accepted}");
}

/// What only a published code spells so takes that code's settings, not ours under its names.
#[test]
fn a_published_spelling_takes_the_published_settings() {
    let place = Place::new();
    let run = |out: &str, more: &[&str]| {
        // All settings are shown, not only those that differ from the defaults.
        let output = w2s(&[&strs(&place.label(out, more))[..], &["--verbose"]].concat());
        let message = text(&output.stderr).to_string();
        assert!(output.status.success(), "{message}");
        (json(&place, &format!("{out}/manifest.json"))["settings"].clone(), message)
    };
    let (code, message) = run("code", &["--K", "9"]);
    assert_eq!(code["preset"], "icm-code");
    let search = &code["search"];
    assert_eq!((&search["order"], &search["calibration"]), (&"dataset".into(), &"none".into()));
    assert_eq!(search["form"]["objective"], "log-odds");
    let said = "`--K` is a flag of the published code, so its settings are taken: preset icm-code";
    assert!(message.contains(said), "{message}");
    let (fork, _) = run("fork", &["--K=9", "--max_model_len", "400"]);
    assert_eq!(fork["preset"], "vllm-fork");
    let (named, message) = run("named", &["--K", "9", "--preset", "icm-paper"]);
    assert_eq!(named["preset"], "icm-paper");
    assert!(!message.contains("is a flag of the published code"), "{message}");
    // A baseline has no preset.
    let (zero, _) = run("zero", &["--method", "zero-shot", "--max_model_len", "400"]);
    assert_eq!(zero["preset"], Value::Null);
}

#[test]
fn a_preset_sets_defaults_and_options_win() {
    let place = Place::new();
    let run = |out: &str, more: &[&str]| {
        let output = w2s(&[&strs(&place.label(out, more))[..], &["--verbose"]].concat());
        let message = text(&output.stderr);
        assert!(output.status.success(), "{message}");
        (json(&place, &format!("{out}/manifest.json"))["settings"].clone(), message)
    };
    let (settings, message) = run("code", &["--preset", "icm-code", "--iterations", "30"]);
    let search = &settings["search"];
    assert_eq!((&search["form"]["alpha"], &search["iterations"]), (&30.0.into(), &30.into()));
    assert_eq!((&search["order"], &search["calibration"]), (&"dataset".into(), &"none".into()));
    // What is printed at the start says the same.
    let block = "settings (preset icm-code):";
    assert!(message.contains(block) && message.contains("objective log-odds"), "{message}");
    assert!(message.contains("alpha 30") && message.contains("iterations 30"), "{message}");
    assert!(message.lines().all(|line| !line.starts_with("  ") || line.len() < 160), "{message}");
    let options =
        ["--alpha", "7", "--calibrate", "batch", "--order", "halving", "--schedule", "exp"];
    let own = ["--preset", "icm-code", "--run-all-iterations=false", "--consistency", "none"];
    let (settings, _) = run("own", &[options.as_slice(), &own].concat());
    let search = &settings["search"];
    assert_eq!((&search["form"]["alpha"], &search["calibration"]), (&7.0.into(), &"batch".into()));
    assert_eq!((&search["order"], &search["schedule"]["kind"]), (&"halving".into(), &"exp".into()));
    assert_eq!(search["stop_when_stable"], true);
    assert_eq!(
        (&settings["preset"], &settings["consistency"]),
        (&"icm-code".into(), &Value::Array(vec![]))
    );
    let (fork, _) = run("fork", &["--preset", "vllm-fork", "--iterations", "9"]);
    assert_eq!(
        (&fork["prompt_variant"], &fork["consistency"]),
        (&"vllm-fork".into(), &Value::Array(vec![]))
    );
    let (neutral, _) = run("neutral", &["--preset", "neutral-fork", "--iterations", "9"]);
    assert_eq!(
        (&neutral["prompt_variant"], &neutral["search"]["init"]),
        (&"neutral".into(), &"unbalanced".into())
    );
    let (other, _) =
        run("other", &["--preset", "neutral-fork", "--prompt-variant", "published", "--K", "9"]);
    assert_eq!(other["prompt_variant"], "published");
    let (none, message) = run("none", &["--iterations", "9"]);
    assert_eq!((&none["preset"], &none["prompt_variant"]), (&Value::Null, &"published".into()));
    assert!(message.contains("settings:\n  seed 0, task gsm8k-verification"), "{message}");
}
