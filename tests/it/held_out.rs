//! `w2s eval --test`, gold columns and basins, as their users run them; on a tiny random model.

use serde_json::Value;

use crate::cli::{Place, good, strs, text, w2s};
use crate::common::tiny;

/// Four claims that the search never saw. Two have the ids of training claims, and one has the text
/// of a training claim under another id.
const TEST: &str = r#"{"id": "a", "question": "4+4?", "choice": "8", "label": true}
{"id": "b", "question": "4+4?", "choice": "9", "label": false}
{"id": "g", "question": "5+5?", "choice": "10", "label": true}
{"id": "h", "question": "1+1?", "choice": "3", "label": false}
"#;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn place() -> Place {
    let place = Place::new();
    place.write("test.jsonl", TEST);
    place
}

fn held_out(place: &Place, demonstrations: &str, out: &str, more: &[&str]) -> Vec<String> {
    let (test, out) = (place.path("test.jsonl"), place.path(out));
    let model = tiny("llama").display().to_string();
    let fixed = ["eval", "--test", &test, "--gold", &test, "--model", &model, "--out", &out];
    let demonstrations = ["--demonstrations", demonstrations];
    fixed.iter().chain(&demonstrations).chain(more).map(|s| (*s).to_owned()).collect()
}

fn refused(args: &[String], status: i32, parts: &[&str]) {
    let output = w2s(&strs(args));
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}\n{message}");
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

