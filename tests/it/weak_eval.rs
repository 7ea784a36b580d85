//! What weak labels and their filter are worth: by hand and by law.

use std::collections::HashMap;

use w2s::data::{WeakRecord, WeightRecord};
use w2s::error::ErrorKind;
use w2s::eval::{
    Binning, Estimate, Tally, WeakEvaluation, Z_95, bootstrap_mean, evaluate_weak, filter_gain,
    wilson,
};
use w2s::run::SeedStream;

pub fn record(id: &str, label: Option<&str>, entropy_nats: f64) -> WeakRecord {
    WeakRecord {
        id: id.to_owned(),
        label: label.map(str::to_owned),
        text: None,
        distribution: None,
        entropy_nats,
        aleatoric_nats: 0.0,
        epistemic_nats: entropy_nats,
        agreement: 1.0,
        weight: 1.0,
        num_variants: 5,
        num_unparsed: 0,
        reason: "entropy".to_owned(),
        split: None,
    }
}

/// So many rows of each answer, each of a weight.
pub fn rows(id: &str, answers: &[(usize, Option<&str>, f64)]) -> Vec<WeightRecord> {
    let each = answers.iter().flat_map(|answer| std::iter::repeat_n(answer, answer.0));
    each.enumerate()
        .map(|(variant, &(_, answer, weight))| WeightRecord {
            id: id.to_owned(),
            variant,
            answer: answer.map(str::to_owned),
            weight,
        })
        .collect()
}

pub struct Run {
    pub kept: Vec<WeakRecord>,
    pub dropped: Vec<WeakRecord>,
    pub rows: Vec<WeightRecord>,
    pub gold: HashMap<String, String>,
}

const POS: Option<&str> = Some("positive");
const NEG: Option<&str> = Some("negative");

/// Eight questions of five variants, with the weights and entropies of the published check values
/// (5-0: 1, 0; 4-1: .953 and .047, .500; 3-2: .731 and .269, .673). Nothing could be read of `g`;
/// `h` has no gold.
pub fn small_run() -> Run {
    let kept = [("a", POS, 0.0), ("b", NEG, 0.0), ("c", POS, 0.0), ("d", NEG, 0.500)];
    let dropped = [("e", POS, 0.673), ("f", NEG, 0.673), ("g", None, 0.0), ("h", POS, 1.055)];
    let records = |all: &[(&str, Option<&str>, f64)]| {
        all.iter().map(|&(id, label, entropy)| record(id, label, entropy)).collect()
    };
    let answers = [
        rows("a", &[(5, POS, 1.0)]),
        rows("b", &[(5, NEG, 1.0)]),
        rows("c", &[(5, POS, 1.0)]),
        rows("d", &[(4, NEG, 0.953), (1, POS, 0.047)]),
        rows("e", &[(3, POS, 0.731), (2, NEG, 0.269)]),
        rows("f", &[(3, NEG, 0.731), (2, POS, 0.269)]),
        rows("g", &[(5, None, 0.0)]),
        rows("h", &[(2, POS, 0.422), (2, NEG, 0.422), (1, None, 0.0)]),
    ];
    let gold = [("a", "positive")].into_iter();
    let gold = gold.chain(["b", "c", "d", "e", "f", "g"].map(|id| (id, "negative")));
    Run {
        kept: records(&kept),
        dropped: records(&dropped),
        rows: answers.concat(),
        gold: gold.map(|(id, label)| (id.to_owned(), label.to_owned())).collect(),
    }
}

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn evaluate(run: &Run, names: &[&str], binning: Binning) -> w2s::error::Result<WeakEvaluation> {
    let rng = &mut SeedStream::new(7).rng("test", &[]);
    evaluate_weak(&run.kept, &run.dropped, &run.rows, &run.gold, &labels(names), binning, rng)
}

pub const NAMES: [&str; 2] = ["negative", "positive"];

fn close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-9, "got {got}, expected {expected}");
}

