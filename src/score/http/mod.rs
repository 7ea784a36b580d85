//! Scoring on a model behind an OpenAI-compatible server.
//!
//! A tree of prompts is flattened depth first, so that a prefix cache on the server finds neighbours
//! together, and each question becomes one request or a few. In which way numbers are got is the
//! [`RouteKind`]; which token is whose is settled by the rule of [`crate::lm::question_boundary`], on the
//! server's tokens or those of a local tokenizer.

mod asks;
mod chat;
mod count;
mod echo;
mod ends;
mod ladder;
mod local;
mod place;
mod replies;
mod request;
mod route;
mod tally;
mod token_ids;
mod top_k;
mod way;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use ladder::Ladder;
use request::Ask;
use tally::Counting;

pub use local::LocalTokenizer;
pub use route::RouteKind;
pub use tally::Asked;

use super::generator::{Generator, Written, no_room};
use super::{LabelScores, PromptTree, Scorer, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::lm::Moment;
use crate::server::{Abilities, Job, Probe, Reply, Service, run_in_order};

/// How a [`HttpScorer`] asks.
#[derive(Clone, Debug)]
pub struct HttpScorerOptions {
    /// The way numbers are got; `None`: the best that the server has.
    pub route: Option<RouteKind>,
    /// Next tokens to ask for, where only the most likely ones can be had.
    pub top_k: usize,
    /// Share of labels that may lie outside of these.
    pub max_misses: f64,
    /// The longest prompt in tokens; `None`: what the server says.
    pub max_context_tokens: Option<usize>,
    /// The model's tokenizer.json, for exact borders of labels.
    pub tokenizer: Option<PathBuf>,
}

impl Default for HttpScorerOptions {
    fn default() -> Self {
        Self { route: None, top_k: 20, max_misses: 0.05, max_context_tokens: None, tokenizer: None }
    }
}

/// Labels that were not among the most likely next tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Misses {
    /// Labels that were looked for there.
    pub num_labels: u64,
    /// Labels that were not found. Each was given the most that its log-probability can be.
    pub num_missed: u64,
}

/// Labels after which a share of misses means something.
const LEAST_LABELS: u64 = 40;

/// A [`Scorer`] on a model behind a server.
#[derive(Debug)]
pub struct HttpScorer {
    service: Service,
    options: HttpScorerOptions,
    local: Option<LocalTokenizer>,
    found: RefCell<Abilities>,
    /// How plain prompts are scored.
    route: OnceCell<RouteKind>,
    /// Whether prompts of chats are put to the chat endpoint; else they are rendered here.
    chats_there: Cell<bool>,
    /// The messages of the prompts that [`Scorer::chat`] made for the chat endpoint.
    messages: RefCell<HashMap<String, String>>,
    ladder: Ladder,
    misses: Misses,
    /// What would be asked, where nothing is.
    counting: Option<Counting>,
}

impl HttpScorer {
    /// Returns a scorer on a model. Nothing is asked that costs before it is needed.
    ///
    /// # Errors
    /// When the tokenizer cannot be read.
    pub fn new(service: Service, options: HttpScorerOptions) -> Result<Self> {
        let local = options.tokenizer.as_deref().map(LocalTokenizer::open).transpose()?;
        Ok(Self {
            service,
            options,
            local,
            found: RefCell::new(Abilities::default()),
            route: OnceCell::new(),
            chats_there: Cell::new(false),
            messages: RefCell::new(HashMap::new()),
            ladder: Ladder::default(),
            misses: Misses::default(),
            counting: None,
        })
    }

    /// Sets the date that the local chat template may ask for.
    pub fn set_moment(&mut self, moment: Moment) {
        if let Some(local) = &mut self.local {
            local.set_moment(moment);
        }
    }

    /// Returns the model's server.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Returns the local tokenizer, if one was given.
    pub fn local(&self) -> Option<&LocalTokenizer> {
        self.local.as_ref()
    }

    /// Returns what was found out about the server.
    pub fn found(&self) -> Abilities {
        self.found.borrow().clone()
    }

    /// Returns the labels that were looked for among the most likely tokens, and missed.
    pub fn misses(&self) -> Misses {
        self.misses
    }

    /// Returns the route that numbers came by, if one was needed so far.
    pub fn route_taken(&self) -> Option<RouteKind> {
        self.route.get().copied().or_else(|| self.chats_there.get().then_some(RouteKind::Chat))
    }

