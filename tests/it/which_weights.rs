//! Which file of a folder and which tensor of a file is loaded: a test for each row of the table in
//! `src/lm/checkpoint.rs`. The expected values are laws (a folder gives what the plain folder of the
//! same tensors gives, which `parity` holds against transformers); the rows are transformers 5.23's.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::error::ErrorKind;
use w2s::lm::{Adapter, Decoder, NewTokens};

use crate::cli::{Place, good, has, text, w2s};
use crate::common::{chain, copy_of, golden, project, tiny};
use crate::golden::{TOLERANCE, fixtures};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        assert_eq!(view.dtype(), Dtype::F32);
        (name.to_owned(), (view.shape().to_vec(), view.data().to_vec()))
    });
    tensors.collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The bytes of other values of the same size.
fn other(bytes: &[u8]) -> Vec<u8> {
    let values = bytes.as_chunks().0.iter().enumerate();
    let changed = values.map(|(i, b)| f32::from_le_bytes(*b) * 0.5 + 0.01 * (i as f32 * 0.7).sin());
    changed.flat_map(f32::to_le_bytes).collect()
}

/// A fixture whose tensors and configuration are changed.
fn changed(name: &str, change: impl FnOnce(&mut Tensors, &mut Value)) -> tempfile::TempDir {
    let folder = copy_of(name);
    let path = folder.path().join(SINGLE);
    let mut tensors = read(&path);
    let config_path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&config_path).unwrap()).unwrap();
    change(&mut tensors, &mut config);
    write(&path, &tensors);
    std::fs::write(config_path, config.to_string()).unwrap();
    folder
}

/// The llama fixture in two shards, the tensors of the second named by `second`; the index says what
/// `listed` says of a shard's tensors.
fn sharded(
    change: impl FnOnce(&mut [Tensors; 2], &mut BTreeMap<String, String>),
) -> tempfile::TempDir {
    let folder = copy_of("llama");
    let all = read(&folder.path().join(SINGLE));
    std::fs::remove_file(folder.path().join(SINGLE)).unwrap();
    let mut shards = [Tensors::new(), Tensors::new()];
    let mut listed = BTreeMap::new();
    for (i, (name, tensor)) in all.into_iter().enumerate() {
        listed.insert(name.clone(), SHARDS[i % 2].to_owned());
        shards[i % 2].insert(name, tensor);
    }
    change(&mut shards, &mut listed);
    for (name, tensors) in SHARDS.iter().zip(&shards) {
        write(&folder.path().join(name), tensors);
    }
    let index = json!({"metadata": {}, "weight_map": listed}).to_string();
    std::fs::write(folder.path().join(INDEX), index).unwrap();
    folder
}

fn open(folder: &Path) -> w2s::error::Result<Decoder> {
    Decoder::load(folder, Device::Cpu, Kind::Float)
}

fn log_probs(model: &Decoder, fixture: &str) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let ids = &golden(&tiny(fixture))[0].ids;
    let new = NewTokens { ids, parents: &chain(ids.len()) };
    model.log_probs(&model.forward(new, &mut model.new_cache()).unwrap())
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// The folder gives what the other gives, and says so much.
fn same(folder: &Path, plain: &Path, fixture: &str, warns: &[&str]) -> Decoder {
    let (model, expected) = (open(folder).unwrap(), open(plain).unwrap());
    let difference = apart(&log_probs(&model, fixture), &log_probs(&expected, fixture));
    assert_eq!(difference, 0.0, "{fixture}");
    let said = model.config().warnings.join("\n");
    assert_eq!(model.config().warnings.len(), warns.len(), "{said}");
    warns.iter().for_each(|part| assert!(said.contains(part), "`{part}` is not in:\n{said}"));
    model
}

fn refused(folder: &Path, parts: &[&str]) {
    let error = open(folder).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.place().is_some(), "{error}");
    has(&error.to_string(), parts);
}

