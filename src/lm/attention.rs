//! What the new tokens of a pass see, and the attention over it.
//!
//! Continuations of one path see the whole path and, of each other, only their own ancestors. On the CPU
//! a pass without gradients is cut into [`Pieces`] of what is seen; training passes have no path, and
//! their sequences that see nothing of each other are [`Seen::Parts`]. On a GPU, and in the windows of
//! training passes, it is calls for sequences of various lengths ([`super::calls`]). Nowhere is there a
//! mask over a whole pass.
//!
//! Legend of tensor suffixes: 1 batch of one, L query length, S key length, N heads, K key and value
//! heads, G query heads per key head, H head size.

use tch::{Device, Kind, Tensor};

use super::calls::{Tree, worth_a_call};
use super::inputs::{Inputs, Sent};
use super::kernel::Kernel;
use super::masks::{Part, is_chain, masked_parts};
use super::pieces::Pieces;
use super::varlen::{PlacedCalls, Varlen};
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
    /// 0 where seen and minus infinity elsewhere, `[B, 1, 1, S]`, in a batch.
    Mask(Tensor),
    /// There is no path, and each query sees its part only.
    Parts(Vec<Part>),
    /// Each query sees a piece of its own and some that it shares.
    Pieces(Pieces),
    /// Calls for sequences of various lengths, over the cache from its first slot on.
    Calls(Varlen),
}

/// What the queries of a pass see, before its inputs are on a device.
#[derive(Debug)]
pub(super) enum Planned {
    /// On the CPU.
    Here(Visible),
    /// Calls, whose numbers are among the inputs.
    Calls(PlacedCalls, Kernel),
}

/// How a pass is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) kernel: Kernel,
    pub(super) kind: Kind,
    /// Whether gradients may be asked of it; it has no path then.
    pub(super) trains: bool,
}

impl Planned {
    /// Returns what the new tokens of `tree` see within `window` positions.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn of_tree(
        tree: &Tree<'_>,
        window: Option<usize>,
        how: How,
        inputs: &mut Inputs,
    ) -> Result<Self> {
        let calls = |kernel, inputs: &mut Inputs| {
            let calls = tree.calls(window, &worth_a_call);
            Ok(Self::Calls(PlacedCalls::new(calls, inputs), kernel))
        };
        if how.kernel.takes_calls() {
            return calls(how.kernel, inputs);
        }
        let &Tree { parents, positions, past } = tree;
        let here = |first, seen| Ok(Self::Here(Visible { first, seen }));
        if parents.len() == 1 {
            let first = window.map_or(0, |window| (past + 1).saturating_sub(window));
            return here(first, Seen::All);
        }
        let is_narrow = window.is_some_and(|window| parents.len() > window);
        if past == 0 && is_chain(parents) && !is_narrow {
            return here(0, Seen::Causal);
        }
        match (how.trains, window) {
            (true, Some(_)) => calls(Kernel::FlashForCpu, inputs),
            (true, None) => here(0, Seen::Parts(masked_parts(parents, how.kind)?)),
            (false, _) => {
                let pieces = Pieces::new(parents, positions, past, window, how.kind)?;
                here(0, Seen::Pieces(pieces))
            }
        }
    }

    /// Returns the same on a device that the inputs were sent to.
    ///
    /// # Errors
    /// When the device has no room.
    pub(super) fn on(&self, sent: &Sent, device: Device) -> Result<Visible> {
        match self {
            Self::Here(visible) => visible.on(device),
            Self::Calls(calls, kernel) => {
                Ok(Visible { first: 0, seen: Seen::Calls(calls.on(sent, *kernel)?) })
            }
        }
    }
}

impl Visible {
    /// Returns the same on another device of the same kind.
    fn on(&self, device: Device) -> Result<Self> {
        let moved = |mask: &Tensor| mask.f_to_device(device);
        let seen = match &self.seen {
            Seen::All => Seen::All,
            Seen::Causal => Seen::Causal,
            Seen::Mask(mask) => Seen::Mask(moved(mask)?),
            Seen::Parts(parts) => {
                Seen::Parts(parts.iter().map(|part| part.on(device)).collect::<Result<_>>()?)
            }
            Seen::Pieces(pieces) => Seen::Pieces(pieces.on(device)?),
            Seen::Calls(_) => unreachable!("calls are made on their device"),
        };
        Ok(Self { first: self.first, seen })
    }
}

/// Returns attention over a path and the new tokens behind it.
///
/// # Shapes
/// Queries and result `[N, L, H]`, keys and values `[1, K, S, H]`: the path's and the new tokens'.
pub(super) fn attend(at: &Attend<'_>, q_nlh: &Tensor, k_1ksh: &Tensor, v_1ksh: &Tensor) -> Tensor {
    let causal = match &at.visible.seen {
        Seen::All => false,
        Seen::Causal => true,
        Seen::Pieces(pieces) => return pieces.attend(at.scale, q_nlh, k_1ksh, v_1ksh),
        Seen::Calls(calls) => {
            let [k_skh, v_skh] = [k_1ksh, v_1ksh].map(|x| x.squeeze_dim(0).transpose(0, 1));
            let q_lnh = q_nlh.transpose(0, 1);
            return calls.attend(at.scale, &q_lnh, &k_skh, &v_skh).transpose(0, 1);
        }
        Seen::Mask(_) => unreachable!("masks are of batches"),
        Seen::Parts(_) => unreachable!("parts are of training passes"),
    };
    let q_1nlh = q_nlh.unsqueeze(0);
    Tensor::scaled_dot_product_attention(
        &q_1nlh,
        k_1ksh,
        v_1ksh,
        None::<&Tensor>,
        0.0,
        causal,
        at.scale,
        at.grouped,
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
    if let Seen::Calls(calls) = &at.visible.seen {
        let [q_lnh, k_lkh, v_lkh] = [q_nlh, k_klh, v_klh].map(|x_nlh| x_nlh.transpose(0, 1));
        return calls.attend(at.scale, &q_lnh, &k_lkh, &v_lkh).transpose(0, 1);
    }
    let seen = |q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool| {
        Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal, at.scale, at.grouped)
    };
    let all = [q_nlh, k_klh, v_klh].map(|x_nlh| x_nlh.unsqueeze(0));
    let [q, k, v] = &all;
    match &at.visible.seen {
        Seen::All => seen(q, k, v, None, false),
        Seen::Causal => seen(q, k, v, None, true),
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
        Seen::Mask(_) | Seen::Pieces(_) | Seen::Calls(_) => {
            unreachable!("of passes without gradients")
        }
    }
    .squeeze_dim(0)
}
