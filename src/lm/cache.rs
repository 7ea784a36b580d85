//! The keys and values of the path that is being continued, one pair of buffers a layer.

use tch::{Device, Kind, Tensor};

use super::config::LmConfig;

/// Keys and values of the tokens run so far, as a stack: a forward pass appends its tokens, and
/// [`KvCache::truncate`] takes tokens off again when a search turns back.
///
/// # Shapes
/// Each buffer is `[1, K, capacity, H]`; the first `len` slots along the third axis are filled, and
/// on the path slot equals position.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    len: usize,
    capacity: usize,
    num_kv_heads: i64,
    head_dim: i64,
    device: Device,
    kind: Kind,
}

impl KvCache {
    /// Returns an empty cache for a model; it holds no memory until it is used.
    pub fn new(config: &LmConfig, device: Device, kind: Kind) -> Self {
        let empty = || Tensor::zeros([1, 0, 0, 0], (kind, device));
        Self {
            layers: config.layers.iter().map(|_| (empty(), empty())).collect(),
            len: 0,
            capacity: 0,
            num_kv_heads: config.num_key_value_heads as i64,
            head_dim: config.head_dim as i64,
            device,
            kind,
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
                let new = Tensor::empty(shape, (self.kind, self.device));
                if len > 0 {
                    new.narrow(2, 0, len).copy_(&old.narrow(2, 0, len));
                }
                new
            };
            *pair = (grow(&pair.0), grow(&pair.1));
        }
        self.capacity = capacity;
    }

    /// Writes `k_knlh` and `v_knlh` (`[1, K, L, H]`) behind the held tokens of one layer and returns
    /// keys and values from slot `first` to the end of the new tokens, without copying.
    pub(super) fn append(
        &self,
        layer: usize,
        k_1klh: &Tensor,
        v_1klh: &Tensor,
        first: usize,
    ) -> (Tensor, Tensor) {
        let (keys, values) = &self.layers[layer];
        let num_new = k_1klh.size()[2];
        let len = self.len as i64;
        keys.narrow(2, len, num_new).copy_(k_1klh);
        values.narrow(2, len, num_new).copy_(v_1klh);
        let first = first as i64;
        let num = len + num_new - first;
        (keys.narrow(2, first, num), values.narrow(2, first, num))
    }

    /// Counts the tokens of a finished forward pass as held.
    pub(super) fn advance(&mut self, num_new: usize) {
        self.len += num_new;
        debug_assert!(self.len <= self.capacity);
    }
}
