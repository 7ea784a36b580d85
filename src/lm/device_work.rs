//! What scoring passes do on a GPU, counted from their plans: launches, copies, memory, operations.
//!
//! The calls of attention are those that a pass would make ([`super::calls`]); what stands round them is
//! counted layer by layer as [`super::layers`] runs it in half precision. Beside it stands the same pass
//! under one mask over everything, which is what a decoder without such calls gives libtorch. Nothing is
//! run, and no GPU is needed; seconds follow from rates that are named.

use serde::Serialize;
use tch::Kind;

use super::calls::{Call, Keys, Tree, worth_a_call};
use super::config::LmConfig;
use super::native::LARGE_COPY;

/// How attention is told what is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// By calls for sequences of various lengths.
    Calls,
    /// By one mask, computed by products in f32: what libtorch has for a mask with grouped heads.
    MaskInProducts,
    /// By one mask, computed by cuDNN, which plans anew for every shape.
    MaskByCudnn,
}

/// A pass: tokens behind a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassPlan {
    /// Tokens of the path.
    pub past: usize,
    /// The parent of each token among the pass's.
    pub parents: Vec<Option<usize>>,
    /// Places that are asked about.
    pub num_rows: usize,
}

/// Work on a GPU, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct DeviceWork {
    /// Forward passes.
    pub num_passes: u64,
    /// Tokens of these.
    pub num_tokens: u64,
    /// Kernels that are launched.
    pub num_launches: u64,
    /// Copies between host and device.
    pub num_host_copies: u64,
    /// Bytes of these.
    pub host_copy_bytes: u64,
    /// Copies of more than 64 KiB.
    pub num_large_host_copies: u64,
    /// Times the host waits for the device, or the device for the host.
    pub num_waits: u64,
    /// Numbers of masks that are made on the host.
    pub mask_elements: u64,
    /// Kernels that are planned for a new shape.
    pub num_planned: u64,
    /// Floating-point operations of matrix products in the model's number type.
    pub product_operations: f64,
    /// Of attention, in the model's number type.
    pub attention_operations: f64,
    /// Of attention, in f32.
    pub f32_operations: f64,
    /// Bytes that kernels read and write.
    pub moved_bytes: f64,
    /// Most memory of a pass besides weights, keys and values.
    pub most_bytes: u64,
}

/// What a GPU and its host can do, by the second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DeviceRates {
    /// Operations of products.
    pub products: f64,
    /// Operations of attention.
    pub attention: f64,
    /// Operations in f32.
    pub f32_products: f64,
    /// Bytes of memory.
    pub memory: f64,
    /// Bytes from memory that is not pinned.
    pub host_copy: f64,
    /// Numbers of masks that one thread makes and casts.
    pub mask_elements: f64,
    /// Launches.
    pub launches: f64,
    /// Plans for new shapes.
    pub plans: f64,
}

impl DeviceRates {
    /// An H200: 70 % of its 989 TFLOP/s in bf16 for products and 40 % for attention, 70 % of its
    /// 67 TFLOP/s in f32, 80 % of its 4.8 TB/s. Masks as measured on one thread (44 million numbers in
    /// 185 ms, copy included), 5 us a launch, 40 ms a plan of cuDNN, the least that is reported.
    pub const H200: Self = Self {
        products: 0.7 * 989e12,
        attention: 0.4 * 989e12,
        f32_products: 0.7 * 67e12,
        memory: 0.8 * 4.8e12,
        host_copy: 10e9,
        mask_elements: 240e6,
        launches: 200e3,
        plans: 25.0,
    };
}

/// Queries and keys that FlashAttention takes at a time for heads of 128.
const TILE: (usize, usize) = (128, 64);

/// A kernel: its launches and the bytes it reads and writes.
struct Counter {
    work: DeviceWork,
}

impl Counter {
    fn launch(&mut self, num: u64, bytes: u64) {
        self.work.num_launches += num;
        self.work.moved_bytes += bytes as f64;
    }

    fn product(&mut self, rows: u64, num_in: u64, num_out: u64, element: u64) {
        self.launch(1, element * (rows * num_in + num_in * num_out + rows * num_out));
        self.work.product_operations += 2.0 * (rows * num_in * num_out) as f64;
    }

    fn copy(&mut self, bytes: u64, waits: bool) {
        self.work.num_host_copies += 1;
        self.work.host_copy_bytes += bytes;
        self.work.num_large_host_copies += u64::from(bytes > LARGE_COPY as u64);
        self.work.num_waits += u64::from(waits);
    }
}

/// Sizes of a model as numbers of elements.
struct Sizes {
    element: u64,
    width: u64,
    heads: u64,
    queries: u64,
    keys: u64,
    wide: u64,
    vocab: u64,
    layers: u64,
}

