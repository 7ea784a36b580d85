//! What a labelling is worth, by what it knows of itself without gold.

use serde::Serialize;
use serde_json::Value;

use crate::eval::{Z_95, wilson};
use crate::label::Summary;

/// A label that more than this share of the examples has is a label for all.
const COLLAPSED_SHARE: f64 = 0.95;
/// Fewer examples than this may well have one label.
const LEAST_EXAMPLES: usize = 8;
/// Labels that depend on the order of demonstrations in more than this share are sensitive to it.
const SENSITIVE_SHARE: f64 = 0.1;

/// What labels are worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Nearly all examples have one label.
    Collapsed {
        /// The label.
        label: String,
        /// Its share.
        share: f64,
    },
    /// One label for all examples scores as high.
    OneLabelForAll,
    /// The same labels on other texts score as high.
    AnyLabels,
    /// Under another order of demonstrations the labels agree with these no more than chance would.
    Chance {
        /// Labels that stay.
        num_same: usize,
        /// Of how many.
        num_labels: usize,
    },
    /// Many labels change under another order of demonstrations.
    OrderSensitive {
        /// Labels that change.
        num_changed: usize,
        /// Of how many.
        num_labels: usize,
    },
    /// None of these.
    Stable {
        /// Labels that change under another order of demonstrations.
        num_changed: usize,
        /// Of how many.
        num_labels: usize,
    },
    /// Nothing of the kind was checked: by the method, or as the options of a search ask.
    Unchecked {
        /// Whether it was a search.
        search: bool,
    },
}

impl Verdict {
    /// Returns the verdict on a labelling.
    pub fn of(summary: &Summary) -> Self {
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let num_labelled = summary.num_examples.saturating_sub(summary.num_unlabelled);
        let largest = summary
            .share
            .iter()
            .map(|(label, share)| (label, number(share)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((label, share)) = largest
            && share > COLLAPSED_SHARE
            && num_labelled >= LEAST_EXAMPLES
        {
            return Self::Collapsed { label: label.clone(), share };
        }
        let Some(score) = summary.score else {
            return Self::Unchecked { search: false };
        };
        let least = summary.order_check.map_or(score, |check| check.score.min(score));
        let highest =
            |scores: &mut dyn Iterator<Item = f64>| scores.fold(f64::NEG_INFINITY, f64::max);
        if let Some(constants) = &summary.constant_scores
            && highest(&mut constants.values().map(number)) >= least
        {
            return Self::OneLabelForAll;
        }
        if let Some(permuted) = &summary.permuted_scores
            && highest(&mut permuted.iter().copied()) >= least
        {
            return Self::AnyLabels;
        }
        let Some(check) = &summary.order_check else {
            return Self::Unchecked { search: true };
        };
        let num_labels = check.num_labels;
        let num_changed = (check.share_predicted_otherwise * num_labels as f64).round() as usize;
        let num_same = num_labels - num_changed.min(num_labels);
        let guess = 1.0 / summary.share.len().max(2) as f64;
        if wilson(num_same, num_labels, Z_95).0 <= guess {
            return Self::Chance { num_same, num_labels };
        }
        match check.share_predicted_otherwise > SENSITIVE_SHARE {
            true => Self::OrderSensitive { num_changed, num_labels },
            false => Self::Stable { num_changed, num_labels },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::label::OrderCheck;

    fn summary(shares: [f64; 2], score: f64, changed: f64, num_labels: usize) -> Summary {
        let share: Map<String, Value> =
            [("no".to_owned(), json!(shares[0])), ("yes".to_owned(), json!(shares[1]))]
                .into_iter()
                .collect();
        let check = OrderCheck {
            num_labels,
            score,
            score_change: 0.0,
            mean_margin_change_nats: 0.0,
            share_predicted_otherwise: changed,
        };
        let mut value = json!({ "method": "icm", "num_examples": num_labels, "num_unlabelled": 0,
            "share": share, "score": score, "tokens_computed": 0, "tokens_full_prompts": 0,
            "num_questions": 0 });
        value["constant_scores"] = json!({ "no": -30.0, "yes": -31.0 });
        value["permuted_scores"] = json!([-25.0]);
        value["order_check"] = serde_json::to_value(check).unwrap();
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_first_reason_to_doubt_counts() {
        let of = |shares, score, changed, num| Verdict::of(&summary(shares, score, changed, num));
        let halves = [0.5, 0.5];
        assert_eq!(
            of([0.04, 0.96], -1.0, 0.0, 50),
            Verdict::Collapsed { label: "yes".into(), share: 0.96 }
        );
        assert_eq!(of(halves, -30.0, 0.0, 32), Verdict::OneLabelForAll);
        assert_eq!(of(halves, -25.5, 0.0, 32), Verdict::AnyLabels);
        assert_eq!(
            of(halves, -10.0, 0.0625, 32),
            Verdict::Stable { num_changed: 2, num_labels: 32 }
        );
        assert_eq!(
            of(halves, -10.0, 0.25, 32),
            Verdict::OrderSensitive { num_changed: 8, num_labels: 32 }
        );
        // The 95 % interval of 20 of 32 reaches from 45 to 77 %.
        assert_eq!(of(halves, -10.0, 0.375, 32), Verdict::Chance { num_same: 20, num_labels: 32 });
        let plain = Summary { score: None, ..summary(halves, 0.0, 0.0, 32) };
        assert_eq!(Verdict::of(&plain), Verdict::Unchecked { search: false });
    }
}
