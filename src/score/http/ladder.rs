//! How many of the most likely tokens are asked for: more, as far as the server gives more, while a label
//! is not among them.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::place::{found_in, next_token};
use super::request::{Ask, Part, Use};
use crate::error::Result;
use crate::score::Question;
use crate::server::{Reply, Service};

/// How many of the most likely tokens are asked for: more, where a label was not among them.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    /// How many are asked for first; 0: as many as the options say.
    first: AtomicUsize,
    /// The least number that the server refuses; 0: none is known.
    refused: AtomicUsize,
    /// The most that came.
    given: AtomicUsize,
}

/// By what the number grows.
const STEP: usize = 32;
/// No vocabulary has more tokens.
const MOST: usize = 1 << 20;

impl Ladder {
    /// How many to ask for first, where the options and the server agree on `top_k`.
    pub(super) fn first(&self, top_k: usize) -> usize {
        self.first.load(Ordering::Relaxed).max(top_k).max(1)
    }

    /// The most that came so far.
    pub(super) fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    /// Returns the reply to a request, to one for more tokens while a label is not among them, and how
    /// many were asked for in the end.
    pub(super) fn climb(
        &self,
        service: &Service,
        ask: &Ask,
        question: &Question,
    ) -> Result<(Reply, usize)> {
        let name = match ask.request.more.get("top_logprobs") {
            Some(_) => "top_logprobs",
            None => "logprobs",
        };
        let mut request = ask.request.clone();
        let mut reply = service.answer(&request)?;
        let mut top_k = request.more.get(name).and_then(Value::as_u64).unwrap_or(0) as usize;
        while let Some(token) = next_token(&reply) {
            let num = token.whole.as_ref().map_or(token.top.len(), |whole| whole.num);
            self.given.fetch_max(num, Ordering::Relaxed);
            // What is not looked for among the most likely tokens is there.
            let is_there = |used: &Use| match used.part {
                Part::Next { .. } | Part::Word => found_in(token, question, used).is_some(),
                Part::End { .. } | Part::Named { .. } => true,
            };
            // Fewer than were asked for: there are no more.
            if num < top_k || ask.uses.iter().all(is_there) {
                break;
            }
            let refused = self.refused.load(Ordering::Relaxed);
            let mut next = (top_k * STEP).min(MOST);
            if refused > 0 {
                next = next.min(refused - 1);
            }
            if next <= top_k {
                break;
            }
            request.more[name] = next.into();
            match service.ask(&request, true)? {
                Ok(more) => (reply, top_k) = (more, next),
                // vLLM: no more than `--max-logprobs`; OpenAI: no more than 20 of a chat.
                Err(answer) if matches!(answer.status, 400 | 422) && !answer.is_too_long() => {
                    let least = 1 + limit_in(&answer.message(), top_k, next).unwrap_or(next - 1);
                    let _ =
                        self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| {
                            Some(if known == 0 { least } else { known.min(least) })
                        });
                    if least == next {
                        break;
                    }
                }
                Err(answer) => return Err(service.refused(&answer)),
            }
        }
        Ok((reply, top_k))
    }

    /// Begins higher from now on, where most questions went so far: by what all of a call took, so that
    /// the same calls ask the same.
    pub(super) fn learn(&self, mut took: Vec<usize>) {
        took.sort_unstable();
        if let Some(&half) = took.get(took.len() / 2) {
            self.first.fetch_max(half, Ordering::Relaxed);
        }
    }
}

/// The most that a refusal speaks of, between what was given and what was refused.
fn limit_in(message: &str, given: usize, refused: usize) -> Option<usize> {
    let numbers = message.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    numbers.filter(|&n: &usize| given < n && n < refused).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_tell_their_limit() {
        let vllm = "Requested sample logprobs of 640, which is greater than max allowed: 100";
        assert_eq!(limit_in(vllm, 20, 640), Some(100));
        assert_eq!(
            limit_in(
                "Invalid value for 'top_logprobs': must be less than or equal to 20.",
                20,
                640
            ),
            None
        );
        assert_eq!(limit_in("logprobs is too large", 20, 640), None);
    }
}
