//! An append-only file of answers that survives being killed at any instant.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// One JSON value a line; read from the start, then appended to.
///
/// An entry counts once its line break is on the disk. What a kill left of a last, unfinished line
/// is cut off on opening. The file is locked as long as the journal is open, so that two processes
/// cannot continue one run.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    lines: Vec<String>,
    next: usize,
}

impl Journal {
    /// Returns the journal at `path`, made if it is not there, positioned before its first entry.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Run`] when another process has it open, its file system
    /// cannot lock files, or a line other than the last is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of_locked(path, lock(path)?)
    }

    /// Returns the journal in a file that is locked.
    pub(super) fn of_locked(path: &Path, mut file: File) -> Result<Self> {
        let io = |action: &'static str| move |e: std::io::Error| Error::io(action, path, &e);
        file.seek(SeekFrom::Start(0)).map_err(io("read the journal"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read the journal"))?;
        let mut lines = Vec::new();
        let mut good = 0;
        for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
            let complete = line.ends_with(b"\n")
                && std::str::from_utf8(line).is_ok()
                && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
            if !complete {
                if good + line.len() < bytes.len() {
                    return Err(Error::new(ErrorKind::Run, "the journal is damaged")
                        .at_line(path, i + 1)
                        .hint("start a new run folder; this one cannot be continued"));
                }
                break;
            }
            good += line.len();
            lines.push(String::from_utf8_lossy(line).into_owned());
        }
        file.set_len(good as u64).map_err(io("repair the journal"))?;
        file.seek(SeekFrom::End(0)).map_err(io("read the journal"))?;
        Ok(Self { path: path.to_path_buf(), file, lines, next: 0 })
    }

    /// Returns the journal's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many recorded entries are still to be replayed.
    pub fn num_left(&self) -> usize {
        self.lines.len() - self.next
    }

    /// Returns the next recorded entry and its one-based line, or `None` when all have been read.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] when the entry is not of this type.
    pub fn replay<T: DeserializeOwned>(&mut self) -> Result<Option<(T, usize)>> {
        let Some(line) = self.lines.get(self.next) else { return Ok(None) };
        self.next += 1;
        let entry = serde_json::from_str(line).map_err(|e| {
            Error::new(ErrorKind::Run, format!("the journal's entry cannot be read: {e}"))
                .at_line(&self.path, self.next)
                .hint("it was written by another version; start a new run folder")
        })?;
        // Read once and never again; a long journal should not stay in memory.
        self.lines[self.next - 1] = String::new();
        Ok(Some((entry, self.next)))
    }

    /// Adds an entry and waits until it is on the disk.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Internal`] when recorded entries have not all been read.
    pub fn append<T: Serialize>(&mut self, entry: &T) -> Result<()> {
        if self.num_left() > 0 {
            return Err(Error::new(ErrorKind::Internal, "appending to a journal before its end"));
        }
        let mut line = serde_json::to_string(entry).map_err(|e| {
            Error::new(ErrorKind::Internal, format!("a journal entry cannot be written: {e}"))
        })?;
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|e| Error::io("write the journal", &self.path, &e))
    }
}

/// Returns the file at `path`, made if it is not there, locked against other processes.
///
/// # Errors
/// [`ErrorKind::Run`] when another process has it or the file system cannot lock files,
/// [`ErrorKind::Io`] when it cannot be opened; a symbolic link is not followed.
pub(super) fn lock(path: &Path) -> Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|e| open_error(path, &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let who = holder(&file).map_or_else(String::new, |pid| format!(" ({pid})"));
                return Err(Error::new(
                    ErrorKind::Run,
                    format!("another process{who} is working on this run"),
                )
                .at(path)
                .hint("wait for it, or stop it first"));
            }
            Err(TryLockError::Error(e)) if e.kind() == IoErrorKind::Interrupted => continue,
            Err(TryLockError::Error(e)) => return Err(lock_error(path, &e)),
        }
        // Another process may have deleted the run in the meantime, and the file with it.
        let id = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
        let ours = file.metadata().map(id).map_err(|e| Error::io("open the journal", path, &e))?;
        if std::fs::symlink_metadata(path).map(id).is_ok_and(|there| there == ours) {
            return Ok(file);
        }
    }
}

