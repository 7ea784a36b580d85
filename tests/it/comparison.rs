//! Methods against gold and against each other: values of other programs, closed forms and laws.

use std::collections::HashMap;

use w2s::error::ErrorKind;
use w2s::eval::{
    Answer, AnsweredRun, ColumnComparison, ComparedMethod, Comparison, Estimate, Resampling, Role,
    compare,
};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn labels(num: usize) -> Vec<String> {
    NAMES[..num].iter().map(|name| (*name).to_owned()).collect()
}

/// What each of many items was answered, by place among the labels.
pub fn run(path: &str, answers: impl IntoIterator<Item = usize>) -> AnsweredRun {
    let answer = |(index, label): (usize, usize)| Answer {
        id: format!("i{index}"),
        answer: Some(NAMES[label].to_owned()),
        logprobs: None,
    };
    let answers = answers.into_iter().enumerate().map(answer).collect();
    AnsweredRun { path: path.to_owned(), digest: None, answers }
}

/// Right and wrong answers to items whose gold is always the second label.
pub fn right(path: &str, right: impl IntoIterator<Item = bool>) -> AnsweredRun {
    run(path, right.into_iter().map(usize::from))
}

pub fn method(name: &str, role: Role, runs: Vec<AnsweredRun>) -> ComparedMethod {
    ComparedMethod { name: name.to_owned(), role, published: None, runs }
}

pub fn all_second(num: usize) -> Vec<(String, HashMap<String, String>)> {
    gold_of(&vec![1; num])
}

pub fn gold_of(gold: &[usize]) -> Vec<(String, HashMap<String, String>)> {
    let pair = |(index, label): (usize, &usize)| (format!("i{index}"), NAMES[*label].to_owned());
    vec![("label".to_owned(), gold.iter().enumerate().map(pair).collect())]
}

fn with(num_resamples: usize) -> Resampling {
    Resampling { num_resamples, ..Resampling::default() }
}

pub fn column(
    methods: &[ComparedMethod],
    gold: &[(String, HashMap<String, String>)],
    num_resamples: usize,
) -> ColumnComparison {
    let found = compare("t", &labels(2), 1, methods, gold, with(num_resamples)).expect("valid");
    found.columns.into_iter().next().expect("one column")
}

pub fn close(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() < tolerance, "got {got}, expected {expected}");
}

/// The sequence of scripts/comparison_values.py.
pub fn uniforms(mut seed: u64, num: usize) -> Vec<f64> {
    let step = |_| {
        seed = (1_103_515_245 * seed + 12_345) % (1 << 31);
        seed as f64 / (1_u64 << 31) as f64
    };
    (0..num).map(step).collect()
}

/// Gold of 60 items, and one run as scripts/comparison_values.py makes it.
fn made_up(num_labels: usize, seed: u64) -> (Vec<usize>, AnsweredRun) {
    let num = 60;
    let gold: Vec<usize> =
        uniforms(7, num).into_iter().map(|u| (u * num_labels as f64) as usize).collect();
    let cells = uniforms(seed, num * num_labels);
    let answers = cells.chunks(num_labels).enumerate().map(|(index, row)| {
        let mut row: Vec<f64> = row.iter().map(|u| u + 0.05).collect();
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|p| *p /= sum);
        row[gold[index]] += 0.2;
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|p| *p /= sum);
        let best = (0..num_labels).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("labels");
        Answer {
            id: format!("i{index}"),
            answer: Some(NAMES[best].to_owned()),
            logprobs: Some(row.into_iter().map(f64::ln).collect()),
        }
    });
    let answers = answers.collect();
    (gold, AnsweredRun { path: seed.to_string(), digest: None, answers })
}

