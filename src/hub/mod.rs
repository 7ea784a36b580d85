//! Files of data sets on the Hugging Face hub, through its cache on this machine.
//!
//! Layer 1: knows repositories, revisions and paths, and nothing of records or tasks. The cache has
//! the layout of `huggingface_hub`, so what Python has fetched is here, and the other way round.
//! Paths in the cache and of the API are those of the crate hf-hub; its requests are not used, because
//! they take the token to other hosts and do not encode names.

mod fetch;
mod request;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};
use serde_json::Value;

use self::fetch::Place;
use self::request::{Fault, Requester};
use crate::error::{Error, ErrorKind, Result};

/// The hub that is asked unless `HF_ENDPOINT` names another.
const ENDPOINT: &str = "https://huggingface.co";
/// The largest list of files that is read, in bytes.
const MOST_LIST: u64 = 256 << 20;

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
    /// `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, and
    /// the older `HUGGINGFACE_HUB_CACHE`, `HUGGING_FACE_HUB_TOKEN` and `TRANSFORMERS_OFFLINE`.
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` leaves the token at home.
    ///
    /// # Errors
    /// [`ErrorKind::Hub`] if there is no home folder and no variable says where the cache is.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let path = |name: &str| Some(expanded(&variable(name)?, &variable));
        let home = path("HF_HOME").or_else(|| {
            let cache = path("XDG_CACHE_HOME");
            let cache = cache.or_else(|| Some(path("HOME")?.join(".cache")))?;
            Some(cache.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let Some(cache) = cache.or_else(|| Some(home.as_ref()?.join("hub"))) else {
            return Err(Error::new(ErrorKind::Hub, "there is no folder for the hub's cache")
                .hint("set HF_HOME or HF_HUB_CACHE"));
        };
        let is_on = |value: String| {
            matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
        };
        let is_left_out = variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(is_on);
        let token = variable("HF_TOKEN")
            .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| {
                let path = path("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")))?;
                std::fs::read_to_string(path).ok()
            })
            .map(|token| token.replace(['\r', '\n'], "").trim().to_owned())
            .filter(|token| !token.is_empty() && !is_left_out);
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            offline: variable("HF_HUB_OFFLINE")
                .or_else(|| variable("TRANSFORMERS_OFFLINE"))
                .is_some_and(is_on),
        })
    }
}

/// A path with `~` and `$NAME` or `${NAME}` as Python's `expanduser` and `expandvars` read them.
fn expanded(text: &str, variable: impl Fn(&str) -> Option<String>) -> PathBuf {
    let home = variable("HOME").filter(|_| text == "~" || text.starts_with("~/"));
    let text = match home {
        Some(home) => home + &text[1..],
        None => text.to_owned(),
    };
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, num) = match after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let num = after.find(|c| !is_name(c)).unwrap_or(after.len());
                (&after[..num], num)
            }
        };
        // What is not set stays as it is.
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..at + 1 + num]),
        }
        rest = &after[num..];
    }
    out.push_str(rest);
    PathBuf::from(out)
}

/// Whether a name is that of a file in a repository, and leads nowhere else.
fn is_path(file: &str) -> bool {
    !file.is_empty()
        && !file.contains(char::is_control)
        && !file.split('/').any(|part| matches!(part, "" | "." | ".."))
}

/// One revision of a data set's repository.
pub struct HubDataset {
    settings: HubSettings,
    name: String,
    repo: Repo,
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
        Ok(Self { settings, name: name.to_owned(), repo })
    }

    /// Returns a file of the data set, from the cache or, if it is not there or `refresh` asks for
    /// the newest, from the hub.
    ///
    /// # Errors
    /// [`ErrorKind::Hub`] if the hub refuses, cannot be reached or breaks off, and offline if the
    /// file is not in the cache; [`ErrorKind::Usage`] if `file` leads out of the repository.
    pub fn file(&self, file: &str, refresh: bool) -> Result<HubFile> {
        if !is_path(file) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`{}` is no path in a repository", file.escape_debug()),
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
        let hub = self.hub()?;
        let place = Place { cache: &self.settings.cache, repo: &self.repo };
        let fetched = place.fetch(&hub, file, std::io::stderr().is_terminal());
        let path = fetched.map_err(|fault| self.refused(&hub, fault, &format!("`{file}` of ")))?;
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
            let hub = self.hub()?;
            files = self.list(&hub).map_err(|fault| self.refused(&hub, fault, ""))?;
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
        let commit = Some(commit.trim()).filter(|commit| fetch::is_commit(commit))?;
        Some(folder.join("snapshots").join(commit)).filter(|path| path.is_dir())
    }

    fn cached(&self, file: &str) -> Option<PathBuf> {
        Some(self.snapshot()?.join(file)).filter(|path| path.is_file())
    }

    fn hub(&self) -> Result<Requester> {
        Requester::new(&self.settings.endpoint, self.settings.token.as_deref())
    }

    /// The files that the hub lists.
    fn list(&self, hub: &Requester) -> Result<Vec<String>, Fault> {
        let url = hub.url(&format!("api/{}", self.repo.api_url()));
        let mut response = hub.get(&url, None, |_| false)?.response;
        if response.status() != 200 {
            return Err(Fault::Status(response.status().as_u16()));
        }
        let body = response.body_mut().with_config().limit(MOST_LIST).read_to_vec();
        let body = body.map_err(|e| Fault::Broken(e.to_string()))?;
        listed(&body).map_err(Fault::Strange)
    }

    /// Returns what went wrong in words that help: the status tells more than its number.
    fn refused(&self, asked: &Requester, fault: Fault, what: &str) -> Error {
        let endpoint = asked.shown();
        let dataset = format!("{what}data set `{}`", self.name);
        let hub = |message: String| Error::new(ErrorKind::Hub, message);
        match fault {
            Fault::Status(status @ (401 | 403)) => {
                let error = hub(format!("{endpoint} does not give {dataset} to you ({status})"));
                error.hint(if self.settings.token.is_none() {
                    "give a token in HF_TOKEN or by `hf auth login`, and accept the data set's \
                     terms on its page; without a token the hub answers so for a wrong name too"
                } else {
                    "the token has no access: accept the data set's terms on its page, or check \
                     the token and the name"
                })
            }
            Fault::Status(404) => {
                let revision = self.repo.revision();
                hub(format!("{endpoint} has no {dataset} at revision `{revision}` (404)"))
                    .hint("check the name, the revision and the file's path")
            }
            Fault::Status(429) => hub(format!("{endpoint} was asked too often (429)"))
                .hint("wait a while; with a token in HF_TOKEN more is allowed"),
            Fault::Status(status) => {
                hub(format!("{endpoint} answered {status} for {dataset}")).hint("try again later")
            }
            Fault::Strange(what) => {
                hub(format!("{endpoint} does not answer like the hub for {dataset}: {what}"))
                    .hint("check HF_ENDPOINT, and try again")
            }
            Fault::Broken(what) => hub(format!("cannot fetch {dataset} from {endpoint}: {what}"))
                .hint(
                    "check the connection and HF_ENDPOINT; the same command goes on where it stopped",
                ),
            Fault::Local(error) => error,
        }
    }
}

/// Returns the files of the hub's answer about a repository.
///
/// # Errors
/// What of the answer is not as it should be.
pub fn listed(body: &[u8]) -> Result<Vec<String>, String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|e| format!("its list of files is not JSON ({e})"))?;
    let siblings = json.get("siblings").and_then(Value::as_array);
    let siblings = siblings.ok_or("its answer has no list `siblings`")?;
    let name = |sibling: &Value| match sibling.get("rfilename").and_then(Value::as_str) {
        Some(name) if is_path(name) => Ok(name.to_owned()),
        Some(name) => Err(format!("it lists `{}`, which is no path", name.escape_debug())),
        None => Err("it lists a file without a name".to_owned()),
    };
    siblings.iter().map(name).collect()
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
        let older = settings(&[
            ("HOME", "/h"),
            ("U", "me"),
            ("HF_HOME", "~/x/$U/${U}a/$NONE/${U"),
            ("HUGGINGFACE_HUB_CACHE", "$HOME/c"),
            ("TRANSFORMERS_OFFLINE", "yes"),
            ("HF_TOKEN", "t"),
            ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ])
        .unwrap();
        assert_eq!((older.cache.as_path(), older.offline), (Path::new("/h/c"), true));
        assert_eq!(older.token, None);
        let variable = |name: &str| match name {
            "HOME" => Some("/h".to_owned()),
            "U" => Some("me".to_owned()),
            _ => None,
        };
        // os.path.expandvars(os.path.expanduser(..)) of Python 3.
        let found = expanded("~/x/$U/${U}a/$NONE/${U", variable);
        assert_eq!(found, Path::new("/h/x/me/mea/$NONE/${U"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let settings = settings(&[("HOME", "/h")]).unwrap();
        for name in ["", "a/b/c", "../x", "a b", "/etc", "a/"] {
            assert!(HubDataset::new(settings.clone(), name, "main").is_err(), "{name}");
        }
        assert!(HubDataset::new(settings.clone(), "a/b", "../x").is_err());
        let dataset = HubDataset::new(settings, "a/b", "refs/convert/parquet").unwrap();
        for file in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\nb", "a/.."] {
            assert_eq!(dataset.file(file, false).unwrap_err().kind(), ErrorKind::Usage, "{file}");
        }
    }
}
