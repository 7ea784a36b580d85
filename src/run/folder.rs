//! Making, continuing and protecting run folders.
//!
//! The life of a run has one order, and no other can be written with what is here: the lock is taken,
//! the manifest is written, the work writes its results, the end mark is set, and what was there for
//! going on after a kill is deleted. A kill at any instant leaves a run that goes on, or is complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::atomic::{AtomicFile, create_anew, write_atomic};
use super::contents::{Found, expand, look, partials, read_manifest, remove};
use super::files::{JOURNAL, MANIFEST, Stage, TIMING, files_of, stage_of};
use super::journal::{self, Journal};
use super::manifest::Manifest;
use super::origin::Origin;
use super::timing::{Timing, peak_memory_bytes};
use crate::error::{Error, ErrorKind, Result};

/// What may happen to a run folder that is already there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenMode {
    /// It is an error.
    #[default]
    New,
    /// The run is continued; one that is not there is begun.
    Resume,
    /// The old run's files are deleted and a new run is begun.
    Force,
}

/// A run folder: open for work, and then locked, or to be read.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    manifest: Box<Manifest>,
    complete: bool,
    /// Of the process that works here, until the run is complete.
    lock: Option<File>,
    /// Whether this process made the run anew.
    begun: bool,
}

impl RunDir {
    /// Returns the run folder at `path` for the run that `manifest` describes, locked as long as the
    /// value lives and the run is not complete.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] when a run is there and `mode` does not allow it, when the folder holds
    /// something else, when a run to be continued had other settings, data or another command, or
    /// when another process is at work there. Then nothing was changed.
    pub fn open(path: &Path, manifest: &Manifest, mode: OpenMode) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| Error::io("make the run folder", path, &e))?;
        let folder = |complete, lock| Self {
            path: path.to_path_buf(),
            manifest: Box::new(manifest.clone()),
            complete,
            lock,
            begun: false,
        };
        // Once without the lock: it is a file, and nothing is to be written where no run may be made.
        if permit(path, manifest, mode)? == Allowed::Nothing {
            let done = folder(true, None);
            done.tidy();
            return Ok(done);
        }
        let lock = journal::lock(&path.join(JOURNAL))?;
        // And once more under it: another process may have been at work until now.
        let allowed = permit(path, manifest, mode)?;
        let mut folder = folder(allowed == Allowed::Nothing, Some(lock));
        match allowed {
            Allowed::Nothing => folder.tidy(),
            Allowed::Continue => folder.delete_partials()?,
            Allowed::Replace(old) => {
                folder.delete_files(&old, false)?;
                folder.begin()?;
                folder.begun = true;
            }
            Allowed::Begin => {
                folder.begin()?;
                folder.begun = true;
            }
        }
        Ok(folder)
    }

    /// Refuses a folder in which no run of a command can be made or gone on with, before anything is read
    /// for the run.
    ///
    /// # Errors
    /// As [`RunDir::open`], as far as a run can be told by its command alone.
    pub fn check_place(path: &Path, command: &str, mode: OpenMode) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        match look(path)? {
            Found::Nothing => Ok(()),
            Found::Other => Err(holds_no_run(path)),
            Found::Run(old, _) => refuse_other(path, &old, command, mode),
        }
    }

    /// Writes the manifest. Only the lock is there.
    fn begin(&self) -> Result<()> {
        self.delete_partials()?;
        self.write_any(MANIFEST, &Written { manifest: &self.manifest, origin: Origin::now() })
    }

    /// Returns the folder of an existing run, to be read.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] when there is none at `path`.
    pub fn existing(path: &Path) -> Result<(Self, Manifest)> {
        match read_manifest(path)? {
            Some(manifest) => {
                let complete = path.join(TIMING).exists();
                let (path, kept) = (path.to_path_buf(), Box::new(manifest.clone()));
                Ok((Self { path, manifest: kept, complete, lock: None, begun: false }, manifest))
            }
            None => Err(Error::new(ErrorKind::Run, "there is no run in this folder")
                .at(path)
                .hint("expected a folder that `w2s label --out` or another command made, with a manifest.json")),
        }
    }

    /// Deletes the files of the run in `path`, and the folder if nothing else is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] when a process is at work there, [`ErrorKind::Io`].
    pub fn delete(path: &Path) -> Result<()> {
        let (mut folder, manifest) = Self::existing(path)?;
        folder.lock = Some(journal::lock(&path.join(JOURNAL))?);
        folder.delete_files(&manifest, true)?;
        // Fails where the user keeps something there, which then stays.
        let _ = fs::remove_dir(path);
        Ok(())
    }

    /// Deletes the files of the run of `old`: with the lock and the manifest, or all but these.
    fn delete_files(&self, old: &Manifest, with_last: bool) -> Result<()> {
        let mut folders = Vec::new();
        for (pattern, stage) in files_of(old) {
            if stage == Stage::Kept {
                continue;
            }
            if stage == Stage::Lock {
                // Before the journal ends: an end mark is gone by now, a loop's steps are not.
                self.delete_steps(old)?;
            }
            for file in expand(&self.path, &pattern) {
                match stage {
                    Stage::Lock if !with_last => self.empty_journal()?,
                    Stage::Manifest if !with_last => {}
                    _ => remove("delete the old run's file", &file)?,
                }
                if pattern.contains('/') {
                    folders.extend(file.parent().map(Path::to_path_buf));
                }
            }
        }
        self.delete_partials()?;
        for folder in folders {
            // Fails where the user keeps something there, which then stays.
            let _ = fs::remove_dir(&folder);
            if let Some(above) = folder.parent().filter(|above| *above != self.path) {
                let _ = fs::remove_dir(above);
            }
        }
        Ok(())
    }

    fn empty_journal(&self) -> Result<()> {
        let Some(lock) = &self.lock else { return Ok(()) };
        let path = self.file(JOURNAL);
        lock.set_len(0).map_err(|e| Error::io("empty the old run's journal", &path, &e))
    }

    /// Deletes the steps of an old loop, which are runs of their own.
    fn delete_steps(&self, old: &Manifest) -> Result<()> {
        if old.command != "loop" {
            return Ok(());
        }
        for round in expand(&self.path, "round-*") {
            for step in expand(&round, "*") {
                if Self::existing(&step).is_ok() {
                    Self::delete(&step)?;
                }
            }
            let _ = fs::remove_dir(&round);
        }
        Ok(())
    }

    /// Deletes what a kill left of files that were being written. It is called under the lock.
    fn delete_partials(&self) -> Result<()> {
        for file in partials(&self.path, &self.manifest, true) {
            remove("delete what is left of a killed run", &file)?;
        }
        Ok(())
    }

    /// Deletes what a kill after the end mark left; a run that is not complete, and a folder that may
    /// only be read, stay as they are.
    pub fn tidy(&self) {
        if !self.complete {
            return;
        }
        let left: Vec<PathBuf> =
            self.scratch().chain(partials(&self.path, &self.manifest, false)).collect();
        if left.is_empty() {
            return;
        }
        let own = if self.lock.is_none() { journal::lock(&self.file(JOURNAL)).ok() } else { None };
        if own.is_some() || self.lock.is_some() {
            left.iter().for_each(|file| drop(fs::remove_file(file)));
        }
    }

    fn scratch(&self) -> impl Iterator<Item = PathBuf> {
        let all = files_of(&self.manifest).into_iter();
        let names = all.filter(|(_, stage)| *stage == Stage::Scratch);
        names.flat_map(|(pattern, _)| expand(&self.path, &pattern))
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns whether the run has ended.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the run's journal, before its first entry.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn journal(&self) -> Result<Journal> {
        let path = self.file(JOURNAL);
        let Some(lock) = &self.lock else {
            return Err(self.bug("the journal of a run that is not open for work"));
        };
        let file = lock.try_clone().map_err(|e| Error::io("open the journal", &path, &e))?;
        Journal::of_locked(&path, file)
    }

    /// Writes a file of the run, all or nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], and [`ErrorKind::Internal`] when the file is not in the table of
    /// [`files`](super::files) or it is not the time for it: results before the end mark, findings
    /// after it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_atomic(&self.place(name)?, bytes)
    }

    /// Writes `value` as indented JSON, all or nothing.
    ///
    /// # Errors
    /// As [`RunDir::write`].
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        self.place(name)?;
        self.write_any(name, value)
    }

    /// Returns a new, empty file of the run that is written in place, so that others see it grow.
    ///
    /// # Errors
    /// As [`RunDir::write`].
    pub fn create(&self, name: &str) -> Result<File> {
        let path = self.place(name)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, &e))?;
        }
        create_anew(&path).map_err(|e| Error::io("write", &path, &e))
    }

    /// Returns the path of a file that may be written now.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] as [`RunDir::write`].
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        match stage_of(&self.manifest, name) {
            Some(Stage::Result | Stage::Scratch) if self.lock.is_some() && !self.complete => {}
            Some(Stage::Finding | Stage::Kept) if self.complete => {}
            Some(stage) => return Err(self.bug(&format!("`{name}` ({stage:?})"))),
            None => {
                let command = &self.manifest.command;
                return Err(self.bug(&format!("`{name}`, which is no file of `w2s {command}`")));
            }
        }
        Ok(self.file(name))
    }

    fn bug(&self, what: &str) -> Error {
        let state = if self.complete { "complete" } else { "not complete" };
        Error::new(ErrorKind::Internal, format!("writing {what}, the run is {state}"))
            .at(&self.path)
    }

    fn write_any<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(|e| {
            Error::new(ErrorKind::Internal, format!("`{name}` cannot be written: {e}"))
        })?;
        text.push('\n');
        write_atomic(&self.file(name), text.as_bytes())
    }

    /// Marks the run as complete and returns it to be read: from now on no result can be written and
    /// the lock is free. Writes how long its last session took, as a whole and without opening the
    /// model, in seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn finish(self, session_seconds: f64, work_seconds: f64) -> Result<Self> {
        self.end(session_seconds, work_seconds, None)
    }

    /// Does what [`RunDir::finish`] does, and writes too how many tokens the last session ran.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn finish_training(
        self,
        session_seconds: f64,
        work_seconds: f64,
        tokens: u64,
    ) -> Result<Self> {
        self.end(session_seconds, work_seconds, Some(tokens))
    }

    fn end(mut self, session: f64, work: f64, tokens: Option<u64>) -> Result<Self> {
        let timing = Timing {
            session_seconds: session,
            work_seconds: work,
            session_tokens: tokens,
            peak_memory_bytes: peak_memory_bytes(),
        };
        self.write_any(TIMING, &timing)?;
        for file in self.scratch() {
            remove("delete (the run is complete)", &file)?;
        }
        (self.complete, self.lock) = (true, None);
        Ok(self)
    }
}

