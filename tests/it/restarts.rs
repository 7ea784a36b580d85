//! Several searches, proposals in parallel, and the final check under a new order.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::{Place, good, strs, text, w2s};
use crate::search::{
    binary, examples, icm, ising, names_to_labels, parse, plain, score_by_formula, signs,
};
use w2s::data::Task;
use w2s::label::{IcmSettings, Labelling, OrderCheck, OrderOptions, TraceEvent, label};
use w2s::run::SeedStream;
use w2s::score::{Calibration, LabelScores, PromptTree, Question, Scorer, TableScorer, Usage};

const VALUES: [f64; 10] = [1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0];

/// Keeps what was asked and answered last, and how often.
struct Watched<S> {
    inner: S,
    num_calls: usize,
    last: Vec<(String, LabelScores)>,
}

impl<S: Scorer> Scorer for Watched<S> {
    fn score(&mut self, tree: &PromptTree) -> w2s::error::Result<(Vec<LabelScores>, Usage)> {
        self.num_calls += 1;
        let (scores, usage) = self.inner.score(tree)?;
        let ids = tree.questions().iter().map(|question| question.id.clone());
        self.last = ids.zip(scores.iter().cloned()).collect();
        Ok((scores, usage))
    }
    fn count_tokens(&self, text: &str) -> w2s::error::Result<usize> {
        self.inner.count_tokens(text)
    }
    fn max_tokens(&self) -> usize {
        self.inner.max_tokens()
    }
}

fn search(
    settings: IcmSettings,
    seed: u64,
    answer: impl FnMut(&str, &Question) -> Vec<f64>,
) -> (Labelling, Vec<TraceEvent>, usize, Vec<(String, LabelScores)>) {
    let task = Task::load("sentiment").unwrap();
    let data = examples(VALUES.len());
    let mut scorer = Watched { inner: TableScorer::new(answer), num_calls: 0, last: Vec::new() };
    let mut events = Vec::new();
    let method = icm(settings, vec![]);
    let streams = SeedStream::new(seed);
    let found = label(&task, &data, &method, streams, &mut scorer, &mut |event| {
        events.push(event.clone());
        Ok(())
    });
    (found.unwrap(), events, scorer.num_calls, scorer.last)
}

fn world() -> impl FnMut(&str, &Question) -> Vec<f64> {
    let world = signs(&VALUES);
    move |prompt: &str, _: &Question| binary(ising(&world, prompt))
}

#[test]
fn proposals_in_parallel_are_predicted_in_one_call_and_decided_in_turn() {
    let (_, _, one_by_one, _) = search(plain(), 4, world());
    let settings = IcmSettings { num_parallel_proposals: 4, ..plain() };
    let (result, events, together, _) = search(settings, 4, world());
    assert!(together < one_by_one, "{together} calls against {one_by_one}");
    let mut held: BTreeMap<String, String> = BTreeMap::new();
    let mut drawn: Vec<String> = Vec::new();
    for event in &events {
        match event {
            TraceEvent::Start { labels, .. } => held.extend(labels.iter().cloned()),
            TraceEvent::Proposal { iteration, id, from, changes, score, accepted, .. } => {
                drawn.push(id.clone());
                assert_eq!(*iteration as usize, drawn.len());
                assert_eq!(from.as_ref(), held.get(id));
                // U of the labels held at the decision, not at the draw.
                let labelled: Vec<(f64, usize)> = held
                    .iter()
                    .map(|(id, label)| {
                        let i: usize = id.strip_prefix('e').unwrap().parse().unwrap();
                        (VALUES[i], usize::from(label == "positive"))
                    })
                    .collect();
                let (values, labels): (Vec<f64>, Vec<usize>) = labelled.into_iter().unzip();
                assert!((score - score_by_formula(&values, &labels, 0.0)).abs() < 1e-9);
                for (id, _, to) in changes.iter().filter(|_| *accepted) {
                    held.insert(id.clone(), to.clone().unwrap());
                }
            }
            _ => {}
        }
    }
    for round in drawn.chunks(4) {
        assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), round.len(), "{round:?}");
    }
    // Right or mirrored, as with one at a time.
    let labels = names_to_labels(&result.records);
    let right = labels.iter().zip(VALUES).filter(|(l, v)| (**l == 1) == (*v > 0.0)).count();
    assert!(right == 0 || right == VALUES.len(), "{labels:?}");
}

