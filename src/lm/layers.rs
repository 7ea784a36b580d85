//! The parts of a block: linear maps, norms, attention, MLP. Each has a `load` and a `forward`.
//!
//! Legend of tensor suffixes: 1 batch of one, L query length, S key length, D width, N heads,
//! K key and value heads, H head size, R rotated components, F MLP width.

use tch::{Device, Tensor};

use super::attention::{Attend, Visible};
use super::cache::KeyValues;
use super::checkpoint::Checkpoint;
use super::config::{Activation, Layout, LmConfig, NormKind, QkNorm};
use super::linear::{Dropout, Linear, Several};
use super::own_tensor::{OwnTensor, in_kind, leaf};
use super::rope::Turn;
use crate::error::Result;

/// A norm over the last axis.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) name: String,
    /// Whether the file has the weight less one.
    unit_offset: bool,
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
    /// Root mean square norms in f32 on the CPU: the weight and the root of eps, both times the
    /// root of the size.
    scaled: Option<(Tensor, Tensor)>,
}

impl Norm {
    pub(super) fn load(
        checkpoint: &mut Checkpoint,
        name: &str,
        size: usize,
        config: &LmConfig,
    ) -> Result<Self> {
        let weight = checkpoint.take(&format!("{name}.weight"), &[size])?;
        let (weight, bias) = match config.norm {
            NormKind::Rms { unit_offset: false } => (weight, None),
            // Gemma multiplies by 1 + w in f32; adding before the cast keeps bf16 weights exact.
            NormKind::Rms { unit_offset: true } => {
                (weight.to_kind(tch::Kind::Float).f_add_scalar(1.0)?, None)
            }
            NormKind::Layer => (weight, Some(checkpoint.take(&format!("{name}.bias"), &[size])?)),
        };
        let eps = config.norm_eps;
        let cpu = weight.device() == Device::Cpu && weight.kind() == tch::Kind::Float;
        let scaled = if cpu && bias.is_none() {
            let n = size as f64;
            let root_eps = Tensor::from((n * eps).sqrt() as f32);
            Some((weight.f_mul_scalar(n.sqrt())?, root_eps))
        } else {
            None
        };
        let unit_offset = config.norm == NormKind::Rms { unit_offset: true };
        Ok(Self { name: name.to_owned(), unit_offset, weight, bias, eps, scaled })
    }

    /// Makes its tensors train, as copies of what the file holds.
    pub(super) fn train_all(&mut self, trained: &mut Vec<OwnTensor>) {
        self.scaled = None;
        self.weight = leaf(&self.weight);
        trained.push(OwnTensor::new(format!("{}.weight", self.name), &self.weight, false));
        if let Some(bias) = &mut self.bias {
            *bias = leaf(bias);
            trained.push(OwnTensor::new(format!("{}.bias", self.name), bias, false));
        }
    }

    /// Returns its tensors as the file has them, in the number type `kind`.
    pub(super) fn export(&self, kind: tch::Kind) -> Vec<(String, Tensor)> {
        let weight = self.weight.detach();
        let weight = if self.unit_offset { weight - 1.0 } else { weight };
        let mut out = vec![(format!("{}.weight", self.name), weight.to_kind(kind))];
        out.extend(self.bias.as_ref().map(|b| (format!("{}.bias", self.name), b.detach())));
        out
    }

    /// Returns the root mean square norm in f32.
    ///
    /// x / sqrt(|x|^2 / n + eps) * w = x / hypot(|x|, sqrt(n eps)) * w sqrt(n): one reduction and
    /// three passes, where the library's own makes twice as many.
    fn rms(&self, x: &Tensor) -> Tensor {
        match &self.scaled {
            Some((weight, root_eps)) if !x.requires_grad() => {
                let mut norms = x.linalg_norm(2.0, &[-1][..], true, tch::Kind::Float);
                multiply(x / norms.hypot_(root_eps), weight)
            }
            _ => x.rms_norm(self.weight.size(), Some(&self.weight), self.eps),
        }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let size = self.weight.size();
        let kind = x.kind();
        if let Some(bias) = &self.bias {
            // A weight that trains is held in f32.
            let of = self.weight.kind();
            let normed =
                in_kind(x, of).layer_norm(size, Some(&self.weight), Some(bias), self.eps, false);
            return in_kind(&normed, kind);
        }
        if kind == tch::Kind::Float {
            return self.rms(x);
        }
        // Half precision: the families compute the norm in f32; they differ only in where they cast.
        let x_f32 = x.to_kind(tch::Kind::Float);
        if self.weight.kind() == tch::Kind::Float {
            x_f32.rms_norm(size, Some(&self.weight), self.eps).to_kind(kind)
        } else {
            x_f32.rms_norm(size, None::<Tensor>, self.eps).to_kind(kind) * &self.weight
        }
    }
}

