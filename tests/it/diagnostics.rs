//! Collapse, acceptance, revisits, margins, agreement between runs and noise, worked by hand.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;

use w2s::error::ErrorKind;
use w2s::eval::{
    LabelledRun, Margins, NoiseBy, SearchDiagnostics, agreement, basins, diagnose_reader, margins,
    noisy_labels,
};
use w2s::run::SeedStream;

fn close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-9, "got {got}, expected {expected}");
}

fn diagnose(trace: &str) -> SearchDiagnostics {
    let names = ["no", "yes"].map(str::to_owned);
    diagnose_reader(Cursor::new(trace), Path::new("trace.jsonl"), &names).expect("a good trace")
}

/// A trace of one batch: the labels at the start, then iterations.
struct Trace {
    text: String,
    iteration: usize,
}

impl Trace {
    fn start(labels: &[(&str, &str)]) -> Self {
        let labels = serde_json::to_string(labels).unwrap();
        let text = format!(
            "{{\"event\":\"start\",\"batch\":0,\"iteration\":0,\"labels\":{labels},\"score\":-9.0}}\n"
        );
        Self { text, iteration: 0 }
    }

    /// An iteration that draws `id` and proposes nothing.
    fn drawn(mut self, id: &str, label: &str) -> Self {
        self.iteration += 1;
        writeln!(
            self.text,
            r#"{{"event":"proposal","batch":0,"iteration":{},"id":"{id}","from":"{label}","predicted":"{label}","changes":[],"score":-9.0,"proposed_score":null,"temperature":1.0,"accepted":false}}"#,
            self.iteration
        )
        .unwrap();
        self
    }

    /// An iteration that proposes a label.
    fn proposed(
        mut self,
        (id, from, to): (&str, Option<&str>, &str),
        (delta, temperature): (f64, f64),
        accepted: bool,
    ) -> Self {
        self.iteration += 1;
        let from = serde_json::to_string(&from).unwrap();
        writeln!(
            self.text,
            r#"{{"event":"proposal","batch":0,"iteration":{},"id":"{id}","from":{from},"predicted":"{to}","changes":[["{id}",{from},"{to}"]],"score":-9.0,"proposed_score":{},"temperature":{temperature},"accepted":{accepted}}}"#,
            self.iteration,
            -9.0 + delta
        )
        .unwrap();
        self
    }
}

#[test]
fn margins_by_hand() {
    assert_eq!(margins(&[]), None);
    let even = margins(&[3.0, -1.0, 0.5, 0.0]).expect("some");
    let expected = Margins { num_labels: 4, mean_nats: 0.625, median_nats: 0.25, num_negative: 1 };
    assert_eq!(even, expected);
    assert_eq!(margins(&[2.0, -5.0, 1.0]).expect("some").median_nats, 1.0);
}

