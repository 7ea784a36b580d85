//! Digests of files, made once for all jobs of a session.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::run::Input;

/// A file's size and time of change, and the digest it had then.
type Digest = (u64, Option<SystemTime>, String);

/// The files that were read, with what they were then.
#[derive(Debug, Default)]
pub(super) struct Digests(RefCell<HashMap<PathBuf, Digest>>);

impl Digests {
    /// Returns the record of a file, which is read whole unless this session did so and its size and
    /// time of change are what they were.
    pub(super) fn input(&self, role: &str, path: &Path) -> Result<Input> {
        let facts = std::fs::metadata(path).map_err(|e| Error::io("read", path, &e))?;
        let (len, changed) = (facts.len(), facts.modified().ok());
        if let Some((old_len, old_changed, sha256)) = self.0.borrow().get(path)
            && (*old_len, *old_changed) == (len, changed)
            && changed.is_some()
        {
            let path = path.display().to_string();
            return Ok(Input { role: role.into(), path, sha256: sha256.clone() });
        }
        let input = Input::of_file(role, path)?;
        let digest = (len, changed, input.sha256.clone());
        self.0.borrow_mut().insert(path.to_path_buf(), digest);
        Ok(input)
    }
}
