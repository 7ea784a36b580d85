//! Recipes as their users run them, on tiny random models: `w2s reproduce`, `w2s plan`, `w2s data draw`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Place, bad, good, has, strs, text, w2s};
use crate::common::{project, tiny};
use crate::loop_runs::{results, same};

/// Sixty claims in thirty groups.
fn claims() -> String {
    let line = |i: usize| {
        let (a, right) = (1 + i / 2, i.is_multiple_of(2));
        let claimed = if right { a + 1 } else { a + 2 };
        let record = json!({ "id": format!("c{i:02}"), "question": format!("{a}+1?"),
            "choice": claimed.to_string(), "label": right, "consistency_id": a,
            "half": if i < 30 { "first" } else { "second" } });
        format!("{record}\n")
    };
    (0..60).map(line).collect()
}

/// A supervisor, a student of its labels and a ceiling, with two seeds; `MODEL` is a folder.
const RECIPE: &str = r#"
title = "A student of labels"
about = "Two seeds of a tiny student."
source = "a test"
published_in = "a table"

[[published]]
set = "sums"
method = "student"
percent = 61.5
model = "a large one"
[[published]]
set = "products"
method = "student"
percent = 70.0
model = "a large one"

[[inputs]]
file = "claims.jsonl"
about = "sixty claims"

[scale.small]
about = "tiny"
model = "MODEL"
seed = [0, 1]
num_test = 20
options = "--lr 1e-3 --epochs 1 --batch-size 4"
[[scale.small.set]]
name = "sums"
published = "sums"

[[steps]]
name = "data"
for = ["set"]
run = "data draw --data {data}/claims.jsonl --part test={num_test} --part rest=40 --group-column consistency_id"

[[steps]]
name = "weak"
for = ["set"]
run = "label --method zero-shot --model {model} --task claims --data {@data}/test.jsonl"

[[steps]]
name = "labels"
for = ["set", "seed"]
run = "label --method few-shot-random --model {model} --task claims --data {@data}/rest.jsonl --seed {seed}"

[[steps]]
name = "student"
for = ["set", "seed"]
run = "train --model {model} --task claims --data {@data}/rest.jsonl --labels {@labels}/labels.jsonl {*options} --seed {seed}"

[[steps]]
name = "student-test"
for = ["set", "seed"]
run = "label --method zero-shot --model {model} --adapter {@student} --task claims --data {@data}/test.jsonl"

[[steps]]
name = "compare"
for = ["set"]
run = "compare --force --gold {@data}/test.jsonl --method 'zero-shot={@weak}' --method 'student={@student-test[seed]}' {published}"
"#;

/// A place with the recipe and its data.
pub fn place() -> Place {
    let place = Place::new();
    place.write("claims.jsonl", claims());
    place.write("r.toml", RECIPE.replace("MODEL", &tiny("llama").display().to_string()));
    place
}

pub fn reproduce(place: &Place, out: &str, more: &[&str]) -> Vec<String> {
    let (recipe, data, out) = (place.path("r.toml"), place.path("."), place.path(out));
    ["reproduce", &recipe, "--scale", "small", "--data-dir", &data, "--out", &out]
        .into_iter()
        .chain(more.iter().copied())
        .map(str::to_owned)
        .collect()
}

fn ids(place: &Place, name: &str) -> BTreeSet<String> {
    let id = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["id"].as_str().unwrap().to_owned()
    };
    place.read(name).lines().map(id).collect()
}

