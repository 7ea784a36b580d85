//! The routes `echo` and `prompt-logprobs`: a prompt that ends in the label comes back with the
//! log-probabilities of its tokens. Servers compute such a prompt without their prefix cache.

use serde_json::{Value, json};

use super::HttpScorer;
use super::request::{Ask, Part, Use};
use super::way::Way;
use crate::error::Result;
use crate::score::Question;
use crate::server::{Probe, Request};

/// OpenAI's `echo`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo;

/// vLLM's `prompt_logprobs`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PromptLogprobs;

impl Way for Echo {
    fn works(&self, probe: &mut Probe<'_>) -> Result<bool> {
        probe.echo()
    }

    fn asks(&self, _: &HttpScorer, question: (usize, &Question), prompt: &str) -> Result<Vec<Ask>> {
        let more = json!({ "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true });
        Ok(ends(question, prompt, &more))
    }
}

impl Way for PromptLogprobs {
    fn works(&self, probe: &mut Probe<'_>) -> Result<bool> {
        probe.prompt_logprobs()
    }

    fn asks(
        &self,
        scorer: &HttpScorer,
        question: (usize, &Question),
        prompt: &str,
    ) -> Result<Vec<Ask>> {
        let top = scorer.found.borrow().prompt_logprobs_top;
        let more = json!({ "max_tokens": 1, "temperature": 0, "prompt_logprobs": top });
        Ok(ends(question, prompt, &more))
    }
}

/// One request for each label, with the label at the prompt's end.
fn ends((index, question): (usize, &Question), prompt: &str, more: &Value) -> Vec<Ask> {
    let ask = |(label, word): (usize, &String)| {
        let text = [prompt, word].concat();
        Ask {
            question: index,
            request: Request::completion(&text, more),
            prompt: text,
            uses: vec![Use { label, part: Part::End { num_prompt_bytes: prompt.len() } }],
        }
    };
    question.labels.iter().enumerate().map(ask).collect()
}
