//! Where the labels of a question begin: the one rule by which scoring, training and servers tell the
//! prompt's tokens from the labels'.
//!
//! A prompt and each of its labels are tokenised as one text. After `Answer: `, ` none` may be a single
//! token that swallows the prompt's last blank, while `5` stands behind a blank token of its own. If
//! each label were summed from where it begins itself, `none` would pay for the blank and `5` would
//! not: these are probabilities of different events. So all labels of one question are summed from the
//! first token at which any two of their tokenisations differ. What stands before is common to all of
//! them and cancels.
//!
//! A label that begins another (`1` and `10`) is scored by its own tokens, whatever may follow them:
//! where the tokens of the longer one go on from its own, its probability holds that of the longer one.
//! Every label keeps at least its last token.

use super::Tokens;
use crate::error::{Error, ErrorKind, Result};

/// Returns the first place at which any two of the sequences differ, but no place behind the last
/// element of the shortest; `None` where no two differ.
pub fn first_difference<T: PartialEq>(sequences: &[&[T]]) -> Option<usize> {
    let (first, others) = sequences.split_first()?;
    let common = |other: &&[T]| first.iter().zip(*other).take_while(|(a, b)| a == b).count();
    // The least that any has in common with the first one is what all have in common.
    let least = others.iter().map(common).min()?;
    let shortest = sequences.iter().map(|sequence| sequence.len()).min()?;
    let longest = sequences.iter().map(|sequence| sequence.len()).max()?;
    let all_alike = least == longest;
    (!all_alike).then(|| least.min(shortest.saturating_sub(1)))
}

/// Returns the index of the first token that is scored or learnt of every label: `joint` are the
/// tokens of the prompt, of `num_prompt_bytes`, with each of `labels`.
///
/// With one label there is nothing to differ from; it begins at its first token that ends after the
/// prompt ([`Tokens::boundary`]).
///
/// # Errors
/// [`ErrorKind::Task`] for a label without a token of its own, and for two labels that the tokenizer
/// makes one.
pub fn question_boundary(
    num_prompt_bytes: usize,
    labels: &[&str],
    joint: &[Tokens],
) -> Result<usize> {
    let mut earliest = usize::MAX;
    for (i, (label, tokens)) in labels.iter().zip(joint).enumerate() {
        let own = tokens.boundary(num_prompt_bytes);
        if own == tokens.ids.len() {
            return Err(Error::new(
                ErrorKind::Task,
                format!("label word `{label}` has no token of its own"),
            ));
        }
        earliest = earliest.min(own);
        if let Some(twin) = joint[..i].iter().position(|other| other.ids == tokens.ids) {
            return Err(Error::new(
                ErrorKind::Task,
                format!("label words `{}` and `{label}` have the same tokens", labels[twin]),
            )
            .hint("this model's tokenizer does not tell them apart; choose other words"));
        }
    }
    let ids: Vec<&[u32]> = joint.iter().map(|tokens| tokens.ids.as_slice()).collect();
    Ok(first_difference(&ids).unwrap_or(earliest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pieces: &[(u32, &str)]) -> Tokens {
        let mut tokens = Tokens::default();
        for (id, piece) in pieces {
            tokens.ids.push(*id);
            tokens.starts.push(tokens.text.len());
            tokens.text.push_str(piece);
            tokens.ends.push(tokens.text.len());
        }
        tokens
    }

    #[test]
    fn sequences_differ_where_any_two_do() {
        let first = |rows: &[&[u32]]| first_difference(rows);
        assert_eq!(first(&[&[1, 2, 3], &[1, 2, 4]]), Some(2));
        // The third parts from the others first.
        assert_eq!(first(&[&[1, 2, 3], &[1, 2, 4], &[1, 9, 3]]), Some(1));
        assert_eq!(first(&[&[1, 9, 3], &[1, 2, 3], &[1, 2, 4]]), Some(1));
        // One begins the other: its last token stays its own.
        assert_eq!(first(&[&[1, 2], &[1, 2, 3]]), Some(1));
        assert_eq!(first(&[&[1, 2, 3, 4], &[1, 2], &[1, 2, 3]]), Some(1));
        assert_eq!(first(&[&[1, 2], &[1, 2]]), None);
        assert_eq!(first(&[&[1, 2]]), None);
        assert_eq!(first(&[]), None);
        assert_eq!(first(&[&[], &[1]]), Some(0));
    }

    #[test]
    fn a_blank_that_one_label_swallows_is_all_labels() {
        let none = tokens(&[(1, "Answer"), (2, ":"), (3, " none")]);
        let five = tokens(&[(1, "Answer"), (2, ":"), (4, " "), (5, "5")]);
        let prompt = "Answer: ".len();
        let both = [none.clone(), five.clone()];
        assert_eq!(question_boundary(prompt, &["none", "5"], &both).unwrap(), 2);
        // By itself `5` begins behind the blank.
        assert_eq!(question_boundary(prompt, &["5"], &[five]).unwrap(), 3);
        assert_eq!(question_boundary(prompt, &["none"], &[none]).unwrap(), 2);
    }

    #[test]
    fn labels_that_cannot_be_told_apart_are_errors() {
        let unknown = |word: &str| tokens(&[(1, "is "), (0, word)]);
        let error = question_boundary(3, &["a", "b"], &[unknown("a"), unknown("b")]).unwrap_err();
        assert!(error.message().contains("`a` and `b` have the same tokens"), "{error}");
        let error = question_boundary(3, &["a"], &[tokens(&[(1, "is ")])]).unwrap_err();
        assert!(error.message().contains("no token of its own"), "{error}");
    }
}
