//! The route `chat-top-k`: the first tokens of an answer in a chat, among the most likely ones.

use serde_json::{Value, json};

use super::HttpScorer;
use super::request::{Ask, Part, Use};
use super::route::empty_prompt;
use super::way::Way;
use crate::error::Result;
use crate::score::Question;
use crate::server::{Probe, Request, Verdict, chat_parameters, prefill_parameters};

/// Answers of a chat model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chat;

impl Way for Chat {
    fn works(&self, probe: &mut Probe<'_>) -> Result<bool> {
        let works = probe.chat()?;
        if works {
            probe.prefill()?;
        }
        Ok(works)
    }

    fn asks(
        &self,
        scorer: &HttpScorer,
        question: (usize, &Question),
        prompt: &str,
    ) -> Result<Vec<Ask>> {
        if prompt.is_empty() {
            return Err(empty_prompt());
        }
        let prefills = scorer.found.borrow().prefill == Some(Verdict::Yes);
        let (messages, begun) = as_chat(prompt, prefills);
        Ok(vec![ask(scorer, question, prompt, &messages, begun)])
    }
}

/// The request for an answer; `begun` if the last message is its beginning.
pub(super) fn ask(
    scorer: &HttpScorer,
    (index, question): (usize, &Question),
    prompt: &str,
    messages: &Value,
    begun: bool,
) -> Ask {
    let mut more = chat_parameters(scorer.ladder.first(scorer.found.borrow().chat_top_k));
    if begun {
        prefill_parameters(&mut more);
    }
    let mut request = Request::chat(messages, &more);
    request.wanted.words = question.labels.to_vec();
    let uses = (0..question.labels.len()).map(|label| Use { label, part: Part::Word });
    Ask { question: index, prompt: prompt.to_owned(), request, uses: uses.collect() }
}

/// A plain prompt as a chat: a question, and the beginning of the last line of the answer where the
/// server goes on with it.
fn as_chat(prompt: &str, prefills: bool) -> (Value, bool) {
    let whole = prompt.trim_end();
    let (question, begun) = match whole.rsplit_once('\n') {
        Some((question, begun)) if prefills && !question.trim().is_empty() => (question, begun),
        _ => (whole, ""),
    };
    let user = json!({ "role": "user", "content": question });
    if begun.is_empty() {
        return (json!([user]), false);
    }
    (json!([user, { "role": "assistant", "content": begun }]), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_become_chats() {
        let prompt = "Claim: x\nI think this claim is ";
        let (messages, begun) = as_chat(prompt, true);
        assert!(begun);
        assert_eq!(messages[0]["content"], "Claim: x");
        assert_eq!(messages[1]["content"], "I think this claim is");
        let (messages, begun) = as_chat(prompt, false);
        assert_eq!((messages.as_array().unwrap().len(), begun), (1, false));
        assert_eq!(messages[0]["content"], prompt.trim_end());
        assert_eq!(as_chat("one line", true).0[0]["content"], "one line");
    }
}
