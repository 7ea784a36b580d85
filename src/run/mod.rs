//! The run folder: what a command was, what it has done so far, and what it made.
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | command, resolved settings, seed, versions, digests of the inputs |
//! | `journal.jsonl` | every answer of the model, in order; a resumed run replays it |
//! | `labels.jsonl`, `trace.jsonl`, `summary.json` | results, written by the stage |
//! | `rounds.jsonl`, `loop.json` | of a loop: what each round came to, and all |
//! | `server.json` | of a model behind a server: route, misses, requests and cost |
//! | `explanation.json` | what a chat model made of the labels |
//! | `timing.json` | wall time and memory; the only file that differs between equal runs |

mod diff;
mod folder;
mod journal;
mod list;
mod manifest;
mod rounds;
mod seed;

pub use diff::{Difference, LabelCounts, Parting, RunDiff, diff_runs};
pub use folder::{OpenMode, RunDir, copy_run, write_atomic};
pub use journal::Journal;
pub use list::{FoundRun, RunState, find_run, find_runs};
pub(crate) use manifest::BLOCKS;
pub use manifest::{GoldUse, Input, Manifest};
pub use rounds::{Alarm, Brakes, LOOP, LoopRecord, ROUNDS, Round, class_entropy};
pub use seed::SeedStream;

/// What a chat model made of a run's labels.
pub(crate) const EXPLANATION: &str = "explanation.json";