fn holds(estimate: Option<Estimate>, expected: f64) {
    let Estimate { value, low, high } = estimate.expect("defined");
    close(value, expected);
    assert!(low <= value && value <= high, "{low} {value} {high}");
}

#[test]
fn a_small_run_by_hand() {
    let got = evaluate(&small_run(), &NAMES, Binning::Distinct).expect("valid");
    assert_eq!((got.num_questions, got.num_kept, got.num_with_gold), (8, 4, 7));
    assert_eq!(got.retained_share, 0.5);
    let counts = |of: &w2s::eval::WeakAccuracy| (of.num_questions, of.num_right, of.num_unparsed);
    assert_eq!(counts(&got.before), (7, 4, 1));
    assert_eq!(counts(&got.kept), (4, 3, 0));
    assert_eq!(counts(&got.dropped), (3, 1, 1));
    assert_eq!(got.kept.accuracy, Some(0.75));
    assert_eq!((got.kept.wilson_low, got.kept.wilson_high), wilson(3, 4, Z_95));
    holds(got.gain, 3.0 / 4.0 - 4.0 / 7.0);

    // Right: a 0, b 0, d .500, f .673; wrong: c 0, e .673, g 0. a and b win 1 and tie twice each, d
    // wins 1, f ties once: 5.5 of 12 pairs.
    holds(got.auroc, 5.5 / 12.0);

    let bins: Vec<_> = got.bins.iter().map(|b| (b.low_nats, b.num_wrong, b.num_kept)).collect();
    assert_eq!(bins, [(0.0, 1, 3), (0.500, 0, 1), (0.673, 1, 0)]);
    assert_eq!(counts(&got.bins[0].labels), (4, 2, 1));
    assert!(got.bins.iter().all(|bin| bin.low_nats == bin.high_nats));

    // Right rows: 5, 5, 0, 4, 2, 3, 0 of five each, weighing 5 + 5 + 3.812 + .538 + 2.193 of
    // 15 + 3.859 + 2 * 2.731.
    assert_eq!((got.rows.num_rows, got.rows.num_unparsed), (35, 5));
    holds(got.rows.all, 19.0 / 35.0);
    holds(got.rows.kept, 14.0 / 20.0);
    holds(got.rows.dropped, 5.0 / 15.0);
    holds(got.rows.weighted, 16.543 / 24.321);
    holds(got.rows.kept_weighted, 13.812 / 18.859);

    let map = got.reliability_map.expect("labels");
    let cell = |truth: usize, answer: usize| map.cells[truth][answer];
    let filled = |truth, answer, num_rows, sum: f64| {
        assert_eq!(cell(truth, answer).num_rows, num_rows);
        close(cell(truth, answer).mean_weight.expect("rows"), sum / num_rows as f64);
    };
    filled(0, 0, 14, 5.0 + 4.0 * 0.953 + 2.0 * 0.269 + 3.0 * 0.731);
    filled(0, 1, 11, 5.0 + 0.047 + 3.0 * 0.731 + 2.0 * 0.269);
    filled(0, 2, 5, 0.0);
    filled(1, 1, 5, 5.0);
    assert_eq!((cell(1, 0).num_rows, cell(1, 0).mean_weight), (0, None));
    assert_eq!((cell(1, 2).num_rows, cell(1, 2).mean_weight), (0, None));

    let of = |i: usize| {
        let label = &got.coverage[i];
        (label.num_gold, label.num_gold_kept, label.num_given, label.num_given_kept)
    };
    assert_eq!((of(0), of(1)), ((6, 3, 3, 2), (1, 1, 3, 2)));
    assert_eq!(got.calibration, None, "votes have no distribution");
}

#[test]
fn open_answers_have_no_map_and_the_same_accuracies() {
    let with = evaluate(&small_run(), &NAMES, Binning::Distinct).expect("valid");
    let open = evaluate(&small_run(), &[], Binning::Distinct).expect("valid");
    assert_eq!((open.reliability_map, open.coverage.len()), (None, 0));
    assert_eq!((open.before, open.bins, open.rows), (with.before, with.bins, with.rows));
}

