//! Which labels contradict each other, from the texts alone.

use std::collections::HashMap;

use crate::data::{Example, Rule, Task};

/// The pairs of examples whose labels constrain each other.
#[derive(Debug)]
pub struct Consistency {
    pairs: Vec<Pair>,
    /// Group of each example, numbered in order of first appearance.
    groups: Vec<Option<usize>>,
    num_labels: usize,
    positive: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    i: usize,
    j: usize,
    demand: Demand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// Same key: the labels must be equal (implication).
    Equal,
    /// Different keys: not both positive (contradiction).
    NotBothPositive,
    /// Different keys: the labels must differ (asymmetry).
    Different,
}

impl Consistency {
    /// Returns the constraints of `rules` on `examples`: examples of one group that both have a key.
    pub fn new(task: &Task, rules: &[Rule], examples: &[&Example]) -> Self {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut groups = Vec::with_capacity(examples.len());
        for (index, example) in examples.iter().enumerate() {
            groups.push(example.group.as_deref().map(|name| {
                let group = *numbers.entry(name).or_insert_with(|| {
                    members.push(Vec::new());
                    members.len() - 1
                });
                members[group].push(index);
                group
            }));
        }
        let mut pairs = Vec::new();
        for group in &members {
            for (a, &i) in group.iter().enumerate() {
                for &j in &group[a + 1..] {
                    let (Some(key_i), Some(key_j)) = (&examples[i].key, &examples[j].key) else {
                        continue;
                    };
                    let demands = rules.iter().filter_map(|rule| match rule {
                        Rule::Implication => (key_i == key_j).then_some(Demand::Equal),
                        Rule::Contradiction => (key_i != key_j).then_some(Demand::NotBothPositive),
                        Rule::Asymmetry => (key_i != key_j).then_some(Demand::Different),
                    });
                    pairs.extend(demands.map(|demand| Pair { i, j, demand }));
                }
            }
        }
        Self { pairs, groups, num_labels: task.num_labels(), positive: task.positive }
    }

    /// Returns the group of example `i`, numbered from 0.
    pub fn group(&self, i: usize) -> Option<usize> {
        self.groups[i]
    }

    /// Returns the number of constrained pairs.
    pub fn num_pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Returns I(D): the number of violated pairs; a pair with an unlabelled member is not violated.
    ///
    /// # Source
    /// Wen et al. 2025, equation 2.
    pub fn inconsistency(&self, labels: &[Option<usize>]) -> usize {
        self.violated(labels).count()
    }

    /// Returns the violated pairs in a fixed order.
    pub fn violated(&self, labels: &[Option<usize>]) -> impl Iterator<Item = (usize, usize)> {
        self.pairs.iter().filter_map(|pair| match (labels[pair.i], labels[pair.j]) {
            (Some(a), Some(b)) if !self.allows(pair.demand, a, b) => Some((pair.i, pair.j)),
            _ => None,
        })
    }

    /// Returns every pair of labels for `i` and `j` that violates nothing between the two.
    pub fn joint_labels(&self, i: usize, j: usize) -> Vec<(usize, usize)> {
        let between: Vec<Demand> =
            self.pairs.iter().filter(|p| (p.i, p.j) == (i, j)).map(|p| p.demand).collect();
        let all = (0..self.num_labels).flat_map(|a| (0..self.num_labels).map(move |b| (a, b)));
        all.filter(|&(a, b)| between.iter().all(|&demand| self.allows(demand, a, b))).collect()
    }

    fn allows(&self, demand: Demand, a: usize, b: usize) -> bool {
        match demand {
            Demand::Equal => a == b,
            Demand::NotBothPositive => !(a == self.positive && b == self.positive),
            Demand::Different => a != b,
        }
    }
}
