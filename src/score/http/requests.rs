//! A question as requests to a server.

use serde_json::{Value, json};

use super::HttpScorer;
use super::request::{Ask, Part, Use};
use super::route::Route;
use crate::error::{Error, ErrorKind, Result};
use crate::score::Question;
use crate::server::Verdict;

impl HttpScorer {
    /// The requests that answer a question.
    pub(super) fn asks(&self, index: usize, question: &Question, prompt: &str) -> Result<Vec<Ask>> {
        if let Some(message) = self.messages.borrow().get(prompt) {
            let messages = json!([{ "role": "user", "content": message }]);
            return Ok(vec![self.chat_ask(index, question, prompt, messages, false)]);
        }
        if prompt.is_empty() {
            return Err(Error::new(
                ErrorKind::Data,
                "the prompt is empty, so the label has nothing to follow",
            ));
        }
        match self.route()? {
            Route::Echo => {
                let more =
                    json!({ "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true });
                Ok(ends(index, question, prompt, &more))
            }
            Route::PromptLogprobs => {
                let top = self.found.borrow().prompt_logprobs_top;
                let more = json!({ "max_tokens": 1, "temperature": 0, "prompt_logprobs": top });
                Ok(ends(index, question, prompt, &more))
            }
            Route::TopK => self.next_asks(index, question, prompt),
            Route::Chat => {
                let prefills = self.found.borrow().prefill == Some(Verdict::Yes);
                let (messages, begun) = as_chat(prompt, prefills);
                Ok(vec![self.chat_ask(index, question, prompt, messages, begun)])
            }
        }
    }

    fn chat_ask(
        &self,
        index: usize,
        question: &Question,
        prompt: &str,
        messages: Value,
        begun: bool,
    ) -> Ask {
        let mut more = crate::server::chat_parameters(self.found.borrow().chat_top_k.max(1));
        if begun {
            crate::server::prefill_parameters(&mut more);
        }
        let uses = (0..question.labels.len()).map(|label| Use { label, part: Part::Word });
        Ask {
            question: index,
            prompt: prompt.to_owned(),
            messages: Some(messages),
            more,
            uses: uses.collect(),
        }
    }

    /// One request for each place of which the next token is wanted: one for all labels that are one
    /// token each.
    fn next_asks(&self, index: usize, question: &Question, prompt: &str) -> Result<Vec<Ask>> {
        let found = self.found.borrow();
        let mut more = json!({ "max_tokens": 1, "temperature": 0, "logprobs": found.top_k.max(1) });
        if found.token_ids && self.local.is_some() {
            more["return_tokens_as_token_ids"] = true.into();
        }
        let mut asks: Vec<Ask> = Vec::new();
        let mut pieces = match &self.local {
            Some(local) => local.pieces(prompt, &question.labels)?.into_iter(),
            None => Vec::new().into_iter(),
        };
        for (label, word) in question.labels.iter().enumerate() {
            let places = match pieces.next() {
                Some(pieces) => pieces
                    .into_iter()
                    .map(|piece| (piece.before, piece.text, Some(piece.id)))
                    .collect(),
                None => vec![without_tokenizer(prompt, word)],
            };
            for (before, text, id) in places {
                if before.is_empty() {
                    return Err(Error::new(
                        ErrorKind::Data,
                        "the prompt is empty, so the label has nothing to follow",
                    ));
                }
                let part = Part::Next { text, id };
                match asks.iter_mut().find(|ask| ask.prompt == before) {
                    Some(ask) => ask.uses.push(Use { label, part }),
                    None => asks.push(Ask {
                        question: index,
                        prompt: before,
                        messages: None,
                        more: more.clone(),
                        uses: vec![Use { label, part }],
                    }),
                }
            }
        }
        Ok(asks)
    }
}

/// One request for each label, with the label at the prompt's end.
fn ends(index: usize, question: &Question, prompt: &str, more: &Value) -> Vec<Ask> {
    let ask = |(label, word): (usize, &String)| Ask {
        question: index,
        prompt: [prompt, word].concat(),
        messages: None,
        more: more.clone(),
        uses: vec![Use { label, part: Part::End { num_prompt_bytes: prompt.len() } }],
    };
    question.labels.iter().enumerate().map(ask).collect()
}

/// Where nobody knows the tokens: blanks at the prompt's end go with the word, as in nearly all
/// tokenizers, and the word is taken to be one token. If it is not, it will not be found.
fn without_tokenizer(prompt: &str, word: &str) -> (String, String, Option<u32>) {
    let before = prompt.trim_end_matches(' ');
    let blanks = &prompt[before.len()..];
    (before.to_owned(), [blanks, word].concat(), None)
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

    #[test]
    fn blanks_go_with_the_word() {
        assert_eq!(without_tokenizer("it is ", "True"), ("it is".into(), " True".into(), None));
        assert_eq!(without_tokenizer("Answer:\n", "A"), ("Answer:\n".into(), "A".into(), None));
    }
}
