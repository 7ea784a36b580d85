//! An append-only file of answers that survives being killed at any instant.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
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
    /// [`ErrorKind::Io`], or [`ErrorKind::Run`] when another process has it open or a line other
    /// than the last is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |action: &'static str| move |e: std::io::Error| Error::io(action, path, &e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open the journal"))?;
        file.try_lock().map_err(|_| {
            Error::new(ErrorKind::Run, "another process is working on this run")
                .at(path)
                .hint("wait for it, or stop it first")
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read the journal"))?;
        let mut lines = Vec::new();
        let mut good = 0;
        for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
            let complete = line.ends_with(b"\n")
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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
