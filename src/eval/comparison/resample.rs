//! The crossed bootstrap of items and runs: the same resamples for every method and statistic.

use std::num::NonZeroUsize;

use ndarray::{Array2, ArrayView1, Axis, aview1};
use rand::Rng;

use super::join::{Cells, Joined};
use crate::eval::reliability::brier_of;
use crate::run::SeedStream;
use crate::score::log_odds;

/// The statistics that are resampled, in this order.
pub(super) const ACCURACY: usize = 0;
pub(super) const BALANCED: usize = 1;
pub(super) const AUROC: usize = 2;
pub(super) const BRIER: usize = 3;
const NUM_STATISTICS: usize = 4;

/// One value of each statistic; NaN where it is not defined.
pub(super) type Statistics = [f64; NUM_STATISTICS];

/// What a run needs for its statistics of any weighted sample of the items.
pub(super) struct RunTable {
    right: Vec<u32>,
    brier: Option<Vec<f64>>,
    /// The items by rising log-odds of one label, for each label asked for.
    rankings: Vec<Ranking>,
}

struct Ranking {
    /// Item, and whether it has the label in gold.
    order: Vec<(u32, bool)>,
    /// Where each group of items that score the same ends.
    ends: Vec<usize>,
}

impl RunTable {
    /// Returns the tables of a method's runs; `auroc_labels` are the labels whose AUROC is averaged.
    pub(super) fn of(cells: &Cells<'_>, gold: &[usize], auroc_labels: &[usize]) -> Vec<Self> {
        let runs = cells.right.rows().into_iter().zip(&cells.logprobs);
        runs.map(|(right, logprobs)| Self::new(right, logprobs.as_deref(), gold, auroc_labels))
            .collect()
    }

    fn new(
        right: ArrayView1<'_, bool>,
        logprobs: Option<&[&[f64]]>,
        gold: &[usize],
        auroc_labels: &[usize],
    ) -> Self {
        let right = right.iter().map(|&right| u32::from(right)).collect();
        let Some(logprobs) = logprobs else {
            return Self { right, brier: None, rankings: Vec::new() };
        };
        let brier = logprobs.iter().zip(gold).map(|(row, &gold)| brier_of(row, gold)).collect();
        let rankings = auroc_labels.iter().map(|&label| {
            let mut scored: Vec<(f64, u32)> =
                (0_u32..).zip(logprobs).map(|(i, row)| (log_odds(row, label), i)).collect();
            scored.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut ends = Vec::new();
            let mut end = 0;
            // `==`, not `total_cmp`, decides a tie: 0 and -0 are one score.
            for tied in scored.chunk_by(|a, b| a.0 == b.0) {
                end += tied.len();
                ends.push(end);
            }
            let order = scored.iter().map(|&(_, i)| (i, gold[i as usize] == label)).collect();
            Ranking { order, ends }
        });
        Self { right, brier: Some(brier), rankings: rankings.collect() }
    }

    /// Returns the statistics of the sample in which each item occurs `times` times; `classes` are
    /// the ranges of items of one gold label, where there are labels.
    pub(super) fn statistics(&self, times: &[u32], classes: &[(usize, usize)]) -> Statistics {
        let (mut num_right, mut num_items, mut recalls, mut num_classes) = (0_u64, 0_u64, 0.0, 0);
        for &(from, to) in classes {
            let (mut right, mut num) = (0_u32, 0_u32);
            for (times, is_right) in times[from..to].iter().zip(&self.right[from..to]) {
                right += times * is_right;
                num += times;
            }
            num_right += u64::from(right);
            num_items += u64::from(num);
            if num > 0 {
                recalls += f64::from(right) / f64::from(num);
                num_classes += 1;
            }
        }
        let num_items = num_items as f64;
        let balanced = if num_classes > 1 { recalls / f64::from(num_classes) } else { f64::NAN };
        let brier = self.brier.as_ref().map_or(f64::NAN, |brier| {
            brier.iter().zip(times).map(|(b, &n)| b * f64::from(n)).sum::<f64>() / num_items
        });
        let auroc = if self.rankings.is_empty() {
            f64::NAN
        } else {
            // NaN of one label is NaN of the mean.
            self.rankings.iter().map(|ranking| ranking.auroc(times)).sum::<f64>()
                / self.rankings.len() as f64
        };
        [num_right as f64 / num_items, balanced, auroc, brier]
    }

