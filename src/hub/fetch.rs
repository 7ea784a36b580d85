//! Fetching one file of a repository into the cache, in the layout of `huggingface_hub`: the bytes in
//! `blobs/ETAG`, a link to them in `snapshots/COMMIT/FILE`, and the commit in `refs/REVISION`.
//!
//! A transfer goes to `blobs/ETAG.incomplete` and is taken up again where it stopped; what is whole
//! gets its name by a rename. Names that the hub gives never lead out of the cache.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hf_hub::{Cache, Repo};
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use ureq::http::HeaderMap;
use url::Url;

use super::request::{Fault, Found, NUM_RETRIES, Redirect, Requester, encoded, pause};
use crate::error::{Error, ErrorKind};

/// How long another process may fetch the same file.
const PATIENCE: Duration = Duration::from_secs(600);
const CHUNK: usize = 1 << 16;
/// A transfer that broke off after so many bytes has not failed, but gone on.
const PROGRESS: u64 = 1 << 20;
/// The longest name of a blob: the endings of its lock and its parts come to it.
const MOST_NAME: usize = 200;

/// A repository's place in the cache.
pub(super) struct Place<'a> {
    pub(super) cache: &'a Path,
    pub(super) repo: &'a Repo,
}

/// What the hub says of a file.
#[derive(Debug, Default)]
struct Facts {
    commit: Option<String>,
    /// Of the file itself, where it lies elsewhere.
    linked_etag: Option<String>,
    etag: Option<String>,
    size: Option<u64>,
}

impl Facts {
    fn note(&mut self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let text = |name: &str| text(name).map(|text| text.trim().to_owned());
        self.commit = text("x-repo-commit").or_else(|| self.commit.take());
        self.linked_etag = text("x-linked-etag").or_else(|| self.linked_etag.take());
        self.etag = text("etag").or_else(|| self.etag.take());
        let size = text("x-linked-size").and_then(|size| size.parse().ok());
        self.size = size.or(self.size);
    }

    fn etag(&self) -> Option<&str> {
        self.linked_etag.as_deref().or(self.etag.as_deref()).map(plain_etag)
    }
}

/// Without the marks of HTTP.
fn plain_etag(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// Returns whether a text is the digest of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The name of a blob: its ETag, or the digest of one that cannot be a name.
fn blob_name(etag: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.+=:~".contains(&b);
    if etag.len() <= MOST_NAME && !etag.starts_with('.') && etag.bytes().all(is_plain) {
        return etag.to_owned();
    }
    format!("etag-{:x}", Sha256::digest(etag))
}

/// The digest that an ETag is, of files in large file storage.
fn sha256_of(etag: &str) -> Option<&str> {
    (etag.len() == 64 && is_commit(etag)).then_some(etag)
}

fn local(action: &str, path: &Path, source: &std::io::Error) -> Fault {
    Fault::Local(Error::io(action, path, source))
}

impl Place<'_> {
    fn folder(&self) -> PathBuf {
        self.cache.join(self.repo.folder_name())
    }

    /// Returns the path of a file after it was fetched.
    pub(super) fn fetch(
        &self,
        hub: &Requester,
        file: &str,
        with_bar: bool,
    ) -> Result<PathBuf, Fault> {
        let (repo, revision) = (self.repo.url(), self.repo.url_revision());
        let url = hub.url(&format!("{repo}/resolve/{revision}/{}", encoded(file)));
        let facts = facts_of(hub, &url, self.repo.revision())?;
        let lacks = |what: &str| Fault::Strange(format!("its answer lacks {what}"));
        let commit = facts.commit.clone().ok_or_else(|| lacks("the header x-repo-commit"))?;
        let etag = facts.etag().filter(|etag| !etag.is_empty());
        let etag = etag.ok_or_else(|| lacks("the header etag"))?;
        let blobs = self.folder().join("blobs");
        make_folder(&blobs)?;
        let name = blob_name(etag);
        let blob = blobs.join(&name);
        let lock = self.lock(&name)?;
        if !is_there(&blob, &facts, etag) {
            let part = blobs.join(format!("{name}.incomplete"));
            let bar = if with_bar { ProgressBar::new(0) } else { ProgressBar::hidden() };
            bar.set_message(file.to_owned());
            Transfer { hub, url: &url, etag, size: facts.size, part: &part, bar: &bar }.run()?;
            bar.finish_and_clear();
            std::fs::rename(&part, &blob).map_err(|e| local("write", &blob, &e))?;
        }
        drop(lock);
        let path = self.link(&commit, file, &name)?;
        if self.repo.revision() != commit {
            self.note_commit(&commit)?;
        }
        Ok(path)
    }

    /// One process at a time fetches a blob; the lock is that of `huggingface_hub`.
    fn lock(&self, name: &str) -> Result<File, Fault> {
        let folder = self.cache.join(".locks").join(self.repo.folder_name());
        make_folder(&folder)?;
        let path = folder.join(format!("{name}.lock"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|e| local("write", &path, &e))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(TryLockError::WouldBlock) => {
                    let error = Error::new(ErrorKind::Hub, "another program is fetching the file");
                    return Err(Fault::Local(error.at(&path).hint("wait for it, or end it")));
                }
                // Some file systems have no locks; the rename keeps files whole there too.
                Err(TryLockError::Error(_)) => return Ok(file),
            }
        }
    }

    /// Links a file of a snapshot to its bytes.
    fn link(&self, commit: &str, file: &str, name: &str) -> Result<PathBuf, Fault> {
        let path = Cache::new(self.cache.to_path_buf()).repo(self.repo.clone());
        let path = path.pointer_path(commit).join(file);
        let folder = path.parent().unwrap_or(&path);
        make_folder(folder)?;
        let up = "../".repeat(1 + file.split('/').count());
        let target = PathBuf::from(format!("{up}blobs/{name}"));
        if std::fs::read_link(&path).is_ok_and(|there| there == target) {
            return Ok(path);
        }
        // A link cannot be made over another file, but moved there.
        let new = folder.join(format!(".w2s-{}", std::process::id()));
        let _ = std::fs::remove_file(&new);
        let made = std::os::unix::fs::symlink(&target, &new);
        let made = made.or_else(|_| {
            // Some file systems have no links.
            std::fs::copy(self.folder().join("blobs").join(name), &new).map(drop)
        });
        made.and_then(|()| std::fs::rename(&new, &path)).map_err(|e| local("write", &path, &e))?;
        Ok(path)
    }

    /// Writes down which commit a branch or tag is.
    fn note_commit(&self, commit: &str) -> Result<(), Fault> {
        let path = self.folder().join("refs").join(self.repo.revision());
        let folder = path.parent().unwrap_or(&path);
        make_folder(folder)?;
        let fail = |e: &std::io::Error| local("write", &path, e);
        let mut new = tempfile::NamedTempFile::new_in(folder).map_err(|e| fail(&e))?;
        new.write_all(commit.as_bytes()).map_err(|e| fail(&e))?;
        new.persist(&path).map_err(|e| fail(&e.error))?;
        Ok(())
    }
}