    fn probe(&self) -> Result<Probe<'_>> {
        Probe::new(
            &self.service,
            self.options.top_k,
            self.local.as_ref().map(LocalTokenizer::tokenizer),
        )
        .recall()
    }

    /// Whether texts are written by the chat endpoint, because there is no other.
    fn writes_by_chat(&self) -> Result<bool> {
        if self.options.route == Some(RouteKind::Chat) {
            return Ok(true);
        }
        let mut probe = self.probe()?;
        if probe.next_tokens()? {
            return Ok(false);
        }
        let found = probe.found().clone();
        let is_missing = matches!(&found.next_tokens, Some(crate::server::Verdict::No(why))
            if why.starts_with("404") || why.starts_with("405"));
        *self.found.borrow_mut() = found;
        Ok(is_missing)
    }

    /// Stops when too many labels were missed.
    fn check_misses(&self) -> Result<()> {
        let Misses { num_labels, num_missed } = self.misses;
        let most = self.options.max_misses * num_labels.max(LEAST_LABELS) as f64;
        if num_missed as f64 <= most {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Server,
            format!(
                "{num_missed} of {num_labels} labels are not among the {} most likely next tokens, more than `--max-misses {}` allows",
                self.num_next_tokens(),
                self.options.max_misses
            ),
        )
        .hint("the server gives no more of them (vLLM: start it with a larger `--max-logprobs`); give `--tokenizer FILE` if labels have several tokens, or use a server with an exact route (`w2s serve-check URL`)"))
    }

    /// What stands for a message of the chat endpoint among prompts: a text that no plain prompt is.
    fn chat_prompt(&self, message: &str) -> String {
        let prompt = format!("\u{1}user\n{message}\n\u{1}assistant\n");
        self.messages.borrow_mut().insert(prompt.clone(), message.to_owned());
        prompt
    }

    fn num_next_tokens(&self) -> usize {
        let found = self.found.borrow();
        let at_first = match self.route_taken() {
            Some(RouteKind::Chat) => found.chat_top_k_given,
            _ => found.top_k_given,
        };
        self.ladder.given().max(at_first)
    }
}

/// The places of requests in depth-first order of their texts: those that begin alike stand together,
/// whichever question and whichever tree they come from.
fn depth_first(asks: &[Ask]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..asks.len()).collect();
    order.sort_by(|&a, &b| asks[a].prompt.cmp(&asks[b].prompt));
    order
}

/// The bytes that two texts begin with.
fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Tokens that a server ran for a reply: not those that it remembered.
fn tokens_computed(reply: &Reply) -> u64 {
    let told = reply.tokens_in.unwrap_or(0);
    told.saturating_sub(reply.tokens_remembered.unwrap_or(0)) + reply.tokens_out.unwrap_or(0)
}

