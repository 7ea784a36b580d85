//! The intervals of comparisons: closed forms, and how often they hold the truth.

use rand::Rng;
use w2s::eval::{AnsweredRun, Estimate, Role};
use w2s::run::SeedStream;

use crate::comparison::{all_second, close, column, gold_of, method, right, run, uniforms};

/// The table of N items and S runs, right with a chance that depends on both.
fn crossed(num_items: usize, num_runs: usize) -> Vec<Vec<bool>> {
    let easy = uniforms(3, num_items);
    let skill = uniforms(5, num_runs);
    (0..num_runs)
        .map(|run| {
            let luck = uniforms(100 + run as u64, num_items);
            let right =
                |(easy, luck): (&f64, f64)| 0.5 * easy + 0.4 * skill[run] + 0.2 * luck > 0.5;
            easy.iter().zip(luck).map(right).collect()
        })
        .collect()
}

/// The mean squares of the two-way layout by hand: the part of items with the normal quantile, the part
/// of runs with Student's (scipy's `t.ppf(.975, s - 1)`), squares added (scripts/comparison_values.py).
#[test]
fn intervals_have_the_variance_of_crossed_effects() {
    for (num_runs, low, high) in [
        (1, 0.628659261236736, 0.7333716493142638),
        (2, 0.02119498923894031, 0.9847329837772172),
        (3, 0.19573506368241422, 0.8098018555666506),
        (8, 0.4629788648530642, 0.7976705675784128),
    ] {
        let num_items = 300;
        let table = crossed(num_items, num_runs);
        let runs = table.iter().enumerate().map(|(i, row)| right(&i.to_string(), row.clone()));
        let methods = [method("m", Role::Method, runs.collect())];
        let found = &column(&methods, &all_second(num_items), 10).methods[0];
        close(found.accuracy.low, low, 1e-9);
        close(found.accuracy.high, high, 1e-9);
        let means: Vec<f64> = found.runs.iter().map(|run| run.accuracy).collect();
        let s = num_runs as f64;
        let centre = means.iter().sum::<f64>() / s;
        close(found.accuracy.value, centre, 1e-12);
        let squares: f64 = means.iter().map(|mean| (mean - centre).powi(2)).sum();
        match found.accuracy_sd {
            Some(found) => close(found, (squares / (s - 1.0)).sqrt(), 1e-12),
            None => assert_eq!(num_runs, 1),
        }
    }
}

#[test]
fn runs_that_are_alike_add_no_width_and_one_run_has_wilsons_interval() {
    let row = crossed(200, 1).remove(0);
    let of = |num: usize| {
        let runs = (0..num).map(|i| right(&i.to_string(), row.clone())).collect();
        column(&[method("m", Role::Method, runs)], &all_second(200), 2000).methods[0].accuracy
    };
    let one = of(1);
    for num in [2, 3, 5] {
        let several = of(num);
        for (a, b) in [(one.value, several.value), (one.low, several.low), (one.high, several.high)]
        {
            close(a, b, 1e-12);
        }
    }
    let num_right = row.iter().filter(|right| **right).count();
    let (low, high) = w2s::eval::wilson(num_right, 200, w2s::eval::Z_95);
    close(one.low, low, 1e-6);
    close(one.high, high, 1e-6);
}

