//! Distribution functions and quantiles of the normal and of Student's t; plain numbers.

use std::f64::consts::{FRAC_2_PI, PI, TAU};

/// Steps of a bisection that leave no more than rounding between its ends.
const NUM_HALVINGS: usize = 55;
/// Beyond it the two tails of a normal curve hold less than a double can tell from nothing beside 1.
const NORMAL_END: f64 = 8.3;

/// How many standard errors the middle of a distribution reaches: of the normal, and of t with each
/// number of degrees of freedom that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Quantiles {
    /// Of the normal.
    pub(super) z: f64,
    t: Vec<f64>,
}

impl Quantiles {
    /// Returns the two-sided quantiles of coverage `level` for up to `max_degrees` degrees of freedom.
    pub(super) fn new(level: f64, max_degrees: usize) -> Self {
        let level = level.clamp(0.0, 1.0);
        Self::at(inverse(level, middle_normal), level, max_degrees)
    }

    /// Returns those of the coverage that the normal has within `z` standard errors, and that coverage.
    pub(super) fn of_normal(z: f64, max_degrees: usize) -> (Self, f64) {
        let level = middle_normal(z);
        (Self::at(z, level, max_degrees), level)
    }

    fn at(z: f64, level: f64, max_degrees: usize) -> Self {
        let t = (1..=max_degrees).map(|degrees| inverse(level, |x| middle_t(x, degrees))).collect();
        Self { z, t }
    }

    /// Of t; the normal's for more degrees of freedom than were asked for, or none.
    pub(super) fn t(&self, degrees: usize) -> f64 {
        let place = degrees.checked_sub(1);
        place.and_then(|place| self.t.get(place)).copied().unwrap_or(self.z)
    }
}

/// Where `middle`, the rising share of a distribution within `[-x, x]`, reaches `level`.
fn inverse(level: f64, middle: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while middle(high) < level && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..NUM_HALVINGS {
        let centre = 0.5 * (low + high);
        if middle(centre) < level { low = centre } else { high = centre }
    }
    0.5 * (low + high)
}

/// The share of a normal distribution within `[-x, x]`.
///
/// # Source
/// Abramowitz and Stegun 1964, 26.2.11.
fn middle_normal(x: f64) -> f64 {
    if x > NORMAL_END {
        return 1.0;
    }
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while term > sum * f64::EPSILON {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    (2.0 * sum * (-0.5 * x * x).exp() / TAU.sqrt()).min(1.0)
}

/// The share of Student's t with whole degrees of freedom within `[-x, x]`.
///
/// # Source
/// Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
fn middle_t(x: f64, degrees: usize) -> f64 {
    let angle = (x / (degrees as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let even = degrees.is_multiple_of(2);
    let first = if even { 1.0 } else { cos };
    let (mut term, mut sum) = (first, if degrees == 1 { 0.0 } else { first });
    let mut at = if even { 2 } else { 3 };
    while at < degrees {
        term *= cos * cos * (at - 1) as f64 / at as f64;
        sum += term;
        at += 2;
    }
    if even { sin * sum } else { 2.0 / PI * angle + FRAC_2_PI * sin * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy 1.17.1: `stats.norm.ppf((1 + level) / 2)`, `stats.t.ppf((1 + level) / 2, degrees)`.
    #[test]
    fn quantiles_are_those_of_scipy() {
        let close = |got: f64, expected: f64| {
            assert!((got - expected).abs() < 1e-8 * expected, "{got}, expected {expected}");
        };
        let found = Quantiles::new(0.95, 29);
        close(found.z, 1.959963984540054);
        for (degrees, expected) in [
            (1, 12.706204736432095),
            (2, 4.302652729911275),
            (3, 3.182446305284263),
            (4, 2.776445105197793),
            (7, 2.364624251592785),
            (29, 2.045229642132703),
        ] {
            close(found.t(degrees), expected);
        }
        assert_eq!(found.t(0), found.z);
        let found = Quantiles::new(0.9, 2);
        close(found.z, 1.6448536269514722);
        close(found.t(1), 6.313751514675043);
        close(found.t(2), 2.919985580353725);
    }
}
