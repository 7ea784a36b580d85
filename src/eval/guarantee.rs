//! What an audit of labels proves: exact bounds from rows drawn without replacement.
//!
//! A set of labels is fixed, rows of it are drawn at random, and an auditor answers them. How many of all
//! labels the auditor would contradict is then bounded by the hypergeometric distribution alone: nothing is
//! assumed of the model, of the data, or of how the set was chosen before the draw.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// What is promised of a set of labels: at most this share of them is wrong, with this confidence.
///
/// As text `0.05@0.95`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Guarantee {
    /// The largest share of wrong labels, over 0 and under 1.
    pub max_error: f64,
    /// Probability over the draw with which it holds, 0.5 to under 1.
    pub confidence: f64,
}

impl Guarantee {
    /// Returns how many labels of `num` may be wrong.
    pub fn errors_of(&self, num: usize) -> usize {
        // 0.29 of 100 are 29, though the product is just below.
        (self.max_error * num as f64 + 1e-9).floor() as usize
    }

    /// Returns whether this promises all that `other` does.
    pub fn implies(&self, other: &Self) -> bool {
        self.max_error <= other.max_error && self.confidence >= other.confidence
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.max_error, self.confidence)
    }
}

impl From<Guarantee> for String {
    fn from(guarantee: Guarantee) -> Self {
        guarantee.to_string()
    }
}

impl TryFrom<String> for Guarantee {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Guarantee {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fault = || {
            Error::new(ErrorKind::Usage, format!("`{text}` is no guarantee")).hint(
                "write ERROR@CONFIDENCE, such as 0.05@0.95: at most 5 % of the labels are wrong, with a \
                 confidence of 95 %",
            )
        };
        let (error, confidence) = text.split_once('@').ok_or_else(fault)?;
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| fault());
        let guarantee = Self { max_error: number(error)?, confidence: number(confidence)? };
        let is_share = guarantee.max_error > 0.0 && guarantee.max_error < 1.0;
        if !is_share || !(0.5..1.0).contains(&guarantee.confidence) {
            return Err(fault());
        }
        Ok(guarantee)
    }
}

/// What an audit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Labels in the set that rows were drawn from.
    pub num_labels: usize,
    /// Rows that were drawn, without replacement.
    pub num_drawn: usize,
    /// Rows of these whose label the auditor contradicts.
    pub num_wrong: usize,
}

impl Audited {
    /// Returns the most wrong labels in the set, those drawn among them, that the audit leaves possible at a
    /// confidence: with more of them, as few as were found would come up with a probability of
    /// `1 - confidence` or less.
    ///
    /// # Cost
    /// The logarithm of the set's size times the number of wrong rows.
    ///
    /// # Source
    /// METHODS: the exact lower tail of the hypergeometric distribution (Buonaccorsi 1987).
    pub fn most_wrong(&self, confidence: f64) -> usize {
        let (mut least, mut most) =
            (self.num_wrong, self.num_labels - (self.num_drawn - self.num_wrong));
        // Whether one more than this can be ruled out.
        while least < most {
            let middle = usize::midpoint(least, most);
            let chance =
                chance_of_at_most(self.num_wrong, self.num_labels, middle + 1, self.num_drawn);
            if chance <= 1.0 - confidence {
                most = middle;
            } else {
                least = middle + 1;
            }
        }
        least
    }

    /// Returns the most wrong labels among those that were not drawn: what is left once the auditor's
    /// answers stand in for the labels of the rows drawn.
    pub fn most_left(&self, confidence: f64) -> usize {
        self.most_wrong(confidence) - self.num_wrong
    }

    /// Returns whether the set, as it was labelled, keeps a guarantee.
    pub fn keeps(&self, guarantee: &Guarantee) -> bool {
        self.most_wrong(guarantee.confidence) <= guarantee.errors_of(self.num_labels)
    }
}