fn make_folder(folder: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(folder).map_err(|e| local("make the folder", folder, &e))
}

/// Whether a blob is there and whole, as far as the hub tells.
fn is_there(blob: &Path, facts: &Facts, etag: &str) -> bool {
    let Ok(found) = std::fs::metadata(blob) else { return false };
    found.is_file()
        && facts.size.is_none_or(|size| found.len() == size)
        && sha256_of(etag).is_none_or(|digest| digest_of(blob).is_ok_and(|found| found == digest))
}

fn digest_of(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

/// What the hub says of a file: the hub itself, and not where it sends for the bytes.
fn facts_of(hub: &Requester, url: &Url, revision: &str) -> Result<Facts, Fault> {
    let mut facts = Facts::default();
    let Found { response, is_own } =
        hub.get(url, Some("bytes=0-0"), |redirect: &Redirect<'_>| {
            if redirect.is_own {
                facts.note(redirect.headers);
            }
            redirect.leads_away && facts.commit.is_some() && facts.etag().is_some()
        })?;
    let status = response.status().as_u16();
    match status {
        // 416: the file is empty and has no first byte.
        200 | 206 | 416 => {
            if is_own || facts.commit.is_none() {
                facts.note(response.headers());
            }
            let total = match status {
                200 => response.body().content_length(),
                _ => content_range(response.headers()).and_then(|(_, total)| total),
            };
            facts.size = facts.size.or(total);
        }
        300..400 => {}
        status => return Err(Fault::Status(status)),
    }
    if facts.commit.is_none() && is_commit(revision) {
        facts.commit = Some(revision.to_owned());
    }
    match &facts.commit {
        Some(commit) if !is_commit(commit) => {
            Err(Fault::Strange("its header x-repo-commit is no commit".to_owned()))
        }
        Some(commit) if is_commit(revision) && commit != revision => {
            Err(Fault::Strange(format!("it gives commit `{commit}` for that")))
        }
        _ => Ok(facts),
    }
}

/// Begin and total of `bytes 3-9/10`, or of `bytes */10`.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let text = headers.get("content-range")?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let begin = range.split_once('-').and_then(|(begin, _)| begin.trim().parse().ok());
    Some((begin, total.trim().parse().ok()))
}

