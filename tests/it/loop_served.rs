//! `w2s loop --labeller`: a server labels with what was trained, under names that no other adapter has.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use w2s::server::NamedBy;

use crate::cli::{Place, good, has, strs, text, w2s};
use crate::common::project;
use crate::loop_runs::{args, results};
use crate::server_stub::{ALL, Asked, Has, Model, NAME, Say, Stub, at_once, connect};

const SERVED: Has = Has { named: &[NamedBy::LogprobTokenIds], ..ALL };

/// A server like vLLM with runtime LoRA loading: it answers with the adapter that a request names.
fn serving(silent_at_adapters: Option<Arc<AtomicBool>>) -> Stub {
    let base = Model::new("llama", SERVED);
    let mut adapters: BTreeMap<String, Model> = BTreeMap::new();
    Stub::new(move |asked| {
        let refuse = |status, what: &str| {
            Say::Status(status, "", json!({ "error": { "message": what, "code": status } }))
        };
        let name = asked.body["lora_name"].as_str().unwrap_or_default().to_owned();
        match asked.path.as_str() {
            "/v1/models" => {
                let entry = |name: &String| json!({ "id": name, "parent": NAME, "root": "/x" });
                let mut all = vec![json!({ "id": NAME, "max_model_len": 500 })];
                all.extend(adapters.keys().map(entry));
                Say::Json(json!({ "data": all }))
            }
            "/v1/load_lora_adapter" => {
                let folder = asked.body["lora_path"].as_str().unwrap_or_default();
                if name.is_empty() || folder.is_empty() {
                    return refuse(400, "Both 'lora_name' and 'lora_path' must be provided.");
                }
                if adapters.contains_key(&name) {
                    return refuse(
                        400,
                        &format!("The lora adapter '{name}' has already been loaded."),
                    );
                }
                if !Path::new(folder).join("adapter_config.json").exists() {
                    return refuse(
                        404,
                        &format!("Loading lora {name} failed: No adapter found for {folder}"),
                    );
                }
                adapters.insert(name, Model::with_adapter("llama", SERVED, Path::new(folder)));
                Say::Text("Success: LoRA adapter added successfully.")
            }
            "/v1/unload_lora_adapter" => match adapters.remove(&name) {
                Some(_) => Say::Text("Success: LoRA adapter removed successfully."),
                None => refuse(404, "The lora adapter cannot be found."),
            },
            _ => {
                let model = asked.body["model"].as_str().unwrap_or_default();
                let by = match adapters.get(model) {
                    Some(adapter) => adapter,
                    None if model == NAME || asked.body == Value::Null => &base,
                    None => return refuse(404, &format!("The model `{model}` does not exist.")),
                };
                if let Some(reached) = silent_at_adapters.as_ref().filter(|_| model != NAME)
                    && asked.is_paid()
                    && !reached.swap(true, Ordering::SeqCst)
                {
                    return Say::Silence;
                }
                match by.answer(asked) {
                    Say::Json(mut body) => {
                        body["model"] = model.into();
                        Say::Json(body)
                    }
                    other => other,
                }
            }
        }
    })
}

fn labels(place: &Place, run: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["id"].as_str().unwrap().to_owned(), line["label"].as_str().unwrap().to_owned())
    };
    place.read(&format!("{run}/labels.jsonl")).lines().map(pair).collect()
}

/// The models that requests named, in their order, each once in a row; and the loads.
fn story(stub: &Stub) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (mut models, mut loads, mut unloads): (Vec<String>, _, _) = Default::default();
    for Asked { path, body, .. } in stub.asked() {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        match path.as_str() {
            "/v1/load_lora_adapter" if !text("lora_name").is_empty() => {
                Vec::push(&mut loads, text("lora_name"));
            }
            "/v1/unload_lora_adapter" => Vec::push(&mut unloads, text("lora_name")),
            "/v1/completions" if models.last() != Some(&text("model")) => {
                models.push(text("model"));
            }
            _ => {}
        }
    }
    (models, loads, unloads)
}