/// Returns the sum, written over `x` where no gradient needs it.
pub(super) fn add(mut x: Tensor, other: &Tensor) -> Tensor {
    if x.requires_grad() || other.requires_grad() {
        return x + other;
    }
    let _ = x.g_add_(other);
    x
}

/// Returns the product, written over `x` where no gradient needs it.
fn multiply(mut x: Tensor, other: &Tensor) -> Tensor {
    if x.requires_grad() || other.requires_grad() {
        return x * other;
    }
    let _ = x.g_mul_(other);
    x
}

/// What the layers of one forward pass share.
pub(super) struct Pass<'a> {
    /// The tokens and their positions, `[L]`, where the embedding lies.
    pub(super) ids_l: Tensor,
    pub(super) positions_l: Tensor,
    /// Other numbers that came along, where the head lies.
    pub(super) numbers: Tensor,
    /// Rotations and masks on each device of the model.
    pub(super) stages: Vec<OnDevice>,
    /// What the inputs of adapters are multiplied by; `None`: nothing.
    pub(super) dropout: Option<&'a dyn Dropout>,
    /// The tokens whose hidden states are asked for, `[R]`, on the last block's device; `None`: all.
    /// Behind its attention the last block computes no others.
    pub(super) rows: Option<Tensor>,
}

/// What the layers on one device share in a pass.
pub(super) struct OnDevice {
    /// The rotations of the model.
    pub(super) turns: Vec<Turn>,
    /// What layers see that see everything.
    pub(super) full: Visible,
    /// What sliding layers see, by window.
    pub(super) sliding: Vec<(usize, Visible)>,
}

/// The dropout of some tokens of a pass.
pub(super) struct DropoutOfRows<'a> {
    pub(super) all: &'a dyn Dropout,
    pub(super) rows_r: &'a Tensor,
}

impl Dropout for DropoutOfRows<'_> {
    fn factors(&self, adapter: usize, num_in: usize, device: Device) -> Tensor {
        self.all.factors(adapter, num_in, device).index_select(0, self.rows_r)
    }
}

/// Attention of one layer.
#[derive(Debug)]
pub(super) struct Attention {
    qkv: Several<3>,
    o: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    index: usize,
    /// Which of the model's devices it lies on.
    stage: usize,
}

impl Attention {
    pub(super) fn load(
        checkpoint: &mut Checkpoint,
        prefix: &str,
        (index, stage): (usize, usize),
        config: &LmConfig,
    ) -> Result<Self> {
        let (width, head) = (config.hidden_size, config.head_dim);
        let num_q = config.num_attention_heads * head;
        let num_kv = config.num_key_value_heads * head;
        let sizes = [num_q, num_kv, num_kv].map(|num| num as i64);
        let bias = config.qkv_bias;
        let (qkv, o) = match config.layout {
            Layout::Llama => {
                let p = format!("{prefix}.self_attn");
                let mut load = |name: &str, num_out, num_in, bias| {
                    Linear::load(checkpoint, &format!("{p}.{name}_proj"), num_out, num_in, bias)
                };
                let q = load("q", num_q, width, bias)?;
                let k = load("k", num_kv, width, bias)?;
                let v = load("v", num_kv, width, bias)?;
                let o = load("o", width, num_q, config.o_bias)?;
                (Several::new([q, k, v], config.layers.len()), o)
            }
            Layout::Phi3 => {
                let p = format!("{prefix}.self_attn");
                let all = num_q + 2 * num_kv;
                let qkv = Linear::load(checkpoint, &format!("{p}.qkv_proj"), all, width, bias)?;
                let o =
                    Linear::load(checkpoint, &format!("{p}.o_proj"), width, num_q, config.o_bias)?;
                (Several::Fused(qkv, sizes), o)
            }
            Layout::Gpt2 => {
                let p = format!("{prefix}.attn");
                let qkv =
                    Linear::load_transposed(checkpoint, &format!("{p}.c_attn"), 3 * width, width)?;
                let o = Linear::load_transposed(checkpoint, &format!("{p}.c_proj"), width, width)?;
                (Several::Fused(qkv, sizes), o)
            }
            Layout::GptNeox => {
                let p = format!("{prefix}.attention");
                let name = format!("{p}.query_key_value");
                let heads = (config.num_attention_heads, head);
                let qkv = Linear::load_by_head(checkpoint, &name, heads, width, bias)?;
                let o =
                    Linear::load(checkpoint, &format!("{p}.dense"), width, width, config.o_bias)?;
                (Several::Fused(qkv, sizes), o)
            }
        };
        let (q_norm, k_norm) = match config.qk_norm {
            QkNorm::None => (None, None),
            per => {
                let (nq, nk) = if per == QkNorm::Full { (num_q, num_kv) } else { (head, head) };
                let p = format!("{prefix}.self_attn");
                (
                    Some(Norm::load(checkpoint, &format!("{p}.q_norm"), nq, config)?),
                    Some(Norm::load(checkpoint, &format!("{p}.k_norm"), nk, config)?),
                )
            }
        };
        Ok(Self { qkv, o, q_norm, k_norm, index, stage })
    }

