//! The tokens of a pass cut into what each sees: its own run or small tree, and runs that it descends
//! from. Numbers only; [`super::pieces`] and [`super::calls`] make attention of them.
//!
//! The tokens of an unforked run see each other causally, and all that descend from the run see it
//! whole. In depth-first order descendants stand together, so each is a rectangle of queries and keys:
//!
//! ```text
//!               keys:  path    run A   B    C
//!     queries:  A      whole   causal
//!               B      whole   whole   causal
//!               C      whole   whole        causal
//! ```

use std::ops::Range;

use super::masks::parts;

/// Tokens cut into what each sees, but for the path before them.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// What tokens see within their own run or small tree, in their order; each token is of one.
    pub(super) own: Vec<Own>,
    /// What whole subtrees see of the runs that they descend from, from the first fork on.
    pub(super) shared: Vec<Shared>,
}

/// Tokens that see their ancestors among themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) tokens: Range<usize>,
    /// Whether each follows the one before it.
    pub(super) is_chain: bool,
}

/// Tokens that all see the same tokens before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
    /// How many such runs the queries descend from besides; the queries of a level are disjoint.
    pub(super) level: usize,
}

/// A tree that may be cut behind its first run.
#[derive(Debug)]
pub(super) struct Branch<'a> {
    parents: &'a [Option<usize>],
    /// The run before its first fork.
    pub(super) head: Range<usize>,
    /// What stands behind, in runs and trees that see nothing of each other.
    pub(super) below: Vec<Range<usize>>,
}

impl<'a> Branch<'a> {
    /// Returns a path of `len` tokens before all tokens with these parents.
    pub(super) fn behind_path(len: usize, parents: &'a [Option<usize>]) -> Self {
        Self { parents, head: 0..len, below: std::iter::once(0..parents.len()).collect() }
    }

    /// The tokens behind the head.
    pub(super) fn num_below(&self) -> usize {
        self.below.iter().map(Range::len).sum()
    }

    /// The unforked runs behind the head.
    pub(super) fn runs_below(&self) -> usize {
        self.below.iter().map(|part| runs(self.parents, part.clone()).len()).sum()
    }
}

impl Cut {
    /// Returns the cut of tokens with these parents, each before its children; a tree is cut behind its
    /// first run where `worth` says so.
    pub(super) fn new(parents: &[Option<usize>], worth: &dyn Fn(&Branch<'_>) -> bool) -> Self {
        let mut cut = Self::default();
        for run in parts_of(parents, 0..parents.len()) {
            cut.add(parents, run, 0, worth);
        }
        cut.own.sort_by_key(|own| own.tokens.start);
        cut
    }

    fn add(
        &mut self,
        parents: &[Option<usize>],
        run: Range<usize>,
        level: usize,
        worth: &dyn Fn(&Branch<'_>) -> bool,
    ) {
        let head = head(parents, &run);
        let is_chain = head.end == run.end;
        // Whether all descend from the first token.
        let mut others = parents[run.clone()].iter().skip(1);
        let is_tree = others.all(|parent| parent.is_some_and(|parent| parent >= run.start));
        if !is_chain && is_tree {
            let below = parts_of(parents, head.end..run.end);
            let branch = Branch { parents, head: head.clone(), below };
            if worth(&branch) {
                self.own.push(Own { tokens: head.clone(), is_chain: true });
                self.shared.push(Shared { queries: head.end..run.end, keys: head, level });
                for part in branch.below {
                    self.add(parents, part, level + 1, worth);
                }
                return;
            }
        }
        self.own.push(Own { tokens: run, is_chain });
    }
}

/// Returns the unforked runs of `range`: tokens that each follow the one before them.
pub(super) fn runs(parents: &[Option<usize>], range: Range<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for i in range {
        match runs.last_mut() {
            Some(run) if parents[i] == i.checked_sub(1) => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs
}

/// The tokens of a run before its first fork.
fn head(parents: &[Option<usize>], run: &Range<usize>) -> Range<usize> {
    let follows = |i: &usize| parents[*i] == i.checked_sub(1);
    let mut end = run.start + (run.start + 1..run.end).take_while(follows).count() + 1;
    // A fork within the chain ends the head there.
    let forks = (end..run.end).filter_map(|i| parents[i]).filter(|p| run.contains(p));
    for parent in forks {
        end = end.min(parent + 1);
    }
    run.start..end
}

/// The tokens of `range` cut in runs that see nothing of each other; what lies before is forgotten.
fn parts_of(parents: &[Option<usize>], range: Range<usize>) -> Vec<Range<usize>> {
    let within: Vec<Option<usize>> = parents[range.clone()]
        .iter()
        .map(|parent| parent.and_then(|parent| parent.checked_sub(range.start)))
        .collect();
    let moved = |part: Range<usize>| part.start + range.start..part.end + range.start;
    parts(&within).into_iter().map(moved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_cut_by_levels() {
        // Run 0 1 | 2 3 | 4, 5 6 below 3 | 7 below 1.
        let parents = [None, Some(0), Some(1), Some(2), Some(3), Some(3), Some(5), Some(1)];
        let cut = Cut::new(&parents, &|_| true);
        let own: Vec<Range<usize>> = cut.own.iter().map(|own| own.tokens.clone()).collect();
        assert_eq!(own, [0..2, 2..4, 4..5, 5..7, 7..8]);
        assert!(cut.own.iter().all(|own| own.is_chain));
        let expected = [
            Shared { queries: 2..8, keys: 0..2, level: 0 },
            Shared { queries: 4..7, keys: 2..4, level: 1 },
        ];
        assert_eq!(cut.shared, expected);
        let whole = Cut::new(&parents, &|_| false);
        assert_eq!(whole.own, [Own { tokens: 0..8, is_chain: false }]);
        assert_eq!(runs(&parents, 0..8), [0..5, 5..7, 7..8]);
    }

    #[test]
    fn a_branch_counts_what_is_below() {
        let parents = [None, Some(0), Some(1), Some(0), Some(3), Some(3)];
        let cut = Cut::new(&parents, &|branch| {
            if branch.head == (0..1) {
                assert_eq!((branch.num_below(), branch.runs_below()), (5, 3));
            }
            true
        });
        assert_eq!(cut.shared.len(), 2);
    }
}
