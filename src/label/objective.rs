//! The score that the search maximises.

use serde::Serialize;

use crate::score::log_odds;

/// The form of mutual predictability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// log p(y_i | x_i, the others): the paper.
    #[default]
    Logprob,
    /// The log-odds of y_i: the authors' code.
    LogOdds,
    /// log p(y_i | x_i, those before it in a random order), averaged over a few orders: ours.
    Prequential,
}

/// How mutual predictability is put together from the examples' shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// The mean, so that alpha means the same for every number of examples.
    #[default]
    Mean,
    /// The sum, as the paper's formula is written.
    Sum,
}

/// The score's form and weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScoreForm {
    /// The form of mutual predictability.
    pub objective: Objective,
    /// Mean or sum.
    pub aggregate: Aggregate,
    /// What mutual predictability is multiplied by: the price of one inconsistent pair, in units of
    /// 1 / alpha nats.
    pub alpha: f64,
}

impl Default for ScoreForm {
    fn default() -> Self {
        Self { objective: Objective::Logprob, aggregate: Aggregate::Mean, alpha: 50.0 }
    }
}

/// A labelling's score and its parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// U(D) = alpha * P(D) - I(D).
    pub total: f64,
    /// P(D), in nats (per example if a mean).
    pub mutual_predictability: f64,
    /// I(D), violated pairs.
    pub inconsistency: usize,
}

impl ScoreForm {
    /// Returns the alpha under which one inconsistent pair weighs as much as `nats` nats of mutual
    /// predictability, summed over `num_labelled` examples: n / nats for the mean, 1 / nats for the
    /// sum.
    pub fn alpha_of_nats(&self, nats: f64, num_labelled: usize) -> f64 {
        match self.aggregate {
            Aggregate::Mean => num_labelled as f64 / nats,
            Aggregate::Sum => nats.recip(),
        }
    }

    /// Returns a score's U under this alpha, its P and I as they are.
    pub fn again(&self, score: Score) -> Score {
        let total = self.alpha * score.mutual_predictability - score.inconsistency as f64;
        Score { total, ..score }
    }

    /// Returns the score of labelled examples, each given by its log distribution (leave-one-out, or
    /// the mean over the orders of prequential ones) and
    /// its label, with `inconsistency` violated pairs. An empty labelling has P = 0.
    ///
    /// # Source
    /// Wen et al. 2025, equations 1 and 3; log-odds form as in the authors' code, which for more
    /// than two labels becomes ln(p / (1 - p)).
    pub fn score<'a>(
        &self,
        labelled: impl IntoIterator<Item = (&'a [f64], usize)>,
        inconsistency: usize,
    ) -> Score {
        let (mut sum, mut num) = (0.0, 0_usize);
        for (logprobs, label) in labelled {
            num += 1;
            sum += match self.objective {
                Objective::Logprob | Objective::Prequential => logprobs[label],
                Objective::LogOdds => log_odds(logprobs, label),
            };
        }
        let mutual_predictability = match self.aggregate {
            Aggregate::Mean => sum / num.max(1) as f64,
            Aggregate::Sum => sum,
        };
        self.again(Score { total: 0.0, mutual_predictability, inconsistency })
    }
}

/// Returns whether a change of the score by `delta` is accepted at `temperature`, given a uniform
/// draw from (0, 1]. Compared in log space: `exp(delta / temperature)` could overflow.
pub fn accepts(delta: f64, temperature: f64, uniform: f64) -> bool {
    delta > 0.0 || uniform.ln() < delta / temperature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_by_hand() {
        let rows = [[0.9_f64.ln(), 0.1_f64.ln()], [0.25_f64.ln(), 0.75_f64.ln()]];
        let labelled = || [(rows[0].as_slice(), 0), (rows[1].as_slice(), 0)];
        let form = ScoreForm::default();
        let score = form.score(labelled(), 3);
        // mean(ln .9, ln .25) = mean(-.105361, -1.386294)
        assert!((score.mutual_predictability + 0.745_827_4).abs() < 1e-6);
        assert!((score.total - (50.0 * -0.745_827_4 - 3.0)).abs() < 1e-4);
        let odds = ScoreForm { objective: Objective::LogOdds, ..form }.score(labelled(), 0);
        // mean(ln 9, ln 1/3)
        assert!((odds.mutual_predictability - 0.549_306_1).abs() < 1e-6);
        let sum = ScoreForm { aggregate: Aggregate::Sum, ..form }.score(labelled(), 0);
        assert!((sum.mutual_predictability + 1.491_654_9).abs() < 1e-6);
        assert_eq!(form.score([], 2).total, -2.0);
    }

    #[test]
    fn one_inconsistent_pair_is_worth_the_nats_asked_for() {
        // The paper's alpha of 50 at its batches of 256: 5.12 nats of the sum.
        let mean = ScoreForm::default();
        assert!((mean.alpha_of_nats(5.12, 256) - 50.0).abs() < 1e-12);
        let sum = ScoreForm { aggregate: Aggregate::Sum, ..mean };
        assert!((sum.alpha_of_nats(4.0, 256) - 0.25).abs() < 1e-12);
        // Four examples of ln 1/2 against the same with one more pair violated and 3 nats better.
        for form in [mean, sum] {
            let form = ScoreForm { alpha: form.alpha_of_nats(3.0, 4), ..form };
            let row = |x: f64| [x, -1.0];
            let (a, b) = ([row(-2.0); 4], [row(-1.25); 4]);
            let score = |rows: &[[f64; 2]], pairs| {
                form.score(rows.iter().map(|row| (row.as_slice(), 0)), pairs).total
            };
            assert!((score(&a, 0) - score(&b, 1)).abs() < 1e-12, "{form:?}");
        }
    }

    #[test]
    fn acceptance_follows_metropolis_and_never_overflows() {
        assert!(accepts(1e-9, 0.01, 1.0));
        assert!(!accepts(0.0, 1.0, 1.0), "no change needs luck");
        // exp(-1) = .3679
        assert!(accepts(-1.0, 1.0, 0.3678) && !accepts(-1.0, 1.0, 0.3680));
        assert!(accepts(1e300, 1e-300, 1.0));
        assert!(!accepts(-1e300, 1e-300, f64::MIN_POSITIVE));
    }
}