/// What a loop with a server found is what one without found.
#[test]
fn a_server_labels_as_the_model_itself_does() {
    let place = Place::new();
    let more =
        ["--filter", "--relabel", "flip", "--relabel-margin", "0.2", "--set", "filter.quantile=1"];
    // A task whose questions have variants, so that the filter asks too.
    let more: Vec<&str> = more[1..5].to_vec();
    good(&strs(&args(&place, "here", &more)));
    let stub = serving(None);
    let cache = place.path("cache");
    let model = stub.model();
    let cached = format!("label.response-cache={cache}");
    let served = [&more[..], &["--labeller", &model, "--set", &cached]].concat();
    let said = text(&w2s(&strs(&args(&place, "there", &served))).stderr);
    for step in
        ["round-1/label", "round-1/relabel", "round-1/probe", "round-2/label", "round-2/relabel"]
    {
        let (here, there) = (format!("here/{step}"), format!("there/{step}"));
        assert_eq!(labels(&place, &here), labels(&place, &there), "{step}\n{said}");
    }
    // First the base model, then what each round trained, under a name of its own.
    let (models, loads, unloads) = story(&stub);
    assert_eq!(loads.len(), 2, "{loads:?}");
    assert!(
        loads[0].starts_with("w2s-round-1-train-") && loads[1].starts_with("w2s-round-2-train-")
    );
    assert_eq!(models, [NAME, &loads[0], &loads[1]]);
    assert_eq!(unloads, loads);
    has(&said, &["takes the adapter w2s-round-1-train-"]);
    let manifest = |run: &str| -> Value {
        serde_json::from_str(&place.read(&format!("{run}/manifest.json"))).unwrap()
    };
    assert_eq!(manifest("there")["settings"]["labeller"], model);
    assert_eq!(
        manifest("there/round-2/label")["settings"]["model"],
        format!("{}#{}", stub.address, loads[0])
    );
    assert_eq!(
        manifest("there/round-2/train")["settings"]["model"],
        manifest("here")["settings"]["model"]
    );
    // Another loop trains another adapter, which has another name.
    let other = [&served[..], &["--seed", "7"]].concat();
    good(&strs(&args(&place, "other", &other)));
    let (_, all, _) = story(&stub);
    assert_eq!(all.len(), 4);
    assert!(!loads.contains(&all[2]) && all[2].starts_with("w2s-round-1-train-"), "{all:?}");
}

