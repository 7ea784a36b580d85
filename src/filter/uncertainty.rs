//! How far the answers to variants of one question agree: counts, entropies, shares.

use std::collections::BTreeMap;

use ndarray::ArrayView2;

use crate::stats::{entropy, entropy_of_counts_in_any_order};

/// Answers to the variants of one question, counted.
///
/// An answer that could not be read counts as an answer of its own: `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    counts: BTreeMap<String, usize>,
    num_unparsed: usize,
    /// Answers in the order in which they first came, which decides ties.
    order: Vec<String>,
}

impl Votes {
    /// Returns the counts of `answers`.
    pub fn of<'a>(answers: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut votes = Self::default();
        for answer in answers {
            match answer {
                None => votes.num_unparsed += 1,
                Some(text) => {
                    if !votes.counts.contains_key(text) {
                        votes.order.push(text.to_owned());
                    }
                    *votes.counts.entry(text.to_owned()).or_default() += 1;
                }
            }
        }
        votes
    }

    /// Returns the number of answers.
    pub fn num(&self) -> usize {
        self.counts.values().sum::<usize>() + self.num_unparsed
    }

    /// Returns how many answers could not be read.
    pub fn num_unparsed(&self) -> usize {
        self.num_unparsed
    }

    /// Returns the different answers that could be read, in order of their text.
    pub fn answers(&self) -> impl Iterator<Item = &str> {
        self.counts.keys().map(String::as_str)
    }

    /// Returns how many answers are this one.
    pub fn count(&self, answer: Option<&str>) -> usize {
        match answer {
            Some(text) => self.counts.get(text).copied().unwrap_or(0),
            None => self.num_unparsed,
        }
    }

    /// Returns the share of this answer, from 0 to 1.
    pub fn share(&self, answer: Option<&str>) -> f64 {
        self.count(answer) as f64 / self.num().max(1) as f64
    }

    /// Returns the most frequent answer that could be read, of equally frequent ones that which came
    /// first; `None` if none could.
    pub fn winner(&self) -> Option<&str> {
        let most = self.counts.values().max()?;
        self.order.iter().map(String::as_str).find(|answer| self.counts[*answer] == *most)
    }

    /// Returns the entropy of the answers, in nats; those that could not be read are one answer.
    ///
    /// # Source
    /// arXiv 2406.19032, section 3.2; METHODS: natural log over the counts.
    pub fn entropy_nats(&self) -> f64 {
        entropy_of_counts_in_any_order(
            self.counts.values().copied().chain([self.num_unparsed]).collect(),
        )
    }

    /// Returns the highest entropy, in nats, that the answers could have had if those that could not
    /// be read had said something: every one of them something else.
    pub fn highest_entropy_nats(&self) -> f64 {
        let apart = std::iter::repeat_n(1, self.num_unparsed);
        entropy_of_counts_in_any_order(self.counts.values().copied().chain(apart).collect())
    }

    /// Returns the lowest such entropy, in nats: all of them had joined the most frequent answer.
    pub fn lowest_entropy_nats(&self) -> f64 {
        let mut counts: Vec<usize> = self.counts.values().copied().collect();
        match counts.iter_mut().max() {
            Some(most) => *most += self.num_unparsed,
            None => counts.push(self.num_unparsed),
        }
        entropy_of_counts_in_any_order(counts)
    }

    /// Returns the reliability of an answer: its share, sharpened by the temperature, against those of
    /// all answers that occur.
    ///
    /// # Source
    /// arXiv 2406.19032, section 3.3: `w_a = exp(f_a / T) / sum_b exp(f_b / T)`, T = 0.2.
    pub fn reliability(&self, answer: Option<&str>, temperature: f64) -> f64 {
        if self.count(answer) == 0 {
            return 0.0;
        }
        let shares = self.counts.keys().map(|text| self.share(Some(text)));
        let unread = (self.num_unparsed > 0).then(|| self.share(None));
        let all: Vec<f64> = shares.chain(unread).collect();
        let own = self.share(answer);
        // Every exponent is relative to the answer's own, so none overflows at a small temperature
        // unless the weight is 0 anyway.
        1.0 / all.iter().map(|share| ((share - own) / temperature).exp()).sum::<f64>()
    }
}

/// Entropy of a mean distribution and its two parts, in nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// Entropy of the mean distribution.
    pub total: f64,
    /// Mean entropy of the distributions: what every variant is unsure of by itself (aleatoric).
    pub aleatoric: f64,
    /// The rest, the mutual information of variant and answer: what variants disagree on (epistemic).
    pub epistemic: f64,
}

/// Returns the mean of distributions over the same labels.
///
/// # Shapes
/// Probabilities, variants x labels; at least one variant.
pub fn mean_distribution(probabilities: ArrayView2<'_, f64>) -> Vec<f64> {
    let num = probabilities.nrows() as f64;
    // Not by ndarray's `mean`, which sums eight lanes: variants are added in their order.
    probabilities.columns().into_iter().map(|of| of.iter().sum::<f64>() / num).collect()
}

