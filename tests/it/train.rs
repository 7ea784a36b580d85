//! Training: peft's numbers, and the laws that a loss and its gradient keep.

use std::path::Path;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use w2s::error::ErrorKind;
use w2s::lm::{Adapter, AdapterConfig, Decoder, TargetModules};
use w2s::run::SeedStream;
use w2s::train::{
    Answer, ClassLoss, Decay, Item, Loss, Normalise, Parameter, TrainSettings, Trainer,
};

use crate::common::{golden, model, project, tiny};
use crate::golden::{TOLERANCE, fixtures};
use crate::train_golden::{
    NORMALISATIONS, config, golden_items, golden_settings, golden_start, item, parameters, q_and_v,
    with_adapter,
};

pub fn waves(scale: f64) -> impl Fn(&str, &[i64]) -> Tensor {
    move |name, shape| {
        let num: i64 = shape.iter().product();
        let phase = 0.11 + name.len() as f64 * 0.7;
        let index = Tensor::arange(num, (Kind::Double, Device::Cpu));
        ((index * 0.37 + phase).sin() * scale).to_kind(Kind::Float).view(shape)
    }
}

/// The model of a folder with an adapter that trains.
fn adapted(
    folder: &Path,
    config: AdapterConfig,
    fill: impl Fn(&str, &[i64]) -> Tensor,
) -> (Decoder, Adapter) {
    let decoder = Decoder::load(folder, Device::Cpu, Kind::Float).unwrap();
    with_adapter(decoder, config, fill).unwrap()
}

