//! The parts of a block: linear maps, norms, attention, MLP. Each has a `load` and a `forward`.
//!
//! Legend of tensor suffixes: 1 batch of one, L query length, S key length, D width, N heads,
//! K key and value heads, H head size, R rotated components, F MLP width.

use tch::Tensor;

use super::cache::{Attend, KeyValues};
use super::checkpoint::Checkpoint;
use super::config::{Activation, Layout, LmConfig, NormKind, QkNorm};
use super::product::product;
use super::rope::Turn;
use super::visible::Visible;
use crate::error::Result;

/// A linear map, `[out, in]` as Hugging Face stores it.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
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
        Ok(Self { weight, bias })
    }

    /// Loads GPT-2's `Conv1D`, which stores the transpose.
    fn load_transposed(
        checkpoint: &mut Checkpoint,
        name: &str,
        num_out: usize,
        num_in: usize,
    ) -> Result<Self> {
        let weight = checkpoint.take(&format!("{name}.weight"), &[num_in, num_out])?.tr();
        let bias = Some(checkpoint.take(&format!("{name}.bias"), &[num_out])?);
        Ok(Self { weight, bias })
    }

    pub(super) fn forward(&self, x_ld: &Tensor) -> Tensor {
        product(x_ld, &self.weight, self.bias.as_ref())
    }

    /// Returns one map that gives the outputs of all `parts`, one after the other.
    ///
    /// One large product instead of several: its threads meet once. The parts become views of it.
    fn fuse<const P: usize>(parts: [&mut Self; P]) -> Self {
        let weights: Vec<&Tensor> = parts.iter().map(|part| &part.weight).collect();
        let biases: Vec<&Tensor> = parts.iter().filter_map(|part| part.bias.as_ref()).collect();
        let fused = Self {
            weight: Tensor::cat(&weights, 0),
            bias: (!biases.is_empty()).then(|| Tensor::cat(&biases, 0)),
        };
        let mut first = 0;
        for part in parts {
            let num = part.num_out();
            *part = fused.rows(first, num);
            first += num;
        }
        fused
    }

    fn num_out(&self) -> usize {
        self.weight.size()[0] as usize
    }

    /// Returns the map that gives `num` outputs from output `first` on.
    fn rows(&self, first: usize, num: usize) -> Self {
        let cut = |t: &Tensor| t.narrow(0, first as i64, num as i64);
        Self { weight: cut(&self.weight), bias: self.bias.as_ref().map(cut) }
    }
}

/// Largest total of fused weights on the CPU, where they are a copy of what the file maps.
const MOST_FUSED_BYTES: usize = 1 << 30;
/// Most outputs of a fused map on the CPU.
const MOST_FUSED_ROWS: usize = 1536;

/// Whether projections that read the same input, `num_rows` outputs together, are fused: always on a
/// GPU, where the file's tensors are given up; on a CPU for small models, whose many small products
/// wait for threads most, and then only narrow ones (the products of a few rows with wide weights are
/// a sixth slower in one).
fn fuses(config: &LmConfig, weight: &Tensor, num_rows: usize) -> bool {
    let bytes = num_rows * config.hidden_size * weight.kind().elt_size_in_bytes();
    weight.device().is_cuda()
        || num_rows <= MOST_FUSED_ROWS && bytes * config.layers.len() <= MOST_FUSED_BYTES
}

/// A norm over the last axis.
#[derive(Debug)]
pub(super) struct Norm {
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
        let cpu = weight.device() == tch::Device::Cpu && weight.kind() == tch::Kind::Float;
        let scaled = if cpu && bias.is_none() {
            let n = size as f64;
            let root_eps = Tensor::from((n * eps).sqrt() as f32);
            Some((weight.f_mul_scalar(n.sqrt())?, root_eps))
        } else {
            None
        };
        Ok(Self { weight, bias, eps, scaled })
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
        if let Some(bias) = &self.bias {
            return x.layer_norm(size, Some(&self.weight), Some(bias), self.eps, false);
        }
        let kind = x.kind();
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

/// What the layers of one forward pass share: rotations and masks.
pub(super) struct Pass {
    /// The rotations of the model.
    pub(super) turns: Vec<Turn>,
    /// What layers see that see everything.
    pub(super) full: Visible,
    /// What sliding layers see, by window.
    pub(super) sliding: Vec<(usize, Visible)>,
}

/// Attention of one layer.
#[derive(Debug)]
pub(super) struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    /// The three in one, of which they are views.
    qkv: Option<Linear>,
    o: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    index: usize,
}

