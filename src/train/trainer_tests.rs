//! Training where memory runs out, and of all weights in bf16.

use std::path::Path;

use tch::{Device, Kind};

use crate::error::{ErrorKind, Result};
use crate::lm::Decoder;
use crate::run::SeedStream;
use crate::score::Halved;
use crate::train::{Answer, Item, Parameter, StepReport, TrainSettings, Trainer};

fn items() -> Vec<Item> {
    let item = |i: usize| {
        let len = 14 + i % 3;
        let ids = (0..len).map(|t| (5 + (i * 31 + t * 7) % 200) as u32).collect();
        let answers = vec![Answer { ids, begin: 4, share: 1.0 }];
        Item { id: i.to_string(), group: i.to_string(), answers, weight: 1.0 }
    };
    (0..12).map(item).collect()
}

/// Returns the reports and weights of two steps, and what became of passes.
fn trained(
    pass_tokens: usize,
    room: Option<usize>,
) -> Result<(Vec<StepReport>, Vec<f64>, Option<Halved>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
    let mut decoder = Decoder::load(&folder, Device::Cpu, Kind::Float)?;
    let own = decoder.train_all()?;
    let parameters = own.iter().map(|own| Parameter {
        name: own.name.clone(),
        tensor: own.tensor.shallow_clone(),
        decays: own.decays,
    });
    let (parameters, items) = (parameters.collect(), items());
    let settings =
        TrainSettings { batch_size: 6, num_epochs: 1, pass_tokens, ..TrainSettings::default() };
    let streams = SeedStream::new(1);
    let mut trainer = Trainer::new(&decoder, parameters, &items, settings, streams)?;
    trainer.room = room;
    let reports = vec![trainer.step()?, trainer.step()?];
    let halved = trainer.take_halved();
    assert!(trainer.take_halved().is_none());
    let sums = own.iter().map(|own| own.tensor.sum(Kind::Double).double_value(&[])).collect();
    Ok((reports, sums, halved))
}

#[test]
fn a_batch_that_finds_no_memory_is_run_again_in_smaller_passes() {
    // Passes of up to five sequences of 13 to 15 tokens; there is room for three.
    let (reports, weights, halved) = trained(80, Some(45)).unwrap();
    let halved = halved.unwrap();
    assert!(halved.from > 45 && halved.to == halved.from / 2, "{halved:?}");
    // What the pass before the one that failed had added is gone: to the bit the steps of a
    // training that began with such passes.
    let (expected, expected_weights, never) = trained(halved.to, None).unwrap();
    assert_eq!((reports, weights), (expected, expected_weights));
    assert!(never.is_none());
}

#[test]
fn all_weights_train_beside_bf16_in_f32() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/llama");
    let items = items();
    let losses = |kind: Kind, lr: f64| {
        let mut decoder = Decoder::load(&folder, Device::Cpu, kind).unwrap();
        let own = decoder.train_all().unwrap();
        let before: Vec<tch::Tensor> = own.iter().map(|o| o.tensor.detach().copy()).collect();
        let exported = decoder.export();
        let parameters = own.iter().map(|own| Parameter {
            name: own.name.clone(),
            tensor: own.tensor.shallow_clone(),
            decays: own.decays,
        });
        let settings = TrainSettings { batch_size: 12, num_epochs: 8, lr, ..Default::default() };
        let streams = SeedStream::new(1);
        let mut trainer =
            Trainer::new(&decoder, parameters.collect(), &items, settings, streams).unwrap();
        let losses: Vec<f64> = (0..8).map(|_| trainer.step().unwrap().loss).collect();
        assert!(own.iter().all(|own| own.tensor.kind() == Kind::Float));
        let after = decoder.export();
        assert!(after.iter().all(|(_, tensor)| tensor.kind() == kind));
        let moved = own
            .iter()
            .zip(&before)
            .all(|(own, before)| own.tensor.ne_tensor(before).any().int64_value(&[]) != 0);
        let exported_moved = exported.iter().zip(&after).filter(|(a, b)| a.1 != b.1).count();
        (losses, moved, exported_moved, after.len())
    };
    let (expected, ..) = losses(Kind::Float, 1e-3);
    let (found, moved, exported_moved, num) = losses(Kind::BFloat16, 1e-3);
    assert!(moved && exported_moved == num, "{exported_moved} of {num}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 2e-2 * expected, "{found} {expected}");
    }
    assert!(found[7] < found[0]);
    // Steps that bf16 would round away are kept.
    let (_, moved, exported_moved, _) = losses(Kind::BFloat16, 1e-7);
    assert!(moved && exported_moved < num, "{exported_moved} of {num}");
}

#[test]
fn one_sequence_without_memory_is_an_error() {
    let error = trained(80, Some(3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    let text = error.to_string();
    assert!(text.contains("no memory for a pass of") && text.contains("step 1"), "{text}");
}