    pub(super) fn forward(
        &self,
        x_ld: &Tensor,
        cache: &dyn KeyValues,
        pass: &Pass<'_>,
        rows: Option<(&Tensor, Option<&dyn Dropout>)>,
        config: &LmConfig,
    ) -> Tensor {
        let len = x_ld.size()[0];
        let head = config.head_dim as i64;
        let layer = config.layers[self.index];
        let heads = |mut y: Tensor, norm: Option<&Norm>| {
            if let (Some(norm), QkNorm::Full) = (norm, config.qk_norm) {
                y = norm.forward(&y);
            }
            let mut y_lnh = y.view([len, -1, head]);
            if let (Some(norm), QkNorm::PerHead) = (norm, config.qk_norm) {
                y_lnh = norm.forward(&y_lnh);
            }
            y_lnh
        };
        let here = &pass.stages[self.stage];
        let turn = layer.rope.map(|rope| &here.turns[rope]);
        // Queries and keys that lie side by side are turned as one.
        let side_by_side = match turn {
            Some(turn) if config.qk_norm == QkNorm::None => {
                self.qkv.side_by_side(x_ld).map(|y| (turn, y))
            }
            _ => None,
        };
        let [q_lnh, k_lkh, v_lkh] = match side_by_side {
            Some((turn, y)) => {
                let y_lnh = y.view([len, -1, head]);
                let [q, k, v] = self.qkv.sizes().map(|num| num / head);
                let both_lnh = turn.rotate(&y_lnh.narrow(1, 0, q + k));
                [both_lnh.narrow(1, 0, q), both_lnh.narrow(1, q, k), y_lnh.narrow(1, q + k, v)]
            }
            None => {
                let [q, k, v] = self.qkv.forward(x_ld, pass.dropout);
                let rotate = |y_lnh: Tensor| match turn {
                    Some(turn) => turn.rotate(&y_lnh),
                    None => y_lnh,
                };
                let (q_norm, k_norm) = (self.q_norm.as_ref(), self.k_norm.as_ref());
                [rotate(heads(q, q_norm)), rotate(heads(k, k_norm)), heads(v, None)]
            }
        };
        let [q_nlh, k_klh, v_klh] = [q_lnh, k_lkh, v_lkh].map(|x_lnh| x_lnh.transpose(0, 1));
        let visible = layer
            .sliding_window
            .and_then(|window| here.sliding.iter().find(|(w, _)| *w == window))
            .map_or(&here.full, |(_, visible)| visible);
        let scale = config.attention_scale;
        let grouped = config.num_key_value_heads != config.num_attention_heads;
        let attend = Attend { layer: self.index, visible, scale, grouped };
        let out_nlh = cache.attend(&attend, &q_nlh, &k_klh, &v_klh);
        let out_lnh = out_nlh.transpose(0, 1);
        match rows {
            Some((rows_r, dropout)) => {
                let out_rnh = out_lnh.index_select(0, rows_r);
                self.o.forward(&out_rnh.reshape([rows_r.size()[0], -1]), dropout)
            }
            None => self.o.forward(&out_lnh.reshape([len, -1]), pass.dropout),
        }
    }

