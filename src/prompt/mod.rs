//! From an example and its demonstrations to text: the task's template, label words and separator.
//!
//! Nothing here tokenises or scores, and nothing here chooses demonstrations: a prompt is
//! `instruction` + `demonstration`... + `question`, joined by whoever builds the prompt tree.

mod format;
mod template;

pub use format::PromptFormat;
pub use template::Template;
