//! Metrics against other programs and by hand, and the replay of traces.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use w2s::error::{Error, ErrorKind};
use w2s::eval::{
    CurvePoint, Evaluation, Prediction, Z_95, auroc, curve_from_reader, curve_from_trace, evaluate,
    reliability, wilson,
};

fn names(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

fn predictions(labels: &[usize], gold: &[usize]) -> Vec<Prediction> {
    let item = |(index, (&label, &gold))| Prediction {
        id: format!("r-{index}"),
        label,
        logprobs: None,
        gold: Some(gold),
    };
    labels.iter().zip(gold).enumerate().map(item).collect()
}

/// The distribution over two labels in which the second has these log-odds.
fn binary(log_odds: f64) -> Vec<f64> {
    vec![-log_odds.exp().ln_1p(), -(-log_odds).exp().ln_1p()]
}

fn close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-7, "got {got}, expected {expected}");
}

/// statsmodels 0.15.0, `proportion_confint(k, n, 0.05, "wilson")`; scipy 1.17.1,
/// `binomtest(8, 10).proportion_ci(method="wilson")` gives the same for the first row.
#[test]
fn wilson_intervals_are_those_of_statsmodels() {
    let table = [
        (8, 10, 0.490162471536642, 0.943317848545625),
        (0, 10, 0.0, 0.277532799862889),
        (10, 10, 0.722467200137111, 1.0),
        (29, 32, 0.757818452716121, 0.967598448701634),
        (1, 1, 0.206549314377237, 1.0),
        (0, 1, 0.0, 0.793450685622763),
        (50, 100, 0.403831530365996, 0.596168469634004),
        (1812, 2000, 0.892420538286457, 0.918022819321166),
    ];
    for (successes, n, low, high) in table {
        let got = wilson(successes, n, Z_95);
        close(got.0, low);
        close(got.1, high);
    }
    // statsmodels with 0.01; the quantile is 2.5758293.
    let (low, high) = wilson(8, 10, 2.575_829_303_548_901);
    close(low, 0.4008186965216716);
    close(high, 0.9598688474953836);
}

#[test]
fn wilson_intervals_hold_the_rate_and_mirror() {
    assert_eq!(wilson(0, 0, Z_95), (0.0, 1.0));
    assert_eq!(wilson(0, 7, Z_95).0, 0.0);
    assert_eq!(wilson(7, 7, Z_95).1, 1.0);
    for n in 1..60 {
        for successes in 0..=n {
            let (low, high) = wilson(successes, n, Z_95);
            let rate = successes as f64 / n as f64;
            assert!(0.0 <= low && low <= rate && rate <= high && high <= 1.0);
            let (mirrored_low, mirrored_high) = wilson(n - successes, n, Z_95);
            close(low, 1.0 - mirrored_high);
            close(high, 1.0 - mirrored_low);
        }
    }
}

const GOLD: [usize; 12] = [1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1];
const SCORES: [f64; 12] = [2.5, -1.0, 0.0, 1.5, 0.0, -2.0, -0.5, 1.5, 3.25, -0.5, 0.25, 0.25];

fn pairs(scores: &[f64]) -> Vec<(f64, bool)> {
    scores.iter().zip(GOLD).map(|(&score, gold)| (score, gold == 1)).collect()
}

/// scikit-learn 1.9.1, `roc_auc_score(GOLD, SCORES)`: 0.7777777777777778. By hand: of the 36 pairs
/// the positives win, in their order, 6 + 3.5 + 5.5 + 2.5 + 6 + 4.5 = 28, ties counted half.
#[test]
fn auroc_is_that_of_scikit_learn() {
    close(auroc(&pairs(&SCORES)).expect("both kinds occur"), 0.7777777777777778);
    // Wins of 2.0 over 1.0, a tie at 1.0: 1.5 of 2 pairs.
    close(auroc(&[(2.0, true), (1.0, true), (1.0, false)]).expect("both kinds"), 0.75);
    assert_eq!(auroc(&[(0.0, true), (-0.0, false)]), Some(0.5));
    assert_eq!(auroc(&[(f64::INFINITY, true), (f64::NEG_INFINITY, false)]), Some(1.0));
    assert_eq!(auroc(&[(1.0, true), (2.0, true)]), None);
    assert_eq!(auroc(&[(1.0, true), (f64::NAN, false)]), None);
    assert_eq!(auroc(&[]), None);
}

