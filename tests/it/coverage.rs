//! How often the intervals that are printed hold the truth, by simulation with the library's own functions.
//!
//! Items and seeds are crossed: an answer of seed `r` to item `i` is right where skill + item + seed + luck
//! is above 0, all normal, luck with deviation 1. The truth is the share over all items and all seeds.
//! The quick tests hold bounds; `coverage_tables` writes the tables data/measured/coverage*.txt.

use std::collections::HashMap;

use rand::Rng;
use w2s::data::WeakRecord;
use w2s::eval::{
    Answer, AnsweredRun, Binning, ColumnComparison, ComparedMethod, Estimate, Resampling, Role,
    Tally, compare, evaluate_weak, filter_gain,
};
use w2s::run::SeedStream;

/// Accuracies of weak supervisor, student and ceiling, and the deviations of items and of seeds.
#[derive(Clone, Copy)]
pub struct World {
    pub name: &'static str,
    pub accuracies: [f64; 3],
    pub items: f64,
    pub seeds: f64,
}

pub const WORLDS: [World; 5] = [
    World { name: "chance alone", accuracies: [0.6, 0.7, 0.85], items: 0.0, seeds: 0.0 },
    World { name: "items differ", accuracies: [0.6, 0.7, 0.85], items: 3.0, seeds: 0.0 },
    World { name: "items, seeds a little", accuracies: [0.6, 0.7, 0.85], items: 3.0, seeds: 0.3 },
    World { name: "items, seeds much", accuracies: [0.6, 0.7, 0.85], items: 1.0, seeds: 0.4 },
    World { name: "nearly all right", accuracies: [0.75, 0.85, 0.95], items: 3.0, seeds: 0.3 },
];

