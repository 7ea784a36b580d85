//! `w2s loop` as its users run it, on a tiny random model.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{Place, good, strs, text, w2s};
use crate::common::{project, tiny};

/// Sixteen claims in eight groups; `gold` says what stands in their gold column.
pub fn claims(gold: impl Fn(bool) -> Option<Value>) -> String {
    let mut lines = String::new();
    for group in 0..8 {
        let (a, b) = (1 + group % 4, 2 + group / 4);
        for (kind, sum) in [(0, a + b), (1, a + b + 1)] {
            let mut record = serde_json::json!({ "id": format!("c{group}-{kind}"),
                "question": format!("{a}+{b}?"), "choice": sum.to_string(), "consistency_id": group });
            if let Some(gold) = gold(kind == 0) {
                record["label"] = gold;
            }
            lines += &format!("{record}\n");
        }
    }
    lines
}

/// Two rounds, short, with brakes that never act.
pub fn args(place: &Place, out: &str, more: &[&str]) -> Vec<String> {
    let model = tiny("llama").display().to_string();
    let data = place.path("data.jsonl");
    if !Path::new(&data).exists() {
        place.write("data.jsonl", claims(|right| Some(right.into())));
    }
    let out = place.path(out);
    let fixed = [
        "loop",
        "--model",
        &model,
        "--task",
        "claims",
        "--data",
        &data,
        "--out",
        &out,
        "--batches",
        "2",
        "--held-out",
        "0.2",
        "--threads",
        "1",
    ];
    let steps = [
        "label.num-seed=3",
        // One example a proposal: eight of them leave some without a label.
        "label.block=1",
        "label.iterations=8",
        "label.trees=1",
        "label.no-order-check=true",
        "train.batch-size=4",
        "train.lr=5e-3",
        "train.epochs=2",
        "train.checkpoint-steps=1",
    ];
    let brakes = ["max-flip-rate", "min-class-entropy", "min-agreement"];
    let mut all: Vec<String> = fixed.map(str::to_owned).to_vec();
    all.extend(steps.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]));
    for (brake, open) in brakes.iter().zip(["1", "0", "0"]) {
        if !more.iter().any(|arg| arg.trim_start_matches("--") == *brake) {
            all.extend([format!("--{brake}"), open.to_owned()]);
        }
    }
    all.extend(more.iter().map(|arg| (*arg).to_owned()));
    all
}

pub fn json(place: &Place, name: &str) -> Value {
    serde_json::from_str(&place.read(name)).unwrap()
}

