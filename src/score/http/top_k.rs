//! The route `top-k`: the most likely next tokens after the prompt, if the label is among them. Where
//! it is not, more are asked for, as far as the server gives more.

use serde_json::json;

use super::HttpScorer;
use super::request::{Ask, Part, Use};
use super::route::empty_prompt;
use super::way::Way;
use crate::error::Result;
use crate::score::Question;
use crate::server::{Probe, Request};

/// The most likely next tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopK;

impl Way for TopK {
    fn works(&self, probe: &mut Probe<'_>) -> Result<bool> {
        probe.next_tokens()
    }

    /// One request for each place of which the next token is wanted: one for all labels that are one
    /// token each.
    fn asks(
        &self,
        scorer: &HttpScorer,
        (index, question): (usize, &Question),
        prompt: &str,
    ) -> Result<Vec<Ask>> {
        let found = scorer.found.borrow();
        let top_k = scorer.ladder.first(found.top_k);
        let mut more = json!({ "max_tokens": 1, "temperature": 0, "logprobs": top_k });
        if found.token_ids && scorer.local.is_some() {
            more["return_tokens_as_token_ids"] = true.into();
        }
        let mut asks: Vec<Ask> = Vec::new();
        let mut pieces = match &scorer.local {
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
                    return Err(empty_prompt());
                }
                let at = asks.iter().position(|ask| ask.prompt == before).unwrap_or_else(|| {
                    asks.push(Ask {
                        question: index,
                        request: Request::completion(&before, &more),
                        prompt: before,
                        uses: Vec::new(),
                    });
                    asks.len() - 1
                });
                let wanted = &mut asks[at].request.wanted;
                wanted.ids.extend(id);
                wanted.words.push(text.clone());
                asks[at].uses.push(Use { label, part: Part::Next { text, id } });
            }
        }
        Ok(asks)
    }
}

/// Where nobody knows the tokens: blanks at the prompt's end go with the word, as in nearly all
/// tokenizers, and the word is taken to be one token. If it is not, it will not be found.
fn without_tokenizer(prompt: &str, word: &str) -> (String, String, Option<u32>) {
    let before = prompt.trim_end_matches(' ');
    let blanks = &prompt[before.len()..];
    (before.to_owned(), [blanks, word].concat(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_go_with_the_word() {
        assert_eq!(without_tokenizer("it is ", "True"), ("it is".into(), " True".into(), None));
        assert_eq!(without_tokenizer("Answer:\n", "A"), ("Answer:\n".into(), "A".into(), None));
    }
}
