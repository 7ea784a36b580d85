//! The verbs: what `w2s` does, as typed jobs that make, read and compare run folders.
//!
//! A job is a value with the options of its verb; [`Session`] runs jobs, keeps models open from one to the
//! next, and tells an [`Observer`] what happens. Stages (`label`, `filter`, `train`, `eval`) know nothing
//! of folders; here they get one, with a manifest, a journal and an end.

mod baseline_args;
mod compare;
mod compare_runs;
mod data;
mod draw;
mod eval;
mod eval_loop;
mod eval_weak;
mod explain;
mod export;
mod filter;
mod filter_args;
mod from_gold;
mod gold_demonstrations;
mod held_out;
mod ids;
mod job;
mod label;
mod label_args;
mod loop_args;
mod loop_check;
mod loss_args;
mod merge;
mod model;
mod names;
mod observer;
mod opened;
mod options;
mod outcome;
mod plan;
mod prior_args;
mod published;
mod relabel;
mod report;
mod reproduce;
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

pub use filter::FilterSummary;
pub use job::Job;
pub use observer::{Event, Observer, Silent, begun_word};
pub use outcome::Outcome;
pub use relabel::RelabelSummary;
pub use server_args::within;
pub use session::Session;
pub use train::TrainSummary;
pub use words::{count, duration};
