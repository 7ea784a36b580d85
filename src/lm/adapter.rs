//! Low-rank adapters in PEFT's form: read, made anew, written.
//!
//! An [`Adapter`] is two matrices for each module it is added to. [`Decoder::attach`] hands them to
//! the decoder, which shares them: what trains one trains the other.
//!
//! Legend of tensor suffixes: R rank, D inputs, O outputs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use rand::Rng;
use safetensors::SafeTensors;
use tch::{Device, Kind, Tensor};

use super::adapter_config::AdapterConfig;
use super::decoder::Decoder;
use super::linear::Lora;
use super::write::{tensor_of, write_tensors};
use crate::error::{Error, ErrorKind, Result};
use crate::run::{SeedStream, write_atomic};

/// The file with an adapter's settings.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file with an adapter's tensors.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// PEFT wraps the model twice.
const PREFIX: &str = "base_model.model.";

/// A linear layer of a model, as the Hugging Face library names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleShape {
    /// The name, such as `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// How many inputs it has.
    pub num_in: usize,
    /// How many outputs it has.
    pub num_out: usize,
    /// The device it lies on.
    pub device: Device,
}

/// The two matrices of one module, in f32.
#[derive(Debug)]
pub struct LowRank {
    /// `[R, D]`.
    pub a_rd: Tensor,
    /// `[O, R]`.
    pub b_or: Tensor,
}

/// A low-rank adapter.
#[derive(Debug)]
pub struct Adapter {
    config: AdapterConfig,
    modules: BTreeMap<String, LowRank>,
    /// For errors; `None` for one that was made here.
    folder: Option<std::path::PathBuf>,
}

