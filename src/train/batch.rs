//! From items to passes: the order of an epoch, batches, what the loss of a batch is divided by,
//! and the packing of a pass.

use std::collections::HashMap;

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::item::{Answer, Item, units};
use crate::lm::Target;
use crate::run::SeedStream;

/// What the weighted losses of a batch are divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// The number of target tokens.
    #[default]
    Token,
    /// The sum of the weights of the target tokens.
    Weighted,
    /// The number of sequences, after the mean over each one's tokens.
    Sequence,
    /// Every position of the padded batch, as in the published code (RA).
    Reference,
}

impl Normalise {
    /// Returns, for every answer of every item, what the negative log-probability of each of its
    /// tokens is multiplied by. The factors of a batch belong together however it is cut in passes.
    ///
    /// # Source
    /// METHODS section 5; `reference` is the mean that RA's code takes over a padded batch.
    pub fn token_factors(self, items: &[&Item]) -> Vec<Vec<f64>> {
        let answers = || {
            items.iter().flat_map(|item| item.answers.iter().map(|answer| (item.weight, answer)))
        };
        let sum = |f: &dyn Fn(f64, &Answer) -> f64| -> f64 {
            answers().map(|(weight, answer)| f(weight, answer)).sum()
        };
        let targets = |answer: &Answer| answer.share * answer.num_targets() as f64;
        let divisor = match self {
            Self::Token => sum(&|_, answer| targets(answer)),
            Self::Weighted => sum(&|weight, answer| weight * targets(answer)),
            Self::Sequence => sum(&|_, answer| answer.share),
            Self::Reference => {
                let longest = answers().map(|(_, answer)| answer.ids.len()).max().unwrap_or(0);
                // The first position predicts; the last is only predicted.
                (answers().count() * longest.saturating_sub(1)) as f64
            }
        };
        let factor = |weight: f64, answer: &Answer| {
            let own = if self == Self::Sequence { answer.num_targets() as f64 } else { 1.0 };
            weight * answer.share / own / divisor
        };
        items
            .iter()
            .map(|item| item.answers.iter().map(|answer| factor(item.weight, answer)).collect())
            .collect()
    }

    /// Returns what the loss of each item is multiplied by, for losses over the labels of an item.
    pub fn item_factors(self, items: &[&Item]) -> Vec<f64> {
        let divisor = match self {
            Self::Weighted => items.iter().map(|item| item.weight).sum(),
            _ => items.len() as f64,
        };
        items.iter().map(|item| item.weight / divisor).collect()
    }
}

/// The batches of a whole training.
#[derive(Clone, Debug)]
pub struct Plan {
    units: Vec<Vec<usize>>,
    batch_size: usize,
    num_epochs: usize,
    streams: SeedStream,
    /// First step of each epoch, and the end of the last.
    begins: Vec<usize>,
}

impl Plan {
    /// Returns the plan for `num_epochs` passes over `items` in batches of `batch_size`.
    ///
    /// The items of one question stay in one batch; a batch may be smaller for that.
    pub fn new(items: &[Item], batch_size: usize, num_epochs: usize, streams: SeedStream) -> Self {
        let mut plan =
            Self { units: units(items), batch_size, num_epochs, streams, begins: vec![0] };
        for epoch in 0..num_epochs {
            let end = plan.begins[epoch] + plan.epoch(epoch).len();
            plan.begins.push(end);
        }
        plan
    }

    /// Returns the number of steps.
    pub fn num_steps(&self) -> usize {
        self.begins[self.num_epochs]
    }

    /// Returns the epoch of a step.
    pub fn epoch_of(&self, step: usize) -> usize {
        self.begins[1..].iter().filter(|&&end| end <= step).count()
    }

    /// Returns the first step of an epoch.
    pub fn begin_of(&self, epoch: usize) -> usize {
        self.begins[epoch]
    }

    /// Returns whether an epoch ends with this step.
    pub fn ends_epoch(&self, step: usize) -> bool {
        self.begins[1..].contains(&(step + 1))
    }

    /// Returns the batches of an epoch, each as places of items; units stay in one piece.
    pub fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.units.len()).collect();
        order.shuffle(&mut self.streams.rng("train/order", &[epoch as u64]));
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for unit in order {
            let unit = &self.units[unit];
            if !open.is_empty() && open.len() + unit.len() > self.batch_size {
                batches.push(std::mem::take(&mut open));
            }
            open.extend(unit);
        }
        if !open.is_empty() {
            batches.push(open);
        }
        batches
    }
}

/// A log-probability of a pass: which token of which answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Place of the item in the batch.
    pub item: usize,
    /// Place of the answer in the item.
    pub answer: usize,
}