#[test]
fn auroc_of_negated_scores_is_the_complement_and_rank_is_all_that_counts() {
    let value = auroc(&pairs(&SCORES)).expect("both kinds occur");
    let with = |map: fn(f64) -> f64| auroc(&pairs(&SCORES.map(map))).expect("both kinds occur");
    close(with(|score| -score), 1.0 - value);
    assert_eq!(with(f64::exp), value);
    assert_eq!(with(|_| 3.0), 0.5);
    let mut reversed = pairs(&SCORES);
    reversed.reverse();
    assert_eq!(auroc(&reversed), Some(value));
}

/// scikit-learn 1.9.1: `accuracy_score` 0.6363636363636364, `balanced_accuracy_score`
/// 0.7000000000000001, `confusion_matrix` as below.
#[test]
fn three_labels_agree_with_scikit_learn() {
    let gold = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2];
    let given = [0, 1, 0, 2, 1, 1, 2, 2, 0, 2, 1];
    let items = predictions(&given, &gold);
    let got = evaluate("icm", "t", &names(&["a", "b", "c"]), 0, &items).expect("valid");
    close(got.accuracy, 0.6363636363636364);
    close(got.balanced_accuracy.expect("three labels in gold"), 0.7);
    assert_eq!(got.confusion, [[2, 1, 1], [0, 2, 0], [1, 1, 3]]);
    assert_eq!((got.num_correct, got.num_with_gold, got.num_labelled), (7, 11, 11));
    assert_eq!(got.auroc, None);
    close(got.share["b"], 4.0 / 11.0);
    close(got.gold_share["c"], 5.0 / 11.0);
    assert_eq!((got.macro_auroc, got.reliability), (None, None));
}

/// scikit-learn 1.9.1: `precision_recall_fscore_support`, `f1_score(average="macro")`,
/// `roc_auc_score(multi_class="ovr")` with `average=None` and `"macro"`, `brier_score_loss`.
#[test]
fn each_of_three_labels_agrees_with_scikit_learn() {
    let gold = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2];
    let given = [0, 1, 0, 2, 1, 1, 2, 2, 0, 2, 1];
    let rows = [
        [0.7, 0.2, 0.1],
        [0.3, 0.5, 0.2],
        [0.5, 0.3, 0.2],
        [0.2, 0.2, 0.6],
        [0.1, 0.8, 0.1],
        [0.25, 0.5, 0.25],
        [0.1, 0.1, 0.8],
        [0.2, 0.35, 0.45],
        [0.4, 0.3, 0.3],
        [0.05, 0.05, 0.9],
        [0.3, 0.4, 0.3],
    ];
    let mut items = predictions(&given, &gold);
    for (item, row) in items.iter_mut().zip(rows) {
        item.logprobs = Some(row.map(f64::ln).to_vec());
    }
    let got = evaluate("icm", "t", &names(&["a", "b", "c"]), 0, &items).expect("valid");
    let known = |value: Option<f64>| value.expect("defined");
    let table = [
        (4, 3, 0.6666666666666666, 0.5, 0.5714285714285714, 0.8214285714285714),
        (2, 4, 0.5, 1.0, 0.6666666666666666, 0.9722222222222222),
        (5, 4, 0.75, 0.6, 0.6666666666666666, 0.9),
    ];
    for (label, (num_gold, num_given, precision, recall, f1, auroc)) in
        got.per_label.iter().zip(table)
    {
        assert_eq!((label.num_gold, label.num_given), (num_gold, num_given));
        close(known(label.precision), precision);
        close(known(label.recall), recall);
        close(known(label.f1), f1);
        close(known(label.auroc), auroc);
    }
    close(known(got.macro_f1), 0.6349206349206349);
    close(known(got.macro_auroc), 0.897883597883598);
    assert_eq!(got.auroc, None, "a mean over labels is not the AUROC of one");
    close(got.reliability.expect("log-probabilities").brier, 0.4359090909090909);

    // A label that gold does not know: its recall and AUROC are not defined, nor is their mean.
    items.retain(|item| item.gold != Some(1));
    let got = evaluate("icm", "t", &names(&["a", "b", "c"]), 0, &items).expect("valid");
    assert_eq!(
        (got.per_label[1].recall, got.per_label[1].auroc, got.macro_auroc),
        (None, None, None)
    );
    assert_eq!((got.per_label[1].precision, got.per_label[1].f1), (Some(0.0), Some(0.0)));
}

