//! Evaluation: how right the labels are, once gold may be looked at, and how far they can be trusted.
//!
//! Questions, each answered from plain values: how good are the labels ([`evaluate`]), how did the
//! search get there ([`curve_from_trace`]), what makes its result doubtful ([`diagnose_trace`]), do
//! several runs find the same ([`basins`]), what are weak labels and their filter worth
//! ([`evaluate_weak`]), which of several methods is better ([`compare`]), how sure is a mean ([`bootstrap_mean`]), which labels
//! are as accurate but wrong at random ([`noisy_labels`]), and what does an audit of some prove of all ([`Audited`]). The stage comes after labelling and before
//! the report; it knows nothing of models, and it neither opens run folders nor writes files: its
//! caller joins labels and gold by id and stores the results.

mod agreement;
mod bootstrap;
mod comparison;
mod curve;
mod diagnostics;
mod flips;
mod guarantee;
mod loop_rates;
mod metrics;
mod noise;
mod prediction;
mod quantile;
mod rates;
mod reliability;
mod stratum;
mod trace;
mod weak;

pub use agreement::{Agreement, Basin, BasinColumn, Basins, LabelledRun, agreement, basins};
pub use bootstrap::{MeanInterval, bootstrap_mean, bootstrap_variances};
pub use comparison::{
    Answer, AnsweredRun, ColumnComparison, ComparedMethod, Comparison, MethodComparison,
    PairComparison, PgrComparison, Resampling, Role, RunComparison, compare,
};
pub use curve::{CurvePoint, curve_from_reader, curve_from_trace};
pub use diagnostics::{
    COLLAPSE_ENTROPY_SHARE, COLLAPSE_MIN_LABELLED, Collapse, Diagnostics, Margins,
    SearchDiagnostics, Sweep, TemperatureBin, diagnose_reader, diagnose_trace, margins,
};
pub use flips::{Flip, flips_from_trace};
pub use guarantee::{
    Audited, Guarantee, chance_of_at_most, coverable_share, fewest_drawn, most_wrong_drawn,
};
pub use loop_rates::{LoopEvaluation, Rate, RoundEvaluation};
pub use metrics::{ClosestColumn, Evaluation, LabelMetrics, evaluate};
pub use noise::{NoiseBy, noisy_labels};
pub use prediction::Prediction;
pub use rates::{Z_95, auroc, wilson};
pub use reliability::{Reliability, ReliabilityBin, reliability};
pub use stratum::{Stratum, choose_stratum, error_by_confidence, stratum_of};
pub use weak::{
    Binning, EntropyBin, Estimate, LabelCoverage, ReliabilityMap, RowAccuracies, Tally,
    WeakAccuracy, WeakEvaluation, WeightCell, evaluate_weak, filter_gain,
};