#[test]
fn a_recipe_is_run_to_its_figure_and_not_run_twice() {
    let place = place();
    let args = reproduce(&place, "all/one", &[]);
    fs::create_dir(place.path("all")).unwrap();
    let first = w2s(&strs(&args));
    let said = text(&first.stderr);
    assert!(first.status.success(), "{said}");
    has(&said, &["A student of labels", "9 steps", "step 9 of 9, sums/compare: w2s compare"]);
    let table = text(&first.stdout);
    has(&table, &["student", "61.5 (a large one)", "zero-shot"]);
    for file in ["results.md", "results.json", "figure.svg", "figure.png"] {
        assert!(Path::new(&place.path(&format!("all/one/{file}"))).exists(), "{file}");
    }
    let page = place.read("all/one/results.md");
    has(
        &page,
        &[
            "| sums | label | student |",
            "Published, on other data",
            "| products | student | 70.0 |",
        ],
    );
    let lines: Vec<Value> = serde_json::from_str(&place.read("all/one/results.json")).unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[1]["num_runs"], &lines[1]["num_items"]), (&2.into(), &20.into()));
    assert_eq!((&lines[0]["published"], &lines[1]["published"]), (&Value::Null, &0.615.into()));
    let figure = place.read("all/one/figure.svg");
    has(&figure, &["61.5", "Published: products", "70.0"]);

    // Again: nothing is run, all is the same.
    let before = results(Path::new(&place.path("all/one")));
    let again = w2s(&strs(&args));
    let said = text(&again.stderr);
    assert!(again.status.success(), "{said}");
    assert_eq!(said.matches(": complete").count(), 8, "{said}");
    same(&before, &results(Path::new(&place.path("all/one"))));
    assert_eq!(text(&again.stdout), table);

    // Elsewhere with one seed: its runs are taken from the first, but for the files drawn anew.
    let part = w2s(&strs(&reproduce(&place, "all/two", &["--set", "seed=1"])));
    let said = text(&part.stderr);
    assert!(part.status.success(), "{said}");
    assert_eq!(said.matches("is the same; it was copied").count(), 4, "{said}");
    let one = place.read("all/one/sums/seed-1/student/metrics.jsonl");
    assert_eq!(place.read("all/two/sums/seed-1/student/metrics.jsonl"), one);
    // A run made by itself has the bytes of the one that was copied.
    let alone = w2s(&strs(&reproduce(&place, "far/two", &["--set", "seed=1"])));
    assert!(alone.status.success(), "{}", text(&alone.stderr));
    assert!(!text(&alone.stderr).contains("it was copied"));
    same(
        &results(Path::new(&place.path("far/two/sums/seed-1/student"))),
        &results(Path::new(&place.path("all/two/sums/seed-1/student"))),
    );
}

#[test]
fn a_recipe_that_is_killed_goes_on_to_the_same_bytes() {
    let place = place();
    let whole = w2s(&strs(&reproduce(&place, "a/whole", &[])));
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    // A comparison names the folders of its runs.
    let found = |out: &str| {
        let folder = place.path(out);
        let mut files = results(Path::new(&folder));
        let comparison = files.get_mut(Path::new("sums/compare/comparison.json")).unwrap();
        *comparison = text(comparison).replace(&folder, "OUT").into_bytes();
        files
    };
    let expected = found("a/whole");
    for (index, until) in
        ["sums/data", "sums/seed-0/labels", "sums/seed-1/student"].iter().enumerate()
    {
        let out = format!("b{index}/killed");
        let mut child = Command::new(env!("CARGO_BIN_EXE_w2s"))
            .args(reproduce(&place, &out, &[]))
            .env("OMP_NUM_THREADS", "1")
            .current_dir(project())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let folder = place.path(&format!("{out}/{until}"));
        let began = Instant::now();
        while !Path::new(&folder).exists() && child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(120), "{folder} was never begun");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let again = w2s(&strs(&reproduce(&place, &out, &[])));
        assert!(again.status.success(), "{}", text(&again.stderr));
        same(&expected, &found(&out));
    }
}

#[test]
fn the_commands_of_a_dry_run_can_be_typed() {
    let place = place();
    let listed = good(&strs(&reproduce(&place, "typed", &["--dry-run"])));
    assert_eq!(listed.lines().count(), 9);
    assert!(!Path::new(&place.path("typed")).exists());
    for line in listed.lines() {
        let words = shell_words::split(line).unwrap();
        assert_eq!(words[0], "w2s");
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        good(&words);
    }
    let whole = w2s(&strs(&reproduce(&place, "a/whole", &[])));
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    for step in ["seed-0/labels", "seed-1/student-test"] {
        let file = |root: &str| place.read(&format!("{root}/sums/{step}/labels.jsonl"));
        assert_eq!(file("typed"), file("a/whole"));
    }
}

