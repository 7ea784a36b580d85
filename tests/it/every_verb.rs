//! Every verb on tiny models: the files of its run folders and what it prints are what they were.
//!
//! `tests/data/every_verb.txt` has a line a file, and a digest where its text says the same on every
//! processor once numbers with fractions, digests of such files, times and ports are taken out. The texts themselves lie in
//! `target/tmp/every_verb` after a run, to be compared with those of another state of the code.
//! `W2S_RENEW_VERBS=1` renews the table after an intended change.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::common::{project, tiny};
use crate::filter_runs::QUESTIONS;
use crate::server_stub::{self, ALL, Say, Stub, of_model};

/// What is run in turn; `MODEL` and `CHAT` stand for served models. Each name is one of what is printed.
const LINES: [(&str, &str); 29] = [
    ("draw", "data draw --data claims.jsonl --part few=4 --part rest=12 --out drawn --seed 3"),
    (
        "icm",
        "label --model model --task claims --data claims.jsonl --num-seed 4 --iterations 12 --out icm",
    ),
    (
        "icm-restarts",
        "label --model model --task claims --data claims.jsonl --preset icm-code --num-seed 3 \
            --iterations 5 --restarts 2 --batch-size 8 --out restarts",
    ),
    (
        "again",
        "label --model model --task claims --data claims.jsonl --num-seed 4 --iterations 12 --out icm --resume",
    ),
    (
        "zero-shot",
        "label --model model --task claims --data claims.jsonl --method zero-shot --out zero",
    ),
    (
        "few-shot",
        "label --model model --task claims --data drawn/rest.jsonl --method few-shot --demonstrations \
            claims.jsonl --out few",
    ),
    (
        "many-shot",
        "label --model model --task claims --data claims.jsonl --method few-shot-gold \
            --num-demonstrations 3 --out many",
    ),
    (
        "bootstrap",
        "label --model model --task claims --data claims.jsonl --method bootstrap --rounds 2 \
            --batch-size 8 --out bootstrap",
    ),
    (
        "served",
        "label --model MODEL --task claims --data claims.jsonl --method zero-shot --out served",
    ),
    (
        "filter",
        "filter --entropy --model model --task multiple-choice --data questions.jsonl --out filtered",
    ),
    (
        "filter-again",
        "filter --entropy --from filtered/answers.jsonl --keep-fraction 0.5 --do-sampling \
            --validation-fraction 0.5 --task multiple-choice --data questions.jsonl --out refiltered",
    ),
    (
        "relabel",
        "relabel --model model --task claims --data claims.jsonl --labels icm/labels.jsonl --by drop --margin 0.1 \
            --out relabelled",
    ),
    ("score", "score --model model --input prompts.jsonl"),
    (
        "train",
        "train --model model --task claims --data claims.jsonl --labels icm --validation 0.25 --best \
            --batch-size 4 --lr 1e-3 --epochs 2 --memory 1G --out trained",
    ),
    (
        "train-answers",
        "train --model model --task multiple-choice --data questions.jsonl --answers filtered --reweight \
            --loss logconf --batch-size 4 --epochs 1 --memory 1G --out reweighted",
    ),
    (
        "train-full",
        "train --model model --task claims --data claims.jsonl --labels gold --full --batch-size 8 \
            --epochs 1 --memory 1G --out full",
    ),
    ("merge", "merge --model model --adapter trained --out merged"),
    (
        "loop",
        "loop loop.toml --filter --model model --task claims --data claims.jsonl --out loop --set label.iterations=8",
    ),
    (
        "held-out",
        "eval --model model --task claims --test test.jsonl --gold test.jsonl --demonstrations \
            icm/labels.jsonl --demonstration-data claims.jsonl --out held",
    ),
    ("eval", "eval icm restarts zero many --gold claims.jsonl --per-label --basins basins.json"),
    ("eval-weak", "eval filtered --gold questions.jsonl --export-csv weak.csv"),
    ("eval-loop", "eval loop --gold claims.jsonl"),
    (
        "compare",
        "compare --method icm=icm --method zero=zero --weak zero --ceiling many --gold claims.jsonl \
            --resamples 200 --out compared",
    ),
    ("report", "report icm zero trained loop --gold claims.jsonl --out report"),
    ("explain", "explain zero --model CHAT --num-examples 2 --max-new-tokens 8"),
    (
        "export",
        "export icm --format llama-factory --base-model model --training trained --data claims.jsonl \
            --out exported",
    ),
    ("audit", "audit draw icm --guarantee 0.4@0.6 --budget 5 --share 0.5 --error-rate 0.2"),
    ("plan", "plan recipe.toml --scale small --data-dir . --measure 0"),
    ("reproduce", "reproduce recipe.toml --scale small --data-dir . --out reproduced"),
];

