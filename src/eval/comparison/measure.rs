//! From the joined table and its resamples to the comparison.

use std::collections::{HashMap, HashSet};

use super::join::{Cells, Joined, join};
use super::resample::{ACCURACY, AUROC, BALANCED, BRIER, RunTable, Statistics, classes, resample};
use super::{
    ColumnComparison, ComparedMethod, Comparison, MethodComparison, PairComparison, PgrComparison,
    Resampling, Role, RunComparison,
};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::bootstrap::percentiles;
use crate::eval::metrics::{LabelMetrics, Prediction};
use crate::eval::rates::{Z_95, wilson};
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
/// Owen 2007 for the resamples, Burns et al. 2023 (arXiv 2312.09390) for the performance gap
/// recovered, Davison and Hinkley 1997, section 4.4, for counting the sample among the resamples in p.
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
    /// By resample and method.
    drawn: Vec<Vec<Statistics>>,
    level: f64,
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
        let table = |cells: &Cells<'_>| RunTable::new(cells, gold, auroc_labels);
        let tables: Vec<Vec<RunTable>> =
            joined.methods.iter().map(|runs| runs.iter().map(table).collect()).collect();
        let classes = classes(&joined);
        let once = vec![1; gold.len()];
        let whole = tables
            .iter()
            .map(|runs| runs.iter().map(|run| run.statistics(&once, &classes)).collect())
            .collect();
        let streams = SeedStream::new(resampling.seed);
        let drawn = resample(&tables, &classes, resampling.num_resamples, streams);
        let level = resampling.level;
        Self { methods, labels, joined, auroc_labels, tables, whole, drawn, level }
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

    fn estimate(&self, method: usize, statistic: usize) -> Option<Estimate> {
        let value = self.value(method, statistic)?;
        self.interval(value, self.drawn.iter().map(|drawn| drawn[method][statistic]))
    }

    fn interval(&self, value: f64, drawn: impl Iterator<Item = f64>) -> Option<Estimate> {
        let mut drawn: Vec<f64> = drawn.filter(|value| !value.is_nan()).collect();
        let (low, high) = percentiles(&mut drawn, self.level)?;
        Some(Estimate { value, low, high })
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
        let unresampled = Estimate { value: accuracy, low: accuracy, high: accuracy };
        MethodComparison {
            name: name.clone(),
            role: *role,
            // An accuracy is defined in every resample, of which there is one at least.
            accuracy: self.estimate(index, ACCURACY).unwrap_or(unresampled),
            accuracy_sd: (runs.len() > 1).then(|| (squares / (num - 1.0)).sqrt()),
            balanced_accuracy: self.labelled(self.estimate(index, BALANCED)),
            auroc: self.estimate(index, AUROC),
            brier: self.estimate(index, BRIER),
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
        let cells = &self.joined.methods[method][run];
        let of_run = &self.methods[method].runs[run];
        let statistics = self.whole[method][run];
        let num_items = cells.right.len();
        let num_correct = cells.right.iter().filter(|right| **right).count();
        let (wilson_low, wilson_high) = wilson(num_correct, num_items, Z_95);
        RunComparison {
            path: of_run.path.clone(),
            digest: of_run.digest.clone(),
            num_answered: of_run.answers.len(),
            num_unparsed: cells.given.iter().filter(|given| given.is_none()).count(),
            num_correct,
            accuracy: num_correct as f64 / num_items as f64,
            wilson_low,
            wilson_high,
            balanced_accuracy: self.labelled(known(statistics[BALANCED])),
            auroc: known(statistics[AUROC]),
            brier: known(statistics[BRIER]),
            ece: ece(cells, &self.joined.gold),
        }
    }

    fn per_label(&self, method: usize) -> Vec<LabelMetrics> {
        let runs = &self.joined.methods[method];
        let gold = &self.joined.gold;
        let once = vec![1; gold.len()];
        let aurocs: Vec<Vec<f64>> =
            self.tables[method].iter().map(|table| table.aurocs(&once)).collect();
        let one = |(label, name): (usize, &String)| {
            let [mut num_gold, mut num_given, mut right] = [0; 3];
            for cells in runs {
                num_gold += gold.iter().filter(|gold| **gold == label).count();
                num_given += cells.given.iter().filter(|given| **given == Some(label)).count();
                let is_found = |(gold, right): &(&usize, &bool)| **gold == label && **right;
                right += gold.iter().zip(&cells.right).filter(is_found).count();
            }
            // Of two labels the AUROC of the one is that of the other.
            let place = self.auroc_labels.iter().position(|of| *of == label);
            let place = if self.labels.len() == 2 { Some(0) } else { place };
            let auroc = place.and_then(|place| {
                let of_runs = aurocs.iter().map(|of| of.get(place).copied().unwrap_or(f64::NAN));
                known(of_runs.sum::<f64>() / runs.len() as f64)
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
        let value = self.accuracy(b) - self.accuracy(a);
        let drawn: Vec<f64> =
            self.drawn.iter().map(|drawn| drawn[b][ACCURACY] - drawn[a][ACCURACY]).collect();
        let count = |is: fn(f64) -> bool| drawn.iter().filter(|value| is(**value)).count();
        let least = count(|value| value < NO_DIFFERENCE).min(count(|value| value > -NO_DIFFERENCE));
        let p = 2.0 * (least + 1) as f64 / (drawn.len() + 1) as f64;
        let unresampled = Estimate { value, low: value, high: value };
        (self.interval(value, drawn.into_iter()).unwrap_or(unresampled), p.min(1.0))
    }

    fn pair(&self, a: usize, b: usize) -> PairComparison {
        let (difference, p) = self.difference(a, b);
        let [of_a, of_b] = [a, b].map(|method| &self.joined.methods[method]);
        let seeds_paired = of_a.len() == of_b.len();
        let [mut num_only_a_right, mut num_only_b_right] = [0; 2];
        for (i, one) in of_a.iter().enumerate() {
            for (j, other) in of_b.iter().enumerate() {
                if seeds_paired && i != j {
                    continue;
                }
                for (a, b) in one.right.iter().zip(&other.right) {
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
        if gap.low < NO_DIFFERENCE && gap.high > -NO_DIFFERENCE {
            let [weak, ceiling] = [weak, ceiling].map(|method| &self.methods[method].name);
            let remark = format!(
                "the gap from `{weak}` to `{ceiling}` is {value} points [{low}, {high}], which may be \
                 none, so no share of it can be told"
            );
            return (None, Some(remark));
        }
        let share = |[weak, student, ceiling]: [f64; 3]| (student - weak) / (ceiling - weak);
        let of = [weak, student, ceiling];
        let value = share(of.map(|method| self.accuracy(method)));
        // At most a fortieth of the resamples have no gap, or one the other way round: what they say
        // of its share is noise without bound.
        let same_way = |rates: &[f64; 3]| {
            let drawn = rates[2] - rates[0];
            drawn.abs() > NO_DIFFERENCE && drawn.signum() == gap.value.signum()
        };
        let drawn = self
            .drawn
            .iter()
            .map(|drawn| of.map(|method| drawn[method][ACCURACY]))
            .filter(same_way)
            .map(share);
        let remark = (gap.value < 0.0).then(|| {
            format!("the ceiling is {} points below the weak supervisor", points(-gap.value))
        });
        (self.interval(value, drawn), remark.map(|text| text.replace('+', "")))
    }
}

fn known(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

fn rate(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The expected calibration error of a run; none where an answer lacks its log-probabilities.
fn ece(cells: &Cells<'_>, gold: &[usize]) -> Option<f64> {
    let logprobs = cells.logprobs.as_ref()?;
    let items: Option<Vec<Prediction>> = cells
        .given
        .iter()
        .zip(logprobs)
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