/// scikit-learn 1.9.1 and numpy, from scripts/comparison_values.py: accuracy, balanced accuracy,
/// AUROC (of three labels one against the rest, macro), Brier score, ECE; means over the runs.
#[test]
fn metrics_are_those_of_scikit_learn() {
    type Row = (usize, &'static [u64], [f64; 5]);
    let table: [Row; 4] = [
        (
            2,
            &[11],
            [
                0.7833333333333333,
                0.7847608453837598,
                0.8865406006674083,
                0.15620732600946471,
                0.10837351151077652,
            ],
        ),
        (
            2,
            &[11, 12, 13],
            [
                0.6777777777777777,
                0.6800148312940304,
                0.7849462365591399,
                0.1904515684575796,
                0.08607903912862495,
            ],
        ),
        (
            3,
            &[21],
            [0.75, 0.7547138047138047, 0.8639520307502764, 0.4657981955132605, 0.23251638978287725],
        ),
        (
            3,
            &[21, 22],
            [
                0.7166666666666667,
                0.7195286195286195,
                0.8691626794258374,
                0.4666729598639501,
                0.2017330169430183,
            ],
        ),
    ];
    for (num_labels, seeds, expected) in table {
        let gold = made_up(num_labels, 0).0;
        let runs = seeds.iter().map(|seed| made_up(num_labels, *seed).1).collect();
        let methods = [method("m", Role::Method, runs)];
        let found = compare("t", &labels(num_labels), 1, &methods, &gold_of(&gold), with(500))
            .expect("valid");
        let of = &found.columns[0].methods[0];
        let estimates = [Some(of.accuracy), of.balanced_accuracy, of.auroc, of.brier];
        for (estimate, expected) in estimates.into_iter().zip(expected) {
            let Estimate { value, low, high } = estimate.expect("probabilities are there");
            close(value, expected, 1e-9);
            assert!(low < value && value < high, "{low} {value} {high}");
        }
        close(of.ece.expect("probabilities are there"), expected[4], 1e-9);
        assert_eq!(of.per_label.len(), num_labels);
        let num_gold: usize = of.per_label.iter().map(|label| label.num_gold).sum();
        assert_eq!(num_gold, 60 * seeds.len());
        if let [run] = of.runs.as_slice() {
            close(run.auroc.expect("known"), expected[2], 1e-9);
            close(run.brier.expect("known"), expected[3], 1e-9);
        }
    }
}

/// scipy 1.17.1, from scripts/comparison_values.py: the percentile bootstrap of the paired differences and
/// of one method alone, and the normal p: of so many items other intervals are nearly the same.
#[test]
fn paired_intervals_are_near_the_bootstrap_of_scipy() {
    let blocks = |counts: [(usize, bool); 4]| {
        counts.into_iter().flat_map(|(num, right)| std::iter::repeat_n(right, num))
    };
    let a = blocks([(220, true), (40, false), (20, true), (120, false)]);
    let b = blocks([(220, true), (40, true), (20, false), (120, false)]);
    let methods = [
        method("a", Role::Method, vec![right("a", a)]),
        method("b", Role::Method, vec![right("b", b)]),
    ];
    let found = column(&methods, &all_second(400), 20_000);
    let pair = &found.pairs[0];
    assert_eq!((pair.a.as_str(), pair.b.as_str(), pair.seeds_paired), ("a", "b", true));
    assert_eq!((pair.num_only_b_right, pair.num_only_a_right), (40, 20));
    close(pair.difference.value, 0.05, 1e-12);
    close(pair.difference.low, 0.0125, 0.0026);
    close(pair.difference.high, 0.0875, 0.0026);
    close(pair.p, 0.00922, 0.003);
    let alone = found.methods[0].accuracy;
    close(alone.low, 0.5525, 0.0026);
    close(alone.high, 0.6475, 0.0026);
    // Balanced accuracy needs two labels in gold; the others need probabilities.
    let of = &found.methods[0];
    assert_eq!((of.balanced_accuracy, of.auroc, of.brier, of.ece), (None, None, None, None));
}

/// A weak supervisor, a student and a ceiling on 300 items, four runs each.
fn students() -> [Vec<AnsweredRun>; 3] {
    [0.55, 0.68, 0.85].map(|skill| {
        let rows = (0..4).map(|run| {
            let luck = uniforms((skill * 1000.0) as u64 + run, 300);
            right(&format!("{skill}-{run}"), luck.into_iter().map(|u| u < skill))
        });
        rows.collect()
    })
}

fn pgr_of(
    weak: &[AnsweredRun],
    student: &[AnsweredRun],
    ceiling: &[AnsweredRun],
) -> ColumnComparison {
    let methods = [
        method("weak", Role::Weak, weak.to_vec()),
        method("student", Role::Method, student.to_vec()),
        method("ceiling", Role::Ceiling, ceiling.to_vec()),
    ];
    column(&methods, &all_second(weak[0].answers.len()), 2000)
}

fn pgr(column: &ColumnComparison) -> Estimate {
    column.pgr[0].pgr.expect("there is a gap")
}

#[test]
fn the_gap_recovered_is_0_at_weak_and_1_at_ceiling() {
    let [weak, student, ceiling] = students();
    for (one, expected) in [(&weak, 0.0), (&ceiling, 1.0)] {
        let Estimate { value, low, high } = pgr(&pgr_of(&weak, one, &ceiling));
        close(value, expected, 1e-9);
        // Equal answers do not make the share certain.
        assert!(low < expected && expected < high, "{low} {high}");
        assert!(low > expected - 0.2 && high < expected + 0.2, "{low} {high}");
    }
    let found = pgr_of(&weak, &student, &ceiling);
    let Estimate { value, low, high } = pgr(&found);
    let accuracy = |index: usize| found.methods[index].accuracy.value;
    let by_hand = (accuracy(1) - accuracy(0)) / (accuracy(2) - accuracy(0));
    close(value, by_hand, 1e-12);
    assert!(0.0 < low && low < value && value < high && high < 1.0, "{low} {value} {high}");

    // A ceiling that is surely below the weak supervisor is no ceiling.
    let swapped = pgr_of(&ceiling, &student, &weak);
    assert_eq!(swapped.pgr[0].pgr, None);
    assert!(swapped.pgr[0].gap.high < 0.0);
    let remark = swapped.pgr[0].remark.as_deref().expect("a reason");
    assert!(
        remark.starts_with("PGR not reported: the gap from `weak` to `ceiling` is -"),
        "{remark}"
    );
    assert!(remark.ends_with("the ceiling is below the weak supervisor"), "{remark}");
    assert_eq!(found.pgr[0].remark, None);
}

/// Items that all have right, and items that all have wrong, change all accuracies by one affine map.
#[test]
fn the_gap_recovered_does_not_know_items_that_tell_nothing() {
    let [weak, student, ceiling] = students();
    let value = pgr(&pgr_of(&weak, &student, &ceiling)).value;
    let longer = |runs: &[AnsweredRun]| -> Vec<AnsweredRun> {
        let more = |of: &AnsweredRun| {
            let was = of.answers.iter().map(|answer| answer.answer.as_deref() == Some("b"));
            let more = [true; 70].into_iter().chain([false; 30]);
            right(&of.path, was.chain(more))
        };
        runs.iter().map(more).collect()
    };
    let found = pgr_of(&longer(&weak), &longer(&student), &longer(&ceiling));
    close(pgr(&found).value, value, 1e-12);
}

#[test]
fn a_gap_that_may_be_none_has_no_share() {
    let [weak, student, _] = students();
    // One more item right of 300.
    let mut ceiling = weak.clone();
    for run in &mut ceiling {
        let wrong = run.answers.iter_mut().find(|answer| answer.answer.as_deref() == Some("a"));
        wrong.expect("one is wrong").answer = Some("b".to_owned());
    }
    for ceiling in [&weak, &ceiling] {
        let found = pgr_of(&weak, &student, ceiling);
        assert_eq!(found.pgr[0].pgr, None);
        assert!(found.pgr[0].gap.low <= 0.0 && found.pgr[0].gap.high >= 0.0);
        let remark = found.pgr[0].remark.as_deref().expect("a reason");
        assert!(
            remark.starts_with("PGR not reported: the gap from `weak` to `ceiling` is +"),
            "{remark}"
        );
        assert!(
            remark.contains("not distinguishable from zero") && !remark.contains('\n'),
            "{remark}"
        );
    }
    let same = pgr_of(&weak, &student, &weak);
    // The same answers: no difference, which is not certain either.
    let pair = same.pairs.iter().find(|pair| pair.b == "ceiling").expect("weak and ceiling");
    assert_eq!((pair.difference.value, pair.p), (0.0, 1.0));
    assert_eq!(pair.difference.low, -pair.difference.high);
    assert!(pair.difference.high > 0.0);
}

#[test]
fn order_of_lines_other_methods_and_chance_have_no_part() {
    let (gold, first) = made_up(3, 21);
    let second = made_up(3, 22).1;
    let methods = |runs: [AnsweredRun; 2]| {
        let [a, b] = runs;
        [method("a", Role::Method, vec![a.clone(), b.clone()]), method("b", Role::Method, vec![b])]
    };
    let found = |methods: &[ComparedMethod], gold: &[(String, HashMap<String, String>)]| {
        compare("t", &labels(3), 2, methods, gold, with(400)).expect("valid")
    };
    let plain = found(&methods([first.clone(), second.clone()]), &gold_of(&gold));
    let rotated = |run: &AnsweredRun, by: usize| {
        let mut run = run.clone();
        run.answers.rotate_left(by);
        run
    };
    let other = found(&methods([rotated(&first, 7), rotated(&second, 31)]), &gold_of(&gold));
    assert_eq!(other, plain);
    let [a, b] = methods([first.clone(), second.clone()]);
    let third = method("c", Role::Method, vec![made_up(3, 23).1]);
    let more = found(&[third, b, a], &gold_of(&gold));
    assert_eq!(more.columns[0].methods[2], plain.columns[0].methods[0]);
    assert_eq!(more.columns[0].methods[1], plain.columns[0].methods[1]);

    let text = serde_json::to_string(&plain).expect("serialises");
    assert_eq!(serde_json::from_str::<Comparison>(&text).expect("reads back"), plain);
    let seeded = Resampling { seed: 1, ..with(400) };
    let again = compare("t", &labels(3), 2, &methods([first, second]), &gold_of(&gold), seeded);
    assert_ne!(again.expect("valid").columns, plain.columns, "another seed, other resamples");
}

#[test]
fn methods_are_compared_on_the_items_that_all_have() {
    let mut short = right("short", [true, true, false, true]);
    short.answers.remove(0);
    let long = right("long", [true, false, true, true, true, false]);
    let mut gold = all_second(6);
    gold[0].1.remove("i3");
    let methods =
        [method("s", Role::Method, vec![short]), method("l", Role::Method, vec![long.clone()])];
    let found = column(&methods, &gold, 100);
    // i1 and i2; i0, i4 and i5 are in one run only, i3 has no gold.
    assert_eq!((found.num_items, found.num_not_in_every_run, found.num_without_gold), (2, 3, 1));
    assert_eq!(found.gold_counts, [0, 2]);
    let counts: Vec<_> =
        found.methods.iter().map(|m| (m.runs[0].num_answered, m.runs[0].num_correct)).collect();
    assert_eq!(counts, [(3, 1), (6, 1)]);
    assert_eq!(found.methods[0].runs[0].accuracy, 0.5);

    // Runs of different number: all pairs of runs, drawn each by itself.
    let methods = [
        method("one", Role::Method, vec![right("x", [true, false, true])]),
        method(
            "two",
            Role::Method,
            vec![right("y", [true, true, true]), right("z", [false, true, false])],
        ),
    ];
    let pair = &column(&methods, &all_second(3), 100).pairs[0];
    assert!(!pair.seeds_paired);
    assert_eq!((pair.num_only_b_right, pair.num_only_a_right), (2, 2));
    close(pair.difference.value, 0.0, 1e-12);
}

#[test]
fn answers_that_cannot_be_read_are_wrong_and_open_answers_have_accuracy_only() {
    let answer = |(index, text): (usize, Option<&str>)| Answer {
        id: format!("i{index}"),
        answer: text.map(str::to_owned),
        logprobs: None,
    };
    let answers = [Some("12"), Some("7"), None, Some("5")].into_iter().enumerate().map(answer);
    let open =
        AnsweredRun { path: "p".into(), digest: Some("d".into()), answers: answers.collect() };
    let gold = [("i0", "12"), ("i1", "8"), ("i2", "3"), ("i3", "5")];
    let gold = gold.map(|(id, text)| (id.to_owned(), text.to_owned())).into_iter().collect();
    let methods = [method("m", Role::Method, vec![open])];
    let found = compare("t", &[], 0, &methods, &[("answer".to_owned(), gold)], with(100));
    let column = &found.expect("valid").columns[0];
    let of = &column.methods[0];
    assert_eq!((of.runs[0].num_correct, of.runs[0].num_unparsed), (2, 1));
    assert_eq!((of.accuracy.value, of.balanced_accuracy, of.auroc), (0.5, None, None));
    assert!(of.per_label.is_empty() && column.gold_counts.is_empty());

    // One of four unread, of two labels: recalls 1/2 and 1/2, precisions 1/1 and 1/2.
    let mut closed = run("c", [0, 1, 0, 1]);
    closed.answers[2].answer = None;
    let methods = [method("m", Role::Method, vec![closed])];
    let of = column_of(&methods, &[0, 0, 1, 1]);
    assert_eq!((of.accuracy.value, of.runs[0].num_unparsed), (0.5, 1));
    assert_eq!(of.balanced_accuracy.expect("two labels").value, 0.5);
    let rates: Vec<_> =
        of.per_label.iter().map(|label| (label.num_given, label.precision, label.recall)).collect();
    assert_eq!(rates, [(1, Some(1.0), Some(0.5)), (2, Some(0.5), Some(0.5))]);
}

fn column_of(methods: &[ComparedMethod], gold: &[usize]) -> w2s::eval::MethodComparison {
    column(methods, &gold_of(gold), 100).methods.remove(0)
}

#[test]
fn impossible_comparisons_are_errors() {
    let a = || method("a", Role::Method, vec![right("a", [true, false])]);
    let failed = |methods: &[ComparedMethod], gold: &[(String, HashMap<String, String>)]| {
        compare("t", &labels(2), 1, methods, gold, with(10)).expect_err("must fail")
    };
    let mut stranger = right("other", [true, false]);
    stranger.answers.iter_mut().for_each(|answer| answer.id += "x");
    let error = failed(&[a(), method("b", Role::Method, vec![stranger])], &all_second(2));
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("`a` and `other` share no id"), "{error}");

    let mut twice = right("twice", [true, false]);
    twice.answers[1].id = "i0".to_owned();
    let error = failed(&[method("b", Role::Method, vec![twice])], &all_second(2));
    assert!(error.to_string().contains("id `i0` is answered twice"), "{error}");

    let unknown = run("u", [2, 0]);
    let error = failed(&[method("b", Role::Method, vec![unknown])], &all_second(2));
    assert!(error.to_string().contains("label `c` of `i0` is not one of `a`, `b`"), "{error}");

    let mut other_gold = all_second(2);
    other_gold[0].1.clear();
    let error = failed(&[a()], &other_gold);
    assert!(error.to_string().contains("has gold"), "{error}");

    let mut infinite = right("inf", [true, false]);
    infinite.answers[0].logprobs = Some(vec![0.0, f64::NEG_INFINITY]);
    let error = failed(&[method("b", Role::Method, vec![infinite])], &all_second(2));
    assert_eq!(error.kind(), ErrorKind::Numeric);

    for methods in [
        vec![],
        vec![a(), a()],
        vec![method("b", Role::Method, vec![])],
        vec![method("w", Role::Weak, a().runs), method("v", Role::Weak, a().runs)],
    ] {
        assert_eq!(failed(&methods, &all_second(2)).kind(), ErrorKind::Usage);
    }
}

/// Five methods of three runs on a thousand items: the sample of the README's promise of a second.
#[test]
#[ignore = "a measurement of time; run it with --release --nocapture"]
fn ten_thousand_resamples() {
    let methods: Vec<ComparedMethod> = (0..5)
        .map(|index| {
            let runs = (0..3).map(|run| {
                let draws = uniforms(1 + index * 3 + run, 2000);
                let mut of = right("r", draws[..1000].iter().map(|u| *u < 0.7));
                for (answer, u) in of.answers.iter_mut().zip(&draws[1000..]) {
                    answer.logprobs = Some(vec![(1.0 - 0.9 * u).ln(), (0.9 * u + 1e-9).ln()]);
                }
                of
            });
            method(&format!("m{index}"), Role::Method, runs.collect())
        })
        .collect();
    let gold: Vec<usize> = uniforms(99, 1000).into_iter().map(|u| usize::from(u < 0.5)).collect();
    let start = std::time::Instant::now();
    let found = column(&methods, &gold_of(&gold), 10_000);
    println!("{:?} {:?}", start.elapsed(), found.methods[0].auroc);
}
