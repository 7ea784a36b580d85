//! Cutting a large set into batches that each fit the model's context.

use std::collections::HashMap;

use rand::seq::SliceRandom;

use crate::data::Example;
use crate::error::{Error, ErrorKind, Result};
use crate::prompt::PromptFormat;
use crate::run::SeedStream;
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

/// Returns the examples' indices in batches, each in data order, with groups kept whole.
///
/// Where there are several, groups are dealt out in an order that `streams` shuffles: cut in file order, a
/// file that is sorted by class would give batches of one class each, whose labels predict each other
/// whatever they are called. A set that fits one batch is that batch.
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
    streams: &SeedStream,
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
    units.shuffle(&mut streams.rng("label/batches", &[]));
    // A batch is its groups.
    let mut batches: Vec<Vec<Vec<usize>>> = vec![Vec::new()];
    for unit in units {
        let open = batches.len() - 1;
        let mut joined = batches[open].concat();
        let held = joined.len();
        joined.extend(&unit);
        let over_count = joined.len() > most && held > 0;
        let over_context = need(&joined) > room;
        if !over_count && !over_context {
            batches[open].push(unit);
            continue;
        }
        if over_context && !over_count && strict {
            return Err(too_long(&joined, &format!("a batch of {most} examples"))
                .hint(format!("set `--batch-size {}` or less, or leave it out", held.max(2))));
        }
        if held < 2 || need(&unit) > room {
            return Err(too_long(&joined, "the smallest batch possible")
                .hint("shorten or remove the example, or use a model with a longer context"));
        }
        batches.push(vec![unit]);
    }
    join_single(&mut batches, |members| need(members) <= room);
    let mut batches: Vec<Vec<usize>> = batches.into_iter().map(|units| units.concat()).collect();
    for batch in &mut batches {
        batch.sort_unstable();
    }
    Ok(batches)
}

/// A single example, left over at the end, has nothing to be predicted from: it joins the batch before
/// it, or is joined by a whole group of another batch that can spare one, the smallest.
fn join_single(batches: &mut Vec<Vec<Vec<usize>>>, fits: impl Fn(&[usize]) -> bool) {
    let len = |units: &[Vec<usize>]| units.iter().map(Vec::len).sum::<usize>();
    if batches.len() < 2 || batches.last().is_none_or(|units| len(units) != 1) {
        return;
    }
    let Some(single) = batches.pop() else { return };
    let end = batches.len() - 1;
    let mut joined = batches[end].concat();
    joined.extend(&single[0]);
    if fits(&joined) {
        return batches[end].extend(single);
    }
    let mut spare: Option<(usize, usize)> = None;
    for (from, units) in batches.iter().enumerate() {
        for (place, unit) in units.iter().enumerate() {
            let is_smaller =
                spare.is_none_or(|(from, place)| unit.len() < batches[from][place].len());
            let leaves_enough = len(units) >= unit.len() + 2;
            if is_smaller && leaves_enough && fits(&[&single[0][..], unit].concat()) {
                spare = Some((from, place));
            }
        }
    }
    let moved = spare.map(|(from, place)| batches[from].remove(place));
    batches.push(single.into_iter().chain(moved).collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(batches: &[Vec<Vec<usize>>]) -> Vec<usize> {
        batches.iter().map(|units| units.iter().map(Vec::len).sum()).collect()
    }

    #[test]
    fn a_left_over_example_takes_no_group_apart() {
        // Two groups of two, a single one that can be spared, and one left over.
        let cut = || vec![vec![vec![0, 1], vec![2, 3], vec![4]], vec![vec![5]]];
        let mut joined = cut();
        join_single(&mut joined, |_| true);
        assert_eq!(lens(&joined), [6]);
        let mut apart = cut();
        join_single(&mut apart, |members| members.len() <= 5);
        assert_eq!(apart, [vec![vec![0, 1], vec![2, 3]], vec![vec![5], vec![4]]]);
        // Only groups: one of them goes as a whole.
        let mut groups = vec![vec![vec![0, 1], vec![2, 3]], vec![vec![5]]];
        join_single(&mut groups, |members| members.len() <= 4);
        assert_eq!(groups, [vec![vec![2, 3]], vec![vec![5], vec![0, 1]]]);
        // Nothing is left over.
        let mut even = vec![vec![vec![0, 1]], vec![vec![2, 3]]];
        join_single(&mut even, |_| true);
        assert_eq!(lens(&even), [2, 2]);
    }
}