impl Attention {
    pub(super) fn load(
        checkpoint: &mut Checkpoint,
        prefix: &str,
        index: usize,
        config: &LmConfig,
    ) -> Result<Self> {
        let (width, head) = (config.hidden_size, config.head_dim);
        let num_q = config.num_attention_heads * head;
        let num_kv = config.num_key_value_heads * head;
        let bias = config.qkv_bias;
        let ([q, k, v], qkv, o) = match config.layout {
            Layout::Llama => {
                let p = format!("{prefix}.self_attn");
                let mut load = |name: &str, num_out, num_in, bias| {
                    Linear::load(checkpoint, &format!("{p}.{name}_proj"), num_out, num_in, bias)
                };
                let mut q = load("q", num_q, width, bias)?;
                let mut k = load("k", num_kv, width, bias)?;
                let mut v = load("v", num_kv, width, bias)?;
                let o = load("o", width, num_q, config.o_bias)?;
                let qkv = fuses(config, &q.weight, num_q + 2 * num_kv)
                    .then(|| Linear::fuse([&mut q, &mut k, &mut v]));
                ([q, k, v], qkv, o)
            }
            Layout::Phi3 => {
                let p = format!("{prefix}.self_attn");
                let all = num_q + 2 * num_kv;
                let qkv = Linear::load(checkpoint, &format!("{p}.qkv_proj"), all, width, bias)?;
                let o =
                    Linear::load(checkpoint, &format!("{p}.o_proj"), width, num_q, config.o_bias)?;
                let (k, v) = (qkv.rows(num_q, num_kv), qkv.rows(num_q + num_kv, num_kv));
                ([qkv.rows(0, num_q), k, v], Some(qkv), o)
            }
            Layout::Gpt2 => {
                let p = format!("{prefix}.attn");
                let qkv =
                    Linear::load_transposed(checkpoint, &format!("{p}.c_attn"), 3 * width, width)?;
                let o = Linear::load_transposed(checkpoint, &format!("{p}.c_proj"), width, width)?;
                ([0, 1, 2].map(|part| qkv.rows(part * width, width)), Some(qkv), o)
            }
            Layout::GptNeox => {
                let p = format!("{prefix}.attention");
                let name = format!("{p}.query_key_value");
                let qkv = Linear::load(checkpoint, &name, 3 * width, width, bias)?;
                let o =
                    Linear::load(checkpoint, &format!("{p}.dense"), width, width, config.o_bias)?;
                let [mut q, mut k, mut v] = split_by_head(&qkv, config.num_attention_heads, head);
                let qkv = Linear::fuse([&mut q, &mut k, &mut v]);
                ([q, k, v], Some(qkv), o)
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
        Ok(Self { q, k, v, qkv, o, q_norm, k_norm, index })
    }

    pub(super) fn forward(
        &self,
        x_ld: &Tensor,
        cache: &dyn KeyValues,
        pass: &Pass,
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
        let (q, k, v) = (&self.q, &self.k, &self.v);
        let turn = layer.rope.map(|rope| &pass.turns[rope]);
        let [q_lnh, k_lkh, v_lkh] = match (&self.qkv, turn) {
            // Queries and keys lie side by side: turned as one.
            (Some(qkv), Some(turn)) if config.qk_norm == QkNorm::None => {
                let y_lnh = qkv.forward(x_ld).view([len, -1, head]);
                let num = |part: &Linear| part.num_out() as i64 / head;
                let both_lnh = turn.rotate(&y_lnh.narrow(1, 0, num(q) + num(k)));
                let cut = |y: &Tensor, first, part| y.narrow(1, first, num(part));
                [cut(&both_lnh, 0, q), cut(&both_lnh, num(q), k), cut(&y_lnh, num(q) + num(k), v)]
            }
            (qkv, turn) => {
                let y = match qkv {
                    Some(qkv) => split(&qkv.forward(x_ld), [q, k, v]),
                    None => [q, k, v].map(|part| part.forward(x_ld)),
                };
                let [q, k, v] = y;
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
            .and_then(|window| pass.sliding.iter().find(|(w, _)| *w == window))
            .map_or(&pass.full, |(_, visible)| visible);
        let scale = config.attention_scale;
        let grouped = config.num_key_value_heads != config.num_attention_heads;
        let attend = Attend { layer: self.index, visible, scale, grouped };
        let out_nlh = cache.attend(&attend, &q_nlh, &k_klh, &v_klh);
        self.o.forward(&out_nlh.transpose(0, 1).reshape([len, -1]))
    }
}

/// Returns the outputs of `parts` from the output of the map that they were fused in.
fn split<const P: usize>(y: &Tensor, parts: [&Linear; P]) -> [Tensor; P] {
    let mut first = 0;
    parts.map(|part| {
        let num = part.num_out() as i64;
        first += num;
        y.narrow(-1, first - num, num)
    })
}

/// Splits GPT-NeoX's fused projection, whose rows run head by head as query, key, value.
fn split_by_head(qkv: &Linear, num_heads: usize, head_dim: usize) -> [Linear; 3] {
    let (n, h) = (num_heads as i64, head_dim as i64);
    [0, 1, 2].map(|part| {
        let weight_n3hd = qkv.weight.view([n, 3, h, -1]);
        let weight = weight_n3hd.select(1, part).reshape([n * h, -1]);
        let bias = qkv.bias.as_ref().map(|b| b.view([n, 3, h]).select(1, part).reshape([n * h]));
        Linear { weight, bias }
    })
}

/// The MLP of one layer.
#[derive(Debug)]
pub(super) struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    /// Both in one, of which they are views.
    gate_up: Option<Linear>,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    pub(super) fn load(
        checkpoint: &mut Checkpoint,
        prefix: &str,
        config: &LmConfig,
    ) -> Result<Self> {
        let (width, wide, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        let p = format!("{prefix}.mlp");
        let (gate_up, gate, up, down) = match config.layout {
            Layout::Llama => {
                let mut load = |name: &str, num_out, num_in| {
                    Linear::load(checkpoint, &format!("{p}.{name}_proj"), num_out, num_in, bias)
                };
                let mut gate = load("gate", wide, width)?;
                let mut up = load("up", wide, width)?;
                let down = load("down", width, wide)?;
                let both =
                    fuses(config, &up.weight, 2 * wide).then(|| Linear::fuse([&mut gate, &mut up]));
                (both, Some(gate), up, down)
            }
            Layout::Phi3 => {
                let both =
                    Linear::load(checkpoint, &format!("{p}.gate_up_proj"), 2 * wide, width, bias)?;
                let down = Linear::load(checkpoint, &format!("{p}.down_proj"), width, wide, bias)?;
                let (gate, up) = (both.rows(0, wide), both.rows(wide, wide));
                (Some(both), Some(gate), up, down)
            }
            Layout::Gpt2 => (
                None,
                None,
                Linear::load_transposed(checkpoint, &format!("{p}.c_fc"), wide, width)?,
                Linear::load_transposed(checkpoint, &format!("{p}.c_proj"), width, wide)?,
            ),
            Layout::GptNeox => (
                None,
                None,
                Linear::load(checkpoint, &format!("{p}.dense_h_to_4h"), wide, width, bias)?,
                Linear::load(checkpoint, &format!("{p}.dense_4h_to_h"), width, wide, bias)?,
            ),
        };
        Ok(Self { gate, up, gate_up, down, activation: config.activation })
    }

    pub(super) fn forward(&self, x_ld: &Tensor) -> Tensor {
        let activate = |mut x: Tensor| match self.activation {
            Activation::Silu if x.requires_grad() => x.silu(),
            Activation::Silu => x.silu_(),
            Activation::Gelu => x.gelu("none"),
            Activation::GeluTanh => x.gelu("tanh"),
        };
        let inner_lf = match (&self.gate_up, &self.gate) {
            (Some(both), Some(gate)) => {
                let [gate_lf, up_lf] = split(&both.forward(x_ld), [gate, &self.up]);
                multiply(activate(gate_lf), &up_lf)
            }
            (None, Some(gate)) => multiply(activate(gate.forward(x_ld)), &self.up.forward(x_ld)),
            (_, None) => activate(self.up.forward(x_ld)),
        };
        self.down.forward(&inner_lf)
    }
}
