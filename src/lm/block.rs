//! One block: attention and MLP with their norms, in the order of the family.

use tch::Tensor;

use super::cache::KeyValues;
use super::checkpoint::Checkpoint;
use super::config::{Layout, LmConfig, NormPlacement};
use super::layers::{Attention, DropoutOfRows, Mlp, Norm, Pass, add};
use super::linear::{Dropout, Linear};
use crate::error::Result;

/// A block in memory.
#[derive(Debug)]
pub(super) struct Block {
    attention: Attention,
    mlp: Mlp,
    /// Before attention.
    input_norm: Option<Norm>,
    /// On the attention's output (post and sandwich placement).
    attention_out_norm: Option<Norm>,
    /// Before the MLP.
    mlp_norm: Option<Norm>,
    /// On the MLP's output.
    mlp_out_norm: Option<Norm>,
}

impl Block {
    /// Returns block `index` of stage `stage`, whose weights have names that begin with `prefix`.
    pub(super) fn load(
        checkpoint: &mut Checkpoint,
        prefix: &str,
        (index, stage): (usize, usize),
        config: &LmConfig,
    ) -> Result<Self> {
        let attention = Attention::load(checkpoint, prefix, (index, stage), config)?;
        let mlp = Mlp::load(checkpoint, prefix, config)?;
        let mut norm = |name: &str| {
            Norm::load(checkpoint, &format!("{prefix}.{name}"), config.hidden_size, config)
                .map(Some)
        };
        let (before, after) = match config.layout {
            Layout::Gpt2 => ("ln_1", "ln_2"),
            _ => ("input_layernorm", "post_attention_layernorm"),
        };
        let [input_norm, attention_out_norm, mlp_norm, mlp_out_norm] = match config.norm_placement {
            NormPlacement::Pre => [norm(before)?, None, norm(after)?, None],
            NormPlacement::Post => {
                [None, norm("post_attention_layernorm")?, None, norm("post_feedforward_layernorm")?]
            }
            NormPlacement::Sandwich => [
                norm("input_layernorm")?,
                norm("post_attention_layernorm")?,
                norm("pre_feedforward_layernorm")?,
                norm("post_feedforward_layernorm")?,
            ],
        };
        Ok(Self { attention, mlp, input_norm, attention_out_norm, mlp_norm, mlp_out_norm })
    }

    pub(super) fn norms(&self) -> impl Iterator<Item = &Norm> {
        let own = [&self.input_norm, &self.attention_out_norm, &self.mlp_norm, &self.mlp_out_norm];
        own.into_iter().flatten().chain(self.attention.norms())
    }

    pub(super) fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        let own = [&mut self.input_norm, &mut self.attention_out_norm, &mut self.mlp_norm];
        let own = own.into_iter().chain([&mut self.mlp_out_norm]).flatten();
        own.chain(self.attention.norms_mut())
    }

    /// Returns whether a tensor of the block trains.
    pub(super) fn trains(&self) -> bool {
        self.attention.trains() || self.mlp.trains()
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.attention.linears().into_iter().chain(self.mlp.linears())
    }

    pub(super) fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let mut all = self.attention.linears_mut();
        all.extend(self.mlp.linears_mut());
        all
    }

    /// Returns the block's output: of all tokens, or if it is the last one of those asked for.
    pub(super) fn forward(
        &self,
        x_ld: Tensor,
        cache: &dyn KeyValues,
        pass: &Pass<'_>,
        is_last: bool,
        config: &LmConfig,
    ) -> Tensor {
        let apply = |norm: &Option<Norm>, x: &Tensor| match norm {
            Some(norm) => norm.forward(x),
            None => x.shallow_clone(),
        };
        let rows_r = pass.rows.as_ref().filter(|_| is_last);
        let of_rows = match (rows_r, pass.dropout) {
            (Some(rows_r), Some(all)) => Some(DropoutOfRows { all, rows_r }),
            _ => None,
        };
        let dropout = match &of_rows {
            Some(of_rows) => Some(of_rows as &dyn Dropout),
            None => pass.dropout,
        };
        let rows = rows_r.map(|rows_r| (rows_r, dropout));
        let normed_ld = apply(&self.input_norm, &x_ld);
        let attended = self.attention.forward(&normed_ld, cache, pass, rows, config);
        let attended = apply(&self.attention_out_norm, &attended);
        let x_ld = match rows_r {
            Some(rows_r) => x_ld.index_select(0, rows_r),
            None => x_ld,
        };
        if config.parallel_residual {
            let mixed = self.mlp.forward(&apply(&self.mlp_norm, &x_ld), dropout);
            return add(add(attended, &mixed), &x_ld);
        }
        let x_ld = add(attended, &x_ld);
        let mixed = self.mlp.forward(&apply(&self.mlp_norm, &x_ld), dropout);
        add(apply(&self.mlp_out_norm, &mixed), &x_ld)
    }
}
