//! The run folder: what a command was, what it has done so far, and what it made.
//!
//! [`files`] names every file of a run folder, who writes it and when.

mod atomic;
mod contents;
mod diff;
pub mod files;
mod folder;
mod journal;
mod list;
mod loop_record;
mod manifest;
mod origin;
mod seed;
mod timing;

pub use atomic::write_atomic;
pub(crate) use atomic::{AtomicFile, create_anew};
pub use diff::{Difference, LabelCounts, Parting, RunDiff, diff_runs};
pub(crate) use files::EXPLANATION;
pub use files::{LOOP, ROUNDS};
pub use folder::{OpenMode, RunDir, copy_run};
pub use journal::Journal;
pub use list::{FoundRun, RunState, find_run, find_runs, read_run};
pub use loop_record::{Alarm, Brakes, LoopRecord, Round};
pub(crate) use manifest::BLOCKS;
pub use manifest::{GoldUse, Input, Manifest};
pub use origin::{Origin, utc};
pub use seed::SeedStream;
