//! Files of data sets on the Hugging Face hub, through its cache on this machine.
//!
//! Layer 1: knows repositories, revisions and paths, and nothing of records or tasks. The cache has
//! the layout of `huggingface_hub`, so what Python has fetched is here, and the other way round.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::{Error, ErrorKind, Result};

/// The hub that is asked unless `HF_ENDPOINT` names another.
const ENDPOINT: &str = "https://huggingface.co";

/// Times a broken transfer is taken up again.
const NUM_RETRIES: usize = 2;

/// Where files come from and are kept.
#[derive(Clone)]
pub struct HubSettings {
    /// Address of the hub.
    pub endpoint: String,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Access token, for data sets that are not open to all.
    pub token: Option<String>,
    /// Whether only the cache may be used.
    pub offline: bool,
}

impl HubSettings {
    /// Returns the settings of the environment, by the variables of `huggingface_hub`:
    /// `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`ErrorKind::Hub`] if there is no home folder and no variable says where the cache is.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let home = variable("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))?;
            Some(cache.join("huggingface"))
        });
        let cache = variable("HF_HUB_CACHE").map(PathBuf::from);
        let Some(cache) = cache.or_else(|| Some(home.as_ref()?.join("hub"))) else {
            return Err(Error::new(ErrorKind::Hub, "there is no folder for the hub's cache")
                .hint("set HF_HOME or HF_HUB_CACHE"));
        };
        let token_path = variable("HF_TOKEN_PATH").map(PathBuf::from);
        let token = variable("HF_TOKEN")
            .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| {
                let path = token_path.or_else(|| Some(home.as_ref()?.join("token")))?;
                std::fs::read_to_string(path).ok()
            })
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let is_on = |value: String| {
            matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
        };
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            offline: variable("HF_HUB_OFFLINE").is_some_and(is_on),
        })
    }
}

/// One revision of a data set's repository.
pub struct HubDataset {
    settings: HubSettings,
    name: String,
    repo: Repo,
    cache: Cache,
}

/// A file of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Where it lies on this machine.
    pub path: PathBuf,
    /// Whether it was there before.
    pub was_cached: bool,
}