impl Sizes {
    fn of(config: &LmConfig, kind: Kind) -> Self {
        let [heads, kv_heads, head] =
            [config.num_attention_heads, config.num_key_value_heads, config.head_dim]
                .map(|num| num as u64);
        Self {
            element: kind.elt_size_in_bytes() as u64,
            width: config.hidden_size as u64,
            heads,
            queries: heads * head,
            keys: kv_heads * head,
            wide: config.intermediate_size as u64,
            vocab: config.vocab_size as u64,
            layers: config.layers.len() as u64,
        }
    }
}

impl DeviceWork {
    /// Returns the work of one tree's passes through a model of Llama's layers in half precision.
    pub fn of_tree(config: &LmConfig, kind: Kind, passes: &[PassPlan], seen: SeenBy) -> Self {
        let all = passes.iter().map(|pass| Self::of_pass(config, kind, pass, seen));
        let mut all = all.fold(Self::default(), Self::plus);
        if seen == SeenBy::Calls {
            // The log-probabilities of the tree are read once.
            let mut counter = Counter { work: all };
            counter.launch(1, 0);
            counter.copy(8 * passes.iter().map(|pass| pass.num_rows as u64).sum::<u64>(), true);
            all = counter.work;
        }
        all
    }

    /// Returns both together; of memory what the larger takes.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            num_passes: self.num_passes + other.num_passes,
            num_tokens: self.num_tokens + other.num_tokens,
            num_launches: self.num_launches + other.num_launches,
            num_host_copies: self.num_host_copies + other.num_host_copies,
            host_copy_bytes: self.host_copy_bytes + other.host_copy_bytes,
            num_large_host_copies: self.num_large_host_copies + other.num_large_host_copies,
            num_waits: self.num_waits + other.num_waits,
            mask_elements: self.mask_elements + other.mask_elements,
            num_planned: self.num_planned + other.num_planned,
            product_operations: self.product_operations + other.product_operations,
            attention_operations: self.attention_operations + other.attention_operations,
            f32_operations: self.f32_operations + other.f32_operations,
            moved_bytes: self.moved_bytes + other.moved_bytes,
            most_bytes: self.most_bytes.max(other.most_bytes),
        }
    }

    /// Returns the seconds that it takes at these rates: host and device at the same time, but for what
    /// one makes while the other waits.
    pub fn seconds(&self, rates: &DeviceRates) -> f64 {
        let device = self.product_operations / rates.products
            + self.attention_operations / rates.attention
            + self.f32_operations / rates.f32_products
            + self.moved_bytes / rates.memory;
        let launching = self.num_launches as f64 / rates.launches;
        let waiting = self.mask_elements as f64 / rates.mask_elements
            + self.num_planned as f64 / rates.plans
            + if self.mask_elements > 0 {
                self.host_copy_bytes as f64 / rates.host_copy
            } else {
                0.0
            };
        device.max(launching) + waiting
    }

    fn of_pass(config: &LmConfig, kind: Kind, pass: &PassPlan, seen: SeenBy) -> Self {
        let s = Sizes::of(config, kind);
        let len = pass.parents.len() as u64;
        let positions = pass.parents.iter().fold(Vec::new(), |mut all: Vec<usize>, parent| {
            all.push(parent.map_or(pass.past, |parent| all[parent] + 1));
            all
        });
        let tree = Tree { parents: &pass.parents, positions: &positions, past: pass.past };
        let calls = tree.calls(None, &worth_a_call);
        let mut counter = Counter { work: Self::default() };
        counter.work.num_passes = 1;
        counter.work.num_tokens = len;
        let rows = pass.num_rows as u64;
        match seen {
            SeenBy::Calls => {
                let numbers = calls.iter().map(numbers_of).sum::<u64>();
                let numbers = numbers + len + 2 * num_stretches(&positions) + 3 * rows;
                counter.copy(8 * numbers, false);
                // Bounds as i32; rows, slots and positions from their stretches.
                let num_made = calls.iter().map(|call| {
                    let slots = u64::from(matches!(call.keys, Keys::Slots(_)));
                    slots + u64::from(call.queries.is_some())
                });
                counter.launch(2 * calls.len() as u64 + 5 * (1 + num_made.sum::<u64>()), 0);
            }
            _ => {
                // Ids and positions, the mask, rows, targets and where they stand, and what is read.
                for numbers in [2 * len, len, 2 * rows, 2 * rows, 2 * rows, 2 * rows] {
                    counter.copy(4 * numbers, true);
                }
            }
        }
        // Embedding, angles.
        counter.launch(1, 2 * s.element * len * s.width);
        counter.launch(7, 16 * len * s.queries / s.heads);
        let attention = match seen {
            SeenBy::Calls => Counter::of_calls(&calls, len, &s),
            _ => counter.mask(pass, seen, &s),
        };
        let mut layer = Counter { work: Self::default() };
        layer.norm(len, &s);
        layer.product(len, s.width, s.queries + 2 * s.keys, s.element);
        // Rotation in halves, keys and values into the cache.
        layer.launch(4, 5 * s.element * len * (s.queries + s.keys));
        layer.launch(2, 4 * s.element * len * s.keys);
        layer.product(len, s.queries, s.width, s.element);
        layer.launch(1, 3 * s.element * len * s.width);
        layer.norm(len, &s);
        layer.product(len, s.width, 2 * s.wide, s.element);
        layer.launch(2, 5 * s.element * len * s.wide);
        layer.product(len, s.wide, s.width, s.element);
        layer.launch(1, 3 * s.element * len * s.width);
        for _ in 0..s.layers {
            counter.work = counter.work.plus(layer.work).plus(attention.work);
        }
        counter.norm(len, &s);
        if rows > 0 {
            counter.product(rows, s.width, s.vocab, s.element);
            // The largest logits again in f32, and the softmax.
            counter.launch(20, rows * s.vocab * (3 * s.element + 6 * 4) + 130 * rows * s.width * 4);
        }
        // Inputs, norm in f32, and the MLP's inside; attention's own when it is more.
        let block = len * (s.element * (4 * s.width + 3 * s.wide) + 4 * s.width);
        let logits = rows * s.vocab * (s.element + 8);
        let own = attention.work.most_bytes + len * s.element * (2 * s.width + 2 * s.queries);
        counter.work.most_bytes = block.max(own).max(logits);
        counter.work
    }
}