/// Returns the most wrong rows of `num_drawn` with which a set of `num_labels` keeps a guarantee; `None`
/// where not even an audit without a wrong row is enough.
pub fn most_wrong_drawn(
    num_labels: usize,
    num_drawn: usize,
    guarantee: &Guarantee,
) -> Option<usize> {
    let keeps = |num_wrong| Audited { num_labels, num_drawn, num_wrong }.keeps(guarantee);
    (0..=num_drawn).take_while(|num| keeps(*num)).last()
}

/// Returns the fewest rows of a set of `num_labels` that are enough for a guarantee if `num_wrong` of them
/// are wrong; `None` where even all are not.
pub fn fewest_drawn(num_labels: usize, num_wrong: usize, guarantee: &Guarantee) -> Option<usize> {
    let keeps = |num_drawn| Audited { num_labels, num_drawn, num_wrong }.keeps(guarantee);
    let (mut least, mut most) = (num_wrong, num_labels);
    if num_wrong > num_labels || !keeps(num_labels) {
        return None;
    }
    while least < most {
        let middle = usize::midpoint(least, most);
        if keeps(middle) { most = middle } else { least = middle + 1 }
    }
    Some(least)
}

/// Returns the largest share of the labels that any choice can cover with at most `max_error` of the covered
/// ones wrong, where `error_rate` of all are wrong: all right ones, and as many wrong ones as fit.
///
/// # Source
/// arXiv 2606.29054; METHODS: 1 - (mu - eps) / (1 - eps).
pub fn coverable_share(error_rate: f64, max_error: f64) -> f64 {
    (1.0 - (error_rate - max_error).max(0.0) / (1.0 - max_error)).clamp(0.0, 1.0)
}

/// Returns the probability that of `num_drawn` rows, drawn without replacement from `num_labels` of which
/// `num_marked` are marked, at most `num` are marked: the hypergeometric distribution's lower tail.
pub fn chance_of_at_most(
    num: usize,
    num_labels: usize,
    num_marked: usize,
    num_drawn: usize,
) -> f64 {
    if num_marked > num_labels {
        return 0.0;
    }
    let fewest = (num_drawn + num_marked).saturating_sub(num_labels);
    let all = ln_choose(num_labels, num_drawn);
    let chance_of = |marked: usize| {
        let others = ln_choose(num_labels - num_marked, num_drawn - marked);
        (ln_choose(num_marked, marked) + others - all).exp()
    };
    let most = num.min(num_drawn).min(num_marked);
    (fewest..=most).map(chance_of).sum::<f64>().min(1.0)
}

/// The logarithm of the binomial coefficient.
fn ln_choose(of: usize, num: usize) -> f64 {
    ln_factorial(of) - ln_factorial(num) - ln_factorial(of - num)
}

