//! PEFT adapters: read, added to every family's maps, merged, refused.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use w2s::error::ErrorKind;
use w2s::lm::{Adapter, AdapterConfig, Decoder, NewTokens, TargetModules};
use w2s::run::SeedStream;

use crate::cli::{Place, good, text, w2s};
use crate::common::{chain, copy_of, golden, project, tiny};
use crate::golden::{TOLERANCE, fixtures};
use crate::train_golden::config;

fn open(folder: &Path) -> Decoder {
    Decoder::load(folder, Device::Cpu, Kind::Float).unwrap()
}

/// Log-probabilities after every token of the fixture's first prompt.
fn log_probs(model: &Decoder, ids: &[u32]) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let new = NewTokens { ids, parents: &chain(ids.len()) };
    model.log_probs(&model.forward(new, &mut model.new_cache()).unwrap())
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// A new adapter whose second matrices are no longer zero.
fn random_adapter(model: &mut Decoder, config: AdapterConfig) -> Adapter {
    let adapter = Adapter::new(config, model, SeedStream::new(7)).unwrap();
    let _no_grad = tch::no_grad_guard();
    for (i, (_, pair)) in adapter.modules().enumerate() {
        let num = pair.b_or.numel() as i64;
        let values =
            (Tensor::arange(num, (Kind::Float, Device::Cpu)) + i as f64 * 0.3).sin() * 0.05;
        pair.b_or.shallow_clone().copy_(&values.view_as(&pair.b_or));
    }
    adapter
}

/// The fixture's model with the adapter added to its file, in the file's own names and layout.
fn added_to_file(folder: &Path, adapter: &Adapter) -> tempfile::TempDir {
    let out = copy_of(folder.file_name().unwrap().to_str().unwrap());
    let path = out.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for (name, view) in file.iter() {
        assert_eq!(view.dtype(), Dtype::F32);
        let values = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        tensors.insert(name.to_owned(), (view.shape().to_vec(), values));
    }
    for (module, pair) in adapter.modules() {
        let name = format!("{module}.weight");
        let key = tensors.keys().find(|key| name.ends_with(key.as_str())).unwrap().clone();
        let (shape, values) = tensors.get_mut(&key).unwrap();
        let (r, num_in) = (pair.a_rd.size()[0] as usize, pair.a_rd.size()[1] as usize);
        let num_out = pair.b_or.size()[0] as usize;
        let flat = |t: &Tensor| Vec::<f32>::try_from(t.detach().contiguous().view([-1])).unwrap();
        let (a, b) = (flat(&pair.a_rd), flat(&pair.b_or));
        let conv1d = key.contains("c_");
        assert_eq!(*shape, if conv1d { [num_in, num_out] } else { [num_out, num_in] });
        for o in 0..num_out {
            for i in 0..num_in {
                let delta: f32 = (0..r).map(|k| b[o * r + k] * a[k * num_in + i]).sum();
                values[if conv1d { i * num_out + o } else { o * num_in + i }] += 2.0 * delta;
            }
        }
    }
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, (shape, v))| (name, shape, v.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    drop(file);
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    out
}

/// `W x + s B (A x)` is `(W + s B A) x`, whichever maps a family fuses, transposes or reorders.
#[test]
fn an_adapter_is_its_product_added_to_the_weights_in_every_family() {
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let ids = &golden(&folder)[0].ids;
        let mut model = open(&folder);
        let base = log_probs(&model, ids);
        let fresh = Adapter::new(config(TargetModules::AllLinear), &mut model, SeedStream::new(1));
        model.attach(&fresh.unwrap()).unwrap();
        assert_eq!(apart(&log_probs(&model, ids), &base), 0.0, "{name}: B = 0 is the identity");
        let adapter = random_adapter(&mut model, config(TargetModules::AllLinear));
        let saved = tempfile::tempdir().unwrap();
        adapter.save(saved.path()).unwrap();
        model.attach(&Adapter::open(saved.path()).unwrap()).unwrap();
        let unmerged = log_probs(&model, ids);
        model.merge_adapter();
        let merged = log_probs(&model, ids);
        let file = log_probs(&open(added_to_file(&folder, &adapter).path()), ids);
        println!(
            "{name:<24} moved {:.1e}, unmerged {:.1e}, merged {:.1e}",
            apart(&file, &base),
            apart(&file, &unmerged),
            apart(&file, &merged)
        );
        assert!(apart(&file, &base) > 1e-2, "{name}: the adapter does nothing");
        assert!(apart(&file, &unmerged) < TOLERANCE, "{name}: unmerged");
        assert!(apart(&file, &merged) < TOLERANCE, "{name}: merged");
    }
}

#[derive(Deserialize)]
struct Golden {
    prompts: Vec<GoldenPrompt>,
}

#[derive(Deserialize)]
struct GoldenPrompt {
    ids: Vec<u32>,
    mean_nll: f64,
    last_top_ids: Vec<i64>,
    last_top_logprobs: Vec<f64>,
}

