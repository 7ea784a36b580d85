//! Several methods against gold and against each other, each with one run or more (its *seeds*).
//!
//! [`compare`] works on answers that were read already; it opens no folders and writes no files. The
//! result, [`Comparison`], is the content of `comparison.json`.
//!
//! # Intervals
//! Items and seeds are samples, and what is estimated is the value over all of both. Accuracies, their
//! differences, p and the performance gap recovered are in closed form (see `effects.rs`): the accuracy of
//! one run has Wilson's interval, as everywhere in this program; that of several has Wilson's for as many
//! independent answers as have the variance of items and runs as crossed effects. Differences are paired by
//! item, and by seed where two methods have equally many: run `j` of one method goes with run `j` of the
//! other. With one run an interval knows nothing of how runs differ.
//!
//! Balanced accuracy, AUROC and Brier score get their variance from resamples: one draws N of the N items
//! with replacement, once for all methods, and S - 1 of the S runs (the one run where S = 1), once for all
//! methods with that number of runs. Drawn independently they are the pigeonhole bootstrap (McCullagh 2000;
//! Owen 2007, Annals of Applied Statistics 1), whose variance is right for the effects of items and of runs
//! and a little too large for what they do together; S - 1 draws make the variance between runs that of
//! their mean (McCarthy and Snowden 1985; Rao and Wu 1988). Percentiles of resamples are not used: three
//! runs make ten different samples, and resamples of what is right everywhere are all alike.
//!
//! How often each interval holds the truth is measured in data/measured/coverage.txt: of three and five runs
//! about 95 to 99 %, more where runs differ by chance alone; of one run 95 % where seeds do not differ.

mod effects;
mod join;
mod measure;
mod resample;

use serde::{Deserialize, Serialize};

use super::metrics::LabelMetrics;
use super::weak::Estimate;

pub use measure::compare;

/// One item's answer by one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The item's id.
    pub id: String,
    /// The name of its label, or the text of an open answer; none if it could not be read.
    pub answer: Option<String>,
    /// The log-probability of each label in nats, where the run kept them.
    pub logprobs: Option<Vec<f64>>,
}

/// The answers of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct AnsweredRun {
    /// The run folder or the file of labels, as it was named.
    pub path: String,
    /// The run's digest, where it is one.
    pub digest: Option<String>,
    /// Its answers, each id once.
    pub answers: Vec<Answer>,
}

/// One method to be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedMethod {
    /// Its name, unlike the others'.
    pub name: String,
    /// What it is to the others.
    pub role: Role,
    /// The accuracy that was published for it, 0 to 1.
    pub published: Option<f64>,
    /// Its runs, one or more.
    pub runs: Vec<AnsweredRun>,
}

/// How sure intervals are, and the resamples behind those that are not in closed form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// How many resamples are drawn.
    pub num_resamples: usize,
    /// Their seed.
    pub seed: u64,
    /// The coverage of an interval.
    pub level: f64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { num_resamples: 10_000, seed: 0, level: 0.95 }
    }
}

/// What `w2s compare` found; the content of `comparison.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The task's name.
    pub task: String,
    /// The label names, in the task's order; empty for open answers.
    pub labels: Vec<String>,
    /// The label that `auroc` speaks for where there are two.
    #[serde(default)]
    pub positive: Option<String>,
    /// How many resamples the intervals of balanced accuracy, AUROC and Brier score are from.
    pub num_resamples: usize,
    /// The seed of the resamples.
    pub seed: u64,
    /// The coverage of an interval.
    pub level: f64,
    /// SHA-256 of the gold file, hexadecimal.
    #[serde(default)]
    pub gold_sha256: String,
    /// What was found against each gold column, the main one first; at least one.
    pub columns: Vec<ColumnComparison>,
}

/// The methods against one gold column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnComparison {
    /// The column's name.
    pub gold_column: String,
    /// Items that every run answered and that have gold here: what every number speaks of.
    pub num_items: usize,
    /// Items that some run answered but not every run.
    pub num_not_in_every_run: usize,
    /// Items that every run answered and that have no gold here.
    pub num_without_gold: usize,
    /// How many of the items have each label in gold, in the order of `labels`.
    pub gold_counts: Vec<usize>,
    /// The methods, in the order they were named: weak supervisor, methods, ceiling.
    pub methods: Vec<MethodComparison>,
    /// Every two methods, each pair once, the one named first as `a`.
    pub pairs: Vec<PairComparison>,
    /// How much of the gap each method recovers; empty without a weak supervisor and a ceiling.
    pub pgr: Vec<PgrComparison>,
}

