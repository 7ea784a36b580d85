//! A linear axis: from values to places, and round numbers for its ticks.

use super::text;

/// A linear map of values to one coordinate.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// Returns the axis on which `low` lies at `start` and `high` at `end`.
    pub(super) fn new((low, high): (f64, f64), (start, end): (f64, f64)) -> Self {
        Self { low, high, start, end }
    }

    /// Returns where a value lies.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// Returns round values inside the axis with their labels, `max_ticks` at most.
    pub(super) fn ticks(&self, max_ticks: usize, whole: bool) -> Vec<(f64, String)> {
        let span = self.high - self.low;
        let step = round_step(span / max_ticks.saturating_sub(1).max(1) as f64);
        let step = if whole { step.max(1.0) } else { step };
        // The nudge keeps 0.1 and 0.01 on the right side of their powers of ten.
        let digits = (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize;
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last)
            .map(|index| index as f64 * step)
            .map(|value| (value, text::number(value, digits)))
            .collect()
    }
}

/// Returns the smallest of 1, 2, 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// Returns the range of the values with some air; never empty, and (0, 1) without values.
pub(super) fn padded_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return (0.0, 1.0);
    }
    let span = high - low;
    // A flat line still needs an axis, wide enough that its ticks differ when printed.
    let air = if span > 0.0 { span * 0.08 } else { (high.abs() * 0.1).max(0.5) };
    (low - air, high + air)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(range: (f64, f64), max_ticks: usize, whole: bool) -> Vec<String> {
        let axis = Axis::new(range, (0.0, 100.0));
        axis.ticks(max_ticks, whole).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(labels((0.0, 100.0), 6, false), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels((-24.0, -1.0), 5, false), ["\u{2212}20", "\u{2212}10"]);
        assert_eq!(labels((0.0, 0.31), 5, false), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels((0.0, 2.0), 8, true), ["0", "1", "2"]);
    }

    #[test]
    fn ranges_are_never_empty() {
        assert_eq!(padded_range([].into_iter()), (0.0, 1.0));
        assert_eq!(padded_range([0.0].into_iter()), (-0.5, 0.5));
        let (low, high) = padded_range([-10.0, f64::NAN, -20.0].into_iter());
        assert!(low < -20.0 && high > -10.0);
    }
}
