//! Looking at a server before it is used: its tokenizer, its pace, and whether it remembers prefixes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

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
}

impl Pace {
    /// Returns whether a shared beginning saves time, or the server says that it does.
    pub fn has_prefix_cache(&self) -> bool {
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
        if let Some(theirs) = tokenize(service, text) {
            // Some add the begin token here, whatever they are told.
            let bare = theirs.strip_prefix(tokenizer.prefix()).unwrap_or(&theirs);
            if bare != ours {
                found.differ.push((text.to_owned(), bare.len(), ours.len()));
            }
            continue;
        }
        found.by_tokens = false;
        let asked = service.ask_completion(text, &json!({ "max_tokens": 1 }), false)?;
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

/// The tokens of a text by the server's own word, where it has one: vLLM, llama.cpp,
/// llama-cpp-python.
fn tokenize(service: &Service, text: &str) -> Option<Vec<u32>> {
    let model = service.model();
    let ways = [
        (
            "/tokenize",
            json!({ "model": model, "prompt": text, "add_special_tokens": false,
            "content": text, "add_special": false }),
        ),
        ("/extras/tokenize", json!({ "model": model, "input": text })),
    ];
    for (path, body) in ways {
        let url = format!("{}{path}", service.address().root());
        let Some(answer) = service.client().try_once(&url, Some(&body)) else { continue };
        let Ok(json) = answer.json() else { continue };
        let tokens = json.get("tokens").and_then(Value::as_array);
        let id = |value: &Value| value.as_u64().map(|id| id as u32);
        if let Some(ids) = tokens.and_then(|tokens| tokens.iter().map(id).collect()) {
            return Some(ids);
        }
    }
    None
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
    let by_chat = service.ask_completion("Hello", &more, false)?.is_err();
    let sent = |prompt: &str| -> Result<(Duration, super::Reply)> {
        let began = Instant::now();
        let asked = if by_chat {
            let messages = json!([{ "role": "user", "content": prompt }]);
            service.ask_chat(&messages, &more, false)?
        } else {
            service.ask_completion(prompt, &more, false)?
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
    let (mut num_tokens, mut remembered) = (0, None);
    for i in 0..NUM_TIMED as u32 {
        let beginning = format!("{} {}", salt.wrapping_add(i * 7919), words(salt.wrapping_add(i)));
        let (time, reply) = sent(&format!("{beginning} one"))?;
        fresh.push(time);
        num_tokens = reply.tokens_in.unwrap_or(0);
        let (time, reply) = sent(&format!("{beginning} two"))?;
        shared.push(time);
        remembered = remembered.max(reply.tokens_remembered);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (short, fresh, shared) = (median(short), median(fresh), median(shared));
    Ok(Pace { short, fresh, shared, num_tokens, remembered })
}
