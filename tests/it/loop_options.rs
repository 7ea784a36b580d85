//! Options of the steps of `w2s loop`: each is understood before anything is made.

use std::path::Path;

use serde_json::Value;

use crate::cli::{Place, good, has, strs, text, w2s};
use crate::loop_runs::{args, results, same};

/// Runs a loop that is refused, and returns what it says; it makes nothing.
fn refused(place: &Place, more: &[&str]) -> String {
    let output = w2s(&strs(&args(place, "l", more)));
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{more:?}: {said}");
    assert!(!Path::new(&place.path("l")).exists(), "{more:?} made a folder: {said}");
    assert!(!said.contains("settings:") && !said.contains("step 1 of"), "{more:?}: {said}");
    said
}

#[test]
fn what_a_step_would_die_of_is_refused_before_anything_is_made() {
    let place = Place::new();
    let cases: [(&[&str], &[&str]); 17] = [
        (&["label.top-k=5"], &["[label]: `--top-k` is of a server"]),
        (&["relabel.top-k=5"], &["[relabel]: `--top-k` is of a server"]),
        (&["filter.route=echo"], &["[filter]: `--route` is of a server"]),
        (&["label.prompt-variant=no"], &["[label]: task `claims` has no prompt variant `no`"]),
        (&["filter.prompt-variant=no"], &["[filter]: task `claims` has no prompt variant `no`"]),
        (&["train.prompt-variant=no"], &["[train]: task `claims` has no prompt variant `no`"]),
        (&["relabel.prompt-variant=no"], &["[relabel]: task `claims` has no prompt variant `no`"]),
        (&["label.prior=Tru=0.5"], &["[label]: `--prior Tru=0.5`"]),
        (&["relabel.prior=Tru=0.5"], &["[relabel]: `--prior Tru=0.5`"]),
        (&["label.num-seed=1"], &["[label]: `--num-seed` is 1, expected at least 2"]),
        // The published code's flag takes its preset, whose order has no trees.
        (&["label.scheduler=log"], &["[label]: `--trees` has no effect with `--order dataset`"]),
        (&["label.demonstrations=x"], &["key `demonstrations` of [label]"]),
        (&["filter.num-variants=1"], &["[filter]: `--num-variants` is 1, expected 2 or more"]),
        (&["filter.num-variants=999"], &["[filter]: question `c0-0` has "]),
        (&["train.lr=0"], &["[train]: `--lr` is 0"]),
        (&["train.best=true"], &["[train]: `--best` needs questions that are set aside"]),
        (
            &["train.target-modules=q_prj"],
            &["[train]: target modules [\"q_prj\"] match nothing in this model", "q_proj"],
        ),
    ];
    for (sets, parts) in cases {
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        let more: Vec<&str> = sets.chain(["--filter"]).collect();
        has(&refused(&place, &more), parts);
    }
    has(&refused(&place, &["--model", "no/model"]), &["no/model"]);
    has(&refused(&place, &["--device", "cuda:99"]), &["cuda"]);
}

fn setting(place: &Place, step: &str, name: &str) -> Value {
    let manifest: Value =
        serde_json::from_str(&place.read(&format!("{step}/manifest.json"))).unwrap();
    manifest["settings"][name].clone()
}

/// The limit of prompts is the loop's, and a table's for the steps of its command; what is trained on
/// has a limit of its own.
#[test]
fn a_limit_of_prompts_means_the_same_by_both_of_its_names() {
    let place = Place::new();
    for (out, name) in [("a", "max-context"), ("b", "max_model_len")] {
        let [label, relabel] =
            [("label", 300), ("relabel", 200)].map(|(table, n)| format!("{table}.{name}={n}"));
        let more = ["--max-context", "400", "--filter", "--set", &label, "--set", &relabel];
        good(&strs(&args(&place, out, &more)));
        for (step, limit) in [
            ("round-0/probe", Some(300)),
            ("round-1/label", Some(300)),
            ("round-1/filter", Some(400)),
            ("round-1/train", None),
            ("round-1/relabel", Some(200)),
            ("round-1/probe", Some(300)),
        ] {
            let found = setting(&place, &format!("{out}/{step}"), "max_context");
            assert_eq!(found, serde_json::json!(limit), "{out} {step}");
        }
    }
    let [a, b] = ["a", "b"].map(|out| results(Path::new(&place.path(out))));
    same(&a, &b);
    // What labels are asked with, the relabelling is, unless its table says otherwise.
    let set = ["--batches", "1", "--held-out", "0", "--set", "label.max_model_len=300"];
    good(&strs(&args(&place, "c", &set)));
    assert_eq!(setting(&place, "c/round-1/relabel", "max_context"), 300);
    for name in ["max-context", "max_model_len"] {
        let said = refused(&place, &["--set", &format!("train.{name}=300")]);
        has(&said, &[&format!("key `{name}` of [train]"), "hint: `max-tokens` limits"]);
    }
}

/// An option has all of its names, wherever it is refused or replaced.
#[test]
fn options_are_known_by_all_of_their_names() {
    let place = Place::new();
    for set in [
        "label.pack-tokens=64",
        "label.max_num_batched_tokens=64",
        "label.testbed=claims",
        "filter.do_sampling=true",
        "train.variants=x",
    ] {
        let (table, name) = set.split_once('=').unwrap().0.split_once('.').unwrap();
        let said = refused(&place, &["--filter", "--set", set]);
        has(&said, &[&format!("key `{name}` of [{table}]: the loop sets it, or it has no effect")]);
    }
    // In a file, at its line.
    let recipe = place.write("r.toml", "batches = 2\n[label]\nmax_num_batched_tokens = 64\n");
    has(
        &refused(&place, &[&recipe]),
        &["key `max_num_batched_tokens` of [label]", "r.toml`, line 3"],
    );
    // What is typed goes before what the file says, whatever name each of them uses.
    place.write("r.toml", "[train]\ngradient-checkpointing = true\n");
    for (out, set, expected) in [("x", None, true), ("y", Some("train.recompute=false"), false)] {
        let mut more = vec![recipe.as_str(), "--batches", "1", "--held-out", "0"];
        more.extend(set.iter().flat_map(|set| ["--set", *set]));
        good(&strs(&args(&place, out, &more)));
        let train = setting(&place, &format!("{out}/round-1/train"), "train");
        assert_eq!(train["recompute"], expected, "{out}");
    }
}
