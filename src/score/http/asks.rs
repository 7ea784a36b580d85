//! By which route a scorer asks.

use serde_json::json;

use super::HttpScorer;
use super::chat::{self, Chat};
use super::echo::{Echo, PromptLogprobs};
use super::request::Ask;
use super::route::{RouteKind, empty_prompt, no_route};
use super::token_ids::TokenIds;
use super::top_k::TopK;
use super::way::Way;
use crate::error::Result;
use crate::score::Question;

fn way(route: RouteKind) -> &'static dyn Way {
    match route {
        RouteKind::TokenIds => &TokenIds,
        RouteKind::Echo => &Echo,
        RouteKind::PromptLogprobs => &PromptLogprobs,
        RouteKind::TopK => &TopK,
        RouteKind::Chat => &Chat,
    }
}

impl HttpScorer {
    /// Returns how plain prompts are scored: the route that was asked for, or the best of those that
    /// the server has.
    ///
    /// # Errors
    /// [`ErrorKind::Server`](crate::error::ErrorKind::Server) when there is none; says why for each.
    pub fn route(&self) -> Result<RouteKind> {
        if let Some(route) = self.route.get() {
            return Ok(*route);
        }
        let mut probe = self.probe()?;
        let tried = match self.options.route {
            Some(route) => vec![route],
            None => RouteKind::ALL.to_vec(),
        };
        let mut route = None;
        for candidate in tried {
            if way(candidate).works(&mut probe)? {
                route = Some(candidate);
                break;
            }
        }
        let found = probe.found().clone();
        *self.found.borrow_mut() = found.clone();
        match route {
            Some(route) => Ok(*self.route.get_or_init(|| route)),
            None => Err(no_route(self.options.route, &found, self.service.address())),
        }
    }

    /// The requests that answer a question by a route.
    pub(super) fn asks_by(
        &self,
        route: RouteKind,
        question: (usize, &Question),
        prompt: &str,
    ) -> Result<Vec<Ask>> {
        if let Some(message) = self.messages.borrow().get(prompt) {
            let messages = json!([{ "role": "user", "content": message }]);
            return Ok(vec![chat::ask(self, question, prompt, &messages, false)]);
        }
        if prompt.is_empty() {
            return Err(empty_prompt());
        }
        way(route).asks(self, question, prompt)
    }

    /// The requests that answer a question.
    pub(super) fn asks(&self, question: (usize, &Question), prompt: &str) -> Result<Vec<Ask>> {
        match self.messages.borrow().contains_key(prompt) {
            true => self.asks_by(RouteKind::Chat, question, prompt),
            false => self.asks_by(self.route()?, question, prompt),
        }
    }
}
