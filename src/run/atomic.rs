//! Files that are there whole or not at all, whatever happens while they are written.
//!
//! A file is written under a name of its own beside its place, brought to the disk, moved to its
//! place, and the folder is brought to the disk too. Nothing here follows a symbolic link: the file
//! under the other name is always a new one, and locked while it is written: what a killed process
//! left is not locked, and the next that writes the same file deletes it. A link that stands in the file's place is replaced
//! by the file; what it points to stays as it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as IoErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// What the name of a file ends in while it is written.
pub(super) const PARTIAL: &str = ".partial";
/// Names that are tried before giving up; only a leftover of a process with the same number stands
/// in the way of one.
const MOST_TRIES: u32 = 100;

/// A file that is being written; dropped before [`AtomicFile::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    path: PathBuf,
    partial: PathBuf,
    /// `None` once it is in its place.
    file: Option<File>,
}

impl AtomicFile {
    /// Returns a new file that will be at `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or(IoErrorKind::InvalidInput)?;
        delete_left_over(path);
        for _ in 0..MOST_TRIES {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let mut own = name.to_os_string();
            own.push(format!(".{}-{number}{PARTIAL}", std::process::id()));
            let partial = path.with_file_name(own);
            match new_file(&partial) {
                Ok(file) => {
                    // Where files cannot be locked, none is taken for left over.
                    let _ = file.try_lock();
                    // Between making and locking it another process may have taken it for that.
                    if is_at(&file, &partial) {
                        return Ok(Self { path: path.into(), partial, file: Some(file) });
                    }
                }
                Err(e) if e.kind() == IoErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(IoErrorKind::AlreadyExists.into())
    }

    /// Brings the file to the disk and moves it to its place.
    pub(crate) fn commit(mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.file = None;
        sync_folder_of(&self.path)
    }
}

impl io::Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(IoErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // The failure that matters is told already; this is litter.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Writes a file such that a reader, or a kill, finds the old contents or the new, never a part.
///
/// A symbolic link at `path` is replaced; what it points to is not touched.
///
/// # Errors
/// [`crate::error::ErrorKind::Io`]; then the old contents are there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = AtomicFile::create(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.commit()
    };
    write().map_err(|e| Error::io("write", path, &e))
}

/// Returns a new, empty file at `path` that is written in place, so that others see it grow. What
/// stood there is deleted, a symbolic link too and not what it points to.
pub(crate) fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != IoErrorKind::NotFound => Err(e),
        _ => new_file(path),
    }
}

/// Deletes what killed processes left of the file at `path`, as far as it can.
fn delete_left_over(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let head = format!("{}.", name.to_string_lossy());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_partial = |name: &str| {
        let middle = name.strip_prefix(&head).and_then(|rest| rest.strip_suffix(PARTIAL));
        middle.and_then(|m| m.split_once('-')).is_some_and(|(a, b)| is_number(a) && is_number(b))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(is_partial) {
            continue;
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(entry.path());
        if file.is_ok_and(|file| file.try_lock().is_ok() && is_at(&file, &entry.path())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns whether an open file is the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |facts: fs::Metadata| (facts.dev(), facts.ino());
    file.metadata()
        .map(id)
        .is_ok_and(|ours| path.symlink_metadata().map(id).is_ok_and(|t| t == ours))
}

/// Opens a file at a place where there is none; a link there is something.
fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Brings the folder of `path` to the disk, so that the names in it outlast a loss of power.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot do it, and folders that may be written but not read cannot be
        // opened; the file itself is safe.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EACCES | libc::ENOTSUP)) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut all: Vec<String> =
            entries.map(name).map(|name| name.into_string().unwrap()).collect();
        all.sort();
        all
    }

    #[test]
    fn no_link_is_followed_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "safe").unwrap();
        for name in ["a.json", "a.json.partial", "trace.jsonl"] {
            symlink(at("victim"), at(name)).unwrap();
        }
        write_atomic(&at("a.json"), b"new").unwrap();
        create_anew(&at("trace.jsonl")).unwrap().write_all(b"line").unwrap();
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "safe");
        assert_eq!(fs::read_to_string(at("a.json")).unwrap(), "new");
        assert!(!at("a.json").is_symlink() && !at("trace.jsonl").is_symlink());
        assert_eq!(names(folder.path()), ["a.json", "a.json.partial", "trace.jsonl", "victim"]);
    }

    #[test]
    fn a_file_that_is_not_committed_leaves_the_old_one_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomic(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        drop(file);
        assert_eq!(names(folder.path()), ["a"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn what_a_kill_left_goes_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.json.4711-3.partial"), "half").unwrap();
        fs::write(at("a.json.mine.partial"), "not ours").unwrap();
        let other = AtomicFile::create(&at("a.json")).unwrap();
        write_atomic(&at("a.json"), b"new").unwrap();
        assert!(other.partial.exists() && !at("a.json.4711-3.partial").exists());
        assert!(at("a.json.mine.partial").exists());
        other.commit().unwrap();
        assert_eq!(fs::read_to_string(at("a.json")).unwrap(), "");
    }

    #[test]
    fn modes_are_those_of_any_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("a"), folder.path().join("b"));
        write_atomic(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn a_file_without_a_name_is_an_error() {
        assert!(write_atomic(Path::new("/"), b"x").is_err());
        assert!(write_atomic(Path::new(".."), b"x").is_err());
    }
}
