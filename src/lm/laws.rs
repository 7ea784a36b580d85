//! Attention however it is cut and whatever kernel computes it is attention under one mask over
//! everything, which stands here only.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use tch::{Device, Kind, Tensor};

use super::attention::{Attend, How, Planned, Seen, Visible, attend};
use super::calls::{Call, Tree, worth_a_call};
use super::cut::Branch;
use super::inputs::Inputs;
use super::kernel::Kernel;
use super::pieces::Pieces;
use super::varlen::{PlacedCalls, Varlen};
use super::{
    BatchCache, Decoder, Derivatives, DeviceWork, NewTokens, Operations, PassPlan, Placement,
    SeenBy, Target, TrainTokens,
};

const PLACE: (Kind, Device) = (Kind::Float, Device::Cpu);
const SCALE: f64 = 0.3;
const HEAD: i64 = 8;

/// Parents, the path before them, and the window.
struct Case {
    parents: Vec<Option<usize>>,
    past: usize,
    window: Option<usize>,
    heads: [i64; 2],
}

impl Case {
    fn positions(&self) -> Vec<usize> {
        positions(&self.parents, self.past)
    }

    /// Queries, keys and values, heads behind tokens.
    fn random(&self) -> [Tensor; 3] {
        let [n, k] = self.heads;
        let (l, s) = (self.parents.len() as i64, (self.past + self.parents.len()) as i64);
        [[l, n, HEAD], [s, k, HEAD], [s, k, HEAD]].map(|shape| Tensor::randn(shape, PLACE))
    }

    fn told(&self) -> String {
        let Self { parents, past, window, heads } = self;
        format!(
            "{} tokens behind {past} in {window:?}, heads {heads:?}: {parents:?}",
            parents.len()
        )
    }

    /// True where a query sees a key, by walking up from each token.
    fn mask(&self) -> Tensor {
        let (positions, num_keys) = (self.positions(), self.past + self.parents.len());
        let mut seen = vec![false; self.parents.len() * num_keys];
        for i in 0..self.parents.len() {
            let row = &mut seen[i * num_keys..(i + 1) * num_keys];
            let near = |position: usize| self.window.is_none_or(|w| position + w > positions[i]);
            (0..self.past).filter(|&p| near(p)).for_each(|p| row[p] = true);
            let mut next = Some(i);
            while let Some(at) = next {
                row[self.past + at] = near(positions[at]);
                next = self.parents[at];
            }
        }
        Tensor::from_slice(&seen).view([-1, num_keys as i64])
    }

    /// Attention under one mask, `[L, N, H]`, from its definition.
    fn dense(&self, q_lnh: &Tensor, k_skh: &Tensor, v_skh: &Tensor) -> Tensor {
        let groups = self.heads[0] / self.heads[1];
        let by_head = |x: &Tensor| x.repeat_interleave_self_int(groups, 1, None).transpose(0, 1);
        let scores = q_lnh.transpose(0, 1).matmul(&by_head(k_skh).transpose(1, 2)) * SCALE;
        let unseen = self.mask().logical_not();
        let shares = scores.masked_fill(&unseen, f64::NEG_INFINITY).softmax(-1, Kind::Float);
        shares.matmul(&by_head(v_skh)).transpose(0, 1)
    }

    fn calls(&self, worth: &dyn Fn(&Branch<'_>) -> bool) -> Vec<Call> {
        let positions = self.positions();
        let tree = Tree { parents: &self.parents, positions: &positions, past: self.past };
        tree.calls(self.window, worth)
    }
}

fn positions(parents: &[Option<usize>], past: usize) -> Vec<usize> {
    parents.iter().fold(Vec::new(), |mut all, parent| {
        all.push(parent.map_or(past, |parent: usize| all[parent] + 1));
        all
    })
}

fn placed(calls: Vec<Call>, kernel: Kernel) -> Varlen {
    let mut inputs = Inputs::default();
    let placed = PlacedCalls::new(calls, &mut inputs);
    placed.on(&inputs.on(Device::Cpu).unwrap(), kernel).unwrap()
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a - b).abs().max().double_value(&[])
}

