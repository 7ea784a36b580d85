//! Readers of model folders under damaged input: each gives a value or an error, never a panic, and
//! asks for no more memory than the files can mean. Counts: `W2S_FUZZ_EXECUTIONS` (see `mutate`).

#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use tch::{Device, Kind};
use w2s::error::ErrorKind;
use w2s::lm::{Adapter, AdapterConfig, Decoder, LmConfig, NewTokens, Tokenizer};

use crate::common::{chain, copy_of, tiny};
use crate::mutate;

/// Most bytes of one request that a reader of the tiny files may make.
const MOST_BYTES: usize = 64 << 20;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, remembering the largest request of a thread.
struct Counting;

// SAFETY: every call is the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `read` on mutations of `seeds` written to `file`, and checks the memory it asks for.
fn fuzz(name: &str, seeds: &[Vec<u8>], file: &Path, mut read: impl FnMut()) {
    LARGEST.set(0);
    mutate::run(name, seeds, |input| {
        std::fs::write(file, input).unwrap();
        read();
        assert!(LARGEST.get() < MOST_BYTES, "asks for {} bytes at once", LARGEST.get());
    });
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

/// A configuration that is read is of the model's weights or refused by them, and a model that opens
/// runs.
#[test]
fn configurations() {
    let _no_grad = tch::no_grad_guard();
    let folder = copy_of("llama");
    let file = folder.path().join("config.json");
    let seeds: Vec<Vec<u8>> = FAMILIES
        .iter()
        .map(|name| std::fs::read(tiny(name).join("config.json")).unwrap())
        .collect();
    let (mut opened, mut refused) = (0, 0);
    fuzz("config", &seeds, &file, || {
        match Decoder::load(folder.path(), Device::Cpu, Kind::Float) {
            Ok(model) => {
                let new = NewTokens { ids: &[3, 5, 7], parents: &chain(3) };
                let hidden = model.forward(new, &mut model.new_cache());
                if let Ok(hidden) = hidden {
                    let _ = model.log_probs(&hidden);
                    opened += 1;
                }
            }
            Err(error) => {
                assert!(error.place().is_some(), "{error}");
                refused += 1;
            }
        }
    });
    println!("{opened} opened, {refused} refused");
    assert!(opened > 0 && refused > opened);
}

#[test]
fn tokenizers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    let seeds: Vec<Vec<u8>> = ["llama", "gpt2", "gemma3_text"]
        .iter()
        .map(|name| std::fs::read(tiny(name).join("tokenizer.json")).unwrap())
        .collect();
    let mut caught = 0;
    fuzz("tokenizer", &seeds, &file, || match Tokenizer::open_file(&file) {
        Ok(tokenizer) => {
            let text = "Question: wo liegt Zürich?\nClaim: 🙂 it is ";
            if let Ok(tokens) = tokenizer.encode(text) {
                let _ = tokenizer.decode(&tokens.ids);
                let _ = tokenizer.extend(&tokens, "True and some more of it");
            }
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Tokenizer, "{error}");
            caught += usize::from(error.message().contains("fails on this file"));
        }
    });
    println!("{caught} panics of the tokenizers library became errors");
}

#[test]
fn weights() {
    let folder = copy_of("llama");
    let file = folder.path().join("model.safetensors");
    // The header and what follows of a small model: three tensors.
    let whole = std::fs::read(&file).unwrap();
    let seeds = [small(), whole[..4096].to_vec()];
    fuzz("weights", &seeds, &file, || {
        let error = Decoder::load(folder.path(), Device::Cpu, Kind::Float).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
        assert!(error.place().is_some(), "{error}");
    });
}

/// A complete file of three tensors of the model.
fn small() -> Vec<u8> {
    let bytes = vec![0_u8; 384 * 64 * 4];
    let view = |shape: Vec<usize>| {
        let size = shape.iter().product::<usize>() * 4;
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes[..size])
            .unwrap()
    };
    let tensors = [
        ("model.embed_tokens.weight", view(vec![384, 64])),
        ("model.norm.weight", view(vec![64])),
        ("lm_head.weight", view(vec![384, 64])),
    ];
    safetensors::serialize(tensors, None).unwrap()
}

#[test]
fn shard_indices() {
    let folder = copy_of("llama");
    let shard = "model-00001-of-00001.safetensors";
    std::fs::rename(folder.path().join("model.safetensors"), folder.path().join(shard)).unwrap();
    let file = folder.path().join("model.safetensors.index.json");
    let seed = format!(
        r#"{{"metadata": {{"total_size": 717576}}, "weight_map": {{"lm_head.weight": "{shard}", "model.norm.weight": "{shard}"}}}}"#
    );
    fuzz("shard-index", &[seed.into_bytes()], &file, || {
        match Decoder::load(folder.path(), Device::Cpu, Kind::Float) {
            Ok(_) => {}
            Err(error) => assert!(error.place().is_some(), "{error}"),
        }
    });
}

#[test]
fn adapter_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("adapter_config.json");
    let read = |name: &str| std::fs::read(tiny(name).join("adapter_config.json")).unwrap();
    let text = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "layers_to_transform": [0, 2], "layers_pattern": "layers", "rank_pattern": {"(?<!k)_proj|[a-z]{1,3}": 2}, "exclude_modules": ".*\\.(?P<x>o)_(?P=x)"}"#;
    let seeds = [read("llama/adapter-token"), read("llama/adapter-look-ahead"), text.into()];
    fuzz("adapter-config", &seeds, &file, || match AdapterConfig::read(&file) {
        Ok(config) => {
            let rules = config.rules().unwrap();
            let name = "model.layers.0.self_attn.q_proj";
            let _ = (rules.targets(name), rules.rank(name), rules.scale(name));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
    });
}

#[test]
fn adapter_weights() {
    let folder = tempfile::tempdir().unwrap();
    let from = tiny("llama/adapter-token");
    std::fs::copy(from.join("adapter_config.json"), folder.path().join("adapter_config.json"))
        .unwrap();
    let file = folder.path().join("adapter_model.safetensors");
    let seed = std::fs::read(from.join("adapter_model.safetensors")).unwrap();
    fuzz("adapter-weights", &[seed], &file, || {
        if let Err(error) = Adapter::open(folder.path()) {
            assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
        }
    });
}

/// Configurations by themselves are read a hundred times as fast as models: many more of them.
#[test]
fn configurations_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let seeds: Vec<Vec<u8>> = FAMILIES
        .iter()
        .map(|name| std::fs::read(tiny(name).join("config.json")).unwrap())
        .collect();
    fuzz("config-alone", &seeds, &file, || match LmConfig::read(&file) {
        Ok(config) => {
            assert!(!config.layers.is_empty() && config.head_dim > 0);
            let bytes = w2s::lm::PartBytes::of(&config, Kind::Float).total();
            assert!(bytes > 0);
            for rope in &config.ropes {
                assert!(rope.rotary_dim <= config.head_dim);
            }
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
    });
}
