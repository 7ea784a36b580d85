//! Replies of a server as scores of labels.

use super::request::{Ask, Part, Use};
use super::{HttpScorer, LocalTokenizer};
use crate::error::{Error, ErrorKind, Result};
use crate::score::{LabelScores, Question};
use crate::server::{Prompt, Reply, ReplyToken, TopToken};

/// vLLM gives this for minus infinity, which JSON does not know.
const LEAST: f64 = -9000.0;
/// Of the most likely words, as many are compared with the local tokenizer.
const CHECKED_WORDS: usize = 16;
/// What a sum of probabilities may lack because servers round them.
const ROUNDING: f64 = 1e-3;

impl HttpScorer {
    /// Adds what a reply says to the scores of its question; `nums` are those of
    /// [`HttpScorer::nums_of_labels`].
    pub(super) fn fold(
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

/// The first token that was written, with what else could have been; `None` if the text ended there.
pub(super) fn next_token(reply: &Reply) -> Option<&ReplyToken> {
    reply.written.first()
}

pub(super) fn no_logprobs(what: &str) -> Error {
    Error::new(ErrorKind::Server, format!("the server's answer lacks the log-probabilities of {what}"))
        .hint("the server dropped them without a word, as some providers do; `w2s serve-check URL` says what it can do")
}

/// What a place says of a label that is looked for there; `None` if it is not told of.
pub(super) fn found_in(token: &ReplyToken, question: &Question, used: &Use) -> Option<f64> {
    match &used.part {
        Part::Next { text, id } => find(token, text, *id),
        Part::Word => {
            sum_of_word(token, &question.labels[used.label], &words_but(question, used.label))
        }
        Part::End { .. } | Part::Named { .. } => None,
    }
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

fn words_but(question: &Question, label: usize) -> Vec<&str> {
    let others = question.labels.iter().enumerate().filter(|(other, _)| *other != label);
    others.map(|(_, word)| word.trim()).collect()
}

/// All tokens that a server tells of at a place: the most likely ones, and the one it wrote.
fn told(token: &ReplyToken) -> impl Iterator<Item = (&str, Option<u32>, f64)> {
    let is_there = token.top.iter().any(|top: &TopToken| match (top.id, token.id) {
        (Some(a), Some(b)) => a == b,
        _ => top.text == token.text,
    });
    let own = token.logprob.filter(|_| !is_there);
    token
        .top
        .iter()
        .map(|top| (top.text.as_str(), top.id, top.logprob))
        .chain(own.map(|logprob| (token.text.as_str(), token.id, logprob)))
}

/// The log-probability of a token, by its number where that is known, else by its text.
fn find(token: &ReplyToken, text: &str, id: Option<u32>) -> Option<f64> {
    let is_it = |(own, own_id, _): &(&str, Option<u32>, f64)| match (own_id, id) {
        (Some(own), Some(id)) => *own == id,
        _ => *own == text || own.replace('\u{2581}', " ") == text,
    };
    told(token).find(is_it).map(|(_, _, logprob)| logprob)
}

/// The log-probability that an answer begins with a word: the sum over all tokens that are the word
/// but for blanks, or a beginning of it and of no other.
fn sum_of_word(token: &ReplyToken, word: &str, others: &[&str]) -> Option<f64> {
    let word = word.trim();
    let is_it = |text: &str| {
        let text = text.replace('\u{2581}', " ");
        let text = text.trim();
        text == word
            || (!text.is_empty()
                && word.starts_with(text)
                && !others.iter().any(|other| other.starts_with(text)))
    };
    let sum: f64 = told(token).filter(|(text, ..)| is_it(text)).map(|(.., lp)| lp.exp()).sum();
    (sum > 0.0).then(|| sum.ln().min(0.0))
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

/// The most that the log-probability of a token can be which is not told of: no more than the least
/// of those that are, and than what these leave.
fn most_of_a_miss(token: &ReplyToken) -> f64 {
    let (least, sum) = match &token.whole {
        Some(whole) => (whole.least, whole.sum),
        None => (
            told(token).map(|(.., lp)| lp).fold(0.0, f64::min),
            told(token).map(|(.., lp)| lp.exp()).sum(),
        ),
    };
    least.min((1.0 - sum).max(ROUNDING).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(top: &[(&str, f64)]) -> ReplyToken {
        let top = top.iter().map(|(text, p): &(&str, f64)| TopToken {
            text: (*text).to_owned(),
            id: None,
            logprob: p.ln(),
        });
        ReplyToken { top: top.collect(), ..ReplyToken::default() }
    }

    #[test]
    fn words_are_found_among_the_first_tokens() {
        let place =
            token(&[("True", 0.3), (" True", 0.2), ("Tr", 0.1), ("False", 0.05), ("T", 0.01)]);
        let near = |a: Option<f64>, b: f64| assert!((a.unwrap().exp() - b).abs() < 1e-12, "{a:?}");
        near(sum_of_word(&place, "True", &["False"]), 0.61);
        // `T` could become `Tru` as well.
        near(sum_of_word(&place, "True", &["Tent"]), 0.6);
        near(sum_of_word(&place, "False", &["True"]), 0.05);
        assert_eq!(sum_of_word(&place, "false", &[]), None);
        near(find(&place, " True", None), 0.2);
        assert_eq!(find(&place, "true", None), None);
    }

    #[test]
    fn a_miss_is_never_more_than_it_can_be() {
        let near = |a: f64, b: f64| assert!((a.exp() - b).abs() < 1e-12, "{a}");
        near(most_of_a_miss(&token(&[("a", 0.6), ("b", 0.1)])), 0.1);
        near(most_of_a_miss(&token(&[("a", 0.6), ("b", 0.3)])), 0.1);
        near(most_of_a_miss(&token(&[("a", 0.5), ("b", 0.5)])), 1e-3);
    }
}