fn normal(rng: &mut impl Rng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// The share of a normal distribution below `x`, from the series of Abramowitz and Stegun 26.2.11.
fn below(x: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-17 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// Where a share of `p` of a normal distribution is below.
fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..60 {
        let centre = 0.5 * (low + high);
        if below(centre) < p { low = centre } else { high = centre }
    }
    low
}

const NAMES: [&str; 2] = ["a", "b"];

fn method(name: &str, role: Role, runs: Vec<Vec<Answer>>) -> ComparedMethod {
    let run = |answers| AnsweredRun { path: name.to_owned(), digest: None, answers };
    let runs = runs.into_iter().map(run).collect();
    ComparedMethod { name: name.to_owned(), role, published: None, runs }
}

fn column(
    methods: &[ComparedMethod],
    gold: HashMap<String, String>,
    num_resamples: usize,
    seed: u64,
) -> ColumnComparison {
    let gold = [("label".to_owned(), gold)];
    let resampling = Resampling { num_resamples, seed, ..Resampling::default() };
    let labels = NAMES.map(str::to_owned);
    compare("t", &labels, 1, methods, &gold, resampling).expect("valid").columns.remove(0)
}

/// Weak supervisor, student and ceiling on the same items, each with as many seeds.
fn draw(
    world: World,
    num_items: usize,
    num_seeds: usize,
    has_gap: bool,
    rng: &mut impl Rng,
) -> ColumnComparison {
    let items: Vec<f64> = (0..num_items).map(|_| world.items * normal(rng)).collect();
    let scale = (1.0 + world.items.powi(2) + world.seeds.powi(2)).sqrt();
    let roles = [("weak", Role::Weak), ("student", Role::Method), ("ceiling", Role::Ceiling)];
    let mut methods = Vec::new();
    for (place, (name, role)) in roles.into_iter().enumerate() {
        let accuracy = world.accuracies[if has_gap { place } else { 0 }];
        let skill = quantile(accuracy) * scale;
        let mut runs = Vec::new();
        for _ in 0..num_seeds {
            let seed = world.seeds * normal(rng);
            let answers = items.iter().enumerate().map(|(index, item)| Answer {
                id: index.to_string(),
                answer: Some(
                    NAMES[usize::from(skill + item + seed + normal(rng) > 0.0)].to_owned(),
                ),
                logprobs: None,
            });
            runs.push(answers.collect());
        }
        methods.push(method(name, role, runs));
    }
    let gold = (0..num_items).map(|index| (index.to_string(), "b".to_owned())).collect();
    column(&methods, gold, 1, 0)
}

fn holds(of: Estimate, truth: f64) -> bool {
    assert!(of.low < of.high, "an interval without width: {of:?}");
    assert!(of.low <= of.value + 1e-9 && of.value <= of.high + 1e-9, "{of:?}");
    of.low <= truth && truth <= of.high
}

#[derive(Default)]
pub struct Counts {
    pub draws: usize,
    pub accuracy: usize,
    pub difference: usize,
    pub reported: usize,
    pub pgr: usize,
    pub refused_without_gap: usize,
}

pub fn coverage(world: World, num_items: usize, num_seeds: usize, num_draws: usize) -> Counts {
    let mut counts = Counts { draws: num_draws, ..Counts::default() };
    let [weak, student, ceiling] = world.accuracies;
    for index in 0..num_draws {
        let places = [num_items as u64, num_seeds as u64, index as u64];
        let mut rng = SeedStream::new(41).rng(world.name, &places);
        let found = draw(world, num_items, num_seeds, true, &mut rng);
        counts.accuracy += usize::from(holds(found.methods[1].accuracy, student));
        counts.difference += usize::from(holds(found.pairs[0].difference, student - weak));
        // p and the interval say the same.
        let pair = &found.pairs[0];
        let zero_is_out = pair.difference.low > 0.0 || pair.difference.high < 0.0;
        assert_eq!(pair.p < 0.05, zero_is_out, "{pair:?}");
        if let Some(pgr) = found.pgr[0].pgr {
            counts.reported += 1;
            counts.pgr += usize::from(holds(pgr, (student - weak) / (ceiling - weak)));
        }
        let none = draw(world, num_items, num_seeds, false, &mut rng);
        counts.refused_without_gap += usize::from(none.pgr[0].pgr.is_none());
    }
    counts
}

/// Discrimination that differs by seed: log-odds of seed `r` for item `i` are
/// 2 d_r ((+-) d_r + luck), with d_r = 1 + .15 normal.
const DISCRIMINATION: f64 = 1.0;

const SEED_DEVIATION: f64 = 0.15;

pub fn of_probabilities(
    num_items: usize,
    num_seeds: usize,
    num_draws: usize,
    brier: f64,
) -> [usize; 3] {
    let spread = DISCRIMINATION * SEED_DEVIATION;
    let balanced = below(DISCRIMINATION / (1.0 + spread * spread).sqrt());
    // Two items are 2 d apart with luck of deviation sqrt(2).
    let auroc = below(DISCRIMINATION * 2.0_f64.sqrt() / (1.0 + 2.0 * spread * spread).sqrt());
    let mut covered = [0; 3];
    for index in 0..num_draws {
        let places = [num_items as u64, num_seeds as u64, index as u64];
        let mut rng = SeedStream::new(43).rng("probabilities", &places);
        let gold: Vec<bool> = (0..num_items).map(|_| rng.random_bool(0.5)).collect();
        let item: Vec<f64> = (0..num_items).map(|_| normal(&mut rng)).collect();
        let mut runs = Vec::new();
        for _ in 0..num_seeds {
            let d = DISCRIMINATION * (1.0 + SEED_DEVIATION * normal(&mut rng));
            let answers = gold.iter().zip(&item).enumerate().map(|(index, (is_b, item))| {
                // Nine tenths of luck are the item's, the same for all seeds.
                let luck = 0.9_f64.sqrt() * item + 0.1_f64.sqrt() * normal(&mut rng);
                let odds = 2.0 * (if *is_b { d } else { -d } + luck);
                let p = 1.0 / (1.0 + (-odds).exp());
                Answer {
                    id: index.to_string(),
                    answer: Some(NAMES[usize::from(odds > 0.0)].to_owned()),
                    logprobs: Some(vec![(1.0 - p).max(1e-300).ln(), p.max(1e-300).ln()]),
                }
            });
            runs.push(answers.collect());
        }
        let gold = gold.iter().enumerate();
        let gold = gold.map(|(i, is_b)| (i.to_string(), NAMES[usize::from(*is_b)].to_owned()));
        let methods = [method("m", Role::Method, runs)];
        let found = column(&methods, gold.collect(), 200, index as u64);
        let of = &found.methods[0];
        for (covered, (estimate, truth)) in covered.iter_mut().zip([
            (of.balanced_accuracy, balanced),
            (of.auroc, auroc),
            (of.brier, brier),
        ]) {
            *covered += usize::from(estimate.is_none_or(|estimate| holds(estimate, truth)));
        }
    }
    covered
}

pub fn true_brier() -> f64 {
    let mut rng = SeedStream::new(47).rng("brier", &[]);
    let num = 1_000_000;
    let one = |_| {
        let d = DISCRIMINATION * (1.0 + SEED_DEVIATION * normal(&mut rng));
        let odds = 2.0 * (d + normal(&mut rng));
        (1.0 / (1.0 + odds.exp())).powi(2)
    };
    (0..num).map(one).sum::<f64>() / f64::from(num)
}

/// What a filter keeps, and how much of it and of the others is right; entropy is normal
/// and .5 lower for right ones.
#[derive(Clone, Copy)]
pub struct Filter {
    pub name: &'static str,
    pub share: f64,
    pub kept_right: f64,
    pub dropped_right: f64,
}

pub const FILTERS: [Filter; 5] = [
    Filter { name: "keeps 70 %, helps", share: 0.7, kept_right: 0.9, dropped_right: 0.6 },
    Filter { name: "keeps 50 %, helps", share: 0.5, kept_right: 0.95, dropped_right: 0.5 },
    Filter { name: "keeps 90 %, helps", share: 0.9, kept_right: 0.95, dropped_right: 0.5 },
    Filter { name: "keeps 70 %, no help", share: 0.7, kept_right: 0.7, dropped_right: 0.7 },
    Filter { name: "keeps 50 %, harms", share: 0.5, kept_right: 0.6, dropped_right: 0.8 },
];

impl Filter {
    /// How often the interval of the gain holds it.
    pub fn gain(self, num_items: usize, num_draws: usize) -> usize {
        let gain = (1.0 - self.share) * (self.kept_right - self.dropped_right);
        let mut covered = 0;
        for index in 0..num_draws {
            let mut rng = SeedStream::new(53).rng(self.name, &[num_items as u64, index as u64]);
            let (mut kept, mut dropped) = (Tally::default(), Tally::default());
            for _ in 0..num_items {
                let is_kept = rng.random_bool(self.share);
                let side = if is_kept { &mut kept } else { &mut dropped };
                let share = if is_kept { self.kept_right } else { self.dropped_right };
                side.num_right += usize::from(rng.random_bool(share));
                side.num += 1;
            }
            covered += usize::from(filter_gain(kept, dropped).is_none_or(|of| holds(of, gain)));
        }
        covered
    }

    /// How often the interval of the AUROC holds it.
    pub fn auroc(self, num_items: usize, num_draws: usize) -> usize {
        let auroc = below(0.5 / 2.0_f64.sqrt());
        let mut covered = 0;
        for index in 0..num_draws {
            let mut rng = SeedStream::new(59).rng(self.name, &[num_items as u64, index as u64]);
            let (mut kept, mut dropped) = (Vec::new(), Vec::new());
            for id in 0..num_items {
                let is_kept = rng.random_bool(self.share);
                let share = if is_kept { self.kept_right } else { self.dropped_right };
                let right = rng.random_bool(share);
                let record = WeakRecord {
                    id: id.to_string(),
                    label: Some(NAMES[usize::from(right)].to_owned()),
                    text: None,
                    distribution: None,
                    entropy_nats: 10.0 + normal(&mut rng) - if right { 0.5 } else { 0.0 },
                    aleatoric_nats: 0.0,
                    epistemic_nats: 0.0,
                    agreement: 1.0,
                    weight: 1.0,
                    num_variants: 1,
                    num_unparsed: 0,
                    reason: "entropy".to_owned(),
                    split: None,
                };
                if is_kept { kept.push(record) } else { dropped.push(record) }
            }
            let gold = (0..num_items).map(|id| (id.to_string(), "b".to_owned())).collect();
            let labels = NAMES.map(str::to_owned);
            let counts = Binning::EqualCounts;
            let found = evaluate_weak(&kept, &dropped, &[], &gold, &labels, counts, &mut rng);
            let auroc_of = found.expect("valid").auroc;
            covered += usize::from(auroc_of.is_none_or(|of| holds(of, auroc)));
        }
        covered
    }
}

/// Holds a share to the table's, less three standard errors of a share of .95 of so many draws.
fn at_least(share: f64, num: usize, draws: usize) {
    let found = num as f64 / draws as f64;
    let error = (0.95 * 0.05 / draws as f64).sqrt();
    assert!(found >= share - 3.0 * error, "{num} of {draws}, expected {share}");
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let draws = 200;
    for (world, num_items, num_seeds) in
        [(WORLDS[1], 100, 1), (WORLDS[2], 30, 3), (WORLDS[3], 60, 3), (WORLDS[4], 60, 5)]
    {
        let found = coverage(world, num_items, num_seeds, draws);
        at_least(0.94, found.accuracy, draws);
        at_least(0.94, found.difference, draws);
        at_least(0.95, found.refused_without_gap, draws);
        let refused = found.draws - found.reported;
        at_least(0.94, found.pgr + refused, draws);
    }
    let [balanced, auroc, brier] = of_probabilities(40, 3, draws, true_brier());
    at_least(0.93, balanced, draws);
    at_least(0.93, auroc, draws);
    at_least(0.93, brier, draws);
    for filter in FILTERS {
        for num_items in [30, 100] {
            at_least(0.94, filter.gain(num_items, 1000), 1000);
        }
    }
    at_least(0.93, FILTERS[0].auroc(60, 60), 60);
}

/// Runs that are right everywhere: as sure as one run, and never without doubt.
#[test]
fn what_is_right_everywhere_has_the_interval_of_one_run() {
    let all_right = |num_runs: usize| {
        let answer = |i: usize| Answer {
            id: i.to_string(),
            answer: Some("b".to_owned()),
            logprobs: Some(vec![0.0, -1e3].into_iter().rev().collect()),
        };
        let runs = vec![(0..16).map(answer).collect(); num_runs];
        let gold = (0..16).map(|i| (i.to_string(), "b".to_owned())).collect();
        let methods = [
            method("m", Role::Method, runs),
            method("n", Role::Method, vec![(0..16).map(answer).collect()]),
        ];
        column(&methods, gold, 50, 0)
    };
    // statsmodels 0.14: proportion_confint(16, 16, method="wilson") is (0.8063924, 1).
    for num_runs in [1, 3, 5] {
        let found = all_right(num_runs);
        let of = found.methods[0].accuracy;
        assert!((of.low - 0.806_392_4).abs() < 1e-6, "{of:?}");
        assert_eq!((of.value, of.high), (1.0, 1.0));
        // Equal answers: Bonett and Price with 0 and 0 of 16: 1.96 sqrt(2 / 18) / sqrt(18) = .154.
        let pair = &found.pairs[0];
        assert!((pair.difference.high - 0.153_99).abs() < 1e-4, "{pair:?}");
        assert_eq!((pair.difference.low, pair.p), (-pair.difference.high, 1.0));
        let brier = of_brier(&found);
        assert!(brier.low < brier.high, "{brier:?}");
    }
}

/// Balanced accuracies of 1, .75 and .5: two draws of them have a mean of variance .0417 / 2, that of nine
/// answers of which .75 are right. Three runs have Student's quantile of two degrees, 4.303 in the place of
/// 1.96: as sure as 9 (1.96 / 4.303)^2 = 1.87 answers, of which Wilson's bounds are .189 and .975.
#[test]
fn runs_that_differ_widen_the_interval_of_balanced_accuracy() {
    let run = |right: usize| {
        let answer = |i: usize| Answer {
            id: i.to_string(),
            // Half of the items are of either class, and as many of both are right.
            answer: Some(NAMES[usize::from((i % 2 == 1) == (i / 2 < right))].to_owned()),
            logprobs: None,
        };
        (0..400).map(answer).collect()
    };
    let gold = (0..400).map(|i| (i.to_string(), NAMES[i % 2].to_owned())).collect();
    let methods = [method("m", Role::Method, vec![run(200), run(150), run(100)])];
    let found = column(&methods, gold, 4000, 0);
    let of = found.methods[0].balanced_accuracy.expect("both classes are there");
    assert!((of.value - 0.75).abs() < 1e-9, "{of:?}");
    assert!((of.low - 0.189).abs() < 0.01 && (of.high - 0.975).abs() < 0.01, "{of:?}");
}

fn of_brier(found: &ColumnComparison) -> Estimate {
    found.methods[0].brier.expect("probabilities are there")
}
