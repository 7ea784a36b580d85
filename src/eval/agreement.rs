//! Agreement between several labellings of the same examples, up to a renaming of the labels.
//!
//! A search without supervision finds a division of the examples; which side is called by which name
//! is a second question. Runs that find the same division are one *basin*.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// How far two labellings agree, over the examples that both label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Examples that both label.
    pub num_shared: usize,
    /// The share of equal labels.
    pub as_named: f64,
    /// The share of equal labels under the best renaming of one side's labels.
    pub best: f64,
}

impl Agreement {
    /// Returns whether some renaming agrees better than the names as they are.
    pub fn is_renamed(&self) -> bool {
        self.best > self.as_named
    }
}

/// Returns the agreement of two labellings; none when no example is labelled in both.
///
/// # Shapes
/// `a`, `b`: one entry an example, each below `num_labels`.
///
/// # Cost
/// Cubic in the number of labels: the best renaming is an assignment problem.
pub fn agreement(a: &[Option<usize>], b: &[Option<usize>], num_labels: usize) -> Option<Agreement> {
    let mut counts = Array2::<usize>::zeros((num_labels, num_labels));
    let mut num_shared = 0;
    for (&x, &y) in a.iter().zip(b) {
        if let (Some(x), Some(y)) = (x, y) {
            counts[[x, y]] += 1;
            num_shared += 1;
        }
    }
    if num_shared == 0 {
        return None;
    }
    let share = |count: usize| count as f64 / num_shared as f64;
    let as_named = share(counts.diag().sum());
    Some(Agreement { num_shared, as_named, best: share(best_assignment(&counts)) })
}

/// The largest sum of one entry a row, no two in one column (the Hungarian method, by shortest
/// augmenting paths with potentials; Kuhn 1955, Jonker and Volgenant 1987).
fn best_assignment(counts: &Array2<usize>) -> usize {
    let n = counts.nrows();
    let cost = |row: usize, column: usize| -(counts[[row - 1, column - 1]] as i64);
    // One-based; row 0 and column 0 stand for "none".
    let (mut row_potential, mut column_potential) = (vec![0_i64; n + 1], vec![0_i64; n + 1]);
    let mut row_of = vec![0_usize; n + 1];
    for row in 1..=n {
        row_of[0] = row;
        let mut least = vec![i64::MAX; n + 1];
        let mut came_from = vec![0_usize; n + 1];
        let mut used = vec![false; n + 1];
        let mut at = 0;
        while row_of[at] != 0 {
            used[at] = true;
            let current = row_of[at];
            let (mut delta, mut next) = (i64::MAX, 0);
            for column in 1..=n {
                if used[column] {
                    continue;
                }
                let reduced =
                    cost(current, column) - row_potential[current] - column_potential[column];
                if reduced < least[column] {
                    (least[column], came_from[column]) = (reduced, at);
                }
                if least[column] < delta {
                    (delta, next) = (least[column], column);
                }
            }
            for column in 0..=n {
                if used[column] {
                    row_potential[row_of[column]] += delta;
                    column_potential[column] -= delta;
                } else if column > 0 {
                    least[column] -= delta;
                }
            }
            at = next;
        }
        while at != 0 {
            let before = came_from[at];
            row_of[at] = row_of[before];
            at = before;
        }
    }
    (1..=n).map(|column| counts[[row_of[column] - 1, column - 1]]).sum()
}

/// One run's labels, for comparison with other runs'.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledRun {
    /// The run's name.
    pub name: String,
    /// The label of each example; none where the run gave none.
    pub labels: Vec<Option<usize>>,
    /// The score the search ended with.
    pub score: Option<f64>,
}

/// Runs that found the same division of the examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Basin {
    /// The runs' names.
    pub runs: Vec<String>,
    /// The mean score of those that have one.
    pub mean_score: Option<f64>,
    /// The best score.
    pub best_score: Option<f64>,
    /// The mean agreement between two of its runs, up to a renaming; none for a single run.
    pub agreement_within: Option<f64>,
    /// What its runs have in common with each gold column.
    pub columns: Vec<BasinColumn>,
}

/// The agreement of a basin's runs with one gold column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BasinColumn {
    /// The gold column's name.
    pub column: String,
    /// The mean agreement of the runs with it, up to a renaming of the labels.
    pub agreement: Option<f64>,
    /// How many of the runs name the labels otherwise than the column.
    pub num_renamed: usize,
}

/// The basins of several runs; the content of the file that `w2s eval --basins` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Basins {
    /// Agreement from which on two runs count as one basin.
    pub threshold: f64,
    /// The basins, best mean score first, then the larger first.
    pub basins: Vec<Basin>,
}

/// Returns the runs in basins: a run belongs to a basin when it agrees with at least one of its runs,
/// up to a renaming of the labels, in a share of `threshold` or more (single linkage).
///
/// # Shapes
/// Every labelling, of runs and of gold columns, has one entry an example.
pub fn basins(
    runs: &[LabelledRun],
    gold_columns: &[(String, Vec<Option<usize>>)],
    num_labels: usize,
    threshold: f64,
) -> Basins {
    let between = |a: usize, b: usize| agreement(&runs[a].labels, &runs[b].labels, num_labels);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for run in 0..runs.len() {
        let near = |group: &[usize]| {
            group.iter().any(|&other| between(run, other).is_some_and(|a| a.best >= threshold))
        };
        // The run joins every basin it touches, which makes them one.
        let (touched, mut apart): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| near(group));
        let mut joined: Vec<usize> = touched.into_iter().flatten().collect();
        joined.push(run);
        joined.sort_unstable();
        apart.push(joined);
        groups = apart;
    }
    let mut basins: Vec<Basin> = groups
        .iter()
        .map(|group| {
            let scores: Vec<f64> = group.iter().filter_map(|&run| runs[run].score).collect();
            let pairs = group.iter().enumerate().flat_map(|(k, &a)| {
                group[k + 1..].iter().filter_map(move |&b| between(a, b)).map(|a| a.best)
            });
            let columns = gold_columns.iter().map(|(column, gold)| {
                let with: Vec<Agreement> = group
                    .iter()
                    .filter_map(|&run| agreement(&runs[run].labels, gold, num_labels))
                    .collect();
                BasinColumn {
                    column: column.clone(),
                    agreement: mean(with.iter().map(|a| a.best)),
                    num_renamed: with.iter().filter(|a| a.is_renamed()).count(),
                }
            });
            Basin {
                runs: group.iter().map(|&run| runs[run].name.clone()).collect(),
                mean_score: mean(scores.iter().copied()),
                best_score: scores.iter().copied().reduce(f64::max),
                agreement_within: mean(pairs),
                columns: columns.collect(),
            }
        })
        .collect();
    let rank = |basin: &Basin| basin.mean_score.unwrap_or(f64::NEG_INFINITY);
    basins.sort_by(|a, b| {
        rank(b).total_cmp(&rank(a)).then(b.runs.len().cmp(&a.runs.len())).then(a.runs.cmp(&b.runs))
    });
    Basins { threshold, basins }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (num, sum) = values.fold((0_usize, 0.0), |(num, sum), value| (num + 1, sum + value));
    (num > 0).then(|| sum / num as f64)
}
