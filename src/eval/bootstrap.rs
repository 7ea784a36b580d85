//! The bootstrap: intervals of a mean over cells that come in groups, variances of statistics of one sample.

use rand::Rng;

use crate::stats::nearest_quantile_of_sorted;

/// A mean with the ends of its bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanInterval {
    /// The mean of all values.
    pub mean: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Returns the mean of all values with its percentile bootstrap interval of coverage `level`; none
/// without values or resamples.
///
/// Values are drawn anew within their stratum, so differences between strata do not widen the
/// interval. For two methods compared on the same items, pass the differences: that pairs them.
///
/// # Source
/// Efron and Tibshirani 1993, chapter 13 (percentile interval), with strata held fixed.
pub fn bootstrap_mean(
    strata: &[Vec<f64>],
    num_resamples: usize,
    level: f64,
    rng: &mut impl Rng,
) -> Option<MeanInterval> {
    let num: usize = strata.iter().map(Vec::len).sum();
    if num == 0 || num_resamples == 0 {
        return None;
    }
    let mean = strata.iter().flatten().sum::<f64>() / num as f64;
    let mut means: Vec<f64> = (0..num_resamples)
        .map(|_| {
            let sum: f64 = strata
                .iter()
                .flat_map(|values| values.iter().map(move |_| values))
                .map(|values| values[rng.random_range(0..values.len())])
                .sum();
            sum / num as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
    let end = |share: f64| nearest_quantile_of_sorted(&means, share);
    Some(MeanInterval { mean, low: end(tail)?, high: end(1.0 - tail)? })
}

/// Returns the bootstrap variance of each of several statistics of one sample; none where fewer than two
/// resamples had a value.
///
/// `statistics` is told how often each of the `num_items` was drawn. All see the same resamples;
/// those without a value of a statistic (such as the mean of a group of which none was drawn) are
/// left out of its variance.
///
/// # Source
/// Efron and Tibshirani 1993, chapter 6.
pub fn bootstrap_variances<const K: usize>(
    num_items: usize,
    num_resamples: usize,
    rng: &mut impl Rng,
    statistics: impl Fn(&[usize]) -> [Option<f64>; K],
) -> [Option<f64>; K] {
    let mut values: [Vec<f64>; K] = std::array::from_fn(|_| Vec::with_capacity(num_resamples));
    let mut drawn = vec![0; num_items];
    for _ in 0..if num_items == 0 { 0 } else { num_resamples } {
        drawn.fill(0);
        for _ in 0..num_items {
            drawn[rng.random_range(0..num_items)] += 1;
        }
        for (values, value) in values.iter_mut().zip(statistics(&drawn)) {
            values.extend(value);
        }
    }
    values.map(|values| variance(&values))
}

/// The variance of values about their mean (with one less than their number); none for fewer than two.
pub(super) fn variance(values: &[f64]) -> Option<f64> {
    let num = values.len() as f64;
    let centre = values.iter().sum::<f64>() / num;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (values.len() > 1).then(|| squares / (num - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::SeedStream;

    fn interval(strata: &[Vec<f64>], level: f64) -> Option<MeanInterval> {
        bootstrap_mean(strata, 4000, level, &mut SeedStream::new(3).rng("test", &[]))
    }

    #[test]
    fn a_large_sample_has_the_normal_interval() {
        // Mean .25, standard deviation sqrt(.25 * .75); 1.960 and .674 are normal quantiles.
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 4 == 0)).collect();
        let error = (0.25_f64 * 0.75 / 400.0).sqrt();
        for (level, quantile) in [(0.95, 1.960), (0.5, 0.674)] {
            let found = interval(std::slice::from_ref(&values), level).unwrap();
            assert_eq!(found.mean, 0.25);
            assert!((found.low - (0.25 - quantile * error)).abs() < 0.003, "{found:?}");
            assert!((found.high - (0.25 + quantile * error)).abs() < 0.003, "{found:?}");
        }
    }

    #[test]
    fn strata_are_held_fixed_and_count_by_their_size() {
        let found = interval(&[vec![0.0; 3], vec![], vec![1.0]], 0.95).unwrap();
        assert_eq!(found, MeanInterval { mean: 0.25, low: 0.25, high: 0.25 });
        let mixed = interval(&[vec![0.0, 0.0, 0.0, 1.0]], 0.95).unwrap();
        assert!(mixed.low < 0.25 && mixed.high > 0.25);
    }

    /// The mean of all, of the items from 300 on, and of none.
    #[test]
    fn several_statistics_share_the_resamples() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 4 == 0)).collect();
        let mean = |drawn: &[usize], from: usize| {
            let pairs = drawn.iter().zip(&values).skip(from);
            let (num, sum) = pairs.fold((0, 0.0), |(num, sum), (&times, value)| {
                (num + times, sum + times as f64 * value)
            });
            (num > 0).then(|| sum / num as f64)
        };
        let rng = &mut SeedStream::new(3).rng("test", &[]);
        let found = bootstrap_variances(400, 4000, rng, |drawn| {
            assert_eq!(drawn.iter().sum::<usize>(), 400);
            [mean(drawn, 0), mean(drawn, 300), mean(drawn, 400)]
        });
        for (variance, num) in [(found[0], 400.0), (found[1], 100.0)] {
            // 4000 squares know their mean to 2.2 %; the number of those drawn of the last hundred varies.
            let ratio = variance.unwrap() * num / (0.25 * 0.75);
            assert!((ratio - 1.0).abs() < 0.07, "{ratio}");
        }
        assert_eq!(found[2], None);
        assert_eq!(bootstrap_variances(0, 10, rng, |_| [Some(1.0)]), [None]);
    }

    #[test]
    fn nothing_has_no_mean() {
        assert_eq!(interval(&[], 0.95), None);
        assert_eq!(interval(&[vec![]], 0.95), None);
    }
}
