//! Models whose blocks lie on several devices. On a machine without a GPU all of these are the CPU:
//! the plan, and that a model in parts computes what it does in one.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use safetensors::SafeTensors;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::error::ErrorKind;
use w2s::lm::{
    Decoder, DeviceChoice, DtypeChoice, LmConfig, NewTokens, PartBytes, Placement, TargetModules,
    resolve_device,
};
use w2s::run::SeedStream;
use w2s::train::{Item, Parameter, TrainSettings, Trainer};

use crate::cli::{Place, good, strs, text, w2s};
use crate::common::{chain, golden, project, tiny};
use crate::golden::fixtures;
use crate::train::{variants, waves};
use crate::train_golden::{config, item, parameters, with_adapter};
use crate::train_runs::train;

fn gpus(num: usize) -> Vec<Device> {
    (0..num).map(Device::Cuda).collect()
}

/// Worked by hand: shares are loads over room.
#[test]
fn blocks_go_where_the_fullest_device_is_least_full() {
    let split = |before, blocks: &[u64], after, room: &[u64]| {
        let parts = PartBytes { before, blocks: blocks.to_vec(), after };
        parts.split(&gpus(room.len()), room).unwrap()
    };
    // 10 + 20 and 20 + 10 of 100.
    assert_eq!(split(10, &[10; 4], 10, &[100, 100]), [2, 2]);
    // Two thirds of the memory, two thirds of the blocks; every byte is taken.
    assert_eq!(split(0, &[10; 6], 0, &[20, 40]), [2, 4]);
    // 120 in all, 40 each; the embedding counts as three blocks.
    assert_eq!(split(30, &[10; 9], 0, &[60, 60, 60]), [1, 4, 4]);
    // A tied head stays with the embedding.
    assert_eq!(split(40, &[10; 6], 0, &[100, 100]), [1, 5]);
    // Blocks of different sizes: 30 + 10, 40, and 10 + 10 + 20.
    assert_eq!(split(30, &[10, 40, 10, 10], 20, &[50, 50, 50]), [1, 1, 2]);
    // The fullest has the large block whatever the others do; they are alike.
    assert_eq!(split(0, &[60, 10, 10, 10, 10], 0, &[100, 100, 100]), [1, 2, 2]);
    // A device too small for any block has none.
    assert_eq!(split(0, &[10; 4], 0, &[5, 40]), [0, 4]);
    assert_eq!(split(5, &[10; 4], 5, &[50]), [4]);
}

#[test]
fn what_does_not_fit_says_how_much_is_missing() {
    let mib = |num: u64| num << 20;
    let fails = |before, blocks: &[u64], room: &[u64], parts: &[&str]| {
        let blocks = blocks.iter().copied().map(mib).collect();
        let weights = PartBytes { before: mib(before), blocks, after: 0 };
        let room: Vec<u64> = room.iter().copied().map(mib).collect();
        let error = weights.split(&gpus(room.len()), &room).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device);
        let said = error.to_string();
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in:\n{said}");
        }
    };
    fails(
        0,
        &[10, 50, 10],
        &[40, 40],
        &[
            "block 2 of the model takes 50.0 MiB by itself",
            "more than 40.0 MiB",
            "10.0 MiB are missing",
        ],
    );
    // 30 + 10 + 10 on the first of 40, or 10 more on the second: either way 10 too much.
    fails(
        30,
        &[10, 10, 10, 10, 10, 10],
        &[40, 40],
        &[
            "`cuda:1` would hold 50.0 MiB",
            "40.0 MiB free: 10.0 MiB are missing",
            "90.0 MiB and 80.0 MiB are free",
        ],
    );
    fails(3000, &[10], &[2000], &["`cuda:0` would hold 2.94 GiB", "1010.0 MiB are missing"]);
}

/// The parts weigh what the tensors of the file do, in every family.
#[test]
fn parts_weigh_what_their_tensors_do() {
    let of_block = Regex::new(r"(?:layers|h)\.(\d+)\.").unwrap();
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (mut blocks, mut rest) = (BTreeMap::<usize, u64>::new(), 0);
        for (name, view) in file.iter() {
            let bytes = 4 * view.shape().iter().product::<usize>() as u64;
            match of_block.captures(name) {
                Some(found) => *blocks.entry(found[1].parse().unwrap()).or_default() += bytes,
                None => rest += bytes,
            }
        }
        let config = LmConfig::read(&folder.join("config.json")).unwrap();
        let parts = PartBytes::of(&config, Kind::Float);
        let name = folder.display();
        assert_eq!(parts.blocks, blocks.into_values().collect::<Vec<_>>(), "{name}");
        assert_eq!(parts.before + parts.after, rest, "{name}");
        assert_eq!(parts.after == 0, config.tie_word_embeddings, "{name}");
        let half = PartBytes::of(&config, Kind::BFloat16);
        assert_eq!(2 * half.total(), parts.total(), "{name}");
    }
}

