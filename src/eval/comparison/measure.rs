//! From the joined table and its resamples to the comparison.

use std::collections::{HashMap, HashSet};

use ndarray::{Array2, ArrayView1};

use super::effects;
use super::join::{Joined, join};
use super::resample::{ACCURACY, AUROC, BALANCED, BRIER, RunTable, Statistics, classes, resample};
use super::{
    ColumnComparison, ComparedMethod, Comparison, MethodComparison, PairComparison, PgrComparison,
    Resampling, Role, RunComparison,
};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::bootstrap::variance;
use crate::eval::metrics::LabelMetrics;
use crate::eval::prediction::Prediction;
use crate::eval::quantile::Quantiles;
use crate::eval::rates::{Z_95, wilson, wilson_rate};
use crate::eval::reliability::reliability;
use crate::eval::weak::Estimate;
use crate::run::SeedStream;

/// Differences of rates below this are rounding: a rate is a fraction of whole numbers.
const NO_DIFFERENCE: f64 = 1e-12;

/// Returns the methods against gold and against each other.
///
/// `labels` are the task's, empty for open answers; `positive` is the one that the AUROC of two
/// labels speaks for. `gold` has a name and the answers by id of each column, the main one first.
/// How intervals come about is told in the module's text.
///
/// # Errors
/// [`ErrorKind::Usage`] for no method, no run, a name that occurs twice, two weak supervisors or
/// ceilings, no resamples or a level that is not between 0 and 1; [`ErrorKind::Data`] when an id
/// occurs twice in a run, an answer is not one of the labels, no item was answered by every run or
/// none of those has gold; [`ErrorKind::Numeric`] for a log-probability that is not finite.
///
/// # Cost
/// `num_resamples` passes over the items of every run for each gold column, on all processors.
///
/// # Source
/// Burns et al. 2023 (arXiv 2312.09390) for the performance gap recovered, Owen 2007 for the resamples.
pub fn compare(
    task: &str,
    labels: &[String],
    positive: usize,
    methods: &[ComparedMethod],
    gold: &[(String, HashMap<String, String>)],
    resampling: Resampling,
) -> Result<Comparison> {
    check(methods, labels, positive, resampling)?;
    // Of more than two labels each is told from all others; of two the one tells all.
    let auroc_labels: Vec<usize> = match labels.len() {
        0 => Vec::new(),
        2 => vec![positive],
        num => (0..num).collect(),
    };
    let column = |(name, answers): &(String, HashMap<String, String>)| {
        let joined = join(methods, labels, answers)
            .map_err(|error| error.of(format_args!("gold column `{name}`")))?;
        Ok(Column::new(methods, labels, joined, &auroc_labels, resampling).comparison(name))
    };
    Ok(Comparison {
        task: task.to_owned(),
        labels: labels.to_vec(),
        positive: (labels.len() == 2).then(|| labels[positive].clone()),
        num_resamples: resampling.num_resamples,
        seed: resampling.seed,
        level: resampling.level,
        gold_sha256: String::new(),
        columns: gold.iter().map(column).collect::<Result<_>>()?,
    })
}

fn check(
    methods: &[ComparedMethod],
    labels: &[String],
    positive: usize,
    resampling: Resampling,
) -> Result<()> {
    let usage = |message: String| Err(Error::new(ErrorKind::Usage, message));
    if methods.is_empty() {
        return usage("no method to compare".to_owned());
    }
    let mut names = HashSet::new();
    for method in methods {
        if !names.insert(&method.name) {
            return usage(format!("two methods are named `{}`", method.name));
        }
        if method.runs.is_empty() {
            return usage(format!("method `{}` has no run", method.name));
        }
    }
    for role in [Role::Weak, Role::Ceiling] {
        if methods.iter().filter(|method| method.role == role).count() > 1 {
            return usage("there is more than one weak supervisor or ceiling".to_owned());
        }
    }
    if labels.len() == 1 || (!labels.is_empty() && positive >= labels.len()) {
        return usage(format!("expected two labels or more with a positive one, got {labels:?}"));
    }
    let Resampling { num_resamples, level, .. } = resampling;
    if num_resamples == 0 || !(level > 0.0 && level < 1.0) {
        return usage(format!("{num_resamples} resamples at level {level}: expected more of both"));
    }
    Ok(())
}

