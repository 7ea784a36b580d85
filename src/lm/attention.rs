//! What the new tokens of a pass see, and the attention over it.
//!
//! Continuations of one path see the whole path and, of each other, only their own ancestors. One
//! mask over everything is simple, but most of it says "all of the path" and most of the rest says
//! "nothing": with many continuations and a long path it costs a fifth to a third of attention.
//! [`Seen::Parts`] splits it. The path is read without a mask, by all query heads of a key head as
//! the rows of one product (*fold*); every continuation then attends to itself alone; and the two
//! are merged by the logarithms of their sums of exponentials (as in flash-decoding and cascade
//! attention): exact, and nothing is copied.
//!
//! Without a path the parts are all there is.
//!
//! Legend of tensor suffixes: 1 batch of one, L query length, S key length, N heads, K key and value
//! heads, G query heads per key head, H head size.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

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
    /// Every query sees the whole path; of the new tokens it sees its part only.
    Parts(Vec<Part>),
}

/// New tokens that follow each other and see none outside but the path.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) tokens: Range<usize>,
    /// `[L, L]` among themselves; `None`: causal.
    pub(super) mask: Option<Tensor>,
}

impl Visible {
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
            // The kernel that gives the sums of exponentials is the CPU's.
            if device == Device::Cpu {
                return Ok(Self { first: 0, seen: Seen::Parts(parts(parents, kind)?) });
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
            Seen::Parts(parts) => Seen::Parts(
                parts
                    .iter()
                    .map(|Part { tokens, mask }| {
                        let mask = mask.as_ref().map(moved).transpose()?;
                        Ok(Part { tokens: tokens.clone(), mask })
                    })
                    .collect::<Result<_>>()?,
            ),
        };
        Ok(Self { first: self.first, seen })
    }
}

/// Returns the new tokens cut in runs that see nothing of each other.
fn parts(parents: &[Option<usize>], kind: Kind) -> Result<Vec<Part>> {
    // A token whose parent lies before the run joins the runs between.
    let mut begins: Vec<usize> = Vec::new();
    for (i, parent) in parents.iter().enumerate() {
        match parent {
            None => begins.push(i),
            Some(parent) => {
                while begins.last().is_some_and(|begin| begin > parent) {
                    begins.pop();
                }
            }
        }
    }
    let ends = begins.iter().skip(1).copied().chain([parents.len()]);
    begins
        .iter()
        .zip(ends)
        .map(|(&begin, end)| {
            let within: Vec<Option<usize>> =
                parents[begin..end].iter().map(|p| p.map(|p| p - begin)).collect();
            let mask = if is_chain(&within) {
                None
            } else {
                let mut mask = Mask::new(within.len(), within.len());
                for i in 0..within.len() {
                    // A token sees what its parent sees, and itself.
                    if let Some(parent) = within[i] {
                        mask.values.copy_within(
                            parent * within.len()..parent * within.len() + parent + 1,
                            i * within.len(),
                        );
                    }
                    mask.row(i)[i] = 0.0;
                }
                Some(mask.tensor(kind)?)
            };
            Ok(Part { tokens: begin..end, mask })
        })
        .collect()
}

fn is_chain(parents: &[Option<usize>]) -> bool {
    parents.iter().enumerate().all(|(i, parent)| *parent == i.checked_sub(1))
}

struct Mask {
    width: usize,
    values: Vec<f32>,
}

impl Mask {
    fn new(len: usize, width: usize) -> Self {
        Self { width, values: vec![f32::NEG_INFINITY; len * width] }
    }

    fn row(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.width..(index + 1) * self.width]
    }

    fn tensor(&self, kind: Kind) -> Result<Tensor> {
        let shape = [(self.values.len() / self.width) as i64, self.width as i64];
        Ok(Tensor::f_from_slice(&self.values)?.f_view(shape)?.f_to_kind(kind)?)
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
        Seen::Parts(parts) => return in_parts(at, parts, q_nlh, k_1ksh, v_1ksh),
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
    }
    .squeeze_dim(0)
}

