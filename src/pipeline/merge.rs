//! `w2s merge`: a model with its adapter added to the weights, as a Hugging Face folder.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::model::{ModelOptions, maybe_path};
use super::observer::{Event, Wait};
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::lm::{Adapter, Decoder, write_tensors};
use crate::report::{code_span, plain, yaml_scalar};
use crate::run::files::{CARD, MODEL_FILES};
use crate::run::{GoldUse, Manifest, OpenMode, RunDir};

/// Add an adapter to its model's weights
///
/// Writes a Hugging Face folder with the merged model: config.json, model.safetensors, tokenizer and
/// a model card. It gives the numbers of model and adapter without the adapter's cost, and every
/// program that reads such folders reads it. In half precision (`--dtype bf16`) the weights round a
/// part of the adapter away; f32, the default here, keeps all of it.
///
/// Example:
///   w2s merge runs/student
///   w2s merge --model models/gemma-3-270m --adapter runs/student --out models/student
#[derive(Clone, Debug, Args, Serialize)]
#[command(verbatim_doc_comment)]
pub struct MergeJob {
    /// Run folder of `w2s train`, or any adapter: the same as --adapter
    #[arg(value_name = "RUN", conflicts_with = "adapter")]
    pub run: Option<PathBuf>,
    /// The model.
    #[serde(flatten)]
    #[command(flatten)]
    pub model: ModelOptions,
    /// Folder to make [default: that of the adapter with -merged behind it]
    #[arg(long, value_name = "DIR", value_parser = maybe_path(), default_value = "",
        hide_default_value = true, help_heading = "Run")]
    pub out: PathBuf,
    /// Replace the model in the folder
    #[arg(long, help_heading = "Run")]
    pub force: bool,
}

pub(super) fn run(mut args: MergeJob, session: &mut Session) -> Result<RunDir> {
    let began = Instant::now();
    args.model.adapter = args.run.take().or(args.model.adapter.take());
    let Some(adapter_folder) = &args.model.adapter else {
        return Err(Error::new(ErrorKind::Usage, "the adapter is missing")
            .hint("give the folder of the adapter to merge: `w2s merge RUN`"));
    };
    if args.out.as_os_str().is_empty() {
        let mut out = adapter_folder.components().as_path().as_os_str().to_owned();
        out.push("-merged");
        args.out = out.into();
    }
    let mode = if args.force { OpenMode::Force } else { OpenMode::New };
    RunDir::check_place(&args.out, "merge", mode)?;
    args.model.follow(&session.voice)?;
    let adapter_folder = &args.model.adapter.clone().unwrap_or_default();
    let spinner = session.voice.wait(Wait::OpeningModel);
    let adapter = Adapter::open(adapter_folder)?;
    let in_f32 = args.model.in_f32();
    let device = in_f32.training_device(None)?;
    // Never given back: its weights change for good.
    let mut model = session.open_trainable(&in_f32, device, None)?;
    let (decoder, _) = model.parts_mut();
    decoder.attach(&adapter)?;
    decoder.merge_adapter();
    spinner.end();
    let mut settings = Map::new();
    args.model.decoder_settings(decoder, &mut settings);
    let manifest = Manifest {
        command: "merge".into(),
        command_line: session.command_line(),
        settings,
        seed: 0,
        inputs: args.model.inputs(&session.digests)?,
        gold_used: args.model.gold_used(GoldUse::no()),
        versions: args.model.versions(),
    };
    let folder = RunDir::open(&args.out, &manifest, mode)?;
    write_model(&args.model.model, decoder, &folder)?;
    write_card(&folder, &manifest, adapter_folder)?;
    let seconds = began.elapsed().as_secs_f64();
    let folder = folder.finish(seconds, seconds)?;
    session.voice.tell(&Event::Merged { seconds, folder: &folder });
    session.tell_finished(&folder);
    Ok(folder)
}

/// Writes `decoder`, a model of the folder `from`, to the run folder `to`.
pub(super) fn write_model(from: &Path, decoder: &Decoder, to: &RunDir) -> Result<()> {
    let path = from.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
    let mut config: Value = serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Config, format!("broken JSON: {e}")).at(&path))?;
    let dtype = match decoder.kind() {
        tch::Kind::BFloat16 => "bfloat16",
        tch::Kind::Half => "float16",
        _ => "float32",
    };
    // The library's older name of the setting is read first where both are there.
    let key = if config.get("torch_dtype").is_some() { "torch_dtype" } else { "dtype" };
    config[key] = dtype.into();
    // A head of its own, whatever the file said of it.
    let tied = decoder.config().tie_word_embeddings;
    if config.get("tie_word_embeddings").and_then(Value::as_bool) != Some(tied) {
        config["tie_word_embeddings"] = tied.into();
    }
    write_tensors(&to.place("model.safetensors")?, &decoder.export(), None)?;
    for name in MODEL_FILES {
        let path = from.join(name);
        if path.exists() {
            let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
            to.write(name, &bytes)?;
        }
    }
    let mut text = format!("{config:#}");
    text.push('\n');
    to.write("config.json", text.as_bytes())
}

/// Writes the model card, with that of the adapter's training if there is one.
fn write_card(folder: &RunDir, manifest: &Manifest, adapter: &Path) -> Result<()> {
    let setting = |name: &str| manifest.settings[name].as_str().unwrap_or_default().to_owned();
    let base = setting("model");
    let mut card = format!(
        "---\nbase_model: {}\ntags:\n- w2s\n---\n\n# Merged by `w2s merge`\n\nThe model {} with the adapter {} added to its weights, in {}.\n\n",
        yaml_scalar(&base),
        code_span(&base),
        code_span(&adapter.display().to_string()),
        setting("dtype"),
    );
    match &manifest.gold_used {
        GoldUse::Because(reason) => {
            card += &format!("Gold labels had a part in it: {}.\n\n", plain(reason));
        }
        GoldUse::No(_) => card += "No gold label is known to have had a part in it.\n\n",
    }
    card += "| input | SHA-256 |\n|---|---|\n";
    for input in &manifest.inputs {
        card += &format!("| {} {} | {} |\n", input.role, code_span(&input.path), input.sha256);
    }
    if let Ok(text) = std::fs::read_to_string(adapter.join("README.md")) {
        // A card begins with a block between lines of dashes, which stands once only.
        let body = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
        let body = body.map_or(text.as_str(), |(_, body)| body).trim_start();
        card += &format!("\n---\n\n{body}");
    }
    folder.write(CARD, card.as_bytes())
}