#[test]
fn labels_of_a_run_teach_a_held_out_file() {
    let place = place();
    good(&strs(&place.label("icm", &[])));
    let output = w2s(&strs(&held_out(&place, &place.path("icm"), "out", &[])));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert_eq!(table.lines().count(), 1);
    assert!(table.contains("many-shot-icm accuracy") && table.contains("of 4)"), "{table}");
    assert!(text(&output.stderr).contains("1 demonstrations have the text of a test example"));
    let manifest = json(&place.read("out/manifest.json"));
    assert_eq!(manifest["gold_used"], false);
    assert_eq!(manifest["command"], "eval");
    assert_eq!(manifest["settings"]["num_demonstrations"], 5, "six without the test's");
    let roles: Vec<&str> = manifest["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["role"].as_str().unwrap())
        .collect();
    assert!(roles.contains(&"demonstrations") && roles.contains(&"demonstration data"));
    let evaluation = json(&place.read("out/eval.json"));
    assert_eq!(evaluation["num_with_gold"], 4);
    assert!(evaluation["reliability"]["brier"].as_f64().unwrap() > 0.0);

    // The labels file is the run; the gold of the test has no part; the same again is the same.
    good(&strs(&held_out(&place, &place.path("icm/labels.jsonl"), "file", &[])));
    let inverted = TEST.replace("true", "X").replace("false", "true").replace('X', "false");
    place.write("test.jsonl", inverted);
    good(&strs(&held_out(&place, &place.path("icm"), "inverted", &[])));
    for other in ["file", "inverted"] {
        assert_eq!(place.read(&format!("{other}/labels.jsonl")), place.read("out/labels.jsonl"));
    }
    let accuracy =
        |out: &str| json(&place.read(&format!("{out}/eval.json")))["num_correct"].as_u64();
    assert_eq!(accuracy("inverted").unwrap(), 4 - accuracy("out").unwrap());

    // Where the data of the run moved, its new place is named; other data is refused.
    let claims = place.read("claims.jsonl");
    std::fs::remove_file(place.path("claims.jsonl")).unwrap();
    refused(&held_out(&place, &place.path("icm"), "x", &[]), 1, &["--demonstration-data"]);
    let moved = place.write("moved.jsonl", &claims);
    good(&strs(&held_out(&place, &place.path("icm"), "moved", &["--demonstration-data", &moved])));
    let edited = place.write("edited.jsonl", claims.replace("1+1", "1+2"));
    let more = ["--demonstration-data", edited.as_str()];
    refused(&held_out(&place, &place.path("icm"), "x", &more), 1, &["not that of the run"]);

    // A held-out run is a run: it is evaluated again, and reported.
    let (out, test, report) = (place.path("out"), place.path("test.jsonl"), place.path("report"));
    good(&["eval", "--gold", &test, &out]);
    assert!(good(&["report", &out, "--out", &report]).contains("report.md"));
    assert!(place.read("report/report.md").contains("many-shot-icm"));
}

#[test]
fn gold_and_noise_are_marked_and_prompt_with_the_same_examples() {
    let place = place();
    let claims = place.path("claims.jsonl");
    let task = ["--task", "gsm8k-verification"];
    let run = |out: &str, more: &[&str]| {
        let more = [task.as_slice(), more].concat();
        good(&strs(&held_out(&place, &claims, out, &more)));
        json(&place.read(&format!("{out}/manifest.json")))
    };
    let given = run("given", &[]);
    assert_eq!(given["settings"]["method"], "many-shot-given");
    assert!(given["gold_used"].as_str().unwrap().contains("claims.jsonl"));
    let noise = run("noise", &["--noise-accuracy", "0.6", "--seed", "3"]);
    assert_eq!(noise["settings"]["method"], "many-shot-noise");
    assert_eq!(noise["settings"]["noise_by"], "overall");
    assert!(noise["gold_used"].as_str().unwrap().contains("to an accuracy of 0.6"));
    // Noise that changes nothing is gold, prompt for prompt.
    run("all-right", &["--noise-accuracy", "1"]);
    let prompts = |out: &str| place.read(&format!("{out}/journal.jsonl"));
    assert_eq!(prompts("all-right"), prompts("given"));
    assert_ne!(prompts("noise"), prompts("given"));
    let few = run("few", &["--num-demonstrations", "2"]);
    assert_eq!(few["settings"]["num_demonstrations"], 2);
    assert_eq!(few["settings"]["num_demonstrations_given"], 6);
    // Gold in a file of its own, in another order: the same prompts.
    let gold: Vec<String> = place
        .read("claims.jsonl")
        .lines()
        .rev()
        .map(|line| {
            let record = json(line);
            format!("{{\"id\": {}, \"label\": {}}}\n", record["id"], record["label"])
        })
        .collect();
    let gold = place.write("gold.jsonl", gold.concat());
    let more = [task.as_slice(), &["--demonstration-data", &claims]].concat();
    good(&strs(&held_out(&place, &gold, "apart", &more)));
    assert_eq!(prompts("apart"), prompts("given"));
}

#[test]
fn held_out_options_that_cannot_work_are_refused() {
    let place = place();
    let claims = place.path("claims.jsonl");
    let task = ["--task", "gsm8k-verification"];
    good(&strs(&place.label("zs", &["--method", "zero-shot"])));
    let with = |more: &[&str]| held_out(&place, &claims, "x", &[task.as_slice(), more].concat());
    refused(&held_out(&place, &claims, "x", &[]), 2, &["need `--task TASK`"]);
    let noisy = held_out(&place, &place.path("zs"), "x", &["--noise-accuracy", "0.8"]);
    refused(&noisy, 2, &["needs gold demonstrations", "zero-shot"]);
    refused(&with(&["--noise-accuracy", "80"]), 2, &["expected 0 to 1"]);
    refused(&with(&["--num-demonstrations", "6"]), 2, &["expected 2 to 5"]);
    refused(&with(&["--noise-by", "label"]), 2, &["--noise-accuracy"]);
    let other = held_out(&place, &place.path("zs"), "x", &["--task", "sentiment"]);
    refused(&other, 1, &["other labels"]);
    let gold = place.write(
        "gold.jsonl",
        "{\"id\": \"a\", \"label\": true}\n{\"id\": \"b\", \"label\": false}\n",
    );
    refused(&held_out(&place, &gold, "x", &task), 1, &["--demonstration-data"]);
    let run = place.path("zs");
    for args in [
        vec!["eval", "--gold", &claims, &run, "--model", "m"],
        vec!["eval", "--gold", &claims, &run, "--seed", "1"],
        vec!["eval", "--gold", &claims, &run, "--test", &claims],
        vec!["eval", "--gold", &claims, "--test", &claims],
        vec!["eval", "--gold", &claims],
        vec!["eval", "--gold", &claims, &run, "--basin-agreement", "90"],
    ] {
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        refused(&args, 2, &["error:"]);
    }
    assert!(!std::path::Path::new(&place.path("x")).exists(), "nothing is made");
}

#[test]
fn a_held_out_run_is_resumed_and_protected() {
    let place = place();
    let claims = place.path("claims.jsonl");
    let task = ["--task", "gsm8k-verification"];
    let args = |more: &[&str]| held_out(&place, &claims, "run", &[task.as_slice(), more].concat());
    good(&strs(&args(&[])));
    let labels = place.read("run/labels.jsonl");
    refused(&args(&[]), 1, &["already holds a run"]);
    // As a kill before the labels were written leaves it.
    for file in ["timing.json", "labels.jsonl", "eval.json"] {
        std::fs::remove_file(place.path(&format!("run/{file}"))).unwrap();
    }
    good(&strs(&args(&["--resume"])));
    assert_eq!(place.read("run/labels.jsonl"), labels);
    refused(&args(&["--resume", "--seed", "1"]), 1, &["cannot be continued"]);
    good(&strs(&args(&["--force", "--seed", "1"])));
    let [one, two] = [place.path("run"), place.path("run")];
    assert!(good(&["diff", &one, &two]).contains("the runs agree"));
}

#[test]
fn several_gold_columns_and_basins() {
    let place = place();
    // A second concept: whether the answer is below 6.
    let small = ["2", "3", "4", "5"];
    let lines: Vec<String> = place
        .read("claims.jsonl")
        .lines()
        .map(|line| {
            let mut record = json(line);
            record["is_small"] = small.contains(&record["choice"].as_str().unwrap()).into();
            record.to_string() + "\n"
        })
        .collect();
    let gold = place.write("gold.jsonl", lines.concat());
    for seed in ["0", "1"] {
        good(&strs(&place.label(&format!("s{seed}"), &["--seed", seed])));
    }
    let (runs, basins) = ([place.path("s0"), place.path("s1")], place.path("basins.json"));
    let args = ["eval", "--gold", &gold, "--gold-column", "label,is_small", "--basins", &basins];
    let output = w2s(&[args.as_slice(), &[&runs[0], &runs[1]]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert_eq!(table.lines().filter(|line| line.contains("column is_small")).count(), 2, "{table}");
    assert!(text(&output.stderr).contains("come closest to column"));
    let evaluation = json(&place.read("s0/eval.json"));
    assert_eq!(evaluation["gold_column"], "label");
    assert_eq!(evaluation["other_columns"][0]["gold_column"], "is_small");
    assert_eq!(evaluation["other_columns"][0]["gold_share"]["True"], 4.0 / 6.0);
    let diagnostics = json(&place.read("s0/diagnostics.json"));
    assert_eq!(diagnostics["search"]["num_examples"], 6);
    let found = json(&place.read("basins.json"));
    let num_runs: usize = found["basins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| b["runs"].as_array().unwrap().len())
        .sum();
    assert_eq!((num_runs, &found["basins"][0]["columns"][1]["column"]), (2, &"is_small".into()));
    let out = place.path("report");
    good(&["report", &runs[0], &runs[1], "--basins", &basins, "--out", &out]);
    let page = place.read("report/report.md");
    for title in ["## Gold columns", "## How far to trust the labels", "### Course of", "## Basins"]
    {
        assert!(page.contains(title), "{title} is missing in:\n{page}");
    }
    let column = w2s(&["eval", "--gold", &gold, "--gold-column", "nope", &runs[0]]);
    let message = text(&column.stderr);
    assert!(message.contains("column `nope`") && message.contains("`is_small`"), "{message}");
}