/// The manifest as it is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    origin: Origin,
}

/// What is to be done in a folder.
#[derive(PartialEq)]
enum Allowed {
    /// The run is complete.
    Nothing,
    Begin,
    Continue,
    Replace(Box<Manifest>),
}

/// Returns what a run of `manifest` may do in a folder.
fn permit(path: &Path, manifest: &Manifest, mode: OpenMode) -> Result<Allowed> {
    let run = |message: String| Error::new(ErrorKind::Run, message).at(path);
    let (old, complete) = match look(path)? {
        Found::Nothing => return Ok(Allowed::Begin),
        Found::Other => return Err(holds_no_run(path)),
        Found::Run(old, complete) => (old, complete),
    };
    refuse_other(path, &old, &manifest.command, mode)?;
    match mode {
        // Refused above.
        OpenMode::New | OpenMode::Force => Ok(Allowed::Replace(old)),
        OpenMode::Resume => match old.first_difference(manifest) {
            Some(difference) => Err(run(format!("the run cannot be continued: {difference}"))
                .hint("use the settings the run began with (manifest.json), or a new `--out`")),
            None if complete => Ok(Allowed::Nothing),
            None => Ok(Allowed::Continue),
        },
    }
}

fn holds_no_run(path: &Path) -> Error {
    Error::new(ErrorKind::Run, "the folder is not empty and holds no run")
        .at(path)
        .hint("choose a new folder for `--out`; nothing was changed")
}

