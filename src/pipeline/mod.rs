//! The verbs: what `w2s` does, as typed jobs that make, read and compare run folders.
//!
//! A job is a value with the options of its verb; [`Session`] runs jobs, keeps models open from one to the
//! next, and tells an [`Observer`] what happens. Stages (`label`, `filter`, `train`, `eval`) know nothing
//! of folders; here they get one, with a manifest, a journal and an end.

#![allow(
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the comments of options are their help, as people read it in a terminal"
)]

mod audit;
mod backend;
mod columns;
mod command_line;
mod compare;
mod data;
mod defaults;
mod digests;
mod evaluate;
mod explain;
mod export;
mod field_values;
mod filter;
mod finished;
mod given;
mod given_options;
mod gold;
mod ids;
mod job;
mod job_run;
mod label;
mod merge;
mod model;
mod names;
mod note;
mod observer;
mod outcome;
mod plan;
mod prior;
mod relabel;
mod report;
mod reproduce;
mod rerun;
mod results;
mod rounds;
mod run_labels;
mod run_options;
mod score;
mod server;
mod session;
mod show;
mod step;
mod train;
mod usage;
mod verdict;
mod voice;
mod warning;

pub use audit::{
    AuditCertified, AuditCommand, AuditDrawJob, AuditDrawn, AuditJob, AuditPlan, Certificate,
    CertifyJob,
};
pub use columns::ColumnOptions;
pub use command_line::typed;
pub use compare::CompareJob;
pub use data::{DataCommand, DataJob, DrawJob, PullJob};
pub use evaluate::{EvaluateJob, HeldOutOptions};
pub use explain::ExplainJob;
pub use export::{ExportJob, Format};
pub use filter::{AnswerForm, CalibrateName, FilterJob, FilterSummary, WeightName};
pub use given_options::given_options;
pub use ids::IdsOptions;
pub use job::Job;
pub use label::{
    BaselineOptions, LabelJob, MethodName, MostDemonstrations, PublishedOptions, SearchOptions,
};
pub use merge::MergeJob;
pub use model::ModelOptions;
pub use names::{InitName, PresetName, RuleChoice};
pub use note::{LeftOut, Note, ServedRoute};
pub use observer::{Event, Observer, Resume, Series, Silent, StepPlace, Wait};
pub use outcome::Outcome;
pub use plan::{Plan, PlanJob, PlannedInterval, PlannedRequests, PlannedStep, Speed};
pub use prior::PriorOptions;
pub use relabel::{ChangeName, RelabelJob, RelabelSummary};
pub use report::{Length, ReportJob};
pub use reproduce::{PlaceOptions, RecipeListing, ReproduceJob, Reproduction};
pub use rerun::rerun;
pub use results::{
    DrawSummary, Evaluated, ExplainedGroup, Explanation, Exported, PromptScores, ScoredLabel,
};
pub use rounds::{LaterName, LoopJob};
pub use run_options::RunOptions;
pub use score::ScoreJob;
pub use server::{RouteChoice, ServerOptions, within};
pub use session::Session;
pub use show::Shown;
pub use train::{EngineName, EngineOptions, LossName, LossOptions, TrainJob, TrainSummary};
pub use verdict::Verdict;
pub use warning::{IgnoredFlag, Part, Warning};