/// Attention by [`Seen::Parts`]. Not differentiable: the sums of exponentials carry no gradient.
fn in_parts(
    at: &Attend<'_>,
    parts: &[Part],
    q_nlh: &Tensor,
    k_1ksh: &Tensor,
    v_1ksh: &Tensor,
) -> Tensor {
    let flash = |q: &Tensor, k: &Tensor, v: &Tensor, causal: bool, mask: Option<&Tensor>| {
        Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, mask, at.scale,
        )
    };
    let [_, k, s, h] = k_1ksh.size()[..] else { unreachable!("keys have four axes") };
    let [n, l, _] = q_nlh.size()[..] else { unreachable!("queries have three axes") };
    let (g, past) = (n / k, s - l);

    let q_1nlh = q_nlh.unsqueeze(0);
    let own = parts.iter().map(|part| {
        let (begin, len) = (part.tokens.start as i64, part.tokens.len() as i64);
        let (own, lse) = flash(
            &q_1nlh.narrow(2, begin, len),
            &k_1ksh.narrow(2, past + begin, len),
            &v_1ksh.narrow(2, past + begin, len),
            part.mask.is_none(),
            part.mask.as_ref(),
        );
        // The kernel lays heads out behind tokens; kept so, the result needs no copy later.
        (own.squeeze_dim(0).transpose(0, 1), lse.squeeze_dim(0).transpose(0, 1))
    });
    let (mut own_lnh, lses): (Vec<_>, Vec<_>) = own.unzip();
    let (own_lnh, lse_ln) = match own_lnh.len() {
        1 => (own_lnh.remove(0), lses[0].shallow_clone()),
        _ => (Tensor::cat(&own_lnh, 0), Tensor::cat(&lses, 0)),
    };

    if past == 0 {
        return own_lnh.transpose(0, 1);
    }

    let (path, path_lse) = flash(
        &q_nlh.contiguous().view([1, k, g * l, h]),
        &k_1ksh.narrow(2, 0, past),
        &v_1ksh.narrow(2, 0, past),
        false,
        None,
    );
    let path_lkgh = path.view([k, g, l, h]).permute([2, 0, 1, 3]);
    let path_lse_lkg = path_lse.view([k, g, l]).permute([2, 0, 1]);
    let share_lkg = (path_lse_lkg - lse_ln.view([l, k, g])).sigmoid_().to_kind(own_lnh.kind());
    let _ = own_lnh.view([l, k, g, h]).lerp_tensor_(&path_lkgh, &share_lkg.unsqueeze(-1));
    own_lnh.transpose(0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_see_nothing_of_each_other_are_parts() {
        // Two roots; the second forks; a third run is a chain again.
        let parents = [None, Some(0), None, Some(2), Some(2), Some(3), None];
        let parts = parts(&parents, Kind::Float).unwrap();
        let ranges: Vec<_> = parts.iter().map(|part| part.tokens.clone()).collect();
        assert_eq!(ranges, [0..2, 2..6, 6..7]);
        assert!(parts[0].mask.is_none() && parts[2].mask.is_none());
        let mask = parts[1].mask.as_ref().unwrap();
        let seen: Vec<bool> =
            Vec::<f32>::try_from(mask.reshape([-1])).unwrap().iter().map(|&v| v == 0.0).collect();
        let expected = [
            [true, false, false, false],
            [true, true, false, false],
            [true, false, true, false],
            [true, true, false, true],
        ];
        assert_eq!(seen, expected.concat());
    }

    #[test]
    fn roots_that_interleave_are_one_part() {
        let parents = [None, None, Some(0), Some(1)];
        let parts = parts(&parents, Kind::Float).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].tokens, 0..4);
    }

    #[test]
    fn attention_in_parts_is_attention_under_one_mask() {
        tch::manual_seed(1);
        let _no_grad = tch::no_grad_guard();
        let parents = [None, Some(0), None, Some(2), Some(2), Some(3), None];
        for (n, k, past) in [(4, 4, 0), (4, 4, 1), (6, 2, 9), (3, 1, 700)] {
            let (l, h, past) = (parents.len() as i64, 8, past as usize);
            let positions: Vec<usize> = parents.iter().fold(Vec::new(), |mut all, parent| {
                all.push(parent.map_or(past, |p: usize| all[p] + 1));
                all
            });
            let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
            // As the decoder makes them: heads before tokens, as a view.
            let q_nlh = random(&[l, n, h]).transpose(0, 1);
            let s = past as i64 + l;
            let (k_1ksh, v_1ksh) = (random(&[1, k, s, h]), random(&[1, k, s, h]));
            let place = (Kind::Float, Device::Cpu);
            let apart = Visible::new(&parents, &positions, past, None, place).unwrap();
            assert!(matches!(apart.seen, Seen::Parts(_)));
            // A window that reaches over everything gives the mask.
            let masked = Visible::new(&parents, &positions, past, Some(10_000), place).unwrap();
            let result = |visible: &Visible| {
                let at = Attend { layer: 0, visible, scale: 0.3, grouped: n != k };
                attend(&at, &q_nlh, &k_1ksh, &v_1ksh)
            };
            let difference = (result(&apart) - result(&masked)).abs().max().double_value(&[]);
            assert!(difference < 1e-5, "{n} heads, {k} key heads, path {past}: {difference:e}");
        }
    }
}
