//! Attention without masks: what a pass sees, as calls of a kernel for sequences of various lengths.
//!
//! Such a kernel computes many pairs of queries and keys that follow each other in two packed tensors,
//! in one launch and without a mask. Three kinds of calls say what a tree of tokens sees
//! behind a path:
//!
//! - its unforked runs, each a sequence: causal, over their own keys behind those of their ancestors in
//!   the same small tree, which are gathered;
//! - for each level of long shared runs, all queries below over that run ([`super::cut`]);
//! - all queries over the path.
//!
//! Gathering the keys of ancestors copies them once a run, and a call for a level copies queries and
//! merges results; [`worth_a_call`] weighs one against the other. In a sliding window every run has one
//! sequence with what it sees, path included, in the order of positions, so that the kernel's own window
//! says the rest; the end of the path that all queries see may be apart.
//!
//! Numbers only, made once a pass and window, not once a layer; [`super::varlen`] runs them.

use std::ops::Range;

use tch::Kind;

use super::config::LmConfig;
use super::cut::{Branch, Cut, runs};

/// Keys that are gathered for each more call of a level: as many take as long to copy as a call's
/// launches and merging, 50 us at 4 TB/s and 4 KiB a key and value.
const KEYS_OF_A_CALL: usize = 20_000;
/// Gathered keys that take as long as a query of a call for a level, which is copied and merged.
const KEYS_OF_A_QUERY: usize = 6;

/// Tokens of a run below which trees of prompts seldom fork, for estimates.
const SHORT_RUN: u64 = 8;

/// Returns what attention of a pass takes on a GPU in bytes: for each token, and whatever the pass.
pub(crate) fn attention_bytes(config: &LmConfig, kind: Kind) -> (u64, u64) {
    let element = kind.elt_size_in_bytes() as u64;
    let heads = (config.num_attention_heads * config.head_dim) as u64;
    let key_and_value = 2 * (config.num_key_value_heads * config.head_dim) as u64 * element;
    // Queries of a level, its result, and both results in f32 while they are merged.
    let merged = heads * (2 * element + 3 * 4);
    let window = config.layers.iter().filter_map(|layer| layer.sliding_window).max();
    let gathered = KEYS_OF_A_QUERY as u64 + window.unwrap_or(0) as u64 / SHORT_RUN;
    // Scores and shares of products by parts, and the block before them.
    let scores = if kind == Kind::Float { (3 * 4) << 26 } else { 0 };
    (merged + gathered * key_and_value, KEYS_OF_A_CALL as u64 * key_and_value + scores)
}

/// One call of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// The new tokens that are its queries, each once; `None`: all, in their order.
    pub(super) queries: Option<Vec<usize>>,
    pub(super) keys: Keys,
    /// Where its sequences begin and end among the queries, from 0 on.
    pub(super) query_bounds: Vec<usize>,
    /// As many among the keys.
    pub(super) key_bounds: Vec<usize>,
    /// A sequence's last query sees up to its last key, and each before it one key less.
    pub(super) causal: bool,
    /// How many keys before that one a query sees; `None`: all.
    pub(super) left: Option<usize>,
}

/// Slots of the cache: the path's and behind them the new tokens'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// So many that follow each other.
    Run {
        first: usize,
        len: usize,
    },
    Slots(Vec<usize>),
}

impl Keys {
    fn of(slots: Vec<usize>) -> Self {
        let first = slots.first().copied().unwrap_or(0);
        match slots.iter().enumerate().all(|(i, &slot)| slot == first + i) {
            true => Self::Run { first, len: slots.len() },
            false => Self::Slots(slots),
        }
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Run { len, .. } => *len,
            Self::Slots(slots) => slots.len(),
        }
    }
}

/// What the new tokens of a pass are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree<'a> {
    /// The parent of each among them.
    pub(super) parents: &'a [Option<usize>],
    /// The position of each.
    pub(super) positions: &'a [usize],
    /// Tokens of the path.
    pub(super) past: usize,
}

/// Returns whether a tree is better cut behind its first run on a GPU.
pub(super) fn worth_a_call(branch: &Branch<'_>) -> bool {
    let gathered = branch.head.len() * branch.runs_below();
    gathered > KEYS_OF_A_CALL + KEYS_OF_A_QUERY * branch.num_below()
}