/// The methods on the items of one gold column.
struct Column<'a> {
    methods: &'a [ComparedMethod],
    labels: &'a [String],
    joined: Joined<'a>,
    auroc_labels: &'a [usize],
    tables: Vec<Vec<RunTable>>,
    /// Of the items as they are, by method and run.
    whole: Vec<Vec<Statistics>>,
    /// Resamples x methods.
    drawn: Array2<Statistics>,
    quantiles: Quantiles,
}

impl<'a> Column<'a> {
    fn new(
        methods: &'a [ComparedMethod],
        labels: &'a [String],
        joined: Joined<'a>,
        auroc_labels: &'a [usize],
        resampling: Resampling,
    ) -> Self {
        let gold = &joined.gold;
        let tables: Vec<Vec<RunTable>> =
            joined.methods.iter().map(|cells| RunTable::of(cells, gold, auroc_labels)).collect();
        let classes = classes(&joined);
        let once = vec![1; gold.len()];
        let whole = tables
            .iter()
            .map(|runs| runs.iter().map(|run| run.statistics(&once, &classes)).collect())
            .collect();
        let streams = SeedStream::new(resampling.seed);
        let drawn = resample(&tables, &classes, resampling.num_resamples, streams);
        let most_runs = methods.iter().map(|method| method.runs.len()).max().unwrap_or(1);
        let quantiles = Quantiles::new(resampling.level, most_runs - 1);
        Self { methods, labels, joined, auroc_labels, tables, whole, drawn, quantiles }
    }

    fn comparison(&self, gold_column: &str) -> ColumnComparison {
        let mut gold_counts = vec![0; self.labels.len()];
        for &gold in self.joined.gold.iter().filter(|_| !self.labels.is_empty()) {
            gold_counts[gold] += 1;
        }
        let num_methods = self.methods.len();
        let pairs =
            (0..num_methods).flat_map(|a| (a + 1..num_methods).map(move |b| self.pair(a, b)));
        ColumnComparison {
            gold_column: gold_column.to_owned(),
            num_items: self.joined.gold.len(),
            num_not_in_every_run: self.joined.num_not_in_every_run,
            num_without_gold: self.joined.num_without_gold,
            gold_counts,
            methods: (0..num_methods).map(|method| self.method(method)).collect(),
            pairs: pairs.collect(),
            pgr: self.pgr(),
        }
    }

    /// The mean over the runs of a statistic; none where a run has none.
    fn value(&self, method: usize, statistic: usize) -> Option<f64> {
        let runs = &self.whole[method];
        known(runs.iter().map(|run| run[statistic]).sum::<f64>() / runs.len() as f64)
    }

    /// The mean over the runs of a statistic with its interval: Wilson's for as many independent answers
    /// as have the variance of the resamples, Student's quantile for the part of it that is between runs.
    ///
    /// `range` is that of the statistic, from 0. Where the resamples do not vary, or the statistic is at
    /// an end of its range, it is as sure as an accuracy of `least` answers.
    fn estimate(
        &self,
        method: usize,
        statistic: usize,
        range: f64,
        least: f64,
    ) -> Option<Estimate> {
        let value = self.value(method, statistic)?;
        let drawn = self.drawn.column(method);
        let drawn = drawn.iter().map(|drawn| drawn[statistic] / range);
        let drawn: Vec<f64> = drawn.filter(|value| !value.is_nan()).collect();
        let runs: Vec<f64> =
            self.whole[method].iter().map(|of_run| of_run[statistic] / range).collect();
        let between = variance(&runs).unwrap_or(0.0) / runs.len() as f64;
        let total = variance(&drawn).unwrap_or(0.0).max(between);
        let rate = (value / range).clamp(0.0, 1.0);
        let binomial = rate * (1.0 - rate);
        let z = self.quantiles.z;
        let (size, quantile) = if binomial > NO_DIFFERENCE && total > NO_DIFFERENCE * binomial {
            let t = self.quantiles.t(runs.len() - 1);
            let squared = z * z * (total - between) + t * t * between;
            ((binomial / total).max(1.0), (squared / total).sqrt())
        } else {
            (least, z)
        };
        let (low, high) = wilson_rate(rate, size, quantile);
        Some(Estimate { value, low: range * low, high: range * high })
    }

    /// How many items have each label in gold, where some have.
    fn class_sizes(&self) -> Vec<f64> {
        self.joined.gold.chunk_by(|a, b| a == b).map(|class| class.len() as f64).collect()
    }

