//! Records, task files, labels, and gold in a type of its own.
//!
//! A file of records becomes a [`Dataset`] under a [`Task`], which says which columns are text and
//! which hold gold. A gold column never gets into an [`Example`]; [`GoldLabels`] is the only type
//! that reads one. Nothing here spells prompts or knows of models.

mod answers;
mod dataset;
mod example;
mod expand;
mod gold;
mod gold_spec;
mod in_order;
mod key;
mod labels;
mod literal;
mod read;
mod read_parquet;
mod read_table;
mod reference;
mod task;
mod task_file;
mod task_gold;
mod task_prompt;
mod value;

pub use answers::{
    AnswerRecord, WeakRecord, WeightRecord, by_question, json_lines, read_json_lines,
};
pub use dataset::Dataset;
pub use example::Example;
pub use gold::GoldLabels;
pub use labels::{LabelRecord, read_demonstrations, read_label_records, read_labels, write_labels};
pub use read::join_records;
pub use reference::ReferenceKeys;
pub use task::{HubSource, Label, PromptCase, PromptSpec, Rule, Task};