fn largest(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn six_steps_are_those_of_peft_under_every_normalisation() {
    let (golden, items) = golden_items(&tiny("llama")).unwrap();
    for (name, normalise) in NORMALISATIONS {
        // The passes of a batch do not matter.
        for pass_tokens in [10_000, 30] {
            let (decoder, adapter) = adapted(&tiny("llama"), config(q_and_v()), golden_start);
            let settings = TrainSettings { pass_tokens, ..golden_settings(normalise) };
            let mut trainer =
                Trainer::new(&decoder, parameters(&adapter), &items, settings, SeedStream::new(3))
                    .unwrap();
            let run = &golden.runs[name];
            let mut worst = 0.0_f64;
            for (loss, norm) in run.loss.iter().zip(&run.grad_norm_before_clip) {
                let step = trainer.step().unwrap();
                worst = worst.max((step.loss - loss).abs()).max((step.grad_norm - norm).abs());
            }
            assert_eq!(trainer.step().unwrap_err().kind(), ErrorKind::Internal);
            println!("{name:<10} passes of {pass_tokens}: {worst:.1e}");
            assert!(worst < TOLERANCE, "{name}: {worst:e}");
            if name == "token" {
                let expected = Adapter::open(&tiny("llama/adapter-token")).unwrap();
                for ((name, ours), (_, theirs)) in adapter.tensors().iter().zip(expected.tensors())
                {
                    assert!(largest(ours, &theirs) < TOLERANCE, "{name}");
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct RealGolden {
    sequences: Vec<RealSequence>,
    loss_before_each_step: Vec<f64>,
    grad_norm_each_step: Vec<f64>,
    loss_after_last_step: f64,
}

#[derive(Deserialize)]
struct RealSequence {
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
}

/// Five LoRA steps on the packaged models; the numbers are peft's (`recipe` in the files).
#[test]
fn steps_on_real_models_are_those_of_peft() {
    for (folder, file) in [
        ("smollm2-135m-instruct", "smollm2-135m-instruct-lora-lr1e-3.json"),
        ("gemma-3-270m", "gemma3-270m-lora-lr1e-3.json"),
    ] {
        let path = project().join("tests/parity/real").join(file);
        let golden: RealGolden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let items: Vec<Item> = golden
            .sequences
            .iter()
            .enumerate()
            .map(|(i, s)| {
                let ids = [s.prompt_ids.as_slice(), &s.completion_ids].concat();
                item(&i.to_string(), &ids, s.prompt_ids.len(), 1.0)
            })
            .collect();
        let start = |name: &str, shape: &[i64]| {
            if name.contains("lora_B") {
                return Tensor::zeros(shape, (Kind::Float, Device::Cpu));
            }
            let layer: f64 = name.split('.').find_map(|part| part.parse().ok()).unwrap();
            let own = if name.contains("v_proj") { 0.5 } else { 0.0 };
            let count = |n| Tensor::arange(n, (Kind::Double, Device::Cpu));
            let r = count(shape[0]).unsqueeze(1) * 0.37;
            let c = count(shape[1]).unsqueeze(0) * 0.013;
            ((r + c + (1.0 + 0.11 * layer + own)).sin() * 0.02).to_kind(Kind::Float)
        };
        let config = AdapterConfig { r: 16, alpha: 32.0, ..config(q_and_v()) };
        let (decoder, adapter) = adapted(&model(folder), config, start);
        let settings = TrainSettings {
            batch_size: 4,
            num_epochs: 5,
            lr: 1e-3,
            decay: Decay::Constant,
            clip: None,
            dropout: 0.0,
            ..TrainSettings::default()
        };
        let mut trainer =
            Trainer::new(&decoder, parameters(&adapter), &items, settings, SeedStream::new(3))
                .unwrap();
        let mut worst = 0.0_f64;
        for (loss, norm) in golden.loss_before_each_step.iter().zip(&golden.grad_norm_each_step) {
            let step = trainer.step().unwrap();
            worst = worst.max((step.loss - loss).abs()).max((step.grad_norm - norm).abs() / norm);
        }
        worst = worst.max((trainer.evaluate(&items).unwrap() - golden.loss_after_last_step).abs());
        println!("{folder:<24} {worst:.1e}");
        assert!(worst < 1e-3, "{folder}: {worst:e}");
    }
}

/// The gradient of one step on `items`, tensor by tensor, with the loss.
fn gradient(
    decoder: &Decoder,
    adapter: &Adapter,
    items: &[Item],
    change: impl Fn(&mut TrainSettings),
) -> (f64, Vec<Tensor>, usize) {
    let mut settings = TrainSettings {
        batch_size: items.len(),
        num_epochs: 1,
        lr: 0.0,
        dropout: 0.0,
        clip: None,
        pass_tokens: 100_000,
        ..TrainSettings::default()
    };
    change(&mut settings);
    let streams = SeedStream::new(5);
    let mut trainer = Trainer::new(decoder, parameters(adapter), items, settings, streams).unwrap();
    let report = trainer.step().unwrap();
    let grads = adapter.tensors().iter().map(|(_, t)| t.grad().copy()).collect();
    (report.loss, grads, report.num_tokens)
}

fn apart(a: &[Tensor], b: &[Tensor]) -> f64 {
    a.iter().zip(b).map(|(a, b)| largest(a, b)).fold(0.0, f64::max)
}

/// Two questions with variants that share beginnings of different lengths, and a lone one.
pub fn variants(folder: &Path) -> Vec<(u32, Vec<u32>, usize)> {
    let long = golden(folder)[0].ids.clone();
    let num = long.len();
    let with = |keep: usize, more: &[u32]| [&long[..keep], more].concat();
    vec![
        (0, with(num, &[5, 7]), num),
        (0, with(num, &[9]), num),
        (0, with(num - 4, &[11, 12, 13]), num - 2),
        (1, with(6, &[21, 22, 23, 24]), 8),
        (1, with(3, &[21, 22, 23]), 5),
        (2, with(num, &[3]), num - 5),
    ]
}

/// Shared beginnings are run once; the gradient is that of separate sequences (1e-4), in every
/// family, in one pass or several, with blocks recomputed or kept.
#[test]
fn a_tree_of_variants_has_the_gradient_of_separate_sequences() {
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let (decoder, adapter) = adapted(&folder, config(TargetModules::AllLinear), waves(0.05));
        let rows = variants(&folder);
        let make = |together: bool| -> Vec<Item> {
            let id = |i: usize, unit: u32| if together { unit } else { 100 + i as u32 };
            rows.iter()
                .enumerate()
                .map(|(i, (unit, ids, begin))| {
                    item(&id(i, *unit).to_string(), ids, *begin, 0.5 + i as f64 * 0.1)
                })
                .collect()
        };
        let (loss, separate, num_separate) = gradient(&decoder, &adapter, &make(false), |_| ());
        let (tree_loss, tree, num_tree) = gradient(&decoder, &adapter, &make(true), |_| ());
        assert!(num_tree * 3 < num_separate * 2, "{name}: {num_tree} of {num_separate} tokens");
        let size = separate.iter().map(|g| g.abs().max().double_value(&[])).fold(0.0, f64::max);
        println!("{name:<24} tree {:.1e} of {size:.1e}", apart(&separate, &tree));
        assert!(size > 1e-3, "{name}: no gradient");
        assert!((loss - tree_loss).abs() < 1e-5, "{name}");
        assert!(apart(&separate, &tree) < TOLERANCE, "{name}");
        type Change = fn(&mut TrainSettings);
        let others: [(&str, Change); 3] = [
            ("recomputed", |s| s.recompute = true),
            ("a pass each", |s| s.pass_tokens = 1),
            ("two sequences a pass", |s| s.pass_sequences = 2),
        ];
        for (what, change) in others {
            let (_, other, _) = gradient(&decoder, &adapter, &make(true), change);
            assert!(apart(&separate, &other) < TOLERANCE, "{name}: {what}");
        }
    }
}

/// The slope of the loss along the gradient, by differences of the loss itself.
#[test]
fn the_gradient_is_the_slope_of_the_loss_in_every_family() {
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let (decoder, adapter) = adapted(&folder, config(TargetModules::AllLinear), waves(0.05));
        let items: Vec<Item> = variants(&folder)
            .iter()
            .map(|(unit, ids, begin)| item(&unit.to_string(), ids, *begin, 1.0))
            .collect();
        let (_, grads, _) = gradient(&decoder, &adapter, &items, |_| ());
        let square: f64 =
            grads.iter().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum();
        let length = 5e-3 / square.sqrt();
        let moved = |by: f64| {
            let _no_grad = tch::no_grad_guard();
            for ((_, tensor), grad) in adapter.tensors().iter().zip(&grads) {
                let _ = tensor.detach().g_add_(&(grad * by));
            }
        };
        let loss = || gradient(&decoder, &adapter, &items, |_| ()).0;
        moved(length);
        let above = loss();
        moved(-2.0 * length);
        let below = loss();
        let slope = (above - below) / (2.0 * length);
        println!("{name:<24} slope {slope:.6}, gradient {square:.6}");
        assert!((slope - square).abs() < 5e-3 * square, "{name}: {slope} is not {square}");
    }
}

/// The same for all weights, of which shared tokens and tied heads have one gradient.
#[test]
fn the_gradient_of_all_weights_is_the_slope_of_the_loss_in_every_family() {
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let mut decoder = Decoder::load(&folder, Device::Cpu, Kind::Float).unwrap();
        let own = decoder.train_all().unwrap();
        let items = |together: bool| -> Vec<Item> {
            let rows = variants(&folder).into_iter().enumerate();
            rows.map(|(i, (unit, ids, begin))| {
                let id = if together { unit } else { 100 + i as u32 };
                item(&id.to_string(), &ids, begin, 1.0)
            })
            .collect()
        };
        let run = |items: &[Item], recompute| {
            let parameters = own.iter().map(|own| Parameter {
                name: own.name.clone(),
                tensor: own.tensor.shallow_clone(),
                decays: own.decays,
            });
            let settings = TrainSettings {
                num_epochs: 1,
                lr: 0.0,
                dropout: 0.0,
                clip: None,
                recompute,
                pass_tokens: 100_000,
                ..TrainSettings::default()
            };
            let streams = SeedStream::new(5);
            let mut trainer =
                Trainer::new(&decoder, parameters.collect(), items, settings, streams).unwrap();
            let loss = trainer.step().unwrap().loss;
            (loss, own.iter().map(|own| own.tensor.grad().copy()).collect::<Vec<_>>())
        };
        let (_, grads) = run(&items(true), false);
        for (other, what) in
            [(run(&items(false), false), "separate"), (run(&items(true), true), "again")]
        {
            assert!(apart(&grads, &other.1) < TOLERANCE, "{name}: {what}");
        }
        let square: f64 =
            grads.iter().map(|g| g.square().sum(Kind::Double).double_value(&[])).sum();
        let length = 2e-3 / square.sqrt();
        let moved = |by: f64| {
            let _no_grad = tch::no_grad_guard();
            for (own, grad) in own.iter().zip(&grads) {
                let _ = own.tensor.detach().g_add_(&(grad * by));
            }
        };
        moved(length);
        let above = run(&items(true), false).0;
        moved(-2.0 * length);
        let below = run(&items(true), false).0;
        let slope = (above - below) / (2.0 * length);
        println!("{name:<24} slope {slope:.6}, gradient {square:.6}");
        assert!((slope - square).abs() < 1e-2 * square, "{name}: {slope} is not {square}");
    }
}

/// What is dropped depends on the item and not on the pass: gradients agree however a batch is cut.
#[test]
fn dropout_is_the_same_however_a_batch_is_cut() {
    let folder = tiny("llama");
    let (decoder, adapter) = adapted(&folder, config(TargetModules::AllLinear), waves(0.05));
    let (_, items) = golden_items(&tiny("llama")).unwrap();
    let grad = |change: &dyn Fn(&mut TrainSettings)| {
        gradient(&decoder, &adapter, &items, |s| {
            s.dropout = 0.3;
            change(s);
        })
    };
    let (loss, whole, _) = grad(&|_| ());
    let (again, repeated, _) = grad(&|_| ());
    assert_eq!((loss, apart(&whole, &repeated)), (again, 0.0));
    for change in
        [(&|s: &mut TrainSettings| s.pass_sequences = 1) as &dyn Fn(&mut TrainSettings), &|s| {
            s.recompute = true
        }]
    {
        let (cut_loss, cut, _) = grad(change);
        assert!((cut_loss - loss).abs() < 1e-5 && apart(&whole, &cut) < TOLERANCE);
    }
    let (plain, _, _) = gradient(&decoder, &adapter, &items, |_| ());
    assert!((plain - loss).abs() > 1e-4, "nothing is dropped");
}

/// Losses over labels: kl less xent is the weak entropy, which has no gradient; the loss over a batch
/// in one pass is that in several, also where the target is made of the batch.
#[test]
fn losses_over_labels_do_not_depend_on_passes() {
    let (decoder, adapter) = adapted(&tiny("llama"), config(q_and_v()), waves(0.1));
    let prompt = golden(&tiny("llama"))[0].ids.clone();
    let items: Vec<Item> = [0.9, 0.3, 0.6, 0.5, 0.2]
        .iter()
        .enumerate()
        .map(|(i, &share)| {
            let prompt = &prompt[..prompt.len() - 2 * i];
            let answer = |more: &[u32], share| Answer {
                ids: [prompt, more].concat(),
                begin: prompt.len(),
                share,
            };
            Item {
                id: i.to_string(),
                group: i.to_string(),
                answers: vec![answer(&[54, 295], share), answer(&[40], 1.0 - share)],
                weight: 1.0 + i as f64,
            }
        })
        .collect();
    let of = |class, pass_sequences| {
        let (loss, grads, _) = gradient(&decoder, &adapter, &items, |s| {
            s.loss = Loss::Class(class);
            s.pass_sequences = pass_sequences;
        });
        (loss, grads)
    };
    let xent = of(ClassLoss::Xent, 100);
    let kl = of(ClassLoss::Kl, 100);
    let entropy: f64 = items
        .iter()
        .map(|item| {
            let h: f64 = item.answers.iter().map(|a| -a.share * a.share.ln()).sum();
            h * item.weight / 5.0
        })
        .sum();
    assert!((xent.0 - kl.0 - entropy).abs() < 1e-6);
    assert!(apart(&xent.1, &kl.1) < 1e-6);
    for class in [
        ClassLoss::Xent,
        ClassLoss::Product { alpha: 1.0, beta: 1.0 },
        ClassLoss::Logconf { aux: 0.5, warmup: 0.0, published: false },
        ClassLoss::Entropy { aux: 0.5, warmup: 0.0 },
    ] {
        let (whole, cut) = (of(class, 100), of(class, 2));
        assert!((whole.0 - cut.0).abs() < 1e-5, "{class:?}");
        assert!(apart(&whole.1, &cut.1) < TOLERANCE, "{class:?}");
        assert!(class == ClassLoss::Xent || (whole.0 - xent.0).abs() > 1e-4, "{class:?}");
    }
}

#[test]
fn a_step_that_is_not_finite_is_not_made_and_names_its_batch() {
    let (decoder, adapter) = adapted(&tiny("llama"), config(q_and_v()), golden_start);
    let (_, mut items) = golden_items(&tiny("llama")).unwrap();
    items[2].weight = f64::NAN;
    let settings = TrainSettings { batch_size: 1, ..golden_settings(Normalise::Sequence) };
    let mut trainer =
        Trainer::new(&decoder, parameters(&adapter), &items, settings, SeedStream::new(1)).unwrap();
    let error = loop {
        match trainer.step() {
            Ok(_) => (),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Numeric);
    assert!(error.message().contains("in the batch of 1 items `2`"), "{error}");
    for (name, tensor) in adapter.tensors() {
        assert_eq!(tensor.isfinite().all().int64_value(&[]), 1, "{name}");
    }
}