#[test]
fn the_best_of_several_searches_is_kept() {
    let (alone, events, ..) = search(plain(), 0, world());
    assert!(alone.restarts.is_empty() && alone.summary.restarts.is_none());
    let settings = IcmSettings { num_restarts: 6, ..plain() };
    let (all, every, ..) = search(settings, 0, world());
    let summaries = all.summary.restarts.clone().unwrap();
    assert_eq!((all.restarts.len(), summaries.len()), (6, 6));
    // The first is the search of the seed itself.
    assert_eq!(all.restarts[0].records, alone.records);
    assert_eq!(every[0], TraceEvent::Restart { restart: 0 });
    assert_eq!(every[1..=events.len()], events);
    let best = summaries.iter().map(|s| s.score).fold(f64::NEG_INFINITY, f64::max);
    let kept = summaries.iter().find(|s| s.kept).unwrap();
    assert_eq!((summaries.iter().filter(|s| s.kept).count(), kept.score), (1, best));
    assert_eq!(all.records, all.restarts[kept.restart].records);
    assert_eq!(all.summary.score, Some(best));
    for (restart, summary) in all.restarts.iter().zip(&summaries) {
        let labels = names_to_labels(&restart.records);
        assert!((restart.score - score_by_formula(&VALUES, &labels, 0.0)).abs() < 1e-9);
        // This world knows no order: one common to all changes nothing.
        assert!((summary.score_under_common_order.unwrap() - summary.score).abs() < 1e-9);
    }
    // Both the truth and its mirror image are found: seeds differ.
    let labels: BTreeSet<Vec<usize>> =
        all.restarts.iter().map(|restart| names_to_labels(&restart.records)).collect();
    assert!(labels.len() >= 2, "{labels:?}");
}

/// A world in which the last demonstration counts more, the more so the later in the data it stands.
fn recency(prompt: &str, _: &Question) -> Vec<f64> {
    let world = signs(&VALUES);
    let (demonstrations, asked) = parse(prompt);
    let spin = |(t, label): &(String, usize)| world[t] * if *label == 1 { 1.0 } else { -1.0 };
    let all: f64 = demonstrations.iter().map(spin).sum();
    let weight = |t: &str| t.strip_prefix("text ").unwrap().parse::<f64>().unwrap();
    let last = demonstrations.last().map_or(0.0, |d| weight(&d.0) * spin(d));
    binary(world[&asked] * (0.2 * (all + last) + 0.1))
}

#[test]
fn the_final_check_is_what_the_last_pass_says() {
    for order in [OrderOptions::DATASET, OrderOptions::PURE_HALVING] {
        let settings = IcmSettings { order, ..plain() };
        let (found, _, num_calls, last) = search(settings.clone(), 1, recency);
        let check = found.summary.order_check.unwrap();
        let now: BTreeMap<&str, &LabelScores> =
            last.iter().map(|(id, scores)| (id.as_str(), scores)).collect();
        let (mut moved, mut turned, mut sum) = (0.0, 0, 0.0);
        for record in &found.records {
            let scores = now[record.id.as_str()];
            let label = usize::from(record.label == "positive");
            let margin = scores.logprobs[label] - scores.logprobs[1 - label];
            moved += (margin - record.margin).abs();
            turned += usize::from((margin > 0.0) != (record.margin > 0.0));
            sum += scores.logprobs[label];
        }
        let num = found.records.len() as f64;
        assert_eq!(check.num_labels, found.records.len());
        assert!(check.mean_margin_change_nats > 0.0, "the order matters in this world");
        assert!((check.mean_margin_change_nats - moved / num).abs() < 1e-9);
        assert!((check.share_predicted_otherwise - turned as f64 / num).abs() < 1e-9);
        assert!((check.score - 50.0 * sum / num).abs() < 1e-9);
        assert!((check.score_change - (check.score - found.summary.score.unwrap())).abs() < 1e-9);
        // Left out, it costs nothing and changes nothing else.
        let settings = IcmSettings { check_order: false, ..settings };
        let (without, _, num_calls_without, _) = search(settings.clone(), 1, recency);
        assert_eq!((without.summary.order_check, num_calls_without), (None, num_calls - 1));
        assert_eq!(without.records, found.records);
    }
}

#[test]
fn checks_of_batches_are_weighed() {
    let check = |num_labels, score, change: f64| OrderCheck {
        num_labels,
        score,
        score_change: change,
        mean_margin_change_nats: change.abs(),
        share_predicted_otherwise: 0.0,
    };
    assert_eq!(OrderCheck::mean(&[]), None);
    // Of 3 and 1 examples, of which 1 and 1 got a label.
    let mean = OrderCheck::mean(&[(check(1, -1.0, 2.0), 3), (check(1, -5.0, -4.0), 1)]).unwrap();
    assert_eq!((mean.num_labels, mean.score, mean.score_change), (2, -2.0, 0.5));
    assert_eq!(mean.mean_margin_change_nats, 3.0);
}

#[test]
fn examples_that_are_never_drawn_again_are_counted() {
    let settings = IcmSettings { calibration: Calibration::Batch, ..plain() };
    let (result, events, ..) = search(settings, 2, world());
    let mut drawn_again = BTreeSet::new();
    for event in &events {
        if let TraceEvent::Proposal { id, from: Some(_), .. } = event {
            drawn_again.insert(id.clone());
        }
    }
    let never = result.records.iter().filter(|record| !drawn_again.contains(&record.id)).count();
    assert_eq!(result.summary.num_never_revisited, Some(never));
}