/// Killed after the server took an adapter and before it labelled with it, a loop goes on to the same
/// bytes; the server is not told of the adapter again.
#[test]
fn a_loop_that_is_killed_between_load_and_label_goes_on() {
    let place = Place::new();
    let run = |out: &str, stub: &Stub, resume: bool| {
        let (model, cache) =
            (stub.model(), format!("label.response-cache={}", place.path(out) + "-cache"));
        let mut more = vec!["--labeller", &model, "--set", &cache, "--held-out", "0"];
        if resume {
            more.push("--resume");
        }
        args(&place, out, &more)
    };
    let whole = serving(None);
    good(&strs(&run("whole", &whole, false)));
    let reached = Arc::new(AtomicBool::new(false));
    let stub = serving(Some(Arc::clone(&reached)));
    let mut child = Command::new(env!("CARGO_BIN_EXE_w2s"))
        .args(run("cut", &stub, false))
        .env("OMP_NUM_THREADS", "1")
        .current_dir(project())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !reached.load(Ordering::SeqCst) {
        assert!(began.elapsed() < Duration::from_secs(300), "no adapter was asked");
        assert!(child.try_wait().unwrap().is_none(), "the loop ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let (_, loads, unloads) = story(&stub);
    assert_eq!((loads.len(), unloads.len()), (1, 0));
    good(&strs(&run("cut", &stub, true)));
    let (_, loads, unloads) = story(&stub);
    assert_eq!((loads.len(), unloads.len()), (2, 2), "{loads:?} {unloads:?}");
    let kept = |out: &str| -> BTreeMap<_, _> {
        // What was asked by whom is told by ports and counts.
        results(Path::new(&place.path(out)))
            .into_iter()
            .filter(|(name, _)| !name.ends_with("server.json"))
            .collect()
    };
    let (whole, cut) = (kept("whole"), kept("cut"));
    assert_eq!(whole.keys().collect::<Vec<_>>(), cut.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        assert!(cut[name] == *bytes, "{}", name.display());
    }
}

/// A server that does not see the folder says so, with 404 as vLLM does; with the right folder the loop goes on.
#[test]
fn a_folder_that_the_server_does_not_see_ends_the_loop_with_a_word() {
    let place = Place::new();
    let stub = serving(None);
    let (model, cache) = (stub.model(), format!("label.response-cache={}", place.path("cache")));
    let more = ["--labeller", &model, "--set", &cache, "--held-out", "0", "--batches", "1"];
    let wrong = [&more[..], &["--labeller-folder", "/nowhere"]].concat();
    let said = text(&w2s(&strs(&args(&place, "run", &wrong))).stderr);
    has(
        &said,
        &[
            "does not take the adapter `/nowhere/round-1/train` (404)",
            "No adapter found",
            "hint: does the server see this folder (`--labeller-folder`)",
        ],
    );
    good(&strs(&args(&place, "run", &[&more[..], &["--resume"]].concat())));
    let (_, loads, _) = story(&stub);
    assert_eq!((loads.len(), &loads[0]), (2, &loads[1]));
}

#[test]
fn a_server_that_takes_no_adapters_is_refused_before_anything_is_made() {
    let place = Place::new();
    let plain = Mutex::new(Model::new("llama", ALL));
    let stub = Stub::new(move |asked| plain.lock().unwrap().answer(asked));
    let model = stub.model();
    for (labeller, parts) in [
        (
            model.as_str(),
            ["takes no adapters while it runs", "hint: start vLLM with `--enable-lora"],
        ),
        ("models/x", ["`--labeller models/x` is not the address of a server", "hint: expected"]),
        (&stub.address, ["`--labeller` names no model", "hint: name the base model"]),
    ] {
        let output = w2s(&strs(&args(&place, "no", &["--labeller", labeller])));
        assert!(!output.status.success());
        has(&text(&output.stderr), &parts);
        assert!(!Path::new(&place.path("no")).exists());
    }
    // Options of a server without one, and a folder without a server.
    let output = w2s(&strs(&args(&place, "no", &["--set", "label.route=echo"])));
    has(&text(&output.stderr), &["`--route` is of a server, and none is asked"]);
    let output = w2s(&strs(&args(&place, "no", &["--labeller-folder", "x"])));
    has(&text(&output.stderr), &["--labeller"]);
    let priced = ["--labeller", &model, "--set", "label.prices=p.toml"];
    let output = w2s(&strs(&args(&place, "no", &priced)));
    has(&text(&output.stderr), &["a price table has no effect with `--labeller`"]);
}

/// vLLM tells the context of a model and not that of its adapters.
#[test]
fn an_adapter_has_the_context_of_its_model() {
    let stub = Stub::new(|_| {
        Say::Json(json!({ "data": [{ "id": "base", "max_model_len": 500 },
            { "id": NAME, "parent": "base", "root": "/x", "max_model_len": null }] }))
    });
    assert_eq!(connect(&stub, at_once(), None).unwrap().max_tokens(), Some(500));
}

/// A plan of such a loop: what the server is asked, by each route as it is not there, and what is trained
/// here; nothing is scored here.
#[test]
fn a_plan_counts_what_is_asked_there_and_trained_here() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = format!("http://127.0.0.1:{port}/v1#{NAME}");
    let line = args(&place, "planned", &["--labeller", &away]);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let text = good(&[&["plan", "--measure", "0", "--json", "--"], &line[..]].concat());
    let plan: Value = serde_json::from_str(&text).unwrap();
    let [step] = plan["steps"].as_array().unwrap().as_slice() else { panic!("{plan}") };
    assert_eq!(step["num_tokens"], 0, "{plan}");
    assert!(step["num_trained"].as_u64() > Some(0), "{plan}");
    let served = plan["served"].as_array().unwrap();
    assert_eq!((served.len(), &served[0]["route"]), (7, &json!("token-ids")), "{plan}");
    assert!(served.iter().all(|line| line["spent"]["num_requests"].as_u64() > Some(20)), "{plan}");
    // It is another place: the plan's folder is not the loop's.
    assert!(!Path::new(&place.path("planned")).exists());
}
