//! Attention on the CPU over what each token sees and little else.
//!
//! A pass holds many continuations of one path. One mask over everything is simple, but most of it
//! says "all of the path" and most of the rest says "nothing". What a tree of tokens sees is a few
//! rectangles instead ([`super::cut`]), each a slice.
//!
//! Every piece is attended to for itself and the results are merged by the logarithms of their sums of
//! exponentials (as in flash-decoding and cascade attention): exact, and keys and values are not copied. Small trees
//! stay one piece under a mask; a call and its merging cost as much as many pairs.
//!
//! In a sliding window a rectangle loses the keys that no query sees, and has a mask only where some
//! queries see what others do not.
//!
//! Legend of tensor suffixes: 1 batch of one, L query length, S key length, N heads, K key and value
//! heads, G query heads per key head, H head size.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::cut::Cut;
use super::masks::{Mask, Part};
use crate::error::Result;

/// Pairs of a query and a key that must be saved for each more call. In f32 and passes of 512 tokens it
/// makes no difference that can be measured whether it is 4,096 or 65,536, and little whether anything is
/// cut; the larger a pass, the more there is to save.
const PAIRS_OF_A_CALL: usize = 16_384;

/// Everything the queries of a pass see.
#[derive(Debug)]
pub(super) struct Pieces {
    /// What tokens see within their own run or small tree; each token is a query of one of them.
    own: Vec<Part>,
    /// What whole subtrees see of the path and of the runs that they descend from.
    shared: Vec<Rectangle>,
}

/// Queries that see keys before their own.
#[derive(Debug)]
struct Rectangle {
    /// New tokens.
    queries: Range<usize>,
    /// Cache slots.
    keys: Range<usize>,
    /// `[L, S]`; `None`: all see all.
    mask: Option<Tensor>,
    /// `[L, 1, 1]`, true for queries that see none of the keys.
    blind: Option<Tensor>,
}

/// What a pass is about.
struct Tokens<'a> {
    parents: &'a [Option<usize>],
    positions: &'a [usize],
    past: usize,
    window: Option<usize>,
    kind: Kind,
    pairs_of_a_call: usize,
}

impl Pieces {
    /// Returns what new tokens see behind a path of `past` tokens within `window` positions.
    pub(super) fn new(
        parents: &[Option<usize>],
        positions: &[usize],
        past: usize,
        window: Option<usize>,
        kind: Kind,
    ) -> Result<Self> {
        Self::cut(&Tokens {
            parents,
            positions,
            past,
            window,
            kind,
            pairs_of_a_call: PAIRS_OF_A_CALL,
        })
    }

    /// As [`Pieces::new`], cut as often as can be.
    #[cfg(test)]
    pub(super) fn cut_all(
        parents: &[Option<usize>],
        positions: &[usize],
        past: usize,
        window: Option<usize>,
    ) -> Result<Self> {
        let (kind, pairs_of_a_call) = (Kind::Float, 0);
        Self::cut(&Tokens { parents, positions, past, window, kind, pairs_of_a_call })
    }

    fn cut(tokens: &Tokens<'_>) -> Result<Self> {
        let &Tokens { parents, past, .. } = tokens;
        let cut = Cut::new(parents, &|branch| {
            let (head, num_below) = (branch.head.len(), branch.num_below());
            let all = head + num_below;
            let squares: usize = branch.below.iter().map(|part| part.len().pow(2)).sum();
            let apart = head * all + squares;
            all.pow(2) > apart + (1 + branch.below.len()) * tokens.pairs_of_a_call
        });
        let mut pieces = Self { own: Vec::new(), shared: Vec::new() };
        for own in cut.own {
            tokens.own(own.tokens, own.is_chain, &mut pieces)?;
        }
        for shared in cut.shared {
            let slots = past + shared.keys.start..past + shared.keys.end;
            let first = tokens.positions[shared.keys.start];
            pieces.shared.extend(tokens.rectangle(shared.queries, slots, first)?);
        }
        if past > 0 {
            pieces.shared.extend(tokens.rectangle(0..parents.len(), 0..past, 0)?);
        }
        Ok(pieces)
    }

    /// Returns the same on another device of the same kind.
    pub(super) fn on(&self, device: Device) -> Result<Self> {
        let moved = |tensor: &Option<Tensor>| {
            tensor.as_ref().map(|tensor| tensor.f_to_device(device)).transpose()
        };
        let own = self.own.iter().map(|part| part.on(device)).collect::<Result<_>>()?;
        let shared = self.shared.iter().map(|Rectangle { queries, keys, mask, blind }| {
            let (queries, keys) = (queries.clone(), keys.clone());
            Ok(Rectangle { queries, keys, mask: moved(mask)?, blind: moved(blind)? })
        });
        Ok(Self { own, shared: shared.collect::<Result<_>>()? })
    }

