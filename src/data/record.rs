//! A record of a file, and what is known of a file before it is read.
//!
//! Private to `data`: a record still holds every column of the file, gold among them, so only the
//! types of this folder, which pick columns, may see one.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// One record of a file, all its columns.
pub(super) struct Record {
    /// One-based place among the file's records.
    pub(super) row: usize,
    /// One-based line where the record begins.
    pub(super) line: usize,
    pub(super) values: Map<String, Value>,
}

/// The records of one file; never empty.
pub(super) struct Records {
    pub(super) path: PathBuf,
    pub(super) sha256: String,
    pub(super) records: Vec<Record>,
    /// Records of the file of which the reader made none.
    pub(super) num_unused: usize,
    /// What parts the columns of a table, where it is not what the file's name says.
    pub(super) separator: Option<char>,
}

/// What a task knows of how its files are laid out.
#[derive(Clone, Copy, Default)]
pub(super) struct Layout<'t> {
    /// Column names of a table without a header.
    pub(super) columns: Option<&'t [String]>,
    /// Every column that the task speaks of: a first row that has one of them is a header.
    pub(super) known: &'t [String],
    /// How records that hold several questions are read.
    pub(super) reader: Option<Reader>,
    /// Whether tables have a header, where the task says.
    pub(super) has_header: Option<bool>,
    /// Whose labels tell a row of data from a header.
    pub(super) labels: Option<&'t dyn LabelCells>,
    /// Whether every column is wanted, and not those alone that a task asks for.
    pub(super) all_columns: bool,
}

/// Tells cells that hold labels from names of columns.
pub(super) trait LabelCells {
    /// Returns whether a cell under `column` is a label, or a number where labels are: what a name of a
    /// column is not.
    fn spells_label(&self, column: &str, cell: &str) -> bool;
}

/// A way to read records that hold several questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reader {
    /// Lists of right and wrong answers: one claim each.
    AnswerClaims,
    /// Lists of right and wrong answers: every pair of one of each, in both orders.
    AnswerPairs,
    /// Two outputs and which is preferred: the pair in both orders.
    BothOrders,
    /// A survey question with two options: one claim each.
    TwoOptions,
    /// A situation with two actions: one claim each.
    TwoActions,
}

/// Returns the SHA-256 of `bytes` in lower-case hexadecimal.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns `bytes` as text without a byte-order mark.
///
/// # Errors
/// [`ErrorKind::Data`] with the line of the first byte that is not UTF-8.
pub(super) fn utf8<'b>(bytes: &'b [u8], path: &Path) -> Result<&'b str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(source) => {
            let good = &bytes[..source.valid_up_to()];
            let hint = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
                "the file looks like UTF-16; save it as UTF-8"
            } else {
                "save the file as UTF-8 (for example `iconv -f latin1 -t utf-8`)"
            };
            let found = bytes.get(good.len()).copied().unwrap_or_default();
            Err(Error::new(ErrorKind::Data, format!("byte 0x{found:02x} is not UTF-8"))
                .at_line(path, 1 + num_breaks(good))
                .hint(hint))
        }
    }
}

fn num_breaks(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// Lines of rising offsets, without counting from the top each time.
pub(super) struct LineCounter<'t> {
    text: &'t str,
    offset: usize,
    line: usize,
}

impl<'t> LineCounter<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, offset: 0, line: 1 }
    }

    pub(super) fn at(&mut self, offset: usize) -> usize {
        self.line += num_breaks(&self.text.as_bytes()[self.offset..offset]);
        self.offset = offset;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of "abc" is the one in FIPS 180-2.
    #[test]
    fn sha256_of_abc() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
