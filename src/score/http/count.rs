//! What a run would ask of a server, counted instead of asked: the requests are made as they are sent,
//! by each route that is possible.

use serde_json::json;

use super::request::Ask;
use super::route::{RouteKind, no_route};
use super::tally::{Asked, Counter, Counting, supposed};
use super::{HttpScorer, depth_first};
use crate::error::{Error, ErrorKind, Result};
use crate::score::generator::Written;
use crate::score::work::pretended;
use crate::score::{LabelScores, PromptTree, Usage};
use crate::server::{Abilities, Prompt, Request};

impl HttpScorer {
    /// Makes the scorer count what it would ask, and answer as good as at random: by the route that
    /// the server has, or by each that a server may have where it cannot be asked. `by_chat`: prompts
    /// are messages to a chat model.
    ///
    /// # Errors
    /// As [`HttpScorer::route`]; [`ErrorKind::Usage`] when nobody tells the tokens of a text.
    pub fn count_only(&mut self, by_chat: bool) -> Result<()> {
        let is_there = self.service.is_there();
        let template = match &self.local {
            Some(local) if by_chat => local.chat("Hello")?,
            _ => None,
        };
        // A chat whose template is the server's goes to its endpoint for chats.
        let wanted = match by_chat && template.is_none() {
            true => Some(RouteKind::Chat),
            false => self.options.route,
        };
        self.check_tokenizer()?;
        let found = if is_there {
            let route = match wanted {
                Some(RouteKind::Chat) => {
                    let mut probe = self.probe()?;
                    let works = probe.chat()?;
                    if works && !by_chat {
                        probe.prefill()?;
                    }
                    let found = probe.found().clone();
                    if !works {
                        let address = self.service.address();
                        return Err(no_route(Some(RouteKind::Chat), &found, address));
                    }
                    *self.found.borrow_mut() = found;
                    RouteKind::Chat
                }
                _ => self.route()?,
            };
            vec![(route, self.found())]
        } else {
            let all = supposed(self.options.top_k);
            all.into_iter()
                .filter(|(route, _)| wanted.is_none_or(|wanted| wanted == *route))
                .collect()
        };
        let keeps = self.service.keeps();
        let meter = || self.service.meter().anew();
        let counters = found
            .into_iter()
            .map(|(route, found)| Counter::new(Some(route), found, (&meter, keeps)));
        self.counting = Some(Counting { counters: counters.collect(), writes_by_chat: false });
        Ok(())
    }

    /// As [`count_only`](Self::count_only) of a scorer that only writes texts, for which all routes are
    /// one.
    ///
    /// # Errors
    /// As [`count_only`](Self::count_only).
    pub fn count_written_only(&mut self) -> Result<()> {
        self.check_tokenizer()?;
        // As the run finds out; what is found is remembered for it.
        let writes_by_chat = match self.service.is_there() {
            true => self.writes_by_chat()?,
            false => self.options.route == Some(RouteKind::Chat),
        };
        let meter = || self.service.meter().anew();
        let counter = Counter::new(None, Abilities::default(), (&meter, self.service.keeps()));
        self.counting = Some(Counting { counters: vec![counter], writes_by_chat });
        Ok(())
    }