/// Refuses what may not be done with a run that is there, whatever its settings are.
fn refuse_other(path: &Path, old: &Manifest, command: &str, mode: OpenMode) -> Result<()> {
    let run = |message: String| Error::new(ErrorKind::Run, message).at(path);
    if old.command != command {
        return Err(run(format!(
            "the folder holds a run of `w2s {}`, not of `w2s {command}`",
            old.command
        ))
        .hint("choose a new folder for `--out`; nothing was changed"));
    }
    match mode {
        OpenMode::New => Err(run("the folder already holds a run".into()).hint(
            "continue it with `--resume`, replace it with `--force`, or choose a new folder for `--out`",
        )),
        OpenMode::Resume | OpenMode::Force => Ok(()),
    }
}

impl Drop for RunDir {
    /// Takes a run away that ended before it had anything to keep, so that a start that failed does not
    /// stand in the way of the next.
    fn drop(&mut self) {
        if self.complete || self.lock.is_none() || !self.begun {
            return;
        }
        let files: Vec<PathBuf> = files_of(&self.manifest)
            .into_iter()
            .flat_map(|(pattern, _)| expand(&self.path, &pattern))
            .collect();
        let manifest = self.file(MANIFEST);
        // What cannot be looked at is kept.
        let is_kept = |file: &PathBuf| {
            *file != manifest && file.symlink_metadata().map_or(true, |facts| facts.len() > 0)
        };
        // The steps of a loop are runs of their own.
        if files.iter().any(is_kept) || !expand(&self.path, "round-*").is_empty() {
            return;
        }
        let _ = self.delete_files(&self.manifest, true);
        remove_empty(&self.path);
    }
}

