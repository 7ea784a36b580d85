//! From an example and its demonstrations to text: the task's template, label words and separator.
//!
//! Nothing here tokenises or scores, and nothing here chooses demonstrations: a prompt is
//! `instruction` + `demonstration`... + `question`, joined by whoever builds the prompt tree.

mod format;
mod variant;

pub use crate::data::Template;
pub use format::{PromptFormat, Wording};
pub use variant::{Variant, num_variants, variants};
