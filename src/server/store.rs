//! Answers on the disk, by the digest of what was asked: what was paid for once is never paid again.
//!
//! One file for all runs of a user, in a store that survives a kill at any instant. It is opened for
//! each reading and writing and closed again, so that several runs can share it. Before its first use
//! in a process the whole file is checked ([`super::intact`]): one that something else has damaged is
//! named, and left as it is.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::intact;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::caught;

const ANSWERS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("answers");
/// Changes when answers of older versions cannot be used any more.
const VERSION: &str = "w2s answers 2";
const FILE: &str = "answers.redb";
/// How long another process may hold the file: it checks all of it once.
const PATIENCE: Duration = Duration::from_secs(120);
/// What an entry begins with: its form, and so many bytes of the SHA-256 of its key and of what
/// follows. Those of older versions are JSON alone.
const FORM: u8 = 2;
const CHECKSUM: usize = 8;
/// Between two looks whether it still does.
const PAUSE: Duration = Duration::from_millis(5);

/// The digest of what was asked.
pub(super) type Key = [u8; 32];

#[derive(Serialize, Deserialize)]
struct Entry<T> {
    /// Seconds since 1970.
    at: u64,
    server: String,
    model: String,
    value: T,
}

/// Answers of servers, on the disk.
#[derive(Debug)]
pub struct AnswerStore {
    path: PathBuf,
    /// One thread at a time: the file knows processes only.
    lock: Mutex<()>,
}

/// How much a store holds of one model of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreSize {
    /// The server.
    pub server: String,
    /// Its model.
    pub model: String,
    /// Answers.
    pub num_answers: u64,
    /// Their size in bytes.
    pub num_bytes: u64,
    /// When the oldest came, in seconds since 1970.
    pub oldest: u64,
    /// When the newest came.
    pub newest: u64,
}

