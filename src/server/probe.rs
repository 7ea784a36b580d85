//! Finding out in which ways a server gives log-probabilities, and whether they are right.
//!
//! Servers say little about this and some answer wrongly: llama-cpp-python's echo is off by one token
//! for models without a begin token. So every way is tried on a short text, and its number held
//! against that of the next token, which all servers get right.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::Answer;
use super::canary;
use super::named::NamedBy;
use super::reply::{Reply, ReplyToken};
use super::request::{Request, chat_parameters, prefill_parameters};
use super::service::Service;
use crate::error::Result;
use crate::lm::Tokenizer;

/// Whether a server can do a thing, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It can.
    Yes,
    /// It cannot; what it answered.
    No(String),
}

impl Verdict {
    /// Returns whether it is yes.
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }

    pub(super) fn no(why: impl Into<String>) -> Self {
        Self::No(why.into())
    }
}

/// What a server can do. What was not tried is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Abilities {
    /// Log-probabilities of named tokens.
    #[serde(default)]
    pub named: Option<Verdict>,
    /// The way to these.
    #[serde(default)]
    pub named_by: Option<NamedBy>,
    /// Log-probabilities of the most likely next tokens.
    pub next_tokens: Option<Verdict>,
    /// How many of them it can be asked for, up to what is wanted.
    pub top_k: usize,
    /// How many of them it gives then; some servers give fewer than they are asked for.
    pub top_k_given: usize,
    /// Whether it says the numbers of tokens.
    pub token_ids: bool,
    /// Log-probabilities of a prompt that comes back.
    pub echo: Option<Verdict>,
    /// vLLM's log-probabilities of prompts.
    pub prompt_logprobs: Option<Verdict>,
    /// How many likely tokens it wants to give with these.
    pub prompt_logprobs_top: u64,
    /// Log-probabilities of the next tokens of a chat.
    pub chat: Option<Verdict>,
    /// How many of them it can be asked for.
    pub chat_top_k: usize,
    /// How many of them it gives then.
    pub chat_top_k_given: usize,
    /// Whether an answer can be begun for the model.
    pub prefill: Option<Verdict>,
}

/// The text of the probe: every model goes on with a number.
const TEXT: &str = "1, 2, 3, 4, 5, 6, 7,";
/// How far two numbers of one thing may lie apart, in nats. In half precision they differ with the
/// batch; those of another token or place differ by nats.
pub(super) const TOLERANCE: f64 = 0.15;
/// Tokens that a chat writes to show whether it goes on with what was begun.
const PREFILL_TOKENS: u32 = 4;
/// Tokens of the top that are tried.
const CANDIDATES: usize = 5;

/// Tries what a server can do.
#[derive(Debug)]
pub struct Probe<'a> {
    pub(super) service: &'a Service,
    /// Most next tokens to ask for.
    top_k: usize,
    /// The model's tokenizer, if there is one here.
    pub(super) tokenizer: Option<&'a Tokenizer>,
    pub(super) found: Abilities,
}

impl<'a> Probe<'a> {
    /// Returns a probe that asks for up to `top_k` next tokens, and for the numbers of tokens where
    /// there is a tokenizer to use them with.
    pub fn new(service: &'a Service, top_k: usize, tokenizer: Option<&'a Tokenizer>) -> Self {
        Self { service, top_k, tokenizer, found: Abilities::default() }
    }