/// What a method is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The supervisor that the labels come from: a performance gap recovered of 0.
    Weak,
    /// One of the methods compared.
    Method,
    /// What the student reaches on gold: a performance gap recovered of 1.
    Ceiling,
}

/// One method against gold.
///
/// Estimates are means over the runs, with 95 % intervals over items and runs; see the module's text. Those that need probabilities are none where a run has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodComparison {
    /// The name it was given.
    pub name: String,
    /// What it is to the others.
    pub role: Role,
    /// The share of right answers, 0 to 1.
    pub accuracy: Estimate,
    /// The standard deviation of the runs' accuracies (with S - 1); none for one run.
    #[serde(default)]
    pub accuracy_sd: Option<f64>,
    /// The mean recall over the labels that occur in gold; none for open answers.
    pub balanced_accuracy: Option<Estimate>,
    /// The AUROC of two labels; the mean over the labels of each against all others for more.
    pub auroc: Option<Estimate>,
    /// The Brier score, as in [`Reliability`](super::Reliability).
    pub brier: Option<Estimate>,
    /// The expected calibration error, the mean over the runs. It has no interval: resampling adds to
    /// it, as every error in a bin's accuracy does, so its percentiles lie above it.
    pub ece: Option<f64>,
    /// Each label by itself, over the answers of all runs together; empty for open answers. Its
    /// counts are sums over the runs; `auroc` is the mean over them.
    pub per_label: Vec<LabelMetrics>,
    /// The accuracy that was published for it, 0 to 1.
    #[serde(default)]
    pub published: Option<f64>,
    /// The runs in the order they were named: the seeds. At least one.
    pub runs: Vec<RunComparison>,
}

/// One run of a method against gold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunComparison {
    /// The run folder or the file of labels, as it was named.
    pub path: String,
    /// [`Manifest::digest`](crate::run::Manifest::digest) of a run folder; none for a file.
    #[serde(default)]
    pub digest: Option<String>,
    /// Items that it answered, before the join.
    pub num_answered: usize,
    /// How many answers could not be read; they are wrong.
    pub num_unparsed: usize,
    /// How many answers are right.
    pub num_correct: usize,
    /// `num_correct / num_items`.
    pub accuracy: f64,
    /// The lower end of its 95 % Wilson interval.
    pub wilson_low: f64,
    /// The upper end of its 95 % Wilson interval.
    pub wilson_high: f64,
    /// As in [`MethodComparison`].
    pub balanced_accuracy: Option<f64>,
    /// As in [`MethodComparison`].
    pub auroc: Option<f64>,
    /// As in [`MethodComparison`].
    pub brier: Option<f64>,
    /// As in [`MethodComparison`].
    pub ece: Option<f64>,
}

/// Two methods on the same items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairComparison {
    /// The name of the one.
    pub a: String,
    /// The name of the other.
    pub b: String,
    /// Accuracy of `b` less that of `a`, with its paired interval.
    pub difference: Estimate,
    /// The two-sided p of no difference: one less the level at which the interval ends at 0. Not
    /// corrected for several pairs.
    pub p: f64,
    /// Whether run `j` of the one was drawn with run `j` of the other: both have equally many runs.
    pub seeds_paired: bool,
    /// Items and runs that `b` alone has right, over the runs of both that go together; over all
    /// pairs of runs where the numbers of runs differ.
    pub num_only_b_right: usize,
    /// The same for `a`.
    pub num_only_a_right: usize,
}

/// How much of the gap between weak supervisor and ceiling a method recovers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PgrComparison {
    /// The method.
    pub method: String,
    /// The weak supervisor.
    pub weak: String,
    /// The ceiling.
    pub ceiling: String,
    /// Accuracy of the ceiling less that of the weak supervisor.
    pub gap: Estimate,
    /// (method - weak) / (ceiling - weak) in accuracy; none where the gap's interval does not lie
    /// above 0.
    pub pgr: Option<Estimate>,
    /// Why there is no number, in one sentence; or what to know about the number there is.
    #[serde(default)]
    pub remark: Option<String>,
}
