//! Which questions are kept, by their entropy.

use rand::Rng;
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::run::SeedStream;
use crate::stats::quantile;

/// How many of the questions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "rule", content = "value")]
pub enum Rule {
    /// Those of an entropy up to this quantile of all entropies, ties kept.
    ///
    /// # Source
    /// arXiv 2406.19032: `entropy <= numpy.percentile(entropies, 50)`.
    Quantile(f64),
    /// Those of an entropy up to this, in nats.
    MaxEntropy(f64),
    /// This share of them, rounded down, lowest entropy first; ties by a draw.
    KeepFraction(f64),
}

impl Rule {
    /// Returns the rule, if its number is one that it can have.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub fn checked(self) -> Result<Self> {
        let (name, value, good) = match self {
            Self::Quantile(q) => ("--quantile", q, (0.0..=1.0).contains(&q)),
            Self::MaxEntropy(x) => ("--max-entropy", x, x.is_finite() && x >= 0.0),
            Self::KeepFraction(f) => ("--keep-fraction", f, f > 0.0 && f <= 1.0),
        };
        if good {
            return Ok(self);
        }
        let expected = match self {
            Self::Quantile(_) => "expected 0 to 1",
            Self::MaxEntropy(_) => "expected a number of nats from 0 up",
            Self::KeepFraction(_) => "expected more than 0 and at most 1",
        };
        Err(Error::new(ErrorKind::Usage, format!("`{name}` is {value}, {expected}")))
    }
}

/// Two entropies that differ by less are a tie, in nats: sums of the same terms in another order
/// differ in their last bits.
const SAME_NATS: f64 = 1e-9;

/// What a rule goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// The question's id.
    pub id: &'a str,
    /// Entropy if every answer that could not be read had been another one, in nats.
    pub highest_nats: f64,
    /// Entropy if all of them had been the most frequent one, in nats.
    pub lowest_nats: f64,
    /// Whether any answer could be read.
    pub has_label: bool,
}

/// Which questions were kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Whether each question was kept, in their order.
    pub kept: Vec<bool>,
    /// The highest entropy that could be kept, in nats; `None` if a share was asked for and nothing
    /// was kept.
    pub threshold_nats: Option<f64>,
}