    /// Returns the AUROC of each label asked for; none without log-probabilities.
    pub(super) fn aurocs(&self, times: &[u32]) -> Vec<f64> {
        self.rankings.iter().map(|ranking| ranking.auroc(times)).collect()
    }
}

impl Ranking {
    fn auroc(&self, times: &[u32]) -> f64 {
        // Twice the number of won pairs, so that half wins stay whole.
        let mut doubled_wins = 0_u64;
        let (mut positives_below, mut negatives_below) = (0_u64, 0_u64);
        let mut from = 0;
        for &to in &self.ends {
            let (mut positives, mut negatives) = (0, 0);
            for &(item, is_positive) in &self.order[from..to] {
                let times = u64::from(times[item as usize]);
                let positive = times * u64::from(is_positive);
                positives += positive;
                negatives += times - positive;
            }
            doubled_wins += positives * (2 * negatives_below + negatives);
            positives_below += positives;
            negatives_below += negatives;
            from = to;
        }
        doubled_wins as f64 / (2.0 * positives_below as f64 * negatives_below as f64)
    }
}

/// The ranges of items of one gold label; all items as one where no item has another.
pub(super) fn classes(joined: &Joined<'_>) -> Vec<(usize, usize)> {
    let mut from = 0;
    let ranges = joined.gold.chunk_by(|a, b| a == b).map(|class| {
        from += class.len();
        (from - class.len(), from)
    });
    ranges.collect()
}

/// Returns the means over the drawn runs of each method's statistics.
///
/// # Shapes
/// Resamples x methods.
///
/// # Cost
/// One pass over the items of each drawn run for each statistic and resample, on all processors.
pub(super) fn resample(
    tables: &[Vec<RunTable>],
    classes: &[(usize, usize)],
    num_resamples: usize,
    streams: SeedStream,
) -> Array2<Statistics> {
    let num_threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let chunk = num_resamples.div_ceil(num_threads).max(1);
    let shape = (num_resamples, tables.len());
    let mut drawn = Array2::from_elem(shape, [0.0; NUM_STATISTICS]);
    std::thread::scope(|scope| {
        for (index, mut part) in drawn.axis_chunks_iter_mut(Axis(0), chunk).enumerate() {
            scope.spawn(move || {
                for (offset, mut statistics) in part.rows_mut().into_iter().enumerate() {
                    // A stream for each resample: any number of threads draws the same.
                    let resample = (index * chunk + offset) as u64;
                    let of_methods = one_resample(tables, classes, resample, streams);
                    statistics.assign(&aview1(&of_methods));
                }
            });
        }
    });
    drawn
}

fn one_resample(
    tables: &[Vec<RunTable>],
    classes: &[(usize, usize)],
    resample: u64,
    streams: SeedStream,
) -> Vec<Statistics> {
    let num_items = classes.last().map_or(0, |&(_, to)| to);
    let mut times = vec![0_u32; num_items];
    let mut rng = streams.rng("compare/items", &[resample]);
    let bound = u32::try_from(num_items).unwrap_or(u32::MAX);
    for _ in 0..num_items {
        times[rng.random_range(0..bound) as usize] += 1;
    }
    let of_method = |runs: &Vec<RunTable>| {
        let drawn = draw_runs(runs.len(), resample, streams);
        let total: u32 = drawn.iter().sum();
        let mut mean = [0.0; NUM_STATISTICS];
        for (run, &num) in runs.iter().zip(&drawn).filter(|(_, num)| **num > 0) {
            let share = f64::from(num) / f64::from(total);
            for (mean, value) in mean.iter_mut().zip(run.statistics(&times, classes)) {
                *mean += share * value;
            }
        }
        mean
    };
    tables.iter().map(of_method).collect()
}

/// How often each of `num_runs` is drawn: the same for all methods with that number of runs.
fn draw_runs(num_runs: usize, resample: u64, streams: SeedStream) -> Vec<u32> {
    let mut drawn = vec![0; num_runs];
    if num_runs == 1 {
        drawn[0] = 1;
        return drawn;
    }
    let mut rng = streams.rng("compare/runs", &[resample, num_runs as u64]);
    for _ in 1..num_runs {
        drawn[rng.random_range(0..num_runs)] += 1;
    }
    drawn
}
