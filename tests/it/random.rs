//! Random weights: a model of any family's shape without a checkpoint.

use tch::{Device, Kind, Tensor};
use w2s::error::ErrorKind;
use w2s::lm::{Checkpoint, Decoder, LmConfig, NewTokens};

use crate::common::{chain, copy_of, project, tiny};
use crate::golden::fixtures;

const IDS: [u32; 6] = [5, 80, 7, 300, 7, 11];

fn config(name: &str) -> LmConfig {
    LmConfig::read(&tiny(name).join("config.json")).unwrap()
}

fn log_probs(model: &Decoder) -> Tensor {
    let new = NewTokens { ids: &IDS, parents: &chain(IDS.len()) };
    model.log_probs(&model.forward(new, &mut model.new_cache()).unwrap())
}

#[test]
fn every_family_gives_distributions_that_the_seed_decides() {
    let _no_grad = tch::no_grad_guard();
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        for kind in [Kind::Float, Kind::BFloat16] {
            let model = |seed| Decoder::random(config(&name), Device::Cpu, kind, seed).unwrap();
            let (one, same, other) = (model(1), model(1), model(2));
            assert_eq!(one.kind(), kind);
            let [one, same, other] = [&one, &same, &other].map(log_probs);
            assert_eq!(one.isfinite().all().int64_value(&[]), 1, "{name}");
            let sums: Vec<f64> =
                Vec::try_from(one.exp().sum_dim_intlist(-1_i64, false, Kind::Double)).unwrap();
            assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{name}: {sums:?}");
            assert_eq!(one, same, "{name}");
            assert_ne!(one, other, "{name}");
        }
    }
}

#[test]
fn tensors_have_the_distribution_asked_for_in_any_order() {
    let source = || Checkpoint::random(&config("gpt_neox"), Device::Cpu, Kind::Float, 7);
    let mut first = source();
    let a = first.take("a.weight", &[400, 500]).unwrap();
    let b = first.take("b.weight", &[400, 500]).unwrap();
    assert_ne!(a, b);
    let mut second = source();
    assert_eq!(second.take("b.weight", &[400, 500]).unwrap(), b);
    assert_eq!(second.take("a.weight", &[400, 500]).unwrap(), a);
    // 200,000 draws: the mean is within 5 of its standard errors (0.02 / 447), the deviation too.
    assert!(a.mean(Kind::Double).double_value(&[]).abs() < 5.0 * 0.02 / 447.0);
    assert!((a.std(true).double_value(&[]) - 0.02).abs() < 5.0 * 0.02 / 632.0);
    let ones = Tensor::ones([8], (Kind::Float, Device::Cpu));
    assert_eq!(second.take("norm.weight", &[8]).unwrap(), ones);
    assert_eq!(second.take("norm.bias", &[8]).unwrap(), ones.zeros_like());
    // Gemma multiplies by 1 + weight.
    let mut gemma = Checkpoint::random(&config("gemma3_text"), Device::Cpu, Kind::Float, 7);
    assert_eq!(gemma.take("norm.weight", &[8]).unwrap(), ones.zeros_like());
}

#[test]
fn a_folder_may_ask_for_random_weights() {
    let folder = copy_of("llama");
    let path = folder.path();
    let load = || Decoder::load(path, Device::Cpu, Kind::Float);
    std::fs::write(path.join("random_weights.json"), r#"{"seed": 3}"#).unwrap();
    let error = load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert!(error.to_string().contains("beside `model.safetensors`"), "{error}");

    std::fs::remove_file(path.join("model.safetensors")).unwrap();
    let plain = Decoder::random(config("llama"), Device::Cpu, Kind::Float, 3).unwrap();
    let _no_grad = tch::no_grad_guard();
    assert_eq!(log_probs(&load().unwrap()), log_probs(&plain));

    for bad in ["", "3", r#"{"seed": -1}"#, r#"{"seed": 3, "std": 1}"#] {
        std::fs::write(path.join("random_weights.json"), bad).unwrap();
        let error = load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checkpoint, "{bad}");
        assert!(error.to_string().contains("random_weights.json"), "{error}");
    }
}
