//! What a run was: enough to repeat it and to trust it.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Whether gold labels had any part in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GoldUse {
    /// `false`: no gold bit was read.
    No(NotUsed),
    /// Why and how gold was used.
    Because(String),
}

/// Serialises as `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct NotUsed;

impl TryFrom<bool> for NotUsed {
    type Error = &'static str;

    fn try_from(used: bool) -> Result<Self, Self::Error> {
        if used { Err("expected false or a reason") } else { Ok(Self) }
    }
}

impl From<NotUsed> for bool {
    fn from(_: NotUsed) -> Self {
        false
    }
}

impl GoldUse {
    /// Returns that no gold was used.
    pub fn no() -> Self {
        Self::No(NotUsed)
    }
}

/// Settings that name inputs, which are compared by their contents.
pub(super) const PATHS: [&str; 4] = ["adapter", "data", "model", "task"];

/// The setting that says which device has which layers. It follows from the memory that is free, and
/// a run goes on whatever it says.
pub(crate) const BLOCKS: &str = "blocks";

/// A file that a run read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What the file was to the run: `data`, `task`, `model`, ...
    pub role: String,
    /// Its path as given.
    pub path: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

impl Input {
    /// Returns the record of a file, after reading all of it.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`] when it cannot be read.
    pub fn of_file(role: &str, path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| Error::io("read", path, &e);
        let mut file = std::fs::File::open(path).map_err(io)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(io)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { role: role.into(), path: path.display().to_string(), sha256 })
    }
}

/// The record of a run, written before it begins and never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The sub-command.
    pub command: String,
    /// The command line as typed.
    pub command_line: Vec<String>,
    /// Every setting after defaults and presets were resolved.
    pub settings: Map<String, Value>,
    /// The seed of all random streams.
    pub seed: u64,
    /// Files read, with digests.
    pub inputs: Vec<Input>,
    /// Whether gold labels had a part in it.
    pub gold_used: GoldUse,
    /// Program, libtorch, device, number type, threads.
    pub versions: Map<String, Value>,
}