#[test]
fn built_in_recipes_are_listed_and_understood() {
    let listed = good(&["reproduce"]);
    let names: Vec<&str> =
        listed.lines().skip(1).map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(names.len(), 8, "{listed}");
    for name in names {
        for scale in ["full", "small"] {
            let steps = good(&["reproduce", name, "--scale", scale, "--dry-run"]);
            assert!(steps.lines().count() > 4, "{name} {scale}");
            assert!(steps.lines().all(|line| line.starts_with("w2s ")), "{steps}");
        }
    }
}

#[test]
fn what_a_recipe_lacks_is_said() {
    let place = place();
    let data = place.path(".");
    let run = |recipe: &str, more: &[&str]| {
        let out = place.path("out");
        let args = ["reproduce", recipe, "--scale", "small", "--data-dir", &data, "--out", &out];
        let output = w2s(&[args.as_slice(), more].concat());
        assert!(!output.status.success());
        text(&output.stderr)
    };
    has(&run("icm-figur1", &[]), &["there is no recipe `icm-figur1`", "icm-figure1", ".toml"]);
    let recipe = place.path("r.toml");
    has(
        &run(&recipe, &["--set", "model=no/model"]),
        &["there is no model folder no/model", "--set model=DIR"],
    );
    has(&run(&recipe, &["--set", "modl=x"]), &["has no value `modl`", "model, num_test"]);
    has(&run(&recipe, &["--set", "seed=x"]), &["`seed` cannot be set to `x`"]);
    has(
        &bad_usage(&["reproduce", &recipe, "--scale", "big"]),
        &["has no scale `big`", "it has small"],
    );
    let broken = place.write("b.toml", place.read("r.toml").replace("{@labels}", "{@label}"));
    has(&run(&broken, &[]), &["b.toml`, line ", "`label`, which is no step"]);
    let wrong = place.write("w.toml", place.read("r.toml").replace("--epochs 1", "--epoch 1"));
    has(&run(&wrong, &[]), &["step `sums/seed-0/student`", "--epoch"]);
    fs::remove_file(place.path("claims.jsonl")).unwrap();
    has(&run(&recipe, &[]), &["claims.jsonl", "sixty claims", "--data-dir"]);
    assert!(!Path::new(&place.path("out")).exists());
}

#[test]
fn a_plan_counts_what_the_run_then_runs() {
    let place = place();
    let (recipe, data) = (place.path("r.toml"), place.path("."));
    let args = ["plan", &recipe, "--scale", "small", "--data-dir", &data, "--measure", "0"];
    let planned: Value = serde_json::from_str(&good(&[&args[..], &["--json"]].concat())).unwrap();
    let run = w2s(&strs(&reproduce(&place, "a/run", &[])));
    assert!(run.status.success(), "{}", text(&run.stderr));
    let of = |step: &str| {
        let steps = planned["steps"].as_array().unwrap();
        steps.iter().find(|line| line["step"] == step).unwrap_or_else(|| panic!("{planned}"))
    };
    let summary = |path: &str| -> Value {
        serde_json::from_str(&place.read(&format!("a/run/sums/{path}/summary.json"))).unwrap()
    };
    // What depends on no answer is counted to the token.
    assert_eq!(of("weak")["num_tokens"], summary("weak")["tokens_computed"]);
    let both = |step: &str, name: &str| -> u64 {
        [0, 1]
            .map(|seed| summary(&format!("seed-{seed}/{step}"))[name].as_u64().unwrap())
            .iter()
            .sum()
    };
    assert_eq!(of("student-test")["num_runs"], 2);
    assert_eq!(of("student-test")["num_tokens"], both("student-test", "tokens_computed"));
    assert_eq!(of("labels")["num_tokens"], both("labels", "tokens_computed"));
    assert_eq!(of("student")["num_trained"], both("student", "tokens_run"));
    let width = &planned["intervals"][0];
    assert_eq!(width["num_items"], 20);
    assert!((width["half_width"].as_f64().unwrap() - 0.168).abs() < 0.01, "{width}");

    // In words, of a command too, with the machine measured; nothing is written where it would be.
    let model = tiny("llama").display().to_string();
    let (claims, out) = (place.path("claims.jsonl"), place.path("planned"));
    let label = [
        "label",
        "--method",
        "zero-shot",
        "--model",
        &model,
        "--task",
        "claims",
        "--data",
        &claims,
        "--out",
        &out,
    ];
    let words =
        good(&[&["plan", "--measure", "0.5", "--hours", "0.000000001", "--"][..], &label].concat());
    has(&words, &["tokens scored", "longest prompt: ", "times the time that there is"]);
    assert!(!Path::new(&out).exists());
    has(&bad_usage(&["plan", "--", "labl"]), &["labl"]);
}

