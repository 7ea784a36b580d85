//! The log-probabilities of named tokens after a prompt: exact, whatever is likely, and without the
//! prompt's own, so that a server's prefix cache is read.
//!
//! Each server program has a way of its own. A way counts as had only if its numbers for likely tokens
//! are those that the server gives for the same text among the most likely ones, and if it has a number
//! for an unlikely token too.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kind::Software;
use super::reply::{Reply, TopToken};
use super::request::{Endpoint, Prompt, Request};

/// A way to ask for named tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamedBy {
    /// vLLM's `logprob_token_ids` on `/v1/completions`: all tokens of a place at once.
    LogprobTokenIds,
    /// SGLang's `/generate` with `token_ids_logprob`: all tokens of a place at once.
    Generate,
    /// SGLang's `/v1/score` with `label_token_ids`: all tokens of a place at once.
    Score,
    /// llama.cpp's `grammar` that leaves one way to go on: all tokens of a label at once.
    Grammar,
    /// vLLM's `allowed_token_ids` with one token, whose number is that before the others are ruled out.
    AllowedTokenIds,
    /// `logit_bias` that leaves one token, where its number is that before the bias.
    LogitBias,
}

/// Tokens that one request may name: vLLM takes no more.
pub(crate) const MOST_NAMED: usize = 128;
impl NamedBy {
    /// All ways, those with the fewest requests first.
    pub const ALL: [Self; 6] = [
        Self::LogprobTokenIds,
        Self::Generate,
        Self::Score,
        Self::Grammar,
        Self::AllowedTokenIds,
        Self::LogitBias,
    ];

    /// Returns its name: what is sent.
    pub fn name(self) -> &'static str {
        match self {
            Self::LogprobTokenIds => "logprob_token_ids",
            Self::Generate => "/generate",
            Self::Score => "/v1/score",
            Self::Grammar => "grammar",
            Self::AllowedTokenIds => "allowed_token_ids",
            Self::LogitBias => "logit_bias",
        }
    }

    /// Returns whether one request names several tokens of one place.
    pub fn names_several(self) -> bool {
        matches!(self, Self::LogprobTokenIds | Self::Generate | Self::Score)
    }

    /// Returns whether one request names the tokens of a label one after the other.
    pub fn follows_on(self) -> bool {
        self == Self::Grammar
    }

    /// The ways that a server program may have.
    pub(super) fn of(software: Option<&Software>) -> &'static [Self] {
        let Some(software) = software else { return &Self::ALL };
        if software.is_vllm() {
            &[Self::LogprobTokenIds, Self::AllowedTokenIds, Self::LogitBias]
        } else if software.is_sglang() {
            &[Self::Generate, Self::Score]
        } else if software.is_llama_cpp() {
            &[Self::Grammar, Self::LogitBias]
        } else {
            &Self::ALL
        }
    }

    /// The request for tokens behind a prompt: for several of one place, for several that follow each
    /// other, or for one, as the way has it.
    pub(crate) fn request(self, prompt: &[u32], ids: &[u32]) -> Request {
        let first = ids.first().copied().unwrap_or_default();
        let next = json!({ "max_tokens": 1, "temperature": 0, "logprobs": 1,
            "return_tokens_as_token_ids": true });
        let with = |name: &str, value: Value| {
            let mut more = next.clone();
            more[name] = value;
            Request::tokens(prompt, &more)
        };
        let at = |endpoint: Endpoint, more: Value| {
            Request::new(endpoint, Prompt::Ids(prompt.to_vec()), &more)
        };
        let mut request = match self {
            Self::LogprobTokenIds => with("logprob_token_ids", json!(ids)),
            Self::AllowedTokenIds => with("allowed_token_ids", json!([first])),
            Self::LogitBias => with("logit_bias", json!({ first.to_string(): 100 })),
            Self::Grammar => {
                let tokens: Vec<String> = ids.iter().map(|id| format!("<[{id}]>")).collect();
                let more = json!({ "max_tokens": ids.len(), "temperature": 0, "logprobs": 1,
                    "grammar": format!("root ::= {}", tokens.join(" ")) });
                Request::tokens(prompt, &more)
            }
            Self::Generate => at(
                Endpoint::Generate,
                json!({ "sampling_params": { "max_new_tokens": 1, "temperature": 0 },
                    "return_logprob": true, "logprob_start_len": -1, "token_ids_logprob": ids }),
            ),
            Self::Score => {
                at(Endpoint::Score, json!({ "label_token_ids": ids, "apply_softmax": false }))
            }
        };
        request.wanted.ids = ids.to_vec();
        request
    }

    /// The log-probability of a token that was named, at a place of the answer.
    pub(crate) fn find(self, reply: &Reply, at: usize, id: u32) -> Option<f64> {
        let token = reply.written.get(at)?;
        let own = match token.id {
            Some(own) => own == id,
            // Where there is but one that it can be.
            None => !self.names_several() && !token.text.is_empty(),
        };
        let is_it = |top: &&TopToken| top.id == Some(id);
        token
            .logprob
            .filter(|_| own)
            .or_else(|| token.top.iter().find(is_it).map(|top| top.logprob))
    }
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_says_what_it_names() {
        let body = |way: NamedBy, ids: &[u32]| way.request(&[1, 2, 3], ids).body("m");
        let body_of = body(NamedBy::LogprobTokenIds, &[7, 8]);
        assert_eq!(
            (&body_of["prompt"], &body_of["logprob_token_ids"]),
            (&json!([1, 2, 3]), &json!([7, 8]))
        );
        assert_eq!(body(NamedBy::Grammar, &[7, 8])["grammar"], "root ::= <[7]> <[8]>");
        assert_eq!(body(NamedBy::Grammar, &[7, 8])["max_tokens"], 2);
        assert_eq!(body(NamedBy::LogitBias, &[7])["logit_bias"], json!({ "7": 100 }));
        assert_eq!(body(NamedBy::AllowedTokenIds, &[7])["allowed_token_ids"], json!([7]));
        let body_of = body(NamedBy::Generate, &[7]);
        assert_eq!(
            (&body_of["input_ids"], &body_of["token_ids_logprob"]),
            (&json!([1, 2, 3]), &json!([7]))
        );
        let body_of = body(NamedBy::Score, &[7]);
        assert_eq!((&body_of["query"], &body_of["items"]), (&json!([1, 2]), &json!([[3]])));
    }
}