/// Deletes a folder and those in it, as far as there is nothing in them.
fn remove_empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// Copies the files of a complete run to a folder that is not there yet, with the manifest of a run
/// that comes to the same: all that the run itself made, and nothing that was found of it later.
///
/// # Errors
/// [`ErrorKind::Io`], and those of [`RunDir::open`].
pub fn copy_run(from: &Path, to: &Path, manifest: &Manifest) -> Result<()> {
    let (_, old) = RunDir::existing(from)?;
    let copy = RunDir::open(to, manifest, OpenMode::New)?;
    let mut files: Vec<(PathBuf, Stage)> = files_of(&old)
        .into_iter()
        .filter(|(_, stage)| matches!(stage, Stage::Lock | Stage::Result | Stage::End))
        .flat_map(|(pattern, stage)| expand(from, &pattern).into_iter().map(move |p| (p, stage)))
        .collect();
    // The end mark last: it says that all are there.
    files.sort_by_key(|(_, stage)| *stage);
    for (path, stage) in files {
        let Ok(name) = path.strip_prefix(from) else { continue };
        let place = to.join(name);
        let fail = |e: io::Error| Error::io("copy the file", &path, &e);
        let into = |e: io::Error| Error::io("write", &place, &e);
        let mut source = File::open(&path).map_err(fail)?;
        match (stage, &copy.lock) {
            (Stage::Lock, Some(lock)) => {
                let mut journal = lock;
                io::copy(&mut source, &mut journal).map_err(into)?;
                lock.sync_all().map_err(into)?;
            }
            _ => {
                if let Some(folder) = place.parent() {
                    fs::create_dir_all(folder)
                        .map_err(|e| Error::io("make the folder", folder, &e))?;
                }
                let mut file = AtomicFile::create(&place).map_err(into)?;
                io::copy(&mut source, &mut file).map_err(into)?;
                file.commit().map_err(into)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
