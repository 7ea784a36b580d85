//! Cutting a large set into batches that each fit the model's context.
//!
//! A search calibrates each batch by itself: what it takes off is the preference for a label word behind
//! the demonstrations of that batch, which are no other batch's. The price is the chance of which examples
//! a batch holds. Simulated with scores of AUROC .95, half of the examples positive, 87.8 % are right with
//! the mean of all examples taken off; with the mean of each batch of 2, 4, 8, 16, 32, 64 and 128 it is
//! 72.5, 80.7, 84.4, 86.1, 86.9, 87.4 and 87.6 %. So no batch may be a small rest, and with 256 at most none
//! is smaller than 128 unless the context is short.

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
    /// At most this many, and no batch may be smaller for the context's sake: that is an error.
    Exactly(usize),
}

/// Tokens kept free for what joint tokenisation may add over the sum of the parts.
const SLACK_TOKENS: usize = 16;

/// Returns the examples' indices in batches, each in data order, with groups kept whole.
///
/// Where there are several, groups are dealt out in an order that `streams` shuffles: cut in file order, a
/// file that is sorted by class would give batches of one class each, whose labels predict each other
/// whatever they are called. There are as few batches as hold all, and they are about equally large: 300
/// examples at 256 are 150 and 150. A set that fits one batch is that batch.
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
    let batches = cut(&units, most, strict, &|members| need(members) <= room);
    let batches = batches.map_err(|misfit| match misfit {
        Misfit::Batch { members, num_fitting } => {
            too_long(&members, &format!("a batch of {} examples", members.len()))
                .hint(format!("set `--batch-size {num_fitting}` or less, or leave it out"))
        }
        Misfit::Smallest(members) => too_long(&members, "the smallest batch possible")
            .hint("shorten or remove the example, or use a model with a longer context"),
    })?;
    let mut batches: Vec<Vec<usize>> = batches.into_iter().map(|units| units.concat()).collect();
    for batch in &mut batches {
        batch.sort_unstable();
    }
    Ok(batches)
}

/// What does not fit the context.
#[derive(Debug, PartialEq)]
enum Misfit {
    /// A batch of the size asked for; so many fit.
    Batch { members: Vec<usize>, num_fitting: usize },
    /// Two examples, or a group.
    Smallest(Vec<usize>),
}

fn num_examples(units: &[Vec<usize>]) -> usize {
    units.iter().map(Vec::len).sum()
}

/// Returns units, in their order, in as few batches of at most `most` examples as they need, each about as
/// large as the others. A small rest would be labelled from few demonstrations, and calibrated on few.
fn cut(
    units: &[Vec<usize>],
    most: usize,
    strict: bool,
    fits: &dyn Fn(&[usize]) -> bool,
) -> Result<Vec<Vec<Vec<usize>>>, Misfit> {
    let mut num = num_examples(units).div_ceil(most).max(1);
    let mut batches = deal(units, num, (most, strict), fits)?;
    // Groups or the context need more: as many, but equal ones.
    while batches.len() > num {
        num = batches.len();
        match deal(units, num, (most, strict), fits) {
            Ok(equal) => batches = equal,
            Err(_) => break,
        }
    }
    Ok(batches)
}

/// Deals units out to `num` batches, and to more where these do not hold them.
fn deal(
    units: &[Vec<usize>],
    num: usize,
    (most, strict): (usize, bool),
    fits: &dyn Fn(&[usize]) -> bool,
) -> Result<Vec<Vec<Vec<usize>>>, Misfit> {
    let mut num_left = num_examples(units);
    let mut batches: Vec<Vec<Vec<usize>>> = Vec::new();
    let mut open: Vec<Vec<usize>> = Vec::new();
    for unit in units {
        let held = num_examples(&open);
        let share = num_left.div_ceil(num.saturating_sub(batches.len()).max(1)).min(most);
        let joined: Vec<usize> = open.iter().flatten().chain(unit).copied().collect();
        // A group larger than a batch is one, and a single example takes a partner.
        let over_count = joined.len() > share && held >= 2;
        let over_context = !fits(&joined);
        if !over_count && !over_context {
            open.push(unit.clone());
            continue;
        }
        if over_context && !over_count && strict && held >= 2 {
            return Err(Misfit::Batch { members: joined, num_fitting: held });
        }
        let fits_alone = fits(unit);
        if fits_alone && held == 1 && unit.len() >= 2 {
            // The single example waits for another partner.
            num_left -= unit.len();
            batches.push(vec![unit.clone()]);
        } else if fits_alone && held >= 2 {
            num_left -= held;
            batches.push(std::mem::replace(&mut open, vec![unit.clone()]));
        } else {
            return Err(Misfit::Smallest(if fits_alone { joined } else { unit.clone() }));
        }
    }
    batches.push(open);
    join_single(&mut batches, fits);
    match batches.last() {
        Some(last) if batches.len() > 1 && num_examples(last) == 1 => {
            let smallest = batches.iter().rev().skip(1).min_by_key(|units| num_examples(units));
            let partners = smallest.into_iter().flatten().flatten();
            Err(Misfit::Smallest(last.iter().flatten().chain(partners).copied().collect()))
        }
        _ => Ok(batches),
    }
}

