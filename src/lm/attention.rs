//! What the new tokens of a pass see, and the attention over it.
//!
//! Continuations of one path see the whole path and, of each other, only their own ancestors. On the CPU
//! a pass without gradients is cut into [`Pieces`] of what is seen. Training passes have no path: there
//! sequences that see nothing of each other are [`Seen::Parts`]. Elsewhere one mask says it all.
//!
//! Legend of tensor suffixes: 1 batch of one, L query length, S key length, N heads, K key and value
//! heads, G query heads per key head, H head size.

use tch::{Device, Kind, Tensor};

use super::masks::{Mask, Part, is_chain, masked_parts};
use super::pieces::Pieces;
use crate::error::Result;

/// One layer's attention.
pub(super) struct Attend<'a> {
    pub(super) layer: usize,
    pub(super) visible: &'a Visible,
    /// What the scores are multiplied by.
    pub(super) scale: f64,
    /// Whether several query heads share a key head.
    pub(super) grouped: bool,
}

/// Which keys the queries of a pass see.
#[derive(Debug)]
pub(super) struct Visible {
    /// First cache slot that any query sees.
    pub(super) first: usize,
    pub(super) seen: Seen,
}

/// How the keys from [`Visible::first`] on are seen.
#[derive(Debug)]
pub(super) enum Seen {
    /// Every query sees every key.
    All,
    /// The queries are the keys, and each sees itself and those before it.
    Causal,
    /// 0 where seen and minus infinity elsewhere: `[L, S]` on a path, `[B, 1, 1, S]` in a batch.
    Mask(Tensor),
    /// There is no path, and each query sees its part only.
    Parts(Vec<Part>),
    /// Each query sees a piece of its own and some that it shares.
    Pieces(Pieces),
}

impl Visible {
    /// As [`Visible::new`] for a pass without gradients.
    pub(super) fn without_gradient(
        parents: &[Option<usize>],
        positions: &[usize],
        past: usize,
        window: Option<usize>,
        (kind, device): (Kind, Device),
    ) -> Result<Self> {
        // The kernel that gives the sums of exponentials is the CPU's.
        if device != Device::Cpu {
            return Self::new(parents, positions, past, window, (kind, device));
        }
        if parents.len() == 1 {
            let first = window.map_or(0, |window| (past + 1).saturating_sub(window));
            return Ok(Self { first, seen: Seen::All });
        }
        if past == 0 && is_chain(parents) && window.is_none_or(|window| parents.len() <= window) {
            return Ok(Self { first: 0, seen: Seen::Causal });
        }
        let pieces = Pieces::new(parents, positions, past, window, kind)?;
        Ok(Self { first: 0, seen: Seen::Pieces(pieces) })
    }

    /// Returns what new tokens see behind a path of `past` tokens within `window` positions.
    ///
    /// `parents` gives each token's parent among the new ones, `positions` its position.
    pub(super) fn new(
        parents: &[Option<usize>],
        positions: &[usize],
        past: usize,
        window: Option<usize>,
        (kind, device): (Kind, Device),
    ) -> Result<Self> {
        if window.is_none() {
            if parents.len() == 1 {
                return Ok(Self { first: 0, seen: Seen::All });
            }
            if past == 0 && is_chain(parents) {
                return Ok(Self { first: 0, seen: Seen::Causal });
            }
            if past == 0 && device == Device::Cpu {
                return Ok(Self { first: 0, seen: Seen::Parts(masked_parts(parents, kind)?) });
            }
        }
        let oldest = |position: usize| window.map_or(0, |w| (position + 1).saturating_sub(w));
        let first = positions.iter().map(|&p| oldest(p)).min().unwrap_or(0).min(past);
        let num_past = past - first;
        let mut mask = Mask::new(parents.len(), num_past + parents.len());
        for (i, &position) in positions.iter().enumerate() {
            let from = oldest(position);
            mask.row(i)[from.max(first).min(past) - first..num_past].fill(0.0);
            let mut ancestor = Some(i);
            while let Some(a) = ancestor.filter(|&a| positions[a] >= from) {
                mask.row(i)[num_past + a] = 0.0;
                ancestor = parents[a];
            }
        }
        Ok(Self { first, seen: Seen::Mask(mask.tensor(kind)?.f_to_device(device)?) })
    }
}

impl Visible {
    /// Returns the same on another device of the same kind.
    pub(super) fn on(&self, device: Device) -> Result<Self> {
        let moved = |mask: &Tensor| mask.f_to_device(device);
        let seen = match &self.seen {
            Seen::All => Seen::All,
            Seen::Causal => Seen::Causal,
            Seen::Mask(mask) => Seen::Mask(moved(mask)?),
            Seen::Parts(parts) => {
                Seen::Parts(parts.iter().map(|part| part.on(device)).collect::<Result<_>>()?)
            }
            Seen::Pieces(pieces) => Seen::Pieces(pieces.on(device)?),
        };
        Ok(Self { first: self.first, seen })
    }
}

/// Returns attention over a path and the new tokens behind it.
///
/// # Shapes
/// Queries and result `[N, L, H]`, keys and values `[1, K, S, H]`: the path's and the new tokens'.
pub(super) fn attend(at: &Attend<'_>, q_nlh: &Tensor, k_1ksh: &Tensor, v_1ksh: &Tensor) -> Tensor {
    let (mask, causal) = match &at.visible.seen {
        Seen::All => (None, false),
        Seen::Causal => (None, true),
        Seen::Mask(mask) => (Some(mask), false),
        Seen::Pieces(pieces) => return pieces.attend(at.scale, q_nlh, k_1ksh, v_1ksh),
        Seen::Parts(_) => unreachable!("parts are of training passes"),
    };
    let q_1nlh = q_nlh.unsqueeze(0);
    Tensor::scaled_dot_product_attention(
        &q_1nlh, k_1ksh, v_1ksh, mask, 0.0, causal, at.scale, at.grouped,
    )
    .squeeze_dim(0)
}

/// Returns attention of new tokens over each other, without a path; differentiable.
///
/// # Shapes
/// Queries and result `[N, L, H]`, keys and values `[K, L, H]`.
pub(super) fn attend_fresh(
    at: &Attend<'_>,
    q_nlh: &Tensor,
    k_klh: &Tensor,
    v_klh: &Tensor,
) -> Tensor {
    let seen = |q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool| {
        Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal, at.scale, at.grouped)
    };
    let all = [q_nlh, k_klh, v_klh].map(|x_nlh| x_nlh.unsqueeze(0));
    let [q, k, v] = &all;
    match &at.visible.seen {
        Seen::All => seen(q, k, v, None, false),
        Seen::Causal => seen(q, k, v, None, true),
        Seen::Mask(mask) => seen(q, k, v, Some(mask), false),
        Seen::Parts(parts) => {
            let sizes: Vec<i64> = parts.iter().map(|part| part.tokens.len() as i64).collect();
            let [q, k, v] = all.each_ref().map(|x| x.split_with_sizes(&sizes[..], 2));
            let outputs: Vec<Tensor> = parts
                .iter()
                .enumerate()
                .map(|(i, Part { mask, .. })| {
                    seen(&q[i], &k[i], &v[i], mask.as_ref(), mask.is_none())
                })
                .collect();
            Tensor::cat(&outputs, 2)
        }
        Seen::Pieces(_) => unreachable!("pieces are of passes without gradients"),
    }
    .squeeze_dim(0)
}
