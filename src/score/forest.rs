//! Token sequences with shared beginnings, merged so that every shared token stands once, and the
//! plan by which a decoder runs them.

use std::ops::Range;

/// One wanted log-probability: of `target` after the token that carries the ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) target: u32,
    pub(super) question: usize,
    pub(super) label: usize,
}

#[derive(Debug, Default)]
struct Node {
    tokens: Vec<u32>,
    /// Asks by token offset within the node, in order of insertion.
    asks: Vec<(usize, Ask)>,
    children: Vec<usize>,
}

/// A radix tree of token sequences.
#[derive(Debug)]
pub(super) struct Forest {
    nodes: Vec<Node>,
}

/// One forward pass of a [`Plan`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Tokens of the cached path to keep before the pass.
    pub(super) keep: usize,
    pub(super) ids: Vec<u32>,
    /// Parent of each token among the pass's tokens.
    pub(super) parents: Vec<Option<usize>>,
    /// Asks by token of the pass.
    pub(super) asks: Vec<(usize, Ask)>,
}

const ROOT: usize = 0;

impl Forest {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::default()] }
    }

    /// Adds a sequence and asks for the log-probability of each of its tokens in `label_range`.
    ///
    /// The last token is only a target and is not run. `label_range` must not begin at 0: the first
    /// token of a sequence has nothing before it.
    pub(super) fn insert(
        &mut self,
        tokens: &[u32],
        label_range: Range<usize>,
        question: usize,
        label: usize,
    ) {
        debug_assert!(label_range.start > 0 && label_range.end <= tokens.len());
        let run = &tokens[..label_range.end - 1];
        let (mut node, mut done) = (ROOT, 0);
        while done < run.len() {
            let next = run[done];
            let child = self.nodes[node]
                .children
                .iter()
                .copied()
                .find(|&c| self.nodes[c].tokens[0] == next);
            let start = done;
            node = match child {
                None => {
                    let new = Node { tokens: run[done..].to_vec(), ..Node::default() };
                    self.nodes.push(new);
                    let new = self.nodes.len() - 1;
                    self.nodes[node].children.push(new);
                    done = run.len();
                    new
                }
                Some(child) => {
                    let held = &self.nodes[child].tokens;
                    let same = held.iter().zip(&run[done..]).take_while(|(a, b)| a == b).count();
                    if same < held.len() {
                        self.split(child, same);
                    }
                    done += same;
                    child
                }
            };
            for position in label_range.clone() {
                let before = position - 1;
                if (start..done).contains(&before) {
                    let ask = Ask { target: tokens[position], question, label };
                    self.nodes[node].asks.push((before - start, ask));
                }
            }
        }
    }

    /// Cuts a node in two behind its first `at` tokens; the first part keeps the number.
    fn split(&mut self, node: usize, at: usize) {
        let lower_index = self.nodes.len();
        let upper = &mut self.nodes[node];
        let mut lower = Node { tokens: upper.tokens.split_off(at), ..Node::default() };
        lower.children = std::mem::replace(&mut upper.children, vec![lower_index]);
        let (kept, moved) = upper.asks.drain(..).partition(|(offset, _)| *offset < at);
        upper.asks = kept;
        lower.asks = moved;
        for (offset, _) in &mut lower.asks {
            *offset -= at;
        }
        self.nodes.push(lower);
    }

    /// Returns the number of tokens of the tree: what one pass over it computes.
    pub(super) fn num_tokens(&self) -> usize {
        self.nodes.iter().map(|node| node.tokens.len()).sum()
    }

    /// Returns the number of tokens of the longest path from the root.
    pub(super) fn longest_path(&self) -> usize {
        let mut longest = 0;
        let mut stack = vec![(ROOT, 0)];
        while let Some((node, before)) = stack.pop() {
            let depth = before + self.nodes[node].tokens.len();
            longest = longest.max(depth);
            stack.extend(self.nodes[node].children.iter().map(|&child| (child, depth)));
        }
        longest
    }

    /// Returns the passes that run every node once, depth first, with whole subtrees and siblings
    /// packed together up to `max_pack` tokens.
    ///
    /// Only the path to the current place is ever held, so memory is that of the longest path plus
    /// one pack, whatever the size of the tree.
    pub(super) fn plan(&self, max_pack: usize) -> Vec<Step> {
        let mut sizes = vec![0; self.nodes.len()];
        for &node in self.preorder().iter().rev() {
            sizes[node] = self.nodes[node].tokens.len()
                + self.nodes[node].children.iter().map(|&c| sizes[c]).sum::<usize>();
        }
        let mut steps = Vec::new();
        // What is left to do: siblings below a path of `depth` tokens.
        let mut todo = vec![(0, self.nodes[ROOT].children.clone())];
        while let Some((depth, siblings)) = todo.pop() {
            let mut pack: Vec<usize> = Vec::new();
            let mut packed = 0;
            let mut large = Vec::new();
            for child in siblings {
                if sizes[child] > max_pack {
                    large.push(child);
                    continue;
                }
                if packed + sizes[child] > max_pack {
                    steps.push(self.pack(depth, &pack));
                    pack.clear();
                    packed = 0;
                }
                pack.push(child);
                packed += sizes[child];
            }
            if !pack.is_empty() {
                steps.push(self.pack(depth, &pack));
            }
            // A large subtree needs the path held: one after the other. All but the first are put
            // off; each begins with its own node, so the path is right when its turn comes.
            for &child in large.iter().skip(1).rev() {
                todo.push((depth, vec![child]));
            }
            if let Some(&child) = large.first() {
                let node = &self.nodes[child];
                for (i, chunk) in node.tokens.chunks(max_pack).enumerate() {
                    let from = i * max_pack;
                    let mine = from..from + chunk.len();
                    steps.push(Step {
                        keep: depth + from,
                        ids: chunk.to_vec(),
                        parents: (0..chunk.len()).map(|t| t.checked_sub(1)).collect(),
                        asks: node
                            .asks
                            .iter()
                            .filter(|(offset, _)| mine.contains(offset))
                            .map(|(offset, ask)| (offset - from, *ask))
                            .collect(),
                    });
                }
                if !node.children.is_empty() {
                    todo.push((depth + node.tokens.len(), node.children.clone()));
                }
            }
        }
        steps
    }

    fn pack(&self, keep: usize, roots: &[usize]) -> Step {
        let mut step = Step { keep, ids: Vec::new(), parents: Vec::new(), asks: Vec::new() };
        let mut stack: Vec<(usize, Option<usize>)> =
            roots.iter().rev().map(|&root| (root, None)).collect();
        while let Some((index, mut parent)) = stack.pop() {
            let node = &self.nodes[index];
            let first = step.ids.len();
            for &token in &node.tokens {
                step.ids.push(token);
                step.parents.push(parent);
                parent = Some(step.ids.len() - 1);
            }
            step.asks.extend(node.asks.iter().map(|(offset, ask)| (first + offset, *ask)));
            stack.extend(node.children.iter().rev().map(|&child| (child, parent)));
        }
        step
    }

    fn preorder(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut stack = vec![ROOT];
        while let Some(node) = stack.pop() {
            order.push(node);
            stack.extend(self.nodes[node].children.iter().rev());
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_beginning_stands_once() {
        let mut forest = Forest::new();
        forest.insert(&[1, 2, 3, 9], 3..4, 0, 0);
        forest.insert(&[1, 2, 3, 8], 3..4, 0, 1);
        forest.insert(&[1, 2, 4, 9], 3..4, 1, 0);
        // 1 2 | 3 | 4: the label tokens are targets only.
        assert_eq!(forest.num_tokens(), 4);
        let steps = forest.plan(64);
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].ids, [1, 2, 3, 4]);
        assert_eq!(steps[0].parents, [None, Some(0), Some(1), Some(1)]);
        let wanted: Vec<_> =
            steps[0].asks.iter().map(|(t, a)| (*t, a.target, a.question, a.label)).collect();
        assert_eq!(wanted, [(2, 9, 0, 0), (2, 8, 0, 1), (3, 9, 1, 0)]);
    }

    #[test]
    fn labels_of_several_tokens_ask_after_each() {
        let mut forest = Forest::new();
        forest.insert(&[1, 5, 6, 7], 1..4, 0, 0);
        forest.insert(&[1, 5, 8], 1..3, 0, 1);
        let steps = forest.plan(64);
        assert_eq!(steps[0].ids, [1, 5, 6]);
        let mut wanted: Vec<_> =
            steps[0].asks.iter().map(|(t, a)| (*t, a.target, a.label)).collect();
        wanted.sort_unstable();
        assert_eq!(wanted, [(0, 5, 0), (0, 5, 1), (1, 6, 0), (1, 8, 1), (2, 7, 0)]);
    }

    /// Runs the plan on a stack of tokens and returns, for every ask, the path it is asked after.
    fn replay(forest: &Forest, max_pack: usize) -> Vec<(usize, usize, u32, Vec<u32>)> {
        let mut stack: Vec<u32> = Vec::new();
        let mut out = Vec::new();
        for step in forest.plan(max_pack) {
            assert!(step.ids.len() <= max_pack && step.keep <= stack.len());
            stack.truncate(step.keep);
            for &(token, ask) in &step.asks {
                let mut path = Vec::new();
                let mut at = Some(token);
                while let Some(t) = at {
                    path.push(step.ids[t]);
                    at = step.parents[t];
                }
                path.extend(stack.iter().rev());
                path.reverse();
                out.push((ask.question, ask.label, ask.target, path));
            }
            // Only a chain may stay on the path.
            if step.parents.iter().enumerate().all(|(i, p)| *p == i.checked_sub(1)) {
                stack.extend(&step.ids);
            }
        }
        out.sort();
        out
    }

    #[test]
    fn every_plan_asks_after_the_right_path() {
        // A leave-one-out forest with long and short branches.
        let item = |i: u32| (0..5 + i % 4).map(move |t| 100 * i + t);
        let mut forest = Forest::new();
        let mut expected = Vec::new();
        for left_out in 0..9_u32 {
            let mut tokens: Vec<u32> = (0..9).filter(|&i| i != left_out).flat_map(item).collect();
            tokens.extend(item(left_out));
            for label in 0..2 {
                let mut sequence = tokens.clone();
                sequence.extend([7000 + label, 7100]);
                let n = sequence.len();
                forest.insert(&sequence, n - 2..n, left_out as usize, label as usize);
                for at in [n - 2, n - 1] {
                    expected.push((
                        left_out as usize,
                        label as usize,
                        sequence[at],
                        sequence[..at].to_vec(),
                    ));
                }
            }
        }
        expected.sort();
        for max_pack in [1, 3, 16, 40, 100, 10_000] {
            assert_eq!(replay(&forest, max_pack), expected, "pack of {max_pack}");
        }
    }
}
