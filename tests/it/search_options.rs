//! Starts, a chosen alpha, the collapse stop, on a table and through the program.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use w2s::data::{Rule, Task};
use w2s::label::{
    Aggregate, BatchSize, Block, GivenLabels, IcmSettings, Init, Labelling, Method, ScoreForm,
    TraceEvent, label,
};
use w2s::run::SeedStream;
use w2s::score::{Calibration, Question, TableScorer};

use crate::cli::{Place, good, strs, text, w2s};
use crate::search::{binary, copycat, example, examples, ising, parse, plain, signs};

/// Searches with a model that answers in log-odds of `positive`.
fn search(
    data: &[w2s::data::Example],
    settings: IcmSettings,
    rules: Vec<Rule>,
    seed: u64,
    log_odds: impl Fn(&str) -> f64,
) -> (w2s::error::Result<Labelling>, Vec<TraceEvent>) {
    let task = Task::load("sentiment").unwrap();
    let mut scorer = TableScorer::new(|prompt: &str, _: &Question| binary(log_odds(prompt)));
    let method = Method::Icm { settings, rules, batch_size: BatchSize::AtMost(256) };
    let mut events = Vec::new();
    let streams = SeedStream::new(seed);
    let result = label(&task, data, &method, streams, &mut scorer, &mut |event| {
        events.push(event.clone());
        Ok(())
    });
    (result, events)
}