impl AnswerStore {
    /// Returns the folder of the store that is used unless another is named: `w2s` in the user's
    /// folder of caches.
    pub fn default_folder() -> Option<PathBuf> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))?;
        Some(cache.join("w2s"))
    }

    /// Returns the store in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, &e))?;
        let store = Self { path: folder.join(FILE), lock: Mutex::new(()) };
        store.make()?;
        store.check()?;
        store.with(|_| Ok(()))?;
        Ok(store)
    }

    /// Makes the file if there is none, whole or not at all: others may look, and a kill may come.
    fn make(&self) -> Result<()> {
        if self.path.symlink_metadata().is_ok_and(|facts| facts.is_symlink() || facts.len() > 0) {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let fail = |e: &std::io::Error| Error::io("write", &self.path, e);
        let new = tempfile::Builder::new().prefix(".answers-").tempfile_in(folder);
        let new = new.map_err(|e| fail(&e))?;
        let made = caught(|| Database::create(new.path()).map(drop));
        match made {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(self.broken(&e.into())),
            Err(panic) => return Err(self.damaged(&panic)),
        }
        let kept = match File::open(&self.path) {
            // One that is empty holds nothing. Who exchanges it holds its lock, and looks again: another
            // may have done so, and have kept an answer.
            Ok(empty) => {
                // Where files cannot be locked nobody else is expected either.
                let _ = empty.lock();
                let facts = self.path.metadata().map_err(|e| fail(&e))?;
                if facts.len() > 0 {
                    return Ok(());
                }
                new.persist(&self.path).map(drop)
            }
            Err(_) => new.persist_noclobber(&self.path).map(drop),
        };
        match kept {
            Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => Err(fail(&e.error)),
            _ => Ok(()),
        }
    }

    /// Checks all of the file, and changes nothing.
    fn check(&self) -> Result<()> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let file = File::options().read(true).write(true).open(&self.path);
        let file = file.map_err(|e| Error::io("open", &self.path, &e))?;
        let began = Instant::now();
        let is_locked = loop {
            match file.try_lock() {
                Ok(()) => break true,
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(self.broken(&redb::Error::DatabaseAlreadyOpen));
                }
                // As the database does where files cannot be locked.
                Err(TryLockError::Error(_)) => break false,
            }
        };
        let found = intact::damage(&file);
        if is_locked {
            // A copy of the handle may live on in a database that panicked.
            let _ = file.unlock();
        }
        match found {
            Ok(None) => Ok(()),
            Ok(Some(what)) => Err(self.damaged(&what)),
            Err(e) => Err(Error::io("read", &self.path, &e)),
        }
    }

    /// Returns the store in a folder if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn existing(folder: &Path) -> Result<Option<Self>> {
        if folder.join(FILE).exists() { Self::open(folder).map(Some) } else { Ok(None) }
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the key of a request to a model of a server.
    pub(super) fn key(server: &str, model: &str, request: &Value) -> Key {
        let mut hash = Sha256::new();
        for part in [VERSION, server, model, &request.to_string()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Returns what was answered to a request, if it is younger than `most`.
    pub(super) fn get<T: for<'a> Deserialize<'a>>(
        &self,
        key: &Key,
        most: Option<Duration>,
    ) -> Result<Option<T>> {
        let bytes = self.with(|database| {
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            match transaction.open_table(ANSWERS) {
                Ok(table) => Ok(table.get(key.as_slice())?.map(|value| value.value().to_vec())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(e) => Err(e.into()),
            }
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let text =
            whole(key, &bytes).ok_or_else(|| self.damaged("an answer is not what was written"))?;
        // What another version wrote and this one cannot read is asked again.
        let entry = serde_json::from_slice::<Entry<T>>(text).ok();
        let age = |at: u64| Duration::from_secs(now().saturating_sub(at));
        Ok(entry.filter(|entry| most.is_none_or(|most| age(entry.at) < most)).map(|e| e.value))
    }

    /// Writes down an answer; it is on the disk when this returns.
    pub(super) fn put<T: Serialize>(
        &self,
        key: &Key,
        (server, model): (&str, &str),
        value: &T,
    ) -> Result<()> {
        let entry = Entry { at: now(), server: server.into(), model: model.into(), value };
        let text = serde_json::to_vec(&entry)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
        let bytes = [&[FORM], checksum(key, &text).as_slice(), &text].concat();
        self.with(|database| {
            let mut transaction = database.begin_write()?;
            // Without it a killed process makes the next one read the whole file.
            transaction.set_quick_repair(true);
            transaction.open_table(ANSWERS)?.insert(key.as_slice(), bytes.as_slice())?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Returns what there is, by server and model.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sizes(&self) -> Result<Vec<StoreSize>> {
        let mut sizes: Vec<StoreSize> = Vec::new();
        self.each(|_, entry, num_bytes| {
            let (server, model, at) = (&entry.server, &entry.model, entry.at);
            let place = sizes.iter().position(|s| s.server == *server && s.model == *model);
            let place = place.unwrap_or_else(|| {
                sizes.push(StoreSize {
                    server: server.clone(),
                    model: model.clone(),
                    num_answers: 0,
                    num_bytes: 0,
                    oldest: at,
                    newest: at,
                });
                sizes.len() - 1
            });
            let size = &mut sizes[place];
            size.num_answers += 1;
            size.num_bytes += num_bytes;
            size.oldest = size.oldest.min(at);
            size.newest = size.newest.max(at);
        })?;
        sizes.sort_by(|a, b| (&a.server, &a.model).cmp(&(&b.server, &b.model)));
        Ok(sizes)
    }

    /// Removes what came longer ago than `age` (all for `None`) from servers whose address holds
    /// `server`, and returns how many answers that were. The file becomes smaller.
    ///
    /// # Errors
    /// When it cannot be written, or another process uses it.
    pub fn prune(&self, age: Option<Duration>, server: Option<&str>) -> Result<u64> {
        let now = now();
        let mut doomed = Vec::new();
        self.each(|key, entry, _| {
            let old = age.is_none_or(|age| now.saturating_sub(entry.at) >= age.as_secs());
            if old && server.is_none_or(|part| entry.server.contains(part)) {
                doomed.push(key.to_vec());
            }
        })?;
        self.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            {
                let mut table = transaction.open_table(ANSWERS)?;
                for key in &doomed {
                    table.remove(key.as_slice())?;
                }
            }
            transaction.commit()?;
            // Best effort: what is free is used again in any case.
            let _ = database.compact();
            Ok(())
        })?;
        Ok(doomed.len() as u64)
    }

    fn each(&self, mut visit: impl FnMut(&[u8], &Entry<serde::de::IgnoredAny>, u64)) -> Result<()> {
        self.with(|database| {
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            let table = match transaction.open_table(ANSWERS) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            for pair in table.iter()? {
                let (key, value) = pair?;
                let bytes = value.value();
                let unknown = || Entry {
                    at: 0,
                    server: "(unknown)".into(),
                    model: String::new(),
                    value: serde::de::IgnoredAny,
                };
                let text = whole(key.value(), bytes).unwrap_or(bytes);
                let entry = serde_json::from_slice(text).unwrap_or_else(|_| unknown());
                visit(key.value(), &entry, bytes.len() as u64);
            }
            Ok(())
        })
    }

    /// Opens the file for one use.
    fn with<T>(&self, mut work: impl FnMut(&mut Database) -> Result<T, redb::Error>) -> Result<T> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        // The file was whole when it was first looked at; the database may panic if it is not now.
        let done = caught(|| {
            let mut database = loop {
                match Database::create(&self.path) {
                    Ok(database) => break database,
                    Err(DatabaseError::DatabaseAlreadyOpen) if began.elapsed() < PATIENCE => {
                        std::thread::sleep(PAUSE);
                    }
                    Err(e) => return Err(self.broken(&e.into())),
                }
            };
            work(&mut database).map_err(|e| self.broken(&e))
        });
        done.unwrap_or_else(|panic| Err(self.damaged(&panic)))
    }

    fn broken(&self, source: &redb::Error) -> Error {
        use redb::Error as E;
        let error =
            Error::new(ErrorKind::Io, format!("the store of answers cannot be used: {source}"));
        let error = error.at(&self.path);
        match source {
            E::DatabaseAlreadyOpen => error.hint(
                "another process holds it; wait, or name another folder with `--response-cache`",
            ),
            E::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                error.hint("the disk is full; free some space, or name a folder on another disk with `--response-cache`")
            }
            E::Io(e) if e.kind() != std::io::ErrorKind::InvalidData => {
                error.hint("check the disk and the permissions, or name another folder with `--response-cache`")
            }
            _ => self.damaged(&source.to_string()),
        }
    }

    /// The error of a file that is not what was written.
    fn damaged(&self, what: &str) -> Error {
        let path = self.path.display();
        Error::new(ErrorKind::Io, format!("the store of answers is damaged: {what}"))
            .at(&self.path)
            .hint(format!("something other than w2s changed the file, and it was left as it is; move it aside (`mv {path} {path}.damaged`) to begin a new one, put a copy in its place, or name another folder with `--response-cache`"))
    }
}

fn checksum(key: &[u8], text: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update(key).chain_update(text).finalize();
    std::array::from_fn(|at| digest[at])
}

/// What was written in an entry; `None` if it is something else.
fn whole<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, text) = bytes.strip_prefix(&[FORM])?.split_at_checked(CHECKSUM)?;
    (checksum(key, text) == sum).then_some(text)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_kept_while_others_begin_the_store_are_not_lost() {
        for round in 0..60 {
            let place = tempfile::tempdir().unwrap();
            if round % 2 == 1 {
                std::fs::write(place.path().join(FILE), "").unwrap();
            }
            std::thread::scope(|scope| {
                for name in ["a", "b", "c", "d"] {
                    let folder = place.path();
                    scope.spawn(move || {
                        let key = AnswerStore::key("http://h/v1", name, &serde_json::json!(name));
                        let store = AnswerStore::open(folder).unwrap();
                        store.put(&key, ("http://h/v1", name), &name).unwrap();
                    });
                }
            });
            let sizes = AnswerStore::open(place.path()).unwrap().sizes().unwrap();
            assert_eq!(sizes.len(), 4, "round {round}: {sizes:?}");
        }
    }

    #[test]
    fn answers_are_kept_counted_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(AnswerStore::existing(folder.path()).unwrap().is_none());
        let store = AnswerStore::open(folder.path()).unwrap();
        let key = |prompt: &str| AnswerStore::key("http://a/v1", "m", &json!({ "prompt": prompt }));
        assert_eq!(store.get::<String>(&key("x"), None).unwrap(), None);
        store.put(&key("x"), ("http://a/v1", "m"), &"answer").unwrap();
        store.put(&key("y"), ("http://a/v1", "m"), &"other").unwrap();
        store.put(&key("z"), ("http://b/v1", "n"), &"third").unwrap();
        // Another opening sees it, as another process would.
        let again = AnswerStore::existing(folder.path()).unwrap().unwrap();
        assert_eq!(again.get::<String>(&key("x"), None).unwrap().as_deref(), Some("answer"));
        assert_eq!(again.get::<String>(&key("x"), Some(Duration::ZERO)).unwrap(), None);
        let sizes = again.sizes().unwrap();
        assert_eq!(sizes.len(), 2);
        assert_eq!((sizes[0].num_answers, sizes[1].num_answers), (2, 1));
        assert_eq!(again.prune(Some(Duration::from_secs(3600)), None).unwrap(), 0);
        assert_eq!(again.prune(None, Some("//a/")).unwrap(), 2);
        assert_eq!(store.get::<String>(&key("x"), None).unwrap(), None);
        assert_eq!(store.get::<String>(&key("z"), None).unwrap().as_deref(), Some("third"));
        // What is asked has a part in the key, and who is asked.
        let other = AnswerStore::key("http://a/v1", "m2", &json!({ "prompt": "x" }));
        assert_ne!(key("x"), other);
    }

    /// Whatever changes in an entry is an error, and so is an entry under another's key.
    #[test]
    fn entries_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let store = AnswerStore::open(folder.path()).unwrap();
        let key = AnswerStore::key("http://a/v1", "m", &json!("x"));
        store.put(&key, ("http://a/v1", "m"), &"answer").unwrap();
        let insert = |key: &Key, bytes: &[u8]| {
            store
                .with(|database| {
                    let transaction = database.begin_write()?;
                    transaction.open_table(ANSWERS)?.insert(key.as_slice(), bytes)?;
                    Ok(transaction.commit()?)
                })
                .unwrap();
        };
        let written = store.with(|database| {
            let transaction = database.begin_read()?;
            Ok(transaction.open_table(ANSWERS)?.get(key.as_slice())?.unwrap().value().to_vec())
        });
        let written = written.unwrap();
        let damaged = |key: &Key| {
            let error = store.get::<String>(key, None).unwrap_err().to_string();
            assert!(error.contains("damaged: an answer is not what was written"), "{error}");
            assert!(error.contains("--response-cache"), "{error}");
        };
        for at in 0..written.len() {
            let mut bytes = written.clone();
            bytes[at] ^= 4;
            insert(&key, &bytes);
            damaged(&key);
        }
        for num in [0, 1, 8, written.len() - 1] {
            insert(&key, &written[..num]);
            damaged(&key);
        }
        let other = AnswerStore::key("http://a/v1", "m", &json!("y"));
        insert(&other, &written);
        damaged(&other);
        insert(&key, &written);
        assert_eq!(store.get::<String>(&key, None).unwrap().as_deref(), Some("answer"));
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "something else").unwrap();
        let error = AnswerStore::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("answers.redb") && error.contains("--response-cache"), "{error}");
    }
}
