//! Digests of files, made once for all jobs of a session, and kept on disk for large files.
//!
//! A large file is known again by its path, place on disk, size and times; the time of its last change of
//! any kind (`ctime`) is the system's own and goes with every write, whatever else is set back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::run::{Input, write_atomic};
use crate::server::AnswerStore;

/// Smaller files are read faster than they are looked up.
const LEAST_BYTES: u64 = 8 << 20;
/// A file that was changed a moment ago may be changed again within one tick of the clock.
const SETTLED: Duration = Duration::from_secs(2);

/// What is known of a file besides its contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    path: PathBuf,
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file's facts and its digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    facts: Facts,
    sha256: String,
}

impl Facts {
    fn of(path: &Path, facts: &Metadata) -> Self {
        Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
            device: facts.dev(),
            inode: facts.ino(),
            len: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        }
    }

    /// Whether nobody can be writing the file in this very moment unseen.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = self.changed.0.max(self.modified.0);
        u64::try_from(changed).is_ok_and(|changed| changed + SETTLED.as_secs() < now.as_secs())
    }

    /// Where the digest of a file is kept.
    fn place(&self) -> Option<PathBuf> {
        let name = Sha256::digest(self.path.as_os_str().as_encoded_bytes());
        let name: String = name.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Some(AnswerStore::default_folder()?.join("digests").join(format!("{name}.json")))
    }
}

/// The files that were read, with what they were then.
#[derive(Debug, Default)]
pub(super) struct Digests(RefCell<HashMap<PathBuf, Known>>);

impl Digests {
    /// Returns the record of a file, which is read whole unless that was done before and it is what it
    /// was then.
    pub(super) fn input(&self, role: &str, path: &Path) -> Result<Input> {
        let facts = std::fs::metadata(path).map_err(|e| Error::io("read", path, &e))?;
        let facts = Facts::of(path, &facts);
        let input =
            |sha256: String| Input { role: role.into(), path: path.display().to_string(), sha256 };
        if let Some(known) = self.0.borrow().get(path).filter(|known| known.facts == facts) {
            return Ok(input(known.sha256.clone()));
        }
        let place = facts.place().filter(|_| facts.len >= LEAST_BYTES && facts.is_settled());
        let known = match place.as_deref().and_then(|place| kept(place, &facts)) {
            Some(known) => known,
            None => {
                let sha256 = Input::of_file(role, path)?.sha256;
                let known = Known { facts, sha256 };
                if let Some(place) = place {
                    keep(&place, &known);
                }
                known
            }
        };
        let sha256 = known.sha256.clone();
        self.0.borrow_mut().insert(path.to_path_buf(), known);
        Ok(input(sha256))
    }
}

/// The digest that is kept, if the file is what it was then.
fn kept(place: &Path, facts: &Facts) -> Option<Known> {
    let known: Known = serde_json::from_str(&std::fs::read_to_string(place).ok()?).ok()?;
    let is_digest = known.sha256.len() == 64 && known.sha256.bytes().all(|b| b.is_ascii_hexdigit());
    (known.facts == *facts && is_digest).then_some(known)
}

/// Keeps a digest. One that cannot be kept is made again.
fn keep(place: &Path, known: &Known) {
    let (Some(folder), Ok(bytes)) = (place.parent(), serde_json::to_vec(known)) else { return };
    if std::fs::create_dir_all(folder).is_ok() {
        let _ = write_atomic(place, &bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_kept_for_the_file_that_had_it() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("weights");
        std::fs::write(&file, "abc").unwrap();
        let facts = || Facts::of(&file, &std::fs::metadata(&file).unwrap());
        let (before, kept_at) = (facts(), place.path().join("d/k.json"));
        let sha256 = "a".repeat(64);
        keep(&kept_at, &Known { facts: before.clone(), sha256: sha256.clone() });
        assert_eq!(kept(&kept_at, &before).map(|known| known.sha256), Some(sha256));
        assert!(!before.is_settled());
        // Other contents of the same size, with the time of the old ones.
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&file, "abd").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        assert_eq!(facts().modified, before.modified);
        assert!(kept(&kept_at, &facts()).is_none());
        std::fs::write(&kept_at, "{").unwrap();
        assert!(kept(&kept_at, &before).is_none());
    }
}