/// Returns which questions `rule` keeps.
///
/// An answer that could not be read never helps its question, and never raises the share that is kept:
/// questions stand with their highest entropy, and the quantile is taken of the lowest, so making an
/// answer unreadable can only shrink what a quantile or a limit keeps; a fraction stays the same. Where all answers were read both are the entropy, as published. A question
/// without any answer that could be read is dropped.
pub fn select(rule: Rule, candidates: &[Candidate<'_>], streams: &SeedStream) -> Selection {
    let below = |threshold: f64| {
        let keep = |c: &Candidate<'_>| c.has_label && c.highest_nats <= threshold + SAME_NATS;
        Selection { kept: candidates.iter().map(keep).collect(), threshold_nats: Some(threshold) }
    };
    match rule {
        Rule::Quantile(q) => {
            let lowest: Vec<f64> = candidates.iter().map(|c| c.lowest_nats).collect();
            below(quantile(lowest, q))
        }
        Rule::MaxEntropy(threshold) => below(threshold),
        Rule::KeepFraction(fraction) => {
            let num = (fraction * candidates.len() as f64).floor() as usize;
            let mut order: Vec<usize> =
                (0..candidates.len()).filter(|&i| candidates[i].has_label).collect();
            // A number of each question's own, whatever other questions there are.
            let draw = |c: &Candidate<'_>| streams.rng_of("filter/ties", c.id).random();
            let draws: Vec<u64> = candidates.iter().map(draw).collect();
            order.sort_by(|&a, &b| {
                let nats = candidates[a].highest_nats.total_cmp(&candidates[b].highest_nats);
                nats.then(draws[a].cmp(&draws[b]))
            });
            order.truncate(num);
            let mut kept = vec![false; candidates.len()];
            for &i in &order {
                kept[i] = true;
            }
            let threshold = order.last().map(|&i| candidates[i].highest_nats);
            Selection { kept, threshold_nats: threshold }
        }
    }
}

/// Returns `num` draws with replacement of the places below `len`, in the order drawn.
///
/// # Source
/// arXiv 2406.19032's `--do_sampling`: as many rows as there were questions, drawn of the kept rows.
pub fn sample(len: usize, num: usize, streams: &SeedStream) -> Vec<usize> {
    if len == 0 {
        return Vec::new();
    }
    let mut rng = streams.rng("filter/sampling", &[]);
    (0..num).map(|_| rng.random_range(0..len)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_read(entropies: &[f64]) -> Vec<Candidate<'static>> {
        const IDS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let candidate = |(i, &nats): (usize, &f64)| Candidate {
            id: IDS[i],
            highest_nats: nats,
            lowest_nats: nats,
            has_label: true,
        };
        entropies.iter().enumerate().map(candidate).collect()
    }

    fn kept(rule: Rule, entropies: &[f64]) -> String {
        let found = select(rule, &all_read(entropies), &SeedStream::new(1));
        found.kept.iter().map(|kept| if *kept { '+' } else { '-' }).collect()
    }

    #[test]
    fn ties_at_the_quantile_are_kept() {
        assert_eq!(kept(Rule::Quantile(0.5), &[0.0, 0.5, 0.5, 0.5, 1.0]), "++++-");
        assert_eq!(kept(Rule::Quantile(0.5), &[0.0, 0.0, 0.0, 1.0]), "+++-");
        assert_eq!(kept(Rule::Quantile(0.5), &[0.0, 0.2, 0.4, 0.6]), "++--");
        assert_eq!(kept(Rule::Quantile(0.0), &[0.3, 0.2, 0.2]), "-++");
        assert_eq!(kept(Rule::Quantile(1.0), &[0.3, 0.2, 0.2]), "+++");
        assert_eq!(kept(Rule::MaxEntropy(0.5), &[0.5, 0.6, 0.0]), "+-+");
    }

    #[test]
    fn a_fraction_is_kept_exactly_and_ties_are_drawn() {
        for (fraction, num) in [(0.5, 4), (0.2, 1), (1.0, 8), (0.99, 7), (0.1, 0)] {
            let found = kept(Rule::KeepFraction(fraction), &[0.5; 8]);
            assert_eq!(found.matches('+').count(), num, "{fraction}: {found}");
        }
        // The lowest first; among equals the same draw each time, another with another seed.
        assert_eq!(kept(Rule::KeepFraction(0.5), &[0.9, 0.1, 0.8, 0.0]), "-+-+");
        let by_seed = |seed| {
            select(Rule::KeepFraction(0.5), &all_read(&[0.5; 8]), &SeedStream::new(seed)).kept
        };
        assert_eq!(by_seed(3), by_seed(3));
        assert!((0..20).any(|seed| by_seed(seed) != by_seed(3)));
    }

    #[test]
    fn sampling_has_its_size_and_its_seed() {
        let draw = |seed| sample(5, 200, &SeedStream::new(seed));
        assert_eq!(draw(1).len(), 200);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        // With replacement: 200 draws of five things hit each, and some more than once.
        assert!((0..5).all(|i| draw(1).contains(&i)));
        assert!(sample(0, 10, &SeedStream::new(1)).is_empty());
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for rule in [
            Rule::Quantile(1.1),
            Rule::Quantile(f64::NAN),
            Rule::MaxEntropy(-0.1),
            Rule::KeepFraction(0.0),
        ] {
            assert_eq!(rule.checked().unwrap_err().kind(), ErrorKind::Usage, "{rule:?}");
        }
        assert!(Rule::Quantile(0.5).checked().is_ok());
    }
}