/// Holds all ways of attention to the dense mask, without gradients.
fn hold(case: &Case) {
    let _no_grad = tch::no_grad_guard();
    let [q_lnh, k_skh, v_skh] = case.random();
    let expected = case.dense(&q_lnh, &k_skh, &v_skh);
    for kernel in [Kernel::FlashForCpu, Kernel::Math] {
        for worth in
            [&|_: &Branch<'_>| false, &|_: &Branch<'_>| true] as [&dyn Fn(&Branch<'_>) -> bool; 2]
        {
            let found = placed(case.calls(worth), kernel).attend(SCALE, &q_lnh, &k_skh, &v_skh);
            let apart = apart(&found, &expected);
            // NaN is not below either.
            assert!(apart < 1e-5, "{apart} by {}: {}", kernel.name(), case.told());
        }
    }
    // Slices, as the decoder asks for them: heads before tokens, as a view.
    let positions = case.positions();
    let tree = Tree { parents: &case.parents, positions: &positions, past: case.past };
    let how = How { kernel: Kernel::Slices, kind: Kind::Float, trains: false };
    let mut inputs = Inputs::default();
    let planned = Planned::of_tree(&tree, case.window, how, &mut inputs).unwrap();
    let visible = planned.on(&inputs.on(Device::Cpu).unwrap(), Device::Cpu).unwrap();
    // And cut as often as they can be.
    let cut = Pieces::cut_all(&case.parents, &positions, case.past, case.window).unwrap();
    let cut = Visible { first: 0, seen: Seen::Pieces(cut) };
    for visible in [&visible, &cut] {
        let apart = apart(&sliced(visible, case, &q_lnh, [&k_skh, &v_skh]), &expected);
        assert!(apart < 1e-5, "{apart} by slices: {}", case.told());
    }
}

/// Attention by the decoder's own door.
fn sliced(visible: &Visible, case: &Case, q_lnh: &Tensor, kv_skh: [&Tensor; 2]) -> Tensor {
    let grouped = case.heads[0] != case.heads[1];
    let at = Attend { layer: 0, visible, scale: SCALE, grouped };
    let first = visible.first as i64;
    let [k, v] = kv_skh.map(|x| {
        let x_1ksh = x.transpose(0, 1).unsqueeze(0).contiguous();
        x_1ksh.narrow(2, first, x.size()[0] - first)
    });
    attend(&at, &q_lnh.transpose(0, 1), &k, &v).transpose(0, 1)
}

/// Holds the gradients of both kernels to those of the dense mask.
fn hold_gradients(case: &Case) {
    let all = case.random();
    let weights = Tensor::randn(all[0].size(), PLACE);
    let gradients = |attend: &dyn Fn(&[Tensor; 3]) -> Tensor| {
        let leaves = all.each_ref().map(|x| x.copy().set_requires_grad(true));
        let out = attend(&leaves);
        (&out * &weights).sum(Kind::Float).backward();
        leaves.map(|x| x.grad())
    };
    let expected = gradients(&|[q, k, v]| case.dense(q, k, v));
    for kernel in [Kernel::FlashForCpu, Kernel::Math] {
        for worth in
            [&|_: &Branch<'_>| false, &|_: &Branch<'_>| true] as [&dyn Fn(&Branch<'_>) -> bool; 2]
        {
            let varlen = placed(case.calls(worth), kernel);
            let found = gradients(&|[q, k, v]| varlen.attend(SCALE, q, k, v));
            for ((found, expected), name) in found.iter().zip(&expected).zip(["q", "k", "v"]) {
                let apart = apart(found, expected);
                assert!(apart < 1e-4, "{name}: {apart} by {}: {}", kernel.name(), case.told());
            }
        }
    }
}

/// Trees that have been seen to be hard: forks, one token, a chain, roots that interleave, an end that
/// goes back to a branch that another has left.
fn trees() -> Vec<Vec<Option<usize>>> {
    vec![
        vec![None],
        vec![None, Some(0), Some(1), Some(2), Some(3)],
        vec![None, Some(0), None, Some(2), Some(2), Some(3), None],
        vec![None, None, Some(0), Some(1)],
        vec![None, Some(0), Some(1), Some(2), Some(1), Some(2)],
        vec![None, Some(0), Some(1), Some(2), Some(3), Some(3), Some(5), Some(1), Some(7), Some(7)],
    ]
}

#[test]
fn every_kernel_sees_what_one_mask_says() {
    tch::manual_seed(1);
    for parents in trees() {
        for (heads, past) in [([4, 4], 0), ([4, 4], 1), ([6, 2], 9), ([3, 1], 70)] {
            for window in [None, Some(1), Some(2), Some(3), Some(5), Some(64)] {
                hold(&Case { parents: parents.clone(), past, window, heads });
            }
        }
    }
}

#[test]
fn gradients_are_those_of_one_mask() {
    tch::manual_seed(2);
    for parents in trees() {
        for (heads, past) in [([4, 4], 0), ([6, 2], 0), ([4, 2], 5)] {
            for window in [None, Some(1), Some(3), Some(64)] {
                hold_gradients(&Case { parents: parents.clone(), past, window, heads });
            }
        }
    }
}

/// Runs of random lengths that fork at random places, depth first.
fn grow(parents: &mut Vec<Option<usize>>, root: Option<usize>, depth: u32, rng: &mut StdRng) {
    let mut parent = root;
    for _ in 0..rng.random_range(1..40) {
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
fn random_trees_see_the_same_and_forks_cross_windows() {
    tch::manual_seed(3);
    let mut rng = StdRng::seed_from_u64(4);
    for round in 0..12 {
        let mut parents = Vec::new();
        for _ in 0..1 + round % 2 {
            grow(&mut parents, None, 3, &mut rng);
        }
        let past = [0, 40, 300][round % 3];
        let window = [None, Some(30), Some(200)][round / 3 % 3];
        let case = Case { parents, past, window, heads: [4, 2] };
        hold(&case);
        if past == 0 {
            hold_gradients(&case);
        }
    }
}

/// The kernel of a GPU is called by its name through the dispatcher, which has it where CUDA is loaded.
#[test]
fn flash_is_reached_where_there_is_no_gpu() {
    let case = Case { parents: vec![None, Some(0)], past: 3, window: None, heads: [4, 2] };
    let [q, k, v] = case.random();
    let varlen = placed(case.calls(&worth_a_call), Kernel::Flash);
    let refused = crate::guard::caught(|| varlen.attend(SCALE, &q, &k, &v)).unwrap_err();
    assert!(refused.contains("aten::_flash_attention_forward"), "{refused}");
    assert!(refused.contains("CPU"), "{refused}");
}

#[test]
fn math_in_blocks_is_math() {
    // 8 x 3,000 x 3,000 scores are more than are held at once.
    tch::manual_seed(5);
    let parents: Vec<Option<usize>> = (0..3000).map(|i: usize| i.checked_sub(1)).collect();
    let case = Case { parents, past: 0, window: None, heads: [8, 8] };
    let _no_grad = tch::no_grad_guard();
    let [q, k, v] = case.random();
    let by = |kernel| placed(case.calls(&worth_a_call), kernel).attend(SCALE, &q, &k, &v);
    assert!(apart(&by(Kernel::Math), &by(Kernel::FlashForCpu)) < 1e-5);
}

const FAMILIES: [&str; 10] = [
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "llama",
    "llama-tied-rope-llama3",
    "mistral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
];

fn model(family: &str) -> Decoder {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(family);
    Decoder::load(&folder, Device::Cpu, Kind::Float).unwrap()
}

/// Launches of a GPU are counted from the code that would launch them ([`DeviceWork`]); what the same
/// code runs on the CPU is held against it.
#[test]
fn launches_are_the_operations_that_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
    let mut decoder = Decoder::load(&folder, Device::Cpu, Kind::BFloat16).unwrap();
    let config = decoder.config().clone();
    decoder.set_kernel(Kernel::FlashForCpu);
    let _no_grad = tch::no_grad_guard();
    let mut forked: Vec<Option<usize>> = (0..30).map(|i: usize| i.checked_sub(1)).collect();
    forked.extend([Some(20), Some(30), Some(12), Some(32)]);
    let chain: Vec<Option<usize>> = (0..20).map(|i: usize| i.checked_sub(1)).collect();
    for (parents, past) in [(chain, 0), (forked, 24)] {
        let mut cache = decoder.new_cache();
        if past > 0 {
            let parents: Vec<Option<usize>> = (0..past).map(|i: usize| i.checked_sub(1)).collect();
            let new = NewTokens { ids: &ids(past, 1), parents: &parents };
            let _ = decoder.forward(new, &mut cache).unwrap();
        }
        cache.reserve(parents.len());
        let ids = ids(parents.len(), 2);
        let new = NewTokens { ids: &ids, parents: &parents };
        let (_, mut ran) = Operations::of(|| decoder.forward(new, &mut cache).unwrap());
        // Masks of its sequences, which the kernel of a GPU has no need of.
        ran.by_name.retain(|name, _| {
            !["fill_", "masked_fill_", "triu", "zero_"].contains(&name.trim_start_matches("aten::"))
        });
        let positions = positions(&parents, past);
        let tree = Tree { parents: &parents, positions: &positions, past };
        let calls = tree.calls(None, &worth_a_call);
        // A sequence after the other here, each with two copies to where a GPU's kernel writes itself.
        let num_sequences: usize = calls.iter().map(|call| call.query_bounds.len() - 1).sum();
        let more = config.layers.len() * (3 * num_sequences - calls.len());
        let pass = PassPlan { past, parents: parents.clone(), num_rows: 0 };
        let work = DeviceWork::of_tree(&config, Kind::BFloat16, &[pass], SeenBy::Calls);
        let (ran_there, counted) = (ran.total() as f64 - more as f64, work.num_launches as f64);
        assert!(
            (ran_there - counted).abs() < 0.1 * counted,
            "{ran_there} ran, {counted} counted: {:#?}",
            ran.by_name
        );
    }
}

#[test]
fn half_precision_is_merged_in_f32() {
    tch::manual_seed(6);
    let _no_grad = tch::no_grad_guard();
    let parents = trees().pop().unwrap();
    let case = Case { parents, past: 40, window: None, heads: [6, 2] };
    let all = case.random().map(|x| x.to_kind(Kind::BFloat16));
    let [q, k, v] = all.each_ref().map(|x| x.to_kind(Kind::Float));
    let expected = case.dense(&q, &k, &v);
    for kernel in [Kernel::FlashForCpu, Kernel::Math] {
        let varlen = placed(case.calls(&|_| true), kernel);
        let found = varlen.attend(SCALE, &all[0], &all[1], &all[2]);
        assert_eq!(found.kind(), Kind::BFloat16);
        // bf16 has 8 bits: a rounding of values up to 4 is up to 1/128.
        let apart = apart(&found.to_kind(Kind::Float), &expected);
        assert!(apart < 1.0 / 64.0, "{apart} by {}", kernel.name());
    }
}

#[test]
fn blocks_on_two_devices_have_the_same_states_by_every_kernel() {
    for family in ["llama", "gemma3_text"] {
        let expected = states(&model(family));
        let num = model(family).num_blocks();
        let placement = Placement::new(vec![(Device::Cpu, 1), (Device::Cpu, num - 1)]);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity").join(family);
        let mut decoder = Decoder::load_placed(&folder, placement, Kind::Float).unwrap();
        for kernel in [Kernel::FlashForCpu, Kernel::Math] {
            decoder.set_kernel(kernel);
            for (found, expected) in states(&decoder).iter().zip(&expected) {
                let size = expected.abs().max().double_value(&[]).max(1.0);
                assert!(apart(found, expected) / size < 1e-5, "{family} by {}", kernel.name());
            }
        }
    }
}

fn ids(num: usize, seed: usize) -> Vec<u32> {
    (0..num).map(|i| (5 + (i * 37 + seed * 11) % 200) as u32).collect()
}

/// Hidden states of a path longer than the windows of the fixtures, of a tree behind it, and of steps
/// of sequences of three lengths.
fn states(decoder: &Decoder) -> Vec<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let mut cache = decoder.new_cache();
    let chain = |num: usize| (0..num).map(|i: usize| i.checked_sub(1)).collect::<Vec<_>>();
    let mut states = vec![
        decoder.forward(NewTokens { ids: &ids(40, 1), parents: &chain(40) }, &mut cache).unwrap(),
    ];
    let mut parents = chain(30);
    for at in [29, 29, 12] {
        parents.push(Some(at));
        parents.extend((0..4).map(|i| Some(parents.len() - 1 + i)).collect::<Vec<_>>());
    }
    let num = parents.len();
    let new = NewTokens { ids: &ids(num, 2), parents: &parents };
    states.push(decoder.forward(new, &mut cache).unwrap());
    let lens = [40, 25, 33];
    let mut batch = BatchCache::new(&cache, &lens, 6);
    for (row, len) in lens.into_iter().enumerate() {
        batch.fill(row, &cache, &(0..len).collect::<Vec<_>>());
    }
    for step in 0..4 {
        if step == 2 {
            batch.select(&[0, 2]);
        }
        let num = if step < 2 { 3 } else { 2 };
        states.push(decoder.step(&ids(num, step), &mut batch).unwrap());
    }
    states
}

#[test]
fn every_family_has_the_same_states_by_every_kernel() {
    for family in FAMILIES {
        let mut decoder = model(family);
        let expected = states(&decoder);
        for kernel in [Kernel::FlashForCpu, Kernel::Math] {
            decoder.set_kernel(kernel);
            for (i, (found, expected)) in states(&decoder).iter().zip(&expected).enumerate() {
                let size = expected.abs().max().double_value(&[]).max(1.0);
                let apart = apart(found, expected) / size;
                assert!(apart < 1e-5, "{family}, pass {i} by {}: {apart}", kernel.name());
            }
        }
    }
}

/// Gradients of all weights, by name, of a pass of two sequences, one of which forks.
fn gradients(decoder: &mut Decoder) -> Vec<(String, Tensor)> {
    let trained = decoder.train_all().unwrap();
    let mut parents: Vec<Option<usize>> = (0..30).map(|i: usize| i.checked_sub(1)).collect();
    parents.extend([Some(20), Some(30), Some(31), None]);
    parents.extend((33..60).map(Some));
    let ids = ids(parents.len(), 3);
    let targets = [3, 15, 29, 31, 32, 40, 59].map(|row| Target { row, id: 7 + row as u32 });
    let tokens = NewTokens { ids: &ids, parents: &parents };
    let at = TrainTokens { tokens, targets: &targets, dropout: None };
    let by = [-0.2; 7];
    for recompute in [false, true] {
        decoder.backward(at, recompute, Derivatives::Known(&by)).unwrap();
    }
    trained.into_iter().map(|own| (own.name, own.tensor.grad())).collect()
}

#[test]
fn every_family_has_the_same_gradients_by_every_kernel() {
    for family in FAMILIES {
        let expected = gradients(&mut model(family));
        for kernel in [Kernel::FlashForCpu, Kernel::Math] {
            let mut decoder = model(family);
            decoder.set_kernel(kernel);
            for ((name, found), (_, expected)) in gradients(&mut decoder).iter().zip(&expected) {
                let size = expected.abs().max().double_value(&[]).max(1.0);
                let apart = apart(found, expected) / size;
                assert!(apart < 1e-4, "{family}, {name} by {}: {apart}", kernel.name());
            }
        }
    }
}