impl Adapter {
    /// Returns the adapter in a folder that PEFT wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that are missing, broken or not supported;
    /// [`ErrorKind::Checkpoint`] for a missing, truncated or damaged tensor file, for a tensor that
    /// is no part of a LoRA adapter, and for one that holds NaN or infinity.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = AdapterConfig::read(&folder.join(ADAPTER_CONFIG))?;
        let path = folder.join(ADAPTER_WEIGHTS);
        let fail = |message: String| Error::new(ErrorKind::Checkpoint, message).at(&path);
        let bytes = std::fs::read(&path).map_err(|e| {
            let hint = if folder.join("adapter_model.bin").exists() {
                "the folder has a pickled adapter; save it with `save_pretrained(..., safe_serialization=True)`"
            } else {
                "the adapter's tensors must lie beside adapter_config.json"
            };
            fail(format!("cannot read the adapter: {e}")).hint(hint)
        })?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| {
            fail(format!("not a complete safetensors file ({} bytes): {e}", bytes.len()))
                .hint("the file is truncated or damaged; copy or train the adapter again")
        })?;
        let mut halves: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
        let mut strange = Vec::new();
        for (name, view) in file.iter() {
            let place = name.strip_prefix(PREFIX).and_then(|rest| {
                // The second form is that of a model's own tensors, with PEFT's name of an adapter.
                let half = [
                    (".lora_A.weight", 0),
                    (".lora_B.weight", 1),
                    (".lora_A.default.weight", 0),
                    (".lora_B.default.weight", 1),
                ];
                half.iter().find_map(|(end, i)| Some((rest.strip_suffix(end)?, *i)))
            });
            match place {
                Some((module, half))
                    if halves.get(module).is_some_and(|known| known[half].is_some()) =>
                {
                    let message =
                        format!("`{name}` is there a second time, without `.default` or with it");
                    return Err(fail(message).hint("keep one of the two"));
                }
                Some((module, half)) => {
                    let tensor =
                        tensor_of(&view).map_err(|m| fail(format!("tensor `{name}` {m}")))?;
                    halves.entry(module.to_owned()).or_default()[half] = Some(tensor);
                }
                None => strange.push(name.to_owned()),
            }
        }
        if !strange.is_empty() {
            return Err(fail(format!(
                "{} tensors are no part of a LoRA adapter, the first: {}",
                strange.len(),
                first(&mut strange)
            ))
            .hint("expected names such as `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`"));
        }
        let mut modules = BTreeMap::new();
        for (name, halves) in halves {
            let [Some(a_rd), Some(b_or)] = halves else {
                return Err(fail(format!("module `{name}` has one of its two tensors only"))
                    .hint("the file is damaged; copy or train the adapter again"));
            };
            modules.insert(name, LowRank { a_rd, b_or });
        }
        if modules.is_empty() {
            return Err(fail("the adapter has no tensors".into()));
        }
        Ok(Self { config, modules, folder: Some(folder.to_path_buf()) })
    }

    /// Returns a new adapter for `decoder`, which changes nothing yet: the first matrix is drawn
    /// uniformly from +-1 / sqrt(inputs), the second is zero, as PEFT begins.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when the target modules match nothing; lists what there is.
    pub fn new(config: AdapterConfig, decoder: &mut Decoder, streams: SeedStream) -> Result<Self> {
        let all = decoder.modules();
        let mut modules = BTreeMap::new();
        let wrong = |why: String| {
            Error::new(ErrorKind::Usage, why).hint("name the modules, or use `all-linear`")
        };
        let rules = config.rules().map_err(wrong)?;
        for ModuleShape { name, num_in, num_out, device } in &all {
            if !rules.targets(name).map_err(wrong)? {
                continue;
            }
            let r = rules.rank(name).map_err(wrong)?;
            let bound = 1.0 / (*num_in as f32).sqrt();
            let mut rng = streams.rng(&format!("train/lora/{name}"), &[]);
            let values: Vec<f32> =
                (0..r * num_in).map(|_| rng.random_range(-bound..bound)).collect();
            let a_rd = Tensor::f_from_slice(&values)?
                .f_view([r as i64, *num_in as i64])?
                .f_to_device(*device)?;
            let b_or = Tensor::f_zeros([*num_out as i64, r as i64], (Kind::Float, *device))?;
            modules.insert(name.clone(), LowRank { a_rd, b_or });
        }
        drop(rules);
        if modules.is_empty() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "target modules {} match nothing in this model",
                    config.target_modules.to_json()
                ),
            )
            .hint(format!("its modules are {}", kinds(&all).join(", "))));
        }
        Ok(Self { config, modules, folder: None })
    }

    /// Returns the adapter's settings.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// Returns the matrices by the name of their module.
    pub fn modules(&self) -> impl Iterator<Item = (&str, &LowRank)> {
        self.modules.iter().map(|(name, pair)| (name.as_str(), pair))
    }

    /// Returns the adapter with tensors that train, each on the device of its module in `decoder`.
    ///
    /// # Errors
    /// When a device has no room for it.
    pub fn trainable(self, decoder: &Decoder) -> Result<Self> {
        let devices: HashMap<&str, Device> = decoder
            .linears()
            .flat_map(|linear| linear.modules.iter().map(|m| (m.name.as_str(), linear.device())))
            .collect();
        let modules = self
            .modules
            .into_iter()
            .map(|(name, LowRank { a_rd, b_or })| {
                // A module that is not the model's is refused when the adapter is attached.
                let device = devices.get(name.as_str()).copied().unwrap_or(Device::Cpu);
                let leaf = |t: Tensor| -> Result<Tensor> {
                    Ok(t.detach().f_to_device(device)?.copy().set_requires_grad(true))
                };
                Ok((name, LowRank { a_rd: leaf(a_rd)?, b_or: leaf(b_or)? }))
            })
            .collect::<Result<_>>()?;
        Ok(Self { modules, ..self })
    }

    /// Returns the adapter's tensors by the names they have in its file.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = self.modules.iter().flat_map(|(name, pair)| {
            [("A", &pair.a_rd), ("B", &pair.b_or)]
                .map(|(half, t)| (format!("{PREFIX}{name}.lora_{half}.weight"), t.shallow_clone()))
        });
        named.collect()
    }

    /// Writes the adapter to `folder` in PEFT's form.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut text = format!("{:#}", self.config.to_json());
        text.push('\n');
        write_tensors(&folder.join(ADAPTER_WEIGHTS), &self.tensors(), None)?;
        write_atomic(&folder.join(ADAPTER_CONFIG), text.as_bytes())
    }
}

fn first(names: &mut [String]) -> String {
    names.sort();
    names.iter().take(4).cloned().collect::<Vec<_>>().join(", ")
}

/// The last parts of the modules' names, each once.
fn kinds(all: &[ModuleShape]) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for module in all {
        let kind = module.name.rsplit('.').next().unwrap_or_default();
        if !kinds.iter().any(|known| known == kind) {
            kinds.push(kind.to_owned());
        }
    }
    kinds
}

