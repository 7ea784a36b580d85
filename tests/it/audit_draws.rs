//! Audits of the labels of real runs, drawn again and again with gold as the auditor: how often what they
//! prove is wrong, and how much they cover.

use std::fmt::Write as _;

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use w2s::eval::{Audited, Guarantee, chance_of_at_most, choose_stratum, most_wrong_drawn};

use crate::common::project;

/// Labels of a run, the most confident first (`scripts/bench/audits.py`).
#[derive(Deserialize)]
struct Labels {
    set: String,
    method: String,
    probabilities: Vec<f64>,
    right: Vec<u8>,
}

impl Labels {
    fn num_wrong(&self, num: usize) -> usize {
        self.right[..num].iter().filter(|right| **right == 0).count()
    }
}

fn all() -> Vec<Labels> {
    let path = project().join("data/measured/audit-labels.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What audits of one set came to.
struct Drawn {
    /// Audits that proved what does not hold.
    num_violated: usize,
    num_proved: usize,
}

fn draw(labels: &Labels, num: usize, num_drawn: usize, of: &Guarantee, draws: usize) -> Drawn {
    let mut rng = ChaCha8Rng::seed_from_u64(num as u64);
    let holds = labels.num_wrong(num) <= of.errors_of(num);
    let proved = |_: &usize| {
        let rows = sample(&mut rng, num, num_drawn);
        let num_wrong = rows.iter().filter(|row| labels.right[*row] == 0).count();
        Audited { num_labels: num, num_drawn, num_wrong }.keeps(of)
    };
    let num_proved = (0..draws).filter(proved).count();
    Drawn { num_violated: if holds { 0 } else { num_proved }, num_proved }
}

/// The share of labels that the largest prefix covers in which few enough are wrong; no audit finds it.
fn best_prefix(labels: &Labels, of: &Guarantee) -> usize {
    let all = labels.right.len();
    (0..=all).rev().find(|num| labels.num_wrong(*num) <= of.errors_of(*num)).unwrap_or(0)
}

/// The labels that audits of one set cover on average where the set is chosen by gold.
fn best_set(labels: &Labels, of: &Guarantee, budget: usize) -> f64 {
    let sizes = (1..=40).map(|part| labels.right.len() * part / 40);
    let covered = sizes.map(|num| {
        let drawn = budget.min(num);
        let most = most_wrong_drawn(num, drawn, of);
        let chance = most.map_or(0.0, |k| chance_of_at_most(k, num, labels.num_wrong(num), drawn));
        chance * num as f64
    });
    covered.fold(0.0, f64::max)
}

/// An audit proves something wrong in at most one of twenty draws, whatever set it is of.
#[test]
fn audits_of_real_labels_are_wrong_as_seldom_as_they_say() {
    let draws = 400;
    for labels in all() {
        for max_error in [0.05, 0.1, 0.2] {
            let of = Guarantee { max_error, confidence: 0.95 };
            for part in 1..=10 {
                let num = labels.right.len() * part / 10;
                let found = draw(&labels, num, 100.min(num), &of, draws);
                // The mean is at most 20 of 400; 34 or more would come up once in 500 draws at that.
                assert!(
                    found.num_violated <= 34,
                    "{} {} {num} {max_error}: {}",
                    labels.set,
                    labels.method,
                    found.num_violated
                );
            }
        }
    }
}

#[test]
#[ignore = "a measurement; it writes data/measured/audits.txt"]
fn audits_of_public_sets() {
    let draws = std::env::var("COVERAGE_DRAWS").ok().and_then(|text| text.parse().ok());
    let draws: usize = draws.unwrap_or(1000);
    let mut text = format!(
        "{draws} audits of 100 rows of the labels of each run, gold as the auditor; the set chosen by the \
         model's confidence alone.\nCOVERAGE_DRAWS={draws} cargo test --test it -- --ignored \
         audits_of_public_sets\n\nwrong: audits that proved what does not hold. worst: the same for the worst \
         of ten fixed sets. covered: share of labels\nthat audits cover on average; by gold: the same where gold \
         chooses the set; prefix: the largest set of the most\nconfident labels that keeps the guarantee, which \
         no audit can know.\n\n{:<18} {:<16} {:>6} {:>9} {:>7} {:>7} {:>5} {:>7} {:>7} {:>8} {:>8} {:>7}\n",
        "set",
        "method",
        "labels",
        "accuracy",
        "error",
        "chosen",
        "proved",
        "wrong",
        "worst",
        "covered",
        "by gold",
        "prefix"
    );
    for labels in all() {
        let all = labels.right.len();
        let share = |num: f64| 100.0 * num / all as f64;
        for max_error in [0.05, 0.1] {
            let of = Guarantee { max_error, confidence: 0.95 };
            let worst = (1..=10)
                .map(|part| {
                    let num = all * part / 10;
                    draw(&labels, num, 100.min(num), &of, draws).num_violated
                })
                .max();
            let chosen = choose_stratum(&labels.probabilities, &of, 100, 1, None);
            let (num, found) = match &chosen {
                Some(set) => {
                    let num = set.num_labels;
                    (num, draw(&labels, num, set.num_drawn, &of, draws))
                }
                None => (0, Drawn { num_violated: 0, num_proved: 0 }),
            };
            let percent = |num: usize| 100.0 * num as f64 / draws as f64;
            let _ = writeln!(
                text,
                "{:<18} {:<16} {all:>6} {:>9.1} {max_error:>7} {:>7.1} {:>5.1} {:>7.1} {:>7.1} {:>8.1} {:>8.1} {:>7.1}",
                labels.set,
                labels.method,
                share((all - labels.num_wrong(all)) as f64),
                share(num as f64),
                percent(found.num_proved),
                percent(found.num_violated),
                percent(worst.unwrap_or(0)),
                share(num as f64) * percent(found.num_proved) / 100.0,
                share(best_set(&labels, &of, 100)),
                share(best_prefix(&labels, &of) as f64)
            );
        }
    }
    std::fs::write(project().join("data/measured/audits.txt"), text).unwrap();
}