#[test]
fn the_single_file_wins_over_shards_and_says_so() {
    let folder = sharded(|shards, _| {
        shards.iter_mut().flat_map(Tensors::values_mut).for_each(|t| t.1 = other(&t.1));
    });
    std::fs::copy(tiny("llama").join(SINGLE), folder.path().join(SINGLE)).unwrap();
    same(
        folder.path(),
        &tiny("llama"),
        "llama",
        &["the shards of `model.safetensors.index.json` are not"],
    );
    // Neither of these is looked at.
    std::fs::write(folder.path().join(INDEX), "{").unwrap();
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    std::fs::write(folder.path().join("model.fp16.safetensors"), "x").unwrap();
    same(folder.path(), &tiny("llama"), "llama", &["are not, as in transformers"]);
}

#[test]
fn shards_are_read_whole_whether_their_tensors_are_listed_or_not() {
    same(sharded(|_, _| {}).path(), &tiny("llama"), "llama", &[]);
    let unlisted = sharded(|_, listed| drop(listed.remove("model.norm.weight")));
    same(unlisted.path(), &tiny("llama"), "llama", &[]);
    // Listed in one, but lying in the other.
    let moved = sharded(|shards, _| {
        let (name, tensor) = shards[0].pop_first().unwrap();
        shards[1].insert(name, tensor);
    });
    same(moved.path(), &tiny("llama"), "llama", &[]);
}

#[test]
fn of_two_copies_the_last_shards_counts() {
    let name = "model.layers.1.mlp.down_proj.weight";
    let place = |shards: &[Tensors; 2]| usize::from(shards[1].contains_key(name));
    let equal = sharded(|shards, _| {
        let at = place(shards);
        let copy = shards[at][name].clone();
        shards[1 - at].insert(name.into(), copy);
    });
    same(equal.path(), &tiny("llama"), "llama", &[]);
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (shard, bytes) in [(0, &mut first), (1, &mut last)] {
        // Another value in this shard; the original in the other.
        let folder = sharded(|shards, _| {
            let original = shards[place(shards)][name].clone();
            shards[1 - shard].insert(name.into(), original.clone());
            *bytes = other(&original.1);
            shards[shard].insert(name.into(), (original.0, bytes.clone()));
        });
        let warns = ["with other values, in `model-00002-of-00002.safetensors`"];
        if shard == 0 {
            same(folder.path(), &tiny("llama"), "llama", &warns);
        } else {
            let plain =
                changed("llama", |tensors, _| tensors.get_mut(name).unwrap().1 = bytes.clone());
            same(folder.path(), plain.path(), "llama", &warns);
        }
    }
}