pub fn lines(place: &Place, name: &str) -> Vec<Value> {
    place.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn labels(place: &Place, name: &str) -> BTreeMap<String, String> {
    let pair = |line: Value| {
        (line["id"].as_str().unwrap().to_owned(), line["label"].as_str().unwrap().to_owned())
    };
    lines(place, name).into_iter().map(pair).collect()
}

/// What a run found, by file: not when and how fast, nor how it was called.
pub fn results(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                walk(root, &path, out);
                continue;
            }
            if name == "timing.json" || name.starts_with("events.") || name == "manifest.json" {
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            if name == "rounds.jsonl" {
                bytes = without_seconds(&bytes);
            }
            // The card names the folders the training read.
            if name != "README.md" {
                out.insert(path.strip_prefix(root).unwrap().to_path_buf(), bytes);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(folder, folder, &mut out);
    out
}

fn without_seconds(bytes: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for line in text(bytes).lines() {
        let mut round: Value = serde_json::from_str(line).unwrap();
        assert!(round["seconds"].take().as_f64().unwrap() > 0.0);
        out += &format!("{round}\n");
    }
    out.into_bytes()
}

pub fn same(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (path, bytes) in a {
        assert!(*bytes == b[path], "{} differs", path.display());
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

const STEPS: [&str; 9] = [
    "round-0/probe",
    "round-1/label",
    "round-1/train",
    "round-1/relabel",
    "round-1/probe",
    "round-2/label",
    "round-2/train",
    "round-2/relabel",
    "round-2/probe",
];

#[test]
fn two_rounds_write_what_they_say() {
    let place = Place::new();
    let output = w2s(&strs(&args(&place, "l", &[])));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for part in ["step 1 of 9, round-0/probe: w2s label --model", "step 9 of 9", "next: w2s eval"] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    // Groups are whole, nothing is in two parts, and all of it somewhere.
    let part = |name: &str| -> Vec<String> {
        let id = |line: Value| line["id"].as_str().unwrap().to_owned();
        lines(&place, &format!("l/data/{name}.jsonl")).into_iter().map(id).collect()
    };
    let parts = ["batch-1", "batch-2", "held-out"].map(part);
    let mut all: Vec<&String> = parts.iter().flatten().collect();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), parts.iter().map(Vec::len).sum::<usize>()), (16, 16));
    for part in &parts {
        for id in part {
            let other = format!("{}{}", &id[..3], if id.ends_with('0') { 1 } else { 0 });
            assert!(part.contains(&other), "{id} is parted from {other}");
        }
    }
    let rounds = lines(&place, "l/rounds.jsonl");
    assert_eq!(rounds.len(), 2);
    assert_eq!(rounds[0]["labelled_with"], Value::Null);
    assert_eq!(rounds[1]["labelled_with"], "round-1/train");
    assert_eq!(rounds[0]["num_trained"], rounds[0]["num_labelled"]);
    let both =
        rounds[0]["num_labelled"].as_u64().unwrap() + rounds[1]["num_labelled"].as_u64().unwrap();
    assert_eq!(rounds[1]["num_trained"], both);
    let record = json(&place, "l/loop.json");
    assert_eq!(record["stopped"], Value::Null);
    assert_eq!(
        (&record["last_good_round"], &record["adapter"]),
        (&2.into(), &"round-2/train".into())
    );
    assert_eq!(record["num_labels"], both);
    // The flip rate and the agreement, counted here.
    let model = lines(&place, "l/round-2/relabel/history.jsonl");
    let contradicted = model.iter().filter(|line| line["before"] != line["model"]).count();
    assert_eq!(rounds[1]["flip_rate"], contradicted as f64 / model.len() as f64);
    assert_eq!(model.len() as u64, both);
    let [one, two] =
        [1, 2].map(|round| labels(&place, &format!("l/round-{round}/probe/labels.jsonl")));
    let as_before = one.iter().filter(|(id, label)| two[*id] == **label).count();
    assert_eq!(rounds[1]["agreement"], as_before as f64 / one.len() as f64);
    // The labels of both batches, as they were found.
    let mut found = labels(&place, "l/round-1/label/labels.jsonl");
    found.extend(labels(&place, "l/round-2/label/labels.jsonl"));
    assert_eq!(labels(&place, "l/labels.jsonl"), found);
    assert_eq!(json(&place, "l/manifest.json")["gold_used"], false);
    assert_eq!(json(&place, "l/round-2/train/manifest.json")["gold_used"], false);

    // Evaluated and drawn.
    let data = place.path("data.jsonl");
    let table = good(&["eval", &place.path("l"), "--gold", &data]);
    assert_eq!(table.lines().count(), 4, "{table}");
    let evaluation = json(&place, "l/eval.json");
    let right = |id: &str, label: &str| id.ends_with('0') == (label == "True");
    let num = one.iter().filter(|(id, label)| right(id, label)).count();
    assert_eq!(evaluation["rounds"][1]["held_out"]["num_correct"], num);
    let num = found.iter().filter(|(id, label)| right(id, label)).count();
    assert_eq!(evaluation["labels"]["num_correct"], num);
    let files = good(&["report", &place.path("l"), "--out", &place.path("report")]);
    assert!(files.contains("loop.svg") && files.contains("loop.png"), "{files}");
    assert!(place.read("report/report.md").contains("## Rounds of loop"));

    // What is complete is left alone, and no other loop continues it.
    let again = w2s(&strs(&args(&place, "l", &["--resume"])));
    assert!(text(&again.stderr).contains("complete; nothing to do"));
    for (more, part) in [
        (vec![], "already holds a run"),
        (vec!["--resume", "--set", "train.lr=1e-3"], "cannot be continued: `train_options`"),
        (vec!["--resume", "--seed", "1"], "cannot be continued"),
    ] {
        let output = w2s(&strs(&args(&place, "l", &more)));
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    let before = results(Path::new(&place.path("l")));
    place.write("l/round-1/notes.txt", "mine");
    good(&strs(&args(&place, "l", &["--force", "--batches", "1"])));
    assert_eq!(place.read("l/round-1/notes.txt"), "mine");
    assert!(!Path::new(&place.path("l/round-2")).exists());
    assert_ne!(before, results(Path::new(&place.path("l"))));
}

/// Each step of a loop, typed by hand in a process of its own, gives the bytes of the one process.
#[test]
fn a_step_by_itself_gives_the_bytes_of_the_loop() {
    let place = Place::new();
    good(&strs(&args(
        &place,
        "l",
        &["--reweight", "--filter", "--relabel", "flip", "--relabel-margin=0"],
    )));
    let (looped, by_hand) = (place.path("l"), place.path("h"));
    copy(Path::new(&format!("{looped}/data")), Path::new(&format!("{by_hand}/data")));
    let mut steps = STEPS.to_vec();
    steps.insert(2, "round-1/filter");
    steps.insert(7, "round-2/filter");
    for step in steps {
        let manifest = json(&place, &format!("l/{step}/manifest.json"));
        let words: Vec<String> = manifest["command_line"]
            .as_array()
            .unwrap()
            .iter()
            .skip(1)
            .map(|word| word.as_str().unwrap().replace(&looped, &by_hand))
            .collect();
        good(&strs(&words));
        same(
            &results(Path::new(&format!("{looped}/{step}"))),
            &results(Path::new(&format!("{by_hand}/{step}"))),
        );
    }
}

/// A kill leaves whole steps, and of one any prefix of its journal or of its metrics.
#[test]
fn a_loop_resumes_from_every_step_and_from_within() {
    let place = Place::new();
    good(&strs(&args(&place, "l", &[])));
    let [folder, whole] = ["l", "whole"].map(|name| PathBuf::from(place.path(name)));
    fs::rename(&folder, &whole).unwrap();
    let expected = results(&whole);
    for (index, step) in STEPS.iter().enumerate() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(whole.join("manifest.json"), folder.join("manifest.json")).unwrap();
        for done in &STEPS[..index] {
            copy(&whole.join(done), &folder.join(done));
        }
        // Every other step begins anew; of the rest a part was done.
        if index % 2 == 1 || step.ends_with("train") {
            let (from, to) = (whole.join(step), folder.join(step));
            fs::create_dir_all(&to).unwrap();
            fs::copy(from.join("manifest.json"), to.join("manifest.json")).unwrap();
            for name in ["journal.jsonl", "metrics.jsonl"] {
                let Ok(bytes) = fs::read(from.join(name)) else { continue };
                fs::write(to.join(name), &bytes[..bytes.len() / 2]).unwrap();
            }
            fs::write(to.join("labels.jsonl.partial"), "{").unwrap();
        }
        // A loop that was killed while it wrote what its rounds came to.
        if index > 5 {
            fs::write(folder.join("rounds.jsonl.partial"), "{\"ro").unwrap();
        }
        let output = w2s(&strs(&args(&place, "l", &["--resume"])));
        assert!(output.status.success(), "{step}: {}", text(&output.stderr));
        let said = text(&output.stderr);
        assert_eq!(said.matches(": complete\n").count(), index, "{step}: {said}");
        let mut found = results(&folder);
        found.retain(|path, _| path.extension().is_none_or(|end| end != "partial"));
        same(&expected, &found);
    }
}

#[test]
fn a_loop_killed_for_real_resumes_to_the_same_bytes() {
    let place = Place::new();
    let longer = [
        "--set",
        "train.epochs=12",
        "--set",
        "label.iterations=30",
        "--set",
        "label.run-all-iterations=true",
    ];
    let args = args(&place, "l", &[longer.as_slice(), &["--resume"]].concat());
    good(&strs(&args));
    let [folder, whole] = ["l", "whole"].map(|name| PathBuf::from(place.path(name)));
    fs::rename(&folder, &whole).unwrap();
    let mut num_kills = 0;
    for (file, lines) in [
        ("round-1/label/journal.jsonl", 3),
        ("round-1/train/metrics.jsonl", 5),
        ("round-2/label/journal.jsonl", 3),
        ("round-2/train/metrics.jsonl", 8),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(&args)
            .env("OMP_NUM_THREADS", "1")
            .current_dir(project())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        loop {
            let written = fs::read_to_string(folder.join(file)).map_or(0, |t| t.lines().count());
            if written >= lines {
                // SIGKILL: no handler, no clean-up.
                child.kill().unwrap();
                num_kills += usize::from(!child.wait().unwrap().success());
                break;
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(300), "nothing in five minutes");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(num_kills >= 3, "the loop mostly ended before it was killed");
    good(&strs(&args));
    same(&results(&whole), &results(&folder));
}

#[test]
fn a_recipe_is_checked_by_file_and_line() {
    let place = Place::new();
    let typed = args(&place, "l", &[]);
    let model = tiny("llama").display().to_string();
    let data = place.path("data.jsonl");
    let fixed = format!("model = {model:?}\ntask = \"claims\"\ndata = {data:?}\n");
    let out = place.path("r");
    let run = |recipe: &str, more: &[&str]| {
        let path = place.write("recipe.toml", format!("{fixed}{recipe}"));
        w2s(&[&["loop", &path, "--out", &out], more].concat())
    };
    for (recipe, line, part) in [
        ("batchs = 2\n", Some(4), "`w2s loop` has no option `--batchs`"),
        ("batches = 0\n", Some(4), "invalid value"),
        ("held-out = \"much\"\n", Some(4), "invalid value"),
        ("filter = 3\n", Some(4), "expected true or false"),
        ("resume = true\n", Some(4), "`resume`"),
        ("\n[lable]\nalpha = 3\n", Some(5), "no table [lable]"),
        ("\n[label]\n\nalhpa = 3\n", Some(7), "`w2s label` has no option `--alhpa`"),
        ("\n[label]\nalpha = \"high\"\n", Some(6), "invalid value"),
        ("\n[label]\ninit = \"golden\"\n", Some(6), "gold"),
        ("\n[label]\ngold = \"x\"\n", Some(6), "`gold`"),
        ("\n[train]\nmodel = \"x\"\n", Some(6), "`model`"),
        ("\n[train]\nlr = [1, 2]\nschedule = \"steep\"\n", None, "invalid value"),
        ("\n[filter]\nquantile = 0.5\n", None, "no effect without `filter`"),
        ("batches = \n", Some(4), ""),
        ("max-flip-rate = 2.0\n", None, "`--max-flip-rate` is 2"),
        ("relabel-margin = 2.0\n", None, "`--relabel-margin` has no effect"),
    ] {
        let output = run(recipe, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{recipe}\n{said}");
        assert!(said.contains(part), "{recipe}: `{part}` is not in:\n{said}");
        if let Some(line) = line {
            assert!(said.contains(&format!("recipe.toml`, line {line}")), "{recipe}\n{said}");
        }
    }
    for (more, part) in [
        (["--set", "label.alhpa=3"], "alhpa"),
        (["--set", "alpha=3"], "TABLE.OPTION=VALUE"),
        (["--set", "train.labels=x"], "`labels`"),
    ] {
        let output = run("", &more);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    assert!(!Path::new(&out).exists(), "nothing is made by a refused command");
    let missing = w2s(&["loop", "--out", &out]);
    assert!(text(&missing.stderr).contains("`--model` is missing"));

    // A recipe and its flags are one; what is typed goes before.
    let recipe = "batches = 5\nheld-out = 0.2\nthreads = 1\nmax-flip-rate = 1\nmin-class-entropy = 0\n\
        min-agreement = 0\n[label]\nnum-seed = 3\nblock = 1\niterations = 8\ntrees = 1\nno-order-check = true\n\
        [train]\nbatch-size = 4\nlr = 5e-3\nepochs = 2\ncheckpoint-steps = 1\n";
    let output = run(recipe, &["--batches", "2"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    good(&strs(&typed));
    same(&results(Path::new(&out)), &results(Path::new(&place.path("l"))));
}
