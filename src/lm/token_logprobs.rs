//! Log-probabilities of single tokens, exact in half precision too.
//!
//! A product in bf16 is rounded to eight bits: logits near 20 lie on a grid of 1/8 nat, and so do the
//! differences between two labels. Scoring asks for a few tokens of each row only, so their logits are
//! formed again in f32 from the same hidden state and weights, and with them the largest of the row,
//! which decide its log-sum-exp.

use tch::{Device, IndexOp, Kind, Tensor};

use super::decoder::Decoder;
use crate::error::Result;

/// Numbers of the head's rows that are held in f32 at once.
const GATHERED_ELEMENTS: i64 = 1 << 23;
/// Logits of a row that are formed again beside the targets.
const NUM_LARGEST: i64 = 64;

impl Decoder {
    /// Returns the natural-log probability of `targets[i]` behind row `rows[i]` of the hidden states
    /// `x_rd`, `[R, D]`.
    ///
    /// In half precision logits are those of the rounded weights and states, but not rounded
    /// themselves.
    ///
    /// # Errors
    /// What libtorch gives.
    pub fn token_logprobs(
        &self,
        x_rd: &Tensor,
        rows: &[usize],
        targets: &[u32],
    ) -> Result<Vec<f64>> {
        let place = x_rd.device();
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let targets: Vec<i64> = targets.iter().map(|&id| i64::from(id)).collect();
        let at_a = Tensor::f_from_slice(&rows)?.f_to_device(place)?;
        let ids_a = Tensor::f_from_slice(&targets)?.f_to_device(place)?;
        let logprobs_rv = match self.kind() {
            Kind::Float => self.log_probs(x_rd),
            _ => self.sharpened(x_rd, &at_a, &ids_a).log_softmax(-1, Kind::Float),
        };
        let picked_a = logprobs_rv.index(&[Some(&at_a), Some(&ids_a)]);
        Ok(Vec::try_from(picked_a.to_kind(Kind::Double).f_to_device(Device::Cpu)?)?)
    }

    /// The logits `[R, V]` in f32, those of `ids_a` at the rows `at_a` and the largest of each row not
    /// rounded.
    fn sharpened(&self, x_rd: &Tensor, at_a: &Tensor, ids_a: &Tensor) -> Tensor {
        let head_vd = self.head();
        let rounded_rv = x_rd.linear(head_vd, None::<&Tensor>);
        let num = NUM_LARGEST.min(head_vd.size()[0]);
        let (_, largest_rk) = rounded_rv.topk(num, -1, true, false);
        let x_rd = x_rd.to_kind(Kind::Float);
        let width = head_vd.size()[1];
        let rows = (GATHERED_ELEMENTS / (num * width)).max(1);
        let parts = x_rd.split(rows, 0).into_iter().zip(largest_rk.split(rows, 0));
        let again = parts.map(|(x_pd, largest_pk)| {
            let weights_pkd = head_vd
                .index_select(0, &largest_pk.flatten(0, -1))
                .to_kind(Kind::Float)
                .view([-1, num, width]);
            weights_pkd.bmm(&x_pd.unsqueeze(-1)).squeeze_dim(-1)
        });
        let largest_logits_rk = Tensor::cat(&again.collect::<Vec<_>>(), 0);
        let mut logits_rv =
            rounded_rv.to_kind(Kind::Float).scatter_(1, &largest_rk, &largest_logits_rk);
        let weights_ad = head_vd.index_select(0, ids_a).to_kind(Kind::Float);
        let logits_a = (weights_ad * x_rd.i(at_a)).sum_dim_intlist(&[-1][..], false, Kind::Float);
        logits_rv.index_put_(&[Some(at_a), Some(ids_a)], &logits_a, false)
    }
}