/// scikit-learn 1.9.1, `brier_score_loss(GOLD, expit(SCORES))`. The ECE by hand: .95 right and .95
/// wrong are one bin, .65 and .62, both right, another: (2 * .45 + 2 * .365) / 4.
#[test]
fn calibration_by_hand_and_as_scikit_learn() {
    let mut items = predictions(&GOLD, &GOLD);
    for (item, score) in items.iter_mut().zip(SCORES) {
        item.logprobs = Some(binary(score));
    }
    close(reliability(&items).expect("known").brier, 0.1944265075602508);

    let mut items = predictions(&[1, 0, 1, 0, 1], &[1, 1, 1, 0, 0]);
    for (item, p) in items.iter_mut().zip([0.95_f64, 0.95, 0.65, 0.62]) {
        let (own, other) = (p.ln(), (1.0 - p).ln());
        item.logprobs = Some(if item.label == 1 { vec![other, own] } else { vec![own, other] });
    }
    let got = reliability(&items).expect("four are known");
    assert_eq!(got.num_examples, 4);
    close(got.ece, 0.4075);
    close(got.brier, (0.0025 + 0.9025 + 0.1225 + 0.1444) / 4.0);
    // ln(.95 / .05) = 2.9444390, ln(.65 / .35) = .6190392, ln(.62 / .38) = .4895482
    close(got.margin_wrong_nats.expect("one is wrong"), 2.9444389792);
    close(
        got.margin_right_nats.expect("three are right"),
        (2.9444389792 + 0.6190392084 + 0.4895482253) / 3.0,
    );
    let bins: Vec<_> = got.bins.iter().map(|bin| (bin.num_examples, bin.accuracy)).collect();
    assert_eq!(bins, [(2, 1.0), (2, 0.5)]);
    close(got.bins[1].low, 0.9);
    items.truncate(1);
    let got = reliability(&items).expect("one is known");
    assert_eq!(got.margin_wrong_nats, None, "none is wrong");
    close(got.margin_right_nats.expect("one is right"), 2.9444389792);
    assert_eq!(reliability(&predictions(&[0], &[0])), None);
}

/// The labels are the second column's with their names exchanged: 0 of 6 and, by chance, 3 of 6.
#[test]
fn the_closest_column_may_be_inverted() {
    let given = [0, 1, 0, 1, 0, 1];
    let of = |column: &str, gold: &[usize]| {
        evaluate("icm", "t", &names(&["no", "yes"]), 1, &predictions(&given, gold))
            .expect("valid")
            .for_column(column)
    };
    let first = of("truth", &[0, 0, 0, 1, 1, 1]);
    assert_eq!(first.closest_column(), None, "one column is no choice");
    let both = first.with_columns(vec![of("length", &[1, 0, 1, 0, 1, 0])]);
    let closest = both.closest_column().expect("two columns");
    assert_eq!((closest.column.as_str(), closest.balanced_accuracy), ("length", 0.0));
    assert!(closest.inverted);
    let text = serde_json::to_string(&both).expect("serialises");
    assert_eq!(serde_json::from_str::<Evaluation>(&text).expect("reads back"), both);
}