/// The numbers of a call that go to the device.
fn numbers_of(call: &Call) -> u64 {
    let slots = match &call.keys {
        Keys::Run { .. } => 0,
        Keys::Slots(slots) => 2 * num_stretches(slots),
    };
    let queries = call.queries.as_ref().map_or(0, |queries| 2 * num_stretches(queries));
    slots + queries + 2 * call.query_bounds.len() as u64
}

/// Stretches of numbers that are each one more than the one before.
fn num_stretches(numbers: &[usize]) -> u64 {
    let breaks = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    (breaks + usize::from(!numbers.is_empty())) as u64
}

/// Pairs of queries and keys that a call computes, in tiles.
fn pairs_of(call: &Call) -> u64 {
    let ends = call.query_bounds.windows(2).zip(call.key_bounds.windows(2));
    ends.map(|(queries, keys)| {
        let (num_queries, num_keys) = (queries[1] - queries[0], keys[1] - keys[0]);
        (0..num_queries)
            .step_by(TILE.0)
            .map(|first| {
                let last = (first + TILE.0).min(num_queries);
                let seen = match call.causal {
                    true => num_keys - num_queries + last,
                    false => num_keys,
                };
                (TILE.0 * seen.next_multiple_of(TILE.1)) as u64
            })
            .sum::<u64>()
    })
    .sum()
}

impl Counter {
    /// A norm in f32: a cast, the norm, a cast back, the weight.
    fn norm(&mut self, len: u64, s: &Sizes) {
        self.launch(4, (4 * s.element + 16) * len * s.width);
    }

    /// Attention of a layer by calls.
    fn of_calls(calls: &[Call], len: u64, s: &Sizes) -> Self {
        let mut counter = Self { work: DeviceWork::default() };
        let e = s.element;
        for (i, call) in calls.iter().enumerate() {
            let num_keys = call.keys.len() as u64;
            let num = call.queries.as_ref().map_or(len, |queries| queries.len() as u64);
            let gathers = matches!(call.keys, Keys::Slots(_));
            if gathers {
                counter.launch(2, 4 * e * num_keys * s.keys);
            }
            if call.queries.is_some() {
                counter.launch(1, 2 * e * num * s.queries);
            }
            counter.launch(1, e * (2 * num * s.queries + 2 * num_keys * s.keys));
            counter.work.attention_operations += 4.0 * (pairs_of(call) * s.queries) as f64;
            let gathered = if gathers { 2 * e * num_keys * s.keys } else { 0 };
            let merged = if calls.len() > 1 { 4 * (len + num) * s.queries } else { 0 };
            counter.work.most_bytes =
                counter.work.most_bytes.max(gathered + merged + e * num * s.queries);
            if i == 0 {
                continue;
            }
            // The share, the sums, the result in f32, and both together.
            counter.launch(5, (e + 4 + 12) * num * s.queries + 24 * num * s.heads);
            if call.queries.is_some() {
                counter.launch(4, 16 * num * s.queries);
            }
        }
        if calls.len() > 1 {
            counter.launch(2, 2 * (e + 4) * len * s.queries);
        }
        counter
    }

