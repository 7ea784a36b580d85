//! Weights from Hugging Face safetensors: mapped into memory, checked name by name and shape by
//! shape, and accounted for to the last key.
//!
//! Which file of a folder, and which tensor of a file, is one table, that of transformers 5.23
//! (`from_pretrained` of a local folder) or stricter; each row has its test in
//! `tests/it/which_weights.rs`:
//!
//! | the folder has | what is loaded |
//! |---|---|
//! | `model.safetensors` | that file |
//! | `model.safetensors` and `model.safetensors.index.json` | `model.safetensors`; a warning names the other |
//! | the index only | all tensors of all shards that it lists, also those that it does not list itself |
//! | an index without shards, with a shard that is missing or lies in another folder | error |
//! | a tensor in two shards | the one of the last shard by name; a warning, if they differ |
//! | `pytorch_model.bin` only | error: pickled files are not read |
//! | `pytorch_model.bin` or `model.fp16.safetensors` besides | ignored |
//! | `random_weights.json` besides weights | error |
//! | an adapter besides (`adapter_config.json`) | error: transformers would take the adapter's own model |
//! | **the file has** | |
//! | `model.layers.0...` (gpt2 `transformer.h`, gpt_neox `gpt_neox.layers`) | as named |
//! | `layers.0...`: the base model's own names | as if named in full, tensor by tensor |
//! | a tensor under both names | error that names both |
//! | other wrappers (`language_model.model.`) | error: no such tensor, and the names that there are |
//! | gpt_neox: `embed_out.weight` or `lm_head.weight` | the head |
//! | tensors that the model does not have | error, save old buffers (`rotary_emb.inv_freq`, ..) |
//! | **`tie_word_embeddings`** true, no head in the file | the head is the embedding |
//! | true, a head that equals the embedding | the head is the embedding |
//! | true, a head that differs | the head; a warning. What is saved has `tie_word_embeddings` false |
//! | true, a head and no embedding | the embedding is the head |
//! | false, no head | error: transformers would draw one |
//! | absent | by the family's default (`config_defaults`) |

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorInfo};
use tch::{Device, Kind, Tensor};

use super::config::{Layout, LmConfig};
use super::decoder_names::Names;
use super::random::{self, RandomWeights};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::guarded;

/// Where one tensor's bytes lie.
#[derive(Clone, Debug)]
struct Entry {
    /// The name in the file, which may lack the wrapper's prefix.
    name: String,
    shard: usize,
    info: TensorInfo,
    /// First byte of the tensor within its file.
    start: usize,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Arc<Mmap>,
}

/// The files of one model, open; hands out each tensor once and knows which were not asked for.
#[derive(Debug)]
pub struct Checkpoint {
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
    used: BTreeSet<String>,
    /// Draws every tensor that is asked for; then there are no files.
    random: Option<RandomWeights>,
    device: Device,
    kind: Kind,
    /// Choices among the files that a user may not expect.
    warnings: Vec<String>,
}

/// The memory that mapped weights point into; it must outlive them.
pub(super) type Maps = Vec<Arc<Mmap>>;

/// The file of weights.
const SINGLE: &str = "model.safetensors";
/// The list of its parts, where there are several.
const INDEX: &str = "model.safetensors.index.json";
/// The name of the head in all families, and the second one in gpt_neox.
const LM_HEAD: &str = "lm_head.weight";

fn fail(path: &Path, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Checkpoint, message).at(path)
}