/// Four examples, so a sweep is four iterations: a, b at the start; c joins; a flips and flips back;
/// d joins; the last two iterations are a sweep that is not whole.
#[test]
fn sweeps_flips_acceptance_and_revisits_by_hand() {
    let trace = Trace::start(&[("a", "yes"), ("b", "no")])
        .proposed(("c", None, "yes"), (2.0, 10.0), true)
        .proposed(("a", Some("yes"), "no"), (-0.5, 9.0), true)
        .proposed(("b", Some("no"), "yes"), (-8.0, 3.0), false)
        .proposed(("a", Some("no"), "yes"), (0.0, 2.0), false)
        .proposed(("a", Some("no"), "yes"), (1.0, 1.9), true)
        .proposed(("d", None, "no"), (3.0, 0.01), true);
    let found = diagnose(&trace.text);
    let row = |i: usize| {
        let s = &found.sweeps[i];
        let counts = (s.num_proposals, s.num_accepted, s.num_flips, s.num_labelled);
        (s.first_iteration, s.last_iteration, counts, s.share.clone())
    };
    assert_eq!(found.sweeps.len(), 3);
    assert_eq!(row(0), (0, 0, (0, 0, 0, 2), vec![0.5, 0.5]));
    assert_eq!(row(1), (1, 4, (4, 2, 1, 3), vec![2.0 / 3.0, 1.0 / 3.0]));
    assert_eq!(row(2), (5, 6, (2, 2, 1, 4), vec![0.5, 0.5]));
    close(found.sweeps[1].entropy_nats, 0.636_514_168_3); // of 1/3 and 2/3
    // Octaves: [8, 16) two, [2, 4) two, [1, 2) one, [1/128, 1/64) one.
    let bins: Vec<_> = found
        .acceptance
        .iter()
        .map(|b| (b.low, b.num_proposals, b.num_accepted, b.num_downhill, b.num_downhill_accepted))
        .collect();
    let expected =
        [(8.0, 2, 2, 1, 1), (2.0, 2, 0, 2, 0), (1.0, 1, 1, 0, 0), (0.0078125, 1, 1, 0, 0)];
    assert_eq!(bins, expected);
    let ends: Vec<f64> = found.acceptance.iter().map(|bin| bin.high).collect();
    assert_eq!(ends, [16.0, 4.0, 2.0, 0.015625]);
    // a and b were drawn while they had a label; c and d never again.
    let counts =
        |f: &SearchDiagnostics| (f.num_examples, f.num_ever_labelled, f.num_never_revisited);
    assert_eq!(counts(&found), (4, 4, 2));
    // An example that never got a label is not one that was left alone with it.
    let refused = trace.proposed(("e", None, "yes"), (-9.0, 0.01), false);
    assert_eq!(counts(&diagnose(&refused.text)), (5, 4, 2));
    assert_eq!(found.collapses, []);
    close(found.collapse_below_nats, 2.0_f64.ln() / 2.0);
}

/// Ten examples, half and half, turned one by one: at 9 of 10 the entropy is .325, below .347; that
/// is the case from iteration 4 on, and a sweep of ten iterations is full at iteration 13.
#[test]
fn collapse_is_raised_after_a_whole_sweep() {
    let ids = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let start: Vec<(&str, &str)> =
        ids.iter().enumerate().map(|(i, id)| (*id, if i < 5 { "no" } else { "yes" })).collect();
    let turned = ids[..4].iter().fold(Trace::start(&start), |trace, id| {
        trace.proposed((id, Some("no"), "yes"), (1.0, 1.0), true)
    });
    let idle = |trace: Trace, num| (0..num).fold(trace, |trace: Trace, _| trace.drawn("j", "yes"));
    let back = |trace: Trace| trace.proposed(("a", Some("yes"), "no"), (1.0, 1.0), true);

    // Nine low iterations, then the entropy rises again: no alarm.
    let short = back(idle(Trace { text: turned.text.clone(), iteration: 4 }, 8));
    assert_eq!(diagnose(&short.text).collapses, []);
    let whole = back(idle(Trace { text: turned.text.clone(), iteration: 4 }, 9));
    let alarm = &diagnose(&whole.text).collapses[0];
    assert_eq!((alarm.since_iteration, alarm.iteration, alarm.recovered), (4, 13, true));
    assert_eq!((alarm.label.as_str(), alarm.share), ("yes", 0.9));
    close(alarm.entropy_nats, 0.325_082_973_4);
    // A search that ends collapsed says so, however soon it ended.
    let alarm = &diagnose(&turned.text).collapses[0];
    assert_eq!((alarm.since_iteration, alarm.iteration, alarm.recovered), (4, 4, false));
    // Few labels are often alike.
    let few = Trace::start(&[("a", "no"), ("b", "no")]);
    let few = ids.iter().skip(2).fold(few, |trace, id| {
        let label = if id < &"f" { "no" } else { "yes" };
        trace.proposed((id, None, label), (1.0, 1.0), true)
    });
    assert_eq!(diagnose(&few.text).collapses, []);
}