/// Of two runs, one right everywhere and one wrong everywhere, a resample holds one; of a single run, all.
#[test]
fn a_resample_draws_one_run_less_than_there_are() {
    let gold: Vec<usize> = (0..40).map(|i| i % 2).collect();
    let answers =
        |right: bool| run(&right.to_string(), gold.iter().map(|&g| if right { g } else { 1 - g }));
    let of = |runs: Vec<AnsweredRun>| {
        let methods = [method("m", Role::Method, runs)];
        let balanced = column(&methods, &gold_of(&gold), 400).methods[0].balanced_accuracy.unwrap();
        [balanced.low, balanced.value, balanced.high]
    };
    let [low, value, high] = of(vec![answers(true), answers(false)]);
    assert!(low < 0.01 && value == 0.5 && high > 0.99, "{low} {value} {high}");
    let [low, value, high] = of(vec![answers(true)]);
    assert!(low > 0.9 && value == 1.0 && high == 1.0, "{low} {value} {high}");
    // Half of 100 of one label and all of 4 of the other: a deviation of sqrt(.25 / 100) / 2 = .025.
    let gold: Vec<usize> = (0..104).map(|i| usize::from(i < 100)).collect();
    let methods =
        [method("m", Role::Method, vec![run("r", (0..104).map(|i| usize::from(i < 50)))])];
    let balanced = column(&methods, &gold_of(&gold), 2000).methods[0].balanced_accuracy.unwrap();
    close(balanced.high - balanced.low, 2.0 * 1.96 * 0.025, 0.01);
}

/// A draw of right and wrong for two methods whose true accuracies are .70 and .76 on items that are
/// hard for both; how often the interval of 95 % holds the true difference.
#[test]
fn paired_intervals_cover_the_truth_as_often_as_they_say() {
    let (num_sets, num_items) = (400, 150);
    let streams = SeedStream::new(17);
    let mut covered = [0; 2];
    for set in 0..num_sets {
        let mut rng = streams.rng("coverage", &[set]);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..num_items {
            // Accuracy .9 or .5 for the one, .06 more for the other, half of the items each.
            let base = if rng.random_bool(0.5) { 0.9 } else { 0.5 };
            a.push(rng.random_bool(base));
            b.push(rng.random_bool(base + 0.06));
        }
        let methods = [
            method("a", Role::Method, vec![right("a", a)]),
            method("b", Role::Method, vec![right("b", b)]),
        ];
        let found = column(&methods, &all_second(num_items), 600);
        let holds = |of: Estimate, truth: f64| usize::from(of.low <= truth && truth <= of.high);
        covered[0] += holds(found.pairs[0].difference, 0.06);
        covered[1] += holds(found.methods[0].accuracy, 0.70);
    }
    // Three standard errors of a share of .95 of 400 are .033.
    for covered in covered {
        let share = covered as f64 / num_sets as f64;
        assert!((0.917..=0.983).contains(&share), "{share}");
    }
}

/// Runs whose skill differs, as seeds do: the interval of the mean of six over items and seeds holds
/// the truth, and that of items alone would not.
#[test]
fn intervals_over_seeds_cover_the_truth_of_all_seeds() {
    let (num_sets, num_items, num_runs) = (200, 200, 6);
    let streams = SeedStream::new(23);
    let (mut covered, mut covered_by_items) = (0, 0);
    for set in 0..num_sets {
        let mut rng = streams.rng("coverage-seeds", &[set]);
        let runs: Vec<Vec<bool>> = (0..num_runs)
            .map(|_| {
                let skill = rng.random_range(0.6..0.8);
                (0..num_items).map(|_| rng.random_bool(skill)).collect()
            })
            .collect();
        let named = runs.iter().enumerate().map(|(i, row)| right(&i.to_string(), row.clone()));
        let methods = [method("m", Role::Method, named.collect())];
        let found = column(&methods, &all_second(num_items), 400).methods[0].accuracy;
        covered += usize::from(found.low <= 0.7 && 0.7 <= found.high);
        let error = (0.7_f64 * 0.3 / (num_items * num_runs) as f64).sqrt();
        covered_by_items += usize::from((found.value - 0.7).abs() <= 1.96 * error);
    }
    let share = |num: usize| num as f64 / num_sets as f64;
    // Three standard errors of a share of .95 of 200 are .046.
    assert!(share(covered) >= 0.95 - 0.046, "{}", share(covered));
    assert!(share(covered_by_items) < 0.85, "{}", share(covered_by_items));
}