#[test]
fn a_filter_that_keeps_all_gains_nothing() {
    let mut run = small_run();
    run.kept.append(&mut run.dropped);
    let got = evaluate(&run, &NAMES, Binning::Distinct).expect("valid");
    assert_eq!(got.gain, None);
    assert_eq!((got.kept, got.dropped.accuracy), (got.before, None));
    assert_eq!((got.dropped.wilson_low, got.dropped.wilson_high), (0.0, 1.0));
    assert_eq!((got.rows.kept, got.rows.dropped), (got.rows.all, None));

    run.dropped.append(&mut run.kept);
    let got = evaluate(&run, &NAMES, Binning::Distinct).expect("valid");
    assert_eq!((got.gain, got.kept.accuracy, got.retained_share), (None, None, 0.0));
}

#[test]
fn counts_add_up_in_any_order_of_the_files() {
    let got = evaluate(&small_run(), &NAMES, Binning::Distinct).expect("valid");
    let sum = |of: fn(&w2s::eval::EntropyBin) -> usize| got.bins.iter().map(of).sum::<usize>();
    assert_eq!(sum(|bin| bin.labels.num_questions), got.before.num_questions);
    assert_eq!(sum(|bin| bin.labels.num_right), got.before.num_right);
    assert_eq!(sum(|bin| bin.num_kept), got.kept.num_questions);
    for bin in &got.bins {
        let labels = &bin.labels;
        let parts = labels.num_right + bin.num_wrong + labels.num_unparsed;
        assert_eq!(parts, labels.num_questions);
    }
    let map = got.reliability_map.as_ref().expect("labels");
    let in_map: usize = map.cells.iter().flatten().map(|cell| cell.num_rows).sum();
    assert_eq!(in_map, got.rows.num_rows);
    assert_eq!(got.coverage.iter().map(|label| label.num_gold).sum::<usize>(), 7);

    let mut run = small_run();
    run.kept.reverse();
    run.dropped.reverse();
    run.rows.reverse();
    let other = evaluate(&run, &NAMES, Binning::Distinct).expect("valid");
    assert_eq!((&other.bins, other.before, other.kept), (&got.bins, got.before, got.kept));
    let value = |estimate: Option<Estimate>| estimate.map(|e| e.value);
    assert_eq!(value(other.auroc), value(got.auroc));
    assert_eq!(value(other.gain), value(got.gain));
}

/// Right and wrong ones of the kept, right and wrong ones of the dropped. The bounds are a numpy program's:
/// Wilson's interval of the share dropped, Newcombe's of the difference (his method 10), and the least and
/// the greatest product on the ellipse of both, by 100,001 angles.
#[test]
fn the_interval_of_the_gain_on_few_questions() {
    for (counts, bounds) in [
        ([19, 2, 5, 4], [0.008_422_67, 0.239_272_60]),
        ([3, 0, 1, 2], [-0.029_732_08, 0.622_320_84]),
        ([5, 5, 5, 5], [-0.199_129_55, 0.199_129_55]),
        ([1, 0, 0, 1], [-0.063_100_35, 0.905_468_80]),
    ] {
        let [kept, wrong_kept, dropped, wrong_dropped] = counts;
        let tally = |num_right: usize, num_wrong| Tally { num_right, num: num_right + num_wrong };
        let gain = filter_gain(tally(kept, wrong_kept), tally(dropped, wrong_dropped));
        let gain = gain.expect("both sides have some");
        for (found, expected) in [gain.low, gain.high].into_iter().zip(bounds) {
            assert!((found - expected).abs() < 2e-6, "{counts:?}: {gain:?}");
        }
    }
}

