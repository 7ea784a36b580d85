//! The text of a task file, for errors that name the line, and the columns that it may not read.

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// A task file's text and path, for errors that name the line.
pub(super) struct Source<'s> {
    pub(super) toml: &'s str,
    pub(super) path: &'s Path,
}

impl Source<'_> {
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = &self.toml.as_bytes()[..offset.min(self.toml.len())];
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    pub(super) fn fault(&self, span: Range<usize>, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Task, message).at_line(self.path, self.line(span.start))
    }
}

/// Refuses a text, group or key column that holds gold.
pub(super) fn check_not_gold(
    what: &str,
    columns: &[String],
    gold: &[String],
    span: Range<usize>,
    source: &Source<'_>,
) -> Result<()> {
    let root = |column: &str| column.split_once('.').map(|(root, _)| root.to_owned());
    let holds_gold = |column: &&String| {
        gold.contains(column) || root(column).is_some_and(|root| gold.contains(&root))
    };
    match columns.iter().find(holds_gold) {
        None => Ok(()),
        Some(column) => Err(source
            .fault(span, format!("{what} comes from column `{column}`, which holds gold"))
            .hint("gold columns are `label` and those of `gold.columns` and `gold.forbidden`")),
    }
}
