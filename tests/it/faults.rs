//! Every change of a file, and every reply of a server, fails once or is the last before a kill; each
//! such run ends with one clean error, or goes on to the bytes of the run that nothing happened to.
//!
//! `W2S_FAULT_STRIDE=1` tries all points, as `scripts/torture` does. Without it every kind of change
//! of every file is tried at its first and its last place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::cli::text;
use crate::common::tiny;
use crate::fault::{self, Change, Kind, Runs};
use crate::server_stub::{ALL, Model, Say, Stub};

/// Runs at a time.
const WORKERS: usize = 2;

/// A command that is run in a folder of its own.
struct Case {
    name: &'static str,
    args: Vec<String>,
    /// What is in the folder before.
    given: PathBuf,
}

fn words(text: &str) -> Vec<String> {
    let model = tiny("llama").display().to_string();
    text.split_whitespace().map(|word| word.replace("MODEL", &model)).collect()
}

/// Few claims, so that a run has few changes.
fn claims(num: usize) -> String {
    let line = |i: usize| {
        let (a, right) = (1 + i / 2, i.is_multiple_of(2));
        let claimed = if right { a + 1 } else { a + 2 };
        let record = json!({ "id": format!("c{i}"), "question": format!("{a}+1?"),
            "choice": claimed.to_string(), "label": right, "consistency_id": a });
        format!("{record}\n")
    };
    (0..num).map(line).collect()
}

const RECIPE: &str = r#"
title = "t"
about = "a"
source = "s"
[[inputs]]
file = "claims.jsonl"
about = "claims"
[scale.small]
about = "tiny"
model = "MODEL"
[[steps]]
name = "data"
run = "data draw --data {data}/claims.jsonl --part test=4 --part rest=4 --group-column consistency_id"
[[steps]]
name = "labels"
run = "label --method zero-shot --model {model} --task claims --data {@data}/rest.jsonl"
[[steps]]
name = "same"
run = "label --method zero-shot --model {model} --task claims --data {@data}/rest.jsonl"
[[steps]]
name = "test"
run = "label --method zero-shot --model {model} --task claims --data {@data}/test.jsonl"
[[steps]]
name = "compare"
run = "compare --force --gold {@data}/test.jsonl --method 'zero-shot={@test}'"
"#;

impl Case {
    fn new(place: &Path, name: &'static str, args: &str) -> Self {
        let given = place.join(format!("{name}-given"));
        fs::create_dir_all(&given).unwrap();
        let write = |name: &str, text: &str| fs::write(given.join(name), text).unwrap();
        write("claims.jsonl", &claims(8));
        write("few.jsonl", &claims(4));
        write("q.jsonl", crate::filter_runs::QUESTIONS.split_inclusive('\n').next().unwrap());
        write("r.toml", &RECIPE.replace("MODEL", &tiny("llama").display().to_string()));
        Self { name, args: words(args), given }
    }

    /// A new folder with what is given.
    fn folder(&self, place: &Path, name: &str) -> PathBuf {
        let folder = place.join(format!("{}-{name}", self.name));
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(&self.given).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        folder
    }

    /// The bytes of the run that nothing happens to, and its changes.
    fn straight(&self, place: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<Change>) {
        let folder = self.folder(place, "straight");
        let output = fault::run(&folder, &self.args, None);
        assert!(output.status.success(), "{}: {}", self.name, text(&output.stderr));
        (fault::results(&folder), fault::changes(&folder))
    }

    /// Runs with a fault and without, and says what is wrong.
    fn check(
        &self,
        place: &Path,
        runs: &mut Runs,
        (kind, at): (Kind, usize),
        straight: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), String> {
        let folder = self.folder(place, &format!("{kind:?}-{at}"));
        let output = runs.run(&folder, Some((kind, at)));
        let found = judge(runs, &folder, kind, (&output, straight));
        if found.is_ok() {
            fs::remove_dir_all(&folder).unwrap();
        }
        found
    }
}

