//! The training whose numbers peft gives, for the tests and for the check on a GPU.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use w2s::error::{Error, ErrorKind, Result};
use w2s::lm::{Adapter, AdapterConfig, Decoder, TargetModules};
use w2s::run::SeedStream;
use w2s::train::{Answer, Item, Normalise, Parameter, TrainSettings};

/// `train_golden.json`, made with peft 0.21.2, transformers 5.23.0 and torch 2.11.0.
#[derive(Deserialize)]
pub struct TrainGolden {
    data: Vec<GoldenItem>,
    /// By the name of the normalisation.
    pub runs: BTreeMap<String, GoldenRun>,
}

#[derive(Deserialize)]
struct GoldenItem {
    weight: f64,
    prompt_ids: Vec<u32>,
    completion_ids_with_eos: Vec<u32>,
}

#[derive(Deserialize)]
pub struct GoldenRun {
    pub loss: Vec<f64>,
    pub grad_norm_before_clip: Vec<f64>,
}

pub const NORMALISATIONS: [(&str, Normalise); 4] = [
    ("reference", Normalise::Reference),
    ("token", Normalise::Token),
    ("weighted", Normalise::Weighted),
    ("sequence", Normalise::Sequence),
];

pub fn item(id: &str, ids: &[u32], begin: usize, weight: f64) -> Item {
    let answers = vec![Answer { ids: ids.to_vec(), begin, share: 1.0 }];
    Item { id: id.into(), group: id.into(), answers, weight }
}

/// Returns the numbers of a fixture folder and what was trained on.
pub fn golden_items(folder: &Path) -> Result<(TrainGolden, Vec<Item>)> {
    let path = folder.join("train_golden.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
    let golden: TrainGolden = serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Data, format!("not golden numbers: {e}")).at(&path))?;
    let items = golden.data.iter().enumerate().map(|(i, row)| {
        let ids = [row.prompt_ids.as_slice(), &row.completion_ids_with_eos].concat();
        item(&i.to_string(), &ids, row.prompt_ids.len(), row.weight)
    });
    let items = items.collect();
    Ok((golden, items))
}

/// `A` of the golden run: 0.1 sin(0.37 i + 0.11) over the flat index; `B` is zero.
pub fn golden_start(name: &str, shape: &[i64]) -> Tensor {
    let num: i64 = shape.iter().product();
    let scale = if name.contains("lora_A") { 0.1 } else { 0.0 };
    let index = Tensor::arange(num, (Kind::Double, Device::Cpu));
    ((index * 0.37 + 0.11).sin() * scale).to_kind(Kind::Float).view(shape)
}

pub fn golden_settings(normalise: Normalise) -> TrainSettings {
    TrainSettings {
        normalise,
        batch_size: 4,
        num_epochs: 6,
        lr: 5e-3,
        weight_decay: 0.01,
        dropout: 0.0,
        ..TrainSettings::default()
    }
}

pub fn q_and_v() -> TargetModules {
    TargetModules::Names(vec!["q_proj".into(), "v_proj".into()])
}

/// The adapter of the golden run, on other modules if asked to.
pub fn config(target_modules: TargetModules) -> AdapterConfig {
    AdapterConfig { r: 4, alpha: 8.0, dropout: 0.0, target_modules, ..AdapterConfig::default() }
}

/// Returns `decoder` with an adapter that trains, whose tensors hold what `fill` says of name and
/// shape.
pub fn with_adapter(
    mut decoder: Decoder,
    config: AdapterConfig,
    fill: impl Fn(&str, &[i64]) -> Tensor,
) -> Result<(Decoder, Adapter)> {
    let adapter = Adapter::new(config, &mut decoder, SeedStream::new(0))?.trainable(&decoder)?;
    let no_grad = tch::no_grad_guard();
    for (name, tensor) in adapter.tensors() {
        tensor.detach().copy_(&fill(&name, &tensor.size()));
    }
    drop(no_grad);
    decoder.attach(&adapter)?;
    Ok((decoder, adapter))
}

pub fn parameters(adapter: &Adapter) -> Vec<Parameter> {
    let named = adapter.tensors().into_iter();
    named.map(|(name, tensor)| Parameter { name, tensor, decays: true }).collect()
}