fn placed(folder: &Path, counts: &[usize]) -> Decoder {
    let stages = counts.iter().map(|&num| (Device::Cpu, num)).collect();
    Decoder::load_placed(folder, Placement::new(stages), Kind::Float).unwrap()
}

/// One block, none, and the others; and a last device without a block.
fn counts(num: usize) -> [Vec<usize>; 3] {
    [vec![num], vec![1, 0, num - 1], vec![num - 1, 1, 0]]
}

/// Log-probabilities of a tree behind a path, and of a batch of continuations.
fn answers(model: &Decoder, ids: &[u32]) -> Vec<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let mut cache = model.new_cache();
    let (path, tree) = ids.split_at(ids.len() / 2);
    let first = model.forward(NewTokens { ids: path, parents: &chain(path.len()) }, &mut cache);
    let parents: Vec<Option<usize>> =
        (0..tree.len()).map(|i| i.checked_sub(1 + usize::from(i % 3 == 2))).collect();
    let second = model.forward(NewTokens { ids: tree, parents: &parents }, &mut cache).unwrap();
    let mut batch = w2s::lm::BatchCache::new(&cache, &[path.len(), path.len() - 1], 3);
    batch.fill(0, &cache, &(0..path.len()).collect::<Vec<_>>());
    batch.fill(1, &cache, &(0..path.len() - 1).collect::<Vec<_>>());
    let third = model.step(&[ids[0], ids[1]], &mut batch).unwrap();
    batch.select(&[1]);
    let fourth = model.step(&[ids[2]], &mut batch).unwrap();
    [first.unwrap(), second, third, fourth].iter().map(|x_ld| model.log_probs(x_ld)).collect()
}

/// The loss and gradient of a step, with dropout, of an adapter on every module or of all weights.
fn gradient(
    mut model: Decoder,
    items: &[Item],
    full: bool,
    recompute: bool,
) -> (f64, f64, Vec<Tensor>) {
    let parameters = if full {
        let own = model.train_all().unwrap().into_iter();
        own.map(|own| Parameter { name: own.name, tensor: own.tensor, decays: own.decays })
            .collect()
    } else {
        let config = config(TargetModules::AllLinear);
        let (adapted, adapter) = with_adapter(model, config, waves(0.05)).unwrap();
        model = adapted;
        parameters(&adapter)
    };
    let trained: Vec<Tensor> = parameters.iter().map(|p| p.tensor.shallow_clone()).collect();
    let settings = TrainSettings {
        batch_size: items.len(),
        num_epochs: 1,
        dropout: if full { 0.0 } else { 0.2 },
        recompute,
        pass_tokens: 60,
        ..TrainSettings::default()
    };
    let mut trainer =
        Trainer::new(&model, parameters, items, settings, SeedStream::new(5)).unwrap();
    let report = trainer.step().unwrap();
    (report.loss, report.grad_norm, trained.iter().map(|t| t.grad().copy()).collect())
}

/// Byte for byte, in every family: answers, losses and gradients.
#[test]
fn a_model_in_parts_computes_what_it_does_in_one() {
    for folder in fixtures(&project().join("tests/parity")).unwrap() {
        let name = folder.display();
        let num = LmConfig::read(&folder.join("config.json")).unwrap().layers.len();
        let items: Vec<Item> = variants(&folder)
            .iter()
            .map(|(unit, ids, begin)| item(&unit.to_string(), ids, *begin, 1.0))
            .collect();
        let [whole, parts, others] = counts(num);
        let ids = golden(&folder).remove(0).ids;
        let expected = answers(&placed(&folder, &whole), &ids);
        for counts in [&parts, &others] {
            let model = placed(&folder, counts);
            assert_eq!(answers(&model, &ids), expected, "{name} {counts:?}");
        }
        for (full, recompute) in [(false, false), (false, true), (true, false), (true, true)] {
            let one = gradient(placed(&folder, &whole), &items, full, recompute);
            let two = gradient(placed(&folder, &parts), &items, full, recompute);
            assert_eq!(one, two, "{name}: full {full}, recompute {recompute}");
        }
    }
}

#[test]
fn a_placement_is_of_all_blocks() {
    let placement = Placement::new(vec![(Device::Cpu, 2), (Device::Cpu, 2)]);
    let error = Decoder::load_placed(&tiny("llama"), placement, Kind::Float).unwrap_err();
    assert!(error.message().contains("a placement of 4 blocks for a model of 3"), "{error}");
    let shown =
        Placement::new(vec![(Device::Cuda(0), 16), (Device::Cuda(1), 1), (Device::Cuda(2), 0)]);
    assert_eq!(shown.to_string(), "1-16 on cuda:0, 17 on cuda:1, none on cuda:2");
}