const RECIPE: &str = r#"
title = "A recipe"
about = "two steps"
source = "nowhere"
[[inputs]]
file = "claims.jsonl"
about = "claims"
[scale.small]
about = "tiny"
model = "model"
[[steps]]
name = "labels"
run = "label --model {model} --task claims --data {data}/claims.jsonl --method zero-shot"
[[steps]]
name = "student"
run = "train --model {model} --task claims --data {data}/claims.jsonl --labels {@labels} --epochs 1 --batch-size 8 --memory 1G"
"#;

const LOOP: &str = r#"
batches = 2
memory = "1G"
held-out = 0.2
relabel = "drop"
relabel-margin = 0.2
max-flip-rate = 1
min-class-entropy = 0
min-agreement = 0
[label]
num-seed = 3
trees = 1
[filter]
keep-fraction = 0.75
[train]
batch-size = 4
epochs = 1
"#;

/// Sixteen claims in eight groups, with gold.
fn claims(first: usize) -> String {
    let mut lines = String::new();
    for group in first..first + 8 {
        let (a, b) = (1 + group % 4, 2 + group / 4);
        for (kind, sum) in [(0, a + b), (1, a + b + 1)] {
            let record = json!({ "id": format!("c{group}-{kind}"),
                "question": format!("{a}+{b}?"), "choice": sum.to_string(),
                "consistency_id": group, "label": kind == 0 });
            lines += &format!("{record}\n");
        }
    }
    lines
}

/// A text without what depends on the machine: where the program lies, ports, versions, times, digests of
/// what is not `known` and, but for settings, numbers with fractions.
fn settled(text: &str, has_numbers: bool, known: &HashSet<String>) -> String {
    static DIGEST: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[0-9a-f]{64}\b").unwrap());
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        [
            (r"127\.0\.0\.1:\d+", "SERVER"),
            (r"(?s)\n  \u{22}versions\u{22}: \{.*?\n  \}", "\n  \u{22}versions\u{22}: {}"),
            (r"\u{22}[^\u{22}]*/w2s\u{22}", "\u{22}w2s\u{22}"),
            // The base model of an adapter, by its whole path.
            (r"\u{22}/[^\u{22}]*/model\u{22}", "\u{22}PLACE/model\u{22}"),
            // When and where it was begun.
            (r"(?s),\n  \u{22}origin\u{22}: \{.*?\n  \}", ""),
            // The last column of trainings is their speed.
            (r"(?m)\| [\d,]+ \|$", "| SPEED |"),
            (r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)? (ms|s|min|h)\b", "TIME"),
            (r"-?\d+\.\d+(e-?\d+)?|-?\d+e-\d+", "#"),
        ]
        .map(|(rule, by)| (Regex::new(rule).unwrap(), by))
        .into()
    });
    let num = RULES.len() - usize::from(!has_numbers);
    let text = DIGEST.replace_all(text, |found: &Captures| match known.contains(&found[0]) {
        true => found[0].to_owned(),
        false => "DIGEST".to_owned(),
    });
    RULES[..num]
        .iter()
        .fold(text.into_owned(), |text, (rule, by)| rule.replace_all(&text, *by).into_owned())
}

/// What stands for a file in the table: its text where that is the same on every processor.
fn shown(path: &Path, known: &HashSet<String>) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let is_text = [".json", ".jsonl", ".csv", ".md", ".toml", ".yaml"];
    let is_time = ["timing.json", "journal.jsonl", "metrics.jsonl"].contains(&name);
    let is_model = ["config.json", "generation_config.json", "tokenizer.json"].contains(&name);
    if is_time || is_model || !is_text.iter().any(|end| name.ends_with(end)) {
        return None;
    }
    Some(settled(&fs::read_to_string(path).unwrap(), name != "manifest.json", known))
}