    /// Returns attention of the pass over the cache, scores multiplied by `scale`.
    ///
    /// # Shapes
    /// Queries and result `[N, L, H]`, keys and values `[1, K, S, H]`: the path's and the new tokens'.
    pub(super) fn attend(
        &self,
        scale: f64,
        q_nlh: &Tensor,
        k_1ksh: &Tensor,
        v_1ksh: &Tensor,
    ) -> Tensor {
        let [_, k, s, _] = k_1ksh.size()[..] else { unreachable!("keys have four axes") };
        let [n, l, h] = q_nlh.size()[..] else { unreachable!("queries have three axes") };
        let (past, g) = (s - l, n / k);
        let q_1nlh = q_nlh.unsqueeze(0);
        let own = self.own.iter().map(|part| {
            let (begin, len) = (part.tokens.start as i64, part.tokens.len() as i64);
            let (own, lse) = flash(
                &q_1nlh.narrow(2, begin, len),
                &k_1ksh.narrow(2, past + begin, len),
                &v_1ksh.narrow(2, past + begin, len),
                (part.mask.is_none(), part.mask.as_ref()),
                scale,
            );
            // The kernel lays heads out behind tokens; kept so, the result needs no copy later.
            (own.squeeze_dim(0).transpose(0, 1), lse.squeeze_dim(0).transpose(0, 1))
        });
        let (mut own_lnh, mut lses): (Vec<_>, Vec<_>) = own.unzip();
        let (own_lnh, lse_ln) = match own_lnh.len() {
            1 => (own_lnh.remove(0), lses.remove(0)),
            _ => (Tensor::cat(&own_lnh, 0), Tensor::cat(&lses, 0)),
        };
        if self.shared.is_empty() {
            return own_lnh.transpose(0, 1);
        }
        let kind = own_lnh.kind();
        // Several roundings to half precision would add up.
        let merged_lnh = if self.shared.len() > 1 { own_lnh.to_kind(Kind::Float) } else { own_lnh };
        let (merged_lkgh, lse_lkg) = (merged_lnh.view([l, k, g, h]), lse_ln.reshape([l, k, g]));
        for (number, piece) in self.shared.iter().enumerate() {
            let (seen_lkgh, seen_lse_lkg) = piece.attend(scale, q_nlh, (k_1ksh, v_1ksh), [k, g]);
            let (begin, len) = (piece.queries.start as i64, piece.queries.len() as i64);
            let mut held_lkg = lse_lkg.narrow(0, begin, len);
            let share_lkg = (&seen_lse_lkg - &held_lkg).sigmoid_().to_kind(merged_lkgh.kind());
            let _ = merged_lkgh
                .narrow(0, begin, len)
                .lerp_tensor_(&seen_lkgh.to_kind(merged_lkgh.kind()), &share_lkg.unsqueeze(-1));
            if number + 1 < self.shared.len() {
                held_lkg.copy_(&held_lkg.logaddexp(&seen_lse_lkg));
            }
        }
        merged_lnh.to_kind(kind).transpose(0, 1)
    }

    /// Returns the pairs of a query and a key that are computed.
    #[cfg(test)]
    fn num_pairs(&self) -> usize {
        let own = |part: &Part| part.tokens.len().pow(2);
        let shared = |piece: &Rectangle| piece.queries.len() * piece.keys.len();
        self.own.iter().map(own).sum::<usize>() + self.shared.iter().map(shared).sum::<usize>()
    }
}

impl Rectangle {
    /// Returns the attention of its queries over its keys, `[L, K, G, H]`, and the logarithms of the
    /// sums of exponentials, `[L, K, G]`, as views.
    fn attend(
        &self,
        scale: f64,
        q_nlh: &Tensor,
        (k_1ksh, v_1ksh): (&Tensor, &Tensor),
        [k, g]: [i64; 2],
    ) -> (Tensor, Tensor) {
        let (begin, l, h) = (self.queries.start as i64, self.queries.len() as i64, q_nlh.size()[2]);
        let (first, s) = (self.keys.start as i64, self.keys.len() as i64);
        let q_nlh = q_nlh.narrow(1, begin, l);
        let keys = k_1ksh.narrow(2, first, s);
        let values = v_1ksh.narrow(2, first, s);
        // Without a mask all query heads of a key head are the rows of one product.
        let rows = match &self.mask {
            Some(_) => q_nlh.unsqueeze(0),
            None => q_nlh.contiguous().view([1, k, g * l, h]),
        };
        let (seen, lse) = flash(&rows, &keys, &values, (false, self.mask.as_ref()), scale);
        let (seen_kglh, lse_kgl) = (seen.view([k, g, l, h]), lse.view([k, g, l]));
        let lse_lkg = lse_kgl.permute([2, 0, 1]);
        let lse_lkg = match &self.blind {
            Some(blind_l11) => lse_lkg.masked_fill(blind_l11, f64::NEG_INFINITY),
            None => lse_lkg,
        };
        (seen_kglh.permute([2, 0, 1, 3]), lse_lkg)
    }
}

