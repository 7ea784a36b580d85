//! The options of every command that runs a model.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use serde_json::{Map, Value};
use tch::{Device, Kind};

use super::digests::Digests;
use super::given::first_given;
use super::note::Note;
use super::voice::Voice;
use crate::error::{Error, ErrorKind, Result};
use crate::lm::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, ChatTemplate, Decoder, DeviceChoice, Devices, DtypeChoice,
    RANDOM_WEIGHTS, repeats_to_the_byte, resolve_device,
};
use crate::run::{BLOCKS, GoldUse, Input, Origin, RunDir};
use crate::score::{LmScorer, LmScorerOptions, MemorySize};
use crate::server::ServerAddress;
use crate::train::ProcessRank;

/// The parser of a path that is empty where nothing is given.
pub(super) fn maybe_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// A model and how it runs.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// Hugging Face model folder: config.json, tokenizer.json, model.safetensors. Commands that have
    /// options for a server take one too: http://HOST:8000/v1#NAME [default: with --adapter, the model
    /// that the adapter was trained on]
    #[arg(long, value_name = "DIR", value_parser = maybe_path(), default_value = "",
        hide_default_value = true)]
    pub model: PathBuf,
    /// PEFT adapter (LoRA) on the model: a folder with adapter_config.json and
    /// adapter_model.safetensors, such as a run of `w2s train` [default: none]
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N; auto takes a GPU where one works. A list such as cuda:0,cuda:1, or
    /// all, spreads the layers of a model that is too large for one GPU over several, by the free
    /// memory of each
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// auto, f32, bf16 or f16; auto is bf16 on a GPU and where the processor multiplies it (avx512_bf16
    /// in lscpu), else f32; training of all weights and merging take f32
    #[arg(long, value_name = "DTYPE", default_value_t = DtypeChoice::Auto)]
    pub dtype: DtypeChoice,
    /// Longest prompt in tokens [default: what the model was made for]
    #[arg(long, value_name = "TOKENS", alias = "max_model_len")]
    pub max_context: Option<usize>,
    /// Most tokens of one forward pass: more is faster on a GPU and takes more memory
    /// [default: 512 on the CPU, 4096 on a GPU]
    #[arg(long, value_name = "TOKENS", alias = "max_num_batched_tokens")]
    pub pack_tokens: Option<usize>,
    /// Working memory besides the weights, such as 800M or 3.5G; passes are made smaller to keep
    /// within it [default: half of the machine's memory on the CPU, nine tenths of what is free on a GPU]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<MemorySize>,
    /// CPU threads; their number changes the last bits of results [default: the machine's cores, or
    /// what a container may use of them]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// What can be promised of a GPU.
const REPEATS: &str = "same bytes on the same kind of GPU and driver, with the same passes; passes are made smaller where memory runs out";
/// And where the program did not start itself, so that CUDA's products may differ.
const NO_REPEATS: &str = "not to the byte: CUBLAS_WORKSPACE_CONFIG is neither :4096:8 nor :16:8, so training is not deterministic";

impl ModelOptions {
    /// Returns the model in a folder, or behind an address such as `http://HOST:8000/v1#NAME`, with the
    /// settings it has by default.
    pub fn folder(model: impl Into<PathBuf>) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// Finds the model that the adapter was trained on, where no model is named.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where there is no adapter either, and [`ErrorKind::Run`] where its model is
    /// not found.
    pub(super) fn follow(&mut self, voice: &Voice<'_>) -> Result<()> {
        if !self.model.as_os_str().is_empty() {
            return Ok(());
        }
        let Some(adapter) = &self.adapter else {
            return Err(Error::new(ErrorKind::Usage, "`--model DIR` is missing").hint(
                "name a model folder, or with `--adapter RUN` an adapter that knows its model",
            ));
        };
        self.model = base_model(adapter)?;
        voice.note(&Note::ModelFollows { adapter: adapter.clone(), model: self.model.clone() });
        Ok(())
    }

    /// The same options with the model that the adapter was trained on, if it is found and no other is
    /// named.
    pub(super) fn followed(mut self) -> Self {
        if self.model.as_os_str().is_empty()
            && let Some(Ok(model)) = self.adapter.as_deref().map(base_model)
        {
            self.model = model;
        }
        self
    }

    /// The same model with nothing rounded away, unless a number type is asked for.
    pub(super) fn in_f32(&self) -> Self {
        let dtype = match self.dtype {
            DtypeChoice::Auto => DtypeChoice::F32,
            asked => asked,
        };
        Self { dtype, ..self.clone() }
    }

