//! How many of the last tokens of what was sent are each label's, where prompt and label went together.

use super::HttpScorer;
use super::local::LocalTokenizer;
use super::replies::{check_count, mixed, no_logprobs};
use super::request::{Ask, Part};
use crate::error::{Error, ErrorKind, Result};
use crate::lm::first_difference;
use crate::score::Question;
use crate::server::{Reply, ReplyToken};

/// A label's reply.
struct End<'a> {
    reply: &'a Reply,
    /// What was sent.
    text: &'a str,
    num_prompt_bytes: usize,
    word: &'a str,
}

impl End<'_> {
    /// How many of the last tokens end after the prompt, by their texts; `None` when these do not join.
    fn own(&self) -> Option<usize> {
        self.reply.num_after(self.text, self.num_prompt_bytes)
    }
}

impl HttpScorer {
    /// Returns how many of the last tokens are summed for each label of a question, from the replies
    /// for all of them; zeros where labels were not sent along.
    pub(super) fn nums_of_labels(
        &self,
        question: &Question,
        replies: &[(&Ask, &Reply)],
    ) -> Result<Vec<usize>> {
        let mut ends = Vec::with_capacity(replies.len());
        for (ask, reply) in replies {
            for used in &ask.uses {
                let Part::End { num_prompt_bytes } = used.part else { continue };
                if reply.prompt.is_empty() {
                    return Err(no_logprobs("the prompt"));
                }
                let (text, word) = (ask.prompt.as_str(), question.labels[used.label].as_str());
                ends.push(End { reply, text, num_prompt_bytes, word });
            }
        }
        if ends.is_empty() {
            return Ok(vec![0; question.labels.len()]);
        }
        match &self.local {
            Some(local) => by_tokenizer(local, question, &ends),
            None => by_replies(&ends),
        }
    }
}

/// By the tokenizer here, checked against what the server says of its tokens.
fn by_tokenizer(
    local: &LocalTokenizer,
    question: &Question,
    ends: &[End<'_>],
) -> Result<Vec<usize>> {
    let prompt = &ends[0].text[..ends[0].num_prompt_bytes];
    let (joint, begin) = local.split(prompt, &question.labels)?;
    let mut nums = Vec::with_capacity(ends.len());
    for (end, joint) in ends.iter().zip(&joint) {
        let (reply, word) = (end.reply, end.word);
        let num = joint.ids.len() - begin;
        let own = joint.ids.len() - joint.boundary(end.num_prompt_bytes);
        let theirs = reply.tokens_in.map_or(reply.num_prompt, |num| num as usize);
        check_count(local, joint.ids.len(), theirs)?;
        if end.own().is_some_and(|there| there != own) || num > reply.num_prompt {
            return Err(mixed(local, format!("the server cuts label `{word}` in other tokens")));
        }
        if num > reply.prompt.len() {
            return Err(too_long(word, reply));
        }
        let last = &reply.prompt[reply.prompt.len() - num..];
        let ids = &joint.ids[begin..];
        if last.iter().zip(ids).any(|(token, id)| token.id.is_some_and(|theirs| theirs != *id)) {
            return Err(mixed(
                local,
                format!("the server has other numbers for the tokens of `{word}`"),
            ));
        }
        nums.push(num);
    }
    Ok(nums)
}

/// By what the server says of its tokens: their numbers where it tells them all, else their texts.
fn by_replies(ends: &[End<'_>]) -> Result<Vec<usize>> {
    // The first of all has no log-probability and, on some servers, neither text nor number.
    let has_ids = ends.iter().all(|end| {
        let first = usize::from(end.reply.prompt.len() == end.reply.num_prompt);
        end.reply.prompt.iter().skip(first).all(|token| token.id.is_some())
    });
    let mut earliest = usize::MAX;
    for end in ends {
        match end.own() {
            Some(0) => {
                return Err(Error::new(
                    ErrorKind::Task,
                    format!("label word `{}` has no token of its own", end.word),
                ));
            }
            Some(own) => earliest = earliest.min(end.reply.num_prompt - own),
            None if has_ids && ends.len() > 1 => {}
            None => {
                let texts: Vec<&str> =
                    end.reply.prompt.iter().rev().take(4).map(|t| t.text.as_str()).collect();
                return Err(Error::new(
                    ErrorKind::Server,
                    format!("the server's tokens do not join to the prompt: they end in {texts:?} (the last first)"),
                )
                .hint("give the model's tokenizer with `--tokenizer FILE`"));
            }
        }
    }
    // Only the last tokens are kept: what is compared begins where all replies have theirs.
    let kept_from = |end: &End<'_>| end.reply.num_prompt - end.reply.prompt.len();
    let from = ends.iter().map(kept_from).max().unwrap_or(0);
    let mut rows: Vec<Vec<(Option<u32>, &str)>> = Vec::with_capacity(ends.len());
    for end in ends {
        let Some(kept) = end.reply.prompt.get(from - kept_from(end)..) else {
            return Err(too_long(end.word, end.reply));
        };
        let name = |token: &'_ ReplyToken| token.id.filter(|_| has_ids);
        rows.push(
            kept.iter()
                .map(|token| (name(token), if has_ids { "" } else { token.text.as_str() }))
                .collect(),
        );
    }
    for (i, row) in rows.iter().enumerate() {
        if let Some(twin) = rows[..i].iter().position(|other| other == row) {
            let (one, other) = (ends[twin].word, ends[i].word);
            return Err(Error::new(
                ErrorKind::Task,
                format!("label words `{one}` and `{other}` have the same tokens"),
            )
            .hint("the served model's tokenizer does not tell them apart; choose other words"));
        }
    }
    let rows: Vec<&[(Option<u32>, &str)]> = rows.iter().map(Vec::as_slice).collect();
    let begin = match first_difference(&rows) {
        // Whether they differ before it cannot be seen.
        Some(0) if from > 0 => return Err(too_long(ends[0].word, ends[0].reply)),
        Some(at) => from + at,
        None => earliest,
    };
    Ok(ends.iter().map(|end| end.reply.num_prompt - begin).collect())
}

fn too_long(word: &str, reply: &Reply) -> Error {
    Error::new(
        ErrorKind::Task,
        format!(
            "label word `{word}` goes beyond the {} tokens that are kept of a reply",
            reply.prompt.len()
        ),
    )
    .hint("use shorter label words")
}
