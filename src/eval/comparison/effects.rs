//! Intervals of accuracies and of what is linear in them, over items and runs as crossed random effects.
//!
//! The table of a method is crossed: each of its S runs answered the same N items. What is estimated is
//! the accuracy over all items and all seeds that these are a sample of. The variance of the mean has a
//! part of items, a part of runs and a part of the single answers, told apart by the mean squares of the
//! two-way layout. The part of items is known from N items and gets the normal quantile; that of runs
//! from S runs only, and gets Student's with S - 1 degrees of freedom.
//!
//! # Source
//! Searle, Casella and McCulloch 1992, chapter 4, for the mean squares; Zou and Donner 2008 (MOVER) for
//! adding the squares of half-widths; Wilson 1927 for the interval of a rate; Bonett and Price 2012 for
//! the two items added to a paired difference; Fieller 1954 for the ratio. Measured in
//! data/measured/coverage.txt.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView1};

use crate::eval::quantile::Quantiles;
use crate::eval::rates::wilson_rate;
use crate::eval::weak::Estimate;

/// Steps of a bisection for the end of an interval or a p.
const NUM_HALVINGS: usize = 45;
/// A ratio farther from its estimate than this has no end.
const MAX_DISTANCE: f64 = 1e6;

/// A method's factor in a sum of accuracies, and its right answers: runs x items.
pub(super) type Term<'a> = (f64, &'a Array2<bool>);

/// A sum of accuracies, and the parts of its variance.
#[derive(Debug)]
struct Spread {
    num_items: usize,
    value: f64,
    /// That of the mean over items, whose values are means over the runs.
    items: f64,
    /// What single answers add to `items`.
    noise: f64,
    /// That of the mean over the runs, with its degrees of freedom, for each number of runs.
    runs: Vec<(f64, usize)>,
}