#[test]
fn restarts_have_folders_basins_and_resume() {
    let place = Place::new();
    let options = ["--restarts", "3", "--iterations", "12", "--parallel-proposals", "2"];
    let run =
        strs(&place.label("run", &options)).iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let output = w2s(&strs(&run));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let message = text(&output.stderr);
    for part in ["kept restart ", " of 3 (U ", "basins in all", "under a new demonstration order"] {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
    let summary: serde_json::Value = serde_json::from_str(&place.read("run/summary.json")).unwrap();
    let all = summary["restarts"].as_array().unwrap();
    let kept = all.iter().position(|restart| restart["kept"] == true).unwrap();
    for file in ["labels.jsonl", "trace.jsonl"] {
        let own = place.read(&format!("run/{file}"));
        assert_eq!(own, place.read(&format!("run/restarts/{kept}/{file}")));
        assert!(!own.contains("\"restart\""));
    }
    assert_ne!(place.read("run/restarts/0/trace.jsonl"), place.read("run/restarts/1/trace.jsonl"));
    let num_in_basins = |basins: &serde_json::Value| {
        let basins = basins["basins"].as_array().unwrap().iter();
        basins.map(|basin| basin["runs"].as_array().unwrap().len()).sum::<usize>()
    };
    assert_eq!(num_in_basins(&summary["basins"]), 3);

    // Stopped in the second search.
    let journal = place.read("run/journal.jsonl");
    let ends: Vec<usize> = journal.match_indices('\n').map(|(at, _)| at + 1).collect();
    for cut in [ends[ends.len() / 2], ends[ends.len() - 2] + 5] {
        let out = format!("cut{cut}");
        std::fs::create_dir(place.path(&out)).unwrap();
        let manifest = place.path(&format!("{out}/manifest.json"));
        std::fs::copy(place.path("run/manifest.json"), manifest).unwrap();
        place.write(&format!("{out}/journal.jsonl"), &journal[..cut]);
        good(&strs(&place.label(&out, &[options.as_slice(), &["--resume"]].concat())));
        let mut files = vec!["labels.jsonl".into(), "trace.jsonl".into(), "summary.json".into()];
        for restart in 0..3 {
            files.push(format!("restarts/{restart}/labels.jsonl"));
            files.push(format!("restarts/{restart}/trace.jsonl"));
        }
        for file in files {
            let [a, b] = ["run", &out].map(|run| place.read(&format!("{run}/{file}")));
            assert_eq!(a, b, "{file}");
        }
    }

    // With gold: each basin with its agreement, in the file and on the page.
    let (claims, folder) = (place.path("claims.jsonl"), place.path("run"));
    let output = w2s(&["eval", "--gold", &claims, &folder]);
    assert!(text(&output.stderr).contains("run restart 0"), "{}", text(&output.stderr));
    let basins: serde_json::Value = serde_json::from_str(&place.read("run/basins.json")).unwrap();
    assert_eq!(num_in_basins(&basins), 3);
    assert!(basins["basins"][0]["columns"][0]["agreement"].as_f64().unwrap() >= 0.5);
    good(&["report", &folder, "--out", &place.path("report")]);
    let page = place.read("report/report.md");
    for part in ["## Basins of ICM", "Final labels scored once more", "run restart 2"] {
        assert!(page.contains(part), "`{part}` is not in:\n{page}");
    }

    // Replaced by a run without restarts, nothing of them is left, but what is not ours.
    place.write("run/restarts/1/mine.txt", "x");
    good(&strs(&place.label("run", &["--iterations", "4", "--force"])));
    let left = |path: &str| std::path::Path::new(&place.path(path)).exists();
    assert!(!left("run/restarts/0") && !left("run/restarts/1/trace.jsonl"));
    assert!(left("run/restarts/1/mine.txt") && !left("run/basins.json"));
}

#[test]
fn options_of_the_search_are_settled_and_refused() {
    let place = Place::new();
    let options = ["--objective", "prequential", "--num-demonstrations", "2", "--iterations", "6"];
    good(&strs(&place.label("run", &options)));
    let manifest: serde_json::Value =
        serde_json::from_str(&place.read("run/manifest.json")).unwrap();
    let search = &manifest["settings"]["search"];
    assert_eq!(search["form"]["objective"], "prequential");
    assert_eq!(
        (&search["num_demonstrations"], &search["num_prequential_orders"]),
        (&2.into(), &4.into())
    );
    let cases: [(&[&str], &str); 6] = [
        (&["--prequential-orders", "2"], "`--prequential-orders` has no effect"),
        (&["--anchors", "2", "--num-demonstrations", "3"], "`--anchors` has no effect"),
        (&["--num-demonstrations", "0"], "expected `all` or a number from 1 up"),
        (&["--method", "zero-shot", "--num-demonstrations", "3"], "has no effect"),
        (&["--method", "zero-shot", "--restarts", "3"], "`--restarts` has no effect"),
        (&["--method", "zero-shot", "--no-order-check"], "`--no-order-check` has no effect"),
    ];
    for (more, part) in cases {
        let output = w2s(&strs(&place.label("refused", more)));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    let few = ["--method", "few-shot", "--demonstrations", &place.path("claims.jsonl")];
    good(&strs(&place.label("few", &[few.as_slice(), &["--num-demonstrations", "3"]].concat())));
}
