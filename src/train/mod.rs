//! Training: weighted supervised fine-tuning of a model on labels, whole or through an adapter.
//!
//! An [`Item`] is a prompt with the answers that may follow it and how much each counts; where they
//! come from (labels of a run, filtered and weighted answers, gold) is not known here. A
//! [`Trainer`] takes them in a seeded order, in batches whose loss is divided once for the whole
//! batch, so that it does not matter in how many passes a batch is run; a pass holds sequences of
//! different lengths without padding, and those of one question as a tree whose shared beginning is
//! run once. For the same reason it does not matter how many processes share a batch ([`Group`]).

mod batch;
mod c10d;
mod checkpoint;
mod events;
mod fused;
mod group;
mod item;
mod loss;
mod memory;
mod optimizer;
mod rank;
mod state;
mod trainer;

pub use batch::{Normalise, Pack, Plan};
pub use checkpoint::Checkpointing;
pub use events::EventFile;
pub use group::{Group, Patience};
pub use item::{Answer, Item, ItemBuilder, TooLong};
pub use loss::{ClassLoss, Loss};
pub use memory::{PassMemory, TrainedParts};
pub use optimizer::{AdamW, Decay, Parameter, Schedule};
pub use rank::ProcessRank;
pub use state::State;
pub use trainer::{PlannedStep, StepReport, TrainSettings, Trainer};