impl Tokens<'_> {
    /// Adds a run under a causal mask, or one of its own.
    fn own(&self, run: Range<usize>, is_chain: bool, pieces: &mut Pieces) -> Result<()> {
        let is_long = self.window.is_some_and(|window| run.len() > window);
        let mask = match is_chain && !is_long {
            true => None,
            false => {
                let mut mask = Mask::new(run.len(), run.len());
                for i in run.clone() {
                    let from = self.oldest(self.positions[i]);
                    let mut ancestor = Some(i);
                    while let Some(a) =
                        ancestor.filter(|a| run.contains(a) && self.positions[*a] >= from)
                    {
                        mask.row(i - run.start)[a - run.start] = 0.0;
                        ancestor = self.parents[a];
                    }
                }
                Some(mask.tensor(self.kind)?)
            }
        };
        pieces.own.push(Part { tokens: run, mask });
        Ok(())
    }

    /// What `queries` see of `keys`, which follow each other from position `first` on; `None` for
    /// nothing.
    fn rectangle(
        &self,
        queries: Range<usize>,
        keys: Range<usize>,
        first: usize,
    ) -> Result<Option<Rectangle>> {
        let oldest = || self.positions[queries.clone()].iter().map(|&p| self.oldest(p));
        let (least, most) = (oldest().min().unwrap_or(0), oldest().max().unwrap_or(0));
        let past_last = first + keys.len();
        if least >= past_last {
            return Ok(None);
        }
        let unseen = least.saturating_sub(first);
        let (keys, first) = (keys.start + unseen..keys.end, first + unseen);
        if most <= first {
            return Ok(Some(Rectangle { queries, keys, mask: None, blind: None }));
        }
        let mut mask = Mask::new(queries.len(), keys.len());
        let mut blind = Vec::with_capacity(queries.len());
        for (row, oldest) in oldest().enumerate() {
            blind.push(oldest >= past_last);
            // A row without any key has no softmax; what comes out for it counts nothing.
            let from = if oldest >= past_last { 0 } else { oldest.saturating_sub(first) };
            mask.row(row)[from..].fill(0.0);
        }
        let mask = Some(mask.tensor(self.kind)?);
        let blind = match blind.contains(&true) {
            true => Some(Tensor::f_from_slice(&blind)?.f_view([-1, 1, 1])?),
            false => None,
        };
        Ok(Some(Rectangle { queries, keys, mask, blind }))
    }

    /// The first position that a token at `position` sees.
    fn oldest(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

fn flash(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    (causal, mask): (bool, Option<&Tensor>),
    scale: f64,
) -> (Tensor, Tensor) {
    Tensor::internal_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, mask, scale)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Runs of random lengths that fork at random places, depth first.
    fn grow(parents: &mut Vec<Option<usize>>, root: Option<usize>, depth: u32, rng: &mut StdRng) {
        let mut parent = root;
        for _ in 0..rng.random_range(1..120) {
            parents.push(parent);
            parent = Some(parents.len() - 1);
        }
        if depth > 0 {
            for _ in 0..rng.random_range(0..4) {
                grow(parents, parent, depth - 1, rng);
            }
        }
    }

    #[test]
    fn large_trees_are_cut() {
        let mut rng = StdRng::seed_from_u64(3);
        let (mut num_cut, mut pairs, mut square) = (0, 0, 0);
        for round in 0..24 {
            let mut parents = Vec::new();
            for _ in 0..1 + round % 2 {
                grow(&mut parents, None, 3, &mut rng);
            }
            let past = [0, 40, 300][round % 3];
            let positions = parents.iter().fold(Vec::new(), |mut all: Vec<usize>, parent| {
                all.push(parent.map_or(past, |parent: usize| all[parent] + 1));
                all
            });
            let window = [None, Some(30), Some(200)][round / 3 % 3];
            let (kind, pairs_of_a_call) = (Kind::Float, 4096);
            let (parents, positions) = (&parents, &positions);
            let tokens = Tokens { parents, positions, past, window, kind, pairs_of_a_call };
            let pieces = Pieces::cut(&tokens).unwrap();
            num_cut += usize::from(pieces.shared.len() > 1);
            pairs += pieces.num_pairs();
            square += parents.len() * (past + parents.len());
        }
        assert!(num_cut > 8 && 2 * pairs < square, "{num_cut} cut, {pairs} of {square} pairs");
    }
}
