//! `--name=VALUE` means what `--name VALUE` does, everywhere that command lines are looked at.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::{Place, good, has, text, w2s};
use crate::common::tiny;
use crate::recipes::{bad_usage, place, reproduce};

/// The recipe of the other tests, with every value of its commands behind an equals sign.
fn with_equals(place: &Place) -> String {
    let mut words = Vec::new();
    for line in place.read("r.toml").lines() {
        let Some(command) = line.strip_prefix("run = ") else {
            words.push(line.to_owned());
            continue;
        };
        let mut joined = command.replace(" --", "\n--");
        for option in ["model", "task", "data", "labels", "adapter", "seed", "gold"] {
            joined = joined.replace(&format!("\n--{option} "), &format!("\n--{option}="));
        }
        words.push(format!("run = {}", joined.replace('\n', " ")));
    }
    words.join("\n") + "\n"
}

#[test]
fn a_command_with_equals_signs_is_planned() {
    let place = Place::new();
    let model = format!("--model={}", tiny("llama").display());
    let data = format!("--data={}", place.path("claims.jsonl"));
    let (out, apart) = (place.path("planned"), format!("--out={}", place.path("planned")));
    let label = ["label", "--method=zero-shot", &model, "--task=gsm8k-verification", &data];
    let plan = |more: &[&str]| {
        let head = ["plan", "--measure", "0", "--json", "--"];
        let planned = good(&[&head[..], &label[..], more].concat());
        serde_json::from_str::<Value>(&planned).unwrap()["steps"][0]["num_tokens"].clone()
    };
    let without = plan(&[]);
    assert!(without.as_u64().unwrap() > 0);
    assert_eq!(plan(&[&apart]), without);
    assert_eq!(plan(&["--out", &out]), without);
    assert!(!Path::new(&out).exists());
    // What the command itself would refuse is refused here.
    for (more, part) in [
        (vec!["--out"], "a value is required for `--out"),
        (vec!["--out", "a", "--out=b"], "cannot be used multiple times"),
    ] {
        has(&bad_usage(&[&["plan", "--measure", "0", "--"], &label[..], &more].concat()), &[part]);
    }
}

#[test]
fn a_recipe_with_equals_signs_is_what_it_is_without() {
    let place = place();
    let equals = with_equals(&place);
    assert!(equals.contains("--model={model} --task=claims --data={@data}/rest.jsonl"), "{equals}");
    assert!(equals.contains("--gold={@data}/test.jsonl"), "{equals}");
    place.write("r.toml", equals);
    let (recipe, data) = (place.path("r.toml"), place.path("."));

    // The intervals of the comparison, whose gold file is named by `--gold=`.
    let planned: Value = serde_json::from_str(&good(&[
        "plan",
        &recipe,
        "--scale",
        "small",
        "--data-dir",
        &data,
        "--measure",
        "0",
        "--json",
    ]))
    .unwrap();
    assert_eq!(planned["intervals"][0]["num_items"], 20, "{planned}");

    let run = |more: &[&str]| {
        let args = reproduce(&place, "out", more);
        let output = w2s(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!output.status.success(), "{more:?}");
        text(&output.stderr)
    };
    let said = run(&["--set", "model=no/model"]);
    has(&said, &["there is no model folder no/model", "--set model=DIR"]);
    fs::remove_file(place.path("claims.jsonl")).unwrap();
    has(&run(&[]), &["a data file of the recipe is missing", "sixty claims", "--data-dir"]);
    assert!(!Path::new(&place.path("out")).exists());
}

/// An evaluation has a folder of its own where it makes labels: with `--test`, in either form.
#[test]
fn evaluations_of_a_recipe_get_their_folders() {
    let place = place();
    let step = "\n[[steps]]\nname = \"answered\"\nfor = [\"set\"]\nrun = \"eval --test={@data}/test.jsonl \
        --gold={@data}/test.jsonl --demonstrations={@data}/rest.jsonl --task=claims --model={model}\"\n";
    place.write("r.toml", place.read("r.toml") + step);
    let listed = good(
        &reproduce(&place, "o", &["--dry-run"]).iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let last = listed.lines().last().unwrap();
    assert!(last.contains(&format!(" --out {} ", place.path("o/sums/answered"))), "{last}");

    for form in ["--out=x", "--out x"] {
        let recipe = place.read("r.toml").replace("eval --test", &format!("eval {form} --test"));
        let broken = place.write("b.toml", recipe);
        has(
            &text(&w2s(&["reproduce", &broken, "--scale", "small", "--dry-run"]).stderr),
            &[
                "the command of step `answered` sets `--out`",
                "b.toml`, line ",
                "hint: leave it out",
            ],
        );
    }
}