/// Returns the entropy of the mean of distributions with its split.
///
/// # Shapes
/// As in [`mean_distribution`].
pub fn split(probabilities: ArrayView2<'_, f64>) -> Split {
    let total = entropy(mean_distribution(probabilities));
    let within: f64 = probabilities.rows().into_iter().map(|of| entropy(of.iter().copied())).sum();
    let aleatoric = within / probabilities.nrows().max(1) as f64;
    // Entropy is concave; only rounding could make the difference negative.
    Split { total, aleatoric, epistemic: (total - aleatoric).max(0.0) }
}

#[cfg(test)]
mod tests {
    use ndarray::aview2;

    use super::*;

    /// The check values of METHODS: five answers, weights at T = 0.2 and entropy.
    #[test]
    fn the_check_vectors() {
        for (answers, weights, entropy) in [
            ("aaaaa", vec![("a", 1.000)], 0.0),
            ("aaaab", vec![("a", 0.953), ("b", 0.047)], 0.500),
            ("aaabb", vec![("a", 0.731), ("b", 0.269)], 0.673),
            ("aaabc", vec![("a", 0.787), ("b", 0.107)], 0.950),
            ("aabbc", vec![("a", 0.422), ("b", 0.422), ("c", 0.155)], 1.055),
            ("aabcd", vec![("a", 0.475), ("d", 0.175)], 1.332),
            ("abcde", vec![("a", 0.200), ("e", 0.200)], 1.609),
        ] {
            let texts: Vec<String> = answers.chars().map(String::from).collect();
            let votes = Votes::of(texts.iter().map(|text| Some(text.as_str())));
            assert!((votes.entropy_nats() - entropy).abs() < 5e-4, "{answers}");
            assert_eq!(votes.highest_entropy_nats(), votes.entropy_nats(), "{answers}");
            assert_eq!(votes.lowest_entropy_nats(), votes.entropy_nats(), "{answers}");
            for (answer, weight) in weights {
                let found = votes.reliability(Some(answer), 0.2);
                assert!((found - weight).abs() < 5e-4, "{answers}: {answer} {found}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_answer_of_its_own() {
        let votes = Votes::of([Some("b"), None, Some("a"), None, Some("a")]);
        // 2, 2, 1 as published; 2, 1, 1, 1 at most; 4, 1 at least.
        assert!((votes.entropy_nats() - 1.055).abs() < 5e-4);
        assert!((votes.highest_entropy_nats() - 1.332).abs() < 5e-4);
        assert!((votes.lowest_entropy_nats() - 0.500).abs() < 5e-4);
        assert_eq!((votes.winner(), votes.num_unparsed(), votes.num()), (Some("a"), 2, 5));
        assert!((votes.reliability(Some("a"), 0.2) - 0.422).abs() < 5e-4);
        assert_eq!(votes.reliability(Some("z"), 0.2), 0.0);
        let nothing = Votes::of([None, None]);
        assert_eq!((nothing.winner(), nothing.entropy_nats()), (None, 0.0));
        assert!((nothing.highest_entropy_nats() - 2.0_f64.ln()).abs() < 1e-12);
        // A tie goes to the answer that came first; a cold temperature leaves one answer.
        assert_eq!(Votes::of([Some("b"), Some("a")]).winner(), Some("b"));
        let cold = Votes::of([Some("a"), Some("a"), Some("b")]).reliability(Some("b"), 1e-4);
        assert_eq!(cold, 0.0);
    }

    /// Two opposite, sure variants: nothing within them, ln 2 between them. Two equal, unsure ones:
    /// all of it within. One of each, worked by hand.
    #[test]
    fn entropy_splits_in_two_parts() {
        let ln2 = 2.0_f64.ln();
        let opposite = split(aview2(&[[1.0, 0.0], [0.0, 1.0]]));
        assert_eq!((opposite.total, opposite.aleatoric, opposite.epistemic), (ln2, 0.0, ln2));
        let unsure = split(aview2(&[[0.5, 0.5], [0.5, 0.5]]));
        assert_eq!((unsure.total, unsure.aleatoric, unsure.epistemic), (ln2, ln2, 0.0));
        let mixed = split(aview2(&[[1.0, 0.0], [0.5, 0.5]]));
        // H(3/4) = 2 ln 2 - 3/4 ln 3, half of ln 2 within.
        let total = 2.0 * ln2 - 0.75 * 3.0_f64.ln();
        assert!((mixed.total - total).abs() < 1e-12 && (mixed.aleatoric - ln2 / 2.0).abs() < 1e-12);
        assert!((mixed.epistemic - (total - ln2 / 2.0)).abs() < 1e-12);
    }
}
