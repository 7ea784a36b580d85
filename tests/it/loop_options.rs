//! Options of the steps of `w2s loop`: each is understood before anything is made.

use std::path::Path;

use crate::cli::{Place, has, strs, text, w2s};
use crate::loop_runs::args;

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
