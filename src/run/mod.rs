//! The run folder: what a command was, what it has done so far, and what it made.
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | command, resolved settings, seed, versions, digests of the inputs |
//! | `journal.jsonl` | every answer of the model, in order; a resumed run replays it |
//! | `labels.jsonl`, `trace.jsonl`, `summary.json` | results, written by the stage |
//! | `timing.json` | wall time; the only file that differs between equal runs |

mod diff;
mod folder;
mod journal;
mod manifest;
mod seed;

pub use diff::{Difference, LabelCounts, Parting, RunDiff, diff_runs};
pub use folder::{OpenMode, RunDir, write_atomic};
pub use journal::Journal;
pub(crate) use manifest::BLOCKS;
pub use manifest::{GoldUse, Input, Manifest};
pub use seed::SeedStream;
