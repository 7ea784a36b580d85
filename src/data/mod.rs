//! Records, task files, labels, and gold in a type of its own.
//!
//! A file of records becomes a [`Dataset`] under a [`Task`], which says which columns are text and
//! which hold gold. A gold column never gets into an [`Example`]; [`GoldLabels`] is the only type
//! that reads one. Nothing here spells prompts or knows of models.

mod answers;
mod audit_answers;
mod closest;
mod columns;
mod dataset;
mod example;
mod expand;
mod gold;
mod gold_spec;
mod in_order;
mod key;
mod labels;
mod literal;
mod load;
mod own_table;
mod published;
mod quotes;
mod read;
mod read_parquet;
mod read_table;
mod record;
mod reference;
mod split;
mod task;
mod task_answers;
mod task_file;
mod task_gold;
mod task_load;
mod task_new;
mod task_parts;
mod task_preference;
mod task_prompt;
mod task_source;
mod template;
mod value;

pub use answers::{
    AnswerRecord, WeakRecord, WeightRecord, by_question, json_lines, read_json_lines,
};
pub use audit_answers::{AuditAnswer, AuditAnswers};
pub use closest::{closest, did_you_mean};
pub use columns::ColumnNames;
pub use dataset::Dataset;
pub use example::Example;
pub use gold::{GoldAnswers, GoldLabels};
pub use key::final_number;
pub use labels::{
    GivenLabel, LabelRecord, read_demonstrations, read_given_labels, read_label_records,
    read_labels, write_labels,
};
pub use load::join_records;
pub use own_table::OwnTable;
pub use published::{PublishedRow, read_published_rows};
pub use reference::ReferenceKeys;
pub use split::{batch_ids, split_ids};
pub use task::Task;
pub use task_answers::{AnswerSpec, MAX_OPTIONS, ParserName, VariantKind, option_letter};
pub use task_new::{Column, NewTask, read_columns};
pub use task_parts::{HubSource, Label, PromptCase, PromptSpec, Rule};
pub use task_preference::{AnswerPair, Preference};
pub use template::Template;
pub use value::id_text;