impl Tree<'_> {
    /// Returns the calls for what the tokens see within `window` positions; the first has all queries,
    /// and every sequence with queries has keys.
    pub(super) fn calls(
        &self,
        window: Option<usize>,
        worth: &dyn Fn(&Branch<'_>) -> bool,
    ) -> Vec<Call> {
        let &Self { parents, past, .. } = self;
        let num = parents.len();
        let whole = runs(parents, 0..num);
        // A single run sees path and own keys in one stretch.
        if window.is_some() || whole.len() == 1 {
            return self.in_window(window, whole, worth);
        }
        let cut = Cut::new(parents, worth);
        let own = cut.own.iter().flat_map(|own| {
            let begin = own.tokens.start;
            runs(parents, own.tokens.clone()).into_iter().map(move |run| {
                let before = self.ancestors(run.start, begin, 0);
                let keys = before.chain(run.clone()).map(|token| past + token).collect();
                (run.len(), keys)
            })
        });
        let mut calls = vec![causal(own, None)];
        let levels = cut.shared.iter().map(|shared| shared.level + 1).max().unwrap_or(0);
        for level in 0..levels {
            let (mut queries, mut slots) = (Vec::new(), Vec::new());
            let (mut query_bounds, mut key_bounds) = (vec![0], vec![0]);
            for shared in cut.shared.iter().filter(|shared| shared.level == level) {
                queries.extend(shared.queries.clone());
                slots.extend(shared.keys.clone().map(|token| past + token));
                query_bounds.push(queries.len());
                key_bounds.push(slots.len());
            }
            let queries = Some(queries);
            let (causal, left) = (false, None);
            calls.push(Call {
                queries,
                keys: Keys::of(slots),
                query_bounds,
                key_bounds,
                causal,
                left,
            });
        }
        if past > 0 {
            calls.push(self.of_path(0));
        }
        calls
    }

    /// All queries over the path from a slot on.
    fn of_path(&self, first: usize) -> Call {
        let len = self.past - first;
        Call {
            queries: None,
            keys: Keys::Run { first, len },
            query_bounds: vec![0, self.parents.len()],
            key_bounds: vec![0, len],
            causal: false,
            left: None,
        }
    }

    /// The calls for `runs` in a window: a sequence for each with the keys that it sees, and if that is
    /// better all queries over the end of the path, which all of them see.
    ///
    /// Without that end the keys before it are so much nearer to the queries, and the kernel's window is
    /// so much smaller; it still reaches over all new tokens, as the end is no longer than the window
    /// without them.
    fn in_window(
        &self,
        window: Option<usize>,
        runs: Vec<Range<usize>>,
        worth: &dyn Fn(&Branch<'_>) -> bool,
    ) -> Vec<Call> {
        let &Self { parents, positions, past } = self;
        let oldest =
            |at: usize| window.map_or(0, |window| (positions[at] + 1).saturating_sub(window));
        let depth = positions.iter().max().map_or(0, |last| last + 1 - past);
        let end = window.map_or(0, |window| window.saturating_sub(depth).min(past));
        let is_apart = runs.len() > 1 && end > 0 && worth(&Branch::behind_path(end, parents));
        let begin = if is_apart { past - end } else { past };
        let sequences = runs.into_iter().map(|run| {
            let oldest = oldest(run.start);
            let mut keys: Vec<usize> = (oldest.min(begin)..begin).collect();
            keys.extend(self.ancestors(run.start, 0, oldest).map(|a| past + a));
            keys.extend(run.clone().map(|token| past + token));
            (run.len(), keys)
        });
        let left = window.map(|window| window - 1 - (past - begin));
        let mut calls = vec![causal(sequences, left)];
        if is_apart {
            calls.push(self.of_path(begin));
        }
        calls
    }

    /// The ancestors of a token among those from `begin` on and at positions from `oldest` on, the
    /// first of them first.
    fn ancestors(
        &self,
        token: usize,
        begin: usize,
        oldest: usize,
    ) -> impl Iterator<Item = usize> + use<> {
        let mut found = Vec::new();
        let mut next = self.parents[token];
        while let Some(at) = next.filter(|&at| at >= begin && self.positions[at] >= oldest) {
            found.push(at);
            next = self.parents[at];
        }
        found.into_iter().rev()
    }
}

/// The call for runs that stand in their order, each with its number of queries and its keys, the last
/// of them its own.
fn causal(sequences: impl Iterator<Item = (usize, Vec<usize>)>, left: Option<usize>) -> Call {
    let (mut slots, mut query_bounds, mut key_bounds) = (Vec::new(), vec![0], vec![0]);
    let mut num = 0;
    for (len, keys) in sequences {
        num += len;
        slots.extend(keys);
        query_bounds.push(num);
        key_bounds.push(slots.len());
    }
    Call { queries: None, keys: Keys::of(slots), query_bounds, key_bounds, causal: true, left }
}

/// Returns the call for one new token of each of several sequences that lie in rows of `capacity` slots,
/// each from its place among `froms` to before `end`.
///
/// What lies between is sequences of keys without a query.
pub(super) fn of_batch(froms: &[usize], end: usize, capacity: usize) -> Call {
    let (mut query_bounds, mut key_bounds) = (vec![0], vec![0]);
    for (row, from) in froms.iter().enumerate() {
        query_bounds.extend([row, row + 1]);
        key_bounds.extend([row * capacity + from, row * capacity + end]);
    }
    let len = key_bounds.last().copied().unwrap_or(0);
    Call {
        queries: None,
        keys: Keys::Run { first: 0, len },
        query_bounds,
        key_bounds,
        causal: false,
        left: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds_and_keys(call: &Call) -> (Vec<usize>, Vec<usize>, Keys) {
        (call.query_bounds.clone(), call.key_bounds.clone(), call.keys.clone())
    }

    #[test]
    fn one_run_behind_a_path_is_one_stretch() {
        let tree = Tree { parents: &[None, Some(0)], positions: &[3, 4], past: 3 };
        let calls = tree.calls(None, &|_| true);
        assert_eq!(calls.len(), 1);
        let keys = Keys::Run { first: 0, len: 5 };
        assert_eq!(bounds_and_keys(&calls[0]), (vec![0, 2], vec![0, 5], keys));
        assert!(calls[0].causal);
        // In a window of 2 the first of them sees one token before it.
        let calls = tree.calls(Some(2), &|_| true);
        let keys = Keys::Run { first: 2, len: 3 };
        assert_eq!(bounds_and_keys(&calls[0]), (vec![0, 2], vec![0, 3], keys));
        assert_eq!(calls[0].left, Some(1));
    }

    #[test]
    fn the_end_of_a_path_in_a_window_is_apart() {
        // 0 and 1 behind it, and 2 beside 1: positions 9, 10, 10 behind a path of 9, in a window of 5.
        let parents = [None, Some(0), Some(0)];
        let tree = Tree { parents: &parents, positions: &[9, 10, 10], past: 9 };
        // The first run sees from 5 on, its last token from 6 on, and so does the other: 6 to 8 are seen
        // by all.
        let calls = tree.calls(Some(5), &|_| true);
        let keys = Keys::Slots(vec![5, 9, 10, 9, 11]);
        assert_eq!(bounds_and_keys(&calls[0]), (vec![0, 2, 3], vec![0, 3, 5], keys));
        assert_eq!((calls[0].causal, calls[0].left), (true, Some(1)));
        let keys = Keys::Run { first: 6, len: 3 };
        assert_eq!(bounds_and_keys(&calls[1]), (vec![0, 3], vec![0, 3], keys));
        let together = tree.calls(Some(5), &|_| false);
        assert_eq!(together.len(), 1);
        assert_eq!(together[0].keys, Keys::Slots(vec![5, 6, 7, 8, 9, 10, 6, 7, 8, 9, 11]));
    }

    #[test]
    fn sequences_side_by_side_gather_nothing() {
        let parents = [None, Some(0), None, Some(2), Some(3)];
        let tree = Tree { parents: &parents, positions: &[0, 1, 0, 1, 2], past: 0 };
        let calls = tree.calls(None, &|_| true);
        let keys = Keys::Run { first: 0, len: 5 };
        assert_eq!(calls.len(), 1);
        assert_eq!(bounds_and_keys(&calls[0]), (vec![0, 2, 5], vec![0, 2, 5], keys));
    }

    #[test]
    fn a_fork_is_gathered_or_cut() {
        // 0 1 with the ends 2 and 3 4, behind a path of 7.
        let parents = [None, Some(0), Some(1), Some(1), Some(3)];
        let tree = Tree { parents: &parents, positions: &[7, 8, 9, 9, 10], past: 7 };
        let gathered = tree.calls(None, &|_| false);
        assert_eq!(gathered.len(), 2);
        let keys = Keys::Slots(vec![7, 8, 9, 7, 8, 10, 11]);
        assert_eq!(bounds_and_keys(&gathered[0]), (vec![0, 3, 5], vec![0, 3, 7], keys));
        let path = Keys::Run { first: 0, len: 7 };
        assert_eq!(bounds_and_keys(&gathered[1]), (vec![0, 5], vec![0, 7], path.clone()));
        let cut = tree.calls(None, &|_| true);
        assert_eq!(cut.len(), 3);
        let keys = Keys::Run { first: 7, len: 5 };
        assert_eq!(bounds_and_keys(&cut[0]), (vec![0, 2, 3, 5], vec![0, 2, 3, 5], keys));
        let keys = Keys::Run { first: 7, len: 2 };
        assert_eq!(bounds_and_keys(&cut[1]), (vec![0, 3], vec![0, 2], keys));
        assert_eq!(cut[1].queries, Some(vec![2, 3, 4]));
        assert_eq!(bounds_and_keys(&cut[2]).2, path);
    }

    #[test]
    fn a_long_prompt_with_many_ends_is_cut_and_a_short_one_is_not() {
        let fork = |head: usize, ends: usize, len: usize| {
            let mut parents: Vec<Option<usize>> = (0..head).map(|i| i.checked_sub(1)).collect();
            for _ in 0..ends {
                let mut parent = head - 1;
                for _ in 0..len {
                    parents.push(Some(parent));
                    parent = parents.len() - 1;
                }
            }
            Cut::new(&parents, &worth_a_call).shared.len()
        };
        assert_eq!(fork(1500, 64, 40), 1);
        assert_eq!(fork(60, 4, 2), 0);
    }

    #[test]
    fn rows_of_a_batch_have_gaps_without_queries() {
        let call = of_batch(&[2, 0], 4, 6);
        assert_eq!(call.query_bounds, [0, 0, 1, 1, 2]);
        assert_eq!(call.key_bounds, [0, 2, 4, 6, 10]);
        assert_eq!(call.keys, Keys::Run { first: 0, len: 10 });
    }
}