impl Decoder {
    /// Returns the linear layers that an adapter can be added to: all but the head.
    pub fn modules(&mut self) -> Vec<ModuleShape> {
        let mut modules = Vec::new();
        for linear in self.linears_mut() {
            let (num_in, device) = (linear.num_in(), linear.device());
            modules.extend(linear.modules.iter().map(|module| ModuleShape {
                name: module.name.clone(),
                num_in,
                num_out: module.num_out(),
                device,
            }));
        }
        modules
    }

    /// Adds `adapter` to the model, apart from its weights: with it the output of a module is
    /// `W x + scale * B (A x)`, the second part in f32.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] when a tensor's shape is not the model's, a tensor has no module
    /// here, or a target module has no tensor: the adapter is another model's.
    pub fn attach(&mut self, adapter: &Adapter) -> Result<()> {
        let config = adapter.config();
        let path = adapter.folder.as_ref().map(|folder| folder.join(ADAPTER_WEIGHTS));
        let fail = |message: String| {
            let error = Error::new(ErrorKind::Checkpoint, message);
            let error = match &path {
                Some(path) => error.at(path),
                None => error,
            };
            let of =
                config.base_model.as_ref().map_or_else(String::new, |name| format!(" (`{name}`)"));
            error.hint(format!(
                "the adapter was made for another model{of}; give that one with `--model`"
            ))
        };
        let all = self.modules();
        let slow = |why: String| {
            let error = Error::new(ErrorKind::Config, why);
            match &adapter.folder {
                Some(folder) => error.at(folder.join(ADAPTER_CONFIG)),
                None => error,
            }
        };
        let rules = config.rules().map_err(slow)?;
        let mut strange: Vec<String> = adapter
            .modules
            .keys()
            .filter(|name| !all.iter().any(|module| module.name == **name))
            .cloned()
            .collect();
        if !strange.is_empty() {
            return Err(fail(format!(
                "{} modules of the adapter are not in this model, the first: {}; the model's are {}",
                strange.len(),
                first(&mut strange),
                kinds(&all).join(", ")
            )));
        }
        for module in &all {
            let pair = adapter.modules.get(&module.name);
            let targeted = rules.targets(&module.name).map_err(slow)?;
            if targeted != pair.is_some() {
                let (has, says) = if targeted { ("no", "it is") } else { ("a", "it is not") };
                return Err(fail(format!(
                    "the adapter has {has} tensor for `{}`, but {says} one of its target modules",
                    module.name
                )));
            }
            let Some(pair) = pair else { continue };
            let r = rules.rank(&module.name).map_err(slow)?;
            for (half, tensor, expected) in
                [("A", &pair.a_rd, [r, module.num_in]), ("B", &pair.b_or, [module.num_out, r])]
            {
                if tensor.size() != expected.map(|n| n as i64) {
                    return Err(fail(format!(
                        "tensor `{PREFIX}{}.lora_{half}.weight` has shape {:?}, expected {expected:?}",
                        module.name,
                        tensor.size()
                    )));
                }
            }
        }
        let mut index = 0;
        for linear in self.linears_mut() {
            let device = linear.device();
            for module in &mut linear.modules {
                let Some(pair) = adapter.modules.get(&module.name) else {
                    module.lora = None;
                    continue;
                };
                module.lora = Some(Lora {
                    a_rd: pair.a_rd.f_to_device(device)?,
                    b_or: pair.b_or.f_to_device(device)?,
                    scale: rules.scale(&module.name).map_err(slow)?,
                    index,
                });
                index += 1;
            }
        }
        Ok(())
    }

    /// Adds the attached adapter to the weights, for good: as fast as the model without one. In half
    /// precision the weights round a good part of it away.
    pub fn merge_adapter(&mut self) {
        for linear in self.linears_mut() {
            linear.merge(true);
        }
    }

    /// Adds the attached adapter to the weights until [`Decoder::detach`].
    ///
    /// # Cost
    /// A copy of the weights it is added to, besides those without it.
    pub fn merge_adapter_for_now(&mut self) {
        for linear in self.linears_mut() {
            linear.merge(false);
        }
    }

    /// Takes the adapter off, whether it stands apart or was merged for now: the model is what its
    /// file holds again, bit for bit.
    pub fn detach(&mut self) {
        for linear in self.linears_mut() {
            linear.detach();
        }
    }
}