impl Spread {
    /// The parts for a sum over methods; `added` are values of further items that are in none of the
    /// runs, and count for the variance alone.
    fn new(terms: &[Term<'_>], added: &[f64]) -> Self {
        let num_items = terms.first().map_or(0, |(_, right)| right.ncols());
        let n = num_items as f64;
        let mut of_items = vec![0.0; num_items];
        let mut groups: BTreeMap<usize, Vec<Term<'_>>> = BTreeMap::new();
        for &(factor, right) in terms {
            for run in right.rows() {
                for (sum, is_right) in of_items.iter_mut().zip(run) {
                    *sum += factor * f64::from(u8::from(*is_right)) / right.nrows() as f64;
                }
            }
            groups.entry(right.nrows()).or_default().push((factor, right));
        }
        let value = of_items.iter().sum::<f64>() / n;
        let mut spread = Self { num_items, value, items: 0.0, noise: 0.0, runs: Vec::new() };
        for (num_runs, group) in groups {
            if num_runs > 1 {
                spread.add_runs(num_runs, &group);
            }
        }
        of_items.extend(added);
        let n = of_items.len() as f64;
        let centre = of_items.iter().sum::<f64>() / n;
        spread.items = of_items.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (n * n);
        spread
    }

    /// Run `j` of one method goes with run `j` of another that has as many.
    fn add_runs(&mut self, num_runs: usize, group: &[Term<'_>]) {
        let (n, s) = (self.num_items as f64, num_runs as f64);
        let cells = Array2::from_shape_fn((num_runs, self.num_items), |at| {
            group.iter().map(|(factor, right)| if right[at] { *factor } else { 0.0 }).sum::<f64>()
        });
        // Not by ndarray's `mean`, which sums eight lanes: cells are added in their order.
        let mean = |lane: ArrayView1<'_, f64>, num: f64| {
            lane.iter().fold(0.0, |sum, cell| sum + cell / num)
        };
        let items: Vec<f64> = cells.columns().into_iter().map(|lane| mean(lane, s)).collect();
        let means: Vec<f64> = cells.rows().into_iter().map(|lane| mean(lane, n)).collect();
        let squares = cells.iter().fold(0.0, |sum, cell| sum + cell * cell);
        let centre = means.iter().sum::<f64>() / s;
        let about =
            |values: &[f64]| values.iter().map(|value| (value - centre).powi(2)).sum::<f64>();
        let (of_runs, of_items) = (about(&means), about(&items));
        let rest = squares - n * s * centre * centre - n * of_runs - s * of_items;
        if self.num_items > 1 {
            self.noise += rest.max(0.0) / ((n - 1.0) * (s - 1.0)) / (n * s);
        }
        self.runs.push((of_runs / (s * (s - 1.0)), num_runs - 1));
    }

    /// The square of half the interval's width. Runs that differ less than single answers do are no
    /// reason for less than the items say.
    fn half_squared(&self, quantiles: &Quantiles) -> f64 {
        let runs: f64 =
            self.runs.iter().map(|&(part, free)| quantiles.t(free).powi(2) * part).sum();
        let z = quantiles.z.powi(2);
        (z * (self.items - self.noise).max(0.0) + runs).max(z * self.items)
    }

    fn variance(&self) -> f64 {
        let runs: f64 = self.runs.iter().map(|(part, _)| part).sum();
        ((self.items - self.noise).max(0.0) + runs).max(self.items)
    }
}

/// Returns the accuracy of a method with its interval: Wilson's for as many independent answers as have
/// the variance that was found. One run has Wilson's own; so have runs that are all alike, and runs that
/// are right, or wrong, everywhere, whose variance says nothing.
pub(super) fn accuracy(right: &Array2<bool>, quantiles: &Quantiles) -> Estimate {
    let spread = Spread::new(&[(1.0, right)], &[]);
    let num_right = right.iter().filter(|right| **right).count();
    let n = spread.num_items as f64;
    // From whole numbers: the mean of all that are right is 1 and not nearly so.
    let value = num_right as f64 / right.len() as f64;
    if right.nrows() == 1 {
        let (low, high) = wilson_rate(value, n, quantiles.z);
        return Estimate { value, low, high };
    }
    let variance = spread.variance();
    let binomial = value * (1.0 - value);
    let (size, quantile) = if binomial > 0.0 && variance > 0.0 {
        let most = right.len() as f64;
        let quantile = (spread.half_squared(quantiles) / variance).sqrt();
        ((binomial / variance).min(most), quantile)
    } else {
        (n, quantiles.z)
    };
    let (low, high) = wilson_rate(value, size, quantile);
    Estimate { value, low, high }
}

/// Returns accuracy of `b` less that of `a` with its interval, and the two-sided p of no difference: one
/// less the level at which the interval ends at 0.
///
/// One item more that `b` alone has right and one that `a` alone has right keep it from having no width.
pub(super) fn difference(
    a: &Array2<bool>,
    b: &Array2<bool>,
    quantiles: &Quantiles,
) -> (Estimate, f64) {
    let spread = Spread::new(&[(-1.0, a), (1.0, b)], &[1.0, -1.0]);
    let n = spread.num_items as f64;
    let centre = spread.value * n / (n + 2.0);
    let half = spread.half_squared(quantiles).sqrt();
    let value = spread.value;
    let low = (centre - half).clamp(-1.0, value.min(1.0));
    let high = (centre + half).clamp(value.max(-1.0), 1.0);
    let max_degrees = a.nrows().max(b.nrows()) - 1;
    // No quantile of t is below the normal's.
    let (mut inside, mut outside) = (0.0, centre.abs() / spread.items.sqrt());
    let mut p = 1.0;
    for _ in 0..NUM_HALVINGS {
        let z = 0.5 * (inside + outside);
        let (quantiles, level) = Quantiles::of_normal(z, max_degrees);
        p = 1.0 - level;
        if spread.half_squared(&quantiles) < centre * centre { inside = z } else { outside = z }
    }
    (Estimate { value, low, high }, p)
}

/// Returns (student - weak) / (ceiling - weak) with its interval: all shares `r` for which
/// student - weak - r (ceiling - weak) may be 0. The gap's own interval must lie above 0; then the
/// interval is bounded.
pub(super) fn recovered(
    [weak, student, ceiling]: [&Array2<bool>; 3],
    quantiles: &Quantiles,
) -> Option<Estimate> {
    let of = |share: f64| {
        let terms = [(share - 1.0, weak), (1.0, student), (-share, ceiling)];
        Spread::new(&terms, &[1.0, -1.0])
    };
    let gap = Spread::new(&[(-1.0, weak), (1.0, ceiling)], &[]).value;
    let value = of(0.0).value / gap;
    let may_be = |share: f64| {
        let spread = of(share);
        spread.value.powi(2) <= spread.half_squared(quantiles)
    };
    let end = |direction: f64| {
        let (mut inside, mut outside) = (0.0, 0.25);
        while may_be(value + direction * outside) {
            inside = outside;
            outside *= 2.0;
            if outside > MAX_DISTANCE {
                return None;
            }
        }
        for _ in 0..NUM_HALVINGS {
            let centre = 0.5 * (inside + outside);
            if may_be(value + direction * centre) { inside = centre } else { outside = centre }
        }
        Some(value + direction * outside)
    };
    Some(Estimate { value, low: end(-1.0)?, high: end(1.0)? })
}
