//! Cutting a large set into batches that each fit the model's context.

use std::collections::HashMap;

use crate::data::Example;
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::PromptFormat;
use crate::score::Scorer;

/// How many examples are labelled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// At most this many, and fewer where the model's context is too short.
    AtMost(usize),
    /// This many; too many for the context is an error.
    Exactly(usize),
}

/// Tokens kept free for what joint tokenisation may add over the sum of the parts.
const SLACK_TOKENS: usize = 16;

/// Returns the examples' indices in batches, in data order, with groups kept whole.
///
/// A batch fits when a prompt with all of its examples as demonstrations, or with the longest `cap` of
/// them, and the longest question after them is within the context.
///
/// # Errors
/// [`ErrorKind::Context`] when two examples, a group, or a batch of the size asked for do not fit:
/// names the longest example and what to set.
pub fn split(
    examples: &[Example],
    format: &PromptFormat<'_>,
    size: BatchSize,
    cap: Option<usize>,
    scorer: &dyn Scorer,
) -> Result<Vec<Vec<usize>>> {
    let mut lengths = Vec::with_capacity(examples.len());
    for example in examples {
        let mut longest = 0;
        for label in 0..format.label_words().len() {
            longest = longest.max(scorer.count_tokens(&format.demonstration(example, label)?)?);
        }
        lengths.push(longest);
    }
    let room = scorer.max_tokens();
    let fixed = scorer.count_tokens(format.instruction())? + SLACK_TOKENS;
    let need = |members: &[usize]| {
        let mut held: Vec<usize> = members.iter().map(|&i| lengths[i]).collect();
        held.sort_unstable_by(|a, b| b.cmp(a));
        let longest = held.first().copied().unwrap_or(0);
        held.truncate(cap.unwrap_or(usize::MAX));
        held.iter().sum::<usize>() + longest + fixed
    };
    let (most, strict) = match size {
        BatchSize::AtMost(n) => (n, false),
        BatchSize::Exactly(n) => (n, true),
    };
    let too_long = |members: &[usize], what: &str| {
        let longest = members.iter().copied().max_by_key(|&i| lengths[i]).unwrap_or(0);
        Error::new(
            ErrorKind::Context,
            format!(
                "{what} needs a prompt of about {} tokens, expected at most {room}; the longest example is `{}` with {}",
                need(members),
                examples[longest].id,
                lengths[longest]
            ),
        )
    };
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut unit_of_group: HashMap<&str, usize> = HashMap::new();
    for (i, example) in examples.iter().enumerate() {
        match example.group.as_deref() {
            None => units.push(vec![i]),
            Some(group) => {
                let unit = *unit_of_group.entry(group).or_insert_with(|| {
                    units.push(Vec::new());
                    units.len() - 1
                });
                units[unit].push(i);
            }
        }
    }
    let mut batches: Vec<Vec<usize>> = vec![Vec::new()];
    for unit in units {
        let mut joined = batches[batches.len() - 1].clone();
        joined.extend(&unit);
        let over_count = joined.len() > most && joined.len() > unit.len();
        let over_context = need(&joined) > room;
        if !over_count && !over_context {
            *last(&mut batches) = joined;
            continue;
        }
        let held = joined.len() - unit.len();
        if over_context && !over_count && strict {
            return Err(too_long(&joined, &format!("a batch of {most} examples"))
                .hint(format!("set `--batch-size {}` or less, or leave it out", held.max(2))));
        }
        if held < 2 || need(&unit) > room {
            return Err(too_long(&joined, "the smallest batch possible")
                .hint("shorten or remove the example, or use a model with a longer context"));
        }
        batches.push(unit);
    }
    // A single example has nothing to be predicted from: it joins the batch before, or is joined by
    // one of its examples where there is no room.
    let num = batches.len();
    if num > 1 && batches[num - 1].len() == 1 {
        let single = batches[num - 1][0];
        let mut joined = batches[num - 2].clone();
        joined.push(single);
        if need(&joined) <= room {
            batches.pop();
            *last(&mut batches) = joined;
        } else if let Some(moved) = batches[num - 2].pop() {
            batches[num - 1].insert(0, moved);
        }
    }
    for batch in &mut batches {
        batch.sort_unstable();
    }
    Ok(batches)
}

fn last(batches: &mut [Vec<usize>]) -> &mut Vec<usize> {
    let end = batches.len() - 1;
    &mut batches[end]
}
