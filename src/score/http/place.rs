//! One place of an answer: the tokens that a server tells of there, and the labels among them.

use super::request::{Part, Use};
use crate::score::Question;
use crate::server::{Reply, ReplyToken, TopToken};

/// What a sum of probabilities may lack because servers round them.
const ROUNDING: f64 = 1e-3;

/// The first token that was written, with what else could have been; `None` if the text ended there.
pub(super) fn next_token(reply: &Reply) -> Option<&ReplyToken> {
    reply.written.first()
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

fn words_but(question: &Question, label: usize) -> Vec<&str> {
    let others = question.labels.iter().enumerate().filter(|(other, _)| *other != label);
    others.map(|(_, word)| word.trim()).collect()
}

/// All tokens that a server tells of at a place: the most likely ones, and the one it wrote.
pub(super) fn told(token: &ReplyToken) -> impl Iterator<Item = (&str, Option<u32>, f64)> {
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

/// The most that the log-probability of a token can be which is not told of: no more than the least
/// of those that are, and than what these leave.
pub(super) fn most_of_a_miss(token: &ReplyToken) -> f64 {
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
