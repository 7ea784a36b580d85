//! One example: the texts a prompt is made of, and where it stands among the others.

use std::collections::BTreeMap;

/// An example without its label.
///
/// Holds the fields its task declares and nothing else of the record: a column the task does not
/// name, gold above all, is not here to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The record's `id`, or `row-N` by its one-based place in the file.
    pub id: String,
    /// Text of each field the task declares.
    pub fields: BTreeMap<String, String>,
    /// The options to choose from, in the record's order; empty for tasks without options.
    pub options: Vec<String>,
    /// Other wordings of a field, where the task and the record have them.
    pub paraphrases: Vec<String>,
    /// The consistency group: labels of one group's examples constrain each other.
    pub group: Option<String>,
    /// The consistency key, read from the text alone; `None` if the text shows none.
    pub key: Option<String>,
    /// The one-based line where the record begins.
    pub line: usize,
}