    /// Returns whether a tensor of it trains.
    pub(super) fn trains(&self) -> bool {
        self.qkv.trains() || self.o.trains()
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        let mut all = self.qkv.linears();
        all.push(&self.o);
        all
    }

    pub(super) fn norms(&self) -> impl Iterator<Item = &Norm> {
        self.q_norm.iter().chain(&self.k_norm)
    }

    pub(super) fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        self.q_norm.iter_mut().chain(&mut self.k_norm)
    }

    /// Returns the linear maps, in the order of the computation.
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = self.qkv.linears_mut();
        all.push(&mut self.o);
        all
    }
}

/// The MLP of one layer.
#[derive(Debug)]
pub(super) struct Mlp {
    inner: Inner,
    down: Linear,
    activation: Activation,
}

/// The maps into the wide layer.
#[derive(Debug)]
enum Inner {
    /// Gate and up.
    Gated(Several<2>),
    Plain(Linear),
}

impl Mlp {
    pub(super) fn load(
        checkpoint: &mut Checkpoint,
        prefix: &str,
        config: &LmConfig,
    ) -> Result<Self> {
        let (width, wide, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        let p = format!("{prefix}.mlp");
        let (inner, down) = match config.layout {
            Layout::Llama => {
                let mut load = |name: &str, num_out, num_in| {
                    Linear::load(checkpoint, &format!("{p}.{name}_proj"), num_out, num_in, bias)
                };
                let gate = load("gate", wide, width)?;
                let up = load("up", wide, width)?;
                let down = load("down", width, wide)?;
                (Inner::Gated(Several::new([gate, up], config.layers.len())), down)
            }
            Layout::Phi3 => {
                let both =
                    Linear::load(checkpoint, &format!("{p}.gate_up_proj"), 2 * wide, width, bias)?;
                let down = Linear::load(checkpoint, &format!("{p}.down_proj"), width, wide, bias)?;
                (Inner::Gated(Several::Fused(both, [wide as i64; 2])), down)
            }
            Layout::Gpt2 => (
                Inner::Plain(Linear::load_transposed(
                    checkpoint,
                    &format!("{p}.c_fc"),
                    wide,
                    width,
                )?),
                Linear::load_transposed(checkpoint, &format!("{p}.c_proj"), width, wide)?,
            ),
            Layout::GptNeox => (
                Inner::Plain(Linear::load(
                    checkpoint,
                    &format!("{p}.dense_h_to_4h"),
                    wide,
                    width,
                    bias,
                )?),
                Linear::load(checkpoint, &format!("{p}.dense_4h_to_h"), width, wide, bias)?,
            ),
        };
        Ok(Self { inner, down, activation: config.activation })
    }

    pub(super) fn forward(&self, x_ld: &Tensor, dropout: Option<&dyn Dropout>) -> Tensor {
        let activate = |mut x: Tensor| match self.activation {
            Activation::Silu if x.requires_grad() => x.silu(),
            Activation::Silu => x.silu_(),
            Activation::Gelu => x.gelu("none"),
            Activation::GeluTanh => x.gelu("tanh"),
        };
        let inner_lf = match &self.inner {
            Inner::Gated(both) => {
                let [gate_lf, up_lf] = both.forward(x_ld, dropout);
                multiply(activate(gate_lf), &up_lf)
            }
            Inner::Plain(up) => activate(up.forward(x_ld, dropout)),
        };
        self.down.forward(&inner_lf, dropout)
    }

    /// Returns whether a tensor of it trains.
    pub(super) fn trains(&self) -> bool {
        let inner = match &self.inner {
            Inner::Gated(both) => both.trains(),
            Inner::Plain(up) => up.trains(),
        };
        inner || self.down.trains()
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        let mut all = match &self.inner {
            Inner::Gated(both) => both.linears(),
            Inner::Plain(up) => vec![up],
        };
        all.push(&self.down);
        all
    }

    /// Returns the linear maps, in the order of the computation.
    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = match &mut self.inner {
            Inner::Gated(both) => both.linears_mut(),
            Inner::Plain(up) => vec![up],
        };
        all.push(&mut self.down);
        all
    }
}