/// The logarithm of a factorial: the sum for few factors, Stirling's series for many.
fn ln_factorial(num: usize) -> f64 {
    if num < 64 {
        return (2..=num).map(|factor| (factor as f64).ln()).sum();
    }
    let n = num as f64;
    let series = 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3)) + 1.0 / (1260.0 * n.powi(5));
    n * n.ln() - n + 0.5 * (2.0 * std::f64::consts::PI * n).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(max_error: f64) -> Guarantee {
        Guarantee { max_error, confidence: 0.95 }
    }

    #[test]
    fn tails_are_scipys() {
        // `scipy.stats.hypergeom.cdf(num, labels, marked, drawn)`, scipy 1.17.1.
        for ((num, labels, marked, drawn), expected) in [
            ((1, 100, 10, 20), 0.363_049_434_207_657_23),
            ((3, 2048, 103, 200), 0.006_505_620_506_666_017),
            ((0, 1_000_000, 50_001, 59), 0.048_487_146_725_410_504),
            ((5, 60, 20, 30), 0.006_349_473_145_896_314),
            ((40, 5000, 800, 200), 0.949_623_681_503_368_4),
        ] {
            let found = chance_of_at_most(num, labels, marked, drawn);
            assert!((found / expected - 1.0).abs() < 1e-8, "{found} {expected}");
        }
        assert_eq!(chance_of_at_most(5, 12, 13, 5), 0.0);
        assert!((chance_of_at_most(5, 12, 12, 5) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bounds_are_those_of_the_tails() {
        // The smallest number whose successor's tail is at most 1 - confidence, by scipy.
        for ((num_labels, num_drawn, num_wrong), confidence, expected) in [
            ((1000, 100, 0), 0.95, 28),
            ((1000, 100, 3), 0.95, 73),
            ((256, 46, 1), 0.95, 23),
            ((64, 29, 0), 0.95, 4),
            ((64, 40, 2), 0.9, 6),
            ((10_000, 124, 2), 0.95, 496),
            ((1_000_000, 59, 0), 0.95, 49_506),
            // All were drawn, or all that were drawn are wrong.
            ((30, 30, 4), 0.95, 4),
            ((12, 5, 5), 0.95, 12),
        ] {
            let audited = Audited { num_labels, num_drawn, num_wrong };
            assert_eq!(audited.most_wrong(confidence), expected, "{audited:?}");
            assert_eq!(audited.most_left(confidence), expected - num_wrong);
        }
    }

    /// The table of METHODS: what may be wrong in an audit of a large set.
    #[test]
    fn allowed_errors_are_those_of_the_table() {
        for (max_error, num_wrong, num_drawn) in [
            (0.10, 0, 29),
            (0.10, 1, 46),
            (0.10, 2, 61),
            (0.05, 0, 59),
            (0.05, 1, 93),
            (0.05, 2, 124),
        ] {
            let found = fewest_drawn(10_000_000, num_wrong, &of(max_error));
            assert_eq!(found, Some(num_drawn), "{max_error} {num_wrong}");
            assert_eq!(most_wrong_drawn(10_000_000, num_drawn, &of(max_error)), Some(num_wrong));
            let one_less = most_wrong_drawn(10_000_000, num_drawn - 1, &of(max_error));
            assert_eq!(one_less, num_wrong.checked_sub(1), "{max_error} {num_wrong}");
        }
        // 100 audits with 0, 1, 2, 3 wrong rows certify these shares.
        for (num_wrong, share) in [(0, 0.030), (1, 0.047), (2, 0.062), (3, 0.076)] {
            let audited = Audited { num_labels: 10_000_000, num_drawn: 100, num_wrong };
            let found = audited.most_wrong(0.95) as f64 / 1e7;
            assert!((found - share).abs() < 0.0005, "{num_wrong}: {found}");
        }
    }

    #[test]
    fn a_small_set_needs_fewer_rows_and_all_of_them_are_always_enough() {
        assert_eq!(most_wrong_drawn(20, 20, &of(0.05)), Some(1));
        assert!(fewest_drawn(100, 0, &of(0.05)).unwrap() < 59);
        assert_eq!(fewest_drawn(10, 11, &of(0.05)), None);
        assert_eq!(fewest_drawn(30, 2, &of(0.05)), None);
        assert_eq!(most_wrong_drawn(1000, 20, &of(0.05)), None);
    }

    #[test]
    fn no_choice_covers_more_than_the_right_ones_and_what_may_be_wrong() {
        // Of 100 labels 16 are wrong: 84 right ones and 4 wrong ones are 88, with 4.5 % wrong.
        assert!((coverable_share(0.16, 0.05) - 0.884_210_526_315_789_5).abs() < 1e-12);
        assert_eq!(coverable_share(0.04, 0.05), 1.0);
        assert_eq!(coverable_share(1.0, 0.05), 0.0);
    }

    #[test]
    fn guarantees_are_texts() {
        let read: Guarantee = "0.05@0.95".parse().unwrap();
        assert_eq!(read, of(0.05));
        assert_eq!(read.to_string(), "0.05@0.95");
        assert_eq!(of(0.29).errors_of(100), 29);
        for wrong in ["", "0.05", "0@0.95", "1@0.95", "0.05@1", "0.05@0.4", "NaN@0.95", "5%@95%"] {
            assert!(wrong.parse::<Guarantee>().is_err(), "{wrong}");
        }
        assert!(of(0.05).implies(&of(0.1)) && !of(0.1).implies(&of(0.05)));
    }
}