/// A single example, left over at the end, has nothing to be predicted from: it joins the batch before
/// it, or is joined by a whole group of another batch that can spare one, the smallest.
fn join_single(batches: &mut Vec<Vec<Vec<usize>>>, fits: &dyn Fn(&[usize]) -> bool) {
    if batches.len() < 2 || batches.last().is_none_or(|units| num_examples(units) != 1) {
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
            let leaves_enough = num_examples(units) >= unit.len() + 2;
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
        join_single(&mut joined, &|_| true);
        assert_eq!(lens(&joined), [6]);
        let mut apart = cut();
        join_single(&mut apart, &|members| members.len() <= 5);
        assert_eq!(apart, [vec![vec![0, 1], vec![2, 3]], vec![vec![5], vec![4]]]);
        // Only groups: one of them goes as a whole.
        let mut groups = vec![vec![vec![0, 1], vec![2, 3]], vec![vec![5]]];
        join_single(&mut groups, &|members| members.len() <= 4);
        assert_eq!(groups, [vec![vec![2, 3]], vec![vec![5], vec![0, 1]]]);
        // Nothing is left over.
        let mut even = vec![vec![vec![0, 1]], vec![vec![2, 3]]];
        join_single(&mut even, &|_| true);
        assert_eq!(lens(&even), [2, 2]);
    }

    /// Units of so many examples each, numbered on.
    fn units(sizes: &[usize]) -> Vec<Vec<usize>> {
        let mut next = 0..;
        sizes.iter().map(|&size| next.by_ref().take(size).collect()).collect()
    }

    #[test]
    fn batches_are_about_equally_large() {
        let singles = |num: usize, most: usize| {
            lens(&cut(&units(&vec![1; num]), most, true, &|_| true).unwrap())
        };
        assert_eq!(singles(256, 256), [256]);
        assert_eq!(singles(257, 256), [129, 128]);
        assert_eq!(singles(300, 256), [150, 150]);
        assert_eq!(singles(513, 256), [171, 171, 171]);
        assert_eq!(singles(10, 4), [4, 3, 3]);
        assert_eq!(singles(5, 2), [2, 3]);
        assert_eq!(singles(1, 2), [1]);
        // Groups stay whole: with 3 to a group a batch of 4 has one.
        assert_eq!(lens(&cut(&units(&[3; 5]), 4, true, &|_| true).unwrap()), [3; 5]);
        assert_eq!(lens(&cut(&units(&[2; 9]), 8, true, &|_| true).unwrap()), [6, 6, 6]);
        assert_eq!(lens(&cut(&units(&[7, 1, 1]), 4, true, &|_| true).unwrap()), [7, 2]);
        // Nine fit the context: 30 are four batches, of eight and seven.
        let fitting = cut(&units(&[1; 30]), 256, false, &|members| members.len() <= 9).unwrap();
        assert_eq!(lens(&fitting), [8, 8, 7, 7]);
    }

    #[test]
    fn a_single_example_finds_a_partner_wherever_it_stands() {
        let at_most = |num: usize| move |members: &[usize]| members.len() <= num;
        // However small batches are asked for, it goes with a group.
        for sizes in [[1, 2, 2], [2, 1, 2], [2, 2, 1]] {
            let found = lens(&cut(&units(&sizes), 2, true, &at_most(3)).unwrap());
            assert_eq!(found.iter().copied().max(), Some(3), "{sizes:?}: {found:?}");
            assert_eq!(found.iter().sum::<usize>(), 5);
        }
        // Where groups leave no room it waits for another single one.
        assert_eq!(lens(&cut(&units(&[1, 2, 1]), 9, false, &at_most(2)).unwrap()), [2, 2]);
        // Where there is none it is an error, and so is a group that is too long.
        for sizes in [[1, 2, 2], [2, 1, 2], [2, 2, 1]] {
            let found = cut(&units(&sizes), 9, false, &at_most(2));
            assert!(matches!(&found, Err(Misfit::Smallest(m)) if m.len() == 3), "{found:?}");
        }
        let found = cut(&units(&[1, 3]), 9, false, &at_most(2));
        assert_eq!(found, Err(Misfit::Smallest(vec![1, 2, 3])));
    }

    #[test]
    fn a_batch_of_the_size_asked_for_must_fit() {
        let found = cut(&units(&[1; 9]), 4, true, &|members| members.len() <= 2);
        assert_eq!(found, Err(Misfit::Batch { members: vec![0, 1, 2], num_fitting: 2 }));
        let found = cut(&units(&[1; 9]), 4, false, &|members| members.len() <= 2);
        assert_eq!(found, Err(Misfit::Smallest(vec![8, 6, 7])));
    }
}