impl Checkpoint {
    /// Returns the checkpoint of a model folder, by the table above. Tensors will be made on `device`
    /// in `kind`.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] for a missing, truncated or damaged file and a missing shard.
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let index = folder.join(INDEX);
        let single = folder.join(SINGLE);
        let mut warnings = Vec::new();
        let files = if single.exists() {
            if index.exists() {
                warnings.push(format!(
                    "`{SINGLE}` is loaded and the shards of `{INDEX}` are not, as in transformers"
                ));
            }
            vec![single]
        } else if index.exists() {
            shard_files(folder, &index)?
        } else {
            let old = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
            let hint = if old.iter().any(|name| folder.join(name).exists()) {
                "the folder has a pickled checkpoint; save it with `save_pretrained(..., safe_serialization=True)`"
            } else {
                "the weights must lie beside config.json as model.safetensors"
            };
            return Err(fail(&single, "the weight file is missing").hint(hint));
        };
        let mut checkpoint = Self {
            shards: Vec::new(),
            entries: BTreeMap::new(),
            used: BTreeSet::new(),
            random: None,
            device,
            kind,
            warnings,
        };
        for path in files {
            checkpoint.add(path)?;
        }
        Ok(checkpoint)
    }

    /// Returns a source of drawn weights for a model of the shape `config`: normally distributed
    /// matrices, norms that change nothing, biases of zero. They are made on `device`.
    ///
    /// The same seed gives the same weights on the same kind of device. Drawing sets libtorch's own
    /// random generator, which nothing else here uses.
    pub fn random(config: &LmConfig, device: Device, kind: Kind, seed: u64) -> Self {
        Self {
            shards: Vec::new(),
            entries: BTreeMap::new(),
            used: BTreeSet::new(),
            random: Some(RandomWeights::new(config, seed)),
            device,
            kind,
            warnings: Vec::new(),
        }
    }

    /// Returns the checkpoint of a model folder for `config`: its weight files, or drawn weights
    /// where `random_weights.json` stands in their place. Its tensors have the names that the model
    /// gives them, and `config` says whether the head is the embedding in truth.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and when the folder has both, or an adapter besides the model.
    pub(super) fn of_folder(
        folder: &Path,
        config: &mut LmConfig,
        device: Device,
        kind: Kind,
    ) -> Result<Self> {
        let Some(seed) = random::seed_of(folder)? else {
            let adapter = folder.join("adapter_config.json");
            if adapter.exists() {
                return Err(fail(&adapter, "the folder holds a model and an adapter")
                    .hint("transformers loads the adapter's own base model from such a folder; keep the two apart, and give the adapter with `--adapter`"));
            }
            let mut checkpoint = Self::open(folder, device, kind)?;
            checkpoint.settle_names(config.layout)?;
            checkpoint.settle_head(config)?;
            config.warnings.append(&mut checkpoint.warnings);
            return Ok(checkpoint);
        };
        for name in [SINGLE, INDEX] {
            if folder.join(name).exists() {
                return Err(fail(
                    &folder.join(random::RANDOM_WEIGHTS),
                    format!("random weights are asked for beside `{name}`"),
                )
                .hint("remove one of the two"));
            }
        }
        Ok(Self::random(config, device, kind, seed))
    }

    fn add(&mut self, path: PathBuf) -> Result<()> {
        let file = File::open(&path).map_err(|e| {
            fail(&path, format!("cannot open the weight file: {e}"))
                .hint("a shard that the index lists may be missing; download the model again")
        })?;
        let map = map_file(&file).map_err(|e| Error::io("map the weight file", &path, &e))?;
        let broken = |e: safetensors::SafeTensorError| {
            fail(&path, format!("not a complete safetensors file ({} bytes): {e}", map.len()))
                .hint("the file is truncated or damaged; download or convert the model again")
        };
        let (header, metadata) =
            guarded("the reader of safetensors", ErrorKind::Checkpoint, &path, || {
                let read = SafeTensors::read_metadata(&map).map_err(broken)?;
                SafeTensors::deserialize(&map).map_err(broken)?;
                Ok(read)
            })?;
        let base = header + size_of::<u64>();
        let own = self.shards.len();
        self.shards.push(Shard { path, map: Arc::new(map) });
        for (name, info) in metadata.tensors() {
            let start = base + info.data_offsets.0;
            let entry = Entry { name: name.clone(), shard: own, info: info.clone(), start };
            let bytes = self.bytes(&entry);
            if let Some(first) = self.entries.get(&name)
                && (first.info.shape != entry.info.shape
                    || first.info.dtype != entry.info.dtype
                    || self.bytes(first) != bytes)
            {
                self.warnings.push(format!(
                    "tensor `{name}` is in `{}` and, with other values, in `{}`: the latter is loaded, as in transformers",
                    self.file_name(first),
                    self.file_name(&entry)
                ));
            }
            self.entries.insert(name, entry);
        }
        Ok(())
    }

    fn file_name(&self, entry: &Entry) -> String {
        let name = self.shards[entry.shard].path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn bytes(&self, entry: &Entry) -> &[u8] {
        let size = entry.info.data_offsets.1 - entry.info.data_offsets.0;
        &self.shards[entry.shard].map[entry.start..entry.start + size]
    }

    /// Gives each tensor the name that the model knows it by: with the wrapper's prefix, which files of
    /// a base model lack, and the head's.
    fn settle_names(&mut self, layout: Layout) -> Result<()> {
        let prefix = Names::prefix(layout);
        let head = Names::head(layout);
        let mut settled: BTreeMap<String, Entry> = BTreeMap::new();
        for (name, entry) in std::mem::take(&mut self.entries) {
            let full = if name == head || (layout == Layout::GptNeox && name == LM_HEAD) {
                head.to_owned()
            } else if name == LM_HEAD || name.starts_with(prefix) {
                name
            } else {
                format!("{prefix}{name}")
            };
            if let Some(other) = settled.get(&full) {
                let message =
                    format!("tensors `{}` and `{}` are one of the model", other.name, entry.name);
                return Err(fail(&self.shards[entry.shard].path, message)
                    .hint(format!("keep the one that is meant, as `{full}`")));
            }
            settled.insert(full, entry);
        }
        self.entries = settled;
        Ok(())
    }

    /// Settles whether the head is the embedding: not if the file has a head with other values.
    fn settle_head(&mut self, config: &mut LmConfig) -> Result<()> {
        if !config.tie_word_embeddings {
            return Ok(());
        }
        let names = Names::of(config.layout);
        let (embedding, head) = (self.entries.get(&names.embedding), self.entries.get(&names.head));
        let (Some(embedding), Some(head)) = (embedding, head) else {
            if let Some(head) = head.cloned() {
                // Tied to what is there.
                self.used.insert(names.head.clone());
                self.entries.insert(names.embedding, head);
            }
            return Ok(());
        };
        let is_one = embedding.info.dtype == head.info.dtype
            && embedding.info.shape == head.info.shape
            && self.bytes(embedding) == self.bytes(head);
        if is_one {
            self.used.insert(names.head);
            return Ok(());
        }
        self.warnings.push(format!(
            "`tie_word_embeddings` is true, but `{}` has other values than `{}`: both are used, as in transformers",
            head.name, embedding.name
        ));
        config.tie_word_embeddings = false;
        Ok(())
    }

    /// Returns the first of the files.
    fn path(&self) -> &Path {
        self.shards.first().map_or(Path::new(SINGLE), |shard| &shard.path)
    }

    /// Makes the tensors that are taken from here on on `device`.
    pub(super) fn place(&mut self, device: Device) {
        self.device = device;
    }

    /// Returns whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.random.is_some() || self.entries.contains_key(name)
    }

    /// Returns the tensor `name`, which must have `shape`, in the checkpoint's kind and device.
    /// Float32 tensors for the CPU are not copied: they point into the mapped file.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when the name is missing or the shape or number type is wrong.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let Some(random) = &self.random {
            return random.tensor(name, shape, self.device, self.kind);
        }
        let Some(entry) = self.entries.get(name) else {
            let near: Vec<&str> =
                self.entries.values().take(3).map(|entry| entry.name.as_str()).collect();
            return Err(fail(self.path(), format!("tensor `{name}` is missing")).hint(format!(
                "the file has {} tensors, the first: {}",
                self.entries.len(),
                near.join(", ")
            )));
        };
        let shard = &self.shards[entry.shard];
        if entry.info.shape != shape {
            return Err(fail(
                &shard.path,
                format!(
                    "tensor `{}` has shape {:?}, expected {shape:?}",
                    entry.name, entry.info.shape
                ),
            )
            .hint("`config.json` asks for this shape; check that both files are from one model"));
        }
        let kind = match entry.info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                return Err(fail(
                    &shard.path,
                    format!("tensor `{}` holds {other:?}, expected F32, F16 or BF16", entry.name),
                )
                .hint(
                    "quantised checkpoints are not supported; convert the model to float first",
                ));
            }
        };
        let bytes = self.bytes(entry);
        let size: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let mapped = blob(bytes, &size, kind)?;
        let tensor = if kind != self.kind || self.device != Device::Cpu {
            mapped.f_to_kind(self.kind)?.f_to_device(self.device)?
        } else if (bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes()) {
            mapped
        } else {
            mapped.copy()
        };
        self.used.insert(name.to_owned());
        Ok(tensor.set_requires_grad(false))
    }

    /// Returns the mappings that must outlive the tensors, after checking that every key of the
    /// checkpoint was used.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when tensors are left over; names the first few.
    pub(super) fn finish(self) -> Result<Maps> {
        let left: Vec<&str> = self
            .entries
            .iter()
            .filter(|(name, _)| !self.used.contains(*name) && !is_buffer(name))
            .map(|(_, entry)| entry.name.as_str())
            .collect();
        if !left.is_empty() {
            let first: Vec<&str> = left.iter().take(4).copied().collect();
            return Err(fail(
                self.path(),
                format!(
                    "{} tensors have no place in the model, the first: {}",
                    left.len(),
                    first.join(", ")
                ),
            )
            .hint("`config.json` describes another model, or this variant is not supported"));
        }
        Ok(self.shards.into_iter().map(|shard| shard.map).collect())
    }
}

