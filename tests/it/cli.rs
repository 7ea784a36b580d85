//! The program as its users run it: exit codes, messages, files; on a tiny random model.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::{project, tiny};

pub fn w2s(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_w2s"))
        .args(args)
        .env("OMP_NUM_THREADS", "1")
        .current_dir(project())
        .output()
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs and expects success.
pub fn good(args: &[&str]) -> String {
    let output = w2s(args);
    assert!(output.status.success(), "{args:?}\n{}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs, expects exit status 1, and returns the message.
pub fn bad(args: &[&str]) -> String {
    let output = w2s(args);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}\n{message}");
    // A run that began has said its settings before.
    assert!(message.lines().any(|line| line.starts_with("error: ")), "{message}");
    message
}

/// Runs, expects exit status 2, and returns the message.
pub fn bad_usage(args: &[&str]) -> String {
    let output = w2s(args);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}\n{message}");
    message
}

pub fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

/// Six claims with gold, short enough for the tiny model's context.
const CLAIMS: &str = r#"{"id": "a", "question": "1+1?", "choice": "2", "label": true, "consistency_id": 1}
{"id": "b", "question": "1+1?", "choice": "3", "label": 0, "consistency_id": 1}
{"id": "c", "question": "2+2?", "choice": "4", "label": 1, "consistency_id": 2}
{"id": "d", "question": "2+2?", "choice": "5", "label": false, "consistency_id": 2}
{"id": "e", "question": "3+3?", "choice": "6", "label": "True", "consistency_id": 3}
{"id": "f", "question": "3+3?", "choice": "7", "label": "false", "consistency_id": 3}
"#;

pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("claims.jsonl", CLAIMS);
        place
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        std::fs::write(self.folder.path().join(name), contents).unwrap();
        self.path(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// A label command on the claims, with more arguments.
    pub fn label(&self, out: &str, more: &[&str]) -> Vec<String> {
        let model = tiny("llama").display().to_string();
        let (data, out) = (self.path("claims.jsonl"), self.path(out));
        let fixed = ["label", "--model", &model, "--task", "gsm8k-verification", "--data", &data];
        let seeds = ["--num-seed", "4"];
        let icm = !more.contains(&"--method");
        fixed
            .iter()
            .chain(if icm { seeds.as_slice() } else { &[] })
            .chain(&["--out", out.as_str()])
            .chain(more)
            .map(|s| (*s).to_owned())
            .collect()
    }
}

pub fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// The same command with one argument's value replaced.
pub fn with(args: &[String], name: &str, value: &str) -> Vec<String> {
    let mut args = args.to_vec();
    let at = args.iter().position(|arg| arg == name).unwrap();
    args[at + 1] = value.to_owned();
    args
}

#[test]
fn label_eval_and_report_make_their_files() {
    let place = Place::new();
    let claims = place.path("claims.jsonl");
    good(&strs(&place.label("icm", &[])));
    good(&strs(&place.label("zs", &["--method", "zero-shot"])));
    good(&strs(&place.label("fs", &["--method", "few-shot", "--demonstrations", &claims])));
    let labels = place.read("icm/labels.jsonl");
    assert_eq!(labels.lines().count(), 6);
    let manifest: serde_json::Value =
        serde_json::from_str(&place.read("icm/manifest.json")).unwrap();
    assert_eq!(manifest["gold_used"], false);
    assert_eq!(manifest["settings"]["search"]["form"]["alpha"], 50.0);
    assert_eq!(manifest["settings"]["consistency"][0], "contradiction");
    let few: serde_json::Value = serde_json::from_str(&place.read("fs/manifest.json")).unwrap();
    assert!(few["gold_used"].as_str().unwrap().contains("claims.jsonl"));
    let runs = [place.path("icm"), place.path("zs"), place.path("fs")];
    let mut eval = vec!["eval", "--gold", &claims];
    eval.extend(runs.iter().map(String::as_str));
    let table = good(&eval);
    assert_eq!(table.lines().count(), 3);
    has(&table, &["accuracy", "of 6)", "labels: False"]);
    let out = place.path("report");
    let mut report = vec!["report", "--out", &out];
    report.extend(runs.iter().map(String::as_str));
    let files = good(&report);
    for name in ["accuracy.svg", "accuracy.png", "search.svg", "search.png", "report.md"] {
        has(&files, &[name]);
        assert!(Path::new(&out).join(name).metadata().unwrap().len() > 500, "{name}");
    }
}

#[test]
fn the_same_command_gives_the_same_bytes_and_another_seed_does_not() {
    let place = Place::new();
    for (out, seed) in [("x", "0"), ("y", "0"), ("z", "1")] {
        good(&strs(&place.label(out, &["--seed", seed])));
    }
    for file in ["labels.jsonl", "trace.jsonl", "summary.json"] {
        assert_eq!(place.read(&format!("x/{file}")), place.read(&format!("y/{file}")));
    }
    assert_ne!(place.read("x/trace.jsonl"), place.read("z/trace.jsonl"));
}

#[test]
fn a_finished_run_is_never_overwritten_without_being_asked() {
    let place = Place::new();
    let args = place.label("run", &[]);
    good(&strs(&args));
    let before = place.read("run/labels.jsonl");
    has(&bad(&strs(&args)), &["already holds a run", "--resume", "--force"]);
    let resumed = w2s(&strs(&place.label("run", &["--resume"])));
    assert!(text(&resumed.stderr).contains("complete; nothing to do"));
    let other = bad(&strs(&place.label("run", &["--resume", "--alpha", "20"])));
    has(&other, &["cannot be continued", "`search.form.alpha` was 50.0 and is now 20.0"]);
    assert_eq!(place.read("run/labels.jsonl"), before);
    place.write("run/notes.txt", "mine");
    good(&strs(&place.label("run", &["--force", "--seed", "5"])));
    assert_eq!(place.read("run/notes.txt"), "mine");
    // Another command's run, and a folder that is no run.
    let manifest = place.read("run/manifest.json").replace("\"label\"", "\"train\"");
    place.write("run/manifest.json", manifest);
    for flag in ["--resume", "--force"] {
        has(&bad(&strs(&place.label("run", &[flag]))), &["`w2s train`", "not of `w2s label`"]);
    }
    std::fs::create_dir(place.path("mine")).unwrap();
    place.write("mine/thesis.tex", "x");
    has(&bad(&strs(&place.label("mine", &["--force"]))), &["not empty and holds no run"]);
    assert_eq!(place.read("mine/thesis.tex"), "x");
}

#[test]
fn score_writes_one_line_a_question() {
    let place = Place::new();
    let input = place.write(
        "q.jsonl",
        "{\"id\": \"x\", \"prompt\": \"This is \", \"labels\": [\"True\", \"False\"]}\n\n\
         {\"id\": 7, \"prompt\": \"This is not\", \"labels\": [\" so\"]}\n",
    );
    let model = tiny("llama").display().to_string();
    let out = good(&["score", "--model", &model, "--input", &input]);
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["id"], &lines[1]["id"]), (2, &"x".into(), &7.into()));
    assert!(lines[0]["logprobs"]["True"].as_f64().unwrap() < 0.0);
    assert!(lines[1]["num_tokens"][" so"].as_u64().unwrap() >= 1);
    for (contents, parts) in [
        ("{\"id\": 1, \"prompt\": \"x\"}\n", ["`labels`", "line 1"]),
        ("{\"id\": 1, \"prompt\": \"x\", \"labels\": []}\n", ["empty", "line 1"]),
        ("\n{\n", ["not a question", "line 2"]),
        ("", ["no questions", "q.jsonl"]),
    ] {
        let input = place.write("q.jsonl", contents);
        has(&bad(&["score", "--model", &model, "--input", &input]), &parts);
    }
}

