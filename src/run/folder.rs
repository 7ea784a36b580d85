//! Making, continuing and protecting run folders.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::journal::Journal;
use super::manifest::Manifest;
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

/// A run folder, open for work.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    complete: bool,
}

pub(super) const MANIFEST: &str = "manifest.json";
/// What the name of a file ends in while it is written.
const PARTIAL: &str = ".partial";
pub(super) const JOURNAL: &str = "journal.jsonl";
pub(super) const TIMING: &str = "timing.json";
/// The files that commands write into run folders; `--force` deletes these and no others.
const OURS: &[&str] = &[
    MANIFEST,
    JOURNAL,
    TIMING,
    "labels.jsonl",
    "trace.jsonl",
    "summary.json",
    "eval.json",
    "curve.jsonl",
    "diagnostics.json",
    "basins.json",
    "metrics.jsonl",
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "model.safetensors",
    "checkpoint.safetensors",
    "best.safetensors",
    "README.md",
    "answers.jsonl",
    "kept.jsonl",
    "dropped.jsonl",
    "weights.jsonl",
    "sample.jsonl",
    "history.jsonl",
    "rounds.jsonl",
    "loop.json",
];
/// The folder of several searches, each with files of these names in a folder of its own.
const RESTARTS: &str = "restarts";
const RESTART_FILES: [&str; 2] = ["labels.jsonl", "trace.jsonl"];

impl RunDir {
    /// Returns the run folder at `path` for the run that `manifest` describes.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] when a run is there and `mode` does not allow it, when the folder holds
    /// something else, or when a run to be continued had other settings, data or another command.
    pub fn open(path: &Path, manifest: &Manifest, mode: OpenMode) -> Result<Self> {
        let run = |message: String| Error::new(ErrorKind::Run, message).at(path);
        fs::create_dir_all(path).map_err(|e| Error::io("make the run folder", path, &e))?;
        let entries = fs::read_dir(path).map_err(|e| Error::io("read the run folder", path, &e))?;
        let folder = Self { path: path.to_path_buf(), complete: false };
        // A run that was killed as it began leaves a part of its first file and nothing else.
        let begun = format!("{MANIFEST}{PARTIAL}");
        if entries.flatten().any(|entry| entry.file_name() != begun.as_str()) {
            let Some(old) = folder.read_manifest()? else {
                return Err(run("the folder is not empty and holds no run".into())
                    .hint("choose a new folder for `--out`; nothing was changed"));
            };
            if old.command != manifest.command {
                return Err(run(format!(
                    "the folder holds a run of `w2s {}`, not of `w2s {}`",
                    old.command, manifest.command
                ))
                .hint("choose a new folder for `--out`; nothing was changed"));
            }
            match mode {
                OpenMode::New => {
                    return Err(run("the folder already holds a run".into()).hint(
                        "continue it with `--resume`, replace it with `--force`, or choose a new folder for `--out`",
                    ));
                }
                OpenMode::Resume => {
                    if let Some(difference) = old.first_difference(manifest) {
                        return Err(run(format!("the run cannot be continued: {difference}"))
                            .hint("use the settings the run began with (manifest.json), or a new `--out`"));
                    }
                    let complete = folder.file(TIMING).exists();
                    return Ok(Self { complete, ..folder });
                }
                OpenMode::Force => folder.delete_files()?,
            }
        }
        folder.write_json(MANIFEST, manifest)?;
        Ok(folder)
    }

    /// Returns the folder of an existing run.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] when there is none at `path`.
    pub fn existing(path: &Path) -> Result<(Self, Manifest)> {
        let folder = Self { path: path.to_path_buf(), complete: path.join(TIMING).exists() };
        match folder.read_manifest()? {
            Some(manifest) => Ok((folder, manifest)),
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
        let (folder, _) = Self::existing(path)?;
        folder.delete_files()?;
        // Fails where the user keeps something there, which then stays.
        let _ = fs::remove_dir(path);
        Ok(())
    }

    fn delete_files(&self) -> Result<()> {
        // The lock shows that no process is at work here.
        drop(Journal::open(&self.file(JOURNAL))?);
        for name in OURS {
            let file = self.file(name);
            if file.exists() {
                fs::remove_file(&file)
                    .map_err(|e| Error::io("delete the old run's file", &file, &e))?;
            }
        }
        self.delete_events()?;
        self.delete_restarts()
    }

    /// Deletes the event files of an old training, whose names hold the time.
    fn delete_events(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("events.out.tfevents.") && name.contains(".w2s.") {
                fs::remove_file(&path)
                    .map_err(|e| Error::io("delete the old run's file", &path, &e))?;
            }
        }
        Ok(())
    }