/// The adapter was trained and saved by peft 0.21.2; the numbers are transformers'
/// (scripts/bench/parity_adapter.py).
#[test]
fn an_adapter_of_peft_gives_the_numbers_of_transformers() {
    let folder = tiny("llama/adapter-token");
    let golden: Golden =
        serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let mut model = open(&tiny("llama"));
    model.attach(&Adapter::open(&folder).unwrap()).unwrap();
    for merged in [false, true] {
        if merged {
            model.merge_adapter();
        }
        for prompt in &golden.prompts {
            let logprobs_lv = log_probs(&model, &prompt.ids);
            let num = prompt.ids.len() as i64 - 1;
            let targets: Vec<i64> = prompt.ids[1..].iter().map(|&id| i64::from(id)).collect();
            let targets = Tensor::from_slice(&targets).unsqueeze(1);
            let nll = -logprobs_lv.narrow(0, 0, num).gather(1, &targets, false).mean(Kind::Double);
            assert!((nll.double_value(&[]) - prompt.mean_nll).abs() < TOLERANCE);
            let last = logprobs_lv.select(0, num);
            for (&id, &expected) in prompt.last_top_ids.iter().zip(&prompt.last_top_logprobs) {
                assert!((last.double_value(&[id]) - expected).abs() < TOLERANCE);
            }
        }
    }
}

/// In half precision the adapter stays apart; the base of the tolerance is the house rule for bf16.
#[test]
fn an_adapter_works_on_a_model_in_bf16() {
    let ids = &golden(&tiny("llama"))[0].ids;
    let mut exact = open(&tiny("llama"));
    let adapter = random_adapter(&mut exact, config(TargetModules::AllLinear));
    exact.attach(&adapter).unwrap();
    let mut model = Decoder::load(&tiny("llama"), Device::Cpu, Kind::BFloat16).unwrap();
    model.attach(&adapter).unwrap();
    let difference = apart(&log_probs(&model, ids), &log_probs(&exact, ids));
    assert!(difference < 6e-2, "{difference}");
}

