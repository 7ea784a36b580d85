//! The baselines as their users run them: gold has no part, runs repeat and resume, what is refused.

use serde_json::Value;

use crate::baselines::{Gold, tiny_chat};
use crate::cli::{Place, good, strs, text, w2s, with};

/// Every method with what its command adds, and whether gold may matter.
const METHODS: [(&str, &[&str], bool); 8] = [
    ("icm", &["--num-seed", "4", "--method", "icm"], false),
    ("zero-shot", &["--method", "zero-shot"], false),
    ("zero-shot-chat", &["--method", "zero-shot-chat"], false),
    ("few-shot-random", &["--method", "few-shot-random"], false),
    ("random-drawn", &["--method", "few-shot-random", "--num-demonstrations", "3"], false),
    ("bootstrap", &["--method", "bootstrap", "--rounds", "2"], false),
    ("batches", &["--method", "bootstrap", "--batch-size", "3"], false),
    ("few-shot-gold", &["--method", "few-shot-gold"], true),
];

struct Stage {
    place: Place,
    chat: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { place: Place::new(), chat: tiny_chat() }
    }

    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        with(&self.place.label(out, more), "--model", &self.chat.path().display().to_string())
    }

    fn run(&self, out: &str, more: &[&str]) {
        good(&strs(&self.args(out, more)));
    }

    /// The claims with the gold labels that `gold` makes of their own.
    fn relabel(&self, gold: impl Fn(usize) -> Option<bool>) {
        let mut lines = String::new();
        for (i, line) in self.place.read("claims.jsonl").lines().enumerate() {
            let mut record: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            match gold(i) {
                Some(label) => record.insert("label".into(), label.into()),
                None => record.remove("label"),
            };
            lines += &(serde_json::to_string(&record).unwrap() + "\n");
        }
        self.place.write("claims.jsonl", lines);
    }
}