    /// Deletes what an old run with several searches left, and the folders if nothing else is there.
    fn delete_restarts(&self) -> Result<()> {
        let all = self.file(RESTARTS);
        let Ok(entries) = fs::read_dir(&all) else { return Ok(()) };
        for entry in entries.flatten().map(|entry| entry.path()) {
            for file in RESTART_FILES.map(|name| entry.join(name)) {
                if file.exists() {
                    fs::remove_file(&file)
                        .map_err(|e| Error::io("delete the old run's file", &file, &e))?;
                }
            }
            // Fails where the user keeps something there, which then stays.
            let _ = fs::remove_dir(&entry);
        }
        let _ = fs::remove_dir(&all);
        Ok(())
    }

    fn read_manifest(&self) -> Result<Option<Manifest>> {
        let path = self.file(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read the run's manifest", &path, &e)),
        };
        serde_json::from_str(&text).map(Some).map_err(|e| {
            Error::new(ErrorKind::Run, format!("the run's manifest cannot be read: {e}")).at(&path)
        })
    }

    /// Returns the folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns whether the run had ended when the folder was opened.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the run's journal.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn journal(&self) -> Result<Journal> {
        Journal::open(&self.file(JOURNAL))
    }

    /// Writes `value` as indented JSON, all or nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(|e| {
            Error::new(ErrorKind::Internal, format!("`{name}` cannot be written: {e}"))
        })?;
        text.push('\n');
        write_atomic(&self.file(name), text.as_bytes())
    }

    /// Marks the run as ended and writes how long its last session took: as a whole, and without
    /// opening the model, in seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn finish(&self, session_seconds: f64, work_seconds: f64) -> Result<()> {
        self.write_timing(session_seconds, work_seconds, None)
    }

    /// Does what [`RunDir::finish`] does, and writes too how many tokens the last session ran.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn finish_training(
        &self,
        session_seconds: f64,
        work_seconds: f64,
        tokens: u64,
    ) -> Result<()> {
        self.write_timing(session_seconds, work_seconds, Some(tokens))
    }

    fn write_timing(&self, session: f64, work: f64, tokens: Option<u64>) -> Result<()> {
        let timing = Timing {
            session_seconds: session,
            work_seconds: work,
            session_tokens: tokens,
            peak_memory_bytes: peak_memory_bytes(),
        };
        self.write_json(TIMING, &timing)
    }
}

/// Copies the files of a complete run to a folder that is not there yet, with the manifest of a run
/// that comes to the same.
///
/// # Errors
/// [`ErrorKind::Io`].
pub fn copy_run(from: &Path, to: &Path, manifest: &Manifest) -> Result<()> {
    let fail = |what: &'static str, path: &Path, e: &std::io::Error| Error::io(what, path, e);
    fs::create_dir_all(to).map_err(|e| fail("make the run folder", to, &e))?;
    let copy = RunDir { path: to.to_path_buf(), complete: false };
    copy.write_json(MANIFEST, manifest)?;
    let entries = fs::read_dir(from).map_err(|e| fail("read the run folder", from, &e))?;
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()) {
        let Some(name) = path.file_name().filter(|name| *name != MANIFEST && *name != TIMING)
        else {
            continue;
        };
        fs::copy(&path, to.join(name)).map_err(|e| fail("copy the file", &path, &e))?;
    }
    // Last: it says that the run is complete.
    let path = from.join(TIMING);
    fs::copy(&path, to.join(TIMING)).map_err(|e| fail("copy the file", &path, &e))?;
    Ok(())
}

#[derive(Serialize)]
struct Timing {
    session_seconds: f64,
    work_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_tokens: Option<u64>,
    /// The most main memory that the process has held since it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
}

/// Returns the most memory the process has held; none where the system does not say.
fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|size| size * 1024)
}

/// Writes a file such that a reader, or a kill, finds the old contents or the new, never a part.
///
/// # Errors
/// [`ErrorKind::Io`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(PARTIAL);
    let partial = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|e| Error::io("write", path, &e))
}
