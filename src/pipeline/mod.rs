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

mod baseline_args;
mod command_line;
mod compare;
mod compare_runs;
mod data;
mod defaults;
mod digests;
mod draw;
mod eval;
mod eval_loop;
mod eval_weak;
mod explain;
mod export;
mod export_settings;
mod field_values;
mod filter;
mod filter_args;
mod finished;
mod from_gold;
mod gold_demonstrations;
mod held_out;
mod ids;
mod job;
mod job_run;
mod label;
mod label_args;
mod loop_args;
mod loop_check;
mod loop_settings;
mod loop_steps;
mod loss_args;
mod merge;
mod model;
mod names;
mod observer;
mod opened;
mod options;
mod outcome;
mod plan;
mod plan_args;
mod prior_args;
mod published;
mod relabel;
mod report;
mod reproduce;
mod reproduce_args;
mod restarts;
mod rounds;
mod run_args;
mod run_labels;
mod score;
mod search_args;
mod server_args;
mod session;
mod speed;
mod steps;
mod train;
mod train_args;
mod train_files;
mod train_gold;
mod train_items;
mod train_run;
mod train_settings;
mod words;

pub use baseline_args::BaselineOptions;
pub use compare::CompareJob;
pub use data::{DataCommand, DataJob, PullJob};
pub use draw::DrawJob;
pub use eval::EvaluateJob;
pub use explain::ExplainJob;
pub use export::ExportJob;
pub use export_settings::Format;
pub use filter::FilterSummary;
pub use filter_args::{AnswerForm, CalibrateName, FilterJob, WeightName};
pub use held_out::{HeldOutOptions, NoiseName};
pub use ids::IdsOptions;
pub use job::Job;
pub use label_args::{LabelJob, MethodName, MostDemonstrations};
pub use loop_args::LoopJob;
pub use loss_args::{LossName, LossOptions, NormaliseName};
pub use merge::MergeJob;
pub use model::ModelOptions;
pub use names::{InitName, PresetName, RuleChoice};
pub use observer::{Event, Observer, Silent, begun_word};
pub use outcome::Outcome;
pub use plan_args::PlanJob;
pub use prior_args::PriorOptions;
pub use published::PublishedOptions;
pub use relabel::{ChangeName, RelabelJob, RelabelSummary};
pub use report::ReportJob;
pub use reproduce_args::{PlaceOptions, ReproduceJob};
pub use run_args::RunOptions;
pub use score::ScoreJob;
pub use search_args::SearchOptions;
pub use server_args::{RouteChoice, ServerOptions, within};
pub use session::Session;
pub use train::TrainSummary;
pub use train_args::TrainJob;
pub use words::{count, duration};
