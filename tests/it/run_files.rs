//! The life of a run folder: lock, manifest, work, results, end mark; what `--force` deletes and what
//! is copied; what a user sees of signals, bugs and closed pipes.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::{Place, bad, good, has, strs, text, w2s};
use crate::common::{project, tiny};
use crate::fault::{self, Kind};
use crate::server_stub::{ALL, of_model};
use crate::train_runs::train;

fn root(place: &Place) -> std::path::PathBuf {
    let root = place.folder.path().join("root");
    fs::create_dir_all(&root).unwrap();
    root
}

fn at(place: &Place, name: &str) -> std::path::PathBuf {
    place.folder.path().join(name)
}

/// What other commands left in the folder is of the old run's labels, so it goes with them; what the
/// user keeps there stays.
#[test]
fn force_keeps_nothing_of_another_run() {
    let place = Place::new();
    let zero = ["--method", "zero-shot"];
    good(&strs(&place.label("run", &["--restarts", "2", "--iterations", "3"])));
    let left = [
        "server.json",
        "explanation.json",
        "eval.json",
        "curve.jsonl",
        "basins.json",
        "diagnostics.json",
        "labels.jsonl.77-0.partial",
        "summary.json.partial",
    ];
    for name in left {
        place.write(&format!("run/{name}"), "{}");
    }
    place.write("run/notes.txt", "mine");
    place.write("run/restarts/0/notes.txt", "mine");
    good(&strs(&place.label("run", &[zero.as_slice(), &["--force"]].concat())));
    for name in left.iter().chain(&["trace.jsonl", "restarts/0/labels.jsonl", "restarts/1"]) {
        assert!(!at(&place, "run").join(name).exists(), "{name}");
    }
    for name in ["notes.txt", "restarts/0/notes.txt", "labels.jsonl", "timing.json"] {
        assert!(at(&place, "run").join(name).exists(), "{name}");
    }
}