#[test]
fn labels_do_not_depend_on_gold() {
    let stage = Stage::new();
    let golds: [(&str, Gold); 4] = [
        ("own", |i| Some(i % 2 == 0)),
        ("inverted", |i| Some(i % 2 == 1)),
        ("shuffled", |i| Some([true, false, false, true, true, false][i])),
        ("removed", |_| None),
    ];
    for (gold, of) in golds {
        stage.relabel(of);
        for (name, more, uses_gold) in METHODS {
            let out = format!("{gold}-{name}");
            if uses_gold && gold == "removed" {
                let output = w2s(&strs(&stage.args(&out, more)));
                let message = text(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{message}");
                assert!(message.contains("no record has a gold label"), "{message}");
                assert!(message.contains("--gold FILE"), "{message}");
                continue;
            }
            let output = w2s(&strs(&stage.args(&out, more)));
            let message = text(&output.stderr);
            assert!(output.status.success(), "{out}: {message}");
            let labels = stage.place.read(&format!("{out}/labels.jsonl"));
            let own = stage.place.read(&format!("own-{name}/labels.jsonl"));
            let manifest = stage.place.read(&format!("{out}/manifest.json"));
            let manifest: Value = serde_json::from_str(&manifest).unwrap();
            if uses_gold {
                assert_eq!(labels == own, gold == "own", "{out}: gold must matter here");
                let reason = manifest["gold_used"].as_str().unwrap();
                assert!(reason.starts_with("few-shot-gold: "), "{reason}");
                assert!(message.contains("gold is used: few-shot-gold"), "{message}");
            } else {
                assert_eq!(labels, own, "{out}: labels changed with gold");
                assert_eq!(manifest["gold_used"], false);
                // The next command to type may be an evaluation.
                assert!(!message.replace("--gold FILE", "").contains("gold"), "{message}");
            }
        }
    }
}

/// A second run has the same bytes, and so has one that is resumed from half of its journal.
#[test]
fn every_method_repeats_and_resumes() {
    let stage = Stage::new();
    let place = &stage.place;
    for (name, more, _) in METHODS {
        let seeded = [more, &["--seed", "5"]].concat();
        let [one, two, cut] = ["one", "two", "cut"].map(|run| format!("{name}-{run}"));
        stage.run(&one, &seeded);
        stage.run(&two, &seeded);
        let journal = place.read(&format!("{one}/journal.jsonl"));
        std::fs::create_dir(place.path(&cut)).unwrap();
        let manifest = place.read(&format!("{one}/manifest.json"));
        place.write(&format!("{cut}/manifest.json"), manifest);
        place.write(&format!("{cut}/journal.jsonl"), &journal[..journal.len() / 2]);
        stage.run(&cut, &[seeded.as_slice(), &["--resume"]].concat());
        for other in [&two, &cut] {
            for file in ["labels.jsonl", "summary.json", "journal.jsonl"] {
                let read = |run: &str| place.read(&format!("{run}/{file}"));
                assert_eq!(read(&one), read(other), "{other}/{file}");
            }
        }
    }
}

#[test]
fn baselines_are_evaluated_and_reported_by_name() {
    let stage = Stage::new();
    let place = &stage.place;
    let claims = place.path("claims.jsonl");
    // Gold in a file of its own, of which only the second column is meant.
    let gold: Vec<String> = (0..6)
        .map(|i| {
            let id = ["a", "b", "c", "d", "e", "f"][i];
            let (one, two) = (i % 2 == 0, i < 3);
            format!("{{\"id\": \"{id}\", \"label\": {one}, \"other\": {two}}}\n")
        })
        .collect();
    let gold = place.write("gold.jsonl", gold.concat());
    let names = ["few-shot-gold", "few-shot-random", "bootstrap", "zero-shot-chat"];
    for name in names {
        let more = ["--method", name, "--gold", &gold, "--gold-column", "other"];
        let more = if name == "few-shot-gold" { &more[..] } else { &more[..2] };
        stage.run(name, more);
    }
    let manifest: Value = serde_json::from_str(&place.read("few-shot-gold/manifest.json")).unwrap();
    assert_eq!(manifest["settings"]["gold_column"], "other");
    assert_eq!(manifest["settings"]["batch_size"], 256);
    assert!(manifest["inputs"].as_array().unwrap().iter().any(|input| input["role"] == "gold"));
    assert!(manifest["gold_used"].as_str().unwrap().ends_with("gold.jsonl, column other"));
    let chat: Value = serde_json::from_str(&place.read("zero-shot-chat/manifest.json")).unwrap();
    let inputs = chat["inputs"].as_array().unwrap();
    assert!(inputs.iter().any(|input| input["role"] == "model file chat_template.jinja"));
    // The same gold as a file of demonstrations: the same prompts.
    stage.run("file", &["--method", "few-shot", "--demonstrations", &claims]);
    stage.run("column", &["--method", "few-shot-gold"]);
    assert_eq!(place.read("file/labels.jsonl"), place.read("column/labels.jsonl"));
    let runs = names.map(|name| place.path(name));
    let runs = runs.each_ref().map(String::as_str);
    let table = good(&[["eval", "--gold", &claims].as_slice(), &runs].concat());
    let out = place.path("report");
    good(&[["report", "--out", &out].as_slice(), &runs].concat());
    let (page, figure) = (place.read("report/report.md"), place.read("report/accuracy.svg"));
    for name in names {
        assert!(table.contains(name) && page.contains(name) && figure.contains(name), "{name}");
    }
    assert!(!page.contains("few-shot-gold gold"));
    assert!(page.contains("few-shot-gold used gold labels"), "{page}");
}

#[test]
fn baselines_that_cannot_be_run_are_refused() {
    let place = Place::new();
    let claims = place.path("claims.jsonl");
    let cases: [(&[&str], i32, &[&str]); 13] = [
        (&["--method", "zero-shot-chat"], 1, &["no chat template", "hint:", "zero-shot"]),
        (&["--method", "zero-shot-chat", "--order", "dataset"], 2, &["`--order` has no effect"]),
        (&["--method", "bootstrap", "--alpha", "3"], 2, &["`--alpha` has no effect"]),
        (&["--method", "bootstrap", "--gold", &claims], 2, &["`--gold` has no effect"]),
        (&["--method", "few-shot-random", "--gold-column", "x"], 2, &["`--gold-column` has no"]),
        (&["--method", "few-shot-gold", "--rounds", "2"], 2, &["`--rounds` has no effect"]),
        (&["--method", "few-shot-gold", "--demonstrations", &claims], 2, &["--demonstrations"]),
        (&["--method", "few-shot-gold", "--gold-column", "x"], 2, &["column `x`", "hint:"]),
        (&["--method", "few-shot-gold", "--num-demonstrations", "1"], 2, &["2 to 6"]),
        (&["--method", "few-shot-random", "--num-demonstrations", "7"], 2, &["2 to 6"]),
        (&["--method", "zero-shot", "--num-demonstrations", "4"], 2, &["`--num-demonstrations`"]),
        (
            &["--method", "bootstrap", "--num-demonstrations", "4", "--batch-size", "4"],
            2,
            &["`--batch-size` has no effect"],
        ),
        (&["--method", "few-shot-gold", "--gold", "nowhere.jsonl"], 1, &["nowhere.jsonl"]),
    ];
    for (more, status, parts) in cases {
        let output = w2s(&strs(&place.label("run", more)));
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{more:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in:\n{message}");
        }
    }
    assert!(!std::path::Path::new(&place.path("run")).exists(), "nothing is made");
}
