//! The rounds of `w2s loop`: what each came to, and when there is to be no other.
//!
//! Nothing here knows of gold. A round is judged by what labels and models say of each other.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One round: a line of `rounds.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// One-based number; the batch that was labelled has the same.
    pub round: usize,
    /// How the batch was labelled: `icm` or `zero-shot`.
    pub method: String,
    /// The adapter that labelled it, a folder in that of the loop; `None`: the model as it was.
    pub labelled_with: Option<String>,
    /// New labels.
    pub num_labelled: usize,
    /// Share of each label among them.
    pub share: Map<String, Value>,
    /// Entropy of these shares over that of equal shares: from 0, all the same, to 1.
    pub class_entropy: f64,
    /// U of the new labels; of a search only.
    pub score: Option<f64>,
    /// New labels that a filter kept.
    pub num_kept: Option<usize>,
    /// Examples the round's model was trained on.
    pub num_trained: Option<usize>,
    /// Mean loss of the first and of the last steps of the training.
    pub loss: Option<[f64; 2]>,
    /// The adapter that was trained, a folder in that of the loop.
    pub adapter: Option<String>,
    /// Labels so far, the new ones among them.
    pub num_labels: Option<usize>,
    /// Share of these that the trained model contradicts.
    pub flip_rate: Option<f64>,
    /// Labels that were exchanged for the model's.
    pub num_flipped: usize,
    /// Examples that were left without a label.
    pub num_dropped: usize,
    /// Share of each label among the model's answers to what was set aside.
    pub held_out_share: Option<Map<String, Value>>,
    /// Share of these answers that were those of the model of the round before.
    pub agreement: Option<f64>,
    /// Tokens run, for scoring and for training.
    pub tokens: u64,
    /// Seconds of work of the round's steps, of each in the session that ended it.
    pub seconds: f64,
    /// Why there is no other round.
    pub alarm: Option<Alarm>,
}

/// A brake that acted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// `class-entropy`, `flip-rate` or `agreement`.
    pub brake: String,
    /// What was measured.
    pub value: f64,
    /// What it may not pass.
    pub limit: f64,
    /// The reason in a sentence.
    pub message: String,
}

/// What the rounds came to: `loop.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoopRecord {
    /// Batches the data was split in.
    pub num_batches: usize,
    /// Examples set aside, which are never learnt from.
    pub num_held_out: usize,
    /// Rounds begun.
    pub num_rounds: usize,
    /// The last round that counts; 0 if not even the first does.
    pub last_good_round: usize,
    /// Why the loop ended before the last batch; `None` if it did not.
    pub stopped: Option<String>,
    /// The last good round's adapter, a folder in that of the loop.
    pub adapter: Option<String>,
    /// Labels in `labels.jsonl`.
    pub num_labels: usize,
    /// Share of each label among them.
    pub share: Map<String, Value>,
    /// Tokens run by all rounds.
    pub tokens: u64,
}

/// When a loop is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Brakes {
    /// The largest share of its labels that a model may contradict.
    pub max_flip_rate: f64,
    /// The least class entropy of new labels.
    pub min_class_entropy: f64,
    /// The least share of the held-out answers that stay what they were.
    pub min_agreement: f64,
}

impl Brakes {
    /// Returns the alarm of a batch's new labels, before a model learns them.
    pub fn of_labels(&self, round: &Round) -> Option<Alarm> {
        let (value, limit) = (round.class_entropy, self.min_class_entropy);
        if value >= limit {
            return None;
        }
        let share = |x: &Value| x.as_f64().unwrap_or(0.0);
        let most = round.share.iter().max_by(|a, b| share(a.1).total_cmp(&share(b.1)));
        let most = most.map_or_else(String::new, |(name, x)| {
            format!(" ({:.0} % are `{name}`)", 100.0 * share(x))
        });
        let message = format!(
            "round {}: the new labels are nearly all the same{most}: their class entropy is {value:.2} of the most there can be, the least is {limit:.2}",
            round.round
        );
        Some(Alarm { brake: "class-entropy".into(), value, limit, message })
    }

    /// Returns the alarm of a round's model, after it answered.
    pub fn of_model(&self, round: &Round) -> Option<Alarm> {
        let percent = |x: f64| format!("{:.0} %", 100.0 * x);
        if let Some(value) = round.flip_rate.filter(|rate| *rate > self.max_flip_rate) {
            let limit = self.max_flip_rate;
            let message = format!(
                "round {}: the model contradicts {} of the labels so far, the most is {}",
                round.round,
                percent(value),
                percent(limit)
            );
            return Some(Alarm { brake: "flip-rate".into(), value, limit, message });
        }
        // The model before the first is the base model asked without demonstrations, which has no
        // labels to be true to.
        let agreement = round.agreement.filter(|_| round.round > 1);
        let value = agreement.filter(|agreement| *agreement < self.min_agreement)?;
        let limit = self.min_agreement;
        let message = format!(
            "round {}: the model gives {} of the held-out examples the label that the model before gave, the least is {}",
            round.round,
            percent(value),
            percent(limit)
        );
        Some(Alarm { brake: "agreement".into(), value, limit, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_brake_acts_beyond_its_limit_only() {
        let brakes = Brakes { max_flip_rate: 0.3, min_class_entropy: 0.5, min_agreement: 0.6 };
        let round = Round {
            round: 2,
            class_entropy: 0.5,
            flip_rate: Some(0.3),
            agreement: Some(0.6),
            ..Round::default()
        };
        assert_eq!((brakes.of_labels(&round), brakes.of_model(&round)), (None, None));
        let brake = |alarm: Option<Alarm>| alarm.map(|alarm| alarm.brake);
        let low = Round { class_entropy: 0.49, ..round.clone() };
        assert_eq!(brake(brakes.of_labels(&low)).as_deref(), Some("class-entropy"));
        let flips = Round { flip_rate: Some(0.31), agreement: Some(0.1), ..round.clone() };
        assert_eq!(brake(brakes.of_model(&flips)).as_deref(), Some("flip-rate"));
        let apart = Round { agreement: Some(0.59), ..round.clone() };
        assert_eq!(brake(brakes.of_model(&apart)).as_deref(), Some("agreement"));
        assert_eq!(brakes.of_model(&Round { round: 1, ..apart }), None);
    }
}