/// By hand: four of five with gold; three right; recalls 2/2 and 1/2; log-odds 3, 1 against 2, -1.
#[test]
fn a_binary_evaluation_by_hand() {
    let rows = [
        (1, 3.0, Some(1)),
        (1, 1.0, Some(1)),
        (1, 2.0, Some(0)),
        (0, -1.0, Some(0)),
        (0, -9.0, None),
    ];
    let items: Vec<Prediction> = rows
        .iter()
        .enumerate()
        .map(|(index, &(label, log_odds, gold))| Prediction {
            id: index.to_string(),
            label,
            logprobs: Some(binary(log_odds)),
            gold,
        })
        .collect();
    let got = evaluate("few-shot", "polarity", &names(&["negative", "positive"]), 1, &items)
        .and_then(|evaluation| evaluation.for_column("sentiment").out_of(6))
        .expect("valid");
    assert_eq!((got.num_examples, got.num_labelled, got.num_with_gold), (6, 5, 4));
    assert_eq!((got.num_correct, got.accuracy), (3, 0.75));
    assert_eq!(got.balanced_accuracy, Some(0.75));
    assert_eq!(got.auroc, Some(0.75));
    assert_eq!(got.confusion, [[1, 1], [0, 2]]);
    assert_eq!((got.share["negative"], got.share["positive"]), (0.4, 0.6));
    assert_eq!((got.gold_share["negative"], got.gold_share["positive"]), (0.5, 0.5));
    assert_eq!((got.positive.as_str(), got.gold_column.as_str()), ("positive", "sentiment"));
    let (low, high) = wilson(3, 4, Z_95);
    assert_eq!((got.wilson_low, got.wilson_high), (low, high));

    let text = serde_json::to_string(&got).expect("serialises");
    let back: Evaluation = serde_json::from_str(&text).expect("reads back");
    assert_eq!(back, got);
    assert_eq!(back.wilson_low.to_bits(), got.wilson_low.to_bits());

    let mut without = items;
    without[0].logprobs = None;
    let task = names(&["negative", "positive"]);
    assert_eq!(evaluate("m", "t", &task, 1, &without).expect("valid").auroc, None);
}

#[test]
fn names_of_labels_and_order_of_examples_do_not_matter() {
    let gold = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2];
    let given = [0, 1, 0, 2, 1, 1, 2, 2, 0, 2, 1];
    let renamed = |labels: &[usize]| labels.iter().map(|&l| [2, 0, 1][l]).collect::<Vec<_>>();
    let plain = evaluate("m", "t", &names(&["a", "b", "c"]), 0, &predictions(&given, &gold))
        .expect("valid");
    let mut items = predictions(&renamed(&given), &renamed(&gold));
    items.reverse();
    let permuted = evaluate("m", "t", &names(&["b", "c", "a"]), 2, &items).expect("valid");
    assert_eq!(permuted.accuracy, plain.accuracy);
    close(
        permuted.balanced_accuracy.expect("several labels"),
        plain.balanced_accuracy.expect("several labels"),
    );
    assert_eq!((&permuted.share, &permuted.gold_share), (&plain.share, &plain.gold_share));
    assert_eq!(permuted.confusion[2][0], plain.confusion[0][1]);

    let mut items = predictions(&GOLD, &GOLD);
    for (item, score) in items.iter_mut().zip(SCORES) {
        item.logprobs = Some(binary(score));
    }
    let task = names(&["no", "yes"]);
    let auroc = |positive, items: &[Prediction]| {
        evaluate("m", "t", &task, positive, items).expect("valid").auroc.expect("binary")
    };
    // Of two labels one rises as the other falls: the AUROC of both is the same.
    let value = auroc(1, &items);
    close(auroc(0, &items), value);
    for item in &mut items {
        item.logprobs.as_mut().expect("set above").reverse();
    }
    close(auroc(1, &items), 1.0 - value);
}

#[test]
fn gold_with_one_label_has_no_balanced_accuracy() {
    let items = predictions(&[1, 0], &[1, 1]);
    let got = evaluate("m", "t", &names(&["a", "b"]), 1, &items).expect("valid");
    assert_eq!((got.accuracy, got.balanced_accuracy, got.auroc), (0.5, None, None));
}