#[test]
fn broken_traces_name_the_line() {
    let names = ["no", "yes"].map(str::to_owned);
    let run = |text: &str| {
        diagnose_reader(Cursor::new(text), Path::new("t.jsonl"), &names).expect_err("must fail")
    };
    let good = Trace::start(&[("a", "yes")]).drawn("a", "yes").text;
    let lines: Vec<&str> = good.lines().collect();
    let error = run(&format!("{}\n", lines[1]));
    assert_eq!(error.place(), Some((Path::new("t.jsonl"), Some(1))));
    let error = run(&good.replace("[[\"a\",\"yes\"]]", "[[\"a\",\"maybe\"]]"));
    assert!(error.message().contains("label `maybe`"), "{error}");
    assert_eq!(run("{\"event\":\"dance\"}\n").kind(), ErrorKind::Run);
}

fn some(labels: &[usize]) -> Vec<Option<usize>> {
    labels.iter().copied().map(Some).collect()
}

#[test]
fn agreement_by_hand() {
    let a = some(&[0, 0, 0, 1, 1, 1]);
    let flipped = agreement(&a, &some(&[1, 1, 1, 0, 0, 1]), 2).expect("shared");
    close(flipped.as_named, 1.0 / 6.0);
    close(flipped.best, 5.0 / 6.0);
    assert!(flipped.is_renamed());
    // Three labels renamed 0 -> 2, 1 -> 0, 2 -> 1, and one error of seven.
    let a = some(&[0, 0, 0, 1, 1, 2, 2]);
    let b = some(&[2, 2, 0, 0, 0, 1, 1]);
    let got = agreement(&a, &b, 3).expect("shared");
    close(got.best, 6.0 / 7.0);
    assert_eq!(got.as_named, 1.0 / 7.0);
    // Only examples that both label count.
    let got = agreement(&[Some(0), None, Some(1)], &[Some(0), Some(1), None], 2).expect("one");
    assert_eq!((got.num_shared, got.best, got.is_renamed()), (1, 1.0, false));
    assert_eq!(agreement(&[None], &[Some(0)], 2), None);
}

/// The best renaming is that found by trying all of them.
#[test]
fn the_best_renaming_is_the_best_of_all() {
    fn permutations(num: usize) -> Vec<Vec<usize>> {
        if num == 0 {
            return vec![Vec::new()];
        }
        let insert = |shorter: Vec<usize>| {
            (0..num).map(move |at| {
                let mut longer = shorter.clone();
                longer.insert(at, num - 1);
                longer
            })
        };
        permutations(num - 1).into_iter().flat_map(insert).collect()
    }
    // A fixed sequence that spreads well enough (a linear congruence).
    let mut state = 12_345_u64;
    let mut draw = |num: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % num
    };
    for num_labels in 2..=5 {
        for _ in 0..30 {
            let a: Vec<usize> = (0..20).map(|_| draw(num_labels)).collect();
            let b: Vec<usize> = (0..20).map(|_| draw(num_labels)).collect();
            let equal =
                |names: &Vec<usize>| a.iter().zip(&b).filter(|(x, y)| names[**x] == **y).count();
            let expected = permutations(num_labels).iter().map(equal).max().unwrap();
            let got = agreement(&some(&a), &some(&b), num_labels).expect("shared");
            close(got.best, expected as f64 / 20.0);
        }
    }
}

