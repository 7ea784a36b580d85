//! The linear maps: the only ones there are, fused where they read one input, with or without
//! low-rank adapters.
//!
//! A [`Linear`] is one matrix product. It computes one or several *modules*, which is what the
//! Hugging Face model calls its linear layers and what adapters name: a fused map of queries, keys
//! and values computes three of llama's modules and one of phi3's.
//!
//! Legend of tensor suffixes: L tokens, D inputs, O outputs, R rank.

use tch::{Device, Kind, Tensor};

use super::checkpoint::Checkpoint;
use super::own_tensor::{OwnTensor, leaf};
use super::product::product;
use crate::error::Result;

/// What adapters' inputs are multiplied by in training.
pub(super) trait Dropout {
    /// Returns the factors `[L, D]`, on `device`, for the inputs of the adapter with this number
    /// among the model's, 0 where an input is dropped.
    fn factors(&self, adapter: usize, num_in: usize, device: Device) -> Tensor;
}

/// A low-rank addition `scale * B A x` to a module, in f32.
#[derive(Debug)]
pub(super) struct Lora {
    pub(super) a_rd: Tensor,
    pub(super) b_or: Tensor,
    pub(super) scale: f64,
    /// Its number among the model's adapters.
    pub(super) index: usize,
}

/// One module of the Hugging Face model within a map.
#[derive(Debug)]
pub(super) struct Module {
    /// The name it has in the checkpoint.
    pub(super) name: String,
    num_out: i64,
    /// The module's output that each output is, where the order is another.
    order: Option<Tensor>,
    pub(super) lora: Option<Lora>,
}

impl Module {
    /// Returns `y_lo` plus what the adapter adds to it for the inputs `x_ld`.
    fn adapted(&self, y_lo: Tensor, x_ld: &Tensor, dropout: Option<&dyn Dropout>) -> Tensor {
        let Some(lora) = &self.lora else { return y_lo };
        let kind = y_lo.kind();
        let x_ld = x_ld.to_kind(Kind::Float);
        let x_ld = match dropout {
            Some(dropout) => {
                let factors_ld = dropout.factors(lora.index, lora.num_in(), x_ld.device());
                x_ld * factors_ld
            }
            None => x_ld,
        };
        let down_lr = x_ld.linear(&lora.a_rd, None::<&Tensor>) * lora.scale;
        y_lo.to_kind(Kind::Float).addmm(&down_lr, &self.ordered(&lora.b_or).tr()).to_kind(kind)
    }

    /// Returns rows in the module's order as the map has them.
    fn ordered(&self, rows: &Tensor) -> Tensor {
        match &self.order {
            Some(order) => rows.index_select(0, order),
            None => rows.shallow_clone(),
        }
    }

    pub(super) fn num_out(&self) -> usize {
        self.num_out as usize
    }
}

impl Lora {
    fn num_in(&self) -> usize {
        self.a_rd.size()[1] as usize
    }

    /// Returns what it adds to the module's weight, `[O, D]`.
    fn delta(&self) -> Tensor {
        self.b_or.mm(&self.a_rd) * self.scale
    }
}

/// A linear map, `[out, in]` as Hugging Face stores it.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    /// The weight as it was before adapters were added to it, where it is to be had again.
    base: Option<Tensor>,
    bias: Option<Tensor>,
    /// What it computes, in the order of its outputs.
    pub(super) modules: Vec<Module>,
    /// Whether the file has the transpose.
    transposed: bool,
}

impl Linear {
    fn of_module(name: &str, weight: Tensor, bias: Option<Tensor>) -> Self {
        let num_out = weight.size()[0];
        let module = Module { name: name.to_owned(), num_out, order: None, lora: None };
        Self { weight, base: None, bias, modules: vec![module], transposed: false }
    }

    pub(super) fn load(
        checkpoint: &mut Checkpoint,
        name: &str,
        num_out: usize,
        num_in: usize,
        bias: bool,
    ) -> Result<Self> {
        let weight = checkpoint.take(&format!("{name}.weight"), &[num_out, num_in])?;
        let bias =
            bias.then(|| checkpoint.take(&format!("{name}.bias"), &[num_out])).transpose()?;
        Ok(Self::of_module(name, weight, bias))
    }

    /// Loads GPT-2's `Conv1D`, which stores the transpose.
    pub(super) fn load_transposed(
        checkpoint: &mut Checkpoint,
        name: &str,
        num_out: usize,
        num_in: usize,
    ) -> Result<Self> {
        let weight = checkpoint.take(&format!("{name}.weight"), &[num_in, num_out])?.tr();
        let bias = Some(checkpoint.take(&format!("{name}.bias"), &[num_out])?);
        Ok(Self { transposed: true, ..Self::of_module(name, weight, bias) })
    }