#[test]
fn devices_are_named_in_lists() {
    for (text, choice) in [
        ("cpu", DeviceChoice::Cpu),
        ("cuda", DeviceChoice::Cuda(0)),
        ("cuda:3", DeviceChoice::Cuda(3)),
        ("all", DeviceChoice::All),
        ("cuda:0,cuda:2", DeviceChoice::Spread(vec![Device::Cuda(0), Device::Cuda(2)])),
        ("cpu,cpu", DeviceChoice::Spread(vec![Device::Cpu, Device::Cpu])),
    ] {
        let read: DeviceChoice = text.parse().unwrap();
        assert_eq!(read, choice);
        assert_eq!(read.to_string().parse::<DeviceChoice>().unwrap(), choice);
    }
    for bad in ["", "gpu", "cuda:x", "cpu,", "cuda:0,all", "auto,cpu"] {
        assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
    }
    let mixed = DeviceChoice::Spread(vec![Device::Cuda(0), Device::Cpu]);
    let error = resolve_device(&mixed, DtypeChoice::Auto).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.message().contains("`--device cuda:0,cpu` spreads a model over CPU and GPU"));
}

/// Scoring, training, going on from a checkpoint and merging give the bytes of one device.
#[test]
fn commands_on_several_devices_give_the_bytes_of_one() {
    let place = Place::new();
    let run = |out: &str, device: &str, more: &[&str]| {
        let common = ["--device", device, "--target-modules", "all-linear", "--epochs", "4"];
        let args = train(&place, out, &[common.as_slice(), more].concat());
        let output = w2s(&strs(&args));
        (output.status.code(), text(&output.stderr))
    };
    let same = |a: &str, b: &str| {
        let bytes = |name: &str| std::fs::read(place.path(name)).unwrap();
        assert_eq!(bytes(a), bytes(b), "{a} and {b}");
    };
    let best = ["--validation", "0.34", "--best", "--checkpoint-steps", "1"];
    assert_eq!(run("one", "cpu", &best).0, Some(0));
    let (status, said) = run("two", "cpu,cpu", &best);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("blocks 1-2 on cpu, 3 on cpu"), "{said}");
    for file in ["adapter_model.safetensors", "metrics.jsonl"] {
        same(&format!("one/{file}"), &format!("two/{file}"));
    }
    let manifest: Value = serde_json::from_str(&place.read("two/manifest.json")).unwrap();
    assert_eq!(manifest["settings"]["device"], "cpu, cpu");
    // The layers may lie otherwise when a run goes on, as memory is free; devices may not.
    std::fs::remove_file(place.path("two/timing.json")).unwrap();
    let text_of =
        place.read("two/manifest.json").replace("1-2 on cpu, 3 on cpu", "1 on cpu, 2-3 on cpu");
    std::fs::write(place.path("two/manifest.json"), text_of).unwrap();
    let resume = [best.as_slice(), &["--resume"]].concat();
    let (status, said) = run("two", "cpu", &resume);
    assert_eq!(status, Some(1));
    assert!(said.contains("`device` was \"cpu, cpu\" and is now \"cpu\""), "{said}");
    assert_eq!(run("two", "cpu,cpu", &resume).0, Some(0));
    same("one/adapter_model.safetensors", "two/adapter_model.safetensors");
    assert_eq!(run("all", "cpu,cpu,cpu", &["--resume"]).0, Some(0));

    let model = tiny("llama").display().to_string();
    let adapter = place.path("one");
    for (out, device) in [("merged1", "cpu"), ("merged2", "cpu,cpu")] {
        let out = place.path(out);
        let args = ["merge", "--model", &model, "--adapter", &adapter, "--out", &out];
        good(&[args.as_slice(), &["--device", device]].concat());
    }
    same("merged1/model.safetensors", "merged2/model.safetensors");
    for (out, device) in [("labels1", "cpu"), ("labels2", "cpu,cpu")] {
        let more = ["--method", "zero-shot", "--adapter", &adapter, "--device", device];
        good(&strs(&place.label(out, &more)));
    }
    same("labels1/labels.jsonl", "labels2/labels.jsonl");
}

#[test]
fn layers_are_not_spread_in_several_processes() {
    let place = Place::new();
    let args = train(&place, "x", &["--device", "cpu,cpu"]);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_w2s"))
        .args(&args)
        .envs([("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")])
        .env("MASTER_PORT", "29500")
        .current_dir(project())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("spreads the model of one process, but 2 processes train together"),
        "{said}"
    );
}