/// Runs 0 and 1 are one division with other names, 2 is one example off 1; 3 is another division.
/// At .9 of ten examples all of 0, 1, 2 are one basin.
#[test]
fn basins_by_hand() {
    let run = |name: &str, labels: [usize; 10], score: f64| LabelledRun {
        name: name.to_owned(),
        labels: some(&labels),
        score: Some(score),
    };
    let runs = [
        run("s0", [0, 0, 0, 0, 0, 1, 1, 1, 1, 1], -10.0),
        run("s1", [1, 1, 1, 1, 1, 0, 0, 0, 0, 0], -12.0),
        run("s2", [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], -14.0),
        run("s3", [0, 1, 0, 1, 0, 1, 0, 1, 0, 1], -5.0),
    ];
    let truth = ("truth".to_owned(), some(&[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]));
    let parity = ("parity".to_owned(), some(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]));
    let found = basins(&runs, &[truth, parity], 2, 0.9);
    let [first, second] = found.basins.as_slice() else { panic!("{found:?}") };
    assert_eq!((first.runs.join(" "), second.runs.join(" ")), ("s3".into(), "s0 s1 s2".into()));
    assert_eq!((first.mean_score, first.agreement_within), (Some(-5.0), None));
    assert_eq!((second.mean_score, second.best_score), (Some(-12.0), Some(-10.0)));
    // Pairs: 1, .9, .9.
    close(second.agreement_within.expect("pairs"), 2.8 / 3.0);
    // With truth: 1 as named, 1 and .9 renamed.
    close(second.columns[0].agreement.expect("gold"), 2.9 / 3.0);
    assert_eq!(second.columns[0].num_renamed, 2);
    assert_eq!((first.columns[1].agreement, first.columns[1].num_renamed), (Some(1.0), 0));
    assert_eq!(basins(&runs, &[], 2, 0.95).basins.len(), 3);
    assert_eq!(basins(&[], &[], 2, 0.9).basins, []);
}

/// A run that is near two basins makes them one, in whatever order the runs come.
#[test]
fn basins_do_not_depend_on_the_order_of_runs() {
    let mut labels = [[0_usize; 12]; 3];
    for (i, row) in labels.iter_mut().enumerate() {
        row[6..].fill(1);
        // 0 and 1 differ in one place, 1 and 2 in another, 0 and 2 in both.
        row[..i].fill(1);
    }
    let run = |i: usize| LabelledRun { name: i.to_string(), labels: some(&labels[i]), score: None };
    for order in [[0, 1, 2], [0, 2, 1], [2, 0, 1]] {
        let found = basins(&order.map(run), &[], 2, 11.0 / 12.0);
        assert_eq!(found.basins.len(), 1, "{order:?}");
        assert_eq!(found.basins[0].mean_score, None);
    }
}

#[test]
fn noise_has_exactly_the_accuracy() {
    let labels: Vec<usize> = (0..100).map(|i| usize::from(i < 30) + usize::from(i < 5)).collect();
    let right = |noisy: &[usize], of: usize| {
        labels.iter().zip(noisy).filter(|(a, b)| **a == of && a == b).count()
    };
    for (accuracy, expected) in [(1.0, 100), (0.84, 84), (0.5, 50), (0.0, 0)] {
        let noisy =
            noisy_labels(&labels, 3, accuracy, NoiseBy::Overall, SeedStream::new(1)).unwrap();
        assert_eq!((0..3).map(|of| right(&noisy, of)).sum::<usize>(), expected);
        assert!(noisy.iter().all(|label| *label < 3));
    }
    // 70, 25 and 5 examples: .8 keeps 56, 20 and 4.
    let noisy = noisy_labels(&labels, 3, 0.8, NoiseBy::Label, SeedStream::new(1)).unwrap();
    assert_eq!([0, 1, 2].map(|of| right(&noisy, of)), [56, 20, 4]);
    let draw =
        |seed| noisy_labels(&labels, 3, 0.8, NoiseBy::Overall, SeedStream::new(seed)).unwrap();
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    // Both other labels are drawn.
    let noisy = noisy_labels(&[0; 50], 3, 0.0, NoiseBy::Overall, SeedStream::new(0)).unwrap();
    assert!(noisy.contains(&1) && noisy.contains(&2) && !noisy.contains(&0));
    for accuracy in [84.0, -0.1, f64::NAN] {
        let error =
            noisy_labels(&labels, 3, accuracy, NoiseBy::Overall, SeedStream::new(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}
