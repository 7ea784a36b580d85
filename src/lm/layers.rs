//! The parts of a block: linear maps, norms, attention, MLP. Each has a `load` and a `forward`.
//!
//! Legend of tensor suffixes: 1 batch of one, L query length, S key length, D width, N heads,
//! K key and value heads, H head size, R rotated components, F MLP width.

use tch::Tensor;

use super::cache::{Attend, KeyValues};
use super::checkpoint::Checkpoint;
use super::config::{Activation, Layout, LmConfig, NormKind, QkNorm};
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
        x_ld.linear(&self.weight, self.bias.as_ref())
    }

    /// Returns the map that gives `num` outputs from output `first` on.
    fn rows(&self, first: usize, num: usize) -> Self {
        let cut = |t: &Tensor| t.narrow(0, first as i64, num as i64);
        Self { weight: cut(&self.weight), bias: self.bias.as_ref().map(cut) }
    }
}

/// A norm over the last axis.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
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
        Ok(Self { weight, bias, eps: config.norm_eps })
    }

    /// Returns the root mean square norm in f32.
    ///
    /// One reduction without a temporary; the library's own is made of five passes over memory.
    fn rms(&self, x: &Tensor) -> Tensor {
        let size = self.weight.size();
        if x.requires_grad() || x.device() != tch::Device::Cpu {
            return x.rms_norm(size, Some(&self.weight), self.eps);
        }
        let root_size = (size[0] as f64).sqrt();
        let norms = x.linalg_norm(2.0, &[-1][..], true, tch::Kind::Float);
        let scales = (norms / root_size).square_().g_add_scalar_(self.eps).rsqrt_();
        multiply(x * scales, &self.weight)
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
        let (q, k, v, o) = match config.layout {
            Layout::Llama => {
                let p = format!("{prefix}.self_attn");
                (
                    Linear::load(checkpoint, &format!("{p}.q_proj"), num_q, width, bias)?,
                    Linear::load(checkpoint, &format!("{p}.k_proj"), num_kv, width, bias)?,
                    Linear::load(checkpoint, &format!("{p}.v_proj"), num_kv, width, bias)?,
                    Linear::load(checkpoint, &format!("{p}.o_proj"), width, num_q, config.o_bias)?,
                )
            }
            Layout::Phi3 => {
                let p = format!("{prefix}.self_attn");
                let all = num_q + 2 * num_kv;
                let qkv = Linear::load(checkpoint, &format!("{p}.qkv_proj"), all, width, bias)?;
                let o =
                    Linear::load(checkpoint, &format!("{p}.o_proj"), width, num_q, config.o_bias)?;
                (qkv.rows(0, num_q), qkv.rows(num_q, num_kv), qkv.rows(num_q + num_kv, num_kv), o)
            }
            Layout::Gpt2 => {
                let p = format!("{prefix}.attn");
                let qkv =
                    Linear::load_transposed(checkpoint, &format!("{p}.c_attn"), 3 * width, width)?;
                let o = Linear::load_transposed(checkpoint, &format!("{p}.c_proj"), width, width)?;
                (qkv.rows(0, width), qkv.rows(width, width), qkv.rows(2 * width, width), o)
            }
            Layout::GptNeox => {
                let p = format!("{prefix}.attention");
                let name = format!("{p}.query_key_value");
                let qkv = Linear::load(checkpoint, &name, 3 * width, width, bias)?;
                let o =
                    Linear::load(checkpoint, &format!("{p}.dense"), width, width, config.o_bias)?;
                let [q, k, v] = split_by_head(&qkv, config.num_attention_heads, head);
                (q, k, v, o)
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
        Ok(Self { q, k, v, o, q_norm, k_norm, index })
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
        let heads = |x_ld: &Tensor, linear: &Linear, norm: Option<&Norm>| {
            let mut y = linear.forward(x_ld);
            if let (Some(norm), QkNorm::Full) = (norm, config.qk_norm) {
                y = norm.forward(&y);
            }
            let mut y_lnh = y.view([len, -1, head]);
            if let (Some(norm), QkNorm::PerHead) = (norm, config.qk_norm) {
                y_lnh = norm.forward(&y_lnh);
            }
            y_lnh
        };
        let mut q_lnh = heads(x_ld, &self.q, self.q_norm.as_ref());
        let mut k_lkh = heads(x_ld, &self.k, self.k_norm.as_ref());
        let v_lkh = heads(x_ld, &self.v, None);
        if let Some(rope) = layer.rope {
            q_lnh = pass.turns[rope].rotate(&q_lnh);
            k_lkh = pass.turns[rope].rotate(&k_lkh);
        }
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
        let (gate, up, down) = match config.layout {
            Layout::Llama => (
                Some(Linear::load(checkpoint, &format!("{p}.gate_proj"), wide, width, bias)?),
                Linear::load(checkpoint, &format!("{p}.up_proj"), wide, width, bias)?,
                Linear::load(checkpoint, &format!("{p}.down_proj"), width, wide, bias)?,
            ),
            Layout::Phi3 => {
                let both =
                    Linear::load(checkpoint, &format!("{p}.gate_up_proj"), 2 * wide, width, bias)?;
                let down = Linear::load(checkpoint, &format!("{p}.down_proj"), width, wide, bias)?;
                (Some(both.rows(0, wide)), both.rows(wide, wide), down)
            }
            Layout::Gpt2 => (
                None,
                Linear::load_transposed(checkpoint, &format!("{p}.c_fc"), wide, width)?,
                Linear::load_transposed(checkpoint, &format!("{p}.c_proj"), width, wide)?,
            ),
            Layout::GptNeox => (
                None,
                Linear::load(checkpoint, &format!("{p}.dense_h_to_4h"), wide, width, bias)?,
                Linear::load(checkpoint, &format!("{p}.dense_4h_to_h"), width, wide, bias)?,
            ),
        };
        Ok(Self { gate, up, down, activation: config.activation })
    }

    pub(super) fn forward(&self, x_ld: &Tensor) -> Tensor {
        let activate = |mut x: Tensor| match self.activation {
            Activation::Silu if x.requires_grad() => x.silu(),
            Activation::Silu => x.silu_(),
            Activation::Gelu => x.gelu("none"),
            Activation::GeluTanh => x.gelu("tanh"),
        };
        let up_lf = self.up.forward(x_ld);
        let inner_lf = match &self.gate {
            Some(gate) => multiply(activate(gate.forward(x_ld)), &up_lf),
            None => activate(up_lf),
        };
        self.down.forward(&inner_lf)
    }
}