    /// Refuses to count where nobody tells the tokens of a text.
    fn check_tokenizer(&self) -> Result<()> {
        let is_there = self.service.is_there();
        if self.local.is_some() || (is_there && self.service.tokenize("1, 2", true).is_some()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Usage,
            match is_there {
                true => {
                    "the server does not tell the tokens of a text, and there is no tokenizer here"
                }
                false => "the server cannot be reached, and there is no tokenizer here to count by",
            },
        )
        .hint("give the served model's tokenizer with `--tokenizer FILE`"))
    }

    /// What was counted since this was last asked; `None` of a scorer that asks.
    pub fn take_counted(&mut self) -> Option<Vec<Asked>> {
        let service = &self.service;
        let counting = self.counting.as_mut()?;
        Some(counting.counters.iter_mut().map(|one| one.take(&|| service.meter().anew())).collect())
    }

    /// Whether nothing is asked.
    pub(super) fn counts(&self) -> bool {
        self.counting.is_some()
    }

    /// As [`score`](crate::score::Scorer::score), with as good as random numbers.
    pub(super) fn count_scored(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        let Some(mut counting) = self.counting.take() else { return self.no_counting() };
        let mut usage = Usage { num_questions: tree.questions().len() as u64, ..Usage::default() };
        let mut scores: Vec<LabelScores> = Vec::with_capacity(tree.questions().len());
        for question in tree.questions() {
            let pretended = |label| pretended(&question.id, label);
            scores.push(LabelScores {
                logprobs: (0..question.labels.len()).map(pretended).collect(),
                num_tokens: vec![1; question.labels.len()],
                num_prompt_tokens: 0,
            });
        }
        let mut impossible: Vec<(usize, Error)> = Vec::new();
        for (place, counter) in counting.counters.iter_mut().enumerate() {
            *self.found.borrow_mut() = counter.found.clone();
            match self.count_by(counter, tree) {
                Ok(num_prompt_tokens) if place == 0 => {
                    for (score, num) in scores.iter_mut().zip(num_prompt_tokens) {
                        score.num_prompt_tokens = num;
                        usage.tokens_computed += num as u64;
                    }
                }
                Ok(_) => {}
                Err(why) => impossible.push((place, why)),
            }
        }
        // What is only supposed may be a route that such labels cannot take.
        if impossible.len() == counting.counters.len()
            && let Some((_, why)) = impossible.pop()
        {
            return Err(why);
        }
        for (place, _) in impossible.into_iter().rev() {
            counting.counters.remove(place);
        }
        usage.tokens_full_prompts = scores.iter().map(LabelScores::tokens_full_prompt).sum();
        self.counting = Some(counting);
        Ok((scores, usage))
    }

    /// Counts the requests for all questions of a tree by one route, and returns the tokens of the
    /// longest one for each question.
    fn count_by(&self, counter: &mut Counter, tree: &PromptTree) -> Result<Vec<usize>> {
        let mut asks: Vec<Ask> = Vec::new();
        for (index, question) in tree.questions().iter().enumerate() {
            let Some(route) = counter.route else { return self.no_counting() };
            let own = self.asks_by(route, (index, question), &tree.text(question.node));
            asks.extend(own.map_err(|e| e.of(format_args!("example `{}`", question.id)))?);
        }
        let mut longest = vec![0; tree.questions().len()];
        for at in depth_first(&asks) {
            let ask = &asks[at];
            let (ids, is_guess) = self.tokens_of(&ask.request)?;
            self.check_length(ids.len(), &tree.questions()[ask.question].id)?;
            counter.add(&ask.request, (&ids, is_guess), &self.service)?;
            longest[ask.question] = longest[ask.question].max(ids.len());
        }
        Ok(longest)
    }

    /// As [`write`](crate::score::Generator::write), with answers that parsers can read.
    pub(super) fn count_written(
        &mut self,
        prompts: &[String],
        max_new_tokens: usize,
    ) -> Result<Vec<Written>> {
        let more = json!({ "max_tokens": max_new_tokens, "temperature": 0 });
        let Some(mut counting) = self.counting.take() else { return self.no_counting() };
        let mut written = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let request = match counting.writes_by_chat {
                true => Request::chat(&json!([{ "role": "user", "content": prompt }]), &more),
                false => Request::completion(prompt, &more),
            };
            let (ids, is_guess) = self.tokens_of(&request)?;
            for counter in &mut counting.counters {
                counter.add(&request, (&ids, is_guess), &self.service)?;
            }
            let text = match pretended(prompt, 0) > pretended(prompt, 1) {
                true => "A. 1",
                false => "B. 2",
            };
            let num_prompt_tokens = ids.len();
            written.push(Written { text: text.to_owned(), num_prompt_tokens, num_tokens: 0 });
        }
        self.counting = Some(counting);
        Ok(written)
    }

    /// The tokens that a server makes of a request, and whether they are a guess.
    fn tokens_of(&self, request: &Request) -> Result<(Vec<u32>, bool)> {
        match &request.prompt {
            Prompt::Ids(ids) => Ok((ids.clone(), false)),
            Prompt::Text(text) => Ok((self.tokens_of_text(text)?, false)),
            Prompt::Messages(messages) => {
                let all = messages.as_array().into_iter().flatten();
                let texts = all.filter_map(|message| message["content"].as_str());
                Ok((self.tokens_of_text(&texts.collect::<Vec<_>>().join("\n"))?, true))
            }
        }
    }

    fn tokens_of_text(&self, text: &str) -> Result<Vec<u32>> {
        match &self.local {
            Some(local) => {
                let tokenizer = local.tokenizer();
                Ok([tokenizer.prefix(), &tokenizer.encode(text)?.ids].concat())
            }
            None => self.service.prompt_tokens(text),
        }
    }

    /// Refuses a prompt that the server would.
    fn check_length(&self, len: usize, id: &str) -> Result<()> {
        let most = self.options.max_context_tokens.or_else(|| self.service.max_tokens());
        match most.filter(|most| len > *most) {
            Some(most) => Err(Error::new(
                ErrorKind::Context,
                format!("example `{id}`: a prompt of {len} tokens, expected at most {most}"),
            )
            .hint("use fewer demonstrations or shorter examples, or start the server with a longer context")),
            None => Ok(()),
        }
    }

    #[expect(clippy::unused_self, reason = "stands where self answers")]
    fn no_counting<T>(&self) -> Result<T> {
        Err(Error::new(ErrorKind::Internal, "nothing is counted"))
    }
}