#[test]
fn bad_data_is_named_with_place_and_hint() {
    let place = Place::new();
    let cases: [(&str, &[&str]); 6] = [
        ("", &["file is empty", "hint:"]),
        ("{\"question\": \"q\", \"choice\": \"c\"}\n{\"question\"\n", &["line 2"]),
        (
            "{\"id\": \"a\", \"question\": \"q\", \"choice\": \"c\"}\n\
             {\"id\": \"a\", \"question\": \"q\", \"choice\": \"d\"}\n",
            &["`a`", "line 2", "line 1"],
        ),
        ("{\"question\": \"q\"}\n", &["choice", "line 1", "hint:"]),
        ("{\"question\": \"q\", \"choice\": \"c\"}\n", &["1 example", "at least 2"]),
        (
            &format!(
                "{CLAIMS}{{\"id\": \"long\", \"question\": \"{}\", \"choice\": \"c\"}}\n",
                "why ".repeat(500)
            ),
            &["`long`", "expected at most 512", "hint:"],
        ),
    ];
    for (i, (contents, parts)) in cases.iter().enumerate() {
        place.write("claims.jsonl", contents);
        has(&bad(&strs(&place.label(&format!("run{i}"), &[]))), parts);
    }
    place.write("claims.jsonl", CLAIMS);
    let missing = with(&place.label("r", &[]), "--data", &place.path("nowhere.jsonl"));
    has(&bad(&strs(&missing)), &["nowhere.jsonl", "hint:"]);
    let task = with(&place.label("r", &[]), "--task", "truthfulness");
    has(&bad(&strs(&task)), &["`truthfulness`", "truthfulqa"]);
    // An output folder that cannot be made: below a file.
    let out = place.path("claims.jsonl/run");
    has(&bad(&strs(&with(&place.label("r", &[]), "--out", &out))), &["run folder", &out]);
    // A label that the task does not know, and too few demonstrations.
    let gold = place.write("gold.jsonl", "{\"id\": \"a\", \"label\": \"maybe\"}\n");
    good(&strs(&place.label("done", &[])));
    has(&bad(&["eval", "--gold", &gold, &place.path("done")]), &["maybe", "line 1", "True"]);
    let few = ["--method", "few-shot", "--demonstrations", &gold];
    has(&bad(&strs(&place.label("few", &few))), &["maybe", "line 1"]);
    place.write("gold.jsonl", "{\"id\": \"a\", \"label\": \"True\"}\n");
    has(&bad(&strs(&place.label("few", &few))), &["1 labelled", "two or more"]);
    place.write("gold.jsonl", "{\"id\": \"zz\", \"label\": \"True\"}\n");
    has(&bad(&["eval", "--gold", &gold, &place.path("done")]), &["gold", "hint:"]);
}