fn open_error(path: &Path, source: &std::io::Error) -> Error {
    let error = Error::io("open the journal", path, source);
    match source.raw_os_error() {
        Some(libc::ELOOP) => error.hint("the journal is a symbolic link, which is not followed; remove the link, or choose a new folder for `--out`"),
        Some(libc::EROFS) => error.hint("the file system is read-only; choose a folder for `--out` that can be written"),
        _ => error,
    }
}

fn lock_error(path: &Path, source: &std::io::Error) -> Error {
    let hint = match source.raw_os_error() {
        Some(libc::ENOLCK) => {
            "the system has no locks left, or the network file system's lock service does not answer; choose a folder for `--out` on a local disk"
        }
        Some(libc::ENOTSUP | libc::ENOSYS | libc::EINVAL) => {
            "the file system has no locks; choose a folder for `--out` on a local disk"
        }
        _ => "choose a folder for `--out` on a local disk",
    };
    Error::new(ErrorKind::Run, format!("the run cannot be locked: {source}")).at(path).hint(hint)
}

/// Returns the process that has the lock of a file, where the system tells.
fn holder(file: &File) -> Option<u32> {
    let facts = file.metadata().ok()?;
    let id = format!(
        "{:02x}:{:02x}:{}",
        libc::major(facts.dev()),
        libc::minor(facts.dev()),
        facts.ino()
    );
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    let line = table.lines().find(|line| line.split_whitespace().any(|word| word == id))?;
    // `1: FLOCK ADVISORY WRITE 4711 fe:01:123 0 EOF`
    line.split_whitespace().nth(4)?.parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_fails_is_not_called_another_process() {
        let path = Path::new("run/journal.jsonl");
        for code in [libc::ENOLCK, libc::EOPNOTSUPP, libc::ENOSYS, libc::EIO] {
            let error = lock_error(path, &std::io::Error::from_raw_os_error(code));
            let text = error.to_string();
            assert!(!text.contains("another process"), "{text}");
            assert!(text.contains("cannot be locked") && text.contains("hint:"), "{text}");
            assert!(text.contains("in: `run/journal.jsonl`"), "{text}");
        }
    }

    #[test]
    fn a_journal_that_is_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("journal.jsonl"));
        std::fs::write(&victim, "not a journal").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "not a journal");
    }

    fn entries(path: &Path) -> Vec<u32> {
        let mut journal = Journal::open(path).unwrap();
        let mut all = Vec::new();
        while let Some((entry, _)) = journal.replay::<u32>().unwrap() {
            all.push(entry);
        }
        all
    }

    #[test]
    fn a_cut_last_line_is_dropped_at_every_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let whole = b"11\n22\n33\n";
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let expected: Vec<u32> = [11, 22, 33][..cut / 3].to_vec();
            assert_eq!(entries(&path), expected, "cut at {cut}");
            let mut journal = Journal::open(&path).unwrap();
            while journal.replay::<u32>().unwrap().is_some() {}
            journal.append(&44_u32).unwrap();
            drop(journal);
            assert_eq!(entries(&path), [expected, vec![44]].concat());
        }
    }

    #[test]
    fn damage_before_the_end_is_an_error_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, "1\n{\n3\n").unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Run);
        assert_eq!(error.place().unwrap().1, Some(2));
    }

    #[test]
    fn two_processes_cannot_hold_one_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let _first = Journal::open(&path).unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(error.message().contains("another process"));
        let own = format!("({})", std::process::id());
        assert!(error.message().contains(&own) || !Path::new("/proc/locks").exists(), "{error}");
    }
}