fn judge(
    runs: &mut Runs,
    folder: &Path,
    kind: Kind,
    (output, straight): (&std::process::Output, &BTreeMap<String, Vec<u8>>),
) -> Result<(), String> {
    let said = text(&output.stderr);
    match (kind, output.status.code()) {
        (Kind::Kill | Kind::Torn, Some(137)) => {}
        (Kind::Error | Kind::Full, Some(1)) => one_clean_error(&said)?,
        (Kind::Error | Kind::Full | Kind::Short, Some(0)) => same(folder, straight)?,
        (_, status) => return Err(format!("status {status:?}: {said}")),
    }
    let output = runs.run(folder, None);
    if !output.status.success() {
        return Err(format!("does not go on: {}", text(&output.stderr)));
    }
    same(folder, straight)
}

/// One error that names a file and says what to do or what the system said; no word of a bug.
fn one_clean_error(said: &str) -> Result<(), String> {
    let num = said.lines().filter(|line| line.starts_with("error: ")).count();
    let clean = num == 1 && said.contains("\n  in: `");
    if clean && !said.contains("panicked") && !said.contains("a bug in w2s") {
        return Ok(());
    }
    Err(format!("no clean error: {said}"))
}

fn same(folder: &Path, straight: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let now = fault::results(folder);
    let names = |all: &BTreeMap<String, Vec<u8>>| all.keys().cloned().collect::<BTreeSet<_>>();
    let (ours, theirs) = (names(&now), names(straight));
    if ours != theirs {
        let differ: Vec<_> = ours.symmetric_difference(&theirs).collect();
        return Err(format!("left over or missing: {differ:?}"));
    }
    match now.iter().find(|(name, bytes)| straight[*name] != **bytes) {
        Some((name, bytes)) => Err(format!(
            "`{name}` differs\n--- {}\n--- {}",
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(&straight[name])
        )),
        None => Ok(()),
    }
}

/// The points at which a case is tried: all; or without `W2S_FAULT_STRIDE` the first and the last of
/// every call on every file of a name, with one kind of fault after the other.
fn points(changes: &[Change]) -> Vec<(Kind, usize)> {
    let stride = std::env::var("W2S_FAULT_STRIDE").ok().and_then(|text| text.parse().ok());
    let kinds =
        |call: &str| Kind::ALL.into_iter().filter(|kind| kind.applies(call)).collect::<Vec<_>>();
    let mut all = Vec::new();
    if let Some(stride) = stride {
        for (index, change) in changes.iter().enumerate() {
            all.extend(kinds(&change.call).into_iter().map(|kind| (kind, index + 1)));
        }
        return all.into_iter().step_by(std::cmp::max(1, stride)).collect();
    }
    let mut places: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (index, change) in changes.iter().enumerate() {
        // Batches, rounds, steps and searches are alike.
        let path = fault::plain(&change.path);
        let path = path.rsplit('/').next().unwrap_or_default();
        let path = path.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        places.entry((change.call.clone(), path)).or_default().push(index + 1);
    }
    for (number, ((call, _), places)) in places.into_iter().enumerate() {
        let kinds = kinds(&call);
        all.push((kinds[number % kinds.len()], places[places.len() - 1]));
        if places.len() > 1 {
            all.push((kinds[(number + 1) % kinds.len()], places[0]));
        }
    }
    all.sort_by_key(|(kind, place)| (*place, *kind));
    all
}

