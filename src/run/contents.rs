//! What lies in a folder: a run, something else, files by the patterns of the table, what a kill left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::atomic::PARTIAL;
use super::files::{JOURNAL, MANIFEST, Stage, TIMING, files_of, matches};
use super::manifest::Manifest;
use crate::error::{Error, ErrorKind, Result};

/// What is in a folder that a run is to be made in.
pub(super) enum Found {
    /// Nothing, or what a run leaves that was killed before its manifest was written.
    Nothing,
    /// A run, which is complete or not.
    Run(Box<Manifest>, bool),
    /// Something else.
    Other,
}

pub(super) fn look(path: &Path) -> Result<Found> {
    if let Some(manifest) = read_manifest(path)? {
        return Ok(Found::Run(Box::new(manifest), path.join(TIMING).exists()));
    }
    let fail = |e: io::Error| Error::io("read the run folder", path, &e);
    for entry in fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_lock = name == JOURNAL && entry.metadata().map_err(fail)?.len() == 0;
        if !is_lock && whole_name(&name).is_none_or(|name| !name.starts_with(MANIFEST)) {
            return Ok(Found::Other);
        }
    }
    Ok(Found::Nothing)
}

pub(super) fn read_manifest(folder: &Path) -> Result<Option<Manifest>> {
    let path = folder.join(MANIFEST);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read the run's manifest", &path, &e)),
    };
    serde_json::from_str(&text).map(Some).map_err(|e| {
        Error::new(ErrorKind::Run, format!("the run's manifest cannot be read: {e}"))
            .at(&path)
            .hint("the file is damaged or edited; delete the folder or choose a new one")
    })
}

pub(super) fn remove(action: &'static str, file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(action, file, &e)),
        _ => Ok(()),
    }
}

/// Returns what is in a folder by a pattern of the table.
pub(super) fn expand(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let (part, rest) = match pattern.split_once('/') {
        Some((part, rest)) => (part, Some(rest)),
        None => (pattern, None),
    };
    let mut found: Vec<PathBuf> = if part.contains('*') {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let fits = |entry: &fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| matches(part, name))
        };
        entries.filter(fits).map(|entry| entry.path()).collect()
    } else {
        // A link that leads nowhere is there too.
        Some(folder.join(part)).filter(|path| path.symlink_metadata().is_ok()).into_iter().collect()
    };
    found.sort();
    match rest {
        None => found,
        // A link to a folder is not the run's.
        Some(rest) => {
            let real = found.iter().filter(|path| path.is_dir() && !path.is_symlink());
            real.flat_map(|path| expand(path, rest)).collect()
        }
    }
}

/// The name of the file that a partial file was to become, perhaps with a number behind it.
pub(super) fn whole_name(name: &str) -> Option<&str> {
    name.strip_suffix(PARTIAL)
}

/// Returns what a kill left of files of a run that were being written; findings are written without
/// the lock, and what seems to be left of one may be at work.
pub(super) fn partials(folder: &Path, manifest: &Manifest, with_findings: bool) -> Vec<PathBuf> {
    let all = files_of(manifest).into_iter();
    let meant =
        all.filter(|(_, stage)| with_findings || !matches!(stage, Stage::Finding | Stage::Kept));
    let patterns = meant
        .flat_map(|(pattern, _)| [format!("{pattern}{PARTIAL}"), format!("{pattern}.*{PARTIAL}")]);
    patterns.flat_map(|pattern| expand(folder, &pattern)).collect()
}
