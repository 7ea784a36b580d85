//! Bootstrap interval of a mean over cells that come in groups.

use rand::Rng;

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
    let at = |share: f64| means[((num_resamples - 1) as f64 * share).round() as usize];
    let tail = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
    Some(MeanInterval { mean, low: at(tail), high: at(1.0 - tail) })
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

    #[test]
    fn nothing_has_no_mean() {
        assert_eq!(interval(&[], 0.95), None);
        assert_eq!(interval(&[vec![]], 0.95), None);
    }
}