#[test]
fn force_keeps_no_part_and_no_tokenizer_of_another_run() {
    let place = Place::new();
    let (data, out) = (place.path("claims.jsonl"), place.path("drawn"));
    let draw = |part: &str, more: &[&str]| {
        let fixed = ["data", "draw", "--data", &data, "--out", &out, "--part", part];
        good(&[&fixed[..], more].concat());
    };
    draw("old=4", &[]);
    draw("new=2", &["--force"]);
    assert!(!at(&place, "drawn/old.jsonl").exists() && at(&place, "drawn/new.jsonl").exists());

    let model = crate::common::copy_of("llama");
    fs::write(model.path().join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    good(&strs(&train(&place, "adapter", &[])));
    let (adapter, out) = (place.path("adapter"), place.path("merged"));
    let merge = |model: &Path, more: &[&str]| {
        let model = model.display().to_string();
        let fixed = ["merge", "--model", &model, "--adapter", &adapter, "--out", &out];
        good(&[&fixed[..], more].concat());
    };
    merge(model.path(), &[]);
    assert!(at(&place, "merged/chat_template.jinja").exists());
    merge(&tiny("llama"), &["--force"]);
    // A template of another model would be used without a word.
    assert!(!at(&place, "merged/chat_template.jinja").exists());
    assert!(at(&place, "merged/tokenizer.json").exists());
}

/// Every command: the lock first, then the manifest, the end mark after all results.
fn check_order(root: &Path, out: &str) {
    let done: Vec<(String, String)> = fault::changes(root)
        .into_iter()
        .filter_map(|change| {
            let path = fault::plain(&change.path);
            Some((change.call, path.strip_prefix(&format!("{out}/"))?.to_owned()))
        })
        .collect();
    let first = |name: &str| done.iter().position(|(_, path)| path == name).unwrap();
    let last = done.iter().position(|(call, path)| call == "rename" && path == "timing.json");
    let last = last.unwrap_or_else(|| panic!("no end mark: {done:?}"));
    assert_eq!(first("journal.jsonl"), 0, "{done:?}");
    let begun: Vec<&String> = done[..first("manifest.json")].iter().map(|(_, path)| path).collect();
    assert!(begun.iter().all(|path| *path == "journal.jsonl"), "{begun:?}");
    for (call, path) in &done[last + 1..] {
        let of_folder = call == "fsync" && path.is_empty();
        // What `w2s eval` finds of a complete run.
        let is_finding = ["eval.json", "diagnostics.json"].contains(&path.as_str());
        let is_allowed = call == "unlink" || of_folder || is_finding;
        assert!(is_allowed, "{call} of {path} after the end mark");
    }
}

#[test]
fn the_end_mark_comes_after_every_other_file() {
    let place = Place::new();
    let root = root(&place);
    let run = |args: Vec<String>, out: &str| {
        let output = fault::run(&root, &args, None);
        assert!(output.status.success(), "{args:?}\n{}", text(&output.stderr));
        check_order(&root, out);
    };
    let stub = of_model("llama", ALL);
    let model = stub.model();
    let served = |words: &[&str]| -> Vec<String> {
        words
            .iter()
            .map(|word| if *word == "MODEL" { model.clone() } else { (*word).into() })
            .collect()
    };
    let data = place.path("claims.jsonl");
    // Other texts: a test example is never a demonstration.
    let test = place.write("test.jsonl", place.read("claims.jsonl").replace('+', " + "));
    let task = "gsm8k-verification";
    run(
        served(&[
            "label",
            "--model",
            "MODEL",
            "--task",
            task,
            "--data",
            &data,
            "--out",
            "served",
            "--method",
            "zero-shot",
        ]),
        "served",
    );
    run(
        served(&[
            "relabel",
            "--model",
            "MODEL",
            "--task",
            task,
            "--data",
            &data,
            "--labels",
            "served/labels.jsonl",
            "--out",
            "again",
        ]),
        "again",
    );
    run(
        served(&[
            "eval",
            "--model",
            "MODEL",
            "--test",
            &test,
            "--gold",
            &test,
            "--task",
            task,
            "--demonstrations",
            "served/labels.jsonl",
            "--demonstration-data",
            &data,
            "--out",
            "held",
        ]),
        "held",
    );
    for out in ["served", "again"] {
        assert!(root.join(out).join("server.json").exists(), "{out}");
    }
    let mut args = train(&place, "x", &["--validation", "0.34", "--best"]);
    let out = args.iter().position(|arg| arg == "--out").unwrap();
    args[out + 1] = "trained".into();
    run(args, "trained");
}

/// Killed when all steps are made and nothing is saved yet, as by a full disk or a scheduler.
#[test]
fn a_training_killed_after_its_last_step_makes_none_again() {
    let place = Place::new();
    let root = root(&place);
    let mut args = train(&place, "x", &["--validation", "0.34", "--best", "--resume"]);
    let out = args.iter().position(|arg| arg == "--out").unwrap();
    args[out + 1] = "run".into();
    assert!(fault::run(&root, &args, None).status.success());
    let whole = fault::results(&root);
    let changes = fault::changes(&root);
    let place_of = |name: &str, call: &str| {
        let is_it =
            |c: &fault::Change| fault::plain(&c.path) == format!("run/{name}") && c.call == call;
        1 + changes.iter().rposition(is_it).unwrap()
    };
    for n in [place_of("adapter_model.safetensors", "rename"), place_of("timing.json", "rename")] {
        fs::remove_dir_all(root.join("run")).unwrap();
        assert!(!fault::run(&root, &args, Some((Kind::Kill, n))).status.success());
        let output = fault::run(&root, &args, None);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        has(&said, &["continuing after step 6"]);
        assert!(fault::results(&root) == whole);
    }
    // And one that was killed after the end mark leaves no checkpoint.
    let n = place_of("checkpoint.safetensors", "unlink");
    fs::remove_dir_all(root.join("run")).unwrap();
    assert!(!fault::run(&root, &args, Some((Kind::Kill, n))).status.success());
    assert!(root.join("run/checkpoint.safetensors").exists());
    has(&text(&fault::run(&root, &args, None).stderr), &["is complete"]);
    assert!(fault::results(&root) == whole);
}

#[test]
fn nothing_is_written_without_the_lock() {
    let place = Place::new();
    good(&strs(&place.label("run", &["--method", "zero-shot"])));
    let manifest = place.read("run/manifest.json");
    for name in ["run", "begun"] {
        fs::create_dir_all(at(&place, name)).unwrap();
        let journal = at(&place, name).join("journal.jsonl");
        let held = fs::OpenOptions::new().append(true).create(true).open(journal).unwrap();
        held.try_lock().unwrap();
        // Another seed: the manifest would be another.
        let message = bad(&strs(&place.label(
            name,
            &[
                "--method",
                "few-shot-random",
                "--seed",
                "7",
                if name == "run" { "--force" } else { "--resume" },
            ],
        )));
        has(&message, &["another process", &format!("({})", std::process::id())]);
    }
    assert_eq!(place.read("run/manifest.json"), manifest);
    assert!(at(&place, "run/labels.jsonl").exists());
    assert!(!at(&place, "begun/manifest.json").exists());
    // What was begun and not locked any more is begun again.
    good(&strs(&place.label("begun", &["--method", "zero-shot"])));
}

#[test]
fn a_file_system_without_locks_is_not_another_process() {
    let place = Place::new();
    let root = root(&place);
    let mut args = place.label("x", &["--method", "zero-shot"]);
    let out = args.iter().position(|arg| arg == "--out").unwrap();
    args[out + 1] = "run".into();
    let output = fault::run_without_locks(&root, &args);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    has(&message, &["cannot be locked", "No locks available", "hint:", "run/journal.jsonl"]);
    assert!(!message.contains("another process"), "{message}");
}

/// A link in the place of a file, or of one that is being written, is not followed.
#[test]
fn links_in_a_run_folder_are_not_followed() {
    let place = Place::new();
    let mut args = place.label("run", &["--iterations", "3"]);
    good(&strs(&args));
    place.write("victim", "safe");
    fs::remove_file(at(&place, "run/timing.json")).unwrap();
    for name in ["labels.jsonl", "trace.jsonl", "summary.json"] {
        fs::remove_file(at(&place, "run").join(name)).unwrap();
        symlink(at(&place, "victim"), at(&place, "run").join(name)).unwrap();
        symlink(at(&place, "victim"), at(&place, "run").join(format!("{name}.partial"))).unwrap();
    }
    // What seems left over in a folder that is elsewhere is none of the run's.
    fs::create_dir_all(at(&place, "elsewhere")).unwrap();
    place.write("elsewhere/trace.jsonl.partial", "safe");
    fs::create_dir_all(at(&place, "run/restarts")).unwrap();
    symlink(at(&place, "elsewhere"), at(&place, "run/restarts/0")).unwrap();
    args.push("--resume".into());
    good(&strs(&args));
    assert_eq!(place.read("victim"), "safe");
    assert_eq!(place.read("elsewhere/trace.jsonl.partial"), "safe");
    let timing: serde_json::Value = serde_json::from_str(&place.read("run/timing.json")).unwrap();
    // libtorch alone takes some tens of MB.
    let peak = timing["peak_memory_bytes"].as_u64().unwrap();
    assert!((20 << 20..64 << 30).contains(&peak) && peak.is_multiple_of(1024), "{peak}");
    assert_eq!(place.read("run/labels.jsonl").lines().count(), 6);
    assert!(!at(&place, "run/labels.jsonl").is_symlink());
    assert!(!at(&place, "run/labels.jsonl.partial").is_symlink(), "it was left over");
}

/// A run that is taken from another recipe is all of it: the searches of `--restarts` too.
#[test]
fn a_copied_run_can_be_evaluated() {
    let place = Place::new();
    let model = tiny("llama").display().to_string();
    let recipe = format!(
        r#"
title = "t"
about = "a"
source = "s"
[[inputs]]
file = "claims.jsonl"
about = "claims"
[scale.small]
about = "tiny"
model = "{model}"
[[steps]]
name = "labels"
run = "label --model {{model}} --task gsm8k-verification --data {{data}}/claims.jsonl --num-seed 4 --iterations 3 --restarts 2"
"#
    );
    let recipe = place.write("r.toml", recipe);
    let data = place.path(".");
    let run = |out: &str| {
        let out = place.path(out);
        let args = ["reproduce", &recipe, "--scale", "small", "--data-dir", &data, "--out", &out];
        let output = w2s(&args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    run("all/one");
    // What was found of a run is not the run's.
    place.write("all/one/labels/eval.json", "{}");
    has(&run("all/two"), &["it was copied"]);
    for name in
        ["restarts/0/labels.jsonl", "restarts/1/trace.jsonl", "journal.jsonl", "summary.json"]
    {
        assert_eq!(
            place.read(&format!("all/one/labels/{name}")),
            place.read(&format!("all/two/labels/{name}")),
            "{name}"
        );
    }
    assert!(!at(&place, "all/two/labels/eval.json").exists());
    let claims = place.path("claims.jsonl");
    good(&["eval", &place.path("all/two/labels"), "--gold", &claims]);
}

/// A program at work that is told to end says so, with how to go on, by the signal's own status.
#[test]
fn signals_end_every_run_with_a_word() {
    let place = Place::new();
    let slow = ["--run-all-iterations", "--iterations", "30000", "--renew-order-every", "1"];
    for (signal, name, status) in
        [("INT", "interrupted", 130), ("TERM", "terminated", 143), ("HUP", "hung up", 129)]
    {
        let out = format!("run-{signal}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(place.label(&out, &slow))
            .env("OMP_NUM_THREADS", "1")
            .current_dir(project())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while fs::read_to_string(at(&place, &out).join("journal.jsonl"))
            .map_or(0, |t| t.lines().count())
            < 2
        {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        let id = child.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success()
        );
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{said}");
        has(&said, &[name, "--resume", &out]);
        assert!(!said.contains("panicked") && !said.contains("error:"), "{said}");
    }
}

/// A bug is told once, with what is lost, where it is and where to report it; whatever thread it is in.
#[test]
fn a_bug_ends_the_program_with_one_message() {
    for kind in ["main", "thread"] {
        let output = Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(["tasks"])
            .env("W2S_REHEARSE_PANIC", kind)
            .output()
            .unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(output.status.signal().is_none());
        has(
            &message,
            &[
                "error: a bug in w2s: a rehearsed panic",
                "  in: `src/cli/ending.rs`, line ",
                "nothing is lost",
                "report it",
            ],
        );
        assert_eq!(message.matches("rehearsed").count(), 1, "{message}");
        assert!(!message.contains("panicked at") && !message.contains('\u{1b}'), "{message}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_w2s"))
        .args(["tasks"])
        .env("W2S_REHEARSE_PANIC", "guarded")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "caught: a rehearsed panic\n");
}

/// `w2s ... | head` has seen enough: no error, and what else is to be done is done.
#[test]
fn a_closed_stdout_is_no_error() {
    let place = Place::new();
    good(&strs(&place.label("run", &["--method", "zero-shot"])));
    let (run, claims) = (place.path("run"), place.path("claims.jsonl"));
    for args in [vec!["tasks"], vec!["runs", "--help"], vec!["eval", &run, "--gold", &claims]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(&args)
            .current_dir(project())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {said}");
        assert!(!said.contains("error") && !said.contains("panicked"), "{args:?}: {said}");
    }
    assert!(at(&place, "run/eval.json").exists());
}
