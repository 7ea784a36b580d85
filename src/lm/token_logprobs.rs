//! Log-probabilities of single tokens, exact in half precision too.
//!
//! A product in bf16 is rounded to eight bits: logits near 20 lie on a grid of 1/8 nat, and so do the
//! differences between two labels. Scoring asks for a few tokens of each row only, so their logits are
//! formed again in f32 from the same hidden state and weights, and with them the largest of the row,
//! which decide its log-sum-exp.

use tch::{Device, IndexOp, Kind, Tensor};

use super::backward::Target;
use super::cache::KvCache;
use super::decoder::{Decoder, NewTokens};
use super::inputs::Inputs;
use crate::error::Result;

/// Numbers of the head's rows that are held in f32 at once.
const GATHERED_ELEMENTS: i64 = 1 << 23;
/// Logits of a row that are formed again beside the targets.
const NUM_LARGEST: i64 = 64;

/// Log-probabilities that a pass was asked for.
#[derive(Debug)]
pub struct Asked {
    /// Which of the targets each is.
    pub order: Vec<usize>,
    /// Natural logarithms in f64, on the device that made them: reading them waits for it.
    pub logprobs: Tensor,
}

/// Rows whose logits are made at once, and the targets after them.
struct Block {
    rows: Vec<usize>,
    /// Places of its targets among all.
    targets: Vec<usize>,
    /// The row of the block that each stands behind.
    at: Vec<usize>,
}

fn blocks(targets: &[Target], rows_per_block: usize) -> Vec<Block> {
    let mut rows: Vec<usize> = targets.iter().map(|target| target.row).collect();
    rows.sort_unstable();
    rows.dedup();
    rows.chunks(rows_per_block)
        .map(|rows| {
            let (first, last) = (rows[0], rows[rows.len() - 1]);
            let is_here = |at: &usize| (first..=last).contains(&targets[*at].row);
            let here: Vec<usize> = (0..targets.len()).filter(is_here).collect();
            let row = |at: &usize| rows.binary_search(&targets[*at].row).unwrap_or(0);
            let at = here.iter().map(row).collect();
            Block { rows: rows.to_vec(), targets: here, at }
        })
        .collect()
}

impl Decoder {
    /// Runs `new` as [`Decoder::forward`] does, and returns the natural-log probability of each of
    /// `targets` behind its token, made from at most `rows_per_block` rows of logits at a time. Nothing
    /// waits for a GPU.
    ///
    /// In half precision logits are those of the rounded weights and states, but not rounded
    /// themselves.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub fn forward_asked(
        &self,
        new: NewTokens<'_>,
        cache: &mut KvCache,
        targets: &[Target],
        rows_per_block: usize,
    ) -> Result<Option<Asked>> {
        let blocks = blocks(targets, rows_per_block);
        let ids = |block: &Block| -> Vec<usize> {
            block.targets.iter().map(|&at| targets[at].id as usize).collect()
        };
        let numbers: Vec<usize> = blocks
            .iter()
            .flat_map(|block| [block.rows.clone(), block.at.clone(), ids(block)].concat())
            .collect();
        let (x_ld, numbers) = self.forward_with(new, &numbers, cache)?;
        let mut next = 0;
        let mut take = |num: usize| {
            next += num as i64;
            numbers.narrow(0, next - num as i64, num as i64)
        };
        let mut order = Vec::with_capacity(targets.len());
        let mut logprobs = Vec::with_capacity(blocks.len());
        for block in blocks {
            let x_rd = x_ld.index_select(0, &take(block.rows.len()));
            let [at_a, ids_a] = [take(block.at.len()), take(block.at.len())];
            logprobs.push(self.logprobs_at(&x_rd, &at_a, &ids_a));
            order.extend(block.targets);
        }
        Ok((!logprobs.is_empty()).then(|| Asked { order, logprobs: Tensor::cat(&logprobs, 0) }))
    }

    /// Returns the natural-log probability of `targets[i]` behind row `rows[i]` of the hidden states
    /// `x_rd`, `[R, D]`.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn token_logprobs(
        &self,
        x_rd: &Tensor,
        rows: &[usize],
        targets: &[u32],
    ) -> Result<Vec<f64>> {
        let mut inputs = Inputs::default();
        let at = inputs.push(rows.iter().copied());
        let ids = inputs.push(targets.iter().map(|&id| id as usize));
        let sent = inputs.on(x_rd.device())?;
        let picked = self.logprobs_at(x_rd, &sent.get(&at), &sent.get(&ids));
        Ok(Vec::try_from(picked.f_to_device(Device::Cpu)?)?)
    }

    /// The log-probabilities of `ids_a` behind the rows `at_a` of the hidden states `x_rd`, in f64.
    fn logprobs_at(&self, x_rd: &Tensor, at_a: &Tensor, ids_a: &Tensor) -> Tensor {
        let logprobs_rv = match self.kind() {
            Kind::Float => self.log_probs(x_rd),
            _ => self.sharpened(x_rd, at_a, ids_a).log_softmax(-1, Kind::Float),
        };
        logprobs_rv.index(&[Some(at_a), Some(ids_a)]).to_kind(Kind::Double)
    }

    /// The logits `[R, V]` in f32, those of `ids_a` at the rows `at_a` and the largest of each row not
    /// rounded.
    fn sharpened(&self, x_rd: &Tensor, at_a: &Tensor, ids_a: &Tensor) -> Tensor {
        let head_vd = self.head();
        let rounded_rv = x_rd.linear(&head_vd, None::<&Tensor>);
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