pub fn bad_usage(args: &[&str]) -> String {
    let output = w2s(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    text(&output.stderr)
}

#[test]
fn parts_are_drawn_whole_apart_and_by_the_seed() {
    let place = place();
    let claims = place.path("claims.jsonl");
    let draw = |out: &str, more: &[&str]| -> Vec<String> {
        let out = place.path(out);
        let fixed = ["data", "draw", "--data", &claims, "--out", &out];
        fixed.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let parts = ["--part", "a=21", "--part", "b=30", "--group-column", "consistency_id"];
    good(&strs(&draw("d0", &parts)));
    let (a, b) = (ids(&place, "d0/a.jsonl"), ids(&place, "d0/b.jsonl"));
    // Groups of two: a part of 21 holds 20.
    assert_eq!((a.len(), b.len()), (20, 30));
    assert!(a.is_disjoint(&b));
    for part in [&a, &b] {
        for id in part {
            let number: usize = id[1..].parse().unwrap();
            assert!(part.contains(&format!("c{:02}", number ^ 1)), "{id}");
        }
    }
    // Whole records, in the order they were drawn; the same again, others with another seed.
    let line = place.read("d0/a.jsonl").lines().next().unwrap().to_owned();
    assert!(claims_has(&place, &line), "{line}");
    good(&strs(&draw("d1", &parts)));
    assert_eq!(place.read("d1/a.jsonl"), place.read("d0/a.jsonl"));
    good(&strs(&draw("d2", &[&parts[..], &["--seed", "1"]].concat())));
    assert_ne!(ids(&place, "d2/a.jsonl"), a);
    // Gold has no part in what is drawn.
    let inverted = place.read("claims.jsonl").replace("\"label\":true", "\"label\":0");
    let other = place.write("inverted.jsonl", inverted.replace("\"label\":false", "\"label\":1"));
    let out = place.path("d3");
    good(&[&["data", "draw", "--data", &other, "--out", &out][..], &parts].concat());
    assert_eq!(ids(&place, "d3/a.jsonl"), a);

    good(&strs(&draw("d4", &["--part", "a=60", "--where", "half=second"])));
    assert_eq!(ids(&place, "d4/a.jsonl").len(), 30);
    let message = bad(&strs(&draw("d5", &["--part", "a=60", "--part", "b=1"])));
    has(&message, &["no record is left for part `b`: 60 fit", "claims.jsonl"]);
    has(&bad(&strs(&draw("d0", &["--part", "a=3"]))), &["d0", "--force"]);
    has(&bad_usage(&strs(&draw("d6", &["--part", "a/b=3"]))), &["`a/b` is no name of a part"]);
}

fn claims_has(place: &Place, line: &str) -> bool {
    let record: Value = serde_json::from_str(line).unwrap();
    let same = |other: &str| serde_json::from_str::<Value>(other).unwrap() == record;
    place.read("claims.jsonl").lines().any(same)
}