#[test]
fn bad_models_are_named_with_place_and_hint() {
    let place = Place::new();
    let run = |folder: &Path, parts: &[&str]| {
        let model = folder.display().to_string();
        has(&bad(&strs(&with(&place.label("r", &[]), "--model", &model))), parts);
    };
    let damaged = |change: &dyn Fn(&Path), parts: &[&str]| {
        let folder = crate::common::copy_of("llama");
        change(folder.path());
        run(folder.path(), parts);
    };
    let edit = |from: &'static str, to: &'static str| {
        move |folder: &Path| {
            let path = folder.join("config.json");
            let config = std::fs::read_to_string(&path).unwrap();
            assert!(config.contains(from), "{config}");
            std::fs::write(&path, config.replace(from, to)).unwrap();
        }
    };
    let remove =
        |name: &'static str| move |folder: &Path| std::fs::remove_file(folder.join(name)).unwrap();
    let weights = "model.safetensors";
    damaged(&remove(weights), &["weight file is missing", weights, "hint:"]);
    damaged(&remove("config.json"), &["configuration", "config.json", "hint:"]);
    damaged(&remove("tokenizer.json"), &["tokenizer", "tokenizer.json", "hint:"]);
    let cut = |len: usize| {
        move |folder: &Path| {
            let bytes = std::fs::read(folder.join(weights)).unwrap();
            std::fs::write(folder.join(weights), &bytes[..len.min(bytes.len() - 1)]).unwrap();
        }
    };
    for len in [0, 5, 100, 300_000] {
        damaged(&cut(len), &["not a complete safetensors file", weights, "hint:"]);
    }
    // A header that claims to be longer than the file.
    damaged(
        &|folder| std::fs::write(folder.join(weights), u64::MAX.to_le_bytes()).unwrap(),
        &["not a complete safetensors file"],
    );
    damaged(&edit("\"llama\"", "\"mamba\""), &["`mamba` is not supported", "supported families"]);
    damaged(
        &edit("\"rope_type\": \"default\"", "\"rope_type\": \"yarn\""),
        &["`rope_type` is `yarn`", "config.json"],
    );
    damaged(
        &edit("\"mlp_bias\"", "\"attn_logit_softcapping\": 50.0, \"mlp_bias\""),
        &["`attn_logit_softcapping` is `50.0`", "not supported"],
    );
    damaged(&edit("\"silu\"", "\"relu2\""), &["`hidden_act` is `relu2`"]);
    damaged(
        &edit("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4"),
        &["k_proj.weight` has shape [32, 64], expected [64, 64]", "hint:"],
    );
    damaged(
        &edit("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2"),
        &["tensors have no place in the model", "model.layers.2."],
    );
    damaged(
        &edit("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4"),
        &["`model.layers.3.self_attn.q_proj.weight` is missing"],
    );
    damaged(
        &|folder| {
            let index = "{\"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\"}}";
            std::fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
            // A whole file beside it would be loaded, as by transformers.
            std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        },
        &["shard `model-00001-of-00002.safetensors` is missing"],
    );
    run(Path::new("no/such/model"), &["no such model folder", "no/such/model", "hint:"]);
}