/// One pass: trees of tokens side by side, and what is asked of them.
#[derive(Clone, Debug, Default)]
pub struct Pack {
    /// Tokens.
    pub ids: Vec<u32>,
    /// Parent of each.
    pub parents: Vec<Option<usize>>,
    /// Number within the batch and tokens of each unit.
    pub units: Vec<(u64, usize)>,
    /// The log-probabilities asked for, by row.
    pub targets: Vec<Target>,
    /// Whose they are.
    pub asked: Vec<Asked>,
}

impl Pack {
    /// Returns the passes of a batch: its units in order, as many in a pass as stay within
    /// `max_tokens` tokens and `max_sequences` answers. A unit that is larger has a pass of its own.
    pub fn of_batch(items: &[&Item], max_tokens: usize, max_sequences: usize) -> Vec<Self> {
        Self::of_share(items, max_tokens, max_sequences, (0, 1))
    }

    /// Returns the passes of one of several processes (`rank` of `size`): its units of the batch.
    ///
    /// Each unit, the longest first, goes to who has the fewest tokens so far, so that all take
    /// about the same time; together they have each unit once.
    pub fn of_share(
        items: &[&Item],
        max_tokens: usize,
        max_sequences: usize,
        (rank, size): (usize, usize),
    ) -> Vec<Self> {
        let owned: Vec<Vec<usize>> = {
            let mut units: Vec<Vec<usize>> = Vec::new();
            for (i, item) in items.iter().enumerate() {
                match units.last_mut() {
                    Some(unit) if items[unit[0]].id == item.id => unit.push(i),
                    _ => units.push(vec![i]),
                }
            }
            units
        };
        let mut packs: Vec<Self> = Vec::new();
        let mut open = Self::default();
        let mut num_open = 0;
        let singles: Vec<Self> = (0_u64..)
            .zip(&owned)
            .map(|(number, unit)| Self::of_unit(items, unit, number))
            .collect();
        let owners = owners(singles.iter().map(|single| single.ids.len()), size);
        for ((unit, single), owner) in owned.iter().zip(singles).zip(owners) {
            if owner != rank {
                continue;
            }
            let num_sequences: usize = unit.iter().map(|&i| items[i].answers.len()).sum();
            let full = open.ids.len() + single.ids.len() > max_tokens
                || num_open + num_sequences > max_sequences;
            if full && !open.ids.is_empty() {
                packs.push(std::mem::take(&mut open));
                num_open = 0;
            }
            open.append(single);
            num_open += num_sequences;
        }
        if !open.ids.is_empty() {
            packs.push(open);
        }
        packs
    }

    /// Merges the answers of a unit's items into a tree. The last token of an answer is only a
    /// target and is not run.
    fn of_unit(items: &[&Item], unit: &[usize], number: u64) -> Self {
        let mut pack = Self::default();
        let mut children: HashMap<(Option<usize>, u32), usize> = HashMap::new();
        let mut targets = Vec::new();
        for &item in unit {
            for (answer, Answer { ids, begin, .. }) in items[item].answers.iter().enumerate() {
                let mut node = None;
                for (position, &id) in ids.iter().enumerate() {
                    if let (Some(row), true) = (node, position >= *begin) {
                        targets.push((Target { row, id }, Asked { item, answer }));
                    }
                    if position + 1 == ids.len() {
                        break;
                    }
                    let next = *children.entry((node, id)).or_insert_with(|| {
                        pack.ids.push(id);
                        pack.parents.push(node);
                        pack.ids.len() - 1
                    });
                    node = Some(next);
                }
            }
        }
        targets.sort_by_key(|(target, _)| target.row);
        (pack.targets, pack.asked) = targets.into_iter().unzip();
        pack.units.push((number, pack.ids.len()));
        pack
    }

    fn append(&mut self, other: Self) {
        let base = self.ids.len();
        self.ids.extend(other.ids);
        self.parents.extend(other.parents.iter().map(|parent| parent.map(|p| p + base)));
        self.units.extend(other.units);
        let moved = |target: Target| Target { row: target.row + base, ..target };
        self.targets.extend(other.targets.into_iter().map(moved));
        self.asked.extend(other.asked);
    }
}

/// Whose of `size` processes each unit is, by their tokens.
fn owners(num_tokens: impl Iterator<Item = usize>, size: usize) -> Vec<usize> {
    let num_tokens: Vec<usize> = num_tokens.collect();
    let mut order: Vec<usize> = (0..num_tokens.len()).collect();
    order.sort_by_key(|&unit| std::cmp::Reverse(num_tokens[unit]));
    let mut loads = vec![0; size];
    let mut owners = vec![0; num_tokens.len()];
    for unit in order {
        let least = (0..size).min_by_key(|&rank| loads[rank]).unwrap_or(0);
        loads[least] += num_tokens[unit];
        owners[unit] = least;
    }
    owners
}