    /// The same model for a training of all its weights: in bf16 on a GPU, with weights in f32 beside,
    /// and in f32 on the CPU, unless a number type is asked for.
    pub(super) fn for_all_weights(&self) -> Self {
        let on_gpu = || {
            let settled = resolve_device(&self.device, DtypeChoice::F32);
            settled.is_ok_and(|(devices, _)| devices.first().is_cuda())
        };
        match self.dtype {
            DtypeChoice::Auto if on_gpu() => Self { dtype: DtypeChoice::Bf16, ..self.clone() },
            _ => self.in_f32(),
        }
    }

    /// How the model scores.
    pub(super) fn options(&self) -> LmScorerOptions {
        LmScorerOptions {
            device: self.device.clone(),
            dtype: self.dtype,
            max_pack_tokens: self.pack_tokens,
            max_context_tokens: self.max_context,
            memory: self.memory,
        }
    }

    /// Sets the number of threads. Not before a model is open: the CUDA part of libtorch must be opened
    /// before anything is asked of it.
    pub(super) fn set_threads(&self, process: Option<&ProcessRank>) {
        set_threads(self.threads, process.map_or(1, |process| process.local_size));
    }

    /// The devices and number type of a training process: of several on one machine, each has a GPU
    /// of its own. Must come before any other use of libtorch.
    pub(super) fn training_device(&self, process: Option<&ProcessRank>) -> Result<(Devices, Kind)> {
        let Some(process) = process else { return resolve_device(&self.device, self.dtype) };
        if matches!(self.device, DeviceChoice::All | DeviceChoice::Spread(_)) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "`--device {}` spreads the model of one process, but {} processes train together",
                    self.device, process.size
                ),
            )
            .hint("leave `--device` out, so that each process has a GPU of its own, or start one process"));
        }
        let settled = resolve_device(&self.device, self.dtype)?;
        match (&self.device, settled.0.first()) {
            (DeviceChoice::Auto, Device::Cuda(_)) => {
                resolve_device(&DeviceChoice::Cuda(process.local_rank), self.dtype)
            }
            _ => Ok(settled),
        }
    }

    /// Most tokens of a pass, if the user says so.
    pub(super) fn pack_tokens(&self) -> Option<usize> {
        self.pack_tokens
    }

    /// Working memory, if the user says so.
    pub(super) fn memory(&self) -> Option<MemorySize> {
        self.memory
    }

    /// The server whose model it is; `None` for a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an address that cannot be one.
    pub(super) fn server(&self) -> Result<Option<ServerAddress>> {
        match self.model.to_str().filter(|text| ServerAddress::is_meant(text)) {
            Some(text) => ServerAddress::parse(text).map(Some),
            None => Ok(None),
        }
    }

    /// Refuses what has no effect on a server.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with the first option that is given.
    pub(super) fn forbid_local(&self) -> Result<()> {
        match first_given(self, |name| !["model", "max-context"].contains(&name)) {
            Some(name) => Err(Error::new(
                ErrorKind::Usage,
                format!("`--{name}` is of a local model and has no effect on a server"),
            )
            .hint("leave it out; the server was started with such settings")),
            None => Ok(()),
        }
    }

    /// The longest prompt, if the user says so.
    pub(super) fn max_context(&self) -> Option<usize> {
        self.max_context
    }

    /// Whether `--max-context` is given.
    pub(super) fn limits_context(&self) -> bool {
        self.max_context.is_some()
    }

    /// Why gold had a part in the model or its adapter, if they are runs that used it; else `used`.
    pub(super) fn gold_used(&self, used: GoldUse) -> GoldUse {
        if let GoldUse::Because(_) = used {
            return used;
        }
        let folders = [("adapter", self.adapter.as_ref()), ("model", Some(&self.model))];
        let reason = |(what, folder): (&str, Option<&PathBuf>)| {
            let (_, manifest) = RunDir::existing(folder?).ok()?;
            match manifest.gold_used {
                GoldUse::Because(reason) => {
                    Some(format!("the {what} was trained with it: {reason}"))
                }
                GoldUse::No(_) => None,
            }
        };
        folders.into_iter().find_map(reason).map_or(used, GoldUse::Because)
    }

    /// The model's part of the resolved settings.
    pub(super) fn settings(&self, scorer: &LmScorer, settings: &mut Map<String, Value>) {
        self.decoder_settings(scorer.decoder(), settings);
    }

    /// As [`settings`](Self::settings), of the decoder alone.
    pub(super) fn decoder_settings(&self, decoder: &Decoder, settings: &mut Map<String, Value>) {
        let Self {
            model,
            adapter,
            device: _,
            dtype: _,
            max_context,
            pack_tokens,
            memory,
            threads: _,
        } = self;
        settings.insert("model".into(), model.display().to_string().into());
        let adapter = adapter.as_ref().map(|folder| folder.display().to_string());
        settings.insert("adapter".into(), adapter.into());
        settings.insert("model_type".into(), decoder.config().model_type.clone().into());
        let placement = decoder.placement();
        let devices = placement.stages().iter().map(|(device, _)| format!("{device:?}"));
        let devices = devices.collect::<Vec<_>>().join(", ").to_lowercase();
        settings.insert("device".into(), devices.into());
        if placement.is_spread() {
            settings.insert(BLOCKS.into(), placement.to_string().into());
        }
        if decoder.device().is_cuda() {
            settings.insert("attention".into(), decoder.attention().into());
            settings.insert("tf32".into(), false.into());
            let repeats = if repeats_to_the_byte() { REPEATS } else { NO_REPEATS };
            settings.insert("repeats".into(), repeats.into());
        }
        settings.insert("dtype".into(), format!("{:?}", decoder.kind()).to_lowercase().into());
        settings.insert("max_context".into(), (*max_context).into());
        settings.insert("pack_tokens".into(), (*pack_tokens).into());
        settings.insert("memory".into(), memory.map(|size| size.to_string()).into());
    }

    /// What else the last bits of results depend on.
    pub(super) fn versions(&self) -> Map<String, Value> {
        let mut versions = Map::new();
        versions.insert("w2s".into(), env!("CARGO_PKG_VERSION").into());
        versions.insert("libtorch".into(), env!("W2S_LIBTORCH_VERSION").into());
        versions.insert("num_threads".into(), tch::get_num_threads().into());
        versions
    }

    /// The files of the model and its adapter with their digests.
    pub(super) fn inputs(&self, digests: &Digests) -> Result<Vec<Input>> {
        let mut names = vec!["config.json".to_owned(), "tokenizer.json".to_owned()];
        if let Ok(entries) = std::fs::read_dir(&self.model) {
            let mut weights: Vec<String> = entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| name.ends_with(".safetensors") || name == RANDOM_WEIGHTS)
                .collect();
            weights.sort();
            names.extend(weights);
        }
        let mut inputs = self.inputs_of(digests, names.iter().map(String::as_str))?;
        for name in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
            if let Some(folder) = &self.adapter {
                let role = format!("adapter file {name}");
                inputs.push(digests.input(&role, &folder.join(name))?);
            }
        }
        Ok(inputs)
    }

    /// Files of the model's folder with their digests.
    fn inputs_of<'a>(
        &self,
        digests: &Digests,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Input>> {
        names
            .map(|name| digests.input(&format!("model file {name}"), &self.model.join(name)))
            .collect()
    }

    /// The files of the model's chat template, those that are there.
    pub(super) fn chat_inputs(&self, digests: &Digests) -> Result<Vec<Input>> {
        self.inputs_of(
            digests,
            ChatTemplate::FILES.into_iter().filter(|name| self.model.join(name).exists()),
        )
    }
}