#[test]
fn impossible_items_are_errors() {
    let task = names(&["a", "b"]);
    let run = |positive, items: &[Prediction]| {
        evaluate("m", "t", &task, positive, items).expect_err("must fail")
    };
    let mut items = predictions(&[0, 1], &[0, 1]);
    items.iter_mut().for_each(|item| item.gold = None);
    let error = run(0, &items);
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("hint: check that the gold file"), "{error}");

    let mut twice = predictions(&[0, 1], &[0, 1]);
    twice[1].id = "r-0".to_owned();
    assert!(run(0, &twice).message().contains("`r-0` is labelled twice"));
    assert!(run(0, &predictions(&[2], &[0])).message().contains("the label of `r-0`"));
    assert!(run(0, &predictions(&[0], &[5])).message().contains("the gold label of `r-0`"));
    assert!(run(2, &predictions(&[0], &[0])).message().contains("positive"));
    let mut nan = predictions(&[0], &[0]);
    nan[0].logprobs = Some(vec![f64::NAN, 0.0]);
    assert_eq!(run(0, &nan).kind(), ErrorKind::Numeric);
    nan[0].logprobs = Some(vec![-1.0; 3]);
    assert!(run(0, &nan).message().contains("3 log-probabilities for 2 labels"));
    let items = predictions(&[0], &[0]);
    for task in [&["a"][..], &["a", "a"]] {
        let error = evaluate("m", "t", &names(task), 0, &items).expect_err("must fail");
        assert_eq!(error.kind(), ErrorKind::Task);
    }
    let evaluation = evaluate("m", "t", &task, 0, &items).expect("valid");
    assert!(evaluation.out_of(0).is_err());
}

const TRACE: &str = r#"{"event":"start","batch":0,"iteration":0,"labels":[["a","yes"],["b","no"]],"score":-20.5,"mutual_predictability":-0.4,"inconsistency":0,"temperature":10.0,"num_labelled":2}
{"event":"proposal","batch":0,"iteration":1,"id":"c","from":null,"predicted":"yes","changes":[["c",null,"yes"]],"score":-20.5,"proposed_score":-18.0,"mutual_predictability":-0.36,"inconsistency":0,"temperature":10.0,"accepted":true,"num_labelled":3}
{"event":"proposal","batch":0,"iteration":2,"id":"a","from":"yes","predicted":"no","changes":[["a","yes","no"]],"score":-18.0,"proposed_score":-30.0,"mutual_predictability":-0.6,"inconsistency":0,"temperature":9.0,"accepted":false,"num_labelled":3}
{"event":"proposal","batch":0,"iteration":3,"id":"b","from":"no","predicted":"no","changes":[],"score":-18.0,"proposed_score":null,"mutual_predictability":null,"inconsistency":null,"temperature":9.0,"accepted":false,"num_labelled":3}
{"event":"renew","batch":0,"iteration":3,"score":-19.25}
{"event":"proposal","batch":0,"iteration":4,"id":"b","from":"no","predicted":"yes","changes":[["b","no","yes"],["a","yes",null]],"score":-19.25,"proposed_score":-10.0,"mutual_predictability":-0.2,"inconsistency":0,"temperature":8.0,"accepted":true,"num_labelled":2}
{"event":"end","batch":0,"iteration":4,"score":-10.0,"mutual_predictability":-0.2,"inconsistency":0,"reason":"iterations","num_labelled":2,"constant_scores":{"no":-5.0,"yes":-6.0}}
{"event":"start","batch":1,"iteration":0,"labels":[["d","no"]],"score":-7.0,"mutual_predictability":-0.1,"inconsistency":0,"temperature":10.0,"num_labelled":1}
{"event":"proposal","batch":1,"iteration":1,"id":"e","from":null,"predicted":"yes","changes":[["e",null,"yes"]],"score":-7.0,"proposed_score":-6.0,"mutual_predictability":-0.1,"inconsistency":0,"temperature":10.0,"accepted":true,"num_labelled":2}
{"event":"end","batch":1,"iteration":1,"score":-6.0,"mutual_predictability":-0.1,"inconsistency":0,"reason":"converged","num_labelled":2,"constant_scores":{"no":-5.0,"yes":-6.0}}
"#;

/// Gold: a yes, b yes, c no, e yes; d has none.
fn gold(id: &str) -> Option<usize> {
    match id {
        "a" | "b" | "e" => Some(1),
        "c" => Some(0),
        _ => None,
    }
}

fn index(label: &str) -> Option<usize> {
    ["no", "yes"].iter().position(|name| *name == label)
}

fn replay(trace: &[u8]) -> Result<Vec<CurvePoint>, Error> {
    curve_from_reader(Cursor::new(trace), Path::new("trace.jsonl"), &gold, &index)
}