impl Scorer for HttpScorer {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        if self.counts() {
            return self.count_scored(tree);
        }
        let mut asks: Vec<Ask> = Vec::new();
        for (index, question) in tree.questions().iter().enumerate() {
            let of_question = self.asks((index, question), &tree.text(question.node));
            asks.extend(of_question.map_err(|e| e.of(format_args!("example `{}`", question.id)))?);
        }
        let order = depth_first(&asks);
        let mut jobs: Vec<Job<&Ask>> = Vec::with_capacity(asks.len());
        for &at in &order {
            let before = jobs.last().map_or(0, |job| shared(&job.what.prompt, &asks[at].prompt));
            jobs.push(Job { what: &asks[at], shared: before });
        }
        let (service, ladder) = (&self.service, &self.ladder);
        let answered = run_in_order(&jobs, service.concurrency(), |ask: &&Ask| {
            let question = &tree.questions()[ask.question];
            ladder.climb(service, ask, question).map_err(|e| match e.kind() {
                ErrorKind::Context => e.of(format_args!("example `{}`", question.id)),
                _ => e,
            })
        })?;
        let mut replies: Vec<Option<Reply>> = asks.iter().map(|_| None).collect();
        let mut took = Vec::with_capacity(asks.len());
        for (at, (reply, top_k)) in order.into_iter().zip(answered) {
            replies[at] = Some(reply);
            took.push(top_k);
        }
        ladder.learn(took);
        let mut scores: Vec<LabelScores> = tree
            .questions()
            .iter()
            .map(|question| LabelScores {
                logprobs: vec![0.0; question.labels.len()],
                num_tokens: vec![0; question.labels.len()],
                num_prompt_tokens: 0,
            })
            .collect();
        let mut usage = Usage { num_questions: scores.len() as u64, ..Usage::default() };
        let answered: Vec<(&Ask, &Reply)> = asks
            .iter()
            .zip(&replies)
            .filter_map(|(ask, reply)| Some((ask, reply.as_ref()?)))
            .collect();
        for of_question in answered.chunk_by(|(a, _), (b, _)| a.question == b.question) {
            let index = of_question[0].0.question;
            let question = &tree.questions()[index];
            let named = |e: Error| e.of(format_args!("example `{}`", question.id));
            let nums = self.nums_of_labels(question, of_question).map_err(named)?;
            for (ask, reply) in of_question {
                usage.tokens_computed += tokens_computed(reply);
                self.add_reply(question, (ask, &nums), reply, &mut scores[index]).map_err(named)?;
            }
        }
        self.check_misses()?;
        usage.tokens_full_prompts = scores.iter().map(LabelScores::tokens_full_prompt).sum();
        Ok((scores, usage))
    }

    /// Without a tokenizer a guess that is rather too high: a token for three bytes.
    fn count_tokens(&self, text: &str) -> Result<usize> {
        match &self.local {
            Some(local) => Ok(local.tokenizer().encode(text)?.ids.len()),
            None => Ok(1 + text.len() / 3),
        }
    }

    fn max_tokens(&self) -> usize {
        // The server wants to write a token after the prompt.
        let most = self.options.max_context_tokens.or_else(|| self.service.max_tokens());
        most.map_or(usize::MAX, |most| most.saturating_sub(1).max(1))
    }

    fn chat(&self, message: &str) -> Result<String> {
        if self.options.route != Some(RouteKind::Chat)
            && let Some(text) = self.local.as_ref().map(|l| l.chat(message)).transpose()?.flatten()
        {
            if !self.counts() {
                self.route()?;
            }
            return Ok(text);
        }
        if self.counts() {
            return Ok(self.chat_prompt(message));
        }
        let mut probe = self.probe()?;
        let works = probe.chat()?;
        let found = probe.found().clone();
        let why = route::no_route(Some(RouteKind::Chat), &found, self.service.address());
        *self.found.borrow_mut() = found;
        if !works {
            return Err(why);
        }
        self.chats_there.set(true);
        Ok(self.chat_prompt(message))
    }
}

impl Generator for HttpScorer {
    fn check_room(&self, prompt: &str) -> Result<()> {
        let most = self.options.max_context_tokens.or_else(|| self.service.max_tokens());
        // Without a tokenizer lengths are guesses, and the server's own refusal is better.
        let (Some(most), true) = (most, self.local.is_some()) else { return Ok(()) };
        let len = self.count_tokens(prompt)?;
        if len < most { Ok(()) } else { Err(no_room(len, most)) }
    }

    fn write(&mut self, prompts: &[String], max_new_tokens: usize) -> Result<Vec<Written>> {
        if self.counts() {
            return self.count_written(prompts, max_new_tokens);
        }
        let by_chat = self.writes_by_chat()?;
        let more = json!({ "max_tokens": max_new_tokens, "temperature": 0 });
        let mut jobs: Vec<Job<&String>> = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let before = jobs.last().map_or(0, |job| shared(job.what, prompt));
            jobs.push(Job { what: prompt, shared: before });
        }
        let service = &self.service;
        let replies = run_in_order(&jobs, service.concurrency(), |prompt: &&String| {
            if by_chat {
                let messages = json!([{ "role": "user", "content": prompt }]);
                return service.chat(&messages, &more);
            }
            service.completion(prompt, &more)
        })?;
        let write = |(reply, prompt): (Reply, &String)| {
            let count = |text: &str| self.count_tokens(text);
            Ok(Written {
                num_prompt_tokens: match reply.tokens_in {
                    Some(num) => num as usize,
                    None => count(prompt)?,
                },
                num_tokens: match reply.tokens_out {
                    Some(num) => num as usize,
                    None => count(&reply.text)?,
                },
                text: reply.text,
            })
        };
        replies.into_iter().zip(prompts).map(write).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Request;

    #[test]
    fn requests_that_begin_alike_stand_together() {
        let ask = |text: &str| Ask {
            question: 0,
            prompt: text.to_owned(),
            request: Request::completion(text, &json!({})),
            uses: Vec::new(),
        };
        let asks: Vec<Ask> = ["r y ", "l z ", "r ", "l x ", "l ", "l x "].map(ask).to_vec();
        // Of two that are the same, the first stays first.
        assert_eq!(depth_first(&asks), [4, 3, 5, 1, 2, 0]);
    }
}