    /// Makes the mask of a pass and returns attention of a layer under it.
    fn mask(&mut self, pass: &PassPlan, seen: SeenBy, s: &Sizes) -> Self {
        let (len, e) = (pass.parents.len() as u64, s.element);
        let num_keys = pass.past as u64 + len;
        let mut counter = Self { work: DeviceWork::default() };
        let is_chain = pass.parents.iter().enumerate().all(|(i, p)| *p == i.checked_sub(1));
        let operations = 4.0 * (len * num_keys * s.queries) as f64;
        let read = e * (2 * len * s.queries + 2 * num_keys * s.keys);
        if len == 1 || (is_chain && pass.past == 0) {
            counter.launch(1, read);
            counter.work.attention_operations = operations / 2.0;
            return counter;
        }
        self.work.mask_elements += len * num_keys;
        self.copy(e * len * num_keys, true);
        if seen == SeenBy::MaskByCudnn {
            self.work.num_planned += 1;
            counter.launch(1, read + e * len * num_keys);
            counter.work.attention_operations = operations;
            counter.work.most_bytes = e * len * num_keys;
            return counter;
        }
        // Keys and values for every head and all in f32, scaled; scores, with the mask, their softmax.
        let scores = 4 * len * num_keys * s.heads;
        counter.launch(2, e * num_keys * (2 * s.keys + 2 * s.queries));
        counter.launch(5, (e + 12) * (len + 2 * num_keys) * s.queries);
        counter.launch(4, 6 * scores + e * len * num_keys);
        counter.launch(1, (4 + e) * len * s.queries);
        counter.work.f32_operations = operations;
        counter.work.most_bytes = 2 * scores + 2 * 4 * num_keys * s.queries + e * len * num_keys;
        counter
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config() -> LmConfig {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
        LmConfig::read(&folder.join("config.json")).unwrap()
    }

    #[test]
    fn a_chain_is_one_call_a_layer_and_one_copy_a_pass() {
        let (config, len) = (config(), 10);
        let parents = (0..len).map(|i: usize| i.checked_sub(1)).collect();
        let pass = PassPlan { past: 5, parents, num_rows: 2 };
        let work = DeviceWork::of_tree(&config, Kind::BFloat16, &[pass], SeenBy::Calls);
        // Ids, a stretch of positions, three numbers a row, two bounds of queries and of keys; the two
        // answers.
        assert_eq!((work.num_host_copies, work.host_copy_bytes), (2, 8 * (10 + 2 + 6 + 4) + 16));
        assert_eq!((work.num_large_host_copies, work.num_waits, work.mask_elements), (0, 1, 0));
        // One block of queries; its keys are a block.
        let heads = (config.num_attention_heads * config.head_dim * config.layers.len()) as f64;
        assert_eq!(work.attention_operations, 4.0 * 128.0 * 64.0 * heads);
        // By hand: q, k, v, o and the MLP for 10 tokens, the head for 2.
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let kv = config.num_key_value_heads * config.head_dim;
        let weights = d * (heads as usize / config.layers.len() + 2 * kv) + d * d + 3 * d * f;
        let products = 2 * (len * weights * config.layers.len() + 2 * d * config.vocab_size);
        assert_eq!(work.product_operations, products as f64);
    }

    #[test]
    fn a_mask_is_made_on_the_host_and_waited_for() {
        let pass = PassPlan { past: 100, parents: vec![None, None, Some(0)], num_rows: 1 };
        let of = |seen| {
            DeviceWork::of_tree(&config(), Kind::BFloat16, std::slice::from_ref(&pass), seen)
        };
        let mask = of(SeenBy::MaskInProducts);
        assert_eq!(mask.mask_elements, 3 * 103);
        assert_eq!((mask.num_host_copies, mask.num_waits), (7, 7));
        assert_eq!(of(SeenBy::MaskByCudnn).num_planned, 1);
        assert_eq!(of(SeenBy::Calls).num_planned, 0);
    }

    #[test]
    fn seconds_are_those_of_the_slower_of_both_and_of_waiting() {
        let rates = DeviceRates {
            products: 10.0,
            attention: 5.0,
            f32_products: 1.0,
            memory: 2.0,
            host_copy: 4.0,
            mask_elements: 3.0,
            launches: 2.0,
            plans: 1.0,
        };
        let work = DeviceWork {
            product_operations: 20.0,
            attention_operations: 5.0,
            moved_bytes: 4.0,
            num_launches: 2,
            host_copy_bytes: 8,
            ..DeviceWork::default()
        };
        assert_eq!(work.seconds(&rates), 5.0);
        assert_eq!(DeviceWork { num_launches: 20, ..work }.seconds(&rates), 10.0);
        assert_eq!(DeviceWork { mask_elements: 3, ..work }.seconds(&rates), 5.0 + 1.0 + 2.0);
    }
}