#[test]
fn a_trace_is_replayed_by_hand() {
    let point = |batch, iteration, step, score, accuracy, num_labelled, share: [f64; 2]| {
        let share = share.to_vec();
        CurvePoint { batch, iteration, step, score, accuracy, num_labelled, share }
    };
    let third = 1.0 / 3.0;
    let expected = [
        // a right, b wrong.
        point(0, 0, 0, -20.5, Some(0.5), 2, [0.5, 0.5]),
        // c joins and is wrong.
        point(0, 1, 1, -18.0, Some(third), 3, [third, 2.0 * third]),
        point(0, 2, 2, -18.0, Some(third), 3, [third, 2.0 * third]),
        // Same labels, scored again under a new order.
        point(0, 3, 3, -19.25, Some(third), 3, [third, 2.0 * third]),
        // b turns right, a loses its label.
        point(0, 4, 4, -10.0, Some(0.5), 2, [0.0, 1.0]),
        // d has no gold.
        point(1, 0, 4, -7.0, None, 1, [1.0, 0.0]),
        point(1, 1, 5, -6.0, Some(1.0), 2, [0.5, 0.5]),
    ];
    assert_eq!(replay(TRACE.as_bytes()).expect("a good trace"), expected);

    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("trace.jsonl");
    fs::write(&path, TRACE).expect("written");
    assert_eq!(curve_from_trace(&path, &gold, &index).expect("a good trace"), expected);

    for point in expected {
        let text = serde_json::to_string(&point).expect("serialises");
        assert_eq!(serde_json::from_str::<CurvePoint>(&text).expect("reads back"), point);
    }
}

#[test]
fn a_killed_run_leaves_a_usable_trace() {
    let whole = replay(TRACE.as_bytes()).expect("a good trace");
    let mut num_points = Vec::new();
    for length in 0..TRACE.len() {
        let points = replay(&TRACE.as_bytes()[..length])
            .unwrap_or_else(|error| panic!("cut after {length} bytes: {error}"));
        num_points.push(points.len());
        // The score of iteration 3 changes with the renewal that follows it.
        let known = points.len().saturating_sub(1);
        assert_eq!(points[..known], whole[..known]);
    }
    assert!(num_points.is_sorted());
    assert_eq!(num_points.last(), Some(&whole.len()));
}

#[test]
fn broken_traces_name_the_line() {
    let lines: Vec<&str> = TRACE.lines().collect();
    let edited = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number - 1] = line;
        format!("{}\n", lines.join("\n"))
    };
    let unknown_label = lines[1].replace("\"yes\"]]", "\"maybe\"]]");
    let wrong_from = lines[1].replace("null,\"yes\"]]", "\"no\",\"yes\"]]");
    let no_score = lines[1].replace("-18.0", "null");
    let cases = [
        (2, r#"{"event":"proposal","#, "not an event"),
        (2, "", "not an event"),
        (2, "{}", "missing field `event`"),
        (2, r#"{"event":"dance","batch":0,"iteration":1}"#, "unknown variant `dance`"),
        (2, &unknown_label, "label `maybe`"),
        (2, &wrong_from, "does not start at the label it holds"),
        (2, &no_score, "no `proposed_score`"),
        (1, lines[1], "without having started"),
        (8, lines[8], "batch 1 goes on"),
        (8, lines[0], "batch 0 starts after batch 0"),
        (4, lines[1], "iteration 1 comes after iteration 2"),
    ];
    for (number, line, message) in cases {
        let error = replay(edited(number, line).as_bytes()).expect_err(line);
        assert_eq!(error.place(), Some((Path::new("trace.jsonl"), Some(number))), "{error}");
        assert!(error.message().contains(message), "{error}");
        assert_eq!(error.kind(), ErrorKind::Run);
    }
    let error = replay(b"{\"event\":\"\xff\"}\n").expect_err("not UTF-8");
    assert_eq!(error.place(), Some((Path::new("trace.jsonl"), Some(1))));
    let missing = PathBuf::from("no").join("trace.jsonl");
    let error = curve_from_trace(&missing, &gold, &index).expect_err("no file");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(replay(b"").expect("an empty trace"), []);
}