    /// Loads GPT-NeoX's projection of queries, keys and values, whose outputs run head by head, and
    /// puts all queries first, then all keys, then all values.
    pub(super) fn load_by_head(
        checkpoint: &mut Checkpoint,
        name: &str,
        (num_heads, head_dim): (usize, usize),
        num_in: usize,
        bias: bool,
    ) -> Result<Self> {
        let num_out = 3 * num_heads * head_dim;
        let mut linear = Self::load(checkpoint, name, num_out, num_in, bias)?;
        let order: Vec<i64> = (0..num_out)
            .map(|i| {
                let (part, head, at) =
                    (i / (num_heads * head_dim), i / head_dim % num_heads, i % head_dim);
                ((head * 3 + part) * head_dim + at) as i64
            })
            .collect();
        let order = Tensor::f_from_slice(&order)?.f_to_device(linear.weight.device())?;
        linear.weight = linear.weight.index_select(0, &order);
        linear.bias = linear.bias.map(|bias| bias.index_select(0, &order));
        linear.modules[0].order = Some(order);
        Ok(linear)
    }

    /// Returns one map that gives the outputs of all `parts`, one after the other.
    ///
    /// One large product instead of several: its threads meet once.
    fn fuse<const P: usize>(parts: [Self; P]) -> Self {
        let weights: Vec<&Tensor> = parts.iter().map(|part| &part.weight).collect();
        let biases: Vec<&Tensor> = parts.iter().filter_map(|part| part.bias.as_ref()).collect();
        let weight = Tensor::cat(&weights, 0);
        let bias = (!biases.is_empty()).then(|| Tensor::cat(&biases, 0));
        let modules = parts.into_iter().flat_map(|part| part.modules).collect();
        Self { weight, base: None, bias, modules, transposed: false }
    }

    pub(super) fn forward(&self, x_ld: &Tensor, dropout: Option<&dyn Dropout>) -> Tensor {
        let y_lo = product(x_ld, &self.weight, self.bias.as_ref());
        match self.modules.as_slice() {
            [module] => module.adapted(y_lo, x_ld, dropout),
            _ if !self.is_adapted() => y_lo,
            _ => Tensor::cat(&self.by_module(&y_lo, x_ld, dropout), -1),
        }
    }

    fn by_module(
        &self,
        y_lo: &Tensor,
        x_ld: &Tensor,
        dropout: Option<&dyn Dropout>,
    ) -> Vec<Tensor> {
        let sizes: Vec<i64> = self.modules.iter().map(|module| module.num_out).collect();
        let parts = y_lo.split_with_sizes(&sizes[..], -1);
        let adapted = |(module, part): (&Module, Tensor)| module.adapted(part, x_ld, dropout);
        self.modules.iter().zip(parts).map(adapted).collect()
    }

    pub(super) fn is_adapted(&self) -> bool {
        self.modules.iter().any(|module| module.lora.is_some())
    }

    /// Returns how many of its modules have an adapter.
    pub(super) fn num_adapted(&self) -> usize {
        self.modules.iter().filter(|module| module.lora.is_some()).count()
    }

    /// Returns whether a tensor of it trains.
    pub(super) fn trains(&self) -> bool {
        let lora = |module: &Module| module.lora.as_ref().is_some_and(|l| l.a_rd.requires_grad());
        self.weight.requires_grad() || self.modules.iter().any(lora)
    }

    pub(super) fn num_out(&self) -> usize {
        self.weight.size()[0] as usize
    }

    /// Returns where it lies, and adapters of it with it.
    pub(super) fn device(&self) -> Device {
        self.weight.device()
    }

    pub(super) fn num_in(&self) -> usize {
        self.weight.size()[1] as usize
    }

    /// Makes its tensors train, as copies of what the file holds.
    pub(super) fn train_all(&mut self, trained: &mut Vec<OwnTensor>) {
        let names: Vec<&str> = self.modules.iter().map(|module| module.name.as_str()).collect();
        let name = names.join("+");
        self.weight = leaf(&self.weight);
        trained.push(OwnTensor::new(format!("{name}.weight"), &self.weight, true));
        if let Some(bias) = &mut self.bias {
            *bias = leaf(bias);
            trained.push(OwnTensor::new(format!("{name}.bias"), bias, false));
        }
    }

    /// Returns its tensors as the file has them.
    pub(super) fn export(&self) -> Vec<(String, Tensor)> {
        let mut out = Vec::new();
        let mut first = 0;
        for module in &self.modules {
            let mut put = |name: &str, rows: &Tensor, transposed: bool| {
                let rows = rows.detach().narrow(0, first, module.num_out);
                let rows = match &module.order {
                    Some(order) => rows.zeros_like().index_copy(0, order, &rows),
                    None => rows,
                };
                let rows = if transposed { rows.tr() } else { rows };
                out.push((format!("{}.{name}", module.name), rows.contiguous()));
            };
            put("weight", &self.weight, self.transposed);
            if let Some(bias) = &self.bias {
                put("bias", bias, false);
            }
            first += module.num_out;
        }
        out
    }