/// Returns the folder of the model that an adapter was trained on, as its run or its configuration says.
fn base_model(adapter: &Path) -> Result<PathBuf> {
    let of_run = RunDir::existing(adapter)
        .ok()
        .and_then(|(_, manifest)| Some(PathBuf::from(manifest.settings.get("model")?.as_str()?)));
    let of_config = || {
        let text = std::fs::read_to_string(adapter.join(ADAPTER_CONFIG)).ok()?;
        let config: Value = serde_json::from_str(&text).ok()?;
        Some(PathBuf::from(config.get("base_model_name_or_path")?.as_str()?))
    };
    let Some(named) = of_run.or_else(of_config) else {
        return Err(Error::new(ErrorKind::Run, "the folder says no model that it was trained on")
            .at(adapter)
            .hint("expected a run of `w2s train` or a PEFT adapter; name the model with `--model DIR`"));
    };
    let found = Origin::find(adapter, &named);
    match found.is_dir() {
        true => Ok(found),
        false => Err(Error::new(
            ErrorKind::Run,
            format!("the adapter's model `{}` is not here", named.display()),
        )
        .at(adapter)
        .hint("name its folder with `--model DIR`")),
    }
}

/// Sets the number of threads of matrix products.
///
/// libtorch counts cores, but not what a container may use of them; more threads than that wait for
/// each other. Processes that work together on one machine share them.
fn set_threads(wanted: Option<NonZeroUsize>, num_processes: usize) {
    /// As many as there were before any command of this process set another number.
    static OWN: OnceLock<i32> = OnceLock::new();
    let own = *OWN.get_or_init(tch::get_num_threads);
    let allowed = std::thread::available_parallelism().map_or(own, |n| n.get() as i32);
    let share = (allowed / num_processes as i32).max(1);
    let num = wanted.map_or(own.min(share), |n| n.get() as i32);
    if num != tch::get_num_threads() {
        tch::set_num_threads(num);
    }
}
