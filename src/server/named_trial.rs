//! Which way to name tokens a server has: tried on one text, against its most likely tokens.

use super::canary;
use super::kind::Software;
use super::named::NamedBy;
use super::probe::{Probe, TOLERANCE, Verdict, is_plain};
use crate::error::Result;

/// Likely tokens by which a way is tried.
const LIKELY: usize = 4;
/// A word that does not go on with the text of the trial.
const RARE: &str = " zebra";

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