    fn balanced_accuracy(&self, method: usize) -> Option<Estimate> {
        let sizes = self.class_sizes();
        let num = sizes.len() as f64;
        // Equal recalls r have the variance r (1 - r) times the sum of 1 / size over num^2.
        let least = num * num / sizes.iter().map(|size| 1.0 / size).sum::<f64>();
        self.labelled(self.estimate(method, BALANCED, 1.0, least))
    }

    fn auroc(&self, method: usize) -> Option<Estimate> {
        let num_items = self.joined.gold.len() as f64;
        let smaller = |size: f64| size.min(num_items - size);
        let least = self.class_sizes().into_iter().map(smaller).fold(f64::INFINITY, f64::min);
        self.estimate(method, AUROC, 1.0, least.max(1.0))
    }

    fn brier(&self, method: usize) -> Option<Estimate> {
        let range = if self.labels.len() == 2 { 1.0 } else { 2.0 };
        self.estimate(method, BRIER, range, self.joined.gold.len() as f64)
    }

    fn accuracy(&self, method: usize) -> f64 {
        self.value(method, ACCURACY).unwrap_or(f64::NAN)
    }

    fn method(&self, index: usize) -> MethodComparison {
        let ComparedMethod { name, role, published, .. } = &self.methods[index];
        let runs: Vec<RunComparison> =
            (0..self.whole[index].len()).map(|run| self.run(index, run)).collect();
        let accuracy = self.accuracy(index);
        let num = runs.len() as f64;
        let squares: f64 = runs.iter().map(|run| (run.accuracy - accuracy).powi(2)).sum();
        let eces: Option<Vec<f64>> = runs.iter().map(|run| run.ece).collect();
        MethodComparison {
            name: name.clone(),
            role: *role,
            accuracy: effects::accuracy(&self.joined.methods[index].right, &self.quantiles),
            accuracy_sd: (runs.len() > 1).then(|| (squares / (num - 1.0)).sqrt()),
            balanced_accuracy: self.balanced_accuracy(index),
            auroc: self.auroc(index),
            brier: self.brier(index),
            ece: eces.map(|eces| eces.iter().sum::<f64>() / num),
            per_label: self.per_label(index),
            published: *published,
            runs,
        }
    }