/// Id and label of the examples that a search starts with.
fn start(events: &[TraceEvent]) -> BTreeMap<String, String> {
    match &events[0] {
        TraceEvent::Start { labels, .. } => labels.iter().cloned().collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn starts_differ_in_their_labels_only() {
    let data = examples(12);
    let gold: HashMap<String, usize> =
        data.iter().enumerate().map(|(i, e)| (e.id.clone(), i % 2)).collect();
    let mut num_unbalanced = 0;
    for seed in 0..20 {
        let started = |init: Init| {
            let settings = IcmSettings { num_seed: 6, iterations: 0, init, ..plain() };
            start(&search(&data, settings, vec![], seed, |_| 0.0).1)
        };
        let balanced = started(Init::Balanced);
        let unbalanced = started(Init::Unbalanced);
        let labels = Arc::new(gold.clone());
        let given = started(Init::Given(GivenLabels { name: "golden".into(), labels }));
        assert!(balanced.keys().eq(unbalanced.keys()) && balanced.keys().eq(given.keys()));
        let num = |labels: &BTreeMap<String, String>| {
            labels.values().filter(|label| *label == "positive").count()
        };
        assert_eq!((balanced.len(), num(&balanced)), (6, 3));
        num_unbalanced += usize::from(num(&unbalanced) != 3);
        for (id, label) in given {
            assert_eq!(label, ["negative", "positive"][gold[&id]], "{id}");
        }
    }
    // Three of six by fair coins in 20 of 64 cases: 13.75 of 20 draws are expected to be unequal.
    assert!((8..20).contains(&num_unbalanced), "{num_unbalanced}");
}

#[test]
fn a_search_that_starts_where_nothing_changes_proposes_nothing() {
    let data = examples(6);
    let ends = |label: usize, block: Block| {
        let labels = data.iter().map(|e| (e.id.clone(), label)).collect();
        let init = Init::Given(GivenLabels { name: "golden".into(), labels: Arc::new(labels) });
        let settings = IcmSettings { num_seed: 6, init, block, ..plain() };
        // The model says positive whatever stands before.
        let events = search(&data, settings, vec![], 0, |_| 2.0).1;
        let is_proposal = |event: &&TraceEvent| matches!(event, TraceEvent::Proposal { .. });
        let Some(TraceEvent::End { reason, .. }) = events.last() else { unreachable!() };
        (events.iter().filter(is_proposal).count(), reason.clone())
    };
    for block in [Block::Size(1), Block::Auto] {
        assert_eq!(ends(1, block), (0, "converged".to_owned()));
        let (num_proposals, reason) = ends(0, block);
        assert!(num_proposals > 0 && reason == "converged", "{num_proposals} {reason}");
    }
}

#[test]
fn all_iterations_are_made_where_a_change_was_refused() {
    let data = examples(6);
    // The first text is predicted positive, weakly; all others are surer while it is negative.
    let log_odds = |prompt: &str| {
        let (demonstrations, asked) = parse(prompt);
        match asked == "text 0" {
            true => 0.1,
            false if demonstrations.contains(&("text 0".to_owned(), 0)) => 3.0,
            false => 0.2,
        }
    };
    let ends = |stop_when_stable: bool, block: Block| {
        let labels = data.iter().map(|e| (e.id.clone(), usize::from(e.id != "e0"))).collect();
        let init = Init::Given(GivenLabels { name: "golden".into(), labels: Arc::new(labels) });
        let mut settings =
            IcmSettings { num_seed: 6, iterations: 9, init, block, stop_when_stable, ..plain() };
        settings.schedule.initial = 0.01;
        let (found, events) = search(&data, settings, vec![], 0, log_odds);
        let was_accepted = |event: &TraceEvent| match event {
            TraceEvent::Proposal { accepted, .. } => Some(*accepted),
            _ => None,
        };
        let proposals: Vec<bool> = events.iter().filter_map(was_accepted).collect();
        let Some(TraceEvent::End { reason, .. }) = events.last() else { unreachable!() };
        assert_eq!(found.unwrap().records[0].label, "negative");
        (proposals, reason.clone())
    };
    let blocks = |stop_when_stable| ends(stop_when_stable, Block::Auto);
    assert_eq!(blocks(true), (vec![false], "converged".to_owned()));
    let (proposals, reason) = blocks(false);
    // Every other iteration takes back what was refused.
    assert_eq!((proposals, reason.as_str()), (vec![false; 5], "iterations"));
    let (proposals, reason) = ends(false, Block::Size(1));
    assert!(proposals.len() > 1 && !proposals.contains(&true), "{proposals:?}");
    assert_eq!(reason, "iterations");
}

#[test]
fn only_examples_with_a_label_start() {
    let data = examples(12);
    let given = |ids: &[&str]| {
        let labels = ids.iter().map(|id| ((*id).to_owned(), 1)).collect();
        let init = Init::Given(GivenLabels { name: "golden".into(), labels: Arc::new(labels) });
        search(
            &data,
            IcmSettings { num_seed: 6, iterations: 0, init, ..plain() },
            vec![],
            0,
            |_| 0.0,
        )
    };
    let (_, events) = given(&["e3", "e7", "e9", "elsewhere"]);
    assert_eq!(start(&events).into_keys().collect::<Vec<_>>(), ["e3", "e7", "e9"]);
    let error = given(&["e3", "elsewhere"]).0.unwrap_err();
    assert_eq!(error.kind(), w2s::error::ErrorKind::Data);
    assert!(error.message().contains("a label for 1 of the 12 examples"), "{error}");
    // No label is shown where settings are logged.
    let labels = Arc::new(HashMap::from([("e3".to_owned(), 1)]));
    let init = Init::Given(GivenLabels { name: "golden".into(), labels });
    assert_eq!(format!("{init:?}"), "Given(GivenLabels(golden, 1 sealed))");
    assert_eq!(serde_json::to_value(&init).unwrap(), "golden");
}

/// The model reads every sign rightly and leans to `positive` by 3 nats.
#[test]
fn a_zero_shot_start_is_calibrated_as_the_search() {
    let values = [1.0, -1.0, 1.0, -1.0, -1.0, 1.0];
    let world = signs(&values);
    let data = examples(values.len());
    let started = |calibration| {
        let settings = IcmSettings {
            num_seed: 4,
            iterations: 0,
            init: Init::ZeroShot,
            calibration,
            ..plain()
        };
        let (_, events) = search(&data, settings, vec![], 2, |prompt| {
            3.0 + world.get(&parse(prompt).1).unwrap_or(&0.0)
        });
        start(&events)
    };
    assert!(started(Calibration::None).values().all(|label| label == "positive"));
    // Log-odds of 4 and 2 less their mean of 3 over all six, or less those of an empty item.
    for calibration in [Calibration::Batch, Calibration::ContentFree] {
        let labels = started(calibration);
        assert_eq!(labels.len(), 4);
        for (id, label) in labels {
            let value = values[id[1..].parse::<usize>().unwrap()];
            assert_eq!(label, if value > 0.0 { "positive" } else { "negative" }, "{id}");
        }
    }
}

/// Four examples that would all be alike, in two pairs that must differ. By hand: all positive, each
/// pulled by three others, log-odds .8 * 3 + .3 = 2.7, summed log-probability -0.26, two pairs violated.
/// One of each kind in both pairs: log-odds -.5 for the positive and 1.1 for the negative, summed -4.72.
/// So two pairs are worth 4.46 nats: at 1 nat each they are violated, at 10 nats they are not.
#[test]
fn a_chosen_alpha_prices_a_pair_in_nats() {
    let data: Vec<_> = [("a1", "a", "x"), ("a2", "a", "y"), ("b1", "b", "x"), ("b2", "b", "y")]
        .iter()
        .enumerate()
        .map(|(i, (id, group, key))| example(id, &format!("text {i}"), Some((group, key))))
        .collect();
    let world = signs(&[1.0; 4]);
    for aggregate in [Aggregate::Mean, Aggregate::Sum] {
        for (nats, pairs) in [(1.0, 2), (10.0, 0)] {
            for seed in 0..5 {
                let form = ScoreForm { aggregate, ..ScoreForm::default() };
                let settings = IcmSettings { form, auto_alpha: Some(nats), ..plain() };
                let rules = vec![Rule::Asymmetry];
                let (result, events) =
                    search(&data, settings, rules, seed, |prompt| ising(&world, prompt));
                let summary = result.unwrap().summary;
                let last = if aggregate == Aggregate::Mean { 4.0 / nats } else { 1.0 / nats };
                assert_eq!(summary.alphas, Some(vec![last]));
                let mut alpha = f64::NAN;
                let mut settled = 0;
                for event in &events {
                    match event {
                        TraceEvent::Alpha { alpha: new, num_labelled, .. } => {
                            settled = *num_labelled;
                            let n = if aggregate == Aggregate::Mean { settled } else { 1 };
                            assert!((new - n as f64 / nats).abs() < 1e-12);
                            alpha = *new;
                        }
                        TraceEvent::Proposal {
                            proposed_score: Some(score),
                            mutual_predictability: Some(mutual),
                            inconsistency: Some(pairs),
                            ..
                        } => assert!((score - (alpha * mutual - *pairs as f64)).abs() < 1e-12),
                        TraceEvent::End { score, mutual_predictability, inconsistency, .. } => {
                            assert_eq!(*inconsistency, pairs, "{aggregate:?} {nats} {seed}");
                            let total = alpha * mutual_predictability - pairs as f64;
                            assert!((score - total).abs() < 1e-12);
                        }
                        _ => {}
                    }
                }
                assert!(settled == if aggregate == Aggregate::Mean { 4 } else { 2 }, "{events:?}");
            }
        }
    }
}

#[test]
fn a_collapsed_search_stops_after_a_whole_sweep() {
    let data = examples(16);
    let run = |stop_on_collapse| {
        let settings =
            IcmSettings { stop_on_collapse, iterations: 400, stop_when_stable: false, ..plain() };
        search(&data, settings, vec![], 0, copycat)
    };
    let ending = |events: &[TraceEvent]| match events.last() {
        Some(TraceEvent::End { iteration, reason, .. }) => (*iteration, reason.clone()),
        other => panic!("{other:?}"),
    };
    let (result, events) = run(None);
    assert_eq!(ending(&events), (400, "iterations".to_owned()));
    let whole = result.unwrap().summary;
    assert_eq!((whole.num_collapsed, &whole.share["positive"]), (None, &1.0.into()));
    let (result, events) = run(Some(0.9));
    assert_eq!(result.unwrap().summary.num_collapsed, Some(1));
    // More than 14.4 of 16, counted from the trace.
    let mut held = start(&events);
    let mut since = None;
    for event in &events {
        let TraceEvent::Proposal { iteration, changes, accepted, .. } = event else { continue };
        for (id, _, to) in changes.iter().filter(|_| *accepted) {
            held.insert(id.clone(), to.clone().unwrap());
        }
        let num = held.values().filter(|label| *label == "positive").count();
        if held.len() < 16 || num.max(16 - num) < 15 {
            since = None;
        } else if since.is_none() {
            since = Some(*iteration);
        }
    }
    assert_eq!(ending(&events), (since.unwrap() + 15, "collapsed".to_owned()));
}

/// The numbers of the paper's appendix A.1, of the authors' flags and of the two forks.
pub fn json(place: &Place, name: &str) -> Value {
    serde_json::from_str(&place.read(name)).unwrap()
}

/// Law: what is not marked as using gold gives the same bytes whatever gold says; and a run that was cut
/// short ends with the bytes of one that was not.
#[test]
fn every_option_is_free_of_gold_unless_marked_and_resumes() {
    let place = Place::new();
    let claims = place.read("claims.jsonl");
    // All labels exchanged.
    let inverted: String = claims
        .lines()
        .map(|line| {
            let mut record: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            let label = match &record["label"] {
                Value::Bool(label) => *label,
                Value::String(label) => label == "True",
                number => number == &Value::from(1),
            };
            record.insert("label".into(), (!label).into());
            serde_json::to_string(&record).unwrap() + "\n"
        })
        .collect();
    let cases: [(&[&str], bool); 6] = [
        (&["--init", "zero-shot"], false),
        (&["--init", "unbalanced", "--stop-on-collapse", "0.6", "--run-all-iterations"], false),
        (&["--auto-alpha", "3"], false),
        (&["--preset", "icm-code", "--iterations", "40"], false),
        (&["--preset", "neutral-fork", "--iterations", "40"], false),
        (&["--init", "golden", "--auto-alpha", "3"], true),
    ];
    let files = ["labels.jsonl", "trace.jsonl", "summary.json"];
    for (number, (more, uses_gold)) in cases.into_iter().enumerate() {
        let out = |name: &str| format!("{name}{number}");
        place.write("claims.jsonl", &claims);
        good(&strs(&place.label(&out("whole"), more)));
        let read = |run: &str| files.map(|file| place.read(&format!("{run}/{file}")));
        let whole = read(&out("whole"));
        let manifest = json(&place, &format!("{}/manifest.json", out("whole")));
        assert_eq!(manifest["gold_used"] != false, uses_gold, "{more:?}");
        // A kill leaves the manifest and a prefix of the journal.
        let journal = place.read(&format!("{}/journal.jsonl", out("whole")));
        let cut = out("cut");
        std::fs::create_dir(place.path(&cut)).unwrap();
        let from = place.path(&format!("{}/manifest.json", out("whole")));
        std::fs::copy(from, place.path(&format!("{cut}/manifest.json"))).unwrap();
        place.write(&format!("{cut}/journal.jsonl"), &journal[..journal.len() / 2]);
        good(&strs(&place.label(&cut, &[more, &["--resume"]].concat())));
        assert_eq!(read(&cut), whole, "{more:?}");
        place.write("claims.jsonl", &inverted);
        good(&strs(&place.label(&out("inverted"), more)));
        let same = read(&out("inverted"))[1] == whole[1];
        assert_eq!(same, !uses_gold, "{more:?}");
    }
}

#[test]
fn wrong_uses_are_named() {
    let place = Place::new();
    let claims = place.path("claims.jsonl");
    let cases: [(&[&str], &str); 10] = [
        (&["--auto-alpha", "0"], "`--auto-alpha` is 0, expected a positive number"),
        (&["--auto-alpha", "2", "--alpha", "3"], "cannot be used with"),
        (&["--stop-on-collapse", "1"], "`--stop-on-collapse` is 1, expected a share"),
        (&["--gold", &claims], "`--gold` has no effect"),
        (&["--consistency", "leaky-reference,implication"], "excludes all other rules"),
        (&["--method", "zero-shot", "--preset", "icm-code"], "`--preset` has no effect"),
        (&["--method", "zero-shot", "--init", "golden"], "`--init` has no effect"),
        (&["--method", "zero-shot", "--stop-on-collapse", "0.9"], "has no effect"),
        (&["--preset", "icm-code", "--trees", "2"], "`--trees` has no effect"),
        (&["--preset", "icm-code", "--decay", "0.9"], "`--decay` has no effect"),
    ];
    for (more, part) in cases {
        let output = w2s(&strs(&place.label("run", more)));
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more:?}\n{message}");
        assert!(message.contains(part), "{part}\n{message}");
    }
    // The task has no published keys: its groups have keys of their text only.
    let output = w2s(&strs(&place.label("run", &["--consistency", "leaky-reference"])));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no record has a reference key"));
    let other = place.write("other.jsonl", "{\"id\": \"z\", \"label\": true}\n");
    let output = w2s(&strs(&place.label("run", &["--init", "golden", "--gold", &other])));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no example of the data has a gold label"));
}
