//! Keys and values of earlier tokens, one pair of buffers a layer: of one path that is continued by
//! a tree of tokens ([`KvCache`]), or of many sequences that grow side by side ([`BatchCache`]).
//!
//! Legend of tensor suffixes: B sequences, L query length, S key length, N heads, K key and value
//! heads, H head size.

use tch::{Device, Kind, Tensor};

use super::attention::{self, Attend, Planned, Seen, Visible};
use super::calls;
use super::config::LmConfig;
use super::inputs::Inputs;
use super::kernel::Kernel;
use super::native::copied;
use super::varlen::PlacedCalls;

/// Earlier keys and values that new tokens attend to.
pub(super) trait KeyValues {
    /// Stores the new tokens' keys and values and returns their attention output.
    ///
    /// # Shapes
    /// Queries and result `[N, L, H]`, keys and values `[K, L, H]`.
    fn attend(&self, at: &Attend<'_>, q_nlh: &Tensor, k_klh: &Tensor, v_klh: &Tensor) -> Tensor;
}

/// Keys and values of the tokens run so far, as a stack: a forward pass appends its tokens, and
/// [`KvCache::truncate`] takes tokens off again when a search turns back.
///
/// # Shapes
/// Each buffer is `[1, K, capacity, H]`; the first `len` slots along the third axis are filled, and
/// on the path slot equals position. In memory heads stand before slots for the kernels of the CPU, and
/// behind them for those that take calls, which read and gather keys slot by slot.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
    capacity: usize,
    num_kv_heads: i64,
    head_dim: i64,
    kind: Kind,
    kernel: Kernel,
}

/// Returns a buffer of keys or values, `[B, K, capacity, H]`, made by `make` in the order that the kernel
/// reads it in.
fn buffer(
    kernel: Kernel,
    [num, kv_heads, capacity, head_dim]: [i64; 4],
    make: impl Fn([i64; 4]) -> Tensor,
) -> Tensor {
    match kernel.takes_calls() {
        true => make([num, capacity, kv_heads, head_dim]).transpose(1, 2),
        false => make([num, kv_heads, capacity, head_dim]),
    }
}

impl KvCache {
    /// Returns an empty cache for a model whose layers lie on `devices`; it holds no memory until it
    /// is used.
    pub(super) fn new(
        config: &LmConfig,
        devices: impl Iterator<Item = Device>,
        kind: Kind,
        kernel: Kernel,
    ) -> Self {
        let empty = |device| Tensor::zeros([1, 0, 0, 0], (kind, device));
        Self {
            layers: devices.map(|device| (empty(device), empty(device))).collect(),
            len: 0,
            capacity: 0,
            num_kv_heads: config.num_key_value_heads as i64,
            head_dim: config.head_dim as i64,
            kind,
            kernel,
        }
    }

    /// Returns how many tokens are held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all tokens after the first `len`.
    ///
    /// # Panics
    /// When `len` is more than are held, which is a bug of the caller.
    pub fn truncate(&mut self, len: usize) {
        assert!(len <= self.len, "cannot truncate {} tokens to {len}", self.len);
        self.len = len;
    }

    /// Makes room for `extra` tokens more, keeping those held.
    pub(super) fn reserve(&mut self, extra: usize) {
        let need = self.len + extra;
        if need <= self.capacity {
            return;
        }
        // Half as much again, so that a path that grows token by token is not copied every time.
        let capacity = need.max(self.capacity + self.capacity / 2).next_multiple_of(64);
        let shape = [1, self.num_kv_heads, capacity as i64, self.head_dim];
        let len = self.len as i64;
        for pair in &mut self.layers {
            let grow = |old: &Tensor| {
                let new = buffer(self.kernel, shape, |shape| {
                    Tensor::empty(shape, (self.kind, old.device()))
                });
                if len > 0 {
                    new.narrow(2, 0, len).copy_(&old.narrow(2, 0, len));
                }
                new
            };
            *pair = (grow(&pair.0), grow(&pair.1));
        }
        self.capacity = capacity;
    }