    /// Adds the adapters to the weights: for good, or so that they can be taken off again.
    pub(super) fn merge(&mut self, for_good: bool) {
        if !self.is_adapted() {
            return;
        }
        if !for_good && self.base.is_none() {
            self.base = Some(self.weight.shallow_clone());
        }
        let _no_grad = tch::no_grad_guard();
        // The weight may be a file that is mapped read-only.
        let merged = self.weight.to_kind(Kind::Float).contiguous().copy();
        let mut first = 0;
        for module in &mut self.modules {
            if let Some(lora) = module.lora.take() {
                let delta = module.ordered(&lora.delta());
                let _ = merged.narrow(0, first, module.num_out).g_add_(&delta);
            }
            first += module.num_out;
        }
        self.weight = merged.to_kind(self.weight.kind());
    }

    /// Takes adapters off, those that were added to the weights too unless that was for good.
    pub(super) fn detach(&mut self) {
        for module in &mut self.modules {
            module.lora = None;
        }
        if let Some(base) = self.base.take() {
            self.weight = base;
        }
    }
}

/// Largest total of fused weights on the CPU, where they are a copy of what the file maps.
const MOST_FUSED_BYTES: usize = 1 << 30;
/// Most outputs of a fused map on the CPU.
const MOST_FUSED_ROWS: usize = 1536;

/// Maps that read one input: apart, or in one product.
#[derive(Debug)]
pub(super) enum Several<const P: usize> {
    /// Each by itself.
    Apart([Linear; P]),
    /// All in one, with the outputs of each.
    Fused(Linear, [i64; P]),
}

impl<const P: usize> Several<P> {
    /// Returns the maps, fused if that is faster for a model of `num_layers` layers: always on a
    /// GPU, where the file's tensors are given up; on a CPU for small models, whose many small
    /// products wait for threads most, and then only narrow ones (the products of a few rows with
    /// wide weights are a sixth slower in one).
    pub(super) fn new(parts: [Linear; P], num_layers: usize) -> Self {
        let weight = &parts[0].weight;
        let num_rows: usize = parts.iter().map(Linear::num_out).sum();
        let bytes = num_rows * parts[0].num_in() * weight.kind().elt_size_in_bytes();
        let narrow = num_rows <= MOST_FUSED_ROWS && bytes * num_layers <= MOST_FUSED_BYTES;
        if !weight.device().is_cuda() && !narrow {
            return Self::Apart(parts);
        }
        let sizes = std::array::from_fn(|i| parts[i].num_out() as i64);
        Self::Fused(Linear::fuse(parts), sizes)
    }

    /// Returns how many outputs each map has.
    pub(super) fn sizes(&self) -> [i64; P] {
        match self {
            Self::Apart(parts) => std::array::from_fn(|i| parts[i].num_out() as i64),
            Self::Fused(_, sizes) => *sizes,
        }
    }

    /// Returns the output of each map.
    pub(super) fn forward(&self, x_ld: &Tensor, dropout: Option<&dyn Dropout>) -> [Tensor; P] {
        match self {
            Self::Apart(parts) => std::array::from_fn(|i| parts[i].forward(x_ld, dropout)),
            Self::Fused(all, sizes) => {
                let adapted_apart = all.is_adapted() && all.modules.len() == P;
                let mut outputs = if adapted_apart {
                    let y_lo = product(x_ld, &all.weight, all.bias.as_ref());
                    all.by_module(&y_lo, x_ld, dropout)
                } else {
                    all.forward(x_ld, dropout).split_with_sizes(&sizes[..], -1)
                }
                .into_iter();
                std::array::from_fn(|_| outputs.next().unwrap_or_default())
            }
        }
    }

    /// Returns the outputs side by side where that is how they are computed.
    pub(super) fn side_by_side(&self, x_ld: &Tensor) -> Option<Tensor> {
        match self {
            Self::Fused(all, _) if !all.is_adapted() => Some(all.forward(x_ld, None)),
            _ => None,
        }
    }

    /// Returns whether a tensor of them trains.
    pub(super) fn trains(&self) -> bool {
        match self {
            Self::Apart(parts) => parts.iter().any(Linear::trains),
            Self::Fused(all, _) => all.trains(),
        }
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Apart(parts) => parts.iter().collect(),
            Self::Fused(all, _) => vec![all],
        }
    }

    /// Returns the maps that there are.
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match self {
            Self::Apart(parts) => parts.iter_mut().collect(),
            Self::Fused(all, _) => vec![all],
        }
    }
}