    /// Goes on from what was found within a day.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recall(mut self) -> Result<Self> {
        if let Some(found) = self.service.remembered(&self.what()?)? {
            self.found = found;
        }
        Ok(self)
    }

    /// Returns what was found.
    pub fn found(&self) -> &Abilities {
        &self.found
    }

    /// What is found depends on the tokenizer: it may be that of another model.
    fn what(&self) -> Result<Value> {
        let ids = self.tokenizer.map(|tokenizer| tokenizer.encode(canary::TEXT)).transpose()?;
        let ids = ids.map(|tokens| tokens.ids);
        let prefix = self.tokenizer.map(Tokenizer::prefix);
        Ok(json!(["routes 2", self.top_k, prefix, ids]))
    }

    pub(super) fn keep(&self) -> Result<()> {
        self.service.remember(&self.what()?, &self.found)
    }

    /// Tries the next tokens of a text.
    ///
    /// # Errors
    /// When the server cannot be reached or wants another key.
    pub fn next_tokens(&mut self) -> Result<bool> {
        if let Some(verdict) = &self.found.next_tokens {
            return Ok(verdict.is_yes());
        }
        let verdict = match self.top(TEXT, self.tokenizer.is_some())? {
            Ok((reply, asked)) => match reply.written.first() {
                Some(token) if !token.top.is_empty() => {
                    self.found.top_k = asked;
                    self.found.top_k_given = token.top.len().min(asked);
                    self.found.token_ids = token.top.iter().all(|top| top.id.is_some());
                    Verdict::Yes
                }
                _ => Verdict::no("it answers without log-probabilities"),
            },
            Err(why) => Verdict::No(why),
        };
        let is_yes = verdict.is_yes();
        self.found.next_tokens = Some(verdict);
        self.keep()?;
        Ok(is_yes)
    }

    /// The next tokens of a text, as many as the server gives, by their numbers if it can.
    pub(super) fn top(&self, text: &str, by_id: bool) -> Result<Result<(Reply, usize), String>> {
        let mut why = String::new();
        for ids in [true, false] {
            if ids && !by_id {
                continue;
            }
            for top_k in counts(self.top_k) {
                let mut more = json!({ "max_tokens": 1, "temperature": 0, "logprobs": top_k });
                if ids {
                    more["return_tokens_as_token_ids"] = true.into();
                }
                match self.service.ask(&Request::completion(text, &more), false)? {
                    Ok(reply) => return Ok(Ok((reply, top_k))),
                    Err(answer) => why = self.why(&answer)?,
                }
                if why.starts_with("404") {
                    return Ok(Err(why));
                }
            }
        }
        Ok(Err(why))
    }

    /// What a refusal says; a wrong key is an error of its own.
    pub(super) fn why(&self, answer: &Answer) -> Result<String> {
        match answer.status {
            401 | 403 => Err(self.service.refused(answer)),
            status if answer.fault.is_some() => {
                Ok(format!("{status}: {}", answer.fault.as_deref().unwrap_or_default()))
            }
            status => Ok(format!("{status}: {}", answer.message())),
        }
    }

    /// Tries a prompt that comes back.
    ///
    /// # Errors
    /// As [`Probe::next_tokens`].
    pub fn echo(&mut self) -> Result<bool> {
        if let Some(verdict) = &self.found.echo {
            return Ok(verdict.is_yes());
        }
        let more = json!({ "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": true });
        let verdict = self.compare(&more)?;
        let is_yes = verdict.is_yes();
        self.found.echo = Some(verdict);
        self.keep()?;
        Ok(is_yes)
    }

    /// Tries vLLM's log-probabilities of prompts.
    ///
    /// # Errors
    /// As [`Probe::next_tokens`].
    pub fn prompt_logprobs(&mut self) -> Result<bool> {
        if let Some(verdict) = &self.found.prompt_logprobs {
            return Ok(verdict.is_yes());
        }
        let mut verdict = Verdict::no("it was not tried");
        for top in [0_u64, 1] {
            let more = json!({ "max_tokens": 1, "temperature": 0, "prompt_logprobs": top });
            verdict = self.compare(&more)?;
            self.found.prompt_logprobs_top = top;
            if verdict.is_yes() {
                break;
            }
        }
        let is_yes = verdict.is_yes();
        self.found.prompt_logprobs = Some(verdict);
        self.keep()?;
        Ok(is_yes)
    }

    /// Holds the log-probability of a token at the end of a prompt against that of the same token as
    /// the next one.
    fn compare(&mut self, more: &Value) -> Result<Verdict> {
        let next = match self.top(TEXT, false)? {
            Ok((reply, _)) => reply,
            Err(why) => return Ok(Verdict::No(why)),
        };
        let Some(ReplyToken { top, .. }) = next.written.first() else {
            return Ok(Verdict::no("it answers without log-probabilities"));
        };
        let mut top: Vec<_> = top.iter().filter(|token| is_plain(&token.text)).collect();
        top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
        let mut verdict = Verdict::no("it writes nothing after a text that could be compared");
        for token in top.into_iter().take(CANDIDATES) {
            let text = format!("{TEXT}{}", token.text);
            let reply = match self.service.ask(&Request::completion(&text, more), false)? {
                Ok(reply) => reply,
                Err(answer) => return Ok(Verdict::No(self.why(&answer)?)),
            };
            let Some(last) = reply.prompt.last() else {
                return Ok(Verdict::no("the tokens of the prompt do not come back"));
            };
            let Some(logprob) = last.logprob else {
                return Ok(Verdict::no("the tokens of the prompt have no log-probabilities"));
            };
            // The text may be cut in other tokens than it was written in.
            if reply.num_after(&text, TEXT.len()) != Some(1) {
                verdict = Verdict::no("its tokens do not join to the prompt");
                continue;
            }
            if (logprob - token.logprob).abs() <= TOLERANCE {
                return Ok(Verdict::Yes);
            }
            return Ok(Verdict::no(format!(
                "its numbers are wrong: `{}` after the prompt has {:.2} nats, and {logprob:.2} as the end of it",
                token.text.escape_debug(),
                token.logprob
            )));
        }
        Ok(verdict)
    }

    /// Tries the next tokens of a chat.
    ///
    /// # Errors
    /// As [`Probe::next_tokens`].
    pub fn chat(&mut self) -> Result<bool> {
        if let Some(verdict) = &self.found.chat {
            return Ok(verdict.is_yes());
        }
        let messages = json!([{ "role": "user", "content": "Count to ten." }]);
        let mut verdict = Verdict::no("it was not tried");
        for top_k in counts(self.top_k) {
            let more = chat_parameters(top_k);
            match self.service.ask(&Request::chat(&messages, &more), false)? {
                Ok(reply) => match reply.written.first() {
                    Some(token) if !token.top.is_empty() => {
                        self.found.chat_top_k = top_k;
                        self.found.chat_top_k_given = token.top.len().min(top_k);
                        verdict = Verdict::Yes;
                        break;
                    }
                    _ => verdict = Verdict::no("it answers without log-probabilities"),
                },
                Err(answer) => verdict = Verdict::No(self.why(&answer)?),
            }
        }
        let is_yes = verdict.is_yes();
        self.found.chat = Some(verdict);
        self.keep()?;
        Ok(is_yes)
    }

    /// Tries whether an answer of a chat can be begun for the model: it then goes on with it.
    ///
    /// # Errors
    /// As [`Probe::next_tokens`].
    pub fn prefill(&mut self) -> Result<bool> {
        if let Some(verdict) = &self.found.prefill {
            return Ok(verdict.is_yes());
        }
        if !self.chat()? {
            self.found.prefill = Some(Verdict::no("it gives no log-probabilities of chats"));
            return Ok(false);
        }
        let messages = json!([
            { "role": "user", "content": "Count to ten." },
            { "role": "assistant", "content": TEXT },
        ]);
        let mut more = chat_parameters(1);
        // Some tokenizers cut ` 8` in two.
        more["max_tokens"] = PREFILL_TOKENS.into();
        prefill_parameters(&mut more);
        let verdict = match self.service.ask(&Request::chat(&messages, &more), false)? {
            Ok(reply) if goes_on(&reply.text) => Verdict::Yes,
            Ok(reply) => Verdict::no(format!(
                "it does not go on with an answer that was begun, but says `{}`",
                reply.text.escape_debug()
            )),
            Err(answer) => Verdict::No(self.why(&answer)?),
        };
        let is_yes = verdict.is_yes();
        self.found.prefill = Some(verdict);
        self.keep()?;
        Ok(is_yes)
    }
}

/// Whether a text goes on with that of the probe.
fn goes_on(text: &str) -> bool {
    let rest = text.trim_start().strip_prefix('8');
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The numbers of tokens to ask for, until the server agrees: OpenAI gives 5 of completions and 20 of
/// chats.
fn counts(most: usize) -> Vec<usize> {
    let mut counts = vec![most];
    counts.extend([20, 5, 1].into_iter().filter(|&n| n < most));
    counts
}

pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c == ' ' || c.is_ascii_alphanumeric())
}
