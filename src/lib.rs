//! `w2s` trains a strong language model from weak or no human labels, on one machine.
//!
//! ```no_run
//! use w2s::pipeline::{Event, LabelJob, ModelOptions, RunOptions, Session, TrainJob};
//! use w2s::run::files::LABELS;
//!
//! # fn main() -> w2s::error::Result<()> {
//! let mut session = Session::new(|event: &Event<'_>| {
//!     if let Event::Step { report, .. } = event {
//!         println!("{} {:.4}", report.step, report.loss);
//!     }
//!     Ok(())
//! });
//! let labelled = LabelJob {
//!     model: ModelOptions::folder("models/gemma-3-270m"),
//!     task: "sentiment".into(),
//!     data: "reviews.jsonl".into(),
//!     run: RunOptions::new("runs/mine"),
//!     ..LabelJob::default()
//! }
//! .run(&mut session)?;
//! TrainJob {
//!     model: ModelOptions::folder("models/gemma-3-270m"),
//!     task: "sentiment".into(),
//!     data: "reviews.jsonl".into(),
//!     labels: vec![labelled.folder.file(LABELS)],
//!     run: RunOptions::new("runs/student"),
//!     ..TrainJob::default()
//! }
//! .run(&mut session)?;
//! # Ok(())
//! # }
//! ```
//!
//! A program of another crate needs one line in its build script, so that the loader finds libtorch:
//! `println!("cargo:rustc-link-arg=-Wl,-rpath,{}", std::env::var("DEP_W2S_LIBTORCH").unwrap());`
//! (`tests/downstream` is such a crate), and [`lm::settle_environment`] first in its `main` for speed.
//!
//! The folders are the flow:
//!
//! ```text
//! data -> prompt -> lm -> score -> label -> filter -> train -> eval -> report
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`error`] | the one error type: what, where, and what to do |
//! | [`guide`] | what it does and how it is used, page by page |
//! | [`guard`] | panics of foreign readers as errors with the file |
//! | [`stats`] | quantiles and entropies, one definition each |
//! | [`run`] | run folders: manifest, journal for resuming, seeds |
//! | [`data`] | records, tasks, labels; gold in a type of its own |
//! | [`prompt`] | examples and demonstrations as text |
//! | [`hub`] | files of data sets on the Hugging Face hub, through its cache |
//! | [`lm`] | one decoder on libtorch for all model families |
//! | [`server`] | a model behind an OpenAI-compatible server: requests, replies, their store and cost |
//! | [`score`] | the one door to a model: label log-probabilities of a tree of prompts |
//! | [`label`] | labels without supervision (ICM), and by prompting |
//! | [`filter`] | which weak labels are kept, by their uncertainty, and what they weigh |
//! | [`train`] | fine-tuning on labels: losses, optimizer, checkpoints |
//! | [`eval`] | how right labels are, once gold may be looked at |
//! | [`report`] | figures from the files of finished runs |
//! | [`recipe`] | whole experiments as lists of commands |
//! | [`pipeline`] | the verbs as typed jobs: each makes, reads or compares run folders |
//!
//! A module uses those above it and its own, and files import each other in no circle. Stages
//! (`label`, `filter`, `train`, `eval`) meet in the files of a run folder and never call each other.

pub mod data;
pub mod error;
pub mod eval;
pub mod filter;
pub mod guard;
pub mod guide;
pub mod hub;
pub mod label;
pub mod lm;
pub mod pipeline;
pub mod prompt;
pub mod recipe;
pub mod report;
pub mod run;
pub mod score;
pub mod server;
pub mod stats;
pub mod train;