/// 500 kept of which 80 % are right, 500 dropped of which 40 % are. The gain is (1 - s) (p - q) with
/// s the share kept; by the delta method its variance is .5^2 (.16 / 500 + .24 / 500) + .4^2 .25 / 1000.
#[test]
fn the_interval_of_the_gain_is_that_of_the_delta_method() {
    let many = |name: &str, num_right: usize, entropy: f64| -> Vec<WeakRecord> {
        (0..500)
            .map(|i| record(&format!("{name}{i}"), if i < num_right { POS } else { NEG }, entropy))
            .collect()
    };
    let (kept, dropped) = (many("k", 400, 0.0), many("d", 200, 0.5));
    let all = kept.iter().chain(&dropped);
    let gold = all.map(|one| (one.id.clone(), "positive".to_owned())).collect();
    let run = Run { kept, dropped, rows: Vec::new(), gold };
    let got = evaluate(&run, &NAMES, Binning::Distinct).expect("valid");
    let Estimate { value, low, high } = got.gain.expect("kept some");
    close(value, 0.2);
    let error = (0.25 * (0.16 + 0.24) / 500.0 + 0.16 * 0.25 / 1000.0_f64).sqrt();
    for end in [0.2 - low, high - 0.2] {
        assert!((end - 1.96 * error).abs() < 0.004, "{end} against {}", 1.96 * error);
    }
    // Of 600 right and 400 wrong: 400 * 300 won, 400 * 100 + 200 * 300 tied.
    let auroc = got.auroc.expect("both kinds");
    close(auroc.value, (120_000.0 + 50_000.0) / 240_000.0);
    assert!(auroc.low > 0.67 && auroc.high < 0.75, "{auroc:?}");
    assert_eq!(got.doubt_of_entropy(), None);
    assert_eq!(got.rows.all, None, "no rows, no accuracy of rows");

    // Of one row a question, the accuracy of rows is a mean over questions.
    let rows = run.kept.iter().chain(&run.dropped).map(|one| WeightRecord {
        id: one.id.clone(),
        variant: 0,
        answer: one.label.clone(),
        weight: 0.3,
    });
    let run = Run { rows: rows.collect(), ..run };
    let got = evaluate(&run, &NAMES, Binning::Distinct).expect("valid");
    let values: Vec<f64> = (0..1000).map(|i| f64::from(i < 600)).collect();
    let rng = &mut SeedStream::new(1).rng("test", &[]);
    let mean = bootstrap_mean(&[values], 2000, 0.95, rng).expect("values");
    for rate in [got.rows.all, got.rows.weighted] {
        let Estimate { value, low, high } = rate.expect("rows");
        close(value, 0.6);
        assert!((low - mean.low).abs() < 0.004 && (high - mean.high).abs() < 0.004);
    }
}

fn at_entropies(entropies: &[f64]) -> Run {
    let records = entropies.iter().enumerate();
    let kept: Vec<WeakRecord> =
        records.map(|(i, &entropy)| record(&i.to_string(), POS, entropy)).collect();
    let gold = kept.iter().map(|one| (one.id.clone(), "positive".to_owned())).collect();
    Run { kept, dropped: Vec::new(), rows: Vec::new(), gold }
}

