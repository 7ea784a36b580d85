//! Looking at a server before it is used: its tokenizer, its pace, and whether it remembers prefixes.

use std::time::{Duration, Instant};

use serde_json::json;

use super::metrics::PrefixCounters;
use super::request::Request;
use super::service::Service;
use crate::error::{Error, ErrorKind, Result};
use crate::lm::Tokenizer;

/// Whether a server cuts texts as a tokenizer here does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Texts that were compared.
    pub num_texts: usize,
    /// What was compared: the tokens, or only how many there are.
    pub by_tokens: bool,
    /// Texts with the server's number of tokens and ours, where they differ.
    pub differ: Vec<(String, usize, usize)>,
}

/// How long requests take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Median of short prompts.
    pub short: Duration,
    /// Median of long prompts that the server has not seen.
    pub fresh: Duration,
    /// Median of prompts of the same length that begin as one before did.
    pub shared: Duration,
    /// Tokens of a long prompt.
    pub num_tokens: u64,
    /// Tokens of the latter that the server says it remembered.
    pub remembered: Option<u64>,
    /// What the counters of `/metrics` moved by while prompts with a known beginning were asked.
    pub counted: Option<PrefixCounters>,
}

impl Pace {
    /// Returns whether the server computes a known beginning once: by the counters of `/metrics`, else
    /// by what it says of a request, else by the time.
    pub fn has_prefix_cache(&self) -> bool {
        if let Some(counted) = self.counted {
            return 2 * counted.hits > counted.queries;
        }
        self.remembered.is_some_and(|num| 2 * num > self.num_tokens)
            || self.shared.as_secs_f64() < 0.6 * self.fresh.as_secs_f64()
    }
}

/// Texts that tokenizers cut in different ways: blanks, numbers, line ends, signs, other scripts.
const TEXTS: [&str; 8] = [
    "Question: What is 17 + 25?\nClaim: 42\nI think this claim is True",
    "I think this claim is False\n\n",
    "  two blanks  and a tab\tand 1234567890, 3.14 and 1,000,000",
    "Response 1 is better than Response 2.",
    "def f(x):\n    return x ** 2  # squared\n",
    "na\u{ef}ve caf\u{e9}, \u{201c}quoted\u{201d} \u{2014} \u{20ac}5",
    "\u{65e5}\u{672c}\u{8a9e}\u{306e}\u{6587} \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}",
    "Sentence: A man climbs a wall.\nChoices: A. one. B. two. C. three. D. four.\n### Answer: B",
];
const NUM_TIMED: usize = 5;
/// Words of a long prompt, about a token and a half each.
const NUM_WORDS: usize = 900;

/// Returns how a server's tokens compare with those of a tokenizer here.
///
/// # Errors
/// When the server fails.
pub fn agreement(service: &Service, tokenizer: &Tokenizer) -> Result<Agreement> {
    let mut found = Agreement { num_texts: TEXTS.len(), by_tokens: true, differ: Vec::new() };
    for text in TEXTS {
        let ours = tokenizer.encode(text)?.ids;
        if let Some(theirs) = service.tokenize(text, false) {
            // Some add the begin token here, whatever they are told.
            let bare = theirs.strip_prefix(tokenizer.prefix()).unwrap_or(&theirs);
            if bare != ours {
                found.differ.push((text.to_owned(), bare.len(), ours.len()));
            }
            continue;
        }
        found.by_tokens = false;
        let asked = service.ask(&Request::completion(text, &json!({ "max_tokens": 1 })), false)?;
        let reply = asked.map_err(|answer| service.refused(&answer))?;
        let Some(theirs) = reply.tokens_in.map(|num| num as usize) else {
            return Err(Error::new(ErrorKind::Server, "the server does not count tokens"));
        };
        if ![ours.len(), ours.len() + tokenizer.prefix().len(), ours.len() + 1].contains(&theirs) {
            found.differ.push((text.to_owned(), theirs, ours.len()));
        }
    }
    Ok(found)
}

/// Returns how long requests take; sends some twenty.
///
/// # Errors
/// When the server fails.
pub fn pace(service: &Service) -> Result<Pace> {
    // What no earlier check has sent.
    let salt: u32 = rand::random();
    let most = service.max_tokens().map_or(NUM_WORDS, |tokens| (tokens / 8).min(NUM_WORDS));
    let words = |seed: u32| -> String {
        let word = |i: usize| format!("{} ", (seed as usize).wrapping_mul(31) % 997 + i * 7 % 1009);
        (0..most).map(word).collect()
    };
    let more = json!({ "max_tokens": 1, "temperature": 0 });
    let by_chat = service.ask(&Request::completion("Hello", &more), false)?.is_err();
    let sent = |prompt: &str| -> Result<(Duration, super::Reply)> {
        let began = Instant::now();
        let asked = if by_chat {
            let messages = json!([{ "role": "user", "content": prompt }]);
            service.ask(&Request::chat(&messages, &more), false)?
        } else {
            service.ask(&Request::completion(prompt, &more), false)?
        };
        let reply = asked.map_err(|answer| service.refused(&answer))?;
        Ok((began.elapsed(), reply))
    };
    // The first request may wake the server.
    sent("Hello")?;
    let mut short = Vec::new();
    for i in 0..NUM_TIMED {
        short.push(sent(&format!("{salt} {i} is a number"))?.0);
    }
    let (mut fresh, mut shared) = (Vec::new(), Vec::new());
    let (mut num_tokens, mut remembered, mut counted) = (0, None, None);
    for i in 0..NUM_TIMED as u32 {
        let beginning = format!("{} {}", salt.wrapping_add(i * 7919), words(salt.wrapping_add(i)));
        let (time, reply) = sent(&format!("{beginning} one"))?;
        fresh.push(time);
        num_tokens = reply.tokens_in.unwrap_or(0);
        let before = PrefixCounters::read(service);
        let (time, reply) = sent(&format!("{beginning} two"))?;
        shared.push(time);
        remembered = remembered.max(reply.tokens_remembered);
        let after = PrefixCounters::read(service);
        counted = match (counted, before, after) {
            (counted, Some(before), Some(after)) => Some(after.since(before).and(counted)),
            (counted, ..) => counted,
        };
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (short, fresh, shared) = (median(short), median(fresh), median(shared));
    Ok(Pace { short, fresh, shared, num_tokens, remembered, counted })
}