    /// Counts the tokens of a finished forward pass as held.
    pub(super) fn advance(&mut self, num_new: usize) {
        self.len += num_new;
        debug_assert!(self.len <= self.capacity);
    }
}

impl KeyValues for KvCache {
    fn attend(&self, at: &Attend<'_>, q_nlh: &Tensor, k_klh: &Tensor, v_klh: &Tensor) -> Tensor {
        let (keys, values) = &self.layers[at.layer];
        let (len, num_new) = (self.len as i64, k_klh.size()[1]);
        let first = at.visible.first as i64;
        let put = |buffer: &Tensor, new: &Tensor| {
            buffer.narrow(2, len, num_new).copy_(&new.unsqueeze(0));
            buffer.narrow(2, first, len + num_new - first)
        };
        let (k_1ksh, v_1ksh) = (put(keys, k_klh), put(values, v_klh));
        attention::attend(at, q_nlh, &k_1ksh, &v_1ksh)
    }
}

/// Keys and values of many sequences that grow by one token each, in step.
///
/// Sequences end at the same slot: shorter ones begin later, and what lies before their beginning is
/// masked.
///
/// # Shapes
/// Each buffer is `[B, K, capacity, H]`.
#[derive(Debug)]
pub struct BatchCache {
    layers: Vec<(Tensor, Tensor)>,
    /// First slot of each sequence.
    begins: Vec<usize>,
    len: usize,
    capacity: usize,
    kernel: Kernel,
}

impl BatchCache {
    /// Returns room for sequences of the given prompt lengths, to be filled by
    /// [`BatchCache::fill`], and `num_new` tokens more of each.
    pub fn new(like: &KvCache, prompt_lens: &[usize], num_new: usize) -> Self {
        let len = prompt_lens.iter().copied().max().unwrap_or(0);
        let capacity = len + num_new;
        let shape = [prompt_lens.len() as i64, like.num_kv_heads, capacity as i64, like.head_dim];
        // Zeros, because masked slots are multiplied by zero and must not be NaN.
        let zeros = |of: &Tensor| {
            buffer(like.kernel, shape, |shape| Tensor::zeros(shape, (like.kind, of.device())))
        };
        Self {
            layers: like.layers.iter().map(|(k, v)| (zeros(k), zeros(v))).collect(),
            begins: prompt_lens.iter().map(|prompt| len - prompt).collect(),
            len,
            capacity,
            kernel: like.kernel,
        }
    }

    /// Copies the prompt of sequence `index`, which lies in `slots` of `from`, to its place.
    pub fn fill(&self, index: usize, from: &KvCache, slots: &[usize]) {
        let (begin, num) = (self.begins[index] as i64, slots.len() as i64);
        let slots: Vec<i64> = slots.iter().map(|&slot| slot as i64).collect();
        let mut slots = Tensor::from_slice(&slots);
        for (to, held) in self.layers.iter().zip(&from.layers) {
            // Moves where the layers of another device begin.
            slots = moved(slots, held.0.device());
            for (to, held) in [(&to.0, &held.0), (&to.1, &held.1)] {
                to.narrow(0, index as i64, 1)
                    .narrow(2, begin, num)
                    .copy_(&held.index_select(2, &slots));
            }
        }
    }

    /// Keeps the sequences at `indices` and forgets the others.
    pub fn select(&mut self, indices: &[usize]) {
        let rows: Vec<i64> = indices.iter().map(|&i| i as i64).collect();
        let mut rows = Tensor::from_slice(&rows);
        for pair in &mut self.layers {
            rows = moved(rows, pair.0.device());
            let kept = |all: &Tensor| match self.kernel.takes_calls() {
                // The order in memory stays.
                true => all.transpose(1, 2).index_select(0, &rows).transpose(1, 2),
                false => all.index_select(0, &rows),
            };
            *pair = (kept(&pair.0), kept(&pair.1));
        }
        self.begins = indices.iter().map(|&i| self.begins[i]).collect();
    }