/// Whether a key is a saved buffer that older checkpoints carry and that holds no weights.
fn is_buffer(name: &str) -> bool {
    const ENDINGS: &[&str] =
        &["rotary_emb.inv_freq", ".attn.bias", ".attention.bias", "masked_bias", "position_ids"];
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn shard_files(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(|e| Error::io("read", index, &e))?;
    let parsed: Index =
        serde_json::from_str(&text).map_err(|e| fail(index, format!("broken shard index: {e}")))?;
    // In the order of transformers, whose last shard counts.
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(fail(index, "the shard index lists no tensors")
            .hint("`weight_map` is empty; download the model again"));
    }
    for name in &names {
        // A name with a folder in it could point anywhere on the disk.
        if name.contains(['/', '\\']) || !folder.join(name).exists() {
            return Err(fail(index, format!("shard `{name}` is missing")).hint(format!(
                "the index lists {} shards; download the missing one",
                names.len()
            )));
        }
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

#[expect(unsafe_code, reason = "memory mapping")]
fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this process; nothing in this program writes
    // model files. Another process that truncates the file while it is in use would end this
    // program with a bus error, as it does for every program that maps files.
    unsafe { Mmap::map(file) }
}

/// Returns a tensor over `bytes`, which the caller keeps alive.
#[expect(unsafe_code, reason = "a tensor over mapped memory")]
fn blob(bytes: &[u8], size: &[i64], kind: Kind) -> Result<Tensor> {
    let expected = size.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
    if expected != bytes.len() {
        return Err(Error::new(ErrorKind::Internal, "a tensor's bytes do not fit its shape"));
    }
    let mut stride = 1;
    let mut strides = vec![0; size.len()];
    for (s, n) in strides.iter_mut().zip(size).rev() {
        *s = stride;
        stride *= n;
    }
    // SAFETY: the length was checked above, `Decoder` keeps the maps as long as its tensors, and
    // no in-place operation is ever applied to a weight.
    let tensor = unsafe { Tensor::f_from_blob(bytes.as_ptr(), size, &strides, kind, Device::Cpu)? };
    Ok(tensor)
}
