//! Weights from Hugging Face safetensors: mapped into memory, checked name by name and shape by
//! shape, and accounted for to the last key.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorInfo};
use tch::{Device, Kind, Tensor};

use super::config::LmConfig;
use super::random::{self, RandomWeights};
use crate::error::{Error, ErrorKind, Result};

/// Where one tensor's bytes lie.
#[derive(Clone, Debug)]
struct Entry {
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
}

/// The memory that mapped weights point into; it must outlive them.
pub(super) type Maps = Vec<Arc<Mmap>>;

fn fail(path: &Path, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Checkpoint, message).at(path)
}

impl Checkpoint {
    /// Returns the checkpoint of a model folder: `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` lists. Tensors will be made on `device` in `kind`.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] for a missing, truncated or damaged file and a missing shard.
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let index = folder.join("model.safetensors.index.json");
        let single = folder.join("model.safetensors");
        let files = if index.exists() {
            shard_files(folder, &index)?
        } else if single.exists() {
            vec![single]
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
        }
    }

    /// Returns the checkpoint of a model folder for `config`: its weight files, or drawn weights
    /// where `random_weights.json` stands in their place.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and when the folder has both.
    pub(super) fn of_folder(
        folder: &Path,
        config: &LmConfig,
        device: Device,
        kind: Kind,
    ) -> Result<Self> {
        let Some(seed) = random::seed_of(folder)? else {
            return Self::open(folder, device, kind);
        };
        for name in ["model.safetensors", "model.safetensors.index.json"] {
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
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(broken)?;
        SafeTensors::deserialize(&map).map_err(broken)?;
        let base = header + size_of::<u64>();
        for (name, info) in metadata.tensors() {
            let start = base + info.data_offsets.0;
            let entry = Entry { shard: self.shards.len(), info: info.clone(), start };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(fail(&path, format!("tensor `{name}` is in two shards")));
            }
        }
        self.shards.push(Shard { path, map: Arc::new(map) });
        Ok(())
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
            let near: Vec<&str> = self.entries.keys().take(3).map(String::as_str).collect();
            return Err(fail(&self.shards[0].path, format!("tensor `{name}` is missing")).hint(
                format!(
                    "the file has {} tensors, the first: {}",
                    self.entries.len(),
                    near.join(", ")
                ),
            ));
        };
        let shard = &self.shards[entry.shard];
        if entry.info.shape != shape {
            return Err(fail(
                &shard.path,
                format!("tensor `{name}` has shape {:?}, expected {shape:?}", entry.info.shape),
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
                    format!("tensor `{name}` holds {other:?}, expected F32, F16 or BF16"),
                )
                .hint(
                    "quantised checkpoints are not supported; convert the model to float first",
                ));
            }
        };
        let bytes = &shard.map
            [entry.start..entry.start + entry.info.data_offsets.1 - entry.info.data_offsets.0];
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
            .keys()
            .filter(|name| !self.used.contains(*name) && !is_buffer(name))
            .map(String::as_str)
            .collect();
        if !left.is_empty() {
            let first: Vec<&str> = left.iter().take(4).copied().collect();
            return Err(fail(
                &self.shards[0].path,
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

/// Whether a key is a saved buffer that older checkpoints carry and that holds no weights, or the
/// second copy of a tied embedding.
fn is_buffer(name: &str) -> bool {
    const ENDINGS: &[&str] =
        &["rotary_emb.inv_freq", ".attn.bias", ".attention.bias", "masked_bias", "position_ids"];
    name == "lm_head.weight" || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn shard_files(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(|e| Error::io("read", index, &e))?;
    let parsed: Index =
        serde_json::from_str(&text).map_err(|e| fail(index, format!("broken shard index: {e}")))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
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
