//! Requests that would be sent, counted by route: each once where answers are kept, and the tokens that
//! they share with those before them.

use std::collections::HashSet;

use serde::Serialize;

use super::route::RouteKind;
use crate::error::Result;
use crate::server::{Abilities, Meter, NamedBy, Request, Service, Spent, Verdict, sum_of_known};

/// What a run would ask by one route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// The route; `None` where texts are written.
    pub route: Option<RouteKind>,
    /// In which way tokens are named on it, where they are.
    pub named_by: Option<NamedBy>,
    /// Whether labels that are not among the most likely tokens are asked for again.
    pub at_least: bool,
    /// Whether the tokens of a chat are guessed, whose template only the server has.
    pub is_guess: bool,
    /// Tokens of prompts with shared beginnings counted once: those that a server computes whose prefix
    /// cache forgets nothing.
    pub tokens_unique: u64,
    /// Requests, tokens sent, tokens written at most, and the cost without a prefix cache.
    pub spent: Spent,
    /// The cost with a prefix cache that forgets nothing, at the price of remembered tokens.
    pub cost_remembered: Option<f64>,
}

/// Counts what would be asked by one route.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) route: Option<RouteKind>,
    /// What the server has to have for it.
    pub(super) found: Abilities,
    is_guess: bool,
    meter: Meter,
    /// As `meter`, with what a prefix cache remembers.
    remembering: Meter,
    tokens_unique: u64,
    /// Answers that are kept by now: digests of requests. `None`: none are kept.
    kept: Option<HashSet<[u8; 16]>>,
    /// Digests of all beginnings that were sent.
    beginnings: HashSet<u64>,
}

/// Counts what would be asked by each route that is possible.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) counters: Vec<Counter>,
    /// Whether texts are asked for at the endpoint for chats.
    pub(super) writes_by_chat: bool,
}

impl Asked {
    /// Returns both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            at_least: self.at_least || other.at_least,
            is_guess: self.is_guess || other.is_guess,
            tokens_unique: self.tokens_unique + other.tokens_unique,
            spent: self.spent.plus(&other.spent),
            cost_remembered: sum_of_known(self.cost_remembered, other.cost_remembered),
            ..self.clone()
        }
    }
}

impl Counter {
    pub(super) fn new(
        route: Option<RouteKind>,
        found: Abilities,
        (meter, keeps): (&dyn Fn() -> Meter, bool),
    ) -> Self {
        Self {
            route,
            found,
            is_guess: false,
            meter: meter(),
            remembering: meter(),
            tokens_unique: 0,
            kept: keeps.then(HashSet::new),
            beginnings: HashSet::new(),
        }
    }

    /// Counts a request for these tokens. One whose answer is kept is not sent.
    pub(super) fn add(
        &mut self,
        request: &Request,
        (ids, is_guess): (&[u32], bool),
        service: &Service,
    ) -> Result<()> {
        let is_new = |kept: &mut HashSet<[u8; 16]>| kept.insert(request.digest());
        if !self.kept.as_mut().is_none_or(is_new) || service.is_kept(request)? {
            self.meter.count_kept();
            return Ok(());
        }
        self.is_guess |= is_guess;
        let mut hash = 0_u64;
        let mut num_new = 0;
        for &id in ids {
            hash = mixed(hash ^ (u64::from(id) + 1));
            num_new += u64::from(self.beginnings.insert(hash));
        }
        self.tokens_unique += num_new;
        let (sent, written) = (ids.len() as u64, request.most_written());
        self.meter.count(sent, 0, written);
        self.remembering.count(sent, sent - num_new, written);
        Ok(())
    }

    pub(super) fn take(&mut self, meter: &dyn Fn() -> Meter) -> Asked {
        let (spent, remembering) = (self.meter.spent(), self.remembering.spent());
        (self.meter, self.remembering) = (meter(), meter());
        Asked {
            route: self.route,
            named_by: self.found.named_by.filter(|_| self.route == Some(RouteKind::TokenIds)),
            at_least: self.route.is_some_and(|route| !route.is_exact()),
            is_guess: self.is_guess,
            tokens_unique: std::mem::take(&mut self.tokens_unique),
            cost_remembered: remembering.cost,
            spent,
        }
    }
}

/// The finaliser of SplitMix64: neighbours become strangers.
fn mixed(x: u64) -> u64 {
    let x = (x.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Routes with what servers have that have them: those of vLLM, llama.cpp and others.
pub(super) fn supposed(top_k: usize) -> Vec<(RouteKind, Abilities)> {
    let named = |way: NamedBy| Abilities {
        named: Some(Verdict::Yes),
        named_by: Some(way),
        ..Abilities::default()
    };
    let top = Abilities {
        top_k,
        top_k_given: top_k,
        chat_top_k: top_k.min(20),
        prefill: Some(Verdict::Yes),
        ..Abilities::default()
    };
    vec![
        (RouteKind::TokenIds, named(NamedBy::LogprobTokenIds)),
        (RouteKind::TokenIds, named(NamedBy::Grammar)),
        (RouteKind::TokenIds, named(NamedBy::AllowedTokenIds)),
        (RouteKind::Echo, Abilities::default()),
        (RouteKind::PromptLogprobs, Abilities::default()),
        (RouteKind::TopK, top.clone()),
        (RouteKind::Chat, top),
    ]
}
