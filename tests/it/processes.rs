//! Several processes that train as one, on the loopback of this machine.
//!
//! What two processes come to is compared with what one does. They add up the same terms in another
//! order and in passes cut otherwise, so that f32 gradients differ in their last bits, relatively by
//! about 1e-7 times the root of the number of terms; AdamW divides by the root of a square and can
//! make of a gradient near 0 a step of the full learning rate, which bounds the adapters' difference
//! to a few thousandths of the sum of the rates and not to the last bits.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::cli::{Place, strs, text, w2s};
use crate::common::project;
use crate::train_runs::train;

/// The most that losses and norms of gradients differ, relatively, after a few steps.
const NUMBERS: f64 = 2e-5;
/// The most that numbers of the adapter differ; the rates of the runs here sum to at least 6e-3.
const WEIGHTS: f64 = 2e-5;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts rank `rank` of `size`.
fn start(args: &[String], rank: usize, size: usize, port: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_w2s"))
        .args(args)
        .env("OMP_NUM_THREADS", "1")
        .env("RANK", rank.to_string())
        .env("WORLD_SIZE", size.to_string())
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .current_dir(project())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a process said and its exit status; one that does not end is a failure.
fn end(mut child: Child) -> (Option<i32>, String) {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("a process hangs: {}", text(&child.wait_with_output().unwrap().stderr));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    (output.status.code(), text(&output.stderr))
}

/// Runs `args` in `size` processes and returns what each said and its exit status.
fn together(args: &[String], size: usize) -> Vec<(Option<i32>, String)> {
    let port = free_port();
    let children: Vec<Child> = (0..size).map(|rank| start(args, rank, size, port)).collect();
    children.into_iter().map(end).collect()
}

/// Expects that all end well and only the first speaks, and returns what it says.
fn good(args: &[String], size: usize) -> String {
    let ends = together(args, size);
    for (rank, (status, said)) in ends.iter().enumerate() {
        assert_eq!(*status, Some(0), "rank {rank}: {said}");
        assert_eq!(said.is_empty(), rank > 0, "rank {rank}: {said}");
    }
    ends.into_iter().next().unwrap().1
}

fn alone(args: &[String]) {
    let output = w2s(&strs(args));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

pub fn lines(place: &Place, run: &str) -> Vec<Value> {
    let metrics = place.read(&format!("{run}/metrics.jsonl"));
    metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers of two runs agree: all but rounding in the order of sums.
fn same(place: &Place, a: &str, b: &str) {
    let (lines_a, lines_b) = (lines(place, a), lines(place, b));
    assert_eq!(lines_a.len(), lines_b.len());
    let mut most: f64 = 0.0;
    for (x, y) in lines_a.iter().zip(&lines_b) {
        for (name, value) in x.as_object().unwrap() {
            if matches!(name.as_str(), "loss" | "grad_norm" | "validation_loss") {
                let (x, y) = (value.as_f64().unwrap(), y[name].as_f64().unwrap());
                most = most.max((x - y).abs() / x.abs());
            } else {
                assert_eq!(*value, y[name], "{name}");
            }
        }
    }
    let apart = weights_apart(place, a, b);
    println!("{a} and {b}: numbers differ by {most:.1e} relatively, weights by {apart:.1e}");
    assert!(most < NUMBERS && apart < WEIGHTS, "{a} and {b}: {most:e}, {apart:e}");
}

pub fn weights_apart(place: &Place, a: &str, b: &str) -> f64 {
    let read = |run: &str| std::fs::read(place.path(&format!("{run}/adapter_model.safetensors")));
    let (a, b) = (read(a).unwrap(), read(b).unwrap());
    let (a, b) = (SafeTensors::deserialize(&a).unwrap(), SafeTensors::deserialize(&b).unwrap());
    let apart = |name: &str| {
        let [a, b] = [&a, &b].map(|file| {
            let view = file.tensor(name).unwrap();
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            Tensor::from_data_size(view.data(), &shape, Kind::Float)
        });
        (a - b).abs().max().double_value(&[])
    };
    assert_eq!(a.len(), b.len());
    a.names().into_iter().map(apart).fold(0.0, f64::max)
}

/// Dropout, weights, several epochs, validation and clipping; batches of 3 of 4 items, so that the
/// last of an epoch has fewer units than processes.
fn options(place: &Place) -> Vec<String> {
    let weights: Vec<String> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .enumerate()
        .map(|(i, id)| format!("{{\"id\": \"{id}\", \"weight\": {}}}", 0.5 + i as f64 / 2.0))
        .collect();
    let weights = place.write("weights.jsonl", weights.join("\n"));
    let more = [
        ["--epochs", "4"],
        ["--lora-dropout", "0.3"],
        ["--target-modules", "all-linear"],
        ["--weights", &weights],
        ["--normalise", "weighted"],
        ["--validation", "0.34"],
        ["--batch-size", "3"],
    ];
    more.concat().into_iter().chain(["--best"]).map(str::to_owned).collect()
}

fn with(options: &[String], more: &[&str]) -> Vec<String> {
    options.iter().cloned().chain(more.iter().map(|s| (*s).to_owned())).collect()
}

#[test]
fn two_and_three_processes_train_as_one() {
    let place = Place::new();
    let options = options(&place);
    let args = |out: &str, more: &[&str]| train(&place, out, &strs(&with(&options, more)));
    alone(&args("one", &[]));
    let said = good(&args("two", &[]), 2);
    assert!(said.starts_with("2 processes train together\n"), "{said}");
    same(&place, "one", "two");
    good(&args("three", &[]), 3);
    same(&place, "one", "three");
    // The same number of processes gives the same bytes.
    good(&args("again", &[]), 2);
    assert_eq!(place.read("two/metrics.jsonl"), place.read("again/metrics.jsonl"));
    assert_eq!(weights_apart(&place, "two", "again"), 0.0);
    // It is dropout that would differ first if it went by process.
    let dry: Vec<String> =
        options.iter().map(|s| if s == "0.3" { "0".to_owned() } else { s.clone() }).collect();
    alone(&train(&place, "dry", &strs(&dry)));
    assert!(weights_apart(&place, "one", "dry") > 10.0 * WEIGHTS);
    let summary: Value = serde_json::from_str(&place.read("two/summary.json")).unwrap();
    assert_eq!(summary["num_steps"], lines(&place, "two").len() - 4);
}

/// Losses that know only a whole batch, and steps of one item, which leave a process without any.
#[test]
fn every_loss_and_normalisation_is_summed_over_processes() {
    let place = Place::new();
    let cases: [&[&str]; 6] = [
        &["--normalise", "token", "--batch-size", "1"],
        &["--normalise", "sequence"],
        &["--normalise", "reference"],
        &["--loss", "logconf", "--aux-warmup", "0"],
        &["--loss", "product", "--normalise", "weighted"],
        &["--micro-batch", "1", "--recompute"],
    ];
    for (i, case) in cases.iter().enumerate() {
        let more =
            [&["--batch-size", "6"][..usize::from(!case.contains(&"--batch-size")) * 2], case];
        let more = more.concat();
        let (one, two) = (format!("one{i}"), format!("two{i}"));
        alone(&train(&place, &one, &more));
        good(&train(&place, &two, &more), 2);
        same(&place, &one, &two);
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let place = Place::new();
    let options = options(&place);
    let args = |out: &str, more: &[&str]| {
        let more = [&["--checkpoint-steps", "1"], more].concat();
        train(&place, out, &strs(&with(&options, &more)))
    };
    alone(&args("whole", &[]));
    let num_steps = lines(&place, "whole").len() - 4;
    // Two begin, one goes on, three end.
    let sizes = [2, 1, 3];
    for (i, size) in sizes.into_iter().enumerate() {
        let args = args("parts", &["--resume"]);
        if i + 1 == sizes.len() {
            let said = good(&args, size);
            assert!(said.contains("continuing after step"), "{said}");
            break;
        }
        let port = free_port();
        let children: Vec<Child> = (0..size).map(|rank| start(&args, rank, size, port)).collect();
        wait_for_step(&place, "parts", (i + 1) * num_steps / 4);
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(lines(&place, "parts").len() < num_steps, "the run ended before it was killed");
    }
    same(&place, "whole", "parts");
}

/// Waits until the metrics of a run have so many lines.
fn wait_for_step(place: &Place, run: &str, num: usize) {
    let began = Instant::now();
    let path = place.path(&format!("{run}/metrics.jsonl"));
    while std::fs::read_to_string(&path).map_or(0, |text| text.lines().count()) < num.max(1) {
        assert!(began.elapsed() < Duration::from_secs(120), "no step in two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whichever process is killed, the other ends with an error that says so, and the run goes on to
/// what it would have been.
#[test]
fn a_lost_process_ends_all_and_the_run_goes_on() {
    let place = Place::new();
    let long = ["--epochs", "60", "--lora-dropout", "0.3"];
    alone(&train(&place, "whole", &long));
    for lost in [1, 0] {
        let run = format!("lost{lost}");
        let args = train(&place, &run, &[long.as_slice(), &["--resume"]].concat());
        let port = free_port();
        let mut children: Vec<Child> = (0..2).map(|rank| start(&args, rank, 2, port)).collect();
        wait_for_step(&place, &run, 10);
        let mut killed = children.remove(lost);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let (status, said) = end(children.remove(0));
        assert_eq!(status, Some(1), "{said}");
        let says = format!("error: rank {}: another process of the training is gone", 1 - lost);
        assert!(said.contains(&says) && said.contains("--resume"), "{said}");
        // The first process saves where it stands when it loses another; nobody else may.
        let has_checkpoint =
            std::fs::exists(place.path(&format!("{run}/checkpoint.safetensors"))).unwrap();
        assert_eq!(has_checkpoint, lost == 1);
        let said = good(&args, 2);
        assert_eq!(said.contains("continuing after step"), lost == 1, "{said}");
        same(&place, "whole", &run);
    }
}

/// Validations take most of the time here, so a process is mostly lost in one: the first saves where
/// it stands all the same, and the validation is made when the run goes on.
#[test]
fn a_process_lost_in_a_validation_costs_no_step() {
    let place = Place::new();
    let labels: String = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .map(|id| {
            let split = if *id == "a" { "train" } else { "validation" };
            format!("{{\"id\": \"{id}\", \"label\": true, \"split\": \"{split}\"}}\n")
        })
        .collect();
    let labels = place.write("labels.jsonl", labels);
    let more = ["--labels", &labels, "--epochs", "90", "--validate-every", "1", "--best"];
    alone(&train(&place, "whole", &more));
    let args = train(&place, "parts", &[more.as_slice(), &["--resume"]].concat());
    for at in [10, 50, 90] {
        let port = free_port();
        let mut children: Vec<Child> = (0..2).map(|rank| start(&args, rank, 2, port)).collect();
        wait_for_step(&place, "parts", at);
        let mut killed = children.remove(1);
        killed.kill().unwrap();
        killed.wait().unwrap();
        let (status, said) = end(children.remove(0));
        assert_eq!(status, Some(1), "{said}");
        let bytes = std::fs::read(place.path("parts/checkpoint.safetensors")).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let state: Value =
            serde_json::from_str(&header.metadata().as_ref().unwrap()["note"]).unwrap();
        let lines = lines(&place, "parts");
        let num_steps = lines.iter().filter(|line| line["loss"].is_number()).count();
        assert_eq!(state["step"], num_steps);
        assert_eq!(state["unvalidated"], lines.len() < 2 * num_steps);
    }
    good(&args, 2);
    same(&place, "whole", "parts");
}

/// A process that is there but does not move is lost after the time for it.
#[test]
fn a_stopped_process_is_lost_in_time() {
    let place = Place::new();
    let args = train(&place, "x", &["--epochs", "200", "--peer-timeout", "2"]);
    let port = free_port();
    let (first, second) = (start(&args, 0, 2, port), start(&args, 1, 2, port));
    wait_for_step(&place, "x", 3);
    let stop = Command::new("kill").args(["-STOP", &second.id().to_string()]).status().unwrap();
    assert!(stop.success());
    let began = Instant::now();
    let (status, said) = end(first);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("rank 0: another process of the training is gone"), "{said}");
    assert!(said.contains("within 2 s"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(30));
    let mut second = second;
    second.kill().unwrap();
    second.wait().unwrap();
}

/// What goes wrong in one process is told by it and ends the other, which names it.
#[test]
fn a_failure_of_one_is_a_failure_of_all() {
    let place = Place::new();
    let one = train(&place, "x", &[]);
    let other = train(&place, "x", &["--lr", "2e-3"]);
    let port = free_port();
    let ends = [start(&one, 0, 2, port), start(&other, 1, 2, port)].map(end);
    assert_eq!(ends.each_ref().map(|(status, _)| *status), [Some(1), Some(2)], "{ends:?}");
    assert!(ends[0].1.contains("error: rank 0: ended by rank 1: this process was"), "{ends:?}");
    assert!(ends[1].1.contains("error: rank 1: this process was started otherwise"), "{ends:?}");
    assert!(ends[1].1.contains("`train.lr`"), "{ends:?}");
    // Only the first process opens the folder, and all hear that it is taken.
    alone(&one);
    for (rank, (status, said)) in together(&one, 2).into_iter().enumerate() {
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&format!("error: rank {rank}: ")), "{said}");
        assert!(said.contains("the folder already holds a run"), "{said}");
    }
    let complete = train(&place, "x", &["--resume"]);
    assert!(good(&complete, 2).contains("nothing to do"));
    // A file that only one of them lacks: it never comes to the first sum.
    let lacking = train(&place, "y", &["--weights", "no-such-file"]);
    let port = free_port();
    let ends = [start(&lacking, 0, 2, port), start(&train(&place, "y", &[]), 1, 2, port)].map(end);
    assert!(ends[0].1.contains("error: rank 0: cannot") && ends[0].1.contains("no-such-file"));
    assert!(ends[1].1.contains("rank 1: another process of the training is gone"), "{ends:?}");
}

/// A loss that is no number ends all before the step.
#[test]
fn all_stop_before_a_step_that_is_not_finite() {
    let place = Place::new();
    let args = train(&place, "x", &["--lr", "1e39", "--clip", "0", "--epochs", "9"]);
    for (rank, (status, said)) in together(&args, 2).into_iter().enumerate() {
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&format!("error: rank {rank}: ")), "{said}");
        assert!(said.contains("the step was not made") || said.contains("ended by rank"), "{said}");
    }
    let kept = lines(&place, "x").len();
    assert!(kept > 0 && std::fs::exists(place.path("x/checkpoint.safetensors")).unwrap());
}

#[test]
fn a_bad_environment_is_refused_within_seconds() {
    let place = Place::new();
    let args = train(&place, "x", &["--join-timeout", "1"]);
    let fails = |variables: &[(&str, &str)], status: i32, parts: &[&str]| {
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
        command.args(&args).current_dir(project()).env("OMP_NUM_THREADS", "1");
        for name in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
            command.env_remove(name);
        }
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in:\n{said}");
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        assert!(!std::fs::exists(place.path("x")).unwrap());
    };
    let port = free_port().to_string();
    let master = [("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [more, &master].concat();
    fails(&[("RANK", "0")], 2, &["RANK is 0, but WORLD_SIZE is not set", "torchrun"]);
    fails(&with(&[("RANK", "2"), ("WORLD_SIZE", "2")]), 2, &["RANK is 2 and WORLD_SIZE is 2"]);
    fails(&[("RANK", "1"), ("WORLD_SIZE", "2")], 2, &["MASTER_ADDR is not set"]);
    fails(&[], 2, &["`--join-timeout` has no effect in a single process"]);
    fails(
        &with(&[("RANK", "1"), ("WORLD_SIZE", "2")]),
        1,
        &["rank 1: nobody answers at 127.0.0.1:", "within 1 s", "start rank 0 there"],
    );
    fails(
        &with(&[("RANK", "0"), ("WORLD_SIZE", "2")]),
        1,
        &["rank 0: the 2 processes did not find each other within 1 s"],
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let two = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")];
    let all = [two.as_slice(), &[("MASTER_PORT", port.as_str())]].concat();
    fails(&all, 1, &["rank 0 cannot listen on port", "choose a free port"]);
}

/// A process by itself opens no port and needs none of the variables.
#[test]
fn one_process_is_as_before() {
    let place = Place::new();
    alone(&train(&place, "plain", &[]));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (status, said) = end(start(&train(&place, "one", &[]), 0, 1, port));
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("settings:"), "{said}");
    for file in ["metrics.jsonl", "summary.json", "adapter_config.json"] {
        assert_eq!(place.read(&format!("plain/{file}")), place.read(&format!("one/{file}")));
    }
    assert_eq!(weights_apart(&place, "plain", "one"), 0.0);
}