impl Manifest {
    /// Returns in what `other` differs from this manifest such that it cannot continue its run: the
    /// name of the first differing thing with both values.
    ///
    /// The command line may differ (`--resume` is on it), and so may the paths of the inputs as long
    /// as their contents are the same. So may the number of processes, which changes last bits only.
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        let num = |manifest: &Self| manifest.versions.get("num_processes").cloned();
        if num(self) != num(other) {
            return self.of_any_number().first_difference(&other.of_any_number());
        }
        let differ = |name: &str, a: &Value, b: &Value| first_difference(name, a, b);
        let maps = |a: &Map<String, Value>, b: &Map<String, Value>| {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            let free = |key: &str| PATHS.contains(&key) || key == BLOCKS;
            keys.filter(|key| !free(key)).find_map(|key| {
                let get = |m: &Map<String, Value>| m.get(key).cloned().unwrap_or(Value::Null);
                differ(key, &get(a), &get(b))
            })
        };
        let inputs = || {
            let digest = |m: &Self, role: &str| {
                m.inputs.iter().find(|i| i.role == role).map(|i| i.sha256.clone())
            };
            let roles = self.inputs.iter().chain(&other.inputs).map(|input| &input.role);
            roles.into_iter().find_map(|role| {
                (digest(self, role) != digest(other, role))
                    .then(|| format!("the contents of the {role} changed"))
            })
        };
        maps(&self.settings, &other.settings)
            .or_else(|| differ("seed", &self.seed.into(), &other.seed.into()))
            .or_else(inputs)
            .or_else(|| maps(&self.versions, &other.versions))
    }

    /// Returns in what another process of the same run differs such that they cannot work together.
    pub fn first_difference_of_process(&self, other: &Self) -> Option<String> {
        let [mut first, mut other] = [self, other].map(Self::of_any_number);
        for manifest in [&mut first, &mut other] {
            manifest.settings.remove("device");
        }
        first.first_difference(&other)
    }

    /// Returns what tells the run from every other: the SHA-256, hexadecimal, of its command, resolved
    /// settings, seed, contents of inputs, use of gold and versions.
    ///
    /// Two runs with one digest have the same results, up to the last bits of sums that different
    /// numbers of threads or processes round differently. No path has a part in it, neither of an
    /// input nor of the run folder: a setting that names an input stands for the input's contents.
    /// Nor has the command line, nor the order in which settings are written, nor which of several
    /// devices of one kind was used.
    pub fn digest(&self) -> String {
        let manifest = self.of_any_number();
        let mut inputs: Vec<(&str, &str)> =
            manifest.inputs.iter().map(|i| (i.role.as_str(), i.sha256.as_str())).collect();
        inputs.sort_unstable();
        let identity = serde_json::json!({
            "command": manifest.command,
            "settings": manifest.without_paths(&Value::Object(manifest.settings.clone())),
            "seed": manifest.seed,
            "inputs": inputs,
            // The reason names files.
            "gold_used": !matches!(manifest.gold_used, GoldUse::No(_)),
            "versions": manifest.without_paths(&Value::Object(manifest.versions.clone())),
        });
        let digest = Sha256::digest(in_order(&identity).to_string().as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns settings in which the roles of inputs stand for their paths, and the kind of a device
    /// for the device.
    fn without_paths(&self, value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                // A model behind an address has no contents to stand for its name.
                let is_input = |key: &str| self.inputs.iter().any(|i| i.role.starts_with(key));
                let kept =
                    map.iter().filter(|(key, _)| !(PATHS.contains(&key.as_str()) && is_input(key)));
                let pair = |(key, value): (&String, &Value)| {
                    let device = value.as_str().filter(|_| key == "device");
                    let kind = device.and_then(|name| name.split(':').next());
                    let value = kind.map_or_else(|| self.without_paths(value), Value::from);
                    (key.clone(), value)
                };
                kept.map(pair).collect::<Map<_, _>>().into()
            }
            Value::Array(list) => list.iter().map(|value| self.without_paths(value)).collect(),
            Value::String(text) => {
                let path = Path::new(text);
                let is_named = |input: &&Input| Path::new(&input.path).starts_with(path);
                let named = self.inputs.iter().filter(is_named);
                let mut roles: Vec<&str> = named.map(|input| input.role.as_str()).collect();
                roles.sort_unstable();
                if text.is_empty() || roles.is_empty() {
                    value.clone()
                } else {
                    serde_json::json!({ "inputs": roles })
                }
            }
            other => other.clone(),
        }
    }

    /// The manifest without what follows from the number of processes on a machine.
    fn of_any_number(&self) -> Self {
        let mut manifest = self.clone();
        for key in ["num_processes", "num_threads"] {
            manifest.versions.remove(key);
        }
        if let Some(Value::Object(train)) = manifest.settings.get_mut("train") {
            train.remove("pass_tokens");
        }
        manifest
    }
}

/// Returns the value with the entries of every object sorted by name.
fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let sorted = entries.into_iter().map(|(key, value)| (key.clone(), in_order(value)));
            sorted.collect::<Map<_, _>>().into()
        }
        Value::Array(list) => list.iter().map(in_order).collect(),
        other => other.clone(),
    }
}

/// Returns the name and the values of the first thing in which two settings differ; within groups
/// it is the thing that is named, not the group.
fn first_difference(name: &str, a: &Value, b: &Value) -> Option<String> {
    if let (Value::Object(x), Value::Object(y)) = (a, b) {
        let keys = x.keys().chain(y.keys().filter(|key| !x.contains_key(*key)));
        let get = |map: &Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or_default();
        let mut differences = keys.filter_map(|key| {
            first_difference(&format!("{name}.{key}"), &get(x, key), &get(y, key))
        });
        return differences.next();
    }
    (a != b).then(|| format!("`{name}` was {a} and is now {b}"))
}
