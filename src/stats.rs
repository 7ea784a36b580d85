//! Quantiles and entropies, one definition each; plain numbers.
//!
//! Where the program needs two definitions of one quantity, both stand here under their own names,
//! because their results are in files that must stay what they are, or because a source asks for one.
//! All sums run in the order of what is given, so that the same values give the same bits. Intervals
//! and the distributions behind them are the evaluation's ([`crate::eval`]).

/// Returns the quantile of values in any order, as [`quantile_of_sorted`] does.
pub fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile_of_sorted(&values, q)
}

/// Returns the quantile of rising values, between two of them on the line that joins them; NaN of
/// none. A `q` outside of 0 to 1 is the nearer of both.
///
/// # Source
/// Hyndman and Fan 1996, definition 7: the default of `numpy.quantile` and of `torch.quantile`.
pub fn quantile_of_sorted(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    // Between equal values exactly their value, so that ties stay ties.
    if below == above { below } else { below + (above - below) * at.fract() }
}

/// Returns that of rising values which is nearest to the place of the quantile, a half upwards; none
/// of no values. A `q` outside of 0 to 1 is the nearer of both.
///
/// For the ends of percentile intervals, which are values of resamples and not between them.
///
/// # Source
/// `numpy.quantile` with `method="nearest"`, which takes the even place for a half.
pub fn nearest_quantile_of_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * q.clamp(0.0, 1.0)).round() as usize])
}

/// Returns the median of rising values: of an even number, half the sum of the two in the middle;
/// none of no values.
///
/// It is [`quantile_of_sorted`] at a half, but for the last bit: that adds half the difference.
pub fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[half - 1] + upper) / 2.0 })
}

/// Returns the entropy of a distribution in nats, from 0 to ln of the number of probabilities.
///
/// # Source
/// Shannon 1948, section 6, with the natural logarithm; 0 ln 0 is 0.
pub fn entropy(probabilities: impl IntoIterator<Item = f64>) -> f64 {
    let terms = probabilities.into_iter().filter(|p| *p > 0.0).map(|p| -p * p.ln());
    // One outcome alone gives -0, of which `max` may leave the sign.
    terms.sum::<f64>().max(0.0) + 0.0
}

/// Returns the [`entropy`] of the shares of counts, summed in their order; 0 when all are 0.
pub fn entropy_of_counts(counts: &[usize]) -> f64 {
    let total = counts.iter().sum::<usize>() as f64;
    entropy(counts.iter().map(|&count| count as f64 / total))
}

/// Returns [`entropy_of_counts`], summed from the least count up, so that the same counts in another
/// order give the same bits: for entropies that are compared with each other.
pub fn entropy_of_counts_in_any_order(mut counts: Vec<usize>) -> f64 {
    counts.sort_unstable();
    entropy_of_counts(&counts)
}

