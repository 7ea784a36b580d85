//! Replies of a server as scores of labels.

use super::place::{found_in, most_of_a_miss, next_token, told};
use super::request::{Ask, Part};
use super::{HttpScorer, LocalTokenizer};
use crate::error::{Error, ErrorKind, Result};
use crate::score::{LabelScores, Question};
use crate::server::{Prompt, Reply, ReplyToken};

/// vLLM gives this for minus infinity, which JSON does not know.
const LEAST: f64 = -9000.0;
/// Of the most likely words, as many are compared with the local tokenizer.
const CHECKED_WORDS: usize = 16;

impl HttpScorer {
    /// Adds what a reply says to the scores of its question; `nums` are those of
    /// [`HttpScorer::nums_of_labels`].
    pub(super) fn add_reply(
        &mut self,
        question: &Question,
        (ask, nums): (&Ask, &[usize]),
        reply: &Reply,
        scores: &mut LabelScores,
    ) -> Result<()> {
        for used in &ask.uses {
            let word = &question.labels[used.label];
            let (logprob, num_tokens) = match &used.part {
                Part::End { .. } => {
                    let num = nums[used.label];
                    let all = reply.tokens_in.map_or(reply.num_prompt, |num| num as usize);
                    let before = all.saturating_sub(num);
                    scores.num_prompt_tokens = scores.num_prompt_tokens.max(before);
                    (sum_of_end(reply, num, word)?, num)
                }
                Part::Named { way, at, id, num_prompt } => {
                    check_sent(ask, reply)?;
                    let logprob = way.find(reply, *at, *id).ok_or_else(|| {
                        let message =
                            format!("the server gave no log-probability for label `{word}` by its number");
                        Error::new(ErrorKind::Server, message).hint(
                            "`w2s serve-check URL` says what the server can do; try another `--route`",
                        )
                    })?;
                    scores.num_prompt_tokens = *num_prompt;
                    (logprob, 1)
                }
                Part::Next { .. } => {
                    let token = next_token(reply);
                    token.map_or(Ok(()), |token| self.check_tokens(ask, reply, token))?;
                    let found = token.and_then(|token| found_in(token, question, used));
                    self.note_prompt(reply, &ask.prompt, scores)?;
                    (self.or_miss(found, token), 1)
                }
                Part::Word => {
                    let token = next_token(reply);
                    let found = token.and_then(|token| found_in(token, question, used));
                    self.note_prompt(reply, &ask.prompt, scores)?;
                    (self.or_miss(found, token), 1)
                }
            };
            if !logprob.is_finite() || logprob < LEAST {
                return Err(Error::new(
                    ErrorKind::Numeric,
                    format!("the server gave a log-probability of {logprob} for label `{word}`"),
                )
                .hint("the model may be damaged, or a filter such as `--logprobs-mode processed_logprobs` takes tokens away"));
            }
            scores.logprobs[used.label] += logprob;
            scores.num_tokens[used.label] += num_tokens;
        }
        Ok(())
    }

    fn note_prompt(&self, reply: &Reply, prompt: &str, scores: &mut LabelScores) -> Result<()> {
        use crate::score::Scorer;
        if reply.written.is_empty() && reply.finish.as_deref() != Some("stop") {
            return Err(no_logprobs("what it writes"));
        }
        let num = match reply.tokens_in {
            Some(num) => num as usize,
            None => self.count_tokens(prompt)?,
        };
        scores.num_prompt_tokens = match scores.num_prompt_tokens {
            0 => num,
            // Of a label of several tokens, the first stands after the prompt.
            known => known.min(num),
        };
        Ok(())
    }

    /// Counts a label that was looked for; one that was missed gets the most it can have.
    fn or_miss(&mut self, found: Option<f64>, token: Option<&ReplyToken>) -> f64 {
        self.misses.num_labels += 1;
        found.unwrap_or_else(|| {
            self.misses.num_missed += 1;
            token.map_or(-std::f64::consts::LN_2, most_of_a_miss)
        })
    }

    /// Checks that the local tokenizer is that of a server which tells the numbers of tokens: a label
    /// found by its number would else be another word.
    fn check_tokens(&self, ask: &Ask, reply: &Reply, token: &ReplyToken) -> Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        if told(token).all(|(_, id, _)| id.is_none()) {
            return Ok(());
        }
        let ours = local.tokenizer().encode(&ask.prompt)?.ids.len();
        if let Some(theirs) = reply.tokens_in {
            check_count(local, ours, theirs as usize)?;
        }
        let words = told(token).filter_map(|(text, id, _)| {
            let word = text.replace('\u{2581}', " ").trim().to_owned();
            let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric());
            is_plain.then_some((word, id?))
        });
        for (word, id) in words.take(CHECKED_WORDS) {
            let ours = local.tokenizer().decode(&[id]).unwrap_or_default();
            if ours.trim() != word {
                let what =
                    format!("token {id} is `{word}` on the server and `{}` here", ours.trim());
                return Err(mixed(local, what));
            }
        }
        Ok(())
    }
}

fn sum_of_end(reply: &Reply, num: usize, word: &str) -> Result<f64> {
    let end = &reply.prompt[reply.prompt.len() - num..];
    let mut sum = 0.0;
    for token in end {
        sum += token.logprob.ok_or_else(|| {
            Error::new(
                ErrorKind::Server,
                format!("the server gave no log-probability for label `{word}`"),
            )
            .hint("`w2s serve-check URL` says what the server can do; try another `--route`")
        })?;
    }
    Ok(sum)
}

pub(super) fn no_logprobs(what: &str) -> Error {
    Error::new(ErrorKind::Server, format!("the server's answer lacks the log-probabilities of {what}"))
        .hint("the server dropped them without a word, as some providers do; `w2s serve-check URL` says what it can do")
}

/// Checks that the server counts as many tokens as were sent.
fn check_sent(ask: &Ask, reply: &Reply) -> Result<()> {
    let Prompt::Ids(ids) = &ask.request.prompt else { return Ok(()) };
    match reply.tokens_in {
        Some(num) if num as usize != ids.len() => Err(Error::new(
            ErrorKind::Server,
            format!("the server counts {num} tokens where {} were sent", ids.len()),
        )
        .hint("something between cuts or adds to prompts; try another `--route`")),
        _ => Ok(()),
    }
}

/// Checks that a server has as many tokens of a text as the local tokenizer. Whether special tokens
/// stand before it is the server's affair.
pub(super) fn check_count(local: &LocalTokenizer, ours: usize, theirs: usize) -> Result<()> {
    let prefix = local.tokenizer().prefix().len();
    if [ours, ours + prefix, ours + 1].contains(&theirs) {
        return Ok(());
    }
    Err(mixed(local, format!("the server has {theirs} tokens where this tokenizer has {ours}")))
}

pub(super) fn mixed(local: &LocalTokenizer, what: String) -> Error {
    Error::new(ErrorKind::Tokenizer, what).at(local.path()).hint(
        "the tokenizer is not that of the served model, or the server serves another model; `w2s serve-check` compares them",
    )
}