#[test]
fn bins_are_values_or_equal_counts_with_ties_together() {
    let sizes = |entropies: &[f64], binning| -> Vec<usize> {
        let got = evaluate(&at_entropies(entropies), &NAMES, binning).expect("valid");
        assert!(got.bins.windows(2).all(|two| two[0].high_nats < two[1].low_nats));
        got.bins.iter().map(|bin| bin.labels.num_questions).collect()
    };
    let spread: Vec<f64> = (0..12).map(|i| f64::from(i) * 0.1).collect();
    assert_eq!(sizes(&spread, Binning::EqualCounts), [2; 6]);
    assert_eq!(sizes(&spread, Binning::Distinct), [1; 12]);
    let more: Vec<f64> = (0..13).map(|i| f64::from(i) * 0.1).collect();
    assert_eq!(sizes(&more, Binning::Distinct).len(), 6, "too many values for a bin each");
    // Six at 0: their middle is the third of twelve, in the second sixth.
    let tied: Vec<f64> = (0..12).map(|i| f64::from((i - 5).max(0)) * 0.1).collect();
    assert_eq!(sizes(&tied, Binning::EqualCounts), [6, 2, 2, 2]);
    // Of the six bins those below the filter's cut have its share.
    let cut = |num: usize, num_kept: usize| -> Vec<(usize, usize)> {
        let entropies: Vec<f64> = (0..num).map(|i| i as f64 * 0.1).collect();
        let mut run = at_entropies(&entropies);
        run.dropped = run.kept.split_off(num_kept);
        let got = evaluate(&run, &NAMES, Binning::EqualCounts).expect("valid");
        got.bins.iter().map(|bin| (bin.labels.num_questions, bin.num_kept)).collect()
    };
    assert_eq!(cut(12, 8), [(2, 2), (2, 2), (2, 2), (2, 2), (2, 0), (2, 0)]);
    assert_eq!(cut(12, 5), [(2, 2), (1, 1), (2, 2), (2, 0), (3, 0), (2, 0)]);
    assert_eq!(cut(12, 1), [(1, 1), (2, 0), (2, 0), (3, 0), (2, 0), (2, 0)]);
    // The same counts summed in another order.
    assert_eq!(sizes(&[0.673, 0.673 + 1e-12, 0.95, 0.673 - 1e-12], Binning::Distinct), [3, 1]);
    assert_eq!(sizes(&[0.3], Binning::EqualCounts), [1]);
    let got = evaluate(&at_entropies(&[0.1, 0.2]), &NAMES, Binning::Distinct).expect("valid");
    assert_eq!((got.auroc, got.doubt_of_entropy()), (None, None), "all are right");
}

/// Two labels: (.8 for the true one) and (.7 for the wrong one): Brier (.04 + .49) / 2; ECE
/// .5 * .2 + .5 * .7.
#[test]
fn distributions_are_held_against_gold() {
    let mut run = small_run();
    let spread = |p: &[(&str, f64)]| {
        Some(p.iter().map(|&(name, p)| (name.to_owned(), p)).collect::<Vec<_>>())
    };
    run.kept.truncate(2);
    run.dropped.clear();
    run.rows.clear();
    run.kept[0].distribution = spread(&[("negative", 0.2), ("positive", 0.8)]);
    run.kept[1].label = Some("positive".to_owned());
    run.kept[1].distribution = spread(&[("negative", 0.3), ("positive", 0.7)]);
    let calibration = |run: &Run| {
        evaluate(run, &NAMES, Binning::EqualCounts).expect("valid").calibration.expect("known")
    };
    let got = calibration(&run);
    close(got.brier, 0.265);
    close(got.ece, 0.45);
    // A probability of 0 is no accident.
    run.kept[0].distribution = spread(&[("negative", 0.0), ("positive", 1.0)]);
    close(calibration(&run).brier, 0.245);
    assert!(calibration(&run).margin_right_nats.expect("one is right").is_finite());
}

#[test]
fn impossible_records_are_errors() {
    let fails = |change: &dyn Fn(&mut Run)| {
        let mut run = small_run();
        change(&mut run);
        evaluate(&run, &NAMES, Binning::Distinct).expect_err("must fail")
    };
    let error = fails(&|run| run.gold.clear());
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("none of the 8 questions"), "{error}");
    let error = fails(&|run| run.dropped.push(record("a", POS, 0.0)));
    assert!(error.message().contains("`a` occurs twice"), "{error}");
    let error = fails(&|run| run.rows.extend(rows("x", &[(1, POS, 1.0)])));
    assert!(error.message().contains("question `x`"), "{error}");
    let error = fails(&|run| run.kept[0].label = Some("maybe".to_owned()));
    assert!(error.message().contains("`maybe`, expected one of `negative`, `positive`"), "{error}");
    let error = fails(&|run| run.rows[3].answer = Some("perhaps".to_owned()));
    assert!(error.message().contains("`perhaps`"), "{error}");
    assert_eq!(fails(&|run| run.kept[0].entropy_nats = f64::NAN).kind(), ErrorKind::Numeric);
    assert_eq!(fails(&|run| run.rows[0].weight = f64::INFINITY).kind(), ErrorKind::Numeric);
}
