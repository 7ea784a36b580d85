//! Records, task files, labels, and gold in a type of its own.
//!
//! A file of records becomes a [`Dataset`] under a [`Task`], which says which columns are text and
//! which hold gold. A gold column never gets into an [`Example`]; [`GoldLabels`] is the only type
//! that reads one. Nothing here spells prompts or knows of models.

mod dataset;
mod example;
mod gold;
mod key;
mod labels;
mod read;
mod task;
mod task_file;
mod value;

pub use dataset::Dataset;
pub use example::Example;
pub use gold::GoldLabels;
pub use labels::{LabelRecord, read_demonstrations, read_label_records, read_labels, write_labels};
pub use task::{Label, PromptSpec, Rule, Task};