/// A file on its way.
struct Transfer<'a> {
    hub: &'a Requester,
    url: &'a Url,
    etag: &'a str,
    size: Option<u64>,
    part: &'a Path,
    bar: &'a ProgressBar,
}

impl Transfer<'_> {
    /// Fetches all of the file, and checks it.
    fn run(mut self) -> Result<(), Fault> {
        let fail = |e: std::io::Error| local("write", self.part, &e);
        // Never through a link.
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.part);
        let mut file = file.map_err(fail)?;
        let mut is_resumed = file.metadata().map_err(fail)?.len() > 0;
        let mut tries = 0;
        loop {
            let before = file.metadata().map_err(fail)?.len();
            let broken = match self.go_on(&mut file, before) {
                Ok(()) => None,
                Err(Fault::Broken(what)) => Some(what),
                Err(fault) => return Err(fault),
            };
            let Some(what) = broken else {
                file.sync_data().map_err(fail)?;
                let found = digest_of(self.part).map_err(|e| local("read", self.part, &e))?;
                if sha256_of(self.etag).is_none_or(|digest| digest == found) {
                    return Ok(());
                }
                file.set_len(0).map_err(fail)?;
                if !is_resumed {
                    let _ = std::fs::remove_file(self.part);
                    let what =
                        format!("it sent bytes of the SHA-256 `{found}`, expected `{}`", self.etag);
                    return Err(Fault::Strange(what));
                }
                // The part from before was damaged.
                is_resumed = false;
                continue;
            };
            let after = file.metadata().map_err(fail)?.len();
            tries = if after >= before + PROGRESS { 0 } else { tries + 1 };
            if tries > NUM_RETRIES {
                return Err(Fault::Broken(what));
            }
            pause(tries, 0);
        }
    }

    /// One request for what is not there yet.
    fn go_on(&mut self, file: &mut File, have: u64) -> Result<(), Fault> {
        let fail = |e: std::io::Error| local("write", self.part, &e);
        if let Some(size) = self.size {
            self.bar.set_length(size);
            if have == size {
                return Ok(());
            }
            if have > size {
                file.set_len(0).map_err(fail)?;
                return self.go_on(file, 0);
            }
        }
        let range = (have > 0).then(|| format!("bytes={have}-"));
        let Found { mut response, is_own } = self.hub.get(self.url, range.as_deref(), |_| false)?;
        let status = response.status().as_u16();
        let part = content_range(response.headers());
        let (begin, total) = match (status, part) {
            (200, _) => (0, response.body().content_length()),
            (206, Some((Some(begin), total))) if begin == 0 || begin == have => (begin, total),
            (206 | 416, _) if have > 0 => {
                file.set_len(0).map_err(fail)?;
                return Err(Fault::Broken("the hub does not go on where it stopped".to_owned()));
            }
            (206, _) => return Err(Fault::Strange("it sends another part of the file".to_owned())),
            (status, _) => return Err(Fault::Status(status)),
        };
        let mut now = Facts::default();
        now.note(response.headers());
        let has_changed = now.etag().is_some_and(|etag| is_own && etag != self.etag);
        if has_changed || self.size.is_some_and(|size| total.is_some_and(|total| total != size)) {
            return Err(Fault::Strange("the file changed while it was fetched".to_owned()));
        }
        let most = self.size.or(total);
        if begin < have {
            file.set_len(begin).map_err(fail)?;
        }
        let mut have = begin;
        let mut reader = response.body_mut().as_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            self.bar.set_position(have);
            let num = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(num) => num,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Fault::Broken(e.to_string())),
            };
            have += num as u64;
            if most.is_some_and(|most| have > most) {
                return Err(Fault::Strange("it sends more than it said".to_owned()));
            }
            file.write_all(&chunk[..num]).map_err(fail)?;
        }
        match most {
            Some(most) if have < most => {
                Err(Fault::Broken(format!("it broke off after {have} of {most} bytes")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_stay_in_the_cache() {
        for etag in ["abc", "0123abcd-5", "5f:gzip"] {
            assert_eq!(blob_name(etag), etag);
        }
        let long = "x".repeat(300);
        for etag in ["../../x", "..", ".", "a/b", "a\\b", "a\0b", "\u{e9}", long.as_str()] {
            let name = blob_name(etag);
            assert!(name.starts_with("etag-") && name.len() == 69, "{etag}: {name}");
        }
        assert_eq!((plain_etag("W/\"a\""), plain_etag("\"a\""), plain_etag("a")), ("a", "a", "a"));
        assert!(is_commit(&"0a".repeat(20)) && !is_commit(&"../".repeat(20)[..40]));
    }
}