/// Tries all points of a case, and says how many that were.
fn try_all(name: &'static str, args: &str) {
    let place = tempfile::tempdir().unwrap();
    let case = Case::new(place.path(), name, args);
    let (straight, changes) = case.straight(place.path());
    assert!(changes.len() > 10, "{name}: {changes:?}");
    let points = points(&changes);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut runs = Runs::new(&case.args);
                while let Some(&(kind, at)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(what) = case.check(place.path(), &mut runs, (kind, at), &straight) {
                        let change = &changes[at - 1];
                        let point = format!("{kind:?} at {at}, {} of {}", change.call, change.path);
                        failures.lock().unwrap().push(format!("{point}: {what}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!(
        "faults {name}: {} changes of files, {} points tried, {} failures, {:.0} s",
        changes.len(),
        points.len(),
        failures.len(),
        began.elapsed().as_secs_f64()
    );
    assert!(failures.is_empty(), "{name}: {} failures:\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn label() {
    try_all(
        "label",
        "label --resume --model MODEL --task claims --data few.jsonl --out run --num-seed 2 --iterations 2 --no-order-check --restarts 2",
    );
}

#[test]
fn filter() {
    try_all(
        "filter",
        "filter --resume --entropy --model MODEL --task multiple-choice --data q.jsonl --out run --keep-fraction 1 --do-sampling",
    );
}

#[test]
fn train() {
    try_all(
        "train",
        "train --resume --model MODEL --task claims --data few.jsonl --labels gold --out run --batch-size 2 --lr 1e-3 --epochs 2 --checkpoint-steps 2 --validation 0.5 --best",
    );
}

#[test]
fn relabel() {
    try_all(
        "relabel",
        "relabel --resume --model MODEL --task claims --data few.jsonl --labels few.jsonl --out run --by flip",
    );
}

#[test]
fn rounds() {
    try_all(
        "loop",
        "loop --resume --model MODEL --task claims --data claims.jsonl --out run --batches 2 --held-out 0.2 --threads 1 --set label.num-seed=2 --set label.iterations=1 --set label.no-order-check=true --set train.batch-size=4 --set train.epochs=1 --max-flip-rate 1 --min-class-entropy 0 --min-agreement 0",
    );
}

#[test]
fn reproduce() {
    try_all("reproduce", "reproduce r.toml --scale small --data-dir . --out run --reuse run");
}

/// The same on a server, where the store of answers is among the files.
#[test]
fn a_server() {
    let model = Model::new("llama", ALL);
    let stub = Stub::new(move |asked| model.answer(asked));
    let args = format!(
        "label --resume --model {} --task claims --data few.jsonl --limit 2 --out run --method zero-shot",
        stub.model()
    );
    try_all("server", &args);
}

/// Every reply is one time cut off, a refusal, no JSON, or what is none of a model's answers.
#[test]
fn every_reply_of_a_server() {
    let place = tempfile::tempdir().unwrap();
    // Which reply is bad, and how; none with 0.
    let fault: Arc<Mutex<(usize, usize)>> = Arc::default();
    let num = Arc::new(AtomicUsize::new(0));
    let (model, seen, count) = (Model::new("llama", ALL), Arc::clone(&fault), Arc::clone(&num));
    let stub = Stub::new(move |asked| {
        let (at, kind) = *seen.lock().unwrap();
        if count.fetch_add(1, Ordering::SeqCst) + 1 != at {
            return model.answer(asked);
        }
        match kind {
            0 => Say::Cut,
            1 => Say::Status(401, "", json!({ "error": { "message": "no" } })),
            2 => Say::Status(503, "Retry-After: 0\r\n", json!({ "error": { "message": "busy" } })),
            3 => Say::Text("<html>"),
            4 => Say::Text(""),
            5 => Say::Json(json!({})),
            _ => Say::Json(json!({ "error": { "message": "overloaded", "code": 503 } })),
        }
    });
    let args = format!(
        "label --resume --model {} --task claims --data few.jsonl --limit 2 --out run --method zero-shot --retries 1",
        stub.model()
    );
    let case = Case::new(place.path(), "replies", &args);
    let (straight, _) = case.straight(place.path());
    let replies = num.load(Ordering::SeqCst);
    let all = std::env::var("W2S_FAULT_STRIDE").is_ok_and(|text| text == "1");
    let step = if all { 1 } else { replies.div_ceil(5).max(1) };
    let (mut tried, mut failures) = (0, Vec::new());
    let mut runs = Runs::new(&case.args);
    for at in (1..=replies).step_by(step) {
        for kind in 0..7 {
            num.store(0, Ordering::SeqCst);
            *fault.lock().unwrap() = (at, kind);
            let folder = case.folder(place.path(), &format!("{at}-{kind}"));
            let output = runs.run(&folder, None);
            *fault.lock().unwrap() = (0, 0);
            tried += 1;
            let said = text(&output.stderr);
            let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
            match output.status.code() {
                Some(0) => {}
                Some(1) if errors == 1 && !said.contains("panicked") => {}
                status => failures.push(format!("reply {at}, kind {kind}: {status:?}: {said}")),
            }
            let again = runs.run(&folder, None);
            let end = match again.status.success() {
                true => same(&folder, &straight),
                false => Err(text(&again.stderr)),
            };
            if let Err(what) = end {
                failures.push(format!("reply {at}, kind {kind}: {what}"));
            }
        }
    }
    println!("faults replies: {replies} replies, {tried} faults, {} failures", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
