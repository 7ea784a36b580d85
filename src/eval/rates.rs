//! Rates with their intervals, and rank statistics; plain numbers in, plain numbers out.

/// The normal quantile of a two-sided 95 % interval.
pub const Z_95: f64 = 1.959964;

/// Returns the Wilson score interval of a rate; `(0, 1)` when `n` is 0.
///
/// `successes` beyond `n` count as `n`. Use [`Z_95`] for a 95 % interval.
///
/// # Source
/// Wilson 1927, without continuity correction.
pub fn wilson(successes: usize, n: usize, z: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let successes = successes.min(n);
    wilson_rate(successes as f64 / n as f64, n as f64, z)
}

/// Returns the Wilson score interval of a rate between 0 and 1 that is as sure as one of `count`
/// independent answers; `count` need not be whole.
///
/// # Source
/// Wilson 1927; Korn and Graubard 1998 for an effective number of answers.
pub(super) fn wilson_rate(rate: f64, count: f64, z: f64) -> (f64, f64) {
    let scale = 1.0 + z * z / count;
    let centre = (rate + z * z / (2.0 * count)) / scale;
    let half = z * (rate * (1.0 - rate) / count + z * z / (4.0 * count * count)).sqrt() / scale;
    // At the two ends the interval touches 0 and 1 exactly; rounding would miss them.
    let low = if rate <= 0.0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if rate >= 1.0 { 1.0 } else { (centre + half).min(1.0) };
    (low, high)
}

/// Returns the chance that a positive item scores higher than a negative one, ties counted half;
/// none when either kind is missing or a score is NaN.
///
/// # Cost
/// One sort of the items.
pub fn auroc(items: &[(f64, bool)]) -> Option<f64> {
    let num_positive = items.iter().filter(|(_, positive)| *positive).count();
    let num_negative = items.len() - num_positive;
    if num_positive == 0 || num_negative == 0 || items.iter().any(|(score, _)| score.is_nan()) {
        return None;
    }
    let mut sorted = items.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // `==`, not `total_cmp`, decides a tie: 0 and -0 are one score.
    auroc_of_ties(sorted.chunk_by(|a, b| a.0 == b.0).map(|tied| {
        let positives = tied.iter().filter(|(_, positive)| *positive).count();
        (positives, tied.len() - positives)
    }))
}

/// Returns the AUROC of groups of items that score the same, each by its number of positive and
/// negative ones, lowest score first; none when either kind is missing.
pub(super) fn auroc_of_ties(ties: impl IntoIterator<Item = (usize, usize)>) -> Option<f64> {
    // Twice the number of won pairs, so that half wins stay whole and any order sums the same.
    let mut doubled_wins = 0_u128;
    let (mut positives_below, mut negatives_below) = (0_u128, 0_u128);
    for (positives, negatives) in ties {
        let (positives, negatives) = (positives as u128, negatives as u128);
        doubled_wins += positives * (2 * negatives_below + negatives);
        positives_below += positives;
        negatives_below += negatives;
    }
    let pairs = positives_below as f64 * negatives_below as f64;
    (pairs > 0.0).then(|| doubled_wins as f64 / (2.0 * pairs))
}