    /// The value, where there are labels.
    fn labelled<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| !self.labels.is_empty())
    }

    fn run(&self, method: usize, run: usize) -> RunComparison {
        let cells = &self.joined.methods[method];
        let (given, right) = (cells.given.row(run), cells.right.row(run));
        let of_run = &self.methods[method].runs[run];
        let statistics = self.whole[method][run];
        let num_items = right.len();
        let num_correct = right.iter().filter(|right| **right).count();
        let (wilson_low, wilson_high) = wilson(num_correct, num_items, Z_95);
        RunComparison {
            path: of_run.path.clone(),
            digest: of_run.digest.clone(),
            num_answered: of_run.answers.len(),
            num_unparsed: given.iter().filter(|given| given.is_none()).count(),
            num_correct,
            accuracy: num_correct as f64 / num_items as f64,
            wilson_low,
            wilson_high,
            balanced_accuracy: self.labelled(known(statistics[BALANCED])),
            auroc: known(statistics[AUROC]),
            brier: known(statistics[BRIER]),
            ece: ece(given, cells.logprobs[run].as_deref(), &self.joined.gold),
        }
    }

    fn per_label(&self, method: usize) -> Vec<LabelMetrics> {
        let cells = &self.joined.methods[method];
        let num_runs = cells.right.nrows();
        let gold = &self.joined.gold;
        let once = vec![1; gold.len()];
        let aurocs: Vec<Vec<f64>> =
            self.tables[method].iter().map(|table| table.aurocs(&once)).collect();
        let one = |(label, name): (usize, &String)| {
            let is_given = |given: &&Option<usize>| **given == Some(label);
            let num_gold = num_runs * gold.iter().filter(|gold| **gold == label).count();
            let num_given = cells.given.iter().filter(is_given).count();
            // A right answer is the gold label.
            let answers = cells.given.iter().zip(&cells.right);
            let right = answers.filter(|(given, right)| is_given(given) && **right).count();
            // Of two labels the AUROC of the one is that of the other.
            let place = self.auroc_labels.iter().position(|of| *of == label);
            let place = if self.labels.len() == 2 { Some(0) } else { place };
            let auroc = place.and_then(|place| {
                let of_runs = aurocs.iter().map(|of| of.get(place).copied().unwrap_or(f64::NAN));
                known(of_runs.sum::<f64>() / num_runs as f64)
            });
            LabelMetrics {
                label: name.clone(),
                num_gold,
                num_given,
                precision: rate(right, num_given),
                recall: rate(right, num_gold),
                f1: rate(2 * right, num_gold + num_given),
                auroc,
            }
        };
        self.labels.iter().enumerate().map(one).collect()
    }

    fn difference(&self, a: usize, b: usize) -> (Estimate, f64) {
        let [a, b] = [a, b].map(|method| &self.joined.methods[method].right);
        effects::difference(a, b, &self.quantiles)
    }

    fn pair(&self, a: usize, b: usize) -> PairComparison {
        let (difference, p) = self.difference(a, b);
        let [of_a, of_b] = [a, b].map(|method| &self.joined.methods[method].right);
        let seeds_paired = of_a.nrows() == of_b.nrows();
        let [mut num_only_a_right, mut num_only_b_right] = [0; 2];
        for (i, one) in of_a.rows().into_iter().enumerate() {
            for (j, other) in of_b.rows().into_iter().enumerate() {
                if seeds_paired && i != j {
                    continue;
                }
                for (a, b) in one.iter().zip(other) {
                    num_only_a_right += usize::from(*a && !*b);
                    num_only_b_right += usize::from(*b && !*a);
                }
            }
        }
        PairComparison {
            a: self.methods[a].name.clone(),
            b: self.methods[b].name.clone(),
            difference,
            p,
            seeds_paired,
            num_only_b_right,
            num_only_a_right,
        }
    }

    fn pgr(&self) -> Vec<PgrComparison> {
        let place = |role| self.methods.iter().position(|method| method.role == role);
        let Some((weak, ceiling)) = place(Role::Weak).zip(place(Role::Ceiling)) else {
            return Vec::new();
        };
        let (gap, _) = self.difference(weak, ceiling);
        let method = |index: usize| {
            let (pgr, remark) = self.recovered(index, weak, ceiling, gap);
            PgrComparison {
                method: self.methods[index].name.clone(),
                weak: self.methods[weak].name.clone(),
                ceiling: self.methods[ceiling].name.clone(),
                gap,
                pgr,
                remark,
            }
        };
        let students = (0..self.methods.len())
            .filter(|&index| self.methods[index].role == Role::Method)
            .map(method);
        students.collect()
    }

    fn recovered(
        &self,
        student: usize,
        weak: usize,
        ceiling: usize,
        gap: Estimate,
    ) -> (Option<Estimate>, Option<String>) {
        let points = |rate: f64| format!("{:+.1}", 100.0 * rate);
        let [value, low, high] = [gap.value, gap.low, gap.high].map(points);
        let [weak_name, ceiling_name] = [weak, ceiling].map(|method| &self.methods[method].name);
        let refused = |why: &str| {
            let gap = format!("the gap from `{weak_name}` to `{ceiling_name}` is {value} points");
            (None, Some(format!("PGR not reported: {gap} [{low}, {high}], {why}")))
        };
        if gap.high < 0.0 {
            return refused("the ceiling is below the weak supervisor");
        }
        if gap.low < NO_DIFFERENCE {
            return refused("not distinguishable from zero");
        }
        let of = [weak, student, ceiling].map(|method| &self.joined.methods[method].right);
        match effects::recovered(of, &self.quantiles) {
            Some(pgr) => (Some(pgr), None),
            None => refused("too small to bound a share of it"),
        }
    }
}

fn known(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

fn rate(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The expected calibration error of a run; none where an answer lacks its log-probabilities.
fn ece(
    given: ArrayView1<'_, Option<usize>>,
    logprobs: Option<&[&[f64]]>,
    gold: &[usize],
) -> Option<f64> {
    let items: Option<Vec<Prediction>> = given
        .iter()
        .zip(logprobs?)
        .zip(gold)
        .map(|((given, logprobs), &gold)| {
            Some(Prediction {
                id: String::new(),
                label: (*given)?,
                logprobs: Some(logprobs.to_vec()),
                gold: Some(gold),
            })
        })
        .collect();
    reliability(&items?).map(|found| found.ece)
}