    /// Returns the position of each sequence's next token.
    pub(super) fn positions(&self) -> Vec<usize> {
        self.begins.iter().map(|begin| self.len - begin).collect()
    }

    /// Returns what the next tokens see within `window` positions.
    pub(super) fn visible(
        &self,
        window: Option<usize>,
        kind: Kind,
        inputs: &mut Inputs,
    ) -> Planned {
        let end = self.len + 1;
        let froms: Vec<usize> = self
            .begins
            .iter()
            .map(|&begin| window.map_or(begin, |w| begin.max(end.saturating_sub(w))))
            .collect();
        if self.kernel.takes_calls() {
            let call = calls::of_batch(&froms, end, self.capacity);
            return Planned::Calls(PlacedCalls::new(vec![call], inputs), self.kernel);
        }
        let first = froms.iter().copied().min().unwrap_or(0);
        if froms.iter().all(|&from| from == first) {
            return Planned::Here(Visible { first, seen: Seen::All });
        }
        let width = end - first;
        let mut mask = vec![0.0_f32; froms.len() * width];
        for (row, from) in mask.chunks_mut(width).zip(&froms) {
            row[..from - first].fill(f32::NEG_INFINITY);
        }
        let mask_b11s =
            Tensor::from_slice(&mask).view([froms.len() as i64, 1, 1, width as i64]).to_kind(kind);
        Planned::Here(Visible { first, seen: Seen::Mask(mask_b11s) })
    }

    /// Counts the tokens of a finished step as held.
    pub(super) fn advance(&mut self) {
        self.len += 1;
        debug_assert!(self.len <= self.capacity);
    }

    /// Returns how many tokens more there is room for.
    pub fn room(&self) -> usize {
        self.capacity - self.len
    }
}

/// Moves numbers of the CPU to the device where they are needed, unless they are there; nothing waits.
fn moved(numbers: Tensor, device: Device) -> Tensor {
    match (numbers.device() == device, numbers.device()) {
        (true, _) => numbers,
        (false, Device::Cpu) => copied(&numbers, device).unwrap_or_else(|error| panic!("{error}")),
        (false, _) => numbers.to_device(device),
    }
}

impl KeyValues for BatchCache {
    fn attend(&self, at: &Attend<'_>, q_nlh: &Tensor, k_klh: &Tensor, v_klh: &Tensor) -> Tensor {
        let (keys, values) = &self.layers[at.layer];
        let (len, first) = (self.len as i64, at.visible.first as i64);
        let by_sequence = |x_nlh: &Tensor| x_nlh.transpose(0, 1).unsqueeze(2);
        let put = |buffer: &Tensor, new: &Tensor| {
            buffer.narrow(2, len, 1).copy_(&by_sequence(new));
            buffer.narrow(2, first, len + 1 - first)
        };
        let (k_bksh, v_bksh) = (put(keys, k_klh), put(values, v_klh));
        if let Seen::Calls(calls) = &at.visible.seen {
            // All slots of all sequences, one behind the other.
            let [k_skh, v_skh] = [keys, values].map(|all| all.transpose(1, 2).flatten(0, 1));
            let q_bnh = q_nlh.transpose(0, 1);
            return calls.attend(at.scale, &q_bnh, &k_skh, &v_skh).transpose(0, 1);
        }
        let mask = match &at.visible.seen {
            Seen::Mask(mask) => Some(mask),
            _ => None,
        };
        let q_bn1h = by_sequence(q_nlh);
        Tensor::scaled_dot_product_attention(
            &q_bn1h, &k_bksh, &v_bksh, mask, 0.0, false, at.scale, at.grouped,
        )
        .squeeze_dim(2)
        .transpose(0, 1)
    }
}