fn damaged(file: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> w2s::error::Error {
    let folder = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let bytes = std::fs::read(tiny("llama/adapter-token").join(name)).unwrap();
        let bytes = if name == file { change(bytes) } else { bytes };
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let adapter = match Adapter::open(folder.path()) {
        Ok(adapter) => adapter,
        Err(error) => return error,
    };
    open(&tiny("llama")).attach(&adapter).unwrap_err()
}

fn replaced(file: &'static str, from: &'static str, to: &'static str) -> w2s::error::Error {
    damaged(file, |bytes| {
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    })
}

#[test]
fn damaged_and_foreign_adapters_are_refused_with_what_is_wrong() {
    let weights = "adapter_model.safetensors";
    for cut in [0, 7, 100, 3000, 12271] {
        let error = damaged(weights, |bytes| bytes[..cut].to_vec());
        assert_eq!(error.kind(), ErrorKind::Checkpoint, "{cut}: {error}");
        assert!(error.place().unwrap().0.ends_with(weights));
    }
    // A header that lies about the length of what follows.
    let error = damaged(weights, |mut bytes| {
        bytes[7] = 0x7f;
        bytes
    });
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let error = damaged(weights, |mut bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    });
    assert!(error.message().contains("holds NaN"), "{error}");
    let error = replaced(weights, "q_proj.lora_A", "q_proj.lora_Z");
    assert!(
        error.message().contains("no part of a LoRA adapter") && error.message().contains("lora_Z")
    );
    let error =
        replaced(weights, "layers.0.self_attn.q_proj.lora_A", "layers.9.self_attn.q_proj.lora_A");
    assert!(error.message().contains("one of its two tensors"), "{error}");
    let config = "adapter_config.json";
    for (from, to, says) in [
        ("\"r\": 4", "\"r\": 5", "has shape [4, 64], expected [5, 64]"),
        ("\"use_dora\": false", "\"use_dora\": true", "`use_dora` is true"),
        ("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "`modules_to_save`"),
        ("\"bias\": \"none\"", "\"bias\": \"all\"", "`bias` is \"all\""),
        ("\"LORA\"", "\"VERA\"", "`peft_type` is \"VERA\""),
        ("\"q_proj\",", "", "has a tensor for `model.layers.0.self_attn.q_proj`, but it is not"),
        (
            "\"q_proj\",",
            "\"q_proj\", \"o_proj\",",
            "has no tensor for `model.layers.0.self_attn.o_proj`",
        ),
        ("{", "[", "broken settings"),
    ] {
        let error = replaced(config, from, to);
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn an_adapter_for_another_model_says_so() {
    for (other, says) in [
        ("qwen3", "has shape [64, 4], expected [128, 4]"),
        ("gpt2", "6 modules of the adapter are not in this model"),
    ] {
        let adapter = Adapter::open(&tiny("llama/adapter-token")).unwrap();
        let error = open(&tiny(other)).attach(&adapter).unwrap_err();
        assert!(error.message().contains(says), "{error}");
        assert!(error.to_string().contains("made for another model (`llama`)"), "{error}");
    }
}

#[test]
fn target_modules_that_match_nothing_list_what_there_is() {
    let mut model = open(&tiny("gpt2"));
    let targets = TargetModules::Names(vec!["q_proj".into()]);
    let error = Adapter::new(config(targets), &mut model, SeedStream::new(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("c_attn, c_proj, c_fc"), "{error}");
}

#[test]
fn every_command_with_a_model_takes_an_adapter() {
    let place = Place::new();
    let adapter = tiny("llama/adapter-token").display().to_string();
    let label = |out, more: &[&str]| {
        let args = place.label(out, &[&["--method", "zero-shot"], more].concat());
        good(&args.iter().map(String::as_str).collect::<Vec<_>>());
        place.read(&format!("{out}/labels.jsonl"))
    };
    assert_ne!(label("plain", &[]), label("adapted", &["--adapter", &adapter]));
    let manifest: serde_json::Value =
        serde_json::from_str(&place.read("adapted/manifest.json")).unwrap();
    assert_eq!(manifest["settings"]["adapter"], adapter);
    let roles: Vec<&str> =
        manifest["inputs"].as_array().unwrap().iter().filter_map(|i| i["role"].as_str()).collect();
    assert!(roles.contains(&"adapter file adapter_model.safetensors"), "{roles:?}");
    let output = w2s(&[
        "score",
        "--model",
        &tiny("gpt2").display().to_string(),
        "--adapter",
        &adapter,
        "--input",
        &place.write("q.jsonl", r#"{"id": 1, "prompt": "a ", "labels": ["b"]}"#),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("are not in this model"), "{}", text(&output.stderr));
}

/// What a decoder hands out is what its file holds, by name, shape and number, whatever it fuses,
/// transposes or reorders; buffers and the second copy of a tied head are left out.
#[test]
fn a_model_is_written_as_it_was_read_in_every_family() {
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut model = open(&folder);
        for trained in [false, true] {
            if trained {
                model.train_all().unwrap();
            }
            let exported = model.export();
            for (name, tensor) in &exported {
                let view = file.tensor(name).or_else(|_| file.tensor(&name[12..])).unwrap();
                let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
                assert_eq!(shape, view.shape(), "{name}");
                let values: Vec<f32> = Vec::try_from(tensor.view([-1])).unwrap();
                let held: Vec<f32> =
                    view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                let apart = values.iter().zip(&held).map(|(a, b)| (a - b).abs());
                // One is added to Gemma's norms and taken off again.
                assert!(apart.fold(0.0, f32::max) < 1e-7, "{name}");
            }
            let is_buffer =
                |name: &&str| !name.ends_with(".attn.bias") && *name != "lm_head.weight";
            let tied = model.config().tie_word_embeddings;
            let num = file.names().iter().filter(|n| !tied || is_buffer(n)).count();
            assert_eq!(exported.len(), num, "{name}");
        }
    }
}

/// `w2s merge` writes a folder that gives the numbers of model and adapter (peft's adapter).
#[test]
fn a_merged_folder_gives_the_numbers_of_model_and_adapter() {
    let place = Place::new();
    let adapter = tiny("llama/adapter-token").display().to_string();
    let model = tiny("llama").display().to_string();
    let out = place.path("merged");
    let args = ["merge", "--model", &model, "--adapter", &adapter, "--out", &out];
    good(&args);
    let ids = &golden(&tiny("llama"))[0].ids;
    let mut adapted = open(&tiny("llama"));
    adapted.attach(&Adapter::open(&tiny("llama/adapter-token")).unwrap()).unwrap();
    let merged = open(Path::new(&out));
    assert!(apart(&log_probs(&merged, ids), &log_probs(&adapted, ids)) < 1e-5);
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md"] {
        assert!(Path::new(&out).join(file).exists(), "{file}");
    }
    let config: serde_json::Value =
        serde_json::from_str(&place.read("merged/config.json")).unwrap();
    assert_eq!(config["dtype"], "float32");
    assert_eq!(w2s(&args).status.code(), Some(1), "an existing folder is not replaced");
    good(&[args.as_slice(), &["--force", "--dtype", "bf16"]].concat());
    let half = Decoder::load(Path::new(&out), Device::Cpu, Kind::Float).unwrap();
    assert!(apart(&log_probs(&half, ids), &log_probs(&adapted, ids)) < 6e-2);
    let config: serde_json::Value =
        serde_json::from_str(&place.read("merged/config.json")).unwrap();
    assert_eq!(config["dtype"], "bfloat16");
    assert_eq!(w2s(&args[..3]).status.code(), Some(2));
}
