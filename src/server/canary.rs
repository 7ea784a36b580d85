//! Whether a name still stands for the model whose answers were kept.
//!
//! A server says little of what is behind a name: an adapter that was trained again under the same one
//! looks the same. So every run asks once, past all that is kept, for the next tokens of one fixed text.
//! Numbers like those that came with the answers are the same model's; others begin a new *epoch*, and
//! an epoch's answers are used in it alone.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::reply::{Reply, TopToken};

/// The text: some thirty tokens, of the kind that is asked about.
pub(super) const TEXT: &str = "Question: Does the moon give light of its own?\nClaim: No, it reflects the light of the sun.\nI think that this claim is most likely";
/// Next tokens to ask for, until the server agrees.
pub(super) const COUNTS: [usize; 3] = [20, 5, 1];
/// Tokens of which most is said: those less likely than this are not compared, in nats.
const LEAST: f64 = -9.0;
/// How far one token's number may move, in nats. Of one model in half precision they differ with what
/// else the server computes: its logits have steps of 1/8 where they are above 16.
const MOST: f64 = 0.4;
/// How far they may move on average.
const MOST_MEAN: f64 = 0.1;

/// The next tokens of the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Canary {
    /// How many were asked for.
    pub(super) top_k: usize,
    /// Whether it was put to the chat endpoint.
    pub(super) by_chat: bool,
    /// The tokens, the likeliest first.
    pub(super) top: Vec<TopToken>,
}

/// A model that stood behind a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Epoch {
    /// Part of the keys of its answers.
    pub(super) name: String,
    pub(super) canary: Canary,
}

impl Canary {
    /// The canary of a reply; `None` if no log-probabilities are in it.
    pub(super) fn new(reply: &Reply, top_k: usize, by_chat: bool) -> Option<Self> {
        let token = reply.written.first()?;
        let mut top = token.top.clone();
        if top.is_empty() {
            let (text, id) = (token.text.clone(), token.id);
            top.push(TopToken { text, id, logprob: token.logprob? });
        }
        top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob).then_with(|| a.text.cmp(&b.text)));
        top.truncate(COUNTS[0]);
        Some(Self { top_k, by_chat, top })
    }

    /// A name for the model that gave it.
    pub(super) fn name(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What moved beyond what one model's numbers do, in words; `None` if nothing did.
    pub(super) fn moved(&self, now: &Self) -> Option<String> {
        if self.by_chat != now.by_chat {
            return Some("it answers by another endpoint".to_owned());
        }
        let least = |canary: &Self| {
            let last = canary.top.last().map_or(0.0, |top| top.logprob);
            last.max(LEAST)
        };
        // Below what one of both tells, nothing can be compared.
        let floor = least(self).max(least(now));
        let mut worst = (0.0, String::new());
        let (mut sum, mut num) = (0.0, 0.0);
        for (these, those) in [(self, now), (now, self)] {
            for top in these.top.iter().filter(|top| top.logprob >= floor) {
                let twin = those.top.iter().find(|other| match (top.id, other.id) {
                    (Some(a), Some(b)) => a == b,
                    _ => top.text == other.text,
                });
                // One that is not told of is at most the least that is.
                let other = twin.map_or(floor, |twin| twin.logprob.max(floor));
                let gap = (top.logprob - other).abs();
                sum += gap;
                num += 1.0;
                if gap > worst.0 {
                    let (was, is) = match std::ptr::eq(these, self) {
                        true => (top.logprob, other),
                        false => (other, top.logprob),
                    };
                    worst = (
                        gap,
                        format!(
                            "after a fixed text `{}` had {was:.2} nats and has {is:.2}",
                            top.text.escape_debug()
                        ),
                    );
                }
            }
        }
        let is_same = worst.0 <= MOST && sum <= MOST_MEAN * f64::max(num, 1.0);
        (!is_same).then_some(worst.1)
    }
}

/// The model behind a name, now.
#[derive(Clone, Debug)]
pub(super) struct Now {
    /// Part of the keys of its answers.
    pub(super) epoch: String,
    /// Why those that were kept before are not used.
    pub(super) change: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(top: &[(&str, f64)]) -> Canary {
        let top =
            top.iter().map(|&(text, logprob)| TopToken { text: text.into(), id: None, logprob });
        Canary { top_k: 20, by_chat: false, top: top.collect() }
    }

    #[test]
    fn noise_is_no_other_model() {
        let then = canary(&[(" true", -0.5), (" a", -1.5), (" false", -2.5), (" the", -3.0)]);
        for (now, is_same) in [
            (vec![(" true", -0.5), (" a", -1.5), (" false", -2.5), (" the", -3.0)], true),
            // A step of half precision, and an order that it turns.
            (vec![(" true", -0.55), (" a", -1.45), (" the", -2.85), (" false", -2.62)], true),
            // The last of a list may be another.
            (vec![(" true", -0.5), (" a", -1.5), (" false", -2.5), (" not", -2.95)], true),
            // One token moves far; all move by more than noise.
            (vec![(" true", -0.5), (" a", -1.5), (" false", -1.9), (" the", -3.0)], false),
            (vec![(" true", -0.65), (" a", -1.35), (" false", -2.35), (" the", -2.85)], false),
            (vec![(" x", -0.5), (" y", -1.5), (" z", -2.5), (" w", -3.0)], false),
            (vec![(" true", -0.5)], true),
            (vec![(" true", -1.5)], false),
        ] {
            let now = canary(&now);
            assert_eq!(then.moved(&now).is_none(), is_same, "{now:?}");
            assert_eq!(now.moved(&then).is_none(), is_same, "{now:?}");
        }
        let other = canary(&[(" true", -0.5), (" a", -1.5), (" false", -1.0), (" the", -3.0)]);
        assert_eq!(
            then.moved(&other).unwrap(),
            "after a fixed text ` false` had -2.50 nats and has -1.00"
        );
    }
}
