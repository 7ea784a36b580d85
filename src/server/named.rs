//! The log-probabilities of named tokens after a prompt: exact, whatever is likely, and without the
//! prompt's own, so that a server's prefix cache is read.
//!
//! Each server program has a way of its own. A way counts as had only if its numbers for likely tokens
//! are those that the server gives for the same text among the most likely ones, and if it has a number
//! for an unlikely token too.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::canary;
use super::kind::Software;
use super::probe::{Probe, TOLERANCE, Verdict, is_plain};
use super::reply::{Reply, TopToken};
use super::request::{Endpoint, Prompt, Request};
use crate::error::Result;

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
/// Likely tokens by which a way is tried.
const LIKELY: usize = 4;
/// A word that does not go on with the text of the trial.
const RARE: &str = " zebra";

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
    fn of(software: Option<&Software>) -> &'static [Self] {
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

/// A token that goes on with the text of the trial.
struct Candidate {
    id: u32,
    text: String,
    logprob: f64,
}

impl Probe<'_> {
    /// Tries the log-probabilities of named tokens.
    ///
    /// # Errors
    /// As [`Probe::next_tokens`].
    pub fn named(&mut self) -> Result<bool> {
        if let Some(verdict) = &self.found.named {
            return Ok(verdict.is_yes());
        }
        let verdict = self.try_named()?;
        let is_yes = verdict.is_yes();
        self.found.named = Some(verdict);
        self.keep()?;
        Ok(is_yes)
    }

    fn try_named(&mut self) -> Result<Verdict> {
        let software = self.service.software();
        if software.is_some_and(Software::is_hosted) {
            return Ok(Verdict::no("the service has no parameter for it"));
        }
        let ways = NamedBy::of(software);
        let text = canary::TEXT;
        let Some(ids) = self.tokens(text)? else {
            return Ok(Verdict::no(
                "the server does not tell the tokens of a text (`/tokenize`); `--tokenizer FILE` does",
            ));
        };
        let next = match self.top(text, false)? {
            Ok((reply, _)) => reply,
            Err(why) => return Ok(Verdict::No(why)),
        };
        if let Some(theirs) = next.tokens_in.filter(|num| *num as usize != ids.len()) {
            let ours = ids.len();
            return Ok(Verdict::no(format!(
                "the server has {theirs} tokens where {ours} were cut; is the tokenizer that of the served model?"
            )));
        }
        let Some(token) = next.written.first().filter(|token| !token.top.is_empty()) else {
            return Ok(Verdict::no("it answers without log-probabilities"));
        };
        let mut likely: Vec<Candidate> = Vec::new();
        for top in token.top.iter().filter(|top| is_plain(&top.text)) {
            if likely.len() == LIKELY {
                break;
            }
            let joint = self.tokens(&[text, &top.text].concat())?.unwrap_or_default();
            if joint.len() != ids.len() + 1 || !joint.starts_with(&ids) {
                continue;
            }
            let id = joint[ids.len()];
            if top.id.is_some_and(|theirs| theirs != id) {
                return Ok(Verdict::no(format!(
                    "the tokenizer has another number for `{}` than the server",
                    top.text.escape_debug()
                )));
            }
            likely.push(Candidate { id, text: top.text.clone(), logprob: top.logprob });
        }
        if likely.is_empty() {
            return Ok(Verdict::no("it writes nothing after a text that could be compared"));
        }
        let joint = self.tokens(&[text, RARE].concat())?.unwrap_or_default();
        let rare = joint.get(ids.len()).copied().filter(|_| joint.starts_with(&ids));
        let rare = rare.filter(|rare| likely.iter().all(|token| token.id != *rare));
        let mut whys: Vec<String> = Vec::new();
        for &way in ways {
            match self.try_way(way, &ids, &likely, rare)? {
                Ok(()) => {
                    self.found.named_by = Some(way);
                    return Ok(Verdict::Yes);
                }
                Err(why) => whys.push(format!("{way}: {why}")),
            }
        }
        Ok(Verdict::No(whys.join("; ")))
    }

    fn try_way(
        &self,
        way: NamedBy,
        prompt: &[u32],
        likely: &[Candidate],
        rare: Option<u32>,
    ) -> Result<Result<(), String>> {
        // Of those that are forced the least likely: not simply what would be written anyway.
        let last = &likely[likely.len() - 1..];
        let tokens = if way.names_several() { likely } else { last };
        let mut all: Vec<(Option<&Candidate>, u32)> =
            tokens.iter().map(|token| (Some(token), token.id)).collect();
        all.extend(rare.map(|id| (None, id)));
        let groups = match way.names_several() || way.follows_on() {
            true => vec![all],
            false => all.into_iter().map(|one| vec![one]).collect(),
        };
        for group in groups {
            let ids: Vec<u32> = group.iter().map(|(_, id)| *id).collect();
            let reply = match self.service.ask(&way.request(prompt, &ids), false)? {
                Ok(reply) => reply,
                Err(answer) => return Ok(Err(self.why(&answer)?)),
            };
            for (at, (token, id)) in group.into_iter().enumerate() {
                let at = if way.follows_on() { at } else { 0 };
                let Some(logprob) = way.find(&reply, at, id) else {
                    return Ok(Err("it has no number for a token that was named".to_owned()));
                };
                if let Some(token) = token
                    && (logprob - token.logprob).abs() > TOLERANCE
                {
                    return Ok(Err(format!(
                        "its numbers are wrong: `{}` has {:.2} nats among the most likely tokens, and {logprob:.2} by its number",
                        token.text.escape_debug(),
                        token.logprob
                    )));
                }
            }
        }
        Ok(Ok(()))
    }

    /// The tokens of a prompt, the special ones before it included: those of the local tokenizer, or
    /// by the server's word.
    fn tokens(&self, text: &str) -> Result<Option<Vec<u32>>> {
        match self.tokenizer {
            Some(tokenizer) => {
                let tokens = tokenizer.encode(text)?;
                Ok(Some([tokenizer.prefix(), &tokens.ids].concat()))
            }
            None => Ok(self.service.tokenize(text, true)),
        }
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