#[test]
fn folders_without_weights_that_can_be_read_are_refused() {
    let folder = sharded(|_, listed| {
        listed.insert("x".into(), "model-00003-of-00003.safetensors".into());
    });
    refused(folder.path(), &["shard `model-00003-of-00003.safetensors` is missing"]);
    let folder =
        sharded(|_, listed| drop(listed.insert("x".into(), "../model.safetensors".into())));
    refused(folder.path(), &["shard `../model.safetensors` is missing"]);
    let folder = sharded(|_, listed| listed.clear());
    refused(folder.path(), &["lists no tensors", INDEX]);
    std::fs::write(folder.path().join(INDEX), "{\"weight_map\": 3}").unwrap();
    refused(folder.path(), &["broken shard index"]);
    std::fs::remove_file(folder.path().join(INDEX)).unwrap();
    refused(folder.path(), &["the weight file is missing"]);
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    refused(folder.path(), &["pickled", "safe_serialization=True"]);
    let folder = copy_of("llama");
    let adapter = tiny("llama/adapter-token").join("adapter_config.json");
    std::fs::copy(adapter, folder.path().join("adapter_config.json")).unwrap();
    refused(folder.path(), &["a model and an adapter", "`--adapter`"]);
    let config =
        changed("llama", |_, config| config["transformers_weights"] = "other.safetensors".into());
    assert_eq!(open(config.path()).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn the_base_models_own_names_are_as_good_in_every_family() {
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let strip = |key: &String| {
            let prefixes = ["model.", "transformer.", "gpt_neox."];
            prefixes.iter().find_map(|p| key.strip_prefix(p)).unwrap_or(key).to_owned()
        };
        let bare = changed(&name, |tensors, _| {
            *tensors = std::mem::take(tensors).into_iter().map(|(k, t)| (strip(&k), t)).collect();
        });
        let model = same(bare.path(), &folder, &name, &[]);
        let full: Vec<String> = open(&folder).unwrap().export().into_iter().map(|t| t.0).collect();
        assert_eq!(model.export().into_iter().map(|t| t.0).collect::<Vec<_>>(), full);
        // Tensor by tensor.
        let some = changed(&name, |tensors, _| {
            let (key, tensor) = tensors.pop_last().unwrap();
            tensors.insert(strip(&key), tensor);
        });
        same(some.path(), &folder, &name, &[]);
    }
}

#[test]
fn names_that_are_double_or_strange_are_refused() {
    let both = changed("llama", |tensors, _| {
        let norm = tensors["model.norm.weight"].clone();
        tensors.insert("norm.weight".into(), norm);
    });
    refused(both.path(), &["`model.norm.weight` and `norm.weight`"]);
    let wrapped = changed("gemma3_text", |tensors, _| {
        let all = std::mem::take(tensors).into_iter();
        *tensors = all.map(|(k, t)| (format!("language_model.{k}"), t)).collect();
    });
    refused(wrapped.path(), &["is missing", "language_model.model.embed_tokens.weight"]);
    let more = changed("llama", |tensors, _| {
        let norm = tensors["model.norm.weight"].clone();
        tensors.insert("score.weight".into(), norm);
    });
    refused(more.path(), &["1 tensors have no place in the model, the first: score.weight"]);
    let newer = changed("gpt_neox", |tensors, _| {
        let head = tensors.remove("embed_out.weight").unwrap();
        tensors.insert("lm_head.weight".into(), head);
    });
    same(newer.path(), &tiny("gpt_neox"), "gpt_neox", &[]);
    let heads = changed("gpt_neox", |tensors, _| {
        let head = tensors["embed_out.weight"].clone();
        tensors.insert("lm_head.weight".into(), head);
    });
    refused(heads.path(), &["`embed_out.weight` and `lm_head.weight`"]);
    let buffers = changed("gpt2", |tensors, _| {
        let norm = tensors["transformer.ln_f.weight"].clone();
        tensors.insert("transformer.h.0.attn.bias".into(), norm.clone());
        tensors.insert("h.1.attn.masked_bias".into(), norm);
    });
    same(buffers.path(), &tiny("gpt2"), "gpt2", &[]);
}

/// The name of a fixture's embedding.
fn embedding(tensors: &Tensors) -> String {
    let ends = ["embed_tokens.weight", "wte.weight"];
    tensors.keys().find(|key| ends.iter().any(|end| key.ends_with(end))).unwrap().clone()
}

#[test]
fn a_head_of_its_own_is_used_though_the_settings_tie_it() {
    for name in ["llama-tied-rope-llama3", "gemma3_text", "qwen2", "gpt2"] {
        let own = |tie: bool| {
            changed(name, |tensors, config| {
                let (shape, bytes) = tensors[&embedding(tensors)].clone();
                tensors.insert("lm_head.weight".into(), (shape, other(&bytes)));
                config["tie_word_embeddings"] = tie.into();
            })
        };
        let (tied, untied) = (own(true), own(false));
        let says = ["`lm_head.weight` has other values"];
        let model = same(tied.path(), untied.path(), name, &says);
        let plain = open(&tiny(name)).unwrap();
        assert!(apart(&log_probs(&model, name), &log_probs(&plain, name)) > 1e-2, "{name}");
        assert!(!model.config().tie_word_embeddings);
        assert!(model.export().iter().any(|(key, _)| key == "lm_head.weight"));
        let equal = changed(name, |tensors, config| {
            let head = tensors[&embedding(tensors)].clone();
            tensors.insert("lm_head.weight".into(), head);
            config["tie_word_embeddings"] = true.into();
        });
        assert!(same(equal.path(), &tiny(name), name, &[]).config().tie_word_embeddings);
        let swapped = changed(name, |tensors, _| {
            let table = tensors.remove(&embedding(tensors)).unwrap();
            tensors.insert("lm_head.weight".into(), table);
        });
        same(swapped.path(), &tiny(name), name, &[]);
    }
    let none = changed("llama", |tensors, _| drop(tensors.remove("lm_head.weight")));
    refused(none.path(), &["tensor `lm_head.weight` is missing"]);
    // Without the key: llama's default is not to tie, gpt2's is.
    let absent = |tensors: &mut Tensors, config: &mut Value| {
        config.as_object_mut().unwrap().remove("tie_word_embeddings");
        tensors.remove("lm_head.weight");
    };
    refused(changed("llama", absent).path(), &["tensor `lm_head.weight` is missing"]);
    same(changed("gpt2", absent).path(), &tiny("gpt2"), "gpt2", &[]);
    let wrong = changed("llama-tied-rope-llama3", |tensors, _| {
        let row = tensors[&embedding(tensors)].1[..256].to_vec();
        tensors.insert("lm_head.weight".into(), (vec![1, 64], row));
    });
    refused(wrong.path(), &["`lm_head.weight` has shape [1, 64], expected [384, 64]"]);
}

/// What is saved of such a model keeps the head, and says so.
#[test]
fn a_merged_model_keeps_its_own_head() {
    let place = Place::new();
    let model = changed("llama", |_, config| config["tie_word_embeddings"] = true.into());
    let adapter = tiny("llama/adapter-token");
    let paths = [model.path(), adapter.as_path()].map(|path| path.display().to_string());
    let out = place.path("merged");
    let args = ["merge", "--model", &paths[0], "--adapter", &paths[1], "--out", &out];
    let output = w2s(&args);
    assert!(output.status.success());
    has(&text(&output.stderr), &["warning: `tie_word_embeddings` is true", "both are used"]);
    let mut adapted = open(&tiny("llama")).unwrap();
    adapted.attach(&Adapter::open(&adapter).unwrap()).unwrap();
    let merged = open(Path::new(&out)).unwrap();
    assert!(apart(&log_probs(&merged, "llama"), &log_probs(&adapted, "llama")) < 1e-5);
    assert!(merged.config().warnings.is_empty());
    let config: Value = serde_json::from_str(&place.read("merged/config.json")).unwrap();
    assert_eq!(config["tie_word_embeddings"], false);
}

const QUESTION: &str = r#"{"id": "0", "prompt": "Question: What is the capital of France?\nClaim: The capital of France is Paris.\nI think this claim is ", "labels": ["True", "False"]}"#;

/// The numbers are peft 0.21.2's on transformers 5.23.0 in f32, with a look-ahead in `alpha_pattern`.
#[test]
fn an_alpha_behind_a_look_ahead_is_found_as_peft_finds_it() {
    let place = Place::new();
    let from = tiny("llama/adapter-look-ahead");
    let weights = "adapter_model.safetensors";
    std::fs::create_dir(place.path("adapter")).unwrap();
    let config = std::fs::read(from.join("adapter_config.json")).unwrap();
    place.write("adapter/adapter_config.json", config);
    let input = place.write("in.jsonl", QUESTION);
    let model = tiny("llama").display().to_string();
    let score = |adapter: &str| -> Vec<f64> {
        let args = ["score", "--model", &model, "--adapter", adapter, "--input", &input];
        let line: Value = serde_json::from_str(&good(&args)).unwrap();
        ["True", "False"].map(|label| line["logprobs"][label].as_f64().unwrap()).to_vec()
    };
    let found = score(&from.display().to_string());
    for (value, expected) in found.iter().zip([-17.6577, -17.6237]) {
        assert!((value - expected).abs() < TOLERANCE, "{found:?}");
    }
    // The same tensors under the names they have in a model with the adapter.
    let plain = read(&from.join(weights));
    let named: Tensors = plain
        .iter()
        .map(|(name, tensor)| (name.replace(".weight", ".default.weight"), tensor.clone()))
        .collect();
    let path = place.path("adapter/adapter_model.safetensors");
    write(Path::new(&path), &named);
    assert_eq!(score(&place.path("adapter")), found);
    write(Path::new(&path), &named.into_iter().chain(plain).collect());
    let error = Adapter::open(Path::new(&place.path("adapter"))).unwrap_err();
    assert!(error.message().contains("a second time"), "{error}");
}