fn walk(
    root: &Path,
    folder: &Path,
    known: &HashSet<String>,
    out: &mut BTreeMap<String, Option<String>>,
) {
    static EVENTS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"tfevents\.\d+\.w2s\.\d+").unwrap());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, known, out);
            continue;
        }
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let name = EVENTS.replace(&name, "tfevents.TIME.w2s.PID").into_owned();
        out.insert(name, shown(&path, known));
    }
}

/// Writes what the runs begin with and returns its digests.
fn settle_place(place: &Path) -> HashSet<String> {
    fs::create_dir(place.join("model")).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(tiny("llama").join(file), place.join("model").join(file)).unwrap();
    }
    let prompts = "{\"id\": \"a\", \"prompt\": \"1+1=\", \"labels\": [\" 2\", \" 3\"]}\n";
    for (name, text) in [
        ("claims.jsonl", claims(0).as_str()),
        ("test.jsonl", &claims(8)),
        ("questions.jsonl", QUESTIONS),
        ("prompts.jsonl", prompts),
        ("recipe.toml", RECIPE),
        ("loop.toml", LOOP),
    ] {
        fs::write(place.join(name), text).unwrap();
    }
    ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|file| place.join("model").join(file))
        .into_iter()
        .chain(["claims.jsonl", "test.jsonl", "questions.jsonl"].map(|file| place.join(file)))
        .map(|file| format!("{:x}", Sha256::digest(fs::read(file).unwrap())))
        .collect()
}

#[test]
fn runs_and_words_are_what_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let known = settle_place(place);
    let before: Vec<PathBuf> =
        fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    let stub = of_model("llama", ALL);
    let chat = Stub::new(|asked| match asked.path.as_str() {
        "/v1/models" => server_stub::models(),
        "/v1/chat/completions" => Say::Json(json!({ "model": server_stub::NAME,
            "choices": [{ "message": { "content": " Group A adds." }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 9, "completion_tokens": 4 } })),
        _ => Say::Status(404, "", json!({})),
    });
    let mut found = BTreeMap::new();
    let mut failed = String::new();
    for (name, line) in LINES {
        let line = line.replace("MODEL", &stub.model()).replace("CHAT", &chat.model());
        let output = Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(shell_words::split(&line).unwrap())
            .env("OMP_NUM_THREADS", "1")
            .env("CUDA_VISIBLE_DEVICES", "")
            .env("XDG_CACHE_HOME", place.join("cache"))
            .current_dir(place)
            .output()
            .unwrap();
        let [said, printed] = [&output.stderr, &output.stdout]
            .map(|bytes| settled(&String::from_utf8(bytes.clone()).unwrap(), true, &known));
        if !output.status.success() {
            failed += &format!("{line}\n{said}\n");
        }
        found.insert(format!("said by {name}"), Some(said));
        found.insert(format!("printed by {name}"), Some(printed));
    }
    assert!(failed.is_empty(), "{failed}");
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !before.contains(&path) && !path.ends_with("cache") {
            walk(place, &path, &known, &mut found);
        }
    }
    let texts = Path::new(env!("CARGO_TARGET_TMPDIR")).join("every_verb");
    let _ = fs::remove_dir_all(&texts);
    let mut table = String::new();
    for (name, text) in &found {
        let digest = text.as_ref().map_or_else(
            || "-".repeat(64),
            |text| {
                let path = texts.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
                format!("{:x}", Sha256::digest(text))
            },
        );
        table += &format!("{digest} {name}\n");
    }
    let path = project().join("tests/data/every_verb.txt");
    if std::env::var_os("W2S_RENEW_VERBS").is_some() {
        fs::write(&path, &table).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    let of =
        |line: &str| line.split_once(' ').map_or_else(String::new, |(_, name)| name.to_owned());
    let stored: BTreeMap<String, &str> = stored.lines().map(|line| (of(line), line)).collect();
    let table: BTreeMap<String, &str> = table.lines().map(|line| (of(line), line)).collect();
    let other: Vec<&String> = stored
        .keys()
        .chain(table.keys().filter(|name| !stored.contains_key(*name)))
        .filter(|name| stored.get(*name) != table.get(*name))
        .collect();
    assert!(
        other.is_empty(),
        "{other:#?} are not what they were; their texts lie in {} (W2S_RENEW_VERBS=1 renews the table)",
        texts.display()
    );
}
