//! How much one rendering may still make.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::{Error, ErrorKind, Value};

/// What one rendering may still make, in bytes of text and of entries of lists.
#[derive(Clone)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// Bytes that stand for an entry of a list.
pub(super) const ENTRY_BYTES: usize = 16;

impl Budget {
    pub(super) fn new(num_bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(num_bytes)))
    }

    pub(super) fn take(&self, num_bytes: usize) -> Result<(), Error> {
        let left = self.0.load(Ordering::Relaxed);
        match left.checked_sub(num_bytes) {
            Some(rest) => {
                self.0.store(rest, Ordering::Relaxed);
                Ok(())
            }
            None => Err(Error::new(
                ErrorKind::InvalidOperation,
                "it makes more text than any template needs; does it double a text in a loop?",
            )),
        }
    }

    /// Counts a value that was made.
    pub(super) fn made(&self, value: Value) -> Result<Value, Error> {
        self.take(match value.as_str() {
            Some(text) => text.len(),
            None => value.len().unwrap_or(0).saturating_mul(ENTRY_BYTES),
        })?;
        Ok(value)
    }
}