impl HubDataset {
    /// Returns the data set `name` (`owner/dataset`) at `revision`: a branch, tag or commit.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if the name or the revision cannot be one.
    pub fn new(settings: HubSettings, name: &str, revision: &str) -> Result<Self> {
        let is_plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_plain(part)) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`{name}` is no name of a data set on the hub"),
            )
            .hint("a data set's name is owner/dataset"));
        }
        if !revision.split('/').all(is_plain) {
            return Err(Error::new(ErrorKind::Usage, format!("revision `{revision}` is none"))
                .hint("a revision is a branch, a tag or a commit"));
        }
        let repo = Repo::with_revision(name.to_owned(), RepoType::Dataset, revision.to_owned());
        let cache = Cache::new(settings.cache.clone());
        Ok(Self { settings, name: name.to_owned(), repo, cache })
    }

    /// Returns a file of the data set, from the cache or, if it is not there or `refresh` asks for
    /// the newest, from the hub.
    ///
    /// # Errors
    /// [`ErrorKind::Hub`] if the hub refuses, cannot be reached or breaks off, and offline if the
    /// file is not in the cache; [`ErrorKind::Usage`] if `file` leads out of the repository.
    pub fn file(&self, file: &str, refresh: bool) -> Result<HubFile> {
        if file.is_empty() || file.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`{file}` is no path in a repository"),
            ));
        }
        let cached = self.cached(file);
        if let Some(path) = cached.filter(|_| !refresh || self.settings.offline) {
            return Ok(HubFile { path, was_cached: true });
        }
        if self.settings.offline {
            return Err(Error::new(
                ErrorKind::Hub,
                format!("`{file}` of `{}` is not in the cache", self.name),
            )
            .at(&self.settings.cache)
            .hint("HF_HUB_OFFLINE is set: unset it, or fetch the file on another machine"));
        }
        let fetched = self.api()?.repo(self.repo.clone()).download(file);
        let path = fetched.map_err(|source| self.refused(&source, &format!("`{file}` of ")))?;
        Ok(HubFile { path, was_cached: false })
    }

    /// Returns the paths of the data set's files; offline those in the cache.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        if self.settings.offline {
            if let Some(snapshot) = self.snapshot() {
                walk(&snapshot, &snapshot, &mut files);
            }
            if files.is_empty() {
                return Err(Error::new(
                    ErrorKind::Hub,
                    format!("no file of `{}` is in the cache", self.name),
                )
                .at(&self.settings.cache)
                .hint("HF_HUB_OFFLINE is set: unset it to ask the hub"));
            }
        } else {
            let info = self.api()?.repo(self.repo.clone()).info();
            let info = info.map_err(|source| self.refused(&source, ""))?;
            files.extend(info.siblings.into_iter().map(|sibling| sibling.rfilename));
        }
        files.sort();
        Ok(files)
    }

    /// The snapshot folder of the revision, if some of it is in the cache.
    fn snapshot(&self) -> Option<PathBuf> {
        let folder = self.settings.cache.join(self.repo.folder_name());
        let commit = std::fs::read_to_string(folder.join("refs").join(self.repo.revision()));
        // A revision that is a commit has no ref.
        let commit = commit.unwrap_or_else(|_| self.repo.revision().to_owned());
        Some(folder.join("snapshots").join(commit.trim())).filter(|path| path.is_dir())
    }

    fn cached(&self, file: &str) -> Option<PathBuf> {
        let found = self.cache.repo(self.repo.clone()).get(file);
        found.or_else(|| Some(self.snapshot()?.join(file)).filter(|path| path.exists()))
    }

    fn api(&self) -> Result<Api> {
        ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(self.settings.endpoint.clone())
            .with_token(self.settings.token.clone())
            .with_retries(NUM_RETRIES)
            .with_progress(std::io::stderr().is_terminal())
            .build()
            .map_err(|source| Error::new(ErrorKind::Hub, format!("cannot ask the hub: {source}")))
    }

    /// Returns what went wrong in words that help: the status tells more than its number.
    fn refused(&self, source: &ApiError, what: &str) -> Error {
        let endpoint = &self.settings.endpoint;
        let dataset = format!("{what}data set `{}`", self.name);
        let hub = |message: String| Error::new(ErrorKind::Hub, message);
        let source = match source {
            ApiError::TooManyRetries(last) => last.as_ref(),
            source => source,
        };
        let status = match source {
            ApiError::RequestError(request) => match request.as_ref() {
                ureq::Error::StatusCode(status) => Some(*status),
                _ => None,
            },
            _ => None,
        };
        match (status, source) {
            (Some(status @ (401 | 403)), _) => {
                let error = hub(format!("{endpoint} does not give {dataset} to you ({status})"));
                error.hint(if self.settings.token.is_none() {
                    "give a token in HF_TOKEN or by `hf auth login`, and accept the data set's \
                     terms on its page; without a token the hub answers so for a wrong name too"
                } else {
                    "the token has no access: accept the data set's terms on its page, or check \
                     the token and the name"
                })
            }
            (Some(404), _) => {
                let revision = self.repo.revision();
                hub(format!("{endpoint} has no {dataset} at revision `{revision}` (404)"))
                    .hint("check the name, the revision and the file's path")
            }
            (Some(429), _) => hub(format!("{endpoint} was asked too often (429)"))
                .hint("wait a while; with a token in HF_TOKEN more is allowed"),
            (Some(status), _) => {
                hub(format!("{endpoint} answered {status} for {dataset}")).hint("try again later")
            }
            (None, ApiError::MissingHeader(_) | ApiError::InvalidHeader(_)) => {
                hub(format!("{endpoint} does not answer like the hub: {source}"))
                    .hint("check HF_ENDPOINT")
            }
            (None, ApiError::LockAcquisition(path)) => {
                hub("another program is fetching the file".to_owned())
                    .at(path)
                    .hint("wait for it, or remove the lock if there is none")
            }
            (None, _) => hub(format!("cannot fetch {dataset} from {endpoint}: {source}")).hint(
                "check the connection and HF_ENDPOINT; the same command goes on where it stopped",
            ),
        }
    }
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            files.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubSettings> {
        HubSettings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn variables_mean_what_they_mean_in_python() {
        let plain = settings(&[("HOME", "/h")]).unwrap();
        assert_eq!(plain.cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!((plain.endpoint.as_str(), plain.offline), ("https://huggingface.co", false));
        let all = settings(&[
            ("HOME", "/h"),
            ("HF_HOME", "/hf"),
            ("HF_TOKEN", " t \n"),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_HUB_OFFLINE", "True"),
        ])
        .unwrap();
        assert_eq!(all.cache, Path::new("/hf/hub"));
        assert_eq!(all.token.as_deref(), Some("t"));
        assert_eq!((all.endpoint.as_str(), all.offline), ("http://mirror", true));
        let cache = settings(&[("HF_HUB_CACHE", "/c"), ("HF_HUB_OFFLINE", "0")]).unwrap();
        assert_eq!((cache.cache.as_path(), cache.offline), (Path::new("/c"), false));
        assert!(settings(&[]).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let settings = settings(&[("HOME", "/h")]).unwrap();
        for name in ["", "a/b/c", "../x", "a b", "/etc", "a/"] {
            assert!(HubDataset::new(settings.clone(), name, "main").is_err(), "{name}");
        }
        assert!(HubDataset::new(settings.clone(), "a/b", "../x").is_err());
        let dataset = HubDataset::new(settings, "a/b", "refs/convert/parquet").unwrap();
        for file in ["", "/etc/passwd", "../x", "a/../b", "a//b"] {
            assert_eq!(dataset.file(file, false).unwrap_err().kind(), ErrorKind::Usage, "{file}");
        }
    }
}