/// Returns [`entropy_of_counts`] over the most that so many counts can have, from 0 to 1; 0 when all
/// are 0 and for fewer than two.
///
/// # Source
/// Pielou 1966, the evenness J'.
pub fn normalised_entropy_of_counts(counts: &[usize]) -> f64 {
    if counts.len() < 2 {
        return 0.0;
    }
    entropy_of_counts(counts) / (counts.len() as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: places .5, 1.65, 2.5 and 3.85 among six values. The same numbers were in the files of
    /// runs when filter and loss had a function each.
    #[test]
    fn quantiles_lie_on_the_line_between_two_values() {
        let values = vec![0.673, 0.0, 0.5, 1.055, 0.1, 0.9502];
        for (q, expected) in [
            (0.1, 0.05),
            (0.33, 0.360_000_000_000_000_1),
            (0.5, 0.5865),
            (0.77, 0.908_620_000_000_000_1),
        ] {
            assert_eq!(quantile(values.clone(), q), expected, "{q}");
        }
        assert_eq!(
            [-1.0, 0.0, 1.0, 7.0].map(|q| quantile(values.clone(), q)),
            [0.0, 0.0, 1.055, 1.055]
        );
        assert_eq!(quantile(vec![0.7], 0.3), 0.7);
        assert!(quantile(Vec::new(), 0.5).is_nan());
        // 0.1 + (0.1 - 0.1) t is .1 for every t, and so is what is between infinities.
        assert_eq!(quantile(vec![0.1, f64::INFINITY, f64::INFINITY], 0.75), f64::INFINITY);
    }

    /// numpy's, computed there.
    #[test]
    fn quantiles_are_numpys() {
        let values = vec![0.673, 0.0, 0.5, 1.055];
        for (q, expected) in [(0.5, 0.5865), (0.0, 0.0), (1.0, 1.055), (0.25, 0.375), (0.9, 0.9404)]
        {
            assert!((quantile(values.clone(), q) - expected).abs() < 1e-12, "{q}");
        }
    }

    /// Places 0, 1.25, 2.5 and 5 are 0, 1, 3 and 5.
    #[test]
    fn the_nearest_value_is_one_of_them() {
        let sorted = [0.0, 0.1, 0.5, 0.673, 0.9502, 1.055];
        let found = [-1.0, 0.0, 0.25, 0.5, 1.0, 2.0];
        let found = found.map(|q| nearest_quantile_of_sorted(&sorted, q).unwrap());
        assert_eq!(found, [0.0, 0.0, 0.1, 0.673, 1.055, 1.055]);
        assert_eq!(nearest_quantile_of_sorted(&[], 0.5), None);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median_of_sorted(&[0.1, 0.3, 0.9]), Some(0.3));
        assert_eq!(median_of_sorted(&[0.1, 0.2, 0.6, 0.7]), Some(0.4));
        assert_eq!(median_of_sorted(&[]), None);
        // Half the sum and half the difference round otherwise: why both are here.
        let pair = [0.2, 1.0];
        assert_eq!(median_of_sorted(&pair), Some(0.6));
        assert_eq!(quantile_of_sorted(&pair, 0.5), 0.600_000_000_000_000_1);
    }

    /// Two of five, two of five, one of five: 2 (2/5) ln (5/2) + (1/5) ln 5 = ln 5 - (4/5) ln 2.
    #[test]
    fn entropies_by_hand() {
        let ln = |x: f64| x.ln();
        let expected = ln(5.0) - 0.8 * ln(2.0);
        for found in [
            entropy([0.4, 0.2, 0.4]),
            entropy_of_counts(&[2, 1, 2]),
            entropy_of_counts_in_any_order(vec![2, 1, 2]),
            normalised_entropy_of_counts(&[2, 1, 2]) * ln(3.0),
        ] {
            assert!((found - expected).abs() < 1e-15, "{found}, expected {expected}");
        }
        for (counts, expected) in
            [(&[5, 5, 0][..], ln(2.0)), (&[2, 2, 2], ln(3.0)), (&[1, 3], 0.562_335_144_618_808_3)]
        {
            let found = entropy_of_counts(counts);
            assert!((found - expected).abs() < 1e-15, "{found}, expected {expected}");
        }
        assert_eq!(normalised_entropy_of_counts(&[5, 5]), 1.0);
        // 2 - 3/4 log2(3) bits; of three labels, two equal: 1 / log2(3).
        assert!((normalised_entropy_of_counts(&[1, 3]) - 0.811_278).abs() < 1e-6);
        assert!((normalised_entropy_of_counts(&[4, 4, 0]) - 0.630_930).abs() < 1e-6);
        assert_eq!(normalised_entropy_of_counts(&[3]), 0.0);
    }

    /// What was in the files of runs before the copies became one; the orders differ in the last bit.
    #[test]
    fn entropies_have_the_bits_they_had() {
        assert_eq!(entropy([0.1, 0.2, 0.7]), 0.801_818_552_543_337_3);
        assert_eq!(entropy([0.7, 0.2, 0.1]), 0.801_818_552_543_337_2);
        let (rising, falling) = ([1, 3, 7, 11], [11, 7, 3, 1]);
        assert_eq!(entropy_of_counts(&[7, 1, 11, 3]), 1.123_130_821_077_697_8);
        assert_eq!(entropy_of_counts(&falling), 1.123_130_821_077_698);
        for counts in [rising, falling] {
            let found = entropy_of_counts_in_any_order(counts.to_vec());
            assert_eq!(found, 1.123_130_821_077_697_8);
        }
        assert_eq!(normalised_entropy_of_counts(&[7, 1, 11, 3]), 0.810_167_632_919_172_2);
        assert_eq!(normalised_entropy_of_counts(&falling), 0.810_167_632_919_172_3);
    }

    /// Without optimisation `max` left the sign, and files had `-0.0` where those of a release had `0.0`.
    #[test]
    fn no_entropy_is_a_zero_without_a_sign() {
        for counts in [vec![5, 0], vec![0, 0], vec![]] {
            assert_eq!(entropy_of_counts(&counts).to_bits(), 0);
            assert_eq!(normalised_entropy_of_counts(&counts).to_bits(), 0);
            assert_eq!(entropy_of_counts_in_any_order(counts).to_bits(), 0);
        }
        assert_eq!(entropy([0.0, 1.0]).to_bits(), 0);
    }
}