#[test]
fn options_without_effect_are_refused() {
    let place = Place::new();
    let claims = place.path("claims.jsonl");
    let few = ["--method", "few-shot", "--demonstrations", claims.as_str()];
    let cases: [(&[&str], &str); 11] = [
        (&["--method", "zero-shot", "--alpha", "3"], "`--alpha` has no effect"),
        (&["--method", "zero-shot", "--order", "dataset"], "`--order` has no effect"),
        (&["--method", "zero-shot", "--leaf-block", "2"], "`--leaf-block` has no effect"),
        (&["--order", "dataset", "--anchors", "2"], "`--anchors` has no effect"),
        (&["--order", "dataset", "--trees", "2"], "`--trees` has no effect"),
        (&["--order", "dataset", "--leaf-block", "8"], "`--leaf-block` has no effect"),
        (&["--decay", "0.9"], "`--decay` has no effect"),
        (&["--schedule", "exp", "--beta", "2"], "`--beta` has no effect"),
        (&["--demonstrations", &claims], "`--demonstrations` has no effect"),
        (&["--consistency", "none,implication"], "excludes all other rules"),
        (&["--alpha=-1"], "expected a positive number"),
    ];
    for (more, part) in cases {
        let output = w2s(&strs(&place.label("run", more)));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        has(&text(&output.stderr), &[part]);
    }
    let both = [few.as_slice(), &["--iterations", "3"]].concat();
    assert_eq!(w2s(&strs(&place.label("run", &both))).status.code(), Some(2));
    assert!(!Path::new(&place.path("run")).exists(), "nothing is made by a refused command");
}

#[test]
fn cuda_that_is_not_there_is_said() {
    let place = Place::new();
    if tch::Cuda::is_available() {
        println!("skipped: this machine has a GPU");
        return;
    }
    has(&bad(&strs(&place.label("r", &["--device", "cuda"]))), &["CUDA cannot be used", "hint:"]);
}

/// What data say is shown by a terminal and not obeyed by it, in messages and in results.
#[test]
fn terminals_are_told_nothing_by_data() {
    let place = Place::new();
    let model = tiny("llama").display().to_string();
    let evil = "x\\u001b[2J\\u009b31m\\u202e";
    let row = format!("{{\"id\": \"{evil}\", \"prompt\": \"\", \"labels\": [\"a\", \"b\"]}}\n");
    let input = place.write("in.jsonl", row);
    let output = w2s(&["score", "--model", &model, "--input", &input]);
    let told = text(&output.stderr);
    assert!(!output.status.success() && told.contains("\\u001b[2J\\u009b31m\\u202e"), "{told}");
    let row = format!("{{\"id\": \"{evil}\", \"prompt\": \"so \", \"labels\": [\"a\", \"b\"]}}\n");
    let input = place.write("in.jsonl", row);
    let output = w2s(&["score", "--model", &model, "--input", &input]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for bytes in [&output.stdout, &output.stderr] {
        let shown = String::from_utf8(bytes.clone()).unwrap();
        let obeyed = shown.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(obeyed, None, "{shown:?}");
    }
    let read: serde_json::Value = serde_json::from_str(printed.trim()).unwrap();
    assert_eq!(read["id"], "x\u{1b}[2J\u{9b}31m\u{202e}");
}
